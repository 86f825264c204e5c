"""Kernels that compare partitions, against plain computations and scikit-learn."""

from itertools import permutations

import numpy as np
import pytest
import scipy.sparse as sp
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy.stats import entropy
from sklearn.metrics import adjusted_rand_score, mutual_info_score
from sklearn.metrics.cluster import expected_mutual_information

from skleiden._kernels import partitions
from skleiden._kernels.shuffle import shuffle_columns


def separated(labels):
    """Each row of noise as a community of its own."""
    labels = labels.copy()
    noise = labels < 0
    labels[noise] = labels.max() + 1 + np.arange(noise.sum())
    return labels


labelled = st.integers(2, 40).flatmap(
    lambda n: st.tuples(
        *[arrays(np.int64, n, elements=st.integers(-1, 6)) for _ in range(2)]
    )
)


@given(labelled)
@settings(max_examples=200, deadline=None)
def test_adjusted_rand_takes_noise_for_singletons(pair):
    a, b = map(partitions.number, pair)
    expected = adjusted_rand_score(separated(a), separated(b))
    assert partitions.adjusted_rand(a, b) == pytest.approx(expected, abs=1e-12)
    assert partitions.adjusted_rand(b, a) == pytest.approx(expected, abs=1e-12)


@given(labelled)
@settings(max_examples=100, deadline=None)
def test_information_without_noise(pair):
    a, b = (partitions.number(np.abs(labels)) for labels in pair)
    table = partitions.contingency(a, b)
    mutual = mutual_info_score(None, None, contingency=table.toarray())
    chance = expected_mutual_information(sp.csr_matrix(table), a.size)
    said = (entropy(np.bincount(a)) + entropy(np.bincount(b))) / 2
    assert partitions.shared_information(a, b) == pytest.approx(
        mutual - chance, abs=1e-9
    )
    assert partitions.net_information(a, b) == pytest.approx(
        2 * (mutual - chance) - said, abs=1e-9
    )


def test_expected_mutual_information_is_the_mean_over_permutations():
    a = np.array([0, 0, 0, 1, 1, 2, 2])
    b = np.array([0, 1, 0, 1, 0, 1, 2])
    # Of 5040 permutations, each of the 140 that differ comes equally often.
    mean = np.mean([mutual_info_score(a, p) for p in set(permutations(b.tolist()))])
    found = partitions.expected_mutual_information(np.bincount(a), np.bincount(b), 7)
    assert found == pytest.approx(mean, abs=1e-12)


def test_expected_mutual_information_leaves_out_nothing_that_matters():
    # Large communities, where only part of the possible overlaps is summed up.
    rng = np.random.RandomState(0)
    a, b = rng.randint(0, 3, 20_000), rng.randint(0, 2000, 20_000)
    table = sp.csr_matrix(partitions.contingency(a, b))
    expected = expected_mutual_information(table, 20_000)
    found = partitions.expected_mutual_information(
        np.bincount(a), np.bincount(b), 20_000
    )
    assert found == pytest.approx(expected, rel=1e-8)


