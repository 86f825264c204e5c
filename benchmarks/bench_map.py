"""Compare the map with igraph's UMAP: time, neighbours kept, communities apart.

    python benchmarks/bench_map.py
    python benchmarks/bench_map.py activations.npz ... --planted 20000 --figures maps

It runs on the activations that come with the package, on files as `bench_agreement.py`
takes them, and on as many planted rows as are asked for. Both methods lay out the same
ties of the same rows, in turn; igraph starts from random places, and takes 200 epochs.
It prints medians over the seeds of

- seconds of `community_map`, the sample and the choice of ties included;
- graph: the share of each row's neighbours in the graph that are among as many nearest
  rows of the map;
- embedding: the share of its 15 nearest in the embedding that are among its 15 nearest;
- trust: trustworthiness of the 15 nearest, as scikit-learn has it;
- purity: share of the 15 nearest that are of the row's community;
- apart: mean silhouette of the communities in the plane.

If not all rows are shown, the last line is of a map of all.
"""

from __future__ import annotations

import argparse
import json
import random
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import scipy.sparse as sp
from bench_pipeline import describe, environment, markdown_table, read_layers
from sklearn.manifold import trustworthiness
from sklearn.metrics import silhouette_score
from sklearn.neighbors import NearestNeighbors

from skleiden import LayerStack, MultiLayerTfidfSketcher, MutualKNNLeiden
from skleiden._kernels.graph_layout import layout
from skleiden.datasets import load_prompt_activations, make_layered_activations
from skleiden.inspection import CommunityMap, community_map

NEAREST = 15
MEASURES = ("seconds", "graph", "embedding", "trust", "purity", "apart")


def umap_of_igraph(graph: sp.csr_array, *, seed: int) -> np.ndarray:
    """Give the layout of UMAP in igraph, from random places."""
    import igraph

    upper = sp.triu(graph, k=1, format="coo")
    n, weights = graph.shape[0], upper.data.astype(np.float64)
    vertices = igraph.Graph(n, list(zip(upper.row, upper.col, strict=True)))
    start = np.random.RandomState(seed).uniform(-10, 10, size=(n, 2))
    igraph.set_random_number_generator(random.Random(seed))
    found = vertices.layout_umap(
        dist=(weights.max() / weights).tolist(),
        seed=start.tolist(),
        min_dist=0.5,
        epochs=200,
    )
    igraph.set_random_number_generator(random)
    return np.asarray(found.coords, dtype=np.float32)


LAYOUTS = {"igraph's UMAP": umap_of_igraph, "community_map": layout}


def timed_map(
    affinity: sp.csr_array, shown: int, seed: int, name: str
) -> tuple[float, CommunityMap]:
    """Seconds of a map by one of the layouts, and it."""
    start = time.perf_counter()
    with mock.patch("skleiden.inspection._graph.layout", LAYOUTS[name]):
        found = community_map(affinity, max_rows=shown, random_state=seed)
    return time.perf_counter() - start, found


def nearest(places: np.ndarray, k: int) -> np.ndarray:
    return NearestNeighbors(n_neighbors=k).fit(places).kneighbors(return_distance=False)


def measure(
    found: CommunityMap, affinity: sp.csr_array, embedding: np.ndarray, labels: Any
) -> dict[str, float]:
    """Tell what a map keeps of the graph, of the embedding, and of the communities."""
    graph = affinity[found.rows][:, found.rows]
    vectors, labels = embedding[found.rows], labels[found.rows]
    k = min(NEAREST, labels.size - 1)
    degrees = np.diff(graph.indptr)
    on_map = nearest(found.positions, max(k, degrees.max()))
    tied = np.flatnonzero(degrees)
    kept = [
        np.isin(graph.indices[graph.indptr[row] :][:m], on_map[row, :m]).mean()
        for row, m in zip(tied, degrees[tied], strict=True)
    ]
    on_map = on_map[:, :k]
    close = nearest(vectors, k)  # of unit length: by distance as by cosine
    among = [np.isin(a, b).mean() for a, b in zip(close, on_map, strict=True)]
    of_any = labels >= 0
    return {
        "graph": float(np.mean(kept)),
        "embedding": float(np.mean(among)),
        "trust": trustworthiness(vectors, found.positions, n_neighbors=k),
        "purity": float((labels[on_map] == labels[:, None])[of_any].mean()),
        "apart": float(silhouette_score(found.positions[of_any], labels[of_any])),
    }


