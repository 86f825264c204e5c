"""Compare a GPU with the CPU, stage by stage: labels, and the seconds they take.

Each data set is clustered on each device in turn, in one process, so that what a device
needs to start is over before it is timed. A run lists the stages of the clusterer and,
within the search on the card, what the card did, what the CPU did while the card
waited, and the rows that were searched again because nothing proved their lists. Beside
"cuda", it runs "exact", all pairs on the CPU, up to a size, and "auto".

    python benchmarks/bench_gpu.py --quick --on-cpu
    python benchmarks/bench_gpu.py --sizes 100000x448 1000000x256 --output gpu.json
    python benchmarks/bench_gpu.py --sizes 400000x256 --layers 4 --exact-rows 400000
    python benchmarks/bench_gpu.py --vectors embedding.npy

Without a GPU, --on-cpu makes torch's CPU stand in for the card: this shows that all
works and that labels are equal, but the seconds mean nothing.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from statistics import median
from time import perf_counter
from typing import Any
from unittest import mock

import numpy as np
from bench_pipeline import (
    N_NEIGHBORS,
    RANDOM_STATE,
    describe,
    environment,
    markdown_table,
    publish,
)

STAGES = ("sketch", "rows", "search", "graph", "leiden", "whole")
PARTS = ("card", "waiting", "again")
COMMUNITIES, SIGNAL = 50, 0.6
WAYS: dict[str, dict[str, Any]] = {
    "cuda": {"algorithm": "exact", "device": "cuda"},
    "exact": {"algorithm": "exact"},
    "auto": {},
}


def mixture(rows: int, columns: int) -> np.ndarray:
    """Give unit vectors around some directions, made in blocks."""
    rng = np.random.default_rng(0)
    centres = rng.standard_normal((COMMUNITIES, columns), dtype=np.float32)
    X = np.empty((rows, columns), dtype=np.float32)
    for start in range(0, rows, 2**14):
        block = X[start : start + 2**14]
        rng.standard_normal(out=block, dtype=np.float32)
        block *= 1 - SIGNAL
        block += SIGNAL * centres[rng.integers(COMMUNITIES, size=len(block))]
        block /= np.linalg.norm(block, axis=1, keepdims=True)
    return X


class Clock:
    """Seconds of stages, which may be entered within one another."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        """Add what is done inside to a stage."""
        start = perf_counter()
        try:
            yield
        finally:
            taken = perf_counter() - start
            self.seconds[name] = self.seconds.get(name, 0.0) + taken

    def timed(self, owner: Any, name: str, stage: str) -> Any:
        """Have calls of a function count for a stage."""
        function = getattr(owner, name)

        def call(*arguments: Any, **options: Any) -> Any:
            with self.stage(stage):
                return function(*arguments, **options)

        return mock.patch.object(owner, name, call)


def run(
    X: Any, way: str, *, on_cpu: bool = False, n_jobs: int = -1, backend: str = "igraph"
) -> dict[str, Any]:
    """Cluster X, layers or vectors, in one of the ways; times, labels, memory."""
    from skleiden import LayerStack, MultiLayerTfidfSketcher, MutualKNNLeiden, _vectors
    from skleiden._kernels import cuda, knn
    from skleiden._stages.partition import Partitioning
    from skleiden._stages.search import NeighborSearch

    clock, again = Clock(), []
    partition, exact = Partitioning.run, knn.exact_neighbors

    def timed_partition(*arguments: Any) -> Any:
        with clock.stage("leiden"):
            found = list(partition(*arguments))
        yield from found

    def timed_again(queries: np.ndarray, *arguments: Any, **options: Any) -> Any:
        again.append(len(queries))
        with clock.stage("again"):
            return exact(queries, *arguments, **options)

    if isinstance(X, LayerStack):
        with clock.stage("sketch"):
            X = MultiLayerTfidfSketcher(
                random_state=RANDOM_STATE, n_jobs=n_jobs
            ).fit_transform(X)
    with ExitStack() as stack:
        enter = stack.enter_context
        enter(mock.patch.object(Partitioning, "run", timed_partition))
        enter(clock.timed(_vectors, "find_distinct", "rows"))
        enter(clock.timed(NeighborSearch, "run", "search"))
        if way == "cuda":
            enter(clock.timed(cuda._Card, "_shortlist", "card"))
            enter(mock.patch.object(knn, "exact_neighbors", timed_again))
            import torch

            if on_cpu:
                device = torch.device("cpu")
                enter(mock.patch.object(cuda, "find_device", return_value=device))
            else:
                torch.cuda.reset_peak_memory_stats()
        with clock.stage("whole"):
            leiden = MutualKNNLeiden(
                N_NEIGHBORS,
                **WAYS[way],
                backend=backend,
                random_state=RANDOM_STATE,
                n_jobs=n_jobs,
            ).fit(X)
    seconds = clock.seconds
    others = seconds["rows"] + seconds["search"] + seconds["leiden"]
    seconds["graph"] = seconds["whole"] - others
    seconds["whole"] += seconds.get("sketch", 0)
    report: dict[str, Any] = {"way": way, "seconds": seconds, "labels": leiden.labels_}
    if way == "cuda":
        parts = seconds["card"] + seconds.get("again", 0)
        seconds["waiting"] = seconds["search"] - parts
        report["rows_again"] = sum(again)
        if not on_cpu:
            report["card_mb"] = torch.cuda.max_memory_allocated() / 2**20
    return report


def compare(X: Any, name: str, options: argparse.Namespace) -> dict[str, Any]:
    """Run all ways in turn, and say whether labels are equal."""
    ways = list(WAYS)
    n = X.shape[0]
    if n > options.exact_rows:
        ways.remove("exact")
    run(X[:2000], "cuda", on_cpu=options.on_cpu)  # which starts the card
    runs = [
        run(X, way, on_cpu=options.on_cpu)
        for _ in range(options.repeats)
        for way in ways
    ]
    labels = {report["way"]: report.pop("labels") for report in runs}
    rows = []
    for way in ways:
        same = [report for report in runs if report["way"] == way]
        seconds = {
            stage: median(report["seconds"].get(stage, 0.0) for report in same)
            for stage in (*STAGES, *PARTS)
        }
        rows.append(same[0] | {"seconds": seconds})
    equal = None
    if "exact" in labels:
        equal = bool((labels["exact"] == labels["cuda"]).all())
    return {"name": name, "rows": n, "ways": rows, "equal": equal, "runs": runs}


def report_markdown(results: dict[str, Any]) -> str:
    """Show the results as tables."""
    whole, parts = [], []
    for data in results["data"]:
        for row in data["ways"]:
            seconds = row["seconds"]
            whole.append([data["name"], row["way"], *(seconds[s] for s in STAGES)])
            if row["way"] == "cuda":
                equal = {None: "not compared", True: "yes", False: "NO"}[data["equal"]]
                memory = row.get("card_mb")
                share = row["rows_again"] / data["rows"]
                times = [seconds[s] for s in PARTS]
                parts.append([data["name"], *times, f"{share:.2%}", memory, equal])
    header = ["", "", *(f"{stage}, s" for stage in STAGES)]
    of_search = ["search by", *(f"{part}, s" for part in PARTS), "rows again"]
    of_search += ["memory of the card, MB", "labels of exact"]
    return "\n\n".join(
        [
            f"{results['card']}, {N_NEIGHBORS} neighbours, medians of "
            f"{results['repeats']} run(s).",
            markdown_table(header, whole),
            markdown_table(of_search, parts),
            describe(results["environment"]),
        ]
    )


def data_sets(options: argparse.Namespace) -> Iterator[tuple[str, Any]]:
    """Names of data, and what makes them."""
    from skleiden.datasets import make_layered_activations

    for size in options.sizes:
        rows, columns = map(int, size.split("x"))
        if options.layers:
            stack, _ = make_layered_activations(
                rows,
                n_layers=options.layers,
                n_communities=COMMUNITIES,
                signal=SIGNAL,
                random_state=0,
            )
            yield f"{rows:,} rows, {options.layers} layers", stack
        else:
            yield f"{rows:,} x {columns}", mixture(rows, columns)
    for path in options.vectors:
        X = np.load(path, mmap_mode="r")
        yield f"{path.stem}, {X.shape[0]:,} x {X.shape[1]}", X


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--quick", action="store_true", help="3,000 rows of 32 columns")
    parser.add_argument("--sizes", nargs="+", default=[], help="ROWSxCOLUMNS")
    parser.add_argument("--vectors", type=Path, nargs="+", default=[], help=".npy")
    parser.add_argument(
        "--layers", type=int, default=0, help="start from so many layers (0: vectors)"
    )
    parser.add_argument("--repeats", type=int, default=1, help="runs of each (1)")
    parser.add_argument(
        "--exact-rows", type=int, default=100_000, help="most rows for exact"
    )
    parser.add_argument(
        "--on-cpu", action="store_true", help="use torch's CPU as the card"
    )
    parser.add_argument("--output", type=Path, help="write the results here, as JSON")
    parser.add_argument("--json", action="store_true", help="print JSON, not Markdown")
    options = parser.parse_args(arguments)
    if options.quick:
        options.sizes = ["3000x32"]
    if not (options.sizes or options.vectors):
        options.sizes = ["100000x448", "1000000x256"]
    import torch

    card = "torch's CPU" if options.on_cpu else torch.cuda.get_device_name()
    found = [compare(X, name, options) for name, X in data_sets(options)]
    results = {
        "card": f"{card}, torch {torch.__version__}",
        "repeats": options.repeats,
        "environment": environment(),
        "data": found,
    }
    publish(results, options, report_markdown)


if __name__ == "__main__":
    main()
