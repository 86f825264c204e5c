"""Why a row is in its community, neuron by neuron."""

from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from skleiden._blocks.frames import frame_of
from skleiden._blocks.rows import densified
from skleiden._blocks.sources import row_batches
from skleiden._fitting import fitted_clusterer, fitted_sketcher
from skleiden._input import as_layer_stack
from skleiden._stages.sketch import WeightedLayer

from ._firing import firing_of
from ._layers import check_fitted_rows
from ._members import check_labels, check_positive_integer

if TYPE_CHECKING:
    import pandas as pd


class Contribution(NamedTuple):
    """A neuron, and what it adds to the similarity of a row to its community.

    Attributes
    ----------
    layer : str
        Name of the layer.

    neuron : int
        Column in the layer.

    activation : float
        Activation of the neuron in the row.

    contribution : float
        Part of the neuron in the difference of similarities, see `explain`.

    fires : bool
        Whether the neuron fires in the row, see `top_features`.
    """

    layer: str
    neuron: int
    activation: float
    contribution: float
    fires: bool


class Explanation(NamedTuple):
    """The neurons that tie a row to its community.

    Attributes
    ----------
    community : int
        Label of the row.

    similarity, baseline : float
        Mean cosine similarity of the row to the other members of its community, and to
        the rows outside of it, over all layers and without a sketch.

    contributions : list of Contribution
        Neurons that add the most to the difference of these, largest first.
    """

    community: int
    similarity: float
    baseline: float
    contributions: list[Contribution]

    def to_frame(self) -> "pd.DataFrame":
        """Return the contributions as a pandas DataFrame, one row for each neuron.

        Returns
        -------
        frame : pandas.DataFrame
            With the columns "layer", "neuron", "activation", "contribution" and
            "fires".

        Raises
        ------
        ImportError
            If pandas is not installed.
        """
        return frame_of(
            {
                name: np.array([getattr(one, name) for one in self.contributions])
                for name in Contribution._fields
            }
        )


def explain(
    estimator: Any, X: Any, row: int | str, *, n_features: int = 10
) -> Explanation:
    """Find the neurons that tie one row to its community.

    The similarity of two rows, which the sketch estimates, is a sum over neurons. So is
    the difference between the mean similarity of a row to the other members of its
    community and that to all rows outside. To this, each neuron contributes its
    weighted and scaled activation in the row, times the difference between its means
    among the members and among the others. The contributions of all neurons add up to
    ``similarity - baseline``.

    Parameters
    ----------
    estimator : estimator
        A fitted pipeline of a `MultiLayerTfidfSketcher` and a `MutualKNNLeiden`, or a
        `StableLeiden` of one.

    X : LayerStack, mapping of {name: matrix}, or matrix
        The unsketched layers that it was fitted on. They are read twice, and not
        densified.

    row : int or str
        Number of the row, from the end if negative; or its id, if that is a string.

    n_features : int, default=10
        Largest number of neurons listed, at least 1; all listed contribute more than
        nothing.

    Returns
    -------
    explanation : Explanation

    Raises
    ------
    TypeError
        If the estimator has no fitted sketcher and clusterer; if `row` is neither an
        integer nor a str.

    ValueError
        If X has another number of rows, or other layers, than the estimator was fitted
        on; if the row is in no community, or its community has no other member or no
        row outside; if `n_features` is below 1.

    IndexError
        If there is no such row or id.

    See Also
    --------
    top_features : Neurons that set a whole community apart.

    Examples
    --------
    >>> from sklearn.pipeline import make_pipeline
    >>> from skleiden import MultiLayerTfidfSketcher, MutualKNNLeiden
    >>> from skleiden.datasets import make_layered_activations
    >>> from skleiden.inspection import explain
    >>> stack, _ = make_layered_activations(600, n_communities=4, random_state=0)
    >>> pipeline = make_pipeline(
    ...     MultiLayerTfidfSketcher(layer_weights=None, random_state=0),
    ...     MutualKNNLeiden(random_state=0),
    ... ).fit(stack)
    >>> found = explain(pipeline, stack, 0, n_features=3)
    >>> found.similarity > found.baseline
    True
    >>> found.to_frame().columns.tolist()
    ['layer', 'neuron', 'activation', 'contribution', 'fires']
    """
    check_positive_integer(n_features, "n_features")
    labels = check_labels(fitted_clusterer(estimator).labels_)
    sketcher = fitted_sketcher(estimator)
    if sketcher is None:
        raise TypeError(
            "explain takes a fitted pipeline with a MultiLayerTfidfSketcher, whose "
            f"weights it needs; got {type(estimator).__name__} without one."
        )
    widths = sketcher.layer_widths_
    layers, n = sketcher._weighted_layers(X), labels.size
    stack = as_layer_stack(X, sketcher._by_layer(widths))
    check_fitted_rows(estimator, stack, n)
    fire = firing_of(sketcher, stack)
    place = _place_of(row, X)
    if not -n <= place < n:
        raise IndexError(f"row must be a row of X, from 0 to {n - 1}; got {place}.")
    place %= n
    community = int(labels[place])
    if community < 0:
        raise ValueError(
            f"Row {place} is in no community (its label is -1): nothing ties it to one."
        )
    is_in = labels == community
    n_outside = int(np.count_nonzero(~is_in))
    is_in[place] = False
    n_inside = int(np.count_nonzero(is_in))
    if n_inside == 0 or n_outside == 0:
        raise ValueError(
            f"Row {place} has nothing to be compared with: its community {community} "
            f"has {n_inside} other members, and {n_outside} rows are outside."
        )
    # Of each row: its weight in the mean of members, and in that of others.
    groups = np.stack([is_in / n_inside, (labels != community) / n_outside])
    scales = _scales(layers)
    similarity = np.zeros(2)
    found: list[Contribution] = []
    this = slice(place, place + 1)
    for layer, scale, firing in zip(layers, scales, fire, strict=True):
        means = _scaled_sums(layer, groups * scale)
        (own,) = densified(layer.read(this))
        value = densified(layer.source.read(this))
        fires = firing.fires(firing.activation(value))[0]
        unit = scale[place] * (own * layer.weight - layer.centre)
        similarity += means @ unit
        contributions = unit * (means[0] - means[1])
        best = np.argsort(-contributions, kind="stable")[:n_features]
        found += [
            Contribution(
                layer.name,
                int(j),
                float(value[0, j]),
                float(contributions[j]),
                bool(fires[j]),
            )
            for j in best[contributions[best] > 0]
        ]
    found.sort(key=lambda neuron: -neuron.contribution)
    return Explanation(
        community, float(similarity[0]), float(similarity[1]), found[:n_features]
    )


