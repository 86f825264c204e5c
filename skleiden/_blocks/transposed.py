"""Columns of matrices as rows: neurons in place of prompts.

Sparse matrices are transposed once, Dask arrays lazily, and of all others stretches of
columns are read as they are needed.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import scipy.sparse as sp

from .rows import densified, one_below_other, sparse_dtype
from .sources import (
    Source,
    SparseSource,
    is_on_workers,
    row_batches,
    source_of,
    unpacked,
)

# All rows are read for each stretch of columns: so a stretch is an eighth of a large
# matrix, or holds so many numbers.
_STRETCHES, _AT_ONCE = 8, 2**24


def transposed(matrices: Sequence[Any]) -> Any:
    """Give the columns of some matrices, one matrix below the other, as rows."""
    sources = [source_of(matrix) for matrix in matrices]
    if is_on_workers(matrices[0]):
        from .dask import transposed as of_dask

        return of_dask(matrices)
    if all(isinstance(source, SparseSource) for source in sources):
        return _turned([source.whole() for source in sources])
    parts = [
        SparseSource(_turned([source.whole()]))
        if isinstance(source, SparseSource)
        else Columns(source)
        for source in sources
    ]
    return parts[0] if len(parts) == 1 else Joined(parts)


def _turned(matrices: Sequence[sp.csr_array]) -> sp.csr_array:
    """Transpose CSR arrays into one, and no second copy of all."""
    n_stored = sum(matrix.nnz for matrix in matrices)
    width, shape = matrices[0].shape[0], sum(matrix.shape[1] for matrix in matrices)
    wide = max(n_stored, width) > np.iinfo(np.int32).max
    index = np.int64 if wide else np.int32
    dtype = sparse_dtype(np.result_type(*(matrix.dtype for matrix in matrices)))
    data, indices = np.empty(n_stored, dtype), np.empty(n_stored, index)
    indptr = np.zeros(shape + 1, index)
    row = at = 0
    for matrix in matrices:
        turned = matrix.tocsc()
        stop, end = at + turned.nnz, row + matrix.shape[1]
        data[at:stop], indices[at:stop] = turned.data, turned.indices
        indptr[row + 1 : end + 1] = turned.indptr[1:] + index(at)
        row, at = end, stop
    return sp.csr_array((data, indices, indptr), shape=(shape, width))


class Columns(Source):
    """The columns of a matrix, dense or in a file, as rows."""

    is_lazy = True
    cuts_columns = False
    ndim = 2

    def __init__(self, matrix: Any) -> None:
        self.matrix, self.inner = self, source_of(matrix)
        self.shape = self.inner.shape[::-1]
        self.dtype = self.inner.dtype
        self.at_once = max(_AT_ONCE, self.inner.n_stored // _STRETCHES)

    @property
    def chunk_rows(self) -> int:  # type: ignore[override]
        return max(1, min(self.shape[0], self.at_once // max(1, self.shape[1])))

    def underlying(self) -> list[Any]:
        return self.inner.underlying()

    def read(self, rows: slice) -> Any:
        return self.select(rows)

    def select(self, rows: slice | np.ndarray) -> Any:
        inner, columns = self.inner, np.arange(self.shape[0])[rows]
        at: Any = columns
        if inner.cuts_columns and isinstance(rows, slice) and columns.size:
            at = slice(None, None, rows.step)
            stretch = slice(int(columns.min()), int(columns.max()) + 1)
            inner = source_of(inner.divided([stretch])[0])
        out = np.empty((columns.size, self.shape[1]), dtype=self.dtype)
        for batch in row_batches([inner]):
            out[:, batch] = densified(inner.read(batch))[:, at].T
        return out

    def whole(self) -> Any:
        return self.read(slice(0, self.shape[0]))

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        return np.asarray(self.whole(), dtype=dtype)

    def packed(self) -> Any:
        return _Packed(Columns, [self.inner.packed()])


class Joined(Source):
    """Sources of the same columns, one below the other."""

    is_lazy = True
    cuts_columns = False
    ndim = 2

    def __init__(self, sources: Sequence[Any]) -> None:
        self.matrix, self.sources = self, [source_of(source) for source in sources]
        self.starts = np.cumsum([0, *(source.shape[0] for source in self.sources)])
        self.shape = int(self.starts[-1]), self.sources[0].shape[1]
        self.is_sparse = any(isinstance(s, SparseSource) for s in self.sources)
        self.dtype = np.result_type(*(source.dtype for source in self.sources))
        if self.is_sparse:
            self.dtype = sparse_dtype(self.dtype)
        self.at_once = min(source.at_once for source in self.sources)
        self.chunk_rows = min(s.chunk_rows or s.shape[0] for s in self.sources)

    @property
    def n_stored(self) -> int:
        return sum(source.n_stored for source in self.sources)

    def underlying(self) -> list[Any]:
        return [matrix for source in self.sources for matrix in source.underlying()]

    def read(self, rows: slice) -> Any:
        pieces = []
        for source, start in zip(self.sources, self.starts.tolist(), strict=False):
            own = slice(
                max(rows.start - start, 0), min(rows.stop - start, source.shape[0])
            )
            if own.start < own.stop:
                pieces.append(source.read(own))
        return self._joined(pieces)

    def select(self, rows: slice | np.ndarray) -> Any:
        numbers = np.arange(self.shape[0])[rows]
        order = np.argsort(numbers, kind="stable")
        cuts = np.searchsorted(numbers[order], self.starts).tolist()
        pieces = [
            source.select(numbers[order[a:b]] - start)
            for source, start, a, b in zip(
                self.sources, self.starts.tolist(), cuts, cuts[1:], strict=False
            )
            if a < b
        ]
        back = np.argsort(order, kind="stable")
        return source_of(self._joined(pieces)).select(back)

    def whole(self) -> Any:
        return self.read(slice(0, self.shape[0]))

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        return np.asarray(densified(self.whole()), dtype=dtype)

    def packed(self) -> Any:
        return _Packed(_join, [source.packed() for source in self.sources])

    def _joined(self, pieces: list[Any]) -> Any:
        """Give pieces as one block, of the same storage whichever they are."""
        if not pieces:
            return np.empty((0, self.shape[1]), self.dtype)
        pieces = [piece.astype(self.dtype, copy=False) for piece in pieces]
        if self.is_sparse:
            pieces = [sp.csr_array(piece) for piece in pieces]
        return one_below_other(pieces)


def _join(*matrices: Any) -> Joined:
    return Joined(matrices)


class _Packed(NamedTuple):
    """Transposed matrices as a pickle holds them."""

    make: Any
    parts: list[Any]

    def open(self) -> Source:
        made: Source = self.make(*map(unpacked, self.parts))
        return made