def test_net_information_of_degenerate_partitions():
    one, alone = np.zeros(50, dtype=int), np.arange(50)
    halves = np.arange(50) % 2
    assert partitions.net_information(one, one) == pytest.approx(0, abs=1e-12)
    assert partitions.net_information(alone, alone) == pytest.approx(-np.log(50))
    assert 0.6 < partitions.net_information(halves, halves) <= np.log(2)
    assert partitions.net_information(halves, np.arange(50) // 25) < -0.6
    # Noise says nothing, and so neither gains nor loses.
    silent = np.full(50, -1)
    assert partitions.net_information(silent, silent) == 0
    half_silent = np.where(np.arange(50) < 26, halves, -1)
    both = partitions.net_information(half_silent, half_silent)
    assert 0 < both < partitions.net_information(halves, halves) * 2


@pytest.mark.parametrize(
    "measure",
    [
        partitions.net_information,
        partitions.shared_information,
        partitions.adjusted_mutual_information,
        partitions.adjusted_rand,
    ],
)
def test_labels_that_no_row_has_change_nothing(measure):
    a, b = np.array([0, 0, 3, 3, 5, -1]), np.array([1, 1, 1, 4, 4, 4])
    assert measure(a, b) == measure(partitions.number(a), partitions.number(b))


def test_information_grows_with_what_is_confirmed_and_falls_with_the_rest():
    coarse = np.arange(1000) // 250
    fine = np.arange(1000) // 50
    shuffled = np.random.RandomState(0).permutation(1000) % 5 + 5 * coarse
    assert partitions.net_information(fine, fine) > partitions.net_information(
        coarse, coarse
    )
    assert partitions.net_information(fine, shuffled) < partitions.net_information(
        coarse, coarse
    )


def test_prediction_strength_counts_pairs():
    labels = np.array([0, 0, 0, 0, 1, 1, 2])
    predicted = np.array([0, 0, 0, 1, 2, -1, 2])
    # Of six pairs three stay; of one, none; the last community has no pair.
    found = partitions.prediction_strength(labels, predicted)
    np.testing.assert_array_equal(found, [0.5, 0.0, np.nan])


def test_best_jaccard():
    labels = np.array([0, 0, 0, 1, 1, -1, 3])
    other = np.array([1, 1, 0, 0, 0, 0, -1])
    # {0,1,2} with {0,1}: 2/3; {3,4} with {2,3,4,5}: 1/2; no label 2; one noise row.
    found = partitions.best_jaccard(labels, other)
    np.testing.assert_allclose(found, [2 / 3, 1 / 2, np.nan, 0.0])


def brute_kept(labels, other):
    """Rows kept by the best one-to-one matching, by trying all of them."""
    k, m = labels.max() + 1, other.max() + 1
    columns = range(max(k, m))
    best = 0
    for order in permutations(columns, int(k)) if k else [()]:
        kept = sum(np.sum((labels == i) & (other == j)) for i, j in enumerate(order))
        best = max(best, kept)
    return best + np.sum((labels < 0) & (other < 0))


@given(labelled)
@settings(max_examples=100, deadline=None)
def test_most_rows_are_kept(pair):
    a, b = (partitions.number(np.minimum(labels, 3)) for labels in pair)
    kept = partitions.kept_together(a, b)
    assert kept.sum() == brute_kept(a, b)
    partner = {}
    for i, j in zip(a[kept], b[kept], strict=True):
        assert partner.setdefault(i, j) == j
    assert len(set(partner.values())) == len(partner)


def test_matching_takes_no_time_for_labels_that_no_row_has():
    """It took minutes: each of the numbers was left without a partner on its own."""
    labels = np.array([0, 0, 10**6, 10**6, -1, 7])
    other = np.array([10**5, 10**5, 3, 3, 0, -1])
    partner = partitions.match(labels, other)
    assert partner.size == 10**6 + 1
    assert {c: partner[c] for c in np.flatnonzero(partner >= 0)} == {0: 10**5, 10**6: 3}
    assert partitions.kept_together(labels, other).tolist() == [True] * 4 + [False] * 2


def test_communities_without_a_partner():
    labels = np.array([0, 0, 2, 2, 3, -1])
    other = np.array([1, 1, 1, -1, -1, 0])
    np.testing.assert_array_equal(partitions.match(labels, other), [1, -1, -1, -1])
    nothing = np.full(3, -1)
    assert partitions.match(nothing, other[:3]).size == 0
    np.testing.assert_array_equal(partitions.match(labels[:3], nothing), [-1] * 3)


def test_matching_many_small_communities():
    labels = np.arange(5000)
    np.testing.assert_array_equal(partitions.kept_together(labels, labels[::-1]), True)


def test_local_maxima():
    def find(values, prominence=0.1):
        return partitions.local_maxima(np.array(values), prominence).tolist()

    assert find([0.0, 1.0, 0.5, 0.8, 0.2]) == [1, 3]
    assert find([1.0, 0.5, 0.8]) == [0, 2]
    assert find([0.5, 0.8, 0.75, 0.81]) == [3]
    assert find([0.2, 0.7, 0.7, 0.7, 0.3]) == [2]
    assert find([0.3]) == [0]
    assert find([]) == []
    # There is no way to a higher one from the highest of all.
    assert find([0.2, 0.4, 0.1], prominence=3) == [1]
    assert find([-2.0, -5.0, -1.0], prominence=3.5) == [2]


# --------------------------------------------------------------------------- shuffling


@pytest.mark.parametrize("sparse", [True, False])
def test_shuffling_keeps_columns_and_loses_rows(sparse):
    X = sp.random(300, 40, density=0.3, format="csr", random_state=0, dtype=np.float32)
    X.data[:5] = -1  # values that differ from the rest
    shuffled = shuffle_columns(0, sp.csr_array(X) if sparse else X.toarray(), 0)
    if sparse:
        assert shuffled.format == "csr"
        assert shuffled.has_canonical_format
        shuffled = shuffled.toarray()
    X = X.toarray()
    assert shuffled.dtype == X.dtype
    np.testing.assert_array_equal(np.sort(shuffled, axis=0), np.sort(X, axis=0))
    correlation = np.corrcoef(np.hstack([X, shuffled]).T)
    assert abs(correlation[:40, 40:]).max() < 0.3
    assert (shuffled != X).mean() > 0.3


@pytest.mark.parametrize("sparse", [True, False])
def test_blocks_of_columns_are_shuffled_as_in_the_whole(sparse):
    X = sp.random(90, 300, density=0.3, format="csr", random_state=0)
    X = sp.csr_array(X) if sparse else X.toarray()
    whole = shuffle_columns(0, X, 5)
    parts = [shuffle_columns(a, X[:, a : a + 77], 5) for a in range(0, 300, 77)]
    again = sp.hstack(parts).toarray() if sparse else np.hstack(parts)
    np.testing.assert_array_equal(again, whole.toarray() if sparse else whole)
    other = shuffle_columns(0, X, 6)
    assert (other != whole).sum() > 1000


def test_shuffled_places_are_uniform():
    # One entry in a column of 4 rows ends in each row equally often.
    X = sp.csr_array(([1.0] * 4000, ([0] * 4000, range(4000))), shape=(4, 4000))
    counts = shuffle_columns(0, X, 0).sum(axis=1)
    assert abs(counts - 1000).max() < 120
    # Two entries of different value: all 12 placements equally often.
    X = sp.csr_array(np.tile([[1.0], [2.0], [0.0], [0.0]], 6000))
    columns = shuffle_columns(0, X, 0).toarray().T
    _, counts = np.unique(columns, axis=0, return_counts=True)
    assert counts.size == 12
    assert abs(counts - 500).max() < 100


@pytest.mark.parametrize("shape", [(30, 1), (30, 70)])
@pytest.mark.parametrize("order", ["C", "F"])
def test_shuffling_leaves_what_it_is_given(shape, order):
    X = np.asarray(np.random.default_rng(0).random(shape), order=order)
    before = X.copy()
    X.flags.writeable = False
    shuffled = shuffle_columns(0, X, 0)
    np.testing.assert_array_equal(X, before)
    assert (shuffled != before).any()
