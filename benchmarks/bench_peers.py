"""Compare skleiden with other clusterers, from the same vectors to labels.

    python benchmarks/bench_peers.py fashion --quick --methods skleiden notebook kmeans
    python benchmarks/bench_peers.py fashion activations.npz --envs DIR --repeats 3

The data are "fashion", 70,000 images of clothing from the Debian package
dataset-fashion-mnist, or npz files: with the arrays `vectors` (n_samples, n_columns)
and `labels`, or with activations of the form that `bench_agreement.py` describes, which
are sketched first. Every method gets the same float32 rows of length one, in which
Euclidean and cosine neighbours are the same; rows of zeros are left out.

Each run is a process of its own that never sees the labels, and the methods take turns.
The clock starts after the imports and after a run on some of the rows, because several
methods compile themselves when first called. With `--envs DIR`, a peer runs in the
environment DIR/METHOD, which is made with venv and pip when it is missing; without, in
this interpreter. A method that cannot be installed or fails is reported with the last
line it printed, and the others go on. Nothing else should run meanwhile: methods that
run OpenMP threads, EVoC above all, become many times slower beside one busy process.

"seconds" and "MB" (peak memory above the loaded vectors) are of one run at the
method's defaults, or at resolution 1. The best AMI (adjusted mutual information with
the labels) is the highest over a few settings, chosen by the labels:

- skleiden, by default and with a graph as scanpy makes it, notebook (the recipe in
  `notebook_recipe.py`), scanpy, PhenoGraph, PARC: Leiden's resolution. All use 40
  neighbours, PARC its own 30;
- EVoC: the layers of its one fit; its default is the layer that it chooses itself;
- fast_hdbscan: `min_cluster_size`, and with it `min_samples`;
- BERTopic's clustering, UMAP to 5 columns and HDBSCAN as it sets them:
  `min_cluster_size`, of which its own is 10;
- TriTopic's clustering where there are vectors alone, without the lexical view and the
  choice of the resolution by keywords: UMAP to 10 columns, its hybrid graph, and its
  consensus of 10 runs of Leiden; resolution, of which its own is .3;
- KMeans: none. It is told the true number of classes.

Rows called noise (-1) are scored as one more community, and not counted as one. The
memory of the processes that PhenoGraph starts is not counted.
"""

from __future__ import annotations

import argparse
import ctypes
import gc
import json
import os
import shutil
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Callable, Sequence
from contextlib import suppress
from importlib import import_module
from importlib.metadata import version
from pathlib import Path
from statistics import median
from time import perf_counter
from typing import Any, NamedTuple

import numpy as np
from bench_pipeline import (
    N_NEIGHBORS,
    RANDOM_STATE,
    describe,
    environment,
    forget_peak,
    markdown_table,
    peak_mb,
    read_layers,
)

RESOLUTIONS = [1.0, 0.1, 0.3, 0.5, 2.0, 4.0]  # the default first
MIN_CLUSTER_SIZES = [5, 15, 50, 150]  # the default first
TOPIC_SIZES = [10, 5, 20, 50]  # BERTopic's default first
TOPIC_RESOLUTIONS = [0.3, 0.03, 0.1, 1.0, 2.0, 4.0]  # TriTopic's default first
WARM_UP_ROWS = 5000  # scanpy does not use pynndescent below 4,096


# ----------------------------------------------------------------------------- methods


class Data(NamedTuple):
    """What a method is given."""

    vectors: np.ndarray
    n_classes: int  # for KMeans alone


# The labels at a setting, and the settings to try, the default first. What is done
# before is common to all settings.
Fitted = tuple[Callable[[Any], Any], list[Any]]


def skleiden(data: Data, **parameters: Any) -> Fitted:
    from skleiden import MutualKNNLeiden

    def at(resolution: float) -> np.ndarray:
        model = MutualKNNLeiden(
            N_NEIGHBORS, resolution=resolution, random_state=RANDOM_STATE, **parameters
        )
        return model.fit_predict(data.vectors)

    return at, RESOLUTIONS


def skleiden_umap(data: Data) -> Fitted:
    return skleiden(data, graph="union", weights="umap")


def notebook(data: Data) -> Fitted:
    import notebook_recipe as recipe

    nearest = recipe.neighbors(data.vectors, k=N_NEIGHBORS)
    edges = recipe.mutual_edges(nearest)

    def at(resolution: float) -> np.ndarray:
        # The notebook keeps its neighbours until it returns, and so does this function.
        n_rows = len(nearest.indices)
        return recipe.leiden(edges, n_rows, resolution=resolution, seed=RANDOM_STATE)[0]

    return at, RESOLUTIONS


