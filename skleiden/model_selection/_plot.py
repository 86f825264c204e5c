"""The table of a resolution profile, as four panels."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Self

import numpy as np

from skleiden._figures import MAIN_COLOR, QUIET_COLOR, SECOND_COLOR, pyplot, write_above

_STABILITY_COLUMNS = ("resolution", "stability", "worst_pair", "null", "above_null")
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
        Resolutions to mark.

    Attributes
    ----------
    axes_ : ndarray of 4 matplotlib Axes
        Of stability, net information, communities, and the largest community.

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
    >>> embedding = MultiLayerTfidfSketcher(random_state=0).fit_transform(stack)
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
        for mask, face, label in (
            (table["above_null"], MAIN_COLOR, "above the null"),
            (~table["above_null"], "white", "not above it"),
        ):
            if mask.any():
                ax.scatter(
                    x[mask],
                    stability[mask],
                    s=24,
                    color=face,
                    edgecolors=MAIN_COLOR,
                    zorder=3,
                    label=label,
                )
        for level in self.levels:
            line = ax.get_xaxis_transform()
            write_above(ax, f"{level:.3g}", (level, 1), xycoords=line)
        lowest = min(table["worst_pair"].min(), np.nanmin(table["null"], initial=0.0))
        ax.set(ylabel="Stability (ARI)", ylim=(lowest - 0.04, 1.04))


def _resolution_axis(ax: Any, resolutions: np.ndarray) -> None:
    """Make the axis logarithmic, with plain numbers."""
    from matplotlib.ticker import LogLocator, NullFormatter

    ax.set_xscale("log")
    decades = np.log10(resolutions.max() / resolutions.min())
    ax.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5) if decades < 3 else (1,)))
    ax.xaxis.set_major_formatter("{x:g}")
    ax.xaxis.set_minor_formatter(NullFormatter())
    ax.spines[["top", "right"]].set_visible(False)
