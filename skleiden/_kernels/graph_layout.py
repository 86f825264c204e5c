"""A layout of a graph in the plane, by forces as in UMAP, from its slowest modes."""

from __future__ import annotations

import numpy as np
import scipy.sparse as sp

# Steps of diffusion that make the start, and how often as many are taken: the more, the
# farther communities lie apart, up to some hundreds in all. After each time the modes
# are made orthogonal again, before rounding makes them one.
_STEPS = 10
_TIMES = 40
# Radius of the start, over the root of the number of vertices. (A tie pulls most where
# it is 1 long.)
_SPREAD = 0.17

# Epochs, and how far a force moves a vertex in the first of them; it falls to 0.
_EPOCHS = 80
_RATE = 5.0
# Every vertex pushes every other; in an epoch this many stand for all of them, some at
# a time, as many as a processor's cache holds.
_OTHERS = 64
_OTHERS_AT_ONCE = 8
# A vertex is pushed by this many together as hard as all its ties together pull. More
# vertices push harder, so that areas grow with the number of vertices in them; fewer do
# not push less, or small graphs would be one point.
_AS_STRONG = 1500
# Squared distance below which a push no longer grows.
_LEAST_SQUARE = 0.01


def layout(graph: sp.csr_array, *, seed: int) -> np.ndarray:
    """Coordinates of the vertices in the plane, float32 of shape (n, 2).

    The graph is symmetric, with sorted indices, positive weights and zero diagonal.
    Forces are those of UMAP (McInnes et al., 2018) with ``1 / (1 + distance ** 2)`` as
    the strength of a tie in the plane. UMAP samples ties, and other vertices for each;
    here all ties pull in every epoch, and the same few others push all vertices. That
    is less noisy, so that fewer epochs are needed.

    No sum is left to BLAS or to threads: it might differ by rounding, and the epochs
    would turn the difference into another map.
    """
    n = graph.shape[0]
    rng = np.random.RandomState(seed)
    ties, strength = _normalized(graph)
    places = _start(ties, strength, rng).astype(np.float32)
    ends = np.repeat(np.arange(n), np.diff(ties.indptr)), ties.indices
    weights = ties.data.astype(np.float32)
    for epoch in range(_EPOCHS):
        others = rng.choice(n, min(n, _OTHERS), replace=False)
        force = _pull(places, ends, weights) + _push(places, others)
        places += np.float32(_RATE * (1 - epoch / _EPOCHS)) * force
    return places.T


def _normalized(graph: sp.csr_array) -> tuple[sp.csr_array, np.ndarray]:
    """Weights over the roots of both ends' sums, and these roots.

    A vertex without a tie gets one to itself: it stays where it is in diffusion, and
    nothing pulls it.
    """
    n = graph.shape[0]
    alone = sp.diags_array((np.diff(graph.indptr) == 0).astype(np.float64))
    ties = sp.csr_array(graph.astype(np.float64) + alone)
    rows = np.repeat(np.arange(n), np.diff(ties.indptr))
    strength = np.sqrt(np.bincount(rows, ties.data, n))
    ties.data /= strength[rows] * strength[ties.indices]
    return ties, strength


def _start(
    ties: sp.csr_array, strength: np.ndarray, rng: np.random.RandomState
) -> np.ndarray:
    """Places in a disc, shape (2, n), where vertices that are well tied are near.

    Each vertex draws two random numbers, which are averaged with its neighbours' again
    and again: what is left are the slowest modes of diffusion, as in spectral
    embedding. No eigenvalue problem is solved to the end, whose answer for many
    components would be a point for each. The ranks of the two numbers fill a square
    evenly, whatever the modes are, and the square is bent to a disc.
    """
    n = strength.size
    still = strength / np.sqrt((strength**2).sum())  # the mode that tells nothing
    modes = rng.uniform(-1, 1, size=(n, 2))
    for _ in range(_TIMES):
        for _ in range(_STEPS):
            modes += ties @ modes
        modes -= still[:, None] * (still[:, None] * modes).sum(axis=0)
        norms = np.sqrt((modes**2).sum(axis=0))
        modes /= np.where(norms > 0, norms, 1)
        modes[:, 1] -= modes[:, 0] * (modes[:, 0] * modes[:, 1]).sum()
    modes /= strength[:, None]
    ranks = np.argsort(np.argsort(modes, axis=0, kind="stable"), axis=0)
    x, y = 2 * ranks.T / max(n - 1, 1) - 1
    disc = np.stack([x * np.sqrt(1 - y**2 / 2), y * np.sqrt(1 - x**2 / 2)])
    return _SPREAD * np.sqrt(n) * disc


def _pull(
    places: np.ndarray, ends: tuple[np.ndarray, np.ndarray], weights: np.ndarray
) -> np.ndarray:
    """Pull of its ties on each vertex, shape (2, n)."""
    here, there = ends
    gap = places[:, there] - places[:, here]
    gap *= weights / (1 + gap[0] ** 2 + gap[1] ** 2)
    n = places.shape[1]
    pull = np.stack([np.bincount(here, along, n) for along in gap])
    return pull.astype(np.float32)


def _push(places: np.ndarray, others: np.ndarray) -> np.ndarray:
    """Push on each vertex, shape (2, n), by all, for which some others stand."""
    n = places.shape[1]
    push = np.zeros_like(places)
    for start in range(0, others.size, _OTHERS_AT_ONCE):
        few = others[start : start + _OTHERS_AT_ONCE]
        gap = places[:, None, :] - places[:, few, None]
        square = gap[0] ** 2 + gap[1] ** 2
        gap /= (_LEAST_SQUARE + square) * (1 + square)
        push += gap.sum(axis=1)
    return np.float32(max(1, n / _AS_STRONG) / others.size) * push
