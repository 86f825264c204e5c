"""Counts and the sketch of some blocks of rows, against sums over whole matrices."""

import numpy as np
import pytest
import scipy.sparse as sp
from numpy.testing import assert_array_equal

from skleiden._blocks.layout import Layers, Layout
from skleiden._blocks.runner import Local
from skleiden._blocks.sources import source_of
from skleiden._kernels import countsketch
from skleiden._stages import sketch as stage
from skleiden._stages.sketch import Activity, Reading, Sampling, Settings, Sketch

NAMES, WIDTHS, COMPONENTS = ("a", "b", "c"), (4, 6, 5), (3, 5, 2)
STARTS = np.cumsum([0, *WIDTHS])
APART = tuple(range(i, i + 1) for i in range(3))
SPANS = {"apart": APART, "two": (range(1), range(1, 3)), "one": (range(3),)}
RUNNER, READING = Local(), Reading(None, 1)


def settings(weighting="idf", **others):
    usual = {
        "smooth_idf": True,
        "power": None,
        "center": False,
        "zero_tol": 0.0,
        "dtype": np.dtype(np.float64),
    }
    return Settings(weighting, **usual | others)


def activity(weighting=("idf",) * 3, positive=(0, 0, 0), centred=(0, 0, 0), **others):
    return Activity(
        settings("auto", **others),
        tuple(weighting),
        np.array(positive, dtype=bool),
        np.array(centred, dtype=bool),
    )


@pytest.fixture(scope="module")
def X():
    """Nine rows, of which some lack layers, and one is zero."""
    rng = np.random.default_rng(0)
    X = np.where(rng.random((9, 15)) < 0.7, rng.standard_normal((9, 15)), 0)
    X[2, :4] = X[3, 4:10] = X[3, 10:] = X[5] = 0
    X.flags.writeable = False
    return X


def with_a_constant_layer(X):
    """One row more: constant but for rounding in the first layer, zero in others."""
    row = np.where(np.arange(15) < 4, 1 + 2.0**-52 * (np.arange(15) % 2), 0)
    return np.concatenate([X, row[None] / 3])


def layers_of(X, how="apart", *, sparse=False, dtype=np.float64):
    kept = [
        X[:, STARTS[span.start] : STARTS[span.stop]].astype(dtype)
        for span in SPANS[how]
    ]
    kept = [sp.csr_array(one) if sparse else one for one in kept]
    return Layers(Layout(NAMES, WIDTHS, SPANS[how]), [source_of(one) for one in kept])


STORED = [(how, sparse) for how in SPANS for sparse in (False, True)]


# --- how layers are taken -------------------------------------------------------------


def test_powers():
    assert activity(power=0.25).power == 0.25
    assert activity().power == 1
    correlated = activity(("correlation",) * 3)
    assert correlated.correlated
    assert correlated.power == 0.5
    assert correlated._replace(settings=settings(power=0.0)).power == 0


@pytest.mark.parametrize(
    ("weighting", "center", "of_neurons", "found", "positive", "centred"),
    [
        ("auto", False, 0, "idf", True, False),
        ("auto", True, 0, "idf", True, True),
        ("auto", False, 3, "correlation", True, False),
        ("idf", False, 3, "idf", False, False),
        ("zscore", False, 0, "zscore", False, True),
        ("none", True, 0, "none", False, True),
    ],
)
def test_what_is_stated(weighting, center, of_neurons, found, positive, centred):
    given = settings(weighting, center=center)
    stated = stage.stated_activity(given, 2, of_neurons)
    assert stated.weighting == (found,) * 2
    assert stated.positive.tolist() == [positive] * 2
    assert stated.centred.tolist() == [centred] * 2
    assert (stated.positive.dtype, stated.centred.dtype) == (bool, bool)


