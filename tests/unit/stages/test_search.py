"""The search: what it chooses, and vectors in blocks, compared pair by pair."""

from contextlib import nullcontext
from itertools import pairwise
from types import SimpleNamespace

import numpy as np
import pytest
from numpy.testing import assert_array_equal
from sklearn.utils._param_validation import validate_parameter_constraints

from skleiden import FaissKNeighborsTransformer
from skleiden._blocks.runner import Local
from skleiden._kernels import ivf, knn
from skleiden._stages import search
from skleiden._stages.plan import RowsOfShards
from tests.checks import brute_neighbors

SIZES = [[60], [30, 30], [20, 3, 1, 36], [1, 59], [13, 12, 35]]


def asking(**parameters):
    usual = {
        "n_neighbors": 5,
        "algorithm": "auto",
        "target_recall": 0.95,
        "hnsw_m": 16,
        "ef_construction": 50,
        "ef_search": 50,
        "random_state": 0,
        "n_jobs": 1,
        "verbose": 0,
    }
    return search.NeighborSearch(**usual | parameters)


def gathered(tables):
    return search.gather(Local(), tables)


# --- vectors in blocks ----------------------------------------------------------------


@pytest.mark.parametrize("k", [1, 5, 55])
@pytest.mark.parametrize("sizes", SIZES)
def test_exact_neighbours_do_not_depend_on_blocks(directions, blocked, sizes, k):
    distinct = blocked(directions, sizes)
    found = gathered(search.search(distinct.vectors, k, None, 1))
    vectors = directions[distinct.first]
    ids, similarities = brute_neighbors(vectors, k)
    np.testing.assert_allclose(found.similarities, similarities, atol=2e-6)
    assert (found.ids == ids).mean() > 0.99
    one = blocked(directions, [60])
    whole = gathered(search.search(one.vectors, k, None, 1))
    assert_array_equal(found.ids, whole.ids)
    assert_array_equal(found.similarities, whole.similarities)


@pytest.mark.parametrize("sizes", SIZES)
def test_lists_that_probe_all_find_all(directions, blocked, sizes):
    distinct = blocked(directions, sizes)
    exact = gathered(search.search(distinct.vectors, 5, None, 1))
    order = np.argsort(distinct.ranks)
    rows = RowsOfShards(distinct.vectors, order, 1)
    plan = plan_of(rows, order, distinct.ranks, slack=1e3)
    found = gathered(search.search(distinct.vectors, 5, plan, 1))
    assert_array_equal(found.ids, exact.ids)
    assert_array_equal(found.similarities, exact.similarities)


def plan_of(rows, order, ranks, slack):
    """A plan of four lists by the first axes."""
    n = rows.n
    vectors = rows.take(np.arange(n))
    axes = np.eye(8, 4, dtype=np.float32)
    own = (vectors @ axes).argmax(axis=1).astype(np.int32)
    lists = ivf.Lists(axes, np.eye(4, dtype=np.float32), own[ranks])
    truth = rows.nearest(np.arange(n), 5)
    return ivf.Plan(lists, slack, 0.25, order[np.arange(n)], truth.similarities[:, -1])


@pytest.mark.parametrize("slack", [-np.inf, -10.0, 0.0, 0.3])
@pytest.mark.parametrize("sizes", SIZES)
def test_rows_find_those_in_lists_that_either_probes(directions, blocked, sizes, slack):
    distinct = blocked(directions, sizes)
    order = np.argsort(distinct.ranks)
    rows = RowsOfShards(distinct.vectors, order, 1)
    plan = plan_of(rows, order, distinct.ranks, slack)
    vectors = np.concatenate(distinct.vectors.blocks)
    own = plan.lists.own
    probed = plan.lists.probed(vectors, own, slack)
    compared = probed[:, own] | probed[:, own].T
    nearest, _ = brute_neighbors(vectors, 5)
    found = gathered(search.search(distinct.vectors, 5, plan, 1))
    # Rows may be compared beyond what the lists say, never less.
    listed = (nearest[:, :, None] == found.ids[:, None]).any(axis=2)
    assert listed[np.take_along_axis(compared, nearest, axis=1)].all()
    there = found.ids >= 0
    exact = np.einsum("ij,ikj->ik", vectors, vectors[found.ids])
    np.testing.assert_allclose(found.similarities[there], exact[there], atol=2e-6)
    recall, bound = search.measured(
        distinct.vectors, search.search(distinct.vectors, 5, plan, 1), plan
    )
    hits = (found.ids >= 0) & (found.similarities >= plan.last[distinct.ranks, None])
    assert recall == pytest.approx(hits.mean())
    assert bound <= recall


