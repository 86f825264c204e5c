"""Read JSON, and lines of JSON."""

from __future__ import annotations

import codecs
import json
from collections import Counter
from pathlib import Path
from typing import Any

from ._find import OF_LINES, check_regular


def load_json(path: Path) -> Any:
    """Load a JSON text, or a list of the JSON texts on the lines of a file."""
    try:
        text = read_text(path)
        if path.suffix.lower() in OF_LINES:
            return _parse_lines(text)
        try:
            return parse_json(text)
        except json.JSONDecodeError as error:
            # A second text follows the first, on a line of its own.
            if error.msg != "Extra data" or "\n" not in text[: error.pos]:
                raise
            if text[: error.pos].strip().count("\n"):
                raise
            return _parse_lines(text)
    except ValueError as error:
        raise ValueError(f"{str(path)!r} is not valid JSON: {error}.") from error


def _parse_lines(text: str) -> list[Any]:
    found = []
    # Texts of JSON may hold other ends of lines, such as U+2028.
    for number, line in enumerate(text.replace("\r\n", "\n").split("\n"), 1):
        if line.strip():
            try:
                found.append(parse_json(line))
            except ValueError as error:
                raise ValueError(f"line {number}: {error}") from error
    return found


def parse_json(text: str) -> Any:
    """Parse JSON; refuse deep nesting, and objects with a name twice."""
    try:
        return json.loads(text, object_pairs_hook=_no_repeats)
    except RecursionError as error:
        raise ValueError("it is nested too deeply") from error


def _no_repeats(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        (repeated, _), *_ = Counter(name for name, _ in pairs).most_common(1)
        raise ValueError(f"{repeated!r} is there more than once in one object")
    return found


def read_text(path: Path) -> str:
    """Read a UTF-8 file, with or without a byte-order mark.

    Raises
    ------
    ValueError
        If it has another encoding; the message does not name the file.
    """
    check_regular(path)
    content = path.read_bytes()
    if content.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        raise ValueError("its text is UTF-16 or UTF-32; save it as UTF-8")
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise ValueError(f"{error}; save it as UTF-8") from error
