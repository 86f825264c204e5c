"""Run ``skleiden compare``: tell what changed from one run to another."""

from __future__ import annotations

import argparse
import json
import os
import shutil
import textwrap
from collections.abc import Iterable
from numbers import Real
from pathlib import Path

from sklearn.utils._param_validation import Interval

from skleiden import inspection, report
from skleiden._text import encodable
from skleiden.inspection import Comparison
from skleiden.io._files import as_given, check_place, write_whole
from skleiden.io._partitions import load_partition
from skleiden.report._comparison import GENERATOR

from ._exchange import same
from ._input import naming
from ._manifest import MANIFEST
from ._options import a_path, number
from ._output import add_title, content_of
from ._progress import Stages

DESCRIPTION = """\
Compare the communities of two runs, such as runs on different layers, models,
checkpoints, prompts or seeds. A run is a folder that `skleiden cluster` made, or a file
of one: communities.json, labels.csv, or neurons.csv, for groups of neurons. Rows are
found by their ids; those that only one of the runs has are counted and left out. Prints
how far both agree (AMI, adjusted mutual information, and ARI, adjusted Rand index: 1 if
they are the same, about 0 by chance); which communities are matched, with the overlap,
the share of the rows of either that is in both, and the rows that they have in common;
and which split or merged. Writes a page to look at (if jinja2 is installed), with the
rows that moved.
"""

# Letters of the beginning of a page in which it says what made it.
_HEAD = 1000
# Lines of a printed table, at most, and of splits and merges.
_MOST_LISTED, _MOST_CHANGES = 40, 20


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add the options of the command."""
    for name, which in (("a", "first"), ("b", "second")):
        parser.add_argument(
            name,
            type=a_path,
            metavar=f"RUN_{name.upper()}",
            help=f"the {which} run: a folder of `skleiden cluster`, or a file",
        )
    parser.add_argument(
        "--out",
        type=a_path,
        default=Path("comparison.html"),
        metavar="FILE",
        help="where the page goes",
    )
    parser.add_argument(
        "--overwrite", action="store_true", help="replace an earlier page of compare"
    )
    parser.add_argument(
        "--min-share",
        type=number([Interval(Real, 0, 0.5, closed="right")]),
        default=0.1,
        metavar="SHARE",
        help="smallest part of a community by which it is said to be split or merged",
    )
    add_title(parser)
    parser.add_argument(
        "--json", action="store_true", help="print the result as JSON, for programs"
    )
    parser.add_argument("-q", "--quiet", action="store_true", help="show no progress")


def main(options: argparse.Namespace) -> int:
    """Run the command and return its exit code."""
    runs = options.a, options.b
    place = _check_out(options.out, runs, overwrite=options.overwrite)
    stage = Stages(quiet=options.quiet)
    with stage("Load"):
        loaded = []
        for run in runs:
            with naming(run):
                loaded.append(load_partition(run))
    with stage("Compare"):
        found = inspection.compare(*loaded, min_share=options.min_share)
    titles = (str(options.a), str(options.b))
    saved, missing = [], []
    with stage("Page"):
        try:
            page = content_of(
                lambda file: report.write_comparison(
                    file, found, titles=titles, title=options.title
                )
            )
        except ImportError as error:
            missing.append(f"No page: {error}")
        else:
            write_whole(options.out, page)
            saved.append(str(as_given(options.out, place)))
    if options.json:
        result = {"runs": encodable(titles), **found.to_dict()}
        print(json.dumps({**result, "saved": saved, "not_saved": missing}))
        return 0
    for line in [*_told(found, titles), *missing]:
        print(line)
    if saved:
        print(f"Saved: {saved[0]}")
    return 0


def _check_out(out: Path, runs: Iterable[Path], *, overwrite: bool) -> Path:
    """Refuse, before the work, to replace anything but a page, or to touch a run."""
    place = check_place(out)
    for run in runs:
        if same(place, Path(os.path.realpath(run))):
            raise ValueError(
                f"--out {str(out)!r} is one of the runs, which would be replaced. Give "
                "another file."
            )
    for folder in place.parents:
        if (folder / MANIFEST).is_file():
            raise ValueError(
                f"--out {str(out)!r} lies in {str(folder)!r}, the folder of a run, "
                "which belongs to the run alone. Give a file outside of it."
            )
    if place.exists():
        if not overwrite:
            raise FileExistsError(
                f"{str(out)!r} exists already. Give --overwrite to replace it, or "
                "another file as --out."
            )
        with place.open("rb") as file:
            if f'content="{GENERATOR}"'.encode() not in file.read(_HEAD):
                raise FileExistsError(
                    f"{str(out)!r} is not a page of skleiden compare, and is not "
                    "replaced. Give another file as --out."
                )
    return place


def _told(found: Comparison, titles: tuple[str, str]) -> list[str]:
    """Describe the agreement, the matched communities as a table, and what changed."""
    width = max(60, min(shutil.get_terminal_size().columns, 100))
    first, *others = found.describe()
    alone = [line for line in others if line.endswith("alone")]
    changes = others[len(alone) :]
    matches = found.matches
    runs = "first: {}; second: {}".format(*titles)
    lines = [runs, first, *alone, "  first  second  common  overlap  name"]
    columns = [matches[name].tolist() for name in ("a", "b", "n_common", "jaccard")]
    for a, b, n_common, overlap in list(zip(*columns, strict=True))[:_MOST_LISTED]:
        names = (of.get(c) for of, c in ((found.names_a, a), (found.names_b, b)))
        told = " -> ".join(dict.fromkeys(name for name in names if name))
        start = f"{a:>7}  {b:>6}  {n_common:>6}  {overlap:>7.2f}  "
        lines.append(
            start + textwrap.shorten(told, width - len(start), placeholder=" ...")
        )
    lines += _more(len(columns[0]) - _MOST_LISTED)
    lines += changes[:_MOST_CHANGES] + _more(len(changes) - _MOST_CHANGES)
    return [line.rstrip() for line in lines]


def _more(n: int) -> list[str]:
    return [f"and {n} more"] if n > 0 else []
