"""The page: its template, filled in."""

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
    """Names of things on one side of the matrix, singular and plural.

    Rows are in clusters, which features set apart. A cluster that is linked with one of
    the other side `relates` to it. `kind` is that of the rows; `letter` and `noise`
    stand in addresses.
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

    `prefix` is that of the names of its elements, which are on the page once.
    """

    found: Communities
    words: _Words
    prefix: str

    @property
    def told(self) -> str:
        """Tell how many clusters of how many rows there are."""
        counts = count(self.found.labels)
        clusters = _counted(counts["n_communities"], *self.words.cluster)
        return f"{clusters} of {_counted(counts['n_samples'], *self.words.row)}"


def write_report(
    path: str | os.PathLike[str], communities: Communities, *, title: str | None = None
) -> None:
    """Write communities as one HTML page that needs no network.

    The page has the map, and a list of communities to search and sort, each with its
    name, keywords, representatives, neurons, layers and prompts, and what its numbers
    mean; a neuron opens to the rows and communities in which it fires most. Communities
    within communities are a list that opens. Whatever is not known is left out. Rows
    are called borderline if at least a third of the weight of their edges leads out of
    their community, and a community loose if most of it does.

    It is one file, works from disk, and loads nothing. Texts are shown as they are,
    never run as code. A community has the colour that it has in the figures of
    `skleiden.plotting`; on a dark screen, a lighter one of the same hue.

    Groups of neurons, if they are known, have a map and a list of their own below, each
    with its strongest prompts, keywords, layers and neurons. Where a cross table tells
    which groups drive which communities, links lead from one to the other and back.

    Parameters
    ----------
    path : path-like
        The file. Its folder must exist. An older file is replaced, in one step;
        through a symbolic link, the file that it leads to.

    communities : Communities
        From :func:`skleiden.inspection.describe_communities` or
        :func:`skleiden.io.load_communities`, or made of labels and what is at hand:
        ``Communities(labels, ids, texts=texts)``. Where its rows are neurons, the page
        is of groups of neurons alone.

    title : str, default=None
        Heading of the page; "Communities" if None, or "Groups of neurons" where the
        rows are neurons. A lone half of a surrogate pair, which no file can hold,
        becomes U+FFFD.

    Raises
    ------
    TypeError
        If `communities` is something else, such as an array of labels.

    ValueError
        If a label is 2**53 or more, of which a browser knows not all digits.

    ImportError
        If Jinja2 is not installed.

    OSError
        If the file cannot be written: FileNotFoundError if its folder does not exist,
        IsADirectoryError if `path` is a folder, FileExistsError if it is something
        else than a file, such as a device, PermissionError if the folder is not
        writable.

    See Also
    --------
    skleiden.io.save_communities : Save the same as JSON.

    Notes
    -----
    The page holds every prompt. Its address may name what is opened: ``#c12`` is
    community 12, ``#noise`` the rows in none; ``#g12`` is group 12 of the neurons,
    ``#g-noise`` the neurons in none.

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
    """Tell what is shown: communities, and groups of neurons if they are known."""
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
    """Give what a file holds of one side, with its colours and words."""
    # JavaScript has no int64.
    ids = [str(name) for name in side.found.ids.tolist()]
    alone = replace(side.found, ids=ids, neuron_groups=None, cross_table=None)
    colors = jsonable(css_colors(alone.labels))
    return {**document_of(alone), "colors": colors, "words": side.words._asdict()}


def _facts(side: _Side) -> list[str]:
    """Tell the facts of the line below the title."""
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
    """How all was made: captions and groups of rows, if there are any."""
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
    """Give parameters without steps, which are told by their own parameters."""
    return {
        name: value
        for name, value in found.parameters.items()
        if name.rpartition("__")[2] != "steps"
        and not any(other.startswith(f"{name}__") for other in found.parameters)
    }


def _groups(rows: Mapping[str, Any]) -> list[tuple[str, dict[str, str]]]:
    """Rows by the step that their names begin with, those of no step first."""

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
