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
from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import NamedTuple, Protocol

import numpy as np
import scipy.sparse as sp
from threadpoolctl import threadpool_limits

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

# Rows that each row is first compared with, for a bound on its last neighbour.
_NEAR_ROWS = 128
_ROWS_AT_ONCE = 2048
_SPREAD = 4096  # the same, of sampled rows
_STRIPE_ROWS = 4096
_ROWS_RANKED = 512
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
        """The fourth best, or last, score of each row."""
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
        """The vectors of these numbers."""

    def train(self, numbers: np.ndarray, axes: np.ndarray, n_lists: int) -> np.ndarray:
        """Centroids of lists of some vectors, projected to axes."""

    def assign(self, axes: np.ndarray, centroids: np.ndarray) -> np.ndarray:
        """The number of each vector's nearest centroid."""

    def nearest(self, numbers: np.ndarray, k: int) -> knn.Neighbors:
        """The true neighbours of some vectors among all."""


def make_plan(
    rows: Rows, k: int, *, target_recall: float, rng: np.random.RandomState
) -> Plan:
    """Make lists of vectors, wherever they are, and choose the slack.

    It is the smallest that reaches `target_recall` on sampled rows, with a margin, and
    whose lower 95% bound reaches it on others. Where no sample confirms it, because the
    rows are too few or the target is too near to 1, all pairs are to be compared.
    """
    tuning, slack = np.empty((0, k), dtype=np.float32), -np.inf
    with threadpool_limits(1, user_api="blas"):
        lists = _make_lists(rows, rng)
        shuffled = rng.permutation(rows.n)[: _SAMPLE_SIZE * _N_SAMPLES]
        for block in _blocks(shuffled.size, _SAMPLE_SIZE):
            sample = shuffled[block]
            truth = rows.nearest(sample, k)
            needed = _needed_slack(rows, lists, sample, truth.ids)
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
    kept, own = np.unique(rows.assign(axes, centroids), return_inverse=True)
    # Neighbouring lists get neighbouring numbers: tasks that share rows follow closely.
    order = _chain(centroids[kept])
    place = np.empty(order.size, dtype=np.int32)
    place[order] = np.arange(order.size)
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

    with knn.workers(n_threads) as parallel:
        for _ in range(_ITERATIONS):
            own = np.concatenate(list(parallel(nearest, _blocks(len(rows)))))
            members = sp.csr_array(
                (np.ones(own.size, dtype=np.float32), (own, np.arange(own.size))),
                shape=(n_lists, own.size),
            )
            centroids = knn.unit_rows(members @ rows)
    return centroids


