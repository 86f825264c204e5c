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
from ._stages.search import SEARCH_CONSTRAINTS, NeighborSearch
from ._vectors import list_neighbors, nearest_of_queries

__all__ = ["MutualKNNLeiden"]

_ROWS_AT_ONCE = 2**14


class MutualKNNLeiden(ClusterMixin, BaseEstimator):
    """Find communities by Leiden on the mutual nearest-neighbour graph.

    Two rows are joined by an edge if each is among the `n_neighbors` nearest rows of
    the other, by cosine similarity. The Leiden algorithm [1]_ then divides this
    weighted graph into communities.

    Parameters
    ----------
    n_neighbors : int, default=40
        Number of neighbours of each row, at least 1; clipped to ``n_samples - 1``.

    metric : {"cosine", "precomputed"}, default="cosine"
        With "precomputed", X is a graph of cosine distances: a sparse one, as
        `FaissKNeighborsTransformer` or
        ``KNeighborsTransformer(mode="distance", metric="cosine")`` make it, or a dense
        square matrix.

    algorithm : {"auto", "exact", "hnsw", "ivf"}, default="auto"
        How neighbours are searched: "exact" compares all pairs, "ivf" and "hnsw" are
        approximate, "auto" chooses. "auto" is "exact" up to 10,000 distinct rows and
        mostly "ivf" above. See `FaissKNeighborsTransformer`.

    target_recall : float, default=0.95
        Share of the true neighbours that an approximate search must find, in (0, 1].

    hnsw_m : int, default=32
        Links of each row in the search graph of "hnsw", 2 to 512.

    ef_construction : int, default=200
        Number of candidates kept while "hnsw" builds its graph.

    ef_search : int, default=64
        Number of candidates kept while "hnsw" searches; raised as `target_recall`
        demands.

    hubness : {"auto", "csls"} or None, default="auto"
        How to treat hubs, rows that are among the nearest of very many others [6]_.
        None leaves them as they are. "csls" looks at twice as many of the nearest rows,
        and chooses the neighbours among them by a corrected similarity, from which half
        of each row's mean similarity to its own 10 nearest is subtracted [7]_. "auto"
        does the same, unless a precomputed graph has too few neighbours for it. Edges
        are weighted by the uncorrected similarities.

    graph : {"mutual", "union"}, default="mutual"
        Whether an edge needs both rows to list each other ("mutual") or only one to
        list the other ("union").

    weights : {"similarity", "uniform", "jaccard", "umap"}, default="similarity"
        Weight of each edge: cosine similarity, 1, the overlap of both neighbour lists
        ("jaccard") or UMAP's strength. The overlap is the neighbours in both lists over
        the neighbours in either, as in PhenoGraph [2]_. UMAP's strength [5]_ falls with
        the distance, on the scale of each row's own neighbourhood. "umap" with
        ``graph="union"`` gives the graph that scanpy clusters; on real activations it
        matched known labels best (benchmarks/README.md).

    objective : {"modularity", "cpm", "rber", "surprise", "significance"}, \
            default="modularity"
        Quality that Leiden maximises: modularity, the constant Potts model ("cpm"),
        "rber", surprise or significance. "modularity" [3]_ and "cpm" [4]_ have a
        resolution, and so has "rber", Reichardt and Bornholdt's model with an
        Erdos-Renyi null. "surprise" and "significance" have none, and "significance"
        ignores weights.

    resolution : float, default=1.0
        Above 0; the larger, the more and smaller the communities. For "cpm" it is a
        density of weight, so that useful values are far below 1. Ignored if
        `n_clusters` is given.

    n_clusters : int or None, default=None
        Number of communities to find, at least 1; the resolution is chosen to give it.
        None finds as many as `resolution` gives. See Notes.

    n_iterations : int, default=2
        Number of iterations of Leiden, each starting from the result of the last; -1
        iterates until nothing more is gained. (igraph and leidenalg then stop after
        100.)

    backend : {"auto", "igraph", "leidenalg", "libreville"}, default="auto"
        Implementation of Leiden. "auto" takes igraph for "modularity" and "cpm", where
        it is several times faster than leidenalg at the same objective, and leidenalg
        for the rest. "libreville" is a Leiden in Rust [8]_ that runs on several
        threads, with one result for any number of them. It has "modularity" alone,
        finds other communities than igraph, of the same quality, and needs
        ``pip install "skleiden[libreville]"``.

    min_cluster_size : int, default=5
        Communities of fewer rows than this are small. See `small_clusters`.

    small_clusters : {"attach", "noise", "keep"}, default="attach"
        What becomes of the rows of small communities: they join others ("attach"),
        become noise (-1), or stay ("keep"). "attach" gives each row to the community
        that it is most similar to by its neighbours in the union graph, in rounds until
        nothing changes; rows that no round reaches are -1.

    random_state : int, RandomState instance or None, default=None
        Determines the choices of Leiden, and those of "ivf" and "hnsw". Pass an int for
        the same labels every time.

    n_jobs : int or None, default=None
        Number of threads of the search, and of "libreville": None leaves OpenMP's
        setting as it is, -1 is all processors. Labels do not depend on it. A process
        forked after FAISS was loaded has one thread, because OpenMP's threads do not
        survive a fork.

    verbose : int, default=0
        Show progress on standard error if positive.

    device : {"cpu", "cuda"} or str, default="cpu"
        Where ``fit`` compares all pairs of rows: on the CPU or, by torch, on a GPU
        ("cuda", or "cuda:1" for the second of several). Labels do not depend on it:
        they are those of ``algorithm="exact"``, which "auto" then means for any number
        of rows. See `FaissKNeighborsTransformer`.

    Attributes
    ----------
    labels_ : ndarray of shape (n_samples,), dtype int64
        Community of each row: 0 is the largest, no number is skipped, and -1 is noise.
        Zero rows are always -1.

    n_clusters_ : int
        Number of communities, without noise.

    modularity_ : float
        Modularity, at resolution 1, of the partition before small communities were
        treated, in the graph of the distinct rows (see Notes).

    quality_ : float
        Value of the objective for that partition: for "modularity" and "cpm" divided by
        twice the total weight, for the others as leidenalg states it.

    affinity_matrix_ : CSR array of shape (n_samples, n_samples), dtype float32
        The graph: symmetric, with a zero diagonal. Of several equal rows, one has the
        edges to other rows; each of the rest has a single edge, of weight 1, to that
        one.

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
        The resolution used: `resolution`, or the one found for `n_clusters`. Setting
        `resolution` to the latter gives the same labels, unless communities were
        merged.

    n_merged_ : int
        Number of communities that were merged with others, because `resolution_` gives
        so many more than `n_clusters`; mostly 0.

    attached_ : ndarray of shape (n_samples,), dtype bool
        Which rows were given to a community by ``small_clusters="attach"``.

    n_isolated_ : int
        Number of rows without an edge, zero rows included.

    n_components_graph_ : int
        Number of connected components of the graph.

    kth_similarity_ : ndarray of shape (n_samples,), dtype float32
        For a row with `n_neighbors_` neighbours, the similarity to the last of them,
        corrected if `hubness` corrects; -1 for a row with fewer, inf for a zero row.
        Used by ``predict``.

    local_similarity_ : ndarray of shape (n_samples,), dtype float32
        Mean similarity of each row to its 10 nearest, half of which the correction for
        hubs subtracts; 0 without correction. Used by ``predict``.

    membership_ : CSR array of shape (n_samples, n_clusters_), dtype float32
        Share of each row's edge weight in `affinity_matrix_` that goes to each
        community. A row between two communities has weight in both. Rows sum to 1, or
        to 0 if they have no edge to a community, even if they were attached to one.
        Rows that are equal all have the shares of the one that has the edges to other
        rows. Computed whenever it is accessed.

    strength_ : ndarray of shape (n_samples,), dtype float32
        How strongly each row is tied to its community, in [0, 1]; 0 for noise. See
        Notes.

    hubness_ : {"csls"} or None
        Correction that was made for hubs.

    hub_skewness_ : float
        Skewness, over the rows, of the number of neighbour lists that a row is in,
        without correction: about 0 if there are no hubs.

    n_features_in_ : int
        Columns of X.

    feature_names_in_ : ndarray of shape (n_features_in_,)
        Names of the columns, if X is a DataFrame with string column names.

    Raises
    ------
    ValueError
        If X is not finite or has fewer than two rows; if a precomputed graph does not
        hold cosine distances, or has fewer neighbours than asked for; if objective,
        resolution, n_clusters and backend do not go together; if there is no such
        device.

    TypeError
        If X is a `LayerStack` or a list of matrices, which must be embedded first.

    MemoryError
        If a worker of a Dask cluster has too little memory, or dies again and again; if
        "libreville" might not get enough memory; if a GPU has no room for the smallest
        blocks.

    OSError
        If the temporary file for a memory-mapped X cannot be written, see Notes.

    ImportError
        If the backend, or the torch that `device` needs, is not installed.

    RuntimeError
        If ``predict`` needs vectors that stayed on a cluster, and is called on a copy
        without them; if "libreville" fails.

    Warns
    -----
    UserWarning
        If no community has `min_cluster_size` rows; if the number of communities is not
        `n_clusters`, with the reason; if "hnsw" does not reach `target_recall`.

    See Also
    --------
    MultiLayerTfidfSketcher : Embed layered data for this clusterer.
    FaissKNeighborsTransformer : The neighbour graph as a step of its own, to cache it.

    Notes
    -----
    There is no ``score``: modularity cannot be compared between graphs, but a grid
    search over `n_neighbors` would maximise it all the same.

    The resolution for `n_clusters` is found by bisection of its logarithm, on one graph
    and with one seed, in at most 10 runs of Leiden. Communities are counted as they are
    in `labels_`: those of fewer than `min_cluster_size` rows count only if they are
    kept. A small step of the resolution may add several communities at once, so that no
    resolution tried gives the number. Then the next finer partition is taken, and its
    communities are merged two at a time until the number is reached. The two merged are
    those that would be the first to gain by it as the resolution falls: those with the
    most weight between them over the product of their degrees (for "cpm", sizes), the
    nearest in the sense of [9]_. In quality, the result equals partitions with as many
    communities that other seeds find. Some numbers cannot be reached: fewer than the
    connected components of the graph, more than there are large enough communities at
    any resolution, and, with "rber", a number that no resolution gives. The nearest
    number is taken then, with a warning.

    The strength of a row is the root mean square of the votes for its community. Its
    voters are, as in ``predict``, the rows among its own nearest that also have it
    among theirs; equal rows are one voter. A vote is ``s * min(1, s / r)``, where s is
    the similarity of the row and the voter, and r the mean similarity of the voter to
    its 10 nearest (the vote is s alone if `hubness` corrected nothing). The mean is
    over all possible votes, those of `n_neighbors_` rows, or of all others of its
    community if these are fewer. Votes that are not cast for the community count 0.

    On real activations most rows have a strength of .3 to .8. A random vector may get
    one vote, or several if hubs are corrected. The communities that these votes go to
    mean nothing, but the votes are weak: on real activations, the strongest of 20,000
    random vectors had about half of the strength that 99% of held-out rows exceed. On
    data whose rows are hardly more similar to one another than random vectors are, the
    strengths of both overlap. A row below ``np.quantile(strength_, 0.01)`` is tied as
    weakly as the weakest hundredth of the fitted rows. For a fitted row, ``predict``
    gives its `strength_` or more: a query may also get votes of rows that would not
    have it among their nearest before the correction for hubs.

    Rows that are equal (in every entry of their unit vectors, to 5 decimals) are
    searched once, are one vertex for Leiden, with an edge to itself of weight 1, and
    always share a community. Similarities are rounded to 6 decimals. Ties are broken by
    a hash of both rows, which is symmetric: among thousands of rows that are as good as
    equal, those that a row lists also list it.

    With an int as `random_state`, labels are the same for any `n_jobs`, any number of
    repetitions, and any order of the rows: where a number must decide, rows are
    numbered by a hash of their content, and those of a precomputed graph by their
    edges. Only rounding remains: if columns are standardised, or products of matrices
    computed, in another order, a last bit may differ, and in very rare cases a
    neighbour with it. Rows of a precomputed graph that nothing tells apart, such as
    several without neighbours, are numbered as they come, which may change the order of
    communities of the same size.

    A memory-mapped X is not read into memory. If its rows are not C-ordered float32 of
    unit length, or some are zero or equal to others, the rows to be searched are
    written to a temporary file of up to the size of X (as float32), which is deleted
    with the fitted estimator. It lies in the folder that :func:`tempfile.gettempdir`
    names (set by the environment variable TMPDIR), which should not be one in memory.

    Every community is connected in `affinity_matrix_`, apart from the rows in
    `attached_`.

    A Dask array stays on the workers. It is divided into shards of some 100 MB. Each
    shard is compared with each other, their lists are merged, and edges are made where
    the lists of two shards meet, so that a worker needs two shards at a time (and about
    8 bytes for each of ``2 * (n_neighbors + 57)`` candidates of each of their rows).
    While lists are searched, all workers together hold X twice, on disk where they have
    no memory left. Leiden runs on one worker, which takes up to 150 bytes an edge
    (measured with igraph, 2 to 20 million edges). `labels_`, and `affinity_matrix_`
    with 16 bytes an edge, come to this process. With "exact", labels are the same as
    those of an array in memory; "ivf" makes the same promise of recall; "hnsw" is not
    available. Results that a lost worker held are computed again. The vectors that
    ``predict`` needs stay on the workers, so it works while the client is open.
    :func:`~skleiden.io.save_estimator` brings them here, and ``predict`` works on what
    it saved; a pickle is without them. If a :class:`distributed.Client` is in use, its
    cluster does all of this, and Dask's threads do otherwise.

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

    As many communities as are asked for, and how weakly random vectors are tied to
    theirs:

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
            At least two rows: dense vectors, which may be a Dask array, or, with
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
            # Of a symmetric graph these are the components; undirected ones SciPy finds
            # by a transpose, in several times the time.
            self.n_components_graph_ = int(
                connected_components(
                    self.affinity_matrix_, connection="strong", return_labels=False
                )
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

        A fitted row p votes, with its similarity to the query as the weight, if two
        things hold: p is among the `n_neighbors_` nearest of the query (a fitted row
        equal to the query is counted beside these), and the query would be among the
        nearest of p, which it is if their similarity reaches ``kth_similarity_[p]``.
        The answer for a row does not depend on the other rows of X. For fitted rows it
        agrees with `labels_`, except for rows between communities. Fitted rows that are
        equal are one neighbour with as many votes.

        Parameters
        ----------
        X : {array-like, sparse matrix} of shape (n_queries, n_features) or \
                (n_queries, n_samples)
            Vectors; or, with ``metric="precomputed"``, distances to the fitted rows,
            as from the ``transform`` of a neighbours transformer.

        return_strength : bool, default=False
            Whether to return, too, how strongly each row is tied to its community. A
            row of noise may get a community by a few votes, but with a low strength;
            compare it with `strength_`, see Notes of the class.

        Returns
        -------
        labels : ndarray of shape (n_queries,), dtype int64
            Communities; -1 where no fitted row of a community votes.

        strength : ndarray of shape (n_queries,), dtype float32
            Strengths in [0, 1], defined as those in `strength_`; 0 where the label is
            -1. Only if `return_strength` is true.
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
        """Give labels and strengths of queries, by their nearest and which are equal.

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
        """Give strengths of rows, by their similarities to the distinct rows that vote.

        `chosen` are the communities of the rows, and `same` the distinct rows that they
        are equal to, -1 for none; with None, the rows are the distinct rows themselves.
        """
        distinct = self._distinct
        placed = self.labels_[distinct.first]
        chosen = placed if chosen is None else chosen
        same = np.arange(placed.size) if same is None else same
        inside = (same >= 0) & (placed[same] == chosen)
        sizes = np.bincount(placed[placed >= 0], minlength=1)
        most = np.minimum(self.n_neighbors_, sizes[chosen] - inside)
        equal = inside & (distinct.counts()[same] > 1)
        local = self.local_similarity_[distinct.first]
        found = np.empty(chosen.size, dtype=np.float32)

        def measure(rows: slice) -> None:
            found[rows] = labels.strengths(
                votes[rows], chosen[rows], placed, local, most[rows], equal[rows]
            )

        n_jobs = NeighborSearch.of(self).threads()
        knn.in_blocks(measure, found.size, _ROWS_AT_ONCE, n_jobs)
        return found

    def _set_neighbors(self, nearest: NearestLists) -> None:
        """Set the attributes of the search, and those that `predict` needs."""
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
