"""Run the notebook's recipe and skleiden side by side on synthetic activations.

Both get the same data and take turns, A B A B. Each run is a fresh process that reads
its input from a file, so that no run warms up or fills the memory of another. It
reports the medians of the runs, the ratios of neighbouring runs, and how well the two
partitions agree with the planted one and with each other. skleiden does what the recipe
does, with layers of equal weight and no correction for hubs; with ``--defaults``, what
it does by default.

    python benchmarks/bench_pipeline.py --quick
    python benchmarks/bench_pipeline.py --rows 100000 --repeats 3 --output results.json
"""

from __future__ import annotations

import argparse
import gc
import json
import os
import platform
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Callable, Sequence
from contextlib import suppress
from importlib.metadata import version
from pathlib import Path
from statistics import median
from time import perf_counter
from typing import Any

import numpy as np
import scipy.sparse as sp

METHODS = ("notebook", "skleiden")
PACKAGES = ("numpy", "scipy", "scikit-learn", "faiss-cpu", "igraph", "leidenalg")
RANDOM_STATE = 42
N_NEIGHBORS = 40
RECALL_ROWS = 500


# ------------------------------------------------------------------------ activations


def write_layers(path: str | Path, layers: Sequence[Any], labels: np.ndarray) -> None:
    """Store the layers as CSR arrays, and the labels, in one uncompressed npz file."""
    arrays: dict[str, Any] = {"labels": labels}
    for number, layer in enumerate(layers):
        csr = sp.csr_array(layer)
        for part in ("data", "indices", "indptr", "shape"):
            arrays[f"layer_{number}_{part}"] = np.asarray(getattr(csr, part))
    np.savez(path, **arrays)


def read_layers(path: str | Path) -> tuple[list[sp.csr_array], np.ndarray]:
    """Read what `write_layers` stores: a list of float32 layers, and the labels."""
    form = "expected an npz file with 'labels' and, for each layer from 0 on, "
    form += "'layer_0_data', 'layer_0_indices', 'layer_0_indptr', 'layer_0_shape'"
    try:
        archive = np.load(path)
    except (OSError, ValueError, EOFError, zipfile.BadZipFile) as error:
        raise ValueError(f"Cannot read {path} ({error}): {form}.") from error
    if not isinstance(archive, np.lib.npyio.NpzFile):
        message = f"{path} holds a single array: {form}."
        raise ValueError(message)  # noqa: TRY004 (about a file, not about a type)
    with archive:
        layers: list[sp.csr_array] = []
        while f"layer_{len(layers)}_data" in archive:
            prefix = f"layer_{len(layers)}_"
            try:
                layer = sp.csr_array(
                    (
                        archive[prefix + "data"].astype(np.float32, copy=False),
                        archive[prefix + "indices"].astype(np.int32, copy=False),
                        archive[prefix + "indptr"],
                    ),
                    shape=tuple(archive[prefix + "shape"].tolist()),
                )
            except (KeyError, ValueError) as error:
                message = f"{prefix}* of {path} is no CSR matrix ({error}): {form}."
                raise ValueError(message) from error
            layers.append(layer)
        if not layers or "labels" not in archive:
            found = ", ".join(sorted(archive.files)) or "nothing"
            raise ValueError(f"{path} holds {found}: {form}.")
        labels = archive["labels"]
    rows = {layer.shape[0] for layer in layers}
    if rows != {labels.size}:
        raise ValueError(
            f"The layers of {path} have {sorted(rows)} rows and there are "
            f"{labels.size} labels: all must be equal."
        )
    return layers, labels


# -------------------------------------------------------------------------- one worker


def _status_mb(field: str) -> float | None:
    """Read a memory figure of this process from Linux's /proc, in MB (2**20 bytes)."""
    try:
        lines = Path("/proc/self/status").read_text().splitlines()
    except OSError:
        return None
    for line in lines:
        if line.startswith(f"{field}:"):
            return int(line.split()[1]) / 1024
    return None


