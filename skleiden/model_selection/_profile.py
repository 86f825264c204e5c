"""A sweep of the resolution on one graph: what is found at each, and how reliably."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures.process import BrokenProcessPool
from numbers import Integral
from time import perf_counter
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
from joblib.parallel import get_active_backend
from scipy.sparse.csgraph import connected_components
from sklearn.base import clone
from sklearn.utils import check_random_state
from sklearn.utils._param_validation import Interval, validate_params
from sklearn.utils.parallel import Parallel, delayed

from skleiden._blocks.frames import as_html, frame_of
from skleiden._clusterer import MutualKNNLeiden
from skleiden._fitting import final_step, processes
from skleiden._input import with_rows
from skleiden._kernels import partitions
from skleiden._kernels.leiden import WITHOUT_RESOLUTION
from skleiden._progress import progress
from skleiden._stages.partition import KNNGraph

from ._null import permute_columns
from ._runs import (
    Draw,
    Guard,
    Run,
    fit_graph,
    leiden_runs,
    read_vary,
    refuse_graph,
    seen,
)
from ._scorers import information
from ._search import select_finest_stable, select_informative, select_stable

if TYPE_CHECKING:
    import pandas as pd

    from ._plot import ResolutionProfileDisplay

# The range of resolutions is searched in these steps, then narrowed by halving them.
_STEP = 4.0
_MOST_STEPS = 20
_HALVINGS = 2

# A maximum of stability counts as a level if it stands out by this much.
_PROMINENCE = 0.02


@validate_params(
    {
        "estimator": "no_validation",
        "X": "no_validation",
        "y": "no_validation",
        "resolutions": [Interval(Integral, 2, None, closed="left"), "array-like"],
        "n_runs": [Interval(Integral, 2, None, closed="left")],
        "n_sketches": [Interval(Integral, 1, None, closed="left"), None],
        "vary": [str, "array-like"],
        "n_permutations": [Interval(Integral, 0, None, closed="left")],
        "n_jobs": [Integral, None],
        "random_state": ["random_state"],
        "verbose": ["verbose"],
        **Guard.CONSTRAINTS,
    },
    prefer_skip_nested_validation=True,
)
def resolution_profile(
    estimator: Any,
    X: Any,
    y: Any = None,
    *,
    resolutions: int | Sequence[float] = 20,
    n_runs: int = 5,
    n_sketches: int | None = None,
    vary: str | Sequence[str] = "all",
    n_permutations: int = 3,
    noise: str = "singletons",
    min_clusters: int = 2,
    max_cluster_fraction: float = 0.5,
    min_coverage: float = 0.5,
    degenerate_score: float = 0.0,
    n_jobs: int | None = None,
    random_state: int | np.random.RandomState | None = 0,
    verbose: int = 0,
) -> ResolutionProfile:
    """Cluster at many resolutions, and measure which results can be relied on.

    Everything before Leiden is computed once for each sketch. On that graph, Leiden
    then runs for every resolution and seed. The partitions of one resolution are
    compared pair by pair, as in `make_stability_scorer`. The same is done for data
    whose columns are permuted, the *null*, to show what chance gives.

    Parameters
    ----------
    estimator : MutualKNNLeiden, or pipeline that ends in one
        It is cloned, not fitted. Its `resolution` and `n_clusters` are ignored.

    X : array-like, LayerStack or mapping of {name: matrix}, of n_samples rows
        Data that the estimator would be fitted on.

    y : array-like or None, default=None
        Handed to the steps before Leiden.

    resolutions : int or sequence of float, default=20
        The resolutions, above 0; or their number, at least 2. A number of them is
        spread evenly, on a logarithmic scale, over the range in which something can be
        found: from where most rows are in one community to where most are in
        communities of fewer than `min_cluster_size`. Where components of the graph are
        communities, the range begins a step below the resolution that divides them.

    n_runs : int, default=5
        Number of partitions at each resolution, at least 2.

    n_sketches : int or None, default=None
        Number of graphs among which the runs are divided, at most `n_runs`. With 1,
        everything before Leiden is computed once, with the estimator's own random
        states, and only Leiden's seed varies. With more, the graphs differ in what
        `vary` names. A partition must survive this to say something of the data, and
        not of one sketch; embedding and search take as many times as long. None is 1
        or, with "neurons", one graph a run.

    vary : "all", "neurons", str or sequence of str, default="all"
        What differs between graphs, as in `make_stability_scorer`: all random states,
        those named, or, with "neurons", the half of each layer's columns that is seen.
        Leiden's seed differs between all runs.

    n_permutations : int, default=3
        Number of copies of X with permuted columns that are clustered in the same way.
        See `permute_columns`. Each takes as long as the real data; 0 leaves out the
        null. With 1 and a single sketch, data without structure were taken to be above
        their null in 6 of 36 profiles tried; with 3 in none.

    noise, min_clusters, max_cluster_fraction, min_coverage, degenerate_score :
        How two partitions are compared, as in `make_stability_scorer`, with the same
        defaults.

    n_jobs : int or None, default=None
        Number of processes for Leiden, which get graphs as memory maps. None means 1
        unless in a :func:`joblib.parallel_backend` context, -1 all processors. The
        table does not depend on it, except for the seconds.

    random_state : int, RandomState instance or None, default=0
        Determines seeds and permutations.

    verbose : int, default=0
        Show a progress bar on standard error if positive.

    Returns
    -------
    profile : ResolutionProfile
        Table, levels and partitions. If the sweep is interrupted (Ctrl-C) or runs out
        of memory, or a worker process dies, it stops with a warning, and the profile
        holds what was done by then. The sweep goes over the whole range coarsely first.

    Raises
    ------
    TypeError
        If the estimator does not end in a `MutualKNNLeiden`.

    ValueError
        If a parameter is out of range; if the objective has no resolution; if
        `n_sketches` exceeds `n_runs`, is above 1 while nothing before Leiden varies, or
        is 1 while neurons vary; if the null or "neurons" is asked for a precomputed
        graph.

    Warns
    -----
    UserWarning
        If the sweep stops early.

    See Also
    --------
    make_stability_scorer : The same for any parameter, in a search.
    StableLeiden : The most typical of several partitions.

    References
    ----------
    .. [1] A. Ben-Hur, A. Elisseeff, I. Guyon, "A stability based method for
       discovering structure in clustered data", Pacific Symposium on Biocomputing,
       2002.
    .. [2] U. von Luxburg, "Clustering stability: an overview", Foundations and Trends
       in Machine Learning 2(3), 2010.

    Examples
    --------
    >>> from sklearn.pipeline import make_pipeline
    >>> from skleiden import MultiLayerTfidfSketcher, MutualKNNLeiden
    >>> from skleiden.datasets import make_layered_activations
    >>> from skleiden.model_selection import resolution_profile
    >>> stack, _ = make_layered_activations(600, n_communities=4, random_state=0)
    >>> pipeline = make_pipeline(
    ...     MultiLayerTfidfSketcher(layer_weights=None), MutualKNNLeiden()
    ... )
    >>> profile = resolution_profile(pipeline, stack, resolutions=[0.1, 1, 8], n_runs=3)
    >>> profile.best()
    1.0
    >>> profile.levels
    [1.0]
    """
    prefix, last = final_step(estimator)
    if not isinstance(last, MutualKNNLeiden):
        raise TypeError(
            "resolution_profile needs a MutualKNNLeiden, or a pipeline that ends in "
            f"one; got {type(last).__name__}. For other clusterers use GridSearchCV "
            "with make_stability_scorer()."
        )
    if last.objective in WITHOUT_RESOLUTION:
        raise ValueError(
            f"objective={last.objective!r} has no resolution to sweep; use one of "
            "'modularity', 'cpm', 'rber'."
        )
    if n_permutations:
        refuse_graph(estimator)
    X = with_rows(X)
    own_resolution = {f"{prefix}n_clusters": None}  # resolutions are swept
    rng = check_random_state(random_state)
    sketches = _draw_sketches(estimator, X, prefix, n_runs, n_sketches, vary, rng)
    grid, n_resolutions = None, 0
    if isinstance(resolutions, (int, np.integer)):
        n_resolutions = int(resolutions)
    else:
        grid = _check_grid(resolutions)
        n_resolutions = grid.size
    guard = Guard(
        noise, min_clusters, max_cluster_fraction, min_coverage, degenerate_score
    )
    real: _Sweep | None = None
    current: _Sweep | None = None
    nulls: list[_Chance] = []
    n_sweeps = len(sketches) * (1 + n_permutations)
    watching = progress(
        "Resolutions", n_resolutions * n_sweeps, shown=verbose > 0, unit="resolution"
    )
    try:
        with watching as update:
            for copy in range(1 + n_permutations):
                current = None
                seed = rng.randint(2**31 - 1)
                data = permute_columns(X, random_state=seed) if copy else X
                for draw, leiden_seeds in sketches:
                    varied = clone(estimator).set_params(**draw.seeds, **own_resolution)
                    half = seen(estimator, data, draw.neurons)
                    clusterer, graph = fit_graph(varied, half, y)
                    del half
                    if grid is None:
                        grid = _find_grid(clusterer, graph, n_resolutions, guard)
                    sweep = current = current or _Sweep(grid)
                    for done in _run_all(clusterer, graph, grid, leiden_seeds, n_jobs):
                        sweep.add(*done)
                        update()
                if real is None:
                    real = sweep
                else:
                    nulls.append(_chance(sweep, guard))
        found = real or sweep
    except (KeyboardInterrupt, BrokenProcessPool, MemoryError) as problem:
        if real is None:
            real = current
        elif current is not None and current is not real:
            nulls.append(_chance(current, guard))
        if real is None or not real.complete().any():
            raise
        found = real
        cause = {
            KeyboardInterrupt: "Interrupted",
            MemoryError: "Out of memory",
        }.get(type(problem), "A worker process died (too little memory, mostly)")
        warnings.warn(
            f"{cause}: the profile holds {real.complete().sum()} of "
            f"{n_resolutions} resolutions; some may have fewer than {n_runs} runs, or "
            "no null.",
            UserWarning,
            stacklevel=3,  # past the validation of parameters
        )
    missing = _chance(_Sweep(found.grid), guard)
    nulls += [missing] * (n_permutations - len(nulls))
    return ResolutionProfile(found, nulls, guard)


class ResolutionProfile:
    """Stability, information and sizes at each resolution, from `resolution_profile`.

    Attributes
    ----------
    table : dict of {str: ndarray of shape (n_resolutions,)}
        Columns, with resolutions in ascending order:

        - "resolution";
        - "n_runs": number of partitions compared;
        - "n_clusters", "coverage", "largest_fraction", "modularity": means over the
          runs, as in `make_stability_scorer`; modularity is always that at resolution
          1;
        - "stability", "worst_pair": mean and lowest adjusted Rand index of all pairs of
          runs, where degenerate pairs count as `degenerate_score`;
        - "net_information": what one run says and another confirms, less what it does
          not confirm, in nats, see `make_stability_scorer`;
        - "null": mean adjusted Rand index on the permuted copies, except those with a
          degenerate partition at this resolution; nan if no copy is left, or the sweep
          stopped before;
        - "above_null": whether the worst pair exceeds `degenerate_score` and the best
          pair of these copies, which have as many runs. If no copy is left at this
          resolution, the next finer resolution with some left counts instead, or else
          the nearest coarser one;
        - "seconds": time that Leiden took for all runs together.

    levels : list of float
        Scales at which the data have communities, coarse to fine: resolutions above the
        null, with net information above 0, at which stability has a local maximum that
        stands out by at least .02. Of neighbouring resolutions that are equally stable,
        it is the one with the highest net information. Empty if there are none.

    See Also
    --------
    resolution_profile : Make one.
    """

    def __init__(self, real: _Sweep, nulls: Sequence[_Chance], guard: Guard) -> None:
        rows = np.flatnonzero(real.complete())
        self._runs = [real.runs[i] for i in rows]
        figures = [guard.figures(runs) for runs in self._runs]
        self.table: dict[str, np.ndarray] = {
            "resolution": real.grid[rows],
            "n_runs": np.array([len(runs) for runs in self._runs]),
        }
        for name in figures[0]:
            self.table[name] = np.array([one[name] for one in figures])
        self.table["net_information"] = np.array(
            [information(runs).mean() for runs in self._runs]
        )
        self.table["null"], best = _null_scores(real, nulls, rows)
        # Not above nan, the null of an interrupted sweep.
        self._n_without_null = int(np.isnan(best).sum())
        above = self.table["worst_pair"] > np.maximum(best, guard.degenerate_score)
        self.table["above_null"] = above
        self.table["seconds"] = real.seconds[rows]

    @property
    def levels(self) -> list[float]:
        """Resolutions above the null at which stability peaks, coarse to fine."""
        above = self._reliable()
        # Of equally stable resolutions in a row, the one that tells the most.
        finest_step = 1e-6 * self.table["net_information"]
        heights = np.where(above, self.table["stability"] + finest_step, -1.0)
        peaks = partitions.local_maxima(heights, _PROMINENCE)
        return self.table["resolution"][[i for i in peaks if above[i]]].tolist()

    def best(self, rule: str = "informative", *, tolerance: float = 0.05) -> float:
        """Choose among the resolutions above the null with net information above 0.

        Parameters
        ----------
        rule : {"informative", "stable", "finest_stable"}, default="informative"
            "informative" takes the highest net information, see `select_informative`;
            "stable" takes the highest stability, which tends to few communities;
            "finest_stable" takes the most communities at nearly the highest stability.

        tolerance : float, default=0.05
            Share of the highest stability that "finest_stable" may give up.

        Returns
        -------
        resolution : float

        Raises
        ------
        ValueError
            If there is no such resolution, or `rule` is unknown.
        """
        select: dict[str, Callable[[Mapping[str, Any]], int]] = {
            "informative": select_informative,
            "stable": select_stable,
            "finest_stable": select_finest_stable(tolerance=tolerance),
        }
        if rule not in select:
            raise ValueError(f"rule must be one of {sorted(select)}; got {rule!r}.")
        above = np.flatnonzero(self._reliable())
        n_resolutions = self.table["resolution"].size
        if above.size == 0 and self._n_without_null:
            raise ValueError(
                "The sweep was interrupted before its null was done at "
                f"{self._n_without_null} of {n_resolutions} resolutions, so that none "
                "can be said to be above it. Choose by the table, or sweep again, with "
                "n_permutations=0 for no null."
            )
        if above.size == 0:
            raise ValueError(
                f"None of {n_resolutions} resolutions is more stable than its null and "
                "more found again than not: on data with permuted columns pairs of "
                "runs agree as well. There are no communities to choose between; look "
                "at the table, or try other n_neighbors."
            )
        results = {
            f"mean_test_{name}": self.table[name][above]
            for name in ("stability", "net_information", "n_clusters")
        }
        return float(self.table["resolution"][above[select[rule](results)]])

    def at(self, n_clusters: int) -> float:
        """Give the resolution of the table whose number of communities is nearest.

        Parameters
        ----------
        n_clusters : int
            Number of communities, within the range that the sweep found.

        Returns
        -------
        resolution : float
            The resolution at which the runs' mean number of communities is nearest to
            `n_clusters`; of equally near ones, the most stable. To have exactly this
            number, fit a `MutualKNNLeiden` with `n_clusters`.

        Raises
        ------
        ValueError
            If it is more or less than at every resolution of the table.
        """
        found = self.table["n_clusters"]
        if not np.floor(found.min()) <= n_clusters <= np.ceil(found.max()):
            raise ValueError(
                f"n_clusters must be between {found.min():g} and {found.max():g}, "
                f"which the sweep found; got {n_clusters!r}. Sweep other resolutions."
            )
        distance = np.abs(found - n_clusters)
        nearest = np.lexsort((-self.table["stability"], distance))[0]
        return float(self.table["resolution"][nearest])

    def _reliable(self) -> np.ndarray:
        return self.table["above_null"] & (self.table["net_information"] > 0)

    def partitions(self, resolution: float) -> np.ndarray:
        """Return the labels of all runs at one resolution of the table.

        Parameters
        ----------
        resolution : float
            A resolution of the table, such as ``best()``.

        Returns
        -------
        labels : ndarray of shape (n_runs, n_samples), dtype int32
            One row for each run; `consensus` takes them, for example.

        Raises
        ------
        ValueError
            If the resolution is not in the table.
        """
        found = np.flatnonzero(self.table["resolution"] == resolution)
        if found.size == 0:
            raise ValueError(
                f"resolution must be one of {self.table['resolution'].tolist()}; got "
                f"{resolution!r}."
            )
        return np.stack([run.labels for run in self._runs[found[0]]])

    def plot(self, axes: Any = None) -> ResolutionProfileDisplay:
        """Draw the table; needs matplotlib.

        Parameters
        ----------
        axes : array-like of 4 matplotlib Axes, default=None
            See :class:`~skleiden.plotting.ResolutionProfileDisplay`; new ones if None.

        Returns
        -------
        display : ResolutionProfileDisplay

        Raises
        ------
        ImportError
            If matplotlib is not installed.
        """
        from ._plot import ResolutionProfileDisplay

        return ResolutionProfileDisplay.from_profile(self, axes=axes)

    def to_frame(self) -> pd.DataFrame:
        """Return the table as a pandas DataFrame, one row for each resolution.

        Returns
        -------
        frame : pandas.DataFrame

        Raises
        ------
        ImportError
            If pandas is not installed.
        """
        return frame_of(self.table)

    def _repr_html_(self) -> str:
        """Give `table`, for notebooks."""
        return as_html(self, self.table)

    def __repr__(self) -> str:
        resolutions = self.table["resolution"]
        if self.levels:
            found = "levels at " + ", ".join(f"{level:.3g}" for level in self.levels)
        elif self._n_without_null:
            found = "interrupted before its null was done"
        else:
            found = "none more stable than chance"
        return (
            f"<ResolutionProfile: {resolutions.size} resolutions from "
            f"{resolutions[0]:.3g} to {resolutions[-1]:.3g}, {found}>"
        )


# Runs and scores of pairs at each resolution, on permuted data.
_Chance: TypeAlias = list[tuple[int, np.ndarray]]


class _Sweep:
    """The runs at each resolution of a grid, as far as they are done."""

    def __init__(self, grid: np.ndarray) -> None:
        self.grid = grid
        self.runs: list[list[Run]] = [[] for _ in grid]
        self.seconds = np.zeros(grid.size)

    def add(self, i: int, runs: list[Run], seconds: float) -> None:
        # Labels are kept for all resolutions: half the memory matters.
        self.runs[i] += [run._replace(labels=run.labels.astype("i4")) for run in runs]
        self.seconds[i] += seconds

    def complete(self) -> np.ndarray:
        """Give a mask of the resolutions that have a pair of runs to compare."""
        return np.array([len(runs) > 1 for runs in self.runs])


def _run_all(
    clusterer: MutualKNNLeiden,
    graph: KNNGraph,
    grid: np.ndarray,
    seeds: Sequence[int],
    n_jobs: int | None,
) -> Iterator[tuple[int, list[Run], float]]:
    """Run at every resolution; yield its number, the runs and seconds of each."""
    # In the order of their reversed bits, numbers halve the gaps again and again: a
    # sweep that is cut short has gone over the whole range.
    order = sorted(range(grid.size), key=lambda i: f"{i:b}"[::-1])
    tasks = (
        delayed(_run_one)(
            i, clone(clusterer).set_params(resolution=float(grid[i])), graph, seeds
        )
        for i in order
    )
    backend, _ = get_active_backend()
    # joblib's "multiprocessing" gives everything at the end.
    as_done = getattr(backend, "supports_return_generator", False)
    return_as = "generator_unordered" if as_done else "list"
    yield from Parallel(n_jobs=processes(n_jobs), return_as=return_as)(tasks)


def _run_one(
    i: int, clusterer: MutualKNNLeiden, graph: KNNGraph, seeds: Sequence[int]
) -> tuple[int, list[Run], float]:
    start = perf_counter()
    return i, leiden_runs(clusterer, graph, seeds), perf_counter() - start


def _draw_sketches(
    estimator: Any,
    X: Any,
    prefix: str,
    n_runs: int,
    n_sketches: int | None,
    vary: str | Sequence[str],
    rng: np.random.RandomState,
) -> list[tuple[Draw, list[int]]]:
    """Give what each graph is made with, and the seeds of Leiden's runs on it."""
    own = f"{prefix}random_state"
    varied = read_vary(estimator, vary)
    if n_sketches is None:
        n_sketches = n_runs if varied.halves else 1
    names = [name for name in varied.names if name != own] if n_sketches > 1 else []
    if n_sketches > n_runs:
        raise ValueError(
            f"n_sketches must be at most n_runs={n_runs}; got {n_sketches}."
        )
    if varied.halves and n_sketches == 1:
        raise ValueError(
            f"vary={varied.halves!r} compares graphs of different halves of the "
            f"{varied.halves}; got n_sketches=1. Set it to at least 2, or leave it out "
            "for one graph a run."
        )
    if n_sketches > 1 and not names and not varied.halves:
        raise ValueError(
            f"n_sketches={n_sketches} needs a step with a random_state before the "
            "clusterer, such as MultiLayerTfidfSketcher; there is none. Set "
            "n_sketches=1."
        )
    fronts = varied._replace(names=names).draw(estimator, X, n_sketches, rng)
    seeds = rng.randint(2**31 - 1, size=n_runs).tolist()
    return [(front, seeds[s::n_sketches]) for s, front in enumerate(fronts)]


