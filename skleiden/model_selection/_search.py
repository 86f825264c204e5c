"""The split and the rules of choice that a search needs beside a scorer."""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Mapping
from functools import partial
from typing import Any

import numpy as np
from sklearn.utils.validation import _num_samples

from skleiden._input import with_rows


class FullDataSplit:
    """Split once, with all rows as training rows and as test rows.

    It is meant for ``cv=`` of :class:`~sklearn.model_selection.GridSearchCV`,
    :func:`~sklearn.model_selection.cross_validate` and their like, with a clusterer,
    which has no use for held-out rows.

    See Also
    --------
    make_stability_scorer : A score that needs neither labels nor held-out rows.

    Examples
    --------
    >>> import numpy as np
    >>> from skleiden.model_selection import FullDataSplit
    >>> list(FullDataSplit().split(np.ones((3, 5))))
    [(array([0, 1, 2]), array([0, 1, 2]))]
    """

    def get_n_splits(self, X: Any = None, y: Any = None, groups: Any = None) -> int:
        """Return 1, the number of splits.

        Parameters
        ----------
        X, y, groups : object
            Not used, present for API consistency.

        Returns
        -------
        n_splits : int
            Always 1.
        """
        return 1

    def split(
        self, X: Any, y: Any = None, groups: Any = None
    ) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """Generate the split.

        Parameters
        ----------
        X : array-like, LayerStack or mapping of {name: matrix}, of n_samples rows
            Samples, of which only the number matters.

        y, groups : object
            Not used, present for API consistency.

        Yields
        ------
        train, test : ndarray of shape (n_samples,)
            The numbers of all rows, twice.
        """
        rows = np.arange(_num_samples(with_rows(X)))
        yield rows, rows

    def __repr__(self) -> str:
        return "FullDataSplit()"


def select_informative(cv_results: Mapping[str, Any] | None = None) -> Any:
    """Choose the candidate with the highest net information, for ``refit=``.

    ``refit=select_informative`` and ``refit=select_informative()`` mean the same.

    Parameters
    ----------
    cv_results : mapping of {str: array-like}, default=None
        The ``cv_results_`` of a search whose scorer comes from `make_stability_scorer`
        with "net_information" among its metrics, or as the only one.

    Returns
    -------
    choice : int, or callable
        Number of the candidate with the most; of equal ones the first. Candidates
        without a score (nan) are never chosen. Without `cv_results`, this function
        itself.

    Raises
    ------
    TypeError
        If `cv_results` is something else.

    ValueError
        If there is no net information among the results, or no candidate has any.

    Warns
    -----
    UserWarning
        If none is above 0: every candidate has less found again than not.

    See Also
    --------
    select_stable : The highest stability, which tends to fewer communities.

    Notes
    -----
    Stability asks what share of a partition is found again, and is highest for few
    communities. Net information asks how much of it is found again: a finer partition
    wins as long as more of what it adds is found again than not. It is the information
    that two runs share, less half their variation of information [1]_, both adjusted
    for chance [2]_. On similar grounds, Buhmann [3]_ chooses among clusterings by the
    information that survives in a second sample. benchmarks/README.md compares this
    rule with `select_stable` on labelled data. For candidates that differ in more than
    the resolution, see "shared_information" in `make_stability_scorer`.

    References
    ----------
    .. [1] M. Meila, "Comparing clusterings: an information based distance", Journal of
       Multivariate Analysis 98(5), 2007.
    .. [2] N. X. Vinh, J. Epps, J. Bailey, "Information theoretic measures for
       clusterings comparison: variants, properties, normalization and correction for
       chance", Journal of Machine Learning Research 11, 2010.
    .. [3] J. M. Buhmann, "Information theoretic model validation for clustering",
       IEEE International Symposium on Information Theory, 2010.

    Examples
    --------
    >>> from skleiden.model_selection import select_informative
    >>> select_informative({"mean_test_net_information": [0.7, 1.4, 1.2]})
    1
    """
    if cv_results is None:
        return select_informative
    return int(np.argmax(_scores(cv_results, "net_information")))


