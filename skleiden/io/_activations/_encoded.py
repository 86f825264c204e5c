"""Find sparse matrices that are stored as groups of arrays.

A matrix of compressed sparse rows (CSR) or columns (CSC) is stored as a group of three
arrays, ``data``, ``indices`` and ``indptr``, with its shape in an attribute of the
group or in a fourth array: by AnnData, h5sparse, 10x Genomics and others. MATLAB names
them ``data``, ``ir`` and ``jc``.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

import numpy as np

ENCODING = "encoding-type"  # of AnnData, for groups and arrays
_SHAPES = ("shape", "h5sparse_shape")
_FORM_NAMES = (ENCODING, "h5sparse_format", "format")
_FORMS = {"csr_matrix": "csr", "csc_matrix": "csc", "csr": "csr", "csc": "csc"}
_OF_MATLAB = "MATLAB_sparse"  # the number of rows
# The attributes of groups that are asked for.
INDEX = "_index"  # of AnnData: the column of a table that names its rows
ATTRIBUTES = (*_SHAPES, *_FORM_NAMES, _OF_MATLAB, INDEX)

_PARTS = {"data": "data", "indices": "indices", "indptr": "indptr"}
_PARTS_OF_MATLAB = {"data": "data", "ir": "indices", "jc": "indptr"}


class SparseGroup(NamedTuple):
    """A group that holds a sparse matrix."""

    attributes: Mapping[str, Any]
    parts: dict[str, str]  # {"data", "indices", "indptr" or "shape": name of the array}


def text_of(attribute: Any) -> str | None:
    """Give the text of an attribute that is str or bytes; None if it is neither."""
    if isinstance(attribute, np.ndarray) and attribute.size == 1:
        attribute = attribute.item()
    if isinstance(attribute, bytes):
        attribute = attribute.decode("utf-8", "replace")
    return str(attribute) if isinstance(attribute, str) else None


def sparse_groups(
    arrays: Mapping[str, Any], groups: Mapping[str, Mapping[str, Any]]
) -> dict[str, SparseGroup]:
    """Find the groups that hold a sparse matrix, by their arrays and attributes."""
    found = {}
    for name, attributes in groups.items():
        if _OF_MATLAB in attributes:
            parts = _held(arrays, name, _PARTS_OF_MATLAB)
        else:
            parts = _held(arrays, name, {**_PARTS, "shape": "shape"})
            if text_of(attributes.get(ENCODING)) not in _FORMS and (
                not _PARTS.keys() <= parts.keys() or not _has_shape(attributes, parts)
            ):
                continue
        found[name] = SparseGroup(attributes, parts)
    return found


def groups_without_shape(
    arrays: Mapping[str, Any], groups: Mapping[str, Mapping[str, Any]]
) -> Iterator[str]:
    """Name the groups that would hold a sparse matrix if they had a shape."""
    for name, attributes in groups.items():
        parts = _held(arrays, name, {**_PARTS, "shape": "shape"})
        if _PARTS.keys() <= parts.keys() and not _has_shape(attributes, parts):
            yield name


def _held(
    arrays: Mapping[str, Any], group: str, parts: Mapping[str, str]
) -> dict[str, str]:
    names = {part: f"{group}/{own}".lstrip("/") for own, part in parts.items()}
    return {part: name for part, name in names.items() if name in arrays}


def _has_shape(attributes: Mapping[str, Any], parts: Mapping[str, str]) -> bool:
    return "shape" in parts or any(name in attributes for name in _SHAPES)


def arrays_of_matrix(
    group: SparseGroup, parts: dict[str, np.ndarray], where: str
) -> dict[str, np.ndarray]:
    """Add what `sparse_from_arrays` needs beside the parts.

    Parameters
    ----------
    group : SparseGroup

    parts : dict of {part: ndarray}
        The arrays that the group names, as they were read.

    where : str
        What the group is called in errors.
    """
    if _OF_MATLAB in group.attributes:
        # A matrix of nothing but zeros has no data and no rows.
        parts = {"data": np.empty(0), "indices": np.empty(0, np.int64)} | parts
        columns = parts["indptr"].size - 1 if "indptr" in parts else 0
        # Numbers of Python, as NumPy makes floats of signed and unsigned ones together.
        shape = np.array([*np.ravel(group.attributes[_OF_MATLAB]).tolist(), columns])
        return {**parts, "shape": shape, "format": np.array("csc")}
    stated = (group.attributes[name] for name in _SHAPES if name in group.attributes)
    given = parts.get("shape", next(stated, None))
    if given is None:
        raise ValueError(
            f"{where} holds a sparse matrix without its shape. Add the shape to the "
            "group, as the attribute 'shape'."
        )
    try:
        shape = np.asarray(given)
    except ValueError:  # lists of different lengths
        shape = np.asarray(given, dtype=object)
    form = _form(group, parts, shape, where)
    return {**parts, "shape": shape, "format": np.array(form)}


def _form(
    group: SparseGroup, parts: Mapping[str, np.ndarray], shape: np.ndarray, where: str
) -> str:
    """Tell CSR from CSC, by an attribute or else by the length of ``indptr``."""
    for name in _FORM_NAMES:
        form = text_of(group.attributes.get(name))
        if form in _FORMS:
            return _FORMS[form]
    length = parts["indptr"].size - 1
    fitting = [
        form
        for form, size in zip(("csr", "csc"), shape.ravel().tolist(), strict=False)
        if size == length
    ]
    if len(fitting) == 2:
        raise ValueError(
            f"{where} holds a square sparse matrix, but does not say whether its rows "
            "or its columns are compressed. Add to the group the attribute 'format', "
            "with the value 'csr' or 'csc'."
        )
    return fitting[0] if fitting else "csr"
