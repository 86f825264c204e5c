"""Run the pipeline on the workers of a Dask cluster, and in one process.

Synthetic sparse activations are made by the workers, block by block, and again by the
single process, which holds them in memory. Without --scheduler, a cluster of processes
is started on this machine, with a memory limit for each:

    python benchmarks/bench_dask.py --quick
    python benchmarks/bench_dask.py --rows 1000000 --layers 4 --workers 2 --memory 4GB
    python benchmarks/bench_dask.py --scheduler tcp://host:8786 --rows 100000000

Peaks are those of resident memory, for each worker above what it held before.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from time import perf_counter
from typing import Any

import numpy as np
import scipy.sparse as sp
from bench_pipeline import (
    RANDOM_STATE,
    describe,
    environment,
    forget_peak,
    markdown_table,
    peak_mb,
    publish,
)

from skleiden import LayerStack, MultiLayerTfidfSketcher, MutualKNNLeiden

NNZ_PER_ROW = 70
SIGNAL = 0.6


def planted(settings: dict[str, Any], block: int) -> np.ndarray:
    """Give the communities of the rows of a block."""
    rng = np.random.default_rng([RANDOM_STATE, block])
    rows = min(
        settings["block_rows"], settings["rows"] - block * settings["block_rows"]
    )
    return rng.integers(0, settings["communities"], rows)


def make_block(settings: dict[str, Any], layer: int, block: int) -> sp.csr_array:
    """Rows of a layer, as `skleiden.datasets.make_layered_activations` makes them."""
    neurons, communities = settings["neurons"], settings["communities"]
    preferred = np.random.default_rng([RANDOM_STATE, layer]).integers(
        0, neurons, (communities, NNZ_PER_ROW)
    )
    labels = planted(settings, block)
    rng = np.random.default_rng([RANDOM_STATE, layer, block])
    shape = (labels.size, NNZ_PER_ROW)
    popular = (neurons * rng.random(shape, dtype=np.float32) ** 2).astype(np.int32)
    own = preferred[labels[:, None], rng.integers(0, NNZ_PER_ROW, shape)]
    indices = np.where(rng.random(shape, dtype=np.float32) < SIGNAL, own, popular)
    values = rng.standard_exponential(shape, dtype=np.float32)
    indptr = np.arange(0, indices.size + 1, NNZ_PER_ROW)
    rows = sp.csr_array(
        (values.ravel(), indices.astype(np.int32).ravel(), indptr),
        shape=(labels.size, neurons),
    )
    rows.sum_duplicates()
    return rows


def n_blocks(settings: dict[str, Any]) -> int:
    """How many blocks the rows make."""
    return -(-settings["rows"] // settings["block_rows"])


def lazy_stack(settings: dict[str, Any]) -> LayerStack:
    """Layers that workers make when they are read."""
    import dask.array as da
    from dask import delayed

    # By value: workers elsewhere do not have this file.
    make = delayed(lambda layer, block: make_block(settings, layer, block), pure=True)
    layers = [
        da.concatenate(
            [
                da.from_delayed(
                    make(layer, block),
                    (len(planted(settings, block)), settings["neurons"]),
                    np.float32,
                )
                for block in range(n_blocks(settings))
            ]
        )
        for layer in range(settings["layers"])
    ]
    return LayerStack(layers)


def estimators(settings: dict[str, Any]) -> tuple[Any, Any]:
    """Sketcher and clusterer."""
    return (
        MultiLayerTfidfSketcher(settings["components"], random_state=RANDOM_STATE),
        MutualKNNLeiden(
            settings["n_neighbors"],
            algorithm=settings["algorithm"],
            random_state=RANDOM_STATE,
            verbose=int(settings["verbose"]),
        ),
    )


def result(
    settings: dict[str, Any], clusterer: Any, seconds: dict[str, float]
) -> dict[str, Any]:
    """Tell what is reported of a fitted clusterer."""
    from sklearn.metrics import adjusted_rand_score

    truth = np.concatenate([planted(settings, i) for i in range(n_blocks(settings))])
    return {
        "seconds": seconds | {"whole": sum(seconds.values())},
        "algorithm": clusterer.algorithm_,
        "recall": clusterer.knn_recall_,
        "edges": clusterer.affinity_matrix_.nnz // 2,
        "n_clusters": clusterer.n_clusters_,
        "modularity": clusterer.modularity_,
        "ari_planted": adjusted_rand_score(truth, clusterer.labels_),
    }


def run_here(settings: dict[str, Any], target: Path) -> None:
    """Measure the single process, and store its labels."""
    blocks = range(n_blocks(settings))
    layers = [
        sp.csr_array(sp.vstack([make_block(settings, i, block) for block in blocks]))
        for i in range(settings["layers"])
    ]
    before = forget_peak()
    sketcher, clusterer = estimators(settings)
    start = perf_counter()
    embedding = sketcher.fit_transform(LayerStack(layers))
    sketched = perf_counter()
    clusterer.fit(embedding)
    seconds = {"sketch": sketched - start, "cluster": perf_counter() - sketched}
    peak = peak_mb()
    report = result(settings, clusterer, seconds)
    report["memory_mb"] = [None if peak is None or before is None else peak - before]
    report["input_mb"] = (
        sum(
            layer.data.nbytes + layer.indices.nbytes + layer.indptr.nbytes
            for layer in layers
        )
        / 2**20
    )
    np.save(target / "labels.npy", clusterer.labels_)
    (target / "report.json").write_text(json.dumps(report))


@contextmanager
def cluster_client(settings: dict[str, Any]) -> Iterator[Any]:
    """Give a client of the cluster that is there, or of one on this machine."""
    from distributed import Client, LocalCluster

    if settings["scheduler"]:
        with Client(settings["scheduler"]) as client:
            yield client
        return
    with (
        LocalCluster(
            n_workers=settings["workers"],
            threads_per_worker=1,
            memory_limit=settings["memory"],
            dashboard_address=":0",
        ) as cluster,
        Client(cluster) as client,
    ):
        yield client


def resident_mb(field: str) -> float:
    """Read a field of Linux's account of a process, where this is shipped: a worker."""
    for line in open("/proc/self/status"):  # noqa: SIM115, PTH123
        if line.startswith(field):
            return int(line.split()[1]) / 1024
    return float("nan")


