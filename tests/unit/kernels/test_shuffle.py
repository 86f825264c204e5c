"""Columns are shuffled each by itself, and keep what is in them."""

import numpy as np
import pytest
import scipy.sparse as sp
from numpy.testing import assert_array_equal

from skleiden._kernels.shuffle import shuffle_columns


@pytest.fixture(params=[np.asarray, sp.csr_array], ids=["dense", "sparse"])
def X(request):
    rng = np.random.default_rng(0)
    return request.param(rng.random((50, 150)) * (rng.random((50, 150)) < 0.5))


def dense(X):
    return X.toarray() if sp.issparse(X) else X


def test_columns_keep_their_values_and_lose_their_order(X):
    before = dense(X).copy()
    found = dense(shuffle_columns(3, X, 0))
    assert_array_equal(dense(X), before)
    assert_array_equal(np.sort(found, axis=0), np.sort(before, axis=0))
    together = np.corrcoef(found.T)
    assert np.abs(together[np.triu_indices(150, 1)]).mean() < 0.15
    assert (found != before).any(axis=0).all()
    # Each column has an order of its own.
    assert np.unique(np.argmax(found, axis=0)).size > 30


def test_a_column_is_shuffled_by_its_number_whatever_block_it_is_in(X):
    whole = dense(shuffle_columns(5, X, 1))
    parts = [dense(shuffle_columns(5 + a, X[:, a : a + 70], 1)) for a in (0, 70, 140)]
    assert_array_equal(np.hstack(parts), whole)
    assert (dense(shuffle_columns(6, X, 1)) != whole).any(axis=0).all()
    assert (dense(shuffle_columns(5, X, 2)) != whole).any(axis=0).all()


def test_the_order_of_rows_does_not_matter(X):
    order = np.random.default_rng(1).permutation(50)
    found = dense(shuffle_columns(0, X[order], 0))
    assert_array_equal(found, dense(shuffle_columns(0, X, 0)))
