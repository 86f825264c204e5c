"""One graph divided: what Leiden gets, which resolutions, and what halves agree on."""

from types import SimpleNamespace

import numpy as np
import pytest
import scipy.sparse as sp
from numpy.testing import assert_array_equal

from skleiden._kernels import knn, leiden
from skleiden._stages import tree
from skleiden._stages.tree import Divider, Division, VertexGraph


def cliques(n=4, size=6, between=0.1, loops=None, counts=None):
    """Cliques of weight 1 in a ring, one edge between each two."""
    weights = np.kron(np.eye(n), np.ones((size, size)))
    for here in range(n):
        a, b = here * size, (here + 1) % n * size + 1
        weights[a, b] = weights[b, a] = between
    np.fill_diagonal(weights, 0)
    m = n * size
    return VertexGraph(
        sp.csr_array(weights.astype(np.float32)),
        np.zeros(m) if loops is None else loops,
        np.ones(m, dtype=int) if counts is None else counts,
        np.zeros(m, dtype=int),
    )


LOOPED = np.r_[3.0, np.zeros(22), 1.0]
KNOWN = np.repeat(np.arange(4), 6)


def divider(graph, min_size=2, seed=0):
    return Divider(graph, min_size, np.random.RandomState(seed))


# --- graphs ---------------------------------------------------------------------------


def test_a_part_of_a_graph():
    graph = cliques(loops=LOOPED, counts=np.arange(24))._replace(communities=KNOWN)
    vertices = np.array([0, 3, 7, 23])
    part = graph.part(vertices)
    assert part.n_vertices == 4
    expected = graph.affinity.toarray()[np.ix_(vertices, vertices)]
    assert_array_equal(part.affinity.toarray(), expected)
    assert part.affinity.has_sorted_indices
    assert part.loops.tolist() == [3, 0, 0, 1]
    assert part.counts.tolist() == [0, 3, 7, 23]
    assert part.communities.tolist() == [0, 0, 1, 3]


def test_halves_have_each_edge_once():
    graph = cliques(loops=LOOPED)
    halves = graph.halves(np.random.RandomState(0))
    one, other = (half.graph for half in halves)
    assert_array_equal((one + other).toarray(), graph.affinity.toarray())
    assert one.multiply(other).nnz == 0
    for half in halves:
        assert_array_equal(half.graph.toarray(), half.graph.T.toarray())
        assert_array_equal(half.loops, LOOPED)
        assert half.graph.nnz > 0.3 * graph.affinity.nnz
    again, _ = graph.halves(np.random.RandomState(0))
    assert_array_equal(again.graph.toarray(), one.toarray())


def test_number_of_parts():
    assert Division(np.array([0, 2, 1, -1]), 1.0, 0.5).n_parts == 3
    assert Division(np.array([-1, -1]), 1.0, 0.5).n_parts == 0
    assert Division(np.empty(0, dtype=int), 1.0, 0.5).n_parts == 0


def test_the_graph_of_a_clusterer_is_of_the_rows_in_communities_by_rank():
    # Distinct rows 0, 1, 3, 4, of which 3 is in no community; 2 repeats 0; 5 is zero.
    distinct = knn.UniqueRows(
        None,
        np.array([0, 1, 3, 4]),
        np.array([0, 1, 0, 2, 3, -1]),
        np.array([2, 0, 3, 1]),
    )
    affinity = np.zeros((6, 6), dtype=np.float32)
    for a, b, weight in [(0, 1, 0.5), (0, 4, 0.25), (1, 4, 0.75), (0, 2, 1), (3, 4, 1)]:
        affinity[a, b] = affinity[b, a] = weight
    fitted = SimpleNamespace(
        _distinct=distinct,
        labels_=np.array([0, 1, 0, -1, 0, -1]),
        affinity_matrix_=sp.csr_array(affinity),
    )
    graph, vertices = tree.vertex_graph(fitted)
    assert_array_equal(
        graph.affinity.toarray(), [[0, 0.75, 0.5], [0.75, 0, 0.25], [0.5, 0.25, 0]]
    )
    assert graph.affinity.has_sorted_indices
    assert graph.counts.tolist() == [1, 1, 2]
    assert graph.loops.tolist() == [0, 0, 1]
    assert graph.communities.tolist() == [1, 0, 0]
    assert vertices.tolist() == [2, 0, 2, -1, 1, -1]


# --- one resolution -------------------------------------------------------------------


@pytest.mark.parametrize("resolution", [0.05, 1.0, 30.0])
def test_a_line_is_the_modularity_of_its_partition(resolution):
    graph = cliques(loops=LOOPED)
    one = divider(graph, min_size=1)
    line = one._line(resolution)
    assert line.resolution == resolution
    membership = line.labels
    network = graph.network()
    for at in (0.5, 2.0):
        assert line.inside - at * line.expected == pytest.approx(
            leiden.modularity(network, membership, at)
        )
    assert 0 < line.expected <= line.inside <= 1


