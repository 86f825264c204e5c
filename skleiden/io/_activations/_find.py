"""Which files are meant, and which form each has."""

from __future__ import annotations

import glob
import os
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ._layer import natural_order

# Files by which a folder is known to be one of Zarr, version 3 or 2.
_ZARR_FILES = ("zarr.json", ".zgroup", ".zarray")


def find_files(paths: Any) -> dict[str, Path]:
    """The files, by the names of their layers."""
    if isinstance(paths, Mapping):
        files = {str(name): Path(path) for name, path in paths.items()}
    else:
        if isinstance(paths, (str, os.PathLike)):
            text = os.fspath(paths)
            listed = [text] if Path(text).exists() else glob.glob(text)  # noqa: PTH207
            if not listed:
                raise FileNotFoundError(
                    f"No file matches {text!r} (in {str(Path.cwd())!r})."
                )
        else:
            listed = list(paths)
        ordered = sorted((Path(path) for path in listed), key=natural_order)
        if not ordered:
            raise ValueError("paths must name at least one file; got none.")
        names = [path.stem for path in ordered]
        repeated = sorted({name for name in names if names.count(name) > 1})
        if repeated:
            raise ValueError(
                f"Files must have different names, which become the layers'; got "
                f"{repeated} more than once. Pass {{layer: path}}."
            )
        files = dict(zip(names, ordered, strict=True))
    for path in files.values():
        if path.is_dir() and not is_zarr(path):
            raise IsADirectoryError(
                f"{str(path)!r} is a folder. Give its files, such as "
                f"{str(path / 'layer_*')!r}."
            )
        if not path.exists():
            raise FileNotFoundError(f"There is no file {str(path)!r}.")
    return files


def is_zarr(path: Path) -> bool:
    return any((path / name).is_file() for name in _ZARR_FILES)


def form_of(path: Path) -> str:
    """Which form a file has, by its content."""
    if path.is_dir():
        return "zarr" if is_zarr(path) else "unknown"
    with path.open("rb") as file:
        start = file.read(9)
    if start.startswith(b"\x93NUMPY"):
        return "npy"
    if start.startswith(b"\x89HDF\r\n\x1a\n"):
        return "hdf5"
    if start.startswith(b"PK"):
        try:
            with zipfile.ZipFile(path) as archive:
                names = archive.namelist()
        except Exception as error:  # as with torch
            raise ValueError(
                f"{str(path)!r} is a broken or truncated archive: {error}."
            ) from error
        torch_made = any(name.endswith("/data.pkl") for name in names)
        return "torch" if torch_made else "npz"
    if path.suffix == ".safetensors" or start[8:9] == b"{":
        return "safetensors"
    if start.startswith(b"\x80"):  # a pickle, as of older versions of torch
        return "torch"
    if start.lstrip().startswith((b"{", b"[")):
        return "json"
    return "unknown"
