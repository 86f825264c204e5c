import os
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from types import SimpleNamespace

import numpy as np
import pytest
import scipy.sparse as sp
from numpy.testing import assert_array_equal
from scipy.sparse.csgraph import connected_components

from skleiden._kernels import leiden

LIBREVILLE = pytest.param(
    "libreville",
    marks=pytest.mark.skipif(
        leiden.find_spec("cluster_libreville") is None,
        reason="needs sc-cluster-libreville",
    ),
)
BACKENDS = ["igraph", "leidenalg", LIBREVILLE]


def run(network, backend, **options):
    defaults = {
        "objective": "modularity",
        "resolution": 1.0,
        "n_iterations": 2,
        "seed": 0,
    }
    return leiden.leiden(network, backend=backend, **defaults | options)


def draw(n, seed=0, density=0.1):
    """A symmetric matrix of weights without a diagonal, and loops of some vertices."""
    rng = np.random.default_rng(seed)
    upper = np.triu(rng.random((n, n)) < density, 1) * rng.uniform(0.2, 1, (n, n))
    matrix = (upper + upper.T).astype(np.float32)
    return matrix, (rng.random(n) < 0.2).astype(np.float64)


def blocks(sizes, inside, between, seed=0):
    """A planted partition, and its graph."""
    rng = np.random.default_rng(seed)
    planted = np.repeat(np.arange(len(sizes)), sizes)
    same = planted[:, None] == planted
    upper = np.triu(rng.random(same.shape) < np.where(same, inside, between), 1)
    return planted, sp.csr_array((upper + upper.T).astype(np.float32))


def plain_modularity(matrix, loops, membership, resolution):
    """Of NumPy alone, an edge of a vertex to itself having both its ends there."""
    A = matrix.astype(np.float64) + np.diag(2 * loops)
    degrees = A.sum(axis=1)
    null = np.outer(degrees, degrees) / degrees.sum()
    same = membership[:, None] == membership
    return ((A - resolution * null) * same).sum() / degrees.sum()


@pytest.mark.parametrize("at_hand", [0, 40])
@pytest.mark.parametrize("at_once", [1, 7, 10**6])
def test_igraph_gets_every_edge_and_loop_once(monkeypatch, at_once, at_hand):
    monkeypatch.setattr(leiden, "_ROWS_JOINED", at_once)
    monkeypatch.setattr(leiden, "_VERTICES_AT_HAND", at_hand)
    matrix, loops = draw(40)
    ranks = np.random.default_rng(1).permutation(40)
    network = leiden.network(sp.csr_array(matrix), ranks, loops > 0)
    assert network.vertices.vcount() == 40
    found = np.zeros((40, 40))
    for (i, j), weight in zip(
        network.vertices.get_edgelist(), network.weights, strict=True
    ):
        assert found[i, j] == 0
        found[i, j] = weight
    expected = np.zeros((40, 40))
    place = network.place[ranks]
    assert_array_equal(np.sort(place), np.arange(40))
    assert (place == ranks).all() == (at_hand == 40)
    expected[np.ix_(place, place)] = matrix + np.diag(loops)
    assert_array_equal(found, np.triu(expected))


