"""Parts of the exact search, and what is made of lists, against plain NumPy."""

import sys

import numpy as np
import pytest
import scipy.sparse as sp
from numpy.testing import assert_array_equal
from threadpoolctl import ThreadpoolController

from skleiden._kernels import knn


def unit(n, d=8, seed=0):
    X = np.random.default_rng(seed).standard_normal((n, d))
    return knn.unit_rows(X.astype(np.float32))


def few_directions(n=120, d=4):
    """Rows of a few small whole numbers: very many similarities are equal."""
    X = np.random.default_rng(0).integers(-1, 2, size=(n, d))
    X[:, 0] = 1
    return knn.unit_rows(X.astype(np.float32))


def plain_lists(queries, vectors, k, ranks, own=None):
    """The k best, by rounded similarity and the order of ties."""
    steps = np.rint((queries.astype(float) @ vectors.T.astype(float)) * knn.STEPS)
    if own is not None:
        steps[np.arange(len(queries)), own] = -np.inf
    ties = knn.tie_order(ranks.queries[:, None], ranks.vectors)
    ids = np.lexsort((ties, -steps), axis=1)[:, :k]
    return ids, np.take_along_axis(steps, ids, axis=1) / knn.STEPS


@pytest.mark.parametrize("k", [1, 5, 40, 119])
@pytest.mark.parametrize("own", [True, False])
def test_exact_lists_are_the_plain_ones_whatever_is_tied(k, own, monkeypatch):
    monkeypatch.setattr(knn, "_ROWS_AT_ONCE", 50)
    monkeypatch.setattr(knn, "_QUERIES_AT_ONCE", 16)
    X = few_directions()
    ranks = np.random.default_rng(1).permutation(len(X)).astype(np.int32)
    both, numbers = knn.Ranks(ranks, ranks), np.arange(len(X)) if own else None
    done = []
    found = knn.exact_neighbors(X, X, k, both, own=numbers, progress=done.append)
    ids, similarities = plain_lists(X, X, k, both, numbers)
    assert done == [50, 50, 20]
    np.testing.assert_allclose(found.similarities, similarities, atol=1.1e-6)
    # Similarities of one pair may fall on either side of a half step.
    assert (found.ids == ids).mean() > 0.99
    assert found.ids.dtype == np.int32


def test_lists_that_end_clearly_or_hold_all_are_not_searched_again(monkeypatch):
    monkeypatch.setattr(knn, "_among_ties", None)
    for X, k in [(unit(300, 20), 5), (few_directions(13), 5), (few_directions(9), 8)]:
        own = np.arange(len(X))
        found = knn.exact_neighbors(X, X, k, knn.Ranks(own, own), own=own)
        assert (found.ids >= 0).all()


def test_no_vectors_make_empty_lists():
    none = knn.Ranks(np.zeros(3, int), np.zeros(0, int))
    found = knn.exact_neighbors(unit(3), unit(3)[:0], 0, none)
    assert found.ids.shape == found.similarities.shape == (3, 0)


def test_zero_queries_have_no_neighbours():
    queries, vectors = np.zeros((1, 8), np.float32), unit(4)
    found = knn.rank(
        queries,
        vectors,
        np.arange(4)[None],
        2,
        knn.Ranks(np.zeros(1, int), np.arange(4)),
        None,
    )
    assert_array_equal(found[0], [[-1, -1]])
    assert_array_equal(found[1], [[0, 0]])


@pytest.mark.parametrize("width", [1, 2, 6, 1025, 1500])
def test_best_columns_are_sorted_by_value_and_ties(width):
    rng = np.random.default_rng(0)
    ids = np.stack([rng.permutation(2000)[:width] for _ in range(7)])
    ids[rng.random(ids.shape) < 0.2] = -1
    values = rng.integers(-4, 4, size=ids.shape) * knn.STEPS // 2
    ranks = knn.Ranks(rng.permutation(7), rng.permutation(2000))
    ties = knn.tie_order(ranks.queries[:, None], ranks.vectors[ids])
    falling = np.where(ids >= 0, -values, 5 * knn.STEPS)
    expected = np.lexsort((ties, falling), axis=1)
    present = np.take_along_axis(ids, expected, 1)[:, :5] >= 0
    found = knn.best_columns(ids, values, 5, ranks)
    assert found.shape == (7, min(5, width))
    assert_array_equal(found[present], expected[:, :5][present])
    assert (np.take_along_axis(ids, found, 1)[~present] == -1).all()


