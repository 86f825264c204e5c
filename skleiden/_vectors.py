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
from ._stages.hubs import choose_neighbors
from ._stages.search import NeighborSearch

# An attribute of graphs of `FaissKNeighborsTransformer`: places of the rows in an order
# by their content, so that a graph computed before gives the labels of its vectors.
ROW_RANKS = "_row_ranks"


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


def search_rows(estimator: Any, X: Any, n_neighbors: int) -> SearchedRows:
    """Validate X, and search the neighbours of its rows among themselves."""
    search = NeighborSearch.of(estimator)._replace(n_neighbors=n_neighbors)
    if estimator.metric == "precomputed":
        return _read_distances(estimator, X, search)
    source = _open_vectors(estimator, X, reset=True)
    runner, n_columns = source.runner(estimator.verbose), source.shape[1]
    device = search.find_device(runner)  # before anything is read in vain
    blocks = source.row_blocks(rows_of_blocks(*source.shape))
    del X, source
    distinct = find_distinct(runner, blocks, n_columns, search.threads())
    del blocks
    n = distinct.inverse.size
    found = search.run(distinct.vectors, n, device)
    return SearchedRows(
        runner, distinct, found.tables, search.width(n), found.algorithm, found.recall
    )


def list_neighbors(estimator: Any, X: Any) -> NearestLists:
    """Validate X, and give who lists whom among its rows, as a graph can be made of."""
    k, correct = int(estimator.n_neighbors), estimator.hubness is not None
    found = search_rows(estimator, X, 2 * k if correct else k)
    runner, distinct = found.runner, found.distinct
    k = min(k, distinct.inverse.size - 1)
    # A precomputed graph may have no more than k.
    correct &= found.n_neighbors >= min(2 * k, distinct.first.size - 1)
    threads = NeighborSearch.of(estimator).threads()
    chosen = choose_neighbors(
        distinct.vectors,
        found.tables,
        k,
        correct=correct,
        n_jobs=threads,
    )
    return NearestLists(
        runner,
        directed(runner, chosen.tables, distinct.first.size, threads),
        distinct,
        distinct.spread(chosen.reach, np.inf),
        distinct.spread(chosen.local, 0),
        k,
        found.algorithm,
        found.recall,
        chosen.skewness,
        correct,
    )


def nearest_of_queries(
    estimator: Any, X: Any
) -> Iterator[tuple[knn.Neighbors, np.ndarray]]:
    """Search the nearest fitted rows of each block of rows of X.

    Gives their lists, one longer than those that were searched for the fit, and a mask
    of those that are equal to the query.
    """
    distinct = estimator._distinct
    searched = estimator.n_neighbors_
    if getattr(estimator, "hubness_", None) is not None:
        searched *= 2
    k = min(searched + 1, distinct.first.size)
    if estimator.metric == "precomputed":
        distances = _open_distances(estimator, X, reset=False)
        yield knn.neighbors_of_queries(distances, distinct, k)
        return
    source = _open_vectors(estimator, X, reset=False)
    shards = as_shards(distinct)
    check_size(distinct.vectors, "what the estimator was fitted on")
    threads = NeighborSearch.of(estimator).threads()
    start = 0
    for block in source.each_block():
        check_finite(block, "", start)
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


def _read_distances(estimator: Any, X: Any, search: NeighborSearch) -> SearchedRows:
    """Validate a graph of distances, and read the neighbours of its distinct rows."""
    row_ranks = getattr(X, ROW_RANKS, None)
    distances = _open_distances(estimator, X, reset=True)
    n, stored = distances.shape[0], knn.longest_list(distances)
    if getattr(row_ranks, "shape", None) != (n,):
        row_ranks = None
    k = search.width(n)
    found, distinct = knn.neighbors_from_distances(distances, k, row_ranks)
    m = distinct.first.size
    needed = k if estimator.hubness == "csls" else min(int(estimator.n_neighbors), k)
    if stored < min(needed, m - 1):
        twice = ""
        if estimator.hubness == "csls":
            twice = ", and hubness='csls' needs twice as many"
        raise ValueError(
            f"The precomputed graph has at most {stored} neighbours a row, fewer than "
            f"n_neighbors={estimator.n_neighbors}{twice}. Compute it with more "
            "neighbours, or lower n_neighbors."
        )
    distinct = distinct._replace(vectors=np.empty((m, 0), dtype=np.float32))
    distinct = distinct._replace(vectors=as_shards(distinct))
    runner = Local(estimator.verbose)
    width = min(k, stored)
    return SearchedRows(runner, distinct, [found], width, "precomputed", float("nan"))
