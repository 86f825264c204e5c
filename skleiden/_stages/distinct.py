"""Vectors in blocks: their distinct rows, and queries that go to all of them."""

from __future__ import annotations

import math
from collections.abc import Sequence
from operator import itemgetter
from typing import Any

import numpy as np

from skleiden._blocks.checks import check_finite
from skleiden._blocks.rows import dense_rows
from skleiden._blocks.runner import Local, Runner
from skleiden._kernels import ivf, knn

# Vectors on workers are divided into at least so many blocks of at least so many rows.
# They are of at most so many bytes, but grow with the root of an embedding that is
# larger than so many, since the number of pairs of blocks grows with the square of
# theirs.
_BLOCKS = 8
_ROWS = 256
_BYTES = 2**27
_MANY_BYTES = 2**34

_ROWS_MEASURED = 1024
_ROWS_OF_TASK = 16 * _ROWS_MEASURED

# Queries whose last neighbour is so near to 1 may be among very many near copies.
_NEAR_COPIES = 1e-4


class Shards:
    """Unit vectors in blocks, wherever they are.

    `blocks` are handles of `runner`; block i holds the vectors numbered from
    ``starts[i]`` up to ``starts[i + 1]``. `ranks` are those of the vectors, see
    `knn.UniqueRows`, and `everywhere` a handle of them.
    """

    def __init__(
        self,
        runner: Runner,
        blocks: Sequence[Any],
        sizes: Sequence[int],
        shape: tuple[int, int],
        ranks: np.ndarray,
    ) -> None:
        self.runner = runner
        self.blocks = list(blocks)
        self.starts = np.cumsum([0, *sizes])
        self.shape = shape
        self.ranks, self.everywhere = ranks, runner.put(ranks)

    def divide(self, numbers: np.ndarray) -> tuple[list[np.ndarray], list[np.ndarray]]:
        """Find the rows of each block that are meant, and their places in `numbers`."""
        home = np.searchsorted(self.starts, numbers, side="right") - 1
        places = [np.flatnonzero(home == i) for i in range(len(self.blocks))]
        starts = self.starts[:-1]
        rows = [numbers[of] - start for of, start in zip(places, starts, strict=True)]
        return rows, places

    def check(self) -> None:
        """Refuse to go on without blocks."""
        found = self.runner.why_lost(self.blocks)
        if not self.blocks and self.shape[0]:
            found = "a pickle or copy of it does not have them"
        if found is not None:
            raise RuntimeError(
                "The vectors that this estimator was fitted on are on the workers of a "
                f"Dask cluster, and {found}. Use it while that client is open and the "
                "current one, save it with skleiden.io.save_estimator, which brings "
                "the vectors here, or fit on an array."
            )

    def gather(self) -> np.ndarray:
        """All vectors, in this process."""
        self.check()
        return np.concatenate(self.runner.fetch(self.blocks))

    def to_keep(self) -> Any:
        """Give what an estimator holds of them: here, the vectors themselves."""
        at_hand = self.runner.at_hand(self.blocks)
        return at_hand[0] if at_hand else self

    def __reduce__(self) -> tuple[Any, ...]:
        sizes = np.diff(self.starts).tolist()
        blocks = self.runner.portable(self.blocks)
        return Shards, (self.runner, blocks, sizes, self.shape, self.ranks)


def as_shards(distinct: knn.UniqueRows) -> Shards:
    """Give the vectors that an estimator holds."""
    vectors = distinct.vectors
    if isinstance(vectors, Shards):
        return vectors
    return Shards(Local(), [vectors], [len(vectors)], vectors.shape, distinct.ranks)


def rows_of_blocks(n: int, d: int) -> int:
    """Rows of each block of n vectors of d columns on workers."""
    growth = max(1.0, math.sqrt(4 * n * d / _MANY_BYTES))
    largest = max(1, int(_BYTES * growth / (4 * d)))
    return min(max(math.ceil(n / _BLOCKS), _ROWS), largest)


