import numpy as np
import pytest
import scipy.sparse as sp
from numpy.testing import assert_array_equal

from skleiden._kernels import sample


@pytest.fixture(params=[np.float32, np.float64])
def rows(request):
    rng = np.random.default_rng(0)
    X = rng.standard_normal((60, 30)) * (rng.random((60, 30)) < 0.3)
    return X.astype(request.param)


def test_keys_are_of_content_alone(rows):
    factors = sample.draw_factors(30, 0)
    keys = sample.row_keys(rows, factors)
    assert np.unique(keys).size == 60
    assert_array_equal(sample.row_keys(sp.csr_array(rows), factors), keys)
    assert_array_equal(sample.row_keys(np.asfortranarray(rows), factors), keys)
    if rows.dtype == np.float32:
        assert_array_equal(sample.row_keys(rows.astype(np.float64), factors), keys)
    order = np.random.default_rng(1).permutation(60)
    assert_array_equal(sample.row_keys(rows[order], factors), keys[order])
    parts = [slice(0, 11), slice(11, 30)]
    added = [sample.row_keys(rows[:, of], factors[of]) for of in parts]
    assert_array_equal(added[0] + added[1], keys)
    assert_array_equal(sample.row_keys(np.where(rows == 0, -0.0, rows), factors), keys)


@pytest.mark.parametrize(
    "change",
    [
        lambda X: X + 1e9,
        lambda X: X * 1e-46,
        lambda X: X * 1e300,
        lambda X: X / 3,
        lambda X: np.copysign(0.1, X),  # only the highest bits differ
    ],
    ids=["offset", "small", "large", "thirds", "signs"],
)
def test_rows_that_differ_beyond_single_precision_have_other_keys(rows, change):
    X = change(rows.astype(np.float64))
    factors = sample.draw_factors(30, 0)
    keys = sample.row_keys(X, factors)
    assert np.unique(keys).size == np.unique(X, axis=0).shape[0] == 60
    assert_array_equal(sample.row_keys(sp.csr_array(X), factors), keys)
    assert_array_equal(sample.row_keys(np.asfortranarray(X), factors), keys)


def test_blocks_draw_the_same_rows_as_the_whole(rows):
    rows[50:] = rows[:10]  # equal rows are drawn once, the first of them
    keys = sample.row_keys(rows, sample.draw_factors(30, 0))
    whole = sample.drawn(keys, 0, 20)
    assert whole.rows.max() < 50
    assert (np.diff(whole.keys.astype(object)) > 0).all()
    blocks = [sample.drawn(keys[a : a + 17], a, 20) for a in range(0, 60, 17)]
    merged = blocks[0]
    for block in blocks[1:]:
        merged = sample.merge(merged, block, 20)
    assert_array_equal(merged.rows, whole.rows)
    assert sample.drawn(keys, 0, 100).rows.size == 50


def test_keys_are_shuffled_as_by_splitmix64():
    step = 0x9E3779B97F4A7C15  # its first numbers from 0
    states = np.array([step, 2 * step % 2**64], dtype=np.uint64)
    assert_array_equal(
        sample._spread(states),
        np.array([0xE220A8397B1DCDAF, 0x6E789E6AA1B965F4], dtype=np.uint64),
    )


def test_factors_are_odd_and_of_all_bits():
    factors = sample.draw_factors(1000, 0)
    assert (factors % np.uint64(2) == 1).all()
    assert factors.max() > 0.99 * 2**64
    assert np.unique(factors).size == 1000


def test_another_seed_draws_other_rows(rows):
    drawn = [
        sample.drawn(sample.row_keys(rows, sample.draw_factors(30, seed)), 0, 20).rows
        for seed in (0, 1)
    ]
    assert set(drawn[0]) != set(drawn[1])
