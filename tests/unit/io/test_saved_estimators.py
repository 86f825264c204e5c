"""Fitted estimators in files: pickle, joblib, and a format that runs nothing."""

import copy
import io
import json
import os
import pickle
import re
import subprocess
import sys
import zipfile
from pathlib import Path

import joblib
import numpy as np
import pytest
import scipy.sparse as sp
from numpy.testing import assert_array_equal
from sklearn.base import clone
from sklearn.cluster import KMeans
from sklearn.compose import make_column_transformer
from sklearn.decomposition import PCA, TruncatedSVD
from sklearn.feature_extraction.text import TfidfTransformer
from sklearn.feature_selection import VarianceThreshold
from sklearn.impute import SimpleImputer
from sklearn.pipeline import Pipeline, make_pipeline, make_union
from sklearn.preprocessing import (
    Binarizer,
    FunctionTransformer,
    MaxAbsScaler,
    MinMaxScaler,
    Normalizer,
    RobustScaler,
    StandardScaler,
)
from sklearn.utils import get_tags

from skleiden import (
    FaissKNeighborsTransformer,
    LayerStack,
    MultiLayerTfidfSketcher,
    MutualKNNLeiden,
)
from skleiden._sklearn_steps import STEPS
from skleiden.io import load_estimator, save_estimator
from skleiden.model_selection import StableLeiden
from tests import attack_saved_estimators as attack
from tests.checks import check_fitted

pytestmark = pytest.mark.slow

# Saved by version 0.1.0, and never to be written again: later versions load it.
OLD = Path(__file__).parents[2] / "pipeline-0.1.0.npz"

WAYS = {
    "own": (save_estimator, load_estimator),
    "joblib": (lambda path, e: joblib.dump(e, path), joblib.load),
    "pickle": (
        lambda path, e: path.write_bytes(pickle.dumps(e)),
        lambda path: pickle.loads(path.read_bytes()),
    ),
}


def sketcher(**parameters):
    """A sketcher with equal weights, which take no time to find."""
    usual = {"n_components": 16, "layer_weights": None, "random_state": 0}
    return MultiLayerTfidfSketcher(**usual | parameters)


def rows_of_nothing(X):
    return 0 * X


def leiden(**parameters):
    return MutualKNNLeiden(**{"n_neighbors": 10, "random_state": 0} | parameters)


ESTIMATORS = {
    "pipeline": lambda: make_pipeline(sketcher(layer_weights="auto"), leiden()),
    "zscore": lambda: make_pipeline(
        sketcher(weighting="zscore", layer_weights=[1, 2.5, 0], dtype=np.float64),
        leiden(algorithm="ivf", graph="union", weights="umap"),
    ),
    "generator": lambda: make_pipeline(
        sketcher(random_state=np.random.RandomState(3)),
        leiden(random_state=np.random.RandomState(4), small_clusters="noise"),
    ),
    "graph": lambda: make_pipeline(
        sketcher(dtype="float32", n_components=(8, 16, 8)),
        FaissKNeighborsTransformer(10),
        leiden(metric="precomputed"),
    ),
    "runs": lambda: StableLeiden(
        make_pipeline(sketcher(), leiden()), n_runs=2, random_state=0
    ),
}


@pytest.fixture(params=WAYS)
def way(request):
    return WAYS[request.param]


@pytest.mark.parametrize("name", ESTIMATORS)
def test_loaded_estimators_do_the_same(tmp_path, stack, way, name):
    save, load = way
    fitted = ESTIMATORS[name]().fit(stack[:300])
    save(tmp_path / "saved.npz", fitted)
    loaded = load(tmp_path / "saved.npz")
    if name != "generator":  # whose repr is an address
        assert repr(loaded) == repr(fitted)
    last = fitted if name == "runs" else fitted[-1]
    again = loaded if name == "runs" else loaded[-1]
    assert_array_equal(again.labels_, last.labels_)
    assert vars(again).keys() == vars(last).keys()
    assert_array_equal(loaded.predict(stack), fitted.predict(stack))
    if name != "runs":
        assert_array_equal(loaded[0].transform(stack), fitted[0].transform(stack))
    refitted = clone(loaded).fit(stack[:300])
    assert_array_equal(
        refitted.predict(stack), clone(fitted).fit(stack[:300]).predict(stack)
    )


def test_partial_fit_goes_on(tmp_path, stack, way):
    save, load = way
    first = sketcher().partial_fit(stack[:100])
    save(tmp_path / "saved.npz", first)
    loaded = load(tmp_path / "saved.npz").partial_fit(stack[100:])
    assert_array_equal(loaded.idf_, sketcher().fit(stack).idf_)


def test_estimators_that_are_not_fitted(tmp_path, way):
    save, load = way
    save(tmp_path / "saved.npz", leiden(resolution=0.1 + 0.2))
    loaded = load(tmp_path / "saved.npz")
    assert loaded.get_params() == leiden(resolution=0.1 + 0.2).get_params()


def test_frame_with_names(tmp_path, blobs):
    pd = pytest.importorskip("pandas")
    frame = pd.DataFrame(blobs[0], columns=list("abcde"))
    save_estimator(tmp_path / "saved.npz", leiden().fit(frame))
    loaded = load_estimator(tmp_path / "saved.npz")
    assert loaded.feature_names_in_.tolist() == list("abcde")
    assert loaded.predict(frame).shape == (90,)


def test_another_process_predicts_the_same(tmp_path, stack):
    fitted = make_pipeline(sketcher(), leiden()).fit(stack)
    save_estimator(tmp_path / "saved.npz", fitted)
    joblib.dump(stack, tmp_path / "stack.joblib")
    code = (
        "import joblib, numpy as np; from skleiden.io import load_estimator; "
        "labels = load_estimator('saved.npz').predict(joblib.load('stack.joblib')); "
        "np.save('labels.npy', labels)"
    )
    subprocess.run([sys.executable, "-c", code], cwd=tmp_path, check=True)
    assert_array_equal(np.load(tmp_path / "labels.npy"), fitted.predict(stack))


def test_file_of_version_0_1_0():
    loaded = load_estimator(OLD)
    with np.load(OLD.with_name("pipeline-0.1.0-rows.npz")) as rows:
        assert_array_equal(loaded.predict(rows["X"]), rows["labels"])
        np.testing.assert_allclose(
            loaded[0].transform(rows["X"]), rows["embedding"], atol=1e-6
        )
    assert loaded[-1].resolution == 1.5


