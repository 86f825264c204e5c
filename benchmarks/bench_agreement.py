"""Compare partitions of real, labelled activations with their labels.

    python benchmarks/bench_agreement.py activations.npz
    python benchmarks/bench_agreement.py activations.npz --n-components 64 256
    python benchmarks/bench_agreement.py activations.npz --permute 5 --output out.json

The file is an npz archive of one CSR matrix per layer, rows shared, and one label per
row:

- `layer_0_data`, `layer_0_indices`, `layer_0_indptr`, `layer_0_shape`: the parts of the
  first layer's matrix, (n_samples, n_neurons); the data may be float16, the indices
  any integers; then `layer_1_data` and so on;
- `labels`: (n_samples,) integers. Other arrays are ignored.

`bench_pipeline.write_layers` writes such a file.

It prints the adjusted mutual information (AMI) with the labels, as the mean over the
seeds; each seed has its own sketch and its own run of Leiden. The columns are the
notebook's recipe; skleiden on the recipe's own embedding and on that of its own sketch,
which has other hashes, with small communities left as they are; and skleiden with the
members of communities under 5 (the default) and under 10 given to their most similar
community. With `zscore`, the recipe's TF-IDF is replaced by the obvious alternative:
every column of a dense matrix is standardised.

With `--permute N`, the rows are also shuffled N times and clustered by exact
neighbours with the same `random_state`. The adjusted Rand index (ARI) with the labels
of the unshuffled rows is set beside the ARI between different seeds.

With `--taken`, there are columns for other powers of the values and for centred ones.

With `--predict`, the fitted rows are predicted, with the votes of all rows and with
their own vote removed, and the share that gets its label is printed.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from itertools import product
from pathlib import Path
from typing import Any

import notebook_recipe as recipe
import numpy as np
import scipy.sparse as sp
from bench_pipeline import describe, environment, markdown_table, read_layers
from sklearn.metrics import adjusted_mutual_info_score, adjusted_rand_score

from skleiden import (
    FaissKNeighborsTransformer,
    LayerStack,
    MultiLayerTfidfSketcher,
    MutualKNNLeiden,
)

SAME_EMBEDDING = "keep, the notebook's embedding"
KEEP = {"small_clusters": "keep", "min_cluster_size": 1}
SMALL_COMMUNITIES = {
    "keep": KEEP,
    "attach 5": {"small_clusters": "attach", "min_cluster_size": 5},
    "attach 10": {"small_clusters": "attach", "min_cluster_size": 10},
}
# Other ways to take the values, each with the default treatment of small communities.
TAKEN: dict[str, dict[str, Any]] = {
    "power 0.5": {"power": 0.5},
    "power 0": {"power": 0.0},
    "center": {"center": True},
    "power 0.5, center": {"power": 0.5, "center": True},
    "power 0, center": {"power": 0.0, "center": True},
}


def standardised_sketch(
    layers: Sequence[sp.csr_array], *, rp_dim: int, seed: int
) -> np.ndarray:
    """Embed like `notebook_recipe.sketch`, with dense z-scores in place of TF-IDF."""
    rng = np.random.RandomState(seed)
    blocks = []
    for layer in layers:
        x = layer.toarray()
        deviation = x.std(axis=0)
        x -= x.mean(axis=0)
        x /= np.where(deviation > 0, deviation, 1)
        buckets, signs = recipe.draw_hashes(rng, x.shape[1], rp_dim)
        projection = np.zeros((x.shape[1], rp_dim), dtype=np.float32)
        projection[np.arange(x.shape[1]), buckets] = signs
        blocks.append(recipe.unit_rows(x @ projection))
    return recipe.join_layers(blocks)


def skleiden_sketch(
    stack: LayerStack, *, weighting: str, n_components: int, seed: int, **taken: Any
) -> np.ndarray:
    """Embed by skleiden, with equal layers, as the recipe does."""
    return MultiLayerTfidfSketcher(
        n_components,
        layer_weights=None,
        weighting=weighting,
        random_state=seed,
        **taken,
    ).fit_transform(stack)


def compare(
    layers: Sequence[sp.csr_array],
    labels: np.ndarray,
    *,
    weighting: str,
    n_components: int,
    resolutions: Sequence[float],
    n_neighbors: int,
    seed: int,
    taken: bool,
) -> list[dict[str, Any]]:
    """Score the recipe and each form of skleiden at each resolution, for one seed."""
    embed = standardised_sketch if weighting == "zscore" else recipe.sketch
    embedding = embed(layers, rp_dim=n_components, seed=seed)
    edges = recipe.mutual_edges(recipe.neighbors(embedding, k=n_neighbors))
    partitions = {
        (resolution, "notebook"): recipe.leiden(
            edges, len(embedding), resolution=resolution, seed=seed
        )[0]
        for resolution in resolutions
    }
    settings: dict[str, Any] = {
        "weighting": weighting,
        "n_components": n_components,
        "seed": seed,
    }
    stack = LayerStack(layers)
    own = skleiden_sketch(stack, **settings)
    forms = {SAME_EMBEDDING: (embedding, KEEP)}
    forms |= {name: (own, small) for name, small in SMALL_COMMUNITIES.items()}
    for name, how in TAKEN.items() if taken else ():
        forms[name] = skleiden_sketch(stack, **settings, **how), {}
    for resolution, (name, (vectors, small)) in product(resolutions, forms.items()):
        model = MutualKNNLeiden(
            n_neighbors,
            hubness=None,
            resolution=resolution,
            random_state=seed,
            **small,
        )
        partitions[resolution, name] = model.fit_predict(vectors)
    return [
        {
            "weighting": weighting,
            "n_components": n_components,
            "resolution": resolution,
            "method": method,
            "seed": seed,
            "ami": float(adjusted_mutual_info_score(labels, found)),
            "n_communities": int(np.unique(found[found >= 0]).size),
            "n_noise": int(np.sum(found < 0)),
        }
        for (resolution, method), found in partitions.items()
    ]


def permutation_effect(
    layers: Sequence[sp.csr_array],
    *,
    weighting: str,
    n_components: int,
    resolution: float,
    n_neighbors: int,
    n_permutations: int,
) -> dict[str, list[float]]:
    """ARI with one partition after shuffling the rows and after changing the seeds."""
    stack = LayerStack(layers)

    def partition(stack: LayerStack, sketch_seed: int, leiden_seed: int) -> np.ndarray:
        embedding = skleiden_sketch(
            stack, weighting=weighting, n_components=n_components, seed=sketch_seed
        )
        return MutualKNNLeiden(
            n_neighbors,
            algorithm="exact",
            resolution=resolution,
            random_state=leiden_seed,
        ).fit_predict(embedding)

    base = partition(stack, 0, 0)
    effect: dict[str, list[float]] = {
        "rows permuted": [],
        "Leiden seed changed": [],
        "both seeds changed": [],
    }
    for number in range(1, n_permutations + 1):
        order = np.random.default_rng(number).permutation(len(base))
        restored = np.empty_like(base)
        restored[order] = partition(stack[order], 0, 0)
        for name, other in (
            ("rows permuted", restored),
            ("Leiden seed changed", partition(stack, 0, number)),
            ("both seeds changed", partition(stack, number, number)),
        ):
            effect[name].append(float(adjusted_rand_score(base, other)))
    return effect


def prediction_agreement(
    layers: Sequence[sp.csr_array],
    *,
    weighting: str,
    n_components: int,
    resolution: float,
    n_neighbors: int,
) -> dict[str, float]:
    """Share of fitted rows that predict gives their label; also without their vote."""
    embedding = skleiden_sketch(
        LayerStack(layers), weighting=weighting, n_components=n_components, seed=0
    )
    transformer = FaissKNeighborsTransformer(n_neighbors)
    model = MutualKNNLeiden(
        n_neighbors, metric="precomputed", resolution=resolution, random_state=0
    ).fit(transformer.fit_transform(embedding))
    queries = transformer.transform(embedding).tocoo()
    others = queries.row != queries.col
    without_own = sp.csr_array(
        (queries.data[others], (queries.row[others], queries.col[others])),
        shape=queries.shape,
    )
    return {
        name: float(np.mean(model.predict(distances) == model.labels_))
        for name, distances in (
            ("all votes", queries.tocsr()),
            ("its own vote removed", without_own),
        )
    }


def agreement_table(scores: list[dict[str, Any]]) -> str:
    """Mean AMI (and number of communities) of each method, one setting a line."""
    methods = list(dict.fromkeys(s["method"] for s in scores))
    settings = dict.fromkeys(
        (s["weighting"], s["n_components"], s["resolution"]) for s in scores
    )
    rows = []
    for setting in settings:
        row: list[Any] = list(setting)
        for method in methods:
            same = [
                s
                for s in scores
                if (s["weighting"], s["n_components"], s["resolution"]) == setting
                and s["method"] == method
            ]
            ami = np.mean([s["ami"] for s in same])
            number = np.mean([s["n_communities"] for s in same])
            row.append(f"{ami:.3f} ({number:.0f})")
        rows.append(row)
    return markdown_table(["weighting", "a layer", "resolution", *methods], rows)


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("file", type=Path, help="npz file of the form above")
    parser.add_argument(
        "--weighting", nargs="+", choices=["idf", "zscore"], default=["idf", "zscore"]
    )
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2])
    parser.add_argument("--n-components", nargs="+", type=int, default=[64])
    parser.add_argument("--resolutions", nargs="+", type=float, default=[1.0, 2.0, 4.0])
    parser.add_argument("--n-neighbors", type=int, default=40)
    parser.add_argument("--permute", type=int, default=0, metavar="N")
    parser.add_argument("--predict", action="store_true")
    parser.add_argument(
        "--taken", action="store_true", help="also other powers, and centred values"
    )
    parser.add_argument("--output", type=Path, help="write the results here, as JSON")
    options = parser.parse_args(arguments)
    try:
        layers, labels = read_layers(options.file)
    except ValueError as error:
        parser.error(str(error))

    results: dict[str, Any] = {
        "file": options.file.name,
        "n_samples": labels.size,
        "layer_widths": [layer.shape[1] for layer in layers],
        "n_labels": np.unique(labels).size,
        "environment": environment(),
        "scores": [],
        "permutation": [],
    }
    for weighting, n_components in product(options.weighting, options.n_components):
        for seed in options.seeds:
            results["scores"] += compare(
                layers,
                labels,
                weighting=weighting,
                n_components=n_components,
                resolutions=options.resolutions,
                n_neighbors=options.n_neighbors,
                seed=seed,
                taken=options.taken,
            )
    print(
        f"{results['file']}: {labels.size:,} rows, {len(layers)} layers, "
        f"{results['n_labels']} labels; AMI and, in brackets, communities: means of "
        f"{len(options.seeds)} seed(s)\n"
    )
    print(agreement_table(results["scores"]))

    if options.permute:
        for weighting, n_components, resolution in product(
            options.weighting, options.n_components, options.resolutions
        ):
            effect = permutation_effect(
                layers,
                weighting=weighting,
                n_components=n_components,
                resolution=resolution,
                n_neighbors=options.n_neighbors,
                n_permutations=options.permute,
            )
            results["permutation"].append(
                {
                    "weighting": weighting,
                    "n_components": n_components,
                    "resolution": resolution,
                    "ari": effect,
                }
            )
        rows = [
            [entry[key] for key in ("weighting", "n_components", "resolution")]
            + [
                f"{np.median(ari):.3f} ({min(ari):.3f} to {max(ari):.3f})"
                for ari in entry["ari"].values()
            ]
            for entry in results["permutation"]
        ]
        names = list(results["permutation"][0]["ari"])
        print(f"\nARI with the first partition, median of {options.permute} (range)\n")
        print(markdown_table(["weighting", "a layer", "resolution", *names], rows))
    if options.predict:
        rows = []
        for weighting, n_components, resolution in product(
            options.weighting, options.n_components, options.resolutions
        ):
            shares = prediction_agreement(
                layers,
                weighting=weighting,
                n_components=n_components,
                resolution=resolution,
                n_neighbors=options.n_neighbors,
            )
            setting = [weighting, n_components, resolution]
            rows.append([*setting, *(f"{share:.4f}" for share in shares.values())])
        results["prediction"] = rows
        print("\nShare of fitted rows for which predict gives their label\n")
        names = list(shares)
        print(markdown_table(["weighting", "a layer", "resolution", *names], rows))
    print("\n" + describe(results["environment"]))
    if options.output:
        options.output.write_text(json.dumps(results, indent=2) + "\n")


if __name__ == "__main__":
    main()
