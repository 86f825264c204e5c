"""Nearest neighbours of all vectors in shards, each shard compared with each."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import combinations, pairwise
from operator import getitem
from typing import Any, NamedTuple

import numpy as np
from dask.delayed import Delayed, delayed

from skleiden._kernels import ivf, knn

from ._shards import Shards
from ._tasks import Graph, compute, persist


def search(
    shards: Shards, k: int, plan: ivf.Plan | None, n_jobs: int | None, verbose: int
) -> list[Delayed]:
    """Neighbours of each shard's vectors among all, by a plan or else all pairs."""
    if k < 1:  # no two rows differ
        return persist([delayed(_none)(b) for b in shards.blocks], "Neighbors", verbose)
    tasks = Graph()
    starts = shards.starts.tolist()
    blocks = tasks.take(shards.blocks)
    if plan is None or np.isinf(plan.slack):
        lists, way = None, "exact"
        parts = [
            tasks.add(_as_part, block, start)
            for block, start in zip(blocks, starts, strict=False)
        ]
    else:
        way = f"ivf, lists compare {plan.share:.1%}"
        few = plan._replace(lists=plan.lists._replace(own=plan.lists.own[:0]))
        (lists,) = tasks.take([few])
        parts = _by_lists(tasks, blocks, starts, plan.lists.own, lists, n_jobs)
    tables = [tasks.add(_within, part, k, lists, n_jobs) for part in parts]
    # Bounds for the others: what is found elsewhere must be nearer than the last.
    last = [tasks.add(_last, table, k) for table in tables]
    for i, j in combinations(range(len(parts)), 2):
        pair = tasks.add(
            _between, parts[i], parts[j], k, lists, last[i], last[j], n_jobs
        )
        for side, number in enumerate((i, j)):
            of_pair = tasks.add(getitem, pair, side)
            tables[number] = tasks.add(knn.merge, tables[number], of_pair, k)
    if lists is not None:
        tables = _by_blocks(tasks, parts, tables, starts)
    n_pairs = len(parts) * (len(parts) + 1) // 2
    description = f"Neighbors ({way}, {n_pairs} pairs of {len(parts)} shards)"
    return persist(tasks.delayed(tables), description, verbose)


def _none(vectors: np.ndarray) -> knn.Neighbors:
    shape = (len(vectors), 0)
    return knn.Neighbors(np.empty(shape, np.int32), np.empty(shape, np.float32))


class _Part(NamedTuple):
    """Vectors to be compared, and their numbers; the rest is as in `ivf.Part`."""

    vectors: np.ndarray
    numbers: np.ndarray
    own: Any = None
    first: int = 0
    stop: int = 0
    least: Any = None

    def with_lists(self) -> ivf.Part:
        return ivf.Part(self.vectors, self.own, self.first, self.stop, self.least)


def _as_part(vectors: np.ndarray, start: int) -> _Part:
    return _Part(vectors, np.arange(start, start + len(vectors), dtype=np.int32))


def _by_lists(
    tasks: Graph,
    blocks: Sequence[str],
    starts: Sequence[int],
    own: np.ndarray,
    lists: str,
    n_jobs: int | None,
) -> list[str]:
    """Parts of whole lists, so that rows are compared in products as large as ever."""
    ends = np.cumsum(np.bincount(own))
    shares = np.arange(1, len(blocks)) * (own.size / len(blocks))
    edges = np.unique([0, *np.searchsorted(ends, shares) + 1, ends.size])
    edges = edges[edges <= ends.size].tolist()
    pieces = [
        tasks.add(_divided, block, start, of_block, edges)
        for block, start, of_block in zip(
            blocks,
            starts,
            tasks.take([own[a:b] for a, b in pairwise(starts)]),
            strict=False,
        )
    ]
    return [
        tasks.add(
            _gathered,
            [tasks.add(getitem, piece, i) for piece in pieces],
            *edge,
            lists,
            n_jobs,
        )
        for i, edge in enumerate(pairwise(edges))
    ]


def _divided(
    vectors: np.ndarray, start: int, own: np.ndarray, edges: Sequence[int]
) -> list[tuple[np.ndarray, np.ndarray, np.ndarray]]:
    """The rows of a block by the parts that their lists belong to."""
    part = np.searchsorted(edges, own, side="right") - 1
    pieces = []
    for i in range(len(edges) - 1):
        rows = np.flatnonzero(part == i)
        pieces.append((vectors[rows], (rows + start).astype(np.int32), own[rows]))
    return pieces


def _gathered(
    pieces: Sequence[tuple[np.ndarray, np.ndarray, np.ndarray]],
    first: int,
    stop: int,
    plan: ivf.Plan,
    n_jobs: int | None,
) -> _Part:
    # The blocks follow one another, so that numbers ascend, and ties with them.
    vectors, numbers, own = map(np.concatenate, zip(*pieces, strict=True))
    with knn.limit_threads(n_jobs):
        least = ivf.least_scores(vectors, plan, n_threads=knn.n_threads())
    return _Part(vectors, numbers, own, first, stop, least)


