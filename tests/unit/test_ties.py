"""Rows that are equal, or as good as equal, among others."""

import numpy as np
import pytest
from scipy.sparse.csgraph import connected_components
from sklearn.metrics import adjusted_rand_score
from sklearn.neighbors import KNeighborsTransformer

from skleiden import MutualKNNLeiden
from skleiden._kernels import ivf, knn
from skleiden.datasets import load_prompt_activations
from tests.golden import fit

NOISE = (0, 1e-7, 1e-6, 1e-5, 1e-4, 1e-3)


def near_copies(noise, n_kinds=4, copies=210):
    """Rows that are the same but for relative noise, and which is which."""
    rng = np.random.default_rng(0)
    kinds = np.repeat(np.arange(n_kinds), copies)
    X = rng.standard_normal((n_kinds, 64))[kinds]
    return X * (1 + noise * rng.standard_normal(X.shape)), kinds


@pytest.mark.parametrize("noise", NOISE)
@pytest.mark.parametrize("algorithm", ["exact", "ivf", "hnsw"])
@pytest.mark.parametrize("hubness", [None, "csls"])
def test_near_copies_are_communities(noise, algorithm, hubness):
    X, kinds = near_copies(noise)
    fitted = MutualKNNLeiden(
        algorithm=algorithm, hubness=hubness, small_clusters="noise", random_state=0
    ).fit(X)
    assert adjusted_rand_score(kinds, fitted.labels_) == 1
    assert fitted.n_isolated_ == 0
    assert adjusted_rand_score(kinds, fitted.predict(X.astype(np.float32))) == 1


@pytest.mark.parametrize("noise", NOISE)
@pytest.mark.parametrize("algorithm", ["exact", "ivf"])
def test_near_copies_on_workers(noise, algorithm, workers):
    da = pytest.importorskip("dask.array")
    X, kinds = near_copies(noise)
    fitted = MutualKNNLeiden(
        algorithm=algorithm, small_clusters="noise", random_state=0
    ).fit(da.from_array(X, chunks=(300, -1)))
    assert adjusted_rand_score(kinds, fitted.labels_) == 1


@pytest.mark.parametrize("noise", NOISE)
def test_near_copies_by_distances_of_scikit_learn(noise):
    X, kinds = near_copies(noise)
    theirs = KNeighborsTransformer(n_neighbors=80, metric="cosine")
    fitted = MutualKNNLeiden(metric="precomputed", random_state=0).fit(
        theirs.fit_transform(X)
    )
    assert adjusted_rand_score(kinds, fitted.labels_) == 1


@pytest.mark.parametrize("noise", [1e-7, 1e-5, 1e-3])
def test_near_copies_among_others(noise):
    X, kinds = near_copies(noise, copies=250)
    others = np.random.default_rng(1).standard_normal((500, 64))
    others[:, :8] += 3 * np.eye(8)[np.arange(500) % 8]
    fitted = MutualKNNLeiden(15, random_state=0).fit(np.concatenate([X, others]))
    labels = fitted.labels_[: len(X)]
    assert all(np.unique(labels[kinds == kind]).size == 1 for kind in range(4))


def test_copies_of_real_rows_stay_with_them():
    data = load_prompt_activations().data
    embedding, _ = fit(data, {})
    rng = np.random.default_rng(0)
    some = rng.permutation(len(embedding))[:100]
    copies = np.repeat(embedding[some], 60, axis=0)
    copies *= (1 + 1e-7 * rng.standard_normal(copies.shape)).astype(np.float32)
    labels = MutualKNNLeiden(random_state=0).fit_predict(
        np.concatenate([embedding, copies])
    )
    of_copies = labels[len(embedding) :].reshape(100, 60)
    assert (of_copies == labels[some][:, None]).all()


def test_copies_are_no_fewer_neighbours():
    rng = np.random.default_rng(0)
    X = np.repeat(rng.standard_normal((50, 20)), 20, axis=0)
    graph = KNeighborsTransformer(n_neighbors=15, metric="cosine").fit_transform(X)
    labels = MutualKNNLeiden(15, metric="precomputed", random_state=0).fit_predict(
        graph
    )
    assert adjusted_rand_score(np.repeat(np.arange(50), 20), labels) == 1


