"""Predict what more rows and workers would take, from runs of bench_dask.py.

    python benchmarks/scale_model.py run_100k.json run_300k.json run_1m.json
    python benchmarks/scale_model.py --rows 1e6 1e8 --workers 10 100

Without files, it uses the runs in MEASURED. Each stage's seconds are taken to grow with
a power of the rows, which is fitted to the runs but is at least that by which the work
itself grows (LEAST), and to be divided by the number of workers if all of them do the
stage. It also assumes that

- workers are cores like those measured, and none of them waits for another;
- data stay as hard: the share of pairs that must be compared changes with the rows as
  between the runs;
- shards move between workers at BANDWIDTH each way, beside the work: a stage takes the
  longer of both;
- memory follows from what is held: bytes for each row, edge and shard, as measured or
  as arrays have it (see `memory`).

With three runs or more, the largest is also predicted from the others, which shows how
good the predictions are.
"""

from __future__ import annotations

import argparse
import json
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from bench_pipeline import markdown_table, publish

# Seconds of each stage with 2 workers of one thread, Python 3.11, 2 cores of a virtual
# machine; synthetic rows of 4 layers, 256 columns, 40 neighbours.
MEASURED: list[dict[str, Any]] = [
    {
        "rows": 100000,
        "columns": 256,
        "workers": 2,
        "edges": 1212318,
        "stages": {
            "Vectors": 0.79,
            "Hash": 0.13,
            "Distinct": 0.0,
            "Gather": 1.35,
            "Lists": 0.5,
            "Assign": 0.23,
            "Neighbors": 12.6,
            "Graph": 0.52,
            "Leiden": 2.28,
            "sketch": 2.86,
            "client": 0.63,
        },
    },
    {
        "rows": 300000,
        "columns": 256,
        "workers": 2,
        "edges": 3265381,
        "stages": {
            "Vectors": 3.78,
            "Hash": 0.39,
            "Distinct": 0.0,
            "Gather": 3.53,
            "Lists": 1.19,
            "Assign": 0.73,
            "Neighbors": 35.02,
            "Graph": 1.38,
            "Leiden": 7.83,
            "sketch": 4.24,
            "client": 1.48,
        },
    },
    {
        "rows": 1000000,
        "columns": 256,
        "workers": 2,
        "edges": 9779731,
        "stages": {
            "Vectors": 14.43,
            "Hash": 1.63,
            "Distinct": 0.01,
            "Gather": 13.72,
            "Lists": 8.2,
            "Assign": 5.9,
            "Neighbors": 145.85,
            "Graph": 3.79,
            "Leiden": 33.46,
            "sketch": 12.27,
            "client": 5.2,
        },
    },
]

# Stages that all workers share; the others are one process's, worker's or client's.
SHARED = {"sketch", "Vectors", "Hash", "Distinct", "Assign", "Neighbors"}
# The power that the work of a stage grows with: there are rows ** 0.75 lists, which are
# trained on rows in proportion, and of which a row probes as many as ever.
LEAST = {"Lists": 1.5, "Assign": 1.75, "Neighbors": 1.25}
BANDWIDTH = 1e9  # bytes a second
SHARD_BYTES = 2**27
MANY_BYTES = 2**34
LEIDEN_BYTES = 150  # an edge
GRAPH_BYTES = 16
CLIENT_BYTES = 60  # a row: hashes, numbers, labels


def run_of(results: dict[str, Any]) -> dict[str, Any]:
    """Tell what the model needs of the results of bench_dask.py."""
    cluster, settings = results["cluster"], results["settings"]
    stages = {k: v for k, v in cluster["stages"].items() if k != "Count"}
    stages["sketch"] = cluster["seconds"]["sketch"]
    stages["client"] = max(cluster["seconds"]["whole"] - sum(stages.values()), 1e-3)
    return {
        "rows": settings["rows"],
        "columns": settings["layers"] * settings["components"],
        "workers": settings["workers"],
        "edges": cluster["edges"],
        "stages": stages,
    }


def exponents(runs: Sequence[dict[str, Any]]) -> dict[str, float]:
    """Give the power of the rows that each stage's seconds grow with."""
    rows = np.log([run["rows"] for run in runs])
    powers = {}
    for stage in runs[-1]["stages"]:
        seconds = [max(run["stages"].get(stage, 0.0), 1e-3) for run in runs]
        fitted = float(np.polyfit(rows, np.log(seconds), 1)[0])
        powers[stage] = max(LEAST.get(stage, 1.0), fitted)
    return powers


def predict(
    runs: Sequence[dict[str, Any]], rows: float, workers: int, bandwidth: float
) -> dict[str, float]:
    """Seconds of each stage."""
    base, powers = runs[-1], exponents(runs)
    seconds = {}
    for stage, measured in base["stages"].items():
        seconds[stage] = measured * (rows / base["rows"]) ** powers[stage]
        if stage in SHARED:
            seconds[stage] *= base["workers"] / workers
    # Every shard meets every other one, on one of the workers.
    moved = 4 * rows * base["columns"] * n_shards(rows, base["columns"]) / 2
    travel = moved * (1 - 1 / workers) / workers / bandwidth
    seconds["Neighbors"] = max(seconds["Neighbors"], travel)
    return seconds


