"""Communities within communities, and one community divided."""

import json
import re
from copy import copy

import numpy as np
import pytest
import scipy.sparse as sp
from numpy.testing import assert_array_equal
from sklearn.metrics import adjusted_mutual_info_score as ami
from sklearn.neighbors import KNeighborsTransformer
from sklearn.pipeline import make_pipeline

from skleiden import FaissKNeighborsTransformer, MultiLayerTfidfSketcher
from skleiden import MutualKNNLeiden as Clusterer
from skleiden._palette import colors_of
from skleiden._stages.tree import Divider, VertexGraph, _envelope, _Line, vertex_graph
from skleiden.datasets import load_prompt_activations, make_layered_activations
from skleiden.inspection import CommunityTree, TreeNode, community_tree, split
from skleiden.io import load_estimator, save_estimator
from skleiden.model_selection import StableLeiden, permute_columns


def planted(n=600, levels=(3, 9), seed=0):
    return make_layered_activations(
        n, 3, 600, n_communities=levels, nnz_per_row=60, signal=0.7, random_state=seed
    )


def pipeline(**parameters):
    parameters = {"random_state": 0, "n_neighbors": 20} | parameters
    return make_pipeline(
        MultiLayerTfidfSketcher(layer_weights=None, random_state=0),
        Clusterer(**parameters),
    )


@pytest.fixture(scope="module")
def data():
    return planted()


@pytest.fixture(scope="module")
def fitted(data):
    return pipeline().fit(data[0])


@pytest.fixture(scope="module")
def tree(fitted):
    return community_tree(fitted)


def check_nested(tree):
    """What holds of any tree."""
    for number, node in enumerate(tree.nodes):
        assert node.number == number
        assert (np.diff(node.rows) > 0).all()
        children = [tree.nodes[child] for child in node.children]
        assert len(children) != 1
        assert [child.parent for child in children] == [number] * len(children)
        assert [child.level for child in children] == [node.level + 1] * len(children)
        sizes = [child.size for child in children]
        assert sizes == sorted(sizes, reverse=True)
        rows = np.concatenate([np.empty(0, int), *(child.rows for child in children)])
        assert np.unique(rows).size == rows.size
        assert np.isin(rows, node.rows).all()
        divided = bool(children)
        assert (node.resolution is not None) == divided
        assert (node.replicability is not None) == divided


# --- what is found --------------------------------------------------------------------


def test_planted_levels_come_back(tree, data):
    check_nested(tree)
    assert repr(tree) == "<CommunityTree: 1 > 3 > 9 communities>"
    for level, known in enumerate(data[1].T, start=1):
        assert ami(tree.labels_at(level), known) >= 0.98
    assert all(node.replicability > 0.6 for node in tree.nodes if node.children)


@pytest.mark.slow
def test_planted_tree_of_three_levels():
    """6 of 20 of 60: the levels are those planted."""
    stack, known = make_layered_activations(
        1800, n_communities=(6, 20, 60), signal=0.7, random_state=0
    )
    tree = community_tree(pipeline().fit(stack))
    check_nested(tree)
    assert tree.n_levels == 4
    for level, planted in enumerate(known.T, start=1):
        assert ami(tree.labels_at(level), planted) >= 0.98


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_permuted_columns_are_a_single_node(data, seed):
    nothing = permute_columns(data[0], random_state=seed)
    tree = community_tree(pipeline().fit(nothing))
    assert len(tree.nodes) == 1
    assert tree.nodes[0].replicability is None
    assert "not divided" in repr(tree)


def test_divisions_that_are_not_found_again_are_kept_if_asked_for(data):
    nothing = pipeline().fit(permute_columns(data[0], random_state=0))
    tree = community_tree(nothing, min_replicability=0, max_depth=1)
    check_nested(tree)
    assert tree.n_levels == 2
    assert tree.nodes[0].replicability < 0.3


def test_max_depth(fitted, tree):
    assert_array_equal(
        community_tree(fitted, max_depth=1).labels_at(1), tree.labels_at(1)
    )


