"""Dask arrays as blocks of rows."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import reduce
from itertools import pairwise
from typing import Any

import dask.array as da
import numpy as np
import scipy.sparse as sp
from dask.delayed import Delayed, delayed

from ._tasks import compute, fetch

# Results merged by one task of a tree.
_FAN_IN = 8


def row_blocks(arrays: Sequence[Any]) -> Iterator[tuple[int, int, list[list[Delayed]]]]:
    """Start, number of rows, and chunks, of each block of rows of some arrays.

    They are cut into rows as the first of them is; blocks without rows are left out.
    """
    rows = arrays[0].chunks[0]
    aligned = [a if a.chunks[0] == rows else a.rechunk({0: rows}) for a in arrays]
    chunks = [array.to_delayed() for array in aligned]
    starts = np.cumsum([0, *rows]).tolist()
    for i, (start, stop) in enumerate(pairwise(starts)):
        if stop > start:
            yield start, stop - start, [list(of_array[i]) for of_array in chunks]


def side_by_side(chunks: Sequence[Any]) -> Any:
    """Chunks of the same rows as one matrix."""
    if len(chunks) == 1:
        return chunks[0]
    if any(sp.issparse(chunk) for chunk in chunks):
        return sp.hstack(chunks, format="csr")
    return np.hstack(chunks)


def fold_rows(
    function: Callable[[int, list[Any]], Any],
    merge: Callable[[Any, Any], Any],
    arrays: Sequence[Any],
    *,
    description: str,
    verbose: int,
) -> Any:
    """What a function gives of each block of rows, merged in a tree."""
    call = delayed(function, pure=False)
    tasks = [
        delayed(_call)(call, start, chunks) for start, _, chunks in row_blocks(arrays)
    ]
    while len(tasks) > 1:
        tasks = [
            delayed(reduce)(merge, tasks[i : i + _FAN_IN])
            for i in range(0, len(tasks), _FAN_IN)
        ]
    (result,) = compute(tasks, description, verbose)
    return result


def map_rows(
    function: Callable[[int, list[Any]], np.ndarray],
    arrays: Sequence[Any],
    n_columns: int,
    dtype: np.dtype,
) -> Any:
    """A lazy array of what a function gives of each block of rows."""
    call = delayed(function, pure=False)
    return da.concatenate(
        [
            da.from_delayed(
                delayed(_call)(call, start, chunks), (n_rows, n_columns), dtype
            )
            for start, n_rows, chunks in row_blocks(arrays)
        ]
    )


def each_block(array: Any) -> Iterator[np.ndarray]:
    """Blocks of the rows of an array, one after the other, in this process."""
    for _, _, (chunks,) in row_blocks([array]):
        yield fetch(delayed(side_by_side)(chunks))


def _call(
    function: Callable[[int, list[Any]], Any], start: int, chunks: list[list[Any]]
) -> Any:
    return function(start, [side_by_side(of_array) for of_array in chunks])
