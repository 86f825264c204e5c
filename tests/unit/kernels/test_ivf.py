"""Parts of the search by lists, each by itself, against plain NumPy."""

import threading

import numpy as np
import pytest
from numpy.testing import assert_array_equal

from skleiden._kernels import ivf, knn

N, D, K = 300, 16, 5


@pytest.fixture(scope="module")
def vectors():
    rng = np.random.default_rng(0)
    centres = rng.standard_normal((6, D))
    X = centres[rng.integers(6, size=N)] + rng.standard_normal((N, D))
    return knn.unit_rows(X.astype(np.float32))


@pytest.fixture(scope="module")
def ranks():
    return np.random.default_rng(1).permutation(N).astype(np.int32)


@pytest.fixture(scope="module")
def lists(vectors):
    """Eight lists of unlike sizes."""
    axes = np.eye(D, dtype=np.float32)
    centroids = vectors[:8].copy()
    return ivf.Lists(axes, centroids, (vectors @ centroids.T).argmax(axis=1))


@pytest.fixture(scope="module")
def exact(vectors, ranks):
    both = knn.Ranks(ranks, ranks)
    return knn.exact_neighbors(vectors, vectors, K, both, own=np.arange(N))


@pytest.fixture(autouse=True)
def small(monkeypatch):
    """Small blocks and stripes, so that some hundred rows are many."""
    for name in ("_ROWS_AT_ONCE", "_STRIPE_ROWS", "_ROWS_SCANNED", "_ROWS_RANKED"):
        monkeypatch.setattr(ivf, name, 64)
    monkeypatch.setattr(ivf, "_PAIRS_AT_ONCE", 500)
    monkeypatch.setattr(ivf, "_NEAR_ROWS", 20)
    monkeypatch.setattr(ivf, "_QUERIES_TOGETHER", 8)
    monkeypatch.setattr(ivf, "_LISTS_AT_ONCE", 3)


@pytest.mark.parametrize("bits", [2, 3, 8, 9])
def test_mixed_numbers_are_a_permutation_that_is_undone(bits):
    numbers = np.arange(2**bits, dtype=np.uint64)
    mixed = ivf._mix(numbers, np.uint64(bits))
    assert_array_equal(np.sort(mixed), numbers)
    assert bits < 3 or (mixed != numbers).any()
    assert_array_equal(ivf._unmix(mixed, np.uint64(bits)), numbers)


def test_keys_give_back_what_they_are_made_of():
    code = ivf._Code.of(1000, 50)
    rows, ids = np.array([3, 999, 0, 512]), np.array([999, 3, 1, 512])
    places = np.array([0, 49, 7, 13])
    similarities = np.array([1, -1, 0.25, 1.5], dtype=np.float32)
    keys = code.heads(places) | code.tails(rows, ids, similarities)
    assert_array_equal(code.rows(keys), places)
    assert_array_equal(code.ids(keys, rows), ids)
    last = 2**21 - 1
    assert_array_equal(code.steps(keys), [0, last, 0.75 * 2**20, 0])
    assert code.tails(rows[:1], ids[:1], similarities[:1]) == code.tails(
        ids[:1], rows[:1], similarities[:1]
    )


def test_codes_have_room_for_as_many_rows_as_there_are_bits():
    n = 2**30
    assert ivf._Code.of(n, 2**13).row_shift == 51
    with pytest.raises(ValueError, match=r"found a list of 8193 rows among 1073741824"):
        ivf._Code.of(n, 2**13 + 1)


@pytest.mark.parametrize("waiting", [1, 8, 48])
def test_a_stripe_keeps_the_best_of_what_it_is_given(waiting):
    rng = np.random.default_rng(2)
    start, stop, keep, k, n = 40, 60, 8, 5, 100
    code = ivf._Code.of(n, stop - start)
    room = np.empty((stop - start) * (keep + waiting), dtype=np.uint64)
    stripe = ivf._Stripe(start, stop, code, keep, room)
    similarities = np.round(rng.uniform(0, 1, (stop - start, n)), 3).astype(np.float32)
    rows, ids = np.divmod(np.arange(similarities.size), n)
    keys = code.heads(rows) | code.tails(rows + start, ids, similarities.ravel())
    least = np.full(n, -1, dtype=np.float32)
    for some in np.array_split(rng.permutation(keys), 7):
        stripe.add(some, k, least)
    stripe.select(k, least)
    best = -np.sort(-similarities, axis=1)
    table = stripe.table(start + 3, stop - 2)
    assert_array_equal(
        np.take_along_axis(similarities[3:-2], table, axis=1), best[3:-2, :keep]
    )
    # One of them may be the row itself: the bound is that of the one after the k-th.
    assert (least[start:stop] <= best[:, k]).all()
    assert (least[start:stop] > best[:, k] - 1e-5).all()
    assert (np.delete(least, np.arange(start, stop)) == -1).all()