def find_distinct(
    runner: Runner,
    blocks: Sequence[tuple[int, int, list[Any]]],
    n_columns: int,
    n_jobs: int | None = 1,
) -> knn.UniqueRows:
    """Find the distinct rows of vectors, at unit length, as `Shards`.

    `blocks` have the number of their first row, that of their rows, and handles of the
    matrices that are side by side in them.
    """
    measured = [
        runner.call(_measure, start, chunks, n_jobs) for start, _, chunks in blocks
    ]
    vectors = [runner.call(itemgetter(0), found) for found in measured]
    hashes = [runner.call(itemgetter(1), found) for found in measured]
    del measured
    kept = runner.keep([*vectors, *hashes], "Vectors")
    vectors, hashes = kept[: len(blocks)], runner.fetch(kept[len(blocks) :], "Hash")
    found = knn.representatives(*map(np.concatenate, zip(*hashes, strict=True)))
    distinct = knn.number_groups(*found)
    shards, sizes = [], []
    for block, (start, size, _) in zip(vectors, blocks, strict=True):
        own = slice(*np.searchsorted(distinct.first, [start, start + size]))
        rows = distinct.first[own] - start
        if rows.size or (start == 0 and distinct.first.size == 0):
            whole = rows.size == size
            shards.append(block if whole else runner.call(knn.take_rows, block, rows))
            sizes.append(rows.size)
    del vectors, kept
    shape = distinct.first.size, n_columns
    kept = runner.keep(shards, "Distinct")
    return distinct._replace(vectors=Shards(runner, kept, sizes, shape, distinct.ranks))


def _measure(
    start: int, chunks: Sequence[Any], n_jobs: int | None
) -> tuple[np.ndarray, tuple[np.ndarray, np.ndarray]]:
    """Rows at unit length, checked, with hashes and the mask of the zero rows."""
    X = dense_rows(chunks)
    hashes = np.empty((len(X), 4), dtype=np.int64)
    zero = np.empty(len(X), dtype=bool)
    right_form = X.dtype == np.float32 and X.flags.c_contiguous

    def measure(task: slice) -> bool:
        """Whether rows, which are checked, were hashed: at unit length already."""
        ready = right_form
        for first in range(task.start, task.stop, _ROWS_MEASURED):
            rows = slice(first, min(first + _ROWS_MEASURED, task.stop))
            check_finite(X[rows], "", start + first)
            ready = ready and not knn.off_unit(X[rows]).any()
            if ready:
                hash_rows(rows)
        return ready

    def hash_rows(rows: slice) -> None:
        hashes[rows], zero[rows] = knn.row_hashes(X[rows])

    # One pass where the rows are at unit length already.
    if not all(knn.in_blocks(measure, len(X), _ROWS_OF_TASK, n_jobs)):
        X = knn.unit_rows(X)
        knn.in_blocks(hash_rows, len(X), _ROWS_OF_TASK, n_jobs)
    return X, (hashes, zero)


def nearest_of_all(
    queries: Any, shards: Shards, k: int, numbers: np.ndarray, n_jobs: int | None
) -> knn.Neighbors:
    """Give the true neighbours of some of the vectors, those of these `numbers`."""
    runner, ranks = shards.runner, shards.everywhere
    of_queries = shards.ranks[numbers]
    tables = []
    for block, start, stop in zip(
        shards.blocks, shards.starts, shards.starts[1:], strict=False
    ):
        inside = (numbers >= start) & (numbers < stop)
        own = np.where(inside, numbers - start, -1)
        tables.append(
            runner.call(
                _nearest, queries, block, start, k, of_queries, ranks, own, n_jobs
            )
        )
    merged = tables[0]
    for table in tables[1:]:
        merged = runner.call(_merged, merged, table, k, of_queries, ranks)
    (found,) = runner.fetch([merged])
    return found


def _nearest(
    queries: np.ndarray,
    vectors: np.ndarray,
    start: int,
    k: int,
    of_queries: np.ndarray,
    ranks: np.ndarray,
    own: np.ndarray,
    n_jobs: int | None,
) -> knn.Neighbors:
    of_both = knn.Ranks(of_queries, ranks[start : start + len(vectors)])
    with knn.limit_threads(n_jobs):
        if len(vectors) > k:
            found = ivf.true_neighbors(
                queries, vectors, k, of_both, own=own, n_threads=knn.n_threads()
            )
        else:
            k = len(vectors)
            candidates = np.tile(np.arange(k), (len(queries), 1))
            found = knn.Neighbors(
                *knn.rank(queries, vectors, candidates, k, of_both, own)
            )
    return _shifted(found, start)


