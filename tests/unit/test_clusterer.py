import copy

import numpy as np
import pytest
import scipy.sparse as sp
from scipy.optimize import brentq
from sklearn.base import clone
from sklearn.exceptions import NotFittedError
from sklearn.metrics import adjusted_rand_score, homogeneity_score
from sklearn.metrics.pairwise import cosine_distances
from sklearn.neighbors import KNeighborsTransformer

from skleiden import FaissKNeighborsTransformer, LayerStack, MutualKNNLeiden
from skleiden._stages.distinct import as_shards
from tests import checks
from tests.checks import brute_neighbors, check_graph


def leiden(**parameters):
    """A clusterer of the plain nearest neighbours, which oracles find, too."""
    defaults = {"n_neighbors": 10, "hubness": None, "random_state": 0}
    return MutualKNNLeiden(**defaults | parameters)


def check_fitted_clusterer(clusterer):
    """What holds of every fit; of vectors on workers, with these brought here."""
    here = copy.copy(clusterer)
    vectors = as_shards(clusterer._distinct).gather()
    here._distinct = clusterer._distinct._replace(vectors=vectors)
    checks.check_fitted_clusterer(here)


@pytest.mark.parametrize(
    ("place", "algorithm", "backend"),
    [
        ("here", "exact", "igraph"),
        ("here", "exact", "leidenalg"),
        ("here", "hnsw", "igraph"),
        ("here", "hnsw", "leidenalg"),
        ("on workers", "exact", "igraph"),
    ],
    indirect=["place"],
)
@pytest.mark.parametrize("graph", ["mutual", "union"])
@pytest.mark.parametrize("weights", ["similarity", "uniform", "jaccard", "umap"])
def test_finds_planted_communities(
    embedding, planted, place, algorithm, backend, graph, weights
):
    fitted = leiden(
        algorithm=algorithm, backend=backend, graph=graph, weights=weights,
        resolution=0.5,
    ).fit(place(embedding))  # fmt: skip
    check_fitted_clusterer(fitted)
    assert adjusted_rand_score(planted, fitted.labels_) > 0.9
    assert fitted.backend_ == backend
    assert fitted.algorithm_ == algorithm
    assert fitted.knn_recall_ >= 0.95


def umap_strengths(similarities):
    """UMAP's of one row's neighbours, by a root finder."""
    listed = similarities > 0
    distances = 1 - similarities[listed]
    strengths = np.zeros(similarities.size)
    if listed.sum() == 0:
        return strengths
    beyond = distances - distances.min()

    def missing(scale):
        return np.exp(-beyond / scale).sum() - np.log2(listed.sum() + 1)

    least = 1e-3 * distances.mean()
    scale = brentq(missing, least, 1e3, xtol=1e-12) if missing(least) < 0 else least
    strengths[listed] = np.exp(-beyond / scale)
    return strengths


def reference_graph(X, k, graph, weights):
    """The affinity matrix in ten lines of dense NumPy."""
    ids, similarities = brute_neighbors(X, k)
    directed = np.zeros((len(X), len(X)))
    np.put_along_axis(directed, ids, similarities, axis=1)
    directed[directed < 0] = 0
    listed = directed > 0
    edges = listed & listed.T if graph == "mutual" else listed | listed.T
    if weights == "uniform":
        return edges.astype(float)
    if weights == "similarity":
        return edges * np.maximum(directed, directed.T)
    if weights == "umap":
        a = np.array([umap_strengths(row) for row in directed])
        return np.sqrt(a * a.T) if graph == "mutual" else a + a.T - a * a.T
    common = listed.astype(float) @ listed.T
    sizes = listed.sum(axis=1)
    return edges * common / (sizes[:, None] + sizes - common)