def test_a_line_of_a_graph_without_edges():
    nothing = VertexGraph(
        sp.csr_array((3, 3), dtype=np.float32), np.zeros(3), np.ones(3, int), KNOWN[:3]
    )
    line = divider(nothing)._line(1.0)
    assert (line.inside, line.expected) == (0, 0)
    assert line.labels.tolist() == [-1, -1, -1]
    assert divider(nothing).in_part(1.0, np.arange(2)) == 0


def test_a_resolution_of_the_whole_is_that_of_a_part_by_its_degrees():
    """Which partition of a part is the best, and by how much, is the same in both."""
    graph = cliques(loops=LOOPED)
    whole, vertices = divider(graph), np.arange(12)
    part = divider(graph.part(vertices))
    degrees = np.asarray(graph.affinity.sum(axis=1)).ravel() + 2 * LOOPED
    assert_array_equal(whole.degrees, degrees)
    expected = 0.7 * degrees[:12].sum() ** 2 / degrees.sum()
    assert whole.in_part(0.7, vertices) == pytest.approx(expected)
    assert part.degrees.sum() < degrees[:12].sum()


def test_at_a_resolution_the_known_parts_are_found():
    found = divider(cliques(loops=LOOPED)).at(1.0)
    assert_array_equal(found.labels, KNOWN)
    assert found.resolution == 1.0
    assert 0.5 < found.replicability <= 1


@pytest.mark.parametrize("n", [2, 4])
def test_into_so_many_parts(n):
    found, remark = divider(cliques()).into(n)
    assert remark == ""
    assert found.n_parts == n
    again = divider(cliques()).at(found.resolution)
    if n == 4:
        assert_array_equal(again.labels, found.labels)
        assert again.replicability == found.replicability


def test_into_more_parts_than_there_are_of_this_size():
    found, remark = divider(cliques(), min_size=6).into(5)
    assert found.n_parts < 5
    assert "No resolution gives n_clusters=5 communities of at least 6 rows" in remark


def test_runs_are_of_two_iterations_of_igraph(monkeypatch):
    asked = []

    def run(network, **how):
        asked.append(how)
        return np.zeros(24, dtype=np.int64), 0.0

    monkeypatch.setattr(tree.leiden, "leiden", run)
    divider(cliques(), seed=3).at(0.5)
    seed, _ = np.random.RandomState(3).randint(2**31 - 1, size=2)
    once = {
        "objective": "modularity",
        "resolution": 0.5,
        "n_iterations": 2,
        "backend": "igraph",
        "seed": seed,
    }
    assert asked == [once] * 9  # the whole, and both halves of four halvings


@pytest.mark.parametrize(
    ("n_vertices", "n_halvings"), [(10, 4), (2001, 4), (2667, 3), (4000, 2), (8000, 1)]
)
def test_small_graphs_are_halved_more_often(n_vertices, n_halvings, monkeypatch):
    drawn = []

    def halves(rng):
        drawn.append(rng.randint(2**31 - 1))
        return drawn[-1], drawn[-1]

    one = divider(cliques(), seed=7)
    seed = one._halving_seed
    one.graph = SimpleNamespace(n_vertices=n_vertices, halves=halves)
    monkeypatch.setattr(tree, "_partition", lambda half, *_: half)
    monkeypatch.setattr(one, "_without_small", lambda half: half)
    monkeypatch.setattr(tree, "_agreement", lambda one, other: (one == other) * 0.75)
    monkeypatch.setattr(tree, "_attached", lambda labels, _: labels + 1)
    found = one._divided(np.zeros(3), 2.0)
    assert found.replicability == 0.75
    assert found.resolution == 2.0
    assert found.labels.tolist() == [1, 1, 1]
    rng = np.random.RandomState(seed)
    assert drawn == [rng.randint(2**31 - 1) for _ in range(n_halvings)]


def test_seeds_are_drawn_below_those_that_leidenalg_takes():
    asked = []

    def randint(high, size):
        asked.append((high, size))
        return np.array([5, 6])

    one = Divider(cliques(), 2, SimpleNamespace(randint=randint))
    assert asked == [(2**31 - 1, 2)]
    assert (one._seed, one._halving_seed) == (5, 6)


def test_parts_that_are_too_small_by_their_rows_are_none():
    counts = np.r_[3, np.ones(23, dtype=int)]
    one = divider(cliques(counts=counts), min_size=3)
    membership = np.r_[0, np.full(2, 1), np.full(3, 2), np.full(18, 3)]
    expected = np.r_[1, -1, -1, np.full(3, 2), np.full(18, 0)]
    assert_array_equal(one._without_small(membership), expected)


