"""Parquet and Arrow files."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from . import _names as names
from ._layer import naming
from ._table import Table

# Tables that claim more bytes than this, and are this many times larger than their
# file, are hardly more than zeros.
_ANY_CASE, _EXPANSION = 2**28, 500

_STREAM, _END_OF_STREAM = b"\xff" * 4, b"\xff" * 4 + b"\0" * 4


def read_table(path: Path) -> Table:
    """Read a table, with numbers, and lists of equal length, as arrays."""
    try:
        import pyarrow as pa  # type: ignore[import-untyped]
        from pyarrow import parquet
    except ImportError as error:
        raise ImportError(
            f"{str(path)!r} needs pyarrow: pip install pyarrow."
        ) from error
    with path.open("rb") as file:
        start = file.read(4)
        file.seek(max(path.stat().st_size - len(_END_OF_STREAM), 0))
        end = file.read()
    with naming(path):
        if start == b"PAR1":
            with parquet.ParquetFile(path) as opened:
                _refuse_claim(_claimed(opened.metadata), path)
                table = opened.read()
            index = (opened.schema_arrow.pandas_metadata or {}).get("index_columns", [])
        else:
            is_stream = start == _STREAM
            opener = pa.ipc.open_stream if is_stream else pa.ipc.open_file
            with pa.OSFile(str(path)) as source:
                table, index = opener(source).read_all(), []
                # A stream that was cut off between two batches is one of fewer rows.
                left = path.stat().st_size - source.tell()
            if is_stream and (end != _END_OF_STREAM or left):
                raise ValueError("it does not end as a stream of Arrow does")
        # What a file says of lengths and places is compared with what is there.
        table.validate(full=True)
        _refuse_claim(table.nbytes, path)
    if not table.num_rows:
        raise ValueError(f"{str(path)!r} must hold rows; got an empty table. Add rows.")
    table = _without_structs(table)
    unnamed = {name: "index" for name in index if str(name).startswith("__index_")}
    found = {}
    for name, column in zip(table.column_names, table.columns, strict=True):
        found[unnamed.get(name, name)] = _values(column, name, path)
    return found


def _without_structs(table: Any) -> Any:
    """Make a column of each field of a struct, as for mappings in lines of JSON."""
    import pyarrow as pa

    while structs := [f.name for f in table.schema if pa.types.is_struct(f.type)]:
        wrappers = [f"{n}." for n in structs if names.find([n], names.WRAPPERS)]
        table = table.flatten()
        plain = list(table.column_names)
        for prefix in wrappers:
            plain = [name.removeprefix(prefix) for name in plain]
        if len(set(plain)) == len(plain):
            table = table.rename_columns(plain)
    return table


def _claimed(metadata: Any) -> int:
    """Count the bytes that the values of a Parquet file take, according to the file."""
    groups = [metadata.row_group(i) for i in range(metadata.num_row_groups)]
    return sum(
        max(group.column(i).num_values * 4, group.column(i).total_uncompressed_size)
        for group in groups
        for i in range(group.num_columns)
    )


def _refuse_claim(claimed: int, path: Path) -> None:
    size = path.stat().st_size
    if claimed > max(_ANY_CASE, _EXPANSION * size):
        raise ValueError(
            f"it has {size} bytes and claims {claimed}, over {_EXPANSION} times as "
            "many. Store it as triplets, or without compression"
        )


def _values(column: Any, name: str, path: Path) -> Any:
    """Give the values of a column, as an array where they are numbers."""
    import pyarrow as pa

    kinds, kind = pa.types, column.type
    while isinstance(kind, pa.BaseExtensionType):
        kind, column = (
            kind.storage_type,
            pa.chunked_array(
                [chunk.storage for chunk in column.chunks], type=kind.storage_type
            ),
        )
    lengths: list[int] = []
    values = column.combine_chunks()
    if isinstance(values, pa.ChunkedArray):  # of no chunk, in some versions
        values = pa.concat_arrays(values.chunks) if values.num_chunks else values
    while _is_list(kinds, values.type):
        if values.null_count:
            return column.to_pylist()
        n = len(values)
        inner = values.flatten()
        if kinds.is_fixed_size_list(values.type):
            lengths.append(values.type.list_size)
        else:
            sizes = np.diff(values.offsets.to_numpy())
            if n and (sizes != sizes[0]).any():
                if names.find([name], names.OF_TOKENS):
                    return column.to_pylist()  # told of, and not read
                raise ValueError(
                    f"Column {name!r} in {str(path)!r} holds lists of different "
                    f"lengths, of {sizes.min()} to {sizes.max()}. All vectors of a "
                    "layer must have one length; if these are tokens, pool them first."
                )
            lengths.append(int(sizes[0]) if n else 0)
        values = inner
    numeric = kinds.is_integer(values.type) or kinds.is_floating(values.type)
    if not (numeric or kinds.is_boolean(values.type)) or values.null_count:
        return column.to_pylist()
    numbers = values.to_numpy(zero_copy_only=False)
    return numbers.reshape(len(column), *lengths)


def _is_list(kinds: Any, kind: Any) -> bool:
    return bool(
        kinds.is_list(kind)
        or kinds.is_large_list(kind)
        or kinds.is_fixed_size_list(kind)
    )