def test_merged_lists_are_the_best_of_both():
    X = few_directions()
    ranks = knn.Ranks(np.arange(10), np.arange(120))
    a = knn.exact_neighbors(X[:10], X[:60], 6, knn.Ranks(np.arange(10), np.arange(60)))
    b = knn.exact_neighbors(
        X[:10], X[60:], 6, knn.Ranks(np.arange(10), 60 + np.arange(60))
    )
    merged = knn.merge(a, b._replace(ids=b.ids + 60), 6, ranks)
    whole = knn.exact_neighbors(X[:10], X, 6, ranks)
    assert_array_equal(merged.ids, whole.ids)
    assert_array_equal(merged.similarities, whole.similarities)


def test_ranks_of_equals():
    ids, ranks = np.array([[2, 1], [0, 2], [1, 0]]), np.array([5, 0, 9])
    equal = np.array([[False, True], [False, True], [False, False]])
    assert_array_equal(knn.ranks_of_equals(ids, equal, ranks), [0, 9, 0])
    assert_array_equal(knn.ranks_of_equals(ids[:, :0], equal[:, :0], ranks), [0, 0, 0])


def test_only_equal_rows_are_equal():
    X = unit(3)
    X[1], X[2] = X[0], X[0] + np.float32(3e-5)  # at the same similarity, rounded
    found = knn.Neighbors(np.array([[1, 2]]), np.ones((1, 2), np.float32))
    assert_array_equal(knn.equal_rows(X[:1], X, found), [[True, False]])
    found = found._replace(similarities=np.array([[0.5, 1]], np.float32))
    assert not knn.equal_rows(X[:1], X, found).any()


def test_recall_bound_is_the_mean_less_its_standard_errors():
    hits = np.array([[1, 1], [1, 0], [1, 1], [0, 0]], dtype=bool)
    shares = np.array([1, 0.5, 1, 0])
    expected = shares.mean() - 2 * shares.std() / 2
    assert knn.recall_bound(hits, 2.0) == pytest.approx(expected)
    assert knn.recall_bound(hits) == pytest.approx(0.625 - 1.645 * shares.std() / 2)


def test_ties_are_in_an_order_that_is_symmetric_and_of_each_row_its_own():
    ranks = np.arange(64)
    order = knn.tie_order(ranks[:, None], ranks)
    assert_array_equal(order, order.T)
    assert order.min() >= 0
    assert order.max() < 2**32
    assert (np.sort(order, axis=1)[:, 1:] > np.sort(order, axis=1)[:, :-1]).all()
    first = np.delete(order, 0, axis=1).argmin(axis=1)
    assert np.unique(first).size > 20
    # As MurmurHash3 mixes them.
    assert_array_equal(knn.tie_order(0, np.array([0, 1])), [0, 0x514E28B7])


def test_equal_rows_are_represented_by_one_of_them():
    keys = np.array(
        [
            [7, 1, 5, 40],
            [3, 1, 2, 10],
            [7, 1, 4, 40],
            [7, 2, 1, 20],
            [0] * 4,
            [7, 1, 4, 40],
        ]
    )
    zero = np.array([0, 0, 0, 0, 1, 0], dtype=bool)
    representative, first = knn.representatives(keys, zero)
    assert_array_equal(representative, [2, 1, 2, 3, -1, 2])
    assert_array_equal(first, [1, 3, 2])  # by the last key
    distinct = knn.number_groups(representative, first)
    assert_array_equal(distinct.first, [1, 2, 3])
    assert_array_equal(distinct.inverse, [1, 0, 1, 2, -1, 1])
    assert_array_equal(distinct.ranks, [0, 2, 1])
    assert_array_equal(distinct.counts(), [1, 3, 1])
    assert_array_equal(distinct.repeats(), [0, 5])
    spread = distinct.spread(np.array([10, 20, 30]), -5)
    assert_array_equal(spread, [20, 10, 20, 30, -5, 20])


