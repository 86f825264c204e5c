"""The graph joined from lists in blocks, and rows of the union graph."""

import pickle
from itertools import pairwise
from types import SimpleNamespace

import numpy as np
import pytest
import scipy.sparse as sp
from numpy.testing import assert_array_equal

from skleiden._blocks.runner import Local
from skleiden._kernels import graph, knn
from skleiden._stages import affinity
from skleiden._stages.affinity import Joining, UnionRows

STARTS = [[0, 9], [0, 4, 9], [0, 1, 3, 9]]


@pytest.fixture(scope="module")
def lists():
    """What nine rows list of one another, 3 each but for two."""
    rng = np.random.default_rng(3)
    dense = np.zeros((9, 9), dtype=np.float32)
    for row in range(9):
        others = rng.permutation(np.delete(np.arange(9), row))[:3]
        dense[row, others] = rng.integers(1, 16, 3) / 16
    dense[2] = 0
    dense[5, np.flatnonzero(dense[5])[0]] = 0
    return sp.csr_array(dense)


def joining(kind="mutual", weights="similarity", *, symmetric=False, attaching=True):
    return Joining(kind, weights, symmetric, attaching, 1)


def divided(whole, starts):
    return [whole[a:b] for a, b in pairwise(starts)]


def same(found, expected):
    assert_array_equal(found.toarray(), expected.toarray())
    assert found.dtype == np.float32
    assert found.has_canonical_format


@pytest.mark.parametrize("starts", STARTS)
@pytest.mark.parametrize("kind", ["mutual", "union"])
@pytest.mark.parametrize("weights", ["similarity", "uniform", "jaccard", "umap"])
def test_edges_do_not_depend_on_blocks(lists, kind, weights, starts):
    back = lists.T.tocsr()
    mutual = kind == "mutual"
    if weights == "umap":
        ties = graph.local_strengths(lists)
        there = ties.T.tocsr()
        join = graph.fuzzy_mutual if mutual else graph.fuzzy_union
        expected = join(ties, there)
    else:
        expected = (
            graph.mutual_graph(lists, back, symmetric=False)
            if mutual
            else graph.union_graph(lists, back)
        )
        if weights == "uniform":
            expected = (expected > 0).astype(np.float32)
        if weights == "jaccard":
            expected = graph.jaccard_weights(expected, lists, lists)
    how = joining(kind, weights)
    found = affinity._affinity(Local(), divided(lists, starts), np.array(starts), how)
    np.testing.assert_allclose(found.toarray(), expected.toarray(), rtol=1e-6)
    assert found.has_canonical_format
    assert found.nnz > 0
    assert_array_equal(found.toarray(), found.T.toarray())


def test_both_ends_are_known_to_say_the_same(lists):
    """Where they do not, the smaller is taken, unasked; else the mean."""
    dense, back = lists.toarray(), lists.toarray().T
    both = (dense > 0) & (back > 0)
    assert (dense != back)[both].any()
    for symmetric, expected in (
        (True, np.minimum(dense, back)),
        (False, np.where(both, (dense + back) / 2, 0)),
    ):
        how = joining(symmetric=symmetric)
        found = affinity._affinity(Local(), [lists], np.array([0, 9]), how)
        assert_array_equal(found.toarray(), expected)


def test_votes_are_of_the_mutual_graph_of_similarities():
    assert joining().keeps_votes()
    assert joining(attaching=False).keeps_votes()
    for other in (joining("union"), joining(weights="umap"), joining("union", "umap")):
        assert not other.keeps_votes()
        assert other.of_votes() == joining(attaching=False)


def test_how_an_estimator_joins():
    usual = {name: None for name in affinity.NeighborSearch._fields if name != "n_jobs"}
    estimator = SimpleNamespace(
        **usual,
        n_jobs=1,
        graph="union",
        weights="umap",
        metric="precomputed",
        small_clusters="attach",
    )
    assert Joining.of(estimator) == ("union", "umap", False, True, 1)
    estimator.metric, estimator.small_clusters = "cosine", "noise"
    assert Joining.of(estimator) == ("union", "umap", True, False, 1)


@pytest.mark.parametrize("size", [1, 2, 4, 8, 9])
def test_some_rows_at_a_time_are_as_all_at_once(monkeypatch, lists, size):
    monkeypatch.setattr(affinity, "_ROWS_AT_ONCE", size)
    other = lists.T.tocsr()
    for function in (graph.union_graph, lambda a, b: a + b):
        found = affinity._by_rows(function, lists, other, n_jobs=1)
        same(found, function(lists, other))
        assert (found.indices.dtype, found.indptr.dtype) == (np.int32, np.int32)
    table = knn.Neighbors(
        np.tile(np.arange(4, dtype=np.int32), (9, 1)),
        np.linspace(0, 1, 36, dtype=np.float32).reshape(9, 4),
    )
    (directed,) = affinity.directed(Local(), [table], 5, 1)
    assert directed.shape == (9, 5)
    assert_array_equal(directed.toarray()[:, :4], table.similarities)


@pytest.mark.parametrize("size", [5, 16, 17])
def test_blocks_of_rows_are_as_many_as_stated(monkeypatch, size):
    monkeypatch.setattr(affinity, "_ROWS_AT_ONCE", size)
    seen = []

    def function(rows):
        seen.append(rows.shape[0])
        return rows

    same(affinity._by_rows(function, sp.eye_array(16, dtype=np.float32, format="csr"),
                           n_jobs=1), sp.eye_array(16))  # fmt: skip
    assert seen == ([5, 5, 5, 1] if size == 5 else [16])


def test_a_graph_with_its_repeats_and_its_union(blocked, lists, noting):
    X = np.eye(9)[[0, 1, 2, 3, 4, 5, 6, 7, 8, 3]]
    for sizes, runner in (([10], Local()), ([4, 6], noting())):
        distinct = blocked(X, sizes, runner)
        parts = divided(lists, distinct.vectors.starts)
        found = affinity.join_graph(runner, parts, distinct, joining())
        assert_array_equal(found.copies, np.arange(9) == 3)
        assert_array_equal(found.affinity.toarray(), found.affinity.T.toarray())
        expected = graph.union_graph(lists, lists.T.tocsr())
        assert_array_equal(found.union[np.arange(9)].toarray(), expected.toarray())
        assert (found.there is None) == (runner.at_hand([1]) == [1])
        without = joining(attaching=False)
        assert affinity.join_graph(runner, parts, distinct, without).union is None


@pytest.mark.parametrize("starts", STARTS)
@pytest.mark.parametrize("rows", [[0], [8, 2, 3], [4, 0, 8, 1, 7], range(9), []])
def test_rows_of_the_union_graph(lists, starts, rows):
    rows = np.array(rows, dtype=int)
    expected = graph.union_graph(lists, lists.T.tocsr())[rows]
    union = UnionRows(Local(), divided(lists, starts), np.array(starts))
    ascending = np.sort(rows)
    if len(starts) == 2:
        assert_array_equal(union[rows].toarray(), expected.toarray())
    expected = graph.union_graph(lists, lists.T.tocsr())[ascending]
    assert_array_equal(union[ascending].toarray(), expected.toarray())
    copy = pickle.loads(pickle.dumps(union))
    assert len(copy.lists) == 1
    assert_array_equal(copy.lists[0].toarray(), lists.toarray())
    assert copy.starts.tolist() == [0, 9]
    assert_array_equal(copy[ascending].toarray(), expected.toarray())
