"""How sure a row's place is: membership_, strength_, and the strength of new rows."""

import pickle

import numpy as np
import pytest
import scipy.sparse as sp
from numpy.testing import assert_allclose, assert_array_equal
from sklearn.exceptions import NotFittedError
from sklearn.pipeline import make_pipeline

from skleiden import (
    FaissKNeighborsTransformer,
    MultiLayerTfidfSketcher,
    MutualKNNLeiden,
    _clusterer,
)
from skleiden.io import load_estimator, save_estimator


def leiden(**parameters):
    return MutualKNNLeiden(**{"n_neighbors": 10, "random_state": 0} | parameters)


def expected_membership(clusterer):
    """By a dense product, for rows without equal ones."""
    labels = clusterer.labels_
    members = labels[:, None] == np.arange(clusterer.n_clusters_)
    weights = clusterer.affinity_matrix_.toarray() @ members
    total = weights.sum(axis=1, keepdims=True)
    return np.divide(weights, total, out=np.zeros_like(weights), where=total > 0)


def expected_strength(clusterer):
    """By a loop, for rows without equal ones in a graph of mutual similarities."""
    labels, local = clusterer.labels_, clusterer.local_similarity_
    affinity = clusterer.affinity_matrix_
    sizes = np.bincount(labels[labels >= 0])
    expected = np.zeros(labels.size)
    for i in np.flatnonzero(labels >= 0):
        row = affinity[[i]]
        possible = min(clusterer.n_neighbors_, sizes[labels[i]] - 1)
        for j, s in zip(row.indices, row.data, strict=True):
            if labels[j] == labels[i]:
                counted = s * min(1, s / local[j]) if local[j] > 0 else s
                expected[i] += counted**2 / possible
    return np.sqrt(expected)


@pytest.mark.parametrize(
    "parameters",
    [
        {},
        {"hubness": None},
        {"small_clusters": "noise", "min_cluster_size": 12, "resolution": 4.0},
        {"small_clusters": "keep", "resolution": 30.0},
    ],
)
def test_by_definition(embedding, place, parameters):
    fitted = leiden(**parameters).fit(place(embedding))
    assert isinstance(fitted.membership_, sp.csr_array)
    assert fitted.membership_.dtype == fitted.strength_.dtype == np.float32
    assert_allclose(
        fitted.membership_.toarray(), expected_membership(fitted), atol=1e-6
    )
    alone = np.bincount(fitted.labels_ + 1)[fitted.labels_ + 1] == 1
    assert (fitted.strength_[alone] == 0).all()
    assert_allclose(
        fitted.strength_[~alone], expected_strength(fitted)[~alone], atol=1e-6
    )
    assert ((fitted.strength_ >= 0) & (fitted.strength_ <= 1)).all()
    assert (fitted.strength_[fitted.labels_ < 0] == 0).all()


@pytest.mark.parametrize(
    "parameters", [{"graph": "union"}, {"weights": "umap"}, {"weights": "jaccard"}]
)
def test_strength_is_by_similarity_whatever_the_edges(embedding, parameters):
    """Votes are those of ``predict``, in every graph."""
    fitted = leiden(**parameters).fit(embedding)
    plain = leiden().fit(embedding)
    plain.labels_, plain.n_clusters_ = fitted.labels_, fitted.n_clusters_
    assert_allclose(fitted.strength_, expected_strength(plain), atol=1e-6)


@pytest.mark.parametrize("parameters", [{}, {"hubness": None}, {"graph": "union"}])
def test_fitted_rows_have_the_same_strength_when_they_are_predicted(
    embedding, place, parameters
):
    X = np.concatenate([embedding, embedding[:5], embedding[:3]])  # repeats, too
    fitted = leiden(**parameters).fit(place(X))
    labels, strength = fitted.predict(place(X), return_strength=True)
    assert_array_equal(fitted.predict(place(X)), labels)
    same = labels == fitted.labels_
    assert same.mean() > 0.95
    off = np.abs(strength - fitted.strength_)[same]
    if fitted.hubness_ is None:
        assert off.max() < 2e-6
    # A correction chooses among the nearest, of which a query may be none of a voter's.
    assert np.mean(off < 2e-6) > 0.9
    assert (strength[same] > fitted.strength_[same] - 2e-6).all()


def test_precomputed(embedding):
    transformer = FaissKNeighborsTransformer(20)
    graph = transformer.fit_transform(embedding)
    direct = leiden().fit(embedding)
    fitted = leiden(metric="precomputed").fit(graph)
    assert_allclose(fitted.strength_, direct.strength_, atol=2e-6)
    queries = embedding[:40] + 0.05 * embedding[40:80]
    labels, strength = fitted.predict(
        transformer.transform(queries), return_strength=True
    )
    expected = direct.predict(queries, return_strength=True)
    assert_array_equal(labels, expected[0])
    assert_allclose(strength, expected[1], atol=2e-6)


def test_equal_rows_have_the_same(embedding, place):
    X = np.concatenate([embedding[:100], np.repeat(embedding[:1], 9, axis=0)])
    fitted = leiden().fit(place(X))
    membership = fitted.membership_.toarray()
    for row in range(100, 109):
        assert_array_equal(membership[row], membership[0])
        assert fitted.strength_[row] == fitted.strength_[0]
    # Edges of the first to the rest are in its own community.
    assert membership[0, fitted.labels_[0]] > 0.5
    alone = leiden().fit(place(X[:100]))
    assert fitted.strength_[0] > alone.strength_[0]