def test_vertices_are_ordered_along_the_graph():
    """A ring of 200 and one of 100, numbered at random, and a vertex alone."""
    numbers = np.random.default_rng(0).permutation(301)
    edges = [
        (start + i, start + (i + 1) % size)
        for start, size in ((0, 200), (200, 100))
        for i in range(size)
    ]
    rows, columns = numbers[np.array(edges).T]
    graph = sp.coo_array((np.ones(300), (rows, columns)), shape=(301, 301))
    order = leiden._along(sp.csr_array(graph + graph.T))
    assert_array_equal(np.sort(order), np.arange(301))
    place = np.argsort(order)
    assert np.abs(place[rows] - place[columns]).max() <= 2
    assert len({place[numbers[:200]].min(), place[numbers[200:300]].min()}) == 2


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("n_iterations", [2, -1])
def test_order_of_vertices_gives_the_rows_communities(
    monkeypatch, backend, n_iterations
):
    planted, graph = blocks([30, 40, 50], 0.4, 0.02)
    order = np.random.default_rng(0).permutation(120)
    loops = np.random.default_rng(1).integers(3, size=120) / 2
    monkeypatch.setattr(leiden, "_VERTICES_AT_HAND", 0)
    network = leiden.network(sp.csr_array(graph[order][:, order]), None, loops)
    assert (network.place != np.arange(120)).any()
    membership, quality = run(network, backend, n_iterations=n_iterations)
    assert np.unique([membership, planted[order]], axis=1).shape[1] == 3
    assert quality == pytest.approx(leiden.modularity(network, membership), abs=1e-7)
    matrix = network.matrix.toarray()[np.ix_(network.place, network.place)]
    assert_array_equal(matrix, network.graph.toarray() + 2 * np.diag(loops))


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("n", [0, 1, 5])
def test_without_edges_each_vertex_is_a_community(backend, n):
    network = leiden.network(sp.csr_array((n, n), dtype=np.float32))
    membership, quality = run(network, backend)
    assert_array_equal(membership, np.arange(n))
    assert quality == 0
    assert network.vertices is None
    alone = leiden.network(sp.csr_array((5, 5), dtype=np.float32), None, np.ones(5))
    assert_array_equal(run(alone, backend)[0], np.arange(5))


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("resolution", [0.5, 1.0, 3.0])
def test_partitions_are_connected_and_of_the_quality_told(backend, resolution):
    for seed in range(20):
        matrix, loops = draw(60, seed, density=0.08)
        network = leiden.network(sp.csr_array(matrix), None, loops)
        membership, quality = run(network, backend, resolution=resolution, seed=seed)
        assert membership.dtype == np.int64
        expected = plain_modularity(matrix, loops, membership, resolution)
        assert quality == pytest.approx(expected, abs=1e-7)
        inside = matrix * (membership[:, None] == membership)
        parts, _ = connected_components(sp.csr_array(inside), directed=False)
        assert parts == membership.max() + 1


@pytest.mark.parametrize("backend", BACKENDS)
def test_planted_partitions_are_found(backend):
    planted, graph = blocks([30, 40, 50], 0.4, 0.02)
    membership, _ = run(leiden.network(graph), backend)
    assert np.unique(membership).size == 3
    assert np.unique([membership, planted], axis=1).shape[1] == 3


@pytest.mark.parametrize("backend", BACKENDS)
def test_weights_and_loops_decide(backend):
    """A path of four vertices falls in two where its edges are weak."""

    def of(weights, loops=None):
        graph = sp.diags_array(weights, offsets=1).tocsr().astype(np.float32)
        return run(leiden.network(sp.csr_array(graph + graph.T), None, loops), backend)

    middle, _ = of([0.1, 1.0, 0.1], np.array([1.0, 0, 0, 1]))
    assert middle[1] == middle[2]
    assert len({middle[0], middle[1], middle[3]}) == 3
    ends, _ = of([1.0, 0.1, 1.0])
    assert ends[0] == ends[1] != ends[2] == ends[3]


def gains(*values):
    """Qualities that begin at 2000 and gain so much each time, and then nothing."""
    return np.cumsum([2000.0, *values, *[0.0] * 200]).tolist()


@pytest.mark.parametrize(
    ("values", "n_runs"),
    [((9, 3e-6, 1e-6), 4), ((9, 2.1e-6), 4), ((1.9e-6,), 2), ((1e-5,) * 300, 100)],
)
def test_it_iterates_until_a_billionth_is_gained(monkeypatch, values, n_runs):
    """Which is 2e-6 of these qualities."""
    qualities, starts = iter(gains(*values)), []

    def community_leiden(*, n_iterations, initial_membership, **_):
        assert n_iterations == 1
        starts.append(initial_membership)
        return SimpleNamespace(quality=next(qualities), membership=[len(starts)])

    vertices = SimpleNamespace(community_leiden=community_leiden)
    network = SimpleNamespace(
        vertices=vertices, loops=np.zeros(1), weights=None, place=[0]
    )
    found = leiden._run_igraph(network, "modularity", 1.0, -1, 0)
    assert starts == [None, *([i] for i in range(1, n_runs))]
    assert_array_equal(found, [n_runs])


@pytest.mark.parametrize(
    ("values", "n_runs"),
    [((9, 3e-6, 1e-6), 3), ((9, 2.1e-6), 3), ((1.9e-6,), 1), ((1e-5,) * 300, 100)],
)
def test_leidenalg_iterates_as_long(monkeypatch, values, n_runs):
    leidenalg = pytest.importorskip("leidenalg")
    qualities, runs = gains(*values), []

    class Optimiser:
        def set_rng_seed(self, seed):
            assert seed == 7

        def optimise_partition(self, _, n_iterations):
            assert n_iterations == 1
            runs.append(qualities[len(runs) + 1] - qualities[len(runs)])
            return runs[-1]

    partition = SimpleNamespace(quality=lambda: 2000.0, membership=[3])
    monkeypatch.setattr(leidenalg, "Optimiser", Optimiser)
    monkeypatch.setattr(
        leidenalg, "SurpriseVertexPartition", lambda *_, **__: partition
    )
    network = SimpleNamespace(vertices=None, weights=None, place=[0])
    found, quality = leiden._run_leidenalg(network, "surprise", 1.0, -1, 7)
    assert len(runs) == n_runs
    assert (found.tolist(), quality) == ([3], 2000.0)


