"""Read tables with a column for each neuron, with names that differ by number."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from . import _names as known
from ._layer import tell

_NUMBERED = re.compile(r"(.*?)([0-9]{1,9})")
_DECIMAL_COMMA = re.compile(r"\s*-?[0-9]+,[0-9]+\s*")


def numbered_columns(names: list[str]) -> list[str]:
    """Name the columns whose names differ by their numbers, in order.

    The result is empty if there are several kinds of such names, which may be layers,
    or if they do not count from 0 or 1: these may be selected neurons, whose numbers
    would be lost.
    """
    sorts: dict[str, dict[int, str]] = {}
    for name in names:
        if (match := _NUMBERED.fullmatch(name)) is not None:
            sorts.setdefault(match[1], {})[int(match[2])] = name
    several = [numbered for numbered in sorts.values() if len(numbered) > 1]
    if len(several) != 1 or known.are_layers(several[0].values()):
        return []
    numbers = [str(number) for number in sorted(several[0])]
    return [several[0][int(n)] for n in numbers] if counts(numbers) else []


def matrix_of_columns(columns: Mapping[str, Any], path: Path) -> np.ndarray:
    """Make a matrix from columns of numbers, or of numbers as text."""
    found = []
    for name, values in columns.items():
        try:
            found.append(_numbers(values))
        except (TypeError, ValueError) as error:
            first, *_, last = columns
            raise ValueError(
                f"Column {name!r} in {str(path)!r} must hold a number in each row, as "
                f"the columns {first!r} to {last!r} are taken for neurons: {error}. "
                "Give columns of other things names without a number."
            ) from error
    return np.stack(found, axis=1)


def _numbers(values: Any) -> np.ndarray:
    if isinstance(values, np.ndarray):
        return values
    for value in values:
        if value is None or (isinstance(value, str) and not value.strip()):
            raise ValueError("a cell is empty")
        if isinstance(value, str) and _DECIMAL_COMMA.fullmatch(value):
            raise ValueError(
                f"{value!r} has a decimal comma, and only decimal points are read"
            )
    return np.array([float(value) for value in values])


def table_of_cells(rows: list[list[str]], path: Path) -> dict[str, list[str]] | None:
    """Give the columns of a CSV file by name; None if it is not a table of numbers.

    A file without names has numbers in all cells. pandas writes the numbers from 0 on
    as names, and a column without a name for the index, which does not hold ids if it
    counts the rows.
    """
    head = [cell.strip() for cell in rows[0]]
    if len(head) < 2 or any(len(row) != len(head) for row in rows):
        return None
    counted = [str(i) for i in range(len(head))]
    if head in (counted, ["", *counted[:-1]]):
        if head[0]:
            tell(
                f"The first line of {str(path)!r} counts from 0, and is taken for the "
                "names of columns. If it holds values, put names above it."
            )
    elif all(map(_is_number, head)):
        _refuse_counts(rows, path)
        head, rows = counted, [[], *rows]
    if len(set(head)) < len(head):
        return None
    table = {name: [row[i] for row in rows[1:]] for i, name in enumerate(head)}
    if (index := table.pop("", None)) is not None and not counts(index):
        table = {"index": index, **table}
    return table


def _refuse_counts(rows: list[list[str]], path: Path) -> None:
    """Ask about a first column that counts the rows, if no column has a name."""
    first, second = ([row[i] for row in rows] for i in (0, 1))
    if len(rows) > 1 and counts(first) and not counts(second):
        raise ValueError(
            f"Does the first column of {str(path)!r} number the rows? Its cells count "
            f"from {first[0]}, and no column has a name. Put a line of names above "
            "them: 'id' for the ids, and n0, n1, ... for neurons."
        )


def counts(cells: list[str]) -> bool:
    """Tell whether cells count from 0 or 1."""
    return any(cells == [str(i + j) for i in range(len(cells))] for j in (0, 1))


def _is_number(cell: str) -> bool:
    try:
        float(cell)
    except ValueError:
        return False
    return True
