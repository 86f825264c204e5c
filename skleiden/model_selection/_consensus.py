"""One partition out of many, and how sure each row's place in it is."""

from __future__ import annotations

from collections.abc import Sequence
from numbers import Integral
from typing import Any, Self

import numpy as np
from sklearn.base import BaseEstimator, ClusterMixin, MetaEstimatorMixin, clone
from sklearn.utils import Bunch, check_random_state, get_tags
from sklearn.utils._param_validation import HasMethods, Interval
from sklearn.utils.metaestimators import available_if
from sklearn.utils.validation import check_is_fitted

from skleiden._blocks.frames import common_index, refuse_other_order
from skleiden._clusterer import MutualKNNLeiden
from skleiden._fitting import all_or_nothing, final_step
from skleiden._input import with_rows
from skleiden._kernels import partitions

from ._runs import fit, fitted_run, must_vary, repeat_fit


def consensus(labels: Sequence[Any]) -> Bunch:
    """Choose the most typical of several partitions, and rate each row's place in it.

    Parameters
    ----------
    labels : sequence of array-like of int of shape (n_samples,)
        At least two partitions of the same rows, -1 for noise, such as
        ``ResolutionProfile.partitions(resolution)``.

    Returns
    -------
    result : :class:`~sklearn.utils.Bunch`
        Dictionary-like object, with the following attributes.

        labels : ndarray of shape (n_samples,), dtype int64
            The *medoid*: the partition with the highest mean adjusted Rand index to the
            others; of equal ones the first.
        confidence : ndarray of shape (n_samples,)
            Share of the other partitions that keep the row with its community, in [0,
            1], after communities are matched one to one, so that the most rows are
            kept. For noise, the share in which the row is noise again.
        stability : float
            Mean adjusted Rand index of all pairs. Each row of noise counts as a
            community of its own.
        medoid : int
            Number of the partition chosen.
        scores : ndarray of shape (n_partitions, n_partitions)
            Adjusted Rand index of each pair.

    Raises
    ------
    ValueError
        If there are fewer than two partitions, they are not of the same rows, labels
        are not integers, or Series have their rows in different orders.

    Examples
    --------
    >>> from skleiden.model_selection import consensus
    >>> found = consensus([[0, 0, 1, 1], [1, 1, 0, 0], [0, 0, 0, 1]])
    >>> found.labels
    array([0, 0, 1, 1])
    >>> found.confidence
    array([1. , 1. , 0.5, 1. ])
    """
    labels = list(labels)
    indexes = (common_index({"labels": one}) for one in labels)
    index = next((own for own in indexes if own is not None), None)
    for number, one in enumerate(labels):
        refuse_other_order(one, f"labels[{number}]", index)
    given = [np.asarray(one) for one in labels]
    shapes = {one.shape for one in given}
    if len(given) < 2 or len(shapes) > 1 or len(shapes.pop()) != 1:
        raise ValueError(
            "consensus takes at least two arrays of labels of the same rows; got "
            f"{len(given)}, of shapes {sorted({one.shape for one in given})}."
        )
    if any(one.dtype.kind not in "iu" for one in given):
        raise ValueError(
            "Labels must be integers, -1 for noise; got dtypes "
            f"{sorted({str(one.dtype) for one in given})}."
        )
    numbered = [partitions.number(one) for one in given]
    scores = partitions.pairwise(numbered)
    medoid = int(np.argmax(scores.sum(axis=1)))
    return Bunch(
        labels=given[medoid].astype(np.int64),
        confidence=_confidence(numbered, numbered[medoid], medoid),
        stability=float(scores[np.triu_indices(len(given), 1)].mean()),
        medoid=medoid,
        scores=scores,
    )


def _confidence(
    runs: Sequence[np.ndarray], labels: np.ndarray, own: int | None
) -> np.ndarray:
    others = [run for i, run in enumerate(runs) if i != own]
    return np.mean(
        [partitions.kept_together(labels, other) for other in others], axis=0
    )


def _has_predict(estimator: StableLeiden) -> bool:
    inner = getattr(estimator, "estimator_", estimator.estimator)
    return inner is None or hasattr(inner, "predict")


