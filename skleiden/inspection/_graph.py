"""Representatives of communities, a map and a summary, by the graph alone."""

from typing import Any, NamedTuple

import numpy as np
import scipy.sparse as sp
from scipy.sparse.csgraph import connected_components
from sklearn.utils import Bunch, check_random_state

from skleiden._blocks.graphs import open_affinity, without_diagonal
from skleiden._fitting import fitted_clusterer
from skleiden._kernels.graph_layout import layout
from skleiden._kernels.knn import rank_vertices

from ._members import check_labels, check_positive_integer, member_rows

# Of the rows of a map, the strongest ties of each that its layout takes account of.
_TIES = 10


class Representative(NamedTuple):
    """A row that stands for a community.

    Attributes
    ----------
    row : int
        Row number.

    inside : float
        Weight of its edges to members of the community.

    share : float
        That weight over the weight of all its edges, in [0, 1]; 0 for a row without
        edges.
    """

    row: int
    inside: float
    share: float


class Representatives(NamedTuple):
    """The most central and the most borderline rows of a community.

    Attributes
    ----------
    central : list of Representative
        Those with the highest weight inside, highest first.

    borderline : list of Representative
        Those with the lowest share inside, lowest first.
    """

    central: list[Representative]
    borderline: list[Representative]


class CommunityMap(NamedTuple):
    """A layout of the graph in the plane.

    Attributes
    ----------
    rows : ndarray of shape (n_shown,), dtype int64
        Rows that are shown, all or a sample, in ascending order.

    positions : ndarray of shape (n_shown, 2), dtype float32
        Coordinates, in [-1, 1].
    """

    rows: np.ndarray
    positions: np.ndarray


def representatives(clusterer: Any, n: int = 5) -> dict[int, Representatives]:
    """Find the rows that stand for each community, and those at its border.

    Parameters
    ----------
    clusterer : estimator
        A fitted `MutualKNNLeiden`, or a pipeline or `StableLeiden` of one.

    n : int, default=5
        Number of rows listed of each kind, at least 1; all members if these are fewer.

    Returns
    -------
    dict of {int: Representatives}
        For each community, its `central` rows, which have the highest sum of edge
        weights to other members, and its `borderline` rows, which have the lowest share
        of their edge weights inside the community; ties in row order.

    Raises
    ------
    TypeError
        If the estimator has no graph.

    ValueError
        If `n` is below 1.

    See Also
    --------
    members : All rows of each community.

    Examples
    --------
    >>> from skleiden import MultiLayerTfidfSketcher, MutualKNNLeiden
    >>> from skleiden.datasets import make_layered_activations
    >>> from skleiden.inspection import representatives
    >>> stack, _ = make_layered_activations(600, n_communities=4, random_state=0)
    >>> sketcher = MultiLayerTfidfSketcher(layer_weights=None, random_state=0)
    >>> embedding = sketcher.fit_transform(stack)
    >>> clusterer = MutualKNNLeiden(random_state=0).fit(embedding)
    >>> found = representatives(clusterer, n=2)
    >>> [row.share > 0.7 for row in found[0].central]
    [True, True]
    """
    check_positive_integer(n, "n")
    clusterer = fitted_clusterer(clusterer)
    labels = check_labels(clusterer.labels_)
    affinity = clusterer.affinity_matrix_
    rows = np.repeat(np.arange(labels.size), np.diff(affinity.indptr))
    within = labels[rows] == labels[affinity.indices]
    weights = affinity.data.astype(np.float64)
    # Of no edges at all, bincount counts integers.
    total = np.bincount(rows, weights, labels.size).astype(np.float64)
    inside = np.bincount(rows[within], weights[within], labels.size).astype(np.float64)
    share = np.divide(inside, total, out=np.zeros_like(inside), where=total > 0)

    def listed(of: np.ndarray, order: np.ndarray) -> list[Representative]:
        return [
            Representative(int(row), float(inside[row]), float(share[row]))
            for row in of[order[:n]]
        ]

    return {
        label: Representatives(
            central=listed(of, np.argsort(-inside[of], kind="stable")),
            borderline=listed(of, np.argsort(share[of], kind="stable")),
        )
        for label, of in member_rows(labels).items()
    }