@pytest.mark.parametrize("graph", ["mutual", "union"])
@pytest.mark.parametrize("weights", ["similarity", "uniform", "jaccard", "umap"])
@pytest.mark.parametrize("n_neighbors", [1, 10, 50])
def test_graph_equals_a_plain_reference(blobs, place, graph, weights, n_neighbors):
    X, _ = blobs
    fitted = leiden(
        n_neighbors=n_neighbors, graph=graph, weights=weights, small_clusters="keep"
    ).fit(place(X))
    expected = reference_graph(X, n_neighbors, graph, weights)
    # Similarities are rounded to 6 decimals, which UMAP's scales magnify.
    atol = 1e-4 if weights == "umap" else 2e-6
    np.testing.assert_allclose(
        fitted.affinity_matrix_.toarray(), expected, rtol=0, atol=atol
    )
    most = n_neighbors if graph == "mutual" else None
    check_graph(fitted.affinity_matrix_, most_edges=most)


def modularity(A, labels, resolution=1.0):
    """Straight from the definition."""
    A = A.toarray().astype(float)
    strength = A.sum(axis=1)
    null = np.outer(strength, strength) / strength.sum()
    same = labels[:, None] == labels
    return ((A - resolution * null) * same).sum() / strength.sum()


@pytest.mark.parametrize("resolution", [0.3, 1.0, 5.0])
@pytest.mark.parametrize("backend", ["igraph", "leidenalg"])
def test_quality_is_the_objectives(embedding, place, resolution, backend):
    X = place(embedding)
    fitted = leiden(resolution=resolution, backend=backend, small_clusters="keep").fit(
        X
    )
    A, labels = fitted.affinity_matrix_, fitted.labels_
    assert fitted.modularity_ == pytest.approx(modularity(A, labels), abs=1e-6)
    assert fitted.quality_ == pytest.approx(modularity(A, labels, resolution), abs=1e-6)
    potts = leiden(
        objective="cpm", resolution=resolution / 50, backend=backend,
        small_clusters="keep",
    ).fit(X)  # fmt: skip
    same = potts.labels_[:, None] == potts.labels_
    A = potts.affinity_matrix_.toarray().astype(float)
    expected = ((A - resolution / 50) * same).sum() / A.sum()
    assert potts.quality_ == pytest.approx(expected, abs=1e-6)


@pytest.mark.parametrize(("objective", "resolution"), [("modularity", 1), ("cpm", 0.1)])
def test_backends_reach_the_same_quality(embedding, objective, resolution):
    best = [
        max(
            leiden(
                objective=objective,
                resolution=resolution,
                backend=backend,
                n_iterations=-1,
                random_state=seed,
            )
            .fit(embedding)
            .quality_
            for seed in range(5)
        )
        for backend in ("igraph", "leidenalg")
    ]
    assert best[0] == pytest.approx(best[1], rel=0.01)


@pytest.mark.parametrize("objective", ["rber", "surprise", "significance"])
def test_objectives_of_leidenalg_alone(embedding, planted, objective):
    fitted = leiden(objective=objective).fit(embedding)
    check_fitted_clusterer(fitted)
    assert fitted.backend_ == "leidenalg"
    assert fitted.quality_ > 0
    # The last two divide finely: every community should be inside a planted one.
    assert homogeneity_score(planted, fitted.labels_) > 0.9


@pytest.mark.parametrize("backend", ["igraph", "leidenalg"])
def test_more_iterations_are_not_worse_and_end(embedding, backend):
    quality = [
        leiden(n_iterations=n, backend=backend).fit(embedding).quality_
        for n in (1, 10, -1)
    ]
    assert quality[0] <= quality[1] + 1e-9
    assert quality[2] >= quality[0] - 1e-9


def test_resolution_orders_the_number_of_communities(embedding):
    counts = [
        leiden(resolution=r, small_clusters="keep").fit(embedding).n_clusters_
        for r in (1e-3, 1.0, 100.0)
    ]
    assert counts[0] < counts[1] < counts[2]


