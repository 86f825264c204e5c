"""Run ``skleiden profile``: cluster at many resolutions."""

from __future__ import annotations

import argparse
from typing import Any

from skleiden import LayerStack, MutualKNNLeiden, model_selection

from ._input import add_input
from ._options import (
    add_estimators,
    add_jobs,
    add_numbers_of_runs,
    add_rows,
    add_seed,
    arguments_of,
    make_pipeline,
    number,
    number_of_runs,
    one_or_several,
)
from ._output import add_output
from ._profiles import Shown, in_columns, run_profile
from ._progress import LESS_TO_CLUSTER

DESCRIPTION = """\
Find out which resolution to use (the larger, the more communities). Clusters at many
resolutions, several times at each, and tells how well these runs agree (stability), and
how well they agree on data with permuted columns, in which there is nothing to find
(null); 1 if they are the same, about 0 if they agree by chance, "-" if there is nothing
to compare. The best resolution has the most net information (what runs tell of the rows
and others confirm, less what they do not) of those that are above their null. Saves
profile.csv, and a figure (if matplotlib is installed), into a folder with a
manifest.json that names them. Give the best to `skleiden cluster --resolution`.
"""


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add the options of the command."""
    add_input(parser)
    add_output(parser)
    add_rows(parser)
    parser.add_argument(
        "--resolutions",
        type=_resolutions,
        default="20",
        metavar="N or R,R,...",
        help="how many resolutions to try, in a range that is found from the data; or "
        "which ones",
    )
    add_numbers_of_runs(
        parser,
        model_selection.resolution_profile,
        ["n_runs", "n_sketches", "n_permutations"],
    )
    parser.add_argument(
        "--vary",
        choices=["all", "neurons", "prompts"],
        default="all",
        help="what differs between runs: the seeds alone; or also the half of the "
        "neurons that is used or, with --rows neurons, the half of the prompts",
    )
    add_estimators(parser, leave_out=["resolution", "n_clusters"])
    add_seed(parser)
    add_jobs(parser)


def main(options: argparse.Namespace) -> int:
    """Run the command and return its exit code."""

    def sweep(stack: LayerStack, verbose: int) -> model_selection.ResolutionProfile:
        return model_selection.resolution_profile(
            make_pipeline(options, n_jobs=None, verbose=verbose),
            stack.neurons() if options.rows == "neurons" else stack,
            verbose=verbose,
            **arguments_of(options, model_selection.resolution_profile),
        )

    names = ["profile.csv", "profile.png"]
    return run_profile(options, names, ("Sweep", LESS_TO_CLUSTER), sweep, _shown)


def _shown(
    profile: model_selection.ResolutionProfile, columns: dict[str, list[Any]]
) -> Shown:
    names = ("resolution", "n_clusters", "stability", "null", "net_information")
    rows = zip(*(columns[name] for name in names), strict=True)
    levels = ", ".join(f"{level:.3g}" for level in profile.levels) or "none"
    return Shown(
        {},
        {"levels": profile.levels},
        [*in_columns(names, rows), f"Levels, of locally highest stability: {levels}"],
        lambda best: f"Best, by net information: --resolution {best:.3g}",
    )


def _resolutions(text: str) -> Any:
    """Read the number of resolutions, or the resolutions."""
    bounds = MutualKNNLeiden._parameter_constraints["resolution"]
    found = one_or_several(number(bounds))(text)
    if isinstance(found, float):
        return number_of_runs(2)(f"{found:.0f}") if found.is_integer() else [found]
    return found


_resolutions.__name__ = "float or list of float"  # argparse's "invalid float value"
