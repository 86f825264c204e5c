"""Measure the processor seconds of comparing two partitions of many rows.

    python benchmarks/bench_compare.py --rows 1000000

In the second partition, a tenth of the rows is in another community, and the rows come
in another order, so that they are found by their ids.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence
from statistics import median
from time import process_time
from typing import Any

import numpy as np
from bench_pipeline import markdown_table

from skleiden.inspection import Communities, compare


def cases(n: int) -> dict[str, Callable[[], Any]]:
    """Make what is compared: rows in one order, and rows that are found by ids."""
    rng = np.random.RandomState(0)
    labels = rng.randint(0, 200, n)
    other = np.where(rng.rand(n) < 0.1, rng.randint(0, 200, n), labels)
    ids = np.array([f"q{i}" for i in range(n)])
    a, b = Communities(labels, ids), Communities(other[::-1], ids[::-1])
    return {
        "labels": lambda: compare(labels, other),
        "labels with ids, in other orders": lambda: compare(a, b),
    }


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--repeats", type=int, default=3)
    options = parser.parse_args(arguments)
    rows = []
    for name, run in cases(options.rows).items():
        seconds = []
        for _ in range(options.repeats):
            start = process_time()
            run()
            seconds.append(process_time() - start)
        rows.append([name, f"{median(seconds):.2f}"])
    print(f"{options.rows:,} rows, medians of {options.repeats}\n")
    print(markdown_table(["of", "CPU, s"], rows))


if __name__ == "__main__":
    main()
