"""Load partitions from tables of labels, from communities and from runs' folders."""

from __future__ import annotations

import csv
import operator
import os
import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from skleiden._text import is_missing
from skleiden.inspection import Communities

from ._activations._arrow import read_table
from ._activations._csv_table import _rows_of
from ._activations._find import check_regular
from ._activations._text import read_text
from ._communities import load_communities

_DIGITS = re.compile("-?[0-9]+")

# What a folder of a run holds its partition in, the one that tells most first.
_IN_FOLDERS = ("communities.json", "labels.csv", "labels.parquet")


def load_labels(path: str | os.PathLike[str]) -> Communities:
    """Load the table that `save_labels` saved.

    Parameters
    ----------
    path : path-like
        A file whose name ends in ``.csv``, or in ``.parquet``, which needs pyarrow. It
        must have the columns ``id`` and ``community``; other columns are read if they
        are among those that `save_labels` writes.

    Returns
    -------
    communities : Communities
        Labels, ids and, if the table has them, texts, names, confidence, attached,
        strength and second communities. Ids from CSV are strings, whatever they were.

    Raises
    ------
    ValueError
        If the name ends in something else; if the file is not such a table; if a value
        is out of its range. The message names the file.

    ImportError
        If pyarrow, which Parquet needs, is not installed.

    OSError
        If the file cannot be read.

    See Also
    --------
    load_communities : Load all that is known of communities.

    Examples
    --------
    >>> import tempfile, pathlib
    >>> from skleiden.inspection import Communities
    >>> from skleiden.io import load_labels, save_labels
    >>> path = pathlib.Path(tempfile.mkdtemp()) / "labels.csv"
    >>> save_labels(path, Communities([0, 0, -1], ids=["q1", "q2", "q3"]))
    >>> found = load_labels(path)
    >>> found.labels, found.ids
    (array([ 0,  0, -1]), array(['q1', 'q2', 'q3'], dtype='<U2'))
    """
    path = Path(path)
    check_regular(path)
    suffix = path.suffix.lower()
    if suffix not in (".csv", ".parquet"):
        raise ValueError(f"path must end in .csv or .parquet; got {str(path)!r}.")
    if suffix == ".parquet":
        columns = {name: [*of] for name, of in read_table(path).items()}
    else:
        columns = _columns_of_csv(path)
    missing = [name for name in ("id", "community") if name not in columns]
    if missing:
        raise ValueError(
            f"{str(path)!r} has no column {missing[0]!r}; it has "
            f"{', '.join(columns) or 'none'}. Give what save_labels saved."
        )
    try:
        return communities_of(columns)
    except (ValueError, TypeError, OverflowError) as error:
        raise ValueError(
            f"{str(path)!r} is broken: {str(error).rstrip('.')}. Save the labels "
            "again, with all their rows."
        ) from error


def load_partition(path: str | os.PathLike[str]) -> Communities:
    """Load a partition from a file, or from the files in the folder of a run.

    Raises
    ------
    ValueError
        As in `load_communities` and `load_labels`.

    OSError
        If it cannot be read; FileNotFoundError if a folder has no such file.
    """
    path = Path(path)
    if path.is_dir():
        within = [path / name for name in _IN_FOLDERS]
        known = next((one for one in within if one.exists()), None)
        if known is None:
            raise FileNotFoundError(
                f"The folder {str(path)!r} has no {_IN_FOLDERS[0]} and no "
                f"{_IN_FOLDERS[1]}. Give the --out of skleiden cluster, or a file."
            )
        path = known
    if path.suffix.lower() in (".csv", ".parquet"):
        return load_labels(path)
    return load_communities(path)


def _columns_of_csv(path: Path) -> dict[str, list[str]]:
    """Read the columns of a table, with texts as they were before they were saved."""
    try:
        head, *rows = _rows_of(read_text(path), path, with_nul=True) or [[]]
    except (ValueError, csv.Error) as error:
        raise ValueError(
            f"{str(path)!r} is not a CSV file: {error}. Save the labels again."
        ) from error
    repeated = next((name for name in head if head.count(name) > 1), None)
    if repeated is not None:
        raise ValueError(
            f"{str(path)!r} has the column {repeated!r} more than once. Give what "
            "save_labels saved."
        )
    other = next((row for row in rows if len(row) != len(head)), None)
    if other is not None:
        raise ValueError(
            f"{str(path)!r} must have {len(head)} cells in each line, as in the first; "
            f"got {other}. Save the labels again."
        )
    return {
        name: [row[i].removeprefix("'") for row in rows] for i, name in enumerate(head)
    }


def communities_of(columns: dict[str, list[Any]]) -> Communities:
    """Make communities of the columns of a table, refused if a value is no such."""
    labels = _read(columns, "community", _whole)
    if not labels:
        raise ValueError("it must hold rows; got none")
    largest = max(labels)
    known: dict[str, Any] = {
        name: _read(columns, name, kind)
        for name, kind in _OF_ROWS.items()
        if name in columns
    }
    other = next((c for c in known.get("second", ()) if not -1 <= c <= largest), None)
    if other is not None:
        raise ValueError(
            f"second must be -1 or a community of the rows, at most {largest}; got "
            f"{other}"
        )
    return Communities(
        np.array(labels, dtype=np.int64),
        _plain(columns["id"]),
        texts=columns.get("text"),
        names=_names_of(labels, columns.get("name", ())),
        **known,
    )


def _names_of(labels: Sequence[int], names: Sequence[Any]) -> dict[int, str]:
    """Give the name of each community; refuse it if its rows have two."""
    found: dict[int, str] = {}
    for c, name in zip(labels, names, strict=False):
        if c >= 0 and not is_missing(name) and name != "":
            known = found.setdefault(c, str(name))
            if known != str(name):
                raise ValueError(
                    f"name must be the same in all rows of a community; got {known!r} "
                    f"and {str(name)!r} for community {c}"
                )
    return found


def _share(value: Any) -> float:
    """Read a share; nan, which Parquet has as null, if there is none."""
    share = float("nan" if value is None else value)
    if share < 0 or share > 1:
        raise ValueError
    return share


def _flag(value: Any) -> bool:
    return {"True": True, "False": False}[str(value)]


def _whole(value: Any) -> int:
    # int would drop the fraction of a float, and take more than digits of a text.
    if not isinstance(value, str):
        return operator.index(value)
    if not _DIGITS.fullmatch(value):
        raise ValueError
    return int(value)


# What else the table may tell of each row.
_OF_ROWS: dict[str, Callable[[Any], Any]] = {
    "confidence": _share,
    "attached": _flag,
    "strength": _share,
    "second": _whole,
}


def _read(
    columns: dict[str, list[Any]], name: str, kind: Callable[[Any], Any]
) -> list[Any]:
    """Read the values of a column, naming the one that is of another kind."""
    found = []
    for value in columns[name]:
        try:
            found.append(kind(value))
        except (ValueError, TypeError, KeyError) as error:
            raise ValueError(
                f"{name} must be {_WANTED[kind]} in each row; got {value!r} for the id "
                f"{columns['id'][len(found)]!r}"
            ) from error
    return found


_WANTED: dict[Callable[[Any], Any], str] = {
    _whole: "an integer",
    _share: "a number from 0 to 1",
    _flag: "True or False",
}


def _plain(ids: Sequence[Any]) -> list[Any]:
    return [one.item() if isinstance(one, np.generic) else one for one in ids]
