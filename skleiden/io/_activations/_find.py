"""Find the files that are meant, and the form of each."""

from __future__ import annotations

import codecs
import glob
import os
import stat
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from ._archive import members_of
from ._layer import natural_order
from ._parts import Parts, join_parts

# Files by which a folder is known to be one of Zarr, version 3 or 2.
_ZARR_FILES = ("zarr.json", ".zgroup", ".zarray")

# Suffixes of files that have one JSON text on each line.
OF_LINES = (".jsonl", ".ndjson")
# Suffixes of tables of text.
OF_TABLES = (".csv", ".tsv", ".tab")

_HDF5 = b"\x89HDF\r\n\x1a\n"


def find_files(paths: Any) -> dict[str, Parts]:
    """Give the files by the names of their layers, each with the parts of its rows."""
    if isinstance(paths, Mapping):
        files = {str(name): Parts(_listed(given)) for name, given in paths.items()}
    else:
        ordered = sorted(_listed(paths), key=natural_order)
        names = [path.stem for path in ordered]
        repeated = sorted({name for name in names if names.count(name) > 1})
        if repeated:
            raise ValueError(
                "Files must have different names, because layers are named after them; "
                f"got {repeated} more than once. Pass {{layer: path}}."
            )
        files = join_parts(dict(zip(names, ordered, strict=True)))
    for parts in files.values():
        for path in parts.paths:
            if not is_zarr(path):
                check_regular(path)
    return files


def _listed(paths: Any) -> list[Path]:
    """List the files of one path, of a pattern, or of a sequence of paths."""
    if isinstance(paths, (str, os.PathLike)):
        text = os.fspath(paths)
        found = [text] if _exists(text) else glob.glob(text)  # noqa: PTH207
        if not found and glob.has_magic(text):
            raise FileNotFoundError(
                f"No file matches {text!r} (in {str(Path.cwd())!r})."
            )
        return sorted(map(Path, found or [text]), key=natural_order)
    listed = [Path(path) for path in paths]
    if not listed:
        raise ValueError("paths must name at least one file; got none.")
    return listed


def _exists(text: str) -> bool:
    return os.path.lexists(text) if "\0" not in text else True


def check_regular(path: Path) -> None:
    """Refuse anything but a regular file, because reading it might wait forever.

    Symbolic links are followed. Nothing is opened, because opening a named pipe waits
    for someone to write to it.

    Raises
    ------
    FileNotFoundError
        If there is no such file.

    IsADirectoryError
        If it is a folder.

    ValueError
        If it is a named pipe, a socket or a device.
    """
    try:
        mode = path.stat().st_mode
    except (FileNotFoundError, NotADirectoryError) as error:
        raise FileNotFoundError(f"There is no file {str(path)!r}.") from error
    except ValueError as error:  # a NUL in the name
        raise ValueError(f"{str(path)!r} cannot be the name of a file.") from error
    if stat.S_ISDIR(mode):
        raise IsADirectoryError(
            f"{str(path)!r} is a folder. Give a file in it, or several, such as "
            f"{str(path / '*')!r}."
        )
    if not stat.S_ISREG(mode):
        kind = next(name for is_kind, name in _KINDS if is_kind(mode))
        raise ValueError(
            f"{str(path)!r} is {kind}, not a regular file; reading it might wait "
            "forever. Write its content to a file and give that."
        )


_KINDS: tuple[tuple[Callable[[int], bool], str], ...] = (
    (stat.S_ISFIFO, "a named pipe"),
    (stat.S_ISSOCK, "a socket"),
    (stat.S_ISCHR, "a device"),
    (stat.S_ISBLK, "a device"),
    (lambda _: True, "something else"),
)


def _has_user_block(path: Path) -> bool:
    """Tell whether HDF5 begins after a block of something else, as MATLAB writes it."""
    place, size = 512, path.stat().st_size
    with path.open("rb") as file:
        while place < size:
            file.seek(place)
            if file.read(len(_HDF5)) == _HDF5:
                return True
            place *= 2
    return False


def is_zarr(path: Path) -> bool:
    return any((path / name).is_file() for name in _ZARR_FILES)


def form_of(path: Path) -> str:
    """Tell which form a file has, by its content."""
    if is_zarr(path):
        return "zarr"
    check_regular(path)
    with path.open("rb") as file:
        start = file.read(9)
    if start.startswith(b"\x93NUMPY"):
        return "npy"
    if start.startswith(_HDF5) or _has_user_block(path):
        return "hdf5"
    if start.startswith((b"PK\x03\x04", b"PK\x05\x06")):  # members, or none
        names = [member.filename for member in members_of(path)]
        if any(name.rpartition("/")[2] in _ZARR_FILES for name in names):
            return "zarr in a zip"
        torch_made = any(name.endswith("/data.pkl") for name in names)
        return "torch" if torch_made else "npz"
    if start.startswith((b"PAR1", b"ARROW1", b"\xff\xff\xff\xff")):
        return "arrow"
    # A JSON text may have a bracket there, too, but its letters make a huge length.
    of_header = start[8:9] == b"{" and int.from_bytes(start[:8], "little") < 2**40
    if path.suffix == ".safetensors" or of_header:
        return "safetensors"
    if path.suffix.lower() in OF_LINES:
        return "json"
    if start.startswith(b"\x80"):  # a pickle, as of older versions of torch
        return "torch"
    if start.removeprefix(codecs.BOM_UTF8).lstrip().startswith((b"{", b"[")):
        return "json"
    return "unknown"
