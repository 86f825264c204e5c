"""Read files of activations; write results and fitted estimators.

:func:`load_activations` reads files of activations and returns a
:class:`~skleiden.LayerStack`. It recognises what a file holds:

- torch files (``{layer: matrix}``, ``{prompt id: vector}`` and other forms),
  safetensors, ``.npy`` and ``.npz``, Zarr folders, HDF5 and AnnData files, Parquet and
  Arrow tables, CSV with a column for each neuron;
- latents of sparse autoencoders, as triplets of row, latent and value, in any of these
  forms.

If a file may mean two things, such as layers or prompts, it raises an error that says
which argument decides.

Nothing in a file is ever run. Memory-mapped, Zarr and HDF5 arrays stay in their files
and are read block by block. Layers come in natural order (``layer_9`` before
``layer_10``), and prompts that are not in every layer are left out, with a warning.
Some forms need an extra: ``pip install "skleiden[torch]"``, ``[safetensors]``,
``[zarr]``, ``[hdf5]``, ``[parquet]`` or ``[anndata]``.

:func:`load_texts` reads the texts of prompts, from a ``.txt`` file with one text on
each line, or with ids from CSV, JSON and other forms.

Examples
--------
Save two layers, with the ids of their prompts in a file beside each, and load them:

>>> import json, pathlib, tempfile
>>> import numpy as np
>>> from skleiden.datasets import load_prompt_activations
>>> from skleiden.io import load_activations, load_texts, save_labels
>>> activations = load_prompt_activations()
>>> folder = pathlib.Path(tempfile.mkdtemp())
>>> for number in (4, 5):
...     layer = activations.data.layers[number].toarray()
...     np.save(folder / f"layer_{number}.npy", layer)
...     ids = json.dumps(activations.ids.tolist())
...     _ = (folder / f"layer_{number}.ids.json").write_text(ids)
>>> layers = load_activations(folder / "layer_*.npy")
>>> layers
LayerStack(1268 rows; layer_4: 1536, layer_5: 1536)

Find the communities of these layers, save them and load them again:

>>> from sklearn.pipeline import make_pipeline
>>> from skleiden import MultiLayerTfidfSketcher, MutualKNNLeiden
>>> from skleiden.inspection import describe_communities
>>> from skleiden.io import load_communities, save_communities
>>> pipeline = make_pipeline(
...     MultiLayerTfidfSketcher(layer_weights=None, random_state=0),
...     MutualKNNLeiden(random_state=0),
... ).fit(layers)
>>> found = describe_communities(pipeline, layers, texts=activations.prompts)
>>> save_communities(folder / "communities.json", found)
>>> again = load_communities(folder / "communities.json")
>>> bool((again.labels == pipeline[-1].labels_).all())
True

Save and load a fitted pipeline. Unlike a pickle, the file runs nothing when it is
loaded, and later versions will read it:

>>> from skleiden.io import load_estimator, save_estimator
>>> save_estimator(folder / "pipeline.npz", pipeline)
>>> same = load_estimator(folder / "pipeline.npz").predict(layers[:100])
>>> bool((same == pipeline.predict(layers[:100])).all())
True

:func:`save_labels` writes a table of ids and communities. :func:`to_anndata` makes an
AnnData object, for scanpy. Other tools take the graph, ``A =
pipeline[-1].affinity_matrix_``, in one line each:
``networkx.from_scipy_sparse_array(A)``, from which NetworkX writes GraphML and GEXF,
and ``igraph.Graph.Weighted_Adjacency(scipy.sparse.csr_matrix(A), mode="undirected")``.

Files are written whole or not at all: a crash or a full disk leaves an older file as it
was.
"""

from ._activations import load_activations, load_texts
from ._anndata import to_anndata
from ._communities import load_communities, save_communities
from ._estimators import load_estimator, save_estimator
from ._labels import save_labels
from ._partitions import load_labels

__all__ = [
    "load_activations",
    "load_communities",
    "load_estimator",
    "load_labels",
    "load_texts",
    "save_communities",
    "save_estimator",
    "save_labels",
    "to_anndata",
]
