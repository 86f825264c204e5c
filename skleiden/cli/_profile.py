"""``skleiden profile``: a sweep of the resolution, on a user's files."""

from __future__ import annotations

import argparse
import json
import warnings
from typing import Any

from skleiden import MutualKNNLeiden, model_selection
from skleiden.io._communities import jsonable
from skleiden.io._csv import as_csv

from ._input import LESS_TO_LOAD, add_input, load
from ._options import (
    add_estimators,
    add_jobs,
    add_numbers_of_runs,
    add_seed,
    make_pipeline,
    number,
    number_of_runs,
    one_or_several,
)
from ._output import add_output, run_of, try_figure
from ._progress import LESS_TO_CLUSTER, Stages
from ._workers import workers_end_with_us

DESCRIPTION = """\
Sweep the resolution, and tell what can be relied on at each: how well runs with other
seeds, or by other neurons, agree, and how well on permuted data. Saves profile.csv, and
a figure (if matplotlib is installed), into a folder with a manifest.json that names
them, as `skleiden cluster` does.
"""


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add the options of the command."""
    add_input(parser)
    add_output(parser)
    parser.add_argument(
        "--resolutions",
        type=_resolutions,
        default="20",
        metavar="N or R,R,...",
        help="how many, over a range that is found; or which",
    )
    add_numbers_of_runs(
        parser,
        model_selection.resolution_profile,
        ["n_runs", "n_sketches", "n_permutations"],
    )
    parser.add_argument(
        "--vary",
        choices=["all", "neurons"],
        default="all",
        help="what differs between graphs: seeds, or the half of the neurons seen",
    )
    add_estimators(parser, leave_out=["resolution"])
    add_seed(parser)
    add_jobs(parser)


def main(options: argparse.Namespace) -> int:
    """Run the command and return its exit code."""
    stage = Stages(quiet=options.quiet, bars=True)
    with workers_end_with_us(), run_of(options, "profile.csv", "profile.png") as run:
        with stage("Load", LESS_TO_LOAD):
            stack = load(options)
        with (
            stage("Sweep", LESS_TO_CLUSTER),
            warnings.catch_warnings(record=True) as told,
        ):
            warnings.simplefilter("always")
            profile = model_selection.resolution_profile(
                make_pipeline(options, n_jobs=None, verbose=stage.verbose),
                stack,
                resolutions=options.resolutions,
                n_runs=options.n_runs,
                n_sketches=options.n_sketches,
                vary=options.vary,
                n_permutations=options.n_permutations,
                n_jobs=options.n_jobs,
                random_state=options.random_state,
                verbose=stage.verbose,
            )
        with stage("Save"):
            columns = {name: column.tolist() for name, column in profile.table.items()}
            run.write("profile.csv", as_csv(columns))
            # A part of what was asked for is kept, and replaces no whole run.
            run.finished = not any(
                str(one.message).startswith("Interrupted") for one in told
            )
            missing = try_figure(run, "profile", profile.plot)
    for one in told:
        warnings.warn(one.message, one.category, stacklevel=1)
    try:
        best, reason = profile.best(), None
    except ValueError as error:
        best, reason = None, str(error)
    if options.json:
        result = {
            "table": columns,
            "levels": profile.levels,
            "best": best,
            "saved": run.saved,
            "not_saved": missing,
        }
        print(json.dumps(jsonable(result)))
    else:
        names = ("resolution", "n_clusters", "stability", "null", "net_information")
        print("  ".join(f"{name:>15}" for name in names))
        for row in zip(*(columns[name] for name in names), strict=True):
            print("  ".join(f"{value:>15.3g}" for value in row))
        levels = ", ".join(f"{level:.3g}" for level in profile.levels) or "none"
        print(f"Levels, of locally highest stability: {levels}")
        if best is None:
            print(f"Best: none. {reason}")
        else:
            print(f"Best, by net information: --resolution {best:.3g}")
        for line in missing:
            print(line)
        print(f"Saved: {', '.join(run.saved)}")
    # Whoever asked for the whole of it must know.
    return 0 if run.finished else 130


def _resolutions(text: str) -> Any:
    """Read how many resolutions, or which."""
    bounds = MutualKNNLeiden._parameter_constraints["resolution"]
    found = one_or_several(number(bounds))(text)
    if isinstance(found, float):
        return number_of_runs(2)(f"{found:.0f}") if found.is_integer() else [found]
    return found


_resolutions.__name__ = "float or list of float"  # argparse's "invalid float value"