class StableLeiden(ClusterMixin, MetaEstimatorMixin, BaseEstimator):
    """Cluster several times with variations, and keep the most typical partition.

    Parameters
    ----------
    estimator : clusterer, pipeline that ends in one, or None, default=None
        Estimator that is fitted, with a ``random_state`` somewhere and ``labels_`` at
        its end; None is ``MutualKNNLeiden()``. To vary the sketch, too, give it the
        whole pipeline, instead of putting it at the end of one.

    n_runs : int, default=5
        Number of partitions, at least 2.

    vary : "all", "neurons", str or sequence of str, default="all"
        Random states of the estimator that get another seed in every run, as in
        `make_stability_scorer`. With "neurons" every run sees another half of each
        layer's columns, and the estimator is then fitted on all columns, see Notes.

    n_jobs : int or None, default=None
        Number of processes, which share the runs. Results do not depend on it.

    random_state : int, RandomState instance or None, default=None
        Determines the seeds. Pass an int for the same labels every time.

    Attributes
    ----------
    labels_ : ndarray of shape (n_samples,)
        The medoid: the partition with the highest mean adjusted Rand index to the
        others. With "neurons", the partition by all columns.

    confidence_ : ndarray of shape (n_samples,)
        Share of the other runs that keep the row with its community, in [0, 1], see
        `consensus`. With "neurons", the share of all runs.

    stability_ : float
        Mean adjusted Rand index of all pairs of runs. It has no guard: runs that each
        find a single community have 1.

    estimator_ : estimator
        The estimator, fitted with the medoid's seeds on all columns of X.

    n_clusters_ : int
        Number of communities, without noise.

    n_features_in_ : int
        Number of columns of X, if the estimator knows it.

    feature_names_in_ : ndarray of shape (n_features_in_,)
        Names of the columns, if the estimator knows them.

    Raises
    ------
    ValueError
        If nothing varies between the runs, or `vary` names no random state; if
        "neurons" is asked for a graph, or no layer has two columns.

    TypeError
        If the estimator has no ``labels_`` after ``fit``.

    See Also
    --------
    consensus : The same for partitions at hand.
    make_stability_scorer : Choose parameters by stability.

    Notes
    -----
    A medoid is a partition that the method did find, with connected communities and the
    quality that it has; an average of partitions need have neither. Runs that differ in
    nothing but the seed of a `MutualKNNLeiden` share one graph. The medoid is fitted
    once more at the end.

    Half of the neurons tell less than all of them. So runs on halves only say how sure
    each row's place is. The fit that is kept, and that predicts, is one on all neurons.

    Examples
    --------
    >>> from sklearn.pipeline import make_pipeline
    >>> from skleiden import MultiLayerTfidfSketcher, MutualKNNLeiden
    >>> from skleiden.datasets import make_layered_activations
    >>> from skleiden.model_selection import StableLeiden
    >>> stack, _ = make_layered_activations(600, n_communities=4, random_state=0)
    >>> pipeline = make_pipeline(
    ...     MultiLayerTfidfSketcher(layer_weights=None), MutualKNNLeiden()
    ... )
    >>> stable = StableLeiden(pipeline, random_state=0).fit(stack)
    >>> stable.n_clusters_, bool(stable.confidence_.mean() > 0.9)
    (4, True)
    """

    _parameter_constraints: dict[str, Any] = {
        "estimator": [HasMethods(["fit"]), None],
        "n_runs": [Interval(Integral, 2, None, closed="left")],
        "vary": [str, "array-like"],
        "n_jobs": [Integral, None],
        "random_state": ["random_state"],
    }

    def __init__(
        self,
        estimator: Any = None,
        *,
        n_runs: int = 5,
        vary: str | Sequence[str] = "all",
        n_jobs: int | None = None,
        random_state: int | np.random.RandomState | None = None,
    ) -> None:
        self.estimator = estimator
        self.n_runs = n_runs
        self.vary = vary
        self.n_jobs = n_jobs
        self.random_state = random_state

    def fit(self, X: Any, y: Any = None) -> Self:
        """Fit the runs and keep the most typical one.

        Parameters
        ----------
        X : array-like, LayerStack or mapping of {name: matrix}, of n_samples rows
            Input that the estimator takes.

        y : array-like or None, default=None
            Handed to the estimator.

        Returns
        -------
        self : object
            Fitted clusterer.
        """
        self._validate_params()
        with all_or_nothing(self):
            estimator, X = self._inner(), with_rows(X)
            varied = must_vary(
                estimator, self.vary, None, "Give it an estimator with a random_state."
            )
            rng = check_random_state(self.random_state)
            draws = varied.draw(estimator, X, self.n_runs, rng)
            runs = repeat_fit(estimator, X, y, draws, n_jobs=self.n_jobs)
            found = consensus([run.labels for run in runs])
            typical = clone(estimator).set_params(**draws[found.medoid].seeds)
            self.estimator_ = fit(typical, X, y)
            self.labels_ = final_step(self.estimator_)[1].labels_
            own = fitted_run(self.estimator_)
            # Of what is kept, should an approximate search have found other neighbours.
            self.confidence_ = _confidence(
                [run.labels for run in runs],
                own.labels,
                # A fit on all neurons is none of the runs on halves of them.
                None if varied.halves else found.medoid,
            )
            self.stability_ = found.stability
            self.n_clusters_ = own.n_clusters
            for name in ("n_features_in_", "feature_names_in_"):
                self.__dict__.pop(name, None)  # of an earlier fit on other data
                if hasattr(self.estimator_, name):
                    setattr(self, name, getattr(self.estimator_, name))
        return self

    @available_if(_has_predict)
    def predict(self, X: Any, **params: Any) -> Any:
        """Give each row a community, by ``predict`` of `estimator_`.

        Parameters
        ----------
        X : array-like or LayerStack of n_queries rows
            Input that the estimator takes.

        **params : dict
            Parameters of that ``predict``, such as ``return_strength=True``.

        Returns
        -------
        labels : ndarray of shape (n_queries,)
            Communities, and whatever else that ``predict`` returns.
        """
        check_is_fitted(self)
        return self.estimator_.predict(X, **params)

    def _inner(self) -> Any:
        return MutualKNNLeiden() if self.estimator is None else self.estimator

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        inner = get_tags(self._inner()).input_tags
        tags.input_tags.sparse = inner.sparse
        tags.input_tags.pairwise = inner.pairwise
        return tags