def peak_mb() -> float | None:
    """Return the peak resident memory of this process, None where it is not known.

    A process started from a large one inherits the peak that `getrusage` reports, so
    that Linux's own high-water mark comes first.
    """
    peak = _status_mb("VmHWM")
    if peak is None:
        try:
            import resource
        except ImportError:  # Windows
            return None
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
        if sys.platform == "darwin":  # in bytes there, in kB elsewhere
            peak /= 1024
    return peak


def forget_peak() -> float | None:
    """Restart the high-water mark where possible; return the memory now in use."""
    gc.collect()
    with suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5")
    return _status_mb("VmRSS") or peak_mb()


def exact_recall(
    embedding: np.ndarray, indices: np.ndarray, n_rows: int = RECALL_ROWS
) -> float:
    """Share of the true neighbours found, on sampled rows; ties count as found."""
    rng = np.random.default_rng(0)
    k = indices.shape[1]
    hits = []
    for row in rng.choice(len(embedding), min(n_rows, len(embedding)), replace=False):
        similarity = embedding @ embedding[row]
        similarity[row] = -np.inf
        kth = np.partition(similarity, -k)[-k]
        found = np.unique(indices[row])
        hits.append(np.mean(similarity[found] >= kth - 1e-6) * found.size / k)
    return float(np.mean(hits))


def run_notebook(
    layers: list[sp.csr_array],
) -> tuple[dict[str, Any], Callable[[], dict[str, Any]]]:
    """Run the recipe; return its seconds, and a function for all that is not timed."""
    import notebook_recipe

    start = perf_counter()
    result = notebook_recipe.run(layers, k=N_NEIGHBORS, seed=RANDOM_STATE)
    whole = perf_counter() - start
    seconds = result.seconds | {"whole": whole}
    seconds["cluster"] = whole - seconds["sketch"]
    seconds["graph_and_leiden"] = seconds["mutual_edges"] + seconds["leiden"]

    def extras() -> dict[str, Any]:
        from skleiden import MutualKNNLeiden

        # skleiden on the very same vectors: the two sketches differ by their hashes,
        # and only so can the rest be compared, on one graph of exact neighbours.
        exact = MutualKNNLeiden(
            n_neighbors=N_NEIGHBORS,
            algorithm="exact",
            hubness=None,
            random_state=RANDOM_STATE,
        ).fit(result.embedding)
        found = {"notebook": result.labels, "skleiden": exact.labels_}
        return {
            "labels": result.labels,
            "same_embedding_labels": exact.labels_,
            "modularity": {
                method: modularity(exact.affinity_matrix_, labels)
                for method, labels in found.items()
            },
            "knn_recall": exact_recall(result.embedding, result.neighbors.indices),
            "knn_algorithm": "hnsw",
        }

    return seconds, extras


def run_skleiden(
    layers: list[sp.csr_array], defaults: bool
) -> tuple[dict[str, Any], Callable[[], dict[str, Any]]]:
    """Run skleiden; return its seconds, and a function for all that is not timed."""
    from skleiden import (
        FaissKNeighborsTransformer,
        LayerStack,
        MultiLayerTfidfSketcher,
        MutualKNNLeiden,
    )

    # As the recipe has it: layers are equal, and hubs are left.
    layer_weights: Any = "auto" if defaults else None
    hubness = "auto" if defaults else None
    start = perf_counter()
    sketcher = MultiLayerTfidfSketcher(
        layer_weights=layer_weights, random_state=RANDOM_STATE
    )
    embedding = sketcher.fit_transform(LayerStack(layers))
    sketched = perf_counter()
    leiden = MutualKNNLeiden(
        n_neighbors=N_NEIGHBORS, hubness=hubness, random_state=RANDOM_STATE
    )
    leiden.fit(embedding)
    end = perf_counter()
    seconds = {
        "sketch": sketched - start,
        "cluster": end - sketched,
        "whole": end - start,
    }

    def extras() -> dict[str, Any]:
        # The parts of "cluster" again, each alone, because they cannot be seen there.
        start = perf_counter()
        # Of twice as many neighbours the correction for hubs chooses.
        distances = FaissKNeighborsTransformer(
            n_neighbors=(2 if defaults else 1) * N_NEIGHBORS, random_state=RANDOM_STATE
        ).fit_transform(embedding)
        searched = perf_counter()
        MutualKNNLeiden(
            n_neighbors=N_NEIGHBORS,
            metric="precomputed",
            hubness=hubness,
            random_state=RANDOM_STATE,
        ).fit(distances)
        seconds["neighbors"] = searched - start
        seconds["graph_and_leiden"] = perf_counter() - searched
        return {
            "labels": leiden.labels_,
            "knn_recall": leiden.knn_recall_,
            "knn_algorithm": leiden.algorithm_,
        }

    return seconds, extras