def test_communities_without_parts_are_not_divided():
    stack, known = planted(400, levels=4)
    tree = community_tree(pipeline().fit(stack))
    leaves = tree.labels_at(tree.n_levels - 1)
    assert leaves.max() == 3
    assert ami(leaves, known) > 0.98


# --- same data, same tree -------------------------------------------------------------


def test_order_of_rows_does_not_matter(data, tree):
    order = np.random.RandomState(1).permutation(data[1].shape[0])
    other = community_tree(pipeline().fit(data[0][order]))
    for level in range(tree.n_levels):
        assert_array_equal(other.labels_at(level), tree.labels_at(level)[order])


def test_repetitions_and_seeds(fitted, tree):
    again = community_tree(fitted)
    assert again.to_dict() == tree.to_dict()
    other = community_tree(fitted, random_state=5)
    assert other.to_dict() != tree.to_dict()
    assert ami(other.labels_at(2), tree.labels_at(2)) > 0.97


def test_equal_rows_stay_together():
    rng = np.random.RandomState(0)
    centres = rng.standard_normal((4, 30))
    X = np.repeat(centres, 60, axis=0) + 0.3 * rng.standard_normal((240, 30))
    X = np.concatenate([X, X[::3], np.repeat(X[:1], 40, axis=0)])
    tree = community_tree(Clusterer(10, random_state=0).fit(X))
    assert tree.n_levels > 1
    for level in range(tree.n_levels):
        labels = tree.labels_at(level)
        assert_array_equal(labels[240:320], labels[:240:3])
        assert (labels[320:] == labels[0]).all()


def test_a_few_vectors_that_many_rows_are_equal_to():
    X = np.repeat(np.eye(4, 8), 50, axis=0)
    tree = community_tree(Clusterer(5, random_state=0).fit(X))
    assert [node.size for node in tree.nodes] == [200, 50, 50, 50, 50]


def test_all_rows_equal_and_rows_of_zeros():
    assert len(community_tree(Clusterer(5).fit(np.ones((20, 8)))).nodes) == 1
    with pytest.warns(UserWarning, match="No community has"):
        nothing = Clusterer(5).fit(np.zeros((20, 8)))
    tree = community_tree(nothing)
    assert [node.size for node in tree.nodes] == [0]
    assert_array_equal(tree.labels_at(0), np.full(20, -1))
    json.dumps(tree.to_dict())


@pytest.mark.parametrize("small_clusters", ["attach", "noise", "keep"])
def test_rows_of_small_communities(small_clusters, data):
    fitted = pipeline(small_clusters=small_clusters, min_cluster_size=20).fit(data[0])
    tree = community_tree(fitted)
    check_nested(tree)
    assert min(node.size for node in tree.nodes) >= 20
    assert_array_equal(tree.labels_at(0) >= 0, fitted[-1].labels_ >= 0)


# --- whatever was fitted --------------------------------------------------------------


def test_precomputed_graph(data):
    embedding = pipeline()[0].fit_transform(data[0])
    direct = community_tree(Clusterer(20, random_state=0).fit(embedding))
    graph = FaissKNeighborsTransformer(40).fit_transform(embedding)
    found = Clusterer(20, metric="precomputed", random_state=0).fit(graph)
    assert_array_equal(community_tree(found).labels_at(2), direct.labels_at(2))
    other = KNeighborsTransformer(n_neighbors=40, metric="cosine")
    found = Clusterer(20, metric="precomputed").fit(other.fit_transform(embedding))
    assert community_tree(found).n_levels == 3


def test_stable_saved_and_any_objective(data, fitted, tree, tmp_path):
    stable = StableLeiden(pipeline(), n_runs=2, random_state=0).fit(data[0])
    assert community_tree(stable).n_levels == 3
    save_estimator(tmp_path / "fitted.npz", fitted)
    loaded = load_estimator(tmp_path / "fitted.npz")
    assert community_tree(loaded).to_dict() == tree.to_dict()
    other = pipeline(objective="surprise").fit(data[0])
    assert ami(community_tree(other).labels_at(2), data[1][:, 1]) > 0.97


