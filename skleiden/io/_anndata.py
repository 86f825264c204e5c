"""Convert communities to AnnData, which the tools of scverse read."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping
from typing import Any

import numpy as np
import scipy.sparse as sp

from skleiden._blocks.frames import feature_names
from skleiden._blocks.rows import side_by_side
from skleiden._blocks.sources import source_of
from skleiden._fitting import fitted_clusterer, fitted_sketcher
from skleiden._input import as_layer_stack
from skleiden._layers import LayerStack
from skleiden._stages.distinct import as_shards
from skleiden._text import encodable
from skleiden.inspection import Communities
from skleiden.inspection._layers import check_fitted_rows
from skleiden.inspection._members import number_labels

from ._communities import jsonable

# Name of the embedding in obsm.
_EMBEDDING = "X_skleiden"
# Edges whose distances are computed at once.
_EDGES = 2**16


def to_anndata(found: Any, X: Any = None, *, estimator: Any = None) -> Any:
    """Put communities, graph, embedding and activations into an AnnData.

    Parameters
    ----------
    found : Communities or estimator
        What :func:`skleiden.inspection.describe_communities` returned, which may have
        texts and a map; or what has the graph: a fitted pipeline that ends in a
        `MutualKNNLeiden`, the clusterer itself, or a `StableLeiden` of either.

    X : LayerStack, mapping of {name: matrix}, or matrix, default=None
        The layers that the estimator was fitted on. They are read into memory and put
        side by side. If None, the AnnData has no columns.

    estimator : estimator, default=None
        The fitted estimator that found the communities, if `found` is `Communities`.
        Without it, these are stored without graph and embedding.

    Returns
    -------
    adata : anndata.AnnData
        One row for each row that was clustered, named by its id, with

        - ``X``, a copy of X, and ``var``, which gives for each column, named
          ``layer__column``, its ``layer`` and its ``neuron``, the number of its column
          in the layer;
        - ``obs["community"]``, with a category "0", "1", ... for each community that
          has rows, missing for noise, and, if known, ``obs["confidence"]``,
          ``obs["attached"]`` and ``obs["text"]``;
        - ``obsm["X_skleiden"]``, the embedding at unit length (not with
          ``metric="precomputed"``), and ``obsm["X_map"]``, positions on the map, nan
          for rows that it does not show;
        - ``obsp["connectivities"]``, the graph of the clusterer, with its weights;
          ``obsp["distances"]``, cosine distances along its edges; and
          ``uns["neighbors"]``, by which scanpy finds both. With
          ``metric="precomputed"``, there are distances only with
          ``weights="similarity"``;
        - ``uns["skleiden"]``, with parameters, summary, versions and fingerprint, if
          known: numbers and text as they are, everything else as JSON.

    Raises
    ------
    ImportError
        If anndata is not installed.

    TypeError
        If `found` or `estimator` is something else, or X consists of Dask arrays.

    ValueError
        If X or `estimator` has other rows than `found`, or has them in another order,
        or if two ids are equal as text.

    Notes
    -----
    Functions of scanpy that need a neighbour graph use this one, for example
    ``scanpy.tl.umap(adata)``. Conversely, scanpy can search neighbours with
    :class:`~skleiden.FaissKNeighborsTransformer`, unless there are rows of zeros, which
    have no neighbours::

        scanpy.pp.neighbors(adata, transformer=FaissKNeighborsTransformer())

    Examples
    --------
    >>> from sklearn.pipeline import make_pipeline
    >>> from skleiden import MultiLayerTfidfSketcher, MutualKNNLeiden
    >>> from skleiden.datasets import make_layered_activations
    >>> from skleiden.io import to_anndata
    >>> stack, _ = make_layered_activations(600, n_communities=4, random_state=0)
    >>> pipeline = make_pipeline(
    ...     MultiLayerTfidfSketcher(random_state=0), MutualKNNLeiden(random_state=0)
    ... ).fit(stack)
    >>> adata = to_anndata(pipeline, stack)  # doctest: +SKIP
    >>> adata.obs["community"].cat.categories.tolist()  # doctest: +SKIP
    ['0', '1', '2', '3']
    """
    try:
        import anndata
        import pandas as pd
    except ImportError as error:
        raise ImportError(
            f"to_anndata needs anndata and pandas ({error}): pip install anndata."
        ) from error
    if isinstance(found, Communities):
        clusterer: Any = None if estimator is None else fitted_clusterer(estimator)
    elif estimator is None:
        estimator, clusterer = found, fitted_clusterer(found)
    else:
        raise TypeError(
            "estimator can only be given together with Communities; got it with a "
            f"{type(found).__name__}. Leave it out, or pass what "
            "describe_communities(estimator, X) returns first."
        )
    sketcher = fitted_sketcher(estimator)
    layout = None if sketcher is None else sketcher._by_layer(sketcher.layer_widths_)
    stack = None if X is None else as_layer_stack(X, layout)
    given = isinstance(found, Communities)
    n = (found.labels if given else clusterer.labels_).size
    if stack is not None and len(stack) != n:
        raise ValueError(
            f"X must be what the estimator was fitted on; got {len(stack)} rows for "
            f"{n} labels. Pass the X that was given to fit."
        )
    if stack is not None and estimator is not None:
        check_fitted_rows(estimator, stack, n)
    if not given:
        found = Communities(
            clusterer.labels_,
            None if stack is None else stack.ids,
            confidence=getattr(estimator, "confidence_", None),
            attached=clusterer.attached_,
            parameters=estimator.get_params(),
        )
    _check_rows(found, stack, clusterer)
    labels = number_labels(found.labels)
    columns = {
        "community": pd.Categorical.from_codes(
            labels.numbers, [str(label) for label in labels.values]
        ),
        "confidence": found.confidence,
        "attached": found.attached,
        "text": found.texts,
    }
    adata = anndata.AnnData(
        None if stack is None else _side_by_side(stack),
        obs=pd.DataFrame(
            {name: values for name, values in columns.items() if values is not None},
            index=_names(found.ids),
        ),
        var=None if stack is None else pd.DataFrame(**_neurons(stack)),
    )
    if found.map is not None:
        positions = np.full((found.labels.size, 2), np.nan, dtype=np.float32)
        positions[found.map.rows] = found.map.positions
        adata.obsm["X_map"] = positions
    if clusterer is not None:
        _add_graph(adata, clusterer)
    adata.uns["skleiden"] = {
        name: facts
        for name in ("parameters", "summary", "versions")
        if (facts := _flat(getattr(found, name)))
    } | ({} if found.fingerprint is None else {"fingerprint": found.fingerprint})
    return adata


def _check_rows(found: Communities, stack: LayerStack | None, clusterer: Any) -> None:
    """Refuse what is of the same rows in another order, or of others."""
    if stack is not None and stack.ids is not None:
        ids, given = found.ids.tolist(), stack.ids.tolist()
        if ids != given and set(ids) == set(given):
            raise ValueError(
                "X must have its rows in the order of the communities; got the same "
                f"ids in another order, beginning with {given[0]!r} instead of "
                f"{ids[0]!r}. Bring X into the order of communities.ids."
            )
    if clusterer is not None and not np.array_equal(clusterer.labels_, found.labels):
        raise ValueError(
            "estimator must be the one that the communities come from; its labels_ "
            f"differ from theirs ({clusterer.labels_.size} rows, for "
            f"{found.labels.size} of the communities). Describe it again: "
            "describe_communities(estimator, X)."
        )


def _names(ids: np.ndarray) -> list[str]:
    """Give ids as text, as AnnData has no others."""
    names = [str(encodable(identifier)) for identifier in ids.tolist()]
    ((most, count),) = Counter(names).most_common(1)
    if count > 1:
        raise ValueError(
            "ids must differ as text, because an AnnData names its rows by text; got "
            f"{most!r} more than once. Give other ids."
        )
    return names


def _neurons(stack: LayerStack) -> dict[str, Any]:
    """Give the columns and the index of a table of all layers' columns."""
    columns = {
        "layer": np.repeat(np.array(stack.names, dtype=object), stack.widths),
        "neuron": np.concatenate([np.arange(width) for width in stack.widths]),
    }
    names = feature_names(stack.names, stack.widths, stack.columns)
    return {"data": columns, "index": names}