def test_signs_tell_how_layers_are_taken():
    lowest = np.array([0, -0.31, -0.25, -0.3101, -0.2501])
    highest = np.array([0, 9.0, 1.0, 9.0, 1.0])
    counts = stage.Counts(None, 0, lowest, highest, None)
    expected = [True, True, True, False, False]
    for center in (False, True):
        stated = stage.stated_activity(settings("auto", center=center), 5)
        found = stage.found_activity(stated, counts)
        assert found.positive.tolist() == expected
        assert found.weighting == ("idf",) * 3 + ("zscore",) * 2
        assert found.centred.tolist() == [center] * 3 + [True] * 2
    stated = stage.stated_activity(settings("auto"), 5, 1)
    found = stage.found_activity(stated, counts)
    assert found.positive.tolist() == expected
    assert found.weighting == ("correlation",) * 5
    assert not found.centred.any()


# --- counts ---------------------------------------------------------------------------


@pytest.mark.parametrize("batch_size", [None, 1, 4])
@pytest.mark.parametrize(("how", "sparse"), STORED)
def test_counts(X, how, sparse, batch_size):
    given = layers_of(X, how, sparse=sparse)
    taken = activity(positive=(1, 0, 0), centred=(0, 1, 0))
    found = stage.count(given, taken, Reading(batch_size, 1), RUNNER)
    active = X.copy()
    active[:, :4] = np.maximum(active[:, :4], 0)
    assert found.columns.n_samples == 9
    assert_array_equal(found.columns.df, (active != 0).sum(axis=0))
    np.testing.assert_allclose(found.columns.mean, active.mean(axis=0), atol=1e-12)
    deviation = countsketch.standard_deviation(found.columns)
    np.testing.assert_allclose(deviation, active.std(axis=0), atol=1e-12)
    assert found.n_zero_rows == (~active.any(axis=1)).sum()
    bounds = list(zip(STARTS, STARTS[1:], strict=False))  # noqa: RUF007
    for of_layers, way in ((found.lowest, np.min), (found.highest, np.max)):
        expected = [way(np.append(X[:, a:b], 0)) for a, b in bounds]
        np.testing.assert_allclose(of_layers, expected)
    assert found.sample.rows.size == 0


def test_extremes_are_looked_for_by_auto_alone(X):
    taken = activity()._replace(settings=settings())
    found = stage.count(layers_of(X), taken, READING, RUNNER)
    assert not found.lowest.any()
    assert not found.highest.any()


def test_extremes_include_zero(X):
    for way in (np.abs, lambda X: -np.abs(X)):
        values = way(X) + np.sign(way(1.0))
        for how in SPANS:
            found = stage.count(layers_of(values, how), activity(), READING, RUNNER)
            bounds = (found.lowest, found.highest)
            assert (bounds[0] <= 0).all()
            assert (bounds[1] >= 0).all()
            assert (bounds[0] == 0).all() or (bounds[1] == 0).all()


@pytest.mark.parametrize(("how", "sparse"), STORED)
def test_constant_rows_count_as_zero_where_correlations_do(X, how, sparse):
    values = X.copy()
    values[5], values[6] = 3, np.repeat([1, 0, 2], WIDTHS)
    given = layers_of(values, how, sparse=sparse)
    assert stage.count(given, activity(), READING, RUNNER).n_zero_rows == 0
    taken = activity(("correlation",) * 3)
    assert stage.count(given, taken, READING, RUNNER).n_zero_rows == 2


@pytest.mark.parametrize("batch_size", [None, 2])
def test_rows_are_drawn_by_what_they_hold_in_all_layers(X, batch_size):
    values = np.concatenate([X, X[:4]])
    drawn = {}
    for how, sparse in STORED:
        found = stage.count(
            layers_of(values, how, sparse=sparse),
            activity(),
            Reading(batch_size, 1),
            RUNNER,
            Sampling(5, 3),
        ).sample
        drawn[how, sparse] = found.rows.tolist()
    assert len({tuple(rows) for rows in drawn.values()}) == 1
    rows = drawn["one", True]
    assert len(rows) == 5
    assert np.unique(values[rows], axis=0).shape[0] == 5


def test_counts_of_blocks_are_merged(X):
    whole = stage.count(layers_of(X), activity(), READING, RUNNER, Sampling(4, 0))
    parts = [
        stage._count(
            layers_of(X).layout,
            activity(),
            READING,
            Sampling(4, 0),
            start,
            layers_of(X[start:stop]).sources,
        )
        for start, stop in ((0, 4), (4, 9))
    ]
    found = stage.merged(*parts, n_sampled=4)
    assert_array_equal(found.columns.df, whole.columns.df)
    assert found.n_zero_rows == whole.n_zero_rows == 1
    assert_array_equal(found.lowest, whole.lowest)
    assert_array_equal(found.highest, whole.highest)
    assert_array_equal(found.sample.rows, whole.sample.rows)
    assert stage.merged(*parts).sample.rows.size == 0


