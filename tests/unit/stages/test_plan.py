"""Vectors in blocks as a plan asks for them: by rank, wherever they are."""

import numpy as np
import pytest
from numpy.testing import assert_array_equal

from skleiden._kernels import ivf
from skleiden._stages import plan
from skleiden._stages.plan import RowsOfShards
from tests.checks import brute_neighbors

SIZES = [[60], [30, 30], [20, 3, 37], [59, 1]]


@pytest.fixture(params=SIZES, ids=str)
def rows(request, blocked, directions):
    distinct = blocked(directions, request.param)
    return RowsOfShards(distinct.vectors, np.argsort(distinct.ranks), 1)


@pytest.fixture
def vectors(rows):
    """All vectors in the order of their ranks."""
    return np.concatenate(rows.shards.blocks)[rows.order]


def test_vectors_go_by_their_ranks(rows, vectors, monkeypatch):
    assert rows.n == len(vectors) == 56
    for ranks in (np.arange(56), np.array([55, 0, 17, 3, 3]), np.empty(0, dtype=int)):
        assert_array_equal(rows.take(ranks), vectors[ranks])
    monkeypatch.setattr(plan, "_ROWS_AT_ONCE", 7)
    assert_array_equal(rows.take(np.arange(56)), vectors)


def test_lists_of_vectors_in_blocks_are_those_of_one(rows, vectors, monkeypatch):
    axes = np.eye(8, 5, dtype=np.float32)
    seen = []
    trained = ivf.k_means

    def k_means(rows, n_lists, *, n_threads):
        seen.append(rows)
        return trained(rows, n_lists, n_threads=n_threads)

    monkeypatch.setattr(plan.ivf, "k_means", k_means)
    ranks = np.random.default_rng(0).permutation(56)[:50]
    centroids = rows.train(ranks, axes, 4)
    np.testing.assert_allclose(seen[0], vectors[ranks] @ axes, atol=1e-6)
    assert seen[0].dtype == np.float32
    assert centroids.shape == (4, 5)
    own = rows.assign(axes, centroids)
    assert_array_equal(own, (vectors @ axes @ centroids.T).argmax(axis=1))
    # A block of which no row is drawn.
    few = np.flatnonzero(rows.order < 5)
    rows.train(few, axes, 1)
    np.testing.assert_allclose(seen[1], vectors[few] @ axes, atol=1e-6)


def test_true_neighbours_go_by_ranks(rows, vectors):
    ranks = np.array([4, 55, 20, 0])
    found = rows.nearest(ranks, 6)
    ids, similarities = brute_neighbors(vectors, 6)
    assert_array_equal(found.ids, ids[ranks])
    np.testing.assert_allclose(found.similarities, similarities[ranks], atol=2e-6)


def test_a_plan_does_not_depend_on_blocks(blocked, directions):
    plans = []
    for sizes in SIZES:
        distinct = blocked(directions, sizes)
        rows = RowsOfShards(distinct.vectors, np.argsort(distinct.ranks), 1)
        rng = np.random.RandomState(0)
        plans.append(ivf.make_plan(rows, 5, target_recall=0.9, rng=rng, n_threads=1))
    for other in plans[1:]:
        for one, found in zip(plans[0][1:], other[1:], strict=True):
            assert_array_equal(found, one)
        for one, found in zip(plans[0].lists, other.lists, strict=True):
            assert_array_equal(found, one)