def _side_by_side(stack: LayerStack) -> Any:
    """Give all layers as one matrix, a copy, as scanpy changes some in place."""
    matrix = side_by_side([source_of(layer).whole() for layer in stack.layers])
    if len(stack.layers) == 1:
        matrix = matrix.copy()
    return sp.csr_matrix(matrix) if sp.issparse(matrix) else np.asarray(matrix)


def _add_graph(adata: Any, clusterer: Any) -> None:
    """Add embedding and graph, under the names that scanpy's functions look for."""
    graph = sp.csr_matrix(clusterer.affinity_matrix_, copy=True)
    embedding = None
    if clusterer.metric != "precomputed":
        embedding = _embedding(clusterer)
        adata.obsm[_EMBEDDING] = embedding
    neighbors: dict[str, Any] = {
        "connectivities_key": "connectivities",
        "params": {
            "n_neighbors": int(clusterer.n_neighbors_),
            "method": clusterer.graph,
            "metric": "cosine",
        },
    }
    adata.obsp["connectivities"] = graph
    if embedding is not None:
        neighbors["params"]["use_rep"] = _EMBEDDING
    distances = graph.copy()
    if clusterer.weights == "similarity":
        distances.data = _as_distances(graph.data)
    elif embedding is not None:
        distances.data = _along_edges(graph, embedding)
    else:
        distances = None
    if distances is not None:
        adata.obsp["distances"] = distances
        neighbors["distances_key"] = "distances"
    adata.uns["neighbors"] = neighbors


def _embedding(clusterer: Any) -> np.ndarray:
    """Give the vectors that a clusterer was fitted on, at unit length."""
    distinct = clusterer._distinct
    vectors = as_shards(distinct).gather()
    embedding = np.zeros((distinct.inverse.size, vectors.shape[1]), vectors.dtype)
    present = distinct.inverse >= 0
    embedding[present] = vectors[distinct.inverse[present]]
    return embedding


def _along_edges(graph: sp.csr_matrix, embedding: np.ndarray) -> np.ndarray:
    """Give the cosine distances of the rows that a graph joins."""
    rows = np.repeat(np.arange(graph.shape[0]), np.diff(graph.indptr))
    found = np.empty_like(graph.data)
    for start in range(0, rows.size, _EDGES):
        some = slice(start, start + _EDGES)
        a, b = embedding[rows[some]], embedding[graph.indices[some]]
        found[some] = _as_distances(np.einsum("ij,ij->i", a, b))
    return found


def _as_distances(similarities: np.ndarray) -> np.ndarray:
    # A stored 0 is lost in some functions: equal rows are next to nothing apart.
    return np.maximum(1 - similarities, np.finfo(np.float32).eps)


def _flat(facts: Mapping[str, Any]) -> dict[str, Any]:
    """Give facts as a file of an AnnData can hold them."""
    return {
        name: value if isinstance(value, (bool, int, float, str)) else json.dumps(value)
        for name, value in encodable(jsonable(facts)).items()
    }
