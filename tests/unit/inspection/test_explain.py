"""Why a row is in its community."""

import numpy as np
import pandas as pd
import pytest
import scipy.sparse as sp
from numpy.testing import assert_allclose
from sklearn.pipeline import make_pipeline

from skleiden import LayerStack, MultiLayerTfidfSketcher, MutualKNNLeiden
from skleiden.inspection import explain
from skleiden.model_selection import StableLeiden


def make(stack, **options):
    return make_pipeline(
        MultiLayerTfidfSketcher(**{"layer_weights": None, "random_state": 0} | options),
        MutualKNNLeiden(n_neighbors=15, random_state=0),
    ).fit(stack)


def unit_rows(stack, sketcher, weighting, shares):
    """The rows that the sketch stands for: weighted, scaled, layers side by side."""
    blocks, filled = [], 0
    starts = np.cumsum([0, *stack.widths])
    for layer, share, start in zip(stack.layers, shares, starts, strict=False):
        X = layer.toarray().astype(float) if sp.issparse(layer) else np.array(layer)
        active = X.any(axis=1)
        columns = slice(start, start + X.shape[1])
        if weighting == "idf":
            X = X * sketcher.idf_[columns]
        elif weighting == "zscore":
            X = (X - sketcher.mean_[columns]) / sketcher.scale_[columns]
        X[~active] = 0
        norms = np.linalg.norm(X, axis=1)
        blocks.append(np.sqrt(share) * X / np.where(norms > 0, norms, 1)[:, None])
        filled = filled + share * (norms > 0)
    return np.hstack(blocks) / np.sqrt(np.where(filled > 0, filled, 1))[:, None]


@pytest.fixture(scope="module")
def gappy(stack):
    """The stack, but for rows without activity in some layer, and one in none."""
    layers = [layer.toarray() for layer in stack.layers]
    layers[1][5:40] = 0
    for layer in layers:
        layer[3] = 0
    layers[0] = sp.csr_array(layers[0])
    return LayerStack(layers)


@pytest.mark.parametrize("weighting", ["idf", "zscore", "none"])
@pytest.mark.parametrize("row", [0, 7, -1])
def test_explanation_equals_plain_numpy(gappy, weighting, row):
    pipeline = make(gappy, weighting=weighting, layer_weights=[1, 2, 1])
    found = explain(pipeline, gappy, row, n_features=10_000)
    labels = pipeline[-1].labels_
    rows = unit_rows(gappy, pipeline[0], weighting, [0.25, 0.5, 0.25])
    others = np.flatnonzero(labels != labels[row])
    own = np.setdiff1d(np.flatnonzero(labels == labels[row]), [row % 400])
    assert found.community == labels[row]
    assert_allclose(found.similarity, (rows[own] @ rows[row]).mean(), atol=1e-7)
    assert_allclose(found.baseline, (rows[others] @ rows[row]).mean(), atol=1e-7)
    expected = rows[row] * (rows[own].mean(axis=0) - rows[others].mean(axis=0))
    assert_allclose(expected.sum(), found.similarity - found.baseline, atol=1e-7)
    starts = dict(zip(gappy.names, np.cumsum([0, *gappy.widths]), strict=False))
    places = [starts[one.layer] + one.neuron for one in found.contributions]
    given = [one.contribution for one in found.contributions]
    assert_allclose(given, expected[places], atol=1e-7)
    assert given == sorted(given, reverse=True)
    assert np.count_nonzero(expected > 1e-7) <= len(given)
    wide = np.hstack(
        [layer.toarray() if sp.issparse(layer) else layer for layer in gappy.layers]
    )
    assert_allclose([one.activation for one in found.contributions], wide[row, places])


def test_strongest_neurons_are_the_first_of_all(stack):
    pipeline = make(stack)
    every = explain(pipeline, stack, 11, n_features=10_000)
    few = explain(pipeline, stack, 11, n_features=4)
    assert few == every._replace(contributions=every.contributions[:4])
    kinds = [type(value) for value in few.contributions[0]]
    assert kinds == [str, int, float, float, bool]
    frame = few.to_frame()
    assert frame.columns.tolist() == list(few.contributions[0]._fields)
    assert list(frame.itertuples(index=False, name=None)) == few.contributions
    none = few._replace(contributions=[])
    assert none.to_frame().shape == (0, 5)


def test_forms_of_the_input(stack):
    pipeline = make(stack)
    expected = explain(pipeline, stack, 5)
    layers = dict(zip(stack.names, stack.layers, strict=True))
    for form in (layers, sp.hstack(stack.layers, format="csr")):
        found = explain(pipeline, form, 5)
        assert [c[:2] for c in found.contributions] == [
            c[:2] for c in expected.contributions
        ]
    runs = StableLeiden(pipeline, n_runs=2, random_state=0).fit(stack)
    assert explain(runs, stack, 5) == explain(runs.estimator_, stack, 5)


def test_row_by_id(stack):
    pipeline = make(stack)
    named = LayerStack(stack.layers, ids=[f"q{i}" for i in range(400)])
    assert explain(pipeline, named, "q7") == explain(pipeline, stack, 7)
    with pytest.raises(IndexError, match="its id; no id is 'q400'"):
        explain(pipeline, named, "q400")


def test_settings_of_the_sketcher_count(stack):
    plain = explain(make(stack), stack, 5)
    logs = explain(make(stack, power=0.5), stack, 5)
    assert plain.similarity != logs.similarity
    value = np.quantile(stack.layers[0].data, 0.2)
    pruned = explain(make(stack, zero_tol=value), stack, 5)
    assert all(one.activation > value for one in pruned.contributions)


def test_errors(stack, gappy):
    pipeline = make(stack)
    for row in (400, -401):
        with pytest.raises(IndexError, match=f"from 0 to 399; got {row}"):
            explain(pipeline, stack, row)
    with pytest.raises(IndexError, match="its id; no id is 'q7'"):
        explain(pipeline, stack, "q7")
    with pytest.raises(ValueError, match="got 399 rows, fitted with 400"):
        explain(pipeline, stack[1:], 0)
    with pytest.raises(ValueError, match="n_features must be an integer of at least 1"):
        explain(pipeline, stack, 0, n_features=0)
    with pytest.raises(TypeError, match="got MutualKNNLeiden without one"):
        explain(pipeline[-1], stack, 0)
    with pytest.raises(TypeError, match="got MultiLayerTfidfSketcher without labels_"):
        explain(pipeline[0], stack, 0)
    with pytest.raises(ValueError, match=r"Row 3 is in no community \(its label is -1"):
        explain(make(gappy), gappy, 3)
    pipeline[-1].labels_ = np.zeros(400, dtype=int)
    with pytest.raises(ValueError, match="has 399 other members, and 0 rows are out"):
        explain(pipeline, stack, 0)


def test_a_frame_is_explained_as_it_was_fitted(stack):
    """Without a warning that its names are unknown."""
    frame = pd.DataFrame(stack.layers[0].toarray()).add_prefix("n")
    pipeline = make_pipeline(
        MultiLayerTfidfSketcher(16, random_state=0), MutualKNNLeiden(10, random_state=0)
    ).fit(frame)
    row = int(np.argmax(pipeline[-1].labels_ >= 0))
    assert explain(pipeline, frame, row).contributions
