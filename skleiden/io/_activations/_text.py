"""JSON and CSV."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any


def load_json(path: Path) -> Any:
    try:
        return json.loads(
            path.read_text(encoding="utf-8"), object_pairs_hook=_no_repeats
        )
    except ValueError as error:
        raise ValueError(f"{str(path)!r} is no valid JSON: {error}.") from error


def _no_repeats(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        names = [name for name, _ in pairs]
        repeated = next(name for name in names if names.count(name) > 1)
        raise ValueError(f"{repeated!r} stands there more than once")
    return found


def load_csv(path: Path) -> dict[str, str]:
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            rows = [row for row in csv.reader(file) if row]
    except (UnicodeDecodeError, csv.Error) as error:
        raise ValueError(f"{str(path)!r} is no CSV file: {error}.") from error
    places = (0, 1)
    if rows and {"id", "text"} <= set(rows[0]):
        places = (rows[0].index("id"), rows[0].index("text"))
        rows = rows[1:]
    texts: dict[str, str] = {}
    for row in rows:
        if len(row) <= max(places):
            raise ValueError(
                f"{str(path)!r} must have an id and a text in each line; got {row}."
            )
        i, text = (row[place] for place in places)
        if i in texts:
            raise ValueError(f"{str(path)!r} has the id {i!r} more than once.")
        texts[i] = text
    return texts
