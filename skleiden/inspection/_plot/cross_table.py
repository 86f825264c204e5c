"""Heat map of which groups of neurons drive which communities."""

from __future__ import annotations

from typing import Any, Self

import numpy as np
from scipy.cluster import hierarchy

from skleiden._figures import QUIET_COLOR, heat_map, no_community, pyplot, thinned
from skleiden.inspection._cross_table import CrossTable, cross_table
from skleiden.inspection._members import LabelsLike

# Labels that the longest axes have room for, in small letters.
_MOST_LABELS = 64

# Up to so many communities the order of the tree is optimised, which takes their cube.
_MOST_ORDERED = 300


class CrossTableDisplay:
    """Heat map of which groups of neurons drive which communities of prompts.

    It shows the effects of groups (rows) in communities (columns), with a dot where the
    group drives the community. Communities that the same groups drive stand side by
    side, and groups stand in the order of the community in which they are strongest, so
    that blocks show along the diagonal. Empty groups and communities are left out.

    Make one with `from_predictions`, or from a table.

    Parameters
    ----------
    table : CrossTable
        As :func:`skleiden.inspection.cross_table` gives it.

    Attributes
    ----------
    groups_ : ndarray of int
        Rows of the table that are shown, from the top.

    communities_ : ndarray of int
        Columns of the table that are shown, from the left.

    image_ : matplotlib AxesImage
        The heat map; nan is shown hatched.

    colorbar_ : matplotlib Colorbar
        Scale of the heat map.

    dots_ : matplotlib PathCollection
        Dots of the pairs in which the group drives the community.

    ax_ : matplotlib Axes
        Where it is drawn.

    figure_ : matplotlib Figure
        The figure with these axes.

    See Also
    --------
    skleiden.inspection.cross_table : The values.

    Examples
    --------
    >>> from skleiden.datasets import make_layered_activations
    >>> from skleiden.plotting import CrossTableDisplay
    >>> stack, communities, groups, _ = make_layered_activations(
    ...     500, n_neuron_groups=5, return_neuron_groups=True, random_state=0
    ... )
    >>> display = CrossTableDisplay.from_predictions(communities, groups, stack)
    >>> display.image_.get_array().shape
    (5, 10)
    """

    def __init__(self, table: CrossTable) -> None:
        self.table = table

    @classmethod
    def from_predictions(
        cls,
        prompt_labels: LabelsLike,
        neuron_labels: LabelsLike,
        X: Any,
        *,
        ax: Any = None,
        **options: Any,
    ) -> Self:
        """Plot groups and communities that are given as labels.

        Parameters
        ----------
        prompt_labels : array-like of int or str of shape (n_samples,)
            Communities of the rows of X; -1 is noise.

        neuron_labels : array-like of int or str of shape (n_neurons,)
            Groups of the neurons of all layers side by side; -1 is none.

        X : LayerStack, mapping of {name: matrix}, or matrix
            The unsketched layers.

        ax : matplotlib Axes, default=None
            As in `plot`.

        **options
            As in :func:`skleiden.inspection.cross_table`: `layers`, `n_permutations`,
            `min_effect` and `random_state`.

        Returns
        -------
        display : CrossTableDisplay

        Raises
        ------
        ValueError
            As `cross_table` does, or if there is no group or no community.

        ImportError
            If matplotlib is not installed.
        """
        pyplot()  # told before the work
        return cls(cross_table(prompt_labels, neuron_labels, X, **options)).plot(ax)

    def plot(
        self, ax: Any = None, *, cmap: Any = "RdBu_r", limit: float | None = None
    ) -> Self:
        """Draw the heat map.

        Parameters
        ----------
        ax : matplotlib Axes, default=None
            Where to draw; in a new figure if None.

        cmap : str or matplotlib Colormap, default="RdBu_r"
            A diverging colour map; its middle is 0.

        limit : float, default=None
            Effect of the strongest colour, above 0. If None, the median effect of the
            pairs that drive, so that a few large ones do not make the others pale.

        Returns
        -------
        display : CrossTableDisplay

        Raises
        ------
        ValueError
            If there is no group or no community, or `limit` is not above 0.

        ImportError
            If matplotlib is not installed.
        """
        groups = np.flatnonzero(self.table.group_sizes)
        communities = np.flatnonzero(self.table.community_sizes)
        if groups.size == 0 or communities.size == 0:
            what = "what groups of neurons drive"
            raise ValueError(
                no_community(what)
                if groups.size
                else "There is no group of neurons, and a cross table cannot be shown: "
                "all neuron labels are -1. Cluster neurons with other parameters, such "
                "as a lower min_cluster_size or more n_neighbors."
            )
        shown = np.ix_(groups, communities)
        effects, drives = self.table.effects[shown], self.table.drives[shown]
        if limit is None:
            strong = effects[drives] if drives.any() else np.abs(effects)
            strong = strong[np.isfinite(strong) & (strong > 0)]
            limit = float(np.median(strong)) if strong.size else 1.0
        if not limit > 0:
            raise ValueError(f"limit must be above 0; got {limit!r}.")
        rows, columns = _order(np.nan_to_num(effects).clip(-limit, limit))
        self.groups_, self.communities_ = groups[rows], communities[columns]
        effects, drives = effects[rows][:, columns], drives[rows][:, columns]
        n_rows, n_columns = effects.shape
        size = (
            np.clip(2.4 + 0.15 * n_columns, 4, 13),
            np.clip(1.4 + 0.15 * n_rows, 3, 11),
        )
        self.figure_, self.ax_, self.image_, self.colorbar_ = heat_map(
            ax,
            size,
            np.ma.masked_invalid(effects),
            [self.table.groups[row] for row in self.groups_],
            "Effect size",
            cmap,
            (-limit, limit),
        )
        self.ax_.patch.set(facecolor="#e4e4e4", edgecolor=QUIET_COLOR, hatch="////")
        at_row, at_column = np.nonzero(drives)
        self.dots_ = self.ax_.scatter(
            at_column, at_row, s=9, color="white", edgecolors="black", linewidths=0.6
        )
        for axis, labels, shown_at in (
            (self.ax_.xaxis, self.table.communities, self.communities_),
            (self.ax_.yaxis, self.table.groups, self.groups_),
        ):
            names = [labels[place] for place in shown_at]
            axis.set_ticks(*thinned(names, _MOST_LABELS))
        letters = 8 if max(n_rows, n_columns) <= 32 else 6
        self.ax_.tick_params(labelsize=letters)
        if n_columns > 10:
            self.ax_.tick_params(axis="x", rotation=90)
        self.ax_.set(xlabel="Community of prompts", ylabel="Group of neurons")
        return self


def _order(effects: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Order groups and communities so that blocks show.

    Communities are the leaves of a tree in which those with like effects are joined, in
    the order that puts the most alike side by side (Bar-Joseph, Gifford and Jaakkola,
    2001).
    """
    n = effects.shape[1]
    columns = np.arange(n)
    if n > 2:
        tree = hierarchy.linkage(
            effects.T, "average", optimal_ordering=n <= _MOST_ORDERED
        )
        columns = hierarchy.leaves_list(tree)
    effects = effects[:, columns]
    return np.lexsort((-effects.max(axis=1), effects.argmax(axis=1))), columns
