"""The null of no structure: every column's values shuffled over the rows."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import numpy as np
import scipy.sparse as sp

# Columns that are shuffled by one generator. Blocks of columns that start at a multiple
# of it are shuffled as they would be in the whole matrix.
COLUMNS = 64


def shuffle_columns(start: int, matrix: Any, seed: tuple[int, ...]) -> Any:
    """Shuffle each column of an ndarray or CSR array, independently of the others.

    What each neuron does is kept, its values and how many there are, and what neurons
    do together is lost.

    Parameters
    ----------
    start : int
        Number of the first column, a multiple of `COLUMNS`.

    matrix : ndarray or CSR array of shape (n, width)

    seed : tuple of int

    Returns
    -------
    ndarray or CSR array, like `matrix`
    """
    n, width = matrix.shape
    if not sp.issparse(matrix):
        shuffled = np.empty_like(matrix)
        for columns, rng in _groups(start, width, seed):
            shuffled[:, columns] = rng.permuted(matrix[:, columns], axis=0)
        return shuffled
    by_column = matrix.tocsc()
    rows = np.empty_like(by_column.indices)
    for columns, rng in _groups(start, width, seed):
        bounds = by_column.indptr[columns.start : columns.stop + 1]
        for first, last in pairwise(bounds):
            rows[first:last] = rng.choice(n, last - first, replace=False)
    shuffled = sp.csc_array(
        (by_column.data, rows, by_column.indptr), shape=matrix.shape
    )
    return shuffled.tocsr()


def _groups(
    start: int, width: int, seed: tuple[int, ...]
) -> list[tuple[slice, np.random.Generator]]:
    """Groups of columns, each with a generator of its own."""
    return [
        (
            slice(i, min(i + COLUMNS, width)),
            np.random.default_rng([*seed, (start + i) // COLUMNS]),
        )
        for i in range(0, width, COLUMNS)
    ]
