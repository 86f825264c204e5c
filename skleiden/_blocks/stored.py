"""Arrays that stay in Zarr folders and HDF5 files: reading them, and where they are."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from .hdf5_chunks import read_dataset


def read_stored(array: Any, start: int, stop: int) -> np.ndarray:
    """Read rows of a Zarr array or HDF5 dataset.

    Raises
    ------
    ValueError
        If they cannot be read; the message names the file and the array.

    MemoryError
        If they need more memory than there is; the message names them, too.
    """
    try:
        if is_zarr(array):
            return np.asarray(array[start:stop])
        return read_dataset(array, start, stop)
    except MemoryError as error:
        raise MemoryError(
            f"Rows {start} to {stop - 1} of {_place_of(array)} need more memory than "
            "there is. Free memory, or store the array in smaller chunks, each of "
            "which is read whole."
        ) from error
    except Exception as error:  # as many kinds as there are codecs and stores
        cause = str(error).strip().splitlines() or [type(error).__name__]
        raise ValueError(
            f"Rows {start} to {stop - 1} of {_place_of(array)} cannot be read: "
            f"{cause[0]}. The file is broken or truncated, or changed since it was "
            "opened. Copy or write it again."
        ) from error


def is_zarr(array: Any) -> bool:
    """Tell a Zarr array from an HDF5 dataset."""
    return hasattr(array, "store_path")


def _place_of(array: Any) -> str:
    """Name an array and the file that holds it."""
    if is_zarr(array):
        return f"the array {str(array.store_path)!r}"
    try:
        return f"the dataset {array.name!r} in {array.file.filename!r}"
    except Exception:  # its file was closed
        return "a dataset of a closed HDF5 file"


def stored_in(matrix: Any) -> str | None:
    """Find the file or folder of a Zarr array or HDF5 dataset that is on this disk."""
    if hasattr(matrix, "file"):  # of h5py
        return str(matrix.file.filename)
    root = getattr(getattr(matrix, "store", None), "root", None)  # of zarr
    return None if root is None else str(root)


class ZarrPlace(NamedTuple):
    """Where a Zarr array is on this disk, and what is there.

    Stands for the array in a pickle, and so in joblib's hashes, by which caches know
    it. The array's own pickle tells neither a store that was rewritten from the one
    before, nor, once it has been read, itself from what it was.
    """

    root: str
    path: str
    stamp: str

    def open(self) -> Any:
        """Open the array, as it is now."""
        import zarr

        return zarr.open_array(self.root, path=self.path, mode="r")


def place_of_zarr(array: Any) -> ZarrPlace | None:
    """Where a Zarr array is; None if it is no such array, or not on this disk."""
    root = getattr(getattr(array, "store", None), "root", None)
    if root is None or not Path(root).is_dir():
        return None
    folder, digest = Path(root) / array.path, hashlib.blake2b(digest_size=16)
    for file in sorted(path for path in folder.rglob("*") if path.is_file()):
        stat = file.stat()
        facts = (file.relative_to(folder).as_posix(), stat.st_size, stat.st_mtime_ns)
        digest.update(repr(facts).encode())
    return ZarrPlace(str(Path(root).resolve()), array.path, digest.hexdigest())
