"""Parts of figures that displays share. Drawing imports matplotlib."""

from __future__ import annotations

from collections.abc import Sequence
from io import BytesIO
from typing import Any

import numpy as np

from skleiden._text import encodable

MAIN_COLOR = "#2f5d8c"
SECOND_COLOR = "#c8553d"
QUIET_COLOR = "#737373"
SMALL = {"fontsize": 8, "color": QUIET_COLOR}

# Labels that an axis has room for.
MOST_TICKS = 32


def png(display: Any, *, dpi: float = 150) -> bytes:
    """Turn a display into an image, and close its figure.

    Parameters
    ----------
    display : display
        One of `skleiden.plotting` that is drawn in a figure of its own.

    dpi : float, default=150
        Pixels per inch, above 0.

    Returns
    -------
    content : bytes
        The content of a PNG file.

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
        pyplot().close(display.figure_)
    return content.getvalue()


def pyplot() -> Any:
    """Import matplotlib, or say how to install it."""
    try:
        import matplotlib.pyplot as plt
    except ImportError as error:
        raise ImportError(
            'Figures need matplotlib: pip install "skleiden[plot]".'
        ) from error
    return plt


def figure_and_axes(ax: Any, size: tuple[float, float]) -> tuple[Any, Any]:
    """Give the axes given and their figure, or new ones of this size in inches."""
    plt = pyplot()
    if ax is None:
        return plt.subplots(figsize=size, layout="constrained")
    return ax.figure, ax


def heat_map(
    ax: Any,
    size: tuple[float, float],
    values: np.ndarray,
    communities: Sequence[Any],
    scale: str,
    cmap: Any,
    limits: tuple[float, float],
) -> tuple[Any, Any, Any, Any]:
    """Draw values of communities, one a row; give figure, axes, image and colour bar.

    The colour bar, named `scale`, is pointed where values lie beyond the limits.
    """
    figure, ax = figure_and_axes(ax, size)
    low, high = limits
    image = ax.imshow(
        values, cmap, aspect="auto", interpolation="nearest", vmin=low, vmax=high
    )
    extend = {(0, 0): "neither", (1, 0): "min", (0, 1): "max", (1, 1): "both"}
    colorbar = figure.colorbar(
        image,
        ax=ax,
        label=scale,
        extend=extend[bool((values < low).any()), bool((values > high).any())],
        extendfrac=0.03,
        fraction=0.05,
        aspect=40,
    )
    ax.set_yticks(*thinned(communities), fontsize=8)
    ax.set_ylabel("Community")
    ax.tick_params(length=0)
    return figure, ax, image, colorbar


def thinned(
    names: Sequence[Any] | np.ndarray, most: int = MOST_TICKS
) -> tuple[np.ndarray, list[str]]:
    """Choose evenly spaced labels that an axis has room for; give places and texts."""
    steps = (step * 10**power for power in range(10) for step in (1, 2, 5))
    step = next(step for step in steps if len(names) <= step * most)
    ticks = np.arange(0, len(names), step)
    return ticks, [encodable(str(names[i])) for i in ticks]


def write_above(ax: Any, text: str, place: tuple[float, float], **style: Any) -> None:
    """Write a small text upon a place."""
    style |= SMALL | {"ha": "center", "va": "bottom", "textcoords": "offset points"}
    ax.annotate(text, place, xytext=(0, 1), **style)


def no_community(what: str) -> str:
    """Say that there is nothing to draw, and what to do."""
    return (
        f"There is no community, and {what} cannot be shown: all labels are -1, or "
        "nothing was given. Cluster with other parameters, such as a lower "
        "min_cluster_size or more n_neighbors."
    )