def test_order_by_several_keys_and_then_by_place():
    rng = np.random.default_rng(0)
    keys = rng.integers(4, size=(3, 200))
    keys[0, :50] = np.arange(50) + 10
    expected = np.lexsort((np.arange(200), *keys[::-1]))
    assert_array_equal(knn._ordered(*keys), expected)


def test_hashes_tell_rows_apart_that_differ_by_more_than_rounding(monkeypatch):
    monkeypatch.setattr(knn, "_ROWS_HASHED", 3)
    X = unit(8)
    X[5], X[6], X[7] = 0, X[0], X[1]
    X[6, 0] += np.float32(1e-7)
    X[7, 0] += np.float32(3e-5)
    hashes, zero = knn.row_hashes(X)
    assert_array_equal(zero, np.arange(8) == 5)
    assert_array_equal(hashes[:, :2], knn.equality_hashes(X))
    same = (hashes[:, None, :2] == hashes[:, :2]).all(axis=2)
    expected = np.eye(8, dtype=bool)
    expected[0, 6] = expected[6, 0] = True
    assert_array_equal(same, expected)
    assert hashes[0, 2] != hashes[6, 2]
    # The last is a projection: rows that are near have near ones.
    gaps = np.abs(hashes[:, 3] - hashes[0, 3])
    assert gaps[6] < gaps[1:5].min() / 1000


def test_numbers_of_hashes_are_of_all_their_bits():
    multipliers, direction = knn._hash_numbers(2000)
    for numbers, largest in [(multipliers, 2**31), (direction, 2**15)]:
        assert 0.99 * largest < numbers.max() < largest
        assert -largest <= numbers.min() < -0.99 * largest
        assert abs(numbers.mean()) < 0.05 * largest


def test_projections_are_exact_in_whatever_order_they_are_added_up():
    d = 60_000
    direction = knn._hash_numbers(d)[1]
    row = knn.unit_rows(direction[None].astype(np.float32))  # the largest sum
    exact = sum(
        round(entry * 2**30) * int(number)
        for entry, number in zip(row[0].tolist(), direction, strict=True)
    )
    assert knn.row_hashes(row)[0][0, 3] == exact


def test_rows_are_scaled_only_if_they_are_off(monkeypatch):
    monkeypatch.setattr(knn, "_ROWS_CONVERTED", 2)
    X = unit(5)
    assert knn.unit_rows(X) is X
    nearly = X * np.float32(1 + 5e-7)
    assert knn.unit_rows(nearly) is nearly
    off = X.copy()
    off[3] *= np.float32(1 + 5e-6)
    found = knn.unit_rows(off)
    assert found is not off
    assert_array_equal(found[[0, 1, 2, 4]], X[[0, 1, 2, 4]])
    assert abs(np.linalg.norm(found[3].astype(float)) - 1) < 1e-7
    huge = np.array([[3e200, 4e200], [3e-200, 4e-200], [0, 0]])
    assert_array_equal(
        knn.unit_rows(huge), np.float32([[0.6, 0.8], [0.6, 0.8], [0, 0]])
    )
    assert_array_equal(knn.unit_rows(np.asfortranarray(off)), found)


def test_of_mapped_rows_all_that_is_made_is_mapped(tmp_path, monkeypatch):
    monkeypatch.setattr(knn, "_ROWS_CONVERTED", 3)
    np.save(tmp_path / "rows.npy", 3 * unit(8))
    mapped = np.load(tmp_path / "rows.npy", mmap_mode="r")
    scaled, rows = knn.unit_rows(mapped), np.array([7, 0, 3, 3, 1])
    taken = knn.take_rows(mapped, rows)
    for found, expected in [
        (scaled, knn.unit_rows(np.array(mapped))),
        (taken, mapped[rows]),
        (knn.take_rows(mapped, rows[:0]), mapped[:0]),
    ]:
        assert knn.is_mapped(found) == (found.size > 0)
        assert_array_equal(found, expected)
    assert not knn.is_mapped(knn.take_rows(np.array(mapped), rows))


