"""Nearest neighbours by cosine similarity, as a scikit-learn graph transformer."""

from __future__ import annotations

from typing import Any, Self

import numpy as np
import scipy.sparse as sp
from sklearn.base import (
    BaseEstimator,
    ClassNamePrefixFeaturesOutMixin,
    TransformerMixin,
    _fit_context,
)
from sklearn.utils._param_validation import StrOptions
from sklearn.utils.validation import check_is_fitted

from ._fitting import all_or_nothing
from ._kernels import knn
from ._stages.search import SEARCH_CONSTRAINTS, gather
from ._vectors import ROW_RANKS, nearest_of_queries, search_rows

__all__ = ["FaissKNeighborsTransformer"]

# Distance between rows that differ, though their similarity rounds to 1.
_LEAST_DISTANCE = 6e-8


class FaissKNeighborsTransformer(
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

    device : {"cpu", "cuda"} or str, default="cpu"
        Where ``fit`` compares all pairs: "cuda" on a GPU, "cuda:1" on the second of
        several, by torch, which must be installed, built for CUDA. The graph is the
        CPU's, bit for bit (see Notes). Not for "ivf" and "hnsw", and "auto" then is
        "exact" for any number of rows.

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
    searched once, and only one of them is listed by other rows: otherwise they would
    fill one another's lists. Each of the rest lists itself and that one at distance 0,
    then that one's neighbours. Zero rows have no direction: they list themselves only.

    Similarities are rounded to 6 decimals and ties broken by a symmetric hash of what
    is in both rows, so that lists depend neither on threads, nor on what is searched
    together, nor on the order of the rows. Distances of rows that are not equal are at
    least 6e-8.

    ``transform`` of new rows always searches exactly, on the CPU.

    With ``device="cuda"`` a GPU makes a shortlist for each row, of 32 rows more than
    are asked for, by products in half precision. The CPU compares those on the list as
    in any search. Where a bound of the errors of half precision does not prove that no
    other row can be among the nearest, the row is compared with all on the CPU: hardly
    any of real embeddings, but most of data that are near copies of one another. Of the
    GPU's memory this takes 2 bytes for each number of X and up to 2.5 GB, or what is
    free in smaller blocks, at least some 30 MB (with 256 columns). A tensor on a GPU is
    brought to the CPU's memory first, where rows are checked, scaled and hashed.

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
        **SEARCH_CONSTRAINTS,
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
        device: str = "cpu",
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
        self.device = device

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
            found = search_rows(self, X, self.n_neighbors)
            distinct = found.distinct
            self.n_neighbors_, self.algorithm_ = found.n_neighbors, found.algorithm
            self.knn_recall_ = found.recall
            self._distinct = distinct._replace(vectors=distinct.vectors.to_keep())
            self.n_samples_fit_ = self._n_features_out = distinct.inverse.size
            return self._graph_of_fitted(gather(found.runner, found.tables), distinct)

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
        first = self._distinct.first
        graphs = [
            self._graph(
                np.where(found.ids >= 0, first[found.ids], -1),
                np.where(equal, 0.0, _distances(found.similarities)),
            )
            for found, equal in nearest_of_queries(self, X)
        ]
        return graphs[0] if len(graphs) == 1 else sp.vstack(graphs, format="csr")

    def _graph_of_fitted(
        self, found: knn.Neighbors, distinct: knn.UniqueRows
    ) -> sp.csr_matrix:
        """Give the graph of all fitted rows, given the lists of the distinct ones."""
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
        graph = self._graph(ids, distances)
        setattr(graph, ROW_RANKS, distinct.spread(distinct.ranks, -1))
        return graph

    def _graph(self, ids: np.ndarray, distances: np.ndarray) -> sp.csr_matrix:
        """Give lists of fitted rows, -1 for none, as a sparse graph."""
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
