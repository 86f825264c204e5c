"""What a fit leaves behind: no memory, no thread count, no generator changed."""

import gc
import json
import os
import random
import signal
import subprocess
import sys
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
from skleiden._kernels import leiden
from skleiden._stages import KERNELS, SEARCH_KERNELS, SKETCH_KERNELS
from tests.checks import owner_and_name
from tests.children import run_script

pytestmark = pytest.mark.slow

STATUS = Path("/proc/self/statm")


def make(layer_weights=None, **parameters):
    return make_pipeline(
        MultiLayerTfidfSketcher(32, layer_weights=layer_weights, random_state=0),
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
    """120 fits in all; one graph of these data alone takes 0.1 MB."""
    check_no_growth(make(**parameters), stack, 30)


@pytest.mark.skipif(not STATUS.exists(), reason="needs Linux's /proc")
def test_judging_layers_again_and_again_does_not_grow_memory(stack):
    """Each fit makes two graphs a layer, of half its neurons, and partitions them."""
    check_no_growth(make("auto")[:1], stack, 8)


def check_no_growth(pipeline, stack, times):
    def fit(times):
        for _ in range(times):
            pipeline.fit(stack)
            if len(pipeline) > 1:
                pipeline.predict(stack[:20])

    fit(10)
    before = resident()
    fit(times)
    assert resident() - before < 2.5e6


@pytest.mark.parametrize("algorithm", ["exact", "ivf", "hnsw"])
@pytest.mark.parametrize("n_jobs", [1, 2, 3])
def test_fits_leave_their_surroundings_alone(stack, algorithm, n_jobs):
    before = surroundings()
    state = np.random.get_state()[1].copy()  # noqa: NPY002
    # Layers are judged by exact searches, whatever the last step does.
    layer_weights = "auto" if algorithm == "exact" else None
    make(layer_weights, algorithm=algorithm, n_jobs=n_jobs).fit(stack).predict(stack)
    assert_array_equal(np.random.get_state()[1], state)  # noqa: NPY002
    assert surroundings() == before


PLACES = [("exact", place) for place in (*SKETCH_KERNELS, *KERNELS)] + [
    (algorithm, place) for algorithm, own in SEARCH_KERNELS.items() for place in own
]


@pytest.fixture(scope="module")
def fitted(stack):
    """Pipelines by whether they judge layers, and by how they search; their labels."""
    pipelines = {
        (layers, algorithm): make(
            layers, algorithm=algorithm, n_jobs=2, small_clusters="attach"
        )
        for layers, algorithm in [("auto", "exact")]
        + [(None, algorithm) for algorithm in SEARCH_KERNELS]
    }
    return {key: (p, p.fit_predict(stack)) for key, p in pipelines.items()}


@pytest.mark.parametrize(("algorithm", "place"), PLACES)
def test_interruption_leaves_everything_as_it_was(
    stack, fitted, monkeypatch, algorithm, place
):
    """In the middle of any stage, in whichever thread it runs."""

    def interrupt(*_, **__):
        raise KeyboardInterrupt

    of_sketch = place in SKETCH_KERNELS
    pipeline, expected = fitted["auto" if of_sketch else None, algorithm]
    sketcher, clusterer = pipeline
    estimator, X = clusterer, sketcher.transform(stack)
    if of_sketch:
        estimator, X = sketcher, stack
    before, attributes = surroundings(), vars(estimator).copy()
    threads = set(threading.enumerate())
    with monkeypatch.context() as patched:
        patched.setattr(*owner_and_name(place), interrupt)
        with pytest.raises(KeyboardInterrupt):
            estimator.fit_transform(X) if of_sketch else estimator.fit(X)
    wait_for_threads(threads)
    assert surroundings() == before
    assert vars(estimator).keys() == attributes.keys()
    assert all(vars(estimator)[key] is value for key, value in attributes.items())
    assert_array_equal(pipeline.fit_predict(stack), expected)


LIMITED = """
import gc, json, resource, sys
from pathlib import Path
import numpy as np
from sklearn.pipeline import make_pipeline
from skleiden import MultiLayerTfidfSketcher, MutualKNNLeiden
from skleiden.datasets import make_layered_activations
from tests.checks import owner_and_name

# What is imported is no garbage, which each limit would look for among all of it.
gc.freeze()
HARD = resource.getrlimit(resource.RLIMIT_AS)[1]

def limit(room):
    gc.collect()
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    room = pages * resource.getpagesize() + int(room)
    resource.setrlimit(resource.RLIMIT_AS, (room, HARD))

small, large = (
    make_layered_activations(n, n_layers=3, n_neurons=300, random_state=0)[0]
    for n in (200, 800)
)

def starve(algorithm, stages):
    # One thread: OpenBLAS ends the process where several find no memory.
    last = MutualKNNLeiden(40, algorithm=algorithm, random_state=0, n_jobs=1)
    pipeline = make_pipeline(
        MultiLayerTfidfSketcher(32, layer_weights=None, random_state=0), last
    )
    # First of all the large ones: what libraries keep is not of the limited fit.
    expected = pipeline.fit(large)[-1].labels_
    labels_of_small = pipeline.fit(small).predict(small)
    embedding = pipeline[0].transform(small)
    for stage in stages:
        owner, name = owner_and_name(stage)
        original = getattr(owner, name)
        failures = 0
        for room in (0, 0.3e6, 0.6e6, 1.2e6, 3e6, None):

            def limited(*arguments, **options):
                if room is not None:
                    limit(room)
                return original(*arguments, **options)

            steps = [vars(step).copy() for _, step in pipeline.steps]
            setattr(owner, name, limited)
            try:
                pipeline.fit(large)
                break
            except MemoryError:
                failures += 1
            finally:
                resource.setrlimit(resource.RLIMIT_AS, (HARD, HARD))
                setattr(owner, name, original)
            same = [
                vars(step).keys() == before.keys()
                and all(vars(step)[key] is before[key] for key in before)
                for (_, step), before in zip(pipeline.steps, steps)
            ]
            # A pipeline leaves the steps fitted that precede the one that fails.
            assert same[-1], (stage, room)
            assert same[0] or "countsketch" not in stage or room, stage
            np.testing.assert_array_equal(last.predict(embedding), labels_of_small)
            pipeline[0].fit(small)
        assert failures, stage
        np.testing.assert_array_equal(last.labels_, expected)
        np.testing.assert_array_equal(
            pipeline.fit(small).predict(small), labels_of_small
        )
        print(stage, failures)

for algorithm, *stages in json.loads(sys.argv[1]):
    starve(algorithm, stages)
"""


@pytest.mark.skipif(not STATUS.exists(), reason="needs Linux's /proc")
def test_too_little_memory_changes_nothing():
    """With a limit set as a stage begins, raised until that stage and the rest fit."""
    stages = [
        ("exact", "_kernels.countsketch:sketch", *KERNELS),
        ("hnsw", "_kernels.knn:hnsw_neighbors"),
        ("ivf", "_kernels.ivf:_first_bounds"),
    ]
    # Arrays take memory of their own, none that was freed or is a thread's reserve.
    env = os.environ | {"MALLOC_MMAP_THRESHOLD_": "65536", "MALLOC_ARENA_MAX": "1"}
    run = subprocess.run(
        [sys.executable, "-c", LIMITED, json.dumps(stages)],
        cwd=Path(__file__).parents[2],
        env=env,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        timeout=120,
    )
    assert run.returncode == 0, run.stderr


ABSURD = """
import resource, sys
resource.setrlimit(resource.RLIMIT_AS, (2**33, 2**33))
import os
os.cpu_count = lambda: 2
import numpy as np
from skleiden import MultiLayerTfidfSketcher, MutualKNNLeiden

X = np.random.RandomState(0).rand(600, 384)
expected = MutualKNNLeiden(5, algorithm=sys.argv[1], random_state=0).fit(X)
for n_jobs in (100_000, 2**31 - 1, 2**40):
    print(n_jobs, file=sys.stderr)  # before whatever ends the process
    many = MutualKNNLeiden(
        5, algorithm=sys.argv[1], random_state=0, n_jobs=n_jobs
    ).fit(X)
    assert (many.labels_ == expected.labels_).all()
    assert (many.predict(X) == expected.predict(X)).all()
    if sys.argv[1] == "exact":  # which layers are judged by
        MultiLayerTfidfSketcher(8, batch_size=1, n_jobs=n_jobs).fit_transform(X)
"""


@pytest.mark.parametrize("algorithm", ["exact", "ivf", "hnsw"])
def test_absurd_numbers_of_threads(algorithm):
    """OpenMP would end the process: in one of its own, so that this one goes on.

    OpenBLAS takes over 100 MB of addresses for each thread, and FAISS crashes where
    there are none left.
    """
    code, _, error = run_script(ABSURD, algorithm)
    assert code == 0, error or code


INTERRUPTED = """
import random, signal, sys
import scipy.sparse as sp
from skleiden._kernels import leiden

def interrupt(*_):
    raise KeyboardInterrupt

signal.signal(signal.SIGALRM, interrupt)
upper = sp.triu(sp.random(2000, 2000, density=0.005, random_state=0), 1)
graph = sp.csr_array(upper + upper.T, dtype="f4")
network = leiden.network(graph)
network.vertices  # igraph is imported, and has the graph
options = dict(objective="modularity", resolution=1, n_iterations=2, backend="igraph")
random.seed(0)
interrupted = 0
for _ in range(int(sys.argv[1])):
    try:
        signal.setitimer(signal.ITIMER_REAL, random.uniform(0.001, 0.03))
        while True:
            leiden.leiden(network, seed=0, **options)
    except KeyboardInterrupt:
        interrupted += 1
assert interrupted == int(sys.argv[1])
assert signal.getsignal(signal.SIGALRM) is interrupt
"""


@pytest.mark.skipif(os.name == "nt", reason="needs POSIX")
def test_interruptions_inside_igraph_damage_no_memory():
    """It would be aborted, so a process of its own."""
    code, _, error = run_script(INTERRUPTED, 40, timeout=120)
    assert (code, error) == (0, "")


def test_handlers_are_put_back_though_one_raises(monkeypatch):
    """A signal that comes between two of them, whose handler is back already."""
    called = []

    def first(number, _):
        called.append(number)
        raise KeyboardInterrupt

    def second(number, _):
        called.append(number)

    before = {
        number: signal.signal(number, handler)
        for number, handler in ((signal.SIGINT, first), (signal.SIGTERM, second))
    }
    try:
        real, late = signal.signal, [signal.SIGINT]

        def and_a_signal(number, handler):
            old = real(number, handler)
            if handler is first and late:
                signal.raise_signal(late.pop())
            return old

        def work():
            with leiden._signals_put_off():
                signal.raise_signal(signal.SIGTERM)
                signal.raise_signal(signal.SIGINT)
                assert called == []

        monkeypatch.setattr(signal, "signal", and_a_signal)
        with pytest.raises(KeyboardInterrupt):
            work()
        monkeypatch.undo()
        assert signal.getsignal(signal.SIGINT) is first
        assert signal.getsignal(signal.SIGTERM) is second
        assert called == [signal.SIGINT, signal.SIGTERM, signal.SIGINT]
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
