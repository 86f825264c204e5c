"""What must hold of every result: used by many tests, each fails with its reason."""

import numpy as np
import scipy.sparse as sp
from scipy.sparse.csgraph import connected_components


def check_graph(graph, *, most_edges=None):
    """An affinity matrix: symmetric CSR, positive weights, nothing on the diagonal."""
    assert sp.issparse(graph)
    assert graph.format == "csr"
    assert graph.shape[0] == graph.shape[1]
    assert graph.has_canonical_format
    assert (graph != graph.T).nnz == 0, "the graph is not symmetric"
    assert not graph.diagonal().any(), "a row is its own neighbour"
    assert (graph.data > 0).all(), "a weight is not positive"
    assert graph.indices.dtype == np.int32
    if most_edges is not None:
        assert np.diff(graph.indptr).max(initial=0) <= most_edges


def check_labels(labels):
    """Labels as promised: int64, -1 or 0..C-1 without a gap, largest first."""
    assert labels.dtype == np.int64
    assert labels.min() >= -1
    sizes = np.bincount(labels[labels >= 0])
    assert (sizes > 0).all(), "a label is left out"
    assert (np.diff(sizes) <= 0).all(), "a larger community has a higher label"
    first = [np.flatnonzero(labels == c)[0] for c in range(sizes.size)]
    ties = np.diff(sizes) == 0
    assert (np.diff(first)[ties] > 0).all(), "ties are not in order of first member"


def check_connected(graph, labels, attached):
    """Every community is connected, but for the rows attached to it afterwards."""
    for label in range(labels.max() + 1):
        rows = np.flatnonzero((labels == label) & ~attached)
        parts, _ = connected_components(graph[rows][:, rows], directed=False)
        assert parts == 1, f"community {label} falls into {parts} parts"


def check_fitted_clusterer(clusterer):
    """All that a fitted `MutualKNNLeiden` promises whatever its input."""
    n = clusterer.labels_.size
    check_graph(clusterer.affinity_matrix_)
    check_labels(clusterer.labels_)
    check_connected(clusterer.affinity_matrix_, clusterer.labels_, clusterer.attached_)
    assert clusterer.n_clusters_ == clusterer.labels_.max() + 1
    assert clusterer.affinity_matrix_.shape == (n, n)
    assert clusterer.attached_.shape == clusterer.kth_similarity_.shape == (n,)
    degrees = np.diff(clusterer.affinity_matrix_.indptr)
    assert clusterer.n_isolated_ == np.count_nonzero(degrees == 0)
    assert -0.5 <= clusterer.modularity_ <= 1


def unit_rows(X):
    """Rows of unit length in float64; zero rows stay."""
    lengths = np.linalg.norm(X, axis=1, keepdims=True)
    return np.divide(X, lengths, out=np.zeros_like(X, float), where=lengths > 0)


def brute_neighbors(X, k):
    """Neighbours by comparing all pairs in float64: ids and similarities."""
    unit = unit_rows(np.asarray(X, dtype=np.float64))
    similarities = np.round(unit @ unit.T, 6)
    np.fill_diagonal(similarities, -np.inf)
    ids = np.argsort(-similarities, axis=1, kind="stable")[:, :k]
    return ids, np.take_along_axis(similarities, ids, axis=1)
