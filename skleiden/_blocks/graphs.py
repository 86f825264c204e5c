"""Graphs that a user gives: of cosine distances, dense or sparse, and of weights."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import scipy.sparse as sp

from .checks import check_real
from .rows import stored_values
from .sources import is_on_workers, source_of
from .sparse import check_sparse
from .tensors import from_torch


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
        from_torch(X, "X"),
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
    X = source_of(X).whole()
    _check_range(stored_values(X))
    if square:
        _check_distances(X)
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


def _check_distances(X: Any) -> None:
    """Refuse what is between 0 and 2 and yet no distances of rows."""
    if sp.issparse(X):
        if X.nnz and (X.data == 1).all():
            raise ValueError(
                "metric='precomputed' takes distances; got a graph whose entries are "
                "all 1, as from a neighbours transformer with mode='connectivity'. Use "
                "mode='distance'."
            )
    elif not np.allclose(X, X.T, atol=1e-4):
        raise ValueError(
            "metric='precomputed' takes a dense matrix of distances only if it is "
            f"symmetric; got one that differs from its transpose by up to "
            f"{np.abs(X - X.T).max():.3g}. Leave a neighbour graph sparse: the "
            "zeros of toarray() would be distances."
        )


def open_affinity(affinity: Any) -> sp.csr_array:
    """Validate a graph of weights, and give it without its diagonal, in float32."""
    if not sp.issparse(affinity) or affinity.shape[0] != affinity.shape[1]:
        raise ValueError(
            "affinity must be a sparse square matrix, such as the affinity_matrix_ of "
            f"a MutualKNNLeiden; got {type(affinity).__name__} of shape "
            f"{np.shape(affinity)}."
        )
    check_sparse(affinity, "affinity")
    if affinity.shape[0] == 0:
        raise ValueError("affinity must have at least one row; got none.")
    graph = without_diagonal(affinity)
    difference = abs(graph - graph.T)
    if difference.nnz and difference.max() > 1e-6 * abs(graph).max():
        raise ValueError(
            "affinity must be symmetric; got a graph that differs from its transpose "
            f"by up to {difference.max():.3g}."
        )
    return graph


def without_diagonal(matrix: Any) -> sp.csr_array:
    """Give a sparse matrix in float32, without its diagonal and stored zeros."""
    entries = matrix.tocoo()
    kept = (entries.row != entries.col) & (entries.data != 0)
    return sp.csr_array(
        (entries.data[kept].astype(np.float32), (entries.row[kept], entries.col[kept])),
        shape=matrix.shape,
    )
