"""Distinct rows of vectors in blocks, and queries that go to all of them."""

import pickle
from types import SimpleNamespace

import numpy as np
import pytest
from numpy.testing import assert_array_equal

from skleiden._blocks.runner import Local
from skleiden._kernels import knn
from skleiden._stages import distinct
from skleiden._stages.distinct import Shards
from tests.checks import brute_neighbors

SIZES = [[60], [30, 30], [20, 3, 37], [13, 1, 20, 26]]


def whole(shards):
    return np.concatenate(shards.blocks)


# --- blocks ---------------------------------------------------------------------------


@pytest.mark.parametrize("sizes", SIZES)
def test_distinct_rows_do_not_depend_on_blocks(blocked, directions, sizes):
    found = blocked(directions, sizes)
    unit = directions / np.maximum(np.linalg.norm(directions, axis=1), 1e-9)[:, None]
    first = np.delete(np.arange(60), [21, 33, 12, 59])
    assert_array_equal(found.first, first)
    np.testing.assert_allclose(whole(found.vectors), unit[first], atol=1e-6)
    assert found.inverse[[21, 7, 12, 33]].tolist() == [-1, 7, 7, 7]
    assert found.inverse[40] == found.inverse[59]
    assert found.vectors.shape == (56, 8)
    ends = np.cumsum([0, *sizes])
    starts = np.searchsorted(first, ends)
    assert_array_equal(found.vectors.starts, np.unique(starts))
    one = blocked(directions, [60])
    assert_array_equal(found.ranks, one.ranks)
    assert_array_equal(whole(found.vectors), whole(one.vectors))


def test_blocks_without_a_row_of_their_own_are_left_out(blocked):
    X = np.eye(4)[[0, 1, 0, 0, 1, 2]]
    found = blocked(X, [2, 3, 1])
    assert [len(block) for block in found.vectors.blocks] == [2, 1]
    assert found.vectors.starts.tolist() == [0, 2, 3]
    zeros = blocked(np.zeros((5, 3)), [2, 3])
    assert [len(block) for block in zeros.vectors.blocks] == [0]
    assert zeros.vectors.starts.tolist() == [0, 0]
    assert zeros.vectors.shape == (0, 3)


def test_vectors_that_are_ready_are_not_copied(blocked):
    X = np.eye(6, dtype=np.float32)
    block = np.ascontiguousarray(X)
    found = distinct.find_distinct(Local(), [(0, 6, [block])], 6)
    assert found.vectors.blocks[0] is block
    double = distinct.find_distinct(Local(), [(0, 6, [2.0 * X])], 6)
    assert_array_equal(double.vectors.blocks[0], X)
    fortran = distinct.find_distinct(Local(), [(0, 6, [np.asfortranarray(X)])], 6)
    assert fortran.vectors.blocks[0].flags.c_contiguous


def test_rows_are_measured_some_at_a_time(monkeypatch, directions):
    X = np.delete(directions, 21, axis=0).astype(np.float32)
    unit = knn.unit_rows(X)
    expected = distinct._measure(0, [unit], 1)
    monkeypatch.setattr(distinct, "_ROWS_MEASURED", 7)
    monkeypatch.setattr(distinct, "_ROWS_OF_TASK", 14)
    hashed = []
    row_hashes = knn.row_hashes

    def noted(rows):
        hashed.append(len(rows))
        return row_hashes(rows)

    monkeypatch.setattr(distinct.knn, "row_hashes", noted)
    for given in (unit, X):
        found = distinct._measure(0, [given], 1)
        assert_array_equal(found[0], expected[0])
        assert_array_equal(found[1][0], expected[1][0])
        assert_array_equal(found[1][1], expected[1][1])
    # One pass over rows of unit length; of others by whole tasks, once they have it.
    assert hashed == [7] * 8 + [3] + [14] * 4 + [3]
    hashed.clear()
    unit = unit.copy()
    unit[10] *= 2
    distinct._measure(0, [unit], 1)
    assert hashed[-5:] == [14] * 4 + [3]


def test_rows_that_are_not_finite_are_told_by_their_numbers(monkeypatch):
    monkeypatch.setattr(distinct, "_ROWS_MEASURED", 4)
    X = np.eye(9, dtype=np.float32)
    X[6, 1] = np.nan
    with pytest.raises(ValueError, match=r"row 106, column 1\. 1 of rows 104 to 107 "):
        distinct._measure(100, [X], 1)


def test_sizes_of_blocks_on_workers():
    assert distinct.rows_of_blocks(100, 64) == 256
    assert distinct.rows_of_blocks(2048, 64) == 256
    assert distinct.rows_of_blocks(2049, 64) == 257
    assert distinct.rows_of_blocks(80_000, 64) == 10_000
    # At most 2^27 bytes, of rows of 2^10.
    assert distinct.rows_of_blocks(2**24, 256) == 2**17
    # Larger by the root of how much all is larger than 2^34.
    assert distinct.rows_of_blocks(2**26, 256) == 2**18
    assert distinct.rows_of_blocks(10, 2**30) == 1


def test_numbers_are_divided_by_blocks():
    shards = Shards(Local(), ["a", "b", "c"], [3, 2, 4], (9, 1), np.arange(9))
    rows, places = shards.divide(np.array([8, 0, 4, 3, 2, 5]))
    assert [of.tolist() for of in rows] == [[0, 2], [1, 0], [3, 0]]
    assert [of.tolist() for of in places] == [[1, 4], [2, 3], [0, 5]]


