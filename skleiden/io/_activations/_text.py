"""JSON and CSV."""

from __future__ import annotations

import codecs
import csv
import io
import json
import threading
from collections import Counter
from pathlib import Path
from typing import Any

from ._find import check_regular

# The limit of the length of a field is one of the whole process.
_FIELD_LIMIT = threading.Lock()


def load_json(path: Path) -> Any:
    try:
        return parse_json(read_text(path))
    except ValueError as error:
        raise ValueError(f"{str(path)!r} is not valid JSON: {error}.") from error


def parse_json(text: str) -> Any:
    """Parse JSON that is not too deep and has no name twice in one object."""
    try:
        return json.loads(text, object_pairs_hook=_no_repeats)
    except RecursionError as error:
        raise ValueError("it is nested too deeply") from error


def _no_repeats(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        (repeated, _), *_ = Counter(name for name, _ in pairs).most_common(1)
        raise ValueError(f"{repeated!r} stands there more than once")
    return found


def read_text(path: Path) -> str:
    """Read a file of UTF-8, with or without a mark of its byte order.

    Raises
    ------
    ValueError
        If it is of another encoding; the message does not name the file.
    """
    check_regular(path)
    content = path.read_bytes()
    if content.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        raise ValueError("its text is UTF-16 or UTF-32; save it as UTF-8")
    return content.decode("utf-8-sig")


def load_csv(path: Path) -> dict[str, str]:
    try:
        rows = _rows_of(read_text(path))
    except (ValueError, csv.Error) as error:
        raise ValueError(f"{str(path)!r} is not a CSV file: {error}.") from error
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


def _rows_of(text: str) -> list[list[str]]:
    """Split the text of a CSV file into fields, of any length."""
    if "\0" in text:
        raise ValueError("it holds NUL characters, as binary files and UTF-16 do")
    with _FIELD_LIMIT:
        limit = csv.field_size_limit(max(csv.field_size_limit(), len(text)))
        try:
            # Strict: else a quote that is not closed swallows what follows.
            reader = csv.reader(io.StringIO(text, newline=""), strict=True)
            return [row for row in reader if row]
        finally:
            csv.field_size_limit(limit)