def _check_grid(resolutions: Any) -> np.ndarray:
    try:
        grid = np.unique(np.asarray(resolutions, dtype=np.float64))
    except (TypeError, ValueError):
        grid = np.empty(0)
    if grid.size == 0 or not (np.isfinite(grid).all() and grid[0] > 0):
        raise ValueError(
            "resolutions must be a number of resolutions, at least 2, or finite values "
            f"above 0; got {resolutions!r}."
        )
    return grid


def _find_grid(
    clusterer: MutualKNNLeiden, graph: KNNGraph, n_resolutions: int, guard: Guard
) -> np.ndarray:
    """Space resolutions in log, from mostly one community to mostly small ones.

    Where components of the graph are communities at any low resolution, the first is a
    step below the one that divides them.
    """
    _, component = connected_components(graph.affinity, directed=False)
    keeps_small = clusterer.small_clusters == "keep"
    least = 1 if keeps_small else clusterer.min_cluster_size
    sizes = np.bincount(component, graph.distinct.counts())
    n_components = int(np.count_nonzero(sizes >= least))
    seen: dict[float, tuple[bool, bool]] = {}
    undivided: list[float] = []  # resolutions at which components are communities

    def look(resolution: float) -> tuple[bool, bool]:
        """Whether the partition is too coarse to tell anything, and too fine."""
        if resolution not in seen:
            at = clone(clusterer).set_params(resolution=resolution)
            (run,) = leiden_runs(at, graph, [0])
            fine = run.coverage < max(guard.min_coverage, 0.5)
            coarse = not fine and guard.is_degenerate(run)
            # Leiden cannot join what no edge joins.
            if not fine and not coarse and run.n_clusters <= n_components:
                undivided.append(resolution)
            seen[resolution] = coarse, fine
        return seen[resolution]

    for side, step in enumerate((1 / _STEP, _STEP)):
        resolution = 1.0
        for _ in range(_MOST_STEPS):
            if look(resolution)[side] or (side == 0 and undivided):
                break
            resolution *= step
    for side, pick in enumerate((max, min)):
        for _ in range(_HALVINGS):
            beyond = [r for r, flags in seen.items() if flags[side]]
            inside = [r for r in seen if not any(seen[r])]
            if beyond and inside:
                edge = pick(beyond)
                next_to = min(inside, key=lambda r: abs(np.log(r / edge)))
                look(float(np.sqrt(edge * next_to)))
    coarse = [r for r, flags in seen.items() if flags[0]]
    fine = [r for r, flags in seen.items() if flags[1]]
    lowest = max(coarse) if coarse else min(seen)
    if undivided and not coarse:
        lowest = max(undivided) / _STEP
    highest = min(fine) if fine else max(seen)
    if lowest >= highest:  # nothing between: no resolution tells anything
        lowest, highest = min(lowest, highest) / _STEP, max(lowest, highest) * _STEP
    return np.geomspace(lowest, highest, n_resolutions)