def graph_summary(affinity: Any) -> Bunch:
    """Describe a graph in a few numbers.

    Parameters
    ----------
    affinity : sparse matrix of shape (n_samples, n_samples)
        A symmetric graph, such as the ``affinity_matrix_`` of a `MutualKNNLeiden`.

    Returns
    -------
    summary : :class:`~sklearn.utils.Bunch`
        Dictionary-like object, with numbers of Python only.

        n_vertices, n_edges : int
            Number of vertices, and of edges, each counted once.
        n_isolated : int
            Number of vertices without an edge.
        degree_quantiles : list of float
            Smallest, lower quartile, median, upper quartile and largest number of edges
            of a vertex.
        mean_degree, mean_weight : float
            Mean number of edges of a vertex, and mean weight of an edge; the latter nan
            without edges.
        n_connected_components : int
            Number of connected components; an isolated vertex is one, too.
        largest_component : int
            Number of vertices of the largest connected component.

    Raises
    ------
    ValueError
        If the graph is not sparse, square and symmetric.

    Examples
    --------
    >>> import scipy.sparse as sp
    >>> from skleiden.inspection import graph_summary
    >>> path = sp.csr_array([[0, 1, 0, 0], [1, 0, 1, 0], [0, 1, 0, 0], [0, 0, 0, 0]])
    >>> summary = graph_summary(path)
    >>> summary.n_edges, summary.n_isolated, summary.n_connected_components
    (2, 1, 2)
    """
    graph = open_affinity(affinity)
    degrees = np.diff(graph.indptr)
    n_components, component = connected_components(graph, directed=False)
    return Bunch(
        n_vertices=int(graph.shape[0]),
        n_edges=int(graph.nnz // 2),
        n_isolated=int(np.count_nonzero(degrees == 0)),
        degree_quantiles=np.quantile(degrees, [0, 0.25, 0.5, 0.75, 1]).tolist(),
        mean_degree=float(degrees.mean()),
        mean_weight=float(graph.data.mean()) if graph.nnz else float("nan"),
        n_connected_components=int(n_components),
        largest_component=int(np.bincount(component).max()),
    )


def community_map(
    affinity: Any,
    *,
    max_rows: int = 3000,
    random_state: int | np.random.RandomState | None = 0,
) -> CommunityMap:
    """Lay a graph out in the plane, so that rows that belong together lie together.

    Parameters
    ----------
    affinity : sparse matrix of shape (n_samples, n_samples)
        A symmetric graph, such as the ``affinity_matrix_`` of a `MutualKNNLeiden`.

    max_rows : int, default=3000
        Largest number of rows shown, at least 1. From a larger graph, a random sample
        is drawn. Most of the neighbours of its rows are then missing, so rows are also
        tied by the neighbours that they share.

    random_state : int, RandomState instance or None, default=0
        Determines the sample and the layout.

    Returns
    -------
    map : CommunityMap
        The rows shown, and their positions. Distances between communities that no edge
        joins mean nothing, and neither do angles.

    Raises
    ------
    ValueError
        If the graph is not sparse, square and symmetric, or has negative weights; if
        `max_rows` is below 1.

    Notes
    -----
    The layout is like that of UMAP [1]_. The 10 strongest ties of each row pull, all
    rows push each other away, and the start is made by diffusion, as in spectral
    embedding. Weights are divided by the square roots of the sums of weights at both
    ends. A layout takes some tenths of a second for 3,000 rows, and one to two seconds
    for 20,000.

    With an int as `random_state`, the map is the same for any number of threads and any
    order of the rows. Only rows that nothing in the graph tells apart, such as several
    without an edge, may change places.

    References
    ----------
    .. [1] L. McInnes, J. Healy, J. Melville, "UMAP: uniform manifold approximation and
       projection for dimension reduction", arXiv:1802.03426, 2018.

    Examples
    --------
    >>> from skleiden import MutualKNNLeiden
    >>> from skleiden.datasets import make_layered_activations
    >>> from skleiden import MultiLayerTfidfSketcher
    >>> from skleiden.inspection import community_map
    >>> stack, _ = make_layered_activations(600, n_communities=4, random_state=0)
    >>> sketcher = MultiLayerTfidfSketcher(layer_weights=None, random_state=0)
    >>> embedding = sketcher.fit_transform(stack)
    >>> clusterer = MutualKNNLeiden(random_state=0).fit(embedding)
    >>> community_map(clusterer.affinity_matrix_, max_rows=100).positions.shape
    (100, 2)
    """
    check_positive_integer(max_rows, "max_rows")
    graph = open_affinity(affinity)
    rng = check_random_state(random_state)
    if (graph.data < 0).any():
        raise ValueError(
            "affinity must have no negative weights, which cannot be laid out; got one "
            f"of {graph.data.min():.3g}. Leave such edges out."
        )
    graph.data /= graph.data.max(initial=0) or 1
    # Rows go by their ranks from here on, so that nothing depends on where they stand.
    order = np.argsort(rank_vertices(graph))
    sampled = order.size > max_rows
    ranks = np.arange(order.size)
    if sampled:
        ranks = np.sort(rng.choice(ranks, max_rows, replace=False))
    rows = order[ranks]
    ties = graph[rows][:, order]
    ties.sort_indices()
    if sampled:
        ties = without_diagonal(ties[:, ranks] + ties @ ties.T)
    positions = layout(_strongest(ties, _TIES), seed=int(rng.randint(2**31 - 1)))
    positions -= (positions.min(axis=0) + positions.max(axis=0)) / 2
    reach = np.abs(positions).max(initial=0)
    if reach > 0:
        positions /= reach
    ascending = np.argsort(rows)
    return CommunityMap(rows[ascending], positions[ascending])


def _strongest(graph: sp.csr_array, n_ties: int) -> sp.csr_array:
    """Keep each edge that is among the `n_ties` strongest of either of its ends."""
    rows = np.repeat(np.arange(graph.shape[0]), np.diff(graph.indptr))
    order = np.lexsort((graph.indices, -graph.data, rows))
    rank = np.arange(order.size) - graph.indptr[rows]
    kept = order[rank < n_ties]
    strongest = sp.csr_array(
        (graph.data[kept], (rows[kept], graph.indices[kept])), shape=graph.shape
    )
    return sp.csr_array(strongest.maximum(strongest.T.tocsr()))
