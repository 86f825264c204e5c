"""Nearest neighbours of all rows among themselves, by inverted lists.

Rows are divided into lists of similar rows, by k-means on their first principal
components: an inverted file (Sivic and Zisserman, 2003; Jegou et al., 2011). A row
*probes* the lists whose centroids are most similar to it, and two rows are compared if
either probes the other's list. As the queries are the vectors themselves, a comparison
serves both rows, which about halves the pairs that a recall takes; and as all of them
are searched at once, they are compared list by list in products of matrices, by their
full vectors, with neither codes nor a second copy of them.

Whether two rows are compared follows from how near each is to the other's list. So for
rows whose true neighbours are known, the recall of a search is known before it.
"""

from __future__ import annotations

import threading
from bisect import bisect_left
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from itertools import pairwise
from typing import NamedTuple, Protocol

import numpy as np
import scipy.sparse as sp

from skleiden._kernels import knn  # noqa: TID251 (FAISS is there, and there alone)

# Principal components that lists are made of. More make no better lists, even of data
# in which these hold little of the variance (benchmarks/README.md).
_COMPONENTS = 128
_AXES_ROWS = 2048
_LISTS = 1 / 18  # times the number of rows to the power of 3/4
_TRAINING_ROWS = 64  # a list
_ITERATIONS = 8

# A row probes the lists whose scores fall short of its fourth best by at most some
# slack. Of all places tried, from the best to the 128th, and of a fixed number of
# lists, this took the fewest comparisons, or nearly, on all data.
_PLACE = 4

# Rows whose true neighbours are searched to choose the slack, and again as many to
# confirm it.
_SAMPLE_SIZE = 300
_N_SAMPLES = 8
# The choice leaves so many standard errors between the recall of its sample and the
# target: with 2.5, the lower 95% bound on the other sample holds three times in four.
_MARGIN = 2.5

# Rows that each row is first compared with, for a bound on its last neighbour: so many
# at least, three for each neighbour, and so many for each neighbour and root of the
# number of rows. More take longer than the candidates that they save.
_NEAR_ROWS, _NEAR_SHARE = 240, 1 / 28
_ROWS_AT_ONCE = 2048
_SPREAD = 4096  # the same, of sampled rows
_QUERIES_TOGETHER = 32
_STRIPE_ROWS = 4096
_ROWS_PROBED = 4096
# A block of a scan: about so many pairs, and at most so many rows.
_PAIRS_SCANNED, _ROWS_SCANNED = 2**19, 1024
_PAIRS_AT_ONCE = 2**17
_ROWS_RANKED = 2048
_LISTS_AT_ONCE = 8
_LISTS_AVERAGED = 64
# Candidates beyond those kept that there is room for, a row, before the best are
# selected among them.
_WAITING = 48
# Candidates kept beyond k, and how far below the k-th others are still looked at: more
# than single precision leaves uncertain.
_SPARE = 8
_TOLERANCE = 2e-6
# Rows whose k-th neighbour is so near to 1 are compared otherwise if very many others
# are as near; in so many tasks.
_NEAR_COPIES = 1e-4
_TASKS = 8
# Candidates are ordered by similarities of 21 bits, in this many steps a unit.
_STEPS = 2**20
_STEP_BITS = 21
# Multipliers of a hash, those of SplitMix64.
_ODD = (np.uint64(0xBF58476D1CE4E5B9), np.uint64(0x94D049BB133111EB))


class Lists(NamedTuple):
    """Inverted lists of n vectors of d columns.

    `axes` of shape (d, p) projects vectors to where `centroids`, of shape (n_lists, p),
    are; `own`, of shape (n,), is the list of each vector. No list is empty.
    """

    axes: np.ndarray
    centroids: np.ndarray
    own: np.ndarray

    def scores(self, rows: np.ndarray) -> np.ndarray:
        """How near each list is to each row, of shape (n_rows, n_lists).

        Relative to the row's fourth nearest list.
        """
        scores = (rows @ self.axes) @ self.centroids.T
        return scores - self.fourth(scores)[:, None]

    @staticmethod
    def fourth(scores: np.ndarray) -> np.ndarray:
        """Give the fourth best, or last, score of each row."""
        place = max(0, scores.shape[1] - _PLACE)
        return np.partition(scores, place, axis=1)[:, place]

    def probed(self, vectors: np.ndarray, own: np.ndarray, slack: float) -> np.ndarray:
        """Which lists rows of given own lists probe, of shape (n_rows, n_lists)."""
        probed = self.scores(vectors) >= -slack
        probed[np.arange(own.size), own] = True
        return probed


class Plan(NamedTuple):
    """Lists, which of them each row is to probe, and what that is expected to cost.

    A row probes its own list and those that it scores at least `-slack`, which may be
    below 0. `share` is the number of comparisons over that of all ordered pairs.
    `sample` are rows to measure recall on, `last` their true last neighbours'
    similarities.
    """

    lists: Lists
    slack: float
    share: float
    sample: np.ndarray
    last: np.ndarray


def _blocks(n: int, size: int = _ROWS_AT_ONCE) -> list[slice]:
    return knn.blocks(n, size)


# ------------------------------------------------------------------------------- plan


