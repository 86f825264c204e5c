"""Halves of a layer's columns, what they are compared by, and the rows they are of."""

import re
import warnings
from itertools import pairwise
from types import SimpleNamespace

import numpy as np
import pytest
import scipy.sparse as sp
from numpy.testing import assert_array_equal

from skleiden._blocks.layout import Layers, Layout
from skleiden._blocks.runner import Local
from skleiden._blocks.sources import source_of
from skleiden._kernels import countsketch, partitions, shuffle
from skleiden._stages import replicate
from skleiden._stages.replicate import Halves, Halving, LayerSample
from skleiden._stages.sketch import Activity, Settings

SETTINGS = Settings("idf", True, None, False, 0.0, np.dtype(np.float32))


def activity(n_layers=1):
    none = np.zeros(n_layers, dtype=bool)
    return Activity(SETTINGS, ("idf",) * n_layers, ~none, none)


def layer(matrix, weights=None, *, start=0, of_neurons=0):
    width = matrix.shape[1]
    weights = np.ones(width) if weights is None else weights
    return LayerSample(
        "a", start, matrix, activity(), weights, np.zeros(width), of_neurons
    )


@pytest.fixture(scope="module")
def planted():
    """48 rows of 3 kinds, each active in columns of its own; and the kinds."""
    rng = np.random.default_rng(0)
    kinds = np.arange(48) % 3
    active = rng.random((48, 90)) < np.where(
        np.arange(90) % 3 == kinds[:, None], 0.7, 0.05
    )
    return np.where(active, 1 + rng.random((48, 90)), 0).astype(np.float32), kinds


# --- numbers --------------------------------------------------------------------------


def test_weights_fall_beyond_what_is_alike():
    replicability = np.array([2.0, 1.5, 1.4, 1.0, -5.0])
    found = replicate.weights_of(replicability)
    assert_array_equal(found, [1, 1, 0.67, 0.135, 0.001])
    assert_array_equal(replicate.weights_of(np.array([-3.0])), [1])


def test_the_best_resolution_and_what_splits_say():
    halves = Halves(np.array([[0.1, 0.3, 0.7], [0.6, 0.4, 0.5]]))
    assert_array_equal(halves.of_splits, [0.7, 0.6])
    assert halves.best == 2


def test_halves_that_say_nothing_have_the_least_information():
    one, two = np.zeros(6, dtype=int), np.repeat([0, 1], 3)
    noise = np.r_[np.zeros(3, int), np.full(3, -1)]
    least = -np.log(6)
    for nothing in (one, noise, np.full(6, -1)):
        assert replicate._net_information(two, nothing) == pytest.approx(least)
        assert replicate._net_information(nothing, two) == pytest.approx(least)
    assert replicate._net_information(two, two) == partitions.net_information(two, two)
    empty = np.empty(0, dtype=int)
    assert replicate._net_information(empty, empty) == 0


@pytest.mark.parametrize("width", [6, 7])
def test_halves_are_drawn_by_the_column_the_split_and_the_seed(monkeypatch, width):
    seen = []

    def partitions_of(layer, columns, rng, halving):
        seen.append((columns.copy(), rng.randint(2**31 - 1)))
        return [len(seen)] * 3

    monkeypatch.setattr(replicate, "partitions_of", partitions_of)
    monkeypatch.setattr(replicate, "_net_information", lambda a, b: 10 * a + b)
    given = layer(np.ones((3, width)), start=4)
    found = replicate.compare_halves(given, Halving(n_splits=3, seed=9))
    assert_array_equal(found.information, [[12] * 3, [34] * 3, [56] * 3])
    for split in range(3):
        rng = np.random.RandomState([9, 4, split])
        expected = np.zeros(width, dtype=bool)
        expected[rng.permutation(width)[:3]] = True
        (one, first), (other, second) = seen[2 * split : 2 * split + 2]
        assert_array_equal(one, expected)
        assert_array_equal(other, ~expected)
        assert [first, second] == rng.randint(2**31 - 1, size=2).tolist()


def test_defaults():
    assert Halving() == (2, 15, 0, None)
    assert (replicate.N_ROWS, replicate.RESOLUTIONS) == (1000, (0.5, 1.0, 2.0))


# --- communities of some columns ------------------------------------------------------


def test_columns_of_both_halves_find_what_is_planted(planted):
    X, kinds = planted
    rng = np.random.RandomState(0)
    for half in (np.arange(90) < 45, np.arange(90) >= 45):
        found = replicate.partitions_of(layer(X), half, rng, Halving(n_neighbors=8))
        assert len(found) == 3
        assert partitions.adjusted_rand(found[1], kinds) > 0.9