def test_small_communities(embedding, place):
    X = place(embedding)
    keep, noise, attach = (
        leiden(resolution=10.0, small_clusters=what, min_cluster_size=8).fit(X)
        for what in ("keep", "noise", "attach")
    )
    sizes = np.bincount(keep.labels_)
    small = sizes[keep.labels_] < 8
    assert 0 < small.sum() < 400
    assert not keep.attached_.any()
    assert not noise.attached_.any()
    np.testing.assert_array_equal(noise.labels_ == -1, small)
    assert adjusted_rand_score(noise.labels_[~small], keep.labels_[~small]) == 1
    np.testing.assert_array_equal(attach.attached_, small & (attach.labels_ >= 0))
    assert adjusted_rand_score(attach.labels_[~small], keep.labels_[~small]) == 1
    assert (attach.labels_ >= 0).all()
    for fitted in (keep, noise, attach):
        check_fitted_clusterer(fitted)
        assert fitted.modularity_ == keep.modularity_
    # The first round of attaching, by hand: the label of the largest summed similarity.
    union = reference_graph(embedding, 10, "union", "similarity")
    votes = union @ np.eye(noise.n_clusters_ + 1)[noise.labels_][:, :-1]
    first_round = small & (votes.max(axis=1) > 0)
    decided = noise.labels_[~small]
    mapping = dict(zip(decided, attach.labels_[~small], strict=True))
    expected = [mapping[c] for c in votes[first_round].argmax(axis=1)]
    np.testing.assert_array_equal(attach.labels_[first_round], expected)


def test_rows_that_nothing_reaches_are_noise(blobs, place):
    # Two rows on axes of their own beside three blobs.
    X = np.zeros((92, 7))
    X[:90, :5] = np.abs(blobs[0])
    X[90, 5] = X[91, 6] = 1
    fitted = leiden().fit(place(X))
    np.testing.assert_array_equal(fitted.labels_[90:], -1)
    assert (fitted.labels_[:90] >= 0).all()
    assert fitted.n_isolated_ == 2
    assert not fitted.attached_[90:].any()


def test_no_community_is_large_enough(embedding, place):
    X = place(embedding)
    for what in ("attach", "noise"):
        make = leiden(min_cluster_size=300, small_clusters=what)
        with pytest.warns(
            UserWarning, match=r"has min_cluster_size=300 rows .* are -1"
        ):
            fitted = make.fit(X)
        assert (fitted.labels_ == -1).all()
        assert fitted.n_clusters_ == 0
        assert (fitted.predict(X[:5]) == -1).all()


def test_all_rows_are_zero(place):
    clusterer = leiden()
    with pytest.warns(UserWarning, match="all labels are -1"):
        clusterer.fit(place(np.zeros((120, 4))))
    np.testing.assert_array_equal(clusterer.labels_, np.full(120, -1))
    predicted = clusterer.predict(place(np.ones((3, 4))))
    np.testing.assert_array_equal(predicted, [-1, -1, -1])


@pytest.mark.parametrize(
    ("place", "algorithm"),
    [("here", "exact"), ("here", "hnsw"), ("on workers", "exact")],
    indirect=["place"],
)
def test_zero_rows_are_noise_and_equal_rows_together(embedding, place, algorithm):
    X = np.concatenate([embedding, np.repeat(embedding[:1], 99, axis=0)])
    X[50:60] = 0
    X = place(X)
    for small_clusters in ("attach", "noise", "keep"):
        fitted = leiden(algorithm=algorithm, small_clusters=small_clusters).fit(X)
        check_fitted_clusterer(fitted)
        assert (fitted.labels_[50:60] == -1).all()
        assert (fitted.kth_similarity_[50:60] == np.inf).all()
        assert len(set(fitted.labels_[400:]) | {fitted.labels_[0]}) == 1
        assert fitted.n_isolated_ >= 10
    assert (fitted.labels_[60:400] >= 0).all()
    assert (fitted.predict(X[[55, 450]]) == [-1, fitted.labels_[0]]).all()


