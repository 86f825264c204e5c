"""Save labels as a table, with one row for each sample."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from skleiden.inspection import Communities

from ._csv import as_csv
from ._files import check_place, write_whole
from ._partitions import communities_of


def save_labels(path: str | os.PathLike[str], communities: Communities) -> None:
    """Save the community of each row as CSV or Parquet.

    Parameters
    ----------
    path : path-like
        The file, written whole or not at all: ``.csv``, or ``.parquet``, which needs
        pandas and pyarrow.

    communities : Communities
        The result of :func:`skleiden.inspection.describe_communities`, or
        ``Communities(labels, ids)``.

    Raises
    ------
    ValueError
        If the name ends in something else; if a value is out of its range, so that
        `load_labels` would refuse it; for Parquet, if ids are not all strings, all
        integers of 64 bits, all floats or all booleans.

    ImportError
        If Parquet is asked for, but pandas or pyarrow is not installed.

    OSError
        If the file cannot be written, as in `save_communities`.

    Notes
    -----
    The columns are ``id``, ``community`` (-1 is noise) and, if known, ``name`` (of the
    community), ``confidence``, ``attached`` (whether the row came from a small
    community), ``strength``, ``second`` (the other community of a row that lies between
    two, else -1) and ``text``.

    Spreadsheet programs open CSV files, and run cells that begin as a formula does
    (``=``, ``+``, ``-`` or ``@``, white space aside, a tab or the end of a line). An
    apostrophe is therefore put before ids, names and texts that begin so, or with an
    apostrophe. This reads ids back as the strings that they were::

        table = pandas.read_csv(path, dtype={"id": str}, keep_default_na=False)
        table["id"] = table["id"].str.removeprefix("'")

    or, without pandas, by::

        csv.field_size_limit(2**31 - 1)  # for ids of more than 131,072 characters
        with open(path, newline="", encoding="utf-8") as file:
            ids = [row["id"].removeprefix("'") for row in csv.DictReader(file)]

    CSV does not tell 1 from "1", and holds ids of other types as their ``str``;
    `save_communities` and Parquet keep types, and change no text.

    Examples
    --------
    >>> import tempfile, pathlib
    >>> from skleiden.inspection import Communities
    >>> from skleiden.io import save_labels
    >>> path = pathlib.Path(tempfile.mkdtemp()) / "labels.csv"
    >>> save_labels(path, Communities([0, 0, -1], ids=["q1", "q2", "q3"]))
    >>> print(path.read_text(), end="")
    id,community
    q1,0
    q2,0
    q3,-1
    """
    suffix = Path(path).suffix.lower()
    ids = communities.ids
    if ids.dtype.kind in "mM":  # of which tolist may make integers
        ids = ids.astype(str)
    columns = {"id": ids.tolist(), "community": communities.labels.tolist()}
    if communities.names:
        names = communities.names
        columns["name"] = [names.get(c, "") for c in columns["community"]]
    for name in ("confidence", "attached", "strength", "second"):
        if (values := getattr(communities, name)) is not None:
            columns[name] = values.tolist()
    if communities.texts is not None:
        columns["text"] = list(communities.texts)
    if suffix in (".csv", ".parquet"):
        _check_loadable(path, columns)
    if suffix == ".csv":
        write_whole(path, as_csv(columns))
    elif suffix == ".parquet":
        check_place(path)
        _check_parquet_ids(path, columns["id"])
        try:
            import pandas as pd

            content = pd.DataFrame(columns).to_parquet(index=False)
        except ImportError as error:
            raise ImportError(
                "Parquet needs pandas and pyarrow: pip install pandas pyarrow. A .csv "
                "needs neither."
            ) from error
        write_whole(path, content)
    else:
        raise ValueError(f"path must end in .csv or .parquet; got {str(path)!r}.")


def _check_loadable(
    path: str | os.PathLike[str], columns: dict[str, list[Any]]
) -> None:
    """Refuse values that `load_labels` would refuse."""
    try:
        communities_of(columns)
    except ValueError as error:
        raise ValueError(
            f"{str(path)!r} is not written, as it could not be loaded again: {error}. "
            "Correct it before saving."
        ) from error


def _check_parquet_ids(path: str | os.PathLike[str], ids: list[Any]) -> None:
    """Refuse ids that one column of Parquet cannot hold as they are."""
    kinds = {type(identifier) for identifier in ids}
    fits = len(kinds) == 1 and kinds <= {str, int, float, bool}
    if fits and kinds == {int}:
        low, high = min(ids), max(ids)
        fits = low >= -(2**63) and high < (2**63 if low < 0 else 2**64)
    if not fits:
        names = ", ".join(sorted(kind.__name__ for kind in kinds))
        raise ValueError(
            f"{str(path)!r} cannot hold these ids: a column of Parquet has a single "
            f"type: text, integers of 64 bits, floats or booleans; got {names}. Turn "
            "them into strings, or save as .csv."
        )
