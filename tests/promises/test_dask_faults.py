"""A cluster of processes, some of which die: the labels are the same."""

import os
import signal
import time

import dask
import dask.array as da
import numpy as np
import pytest
from distributed import Client, LocalCluster
from numpy.testing import assert_array_equal
from sklearn.base import clone
from sklearn.pipeline import make_pipeline

from skleiden import LayerStack, MultiLayerTfidfSketcher, MutualKNNLeiden
from skleiden._stages import IVF_TASKS, TASKS, distinct, search
from tests.checks import owner_and_name

pytestmark = pytest.mark.cluster


@pytest.fixture
def client():
    """Of a cluster that nothing has happened to yet."""
    with (
        LocalCluster(
            n_workers=2, threads_per_worker=1, dashboard_address=":0"
        ) as cluster,
        Client(cluster) as client,
    ):
        yield client


@pytest.fixture(autouse=True)
def shards(monkeypatch):
    monkeypatch.setattr(distinct, "_ROWS", 120)


@pytest.fixture
def lazy(stack):
    layers = [da.from_array(layer.toarray(), chunks=(90, -1)) for layer in stack.layers]
    return LayerStack(layers, names=stack.names)


@pytest.fixture
def pipeline():
    return make_pipeline(
        MultiLayerTfidfSketcher(32, random_state=0),
        MutualKNNLeiden(15, algorithm="exact", random_state=0),
    )


@pytest.fixture
def expected(pipeline, stack):
    return clone(pipeline).fit_predict(stack)


def test_workers_give_the_same_labels(client, pipeline, lazy, expected):
    assert_array_equal(pipeline.fit_predict(lazy), expected)


def deadly(function, marker):
    """A function that kills the first process it comes to, in the middle of its work.

    It is sent by value, as functions inside others are.
    """

    def run(*arguments, **options):
        try:
            marker.touch(exist_ok=False)
        except FileExistsError:
            return function(*arguments, **options)
        os._exit(1)

    return run


@pytest.mark.parametrize("stage", TASKS)
def test_a_worker_dies_in_a_stage(
    client, pipeline, stack, lazy, tmp_path, monkeypatch, stage
):
    # With rows to leave out, and small communities to attach. Layers are compared in
    # this process, which must not die: only for the stage that brings rows here.
    pipeline.set_params(
        multilayertfidfsketcher__layer_weights="auto" if stage == "sample" else None,
        mutualknnleiden__resolution=4.0,
        mutualknnleiden__min_cluster_size=12,
    )
    rows = np.minimum(np.arange(400), 397)
    expected = clone(pipeline).fit(stack[rows])
    assert expected[-1].attached_.any()
    marker = tmp_path / "died"
    module, name = owner_and_name(TASKS[stage])
    monkeypatch.setattr(module, name, deadly(getattr(module, name), marker))
    assert_array_equal(pipeline.fit_predict(lazy[rows]), expected[-1].labels_)
    assert marker.exists()


@pytest.mark.parametrize("stage", IVF_TASKS)
def test_a_worker_dies_in_a_search_of_lists(
    client, embedding, tmp_path, monkeypatch, stage
):
    X = da.from_array(np.array(embedding), chunks=(90, -1))
    clusterer = MutualKNNLeiden(15, algorithm="ivf", random_state=0)
    expected = clone(clusterer).fit(X)
    marker = tmp_path / "died"
    module, name = owner_and_name(IVF_TASKS[stage])
    monkeypatch.setattr(module, name, deadly(getattr(module, name), marker))
    clusterer.fit(X)
    assert_array_equal(clusterer.labels_, expected.labels_)
    assert clusterer.knn_recall_ == expected.knn_recall_
    assert marker.exists()


def test_a_worker_dies_after_fit(client, pipeline, lazy, stack, expected):
    pipeline.fit(lazy)
    pids = list(client.run(os.getpid).values())
    os.kill(pids[0], signal.SIGKILL)
    assert_array_equal(
        pipeline.predict(stack), clone(pipeline).fit(stack).predict(stack)
    )


def test_workers_that_always_die_are_told_of(client, embedding, monkeypatch):
    monkeypatch.setattr(search, "_between", lambda *_: os._exit(1))
    X = da.from_array(np.array(embedding), chunks=(90, -1))
    message = r"Workers died repeatedly in stage 'Neighbors .*out of memory\. Give"
    with pytest.raises(MemoryError, match=message):
        MutualKNNLeiden(15).fit(X)


def test_workers_without_memory_are_told_of(embedding):
    def fill(block):
        kept = []
        for _ in range(100):
            kept.append(np.ones(2**22))  # 32 MB at a time
            time.sleep(0.05)
        return block + len(kept)

    X = da.from_array(np.array(embedding), chunks=(90, -1)).map_blocks(
        fill, dtype=np.float32
    )
    with (
        dask.config.set({"distributed.scheduler.allowed-failures": 0}),
        LocalCluster(
            n_workers=1,
            threads_per_worker=1,
            memory_limit="500MB",
            dashboard_address=":0",
        ) as cluster,
        Client(cluster),
    ):
        clusterer = MutualKNNLeiden(15)
        message = "Workers died repeatedly in stage 'Vectors'.*Give the workers more"
        with pytest.raises(MemoryError, match=message):
            clusterer.fit(X)
        assert not hasattr(clusterer, "n_features_in_")