def test_what_halves_are_embedded_by(planted, monkeypatch):
    X, _ = planted
    seen = []

    def embed(layers, sketch, reading, runner):
        seen.append((layers, sketch, reading))
        return np.eye(48, dtype=np.float32)

    monkeypatch.setattr(replicate, "embed", embed)
    monkeypatch.setattr(replicate, "_communities", lambda vectors, _: vectors)
    weights, columns = np.arange(90.0), np.arange(90) % 2 == 0
    given = layer(X, weights)._replace(centres=-np.arange(90.0))
    rng, again = np.random.RandomState(3), np.random.RandomState(3)
    found = replicate.partitions_of(given, columns, rng, Halving(n_jobs=1))
    assert found.shape == (48, 48)
    ((layers, sketch, reading),) = seen
    assert sketch.n_components == (256,)
    assert sketch.shares.tolist() == [1]
    assert_array_equal(sketch.weights, np.where(columns, weights, 0))
    assert_array_equal(sketch.centres, np.where(columns, -weights, 0))
    buckets, signs = countsketch.draw_hashes(90, 256, again)
    assert_array_equal(sketch.buckets, buckets)
    assert_array_equal(sketch.signs, signs)
    assert layers.layout.names == ("a",)
    assert layers.layout.starts.tolist() == [0, 90]
    assert reading == (None, 1, None)


def test_halves_without_columns_or_with_a_single_row_say_nothing(planted):
    X, _ = planted
    rng, no_columns = np.random.RandomState(0), np.zeros(90, dtype=bool)
    for rows, columns in (
        (X, no_columns),
        (X[:1], no_columns),
        (X[:1], ~no_columns),
    ):
        found = replicate.partitions_of(layer(rows), columns, rng, Halving())
        assert_array_equal(found, np.full((3, len(rows)), -1))
    two = replicate.partitions_of(layer(X[[0, 0]]), ~no_columns, rng, Halving())
    assert_array_equal(two, np.zeros((3, 2)))
    two = replicate.partitions_of(layer(X[[0, 3]]), ~no_columns, rng, Halving())
    assert_array_equal(two, [[0, 0], [0, 0], [-1, -1]])  # each other's neighbours


def test_communities_are_of_the_mutual_graph_of_all_pairs(monkeypatch):
    """Two pairs and three rows that are all alike; one that has no neighbour."""
    X = np.eye(8)[[0, 0, 1, 1, 2, 2, 2, 3]]
    X += 0.01 * np.eye(8)
    X = (X / np.linalg.norm(X, axis=1)[:, None]).astype(np.float32)
    X[7] = np.eye(8)[7]  # nothing in common with any
    found = replicate._communities(X, Halving(n_neighbors=2))
    assert len(found) == 3
    assert partitions.adjusted_rand(found[1], np.array([1, 1, 2, 2, 0, 0, 0, -1])) == 1
    assert found[1][[4, 7]].tolist() == [0, -1]
    asked = []
    run = replicate.NeighborSearch.run

    def noted(search, shards, n_samples):
        asked.append((search, n_samples))
        return run(search, shards, n_samples)

    monkeypatch.setattr(replicate.NeighborSearch, "run", noted)
    replicate._communities(X, Halving(n_neighbors=2, n_jobs=1))
    ((search, n_samples),) = asked
    assert (search.n_neighbors, search.algorithm, search.n_jobs) == (2, "exact", 1)
    assert (n_samples, search.verbose) == (8, 0)


def test_partitions_are_by_two_iterations_at_each_resolution(planted, monkeypatch):
    asked = []

    def run(how, graph, states):
        asked.append((how, states))
        return iter([type("Found", (), {"labels": how.resolution})])

    monkeypatch.setattr(replicate.Partitioning, "run", run)
    X = planted[0] / np.linalg.norm(planted[0], axis=1)[:, None]
    assert replicate._communities(X, Halving()) == [0.5, 1.0, 2.0]
    for (how, states), resolution in zip(asked, (0.5, 1.0, 2.0), strict=True):
        assert how[:6] == ("modularity", resolution, 2, "igraph", 2, "noise")
        assert states == [0]


# --- rows -----------------------------------------------------------------------------


def stacked(matrices, names):
    widths = tuple(matrix.shape[1] for matrix in matrices)
    spans = tuple(range(i, i + 1) for i in range(len(names)))
    return Layers(Layout(names, widths, spans), [source_of(m) for m in matrices])


