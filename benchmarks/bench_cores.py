"""Measure each stage on more and more threads, and what does not scale.

    python benchmarks/bench_cores.py --rows 20000
    python benchmarks/bench_cores.py --threads 1 2 4 8 16 --backend libreville
    python benchmarks/bench_cores.py --threads 1 2 --lock

Layers are planted (`make_layered_activations`), embedded and clustered with each number
of threads in turn. Beside the seconds, it prints the share of a stage that does not
scale, by Amdahl's law from its times on one and on most threads, and whether the labels
are those of one thread.

With --lock, it measures what cannot scale, on any machine: the share of the CPU time of
a run on one thread that is spent in the main thread, or with Python's lock. The rest is
spent in other threads in calls of NumPy, BLAS and FAISS, without the lock. This needs a
C compiler, Linux, and a Python with a shared library; functions in lock.c replace those
that release and take the lock.
"""

from __future__ import annotations

import argparse
import ctypes
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from statistics import median
from time import process_time
from typing import Any
from unittest import mock

import bench_gpu
import numpy as np
from bench_gpu import COMMUNITIES, SIGNAL, STAGES, run
from bench_pipeline import describe, environment, markdown_table, publish
from threadpoolctl import threadpool_limits

from skleiden import LayerStack
from skleiden.datasets import make_layered_activations


def serial_share(first: float, last: float, n_threads: int) -> float:
    """Share of the time on one thread that more of them do not shorten (Amdahl)."""
    if n_threads == 1 or first == 0:
        return float("nan")
    return (last / first - 1 / n_threads) / (1 - 1 / n_threads)


def planted(rows: int) -> LayerStack:
    """Layers with planted communities."""
    return make_layered_activations(
        rows, n_layers=4, n_communities=COMMUNITIES, signal=SIGNAL, random_state=0
    )[0]


def measure(options: argparse.Namespace) -> dict[str, Any]:
    """Give times of all stages, by number of threads."""
    stack = planted(options.rows)
    run(stack[:2000], "auto")  # which imports what it needs
    runs: dict[int, list[dict[str, float]]] = {n: [] for n in options.threads}
    labels, same = None, True
    for _ in range(options.repeats):
        for n in options.threads:
            with threadpool_limits(n):
                report = run(stack, "auto", n_jobs=n, backend=options.backend)
            labels = report["labels"] if labels is None else labels
            same &= bool((report["labels"] == labels).all())
            runs[n].append(report["seconds"])
    seconds = {
        str(n): {s: median(one.get(s, 0.0) for one in of) for s in STAGES}
        for n, of in runs.items()
    }
    return {"seconds": seconds, "same": same}


def lock_shares(options: argparse.Namespace) -> dict[str, float]:
    """Share of each stage's time, on one thread, in the main thread or with the lock.

    nan for the sketch, which has threads only where it has more than one.
    """
    here = Path(__file__).parent
    with tempfile.TemporaryDirectory() as folder:
        library = str(Path(folder) / "lock.so")
        compiler = os.environ.get("CC", "cc")
        command = [compiler, "-O2", "-shared", "-fPIC", "lock.c", "-o", library, "-ldl"]
        subprocess.run(command, cwd=here, check=True)
        code = "import sys, bench_cores; bench_cores.print_seconds(*sys.argv[1:])"
        command = [sys.executable, "-c", code, str(options.rows), options.backend]
        paths = os.pathsep.join([str(here), *sys.path])
        variables = {"LD_PRELOAD": library, "PYTHONPATH": paths}
        done = subprocess.run(
            command, env=os.environ | variables, check=True, stdout=subprocess.PIPE
        )
    seconds = json.loads(done.stdout)
    if seconds["whole"][1] == 0:
        raise SystemExit(
            "No other thread was seen to release Python's lock: this Python has no "
            "shared library, whose functions others could stand before, or rows are "
            f"too few for lists (--rows {options.rows}). Raise --rows to 20000, or "
            "leave out --lock."
        )
    shares = {stage: 1 - free / whole for stage, (whole, free) in seconds.items()}
    return shares | {"sketch": float("nan")}


def print_seconds(rows: str, backend: str) -> None:
    """Print the CPU seconds of each stage, and those that need no lock, as JSON."""
    stack = planted(int(rows))
    run(stack[:2000], "auto")
    without_lock = ctypes.CDLL(None).seconds_without_lock
    without_lock.restype = ctypes.c_double

    def clock() -> np.ndarray:
        return np.array([process_time(), without_lock()])

    with threadpool_limits(1), mock.patch.object(bench_gpu, "perf_counter", clock):
        seconds = run(stack, "auto", n_jobs=1, backend=backend)["seconds"]
    seconds["whole"] = seconds["whole"] - seconds["sketch"]
    print(json.dumps({stage: both.tolist() for stage, both in seconds.items()}))


def report_markdown(results: dict[str, Any]) -> str:
    """Show the results as a table."""
    seconds = results["seconds"]
    threads = list(seconds)
    rows: list[list[Any]] = [[n, *of.values()] for n, of in seconds.items()]
    first, last = seconds[threads[0]], seconds[threads[-1]]
    shares = [serial_share(first[s], last[s], int(threads[-1])) for s in STAGES]
    rows.append(["does not scale", *(f"{share:.0%}" for share in shares)])
    if "lock" in results:
        rows.append(["under the lock", *(f"{results['lock'][s]:.0%}" for s in STAGES)])
    table = markdown_table(["threads", *(f"{stage}, s" for stage in STAGES)], rows)
    same = "the same labels" if results["same"] else "OTHER LABELS"
    text = f"{results['rows']:,} rows of 4 layers, {results['backend']}: {same}."
    return f"{text}\n\n{table}\n\n{describe(results['environment'])}"


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rows", type=int, default=400_000)
    parser.add_argument("--threads", type=int, nargs="+", default=[1, 2, 4, 8, 16])
    parser.add_argument("--backend", default="igraph")
    parser.add_argument("--repeats", type=int, default=1)
    parser.add_argument(
        "--lock", action="store_true", help="measure what cannot scale, see above"
    )
    parser.add_argument("--output", type=Path, help="write the results here, as JSON")
    parser.add_argument("--json", action="store_true", help="print JSON, not Markdown")
    options = parser.parse_args(arguments)
    results = {
        "rows": options.rows,
        "backend": options.backend,
        "environment": environment(),
        **measure(options),
    }
    if options.lock:
        results["lock"] = lock_shares(options)
    publish(results, options, report_markdown)


if __name__ == "__main__":
    main()
