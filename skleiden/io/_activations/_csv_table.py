"""Read CSV files, finding their separators and whether they name their columns."""

from __future__ import annotations

import csv
import io
import re
import threading
from pathlib import Path

from . import _names as names
from ._find import OF_TABLES
from ._layer import tell
from ._table import Table
from ._text import read_text
from ._triplets import find_triplets
from ._wide import counts, numbered_columns, table_of_cells

_SEPARATORS = ",;\t"
# The limit of the length of a field is one of the whole process.
_FIELD_LIMIT = threading.Lock()
_OF_EXCEL = re.compile(r'"?sep=([,;\t|])"?(?:\r\n|\r|\n)', re.IGNORECASE)
_LONGEST_NAME = 40  # letters of the name of a column


def load_csv(path: Path) -> Table:
    """Read a CSV file as columns, named by its first line if that holds names.

    Without names, the first two columns are ids and texts.
    """
    try:
        rows = _rows_of(read_text(path), path)
    except (ValueError, csv.Error) as error:
        raise ValueError(
            f"{str(path)!r} is not a CSV file: {error}. Save it as CSV, in UTF-8."
        ) from error
    if not rows:
        return {"id": [], "text": []}
    rows = _with_named_index(rows)
    head = [cell.strip() for cell in rows[0]]
    header = _header(head)
    if header is None:
        header = ["id", "text"]
        short = next((row for row in rows if len(row) < 2), None)
        if short is not None:
            raise ValueError(
                f"{str(path)!r} must have an id and a text in each line; got {short}. "
                "If it holds texts alone, call their column 'text' in the first line."
            )
        if _looks_like_names(rows):
            tell(
                f"The first line of {str(path)!r}, {rows[0]}, looks like names of "
                "columns, but is taken for an id and a text. If it names columns, call "
                "them 'id' and 'text'."
            )
    else:
        rows = rows[1:]
    for row in rows:
        if any(row[len(header) :]):
            raise ValueError(
                f"{str(path)!r} has more than {len(header)} cells in the line {row}. "
                "Write texts that hold separators in quotation marks."
            )
        if len(row) < len(header):
            raise ValueError(
                f"{str(path)!r} must have an id and a text in each line; got {row}."
                if len(header) == 2
                else f"{str(path)!r} must have {len(header)} cells in each line, as in "
                f"the first; got {row}."
            )
    return {name: [row[i] for row in rows] for i, name in enumerate(header)}


def load_csv_of_numbers(path: Path) -> Table | None:
    """Read a CSV file as a table of numbers; None if it is not one."""
    try:
        rows = _rows_of(read_text(path), path)
    except (ValueError, csv.Error) as error:
        raise ValueError(
            f"{str(path)!r} is not a CSV file: {error}. Save it as CSV, in UTF-8."
        ) from error
    table = table_of_cells(rows, path) if rows else None
    if table is None:
        return None
    is_of_numbers = find_triplets(table) or numbered_columns(list(table))
    return table if is_of_numbers else None


def lines_of_texts(path: Path) -> list[str] | None:
    """Read a text file with a text on each line; None if it has cells, like CSV.

    It has cells if the first line names columns, or if each line has one tab.
    """
    try:
        lines = read_text(path).replace("\r\n", "\n").replace("\r", "\n").split("\n")
    except ValueError as error:
        raise ValueError(f"{str(path)!r} is not a text file: {error}.") from error
    while lines and not lines[-1].strip():
        lines.pop()
    cells = [cell.strip(' "') for cell in re.split("[,;\t]", lines[0])] if lines else []
    if len(lines) > 1 and names.are_texts(lines[0]):
        tell(
            f"The first line of {str(path)!r}, {lines[0]!r}, is taken for a text, not "
            "for the name of a column. Remove it if it is a name."
        )
    has_names = names.find(cells, names.IDS) and names.find(cells, names.TEXTS)
    if has_names or (lines and all(line.count("\t") == 1 for line in lines)):
        return None
    return lines


