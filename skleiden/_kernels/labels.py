"""Memberships to labels: numbering by size, and what becomes of small communities."""

from __future__ import annotations

import numpy as np
import scipy.sparse as sp

_DIGITS = 9


def label_by_size(membership: np.ndarray, counts: np.ndarray) -> np.ndarray:
    """Number communities from 0 by falling size, ties by their first member.

    -1 stands for what has no community and stays. `counts` are what each member counts
    for.
    """
    labels = np.full(membership.size, -1, dtype=np.int64)
    placed = membership >= 0
    _, first, inverse = np.unique(
        membership[placed], return_index=True, return_inverse=True
    )
    sizes = np.bincount(inverse, counts[placed], minlength=first.size)
    order = np.lexsort((first, -sizes))
    rank = np.empty_like(order)
    rank[order] = np.arange(order.size)
    labels[placed] = rank[inverse]
    return labels


def drop_small(labels: np.ndarray, min_size: int, counts: np.ndarray) -> np.ndarray:
    """Labels with the communities that count for less than `min_size` set to -1."""
    placed = labels >= 0
    sizes = np.bincount(labels[placed], counts[placed], minlength=1)
    kept = placed & (sizes[labels] >= min_size)
    return np.where(kept, labels, -1)


def attach(labels: np.ndarray, graph: sp.csr_array) -> np.ndarray:
    """Give rows labelled -1 the community they are most similar to.

    A row's similarity to a community is the sum of the weights of its edges to the
    community's rows. Rows are placed in rounds, all of a round at once on the strength
    of the rows placed before it, so that their order does not matter; ties go to the
    lower label. Rows that no round reaches stay at -1.

    Parameters
    ----------
    labels : ndarray of int64 of shape (n,)

    graph : CSR array of shape (n, n)
        Symmetric, with positive weights.
    """
    labels = labels.copy()
    while True:
        rows = np.flatnonzero(labels < 0)
        placed = vote(graph[rows], labels)
        if (placed < 0).all():
            return labels
        labels[rows] = placed


def vote(weights: sp.csr_array, labels: np.ndarray) -> np.ndarray:
    """Label of the largest summed weight in each row; -1 where no weight is labelled.

    Parameters
    ----------
    weights : CSR array of shape (q, n)
        Positive weights of the n voters for each of q rows.

    labels : ndarray of int64 of shape (n,)
        The voters' labels; -1 abstains.
    """
    ballot = weights.tocoo()
    cast = labels[ballot.col] >= 0
    rows, choice = ballot.row[cast], labels[ballot.col[cast]]
    order = np.lexsort((choice, rows))
    rows, choice, weight = rows[order], choice[order], ballot.data[cast][order]
    new = np.ones(rows.size, dtype=bool)
    new[1:] = (rows[1:] != rows[:-1]) | (choice[1:] != choice[:-1])
    starts = np.flatnonzero(new)
    winner = np.full(weights.shape[0], -1, dtype=np.int64)
    if starts.size:
        # Rounded, since what is equal must be, in whatever order it was added up.
        sums = np.add.reduceat(weight.astype(np.float64), starts).round(_DIGITS)
        # The last one written wins: best last, and of equals the lowest label.
        order = np.lexsort((-choice[starts], sums))
        winner[rows[starts][order]] = choice[starts][order]
    return winner