# --- many resolutions -----------------------------------------------------------------


def resolutions_of(divided_from):
    """Resolutions that are given where two parts are found from this one on."""
    asked = []

    def line(at):
        asked.append(at)
        return SimpleNamespace(labels=np.array([0, int(at >= divided_from)]))

    found = list(Divider._resolutions(SimpleNamespace(_line=line)))
    return found, asked


def test_resolutions_begin_where_nothing_is_divided():
    found, asked = resolutions_of(1 / 8)
    assert asked == [1 / 64, 1 / 16, 1 / 4]
    assert found[0] == 1 / 16
    np.testing.assert_allclose(np.divide(found[1:], found[:-1]), 2**0.5)
    assert found[-1] == pytest.approx(2**11.5)  # the next one is above 4096, just
    found, asked = resolutions_of(1 / 64)
    assert (found[0], asked) == (1 / 256, [1 / 64])
    found, asked = resolutions_of(np.inf)
    assert found[0] == 1
    assert asked == [1 / 64, 1 / 16, 1 / 4, 1]


def test_a_sweep_ends_where_fewer_than_half_of_the_vertices_are_in_a_part():
    placed = {1.0: 8, 2.0: 4, 3.0: 3, 4.0: 8}
    lines = {
        at: tree._Line(np.r_[np.zeros(n, int), np.full(8 - n, -1)], 0.5, 0.5, at)
        for at, n in placed.items()
    }
    stub = SimpleNamespace(
        graph=SimpleNamespace(n_vertices=8),
        _resolutions=lambda: iter(placed),
        _line=lines.__getitem__,
    )
    first, *rest = Divider._sweep(stub)
    assert first.labels.tolist() == [0] * 8
    assert first[1:] == (1.0, 1.0, 0.0)
    assert [line.resolution for line in rest] == [1.0, 2.0]


def levels_of(levels, least=0.5, n_rows=12):
    """Levels that are found again, of (wide, width, replicability)."""
    tried = []
    made = [
        SimpleNamespace(is_wide=wide, start=1.0, end=width, labels=found, middle=width)
        for wide, width, found in levels
    ]

    def divided(labels, resolution):
        tried.append(resolution)
        return SimpleNamespace(replicability=labels, resolution=resolution)

    stub = SimpleNamespace(
        graph=SimpleNamespace(counts=np.ones(n_rows)),
        min_size=6,
        _sweep=lambda: made,
        _divided=divided,
    )
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(tree, "_best", lambda swept: swept)
        found = Divider.levels(stub, least)
    return [one.resolution for one in found], tried


def test_the_widest_of_narrow_levels_that_is_found_again_is_taken():
    narrow = [(False, 1.2, 0.9), (False, 1.5, 0.4), (False, 1.4, 0.5), (False, 1.3, 1)]
    wide = [(True, 3.0, 0.1), (True, 2.5, 0.5)]
    assert levels_of([*wide, *narrow]) == ([2.5], [3.0, 2.5])
    assert levels_of([wide[0], *narrow]) == ([1.4], [3.0, 1.5, 1.4])
    assert levels_of(narrow, 0.95) == ([1.3], [1.5, 1.4, 1.3])
    # The fourth is not tried.
    assert levels_of([*narrow[:3], (False, 1.31, 0.3)]) == ([1.4], [1.5, 1.4])
    assert levels_of([*narrow[:3], (False, 1.31, 0.3)], 0.8) == ([], [1.5, 1.4, 1.31])


def test_too_few_rows_for_two_parts_have_no_levels():
    assert levels_of([(True, 3.0, 0.9)], n_rows=11) == ([], [])
    assert levels_of([(True, 3.0, 0.9)], n_rows=12) == ([3.0], [3.0])


def test_levels_of_cliques_are_the_cliques():
    found = divider(cliques(between=0.5)).levels(0.5)
    assert len(found) == 1
    assert_array_equal(found[0].labels, KNOWN)
    assert found[0].replicability > 0.5


# --- levels ---------------------------------------------------------------------------


def test_of_nearly_equal_ones_the_widest_is_left_by_its_ends_ratio():
    one, many = np.repeat([0, 1], 6), np.repeat(np.arange(6), 2)
    swept = [
        tree._Line(np.zeros(12, dtype=int), 1.0, 1.0, 0.25),
        tree._Line(one, 0.9, 0.5, 0.5),  # the best from .2 to .25
        tree._Line(1 - one, 0.875, 0.4, 0.7),  # from there to 1
        tree._Line(many, 0.6, 0.125, 8.0),
    ]
    found = tree._best(swept)
    assert [level.labels[0] for level in found] == [1, 0]
    assert [level.low for level in found] == pytest.approx([0.25, 1.0])
    assert (found[0].start, found[0].end) == pytest.approx((0.2, 1.0))


