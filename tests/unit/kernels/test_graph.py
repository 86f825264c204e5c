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
    weighted = graph.jaccard_weights(edges, lists)
    assert weighted.nnz < edges.nnz
    assert same(edges, before)