def test_dask_array(data):
    da = pytest.importorskip("dask.array")
    embedding = pipeline()[0].fit_transform(data[0])
    here = Clusterer(20, algorithm="exact", random_state=0).fit(embedding)
    lazy = da.from_array(embedding, chunks=(300, -1))
    there = Clusterer(20, algorithm="exact", random_state=0).fit(lazy)
    assert community_tree(there).to_dict() == community_tree(here).to_dict()


# --- what a tree tells ----------------------------------------------------------------


def test_labels_are_those_of_nodes_at(tree):
    for level in range(tree.n_levels):
        labels, nodes = tree.labels_at(level), tree.nodes_at(level)
        assert labels.dtype == np.int64
        for label, node in enumerate(nodes):
            assert_array_equal(np.flatnonzero(labels == label), node.rows)
        sizes = [node.size for node in nodes]
        assert sizes == sorted(sizes, reverse=True)


def by_hand():
    """A root of 8 rows, of which one is in neither part; one part is divided."""
    rows = [range(8), [0, 1, 2, 3], [4, 5, 6], [0, 1], [2, 3]]
    rows = [np.array(of) for of in rows]
    return CommunityTree(
        [
            TreeNode(0, None, 0, rows[0], (1, 2), 0.5, 0.9),
            TreeNode(1, 0, 1, rows[1], (3, 4), 1.0, 0.75, ("word", "<b>")),
            TreeNode(2, 0, 1, rows[2]),
            TreeNode(3, 1, 2, rows[3]),
            TreeNode(4, 1, 2, rows[4]),
        ],
        9,
    )


def test_communities_that_are_not_divided_stay_at_deeper_levels():
    tree = by_hand()
    assert tree.labels_at(0).tolist() == [0] * 8 + [-1]
    assert tree.labels_at(1).tolist() == [0, 0, 0, 0, 1, 1, 1, -1, -1]
    assert tree.labels_at(2).tolist() == [1, 1, 2, 2, 0, 0, 0, -1, -1]
    assert [node.number for node in tree.nodes_at(2)] == [2, 3, 4]
    assert repr(tree) == "<CommunityTree: 1 > 2 > 3 communities>"
    assert repr(tree.nodes[1]) == "<TreeNode 1: level 1, 4 rows, 2 children>"


def test_to_dict_is_json():
    found = by_hand().to_dict()
    assert json.loads(json.dumps(found)) == found
    assert found["nodes"][1] == {
        "node": 1,
        "parent": 0,
        "level": 1,
        "size": 4,
        "children": [3, 4],
        "resolution": 1.0,
        "replicability": 0.75,
        "keywords": ["word", "<b>"],
    }
    assert found["node_of_row"] == [3, 3, 4, 4, 2, 2, 2, 0, -1]
    assert (found["n_samples"], found["n_levels"]) == (9, 3)


def test_found_trees_are_json_too(tree):
    found = tree.to_dict()
    assert json.loads(json.dumps(found)) == found


def test_tables():
    pytest.importorskip("pandas")
    frame = by_hand().to_frame()
    assert frame["parent"].tolist() == [-1, 0, 0, 1, 1]
    assert frame["size"].tolist() == [8, 4, 3, 2, 2]
    assert frame["n_children"].tolist() == [2, 2, 0, 0, 0]
    assert frame["keywords"].tolist()[1] == "word, <b>"
    assert frame["replicability"].isna().tolist() == [False, False, True, True, True]
    html = by_hand()._repr_html_()
    assert "&lt;b&gt;" in html
    assert "<b>" not in html


