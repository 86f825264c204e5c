"""Bars of the communities' sizes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Self

import numpy as np

from skleiden._figures import (
    MOST_TICKS,
    SMALL,
    figure_and_axes,
    thinned,
    write_above,
)
from skleiden._fitting import fitted_labelling
from skleiden._palette import LIGHT, colors_of
from skleiden.inspection._members import LabelsLike, number_labels

# Bars that have room for their heights.
_MOST_BAR_LABELS = 16


class CommunitySizesDisplay:
    """Bars of the communities' sizes, largest first, and of the noise.

    A bar has the colour of its community on the map.

    Make one with `from_estimator` or `from_predictions`. If there is more than twice as
    much noise as the largest community has members, the bar of the noise is cut off,
    and the number above it tells its height.

    Parameters
    ----------
    sizes : array-like of int of shape (n_clusters,)
        Number of members of each community; communities without any are left out.

    n_noise : int, default=0
        Number of rows in no community.

    communities : sequence of int or str of length n_clusters, default=None
        Labels of the communities; their numbers if None.

    Attributes
    ----------
    bars_ : matplotlib BarContainer
        Bars of the communities, largest first, ties by label.

    noise_bar_ : matplotlib BarContainer or None
        The grey bar of the noise; None if there is no noise.

    ax_ : matplotlib Axes
        Where it is drawn.

    figure_ : matplotlib Figure
        The figure with these axes.

    See Also
    --------
    skleiden.inspection.summarize : The numbers.

    Examples
    --------
    >>> from skleiden.plotting import CommunitySizesDisplay
    >>> display = CommunitySizesDisplay.from_predictions([1, 0, 1, 1, -1])
    >>> [int(bar.get_height()) for bar in display.bars_]
    [3, 1]
    """

    def __init__(
        self,
        sizes: Sequence[int] | np.ndarray,
        n_noise: int = 0,
        communities: Sequence[int] | Sequence[str] | None = None,
    ) -> None:
        self.sizes = sizes
        self.n_noise = n_noise
        self.communities = communities

    @classmethod
    def from_estimator(cls, estimator: Any, *, ax: Any = None) -> Self:
        """Plot the sizes of a fitted estimator's communities.

        Parameters
        ----------
        estimator : estimator
            A fitted clusterer, a pipeline that ends in one, or a `StableLeiden`.

        ax : matplotlib Axes, default=None
            As in `plot`.

        Returns
        -------
        display : CommunitySizesDisplay

        Raises
        ------
        TypeError
            If the estimator has no labels.

        ImportError
            If matplotlib is not installed.
        """
        return cls.from_predictions(fitted_labelling(estimator).labels_, ax=ax)

    @classmethod
    def from_predictions(cls, labels: LabelsLike, *, ax: Any = None) -> Self:
        """Plot the sizes of communities that are given as labels.

        Parameters
        ----------
        labels : array-like of int or str of shape (n_samples,)
            Communities; -1 is noise.

        ax : matplotlib Axes, default=None
            As in `plot`.

        Returns
        -------
        display : CommunitySizesDisplay

        Raises
        ------
        ValueError
            If labels are not one-dimensional, strings or integers of at least -1.

        ImportError
            If matplotlib is not installed.
        """
        found = number_labels(labels)
        n_noise = int(np.count_nonzero(found.numbers < 0))
        return cls(found.sizes, n_noise, found.values).plot(ax)

    def plot(self, ax: Any = None) -> Self:
        """Draw the bars.

        Parameters
        ----------
        ax : matplotlib Axes, default=None
            Where to draw; in a new figure if None.

        Returns
        -------
        display : CommunitySizesDisplay

        Raises
        ------
        ValueError
            If sizes are not one-dimensional numbers of at least 0, or there are more or
            fewer labels of communities than sizes.

        ImportError
            If matplotlib is not installed.
        """
        sizes = np.asarray(self.sizes)
        if sizes.ndim != 1 or sizes.min(initial=0) < 0 or self.n_noise < 0:
            raise ValueError(
                "sizes must be one number of at least 0 per community, and n_noise a "
                f"number of at least 0; got sizes {self.sizes!r} and n_noise "
                f"{self.n_noise!r}."
            )
        if self.communities is not None and len(self.communities) != sizes.size:
            raise ValueError(
                "communities must give one label for each size; got "
                f"{len(self.communities)} for {sizes.size}."
            )
        order = np.argsort(-sizes, kind="stable")
        order = order[sizes[order] > 0]
        n = order.size
        self.figure_, self.ax_ = figure_and_axes(ax, (min(4 + 0.12 * n, 8), 3.6))
        # Of very many, bars touch: gaps between them would flicker.
        gap = 0.2 if n <= 2 * MOST_TICKS else 0.0
        labels = np.arange(sizes.size) if self.communities is None else self.communities
        named = [labels[place] for place in order]
        are_numbers = all(isinstance(label, (int, np.integer)) for label in named)
        tones = np.array(named, dtype=np.int64) if are_numbers else order
        self.bars_ = self.ax_.bar(
            np.arange(n), sizes[order], 1 - gap, color=colors_of(tones)
        )
        self.noise_bar_ = None
        ticks, names = thinned(named)
        if self.n_noise:
            width = max(1 - gap, 0.02 * n)
            place = n - 0.5 + 1.5 * width
            self.noise_bar_ = self.ax_.bar(
                [place], [self.n_noise], width, color=LIGHT.noise
            )
            ticks, names = np.append(ticks, place), [*names, "noise"]
            top = self.n_noise
            if top > 2 * sizes.max(initial=0) > 0:
                top = 1.5 * sizes.max()
                self.ax_.set_ylim(0, top)
            write_above(self.ax_, str(self.n_noise), (place, top))
        if n <= _MOST_BAR_LABELS:
            self.ax_.bar_label(self.bars_, **SMALL)
        self.ax_.set_xticks(ticks, names, fontsize=8 if n <= _MOST_BAR_LABELS else 7)
        self.ax_.tick_params(axis="x", length=0 if n <= MOST_TICKS else 3)
        self.ax_.margins(x=0.02)
        self.ax_.set(xlabel="Community", ylabel="Members")
        self.ax_.spines[["top", "right"]].set_visible(False)
        return self
