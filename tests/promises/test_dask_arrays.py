"""Dask arrays in the estimators: the same answers as arrays give, in any chunks."""

import pickle
from functools import partial

import dask
import dask.array as da
import numpy as np
import pytest
import scipy.sparse as sp
from numpy.testing import assert_allclose, assert_array_equal
from sklearn.base import clone
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline

from skleiden import (
    FaissKNeighborsTransformer,
    LayerStack,
    MultiLayerTfidfSketcher,
    MutualKNNLeiden,
)
from skleiden._stages import distinct
from skleiden._stages import search as search_stage
from skleiden.inspection import top_features
from skleiden.io import load_estimator, save_estimator
from skleiden.model_selection import (
    FullDataSplit,
    make_stability_scorer,
    permute_columns,
    resolution_profile,
)
from tests.checks import check_graph, check_labels

FITTED = [
    "labels_",
    "attached_",
    "kth_similarity_",
    "modularity_",
    "quality_",
    "n_clusters_",
    "n_isolated_",
    "n_components_graph_",
    "n_neighbors_",
    "n_features_in_",
    "algorithm_",
    "backend_",
    "knn_recall_",
]


@pytest.fixture(autouse=True)
def scheduler(monkeypatch):
    """No cluster, and several shards of the few rows there are."""
    monkeypatch.setattr(distinct, "_ROWS", 50)
    with dask.config.set(scheduler="synchronous"):
        yield


def lazy(matrix, rows=130, columns=-1):
    return da.from_array(matrix, chunks=(rows, columns))


def lazy_sparse(matrix, rows=130):
    return lazy(matrix.toarray(), rows).map_blocks(sp.csr_array)


@pytest.fixture
def dense(stack):
    return LayerStack(
        {n: m.toarray() for n, m in zip(stack.names, stack.layers, strict=True)}
    )


@pytest.fixture
def vectors(embedding):
    """Rows of which some are equal, across shards, and some are zero."""
    vectors = embedding.copy()
    vectors[[5, 150, 399]] = vectors[2]
    vectors[[7, 200]] = 0
    return vectors


def of_layers(function, stack):
    return LayerStack(
        {n: function(m) for n, m in zip(stack.names, stack.layers, strict=True)}
    )


STORED = {
    "dense": lambda dense: of_layers(lazy, dense),
    "columns": lambda dense: of_layers(partial(lazy, rows=399, columns=77), dense),
    "single rows": lambda dense: of_layers(partial(lazy, rows=1), dense[:20]),
    "sparse": lambda dense: of_layers(
        lambda m: lazy(m).map_blocks(sp.csr_array), dense
    ),
    "sparse columns": lambda dense: of_layers(
        lambda m: lazy(m, columns=77).map_blocks(sp.csr_array), dense
    ),
    "csc": lambda dense: of_layers(lambda m: lazy(m).map_blocks(sp.csc_array), dense),
    "half": lambda dense: of_layers(lambda m: lazy(m.astype(np.float16)), dense),
    "differently cut": lambda dense: LayerStack(
        [lazy(m, rows) for m, rows in zip(dense.layers, (130, 77, 400), strict=True)],
        names=dense.names,
    ),
    "empty blocks": lambda dense: of_layers(
        lambda m: da.concatenate([lazy(m)[:0], lazy(m)]), dense
    ),
}


@pytest.mark.parametrize("stored", STORED)
@pytest.mark.parametrize("weighting", ["idf", "zscore", "none"])
def test_embedding_is_that_of_arrays(dense, stored, weighting):
    X = STORED[stored](dense)
    here = dense[: len(X)]
    if stored == "half":
        here = of_layers(lambda m: m.astype(np.float16), here)
    sketcher = MultiLayerTfidfSketcher(16, weighting=weighting, random_state=0)
    there = clone(sketcher)
    expected, found = sketcher.fit_transform(here), there.fit_transform(X)
    assert isinstance(found, da.Array)
    assert found.shape == expected.shape
    assert found.dtype == expected.dtype
    if weighting == "idf":  # counts are the same in any chunks
        assert_array_equal(found.compute(), expected)
        assert_array_equal(there.idf_, sketcher.idf_)
    assert_allclose(found.compute(), expected, atol=1e-6)
    assert_array_equal(there.df_, sketcher.df_)
    assert there.n_zero_rows_ == sketcher.n_zero_rows_
    assert there.n_samples_seen_ == len(here)
    assert_array_equal(there.transform(here), sketcher.transform(here))