@pytest.mark.parametrize(
    ("estimator", "message"),
    [
        (object(), r"takes one of \['Binarizer', .* got object"),
        (
            make_pipeline(leiden(), sketcher(), leiden(verbose=1j)),
            r"Pipeline\.steps\['mutualknnleiden-2'\]\.verbose is a complex, which",
        ),
        (
            leiden(random_state=np.random.default_rng(0)),
            r"MutualKNNLeiden\.random_state is a Generator",
        ),
        (
            make_pipeline(StandardScaler(), KMeans(2), leiden()),
            r"Pipeline\.steps\['kmeans'\] is a KMeans, which the file cannot hold",
        ),
        (
            make_pipeline(make_column_transformer((PCA(2), [0])), leiden()),
            r"Pipeline\.steps\['columntransformer'\] is a ColumnTransformer",
        ),
        (
            make_pipeline(make_union(PCA(2), KMeans(2)), leiden()),
            r"\.steps\['featureunion'\]\.transformer_list\['kmeans'\] is a KMeans",
        ),
        (
            make_pipeline(FunctionTransformer(rows_of_nothing), leiden()),
            r"Pipeline\.steps\['functiontransformer'\]\.func is a function",
        ),
        (
            make_pipeline(PCA(2, random_state=np.random.default_rng(0)), leiden()),
            r"Pipeline\.steps\['pca'\]\.random_state is a Generator",
        ),
        (
            sketcher(layer_weights={1: 2.0}),
            r"MultiLayerTfidfSketcher\.layer_weights is a dict",
        ),
    ],
)
def test_what_cannot_be_saved_leaves_no_file(tmp_path, estimator, message):
    with pytest.raises(TypeError, match=message):
        save_estimator(tmp_path / "saved.npz", estimator)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("edit", "message"),
    [
        (lambda d: d | {"schema_version": 9}, r"version 9; .* reads 1\. Install the"),
        (lambda d: d | {"format": "other"}, "does not hold an estimator, or is broken"),
        (lambda _: [], "does not hold an estimator"),
        (lambda d: d | {"estimator": {"estimator": "Popen", "state": {}}}, "'Popen'"),
        (lambda d: d | {"estimator": {"eval": "1"}}, "'eval' is not of a known kind"),
        (lambda d: d | {"estimator": {"array": "array_99"}}, "array_99"),
    ],
)
def test_files_that_are_refused(tmp_path, blobs, edit, message):
    path = tmp_path / "saved.npz"
    save_estimator(path, leiden().fit(blobs[0]))
    arrays, document = attack.read(path)
    attack.write(path, arrays, edit(document))
    with pytest.raises(ValueError, match=message):
        load_estimator(path)


@pytest.mark.parametrize("kept", [0.1, 0.5, 0.99])
def test_truncated_files(tmp_path, blobs, kept):
    path = tmp_path / "saved.npz"
    save_estimator(path, leiden().fit(blobs[0]))
    whole = path.read_bytes()
    path.write_bytes(whole[: int(len(whole) * kept)])
    with pytest.raises(ValueError, match="is broken or truncated"):
        load_estimator(path)


def test_pickles_are_not_loaded(tmp_path):
    path = tmp_path / "saved.npz"
    path.write_bytes(pickle.dumps(leiden()))
    with pytest.raises(ValueError, match="it is a pickle") as caught:
        load_estimator(path)
    assert "allow_pickle" not in str(caught.value)
    np.savez(path, document=np.array([leiden()], dtype=object))
    with pytest.raises(ValueError, match="does not hold an estimator"):
        load_estimator(path)


# --- states that fit makes ------------------------------------------------------------


def rows(n=60, d=6, seed=0):
    rng = np.random.RandomState(seed)
    return 4 * np.eye(d)[np.arange(n) % 3] + rng.standard_normal((n, d))


def some(*odd):
    """Rows of which some are zero, equal to others, or both."""
    X = rows()
    if "zero" in odd:
        X[[0, 7, 59]] = 0
    if "equal" in odd:
        X[30:45] = X[5]
        X[50:] = X[6]
    return X


def graph_of(X, k=8):
    return FaissKNeighborsTransformer(k).fit_transform(X)


STATES = {
    "zero rows": lambda: leiden().fit(some("zero")),
    "equal rows": lambda: leiden().fit(some("equal")),
    "zero and equal rows": lambda: leiden().fit(some("zero", "equal")),
    "all equal": lambda: leiden().fit(np.ones((9, 2))),
    "all zero": lambda: leiden().fit(np.zeros((9, 2))),
    "all noise": lambda: leiden(min_cluster_size=61).fit(rows()),
    "two rows": lambda: leiden().fit(rows(2)),
    "one column": lambda: leiden().fit(rows()[:, :1]),
    "no edge": lambda: leiden().fit(np.eye(6)),
    "subnormal": lambda: leiden().fit(rows() * 1e-310),
    "float32": lambda: leiden().fit(rows().astype("f4")),
    **{
        f"{graph} {weights}": lambda g=graph, w=weights: leiden(
            graph=g, weights=w, n_neighbors=4
        ).fit(some("zero", "equal"))
        for graph in ("mutual", "union")
        for weights in ("similarity", "uniform", "jaccard", "umap")
    },
    **{
        objective: lambda o=objective: leiden(objective=o, n_neighbors=5).fit(rows())
        for objective in ("modularity", "cpm", "rber", "surprise", "significance")
    },
    **{
        f"{small} of many": lambda s=small: leiden(
            small_clusters=s, resolution=3.0, n_neighbors=3
        ).fit(some("equal"))
        for small in ("attach", "noise", "keep")
    },
    **{
        algorithm: lambda a=algorithm: leiden(algorithm=a).fit(rows())
        for algorithm in ("exact", "ivf", "hnsw")
    },
    **{
        f"precomputed {weights}": lambda w=weights: leiden(
            metric="precomputed", n_neighbors=4, weights=w
        ).fit(graph_of(some("zero", "equal")))
        for weights in ("similarity", "uniform", "jaccard", "umap")
    },
    "precomputed dense": lambda: leiden(metric="precomputed").fit(
        np.clip(1 - np.corrcoef(rows()), 0, 2)
    ),
    "transformer": lambda: FaissKNeighborsTransformer(5).fit(some("zero", "equal")),
    "connectivity": lambda: FaissKNeighborsTransformer(5, mode="connectivity").fit(
        rows()
    ),
    **{
        f"{weighting} {kind}": lambda w=weighting, X=X: sketcher(
            weighting=w, power=0.5, zero_tol=0.5, smooth_idf=False
        ).fit(X)
        for weighting in ("auto", "idf", "zscore", "none")
        for kind, X in (
            ("zero rows", some("zero")),
            ("constant columns", np.ones((7, 3))),
            ("no entry", np.zeros((4, 3))),
            ("one row", rows(1)),
        )
    },
    "partial_fit": lambda: (
        sketcher(weighting="zscore").partial_fit(rows(5)).partial_fit(rows(9, seed=1))
    ),
    "another fit": lambda: (
        sketcher(weighting="zscore")
        .fit(rows(5))
        .set_params(weighting="idf")
        .fit(some("zero"))
    ),
    "centred": lambda: sketcher(weighting="none", center=True).fit(rows()),
    "weights that are found": lambda: sketcher(layer_weights="auto").fit(
        LayerStack([rows(), np.abs(rows())])
    ),
    "one layer of each": lambda: sketcher(center=True, power=0.5).fit(
        LayerStack([rows(), np.abs(rows())])
    ),
    "parameters set afterwards": lambda: (
        make_pipeline(sketcher(), leiden())
        .fit(rows())
        .set_params(
            mutualknnleiden__n_neighbors=3, multilayertfidfsketcher__n_components=2
        )
    ),
    "set_output": lambda: make_pipeline(
        sketcher().set_output(transform="default"), leiden()
    ).fit(rows()),
    "passthrough": lambda: make_pipeline("passthrough", None, leiden()).fit(rows()),
    "nested": lambda: make_pipeline(make_pipeline(sketcher()), leiden()).fit(rows()),
    "in part": lambda: make_pipeline(sketcher().fit(rows()), leiden()),
    "runs of the default": lambda: StableLeiden(n_runs=2, random_state=0).fit(rows()),
    "runs of runs": lambda: StableLeiden(
        StableLeiden(leiden(), n_runs=2), n_runs=2, random_state=0
    ).fit(rows()),
    "step of runs": lambda: make_pipeline(
        sketcher(), StableLeiden(leiden(), n_runs=3, random_state=0)
    ).fit(some("zero", "equal")),
    "runs that are noise": lambda: StableLeiden(
        leiden(min_cluster_size=61), n_runs=2, random_state=0
    ).fit(rows()),
}


