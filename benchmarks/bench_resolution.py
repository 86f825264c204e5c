"""Measure what choosing the resolution without labels is worth, and what it costs.

    python benchmarks/bench_resolution.py choice prompts digits activations.npz
    python benchmarks/bench_resolution.py cost
    python benchmarks/bench_resolution.py cost --quick

`choice` profiles each data set by `skleiden.model_selection.resolution_profile`, lets
each rule choose a resolution without seeing the labels, and prints the adjusted mutual
information (AMI) with the labels there as a share of the best AMI at any resolution
tried. A data set is

- "prompts", the activations that come with skleiden;
- "digits" and "wine", which come with scikit-learn;
- "fashion", 10,000 images of clothing, from the Debian package dataset-fashion-mnist;
- "planted-6", or another number: so many communities planted in 3,000 synthetic rows;
- an npz file of labelled activations, of the form that `bench_agreement.py` describes.

Activations are sketched with each of some weightings and numbers of columns; other data
are clustered as they are, so that only the seed of Leiden can vary.

`cost` times, in turn, one fit of the pipeline, one run of Leiden on its graph, and a
sweep of 12 resolutions with 5 runs each, without a null; and, once, the same sweep by a
grid search that caches nothing.
"""

from __future__ import annotations

import argparse
import gzip
import json
import sys
from collections.abc import Iterator, Sequence
from itertools import product
from pathlib import Path
from statistics import median
from time import perf_counter
from typing import Any

import numpy as np
from bench_pipeline import describe, environment, markdown_table, read_layers
from sklearn.metrics import adjusted_mutual_info_score
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline

from skleiden import LayerStack, MultiLayerTfidfSketcher, MutualKNNLeiden
from skleiden.model_selection import (
    FullDataSplit,
    make_stability_scorer,
    resolution_profile,
    select_stable,
)

RESOLUTIONS = [0.1, 0.3, 0.5, 1.0, 2.0, 4.0, 8.0, 16.0, 50.0]
RULES = ("informative", "stable", "finest_stable")
FASHION = Path("/usr/share/datasets/fashion-mnist")


# ------------------------------------------------------------------------------ choice


def read_idx(path: Path) -> np.ndarray:
    """Read an array in the form of the MNIST files."""
    content = gzip.decompress(path.read_bytes())
    n_dimensions = content[3]
    shape = np.frombuffer(content, dtype=">i4", count=n_dimensions, offset=4)
    return np.frombuffer(content, dtype=np.uint8, offset=4 + 4 * n_dimensions).reshape(
        shape
    )


def read_fashion(parts: Sequence[str]) -> tuple[np.ndarray, np.ndarray]:
    """Images of clothing as rows, and their ten kinds, of "train" and "t10k"."""
    images, labels = (
        np.concatenate(
            [read_idx(FASHION / f"{part}-{kind}-ubyte.gz") for part in parts]
        )
        for kind in ("images-idx3", "labels-idx1")
    )
    return images.reshape(len(images), -1).astype(np.float32), labels


def load(name: str) -> tuple[LayerStack | np.ndarray, np.ndarray]:
    """Layers or vectors of a data set, and its labels."""
    if name == "prompts":
        from skleiden.datasets import load_prompt_activations

        return load_prompt_activations(return_X_y=True)
    if name == "digits":
        from sklearn.datasets import load_digits

        return load_digits(return_X_y=True)
    if name == "wine":
        from sklearn.datasets import load_wine
        from sklearn.preprocessing import scale

        X, labels = load_wine(return_X_y=True)
        return scale(X), labels
    if name.startswith("planted-"):
        from skleiden.datasets import make_layered_activations

        return make_layered_activations(
            3000, n_communities=int(name[8:]), signal=0.5, random_state=0
        )
    if name == "fashion":
        return read_fashion(["t10k"])
    layers, labels = read_layers(name)
    # Sparse storage of layers without zeros would only be slow.
    full = [x.nnz == x.shape[0] * x.shape[1] for x in layers]
    return LayerStack(
        [x.toarray() if is_full else x for x, is_full in zip(layers, full, strict=True)]
    ), labels


def settings(
    X: LayerStack | np.ndarray, weightings: Sequence[str], columns: Sequence[int]
) -> Iterator[tuple[str, int | None, int, Any]]:
    """Weighting, columns a layer, number of sketches and estimator of each profile."""
    if not isinstance(X, LayerStack):
        yield "none", None, 1, MutualKNNLeiden()
        return
    for weighting, n_components, n_sketches in product(weightings, columns, (5, 1)):
        sketcher = MultiLayerTfidfSketcher(n_components, weighting=weighting)
        yield (
            weighting,
            n_components,
            n_sketches,
            make_pipeline(sketcher, MutualKNNLeiden()),
        )


def unguarded(profile: Any) -> float:
    """Choose by the highest mean ARI alone, as many do: neither guard nor null."""
    from skleiden.model_selection import consensus

    table = profile.table["resolution"].tolist()
    return max(table, key=lambda r: consensus(profile.partitions(r)).stability)


