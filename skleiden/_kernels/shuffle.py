"""The null of no structure: every column's values shuffled over the rows."""

from __future__ import annotations

from typing import Any

import numpy as np
import scipy.sparse as sp


def shuffle_columns(matrix: Any, rng: np.random.Generator) -> Any:
    """Shuffle each column of an ndarray or CSR array, independently of the others.

    What each neuron does is kept, its values and how many there are, and what neurons
    do together is lost.

    Returns
    -------
    ndarray or CSR array, like `matrix`
    """
    if not sp.issparse(matrix):
        return rng.permuted(matrix, axis=0)
    n = matrix.shape[0]
    columns = matrix.tocsc()
    rows = np.empty_like(columns.indices)
    for start, stop in zip(columns.indptr[:-1], columns.indptr[1:], strict=True):
        rows[start:stop] = rng.choice(n, stop - start, replace=False)
    shuffled = sp.csc_array((columns.data, rows, columns.indptr), shape=matrix.shape)
    return shuffled.tocsr()
