"""AnnData of communities: what scverse's tools find there."""

import json
import sys
import warnings

import numpy as np
import pandas as pd
import pytest
import scipy.sparse as sp
from numpy.testing import assert_allclose, assert_array_equal
from sklearn.pipeline import make_pipeline

from skleiden import (
    FaissKNeighborsTransformer,
    LayerStack,
    MultiLayerTfidfSketcher,
    MutualKNNLeiden,
)
from skleiden.inspection import Communities, describe_communities
from skleiden.io import to_anndata
from skleiden.model_selection import StableLeiden

IDS = [f"q{i}" for i in range(400)]


def imported(library):
    """A library that may be missing, or not fit others, and warns at its import."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return pytest.importorskip(library, exc_type=ImportError)


@pytest.fixture(autouse=True, scope="module")
def anndata():
    return imported("anndata")


@pytest.fixture(scope="module")
def named(stack):
    layers = dict(zip(stack.names, stack.layers, strict=True))
    return LayerStack(layers, ids=IDS)


def pipeline(**parameters):
    return make_pipeline(
        MultiLayerTfidfSketcher(32, layer_weights=None, random_state=0),
        MutualKNNLeiden(n_neighbors=15, random_state=0, **parameters),
    )


@pytest.fixture(scope="module")
def fitted(named):
    return pipeline().fit(named)


@pytest.fixture(scope="module")
def found(fitted, named):
    texts = [f"prompt {i}" for i in range(400)]
    return describe_communities(fitted, named, texts=texts, max_map_rows=100)


@pytest.fixture
def adata(fitted, named, found):
    return to_anndata(found, named, estimator=fitted)


def cosines(adata):
    """Cosine similarities along the edges of the graph, of the embedding."""
    edges = adata.obsp["connectivities"].tocoo()
    vectors = adata.obsm["X_skleiden"]
    return np.einsum("ij,ij->i", vectors[edges.row], vectors[edges.col])


# --- what it holds --------------------------------------------------------------------


def test_rows(adata, found):
    assert adata.obs_names.tolist() == IDS
    communities = adata.obs["community"]
    assert communities.dtype == "category"
    assert communities.cat.categories.tolist() == [
        str(label) for label in range(found.labels.max() + 1)
    ]
    assert_array_equal(communities.cat.codes, found.labels)
    assert_array_equal(adata.obs["attached"], found.attached)
    assert adata.obs["text"].tolist() == found.texts
    assert "confidence" not in adata.obs


def test_columns(adata, named):
    assert_array_equal(adata.X.toarray(), sp.hstack(named.layers).toarray())
    assert isinstance(adata.X, sp.csr_matrix)
    assert adata.var_names[[0, 301]].tolist() == ["layer_0__x0", "layer_1__x1"]
    assert adata.var["layer"].astype(str).tolist()[300] == "layer_1"
    assert adata.var["neuron"].tolist() == [*range(300)] * 3


def test_columns_of_frames_and_other_layers(fitted):
    layers = {"a": pd.DataFrame(np.eye(400), columns=[f"n{i}" for i in range(400)])}
    adata = to_anndata(Communities(np.zeros(400, int)), layers)
    assert adata.var_names[7] == "a__n7"
    assert_array_equal(adata.X, np.eye(400))
    adata.X[0, 0] = 5  # scanpy changes it in place
    assert layers["a"].iloc[0, 0] == 1


def test_columns_of_tensors_and_of_one_matrix_of_layers():
    torch = pytest.importorskip("torch")
    values = np.random.RandomState(0).randint(1, 9, (60, 12))
    X = torch.tensor(values, dtype=torch.bfloat16)
    fitted = make_pipeline(
        MultiLayerTfidfSketcher(8, layers={"a": 4, "b": 8}, random_state=0),
        MutualKNNLeiden(8, min_cluster_size=2, random_state=0),
    ).fit(X)
    adata = to_anndata(fitted, X)
    assert_array_equal(adata.X, values)
    assert adata.var_names[[3, 4]].tolist() == ["a__x3", "b__x0"]


def test_map(adata, found):
    shown = adata.obsm["X_map"]
    assert_array_equal(shown[found.map.rows], found.map.positions)
    assert np.isnan(shown).any(axis=1).sum() == 300


def test_graph(adata, fitted, named):
    assert_array_equal(
        adata.obsp["connectivities"].toarray(), fitted[-1].affinity_matrix_.toarray()
    )
    assert_allclose(
        adata.obsm["X_skleiden"], fitted[0].transform(named), rtol=0, atol=1e-5
    )
    assert_allclose(adata.obsp["distances"].tocoo().data, 1 - cosines(adata), atol=1e-5)
    assert adata.uns["neighbors"] == {
        "connectivities_key": "connectivities",
        "distances_key": "distances",
        "params": {
            "n_neighbors": 15,
            "method": "mutual",
            "metric": "cosine",
            "use_rep": "X_skleiden",
        },
    }


@pytest.mark.parametrize("weights", ["uniform", "jaccard", "umap"])
def test_distances_are_no_weights(named, weights, monkeypatch):
    monkeypatch.setattr("skleiden.io._anndata._EDGES", 100)
    adata = to_anndata(pipeline(weights=weights).fit(named))
    assert_allclose(adata.obsp["distances"].tocoo().data, 1 - cosines(adata), atol=1e-5)


@pytest.mark.parametrize("weights", ["similarity", "uniform"])
def test_precomputed_distances(named, weights):
    embedding = MultiLayerTfidfSketcher(32, random_state=0).fit_transform(named)
    graph = FaissKNeighborsTransformer(15).fit_transform(embedding)
    clusterer = MutualKNNLeiden(15, metric="precomputed", weights=weights).fit(graph)
    adata = to_anndata(clusterer)
    assert "X_skleiden" not in adata.obsm
    assert ("distances" in adata.obsp) == (weights == "similarity")
    assert ("distances_key" in adata.uns["neighbors"]) == (weights == "similarity")


def test_equal_and_zero_rows():
    X = np.repeat(np.eye(6), 10, axis=0)
    X[7] = 0
    clusterer = MutualKNNLeiden(5, small_clusters="noise", random_state=0).fit(X)
    adata = to_anndata(clusterer, X)
    assert_array_equal(adata.obsm["X_skleiden"], X)
    assert adata.obsp["distances"].nnz == adata.obsp["connectivities"].nnz
    assert adata.obsp["distances"].data.min() > 0
    assert adata.obs["community"].isna().sum() == (clusterer.labels_ < 0).sum() > 0


def test_parameters(adata, fitted, found):
    uns = adata.uns["skleiden"]
    assert uns["fingerprint"] == found.fingerprint
    assert uns["parameters"]["mutualknnleiden__n_neighbors"] == 15
    assert json.loads(uns["parameters"]["mutualknnleiden__n_jobs"]) is None
    assert uns["summary"]["modularity"] == found.summary["modularity"]
    assert json.loads(uns["summary"]["layers"])["layer_0"] == 300
    assert uns["versions"]["numpy"] == np.__version__


def test_an_estimator_alone(fitted, named):
    adata = to_anndata(fitted)
    assert adata.shape == (400, 0)
    assert adata.obs_names[0] == "0"
    assert set(adata.obs) == {"community", "attached"}
    assert "connectivities" in adata.obsp
    assert to_anndata(fitted, named).obs_names[0] == "q0"


def test_communities_alone():
    adata = to_anndata(Communities([0, 0, -1], ids=[(1, 2), None, "x"]))
    assert adata.obs_names.tolist() == ["(1, 2)", "None", "x"]
    assert adata.obs["community"].isna().tolist() == [False, False, True]
    assert not adata.obsp
    assert not adata.uns["skleiden"]


def test_noise_alone():
    assert to_anndata(Communities([-1, -1])).obs["community"].isna().all()


def test_a_stable_leiden(named):
    stable = StableLeiden(pipeline(), n_runs=2).fit(named)
    adata = to_anndata(stable, named)
    assert_array_equal(adata.obs["confidence"], stable.confidence_)
    assert_array_equal(adata.obs["community"].cat.codes, stable.labels_)


@pytest.mark.parametrize("place", ["on workers"], indirect=True)
def test_of_dask_workers(fitted, named, place):
    clusterer = MutualKNNLeiden(15, algorithm="exact", random_state=0)
    vectors = fitted[0].transform(named)
    adata = to_anndata(clusterer.fit(place(vectors)))
    assert_allclose(adata.obsm["X_skleiden"], vectors, rtol=0, atol=1e-5)


@pytest.mark.filterwarnings("ignore::FutureWarning")
def test_it_is_saved(adata, anndata, tmp_path):
    pytest.importorskip("h5py")
    adata.write_h5ad(tmp_path / "communities.h5ad")
    read = anndata.read_h5ad(tmp_path / "communities.h5ad")
    assert_array_equal(
        read.obs["community"].cat.codes, adata.obs["community"].cat.codes
    )
    assert read.uns["neighbors"]["params"]["method"] == "mutual"
    assert read.uns["skleiden"]["parameters"] == adata.uns["skleiden"]["parameters"]
    assert (read.obsp["distances"] != adata.obsp["distances"]).nnz == 0


# --- scanpy ---------------------------------------------------------------------------


@pytest.fixture(scope="module")
def scanpy():
    return imported("scanpy")


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
def test_scanpy_takes_the_graph(adata, scanpy, tmp_path):
    scanpy.tl.umap(adata)
    assert adata.obsm["X_umap"].shape == (400, 2)
    scanpy.tl.leiden(adata, flavor="igraph", n_iterations=2, directed=False)
    assert adata.obs["leiden"].nunique() > 1
    scanpy.tl.paga(adata, groups="community")
    scanpy.tl.diffmap(adata)
    scanpy.pp.log1p(adata)
    scanpy.tl.rank_genes_groups(adata, "community", method="t-test")
    assert "__x" in adata.uns["rank_genes_groups"]["names"]["0"][0]


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("method", ["umap", "gauss"])
def test_scanpy_searches_with_the_transformer(adata, scanpy, method):
    ours, theirs = adata.copy(), adata.copy()
    arguments = {"use_rep": "X_skleiden", "method": method}
    transformer = FaissKNeighborsTransformer(15)
    scanpy.pp.neighbors(ours, transformer=transformer, **arguments)
    from sklearn.neighbors import KNeighborsTransformer

    scanpy.pp.neighbors(
        theirs,
        transformer=KNeighborsTransformer(n_neighbors=15, metric="cosine"),
        **arguments,
    )
    for name in ("distances", "connectivities"):
        assert_allclose(
            ours.obsp[name].toarray(), theirs.obsp[name].toarray(), atol=2e-4
        )
    assert ours.uns["neighbors"]["params"]["n_neighbors"] == 15


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
def test_scanpy_searches_with_the_default_transformer(adata, scanpy):
    scanpy.pp.neighbors(
        adata, transformer=FaissKNeighborsTransformer(), use_rep="X_skleiden"
    )
    assert adata.uns["neighbors"]["params"]["n_neighbors"] == 40
    assert (np.diff(adata.obsp["connectivities"].indptr) > 0).all()


# --- what is refused ------------------------------------------------------------------


def test_other_rows(fitted, named, found):
    with pytest.raises(ValueError, match="got 10 rows for 400 labels"):
        to_anndata(fitted, named[:10])
    with pytest.raises(
        ValueError, match="in another order, beginning with 'q399' inst"
    ):
        to_anndata(found, named[::-1])
    with pytest.raises(
        ValueError, match=r"its labels_ differ from theirs \(400 rows, for 3"
    ):
        to_anndata(Communities([0, 0, 1]), estimator=fitted)
    with pytest.raises(ValueError, match=r"got '1' more than once. Give other ids"):
        to_anndata(Communities([0, 0], ids=["1", 1]))


def test_other_things(fitted, named):
    with pytest.raises(TypeError, match="without labels_ and affinity_matrix_"):
        to_anndata(MutualKNNLeiden())
    with pytest.raises(
        TypeError, match="together with Communities; got it with a Pipeline"
    ):
        to_anndata(fitted, named, estimator=fitted)


def test_without_anndata(fitted, monkeypatch):
    monkeypatch.setitem(sys.modules, "anndata", None)
    with pytest.raises(ImportError, match=r"needs anndata and pandas \(.*: pip inst"):
        to_anndata(fitted)
