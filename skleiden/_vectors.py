"""What the estimators share that search among vectors: validation and the search."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

import numpy as np
import scipy.sparse as sp
from sklearn.utils.validation import validate_data

from ._blocks.runner import Runner
from ._blocks.sources import each_block, row_blocks, runner_of
from ._kernels import knn
from ._mapped import check_size, check_written
from ._stages.distinct import (
    as_shards,
    find_distinct,
    nearest_fitted,
    rows_of_blocks,
)
from ._stages.search import NeighborSearch
from .layers import (
    LayerStack,
    check_finite,
    check_real,
    check_rows_known,
    is_dask_array,
    refuse_layer_sequence,
)


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
    search = NeighborSearch.of(estimator)
    X = _check_vectors(estimator, X, reset=True)
    runner = runner_of(X, estimator.verbose)
    blocks = row_blocks(X, rows_of_blocks(*X.shape))
    distinct = find_distinct(runner, blocks, X.shape[1])
    del X, blocks
    n = distinct.inverse.size
    found = search.run(distinct.vectors, n)
    return SearchedRows(
        runner, distinct, found.tables, search.width(n), found.algorithm, found.recall
    )


def nearest_of_queries(
    estimator: Any, X: Any
) -> Iterator[tuple[knn.Neighbors, np.ndarray]]:
    """Search the nearest fitted rows of each block of rows of X.

    Gives their lists, one longer than those of the fit, and the mask of those that are
    equal to the query.
    """
    X = _check_vectors(estimator, X, reset=False)
    distinct = estimator._distinct
    shards = as_shards(distinct.vectors)
    check_size(distinct.vectors, "what the estimator was fitted on")
    k = min(estimator.n_neighbors_ + 1, distinct.first.size)
    threads = NeighborSearch.of(estimator).threads()
    start = 0
    for block in each_block(X):
        check_finite(block, "", start, start + len(block))
        yield nearest_fitted(knn.unit_rows(block), shards, k, threads)
        start += len(block)


def refuse_layers(estimator: Any, X: Any) -> None:
    """Raise a TypeError for layered input, which must be embedded first."""
    # A DOK matrix is a dict: leave it to the check for sparse data.
    if isinstance(X, (LayerStack, Mapping)) and not sp.issparse(X):
        name = type(estimator).__name__
        raise TypeError(
            f"{name} takes one matrix; got a {type(X).__name__}. Embed it first: "
            f"make_pipeline(MultiLayerTfidfSketcher(), {name}())."
        )
    refuse_layer_sequence(X)


def _check_vectors(estimator: Any, X: Any, *, reset: bool) -> Any:
    """Validate X, but for its values, which are checked where they are read."""
    refuse_layers(estimator, X)
    # A search among one row has nothing to find.
    least = 2 if reset else 1
    if is_dask_array(X):
        _check_dask_array(X, least)
        validate_data(estimator, X, reset=reset, skip_check_array=True)
        return X
    check_size(X, "X")
    check_written(X)
    # Order and dtype are left to unit_rows, which does not copy a memory map to memory
    # for their sake.
    X = validate_data(
        estimator,
        X,
        reset=reset,
        dtype="numeric",
        ensure_all_finite=False,
        ensure_min_samples=least,
    )
    check_real(X, "X")
    return X


def _check_dask_array(X: Any, least: int) -> None:
    if X.ndim != 2:
        raise ValueError(
            f"Expected 2D array, got {X.ndim}D Dask array instead. Reshape it to "
            "(n_samples, n_features)."
        )
    check_real(X, "X")
    check_rows_known(X, "X")
    if X.shape[0] < least or X.shape[1] < 1:
        raise ValueError(
            f"Found a Dask array of shape {X.shape} while a minimum of {least} rows "
            "and 1 column is required."
        )
