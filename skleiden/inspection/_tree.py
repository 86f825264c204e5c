"""Communities within communities, and one community divided alone."""

from __future__ import annotations

import warnings
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, replace
from numbers import Integral, Real
from typing import TYPE_CHECKING, Any

import numpy as np
from sklearn.utils import check_random_state
from sklearn.utils._param_validation import Interval, validate_params

from skleiden._blocks.frames import as_html, frame_of
from skleiden._fitting import fitted_clusterer
from skleiden._stages.tree import Divider, Division, vertex_graph
from skleiden._text import as_text, is_listing

from ._keywords import keywords_of

if TYPE_CHECKING:
    import pandas as pd

    from ._plot.tree import CommunityTreeDisplay

# Agreement of halves above which more of a division is found again than not.
_FOUND_AGAIN = 0.5
# In fewer columns it says little (measured on random vectors of 5, 8, 10 and 20).
_FEWEST_COLUMNS = 8

_NO_FINER: Sequence[float] = ()


def stands_at(level: int, own_level: int, children: Sequence[int]) -> bool:
    """Whether a node is a community of a level: its own, or undivided above it."""
    return own_level == level or (own_level < level and not children)


@dataclass(frozen=True, eq=False)
class TreeNode:
    """A community of a `CommunityTree`.

    Attributes
    ----------
    number : int
        Its place in ``tree.nodes``: 0 is the root, which holds all rows that are in a
        community; the others follow level by level, and those of one parent by falling
        size.

    parent : int or None
        Number of the community that it is a part of; None for the root.

    level : int
        Steps from the root.

    rows : ndarray of shape (size,), dtype int64
        Row numbers of its members, ascending.

    children : tuple of int
        Numbers of its parts, largest first; empty if it is not divided.

    resolution : float or None
        Resolution at which it was divided, in the graph of its own rows; None if it is
        not divided.

    replicability : float or None
        How well its division is found again: the adjusted mutual information between
        what two halves of its edges find, 1 if they find the same and about 0 by
        chance; None if it is not divided.

    keywords : tuple of str
        Words that tell its texts from those of the other nodes, best first, see
        `keywords`; empty without texts, and for the root.
    """

    number: int
    parent: int | None
    level: int
    rows: np.ndarray
    children: tuple[int, ...] = ()
    resolution: float | None = None
    replicability: float | None = None
    keywords: tuple[str, ...] = ()

    @property
    def size(self) -> int:
        """Number of members."""
        return self.rows.size

    def __repr__(self) -> str:
        return (
            f"<TreeNode {self.number}: level {self.level}, {self.size} rows, "
            f"{len(self.children)} children>"
        )


