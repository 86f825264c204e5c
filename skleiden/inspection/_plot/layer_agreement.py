"""Heat map of how well each layer alone keeps each community together."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Self

import numpy as np

from skleiden._figures import (
    QUIET_COLOR,
    heat_map,
    no_community,
    pyplot,
    thinned,
)
from skleiden._fitting import fitted_labelling, fitted_sketcher
from skleiden.inspection._layers import fitted_embedding, layer_agreement
from skleiden.inspection._members import LabelsLike, number_labels


class LayerAgreementDisplay:
    """Heat map of how well each layer alone keeps each community together.

    Make one with `from_estimator` or `from_predictions`.

    Parameters
    ----------
    agreement : mapping of {layer name: array-like of shape (n_clusters,)}
        As :func:`skleiden.inspection.layer_agreement` gives it; nan, where agreement is
        not known, is shown hatched.

    communities : sequence of int or str of length n_clusters, default=None
        Labels of the communities; their numbers if None.

    Attributes
    ----------
    image_ : matplotlib AxesImage
        The heat map, communities by layers.

    colorbar_ : matplotlib Colorbar
        Scale of the heat map.

    ax_ : matplotlib Axes
        Where it is drawn.

    figure_ : matplotlib Figure
        The figure with these axes.

    See Also
    --------
    skleiden.inspection.layer_agreement : The values.

    Examples
    --------
    >>> from skleiden.plotting import LayerAgreementDisplay
    >>> agreement = {"layer_0": [0.9, 0.2], "layer_1": [0.7, 0.8]}
    >>> display = LayerAgreementDisplay(agreement).plot()
    >>> display.image_.get_array().shape
    (2, 2)
    """

    def __init__(
        self,
        agreement: Mapping[str, Sequence[float] | np.ndarray],
        communities: Sequence[int] | Sequence[str] | None = None,
    ) -> None:
        self.agreement = agreement
        self.communities = communities

    @classmethod
    def from_estimator(cls, estimator: Any, X: Any, **options: Any) -> Self:
        """Plot the layers of a fitted pipeline's sketch.

        Parameters
        ----------
        estimator : Pipeline or StableLeiden
            Fitted, with a `MultiLayerTfidfSketcher` before the clusterer.

        X : LayerStack, mapping of {name: matrix}, or matrix
            The data that it was fitted on.

        **options
            As in `from_predictions`: `n_neighbors`, `random_state` and `ax`.

        Returns
        -------
        display : LayerAgreementDisplay

        Raises
        ------
        TypeError
            If the estimator has no fitted `MultiLayerTfidfSketcher`, or no labels.

        ValueError
            As `from_predictions` does.

        ImportError
            If matplotlib is not installed.
        """
        labels = fitted_labelling(estimator).labels_
        if fitted_sketcher(estimator) is None:
            raise TypeError(
                "estimator must be a fitted pipeline with a MultiLayerTfidfSketcher, "
                "which knows the layers of the embedding; got "
                f"{type(estimator).__name__} without one. Use from_predictions with "
                "the embedding and its layers' widths."
            )
        embedding, components = fitted_embedding(estimator, X)
        return cls.from_predictions(embedding, labels, components, **options)

    @classmethod
    def from_predictions(
        cls,
        embedding: Any,
        labels: LabelsLike,
        layers: Mapping[str, int] | Sequence[int],
        *,
        n_neighbors: int = 15,
        random_state: int | np.random.RandomState | None = 0,
        ax: Any = None,
    ) -> Self:
        """Plot the layers of an embedding whose communities are given as labels.

        Parameters
        ----------
        embedding : array-like of shape (n_samples, n_features)
            The layers' columns side by side.

        labels : array-like of int or str of shape (n_samples,)
            Communities; -1 is noise.

        layers : mapping of {name: width} or sequence of int
            Columns of each layer in the embedding.

        n_neighbors : int, default=15
            Number of neighbours looked at, at least 1.

        random_state : int, RandomState instance or None, default=0
            Determines the members that are looked at.

        ax : matplotlib Axes, default=None
            As in `plot`.

        Returns
        -------
        display : LayerAgreementDisplay

        Raises
        ------
        ValueError
            If the embedding, labels and layers do not fit, or there is no community.

        ImportError
            If matplotlib is not installed.
        """
        pyplot()  # told before the work
        numbered = number_labels(labels)
        if not numbered.values:
            raise ValueError(no_community("its layers"))
        found = layer_agreement(
            embedding,
            labels,
            layers,
            n_neighbors=n_neighbors,
            random_state=random_state,
        )
        return cls(found, numbered.places).plot(ax)

    def plot(self, ax: Any = None, *, cmap: Any = "viridis") -> Self:
        """Draw the heat map.

        Parameters
        ----------
        ax : matplotlib Axes, default=None
            Where to draw; in a new figure if None.

        cmap : str or matplotlib Colormap, default="viridis"
            Colours from 0, or the lowest value below, to the highest value.

        Returns
        -------
        display : LayerAgreementDisplay

        Raises
        ------
        ValueError
            If there is no layer or no community, or layers differ in communities.

        ImportError
            If matplotlib is not installed.
        """
        columns = [np.asarray(of, np.float64) for of in self.agreement.values()]
        if not columns or columns[0].size == 0:
            raise ValueError(no_community("its layers"))
        if any(of.shape != (columns[0].size,) for of in columns):
            raise ValueError(
                "agreement must have one number per community for every layer; got "
                f"shapes {[of.shape for of in columns]}."
            )
        if self.communities is not None and len(self.communities) != columns[0].size:
            raise ValueError(
                "communities must give one label for each number of a layer; got "
                f"{len(self.communities)} for {columns[0].size}."
            )
        values = np.column_stack(columns)
        n_rows, n_layers = values.shape
        size = (np.clip(1.8 + 0.4 * n_layers, 3.6, 12), np.clip(1 + 0.2 * n_rows, 3, 9))
        low, high = np.nanmin(values, initial=0.0), np.nanmax(values, initial=0.0)
        self.figure_, self.ax_, self.image_, self.colorbar_ = heat_map(
            ax,
            size,
            np.ma.masked_invalid(values),
            range(n_rows) if self.communities is None else self.communities,
            "Agreement above chance",
            cmap,
            (low, high or 1.0),
        )
        # Shows where there is no value.
        self.ax_.patch.set(facecolor="#e4e4e4", edgecolor=QUIET_COLOR, hatch="////")
        ticks = thinned(list(self.agreement))
        self.ax_.set_xticks(*ticks, rotation=45, ha="right", fontsize=8)
        return self