def test_what_was_learnt_is_not_asked_again(X, monkeypatch):
    calls = []
    count = stage.count
    monkeypatch.setattr(
        stage, "count", lambda *given: calls.append(given[1]) or count(*given)
    )
    learn = lambda X, given, before=None: stage.learn(  # noqa: E731
        layers_of(X), given, before, READING, RUNNER, Sampling(3, 0)
    )
    found, counts = learn(np.abs(X), settings("auto"))
    assert found.weighting == ("idf",) * 3
    assert (len(calls), counts.sample.rows.size) == (1, 3)
    found, counts = learn(X, settings("auto"))
    assert found.weighting == ("zscore",) * 3
    assert (len(calls), counts.sample.rows.size) == (3, 3)
    np.testing.assert_allclose(counts.columns.mean, X.mean(axis=0), atol=1e-12)
    found, counts = learn(X, settings())
    assert (len(calls), counts.sample.rows.size) == (4, 3)
    taken = activity(("zscore",) * 3, centred=(1, 1, 1))
    found, counts = learn(np.abs(X), settings("auto"), taken)
    assert found is taken
    assert (len(calls), counts.sample.rows.size) == (5, 0)


# --- the sketch -----------------------------------------------------------------------


def sketch_of(taken, seed=0):
    rng = np.random.default_rng(seed)
    outputs = np.cumsum([0, *COMPONENTS])
    buckets = np.concatenate(
        [rng.integers(a, b, width) for a, b, width in
         zip(outputs, outputs[1:], WIDTHS, strict=False)]
    ).astype(np.int32)  # fmt: skip
    signs = rng.choice(np.array([-1, 1], dtype=np.int8), 15)
    weights = 0.5 + rng.random(15)
    weights[7] = 0
    centres = np.where(np.repeat(taken.centred, WIDTHS), rng.random(15), 0)
    shares = np.array([0.5, 0.3, 0.2])
    return Sketch(taken, COMPONENTS, shares, weights, centres, buckets, signs)


def expected_of(X, sketch):
    """The embedding by whole matrices; and rows of layers before they are hashed."""
    taken, of_layers, before = sketch.activity, [], []
    outputs = np.cumsum([0, *COMPONENTS])
    for i, (a, b) in enumerate(zip(STARTS, STARTS[1:], strict=False)):  # noqa: RUF007
        values = np.maximum(X[:, a:b], 0) if taken.positive[i] else X[:, a:b]
        values = np.sign(values) * np.abs(values) ** taken.power
        active = values.any(axis=1)
        weights = sketch.weights[a:b]
        if taken.correlated:
            counted = weights > 0
            values = np.where(
                counted, values - values[:, counted].mean(axis=1)[:, None], 0
            )
            active = np.abs(values).max(axis=1) > 1e-9
            values[~active] = 0
        weighted = values * weights - np.outer(active, sketch.centres[a:b])
        before.append(weighted)
        hashed = np.zeros((len(X), outputs[i + 1] - outputs[i]))
        for column in range(a, b):
            place = sketch.buckets[column] - outputs[i]
            hashed[:, place] += sketch.signs[column] * weighted[:, column - a]
        length = np.linalg.norm(hashed, axis=1)[:, None]
        unit = np.divide(hashed, length, out=np.zeros_like(hashed), where=length > 0)
        of_layers.append(np.sqrt(sketch.shares[i]) * unit)
    whole = np.concatenate(of_layers, axis=1)
    length = np.linalg.norm(whole, axis=1)[:, None]
    return np.divide(whole, length, out=whole, where=length > 0), before


TAKEN = {
    "idf": activity(),
    "positive": activity(positive=(1, 0, 1)),
    "centred": activity(("idf", "zscore", "idf"), (1, 0, 1), (0, 1, 1), power=0.5),
    "correlation": activity(("correlation",) * 3),
    "signs": activity(power=0.0),
}