def test_keywords_tell_a_level_apart(fitted, data):
    coarse, fine = data[1].T
    texts = [f"coarse{a} fine{b} filler" for a, b in zip(coarse, fine, strict=True)]
    tree = community_tree(fitted, texts=texts, n_keywords=2)
    for node in tree.nodes[1:]:
        known = data[1][node.rows, node.level - 1]
        word = ("coarse", "fine")[node.level - 1] + str(np.bincount(known).argmax())
        assert word in " ".join(node.keywords).split()
        assert len(node.keywords) <= 2
    assert tree.nodes[0].keywords == ()


# --- the icicle -----------------------------------------------------------------------


def test_icicle_nests():
    plt = pytest.importorskip("matplotlib.pyplot")
    plt.switch_backend("Agg")
    tree = by_hand()
    display = tree.plot()
    boxes = [(bar.get_x(), bar.get_width()) for bar in display.bars_]
    assert boxes == [(0, 8), (0, 4), (4, 3), (0, 2), (2, 2)]
    middles = [bar.get_y() + bar.get_height() / 2 for bar in display.bars_]
    assert np.round(middles, 9).tolist() == [0, 1, 1, 2, 2]
    leaves, colors = [2, 3, 4], [bar.get_facecolor()[:3] for bar in display.bars_]
    assert_array_equal([colors[i] for i in leaves], colors_of(np.arange(3)))
    texts = [text.get_text() for text in display.ax_.texts]
    assert texts == ["all", "word, <b>", "2", "3", "4"]
    _, ax = plt.subplots()
    assert type(display).from_tree(tree, ax=ax).ax_ is ax
    plt.close("all")


def test_icicle_of_a_single_node_and_of_long_words():
    plt = pytest.importorskip("matplotlib.pyplot")
    plt.switch_backend("Agg")
    one = CommunityTree([TreeNode(0, None, 0, np.arange(5))], 5)
    assert len(one.plot().bars_) == 1
    none = CommunityTree([TreeNode(0, None, 0, np.arange(0))], 5)
    assert len(none.plot().bars_) == 1
    nodes = [*by_hand().nodes]
    nodes[2] = TreeNode(2, 0, 1, nodes[2].rows, keywords=("w" * 200,))
    texts = [text.get_text() for text in CommunityTree(nodes, 9).plot().ax_.texts]
    assert max(map(len, texts)) < 130
    assert texts[2].endswith("w…")
    plt.close("all")


# --- one community divided ------------------------------------------------------------


@pytest.fixture(scope="module")
def coarse(data):
    return pipeline(resolution=0.3).fit(data[0])


def test_split_divides_one_community_alone(coarse, data):
    labels = coarse[-1].labels_
    n = labels.max() + 1
    for community in range(n):
        found = split(coarse, community)
        assert_array_equal(found.rows, np.flatnonzero(labels == community))
        others = labels != community
        assert_array_equal(found.labels[others], labels[others])
        assert found.n_parts == 3
        assert found.found_again
        assert ami(found.parts, data[1][found.rows, 1]) > 0.95
        numbers = np.array([community, n, n + 1])
        assert_array_equal(found.labels[found.rows], numbers[found.parts])
        assert (np.diff(np.bincount(found.parts)) <= 0).all()
    assert re.match("<Split: 3 parts of .* rows, found again", repr(found))
    assert labels is not found.labels


def test_split_at_a_resolution(coarse):
    numbers = [split(coarse, 0, resolution=r).n_parts for r in (1e-3, 1.0, 4.0)]
    assert numbers == sorted(numbers)
    assert numbers[0] == 1
    fine = split(coarse, 0, resolution=4.0)
    assert fine.resolution == 4.0
    assert fine.n_parts > 3
    assert 0 <= fine.replicability < 1
    message = r"No part of community 0 at resolution=1000.0 has the 5 rows of a commun"
    with pytest.warns(UserWarning, match=message):
        alone = split(coarse, 0, resolution=1000.0)
    assert_array_equal(alone.labels, coarse[-1].labels_)
    assert "not divided" in repr(alone)
    whole = split(coarse, 0, resolution=1e-3)
    assert_array_equal(whole.labels, coarse[-1].labels_)
    assert (whole.resolution, whole.found_again) == (None, False)
    assert "not divided" in repr(whole)


