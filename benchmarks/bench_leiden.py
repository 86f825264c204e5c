"""Compare Leiden's backends on the same graphs: quality, seconds, memory, threads.

    python benchmarks/bench_leiden.py --quick
    python benchmarks/bench_leiden.py synthetic embedding.npz --threads 1 2 4 8 16 \
        --output leiden.json

The graph of each data set is made once, as `MutualKNNLeiden` does by default. igraph
and libreville (`pip install "skleiden[libreville]"`) then take turns, seed by seed and
resolution by resolution; the table has the medians over seeds of modularity (at the
resolution) and of the seconds that Leiden takes, without handing the graph over, which
igraph alone needs. The second table repeats libreville on other numbers of threads, and
says whether the labels were the same. The last has the bytes for each edge, above the
graph that both are given, each in its own process (on Linux only).

A data set is "prompts", which comes with skleiden, "synthetic"
(`make_layered_activations`, embedded) or a file of vectors, as in `bench_neighbors.py`.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from multiprocessing import get_context
from pathlib import Path
from statistics import median
from time import perf_counter
from typing import Any

import numpy as np
from bench_neighbors import load
from bench_pipeline import (
    RANDOM_STATE,
    describe,
    environment,
    forget_peak,
    markdown_table,
    peak_mb,
    publish,
)

from skleiden import MultiLayerTfidfSketcher, MutualKNNLeiden
from skleiden._kernels.leiden import Network, leiden, network
from skleiden._stages.affinity import Joining, join_graph
from skleiden._vectors import list_neighbors
from skleiden.datasets import load_prompt_activations

BACKENDS = ("igraph", "libreville")


def vectors_of(name: str, rows: int | None) -> np.ndarray:
    if name == "prompts":
        sketcher = MultiLayerTfidfSketcher(random_state=RANDOM_STATE)
        return sketcher.fit_transform(load_prompt_activations().data)
    return load(name, rows, 4)


def graph_of(X: np.ndarray) -> tuple[Any, ...]:
    """Tell what `skleiden._kernels.leiden.network` takes."""
    clusterer = MutualKNNLeiden(random_state=RANDOM_STATE)
    nearest = list_neighbors(clusterer, X)
    found = join_graph(*nearest[:3], Joining.of(clusterer))
    return found.affinity, found.distinct.ranks, found.copies


def run(
    vertices: Network, backend: str, resolution: float, seed: int, threads: int
) -> tuple[np.ndarray, dict[str, float]]:
    start = perf_counter()
    labels, quality = leiden(
        vertices,
        objective="modularity",
        resolution=resolution,
        n_iterations=2,
        backend=backend,
        seed=seed,
        n_threads=threads,
    )
    return labels, {"seconds": perf_counter() - start, "quality": quality}


def memory(graph: tuple[Any, ...], backend: str, threads: int) -> float | None:
    """Bytes for each edge, from the numbered graph to the labels."""
    triangle = np.ones((3, 3), dtype=np.float32) - np.eye(3, dtype=np.float32)
    run(network(type(graph[0])(triangle)), backend, 1.0, 0, threads)
    vertices = network(*graph)
    before = forget_peak()
    run(vertices, backend, 1.0, 0, threads)
    peak = peak_mb()
    if before is None or peak is None:
        return None
    return 2**20 * (peak - before) / (graph[0].nnz // 2)


def measure(graph: tuple[Any, ...], arguments: argparse.Namespace) -> dict[str, Any]:
    start = perf_counter()
    vertices = network(*graph)
    numbered = perf_counter() - start
    start = perf_counter()
    edges = vertices.vertices.ecount()
    handed = perf_counter() - start
    most = max(arguments.threads)
    compared: list[dict[str, Any]] = []
    same = True
    seconds: dict[int, list[float]] = {threads: [] for threads in arguments.threads}
    for resolution in arguments.resolutions:
        found: dict[str, list[dict[str, float]]] = {name: [] for name in BACKENDS}
        for seed in range(arguments.seeds):
            for backend in BACKENDS:
                labels, figures = run(vertices, backend, resolution, seed, most)
                found[backend].append(figures)
            for threads in arguments.threads:
                again, figures = run(vertices, backend, resolution, seed, threads)
                same &= bool((again == labels).all())
                seconds[threads].append(figures["seconds"])
        compared.append({"resolution": resolution} | found)
    alone = partial(ProcessPoolExecutor, 1, mp_context=get_context("spawn"))
    bytes_of: dict[str, float | None] = {}
    for backend in BACKENDS:
        with alone() as pool:
            bytes_of[backend] = pool.submit(memory, graph, backend, most).result()
    return {
        "rows": graph[0].shape[0],
        "edges": edges,
        "seconds_of_numbering": numbered,
        "seconds_of_handing_over_to_igraph": handed,
        "compared": compared,
        "same_labels": same,
        "seconds_of_threads": {str(k): v for k, v in seconds.items()},
        "bytes_of_an_edge": bytes_of,
    }


def report_markdown(results: dict[str, Any]) -> str:
    quality: list[list[Any]] = []
    threads: list[list[Any]] = []
    rest: list[list[Any]] = []
    for name, data in results["data"].items():
        for row in data["compared"]:
            of = {
                (backend, figure): median(one[figure] for one in row[backend])
                for backend in BACKENDS
                for figure in ("quality", "seconds")
            }
            better = of["libreville", "quality"] / of["igraph", "quality"] - 1
            quality.append(
                [
                    name,
                    data["edges"],
                    row["resolution"],
                    f"{of['igraph', 'quality']:.5f}",
                    f"{of['libreville', 'quality']:.5f}",
                    f"{100 * better:+.3f}%",
                    of["igraph", "seconds"],
                    of["libreville", "seconds"],
                ]
            )
        for n_threads, seconds in data["seconds_of_threads"].items():
            threads.append([name, n_threads, median(seconds), data["same_labels"]])
        rest.append(
            [
                name,
                data["seconds_of_numbering"],
                data["seconds_of_handing_over_to_igraph"],
                *(data["bytes_of_an_edge"][backend] for backend in BACKENDS),
            ]
        )
    parts = [
        describe(results["environment"]),
        markdown_table(
            [
                "data",
                "edges",
                "resolution",
                "modularity, igraph",
                "libreville",
                "difference",
                "seconds, igraph",
                "libreville",
            ],
            quality,
        ),
        markdown_table(["data", "threads", "seconds", "same labels"], threads),
        markdown_table(
            [
                "data",
                "s, numbering",
                "s, igraph's graph",
                "bytes, igraph",
                "libreville",
            ],
            rest,
        ),
    ]
    return "\n\n".join(parts)


def parse(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("data", nargs="*", default=["prompts"])
    parser.add_argument("--rows", type=int, help="random rows of each data set")
    parser.add_argument("--resolutions", type=float, nargs="+", default=[0.25, 1, 4])
    parser.add_argument("--threads", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--seeds", type=int, default=9)
    parser.add_argument("--json", action="store_true", help="print all figures")
    parser.add_argument("--output", type=Path, help="write all figures to this file")
    parser.add_argument("--quick", action="store_true", help="prompts, two seeds")
    arguments = parser.parse_args(argv)
    if arguments.quick:
        arguments.data, arguments.seeds = ["prompts"], 2
    return arguments


def main(argv: Sequence[str] | None = None) -> None:
    arguments = parse(argv)
    results: dict[str, Any] = {"environment": environment(), "data": {}}
    for name in arguments.data:
        graph = graph_of(vectors_of(name, arguments.rows))
        results["data"][name] = measure(graph, arguments)
    publish(results, arguments, report_markdown)


if __name__ == "__main__":
    main()
