"""What holds whatever the data: found counterexamples become tests of their own."""

import numpy as np
import pytest
import scipy.sparse as sp
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from skleiden import LayerStack, MultiLayerTfidfSketcher, MutualKNNLeiden
from tests.checks import brute_neighbors, check_fitted_clusterer, check_graph

pytestmark = pytest.mark.slow

# Small integers make zero rows, equal rows and ties common.
VECTORS = st.tuples(st.integers(2, 40), st.integers(1, 6)).flatmap(
    lambda shape: arrays(np.float64, shape, elements=st.integers(-3, 3).map(float))
)
SLOW = settings(deadline=None, max_examples=60)


@SLOW
@given(
    X=VECTORS,
    n_neighbors=st.integers(1, 45),
    resolution=st.sampled_from([0.1, 1.0, 10.0]),
    graph=st.sampled_from(["mutual", "union"]),
    weights=st.sampled_from(["similarity", "uniform", "jaccard", "umap"]),
    backend=st.sampled_from(["igraph", "leidenalg"]),
    small_clusters=st.sampled_from(["attach", "noise", "keep"]),
    seed=st.integers(0, 2**32 - 1),
)
def test_clusterer(
    X, n_neighbors, resolution, graph, weights, backend, small_clusters, seed
):
    make = MutualKNNLeiden(
        n_neighbors,
        resolution=resolution,
        graph=graph,
        weights=weights,
        backend=backend,
        small_clusters=small_clusters,
        min_cluster_size=1 if small_clusters != "keep" else 5,
        random_state=seed,
    )
    if not X.any():
        make.set_params(small_clusters="keep")
    fitted = make.fit(X)
    check_fitted_clusterer(fitted)
    zero = ~X.any(axis=1)
    assert (fitted.labels_[zero] == -1).all()
    assert fitted.n_neighbors_ == min(n_neighbors, len(X) - 1)
    again = make.set_params(n_jobs=2).fit(X)
    np.testing.assert_array_equal(again.labels_, fitted.labels_)
    alone = [make.predict(row[None])[0] for row in X]
    np.testing.assert_array_equal(alone, make.predict(X))


@SLOW
@given(
    X=arrays(
        np.float64,
        st.tuples(st.integers(2, 40), st.integers(2, 6)),
        elements=st.floats(-1, 1, width=32),
    ),
    n_neighbors=st.integers(1, 45),
)
def test_mutual_graph_is_a_subset_of_the_lists(X, n_neighbors):
    # Equal and zero rows are treated apart: keep one of each direction.
    unit = np.round(X / np.maximum(np.linalg.norm(X, axis=1, keepdims=True), 1e-30), 3)
    X = np.unique(unit[unit.any(axis=1)], axis=0)
    if len(X) < 2:
        return
    fitted = MutualKNNLeiden(
        n_neighbors,
        hubness=None,  # whose lists are the nearest rows
        min_cluster_size=1,
        small_clusters="keep",
        random_state=0,
    ).fit(7 * X)  # rows of a length of nearly 1 would be taken for unit rows
    k = fitted.n_neighbors_
    check_graph(fitted.affinity_matrix_, most_edges=k)
    _, similarities = brute_neighbors(X, k)
    edges = fitted.affinity_matrix_.tocoo()
    # An edge's similarity reaches both ends' k-th best.
    assert (edges.data >= similarities[edges.row, -1] - 2e-6).all()
    assert (edges.data >= similarities[edges.col, -1] - 2e-6).all()


LAYERS = st.integers(1, 3).flatmap(
    lambda n_layers: st.integers(1, 30).flatmap(
        lambda n_rows: st.tuples(
            *[
                st.integers(1, 8).flatmap(
                    lambda width: arrays(
                        np.float32,
                        (n_rows, width),
                        elements=st.sampled_from([0, 0, 0, 1, -2, 0.5]),
                    )
                )
                for _ in range(n_layers)
            ]
        )
    )
)


@pytest.mark.filterwarnings("ignore:weighting='idf' weights nothing:UserWarning")
@pytest.mark.filterwarnings("ignore:Layers are judged by:UserWarning")
@SLOW
@given(
    layers=LAYERS,
    weighting=st.sampled_from(["idf", "zscore", "none"]),
    layer_weights=st.sampled_from([None, "auto"]),  # which takes most of the time
    n_components=st.integers(1, 9),
    seed=st.integers(0, 2**32 - 1),
)
def test_sketcher(layers, weighting, layer_weights, n_components, seed):
    make = MultiLayerTfidfSketcher(
        n_components,
        layer_weights=layer_weights,
        weighting=weighting,
        random_state=seed,
    )
    dense = make.fit_transform(LayerStack(layers))
    sparse = make.fit_transform(LayerStack([sp.csr_array(x) for x in layers]))
    np.testing.assert_array_equal(dense, sparse)
    assert np.isfinite(dense).all()
    lengths = np.linalg.norm(dense, axis=1)
    assert ((abs(lengths - 1) < 1e-5) | (lengths == 0)).all()
    zero = ~np.hstack(layers).any(axis=1)
    assert (lengths[zero] == 0).all()
    assert make.n_zero_rows_ == zero.sum()
    make.set_params(layers=[x.shape[1] for x in layers], n_jobs=2)
    np.testing.assert_array_equal(make.fit_transform(np.hstack(layers)), dense)