def test_one_wide_array_is_read_once_for_all_layers(dense):
    reads = []

    def note(block):
        if block.size:
            reads.append(block.shape)
        return block

    wide = np.hstack(dense.layers)
    X = lazy(wide).map_blocks(note, dtype=wide.dtype, meta=np.empty((0, 0), np.float32))
    sketcher = MultiLayerTfidfSketcher(16, layers=dense.widths, random_state=0).fit(X)
    assert len(reads) == 4
    embedding = sketcher.transform(X)
    assert len(reads) == 4  # it is lazy
    expected = MultiLayerTfidfSketcher(16, random_state=0).fit_transform(dense)
    assert_array_equal(embedding.compute(), expected)


def test_partial_fit_goes_on(dense):
    X = STORED["dense"](dense)
    parts = MultiLayerTfidfSketcher(16, random_state=0).partial_fit(X[:150])
    parts.partial_fit(X[150:])
    whole = MultiLayerTfidfSketcher(16, random_state=0).fit(dense)
    assert_array_equal(parts.df_, whole.df_)
    assert_array_equal(parts.transform(dense), whole.transform(dense))


def test_zero_rows_are_counted(dense):
    zeroed = of_layers(
        lambda m: np.where(np.arange(400)[:, None] % 50 > 0, m, 0), dense
    )
    sketcher = MultiLayerTfidfSketcher(16, random_state=0)
    embedding = sketcher.fit_transform(of_layers(lazy, zeroed)).compute()
    assert sketcher.n_zero_rows_ == 8
    assert_array_equal(np.flatnonzero(~embedding.any(axis=1)), np.arange(0, 400, 50))


GRAPHS = [
    {},
    {"graph": "union"},
    {"weights": "uniform"},
    {"weights": "jaccard"},
    {"weights": "jaccard", "graph": "union"},
    {"weights": "umap"},
    {"weights": "umap", "graph": "union"},
    {"resolution": 4.0, "min_cluster_size": 12},
    {"resolution": 4.0, "min_cluster_size": 12, "small_clusters": "noise"},
    {"resolution": 30.0, "small_clusters": "keep"},
    {"objective": "cpm", "resolution": 0.05},
    {"backend": "leidenalg"},
    {"n_neighbors": 399},
    {"n_neighbors": 1, "min_cluster_size": 1},
]


@pytest.mark.parametrize("parameters", GRAPHS, ids=str)
@pytest.mark.parametrize("rows", [130, 400])
def test_communities_are_those_of_arrays(vectors, parameters, rows):
    here = MutualKNNLeiden(15, random_state=0).set_params(**parameters)
    there = clone(here).fit(lazy(vectors, rows))
    here.fit(vectors)
    for name in FITTED:
        assert_array_equal(getattr(there, name), getattr(here, name), err_msg=name)
    check_labels(there.labels_)
    check_graph(there.affinity_matrix_)
    for part in ("data", "indices", "indptr"):
        assert_array_equal(
            getattr(there.affinity_matrix_, part), getattr(here.affinity_matrix_, part)
        )
    assert there._distinct.vectors.blocks[1:], "there is but one shard"


def test_small_communities_are_attached(vectors):
    clusterer = MutualKNNLeiden(15, resolution=4.0, min_cluster_size=12)
    assert clusterer.set_params(random_state=0).fit(lazy(vectors)).attached_.any()


def test_any_dtype_and_length(vectors):
    expected = MutualKNNLeiden(15, random_state=0).fit_predict(vectors)
    for X in (3 * vectors.astype(np.float64), vectors.astype(np.float64)):
        assert_array_equal(
            MutualKNNLeiden(15, random_state=0).fit_predict(lazy(X)), expected
        )
    steps = np.rint(100 * vectors).astype(np.int16)
    assert_array_equal(
        MutualKNNLeiden(15, random_state=0).fit_predict(lazy(steps, 77, 5)),
        MutualKNNLeiden(15, random_state=0).fit_predict(steps),
    )


def test_all_rows_equal():
    X = np.ones((120, 4))
    here, there = MutualKNNLeiden(5).fit(X), MutualKNNLeiden(5).fit(lazy(X))
    assert_array_equal(there.labels_, here.labels_)
    assert_array_equal(there.predict(X[:5]), here.predict(X[:5]))


