"""Measure recall against time of searches for neighbours, on the same vectors.

Each search at each setting runs in a process of its own, all in turn in each round, the
notebook's HNSW search first. Recall is measured on rows drawn for it, against all
pairs. Speed is given as the ratio of the notebook's seconds to the search's, in each
round; the table has medians. Beside the seconds by the clock, it prints those of all
processor cores together, which other work on the machine changes less.

    python benchmarks/bench_neighbors.py --quick
    python benchmarks/bench_neighbors.py synthetic fashion vectors.npy --repeats 3 \
        --output neighbors.json --plot neighbors.svg

A data set is "synthetic" (`make_layered_activations`, embedded), "fashion" (Debian's
dataset-fashion-mnist) or a file of vectors: .npy, or .npz, from which the first array
of two dimensions is taken. PyNNDescent runs where it is installed; its functions are
compiled beforehand.

"ivfflat" and "panorama" are FAISS's own inverted lists, `IndexIVFFlat` and, after a
rotation to principal components as it asks for, `IndexIVFFlatPanorama` of 8 levels, by
squared distances, which order unit rows as cosines do. They have ``4 sqrt(n)`` lists.
How many of them a row must probe for the target is found beforehand, by bisection, on
500 rows with known neighbours, and not counted; what is counted is training, adding and
searching.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from bisect import bisect_left
from collections.abc import Callable, Sequence
from importlib.util import find_spec
from pathlib import Path
from statistics import median
from time import perf_counter, process_time
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
    "ivfflat": [{"target_recall": 0.95}],
    "panorama": [{"target_recall": 0.95}],
    "pynndescent": [{}],
    "auto": [{}],
}
# How FAISS's index_factory spells its own inverted lists.
FAISS_INDEXES = {
    "ivfflat": "IVF{lists},Flat",
    "panorama": "PCA{columns},IVF{lists},FlatPanorama8",
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


class FaissLists:
    """An index of FAISS, filled with the vectors, that finds their own neighbours."""

    def __init__(self, vectors: np.ndarray, method: str) -> None:
        import faiss

        n, columns = vectors.shape
        # FAISS wants 39 rows a list to train them.
        lists = max(min(int(4 * n**0.5), n // 39), 1)
        name = FAISS_INDEXES[method].format(lists=lists, columns=columns)
        self.index = faiss.index_factory(columns, name, faiss.METRIC_L2)
        self.index.train(vectors)
        self.index.add(vectors)
        self.lists = faiss.extract_index_ivf(self.index)
        self.vectors = vectors

    def neighbors(self, rows: np.ndarray, n_probes: int) -> np.ndarray:
        """Ids of the neighbours of some rows, without the rows themselves."""
        self.lists.nprobe = n_probes
        own = rows[:, None]
        _, ids = self.index.search(self.vectors[rows], N_NEIGHBORS + 1)
        itself = ids == own
        itself[~itself.any(axis=1), -1] = True
        ids = ids[~itself].reshape(len(rows), N_NEIGHBORS)
        # A row that found fewer lists itself in their place.
        return np.where(ids < 0, own, ids)

    def fewest_probes(self, target_recall: float) -> int:
        """Find how many lists must be probed for a recall, by rows drawn for it."""
        # Not the rows on which recall is measured in the end.
        rng = np.random.default_rng(1)
        rows = rng.choice(len(self.vectors), min(500, len(self.vectors)), replace=False)
        similarity = self.vectors[rows] @ self.vectors.T
        similarity[np.arange(len(rows)), rows] = -np.inf
        least = np.partition(similarity, -N_NEIGHBORS)[:, -N_NEIGHBORS, None] - 1e-6

        def recall(n_probes: int) -> float:
            ids = self.neighbors(rows, n_probes)
            found = np.take_along_axis(similarity, ids, axis=1) >= least
            return float(found.mean())

        choices = range(1, self.lists.nlist)
        return 1 + bisect_left(choices, target_recall, key=recall)


def searcher(
    method: str, setting: dict[str, Any]
) -> Callable[[np.ndarray], tuple[np.ndarray, dict[str, Any]]]:
    """Make a function from vectors to ids of neighbours, and what it says of itself."""
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

    elif method in FAISS_INDEXES:

        def search(vectors: np.ndarray) -> tuple[np.ndarray, dict[str, Any]]:
            index = FaissLists(vectors, method)
            return index.neighbors(np.arange(len(vectors)), setting["n_probes"]), {}

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
    setting = job["setting"]
    if job["method"] in FAISS_INDEXES:
        index = FaissLists(vectors, job["method"])
        setting = {"n_probes": index.fewest_probes(setting["target_recall"])}
        setting["lists"] = index.lists.nlist
        del index
    search = searcher(job["method"], setting)
    if job["method"] == "pynndescent":
        search(vectors[:2000])
    loaded = forget_peak()
    start, start_cpu = perf_counter(), process_time()
    ids, said = search(vectors)
    seconds, cpu_seconds = perf_counter() - start, process_time() - start_cpu
    peak = peak_mb()
    report = job | said | {"seconds": seconds, "cpu_seconds": cpu_seconds}
    report["chosen"] = setting
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
        row["chosen"] = same[0].get("chosen", {})
        for name in ("seconds", "cpu_seconds", "recall", "memory_mb"):
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
    if "n_probes" in row["chosen"]:
        chosen = " ({n_probes} of {lists} lists)".format(**row["chosen"])
    return row["method"] + chosen + (f" {setting}" if setting else "")


def report_markdown(results: dict[str, Any]) -> str:
    """One table for each data set."""
    parts = []
    for name, shape in results["shapes"].items():
        rows = [
            [
                title(row),
                row["seconds"],
                row["cpu_seconds"],
                row["ratio"],
                f"{row['recall']:.3f}",
                row["memory_mb"],
            ]
            for row in results["summary"]
            if row["data"] == name
        ]
        header = ["search", "seconds", "seconds of all cores"]
        header += ["times faster than the notebook's", "recall"]
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
        for method, marker in zip(SETTINGS, "sDov^<P*", strict=True):
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
                            f"{runs[-1]['seconds']:.2f} s "
                            f"({runs[-1]['cpu_seconds']:.2f} s of all cores), "
                            f"recall {runs[-1]['recall']:.3f}",
                            file=sys.stderr,
                            flush=True,
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
    parser.add_argument(
        "--layers", type=int, default=7, help="layers of synthetic data (7)"
    )
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
