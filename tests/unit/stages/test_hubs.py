"""Neighbours chosen among the nearest, of vectors in blocks."""

import numpy as np
import pytest
from numpy.testing import assert_array_equal
from scipy.stats import skew

from skleiden._blocks.runner import Local
from skleiden._kernels import knn
from skleiden._stages import hubs, search

SIZES = [[60], [30, 30], [20, 3, 37]]


@pytest.fixture(params=SIZES, ids=str)
def shards(request, blocked, directions):
    return blocked(directions, request.param).vectors


def similarities_of(shards):
    vectors = np.concatenate(shards.blocks).astype(float)
    found = np.round(vectors @ vectors.T, 6)
    np.fill_diagonal(found, -np.inf)
    return found


def test_without_correction_the_nearest_are_taken(shards):
    tables = search.search(shards, 6, None, 1)
    whole = search.gather(Local(), tables)
    found = hubs.choose_neighbors(shards, tables, 4, correct=False, n_jobs=1)
    lists = search.gather(Local(), found.tables)
    assert_array_equal(lists.ids, whole.ids[:, :4])
    assert_array_equal(lists.similarities, whole.similarities[:, :4])
    assert_array_equal(found.reach, whole.similarities[:, 3])
    assert found.reach.dtype == np.float32
    assert_array_equal(found.local, np.zeros(len(whole.ids)))
    in_lists = np.bincount(whole.ids[:, :4].ravel(), minlength=len(whole.ids))
    assert found.skewness == pytest.approx(skew(in_lists))


def test_with_correction_those_of_the_highest_corrected_similarity(shards):
    tables = search.search(shards, 12, None, 1)
    found = hubs.choose_neighbors(shards, tables, 4, correct=True, n_jobs=1)
    similarities = similarities_of(shards)
    nearest = -np.sort(-similarities, axis=1)
    local = nearest[:, :10].mean(axis=1)
    np.testing.assert_allclose(found.local, local, atol=2e-6)
    assert_array_equal(found.local, np.round(found.local, 6))
    corrected = similarities - (local[:, None] + local) / 2
    corrected[similarities < nearest[:, 11:12]] = -np.inf
    lists = search.gather(Local(), found.tables)
    of_lists = np.take_along_axis(corrected, lists.ids.astype(int), axis=1)
    best = -np.sort(-corrected, axis=1)[:, :4]
    np.testing.assert_allclose(of_lists, best, atol=3e-5)
    np.testing.assert_allclose(found.reach, best[:, 3], atol=3e-5)
    listed = np.take_along_axis(similarities, lists.ids.astype(int), axis=1)
    np.testing.assert_allclose(lists.similarities, listed, atol=2e-6)
    plain = search.gather(Local(), tables).ids[:, :4]
    in_lists = np.bincount(plain.ravel(), minlength=len(plain))
    assert found.skewness == pytest.approx(skew(in_lists))  # without correction


@pytest.mark.parametrize("correct", [False, True])
def test_lists_that_are_not_full_reach_whatever_is_there(correct, blocked):
    shards = blocked(np.eye(4), [4]).vectors
    table = knn.Neighbors(
        np.array([[1, 2, 3], [0, 2, -1], [3, 1, 0], [-1, -1, -1]], dtype=np.int32),
        np.array([[5, 4, 3], [5, 4, 0], [6, 5, 4], [0, 0, 0]], dtype=np.float32) / 10,
    )

    def reach_of(k):
        found = hubs.choose_neighbors(shards, [table], k, correct=correct, n_jobs=1)
        assert found.tables[0].ids.shape == (4, min(k, 3))
        return found.reach

    assert reach_of(4).tolist() == [-1, -1, -1, -1]
    # Surroundings are .4, .45, .5 and 0. The last of both are .4 - (.4 + .5) / 2.
    expected = [-0.05, -1, -0.05, -1] if correct else [0.3, -1, 0.4, -1]
    np.testing.assert_allclose(reach_of(3), expected, atol=1e-5)


def test_vectors_without_any_neighbour(blocked):
    shards = blocked(np.ones((4, 3)), [4]).vectors
    tables = search.search(shards, 0, None, 1)
    for correct in (False, True):
        found = hubs.choose_neighbors(shards, tables, 5, correct=correct, n_jobs=1)
        assert found.reach.tolist() == [-1]
        assert found.tables[0].ids.shape == (1, 0)
        assert found.local.tolist() == [0]
        assert found.skewness == 0