@pytest.mark.parametrize("taken", TAKEN)
@pytest.mark.parametrize(("how", "sparse"), STORED)
def test_embedding_equals_sums_over_whole_matrices(X, how, sparse, taken, monkeypatch):
    X = with_a_constant_layer(X)
    sketch = sketch_of(TAKEN[taken])
    if how != "apart":  # rows that lack layers are divided one at a time
        monkeypatch.setattr(stage, "_COPIED", 1)
    given = layers_of(X, how, sparse=sparse)
    expected, _ = expected_of(X, sketch)
    for batch_size in (None, 2):
        found = stage.embed(given, sketch, Reading(batch_size, 1), RUNNER)
        np.testing.assert_allclose(found, expected, atol=1e-9)
    assert found.dtype == np.float64
    assert not found[5].any()


@pytest.mark.parametrize("taken", TAKEN)
@pytest.mark.parametrize("sparse", [False, True])
def test_layers_are_given_as_the_sketch_weighs_them(X, sparse, taken):
    X = with_a_constant_layer(X)
    sketch, given = sketch_of(TAKEN[taken]), layers_of(X, sparse=sparse)
    _, before = expected_of(X, sketch)
    found = stage.weighted_layers(given, sketch)
    assert [layer.name for layer in found] == list(NAMES)
    assert [layer.share for layer in found] == [0.5, 0.3, 0.2]
    for layer, weighted in zip(found, before, strict=True):
        block = layer.read(slice(0, 10))
        block = block.toarray() if sp.issparse(block) else block
        active = block.any(axis=1)
        weighed = block * layer.weight - np.outer(active, layer.centre)
        # Correlations are of rows that are scaled first.
        length = np.linalg.norm(weighted, axis=1)
        assert_array_equal(weighed.any(axis=1), length > 0)
        scale = np.linalg.norm(weighed, axis=1) / np.where(length > 0, length, 1)
        np.testing.assert_allclose(weighed, weighted * scale[:, None], atol=1e-9)


def test_layers_without_weight_do_not_count_as_lacking(X):
    sketch = sketch_of(activity())._replace(shares=np.array([0.6, 0.0, 0.4]))
    found = stage.embed(layers_of(X), sketch, READING, RUNNER)
    lengths = np.linalg.norm(found, axis=1)
    np.testing.assert_allclose(lengths, np.where(np.arange(9) == 5, 0, 1))
    assert not found[:, 3:8].any()


def test_an_array_that_is_given_is_filled(X):
    sketch = sketch_of(activity())
    out = np.full((9, 10), np.nan, dtype=np.float32)
    assert stage.embed(layers_of(X), sketch, READING, RUNNER, out) is out
    expected = stage.embed(layers_of(X), sketch, READING, RUNNER)
    np.testing.assert_allclose(out, expected, atol=1e-6)


def test_what_is_almost_zero_counts_as_zero(X):
    sketch = sketch_of(activity(zero_tol=0.5))
    expected, _ = expected_of(np.where(np.abs(X) > 0.5, X, 0), sketch)
    for sparse in (False, True):
        given = layers_of(X, sparse=sparse)
        found = stage.embed(given, sketch, READING, RUNNER)
        np.testing.assert_allclose(found, expected, atol=1e-9)
    edge = layers_of(np.where(X > 0, 0.5, 0))
    assert not stage.embed(edge, sketch, READING, RUNNER).any()
    whole = sketch_of(activity(zero_tol=1e300))
    single = layers_of(X, dtype=np.float32)
    assert not stage.embed(single, whole, READING, RUNNER).any()


@pytest.mark.parametrize(("how", "sparse"), STORED)
def test_progress_is_the_number_of_rows_of_each_matrix(X, how, sparse):
    given, done = layers_of(X, how, sparse=sparse), []
    task = lambda part, rows: (part.layers, rows)  # noqa: E731
    parts = given.layout.parts(given.sources)
    found = stage._on_batches(task, given.layout, parts, Reading(4, 1, done.append))
    assert found == [
        (span, rows)
        for span in SPANS[how]
        for rows in (slice(0, 4), slice(4, 8), slice(8, 9))
    ]
    assert done == [4, 4, 1] * len(SPANS[how])
    assert sum(done) == given.n_reads