def scanpy(data: Data) -> Fitted:
    sc = import_module("scanpy")
    table = import_module("anndata").AnnData(data.vectors)
    sc.pp.neighbors(table, n_neighbors=N_NEIGHBORS, metric="cosine", use_rep="X")

    def at(resolution: float) -> np.ndarray:
        sc.tl.leiden(
            table,
            resolution=resolution,
            flavor="igraph",
            n_iterations=2,
            directed=False,
        )
        return table.obs["leiden"].astype(int)

    return at, RESOLUTIONS


def phenograph(data: Data) -> Fitted:
    # The package's function `cluster` hides the module of that name.
    module = import_module("phenograph.cluster")
    # Without an algorithm it returns the graph, on which the last two steps of
    # `cluster` follow: given a graph, `cluster` would compute the weights anew.
    graph = module.cluster(data.vectors, clustering_algo=None, k=N_NEIGHBORS)[1]

    def at(resolution: float) -> np.ndarray:
        found, _ = module.run_leiden(
            graph,
            directed=False,
            partition_type=None,
            resolution_parameter=resolution,
            n_iterations=-1,
            seed=RANDOM_STATE,
            use_weights=True,
            kargs={},
        )
        return module.sort_by_size(found)

    return at, RESOLUTIONS


def parc(data: Data) -> Fitted:
    module = import_module("parc")

    def at(resolution: float) -> list[int]:
        model = module.PARC(
            data.vectors, resolution_parameter=resolution, random_seed=RANDOM_STATE
        )
        model.run_PARC()
        return model.labels

    return at, RESOLUTIONS


def evoc(data: Data) -> Fitted:
    model = import_module("evoc").EVoC(random_state=RANDOM_STATE).fit(data.vectors)
    layers = {"chosen": model.labels_} | dict(enumerate(model.cluster_layers_))
    return layers.__getitem__, list(layers)


def fast_hdbscan(data: Data) -> Fitted:
    module = import_module("fast_hdbscan")

    def at(size: int) -> np.ndarray:
        return module.HDBSCAN(min_cluster_size=size).fit_predict(data.vectors)

    return at, MIN_CLUSTER_SIZES


def reduced(data: Data, n_components: int) -> np.ndarray:
    """UMAP as both BERTopic and TriTopic set it, but for the number of columns."""
    umap = import_module("umap")
    model = umap.UMAP(
        n_neighbors=15,
        n_components=n_components,
        min_dist=0.0,
        metric="cosine",
        random_state=RANDOM_STATE,
    )
    return model.fit_transform(data.vectors)


def bertopic(data: Data) -> Fitted:
    vectors = reduced(data, 5)
    module = import_module("hdbscan")

    def at(size: int) -> np.ndarray:
        return module.HDBSCAN(min_cluster_size=size).fit_predict(vectors)

    return at, TOPIC_SIZES


def tritopic(data: Data) -> Fitted:
    module = import_module("tritopic")
    vectors = reduced(data, 10)
    builder = module.GraphBuilder(metric="euclidean")
    graph = builder.build_multiview_graph(vectors, weights={"semantic": 1.0})

    def at(resolution: float) -> np.ndarray:
        model = module.ConsensusLeiden(resolution, random_state=RANDOM_STATE)
        return model.fit_predict(graph, min_cluster_size=5)

    return at, TOPIC_RESOLUTIONS


def kmeans(data: Data) -> Fitted:
    from sklearn.cluster import KMeans

    def at(n_clusters: int) -> np.ndarray:
        model = KMeans(n_clusters, random_state=RANDOM_STATE)
        return model.fit_predict(data.vectors)

    return at, [data.n_classes]


class Method(NamedTuple):
    """A method, what pip must install for it, and the versions worth telling."""

    title: str
    fit: Callable[[Data], Fitted]
    requirements: tuple[str, ...] = ()  # none: it runs in this interpreter
    packages: tuple[str, ...] = ()
    bare: tuple[str, ...] = ()  # installed without what they require, which is large