def outcome(estimator, X):
    """What a fitted estimator makes of rows."""
    if hasattr(estimator, "predict"):
        return estimator.predict(X)
    made = estimator.transform(X)
    return made.toarray() if hasattr(made, "toarray") else made


def assert_comes_back(path, estimator, X):
    save_estimator(path, estimator)
    loaded = load_estimator(path)
    assert vars(loaded).keys() == vars(estimator).keys()
    check_fitted(loaded)
    assert_array_equal(outcome(loaded, X), outcome(estimator, X))


@pytest.mark.filterwarnings("ignore:No community has min_cluster_size")
@pytest.mark.parametrize("name", STATES)
@pytest.mark.filterwarnings("ignore:weighting='idf' weights nothing:UserWarning")
def test_every_state_that_fit_makes_comes_back(tmp_path, name):
    """The statements about fitted states are those of new ones, too."""
    fitted = STATES[name]()
    if name == "in part":
        save_estimator(tmp_path / "saved.npz", fitted)
        fitted = load_estimator(tmp_path / "saved.npz").fit(rows())
    check_fitted(fitted)
    n_columns = getattr(fitted, "n_features_in_", 6)  # "passthrough" has none
    X = np.eye(n_columns)
    if not name.startswith("precomputed") and n_columns <= 6:
        X = rows(5, seed=2)[:, :n_columns]
    assert_comes_back(tmp_path / "saved.npz", fitted, X)


def test_memory_map(tmp_path):
    np.save(tmp_path / "x.npy", rows().astype("f4"))
    fitted = leiden().fit(np.load(tmp_path / "x.npy", mmap_mode="r"))
    check_fitted(fitted)
    assert_comes_back(tmp_path / "saved.npz", fitted, rows(5))


def test_rows_on_workers(tmp_path):
    da = pytest.importorskip("dask.array")
    X = some("zero", "equal").astype("f4")
    fitted = leiden().fit(da.from_array(X, chunks=(20, 6)))
    save_estimator(tmp_path / "saved.npz", fitted)
    loaded = load_estimator(tmp_path / "saved.npz")
    check_fitted(loaded)
    assert_array_equal(loaded.predict(X), leiden().fit(X).predict(X))


# --- steps of scikit-learn ------------------------------------------------------------


def gappy():
    X = np.abs(rows())
    X[[3, 7], [2, 0]] = np.nan
    X[:, 4] = np.nan
    return X


def low():
    """Rows of fewer dimensions than columns, one of which is constant."""
    X = np.abs(rows())
    X[:, 3:5] = X[:, :2]
    X[:, 5] = 3
    return X


# Each with the rows that it is fitted on.
FORMS = {
    "float64": lambda: np.abs(rows()),
    "float32": lambda: np.abs(rows()).astype("f4"),
    "CSR": lambda: sp.csr_array(np.abs(some("zero"))),
    "low": low,
}
TRANSFORMERS = {
    "StandardScaler": StandardScaler,
    "without mean": lambda: StandardScaler(with_mean=False),
    "without deviation": lambda: StandardScaler(with_std=False),
    "neither": lambda: StandardScaler(with_mean=False, with_std=False),
    "MinMaxScaler": MinMaxScaler,
    "range": lambda: MinMaxScaler((-1, 2), clip=True),
    "MaxAbsScaler": MaxAbsScaler,
    "RobustScaler": RobustScaler,
    "not centred": lambda: RobustScaler(with_centering=False),
    "not scaled": lambda: RobustScaler(with_scaling=False),
    "Normalizer": lambda: Normalizer("l1"),
    "Binarizer": lambda: Binarizer(threshold=2.0),
    "function": FunctionTransformer,
    "log1p": lambda: FunctionTransformer(
        np.log1p, np.expm1, validate=True, accept_sparse=True, check_inverse=False
    ),
    "PCA": lambda: PCA(3, whiten=True, random_state=0),
    "share": lambda: PCA(0.9),
    "arpack": lambda: PCA(4, svd_solver="arpack", random_state=0),
    "randomized": lambda: PCA(
        4, svd_solver="randomized", random_state=np.random.RandomState(0)
    ),
    "TruncatedSVD": lambda: TruncatedSVD(3, random_state=0),
    "SVD by arpack": lambda: TruncatedSVD(5, algorithm="arpack", random_state=0),
    "SimpleImputer": SimpleImputer,
    "TfidfTransformer": TfidfTransformer,
    "without idf": lambda: TfidfTransformer(use_idf=False, sublinear_tf=True),
    "not smooth": lambda: TfidfTransformer(smooth_idf=False),
    "VarianceThreshold": lambda: VarianceThreshold(0.1),
    "union": lambda: make_union(StandardScaler(with_mean=False), TruncatedSVD(2)),
    "union with rows": lambda: make_union("passthrough", MaxAbsScaler()),
    "set_output": lambda: MaxAbsScaler().set_output(transform="default"),
}


