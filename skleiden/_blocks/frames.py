"""Data frames among layers: what their columns and rows are called."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape
from typing import Any

import numpy as np
from sklearn.utils.validation import _get_feature_names


def column_names(matrix: Any) -> np.ndarray | None:
    """Give the names of a data frame's columns, as scikit-learn does.

    None if it is not a data frame, or its columns are not named by strings.

    Raises
    ------
    TypeError
        If some of the names are strings and others are not.
    """
    names: np.ndarray | None = _get_feature_names(matrix)
    return names


def common_index(frames: Mapping[str, Any]) -> Any:
    """Give what the rows of data frames of pandas are called; None if nothing.

    A `RangeIndex`, which frames have where none was set, names no rows.

    Raises
    ------
    ValueError
        If frames do not have the same index: their rows would not be the same.
    """
    # Only pandas has both; an index alone is a method of lists.
    indexes = {
        name: frame.index for name, frame in frames.items() if hasattr(frame, "iloc")
    }
    for name, index in indexes.items():
        first = next(iter(indexes))
        if not index.equals(indexes[first]):
            raise ValueError(
                f"Data frames must have the same index; got, in layer {first!r}, "
                f"{_shown(indexes[first])}, and in layer {name!r}, {_shown(index)}. "
                "Bring them to one order with frame.loc[ids], or drop the indexes with "
                "frame.reset_index(drop=True) if the rows are the same."
            )
    index = next(iter(indexes.values()), None)
    return None if type(index).__name__ == "RangeIndex" else index


def refuse_other_order(values: Any, name: str, ids: Any) -> None:
    """Refuse a Series whose index has the ids of rows, but in another order.

    By place, its values would silently be those of other rows. An index that has
    nothing in common with the ids says nothing of them.

    Parameters
    ----------
    values : Any
        What is given for the rows; looked at if it is of pandas.

    name : str
        What it is called, for the message.

    ids : ndarray, index of pandas, or None
        Ids of the rows, if they are known.

    Raises
    ------
    ValueError
        If the index and the ids are not equal, and have some in common.
    """
    index = common_index({name: values})
    if index is None or ids is None:
        return
    own, rows = index.tolist(), ids.tolist()
    if own != rows and not {*own}.isdisjoint(rows):
        raise ValueError(
            f"{name} must be in the order of the rows; got an index of "
            f"{_shown(index)}, for rows with the ids {_listed(rows)}. Bring them to it "
            f"by {name}.loc[ids], or drop the index by {name}.to_numpy()."
        )


def _shown(index: Any) -> str:
    return f"{len(index)} rows, {_listed(index[:4].tolist())}"


def _listed(labels: Sequence[Any]) -> str:
    return ", ".join(map(repr, labels[:3])) + ", ..." * (len(labels) > 3)


def feature_names(
    layers: Sequence[str],
    widths: Sequence[int],
    columns: Sequence[np.ndarray | None],
) -> np.ndarray:
    """Name the columns of all layers: the layer, two underscores, and the column.

    Columns without a name are called x0, x1, ..., as scikit-learn does.
    """
    return np.array(
        [
            f"{layer}__{column}"
            for layer, width, named in zip(layers, widths, columns, strict=True)
            for column in ([f"x{i}" for i in range(width)] if named is None else named)
        ],
        dtype=object,
    )


def header(names: np.ndarray) -> Any:
    """Give a data frame of no rows, by which scikit-learn checks names of columns."""
    try:
        import pandas as pd
    except ImportError as error:
        raise ImportError(
            "The column names of data frames are checked with pandas: pip install "
            "pandas. Or give layers without names, such as frame.to_numpy()."
        ) from error
    return pd.DataFrame(np.empty((0, names.size)), columns=names)


def frame_of(table: Mapping[str, np.ndarray]) -> Any:
    """Give the attribute `table` of a profile as a pandas DataFrame."""
    try:
        import pandas as pd
    except ImportError as error:
        raise ImportError(
            "to_frame needs pandas: pip install pandas. The attribute table holds the "
            "same as arrays."
        ) from error
    return pd.DataFrame(table)


# Rows of a table that a notebook shows.
_MOST_ROWS = 30


def as_html(result: Any, *tables: Mapping[str, np.ndarray]) -> str:
    """Give what a result says of itself, and tables of it, as HTML.

    What they hold is never run.
    """
    return f"<p>{escape(repr(result))}</p>{''.join(map(_table_as_html, tables))}"


def _table_as_html(table: Mapping[str, np.ndarray]) -> str:
    """Give the first rows of a table."""
    columns = [[_cell(value) for value in of[:_MOST_ROWS]] for of in table.values()]
    head = "".join(f"<th>{escape(name)}</th>" for name in table)
    rows = [
        "<tr>" + "".join(f"<td>{cell}</td>" for cell in row) + "</tr>"
        for row in zip(*columns, strict=True)
    ]
    more = len(next(iter(table.values()), ())) - len(rows)
    left_out = f"<p>and {more} more</p>" if more > 0 else ""
    body = "".join(rows)
    return (
        f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>{left_out}"
    )


def _cell(value: Any) -> str:
    return escape(f"{value:.3g}" if isinstance(value, float) else str(value))
