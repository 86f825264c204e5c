"""Map of the graph in the plane."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Self

import numpy as np

from skleiden._figures import figure_and_axes, pyplot
from skleiden._fitting import fitted_clusterer
from skleiden._palette import LIGHT, colors_of
from skleiden._text import encodable
from skleiden.inspection._graph import CommunityMap, community_map
from skleiden.inspection._members import (
    LabelsLike,
    check_positive_integer,
    number_labels,
)

# Share of a map's area that its points would cover side by side, and the least and the
# largest area of one, in square points.
_POINT_COVER = 0.13
_POINT_AREAS = (2.0, 40.0)

# Beyond this distance on a map all members are equally far from a place.
_REACH = 0.1

# Members of a community among which a place for its number is sought.
_MOST_PLACES = 400


class CommunityMapDisplay:
    """The graph in the plane, each row a point in its community's colour.

    Make one with `from_estimator` or `from_predictions`.

    Parameters
    ----------
    map : CommunityMap
        Rows and their positions, see :func:`skleiden.inspection.community_map`.

    labels : array-like of int or str of shape (n_samples,)
        Communities of all rows, shown or not; -1 is noise.

    Attributes
    ----------
    rows_ : ndarray of shape (n_shown,)
        Rows that are shown.

    points_ : matplotlib PathCollection
        Points of the rows that are in a community, in row order.

    noise_points_ : matplotlib PathCollection
        The grey points of the noise, below all others.

    texts_ : dict of {int or str: matplotlib Text}
        The numbers, or names, of communities. The largest communities are written
        first. A name that would cover another gives way to the number, and a number
        that would is left out.

    ax_ : matplotlib Axes
        Where it is drawn.

    figure_ : matplotlib Figure
        The figure with these axes.

    See Also
    --------
    skleiden.inspection.community_map : The layout.

    Examples
    --------
    >>> from skleiden import MultiLayerTfidfSketcher, MutualKNNLeiden
    >>> from skleiden.datasets import make_layered_activations
    >>> from skleiden.plotting import CommunityMapDisplay
    >>> stack, _ = make_layered_activations(600, n_communities=4, random_state=0)
    >>> sketcher = MultiLayerTfidfSketcher(layer_weights=None, random_state=0)
    >>> embedding = sketcher.fit_transform(stack)
    >>> clusterer = MutualKNNLeiden(random_state=0).fit(embedding)
    >>> display = CommunityMapDisplay.from_estimator(clusterer, max_rows=300)
    >>> display.rows_.size, sorted(display.texts_)
    (300, [0, 1, 2, 3])
    """

    def __init__(self, map: CommunityMap, labels: LabelsLike) -> None:  # noqa: A002
        self.map = map
        self.labels = labels

    @classmethod
    def from_estimator(cls, estimator: Any, **options: Any) -> Self:
        """Plot a map of a fitted estimator's graph.

        Parameters
        ----------
        estimator : estimator
            A fitted `MutualKNNLeiden`, or a pipeline or `StableLeiden` of one.

        **options
            As in `from_predictions`: `max_rows`, `random_state`, `names`,
            `min_points` and `ax`.

        Returns
        -------
        display : CommunityMapDisplay

        Raises
        ------
        TypeError
            If the estimator has no graph.

        ImportError
            If matplotlib is not installed.
        """
        clusterer = fitted_clusterer(estimator)
        return cls.from_predictions(
            clusterer.affinity_matrix_, clusterer.labels_, **options
        )

    @classmethod
    def from_predictions(
        cls,
        affinity: Any,
        labels: LabelsLike,
        *,
        max_rows: int = 3000,
        random_state: int | np.random.RandomState | None = 0,
        names: Mapping[Any, str] | None = None,
        min_points: int = 5,
        ax: Any = None,
    ) -> Self:
        """Plot a map of a graph whose communities are given as labels.

        Parameters
        ----------
        affinity : sparse matrix of shape (n_samples, n_samples)
            A symmetric graph.

        labels : array-like of int or str of shape (n_samples,)
            Communities; -1 is noise.

        max_rows : int, default=3000
            Largest number of rows shown, at least 1; if there are more, a random
            sample.

        random_state : int, RandomState instance or None, default=0
            Determines the sample and the layout.

        names, min_points, ax :
            As in `plot`.

        Returns
        -------
        display : CommunityMapDisplay

        Raises
        ------
        ValueError
            If the graph is not sparse, square and symmetric, or there is not one label
            per row.

        ImportError
            If matplotlib is not installed.
        """
        pyplot()  # told before the work
        n_labels = number_labels(labels).numbers.size
        layout = community_map(affinity, max_rows=max_rows, random_state=random_state)
        if n_labels != affinity.shape[0]:
            raise ValueError(
                f"labels must give one label per row; got {n_labels} labels for a "
                f"graph of {affinity.shape[0]} rows."
            )
        return cls(layout, labels).plot(ax, names=names, min_points=min_points)

    def plot(
        self,
        ax: Any = None,
        *,
        names: Mapping[Any, str] | None = None,
        min_points: int = 5,
    ) -> Self:
        """Draw the map.

        Parameters
        ----------
        ax : matplotlib Axes, default=None
            Where to draw; in a new figure if None.

        names : mapping of {int or str: str}, default=None
            Text to write on a community instead of its label.

        min_points : int, default=5
            Number of points, at least 1, that a community must have on the map to have
            its number written there.

        Returns
        -------
        display : CommunityMapDisplay

        Raises
        ------
        TypeError
            If there is no map.

        ValueError
            If the map is empty or has rows without a label, or `min_points` is below
            1.

        ImportError
            If matplotlib is not installed.
        """
        if not isinstance(self.map, CommunityMap):
            raise TypeError(
                "map must be a CommunityMap, as community_map makes it; got "
                f"{type(self.map).__name__}."
            )
        check_positive_integer(min_points, "min_points")
        numbered, rows = number_labels(self.labels), np.asarray(self.map.rows)
        labels, tones = numbered.numbers, numbered.place_of_rows
        positions = np.asarray(self.map.positions)
        if rows.size == 0 or positions.shape != (rows.size, 2):
            raise ValueError(
                "map must have two coordinates for each of at least one row; got "
                f"{rows.size} rows and positions of shape {positions.shape}."
            )
        if rows.max() >= labels.size:
            raise ValueError(
                "labels must give the community of every row of the data; got "
                f"{labels.size} labels for a map that shows row {rows.max()}."
            )
        extent = np.ptp(positions, axis=0)
        size = 6.8 * np.clip(extent / (extent.max() or 1.0), 0.5, 1)
        self.figure_, self.ax_ = figure_and_axes(ax, size)
        self.rows_, labels, tones = rows, labels[rows], tones[rows]
        _frame(self.ax_, positions)
        box = self.ax_.get_window_extent()
        area = box.width * box.height * (72 / self.figure_.dpi) ** 2
        placed = labels >= 0
        style = {
            "s": float(np.clip(_POINT_COVER * area / rows.size, *_POINT_AREAS)),
            "linewidths": 0,
        }
        self.noise_points_ = self.ax_.scatter(
            *positions[~placed].T, color=LIGHT.noise, zorder=1, **style
        )
        self.points_ = self.ax_.scatter(
            *positions[placed].T, color=colors_of(tones[placed]), zorder=2, **style
        )
        words = {
            label: str((names or {}).get(label, label)) for label in numbered.values
        }
        self.texts_ = self._write(positions, labels, numbered.values, words, min_points)
        return self

    def _write(
        self,
        positions: np.ndarray,
        labels: np.ndarray,
        values: Sequence[Any],
        names: Mapping[Any, str],
        min_points: int,
    ) -> dict[Any, Any]:
        """Write on the communities, the largest first, where there is room."""
        from matplotlib.patheffects import withStroke

        sizes = np.bincount(labels[labels >= 0])
        font_size = 9.0 if np.count_nonzero(sizes >= min_points) <= 40 else 7.0
        box, limits = self.ax_.get_window_extent(), self.ax_.viewLim
        per_pixel = max(limits.width / box.width, limits.height / box.height)
        # About the width and height of a letter, in units of the map.
        letter = np.array([0.65, 1.1]) * font_size * self.figure_.dpi / 72 * per_pixel
        centers, halves, texts = np.empty((0, 2)), np.empty((0, 2)), {}
        for label in np.argsort(-sizes, kind="stable"):
            if sizes[label] < min_points:
                break
            places = _densest_first(positions[labels == label])
            given = encodable(names[values[label]])
            for text in dict.fromkeys([given, encodable(str(values[label]))]):
                half = letter * [len(text), 1] / 2
                apart = np.abs(places[:, None] - centers) >= half + halves
                free = places[apart.any(axis=2).all(axis=1)]
                if free.size == 0:
                    continue
                centers = np.vstack([centers, free[:1]])
                halves = np.vstack([halves, half])
                texts[values[label]] = self.ax_.text(
                    *free[0],
                    text,
                    ha="center",
                    va="center",
                    fontsize=font_size,
                    fontweight="bold",
                    path_effects=[withStroke(linewidth=2, foreground="white")],
                    zorder=3,
                )
                break
        return texts


def _frame(ax: Any, positions: np.ndarray) -> None:
    """Fit axes without ticks around positions, with one scale for both directions."""
    margin = 0.04 * np.ptp(positions, axis=0).max() or 1.0
    ax.set_xlim(positions[:, 0].min() - margin, positions[:, 0].max() + margin)
    ax.set_ylim(positions[:, 1].min() - margin, positions[:, 1].max() + margin)
    ax.set(aspect="equal", xticks=[], yticks=[])
    ax.spines[:].set_visible(False)


def _densest_first(points: np.ndarray) -> np.ndarray:
    """Order places for a community's number: half of its points, densest first."""
    points = points[:: -(-len(points) // _MOST_PLACES)]
    distances = np.linalg.norm(points[:, None] - points, axis=2)
    total = np.minimum(distances, _REACH).sum(axis=1)
    return points[np.argsort(total, kind="stable")[: -(-len(points) // 2)]]