def test_a_stripe_says_where_it_has_no_candidates():
    code = ivf._Code.of(10, 3)
    stripe = ivf._Stripe(4, 7, code, 2, np.empty(9, dtype=np.uint64))
    key = code.heads(np.array([1])) | code.tails(
        np.array([5]), np.array([9]), np.float32([0.5])
    )
    stripe.add(key, 1, np.zeros(10, dtype=np.float32))
    assert_array_equal(stripe.table(4, 7), [[-1, -1], [9, -1], [-1, -1]])


def test_blocks_of_a_stripe_are_its_rows():
    stripe = ivf._Stripe(40, 200, ivf._Code.of(300, 160), 2, np.empty(9, np.uint64))
    rows = [np.arange(300)[block] for block in stripe.blocks()]
    assert_array_equal(np.concatenate(rows), np.arange(40, 200))
    assert max(map(len, rows)) == 64


def test_stripes_hold_whole_lists():
    bounds = np.array([0, 10, 30, 31, 100, 170, 180])
    stripes = ivf._make_stripes(bounds, 3)
    edges = [stripes[0].start, *(stripe.stop for stripe in stripes)]
    assert edges == [0, 100, 170, 180]
    assert [one.start for one in stripes] == edges[:-1]
    for one in stripes:
        assert one.room.size == (one.stop - one.start) * (3 + ivf._WAITING)


def test_entries():
    rows, columns = ivf._entries(np.array([0, 6, 7, 20]), 7)
    assert_array_equal(rows, [0, 0, 1, 2])
    assert_array_equal(columns, [0, 6, 0, 6])


def test_scores_are_relative_to_the_fourth_best():
    scores = np.array([[5, 1, 4, 2, 3, 0]], dtype=np.float32)
    assert ivf.Lists.fourth(scores) == 2
    assert ivf.Lists.fourth(scores[:, :3]) == 1  # the last of fewer


def test_a_row_probes_its_own_list_and_those_within_the_slack(vectors, lists):
    scores = vectors @ lists.centroids.T
    fourth = -np.sort(-scores, axis=1)[:, 3:4]
    own = np.eye(8, dtype=bool)[lists.own]
    for slack in (-0.4, -0.05, 0.0, 0.3):
        clear = np.abs(scores - fourth + slack) > 1e-5
        expected = (scores - fourth >= -slack) | own
        found = lists.probed(vectors, lists.own, slack)
        assert_array_equal(found[clear], expected[clear])


def test_chain_goes_to_the_nearest_of_those_left():
    angles = np.array([0, 2, 0.3, 1.5, 0.7])
    centroids = np.column_stack([np.cos(angles), np.sin(angles)])
    assert_array_equal(ivf._chain(centroids), [0, 2, 4, 3, 1])


@pytest.mark.parametrize("k", [1, 5, 40])
def test_true_neighbors_are_those_of_the_exact_search(vectors, ranks, k, monkeypatch):
    monkeypatch.setattr(ivf, "_SPREAD", 60)
    own = np.arange(0, N, 7)
    some = knn.Ranks(ranks[own], ranks)
    found = ivf.true_neighbors(vectors[own], vectors, k, some, own=own, n_threads=1)
    exact = knn.exact_neighbors(vectors[own], vectors, k, some, own=own)
    assert_array_equal(found.ids, exact.ids)
    assert_array_equal(found.similarities, exact.similarities)


def test_true_neighbors_among_near_copies(vectors, ranks):
    near = vectors.copy()
    near[20:220] = knn.unit_rows(near[:1] + np.float32(1e-7) * near[20:220])
    own = np.arange(0, N, 7)
    some = knn.Ranks(ranks[own], ranks)
    found = ivf.true_neighbors(near[own], near, K, some, own=own, n_threads=1)
    exact = knn.exact_neighbors(near[own], near, K, some, own=own)
    assert_array_equal(found.ids, exact.ids)


def test_least_of_last_bounds_the_kth_other():
    similarities = np.array([[0.1, 0.9, 1, 0.5, 0.3]], dtype=np.float32)
    for k, expected in [(1, 0.9), (2, 0.5), (4, 0.1)]:
        found = ivf._least_of_last(similarities.copy(), k)
        assert expected - 1e-5 < found[0] < np.float32(expected)


def sorted_by_list(lists, ranks):
    order = np.lexsort((ranks, lists.own)).astype(np.int32)
    sizes = np.bincount(lists.own, minlength=8)
    return order, sizes, np.append(0, np.cumsum(sizes)).astype(np.int32)


