"""Layers among the arrays of a Zarr folder or HDF5 file."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from ._layer import Layer, check_matrix, first_line, natural_order


def layers_of_group(arrays: dict[str, Any], path: Path, mmap: bool) -> dict[str, Layer]:
    """Layers among the arrays of a Zarr folder or HDF5 file."""
    names = sorted(
        (name for name, array in arrays.items() if len(array.shape or ()) == 2),
        key=lambda name: natural_order(Path(name)),
    )
    if not names:
        shapes = {name: array.shape for name, array in arrays.items()}
        raise ValueError(
            f"{str(path)!r} must hold 2-D arrays, each a layer; got arrays of shapes "
            f"{shapes}."
        )
    ids, found = None, {}
    try:
        if "ids" in arrays and "ids" not in names:
            ids = [
                i.decode() if isinstance(i, bytes) else i
                for i in arrays["ids"][:].tolist()
            ]
        for name in names:
            found[name] = arrays[name] if mmap else np.asarray(arrays[name][:])
    except Exception as error:  # as with torch
        raise ValueError(
            f"{str(path)!r} is broken or truncated: {first_line(error)}"
        ) from error
    return {name: Layer(check_matrix(found[name], path), ids) for name in names}
