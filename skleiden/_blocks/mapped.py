"""Arrays whose memory is a file: where they lie in it, and whether it is whole."""

from __future__ import annotations

import mmap
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple, cast

import numpy as np
import scipy.sparse as sp

from skleiden._kernels import knn

from .stored import stored_in

# Where SciPy's sparse formats keep their numbers.
_SPARSE_PARTS = ("data", "indices", "indptr", "row", "col", "offsets")


def arrays_of(matrix: Any) -> Iterator[np.ndarray]:
    """Give the NumPy arrays that a matrix, dense or sparse, is made of."""
    parts = [matrix]
    if sp.issparse(matrix):
        parts = [getattr(matrix, name, None) for name in _SPARSE_PARTS]
    return (part for part in parts if isinstance(part, np.ndarray))


def share_memory(out: np.ndarray, matrix: Any) -> bool:
    """Whether to write `out` may change a matrix, in memory or in a file of both."""
    arrays = list(arrays_of(matrix))
    if any(np.may_share_memory(out, array) for array in arrays):
        return True
    written = [place for place in _places(out) if place.is_shared]
    read = [place for array in arrays for place in _places(array)]
    if any(a.overlaps(b) for a in written for b in read):
        return True
    root, stored = _root(out), stored_in(matrix)
    if root is None or root.filename is None or stored is None:
        return False
    return _is_within(str(root.filename), stored)


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
                f"{size} bytes, but {needed} are mapped. Do not change files while "
                "they are used; write the data again, and load them."
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
        """Give the array, whole."""
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
            f"X lies in the memory map {str(root.filename)!r}, whose first row is NaN. "
            "MultiLayerTfidfSketcher leaves it so until all rows are written: its "
            "writing was cut off. Write it again, with transform(X, out=...)."
        )


def _root(array: np.ndarray) -> np.memmap | None:
    """Find the memory map of which an array is a view, as it was opened, or None."""
    root, owner = None, cast(Any, array)
    while isinstance(owner, np.ndarray):
        if isinstance(owner, np.memmap):
            root = owner
        owner = owner.base
    return root


class _Place(NamedTuple):
    """Bytes of a file that are memory, too.

    `file` tells it from others. Of a map that is not shared, what is written stays in
    this process, but what is in the file may still be read.
    """

    file: Any
    start: int
    stop: int
    is_shared: bool

    def overlaps(self, other: _Place) -> bool:
        """Whether some bytes are those of another place."""
        return (
            self.file == other.file
            and self.start < other.stop
            and other.start < self.stop
        )


def _places(array: np.ndarray) -> list[_Place]:
    """Where in which files an array's numbers lie, of whatever kind its map is."""
    if array.size == 0 or (knn.map_of(array) is None and not _MAPS.exists()):
        return []
    address = array.__array_interface__["data"][0]
    ends = [(n - 1) * step for n, step in zip(array.shape, array.strides, strict=True)]
    start = address + sum(end for end in ends if end < 0)
    stop = address + sum(end for end in ends if end > 0) + array.itemsize
    if _MAPS.exists():
        return _mapped_files(start, stop)
    root = _root(array)
    if root is None or root.filename is None:
        return []
    # No more is known of maps here than what NumPy has kept.
    shift = root.offset - root.__array_interface__["data"][0]
    try:
        stat = Path(root.filename).stat()
        file: Any = stat.st_dev, stat.st_ino
    except OSError:  # it was removed or renamed
        file = str(root.filename)
    return [_Place(file, start + shift, stop + shift, root.mode != "c")]


# Linux's account of this process's memory.
_MAPS = Path("/proc/self/maps")


def _mapped_files(start: int, stop: int) -> list[_Place]:
    """Give the files in memory between two addresses."""
    places = []
    for line in _MAPS.read_text(errors="surrogateescape").splitlines():
        span, permissions, offset, device, inode = line.split(maxsplit=5)[:5]
        low, high = (int(end, 16) for end in span.split("-"))
        if inode != "0" and low < stop and start < high:
            shift = int(offset, 16) - low
            places.append(
                _Place(
                    (device, inode),
                    max(start, low) + shift,
                    min(stop, high) + shift,
                    permissions[3] == "s",
                )
            )
    return places


def _is_within(file: str, place: str) -> bool:
    if Path(place).is_dir():
        return Path(place).resolve() in Path(file).resolve().parents
    try:
        return Path(file).samefile(place)
    except OSError:  # one of them was removed or renamed
        return file == place
