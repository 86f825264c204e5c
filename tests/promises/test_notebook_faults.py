"""The faults of the notebook that this library replaces stay mended.

Each test fails on what the notebook does; `test_benchmarks.py` shows that it does.
"""

import json
import tracemalloc
from pathlib import Path

import numpy as np
import pytest
import scipy.sparse as sp

from skleiden import (
    LayerStack,
    MultiLayerTfidfSketcher,
    MutualKNNLeiden,
    align_layers,
)
from skleiden.inspection import Communities, prototypes
from skleiden.io import load_activations, save_communities


def test_layer_weights_matter(stack):
    """There, the normalisation that followed removed them."""
    labels, edges = [], []
    for weights in (None, [1, 100, 1e-4]):
        sketcher = MultiLayerTfidfSketcher(32, layer_weights=weights, random_state=0)
        fitted = MutualKNNLeiden(10, random_state=0).fit(sketcher.fit_transform(stack))
        labels.append(fitted.labels_)
        edges.append(fitted.affinity_matrix_)
    assert (labels[0] != labels[1]).any()
    assert (edges[0] != edges[1]).nnz > 0


def test_a_one_way_neighbour_is_not_mutual():
    """There, lists were padded with their first entry, which then counted twice."""
    # The last row lists the second, which lists the first, and the first the second.
    X = np.array([[1.0, 0.0, 0.0], [0.9, 0.5, 0.0], [0.0, 1.0, 0.2]])
    fitted = MutualKNNLeiden(1, min_cluster_size=1, random_state=0).fit(X)
    assert fitted.affinity_matrix_.nnz == 2  # one edge, stored from both ends
    assert fitted.affinity_matrix_[0, 1] > 0
    # Fewer neighbours than asked for: no edge but those there are.
    fitted = MutualKNNLeiden(40, min_cluster_size=1, random_state=0).fit(X)
    assert np.diff(fitted.affinity_matrix_.indptr).max() <= 2


@pytest.mark.parametrize("backend", ["igraph", "leidenalg"])
def test_few_rows_and_negative_cosines(backend):
    """There, 12 prompts ended in "Cannot accept negative weights"."""
    X = np.random.RandomState(0).standard_normal((12, 8))
    fitted = MutualKNNLeiden(
        40, backend=backend, small_clusters="keep", random_state=0
    ).fit(X)
    assert (fitted.affinity_matrix_.data > 0).all()
    assert (fitted.labels_ >= 0).all()


def test_zero_rows_and_equal_rows():
    """There, 60 zero rows made 50 communities and 100 equal rows 90."""
    X = np.random.RandomState(0).random_sample((300, 40))
    X[:60] = 0
    X[60:160] = X[60]
    stack = LayerStack([X])
    embedding = MultiLayerTfidfSketcher(32, random_state=0).fit_transform(stack)
    labels = MutualKNNLeiden(
        40, min_cluster_size=1, small_clusters="keep", random_state=0
    ).fit_predict(embedding)
    assert set(labels[:60]) == {-1}
    assert len(set(labels[60:160])) == 1


def test_nan_is_refused():
    """There, clusters came back."""
    X = np.ones((50, 4))
    X[7, 2] = np.nan
    for storage in (X, sp.csr_array(X), LayerStack([X])):
        with pytest.raises(ValueError, match="NaN in layer 'layer_0'"):
            MultiLayerTfidfSketcher().fit(storage)
    with pytest.raises(ValueError, match="NaN"):
        MutualKNNLeiden().fit(X)


def test_align_takes_what_the_notebook_passed():
    """There, the call's own arguments did not exist, nor the figure it printed."""
    stack, report = align_layers(
        {"layer_17": {2: [1.0, 0.0], 1: [0.0, 3.0]}, "layer_18": {1: [4.0], 2: [5.0]}},
        order="sorted",
        sparse=True,
        zero_tol=0.0,
        dtype=np.float32,
    )
    assert report["n_common"] == 2
    assert [layer["width"] for layer in report["layers"].values()] == [2, 1]
    assert stack.ids.tolist() == [1, 2]
    np.testing.assert_array_equal(stack.layers[0].toarray(), [[0, 3], [1, 0]])


def test_saved_communities_have_native_types(tmp_path):
    """There, keys and members were NumPy's, in files that no schema describes."""
    path = tmp_path / "communities.json"
    save_communities(path, Communities(np.array([0, 0, 1]), np.array([7, 8, 9])))
    document = json.loads(path.read_text())
    assert document["schema_version"] == 1
    assert document["communities"][0]["members"] == [7, 8]


def test_loading_runs_nothing(tmp_path):
    """There, torch.load of a pickle ran whatever was in it."""
    import torch

    class Attack:
        def __reduce__(self):
            return Path.touch, (tmp_path / "owned",)

    torch.save({"q1": Attack()}, tmp_path / "layer_17.json")
    with pytest.raises(ValueError, match="only code inside the file could make"):
        load_activations(tmp_path / "layer_17.json")
    assert not (tmp_path / "owned").exists()


def test_standardized_prototypes_are_not_made_dense():
    """There, the mean was broadcast to prompts x neurons."""
    X = sp.random(2000, 10_000, density=0.001, format="csr", random_state=0)
    tracemalloc.start()
    try:
        prototypes(X, np.arange(2000) % 2, standardize=True)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < X.shape[0] * X.shape[1] * 8 / 20
