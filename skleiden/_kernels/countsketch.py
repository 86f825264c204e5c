"""Column statistics, column weights and the count sketch of layers.

A *part* of the input is a matrix that holds one or more layers side by side. What
the functions here take is a block of rows of a part: an ndarray, or a CSR array without
duplicate entries or stored zeros; float32 or float64, finite.
"""

from __future__ import annotations

from collections.abc import Iterable
from functools import partial
from typing import Any, NamedTuple, TypeAlias

import numpy as np
import scipy.sparse as sp

Block: TypeAlias = Any  # ndarray | sp.csr_array; SciPy has no types to tell them by

_NONE = np.empty(0)


class ColumnStatistics(NamedTuple):
    """Counts and moments of the columns of some rows, which can be merged.

    `n_samples` rows; `df`, their nonzero entries in each column; `mean`, and `spread`,
    the Euclidean length of the deviations from it, both empty where only counts were
    asked for. Not finite where float64 overflows.
    """

    n_samples: int
    df: np.ndarray
    mean: np.ndarray
    spread: np.ndarray


def merge(a: ColumnStatistics, b: ColumnStatistics) -> ColumnStatistics:
    """Statistics of the rows of both (Chan, Golub and LeVeque, 1983)."""
    n = a.n_samples + b.n_samples
    share = b.n_samples / n
    with np.errstate(over="ignore", invalid="ignore"):
        delta = b.mean - a.mean
        mean = a.mean + delta * share
        between = np.abs(delta) * np.sqrt(a.n_samples * share)
        spread = np.hypot(np.hypot(a.spread, b.spread), between)
    return ColumnStatistics(n, a.df + b.df, mean, spread)


def side_by_side(parts: Iterable[ColumnStatistics]) -> ColumnStatistics:
    """Statistics of the same rows of several matrices, joined as columns."""
    n_samples, *columns = zip(*parts, strict=True)
    return ColumnStatistics(n_samples[0], *map(np.concatenate, columns))


def column_statistics(block: Block, *, moments: bool) -> ColumnStatistics:
    """Count the nonzeros of each column and, if asked, its mean and spread.

    Sums are taken in float64, and squares around the block's own mean, so that large
    means do not cancel.
    """
    n, width = block.shape
    sparse = sp.issparse(block)
    if sparse:
        df = np.bincount(block.indices, minlength=width)
    else:
        df = np.count_nonzero(block, axis=0)
    if not moments:
        return ColumnStatistics(n, df, _NONE, _NONE)
    values = block.data if sparse else block

    def total(values: np.ndarray) -> np.ndarray:
        if sparse:
            return np.bincount(block.indices, values, minlength=width)
        return values.sum(axis=0, dtype=np.float64)

    def per_entry(column: np.ndarray) -> np.ndarray:
        return column.take(block.indices) if sparse else column

    with np.errstate(over="ignore", invalid="ignore"):
        mean = total(values) / n
        deviations = values - per_entry(mean)
        if not sparse:  # zeros come last, so that both storages add up alike
            deviations *= values != 0
        spread = np.sqrt(total(deviations**2))
        # Squares of very large or small deviations overflow or vanish: scale those.
        unsafe = (df > 0) & ~((spread > 1e-140) & (spread < 1e140))
        if unsafe.any():
            scale = total(np.abs(deviations))
            scale[scale == 0] = 1
            scaled = total((deviations / per_entry(scale)) ** 2)
            spread = np.where(unsafe, scale * np.sqrt(scaled), spread)
        spread = np.hypot(spread, np.sqrt(n - df) * np.abs(mean))
    return ColumnStatistics(n, df, mean, spread)


def inverse_document_frequency(
    df: np.ndarray, n_samples: int, *, smooth: bool
) -> np.ndarray:
    """Inverse document frequency, as scikit-learn's TfidfTransformer defines it.

    ``log((n + 1) / (df + 1)) + 1`` if `smooth`, else ``log(n / df) + 1``, where a
    column that is never active, and so weighs nothing, gets the idf of df = 1.
    """
    extra = int(smooth)
    seen = np.maximum(df + extra, 1)
    return np.log((n_samples + extra) / seen) + 1.0


def standard_deviation(stats: ColumnStatistics) -> np.ndarray:
    """Give the standard deviation of each column, 1 where the column is constant.

    A deviation below what rounding alone leaves of a constant column counts as zero
    (the bound scikit-learn's StandardScaler uses), and so does one too small to be
    divided by.
    """
    deviation = stats.spread / np.sqrt(stats.n_samples)
    constant = is_constant(stats.n_samples, stats.mean, deviation)
    return np.where(constant, 1.0, deviation)


def is_constant(n: Any, mean: np.ndarray, deviation: np.ndarray) -> np.ndarray:
    """Whether n values deviate from their mean by what rounding leaves, or less."""
    limits = np.finfo(np.float64)
    rounding = np.hypot(
        np.sqrt(n * limits.eps) * deviation, n * limits.eps * np.abs(mean)
    )
    return deviation <= np.maximum(rounding, limits.tiny)


class Centred(NamedTuple):
    """Rows less their means: ``block - means``, whose deviations from zero vary.

    `means` has a column for each layer: what is still to be subtracted of CSR arrays,
    zero where it was. `deviation` is the standard deviation of each row in each layer,
    zero where the row is constant.
    """

    block: Block
    means: np.ndarray
    deviation: np.ndarray