def test_similarities_of_rows_a_little_too_long_are_at_most_1():
    X = np.repeat(unit(3), 2, axis=0) * np.float32(1 + 9e-7)
    assert knn.unit_rows(X) is X
    X = np.vstack([X, -X])
    ranks = knn.Ranks(np.arange(12), np.arange(12))
    found = knn.exact_neighbors(X, X, 11, ranks, own=np.arange(12))
    assert_array_equal(found.similarities[:, 0], 1)
    assert_array_equal(found.similarities[:, -2:], -1)


def test_once_leaves_no_candidate_twice():
    found = knn.once(np.array([[3, 1, 3, -1, 1, 1], [5, 4, 3, 2, 1, 0]]))
    for row, expected in zip(found, [[1, 3], [0, 1, 2, 3, 4, 5]], strict=True):
        assert sorted(row[row >= 0]) == expected


def test_padded_ids_are_those_of_each_row():
    found = knn._padded(np.array([1, 1, 3]), np.array([5, 6, 7]), 5)
    assert_array_equal(found, [[-1, -1], [5, 6], [-1, -1], [7, -1], [-1, -1]])
    assert knn._padded(np.array([], int), np.array([], int), 3).shape == (3, 0)


@pytest.mark.parametrize(("n", "size"), [(0, 3), (3, 3), (7, 3), (2, 5)])
def test_blocks_are_of_all_rows(n, size):
    found = [np.arange(n)[block] for block in knn.blocks(n, size)]
    assert_array_equal(np.concatenate([[], *found]), np.arange(n))
    assert all(len(rows) == size for rows in found[:-1])


def test_vertices_are_ranked_by_what_surrounds_them():
    # A path 0 - 1 - 2 - 3 - 4 and a vertex alone: those alike by their numbers.
    rows, columns = np.array([[0, 1], [1, 2], [2, 3], [3, 4]]).T
    weights = np.array([0.5, 0.25, 0.25, 0.5])
    graph = sp.csr_array((weights, (rows, columns)), shape=(6, 6))
    graph = sp.csr_array(graph + graph.T)
    assert_array_equal(knn.rank_vertices(graph), [1, 4, 2, 5, 3, 0])


def test_ranks_of_vertices_go_with_the_vertices():
    rng = np.random.default_rng(0)
    A = np.triu(rng.random((30, 30)) * (rng.random((30, 30)) < 0.3), 1)
    A += A.T
    order = rng.permutation(30)
    found = knn.rank_vertices(sp.csr_array(A))
    again = knn.rank_vertices(sp.csr_array(A[order][:, order]))
    assert_array_equal(again, found[order])


def test_lists_of_a_graph_of_distances():
    D = np.array(
        [
            [0.0, 0.3, 0.0, 0.7, 0.2],
            [0.3, 0.0, 0.4, 0.6, 0.5],
            [0.0, 0.1, 0.0, 0.8, 0.9],
            [0.7, 0.6, 0.8, 0.0, 1.5],
            [0.2, 0.5, 0.9, 1.5, 0.0],
        ]
    )
    found, distinct = knn.neighbors_from_distances(D, 2, np.arange(5))
    assert_array_equal(distinct.inverse, [0, 1, 0, 2, 3])
    assert_array_equal(found.ids, [[1, 3], [0, 3], [1, 0], [0, 1]])
    expected = [[0.9, 0.8], [0.7, 0.5], [0.4, 0.3], [0.8, 0.5]]
    np.testing.assert_allclose(found.similarities, expected, atol=1e-7)
    assert knn.longest_list(D) == 4
    kept = sp.csr_array(D)
    assert knn.longest_list(kept) == 4
    assert knn.longest_list(sp.csr_array((3, 3))) == 0