class Rows(Protocol):
    """Vectors that a plan is made of, wherever they are.

    Their numbers must not depend on where rows stand, as those of their ranks do not.
    """

    @property
    def n(self) -> int:
        """How many there are."""

    def take(self, numbers: np.ndarray) -> np.ndarray:
        """Give the vectors of these numbers."""

    def train(self, numbers: np.ndarray, axes: np.ndarray, n_lists: int) -> np.ndarray:
        """Centroids of lists of some vectors, projected to axes."""

    def assign(self, axes: np.ndarray, centroids: np.ndarray) -> np.ndarray:
        """Give the number of each vector's nearest centroid."""

    def nearest(self, numbers: np.ndarray, k: int) -> knn.Neighbors:
        """Give the true neighbours of some vectors among all."""


def make_plan(
    rows: Rows,
    k: int,
    *,
    target_recall: float,
    rng: np.random.RandomState,
    n_threads: int,
) -> Plan:
    """Make lists of vectors, wherever they are, and choose the slack.

    It is the smallest that reaches `target_recall` on sampled rows, with a margin, and
    whose lower 95% bound reaches it on others. Where no sample confirms it, because the
    rows are too few or the target is too near to 1, all pairs are to be compared.
    """
    tuning, slack = np.empty((0, k), dtype=np.float32), -np.inf
    with knn.workers(n_threads) as parallel:
        lists = _make_lists(rows, rng)
        shuffled = rng.permutation(rows.n)[: _SAMPLE_SIZE * _N_SAMPLES]
        for block in _blocks(shuffled.size, _SAMPLE_SIZE):
            sample = shuffled[block]
            truth = rows.nearest(sample, k)
            needed = _needed_slack(rows, lists, sample, truth.ids, parallel)
            if knn.recall_bound(needed <= slack) >= target_recall:
                break
            # What had a say in the choice cannot confirm it: others are drawn.
            tuning = np.concatenate([tuning, needed])
            # The search's products, of other shapes, may round otherwise.
            slack = _least_slack(tuning, target_recall) + _TOLERANCE
        else:
            slack = np.inf
        probed = lists.probed(rows.take(sample), lists.own[sample], slack)
    share = (probed @ np.bincount(lists.own)).mean() / rows.n
    return Plan(lists, slack, float(share), sample, truth.similarities[:, -1])


def _make_lists(rows: Rows, rng: np.random.RandomState) -> Lists:
    shuffled = rng.permutation(rows.n)
    some = rows.take(shuffled[:_AXES_ROWS])
    axes = np.ascontiguousarray(
        np.linalg.eigh(some.T @ some)[1][:, : -_COMPONENTS - 1 : -1]
    )
    n_lists = max(1, round(_LISTS * rows.n**0.75))
    centroids = rows.train(shuffled[: n_lists * _TRAINING_ROWS], axes, n_lists)
    own = rows.assign(axes, centroids)
    kept = np.flatnonzero(np.bincount(own))
    # Neighbouring lists get neighbouring numbers: tasks that share rows follow closely.
    order = _chain(centroids[kept])
    place = np.empty(n_lists, dtype=np.int32)
    place[kept[order]] = np.arange(order.size)
    return Lists(axes, np.ascontiguousarray(centroids[kept][order]), place[own])


def project(
    vectors: np.ndarray, numbers: np.ndarray, axes: np.ndarray, *, n_threads: int
) -> np.ndarray:
    """Products of some vectors with axes."""

    def block_of(block: slice) -> np.ndarray:
        return vectors[numbers[block]] @ axes

    with knn.workers(n_threads) as parallel:
        return np.concatenate(list(parallel(block_of, _blocks(numbers.size))))


def k_means(rows: np.ndarray, n_lists: int, *, n_threads: int) -> np.ndarray:
    """Centroids by spherical k-means (Dhillon and Modha, 2001)."""
    centroids = knn.unit_rows(rows[:n_lists])

    def nearest(block: slice) -> np.ndarray:
        return (rows[block] @ centroids.T).argmax(axis=1)

    def means(lists: slice) -> np.ndarray:
        return knn.unit_rows(members[lists] @ rows)

    with knn.workers(n_threads) as parallel:
        for _ in range(_ITERATIONS):
            own = np.concatenate(list(parallel(nearest, _blocks(len(rows)))))
            members = sp.csr_array(
                (np.ones(own.size, dtype=np.float32), (own, np.arange(own.size))),
                shape=(n_lists, own.size),
            )
            lists = _blocks(n_lists, _LISTS_AVERAGED)
            centroids = np.concatenate(list(parallel(means, lists)))
    return centroids


def assign(
    vectors: np.ndarray,
    order: np.ndarray,
    axes: np.ndarray,
    centroids: np.ndarray,
    *,
    n_threads: int,
) -> np.ndarray:
    """Give the number of each vector's nearest centroid, in products in a given order.

    The last bits of a product may depend on a row's place among the others.
    """
    own = np.empty(order.size, dtype=np.int64)

    def nearest(block: slice) -> None:
        rows = order[block]
        own[rows] = (vectors[rows] @ axes @ centroids.T).argmax(axis=1)

    with knn.workers(n_threads) as parallel:
        list(parallel(nearest, _blocks(order.size)))
    return own


