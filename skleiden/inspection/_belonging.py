"""How well rows and communities hang together, by the weight of their edges."""

from __future__ import annotations

from typing import Any

import numpy as np
import scipy.sparse as sp

# A row lies between two communities if the other has at least so much of the weight
# of its own.
_BETWEEN = 0.5


def second_communities(membership: sp.csr_array, labels: np.ndarray) -> np.ndarray:
    """Find the other community of each row that lies between two; -1 if it does not.

    Parameters
    ----------
    membership : CSR array of shape (n_samples, n_clusters)
        Share of each row's edge weight that goes to each community, see the
        `membership_` of :class:`~skleiden.MutualKNNLeiden`.

    labels : ndarray of shape (n_samples,)
        The communities of the rows; -1 is noise, which lies between none.

    Returns
    -------
    second : ndarray of shape (n_samples,), dtype int64
        Of the other communities, the one with the largest share, of equal ones the
        first.
    """
    counts = np.diff(membership.indptr)
    rows, columns = np.repeat(np.arange(labels.size), counts), membership.indices
    shares = membership.data.astype(np.float64)
    own, others = np.zeros(labels.size), columns != labels[rows]
    own[rows[~others]] = shares[~others]
    rows, columns, shares = rows[others], columns[others], shares[others]
    enough = (labels[rows] >= 0) & (shares > 0) & (shares >= _BETWEEN * own[rows])
    rows, columns, shares = rows[enough], columns[enough], shares[enough]
    order = np.lexsort((-columns, shares, rows))
    second = np.full(labels.size, -1, dtype=np.int64)
    second[rows[order]] = columns[order]  # of a row, the last is the largest
    return second


def cohesion(affinity: Any, labels: np.ndarray) -> np.ndarray:
    """Compute the share of each community's edge weight that leads to its own members.

    Parameters
    ----------
    affinity : CSR array of shape (n_samples, n_samples)
        The graph.

    labels : ndarray of shape (n_samples,)
        Communities; -1 is noise.

    Returns
    -------
    cohesion : ndarray of shape (n_clusters,)
        In [0, 1]; nan for a community without edges.
    """
    n_clusters = int(labels.max()) + 1
    rows = np.repeat(np.arange(labels.size), np.diff(affinity.indptr))
    of, to = labels[rows], labels[affinity.indices]
    weights, placed = affinity.data.astype(np.float64), of >= 0
    inside = placed & (of == to)
    total, within = (
        np.bincount(of[some], weights[some], n_clusters).astype(np.float64)
        for some in (placed, inside)
    )
    nothing = np.full(n_clusters, np.nan)
    return np.divide(within, total, out=nothing, where=total > 0)
