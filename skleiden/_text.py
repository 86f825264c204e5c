"""Text that files can hold: without lone halves of surrogate pairs."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Set
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np


def is_missing(value: Any) -> bool:
    """Whether a value stands for no text: None, NaN, or NA of pandas."""
    if value is None:
        return True
    try:
        return bool(value != value)
    except (TypeError, ValueError):  # NA is neither equal to itself nor not
        return type(value).__name__ == "NAType"


def is_listing(texts: Any) -> bool:
    """Whether something lists texts, one for each row, in their order.

    A text lists its letters, a set has no order, and mappings and data frames list
    their keys.
    """
    others = (str, bytes, bytearray, Mapping, Set)
    is_flat = getattr(texts, "ndim", 1) == 1
    return isinstance(texts, Iterable) and not isinstance(texts, others) and is_flat


def as_text(value: Any) -> str:
    """Give a text as files can hold it; that of a missing one is empty."""
    text: str = "" if is_missing(value) else encodable(str(value))
    return text


def texts_of(
    texts: Mapping[Any, str] | Iterable[str] | None, ids: np.ndarray
) -> list[str] | None:
    """Give the texts of rows of given ids; refused if one is missing."""
    if texts is None:
        return None
    if isinstance(texts, Mapping):
        found, missing = [], []
        for name in ids.tolist():
            known = name if name in texts else str(name)
            if known in texts:
                found.append(as_text(texts[known]))
            else:
                missing.append(name)
        if missing:
            raise ValueError(
                f"texts has no text for {len(missing)} of {ids.size} ids, such as "
                f"{missing[0]!r}; it has {len(texts)} for ids such as "
                f"{next(iter(texts), None)!r}. Give one for each id, be it empty."
            )
        return found
    if not is_listing(texts):
        raise TypeError(
            "texts must be a sequence of strings, one for each row, or a mapping of "
            f"{{id: text}}; got {texts!r}."
        )
    return [as_text(text) for text in texts]


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