def test_where_no_slack_is_enough_blocks_are_compared_pair_by_pair(
    directions, blocked, noting
):
    runner = noting()
    distinct = blocked(directions, [20, 20, 20], runner)
    order = np.argsort(distinct.ranks)
    plan = plan_of(RowsOfShards(distinct.vectors, order, 1), order, distinct.ranks, 0.1)
    runner.kept.clear()
    search.search(distinct.vectors, 5, plan._replace(slack=np.inf), 1)
    search.search(distinct.vectors, 5, plan, 1)
    search.search(blocked(directions, [60], runner).vectors, 5, None, 1)
    search.search(distinct.vectors, 0, plan, 1)
    kept = [text for text in runner.kept if text.startswith("Neighbors")]
    assert kept == [
        "Neighbors (exact, 6 pairs of 3 shards)",
        "Neighbors (ivf, lists compare 25.0%, 6 pairs of 3 shards)",
        "Neighbors (exact)",
        "Neighbors",
    ]


def test_no_neighbours_of_rows_that_are_all_equal(blocked):
    distinct = blocked(np.ones((9, 3)), [4, 5])
    found = gathered(search.search(distinct.vectors, 0, None, 1))
    assert found.ids.shape == found.similarities.shape == (1, 0)
    assert (found.ids.dtype, found.similarities.dtype) == (np.int32, np.float32)


def test_parts_are_of_whole_lists_of_about_as_many_rows(monkeypatch, directions):
    given = []

    def gathered(pieces, *edge_and_rest):
        first, stop, lists, ranks, n_jobs = edge_and_rest
        assert (lists, ranks, n_jobs) == ("lists", "ranks", 2)
        given.append((pieces, first, stop))

    monkeypatch.setattr(search, "_gathered", gathered)
    starts = [0, 20, 40, 60]
    blocks = [directions[a:b] for a, b in pairwise(starts)]
    shards = SimpleNamespace(blocks=blocks, everywhere="ranks")

    def edges_of(own):
        given.clear()
        search._by_lists(Local(), shards, starts, own, "lists", 2)
        for pieces, first, stop in given:
            numbers = np.concatenate([numbers for _, numbers, _ in pieces])
            there = np.concatenate([there for *_, there in pieces])
            vectors = np.concatenate([vectors for vectors, *_ in pieces])
            assert_array_equal(numbers, np.flatnonzero((own >= first) & (own < stop)))
            assert numbers.dtype == np.int32
            assert_array_equal(there, own[numbers])
            assert_array_equal(vectors, directions[numbers])
        return [(first, stop) for _, first, stop in given]

    rng = np.random.default_rng(0)
    # 12 lists of 5; 20 rows are in 4 of them.
    assert edges_of(rng.permutation(np.repeat(np.arange(12), 5))) == [
        (0, 4),
        (4, 8),
        (8, 12),
    ]
    # Whole lists: the second third ends within the list 1, which has 50 rows.
    lists = rng.permutation(np.r_[np.zeros(3, int), np.full(50, 1), np.full(7, 2)])
    assert edges_of(lists) == [(0, 2), (2, 3)]
    assert edges_of(np.zeros(60, dtype=int)) == [(0, 1)]


def test_tables_of_parts_become_those_of_blocks():
    numbers = [np.array([0, 3, 4, 8], np.int32), np.array([1, 2, 5, 6, 7], np.int32)]
    parts = [search._Part(None, of, None) for of in numbers]
    tables = [
        knn.Neighbors(10 * of[:, None], of[:, None] / np.float32(10)) for of in numbers
    ]
    found = search._by_blocks(Local(), parts, tables, [0, 2, 5, 9])
    whole = np.arange(9)
    assert [len(table.ids) for table in found] == [2, 3, 4]
    assert_array_equal(np.concatenate([t.ids for t in found])[:, 0], 10 * whole)
    similarities = np.concatenate([t.similarities for t in found])[:, 0]
    np.testing.assert_allclose(similarities, whole / 10)


def test_places_in_a_part_become_numbers():
    part = search._Part(None, np.array([4, 7, 9], np.int32), None)
    found = search._numbered(
        knn.Neighbors(np.array([[0, 2], [1, -1]]), np.ones((2, 2))), part
    )
    assert_array_equal(found.ids, [[4, 9], [7, -1]])
    assert found.ids.dtype == np.int32


