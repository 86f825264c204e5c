"""Representatives, summary and map of a graph; agreement of layers."""

import numpy as np
import pytest
import scipy.sparse as sp
from numpy.testing import assert_allclose, assert_array_equal
from sklearn.metrics import silhouette_score
from sklearn.pipeline import make_pipeline

from skleiden import MutualKNNLeiden
from skleiden._kernels.graph_layout import layout
from skleiden.inspection import (
    community_map,
    graph_summary,
    layer_agreement,
    members,
    representatives,
)
from skleiden.model_selection import StableLeiden


@pytest.fixture(scope="module")
def clusterer(embedding):
    return MutualKNNLeiden(n_neighbors=15, random_state=0).fit(embedding)


@pytest.fixture
def graph():
    """Two triangles with a bridge, and a vertex alone; one edge weighs more."""
    edges = {(0, 1): 1, (0, 2): 1, (1, 2): 2, (2, 3): 0.5, (3, 4): 1, (3, 5): 1}
    edges[4, 5] = 1
    matrix = np.zeros((7, 7), dtype=np.float32)
    for (i, j), weight in edges.items():
        matrix[i, j] = matrix[j, i] = weight
    return sp.csr_array(matrix)


# --- representatives ------------------------------------------------------------------


@pytest.mark.parametrize("n", [1, 3, 1000])
def test_representatives_equal_plain_numpy(clusterer, n):
    weights = clusterer.affinity_matrix_.toarray().astype(float)
    found = representatives(clusterer, n)
    assert list(found) == list(members(clusterer.labels_, min_size=1))
    for label, both in found.items():
        rows = np.flatnonzero(clusterer.labels_ == label)
        inside = weights[np.ix_(rows, rows)].sum(axis=1)
        share = inside / np.maximum(weights[rows].sum(axis=1), 1e-300)
        central = np.argsort(-inside, kind="stable")[:n]
        assert [one.row for one in both.central] == rows[central].tolist()
        assert_allclose([one.inside for one in both.central], inside[central])
        border = np.argsort(share, kind="stable")[:n]
        assert [one.row for one in both.borderline] == rows[border].tolist()
        assert_allclose([one.share for one in both.borderline], share[border])
        assert [type(value) for value in both.central[0]] == [int, float, float]


def test_representatives_of_a_pipeline_and_of_runs(stack, embedding):
    stable = StableLeiden(
        make_pipeline(MutualKNNLeiden(n_neighbors=15)), n_runs=2, random_state=0
    ).fit(embedding)
    inner = stable.estimator_[-1]
    expected = representatives(inner)
    assert representatives(stable) == expected
    assert representatives(stable.estimator_) == expected


def test_row_without_edges_is_at_the_border(blobs):
    X, _ = blobs
    clusterer = MutualKNNLeiden(n_neighbors=5, small_clusters="keep").fit(
        np.vstack([X, -X.sum(axis=0)])
    )
    alone = clusterer.labels_[-1]
    (only,) = representatives(clusterer)[alone].borderline
    assert only == (90, 0.0, 0.0)


@pytest.mark.parametrize("n", [1, 6])
def test_representatives_without_any_edge(n):
    clusterer = MutualKNNLeiden(small_clusters="keep").fit(np.eye(6))
    assert clusterer.affinity_matrix_.nnz == 0
    found = representatives(clusterer, n)
    assert sorted(found) == list(range(6))
    for label, (central, borderline) in found.items():
        assert (
            central == borderline == [(clusterer.labels_.tolist().index(label), 0, 0)]
        )


def test_representatives_errors(clusterer):
    with pytest.raises(TypeError, match=r"got MutualKNNLeiden without labels_"):
        representatives(MutualKNNLeiden())
    with pytest.raises(TypeError, match="got int without labels_"):
        representatives(3)
    for n in (0, 1.5, True):
        with pytest.raises(ValueError, match="n must be an integer of at least 1; got"):
            representatives(clusterer, n)


# --- graph_summary --------------------------------------------------------------------


def test_graph_summary(graph):
    assert graph_summary(graph) == {
        "n_vertices": 7,
        "n_edges": 7,
        "n_isolated": 1,
        "degree_quantiles": [0, 2, 2, 2.5, 3],
        "mean_degree": 2.0,
        "mean_weight": pytest.approx(7.5 / 7),
        "n_connected_components": 2,
        "largest_component": 6,
    }
    assert all(
        type(value) in (int, float, list) for value in graph_summary(graph).values()
    )


def test_summary_of_a_graph_without_edges():
    found = graph_summary(sp.csr_array((3, 3)))
    assert (found.n_edges, found.n_isolated, found.largest_component) == (0, 3, 1)
    assert np.isnan(found.mean_weight)


