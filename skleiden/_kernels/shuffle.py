"""The null of no structure: every column's values shuffled over the rows."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import numpy as np
import scipy.sparse as sp

# Columns that are shuffled at once.
_COLUMNS = 64


def shuffle_columns(start: int, matrix: Any, seed: int) -> Any:
    """Shuffle each column of an ndarray or CSR array, independently of the others.

    What each neuron does is kept, its values and how many there are, and what neurons
    do together is lost. A column is shuffled by its number alone, in whatever block.

    Parameters
    ----------
    start : int
        Number of the first column.

    matrix : ndarray or CSR array in canonical format, of shape (n, width)

    seed : int

    Returns
    -------
    ndarray or CSR array, like `matrix`
    """
    n, width = matrix.shape
    generators = (np.random.default_rng([seed, start + i]) for i in range(width))
    if not sp.issparse(matrix):
        shuffled = np.empty_like(matrix)
        for first in range(0, width, _COLUMNS):
            columns = slice(first, first + _COLUMNS)
            block = np.array(matrix[:, columns].T, order="C")  # never a view
            block.sort(axis=1)  # so that it does not matter where rows stood
            for column, rng in zip(block, generators, strict=False):
                rng.shuffle(column)
            shuffled[:, columns] = block.T
        return shuffled
    by_column = matrix.tocsc()
    rows, values = np.empty_like(by_column.indices), by_column.data.copy()
    for (first, last), rng in zip(pairwise(by_column.indptr), generators, strict=True):
        values[first:last].sort()
        rows[first:last] = rng.choice(n, last - first, replace=False)
    shuffled = sp.csc_array((values, rows, by_column.indptr), shape=matrix.shape)
    return shuffled.tocsr()
