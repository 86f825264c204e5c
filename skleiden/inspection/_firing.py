"""The one definition of when a neuron fires, for features, explanations and pages."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from skleiden._blocks.layout import Layers
from skleiden._blocks.rows import above, densified, positive_part
from skleiden._blocks.sources import check_only
from skleiden._input import open_layers
from skleiden._kernels import countsketch
from skleiden._layers import LayerStack
from skleiden._stages.sketch import Activity, Reading, Settings, learn


class Firing(NamedTuple):
    """Rule by which the neurons of one layer fire.

    Their activation is the positive part of the value if `positive`, else the value
    itself. They fire above `thresholds`, of shape (width,): zero or, in layers with
    signs, one standard deviation above the mean. If the rows are the neurons,
    `by_rows`, mean and standard deviation are those of rows.
    """

    positive: bool
    thresholds: np.ndarray
    by_rows: bool = False

    def activation(self, block: Any) -> Any:
        """Give the activations of a block of rows."""
        if not self.positive:
            return block
        return positive_part(block, np.ones(block.shape[1], dtype=bool))

    def fires(self, activation: Any) -> Any:
        """Tell where neurons fire, by their activations; a mask, sparse if they are."""
        if not self.by_rows or self.positive:
            return above(activation, self.thresholds)
        dense = densified(activation)
        return dense > (dense.mean(axis=1) + dense.std(axis=1))[:, None]


def firing_of(sketcher: Any, stack: LayerStack) -> list[Firing]:
    """Give the rule of firing in each layer that a sketcher was fitted on."""
    activity, rows_are_neurons = sketcher._activity(), stack.row_layers is not None
    found_so = activity.settings.weighting == "auto"
    if activity.correlated != rows_are_neurons or (rows_are_neurons and not found_so):
        # What rows are compared by does not say which are the neurons, nor does a
        # stated weighting say what their negative values are.
        return firing_in(stack)
    mean, scale = (getattr(sketcher, name, None) for name in ("mean_", "scale_"))
    return _firing(activity, sketcher.layer_widths_, mean, scale)


def firing_in(stack: LayerStack) -> list[Firing]:
    """Find the rule of firing in each layer, as a sketcher does by default.

    Layers with signs are read twice.
    """
    return firing_of_layers(open_layers(stack, None, check_only))


def firing_of_layers(layers: Layers) -> list[Firing]:
    """Find the rule of firing in layers that are stored in any place."""
    settings = Settings("auto", True, 1.0, False, 0.0, np.dtype(np.float32))
    runner = layers.runner(0)
    activity, counts = learn(layers, settings, None, Reading(None, None), runner)
    scale = None
    if not activity.correlated:
        scale = countsketch.standard_deviation(counts.columns)
    return _firing(activity, layers.layout.widths, counts.columns.mean, scale)


def _firing(
    activity: Activity, widths: Sequence[int], mean: Any, scale: Any
) -> list[Firing]:
    power, tolerance = activity.power, activity.settings.zero_tol
    stops = np.cumsum(widths)
    found = []
    for weighting, positive, width, stop in zip(
        activity.weighting, activity.positive, widths, stops, strict=True
    ):
        thresholds = np.zeros(width)
        if weighting == "zscore":
            columns = slice(stop - width, stop)
            thresholds = _unpowered(mean[columns] + scale[columns], power)
        # What is up to the tolerance counts as zero.
        near = np.abs(thresholds) < tolerance
        thresholds = np.where(near, tolerance, thresholds)
        found.append(Firing(bool(positive), thresholds, activity.correlated))
    return found


def _unpowered(limits: np.ndarray, power: float) -> np.ndarray:
    """Give the values above which values to the power are above some limits."""
    if power > 0:
        return np.sign(limits) * np.abs(limits) ** (1 / power)
    # Signs: none is above 1, those of positive values are above 0.
    return np.where(
        limits >= 1, np.inf, np.where(limits >= 0, 0.0, -np.finfo("f8").tiny)
    )
