"""The page: its template, filled in."""

from __future__ import annotations

import base64
import hashlib
import os
from collections.abc import Mapping
from dataclasses import replace
from importlib.resources import files
from itertools import groupby
from numbers import Real
from typing import Any

from skleiden._palette import css_colors
from skleiden._text import encodable
from skleiden.inspection import Communities, summarize
from skleiden.io._communities import check_communities, document_of, jsonable
from skleiden.io._files import write_whole

_TEMPLATES = "templates"


def write_report(
    path: str | os.PathLike[str], communities: Communities, *, title: str | None = None
) -> None:
    """Write communities as one HTML page that needs no network.

    The page has the map, and a list of communities to search and sort, each with its
    representatives, neurons, layers and prompts; whatever is not known is left out. It
    is one file, works from disk, and loads nothing. Texts are shown as they are, never
    run as code. A community has the colour that it has in the figures of
    `skleiden.plotting`; on a dark screen, a lighter one of the same hue.

    Parameters
    ----------
    path : path-like
        The file. Its folder must exist. An older file is replaced, in one step;
        through a symbolic link, the file that it leads to.

    communities : Communities
        From :func:`skleiden.inspection.describe_communities` or
        :func:`skleiden.io.load_communities`, or made of labels and what is at hand:
        ``Communities(labels, ids, texts=texts)``.

    title : str, default=None
        Heading of the page; "Communities" if None. A lone half of a surrogate pair,
        which no file can hold, becomes U+FFFD.

    Raises
    ------
    TypeError
        If `communities` is something else, such as an array of labels.

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
    community 12, ``#noise`` the rows in none.

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
    write_whole(path, _render(communities, encodable(title or "Communities")))


def _render(found: Communities, title: str) -> str:
    try:
        from jinja2 import Environment, PackageLoader, StrictUndefined
        from markupsafe import Markup
    except ImportError as error:
        raise ImportError(
            'write_report needs Jinja2: pip install "skleiden[report]".'
        ) from error
    environment = Environment(
        loader=PackageLoader(__package__, _TEMPLATES),
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=StrictUndefined,
    )
    # Keys in the order given: layers are in theirs.
    environment.policies["json.dumps_kwargs"] = {
        "allow_nan": False,
        "separators": (",", ":"),
    }
    style, script = _source("report.css"), _source("report.js")
    page: str = environment.get_template("report.html").render(
        title=title,
        style=Markup(style),  # noqa: S704 - the package's own, as is the script
        script=Markup(script),  # noqa: S704
        style_hash=_hash(style),
        script_hash=_hash(script),
        facts=_facts(found),
        found=found,
        tables=_tables(found),
        data=_data(found),
    )
    return page


def _source(name: str) -> str:
    return files(__package__).joinpath(_TEMPLATES, name).read_text(encoding="utf-8")


def _hash(source: str) -> str:
    """Compute the hash by which a Content-Security-Policy allows a style or script."""
    digest = hashlib.sha256(source.encode()).digest()
    return f"sha256-{base64.b64encode(digest).decode()}"


def _data(found: Communities) -> dict[str, Any]:
    """Give what the script of the page shows: what a file holds, and colours."""
    # JavaScript has no int64.
    ids = [str(name) for name in found.ids.tolist()]
    colors = jsonable(css_colors(found.labels))
    return {**document_of(replace(found, ids=ids)), "colors": colors}


def _facts(found: Communities) -> list[str]:
    """Tell the facts of the line below the title."""
    counts, texts = summarize(found.labels), found.texts is not None
    scores = {name: found.summary.get(name) for name in ("modularity", "stability")}
    return [
        _counted(counts.n_samples, *(("row", "rows"), ("prompt", "prompts"))[texts]),
        _counted(counts.n_communities, "community", "communities"),
        f"{counts.n_noise / counts.n_samples:.1%} noise",
        *(
            f"{name} {score:.3f}"
            for name, score in scores.items()
            if isinstance(score, Real) and score == score  # not nan
        ),
    ]


def _counted(n: int, one: str, many: str) -> str:
    return f"{n:,} {one if n == 1 else many}"


def _tables(found: Communities) -> list[tuple[str, list[tuple[str, dict[str, str]]]]]:
    """How the communities were made: captions and groups of rows, if there are any."""
    parameters = {
        name: value
        for name, value in found.parameters.items()
        # Steps are told by their own parameters.
        if name.rpartition("__")[2] != "steps"
        and not any(other.startswith(f"{name}__") for other in found.parameters)
    }
    versions: dict[str, Any] = dict(found.versions)
    if found.fingerprint is not None:
        versions["fingerprint of the input"] = found.fingerprint
    tables = {"Graph and fit": found.summary, "Parameters": parameters}
    tables["Versions and input"] = versions
    return [(caption, _groups(rows)) for caption, rows in tables.items() if rows]


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
    return f"{value:.6g}" if isinstance(value, float) else str(value)
