"""Compare choices without labels, by seeds and by neurons, with the labels.

    python benchmarks/bench_choice.py prompts trivia.npz evals.npz smol.npz --rows 4000
    python benchmarks/bench_choice.py prompts --quick

For every combination of weighting, power, weights of layers and number of neighbours,
`skleiden.model_selection.resolution_profile` sweeps some resolutions, with one graph
for each run, and again for each of three kinds of `vary`:

- "seeds": runs differ in their random states alone (``vary="all"``);
- "neurons": each run sees half of each layer's neurons, and random states are the same;
- "both": both differ.

Runs 0 and 1, 2 and 3 see disjoint halves; the others overlap by half. "disjoint" scores
the former pairs alone. Each score of a candidate, that is of one combination at one
resolution, is the shared information, the net information or the stability of its
pairs; the rule takes the candidate with the highest score among those that are not
degenerate. Its AMI (adjusted mutual information with the labels) is the mean over fits
on all neurons with the same number of seeds. The table shows the AMI of the default at
resolution 1, of the best candidate by labels, and of each choice; and in brackets the
rank correlation of each score with the AMI, over all candidates that are not
degenerate.

A data set is "prompts", the activations that come with skleiden, or an npz file of the
form that `bench_agreement.py` describes.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterator, Sequence
from itertools import combinations, product
from pathlib import Path
from typing import Any

import numpy as np
from bench_pipeline import describe, environment, markdown_table
from bench_resolution import load
from scipy.stats import spearmanr
from sklearn.metrics import adjusted_mutual_info_score
from sklearn.pipeline import make_pipeline

from skleiden import MultiLayerTfidfSketcher, MutualKNNLeiden
from skleiden.model_selection import ResolutionProfile, resolution_profile
from skleiden.model_selection._runs import Guard, Run, summarize_run
from skleiden.model_selection._scorers import information

N_RUNS = 4
RESOLUTIONS = [0.5, 1.0, 2.0, 4.0, 8.0, 16.0]
VARY: dict[str, Any] = {
    "seeds": "all",
    "neurons": "neurons",
    "both": ["all", "neurons"],
}
PAIRS = list(combinations(range(N_RUNS), 2))
DISJOINT = [one % 2 == 0 and other == one + 1 for one, other in PAIRS]


def candidates(n_layers: int, quick: bool) -> Iterator[tuple[dict[str, Any], int]]:
    """Parameters of the sketcher, and numbers of neighbours, the default first.

    Layers have the weights that are found, equal ones, or such as rise tenfold over
    their depth.
    """
    sketches = [
        ("auto", False, 1.0),
        ("auto", True, 1.0),
        ("auto", True, 0.5),
        ("zscore", False, 1.0),
        ("zscore", False, 0.5),
    ]
    weights: list[Any] = ["auto", None, np.geomspace(0.1, 1, n_layers).tolist()]
    for (weighting, center, power), of_layers, k in product(
        sketches[:2] if quick else sketches, weights, [40, 15]
    ):
        parameters = {"weighting": weighting, "center": center, "power": power}
        yield parameters | {"layer_weights": of_layers}, k


def scores(runs: Sequence[Run]) -> dict[str, float]:
    """Each score of some runs of one candidate; -inf where one is degenerate."""
    guard = Guard()
    bad = any(map(guard.is_degenerate, runs))
    of_pairs = {
        "shared information": information(runs, "shared_information"),
        "net information": information(runs),
        "stability": guard.scores(runs),
    }
    masks = {"": np.ones(len(PAIRS), dtype=bool), ", disjoint": np.array(DISJOINT)}
    return {
        rule + name: -np.inf if bad else float(pairs[mask].mean())
        for rule, pairs in of_pairs.items()
        for name, mask in masks.items()
    }


def profile(pipeline: Any, X: Any, vary: Any) -> ResolutionProfile:
    """Sweep the resolutions, with one graph for each run."""
    return resolution_profile(
        pipeline,
        X,
        resolutions=RESOLUTIONS,
        n_runs=N_RUNS,
        n_sketches=N_RUNS,
        n_permutations=0,
        vary=vary,
    )


def measure(X: Any, labels: np.ndarray, quick: bool) -> list[dict[str, Any]]:
    """Score every candidate, and compare it with the labels."""
    found = []
    for parameters, k in candidates(len(X.layers), quick):
        pipeline = make_pipeline(
            MultiLayerTfidfSketcher(**parameters), MutualKNNLeiden(k)
        )
        profiles = {name: profile(pipeline, X, vary) for name, vary in VARY.items()}
        for resolution in RESOLUTIONS:
            parts = {name: p.partitions(resolution) for name, p in profiles.items()}
            entry: dict[str, Any] = parameters | {"k": k, "resolution": resolution}
            entry["ami"] = float(
                np.mean(
                    [adjusted_mutual_info_score(labels, one) for one in parts["seeds"]]
                )
            )
            for name, runs in parts.items():
                of_runs = scores([summarize_run(run) for run in runs])
                entry |= {f"{name}: {rule}": value for rule, value in of_runs.items()}
            found.append(entry)
        print(parameters, k, f"{entry['ami']:.3f}", file=sys.stderr, flush=True)
    return found


def choices(found: Sequence[dict[str, Any]]) -> dict[str, dict[str, Any]]:
    """Tell what each score chooses, and its rank correlation with the AMI."""
    ami = np.array([entry["ami"] for entry in found])
    chosen: dict[str, dict[str, Any]] = {}
    for name in (key for key in found[0] if ": " in key):
        score = np.array([entry[name] for entry in found])
        best = found[int(np.argmax(score))]
        usable = np.isfinite(score)
        chosen[name] = {
            "ami": best["ami"],
            "correlation": float(spearmanr(score[usable], ami[usable]).statistic),
            "at": {key: best[key] for key in list(best)[: list(best).index("ami")]},
        }
    return chosen


def report(results: dict[str, Any]) -> str:
    """Show, for each score, the AMI of its choice and its correlation, by data set."""
    data = results["data"]
    names = [one["name"] for one in data]
    rows = [
        ["default, resolution 1", *(f"{one['default']:.3f}" for one in data)],
        ["best by labels", *(f"{one['best']:.3f}" for one in data)],
    ]
    for score in data[0]["chosen"]:
        cells = [one["chosen"][score] for one in data]
        rows.append(
            [
                score,
                *(f"{cell['ami']:.3f} ({cell['correlation']:.2f})" for cell in cells),
            ]
        )
    for row in rows:
        row.append(f"{np.mean([float(cell.split()[0]) for cell in row[1:]]):.3f}")
    table = markdown_table(["AMI (rank correlation)", *names, "mean"], rows)
    return f"{table}\n\n{describe(results['environment'])}"


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("data", nargs="+", help='"prompts" or npz files')
    parser.add_argument("--rows", type=int, help="number of random rows (all)")
    parser.add_argument("--quick", action="store_true", help="a small grid, 600 rows")
    parser.add_argument("--output", type=Path, help="write the results here, as JSON")
    options = parser.parse_args(arguments)
    n_rows = options.rows or (600 if options.quick else None)
    results: dict[str, Any] = {"environment": environment(), "data": []}
    for name in options.data:
        try:
            X, labels = load(name)
        except (OSError, ValueError) as error:
            parser.error(str(error))
        rows = np.random.default_rng(0).permutation(len(labels))[:n_rows]
        found = measure(X[np.sort(rows)], labels[np.sort(rows)], options.quick)
        default = next(entry for entry in found if entry["resolution"] == 1)
        results["data"].append(
            {
                "name": Path(name).stem,
                "default": default["ami"],
                "best": max(entry["ami"] for entry in found),
                "chosen": choices(found),
                "candidates": found,
            }
        )
        if options.output:
            options.output.write_text(json.dumps(results, indent=2) + "\n")
    print(report(results))


if __name__ == "__main__":
    main()
