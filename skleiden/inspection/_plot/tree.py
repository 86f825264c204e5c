"""An icicle of communities within communities."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Self

import numpy as np

from skleiden._figures import QUIET_COLOR, figure_and_axes
from skleiden._palette import colors_of
from skleiden._text import encodable

if TYPE_CHECKING:
    from skleiden.inspection._tree import CommunityTree, TreeNode

# Bars of at least this share of the width have room for a name, of so many characters
# for the whole width.
_LEAST_NAMED, _CHARACTERS = 0.03, 110


class CommunityTreeDisplay:
    """An icicle of communities within communities, the root on top.

    A bar is as wide as its community has rows, and stands below the bar of the
    community that it is a part of. Undivided communities have the colour of their label
    at the deepest level, and the others the mean colour of their parts. Rows with no
    bar below them are in none of the parts.

    Make one with `from_tree`, or by ``tree.plot()``.

    Parameters
    ----------
    tree : CommunityTree
        From :func:`~skleiden.inspection.community_tree`.

    Attributes
    ----------
    bars_ : matplotlib BarContainer
        A bar for each node, in their order.

    ax_ : matplotlib Axes
        Where it is drawn.

    figure_ : matplotlib Figure
        The figure with these axes.

    See Also
    --------
    skleiden.inspection.community_tree : Make the tree.

    Examples
    --------
    >>> from sklearn.pipeline import make_pipeline
    >>> from skleiden import MultiLayerTfidfSketcher, MutualKNNLeiden
    >>> from skleiden.datasets import make_layered_activations
    >>> from skleiden.inspection import community_tree
    >>> stack, _ = make_layered_activations(600, n_communities=4, random_state=0)
    >>> pipeline = make_pipeline(
    ...     MultiLayerTfidfSketcher(layer_weights=None, random_state=0),
    ...     MutualKNNLeiden(random_state=0),
    ... )
    >>> display = community_tree(pipeline.fit(stack)).plot()
    >>> len(display.bars_)
    5
    """

    def __init__(self, tree: CommunityTree) -> None:
        self.tree = tree

    @classmethod
    def from_tree(cls, tree: CommunityTree, *, ax: Any = None) -> Self:
        """Plot a tree.

        Parameters
        ----------
        tree : CommunityTree
            From :func:`~skleiden.inspection.community_tree`.

        ax : matplotlib Axes, default=None
            As in `plot`.

        Returns
        -------
        display : CommunityTreeDisplay

        Raises
        ------
        ImportError
            If matplotlib is not installed.
        """
        return cls(tree).plot(ax)

    def plot(self, ax: Any = None) -> Self:
        """Draw the bars.

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
        tree = self.tree
        levels = np.array([node.level for node in tree.nodes])
        widths = np.array([node.size for node in tree.nodes])
        starts, colors = _starts(tree), _colors(tree)
        self.figure_, self.ax_ = figure_and_axes(ax, (8, 1 + 0.7 * tree.n_levels))
        self.bars_ = self.ax_.bar(
            starts, 0.96, widths, levels - 0.48, align="edge", color=colors
        )
        for bar in self.bars_:
            bar.set(edgecolor="white", linewidth=0.5)
        for node, start, color in zip(tree.nodes, starts, colors, strict=True):
            share = node.size / max(widths[0], 1)
            if share >= _LEAST_NAMED:
                text = _shortened(_named(node), int(_CHARACTERS * share))
                self.ax_.text(
                    start + node.size / 2,
                    node.level,
                    text,
                    ha="center",
                    va="center",
                    fontsize=7,
                    color="white" if color @ (0.3, 0.6, 0.1) < 0.6 else "black",
                    clip_on=True,
                )
        self.ax_.set_ylim(tree.n_levels - 0.5, -0.5)
        self.ax_.set_xlim(0, max(widths[0], 1))
        self.ax_.set_yticks(range(tree.n_levels))
        self.ax_.set(xlabel="Rows", ylabel="Level")
        self.ax_.tick_params(axis="y", length=0)
        self.ax_.tick_params(axis="x", colors=QUIET_COLOR)
        self.ax_.spines[["top", "right", "left"]].set_visible(False)
        return self


def _starts(tree: CommunityTree) -> np.ndarray:
    """Tell where each bar begins: children side by side below their parent."""
    starts = np.zeros(len(tree.nodes))
    for node in tree.nodes:  # parents come first
        place = starts[node.number]
        for child in node.children:
            starts[child] = place
            place += tree.nodes[child].size
    return starts


def _colors(tree: CommunityTree) -> np.ndarray:
    """Give the colour of each bar, of shape (n_nodes, 3)."""
    colors = np.zeros((len(tree.nodes), 3))
    leaves = [node.number for node in tree.nodes_at(tree.n_levels - 1)]
    colors[leaves] = colors_of(np.arange(len(leaves)))
    for node in reversed(tree.nodes):  # children come last
        if node.children:
            parts = [*node.children]
            sizes = [tree.nodes[part].size for part in parts]
            colors[node.number] = np.average(colors[parts], axis=0, weights=sizes)
    return colors


def _named(node: TreeNode) -> str:
    return ", ".join(node.keywords) or (str(node.number) if node.level else "all")


def _shortened(text: str, length: int) -> str:
    """Shorten a text to some length, with an ellipsis for the rest."""
    text = encodable(text)
    return text if len(text) <= max(length, 3) else text[: max(length, 3) - 1] + "…"
