"""The most typical partition, and the estimator that keeps it."""

import pickle

import numpy as np
import pandas as pd
import pytest
from sklearn.base import clone
from sklearn.cluster import DBSCAN, KMeans
from sklearn.metrics import adjusted_rand_score
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline

from skleiden import MultiLayerTfidfSketcher, MutualKNNLeiden
from skleiden.model_selection import (
    FullDataSplit,
    StableLeiden,
    _consensus,
    consensus,
    make_stability_scorer,
    select_stable,
)


def make(**parameters):
    return StableLeiden(
        make_pipeline(
            MultiLayerTfidfSketcher(64, layer_weights=None),
            MutualKNNLeiden(n_neighbors=20),
        ),
        random_state=0,
    ).set_params(**parameters)


def test_consensus_by_hand():
    runs = [
        [0, 0, 0, 1, 1, 1, -1],
        [1, 1, 1, 0, 0, 0, -1],  # the same under other names
        [0, 0, 1, 1, 1, 1, 2],
        [0, 1, 0, 1, 0, 1, 0],
    ]
    found = consensus(runs)
    assert found.medoid == 0
    np.testing.assert_array_equal(found.labels, runs[0])
    # Run 1 keeps all, run 2 all but rows 2 and 6, run 3 rows 0, 2, 3 and 5.
    np.testing.assert_allclose(found.confidence, np.array([3, 2, 2, 3, 2, 3, 1]) / 3)
    assert found.scores.shape == (4, 4)
    assert found.scores[0, 1] == 1
    assert found.stability == pytest.approx(found.scores[np.triu_indices(4, 1)].mean())


def test_consensus_goes_by_the_order_of_the_rows():
    first = pd.Series([0, 0, 1, 1], index=list("abcd"))
    found = consensus([np.array([0, 0, 1, 1]), first, first.to_numpy()])
    np.testing.assert_array_equal(found.confidence, 1)
    with pytest.raises(
        ValueError, match=r"labels\[2\] must be in the order of the rows"
    ):
        consensus([[0, 0, 1, 1], first, first[::-1]])


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        ([[0, 1]], "at least two arrays"),
        ([], "at least two arrays"),
        ([[0, 1], [0, 1, 2]], r"got 2, of shapes \[\(2,\), \(3,\)\]"),
        ([[[0], [1]], [[0], [1]]], "at least two arrays"),
        ([[0.5, 1.0], [0.0, 1.0]], "Labels must be integers, -1 for noise; got"),
    ],
)
def test_bad_partitions(labels, message):
    with pytest.raises(ValueError, match=message):
        consensus(labels)


@pytest.mark.slow
@pytest.mark.parametrize("vary", ["all", "mutualknnleiden__random_state"])
def test_stable_leiden(stack, planted, vary):
    stable = make(vary=vary, n_runs=4).fit(stack)
    assert adjusted_rand_score(planted, stable.labels_) > 0.9
    assert stable.n_clusters_ == 4
    assert stable.n_features_in_ == stack.shape[1]
    assert stable.confidence_.shape == (400,)
    assert stable.confidence_.min() >= 0
    assert 0.95 < stable.confidence_.mean() <= 1
    np.testing.assert_array_equal(stable.estimator_[-1].labels_, stable.labels_)
    np.testing.assert_array_equal(
        stable.predict(stack), stable.estimator_.predict(stack)
    )
    # Set seeds give the same once more.
    for other in (clone(stable), clone(stable).set_params(n_jobs=2)):
        np.testing.assert_array_equal(other.fit_predict(stack), stable.labels_)
        np.testing.assert_array_equal(other.confidence_, stable.confidence_)
        assert other.stability_ == stable.stability_
    again = pickle.loads(pickle.dumps(stable))
    np.testing.assert_array_equal(again.predict(stack), stable.predict(stack))


