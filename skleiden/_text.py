"""Text that files can hold: without lone halves of surrogate pairs."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any


def is_missing(value: Any) -> bool:
    """Whether a value stands for no text: None, NaN, or NA of pandas."""
    if value is None:
        return True
    try:
        return bool(value != value)
    except (TypeError, ValueError):  # NA is neither equal to itself nor not
        return type(value).__name__ == "NAType"


def as_text(value: Any) -> str:
    """Give a text as files can hold it; that of a missing one is empty."""
    text: str = "" if is_missing(value) else encodable(str(value))
    return text


def encodable(value: Any) -> Any:
    """Give text as UTF-8 can hold it, with U+FFFD for each lone half of a pair.

    Python has such halves in the names of files that are not UTF-8, and JSON in
    escapes. Text inside of dicts, lists and tuples is treated alike; all else stays as
    it is.
    """
    if isinstance(value, str):
        if _is_encodable(value):
            return value
        return value.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")
    if type(value) is dict:
        return {encodable(key): encodable(item) for key, item in value.items()}
    if type(value) in (list, tuple):
        return type(value)(encodable(item) for item in value)
    return value


def refuse_unencodable(names: Iterable[Any], what: str) -> None:
    """Refuse names that no file can hold; replaced, two of them might be equal.

    Parameters
    ----------
    names : iterable
        Those that are strings are looked at.

    what : str
        What they name, for the message.

    Raises
    ------
    ValueError
        If one has half of a surrogate pair.
    """
    for name in names:
        if isinstance(name, str) and not _is_encodable(name):
            raise ValueError(
                f"{what} must be text that UTF-8 can hold; got {name!r}, with half of "
                "a surrogate pair, as in a file or its name that is not UTF-8. Rename "
                "it."
            )


def _is_encodable(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True