@pytest.fixture
def matrices():
    rng = np.random.default_rng(1)
    dense = rng.random((20, 5)).astype(np.float32)
    sparse = sp.random_array((20, 7), density=0.4, format="csr", rng=rng)
    return [dense, sparse.astype(np.float32)]


def test_rows_are_taken_in_their_order_from_each_layer(matrices):
    rows = np.array([13, 2, 19, 0])
    given = stacked(matrices, ("a", "b"))
    weights, centres = np.arange(12.0), 10 + np.arange(12.0)
    how = activity(2)._replace(
        weighting=("idf", "zscore"), positive=np.array([True, False])
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        one, other = replicate.sampled_layers(
            given, how, weights, centres, rows, Local()
        )
    assert_array_equal(source_of(one.matrix).whole(), matrices[0][rows])
    assert_array_equal(
        source_of(other.matrix).whole().toarray(), matrices[1][rows].toarray()
    )
    assert (one.name, one.start, other.name, other.start) == ("a", 0, "b", 5)
    assert_array_equal(one.weights, weights[:5])
    assert_array_equal(other.weights, weights[5:])
    assert_array_equal(one.centres, centres[:5])
    assert_array_equal(other.centres, centres[5:])
    assert (one.activity.weighting, other.activity.weighting) == (("idf",), ("zscore",))
    assert (one.activity.positive.tolist(), other.activity.positive.tolist()) == (
        [True],
        [False],
    )
    assert one.of_neurons == 0


@pytest.mark.parametrize(
    ("n_drawn", "n_rows", "told"),
    [
        (1, 40, False),
        (2, 40, True),
        (16, 40, True),
        (17, 40, False),
        (16, 17, True),
        (16, 16, False),
    ],
)
def test_few_different_rows_are_told_where_there_are_enough(n_drawn, n_rows, told):
    given = stacked([np.ones((n_rows, 3), dtype=np.float32)], ("a",))
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        list(
            replicate.sampled_layers(
                given, activity(), np.ones(3), np.ones(3), np.arange(n_drawn), Local()
            )
        )
    assert len(caught) == told
    if told:
        text = (
            f"Layers are judged by {n_drawn} different rows, drawn from the {n_rows} "
            "of X; with fewer than 17, their replicability"
        )
        assert re.match(text, str(caught[0].message))


@pytest.mark.parametrize("ends", [[0, 20], [0, 6, 12, 20], [0, 8, 9, 20]])
def test_rows_of_blocks_and_of_layers_stored_together(matrices, ends):
    wide = np.concatenate([matrices[0], matrices[1].toarray()], axis=1)
    rows = np.array([13, 2, 19, 0, 12, 9])  # none of the block of row 8

    def taken(layout, matrices):
        blocks = [
            (a, b - a, [[matrix[a:b]] for matrix in matrices])
            for a, b in pairwise(ends)
        ]
        given = SimpleNamespace(layout=layout, row_blocks=lambda: blocks)
        return [
            sp.csr_array(source_of(one).whole()).toarray()
            for one in replicate._take(given, rows, Local())
        ]

    apart = Layout(("a", "b"), (5, 7), (range(1), range(1, 2)))
    together = Layout(("a", "b"), (5, 7), (range(2),))
    for found in (taken(apart, matrices), taken(together, [wide])):
        assert_array_equal(found[0], wide[rows, :5])
        assert_array_equal(found[1], wide[rows, 5:])
    three = Layout(("a", "b", "c"), (5, 3, 4), (range(1), range(1, 3)))
    found = taken(three, matrices)
    assert_array_equal(found[1], wide[rows, 5:8])
    assert_array_equal(found[2], wide[rows, 8:])


@pytest.mark.parametrize("of_neurons", [0, 5])
def test_columns_or_rows_are_permuted_each_by_itself(matrices, of_neurons):
    for matrix in matrices:
        given = layer(matrix, start=3, of_neurons=of_neurons)
        found = replicate.permuted(given, 8).matrix
        whole = sp.csr_array(matrix)
        if of_neurons:
            expected = shuffle.shuffle_columns(0, sp.csr_array(whole.T), 8).T
        else:
            expected = shuffle.shuffle_columns(3, whole, 8)
        assert_array_equal(found.toarray(), expected.toarray())
        axis = 1 if of_neurons else 0
        assert_array_equal(
            np.sort(found.toarray(), axis=axis), np.sort(whole.toarray(), axis=axis)
        )
