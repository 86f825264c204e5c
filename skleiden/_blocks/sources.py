"""What blocks of rows there are of a matrix, and where functions of them run."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from skleiden.layers import is_dask_array, is_stored, read_rows

from .runner import Local, Runner


def runner_of(X: Any, verbose: int) -> Runner:
    """Give what runs functions of the blocks of a matrix."""
    if is_dask_array(X):
        from .dask import OnWorkers

        return OnWorkers(verbose)
    return Local(verbose)


def row_blocks(X: Any, rows_at_once: int) -> list[tuple[int, int, list[Any]]]:
    """Give start, number of rows, and handles of matrices side by side, of each block.

    In this process there is one block; elsewhere they have `rows_at_once` rows.
    """
    if is_dask_array(X):
        from .dask import blocks_of

        return blocks_of(X, rows_at_once)
    return [(0, X.shape[0], [X])]


def each_block(X: Any) -> Iterator[np.ndarray]:
    """Give the blocks one after the other, in this process."""
    if is_dask_array(X):
        from .dask import each_block

        yield from each_block(X)
    else:
        yield X


def map_columns(function: Callable[[int, Any], Any], X: Any, multiple: int) -> Any:
    """Give what a function makes of blocks of whole columns, as one matrix again.

    It is called with the number of a block's first column, a multiple of `multiple`,
    and the block; in this process, once, with a matrix in memory.
    """
    if is_dask_array(X):
        from .dask import map_columns

        return map_columns(function, X, multiple)
    # A column of a Zarr array or HDF5 dataset takes all of its chunks.
    return function(0, read_rows(X, slice(None)) if is_stored(X) else X)
