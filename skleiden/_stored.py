"""Reading arrays that stay in Zarr folders and HDF5 files."""

from __future__ import annotations

from typing import Any

import numpy as np

from ._hdf5_chunks import read_dataset


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
        if _is_zarr(array):
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


def _is_zarr(array: Any) -> bool:
    return hasattr(array, "store_path")


def _place_of(array: Any) -> str:
    """Name an array and the file that holds it."""
    if _is_zarr(array):
        return f"the array {str(array.store_path)!r}"
    try:
        return f"the dataset {array.name!r} in {array.file.filename!r}"
    except Exception:  # its file was closed
        return "a dataset of a closed HDF5 file"
