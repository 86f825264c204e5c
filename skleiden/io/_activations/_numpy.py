"""Read files of NumPy and SciPy."""

from __future__ import annotations

import zipfile
from pathlib import Path
from typing import Any

from numpy.lib import format as npy

from skleiden._blocks.sparse import sparse_from_arrays

from . import _names as names
from ._archive import members_of
from ._arrays import layers_of_arrays
from ._ids import ids_of_file
from ._layer import Layer, Reading, check_matrix, naming, refuse_idle
from ._npy import BROKEN, load_npy, read_header


def read_npy(path: Path, how: Reading) -> dict[str, Layer]:
    array = load_npy(path, mmap=how.mmap)
    if array.ndim < 3:
        if array.ndim == 2 and (how.axis is not None or how.pool is not None):
            raise ValueError(
                f"{str(path)!r} has 2 dimension(s), shape {array.shape}; axis= and "
                "pool= are for arrays with more. Leave them out."
            )
        return {"": Layer(check_matrix(array, path))}
    return layers_of_arrays({"": array}, path, how)


def read_texts(path: Path) -> dict[str, list[Any]]:
    """Read the texts and ids of a file by their names; from ``.npy``, as "text"."""
    claim = "must hold texts"
    if not zipfile.is_zipfile(path):
        return {"text": load_npy(path, claim).tolist()}
    found = {}
    with naming(path, claim), zipfile.ZipFile(path) as archive:
        for member in members_of(path):
            name = member.filename.removesuffix(".npy")
            if names.are_texts(name) or names.are_ids(name):
                with archive.open(member) as file:
                    read_header(file, member.file_size, f"{name!r}: ")
                with archive.open(member) as file:
                    array = npy.read_array(file, allow_pickle=False)
                found[name] = array.tolist()
    return found


def read_npz(path: Path, how: Reading) -> dict[str, Layer]:
    members = {m.filename.removesuffix(".npy"): m for m in members_of(path)}
    arrays = {}
    with naming(path, BROKEN), zipfile.ZipFile(path) as archive:
        headers = {}
        for name, member in members.items():
            with archive.open(member) as file:
                header = read_header(file, member.file_size, f"{name!r}: ")
            if header.dtype.kind != "U" or not names.are_texts(name):
                headers[name] = header
        is_sparse = {"format", "shape"} <= set(headers)
        for name in headers:
            # Its checksum is compared when all bytes are read, so just they are.
            with archive.open(members[name]) as file:
                arrays[name] = npy.read_array(file, allow_pickle=False)
    ids = ids_of_file(arrays.pop("ids", None), path)
    if is_sparse:
        refuse_idle(path, how, "a sparse matrix", "axis", "pool")
        matrix = sparse_from_arrays(arrays, repr(str(path)))
        return {"": Layer(check_matrix(matrix, path), ids)}
    # In memory, so their values are checked.
    found = layers_of_arrays(arrays, path, how._replace(mmap=False), ids)
    if not found:
        shapes = {name: header.shape for name, header in headers.items()}
        shapes.pop("ids", None)
        raise ValueError(
            f"{str(path)!r} must hold a sparse matrix of scipy.sparse.save_npz or 2-D "
            f"arrays; got arrays of shapes {shapes}."
        )
    return found