def _merged(
    a: knn.Neighbors,
    b: knn.Neighbors,
    k: int,
    of_queries: np.ndarray,
    ranks: np.ndarray,
) -> knn.Neighbors:
    return knn.merge(a, b, k, knn.Ranks(of_queries, ranks))


def nearest_fitted(
    vectors: np.ndarray, shards: Shards, k: int, n_jobs: int | None
) -> tuple[knn.Neighbors, np.ndarray]:
    """Give the k nearest of the vectors, and a mask of those equal to the query.

    Where very many are as near to a query, those come first that did so when the vector
    that it is equal to was fitted.
    """
    shards.check()
    found, equal = _nearest_of_ranks(
        vectors, np.zeros(len(vectors), np.int32), shards, k, n_jobs
    )
    if k:
        near = np.flatnonzero(found.similarities[:, -1] >= 1 - _NEAR_COPIES)
        numbers = _find_equal(vectors[near], shards)
        near, numbers = near[numbers >= 0], numbers[numbers >= 0]
        if near.size:
            again, found_equal = _nearest_of_ranks(
                vectors[near], shards.ranks[numbers], shards, k, n_jobs
            )
            # Copies: what comes from a worker may be read-only.
            found = knn.Neighbors(found.ids.copy(), found.similarities.copy())
            found.ids[near], found.similarities[near] = again[:2]
            equal[near] = found_equal
    return found, equal


def _nearest_of_ranks(
    vectors: np.ndarray,
    of_queries: np.ndarray,
    shards: Shards,
    k: int,
    n_jobs: int | None,
) -> tuple[knn.Neighbors, np.ndarray]:
    runner = shards.runner
    queries, ranks = runner.put(vectors), shards.everywhere
    found = runner.fetch(
        [
            runner.call(
                _nearest_and_equal, queries, block, start, k, of_queries, ranks, n_jobs
            )
            for block, start in zip(shards.blocks, shards.starts, strict=False)
        ]
    )
    merged, equal = found[0]
    for nearest, those in found[1:]:
        merged = _merged(merged, nearest, k, of_queries, shards.ranks)
        equal = np.maximum(equal, those)
    return merged, (merged.ids == equal[:, None]) & (merged.ids >= 0)


def _nearest_and_equal(
    queries: np.ndarray,
    vectors: np.ndarray,
    start: int,
    k: int,
    of_queries: np.ndarray,
    ranks: np.ndarray,
    n_jobs: int | None,
) -> tuple[knn.Neighbors, np.ndarray]:
    of_both = knn.Ranks(of_queries, ranks[start : start + len(vectors)])
    with knn.limit_threads(n_jobs):
        found = knn.exact_neighbors(queries, vectors, min(k, len(vectors)), of_both)
    shifted = _shifted(found, start)
    # Of distinct vectors at most one is equal to a query.
    equal = np.where(knn.equal_rows(queries, vectors, found), shifted.ids, -1)
    return shifted, equal.max(axis=1, initial=-1)


def _find_equal(vectors: np.ndarray, shards: Shards) -> np.ndarray:
    """Give the number of the vector that is equal to each query, -1 where none is."""
    numbers = np.full(len(vectors), -1)
    if len(vectors):
        runner, keys = shards.runner, knn.equality_hashes(vectors)
        there = runner.put(keys)
        found = [runner.call(_equal_there, block, there) for block in shards.blocks]
        for start, rows in zip(shards.starts, runner.fetch(found), strict=False):
            numbers = np.where(rows >= 0, rows + start, numbers)
    return numbers


def _equal_there(vectors: np.ndarray, keys: np.ndarray) -> np.ndarray:
    hashes = knn.equality_hashes(vectors)
    order = np.argsort(hashes[:, 0])
    place = np.searchsorted(hashes[order, 0], keys[:, 0])
    rows = order[np.minimum(place, len(order) - 1)]
    return np.where((hashes[rows] == keys).all(axis=1), rows, -1)


def _shifted(found: knn.Neighbors, start: int) -> knn.Neighbors:
    if start == 0:
        return found
    return found._replace(ids=np.where(found.ids >= 0, found.ids + start, -1))
