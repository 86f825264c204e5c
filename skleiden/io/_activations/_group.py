"""Layers among the arrays of a Zarr folder or HDF5 file."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from skleiden._stored import read_stored

from ._ids import Ids, ids_of_file
from ._layer import Layer, check_matrix, natural_order

# An array that claims to be larger than the first, and this many times larger than all
# that is stored of it, is refused. No compression of activations comes near.
_LARGE = 2**30
MOST_COMPRESSED = 2**16


class Storage(NamedTuple):
    """How much of an array is there, and what the rest reads as."""

    n_bytes: int
    n_chunks: int
    n_present: int
    fill_value: Any  # None if the format leaves it open


def layers_of_group(
    arrays: Mapping[str, Any],
    storage_of: Callable[[str], Storage],
    path: Path,
    mmap: bool,
) -> dict[str, Layer]:
    """Find the layers among the arrays of a Zarr folder or HDF5 file.

    `storage_of` gives the storage of an array of that name, or refuses it for reasons
    of its format. It is asked only for arrays that are taken.
    """
    for name, array in arrays.items():
        _refuse_shape_of_ids(name, array, path)
    names = sorted(
        (name for name, array in arrays.items() if len(array.shape or ()) == 2),
        key=natural_order,
    )
    if not names:
        shapes = {name: array.shape for name, array in arrays.items()}
        raise ValueError(
            f"{str(path)!r} must hold 2-D arrays, each a layer; got arrays of shapes "
            f"{shapes}."
        )
    ids = None
    if "ids" in arrays:
        ids = _read_ids(arrays["ids"], storage_of("ids"), path)
    found = {}
    for name in names:
        array = arrays[name]
        where = f"Array {name!r} in {str(path)!r}"
        storage = storage_of(name)
        if array.dtype.kind not in "buif":
            raise ValueError(
                f"{where} must hold real numbers, as every 2-D array is a layer; got "
                f"dtype {array.dtype}. Move it to another file."
            )
        _check_whole(array, storage, where)
        content = array if mmap else read_stored(array, 0, array.shape[0])
        found[name] = Layer(check_matrix(content, path), ids)
    return found


def _refuse_shape_of_ids(name: str, array: Any, path: Path) -> None:
    """Refuse ids of other than one dimension, which might pass for a layer."""
    shape = array.shape or ()
    at_top = name == "ids"
    if (at_top and len(shape) != 1) or (name.endswith("/ids") and len(shape) == 2):
        raise ValueError(
            f"Array {name!r} in {str(path)!r} must give one id for each row, in one "
            f"dimension; got shape {shape}. Store ids with .ravel(), and a layer under "
            "another name."
        )


def _read_ids(array: Any, storage: Storage, path: Path) -> Ids | None:
    where = f"Array 'ids' in {str(path)!r}"
    _check_claim(array, storage, where)
    if storage.n_present < storage.n_chunks:
        raise ValueError(
            f"{where} lacks {_share(storage)} of its chunks, and with them ids. Copy "
            "or write it again."
        )
    return ids_of_file(read_stored(array, 0, array.shape[0]), path)


def _check_whole(array: Any, storage: Storage, where: str) -> None:
    """Refuse, or warn of, an array of which not all is there."""
    _check_claim(array, storage, where)
    if storage.n_present == storage.n_chunks:
        return
    fill_value = storage.fill_value
    if fill_value is None or not np.isfinite(fill_value):
        reading = "nothing that is defined" if fill_value is None else str(fill_value)
        raise ValueError(
            f"{where} lacks {_share(storage)} of its chunks, which would read as "
            f"{reading}. Copy or write it again."
        )
    warnings.warn(
        f"{where} lacks {_share(storage)} of its chunks, which read as {fill_value}. "
        "Either they were left out because they hold nothing else, or writing or "
        "copying was cut off. If it was, copy or write it again.",
        UserWarning,
        # Past layers_of_group, the reader, read_layers and load_activations.
        stacklevel=6,
    )


def _check_claim(array: Any, storage: Storage, where: str) -> None:
    """Refuse a shape far beyond what is stored, before memory is taken for it."""
    rows, width = array.shape[0], max(1, *array.shape[1:], 1)
    claimed = rows * width * array.dtype.itemsize
    if claimed > max(_LARGE, MOST_COMPRESSED * storage.n_bytes):
        raise ValueError(
            f"{where} claims {rows} rows, {claimed} bytes, of which "
            f"{storage.n_bytes} bytes are stored. It is broken or was not written to "
            "the end. Copy or write it again, in the shape that it has."
        )


def _share(storage: Storage) -> str:
    missing = storage.n_chunks - storage.n_present
    percent = 100 * missing / storage.n_chunks
    return f"{missing} of {storage.n_chunks} ({percent:.3g}%)"