class CommunityTree:
    """Communities within communities, as `community_tree` finds them.

    Attributes
    ----------
    nodes : tuple of TreeNode
        All communities, by their numbers; the first is the root.

    n_samples : int
        Number of rows.

    n_levels : int
        Number of levels, the root's included.

    table : dict of {str: ndarray of shape (n_nodes,)}
        The nodes as columns: "node", "parent" (-1 for the root), "level", "size",
        "n_children", "resolution", "replicability" (both nan if a node is not divided)
        and "keywords", joined by commas.

    See Also
    --------
    community_tree : Make one.
    """

    def __init__(self, nodes: Sequence[TreeNode], n_samples: int) -> None:
        self.nodes = tuple(nodes)
        self.n_samples = n_samples

    @property
    def n_levels(self) -> int:
        """Number of levels, the root's included."""
        return self.nodes[-1].level + 1

    @property
    def table(self) -> dict[str, np.ndarray]:
        """The nodes as columns, see Attributes."""
        nodes, nan = self.nodes, float("nan")
        return {
            "node": np.array([node.number for node in nodes]),
            "parent": np.array(
                [-1 if node.parent is None else node.parent for node in nodes]
            ),
            "level": np.array([node.level for node in nodes]),
            "size": np.array([node.size for node in nodes]),
            "n_children": np.array([len(node.children) for node in nodes]),
            "resolution": np.array(
                [nan if node.resolution is None else node.resolution for node in nodes]
            ),
            "replicability": np.array(
                [
                    nan if node.replicability is None else node.replicability
                    for node in nodes
                ]
            ),
            "keywords": np.array(
                [", ".join(node.keywords) for node in nodes], dtype=object
            ),
        }

    def nodes_at(self, level: int) -> list[TreeNode]:
        """List the communities of a level, in the order of their labels.

        Parameters
        ----------
        level : int
            0 for the root alone, up to ``n_levels - 1``.

        Returns
        -------
        nodes : list of TreeNode
            The nodes of this level, and the undivided ones of levels above it; largest
            first, ties by number.

        Raises
        ------
        ValueError
            If there is no such level.
        """
        whole = isinstance(level, (int, np.integer)) and not isinstance(level, bool)
        if not whole or not 0 <= level < self.n_levels:
            raise ValueError(
                f"level must be an integer from 0, the root, to {self.n_levels - 1}; "
                f"got {level!r}. The tree has {self.n_levels} levels."
            )
        cut = [
            node for node in self.nodes if stands_at(level, node.level, node.children)
        ]
        return sorted(cut, key=lambda node: (-node.size, node.number))

    def labels_at(self, level: int) -> np.ndarray:
        """Label the rows by the communities of a level.

        Parameters
        ----------
        level : int
            0 for the root alone, up to ``n_levels - 1``.

        Returns
        -------
        labels : ndarray of shape (n_samples,), dtype int64
            Label i stands for ``nodes_at(level)[i]``, so that 0 is the largest. -1
            stands for rows that are in no community, or in none of the parts that
            theirs was divided into.

        Raises
        ------
        ValueError
            If there is no such level.
        """
        labels = np.full(self.n_samples, -1, dtype=np.int64)
        for label, node in enumerate(self.nodes_at(level)):
            labels[node.rows] = label
        return labels

    def to_frame(self) -> pd.DataFrame:
        """Return `table` as a pandas DataFrame.

        Returns
        -------
        frame : pandas.DataFrame
            A row for each node.

        Raises
        ------
        ImportError
            If pandas is not installed.
        """
        return frame_of(self.table)

    def to_dict(self) -> dict[str, Any]:
        """Give the tree as numbers, texts and lists, which JSON takes as they are.

        Returns
        -------
        tree : dict
            "n_samples" and "n_levels"; "nodes", a list of dict with "node", "parent",
            "level", "size", "children", "resolution", "replicability" and "keywords";
            and "node_of_row", the deepest node of each row, -1 for none.
        """
        node_of_row = np.full(self.n_samples, -1, dtype=np.int64)
        for node in self.nodes:  # parents come first
            node_of_row[node.rows] = node.number
        return {
            "n_samples": self.n_samples,
            "n_levels": self.n_levels,
            "nodes": [
                {
                    "node": node.number,
                    "parent": node.parent,
                    "level": node.level,
                    "size": node.size,
                    "children": list(node.children),
                    "resolution": node.resolution,
                    "replicability": node.replicability,
                    "keywords": list(node.keywords),
                }
                for node in self.nodes
            ],
            "node_of_row": node_of_row.tolist(),
        }

    def plot(self, ax: Any = None) -> CommunityTreeDisplay:
        """Draw the tree; needs matplotlib.

        Parameters
        ----------
        ax : matplotlib Axes, default=None
            Where to draw; in a new figure if None.

        Returns
        -------
        display : CommunityTreeDisplay

        Raises
        ------
        ImportError
            If matplotlib is not installed.
        """
        from ._plot.tree import CommunityTreeDisplay

        return CommunityTreeDisplay.from_tree(self, ax=ax)

    def __repr__(self) -> str:
        if self.n_levels == 1:
            return f"<CommunityTree: {self.nodes[0].size} rows, not divided>"
        counts = [str(len(self.nodes_at(level))) for level in range(self.n_levels)]
        return f"<CommunityTree: {' > '.join(counts)} communities>"

    def _repr_html_(self) -> str:
        """Give `table`, for notebooks."""
        return as_html(self, self.table)


