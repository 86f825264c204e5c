"""Files of NumPy and SciPy."""

from __future__ import annotations

import zipfile
from pathlib import Path

from numpy.lib import format as npy

from skleiden._blocks.sparse import sparse_from_arrays

from ._archive import members_of
from ._ids import ids_of_file
from ._layer import Layer, check_matrix, naming, natural_order
from ._npy import BROKEN, load_npy, read_header


def read_npy(path: Path, mmap: bool) -> dict[str, Layer]:
    return {"": Layer(check_matrix(load_npy(path, mmap=mmap), path))}


def read_npz(path: Path) -> dict[str, Layer]:
    members = {m.filename.removesuffix(".npy"): m for m in members_of(path)}
    arrays = {}
    with naming(path, BROKEN), zipfile.ZipFile(path) as archive:
        headers = {}
        for name, member in members.items():
            with archive.open(member) as file:
                headers[name] = read_header(file, member.file_size, f"{name!r}: ")
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
