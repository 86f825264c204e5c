"""Find layers among the arrays of a Zarr folder or HDF5 file."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple, NoReturn

import numpy as np

from skleiden._blocks.sparse import sparse_from_arrays
from skleiden._blocks.stored import read_stored

from . import _names as named
from ._arrays import has_one_a_row, layers_of_arrays, refuse_different_rows, rows_of
from ._encoded import (
    ENCODING,
    INDEX,
    arrays_of_matrix,
    groups_without_shape,
    sparse_groups,
    text_of,
)
from ._ids import Ids, ids_of_file
from ._layer import (
    Layer,
    Reading,
    check_matrix,
    listed,
    natural_order,
    refuse_idle,
    tell,
    tell_left_out,
)

# An array that claims to be larger than the first, and this many times larger than all
# that is stored of it, is refused. No compression of activations comes near.
_LARGE = 2**30
MOST_COMPRESSED = 2**16

# Groups of AnnData that hold other groups, or nothing.
_CONTAINERS = {"anndata", "dict", "raw", "mudata", "MuData"}
# Its tables that describe the rows and columns of matrices.
_ANNOTATIONS = {"obs", "var"}
_TABLE = "a table"
# The names of the rows and columns of a data frame of pandas, which are stored apart.
_IS_AXIS = re.compile(r"(?:.*/)?(?:axis\d+|block\d+_items)(?:_.*)?").fullmatch


class Content(NamedTuple):
    """What a file or folder holds."""

    arrays: Mapping[str, Any]
    groups: Mapping[str, Mapping[str, Any]]  # their attributes
    transposed: frozenset[str] = frozenset()  # arrays that are stored by columns
    left_out: Mapping[str, str] = {}  # other names, and what each is


class Storage(NamedTuple):
    """How much of an array is there, and what the rest reads as."""

    n_bytes: int
    n_chunks: int
    n_present: int
    fill_value: Any  # None if the format leaves it open


def layers_of_group(
    content: Content, storage_of: Callable[[str], Storage], path: Path, how: Reading
) -> dict[str, Layer]:
    """Find the layers in a Zarr folder or HDF5 file.

    `storage_of` gives the storage of an array of that name, or refuses it for reasons
    of its format. It is asked only for arrays that are taken.
    """
    sparse = sparse_groups(content.arrays, content.groups)
    arrays = {
        name: array
        for name, array in content.arrays.items()
        if not _is_below(name, sparse)
    }
    tables = _tables_of_anndata(content)
    if not tables:
        for name, array in arrays.items():
            if name != "ids" or name not in content.transposed:
                _refuse_shape_of_ids(name, array, path)
    flat = [n for n, a in arrays.items() if len(a.shape or ()) == 2 and n != "ids"]
    others = {
        name: _shape_of(arrays[name])
        for name in flat
        if _is_of_tokens(name) and len(arrays) > 1
    }
    names = sorted({*sparse, *flat} - {*others}, key=natural_order)
    asked = [name for name in names if _is_asked(name, path, how) and "obsm/" in name]
    if tables:  # matrices of other uses have the same rows
        others |= {
            name: "a sparse matrix" if name in sparse else _shape_of(arrays[name])
            for name in names
            if _table_of(name, tables, asked) is None
        }
        if asked:
            others = {}  # what is left out was not asked for
            names = [name for name in names if _is_asked(name, path, how)]
        names = [name for name in names if name not in others]
    deep = [] if tables else _deep(arrays, how, bool(names))
    if not deep and (how.axis not in (0, -3) or sparse):
        refuse_idle(path, how, "matrices, rows x neurons", "axis")
    if not deep:
        refuse_idle(path, how, "sparse matrices or those of AnnData", "pool")
    names = [name for name in names if name not in deep]
    others = {name: kind for name, kind in others.items() if name not in deep}
    unread = others | _unread(content, arrays, [*names, *deep, *others])
    if not names and not deep:
        _refuse_without_layers(arrays, unread, path)
    known: dict[str, Ids | None] = {}  # ids that were read, by their array

    def ids_of(name: str, n_rows: int) -> Ids | None:
        table = _table_of(name, tables, asked)
        own = tables[table] if table is not None else None
        if not tables:
            own = _find_ids(name, n_rows, arrays)
        if own is not None and own not in known:
            known[own] = _read_ids(content.arrays[own], own, storage_of(own), path)
        return None if own is None else known[own]

    found = {}
    for name in names:
        if name in sparse:
            where = f"The group {name!r} in {str(path)!r}"
            parts = {}
            for part, own in sparse[name].parts.items():
                array = content.arrays[own]
                parts[part] = _read_part(array, storage_of(own), own, path)
            given = arrays_of_matrix(sparse[name], parts, where)
            matrix = sparse_from_arrays(given, where)
        else:
            is_transposed = name in content.transposed
            mmap = how.mmap and not is_transposed
            matrix = _read_layer(arrays[name], storage_of(name), name, path, mmap)
            if is_transposed:
                matrix = np.ascontiguousarray(matrix.T)
        matrix = check_matrix(matrix, path)
        found[name] = Layer(matrix, ids_of(name, matrix.shape[0]))
    read = {
        name: _read_layer(arrays[name], storage_of(name), name, path, False)
        for name in deep
    }
    turned = {
        name: array.transpose() if name in content.transposed else array
        for name, array in read.items()
    }
    ids = ids_of(deep[0], rows_of(turned[deep[0]], how)) if deep else None
    beside = _names_beside(deep, arrays) if how.axis is not None else None
    if beside is not None:
        array = arrays[beside]
        _check_whole(array, storage_of(beside), f"Array {beside!r} in {str(path)!r}")
        how = how._replace(named=(beside, read_stored(array, 0, array.shape[0])))
        unread.pop(beside, None)
    made = layers_of_arrays(turned, path, how._replace(mmap=False), ids)
    if found.keys() & made.keys() or ("" in made and found):
        raise ValueError(
            f"{str(path)!r} holds layers, {list(found)[:5]}, beside arrays from which "
            f"axis= or pool= would make layers, {deep[:5]}. Store the two kinds in "
            "separate files."
        )
    found |= made
    if any(
        index is None and _index_of_obs(content, table) is not None
        for table, index in tables.items()
    ):
        tell(
            f"{str(path)!r} stores the names of its rows, the index of obs, in a form "
            "that is not read, so the rows have no ids. Pass ids=, or write the file "
            "again with a newer anndata."
        )
    unread = {name: kind for name, kind in unread.items() if name not in known}
    tell_left_out(unread, path, _HINT)
    refuse_different_rows(found, path)
    return found


_HINT = (
    "Layers are 2-D arrays and sparse matrices of the forms CSR and CSC; in AnnData, X "
    "and its layers, and what layers= names of obsm. Store what is to be a layer in "
    "one of these forms."
)


def _deep(arrays: Mapping[str, Any], how: Reading, has_others: bool) -> list[str]:
    """Name the arrays that are to be taken apart or pooled."""
    is_asked = how.axis is not None or how.pool is not None
    ranks = {
        name: len(array.shape or ()) for name, array in arrays.items() if name != "ids"
    }
    # Matrices are of prompts where they are to be pooled (rows are tokens), or taken
    # apart (rows are layers).
    is_flat = max(ranks.values(), default=0) == 2
    of_prompts = is_flat if how.axis in (1, -2) else how.axis is None
    least = 2 if is_asked and of_prompts else 3
    return [
        name
        for name, rank in ranks.items()
        if (
            ((is_asked or not has_others) and rank >= least)
            or (how.pool is not None and named.find([name], named.OF_TOKENS[:1]))
        )
        and getattr(arrays[name], "dtype", np.dtype("V")).kind in "buifc"
    ]


def _tables_of_anndata(content: Content) -> dict[str, str | None]:
    """Find what AnnData wrote: {its group: the array that names its rows, or None}."""
    found: dict[str, str | None] = {}
    for name, attributes in content.groups.items():
        column = _index_of_obs(content, name)
        # Older versions do not name themselves.
        is_older = column is not None and f"{name}/var".lstrip("/") in content.groups
        if text_of(attributes.get(ENCODING)) == "anndata" or is_older:
            index = None if column is None else f"{name}/obs/{column}".lstrip("/")
            nullable = f"{index}/values"
            index = nullable if nullable in content.arrays else index
            found[name] = index if index in content.arrays else None
    return found


def _index_of_obs(content: Content, table: str) -> str | None:
    """Name the column of obs that names the rows, if one does."""
    return text_of(content.groups.get(f"{table}/obs".lstrip("/"), {}).get(INDEX))


def _is_asked(name: str, path: Path, how: Reading) -> bool:
    """Whether `layers` names a matrix, perhaps after its file."""
    asked = how.layers or ()
    return name in asked or f"{path.stem}.{name}" in asked


def _table_of(
    name: str, tables: Mapping[str, str | None], asked: Sequence[str]
) -> str | None:
    """Name the AnnData of which a matrix is X, one of the layers, or asked for."""
    for table in tables:
        own = name.removeprefix(f"{table}/") if table else name
        groups = ("layers/", "obsm/") if name in asked else ("layers/",)
        if own == "X" or (own.startswith(groups) and own.count("/") == 1):
            return table
    return None


def _find_ids(layer: str, n_rows: int, arrays: Mapping[str, Any]) -> str | None:
    """Name the array of ids of a layer's rows, in its group or else at the top."""
    for group in dict.fromkeys((layer.rpartition("/")[0], "")):
        prefix = f"{group}/" if group else ""
        if prefix + "ids" in arrays:
            return prefix + "ids"
        beside = [
            name.removeprefix(prefix)
            for name, array in arrays.items()
            if name.rpartition("/")[0] == group and has_one_a_row(array, {n_rows})
        ]
        if (own := named.find(beside, named.IDS)) is not None:
            return f"{prefix}{own}"
    return None