# --- where they are -------------------------------------------------------------------


def test_vectors_here_are_kept_themselves_and_others_as_shards(blocked, noting):
    X = np.eye(4)
    here = blocked(X, [4]).vectors
    assert here.to_keep() is here.blocks[0]
    there = blocked(X, [2, 2], noting()).vectors
    assert there.to_keep() is there
    assert_array_equal(there.gather(), X)
    held = blocked(X, [4])._replace(vectors=here.blocks[0])
    shards = distinct.as_shards(held)
    assert shards.starts.tolist() == [0, 4]
    assert shards.blocks[0] is here.blocks[0]
    assert_array_equal(shards.ranks, held.ranks)
    assert distinct.as_shards(held._replace(vectors=there)) is there
    copy = pickle.loads(pickle.dumps(here))
    assert copy.starts.tolist() == [0, 4]
    assert copy.shape == (4, 4)
    assert_array_equal(copy.ranks, here.ranks)


def test_vectors_that_are_lost_are_told():
    def shards(lost, blocks=("a",), m=1):
        runner = SimpleNamespace(
            why_lost=lambda _: lost, put=lambda ranks: ranks, fetch=lambda _: [X] * 2
        )
        return Shards(runner, blocks, [m], (m, 2), np.arange(m))

    X = np.ones((1, 2))
    shards(None).check()
    shards(None, (), 0).check()
    assert shards(None).gather().shape == (2, 2)
    for one, why in (
        (shards("it is closed"), "it is closed"),
        (shards(None, ()), "a pickle or copy of it does not have them"),
    ):
        with pytest.raises(RuntimeError, match=f"Dask cluster, and {why}. Use it"):
            one.check()
        with pytest.raises(RuntimeError, match=why):
            one.gather()


# --- queries --------------------------------------------------------------------------


@pytest.mark.parametrize("k", [1, 6, 40])
@pytest.mark.parametrize("sizes", SIZES)
def test_true_neighbours_of_some_vectors(blocked, directions, sizes, k):
    shards = blocked(directions, sizes).vectors
    numbers = np.array([50, 0, 19, 20, 55])
    queries = whole(shards)[numbers]
    found = distinct.nearest_of_all(queries, shards, k, numbers, 1)
    ids, similarities = brute_neighbors(whole(shards), k)
    assert_array_equal(found.ids, ids[numbers])
    np.testing.assert_allclose(found.similarities, similarities[numbers], atol=2e-6)


@pytest.mark.parametrize("k", [1, 6, 56])
@pytest.mark.parametrize("sizes", SIZES)
def test_the_nearest_of_queries_and_the_one_that_is_equal(
    blocked, directions, sizes, k
):
    shards = blocked(directions, sizes).vectors
    vectors = whole(shards)
    rng = np.random.default_rng(0)
    others = knn.unit_rows(rng.standard_normal((4, 8)).astype(np.float32))
    queries = np.concatenate([vectors[[55, 0, 20]], others])
    found, equal = distinct.nearest_fitted(queries, shards, k, 1)
    similarities = np.round(queries.astype(float) @ vectors.T.astype(float), 6)
    ids = np.argsort(-similarities, axis=1, kind="stable")[:, :k]
    assert_array_equal(found.ids, ids)
    np.testing.assert_allclose(
        found.similarities, np.take_along_axis(similarities, ids, axis=1), atol=2e-6
    )
    expected = np.zeros((7, k), dtype=bool)
    expected[:3, 0] = True
    assert_array_equal(equal, expected)


def test_rows_of_zeros_are_nobodys_neighbours(blocked):
    shards = blocked(np.zeros((3, 2)), [3]).vectors
    found, equal = distinct.nearest_fitted(np.eye(2, dtype="f4"), shards, 0, 1)
    assert found.ids.shape == equal.shape == (2, 0)


@pytest.mark.parametrize("sizes", [[40], [13, 27], [1, 2, 37]])
def test_among_near_copies_queries_go_by_the_ranks_of_those_they_equal(blocked, sizes):
    rng = np.random.default_rng(0)
    X = np.ones((40, 6)) + 2e-5 * rng.standard_normal((40, 6))
    fitted = blocked(X, sizes)
    shards, m = fitted.vectors, len(fitted.first)
    assert m > 20
    vectors = whole(shards)
    own = distinct.nearest_of_all(vectors, shards, 5, np.arange(m), 1)
    found, equal = distinct.nearest_fitted(vectors, shards, 6, 1)
    assert equal.sum() == m
    assert_array_equal(found.ids[equal], np.arange(m))
    assert_array_equal(found.ids[~equal].reshape(m, 5), own.ids)
    numbers = distinct._find_equal(vectors, shards)
    assert_array_equal(numbers, np.arange(m))


def test_equal_vectors_are_found_wherever_they_are(blocked, directions):
    shards = blocked(directions, [20, 3, 37]).vectors
    queries = np.concatenate([whole(shards)[[55, 0, 19, 20]], -whole(shards)[:2]])
    found = distinct._find_equal(queries, shards)
    assert found.tolist() == [55, 0, 19, 20, -1, -1]
    assert distinct._find_equal(queries[:0], shards).size == 0


def test_numbers_of_all_vectors_are_those_of_a_block_shifted():
    found = knn.Neighbors(np.array([[0, 2], [1, -1]]), np.ones((2, 2)))
    assert distinct._shifted(found, 0) is found
    assert distinct._shifted(found, 10).ids.tolist() == [[10, 12], [11, -1]]
