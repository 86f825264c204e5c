"""Check the parts of sparse matrices before SciPy's compiled code uses them.

SciPy trusts the index arrays of a matrix: a row or column that lies outside makes it
read or write foreign memory, or answer wrongly. It checks only some forms, some parts
and some ways to make a matrix. Everything that comes from a file or a user passes here.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from itertools import chain
from operator import index
from typing import Any

import numpy as np
import scipy.sparse as sp

# A file may name more rows or columns than it has entries, as each of them costs memory
# later: these many in any case, and these many for each entry.
_ROWS, _COLUMNS, _PER_ENTRY = 2**20, 2**22, 1000

_REMEDY = (
    "Build it again from its values, for example with scipy.sparse.coo_array((values, "
    "(rows, columns)), shape=shape)."
)


def check_sparse(matrix: Any, what: str) -> None:
    """Refuse a sparse matrix whose parts contradict one another or its shape.

    It takes one pass over the index arrays, which are not copied; memory maps stay
    maps. A matrix of other than 2 dimensions is left to those who refuse it.

    Parameters
    ----------
    matrix : sparse matrix or array of SciPy

    what : str
        What it is called in the error, such as ``"X"``.

    Raises
    ------
    ValueError
        If it is not valid.
    """
    if matrix.ndim != 2:
        return
    form = matrix.format
    if form in ("lil", "dok"):
        problem = _shape_problem(matrix.shape) or _LISTS[form](matrix)
    else:
        problem = _problem(form, matrix.shape, _parts_of(matrix), "i")
    _refuse(problem, form, what)


def sparse_from_arrays(arrays: Mapping[str, np.ndarray], what: str) -> Any:
    """Make a sparse matrix of the arrays that :func:`scipy.sparse.save_npz` writes.

    Parameters
    ----------
    arrays : mapping of {name: ndarray}

    what : str
        What the matrix is called in the error.

    Returns
    -------
    matrix : CSR matrix or array

    Raises
    ------
    ValueError
        If parts are missing or contradict one another, or if the shape is far beyond
        what the parts hold.
    """
    form = arrays["format"].item() if arrays["format"].size == 1 else None
    form = form.decode("ascii", "replace") if isinstance(form, bytes) else form
    if form not in _NAMES:
        raise ValueError(
            f"{what} holds a sparse matrix of the format {form!r}; these are read: "
            f"{', '.join(_NAMES)}."
        )
    shape = _shape_from(arrays["shape"])
    names = _NAMES[form]
    coords = arrays.get("coords")  # of COO as of SciPy 1.13, for n dimensions
    if coords is not None and coords.shape[:1] == (2,):
        arrays = {**arrays, "row": coords[0], "col": coords[1]}
    missing = [name for name in names if name not in arrays]
    parts = {name: arrays[name] for name in names if name not in missing}
    problem: str | None
    if missing:
        problem = f"it lacks {' and '.join(missing)}"
    elif parts["data"].dtype.kind not in "buif":
        problem = f"its data must be real numbers; got dtype {parts['data'].dtype}"
    else:
        # Unsigned ones, as other software writes, become signed below.
        problem = _problem(form, shape, parts, "iu") or _claim_problem(shape, parts)
    _refuse(problem, form, what)
    data, *others = parts.values()
    data = data.astype(_known_dtype(data.dtype), copy=False)
    flag = arrays.get("_is_array", np.array(False))
    is_array = flag.dtype.kind == "b" and flag.all()
    make = getattr(sp, f"{form}_{'array' if is_array else 'matrix'}")
    given = (data, tuple(others)) if form == "coo" else (data, *others)
    return as_csr(make(given, shape=shape))


def as_csr(matrix: Any) -> Any:
    """Convert a valid matrix to CSR, which is left as it is if SciPy can slice it."""
    if matrix.format == "csr" and matrix.dtype.isnative:
        return matrix
    return matrix.astype(_known_dtype(matrix.dtype), copy=False).tocsr()


def _known_dtype(dtype: np.dtype) -> np.dtype:
    """Choose a dtype that holds the same numbers and is known to all of SciPy."""
    return np.dtype("f4") if dtype == np.float16 else dtype.newbyteorder("=")


# The parts of each form, named as in files.
_NAMES = {
    "csr": ("data", "indices", "indptr"),
    "csc": ("data", "indices", "indptr"),
    "bsr": ("data", "indices", "indptr"),
    "coo": ("data", "row", "col"),
    "dia": ("data", "offsets"),
}


def _refuse(problem: str | None, form: str, what: str) -> None:
    if problem is not None:
        raise ValueError(
            f"{what} is not a valid sparse matrix of the format {form.upper()}: "
            f"{problem}. {_REMEDY}"
        )


def _parts_of(matrix: Any) -> dict[str, Any]:
    if matrix.format == "coo" and hasattr(matrix, "coords"):  # as of SciPy 1.13
        coords = matrix.coords
        if not isinstance(coords, tuple) or len(coords) != 2:
            return {"data": matrix.data, "row": None, "col": None}
        return {"data": matrix.data, "row": coords[0], "col": coords[1]}
    return {name: getattr(matrix, name) for name in _NAMES[matrix.format]}


def _shape_from(array: np.ndarray) -> Any:
    whole = array.ndim == 1 and array.dtype.kind in "iu"
    return tuple(array.tolist()) if whole else array


def _shape_problem(shape: Any) -> str | None:
    try:
        rows, columns = (index(number) for number in shape)
    except (TypeError, ValueError):
        return f"its shape must be two whole numbers; got {shape!r}"
    if not (0 <= rows < 2**63 and 0 <= columns < 2**63):
        return f"its shape must be two numbers from 0 to 2**63 - 1; got {shape!r}"
    return None


def _claim_problem(shape: tuple[int, int], parts: Mapping[str, Any]) -> str | None:
    entries = sum(part.size for part in parts.values())
    for name, size, any_case in zip(
        ("rows", "columns"), shape, (_ROWS, _COLUMNS), strict=True
    ):
        if size > max(any_case, _PER_ENTRY * entries):
            return (
                f"it claims {size} {name}, far beyond the {entries} numbers that it "
                "holds, and each would take memory"
            )
    return None


def _problem(
    form: str, shape: tuple[int, int], parts: Mapping[str, Any], kinds: str
) -> str | None:
    """Say what is wrong with a shape and its parts; None if nothing is.

    Indices may be of the kinds of dtype in `kinds`: "i" signed, "u" unsigned integers.
    """
    if (problem := _shape_problem(shape)) is not None:
        return problem
    wanted = {"bsr": 3, "dia": 2}.get(form, 1)
    for name, part in parts.items():
        ndim = wanted if name == "data" else 1
        if not isinstance(part, np.ndarray) or part.ndim != ndim:
            return f"{name} must be an array of {ndim} dimension(s); got {_kind(part)}"
        if name != "data" and part.dtype.kind not in kinds:
            signed = "" if "u" in kinds else "signed "
            return f"{name} must be {signed}integers; got dtype {part.dtype}"
    return _FORMS[form](shape, **parts)


def _kind(part: Any) -> str:
    if isinstance(part, np.ndarray):
        return f"one of {part.ndim}"
    return type(part).__name__


def _row_compressed(
    shape: tuple[int, int], data: np.ndarray, indices: np.ndarray, indptr: np.ndarray
) -> str | None:
    rows, columns = shape
    if indptr.size != rows + 1:
        return (
            f"indptr must have one entry more than there are rows (CSC: columns; BSR: "
            f"rows of blocks), {rows + 1}; got {indptr.size}"
        )
    if indices.size != len(data):
        return (
            f"indices and data must be of one length; got {indices.size} and "
            f"{len(data)}"
        )
    if indptr[0] != 0 or (indptr[1:] < indptr[:-1]).any():
        return "indptr must start at 0 and never fall"
    if indptr[-1] > indices.size:
        return (
            f"indptr ends at {indptr[-1]}, beyond the {indices.size} entries that "
            "there are"
        )
    return _outside("indices", indices, columns)


def _column_compressed(
    shape: tuple[int, int], data: np.ndarray, indices: np.ndarray, indptr: np.ndarray
) -> str | None:
    return _row_compressed(shape[::-1], data, indices, indptr)


def _blocks(
    shape: tuple[int, int], data: np.ndarray, indices: np.ndarray, indptr: np.ndarray
) -> str | None:
    rows, columns = data.shape[1:]
    if 0 in (rows, columns) or shape[0] % rows or shape[1] % columns:
        return (
            f"its shape {shape} is not a multiple of its blocks' shape {rows, columns}"
        )
    counts = shape[0] // rows, shape[1] // columns
    return _row_compressed(counts, data, indices, indptr)


def _coordinates(
    shape: tuple[int, int], data: np.ndarray, row: np.ndarray, col: np.ndarray
) -> str | None:
    if not data.size == row.size == col.size:
        return (
            f"data, row and col must be of one length; got {data.size}, {row.size} and "
            f"{col.size}"
        )
    return _outside("row", row, shape[0]) or _outside("col", col, shape[1])


def _diagonals(
    shape: tuple[int, int], data: np.ndarray, offsets: np.ndarray
) -> str | None:
    if len(data) != offsets.size:
        return (
            f"data must have one row for each of the offsets, {offsets.size}; got "
            f"{len(data)}"
        )
    if np.unique(offsets).size != offsets.size:
        return "offsets must differ"
    low, high = 1 - max(shape[0], 1), max(shape[1], 1) - 1
    if offsets.size and (offsets.min() < low or offsets.max() > high):
        return (
            f"offsets must be from {low} to {high}; got {offsets.min()} to "
            f"{offsets.max()}"
        )
    return None


_FORMS: dict[str, Callable[..., str | None]] = {
    "csr": _row_compressed,
    "csc": _column_compressed,
    "bsr": _blocks,
    "coo": _coordinates,
    "dia": _diagonals,
}


def _rows_of_lists(matrix: Any) -> str | None:
    rows, data = matrix.rows, matrix.data
    for name, part in (("rows", rows), ("data", data)):
        if not isinstance(part, np.ndarray) or part.shape != matrix.shape[:1]:
            return f"{name} must be an array with one list for each row"
        if not all(isinstance(items, list) for items in part):
            return f"{name} must be an array with one list for each row"
    if any(len(a) != len(b) for a, b in zip(rows, data, strict=True)):
        return "the lists of rows and of data must be of one length each"
    return _outside_numbers("rows", chain.from_iterable(rows), matrix.shape[1])


def _keys(matrix: Any) -> str | None:
    keys = list(matrix.keys())
    if not all(isinstance(key, tuple) and len(key) == 2 for key in keys):
        return "its keys must be pairs, (row, column)"
    return _outside_numbers(
        "rows", (row for row, _ in keys), matrix.shape[0]
    ) or _outside_numbers("columns", (column for _, column in keys), matrix.shape[1])


_LISTS: dict[str, Callable[[Any], str | None]] = {"lil": _rows_of_lists, "dok": _keys}


def _outside_numbers(name: str, numbers: Any, stop: int) -> str | None:
    try:
        found = np.fromiter(map(index, numbers), dtype=np.int64)
    except (TypeError, OverflowError) as error:
        return f"{name} must be integers of 64 bits: {error}"
    return _outside(name, found, stop)


def _outside(name: str, indices: np.ndarray, stop: int) -> str | None:
    if indices.size == 0:
        return None
    low, high = indices.min(), indices.max()
    if low >= 0 and high < stop:
        return None
    return f"{name} must be from 0 to {stop - 1}; got {low} to {high}"