class Signals:
    """Signals whose handlers cannot be put back at first."""

    def __init__(self, n_failures):
        self.n_failures, self.back, self.raised = n_failures, {}, []

    def signal(self, number, handler):
        if self.n_failures:
            self.n_failures -= 1
            raise KeyboardInterrupt(f"{self.n_failures} left")
        self.back[number] = handler

    def raise_signal(self, number):
        self.raised.append(number)
        if number == 2:
            raise ValueError("handler")


def test_handlers_are_put_back_whatever_comes_meanwhile(monkeypatch):
    monkeypatch.setattr(leiden, "signal", signals := Signals(0))
    leiden._put_back({1: "one", 2: "two"}, [1, 1])
    assert (signals.back, signals.raised) == ({1: "one", 2: "two"}, [1, 1])
    monkeypatch.setattr(leiden, "signal", signals := Signals(0))
    with pytest.raises(ValueError, match="handler"):
        leiden._put_back({1: "one"}, [2, 3])
    assert signals.raised == [2, 3]
    monkeypatch.setattr(leiden, "signal", signals := Signals(90))
    with pytest.raises(KeyboardInterrupt, match="89 left"):
        leiden._put_back({1: "one", 2: "two"}, [2])
    assert (signals.back, signals.raised) == ({1: "one", 2: "two"}, [2])


def test_libreville_is_as_good_as_igraph():
    pytest.importorskip("cluster_libreville")
    _, graph = blocks([40] * 10, 0.25, 0.02)
    network = leiden.network(graph)
    found = {
        backend: [run(network, backend, seed=seed)[1] for seed in range(11)]
        for backend in ("igraph", "libreville")
    }
    medians = {backend: np.median(quality) for backend, quality in found.items()}
    assert medians["libreville"] >= 0.999 * medians["igraph"]


def test_libreville_needs_no_igraph():
    pytest.importorskip("cluster_libreville")
    program = """
import sys
import numpy as np, scipy.sparse as sp
from skleiden._kernels import leiden
network = leiden.network(sp.csr_array(1 - np.eye(4, dtype="f4")))
leiden.leiden(
    network, objective="modularity", resolution=1, n_iterations=2,
    backend="libreville", seed=0,
)
print("igraph" in sys.modules)
"""
    found = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    assert found.stdout.strip() == "False"


@pytest.mark.parametrize("n_iterations", [1, 2, -1])
def test_libreville_is_the_same_on_any_threads(n_iterations):
    pytest.importorskip("cluster_libreville")
    _, graph = blocks([200] * 8, 0.045, 0.018)
    network = leiden.network(graph)

    def labels(n_threads, seed=3):
        return run(
            network, "libreville",
            n_iterations=n_iterations, seed=seed, n_threads=n_threads,
        )[0]  # fmt: skip

    expected = labels(1)
    for n_threads in (2, 3, 8, 16, 2):
        assert_array_equal(labels(n_threads), expected)
    with ThreadPoolExecutor(3) as pool:
        for found in pool.map(labels, [1, 2, 3, 4]):
            assert_array_equal(found, expected)
    assert any((labels(2, seed) != expected).any() for seed in range(3))


def test_libreville_does_not_change_what_it_gets():
    pytest.importorskip("cluster_libreville")
    matrix, loops = draw(50)
    network = leiden.network(sp.csr_array(matrix), None, loops)
    run(network, "libreville")
    assert_array_equal(network.graph.toarray(), matrix)
    assert_array_equal(network.loops, loops)
    assert network.graph.dtype == np.float32


def test_a_missing_libreville_is_told(monkeypatch):
    monkeypatch.setattr(leiden, "find_spec", lambda _: None)
    leiden.require("igraph")
    with pytest.raises(ImportError, match=r'pip install "skleiden\[libreville\]"'):
        leiden.require("libreville")


def test_too_little_memory_is_an_error_before_libreville_starts(monkeypatch):
    cluster_libreville = pytest.importorskip("cluster_libreville")
    monkeypatch.setattr(leiden, "_BYTES_OF_ENTRY", 2**50)
    monkeypatch.setattr(cluster_libreville, "leiden", None)
    matrix, _ = draw(20)
    edges = np.count_nonzero(matrix) // 2
    with pytest.raises(
        MemoryError,
        match=rf"may need \d+ MB for {edges} edges on 2 threads.*lower n_jobs",
    ):
        run(leiden.network(sp.csr_array(matrix)), "libreville", n_threads=2)