def compared(probes, list_of):
    """How often two rows are compared, by their places: once a probe of either."""
    bits = np.unpackbits(probes, axis=1, count=N).view(bool)
    return bits.T[:, list_of]


@pytest.mark.parametrize("slack", [-0.2, 0.0, 0.1, 0.4])
def test_lists_that_mostly_probe_each_other_do_so_once(vectors, ranks, lists, slack):
    order, sizes, bounds = sorted_by_list(lists, ranks)
    list_of = np.repeat(np.arange(8), sizes)

    def probed(rows):
        return lists.probed(vectors[rows], lists.own[rows], slack)

    probes = ivf._probes(probed, 8, order, map)
    before = compared(probes, list_of)
    assert_array_equal(before, probed(order)[:, list_of])
    ivf._merge_mutual(probes, sizes, bounds, map)
    after = compared(probes, list_of)
    pairs, merged = before | before.T, after | after.T
    assert (merged >= pairs).all()  # none is left out
    for a in range(8):
        for b in range(a):
            rows = np.ix_(list_of == a, list_of == b)
            both = before[rows].sum() + before.T[rows].sum()
            there, back = after[rows], after.T[rows]
            if both > sizes[a] * sizes[b]:
                assert there.all() != back.all()
                assert there.any() != back.any()
                assert there.all() == ((a < b) == ((a + b) % 2 == 0))
            else:
                assert_array_equal(there, before[rows])
                assert_array_equal(back, before.T[rows])
    own = list_of[:, None] == list_of
    assert_array_equal(after[own], before[own])


def test_first_bounds_are_reached_by_the_kth_neighbour(vectors, ranks, lists, exact):
    order, sizes, bounds = sorted_by_list(lists, ranks)
    least = ivf._first_bounds(vectors, K, lists, order, sizes, bounds, map)
    last = exact.similarities[order, -1]
    assert (least <= last + 1e-6).all()
    # They are near it: the nearest lists hold most of the nearest rows.
    assert np.median(last - least) < 0.05
    assert (last - least).max() < 0.5


@pytest.mark.parametrize("n_threads", [1, 2])
def test_a_search_that_probes_all_lists_is_exact(
    vectors, ranks, lists, exact, n_threads
):
    plan = ivf.Plan(lists, np.inf, 1.0, np.arange(3), np.zeros(3))
    done = []
    found = ivf.search(
        vectors, K, plan, ranks, n_threads=n_threads, progress=done.append
    )
    assert_array_equal(found.ids, exact.ids)
    assert_array_equal(found.similarities, exact.similarities)
    assert sum(done) == N


def test_a_search_finds_the_best_of_what_is_compared(vectors, ranks, lists):
    slack = 0.0
    plan = ivf.Plan(lists, slack, 1.0, np.arange(3), np.zeros(3))
    found = ivf.search(vectors, K, plan, ranks, n_threads=1)
    probed = lists.probed(vectors, lists.own, slack)[:, lists.own]
    similarities = np.where(probed | probed.T, vectors @ vectors.T, -1)
    np.fill_diagonal(similarities, -1)
    best = -np.sort(-similarities, axis=1)[:, :K]
    # Merged lists are compared as a whole: there may be better ones.
    assert (found.similarities >= best - 2e-6).all()
    same = found.similarities <= best + 2e-6
    assert same.mean() > 0.8


def test_all_among_near_copies_are_found(ranks, lists, vectors):
    near = vectors.copy()
    near[20:220] = knn.unit_rows(near[:1] + np.float32(1e-6) * near[20:220])
    plan = ivf.Plan(lists, np.inf, 1.0, np.arange(3), np.zeros(3))
    found = ivf.search(near, K, plan, ranks, n_threads=1)
    both = knn.Ranks(ranks, ranks)
    exact = knn.exact_neighbors(near, near, K, both, own=np.arange(N))
    assert_array_equal(found.ids[20:220], exact.ids[20:220])
    # Others may list another one of many that are as near.
    np.testing.assert_allclose(found.similarities, exact.similarities, atol=2e-6)


def parts_of(vectors, ranks, lists, cuts):
    for first, stop in cuts:
        rows = np.flatnonzero((lists.own >= first) & (lists.own < stop))
        least = np.full(rows.size, -np.inf, dtype=np.float32)
        part = vectors[rows], ranks[rows], lists.own[rows], first, stop, least
        yield rows, ivf.Part(*part)