def _names_beside(deep: Sequence[str], arrays: Mapping[str, Any]) -> str | None:
    """Name the array that may name the layers, in the group of those taken apart."""
    group = deep[0].rpartition("/")[0] if deep else ""
    prefix = f"{group}/" if group else ""
    beside = [
        name.removeprefix(prefix)
        for name, array in arrays.items()
        if name.rpartition("/")[0] == group and has_one_a_row(array, {*array.shape})
    ]
    own = named.find(beside, named.LAYER_NAMES) if deep else None
    return None if own is None else f"{prefix}{own}"


def _is_of_tokens(name: str) -> bool:
    return named.find([name.rpartition("/")[2]], named.OF_TOKENS) is not None


def _is_below(name: str, groups: Iterable[str]) -> bool:
    return any(name.startswith(f"{group}/" if group else "") for group in groups)


def _unread(
    content: Content, arrays: Mapping[str, Any], layers: list[str]
) -> dict[str, str]:
    """Say what holds numbers and is not read: {name: what it is}."""
    found = dict(content.left_out)
    for name, array in arrays.items():
        kind = _kind_of(array, name in content.transposed)
        if kind is not None and name not in (*layers, "ids") and not _IS_AXIS(name):
            found[name] = kind
    for name in groups_without_shape(arrays, content.groups):
        found[name] = "a sparse matrix without its shape"
    for name, attributes in content.groups.items():
        encoding = text_of(attributes.get(ENCODING))
        if (
            encoding is not None
            and encoding not in _CONTAINERS
            and not any(_is_below(layer, [name]) or layer == name for layer in layers)
        ):
            found[name] = f"a group of the encoding {encoding!r}"
    return {
        name: kind
        for name, kind in found.items()
        # A table at the top is of old versions, and has the ids.
        if (_ANNOTATIONS.isdisjoint(name.split("/")) or (name, kind) == ("obs", _TABLE))
        and not _is_below(name, [other for other in found if other != name])
    }