def test_room_is_asked_for_what_libreville_takes_at_most(monkeypatch):
    network = SimpleNamespace(
        graph=SimpleNamespace(nnz=6 * 10**9), loops=SimpleNamespace(size=2 * 10**9)
    )
    of_thread = (72 if sys.platform == "linux" else 8) * 2**20
    needed = 64 * 8 * 10**9 + (256 + 17 * 5000) * 2 * 10**9 + 5000 * of_thread
    asked = []

    def refuse(size, dtype):
        asked.append(size * np.dtype(dtype).itemsize)
        raise MemoryError

    monkeypatch.setattr(np, "empty", refuse)
    with pytest.raises(MemoryError, match=rf"{needed / 1e6:.0f} MB for 3000000000 ed"):
        leiden._make_room(network, 5000)
    assert asked == [needed]


def test_panics_are_errors_and_interruptions_pass(monkeypatch):
    cluster_libreville = pytest.importorskip("cluster_libreville")
    panic = type("PanicException", (BaseException,), {})
    network = leiden.network(sp.csr_array(draw(20)[0]))

    def fail(error):
        def function(*_, **__):
            raise error

        monkeypatch.setattr(cluster_libreville, "leiden", function)

    fail(panic("thread pool"))
    with pytest.raises(RuntimeError, match=r"on 5 threads: thread pool\. Lower n_jobs"):
        run(network, "libreville", n_threads=5)
    fail(KeyboardInterrupt())
    with pytest.raises(KeyboardInterrupt):
        run(network, "libreville")


LIMITED = """
import resource, sys
import numpy as np, scipy.sparse as sp
from skleiden._kernels import leiden

ends = np.random.default_rng(0).integers(20_000, size=(2, 400_000))
upper = sp.triu(sp.coo_array((np.ones(400_000, dtype="f4"), ends)).tocsr(), 1)
network = leiden.network(sp.csr_array(upper + upper.T))
small = leiden.network(sp.csr_array(1 - np.eye(4, dtype="f4")))
how = dict(
    objective="modularity", resolution=1, n_iterations=1, backend="libreville", seed=0
)
leiden.leiden(small, **how)
with open("/proc/self/status") as lines:
    held = next(int(line.split()[1]) for line in lines if line.startswith("VmSize"))
limit = 1024 * held + int(sys.argv[1]) * 2**20
resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
try:
    leiden.leiden(network, n_threads=2, **how)
except MemoryError as error:
    print(error)
"""


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="needs limits of memory")
def test_a_real_limit_of_memory_does_not_end_the_process():
    pytest.importorskip("cluster_libreville")
    told = []
    for room in (10, 170, 178, 190, 500):
        finished = subprocess.run(
            [sys.executable, "-c", LIMITED, str(room)], capture_output=True, text=True
        )
        assert finished.returncode == 0, (room, finished.stderr)
        told.append(finished.stdout.strip())
    assert "may need" in told[0]
    assert told[-1] == ""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")
def test_libreville_runs_in_a_child_forked_while_it_is_at_work():
    pytest.importorskip("cluster_libreville")
    import multiprocessing

    _, graph = blocks([100] * 5, 0.1, 0.02)
    network = leiden.network(graph)
    expected = run(network, "libreville", n_threads=2)[0]
    ended = threading.Event()

    def be_at_work():
        while not ended.is_set():
            run(network, "libreville", n_threads=2)

    thread = threading.Thread(target=be_at_work)
    thread.start()
    try:
        with multiprocessing.get_context("fork").Pool(1) as pool:
            found = pool.apply_async(
                run, (network, "libreville"), {"n_threads": 2}
            ).get(60)
    finally:
        ended.set()
        thread.join()
    assert_array_equal(found[0], expected)


@pytest.mark.parametrize("looped", [[], [1], [0, 2], [0, 1, 2, 3]])
def test_rows_with_loops_sum_to_degrees(looped):
    matrix = np.array([[0, 2, 0, 0], [2, 0, 1, 0], [0, 1, 0, 0], [0] * 4], dtype="f4")
    loops = np.zeros(4)
    loops[looped] = [0.5, 3, 4, 5][: len(looped)]
    found = leiden.Network(sp.csr_array(matrix), loops).matrix
    assert found.dtype == np.float64
    assert_array_equal(found.toarray(), matrix + 2 * np.diag(loops))
