"""Plans of a search by lists: what they promise, and that it holds."""

from typing import NamedTuple

import numpy as np
import pytest
from numpy.testing import assert_array_equal

from skleiden._kernels import ivf, knn
from tests import mutants

K = 5


class InMemory(NamedTuple):
    """Vectors that a plan is made of."""

    vectors: np.ndarray

    @property
    def n(self):
        return len(self.vectors)

    def take(self, numbers):
        return self.vectors[numbers]

    def train(self, numbers, axes, n_lists):
        return ivf.k_means(self.vectors[numbers] @ axes, n_lists, n_threads=1)

    def assign(self, axes, centroids):
        return ivf.assign(self.vectors, np.arange(self.n), axes, centroids, n_threads=1)

    def nearest(self, numbers, k):
        ranks = np.arange(self.n)
        some = knn.Ranks(ranks[numbers], ranks)
        return ivf.true_neighbors(
            self.vectors[numbers], self.vectors, k, some, own=numbers, n_threads=1
        )


# How much is tried, little first.
EFFORTS = {
    "_COMPONENTS": (2, 1000),
    "_AXES_ROWS": (30, 10**6),
    "_LISTS": (1 / 180, 0.3),
    "_TRAINING_ROWS": (1, 1000),
    "_ITERATIONS": (1, 80),
    "_PLACE": (1, 40),
    "_SAMPLE_SIZE": (60, 1000),
    "_N_SAMPLES": (2, 30),
    "_MARGIN": (0.0, 25.0),
    "_NEAR_ROWS": (3, 10**6),
    "_NEAR_SHARE": (1e-3, 10.0),
    "_SPARE": (0, 80),
}


@pytest.fixture(scope="module")
def many():
    """Rows all around, and what the last true neighbour of each reaches."""
    X = np.random.default_rng(0).standard_normal((3000, 10)) * np.linspace(3, 1, 10)
    X = knn.unit_rows(X.astype(np.float32))
    ranks = np.arange(3000, dtype=np.int32)
    both = knn.Ranks(ranks, ranks)
    return X, knn.exact_neighbors(X, X, K, both, own=ranks).similarities[:, -1:]


@pytest.mark.parametrize(
    ("name", "value"), [(name, value) for name in EFFORTS for value in EFFORTS[name]]
)
def test_recall_is_reached_with_any_effort(name, value, many, monkeypatch):
    assert set(EFFORTS) == set(mutants.EFFORT["ivf.py"].split())
    X, last = many
    monkeypatch.setattr(ivf, name, value)
    plan = plan_of(X, 0.9)
    found = ivf.search(X, K, plan, np.arange(3000, dtype=np.int32), n_threads=1)
    hits = (found.ids >= 0) & (found.similarities >= last)
    assert hits.mean() > 0.9
    _, bound = ivf.measured(
        plan, found.ids[plan.sample], found.similarities[plan.sample]
    )
    assert bound >= 0.9


def plan_of(X, target_recall, seed=0):
    return ivf.make_plan(
        InMemory(X),
        K,
        target_recall=target_recall,
        rng=np.random.RandomState(seed),
        n_threads=1,
    )


def test_a_plan_tells_its_lists_its_sample_and_what_it_costs(many):
    X, last = many
    plan = plan_of(X, 0.9)
    lists = plan.lists
    np.testing.assert_allclose(lists.axes.T @ lists.axes, np.eye(10), atol=1e-5)
    spread = ((X @ lists.axes) ** 2).sum(axis=0)
    assert (np.diff(spread) < 0).all()  # the first components first
    assert_array_equal(lists.own, (X @ lists.axes @ lists.centroids.T).argmax(axis=1))
    assert_array_equal(np.unique(lists.own), np.arange(len(lists.centroids)))
    assert len(lists.centroids) == round(3000**0.75 / 18)
    assert np.unique(plan.sample).size == 300
    assert_array_equal(plan.last, last[plan.sample, 0])
    probed = lists.probed(X[plan.sample], lists.own[plan.sample], plan.slack)
    compared = probed[:, lists.own].sum(axis=1)
    assert plan.share == pytest.approx(compared.mean() / 3000)
    assert 0.05 < plan.share < 0.5


def test_neighbouring_lists_follow_one_another(many):
    centroids = plan_of(many[0], 0.9).lists.centroids
    assert_array_equal(ivf._chain(centroids), np.arange(len(centroids)))


def test_the_slack_is_the_least_for_its_sample_and_confirmed_by_another(
    many, monkeypatch
):
    samples, needed_slack = [], ivf._needed_slack

    def noted(rows, lists, sample, neighbors, parallel):
        needed = needed_slack(rows, lists, sample, neighbors, parallel)
        samples.append((sample, needed))
        return needed

    monkeypatch.setattr(ivf, "_needed_slack", noted)
    plan = plan_of(many[0], 0.9)
    *tuning, (sample, confirming) = samples
    assert_array_equal(sample, plan.sample)
    drawn = np.concatenate([numbers for numbers, _ in samples])
    assert np.unique(drawn).size == drawn.size == 300 * len(samples)
    choices = np.concatenate([needed for _, needed in tuning])
    assert plan.slack == ivf._least_slack(choices, 0.9) + 2e-6
    least = np.sort(choices, axis=None)
    below = least[np.searchsorted(least, plan.slack - 2e-6) - 1]
    assert knn.recall_bound(choices <= plan.slack, 2.5) >= 0.9
    assert knn.recall_bound(choices <= below, 2.5) < 0.9
    assert knn.recall_bound(confirming <= plan.slack) >= 0.9


def test_slack_is_that_of_the_nearer_of_both_ways(many):
    X, _ = many
    lists = plan_of(X, 0.9).lists
    sample, neighbors = np.arange(40), np.arange(2000, 2120).reshape(40, 3)
    with knn.workers(1) as parallel:
        found = ivf._needed_slack(InMemory(X), lists, sample, neighbors, parallel)
    scores = X @ lists.axes @ lists.centroids.T
    scores -= -np.sort(-scores, axis=1)[:, 3:4]
    for i in sample:
        for j, needed in zip(neighbors[i], found[i], strict=True):
            a, b = lists.own[[i, j]]
            expected = -max(scores[i, b], scores[j, a]) if a != b else -np.inf
            assert needed == pytest.approx(expected, abs=1e-5)


def test_what_no_sample_confirms_compares_all_pairs(many):
    X, _ = many
    plan = plan_of(X[:250], 0.99)  # there are no others to confirm it by
    assert (plan.slack, plan.share) == (np.inf, 1.0)
    assert plan.sample.size == 250


def test_a_recall_of_1_is_reached_where_groups_are_apart():
    rng = np.random.default_rng(0)
    X = np.eye(12)[np.arange(1200) % 12] + 0.01 * rng.standard_normal((1200, 12))
    plan = plan_of(knn.unit_rows(X.astype(np.float32)), 1.0)
    assert plan.slack < np.inf
    assert plan.share < 0.5