def test_equal_rows_stay_together_at_any_resolution(embedding, place):
    X = place(np.concatenate([embedding, np.repeat(embedding[:3], 20, axis=0)]))
    labels = leiden(resolution=1000.0, small_clusters="keep").fit(X).labels_
    for i in range(3):
        assert len({labels[i], *labels[400 + 20 * i : 420 + 20 * i]}) == 1


@pytest.mark.parametrize("X", [np.zeros((8, 3)), np.eye(8), -np.eye(2) + [[0], [0]]])
def test_graphs_without_edges(place, X):
    fitted = leiden(small_clusters="keep").fit(place(X))
    zero = ~X.any(axis=1)
    assert (fitted.labels_[zero] == -1).all()
    assert sorted(fitted.labels_[~zero]) == list(range(np.count_nonzero(~zero)))
    assert fitted.affinity_matrix_.nnz == 0
    assert fitted.modularity_ == 0
    assert fitted.n_isolated_ == fitted.n_components_graph_ == len(X)
    assert fitted.predict(place(X)).shape == (len(X),)


def test_equal_rows_alone(place):
    X = place(np.ones((8, 3)))
    fitted = leiden().fit(X)
    np.testing.assert_array_equal(fitted.labels_, 0)
    np.testing.assert_array_equal(fitted.predict(X[:5]), 0)


def test_negative_similarities_make_no_edge(place):
    X = np.array([[1.0, 0.1], [1.0, 0.2], [-1.0, 0.1], [-1.0, 0.2]])
    fitted = leiden(min_cluster_size=1).fit(place(X))
    assert adjusted_rand_score([0, 0, 1, 1], fitted.labels_) == 1


# --------------------------------------------------------------------------- predict


def test_predict_agrees_with_labels(embedding, place):
    X = place(embedding)
    for resolution in (1.0, 4.0):
        fitted = leiden(resolution=resolution, n_neighbors=15).fit(X)
        agreement = np.mean(fitted.predict(X) == fitted.labels_)
        assert agreement >= 0.99 if resolution == 1 else agreement >= 0.95


def test_predict_of_new_rows(embedding, planted, place):
    train, test = np.arange(400) % 4 > 0, np.arange(400) % 4 == 0
    fitted = leiden(resolution=0.5).fit(place(embedding[train]))
    predicted = fitted.predict(place(embedding[test]))
    assert predicted.dtype == np.int64
    assert adjusted_rand_score(planted[test], predicted) > 0.95
    alone = [fitted.predict(row[None])[0] for row in embedding[test]]
    np.testing.assert_array_equal(alone, predicted)


def reference_predict(fitted, X, queries, k):
    """The rule as the documentation has it, in float64."""
    _, nearest = brute_neighbors(X, k)
    last = nearest[:, -1]
    predicted = []
    for query in queries:
        similarity = np.round(
            X @ query / (np.linalg.norm(X, axis=1) * np.linalg.norm(query)), 6
        )
        order = np.argsort(-similarity, kind="stable")[: k + (similarity.max() == 1)]
        votes = np.zeros(fitted.n_clusters_)
        for p in order:
            if similarity[p] >= last[p] - 1e-9 and fitted.labels_[p] >= 0:
                votes[fitted.labels_[p]] += max(similarity[p], 0)
        predicted.append(votes.argmax() if votes.any() else -1)
    return predicted


def test_predict_follows_its_rule(blobs, place):
    X, _ = blobs
    rng = np.random.RandomState(1)
    queries = np.concatenate([X[:30], rng.standard_normal((60, 5)), -X[:5]])
    fitted = leiden(n_neighbors=6, resolution=2.0, small_clusters="noise").fit(place(X))
    predicted = fitted.predict(place(queries))
    expected = reference_predict(fitted, X, queries, 6)
    assert np.mean(predicted == expected) > 0.97  # float32 may move a tie
    assert (predicted == -1).any()
    assert (predicted >= 0).any()