def select_stable(cv_results: Mapping[str, Any] | None = None) -> Any:
    """Choose the candidate with the highest stability, for ``refit=``.

    ``refit=select_stable`` and ``refit=select_stable()`` mean the same.

    Parameters
    ----------
    cv_results : mapping of {str: array-like}, default=None
        The ``cv_results_`` of a search whose scorer comes from `make_stability_scorer`.

    Returns
    -------
    choice : int, or callable
        Number of the best candidate; of equal ones the first. Candidates without a
        score (nan) are never chosen. Without `cv_results`, this function itself.

    Raises
    ------
    TypeError
        If `cv_results` is something else.

    ValueError
        If there is no stability among the results, or no candidate has one.

    Warns
    -----
    UserWarning
        If no stability is above 0: all candidates are degenerate, or their runs agree
        no more than by chance.

    See Also
    --------
    select_finest_stable : More communities at almost the same stability.

    Notes
    -----
    The highest stability is the rule of Ben-Hur, Elisseeff and Guyon [1]_ and of Lange
    et al. [2]_; an index adjusted for chance makes it comparable over numbers of
    communities. It tends to few, coarse communities [3]_, which is why the scorer's
    guard against degenerate partitions is needed.

    References
    ----------
    .. [1] A. Ben-Hur, A. Elisseeff, I. Guyon, "A stability based method for
       discovering structure in clustered data", Pacific Symposium on Biocomputing,
       2002.
    .. [2] T. Lange, V. Roth, M. L. Braun, J. M. Buhmann, "Stability-based validation of
       clustering solutions", Neural Computation 16(6), 2004.
    .. [3] U. von Luxburg, "Clustering stability: an overview", Foundations and Trends
       in Machine Learning 2(3), 2010.

    Examples
    --------
    >>> from skleiden.model_selection import select_stable
    >>> select_stable({"mean_test_score": [0.6, 0.9, 0.8]})
    1
    """
    if cv_results is None:
        return select_stable
    return int(np.argmax(_scores(cv_results, "stability")))


def select_finest_stable(
    cv_results: Mapping[str, Any] | None = None, *, tolerance: float = 0.05
) -> Any:
    """Choose the most communities at nearly the highest stability, for ``refit=``.

    ``refit=select_finest_stable`` takes the default tolerance,
    ``refit=select_finest_stable(tolerance=0.1)`` another one.

    Parameters
    ----------
    cv_results : mapping of {str: array-like}, default=None
        The ``cv_results_`` of a search whose scorer comes from
        ``make_stability_scorer(metrics=["stability", "n_clusters"])``.

    tolerance : float, default=0.05
        Share of the highest stability that may be given up, in [0, 1).

    Returns
    -------
    choice : int, or callable
        Number of the candidate with the most communities among those whose stability is
        at least ``(1 - tolerance)`` times the highest; of equal ones the most stable.
        Without `cv_results`, a function of `cv_results` alone.

    Raises
    ------
    TypeError
        If `cv_results` is something else, such as a tolerance without its name.

    ValueError
        If `tolerance` is outside [0, 1); if the stability or the number of communities
        is missing from the results, or no candidate has a score.

    Warns
    -----
    UserWarning
        As for `select_stable`.

    See Also
    --------
    select_stable : The highest stability alone.

    Examples
    --------
    >>> from skleiden.model_selection import select_finest_stable
    >>> results = {
    ...     "mean_test_stability": [0.90, 0.88, 0.50],
    ...     "mean_test_n_clusters": [4.0, 9.0, 30.0],
    ... }
    >>> select_finest_stable(results)
    1
    >>> select_finest_stable(tolerance=0.0)(results)
    0
    """
    if not 0 <= tolerance < 1:
        raise ValueError(f"tolerance must be in [0, 1); got {tolerance!r}.")
    if cv_results is None:
        return partial(select_finest_stable, tolerance=tolerance)
    stability = _scores(cv_results, "stability")
    if "mean_test_n_clusters" not in cv_results:
        raise ValueError(
            "select_finest_stable needs the number of communities; score with "
            "make_stability_scorer(metrics=['stability', 'n_clusters'])."
        )
    n_clusters = np.asarray(cv_results["mean_test_n_clusters"], dtype=float)
    best = stability.max()
    near = stability >= best - tolerance * abs(best)
    return int(np.lexsort((stability, np.where(near, n_clusters, -1)))[-1])


def _scores(cv_results: Mapping[str, Any], metric: str) -> np.ndarray:
    """Scores of all candidates by one metric, -inf where there is none."""
    if not hasattr(cv_results, "keys"):
        raise TypeError(
            "cv_results must be the cv_results_ of a search; got "
            f"{cv_results!r}. Give options by name: "
            "select_finest_stable(tolerance=0.05)."
        )
    for name in (f"mean_test_{metric}", "mean_test_score"):
        if name in cv_results:
            scores = np.asarray(cv_results[name], dtype=float)
            break
    else:
        found = sorted(name for name in cv_results if name.startswith("mean_test_"))
        raise ValueError(
            f"The results have no {metric}; score with "
            f"make_stability_scorer(metrics={metric!r}), or have it among several "
            f"metrics. Got {found}."
        )
    if np.isnan(scores).all():
        raise ValueError(
            f"None of the {scores.size} candidates has a score: all their fits or "
            "scores failed. Run the search with error_score='raise' to see why."
        )
    scores = np.where(np.isnan(scores), -np.inf, scores)
    if scores.max() <= 0:
        warnings.warn(
            f"The highest {metric} of {scores.size} candidates is {scores.max():.3g}: "
            "none is found again with other seeds, or all are degenerate. Try other "
            "values, or relax the scorer's min_clusters, max_cluster_fraction or "
            "min_coverage.",
            UserWarning,
            stacklevel=3,
        )
    return scores