def test_a_graph_of_too_few_neighbours_is_refused_with_copies_too():
    X = np.repeat(np.random.default_rng(0).standard_normal((50, 20)), 2, axis=0)
    graph = KNeighborsTransformer(n_neighbors=5, metric="cosine").fit_transform(X)
    with pytest.raises(ValueError, match="at most 5 neighbours a row, fewer than n_n"):
        MutualKNNLeiden(15, metric="precomputed").fit(graph)


def test_the_order_of_ties_is_symmetric_and_each_rows_own():
    ranks = np.arange(200, dtype=np.int32)
    order = knn.tie_order(ranks[:, None], ranks)
    np.testing.assert_array_equal(order, order.T)
    assert (order >= 0).all()
    assert (order < 2**32).all()
    np.fill_diagonal(order, 2**32)
    listed = np.zeros(order.shape, dtype=bool)
    np.put_along_axis(listed, np.argsort(order, axis=1)[:, :15], True, axis=1)
    mutual = listed & listed.T
    assert mutual.sum(axis=1).min() > 0
    assert listed.sum(axis=0).max() < 40  # no hubs
    assert connected_components(mutual)[0] == 1


@pytest.mark.parametrize("bits", [2, 3, 8, 17, 20, 31])
def test_mixed_numbers_are_told_apart(bits):
    numbers = np.arange(min(2**bits, 2**17), dtype=np.uint64)
    mixed = ivf._mix(numbers, np.uint64(bits))
    assert mixed.max() < 2**bits
    np.testing.assert_array_equal(ivf._unmix(mixed, np.uint64(bits)), numbers)


def test_lists_that_end_among_ties_are_the_best_of_all():
    """FAISS gives some of the ties; the rest must be looked for."""
    X, _ = near_copies(1e-5)
    X = knn.unit_rows(X)
    ranks = np.random.default_rng(1).permutation(len(X)).astype(np.int32)
    own = np.arange(len(X))
    found = knn.exact_neighbors(X, X, 10, knn.Ranks(ranks, ranks), own=own)
    steps = np.rint((X @ X.T).astype(np.float64) * 10**6)
    np.fill_diagonal(steps, -np.inf)
    ties = knn.tie_order(ranks[:, None], ranks)
    best = np.lexsort((ties, -steps), axis=1)[:, :10]
    # Products of matrices may round otherwise.
    assert (found.ids == best).mean() > 0.9
    assert (found.similarities[:, -1] >= 1 - 2e-6).all()


def one_of_each(choices, n):
    """Rows of few ones, of which very many are as similar as each other."""
    rng = np.random.default_rng(0)
    rows = np.argsort(rng.random((n, 24)), axis=1)[:, :choices]
    X = np.zeros((n, 24))
    np.put_along_axis(X, rows, 1, axis=1)
    return np.unique(X, axis=0) - 0.125


LISTS = {
    "near copies": lambda: near_copies(1e-5, 2, 550)[0],
    "that differ": lambda: near_copies(1e-3, 1, 1100)[0],
    "that differ more": lambda: near_copies(4e-3, 1, 1100)[0],
    "some among others": lambda: np.concatenate(
        [
            near_copies(1e-4, 1, 400)[0],
            np.random.default_rng(3).standard_normal((700, 64)),
        ]
    ),
    "few ones": lambda: one_of_each(3, 1600),
}


@pytest.fixture(scope="module", params=LISTS)
def tied(request):
    """Vectors and their ranks, and all similarities in steps, the order of ties.

    Steps from a row to itself are the least.
    """
    X = knn.unit_rows(LISTS[request.param]().astype(np.float32))
    ranks = np.random.default_rng(1).permutation(len(X)).astype(np.int32)
    everyone = np.tile(np.arange(len(X)), (len(X), 1))
    steps = knn.to_steps(knn._products(X, X, everyone))
    np.fill_diagonal(steps, -(10**7))
    return X, ranks, steps, knn.tie_order(ranks[:, None], ranks)


