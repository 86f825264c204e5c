"""One estimator fitted again and again with other seeds, and what came of it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain, combinations
from numbers import Integral, Real
from operator import itemgetter
from typing import Any, ClassVar, NamedTuple

import numpy as np
from joblib import effective_n_jobs
from sklearn.base import clone
from sklearn.pipeline import Pipeline
from sklearn.utils._param_validation import Interval, StrOptions
from sklearn.utils.parallel import Parallel, delayed

from skleiden._blocks.sources import some_rows
from skleiden._clusterer import MutualKNNLeiden
from skleiden._fitting import final_step, fitted_labelling, processes
from skleiden._kernels import partitions
from skleiden._stages.affinity import Joining, join_graph
from skleiden._stages.partition import KNNGraph, Partitioning
from skleiden._vectors import list_neighbors


class Run(NamedTuple):
    """One partition: labels from 0 without gaps, -1 for noise, and its figures.

    `rows` are those that the labels are of, None for all.
    """

    labels: np.ndarray
    n_clusters: int
    coverage: float
    largest_fraction: float
    modularity: float
    rows: np.ndarray | None = None


def summarize_run(labels: Any, attached: Any = None, modularity: Any = None) -> Run:
    """Figures of a partition; see `make_stability_scorer` for what they mean."""
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
    """When the agreement of partitions may be relied on, and what it is.

    See `make_stability_scorer` for the parameters; `CONSTRAINTS` are theirs.
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
        """Adjusted Rand index of two runs, on the rows that both have."""
        a, b = common_labels(one, other)
        if self.noise == "cluster":
            a, b = a + 1, b + 1
        elif self.noise == "drop":
            placed = (a >= 0) & (b >= 0)
            a, b = a[placed], b[placed]
        return partitions.adjusted_rand(a, b)

    def scores(self, runs: Sequence[Run]) -> np.ndarray:
        """Adjusted Rand indices of all pairs of runs."""
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
        """What some runs are like on average, and how well their pairs agree."""
        names = ("n_clusters", "coverage", "largest_fraction", "modularity")
        scores = self.scores(runs)
        return {
            **{name: np.mean([getattr(run, name) for run in runs]) for name in names},
            "stability": scores.mean(),
            "worst_pair": scores.min(),
        }


def common_labels(one: Run, other: Run) -> tuple[np.ndarray, np.ndarray]:
    """Labels of the rows that both runs have."""
    if one.rows is None or other.rows is None:
        return one.labels, other.labels
    _, in_one, in_other = np.intersect1d(
        one.rows, other.rows, assume_unique=True, return_indices=True
    )
    return one.labels[in_one], other.labels[in_other]


def seed_names(estimator: Any, vary: str | Iterable[str]) -> list[str]:
    """Names of the parameters that `vary` asks to vary."""
    known = sorted(
        name
        for name in estimator.get_params(deep=True)
        if name.rpartition("__")[2] == "random_state"
    )
    if isinstance(vary, str) and vary != "all":
        vary = [vary]
    names = known if vary == "all" else list(vary)
    unknown = [name for name in names if name not in known]
    if unknown:
        raise ValueError(
            f"vary must name parameters that hold a random state; got {unknown}, but "
            f"{type(estimator).__name__} has {known}."
        )
    return names


def draw_seeds(
    estimator: Any, names: Sequence[str], n_runs: int, rng: np.random.RandomState
) -> list[dict[str, int]]:
    """A seed for each named parameter and run.

    Random states left at None are held fixed: they get one seed for all runs.
    """
    parameters = estimator.get_params(deep=True)
    fixed = {
        name: int(rng.randint(2**31 - 1))
        for name in seed_names(estimator, "all")
        if parameters[name] is None
    }
    return [
        fixed | {name: int(rng.randint(2**31 - 1)) for name in names}
        for _ in range(n_runs)
    ]


def fitted_run(estimator: Any) -> Run:
    """The partition that a fitted clusterer, or pipeline that ends in one, holds."""
    last = fitted_labelling(estimator)
    return summarize_run(
        last.labels_,
        getattr(last, "attached_", None),
        getattr(last, "modularity_", None),
    )


def fit(estimator: Any, X: Any, y: Any) -> Any:
    """Fit an estimator, which need not know of y if there is none."""
    return estimator.fit(X) if y is None else estimator.fit(X, y)


def fit_graph(estimator: Any, X: Any, y: Any = None) -> tuple[Any, KNNGraph]:
    """What nested pipelines compute before Leiden, and the clusterer at their end."""
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
    """What `fit` computes after the graph, for several random states.

    None stands for the clusterer's own.
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
    seeds: Sequence[Mapping[str, int]],
    *,
    rows: Sequence[np.ndarray] | None = None,
    n_jobs: int | None = None,
) -> list[Run]:
    """Fit clones of an estimator with each of some sets of seeds.

    Run i is fitted on ``rows[i]`` if given, else on all rows. Where the last step is a
    `MutualKNNLeiden` and all rows are used, runs that differ in nothing but its seed
    share their embedding and their graph.
    """
    prefix, last = final_step(estimator)
    n_jobs = processes(n_jobs)
    parallel = Parallel(n_jobs=n_jobs)
    if rows is not None or not isinstance(last, MutualKNNLeiden):
        of_runs: Sequence[Any] = [None] * len(seeds) if rows is None else rows
        return parallel(
            delayed(_fit)(clone(estimator), X, y, run, of)
            for run, of in zip(seeds, of_runs, strict=True)
        )
    own = f"{prefix}random_state"
    groups: dict[Any, list[int]] = {}
    for i, run in enumerate(seeds):
        others = tuple(seed for name, seed in sorted(run.items()) if name != own)
        groups.setdefault(others, []).append(i)
    if len(groups) == 1:
        clusterer, graph = fit_graph(clone(estimator).set_params(**seeds[0]), X, y)
        # One task for each process, which hands the graph over to igraph once.
        n_tasks = min(len(seeds), effective_n_jobs(n_jobs))
        shares = np.array_split([run.get(own) for run in seeds], n_tasks)
        found = parallel(
            delayed(leiden_runs)(clone(clusterer), graph, share.tolist())
            for share in shares
        )
        return list(chain(*found))
    found = parallel(
        delayed(_fit_group)(clone(estimator), X, y, [seeds[i] for i in group], own)
        for group in groups.values()
    )
    numbered = zip(chain(*groups.values()), chain(*found), strict=True)
    return [run for _, run in sorted(numbered, key=itemgetter(0))]


def _fit(
    estimator: Any, X: Any, y: Any, seeds: Mapping[str, int], rows: np.ndarray | None
) -> Run:
    if rows is not None:
        X, y = some_rows(estimator, X, y, rows)
    fitted = fit(estimator.set_params(**seeds), X, y)
    return fitted_run(fitted)._replace(rows=rows)


def _fit_group(
    estimator: Any, X: Any, y: Any, seeds: Sequence[Mapping[str, int]], own: str
) -> list[Run]:
    clusterer, graph = fit_graph(estimator.set_params(**seeds[0]), X, y)
    return leiden_runs(clusterer, graph, [run.get(own) for run in seeds])