def _place_of(row: int | str, X: Any) -> int:
    if not isinstance(row, str):
        if isinstance(row, bool) or not isinstance(row, (int, np.integer)):
            raise TypeError(
                f"row must be an integer, or an id that is a str; got {row!r}. Give "
                "its number."
            )
        return int(row)
    ids = getattr(X, "ids", None)
    places = np.flatnonzero([] if ids is None else ids == row)
    if places.size == 0:
        raise IndexError(f"row must be a row of X or its id; no id is {row!r}.")
    return int(places[0])


def _scales(layers: list[WeightedLayer]) -> np.ndarray:
    """Give the factor of each layer of each row that makes rows of unit length."""
    n = layers[0].source.shape[0]
    norms, active = np.zeros((len(layers), n)), np.zeros((len(layers), n), dtype=bool)
    for number, layer in enumerate(layers):
        for rows in row_batches([layer.source]):
            block = layer.read(rows)
            active[number, rows] = _row_sums(block != 0) > 0
            weighted = block * layer.weight
            squares = _row_sums(weighted * weighted)
            squares += layer.centre @ layer.centre - 2 * (weighted @ layer.centre)
            norms[number, rows] = np.sqrt(np.maximum(squares, 0))
    present = active & (norms > 0)
    shares = np.array([layer.share for layer in layers])
    filled = shares @ present
    scales = np.sqrt(shares)[:, None] / np.where(present, norms, 1)
    return np.where(present, scales / np.sqrt(np.where(filled > 0, filled, 1)), 0)


def _scaled_sums(layer: WeightedLayer, weights: np.ndarray) -> np.ndarray:
    """Give weighted sums of a layer's rows, of shape (n_groups, width)."""
    sums = np.zeros((len(weights), layer.source.shape[1]))
    for rows in row_batches([layer.source]):
        sums += weights[:, rows] @ layer.read(rows)
    return sums * layer.weight - weights.sum(axis=1)[:, None] * layer.centre


def _row_sums(block: Any) -> np.ndarray:
    return np.asarray(block.sum(axis=1), dtype=np.float64).ravel()
