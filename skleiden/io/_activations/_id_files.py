"""Read files of ids."""

from __future__ import annotations

import os
import re
from pathlib import Path

from . import _names as names
from ._arrow import read_table
from ._csv_table import load_csv_of_ids
from ._find import OF_LINES, OF_TABLES, check_regular, form_of
from ._ids import Ids, ids_of_file
from ._layer import shape_of, tell
from ._npy import load_npy
from ._numpy import read_texts
from ._table import columns_of, ids_of_table, is_records
from ._text import load_json, read_text

_OF_TEXT = (".txt", ".json", *OF_LINES, *OF_TABLES)
# What may stand beside an array to name its rows: layer_17.npy, layer_17.ids.json.
_SIDE_FILES = tuple(f".ids.{end}" for end in ("json", "txt", "npy", "csv", "jsonl"))


def ids_beside(path: Path) -> Ids | None:
    for suffix in _SIDE_FILES:
        beside = path.absolute().with_name(path.stem + suffix)
        if os.path.lexists(beside):  # a link that leads nowhere is not passed over
            return read_ids(beside)
    return None


def read_ids(path: Path) -> Ids | None:
    """Read ids from a JSON list, an array, a table, or a text file with one a line."""
    check_regular(path)
    suffix = path.suffix.lower()
    with path.open("rb") as file:
        is_array = file.read(6) == b"\x93NUMPY"
    # An id in a text file may begin as other files do.
    form = "" if suffix in _OF_TEXT else form_of(path)
    if is_array:
        return ids_of_file(load_npy(path, "must hold ids, numbers or strings"), path)
    if form == "arrow":
        return ids_of_table(read_table(path), path)
    if form == "npz":
        return ids_of_table(read_texts(path), path)
    if form in ("torch", "hdf5", "safetensors", "zarr in a zip"):
        raise ValueError(
            f"{str(path)!r} is a file of the form {form}, from which no ids are read. "
            "Save them as a JSON list."
        )
    if suffix in (".json", *OF_LINES):
        listed = load_json(path)
        if is_records(listed) and suffix != ".json":
            return ids_of_table(columns_of(listed), path)
        if not isinstance(listed, list):
            raise ValueError(
                f"{str(path)!r} must hold a list of ids; got {shape_of(listed)}."
            )
        return Ids(listed, path)
    if suffix in OF_TABLES:
        return ids_of_table(load_csv_of_ids(path), path)
    return Ids(_read_lines(path), path)


def _read_lines(path: Path) -> list[str]:
    """Read ids from a text file, one on each line; only CR and LF end a line."""
    try:
        text = read_text(path)
        if "\0" in text:
            raise ValueError("it holds NUL characters, as binary files and UTF-16 do")
        lines = re.split(r"\r\n|\n|\r", text)
        while lines and lines[-1] == "":  # after the end of the last line
            lines.pop()
        if "" in lines:
            raise ValueError(f"line {lines.index('') + 1} is empty")
    except ValueError as error:
        raise ValueError(
            f"{str(path)!r} must have an id on each line, as UTF-8: {error}. Ids of "
            "any kind can be saved as a JSON list."
        ) from error
    if lines and names.are_ids(lines[0]):
        tell(
            f"The first line of {str(path)!r}, {lines[0]!r}, is taken for the name of "
            "a column, not for an id. If it is an id, save the ids as a JSON list."
        )
        return lines[1:]
    return lines
