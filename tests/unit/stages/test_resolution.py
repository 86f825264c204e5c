"""Resolutions looked at for a number of communities, and what is made of them."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import scipy.sparse as sp
from numpy.testing import assert_array_equal

from skleiden._kernels import leiden
from skleiden._stages import resolution
from skleiden._stages.resolution import Hit, Look, Sought, bisect, find_resolution

# Memberships of eight vertices, from coarse to fine.
ALL = np.zeros(8, dtype=np.int64)
PAIRS = np.repeat(np.arange(4), 2)
ALONE = np.arange(8)


def network(edges, n=8, loops=None):
    """A network of edges (one end, the other, weight)."""
    rows, columns, weights = np.array(edges, dtype=float).T
    upper = sp.coo_array((weights, (rows.astype(int), columns.astype(int))), (n, n))
    return leiden.network(sp.csr_array(upper + upper.T), None, loops)


# Four pairs in a row: within pairs 1, between the first two .3, the others .2.
ROW = network(
    [(0, 1, 1), (2, 3, 1), (4, 5, 1), (6, 7, 1), (1, 2, 0.3), (3, 4, 0.2), (5, 6, 0.2)]
)


def sought(n, least=1, counts=None):
    return Sought(n, least, np.ones(8, dtype=int) if counts is None else counts)


def look(at, n, *, too_fine=False, membership=PAIRS, quality=0.0):
    return Look(at, n, too_fine, membership, quality)


def looked_at(n_of: Callable[[float], int], n: int, start: float = 1.0) -> list[float]:
    return [one.resolution for one in bisect(lambda r: look(r, n_of(r)), n, start)]


# --- which resolutions ----------------------------------------------------------------


def test_steps_to_finer_ones_are_squared_up_to_a_largest_one():
    steps = [4.0, 16.0, 256.0, 2.0**16, 2.0**32, 2.0**64, 2.0**64, 2.0**64, 2.0**64]
    found = looked_at(lambda _: 3, 5)
    assert found[0] == 1
    assert found == pytest.approx(np.cumprod([1.0, *steps]), rel=1e-3)


def test_steps_to_coarser_ones_are_the_same():
    finer, coarser = looked_at(lambda _: 3, 5, 2.0), looked_at(lambda _: 9, 5, 2.0)
    assert coarser == pytest.approx([4 / one for one in finer], rel=1e-3)


def test_what_is_too_fine_is_a_side_of_its_own():
    found = bisect(lambda r: look(r, 5, too_fine=r > 0.1), 5, 1.0)
    assert [one.resolution for one in found] == [1.0, 0.25, 0.01562]
    assert found[-1].too_fine is False


def test_it_ends_where_all_are_alone_and_more_are_sought():
    found = bisect(lambda r: look(r, 8, membership=ALONE), 9, 1.0)
    assert len(found) == 1
    assert look(1.0, 1, membership=ALONE[:1]).all_alone()
    assert not look(1.0, 4).all_alone()
    # Unless all are too small, so that coarser ones have more that are large enough.
    found = bisect(lambda r: look(r, 0, too_fine=True, membership=ALONE), 9, 1.0)
    assert len(found) == 10


def test_within_a_gap_it_goes_where_the_number_should_be():
    # 2 below 1.9, 32 from there on: 8 is half way on the scale of logarithms.
    found = looked_at(lambda r: 2 if r < 1.9 else 32, 8)
    assert found[:4] == [1.0, 4.0, 2.0, 1.414]
    assert found[-1] / found[-2] == pytest.approx(1, abs=0.02)
    closed = sorted(found)
    ratios = np.array(closed[1:]) / closed[:-1]
    assert ratios.min() < 1.02
    assert len(found) < 10


def test_of_a_resolution_that_was_looked_at_nothing_new_is_found():
    found = looked_at(lambda r: 2 if r < 1 else 9, 3, 0.99996)
    assert len(found) == len(set(found))
    assert found[0] == 1.0  # rounded


def test_a_place_between_two():
    def place(coarser, finer, n, *, too_fine=False):
        return resolution._place(
            look(1.0, coarser), look(9.0, finer, too_fine=too_fine), n
        )

    assert place(4, 16, 8) == pytest.approx(0.5)
    assert place(2, 54, 6) == pytest.approx(1 / 3)
    assert place(4, 1024, 5) == 0.15
    assert place(4, 1024, 1000) == 0.85
    assert place(4, 1024, 5, too_fine=True) == 0.5
    assert place(0, 16, 15) == 0.5


def test_it_starts_at_the_density_of_weight_for_cpm():
    loops = np.array([1.0, 0, 0, 0, 0, 0, 0, 2.0])
    some = network([(0, 1, 1.0), (2, 3, 0.5)], loops=loops)
    assert resolution._first_resolution(some, "cpm") == 9 / 64
    assert resolution._first_resolution(some, "modularity") == 1
    none = leiden.network(sp.csr_array((8, 8)))
    assert resolution._first_resolution(none, "cpm") == 1


# --- what is found --------------------------------------------------------------------


def runs(memberships: dict[float, np.ndarray]):
    """Give memberships from these resolutions on, and their resolution as quality."""

    def run(at: float) -> tuple[np.ndarray, float]:
        return memberships[max(r for r in memberships if r <= at)], -at

    return run


def test_the_number_sought_is_taken_with_its_quality():
    hit = find_resolution(
        ROW, runs({0: ALL, 3: PAIRS, 100: ALONE}), sought(4), "modularity"
    )
    assert_array_equal(hit.membership, PAIRS)
    assert hit[1:] == (-4.0, 4.0, 0, "")


def test_communities_are_counted_by_their_rows():
    counts = np.array([2, 2, 1, 2, 3, 2, 1, 1])
    run = runs({0: ALL, 3: PAIRS, 5: ALONE})
    # Pairs of 4, 3, 5 and 2 rows: three are large enough.
    hit = find_resolution(ROW, run, sought(3, 3, counts), "rber")
    assert_array_equal(hit.membership, PAIRS)
    assert hit[1:] == (-4.0, 4.0, 0, "")
    hit = find_resolution(ROW, run, sought(4, 3, counts), "rber")
    assert hit.remark.startswith("No resolution gives n_clusters=4 communities of at")


def test_too_few_rows_in_large_ones_are_too_fine():
    def fine(membership, counts, least):
        seen = []

        def spy(look, n, start):
            seen.append(look(start))
            return seen

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(resolution, "bisect", spy)
            find_resolution(
                ROW, runs({0: membership}), sought(1, least, counts), "rber"
            )
        return seen[0].too_fine, seen[0].n_clusters

    counts = np.array([3, 3, 1, 1, 1, 1, 1, 1])
    threes = np.array([0, 0, 1, 2, 3, 4, 5, 5])  # 6 and 2 of 12 rows in large ones
    assert fine(threes, counts, 2) == (True, 2)
    threes = np.array([0, 0, 1, 1, 1, 4, 2, 3])  # 9 of 12: three quarters
    assert fine(threes, counts, 3) == (False, 2)


def test_a_graph_without_a_large_component_is_looked_at_once():
    asked = []

    def run(at):
        asked.append(at)
        return PAIRS, 0.25

    hit = find_resolution(ROW, run, sought(3, 9), "modularity")
    assert_array_equal(hit.membership, PAIRS)
    assert hit[1:] == (0.25, 1.0, 0, "")
    assert asked == [1.0]


TWO = network([(0, 1, 1), (2, 3, 1), (1, 2, 0.3), (4, 5, 1), (6, 7, 1), (5, 6, 0.1)])


def test_no_resolution_joins_components():
    halves = np.repeat([0, 1], 4)
    hit = find_resolution(TWO, runs({0: halves, 3: PAIRS}), sought(1), "modularity")
    assert_array_equal(hit.membership, halves)
    assert hit.remark == (
        "n_clusters=1 is fewer than the 2 connected components of the graph, which no "
        "resolution joins: took 2, at resolution 1. Raise n_neighbors, or use "
        "graph='union', for edges between them."
    )
    counts = np.array([1, 1, 1, 1, 1, 1, 1, 2])
    hit = find_resolution(TWO, runs({0: halves}), sought(1, 4, counts), "modularity")
    assert "than the 2 connected components of the graph of at least 4 rows," in (
        hit.remark
    )
    # Components that are too small for a community are not sought.
    hit = find_resolution(TWO, runs({0: halves}), sought(1, 5, counts), "modularity")
    assert hit.remark == ""
    assert_array_equal(hit.membership, halves)


# --- what is made of the looks --------------------------------------------------------


def hit_of(looks, n, objective="modularity", graph=ROW, **others) -> Hit:
    return resolution._hit(graph, looks, sought(n, **others), objective)


def test_the_last_is_taken_if_it_is_what_is_sought():
    hit = hit_of([look(1.0, 9), look(2.0, 4, quality=0.3)], 4)
    assert hit[1:] == (0.3, 2.0, 0, "")
    fine = look(2.0, 4, too_fine=True)
    assert hit_of([look(1.0, 3, membership=ALL), fine], 4).remark
    assert hit_of([look(2.0, 5, membership=ALL)], 4, "rber").remark


def test_those_of_the_next_finer_partition_are_merged():
    looks = [
        look(0.5, 1, membership=ALL),
        look(3.0, 5, too_fine=True, membership=ALONE),  # not of this
        look(2.5, 8, membership=ALONE),
        look(2.0, 4),
        look(1.5, 4, quality=9.0),
        look(1.0, 1, membership=ALL),
    ]
    hit = hit_of(looks, 3)
    assert hit.resolution == 1.5
    assert hit.n_merged == 1
    assert hit.remark == ""
    # 3 / (4.6 * 5) of the middle, and .3 / (2.3 * 2.5) of the first two, are the most.
    assert_array_equal(hit.membership, [0, 0, 0, 0, 1, 1, 2, 2])
    assert hit.quality == pytest.approx(leiden.modularity(ROW, hit.membership, 1.5))
    cpm = hit_of(looks, 3, "cpm")
    assert cpm.quality == pytest.approx(leiden.constant_potts(ROW, cpm.membership, 1.5))
    other = hit_of(looks, 3, "rber")
    assert (other.n_merged, other.resolution) == (0, 1.5)
    assert other.remark


def test_masses_are_degrees_with_both_ends_of_loops_or_ones(monkeypatch):
    # The first two have the strongest tie, but loops that make it the weakest for its
    # masses: .3 / (6 * 6.3), where .2 of the others is over products of 2.2 and 2.4.
    loops = np.r_[np.ones(4), np.zeros(4)]
    edges = [(0, 1, 1), (2, 3, 1), (4, 5, 1), (6, 7, 1)]
    ties = [(1, 2, 0.3), (3, 4, 0.2), (5, 6, 0.2)]
    some = network([*edges, *ties], loops=loops)
    looks = [look(1.0, 4)]
    assert_array_equal(
        hit_of(looks, 3, graph=some).membership, [0, 0, 1, 1, 2, 2, 2, 2]
    )
    assert_array_equal(
        hit_of(looks, 3, "cpm", graph=some).membership, [0, 0, 0, 0, 1, 1, 2, 2]
    )
    given = []

    def merge(graph, membership, masses, kept, n):
        given.append(masses)
        return membership

    monkeypatch.setattr(resolution.labels, "merge_nearest", merge)
    for objective in ("modularity", "cpm"):
        hit_of(looks, 3, objective, graph=some)
    degrees = [3, 3.3, 3.3, 3.2, 1.2, 1.2, 1.2, 1]
    np.testing.assert_allclose(given, [degrees, np.ones(8)], rtol=1e-6)


def test_large_enough_is_what_is_as_large_as_it_must_be():
    counts = np.array([1, 1, 1, 2, 1, 1, 5, 1])
    assert resolution._n_large(PAIRS, sought(3, 3, counts)) == 2
    assert resolution._n_large(PAIRS, sought(3, 2, counts)) == 4


def test_only_large_enough_ones_are_merged():
    counts = np.array([1, 1, 2, 2, 2, 2, 2, 2])
    hit = hit_of([look(1.0, 3)], 2, least=3, counts=counts)
    # The first, which is too small, stays by itself.
    assert np.unique(hit.membership).size == 3
    assert hit.n_merged == 1
    exact = hit_of([look(1.0, 4)], 3, least=2, counts=counts)  # as large as it must be
    assert_array_equal(exact.membership, [0, 0, 0, 0, 1, 1, 2, 2])


def test_what_no_edge_joins_is_not_merged():
    hit = hit_of([look(0.5, 1, membership=ALL), look(1.0, 4, quality=0.7)], 1 + 1)
    assert hit.n_merged == 2
    apart = network([(0, 1, 1), (2, 3, 1), (4, 5, 1), (6, 7, 1)])
    hit = hit_of([look(1.0, 4, quality=0.7)], 2, graph=apart)
    assert_array_equal(hit.membership, PAIRS)
    assert (hit.quality, hit.resolution, hit.n_merged) == (0.7, 1.0, 0)
    assert hit.remark == (
        "No resolution gives n_clusters=2 communities: 1 gives 4; took 4, at "
        "resolution 1. Choose another number."
    )


def test_the_nearest_number_is_taken_of_what_is_not_too_fine():
    looks = [
        look(4.0, 5, too_fine=True),
        look(0.25, 2, quality=0.1),
        look(0.5, 2, quality=0.2),
        look(2.0, 9, quality=0.3),
        look(3.0, 8, quality=0.4),
        look(1.0, 3, quality=0.5),
    ]
    hit = hit_of(looks, 5, "rber")
    assert (hit.resolution, hit.quality) == (1.0, 0.5)
    assert hit.remark == (
        "No resolution gives n_clusters=5 communities: 1 gives 3 and 2 gives 9; took "
        "3, at resolution 1. Choose another number."
    )
    assert hit_of(looks, 8 - 1, "rber").resolution == 3.0
    assert hit_of(looks[1:3], 5, "rber").resolution == 0.25  # of equals the lowest
    few = hit_of(looks[1:3], 5, "rber", least=3)
    assert few.remark == (
        "No resolution gives n_clusters=5 communities of at least 3 rows: 0.5 gives 2; "
        "took 2, at resolution 0.25. Choose another number, or lower min_cluster_size "
        "for more of them."
    )
    pair = hit_of(looks[1:3], 5, "rber", least=2)
    assert "of at least 2 rows" in pair.remark
    assert "or lower min_cluster_size" in pair.remark