def work(method: str, source: str, target: str, defaults: bool) -> None:
    """Measure one run of one method and store what it found, as JSON."""
    import faiss  # noqa: F401  (imports are nobody's running time)
    import igraph  # noqa: F401
    import leidenalg  # noqa: F401

    from skleiden import MultiLayerTfidfSketcher, MutualKNNLeiden  # noqa: F401

    layers, _ = read_layers(source)
    loaded = forget_peak()
    seconds, extras = (
        run_notebook(layers) if method == "notebook" else run_skleiden(layers, defaults)
    )
    peak = peak_mb()
    report = {"method": method, "seconds": seconds, "memory_mb": {}} | extras()
    if peak is not None and loaded is not None:
        report["memory_mb"] = {"peak": peak, "above_input": peak - loaded}
    Path(target).write_text(json.dumps(report, default=np.ndarray.tolist))


def start_worker(
    method: str, source: Path, target: Path, defaults: bool
) -> dict[str, Any]:
    """Run `work` in a process of its own and read back what it stored."""
    command = [sys.executable, __file__, "--worker", method, str(source), str(target)]
    command += ["--defaults"] if defaults else []
    subprocess.run(command, check=True)
    return json.loads(target.read_text())


# --------------------------------------------------------------------------- reporting


def environment() -> dict[str, Any]:
    """Name the machine and the versions that the figures hold for."""
    import skleiden

    packages = {name: version(name) for name in PACKAGES}
    return {
        "platform": platform.platform(),
        "cpu_count": os.cpu_count(),
        "python": platform.python_version(),
        "packages": {"skleiden": skleiden.__version__} | packages,
    }


def describe(environment: dict[str, Any]) -> str:
    """One line on the machine and the versions."""
    packages = ", ".join(f"{k} {v}" for k, v in environment["packages"].items())
    return (
        f"{environment['platform']}, {environment['cpu_count']} cores, "
        f"Python {environment['python']}, {packages}."
    )


def markdown_table(header: Sequence[str], rows: Sequence[Sequence[Any]]) -> str:
    """Lay out a table; numbers get three significant digits, None is a dash."""

    def cell(value: Any) -> str:
        if value is None:
            return "-"
        return f"{value:.3g}" if isinstance(value, float) else str(value)

    body = [header, ["---"] * len(header), *rows]
    return "\n".join("| " + " | ".join(map(cell, row)) + " |" for row in body)


def modularity(graph: sp.csr_array, labels: np.ndarray) -> float:
    """Modularity of a partition of a symmetric graph; rows labelled -1 stand alone."""
    labels = labels.astype(np.int64)
    noise = labels < 0
    labels[noise] = labels.max() + 1 + np.arange(noise.sum())
    edges = graph.tocoo()
    inside = edges.data[labels[edges.row] == labels[edges.col]].sum(dtype=np.float64)
    degrees = np.bincount(labels, graph.sum(axis=1, dtype=np.float64))
    total = degrees.sum()
    return float(inside / total - np.sum((degrees / total) ** 2))


