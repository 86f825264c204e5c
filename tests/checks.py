"""What must hold of every result: used by many tests, each fails with its reason.

What holds of fitted estimators is stated in ``skleiden/_invariants.py``, by which their
files are checked, too: a wrong statement fails here.
"""

import importlib

import numpy as np

from skleiden import _invariants


def check_graph(graph, *, most_edges=None):
    """An affinity matrix: symmetric CSR, positive weights, nothing on the diagonal."""
    _invariants.check_graph(graph)
    if most_edges is not None:
        assert np.diff(graph.indptr).max(initial=0) <= most_edges


def check_labels(labels):
    """Labels as promised: int64, -1 or 0..C-1 without a gap, largest first."""
    _invariants.check_labels(labels)


def check_fitted(estimator):
    """All that a fitted estimator of this package promises whatever its input."""
    assert _invariants.check_estimator(estimator), "the estimator is not fitted"


def check_fitted_clusterer(clusterer):
    """All that a fitted `MutualKNNLeiden` promises whatever its input."""
    check_fitted(clusterer)


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


def owner_and_name(place):
    """Where the function lives that one of the tables of `skleiden._stages` names."""
    module, _, path = place.partition(":")
    owner = importlib.import_module(f"skleiden.{module}")
    *classes, name = path.split(".")
    for one in classes:
        owner = getattr(owner, one)
    return owner, name
