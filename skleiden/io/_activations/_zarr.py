"""Folders of Zarr."""

from __future__ import annotations

import re
import warnings
from pathlib import Path
from typing import Any

from ._group import layers_of_group
from ._layer import Layer, first_line


def read_zarr(path: Path, mmap: bool) -> dict[str, Layer]:
    """Its 2-D arrays, each a layer."""
    return layers_of_group(_open(path), path, mmap)


def _open(path: Path) -> dict[str, Any]:
    """The arrays of a folder of Zarr, by their names, "" if it is an array itself."""
    try:
        import zarr
    except ImportError as error:
        raise ImportError(
            f'{str(path)!r} needs zarr: pip install "skleiden[zarr]".'
        ) from error
    try:
        with warnings.catch_warnings():
            # That other software may not know the dtype of ids, which is read here.
            warnings.filterwarnings("ignore", ".*does not have a Zarr V3")
            opened = zarr.open(str(path), mode="r")
            arrays = {"": opened}
            if not hasattr(opened, "shape"):
                arrays = {
                    name: member
                    for name, member in opened.members(max_depth=None)
                    if hasattr(member, "shape")
                }
            codecs = {
                name: [
                    # Objects in some versions, and plain values in others.
                    repr(value)
                    for key, value in array.metadata.to_dict().items()
                    if key
                    in ("codecs", "filters", "compressor", "storage_transformers")
                ]
                for name, array in arrays.items()
            }
    except Exception as error:  # as with torch
        raise ValueError(
            f"{str(path)!r} is broken or incomplete: {first_line(error)}"
        ) from error
    for name, described in codecs.items():
        if re.search(r"\bpickle\b", " ".join(described), re.IGNORECASE):
            raise ValueError(
                f"Array {name!r} in {str(path)!r} is stored by pickle, which only code "
                "inside the folder could read, and that is not run. Store it with "
                "another codec."
            )
    return arrays
