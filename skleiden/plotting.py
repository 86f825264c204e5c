"""Figures of communities, as scikit-learn displays. Needs matplotlib."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from io import BytesIO
from itertools import groupby
from typing import Any, Self

import numpy as np

from skleiden._fitting import final_step, fitted_clusterer, fitted_sketcher
from skleiden._text import encodable
from skleiden.inspection import (
    CommunityMap,
    community_map,
    layer_agreement,
    prototypes,
    summarize,
    top_features,
)
from skleiden.inspection._members import check_labels, check_positive_integer

__all__ = [
    "CommunityMapDisplay",
    "CommunitySizesDisplay",
    "LayerAgreementDisplay",
    "PrototypeHeatmapDisplay",
    "ResolutionProfileDisplay",
    "community_colors",
    "png",
]

_NOISE_COLOR = "#c4c4c4"
_MAIN_COLOR = "#2f5d8c"
_SECOND_COLOR = "#c8553d"
_QUIET_COLOR = "#737373"
_SMALL = {"fontsize": 8, "color": _QUIET_COLOR}

# Colours of communities. Hues a golden angle apart never come back, but every fifth,
# eighth, 13th and so on are near; five lightnesses and two chromas keep these apart.
# None is lighter than a contrast of 3 with white allows.
_GOLDEN_ANGLE = 137.50776405003785
_FIRST_HUE = 30.0
_LIGHTNESS = np.array([0.40, 0.52, 0.58, 0.46, 0.64])
_CHROMA_SHARES = np.array([1.0, 0.6])
_MOST_CHROMA = 0.2

# From OKLab to the cube roots of cone responses, and from cone responses to linear RGB.
_LAB_TO_CONES = np.array(
    [
        [1.0, 0.3963377774, 0.2158037573],
        [1.0, -0.1055613458, -0.0638541728],
        [1.0, -0.0894841775, -1.2914855480],
    ]
)
_CONES_TO_RGB = np.array(
    [
        [4.0767416621, -3.3077115913, 0.2309699292],
        [-1.2684380046, 2.6097574011, -0.3413193965],
        [-0.0041960863, -0.7034186147, 1.7076147010],
    ]
)

# Share of a map's area that its points would cover side by side, and the least and the
# largest area of one, in square points.
_POINT_COVER = 0.13
_POINT_AREAS = (2.0, 40.0)

# Beyond this distance on a map all members are equally far from a place.
_REACH = 0.1

# Members of a community among which a place for its number is sought.
_MOST_PLACES = 400

# Bars that have room for their heights, and labels that an axis has room for.
_MOST_BAR_LABELS = 16
_MOST_TICKS = 32
_MOST_NEURON_TICKS = 80


def community_colors(n: int) -> np.ndarray:
    """Colours for communities, which can be told apart beyond twenty.

    Parameters
    ----------
    n : int
        How many, at least 0.

    Returns
    -------
    colors : ndarray of shape (n, 3)
        sRGB in [0, 1], with a contrast of at least 3 with white. A community's colour
        does not depend on how many there are.

    Raises
    ------
    ValueError
        If `n` is not an integer of at least 0.

    Notes
    -----
    Hues are a golden angle apart in OKLCH [1]_, with alternating lightness and chroma.
    Up to 30 colours the least distance between two is above .06 in OKLab, where about
    .02 can just be seen.

    References
    ----------
    .. [1] B. Ottosson, "A perceptual color space for image processing", 2020,
       https://bottosson.github.io/posts/oklab/

    Examples
    --------
    >>> from skleiden.plotting import community_colors
    >>> community_colors(3).round(2)
    array([[0.54, 0.03, 0.  ],
           [0.26, 0.46, 0.38],
           [0.59, 0.32, 0.84]])
    """
    if n != 0:
        check_positive_integer(n, "n")
    i = np.arange(n)
    lightness = _LIGHTNESS[i % _LIGHTNESS.size, None]
    hue = np.radians(_FIRST_HUE + _GOLDEN_ANGLE * i)[:, None]
    chroma = np.linspace(0, _MOST_CHROMA, 101)
    rgb = _oklch_to_linear_rgb(lightness, chroma, hue)
    # From grey on, colours are inside sRGB up to some chroma.
    inside = ((rgb >= 0) & (rgb <= 1)).all(axis=-1)
    most = chroma[inside.sum(axis=1) - 1] * _CHROMA_SHARES[i % _CHROMA_SHARES.size]
    rgb = np.clip(_oklch_to_linear_rgb(lightness, most[:, None], hue)[:, 0], 0, 1)
    return np.where(rgb <= 0.0031308, 12.92 * rgb, 1.055 * rgb ** (1 / 2.4) - 0.055)


def _oklch_to_linear_rgb(
    lightness: np.ndarray, chroma: np.ndarray, hue: np.ndarray
) -> np.ndarray:
    lab = np.stack(
        np.broadcast_arrays(lightness, chroma * np.cos(hue), chroma * np.sin(hue)),
        axis=-1,
    )
    return (lab @ _LAB_TO_CONES.T) ** 3 @ _CONES_TO_RGB.T


class CommunitySizesDisplay:
    """Bars of the communities' sizes, largest first, and of the noise.

    Make one with `from_estimator` or `from_predictions`. If there is more than twice as
    much noise as the largest community has members, its bar is cut off: the number
    above tells its height.

    Parameters
    ----------
    sizes : array-like of int of shape (n_clusters,)
        Members of each community; communities without any are left out.

    n_noise : int, default=0
        Rows in no community.

    Attributes
    ----------
    bars_ : matplotlib BarContainer
        Bars of the communities, largest first, ties by label.

    noise_bar_ : matplotlib BarContainer or None
        The grey bar of the noise; None where there is none.

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

    def __init__(self, sizes: Sequence[int] | np.ndarray, n_noise: int = 0) -> None:
        self.sizes = sizes
        self.n_noise = n_noise

    @classmethod
    def from_estimator(cls, estimator: Any, *, ax: Any = None) -> Self:
        """Plot the sizes of a fitted estimator's communities.

        Parameters
        ----------
        estimator : estimator
            A fitted clusterer, a pipeline that ends in one, or a `StableLeiden`.

        ax : matplotlib Axes, default=None
            Where to draw; in a new figure if None.

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
        return cls.from_predictions(_fitted_labels(estimator), ax=ax)

    @classmethod
    def from_predictions(
        cls, labels: Sequence[int] | np.ndarray, *, ax: Any = None
    ) -> Self:
        """Plot the sizes of communities that are given as labels.

        Parameters
        ----------
        labels : array-like of int of shape (n_samples,)
            Communities; -1 is noise.

        ax : matplotlib Axes, default=None
            Where to draw; in a new figure if None.

        Returns
        -------
        display : CommunitySizesDisplay

        Raises
        ------
        ValueError
            If labels are not one-dimensional integers of at least -1.

        ImportError
            If matplotlib is not installed.
        """
        summary = summarize(labels)
        return cls(summary.sizes, summary.n_noise).plot(ax)

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
            If sizes are not one-dimensional numbers of at least 0.

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
        order = np.argsort(-sizes, kind="stable")
        order = order[sizes[order] > 0]
        n = order.size
        self.figure_, self.ax_ = _axes(ax, (min(4 + 0.12 * n, 8), 3.6))
        # Of very many, bars touch: gaps between them would flicker.
        gap = 0.2 if n <= 2 * _MOST_TICKS else 0.0
        bars = self.ax_.bar(np.arange(n), sizes[order], 1 - gap, color=_MAIN_COLOR)
        self.bars_, self.noise_bar_ = bars, None
        ticks = _some(n, _MOST_TICKS)
        names = [str(label) for label in order[ticks]]
        if self.n_noise:
            width = max(1 - gap, 0.02 * n)
            place = n - 0.5 + 1.5 * width
            self.noise_bar_ = self.ax_.bar(
                [place], [self.n_noise], width, color=_NOISE_COLOR
            )
            ticks, names = np.append(ticks, place), [*names, "noise"]
            top = self.n_noise
            if top > 2 * sizes.max(initial=0) > 0:
                top = 1.5 * sizes.max()
                self.ax_.set_ylim(0, top)
            self.ax_.annotate(
                str(self.n_noise),
                (place, top),
                xytext=(0, 1),
                textcoords="offset points",
                ha="center",
                va="bottom",
                **_SMALL,
            )
        if n <= _MOST_BAR_LABELS:
            self.ax_.bar_label(self.bars_, **_SMALL)
        self.ax_.set_xticks(ticks, names, fontsize=8 if n <= _MOST_BAR_LABELS else 7)
        self.ax_.tick_params(axis="x", length=0 if n <= _MOST_TICKS else 3)
        self.ax_.margins(x=0.02)
        self.ax_.set(xlabel="Community", ylabel="Members")
        self.ax_.spines[["top", "right"]].set_visible(False)
        return self


class CommunityMapDisplay:
    """The graph in the plane, each row a point in its community's colour.

    Make one with `from_estimator` or `from_predictions`.

    Parameters
    ----------
    map : CommunityMap
        Rows and their positions, see :func:`skleiden.inspection.community_map`.

    labels : array-like of int of shape (n_samples,)
        Communities of all rows, shown or not; -1 is noise.

    Attributes
    ----------
    rows_ : ndarray of shape (n_shown,)
        Rows that are shown.

    points_ : matplotlib PathCollection
        Points of the rows in a community, in row order.

    noise_points_ : matplotlib PathCollection
        The grey points of the noise, below all others.

    texts_ : dict of {int: matplotlib Text}
        The numbers, or names, of communities. One that would cover another, of a
        larger community, is left out.

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
    >>> embedding = MultiLayerTfidfSketcher(random_state=0).fit_transform(stack)
    >>> clusterer = MutualKNNLeiden(random_state=0).fit(embedding)
    >>> display = CommunityMapDisplay.from_estimator(clusterer, max_rows=300)
    >>> display.rows_.size, sorted(display.texts_)
    (300, [0, 1, 2, 3])
    """

    def __init__(self, map: CommunityMap, labels: Sequence[int] | np.ndarray) -> None:  # noqa: A002
        self.map = map
        self.labels = labels

    @classmethod
    def from_estimator(
        cls,
        estimator: Any,
        *,
        max_rows: int = 3000,
        random_state: int | np.random.RandomState | None = 0,
        names: Mapping[int, str] | None = None,
        min_points: int = 5,
        ax: Any = None,
    ) -> Self:
        """Plot a map of a fitted estimator's graph.

        Parameters
        ----------
        estimator : estimator
            A fitted `MutualKNNLeiden`, or a pipeline or `StableLeiden` of one.

        max_rows : int, default=3000
            Rows shown, at least 1; of more, a random sample.

        random_state : int, RandomState instance or None, default=0
            Determines the sample and the layout.

        names, min_points, ax :
            As in `plot`.

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
            clusterer.affinity_matrix_,
            clusterer.labels_,
            max_rows=max_rows,
            random_state=random_state,
            names=names,
            min_points=min_points,
            ax=ax,
        )

    @classmethod
    def from_predictions(
        cls,
        affinity: Any,
        labels: Sequence[int] | np.ndarray,
        *,
        max_rows: int = 3000,
        random_state: int | np.random.RandomState | None = 0,
        names: Mapping[int, str] | None = None,
        min_points: int = 5,
        ax: Any = None,
    ) -> Self:
        """Plot a map of a graph whose communities are given as labels.

        Parameters
        ----------
        affinity : sparse matrix of shape (n_samples, n_samples)
            A symmetric graph.

        labels : array-like of int of shape (n_samples,)
            Communities; -1 is noise.

        max_rows : int, default=3000
            Rows shown, at least 1; of more, a random sample.

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
        _matplotlib()  # told before the work
        labels = check_labels(labels)
        layout = community_map(affinity, max_rows=max_rows, random_state=random_state)
        if labels.size != affinity.shape[0]:
            raise ValueError(
                f"labels must give one label per row; got {labels.size} labels for a "
                f"graph of {affinity.shape[0]} rows."
            )
        return cls(layout, labels).plot(ax, names=names, min_points=min_points)

    def plot(
        self,
        ax: Any = None,
        *,
        names: Mapping[int, str] | None = None,
        min_points: int = 5,
    ) -> Self:
        """Draw the map.

        Parameters
        ----------
        ax : matplotlib Axes, default=None
            Where to draw; in a new figure if None.

        names : mapping of {int: str}, default=None
            What to write on a community instead of its number.

        min_points : int, default=5
            Points a community must have on the map to have its number written there,
            at least 1.

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
        labels, rows = check_labels(self.labels), np.asarray(self.map.rows)
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
        self.figure_, self.ax_ = _axes(ax, size)
        self.rows_, labels = rows, labels[rows]
        _frame(self.ax_, positions)
        box = self.ax_.get_window_extent()
        area = box.width * box.height * (72 / self.figure_.dpi) ** 2
        placed = labels >= 0
        colors = community_colors(int(labels.max(initial=-1)) + 1)
        style = {
            "s": float(np.clip(_POINT_COVER * area / rows.size, *_POINT_AREAS)),
            "linewidths": 0,
        }
        self.noise_points_ = self.ax_.scatter(
            *positions[~placed].T, color=_NOISE_COLOR, zorder=1, **style
        )
        self.points_ = self.ax_.scatter(
            *positions[placed].T, color=colors[labels[placed]], zorder=2, **style
        )
        self.texts_ = self._write(positions, labels, names or {}, min_points)
        return self

    def _write(
        self,
        positions: np.ndarray,
        labels: np.ndarray,
        names: Mapping[int, str],
        min_points: int,
    ) -> dict[int, Any]:
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
            text = encodable(str(names.get(int(label), label)))
            half = letter * [len(text), 1] / 2
            places = _densest_first(positions[labels == label])
            apart = np.abs(places[:, None] - centers) >= half + halves
            free = places[apart.any(axis=2).all(axis=1)]
            if free.size == 0:
                continue
            centers, halves = np.vstack([centers, free[:1]]), np.vstack([halves, half])
            texts[int(label)] = self.ax_.text(
                *free[0],
                text,
                ha="center",
                va="center",
                fontsize=font_size,
                fontweight="bold",
                path_effects=[withStroke(linewidth=2, foreground="white")],
                zorder=3,
            )
        return texts