def test_predict_where_rows_list_fewer_than_asked(place):
    """Whatever comes is nearer than the last of a list that is not full."""
    fitted = leiden().fit(place(np.repeat([[1.0, 0.2], [1.0, -0.2]], 20, axis=0)))
    assert (fitted.kth_similarity_ == -1).all()
    np.testing.assert_array_equal(fitted.predict(place(np.array([[1.0, 0.0]]))), [0])


# ----------------------------------------------------------------------- precomputed


@pytest.mark.parametrize("n_neighbors", [5, 10])
def test_precomputed_equals_direct(embedding, n_neighbors):
    X = np.concatenate([embedding, embedding[:40], np.zeros((3, 96), np.float32)])
    direct = leiden(n_neighbors=n_neighbors).fit(X)
    transformer = FaissKNeighborsTransformer(n_neighbors)
    graph = transformer.fit_transform(X)
    by_graph = leiden(n_neighbors=n_neighbors, metric="precomputed").fit(graph)
    assert (direct.affinity_matrix_ != by_graph.affinity_matrix_).nnz == 0
    np.testing.assert_array_equal(direct.labels_, by_graph.labels_)
    np.testing.assert_array_equal(direct.kth_similarity_, by_graph.kth_similarity_)
    queries = np.concatenate([X[:30], -X[:3], X[-1:]])
    queries[:10] += 0.05 * queries[10:20]
    np.testing.assert_array_equal(
        by_graph.predict(transformer.transform(queries)), direct.predict(queries)
    )
    assert by_graph.algorithm_ == "precomputed"
    assert np.isnan(by_graph.knn_recall_)


@pytest.mark.parametrize("n_zero", [0, 3, 4])
@pytest.mark.parametrize("n_neighbors", [1, 4, 8])
def test_precomputed_of_rows_that_are_all_equal(n_zero, n_neighbors):
    X = np.ones((9, 2))
    X[:n_zero] = 0
    graph = FaissKNeighborsTransformer(n_neighbors).fit_transform(X)
    precomputed = leiden(n_neighbors=n_neighbors, metric="precomputed").fit(graph)
    direct = leiden(n_neighbors=n_neighbors).fit(X)
    np.testing.assert_array_equal(precomputed.labels_, direct.labels_)
    check_fitted_clusterer(precomputed)


def test_precomputed_from_scikit_learn(embedding):
    direct = leiden().fit(embedding)
    theirs = KNeighborsTransformer(n_neighbors=10, metric="cosine")
    distances = theirs.fit_transform(embedding.astype(np.float64))
    dense = cosine_distances(embedding.astype(np.float64))
    for X in (distances, sp.csr_array(distances), distances.tocoo(), dense):
        fitted = leiden(metric="precomputed").fit(X)
        check_fitted_clusterer(fitted)
        # float32 and float64 similarities may round to neighbouring millionths.
        assert abs(fitted.affinity_matrix_ - direct.affinity_matrix_).max() < 2e-6
        assert adjusted_rand_score(fitted.labels_, direct.labels_) > 0.9
    more = KNeighborsTransformer(n_neighbors=30, metric="cosine").fit_transform(
        embedding.astype(np.float64)
    )
    fitted = leiden(metric="precomputed").fit(more)
    assert (fitted.affinity_matrix_ != leiden(metric="precomputed").fit(
        distances).affinity_matrix_).nnz == 0  # fmt: skip


def test_precomputed_weighs_by_the_mean_of_both_directions():
    distances = sp.csr_array(
        ([0.2, 0.4, 0.5, 0.5], ([0, 1, 1, 2], [1, 0, 2, 1])), shape=(3, 3)
    )
    fitted = leiden(n_neighbors=2, metric="precomputed", min_cluster_size=1).fit(
        distances
    )
    assert fitted.affinity_matrix_[0, 1] == pytest.approx(0.7)
    assert fitted.affinity_matrix_[1, 2] == pytest.approx(0.5)


