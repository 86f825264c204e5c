"""Run ``skleiden layers``: tell which layers have communities."""

from __future__ import annotations

import argparse
from typing import Any

from skleiden import LayerStack, model_selection

from ._input import add_input
from ._options import (
    add_estimators,
    add_jobs,
    add_numbers_of_runs,
    add_parameters,
    add_seed,
    arguments_of,
    make_pipeline,
)
from ._output import add_output
from ._profiles import Shown, in_columns, run_profile

DESCRIPTION = """\
Find out which layers to use. Tells of each layer whether two halves of its neurons find
the same communities (replicability: what one half tells of those of the other, less
what it does not, in nats; the larger, the better), whether they do so on permuted
columns, in which there is nothing to find (null), and which weight the layer should
have. Where all are alike, use all. Saves layers.csv, agreement.csv (how far each two
layers find the same communities), and a figure (if matplotlib is installed), into a
folder with a manifest.json that names them.
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

    def compare(stack: LayerStack, verbose: int) -> model_selection.LayerProfile:
        return model_selection.layer_profile(
            make_pipeline(options, n_jobs=options.n_jobs, verbose=verbose)[0],
            stack,
            verbose=verbose,
            **arguments_of(options, model_selection.layer_profile),
        )

    names = ["layers.csv", "agreement.csv", "layers.png"]
    return run_profile(options, names, ("Compare", LESS_TO_COMPARE), compare, _shown)


def _shown(
    profile: model_selection.LayerProfile, columns: dict[str, list[Any]]
) -> Shown:
    layers = columns["layer"]
    agreement = dict(zip(layers, profile.agreement.T.tolist(), strict=True))
    names = ("replicability", "null", "n_communities", "weight")
    widest = max(5, *(len(name) for name in layers))
    rows = zip(*(columns[name] for name in names), strict=True)
    lines = [
        f"{layer:{widest}}  {row}"
        for layer, row in zip(["layer", *layers], in_columns(names, rows), strict=True)
    ]
    weights = ",".join(f"{weight:g}" for weight in columns["weight"])
    return Shown(
        {"agreement.csv": {"": layers, **agreement}},
        {"agreement": agreement},
        lines,
        lambda best: f"Best: --layers {best}. Of all layers: --layer-weights {weights}",
    )