@dataclass(frozen=True, eq=False)
class Split:
    """The division of one community alone, made by `split`.

    Attributes
    ----------
    labels : ndarray of shape (n_samples,), dtype int64
        Labels of all rows. The largest part keeps the number of the community, and the
        other parts get the next free numbers, by falling size. Rows of the community
        that nothing ties to a part are -1. All other rows keep their labels.

    rows : ndarray of shape (size,), dtype int64
        Row numbers of the community's members, ascending.

    parts : ndarray of shape (size,), dtype int64
        Part of each of these members: 0 is the largest; -1 is none.

    resolution : float or None
        Resolution at which it was divided; None if no resolution divides it. If
        `n_clusters` was reached by merging, the resolution of the finer division.

    replicability : float
        How well a division at this resolution is found again: the adjusted mutual
        information between what two halves of the edges find, 1 if they find the same
        and about 0 by chance; 0 if no resolution divides it.
    """

    labels: np.ndarray
    rows: np.ndarray
    parts: np.ndarray
    resolution: float | None
    replicability: float

    @property
    def n_parts(self) -> int:
        """Number of parts; 1 if it is not divided."""
        return int(self.parts.max()) + 1

    @property
    def found_again(self) -> bool:
        """Whether `replicability` is at least 0.5, as `community_tree` asks."""
        return self.n_parts > 1 and self.replicability >= _FOUND_AGAIN

    def __repr__(self) -> str:
        if self.n_parts < 2:
            return f"<Split: {self.rows.size} rows, not divided>"
        sizes = ", ".join(map(str, np.bincount(self.parts[self.parts >= 0])))
        again = "found again" if self.found_again else "not found again"
        return (
            f"<Split: {self.n_parts} parts of {sizes} rows, {again} "
            f"({self.replicability:.2f})>"
        )


