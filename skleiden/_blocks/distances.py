"""Graphs of cosine distances that a user computed, dense or sparse."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import scipy.sparse as sp

from .checks import check_real
from .rows import stored_values
from .sources import is_on_workers, source_of


def open_distances(X: Any, validate: Callable[..., Any], *, square: bool) -> Any:
    """Validate distances between rows (`square`), or of queries to fitted rows.

    Parameters
    ----------
    X : array-like or sparse matrix of shape (n_queries, n_samples)

    validate : callable
        scikit-learn's `validate_data` of an estimator.

    square : bool
        Whether rows and columns are the same samples.

    Returns
    -------
    X : ndarray, or CSR array in canonical format, of float32 or float64

    Raises
    ------
    TypeError
        If X is on the workers of a cluster, or does not hold real numbers.

    ValueError
        If it does not hold cosine distances of rows.
    """
    if is_on_workers(X):
        raise TypeError(
            "metric='precomputed' takes a graph in memory; got a Dask array. Fit on "
            "the vectors with metric='cosine', or compute the graph first."
        )
    X = validate(
        X,
        accept_sparse="csr",
        dtype="numeric",
        ensure_min_samples=2 if square else 1,
    )
    check_real(X, "X")
    if X.dtype not in (np.float32, np.float64):
        X = X.astype(np.float64)
    if square and X.shape[0] != X.shape[1]:
        raise ValueError(
            "metric='precomputed' takes a square matrix of distances; got shape "
            f"{X.shape}. For vectors use metric='cosine'."
        )
    X = source_of(X).canonical()
    _check_range(stored_values(X))
    if square:
        _check_graph(X)
    return X


def _check_range(values: np.ndarray) -> None:
    """Refuse values that are no cosine distances."""
    lowest, highest = values.min(initial=0.0), values.max(initial=0.0)
    if lowest < -1e-6 or highest > 2 + 1e-6:
        raise ValueError(
            "metric='precomputed' takes cosine distances, 1 - similarity, between "
            f"0 and 2; got values from {lowest:.6g} to {highest:.6g}. Compute them "
            "with FaissKNeighborsTransformer() or KNeighborsTransformer("
            "mode='distance', metric='cosine')."
        )


def _check_graph(X: Any) -> None:
    """Refuse what is between 0 and 2 and yet no distances of rows."""
    if sp.issparse(X):
        if X.nnz and (X.data == 1).all():
            raise ValueError(
                "metric='precomputed' takes distances; got a graph whose entries "
                "are all 1, as of a neighbours transformer with "
                "mode='connectivity'. Use mode='distance'."
            )
    elif not np.allclose(X, X.T, atol=1e-4):
        raise ValueError(
            "metric='precomputed' takes a dense matrix of distances only if it is "
            f"symmetric; got one that differs from its transpose by up to "
            f"{np.abs(X - X.T).max():.3g}. Leave a neighbour graph sparse: the "
            "zeros of toarray() would be distances."
        )