def dense(X):
    return X.toarray() if sp.issparse(X) else np.asarray(X)


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("name", TRANSFORMERS)
def test_steps_of_scikit_learn_come_back(tmp_path, name, form):
    X, transformer = FORMS[form](), TRANSFORMERS[name]()
    tags = get_tags(transformer)
    if form == "CSR" and (
        not tags.input_tags.sparse or name in ("StandardScaler", "RobustScaler")
        or name in ("without deviation", "not scaled", "range", "arpack", "share")
    ):  # fmt: skip
        pytest.skip("takes no sparse rows")
    last = make_pipeline(sketcher(n_components=4, weighting="none"), leiden())
    pipeline = make_pipeline(transformer, last).fit(X)
    save_estimator(tmp_path / "saved.npz", pipeline)
    loaded = load_estimator(tmp_path / "saved.npz")
    assert_array_equal(loaded.predict(X), pipeline.predict(X))
    # Of a SimpleImputer, which later versions of scikit-learn ask for.
    assert vars(loaded[0]).keys() - {"_fill_dtype"} == (
        vars(transformer).keys() - {"_fill_dtype"}
    )
    made, expected = (dense(one[0].transform(X)) for one in (loaded, pipeline))
    assert made.dtype == expected.dtype
    # Components that are not in the order of C are summed in another order.
    atol = 1e-5 if hasattr(transformer, "components_") else 0
    np.testing.assert_allclose(made, expected, rtol=0, atol=atol)


@pytest.mark.parametrize(
    "imputer",
    [
        SimpleImputer(),
        SimpleImputer(strategy="constant", fill_value=0),
        SimpleImputer(strategy="most_frequent", keep_empty_features=True),
        SimpleImputer(missing_values=-1, strategy="constant", fill_value=2.5),
    ],
)
@pytest.mark.filterwarnings("ignore:Skipping features without any observed values")
def test_imputers_come_back(tmp_path, imputer):
    X = gappy()
    if imputer.missing_values == -1:
        X = np.nan_to_num(X, nan=-1)
    pipeline = make_pipeline(clone(imputer), StandardScaler(), leiden()).fit(X)
    save_estimator(tmp_path / "saved.npz", pipeline)
    loaded = load_estimator(tmp_path / "saved.npz")
    assert_array_equal(loaded.predict(X), pipeline.predict(X))


def test_indicators_are_refused_by_the_name_of_the_step(tmp_path):
    X = np.delete(gappy(), 4, axis=1)
    pipeline = make_pipeline(SimpleImputer(add_indicator=True), leiden()).fit(X)
    with pytest.raises(
        TypeError, match=r"steps\['simpleimputer'\]\.indicator_ is a Mi"
    ):
        save_estimator(tmp_path / "saved.npz", pipeline)
    pipeline = make_pipeline(
        FunctionTransformer(np.sqrt, kw_args={"where": False}), leiden()
    )
    with pytest.raises(ValueError, match=r"FunctionTransformer\.kw_args must be None"):
        save_estimator(tmp_path / "saved.npz", pipeline)
    assert list(tmp_path.iterdir()) == []


def test_every_transformer_is_tried():
    tried = {type(make()).__name__ for make in TRANSFORMERS.values()}
    assert tried - {"FeatureUnion"} == {kind.__name__ for kind in STEPS}


def test_steps_of_an_older_scikit_learn(tmp_path):
    """It had fewer parameters, and a SimpleImputer no `_fill_dtype`."""
    pipeline = make_pipeline(SimpleImputer(), MaxAbsScaler(), leiden())
    X = np.abs(rows())
    save_estimator(tmp_path / "saved.npz", pipeline.fit(X))
    arrays, document = attack.read(tmp_path / "saved.npz")
    for kind, state in attack.states(document):
        for key in ("clip", "_fill_dtype", "keep_empty_features"):
            if kind != "Pipeline":
                state.pop(key, None)
    attack.write(tmp_path / "old.npz", arrays, document)
    loaded = load_estimator(tmp_path / "old.npz")
    assert_array_equal(loaded.predict(X), pipeline.predict(X))
    assert loaded[0].keep_empty_features is False


def test_callbacks_are_left_out(tmp_path):
    fitted = leiden().fit(rows())
    fitted._skl_callbacks = [object()]
    save_estimator(tmp_path / "saved.npz", fitted)
    assert not hasattr(load_estimator(tmp_path / "saved.npz"), "_skl_callbacks")


def assert_refused(path, folder, attribute, edit, message):
    arrays, document = attack.read(path)
    attack.edit(arrays, document, attribute, edit)
    attack.write(folder / "changed.npz", arrays, document)
    with pytest.raises(ValueError, match=message):
        load_estimator(folder / "changed.npz")


@pytest.mark.parametrize(
    ("attribute", "edit", "message"),
    [
        ("scale_", lambda a: a[:-1], r"scale_ must .* of shape \(6,\)"),
        ("scale_", lambda a: 2 * a, "scale_ must be what the rest of the state"),
        ("scale_", np.zeros_like, "scale_ must"),
        ("var_", lambda a: -a, "var_ must be between 0"),
        ("mean_", lambda a: a * np.nan, "mean_ must be finite"),
        ("mean_", lambda a: a.astype(int), "mean_ must be an array of floats"),
        ("with_std", lambda _: False, "var_ must be None"),
        ("n_samples_seen_", lambda _: -3, "n_samples_seen_ must be a number"),
    ],
)
def test_scalers_that_fit_does_not_make(saved, tmp_path, attribute, edit, message):
    message = rf"StandardScaler\.{message}"
    assert_refused(saved / "scaled.npz", tmp_path, attribute, edit, message)


