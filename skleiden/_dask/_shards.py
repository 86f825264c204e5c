"""An embedding in shards: its distinct rows, and queries that go to all of them."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import scipy.sparse as sp
from dask.delayed import Delayed, delayed

from skleiden._kernels import ivf, knn
from skleiden.layers import check_finite

from ._arrays import row_blocks, side_by_side
from ._tasks import compute, futures_of, persist

# An embedding is divided into at least so many shards of at least so many rows. They
# are of at most so many bytes, but grow with the root of an embedding that is larger
# than so many, since the number of pairs of shards grows with the square of theirs.
_SHARDS = 8
_ROWS = 256
_BYTES = 2**27
_MANY_BYTES = 2**34


class Shards:
    """Unit vectors in blocks on the workers.

    `blocks` are tasks that have been done; block i holds the vectors numbered from
    ``starts[i]`` up to ``starts[i + 1]``. A pickle leaves out blocks on a cluster.
    """

    def __init__(
        self, blocks: Sequence[Delayed], sizes: Sequence[int], shape: tuple[int, int]
    ) -> None:
        self.blocks = list(blocks)
        self.starts = np.cumsum([0, *sizes])
        self.shape = shape

    def __reduce__(self) -> tuple[Any, ...]:
        there = bool(futures_of(self.blocks))
        sizes = np.diff(self.starts).tolist()
        return Shards, ([] if there else self.blocks, sizes, self.shape)

    def check(self) -> None:
        """Refuse to go on without blocks."""
        futures = futures_of(self.blocks)
        if not self.blocks and self.shape[0]:
            found = "a pickle or copy of it is without them"
        elif any(f.cancelled() or f.client.status != "running" for f in futures):
            found = "the client that they were made by is closed or was restarted"
        elif any(_is_elsewhere(future) for future in futures):
            found = "the current client is that of another cluster"
        else:
            return
        raise RuntimeError(
            "The vectors that this estimator was fitted on lie on the workers of a "
            f"Dask cluster, and {found}. Use it while their client is open and the "
            "current one, keep it by "
            "skleiden.io.save_estimator, which brings the vectors here, or fit on an "
            "array."
        )

    def gather(self) -> np.ndarray:
        """All vectors, in this process."""
        self.check()
        return np.concatenate(compute(self.blocks))

    def divide(self, numbers: np.ndarray) -> tuple[list[np.ndarray], list[np.ndarray]]:
        """The rows of each block that are meant, and their places among `numbers`."""
        self.check()
        home = np.searchsorted(self.starts, numbers, side="right") - 1
        places = [np.flatnonzero(home == i) for i in range(len(self.blocks))]
        starts = self.starts[:-1]
        rows = [numbers[of] - start for of, start in zip(places, starts, strict=True)]
        return rows, places


def _is_elsewhere(future: Any) -> bool:
    """Whether a result lies with other workers than those of the current client."""
    from distributed import get_client

    try:
        current = get_client()
    except ValueError:  # there is none, and the future's own is asked
        return False
    here, there = current.scheduler.address, future.client.scheduler.address
    return bool(here != there)


def distinct_rows(X: Any, verbose: int) -> knn.UniqueRows:
    """The distinct rows of an array, at unit length, as shards."""
    n, d = X.shape
    X = X.rechunk((_shard_rows(n, d), -1))
    pieces = list(row_blocks([X]))
    tasks = [delayed(_unit_rows)(start, *chunks) for start, _, chunks in pieces]
    vectors = persist(tasks, "Vectors", verbose)
    hashes = compute([delayed(knn.row_hashes)(block) for block in vectors], "Hash")
    first = knn.first_equal(*map(np.concatenate, zip(*hashes, strict=True)))
    distinct = knn.number_groups(np.empty((n, 0), dtype=np.float32), first)
    blocks, sizes = [], []
    for block, (start, size, _) in zip(vectors, pieces, strict=True):
        own = slice(*np.searchsorted(distinct.first, [start, start + size]))
        kept = distinct.first[own] - start
        if kept.size or (start == 0 and distinct.first.size == 0):
            blocks.append(
                block if kept.size == size else delayed(take_rows)(block, kept)
            )
            sizes.append(kept.size)
    blocks = persist(blocks, "Distinct", verbose)
    return distinct._replace(vectors=Shards(blocks, sizes, (len(distinct.first), d)))


def _shard_rows(n: int, d: int) -> int:
    growth = max(1.0, math.sqrt(4 * n * d / _MANY_BYTES))
    largest = max(1, int(_BYTES * growth / (4 * d)))
    return min(max(math.ceil(n / _SHARDS), _ROWS), largest)


def _unit_rows(start: int, chunks: Sequence[Any]) -> np.ndarray:
    X = side_by_side(chunks)
    if sp.issparse(X):
        raise TypeError(
            "Sparse blocks of X were passed, but dense data are required. Convert "
            "them, for example with X.map_blocks(lambda block: block.toarray())."
        )
    X = np.asarray(X)
    check_finite(X, "", start, start + len(X))
    return knn.unit_rows(X)


def take_rows(vectors: np.ndarray, rows: np.ndarray) -> np.ndarray:
    return vectors[rows]


def nearest_of_all(
    queries: Delayed,
    shards: Shards,
    k: int,
    numbers: np.ndarray,
    n_jobs: int | None,
) -> knn.Neighbors:
    """True neighbours of some of the vectors, those of these `numbers`."""
    tables = []
    for block, start, stop in zip(
        shards.blocks, shards.starts, shards.starts[1:], strict=False
    ):
        inside = (numbers >= start) & (numbers < stop)
        own = np.where(inside, numbers - start, -1)
        tables.append(delayed(_nearest)(queries, block, start, k, own, n_jobs))
    return compute([_merged(tables, k)])[0]


def _nearest(
    queries: np.ndarray,
    vectors: np.ndarray,
    start: int,
    k: int,
    own: np.ndarray,
    n_jobs: int | None,
) -> knn.Neighbors:
    with knn.limit_threads(n_jobs):
        if len(vectors) > k:
            found = ivf.true_neighbors(
                queries, vectors, k, own=own, n_threads=knn.n_threads()
            )
        else:
            k = len(vectors)
            candidates = np.tile(np.arange(k), (len(queries), 1))
            found = knn.Neighbors(*knn.rank(queries, vectors, candidates, k, own))
    return _shifted(found, start)


def _merged(tables: list[Delayed], k: int) -> Delayed:
    merged = tables[0]
    for table in tables[1:]:
        merged = delayed(knn.merge)(merged, table, k)
    return merged


def nearest_fitted(
    vectors: np.ndarray, shards: Shards, k: int, n_jobs: int | None
) -> tuple[knn.Neighbors, np.ndarray]:
    """The k nearest of the vectors in shards, and which of them equal the query."""
    shards.check()
    queries = delayed(vectors)
    blocks = zip(shards.blocks, shards.starts, strict=False)
    found = compute(
        [delayed(_nearest_and_equal)(queries, *block, k, n_jobs) for block in blocks]
    )
    merged, equal = found[0]
    for nearest, those in found[1:]:
        merged, equal = knn.merge(merged, nearest, k), np.maximum(equal, those)
    return merged, (merged.ids == equal[:, None]) & (merged.ids >= 0)


def _nearest_and_equal(
    queries: np.ndarray, vectors: np.ndarray, start: int, k: int, n_jobs: int | None
) -> tuple[knn.Neighbors, np.ndarray]:
    with knn.limit_threads(n_jobs):
        found = knn.exact_neighbors(queries, vectors, min(k, len(vectors)))
    shifted = _shifted(found, start)
    # Of distinct vectors at most one is equal to a query.
    equal = np.where(knn.equal_rows(queries, vectors, found), shifted.ids, -1)
    return shifted, equal.max(axis=1, initial=-1)


def _shifted(found: knn.Neighbors, start: int) -> knn.Neighbors:
    return found._replace(ids=np.where(found.ids >= 0, found.ids + start, -1))
