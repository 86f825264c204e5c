"""One estimator, fitted again and again with variations, and the partitions found."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain, combinations, pairwise
from numbers import Integral, Real
from operator import itemgetter
from typing import Any, ClassVar, NamedTuple

import numpy as np
from joblib import effective_n_jobs
from sklearn.base import clone
from sklearn.pipeline import Pipeline
from sklearn.utils import get_tags
from sklearn.utils._param_validation import Interval, StrOptions
from sklearn.utils.parallel import Parallel, delayed
from sklearn.utils.validation import _num_features, _num_samples

from skleiden._blocks.layout import layer_layout
from skleiden._blocks.sources import as_matrix, keep_columns, some_rows
from skleiden._clusterer import MutualKNNLeiden
from skleiden._fitting import final_step, fitted_labelling, processes
from skleiden._kernels import partitions
from skleiden._layers import LayerStack
from skleiden._sketcher import MultiLayerTfidfSketcher
from skleiden._stages.affinity import Joining, join_graph
from skleiden._stages.partition import KNNGraph, Partitioning
from skleiden._vectors import list_neighbors


class Run(NamedTuple):
    """One partition: labels from 0 without gaps, -1 for noise, and its figures.

    `rows` are the rows that the labels belong to, None for all.
    """

    labels: np.ndarray
    n_clusters: int
    coverage: float
    largest_fraction: float
    modularity: float
    rows: np.ndarray | None = None


def summarize_run(labels: Any, attached: Any = None, modularity: Any = None) -> Run:
    """Compute the figures of a partition, which `make_stability_scorer` explains."""
    labels = partitions.number(np.asarray(labels))
    sizes = partitions.sizes(labels)
    covered = (labels >= 0) & (np.append(sizes, 0)[labels] > 1)
    if attached is not None:
        covered &= ~attached
    return Run(
        labels,
        sizes.size,
        float(covered.mean()),
        float(sizes.max(initial=0) / labels.size),
        float("nan") if modularity is None else float(modularity),
    )


@dataclass(frozen=True)
class Guard:
    """Rules for when the agreement of partitions may be relied on, and its measures.

    `make_stability_scorer` explains the parameters; `CONSTRAINTS` holds their
    constraints.
    """

    noise: str = "singletons"
    min_clusters: int = 2
    max_cluster_fraction: float = 0.5
    min_coverage: float = 0.5
    degenerate_score: float = 0.0

    CONSTRAINTS: ClassVar[dict[str, Any]] = {
        "noise": [StrOptions({"singletons", "cluster", "drop"})],
        "min_clusters": [Interval(Integral, 1, None, closed="left")],
        "max_cluster_fraction": [Interval(Real, 0, 1, closed="right")],
        "min_coverage": [Interval(Real, 0, 1, closed="both")],
        "degenerate_score": [Interval(Real, -1, 1, closed="both")],
    }

    def is_degenerate(self, run: Run) -> bool:
        """Whether a partition says too little for its agreement to count."""
        return (
            run.n_clusters < self.min_clusters
            or run.largest_fraction > self.max_cluster_fraction
            or run.coverage < max(self.min_coverage, np.finfo(float).tiny)
        )

    def rand(self, one: Run, other: Run) -> float:
        """Give the adjusted Rand index of two runs, on the rows that both have."""
        a, b = common_labels(one, other)
        if self.noise == "cluster":
            a, b = a + 1, b + 1
        elif self.noise == "drop":
            placed = (a >= 0) & (b >= 0)
            a, b = a[placed], b[placed]
        return partitions.adjusted_rand(a, b)

    def scores(self, runs: Sequence[Run]) -> np.ndarray:
        """Give the adjusted Rand indices of all pairs of runs."""
        bad = [self.is_degenerate(run) for run in runs]
        return np.array(
            [
                self.degenerate_score
                if bad[i] or bad[j]
                else self.rand(runs[i], runs[j])
                for i, j in combinations(range(len(runs)), 2)
            ]
        )

    def figures(self, runs: Sequence[Run]) -> dict[str, float]:
        """Give the mean figures of some runs, and how well their pairs agree."""
        names = ("n_clusters", "coverage", "largest_fraction", "modularity")
        scores = self.scores(runs)
        return {
            **{name: np.mean([getattr(run, name) for run in runs]) for name in names},
            "stability": scores.mean(),
            "worst_pair": scores.min(),
        }


def common_labels(one: Run, other: Run) -> tuple[np.ndarray, np.ndarray]:
    """Give the labels of the rows that both runs have."""
    if one.rows is None or other.rows is None:
        return one.labels, other.labels
    _, in_one, in_other = np.intersect1d(
        one.rows, other.rows, assume_unique=True, return_indices=True
    )
    return one.labels[in_one], other.labels[in_other]


class Draw(NamedTuple):
    """Seeds, rows and neurons in which one run differs from others.

    `rows` are the rows that it is fitted on, `neurons` is the mask of the columns that
    it sees; None for all.
    """

    seeds: Mapping[str, int]
    rows: np.ndarray | None = None
    neurons: np.ndarray | None = None


class Varied(NamedTuple):
    """Random states, by name, and halves of the columns that vary between runs.

    `halves` is what the columns are called, "neurons" or "prompts"; "" if runs see all.
    """

    names: list[str]
    halves: str

    def draw(
        self,
        estimator: Any,
        X: Any,
        n_runs: int,
        rng: np.random.RandomState,
        subsample: float | None = None,
    ) -> list[Draw]:
        """Draw the seeds, rows and neurons in which runs differ."""
        seeds = draw_seeds(estimator, self.names, n_runs, rng)
        rows = draw_rows(_num_samples(X), subsample, n_runs, rng)
        masks: Sequence[np.ndarray | None] = [None] * n_runs
        if self.halves:
            self._check_columns(X)
            masks = draw_halves(widths_of_layers(estimator, X), n_runs, rng)
        return [Draw(*parts) for parts in zip(seeds, rows, masks, strict=True)]

    def _check_columns(self, X: Any) -> None:
        of_neurons = isinstance(X, LayerStack) and X.row_layers is not None
        columns = "prompts" if of_neurons else "neurons"
        if self.halves != columns:
            raise ValueError(
                f"vary={self.halves!r} leaves out columns of X, which are {columns} "
                f"here; write {columns!r}. LayerStack.neurons() makes a stack whose "
                "columns are prompts."
            )


def read_vary(estimator: Any, vary: str | Iterable[str]) -> Varied:
    """Read the parameter `vary`."""
    asked = [vary] if isinstance(vary, str) else list(vary)
    known = seed_names(estimator)
    halves = [name for name in ("neurons", "prompts") if name in asked]
    named = [name for name in asked if name not in ("all", *halves)]
    unknown = [name for name in named if name not in known]
    if unknown:
        raise ValueError(
            f"vary must name parameters that hold a random state; got {unknown}, but "
            f"{type(estimator).__name__} has {known}. Or it is 'all', 'neurons', "
            "'prompts' where rows are neurons, or a list with these."
        )
    if halves:
        refuse_graph(estimator)
    return Varied(known if "all" in asked else named, "".join(halves[:1]))


def must_vary(
    estimator: Any,
    vary: str | Iterable[str],
    subsample: float | None,
    remedy: str = "Set subsample, for example to 0.8, to vary the rows.",
) -> Varied:
    """Read the parameter `vary`, refused if nothing would vary at all."""
    varied = read_vary(estimator, vary)
    if not varied.names and not varied.halves and subsample is None:
        is_all = isinstance(vary, str) and vary == "all"
        why = "it has no parameter random_state"
        raise ValueError(
            f"Nothing varies between the runs of {type(estimator).__name__}: "
            f"{why if is_all else 'vary names no parameter'}. {remedy}"
        )
    return varied


def refuse_graph(estimator: Any) -> None:
    """Raise a ValueError for an estimator whose X is a graph of its rows."""
    if get_tags(estimator).input_tags.pairwise:
        raise ValueError(
            f"{final_name(estimator)} takes a precomputed graph, whose columns are "
            "rows: they can neither be permuted nor left out, nor clustered a part at "
            "a time. Put the step that computes the graph into the pipeline."
        )


def final_name(estimator: Any) -> str:
    """Give the class name of the last step."""
    return type(final_step(estimator)[1]).__name__


def seed_names(estimator: Any) -> list[str]:
    """Name the parameters that hold a random state."""
    return sorted(
        name
        for name in estimator.get_params(deep=True)
        if name.rpartition("__")[2] == "random_state"
    )


def draw_seeds(
    estimator: Any, names: Sequence[str], n_runs: int, rng: np.random.RandomState
) -> list[dict[str, int]]:
    """Give a seed for each named parameter and run.

    Random states left at None are held fixed: they get one seed for all runs.
    """
    parameters = estimator.get_params(deep=True)
    fixed = {
        name: int(rng.randint(2**31 - 1))
        for name in seed_names(estimator)
        if parameters[name] is None
    }
    return [
        fixed | {name: int(rng.randint(2**31 - 1)) for name in names}
        for _ in range(n_runs)
    ]


def draw_rows(
    n_samples: int, subsample: float | None, n_runs: int, rng: np.random.RandomState
) -> Sequence[np.ndarray | None]:
    """Draw the rows of each run, in ascending order; None for all."""
    if subsample is None:
        return [None] * n_runs
    is_number = isinstance(subsample, Integral)
    size = int(subsample) if is_number else round(subsample * n_samples)
    if not 2 <= size <= n_samples:
        raise ValueError(
            f"subsample={subsample!r} takes {size} of {n_samples} rows; it must take "
            "at least 2 and at most all."
        )
    return [np.sort(rng.permutation(n_samples)[:size]) for _ in range(n_runs)]


def draw_halves(
    widths: Sequence[int], n_runs: int, rng: np.random.RandomState
) -> list[np.ndarray]:
    """Draw a mask of half of each layer's columns for each run.

    Runs 0 and 1, 2 and 3, and so on, see disjoint halves. A layer of a single column
    is seen by all of them.
    """
    if max(widths) < 2:
        raise ValueError(
            "vary='neurons' takes halves of each layer's columns; got no layer of at "
            "least two. Vary random states or rows, or give layers as they are before "
            "they are reduced."
        )
    masks: list[np.ndarray] = []
    while len(masks) < n_runs:
        first = [rng.permutation(width) < (width + 1) // 2 for width in widths]
        second = [~half | (half.size == 1) for half in first]
        masks += [np.concatenate(first), np.concatenate(second)]
    return masks[:n_runs]


def widths_of_layers(estimator: Any, X: Any) -> tuple[int, ...]:
    """Give the width of each layer of X, as the estimator is going to take X."""
    if isinstance(X, LayerStack):
        return X.widths
    stated = getattr(_first_sketcher(estimator), "layers", None)
    return layer_layout(stated, _num_features(X))[1]


def seen(estimator: Any, X: Any, neurons: np.ndarray | None) -> Any:
    """Give X with zeros in all columns but those of a mask; None keeps all columns."""
    if neurons is None:
        return X
    # All else is handed arrays in memory, since it may do with them what it likes.
    lazily = _first_sketcher(estimator) is not None
    if not isinstance(X, LayerStack):
        return keep_columns(as_matrix(X, "X"), neurons, lazily=lazily)
    columns = pairwise(np.cumsum([0, *X.widths]).tolist())
    layers = [
        keep_columns(layer, neurons[start:stop], lazily=lazily)
        for layer, (start, stop) in zip(X.layers, columns, strict=True)
    ]
    return X._with_layers(layers)


def _first_sketcher(estimator: Any) -> MultiLayerTfidfSketcher | None:
    """Give the first step, which X is handed to, if it is a sketcher; else None."""
    while isinstance(estimator, Pipeline):
        estimator = estimator.steps[0][1]
    return estimator if isinstance(estimator, MultiLayerTfidfSketcher) else None


def fitted_run(estimator: Any) -> Run:
    """Give the partition of a fitted clusterer, or pipeline that ends in one."""
    last = fitted_labelling(estimator)
    return summarize_run(
        last.labels_,
        getattr(last, "attached_", None),
        getattr(last, "modularity_", None),
    )


def fit(estimator: Any, X: Any, y: Any) -> Any:
    """Fit an estimator, without y if there is none."""
    return estimator.fit(X) if y is None else estimator.fit(X, y)


def fit_graph(estimator: Any, X: Any, y: Any = None) -> tuple[Any, KNNGraph]:
    """Compute the graph that a pipeline hands to Leiden; also give its clusterer."""
    while type(estimator) is Pipeline:
        *front, (_, last) = estimator.steps
        # With a last step that does nothing, `memory` caches all the others.
        X = Pipeline(
            [*front, ("end", "passthrough")],
            memory=estimator.memory,
            verbose=estimator.verbose,
        ).fit_transform(X, y)
        estimator = last
    estimator._validate_params()
    Partitioning.of(estimator)  # which refuses, before the search, what makes no sense
    graph = join_graph(*list_neighbors(estimator, X)[:3], Joining.of(estimator))
    graph.there = None  # runs go to processes that may have no part in a cluster
    return estimator, graph


def leiden_runs(
    clusterer: MutualKNNLeiden, graph: KNNGraph, random_states: Iterable[Any]
) -> list[Run]:
    """Compute what `fit` computes after the graph, for several random states.

    None stands for the clusterer's own random state.
    """
    own = clusterer.random_state
    states = (own if state is None else state for state in random_states)
    return [
        summarize_run(found.labels, found.attached, found.modularity)
        for found in Partitioning.of(clusterer).run(graph, states)
    ]


def repeat_fit(
    estimator: Any,
    X: Any,
    y: Any,
    draws: Sequence[Draw],
    *,
    n_jobs: int | None = None,
) -> list[Run]:
    """Fit clones of an estimator, each with its seeds, on its rows and neurons.

    Where the last step is a `MutualKNNLeiden` and all rows are used, runs that differ
    in nothing but its seed share their embedding and their graph.
    """
    prefix, last = final_step(estimator)
    n_jobs = processes(n_jobs)
    parallel = Parallel(n_jobs=n_jobs)
    has_rows = any(draw.rows is not None for draw in draws)
    if has_rows or not isinstance(last, MutualKNNLeiden):
        return parallel(delayed(_fit)(clone(estimator), X, y, draw) for draw in draws)
    own = f"{prefix}random_state"
    groups: dict[Any, list[int]] = {}
    for i, draw in enumerate(draws):
        others = tuple(seed for name, seed in sorted(draw.seeds.items()) if name != own)
        half = None if draw.neurons is None else draw.neurons.tobytes()
        groups.setdefault((others, half), []).append(i)
    if len(groups) == 1:
        clusterer, graph = _fit_graph(clone(estimator), X, y, draws[0])
        # One task for each process, which hands the graph over to igraph once.
        n_tasks = min(len(draws), effective_n_jobs(n_jobs))
        shares = np.array_split([draw.seeds.get(own) for draw in draws], n_tasks)
        found = parallel(
            delayed(leiden_runs)(clone(clusterer), graph, share.tolist())
            for share in shares
        )
        return list(chain(*found))
    found = parallel(
        delayed(_fit_group)(clone(estimator), X, y, [draws[i] for i in group], own)
        for group in groups.values()
    )
    numbered = zip(chain(*groups.values()), chain(*found), strict=True)
    return [run for _, run in sorted(numbered, key=itemgetter(0))]


def _fit(estimator: Any, X: Any, y: Any, draw: Draw) -> Run:
    if draw.rows is not None:
        X, y = some_rows(estimator, X, y, draw.rows)
    X = seen(estimator, X, draw.neurons)
    fitted = fit(estimator.set_params(**draw.seeds), X, y)
    return fitted_run(fitted)._replace(rows=draw.rows)


def _fit_graph(estimator: Any, X: Any, y: Any, draw: Draw) -> tuple[Any, KNNGraph]:
    X = seen(estimator, X, draw.neurons)
    return fit_graph(estimator.set_params(**draw.seeds), X, y)


def _fit_group(
    estimator: Any, X: Any, y: Any, draws: Sequence[Draw], own: str
) -> list[Run]:
    clusterer, graph = _fit_graph(estimator, X, y, draws[0])
    return leiden_runs(clusterer, graph, [draw.seeds.get(own) for draw in draws])
