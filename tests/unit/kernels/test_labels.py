"""What is told of labels by a graph, and how communities of it are merged."""

import numpy as np
import scipy.sparse as sp
from numpy.testing import assert_allclose, assert_array_equal

from skleiden._kernels import labels


def graph_of(edges, n):
    ends = np.array([edge[:2] for edge in edges]).T
    weights = np.array([edge[2] for edge in edges], dtype=np.float32)
    half = sp.csr_array((weights, tuple(ends)), shape=(n, n))
    return sp.csr_array(half + half.T)


def test_shares_by_hand():
    graph = graph_of([(0, 1, 0.5), (0, 2, 0.25), (0, 3, 0.25), (3, 4, 0.5)], 6)
    found = labels.shares(graph, np.array([0, 0, 1, -1, -1, 1]))
    assert found.dtype == np.float32
    assert found.shape == (6, 2)
    assert_allclose(
        found.toarray(),
        # Edges to noise count for nothing: row 4 has no other, row 5 none at all.
        [[2 / 3, 1 / 3], [1, 0], [1, 0], [1, 0], [0, 0], [0, 0]],
    )


def test_shares_without_a_community():
    found = labels.shares(graph_of([(0, 1, 0.5)], 2), np.array([-1, -1]))
    assert found.shape == (2, 0)


def test_strengths_by_hand():
    votes = sp.csr_array(
        [[0.6, 0.3, 0.9, 0.0], [0.0, 0.0, 0.0, 0.0], [0.6, 0.0, 0.0, 0.8]]
    )
    found = labels.strengths(
        votes,
        chosen=np.array([0, 0, -1]),
        labels=np.array([0, 0, 1, -1]),
        local=np.array([0.5, 0.6, 0.9, 0.9]),
        most=np.array([4, 1, 5]),
        equal=np.array([False, True, False]),
    )
    # .6 counts in full, as .5 is reached; .3 is half of .6. The last row is noise.
    expected = [np.sqrt((0.6**2 + 0.15**2) / 4), np.sqrt(1 / 2), 0]
    assert found.dtype == np.float32
    assert_allclose(found, expected, rtol=1e-6)


def test_strengths_where_surroundings_are_not_known():
    votes = sp.csr_array([[0.5, 0.5]])
    found = labels.strengths(
        votes, np.zeros(1, int), np.zeros(2, int), np.zeros(2), np.array([2]),
        np.zeros(1, bool),
    )  # fmt: skip
    assert_allclose(found, [0.5])


def test_the_nearest_communities_are_merged_first():
    # Four pairs, in a row: the outer two are the closest, for the masses they have.
    edges = [(0, 1, 1), (2, 3, 1), (4, 5, 1), (6, 7, 1)]
    edges += [(1, 2, 0.3), (3, 4, 0.2), (5, 6, 0.3)]
    graph = graph_of(edges, 8)
    membership = np.array([0, 0, 1, 1, 2, 2, 3, 3])
    kept = np.ones(4, bool)

    def merged(n, masses=None, kept=kept):
        masses = np.ones(8) if masses is None else masses
        return labels.merge_nearest(graph, membership, masses, kept, n)

    assert_array_equal(merged(4), membership)
    # Of equally near ones the first; what is merged is nearer to nothing by that.
    assert_array_equal(merged(3), [0, 0, 0, 0, 1, 1, 2, 2])
    assert_array_equal(merged(2), [0, 0, 0, 0, 1, 1, 1, 1])
    assert_array_equal(merged(1), np.zeros(8))
    # The second pair is joined to the third if that weighs next to nothing.
    light = np.array([1, 1, 1, 1, 0.1, 0.1, 1, 1])
    assert_array_equal(merged(3, light), [0, 0, 1, 1, 2, 2, 2, 2])
    # One that does not take part stays as it is, and keeps others apart.
    some = np.array([True, True, False, True])
    assert_array_equal(merged(1, kept=some), [0, 0, 0, 0, 1, 1, 2, 2])


def test_what_no_edge_joins_is_not_merged():
    graph = graph_of([(0, 1, 1), (2, 3, 1)], 4)
    membership = np.array([0, 0, 1, 1])
    found = labels.merge_nearest(graph, membership, np.ones(4), np.ones(2, bool), 1)
    assert_array_equal(found, membership)