def run_there(settings: dict[str, Any]) -> dict[str, Any]:
    """Measure the cluster."""
    from skleiden._blocks.dask import OnWorkers

    stages: dict[str, float] = {}
    keep = OnWorkers.keep

    def timed(runner: OnWorkers, handles: Any, description: str) -> Any:
        start = perf_counter()
        kept = keep(runner, handles, description)
        name = description.split(" (")[0]
        stages[name] = stages.get(name, 0.0) + perf_counter() - start
        return kept

    status = resident_mb
    with cluster_client(settings) as client:
        setattr(OnWorkers, "keep", timed)  # noqa: B010
        before = client.run(lambda: status("VmRSS"))
        sketcher, clusterer = estimators(settings)
        start = perf_counter()
        embedding = sketcher.fit_transform(lazy_stack(settings)).persist()
        client.gather(client.map(lambda _: None, [0]))
        sketched = perf_counter()
        clusterer.fit(embedding)
        seconds = {"sketch": sketched - start, "cluster": perf_counter() - sketched}
        peaks = client.run(lambda: status("VmHWM"))
        setattr(OnWorkers, "keep", keep)  # noqa: B010
        report = result(settings, clusterer, seconds)
    report["stages"] = stages
    report["memory_mb"] = [peaks[name] - before.get(name, 0.0) for name in peaks]
    report["labels"] = clusterer.labels_
    return report


def benchmark(settings: dict[str, Any]) -> dict[str, Any]:
    """Run both, the cluster first."""
    from sklearn.metrics import adjusted_rand_score

    there = run_there(settings)
    labels = there.pop("labels")
    results: dict[str, Any] = {
        "environment": environment(),
        "settings": settings,
        "cluster": there,
    }
    if settings["single"]:
        with tempfile.TemporaryDirectory() as folder:
            subprocess.run(
                [sys.executable, __file__, "--here", folder, json.dumps(settings)],
                check=True,
            )
            results["process"] = json.loads((Path(folder) / "report.json").read_text())
            alone = np.load(Path(folder) / "labels.npy")
        results["same_labels"] = bool(np.array_equal(labels, alone))
        results["ari_between"] = adjusted_rand_score(labels, alone)
    return results


def report_markdown(results: dict[str, Any]) -> str:
    """Tables of the results."""
    settings = results["settings"]
    header = ["", "sketch", "cluster", "whole", "peak MB", "recall", "ARI to planted"]
    rows = []
    for name in ("cluster", "process"):
        if name in results:
            run = results[name]
            rows.append(
                [
                    "workers" if name == "cluster" else "one process",
                    *(
                        f"{run['seconds'][s]:.0f}"
                        for s in ("sketch", "cluster", "whole")
                    ),
                    ", ".join(
                        "?" if p is None else f"{p:.0f}" for p in run["memory_mb"]
                    ),
                    f"{run['recall']:.3f} ({run['algorithm']})",
                    f"{run['ari_planted']:.3f}",
                ]
            )
    text = [
        f"{settings['rows']} rows x {settings['layers']} layers",
        describe(results["environment"]),
        markdown_table(header, rows),
    ]
    if "ari_between" in results:
        text.append(
            f"Same labels: {results['same_labels']}; ARI {results['ari_between']:.4f}"
        )
    stages = results["cluster"]["stages"]
    text.append(
        ", ".join(f"{name} {seconds:.1f} s" for name, seconds in stages.items())
    )
    return "\n\n".join(text)


def main(arguments: Sequence[str] | None = None) -> None:
    """Read the command line and run."""
    arguments = sys.argv[1:] if arguments is None else arguments
    if arguments[:1] == ["--here"]:
        run_here(json.loads(arguments[2]), Path(arguments[1]))
        return
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rows", type=int, default=100_000)
    parser.add_argument("--layers", type=int, default=4)
    parser.add_argument("--neurons", type=int, default=2048)
    parser.add_argument("--communities", type=int, default=100)
    parser.add_argument("--components", type=int, default=64)
    parser.add_argument("--n-neighbors", type=int, default=40)
    parser.add_argument("--block-rows", type=int, default=50_000)
    parser.add_argument("--algorithm", default="auto")
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--memory", default="4GB", help="limit of each worker")
    parser.add_argument("--scheduler", default=None, help="address of a cluster")
    parser.add_argument("--no-single", dest="single", action="store_false")
    parser.add_argument("--verbose", action="store_true")
    parser.add_argument("--quick", action="store_true", help="a minute or less")
    parser.add_argument("--output", type=Path, help="write the results as JSON")
    parser.add_argument("--json", action="store_true", help="print them as JSON")
    options = parser.parse_args(arguments)
    if options.quick:
        options.rows, options.layers, options.block_rows = 20_000, 2, 4_000
    others = {"quick", "output", "json"}
    settings = {k: v for k, v in vars(options).items() if k not in others}
    publish(benchmark(settings), options, report_markdown)


if __name__ == "__main__":
    main()
