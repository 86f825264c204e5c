"""Reading arrays that stay in Zarr folders and HDF5 files."""

from __future__ import annotations

from typing import Any

import numpy as np


def read_stored(array: Any, start: int, stop: int) -> np.ndarray:
    """Read rows of a Zarr array or HDF5 dataset.

    Raises
    ------
    ValueError
        If they cannot be read; the message names the file and the array.
    """
    try:
        return np.asarray(array[start:stop])
    except MemoryError:
        raise
    except Exception as error:  # as many kinds as there are codecs and stores
        cause = str(error).strip().splitlines() or [type(error).__name__]
        raise ValueError(
            f"Rows {start} to {stop - 1} of {_place_of(array)} cannot be read: "
            f"{cause[0]}. The file is broken or truncated, or changed since it was "
            "opened. Copy or write it again."
        ) from error


def _place_of(array: Any) -> str:
    """Name an array and the file that holds it."""
    if hasattr(array, "store_path"):  # of Zarr
        return f"the array {str(array.store_path)!r}"
    try:
        return f"the dataset {array.name!r} in {array.file.filename!r}"
    except Exception:  # its file was closed
        return "a dataset of a closed HDF5 file"