@pytest.mark.parametrize("n_entries", [0, 1, 2])
def test_lists_are_no_longer_than_the_longest(n_entries):
    numbers = np.arange(3)
    entries = np.full(n_entries, 0.5), (np.ones(n_entries, int), numbers[:n_entries])
    found, same = knn.neighbors_of_queries(
        sp.csr_array(entries, shape=(4, 3)), knn.UniqueRows(None, *[numbers] * 3), 3
    )
    assert found.ids.shape == found.similarities.shape == same.shape == (4, n_entries)
    assert np.count_nonzero(found.ids >= 0) == n_entries


def test_rows_of_a_graph_are_ranked_by_the_distances_of_both_ends():
    D = np.zeros((4, 4))
    D[0, 1], D[1, 2], D[2, 1], D[3, 1], D[0, 2] = 0.6, 0.25, 0.25, 0.125, 1.0
    both = np.where(D > 0, D + 1e-6, 0)
    expected = knn.rank_vertices(sp.csr_array(both + both.T))
    _, distinct = knn.neighbors_from_distances(sp.csr_array(D), 2)
    assert_array_equal(distinct.ranks, expected)
    assert_array_equal(expected, [3, 1, 2, 0])


def test_rows_that_list_nothing_are_zero_rows():
    D = sp.csr_array(([0.0, 0.4, 0.4, 0.0], ([0, 1, 2, 3], [0, 2, 1, 4])), shape=(5, 5))
    _, distinct = knn.neighbors_from_distances(D, 2)
    # Row 4 lists nothing, but 3 lists it as its equal.
    assert_array_equal(distinct.inverse, [-1, 0, 1, 2, 2])


def test_lists_of_queries_by_their_distances():
    distinct = knn.UniqueRows(
        None, np.array([0, 1, 3]), np.array([0, 1, 0, 2, -1]), np.array([2, 0, 1])
    )
    D = np.array([[0.5, 0.2, 0.1, 0.9, 0.0], [0.3, 0.0, 0.3, 0.4, 0.2]])
    found, same = knn.neighbors_of_queries(D, distinct, 2)
    assert_array_equal(found.ids, [[0, 1], [1, 0]])
    np.testing.assert_allclose(found.similarities, [[0.9, 0.8], [1, 0.7]], atol=1e-7)
    assert_array_equal(same, [[False, False], [True, False]])


@pytest.mark.parametrize("equal", [0, 3, None])
def test_ties_of_queries_are_in_the_order_of_the_row_they_are_equal_to(equal):
    n = 40
    ranks = np.random.default_rng(0).permutation(n) + 1
    numbers = np.arange(n)
    D = np.full((1, n), 0.5)
    if equal is not None:
        D[0, equal] = 0
    distinct = knn.UniqueRows(None, numbers, numbers, ranks)
    found, same = knn.neighbors_of_queries(D, distinct, n)
    ties = knn.tie_order(0 if equal is None else ranks[equal], ranks)
    assert_array_equal(found.ids[0], np.lexsort((ties, D[0])))
    assert_array_equal(same[0], found.ids[0] == (-1 if equal is None else equal))