def test_all_rows_zero():
    X = np.zeros((120, 4))
    clusterer = MutualKNNLeiden(5)
    with pytest.warns(UserWarning, match="all labels are -1"):
        clusterer.fit(lazy(X))
    assert_array_equal(clusterer.labels_, np.full(120, -1))
    assert_array_equal(clusterer.predict(np.ones((3, 4))), [-1, -1, -1])


def test_prediction_is_that_of_arrays(vectors):
    rng = np.random.RandomState(0)
    queries = np.vstack([vectors, rng.standard_normal((50, vectors.shape[1]))])
    here = MutualKNNLeiden(15, random_state=0).fit(vectors)
    there = MutualKNNLeiden(15, random_state=0).fit(lazy(vectors))
    expected = here.predict(queries)
    assert_array_equal(there.predict(queries), expected)
    assert_array_equal(there.predict(lazy(queries, 70)), expected)
    assert_array_equal(here.predict(lazy(queries, 70)), expected)


@pytest.mark.parametrize("mode", ["distance", "connectivity"])
def test_neighbours_are_those_of_arrays(vectors, mode):
    here = FaissKNeighborsTransformer(15, mode=mode)
    there = clone(here)
    expected, found = here.fit_transform(vectors), there.fit_transform(lazy(vectors))
    for part in ("data", "indices", "indptr"):
        assert_array_equal(getattr(found, part), getattr(expected, part))
    queries = np.vstack([vectors[:20], -vectors[:20]])
    assert (there.transform(queries) != here.transform(queries)).nnz == 0


def test_lists_reach_their_recall(monkeypatch):
    rng = np.random.RandomState(0)
    centres = rng.standard_normal((40, 24))
    X = centres[rng.randint(0, 40, 4000)] + rng.standard_normal((4000, 24))
    monkeypatch.setattr(distinct, "_ROWS", 500)
    exact = FaissKNeighborsTransformer(20, algorithm="exact").fit_transform(X)
    lists = FaissKNeighborsTransformer(20, algorithm="ivf", random_state=0)
    found = lists.fit_transform(lazy(X, 900))
    recall = (found.multiply(exact) > 0).sum() / (exact.data > 0).sum()
    assert lists.algorithm_ == "ivf"
    assert 0.95 <= lists.knn_recall_ < 1
    assert recall == pytest.approx(lists.knn_recall_, abs=0.02)
    # Of another number of shards, all but the same.
    monkeypatch.setattr(distinct, "_ROWS", 4000)
    whole = FaissKNeighborsTransformer(20, algorithm="ivf", random_state=0)
    one = whole.fit_transform(lazy(X))
    assert (one.multiply(found) > 0).sum() > 0.99 * (one.data > 0).sum()


def test_lists_of_tiny_shards(vectors):
    clusterer = MutualKNNLeiden(60, algorithm="ivf", random_state=0)
    exact = MutualKNNLeiden(60, algorithm="exact", random_state=0).fit(vectors)
    clusterer.fit(lazy(vectors))
    assert clusterer.knn_recall_ >= 0.95
    assert clusterer.n_clusters_ == exact.n_clusters_


@pytest.mark.parametrize(("most", "algorithm"), [(0.0, "exact"), (1.0, "ivf")])
def test_auto_chooses_as_for_arrays(monkeypatch, vectors, most, algorithm):
    monkeypatch.setattr("skleiden._stages.search._EXACT_ROWS", 100)
    monkeypatch.setattr("skleiden._stages.search._EXACT_SHARE", most)
    there = MutualKNNLeiden(15, random_state=0).fit(lazy(vectors))
    assert there.algorithm_ == algorithm
    assert MutualKNNLeiden(15, random_state=0).fit(vectors).algorithm_ == algorithm


