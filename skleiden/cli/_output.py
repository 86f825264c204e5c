"""What a command saves: its folder, and the files in it."""

from __future__ import annotations

import argparse
import io
from collections.abc import Callable
from typing import Any

from skleiden._text import encodable
from skleiden.plotting import png

from ._input import input_paths
from ._options import a_path
from ._run_folder import Run, new_run

LABELS, COMMUNITIES, REPORT = "labels.csv", "communities.json", "report.html"

# Where the title of the page is in the summary of communities.
TITLE = "title"


def add_output(parser: argparse.ArgumentParser) -> None:
    """Add the folder of a run, and what is told of it."""
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
    parser.add_argument("--title", type=encodable, help="of the page")


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
    """Save a figure; if there is nothing to draw, or to draw with, say so."""
    try:
        run.write(f"{name}.png", png(display()))
    except ImportError as error:
        return [f"No figures: {error}"]
    except ValueError as error:
        return [f"No {name}.png: {error}"]
    return []


def content_of(save: Callable[[Any], None]) -> bytes:
    """Get what a function saves, which must be known before it replaces anything."""
    file = io.BytesIO()
    save(file)
    return file.getvalue()
