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

    It follows the contract of :class:`~sklearn.neighbors.KNeighborsTransformer`, so
    that the graph can be cached in a :class:`~sklearn.pipeline.Pipeline` and handed to
    any estimator with ``metric="precomputed"``, above all to `MutualKNNLeiden`.

    Parameters
    ----------
    n_neighbors : int, default=40
        Number of neighbours of each row, without the row itself; at least 1. Clipped to
        ``n_samples - 1``, see `n_neighbors_`.

    mode : {"distance", "connectivity"}, default="distance"
        "distance" stores ``1 - cosine similarity``, in [0, 2], for each neighbour of a
        row, and an explicit 0 for the row itself; "connectivity" stores a 1 for each of
        them, and counts the row itself as one of the `n_neighbors`, as scikit-learn
        does.

    metric : {"cosine"}, default="cosine"
        Only cosine is offered.

    algorithm : {"auto", "exact", "hnsw", "ivf"}, default="auto"
        "exact" compares all pairs of rows. "ivf" divides the rows into lists of similar
        ones, an inverted file [1]_, and compares two rows if the list of one is among
        those nearest to the other. "hnsw" searches a hierarchical navigable small-world
        graph [2]_, which holds a second copy of the vectors. "auto" takes "exact" up to
        10,000 distinct rows, and "ivf" above, unless its lists would compare more than
        0.6 of all pairs.

    target_recall : float, default=0.95
        For "ivf" and "hnsw": the share of true neighbours that must be found, in
        (0, 1]. The search is widened until the lower 95% bound of the recall, measured
        on sampled rows against the exact answer, reaches it. "ivf" always reaches it,
        at worst by comparing all pairs; "hnsw" warns where it cannot.

    hnsw_m : int, default=32
        Links of each row in the small-world graph, 2 to 512.

    ef_construction : int, default=200
        Number of candidates kept while the small-world graph is built.

    ef_search : int, default=64
        Number of candidates kept while it is searched, at first; see `target_recall`.

    random_state : int, RandomState instance or None, default=None
        Determines the rows sampled to measure recall, and the lists of "ivf". Unless it
        is None, "hnsw" builds its graph on one thread, which makes it reproducible.
        "exact" is always reproducible.

    n_jobs : int or None, default=None
        Number of threads of FAISS: None leaves OpenMP's setting as it is, -1 is all
        processors. A process forked after FAISS was loaded has one, because OpenMP's
        threads do not survive a fork.

    verbose : int, default=0
        Show a progress bar on standard error if positive.

    device : {"cpu", "cuda"} or str, default="cpu"
        Where ``fit`` compares all pairs of rows: on the CPU or, by torch, on a GPU
        ("cuda", or "cuda:1" for the second of several). torch must be installed, and
        built for CUDA. The graph is that of the CPU, bit for bit (see Notes). Not
        available for "ivf" and "hnsw"; "auto" then means "exact" for any number of
        rows.

    Attributes
    ----------
    n_neighbors_ : int
        ``min(n_neighbors, n_samples - 1)``.

    algorithm_ : {"exact", "hnsw", "ivf"}
        Algorithm used. With ``verbose=1``, the progress bar names it, with the share of
        pairs by which "auto" chose.

    knn_recall_ : float
        Measured recall of the search in ``fit``; 1.0 for "exact".

    n_samples_fit_ : int
        Number of rows of the fitted data.

    n_features_in_ : int
        Columns of the fitted data.

    feature_names_in_ : ndarray of shape (n_features_in_,)
        Names of the columns, if X is a DataFrame with string column names.

    Raises
    ------
    ValueError
        If X is not finite or has fewer than two rows; if `device` and `algorithm` do
        not go together, or there is no such device.

    TypeError
        If X is a `LayerStack` or a list of matrices, which must be embedded first.

    OSError
        If the temporary file for a memory-mapped X cannot be written, see Notes.

    ImportError
        If the torch that `device` needs is not installed.

    Warns
    -----
    UserWarning
        If "hnsw" does not reach `target_recall`.

    See Also
    --------
    MutualKNNLeiden : Communities of this graph.
    sklearn.neighbors.KNeighborsTransformer : The same for other metrics.

    Notes
    -----
    Rows that are equal (in every entry of their unit vectors, to 5 decimals) are
    searched once, and only one of them is listed by other rows: otherwise they would
    fill one another's lists. Each of the others lists itself and that one at distance
    0, then the neighbours of that one. Zero rows have no direction: they list
    themselves only.

    Similarities are rounded to 6 decimals, and ties are broken by a symmetric hash of
    the content of both rows, so that lists depend neither on threads, nor on what is
    searched together, nor on the order of the rows. Distances between rows that are not
    equal are at least 6e-8.

    ``transform`` of new rows always searches exactly, on the CPU.

    With ``device="cuda"`` a GPU makes a shortlist for each row, of 32 rows more than
    are asked for, by products in half precision. The CPU then compares the rows on the
    list as in any search. A bound of the errors of half precision tells whether another
    row could be among the nearest. Where it cannot rule this out, the CPU compares the
    row with all others: hardly ever for real embeddings, but mostly for near copies of
    one another. This takes 2 bytes of the GPU's memory for each number of X, and up to
    2.5 GB more, or what is free in smaller blocks, at least some 30 MB (with 256
    columns). A tensor on a GPU is first brought to the CPU's memory, where rows are
    checked, scaled and hashed.

    A memory-mapped X is not read into memory. If its rows are not C-ordered float32 of
    unit length, or some are zero or equal to others, the rows to be searched are
    written to a temporary file of up to the size of X (as float32), which is deleted
    with the fitted estimator. It lies in the folder that :func:`tempfile.gettempdir`
    names (set by the environment variable TMPDIR), which should not be one in memory.

    "ivf" makes its lists by spherical k-means on the first 128 principal components,
    and compares the vectors themselves, without a second copy of them. Beside the
    vectors and the result, it needs about 8 bytes for each of ``n_neighbors + 57``
    candidates of each row.

    A Dask array is searched by the workers, as `MutualKNNLeiden` describes. Its graph
    is that of an array in memory, and comes to this process.

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
            In mode "distance" ``n_neighbors_ + 1`` entries a row, nearest first, as in
            scikit-learn; in mode "connectivity" one less. A fitted row finds itself at
            distance 0.
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
        """Make the graph of all fitted rows from the lists of the distinct ones."""
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
        """Make a sparse graph of lists of fitted rows; -1 stands for no row."""
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
    """Give cosine distances of rows that are not equal, which are never 0."""
    return np.maximum(1.0 - similarities.astype(np.float64), _LEAST_DISTANCE)
