"""Comparisons of partitions of the same rows.

A partition is an array of integer labels from 0 up; -1 is noise, and a row of noise
counts as a community of its own. Gaps between labels cost memory and nothing else.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import combinations

import numpy as np
import scipy.sparse as sp
from scipy.signal import find_peaks
from scipy.sparse.csgraph import min_weight_full_bipartite_matching
from scipy.special import gammaln


def number(labels: np.ndarray) -> np.ndarray:
    """Any integer labels as labels from 0 without gaps; negative ones as -1."""
    numbered = np.full(labels.shape, -1, dtype=np.int64)
    numbered[labels >= 0] = np.unique(labels[labels >= 0], return_inverse=True)[1]
    return numbered


def sizes(labels: np.ndarray) -> np.ndarray:
    """Rows in each community."""
    return np.bincount(labels[labels >= 0])


def contingency(a: np.ndarray, b: np.ndarray) -> sp.csr_array:
    """Rows shared by each community of one and each of another partition."""
    placed = (a >= 0) & (b >= 0)
    table = sp.csr_array(
        (np.ones(placed.sum(), dtype=np.int64), (a[placed], b[placed])),
        shape=(a.max(initial=-1) + 1, b.max(initial=-1) + 1),
    )
    table.sum_duplicates()
    return table


def _pairs(counts: np.ndarray) -> float:
    return float((counts * (counts - 1) // 2).sum())


def adjusted_rand(a: np.ndarray, b: np.ndarray) -> float:
    """Give the adjusted Rand index (Hubert and Arabie, 1985); 1 for equal partitions.

    Rows of noise are in no pair, so that leaving them out of the counts, but not of
    the number of rows, makes each a community of its own.
    """
    together, in_a, in_b = (
        _pairs(counts) for counts in (contingency(a, b).data, sizes(a), sizes(b))
    )
    if in_a == in_b == together:
        return 1.0
    expected = in_a * in_b / _pairs(np.array([a.size]))
    return (together - expected) / ((in_a + in_b) / 2 - expected)


def shared_information(a: np.ndarray, b: np.ndarray) -> float:
    """Tell what one partition says and the other confirms, beyond chance, in nats.

    ``I - E``, with the mutual information I and its expectation E for random labels
    with the same sizes (Vinh, Epps and Bailey, 2010). A row of noise says nothing.
    """
    return mutual_information(a, b) - expected_mutual_information(
        sizes(a), sizes(b), a.size
    )


def mutual_information(a: np.ndarray, b: np.ndarray) -> float:
    """Compute the mutual information of two partitions, in nats."""
    n, in_a, in_b = a.size, sizes(a), sizes(b)
    table = contingency(a, b).tocoo()
    if_independent = in_a[table.row] * (in_b[table.col] / n)
    return float(table.data @ np.log(table.data / if_independent) / n)


def adjusted_mutual_information(a: np.ndarray, b: np.ndarray) -> float:
    """Mutual information adjusted for chance, by the mean of both entropies.

    Vinh, Epps and Bailey (2010); 1 for equal partitions.
    """
    one, other = map(_alone, (a, b))
    in_one, in_other = sizes(one), sizes(other)
    said = (_entropy(in_one, a.size) + _entropy(in_other, a.size)) / 2
    expected = expected_mutual_information(in_one, in_other, a.size)
    most = said - expected
    if most <= np.finfo(np.float64).eps * max(said, 1):  # all in one, or each alone
        return float(adjusted_rand(a, b) == 1)
    # Of equal partitions, rounding would make it a little more than 1.
    return min((mutual_information(one, other) - expected) / most, 1.0)


def _alone(labels: np.ndarray) -> np.ndarray:
    """Labels with a community of its own for each row of noise."""
    noise = labels < 0
    found = labels.copy()
    found[noise] = labels.max(initial=-1) + 1 + np.arange(np.count_nonzero(noise))
    return found


def net_information(a: np.ndarray, b: np.ndarray) -> float:
    """Measure what one partition says and another confirms, less the rest, in nats.

    Twice the shared information less the mean entropy: shared information, less half
    the variation of information (Meila, 2007), both adjusted for chance. 0 for a single
    community, and below 0 where less than half is confirmed.
    """
    said = (_entropy(sizes(a), a.size) + _entropy(sizes(b), b.size)) / 2
    return 2 * shared_information(a, b) - float(said)


def _entropy(counts: np.ndarray, n: int) -> float:
    counts = counts[counts > 0]
    return float(counts @ np.log(n / counts) / n)


def expected_mutual_information(in_a: np.ndarray, in_b: np.ndarray, n: int) -> float:
    """Compute the mean mutual information of random partitions with given sizes.

    Vinh, Epps and Bailey (2010). The overlap of a community of one size with one of
    another is hypergeometric, so that equal sizes are computed once; overlaps more than
    12 standard deviations from the mean are left out, which changes no digit.
    """
    size_a, count_a = np.unique(in_a, return_counts=True)
    size_b, count_b = np.unique(in_b, return_counts=True)
    log_factorial = gammaln(np.arange(n + 1) + 1.0)
    total = 0.0
    for a, times in zip(size_a, count_a, strict=True):
        mean = a * size_b / n
        reach = 12 * np.sqrt(mean) + 12
        lowest = np.maximum(np.maximum(1, a + size_b - n), np.floor(mean - reach))
        highest = np.minimum(np.minimum(a, size_b), np.ceil(mean + reach))
        lengths = (highest - lowest + 1).astype(np.int64)
        which = np.repeat(np.arange(size_b.size), lengths)
        within = np.arange(which.size) - np.repeat(lengths.cumsum() - lengths, lengths)
        overlap = lowest.astype(np.int64)[which] + within
        b = size_b[which]
        log_probability = (
            log_factorial[a] + log_factorial[n - a] + log_factorial[b]
            + log_factorial[n - b] - log_factorial[n] - log_factorial[overlap]
            - log_factorial[a - overlap] - log_factorial[b - overlap]
            - log_factorial[n - a - b + overlap]
        )  # fmt: skip
        terms = overlap / n * np.log(n * overlap / (a * b)) * np.exp(log_probability)
        total += times * (terms @ count_b[which])
    return float(total)


def pairwise(partitions: Sequence[np.ndarray]) -> np.ndarray:
    """Compute the adjusted Rand indices of all pairs, a matrix with unit diagonal."""
    scores = np.eye(len(partitions))
    for i, j in combinations(range(len(partitions)), 2):
        scores[i, j] = scores[j, i] = adjusted_rand(partitions[i], partitions[j])
    return scores


def prediction_strength(labels: np.ndarray, predicted: np.ndarray) -> np.ndarray:
    """Share of each community's pairs that the prediction keeps together.

    Tibshirani and Walther (2005). nan for a community of one row, which has no pair.
    """
    table = contingency(labels, predicted)
    members = sizes(labels).astype(np.float64)
    kept = np.asarray(table.multiply(table - table.astype(bool)).sum(axis=1)).ravel()
    with np.errstate(invalid="ignore"):
        return kept / (members * (members - 1))


def best_jaccard(labels: np.ndarray, other: np.ndarray) -> np.ndarray:
    """Jaccard similarity of each community and the most similar one of another.

    Hennig (2007). nan for a community without rows, 0 for one with no counterpart.
    """
    own, others = sizes(labels), sizes(other)
    table = contingency(labels, other).tocoo()
    best = np.where(own > 0, 0.0, np.nan)
    shares = table.data / (own[table.row] + others[table.col] - table.data)
    np.maximum.at(best, table.row, shares)
    return best


def kept_together(labels: np.ndarray, other: np.ndarray) -> np.ndarray:
    """Mask of the rows that another partition keeps with their community.

    Communities are matched one to one such that the most rows are kept. A row of noise
    is kept where it is noise again.
    """
    kept = (labels < 0) & (other < 0)
    placed = (labels >= 0) & (other >= 0)
    kept[placed] = match(labels, other)[labels[placed]] == other[placed]
    return kept


def match(labels: np.ndarray, other: np.ndarray) -> np.ndarray:
    """Match communities one to one, such that the most rows are in a matched pair.

    Gives the partner of each community, -1 where it has none.
    """
    partner = np.full(labels.max(initial=-1) + 1, -1)
    # Communities without rows have no partner, and would take long to be left alone.
    own, others = (np.unique(of[of >= 0]) for of in (labels, other))
    table = contingency(number(labels), number(other))
    n, n_others = table.shape
    if table.nnz == 0:
        return partner
    # A full matching is asked for: a partner of its own, worth less than any row even
    # taken together, lets every community stay unmatched.
    alone = sp.eye_array(n, format="csr") / (2 * n + 2)
    _, found = min_weight_full_bipartite_matching(
        sp.csr_array(sp.hstack([table.astype(np.float64), alone])), maximize=True
    )
    matched = found < n_others
    partner[own[matched]] = others[found[matched]]
    return partner


def local_maxima(values: np.ndarray, prominence: float) -> np.ndarray:
    """Positions of the local maxima, ends included; of a plateau the middle.

    A maximum counts if, on the way to any higher one, values fall by at least
    `prominence` below it.
    """
    padded = np.concatenate([[-np.inf], values, [-np.inf]])
    return find_peaks(padded, prominence=prominence)[0] - 1