def test_precomputed_input_is_not_modified(embedding):
    graph = FaissKNeighborsTransformer(10).fit_transform(embedding)
    before = graph.copy()
    leiden(metric="precomputed").fit(graph).predict(graph)
    for part in ("data", "indices", "indptr"):
        np.testing.assert_array_equal(getattr(graph, part), getattr(before, part))


def test_precomputed_duplicates_from_scikit_learn(embedding):
    X = np.concatenate([embedding, np.repeat(embedding[:1], 99, axis=0)])
    graph = KNeighborsTransformer(n_neighbors=10, metric="cosine").fit_transform(
        X.astype(np.float64)
    )
    fitted = leiden(metric="precomputed").fit(graph)
    assert len({fitted.labels_[0], *fitted.labels_[400:]}) == 1


# ----------------------------------------------------------------------- determinism


@pytest.mark.parametrize("algorithm", ["exact", "hnsw"])
def test_threads_and_repetition_change_nothing(embedding, algorithm):
    make = leiden(algorithm=algorithm)
    expected = make.fit(embedding).labels_
    for n_jobs in (1, 2, 4):
        again = clone(make).set_params(n_jobs=n_jobs).fit(embedding)
        np.testing.assert_array_equal(again.labels_, expected)
    np.testing.assert_array_equal(make.fit(embedding).labels_, expected)


@pytest.mark.parametrize("backend", ["igraph", "leidenalg"])
def test_random_state(embedding, backend):
    make = leiden(backend=backend, resolution=4.0)
    labels = [
        clone(make).set_params(random_state=seed).fit(embedding).labels_
        for seed in (0, 0, np.random.RandomState(0), 1, 2)
    ]
    np.testing.assert_array_equal(labels[0], labels[1])
    np.testing.assert_array_equal(labels[0], labels[2])
    assert any((labels[0] != other).any() for other in labels[3:])


def test_other_users_of_igraphs_generator_are_left_alone(embedding):
    import random

    import igraph

    random.seed(7)
    expected = igraph.Graph.Erdos_Renyi(n=50, m=100).get_edgelist()
    random.seed(7)
    leiden().fit(embedding)
    assert igraph.Graph.Erdos_Renyi(n=50, m=100).get_edgelist() == expected


def test_parameters_and_input_are_left_alone(embedding):
    X = 3 * embedding
    before = X.copy()
    make = leiden()
    parameters = make.get_params()
    make.fit(X).predict(X)
    np.testing.assert_array_equal(X, before)
    assert make.get_params() == parameters


def test_there_is_no_score():
    assert not hasattr(MutualKNNLeiden, "score")


def test_progress_is_shown_only_if_asked(embedding, capfd):
    leiden().fit(embedding)
    assert capfd.readouterr().err == ""
    leiden(verbose=1).fit(embedding)
    assert "Leiden (igraph" in capfd.readouterr().err


# --------------------------------------------------------------------------- bad input


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ({"n_neighbors": 0}, "'n_neighbors' parameter"),
        ({"n_neighbors": 1.5}, "'n_neighbors' parameter"),
        ({"metric": "euclidean"}, "'metric' parameter"),
        ({"algorithm": "ball_tree"}, "'algorithm' parameter"),
        ({"target_recall": 1.5}, "'target_recall' parameter"),
        ({"hnsw_m": 0}, "'hnsw_m' parameter"),
        ({"ef_construction": 0}, "'ef_construction' parameter"),
        ({"ef_search": 0}, "'ef_search' parameter"),
        ({"graph": "directed"}, "'graph' parameter"),
        ({"weights": "distance"}, "'weights' parameter"),
        ({"objective": "Modularity"}, "'objective' parameter"),
        ({"resolution": 0.0}, "'resolution' parameter"),
        ({"resolution": -1.0}, "'resolution' parameter"),
        ({"resolution": np.nan}, "'resolution' parameter"),
        ({"n_iterations": 0}, "'n_iterations' parameter"),
        ({"n_iterations": -2}, "'n_iterations' parameter"),
        ({"backend": "networkx"}, "'backend' parameter"),
        ({"min_cluster_size": 0}, "'min_cluster_size' parameter"),
        ({"small_clusters": "drop"}, "'small_clusters' parameter"),
        ({"random_state": "seed"}, "'random_state' parameter"),
        ({"n_jobs": 1.5}, "'n_jobs' parameter"),
        (
            {"backend": "igraph", "objective": "surprise"},
            r"does not have objective='surprise'; use backend='leidenalg', or one of",
        ),
        (
            {"objective": "significance", "resolution": 2.0},
            "'significance' has no resolution; got resolution=2.0",
        ),
    ],
)
def test_bad_parameters(embedding, parameters, message):
    with pytest.raises(ValueError, match=message):
        leiden(**parameters).fit(embedding)


