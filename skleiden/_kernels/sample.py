"""A sample of rows that is drawn by what the rows hold, whatever their order."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import scipy.sparse as sp


class Drawn(NamedTuple):
    """Rows that were drawn, all of them different, by ascending `keys`."""

    keys: np.ndarray
    rows: np.ndarray


NONE = Drawn(np.empty(0, dtype=np.uint64), np.empty(0, dtype=np.int64))


def draw_factors(width: int, seed: int) -> np.ndarray:
    """Draw an odd number of 64 bits for each column."""
    drawn = np.random.default_rng(seed).integers(2**63, size=width, dtype=np.uint64)
    return 2 * drawn + np.uint64(1)


def row_keys(block: Any, factors: np.ndarray) -> np.ndarray:
    """Give each row a number by its entries alone, dense or CSR without zeros.

    The sum of the entries' bits times their columns' factors, modulo 2^64, as in
    multiply-shift hashing (Dietzfelbinger et al., 1997): parts of a row may be added up
    in any order.

    Parameters
    ----------
    block : ndarray or CSR array of shape (n, width), float32 or float64

    factors : ndarray of uint64 of shape (width,)

    Returns
    -------
    ndarray of uint64 of shape (n,)
    """
    if not sp.issparse(block):
        return np.einsum("ij,j->i", _bits(block), factors)
    terms = _bits(block.data) * factors.take(block.indices)
    return np.diff(np.append(np.uint64(0), np.cumsum(terms))[block.indptr])


def _bits(values: np.ndarray) -> np.ndarray:
    """Give the bits of numbers as integers, equal for equal numbers; both zeros are 0.

    Those of single precision where it holds the number, whatever the dtype. All 64 of
    others are folded, so that even the highest reaches bits that a product keeps apart.
    """
    with np.errstate(over="ignore"):
        single = values.astype(np.float32) + np.float32(0)
    bits = single.view(np.uint32).astype(np.uint64)
    if values.dtype == np.float32:
        return bits
    double = values.view(np.uint64)
    return np.where(single == values, bits, double ^ (double >> np.uint64(32)))


def _spread(keys: np.ndarray) -> np.ndarray:
    """Shuffle all numbers of 64 bits, as SplitMix64 does (Steele, Lea, Flood, 2014).

    Sums over few distinct values are not uniform, and so would a sample not be.
    """
    keys = (keys ^ (keys >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    keys = (keys ^ (keys >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return keys ^ (keys >> np.uint64(31))


def drawn(keys: np.ndarray, start: int, n: int) -> Drawn:
    """Draw n rows of those that begin at `start`, equal ones once."""
    smallest, first = np.unique(_spread(keys), return_index=True)
    return Drawn(smallest[:n], start + first[:n].astype(np.int64))


def merge(a: Drawn, b: Drawn, n: int) -> Drawn:
    """Draw n rows of both, of which those of `a` come first."""
    keys, first = np.unique(np.concatenate([a.keys, b.keys]), return_index=True)
    return Drawn(keys[:n], np.concatenate([a.rows, b.rows])[first[:n]])