def assign(
    vectors: np.ndarray,
    order: np.ndarray,
    axes: np.ndarray,
    centroids: np.ndarray,
    *,
    n_threads: int,
) -> np.ndarray:
    """The number of each vector's nearest centroid, in products in a given order.

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
        order = np.lexsort((falling << 32 | ties, numbers))
        numbers, ids, values = numbers[order], ids[order], values[order]
        place = np.arange(order.size) - np.searchsorted(numbers, numbers)
        kept = place < k + 1 + _SPARE
        return numbers[kept], ids[kept], values[kept], place[kept]

    def near(block: slice) -> tuple[np.ndarray, ...]:
        similarities = queries @ vectors[block].T
        numbers, ids = np.nonzero(similarities >= least[:, None])
        found = numbers, ids + block.start, similarities[numbers, ids]
        # Near copies are as many as that, and most are left out at once.
        many = numbers.size > 4 * (k + 1 + _SPARE) * len(queries)
        return best(*found)[:3] if many else found

    with knn.workers(n_threads) as parallel:
        some = np.concatenate(list(parallel(compare, _blocks(spread.size))), axis=1)
        least = _least_of_last(some, k)
        found = list(parallel(near, _blocks(len(vectors))))

    numbers, ids, _, place = best(*map(np.concatenate, zip(*found, strict=True)))
    candidates = np.full((len(queries), k + 1 + _SPARE), -1, dtype=np.int64)
    candidates[numbers, place] = ids
    return knn.Neighbors(*knn.rank(queries, vectors, candidates, k, ranks, own))


def _least_of_last(similarities: np.ndarray, k: int) -> np.ndarray:
    """What the k-th neighbour of each row reaches, given similarities to some others.

    They are reordered. Each row's to itself is, or may be, among them, of which there
    are more than k.
    """
    place = similarities.shape[1] - k - 1
    similarities.partition(place, axis=1)
    return similarities[:, place] - np.float32(_TOLERANCE)


def _needed_slack(
    rows: Rows, lists: Lists, sample: np.ndarray, neighbors: np.ndarray
) -> np.ndarray:
    """Slack that it takes to compare rows with given neighbours, of their shape."""
    forward = np.take_along_axis(
        lists.scores(rows.take(sample)), lists.own[neighbors], axis=1
    )
    towards = np.repeat(lists.own[sample], neighbors.shape[1])
    backward = np.empty(neighbors.size, dtype=np.float32)
    vectors = rows.take(neighbors.ravel())
    for block in _blocks(neighbors.size):
        scores = lists.scores(vectors[block])
        backward[block] = scores[np.arange(len(scores)), towards[block]]
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


class _Stripe:
    """Candidates of some neighbouring rows, of which the best are kept.

    A candidate is one integer: row, falling similarity, and a mixture of the numbers of
    both rows. Sorting the integers sorts by all three; the last is symmetric, as
    `knn.tie_order` is, for the same reason. They are written to `room`, where at least
    `keep` a row find place.
    """

    def __init__(self, start: int, stop: int, n: int, keep: int, room: np.ndarray):
        self.start, self.stop = start, stop
        self.keep, self.room = keep, room
        self.filled = 0
        self.id_bits = np.uint64(max(2, int(n - 1).bit_length()))
        self.row_shift = np.uint64(self.id_bits + np.uint64(_STEP_BITS))
        if int(self.row_shift) + int(stop - start - 1).bit_length() > 64:
            raise ValueError(
                f"algorithm='ivf' found a list of {stop - start} rows among {n}, more "
                "than it can tell apart. Use algorithm='hnsw'."
            )
        self.lock = threading.Lock()

    def keys(
        self, rows: np.ndarray, ids: np.ndarray, similarities: np.ndarray
    ) -> np.ndarray:
        steps = np.rint((np.float32(1) - similarities) * np.float32(_STEPS))
        keys = np.clip(steps, 0, 2**_STEP_BITS - 1).astype(np.uint64) << self.id_bits
        keys |= (rows - self.start).astype(np.uint64) << self.row_shift
        keys |= _mix((rows ^ ids).astype(np.uint64), self.id_bits)
        return keys

    def add(self, keys: np.ndarray, k: int, least: np.ndarray) -> None:
        """Take candidates in; where the room is full, select, and raise `least`."""
        with self.lock:
            while keys.size:
                if self.filled == self.room.size:
                    self.select(k, least)
                taken = keys[: self.room.size - self.filled]
                self.room[self.filled : self.filled + taken.size] = taken
                self.filled += taken.size
                keys = keys[taken.size :]

    def select(self, k: int, least: np.ndarray) -> None:
        keys = self.room[: self.filled]
        keys.sort()
        rows, starts = self._rows(keys)
        best = keys[np.arange(keys.size) - starts[rows] < self.keep]
        # The row itself is among them. The k-th best of some of the others is no
        # better than the k-th best of all.
        full = np.flatnonzero(np.diff(starts) > k)
        steps = keys[starts[full] + k] >> self.id_bits
        steps &= np.uint64(2**_STEP_BITS - 1)
        bounds = 1 - steps.astype(np.float32) / _STEPS - np.float32(_TOLERANCE)
        rows = self.start + full
        least[rows] = np.maximum(least[rows], bounds)
        self.filled = best.size
        self.room[: best.size] = best

    def table(self) -> np.ndarray:
        """Ids of the candidates kept, of shape (n_rows, keep), -1 for none."""
        keys = self.room[: self.filled]
        rows, starts = self._rows(keys)
        table = np.full((self.stop - self.start, self.keep), -1, dtype=np.int64)
        mixed = keys & ((np.uint64(1) << self.id_bits) - np.uint64(1))
        ids = _unmix(mixed, self.id_bits).astype(np.int64) ^ (rows + self.start)
        table[rows, np.arange(keys.size) - starts[rows]] = ids
        return table

    def _rows(self, keys: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Row of each of the sorted keys, and where each row starts."""
        rows = (keys >> self.row_shift).astype(np.int32)
        return rows, np.searchsorted(rows, np.arange(self.stop - self.start + 1))


