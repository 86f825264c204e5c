"""The plan of a search of lists, made of vectors in blocks."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from skleiden._kernels import ivf, knn

from .distinct import Shards, nearest_of_all

_ROWS_AT_ONCE = 4096


class RowsOfShards(NamedTuple):
    """What `ivf.make_plan` asks of vectors, of those in blocks.

    Vectors go by their ranks, and `order` has the number of the vector of each rank: so
    a plan does not depend on where rows stand.
    """

    shards: Shards
    order: np.ndarray
    n_jobs: int | None

    @property
    def n(self) -> int:
        """How many there are."""
        return self.shards.shape[0]

    def take(self, ranks: np.ndarray) -> np.ndarray:
        """Give the vectors of these ranks."""
        rows, places = self.shards.divide(self.order[ranks])
        call = self.shards.runner.call
        parts = [
            call(_take, block, of_block, self.n_jobs)
            for block, of_block in zip(self.shards.blocks, rows, strict=True)
        ]
        return _put_together(self.shards.runner.fetch(parts), places)

    def train(self, ranks: np.ndarray, axes: np.ndarray, n_lists: int) -> np.ndarray:
        """Give centroids of lists of some vectors, projected to axes."""
        rows, places = self.shards.divide(self.order[ranks])
        call = self.shards.runner.call
        parts = [
            call(_project, block, of_block, axes, self.n_jobs)
            for block, of_block in zip(self.shards.blocks, rows, strict=True)
        ]
        trained = call(_k_means, parts, places, n_lists, self.n_jobs)
        (centroids,) = self.shards.runner.fetch([trained], "Lists")
        return centroids

    def assign(self, axes: np.ndarray, centroids: np.ndarray) -> np.ndarray:
        """Give the number of each vector's nearest centroid."""
        runner = self.shards.runner
        lists = runner.put((axes, centroids))
        rows, _ = self.shards.divide(self.order)
        found = [
            runner.call(_assign, block, of_block, lists, self.n_jobs)
            for block, of_block in zip(self.shards.blocks, rows, strict=True)
        ]
        own = np.concatenate(runner.fetch(found, "Assign"))
        return own[self.order]

    def nearest(self, ranks: np.ndarray, k: int) -> knn.Neighbors:
        """Give the true neighbours of some vectors among all."""
        queries = self.shards.runner.put(self.take(ranks))
        numbers = self.order[ranks]
        found = nearest_of_all(queries, self.shards, k, numbers, self.n_jobs)
        return found._replace(ids=self.shards.ranks[found.ids])


def _take(vectors: np.ndarray, rows: np.ndarray, n_jobs: int | None) -> np.ndarray:
    taken = np.empty((rows.size, vectors.shape[1]), dtype=vectors.dtype)

    def take(block: slice) -> None:
        vectors.take(rows[block], axis=0, out=taken[block], mode="clip")

    knn.in_blocks(take, rows.size, _ROWS_AT_ONCE, n_jobs)
    return taken


def _put_together(
    parts: Sequence[np.ndarray], places: Sequence[np.ndarray]
) -> np.ndarray:
    """Rows of all blocks, each at its place."""
    if len(parts) == 1:
        return parts[0]
    rows = np.empty((sum(map(len, parts)), parts[0].shape[1]), dtype=np.float32)
    for part, own in zip(parts, places, strict=True):
        rows[own] = part
    return rows


def _project(
    vectors: np.ndarray, rows: np.ndarray, axes: np.ndarray, n_jobs: int | None
) -> np.ndarray:
    if rows.size == 0:
        return np.empty((0, axes.shape[1]), dtype=np.float32)
    with knn.limit_threads(n_jobs):
        return ivf.project(vectors, rows, axes, n_threads=knn.n_threads())


def _k_means(
    parts: Sequence[np.ndarray],
    places: Sequence[np.ndarray],
    n_lists: int,
    n_jobs: int | None,
) -> np.ndarray:
    rows = _put_together(parts, places)
    with knn.limit_threads(n_jobs):
        return ivf.k_means(rows, n_lists, n_threads=knn.n_threads())


def _assign(
    vectors: np.ndarray,
    order: np.ndarray,
    lists: tuple[np.ndarray, np.ndarray],
    n_jobs: int | None,
) -> np.ndarray:
    with knn.limit_threads(n_jobs):
        return ivf.assign(vectors, order, *lists, n_threads=knn.n_threads())
