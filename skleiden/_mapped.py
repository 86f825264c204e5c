"""Arrays whose memory is a file: where they lie in it, and whether it is whole."""

from __future__ import annotations

import mmap
from collections.abc import Iterator
from pathlib import Path
from typing import Any, cast

import numpy as np
import scipy.sparse as sp

from ._kernels import knn

# Where SciPy's sparse formats keep their numbers.
_SPARSE_PARTS = ("data", "indices", "indptr", "row", "col", "offsets")


def arrays_of(matrix: Any) -> Iterator[np.ndarray]:
    """The NumPy arrays that a matrix, dense or sparse, is made of."""
    parts = [matrix]
    if sp.issparse(matrix):
        parts = [getattr(matrix, name, None) for name in _SPARSE_PARTS]
    return (part for part in parts if isinstance(part, np.ndarray))


def share_memory(out: np.ndarray, matrix: Any) -> bool:
    """Whether to write `out` may change a matrix, in memory or in a file of both."""
    place = _place(out)
    for array in arrays_of(matrix):
        if np.may_share_memory(out, array):
            return True
        other = _place(array)
        if place and other and _same_file(place[0], other[0]):
            (_, start, stop), (_, other_start, other_stop) = place, other
            if start < other_stop and other_start < stop:
                return True
    stored = _stored_in(matrix)
    return bool(place and stored and _is_within(place[0], stored))


def check_size(matrix: Any, what: str) -> None:
    """Refuse a matrix whose file has become shorter than what is mapped of it.

    Reading what is gone ends the process, by a signal that cannot be caught. A file
    that becomes shorter during a stage is not noticed.
    """
    for array in arrays_of(matrix):
        mapped = knn.map_of(array)
        if mapped is None or array.size == 0:
            continue
        root = _root(array)
        # A map begins at a multiple of the page size at or before its first number.
        start = (
            0
            if root is None
            else root.offset - root.offset % mmap.ALLOCATIONGRANULARITY
        )
        needed = start + len(mapped)
        try:
            size = mapped.size()
        except (OSError, ValueError):  # memory that is mapped without a file
            continue
        if size < needed:
            name = "" if root is None else f" {str(root.filename)!r}"
            raise OSError(
                f"The file{name} in which {what} lies has become shorter: it has "
                f"{size} bytes, and {needed} are mapped. Leave files as they are for "
                "as long as they are used; write the data again, and load them."
            )


class Output:
    """An embedding that is being written, and cannot be taken for a whole one before.

    Its first row is NaN, which every estimator refuses, until all else is written; a
    process that is killed, or a machine that stops, leaves it so.
    """

    def __init__(self, array: np.ndarray) -> None:
        self.array = array
        self._first = np.zeros_like(array[0])
        array[0] = np.nan
        self._flush()

    def write(self, rows: slice, columns: slice, values: np.ndarray) -> None:
        """Set some columns of a block of rows."""
        if rows.start == 0:
            self._first[columns] = values[0]
            rows, values = slice(1, rows.stop), values[1:]
        self.array[rows, columns] = values

    def divide(self, rows: np.ndarray, lengths: np.ndarray) -> None:
        """Divide rows, given by ascending numbers, by their lengths."""
        self.array[rows] /= lengths[:, None]
        if rows.size and rows[0] == 0:
            self._first /= lengths[0]

    def finish(self) -> np.ndarray:
        """The array, whole."""
        self._flush()  # what else there is comes to disk before the mark is removed
        self.array[0] = self._first
        self._flush()
        return self.array

    def _flush(self) -> None:
        root = _root(self.array)
        if root is not None:
            root.flush()


def check_written(X: Any) -> None:
    """Refuse a memory-mapped embedding whose writing was cut off, or some of its rows.

    `Output` leaves NaN in the first row of the file.
    """
    root = _root(X)
    if (
        root is not None
        and root.ndim == 2
        and root.dtype.kind == "f"
        and 0 not in root.shape
        and np.isnan(root[0]).all()
    ):
        raise ValueError(
            f"X lies in the memory map {str(root.filename)!r}, whose first row is NaN: "
            "so MultiLayerTfidfSketcher leaves it until all rows are written, and its "
            "writing was cut off. Write it again, with transform(X, out=...)."
        )


def _root(array: np.ndarray) -> np.memmap | None:
    """The memory map of which an array is a view, as it was opened; None if of none."""
    root, owner = None, cast(Any, array)
    while isinstance(owner, np.ndarray):
        if isinstance(owner, np.memmap):
            root = owner
        owner = owner.base
    return root


def _place(array: np.ndarray) -> tuple[str, int, int] | None:
    """The file that an array writes to or reads from, and its first and last bytes."""
    root = _root(array)
    if root is None or root.filename is None or root.mode == "c" or array.size == 0:
        return None
    address = array.__array_interface__["data"][0]
    ends = [(n - 1) * step for n, step in zip(array.shape, array.strides, strict=True)]
    start = root.offset + address - root.__array_interface__["data"][0]
    stop = start + sum(end for end in ends if end > 0) + array.itemsize
    return str(root.filename), start + sum(end for end in ends if end < 0), stop


def _same_file(a: str, b: str) -> bool:
    try:
        return Path(a).samefile(b)
    except OSError:  # one of them was removed or renamed
        return a == b


def _stored_in(matrix: Any) -> str | None:
    """The file or folder of a Zarr array or HDF5 dataset, where it is on this disk."""
    if hasattr(matrix, "file"):  # of h5py
        return str(matrix.file.filename)
    root = getattr(getattr(matrix, "store", None), "root", None)  # of zarr
    return None if root is None else str(root)


def _is_within(file: str, place: str) -> bool:
    if Path(place).is_dir():
        return Path(place).resolve() in Path(file).resolve().parents
    return _same_file(file, place)
