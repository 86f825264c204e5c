"""Tell which layers to trust without labels, and what that is worth, by labels.

    python benchmarks/bench_layers.py
    python benchmarks/bench_layers.py trivia.npz layers.npy:labels.npy --null 50

It runs on the activations that come with the package, on files as `bench_agreement.py`
takes them, and on arrays of layers, rows and neurons with an array of labels. For each
data set, it prints

- the correlation, over the layers, of replicability with the adjusted mutual
  information (AMI) between labels and the communities of the layer alone;
- AMI and seconds of the sketch and the clusterer, at resolution 1 and 64 columns a
  layer on the mean: with equal weights, with those of ``layer_weights="auto"``, and
  with exp(2 (r - max r)), r the replicability. They are means over the seeds, and the
  three ways take turns;
- with ``--null N``, in how many of N profiles of permuted columns any layer is said to
  be above its null.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from pathlib import Path
from time import perf_counter
from typing import Any

import numpy as np
from bench_pipeline import describe, environment, markdown_table, read_layers
from sklearn.metrics import adjusted_mutual_info_score

from skleiden import LayerStack, MultiLayerTfidfSketcher, MutualKNNLeiden
from skleiden.datasets import load_prompt_activations
from skleiden.model_selection import layer_profile, permute_columns

WAYS = ("equal", "auto", "exp(2 (r - max r))")


def read(source: str) -> tuple[LayerStack, np.ndarray]:
    """Layers and labels of a file, or of two."""
    if ":" not in source:
        layers, labels = read_layers(source)
        return LayerStack(layers), labels
    of_layers, of_labels = source.rsplit(":", 1)
    layers = np.load(of_layers, mmap_mode="r")
    return LayerStack.from_array(layers, axis=0), np.load(of_labels)


def score(
    stack: LayerStack, labels: np.ndarray, seed: int, **parameters: Any
) -> tuple[float, float, MultiLayerTfidfSketcher]:
    """AMI with the labels, seconds, and the fitted sketcher."""
    start = perf_counter()
    sketcher = MultiLayerTfidfSketcher(random_state=seed, **parameters)
    embedding = sketcher.fit_transform(stack)
    found = MutualKNNLeiden(random_state=seed).fit_predict(embedding)
    seconds = perf_counter() - start
    return adjusted_mutual_info_score(labels, found), seconds, sketcher


def measure(stack: LayerStack, labels: np.ndarray, n_seeds: int) -> dict[str, Any]:
    """All figures of one data set."""
    alone = [
        score(LayerStack([layer]), labels, 0, n_components=256)[0]
        for layer in stack.layers
    ]
    runs: dict[str, list[tuple[float, float]]] = {way: [] for way in WAYS}
    found = []
    for seed in range(n_seeds):
        *equal, _ = score(stack, labels, seed, layer_weights=None)
        *auto, fitted = score(stack, labels, seed, layer_weights="auto")
        r = fitted.layer_replicability_
        *other, _ = score(stack, labels, seed, layer_weights=np.exp(2 * (r - r.max())))
        for way, run in zip(WAYS, (equal, auto, other), strict=True):
            runs[way].append((run[0], run[1]))
        found.append((r, fitted.layer_weights_))
    means = {way: np.mean(of, axis=0).tolist() for way, of in runs.items()}
    replicability, weights = np.mean(found, axis=0)
    return {
        "rows": len(stack),
        "layers": len(stack.layers),
        "alone": alone,
        "replicability": replicability.tolist(),
        "weights": weights.tolist(),
        "correlation": float(np.corrcoef(replicability, alone)[0, 1]),
        "ami": {way: ami for way, (ami, _) in means.items()},
        "seconds": {way: seconds for way, (_, seconds) in means.items()},
    }


def false_alarms(stack: LayerStack, n_runs: int) -> int:
    """In how many profiles of permuted columns a layer is above its null."""
    n = 0
    for seed in range(n_runs):
        permuted = permute_columns(stack, random_state=seed)
        profile = layer_profile(None, permuted, random_state=seed)
        n += bool(profile.table["above_null"].any())
    return n


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("data", nargs="*", metavar="FILE.npz or LAYERS.npy:LABELS.npy")
    parser.add_argument(
        "--rows", type=int, default=4000, help="largest number of rows of each file"
    )
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--null", type=int, default=0, metavar="N")
    parser.add_argument(
        "--null-layers", type=int, default=3, help="most layers of each file"
    )
    parser.add_argument("--output", type=Path, metavar="results.json")
    options = parser.parse_args(arguments)
    packaged = load_prompt_activations()
    data = {"prompts": (packaged.data, packaged.target)}
    for source in options.data:
        data[Path(source.split(":")[0]).stem] = read(source)
    results: dict[str, Any] = {"environment": environment(), "data": {}}
    rows = []
    for name, (stack, labels) in data.items():
        kept = np.random.RandomState(0).permutation(labels.size)[: options.rows]
        some, labels = stack[np.sort(kept)], labels[np.sort(kept)]
        found = measure(some, labels, options.seeds)
        if options.null:
            few = LayerStack(some.layers[: options.null_layers])
            found["alarms"] = false_alarms(few, options.null)
        results["data"][name] = found
        ami, seconds = found["ami"], found["seconds"]
        rows.append(
            [
                name,
                f"{found['rows']:,} x {found['layers']}",
                f"{found['correlation']:.2f}",
                f"{min(found['replicability']):.2f} to "
                f"{max(found['replicability']):.2f}",
                f"{min(found['alone']):.3f} to {max(found['alone']):.3f}",
                *(f"{ami[way]:.3f}" for way in WAYS),
                *(f"{seconds[way]:.2f}" for way in WAYS[:2]),
                *([f"{found['alarms']} of {options.null}"] if options.null else []),
            ]
        )
    header = ["data", "rows x layers", "correlation", "replicability", "AMI of a layer"]
    header += [f"AMI, {way}" for way in WAYS]
    header += [f"seconds, {way}" for way in WAYS[:2]]
    header += ["above the null, permuted"] * bool(options.null)
    print(markdown_table(header, rows))
    print("\n" + describe(results["environment"]))
    if options.output:
        options.output.write_text(json.dumps(results, indent=1))


if __name__ == "__main__":
    main()
