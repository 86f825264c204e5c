"""Recall against time of the searches for neighbours, on the same vectors.

Each search at each setting runs in a process of its own, all in turn in each round, the
notebook's HNSW search first. Recall is measured on rows drawn for it, against all
pairs. Speed is told as the ratio of the notebook's seconds to the search's, in each
round; the table has medians.

    python benchmarks/bench_neighbors.py --quick
    python benchmarks/bench_neighbors.py synthetic fashion vectors.npy --repeats 3 \
        --output neighbors.json --plot neighbors.svg

A data set is "synthetic" (`make_layered_activations`, embedded), "fashion" (Debian's
dataset-fashion-mnist) or a file of vectors: .npy, or .npz, of whose arrays the first
with two dimensions is taken. PyNNDescent runs where it is installed; its functions are
compiled beforehand.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from collections.abc import Callable, Sequence
from importlib.util import find_spec
from pathlib import Path
from statistics import median
from time import perf_counter
from typing import Any

import numpy as np
from bench_pipeline import (
    N_NEIGHBORS,
    RANDOM_STATE,
    RECALL_ROWS,
    describe,
    environment,
    exact_recall,
    forget_peak,
    markdown_table,
    panels,
    peak_mb,
    publish,
    save_figure,
)

# What each search is run with; the notebook's parameters are its own.
SETTINGS: dict[str, list[dict[str, Any]]] = {
    "notebook": [{}],
    "exact": [{}],
    "ivf": [{"target_recall": recall} for recall in (0.9, 0.95, 0.98)],
    "hnsw": [{"hnsw_m": 16, "ef_construction": 40, "ef_search": 48}],
    "pynndescent": [{}],
    "auto": [{}],
}


def load(name: str, rows: int | None, layers: int) -> np.ndarray:
    """Vectors of a data set as rows of unit length."""
    if name == "synthetic":
        from skleiden import MultiLayerTfidfSketcher
        from skleiden.datasets import make_layered_activations

        stack, _ = make_layered_activations(
            n_samples=rows or 100_000, n_layers=layers, n_communities=20, random_state=0
        )
        sketcher = MultiLayerTfidfSketcher(
            layer_weights=None, random_state=RANDOM_STATE
        )
        return np.asarray(sketcher.fit_transform(stack))
    if name == "fashion":
        from bench_resolution import read_fashion

        vectors = read_fashion(["train", "t10k"])[0]
    else:
        loaded = np.load(name)
        if isinstance(loaded, np.lib.npyio.NpzFile):
            loaded = next(
                loaded[name] for name in loaded.files if loaded[name].ndim == 2
            )
        vectors = loaded
    if rows is not None:
        drawn = np.random.default_rng(0).choice(len(vectors), rows, replace=False)
        vectors = vectors[np.sort(drawn)]
    vectors = np.ascontiguousarray(vectors, dtype=np.float32)
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


def searcher(
    method: str, setting: dict[str, Any]
) -> Callable[[np.ndarray], tuple[np.ndarray, dict[str, Any]]]:
    """A function from vectors to the ids of neighbours, and what it says of itself."""
    if method == "notebook":
        import notebook_recipe

        def search(vectors: np.ndarray) -> tuple[np.ndarray, dict[str, Any]]:
            return notebook_recipe.neighbors(vectors, k=N_NEIGHBORS).indices, {}

    elif method == "pynndescent":
        import pynndescent

        def search(vectors: np.ndarray) -> tuple[np.ndarray, dict[str, Any]]:
            index = pynndescent.NNDescent(
                vectors,
                metric="cosine",
                n_neighbors=N_NEIGHBORS + 1,
                random_state=RANDOM_STATE,
                **setting,
            )
            return index.neighbor_graph[0][:, 1:], {}

    else:
        from skleiden import FaissKNeighborsTransformer

        def search(vectors: np.ndarray) -> tuple[np.ndarray, dict[str, Any]]:
            # A target out of the way: HNSW is to be seen at each setting as it is.
            options = {"target_recall": 1e-9} if method == "hnsw" else {}
            transformer = FaissKNeighborsTransformer(
                N_NEIGHBORS,
                algorithm=method,
                # With a seed HNSW would build on one thread.
                random_state=None if method == "hnsw" else RANDOM_STATE,
                **options | setting,
            )
            graph = transformer.fit_transform(vectors)
            # A row that found fewer lists itself in their place.
            own = np.arange(len(vectors))[:, None]
            counts = np.diff(graph.indptr)[:, None]
            places = graph.indptr[:-1, None] + np.arange(1, N_NEIGHBORS + 1)
            known = np.arange(1, N_NEIGHBORS + 1) < counts
            ids = np.where(known, graph.indices[np.where(known, places, 0)], own)
            return ids, {
                "stated_recall": transformer.knn_recall_,
                "algorithm": transformer.algorithm_,
            }

    return search


def work(job: dict[str, Any], source: str, target: str) -> None:
    """Measure one search and store what it took, as JSON."""
    import faiss  # noqa: F401  (imports are nobody's running time)
    import sklearn.neighbors  # noqa: F401

    vectors = np.load(source)
    search = searcher(job["method"], job["setting"])
    if job["method"] == "pynndescent":
        search(vectors[:2000])
    loaded = forget_peak()
    start = perf_counter()
    ids, said = search(vectors)
    seconds = perf_counter() - start
    peak = peak_mb()
    report = job | said | {"seconds": seconds}
    report["recall"] = exact_recall(vectors, np.asarray(ids), RECALL_ROWS)
    report["memory_mb"] = (
        None if peak is None or loaded is None else round(peak - loaded, 1)
    )
    Path(target).write_text(json.dumps(report))


def summarise(runs: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Medians of each search at each setting; ratios within the rounds."""
    base = {
        (run["data"], run["round"]): run["seconds"]
        for run in runs
        if run["method"] == "notebook"
    }
    groups: dict[str, list[dict[str, Any]]] = {}
    for run in runs:
        key = json.dumps([run["data"], run["method"], run["setting"]])
        groups.setdefault(key, []).append(run)
    summary = []
    for same in groups.values():
        row = {name: same[0].get(name) for name in ("data", "method", "setting")}
        row["algorithm"] = same[0].get("algorithm")
        for name in ("seconds", "recall", "memory_mb"):
            values = [run[name] for run in same if run[name] is not None]
            row[name] = median(values) if values else None
        ratios = [
            base[run["data"], run["round"]] / run["seconds"]
            for run in same
            if (run["data"], run["round"]) in base
        ]
        row["ratio"] = median(ratios) if ratios else None
        summary.append(row)
    return summary