METHODS = {
    "skleiden": Method("skleiden", skleiden),
    "skleiden_umap": Method("skleiden, union graph, UMAP's weights", skleiden_umap),
    "notebook": Method("notebook", notebook),
    "scanpy": Method(
        "scanpy",
        scanpy,
        # scanpy 1.11 cannot read the matrices of newer pynndescent, and says so only
        # from 4,096 rows on.
        ("scanpy", "igraph", "leidenalg", "pynndescent<0.6"),
        ("scanpy", "pynndescent", "umap-learn", "igraph"),
    ),
    "phenograph": Method(
        "PhenoGraph",
        phenograph,
        ("phenograph",),
        ("phenograph", "scikit-learn", "leidenalg"),
    ),
    "parc": Method("PARC", parc, ("parc",), ("parc", "hnswlib", "leidenalg")),
    "evoc": Method("EVoC", evoc, ("evoc",), ("evoc", "numba")),
    "fast_hdbscan": Method(
        "fast_hdbscan",
        fast_hdbscan,
        ("fast_hdbscan[nndescent]",),  # without, it refuses more than 30 columns
        ("fast_hdbscan", "pynndescent", "numba"),
    ),
    "bertopic": Method(
        "BERTopic's clustering",
        bertopic,
        ("umap-learn", "hdbscan"),
        ("umap-learn", "hdbscan"),
    ),
    "tritopic": Method(
        "TriTopic's clustering",
        tritopic,
        ("umap-learn", "hdbscan", "igraph", "leidenalg", "pandas", "plotly", "tqdm"),
        ("tritopic", "umap-learn", "leidenalg"),
        ("tritopic",),
    ),
    "kmeans": Method("KMeans, true number of classes", kmeans),
}


# -------------------------------------------------------------------------- one worker


def work(method: str, source: str, target: str, n_classes: int, *, grid: bool) -> None:
    """Measure one run of one method and store what it found, as JSON."""
    vectors = np.load(source)
    fit, packages = METHODS[method].fit, METHODS[method].packages
    rows = np.random.default_rng(0).permutation(len(vectors))[:WARM_UP_ROWS]
    at, settings = fit(Data(vectors[rows], n_classes))
    at(settings[0])
    del at
    gc.collect()
    with suppress(AttributeError, OSError, TypeError):  # of glibc, and nowhere else
        # What the warm-up has freed would pass for loaded, and be used again unseen.
        ctypes.CDLL(None).malloc_trim(0)
    loaded = forget_peak()

    start = perf_counter()
    at, settings = fit(Data(vectors, n_classes))
    common = perf_counter() - start
    labels = at(settings[0])
    seconds = perf_counter() - start
    peak = peak_mb()

    report: dict[str, Any] = {
        "seconds": seconds,
        "memory_mb": None if peak is None or loaded is None else peak - loaded,
        "packages": {name: version(name) for name in packages},
        "partitions": [],
    }
    for setting in settings if grid else settings[:1]:
        if setting != settings[0]:
            start = perf_counter()
            labels = at(setting)
            seconds = common + perf_counter() - start
        report["partitions"].append(
            {
                "setting": setting,
                "seconds": seconds,
                "labels": np.asarray(labels).tolist(),
            }
        )
        # After each, so that little is lost if a later one fails or takes too long.
        unfinished = Path(target + ".part")
        unfinished.write_text(json.dumps(report))
        unfinished.replace(target)


def last_line(text: str | None) -> str:
    """Return the last line with something on it, where programs put their reason."""
    lines = (text or "").split("\n")
    return next((line.strip() for line in reversed(lines) if line.strip()), "")


def interpreter(method: str, envs: Path | None) -> str:
    """Return the Python that runs a method; make its environment when missing."""
    requirements = METHODS[method].requirements
    if envs is None or not requirements:
        return sys.executable
    folder = envs.absolute() / method
    python = folder / ("Scripts/python.exe" if os.name == "nt" else "bin/python")
    if python.exists():
        return str(python)
    print(f"making the environment of {method}", file=sys.stderr)
    folder.mkdir(parents=True)
    pip = [str(python), "-m", "pip", "install", "--quiet"]
    commands = [[sys.executable, "-m", "venv", str(folder)], [*pip, *requirements]]
    if METHODS[method].bare:
        commands.append([*pip, "--no-deps", *METHODS[method].bare])
    try:
        for command in commands:
            subprocess.run(command, check=True, capture_output=True, text=True)
    except BaseException:  # half an environment would pass for a whole one next time
        shutil.rmtree(folder)
        raise
    return str(python)


