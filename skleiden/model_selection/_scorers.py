"""Scores for clusterers: how far a partition survives other seeds and other samples."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations
from numbers import Integral, Real
from time import perf_counter
from typing import Any

import numpy as np
from sklearn.base import clone
from sklearn.utils import check_random_state
from sklearn.utils._param_validation import Interval, StrOptions, validate_params
from sklearn.utils.validation import _num_samples

from skleiden._input import with_rows
from skleiden._kernels import partitions

from ._null import permute_columns
from ._runs import (
    Draw,
    Guard,
    Run,
    common_labels,
    final_name,
    fitted_run,
    must_vary,
    read_vary,
    refuse_graph,
    repeat_fit,
    summarize_run,
)

_STABILITY_METRICS = (
    "stability",
    "worst_pair",
    "net_information",
    "shared_information",
    "null",
    "n_clusters",
    "coverage",
    "largest_fraction",
    "modularity",
    "seconds",
)
_PREDICTION_METRICS = ("prediction_strength", "agreement", "rand", "n_clusters")

_RUN_CONSTRAINTS: dict[str, Any] = {
    "vary": [str, "array-like"],
    "n_jobs": [Integral, None],
    "random_state": ["random_state"],
}
_SUBSAMPLE_CONSTRAINTS: list[Any] = [
    Interval(Real, 0, 1, closed="neither"),
    Interval(Integral, 2, None, closed="left"),
]


@validate_params(
    {
        "n_runs": [Interval(Integral, 2, None, closed="left")],
        "subsample": [*_SUBSAMPLE_CONSTRAINTS, None],
        "metrics": [StrOptions(set(_STABILITY_METRICS)), "array-like"],
        "reuse_fit": ["boolean"],
        **Guard.CONSTRAINTS,
        **_RUN_CONSTRAINTS,
    },
    prefer_skip_nested_validation=True,
)
def make_stability_scorer(
    n_runs: int = 5,
    *,
    vary: str | Sequence[str] = "all",
    subsample: float | None = None,
    noise: str = "singletons",
    min_clusters: int = 2,
    max_cluster_fraction: float = 0.5,
    min_coverage: float = 0.5,
    degenerate_score: float = 0.0,
    metrics: str | Sequence[str] = "stability",
    reuse_fit: bool = False,
    n_jobs: int | None = None,
    random_state: int | np.random.RandomState | None = 0,
) -> _StabilityScorer:
    """Make a scorer that tells how well partitions agree over seeds, rows or neurons.

    The scorer fits clones of the estimator, each with other random states, on another
    subsample of the rows, or on another half of the columns. It compares their
    partitions pair by pair by the adjusted Rand index [1]_, which is 1 for equal
    partitions and on average 0 for unrelated ones. The mean over the pairs is the
    *stability*, after Ben-Hur et al. [2]_, who compare subsamples; the index used here
    is adjusted for chance.

    Parameters
    ----------
    n_runs : int, default=5
        Number of partitions compared, at least 2.

    vary : "all", "neurons", str or sequence of str, default="all"
        What differs between runs. "all" takes every parameter named ``random_state``,
        however deeply nested; names such as ``["mutualknnleiden__random_state"]`` take
        these alone. With "neurons", every run sees a random half of each layer's
        columns, see Notes. The word is "prompts" for a stack from `LayerStack.neurons`,
        whose columns are prompts. ``["all", "neurons"]`` varies both. Random states
        that are not named are held fixed, at a seed that is drawn if they are None.
        With `subsample` it may be empty.

    subsample : float, int or None, default=None
        Rows of each run, drawn without replacement: a share in (0, 1) or a number of at
        least 2; None takes all. Two runs are compared on the rows that both have.

    noise : {"singletons", "cluster", "drop"}, default="singletons"
        What rows labelled -1 count as: each as a community of its own ("singletons"),
        or all together as one ("cluster"). With "drop", rows are left out that are
        noise in either partition.

    min_clusters : int, default=2
        A partition into fewer communities is *degenerate*, see `degenerate_score`.

    max_cluster_fraction : float, default=0.5
        A partition is degenerate if its largest community has more than this share of
        the rows, in (0, 1].

    min_coverage : float, default=0.5
        A partition is degenerate if it covers less than this share of the rows, in [0,
        1]. It covers the rows in a community of at least two, except those attached to
        it afterwards (`attached_` of `MutualKNNLeiden`). A partition into communities
        of one row is always degenerate.

    degenerate_score : float, default=0.0
        Score of a pair in which either partition is degenerate. Such partitions agree
        by accident: two that each have a single community agree perfectly.

    metrics : str or sequence of str, default="stability"
        What to return. A name makes the scorer return a float, names a dict:

        - "stability": mean score of the pairs;
        - "worst_pair": lowest score of a pair;
        - "net_information": what one run says of the rows and another confirms, less
          what it does not confirm, in nats, mean over the pairs: ``2 * (I - E) - H``,
          with the mean entropy H of both partitions, their mutual information I, and
          its expectation E for random partitions with communities of the same
          sizes [4]_. It grows with every division that is found again, and falls with
          every one that is not. A single community has 0, and communities of one row
          each are far below, so it needs no guard against degenerate partitions, and
          has none. Noise says nothing;
        - "shared_information": ``I - E`` alone, which is what is confirmed, whatever
          else a run says. It favours finer partitions than net information does. Use it
          with ``vary=["all", "neurons"]``, see Notes;
        - "null": the stability of the same estimator, over as many runs with seeds of
          their own, on X with permuted columns, see `permute_columns`; takes as long
          again;
        - "n_clusters", "coverage" and "largest_fraction" (share of the rows that are
          covered, and that are in the largest community), and "modularity": means over
          the runs, the last nan if the estimator has no ``modularity_``;
        - "seconds": time on the clock that the scorer took.

    reuse_fit : bool, default=False
        Whether the first run is the partition of the fitted estimator that is scored.
        It must have been fitted on the rows that the scorer gets, as with
        `FullDataSplit`. Not allowed with `subsample` or "neurons".

    n_jobs : int or None, default=None
        Number of processes, which share the runs. None means 1 unless in a
        :func:`joblib.parallel_backend` context, -1 all processors. Scores do not depend
        on it.

    random_state : int, RandomState instance or None, default=0
        Determines seeds and subsamples. An int gives every candidate of a search the
        same ones.

    Returns
    -------
    scorer : callable
        ``scorer(estimator, X, y=None)``, for ``scoring=`` of
        :class:`~sklearn.model_selection.GridSearchCV` and its like together with
        ``cv=FullDataSplit()``; can be pickled.

    Raises
    ------
    ValueError
        If a parameter is out of range, a metric is unknown, or `reuse_fit` is asked for
        with `subsample` or "neurons". The scorer raises it if nothing varies between
        the runs, if `vary` names no random state, if `subsample` exceeds the rows, if
        no layer has two columns of which to take a half, if "null" or "neurons" is
        asked for a graph, or if `reuse_fit` is true and the estimator was fitted on
        another number of rows.

    TypeError
        The scorer raises it if the estimator has no ``labels_``.

    See Also
    --------
    FullDataSplit : The split to go with it.
    select_stable, select_finest_stable : Choose by it, in ``refit=`` of a search.
    resolution_profile : All resolutions of one graph, at a fraction of the cost.

    Notes
    -----
    Stability is necessary, not sufficient: partitions into few communities are stable
    even in data that have none [3]_. The guard against degenerate partitions removes
    the worst of this, and "null" shows how much is left.

    If the last step is a `MutualKNNLeiden`, runs that differ in nothing but its seed
    share one graph.

    With "neurons", runs 0 and 1, 2 and 3, and so on, see disjoint halves; of an odd
    number of columns, the first of the two runs sees the larger half. A layer of a
    single column is seen by all runs. Columns keep their places, and those that a run
    does not see read as zeros, so that parameters about columns keep their meaning. The
    layers are those of a `LayerStack`, or those that the parameter `layers` of a
    `MultiLayerTfidfSketcher` names if this is the first step. A sketcher reads the
    halves block by block, wherever X is stored. Any other first step gets a matrix as
    one layer, and a copy of the half in memory.

    Communities that other neurons find again are in the data; those that only other
    seeds find again may be in the accidents of the neurons at hand.

    To choose weighting, power, layers' weights, neighbours and resolution together,
    take the highest "shared_information" with ``vary=["all", "neurons"]``. A search
    does so by itself, without a function for ``refit=``. On the data in
    benchmarks/README.md its choices were nearer to the labels than the defaults are;
    those of "net_information" came as near.

    References
    ----------
    .. [1] L. Hubert, P. Arabie, "Comparing partitions", Journal of Classification 2,
       1985.
    .. [2] A. Ben-Hur, A. Elisseeff, I. Guyon, "A stability based method for
       discovering structure in clustered data", Pacific Symposium on Biocomputing,
       2002.
    .. [3] U. von Luxburg, "Clustering stability: an overview", Foundations and Trends
       in Machine Learning 2(3), 2010.
    .. [4] N. X. Vinh, J. Epps, J. Bailey, "Information theoretic measures for
       clusterings comparison: variants, properties, normalization and correction for
       chance", Journal of Machine Learning Research 11, 2010.

    Examples
    --------
    >>> from sklearn.model_selection import GridSearchCV
    >>> from sklearn.pipeline import make_pipeline
    >>> from skleiden import MultiLayerTfidfSketcher, MutualKNNLeiden
    >>> from skleiden.datasets import make_layered_activations
    >>> from skleiden.model_selection import (
    ...     FullDataSplit, make_stability_scorer, select_stable
    ... )
    >>> stack, _ = make_layered_activations(600, n_communities=4, random_state=0)
    >>> pipeline = make_pipeline(
    ...     MultiLayerTfidfSketcher(layer_weights=None), MutualKNNLeiden()
    ... )
    >>> search = GridSearchCV(
    ...     pipeline,
    ...     {"mutualknnleiden__resolution": [0.01, 1.0, 8.0]},
    ...     scoring=make_stability_scorer(n_runs=3),
    ...     cv=FullDataSplit(),
    ...     refit=select_stable,
    ... ).fit(stack)
    >>> search.best_params_
    {'mutualknnleiden__resolution': 1.0}

    With the information that halves of the neurons share:

    >>> search = GridSearchCV(
    ...     pipeline,
    ...     {"multilayertfidfsketcher__power": [1.0, 0.0]},
    ...     scoring=make_stability_scorer(
    ...         2, vary=["all", "neurons"], metrics="shared_information"
    ...     ),
    ...     cv=FullDataSplit(),
    ... ).fit(stack)
    >>> search.best_estimator_.predict(stack).shape
    (600,)
    """
    _check_metrics(metrics, _STABILITY_METRICS)
    if reuse_fit and subsample is not None:
        raise ValueError(
            "reuse_fit=True takes a fit on all rows, subsample compares fits on parts "
            "of them; set only one of the two."
        )
    if reuse_fit and {"neurons", "prompts"} & {*np.atleast_1d(vary)}:
        raise ValueError(
            "reuse_fit=True takes a fit on all neurons, vary='neurons' compares fits "
            "on halves of them; set only one of the two."
        )
    return _StabilityScorer(
        n_runs=n_runs,
        vary=vary,
        subsample=subsample,
        guard=Guard(
            noise, min_clusters, max_cluster_fraction, min_coverage, degenerate_score
        ),
        metrics=metrics,
        reuse_fit=reuse_fit,
        n_jobs=n_jobs,
        random_state=random_state,
    )


@dataclass(frozen=True, kw_only=True, eq=False, repr=False)
class _StabilityScorer:
    """See `make_stability_scorer`."""

    n_runs: int
    vary: str | Sequence[str]
    subsample: float | None
    guard: Guard
    metrics: str | Sequence[str]
    reuse_fit: bool
    n_jobs: int | None
    random_state: int | np.random.RandomState | None

    def __call__(
        self, estimator: Any, X: Any, y: Any = None
    ) -> float | dict[str, float]:
        """Score an estimator, which is cloned and fitted again."""
        start = perf_counter()
        X = with_rows(X)
        rng = check_random_state(self.random_state)
        # What can be refused is refused before anything is fitted.
        varied = must_vary(estimator, self.vary, self.subsample)
        asked = np.atleast_1d(self.metrics)
        if "null" in asked:
            refuse_graph(estimator)
        runs = [_own_run(estimator, _num_samples(X))] if self.reuse_fit else []
        n_runs = self.n_runs - self.reuse_fit
        draws = varied.draw(estimator, X, n_runs, rng, self.subsample)
        _check_common(draws)
        null_seed = rng.randint(2**31 - 1)

        runs += repeat_fit(estimator, X, y, draws, n_jobs=self.n_jobs)
        values = self.guard.figures(runs)
        for name in ("net_information", "shared_information"):
            if name in asked:
                values[name] = information(runs, name).mean()
        if "null" in asked:
            draws = varied.draw(estimator, X, self.n_runs, rng, self.subsample)
            _check_common(draws)
            permuted = permute_columns(X, random_state=null_seed)
            null = repeat_fit(estimator, permuted, y, draws, n_jobs=self.n_jobs)
            values["null"] = self.guard.scores(null).mean()
        values["seconds"] = perf_counter() - start
        return _select(values, self.metrics)

    def __repr__(self) -> str:
        return f"make_stability_scorer(n_runs={self.n_runs}, metrics={self.metrics!r})"


@validate_params(
    {
        "metrics": [StrOptions(set(_PREDICTION_METRICS)), "array-like"],
        "vary": [str, "array-like"],
        "random_state": ["random_state"],
        **Guard.CONSTRAINTS,
    },
    prefer_skip_nested_validation=True,
)
def make_prediction_stability_scorer(
    metrics: str | Sequence[str] = "prediction_strength",
    *,
    vary: str | Sequence[str] = "all",
    noise: str = "singletons",
    min_clusters: int = 2,
    max_cluster_fraction: float = 0.5,
    min_coverage: float = 0.5,
    degenerate_score: float = 0.0,
    random_state: int | np.random.RandomState | None = 0,
) -> _PredictionStabilityScorer:
    """Make a scorer that tells how well the communities of held-out rows are predicted.

    It is meant for ordinary cross-validation. The scorer gets an estimator fitted on
    the training rows, predicts the communities of the test rows, clusters the test rows
    by themselves with a clone, and compares both partitions.

    Parameters
    ----------
    metrics : str or sequence of str, default="prediction_strength"
        What to return. A name makes the scorer return a float, names a dict:

        - "prediction_strength": for each community found among the test rows, the share
          of its pairs of rows that are predicted to be together; the lowest of these
          over the communities of at least two rows, as Tibshirani and Walther [1]_
          define it. A single small community can decide it, so it is a hard test;
        - "agreement": share of the test rows with the same community in both
          partitions, after communities are matched one to one. It is one minus the
          disagreement of Lange et al. [2]_, which is not divided here by that of random
          labels;
        - "rand": adjusted Rand index of both partitions, which is adjusted for chance;
        - "n_clusters": communities found among the test rows.

    vary : "all", "neurons", str or sequence of str, default="all"
        Random states that get another seed in the clone, as in `make_stability_scorer`;
        may be empty. With "neurons" the clone sees a half of each layer's columns,
        while the estimator predicts by all of them.

    noise : {"singletons", "cluster", "drop"}, default="singletons"
        What rows labelled -1 count as for "rand", as in `make_stability_scorer`.

    min_clusters, max_cluster_fraction, min_coverage : int, float, float
        When the partition of the test rows is degenerate, as in
        `make_stability_scorer`, with the same defaults.

    degenerate_score : float, default=0.0
        Value of each of the first three metrics for a degenerate partition.

    random_state : int, RandomState instance or None, default=0
        Determines the seeds of the clone.

    Returns
    -------
    scorer : callable
        ``scorer(estimator, X, y=None)``, for ``scoring=`` together with
        :class:`~sklearn.model_selection.KFold` or
        :class:`~sklearn.model_selection.ShuffleSplit`; can be pickled.

    Raises
    ------
    ValueError
        If a parameter is out of range or a metric is unknown. The scorer raises it if
        the estimator takes a graph, whose test rows cannot be clustered by themselves.

    TypeError
        The scorer raises it if the estimator has no ``predict`` or no ``labels_``.

    See Also
    --------
    make_stability_scorer : A score on all rows.

    Notes
    -----
    Training and test rows are fewer than all rows: with fixed `n_neighbors` and
    resolution they have other communities than all rows together. Two folds, as in the
    papers, make them equal in size.

    References
    ----------
    .. [1] R. Tibshirani, G. Walther, "Cluster validation by prediction strength",
       Journal of Computational and Graphical Statistics 14(3), 2005.
    .. [2] T. Lange, V. Roth, M. L. Braun, J. M. Buhmann, "Stability-based validation of
       clustering solutions", Neural Computation 16(6), 2004.

    Examples
    --------
    >>> from sklearn.model_selection import KFold, cross_val_score
    >>> from sklearn.pipeline import make_pipeline
    >>> from skleiden import MultiLayerTfidfSketcher, MutualKNNLeiden
    >>> from skleiden.datasets import make_layered_activations
    >>> from skleiden.model_selection import make_prediction_stability_scorer
    >>> stack, _ = make_layered_activations(
    ...     600, n_communities=4, signal=0.8, random_state=0
    ... )
    >>> pipeline = make_pipeline(
    ...     MultiLayerTfidfSketcher(layer_weights=None, random_state=0),
    ...     MutualKNNLeiden(random_state=0),
    ... )
    >>> scorer = make_prediction_stability_scorer()
    >>> scores = cross_val_score(pipeline, stack, scoring=scorer, cv=KFold(2))
    >>> bool((scores > 0.9).all())
    True
    """
    _check_metrics(metrics, _PREDICTION_METRICS)
    return _PredictionStabilityScorer(
        metrics=metrics,
        vary=vary,
        guard=Guard(
            noise, min_clusters, max_cluster_fraction, min_coverage, degenerate_score
        ),
        random_state=random_state,
    )


@dataclass(frozen=True, kw_only=True, eq=False, repr=False)
class _PredictionStabilityScorer:
    """See `make_prediction_stability_scorer`."""

    metrics: str | Sequence[str]
    vary: str | Sequence[str]
    guard: Guard
    random_state: int | np.random.RandomState | None

    def __call__(
        self, estimator: Any, X: Any, y: Any = None
    ) -> float | dict[str, float]:
        """Score an estimator that was fitted on other rows."""
        if not hasattr(estimator, "predict"):
            raise TypeError(
                f"Prediction needs an estimator with predict; {final_name(estimator)} "
                "has none. Use make_stability_scorer."
            )
        refuse_graph(estimator)
        X = with_rows(X)
        rng = check_random_state(self.random_state)
        draws = read_vary(estimator, self.vary).draw(estimator, X, 1, rng)
        predicted = np.asarray(estimator.predict(X))
        (found,) = repeat_fit(estimator, X, y, draws)
        values = {"n_clusters": float(found.n_clusters)}
        if self.guard.is_degenerate(found):
            values |= dict.fromkeys(
                _PREDICTION_METRICS[:3], self.guard.degenerate_score
            )
        else:
            guess = summarize_run(predicted)
            strength = partitions.prediction_strength(found.labels, guess.labels)
            kept = partitions.kept_together(found.labels, guess.labels)
            values["prediction_strength"] = np.nanmin(strength)
            values["agreement"] = kept.mean()
            values["rand"] = self.guard.rand(found, guess)
        return _select(values, self.metrics)

    def __repr__(self) -> str:
        return f"make_prediction_stability_scorer({self.metrics!r})"


@validate_params(
    {
        "estimator": "no_validation",
        "X": "no_validation",
        "y": "no_validation",
        "n_runs": [Interval(Integral, 1, None, closed="left")],
        "subsample": [*_SUBSAMPLE_CONSTRAINTS, None],
        **_RUN_CONSTRAINTS,
    },
    prefer_skip_nested_validation=True,
)
def community_stability(
    estimator: Any,
    X: Any,
    y: Any = None,
    *,
    n_runs: int = 20,
    subsample: float | None = 0.8,
    vary: str | Sequence[str] = "all",
    n_jobs: int | None = None,
    random_state: int | np.random.RandomState | None = 0,
) -> np.ndarray:
    """Tell how stable each community is: how well subsamples find it again.

    A clone is fitted on each of `n_runs` subsamples. Each community of the fitted
    estimator, as far as it is in the subsample, is compared with the clone's community
    that is most like it. The mean of their Jaccard similarities over the subsamples is
    the community's stability, after Hennig [1]_, by his scheme of subsets.

    Parameters
    ----------
    estimator : estimator
        A clusterer, or a pipeline that ends in one, fitted on X.

    X : array-like, LayerStack or mapping of {name: matrix}, of n_samples rows
        Data that it was fitted on.

    y : array-like or None, default=None
        Handed to ``fit``.

    n_runs : int, default=20
        Number of subsamples, at least 1.

    subsample : float, int or None, default=0.8
        Rows of each subsample, drawn without replacement: a share in (0, 1) or a number
        of at least 2; None for all, if `vary` makes runs differ. (Hennig takes half.
        But in a neighbour graph, which is no less dense with fewer rows, fewer rows
        mean fewer communities.)

    vary : "all", "neurons", str or sequence of str, default="all"
        Random states that get another seed in every run, as in `make_stability_scorer`;
        may be empty. With "neurons" every run also sees only a half of each layer's
        columns, which tells which communities other neurons find.

    n_jobs : int or None, default=None
        Number of processes, which share the runs. Results do not depend on it.

    random_state : int, RandomState instance or None, default=0
        Determines seeds and subsamples.

    Returns
    -------
    stability : ndarray of shape (n_clusters,)
        Entry c is the stability of label c, in [0, 1]; nan for a community that no
        subsample had. By Hennig's guide, a community above .75 is valid and stable, and
        one below .5 is dissolved.

    Raises
    ------
    ValueError
        If the estimator was fitted on another number of rows, a parameter is out of
        range, or nothing varies between the runs.

    TypeError
        If the estimator has no ``labels_``.

    References
    ----------
    .. [1] C. Hennig, "Cluster-wise assessment of cluster stability", Computational
       Statistics & Data Analysis 52(1), 2007.

    Examples
    --------
    >>> from sklearn.pipeline import make_pipeline
    >>> from skleiden import MultiLayerTfidfSketcher, MutualKNNLeiden
    >>> from skleiden.datasets import make_layered_activations
    >>> from skleiden.model_selection import community_stability
    >>> stack, _ = make_layered_activations(
    ...     600, n_communities=4, signal=0.8, random_state=0
    ... )
    >>> pipeline = make_pipeline(
    ...     MultiLayerTfidfSketcher(layer_weights=None, random_state=0),
    ...     MutualKNNLeiden(random_state=0),
    ... ).fit(stack)
    >>> bool((community_stability(pipeline, stack, n_runs=5) > 0.9).all())
    True
    """
    X = with_rows(X)
    own = _own_run(estimator, _num_samples(X)).labels
    rng = check_random_state(random_state)
    varied = must_vary(estimator, vary, subsample)
    draws = varied.draw(estimator, X, n_runs, rng, subsample)
    runs = repeat_fit(clone(estimator), X, y, draws, n_jobs=n_jobs)
    n_clusters = int(own.max(initial=-1)) + 1
    found = np.zeros(n_clusters)
    seen = np.zeros(n_clusters)
    for run in runs:
        kept = own if run.rows is None else own[run.rows]
        best = partitions.best_jaccard(kept, run.labels)
        present = np.flatnonzero(~np.isnan(best))
        found[present] += best[present]
        seen[present] += 1
    with np.errstate(invalid="ignore"):
        return found / seen


def information(runs: Sequence[Run], name: str = "net_information") -> np.ndarray:
    """Give the information of each pair of runs, net or shared, in nats."""
    of_pair = getattr(partitions, name)
    return np.array(
        [of_pair(*common_labels(one, other)) for one, other in combinations(runs, 2)]
    )


def _check_common(draws: Sequence[Draw]) -> None:
    """Refuse subsamples of which two have no pair of rows in common to compare."""
    rows = [draw.rows for draw in draws if draw.rows is not None]
    for one, other in combinations(rows, 2):
        n_common = np.intersect1d(one, other, assume_unique=True).size
        if n_common < 2:
            raise ValueError(
                f"Two subsamples of {one.size} rows have {n_common} in common, too few "
                "to compare them. Raise subsample."
            )


def _own_run(estimator: Any, n_samples: int) -> Run:
    """Give the partition of an estimator that was fitted on the rows at hand."""
    run = fitted_run(estimator)
    if run.labels.size != n_samples:
        raise ValueError(
            f"The estimator was fitted on {run.labels.size} rows and X has "
            f"{n_samples}; both must be the same rows. In a search use "
            "cv=FullDataSplit()."
        )
    return run


def _check_metrics(metrics: Any, known: Sequence[str]) -> None:
    unknown = [name for name in np.atleast_1d(metrics).tolist() if name not in known]
    if unknown or not len(np.atleast_1d(metrics)):
        raise ValueError(f"metrics must be among {list(known)}; got {metrics!r}.")


def _select(
    values: dict[str, float], metrics: str | Sequence[str]
) -> float | dict[str, float]:
    if isinstance(metrics, str):
        return float(values[metrics])
    return {name: float(values[name]) for name in metrics}