def n_shards(rows: float, columns: int) -> int:
    """Shards that the rows are divided into."""
    size = 4 * rows * columns
    return max(
        8, math.ceil(size / (SHARD_BYTES * max(1, math.sqrt(size / MANY_BYTES))))
    )


def memory(
    runs: Sequence[dict[str, Any]], rows: float, workers: int
) -> dict[str, float]:
    """Bytes that a worker, the one that runs Leiden, and the client need."""
    base = runs[-1]
    columns, edges = base["columns"], base["edges"] / base["rows"] * rows
    embedding = 4 * rows * columns
    shard = embedding / n_shards(rows, columns)
    candidates = 8 * (40 + 57) / (4 * columns)  # of a shard's size
    # Two shards, the same joined, and candidates; its share of the embedding, in two
    # orders, and of the lists, which Dask writes to disk if there is no room.
    pair = 2 * shard * (2 + candidates)
    lists = 8 * 40 * rows
    return {
        "worker": (2 * embedding + lists) / workers + pair,
        "worker at least": pair,
        "leiden": LEIDEN_BYTES * edges,
        "client": CLIENT_BYTES * rows + GRAPH_BYTES * edges,
    }


def model(
    runs: Sequence[dict[str, Any]],
    sizes: Sequence[float],
    numbers: Sequence[int],
    bandwidth: float,
) -> dict[str, Any]:
    """All predictions, and that of the largest run from the others."""
    table = []
    for rows in sizes:
        for workers in numbers:
            seconds = predict(runs, rows, workers, bandwidth)
            one = sum(s for stage, s in seconds.items() if stage not in SHARED)
            table.append(
                {
                    "rows": rows,
                    "workers": workers,
                    "seconds": sum(seconds.values()),
                    "shared": sum(seconds.values()) - one,
                    "leiden": seconds["Leiden"],
                    "one_process": one,
                    "memory": memory(runs, rows, workers),
                }
            )
    results: dict[str, Any] = {"powers": exponents(runs), "table": table}
    if len(runs) > 2:
        last = runs[-1]
        seconds = predict(runs[:-1], last["rows"], last["workers"], bandwidth)
        results["check"] = {
            "rows": last["rows"],
            "predicted": sum(seconds.values()),
            "measured": sum(last["stages"].values()),
            "stages": {
                stage: [seconds.get(stage, 0.0), measured]
                for stage, measured in last["stages"].items()
            },
        }
    return results


def duration(seconds: float) -> str:
    """Seconds as people say them."""
    for unit, size in (("d", 86400), ("h", 3600), ("min", 60)):
        if seconds >= size:
            return f"{seconds / size:.1f} {unit}"
    return f"{seconds:.0f} s"


def report_markdown(results: dict[str, Any]) -> str:
    """Tables of the results."""
    header = ["rows", "workers", "all", "shared", "Leiden", "on one process", "limit"]
    header += ["worker GB (least)", "Leiden GB", "client GB"]
    rows = []
    for row in results["table"]:
        gb = {name: size / 1e9 for name, size in row["memory"].items()}
        limit = "one process" if row["one_process"] > row["shared"] else "workers"
        rows.append(
            [
                f"{row['rows']:.0e}",
                str(row["workers"]),
                *(duration(row[s]) for s in ("seconds", "shared", "leiden")),
                duration(row["one_process"]),
                limit,
                f"{gb['worker']:.1f} ({gb['worker at least']:.1f})",
                f"{gb['leiden']:.1f}",
                f"{gb['client']:.1f}",
            ]
        )
    powers = results["powers"]
    text = [
        markdown_table(header, rows),
        "Powers: "
        + ", ".join(f"{stage} {power:.2f}" for stage, power in powers.items()),
    ]
    if "check" in results:
        check = results["check"]
        text.append(
            f"{check['rows']} rows from the smaller runs: "
            f"{duration(check['predicted'])}; measured {duration(check['measured'])}. "
            + ", ".join(
                f"{stage} {predicted:.1f} / {measured:.1f} s"
                for stage, (predicted, measured) in check["stages"].items()
            )
        )
    return "\n\n".join(text)


def main(arguments: Sequence[str] | None = None) -> None:
    """Read the command line and predict."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("runs", nargs="*", type=Path, help="results of bench_dask.py")
    parser.add_argument(
        "--rows", type=float, nargs="+", default=[1e6, 1e7, 1e8, 1e9], metavar="N"
    )
    parser.add_argument(
        "--workers", type=int, nargs="+", default=[2, 16, 128, 1024], metavar="N"
    )
    parser.add_argument("--bandwidth", type=float, default=BANDWIDTH)
    parser.add_argument("--output", type=Path, help="write the results as JSON")
    parser.add_argument("--json", action="store_true", help="print them as JSON")
    options = parser.parse_args(arguments)
    runs = [run_of(json.loads(path.read_text())) for path in options.runs] or MEASURED
    runs = sorted(runs, key=lambda run: run["rows"])
    if len({run["rows"] for run in runs}) < 2:
        parser.error("runs of at least two numbers of rows are needed")
    publish(
        model(runs, options.rows, options.workers, options.bandwidth),
        options,
        report_markdown,
    )


if __name__ == "__main__":
    main()