@pytest.mark.parametrize(
    ("attribute", "edit", "message"),
    [
        ("components_", lambda a: 2 * a, "components_ must be unit vectors at right"),
        ("components_", lambda a: a[:, :-1], "components_ must be an array of shape"),
        ("components_", lambda a: a[:1], "components_ must be an array of shape"),
        ("n_components_", lambda _: 99, "n_components_ must be .* at most 6"),
        ("noise_variance_", lambda _: "x", "noise_variance_ must be a number"),
        ("explained_variance_", lambda a: -a, "explained_variance_ must be between 0"),
        ("_fit_svd_solver", lambda _: 3, "_fit_svd_solver must be a string"),
    ],
)
def test_components_that_fit_does_not_make(saved, tmp_path, attribute, edit, message):
    message = rf"PCA\.{message}"
    assert_refused(saved / "scaled.npz", tmp_path, attribute, edit, message)


@pytest.mark.parametrize(
    ("attribute", "edit", "message"),
    [
        ("feature_range", lambda _: {"tuple": [1, 0]}, "must be two ascending numbers"),
        ("data_max_", lambda a: a + 9, r"MinMaxScaler\.data_range_ must be what the r"),
        ("min_", lambda a: a + 9, r"MinMaxScaler\.min_ must be what the rest of the"),
        ("max_abs_", lambda a: a * 3, r"MaxAbsScaler\.scale_ must be what the rest"),
        ("func", lambda _: {"ufunc": "frompyfunc"}, "'frompyfunc'"),
        (
            "func",
            lambda _: "os.system",
            "FunctionTransformer has a parameter that",
        ),
        ("kw_args", lambda _: {"dict": {"where": False}}, "kw_args must be None: arg"),
        ("statistics_", lambda a: a[1:], r"SimpleImputer\.statistics_ must be an arr"),
        ("_fit_dtype", lambda _: "f8", r"SimpleImputer\._fit_dtype must be a dtype of"),
        ("transformer_weights", lambda _: {"dict": {"x": 1}}, "_weights must be None,"),
        ("n_jobs", lambda _: "x", r"FeatureUnion\.n_jobs must be an integer"),
        ("verbose_feature_names_out", lambda _: 3, "names_out must be a boolean"),
        ("transformer_list", lambda _: {"list": []}, r"transformer_list must be pairs"),
        ("transformer_list", lambda _: {"list": [{"tuple": ["a", "os"]}]}, "got str"),
        (
            "transformer_list",
            lambda tree: {"list": [*tree["list"][:1], *tree["list"][:1]]},
            r"FeatureUnion\.transformer_list must have names that differ|used twice",
        ),
    ],
)
def test_steps_that_fit_does_not_make(saved, tmp_path, attribute, edit, message):
    assert_refused(saved / "steps.npz", tmp_path, attribute, edit, message)


@pytest.mark.parametrize(
    "other",
    [
        StandardScaler(),
        VarianceThreshold(3.0),
        PCA(2),
        make_union("passthrough", PCA(2)),
    ],
)
def test_columns_of_steps_fit_together(tmp_path, other):
    pipeline = make_pipeline(clone(other), leiden()).fit(np.abs(rows()))
    pipeline[0].fit(np.abs(rows(d=9)))
    pipeline[0].set_params(**{"n_components": 3} if isinstance(other, PCA) else {})
    pipeline[0].fit(np.abs(rows(d=9)))
    with pytest.raises(ValueError, match=r"MutualKNNLeiden.n_features_in_ must be the"):
        save_estimator(tmp_path / "saved.npz", pipeline)


# --- states that fit does not make ----------------------------------------------------

SAVED = {
    "steps": lambda: make_pipeline(
        SimpleImputer(),
        make_union(MinMaxScaler(), MaxAbsScaler()),
        FunctionTransformer(np.square),
        leiden(),
    ),
    "scaled": lambda: make_pipeline(StandardScaler(), PCA(4, random_state=0), leiden()),
    "idf": lambda: make_pipeline(
        sketcher(n_components=4, weighting="idf", layer_weights="auto"), leiden()
    ),
    "zscore": lambda: make_pipeline(
        sketcher(weighting="zscore", random_state=np.random.RandomState(3)),
        leiden(graph="union", weights="umap"),
    ),
    "graph": lambda: make_pipeline(
        sketcher(), FaissKNeighborsTransformer(10), leiden(metric="precomputed")
    ),
    "runs": lambda: StableLeiden(
        make_pipeline(sketcher(), leiden()), n_runs=2, random_state=0
    ),
    "rows": leiden,
}


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    """The files of fitted estimators, and the rows that these were fitted on."""
    folder = tmp_path_factory.mktemp("saved")
    for name, make in SAVED.items():
        save_estimator(folder / f"{name}.npz", make().fit(some("zero", "equal")))
    np.save(folder / "rows.npy", some("zero", "equal"))
    return folder


# The files, and the estimators in them whose arrays others have, too.
ATTACKED = {
    "zscore": [],
    "graph": ["MultiLayerTfidfSketcher"],
    "runs": ["MultiLayerTfidfSketcher", "MutualKNNLeiden"],
    "steps": ["MutualKNNLeiden"],
    "scaled": ["MutualKNNLeiden"],
}