def choose(
    name: str, weightings: Sequence[str], columns: Sequence[int], n_jobs: int
) -> list[dict[str, Any]]:
    """AMI reached by each rule, for each setting of one data set."""
    X, labels = load(name)
    found = []
    for weighting, n_components, n_sketches, estimator in settings(
        X, weightings, columns
    ):
        profile = resolution_profile(
            estimator,
            X,
            resolutions=RESOLUTIONS,
            n_sketches=n_sketches,
            n_permutations=1,
            n_jobs=n_jobs,
        )
        ami = {
            r: float(
                np.mean(
                    [
                        adjusted_mutual_info_score(labels, run)
                        for run in profile.partitions(r)
                    ]
                )
            )
            for r in RESOLUTIONS
        }
        chosen = {rule: profile.best(rule) for rule in RULES}
        chosen["unguarded"] = unguarded(profile)
        found.append(
            {
                "data": Path(name).stem,
                "weighting": weighting,
                "n_components": n_components,
                "n_sketches": n_sketches,
                "best": max(ami.values()),
                "chosen": chosen,
                "share": {
                    rule: ami[r] / max(ami.values()) for rule, r in chosen.items()
                },
                "ami": ami,
                "levels": profile.levels,
                "table": {
                    column: values.tolist() for column, values in profile.table.items()
                },
            }
        )
        print(json.dumps(found[-1]["share"]), file=sys.stderr)
    return found


def choice_table(found: Sequence[dict[str, Any]]) -> str:
    """Share of the best AMI, and the resolution chosen, for each rule."""
    rules = list(found[0]["chosen"])
    rows: list[list[Any]] = [
        [entry[key] for key in ("data", "weighting", "n_components", "n_sketches")]
        + [f"{entry['best']:.3f}"]
        + [f"{entry['share'][rule]:.3f} ({entry['chosen'][rule]:g})" for rule in rules]
        for entry in found
    ]
    for name, pick in (("mean", np.mean), ("lowest", np.min)):
        shares = [pick([entry["share"][rule] for entry in found]) for rule in rules]
        rows.append([name, None, None, None, None, *(f"{x:.3f}" for x in shares)])
    return markdown_table(
        ["data", "weighting", "a layer", "sketches", "best AMI", *rules], rows
    )


# -------------------------------------------------------------------------------- cost


def cost(
    n_rows: int, repeats: int, n_jobs: int, *, search: bool, n_resolutions: int = 12
) -> dict[str, Any]:
    """Seconds of a fit, of a run of Leiden, and of the sweep."""
    from skleiden.datasets import make_layered_activations

    stack, _ = make_layered_activations(
        n_rows, n_layers=7, n_communities=20, random_state=0
    )
    pipeline = make_pipeline(
        MultiLayerTfidfSketcher(random_state=0), MutualKNNLeiden(random_state=0)
    )
    grid = np.geomspace(0.1, 20, n_resolutions).tolist()
    pipeline.fit(stack)  # imports and first calls are nobody's time
    runs = []
    for _ in range(repeats):
        start = perf_counter()
        pipeline.fit(stack)
        fitted = perf_counter()
        profile = resolution_profile(
            pipeline, stack, resolutions=grid, n_permutations=0, n_jobs=n_jobs
        )
        swept = perf_counter()
        one = float(profile.table["seconds"].sum()) / (5 * len(grid))
        bound = fitted - start + 5 * len(grid) * one / n_jobs * 1.3
        runs.append(
            {
                "fit": fitted - start,
                "Leiden, one run": one,
                "sweep": swept - fitted,
                "sweep / fit": (swept - fitted) / (fitted - start),
                "sweep / (fit + runs x Leiden / n_jobs x 1.3)": (swept - fitted)
                / bound,
            }
        )
        print(runs[-1], file=sys.stderr)
    medians = {name: median(run[name] for run in runs) for name in runs[0]}
    if search:
        start = perf_counter()
        GridSearchCV(
            pipeline,
            {"mutualknnleiden__resolution": grid},
            scoring=make_stability_scorer(),
            cv=FullDataSplit(),
            refit=select_stable(),
            n_jobs=n_jobs,
        ).fit(stack)
        medians["grid search, no cache"] = perf_counter() - start
        medians["grid search / sweep"] = (
            medians["grid search, no cache"] / medians["sweep"]
        )
    return {"rows": n_rows, "repeats": repeats, "medians": medians, "runs": runs}


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--output", type=Path, help="write the results here, as JSON")
    parser.add_argument("--n-jobs", type=int, default=2)
    parts = parser.add_subparsers(dest="part", required=True)
    choice = parts.add_parser("choice", help="rules against labels")
    choice.add_argument("data", nargs="+")
    choice.add_argument("--weighting", nargs="+", default=["idf", "zscore"])
    choice.add_argument("--n-components", nargs="+", type=int, default=[64, 256])
    costs = parts.add_parser("cost", help="seconds of a sweep")
    costs.add_argument("--rows", type=int, default=20_000)
    costs.add_argument("--repeats", type=int, default=5)
    costs.add_argument("--quick", action="store_true", help="1,000 rows, one run")
    options = parser.parse_args(arguments)

    results: dict[str, Any] = {"environment": environment()}
    if options.part == "choice":
        results["choice"] = [
            entry
            for name in options.data
            for entry in choose(
                name, options.weighting, options.n_components, options.n_jobs
            )
        ]
        print(choice_table(results["choice"]))
    else:
        rows, repeats = (1000, 1) if options.quick else (options.rows, options.repeats)
        results["cost"] = cost(rows, repeats, options.n_jobs, search=True)
        print(
            markdown_table(
                ["", f"{rows:,} rows, medians of {repeats}"],
                list(results["cost"]["medians"].items()),
            )
        )
    print("\n" + describe(results["environment"]))
    if options.output:
        options.output.write_text(json.dumps(results, indent=2) + "\n")


if __name__ == "__main__":
    main()