def test_progress_of_both_passes_is_told_of_all_that_is_read(X):
    shown = []

    class Telling(Local):
        def progress(self, description, total):
            shown.append((description, total))
            return super().progress(description, total)

    stage.count(layers_of(X), activity(), READING, Telling())
    stage.embed(layers_of(X, "two"), sketch_of(activity()), READING, Telling())
    assert shown == [("Count", 27), ("Sketch", 18)]


@pytest.mark.parametrize(("how", "sparse"), STORED)
@pytest.mark.parametrize("column", [0, 3, 4, 9, 10, 14])
def test_the_largest_value_of_a_column(X, how, sparse, column):
    given = layers_of(X, how, sparse=sparse)
    found = stage.largest_value(given, column, RUNNER)
    assert found == np.abs(X[:, column]).max()


@pytest.mark.parametrize("sparse", [False, True])
def test_rows_that_overflow_are_told_with_a_remedy(X, sparse):
    large = X.copy()
    large[4, 6] = 3e38
    given = layers_of(large, sparse=sparse, dtype=np.float32)
    sketch = sketch_of(activity(dtype=np.dtype(np.float32)))
    sketch = sketch._replace(weights=np.full(15, 40.0))
    with pytest.raises(
        ValueError,
        match=r"^Values of X up to 3e\+38 overflow float32 in layer 'b'\. Scale X down,"
        r" or pass it as float64\.$",
    ):
        stage.embed(given, sketch, READING, RUNNER)
    taken = activity(("idf", "zscore", "idf"), centred=(0, 1, 0))
    scaled = stage._overflow_remedy(sketch._replace(activity=taken), np.float64)
    assert scaled == (
        "They are divided by standard deviations down to 0.025: fit on rows of the "
        "same scale as these, or scale X down before fit."
    )
    assert stage._overflow_remedy(sketch, np.dtype(np.float64)) == "Scale X down."


def test_rows_that_are_not_finite_are_told_by_their_numbers(X):
    bad = X.copy()
    bad[6, 12] = np.inf
    given = layers_of(bad)
    part = given.layout.parts(given.sources, 100)[2]
    with pytest.raises(
        ValueError, match=r"infinity in layer 'c', first in row 106, column 2\. 1 of"
    ):
        stage._read_values(given.layout, activity(), part, slice(4, 7))


@pytest.mark.parametrize(
    ("dtype", "expected"),
    [(np.float16, np.float32), (np.int16, np.float32), (np.int32, np.float64)],
)
def test_values_are_of_single_precision_where_that_is_exact(X, dtype, expected):
    given = layers_of(np.rint(9 * X), dtype=dtype)
    (part, *_) = given.layout.parts(given.sources)
    found = stage._read_values(given.layout, activity(), part, slice(0, 9))
    assert found.dtype == expected
    assert_array_equal(found, np.rint(9 * X)[:, :4])


def test_what_rounding_may_leave_of_centred_values():
    """Four units in the last place of all that is added up in a bucket."""
    taken = activity(centred=(1, 1, 1))
    sketch = sketch_of(taken)
    weights, offset, rounding, ones = stage._hashing(sketch)
    assert_array_equal(weights, sketch.signs * sketch.weights)
    for bucket in range(10):
        own = sketch.buckets == bucket
        signs = sketch.signs[own].astype(float)
        assert offset[bucket] == pytest.approx((signs * sketch.centres[own]).sum())
        assert ones[bucket] == pytest.approx((signs * sketch.weights[own]).sum())
        added = (1 + sketch.centres[own]).sum()
        assert rounding[bucket] == pytest.approx(4 * 2.0**-52 * added, abs=0)
    # Rows that equal the centre, but for rounding, have nothing.
    X = np.outer(
        np.ones(3), sketch.centres / np.where(sketch.weights, sketch.weights, 1)
    )
    X[1] *= 1 + 2.0**-52
    X[2, 0] += 1e-9
    X[:, 7], sketch.centres[7] = 0, 0
    found = stage.embed(layers_of(X), sketch, READING, RUNNER)
    assert not found[:2].any()
    assert np.count_nonzero(found[2]) == 1
