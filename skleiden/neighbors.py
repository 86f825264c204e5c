"""Nearest neighbours by cosine similarity, as a scikit-learn graph transformer."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from numbers import Integral, Real
from typing import Any, Self

import numpy as np
import scipy.sparse as sp
from joblib import effective_n_jobs
from sklearn.base import (
    BaseEstimator,
    ClassNamePrefixFeaturesOutMixin,
    TransformerMixin,
    _fit_context,
)
from sklearn.utils import check_random_state
from sklearn.utils._param_validation import Interval, StrOptions
from sklearn.utils.validation import check_is_fitted, validate_data
from tqdm import tqdm

from ._fitting import all_or_nothing, at_most_useful
from ._kernels import ivf, knn
from ._mapped import check_size, check_written
from .layers import (
    LayerStack,
    check_real,
    check_rows_known,
    is_dask_array,
    refuse_layer_sequence,
)

__all__ = ["FaissKNeighborsTransformer"]

# "auto" compares all pairs of up to so many rows, where inverted lists gain little, and
# of more where the lists would compare more than this share of them anyway
# (benchmarks/README.md).
_EXACT_ROWS = 10_000
_EXACT_SHARE = 0.6

# FAISS takes C's integers.
_CANDIDATES = Interval(Integral, 1, 2**31 - 1, closed="both")

# Distance between rows that differ, though their similarity rounds to 1.
_LEAST_DISTANCE = 6e-8


class NeighborsSearchMixin:
    """Search among the rows of a matrix: what the estimators of this package share."""

    n_neighbors: int
    algorithm: str
    target_recall: float
    hnsw_m: int
    ef_construction: int
    ef_search: int
    random_state: int | np.random.RandomState | None
    n_jobs: int | None
    verbose: int
    _distinct: knn.UniqueRows

    _search_constraints: dict[str, Any] = {
        "n_neighbors": [Interval(Integral, 1, None, closed="left")],
        "algorithm": [StrOptions({"auto", "exact", "hnsw", "ivf"})],
        "target_recall": [Interval(Real, 0, 1, closed="right")],
        "hnsw_m": [Interval(Integral, 2, 512, closed="both")],
        "ef_construction": [_CANDIDATES],
        "ef_search": [_CANDIDATES],
        "random_state": ["random_state"],
        "n_jobs": [Integral, None],
        "verbose": ["verbose"],
    }

    def _refuse_layers(self, X: Any) -> None:
        """Raise a TypeError for layered input, which must be embedded first."""
        # A DOK matrix is a dict: leave it to the check for sparse data.
        if isinstance(X, (LayerStack, Mapping)) and not sp.issparse(X):
            raise TypeError(
                f"{type(self).__name__} takes one matrix; got a {type(X).__name__}. "
                "Embed it first: make_pipeline(MultiLayerTfidfSketcher(), "
                f"{type(self).__name__}())."
            )
        refuse_layer_sequence(X)

    def _check_vectors(self, X: Any, *, reset: bool) -> np.ndarray:
        """Validate X and return its rows at unit length, without a copy if they are."""
        self._refuse_layers(X)
        check_size(X, "X")
        check_written(X)
        # A search among one row has nothing to find. Order and dtype are left to
        # unit_rows, which does not copy a memory map to memory for their sake.
        X = validate_data(
            self,
            X,
            reset=reset,
            dtype="numeric",
            ensure_min_samples=2 if reset else 1,
        )
        check_real(X, "X")
        return knn.unit_rows(X)

    def _check_dask_array(self, X: Any, *, reset: bool) -> None:
        if X.ndim != 2:
            raise ValueError(
                f"Expected 2D array, got {X.ndim}D Dask array instead. Reshape it to "
                "(n_samples, n_features)."
            )
        check_real(X, "X")
        check_rows_known(X, "X")
        least = 2 if reset else 1
        if X.shape[0] < least or X.shape[1] < 1:
            raise ValueError(
                f"Found a Dask array of shape {X.shape} while a minimum of {least} "
                "rows and 1 column is required."
            )
        validate_data(self, X, reset=reset, skip_check_array=True)

    def _distinct_on_workers(self, X: Any) -> knn.UniqueRows:
        """The distinct rows of a Dask array, which stay on the workers."""
        from . import _dask

        self._check_dask_array(X, reset=True)
        return _dask.distinct_rows(X, self.verbose)

    def _search_on_workers(self, distinct: knn.UniqueRows) -> list[Any]:
        """As `_search`, of distinct rows on workers, where the lists stay."""
        from . import _dask

        if self.algorithm == "hnsw":
            raise ValueError(
                "algorithm='hnsw' is not available for a Dask array. Use 'auto', 'ivf' "
                "or 'exact'."
            )
        shards = distinct.vectors
        self.n_neighbors_ = min(int(self.n_neighbors), distinct.inverse.size - 1)
        k = min(self.n_neighbors_, shards.shape[0] - 1)
        rng = check_random_state(self.random_state)
        n_jobs = self._n_threads()
        rows = _dask.RowsOnWorkers(shards, n_jobs, self.verbose)
        self.algorithm_, plan, _ = self._choose_algorithm(
            shards.shape[0],
            k,
            lambda: ivf.make_plan_of(
                rows, k, target_recall=self.target_recall, rng=rng
            ),
        )
        tables = _dask.search(shards, k, plan, n_jobs, self.verbose)
        self.knn_recall_ = 1.0
        if plan is not None:
            self.knn_recall_, _ = _dask.measured(shards, tables, plan)
        return tables

    def _nearest_fitted(self, X: Any, k: int) -> tuple[knn.Neighbors, np.ndarray]:
        """The k nearest distinct rows of the fit, and which are equal to the query."""
        vectors, fitted = self._check_vectors(X, reset=False), self._distinct.vectors
        if isinstance(fitted, np.ndarray):
            check_size(fitted, "what the estimator was fitted on")
            with self._threads():
                found = knn.exact_neighbors(vectors, fitted, k)
            return found, knn.equal_rows(vectors, fitted, found)
        from . import _dask

        return _dask.nearest_fitted(vectors, fitted, k, self._n_threads())

    def _search(self, distinct: knn.UniqueRows) -> knn.Neighbors:
        """Neighbours among distinct rows; sets what the search tells of itself."""
        check_size(distinct.vectors, "X")
        n = distinct.inverse.size
        self.n_neighbors_ = min(int(self.n_neighbors), n - 1)
        m = distinct.first.size
        k = min(self.n_neighbors_, m - 1)
        rng = check_random_state(self.random_state)
        with self._threads(), knn.read_at_random(distinct.vectors):
            self.algorithm_, plan, why = self._choose_algorithm(
                m,
                k,
                lambda: ivf.make_plan(
                    distinct.vectors,
                    k,
                    target_recall=self.target_recall,
                    rng=rng,
                    n_threads=knn.n_threads(),
                ),
            )
            description = f"Neighbors ({self.algorithm_}, {m} rows{why})"
            with self._progress(description, m) as progress:
                if k < 1:  # no two rows differ
                    found = knn.Neighbors(
                        np.empty((m, 0), np.int32), np.empty((m, 0), np.float32)
                    )
                elif plan is not None:
                    found = ivf.search(
                        distinct.vectors,
                        k,
                        plan,
                        n_threads=knn.n_threads(),
                        progress=progress,
                    )
                elif self.algorithm_ == "exact":
                    found = knn.exact_neighbors(
                        distinct.vectors,
                        distinct.vectors,
                        k,
                        own=np.arange(m),
                        progress=progress,
                    )
                else:
                    found = knn.hnsw_neighbors(
                        distinct.vectors,
                        k,
                        m=int(self.hnsw_m),
                        ef_construction=int(self.ef_construction),
                        ef_search=int(self.ef_search),
                        target_recall=self.target_recall,
                        rng=rng,
                        reproducible=self.random_state is not None,
                        progress=progress,
                    )
        self.knn_recall_ = found.recall
        if found.recall_bound < self.target_recall:
            warnings.warn(
                f"algorithm={self.algorithm_!r} reached a recall of {found.recall:.3f} "
                f"(lower 95% bound {found.recall_bound:.3f}), below target_recall="
                f"{self.target_recall}. Raise hnsw_m or ef_construction, or use "
                "algorithm='exact'.",
                UserWarning,
                stacklevel=3,
            )
        return found

    def _choose_algorithm(
        self, m: int, k: int, make_plan: Callable[[], ivf.Plan]
    ) -> tuple[str, ivf.Plan | None, str]:
        """The algorithm, for "ivf" the plan of its search, and the reason in words."""
        auto = self.algorithm == "auto"
        if auto and (k < 1 or m <= _EXACT_ROWS):
            return "exact", None, ""
        if k < 1 or self.algorithm in ("exact", "hnsw"):
            return self.algorithm, None, ""
        plan = make_plan()
        why = f", lists compare {plan.share:.1%} of pairs"
        if auto and plan.share > _EXACT_SHARE:
            return "exact", None, why
        return "ivf", plan, why

    def _n_threads(self) -> int | None:
        n_jobs = at_most_useful(self.n_jobs)
        return None if n_jobs is None else int(effective_n_jobs(n_jobs))

    def _threads(self) -> AbstractContextManager[None]:
        return knn.limit_threads(self._n_threads())

    @contextmanager
    def _progress(self, description: str, total: int) -> Iterator[Any]:
        with tqdm(desc=description, total=total, disable=not self.verbose) as bar:
            yield bar.update


class FaissKNeighborsTransformer(
    NeighborsSearchMixin,
    ClassNamePrefixFeaturesOutMixin,
    TransformerMixin,
    BaseEstimator,
):
    """Transform X into the sparse graph of its nearest neighbours by cosine.

    Follows the contract of :class:`~sklearn.neighbors.KNeighborsTransformer`, so that
    the graph can be cached in a :class:`~sklearn.pipeline.Pipeline` and handed to any
    estimator that takes ``metric="precomputed"``, `MutualKNNLeiden` first of all.

    Parameters
    ----------
    n_neighbors : int, default=40
        Neighbours of each row, without the row itself; at least 1. Clipped to
        ``n_samples - 1``, see `n_neighbors_`.

    mode : {"distance", "connectivity"}, default="distance"
        "distance" stores ``1 - cosine similarity``, in [0, 2], of each row's neighbours
        and an explicit 0 for the row itself; "connectivity" stores a 1 for each.

    metric : {"cosine"}, default="cosine"
        Only cosine is offered.

    algorithm : {"auto", "exact", "hnsw", "ivf"}, default="auto"
        "exact" compares all pairs. "ivf" divides the rows into lists of similar ones,
        an inverted file [1]_, and compares a row with its nearest lists and with the
        rows that these lists are near to. "hnsw" searches a hierarchical navigable
        small-world graph [2]_, which holds a second copy of the vectors. "auto" takes
        "exact" up to 10,000 distinct rows, and above "ivf", unless its lists would
        compare more than 0.6 of all pairs.

    target_recall : float, default=0.95
        For "ivf" and "hnsw": the share of true neighbours that must be found, in
        (0, 1]. The search is widened until the lower 95% bound of the recall, measured
        on sampled rows against the exact answer, reaches it. "ivf" always reaches it,
        at worst by comparing all pairs; "hnsw" warns where it cannot.

    hnsw_m : int, default=32
        Links of each row in the small-world graph, 2 to 512.

    ef_construction : int, default=200
        Candidates kept while the small-world graph is built.

    ef_search : int, default=64
        Candidates kept while it is searched, to begin with; see `target_recall`.

    random_state : int, RandomState instance or None, default=None
        Rows sampled to measure recall, and the lists of "ivf". Unless None, "hnsw"
        builds on one thread, which makes it reproducible. "exact" is reproducible
        always.

    n_jobs : int or None, default=None
        Threads of FAISS: None leaves OpenMP's setting alone, -1 is all processors. A
        process forked after FAISS was loaded has one, because OpenMP's threads do not
        survive a fork.

    verbose : int, default=0
        Show a progress bar on standard error if positive.

    Attributes
    ----------
    n_neighbors_ : int
        ``min(n_neighbors, n_samples - 1)``.

    algorithm_ : {"exact", "hnsw", "ivf"}
        The algorithm used. With ``verbose=1`` the progress bar tells it with the share
        of pairs by which "auto" chose.

    knn_recall_ : float
        Measured recall of the search in ``fit``; 1.0 for "exact".

    n_samples_fit_ : int
        Rows of the fitted data.

    n_features_in_ : int
        Columns of the fitted data.

    feature_names_in_ : ndarray of shape (n_features_in_,)
        Names of the columns, where X is a DataFrame with string column names.

    See Also
    --------
    MutualKNNLeiden : Communities of this graph.
    sklearn.neighbors.KNeighborsTransformer : The same for other metrics.

    Notes
    -----
    Rows that are equal (in every entry of their unit vectors to 5 decimals) are
    searched once, and only the first of them is listed by other rows: otherwise they
    would fill one another's lists. Each later one lists itself and the first at
    distance 0, then the first one's neighbours. Zero rows have no direction: they list
    themselves only.

    Similarities are rounded to 6 decimals and ties broken by row number, so that lists
    do not depend on threads or on what is searched together. Distances of rows that
    are not equal are at least 6e-8.

    ``transform`` of new rows always searches exactly.

    A memory-mapped X is not read into memory. Where its rows are not C-ordered float32
    of unit length, or some are zero or equal to others, those searched are written to
    a temporary file of up to the size of X (as float32), in the folder that
    :func:`tempfile.gettempdir` names (set by the environment variable TMPDIR), which
    goes with the fitted estimator. It should not be one in memory.

    "ivf" makes its lists by spherical k-means on the first 128 principal components
    and compares the vectors themselves, of which it makes no second copy. It needs
    beside them and the result about 8 bytes for each of ``n_neighbors + 57``
    candidates of a row.

    A Dask array is searched by the workers, as `MutualKNNLeiden` has it; the graph is
    that of an array, in this process.

    References
    ----------
    .. [1] J. Sivic, A. Zisserman, "Video Google: a text retrieval approach to object
       matching in videos", ICCV, 2003.
    .. [2] Y. A. Malkov, D. A. Yashunin, "Efficient and robust approximate nearest
       neighbor search using Hierarchical Navigable Small World graphs", IEEE TPAMI
       42(4), 2020.

    Examples
    --------
    >>> import numpy as np
    >>> from skleiden import FaissKNeighborsTransformer
    >>> X = np.random.RandomState(0).randn(100, 8)
    >>> graph = FaissKNeighborsTransformer(n_neighbors=5).fit_transform(X)
    >>> graph.shape, graph.nnz
    ((100, 100), 600)
    """

    _parameter_constraints: dict[str, Any] = {
        **NeighborsSearchMixin._search_constraints,
        "mode": [StrOptions({"distance", "connectivity"})],
        "metric": [StrOptions({"cosine"})],
    }

    def __init__(
        self,
        n_neighbors: int = 40,
        *,
        mode: str = "distance",
        metric: str = "cosine",
        algorithm: str = "auto",
        target_recall: float = 0.95,
        hnsw_m: int = 32,
        ef_construction: int = 200,
        ef_search: int = 64,
        random_state: int | np.random.RandomState | None = None,
        n_jobs: int | None = None,
        verbose: int = 0,
    ) -> None:
        self.n_neighbors = n_neighbors
        self.mode = mode
        self.metric = metric
        self.algorithm = algorithm
        self.target_recall = target_recall
        self.hnsw_m = hnsw_m
        self.ef_construction = ef_construction
        self.ef_search = ef_search
        self.random_state = random_state
        self.n_jobs = n_jobs
        self.verbose = verbose

    def fit(self, X: Any, y: Any = None) -> Self:
        """Search the neighbours of the rows of X among themselves.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            Vectors, of at least two rows. Not copied if they are C-ordered float32
            rows of unit length, as from `MultiLayerTfidfSketcher`.

        y : Ignored
            Not used, present for API consistency.

        Returns
        -------
        self : object
            Fitted transformer.
        """
        self.fit_transform(X)
        return self

    @_fit_context(prefer_skip_nested_validation=True)
    def fit_transform(self, X: Any, y: Any = None) -> sp.csr_array:
        """Search the neighbours of the rows of X among themselves.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            Vectors, see ``fit``.

        y : Ignored
            Not used, present for API consistency.

        Returns
        -------
        X_new : CSR matrix of shape (n_samples, n_samples), dtype float64
            Row i holds row i itself and its neighbours, nearest first.
        """
        with all_or_nothing(self):
            if is_dask_array(X):
                from . import _dask

                distinct = self._distinct_on_workers(X)
                found = _dask.gather(self._search_on_workers(distinct))
            else:
                distinct = knn.unique_rows(self._check_vectors(X, reset=True))
                found = self._search(distinct)
            self._distinct = distinct
            self.n_samples_fit_ = self._n_features_out = distinct.inverse.size
            return self._graph_of_fitted(found, distinct)

    def transform(self, X: Any) -> sp.csr_array:
        """Search the nearest fitted rows of each row of X, exactly.

        Parameters
        ----------
        X : array-like of shape (n_queries, n_features)
            Vectors.

        Returns
        -------
        X_new : CSR matrix of shape (n_queries, n_samples_fit_), dtype float64
            In mode "distance" ``n_neighbors_ + 1`` entries a row, nearest first, as
            scikit-learn has it; in mode "connectivity" one less. A fitted row finds
            itself at distance 0.
        """
        check_is_fitted(self)
        distinct = self._distinct
        k = min(self.n_neighbors_ + 1, distinct.first.size)
        found, equal = self._nearest_fitted(X, k)
        ids = np.where(found.ids >= 0, distinct.first[found.ids], -1)
        distances = np.where(equal, 0.0, _distances(found.similarities))
        return self._graph(ids, distances)

    def _graph_of_fitted(
        self, found: knn.Neighbors, distinct: knn.UniqueRows
    ) -> sp.csr_matrix:
        """The graph of all fitted rows, given the lists of the distinct ones."""
        # Column 0 holds the row itself; in a row equal to an earlier one, column 1
        # holds that one, and the neighbours follow.
        n = distinct.inverse.size
        ids = np.full((n, self.n_neighbors_ + 1), -1)
        distances = np.zeros(ids.shape)
        ids[:, 0] = np.arange(n)
        repeats = distinct.repeats()
        ids[repeats, 1] = distinct.first[distinct.inverse[repeats]]
        listed, similarities = found.ids, found.similarities
        for rows, column in ((distinct.first, 1), (repeats, 2)):
            numbers = distinct.inverse[rows]
            width = min(listed.shape[1], ids.shape[1] - column)
            target = np.ix_(rows, np.arange(column, column + width))
            near = listed[numbers, :width]
            ids[target] = np.where(near >= 0, distinct.first[near], -1)
            distances[target] = _distances(similarities[numbers, :width])
        return self._graph(ids, distances)

    def _graph(self, ids: np.ndarray, distances: np.ndarray) -> sp.csr_matrix:
        """Lists of fitted rows, -1 for none, as a sparse graph."""
        if self.mode == "connectivity":
            # Without the row itself being counted extra, as in scikit-learn.
            ids = ids[:, : self.n_neighbors_]
            distances = np.ones(ids.shape)
        found = ids >= 0
        indptr = np.append(0, np.cumsum(found.sum(axis=1)))
        return sp.csr_matrix(
            (distances[found], ids[found], indptr),
            shape=(ids.shape[0], self.n_samples_fit_),
        )


def _distances(similarities: np.ndarray) -> np.ndarray:
    """Cosine distances of rows that are not equal, so never 0."""
    return np.maximum(1.0 - similarities.astype(np.float64), _LEAST_DISTANCE)