class PrototypeHeatmapDisplay:
    """Mean activation of the top neurons in each community, as a heat map.

    Make one with `from_estimator` or `from_predictions`.

    Parameters
    ----------
    values : array-like of shape (n_shown, n_columns)
        Means of z-scores.

    communities : sequence of int of length n_shown
        Labels of the communities shown.

    neurons : sequence of (layer, neuron) of length n_columns
        Neurons shown, those of a layer side by side.

    Attributes
    ----------
    image_ : matplotlib AxesImage
        The heat map.

    colorbar_ : matplotlib Colorbar
        Its scale.

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
        communities: Sequence[int],
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
        n_features: int = 3,
        max_communities: int = 20,
        layers: Mapping[str, int] | Sequence[int] | None = None,
        ax: Any = None,
    ) -> Self:
        """Plot the top neurons of a fitted estimator's communities.

        Parameters
        ----------
        estimator : estimator
            A fitted clusterer, a pipeline that ends in one, or a `StableLeiden`.

        X : LayerStack, mapping of {name: matrix}, or matrix
            What it was fitted on, unsketched.

        n_features, max_communities :
            As in `from_predictions`.

        layers : sequence of int, mapping of {name: width} or None, default=None
            The layers' widths where X is one matrix with the layers side by side. If
            None, those that a `MultiLayerTfidfSketcher` in the estimator knows.

        ax : matplotlib Axes, default=None
            Where to draw; in a new figure if None.

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
        labels, sketcher = _fitted_labels(estimator), fitted_sketcher(estimator)
        if layers is None and sketcher is not None:
            layers = sketcher._by_layer(sketcher.layer_widths_)
        return cls.from_predictions(
            X,
            labels,
            n_features=n_features,
            max_communities=max_communities,
            layers=layers,
            ax=ax,
        )

    @classmethod
    def from_predictions(
        cls,
        X: Any,
        labels: Sequence[int] | np.ndarray,
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

        labels : array-like of int of shape (n_samples,)
            Communities; -1 is noise.

        n_features : int, default=3
            Top neurons of each community, at least 1. All communities are shown in the
            top neurons of all.

        max_communities : int, default=20
            Communities shown, the largest ones, at least 1.

        layers : sequence of int, mapping of {name: width} or None, default=None
            The layers' widths where X is one matrix with the layers side by side.

        ax : matplotlib Axes, default=None
            Where to draw; in a new figure if None.

        Returns
        -------
        display : PrototypeHeatmapDisplay

        Raises
        ------
        ValueError
            If labels are not one integer per row, there is no community, no neuron
            sets one apart, or a number is below 1.

        ImportError
            If matplotlib is not installed.
        """
        _matplotlib()  # told before the work
        check_positive_integer(max_communities, "max_communities")
        sizes = summarize(labels).sizes
        if sizes.size == 0:
            raise ValueError(_no_community("its prototypes"))
        largest = np.argsort(-sizes, kind="stable")[:max_communities]
        shown = np.sort(largest[sizes[largest] > 0])
        top = top_features(X, labels, n_features=n_features, layers=layers)
        means = prototypes(X, labels, standardize=True, layers=layers)
        chosen = {
            (feature.layer, feature.neuron)
            for label in shown.tolist()
            for feature in top[label]
        }
        if not chosen:
            raise ValueError(
                "No neuron sets any of the communities apart: there is nothing to "
                f"show. Got {shown.size} of {sizes.size} communities; check labels "
                "and X, or look at the prototypes themselves."
            )
        layer_order = {name: i for i, name in enumerate(means)}
        neurons = sorted(chosen, key=lambda pair: (layer_order[pair[0]], pair[1]))
        values = np.column_stack([means[name][shown, j] for name, j in neurons])
        return cls(values, shown.tolist(), neurons).plot(ax)

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
            Value of the strongest colour, above 0. If None, what 98% of the values do
            not exceed, so that a few do not make the others pale.

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
        self.figure_, self.ax_ = _axes(ax, size)
        self.image_ = self.ax_.imshow(
            values,
            cmap=cmap,
            vmin=-limit,
            vmax=limit,
            aspect="auto",
            interpolation="nearest",
        )
        self.colorbar_ = _colorbar(self.image_, "Mean z-score")
        _label_communities(self.ax_, self.communities)
        ticks = _some(n_columns, _MOST_NEURON_TICKS)
        self.ax_.set_xticks(
            ticks, [str(self.neurons[j][1]) for j in ticks], rotation=90, fontsize=6
        )
        self.ax_.set_xlabel("Neuron")
        self._mark_layers()
        return self

    def _mark_layers(self) -> None:
        """Name the layers above their columns, with lines between them."""
        names, widths = [], []
        for name, group in groupby(layer for layer, _ in self.neurons):
            names.append(encodable(str(name)))
            widths.append(len(list(group)))
        ends = np.cumsum(widths)
        for end in ends[:-1]:
            self.ax_.axvline(end - 0.5, color="black", linewidth=0.8)
        top = self.ax_.secondary_xaxis("top")
        top.set_xticks(ends - np.array(widths) / 2 - 0.5, names, fontsize=8)
        top.tick_params(length=0)
        # Letters of 8 points, in columns.
        box = self.ax_.get_window_extent()
        letter = 5.0 * self.figure_.dpi / 72 / box.width * ends[-1]
        if any(
            letter * len(name) > width
            for name, width in zip(names, widths, strict=True)
        ):
            top.tick_params(rotation=90)


class LayerAgreementDisplay:
    """How well each layer alone keeps each community together, as a heat map.

    Make one with `from_estimator` or `from_predictions`.

    Parameters
    ----------
    agreement : mapping of {layer name: array-like of shape (n_clusters,)}
        As :func:`skleiden.inspection.layer_agreement` gives it; nan, where it cannot
        be told, is shown hatched.

    Attributes
    ----------
    image_ : matplotlib AxesImage
        The heat map, communities by layers.

    colorbar_ : matplotlib Colorbar
        Its scale.

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

    def __init__(self, agreement: Mapping[str, Sequence[float] | np.ndarray]) -> None:
        self.agreement = agreement

    @classmethod
    def from_estimator(
        cls,
        estimator: Any,
        X: Any,
        *,
        n_neighbors: int = 15,
        random_state: int | np.random.RandomState | None = 0,
        ax: Any = None,
    ) -> Self:
        """Plot the layers of a fitted pipeline's sketch.

        Parameters
        ----------
        estimator : Pipeline or StableLeiden
            Fitted, with a `MultiLayerTfidfSketcher` before the clusterer.

        X : LayerStack, mapping of {name: matrix}, or matrix
            What it was fitted on.

        n_neighbors, random_state, ax :
            As in `from_predictions`.

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
        labels, sketcher = _fitted_labels(estimator), fitted_sketcher(estimator)
        if sketcher is None:
            raise TypeError(
                "estimator must be a fitted pipeline with a MultiLayerTfidfSketcher, "
                "which knows the layers of the embedding; got "
                f"{type(estimator).__name__} without one. Use from_predictions with "
                "the embedding and its layers' widths."
            )
        return cls.from_predictions(
            sketcher.transform(X),
            labels,
            sketcher._by_layer(sketcher.n_components_),
            n_neighbors=n_neighbors,
            random_state=random_state,
            ax=ax,
        )

    @classmethod
    def from_predictions(
        cls,
        embedding: Any,
        labels: Sequence[int] | np.ndarray,
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

        labels : array-like of int of shape (n_samples,)
            Communities; -1 is noise.

        layers : mapping of {name: width} or sequence of int
            Columns of each layer in the embedding.

        n_neighbors : int, default=15
            Neighbours looked at, at least 1.

        random_state : int, RandomState instance or None, default=0
            Determines the members that are looked at.

        ax : matplotlib Axes, default=None
            Where to draw; in a new figure if None.

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
        _matplotlib()  # told before the work
        if check_labels(labels).max() < 0:
            raise ValueError(_no_community("its layers"))
        agreement = layer_agreement(
            embedding,
            labels,
            layers,
            n_neighbors=n_neighbors,
            random_state=random_state,
        )
        return cls(agreement).plot(ax)

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
            raise ValueError(_no_community("its layers"))
        if any(of.shape != (columns[0].size,) for of in columns):
            raise ValueError(
                "agreement must have one number per community for every layer; got "
                f"shapes {[of.shape for of in columns]}."
            )
        values = np.column_stack(columns)
        n_rows, n_columns = values.shape
        size = (
            np.clip(1.8 + 0.4 * n_columns, 3.6, 12),
            np.clip(1 + 0.2 * n_rows, 3, 9),
        )
        self.figure_, self.ax_ = _axes(ax, size)
        # Shows where there is no value.
        self.ax_.patch.set(facecolor="#e4e4e4", edgecolor=_QUIET_COLOR, hatch="////")
        self.image_ = self.ax_.imshow(
            np.ma.masked_invalid(values),
            cmap=cmap,
            vmin=np.nanmin(values, initial=0.0),
            vmax=np.nanmax(values, initial=0.0) or 1.0,
            aspect="auto",
            interpolation="nearest",
        )
        self.colorbar_ = _colorbar(self.image_, "Agreement above chance")
        _label_communities(self.ax_, range(n_rows))
        ticks = _some(n_columns, _MOST_TICKS)
        names = [encodable(str(name)) for name in self.agreement]
        self.ax_.set_xticks(
            ticks, [names[j] for j in ticks], rotation=45, ha="right", fontsize=8
        )
        self.ax_.tick_params(length=0)
        return self


class ResolutionProfileDisplay:
    """What can be relied on at each resolution.

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
            What :func:`~skleiden.model_selection.resolution_profile` returned.

        axes : array-like of 4 matplotlib Axes, default=None
            Where to draw; in a new figure if None.

        Returns
        -------
        display : ResolutionProfileDisplay

        Raises
        ------
        TypeError
            If it is no profile.

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
        columns = (
            "resolution",
            "stability",
            "worst_pair",
            "null",
            "above_null",
            "net_information",
            "n_clusters",
            "largest_fraction",
        )
        missing = [name for name in columns if name not in self.table]
        if missing:
            raise ValueError(
                f"table must be that of a ResolutionProfile; it lacks {missing}."
            )
        if axes is None:
            self.figure_, self.axes_ = _matplotlib().subplots(
                2, 2, figsize=(9, 5.4), sharex=True, layout="constrained"
            )
            self.axes_ = self.axes_.ravel()
        else:
            self.axes_ = np.asarray(axes, dtype=object).ravel()
            if self.axes_.size != 4:
                raise ValueError(f"axes must be 4 Axes; got {self.axes_.size}.")
            self.figure_ = self.axes_[0].figure
        table = {name: np.asarray(self.table[name]) for name in columns}
        stability, information, communities, largest = self.axes_
        self._draw_stability(stability, table)
        x, style = table["resolution"], {"color": _MAIN_COLOR, "marker": "o", "ms": 4}
        information.plot(x, table["net_information"], **style)
        information.axhline(0, color=_QUIET_COLOR, linewidth=0.8)
        information.set_ylabel("Net information (nats)")
        communities.plot(x, table["n_clusters"], **style)
        communities.set(ylabel="Communities", ylim=(0, None))
        largest.plot(x, table["largest_fraction"], **style)
        largest.set(ylabel="Share of the largest", ylim=(0, None))
        for ax in self.axes_:
            _resolution_axis(ax, x)
            for level in self.levels:
                ax.axvline(
                    level,
                    color=_QUIET_COLOR,
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
            x, table["worst_pair"], stability, color=_MAIN_COLOR, alpha=0.2, linewidth=0
        )
        ax.plot(x, stability, color=_MAIN_COLOR, label="mean of pairs")
        ax.plot(
            x,
            table["worst_pair"],
            color=_MAIN_COLOR,
            linewidth=0.9,
            linestyle="--",
            label="worst pair",
        )
        if np.isfinite(table["null"]).any():
            null = {"color": _SECOND_COLOR, "marker": "s", "ms": 3}
            ax.plot(x, table["null"], label="null: permuted data", **null)
        for mask, face, label in (
            (table["above_null"], _MAIN_COLOR, "above the null"),
            (~table["above_null"], "white", "not above it"),
        ):
            if mask.any():
                ax.scatter(
                    x[mask],
                    stability[mask],
                    s=24,
                    color=face,
                    edgecolors=_MAIN_COLOR,
                    zorder=3,
                    label=label,
                )
        for level in self.levels:
            ax.annotate(
                f"{level:.3g}",
                (level, 1),
                xycoords=ax.get_xaxis_transform(),
                xytext=(0, 2),
                textcoords="offset points",
                ha="center",
                va="bottom",
                **_SMALL,
            )
        lowest = min(table["worst_pair"].min(), np.nanmin(table["null"], initial=0.0))
        ax.set(ylabel="Stability (ARI)", ylim=(lowest - 0.04, 1.04))


def png(display: Any, *, dpi: float = 150) -> bytes:
    """Turn a display into an image, and close its figure.

    Parameters
    ----------
    display : display
        One of this module that is drawn in a figure of its own.

    dpi : float, default=150
        Pixels per inch, above 0.

    Returns
    -------
    content : bytes
        What a PNG file holds.

    Raises
    ------
    TypeError
        If the display is not drawn yet.

    Examples
    --------
    >>> from skleiden.plotting import CommunitySizesDisplay, png
    >>> png(CommunitySizesDisplay.from_predictions([0, 0, 1]))[1:4]
    b'PNG'
    """
    if not hasattr(display, "figure_"):
        raise TypeError(
            "display must be drawn before it can be an image; got "
            f"{type(display).__name__} without figure_. Call its plot() first."
        )
    content = BytesIO()
    try:
        display.figure_.savefig(content, format="png", dpi=dpi, bbox_inches="tight")
    finally:
        # pyplot keeps every figure until it is closed.
        _matplotlib().close(display.figure_)
    return content.getvalue()


def _matplotlib() -> Any:
    try:
        import matplotlib.pyplot as plt
    except ImportError as error:
        raise ImportError(
            'Figures need matplotlib: pip install "skleiden[plot]".'
        ) from error
    return plt


def _axes(ax: Any, size: tuple[float, float]) -> tuple[Any, Any]:
    """The figure and axes given, or new ones of this size in inches."""
    plt = _matplotlib()
    if ax is None:
        return plt.subplots(figsize=size, layout="constrained")
    return ax.figure, ax


def _fitted_labels(estimator: Any) -> Any:
    _, last = final_step(estimator)
    if not hasattr(last, "labels_"):
        raise TypeError(
            "estimator must be a fitted clusterer, or a pipeline that ends in one; got "
            f"{type(last).__name__} without labels_. Fit it first."
        )
    return last.labels_


def _no_community(what: str) -> str:
    return (
        f"There is no community, and {what} cannot be shown: all labels are -1, or "
        "nothing was given. Cluster with other parameters, such as a lower "
        "min_cluster_size or more n_neighbors."
    )


def _some(n: int, most: int) -> np.ndarray:
    """Of n places on an axis, those that have room for a label: evenly spaced."""
    steps = (step * 10**power for power in range(10) for step in (1, 2, 5))
    return np.arange(0, n, next(step for step in steps if n <= step * most))


def _frame(ax: Any, positions: np.ndarray) -> None:
    """Fit axes without ticks around positions, with one scale for both directions."""
    margin = 0.04 * np.ptp(positions, axis=0).max() or 1.0
    ax.set_xlim(positions[:, 0].min() - margin, positions[:, 0].max() + margin)
    ax.set_ylim(positions[:, 1].min() - margin, positions[:, 1].max() + margin)
    ax.set_aspect("equal")
    ax.set(xticks=[], yticks=[])
    ax.spines[:].set_visible(False)


def _densest_first(points: np.ndarray) -> np.ndarray:
    """Places for a community's number: half of its points, from the densest on."""
    points = points[:: -(-len(points) // _MOST_PLACES)]
    distances = np.linalg.norm(points[:, None] - points, axis=2)
    total = np.minimum(distances, _REACH).sum(axis=1)
    return points[np.argsort(total, kind="stable")[: -(-len(points) // 2)]]


def _label_communities(ax: Any, communities: Sequence[int]) -> None:
    ticks = _some(len(communities), _MOST_TICKS)
    ax.set_yticks(ticks, [str(communities[i]) for i in ticks], fontsize=8)
    ax.set_ylabel("Community")
    ax.tick_params(length=0)


def _colorbar(image: Any, label: str) -> Any:
    """A scale as high as the heat map, pointed where values lie beyond it."""
    (low, high), values = image.get_clim(), image.get_array()
    extend = {(0, 0): "neither", (1, 0): "min", (0, 1): "max", (1, 1): "both"}
    return image.axes.figure.colorbar(
        image,
        ax=image.axes,
        label=label,
        extend=extend[bool((values < low).any()), bool((values > high).any())],
        extendfrac=0.03,
        fraction=0.05,
        aspect=40,
    )


def _resolution_axis(ax: Any, resolutions: np.ndarray) -> None:
    """A logarithmic axis with plain numbers."""
    from matplotlib.ticker import LogLocator, NullFormatter

    ax.set_xscale("log")
    decades = np.log10(resolutions.max() / resolutions.min())
    ax.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5) if decades < 3 else (1,)))
    ax.xaxis.set_major_formatter("{x:g}")
    ax.xaxis.set_minor_formatter(NullFormatter())
    ax.spines[["top", "right"]].set_visible(False)
