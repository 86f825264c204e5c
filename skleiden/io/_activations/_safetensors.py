"""Read safetensors files."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from ._arrays import VECTORS, layers_of_arrays, layers_of_vectors
from ._ids import ids_of_file
from ._layer import Layer, Reading, naming, refuse_idle, shape_of
from ._text import parse_json
from ._triplets import find_triplets

_SAFETENSORS_DTYPES = {
    "F64": "<f8",
    "F32": "<f4",
    "F16": "<f2",
    "BF16": "<u2",
    "I64": "<i8",
    "I32": "<i4",
    "I16": "<i2",
    "I8": "i1",
    "U8": "u1",
    "BOOL": "?",
}


def read_safetensors(path: Path, how: Reading) -> dict[str, Layer]:
    try:
        from safetensors import safe_open
    except ImportError as error:
        raise ImportError(
            f'{str(path)!r} needs safetensors: pip install "skleiden[safetensors]".'
        ) from error
    with naming(path):
        # It checks that header and content fit; what follows relies on that.
        with safe_open(path, framework="numpy") as file:
            metadata = file.metadata() or {}
        with path.open("rb") as raw:
            length = int.from_bytes(raw.read(8), "little")
            header = parse_json(raw.read(length).decode("utf-8"))
    header.pop("__metadata__", None)
    tensors = {
        name: _map_tensor(path, name, entry, 8 + length, how.mmap)
        for name, entry in header.items()
    }
    ids = ids_of_file(_ids_of(metadata, path), path)
    named = tensors.get("ids")
    if named is not None and any(tensor.ndim >= 2 for tensor in tensors.values()):
        del tensors["ids"]  # not a layer, whatever its shape
        ids = ids_of_file(np.array(named), path) if ids is None else ids
    if {tensor.ndim for tensor in tensors.values()} == {1} and (
        find_triplets(tensors) is None
    ):
        refuse_idle(path, how, VECTORS, "pool")
        return layers_of_vectors(tensors)
    if found := layers_of_arrays(tensors, path, how._replace(mmap=False), ids):
        return found
    shapes = {name: tensor.shape for name, tensor in list(tensors.items())[:5]}
    raise ValueError(
        f"{str(path)!r} must hold 2-D tensors, each a layer, or 1-D tensors, each a "
        f"prompt; got shapes {shapes}."
    )


def _ids_of(metadata: dict[str, str], path: Path) -> list[Any] | None:
    if "ids" not in metadata:
        return None
    where = f"The ids in the metadata of {str(path)!r} must be a JSON list"
    try:
        ids = parse_json(metadata["ids"])
    except ValueError as error:
        raise ValueError(f"{where}: {error}.") from error
    if isinstance(ids, list):
        return ids
    raise ValueError(f"{where}; got {shape_of(ids)}.")


def _map_tensor(
    path: Path, name: str, entry: dict[str, Any], start: int, mmap: bool
) -> np.ndarray:
    dtype = _SAFETENSORS_DTYPES.get(entry["dtype"])
    if dtype is None:
        raise ValueError(
            f"Tensor {name!r} in {str(path)!r} has dtype {entry['dtype']}, which is "
            f"not read. Convert it to one of these: {', '.join(_SAFETENSORS_DTYPES)}."
        )
    shape = tuple(entry["shape"])
    with naming(path):
        if 0 in shape:
            return np.empty(shape, dtype=dtype)
        tensor: np.ndarray = np.memmap(
            path, dtype, mode="r", offset=start + entry["data_offsets"][0], shape=shape
        )
    if entry["dtype"] == "BF16":  # the upper half of a float32
        return (tensor.astype(np.uint32) << 16).view(np.float32)
    return tensor if mmap else np.array(tensor)