@pytest.fixture(scope="module")
def best(tied):
    """The list of all other rows, for each, best first."""
    _, _, steps, ties = tied
    return np.lexsort((ties, -steps), axis=1)


@pytest.mark.parametrize("k", [10, 60, 1000])
def test_lists_are_the_best_of_all_however_many_are_tied(tied, best, k):
    X, ranks, steps, _ = tied
    best = best[:, :k]
    found = knn.exact_neighbors(X, X, k, knn.Ranks(ranks, ranks), own=np.arange(len(X)))
    np.testing.assert_array_equal(
        knn.to_steps(found.similarities), np.take_along_axis(steps, best, axis=1)
    )
    assert (found.ids == best).mean() > 1 - 1e-4  # but for 30 bits of `best_columns`


def test_lists_of_some_rows_among_others(tied):
    X, ranks, steps, ties = tied
    some, others = np.arange(0, len(X), 3), np.flatnonzero(np.arange(len(X)) % 3)
    found = knn.exact_neighbors(
        X[some], X[others], 25, knn.Ranks(ranks[some], ranks[others])
    )
    part = np.ix_(some, others)
    best = np.lexsort((ties[part], -steps[part]), axis=1)[:, :25]
    assert (found.ids == best).mean() > 1 - 1e-4


@pytest.mark.parametrize("noise", [1e-5, 1e-4, 1e-3])
def test_lists_of_near_copies_by_inverted_lists(noise):
    X = knn.unit_rows(near_copies(noise, 1, 2000)[0].astype(np.float32))
    ranks = np.random.default_rng(1).permutation(len(X)).astype(np.int32)
    axes = np.eye(64, dtype=np.float32)
    centroids = knn.unit_rows(np.random.default_rng(2).normal(X[:1], 0.01, (5, 64)))
    own = (X @ centroids.T).argmax(axis=1)
    kept, own = np.unique(own, return_inverse=True)
    lists = ivf.Lists(axes, centroids[kept], own)
    plan = ivf.Plan(lists, np.inf, 1.0, np.arange(5), np.ones(5))
    found = ivf.search(X, 20, plan, ranks, n_threads=2)
    both = knn.Ranks(ranks, ranks)
    exact = knn.exact_neighbors(X, X, 20, both, own=np.arange(len(X)))
    np.testing.assert_array_equal(found.ids, exact.ids)


@pytest.mark.parametrize(
    ("noise", "least", "place"),
    [
        (1e-5, 0.95, "here"),
        (1e-4, 0.95, "here"),
        (1e-3, 0.8, "here"),
        (1e-4, 0.95, "on workers"),
    ],
    indirect=["place"],
)
def test_fitted_rows_of_a_cloud_are_predicted_as_fitted(noise, least, place):
    X = near_copies(noise, 1, 1400)[0].astype(np.float32)
    fitted = MutualKNNLeiden(random_state=0).fit(place(X))
    assert fitted.n_clusters_ > 1
    predicted = fitted.predict(X)
    assert (predicted == fitted.labels_).mean() > least
    np.testing.assert_array_equal(fitted.predict(X[700:750]), predicted[700:750])
    np.testing.assert_array_equal(fitted.predict(X[::-1]), predicted[::-1])


@pytest.mark.parametrize("width", [1, 2, 40, 1024, 1025, 3000])
def test_the_best_columns_of_tables_of_any_width(width):
    rng = np.random.default_rng(0)
    ids = rng.permutation(width)[None].repeat(4, axis=0)
    ids[2, ::2] = -1
    steps = rng.integers(-4 * 10**6, 4 * 10**6, (4, width))
    steps[1] = 5
    ranks = knn.Ranks(np.arange(4, dtype=np.int32), np.arange(width, dtype=np.int32))
    found = knn.best_columns(ids, steps, min(width, 20), ranks)
    ties = knn.tie_order(ranks.queries[:, None], ranks.vectors[ids])
    expected = np.lexsort((ties, -steps, ids < 0), axis=1)[:, :20]
    there = np.take_along_axis(ids, expected, axis=1) >= 0
    np.testing.assert_array_equal(found[there], expected[there])