def centre_rows(
    block: Block, counted: np.ndarray, layer_of: np.ndarray, n_layers: int
) -> Centred:
    """Subtract the mean of each row in each layer, in float64.

    Rows are divided by their largest absolute value in each layer before, so that no
    square overflows or vanishes.

    Parameters
    ----------
    block : ndarray or CSR array of shape (n, width)

    counted : ndarray of shape (width,), dtype bool
        Columns that take part; the others become zero.

    layer_of : ndarray of int32 of shape (width,)
        Number of the layer that each column belongs to.

    n_layers : int

    Returns
    -------
    Centred
    """
    ones = counted.astype(np.float64)
    n_counted = np.maximum(np.bincount(layer_of, ones, minlength=n_layers), 1)
    added = partial(sketch, weights=ones, buckets=layer_of, n_buckets=n_layers)
    if sp.issparse(block):
        row_of = np.repeat(np.arange(block.shape[0]), np.diff(block.indptr))
        of_layer = layer_of.take(block.indices)
        largest = np.zeros((block.shape[0], n_layers))
        np.maximum.at(largest, (row_of, of_layer), np.abs(block.data))
        values = block.data / largest[row_of, of_layer]

        def stored(values: np.ndarray) -> np.ndarray:
            parts = values, block.indices, block.indptr
            return added(sp.csr_array(parts, shape=block.shape))

        means = stored(values) / n_counted
        squares = stored((values - means[row_of, of_layer]) ** 2)
        squares += (n_counted - stored(np.ones(values.size))) * means**2
        centred = sp.csr_array(
            (values * ones.take(block.indices), block.indices, block.indptr),
            shape=block.shape,
        )
        left = means
    else:
        largest = np.ones((block.shape[0], n_layers))
        for layer in range(n_layers):
            own = np.abs(block[:, layer_of == layer])
            largest[:, layer] = own.max(axis=1, initial=0)
        largest[largest == 0] = 1
        centred = block / largest.take(layer_of, axis=1)
        means = added(centred) / n_counted
        centred -= means.take(layer_of, axis=1)
        centred *= ones
        squares, left = added(centred**2), np.zeros_like(means)
    deviation = np.sqrt(np.maximum(squares, 0) / n_counted)
    deviation[is_constant(n_counted, means, deviation)] = 0
    return Centred(centred, left, deviation)


def draw_hashes(
    width: int, n_components: int, rng: np.random.RandomState
) -> tuple[np.ndarray, np.ndarray]:
    """Draw a bucket in [0, n_components) and a sign in {-1, 1} for each column."""
    buckets = rng.randint(0, n_components, size=width, dtype=np.int32)
    signs = 2 * rng.randint(0, 2, size=width, dtype=np.int8) - 1
    return buckets, signs.astype(np.int8)


def sketch(
    block: Block, weights: np.ndarray, buckets: np.ndarray, n_buckets: int
) -> np.ndarray:
    """Add the weighted columns of each row up into buckets (CountSketch).

    Charikar, Chen and Farach-Colton (2002), as a map of features: Weinberger et al.
    (2009). Within a row and bucket both storages add in the order of the columns, so
    dense and sparse input agree, and a row's sketch does not depend on its block.

    Parameters
    ----------
    block : ndarray or CSR array of shape (n, width)

    weights : ndarray of shape (width,)
        Column weight times sign. Products are added up in the larger of its dtype and
        the block's.

    buckets : ndarray of int32 of shape (width,)

    n_buckets : int

    Returns
    -------
    ndarray of shape (n, n_buckets)
    """
    if sp.issparse(block):
        # Converting to dense adds up entries of the same place: one pass.
        hashed = sp.csr_array(
            (
                block.data * weights.take(block.indices),
                buckets.take(block.indices),
                block.indptr,
            ),
            shape=(block.shape[0], n_buckets),
        )
        return hashed.toarray()
    width = block.shape[1]
    columns = np.arange(width, dtype=np.int32)
    mixing = sp.csr_array((weights, (buckets, columns)), shape=(n_buckets, width))
    # The product runs over the rows of its right-hand side, contiguous if transposed.
    return np.ascontiguousarray((mixing @ np.ascontiguousarray(block.T)).T)


def active_rows(block: Block, columns: slice | None = None) -> np.ndarray:
    """Mask of the rows that hold any nonzero entry, among some columns if given."""
    if not sp.issparse(block):
        return (block if columns is None else block[:, columns]).any(axis=1)
    if columns is None:
        return np.diff(block.indptr) > 0
    within = (block.indices >= columns.start) & (block.indices < columns.stop)
    return np.diff(np.append(0, np.cumsum(within))[block.indptr]) > 0


def scale_rows(rows: np.ndarray, norm: float) -> np.ndarray:
    """Scale rows to a Euclidean `norm`, in place; zero rows stay zero.

    Returns the mask of the rows that are not zero. Raises OverflowError if a row is not
    finite.
    """
    lengths = np.sqrt(np.einsum("ij,ij->i", rows, rows))
    # Squares of very large or small entries overflow or vanish: scale those rows first.
    limits = np.finfo(rows.dtype)
    unsafe = ~((lengths < limits.max**0.25) & (lengths > limits.tiny**0.25))
    if unsafe.any():
        largest = np.abs(rows[unsafe]).max(axis=1, keepdims=True)
        if not np.isfinite(largest).all():
            raise OverflowError
        rows[unsafe] /= np.where(largest > 0, largest, 1)
        lengths[unsafe] = np.linalg.norm(rows[unsafe], axis=1)
    present = lengths > 0
    rows *= (norm / np.where(present, lengths, 1))[:, None].astype(rows.dtype)
    return present