def test_lists_are_searched_only_in_parts_of_more_than_k_rows(monkeypatch, directions):
    unit = knn.unit_rows(np.delete(directions, 21, axis=0)[:12].astype(np.float32))
    asked = []

    def found(parts, k, lists, last=None, *, n_threads):
        asked.append((len(parts), k, lists, last, n_threads))
        each = knn.Neighbors(np.zeros((3, k), np.int32), np.ones((3, k), np.float32))
        return [each] * len(parts)

    monkeypatch.setattr(search.ivf, "search_parts", found)

    def part(a, b):
        numbers = np.arange(a, b, dtype=np.int32)
        return search._Part(unit[a:b], numbers, numbers, 0 * numbers, 0, 1, 0 * numbers)

    plan = SimpleNamespace(lists="lists")
    few, more = part(0, 3), part(4, 8)
    assert search._within(few, 3, plan, 1).ids.shape == (3, 2)
    assert search._within(few, 2, None, 1).ids.shape == (3, 2)
    of_few, of_more = search._between(few, more, 3, plan, "a", "b", 1)
    assert (of_few.ids.shape, of_more.ids.shape) == ((3, 3), (4, 3))
    assert ((of_few.ids >= 4) & (of_few.ids < 8)).all()
    assert (of_more.ids < 3).all()
    none, _ = search._between(few, more, 5, None, "a", "b", 1)
    assert none.ids.shape == (3, 4)
    assert asked == []
    assert (search._within(few, 2, plan, 1).ids == 0).all()
    of_few, of_more = search._between(few, more, 2, plan, "a", "b", 1)
    assert (of_few.ids == 4).all()
    assert (of_more.ids == 0).all()
    assert asked == [(1, 2, "lists", None, 1), (2, 2, "lists", ["a", "b"], 1)]


def test_bounds_are_the_last_of_full_lists():
    similarities = np.array([[0.9, 0.5], [0.8, 0.0], [0.1, 0.1]], dtype=np.float32)
    ids = np.array([[1, 2], [0, -1], [1, 0]], dtype=np.int32)
    found = knn.Neighbors(ids, similarities)
    assert_array_equal(search._last(found, 2), np.float32([0.5, -1, 0.1]))
    assert_array_equal(search._last(found, 3), np.float32([-1, -1, -1]))


def test_recall_is_measured_on_the_sample_in_its_order(
    monkeypatch, blocked, directions
):
    distinct = blocked(directions, [13, 12, 35])
    tables = search.search(distinct.vectors, 5, None, 1)
    whole = gathered(tables)
    asked = []
    monkeypatch.setattr(search.ivf, "measured", lambda *given: asked.append(given))
    plan = SimpleNamespace(sample=np.array([40, 0, 13, 12, 55, 30]))
    search.measured(distinct.vectors, tables, plan)
    ((used, ids, similarities),) = asked
    assert used is plan
    assert_array_equal(ids, whole.ids[plan.sample])
    assert_array_equal(similarities, whole.similarities[plan.sample])


# --- what is chosen -------------------------------------------------------------------


def chosen(m, k, share=0.3, **parameters):
    """What is chosen for m rows, whose plan compares this share; and its plan."""
    ranks = np.random.default_rng(0).permutation(m)
    asked = []

    def make_plan(rows, k, *, target_recall, rng, n_threads):
        asked.append((k, target_recall, rng, n_threads))
        assert_array_equal(rows.order[ranks], np.arange(m))
        lists = ivf.Lists(None, None, np.arange(m))
        return ivf.Plan(lists, 0.1, share, np.arange(0, m, 7), None)

    shards = SimpleNamespace(shape=(m, 8), ranks=ranks, runner=Local(), blocks=[None])
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(search.ivf, "make_plan", make_plan)
        algorithm, plan, why = asking(**parameters)._choose(shards, k, 1, "rng")
    if plan is not None:
        assert_array_equal(plan.lists.own, ranks)  # in order of numbers
        assert_array_equal(ranks[plan.sample], np.arange(0, m, 7))
    assert asked in ([], [(k, 0.95, "rng", knn.n_threads())])
    return algorithm, bool(asked), why


def test_auto_makes_lists_for_more_than_so_many_rows():
    assert chosen(10_000, 5) == ("exact", False, "")
    assert chosen(10_001, 1) == ("ivf", True, ", lists compare 30.0% of pairs")
    assert chosen(10_001, 0) == ("exact", False, "")
    assert chosen(10_001, 5, 0.6) == ("ivf", True, ", lists compare 60.0% of pairs")
    worse = ("exact", True, ", lists compare 60.1% of pairs")
    assert chosen(10_001, 5, 0.601) == worse


@pytest.mark.parametrize("algorithm", ["exact", "hnsw", "ivf"])
def test_what_is_asked_for_is_used(algorithm):
    found, planned, why = chosen(100, 1, 0.9, algorithm=algorithm)
    assert found == algorithm
    assert planned == bool(why) == (algorithm == "ivf")
    assert chosen(100, 0, algorithm=algorithm) == (algorithm, False, "")


