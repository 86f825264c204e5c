"""The plan of a search of lists, made of vectors in shards."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from dask.delayed import delayed

from skleiden._kernels import ivf, knn

from ._shards import Shards, nearest_of_all, take_rows
from ._tasks import compute


class RowsOnWorkers:
    """What `ivf.make_plan_of` asks of vectors, of those in shards."""

    def __init__(self, shards: Shards, n_jobs: int | None, verbose: int) -> None:
        self.shards, self.n_jobs, self.verbose = shards, n_jobs, verbose

    @property
    def n(self) -> int:
        return self.shards.shape[0]

    def take(self, numbers: np.ndarray) -> np.ndarray:
        rows, places = self.shards.divide(numbers)
        return _put_together(
            compute(list(map(delayed(take_rows), self.shards.blocks, rows))), places
        )

    def train(self, numbers: np.ndarray, axes: np.ndarray, n_lists: int) -> np.ndarray:
        rows, places = self.shards.divide(numbers)
        parts = [
            delayed(_project)(*block_and_rows, axes, self.n_jobs)
            for block_and_rows in zip(self.shards.blocks, rows, strict=True)
        ]
        task = delayed(_k_means)(parts, places, n_lists, self.n_jobs)
        return compute([task], "Lists", self.verbose)[0]

    def assign(self, axes: np.ndarray, centroids: np.ndarray) -> np.ndarray:
        lists = delayed((axes, centroids), traverse=False)
        tasks = [
            delayed(_assign)(block, lists, self.n_jobs) for block in self.shards.blocks
        ]
        return np.concatenate(compute(tasks, "Assign", self.verbose))

    def nearest(self, numbers: np.ndarray, k: int) -> knn.Neighbors:
        queries = delayed(self.take(numbers))
        return nearest_of_all(queries, self.shards, k, numbers, self.n_jobs)


def _put_together(
    parts: Sequence[np.ndarray], places: Sequence[np.ndarray]
) -> np.ndarray:
    """Rows of all parts, each at its place."""
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
    vectors: np.ndarray, lists: tuple[np.ndarray, np.ndarray], n_jobs: int | None
) -> np.ndarray:
    with knn.limit_threads(n_jobs):
        return ivf.assign(vectors, *lists, n_threads=knn.n_threads())
