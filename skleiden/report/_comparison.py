"""Write the page of a comparison: how rows flow from one partition to the other."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

import numpy as np

from skleiden._palette import css_colors
from skleiden._text import encodable
from skleiden.inspection import Comparison
from skleiden.io._files import write_whole

from ._page import _counted
from ._template import fill

# What a page is known by that may be replaced.
GENERATOR = "skleiden compare"


def write_comparison(
    path: str | os.PathLike[str],
    comparison: Comparison,
    *,
    titles: tuple[str, str] = ("first", "second"),
    title: str | None = None,
) -> None:
    """Write a comparison as one HTML page that needs no network.

    The page draws how the rows of the communities of one partition flow into those of
    the other, and lists matched communities, and those without a match, to search and
    sort. Each has its overlap, where its rows went or came from, and the rows that
    moved, with their texts if they are known. The page is one file, works from disk,
    and loads nothing. Texts are shown as they are, never run as code.

    Parameters
    ----------
    path : path-like
        The file. Its folder must exist. An older file is replaced in one step; a
        symbolic link stays, and the file that it leads to is replaced.

    comparison : Comparison
        The result of :func:`skleiden.inspection.compare`.

    titles : (str, str), default=("first", "second")
        Names of the two partitions.

    title : str, default=None
        Heading of the page; if None, it is made from both titles.

    Raises
    ------
    TypeError
        If `comparison` is something else.

    ValueError
        If `titles` is a single string, or not two values.

    ImportError
        If Jinja2 is not installed.

    OSError
        If the file cannot be written, as in `write_report`.

    Notes
    -----
    The page holds the rows that moved, and counts the others. Matched communities have
    the same colour on both sides. The end of the page's address can name what to open:
    ``#a12`` is community 12 of the first partition, with its match; ``#b3`` is
    community 3 of the second, if it has none; ``#none`` are the rows in no community.

    Examples
    --------
    >>> import tempfile, pathlib
    >>> from skleiden.inspection import compare
    >>> from skleiden.report import write_comparison
    >>> path = pathlib.Path(tempfile.mkdtemp()) / "comparison.html"
    >>> write_comparison(path, compare([0, 0, 1, 1], [0, 0, 1, 2]))
    >>> path.read_text(encoding="utf-8").splitlines()[0]
    '<!doctype html>'
    """
    if not isinstance(comparison, Comparison):
        raise TypeError(
            f"write_comparison takes a Comparison; got {type(comparison).__name__}. "
            "Make one with skleiden.inspection.compare."
        )
    if isinstance(titles, str) or len(titles) != 2:
        raise ValueError(
            f"titles must be two, one for each partition; got {titles!r}. Give a pair "
            "of strings."
        )
    both = tuple(encodable(str(one)) for one in titles)
    heading = f"{both[0]} and {both[1]}" if title is None else encodable(title)
    page = fill(
        "comparison.html",
        "write_comparison",
        styles=("report.css", "comparison.css"),
        scripts=("common.js", "comparison.js"),
        title=heading,
        generator=GENERATOR,
        facts=_facts(comparison, both),
        data=_data(comparison, both),
    )
    write_whole(path, page)


def _facts(found: Comparison, titles: tuple[str, ...]) -> list[str]:
    """Give the facts for the line below the title."""
    n, n_moved = found.ids.size, int(np.count_nonzero(found.moved))
    alone = zip((found.n_only_a, found.n_only_b), titles, strict=True)
    return [
        f"{_counted(n, *_row(found))} in both",
        f"AMI {found.ami:.3f}",
        f"ARI {found.ari:.3f}",
        f"{n_moved:,} moved ({n_moved / n:.1%})",
        *(f"{_counted(m, *_row(found))} in {of} alone" for m, of in alone if m),
    ]


def _row(found: Comparison) -> tuple[str, str]:
    """Name one row, and several."""
    return found.rows.removesuffix("s"), found.rows


def _data(found: Comparison, titles: tuple[str, ...]) -> dict[str, Any]:
    """Give what the script of the page shows; -1 stands for no community."""
    one, other = (_sizes(of) for of in (found.labels_a, found.labels_b))
    matched = [(a, b) for a, b in enumerate(found.partner.tolist()) if b >= 0]
    a_of = {b: a for a, b in matched}
    # A community of b without a match has a colour that none of a has.
    n_a = found.partner.size
    alone = [b for b in other if b >= 0 and b not in a_of]
    place_of = a_of | {b: n_a + i for i, b in enumerate(alone)} | {-1: -1}
    colors = css_colors(np.arange(n_a + len(alone)))
    moved = np.flatnonzero(found.moved)
    pairs, counts = np.unique(
        np.stack([found.labels_a, found.labels_b], axis=1), axis=0, return_counts=True
    )
    return {
        "titles": list(titles),
        "row": list(_row(found)),
        "n": found.ids.size,
        "sides": [
            [_cluster(*of, found.names_a, colors[of[0]]) for of in one.items()],
            [
                _cluster(*of, found.names_b, colors[place_of[of[0]]])
                for of in other.items()
            ],
        ],
        "matched": matched,
        "pairs": np.column_stack([pairs, counts]).tolist(),
        "moved": {
            # JavaScript has no int64.
            "ids": [encodable(str(of)) for of in found.ids[moved].tolist()],
            "a": found.labels_a[moved].tolist(),
            "b": found.labels_b[moved].tolist(),
            "texts": None
            if found.texts is None
            else [found.texts[row] for row in moved.tolist()],
        },
    }


def _sizes(labels: np.ndarray) -> dict[int, int]:
    """Count the rows of each label."""
    return dict(
        zip(*(of.tolist() for of in np.unique(labels, return_counts=True)), strict=True)
    )


def _cluster(
    label: int, size: int, names: Mapping[int, str], colors: tuple[str, str]
) -> dict[str, Any]:
    name = encodable(names.get(label, ""))
    return {"label": label, "size": size, "name": name, "colors": list(colors)}
