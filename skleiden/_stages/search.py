"""Nearest neighbours of all vectors: within each block, and between each two."""

from __future__ import annotations

import re
import warnings
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from itertools import combinations, pairwise
from numbers import Integral, Real
from operator import itemgetter
from typing import Any, NamedTuple

import numpy as np
from joblib import effective_n_jobs
from sklearn.utils import check_random_state
from sklearn.utils._param_validation import Interval, StrOptions

from skleiden._blocks.mapped import check_size
from skleiden._blocks.runner import Runner
from skleiden._fitting import at_most_useful
from skleiden._kernels import cuda, ivf, knn

from .distinct import Shards
from .plan import RowsOfShards

# "auto" compares all pairs of up to so many rows, where inverted lists gain little, and
# of more where the lists would compare more than this share of them anyway
# (benchmarks/README.md).
_EXACT_ROWS = 10_000
_EXACT_SHARE = 0.6

# FAISS takes C's integers.
_CANDIDATES = Interval(Integral, 1, 2**31 - 1, closed="both")


class _Device(StrOptions):
    """The name of a device, of which GPUs may have a number."""

    def is_satisfied_by(self, val: Any) -> bool:
        numbered = isinstance(val, str) and re.fullmatch(r"cuda:(0|[1-9]\d*)", val)
        return bool(numbered) or super().is_satisfied_by(val)

    def __str__(self) -> str:
        return "'cpu', 'cuda' or the name of one of several GPUs, such as 'cuda:1'"


class Found(NamedTuple):
    """Neighbour lists of all vectors, and what the search tells of itself.

    `tables` are handles of the lists of each block's vectors; `recall` is measured, 1
    for "exact".
    """

    tables: list[Any]
    algorithm: str
    recall: float


