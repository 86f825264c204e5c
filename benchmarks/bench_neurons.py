"""Tell whether other prompts find the same groups of neurons, and what they drive.

    python benchmarks/bench_neurons.py
    python benchmarks/bench_neurons.py trivia.npz layers.npy:labels.npy --rows 2000
    python benchmarks/bench_neurons.py --large

It runs on the activations that come with the package, and on files as `bench_layers.py`
takes them. Half of the prompts, drawn at random, and the other half each find groups of
the neurons of all layers (`LayerStack.neurons`), by the defaults. For each data set and
resolution, it prints these means over the seeds as soon as they are known:

- groups, and neurons in none;
- adjusted mutual information (AMI) of both halves' groups, of neurons that are in one;
  the same where the prompts of each neuron are permuted; and with the neurons' layer;
- for how many labels the strongest effect of a group, on the half that had no part in
  finding it, is above 1 and above 3; the same for random groups of the same sizes.

With ``--large``, 7 layers of 4,096 neurons and 100,000 prompts, 2% active, are planted:
seconds and peak memory of clustering the 28,672 neurons, and as many prompts.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
from collections.abc import Sequence
from pathlib import Path
from time import perf_counter
from typing import Any

import numpy as np
from bench_layers import read
from bench_pipeline import (
    describe,
    environment,
    forget_peak,
    markdown_table,
    peak_mb,
)
from sklearn.metrics import adjusted_mutual_info_score
from sklearn.pipeline import make_pipeline

from skleiden import LayerStack, MultiLayerTfidfSketcher, MutualKNNLeiden
from skleiden.datasets import load_prompt_activations, make_layered_activations
from skleiden.inspection import cross_table
from skleiden.model_selection import permute_columns

RESOLUTIONS = (1.0, 4.0)


def pipeline(seed: int, resolution: float = 1.0) -> Any:
    """Give the default way to groups, for the neurons of a stack."""
    return make_pipeline(
        MultiLayerTfidfSketcher(random_state=seed),
        MutualKNNLeiden(resolution=resolution, random_state=seed),
    )


def agreement(a: np.ndarray, b: np.ndarray) -> float:
    """AMI of two partitions, of what is in a group in both."""
    both = (a >= 0) & (b >= 0)
    return float(adjusted_mutual_info_score(a[both], b[both]))


def n_driven(labels: np.ndarray, groups: np.ndarray, X: LayerStack) -> list[int]:
    """For how many labels the strongest effect of a group is above 1, and above 3."""
    effects = cross_table(labels, groups, X, n_permutations=0).effects
    return [int((effects.max(axis=0) > limit).sum()) for limit in (1, 3)]


def measure(
    stack: LayerStack, labels: np.ndarray, seed: int, resolution: float
) -> list[float]:
    """All figures of one seed."""
    rng = np.random.RandomState(seed)
    order = rng.permutation(len(stack))
    rows = [np.sort(order[::2]), np.sort(order[1::2])]
    find = pipeline(seed, resolution)
    here, there = (find.fit_predict(stack[half].neurons()) for half in rows)
    null = permute_columns(stack, random_state=seed)
    permuted = [find.fit_predict(null[half].neurons()) for half in rows]
    layer = stack.neurons().row_layers
    others, names = stack[rows[1]], labels[rows[1]]
    random = rng.permutation(here)
    return [
        float(here.max() + 1),
        float((here < 0).mean()),
        agreement(here, there),
        agreement(*permuted),
        float(adjusted_mutual_info_score(here, layer)),
        *n_driven(names, here, others),
        *n_driven(names, random, others),
    ]


def large(rows: str, sender: Any) -> None:
    """Cluster the rows of planted layers; sends seconds, and megabytes."""
    stack, *_ = make_layered_activations(
        100_000,
        n_layers=7,
        n_neurons=4096,
        n_communities=50,
        nnz_per_row=82,
        n_neuron_groups=60,
        return_neuron_groups=True,
        random_state=0,
    )
    size = sum(
        part.nbytes
        for layer in stack.layers
        for part in (layer.data, layer.indices, layer.indptr)
    )
    before = forget_peak()
    start = perf_counter()
    X = stack.neurons() if rows == "neurons" else stack[: sum(stack.widths)]
    labels = pipeline(0).fit_predict(X)
    seconds = perf_counter() - start
    sender.send((seconds, size / 1e6, before, peak_mb(), int(labels.max()) + 1))


def compare_large() -> str:
    """Seconds and memory of clustering neurons, and as many prompts."""
    table = []
    for rows in ("neurons", "prompts"):
        receiver, sender = multiprocessing.Pipe(duplex=False)
        child = multiprocessing.get_context("spawn").Process(
            target=large, args=(rows, sender)
        )
        child.start()
        seconds, size, before, peak, n_groups = receiver.recv()
        child.join()
        table.append(
            [
                f"28,672 {rows}",
                f"{seconds:.1f}",
                f"{size:.0f}",
                f"{peak - before:.0f}",
                str(n_groups),
            ]
        )
    return markdown_table(
        ["rows", "seconds", "input, MB", "peak beside it, MB", "groups"], table
    )


HEADER = [
    *("data", "neurons x prompts", "resolution", "groups", "in none"),
    *("AMI of halves", "permuted", "with the layer"),
    *("labels with an effect > 1 / 3", "by random groups"),
]


def table_row(
    name: str, stack: LayerStack, labels: np.ndarray, runs: list[list[float]], at: float
) -> list[str]:
    """Give the means over the seeds of one data set and resolution."""
    n, none, ami, null, layer, *driven = np.mean(runs, axis=0).tolist()
    of = np.unique(labels).size
    return [
        name,
        f"{sum(stack.widths):,} x {len(stack):,}",
        f"{at:g}",
        f"{n:.0f}",
        f"{none:.1%}",
        *(f"{value:.3f}" for value in (ami, null, layer)),
        *(
            f"{above_1:.0f} / {above_3:.0f} of {of}"
            for above_1, above_3 in (driven[:2], driven[2:])
        ),
    ]


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("data", nargs="*", metavar="FILE.npz or LAYERS.npy:LABELS.npy")
    parser.add_argument(
        "--rows", type=int, default=4000, help="largest number of rows of each file"
    )
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--large", action="store_true", help="only planted layers")
    parser.add_argument("--output", type=Path, metavar="results.json")
    options = parser.parse_args(arguments)
    results: dict[str, Any] = {"environment": environment(), "data": {}}
    if options.large:
        print(compare_large())
        print("\n" + describe(results["environment"]))
        return
    packaged = load_prompt_activations()
    data = {"prompts": (packaged.data, packaged.target)}
    for source in options.data:
        data[Path(source.split(":")[0]).stem] = read(source)
    print(markdown_table(HEADER, []), flush=True)
    for name, (stack, labels) in data.items():
        kept = np.random.RandomState(0).permutation(labels.size)[: options.rows]
        some, labels = stack[np.sort(kept)], labels[np.sort(kept)]
        for resolution in RESOLUTIONS:
            runs = [measure(some, labels, s, resolution) for s in range(options.seeds)]
            results["data"][f"{name}, {resolution}"] = runs
            row = table_row(name, some, labels, runs, resolution)
            print(markdown_table(row, []).splitlines()[0], flush=True)
    print("\n" + describe(results["environment"]))
    if options.output:
        options.output.write_text(json.dumps(results, indent=1))


if __name__ == "__main__":
    main()