def joined(vectors, ranks, lists):
    """The rows of each of two parts, and their lists, found within and between."""
    (a, first), (b, second) = parts_of(vectors, ranks, lists, [(0, 3), (3, 8)])
    search = ivf.search_parts
    within = [search([part], K, lists, n_threads=1)[0] for part in (first, second)]
    last = [found.similarities[:, -1] for found in within]
    between = search([first, second], K, lists, last, n_threads=1)
    for own, there, inner, outer in [
        (a, b, within[0], between[0]),
        (b, a, within[1], between[1]),
    ]:
        outer = outer._replace(ids=np.where(outer.ids >= 0, there[outer.ids], -1))
        inner = inner._replace(ids=own[inner.ids])
        yield own, knn.merge(inner, outer, K, knn.Ranks(ranks[own], ranks))


def test_parts_and_what_is_between_them_make_the_whole(vectors, ranks, lists, exact):
    for own, found in joined(vectors, ranks, lists):
        assert_array_equal(found.ids, exact.ids[own])


def test_near_copies_in_both_parts_are_found(vectors, ranks, lists):
    near, own = vectors.copy(), lists.own.copy()
    near[20:220] = knn.unit_rows(near[:1] + np.float32(1e-6) * near[20:220])
    own[20:100], own[100:220] = 1, 6
    both = knn.Ranks(ranks, ranks)
    exact = knn.exact_neighbors(near, near, K, both, own=np.arange(N))
    for rows, found in joined(near, ranks, lists._replace(own=own)):
        copies = (rows >= 20) & (rows < 220)
        assert 80 <= copies.sum() <= 120
        assert_array_equal(found.ids[copies], exact.ids[rows[copies]])


def test_parts_that_probe_nothing_of_each_other_list_nothing(vectors, ranks, lists):
    parts = [
        part._replace(least=np.full(rows.size, np.inf, dtype=np.float32))
        for rows, part in parts_of(vectors, ranks, lists, [(0, 3), (3, 8)])
    ]
    last = [np.full(len(part.vectors), -1, dtype=np.float32) for part in parts]
    for found in ivf.search_parts(parts, K, lists, last, n_threads=1):
        assert (found.ids == -1).all()
        assert not found.similarities.any()


def test_least_scores_are_the_fourth_less_the_slack(vectors, lists):
    plan = ivf.Plan(lists, 0.25, 1.0, np.arange(3), np.zeros(3))
    found = ivf.least_scores(vectors, plan, n_threads=1)
    fourth = -np.sort(-(vectors @ lists.centroids.T), axis=1)[:, 3]
    np.testing.assert_allclose(found, fourth - 0.25, atol=1e-6)


def test_recall_is_of_similarities_that_reach_the_last():
    plan = ivf.Plan(None, 0.0, 1.0, np.arange(2), np.array([0.5, 0.7]))
    ids = np.array([[1, 2], [0, -1]])
    similarities = np.array([[0.5, 0.4], [0.9, 0.9]])
    recall, bound = ivf.measured(plan, ids, similarities)
    assert (recall, bound) == (0.5, 0.5)


def test_least_slack_is_the_smallest_that_reaches_the_target():
    needed = np.tile(np.arange(10.0), (50, 1))
    assert ivf._least_slack(needed, 0.79) == 7
    assert ivf._least_slack(needed, 0.81) == 8
    assert ivf._least_slack(needed, 1.0) == 9
    assert ivf._least_slack(needed, 1.1) == 9  # the largest, if none does


def test_memory_of_a_thread_is_used_again(vectors, lists, ranks):
    scan = ivf._Scan.__new__(ivf._Scan)
    scan.memory = threading.local()
    first = scan._room("queries", (4, 5), np.float32)
    assert first.shape == (4, 5)
    assert np.shares_memory(first, scan._room("queries", (5, 4), np.float32))
    assert scan._room("queries", (5, 5), np.float32).shape == (5, 5)


def test_k_means_ends_where_each_row_is_nearest(vectors):
    centroids = ivf.k_means(vectors, 4, n_threads=1)
    own = (vectors @ centroids.T).argmax(axis=1)
    sums = np.stack([vectors[own == i].sum(axis=0) for i in range(4)])
    means = sums / np.linalg.norm(sums, axis=1, keepdims=True)
    start = vectors[:4]
    assert (vectors @ means.T).max(axis=1).sum() > (vectors @ start.T).max(axis=1).sum()
    assert ((means * centroids).sum(axis=1) > 0.95).all()


def test_rows_are_assigned_and_projected_in_any_order(vectors, ranks, lists):
    order = np.argsort(ranks)
    own = ivf.assign(vectors, order, lists.axes, lists.centroids, n_threads=1)
    assert_array_equal(own, (vectors @ lists.centroids.T).argmax(axis=1))
    found = ivf.project(vectors, order, lists.axes[:, :3], n_threads=1)
    assert_array_equal(found, vectors[order, :3])