def test_a_line_that_begins_to_be_the_best_at_the_last_resolution_has_no_range():
    one = np.repeat([0, 1], 6)
    swept = [
        tree._Line(0 * one, 1.0, 1.0, 0.25),
        tree._Line(one, 0.75, 0.5, 0.5),
    ]
    assert [tuple(ends) for _, *ends in tree._envelope(swept)] == [(0.0, 0.5)]


def test_a_level_is_the_best_while_the_resolution_doubles():
    level = tree._Level(KNOWN, 1.5, 2.0, 1.5, 3.0)
    assert level.is_wide
    assert not level._replace(end=2.99).is_wide


def test_equal_ones_on_both_sides_extend_a_range():
    one, other = np.repeat([0, 1], 6), np.tile([0, 1], 6)
    ranges = [
        (labels, float(i), float(i + 1))
        for i, labels in enumerate([other, one, one, 1 - one, one, other])
    ]
    level = tree._extended(ranges, 2)
    assert level[1:] == (2.0, 3.0, 1.0, 5.0)
    assert tree._extended(ranges, 0)[1:] == (0.0, 1.0, 0.0, 1.0)
    assert tree._extended(ranges, 5)[1:] == (5.0, 6.0, 5.0, 6.0)
    assert tree._extended(ranges[1:5], 1)[1:] == (2.0, 3.0, 1.0, 5.0)


def test_as_equal_as_it_must_be_is_equal(monkeypatch):
    monkeypatch.setattr(tree, "_agreement", lambda a, b: 0.95 if a == b else 0.949)
    ranges = [
        (label, float(i), float(i + 1)) for i, label in enumerate([1, 0, 0, 0, 1])
    ]
    assert tree._extended(ranges, 2)[1:] == (2.0, 3.0, 1.0, 4.0)


def test_the_middle_of_a_range_that_is_open_below():
    level = tree._Level(KNOWN, 1.0, 4.0, 1.0, 4.0)
    assert level.middle == 2
    assert level._replace(low=0.0).middle == 2
    assert level._replace(low=0.5).middle == 2
    assert level._replace(low=2.0).middle == pytest.approx(8**0.5)


def test_agreement_needs_half_of_the_vertices():
    labels = np.repeat([0, 1], 4)
    half = np.where(np.arange(8) % 4 < 2, labels, -1)
    assert tree._agreement(labels, half) == 1
    assert tree._agreement(half, labels) == 1
    half[0] = -1
    assert tree._agreement(labels, half) == 0
    # What disagrees more than by chance does not count below 0.
    crossed = np.tile([0, 1], 4)
    assert tree._agreement(labels, crossed) == 0
    some = np.array([0, 0, 0, 1, 1, 1, 1, 1])
    assert 0 < tree._agreement(labels, some) < 1


def test_vertices_in_no_part_go_where_edges_then_communities_are():
    weights = np.zeros((9, 9), dtype=np.float32)
    for a, b, weight in [(0, 4, 0.4), (2, 4, 0.5), (4, 5, 0.1)]:
        weights[a, b] = weights[b, a] = weight
    communities = np.array([0, 0, 1, 1, 1, 1, 0, 1, 2])
    graph = VertexGraph(
        sp.csr_array(weights), np.zeros(9), np.ones(9, dtype=int), communities
    )
    found = np.array([0, 0, 1, 1, -1, -1, -1, -1, -1])
    attached = tree._attached(found, graph)
    # 4 by its stronger edge, 5 by that to 4; 6 and 7 follow their communities; 8 none.
    assert attached.tolist() == [1, 1, 0, 0, 0, 0, 1, 0, -1]
    none = np.full(9, -1)
    assert tree._attached(none, graph) is none
    single = np.array([0, 0, 0, 0, -1, -1, -1, -1, -1])
    assert tree._attached(single, graph).tolist() == [0] * 8 + [-1]
    whole = np.array([0, 0, 0, 1, 1, 1, 1, 1, 1])
    assert tree._attached(whole, graph).tolist() == [1, 1, 1, 0, 0, 0, 0, 0, 0]


def test_a_community_of_which_half_is_in_one_part_says_nothing():
    graph = VertexGraph(
        sp.csr_array((6, 6), dtype=np.float32),
        np.zeros(6),
        np.array([1, 1, 1, 9, 5, 1]),  # part 1 has the most rows
        np.array([0, 0, 0, 1, 0, 1]),
    )
    found = np.array([0, 0, 1, 1, -1, -1])
    assert tree._attached(found, graph).tolist() == [1, 1, 0, 0, 1, 0]
    even = graph._replace(communities=np.array([0, 1, 0, 1, 0, 1]))
    assert tree._attached(found, even).tolist() == [1, 1, 0, 0, -1, -1]