def _chance(sweep: _Sweep, guard: Guard) -> _Chance:
    """Reduce the runs on permuted data to their number and scores, at each resolution.

    The scores are those of the pairs of runs; there are none if a run is degenerate.
    """
    return [
        (
            len(runs),
            np.empty(0)
            if any(guard.is_degenerate(run) for run in runs)
            else guard.scores(runs),
        )
        for runs in sweep.runs
    ]


def _null_scores(
    real: _Sweep, nulls: Sequence[_Chance], rows: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Give the mean and the best pair of the permuted copies at some resolutions.

    Both are nan where runs are missing. Where every copy has a degenerate run, the mean
    is nan, and the best pair is that of the next finer resolution at which one has
    none, as permuted data reach these last, or else of the nearest coarser one; -inf if
    there is no such resolution.
    """
    mean, best = np.full((2, rows.size), np.nan)
    missing = np.zeros(rows.size, dtype=bool)
    for position, i in enumerate(rows):
        missing[position] = any(null[i][0] < len(real.runs[i]) for null in nulls)
        pairs = np.concatenate([null[i][1] for null in nulls] or [np.empty(0)])
        if pairs.size and not missing[position]:
            mean[position], best[position] = pairs.mean(), pairs.max()
    known = np.flatnonzero(~np.isnan(best))
    if known.size == 0:
        best[:] = -np.inf
    else:
        next_known = np.searchsorted(known, np.arange(rows.size))
        best = best[known[np.minimum(next_known, known.size - 1)]]
    return mean, np.where(missing, np.nan, best)
