"""The correction for hubs: what it chooses, what it tells, and what `predict` makes."""

import numpy as np
import pytest
from scipy.stats import skew
from sklearn.metrics import adjusted_rand_score

from skleiden import FaissKNeighborsTransformer, MutualKNNLeiden
from tests.checks import brute_neighbors, check_fitted_clusterer, unit_rows


@pytest.fixture(scope="module")
def hubby():
    """Six groups of directions, and rows near the middle, which are near to all."""
    rng = np.random.default_rng(0)
    kinds = np.arange(420) % 6
    X = rng.standard_normal((420, 24)) + 6 * np.eye(24)[kinds]
    X[:30] = 0.5 * X[:30] + 1.5
    return X.astype(np.float32), kinds


def corrected(X, k):
    """Neighbours by CSLS, comparing all pairs in float64: ids, and similarities."""
    _, nearest = brute_neighbors(X, 10)
    local = nearest.mean(axis=1)
    unit = unit_rows(X.astype(np.float64))
    similarities = unit @ unit.T
    scores = similarities - (local[:, None] + local) / 2
    candidates = brute_neighbors(X, 2 * k)[0]
    of_candidates = np.take_along_axis(scores, candidates, axis=1)
    best = np.argsort(-of_candidates, axis=1, kind="stable")[:, :k]
    return np.take_along_axis(candidates, best, axis=1), similarities, local


@pytest.mark.parametrize("n_neighbors", [5, 15])
def test_neighbours_are_those_of_the_corrected_similarity(hubby, place, n_neighbors):
    X, _ = hubby
    fitted = MutualKNNLeiden(n_neighbors, hubness="csls", random_state=0).fit(place(X))
    ids, similarities, local = corrected(X, n_neighbors)
    listed = np.zeros(similarities.shape, dtype=bool)
    np.put_along_axis(listed, ids, True, axis=1)
    expected = np.where(listed & listed.T & (similarities > 0), similarities, 0)
    found = fitted.affinity_matrix_.toarray()
    # Where corrected similarities differ by rounding alone, others may be chosen.
    assert ((found > 0) == (expected > 0)).mean() > 0.9999
    both = (found > 0) & (expected > 0)
    np.testing.assert_allclose(found[both], expected[both], atol=1e-5)
    np.testing.assert_allclose(fitted.local_similarity_, local, atol=1e-5)


def test_what_it_tells(hubby):
    X, kinds = hubby
    plain, csls = (
        MutualKNNLeiden(10, hubness=hubness, random_state=0).fit(X)
        for hubness in (None, "csls")
    )
    ids, _ = brute_neighbors(X, 10)
    in_lists = np.bincount(ids.ravel(), minlength=len(X))
    for fitted in (plain, csls):
        check_fitted_clusterer(fitted)
        assert fitted.hub_skewness_ == pytest.approx(skew(in_lists), abs=0.02)
    assert plain.hubness_ is None
    assert not plain.local_similarity_.any()
    assert csls.hubness_ == "csls"
    assert csls.n_isolated_ <= plain.n_isolated_
    rest = slice(30, None)
    assert adjusted_rand_score(csls.labels_[rest], kinds[rest]) > 0.9


@pytest.mark.parametrize("algorithm", ["ivf", "hnsw"])
def test_of_every_search(hubby, algorithm):
    X, _ = hubby
    exact = MutualKNNLeiden(10, hubness="csls", random_state=0).fit(X)
    other = MutualKNNLeiden(
        10, hubness="csls", algorithm=algorithm, target_recall=1.0, random_state=0
    ).fit(X)
    assert adjusted_rand_score(exact.labels_, other.labels_) > 0.95


def test_auto_corrects_what_has_enough_neighbours(hubby):
    X, _ = hubby
    direct = MutualKNNLeiden(10, random_state=0).fit(X)
    assert direct.hubness_ == "csls"
    for n_neighbors, hubness in ((20, "csls"), (19, None), (10, None)):
        graph = FaissKNeighborsTransformer(n_neighbors).fit_transform(X)
        through = MutualKNNLeiden(10, metric="precomputed", random_state=0).fit(graph)
        check_fitted_clusterer(through)
        assert through.hubness_ == hubness
        same = (through.affinity_matrix_ != direct.affinity_matrix_).nnz == 0
        assert same == (hubness == "csls")
    few = MutualKNNLeiden(10, random_state=0).fit(X[:15])  # all that there are
    assert few.hubness_ == "csls"


def test_too_few_neighbours_are_refused_if_it_is_asked_for(hubby):
    graph = FaissKNeighborsTransformer(15).fit_transform(hubby[0])
    clusterer = MutualKNNLeiden(10, metric="precomputed", hubness="csls")
    with pytest.raises(
        ValueError, match=r"at most 15 .* needs twice as many.* or lower"
    ):
        clusterer.fit(graph)


@pytest.mark.parametrize("value", ["mutual", 1, True])
def test_other_corrections_are_refused(hubby, value):
    with pytest.raises(ValueError, match="The 'hubness' parameter of MutualKNNLeiden"):
        MutualKNNLeiden(hubness=value).fit(hubby[0])


def test_predictions_go_by_the_corrected_similarity(hubby):
    X, _ = hubby
    fitted = MutualKNNLeiden(10, hubness="csls", random_state=0).fit(X)
    assert (fitted.predict(X) == fitted.labels_).mean() > 0.97
    queries = X[::3] + 0.1 * np.random.default_rng(0).standard_normal((140, 24))
    expected = []
    _, _, local = corrected(X, 10)
    for query in unit_rows(queries):
        similarities = unit_rows(X.astype(float)) @ query
        nearest = np.argsort(-similarities, kind="stable")[:21]
        own = similarities[nearest[:10]].mean()
        scores = similarities[nearest] - (own + local[nearest]) / 2
        best = nearest[np.argsort(-scores, kind="stable")[:10]]
        reached = similarities[best] - (own + local[best]) / 2
        best = best[reached >= fitted.kth_similarity_[best] - 1e-6]
        votes = np.bincount(
            fitted.labels_[best],
            np.maximum(similarities[best], 0),
            minlength=fitted.n_clusters_,
        )
        expected.append(votes.argmax() if votes.any() else -1)
    assert (fitted.predict(queries) == expected).mean() > 0.97
