"""Short accounts of what the neurons that set communities apart fire on."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np

from ._features import CommunitySums, TopFeature

# Communities that are told of each neuron, and digits of its activations.
_N_COMMUNITIES, _DIGITS = 8, 4


class NeuronActivity(NamedTuple):
    """Short account of what a neuron fires on; `neuron` gives all of it.

    Attributes
    ----------
    layer : str
        Name of the layer.

    neuron : int
        Column in the layer.

    mean, share : float
        Mean activation over all rows, and share of the rows in which the neuron fires.

    strongest : list of (int, float)
        Rows in which it fires most, with its activation there; largest first.

    communities : list of (int, float, float)
        Communities with the largest mean activation, at most eight, each as label,
        mean, and share of its rows in which the neuron fires.
    """

    layer: str
    neuron: int
    mean: float
    share: float
    strongest: Sequence[tuple[int, float]]
    communities: Sequence[tuple[int, float, float]]


def activity_of(
    sums: CommunitySums, features: Mapping[int, Sequence[TopFeature]]
) -> list[NeuronActivity]:
    """Find what the neurons of all communities fire on, from the sums of one pass.

    Neurons are in the order of layers and numbers. Activations are rounded, because
    there are many.
    """
    places = {name: place for place, name in enumerate(sums.layers)}
    listed = {(one.layer, one.neuron) for of in features.values() for one in of}
    return [
        _activity(sums, layer, neuron)
        for layer, neuron in sorted(listed, key=lambda of: (places[of[0]], of[1]))
    ]


def _activity(sums: CommunitySums, layer: str, neuron: int) -> NeuronActivity:
    of_layer, sizes = sums.layers[layer], sums.sizes
    values, counts = (of[:, neuron] for of in (of_layer.values, of_layer.counts))
    means, shares = (of[:-1] / sizes[:-1] for of in (values, counts))
    first = np.argsort(-means, kind="stable")[:_N_COMMUNITIES].tolist()
    n = sizes.sum()
    return NeuronActivity(
        layer,
        neuron,
        _rounded(values.sum() / n),
        _rounded(counts.sum() / n),
        [(row, _rounded(value)) for row, value in of_layer.strongest.of(neuron)],
        [
            (sums.labels.values[c], _rounded(means[c]), _rounded(shares[c]))
            for c in first
        ],
    )


def _rounded(value: float) -> float:
    return float(f"{value:.{_DIGITS}g}")
