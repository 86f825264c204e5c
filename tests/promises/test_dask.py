"""Searches and sweeps on the workers of a Dask cluster, by joblib."""

import pickle

import dask.array as da
import distributed
import joblib
import pytest
from numpy.testing import assert_array_equal
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline

from skleiden import LayerStack, MultiLayerTfidfSketcher, MutualKNNLeiden
from skleiden.io import load_estimator, save_estimator
from skleiden.model_selection import (
    FullDataSplit,
    StableLeiden,
    make_stability_scorer,
    resolution_profile,
)
from tests.children import cluster

pytestmark = pytest.mark.cluster


@pytest.fixture(scope="module")
def client():
    """Of a cluster of two processes on this machine."""
    with cluster() as client:
        yield client


@pytest.fixture
def pipeline():
    return make_pipeline(
        MultiLayerTfidfSketcher(32, layer_weights=None, random_state=0),
        MutualKNNLeiden(15, random_state=0),
    )


def executed(client):
    """Tasks that the workers have done so far."""
    counts = client.run(lambda dask_worker: dask_worker.state.executed_count)
    return sum(counts.values())


@pytest.fixture
def on_workers(client):
    """Compare what a function gives here and on the workers, where it must work."""

    def compare(function, same):
        here, before = function(), executed(client)
        with joblib.parallel_config("dask"):
            there = function()
        assert executed(client) > before
        same(there, here)

    return compare


def test_grid_search(on_workers, pipeline, stack):
    def search():
        return GridSearchCV(
            pipeline,
            {"mutualknnleiden__resolution": [0.5, 1.0, 2.0]},
            scoring=make_stability_scorer(n_runs=2),
            cv=FullDataSplit(),
        ).fit(stack)

    def same(there, here):
        assert there.best_params_ == here.best_params_
        assert_array_equal(
            there.cv_results_["mean_test_score"], here.cv_results_["mean_test_score"]
        )
        assert_array_equal(there.predict(stack), here.predict(stack))

    on_workers(search, same)


def test_grid_search_of_dask_arrays(on_workers, pipeline, stack):
    """Whose fits, on the workers' only threads, wait for tasks of their own."""
    lazy = LayerStack(
        [
            da.from_array(layer.toarray(), chunks=(100, -1))
            for layer in stack[:200].layers
        ]
    )

    def search():
        return GridSearchCV(
            pipeline,
            {"mutualknnleiden__resolution": [0.5, 1.0]},
            scoring=make_stability_scorer(n_runs=2),
            cv=FullDataSplit(),
            refit=False,
        ).fit(lazy)

    def same(there, here):
        assert_array_equal(
            there.cv_results_["mean_test_score"], here.cv_results_["mean_test_score"]
        )

    on_workers(search, same)


def test_resolution_profile(on_workers, pipeline, stack):
    def sweep():
        return resolution_profile(
            pipeline, stack, resolutions=[0.5, 1.0, 2.0], n_runs=2, n_permutations=1
        )

    def same(there, here):
        for name, values in here.table.items():
            if name != "seconds":
                assert_array_equal(there.table[name], values)
        assert_array_equal(there.partitions(1.0), here.partitions(1.0))

    on_workers(sweep, same)


def test_vectors_stay_with_their_client(embedding, tmp_path):
    X = da.from_array(embedding.copy(), chunks=(200, -1))
    with cluster(1):
        clusterer = MutualKNNLeiden(15, random_state=0).fit(X)
        expected = clusterer.predict(embedding)
        copy = pickle.loads(pickle.dumps(clusterer))
        save_estimator(tmp_path / "clusterer.npz", clusterer)
        with pytest.raises(RuntimeError, match="a pickle or copy of it does not"):
            copy.predict(embedding)
    with pytest.raises(RuntimeError, match="made them is closed or was restarted"):
        clusterer.predict(embedding)
    loaded = load_estimator(tmp_path / "clusterer.npz")
    assert_array_equal(loaded.predict(embedding), expected)


def small_cluster():
    return distributed.LocalCluster(
        n_workers=1, threads_per_worker=1, processes=False, dashboard_address=":0"
    )


def test_another_client(embedding, stack):
    """Whatever lies with a client that is not the current one is told of, by stage."""
    X = da.from_array(embedding.copy(), chunks=(200, -1))
    layers = [
        da.from_array(layer.toarray(), chunks=(200, -1)) for layer in stack.layers
    ]
    clusterer, sketcher = MutualKNNLeiden(15, random_state=0), MultiLayerTfidfSketcher()
    gone = (
        r"Stage '{}' needs results that lie on the workers of a Dask cluster.*persist"
    )
    with small_cluster() as one, small_cluster() as two:
        with distributed.Client(one):
            labels = clusterer.fit(X).labels_
            kept, lazy = X.persist(), LayerStack([layer.persist() for layer in layers])
            predicted = clusterer.predict(X)

            def refused_everywhere(found):
                with pytest.raises(RuntimeError, match=found):
                    clusterer.predict(embedding)
                with pytest.raises(RuntimeError, match=gone.format("Vectors")):
                    MutualKNNLeiden(15).fit(kept)
                with pytest.raises(RuntimeError, match=gone.format("Count")):
                    sketcher.fit(lazy)

            with distributed.Client(two):
                refused_everywhere("the current client belongs to another cluster")
            with distributed.Client(one):  # another client, and the same workers
                assert_array_equal(clusterer.predict(X), predicted)
                assert_array_equal(clusterer.fit(kept).labels_, labels)
        refused_everywhere("made them is closed or was restarted")
        with distributed.Client(two):
            refused_everywhere("made them is closed or was restarted")
            assert_array_equal(
                MutualKNNLeiden(15, random_state=0).fit(X).labels_, labels
            )


def test_stable_leiden(on_workers, pipeline, stack):
    def fit():
        return StableLeiden(pipeline, n_runs=3, random_state=0).fit(stack)

    def same(there, here):
        assert_array_equal(there.labels_, here.labels_)
        assert_array_equal(there.confidence_, here.confidence_)

    on_workers(fit, same)
