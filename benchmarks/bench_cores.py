"""Seconds of each stage on more and more threads, and what does not scale.

    python benchmarks/bench_cores.py --rows 20000
    python benchmarks/bench_cores.py --threads 1 2 4 8 16 --backend libreville

Layers are planted (`make_layered_activations`), embedded and clustered with so many
threads, each number of them in turn. Beside the seconds stands the share of a stage
that does not scale, by Amdahl's law from its times on one and on most threads, and
whether labels are those of one thread.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from statistics import median
from typing import Any

from bench_gpu import COMMUNITIES, SIGNAL, STAGES, run
from bench_pipeline import describe, environment, markdown_table, publish
from threadpoolctl import threadpool_limits

from skleiden.datasets import make_layered_activations


def serial_share(first: float, last: float, n_threads: int) -> float:
    """Share of the time on one thread that more of them do not shorten (Amdahl)."""
    if n_threads == 1 or first == 0:
        return float("nan")
    return (last / first - 1 / n_threads) / (1 - 1 / n_threads)


def measure(options: argparse.Namespace) -> dict[str, Any]:
    """Times of all stages, by number of threads."""
    stack, _ = make_layered_activations(
        options.rows,
        n_layers=4,
        n_communities=COMMUNITIES,
        signal=SIGNAL,
        random_state=0,
    )
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


def report_markdown(results: dict[str, Any]) -> str:
    """Show the results as a table."""
    seconds = results["seconds"]
    threads = list(seconds)
    rows: list[list[Any]] = [[n, *of.values()] for n, of in seconds.items()]
    first, last = seconds[threads[0]], seconds[threads[-1]]
    shares = [serial_share(first[s], last[s], int(threads[-1])) for s in STAGES]
    rows.append(["does not scale", *(f"{share:.0%}" for share in shares)])
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
    parser.add_argument("--output", type=Path, help="write the results here, as JSON")
    parser.add_argument("--json", action="store_true", help="print JSON, not Markdown")
    options = parser.parse_args(arguments)
    results = {
        "rows": options.rows,
        "backend": options.backend,
        "environment": environment(),
        **measure(options),
    }
    publish(results, options, report_markdown)


if __name__ == "__main__":
    main()
