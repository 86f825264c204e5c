"""Read names of communities from a file."""

from __future__ import annotations

import argparse
import csv
import re
import warnings
from pathlib import Path
from typing import Any

import numpy as np

from skleiden.inspection import members
from skleiden.io._activations._csv_table import _rows_of
from skleiden.io._activations._text import parse_json, read_text

from ._input import naming
from ._options import a_path

# What is meant as a number, so that its line is not one of names of columns.
_NUMERIC = re.compile(r"\s*[+-]?[\d.]+\s*")


def add_names(parser: argparse.ArgumentParser) -> None:
    """Add the file of names."""
    parser.add_argument(
        "--names",
        type=a_path,
        metavar="FILE",
        help="your names of communities, by their numbers in an earlier run: JSON, "
        'such as {"0": "Law"}, or CSV with a number and a name in each line',
    )


def load_names(path: Path | None) -> dict[int, str]:
    """Load names by number, before the work rather than after it."""
    if path is None:
        return {}
    try:
        with naming(path):
            text = read_text(path)
        in_json = path.suffix.lower() == ".json"
        return _checked(_in_json(text) if in_json else _in_csv(text, path))
    except (ValueError, csv.Error) as error:
        raise ValueError(
            f"{str(path)!r} must hold names of communities by their numbers: "
            f'{{"0": "astronomy"}} as JSON, or lines such as 0,astronomy as CSV; '
            f"{error}. Correct the file."
        ) from error


def of_communities(names: dict[int, str], labels: np.ndarray) -> dict[int, str]:
    """Leave out names for communities that do not exist, and say so."""
    listed = members(labels, min_size=1)
    missing = sorted(set(names) - set(listed))
    if missing:
        shown = ", ".join(map(str, missing[:5])) + ", ..." * (len(missing) > 5)
        warnings.warn(
            f"--names has names for communities that do not exist: {shown}, of "
            f"{len(listed)}. They are left out.",
            UserWarning,
            stacklevel=2,
        )
    return {label: name for label, name in names.items() if label in listed}


def _in_json(text: str) -> list[tuple[str, Any]]:
    found = parse_json(text)
    if not isinstance(found, dict):
        raise ValueError(f"got {type(found).__name__}")  # noqa: TRY004
    return [*found.items()]


def _in_csv(text: str, path: Path) -> list[tuple[str, Any]]:
    lines = _rows_of(text, path)
    if lines and not _NUMERIC.fullmatch(lines[0][0]):
        del lines[0]  # names of columns
    other = next((line for line in lines if len(line) != 2), None)
    if other is not None:
        raise ValueError(f"got a line of {len(other)} cells, {other!r}")
    return [(label, name) for label, name in lines]


def _checked(given: list[tuple[str, Any]]) -> dict[int, str]:
    """Give names by number; two ways to write one number count as the same."""
    found: dict[int, str] = {}
    for label, name in given:
        number = _number(label)
        if number in found:
            raise ValueError(f"got {number} twice")
        found[number] = _name(name)
    return found


def _number(label: str) -> int:
    if not label.strip().isdecimal():
        raise ValueError(f"got {label!r} as a number")
    return int(label)


def _name(name: Any) -> str:
    if not isinstance(name, str):
        raise ValueError(f"got {name!r} as a name")  # noqa: TRY004 - told with others
    return name