@pytest.mark.parametrize("inspect", [graph_summary, community_map])
@pytest.mark.parametrize(
    ("affinity", "message"),
    [
        (np.eye(3), r"sparse square matrix, .* got ndarray of shape \(3, 3\)"),
        (sp.csr_array((2, 3)), r"got csr_array of shape \(2, 3\)"),
        (sp.csr_array((0, 0)), "at least one row; got none"),
        (sp.csr_array([[0, 1], [0, 0]]), "differs from its transpose by up to 1"),
    ],
)
def test_what_is_no_graph(inspect, affinity, message):
    with pytest.raises(ValueError, match=message):
        inspect(affinity)


# --- community_map --------------------------------------------------------------------


@pytest.mark.parametrize("max_rows", [5000, 150])
def test_communities_lie_together(clusterer, max_rows):
    affinity = clusterer.affinity_matrix_
    found = community_map(affinity, max_rows=max_rows)
    assert found.rows.size == min(400, max_rows)
    assert (np.diff(found.rows) > 0).all()
    assert found.positions.shape == (found.rows.size, 2)
    assert found.positions.dtype == np.float32
    assert_allclose(np.abs(found.positions).max(), 1, atol=1e-6)
    assert silhouette_score(found.positions, clusterer.labels_[found.rows]) > 0.3


@pytest.mark.parametrize("max_rows", [5000, 150])
def test_same_seed_same_map(clusterer, max_rows):
    affinity = clusterer.affinity_matrix_

    def at(seed):
        return community_map(affinity, max_rows=max_rows, random_state=seed)

    first, again, other = at(0), at(0), at(1)
    assert_array_equal(first.rows, again.rows)
    assert_array_equal(first.positions, again.positions)
    assert not np.array_equal(first.positions, other.positions)


def test_map_leaves_the_graph_and_the_generators_alone(clusterer):
    import random

    affinity = clusterer.affinity_matrix_
    before = affinity.copy()
    random.seed(3)
    state = random.getstate()
    community_map(affinity)
    assert random.getstate() == state
    assert_array_equal(affinity.data, before.data)
    assert_array_equal(affinity.indices, before.indices)


@pytest.mark.parametrize("max_rows", [5000, 150])
def test_map_does_not_depend_on_the_order_of_the_rows(clusterer, max_rows):
    affinity = clusterer.affinity_matrix_
    order = np.random.default_rng(0).permutation(affinity.shape[0])
    before = community_map(affinity, max_rows=max_rows)
    after = community_map(affinity[order][:, order], max_rows=max_rows)
    rows = order[after.rows]
    assert_array_equal(np.sort(rows), before.rows)
    assert_array_equal(after.positions[np.argsort(rows)], before.positions)


def test_rows_that_are_the_same_to_the_graph_only_change_places():
    groups = joined(*[(i, j) for i in range(20) for j in range(i)], n=30)
    order = np.random.default_rng(0).permutation(30)
    before, after = community_map(groups), community_map(groups[order][:, order])
    assert_array_equal(
        np.unique(before.positions, axis=0), np.unique(after.positions, axis=0)
    )


@pytest.mark.parametrize("max_rows", [5000, 150])
@pytest.mark.parametrize("unit", [2.0**-90, 2.0**90])
def test_map_depends_on_ratios_of_weights(clusterer, max_rows, unit):
    affinity = clusterer.affinity_matrix_
    expected = community_map(affinity, max_rows=max_rows)
    found = community_map(affinity * unit, max_rows=max_rows)
    assert_array_equal(found.positions, expected.positions)


def joined(*edges, n):
    """Graph of n vertices with these edges, of weight 1."""
    one, other = np.reshape(edges, (-1, 2)).astype(int).T
    upper = sp.coo_array((np.ones(one.size), (one, other)), shape=(n, n))
    return sp.csr_array(upper + upper.T)


GRAPHS = {
    "one": joined(n=1),
    "two apart": joined(n=2),
    "two": joined((0, 1), n=2),
    "three apart": joined(n=3),
    "two and one": joined((0, 1), n=3),
    "path of three": joined((0, 1), (1, 2), n=3),
    "triangle": joined((0, 1), (0, 2), (1, 2), n=3),
    "star": joined(*[(0, i) for i in range(1, 100)], n=100),
    "clique": joined(*[(i, j) for i in range(40) for j in range(i)], n=40),
    "path": joined(*[(i, i + 1) for i in range(99)], n=100),
    "alone": joined(n=50),
    "clique, and some alone": joined(
        *[(i, j) for i in range(30) for j in range(i)], n=50
    ),
}


