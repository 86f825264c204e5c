"""Blocks of rows, as sources give them: ndarrays and CSR arrays."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import scipy.sparse as sp


def stored_values(block: Any) -> np.ndarray:
    """Give the numbers that a block of rows stores: all, or those that are not zero."""
    return block.data if sp.issparse(block) else block


def sparse_dtype(dtype: np.dtype) -> np.dtype:
    """Choose a dtype that holds the same numbers and that sparse arrays can have."""
    native = dtype.newbyteorder("=")
    return np.dtype(np.float32) if native == np.float16 else native


def with_values(block: Any, values: np.ndarray) -> Any:
    """Put other numbers in place of those that a block stores, and drop zeros."""
    if not sp.issparse(block):
        return values
    indices, indptr = block.indices, block.indptr
    stored = values != 0
    if not stored.all():
        indptr = np.append(0, np.cumsum(stored))[indptr]
        values, indices = values[stored], indices[stored]
    return sp.csr_array((values, indices, indptr), shape=block.shape)


def scale_rows(block: Any, factors: np.ndarray) -> Any:
    """Give a block with each row times a number."""
    if not sp.issparse(block):
        return block * factors[:, None]
    return with_values(block, block.data * np.repeat(factors, np.diff(block.indptr)))


def densified(block: Any) -> np.ndarray:
    """Give a block of rows as an ndarray."""
    return block.toarray() if sp.issparse(block) else np.asarray(block)


def at_columns(block: Any, values: np.ndarray) -> np.ndarray:
    """Values of the columns, for each number that a block stores."""
    return values.take(block.indices) if sp.issparse(block) else values


def positive_part(block: Any, columns: np.ndarray) -> Any:
    """Give a block with zeros for what is negative in some columns, told by a mask."""
    values = stored_values(block)
    if values.min(initial=0) >= 0:
        return block
    below = (values < 0) & at_columns(block, columns)
    return with_values(block, np.where(below, 0, values))


def above(block: Any, limits: np.ndarray) -> Any:
    """Mask of the numbers of a block that are above the limits of their columns."""
    if not sp.issparse(block) or (limits < 0).any():  # there zeros are above, too
        return densified(block) > limits
    return with_values(block, block.data > limits.take(block.indices))


def entries_above(
    block: Any, limits: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Rows, columns and values of what a block has above the limits of its columns."""
    if not sp.issparse(block) or (limits < 0).any():  # there zeros are above, too
        block = densified(block)
        rows, columns = np.nonzero(block > limits)
        return rows, columns, block[rows, columns]
    stored = block.tocoo()
    kept = stored.data > limits.take(stored.col)
    rows, columns = (of[kept].astype(np.int64) for of in (stored.row, stored.col))
    return rows, columns, stored.data[kept]


def column_squares(block: Any) -> np.ndarray:
    """Sum of the squares of each column of a block, without a matrix of squares."""
    if sp.issparse(block):
        return np.bincount(block.indices, block.data**2, minlength=block.shape[1])
    return np.einsum("ij,ij->j", block, block)


def side_by_side(chunks: Sequence[Any]) -> Any:
    """Chunks of the same rows as one matrix."""
    if len(chunks) == 1:
        return chunks[0]
    if any(sp.issparse(chunk) for chunk in chunks):
        return sp.hstack(chunks, format="csr")
    return np.hstack(chunks)


def one_below_other(blocks: Sequence[Any]) -> Any:
    """Blocks of rows of the same columns as one matrix."""
    if len(blocks) == 1:
        return blocks[0]
    if any(sp.issparse(block) for block in blocks):
        return sp.vstack(blocks, format="csr")
    return np.concatenate(blocks)


def dense_rows(chunks: Sequence[Any]) -> np.ndarray:
    """Chunks of the same rows as one ndarray; refused if they are sparse."""
    refuse_sparse(chunks)
    return np.asarray(side_by_side(chunks))


def refuse_sparse(chunks: Sequence[Any]) -> None:
    """Refuse sparse blocks of vectors, which are dense."""
    if any(sp.issparse(chunk) for chunk in chunks):
        raise TypeError(
            "Sparse blocks of X were passed, but dense data are required. Convert "
            "them, for example with X.map_blocks(lambda block: block.toarray())."
        )