def test_changed_arrays_are_refused_or_make_no_difference(saved):
    """Each array in some 25 ways; in a child process, as memory may be overwritten."""
    done = subprocess.run(
        [sys.executable, attack.__file__, "rows.npy", json.dumps(ATTACKED)],
        cwd=saved,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    for name, found in json.loads(done.stdout).items():
        assert found["refused"] > (30 if ATTACKED[name] else 300), name
        assert found["wrong"] == [], name


def first(value):
    return lambda array: attack.put(array, value, 0)


def last(value):
    return lambda array: attack.put(array, value, -1)


SKETCHER, LEIDEN = r"MultiLayerTfidfSketcher\.", r"MutualKNNLeiden\."


@pytest.mark.parametrize(
    ("name", "attribute", "edit", "message"),
    [
        # arrays
        ("idf", "buckets_", first(-1), SKETCHER + "buckets_ must be between 0 and 3"),
        ("idf", "buckets_", last(4), SKETCHER + r"buckets_ .* got 4 at \[5\]"),
        ("idf", "signs_", first(0), SKETCHER + "signs_ must be -1 or 1"),
        ("idf", "signs_", first(-128), SKETCHER + "signs_ must be -1 or 1"),
        ("idf", "df_", first(-1), SKETCHER + "df_ must be what the rest"),
        ("idf", "df", first(55), SKETCHER + "df_ must be what the rest"),
        ("idf", "df", first(61), r"_statistics\.df must be between 0 and 60; got 61"),
        ("idf", "idf_", first(np.nan), SKETCHER + "idf_ must be what the counts"),
        ("idf", "idf_", lambda a: a[:-1], r"idf_ must be an array of shape \(6,\)"),
        ("idf", "layer_weights_", first(0), SKETCHER + "layer_weights_ must not all"),
        ("idf", "layer_weights_", first(np.inf), SKETCHER + "layer_weights_ must be b"),
        ("idf", "mean", lambda _: np.zeros(6), r"_statistics\.mean must .* \(0,\)"),
        ("zscore", "mean_", first(0.5), SKETCHER + "mean_ must be what the rest"),
        ("zscore", "scale_", first(0.5), SKETCHER + "scale_ must be what the counts"),
        ("zscore", "spread", first(-1), r"_statistics\.spread must be between 0"),
        ("zscore", "mean", first(np.nan), r"_statistics\.mean must .* got nan"),
        ("rows", "labels_", lambda a: a + 1, LEIDEN + "labels_ must number commun"),
        ("rows", "labels_", lambda a: -1 - a, LEIDEN + "labels_ must be between -1"),
        ("rows", "labels_", lambda a: np.roll(a, 1), LEIDEN + "labels_ must"),
        ("rows", "labels_", np.zeros_like, LEIDEN + "n_clusters_ must be 1, as the"),
        ("rows", "labels_", lambda a: a + (a > 0), LEIDEN + "labels_ must leave no n"),
        ("rows", "labels_", lambda a: np.sort(a), LEIDEN + "labels_ must be one for"),
        ("rows", "labels_", lambda a: a.astype("i4"), "labels_ must .* dtype int64"),
        ("rows", "attached_", np.ones_like, LEIDEN + "attached_ must be one for rows"),
        ("rows", "attached_", lambda a: a.astype("i1"), "attached_ must .* dtype bool"),
        ("rows", "kth_similarity_", last(np.nan), LEIDEN + "kth_similarity_ .* nan"),
        ("rows", "kth_similarity_", last(-3), LEIDEN + "kth_similarity_ .* got -3"),
        ("rows", "kth_similarity_", first(0), "and inf for zero rows; got one that"),
        ("rows", "vectors", first(np.nan), r"_distinct\.vectors, the squared .* nan"),
        ("rows", "vectors", first(2), r"_distinct\.vectors, the squared length of a r"),
        (
            "rows",
            "vectors",
            np.asfortranarray,
            "vectors must be C-ordered; got strides",
        ),
        ("rows", "vectors", lambda a: a[:, :-1], r"vectors must .* of shape \(\d+, 6"),
        ("rows", "vectors", lambda a: a.astype("f8"), "vectors must .* dtype float32"),
        (
            "rows",
            "vectors",
            lambda a: a[::-1].copy(),
            "be the order of what is in the vec",
        ),
        ("rows", "vectors", lambda a: a[[1, *range(1, len(a))]], "must be distinct"),
        ("rows", "first", lambda a: a[::-1].copy(), r"first must be ascending, a row"),
        ("rows", "first", first(-1), r"_distinct\.first must be between 0 and 59"),
        ("rows", "first", last(60), r"_distinct\.first must be .* got 60"),
        ("rows", "inverse", last(-2), r"_distinct\.inverse must be between -1 and"),
        ("rows", "inverse", last(10**12), r"_distinct\.inverse must be between -1 and"),
        ("rows", "inverse", last(0), r"MutualKNNLeiden\.affinity_matrix_ must join"),
        ("rows", "data", first(0), "affinity_matrix_ must have positive, finite weig"),
        ("rows", "data", first(np.inf), "affinity_matrix_ must have positive, finite"),
        (
            "rows",
            "data",
            lambda a: a[::-1].copy(),
            "affinity_matrix_ must be symmetric",
        ),
        (
            "rows",
            "indices",
            first(-1),
            "is not a valid sparse matrix .* indices must be",
        ),
        ("rows", "indices", last(60), "is not a valid sparse matrix .* got 1 to 60"),
        (
            "rows",
            "indices",
            lambda a: a[::-1].copy(),
            "affinity_matrix_ must be sorted",
        ),
        ("rows", "indptr", last(10**6), "indptr ends at 1000000, beyond the"),
        ("rows", "indptr", first(1), "indptr must start at 0 and never fall"),
        ("rows", "indptr", lambda a: a[:-1], "indptr must have one entry more than th"),
        (
            "runs",
            "confidence_",
            first(1.5),
            r"StableLeiden\.confidence_ must .* got 1.5",
        ),
        ("runs", "labels_", lambda a: a[::-1].copy(), r"StableLeiden\.labels_ must be"),
        # what stands in the document
        (
            "rows",
            "n_clusters_",
            lambda n: n + 1,
            LEIDEN + r"n_clusters_ must be \d+, as",
        ),
        ("rows", "n_isolated_", lambda _: -1, LEIDEN + "n_isolated_ must be"),
        ("rows", "n_components_graph_", lambda n: n - 1, "n_components_graph_ must be"),
        (
            "rows",
            "n_neighbors_",
            lambda _: 0,
            "n_neighbors_ must be an integer of at l",
        ),
        ("rows", "n_neighbors_", lambda _: 60, "at least 1 and at most 59; got 60"),
        ("rows", "n_neighbors_", lambda _: True, "n_neighbors_ must .* got True"),
        ("rows", "n_features_in_", lambda n: n - 1, r"vectors must .* of shape"),
        ("rows", "algorithm_", lambda _: "precomputed", LEIDEN + "algorithm_ must be"),
        (
            "rows",
            "metric",
            lambda _: "precomputed",
            LEIDEN + "algorithm_ must be one o",
        ),
        ("rows", "backend_", lambda _: "os", LEIDEN + "backend_ must be 'igraph'"),
        ("rows", "modularity_", lambda _: 2, LEIDEN + "modularity_ must be a number b"),
        ("rows", "quality_", lambda _: {"float": "nan"}, LEIDEN + "quality_ must be"),
        ("rows", "knn_recall_", lambda _: 0, LEIDEN + "knn_recall_ must be 1.0, as"),
        (
            "graph",
            "n_samples_fit_",
            lambda _: 5,
            r"Transformer\.n_samples_fit_ must be",
        ),
        ("graph", "_n_features_out", lambda _: 5, r"\._n_features_out must be 60"),
        ("idf", "n_samples_seen_", lambda _: 61, SKETCHER + "n_samples_seen_ must be"),
        ("idf", "n_zero_rows_", lambda _: 61, "n_zero_rows_ must .* at most 60"),
        ("idf", "n_zero_rows_", lambda _: 40, "df_ must be between 0 and 20"),
        ("idf", "n_components_", lambda _: {"tuple": [2]}, SKETCHER + "buckets_ must"),
        ("idf", "n_components_", lambda _: {"tuple": [5]}, "be the 5 columns that"),
        (
            "idf",
            "n_components_",
            lambda _: {"tuple": [0]},
            "n_components_ must be an i",
        ),
        ("idf", "layer_widths_", lambda _: {"tuple": [5]}, "add up to 6 columns"),
        ("idf", "layer_widths_", lambda _: {"tuple": [10**15]}, "add up to 6 columns"),
        ("idf", "layer_names_", lambda _: {"tuple": [1]}, "a tuple of 1 different st"),
        ("idf", "dtype", lambda _: {"dtype": "<i4"}, r"dtype must be"),
        ("idf", "_settings", lambda _: None, SKETCHER + "_settings must be Settings"),
        ("idf", "_statistics", lambda _: 1, r"_statistics must be ColumnStatistics"),
        ("runs", "stability_", lambda _: 2, r"StableLeiden\.stability_ must be a numb"),
        ("runs", "estimator_", lambda _: None, r"StableLeiden\.estimator_ must be one"),
        ("runs", "estimator", lambda _: 1, r"StableLeiden has a parameter that is not"),
        ("graph", "steps", lambda _: {"list": []}, r"Pipeline\.steps must be pairs"),
        ("graph", "steps", lambda _: {"list": [3]}, r"Pipeline\.steps must be pairs"),
        (
            "graph",
            "steps",
            lambda steps: {"list": steps["list"][::-1]},
            r"Pipeline\.steps must be transformers but for the last",
        ),
        (
            "graph",
            "steps",
            lambda steps: {"list": steps["list"][:1] * 2},
            r"is missing, or is used twice",
        ),
        (
            "graph",
            "steps",
            lambda _: {"list": [{"tuple": ["a", "os"]}]},
            r"Pipeline\.steps must be one of \['Binarizer', .* got str",
        ),
        (
            "graph",
            "steps",
            lambda steps: {"list": [{"tuple": ["memory", None]}, steps["list"][-1]]},
            r"Pipeline\.steps must have names that differ",
        ),
        ("graph", "transform_input", lambda _: 3, "Pipeline has a parameter that is n"),
        ("rows", "resolution", lambda _: -1, "MutualKNNLeiden has a parameter that"),
        ("rows", "n_neighbors", lambda _: "ten", "MutualKNNLeiden has a parameter"),
        ("rows", "verbose", lambda _: {"list": []}, "MutualKNNLeiden has a parameter"),
    ],
)
def test_states_that_fit_does_not_make(saved, tmp_path, name, attribute, edit, message):
    path = tmp_path / "changed.npz"
    arrays, document = attack.read(saved / f"{name}.npz")
    attack.edit(arrays, document, attribute, edit)
    attack.write(path, arrays, document)
    with pytest.raises(ValueError, match=message) as caught:
        load_estimator(path)
    assert str(caught.value).startswith(f"{str(path)!r} does not hold an estimator, or")
    assert str(caught.value).endswith(". Load what save_estimator saved.")


@pytest.mark.parametrize("name", SAVED)
def test_missing_and_unknown_attributes(saved, tmp_path, name):
    """Each is asked for, and no other is taken: also half a fit is refused."""
    path = tmp_path / "changed.npz"
    whole, document = attack.read(saved / f"{name}.npz")
    own = {kind.__name__: kind for kind in STEPS}
    stateless = {"Normalizer", "FunctionTransformer"}
    for i, (kind, state) in enumerate(attack.states(document)):
        # Parameters of scikit-learn's, which are more in later versions.
        added = {"_fill_dtype"}
        if kind in own:
            added |= {*own[kind]._get_param_names()}
        for key in state.keys() - added:
            changed = copy.deepcopy(document)
            _, there = list(attack.states(changed))[i]
            del there[key]
            attack.write(path, whole, changed)
            optional = key == "n_features_in_" and (
                (name == "runs" and i == 0) or kind in stateless
            )
            if not optional:
                with pytest.raises(ValueError, match=re.escape(repr(str(path)))):
                    load_estimator(path)
        for key in ("fit", "__class__", "labels", "_metadata_request"):
            changed = copy.deepcopy(document)
            list(attack.states(changed))[i][1][key] = "x"
            attack.write(path, whole, changed)
            with pytest.raises(ValueError, match=f"{key}"):
                load_estimator(path)
    attack.write(path, whole, document)
    load_estimator(path)


def test_changes_by_mistake_are_noticed(saved, tmp_path):
    """Arrays and numbers that another fit could have made, too."""
    path = tmp_path / "changed.npz"
    for attribute, edit in (
        ("signs_", lambda array: -array),
        ("kth_similarity_", lambda array: np.minimum(array, np.float32(0.1))),
        ("layer_weights_", lambda array: 2 * array),
        ("n_neighbors_", lambda n: n - 1),
        ("resolution", lambda _: 7),
    ):
        arrays, document = attack.read(saved / "idf.npz", forge=False)
        attack.edit(arrays, document, attribute, edit)
        attack.write(path, arrays, document)
        if attribute != "kth_similarity_":  # which says what zero rows are, too
            with pytest.raises(ValueError, match="it was changed after it was saved"):
                load_estimator(path)
        else:
            with pytest.raises(ValueError, match=re.escape(repr(str(path)))):
                load_estimator(path)


def test_states_that_cannot_be_loaded_are_not_saved(tmp_path):
    path = tmp_path / "saved.npz"
    fitted = leiden().fit(rows())
    fitted.note = "mine"
    with pytest.raises(
        ValueError, match=r"saved\.npz' was not written, .*note is not an"
    ):
        save_estimator(path, fitted)
    with pytest.raises(
        ValueError, match=r"was not written, .* parameter that is not val"
    ):
        save_estimator(path, leiden(resolution=-1.0))
    changed = leiden().fit(rows()).set_params(metric="precomputed")
    with pytest.raises(ValueError, match="algorithm_ must be one of"):
        save_estimator(path, changed)
    half = make_pipeline(sketcher(), leiden()).fit(rows())
    half[0].set_params(n_components=3).fit(rows())
    with pytest.raises(ValueError, match="must be the 3 columns that MultiLayerTfidfS"):
        save_estimator(path, half)
    assert list(tmp_path.iterdir()) == []


# --- what a file must not choose ------------------------------------------------------


@pytest.mark.parametrize("memory", ["cache", joblib.Memory(None)])
@pytest.mark.parametrize("wrap", [lambda e: e, lambda e: StableLeiden(e)])
def test_memory_of_a_pipeline_is_not_saved(tmp_path, memory, wrap):
    pipeline = wrap(make_pipeline(sketcher(), leiden(), memory=memory))
    with pytest.warns(UserWarning, match=r"\.memory is not saved; got .*Set it again"):
        save_estimator(tmp_path / "saved.npz", pipeline)
    loaded = load_estimator(tmp_path / "saved.npz")
    assert getattr(loaded, "estimator", loaded).memory is None
    assert getattr(pipeline, "estimator", pipeline).memory is memory


def test_memory_in_a_file_is_refused(saved, tmp_path):
    for name in ("graph", "runs"):
        arrays, document = attack.read(saved / f"{name}.npz")
        attack.edit(arrays, document, "memory", lambda _: str(tmp_path))
        attack.write(tmp_path / "changed.npz", arrays, document)
        with pytest.raises(
            ValueError, match=r"Pipeline\.memory must be None in a file"
        ):
            load_estimator(tmp_path / "changed.npz")


@pytest.mark.parametrize(
    "config", [{"transform": "os"}, {"transform": 1}, {"fit": "pandas"}, 3]
)
def test_output_config_is_of_known_containers(saved, tmp_path, config):
    arrays, document = attack.read(saved / "idf.npz")
    tree = {"dict": config} if isinstance(config, dict) else config
    list(attack.states(document))[1][1]["_sklearn_output_config"] = tree
    attack.write(tmp_path / "changed.npz", arrays, document)
    with pytest.raises(
        ValueError, match="_sklearn_output_config must be what set_outp"
    ):
        load_estimator(tmp_path / "changed.npz")


@pytest.mark.parametrize(
    ("place", "value", "message"),
    [
        (2, 10**9, "its position, must be an integer of at least 0 and at most 624"),
        (2, -(10**6), "its position, must be"),
        (0, "PCG64", "must be an MT19937; got 'PCG64'"),
        (3, 7, "its flag, must be an integer"),
        (4, "x", "its number, must be a number"),
    ],
)
def test_generators_do_not_read_elsewhere(tmp_path, place, value, message):
    """NumPy reads memory at the position in the state, wherever that is."""
    path = tmp_path / "changed.npz"
    save_estimator(path, leiden(random_state=np.random.RandomState(0)))
    arrays, document = attack.read(path)
    document["estimator"]["state"]["random_state"]["random_state"][place] = value
    attack.write(path, arrays, document)
    with pytest.raises(ValueError, match=message):
        load_estimator(path)


# --- what a file claims ---------------------------------------------------------------


def header(shape, dtype="<f4"):
    file = io.BytesIO()
    fields = {"descr": dtype, "fortran_order": False, "shape": shape}
    np.lib.format.write_array_header_1_0(file, fields)
    return file.getvalue()


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (
            header((2**40,)),
            r"of shape \(1099511627776,\) and dtype float32 has 0 bytes",
        ),
        (header((2**62, 4)), "has 0 bytes in the file"),
        (header((3,)) + bytes(400), "has 400 bytes in the file"),
        (header((2**50,), "<U0"), "has the dtype <U0"),
        (header((1,), "|O") + bytes(8), "has the dtype object"),
        (b"no array", "does not hold an estimator"),
        (b"", "does not hold an estimator"),
    ],
)
@pytest.mark.parametrize("member", ["array_0", "document"])
def test_arrays_that_claim_more_than_there_is(
    saved, tmp_path, content, message, member
):
    path = tmp_path / "changed.npz"
    with zipfile.ZipFile(saved / "rows.npz") as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    members[f"{member}.npy"] = content
    with zipfile.ZipFile(path, "w") as archive:
        for name, data in members.items():
            archive.writestr(name, data)
    with pytest.raises(ValueError, match=message):
        load_estimator(path)