def title(row: dict[str, Any]) -> str:
    setting = ", ".join(f"{key}={value}" for key, value in row["setting"].items())
    chosen = f" ({row['algorithm']})" if row["method"] == "auto" else ""
    return row["method"] + chosen + (f" {setting}" if setting else "")


def report_markdown(results: dict[str, Any]) -> str:
    """One table for each data set."""
    parts = []
    for name, shape in results["shapes"].items():
        rows = [
            [
                title(row),
                row["seconds"],
                row["ratio"],
                f"{row['recall']:.3f}",
                row["memory_mb"],
            ]
            for row in results["summary"]
            if row["data"] == name
        ]
        header = ["search", "seconds", "times faster than the notebook's", "recall"]
        header.append("peak memory over the vectors, MB")
        parts.append(
            f"{name}: {shape[0]:,} x {shape[1]}, {N_NEIGHBORS} neighbours, medians of "
            f"{results['settings']['repeats']} alternating run(s)."
        )
        parts.append(markdown_table(header, rows))
    return "\n\n".join([*parts, describe(results["environment"])])


def plot(results: dict[str, Any], path: Path) -> None:
    """Draw recall against time, a panel for each data set."""
    from matplotlib.ticker import LogLocator, NullFormatter

    names = list(results["shapes"])
    figure, row = panels(len(names), width=4)
    for axes, name in zip(row[0], names, strict=True):
        for method, marker in zip(SETTINGS, "sDovP*", strict=True):
            rows = sorted(
                (row["seconds"], row["recall"])
                for row in results["summary"]
                if row["data"] == name and row["method"] == method
            )
            if rows and method != "auto":
                axes.plot(*zip(*rows, strict=True), marker=marker, label=method)
        n, d = results["shapes"][name]
        axes.set(xscale="log", xlabel="seconds", ylabel="recall")
        axes.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        axes.xaxis.set_major_formatter("{x:g}")
        axes.xaxis.set_minor_formatter(NullFormatter())
        axes.set_title(f"{name}, {n:,} x {d}")
        axes.grid(alpha=0.3)
    row[0][0].legend()
    save_figure(figure, path)


def benchmark(options: argparse.Namespace) -> dict[str, Any]:
    """Run all searches in turn on each data set."""
    runs: list[dict[str, Any]] = []
    shapes = {}
    with tempfile.TemporaryDirectory() as folder:
        source, target = Path(folder, "vectors.npy"), Path(folder, "run.json")
        for path in options.data:
            name = Path(path).stem
            vectors = load(path, options.rows, options.layers)
            shapes[name] = vectors.shape
            np.save(source, vectors)
            del vectors
            for number in range(options.repeats):
                for method in options.methods:
                    for setting in SETTINGS[method]:
                        job = {"data": name, "round": number, "method": method}
                        job["setting"] = setting
                        command = [sys.executable, __file__, "--worker"]
                        command += [json.dumps(job), str(source), str(target)]
                        subprocess.run(command, check=True)
                        runs.append(json.loads(target.read_text()))
                        print(
                            f"{name}, {title(runs[-1] | {'algorithm': ''})}: "
                            f"{runs[-1]['seconds']:.2f} s, {runs[-1]['recall']:.3f}",
                            file=sys.stderr,
                        )
    return {
        "settings": {"repeats": options.repeats, "layers": options.layers},
        "environment": environment(),
        "shapes": shapes,
        "summary": summarise(runs),
        "runs": runs,
    }


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("data", nargs="*", default=["synthetic"], help="data sets")
    parser.add_argument("--quick", action="store_true", help="2000 rows")
    parser.add_argument("--rows", type=int, help="rows (synthetic: 100000, else all)")
    parser.add_argument("--layers", type=int, default=7, help="of the synthetic (7)")
    parser.add_argument("--repeats", type=int, default=1, help="rounds (1)")
    parser.add_argument(
        "--methods",
        nargs="+",
        choices=list(SETTINGS),
        default=[
            name
            for name in SETTINGS
            if name != "pynndescent" or find_spec("pynndescent") is not None
        ],
        help="searches (all that are installed)",
    )
    parser.add_argument("--output", type=Path, help="write the results here, as JSON")
    parser.add_argument("--plot", type=Path, help="write a figure here (matplotlib)")
    parser.add_argument("--json", action="store_true", help="print JSON, not Markdown")
    parser.add_argument("--worker", nargs=3, help=argparse.SUPPRESS)
    options = parser.parse_args(arguments)
    if options.worker:
        job, source, target = options.worker
        work(json.loads(job), source, target)
        return
    if options.quick:
        options.rows = options.rows or 2000
    results = benchmark(options)
    if options.plot:
        plot(results, options.plot)
    publish(results, options, report_markdown)


if __name__ == "__main__":
    main()