def agreement(
    pair: dict[str, dict[str, Any]], planted: np.ndarray
) -> dict[str, dict[str, Any]]:
    """Compare the partitions of both methods with the planted one and each other."""
    from sklearn.metrics import adjusted_mutual_info_score, adjusted_rand_score

    labels = {method: pair[method]["labels"] for method in METHODS}
    same = pair["notebook"]["same_embedding_labels"]
    partitions = {
        "notebook_planted": (labels["notebook"], planted),
        "skleiden_planted": (labels["skleiden"], planted),
        "notebook_skleiden": (labels["notebook"], labels["skleiden"]),
        "skleiden_planted_same_embedding": (same, planted),
        "notebook_skleiden_same_embedding": (labels["notebook"], same),
    }
    scores = {"ari": adjusted_rand_score, "ami": adjusted_mutual_info_score}
    return {
        name: {key: float(score(*two)) for key, two in partitions.items()}
        for name, score in scores.items()
    } | {
        "modularity_same_embedding": pair["notebook"]["modularity"],
        "knn_recall": {m: float(pair[m]["knn_recall"]) for m in METHODS},
        "knn_algorithm": {m: pair[m]["knn_algorithm"] for m in METHODS},
        "n_communities": {m: len(set(labels[m]) - {-1}) for m in METHODS},
    }


def summarise(pairs: list[dict[str, dict[str, Any]]]) -> dict[str, dict[str, Any]]:
    """Reduce the runs: medians of each method, and medians of the pairs' ratios."""
    summary: dict[str, dict[str, Any]] = {}
    for kind in ("seconds", "memory_mb"):
        for name in sorted({key for pair in pairs for key in pair["notebook"][kind]}):
            columns = [[pair[m][kind].get(name) for pair in pairs] for m in METHODS]
            known = [None not in column for column in columns]
            row: dict[str, float | None] = {
                method: median(column) if whole else None
                for method, column, whole in zip(METHODS, columns, known, strict=True)
            }
            row["ratio"] = (
                median(a / b for a, b in zip(*columns, strict=True))
                if all(known)
                else None
            )
            summary.setdefault(kind, {})[name] = row
    return summary


def report_markdown(results: dict[str, Any]) -> str:
    """Show the results as two tables."""
    titles = {
        ("seconds", "sketch"): "sketch, s",
        ("seconds", "neighbors"): "neighbours alone, s",
        ("seconds", "graph_and_leiden"): "graph and Leiden alone, s",
        ("seconds", "cluster"): "neighbours, graph and Leiden, s",
        ("seconds", "whole"): "whole, s",
        ("memory_mb", "peak"): "peak memory, MB",
        ("memory_mb", "above_input"): "peak memory above the loaded input, MB",
    }
    costs = []
    for (kind, name), title in titles.items():
        row = results["summary"].get(kind, {}).get(name)
        if row is not None:
            costs.append([title, *(row[m] for m in METHODS), row["ratio"]])
    scores = results["agreement"]
    third = "skleiden, the notebook's embedding"
    endings = ("", "_same_embedding")
    found = []
    for name in ("ari", "ami"):
        row = [f"{scores[name][f'{method}_planted']:.3f}" for method in METHODS]
        row.append(f"{scores[name]['skleiden_planted_same_embedding']:.3f}")
        found.append([f"{name.upper()} to planted", *row])
        row = [f"{scores[name]['notebook_skleiden' + end]:.3f}" for end in endings]
        found.append([f"{name.upper()} to the notebook's", None, *row])
    row = [f"{scores['modularity_same_embedding'][method]:.4f}" for method in METHODS]
    found.append(["modularity, exact neighbours", row[0], None, row[1]])
    row = [
        f"{scores['knn_recall'][m]:.4f} ({scores['knn_algorithm'][m]})" for m in METHODS
    ]
    found.append(["recall of neighbours", *row, None])
    found.append(["communities", *(scores["n_communities"][m] for m in METHODS), None])
    settings = results["settings"]
    heading = (
        f"{settings['rows']:,} rows, {settings['layers']} layers, "
        f"{settings['repeats']} alternating run(s) of each; medians."
    )
    return "\n\n".join(
        [
            heading,
            markdown_table(["", *METHODS, "ratio"], costs),
            markdown_table(["", *METHODS, third], found),
            describe(results["environment"]),
        ]
    )