class NeighborSearch(NamedTuple):
    """The parameters of a search, as the estimators that search have them."""

    n_neighbors: int
    algorithm: str
    target_recall: float
    hnsw_m: int
    ef_construction: int
    ef_search: int
    random_state: Any
    n_jobs: int | None
    verbose: int
    device: str = "cpu"

    @classmethod
    def of(cls, estimator: Any) -> NeighborSearch:
        """Take them from an estimator."""
        return cls(*(getattr(estimator, name) for name in cls._fields))

    def threads(self) -> int | None:
        """Threads of FAISS; None leaves OpenMP's setting alone."""
        n_jobs = at_most_useful(self.n_jobs)
        return None if n_jobs is None else int(effective_n_jobs(n_jobs))

    def width(self, n_samples: int) -> int:
        """Neighbours of each of so many rows."""
        return min(int(self.n_neighbors), n_samples - 1)

    def find_device(self, runner: Runner) -> Any:
        """Give the device of torch on which pairs are compared; None for the CPU."""
        if self.device == "cpu":
            return None
        if self.algorithm in ("hnsw", "ivf"):
            raise ValueError(
                f"algorithm={self.algorithm!r} is not available on device="
                f"{self.device!r}, which compares all pairs. Use algorithm='exact' or "
                "'auto', or device='cpu'."
            )
        if not runner.at_hand([None]):
            raise ValueError(
                f"device={self.device!r} is not available for a Dask array, whose "
                "blocks are compared on the workers. Use device='cpu', or an array in "
                "this process."
            )
        return cuda.find_device(self.device)

    def run(self, shards: Shards, n_samples: int, device: Any = None) -> Found:
        """Search the neighbours of distinct vectors, of so many rows, among them.

        Pairs are compared on `device`, one of torch, if it is given.
        """
        m = shards.shape[0]
        k, n_jobs = min(self.width(n_samples), m - 1), self.threads()
        rng = check_random_state(self.random_state)
        here = shards.runner.at_hand(shards.blocks)
        with ExitStack() as stack:
            stack.enter_context(knn.limit_threads(n_jobs))
            for block in here:
                check_size(block, "X")
                stack.enter_context(knn.read_at_random(block))
            if device is not None:
                algorithm, plan, why = "exact", None, f" on {device}"
            else:
                algorithm, plan, why = self._choose(shards, k, n_jobs, rng)
            description = f"Neighbors ({algorithm}, {m} rows{why})"
            progress = stack.enter_context(shards.runner.progress(description, m))
            if algorithm == "hnsw" and k >= 1:
                return self._by_hnsw(shards, k, rng, progress)
            tables = search(shards, k, plan, n_jobs, progress, device)
        recall = 1.0
        if plan is not None:
            recall, _ = measured(shards, tables, plan)
        return Found(tables, algorithm, recall)

    def _choose(
        self, shards: Shards, k: int, n_jobs: int | None, rng: np.random.RandomState
    ) -> tuple[str, ivf.Plan | None, str]:
        """Choose the algorithm, with the plan of "ivf", and the reason in words."""
        if self.algorithm == "hnsw" and not shards.runner.at_hand(shards.blocks):
            raise ValueError(
                "algorithm='hnsw' is not available for a Dask array. Use 'auto', 'ivf' "
                "or 'exact'."
            )
        auto = self.algorithm == "auto"
        if auto and (k < 1 or shards.shape[0] <= _EXACT_ROWS):
            return "exact", None, ""
        if k < 1 or self.algorithm in ("exact", "hnsw"):
            return self.algorithm, None, ""
        order = np.empty(shards.ranks.size, dtype=np.int64)
        order[shards.ranks] = np.arange(order.size)
        rows = RowsOfShards(shards, order, n_jobs)
        plan = ivf.make_plan(
            rows,
            k,
            target_recall=self.target_recall,
            rng=rng,
            n_threads=knn.n_threads(),
        )
        own = plan.lists.own[shards.ranks]
        plan = plan._replace(
            lists=plan.lists._replace(own=own), sample=order[plan.sample]
        )
        why = f", lists compare {plan.share:.1%} of pairs"
        if auto and plan.share > _EXACT_SHARE:
            return "exact", None, why
        return "ivf", plan, why

    def _by_hnsw(
        self,
        shards: Shards,
        k: int,
        rng: np.random.RandomState,
        progress: Callable[[int], object] | None,
    ) -> Found:
        """Search a graph of small worlds, which is one of all vectors, or none."""
        found = knn.hnsw_neighbors(
            shards.blocks[0],
            k,
            shards.ranks,
            m=int(self.hnsw_m),
            ef_construction=int(self.ef_construction),
            ef_search=int(self.ef_search),
            target_recall=self.target_recall,
            rng=rng,
            reproducible=self.random_state is not None,
            progress=progress,
        )
        if found.recall_bound < self.target_recall:
            warnings.warn(
                f"algorithm='hnsw' reached a recall of {found.recall:.3f} (lower 95% "
                f"bound {found.recall_bound:.3f}), below target_recall="
                f"{self.target_recall}. Raise hnsw_m or ef_construction, or use "
                "algorithm='exact'.",
                UserWarning,
                stacklevel=5,
            )
        return Found([found], "hnsw", found.recall)


SEARCH_CONSTRAINTS: dict[str, Any] = {
    "n_neighbors": [Interval(Integral, 1, None, closed="left")],
    "algorithm": [StrOptions({"auto", "exact", "hnsw", "ivf"})],
    "target_recall": [Interval(Real, 0, 1, closed="right")],
    "hnsw_m": [Interval(Integral, 2, 512, closed="both")],
    "ef_construction": [_CANDIDATES],
    "ef_search": [_CANDIDATES],
    "random_state": ["random_state"],
    "n_jobs": [Integral, None],
    "verbose": ["verbose"],
    "device": [_Device({"cpu", "cuda"})],
}


