"""What is Dask's own: chunks of any form, laziness, shards, pickles and refusals.

That Dask arrays give what arrays give is shown by the ordinary tests of the estimators,
which run on both by the fixture `place`.
"""

import pickle
from functools import cache, partial

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

pytestmark = pytest.mark.usefixtures("workers")


def lazy(matrix, rows=130, columns=-1):
    return da.from_array(matrix, chunks=(rows, columns))


def lazy_sparse(matrix, rows=130):
    return lazy(matrix.toarray(), rows).map_blocks(sp.csr_array)


@pytest.fixture(scope="module")
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


@pytest.fixture(scope="module")
def fit_here(dense):
    """Fit a sketcher on so many rows of arrays, once: it, they and their embedding."""

    @cache
    def fit(n, dtype, layer_weights, weighting):
        here = of_layers(lambda m: m.astype(dtype), dense[:n])
        sketcher = MultiLayerTfidfSketcher(
            16, layer_weights=layer_weights, weighting=weighting, random_state=0
        )
        return sketcher, here, sketcher.fit_transform(here)

    return fit


@pytest.mark.parametrize("stored", STORED)
@pytest.mark.parametrize("weighting", ["idf", "zscore"])
def test_embedding_is_that_of_arrays(dense, fit_here, stored, weighting):
    X = STORED[stored](dense)
    dtype = np.float16 if stored == "half" else dense.dtype
    # Layers are judged by rows that are brought here, whatever their weighting.
    weights = "auto" if weighting == "idf" or stored == "dense" else None
    sketcher, here, expected = fit_here(len(X), dtype, weights, weighting)
    there = clone(sketcher)
    found = there.fit_transform(X)
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
    sketcher = MultiLayerTfidfSketcher(
        16, layers=dense.widths, layer_weights=None, random_state=0
    ).fit(X)
    assert len(reads) == 4
    embedding = sketcher.transform(X)
    assert len(reads) == 4  # it is lazy
    expected = MultiLayerTfidfSketcher(16, random_state=0).fit_transform(dense)
    assert_array_equal(embedding.compute(), expected)


FITS = [
    {},
    {"graph": "union", "weights": "uniform"},
    {"weights": "jaccard"},
    {"graph": "union", "weights": "umap"},
    {"resolution": 4.0, "min_cluster_size": 12},
    {"n_neighbors": 399},
    {"n_neighbors": 1, "min_cluster_size": 1},
]


@pytest.mark.parametrize("parameters", FITS, ids=str)
def test_all_that_is_fitted_is_that_of_arrays(vectors, parameters):
    here = MutualKNNLeiden(15, random_state=0).set_params(**parameters)
    there = clone(here).fit(lazy(vectors))
    here.fit(vectors)
    check_fits_are_equal(there, here)
    assert there._distinct.vectors.blocks[1:], "there is but one shard"


def check_fits_are_equal(there, here):
    """Bit by bit."""
    found, expected = vars(there).copy(), vars(here).copy()
    assert found.keys() == expected.keys()
    graphs = [of.pop("affinity_matrix_") for of in (found, expected)]
    for part in ("data", "indices", "indptr"):
        assert_array_equal(*(getattr(graph, part) for graph in graphs))
    there, here = (of.pop("_distinct") for of in (found, expected))
    there = there._replace(vectors=there.vectors.gather())
    for of_there, of_here in zip(there, here, strict=True):
        assert_array_equal(of_there, of_here)
    for name, value in expected.items():
        assert_array_equal(found[name], value, err_msg=name)


@pytest.mark.parametrize(("rows", "columns"), [(1, -1), (77, 5), (399, -1), (400, 7)])
def test_vectors_in_any_chunks(vectors, rows, columns):
    here = MutualKNNLeiden(15, random_state=0).fit(vectors)
    there = MutualKNNLeiden(15, random_state=0).fit(lazy(vectors, rows, columns))
    check_fits_are_equal(there, here)


def test_prediction_is_that_of_arrays(vectors):
    rng = np.random.RandomState(0)
    queries = np.vstack([vectors, rng.standard_normal((50, vectors.shape[1]))])
    here = MutualKNNLeiden(15, random_state=0).fit(vectors)
    there = MutualKNNLeiden(15, random_state=0).fit(lazy(vectors))
    expected = here.predict(queries)
    assert_array_equal(there.predict(queries), expected)
    assert_array_equal(there.predict(lazy(queries, 70)), expected)
    assert_array_equal(here.predict(lazy(queries, 70)), expected)


def test_lists_of_fewer_shards_are_all_but_the_same(monkeypatch):
    rng = np.random.RandomState(0)
    centres = rng.standard_normal((40, 24))
    X = lazy(centres[rng.randint(0, 40, 4000)] + rng.standard_normal((4000, 24)), 900)
    lists = FaissKNeighborsTransformer(20, algorithm="ivf", random_state=0)
    graphs = []
    for rows, n_shards in ((1, 4), (4000, 1)):
        monkeypatch.setattr(distinct, "_ROWS", rows)
        graphs.append(lists.fit_transform(X))
        assert len(lists._distinct.vectors.blocks) == n_shards
        assert 0.95 <= lists.knn_recall_ < 1
    found, one = graphs
    assert (one.multiply(found) > 0).sum() > 0.99 * (one.data > 0).sum()


@pytest.mark.parametrize(("most", "algorithm"), [(0.0, "exact"), (1.0, "ivf")])
def test_auto_chooses_as_for_arrays(monkeypatch, vectors, most, algorithm):
    monkeypatch.setattr("skleiden._stages.search._EXACT_ROWS", 100)
    monkeypatch.setattr("skleiden._stages.search._EXACT_SHARE", most)
    there = MutualKNNLeiden(15, random_state=0).fit(lazy(vectors))
    assert there.algorithm_ == algorithm
    assert MutualKNNLeiden(15, random_state=0).fit(vectors).algorithm_ == algorithm


def test_shards_grow_with_the_root_of_what_is_beyond_many():
    size = 4 * 256  # bytes a row
    assert distinct.rows_of_blocks(3, 256) == 1
    assert distinct.rows_of_blocks(8_000, 256) == 2_000
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
    pipeline.set_params(multilayertfidfsketcher__layer_weights=None)

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
    pipeline.set_params(multilayertfidfsketcher__layer_weights=None)
    sweep = partial(
        resolution_profile, pipeline, resolutions=[2.0], n_runs=2, n_permutations=1
    )
    swept = sweep(X).table
    for name, values in sweep(dense).table.items():
        if name != "seconds":
            assert_array_equal(swept[name], values)


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
    for stage in ("Vectors", "Neighbors (exact, 10 pairs of 4 shards)", "Leiden"):
        assert stage in told


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
