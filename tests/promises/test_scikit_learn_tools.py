"""The estimators inside scikit-learn's own machinery, on both forms of input."""

import pickle

import joblib
import numpy as np
import pytest
import scipy.sparse as sp
from sklearn.base import clone
from sklearn.model_selection import (
    GridSearchCV,
    cross_val_predict,
    cross_val_score,
    train_test_split,
)
from sklearn.pipeline import Pipeline, make_pipeline

from skleiden import (
    FaissKNeighborsTransformer,
    LayerStack,
    MultiLayerTfidfSketcher,
    MutualKNNLeiden,
)

pytestmark = pytest.mark.slow


def make(layers=None, layer_weights="auto", **parameters):
    return Pipeline(
        [
            (
                "sketch",
                MultiLayerTfidfSketcher(
                    32, layers=layers, layer_weights=layer_weights, random_state=0
                ),
            ),
            ("leiden", MutualKNNLeiden(n_neighbors=10, random_state=0)),
        ],
        **parameters,
    )


@pytest.fixture(scope="module", params=["stack", "wide"])
def case(request, stack):
    """Layered input, and the parameter `layers` that it needs."""
    if request.param == "stack":
        return stack, None
    return sp.hstack(stack.layers).tocsr(), dict(
        zip(stack.names, stack.widths, strict=True)
    )


@pytest.fixture(scope="module")
def labels(stack):
    return make().fit_predict(stack)


def modularity(estimator, X, y=None):
    """A scorer that uses neither `score` nor `y`."""
    return estimator[-1].modularity_


def everything(X):
    rows = np.arange(X.shape[0])
    return [(rows, rows)]


def test_pipeline(case, labels):
    X, layers = case
    pipeline = make(layers)
    np.testing.assert_array_equal(pipeline.fit_predict(X), labels)
    assert np.mean(pipeline.predict(X) == labels) > 0.98


@pytest.mark.parametrize("n_jobs", [1, 2])
def test_grid_search(case, n_jobs):
    X, layers = case
    pipeline = make(layers, layer_weights=None)  # many fits, for less time each
    search = GridSearchCV(
        pipeline,
        {"sketch__n_components": [8, 32], "leiden__resolution": [0.5, 2.0]},
        scoring=modularity,
        cv=everything(X),
        n_jobs=n_jobs,
        error_score="raise",
    ).fit(X)
    scores = search.cv_results_["mean_test_score"]
    assert len(set(scores)) == 4
    expected = clone(pipeline).set_params(**search.best_params_).fit(X)
    assert search.best_score_ == expected[-1].modularity_
    np.testing.assert_array_equal(
        search.best_estimator_[-1].labels_, expected[-1].labels_
    )


def test_grid_search_is_the_same_in_worker_processes(case):
    X, layers = case
    tables = []
    for n_jobs in (1, 2):
        search = GridSearchCV(
            make(layers, layer_weights=None),
            {"leiden__resolution": [0.3, 1.0, 3.0]},
            scoring=modularity,
            cv=everything(X),
            n_jobs=n_jobs,
        ).fit(X)
        tables.append(search.cv_results_["mean_test_score"])
    np.testing.assert_array_equal(*tables)


def test_cross_validation_by_predict(case, planted):
    X, layers = case
    pipeline = make(layers, layer_weights=None)
    predicted = cross_val_predict(pipeline, X, cv=4)
    assert predicted.shape == planted.shape
    scores = cross_val_score(pipeline, X, scoring=modularity, cv=4, n_jobs=2)
    assert (scores > 0.3).all()


def test_train_test_split(case, planted):
    X, layers = case
    train, test, y_train, y_test = train_test_split(X, planted, random_state=0)
    assert train.shape == (300, 900)
    assert test.shape == (100, 900)
    pipeline = make(layers).fit(train, y_train)
    assert pipeline.predict(test).shape == y_test.shape


def test_clone_and_pickle(case, labels):
    X, layers = case
    pipeline = make(layers).fit(X)
    np.testing.assert_array_equal(clone(pipeline).fit_predict(X), labels)
    for copy in (
        pickle.loads(pickle.dumps(pipeline)),
        joblib.Parallel(n_jobs=2)([joblib.delayed(clone(pipeline).fit)(X)])[0],
    ):
        np.testing.assert_array_equal(copy[-1].labels_, labels)
        np.testing.assert_array_equal(copy.predict(X), pipeline.predict(X))
        np.testing.assert_array_equal(copy[0].transform(X), pipeline[0].transform(X))


def test_memory_caches_the_sketch(case, labels, tmp_path, monkeypatch):
    X, layers = case
    pipeline = make(layers, memory=str(tmp_path))
    np.testing.assert_array_equal(pipeline.fit_predict(X), labels)

    def fail(*args, **kwargs):
        raise AssertionError("the sketch was computed again")

    monkeypatch.setattr(MultiLayerTfidfSketcher, "fit", fail)
    # Asking SciPy about the input, as a fit does, must not change its hash.
    for layer in getattr(X, "layers", ()):
        assert layer.has_sorted_indices
    np.testing.assert_array_equal(pipeline.fit_predict(X), labels)


def test_cached_graph(case, labels, tmp_path):
    X, layers = case
    pipeline = Pipeline(
        [
            ("sketch", make(layers)["sketch"]),
            ("graph", FaissKNeighborsTransformer(20)),
            ("leiden", MutualKNNLeiden(10, metric="precomputed", random_state=0)),
        ],
        memory=str(tmp_path),
    )
    np.testing.assert_array_equal(pipeline.fit_predict(X), labels)
    direct = make(layers).fit(X)
    np.testing.assert_array_equal(pipeline.predict(X), direct.predict(X))


def test_nested_in_another_pipeline(stack, labels):
    inner = make()
    outer = make_pipeline("passthrough", inner)
    np.testing.assert_array_equal(outer.fit_predict(stack), labels)


def test_workers_get_the_same_from_a_read_only_memory_map(stack, labels):
    # joblib hands large arrays to its workers as read-only maps; from 1 kB on here.
    # One task: the other worker imports nothing.
    parallel = joblib.Parallel(n_jobs=2, max_nbytes=1000)
    (found,) = parallel([joblib.delayed(make().fit_predict)(stack)])
    np.testing.assert_array_equal(found, labels)


def test_a_list_of_matrices_is_refused_in_a_pipeline(stack):
    with pytest.raises(TypeError, match=r"Wrap the layers: skleiden\.LayerStack"):
        make().fit_predict(list(stack.layers))


def test_rows_of_a_stack_carry_ids(stack):
    named = LayerStack(stack.layers, names=stack.names, ids=np.arange(400) + 1000)
    train, test = train_test_split(named, random_state=0)
    assert np.intersect1d(train.ids, test.ids).size == 0
    np.testing.assert_array_equal(
        test.layers[0].toarray(), stack.layers[0][test.ids - 1000].toarray()
    )