@pytest.mark.parametrize("n", [2, 3, 5])
def test_split_into_so_many(coarse, n):
    found = split(coarse, 0, n_clusters=n)
    assert found.n_parts == n
    assert np.unique(found.labels).size == 3 + n - 1


def test_split_into_more_than_there_can_be(coarse):
    with pytest.warns(UserWarning, match=r"No resolution gives n_clusters=150"):
        found = split(coarse, 0, n_clusters=150)
    assert 2 <= found.n_parts < 150
    with pytest.raises(ValueError, match=r"a resolution or n_clusters, not both; got"):
        split(coarse, 0, resolution=1.0, n_clusters=3)
    with pytest.raises(ValueError, match="'n_clusters' parameter of split must be"):
        split(coarse, 0, n_clusters=1)


def test_split_of_a_single_row():
    X = np.random.RandomState(0).standard_normal((40, 12))
    fitted = Clusterer(
        2, small_clusters="keep", min_cluster_size=1, resolution=5.0, random_state=0
    ).fit(X)
    last = fitted.n_clusters_ - 1
    assert np.count_nonzero(fitted.labels_ == last) == 1
    for how in ({}, {"resolution": 2.0}):
        assert split(fitted, last, **how).n_parts == 1
    with pytest.warns(UserWarning, match="it is not divided into n_clusters=2. Choose"):
        assert split(fitted, last, n_clusters=2).n_parts == 1


def test_split_of_what_has_no_parts_says_so(data):
    nothing = pipeline(resolution=0.01).fit(permute_columns(data[0], random_state=0))
    found = split(nothing, 0)
    assert not found.found_again
    assert found.replicability < 0.3
    assert "not" in repr(found)


def test_split_agrees_with_the_tree(coarse, tree):
    """The parts of a community that is a node of the tree are that node's children."""
    labels = coarse[-1].labels_
    for community in range(3):
        parts = split(coarse, community).labels[labels == community]
        assert ami(parts, tree.labels_at(2)[labels == community]) > 0.95


@pytest.mark.slow
def test_real_prompts(prompt_vectors):
    """Communities of two themes are divided into these, those of one are not.

    And the tree ends at the 29 themes.
    """
    fitted = Clusterer(40, random_state=0).fit(prompt_vectors)
    labels, themes = fitted.labels_, load_prompt_activations().target
    n_themes = []
    for community in range(labels.max() + 1):
        found = split(fitted, community)
        sizes = np.bincount(themes[found.rows])
        n_themes.append(np.count_nonzero(sizes > 0.1 * found.rows.size))
        assert found.found_again == (n_themes[-1] > 1)
        if found.found_again:
            assert ami(found.parts, themes[found.rows]) > 0.75
    assert n_themes.count(2) >= 4
    tree = community_tree(fitted)
    check_nested(tree)
    assert ami(tree.labels_at(tree.n_levels - 1), themes) > 0.98


# --- refusals -------------------------------------------------------------------------


def test_what_is_not_fitted_is_refused():
    with pytest.raises(
        TypeError, match=r"Takes a fitted MutualKNNLeiden.*Fit it first"
    ):
        community_tree(Clusterer())
    with pytest.raises(
        TypeError, match=r"Takes a fitted MutualKNNLeiden.*Fit it first"
    ):
        split(Clusterer(), 0)


def test_unknown_levels_and_communities(tree, coarse):
    for level in (-1, 3, 1.0, True, "1"):
        with pytest.raises(
            ValueError, match=r"level must be an integer from 0, the root, to 2; got"
        ):
            tree.labels_at(level)
    for community in (-1, 3, 1.0, False, None):
        with pytest.raises(
            ValueError, match=r"one of the estimator's 3 communities, .* 0 to 2; got"
        ):
            split(coarse, community)


def test_split_without_communities(coarse):
    nothing = copy(coarse[-1])
    nothing.labels_ = np.full_like(nothing.labels_, -1)
    with pytest.raises(ValueError, match=r"got 0, and all labels_ are -1\. Fit with a"):
        split(nothing, 0)


