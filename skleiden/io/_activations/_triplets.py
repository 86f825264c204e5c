"""Read sparse matrices as tools for sparse autoencoders write them.

These are triplets, each of a row, a latent and a value, or the k largest latents of
each row, with their numbers and their values in two arrays of the shape (n, k).
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from skleiden._blocks.sparse import sparse_from_arrays

from . import _names as names
from ._ids import Ids
from ._layer import Layer, natural_order


class Triplets(NamedTuple):
    """The names of three columns, and of the one that names the layer, if any."""

    row: Any
    column: Any
    value: Any
    layer: Any


def find_triplets(columns: Mapping[Any, Any]) -> Triplets | None:
    """Recognise triplets by their names; None if there are none."""
    column = names.find(columns, names.COLUMNS)
    value = names.find(columns, names.VALUES)
    row = names.find([name for name in columns if name != column], names.ROWS)
    if row is None or column is None or value is None:
        return None
    sizes = {_length(columns[name]) for name in (row, column, value)}
    if len(sizes) > 1 or None in sizes:
        return None
    return Triplets(row, column, value, names.find(columns, names.LAYERS))


def _length(column: Any) -> int | None:
    """Count the entries of a one-dimensional column; None for anything else."""
    if getattr(column, "ndim", 1) != 1 or not hasattr(column, "__len__"):
        return None
    return None if isinstance(column, (str, bytes, Mapping)) else len(column)


def find_top(arrays: Mapping[Any, Any], path: Path) -> tuple[Any, Any] | None:
    """Recognise the k largest latents of each row by name: numbers, then values."""
    columns = names.find(arrays, names.TOP_COLUMNS)
    values = names.find(arrays, names.TOP_VALUES)
    if columns is None or values is None:
        return None
    numbers, of = arrays[columns], arrays[values]
    if tuple(numbers.shape) != tuple(of.shape) or numbers.dtype.kind not in "iu":
        return None
    if numbers.ndim == 3:
        raise ValueError(
            f"{columns!r} and {values!r} in {str(path)!r} have the shape "
            f"{tuple(numbers.shape)}: they are the largest latents of each token, over "
            "which no mean or maximum can be taken here. Pool them into a sparse "
            "matrix, rows x latents (scipy.sparse.save_npz)."
        )
    return (columns, values) if numbers.ndim == 2 else None


def layers_of_triplets(
    columns: Mapping[Any, Any], found: Triplets, path: Path
) -> dict[str, Layer]:
    """Make a CSR matrix for each layer. A row is a number, or else an id."""
    row = _numbers(columns[found.row], found.row, path, text=True)
    column = _numbers(columns[found.column], found.column, path)
    value = _values(columns[found.value], found.value, path)
    ids = None
    # A number under a name of ids is an id, which need not count from 0.
    if row.dtype.kind not in "iu" or names.are_ids(found.row):
        listed = list(dict.fromkeys(row.tolist()))
        places = dict(zip(listed, range(len(listed)), strict=True))
        row = np.array([places[i] for i in row.tolist()], dtype=np.int64)
        ids = Ids(listed, path)
    shape = columns.get("shape")
    n_rows = None if shape is None else int(np.ravel(shape)[0])
    width = None if shape is None else int(np.ravel(shape)[-1])
    open_ended = n_rows is None and ids is None
    if n_rows is None:
        n_rows = int(row.max()) + 1 if row.size else 0
    parts: dict[str, Any] = {"": slice(None)}
    if found.layer is not None:
        layer = np.asarray(columns[found.layer]).astype(str)
        listed_layers = sorted(set(layer.tolist()), key=natural_order)
        parts = {name: layer == name for name in listed_layers}
    return {
        name: Layer(
            _csr(row[some], column[some], value[some], (n_rows, width), path),
            ids,
            open_ended,
        )
        for name, some in parts.items()
    }


def layer_of_top(columns: Any, values: Any, path: Path) -> Any:
    """Make a CSR matrix from the numbers and values of each row's largest latents.

    A value of 0 pads a row that has fewer, whatever its number.
    """
    row = np.repeat(np.arange(columns.shape[0]), columns.shape[1])
    value = np.asarray(values).ravel()
    kept = value != 0
    column = np.asarray(columns).ravel()[kept].astype(np.int64)
    return _csr(row[kept], column, value[kept], (columns.shape[0], None), path)


def _csr(
    row: np.ndarray, column: np.ndarray, value: np.ndarray, shape: Any, path: Path
) -> Any:
    n_rows, width = shape
    if width is None:
        width = int(column.max()) + 1 if column.size else 0
    where = f"The triplets in {str(path)!r}"
    arrays = {
        "format": np.array("coo"),
        "shape": np.array([n_rows, width]),
        "row": row,
        "col": column,
        "data": value,
    }
    matrix = sparse_from_arrays(arrays, where)
    matrix.sum_duplicates()
    if matrix.nnz < value.size:
        order = np.lexsort((column, row))
        row, column = row[order], column[order]
        (at,) = np.nonzero((row[1:] == row[:-1]) & (column[1:] == column[:-1]))
        raise ValueError(
            f"{where} have row {row[at[0]]} and latent {column[at[0]]} more than once, "
            "as if each token had a value. Pool them first, so that each pair has one "
            "value."
        )
    return matrix


def _numbers(values: Any, name: Any, path: Path, *, text: bool = False) -> np.ndarray:
    """Give whole numbers, or texts if they may be ids."""
    listed = values.tolist() if isinstance(values, np.ndarray) else list(values)
    try:
        if any(isinstance(i, (float, bool)) for i in listed):
            raise ValueError("they are not whole numbers")
        return np.array([int(i) for i in listed], dtype=np.int64)
    except (TypeError, ValueError, OverflowError) as error:
        if text and all(isinstance(i, str) for i in listed):
            return np.array(listed, dtype=object)
        raise ValueError(
            f"Column {name!r} in {str(path)!r} must hold whole numbers: {error}. Store "
            "triplets as row, latent and value."
        ) from error


def _values(values: Any, name: Any, path: Path) -> np.ndarray:
    try:
        found = np.asarray(values)
        if found.dtype.kind not in "buif":
            found = np.array([float(value) for value in values])
    except (TypeError, ValueError) as error:
        raise ValueError(
            f"Column {name!r} in {str(path)!r} must hold numbers: {error}. Store "
            "triplets as row, latent and value."
        ) from error
    if not np.isfinite(found).all():
        raise ValueError(
            f"{str(path)!r} holds NaN or infinity. Remove these prompts or repair "
            "their values."
        )
    return found