def _mix(numbers: np.ndarray, bits: np.uint64) -> np.ndarray:
    """Shuffle the numbers of so many bits among themselves."""
    mask = (np.uint64(1) << bits) - np.uint64(1)
    for odd in _ODD:
        numbers = numbers * odd & mask
        numbers = numbers ^ (numbers >> _half(bits))
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
    """The least score of the lists that each row is to probe."""
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
    order = np.lexsort((ranks, lists.own)).astype(np.int32)
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
        scan = _Scan(vectors, k, probes, order, sizes, bounds, least, stripes)
        for size in parallel(scan, range(sizes.size)):
            if progress is not None:
                progress(size)

        del probes, scan
        ids = np.empty((n, k), dtype=np.int32)
        similarities = np.empty((n, k), dtype=np.float32)

        def rank(stripe: _Stripe) -> None:
            stripe.select(k, least)
            table = stripe.table()
            for block in _blocks(len(table), _ROWS_RANKED):
                own = order[stripe.start : stripe.stop][block]
                candidates = np.where(table[block] >= 0, order[table[block]], -1)
                ids[own], similarities[own] = knn.rank(
                    vectors[own],
                    vectors,
                    candidates.astype(np.int64),
                    k,
                    knn.Ranks(ranks[own], ranks),
                    own,
                )

        list(parallel(rank, stripes))
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
        probes[:, bytes_] = np.packbits(probed(order[block]).T, axis=1)

    list(parallel(probe, _blocks(n)))
    return probes


def _merge_mutual(
    probes: np.ndarray, sizes: np.ndarray, bounds: np.ndarray, parallel: knn.Parallel
) -> None:
    """Where two lists mostly probe each other, let one wholly probe the other instead.

    Otherwise the pairs whose rows probe each other's lists are compared twice.
    """
    n, n_lists = bounds[-1], sizes.size

    def count(number: int) -> np.ndarray:
        bits = np.unpackbits(probes[number], count=n)
        return np.add.reduceat(bits, bounds[:-1], dtype=np.int32)

    # [a, b]: how many rows of list a probe list b.
    counts = np.stack(list(parallel(count, range(n_lists))), axis=1)
    pairs = counts * sizes
    merged = pairs + pairs.T > np.multiply.outer(sizes, sizes)
    np.fill_diagonal(merged, False)
    numbers = np.arange(n_lists)
    first = numbers[:, None] < numbers
    # Half of the lists' pairs go one way, half the other: tasks of like size.
    even = (numbers[:, None] + numbers) % 2 == 0
    wholly = merged & (first == even)

    def rewrite(number: int) -> None:
        bits = np.unpackbits(probes[number], count=n).view(bool)
        bits &= ~np.repeat(merged[:, number], sizes)
        bits |= np.repeat(wholly[:, number], sizes)
        probes[number] = np.packbits(bits)

    list(parallel(rewrite, range(n_lists)))


