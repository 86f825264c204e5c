"""Measure what importing skleiden adds to importing scikit-learn.

    python benchmarks/bench_import.py --repeats 11

Each import runs in a process of its own, scikit-learn alone and with skleiden in turn;
the differences of neighbouring runs are reported as their median.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from pathlib import Path
from statistics import median

SCIKIT_LEARN = "import sklearn.cluster, sklearn.neighbors, sklearn.pipeline"
ESTIMATORS = (
    f"{SCIKIT_LEARN}; from skleiden import FaissKNeighborsTransformer, LayerStack, "
    "MultiLayerTfidfSketcher, MutualKNNLeiden, align_layers"
)
EVERYTHING = (
    f"{ESTIMATORS}; import skleiden.inspection, skleiden.io, skleiden.model_selection, "
    "skleiden.plotting, skleiden.report"
)
TIMED = """\
import time
start = time.perf_counter()
{code}
print(time.perf_counter() - start)
"""


def seconds(code: str) -> float:
    run = subprocess.run(
        [sys.executable, "-c", TIMED.format(code=code)],
        capture_output=True,
        text=True,
        check=True,
    )
    return float(run.stdout)


def main() -> None:
    parser = argparse.ArgumentParser(
        description="Measure what importing skleiden adds to importing scikit-learn."
    )
    parser.add_argument("--repeats", type=int, default=11, help="rounds (11)")
    parser.add_argument("--output", type=Path, help="write the results here, as JSON")
    options = parser.parse_args()
    rounds = [
        [seconds(code) for code in (SCIKIT_LEARN, ESTIMATORS, EVERYTHING)]
        for _ in range(options.repeats)
    ]
    results = {
        "scikit-learn": median(one[0] for one in rounds),
        "estimators of skleiden, added": median(one[1] - one[0] for one in rounds),
        "all of skleiden, added": median(one[2] - one[0] for one in rounds),
    }
    print("| import | seconds |\n| --- | --- |")
    for name, value in results.items():
        print(f"| {name} | {value:.3f} |")
    if options.output:
        options.output.write_text(json.dumps({"rounds": rounds} | results, indent=1))


if __name__ == "__main__":
    main()
