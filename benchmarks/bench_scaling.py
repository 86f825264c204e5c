"""Measure time and memory of each stage as the number of rows grows.

Each size runs in a process of its own on synthetic activations, which it makes before
the clock starts. The notebook's recipe can run beside it, up to a size; what it would
take at the largest is extrapolated from there, and marked so. Seconds are given by the
clock, and for all processor cores together, which other work on the machine changes
less.

    python benchmarks/bench_scaling.py --quick
    python benchmarks/bench_scaling.py --rows 10000 30000 100000 300000 1000000 \
        --layers 4 --notebook-rows 100000 --output scaling.json --plot scaling.svg
    python benchmarks/bench_scaling.py --vectors embedding.npz \
        --rows 30000 100000 300000 1000000

With ``--vectors``, the rows are those of a file of vectors, as `bench_neighbors.py`
takes them, enlarged (or thinned) to each size: every row is taken equally often, give
or take one, and noise is added to each copy of it, of the size that the sketch itself
has. In a sketch of ``d`` columns a layer, the similarity of two unit rows has a
variance of about ``1 / d`` in each layer, and ``1 / D`` on the mean of the layers,
where ``D`` is the number of all columns. Gaussian noise of expected squared length
``s`` adds ``x.e + e'.y + e'.e`` to the product of two unit rows x and y, of variance
``(2 s + s ** 2) / D``: ``s = sqrt(2) - 1`` makes that ``1 / D``. Rows then get unit
length again, which takes the similarity of two copies of a row to
``1 / (1 + s) = .71``, and that of any two rows to .71 of what it was.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from itertools import product
from pathlib import Path
from statistics import median
from time import perf_counter, process_time
from typing import Any
from unittest import mock

import numpy as np
from bench_neighbors import load
from bench_pipeline import (
    N_NEIGHBORS,
    RANDOM_STATE,
    describe,
    environment,
    forget_peak,
    markdown_table,
    panels,
    peak_mb,
    publish,
    save_figure,
)

STAGES = ("sketch", "neighbors", "graph", "leiden", "whole")
NOISE = 2**0.5 - 1  # expected squared length of what is added to a unit row


def enlarge(vectors: np.ndarray, n_rows: int, seed: int) -> np.ndarray:
    """Resample unit rows, each with noise of the size of a sketch's own."""
    rng = np.random.default_rng(seed)
    n, n_columns = vectors.shape
    rounds = [rng.permutation(n) for _ in range(-(-n_rows // n))]
    drawn = np.concatenate(rounds)[:n_rows]
    enlarged = np.empty((n_rows, n_columns), np.float32)
    scale = np.float32((NOISE / n_columns) ** 0.5)
    for start in range(0, n_rows, 10_000):
        block = enlarged[start : start + 10_000]
        rng.standard_normal(out=block, dtype=np.float32)
        block *= scale
        block += vectors[drawn[start : start + 10_000]]
        block /= np.linalg.norm(block, axis=1, keepdims=True)
    return enlarged


class Stages:
    """Seconds and peak memory of the stages that the clock is set to in turn."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}
        self.cpu_seconds: dict[str, float] = {}
        self.peaks: dict[str, float] = {}
        self.loaded = forget_peak()
        self.last, self.last_cpu = perf_counter(), process_time()

    def end(self, stage: str) -> None:
        """Note what a stage took since the last one's end."""
        self.seconds[stage] = perf_counter() - self.last
        self.cpu_seconds[stage] = process_time() - self.last_cpu
        peak = peak_mb()
        if peak is not None and self.loaded is not None:
            self.peaks[stage] = peak - self.loaded
        forget_peak()
        self.last, self.last_cpu = perf_counter(), process_time()

    def finish(self) -> dict[str, Any]:
        """All stages, and the whole, which is their sum and their largest peak."""
        # Reading the memory between stages is no part of them.
        for stages in (self.seconds, self.cpu_seconds):
            stages["whole"] = sum(stages.values())
        if self.peaks:
            self.peaks["whole"] = max(self.peaks.values())
        return {
            "seconds": self.seconds,
            "cpu_seconds": self.cpu_seconds,
            "memory_mb": self.peaks,
        }


def run_skleiden(data: list[Any] | np.ndarray, target_recall: float) -> dict[str, Any]:
    """Run the pipeline, from layers or vectors, with the clusterer's stages apart."""
    from skleiden import LayerStack, MultiLayerTfidfSketcher, MutualKNNLeiden
    from skleiden._stages.partition import Partitioning
    from skleiden._stages.search import NeighborSearch

    search, partition = NeighborSearch.run, Partitioning.run

    def timed_search(*arguments: Any) -> Any:
        found = search(*arguments)
        stages.end("neighbors")
        return found

    def timed_partition(*arguments: Any) -> Any:
        stages.end("graph")
        yield from partition(*arguments)

    stages = Stages()
    if isinstance(data, np.ndarray):
        embedding = data
    else:
        sketcher = MultiLayerTfidfSketcher(random_state=RANDOM_STATE)
        embedding = sketcher.fit_transform(LayerStack(data))
        stages.end("sketch")
    leiden = MutualKNNLeiden(
        n_neighbors=N_NEIGHBORS, target_recall=target_recall, random_state=RANDOM_STATE
    )
    with (
        mock.patch.object(NeighborSearch, "run", timed_search),
        mock.patch.object(Partitioning, "run", timed_partition),
    ):
        leiden.fit(embedding)
    stages.end("leiden")
    return stages.finish() | {
        "labels": leiden.labels_,
        "embedding_mb": embedding.nbytes / 2**20,
        "algorithm": leiden.algorithm_,
        "recall": leiden.knn_recall_,
        "edges": leiden.affinity_matrix_.nnz // 2,
    }


def run_notebook(layers: list[Any], _: float) -> dict[str, Any]:
    """Give the recipe, whose search has no recall to aim at, and which wants layers."""
    import notebook_recipe
    from bench_pipeline import exact_recall

    stages = Stages()
    result = notebook_recipe.run(layers, k=N_NEIGHBORS, seed=RANDOM_STATE)
    stages.end("whole")
    seconds = dict(result.seconds)
    seconds["graph"] = seconds.pop("mutual_edges")
    return {
        "seconds": seconds | {"whole": stages.seconds["whole"]},
        "cpu_seconds": stages.cpu_seconds,
        "memory_mb": stages.peaks,
        "labels": result.labels,
        "embedding_mb": result.embedding.nbytes / 2**20,
        "algorithm": "hnsw",
        "recall": exact_recall(result.embedding, result.neighbors.indices, 200),
        "edges": None,
    }


def work(settings: dict[str, Any], target: str) -> None:
    """Measure one run and store it, as JSON."""
    import faiss  # noqa: F401  (imports are nobody's running time)
    import igraph  # noqa: F401
    import leidenalg  # noqa: F401
    from sklearn.metrics import adjusted_rand_score

    from skleiden import MutualKNNLeiden  # noqa: F401
    from skleiden.datasets import make_layered_activations

    data: list[Any] | np.ndarray
    planted = None
    if settings["vectors"]:
        vectors = load(settings["vectors"], None, 0)
        data = enlarge(vectors, settings["rows"], settings["seed"])
        del vectors
    else:
        stack, planted = make_layered_activations(
            n_samples=settings["rows"],
            n_layers=settings["layers"],
            n_communities=settings["communities"],
            random_state=settings["seed"],
        )
        data = list(stack.layers)
    runs: dict[str, Any] = {"notebook": run_notebook, "skleiden": run_skleiden}
    report = runs[settings["method"]](data, settings["target_recall"])
    labels = report.pop("labels")
    report["communities"] = len(set(labels.tolist()) - {-1})
    report["ari"] = (
        None if planted is None else float(adjusted_rand_score(planted, labels))
    )
    Path(target).write_text(json.dumps(settings | report))


def growth(rows: Sequence[int], seconds: Sequence[float]) -> float:
    """Exponent b of the least-squares fit of seconds = a * rows ** b."""
    return float(np.polyfit(np.log(rows), np.log(seconds), 1)[0])


def summarise(runs: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Medians over the repeats of each method and size."""
    summary = []
    for key in dict.fromkeys((run["method"], run["rows"]) for run in runs):
        same = [run for run in runs if (run["method"], run["rows"]) == key]
        row = {name: same[0][name] for name in same[0] if name not in STAGES}
        for kind in ("seconds", "cpu_seconds", "memory_mb"):
            row[kind] = {
                stage: median(run[kind][stage] for run in same)
                for stage in same[0][kind]
            }
        summary.append(row)
    return summary


def exponents(summary: list[dict[str, Any]], least_rows: int) -> dict[str, float]:
    """Growth of skleiden's stages, and of the recipe as a whole, from a size on."""
    found = {}
    clocks = {"seconds": "", "cpu_seconds": ", all cores"}
    for method, stages in (("skleiden", STAGES), ("notebook", ("neighbors", "whole"))):
        rows = [
            row
            for row in summary
            if row["method"] == method
            and (row["rows"] >= least_rows or method == "notebook")
        ]
        if len(rows) > 1:
            sizes = [row["rows"] for row in rows]
            for stage, (clock, name) in product(stages, clocks.items()):
                seconds = [row[clock].get(stage) for row in rows]
                if None not in seconds:
                    found[f"{method} {stage}{name}"] = growth(sizes, seconds)
    return found


def report_markdown(results: dict[str, Any]) -> str:
    """Show the results as tables."""
    times = []
    for row in results["summary"]:
        over = row["memory_mb"].get("whole")
        times.append(
            [
                f"{row['rows']:,}",
                row["method"],
                *(row["seconds"].get(stage) for stage in STAGES),
                row["cpu_seconds"]["whole"],
                over,
                None if over is None else over / row["embedding_mb"],
                f"{row['recall']:.3f} ({row['algorithm']})",
                row["ari"],
            ]
        )
    header = ["rows", "", *(f"{stage}, s" for stage in STAGES)]
    header += ["whole, all cores, s", "peak over input, MB", "over embedding"]
    header += ["recall", "ARI to planted"]
    fits = [[name, value] for name, value in results["exponents"].items()]
    settings = results["settings"]
    data = f"{settings['layers']} layers"
    if settings["vectors"]:
        data = f"{Path(settings['vectors']).stem}, enlarged"
    heading = (
        f"{data}, {settings['repeats']} run(s) each, medians; "
        f"growth fitted from {settings['least_rows']:,} rows on, the notebook's over "
        "all its sizes."
    )
    parts = [heading, markdown_table(header, times)]
    if fits:
        parts.append(markdown_table(["growth of", "exponent"], fits))
    if results["extrapolated"]:
        parts.append(
            "The notebook's recipe at the largest size, extrapolated from its largest "
            "with its exponent: "
            + ", ".join(f"{k} {v:.0f} s" for k, v in results["extrapolated"].items())
            + "."
        )
    return "\n\n".join([*parts, describe(results["environment"])])


def plot(results: dict[str, Any], path: Path) -> None:
    """Draw time and memory against rows."""
    figure, ((left, right),) = panels(2, width=4.5)
    for method, marker in (("skleiden", "o"), ("notebook", "s")):
        rows = [row for row in results["summary"] if row["method"] == method]
        if not rows:
            continue
        sizes = [row["rows"] for row in rows]
        for axes, kind in ((left, "seconds"), (right, "memory_mb")):
            values = [row[kind].get("whole", np.nan) for row in rows]
            axes.plot(sizes, values, marker=marker, label=method)
    for axes, label in ((left, "seconds"), (right, "peak memory over the input, MB")):
        axes.set(xscale="log", yscale="log", xlabel="rows", ylabel=label)
        axes.grid(alpha=0.3)
        axes.legend()
    save_figure(figure, path)


def progress(run: dict[str, Any]) -> str:
    """One line on a run that has just ended."""
    cores = run["cpu_seconds"]
    stages = [
        f"{stage} {seconds:.2f} s"
        + (f" ({cores[stage]:.2f} s of all cores)" if stage in cores else "")
        for stage, seconds in run["seconds"].items()
    ]
    return f"{run['rows']:,} rows, {run['method']}: {', '.join(stages)}"


def benchmark(options: argparse.Namespace) -> dict[str, Any]:
    """Run all sizes, methods in turn, and put the results together."""
    runs = []
    settings = {
        "vectors": options.vectors,
        "layers": options.layers,
        "communities": options.communities,
        "repeats": options.repeats,
        "least_rows": options.least_rows,
        "target_recall": options.target_recall,
        "seed": options.seed,
    }
    with tempfile.TemporaryDirectory() as folder:
        target = Path(folder, "run.json")
        for rows in options.rows:
            methods = ["skleiden"]
            if rows <= options.notebook_rows:
                methods.insert(0, "notebook")
            for _ in range(options.repeats):
                for method in methods:
                    job = settings | {"rows": rows, "method": method}
                    subprocess.run(
                        [sys.executable, __file__, "--worker", json.dumps(job), target],
                        check=True,
                    )
                    run = json.loads(target.read_text())
                    runs.append(run)
                    print(progress(run), file=sys.stderr, flush=True)
    summary = summarise(runs)
    fits = exponents(summary, options.least_rows)
    extrapolated = {}
    known = [row for row in summary if row["method"] == "notebook"]
    if known and "notebook whole" in fits and known[-1]["rows"] < max(options.rows):
        factor = max(options.rows) / known[-1]["rows"]
        for stage in ("neighbors", "whole"):
            seconds = known[-1]["seconds"][stage]
            extrapolated[f"{stage}, with its own growth"] = (
                seconds * factor ** fits[f"notebook {stage}"]
            )
            extrapolated[f"{stage}, linearly"] = seconds * factor
    return {
        "settings": settings,
        "environment": environment(),
        "summary": summary,
        "exponents": fits,
        "extrapolated": extrapolated,
        "runs": runs,
    }


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--quick", action="store_true", help="two small sizes, one run")
    parser.add_argument(
        "--rows", type=int, nargs="+", help="sizes (10000 30000 100000)"
    )
    parser.add_argument(
        "--vectors", metavar="FILE", help="enlarge these instead of planting layers"
    )
    parser.add_argument("--layers", type=int, default=4, help="layers (4)")
    parser.add_argument("--communities", type=int, default=20, help="planted (20)")
    parser.add_argument("--repeats", type=int, default=1, help="runs of each (1)")
    parser.add_argument("--seed", type=int, default=0, help="seed of the data (0)")
    parser.add_argument("--target-recall", type=float, default=0.95, help="(0.95)")
    parser.add_argument(
        "--notebook-rows",
        type=int,
        default=0,
        help="largest size at which the notebook's recipe runs, too (0: never)",
    )
    parser.add_argument(
        "--least-rows", type=int, help="smallest size that growth is fitted to (30000)"
    )
    parser.add_argument("--output", type=Path, help="write the results here, as JSON")
    parser.add_argument("--plot", type=Path, help="write a figure here (matplotlib)")
    parser.add_argument("--json", action="store_true", help="print JSON, not Markdown")
    parser.add_argument("--worker", nargs=2, help=argparse.SUPPRESS)
    options = parser.parse_args(arguments)
    if options.worker:
        work(json.loads(options.worker[0]), options.worker[1])
        return
    if options.vectors and options.notebook_rows:
        parser.error(
            "--notebook-rows needs layers, which --vectors has not: leave one of both."
        )
    if options.quick:
        options.rows, options.least_rows = options.rows or [1000, 2000], 0
    options.rows = sorted(options.rows or [10_000, 30_000, 100_000])
    if options.least_rows is None:
        options.least_rows = 30_000
    results = benchmark(options)
    if options.plot:
        plot(results, options.plot)
    publish(results, options, report_markdown)


if __name__ == "__main__":
    main()
