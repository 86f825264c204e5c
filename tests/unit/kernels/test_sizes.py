"""Constants that mutants (`tests/mutants.py`) leave out, at very different values.

Sizes of blocks and of room count for time and memory: any give the same answers.
"""

import ast
from importlib import import_module

import numpy as np
import pytest
import scipy.sparse as sp

from skleiden._kernels import cuda, graph, ivf, knn, leiden, pool, shuffle
from tests import mutants

N, D, K = 280, 16, 5

# Sizes to try, a very small one first. Bits go by whole bytes.
VALUES = (3, 50, 10**6)
OTHER_VALUES = {
    "ivf._WAITING": (1, 5, 480),
    "knn._ROWS_AT_ONCE": (40, 10**6),
    "ivf._ROWS_PROBED": (8, 56, 2**20),
    "knn._SPARE": (0, 3, 80),
    "graph._EDGES_AT_ONCE": (11, 10**6),
    "cuda._SPARE": (0, 3, 80),
    "cuda._GROUP": (1, 3, 500),
    "cuda._MOST": ((7, 90), (50, 30), (N - 1, 10**6)),
    "cuda._LEAST": ((1, 1), (3, 50)),
    "pool._SECONDS": (1e-4, 2.0),
}
SIZES = [
    pytest.param(module, name, value, id=f"{module}.{name}={value}")
    for module, names in mutants.SIZES.items()
    for module in [module.removesuffix(".py")]
    if hasattr(import_module("skleiden._kernels"), module)
    for name in names.split()
    for value in OTHER_VALUES.get(f"{module}.{name}", VALUES)
]


def make_vectors():
    """Rows in groups, some nearly equal; and equal ones, which no others are near to.

    Which of those another row would list hangs on last bits of products.
    """
    rng = np.random.default_rng(0)
    X = rng.standard_normal((6, D))[rng.integers(6, size=N)]
    X += rng.standard_normal((N, D))
    X[50:90] = X[0] + 1e-2 * X[50:90]
    X[90:170] = rng.standard_normal(D)
    return knn.unit_rows(X.astype(np.float32))


VECTORS = make_vectors()
RANKS = np.random.default_rng(1).permutation(N).astype(np.int32)
BOTH, OWN = knn.Ranks(RANKS, RANKS), np.arange(N)


def of_ivf():
    axes = np.eye(D, dtype=np.float32)
    centroids = ivf.k_means(VECTORS, 9, n_threads=2)
    own = ivf.assign(VECTORS, np.argsort(RANKS), axes, centroids, n_threads=2)
    lists = ivf.Lists(axes, centroids, own)
    yield centroids
    yield own
    yield ivf.project(VECTORS, OWN[::-1], axes, n_threads=2)
    some = OWN[::7]
    ranks = knn.Ranks(RANKS[some], RANKS)
    yield from ivf.true_neighbors(
        VECTORS[some], VECTORS, K, ranks, own=some, n_threads=2
    )[:2]
    for slack in (0.01, np.inf):  # 0 is where the fourth is
        plan = ivf.Plan(lists, slack, 1.0, OWN[:3], np.zeros(3))
        yield from ivf.search(VECTORS, K, plan, RANKS, n_threads=2)[:2]
        scores = ivf.least_scores(VECTORS, plan, n_threads=2)
        yield scores
        parts = []
        for first, stop in [(0, 4), (4, 9)]:
            rows = np.flatnonzero((own >= first) & (own < stop))
            part = VECTORS[rows], RANKS[rows], own[rows], first, stop, scores[rows]
            parts.append(ivf.Part(*part))
        within = [ivf.search_parts([part], K, lists, n_threads=2)[0] for part in parts]
        last = [found.similarities[:, -1] for found in within]
        for found in (*within, *ivf.search_parts(parts, K, lists, last, n_threads=2)):
            yield from found


def of_knn():
    yield knn.unit_rows(3 * VECTORS)
    yield from knn.row_hashes(VECTORS)
    yield knn.equality_hashes(VECTORS)
    for own in (OWN, None):
        yield from knn.exact_neighbors(VECTORS, VECTORS, K, BOTH, own=own)


def of_cuda():
    torch = pytest.importorskip("torch")
    card = torch.device("cpu")
    yield from cuda.exact_neighbors(VECTORS, VECTORS, K, BOTH, own=OWN, device=card)


def of_graph():
    lists = graph.directed_graph(*knn.exact_neighbors(VECTORS, VECTORS, K, BOTH)[:2])
    yield graph.jaccard_weights(lists, lists, lists).toarray()


def of_leiden():
    found = knn.exact_neighbors(VECTORS, VECTORS, K, BOTH, own=OWN)
    lists = graph.directed_graph(*found[:2])
    turned = sp.csr_array(lists.T)
    network = leiden.network(graph.union_graph(lists, turned), loops=np.arange(N) % 2)
    yield from leiden.leiden(
        network,
        objective="modularity",
        resolution=1.0,
        n_iterations=2,
        backend="igraph",
        seed=0,
    )


def of_pool():
    with pool.Pool(2, lambda: None) as threads:
        yield np.array(list(threads.map(lambda i: i * i, range(40))))


def of_shuffle():
    yield shuffle.shuffle_columns(3, VECTORS, 0)
    yield shuffle.shuffle_columns(3, sp.csr_array(VECTORS), 0).toarray()


@pytest.fixture(scope="module")
def expected():
    """What is found with the sizes as they are, by module."""
    return {}


@pytest.mark.parametrize(("module", "name", "value"), SIZES)
def test_sizes_change_no_answer(module, name, value, expected, monkeypatch):
    answers = globals()[f"of_{module}"]
    if module not in expected:
        expected[module] = list(answers())
    monkeypatch.setattr(f"skleiden._kernels.{module}.{name}", value)
    for found, wanted in zip(answers(), expected[module], strict=True):
        if np.issubdtype(np.asarray(found).dtype, np.integer):
            np.testing.assert_array_equal(found, wanted)
        else:  # the last bits of products and sums depend on what is computed at once
            np.testing.assert_allclose(found, wanted, rtol=0, atol=2e-6)


def test_only_assignments_to_listed_names_are_left_out(monkeypatch):
    monkeypatch.setattr(mutants, "SIZES", {"module.py": "_A"})
    monkeypatch.setattr(mutants, "EFFORT", {"module.py": "_B"})
    text = """
_A = 1 + 2
_A, _B = 3, 4
_A, _C = 5, 6
_C = _A + 7
def f(_A=8):
    _B = 9
"""
    all_nodes = [node for node, _ in mutants.nodes(ast.parse(text))]
    changed = [
        all_nodes[int(s.split("#")[1])] for s in mutants.sites("module.py", text)
    ]
    values = [node.value for node in changed if isinstance(node, ast.Constant)]
    assert values == [5, 6, 7, 8, 9]
    assert len(mutants.sites("other.py", text)) == 11