def load_csv_of_ids(path: Path) -> Table:
    """Read a CSV file of ids: a column of that name, or the only one."""
    try:
        rows = _rows_of(read_text(path), path)
    except (ValueError, csv.Error) as error:
        raise ValueError(
            f"{str(path)!r} is not a CSV file: {error}. Save it as CSV, in UTF-8."
        ) from error
    if rows and names.find(rows[0], names.IDS) is None:
        if all(len(row) == 1 for row in rows):
            return {"id": [row[0] for row in rows]}
        rows.insert(0, [f"column {i}" for i in range(len(rows[0]))])
    head = rows[0] if rows else ["id"]
    return {
        name: [row[i] for row in rows[1:] if row[i:]] for i, name in enumerate(head)
    }


def _with_named_index(rows: list[list[str]]) -> list[list[str]]:
    """Name the index, which pandas leaves unnamed, or drop it if it counts rows."""
    head = [cell.strip() for cell in rows[0]]
    known = names.find(head, names.IDS) or names.find(head, names.TEXTS)
    if head[0] or not known:
        return rows
    if counts([row[0] for row in rows[1:]]):
        return [row[1:] for row in rows]
    return [["index", *rows[0][1:]], *rows[1:]]


def _header(head: list[str]) -> list[str] | None:
    """Give the names of the columns, if the first line has them."""
    ids, texts = names.find(head, names.IDS), names.find(head, names.TEXTS)
    numbers = names.find(head, names.COLUMNS) and names.find(head, names.VALUES)
    if len(set(head)) < len(head) or not all(len(n) <= _LONGEST_NAME for n in head):
        return None
    if texts is None and ids is not None and not numbers and len(head) == 2:
        other = head[1 - head.index(ids)]
        # It is the texts' whatever its name.
        return ["text" if name == other else name for name in head]
    if texts is not None and ids is None and len(head) == 2:
        # As a line of an id and a text might have it.
        place = head.index(texts)
        return None if place == 1 and not head[0].isalpha() else head
    return head if ids or texts or numbers else None


def _looks_like_names(rows: list[list[str]]) -> bool:
    """Tell whether the first line differs from the others as names of columns do."""
    head, others = rows[0], rows[1:]
    if not others or not all(cell.strip().replace("_", "").isalpha() for cell in head):
        return False

    def has_digit(row: list[str]) -> bool:
        return any(letter.isdigit() for letter in row[0])

    return all(map(has_digit, others)) or all(" " in row[1].strip() for row in others)


def _rows_of(text: str, path: Path, *, with_nul: bool = False) -> list[list[str]]:
    """Split the text of a CSV file into fields, of any length."""
    if "\0" in text and not with_nul:
        raise ValueError("it holds NUL characters, as binary files and UTF-16 do")
    separator = _separator(text, path)
    # A line for Excel, which is not of the table.
    if (told := _OF_EXCEL.match(text)) is not None:
        separator, text = told[1], text[told.end() :]
    with _FIELD_LIMIT:
        limit = csv.field_size_limit(max(csv.field_size_limit(), len(text)))
        try:
            # Strict: else a quote that is not closed swallows what follows.
            reader = csv.reader(
                io.StringIO(text, newline=""),
                strict=True,
                delimiter=separator,
            )
            return [row for row in reader if row]
        finally:
            csv.field_size_limit(limit)


def _separator(text: str, path: Path) -> str:
    """Give the first separator in the first line, outside of quotes.

    An id or the name of a column, which comes first, holds no separator.
    """
    if path.suffix.lower() in OF_TABLES[1:]:
        return "\t"
    quoted = False
    for sign in text.lstrip("\r\n"):
        if sign == '"':
            quoted = not quoted
        elif not quoted and sign in _SEPARATORS:
            return sign
        elif not quoted and sign in "\r\n":
            break
    return ","
