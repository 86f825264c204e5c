"""Run ``skleiden report``: write the page of saved communities again."""

from __future__ import annotations

import argparse
import json
import os
from dataclasses import replace
from pathlib import Path

from skleiden import io, report

from ._input import naming
from ._manifest import Manifest
from ._names import add_names, load_names, of_communities
from ._options import a_path
from ._output import COMMUNITIES, REPORT, TITLE, add_title, content_of
from ._progress import Stages
from ._run_folder import existing_run, rewrite

DESCRIPTION = """\
Write report.html anew from the communities.json of a folder that `skleiden cluster`
made, with another title, or with names of your own. These are on the page alone: the
other files of the folder stay as they are.
"""


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add the options of the command."""
    parser.add_argument(
        "folder", type=a_path, metavar="DIR", help="folder that `skleiden cluster` made"
    )
    add_names(parser)
    add_title(parser)
    parser.add_argument("--json", action="store_true", help="print JSON")


def main(options: argparse.Namespace) -> int:
    """Run the command and return its exit code."""
    path = options.folder / REPORT
    stage = Stages(quiet=True)
    with existing_run(options.folder) as manifest:
        if manifest is not None:
            _check(options.folder, manifest)
        saved = options.folder / COMMUNITIES
        with stage("Load"):
            names = load_names(options.names)
            with naming(saved):
                found = io.load_communities(saved)
            given = of_communities(names, found.labels)
            found = replace(found, names={**found.names, **given})
        with stage("Page"):
            of_run = found.summary.get(TITLE)
            title = of_run if options.title is None else options.title
            page = content_of(
                lambda file: report.write_report(file, found, title=title)
            )
            rewrite(options.folder, manifest, REPORT, page)
    print(json.dumps({"saved": [str(path)]}) if options.json else f"Saved: {path}")
    return 0


def _check(folder: Path, manifest: Manifest) -> None:
    """Refuse a run without communities, and a page that belongs to another."""
    if manifest.command != "cluster":
        raise ValueError(
            f"{str(folder)!r} holds a run of skleiden {manifest.command}, which finds "
            "no communities. Give the --out of skleiden cluster."
        )
    page = folder / REPORT
    # In a run that was not finished files are known by their names only.
    own = manifest.has(page) if manifest.finished else REPORT in manifest.names
    if os.path.lexists(page) and not own:
        raise FileExistsError(
            f"{str(page)!r} does not belong to the run there, or has changed since, "
            "and would be replaced. Move it away."
        )
