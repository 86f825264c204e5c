"""The forms of files, and what reads each."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from skleiden._blocks.tensors import from_torch, refuse_tensor

from ._find import form_of
from ._hdf5 import read_hdf5
from ._layer import Layer, check_matrix, shape_of
from ._numpy import read_npy, read_npz
from ._safetensors import read_safetensors
from ._text import load_json
from ._torch import load_torch
from ._zarr import read_zarr


def read_layers(path: Path, key: str, mmap: bool) -> dict[str, Layer]:
    """The layers of a file or folder by their own names, "" if it has but one."""
    form = form_of(path)
    if form in _MATRICES:
        return _MATRICES[form](path, mmap)
    if form not in _CONTENTS:
        raise ValueError(
            f"{str(path)!r} is not a file of activations: it is neither of NumPy, "
            "safetensors, torch, Zarr, HDF5 nor JSON."
        )
    return {"": _layer_of_content(_CONTENTS[form](path, mmap), key, path, mmap)}


# Readers of files of matrices, which may stay where they are, and of files of
# containers, whose content tells what they are.
_MATRICES: dict[str, Callable[[Path, bool], dict[str, Layer]]] = {
    "npy": read_npy,
    "npz": lambda path, _: read_npz(path),
    "safetensors": read_safetensors,
    "zarr": read_zarr,
    "hdf5": read_hdf5,
}
_CONTENTS: dict[str, Callable[[Path, bool], Any]] = {
    "torch": load_torch,
    "json": lambda path, _: load_json(path),
}


def _layer_of_content(content: Any, key: str, path: Path, mmap: bool) -> Layer:
    if hasattr(content, "detach") and content.ndim == 2:
        matrix = from_torch(content, f"The matrix in {str(path)!r}")
        return Layer(check_matrix(matrix, path, left_there=mmap))
    if not isinstance(content, Mapping) or not content:
        raise ValueError(
            f"{str(path)!r} must hold a mapping of prompt ids to vectors; got "
            f"{shape_of(content)}."
        )
    return Layer(_vectors_by_id(content, key, path))


def _vectors_by_id(content: Mapping[Any, Any], key: str, path: Path) -> dict[Any, Any]:
    """{id: vector} of {id: vector} or {id: {"pre", "post", "out"}}."""
    vectors = {}
    for i, record in content.items():
        if isinstance(record, Mapping):
            if key not in record:
                raise ValueError(
                    f"Prompt {i!r} in {str(path)!r} has no {key!r}; it has "
                    f"{list(record)}. Choose one of these with key=."
                )
            record = record[key]
        refuse_tensor(record, f"The vector of prompt {i!r} in {str(path)!r}")
        vectors[i] = record
    return vectors
