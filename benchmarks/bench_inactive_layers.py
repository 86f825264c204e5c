"""Compare two similarities of rows that are active in different layers.

    python benchmarks/bench_inactive_layers.py
    python benchmarks/bench_inactive_layers.py activations.npz ... --rows 3000

It runs on the activations that come with the package, and on files as
`bench_agreement.py` takes them. Layers of rows are made inactive in three ways: at
random; so that half of the rows have only the earlier or only the later layers; and
mostly by label, as where a kind of input never reaches a layer. Then

- `embedding`: the sum of the common layers' cosines over ``sqrt(a * b)``, where the
  rows are active in a and b layers, which is the inner product of the embedding;
- `common`: the sum over the number of common layers, which is not an inner product.

It prints the adjusted mutual information (AMI) with the labels at the best of three
resolutions, and the share of isolated rows, as means over the seeds.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import scipy.sparse as sp
from bench_pipeline import describe, environment, markdown_table, read_layers
from sklearn.metrics import adjusted_mutual_info_score

from skleiden import LayerStack, MultiLayerTfidfSketcher, MutualKNNLeiden
from skleiden.datasets import load_prompt_activations

RESOLUTIONS = (1.0, 2.0, 4.0)
PATTERNS = ("all", "random .3", "random .5", "halves", "by label")


def activity(pattern: str, labels: np.ndarray, n_layers: int, seed: int) -> np.ndarray:
    """Which layers each row is active in: a mask of shape (n_samples, n_layers)."""
    rng, n = np.random.RandomState(seed), labels.size
    active = np.ones((n, n_layers), dtype=bool)
    if pattern.startswith("random"):
        active = rng.random_sample(active.shape) >= float(pattern.split()[1])
    elif pattern == "halves":
        part, middle = rng.randint(4, size=n), n_layers // 2
        active[part == 0, middle:] = active[part == 1, : middle - 1] = False
    elif pattern == "by label":
        of_label = rng.random_sample((labels.max() + 1, n_layers)) < 0.5
        active = of_label[labels] | (rng.random_sample(active.shape) < 0.3)
    active[~active.any(axis=1), 0] = True
    return active


def similarities(
    layers: Sequence[sp.csr_array], active: np.ndarray, seed: int
) -> Iterator[tuple[str, np.ndarray]]:
    """Both similarities of all pairs of rows, from one sketch."""
    stack = LayerStack(
        [
            sp.csr_array(sp.diags_array(active[:, i].astype(np.float32)) @ layer)
            for i, layer in enumerate(layers)
        ]
    )
    sketcher = MultiLayerTfidfSketcher(256, random_state=seed)
    own = sketcher.fit_transform(stack)
    yield "embedding", own @ own.T
    lengths = np.sqrt(active.sum(axis=1))
    common = np.maximum(active.astype(np.float32) @ active.T, 1)
    yield "common", own @ own.T * np.outer(lengths, lengths) / common


def partition(similarity: np.ndarray, resolution: float, seed: int) -> MutualKNNLeiden:
    """Cluster by the most similar rows."""
    n, k = len(similarity), 40
    np.fill_diagonal(similarity, -np.inf)
    ids = np.argpartition(-similarity, k, axis=1)[:, :k]
    distances = 1 - np.take_along_axis(similarity, ids, axis=1)
    graph = sp.csr_array(
        (np.clip(distances, 1e-7, 2).ravel(), ids.ravel(), np.arange(n + 1) * k),
        shape=(n, n),
    )
    clusterer = MutualKNNLeiden(
        k, metric="precomputed", resolution=resolution, random_state=seed
    )
    return clusterer.fit(graph)


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("files", nargs="*", type=Path, metavar="FILE.npz")
    parser.add_argument(
        "--rows", type=int, default=2000, help="largest number of rows of each file"
    )
    parser.add_argument("--seeds", type=int, default=3)
    options = parser.parse_args(arguments)
    packaged = load_prompt_activations()
    data = {"prompts": (list(packaged.data.layers), packaged.target)}
    for path in options.files:
        data[path.stem] = read_layers(path)
    rows = []
    for name, (layers, labels) in data.items():
        kept = np.random.RandomState(0).permutation(labels.size)[: options.rows]
        layers = [sp.csr_array(layer)[kept] for layer in layers]
        labels = np.unique(labels[kept], return_inverse=True)[1]
        for pattern in PATTERNS:
            scores: dict[str, list[tuple[float, float]]] = {}
            for seed in range(options.seeds):
                active = activity(pattern, labels, len(layers), seed)
                for kind, similarity in similarities(layers, active, seed):
                    runs = [partition(similarity, r, seed) for r in RESOLUTIONS]
                    best = max(
                        adjusted_mutual_info_score(labels, run.labels_) for run in runs
                    )
                    isolated = runs[0].n_isolated_ / labels.size
                    scores.setdefault(kind, []).append((best, isolated))
            means = {kind: np.mean(of, axis=0) for kind, of in scores.items()}
            rows.append(
                [
                    name,
                    pattern,
                    *(f"{ami:.3f}" for ami, _ in means.values()),
                    *(f"{isolated:.1%}" for _, isolated in means.values()),
                ]
            )
    header = ["data", "inactive", *means, *(f"isolated, {kind}" for kind in means)]
    print(markdown_table(header, rows))
    print("\n" + describe(environment()))


if __name__ == "__main__":
    main()
