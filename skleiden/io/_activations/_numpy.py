"""Files of NumPy and SciPy."""

from __future__ import annotations

import math
import zipfile
from pathlib import Path
from typing import IO, NamedTuple

import numpy as np
from numpy.lib import format as npy

from skleiden._blocks.sparse import sparse_from_arrays

from ._archive import members_of
from ._ids import ids_of_file
from ._layer import Layer, check_matrix, naming, natural_order

_BROKEN = "is broken, truncated, or holds objects instead of numbers"


def read_npy(path: Path, mmap: bool) -> dict[str, Layer]:
    return {"": Layer(check_matrix(load_npy(path, mmap), path))}


def load_npy(path: Path, mmap: bool = False) -> np.ndarray:
    """Load the array of a file that holds just what its header says."""
    with naming(path, _BROKEN):
        with path.open("rb") as file:
            _read_header(file, path.stat().st_size)
            if not mmap:
                file.seek(0)
                return npy.read_array(file, allow_pickle=False)
        array: np.ndarray = np.load(path, mmap_mode="r", allow_pickle=False)
        return array


def read_npz(path: Path) -> dict[str, Layer]:
    members = {m.filename.removesuffix(".npy"): m for m in members_of(path)}
    arrays = {}
    with naming(path, _BROKEN), zipfile.ZipFile(path) as archive:
        headers = {}
        for name, member in members.items():
            with archive.open(member) as file:
                headers[name] = _read_header(file, member.file_size, f"{name!r}: ")
        is_sparse = {"format", "shape"} <= set(headers)
        for name, header in headers.items():
            if is_sparse or len(header.shape) == 2 or name == "ids":
                # Its checksum is compared when all bytes are read, so just they are.
                with archive.open(members[name]) as file:
                    arrays[name] = npy.read_array(file, allow_pickle=False)
    ids = ids_of_file(arrays.pop("ids", None), path)
    if is_sparse:
        matrix = sparse_from_arrays(arrays, repr(str(path)))
        return {"": Layer(check_matrix(matrix, path), ids)}
    if not arrays:
        shapes = {name: header.shape for name, header in headers.items()}
        shapes.pop("ids", None)
        raise ValueError(
            f"{str(path)!r} must hold a sparse matrix of scipy.sparse.save_npz or 2-D "
            f"arrays; got arrays of shapes {shapes}."
        )
    return {
        name: Layer(check_matrix(arrays[name], path), ids)
        for name in sorted(arrays, key=natural_order)
    }


class _Header(NamedTuple):
    shape: tuple[int, ...]
    dtype: np.dtype


def _read_header(file: IO[bytes], size: int, what: str = "") -> _Header:
    """Read the header of an array, and refuse one that does not fit to `size` bytes.

    NumPy takes memory for what the header says, before it finds that it is not there,
    and leaves out in silence what follows the array.
    """
    try:
        version = npy.read_magic(file)
        if version not in _HEADERS:  # of fields with names beyond Latin-1
            raise ValueError("it holds records, not a matrix")
        shape, _, dtype = _HEADERS[version](file)
    except Exception as error:  # MemoryError too, of deeply nested brackets
        raise ValueError(f"{what}{error}") from error
    if dtype.hasobject:
        raise ValueError(f"{what}it holds pickled objects")
    claimed = math.prod(shape) * dtype.itemsize
    left = size - file.tell()
    if min(shape, default=0) < 0 or claimed != left:
        raise ValueError(
            f"{what}it has {left} bytes of numbers, and its header says {claimed}, for "
            f"the shape {shape} and dtype {dtype}"
        )
    return _Header(shape, dtype)


_HEADERS = {(1, 0): npy.read_array_header_1_0, (2, 0): npy.read_array_header_2_0}