def draw(maps: dict[str, CommunityMap], labels: np.ndarray, path: Path) -> None:
    """Draw maps side by side."""
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot as plt

    from skleiden.plotting import CommunityMapDisplay

    figure, axes = plt.subplots(1, len(maps), figsize=(6 * len(maps), 6))
    for ax, (name, found) in zip(axes, maps.items(), strict=True):
        CommunityMapDisplay(found, labels).plot(ax)
        ax.set_title(name)
    figure.savefig(path, dpi=100, bbox_inches="tight")
    plt.close(figure)


def compare(stack: LayerStack, shown: int, seeds: int, figure: Path | None) -> Any:
    """Measures of both layouts, one for each seed, and of a map of all rows."""
    embedding = MultiLayerTfidfSketcher(random_state=0).fit_transform(stack)
    clusterer = MutualKNNLeiden(random_state=0).fit(embedding)
    data = clusterer.affinity_matrix_, embedding, clusterer.labels_
    results: dict[str, list[dict[str, float]]] = {}
    maps: dict[str, CommunityMap] = {}
    for seed in range(seeds):
        for name in LAYOUTS:
            seconds, found = timed_map(data[0], shown, seed, name)
            one = {"seconds": seconds} | measure(found, *data)
            results.setdefault(name, []).append(one)
            maps.setdefault(name, found)
    n = len(stack)
    if n > shown:
        seconds, found = timed_map(data[0], n, 0, "community_map")
        maps[f"all {n:,}"] = found
        results[f"all {n:,}"] = [{"seconds": seconds}]
    if figure is not None:
        draw(maps, clusterer.labels_, figure)
    return results


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("files", nargs="*", type=Path, metavar="FILE.npz")
    parser.add_argument(
        "--rows", type=int, default=4000, help="largest number of rows of each file"
    )
    parser.add_argument("--planted", type=int, default=0, help="rows of planted data")
    parser.add_argument("--shown", type=int, default=3000, help="rows of a map (3000)")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--figures", type=Path, help="folder to draw the maps in")
    parser.add_argument("--output", type=Path, help="write the results here, as JSON")
    options = parser.parse_args(arguments)
    data = {"prompts": load_prompt_activations().data}
    for path in options.files:
        layers, labels = read_layers(path)
        kept = np.random.RandomState(0).permutation(labels.size)[: options.rows]
        data[path.stem] = LayerStack([layer[kept] for layer in layers])
    if options.planted:
        stack, _ = make_layered_activations(
            options.planted, n_communities=30, signal=0.6, random_state=0
        )
        data["planted"] = stack
    if options.figures:
        options.figures.mkdir(parents=True, exist_ok=True)
    results, rows = {}, []
    for name, stack in data.items():
        figure = options.figures and options.figures / f"{name}.png"
        results[name] = compare(stack, options.shown, options.seeds, figure)
        for method, runs in results[name].items():
            medians = [
                float(np.median([run[key] for run in runs])) if key in runs[0] else None
                for key in MEASURES
            ]
            rows.append([name, f"{len(stack):,}", method, *medians])
    print(markdown_table(["data", "rows", "map", *MEASURES], rows))
    print("\n" + describe(environment()))
    if options.output:
        every = {"environment": environment(), "results": results}
        options.output.write_text(json.dumps(every, indent=1))


if __name__ == "__main__":
    main()
