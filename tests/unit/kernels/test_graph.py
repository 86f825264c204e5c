"""Weights of edges, made without a change to the lists that they are made of."""

import numpy as np
import scipy.sparse as sp

from skleiden._kernels import graph


def copies(array):
    return [part.copy() for part in (array.data, array.indices, array.indptr)]


def same(array, parts):
    now = (array.data, array.indices, array.indptr)
    return all(np.array_equal(a, b) for a, b in zip(now, parts, strict=True))


def test_strengths_leave_the_lists_as_they_were():
    # Row 0 has many near neighbours, so that its tie to the far one vanishes.
    lists = sp.csr_array(np.r_[0, np.ones(30), 1e-6].astype("f4")[None])
    lists = sp.csr_array(sp.vstack([lists, sp.csr_array((31, 32), dtype="f4")]))
    before = copies(lists)
    strengths = graph.local_strengths(lists)
    assert strengths.nnz == lists.nnz - 1
    assert same(lists, before)


def test_overlaps_leave_the_edges_as_they_were():
    lists = sp.csr_array(np.array([[0, 1, 0], [1, 0, 0], [0, 1, 0]], dtype="f4"))
    edges = sp.csr_array(np.array([[0, 1, 1], [1, 0, 0], [1, 0, 0]], dtype="f4"))
    before = copies(edges)
    weighted = graph.jaccard_weights(edges, lists, lists)
    assert weighted.nnz < edges.nnz
    assert same(edges, before)


def random_lists(n=12, seed=0):
    """A matrix of similarities of listed pairs, which both ends state."""
    rng = np.random.default_rng(seed)
    similarities = np.triu(rng.uniform(0.1, 1, (n, n)), 1).astype("f4")
    listed = (rng.random((n, n)) < 0.4) & ~np.eye(n, dtype=bool)
    return np.where(listed, similarities + similarities.T, 0).astype("f4")


def test_lists_become_rows_of_a_matrix():
    ids = np.array([[2, 1, -1], [0, 3, 2], [-1, -1, -1]], dtype=np.int32)
    similarities = np.array([[0.5, 0.25, 0], [1, 0, -0.5], [0, 0, 0]], dtype="f4")
    found = graph.directed_graph(ids, similarities, 4)
    assert found.shape == (3, 4)
    assert found.has_sorted_indices
    assert (found.indptr.dtype, found.indices.dtype) == (np.int32, np.int32)
    assert found.toarray().tolist() == [[0, 0.25, 0.5, 0], [1, 0, 0, 0], [0] * 4]
    assert found.nnz == 3
    assert graph.directed_graph(ids[:, :2], similarities[:, :2] * 0).shape == (3, 3)


def test_mutual_union_and_their_blocks():
    A = random_lists()
    lists = sp.csr_array(A)
    both = (A > 0) & (A.T > 0)
    mutual = np.where(both, A, 0)
    turned = sp.csr_array(lists.T)
    found = graph.mutual_graph(lists, turned, symmetric=True).toarray()
    assert np.array_equal(found, mutual)
    union = np.maximum(A, A.T)
    assert np.array_equal(graph.union_graph(lists, turned).toarray(), union)
    there, back = lists[:5, 5:], sp.csr_array(lists[5:, :5].T)
    block = graph.mutual_graph(there, back, symmetric=True).toarray()
    assert np.array_equal(block, mutual[:5, 5:])
    assert np.array_equal(graph.union_graph(there, back).toarray(), union[:5, 5:])
    unlike = A * np.arange(1, 13, dtype="f4")
    there, back = sp.csr_array(unlike), sp.csr_array(unlike.T)
    found = graph.mutual_graph(there, back, symmetric=False).toarray()
    assert np.allclose(found, np.where(both, (unlike + unlike.T) / 2, 0))
    assert np.array_equal(found, found.T)


def test_weights_of_overlap(monkeypatch):
    monkeypatch.setattr(graph, "_EDGES_AT_ONCE", 7)
    A = random_lists()
    listed = (A > 0).astype(int)
    common = listed @ listed.T
    sizes = listed.sum(axis=1)
    overlap = common / (sizes[:, None] + sizes - common)
    union = np.maximum(A, A.T)
    lists = sp.csr_array(A)
    found = graph.jaccard_weights(sp.csr_array(union), lists, lists)
    assert np.allclose(found.toarray(), np.where(union > 0, overlap, 0))
    some = graph.jaccard_weights(sp.csr_array(union[:5, 5:]), lists[:5], lists[5:])
    assert np.allclose(some.toarray(), found.toarray()[:5, 5:])


def test_strengths_add_up_to_the_logarithm_of_their_number():
    A = random_lists()
    found = graph.local_strengths(sp.csr_array(A)).toarray()
    sizes = (A > 0).sum(axis=1)
    assert np.allclose(found.sum(axis=1), np.log2(sizes + 1), atol=1e-4)
    assert np.allclose(found.max(axis=1), 1)
    # Among a row's ties, logarithms of strengths are linear in similarities.
    row = A[0][A[0] > 0]
    slopes = np.log(found[0][A[0] > 0])[row < row.max()] / (
        row.max() - row[row < row.max()]
    )
    assert np.allclose(slopes, slopes[0], rtol=1e-4)
    # The scale is no smaller than a share of the mean distance.
    near = sp.csr_array(np.array([[0.5, 0.5, 0.5, 0.499]], dtype="f4"))
    expected = [[1, 1, 1, np.exp(-0.001 / (1e-3 * 0.50025))]]
    assert np.allclose(graph.local_strengths(near).toarray(), expected, atol=1e-3)


def test_fuzzy_weights():
    A = random_lists()
    lists = sp.csr_array(A)
    union, mutual = A + A.T - A * A.T, np.sqrt(A * A.T)
    turned = sp.csr_array(lists.T)
    assert np.allclose(graph.fuzzy_union(lists, turned).toarray(), union)
    assert np.allclose(graph.fuzzy_mutual(lists, turned).toarray(), mutual)
    there, back = lists[:5, 5:], sp.csr_array(lists[5:, :5].T)
    assert np.allclose(graph.fuzzy_union(there, back).toarray(), union[:5, 5:])
    assert np.allclose(graph.fuzzy_mutual(there, back).toarray(), mutual[:5, 5:])


def test_repeats_are_joined_to_the_first_of_their_kind():
    distinct = sp.csr_array(np.array([[0, 0.5], [0.5, 0]], dtype="f4"))
    first, inverse = np.array([1, 3]), np.array([-1, 0, 0, 1, 0])
    found = graph.spread_rows(distinct, first, inverse, np.array([2, 4]))
    expected = np.zeros((5, 5))
    for a, b, weight in [(1, 3, 0.5), (1, 2, 1), (1, 4, 1)]:
        expected[a, b] = expected[b, a] = weight
    assert np.array_equal(found.toarray(), expected)
    assert (found.indices.dtype, found.dtype) == (np.int32, np.float32)
    assert (
        graph.spread_rows(distinct, np.arange(2), np.arange(2), first[:0]) is distinct
    )
