"""A cluster of processes, some of which die: the labels are the same."""

import os
import signal
import time

import dask.array as da
import numpy as np
import pytest
from distributed import get_worker
from distributed.core import Status
from distributed.protocol.pickle import dumps
from distributed.utils import sync
from numpy.testing import assert_array_equal
from sklearn.base import clone
from sklearn.pipeline import make_pipeline

from skleiden import LayerStack, MultiLayerTfidfSketcher, MutualKNNLeiden
from skleiden._stages import IVF_TASKS, TASKS, distinct, search
from tests.checks import owner_and_name
from tests.children import cluster

pytestmark = pytest.mark.cluster

ROWS = 134  # of a chunk and of a shard: three for two workers


@pytest.fixture
def client():
    """Of a cluster of its own: a worker that dies is not always replaced."""
    with cluster() as client:
        yield client


@pytest.fixture(scope="module", autouse=True)
def shards():
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(distinct, "_ROWS", ROWS)
        yield


@pytest.fixture
def lazy(stack):
    layers = [
        da.from_array(layer.toarray(), chunks=(ROWS, -1)) for layer in stack.layers
    ]
    return LayerStack(layers, names=stack.names)


@pytest.fixture(scope="module")
def vectors(embedding):
    return da.from_array(np.array(embedding), chunks=(ROWS, -1))


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


def some_of(stages, n_groups):
    """Stages as far from each other as may be, of which workers die in a single fit."""
    names = list(stages)
    return [
        pytest.param(names[i::n_groups], id=", ".join(names[i::n_groups]))
        for i in range(n_groups)
    ]


def make_deadly(monkeypatch, stages, folder):
    """Let a worker die in each of some stages; the files that tell that it did."""
    markers = []
    for number, place in enumerate(stages):
        markers.append(folder / f"died-{number}")
        module, name = owner_and_name(place)
        function = deadly(getattr(module, name), markers[-1])
        monkeypatch.setattr(module, name, function)
    return markers


def deadly(function, marker):
    """A function that kills the first process it comes to, in the middle of its work.

    It is sent by value, as functions inside others are.
    """

    def die():
        # A nanny never replaces a worker that dies before it knows that it runs.
        worker = get_worker()
        status = dumps(lambda dask_worker: dask_worker.status)
        while True:
            answer = sync(worker.loop, worker.rpc(worker.nanny).run, function=status)
            if answer["result"] == Status.running:
                os._exit(1)
            time.sleep(0.02)

    def run(*arguments, **options):
        try:
            marker.touch(exist_ok=False)
            die()
        except FileExistsError:
            pass
        return function(*arguments, **options)

    return run


@pytest.mark.parametrize(
    "stages", [["sample"], *some_of([name for name in TASKS if name != "sample"], 4)]
)
def test_workers_die_in_stages(
    client, pipeline, stack, lazy, tmp_path, monkeypatch, stages
):
    # With rows to leave out, and small communities to attach. Layers are compared in
    # this process, which must not die: only for the stage that brings rows here, alone.
    pipeline.set_params(
        multilayertfidfsketcher__layer_weights="auto" if "sample" in stages else None,
        mutualknnleiden__resolution=4.0,
        mutualknnleiden__min_cluster_size=12,
    )
    rows = np.minimum(np.arange(400), 397)
    expected = clone(pipeline).fit(stack[rows])
    assert expected[-1].attached_.any()
    markers = make_deadly(monkeypatch, [TASKS[stage] for stage in stages], tmp_path)
    assert_array_equal(pipeline.fit_predict(lazy[rows]), expected[-1].labels_)
    assert all(marker.exists() for marker in markers)


@pytest.fixture(scope="module")
def found_in_lists(vectors):
    """Without a death."""
    return MutualKNNLeiden(15, algorithm="ivf", random_state=0).fit(vectors)


@pytest.mark.parametrize("stages", some_of(IVF_TASKS, 3))
def test_workers_die_in_a_search_of_lists(
    client, found_in_lists, vectors, tmp_path, monkeypatch, stages
):
    markers = make_deadly(monkeypatch, [IVF_TASKS[stage] for stage in stages], tmp_path)
    clusterer = clone(found_in_lists).fit(vectors)
    assert_array_equal(clusterer.labels_, found_in_lists.labels_)
    assert clusterer.knn_recall_ == found_in_lists.knn_recall_
    assert all(marker.exists() for marker in markers)


def test_a_worker_dies_after_fit(client, pipeline, lazy, stack):
    pipeline.set_params(multilayertfidfsketcher__layer_weights=None).fit(lazy)
    pids = list(client.run(os.getpid).values())
    os.kill(pids[0], signal.SIGKILL)
    assert_array_equal(
        pipeline.predict(stack), clone(pipeline).fit(stack).predict(stack)
    )


def allow_deaths(monkeypatch, client, number):
    """As the setting `allowed-failures` of a cluster does that begins."""
    monkeypatch.setattr(client.cluster.scheduler, "allowed_failures", number)


def test_workers_that_always_die_are_told_of(client, vectors, monkeypatch):
    allow_deaths(monkeypatch, client, 1)
    monkeypatch.setattr(search, "_between", lambda *_: os._exit(1))
    message = r"Workers died repeatedly in stage 'Neighbors .*out of memory\. Give"
    with pytest.raises(MemoryError, match=message):
        MutualKNNLeiden(15).fit(vectors)


def test_workers_without_memory_are_told_of(vectors, monkeypatch):
    def fill(block):
        kept = []
        for _ in range(100):
            kept.append(np.ones(2**22))  # 32 MB at a time
            time.sleep(0.05)
        return block + len(kept)

    clusterer = MutualKNNLeiden(15)
    message = "Workers died repeatedly in stage 'Vectors'.*Give the workers more"
    # Of its own, as no worker of the others may be short of memory.
    with cluster(1, memory_limit="500MB") as client:
        allow_deaths(monkeypatch, client, 0)
        with pytest.raises(MemoryError, match=message):
            # With a meta, to find which Dask would fill this process's memory.
            clusterer.fit(vectors.map_blocks(fill, meta=np.empty((0, 0), np.float32)))
    assert not hasattr(clusterer, "n_features_in_")