def test_medoid_is_the_most_typical_run(embedding):
    stable = StableLeiden(
        MutualKNNLeiden(10, resolution=8.0), n_runs=6, random_state=1
    ).fit(embedding)
    rng = np.random.RandomState(1)
    rng.randint(2**31 - 1)
    runs = [
        MutualKNNLeiden(10, resolution=8.0, random_state=rng.randint(2**31 - 1))
        .fit(embedding)
        .labels_
        for _ in range(6)
    ]
    expected = consensus(runs)
    np.testing.assert_array_equal(stable.labels_, expected.labels)
    np.testing.assert_array_equal(stable.confidence_, expected.confidence)
    assert stable.stability_ == pytest.approx(expected.stability)


def test_unsure_rows_are_those_between_communities(embedding, planted):
    first, second = (embedding[planted == label][:30] for label in (0, 1))
    X = np.concatenate([embedding, first + second])
    stable = StableLeiden(MutualKNNLeiden(20), n_runs=10, random_state=0).fit(X)
    assert stable.confidence_[400:].mean() < stable.confidence_[:400].mean() - 0.03


def test_inside_a_pipeline_and_a_search(stack):
    pipeline = make_pipeline(
        MultiLayerTfidfSketcher(64, layer_weights=None, random_state=0),
        StableLeiden(MutualKNNLeiden(20), n_runs=3, random_state=0),
    )
    search = GridSearchCV(
        pipeline,
        {"stableleiden__estimator__resolution": [0.01, 1.0, 20.0]},
        scoring=make_stability_scorer(n_runs=2),
        cv=FullDataSplit(),
        refit=select_stable(),
        n_jobs=2,
        error_score="raise",
    ).fit(stack)
    assert search.best_params_ == {"stableleiden__estimator__resolution": 1.0}
    assert search.best_estimator_[-1].confidence_.mean() > 0.95


def test_default_and_third_party_estimators(embedding, planted):
    assert StableLeiden(random_state=0).fit(embedding).predict(embedding).size == 400
    means = StableLeiden(KMeans(4, n_init=1), random_state=0).fit(embedding)
    assert adjusted_rand_score(planted, means.labels_) > 0.9
    assert means.labels_.dtype == np.int32
    np.testing.assert_array_equal(means.predict(embedding), means.labels_)


def test_bad_estimators(embedding):
    with pytest.raises(ValueError, match=r"runs of DBSCAN: .* Give it an estimator"):
        StableLeiden(DBSCAN()).fit(embedding)
    with pytest.raises(TypeError, match="MultiLayerTfidfSketcher has none"):
        StableLeiden(MultiLayerTfidfSketcher()).fit(embedding)
    with pytest.raises(ValueError, match="'estimator' parameter"):
        StableLeiden(3).fit(embedding)
    with pytest.raises(ValueError, match="'n_runs' parameter"):
        StableLeiden(n_runs=1).fit(embedding)
    with pytest.raises(AttributeError, match="has no attribute 'predict'"):
        StableLeiden(DBSCAN()).predict(embedding)


def test_a_fit_that_fails_late_changes_nothing(embedding, monkeypatch):
    stable = StableLeiden(random_state=0).fit(embedding)
    before = vars(stable).copy()

    def interrupt(*_):
        raise KeyboardInterrupt

    for name in ("_confidence", "fitted_run"):
        with monkeypatch.context() as patched:
            patched.setattr(_consensus, name, interrupt)
            with pytest.raises(KeyboardInterrupt):
                stable.fit(embedding[:200])
        assert vars(stable) == before


def test_layers_as_a_mapping(stack):
    layers = dict(zip(stack.names, stack.layers, strict=True))
    stable = StableLeiden(
        make_pipeline(MultiLayerTfidfSketcher(layer_weights=None), MutualKNNLeiden()),
        n_runs=2,
        random_state=0,
    )
    expected = stable.fit_predict(stack)
    np.testing.assert_array_equal(stable.fit_predict(layers), expected)
    np.testing.assert_array_equal(stable.predict(layers), expected)


def test_names_of_an_earlier_fit_are_forgotten(blobs):
    pd = pytest.importorskip("pandas")
    stable = StableLeiden(MutualKNNLeiden(10), random_state=0)
    stable.fit(pd.DataFrame(blobs[0], columns=list("abcde")))
    assert stable.feature_names_in_.tolist() == list("abcde")
    assert not hasattr(stable.fit(blobs[0]), "feature_names_in_")