def test_compressed_archives_are_refused(saved, tmp_path):
    path = tmp_path / "changed.npz"
    arrays, document = attack.read(saved / "rows.npz")
    np.savez_compressed(
        path, document=np.array(json.dumps(document)), zeros=np.zeros(10**6), **arrays
    )
    with pytest.raises(ValueError, match="the archive is compressed, or claims"):
        load_estimator(path)


@pytest.mark.parametrize("depth", [1000, 100_000])
def test_deep_documents(saved, tmp_path, depth):
    path = tmp_path / "changed.npz"
    arrays, _ = attack.read(saved / "rows.npz")
    text = '{"format": ' + "[" * depth + "]" * depth + "}"
    np.savez(path, document=np.array(text), **arrays)
    with pytest.raises(ValueError, match="does not hold an estimator"):
        load_estimator(path)


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="needs named pipes")
def test_pipes_are_not_waited_for(tmp_path):
    os.mkfifo(tmp_path / "saved.npz")
    with pytest.raises(ValueError, match="is a named pipe, not a regular file"):
        load_estimator(tmp_path / "saved.npz")


def test_other_order_of_bytes(saved, tmp_path):
    """As of a machine that begins numbers at the other end."""
    path = tmp_path / "other.npz"
    for name in SAVED:
        arrays, document = attack.read(saved / f"{name}.npz", forge=False)
        swapped = {
            key: array.astype(array.dtype.newbyteorder(">"))
            for key, array in arrays.items()
        }
        attack.write(path, swapped, document)
        X = np.load(saved / "rows.npy")
        expected = load_estimator(saved / f"{name}.npz").predict(X)
        assert_array_equal(load_estimator(path).predict(X), expected)


def test_pipelines_of_another_scikit_learn(saved, tmp_path):
    """A parameter that it does not know is refused by name."""
    arrays, document = attack.read(saved / "idf.npz")
    document["estimator"]["state"]["new"] = None
    attack.write(tmp_path / "changed.npz", arrays, document)
    with pytest.raises(ValueError, match=r"Pipeline\.new is not an attribute"):
        load_estimator(tmp_path / "changed.npz")
    assert Pipeline._get_param_names()  # which the check is by
