"""``skleiden layers``: which layers have communities, on a user's files."""

from __future__ import annotations

import argparse
import json
import warnings

from skleiden import model_selection
from skleiden.io._communities import jsonable
from skleiden.io._csv import as_csv

from ._input import LESS_TO_LOAD, add_input, load
from ._options import (
    add_estimators,
    add_jobs,
    add_numbers_of_runs,
    add_parameters,
    add_seed,
    make_pipeline,
)
from ._output import add_output, run_of, try_figure
from ._progress import Stages
from ._workers import workers_end_with_us

DESCRIPTION = """\
Tell of each layer whether two halves of its neurons find the same communities, and
whether they do on permuted columns; and which weights layers should have. Saves
layers.csv, agreement.csv (how far each two layers find the same communities), and a
figure (if matplotlib is installed), into a folder with a manifest.json that names them,
as `skleiden cluster` does.
"""

LESS_TO_COMPARE = "lower --n-rows"


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add the options of the command."""
    add_input(parser)
    add_output(parser)
    profile = model_selection.layer_profile
    add_parameters(parser, profile, ["n_rows"])
    add_numbers_of_runs(parser, profile, ["n_splits", "n_permutations"])
    add_estimators(
        parser,
        only=["weighting", "smooth_idf", "power", "center", "zero_tol", "batch_size"],
    )
    add_seed(parser)
    add_jobs(parser)


def main(options: argparse.Namespace) -> int:
    """Run the command and return its exit code."""
    stage = Stages(quiet=options.quiet, bars=True)
    names = ("layers.csv", "agreement.csv", "layers.png")
    with workers_end_with_us(), run_of(options, *names) as run:
        with stage("Load", LESS_TO_LOAD):
            stack = load(options)
        with (
            stage("Compare", LESS_TO_COMPARE),
            warnings.catch_warnings(record=True) as told,
        ):
            warnings.simplefilter("always")
            profile = model_selection.layer_profile(
                make_pipeline(options, n_jobs=options.n_jobs, verbose=stage.verbose)[0],
                stack,
                n_rows=options.n_rows,
                n_splits=options.n_splits,
                n_permutations=options.n_permutations,
                n_jobs=options.n_jobs,
                random_state=options.random_state,
                verbose=stage.verbose,
            )
        with stage("Save"):
            columns = {name: column.tolist() for name, column in profile.table.items()}
            run.write("layers.csv", as_csv(columns))
            agreement = dict(zip(columns["layer"], profile.agreement.T, strict=True))
            agreement = {name: column.tolist() for name, column in agreement.items()}
            run.write("agreement.csv", as_csv({"": columns["layer"], **agreement}))
            # A part of what was asked for is kept, and replaces no whole run.
            run.finished = not any(
                str(one.message).startswith("Interrupted") for one in told
            )
            missing = try_figure(run, "layers", profile.plot)
    for one in told:
        warnings.warn(one.message, one.category, stacklevel=1)
    try:
        best, reason = profile.best(), None
    except ValueError as error:
        best, reason = None, str(error)
    if options.json:
        result = {
            "table": columns,
            "agreement": agreement,
            "best": best,
            "saved": run.saved,
            "not_saved": missing,
        }
        print(json.dumps(jsonable(result)))
        return 0 if run.finished else 130
    shown = ("replicability", "null", "n_communities", "weight")
    widest = max(5, *(len(name) for name in columns["layer"]))
    print("  ".join([f"{'layer':{widest}}", *(f"{name:>13}" for name in shown)]))
    for name, *row in zip(
        columns["layer"], *(columns[name] for name in shown), strict=True
    ):
        print("  ".join([f"{name:{widest}}", *(f"{value:>13.3g}" for value in row)]))
    if best is None:
        print(f"Best: none. {reason}")
    else:
        weights = ",".join(f"{weight:g}" for weight in columns["weight"])
        print(f"Best: {best}. Of all layers: --layer-weights {weights}")
    for line in missing:
        print(line)
    print(f"Saved: {', '.join(run.saved)}")
    # Whoever asked for the whole of it must know.
    return 0 if run.finished else 130