@pytest.mark.parametrize(
    ("parameters", "error", "text"),
    [
        (
            {"texts": "one"},
            TypeError,
            r"sequence of strings, one for each row; got a st",
        ),
        ({"texts": ["one"]}, ValueError, r"one entry for each row; got 1 for 600 rows"),
        ({"min_replicability": 1.5}, ValueError, "'min_replicability' parameter of"),
        ({"max_depth": 0}, ValueError, "'max_depth' parameter of"),
        ({"n_keywords": 0}, ValueError, "'n_keywords' parameter of"),
    ],
)
def test_bad_parameters(fitted, parameters, error, text):
    with pytest.raises(error, match=text):
        community_tree(fitted, **parameters)


def test_few_columns_are_said_to_say_little():
    X = np.random.RandomState(0).standard_normal((60, 5))
    fitted = Clusterer(10, random_state=0).fit(X)
    for ask in (community_tree, lambda fitted: split(fitted, 0)):
        with pytest.warns(UserWarning, match=r"fitted on 5 columns. In fewer than 8, "):
            ask(fitted)


def test_bad_resolution(fitted):
    with pytest.raises(ValueError, match="'resolution' parameter of split must be"):
        split(fitted, 0, resolution=0)


# --- the stage ------------------------------------------------------------------------


def graph_of(matrix):
    affinity = sp.csr_array(matrix.astype(np.float32))
    n = affinity.shape[0]
    return VertexGraph(affinity, np.zeros(n), np.ones(n, int), np.zeros(n, int))


def blocks(sizes, inside, between, seed=0):
    rng = np.random.RandomState(seed)
    of = np.repeat(np.arange(len(sizes)), sizes)
    chance = np.where(of[:, None] == of, inside, between)
    above = np.triu(rng.random_sample(chance.shape) < chance, 1)
    return of, above + above.T


def test_random_graphs_are_not_divided_and_blocks_are():
    _, random = blocks([200], 0.15, 0)
    rng = np.random.RandomState(0)
    assert Divider(graph_of(random), 5, rng).levels(0.5) == []
    of, planted = blocks([60, 50, 40], 0.4, 0.02)
    (found,) = Divider(graph_of(planted), 5, rng).levels(0.5)
    assert found.replicability > 0.8
    assert_array_equal(found.labels, of)


def test_halves_hold_every_edge_once():
    _, matrix = blocks([30], 0.3, 0)
    graph = graph_of(matrix)
    one, other = graph.halves(np.random.RandomState(0))
    assert_array_equal((one.graph + other.graph).toarray(), matrix)
    assert one.graph.nnz + other.graph.nnz == matrix.sum()
    assert 0.3 < one.graph.nnz / matrix.sum() < 0.7


def test_vertices_are_distinct_rows(fitted):
    graph, vertex_of_row = vertex_graph(fitted[-1])
    assert graph.counts.sum() == np.count_nonzero(vertex_of_row >= 0)
    full = fitted[-1].affinity_matrix_
    assert graph.affinity.sum() == pytest.approx(full.sum())
    rows = np.argsort(vertex_of_row)
    assert abs(full[rows][:, rows] - graph.affinity).max() == 0


@pytest.mark.parametrize("seed", range(5))
def test_envelope_is_the_highest_line(seed):
    rng = np.random.RandomState(seed)
    expected = np.append(rng.random_sample(12), 1.0)
    inside = np.append(rng.random_sample(12) ** 0.5, 1.0)
    lines = [
        _Line(np.array([i]), a, b, 0.0)
        for i, (a, b) in enumerate(zip(inside, expected, strict=True))
    ]
    ranges = list(_envelope(lines))
    end = ranges[-1][2]
    for resolution in np.linspace(0, end, 300)[1:-1]:
        best = int(np.argmax(inside - resolution * expected))
        held = [labels[0] for labels, low, high in ranges if low <= resolution <= high]
        assert best in held
