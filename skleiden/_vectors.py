"""What the estimators share that search among vectors: validation and the search."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from typing import Any, NamedTuple

import numpy as np
from sklearn.utils.validation import validate_data

from ._blocks.checks import check_finite, is_mapping, refuse_layer_sequence
from ._blocks.graphs import open_distances
from ._blocks.mapped import check_size, check_written
from ._blocks.runner import Local, Runner
from ._blocks.sources import Source, open_matrix, source_of
from ._kernels import knn
from ._layers import LayerStack
from ._stages.affinity import NearestLists, directed
from ._stages.distinct import (
    as_shards,
    find_distinct,
    nearest_fitted,
    rows_of_blocks,
)
from ._stages.search import NeighborSearch, last_similarities


class SearchedRows(NamedTuple):
    """The distinct rows of a matrix, and their neighbours.

    `tables` are handles of `runner` of the lists of each block of `distinct.vectors`.
    """

    runner: Runner
    distinct: knn.UniqueRows
    tables: list[Any]
    n_neighbors: int
    algorithm: str
    recall: float


def search_rows(estimator: Any, X: Any) -> SearchedRows:
    """Validate X, and search the neighbours of its rows among themselves."""
    if estimator.metric == "precomputed":
        return _read_distances(estimator, X)
    search = NeighborSearch.of(estimator)
    source = _open_vectors(estimator, X, reset=True)
    runner, n_columns = source.runner(estimator.verbose), source.shape[1]
    blocks = source.row_blocks(rows_of_blocks(*source.shape))
    del X, source
    distinct = find_distinct(runner, blocks, n_columns)
    del blocks
    n = distinct.inverse.size
    found = search.run(distinct.vectors, n)
    return SearchedRows(
        runner, distinct, found.tables, search.width(n), found.algorithm, found.recall
    )


def list_neighbors(estimator: Any, X: Any) -> NearestLists:
    """Validate X, and give who lists whom among its rows, as a graph can be made of."""
    found = search_rows(estimator, X)
    last = last_similarities(found.runner, found.tables, found.n_neighbors)
    return NearestLists(
        found.runner,
        found.distinct,
        directed(found.runner, found.tables, found.distinct.first.size),
        found.distinct.spread(last, np.inf),
        found.n_neighbors,
        found.algorithm,
        found.recall,
    )


def nearest_of_queries(
    estimator: Any, X: Any
) -> Iterator[tuple[knn.Neighbors, np.ndarray]]:
    """Search the nearest fitted rows of each block of rows of X.

    Gives their lists, one longer than those of the fit, and a mask of those that are
    equal to the query; by distances, of one column, whether any is.
    """
    distinct = estimator._distinct
    k = min(estimator.n_neighbors_ + 1, distinct.first.size)
    if estimator.metric == "precomputed":
        distances = _open_distances(estimator, X, reset=False)
        found, has_equal = knn.neighbors_of_queries(distances, distinct.inverse, k)
        yield found, has_equal[:, None]
        return
    source = _open_vectors(estimator, X, reset=False)
    shards = as_shards(distinct.vectors)
    check_size(distinct.vectors, "what the estimator was fitted on")
    threads = NeighborSearch.of(estimator).threads()
    start = 0
    for block in source.each_block():
        check_finite(block, "", start, start + len(block))
        yield nearest_fitted(knn.unit_rows(block), shards, k, threads)
        start += len(block)


def refuse_layers(estimator: Any, X: Any) -> None:
    """Raise a TypeError for layered input, which must be embedded first."""
    if isinstance(X, LayerStack) or is_mapping(X):
        name = type(estimator).__name__
        raise TypeError(
            f"{name} takes one matrix; got a {type(X).__name__}. Embed it first: "
            f"make_pipeline(MultiLayerTfidfSketcher(), {name}())."
        )
    refuse_layer_sequence(X)


def _open_vectors(estimator: Any, X: Any, *, reset: bool) -> Source:
    """Validate X, but for its values, which are checked where they are read."""
    refuse_layers(estimator, X)
    check_size(X, "X")
    check_written(X)
    # A search among one row has nothing to find. Order and dtype are left to unit_rows,
    # which does not copy a memory map to memory for their sake.
    validate = partial(validate_data, estimator, reset=reset)
    return source_of(open_matrix(X, validate, least_rows=2 if reset else 1))


def _open_distances(estimator: Any, X: Any, *, reset: bool) -> Any:
    refuse_layers(estimator, X)
    validate = partial(validate_data, estimator, reset=reset)
    return open_distances(X, validate, square=reset)


def _read_distances(estimator: Any, X: Any) -> SearchedRows:
    """Validate a graph of distances, and read the neighbours of its distinct rows."""
    distances = _open_distances(estimator, X, reset=True)
    k = NeighborSearch.of(estimator).width(distances.shape[0])
    found, distinct = knn.neighbors_from_distances(distances, k)
    if found.ids.shape[1] < min(k, distinct.first.size - 1):
        raise ValueError(
            f"The precomputed graph has at most {found.ids.shape[1]} neighbours a "
            f"row, fewer than n_neighbors={estimator.n_neighbors}. Compute it with "
            "more neighbours, or lower n_neighbors."
        )
    distinct = distinct._replace(vectors=as_shards(distinct.vectors))
    runner = Local(estimator.verbose)
    return SearchedRows(runner, distinct, [found], k, "precomputed", float("nan"))