def _kind_of(array: Any, is_transposed: bool) -> str | None:
    """Describe an array of numbers that is not a matrix; give None for all others."""
    try:
        dtype = array.dtype
    except Exception:  # of several kinds, if NumPy has no such type
        return None
    if dtype.names is not None:
        return _TABLE
    if len(array.shape or ()) not in (0, 2) and dtype.kind in "buifc":
        return _shape_of(array, is_transposed)
    return None


def _shape_of(array: Any, is_transposed: bool = False) -> str:
    shape = tuple(array.shape)
    return f"an array of shape {shape[::-1] if is_transposed else shape}"


def _refuse_without_layers(
    arrays: Mapping[str, Any], unread: Mapping[str, str], path: Path
) -> NoReturn:
    if _TABLE in unread.values():
        raise ValueError(
            f"{str(path)!r} holds tables, whose rows mix several types, and no 2-D "
            f"array: {listed(unread)}. Store the numbers as a matrix, with pandas by "
            "DataFrame.to_hdf(..., format='fixed'), or by numpy.save as .npy."
        )
    shapes = {name: array.shape for name, array in arrays.items()}
    others = f" and {listed(unread)}" if unread else ""
    raise ValueError(
        f"{str(path)!r} must hold 2-D arrays, each a layer; got arrays of shapes "
        f"{shapes}{others}."
    )


