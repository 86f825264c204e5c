"""Communities in high-dimensional, multi-layer data, the scikit-learn way.

A researcher has one matrix per layer of a network, samples (prompts, tokens) x neurons,
and asks which samples the network treats alike, and by which neurons. Two estimators
answer, as steps of a :class:`sklearn.pipeline.Pipeline`:

- :class:`MultiLayerTfidfSketcher` weights the neurons of each layer, shortens the layer
  by a random projection to its *sketch*, and puts the sketches side by side: the
  *embedding*, one short vector per sample;
- :class:`MutualKNNLeiden` joins each sample to its nearest neighbours in the embedding,
  and divides that graph into *communities*: groups of samples with many edges inside
  and few to the outside.

:class:`LayerStack` holds the layers so that pipelines, searches and splits see a single
matrix with rows:

>>> from sklearn.pipeline import make_pipeline
>>> from skleiden import LayerStack, MultiLayerTfidfSketcher, MutualKNNLeiden
>>> from skleiden.datasets import make_layered_activations
>>> planted, truth = make_layered_activations(
...     600, n_layers=2, n_communities=4, signal=0.6, random_state=0
... )
>>> stack = LayerStack(
...     {"mlp_17": planted.layers[0], "mlp_18": planted.layers[1]},
...     ids=[f"prompt-{i}" for i in range(600)],
... )
>>> stack[[3, 1]].ids.tolist()
['prompt-3', 'prompt-1']
>>> pipeline = make_pipeline(
...     MultiLayerTfidfSketcher(random_state=0), MutualKNNLeiden(random_state=0)
... )
>>> train, test = stack[:500], stack[500:]
>>> pipeline.fit(train)[-1].n_clusters_
4
>>> pipeline.predict(test).shape  # each row by a vote of its nearest fitted rows
(100,)

A single wide matrix works too, if the sketcher is told the widths of the layers
(``MultiLayerTfidfSketcher(layers={"mlp_17": 2000, "mlp_18": 300})``). Activations that
come as ``{prompt id: vector}`` for each layer are brought to their common prompts by
:func:`align_layers`. A bare list of matrices is refused, because scikit-learn would
take it for a list of samples.

Parameters that matter
----------------------

- ``resolution`` (1.0) or ``n_clusters``: how many communities there are. The larger the
  resolution, the more and smaller they are.
- ``n_neighbors`` (40): fewer neighbours make fewer links and smaller communities.
- ``n_components`` (64 per layer): with more columns, there is less noise from the
  sketch. The variance of a similarity is about 1 / ``n_components`` per layer.
- ``weighting`` ("auto"): layers of activations that are positive or nearly so (after
  ReLU, GELU and their like) are weighted by TF-IDF, layers of large values with both
  signs (after SwiGLU and other gates) are standardised. ``weighting_`` tells which was
  done. ``power=0.5`` tames heavy tails, and ``center=True`` makes a layer without
  activity count as an average one.
- ``layer_weights`` ("auto"): a layer counts less if two halves of its neurons do not
  find the same communities. See :func:`skleiden.model_selection.layer_profile`.
- ``hubness`` ("auto"): hubs, samples that are near to nearly everything, are kept from
  being everyone's neighbours.
- ``small_clusters`` ("attach"): samples of communities below ``min_cluster_size`` (5)
  join their most similar community, become noise (-1), or stay as they are.

:mod:`skleiden.model_selection` chooses values of these without labels. After the fit,
:mod:`skleiden.inspection` tells what the communities are, and :mod:`skleiden.report`
writes a page about them.

What is reproducible
--------------------

With an int as ``random_state`` of both steps, labels are the same for every repetition,
for any ``n_jobs`` and number of threads, in worker processes, for the rows in any
order, and for the same numbers in any container: `LayerStack`, wide matrix, memory map,
data frame. Where the order of the rows would decide, a hash of their content decides
instead. Dense and sparse storage add numbers in different orders, so their embeddings
agree to 1e-6 only; similarities are rounded to 6 decimals. Other processors and other
versions of NumPy or igraph may round or search differently. Rows without any activity
are labelled -1.

Larger than memory, larger than a machine
-----------------------------------------

Memory maps, Zarr and HDF5 arrays are read block by block, and the sketcher writes an
embedding larger than memory to a file (``out=``), which the clusterer maps. Layers
larger than one machine are given as Dask arrays (``pip install "skleiden[dask]"``): the
workers of the client that is open do all of the work, and give the same labels. A
client of a real cluster, ``Client("tcp://scheduler:8786")``, is used in the same way as
this one, whose workers are threads of this process:

>>> import dask.array as da
>>> from dask.distributed import Client
>>> from sklearn.base import clone
>>> chunks = {
...     name: da.from_array(layer.toarray(), chunks=(200, -1))
...     for name, layer in zip(stack.names, stack.layers)
... }
>>> with Client(processes=False, dashboard_address=":0"):
...     there = clone(pipeline).fit_predict(LayerStack(chunks))
>>> bool((there == clone(pipeline).fit_predict(stack)).all())
True

A worker that dies is replaced, and what it held is computed again. If a worker has too
little memory, a `MemoryError` names the stage. The notes of `MutualKNNLeiden` and
`MultiLayerTfidfSketcher` say what their stages need. Searches of parameters over arrays
in memory run on Dask's workers inside ``joblib.parallel_config("dask")``.

On a machine with a GPU, ``MutualKNNLeiden(device="cuda")`` finds the exact neighbours
there; labels are those of the CPU. Layers that are CUDA tensors are brought to the CPU
block by block for the sketch.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ._align import align_layers
    from ._clusterer import MutualKNNLeiden
    from ._layers import LayerStack
    from ._neighbors import FaissKNeighborsTransformer
    from ._sketcher import MultiLayerTfidfSketcher

__all__ = [
    "FaissKNeighborsTransformer",
    "LayerStack",
    "MultiLayerTfidfSketcher",
    "MutualKNNLeiden",
    "__version__",
    "align_layers",
    "capture",
    "cli",
    "datasets",
    "inspection",
    "io",
    "model_selection",
    "plotting",
    "report",
]

__version__ = "0.1.0"

# Imported when first asked for, so that the command can show its help, or be stopped,
# without waiting for scikit-learn.
_MODULES = {
    "FaissKNeighborsTransformer": "_neighbors",
    "LayerStack": "_layers",
    "MultiLayerTfidfSketcher": "_sketcher",
    "MutualKNNLeiden": "_clusterer",
    "align_layers": "_align",
}


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    module = import_module(f".{_MODULES.get(name, name)}", __name__)
    value = getattr(module, name) if name in _MODULES else module
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