def test_widths_and_threads():
    assert asking(n_neighbors=5).width(9) == 5
    assert asking(n_neighbors=5).width(6) == 5
    assert asking(n_neighbors=5).width(5) == 4
    assert asking(n_jobs=None).threads() is None
    assert asking(n_jobs=1).threads() == 1


class Progress(Local):
    """Notes what progress is shown of, and how much is done."""

    def __init__(self):
        super().__init__()
        self.shown, self.done = [], []

    def progress(self, description, total):
        self.shown.append((description, total))
        return nullcontext(self.done.append)


@pytest.mark.parametrize("algorithm", ["exact", "ivf", "hnsw"])
def test_a_run_shows_its_progress_and_measures_its_recall(
    blocked, directions, algorithm
):
    runner = Progress()
    distinct = blocked(directions, [60], runner)
    m = len(distinct.first)
    found = asking(algorithm=algorithm).run(distinct.vectors, 60)
    ((description, total),) = runner.shown
    assert description.startswith(f"Neighbors ({algorithm}, {m} rows")
    assert total == m == sum(runner.done)
    (table,) = found.tables
    assert table.ids.shape == (m, 5)
    assert found.algorithm == algorithm
    assert (found.recall == 1) or algorithm != "exact"


def test_a_run_has_as_many_neighbours_as_other_distinct_rows(blocked):
    distinct = blocked(np.repeat(np.eye(4), 5, axis=0), [20])
    found = asking(n_neighbors=9).run(distinct.vectors, 20)
    assert found.tables[0].ids.shape == (4, 3)
    for algorithm in ("hnsw", "ivf"):  # of which there is nothing to search
        one = asking(algorithm=algorithm).run(blocked(np.ones((7, 3)), [7]).vectors, 7)
        assert one.tables[0].ids.shape == (1, 0)
        assert (one.algorithm, one.recall) == (algorithm, 1)


def test_hnsw_is_of_vectors_in_this_process_and_reproducible_with_a_seed(
    monkeypatch, blocked, directions, noting
):
    asked = []
    found = knn.hnsw_neighbors

    def neighbors(*given, reproducible, **others):
        asked.append(reproducible)
        return found(*given, reproducible=reproducible, **others)

    monkeypatch.setattr(search.knn, "hnsw_neighbors", neighbors)
    vectors = blocked(directions, [60]).vectors
    asking(algorithm="hnsw", n_neighbors=1).run(vectors, 60)
    asking(algorithm="hnsw", random_state=None).run(vectors, 60)
    assert asked == [True, False]
    there = blocked(directions, [30, 30], noting()).vectors
    with pytest.raises(ValueError, match="'hnsw' is not available for a Dask array"):
        asking(algorithm="hnsw").run(there, 60)
    assert asking().run(there, 60).algorithm == "exact"


def test_a_recall_that_is_not_reached_is_told_to_who_fits(monkeypatch):
    def poor(vectors, k, ranks, **_):
        ids = np.zeros((len(vectors), k), np.int32)
        similarities = np.zeros(ids.shape, np.float32)
        return knn.Neighbors(ids, similarities, 0.5, recall_bound=bound)

    monkeypatch.setattr(search.knn, "hnsw_neighbors", poor)
    X, bound = np.eye(6), 0.949
    with pytest.warns(UserWarning, match=r"reached a recall of 0\.500"):
        FaissKNeighborsTransformer(2, algorithm="hnsw", target_recall=0.95).fit(X)
    bound = 0.95
    FaissKNeighborsTransformer(2, algorithm="hnsw", target_recall=0.95).fit(X)


@pytest.mark.parametrize(
    ("name", "taken", "refused"),
    [
        ("n_neighbors", [1, 10**9], [0, -1, 1.5]),
        ("target_recall", [1e-9, 1, 1.0], [0, 0.0, 1.001, 2]),
        ("hnsw_m", [2, 512], [1, 513]),
        ("ef_construction", [1, 2**31 - 1], [0, 2**31]),
        ("ef_search", [1, 2**31 - 1], [0, 2**31]),
        ("device", ["cpu", "cuda", "cuda:0", "cuda:12"], ["cuda:01", "cuda:", "gpu"]),
    ],
)
def test_ranges_of_parameters(name, taken, refused):
    constraints = {name: search.SEARCH_CONSTRAINTS[name]}
    for value in taken:
        validate_parameter_constraints(constraints, {name: value}, "X")
    for value in refused:
        with pytest.raises(ValueError, match=f"'{name}' parameter of X must be"):
            validate_parameter_constraints(constraints, {name: value}, "X")
