"""Choose the colour of a community, in figures and on the page, by its label."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np


class Scheme(NamedTuple):
    """Colours for one background.

    `lift` is added to the lightness of communities' colours; `noise` is the grey of
    rows in no community, which recedes.
    """

    lift: float
    noise: str


# Figures are on white, as is the page but on a dark screen. One colour for both would
# need a lightness from .53 to .66 to have a contrast of 3 with either; the nearest two
# of 30 would then be .04 apart in OKLab instead of .06.
LIGHT = Scheme(lift=0.0, noise="#c4c4c4")
DARK = Scheme(lift=0.18, noise="#505050")

# Hues a golden angle apart never come back, but every fifth, eighth, 13th and so on are
# near; five lightnesses and two chromas keep these apart.
_GOLDEN_ANGLE = 137.50776405003785
_FIRST_HUE = 30.0
_LIGHTNESS = np.array([0.40, 0.52, 0.58, 0.46, 0.64])
_CHROMA_SHARES = np.array([1.0, 0.6])
_CHROMAS = np.linspace(0, 0.2, 101)

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


def community_colors(n: int) -> np.ndarray:
    """Choose colours for communities, distinct even for more than twenty.

    Parameters
    ----------
    n : int
        Number of colours, at least 0.

    Returns
    -------
    colors : ndarray of shape (n, 3)
        sRGB values in [0, 1]. Each colour has a contrast of at least 3 with white. The
        colour of a community does not depend on how many there are.

    Raises
    ------
    ValueError
        If `n` is not an integer of at least 0.

    Notes
    -----
    Hues are a golden angle apart in OKLCH [1]_, with alternating lightness and chroma.
    Among up to 30 colours, the smallest distance between two is above .06 in OKLab,
    where about .02 can just be seen. The page of :func:`skleiden.report.write_report`
    has the same colours; on a dark screen, they are lighter.

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
    if not isinstance(n, (int, np.integer)) or isinstance(n, bool) or n < 0:
        raise ValueError(
            f"n must be an integer of at least 0; got {n!r}. Give the number of "
            "communities."
        )
    return colors_of(np.arange(n))


def colors_of(labels: np.ndarray, scheme: Scheme = LIGHT) -> np.ndarray:
    """Give the sRGB colour of each label; labels are integers of at least 0."""
    distinct, places = np.unique(labels, return_inverse=True)
    lightness = _LIGHTNESS[distinct % _LIGHTNESS.size, None] + scheme.lift
    hue = np.radians(_FIRST_HUE + _GOLDEN_ANGLE * distinct)[:, None]
    # From grey on, colours are inside sRGB up to some chroma.
    n_inside = np.zeros(distinct.size, dtype=np.intp)
    for chroma in _CHROMAS:
        rgb = _linear_rgb(lightness, chroma, hue)
        n_inside += np.all((rgb >= 0) & (rgb <= 1), axis=(1, 2))
    most = _CHROMAS[n_inside - 1] * _CHROMA_SHARES[distinct % _CHROMA_SHARES.size]
    rgb = np.clip(_linear_rgb(lightness, most[:, None], hue)[:, 0], 0, 1)
    colors = np.where(rgb <= 0.0031308, 12.92 * rgb, 1.055 * rgb ** (1 / 2.4) - 0.055)
    return colors[places]


def css_colors(labels: np.ndarray) -> dict[int, tuple[str, str]]:
    """Give the colours of the communities among labels, and of the noise, as CSS.

    Returns
    -------
    dict of {int: (str, str)}
        For each label (-1 for noise), two colours: for a light and for a dark
        background.
    """
    placed = np.unique(labels[labels >= 0])
    light, dark = (
        [scheme.noise, *map(_css, colors_of(placed, scheme))]
        for scheme in (LIGHT, DARK)
    )
    pairs = zip(light, dark, strict=True)
    return dict(zip([-1, *placed.tolist()], pairs, strict=True))


def _css(color: np.ndarray) -> str:
    return f"#{np.rint(255 * color).astype(np.uint8).tobytes().hex()}"


def _linear_rgb(
    lightness: np.ndarray, chroma: float | np.ndarray, hue: np.ndarray
) -> np.ndarray:
    lab = np.stack(
        np.broadcast_arrays(lightness, chroma * np.cos(hue), chroma * np.sin(hue)),
        axis=-1,
    )
    return (lab @ _LAB_TO_CONES.T) ** 3 @ _CONES_TO_RGB.T