def test_skewness_is_the_third_moment():
    counts = np.array([1, 5, 2, 8, 2, 30])
    assert hubs._skewness(counts) == pytest.approx(skew(counts))
    assert hubs._skewness(np.array([1, 1, 1, 2])) == pytest.approx(skew([1, 1, 1, 2]))
    assert hubs._skewness(np.array([3, 3, 3])) == 0
    assert hubs._skewness(np.empty(0)) == 0


def test_surroundings_are_means_of_the_ten_nearest_in_steps():
    ids = np.tile(np.arange(12), (4, 1))
    similarities = np.tile(np.linspace(0.9, 0.35, 12), (4, 1)).astype(np.float32)
    ids[1, 4:] = -1
    ids[2] = -1
    ids[3, [0, 2]] = -1  # of those that are left, ten
    similarities[ids < 0] = 0
    found = hubs.surroundings(ids, similarities)
    assert found.dtype == np.int64
    first = np.linspace(900_000, 350_000, 12)
    expected = [
        first[:10].mean(),
        first[:4].mean(),
        0,
        first[[1, *range(3, 12)]].mean(),
    ]
    np.testing.assert_allclose(found, expected, atol=1)
    assert hubs.surroundings(ids[:1, :1], similarities[:1, :1]).tolist() == [900_000]


def test_corrected_similarities_are_rounded_to_ten_steps():
    ids = np.array([[0, 1, 2]])
    found = knn.Neighbors(ids, np.array([[0.5, 0.4, 0.3]], dtype=np.float32))
    local = np.array([100_000, 0, 40])
    ranks = knn.Ranks(np.zeros(1, dtype=np.int32), np.arange(3, dtype=np.int32))
    columns, steps = hubs.choose(found, 2, local, np.array([200_006]), ranks)
    assert columns.tolist() == [[0, 1]]
    assert steps.tolist() == [[350_000, 300_000]]  # 349,997 and 299,997
    columns, steps = hubs.choose(found, 3, local, np.array([200_012]), ranks)
    assert steps.tolist() == [[349_990, 299_990, 199_970]]
    columns, steps = hubs.choose(found, 2, None, None, ranks)
    assert steps.tolist() == [[500_000, 400_000]]


def test_counts_do_not_depend_on_how_many_rows_are_counted_at_once(monkeypatch):
    rng = np.random.default_rng(0)
    ids = rng.integers(-1, 40, (40, 6)).astype(np.int32)
    table = knn.Neighbors(ids, np.zeros(ids.shape, np.float32))
    listed = ids[:, :4]
    expected = np.bincount(listed[listed >= 0], minlength=50)
    sizes = []
    in_blocks = knn.in_blocks

    def noted(function, n, size, n_jobs):
        sizes.append((n, size))
        return in_blocks(function, n, size, n_jobs)

    monkeypatch.setattr(hubs.knn, "in_blocks", noted)
    for most, counts in ((1, 16), (4096, 16), (1, 3)):
        monkeypatch.setattr(hubs, "_ROWS_AT_ONCE", most)
        monkeypatch.setattr(hubs, "_COUNTS", counts)
        assert_array_equal(hubs._counted(table, 4, 50, 1), expected)
    assert sizes == [(40, 3), (40, 4096), (40, 14)]  # at most so many of all vectors


@pytest.mark.parametrize("most", [1, 7, 59])
def test_choices_do_not_depend_on_how_many_rows_are_at_once(
    monkeypatch, blocked, directions, most
):
    shards = blocked(directions, [30, 30]).vectors
    tables = search.search(shards, 12, None, 1)
    expected = hubs.choose_neighbors(shards, tables, 4, correct=True, n_jobs=1)
    monkeypatch.setattr(hubs, "_ROWS_AT_ONCE", most)
    found = hubs.choose_neighbors(shards, tables, 4, correct=True, n_jobs=1)
    for one, other in zip(found.tables, expected.tables, strict=True):
        assert_array_equal(one.ids, other.ids)
        assert_array_equal(one.similarities, other.similarities)
    assert_array_equal(found.reach, expected.reach)
    assert_array_equal(found.local, expected.local)
