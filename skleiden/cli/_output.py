"""Save the results of a command: its folder, and the files in it."""

from __future__ import annotations

import argparse
import io
import shutil
import textwrap
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from skleiden._text import encodable
from skleiden.inspection import Communities
from skleiden.inspection._members import member_rows
from skleiden.inspection._tree import stands_at
from skleiden.plotting import png

from ._input import input_paths
from ._options import a_path
from ._run_folder import Run, new_run

LABELS, COMMUNITIES, REPORT = "labels.csv", "communities.json", "report.html"

# Where the title of the page is in the summary of communities.
TITLE = "title"


def add_output(parser: argparse.ArgumentParser) -> None:
    """Add the folder of a run, and the options on what to print."""
    parser.add_argument(
        "--out",
        type=a_path,
        required=True,
        metavar="DIR",
        help="folder to save into: a new or an empty one, or an earlier run's",
    )
    parser.add_argument(
        "--overwrite",
        action="store_true",
        help="replace an earlier run of the same command, as a whole",
    )
    parser.add_argument(
        "--json", action="store_true", help="print the result as JSON, for programs"
    )
    parser.add_argument("-q", "--quiet", action="store_true", help="show no progress")


def add_title(parser: argparse.ArgumentParser) -> None:
    """Add the title of the page."""
    parser.add_argument("--title", type=encodable, help="title of the page")


def run_of(options: argparse.Namespace, *names: str) -> Any:
    """Write a new run of a command; see `new_run`."""
    return new_run(
        options.out,
        options.command,
        names,
        overwrite=options.overwrite,
        inputs=input_paths(options),
    )


def try_figure(run: Run, name: str, display: Callable[[], Any]) -> list[str]:
    """Save a figure, or say that there is nothing to draw, or to draw with."""
    try:
        run.write(f"{name}.png", png(display()))
    except ImportError as error:
        return [f"No figures: {error}"]
    except ValueError as error:
        return [f"No {name}.png: {error}"]
    return []


def content_of(save: Callable[[Any], None]) -> bytes:
    """Get the content that a function saves, before it replaces anything."""
    file = io.BytesIO()
    save(file)
    return file.getvalue()


# Communities of a printed table, at most; neurons and prompts of each.
_MOST_LISTED, _N_SHOWN = 40, 3


def as_text(found: Communities) -> str:
    """Name each community, with its size, keywords, neurons and some prompts."""
    width = max(60, min(shutil.get_terminal_size().columns, 100))
    is_neurons = bool(found.layer_share)
    lines = ["    group   size  keywords, strongest prompts"]
    if not is_neurons:
        lines = [
            "community   size  keywords, strongest neurons (layer:neuron), prompts"
        ]
    listed = member_rows(found.labels)
    for label, rows in list(listed.items())[:_MOST_LISTED]:
        words = ", ".join(found.keywords.get(label, []))
        name = found.names.get(label, "")
        # Which is mostly made of the first keywords.
        told = [words] if words.startswith(name) else [name, words]
        told += _strongest(found, label) if is_neurons else _some(found, label, rows)
        first, *others = [text for text in told if text] or [""]
        lines.append("-" * width)
        lines.append(_line(f"{label:>9}  {rows.size:>5}  ", width, first))
        lines += [_line(" " * 18, width, text) for text in others]
    lines.append("-" * width)
    if len(listed) > _MOST_LISTED:
        lines.append(f"and {len(listed) - _MOST_LISTED} more")
    return "\n".join(lines)


def _line(start: str, width: int, text: str) -> str:
    return start + textwrap.shorten(text, width - len(start), placeholder=" ...")


def _strongest(found: Communities, label: int) -> list[str]:
    """Give some prompts that a group of neurons fires on."""
    features = found.top_features.get(label, [])[:_N_SHOWN]
    return [str(of.text or of.name or of.neuron) for of in features]


def _some(found: Communities, label: int, rows: np.ndarray) -> list[str]:
    """Give some neurons of a community of prompts, and some prompts."""
    features = found.top_features.get(label, [])[:_N_SHOWN]
    neurons = ", ".join(f"{neuron.layer}:{neuron.neuron}" for neuron in features)
    # Spread over it, because neighbouring rows may be of one kind.
    some = np.linspace(0, rows.size - 1, min(_N_SHOWN, rows.size)).astype(int)
    texts = found.texts or [str(i) for i in found.ids]
    return [neurons, *(texts[row] for row in rows[some])]


def in_short(found: Communities) -> str:
    """Count rows, communities and rows in none, on one line."""
    facts = found.summary
    rows = facts.get("rows", "prompts")
    groups = "groups" if rows == "neurons" else "communities"
    levels = _levels(found.tree["nodes"]) if found.tree else []
    return (
        f"{facts['n_samples']} {rows}, {facts['n_communities']} {groups}, "
        f"{facts['n_noise']} {rows} in none; modularity {facts['modularity']:.3f}"
        f"{'' if facts['n_edges'] else '; the graph has no edges'}"
        f"{'; tree of ' * bool(levels)}{' > '.join(map(str, levels))}"
    )


def _levels(nodes: Sequence[Mapping[str, Any]]) -> list[int]:
    """Count the communities of each level of a tree."""
    return [
        sum(stands_at(level, node["level"], node["children"]) for node in nodes)
        for level in range(nodes[-1]["level"] + 1)
    ]