def test_shards_grow_with_the_root_of_what_is_beyond_many():
    size = 4 * 256  # bytes a row
    assert distinct.rows_of_blocks(100, 256) == 50
    assert distinct.rows_of_blocks(8_000, 256) == 1_000
    assert distinct.rows_of_blocks(10**7, 256) == 2**27 // size
    assert distinct.rows_of_blocks(4 * 2**34 // size, 256) == 2 * 2**27 // size
    assert distinct.rows_of_blocks(10**9, 256) < 10**9 // 512


@pytest.fixture
def pipeline():
    return make_pipeline(
        MultiLayerTfidfSketcher(16, random_state=0), MutualKNNLeiden(15, random_state=0)
    )


def test_pipeline(pipeline, dense):
    there = clone(pipeline)
    expected = pipeline.fit_predict(dense)
    assert_array_equal(there.fit_predict(of_layers(lazy, dense)), expected)
    assert_array_equal(there.predict(dense[:50]), pipeline.predict(dense[:50]))


def test_search_and_profile_take_dask_arrays(pipeline, dense):
    X = of_layers(lazy, dense)

    def search(X):
        return GridSearchCV(
            pipeline,
            {"mutualknnleiden__resolution": [0.5, 2.0]},
            scoring=make_stability_scorer(n_runs=2),
            cv=FullDataSplit(),
        ).fit(X)

    here, there = search(dense), search(X)
    assert_array_equal(
        there.cv_results_["mean_test_score"], here.cv_results_["mean_test_score"]
    )
    sweep = partial(
        resolution_profile, pipeline, resolutions=[0.5, 2.0], n_runs=2, n_permutations=0
    )
    assert_array_equal(sweep(X).partitions(2.0), sweep(dense).partitions(2.0))


def test_null_of_dask_arrays_is_made_by_the_workers(pipeline, dense, monkeypatch):
    X = of_layers(lazy, dense)
    monkeypatch.setattr("skleiden._blocks.dask._COLUMN_BYTES", 2**16)  # several blocks
    there, here = (permute_columns(of, random_state=0) for of in (X, dense))
    for found, expected, given in zip(there.layers, here.layers, X.layers, strict=True):
        assert found.chunks == given.chunks
        assert_array_equal(found.compute(), expected)
    one = permute_columns(X.layers[0], random_state=0)
    assert_array_equal(one, permute_columns(dense.layers[0], random_state=0))
    as_sparse = LayerStack([sp.csr_array(layer) for layer in dense.layers])
    sparse = permute_columns(of_layers(lazy_sparse, as_sparse), random_state=0)
    expected = permute_columns(as_sparse, random_state=0)
    for found, layer in zip(sparse.layers, expected.layers, strict=True):
        assert sp.issparse(found.blocks[0].compute())
        assert_array_equal(
            sp.vstack([b.compute() for b in found.blocks]).toarray(), layer.toarray()
        )
    sweep = partial(
        resolution_profile, pipeline, resolutions=[2.0], n_runs=2, n_permutations=1
    )
    for name, values in sweep(dense).table.items():
        if name != "seconds":
            assert_array_equal(sweep(X).table[name], values)


def test_rows_of_a_stack_stay_lazy(dense):
    X = of_layers(lazy, dense)
    some = X[[3, 1, 390]]
    assert all(isinstance(layer, da.Array) for layer in some.layers)
    assert_array_equal(some.layers[0].compute(), dense.layers[0][[3, 1, 390]])
    assert pickle.loads(pickle.dumps(X)).shape == dense.shape


def test_pickles_and_files_keep_a_fit(vectors, tmp_path):
    """Without a cluster the vectors are here; with one, see test_dask.py."""
    clusterer = MutualKNNLeiden(15, random_state=0).fit(lazy(vectors))
    save_estimator(tmp_path / "clusterer.npz", clusterer)
    for copy in (
        pickle.loads(pickle.dumps(clusterer)),
        load_estimator(tmp_path / "clusterer.npz"),
    ):
        assert_array_equal(copy.labels_, clusterer.labels_)
        assert (copy.affinity_matrix_ != clusterer.affinity_matrix_).nnz == 0
        assert_array_equal(copy.predict(vectors), clusterer.predict(vectors))


def test_dask_frames_are_refused():
    class DataFrame:  # as dask.dataframe, which needs pandas of its own version
        def to_dask_array(self):
            """What tells one."""

    DataFrame.__module__ = "dask.dataframe"
    message = r"must be a Dask array; got a Dask DataFrame\. Convert .*to_dask_array"
    for call in (
        MutualKNNLeiden().fit,
        MultiLayerTfidfSketcher().fit,
        FaissKNeighborsTransformer().fit,
        lambda X: LayerStack({"a": X}),
    ):
        with pytest.raises(TypeError, match=message):
            call(DataFrame())


def test_progress_names_the_stages(vectors, capsys):
    MutualKNNLeiden(15, random_state=0, verbose=1).fit(lazy(vectors))
    told = capsys.readouterr().err
    for stage in ("Vectors", "Neighbors (exact, 36 pairs of 8 shards)", "Leiden"):
        assert stage in told


def with_value(matrix, value):
    changed = matrix.astype(np.float64)
    changed[270, 3] = value
    return lazy(changed)


REFUSED = [
    (ValueError, r"contains NaN between rows 250 and 299", np.nan),
    (ValueError, r"contains infinity between rows 250 and 299", np.inf),
]


@pytest.mark.parametrize(("error", "message", "value"), REFUSED)
def test_values_that_are_not_finite(vectors, error, message, value):
    clusterer = MutualKNNLeiden(15, random_state=0).fit(vectors)
    before = vars(clusterer).copy()
    with pytest.raises(error, match=message):
        clusterer.fit(with_value(vectors, value))
    assert vars(clusterer) == before


def test_layers_that_are_not_finite(dense):
    layers = [*map(lazy, dense.layers[:2]), with_value(dense.layers[2], np.nan)]
    message = r"contains NaN in layer 'layer_2', between rows 260 and 389"
    with pytest.raises(ValueError, match=message):
        MultiLayerTfidfSketcher(16).fit(LayerStack(layers))


def test_values_that_overflow(dense):
    large = dense.layers[1].astype(np.float64)
    large *= 1.7e308 / large.max()
    layers = [lazy(dense.layers[0]), lazy(large)]
    with pytest.raises(ValueError, match=r"of column \d+ of X, with values up to \d"):
        MultiLayerTfidfSketcher(16, weighting="zscore").fit(LayerStack(layers))


UNSUITABLE = {
    "hnsw": (
        lambda X: MutualKNNLeiden(algorithm="hnsw").fit(X),
        ValueError,
        "algorithm='hnsw' is not available for a Dask array",
    ),
    "precomputed": (
        lambda X: MutualKNNLeiden(metric="precomputed").fit(X),
        TypeError,
        "takes a graph in memory; got a Dask array",
    ),
    "unknown rows": (
        lambda X: MutualKNNLeiden().fit(X[X[:, 0] > 0]),
        ValueError,
        r"X is a Dask array of unknown length; got chunks of .*compute_chunk_sizes",
    ),
    "unknown rows of a layer": (
        lambda X: LayerStack({"a": X[X[:, 0] > 0]}),
        ValueError,
        "Layer 'a' is a Dask array of unknown length",
    ),
    "one dimension": (
        lambda X: MutualKNNLeiden().fit(X[:, 0]),
        ValueError,
        "Expected 2D array, got 1D Dask array",
    ),
    "one row": (
        lambda X: MutualKNNLeiden().fit(X[:1]),
        ValueError,
        r"Dask array with shape \(1, 96\) while at least 2 rows",
    ),
    "complex": (
        lambda X: MutualKNNLeiden().fit(X.astype(complex)),
        TypeError,
        "X must hold real numbers; got dtype complex128",
    ),
    "sparse blocks": (
        lambda X: MutualKNNLeiden().fit(X.map_blocks(sp.csr_array)),
        TypeError,
        "Sparse blocks of X were passed, but dense data are required",
    ),
    "other columns": (
        lambda X: MutualKNNLeiden(5).fit(X).predict(X[:, :5]),
        ValueError,
        "X has 5 features, but MutualKNNLeiden is expecting 96 features",
    ),
    "some layers": (
        lambda X: LayerStack({"a": X, "b": np.ones((400, 2))}),
        TypeError,
        r"Either all layers or none must be Dask arrays; got Dask arrays for \['a'\]",
    ),
    "out": (
        lambda X: MultiLayerTfidfSketcher(4).fit_transform(X, out=np.empty((400, 4))),
        TypeError,
        "out is not for Dask arrays, whose embedding is lazy",
    ),
    "inspection": (
        lambda X: top_features(LayerStack([X]), np.zeros(400, dtype=int)),
        TypeError,
        "X must be layers in memory or in files here; got Dask arrays",
    ),
    "widths": (
        lambda X: MultiLayerTfidfSketcher(4, layers=[3, 4]).fit(X),
        ValueError,
        "add up to the columns of X",
    ),
}


@pytest.mark.parametrize("case", UNSUITABLE)
def test_what_is_refused(embedding, case):
    call, error, message = UNSUITABLE[case]
    with pytest.raises(error, match=message):
        call(lazy(embedding))


def test_too_little_memory_is_named(vectors, monkeypatch):
    def fail(*_):
        raise MemoryError("Unable to allocate 7. TiB")

    monkeypatch.setattr(search_stage, "_within", fail)
    message = (
        r"too little memory in stage 'Neighbors .*': Unable to allocate 7. TiB\. Give"
    )
    with pytest.raises(MemoryError, match=message):
        MutualKNNLeiden(15).fit(lazy(vectors))
