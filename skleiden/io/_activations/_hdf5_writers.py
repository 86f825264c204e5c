"""Interpret what MATLAB, PyTables and AnnData write into HDF5 files.

Each marks its objects by attributes. MATLAB (``-v7.3``) stores matrices by columns, so
that they lie transposed in the file; scalars and texts as matrices, too; and the
content of cell arrays apart. PyTables, which pandas uses, stores indexes of its tables
beside them.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ._encoded import ATTRIBUTES, text_of
from ._group import Content

_PYTABLES, _MATLAB, _MATLAB_EMPTY = "CLASS", "MATLAB_class", "MATLAB_empty"
_INTERNAL_GROUPS = {"INDEX", "TINDEX", "DINDEX", "TRANSG", "TRANSMARK"}  # of PyTables
_INTERNAL_NAMES = ("#refs#", "#subsystem#")  # of MATLAB
_NUMBERS = {
    *("double", "single", "logical"),
    *(f"{sign}int{bits}" for sign in ("", "u") for bits in (8, 16, 32, 64)),
}
_TEXTS = ("char", "string")
_LARGEST_ATTRIBUTE = 4096  # bytes; those that are asked for are short


class RefusedError(ValueError):
    """Something that is not broken, but is not read; the message is complete."""


def content_of(
    datasets: Mapping[str, Any], groups: Mapping[str, Any], path: Path
) -> Content:
    """Sort out what the objects in a file are, by the attributes of their writers."""
    attributes = {
        name: _attributes(group, (*ATTRIBUTES, _PYTABLES, _MATLAB))
        for name, group in groups.items()
    }
    internal = [
        name
        for name, found in attributes.items()
        if name in _INTERNAL_NAMES or text_of(found.get(_PYTABLES)) in _INTERNAL_GROUPS
    ]
    arrays, transposed, left_out = {}, set(), {}
    for name, dataset in datasets.items():
        if any(name.startswith(f"{group}/") for group in internal):
            continue
        group = name.rpartition("/")[0]
        kind = _matlab_class(dataset, attributes[group])
        if kind is None:
            arrays[name] = dataset
        elif name == "ids" and (kind not in _NUMBERS or 1 not in dataset.shape):
            raise RefusedError(
                f"Dataset 'ids' in {str(path)!r} must be a vector of numbers; got one "
                f"of the MATLAB class {kind!r} and the shape {dataset.shape[::-1]}. "
                "Save other ids in a text file beside it, and give it as ids=."
            )
        elif kind not in _NUMBERS:
            if kind not in _TEXTS:
                left_out[name] = f"of the MATLAB class {kind!r}"
        elif name == "ids" or _is_matrix(dataset):
            arrays[name] = dataset
            transposed.add(name)
    return Content(arrays, attributes, frozenset(transposed), left_out)


def _matlab_class(dataset: Any, of_group: Mapping[str, Any]) -> str | None:
    """Tell the class that MATLAB gave a dataset; None if it did not write it."""
    kind = text_of(_attributes(dataset, (_MATLAB,)).get(_MATLAB))
    # The fields of an array of structs are references, and have no class.
    if kind is None and _MATLAB in of_group and dataset.dtype.kind == "O":
        return text_of(of_group[_MATLAB])
    return kind


def _is_matrix(dataset: Any) -> bool:
    """Tell matrices from scalars and from what stands for an empty one."""
    empty = _attributes(dataset, (_MATLAB_EMPTY,)).get(_MATLAB_EMPTY, 0)
    return not empty and any(length != 1 for length in dataset.shape or ())


def _attributes(item: Any, names: tuple[str, ...]) -> dict[str, Any]:
    """Read some attributes of a group or dataset, if they are short."""
    attributes = item.attrs
    return {
        name: attributes[name]
        for name in names
        if name in attributes
        and attributes.get_id(name).get_storage_size() <= _LARGEST_ATTRIBUTE
    }
