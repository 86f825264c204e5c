"""Communities of the mutual nearest-neighbour graph, by the Leiden algorithm."""

from __future__ import annotations

import warnings
from numbers import Integral, Real
from typing import Any, Self, overload

import numpy as np
import scipy.sparse as sp
from scipy.sparse.csgraph import connected_components
from sklearn.base import BaseEstimator, ClusterMixin, _fit_context
from sklearn.utils._param_validation import Interval, Options, StrOptions
from sklearn.utils.validation import check_is_fitted

from ._blocks.runner import Local
from ._fitting import all_or_nothing
from ._kernels import graph, knn, labels, leiden
from ._stages import hubs
from ._stages.affinity import Joining, NearestLists, join_graph
from ._stages.partition import Partitioning
from ._stages.search import SEARCH_CONSTRAINTS
from ._vectors import list_neighbors, nearest_of_queries

__all__ = ["MutualKNNLeiden"]


class MutualKNNLeiden(ClusterMixin, BaseEstimator):
    """Find communities by Leiden on the mutual nearest-neighbour graph.

    Each row is joined by an edge to the rows that are among its `n_neighbors` nearest
    by cosine similarity and have it among theirs; the Leiden algorithm [1]_ divides
    the weighted graph into communities.

    Parameters
    ----------
    n_neighbors : int, default=40
        Neighbours of each row; at least 1, clipped to ``n_samples - 1``.

    metric : {"cosine", "precomputed"}, default="cosine"
        With "precomputed", X is a graph of cosine distances: sparse, as made by
        `FaissKNeighborsTransformer` or
        ``KNeighborsTransformer(mode="distance", metric="cosine")``, or a dense square
        matrix.

    algorithm : {"auto", "exact", "hnsw", "ivf"}, default="auto"
        The search for neighbours: "exact" compares all pairs, "ivf" and "hnsw" are
        approximate, "auto" is exact up to 10,000 distinct rows and mostly "ivf" above.
        See `FaissKNeighborsTransformer`.

    target_recall : float, default=0.95
        Share of true neighbours that an approximate search must find, in (0, 1].

    hnsw_m : int, default=32
        Links of each row in the search graph of "hnsw", 2 to 512.

    ef_construction : int, default=200
        Candidates kept while "hnsw" builds.

    ef_search : int, default=64
        Candidates kept while "hnsw" searches, raised as `target_recall` demands.

    hubness : {"auto", "csls"} or None, default="auto"
        How to treat hubs, rows that are among the nearest of very many others [6]_:
        None not at all; "csls" chooses the neighbours among twice as many of the
        nearest, by a similarity from which the mean similarity of either row to its 10
        nearest has been taken, half of each [7]_; "auto" does so, but for a precomputed
        graph that has not so many. Weights of edges are plain similarities.

    graph : {"mutual", "union"}, default="mutual"
        Whether an edge needs both rows to list each other, or one to list the other.

    weights : {"similarity", "uniform", "jaccard", "umap"}, default="similarity"
        Edge weights: cosine similarity, 1, the overlap of both rows' neighbour lists
        (shared over all, as in PhenoGraph [2]_), or UMAP's strengths [5]_, which fall
        with the distance on the scale of each row's own neighbourhood. With
        ``graph="union"`` these are the graph that scanpy clusters; on real activations
        it matched known labels best (benchmarks/README.md).

    objective : {"modularity", "cpm", "rber", "surprise", "significance"}, \
            default="modularity"
        What is maximised: modularity with a resolution [3]_, the constant Potts model
        [4]_, Reichardt and Bornholdt's model with an Erdos-Renyi null, surprise, or
        significance. The last two take no resolution, the last no weights.

    resolution : float, default=1.0
        Above 0; the larger, the more and smaller the communities. For "cpm" it is a
        density of weight, so that useful values are far below 1. Not used if
        `n_clusters` is given.

    n_clusters : int or None, default=None
        Number of communities, at least 1, for which the resolution is found; None to
        have as many as `resolution` gives. See Notes.

    n_iterations : int, default=2
        Iterations of Leiden, each starting from the last one's result; -1 iterates
        until nothing is gained.

    backend : {"auto", "igraph", "leidenalg", "libreville"}, default="auto"
        The implementation of Leiden. "auto" takes igraph for "modularity" and "cpm",
        where it optimises the same objective several times faster, and leidenalg for
        the rest. "libreville" is a Leiden in Rust [8]_ that runs on several threads,
        with one result for any number of them; it has "modularity" alone, finds other
        communities than igraph, of the same quality, and needs
        ``pip install "skleiden[libreville]"``.

    min_cluster_size : int, default=5
        Communities of fewer rows are small.

    small_clusters : {"attach", "noise", "keep"}, default="attach"
        What becomes of the rows of small communities: "attach" gives each to the
        community that it is most similar to by its neighbours in the union graph, in
        rounds until nothing changes, and -1 where there is none; "noise" labels them
        -1; "keep" keeps their communities.

    random_state : int, RandomState instance or None, default=None
        Determines Leiden's choices, and what "ivf" and "hnsw" do. Pass an int for the
        same labels every time.

    n_jobs : int or None, default=None
        Threads of the search, and of "libreville": None leaves OpenMP's setting alone,
        -1 is all processors. Labels do not depend on it. A process forked after FAISS
        was loaded has one thread, because OpenMP's threads do not survive a fork.

    verbose : int, default=0
        Show progress on standard error if positive.

    device : {"cpu", "cuda"} or str, default="cpu"
        Where ``fit`` compares all pairs: "cuda" or, of several GPUs, "cuda:1", by
        torch. Labels do not depend on it: they are those of ``algorithm="exact"``,
        which "auto" then is for any number of rows. See `FaissKNeighborsTransformer`.

    Attributes
    ----------
    labels_ : ndarray of shape (n_samples,), dtype int64
        Community of each row. 0 is the largest, no number is left out; -1 is noise.
        Zero rows are always -1.

    n_clusters_ : int
        Number of communities, without noise.

    modularity_ : float
        Modularity, at resolution 1, of the partition before small communities were
        treated, in the graph of the distinct rows (see Notes).

    quality_ : float
        The objective's value for that partition: for "modularity" and "cpm" divided
        by twice the total weight, for the others as leidenalg states it.

    affinity_matrix_ : CSR array of shape (n_samples, n_samples), dtype float32
        The graph: symmetric, with zero diagonal. Of equal rows one has the edges to
        others, and each of the rest a single edge, of weight 1, to that one.

    knn_recall_ : float
        Measured recall of the search for neighbours; 1.0 for "exact", nan for
        "precomputed".

    n_neighbors_ : int
        ``min(n_neighbors, n_samples - 1)``.

    algorithm_ : {"exact", "hnsw", "ivf", "precomputed"}
        The search used.

    backend_ : {"igraph", "leidenalg", "libreville"}
        The implementation used.

    resolution_ : float
        The resolution used: `resolution`, or the one found for `n_clusters`, which
        gives the same labels if it is set as `resolution`, unless some were merged.

    n_merged_ : int
        How many more communities `resolution_` gives than `n_clusters`, which were
        merged with others; mostly 0.

    attached_ : ndarray of shape (n_samples,), dtype bool
        Rows that were given to a community by ``small_clusters="attach"``.

    n_isolated_ : int
        Rows without an edge, zero rows included.

    n_components_graph_ : int
        Connected components of the graph.

    kth_similarity_ : ndarray of shape (n_samples,), dtype float32
        Similarity to the last of its neighbours for a row with `n_neighbors_` of
        them, as far as `hubness` has corrected it; -1 for a row with fewer, inf for a
        zero row. Used by ``predict``.

    local_similarity_ : ndarray of shape (n_samples,), dtype float32
        Mean similarity of each row to its 10 nearest, of which the correction takes
        half; 0 without correction. Used by ``predict``.

    membership_ : CSR array of shape (n_samples, n_clusters_), dtype float32
        Share of each row's edge weight in `affinity_matrix_` that goes to each
        community: a row between two communities has its weight in both. Rows sum to 1,
        or to 0 without an edge to a community, even if they were attached to one. Rows
        that are equal have the shares of the one of them that has edges to others. Made
        when it is asked for.

    strength_ : ndarray of shape (n_samples,), dtype float32
        How strongly each row is tied to its community, in [0, 1]; 0 for noise. See
        Notes.

    hubness_ : {"csls"} or None
        The correction made.

    hub_skewness_ : float
        Skewness of the number of lists that each row is in, without correction:
        about 0 where there are no hubs.

    n_features_in_ : int
        Columns of X.

    feature_names_in_ : ndarray of shape (n_features_in_,)
        Names of the columns, where X is a DataFrame with string column names.

    Raises
    ------
    ValueError
        If X is not finite or has fewer than two rows; if a precomputed graph is not
        one of cosine distances, or has fewer neighbours than asked for; if objective,
        resolution, n_clusters and backend do not go together; if there is no such
        device.

    TypeError
        If X is a `LayerStack` or a list of matrices: embed it first.

    MemoryError
        If a worker of a cluster has too little memory, or dies again and again; if
        "libreville" might not have enough, or a GPU has no room for the smallest
        blocks.

    ImportError
        If the backend, or the torch that `device` needs, is not installed.

    RuntimeError
        If ``predict`` needs vectors of a cluster, and has a copy without them; if
        "libreville" fails.

    Warns
    -----
    UserWarning
        If no community has `min_cluster_size` rows; if there are not `n_clusters`
        communities, with the reason.

    See Also
    --------
    MultiLayerTfidfSketcher : Embed layered data for this clusterer.
    FaissKNeighborsTransformer : The neighbour graph as a step of its own, to cache it.

    Notes
    -----
    There is no ``score``: modularity is not comparable between graphs, and a grid
    search over `n_neighbors` would maximise it all the same.

    `n_clusters` is found by bisection of the logarithm of the resolution, over the one
    graph and with one seed, in at most 10 runs of Leiden. Communities are counted as
    they are in `labels_`: without those of fewer than `min_cluster_size` rows, unless
    they are kept. Where a small step of the resolution adds several communities at
    once, so that no resolution tried gives the number, the finer partition is taken and
    those two of its communities are merged, until there are so many, which would be the
    first to gain by it as the resolution falls: those with the most weight between them
    over the product of their degrees (for "cpm", sizes), the nearest of [9]_. Their
    quality is that of partitions with as many communities which other seeds find. Not
    less than the connected components of the graph can be had, nor more than there are
    communities large enough at any resolution, nor a number in a gap with "rber": the
    nearest is taken, with a warning.

    The strength of a row is the root mean square of the votes for its community. The
    voters are the rows whose nearest it is among, and that are among its own, as in
    ``predict``; equal ones are one voter. A vote is ``s * min(1, s / r)``, of the
    similarity s of both and the mean similarity r of the voter to its 10 nearest (s
    alone, if `hubness` corrected nothing). The mean is over the votes that were
    possible, from `n_neighbors_` rows or all others of the community if these are
    fewer; those not cast for it count 0. On real activations most rows have .3 to .8. A
    random vector may have one vote, or several if hubs are corrected, whose shares say
    nothing, but they are weak: on real activations, the strongest of 20,000 random
    vectors had about half of the strength that 99% of held-out rows exceed. On data
    whose rows are hardly more similar to one another than random vectors are, strengths
    of both overlap. What is below ``np.quantile(strength_, 0.01)`` is as little in its
    community as one in a hundred of the fitted rows. For fitted rows ``predict`` gives
    what `strength_` has, or more: a query may get votes of rows whose nearest, before
    the correction for hubs, it would not be among.

    Rows that are equal (in every entry of their unit vectors to 5 decimals) are
    searched once, are one vertex for Leiden, with an edge to itself of weight 1, and
    always share a community. Similarities are rounded to 6 decimals. Ties are broken by
    a hash of both rows, which is symmetric: of thousands of rows that are as good as
    equal, each lists others, and those list it.

    With an int as `random_state`, labels are the same for any `n_jobs`, any number of
    repetitions, and any order of the rows: where a number must decide, rows are
    numbered by a hash of what is in them, and vertices by the graph. What remains is
    rounding: where columns are standardised, or products of matrices computed, in
    another order, a last bit may differ, and in very rare cases a neighbour with it.
    Rows of a precomputed graph that nothing tells apart, such as several without
    neighbours, are numbered as they come, which may change the order of communities of
    one size.

    A memory-mapped X is not read into memory. Where its rows are not C-ordered float32
    of unit length, or some are zero or equal to others, those searched are written to
    a temporary file of up to the size of X (as float32), in the folder that
    :func:`tempfile.gettempdir` names (set by the environment variable TMPDIR), which
    goes with the fitted estimator. It should not be one in memory.

    Every community is connected in `affinity_matrix_`, but for the rows in
    `attached_`.

    A Dask array stays on the workers. It is divided into shards of some 100 MB; each is
    compared with each other, the lists merged, and edges made where the lists of two
    shards meet, so that a worker needs two shards at a time (and about 8 bytes for each
    of ``2 * (n_neighbors + 57)`` candidates of their rows). While lists are searched,
    all workers together hold X twice, on disk where Dask finds no room. Leiden runs on
    one of them, which takes up to 150 bytes an edge (measured with igraph, 2 to 20
    million edges). `labels_` and `affinity_matrix_`, of 16 bytes an edge, come to this
    process. With "exact", labels are the same as of an array; "ivf" makes the same
    promise of recall, "hnsw" is not available. What a lost worker held is computed
    again. The vectors that ``predict`` needs stay on the workers: it works while the
    client is open, and in what :func:`~skleiden.io.save_estimator` saved, which brings
    them here; a pickle is without them. A :class:`distributed.Client` in use has its
    cluster do all this, without one Dask's threads do.

    References
    ----------
    .. [1] V. A. Traag, L. Waltman, N. J. van Eck, "From Louvain to Leiden:
       guaranteeing well-connected communities", Scientific Reports 9, 5233, 2019.
    .. [2] J. H. Levine et al., "Data-driven phenotypic dissection of AML reveals
       progenitor-like cells that correlate with prognosis", Cell 162(1), 2015.
    .. [3] J. Reichardt, S. Bornholdt, "Statistical mechanics of community detection",
       Physical Review E 74, 016110, 2006.
    .. [4] V. A. Traag, P. Van Dooren, Y. Nesterov, "Narrow scope for
       resolution-limit-free community detection", Physical Review E 84, 016114, 2011.
    .. [5] L. McInnes, J. Healy, J. Melville, "UMAP: uniform manifold approximation and
       projection for dimension reduction", arXiv:1802.03426, 2018.
    .. [6] M. Radovanovic, A. Nanopoulos, M. Ivanovic, "Hubs in space: popular nearest
       neighbors in high-dimensional data", Journal of Machine Learning Research 11,
       2010.
    .. [7] A. Conneau, G. Lample, M. Ranzato, L. Denoyer, H. Jegou, "Word translation
       without parallel data", ICLR 2018.
    .. [8] sc-cluster-libreville, https://github.com/btraven00/clust-libreville-rs,
       after S. Sahu, K. Kothapalli, D. S. Banerjee, "Fast Leiden algorithm for
       community detection in shared memory setting", ICPP 2024.
    .. [9] T. Bonald, B. Charpentier, A. Galland, A. Hollocou, "Hierarchical graph
       clustering using node pair sampling", MLG workshop, KDD 2018, arXiv:1806.01664.

    Examples
    --------
    >>> import numpy as np
    >>> from sklearn.pipeline import make_pipeline
    >>> from skleiden import MultiLayerTfidfSketcher, MutualKNNLeiden
    >>> from skleiden.datasets import make_layered_activations
    >>> stack, planted = make_layered_activations(600, n_communities=4, random_state=0)
    >>> pipeline = make_pipeline(
    ...     MultiLayerTfidfSketcher(random_state=0), MutualKNNLeiden(random_state=0)
    ... )
    >>> labels = pipeline.fit_predict(stack)
    >>> pipeline[-1].n_clusters_
    4

    As many communities as are asked for, and how weak random vectors are in theirs:

    >>> clusterer = MutualKNNLeiden(n_clusters=8, random_state=0)
    >>> clusterer.fit(pipeline[0].transform(stack)).n_clusters_
    8
    >>> noise = np.random.RandomState(0).standard_normal((100, 256))
    >>> _, strength = pipeline[-1].predict(noise, return_strength=True)
    >>> bool(np.median(strength) < np.quantile(pipeline[-1].strength_, 0.01))
    True
    """

    _parameter_constraints: dict[str, Any] = {
        **SEARCH_CONSTRAINTS,
        "metric": [StrOptions({"cosine", "precomputed"})],
        "hubness": [StrOptions({"auto", "csls"}), None],
        "graph": [StrOptions({"mutual", "union"})],
        "weights": [StrOptions({"similarity", "uniform", "jaccard", "umap"})],
        "objective": [StrOptions(set(leiden.LEIDENALG_PARTITIONS))],
        "resolution": [Interval(Real, 0, None, closed="neither")],
        "n_clusters": [Interval(Integral, 1, None, closed="left"), None],
        "n_iterations": [
            Interval(Integral, 1, 2**31 - 1, closed="both"),
            Options(Integral, {-1}),
        ],
        "backend": [StrOptions({"auto", *leiden.OBJECTIVES})],
        "min_cluster_size": [Interval(Integral, 1, None, closed="left")],
        "small_clusters": [StrOptions({"attach", "noise", "keep"})],
    }

    def __init__(
        self,
        n_neighbors: int = 40,
        *,
        metric: str = "cosine",
        algorithm: str = "auto",
        target_recall: float = 0.95,
        hnsw_m: int = 32,
        ef_construction: int = 200,
        ef_search: int = 64,
        hubness: str | None = "auto",
        graph: str = "mutual",
        weights: str = "similarity",
        objective: str = "modularity",
        resolution: float = 1.0,
        n_clusters: int | None = None,
        n_iterations: int = 2,
        backend: str = "auto",
        min_cluster_size: int = 5,
        small_clusters: str = "attach",
        random_state: int | np.random.RandomState | None = None,
        n_jobs: int | None = None,
        verbose: int = 0,
        device: str = "cpu",
    ) -> None:
        self.n_neighbors = n_neighbors
        self.metric = metric
        self.algorithm = algorithm
        self.target_recall = target_recall
        self.hnsw_m = hnsw_m
        self.ef_construction = ef_construction
        self.ef_search = ef_search
        self.hubness = hubness
        self.graph = graph
        self.weights = weights
        self.objective = objective
        self.resolution = resolution
        self.n_clusters = n_clusters
        self.n_iterations = n_iterations
        self.backend = backend
        self.min_cluster_size = min_cluster_size
        self.small_clusters = small_clusters
        self.random_state = random_state
        self.n_jobs = n_jobs
        self.verbose = verbose
        self.device = device

    @_fit_context(prefer_skip_nested_validation=True)
    def fit(self, X: Any, y: Any = None) -> Self:
        """Find the communities of the rows of X.

        Parameters
        ----------
        X : {array-like, sparse matrix} of shape (n_samples, n_features) or \
                (n_samples, n_samples)
            Vectors, of at least two rows, dense (a Dask array, too); or, with
            ``metric="precomputed"``, a graph of distances. Vectors are not copied if
            they are C-ordered float32 rows of unit length, as from
            `MultiLayerTfidfSketcher`; see Notes for memory maps.

        y : Ignored
            Not used, present for API consistency.

        Returns
        -------
        self : object
            Fitted clusterer.
        """
        with all_or_nothing(self):
            partitioning = Partitioning.of(self)
            self.backend_ = partitioning.backend
            nearest = list_neighbors(self, X)
            self._set_neighbors(nearest)
            joining = Joining.of(self)
            votes = None
            if not joining.keeps_votes():
                votes = join_graph(*nearest[:3], joining.of_votes()).affinity
            found = join_graph(*nearest[:3], joining)
            del nearest
            edges = found.affinity.nnz // 2
            with Local(self.verbose).progress(
                f"Leiden ({self.backend_}, {edges} edges)", 1
            ):
                (partition,) = partitioning.run(found, [self.random_state])
            self.affinity_matrix_ = found.of_all_rows()
            degrees = np.diff(self.affinity_matrix_.indptr)
            self.n_isolated_ = int(np.count_nonzero(degrees == 0))
            self.n_components_graph_ = int(
                connected_components(self.affinity_matrix_, directed=False)[0]
            )
            self.labels_, self.attached_ = partition.labels, partition.attached
            self.quality_, self.modularity_ = partition.quality, partition.modularity
            self.resolution_, self.n_merged_ = partition.resolution, partition.n_merged
            self.n_clusters_ = int(self.labels_.max()) + 1
            cast = found.affinity if votes is None else votes
            self.strength_ = self._distinct.spread(self._strengths(cast), 0)
        if self.n_clusters_ == 0 and self.small_clusters != "keep":
            sizes = partition.sizes
            warnings.warn(
                f"No community has min_cluster_size={self.min_cluster_size} rows (the "
                f"largest of {sizes.size} has {sizes.max(initial=0)}): all labels are "
                "-1. Lower min_cluster_size or resolution, or raise n_neighbors.",
                UserWarning,
                stacklevel=2,
            )
        if partition.remark:
            warnings.warn(partition.remark, UserWarning, stacklevel=2)
        return self

    @property
    def membership_(self) -> sp.csr_array:
        """Share of each row's edge weight that goes to each community."""
        check_is_fitted(self)
        found = labels.shares(self.affinity_matrix_, self.labels_)
        repeats = self._distinct.repeats()
        if repeats.size == 0:
            return found
        rows = np.arange(self.labels_.size)
        rows[repeats] = self._distinct.first[self._distinct.inverse[repeats]]
        return found[rows]

    @overload
    def predict(self, X: Any) -> np.ndarray: ...

    @overload
    def predict(
        self, X: Any, *, return_strength: bool
    ) -> np.ndarray | tuple[np.ndarray, np.ndarray]: ...

    def predict(
        self, X: Any, *, return_strength: bool = False
    ) -> np.ndarray | tuple[np.ndarray, np.ndarray]:
        """Give each row the community that its nearest fitted rows vote for.

        A fitted row p votes, with the weight of its similarity, if it is among the
        `n_neighbors_` nearest of the query (a fitted row equal to the query is counted
        beside these) and the query would be among the nearest of p, that is, if their
        similarity reaches ``kth_similarity_[p]``. The answer for a row does not depend
        on the other rows of X. For fitted rows it agrees with `labels_` but for rows
        between communities. Rows equal to one another are one neighbour with as many
        votes.

        Parameters
        ----------
        X : {array-like, sparse matrix} of shape (n_queries, n_features) or \
                (n_queries, n_samples)
            Vectors; or, with ``metric="precomputed"``, distances to the fitted rows,
            as from the ``transform`` of a neighbours transformer.

        return_strength : bool, default=False
            Also tell how strongly each row is tied to its community. A row of noise may
            get a community, by a few votes, but a low strength; compare it with
            `strength_`, see Notes of the class.

        Returns
        -------
        labels : ndarray of shape (n_queries,), dtype int64
            Communities; -1 where no fitted row of a community votes.

        strength : ndarray of shape (n_queries,), dtype float32
            In [0, 1], as `strength_` tells it of fitted rows; 0 for -1. Only if
            `return_strength`.
        """
        check_is_fitted(self)
        found = nearest_of_queries(self, X)
        answers = [self._vote(near, equal, return_strength) for near, equal in found]
        chosen = np.concatenate([of_rows for of_rows, _ in answers])
        if not return_strength:
            return chosen
        return chosen, np.concatenate([strength for _, strength in answers])

    def _vote(
        self, found: knn.Neighbors, equal: np.ndarray, with_strength: bool
    ) -> tuple[np.ndarray, np.ndarray]:
        """Labels of queries, by their nearest and which are equal, and strengths.

        Strengths are 0 if they are not asked for.
        """
        distinct, n = self._distinct, found.ids.shape[0]
        if found.ids.shape[1] == 0:  # all fitted rows were zero
            return np.full(n, -1, dtype=np.int64), np.zeros(n, np.float32)
        local: np.ndarray | None = None
        of_queries: np.ndarray | None = None
        others = found._replace(ids=np.where(equal, -1, found.ids))
        if self.hubness_ is not None:
            local = knn.to_steps(self.local_similarity_[distinct.first])
            of_queries = hubs.surroundings(*others[:2])
        ranks = knn.Ranks(
            knn.ranks_of_equals(found.ids, equal, distinct.ranks), distinct.ranks
        )
        columns, steps = hubs.choose(
            others, self.n_neighbors_, local, of_queries, ranks
        )
        near = np.take_along_axis(others.ids, columns, axis=1)
        needed = knn.to_steps(self.kth_similarity_[distinct.first])
        votes = np.zeros_like(equal)
        np.put_along_axis(votes, columns, (near >= 0) & (steps >= needed[near]), axis=1)

        def cast(by: np.ndarray) -> sp.csr_array:
            return graph.directed_graph(
                np.where(by, found.ids, -1),
                found.similarities,
                n_columns=distinct.first.size,
            )

        ballots = cast(votes | equal)
        ballots.data *= distinct.counts()[ballots.indices]
        chosen = labels.vote(ballots, self.labels_[distinct.first])
        if not with_strength:
            return chosen, np.zeros(n, np.float32)
        same = np.where(equal, found.ids, -1).max(axis=1)
        return chosen, self._strengths(cast(votes & ~equal), chosen, same)

    def _strengths(
        self,
        votes: sp.csr_array,
        chosen: np.ndarray | None = None,
        same: np.ndarray | None = None,
    ) -> np.ndarray:
        """Strengths of rows, by similarities to the distinct rows that vote for them.

        `chosen` are their communities, and `same` the distinct rows that they are equal
        to, -1 if none; None for the distinct rows themselves.
        """
        distinct = self._distinct
        placed = self.labels_[distinct.first]
        chosen = placed if chosen is None else chosen
        same = np.arange(placed.size) if same is None else same
        inside = (same >= 0) & (placed[same] == chosen)
        sizes = np.bincount(placed[placed >= 0], minlength=1)
        return labels.strengths(
            votes,
            chosen,
            placed,
            self.local_similarity_[distinct.first],
            np.minimum(self.n_neighbors_, sizes[chosen] - inside),
            inside & (distinct.counts()[same] > 1),
        )

    def _set_neighbors(self, nearest: NearestLists) -> None:
        """Set what tells of the search, and what `predict` needs."""
        self.n_neighbors_, self.algorithm_ = nearest.n_neighbors, nearest.algorithm
        self.knn_recall_, self.kth_similarity_ = nearest.recall, nearest.kth_similarity
        self.local_similarity_ = nearest.local_similarity
        self.hubness_ = "csls" if nearest.corrected else None
        self.hub_skewness_ = nearest.skewness
        distinct = nearest.distinct
        self._distinct = distinct._replace(vectors=distinct.vectors.to_keep())

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.input_tags.sparse = self.metric == "precomputed"
        tags.input_tags.pairwise = self.metric == "precomputed"
        return tags
