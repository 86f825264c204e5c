"""The tables of resolution profiles and layer profiles, drawn in panels."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Self

import numpy as np

from skleiden._figures import (
    MAIN_COLOR,
    QUIET_COLOR,
    SECOND_COLOR,
    pyplot,
    thinned,
    write_above,
)

_STABILITY_COLUMNS = ("resolution", "stability", "worst_pair", "null", "above_null")
_LAYER_COLUMNS = ("layer", "replicability", "null", "above_null", "n_communities")
_OTHER_PANELS = {
    "net_information": "Net information (nats)",
    "n_clusters": "Communities",
    "largest_fraction": "Share of the largest",
}


class ResolutionProfileDisplay:
    """Stability, information and sizes at each resolution, in four panels.

    Make one with `from_profile`.

    Parameters
    ----------
    table : mapping of {str: array-like of shape (n_resolutions,)}
        The table of a :class:`~skleiden.model_selection.ResolutionProfile`.

    levels : sequence of float, default=()
        Resolutions that are marked.

    Attributes
    ----------
    axes_ : ndarray of 4 matplotlib Axes
        The panels of stability, net information, communities, and the largest
        community.

    figure_ : matplotlib Figure
        The figure with these axes.

    See Also
    --------
    skleiden.model_selection.resolution_profile : Makes the profile.

    Examples
    --------
    >>> from skleiden import MultiLayerTfidfSketcher, MutualKNNLeiden
    >>> from skleiden.datasets import make_layered_activations
    >>> from skleiden.model_selection import resolution_profile
    >>> from skleiden.plotting import ResolutionProfileDisplay
    >>> stack, _ = make_layered_activations(600, n_communities=4, random_state=0)
    >>> sketcher = MultiLayerTfidfSketcher(layer_weights=None, random_state=0)
    >>> embedding = sketcher.fit_transform(stack)
    >>> profile = resolution_profile(
    ...     MutualKNNLeiden(), embedding, resolutions=[0.1, 1, 8], n_runs=3
    ... )
    >>> display = ResolutionProfileDisplay.from_profile(profile)
    >>> [ax.get_ylabel() for ax in display.axes_][:2]
    ['Stability (ARI)', 'Net information (nats)']
    """

    def __init__(self, table: Mapping[str, Any], levels: Sequence[float] = ()) -> None:
        self.table = table
        self.levels = levels

    @classmethod
    def from_profile(cls, profile: Any, *, axes: Any = None) -> Self:
        """Plot a profile.

        Parameters
        ----------
        profile : ResolutionProfile
            As :func:`~skleiden.model_selection.resolution_profile` returns it.

        axes : array-like of 4 matplotlib Axes, default=None
            Where to draw; in a new figure if None.

        Returns
        -------
        display : ResolutionProfileDisplay

        Raises
        ------
        TypeError
            If `profile` is not a ResolutionProfile.

        ValueError
            If there are not four axes.

        ImportError
            If matplotlib is not installed.
        """
        if not (hasattr(profile, "table") and hasattr(profile, "levels")):
            raise TypeError(
                "profile must be a ResolutionProfile, as resolution_profile returns "
                f"it; got {type(profile).__name__}."
            )
        return cls(profile.table, profile.levels).plot(axes)

    def plot(self, axes: Any = None) -> Self:
        """Draw the four panels.

        Parameters
        ----------
        axes : array-like of 4 matplotlib Axes, default=None
            Where to draw; in a new figure if None.

        Returns
        -------
        display : ResolutionProfileDisplay

        Raises
        ------
        ValueError
            If the table lacks a column, or there are not four axes.

        ImportError
            If matplotlib is not installed.
        """
        columns = [*_STABILITY_COLUMNS, *_OTHER_PANELS]
        missing = [name for name in columns if name not in self.table]
        if missing:
            raise ValueError(
                f"table must be that of a ResolutionProfile; it lacks {missing}."
            )
        if axes is None:
            self.figure_, self.axes_ = pyplot().subplots(
                2, 2, figsize=(9, 5.4), sharex=True, layout="constrained"
            )
            self.axes_ = self.axes_.ravel()
        else:
            self.axes_ = np.asarray(axes, dtype=object).ravel()
            if self.axes_.size != 4:
                raise ValueError(f"axes must be 4 Axes; got {self.axes_.size}.")
            self.figure_ = self.axes_[0].figure
        table = {name: np.asarray(self.table[name]) for name in columns}
        stability, *others = self.axes_
        self._draw_stability(stability, table)
        x = table["resolution"]
        for ax, (name, label) in zip(others, _OTHER_PANELS.items(), strict=True):
            ax.plot(x, table[name], color=MAIN_COLOR, marker="o", ms=4)
            ax.set_ylabel(label)
        others[0].axhline(0, color=QUIET_COLOR, linewidth=0.8)
        for ax in others[1:]:
            ax.set_ylim(0, None)
        for ax in self.axes_:
            _resolution_axis(ax, x)
            for level in self.levels:
                ax.axvline(
                    level,
                    color=QUIET_COLOR,
                    linewidth=0.9,
                    linestyle=":",
                    label="level" if level == self.levels[0] else None,
                )
        for ax in self.axes_[2:] if axes is None else self.axes_:
            ax.set_xlabel("Resolution")
        stability.legend(fontsize=7, edgecolor="none", framealpha=0.9)
        return self

    def _draw_stability(self, ax: Any, table: Mapping[str, np.ndarray]) -> None:
        x, stability = table["resolution"], table["stability"]
        ax.fill_between(
            x, table["worst_pair"], stability, color=MAIN_COLOR, alpha=0.2, linewidth=0
        )
        ax.plot(x, stability, color=MAIN_COLOR, label="mean of pairs")
        ax.plot(
            x,
            table["worst_pair"],
            color=MAIN_COLOR,
            linewidth=0.9,
            linestyle="--",
            label="worst pair",
        )
        if np.isfinite(table["null"]).any():
            null = {"color": SECOND_COLOR, "marker": "s", "ms": 3}
            ax.plot(x, table["null"], label="null: permuted data", **null)
        _mark_above_null(ax, x, stability, table["above_null"])
        for level in self.levels:
            line = ax.get_xaxis_transform()
            write_above(ax, f"{level:.3g}", (level, 1), xycoords=line)
        lowest = min(table["worst_pair"].min(), np.nanmin(table["null"], initial=0.0))
        ax.set(ylabel="Stability (ARI)", ylim=(lowest - 0.04, 1.04))


class LayerProfileDisplay:
    """Replicability and communities of each layer, and how far layers agree.

    Make one with `from_profile`.

    Parameters
    ----------
    table : mapping of {str: array-like of shape (n_layers,)}
        The table of a :class:`~skleiden.model_selection.LayerProfile`.

    agreement : array-like of shape (n_layers, n_layers)
        The agreement of layers of that profile.

    Attributes
    ----------
    axes_ : ndarray of 3 matplotlib Axes
        The panels of replicability, communities, and agreement.

    image_ : matplotlib AxesImage
        The heat map of agreement, layers by layers.

    figure_ : matplotlib Figure
        The figure with these axes.

    See Also
    --------
    skleiden.model_selection.layer_profile : Makes the profile.

    Examples
    --------
    >>> from skleiden.datasets import make_layered_activations
    >>> from skleiden.model_selection import layer_profile
    >>> from skleiden.plotting import LayerProfileDisplay
    >>> stack, _ = make_layered_activations(
    ...     300, n_layers=2, n_communities=4, random_state=0
    ... )
    >>> profile = layer_profile(None, stack, n_splits=2, n_permutations=1)
    >>> display = LayerProfileDisplay.from_profile(profile)
    >>> [ax.get_ylabel() for ax in display.axes_][:2]
    ['Replicability (nats)', 'Communities']
    """

    def __init__(self, table: Mapping[str, Any], agreement: Any) -> None:
        self.table = table
        self.agreement = agreement

    @classmethod
    def from_profile(cls, profile: Any, *, axes: Any = None) -> Self:
        """Plot a profile.

        Parameters
        ----------
        profile : LayerProfile
            As :func:`~skleiden.model_selection.layer_profile` returns it.

        axes : array-like of 3 matplotlib Axes, default=None
            Where to draw; in a new figure if None.

        Returns
        -------
        display : LayerProfileDisplay

        Raises
        ------
        TypeError
            If `profile` is not a LayerProfile.

        ValueError
            If there are not three axes.

        ImportError
            If matplotlib is not installed.
        """
        if not (hasattr(profile, "table") and hasattr(profile, "agreement")):
            raise TypeError(
                "profile must be a LayerProfile, as layer_profile returns it; got "
                f"{type(profile).__name__}."
            )
        return cls(profile.table, profile.agreement).plot(axes)

    def plot(self, axes: Any = None) -> Self:
        """Draw the three panels.

        Parameters
        ----------
        axes : array-like of 3 matplotlib Axes, default=None
            Where to draw; in a new figure if None.

        Returns
        -------
        display : LayerProfileDisplay

        Raises
        ------
        ValueError
            If the table lacks a column, or there are not three axes.

        ImportError
            If matplotlib is not installed.
        """
        missing = [name for name in _LAYER_COLUMNS if name not in self.table]
        if missing:
            raise ValueError(
                f"table must be that of a LayerProfile; it lacks {missing}."
            )
        if axes is None:
            self.figure_, self.axes_ = pyplot().subplots(
                1, 3, figsize=(11, 3.4), layout="constrained"
            )
        else:
            self.axes_ = np.asarray(axes, dtype=object).ravel()
            if self.axes_.size != 3:
                raise ValueError(f"axes must be 3 Axes; got {self.axes_.size}.")
            self.figure_ = self.axes_[0].figure
        table = {name: np.asarray(self.table[name]) for name in _LAYER_COLUMNS}
        replicability, communities, agreement = self.axes_
        x = np.arange(table["layer"].size)
        replicability.plot(x, table["replicability"], color=MAIN_COLOR)
        if np.isfinite(table["null"]).any():
            null = {"color": SECOND_COLOR, "marker": "s", "ms": 3}
            replicability.plot(x, table["null"], label="null: permuted columns", **null)
        _mark_above_null(replicability, x, table["replicability"], table["above_null"])
        replicability.axhline(0, color=QUIET_COLOR, linewidth=0.8)
        replicability.set_ylabel("Replicability (nats)")
        replicability.legend(fontsize=7, edgecolor="none", framealpha=0.9)
        communities.plot(x, table["n_communities"], color=MAIN_COLOR, marker="o", ms=4)
        communities.set(ylabel="Communities", ylim=(0, None))
        values = np.asarray(self.agreement, dtype=np.float64)
        self.image_ = agreement.imshow(
            values, "viridis", interpolation="nearest", vmin=0, vmax=1
        )
        self.figure_.colorbar(
            self.image_, ax=agreement, label="Agreement of layers (AMI)", fraction=0.05
        )
        ticks = thinned(table["layer"])
        agreement.set_yticks(*ticks, fontsize=8)
        for ax in self.axes_:
            ax.set_xticks(*ticks, rotation=45, ha="right", fontsize=8)
        for ax in self.axes_[:2]:
            ax.spines[["top", "right"]].set_visible(False)
        return self


def _mark_above_null(ax: Any, x: np.ndarray, y: np.ndarray, above: np.ndarray) -> None:
    """Mark values, filled where they are above their null."""
    for mask, face, label in (
        (above, MAIN_COLOR, "above the null"),
        (~above, "white", "not above it"),
    ):
        if mask.any():
            ax.scatter(
                x[mask],
                y[mask],
                s=24,
                color=face,
                edgecolors=MAIN_COLOR,
                zorder=3,
                label=label,
            )


def _resolution_axis(ax: Any, resolutions: np.ndarray) -> None:
    """Make the axis logarithmic, with plain numbers."""
    from matplotlib.ticker import LogLocator, NullFormatter

    ax.set_xscale("log")
    decades = np.log10(resolutions.max() / resolutions.min())
    ax.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5) if decades < 3 else (1,)))
    ax.xaxis.set_major_formatter("{x:g}")
    ax.xaxis.set_minor_formatter(NullFormatter())
    ax.spines[["top", "right"]].set_visible(False)
