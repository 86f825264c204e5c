"""Labels belong to rows, wherever these stand: in any order they are the same."""

import functools

import numpy as np
import pytest
from sklearn.datasets import load_digits
from sklearn.metrics import adjusted_rand_score
from sklearn.neighbors import KNeighborsTransformer
from sklearn.pipeline import make_pipeline

from skleiden import (
    FaissKNeighborsTransformer,
    MultiLayerTfidfSketcher,
    MutualKNNLeiden,
)
from skleiden._stages import replicate
from skleiden.datasets import load_prompt_activations, make_layered_activations
from skleiden.model_selection import StableLeiden, resolution_profile
from tests.golden import odd


def sketched(X):
    return MultiLayerTfidfSketcher(
        32, layer_weights=None, weighting="idf", random_state=0
    ).fit_transform(X)


def near_copies():
    """Rows of which many are the same but for the last digits."""
    rng = np.random.default_rng(0)
    centres = np.repeat(rng.standard_normal((4, 32)), 120, axis=0)
    return centres * (1 + 1e-6 * rng.standard_normal(centres.shape))


def cloud():
    """Near copies of one row, which nothing but their numbers divides."""
    rng = np.random.default_rng(0)
    return rng.standard_normal(48) * (1 + 1e-3 * rng.standard_normal((600, 48)))


DATA = {
    "prompts": lambda: load_prompt_activations().data[:850],
    "planted": lambda: make_layered_activations(400, random_state=0)[0],
    "equal, zero and nearly equal rows": odd,
    "near copies": near_copies,
    "near copies of one row": cloud,
    "digits": lambda: load_digits().data[:500],
}


@functools.cache
def rows_of(name):
    X = DATA[name]()
    X = sketched(X) if name in ("prompts", "planted") else X
    X.flags.writeable = False
    return X


@pytest.fixture(scope="module", params=DATA)
def rows(request):
    return rows_of(request.param)


def orders(n, times):
    return [np.random.default_rng(seed).permutation(n) for seed in range(times)]


def check_any_order(fit, X, times):
    labels = fit(X)
    assert labels.max() > 0
    for order in orders(len(X), times):
        np.testing.assert_array_equal(fit(X[order]), labels[order])


def test_twenty_orders(rows):
    check_any_order(MutualKNNLeiden(15, random_state=0).fit_predict, rows, 20)


@pytest.mark.parametrize(
    "parameters",
    [
        {"algorithm": "ivf"},
        {"algorithm": "hnsw"},
        {"hubness": None},
        {"graph": "union", "weights": "umap"},
        {"weights": "jaccard"},
        {"weights": "uniform"},
        {"backend": "leidenalg"},
        {"objective": "cpm", "resolution": 0.1},
        {"small_clusters": "noise"},
    ],
    ids=str,
)
def test_every_way(rows, parameters):
    clusterer = MutualKNNLeiden(15, random_state=0, **parameters)
    check_any_order(clusterer.fit_predict, rows, 2)


def test_a_graph_computed_before(rows):
    pipeline = make_pipeline(
        FaissKNeighborsTransformer(30, random_state=0),
        MutualKNNLeiden(15, metric="precomputed", random_state=0),
    )
    check_any_order(pipeline.fit_predict, rows, 2)


def test_predictions(rows):
    X, queries = rows[50:], rows[:50]
    order = orders(len(X), 1)[0]
    here, there = (
        MutualKNNLeiden(15, random_state=0).fit(given) for given in (X, X[order])
    )
    np.testing.assert_array_equal(here.predict(queries), there.predict(queries))


def test_on_workers(rows, workers):
    da = pytest.importorskip("dask.array")
    clusterer = MutualKNNLeiden(15, random_state=0)
    labels = clusterer.fit_predict(rows)
    for order in orders(len(rows), 2):
        there = da.from_array(rows[order], chunks=(200, -1))
        np.testing.assert_array_equal(clusterer.fit_predict(there), labels[order])


def test_layers_and_all(monkeypatch):
    monkeypatch.setattr(replicate, "N_ROWS", 200)  # fewer than there are
    stack = load_prompt_activations().data[::4]
    pipeline = make_pipeline(
        MultiLayerTfidfSketcher(32, random_state=0), MutualKNNLeiden(random_state=0)
    )
    labels = pipeline.fit_predict(stack)
    for order in orders(len(labels), 2):
        np.testing.assert_array_equal(pipeline.fit_predict(stack[order]), labels[order])


def test_what_is_fitted_again_and_again(rows):
    order = orders(len(rows), 1)[0]
    clusterer = MutualKNNLeiden(15)
    stable = StableLeiden(clusterer, n_runs=3, random_state=0)
    np.testing.assert_array_equal(
        stable.fit_predict(rows[order]), stable.fit_predict(rows)[order]
    )
    here, there = (
        resolution_profile(clusterer, X, resolutions=[0.5, 4], n_runs=2)
        for X in (rows, rows[order])
    )
    for resolution in (0.5, 4):
        np.testing.assert_array_equal(
            there.partitions(resolution), here.partitions(resolution)[:, order]
        )
    for name in ("stability", "net_information", "null", "above_null"):
        np.testing.assert_allclose(there.table[name], here.table[name], atol=1e-12)


# Among near copies of one row the other package lists some, by where they stand.
@pytest.mark.parametrize(
    "name", [name for name in DATA if name != "near copies of one row"]
)
def test_a_graph_of_another_package(name):
    """What tells rows apart is then in their distances."""
    rows = rows_of(name)
    X = np.unique(rows.astype(np.float64), axis=0)
    X = X[X.any(axis=1)]
    graph = KNeighborsTransformer(n_neighbors=30, metric="cosine").fit_transform(X)
    clusterer = MutualKNNLeiden(15, metric="precomputed", random_state=0)
    labels = clusterer.fit_predict(graph)
    for order in orders(len(X), 2):
        shuffled = clusterer.fit_predict(graph[order][:, order])
        # Nothing tells near copies of one kind from those of another, of equal number.
        assert adjusted_rand_score(shuffled, labels[order]) == 1
