"""Callbacks of scikit-learn 1.9: pipelines and searches tell of each fit as a task.

The estimators here have no tasks of their own to tell of: a fit has no state between
its beginning and its end that could be scored, or at which it could stop.
"""

import numpy as np
import pytest
from numpy.testing import assert_array_equal
from sklearn.base import clone
from sklearn.pipeline import make_pipeline

from skleiden import MultiLayerTfidfSketcher, MutualKNNLeiden
from skleiden.io import load_estimator, save_estimator

pytest.importorskip("sklearn.callback", reason="scikit-learn before 1.9")


class Recorder:
    """A callback that keeps what it is told of."""

    def __init__(self):
        self.told = []

    def setup(self, estimator, context):
        self.told.append("setup")

    def teardown(self, estimator, context):
        self.told.append("teardown")

    def on_fit_task_begin(self, estimator, context):
        self.told.append(("begin", context.task_name))

    def on_fit_task_end(self, estimator, context):
        self.told.append(("end", context.task_name))


def pipeline(**options):
    return make_pipeline(
        MultiLayerTfidfSketcher(8, layer_weights=None, random_state=0),
        MutualKNNLeiden(8, random_state=0, **options),
    )


def test_a_pipeline_tells_of_each_step(blobs, tmp_path):
    X, recorder = blobs[0], Recorder()
    told = pipeline().set_callbacks(recorder).fit(X)
    plain = pipeline().fit(X)
    assert_array_equal(told[-1].labels_, plain[-1].labels_)
    for step, other in zip(told, plain, strict=True):
        assert vars(step).keys() == vars(other).keys()
    steps = ["fit-transform-multilayertfidfsketcher", "fit-final-estimator"]
    assert recorder.told == [
        "setup",
        ("begin", "fit"),
        *[(when, step) for step in steps for when in ("begin", "end")],
        ("end", "fit"),
        "teardown",
    ]
    again = clone(told).fit(X)
    assert_array_equal(again[-1].labels_, plain[-1].labels_)
    save_estimator(tmp_path / "saved.npz", told)
    loaded = load_estimator(tmp_path / "saved.npz")
    assert_array_equal(loaded.predict(X), plain.predict(X))


def test_a_fit_that_fails_is_torn_down(blobs):
    recorder = Recorder()
    told = pipeline().fit(blobs[0]).set_callbacks(recorder)
    labels = told[-1].labels_
    X = blobs[0].copy()
    X[0, 0] = np.nan
    with pytest.raises(ValueError, match="NaN"):
        told.fit(X)
    assert recorder.told[-1] == "teardown"
    assert told[-1].labels_ is labels
    assert not hasattr(told[0], "_parent_callback_ctx")
