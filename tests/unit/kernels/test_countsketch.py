"""Statistics, centring and sketches of a block are what plain NumPy says of it."""

import numpy as np
import pytest
import scipy.sparse as sp
from numpy.testing import assert_allclose, assert_array_equal

from skleiden._kernels import countsketch

LAYER_OF = np.array([0, 0, 0, 1, 1, 1, 1], dtype=np.int32)
COUNTED = np.array([1, 1, 0, 1, 1, 0, 1], dtype=bool)


def block(dtype=np.float64):
    """Nine rows of seven columns in two layers, one column and one row of zeros."""
    rng = np.random.default_rng(0)
    X = rng.standard_normal((9, 7)) * (rng.random((9, 7)) < 0.6)
    X[:, 1] = X[4] = 0
    return X.astype(dtype)


@pytest.fixture(params=[np.asarray, sp.csr_array], ids=["dense", "sparse"])
def stored(request):
    return request.param


def test_statistics_are_those_of_the_columns(stored):
    X = block()
    found = countsketch.column_statistics(stored(X), moments=True)
    assert found.n_samples == 9
    assert_array_equal(found.df, (X != 0).sum(axis=0))
    assert_allclose(found.mean, X.mean(axis=0), atol=1e-15)
    assert_allclose(found.spread, X.std(axis=0) * 3, atol=1e-15)


@pytest.mark.parametrize("scale", [1e-200, 1e-141, 1e141, 1e200])
def test_spread_of_numbers_whose_squares_overflow_or_vanish(stored, scale):
    X = block()
    found = countsketch.column_statistics(stored(X * scale), moments=True)
    assert_allclose(found.spread / scale, X.std(axis=0) * 3, rtol=1e-12)


@pytest.mark.parametrize("cut", [1, 4, 7])
def test_merged_statistics_are_those_of_all_rows(cut):
    X = block()
    parts = [
        countsketch.column_statistics(rows, moments=True) for rows in (X[:cut], X[cut:])
    ]
    whole = countsketch.column_statistics(X, moments=True)
    for found, expected in zip(countsketch.merge(*parts), whole, strict=True):
        assert_allclose(found, expected, atol=1e-14)


def test_inverse_document_frequency():
    df = np.array([0, 1, 3, 8])
    smooth = countsketch.inverse_document_frequency(df, 8, smooth=True)
    assert_allclose(smooth, np.log(9 / (df + 1)) + 1)
    plain = countsketch.inverse_document_frequency(df, 8, smooth=False)
    assert_allclose(plain, np.log([8, 8, 8 / 3, 1]) + 1)


def test_deviations_of_rounding_alone_count_as_constant():
    X = np.full((1000, 3), 0.1)
    X[:, 1] += np.arange(1000) * 1e-9
    X[::2, 2] = 1e-310
    X[1::2, 2] = 0
    stats = countsketch.column_statistics(X, moments=True)
    found = countsketch.standard_deviation(stats)
    assert_allclose(found, [1, X[:, 1].std(), 1], rtol=1e-6)


def test_constant_by_scikit_learns_bound():
    n, eps = 10_000, np.finfo(np.float64).eps
    assert countsketch.is_constant(n, np.array([3.0]), np.array([2.9 * n * eps])).all()
    assert not countsketch.is_constant(n, np.array([3.0]), np.array([4 * n * eps]))
    assert not countsketch.is_constant(n, np.zeros(1), np.array([1e-300]))
    assert countsketch.is_constant(n, np.zeros(1), np.array([1e-308]))


@pytest.mark.parametrize("scale", [1, 1e-200, 1e200])
def test_rows_are_centred_within_layers(stored, scale):
    X = block() * scale
    found = countsketch.centre_rows(stored(X), COUNTED, LAYER_OF, 2)
    for layer in range(2):
        columns = (layer == LAYER_OF) & COUNTED
        # Of all columns of the layer: those that do not take part may be larger.
        largest = np.abs(X[:, layer == LAYER_OF]).max(axis=1)
        own = X[:, columns] / np.where(largest, largest, 1)[:, None]
        expected = own - own.mean(axis=1, keepdims=True)
        rows = sp.csr_array(found.block).toarray()[:, columns]
        assert_allclose(rows - found.means[:, [layer]], expected, atol=1e-14)
        assert_allclose(found.deviation[:, layer], own.std(axis=1), atol=1e-14)
    assert not sp.csr_array(found.block).toarray()[:, ~COUNTED].any()
    assert not found.means[4].any()


def test_constant_rows_have_no_deviation(stored):
    X = np.full((3, 7), 0.1) * np.array([[1], [3], [7]])
    found = countsketch.centre_rows(stored(X), COUNTED, LAYER_OF, 2)
    assert not found.deviation.any()


def test_a_layer_of_which_nothing_is_counted(stored):
    found = countsketch.centre_rows(stored(block()), LAYER_OF == 0, LAYER_OF, 2)
    assert np.isfinite(found.means).all()
    assert not found.deviation[:, 1].any()


def test_hashes_reach_every_bucket_and_both_signs():
    buckets, signs = countsketch.draw_hashes(1000, 7, np.random.RandomState(0))
    assert buckets.dtype == np.int32
    assert signs.dtype == np.int8
    assert_array_equal(np.unique(buckets), np.arange(7))
    assert_array_equal(np.unique(signs), [-1, 1])
    assert np.bincount(buckets).min() > 100
    assert abs(signs.sum(dtype=int)) < 100


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_sketch_adds_weighted_columns_up(stored, dtype):
    X = block(dtype)
    weights = np.array([1, -2, 3, -4, 0.5, 6, -7], dtype=dtype)
    buckets = np.array([0, 2, 2, 1, 0, 4, 2], dtype=np.int32)
    found = countsketch.sketch(stored(X), weights, buckets, 5)
    expected = (X * weights) @ np.eye(5)[buckets]
    assert found.dtype == dtype
    assert found.flags.c_contiguous
    assert_allclose(found, expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("columns", [None, slice(2, 4), slice(0, 2), slice(6, 7)])
def test_active_rows(stored, columns):
    X = block()
    expected = (X if columns is None else X[:, columns]).any(axis=1)
    assert_array_equal(countsketch.active_rows(stored(X), columns), expected)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_rows_of_any_size_are_scaled(dtype):
    rows = np.outer([1, 0, 1e-30, 1e30, 1e-10, 1e10], [3, 4, 0]).astype(dtype)
    present = countsketch.scale_rows(rows, 2.0)
    assert_array_equal(present, [True, False, True, True, True, True])
    expected = np.outer(present, [1.2, 1.6, 0])
    assert_allclose(rows, expected, rtol=1e-6)


@pytest.mark.parametrize("value", [np.inf, np.nan])
def test_rows_that_are_not_finite_are_not_scaled(value):
    with pytest.raises(OverflowError):
        countsketch.scale_rows(np.array([[1, 2], [value, 1]]), 1.0)