@validate_params(
    {
        "estimator": "no_validation",
        "texts": "no_validation",
        "min_replicability": [Interval(Real, 0, 1, closed="both")],
        "max_depth": [Interval(Integral, 1, None, closed="left"), None],
        "n_keywords": [Interval(Integral, 1, None, closed="left")],
        "random_state": ["random_state"],
    },
    prefer_skip_nested_validation=True,
)
def community_tree(
    estimator: Any,
    *,
    texts: Sequence[str] | None = None,
    min_replicability: float = _FOUND_AGAIN,
    max_depth: int | None = None,
    n_keywords: int = 5,
    random_state: int | np.random.RandomState | None = 0,
) -> CommunityTree:
    """Find communities within communities, as far as they are found again.

    The graph of all rows is divided at its coarsest level, then the graph of each part,
    and so on, until no division is found again by halves of its edges.

    Parameters
    ----------
    estimator : estimator
        A fitted `MutualKNNLeiden`, or a pipeline or `StableLeiden` of one. Its graph is
        used, whether made from vectors or precomputed; its resolution and objective are
        not.

    texts : sequence of str of length n_samples, default=None
        Texts of the rows, from which the nodes get keywords.

    min_replicability : float, default=0.5
        How well a division must be found again, in [0, 1]: the adjusted mutual
        information between what two halves of the edges find, see Notes. 0 also keeps
        divisions that are not found again.

    max_depth : int or None, default=None
        Largest number of levels below the root, at least 1; None for all that are
        found.

    n_keywords : int, default=5
        Largest number of keywords of a node, at least 1.

    random_state : int, RandomState instance or None, default=0
        Determines halves and Leiden's choices. With an int, the tree is the same for
        any order of the rows, as far as the estimator's graph is.

    Returns
    -------
    tree : CommunityTree
        The tree, with `labels_at(level)`, `to_frame()`, `to_dict()` and `plot()`. Its
        root holds all rows that the estimator has in a community.

    Raises
    ------
    TypeError
        If the estimator is not fitted, or has no graph; if `texts` is a single string.

    ValueError
        If a parameter is out of range, or `texts` are not one for each row.

    Warns
    -----
    UserWarning
        If the estimator was fitted on fewer than 8 columns, see Notes.

    See Also
    --------
    split : Divide one community alone.
    skleiden.model_selection.resolution_profile : Compare resolutions by stability.

    Notes
    -----
    Leiden [1]_ divides a graph by modularity, at higher and higher resolutions. Each
    partition has the highest modularity of all in some range of resolutions, or
    nowhere [2]_. A *level* is a partition that is the best, or equal to the best to
    within .05 of adjusted mutual information, while the resolution doubles. The finer
    levels of a graph are tried in its parts, at the resolution that means the same
    there; a part that none of them divides is searched for levels of its own. Only if
    no level is found again, divisions that are the best in a narrower range are tried.

    A division is *found again* if two halves of the edges, drawn at random, each find
    it by themselves [3]_. Halves of edges that are as good as random agree by about 0,
    so on data with permuted columns a tree is a single node. Rows of fewer than 8
    columns always have neighbourhoods, which are found again without being communities.

    Fewer rows than the estimator's `min_cluster_size`, or than 2, are not a community:
    these rows go to the part that they are tied to most, and those without an edge to
    where most of their community is. A row that neither places is in none of the parts
    of its node. Equal rows stay together.

    A tree takes about as long as 100 runs of Leiden on the whole graph.

    References
    ----------
    .. [1] V. A. Traag, L. Waltman, N. J. van Eck, "From Louvain to Leiden:
       guaranteeing well-connected communities", Scientific Reports 9, 5233, 2019.
    .. [2] W. H. Weir, S. Emmons, R. Gibson, D. Taylor, P. J. Mucha, "Post-processing
       partitions to identify domains of modularity optimization", Algorithms 10(3), 93,
       2017.
    .. [3] T. Li, E. Levina, J. Zhu, "Network cross-validation by edge sampling",
       Biometrika 107(2), 2020.

    Examples
    --------
    >>> from sklearn.pipeline import make_pipeline
    >>> from skleiden import MultiLayerTfidfSketcher, MutualKNNLeiden
    >>> from skleiden.datasets import make_layered_activations
    >>> from skleiden.inspection import community_tree
    >>> stack, labels = make_layered_activations(
    ...     600, n_communities=(3, 9), signal=0.7, random_state=0
    ... )
    >>> pipeline = make_pipeline(
    ...     MultiLayerTfidfSketcher(layer_weights=None, random_state=0),
    ...     MutualKNNLeiden(random_state=0),
    ... )
    >>> tree = community_tree(pipeline.fit(stack))
    >>> tree
    <CommunityTree: 1 > 3 > 9 communities>
    >>> sorted(set(tree.labels_at(1).tolist()))
    [0, 1, 2]
    """
    clusterer = _open(estimator)
    texts = _checked_texts(texts, clusterer.labels_.size)
    rng = check_random_state(random_state)
    graph, vertex_of_row = vertex_graph(clusterer)
    nodes = [TreeNode(0, None, 0, np.flatnonzero(vertex_of_row >= 0))]
    waiting = deque([(nodes[0], np.arange(graph.n_vertices), _NO_FINER)])
    while waiting:
        node, vertices, finer = waiting.popleft()
        if node.level == max_depth:
            continue
        divider = Divider(graph.part(vertices), _least_size(clusterer), rng)
        found, finer = _coarsest(divider, finer, min_replicability)
        if found is None:
            continue
        part_of_row = _of_rows(found, vertices, vertex_of_row)[node.rows]
        children = [
            TreeNode(
                len(nodes) + part,
                node.number,
                node.level + 1,
                node.rows[part_of_row == part],
            )
            for part in range(found.n_parts)
        ]
        nodes[node.number] = replace(
            node,
            children=tuple(child.number for child in children),
            resolution=found.resolution,
            replicability=found.replicability,
        )
        nodes += children
        for part, child in enumerate(children):
            inside = np.flatnonzero(found.labels == part)
            of_part = [divider.in_part(resolution, inside) for resolution in finer]
            waiting.append((child, vertices[inside], of_part))
    if texts is not None:
        nodes = _with_keywords(nodes, texts, n_keywords)
    return CommunityTree(nodes, vertex_of_row.size)


