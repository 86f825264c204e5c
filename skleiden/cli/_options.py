"""Options of the commands, and the estimators that they describe."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple


class _Option(NamedTuple):
    """A parameter of an estimator as an option; defaults are the estimator's."""

    name: str
    kind: Callable[[str], Any]
    default: Any
    help: str
    choices: tuple[str, ...] | None = None


def _above_zero(kind: type) -> Callable[[str], Any]:
    def parse(text: str) -> Any:
        value = kind(text)
        if not 0 < value < float("inf"):
            raise argparse.ArgumentTypeError(f"must be above 0; got {text}")
        return value

    parse.__name__ = kind.__name__  # argparse's "invalid float value"
    return parse


def _seed(text: str) -> int:
    seed = int(text)
    if not 0 <= seed < 2**32:
        raise argparse.ArgumentTypeError(f"must be from 0 to 2**32 - 1; got {text}")
    return seed


def _n_jobs(text: str) -> int:
    # More than there are processors make nothing faster, and may be more than the
    # system has room for.
    return min(int(text), os.cpu_count() or 1)


_seed.__name__ = _n_jobs.__name__ = "int"
_positive, _count = _above_zero(float), _above_zero(int)


def _numbers(kind: Callable[[str], Any]) -> Callable[[str], Any]:
    """One number, or several with commas between them."""

    def parse(text: str) -> Any:
        values = [kind(part) for part in text.split(",")]
        return values if len(values) > 1 else values[0]

    parse.__name__ = f"{kind.__name__} or list of {kind.__name__}"
    return parse


# What a user may say, in the order of the estimators' own documentation, where each is
# explained in full. That these are all, with the right defaults, is tested.
SKETCH = (
    _Option("n_components", _numbers(_count), 64, "columns of the embedding a layer"),
    _Option("layer_weights", _numbers(float), None, "weight of each layer: 1,2,1"),
    _Option(
        "weighting",
        str,
        "idf",
        "weighting of the neurons",
        choices=("idf", "zscore", "none"),
    ),
    _Option(
        "smooth_idf", bool, True, "count one row more that has every neuron active"
    ),
    _Option("sublinear_tf", bool, False, "take logarithms of activations"),
    _Option("zero_tol", float, 0.0, "activations up to this count as zero"),
    _Option("batch_size", _count, None, "rows read at once"),
    _Option(
        "dtype", str, "float32", "of the embedding", choices=("float32", "float64")
    ),
)
CLUSTER = (
    _Option("n_neighbors", _count, 40, "neighbours of each prompt"),
    _Option(
        "algorithm",
        str,
        "auto",
        "search for neighbours",
        choices=("auto", "exact", "ivf", "hnsw"),
    ),
    _Option("target_recall", _positive, 0.95, "share of neighbours to be found"),
    _Option("hnsw_m", _count, 32, "links a row, of hnsw"),
    _Option("ef_construction", _count, 200, "candidates while hnsw builds"),
    _Option("ef_search", _count, 64, "candidates while hnsw searches"),
    _Option(
        "graph",
        str,
        "mutual",
        "whether both ends of an edge must list each other",
        choices=("mutual", "union"),
    ),
    _Option(
        "weights",
        str,
        "similarity",
        "weights of the edges",
        choices=("similarity", "uniform", "jaccard", "umap"),
    ),
    _Option(
        "objective",
        str,
        "modularity",
        "what Leiden maximises",
        choices=("modularity", "cpm", "rber", "surprise", "significance"),
    ),
    _Option(
        "resolution", _positive, 1.0, "the larger, the more and smaller the communities"
    ),
    _Option("n_iterations", int, 2, "of Leiden; -1 until nothing is gained"),
    _Option(
        "backend",
        str,
        "auto",
        "implementation of Leiden",
        choices=("auto", "igraph", "leidenalg"),
    ),
    _Option("min_cluster_size", _count, 5, "smaller communities are small"),
    _Option(
        "small_clusters",
        str,
        "attach",
        "what becomes of small communities",
        choices=("attach", "noise", "keep"),
    ),
)


def add_estimators(
    parser: argparse.ArgumentParser, *, leave_out: Sequence[str] = ()
) -> None:
    """Add all parameters of the sketcher and the clusterer, but for some."""
    for title, options in (("sketch", SKETCH), ("communities", CLUSTER)):
        group = parser.add_argument_group(title)
        for option in options:
            if option.name not in leave_out:
                _add(group, option)
    group = parser.add_argument_group("both")
    add_seed(group)
    group.add_argument(
        "--n-jobs",
        type=_n_jobs,
        default=-1,
        metavar="N",
        help="threads or processes, at most one for each processor; -1 for all",
    )


def add_some(parser: argparse.ArgumentParser, *names: str) -> None:
    """Add some parameters of the sketcher and the clusterer."""
    for option in (*SKETCH, *CLUSTER):
        if option.name in names:
            _add(parser, option)


def add_seed(parser: Any) -> None:
    """Add the seed."""
    parser.add_argument(
        "--random-state",
        "--seed",
        type=_seed,
        default=0,
        metavar="N",
        help="seed of everything random",
    )


def _add(parser: Any, option: _Option) -> None:
    flag = "--" + option.name.replace("_", "-")
    if option.kind is bool:
        parser.add_argument(
            flag,
            action=argparse.BooleanOptionalAction,
            default=option.default,
            help=option.help,
        )
        return
    parser.add_argument(
        flag,
        type=option.kind,
        default=option.default,
        choices=option.choices,
        metavar=None if option.choices else option.name[0].upper(),
        help=option.help,
    )


def add_input(parser: argparse.ArgumentParser) -> None:
    """Add the files of activations, and what is said of them."""
    parser.add_argument(
        "files",
        nargs="+",
        metavar="FILE",
        help="activations, one file a layer: torch, safetensors, .npy, .npz or JSON",
    )
    group = parser.add_argument_group("input")
    group.add_argument(
        "--key",
        default="post",
        metavar="KEY",
        help="what to take of {'pre', 'post', 'out'} records",
    )
    group.add_argument(
        "--layers",
        default=argparse.SUPPRESS,
        metavar="NAME,...",
        help="layers to keep (default: all)",
    )
    group.add_argument(
        "--ids",
        type=Path,
        default=argparse.SUPPRESS,
        metavar="FILE",
        help="ids of the rows of matrices",
    )


def make_pipeline(options: argparse.Namespace, *, n_jobs: int | None) -> Any:
    """The pipeline that the options describe."""
    import numpy as np
    from sklearn.pipeline import Pipeline

    from skleiden import MultiLayerTfidfSketcher, MutualKNNLeiden

    def chosen(of: tuple[_Option, ...]) -> dict[str, Any]:
        return {
            o.name: getattr(options, o.name) for o in of if hasattr(options, o.name)
        }

    common = {"random_state": options.random_state, "n_jobs": n_jobs}
    sketch = chosen(SKETCH)
    if "dtype" in sketch:
        sketch["dtype"] = np.dtype(sketch["dtype"]).type
    # Bars are for a terminal, and for one fit.
    runs = getattr(options, "n_runs", 1) if n_jobs is not None else 1
    verbose = int(not options.quiet and runs == 1 and sys.stderr.isatty())
    return Pipeline(
        [
            ("sketch", MultiLayerTfidfSketcher(**sketch, **common, verbose=verbose)),
            ("leiden", MutualKNNLeiden(**chosen(CLUSTER), **common, verbose=verbose)),
        ]
    )
