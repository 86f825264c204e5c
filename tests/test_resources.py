"""What a fit leaves behind: no memory, no thread count, no generator changed."""

import gc
import random
import threading
from pathlib import Path

import faiss
import igraph
import numpy as np
import pytest
from numpy.testing import assert_array_equal
from sklearn.pipeline import make_pipeline
from threadpoolctl import threadpool_info

from skleiden import MultiLayerTfidfSketcher, MutualKNNLeiden
from skleiden._kernels import graph, ivf, knn, labels, leiden

STATUS = Path("/proc/self/statm")


def make(**parameters):
    return make_pipeline(
        MultiLayerTfidfSketcher(32, random_state=0),
        MutualKNNLeiden(15, random_state=0, **parameters),
    )


def resident():
    """Memory of this process, bytes."""
    gc.collect()
    return int(STATUS.read_text().split()[1]) * 4096


def surroundings():
    """What a fit might change outside of itself."""
    random.seed(5)
    igraph_draws = [igraph.Graph.Erdos_Renyi(20, m=20).get_edgelist() for _ in range(2)]
    return (
        faiss.omp_get_max_threads(),
        sorted((i["filepath"], i["num_threads"]) for i in threadpool_info()),
        igraph_draws,
    )


def wait_for_threads(before):
    """Those that an interrupted search had started end with what they are at."""
    for thread in set(threading.enumerate()) - before:
        thread.join(30)
        assert not thread.is_alive()


@pytest.mark.skipif(not STATUS.exists(), reason="needs Linux's /proc")
@pytest.mark.parametrize(
    "parameters",
    [{}, {"algorithm": "ivf"}, {"algorithm": "hnsw"}, {"backend": "leidenalg"}],
    ids=str,
)
def test_repeated_fits_do_not_grow_memory(stack, parameters):
    """200 fits in all; one graph of these data alone takes 0.1 MB."""
    pipeline = make(**parameters)
    for _ in range(10):
        pipeline.fit(stack).predict(stack[:20])
    before = resident()
    for _ in range(50):
        pipeline.fit(stack).predict(stack[:20])
    assert resident() - before < 4e6


@pytest.mark.parametrize("algorithm", ["exact", "ivf", "hnsw"])
@pytest.mark.parametrize("n_jobs", [1, 2, 3])
def test_fits_leave_their_surroundings_alone(stack, algorithm, n_jobs):
    before = surroundings()
    state = np.random.get_state()[1].copy()  # noqa: NPY002
    make(algorithm=algorithm, n_jobs=n_jobs).fit(stack).predict(stack)
    assert_array_equal(np.random.get_state()[1], state)  # noqa: NPY002
    assert surroundings() == before


STAGES = {
    "exact": [
        (knn, "unique_rows"),
        (knn, "exact_neighbors"),
        (knn, "rank"),
        (graph, "mutual_graph"),
        (graph, "union_graph"),
        (leiden, "network"),
        (leiden, "_run_igraph"),
        (leiden, "modularity"),
        (labels, "attach"),
    ],
    "hnsw": [(knn, "hnsw_neighbors"), (knn, "recall_bound"), (knn, "rank")],
    "ivf": [
        (ivf, "make_plan"),
        (ivf, "_make_lists"),
        (ivf, "_true_neighbors"),
        (ivf, "_needed_slack"),
        (ivf, "search"),
        (ivf, "_first_bounds"),
        (ivf, "_make_stripes"),
        (ivf._Scan, "__call__"),
        (ivf._Scan, "_compare"),
        (ivf._Stripe, "select"),
    ],
}


@pytest.mark.parametrize(
    ("algorithm", "owner", "name"),
    [(a, *stage) for a, stages in STAGES.items() for stage in stages],
    ids=lambda value: getattr(value, "__name__", value),
)
def test_interruption_leaves_everything_as_it_was(
    stack, monkeypatch, algorithm, owner, name
):
    """In the middle of any stage, in whichever thread it runs."""

    def interrupt(*_, **__):
        raise KeyboardInterrupt

    sketcher, clusterer = make(algorithm=algorithm, n_jobs=2, small_clusters="attach")
    embedding = sketcher.fit_transform(stack)
    expected = clusterer.fit(embedding).labels_
    before, fitted = surroundings(), vars(clusterer).copy()
    threads = set(threading.enumerate())
    with monkeypatch.context() as patched:
        patched.setattr(owner, name, interrupt)
        with pytest.raises(KeyboardInterrupt):
            clusterer.fit(embedding)
    wait_for_threads(threads)
    assert surroundings() == before
    assert vars(clusterer).keys() == fitted.keys()
    assert all(vars(clusterer)[key] is value for key, value in fitted.items())
    assert_array_equal(clusterer.fit(embedding).labels_, expected)
