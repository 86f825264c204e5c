"""Memberships to labels: numbering by size, and what becomes of small communities."""

from __future__ import annotations

import numpy as np
import scipy.sparse as sp

_DIGITS = 9


def label_by_size(membership: np.ndarray, counts: np.ndarray) -> np.ndarray:
    """Enumerate communities from 0 by falling size, ties by their first member.

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


def shares(graph: sp.csr_array, labels: np.ndarray) -> sp.csr_array:
    """Share of each vertex's edge weight that goes to each community.

    Rows sum to 1, or 0 without edges to a community; float32.

    Parameters
    ----------
    graph : CSR array of shape (n, n)
        Positive weights.

    labels : ndarray of int64 of shape (n,)
        -1 is no community.
    """
    placed = labels >= 0
    members = sp.csr_array(
        (
            np.ones(np.count_nonzero(placed)),
            labels[placed].astype(np.int32),
            np.append(0, np.cumsum(placed)).astype(np.int32),
        ),
        shape=(labels.size, int(labels.max(initial=-1)) + 1),
    )
    weights = sp.csr_array(graph @ members)
    weights.sort_indices()
    total = np.asarray(weights.sum(axis=1)).ravel()
    weights.data /= np.repeat(total, np.diff(weights.indptr))
    return weights.astype(np.float32)


def strengths(
    votes: sp.csr_array,
    chosen: np.ndarray,
    labels: np.ndarray,
    local: np.ndarray,
    most: np.ndarray,
    equal: np.ndarray,
) -> np.ndarray:
    """How strongly rows are tied to a community: 0 not at all, 1 as strongly as can be.

    A vote of similarity s, by a voter whose nearest have the similarity r to it on
    average, counts ``s * min(1, s / r)``. The strength is the root mean square over the
    votes that were possible, those not cast for the community counting 0.

    Parameters
    ----------
    votes : CSR array of shape (q, n)
        Similarities of q rows to those of n voters that vote.

    chosen : ndarray of int64 of shape (q,)
        The rows' communities; a row of -1 has strength 0.

    labels : ndarray of int64 of shape (n,)
        The voters' communities.

    local : ndarray of shape (n,)
        Mean similarity of each voter to its nearest; 0 where it is not known, where
        votes count s.

    most : ndarray of int of shape (q,)
        Votes that were possible.

    equal : ndarray of bool of shape (q,)
        Whether there is one more, of similarity 1, by an equal row.
    """
    n = chosen.size
    rows = np.repeat(np.arange(n), np.diff(votes.indptr))
    own = (labels[votes.indices] == chosen[rows]) & (chosen[rows] >= 0)
    similarity = np.clip(votes.data[own].astype(np.float64), 0, 1)
    nearby = local[votes.indices[own]].astype(np.float64)
    relative = np.ones_like(similarity)
    np.divide(similarity, nearby, out=relative, where=nearby > similarity)
    counted = np.bincount(rows[own], (similarity * relative) ** 2, n) + equal
    found = np.sqrt(counted / np.maximum(most + equal, 1))
    # Rounded, since sums depend on the order of what is added.
    return np.where(chosen >= 0, found.round(_DIGITS), 0).astype(np.float32)


def merge_nearest(
    graph: sp.csr_array, membership: np.ndarray, masses: np.ndarray, kept: np.ndarray,
    n: int,
) -> np.ndarray:  # fmt: skip
    """Merge communities, two at a time, until n of those kept are left.

    The two with the most weight between them over the product of their masses come
    first: they are the first to gain by it as the resolution falls, and the nearest by
    the distance of Bonald, Charpentier, Galland and Hollocou (2018). More than n are
    left where no edge joins two.

    Parameters
    ----------
    graph : CSR array of shape (m, m)
        Symmetric.

    membership : ndarray of int64 of shape (m,)

    masses : ndarray of shape (m,)
        What a vertex counts in the objective: its degree for modularity, 1 for the
        constant Potts model.

    kept : ndarray of bool of shape (n_communities,)
        Those that take part.

    n : int
    """
    # Vertex to community; kept ones first, in their order.
    number = np.where(kept, np.cumsum(kept) - 1, -1)
    left = int(kept.sum())
    inside = np.flatnonzero(number[membership] >= 0)
    of = number[membership[inside]]
    mass = np.bincount(of, masses[inside], left)
    members = sp.csr_array(
        (np.ones(inside.size), (inside, of)), shape=(membership.size, left)
    )
    between = sp.csr_array(members.T @ graph @ members).tocoo()
    upper = between.row < between.col
    first, second, weight = (
        part[upper] for part in (between.row, between.col, between.data)
    )
    merged = np.arange(left)
    while left > n and weight.size:
        best = np.argmax(weight / (mass[first] * mass[second]))
        a, b = int(first[best]), int(second[best])
        merged[merged == b] = a
        mass[a] += mass[b]
        left -= 1
        first, second = np.where(first == b, a, first), np.where(second == b, a, second)
        ends = np.sort([first, second], axis=0)
        apart = ends[0] != ends[1]
        pairs, where = np.unique(ends[:, apart], axis=1, return_inverse=True)
        weight = np.bincount(where.ravel(), weight[apart], pairs.shape[1])
        first, second = pairs
    # Each takes the number of the one that it is part of now.
    target = np.arange(kept.size)
    target[kept] = np.flatnonzero(kept)[merged]
    return np.unique(target[membership], return_inverse=True)[1].astype(np.int64)