def _by_blocks(
    tasks: Graph, parts: Sequence[str], tables: Sequence[str], starts: Sequence[int]
) -> list[str]:
    """Tables of the blocks of parts' tables."""
    pieces = [
        tasks.add(_table_divided, part, table, starts)
        for part, table in zip(parts, tables, strict=True)
    ]
    return [
        tasks.add(_table_gathered, [tasks.add(getitem, piece, i) for piece in pieces])
        for i in range(len(starts) - 1)
    ]


def _table_divided(
    part: _Part, table: knn.Neighbors, starts: Sequence[int]
) -> list[tuple[np.ndarray, np.ndarray, np.ndarray]]:
    edges = np.searchsorted(part.numbers, starts)
    return [
        (part.numbers[a:b], table.ids[a:b], table.similarities[a:b])
        for a, b in pairwise(edges)
    ]


def _table_gathered(
    pieces: Sequence[tuple[np.ndarray, np.ndarray, np.ndarray]],
) -> knn.Neighbors:
    numbers, ids, similarities = map(np.concatenate, zip(*pieces, strict=True))
    order = np.argsort(numbers)
    return knn.Neighbors(ids[order], similarities[order])


def _within(
    part: _Part, k: int, plan: ivf.Plan | None, n_jobs: int | None
) -> knn.Neighbors:
    n = len(part.vectors)
    with knn.limit_threads(n_jobs):
        if plan is not None and n > k:
            (found,) = ivf.search_parts(
                [part.with_lists()], k, plan.lists, n_threads=knn.n_threads()
            )
        else:
            found = knn.exact_neighbors(
                part.vectors, part.vectors, min(k, n - 1), own=np.arange(n)
            )
    return _numbered(found, part)


def _between(
    a: _Part,
    b: _Part,
    k: int,
    plan: ivf.Plan | None,
    last_a: np.ndarray,
    last_b: np.ndarray,
    n_jobs: int | None,
) -> tuple[knn.Neighbors, knn.Neighbors]:
    smaller = min(len(a.vectors), len(b.vectors))
    with knn.limit_threads(n_jobs):
        if plan is not None and smaller > k:
            of_a, of_b = ivf.search_parts(
                [a.with_lists(), b.with_lists()],
                k,
                plan.lists,
                [last_a, last_b],
                n_threads=knn.n_threads(),
            )
        else:
            of_a = knn.exact_neighbors(a.vectors, b.vectors, min(k, len(b.vectors)))
            of_b = knn.exact_neighbors(b.vectors, a.vectors, min(k, len(a.vectors)))
    return _numbered(of_a, b), _numbered(of_b, a)


def _numbered(found: knn.Neighbors, part: _Part) -> knn.Neighbors:
    """Lists of numbers of all vectors, of those of places in a part."""
    ids = np.where(found.ids >= 0, part.numbers[found.ids], -1)
    return found._replace(ids=ids.astype(np.int32))


def _last(table: knn.Neighbors, k: int) -> np.ndarray:
    """Similarity of the k-th neighbour of each row; what any reaches, if fewer."""
    if table.ids.shape[1] < k:
        return np.full(len(table.ids), -1, dtype=np.float32)
    return np.where(table.ids[:, -1] >= 0, table.similarities[:, -1], np.float32(-1))


def measured(
    shards: Shards, tables: list[Delayed], plan: ivf.Plan
) -> tuple[float, float]:
    """Recall of a search on the sample of its plan, and its lower 95% bound."""
    rows, places = shards.divide(plan.sample)
    found = compute(list(map(delayed(_rows_of), tables, rows)))
    back = np.argsort(np.concatenate(places))
    ids, similarities = (
        np.concatenate(parts)[back] for parts in zip(*found, strict=True)
    )
    return ivf.measured(plan, ids, similarities)


def _rows_of(table: knn.Neighbors, rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    return table.ids[rows], table.similarities[rows]


def gather(tables: list[Delayed]) -> knn.Neighbors:
    """The lists of all shards, in this process."""
    found = compute(tables, "Gather lists")
    return knn.Neighbors(
        np.concatenate([table.ids for table in found]),
        np.concatenate([table.similarities for table in found]),
    )


def last_neighbors(tables: list[Delayed]) -> tuple[knn.Neighbors, int]:
    """The last neighbour of each row, and the length of the lists."""
    found = compute([delayed(_last_column)(table) for table in tables])
    ids, similarities, widths = zip(*found, strict=True)
    return knn.Neighbors(np.concatenate(ids), np.concatenate(similarities)), widths[0]


def _last_column(table: knn.Neighbors) -> tuple[np.ndarray, np.ndarray, int]:
    return table.ids[:, -1:], table.similarities[:, -1:], table.ids.shape[1]
