"""Files of safetensors."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np

from ._layer import Layer, check_matrix, first_line, natural_order

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


def read_safetensors(path: Path, mmap: bool) -> dict[str, Layer]:
    try:
        from safetensors import safe_open
    except ImportError as error:
        raise ImportError(
            f'{str(path)!r} needs safetensors: pip install "skleiden[safetensors]".'
        ) from error
    try:
        # It checks that header and content fit; what follows relies on that.
        with safe_open(path, framework="numpy") as file:
            metadata = file.metadata() or {}
    except Exception as error:  # as with torch
        raise ValueError(
            f"{str(path)!r} is broken or truncated: {first_line(error)}"
        ) from error
    with path.open("rb") as raw:
        length = int.from_bytes(raw.read(8), "little")
        header = json.loads(raw.read(length))
    header.pop("__metadata__", None)
    tensors = {
        name: _map_tensor(path, name, entry, 8 + length, mmap)
        for name, entry in header.items()
    }
    ids = None
    if "ids" in metadata:
        try:
            ids = json.loads(metadata["ids"])
        except ValueError as error:
            raise ValueError(
                f"The ids in the metadata of {str(path)!r} must be a JSON list: "
                f"{error}."
            ) from error
    dimensions = {tensor.ndim for tensor in tensors.values()}
    if dimensions == {1}:
        return {"": Layer(tensors)}
    if dimensions == {2}:
        names = sorted(tensors, key=lambda name: natural_order(Path(name)))
        return {name: Layer(check_matrix(tensors[name], path), ids) for name in names}
    shapes = {name: tensor.shape for name, tensor in list(tensors.items())[:5]}
    raise ValueError(
        f"{str(path)!r} must hold 2-D tensors, each a layer, or 1-D tensors, each a "
        f"prompt; got shapes {shapes}."
    )


def _map_tensor(
    path: Path, name: str, entry: dict[str, Any], start: int, mmap: bool
) -> np.ndarray:
    dtype = _SAFETENSORS_DTYPES.get(entry["dtype"])
    if dtype is None:
        raise ValueError(
            f"Tensor {name!r} in {str(path)!r} has dtype {entry['dtype']}; these are "
            f"read: {', '.join(_SAFETENSORS_DTYPES)}."
        )
    shape = tuple(entry["shape"])
    if 0 in shape:
        return np.empty(shape, dtype=dtype)
    tensor: np.ndarray = np.memmap(
        path, dtype, mode="r", offset=start + entry["data_offsets"][0], shape=shape
    )
    if entry["dtype"] == "BF16":  # the upper half of a float32
        return (tensor.astype(np.uint32) << 16).view(np.float32)
    return tensor if mmap else np.array(tensor)