@validate_params(
    {
        "estimator": "no_validation",
        "community": "no_validation",
        "resolution": [Interval(Real, 0, None, closed="neither"), None],
        "n_clusters": [Interval(Integral, 2, None, closed="left"), None],
        "random_state": ["random_state"],
    },
    prefer_skip_nested_validation=True,
)
def split(
    estimator: Any,
    community: int,
    *,
    resolution: float | None = None,
    n_clusters: int | None = None,
    random_state: int | np.random.RandomState | None = 0,
) -> Split:
    """Divide one community alone, and leave all others as they are.

    Parameters
    ----------
    estimator : estimator
        A fitted `MutualKNNLeiden`, or a pipeline or `StableLeiden` of one.

    community : int
        Label of the community, not -1.

    resolution : float or None, default=None
        Resolution of Leiden in the graph of the community's rows, above 0; the larger,
        the more parts. None takes the coarsest level that is found again, as
        `community_tree` does, or else the coarsest level.

    n_clusters : int or None, default=None
        Number of parts, at least 2, in place of a resolution. If no resolution gives
        it, parts of a finer division are merged, as in `MutualKNNLeiden`; if this is
        not possible either, the nearest number is taken, with a warning.

    random_state : int, RandomState instance or None, default=0
        Determines halves and Leiden's choices.

    Returns
    -------
    split : Split
        New labels of all rows, the parts of the community's rows, and whether the
        division is found again.

    Raises
    ------
    TypeError
        If the estimator is not fitted, or has no graph.

    ValueError
        If there is no such community, or a parameter is out of range; if both
        `resolution` and `n_clusters` are given.

    Warns
    -----
    UserWarning
        If there are not `n_clusters` parts; if all parts at `resolution` are smaller
        than the estimator's `min_cluster_size`, so that nothing is divided; if the
        estimator was fitted on fewer than 8 columns, see Notes of `community_tree`.

    See Also
    --------
    community_tree : Divide all communities, again and again.

    Examples
    --------
    >>> from sklearn.pipeline import make_pipeline
    >>> from skleiden import MultiLayerTfidfSketcher, MutualKNNLeiden
    >>> from skleiden.datasets import make_layered_activations
    >>> from skleiden.inspection import split
    >>> stack, labels = make_layered_activations(
    ...     600, n_communities=(3, 9), signal=0.7, random_state=0
    ... )
    >>> pipeline = make_pipeline(
    ...     MultiLayerTfidfSketcher(layer_weights=None, random_state=0),
    ...     MutualKNNLeiden(resolution=0.4, random_state=0),
    ... )
    >>> split(pipeline.fit(stack), 0).n_parts
    3
    """
    clusterer = _open(estimator)
    labels = clusterer.labels_
    n = int(labels.max()) + 1
    whole = isinstance(community, (int, np.integer)) and not isinstance(community, bool)
    if n == 0:
        raise ValueError(
            f"community must be one of the estimator's communities; got {community!r}, "
            "and all labels_ are -1. Fit with a lower min_cluster_size, or more rows."
        )
    if not whole or not 0 <= community < n:
        raise ValueError(
            f"community must be one of the estimator's {n} communities, an integer "
            f"from 0 to {n - 1}; got {community!r}. See its labels_."
        )
    if resolution is not None and n_clusters is not None:
        raise ValueError(
            f"split takes a resolution or n_clusters, not both; got {resolution!r} and "
            f"{n_clusters!r}. Leave one of them out."
        )
    graph, vertex_of_row = vertex_graph(clusterer)
    vertices = np.flatnonzero(graph.communities == community)
    rng = check_random_state(random_state)
    divider = Divider(graph.part(vertices), _least_size(clusterer), rng)
    rows = np.flatnonzero(labels == community)
    remark = ""
    if resolution is not None:
        at = divider.at(float(resolution))
        found: Division | None = at
        if at.n_parts == 0 and rows.size >= divider.min_size:
            remark = (
                f"No part of community {community} at resolution={resolution!r} has "
                f"the {divider.min_size} rows of a community: it is not divided. "
                "Choose a lower resolution, or fit with a lower min_cluster_size."
            )
    elif n_clusters is not None:
        found, remark = divider.into(int(n_clusters))
        if found.n_parts < 2 and not remark:
            remark = (
                f"No part of community {community} could have the {divider.min_size} "
                f"rows of a community: it is not divided into n_clusters={n_clusters}. "
                "Choose a larger one, or fit with a lower min_cluster_size."
            )
    else:
        levels = divider.levels(_FOUND_AGAIN) or divider.levels(0.0)
        found = levels[0] if levels else None
    if remark:
        warnings.warn(remark, UserWarning, stacklevel=3)
    if found is None or found.n_parts < 2:
        return Split(labels.copy(), rows, np.zeros(rows.size, np.int64), None, 0.0)
    parts = _of_rows(found, vertices, vertex_of_row)[rows]
    numbers = np.array([community, *range(n, n + found.n_parts - 1), -1])
    relabelled = labels.copy()
    relabelled[rows] = numbers[parts]  # the last is that of rows in no part
    return Split(relabelled, rows, parts, found.resolution, found.replicability)