def start_worker(
    method: str,
    source: Path,
    n_classes: int,
    *,
    grid: bool,
    envs: Path | None,
    timeout: float,
) -> dict[str, Any]:
    """Run `work` in a process of its own and read back what it stored.

    What went wrong is under "failed", beside what was found before.
    """
    target = source.with_suffix(".json")
    target.unlink(missing_ok=True)
    failed = None
    try:
        python = interpreter(method, envs)
        command = [python, __file__, "--worker", method, str(source), str(target)]
        command += [str(n_classes), "grid" if grid else ""]
        variables = dict(os.environ)
        if python != sys.executable:  # its packages are for another environment
            variables.pop("PYTHONPATH", None)
        subprocess.run(
            command,
            check=True,
            capture_output=True,
            text=True,
            timeout=timeout,
            env=variables,
        )
    except subprocess.CalledProcessError as error:
        failed = last_line(error.stderr) or last_line(error.stdout) or str(error)
    except subprocess.TimeoutExpired:
        failed = f"took more than {timeout:g} s"
    except OSError as error:
        failed = str(error)
    report = json.loads(target.read_text()) if target.exists() else {}
    return report | ({"failed": failed} if failed else {})


# -------------------------------------------------------------------------- comparison


def load(name: str, weighting: str, rows: int | None) -> tuple[np.ndarray, np.ndarray]:
    """Unit-length vectors of a data set, or of some of its rows, and their labels."""
    from skleiden import LayerStack, MultiLayerTfidfSketcher

    X: Any
    if name == "fashion":
        from bench_resolution import read_fashion

        X, labels = read_fashion(["train", "t10k"])
    elif zipfile.is_zipfile(name) and "vectors" in np.load(name):
        with np.load(name) as archive:
            X, labels = archive["vectors"], archive["labels"]
    else:
        layers, labels = read_layers(name)
        X = LayerStack(layers)
    if rows is not None and rows < len(labels):
        kept = np.random.default_rng(0).permutation(len(labels))[:rows]
        X, labels = X[kept], labels[kept]
    if isinstance(X, LayerStack):
        sketcher = MultiLayerTfidfSketcher(
            weighting=weighting, random_state=RANDOM_STATE
        )
        X = sketcher.fit_transform(X)
    X = np.asarray(X, dtype=np.float32)
    lengths = np.linalg.norm(X, axis=1)
    return X[lengths > 0] / lengths[lengths > 0, None], labels[lengths > 0]


def score(labels: np.ndarray, found: Sequence[int]) -> dict[str, Any]:
    """Compare a partition with the labels."""
    from sklearn.metrics import adjusted_mutual_info_score, adjusted_rand_score

    return {
        "ami": float(adjusted_mutual_info_score(labels, found)),
        "ari": float(adjusted_rand_score(labels, found)),
        "communities": len(set(found) - {-1}),
        "noise": float(np.mean(np.asarray(found) == -1)),
    }


def summarise(runs: Sequence[dict[str, Any]], labels: np.ndarray) -> dict[str, Any]:
    """Put the runs of one method together; the first has the grid."""
    failed = {"failed": runs[-1]["failed"]} if "failed" in runs[-1] else {}
    measured = [run for run in runs if run.get("partitions")]
    if not measured:
        return failed
    seconds = [run["seconds"] for run in measured]
    memory = [run["memory_mb"] for run in measured if run["memory_mb"] is not None]
    settings = [
        {"setting": entry["setting"], "seconds": entry["seconds"]}
        | score(labels, entry["labels"])
        for entry in measured[0]["partitions"]
    ]
    settings[0]["seconds"] = median(seconds)
    return {
        "seconds": median(seconds),
        "memory_mb": median(memory) if memory else None,
        "default": settings[0],
        "best": max(settings, key=lambda entry: entry["ami"]),
        "settings": settings,
        "packages": measured[0]["packages"],
        "runs": [
            {key: run[key] for key in ("seconds", "memory_mb")} for run in measured
        ],
    } | failed


def compare(
    vectors: np.ndarray,
    labels: np.ndarray,
    *,
    methods: Sequence[str],
    repeats: int,
    envs: Path | None,
    timeout: float,
) -> tuple[dict[str, dict[str, Any]], dict[str, list[int]]]:
    """Run the methods in turn; return their summaries, and the partitions by name."""
    runs: dict[str, list[dict[str, Any]]] = {method: [] for method in methods}
    with tempfile.TemporaryDirectory() as folder:
        source = Path(folder, "vectors.npy")
        np.save(source, vectors)
        for number in range(repeats):
            for method in methods:
                if any("failed" in run for run in runs[method]):
                    continue
                run = start_worker(
                    method,
                    source,
                    np.unique(labels).size,
                    grid=number == 0,
                    envs=envs,
                    timeout=timeout,
                )
                found = f"{run['seconds']:.2f} s" if "seconds" in run else ""
                print(
                    f"run {number + 1}, {method}: {found} {run.get('failed', '')}",
                    file=sys.stderr,
                )
                runs[method].append(run)
    partitions = {
        f"{method}/{entry['setting']}": entry["labels"]
        for method in methods
        for entry in runs[method][0].get("partitions", [])
    }
    return {m: summarise(runs[m], labels) for m in methods}, partitions


