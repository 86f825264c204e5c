"""Fitted estimators in files: pickle, joblib, and a format that runs nothing."""

import json
import pickle
import subprocess
import sys
from pathlib import Path

import joblib
import numpy as np
import pytest
from numpy.testing import assert_array_equal
from sklearn.base import clone
from sklearn.pipeline import make_pipeline

from skleiden import (
    FaissKNeighborsTransformer,
    MultiLayerTfidfSketcher,
    MutualKNNLeiden,
)
from skleiden.io import load_estimator, save_estimator
from skleiden.model_selection import StableLeiden

# Saved by version 0.1.0, and never to be written again: later versions load it.
OLD = Path(__file__).with_name("pipeline-0.1.0.npz")

WAYS = {
    "own": (save_estimator, load_estimator),
    "joblib": (lambda path, e: joblib.dump(e, path), joblib.load),
    "pickle": (
        lambda path, e: path.write_bytes(pickle.dumps(e)),
        lambda path: pickle.loads(path.read_bytes()),
    ),
}


def sketcher(**parameters):
    return MultiLayerTfidfSketcher(
        **{"n_components": 16, "random_state": 0} | parameters
    )


def leiden(**parameters):
    return MutualKNNLeiden(**{"n_neighbors": 10, "random_state": 0} | parameters)


ESTIMATORS = {
    "pipeline": lambda: make_pipeline(sketcher(), leiden()),
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
        (object(), r"takes one of \['FaissKNeighborsTransformer', .* got object"),
        (
            make_pipeline(leiden(), memory=joblib.Memory(None)),
            r"Pipeline\.memory is a Memory, for which the file has no form",
        ),
        (
            leiden(random_state=np.random.default_rng(0)),
            r"MutualKNNLeiden\.random_state is a Generator",
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


def change(path, edit):
    with np.load(path) as archive:
        arrays = dict(archive)
    document = edit(json.loads(str(arrays.pop("document"))))
    np.savez(path, document=np.array(json.dumps(document)), **arrays)


@pytest.mark.parametrize(
    ("edit", "message"),
    [
        (lambda d: d | {"schema_version": 9}, r"version 9; .* reads 1\. Install the"),
        (lambda d: d | {"format": "other"}, "holds no estimator, or is broken"),
        (lambda _: [], "holds no estimator"),
        (lambda d: d | {"estimator": {"estimator": "Popen", "state": {}}}, "'Popen'"),
        (lambda d: d | {"estimator": {"eval": "1"}}, "'eval' is of no known kind"),
        (lambda d: d | {"estimator": {"array": "array_99"}}, "array_99"),
    ],
)
def test_files_that_are_refused(tmp_path, blobs, edit, message):
    path = tmp_path / "saved.npz"
    save_estimator(path, leiden().fit(blobs[0]))
    change(path, edit)
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
    with pytest.raises(ValueError, match="it is pickled") as caught:
        load_estimator(path)
    assert "allow_pickle" not in str(caught.value)
    np.savez(path, document=np.array([leiden()], dtype=object))
    with pytest.raises(ValueError, match="holds no estimator"):
        load_estimator(path)