@pytest.mark.parametrize("kind", GRAPHS)
@pytest.mark.parametrize("max_rows", [1, 2, 3000])
def test_map_of_special_graphs(kind, max_rows):
    """All rows have places of their own, none of which is far from all others."""
    graph = GRAPHS[kind]
    found = community_map(graph, max_rows=max_rows)
    n = min(graph.shape[0], max_rows)
    assert found.rows.shape == (n,)
    assert found.positions.dtype == np.float32
    assert np.isfinite(found.positions).all()
    assert len(np.unique(found.positions, axis=0)) == n
    if n > 1:
        assert_allclose(np.abs(found.positions).max(), 1, atol=1e-6)
        apart = np.linalg.norm(found.positions[:, None] - found.positions, axis=2)
        np.fill_diagonal(apart, np.inf)
        assert n < 4 or apart.min(axis=1).max() < 0.7


def test_components_lie_apart():
    cliques = [
        (20 * k + i, 20 * k + j) for k in range(6) for i in range(20) for j in range(i)
    ]
    found = community_map(joined(*cliques, n=120))
    assert silhouette_score(found.positions, np.arange(120) // 20) > 0.8


def test_map_errors(graph):
    with pytest.raises(ValueError, match="max_rows must be an integer of at least 1"):
        community_map(graph, max_rows=0)
    with pytest.raises(ValueError, match=r"no negative weights, .* got one of -2"):
        community_map(graph * -1)


# --- layer_agreement ------------------------------------------------------------------


def expected_agreement(X, labels, k):
    """As documented, of all rows, one by one."""
    similarities = X @ X.T
    np.fill_diagonal(similarities, -2)
    n, values = len(X), []
    for c in range(labels.max() + 1):
        of_c = np.flatnonzero(labels == c)
        take = min(k, of_c.size - 1)
        shares = [
            np.mean(labels[np.argsort(-similarities[row])[:take]] == c)
            for row in of_c
            if X[row].any()
        ]
        chance = (of_c.size - 1) / (n - 1)
        values.append((np.mean(shares) - chance) / (1 - chance) if shares else np.nan)
    return values


def test_layer_agreement_equals_plain_numpy():
    rng = np.random.default_rng(0)
    labels = np.repeat([0, 1, 2, -1], [20, 12, 4, 5])
    late = rng.standard_normal((41, 6))
    late[labels == 1, 2] += 5
    early = rng.standard_normal((41, 4))
    early[labels == 2] = 0
    found = layer_agreement(
        np.hstack([early, late]), labels, {"early": 4, "late": 6}, n_neighbors=5
    )
    assert list(found) == ["early", "late"]
    for name, X in (("early", early), ("late", late)):
        norms = np.linalg.norm(X, axis=1, keepdims=True)
        unit = X / np.where(norms > 0, norms, 1)
        assert_allclose(found[name], expected_agreement(unit, labels, 5))
    assert np.isnan(found["early"][2])
    assert found["late"][1] > 0.9 > found["early"][1]


def test_layer_agreement_of_a_sample(embedding, planted):
    widths = [32, 32, 32]
    full = layer_agreement(embedding, planted, widths, max_members=1000)
    some = layer_agreement(embedding, planted, widths, max_members=60)
    again = layer_agreement(embedding, planted, widths, max_members=60)
    for name in full:
        assert_array_equal(some[name], again[name])
        assert not np.array_equal(full[name], some[name])
        assert_allclose(full[name], some[name], atol=0.15)


def test_layer_agreement_where_nobody_is_outside(embedding):
    labels = np.zeros(400, dtype=int)
    assert np.isnan(layer_agreement(embedding, labels, [96])["layer_0"]).all()
    labels[1:] = -1
    assert np.isnan(layer_agreement(embedding, labels, [96])["layer_0"]).all()


def test_layer_agreement_errors(embedding, planted):
    for options, message in (
        ({"n_neighbors": 0}, "n_neighbors must be an integer of at least 1; got 0"),
        ({"max_members": 0.5}, "max_members must be an integer of at least 1; got 0.5"),
        ({"layers": [90]}, r"\(sum 90\) for 96 columns"),
        ({"labels": planted[1:]}, "got 399 labels for 400 rows"),
    ):
        given = {"labels": planted, "layers": [96]} | options
        with pytest.raises(ValueError, match=message):
            layer_agreement(embedding, **given)


def test_strong_ties_are_drawn_short():
    """Of the layout: all rows are tied, and those of a group five times as strongly."""
    group = np.arange(60) % 3
    same = group[:, None] == group
    ties = np.where(same, 1.0, 0.2) - np.eye(60)
    places = layout(sp.csr_array(ties), seed=0)
    apart = np.linalg.norm(places[:, None] - places, axis=2)
    assert 2 * apart[same].mean() < apart[~same].mean()
