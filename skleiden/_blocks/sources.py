"""Matrices by what they are stored as: the one place that asks.

A *source* is a matrix that is read by blocks of rows, which come as an ndarray or a CSR
array. A new kind of storage is one class here.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import scipy.sparse as sp
from sklearn.utils import check_array, gen_batches
from sklearn.utils.metaestimators import _safe_split

from skleiden._kernels import knn

from . import tensors
from .checks import (
    TOKENS_OR_LAYERS,
    check_finite,
    check_real,
    check_shape,
    refuse_dask_frame,
    refuse_layer_sequence,
    refuse_masked,
)
from .rows import refuse_sparse
from .runner import Local, Runner
from .sparse import as_csr, check_sparse
from .stored import is_zarr, place_of_zarr, read_stored

# Rows are read in blocks of about this many stored numbers: large enough to keep
# NumPy busy, small enough for the processor's cache and for streaming from disk.
_BLOCK_SIZE = 2**20
# Numbers read at once from arrays in files (64 MB of float32), though chunks of whole
# rows be larger: these are then read several times, as the price of bounded memory.
_MOST_AT_ONCE = 2**24


class Source:
    """A dense matrix in memory, or a memory map.

    Attributes
    ----------
    matrix : ndarray
        What is read.

    shape : tuple of int
        Rows and columns.

    dtype : numpy.dtype
        Of what `read` gives.

    n_stored : int
        Numbers that reading all of it takes.

    chunk_rows : int or None
        Rows that are stored together, and read together.

    is_lazy : bool
        Whether it is read by this class alone: NumPy would load all of it at once.

    on_workers : bool
        Whether its blocks are on the workers of a cluster.

    cuts_columns : bool
        Whether some columns can be had without a copy.

    at_once : int
        Numbers that are read at once, at most.
    """

    kind = "array"
    chunk_rows: int | None = None
    is_lazy = on_workers = False
    cuts_columns = True

    def __init__(self, matrix: Any) -> None:
        self.matrix = matrix
        self.shape, self.dtype = tuple(matrix.shape), matrix.dtype
        self.at_once = _MOST_AT_ONCE

    @classmethod
    def check(cls, matrix: Any, what: str) -> Any:  # noqa: ARG003
        """Refuse a matrix that cannot be read; gives it in the form that is kept."""
        return matrix

    @property
    def n_stored(self) -> int:
        """Numbers that reading all of it takes."""
        return math.prod(self.shape)

    def read(self, rows: slice) -> Any:
        """Give the rows from a start up to a stop."""
        return self.matrix[rows]

    def select(self, rows: slice | np.ndarray) -> Any:
        """Give a matrix of some rows."""
        return self.matrix[rows]

    def divided(self, columns: Sequence[slice]) -> list[Any]:
        """Give a matrix of each of some stretches of columns."""
        return [self.matrix[:, some] for some in columns]

    def whole(self) -> Any:
        """Give the matrix in memory, or mapped, a CSR array in canonical format."""
        return self.matrix

    def check_out(self, out: Any) -> None:
        """Refuse an `out` for the embedding where no array can take it."""

    def packed(self) -> Any:
        """Give what a pickle holds of it, equal before and after it was used."""
        return self.matrix

    def parts(self) -> list[np.ndarray]:
        """Give the arrays that it is made of, if it has any but those that are read."""
        return []

    def underlying(self) -> list[Any]:
        """Give the matrices that are read: it may be made of several."""
        return [self.matrix]

    def keeping(self, kept: np.ndarray) -> Any:
        """Give a matrix in which all but some columns, of a mask, read as zeros."""
        return KeptColumns(self, kept)

    def runner(self, verbose: int = 0) -> Runner:
        """Give what runs functions of its blocks."""
        return Local(verbose)

    def row_blocks(self, rows: int) -> list[tuple[int, int, list[Any]]]:
        """Give start, number of rows, and handles of matrices side by side, of blocks.

        In this process there is one block; elsewhere they have so many rows.
        """
        return [(0, self.shape[0], [self.whole()])]

    def aligned(self, sources: Sequence[Source]) -> list[tuple[int, int, list[Any]]]:
        """Give the same of some sources, itself the first, cut where this one is."""
        return [(0, self.shape[0], list(sources))]

    def each_block(self) -> Iterator[np.ndarray]:
        """Give the blocks one after the other, in this process."""
        yield self.whole()

    def map_columns(self, function: Callable[[int, Any], Any]) -> Any:
        """Give what a function makes of blocks of whole columns, as one matrix again.

        It is called with the number of a block's first column, and the block; in this
        process, once, with a matrix in memory.
        """
        return function(0, self.whole())


class SparseSource(Source):
    """A CSR matrix or array in memory, or of memory maps."""

    cuts_columns = False
    _made: sp.csr_array | None = None

    @classmethod
    def check(cls, matrix: Any, what: str) -> Any:
        check_real(matrix, what)
        check_sparse(matrix, what)
        return as_csr(matrix) if matrix.ndim == 2 else matrix

    @property
    def n_stored(self) -> int:
        return int(self.matrix.nnz)

    def whole(self) -> sp.csr_array:
        return self._canonical

    @property
    def _canonical(self) -> sp.csr_array:
        # Not a cached_property, whose lock a process forked meanwhile would wait for.
        if self._made is None:
            self._made = self._make()
        return self._made

    def _make(self) -> sp.csr_array:
        # A new wrapper, because SciPy caches what it finds out on the caller's object.
        matrix = sp.csr_array(_parts(self.matrix), shape=self.shape)
        if not matrix.has_canonical_format:
            matrix = matrix.copy()
            matrix.sum_duplicates()
        return matrix

    def read(self, rows: slice) -> Any:
        matrix = self._canonical
        indptr = matrix.indptr[rows.start : rows.stop + 1]
        entries = slice(indptr[0], indptr[-1])
        return sp.csr_array(
            (matrix.data[entries], matrix.indices[entries], indptr - indptr[0]),
            shape=(rows.stop - rows.start, self.shape[1]),
        )

    def packed(self) -> Any:
        # Without the flags that SciPy sets when a matrix is used.
        return type(self.matrix), _parts(self.matrix), self.shape

    def parts(self) -> list[np.ndarray]:
        # SciPy chooses the width of indices by what the matrix was made of.
        return [
            part.astype(np.int64) if part.dtype.kind == "i" else part
            for part in reversed(_parts(self.matrix))
        ]


class StoredSource(Source):
    """A Zarr array or an HDF5 dataset of h5py, which is read as its rows are needed.

    These have an ndarray's shape and dtype, and give ndarrays of the rows in a slice.
    Nothing else that they do is relied on.
    """

    kind = "Zarr array or HDF5 dataset"
    is_lazy = True
    cuts_columns = False

    @property
    def chunk_rows(self) -> int | None:  # type: ignore[override]
        return int(self.matrix.chunks[0]) if self.matrix.chunks else None

    def read(self, rows: slice) -> np.ndarray:
        return read_stored(self.matrix, rows.start, max(rows.start, rows.stop))

    def select(self, rows: slice | np.ndarray) -> np.ndarray:
        """Read some rows.

        Zarr and HDF5 differ in what index arrays they take, and are slow with them. So
        stretches of rows are read here, each chunk once, and the wanted rows picked.
        """
        n, width = self.shape
        if isinstance(rows, slice):
            stretch = range(n)[rows]
            if stretch.step == 1:
                return self.read(slice(stretch.start, stretch.stop))
        numbers = _row_numbers(rows, n)
        out = np.empty((numbers.size, width), dtype=self.dtype)
        step = rows_at_once([self], _BLOCK_SIZE // max(width, 1))
        order = np.argsort(numbers, kind="stable")
        ascending = numbers[order]
        at = 0
        while at < ascending.size:
            start = int(ascending[at])
            end = np.searchsorted(ascending, (start // step + 1) * step)
            stop = int(ascending[end - 1]) + 1
            block = self.read(slice(start, stop))
            out[order[at:end]] = block[ascending[at:end] - start]
            at = int(end)
        return out

    def divided(self, columns: Sequence[slice]) -> list[Any]:
        raise TypeError(
            "X must have one Zarr array or HDF5 dataset for each layer, in a "
            f"LayerStack; got a single {type(self.matrix).__name__} with "
            f"{len(columns)} layers side by side. Store each layer as its own array, "
            "or pass X[:], which is in memory."
        )

    def whole(self) -> np.ndarray:
        # A column takes all chunks.
        return self.read(slice(0, self.shape[0]))

    def packed(self) -> Any:
        if is_zarr(self.matrix):
            return place_of_zarr(self.matrix) or self.matrix
        raise TypeError(
            f"a dataset of the open HDF5 file {self.matrix.file.filename!r}, which "
            "cannot be pickled, copied or sent to other processes. Load the file where "
            "it is needed, with skleiden.io.load_activations; select rows, "
            "stack[rows], which are then in memory; or use Zarr arrays."
        )


class TensorSource(Source):
    """A tensor of torch that is elsewhere, or of numbers that NumPy lacks.

    What is read of it is brought here and converted, block by block. All other tensors
    share their memory with an ndarray, which is what is kept of them.
    """

    kind = "tensor"
    is_lazy = True

    def __init__(self, matrix: Any) -> None:
        super().__init__(matrix)
        self.dtype = self.read(slice(0)).dtype

    @classmethod
    def check(cls, matrix: Any, what: str) -> Any:
        return tensors.checked(matrix, what)

    def read(self, rows: slice) -> Any:
        return tensors.from_torch(self.matrix[rows], "X")

    def select(self, rows: slice | np.ndarray) -> Any:
        if isinstance(rows, slice) and (rows.step or 1) > 0:
            return self.matrix[rows]
        return tensors.select_rows(self.matrix, _row_numbers(rows, self.shape[0]))

    def whole(self) -> np.ndarray:
        return self.read(slice(None))

    def packed(self) -> Any:
        return tensors.packed(self.matrix)

    def row_blocks(self, rows: int) -> list[tuple[int, int, list[Any]]]:
        """Give the same, of directions: rows at unit length.

        A search would make a second copy, of such rows, of the one that is converted.
        """
        out = np.empty(self.shape, dtype=np.float32)
        for start, block in self._batches():
            check_finite(block, "", start)
            out[start : start + len(block)] = knn.unit_rows(block)
        return [(0, self.shape[0], [out])]

    def each_block(self) -> Iterator[np.ndarray]:
        return (block for _, block in self._batches())

    def map_columns(self, function: Callable[[int, Any], Any]) -> Any:
        out = np.empty(self.shape, dtype=self.dtype)
        step = max(1, _BLOCK_SIZE // max(1, self.shape[0]))
        for start in range(0, self.shape[1], step):
            columns = slice(start, start + step)
            block = tensors.from_torch(self.matrix[:, columns], "X")
            out[:, columns] = function(start, block)
        return out

    def _batches(self) -> Iterator[tuple[int, np.ndarray]]:
        for rows in row_batches([self]):
            yield rows.start, self.read(rows)


class DaskSource(Source):
    """A Dask array, whose blocks of rows stay on the workers."""

    kind = "Dask array"
    is_lazy = on_workers = True
    cuts_columns = False

    @classmethod
    def check(cls, matrix: Any, what: str) -> Any:
        if np.isnan(matrix.chunks[0]).any():
            raise ValueError(
                f"{what} is a Dask array of unknown length; got chunks of "
                f"{matrix.chunks[0][:3]} rows. Call its compute_chunk_sizes() first."
            )
        return matrix

    def check_out(self, out: Any) -> None:
        raise TypeError(
            "out is not for Dask arrays, whose embedding is lazy; got "
            f"{type(out).__name__}. Store the embedding with its store method."
        )

    def packed(self) -> Any:
        from .dask import packed

        return packed(self.matrix)

    def keeping(self, kept: np.ndarray) -> Any:
        meta = self.matrix._meta
        return self.matrix.map_blocks(_kept_of_chunk, kept, dtype=self.dtype, meta=meta)

    def runner(self, verbose: int = 0) -> Runner:
        from .dask import OnWorkers

        return OnWorkers(verbose)

    def row_blocks(self, rows: int) -> list[tuple[int, int, list[Any]]]:
        from .dask import row_blocks

        # Some versions cannot join chunks that are sparse.
        refuse_sparse([self.matrix._meta])
        return [
            (start, n_rows, chunks)
            for start, n_rows, (chunks,) in row_blocks(
                [self.matrix.rechunk((rows, -1))]
            )
        ]

    def aligned(self, sources: Sequence[Source]) -> list[tuple[int, int, list[Any]]]:
        from .dask import row_blocks

        return list(row_blocks([source.matrix for source in sources]))

    def each_block(self) -> Iterator[np.ndarray]:
        from .dask import each_block

        return each_block(self.matrix)

    def map_columns(self, function: Callable[[int, Any], Any]) -> Any:
        from .dask import map_columns

        return map_columns(function, self.matrix)


class KeptColumns(Source):
    """A matrix in this process, of which all but some columns read as zeros.

    Blocks are cleared as they are read, so that X is not held twice.
    """

    is_lazy = True
    cuts_columns = False
    ndim = 2

    def __init__(self, matrix: Any, kept: np.ndarray) -> None:
        self.inner, self.kept = source_of(matrix), kept
        self.matrix, self.shape = self.inner.matrix, self.inner.shape
        self.dtype, self.chunk_rows = self.inner.dtype, self.inner.chunk_rows
        self.at_once = self.inner.at_once

    @property
    def n_stored(self) -> int:
        return self.inner.n_stored

    def read(self, rows: slice) -> Any:
        return _kept_of(self.inner.read(rows), self.kept)

    def select(self, rows: slice | np.ndarray) -> Any:
        return KeptColumns(self.inner.select(rows), self.kept)

    def underlying(self) -> list[Any]:
        return self.inner.underlying()

    def whole(self) -> Any:
        return _kept_of(self.inner.whole(), self.kept)

    def packed(self) -> Any:
        return _PackedColumns(self.inner.packed(), self.kept)


class _PackedColumns(NamedTuple):
    """Kept columns as a pickle holds them."""

    matrix: Any
    kept: np.ndarray

    def open(self) -> KeptColumns:
        return KeptColumns(unpacked(self.matrix), self.kept)


def _kept_of(block: Any, kept: np.ndarray) -> Any:
    if not sp.issparse(block):
        return np.where(kept, block, block.dtype.type(0))
    stays = kept[block.indices]
    before = np.concatenate([[0], np.cumsum(stays)])
    indptr = before[block.indptr].astype(block.indptr.dtype)
    return sp.csr_array(
        (block.data[stays], block.indices[stays], indptr), shape=block.shape
    )


def _kept_of_chunk(chunk: Any, kept: np.ndarray, block_info: Any = None) -> Any:
    (start, stop) = block_info[0]["array-location"][1]
    return _kept_of(chunk, kept[start:stop])


def keep_columns(matrix: Any, kept: np.ndarray, *, lazily: bool) -> Any:
    """Give a checked matrix with zeros in all but some columns, of a mask.

    `lazily`: for estimators that read sources; else in memory, but for Dask arrays.
    """
    found = source_of(matrix).keeping(kept)
    return found.whole() if isinstance(found, KeptColumns) and not lazily else found


def source_of(matrix: Any) -> Source:
    """Give the source of a matrix that was checked; a source is its own."""
    if isinstance(matrix, Source):
        return matrix
    return _kind_of(matrix)(matrix)


def _kind_of(matrix: Any) -> type[Source]:
    if isinstance(matrix, Source):
        return type(matrix)
    if sp.issparse(matrix):
        return SparseSource
    # These are told without importing what makes them.
    if _is_a(matrix, "dask", "Array"):
        return DaskSource
    if _is_a(matrix, "zarr", "Array") or _is_a(matrix, "h5py", "Dataset"):
        return StoredSource
    return TensorSource if _is_a(matrix, "torch", "Tensor") else Source


def _row_numbers(rows: slice | np.ndarray, n: int) -> np.ndarray:
    """Give the numbers of some of n rows, none of them negative."""
    if isinstance(rows, slice):
        return np.asarray(range(n)[rows], dtype=np.int64)
    numbers = rows.astype(np.int64)
    outside = numbers[(numbers < -n) | (numbers >= n)]
    if outside.size:
        raise IndexError(f"Row {outside[0]} is out of bounds for {n} rows.")
    return numbers % max(n, 1)


def _is_a(matrix: Any, package: str, name: str) -> bool:
    return any(
        kind.__name__ == name and kind.__module__.split(".")[0] == package
        for kind in type(matrix).__mro__
    )


def is_lazy(matrix: Any) -> bool:
    """Whether a matrix is read by its source alone, block by block."""
    return _kind_of(matrix).is_lazy


def is_on_workers(matrix: Any) -> bool:
    """Whether the blocks of a matrix are on the workers of a cluster."""
    return _kind_of(matrix).on_workers


def as_matrix(matrix: Any, what: str) -> Any:
    """Check one matrix of real numbers, whatever it is; gives it as it is kept.

    Sparse formats become CSR; what is not a matrix of a known kind becomes an ndarray.
    """
    kind = _kind_of(matrix)
    if kind is Source and type(matrix) not in (np.ndarray, np.memmap):
        refuse_masked(matrix, what)
        refuse_dask_frame(matrix, what)
        try:
            matrix = np.asarray(matrix)
        except (TypeError, ValueError) as error:
            raise TypeError(f"{what} cannot be made a matrix: {error}") from error
    matrix = kind.check(matrix, what)
    if matrix.ndim != 2:
        alone = (
            "To cluster the rows of a single matrix, pass the matrix itself instead of "
            "a LayerStack."
        )
        raise TypeError(
            f"{what} must be a 2-D matrix (prompts x neurons); got "
            f"{matrix.ndim} dimension(s). "
            f"{TOKENS_OR_LAYERS if matrix.ndim > 2 else alone}"
        )
    check_real(source_of(matrix), what)
    return matrix


def layers_along(X: Any, axis: Any) -> list[Any]:
    """Give the matrices that stand along an axis of an array, without a copy."""
    kind = _kind_of(X)
    if kind is Source and not hasattr(X, "ndim"):
        X = np.asarray(X)
    if kind in (SparseSource, StoredSource):
        raise TypeError(
            "LayerStack.from_array takes an array, tensor or Dask array, in which each "
            f"layer is a view; got a {type(X).__name__}. Store one matrix for each "
            "layer, or pass X[:], which is in memory."
        )
    X = kind.check(X, "X")
    if X.ndim != 3:
        raise TypeError(
            "LayerStack.from_array takes an array of 3 dimensions: rows, layers and "
            f"neurons; got {X.ndim}. Write LayerStack([X]) for one matrix."
        )
    whole = isinstance(axis, (int, np.integer)) and not isinstance(axis, bool)
    if not whole or not -3 <= axis < 3:
        raise ValueError(
            f"axis must be the number of the axis of layers, 0, 1 or 2; got {axis!r}, "
            f"for shape {tuple(X.shape)}."
        )
    before = (slice(None),) * (int(axis) % 3)
    return [X[(*before, i)] for i in range(X.shape[axis])]


def open_matrix(
    X: Any, validate: Callable[..., Any], *, least_rows: int = 1, **checks: Any
) -> Any:
    """Validate one matrix, but for its values, which are checked where they are read.

    What NumPy would load as a whole stays as it is. All else is converted by
    `validate`: scikit-learn's `validate_data` of an estimator, or `check_only`.
    """
    refuse_layer_sequence(X)
    if is_lazy(X):
        check_shape(tuple(X.shape), _kind_of(X).kind, least_rows)
        validate(X, skip_check_array=True)
        return as_matrix(X, "X")
    X = validate(
        X,
        **{"dtype": "numeric", "ensure_all_finite": False} | checks,
        ensure_min_samples=least_rows,
    )
    check_real(X, "X")
    return as_csr(X) if sp.issparse(X) else X


def some_rows(estimator: Any, X: Any, y: Any, rows: np.ndarray) -> tuple[Any, Any]:
    """Give some rows of X, and of y, for an estimator to be fitted on."""
    if _kind_of(X) is StoredSource:  # which scikit-learn cannot index
        return StoredSource(X).select(rows), None if y is None else np.asarray(y)[rows]
    of_X, of_y = _safe_split(estimator, X, y, rows)
    return of_X, of_y


def check_only(X: Any, *, skip_check_array: bool = False, **checks: Any) -> Any:
    """Validate X outside of an estimator."""
    return X if skip_check_array else check_array(X, **checks)


def check_here(matrix: Any) -> None:
    """Refuse a matrix that is on the workers of a cluster, and not in this process."""
    if is_on_workers(matrix):
        raise TypeError(
            "X must be layers in memory or in files here; got Dask arrays. Give them "
            "as Zarr arrays, which are read block by block "
            "(skleiden.io.load_activations), or compute the rows in question."
        )


def check_one_place(layers: Mapping[str, Any]) -> None:
    """Refuse layers of which some are on workers and others are not."""
    there = [name for name, layer in layers.items() if is_on_workers(layer)]
    if 0 < len(there) < len(layers):
        raise TypeError(
            f"Either all layers or none must be Dask arrays; got Dask arrays for "
            f"{there} among {list(layers)}. Wrap the others with "
            "dask.array.from_array, or compute these."
        )


def unpacked(part: Any) -> Any:
    """Give the matrix of which `Source.packed` gave this."""
    if hasattr(part, "open"):
        return part.open()
    return part[0](part[1], shape=part[2]) if isinstance(part, tuple) else part


def _parts(matrix: Any) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    return matrix.data, matrix.indices, matrix.indptr


def rows_at_once(sources: Iterable[Source], wanted: int) -> int:
    """Rows to read at once: those wanted, or so many that no chunk is read twice."""
    stored = [source for source in sources if source.chunk_rows]
    if not stored:
        return max(1, wanted)
    most = max(1, min(s.at_once // max(1, s.shape[1]) for s in stored))
    chunks = [source.chunk_rows or 1 for source in stored]
    # Multiples of some layers' chunks where those of all are too many rows.
    step = math.lcm(*chunks)
    step = step if step <= most else max(chunks)
    return max(wanted // step, 1) * step if step <= most else max(1, min(wanted, most))


def row_batches(
    sources: Sequence[Source], batch_size: int | None = None
) -> list[slice]:
    """Give the rows of some sources, as slices of so many as should be read at once."""
    n = sources[0].shape[0]
    if batch_size is None:
        most = max(source.n_stored for source in sources)
        batch_size = rows_at_once(sources, _BLOCK_SIZE * n // max(most, 1))
    return list(gen_batches(n, max(1, min(batch_size, n))))