def search(
    shards: Shards,
    k: int,
    plan: ivf.Plan | None,
    n_jobs: int | None,
    progress: Callable[[int], object] | None = None,
    device: Any = None,
) -> list[Any]:
    """Find the neighbours of each block's vectors among all.

    They are compared by a plan, or else all pairs, if a device is given on it. A row's
    lists, of its own block and of each other one, are merged.
    """
    runner, starts = shards.runner, shards.starts.tolist()
    ranks = shards.everywhere
    if k < 1:  # no two rows differ
        tables = [runner.call(_none, block) for block in shards.blocks]
        return runner.keep(tables, "Neighbors")
    whole = len(shards.blocks) == 1
    if plan is not None and np.isinf(plan.slack) and not whole:
        plan = None
    way = "exact" if plan is None else f"ivf, lists compare {plan.share:.1%}"
    if whole:
        (block,) = shards.blocks
        there = runner.put(plan)
        tables = [runner.call(_whole, block, k, ranks, there, n_jobs, progress, device)]
        return runner.keep(tables, f"Neighbors ({way})")
    lists = None
    if plan is None:
        parts = [
            runner.call(_as_part, block, start, ranks)
            for block, start in zip(shards.blocks, starts, strict=False)
        ]
    else:
        few = plan._replace(lists=plan.lists._replace(own=plan.lists.own[:0]))
        lists = runner.put(few)
        parts = _by_lists(runner, shards, starts, plan.lists.own, lists, n_jobs)
    tables = [runner.call(_within, part, k, lists, n_jobs) for part in parts]
    # Bounds for the others: what is found elsewhere must be nearer than the last.
    last = [runner.call(_last, table, k) for table in tables]
    for i, j in combinations(range(len(parts)), 2):
        pair = runner.call(
            _between, parts[i], parts[j], k, lists, last[i], last[j], n_jobs
        )
        for side, number in enumerate((i, j)):
            of_pair = runner.call(itemgetter(side), pair)
            tables[number] = runner.call(
                _merged, parts[number], tables[number], of_pair, k, ranks
            )
    if lists is not None:
        tables = _by_blocks(runner, parts, tables, starts)
    n_pairs = len(parts) * (len(parts) + 1) // 2
    return runner.keep(
        tables, f"Neighbors ({way}, {n_pairs} pairs of {len(parts)} shards)"
    )


def _whole(
    vectors: np.ndarray,
    k: int,
    ranks: np.ndarray,
    plan: ivf.Plan | None,
    n_jobs: int | None,
    progress: Callable[[int], object] | None,
    device: Any,
) -> knn.Neighbors:
    with knn.limit_threads(n_jobs):
        if plan is not None:
            n_threads = knn.n_threads()
            return ivf.search(
                vectors, k, plan, ranks, n_threads=n_threads, progress=progress
            )
        both, own = knn.Ranks(ranks, ranks), np.arange(len(vectors))
        if device is not None:
            return cuda.exact_neighbors(
                vectors, vectors, k, both, device=device, own=own, progress=progress
            )
        return knn.exact_neighbors(
            vectors, vectors, k, both, own=own, progress=progress
        )


def _none(vectors: np.ndarray) -> knn.Neighbors:
    shape = (len(vectors), 0)
    return knn.Neighbors(np.empty(shape, np.int32), np.empty(shape, np.float32))


class _Part(NamedTuple):
    """Vectors to be compared, and their numbers; the rest is as in `ivf.Part`."""

    vectors: np.ndarray
    numbers: np.ndarray
    ranks: np.ndarray
    own: Any = None
    first: int = 0
    stop: int = 0
    least: Any = None

    def with_lists(self) -> ivf.Part:
        return ivf.Part(
            self.vectors, self.ranks, self.own, self.first, self.stop, self.least
        )


def _as_part(vectors: np.ndarray, start: int, ranks: np.ndarray) -> _Part:
    numbers = np.arange(start, start + len(vectors), dtype=np.int32)
    return _Part(vectors, numbers, ranks[numbers])


def _merged(
    part: _Part, a: knn.Neighbors, b: knn.Neighbors, k: int, ranks: np.ndarray
) -> knn.Neighbors:
    return knn.merge(a, b, k, knn.Ranks(part.ranks, ranks))