def _chain(centroids: np.ndarray) -> np.ndarray:
    """Order in which each centroid is followed by the nearest of those left."""
    similarities = centroids @ centroids.T
    order = np.zeros(len(centroids), dtype=np.int64)
    for i in range(1, order.size):
        similarities[:, order[i - 1]] = -np.inf
        order[i] = similarities[order[i - 1]].argmax()
    return order


def true_neighbors(
    queries: np.ndarray,
    vectors: np.ndarray,
    k: int,
    ranks: knn.Ranks,
    *,
    own: np.ndarray,
    n_threads: int,
) -> knn.Neighbors:
    """Neighbours of some rows, by comparing with all, of which there are more than k.

    `own` are the queries' numbers among the vectors, -1 for other queries. For so few
    of them FAISS takes many times the time of the product of matrices.
    """
    spread = np.arange(0, len(vectors), max(1, len(vectors) // max(_SPREAD, 4 * k)))

    def compare(block: slice) -> np.ndarray:
        return queries @ vectors[spread[block]].T

    def best(
        numbers: np.ndarray, ids: np.ndarray, values: np.ndarray
    ) -> tuple[np.ndarray, ...]:
        """Of each query's entries, those to be ranked, in order, and their places."""
        ties = knn.tie_order(ranks.queries[numbers], ranks.vectors[ids])
        falling = 2**_STEP_BITS - np.rint(values * np.float32(_STEPS)).astype(np.int64)
        # One number that holds all that counts is sorted faster than two.
        first = numbers.min(initial=len(queries))
        order = np.argsort((numbers - first) << 54 | falling << 32 | ties)
        numbers, ids, values = numbers[order], ids[order], values[order]
        place = np.arange(order.size) - np.searchsorted(numbers, numbers)
        kept = place < k + 1 + _SPARE
        return numbers[kept], ids[kept], values[kept], place[kept]

    def near(block: slice) -> list[tuple[np.ndarray, ...]]:
        """Tell what is near to the queries among some vectors, by groups of queries."""
        similarities = queries @ vectors[block].T
        (pairs,) = (similarities >= least[:, None]).ravel().nonzero()
        numbers, ids = _entries(pairs, similarities.shape[1])
        values = similarities.ravel().take(pairs)
        ids += block.start
        edges = np.searchsorted(numbers, [group.start for group in groups])
        found = []
        for a, b in pairwise([*edges.tolist(), numbers.size]):
            some = numbers[a:b], ids[a:b], values[a:b]
            # Near copies are as many as that, and most are left out at once.
            many = b - a > 4 * (k + 1 + _SPARE) * _QUERIES_TOGETHER
            found.append(best(*some)[:3] if many else some)
        return found

    def bound(group: slice) -> np.ndarray:
        return _least_of_last(np.hstack([part[group] for part in some]), k)

    def rank(
        task: tuple[slice, Sequence[tuple[np.ndarray, ...]]],
    ) -> tuple[np.ndarray, np.ndarray]:
        group, found = task
        numbers, ids, _, place = best(*map(np.concatenate, zip(*found, strict=True)))
        shape = group.stop - group.start, k + 1 + _SPARE
        candidates = np.full(shape, -1, dtype=np.int64)
        candidates[numbers - group.start, place] = ids
        of_group = ranks._replace(queries=ranks.queries[group])
        return knn.rank(queries[group], vectors, candidates, k, of_group, own[group])

    groups = _blocks(len(queries), _QUERIES_TOGETHER)
    with knn.workers(n_threads) as parallel:
        some = list(parallel(compare, _blocks(spread.size)))
        least = np.concatenate(list(parallel(bound, groups)))
        found = list(parallel(near, _blocks(len(vectors))))
        tasks = zip(groups, zip(*found, strict=True), strict=True)
        lists = list(parallel(rank, tasks))
    ids, similarities = map(np.concatenate, zip(*lists, strict=True))
    return knn.Neighbors(ids, similarities)


def _least_of_last(similarities: np.ndarray, k: int) -> np.ndarray:
    """Bound what the k-th neighbour of each row reaches, by similarities to some rows.

    They are reordered. Each row's to itself is, or may be, among them, of which there
    are more than k.
    """
    place = similarities.shape[1] - k - 1
    similarities.partition(place, axis=1)
    return similarities[:, place] - np.float32(_TOLERANCE)


def _needed_slack(
    rows: Rows,
    lists: Lists,
    sample: np.ndarray,
    neighbors: np.ndarray,
    parallel: knn.Parallel,
) -> np.ndarray:
    """Slack that it takes to compare rows with given neighbours, of their shape."""
    forward = np.take_along_axis(
        lists.scores(rows.take(sample)), lists.own[neighbors], axis=1
    )
    towards = np.repeat(lists.own[sample], neighbors.shape[1])
    backward = np.empty(neighbors.size, dtype=np.float32)
    vectors = rows.take(neighbors.ravel())

    def score(block: slice) -> None:
        scores = lists.scores(vectors[block])
        backward[block] = scores[np.arange(len(scores)), towards[block]]

    list(parallel(score, _blocks(neighbors.size)))
    needed = -np.maximum(forward, backward.reshape(neighbors.shape))
    needed[lists.own[sample][:, None] == lists.own[neighbors]] = -np.inf
    return needed


def _least_slack(needed: np.ndarray, target_recall: float) -> float:
    choices = np.sort(needed, axis=None)
    least = bisect_left(
        range(choices.size - 1),
        True,
        key=lambda i: knn.recall_bound(needed <= choices[i], _MARGIN) >= target_recall,
    )
    return float(choices[least])


# ----------------------------------------------------------------------------- search


class _Code(NamedTuple):
    """Candidates as integers, which sort by all that counts.

    A candidate is a row's place in its stripe, from bit `row_shift` up, its falling
    similarity, and a mixture of the numbers of both rows, of `id_bits`. The last is
    symmetric, as `knn.tie_order` is, for the same reason.
    """

    id_bits: np.uint64
    row_shift: np.uint64

    @classmethod
    def of(cls, n: int, longest: int) -> _Code:
        """Give that of n rows in stripes of at most so many."""
        id_bits = np.uint64(max(2, int(n - 1).bit_length()))
        row_shift = np.uint64(id_bits + np.uint64(_STEP_BITS))
        if int(row_shift) + int(longest - 1).bit_length() > 64:
            raise ValueError(
                f"algorithm='ivf' found a list of {longest} rows among {n}, more "
                "than it can tell apart. Use algorithm='hnsw'."
            )
        return cls(id_bits, row_shift)

    def heads(self, places: np.ndarray) -> np.ndarray:
        """Tell what keys of rows at these places of their stripes begin with."""
        return places.astype(np.uint64) << self.row_shift

    def tails(
        self, rows: np.ndarray, ids: np.ndarray, similarities: np.ndarray
    ) -> np.ndarray:
        """Make the rest of the keys of pairs of rows, whichever they are for."""
        steps = np.float32(1) - similarities
        steps *= np.float32(_STEPS)
        np.rint(steps, out=steps)
        np.maximum(steps, np.float32(0), out=steps)
        np.minimum(steps, np.float32(2**_STEP_BITS - 1), out=steps)
        keys = steps.astype(np.uint64)
        keys <<= self.id_bits
        keys |= _mix((rows ^ ids).astype(np.uint64, copy=False), self.id_bits)
        return keys

    def rows(self, keys: np.ndarray) -> np.ndarray:
        """Places of the rows of keys in their stripe."""
        return (keys >> self.row_shift).astype(np.int32)

    def steps(self, keys: np.ndarray) -> np.ndarray:
        """Falling similarities of keys."""
        return (keys >> self.id_bits) & np.uint64(2**_STEP_BITS - 1)

    def ids(self, keys: np.ndarray, rows: np.ndarray) -> np.ndarray:
        """Numbers of the others of keys, those of whose rows are given."""
        mixed = keys & ((np.uint64(1) << self.id_bits) - np.uint64(1))
        return _unmix(mixed, self.id_bits).astype(np.int64) ^ rows


class _Stripe:
    """Candidates of some neighbouring rows, of which the best are kept.

    They are written to `room`, where at least `keep` a row find place.
    """

    def __init__(
        self, start: int, stop: int, code: _Code, keep: int, room: np.ndarray
    ) -> None:
        self.start, self.stop, self.code = start, stop, code
        self.keep, self.room = keep, room
        self.filled = 0
        self.waiting: deque[np.ndarray] = deque()
        self.lock = threading.Lock()

    def add(self, keys: np.ndarray, k: int, least: np.ndarray) -> None:
        """Take candidates in; where the room is full, select, and raise `least`."""
        self.waiting.append(keys)
        # No thread waits for another: who has the lock takes in what others leave, and
        # looks again when it is free.
        while self.waiting and self.lock.acquire(blocking=False):
            try:
                while self.waiting:
                    self._take_in(self.waiting.popleft(), k, least)
            finally:
                self.lock.release()

    def _take_in(self, keys: np.ndarray, k: int, least: np.ndarray) -> None:
        while keys.size:
            if self.filled == self.room.size:
                self.select(k, least)
            taken = keys[: self.room.size - self.filled]
            self.room[self.filled : self.filled + taken.size] = taken
            self.filled += taken.size
            keys = keys[taken.size :]

    def select(self, k: int, least: np.ndarray) -> None:
        """Keep the best candidates, sorted, and raise `least`."""
        keys = self.room[: self.filled]
        keys.sort()
        rows = self.code.rows(keys)
        starts = self._starts(rows, self.start, self.stop)
        best = keys[np.arange(keys.size) - starts[rows] < self.keep]
        # The row itself is among them. The k-th best of some of the others is no
        # better than the k-th best of all.
        full = np.flatnonzero(np.diff(starts) > k)
        steps = self.code.steps(keys[starts[full] + k])
        bounds = 1 - steps.astype(np.float32) / _STEPS - np.float32(_TOLERANCE)
        rows = self.start + full
        least[rows] = np.maximum(least[rows], bounds)
        self.filled = best.size
        self.room[: best.size] = best

    def table(self, start: int, stop: int) -> np.ndarray:
        """Ids of the candidates selected for some rows, of shape (n_rows, keep).

        -1 stands for none.
        """
        places = self.code.rows(self.room[: self.filled])
        starts = self._starts(places, start, stop)
        own = slice(starts[0], starts[-1])
        keys, rows = self.room[own], places[own] - (start - self.start)
        table = np.full((stop - start, self.keep), -1, dtype=np.int64)
        columns = np.arange(starts[0], starts[-1]) - starts[rows]
        table[rows, columns] = self.code.ids(keys, rows + start)
        return table

    def blocks(self) -> list[slice]:
        """Its rows, so many at once as are ranked together."""
        return [
            slice(self.start + rows.start, self.start + rows.stop)
            for rows in _blocks(self.stop - self.start, _ROWS_RANKED)
        ]

    def _starts(self, places: np.ndarray, start: int, stop: int) -> np.ndarray:
        """Where the keys of each of some rows start, and where those of the last end.

        `places` are those of the rows of all sorted keys.
        """
        wanted = np.arange(start - self.start, stop - self.start + 1, dtype=np.int32)
        return np.searchsorted(places, wanted)


def _mix(numbers: np.ndarray, bits: np.uint64) -> np.ndarray:
    """Shuffle the numbers of so many bits among themselves."""
    mask, half = (np.uint64(1) << bits) - np.uint64(1), _half(bits)
    for odd in _ODD:
        numbers = numbers * odd
        numbers &= mask
        numbers ^= numbers >> half
    return numbers


def _unmix(mixed: np.ndarray, bits: np.uint64) -> np.ndarray:
    """Undo `_mix`."""
    mask = (np.uint64(1) << bits) - np.uint64(1)
    for odd in reversed(_ODD):
        mixed = mixed ^ (mixed >> _half(bits))
        mixed = mixed * np.uint64(pow(int(odd), -1, 2**64)) & mask
    return mixed


def _half(bits: np.uint64) -> np.uint64:
    # From half on a shift is undone by itself.
    return (bits + np.uint64(1)) // np.uint64(2)


def search(
    vectors: np.ndarray,
    k: int,
    plan: Plan,
    ranks: np.ndarray,
    *,
    n_threads: int,
    progress: Callable[[int], object] | None = None,
) -> knn.Neighbors:
    """Approximate neighbours of all vectors, at least at the recall planned for."""
    lists = plan.lists

    def probed(rows: np.ndarray) -> np.ndarray:
        return lists.probed(vectors[rows], lists.own[rows], plan.slack)

    return knn.Neighbors(
        *_search(
            vectors,
            k,
            lists,
            probed,
            None,
            ranks,
            [slice(0, len(vectors))],
            n_threads,
            progress,
        )
    )


def measured(
    plan: Plan, ids: np.ndarray, similarities: np.ndarray
) -> tuple[float, float]:
    """Recall, and its lower 95% bound, of lists found for the sample of a plan."""
    # By similarity: another neighbour at the same distance is no error.
    hits = (ids >= 0) & (similarities >= plan.last[:, None])
    return float(hits.mean()), knn.recall_bound(hits)


class Part(NamedTuple):
    """Rows of neighbouring lists, numbers `first` up to `stop`, to search part by part.

    `vectors` of shape (n, d); of each row, its rank, its list `own`, and the `least`
    score of the lists that it probes.
    """

    vectors: np.ndarray
    ranks: np.ndarray
    own: np.ndarray
    first: int
    stop: int
    least: np.ndarray


def least_scores(vectors: np.ndarray, plan: Plan, *, n_threads: int) -> np.ndarray:
    """Give the least score of the lists that each row is to probe."""
    lists = plan.lists

    def least(block: slice) -> np.ndarray:
        scores = (vectors[block] @ lists.axes) @ lists.centroids.T
        return lists.fourth(scores) - np.float32(plan.slack)

    with knn.workers(n_threads) as parallel:
        return np.concatenate(list(parallel(least, _blocks(len(vectors)))))


def search_parts(
    parts: Sequence[Part],
    k: int,
    lists: Lists,
    last: Sequence[np.ndarray] | None = None,
    *,
    n_threads: int,
) -> list[knn.Neighbors]:
    """Part of a search: among the rows of one part, or between those of two.

    Parameters
    ----------
    parts : one or two Parts
        Of more than k rows; of two, rows are compared with those of the other only.

    k : int

    lists : Lists
        Those of all parts together.

    last : two ndarrays of shape (n_rows,), or None
        What the last of k neighbours found elsewhere reaches: what is less similar
        may be left out.

    Returns
    -------
    list of Neighbors
        Of each part's rows; the ids are those of rows of the other one of two.
    """
    vectors, ranks, own, least_score = (
        np.concatenate(arrays) if len(arrays) > 1 else arrays[0]
        for arrays in zip(
            *((p.vectors, p.ranks, p.own, p.least) for p in parts), strict=True
        )
    )
    numbers = np.concatenate([np.arange(p.first, p.stop) for p in parts])
    centroids = lists.centroids[numbers]
    # All lists differ, and those of a part follow one another.
    place = np.full(len(lists.centroids), -1, dtype=np.int32)
    place[numbers] = np.arange(numbers.size)
    own = place[own]
    n, n_lists = len(parts[0].vectors), parts[0].stop - parts[0].first

    def probed(rows: np.ndarray) -> np.ndarray:
        scores = (vectors[rows] @ lists.axes) @ centroids.T
        probed = scores >= least_score[rows, None]
        if len(parts) == 1:
            probed[np.arange(rows.size), own[rows]] = True
        else:
            ours = np.arange(numbers.size) < n_lists
            probed &= (rows < n)[:, None] != ours
        return probed

    least = None if last is None else np.concatenate(last) - np.float32(_TOLERANCE)
    ends = np.cumsum([0, *(len(part.vectors) for part in parts)])
    sides = [slice(a, b) for a, b in pairwise(ends.tolist())]
    ids, similarities = _search(
        vectors,
        k,
        Lists(lists.axes, centroids, own),
        probed,
        least,
        ranks,
        sides,
        n_threads,
        None,
    )
    if len(parts) == 1:
        return [knn.Neighbors(ids, similarities)]
    other = np.where(ids[:n] >= 0, ids[:n] - n, -1)
    return [
        knn.Neighbors(other, similarities[:n]),
        knn.Neighbors(ids[n:], similarities[n:]),
    ]


def _search(
    vectors: np.ndarray,
    k: int,
    lists: Lists,
    probed: Callable[[np.ndarray], np.ndarray],
    least: np.ndarray | None,
    ranks: np.ndarray,
    sides: Sequence[slice],
    n_threads: int,
    progress: Callable[[int], object] | None,
) -> tuple[np.ndarray, np.ndarray]:
    """Compare all rows with the lists that they probe. No list is empty.

    `least` is a similarity that the k-th neighbour of each row is known to reach. Of
    two `sides`, rows of one are compared with those of the other.
    """
    n = vectors.shape[0]
    # From here on rows go by their places in the order of the lists.
    order = np.argsort(lists.own.astype(np.int64) << 32 | ranks).astype(np.int32)
    sizes = np.bincount(lists.own, minlength=len(lists.centroids))
    bounds = np.append(0, np.cumsum(sizes)).astype(np.int32)
    with knn.workers(n_threads) as parallel:
        probes = _probes(probed, sizes.size, order, parallel)
        _merge_mutual(probes, sizes, bounds, parallel)
        if least is None:
            least = _first_bounds(vectors, k, lists, order, sizes, bounds, parallel)
        else:
            least = least[order]
        copies = _among_copies(vectors, k, order, least, ranks, sides, parallel)
        least[copies.rows] = np.inf
        stripes = _make_stripes(bounds, k + 1 + _SPARE)
        # The system gives memory when it is first written to, which takes long: here it
        # does so for all threads at once, and not while one of them has Python's lock.
        list(parallel(lambda stripe: stripe.room.fill(0), stripes))
        scan = _Scan(vectors, k, probes, order, sizes, bounds, least, stripes)
        for size in parallel(scan, range(sizes.size)):
            if progress is not None:
                progress(size)

        del probes, scan
        list(parallel(lambda stripe: stripe.select(k, least), stripes))
        ids = np.empty((n, k), dtype=np.int32)
        similarities = np.empty((n, k), dtype=np.float32)
        numbers = np.append(order, -1).astype(np.int64)  # -1 stands for none

        def rank(task: tuple[_Stripe, slice]) -> None:
            stripe, rows = task
            own = order[rows]
            ids[own], similarities[own] = knn.rank(
                vectors[own],
                vectors,
                numbers.take(stripe.table(rows.start, rows.stop)),
                k,
                knn.Ranks(ranks[own], ranks),
                own,
            )

        list(parallel(rank, [(one, rows) for one in stripes for rows in one.blocks()]))
    own = order[copies.rows]
    ids[own], similarities[own] = copies.ids, copies.similarities
    return ids, similarities


class _Copies(NamedTuple):
    """Lists of rows, by their places in the order of the lists."""

    rows: np.ndarray
    ids: np.ndarray
    similarities: np.ndarray


def _among_copies(
    vectors: np.ndarray,
    k: int,
    order: np.ndarray,
    least: np.ndarray,
    ranks: np.ndarray,
    sides: Sequence[slice],
    parallel: knn.Parallel,
) -> _Copies:
    """Neighbours of rows that are all but equal to very many others.

    All pairs of these would have to be kept, to see which come first among ties.
    """
    near = np.flatnonzero(least >= 1 - _NEAR_COPIES)

    def search(task: tuple[slice, np.ndarray]) -> _Copies:
        there, rows = task
        own = order[rows]
        found = knn.first_of_ties(
            vectors[own],
            vectors[there],
            least[rows],
            k,
            knn.Ranks(ranks[own], ranks[there]),
            own if len(sides) == 1 else None,
            enough=1,
        )
        many = found[0][:, -1] >= 0
        rows, own = rows[many], own[many]
        ids, similarities = (table[many] for table in found)
        knn.complete(
            ids,
            similarities,
            vectors[own],
            vectors[there],
            least[rows],
            knn.Ranks(ranks[own], ranks[there]),
            own if len(sides) == 1 else None,
        )
        return _Copies(rows, ids + there.start, similarities)

    tasks = []
    for side, there in zip(sides, reversed(sides), strict=True):
        own = order[near]
        rows = near[(own >= side.start) & (own < side.stop)]
        size = max(_ROWS_AT_ONCE, rows.size // _TASKS + 1)
        tasks += [(there, rows[block]) for block in _blocks(rows.size, size)]
    none = _Copies(near[:0], np.empty((0, k), np.int32), np.empty((0, k), np.float32))
    found = [none, *parallel(search, tasks)]
    return _Copies(*map(np.concatenate, zip(*found, strict=True)))


def _probes(
    probed: Callable[[np.ndarray], np.ndarray],
    n_lists: int,
    order: np.ndarray,
    parallel: knn.Parallel,
) -> np.ndarray:
    """Bit matrix of shape (n_lists, n): which lists each row probes."""
    n = order.size
    probes = np.empty((n_lists, (n + 7) // 8), dtype=np.uint8)

    def probe(block: slice) -> None:
        # Blocks are of whole bytes.
        bytes_ = slice(block.start // 8, (block.stop + 7) // 8)
        # Contiguous, or NumPy packs them slowly, and under Python's lock.
        bits = np.ascontiguousarray(probed(order[block]).T)
        probes[:, bytes_] = np.packbits(bits, axis=1)

    list(parallel(probe, _blocks(n, _ROWS_PROBED)))
    return probes


def _merge_mutual(
    probes: np.ndarray, sizes: np.ndarray, bounds: np.ndarray, parallel: knn.Parallel
) -> None:
    """Where two lists mostly probe each other, let one wholly probe the other instead.

    Otherwise the pairs whose rows probe each other's lists are compared twice.
    """
    n, n_lists = bounds[-1], sizes.size
    list_of = np.repeat(np.arange(n_lists), sizes)
    tasks = _blocks(n_lists, _LISTS_AT_ONCE)
    # [b, a]: how many rows of list a probe list b.
    counts = np.empty((n_lists, n_lists), dtype=np.int32)

    def count(lists: slice) -> None:
        bits = np.unpackbits(probes[lists], axis=1, count=n)
        np.add.reduceat(bits, bounds[:-1], axis=1, dtype=np.int32, out=counts[lists])

    list(parallel(count, tasks))
    pairs = counts * sizes[:, None]
    merged = pairs + pairs.T > np.multiply.outer(sizes, sizes)
    np.fill_diagonal(merged, False)
    numbers = np.arange(n_lists)
    first = numbers < numbers[:, None]
    # Half of the lists' pairs go one way, half the other: tasks of like size.
    even = (numbers[:, None] + numbers) % 2 == 0
    wholly = merged & (first == even)

    def rewrite(lists: slice) -> None:
        bits = np.unpackbits(probes[lists], axis=1, count=n).view(bool)
        bits &= ~merged[lists].take(list_of, axis=1)
        bits |= wholly[lists].take(list_of, axis=1)
        probes[lists] = np.packbits(bits, axis=1)

    list(parallel(rewrite, tasks))


def _first_bounds(
    vectors: np.ndarray,
    k: int,
    lists: Lists,
    order: np.ndarray,
    sizes: np.ndarray,
    bounds: np.ndarray,
    parallel: knn.Parallel,
) -> np.ndarray:
    """Give a similarity that the k-th neighbour of each row is known to reach."""
    least = np.empty(order.size, dtype=np.float32)
    wanted = max(_NEAR_ROWS, round(max(3, _NEAR_SHARE * order.size**0.5) * k))

    def compare(some: slice) -> None:
        nearest = np.argsort(-(lists.centroids[some] @ lists.centroids.T), axis=1)
        n_near = (np.cumsum(sizes[nearest], axis=1) < wanted).sum(axis=1) + 1
        for number, of_list, last in zip(
            range(some.start, some.stop), nearest.tolist(), n_near.tolist(), strict=True
        ):
            near = [order[bounds[a] : bounds[a + 1]] for a in of_list[:last]]
            near_vectors = vectors.take(np.concatenate(near), axis=0).T
            for block in _blocks(int(sizes[number])):
                own = slice(bounds[number] + block.start, bounds[number] + block.stop)
                rows = vectors.take(order[own], axis=0)
                least[own] = _least_of_last(rows @ near_vectors, k)

    list(parallel(compare, _blocks(sizes.size, _LISTS_AT_ONCE)))
    return least


def _make_stripes(bounds: np.ndarray, keep: int) -> list[_Stripe]:
    """Divide the rows between lists, into stripes of some thousand rows."""
    n = int(bounds[-1])
    edges = bounds[np.searchsorted(bounds, np.arange(0, n, _STRIPE_ROWS))]
    edges = np.unique(np.append(edges, n))
    code = _Code.of(n, int(np.diff(edges).max()))
    # One piece of memory, which goes back to the system as soon as it is not needed.
    room = np.empty((n, keep + _WAITING), dtype=np.uint64)
    return [
        _Stripe(start, stop, code, keep, room[start:stop].ravel())
        for start, stop in pairwise(edges.tolist())
    ]


def _entries(numbers: np.ndarray, n_columns: int) -> tuple[np.ndarray, np.ndarray]:
    """Rows and columns of numbered entries of a matrix, faster than by a division."""
    rows = numbers // n_columns
    return rows, numbers - rows * n_columns


class _Scan:
    """Compare the rows of a list with all that probe it.

    Python's lock is taken for few and long steps: whatever is done for each pair or
    candidate is one call of NumPy for all of a block, which releases the lock.
    """

    def __init__(
        self,
        vectors: np.ndarray,
        k: int,
        probes: np.ndarray,
        order: np.ndarray,
        sizes: np.ndarray,
        bounds: np.ndarray,
        least: np.ndarray,
        stripes: list[_Stripe],
    ) -> None:
        self.vectors, self.k, self.probes = vectors, k, probes
        self.order, self.bounds, self.least = order, bounds, least
        self.copies = np.isinf(least)
        self.list_of = np.repeat(np.arange(sizes.size, dtype=np.int32), sizes)
        self.stripes, self.code = stripes, stripes[0].code
        self.edges = np.array([stripe.start for stripe in stripes] + [order.size])
        self.stripe_starts = np.repeat(self.edges[:-1], np.diff(self.edges))
        self.memory = threading.local()

    def _room(self, name: str, shape: tuple[int, int], dtype: type) -> np.ndarray:
        """Give memory of this thread: new memory is slower than the products."""
        size = shape[0] * shape[1]
        room = getattr(self.memory, name, None)
        if room is None or room.size < size:
            room = np.empty(size, dtype=dtype)
            setattr(self.memory, name, room)
        return room[:size].reshape(shape)

    def __call__(self, number: int) -> int:
        own = slice(int(self.bounds[number]), int(self.bounds[number + 1]))
        bits = np.unpackbits(self.probes[number], count=self.order.size)
        (rows,) = bits.view(bool).nonzero()
        if self.copies[own].all():  # they are among near copies
            rows = rows[~self.copies[rows]]
        # What others raise meanwhile would spare few candidates.
        least_of_rows = self.least.take(rows)[:, None]
        least_of_own = self.least[own].copy()
        for pairs, similarities in self._compare(
            rows, own, least_of_rows, least_of_own
        ):
            places, columns = _entries(pairs, own.stop - own.start)
            for_rows = similarities >= least_of_rows.ravel().take(places)
            for_own = similarities >= least_of_own.take(columns)
            columns += own.start
            others = rows.take(places)
            tails = self.code.tails(others, columns, similarities)
            (found,) = for_rows.nonzero()
            self._add_to_rows(rows, places.take(found), tails.take(found))
            (found,) = for_own.nonzero()
            self._add_to_own(
                own, columns.take(found), others.take(found), tails.take(found)
            )
        return own.stop - own.start

    def _compare(
        self,
        rows: np.ndarray,
        own: slice,
        least_of_rows: np.ndarray,
        least_of_own: np.ndarray,
    ) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """Pairs of rows and those of a list that are candidates of one of the two.

        Gives, many at once, their numbers in the matrix of all pairs, and similarities.
        """
        numbers = self.order.take(rows)
        vectors = self.vectors.take(self.order[own], axis=0).T
        d, n_own = vectors.shape
        size = max(1, min(_PAIRS_SCANNED // n_own, _ROWS_SCANNED, rows.size))
        room = self._room("queries", (size, d), np.float32)
        products = self._room("products", (size, n_own), np.float32)
        mask = self._room("mask", (size, n_own), np.bool_)
        mask_of_own = self._room("mask_of_own", (size, n_own), np.bool_)
        found: list[np.ndarray] = []
        values: list[np.ndarray] = []
        n_found = 0
        for block in _blocks(rows.size, size):
            n = block.stop - block.start
            queries, similarities = room[:n], products[:n]
            near, near_own = mask[:n], mask_of_own[:n]
            self.vectors.take(numbers[block], axis=0, out=queries, mode="clip")
            np.matmul(queries, vectors, out=similarities)
            np.greater_equal(similarities, least_of_rows[block], out=near)
            np.greater_equal(similarities, least_of_own, out=near_own)
            np.logical_or(near, near_own, out=near)
            (pairs,) = near.ravel().nonzero()
            values.append(similarities.ravel().take(pairs))
            pairs += block.start * n_own
            found.append(pairs)
            n_found += pairs.size
            if n_found >= _PAIRS_AT_ONCE or block.stop == rows.size:
                yield np.concatenate(found), np.concatenate(values)
                found, values, n_found = [], [], 0

    def _add_to_rows(
        self, rows: np.ndarray, places: np.ndarray, tails: np.ndarray
    ) -> None:
        """Hand candidates to the stripes of the rows at these places."""
        heads = self.code.heads(rows - self.stripe_starts.take(rows))
        tails |= heads.take(places)
        # Rows ascend, so that those of a stripe lie together.
        cuts = rows.searchsorted(self.edges)
        ends = places.searchsorted(cuts)
        (touched,) = np.diff(ends).nonzero()
        edges = ends.tolist()
        for i in touched.tolist():
            self.stripes[i].add(tails[edges[i] : edges[i + 1]], self.k, self.least)

    def _add_to_own(
        self, own: slice, ids: np.ndarray, others: np.ndarray, tails: np.ndarray
    ) -> None:
        """Hand candidates to the stripe of a list's rows, with these numbers.

        But for others that probe their list and are in one that they probe: there these
        meet them.
        """
        bits = self.probes[self.list_of.take(others), ids >> 3]
        bits >>= (7 - (ids & 7)).astype(np.uint8)
        (met_here,) = ((bits & 1) == 0).nonzero()
        stripe = self.stripes[self.edges.searchsorted(own.start, "right") - 1]
        heads = self.code.heads(ids.take(met_here) - stripe.start)
        heads |= tails.take(met_here)
        stripe.add(heads, self.k, self.least)