@pytest.mark.parametrize(
    ("X", "error", "message"),
    [
        (np.ones((1, 3)), ValueError, "minimum of 2 is required"),
        (np.ones((0, 3)), ValueError, "0 sample"),
        (np.ones(3), ValueError, "Expected 2D array"),
        (sp.eye_array(3).tocsr(), TypeError, "[Ss]parse data was passed"),
        (
            np.array([["a"], ["b"]]),
            ValueError,
            "not compatible with arrays of bytes/str",
        ),
        (np.ones((2, 3, 4)), TypeError, "3 dimensions, shape"),
        ([np.eye(2), np.eye(2)], TypeError, "a list of 2 matrices"),
        (
            LayerStack([np.eye(3)]),
            TypeError,
            "takes one matrix; got a LayerStack",
        ),
    ],
)
def test_bad_vectors(X, error, message):
    with pytest.raises(error, match=message):
        leiden().fit(X)


@pytest.mark.parametrize(("value", "what"), [(np.nan, "NaN"), (np.inf, "infinity")])
def test_rows_that_are_not_finite_are_told(embedding, place, value, what):
    X = embedding.copy()
    X[[271, 270, 399], [1, 3, 0]] = value
    message = rf"{what}, first in row 270, column 3\. . of rows \d+ to \d+ hold it"
    with pytest.raises(ValueError, match=rf"contains {message}\. Remove these rows"):
        leiden().fit(place(X))


def distances(values, shape=(4, 4)):
    rows, columns = np.nonzero(~np.eye(*shape, dtype=bool))
    return sp.csr_array((np.resize(values, rows.size), (rows, columns)), shape=shape)


@pytest.mark.parametrize(
    ("X", "message"),
    [
        (np.zeros((3, 4)), r"square matrix of distances; got shape \(3, 4\)"),
        (distances([0.5, 2.5]), "between 0 and 2; got values from 0 to 2.5"),
        (5 * (1 - np.eye(4)), "got values from 0 to 5"),
        (distances([0.5, -0.1]), "got values from -0.1 to 0.5"),
        (distances([1.0]), "entries are all 1, .*mode='connectivity'"),
        (
            sp.csr_array(([0.1] * 4, ([0, 1, 2, 3], [1, 0, 3, 2])), shape=(4, 4)),
            "at most 1 neighbours a row, fewer than n_neighbors=10",
        ),
        (distances([np.nan, 0.5]), "contains NaN"),
        (
            distances([0.2, 0.3, 0.4, 0.5, 0.6]).toarray(),
            r"only if it is symmetric; got .* transpose by up to 0.3\. Leave",
        ),
    ],
)
def test_bad_distances(X, message):
    with pytest.raises(ValueError, match=message):
        leiden(metric="precomputed").fit(X)


@pytest.mark.parametrize(
    ("X", "message"),
    [
        (LayerStack([np.eye(3)]), "takes one matrix; got a LayerStack"),
        ({"a": np.eye(3)}, "takes one matrix; got a dict"),
        ([np.eye(3), np.eye(3)], "a list of 2 matrices"),
        (np.zeros((2, 3, 3)), "3 dimensions, shape"),
    ],
)
def test_layers_are_no_distances(X, message):
    with pytest.raises(TypeError, match=message):
        leiden(metric="precomputed").fit(X)