def _by_lists(
    runner: Runner,
    shards: Shards,
    starts: Sequence[int],
    own: np.ndarray,
    lists: Any,
    n_jobs: int | None,
) -> list[Any]:
    """Parts of whole lists, so that rows are compared in products as large as ever."""
    ends = np.cumsum(np.bincount(own))
    shares = np.arange(1, len(shards.blocks)) * (own.size / len(shards.blocks))
    edges = np.unique([0, *np.searchsorted(ends, shares) + 1, ends.size]).tolist()
    pieces = [
        runner.call(_divided, block, a, runner.put(own[a:b]), edges)
        for block, (a, b) in zip(shards.blocks, pairwise(starts), strict=True)
    ]
    return [
        runner.call(
            _gathered,
            [runner.call(itemgetter(i), piece) for piece in pieces],
            *edge,
            lists,
            shards.everywhere,
            n_jobs,
        )
        for i, edge in enumerate(pairwise(edges))
    ]


def _divided(
    vectors: np.ndarray, start: int, own: np.ndarray, edges: Sequence[int]
) -> list[tuple[np.ndarray, np.ndarray, np.ndarray]]:
    """Give the rows of a block by the parts that their lists belong to."""
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
    ranks: np.ndarray,
    n_jobs: int | None,
) -> _Part:
    # The blocks follow one another, so that numbers ascend.
    vectors, numbers, own = map(np.concatenate, zip(*pieces, strict=True))
    with knn.limit_threads(n_jobs):
        least = ivf.least_scores(vectors, plan, n_threads=knn.n_threads())
    return _Part(vectors, numbers, ranks[numbers], own, first, stop, least)


def _by_blocks(
    runner: Runner, parts: Sequence[Any], tables: Sequence[Any], starts: Sequence[int]
) -> list[Any]:
    """Tables of the blocks of parts' tables."""
    pieces = [
        runner.call(_table_divided, part, table, starts)
        for part, table in zip(parts, tables, strict=True)
    ]
    return [
        runner.call(
            _table_gathered, [runner.call(itemgetter(i), piece) for piece in pieces]
        )
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
            both = knn.Ranks(part.ranks, part.ranks)
            found = knn.exact_neighbors(
                part.vectors, part.vectors, min(k, n - 1), both, own=np.arange(n)
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
            of_a, of_b = (
                knn.exact_neighbors(
                    one.vectors,
                    other.vectors,
                    min(k, len(other.vectors)),
                    knn.Ranks(one.ranks, other.ranks),
                )
                for one, other in ((a, b), (b, a))
            )
    return _numbered(of_a, b), _numbered(of_b, a)


def _numbered(found: knn.Neighbors, part: _Part) -> knn.Neighbors:
    """Give lists of numbers of all vectors, of those of places in a part."""
    ids = np.where(found.ids >= 0, part.numbers[found.ids], -1)
    return found._replace(ids=ids.astype(np.int32))


def _last(table: knn.Neighbors, k: int) -> np.ndarray:
    """Similarity of the k-th neighbour of each row; what any reaches, if fewer."""
    if table.ids.shape[1] < k:
        return np.full(len(table.ids), -1, dtype=np.float32)
    return np.where(table.ids[:, -1] >= 0, table.similarities[:, -1], np.float32(-1))


def measured(
    shards: Shards, tables: Sequence[Any], plan: ivf.Plan
) -> tuple[float, float]:
    """Give the recall of a search, on its plan's sample, and its lower 95% bound."""
    rows, places = shards.divide(plan.sample)
    found = shards.runner.fetch(
        [
            shards.runner.call(_rows_of, table, of_block)
            for table, of_block in zip(tables, rows, strict=True)
        ]
    )
    back = np.argsort(np.concatenate(places))
    ids, similarities = (
        np.concatenate(parts)[back] for parts in zip(*found, strict=True)
    )
    return ivf.measured(plan, ids, similarities)


def _rows_of(table: knn.Neighbors, rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    return table.ids[rows], table.similarities[rows]


def gather(runner: Runner, tables: Sequence[Any]) -> knn.Neighbors:
    """Give the lists of all blocks, in this process."""
    found = runner.fetch(tables, "Gather lists")
    if len(found) == 1:
        return found[0]
    return knn.Neighbors(
        np.concatenate([table.ids for table in found]),
        np.concatenate([table.similarities for table in found]),
    )
