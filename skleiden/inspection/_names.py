"""Names of communities: from their user, from a function, or from their keywords."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, TypeAlias

import numpy as np

from skleiden._text import encodable

# Gives a name for the most central texts of a community, and its keywords.
Namer: TypeAlias = Callable[[list[str], list[str]], str]

# Keywords that make a name, and what a community without any is called.
_N_WORDS, NO_WORDS = 3, "no words in common"


def name_communities(
    texts: Mapping[int, Sequence[str]],
    keywords: Mapping[int, Sequence[str]],
    given: Mapping[int, str],
    namer: Namer | None,
) -> dict[int, str]:
    """Name communities whose names are not given.

    Parameters
    ----------
    texts : mapping of {int: sequence of str}
        Central texts of each community, in the order in which communities are named.

    keywords : mapping of {int: sequence of str}
        See :func:`skleiden.inspection.keywords`.

    given : mapping of {int: str}
        Names that are given, and kept.

    namer : callable or None
        Makes a name of texts and keywords; if None, a name is made of the keywords.
    """
    return {
        c: given[c] if c in given else _name(c, [*of], [*keywords.get(c, ())], namer)
        for c, of in texts.items()
    }


def _name(c: int, texts: list[str], keywords: list[str], namer: Namer | None) -> str:
    if namer is None:
        return ", ".join(keywords[:_N_WORDS]) or NO_WORDS
    try:
        name = namer(texts, keywords)
    except Exception as error:
        error.add_note(f"namer failed for community {c}, with keywords {keywords}.")
        raise
    if not isinstance(name, str):
        raise TypeError(
            f"namer must return a string; got {name!r} for community {c}. Return the "
            "name alone."
        )
    return name


def check_names(names: Any, labels: np.ndarray) -> dict[int, str]:
    """Read names, refused if they are not strings, or not those of communities."""
    if not isinstance(names, Mapping):
        raise TypeError(
            "names must be a mapping of {community: name}; got "
            f"{type(names).__name__}. Give a dict, such as {{0: 'astronomy'}}."
        )
    known = set(np.unique(labels[labels >= 0]).tolist())
    checked = {}
    for label, name in names.items():
        if isinstance(label, bool) or not isinstance(label, (int, np.integer)):
            raise TypeError(
                "names must be by the number of a community; got "
                f"{label!r} of type {type(label).__name__}. Convert it by int()."
            )
        if not isinstance(name, str):
            raise TypeError(
                f"names must be strings; got {name!r} for community {label}. Leave "
                "out communities that have none."
            )
        if int(label) not in known:
            raise ValueError(
                f"names must be of communities of the labels; got {name!r} for "
                f"community {label}, of {_some(known)}. Leave it out."
            )
        checked[int(label)] = encodable(name)
    return checked


def _some(known: Iterable[int]) -> str:
    numbers = sorted(known)
    return f"{len(numbers)} from {numbers[0]} to {numbers[-1]}" if numbers else "none"