# --------------------------------------------------------------------------- reporting


def report_markdown(results: dict[str, Any]) -> str:
    """Show a table for each data set, and below it what failed and the versions."""
    header = ["", "seconds", "MB", "AMI", "best at", "AMI", "ARI", "communities"]
    header += ["noise", "seconds there"]
    parts = []
    versions: dict[str, str] = {}  # by title: two environments may differ
    for data in results["data"]:
        rows, failures = [], []
        for method, found in data["methods"].items():
            title = METHODS[method].title
            if "failed" in found:
                failures.append(f"{title} failed: {found['failed']}")
            if "best" not in found:
                rows.append([title, *[None] * (len(header) - 1)])
                continue
            best = found["best"]
            memory = found["memory_mb"]
            rows.append(
                [
                    title,
                    found["seconds"],
                    None if memory is None else f"{memory:.0f}",
                    f"{found['default']['ami']:.3f}",
                    best["setting"],
                    f"{best['ami']:.3f}",
                    f"{best['ari']:.3f}",
                    best["communities"],
                    f"{best['noise']:.1%}",
                    best["seconds"],
                ]
            )
            if found["packages"]:
                versions[title] = ", ".join(
                    f"{name} {number}" for name, number in found["packages"].items()
                )
        parts.append(
            f"{data['name']}: {data['rows']:,} rows, {data['columns']} columns, "
            f"{data['classes']} classes; medians of {results['settings']['repeats']} "
            "alternating run(s)."
        )
        parts += [markdown_table(header, rows), *failures]
    if versions:
        listed = "; ".join(f"{title}: {found}" for title, found in versions.items())
        parts.append(f"Peers: {listed}.")
    return "\n\n".join([*parts, describe(results["environment"])])


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("data", nargs="*", help='"fashion" or npz files')
    parser.add_argument("--quick", action="store_true", help="1,000 rows, one run")
    parser.add_argument("--methods", nargs="+", choices=METHODS, default=list(METHODS))
    parser.add_argument("--rows", type=int, help="number of random rows (all)")
    parser.add_argument("--repeats", type=int, help="runs of each (3; quick: 1)")
    parser.add_argument(
        "--weighting", default="idf", help="weighting of the sketch (idf)"
    )
    parser.add_argument("--envs", type=Path, help="folder of the environments")
    parser.add_argument(
        "--timeout", type=float, default=3600, help="seconds for a run (3600)"
    )
    parser.add_argument("--output", type=Path, help="write the results here, as JSON")
    parser.add_argument("--json", action="store_true", help="print JSON, not Markdown")
    parser.add_argument(
        "--partitions", type=Path, help="write the labels found here, as npz"
    )
    parser.add_argument("--worker", nargs=5, help=argparse.SUPPRESS)
    options = parser.parse_args(arguments)
    if options.worker:
        method, source, target, n_classes, grid = options.worker
        work(method, source, target, int(n_classes), grid=bool(grid))
        return
    if not options.data:
        parser.error("name some data")

    settings = {
        "rows": options.rows or (1000 if options.quick else None),
        "repeats": options.repeats or (1 if options.quick else 3),
        "weighting": options.weighting,
        "random_state": RANDOM_STATE,
        "n_neighbors": N_NEIGHBORS,
    }
    results: dict[str, Any] = {
        "settings": settings,
        "environment": environment(),
        "data": [],
    }
    partitions: dict[str, Any] = {}
    for path in options.data:
        name = Path(path).stem
        try:
            vectors, labels = load(path, options.weighting, settings["rows"])
        except (OSError, ValueError) as error:
            parser.error(str(error))
        methods, found = compare(
            vectors,
            labels,
            methods=options.methods,
            repeats=settings["repeats"],
            envs=options.envs,
            timeout=options.timeout,
        )
        results["data"].append(
            {
                "name": name,
                "rows": len(vectors),
                "columns": vectors.shape[1],
                "classes": np.unique(labels).size,
                "methods": methods,
            }
        )
        partitions |= {f"{name}/{key}": value for key, value in found.items()}
        partitions[f"{name}/labels"] = labels
        # After each data set: what is measured is not lost with a later one.
        if options.output:
            options.output.write_text(json.dumps(results, indent=2) + "\n")
        if options.partitions:
            np.savez_compressed(options.partitions, **partitions)
    print(json.dumps(results, indent=2) if options.json else report_markdown(results))


if __name__ == "__main__":
    main()