def test_rows_that_are_all_equal_are_as_strong_as_can_be():
    X = np.ones((9, 3))
    X[0] = 0
    fitted = leiden().fit(X)
    assert_array_equal(fitted.strength_, [0] + 8 * [1])
    assert_array_equal(fitted.membership_.toarray(), [[0]] + 8 * [[1]])
    labels, strength = fitted.predict(X, return_strength=True)
    assert_array_equal(labels, fitted.labels_)
    assert_array_equal(strength, fitted.strength_)


def test_only_zero_rows():
    X = np.zeros((9, 3))
    with pytest.warns(UserWarning, match="No community has"):
        fitted = leiden().fit(X)
    assert fitted.membership_.shape == (9, 0)
    labels, strength = fitted.predict(X, return_strength=True)
    assert_array_equal(labels, np.full(9, -1))
    assert_array_equal(strength, np.zeros(9))
    assert strength.dtype == np.float32


def test_attached_rows_without_edges_are_in_no_community():
    rng = np.random.RandomState(0)
    X = rng.standard_normal((300, 30))
    fitted = leiden(n_neighbors=5, hubness=None).fit(X)
    unconnected = np.diff(fitted.affinity_matrix_.indptr) == 0
    unconnected &= fitted.attached_
    assert unconnected.any()
    assert (fitted.labels_[unconnected] >= 0).all()
    assert fitted.membership_[unconnected].nnz == 0
    assert (fitted.strength_[unconnected] == 0).all()


def test_membership_is_made_when_it_is_asked_for(embedding, tmp_path):
    fitted = leiden().fit(embedding)
    assert "membership_" not in vars(fitted)
    again = pickle.loads(pickle.dumps(fitted))
    save_estimator(tmp_path / "saved.npz", fitted)
    for one in (again, load_estimator(tmp_path / "saved.npz")):
        assert (one.membership_ != fitted.membership_).nnz == 0
        assert_array_equal(one.strength_, fitted.strength_)
    with pytest.raises(NotFittedError):
        _ = leiden().membership_
    assert not hasattr(leiden(), "membership_")


def noise_rows(n, d, rng):
    """Random vectors of several kinds."""
    kinds = {
        "uniform": rng.random_sample((n, d)),
        "of both signs": rng.uniform(-1, 1, (n, d)),
        "Gaussian": rng.standard_normal((n, d)),
    }
    for share in (0.02, 0.05):
        sparse = rng.standard_normal((n, d)) * (rng.random_sample((n, d)) < share)
        sparse[np.arange(n), rng.randint(d, size=n)] += 1
        kinds[f"sparse, {share}"] = sparse
    return {kind: rows.astype(np.float32) for kind, rows in kinds.items()}


@pytest.mark.parametrize("parameters", [{}, {"n_neighbors": 15}, {"hubness": None}])
def test_noise_is_weaker_than_nearly_all_rows(prompt_vectors, parameters):
    """Real prompts, a quarter held out: a vote of a random vector says nothing."""
    embedding, n = prompt_vectors, len(prompt_vectors)
    rng = np.random.RandomState(0)
    held_out = rng.permutation(n) < n // 4
    fitted = MutualKNNLeiden(random_state=0, **parameters).fit(embedding[~held_out])
    labels, strength = fitted.predict(embedding[held_out], return_strength=True)
    passed_by_nearly_all = np.quantile(strength, 0.01)
    assert passed_by_nearly_all > 0.1
    # Fitted and new rows compare.
    for share in (0.01, 0.1, 0.5):
        theirs = np.quantile(fitted.strength_, share)
        assert np.quantile(strength, share) == pytest.approx(theirs, abs=0.1)
    votes = 0
    for rows in noise_rows(300, embedding.shape[1], rng).values():
        labels, of_noise = fitted.predict(rows, return_strength=True)
        votes += np.count_nonzero(labels >= 0)
        assert of_noise.max() < passed_by_nearly_all
    if "hubness" not in parameters:
        assert votes > 100  # by labels alone, many would be in a community


def test_through_a_pipeline(stack):
    pipeline = make_pipeline(MultiLayerTfidfSketcher(layer_weights=None), leiden())
    pipeline.fit(stack)
    labels, strength = pipeline.predict(stack, return_strength=True)
    assert_array_equal(labels, pipeline.predict(stack))
    embedding = pipeline[0].transform(stack)
    assert_array_equal(
        strength, pipeline[1].predict(embedding, return_strength=True)[1]
    )


@pytest.mark.parametrize("at_once", [1, 7, 299])
def test_strengths_do_not_depend_on_blocks(monkeypatch, at_once):
    rng = np.random.default_rng(0)
    X = rng.standard_normal((300, 12)) + 3 * np.eye(12)[rng.integers(4, size=300)]
    X[:5], X[5:9] = X[9], 0
    expected = leiden(n_jobs=2).fit(X)
    monkeypatch.setattr(_clusterer, "_ROWS_AT_ONCE", at_once)
    found = leiden(n_jobs=2).fit(X)
    assert_array_equal(found.strength_, expected.strength_)
    for a, b in zip(
        found.predict(X[:50], return_strength=True),
        expected.predict(X[:50], return_strength=True),
        strict=True,
    ):
        assert_array_equal(a, b)