def _first_bounds(
    vectors: np.ndarray,
    k: int,
    lists: Lists,
    order: np.ndarray,
    sizes: np.ndarray,
    bounds: np.ndarray,
    parallel: knn.Parallel,
) -> np.ndarray:
    """A similarity that the k-th neighbour of each row is known to reach."""
    least = np.empty(order.size, dtype=np.float32)
    wanted = max(_NEAR_ROWS, 3 * k)

    def compare(number: int) -> None:
        own = slice(bounds[number], bounds[number + 1])
        nearest = np.argsort(-(lists.centroids @ lists.centroids[number]))
        last = np.searchsorted(np.cumsum(sizes[nearest]), wanted) + 1
        near = np.concatenate(
            [order[bounds[a] : bounds[a + 1]] for a in nearest[:last]]
        )
        near_vectors = vectors[near].T
        for block in _blocks(sizes[number]):
            rows = order[own][block]
            least[own][block] = _least_of_last(vectors[rows] @ near_vectors, k)

    list(parallel(compare, range(sizes.size)))
    return least


def _make_stripes(bounds: np.ndarray, keep: int) -> list[_Stripe]:
    """Divide the rows between lists, into stripes of some thousand rows."""
    n = int(bounds[-1])
    edges = bounds[np.searchsorted(bounds, np.arange(0, n, _STRIPE_ROWS))]
    # One piece of memory, which goes back to the system as soon as it is not needed.
    room = np.empty((n, keep + _WAITING), dtype=np.uint64)
    return [
        _Stripe(start, stop, n, keep, room[start:stop].ravel())
        for start, stop in pairwise(np.unique(np.append(edges, n)).tolist())
    ]


class _Scan:
    """Compare the rows of a list with all that probe it."""

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
        self.list_of = np.repeat(np.arange(sizes.size, dtype=np.int32), sizes)
        self.stripes = stripes
        self.edges = np.array([stripe.start for stripe in stripes] + [order.size])
        self.memory = threading.local()

    def _room(self, name: str, shape: tuple[int, int]) -> np.ndarray:
        """A piece of memory of this thread: new memory is slower than the products."""
        size = shape[0] * shape[1]
        room = getattr(self.memory, name, None)
        if room is None or room.size < size:
            room = np.empty(size, dtype=np.float32)
            setattr(self.memory, name, room)
        return room[:size].reshape(shape)

    def __call__(self, number: int) -> int:
        own = slice(int(self.bounds[number]), int(self.bounds[number + 1]))
        vectors = self.vectors[self.order[own]].T
        bits = np.unpackbits(self.probes[number], count=self.order.size)
        rows = np.flatnonzero(bits).astype(np.int32)
        if np.isinf(self.least[own]).all():  # they are among near copies
            rows = rows[np.isfinite(self.least[rows])]
        stripe = self.stripes[np.searchsorted(self.edges, own.start, "right") - 1]
        for block in _blocks(rows.size):
            self._compare(rows[block], number, own, vectors, stripe)
        return own.stop - own.start

    def _compare(
        self,
        rows: np.ndarray,
        number: int,
        own: slice,
        vectors: np.ndarray,
        stripe: _Stripe,
    ) -> None:
        n_own = own.stop - own.start
        queries = self._room("queries", (rows.size, vectors.shape[0]))
        np.take(self.vectors, self.order[rows], axis=0, out=queries, mode="clip")
        similarities = self._room("similarities", (rows.size, n_own))
        np.matmul(queries, vectors, out=similarities)
        flat = similarities.ravel()

        near = np.flatnonzero(similarities >= self.least[rows][:, None])
        a, b = np.divmod(near, n_own)
        a, b, values = rows[a], b + own.start, flat[near]
        # Rows ascend, so that those of a stripe lie together.
        edges = np.searchsorted(a, self.edges)
        for i in np.flatnonzero(np.diff(edges)):
            part = slice(edges[i], edges[i + 1])
            keys = self.stripes[i].keys(a[part], b[part], values[part])
            self.stripes[i].add(keys, self.k, self.least)

        near = np.flatnonzero(similarities >= self.least[own])
        a, b = np.divmod(near, n_own)
        a, b, values = rows[a], b + own.start, flat[near]
        # Rows that probe the list of what probes theirs meet it there.
        bits = self.probes[self.list_of[a], b >> 3] >> (7 - (b & 7)).astype(np.uint8)
        other = (bits & 1) == 0
        if other.any():
            keys = stripe.keys(b[other], a[other], values[other])
            stripe.add(keys, self.k, self.least)
