"""Read tables: columns of ids, texts, lists of numbers, or triplets.

Tables come from Parquet and Arrow files, records in lines of JSON, and CSV.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from . import _names as names
from ._arrays import (
    HINT,
    as_array,
    kind_of,
    layers_of_arrays,
    rank_of,
    refuse_different_rows,
)
from ._ids import Ids, ids_of_file
from ._layer import Layer, Reading, natural_order, tell, tell_left_out
from ._triplets import find_triplets
from ._wide import matrix_of_columns, numbered_columns

Table = dict[str, Any]  # {column: a value for each row}


def is_records(content: Any) -> bool:
    """Tell whether something is a list of mappings, each a row."""
    return (
        isinstance(content, (list, tuple))
        and len(content) > 0
        and all(isinstance(record, Mapping) for record in content)
    )


def columns_of(records: Sequence[Mapping[Any, Any]]) -> Table:
    """Turn records into columns; a mapping inside a record becomes several columns."""
    flat = [_flat(record) for record in records]
    known = dict.fromkeys(name for record in flat for name in record)
    return {name: [record.get(name) for record in flat] for name in known}


def _flat(record: Mapping[Any, Any]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for name, value in record.items():
        if isinstance(value, Mapping):
            inside = _flat(value)
            if names.find([name], names.WRAPPERS) is None:
                inside = {f"{name}.{own}": v for own, v in inside.items()}
            found |= inside
        else:
            found[str(name)] = value
    return found


def layers_of_table(
    table: Table, path: Path, how: Reading, beside: Ids | None = None
) -> dict[str, Layer]:
    """Find the layers in a table: columns of lists of numbers, or triplets.

    If it has no column of ids, those that stand `beside` are taken.
    """
    if not any(len(column) for column in table.values()):
        raise ValueError(f"{str(path)!r} must hold rows; got an empty table. Add rows.")
    if find_triplets(table) is not None:
        return layers_of_arrays(table, path, how)
    ids_column, texts_column = columns_of_rows(table)
    ids = table[ids_column] if ids_column is not None else beside and beside.values
    rest = {n: c for n, c in table.items() if n not in (ids_column, texts_column)}
    arrays, taken = _arrays_of(rest, path, how)
    if not arrays:
        raise ValueError(
            f"{str(path)!r} must hold a column of lists of numbers for each layer, or "
            "columns of numbers named n0, n1, ..., or the columns row, latent and "
            f"value; got columns {list(table)[:10]}. Store each layer as a column of "
            "lists, or give data frames, whose columns have names of their own, to "
            "skleiden.LayerStack."
        )
    left = [name for name in rest if name not in taken]
    layer = names.find(left, names.LAYERS) if len(arrays) == 1 else None
    others = {name: _kind(rest[name]) for name in left if name != layer}
    if layer is None:
        return layers_of_arrays(arrays, path, how, ids_of_file(ids, path), others)
    tell_left_out(others, path, HINT)
    (array,) = arrays.values()
    return _by_layer(array, rest[layer], ids, path, how)


def _arrays_of(
    columns: Table, path: Path, how: Reading
) -> tuple[dict[str, Any], Sequence[str]]:
    """Make arrays from columns of vectors or of numbers; name the columns used."""
    deep = {name for name, column in columns.items() if (_rank(column) or 0) >= 2}
    # Of a data set that was tokenized, each row has as many as it has tokens.
    of_tokens = {name for name in deep if names.find([name], names.OF_TOKENS)}
    if not deep - of_tokens:
        taken = numbered_columns(list(columns))
        some = {name: columns[name] for name in taken}
        return ({"": matrix_of_columns(some, path)} if taken else {}), taken
    mask = names.find(of_tokens, names.OF_TOKENS[:1]) if how.pool is not None else None
    taken = [n for n in columns if n in deep - of_tokens or n == mask]
    return {name: _whole(columns[name], name, path, how) for name in taken}, taken


def _by_layer(
    array: Any, layer: Any, ids: Any, path: Path, how: Reading
) -> dict[str, Layer]:
    """Split a table in which each row has one prompt in one layer."""
    of_row = np.array([str(value) for value in layer])
    found: dict[str, Layer] = {}
    for name in sorted(set(of_row.tolist()), key=natural_order):
        (rows,) = np.nonzero(of_row == name)
        own = None if ids is None else [ids[row] for row in rows.tolist()]
        made = layers_of_arrays({name: array[rows]}, path, how, ids_of_file(own, path))
        found |= {name if len(made) == 1 else f"{name}.{n}": m for n, m in made.items()}
    refuse_different_rows(found, path)
    return found


def columns_of_rows(table: Table) -> tuple[str | None, str | None]:
    """Name the columns of ids and of texts, if there are any."""
    scalar = [name for name, column in table.items() if (_rank(column) or 1) < 2]
    return names.find(scalar, names.IDS), names.find(scalar, names.TEXTS)


def texts_of_table(table: Table, path: Path) -> dict[Any, Any] | list[Any] | None:
    """Give the texts of a table, by ids or in the order of the rows."""
    ids, texts = columns_of_rows(table)
    if texts is None:
        return None
    if ids is None:
        if len(table) > 1:
            tell(
                f"{str(path)!r} names no column of ids among {list(table)[:10]}: its "
                "texts are taken in the order of the rows. Name the column 'id'."
            )
        return list(table[texts])
    return by_id(list(table[ids]), list(table[texts]), path)


def by_id(ids: Sequence[Any], texts: Sequence[Any], path: Path) -> dict[Any, Any]:
    """Pair ids and texts, and refuse an id that appears twice."""
    if len(ids) != len(texts):
        raise ValueError(
            f"{str(path)!r} must have one text for each id; got {len(texts)} texts and "
            f"{len(ids)} ids."
        )
    found: dict[Any, Any] = {}
    for i, text in zip(ids, texts, strict=True):
        if i in found:
            raise ValueError(
                f"{str(path)!r} has the id {i!r} more than once. Give each text an id "
                "of its own."
            )
        found[i] = text
    return found


def ids_of_table(table: Table, path: Path) -> Ids | None:
    """Give the ids of a table; a single column needs no known name."""
    column, _ = columns_of_rows(table)
    if column is None and len(table) == 1:
        (column,) = table
    if column is None:
        raise ValueError(
            f"{str(path)!r} names no column of ids; got columns {list(table)[:10]}. "
            "Name it 'id'."
        )
    return ids_of_file(table[column], path)


def _rank(column: Any) -> int | None:
    """Count the dimensions of a column, in which some rows may be missing."""
    if isinstance(column, np.ndarray):
        return int(column.ndim)
    given = next((value for value in column if value is not None), None)
    inner = rank_of(given)
    return None if inner is None else inner + 1


def _whole(column: Any, name: str, path: Path, how: Reading) -> Any:
    what = f"Column {name!r} in {str(path)!r}"
    if isinstance(column, np.ndarray):
        return column
    missing = [row for row, value in enumerate(column) if value is None]
    if missing:
        raise ValueError(
            f"{what} has no vector in {len(missing)} rows, such as row {missing[0]}. "
            "Remove these rows, or give each a vector."
        )
    return as_array(list(column), what, how)


def _kind(column: Any) -> str:
    if isinstance(column, np.ndarray):
        return kind_of(column)
    given = next((value for value in column if value is not None), None)
    return f"a column of {type(given).__name__}"