@pytest.mark.parametrize("own", [True, False])
def test_the_first_of_ties_are_the_best_among_copies(own):
    n, k = 400, 4
    X = np.repeat(unit(2), n // 2, axis=0)
    ranks = np.random.default_rng(1).permutation(n).astype(np.int32)
    both, numbers = knn.Ranks(ranks, ranks), np.arange(n) if own else None
    least = np.full(n, 1 - 1e-6, dtype=np.float32)
    found = knn.first_of_ties(X, X, least, k, both, numbers, enough=1)
    ids, _ = plain_lists(X, X, k, both, numbers)
    # Where by chance few of the first that are tried are copies, it gives up.
    given = found[0][:, 0] >= 0
    assert given.mean() > 0.99
    assert_array_equal(found[0][given], ids[given])
    assert_array_equal(found[1], np.repeat(given[:, None], k, axis=1))


def test_the_first_of_ties_are_those_of_the_largest_similarities():
    """Of the vectors that come first in the order of ties, whatever theirs is."""
    n, k = 400, 150
    X = unit(n)
    ranks = np.random.default_rng(1).permutation(n).astype(np.int32)
    least = np.full(n, -1, dtype=np.float32)  # which all reach, so that all have lists
    ids, similarities = knn.first_of_ties(
        X, X, least, k, knn.Ranks(ranks, ranks), np.arange(n), enough=-1
    )
    tried = 2 * k * 512 // n  # of the numbers up to 512, which the ranks are among
    order = np.argsort(knn.tie_order(0, np.arange(512)))[:tried]
    for i in range(n):
        near = np.flatnonzero(np.isin(ranks, ranks[i] ^ order))
        near = near[near != i]
        best = -np.sort(-(X[near] @ X[i]))[:k]
        np.testing.assert_allclose(similarities[i, : best.size], best, atol=2e-6)
        assert set(ids[i][ids[i] >= 0]) <= set(near)


@pytest.mark.parametrize("found", [True, False])
def test_lists_are_completed_by_what_is_a_step_better(found):
    similarities = np.array([0.5, 0.5, 0.500001, 0.499999, 0.500002])
    vectors = np.column_stack([similarities, np.sqrt(1 - similarities**2)])
    ids = np.array([[0, 1, 3]] if found else [[-1, -1, -1]], dtype=np.int32)
    values = np.where(ids >= 0, similarities[ids], 0).astype(np.float32)
    if found:  # without the last, which is a step less similar
        ids, values = ids[:, :2].copy(), values[:, :2].copy()
    knn.complete(
        ids,
        values,
        np.array([[1, 0]], dtype=np.float32),
        vectors.astype(np.float32),
        np.array([0.5], dtype=np.float32),
        knn.Ranks(np.zeros(1, int), np.arange(5)),
        None,
    )
    assert_array_equal(ids[0], [4, 2] if found else [4, 2, 0])
    np.testing.assert_allclose(values[0], similarities[ids[0]], atol=1e-7)


def test_of_queries_without_ties_there_are_none():
    X = unit(400)
    ranks = np.arange(400, dtype=np.int32)
    least = np.full(400, 0.999, dtype=np.float32)
    found = knn.first_of_ties(
        X, X, least, 4, knn.Ranks(ranks, ranks), np.arange(400), enough=1
    )
    assert (found[0] == -1).all()
    assert not found[1].any()


def test_in_blocks_gives_results_in_order():
    def sizes(rows):
        return rows.start, rows.stop

    assert knn.in_blocks(sizes, 5, 2, 2) == [(0, 2), (2, 4), (4, 5)]
    assert knn.in_blocks(sizes, 2, 2, 2) == [(0, 2)]
    assert knn.in_blocks(sizes, 0, 2, 2) == []


def test_vectors_at_least_so_similar_and_few_others_are_compared(monkeypatch):
    monkeypatch.setattr(knn, "_ROWS_AT_ONCE", 50)
    monkeypatch.setattr(knn, "_ROWS_ALIKE", 7)
    compared, products = [], knn._products

    def counted(queries, vectors, candidates):
        compared.append(np.count_nonzero(candidates >= 0))
        return products(queries, vectors, candidates)

    monkeypatch.setattr(knn, "_products", counted)
    X, edges = few_directions(), np.linspace(-0.83, 0.93, 30)
    found = knn._at_least(X[:30], X, edges)
    similarities = X[:30].astype(float) @ X.T.astype(float)
    expected = similarities >= edges[:, None]
    assert (np.abs(similarities - edges[:, None]) > 1e-5).all()
    assert sum(compared) == expected.sum()
    assert found.shape[1] == expected.sum(axis=1).max()
    for ids, near in zip(found, expected, strict=True):
        there = np.flatnonzero(near)
        assert_array_equal(np.sort(ids[: there.size]), there)
        assert (ids[there.size :] == -1).all()


def hnsw(X, ef_search, target_recall, k=5, m=2):
    return knn.hnsw_neighbors(
        X,
        k,
        np.random.default_rng(1).permutation(len(X)).astype(np.int32),
        m=m,
        ef_construction=4,
        ef_search=ef_search,
        target_recall=target_recall,
        rng=np.random.RandomState(0),
        reproducible=True,
    )


@pytest.mark.parametrize("n", [300, 800, 801])
def test_recall_of_few_rows_is_known_and_of_many_estimated(n):
    X = unit(n, 20)
    ranks = knn.Ranks(np.arange(n), np.arange(n))
    last = knn.exact_neighbors(X, X, 5, ranks, own=np.arange(n)).similarities[:, -1:]
    found = hnsw(X, 1, 0.0)
    hits = (found.ids >= 0) & (found.similarities >= last)
    assert hits.mean() < 0.99
    if n <= 800:
        assert found.recall == found.recall_bound == pytest.approx(hits.mean())
    else:
        assert found.recall == pytest.approx(hits.mean(), abs=0.05)
        assert 0.005 < found.recall - found.recall_bound < 0.05


@pytest.mark.parametrize(("target", "n_measured"), [(1.0, 2), (1.1, 6)])
def test_recall_is_measured_until_the_target_is_reached(
    monkeypatch, target, n_measured
):
    """By the choice and its confirmation; of a target that is not, at last once."""
    found, bound = [], knn.recall_bound
    monkeypatch.setattr(knn, "recall_bound", lambda *a: found.append(bound(*a)) or 1.0)
    assert hnsw(unit(200), 200, target, m=16).recall == 1
    assert len(found) == n_measured
    assert set(found) == {1.0}


def test_vertices_are_told_apart_by_those_four_edges_away():
    path = sp.diags_array(np.ones(19), offsets=1).tocsr()
    found = knn.rank_vertices(sp.csr_array(path + path.T))
    # Those farther from both ends are in the order of their numbers, and last.
    assert_array_equal(found[4:16], np.arange(8, 20))
    assert_array_equal(np.sort(found[:4] // 2), np.arange(4))
    assert_array_equal(found[:4] // 2, found[:15:-1] // 2)


def test_threads_of_faiss_are_as_before():
    before = knn.n_threads()
    with knn.limit_threads(before + 2):
        assert knn.n_threads() == before + 2
    with knn.limit_threads(None):
        assert knn.n_threads() == before
    assert knn.n_threads() == before


def test_more_queries_than_fitted_rows_lose_no_neighbour():
    numbers = np.arange(3)
    D = np.random.default_rng(0).uniform(0.1, 1, (20, 3))
    for k in (3, 4, 9):  # lists are as long as the longest
        distinct = knn.UniqueRows(None, *[numbers] * 3)
        found, _ = knn.neighbors_of_queries(D, distinct, k)
        assert_array_equal(found.ids, np.argsort(D, axis=1))


def test_only_what_was_forked_after_faiss_has_one_thread(monkeypatch):
    monkeypatch.setattr(knn, "_forked", None)
    knn._faiss()
    knn._after_fork()
    assert knn._forked
    monkeypatch.delitem(sys.modules, "faiss")
    knn._after_fork()
    assert not knn._forked


def test_a_full_disk_is_told_how_much_was_needed(tmp_path, monkeypatch):
    like = np.lib.format.open_memmap(tmp_path / "X.npy", "w+", np.float32, (5, 7))

    def blocks():
        raise OSError(28, "No space left on device")
        yield

    with pytest.raises(OSError, match=r"A temporary file of 140 bytes, .* \(No space"):
        knn._joined(blocks(), (5, 7), like)


def test_libraries_are_looked_for_again_once_something_was_imported(monkeypatch):
    looked_for = []

    def find():
        looked_for.append(ThreadpoolController())
        return looked_for[-1]

    monkeypatch.setattr(knn, "ThreadpoolController", find)
    knn._blas.cache_clear()
    for _ in range(2):
        with knn.workers(1):
            libraries = looked_for[0].select(user_api="blas").info()
            assert {library["num_threads"] for library in libraries} == {1}
    assert len(looked_for) == 1
    monkeypatch.setitem(sys.modules, "just imported", None)
    with knn.workers(1):
        pass
    assert len(looked_for) == 2