def _open(estimator: Any) -> Any:
    """Give the fitted clusterer, with a warning if halves of its edges say little."""
    clusterer = fitted_clusterer(estimator)
    n_columns = getattr(clusterer, "n_features_in_", _FEWEST_COLUMNS)
    if clusterer.metric != "precomputed" and n_columns < _FEWEST_COLUMNS:
        warnings.warn(
            f"The estimator was fitted on {n_columns} columns. In fewer than "
            f"{_FEWEST_COLUMNS}, neighbourhoods of any rows are found again by halves "
            "of the edges, without being communities. Compare with "
            "model_selection.resolution_profile, whose null has as few columns.",
            UserWarning,
            stacklevel=4,  # past the validation of parameters
        )
    return clusterer


def _coarsest(
    divider: Divider, finer: Sequence[float], least: float
) -> tuple[Division | None, Sequence[float]]:
    """Divide at the coarsest level found again; also give resolutions of finer levels.

    `finer` are the finer levels of the graph that this is a part of, as
    `Divider.in_part` gives them. Levels of its own are only searched if none of them
    divides it.
    """
    weight = divider.degrees.sum() or 1.0
    for i, of_part in enumerate(finer):
        division = divider.at(of_part / weight)
        if division.n_parts > 1 and division.replicability >= least:
            return division, [of_finer / weight for of_finer in finer[i + 1 :]]
    levels = divider.levels(least)
    if not levels:
        return None, _NO_FINER
    return levels[0], [level.resolution for level in levels[1:]]


def _least_size(clusterer: Any) -> int:
    """Give the number of rows that make a community, two at least."""
    return max(int(clusterer.min_cluster_size), 2)


def _of_rows(
    found: Division, vertices: np.ndarray, vertex_of_row: np.ndarray
) -> np.ndarray:
    """Give the part of each row, -1 for a row in none."""
    parts = np.full(vertex_of_row.max(initial=-1) + 2, -1, dtype=np.int64)
    parts[vertices] = found.labels
    return parts[vertex_of_row]  # the last is that of rows without a vertex


def _checked_texts(texts: Any, n_samples: int) -> list[str] | None:
    """Give texts as a list, refused if they are not one for each row."""
    if texts is None:
        return None
    if not is_listing(texts):
        got = "a string" if isinstance(texts, str) else repr(texts)
        raise TypeError(
            f"texts must be a sequence of strings, one for each row; got {got}. Give a "
            "list of them."
        )
    listed = [*texts]
    if len(listed) != n_samples:
        raise ValueError(
            f"texts must have one entry for each row; got {len(listed)} for "
            f"{n_samples} rows."
        )
    return listed


def _with_keywords(
    nodes: Sequence[TreeNode], texts: Sequence[str], n_keywords: int
) -> list[TreeNode]:
    """Give each node but the root the words that tell it from all other nodes.

    The nodes are those of all levels: two communities alone would have words of any
    text.
    """
    found = keywords_of(
        [as_text(text) for text in texts],
        {node.number: node.rows for node in nodes[1:]},
        n_keywords,
    )
    return [replace(node, keywords=tuple(found.get(node.number, ()))) for node in nodes]
