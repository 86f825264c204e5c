"""Heat map of the mean activations of top neurons in each community."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import groupby
from operator import itemgetter
from typing import Any, Self

import numpy as np

from skleiden._figures import heat_map, no_community, pyplot, thinned
from skleiden._fitting import fitted_labelling, fitted_sketcher
from skleiden._text import encodable
from skleiden.inspection._features import (
    CommunitySums,
    community_sums,
    layers_and_labels,
)
from skleiden.inspection._members import LabelsLike, check_positive_integer

_MOST_NEURON_TICKS = 80


class PrototypeHeatmapDisplay:
    """Heat map of the mean activations of top neurons in each community.

    Make one with `from_estimator` or `from_predictions`.

    Parameters
    ----------
    values : array-like of shape (n_shown, n_columns)
        Means of z-scores.

    communities : sequence of int or str of length n_shown
        Labels of the communities shown.

    neurons : sequence of (layer, neuron) of length n_columns
        Neurons shown, those of a layer side by side.

    Attributes
    ----------
    image_ : matplotlib AxesImage
        The heat map.

    colorbar_ : matplotlib Colorbar
        Scale of the heat map.

    ax_ : matplotlib Axes
        Where it is drawn.

    figure_ : matplotlib Figure
        The figure with these axes.

    See Also
    --------
    skleiden.inspection.prototypes : The values.
    skleiden.inspection.top_features : The choice of neurons.

    Examples
    --------
    >>> from skleiden.datasets import make_layered_activations
    >>> from skleiden.plotting import PrototypeHeatmapDisplay
    >>> stack, planted = make_layered_activations(
    ...     600, n_layers=2, n_communities=4, random_state=0
    ... )
    >>> display = PrototypeHeatmapDisplay.from_predictions(stack, planted, n_features=2)
    >>> display.values.shape
    (4, 8)
    """

    def __init__(
        self,
        values: Any,
        communities: Sequence[int] | Sequence[str],
        neurons: Sequence[tuple[str, int]],
    ) -> None:
        self.values = values
        self.communities = communities
        self.neurons = neurons

    @classmethod
    def from_estimator(
        cls,
        estimator: Any,
        X: Any,
        *,
        layers: Mapping[str, int] | Sequence[int] | None = None,
        **options: Any,
    ) -> Self:
        """Plot the top neurons of a fitted estimator's communities.

        Parameters
        ----------
        estimator : estimator
            A fitted clusterer, a pipeline that ends in one, or a `StableLeiden`.

        X : LayerStack, mapping of {name: matrix}, or matrix
            The data that it was fitted on, unsketched.

        layers : sequence of int, mapping of {name: width} or None, default=None
            Widths of the layers, if X is one matrix with the layers side by side. If
            None, those that a `MultiLayerTfidfSketcher` in the estimator knows.

        **options
            As in `from_predictions`: `n_features`, `max_communities` and `ax`.

        Returns
        -------
        display : PrototypeHeatmapDisplay

        Raises
        ------
        TypeError
            If the estimator has no labels.

        ValueError
            As `from_predictions` does.

        ImportError
            If matplotlib is not installed.
        """
        labels, sketcher = (
            fitted_labelling(estimator).labels_,
            fitted_sketcher(estimator),
        )
        if layers is None and sketcher is not None:
            layers = sketcher._by_layer(sketcher.layer_widths_)
        return cls.from_predictions(X, labels, layers=layers, **options)

    @classmethod
    def from_predictions(
        cls,
        X: Any,
        labels: LabelsLike,
        *,
        n_features: int = 3,
        max_communities: int = 20,
        layers: Mapping[str, int] | Sequence[int] | None = None,
        ax: Any = None,
    ) -> Self:
        """Plot the top neurons of communities that are given as labels.

        Parameters
        ----------
        X : LayerStack, mapping of {name: matrix}, or matrix
            The unsketched layers.

        labels : array-like of int or str of shape (n_samples,)
            Communities; -1 is noise.

        n_features : int, default=3
            Number of top neurons of each community, at least 1. The top neurons of all
            communities shown are shown for each of them.

        max_communities : int, default=20
            Largest number of communities shown, at least 1. The largest ones are shown.

        layers : sequence of int, mapping of {name: width} or None, default=None
            Widths of the layers, if X is one matrix with the layers side by side.

        ax : matplotlib Axes, default=None
            As in `plot`.

        Returns
        -------
        display : PrototypeHeatmapDisplay

        Raises
        ------
        ValueError
            If labels are not one per row, there is no community, no neuron
            sets one apart, or a number is below 1.

        ImportError
            If matplotlib is not installed.
        """
        pyplot()  # told before the work
        check_positive_integer(n_features, "n_features")
        sums = community_sums(*layers_and_labels(X, labels, layers))
        return cls._from_sums(sums, n_features, max_communities, ax)

    @classmethod
    def _from_sums(
        cls,
        sums: CommunitySums,
        n_features: int = 3,
        max_communities: int = 20,
        ax: Any = None,
    ) -> Self:
        """Plot top neurons from the sums of communities, as `from_predictions` does."""
        check_positive_integer(max_communities, "max_communities")
        sizes, labels = sums.sizes[:-1], sums.labels.values
        if sizes.size == 0:
            raise ValueError(no_community("its prototypes"))
        shown = np.sort(np.argsort(-sizes, kind="stable")[:max_communities])
        top = sums.top_features(n_features)
        chosen = {
            (feature.layer, feature.neuron)
            for number in shown.tolist()
            for feature in top[labels[number]]
        }
        if not chosen:
            raise ValueError(
                "No neuron sets any of the communities apart: there is nothing to "
                f"show. Got {shown.size} of {sizes.size} communities; check labels "
                "and X, or look at the prototypes themselves."
            )
        order = list(sums.layers)
        neurons = sorted(chosen, key=lambda pair: (order.index(pair[0]), pair[1]))
        values = [
            sums.prototypes(name, standardize=True)[shown][:, [j for _, j in of]]
            for name, of in groupby(neurons, itemgetter(0))
        ]
        communities = [labels[number] for number in shown.tolist()]
        return cls(np.hstack(values), communities, neurons).plot(ax)

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
            Value of the strongest colour, above 0. If None, the value that 98% of all
            do not exceed, so that a few large ones do not make the others pale.

        Returns
        -------
        display : PrototypeHeatmapDisplay

        Raises
        ------
        ValueError
            If the values are not one per community and neuron, or `limit` is not
            above 0.

        ImportError
            If matplotlib is not installed.
        """
        values = np.asarray(self.values, dtype=np.float64)
        n_rows, n_columns = len(self.communities), len(self.neurons)
        if values.shape != (n_rows, n_columns) or values.size == 0:
            raise ValueError(
                "values must have one row per community and one column per neuron, and "
                f"at least one of each; got shape {values.shape} for {n_rows} "
                f"communities and {n_columns} neurons."
            )
        if limit is None:
            strong = np.abs(values[np.isfinite(values)])
            limit = float(np.quantile(strong, 0.98)) if strong.any() else 1.0
        if not limit > 0:
            raise ValueError(f"limit must be above 0; got {limit!r}.")
        size = (np.clip(2 + 0.13 * n_columns, 5, 14), np.clip(1.6 + 0.2 * n_rows, 3, 9))
        self.figure_, self.ax_, self.image_, self.colorbar_ = heat_map(
            ax, size, values, self.communities, "Mean z-score", cmap, (-limit, limit)
        )
        ticks = thinned([neuron for _, neuron in self.neurons], _MOST_NEURON_TICKS)
        self.ax_.set_xticks(*ticks, rotation=90, fontsize=6)
        self.ax_.set_xlabel("Neuron")
        self._mark_layers()
        return self

    def _mark_layers(self) -> None:
        """Name the layers above their columns, with lines between them."""
        names, widths = [], []
        for name, group in groupby(self.neurons, itemgetter(0)):
            names.append(encodable(str(name)))
            widths.append(len(list(group)))
        ends = np.cumsum(widths)
        for end in ends[:-1]:
            self.ax_.axvline(end - 0.5, color="black", linewidth=0.8)
        top = self.ax_.secondary_xaxis("top")
        top.set_xticks(ends - np.divide(widths, 2) - 0.5, names, fontsize=8)
        top.tick_params(length=0)
        # Letters of 8 points, in columns.
        box = self.ax_.get_window_extent()
        letter = 5.0 * self.figure_.dpi / 72 / box.width * ends[-1]
        if (letter * np.array([len(name) for name in names]) > widths).any():
            top.tick_params(rotation=90)
