"""Write tables as CSV, so that spreadsheet programs run nothing in them."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

# A cell that begins so, white space aside, is a formula to some table program; with the
# wide forms of these characters, to those of East Asia.
_FORMULA = re.compile(r"[\s\x00]*[=+\-@\uff1d\uff0b\uff0d\uff20]|[\t\r\n]|'")
# What ends a cell or a row for some reader, and white space that one may strip.
_TO_QUOTE = re.compile(r"[,;|\t\"\r\n\v\f\x1c-\x1e\x85\u2028\u2029]|^\s|\s$")


def as_csv(columns: Mapping[str, Sequence[Any]]) -> str:
    """Write columns of equal length as CSV text, below their names.

    Numbers are written as they are. Other cells are text. If one begins with an
    apostrophe, or as a formula of a spreadsheet program does (``=``, ``+``, ``-`` or
    ``@``, with white space before it or not, a tab or the end of a line), an apostrophe
    is put before it, so that the program takes it for text. A reader gets the text back
    by removing one apostrophe from the beginning, if there is one.
    """
    rows = [list(columns), *zip(*columns.values(), strict=True)]
    return "".join(f"{','.join(map(_cell, row))}\n" for row in rows)


def _cell(value: Any) -> str:
    if isinstance(value, (np.number, np.bool_)):
        value = value.item()
    if isinstance(value, (int, float)) and not isinstance(value, bool):
        return repr(value)
    text = str(value)
    if _FORMULA.match(text):
        text = f"'{text}"
    if _TO_QUOTE.search(text) or not text:
        text = '"' + text.replace('"', '""') + '"'
    return text