def _refuse_shape_of_ids(name: str, array: Any, path: Path) -> None:
    """Refuse ids that do not have one dimension, as they might pass for a layer."""
    shape = array.shape or ()
    at_top = name == "ids"
    if (at_top or name.endswith("/ids")) and len(shape) != 1:
        raise ValueError(
            f"Array {name!r} in {str(path)!r} must give one id for each row, in one "
            f"dimension; got shape {shape}. Store ids with .ravel(), and a layer under "
            "another name."
        )


def _read_ids(array: Any, name: str, storage: Storage, path: Path) -> Ids | None:
    where = f"Array {name!r} in {str(path)!r}"
    _check_claim(array, storage, where)
    if storage.n_present < storage.n_chunks:
        raise ValueError(
            f"{where} lacks {_share(storage)} of its chunks, and with them ids. Copy "
            "or write it again."
        )
    # Those of MATLAB have two dimensions, of which one is 1.
    return ids_of_file(read_stored(array, 0, array.shape[0]).ravel(), path)


def _read_layer(array: Any, storage: Storage, name: str, path: Path, mmap: bool) -> Any:
    """Give a 2-D array if it is to stay in its file, or else its values."""
    where = f"Array {name!r} in {str(path)!r}"
    if array.dtype.kind not in "buif":
        raise ValueError(
            f"{where} must hold real numbers, as every 2-D array is a layer; got "
            f"dtype {array.dtype}. Move it to another file."
        )
    _check_whole(array, storage, where)
    return array if mmap else read_stored(array, 0, array.shape[0])


def _read_part(array: Any, storage: Storage, name: str, path: Path) -> np.ndarray:
    """Read one of the arrays of a sparse matrix."""
    where = f"Array {name!r} in {str(path)!r}"
    if len(array.shape or ()) != 1 or array.dtype.kind not in "buif":
        raise ValueError(
            f"{where} must hold real numbers in one dimension, as a part of a sparse "
            f"matrix; got shape {array.shape} and dtype {array.dtype}. Store the "
            "matrix again."
        )
    _check_whole(array, storage, where)
    return read_stored(array, 0, array.shape[0])


def _check_whole(array: Any, storage: Storage, where: str) -> None:
    """Refuse, or warn of, an array that is incomplete."""
    _check_claim(array, storage, where)
    if storage.n_present == storage.n_chunks:
        return
    fill_value = storage.fill_value
    if fill_value is None or not np.isfinite(fill_value):
        reading = "undefined values" if fill_value is None else str(fill_value)
        raise ValueError(
            f"{where} lacks {_share(storage)} of its chunks, which would read as "
            f"{reading}. Copy or write it again; a capture that stopped goes on if it "
            "is started again."
        )
    tell(
        f"{where} lacks {_share(storage)} of its chunks, which read as {fill_value}. "
        "Either they were left out because they hold nothing else, or writing or "
        "copying was cut off. If it was, copy or write it again."
    )


def _check_claim(array: Any, storage: Storage, where: str) -> None:
    """Refuse a shape far beyond what is stored, before memory is taken for it."""
    rows, width = array.shape[0], max(1, *array.shape[1:], 1)
    claimed = rows * width * array.dtype.itemsize
    if array.chunks:
        # Each chunk is unpacked whole, however much of it is of the array.
        chunk = math.prod(array.chunks) * array.dtype.itemsize
        if chunk > max(_LARGE, claimed):
            raise ValueError(
                f"{where} has {claimed} bytes in chunks of the shape "
                f"{tuple(array.chunks)}, {chunk} bytes each. It is broken or badly "
                "chunked. Write it again, in chunks that are not larger than the array."
            )
    if claimed > max(_LARGE, MOST_COMPRESSED * storage.n_bytes):
        raise ValueError(
            f"{where} claims {rows} rows, {claimed} bytes, of which {storage.n_bytes} "
            "bytes are stored. It is broken or was not written to the end. Copy or "
            "write it again, with the shape that it really has."
        )


def _share(storage: Storage) -> str:
    missing = storage.n_chunks - storage.n_present
    percent = 100 * missing / storage.n_chunks
    return f"{missing} of {storage.n_chunks} ({percent:.3g}%)"
