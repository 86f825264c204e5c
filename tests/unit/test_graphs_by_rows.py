"""Graphs that are joined some rows at a time are those joined at once."""

import numpy as np
import pytest
import scipy.sparse as sp

from skleiden._blocks.runner import Local
from skleiden._kernels import knn
from skleiden._stages import affinity, hubs


@pytest.fixture(scope="module")
def table():
    """Lists of 120 rows, some shorter, with similarities that are symmetric."""
    rng = np.random.RandomState(0)
    n, k = 120, 12
    similarities = np.round(rng.uniform(-0.1, 1, (n, n)), 3).astype("f4")
    similarities = np.maximum(similarities, similarities.T)
    np.fill_diagonal(similarities, -1)
    ids = np.argsort(-similarities, axis=1)[:, :k].astype(np.int32)
    found = np.take_along_axis(similarities, ids, axis=1)
    ids[5:9, 4:], found[5:9, 4:] = -1, 0
    ids[40] = -1
    return knn.Neighbors(ids, found)


def parts(matrix):
    return [
        (part.dtype, part.tolist())
        for part in (matrix.data, matrix.indices, matrix.indptr)
    ]


@pytest.mark.parametrize(("at_once", "n_jobs"), [(1, 2), (7, 1), (64, 2), (119, 1)])
@pytest.mark.parametrize("symmetric", [True, False])
@pytest.mark.parametrize("weights", ["similarity", "uniform", "umap", "jaccard"])
@pytest.mark.parametrize("kind", ["mutual", "union"])
def test_the_same_graph(table, monkeypatch, kind, weights, symmetric, at_once, n_jobs):
    def joined(jobs):
        (lists,) = affinity.directed(Local(), [table], 120, jobs)
        joining = affinity.Joining(
            kind, weights, symmetric=symmetric, attaching=False, n_jobs=jobs
        )
        starts = np.array([0, 120])
        return lists, affinity._affinity(Local(), [lists], starts, joining)

    whole = [parts(graph) for graph in joined(1)]
    monkeypatch.setattr(affinity, "_ROWS_AT_ONCE", at_once)
    assert [parts(graph) for graph in joined(n_jobs)] == whole


@pytest.mark.parametrize("symmetric", [True, False])
def test_mutual_edges_are_as_said(table, symmetric):
    n = len(table.ids)
    dense = np.zeros((n, n), dtype="f4")
    rows = np.arange(n)[:, None]
    there = table.ids >= 0
    dense[np.broadcast_to(rows, there.shape)[there], table.ids[there]] = (
        table.similarities[there]
    )
    if not symmetric:
        dense = np.where(np.arange(n) > rows, dense, dense * np.float32(0.5))
    both = (dense > 0) & (dense.T > 0)
    expected = np.where(both, (dense + dense.T) * np.float32(0.5), 0)
    joining = affinity.Joining(
        "mutual", "similarity", symmetric=symmetric, attaching=False, n_jobs=1
    )
    graph = affinity._join(joining, sp.csr_array(dense), None, None, None)
    np.testing.assert_array_equal(graph.toarray(), expected)
    assert np.count_nonzero(expected)


@pytest.mark.parametrize("k", [3, 12])
def test_lists_that_rows_are_in_are_counted_by_blocks(table, monkeypatch, k):
    expected = np.bincount(table.ids[:, :k][table.ids[:, :k] >= 0], minlength=130)
    for at_once, counts in ((4096, 16), (20, 16), (1, 2)):
        monkeypatch.setattr(hubs, "_ROWS_AT_ONCE", at_once)
        monkeypatch.setattr(hubs, "_COUNTS", counts)
        found = hubs._counted(table, k, 130, 2)
        np.testing.assert_array_equal(found, expected)