def publish(
    results: dict[str, Any],
    options: argparse.Namespace,
    report: Callable[[dict[str, Any]], str],
) -> None:
    """Write the results where the options say, and print them as these ask."""
    as_json = json.dumps(results, indent=2)
    if options.output:
        options.output.write_text(as_json + "\n")
    print(as_json if options.json else report(results))


def panels(n_panels: int, width: float) -> tuple[Any, Any]:
    """Make a figure of panels in a row, drawn without a screen and alike every time."""
    import matplotlib as mpl

    mpl.use("Agg")
    mpl.rcParams["svg.hashsalt"] = "skleiden"
    import matplotlib.pyplot as plt

    size = (width * n_panels, 3.6)
    return plt.subplots(1, n_panels, figsize=size, squeeze=False, layout="constrained")


def save_figure(figure: Any, path: Path) -> None:
    """Save a figure; an SVG without its date, so that it changes with its data only."""
    figure.savefig(path, metadata={"Date": None} if path.suffix == ".svg" else None)


def benchmark(settings: dict[str, Any]) -> dict[str, Any]:
    """Make the data, run both methods in turn and put the results together."""
    from skleiden.datasets import make_layered_activations

    stack, planted = make_layered_activations(
        n_samples=settings["rows"],
        n_layers=settings["layers"],
        n_communities=settings["communities"],
        nnz_per_row=settings["nonzeros"],
        random_state=settings["seed"],
    )
    pairs = []
    with tempfile.TemporaryDirectory() as folder:
        source = Path(folder, "activations.npz")
        write_layers(source, stack.layers, planted)
        del stack
        for number in range(settings["repeats"]):
            pair = {}
            for method in METHODS:
                target = Path(folder, "run.json")
                run = start_worker(method, source, target, settings["defaults"])
                seconds = run["seconds"]["whole"]
                print(f"run {number + 1}, {method}: {seconds:.2f} s", file=sys.stderr)
                pair[method] = run
            pairs.append(pair)
    return {
        "settings": settings,
        "environment": environment(),
        "summary": summarise(pairs),
        "agreement": agreement(pairs[0], planted),
        "runs": [
            {key: value for key, value in run.items() if "labels" not in key}
            for pair in pairs
            for run in pair.values()
        ],
    }


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--quick", action="store_true", help="small data, one run")
    parser.add_argument("--rows", type=int, help="rows (20000; quick: 2000)")
    parser.add_argument("--layers", type=int, default=7, help="layers (7)")
    parser.add_argument("--communities", type=int, help="planted (20; quick: 10)")
    parser.add_argument(
        "--nonzeros", type=int, default=70, help="activations in a row of a layer (70)"
    )
    parser.add_argument("--repeats", type=int, help="runs of each (3; quick: 1)")
    parser.add_argument("--seed", type=int, default=0, help="seed of the data (0)")
    parser.add_argument(
        "--defaults", action="store_true", help="weigh layers and correct for hubs"
    )
    parser.add_argument("--output", type=Path, help="write the results here, as JSON")
    parser.add_argument("--json", action="store_true", help="print JSON, not Markdown")
    parser.add_argument("--worker", nargs=3, help=argparse.SUPPRESS)
    options = parser.parse_args(arguments)
    if options.worker:
        method, source, target = options.worker
        work(method, source, target, options.defaults)
        return

    rows, communities, repeats = (2000, 10, 1) if options.quick else (20_000, 20, 3)
    settings = {
        "rows": options.rows or rows,
        "layers": options.layers,
        "communities": options.communities or communities,
        "nonzeros": options.nonzeros,
        "repeats": options.repeats or repeats,
        "seed": options.seed,
        "random_state": RANDOM_STATE,
        "n_neighbors": N_NEIGHBORS,
        "defaults": options.defaults,
    }
    results = benchmark(settings)
    publish(results, options, report_markdown)


if __name__ == "__main__":
    main()
