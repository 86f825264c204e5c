"""HDF5 files."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from ._group import layers_of_group
from ._layer import Layer, first_line


def read_hdf5(path: Path, mmap: bool) -> dict[str, Layer]:
    """Its 2-D arrays, each a layer."""
    return layers_of_group(_open(path), path, mmap)


def _open(path: Path) -> dict[str, Any]:
    """The datasets of an HDF5 file, by their names."""
    try:
        import h5py
    except ImportError as error:
        raise ImportError(
            f'{str(path)!r} needs h5py: pip install "skleiden[hdf5]".'
        ) from error
    arrays: dict[str, Any] = {}

    def keep(name: str, item: Any) -> None:
        if isinstance(item, h5py.Dataset):
            arrays[name] = item

    try:
        h5py.File(path, "r").visititems(keep)  # open as long as its datasets are
    except Exception as error:  # as with torch
        raise ValueError(
            f"{str(path)!r} is broken or truncated: {first_line(error)}"
        ) from error
    return arrays
