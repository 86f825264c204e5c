"""Write the page of communities, from a template."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from itertools import groupby
from numbers import Real
from typing import Any, NamedTuple

from skleiden._palette import css_colors
from skleiden._text import encodable
from skleiden.inspection import Communities
from skleiden.inspection._members import count
from skleiden.io._communities import check_communities, document_of, jsonable
from skleiden.io._files import write_whole

from ._template import fill

# Integers below this are exact in JavaScript.
_EXACT = 2**53

# What files hold of a parameter that is a class, such as a dtype; and its name.
_CLASS = re.compile(r"<class '(?:.*\.)?(\w+)'>")


class _Words(NamedTuple):
    """Names of things on one side of the matrix, in the singular and the plural.

    Rows are in clusters, which features set apart. A cluster that is linked with one of
    the other side `relates` to it. `kind` is the kind of the rows; `letter` and `noise`
    are used in addresses.
    """

    kind: str
    row: tuple[str, str]
    cluster: tuple[str, str]
    feature: tuple[str, str]
    features: str
    searched: tuple[str, ...]
    heading: str
    relates: str
    letter: str
    noise: str


_PROMPTS = _Words(
    kind="prompts",
    row=("prompt", "prompts"),
    cluster=("community", "communities"),
    feature=("neuron", "neurons"),
    features="Top neurons",
    searched=("prompts", "ids"),
    heading="Communities",
    relates="Driven by",
    letter="c",
    noise="noise",
)
# What rows are called, by `rows` of the summary.
_ROWS = {
    "prompts": _PROMPTS,
    "tokens": _PROMPTS._replace(row=("token", "tokens"), searched=("tokens", "ids")),
    "rows": _PROMPTS._replace(row=("row", "rows"), searched=("texts", "ids")),
}
_NEURONS = _Words(
    kind="neurons",
    row=("neuron", "neurons"),
    cluster=("group", "groups"),
    feature=("prompt", "prompts"),
    features="Strongest prompts",
    searched=("neurons",),
    heading="Groups of neurons",
    relates="Drives",
    letter="g",
    noise="g-noise",
)


class _Side(NamedTuple):
    """What the page shows of prompts or of neurons.

    `prefix` begins the names of its elements, which must be unique on the page.
    """

    found: Communities
    words: _Words
    prefix: str

    @property
    def told(self) -> str:
        """Tell how many clusters and rows there are."""
        counts = count(self.found.labels)
        clusters = _counted(counts["n_communities"], *self.words.cluster)
        return f"{clusters} of {_counted(counts['n_samples'], *self.words.row)}"


def write_report(
    path: str | os.PathLike[str], communities: Communities, *, title: str | None = None
) -> None:
    """Write communities as one HTML page that needs no network.

    The page has a map, and a list of communities to search and sort. Each community has
    its name, keywords, representatives, neurons, layers and prompts, with an
    explanation of its numbers. A neuron opens to show the rows and communities in which
    it fires most. Communities within communities are a list that opens level by level.
    Whatever is not known is left out. Rows are called borderline if at least a third of
    the weight of their edges leads out of their community, and a community is called
    loosely connected if most of the weight of its edges does.

    The page is one file, works from disk, and loads nothing. Texts are shown as they
    are, never run as code. Communities have the same colours as in the figures of
    `skleiden.plotting`; on a dark screen, they are lighter, with the same hues.

    Groups of neurons, if they are known, have their own map and list below. Each group
    has its strongest prompts, keywords, layers and neurons. If a cross table tells
    which groups drive which communities, links lead from one to the other and back.

    Parameters
    ----------
    path : path-like
        The file. Its folder must exist. An older file is replaced in one step; a
        symbolic link stays, and the file that it leads to is replaced.

    communities : Communities
        The result of :func:`skleiden.inspection.describe_communities` or
        :func:`skleiden.io.load_communities`, or one made from labels and what else is
        known: ``Communities(labels, ids, texts=texts)``. If its rows are neurons, the
        page shows groups of neurons only.

    title : str, default=None
        Heading of the page. If None, it is "Communities", or "Groups of neurons" if the
        rows are neurons. A lone half of a surrogate pair, which no file can hold,
        becomes U+FFFD.

    Raises
    ------
    TypeError
        If `communities` is something else, such as an array of labels.

    ValueError
        If a label is 2**53 or more, because a browser cannot hold all its digits.

    ImportError
        If Jinja2 is not installed.

    OSError
        If the file cannot be written: FileNotFoundError if its folder does not exist,
        IsADirectoryError if `path` is a folder, FileExistsError if it is something
        other than a file, such as a device, PermissionError if the folder is not
        writable.

    See Also
    --------
    skleiden.io.save_communities : Save the same content as JSON.

    Notes
    -----
    The page holds every prompt. The end of its address can name what to open: ``#c12``
    is community 12, ``#noise`` are the rows in no community; ``#g12`` is group 12 of
    the neurons, ``#g-noise`` are the neurons in no group.

    Examples
    --------
    >>> import tempfile, pathlib
    >>> from skleiden.inspection import Communities
    >>> from skleiden.report import write_report
    >>> path = pathlib.Path(tempfile.mkdtemp()) / "report.html"
    >>> write_report(path, Communities([0, 0, -1], texts=["a cat", "cats", "a train"]))
    >>> path.read_text(encoding="utf-8").splitlines()[0]
    '<!doctype html>'
    """
    check_communities(communities, "write_report")
    if communities.labels.max() >= _EXACT:
        raise ValueError(
            f"labels must be below 2**53 on a page; got {communities.labels.max()}. "
            "Number the communities from 0."
        )
    write_whole(path, _render(communities, title))


def _render(found: Communities, title: str | None) -> str:
    sides = _sides(found)
    return fill(
        "report.html",
        "write_report",
        styles=("report.css",),
        scripts=("common.js", "report.js"),
        title=encodable(title or sides[0].words.heading),
        facts=_facts(sides[0]),
        sides=sides,
        tree=found.tree is not None,
        tables=_tables(sides),
        data=_data(sides),
    )


def _sides(found: Communities) -> list[_Side]:
    """List what is shown: communities, and groups of neurons if they are known."""
    groups = found.neuron_groups
    if groups is None and found.summary.get("rows") == _NEURONS.kind:
        return [_Side(found, _NEURONS, "")]
    called = str(found.summary.get("rows"))
    words = _ROWS.get(called, _ROWS["rows" if found.texts is None else "prompts"])
    if found.texts is None:
        words = words._replace(searched=("ids",))
    beside = [] if groups is None else [_Side(groups, _NEURONS, "groups-")]
    return [_Side(found, words, ""), *beside]


def _data(sides: Sequence[_Side]) -> dict[str, Any]:
    """Give what the script of the page shows."""
    data, *beside = map(_side_data, sides)
    for groups in beside:
        data["neuron_groups"] = groups
        for one in groups["communities"]:
            del one["members"]  # neurons are many, and rows tell
    table = sides[0].found.cross_table
    if table is not None:
        data["drives"] = jsonable(table.pairs())
    return data


def _side_data(side: _Side) -> dict[str, Any]:
    """Give the content of a file for one side, with its colours and words."""
    # JavaScript has no int64.
    ids = [str(name) for name in side.found.ids.tolist()]
    alone = replace(side.found, ids=ids, neuron_groups=None, cross_table=None)
    colors = jsonable(css_colors(alone.labels))
    return {**document_of(alone), "colors": colors, "words": side.words._asdict()}


def _facts(side: _Side) -> list[str]:
    """Give the facts for the line below the title."""
    found, words = side.found, side.words
    counts = count(found.labels)
    scores = {name: found.summary.get(name) for name in ("modularity", "stability")}
    return [
        _counted(counts["n_samples"], *words.row),
        _counted(counts["n_communities"], *words.cluster),
        f"{counts['n_noise'] / counts['n_samples']:.1%} noise",
        *(
            f"{name} {score:.3f}"
            for name, score in scores.items()
            if isinstance(score, Real) and score == score  # not nan
        ),
    ]


def _counted(n: int, one: str, many: str) -> str:
    return f"{n:,} {one if n == 1 else many}"


def _tables(
    sides: Sequence[_Side],
) -> list[tuple[str, list[tuple[str, dict[str, str]]]]]:
    """Give tables of how all was made: captions and groups of rows, if any."""
    found = sides[0].found
    versions: dict[str, Any] = dict(found.versions)
    if found.fingerprint is not None:
        versions["fingerprint of the input"] = found.fingerprint
    made = {"Graph and fit": found.summary, "Parameters": _parameters(found)}
    tables = {**made, "Versions and input": versions}
    for beside in sides[1:]:
        other = beside.found
        own = {"Graph and fit": other.summary, "Parameters": _parameters(other)}
        tables |= {
            f"{caption}: {beside.words.row[1]}": rows
            for caption, rows in own.items()
            if _groups(rows) != _groups(made[caption])  # else they are there already
        }
    return [(caption, _groups(rows)) for caption, rows in tables.items() if rows]


def _parameters(found: Communities) -> dict[str, Any]:
    """Give parameters without steps, whose own parameters are listed instead."""
    return {
        name: value
        for name, value in found.parameters.items()
        if name.rpartition("__")[2] != "steps"
        and not any(other.startswith(f"{name}__") for other in found.parameters)
    }


def _groups(rows: Mapping[str, Any]) -> list[tuple[str, dict[str, str]]]:
    """Group rows by the step that their names begin with, those without one first."""

    def step(item: tuple[str, Any]) -> str:
        return item[0].rpartition("__")[0]

    return [
        (name, {key.rpartition("__")[2]: _shown(value) for key, value in group})
        for name, group in groupby(sorted(rows.items(), key=step), step)
    ]


def _shown(value: Any) -> str:
    value = jsonable(value)
    if isinstance(value, dict):
        return ", ".join(f"{key}: {_shown(item)}" for key, item in value.items())
    if isinstance(value, list):
        return ", ".join(map(_shown, value))
    if isinstance(value, str) and (of_class := _CLASS.fullmatch(value)):
        return of_class[1]
    return f"{value:.6g}" if isinstance(value, float) else str(value)