def test_a_query_far_from_all_rows_is_noise(embedding):
    X = np.hstack([embedding, np.zeros((400, 2), np.float32)])
    transformer = FaissKNeighborsTransformer(10).fit(X)
    fitted = leiden(metric="precomputed").fit(transformer.transform(X))
    far = np.zeros((1, 98), np.float32)
    far[0, -1] = 1
    # All its distances are 1, as of a graph without distances.
    assert fitted.predict(transformer.transform(far)) == [-1]
    assert leiden().fit(X).predict(far) == [-1]


def test_numpy_integers_as_parameters(embedding):
    graph = FaissKNeighborsTransformer(10).fit_transform(embedding)
    expected = leiden().fit_predict(embedding)
    for X, metric in ((embedding, "cosine"), (graph, "precomputed")):
        fitted = leiden(
            n_neighbors=np.int64(10),
            metric=metric,
            n_iterations=np.int32(2),
            min_cluster_size=np.uint8(5),
            n_jobs=np.int64(2),
            random_state=np.int64(0),
            resolution=np.float32(1),
        ).fit(X)
        np.testing.assert_array_equal(fitted.labels_, expected)


def test_a_failed_fit_changes_nothing(embedding, place):
    X, bad = place(embedding), embedding.copy()
    bad[0, 0] = np.nan
    bad = place(bad)
    fitted = leiden().fit(X)
    before = vars(fitted).copy()
    with pytest.raises(ValueError, match="contains NaN"):
        fitted.fit(bad)
    with pytest.raises(ValueError, match="has no resolution"):
        fitted.set_params(objective="surprise", resolution=2.0).fit(X[:50])
    fitted.set_params(objective="modularity", resolution=1.0)
    assert vars(fitted) == before
    assert fitted.predict(X).size == 400
    with pytest.raises(ValueError, match="contains NaN"):
        leiden().fit(bad)
    fresh = leiden()
    with pytest.raises(ValueError, match="contains NaN"):
        fresh.fit(bad)
    with pytest.raises(NotFittedError):
        fresh.predict(X)


GRAPHS = {
    "mutual": {},
    "union": {"graph": "union"},
    "umap": {"graph": "union", "weights": "umap"},
    "few neighbours": {"n_neighbors": 4, "weights": "uniform"},
    "many neighbours": {"n_neighbors": 60, "weights": "jaccard"},
}


@pytest.mark.parametrize("kind", GRAPHS)
def test_backends_agree_within_a_percent(embedding, kind):
    """On five graphs, each the best of three seeds."""
    igraph, leidenalg = (
        max(
            leiden(**GRAPHS[kind] | {"backend": backend, "random_state": seed})
            .fit(embedding)
            .modularity_
            for seed in range(3)
        )
        for backend in ("igraph", "leidenalg")
    )
    assert igraph == pytest.approx(leidenalg, rel=0.01)


def test_the_first_row_votes_as_any_other(blobs):
    """A query that knows but one fitted row, in a precomputed graph."""
    X, _ = blobs
    distances = cosine_distances(X)
    fitted = leiden(metric="precomputed").fit(np.maximum(distances, 0))
    for row in (0, 1, 89):
        query = sp.csr_array(([1e-6], ([0], [row])), shape=(1, 90))
        assert fitted.predict(query) == fitted.labels_[row]


@pytest.mark.parametrize("backend", ["igraph", "leidenalg"])
def test_one_iteration_is_not_as_many_as_it_takes(backend):
    """On vectors without structure, whose communities one iteration does not settle."""
    X = np.random.RandomState(0).standard_normal((1000, 8))
    make = leiden(backend=backend, weights="uniform")
    one, two, all_ = (
        make.set_params(n_iterations=n).fit(X).modularity_ for n in (1, 2, -1)
    )
    assert one < two <= all_
