"""One neuron: the rows and communities in which it fires most."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from skleiden._blocks.frames import as_html, frame_of, refuse_other_order
from skleiden._blocks.layout import Layers, Layout
from skleiden._blocks.rows import densified
from skleiden._blocks.sources import check_only, row_batches
from skleiden._input import open_layers, with_rows
from skleiden._layers import LayerStack
from skleiden._stages.sketch import run_task
from skleiden._text import texts_of

from ._features import CommunitySums, _contrasts, community_sums, ids_of
from ._firing import firing_of_layers
from ._members import Label, LabelsLike, check_positive_integer, number_labels

if TYPE_CHECKING:
    import pandas as pd

# Communities that a description names.
_N_TOLD = 3


class ActiveRow(NamedTuple):
    """A row in which a neuron fires.

    Attributes
    ----------
    row : int
        Number of the row.

    id : object
        Identifier of the row; its number if it has none.

    activation : float
        Activation of the neuron.

    community : int or str
        Label of the row; -1 for noise, and if no labels were given.

    text : str or None
        The prompt, if it is known.
    """

    row: int
    id: Any
    activation: float
    community: Label
    text: str | None = None


@dataclass(frozen=True, eq=False, repr=False)
class Neuron:
    """The rows and communities in which one neuron fires most.

    It is made by `neuron`.

    Attributes
    ----------
    layer : str
        Name of the layer.

    number : int
        Column in the layer.

    name : str or None
        Name of the column, if it has one.

    threshold : float
        Activation above which the neuron fires.

    n_samples : int
        Number of rows.

    mean, share : float
        Mean activation over all rows, and share of the rows in which the neuron fires.

    strongest : list of ActiveRow
        Rows in which it fires, largest activation first.

    table : dict of {str: ndarray}
        What the neuron does in each community that has rows, as columns, largest effect
        first: "community", "size", "mean" activation, "share" of the rows in which it
        fires, and "effect_size", as in `top_features`. The effect is below 0 if the
        neuron is less active than outside, and nan if no row is outside.
    """

    layer: str
    number: int
    name: str | None
    threshold: float
    n_samples: int
    mean: float
    share: float
    strongest: list[ActiveRow]
    table: dict[str, np.ndarray]

    def to_frame(self) -> "pd.DataFrame":
        """Return `table` as a pandas DataFrame, one row for each community.

        Returns
        -------
        frame : pandas.DataFrame

        Raises
        ------
        ImportError
            If pandas is not installed.
        """
        return frame_of(self.table)

    def to_dict(self) -> dict[str, Any]:
        """Return all attributes in types that JSON has.

        Returns
        -------
        plain : dict
            The attributes by their names. `table` becomes "communities", a list with a
            dict for each, and nan becomes None. An id that JSON has no form for becomes
            its string.
        """
        columns = {name: of.tolist() for name, of in self.table.items()}
        return {
            "layer": self.layer,
            "number": self.number,
            "name": self.name,
            "threshold": _finite(self.threshold),
            "n_samples": self.n_samples,
            "mean": self.mean,
            "share": self.share,
            "strongest": [
                {
                    **of._asdict(),
                    "id": of.id if type(of.id) in (str, int) else str(of.id),
                }
                for of in self.strongest
            ],
            "communities": [
                dict(zip(columns, map(_finite, values), strict=True))
                for values in zip(*columns.values(), strict=True)
            ],
        }

    def describe(self) -> list[str]:
        """Say in words how often the neuron fires, and where most.

        Returns
        -------
        lines : list of str
        """
        often = (
            f"{self.layer}:{self.number} fires (above {self.threshold:.3g}) in "
            f"{self.share:.1%} of {self.n_samples} rows; mean {self.mean:.3g}"
        )
        columns = (self.table[name] for name in ("community", "share", "effect_size"))
        most = [
            f"in {share:.1%} of community {c}, effect {effect:.2f}"
            for c, share, effect in zip(*columns, strict=True)
            if effect > 0
        ]
        return [often, *most[:_N_TOLD]]

    def __repr__(self) -> str:
        return f"<Neuron: {self.describe()[0]}>"

    def _repr_html_(self) -> str:
        """Give its communities and strongest rows as tables, for notebooks."""
        rows = {
            name: np.array([getattr(of, name) for of in self.strongest], dtype=object)
            for name in ActiveRow._fields[1:]
        }
        if not any(rows["text"]):
            del rows["text"]
        return as_html(self, self.table, rows)


def neuron(
    X: Any,
    layer: str,
    number: int,
    labels: LabelsLike | None = None,
    *,
    texts: Mapping[Any, str] | Iterable[str] | None = None,
    n_rows: int = 10,
    layers: Mapping[str, int] | Sequence[int] | None = None,
) -> Neuron:
    """Find the rows and the communities in which one neuron fires most.

    Parameters
    ----------
    X : LayerStack, mapping of {name: matrix}, or matrix
        The unsketched layers, stored in any way, Dask arrays included. Only the layer
        of the neuron is read.

    layer : str
        Name of the layer; "layer_0" where X is a matrix of one layer.

    number : int
        Column in the layer.

    labels : array-like of int or str of shape (n_samples,), default=None
        Communities, as strings, integers or whole floats; -1, or "-1", is noise, which
        counts among the others. If None, nothing is told of communities.

    texts : sequence of str of length n_samples, or mapping of {id: str}, default=None
        The prompts, as `describe_communities` takes them.

    n_rows : int, default=10
        Largest number of rows listed, at least 1. All are rows in which the neuron
        fires; of equal activations, the first.

    layers : sequence of int, mapping of {name: width} or None, default=None
        Widths of the layers, if X is one matrix with the layers side by side.

    Returns
    -------
    neuron : Neuron
        With `strongest` rows, `table` of communities, `describe()`, `to_frame()` and
        `to_dict()`.

    Raises
    ------
    ValueError
        If there is no such layer, or `layers` contradicts those of X; if labels are not
        one-dimensional, strings or integers of at least -1, or as many as rows; if
        texts do not fit the rows, or lack an id; if the index of a Series has the ids
        of X in another order; if the layer is not finite, or rows are neurons; if
        `n_rows` is below 1.

    IndexError
        If the layer has no such column.

    See Also
    --------
    top_features : The neurons that set each community apart.

    Notes
    -----
    A neuron fires as in `top_features`: above zero in layers whose positive part is
    taken as the activation (those after ReLU, GELU and their like), and more than one
    standard deviation above its mean in layers of both signs. The whole layer tells
    which of both it is, so it is read as a whole, up to three times.

    Examples
    --------
    >>> import numpy as np
    >>> from skleiden import LayerStack
    >>> from skleiden.inspection import neuron
    >>> mlp = np.array([[1.0, 0.0], [3.0, 0.0], [0.0, 5.0], [0.0, 4.0]])
    >>> found = neuron(LayerStack({"mlp": mlp}), "mlp", 1, [0, 0, 1, 1], n_rows=1)
    >>> found.strongest[0].row, found.strongest[0].activation
    (2, 5.0)
    >>> found.describe()
    ['mlp:1 fires (above 0) in 50.0% of 4 rows; mean 2.25', 'in 100.0% of community 1,
    effect 9.00']
    """
    check_positive_integer(n_rows, "n_rows")
    X = with_rows(X)
    opened = open_layers(X, layers, check_only)
    opened.layout.check(layers)
    if opened.of_neurons:
        raise ValueError(
            "X must have prompts as its rows; got a stack of neurons. Give the stack "
            "whose neurons() it is."
        )
    _check_place(opened.layout, layer, number)
    n = opened.n_samples
    known = ids_of(X, X)
    numbered = number_labels(np.full(n, -1) if labels is None else labels, n, known)
    refuse_other_order(texts, "texts", known)
    ids = getattr(X, "ids", None)
    ids = np.arange(n) if ids is None else ids
    told = texts_of(texts, ids)
    if told is not None and len(told) != n:
        raise ValueError(
            f"texts must have one entry for each row; got {len(told)} for {n} rows. "
            "Give one for each, be it empty, or texts by id."
        )
    opened = _stored_with(opened, layer)
    place = opened.layout.names.index(layer)
    firing = firing_of_layers(opened)[place]
    firing = firing._replace(thresholds=firing.thresholds[[number]])
    column = LayerStack([_column(opened, place, number)])
    sums = community_sums(column, numbered, [firing], n_strongest=n_rows)
    (of_layer,), communities = sums.layers.values(), [*numbered.values, -1]
    strongest = [
        ActiveRow(
            row,
            ids[row : row + 1].tolist()[0],
            activation,
            communities[numbered.numbers[row]],
            None if told is None else told[row],
        )
        for row, activation in of_layer.strongest.of(0)
    ]
    is_stack = isinstance(X, LayerStack)
    named = X.columns[X.names.index(layer)] if is_stack else None
    return Neuron(
        layer=layer,
        number=int(number),
        name=None if named is None else str(named[number]),
        threshold=float(firing.thresholds[0]),
        n_samples=n,
        mean=float(of_layer.values.sum() / n),
        share=float(of_layer.counts.sum() / n),
        strongest=strongest,
        table=_table(sums),
    )


def _check_place(layout: Layout, layer: str, number: int) -> None:
    """Refuse a neuron that does not exist."""
    widths = dict(zip(layout.names, layout.widths, strict=True))
    if not isinstance(layer, str) or layer not in widths:
        raise ValueError(
            f"layer must be the name of a layer of X, of {list(widths)}; got {layer!r}."
        )
    whole = isinstance(number, (int, np.integer)) and not isinstance(number, bool)
    if not whole or not 0 <= number < widths[layer]:
        raise IndexError(
            f"number must be a column of layer {layer!r}, an integer from 0 to "
            f"{widths[layer] - 1}; got {number!r}."
        )


def _stored_with(layers: Layers, name: str) -> Layers:
    """Give the layer of this name, and the layers that are stored with it."""
    layout = layers.layout
    at, span = next(
        (at, span)
        for at, span in enumerate(layout.spans)
        if name in [layout.names[i] for i in span]
    )
    kept = slice(span.start, span.stop)
    some = Layout(layout.names[kept], layout.widths[kept], (range(len(span)),))
    return Layers(some, [layers.sources[at]])


def _column(layers: Layers, place: int, number: int) -> np.ndarray:
    """Read one column, of shape (n_samples, 1), wherever the rows are."""
    at = int(layers.layout.starts[place]) + int(number)
    runner = layers.runner(0)
    task = runner.put(partial(_column_of_block, layers.layout, at))
    blocks = layers.row_blocks()
    handles = [runner.call(run_task, task, start, of) for start, _, of in blocks]
    return np.concatenate(runner.fetch(handles, "Column"))


def _column_of_block(
    layout: Layout, at: int, start: int, matrices: Sequence[Any]
) -> np.ndarray:
    (part,) = layout.parts(matrices, start)
    batches = row_batches([part.source])
    return np.concatenate([densified(part.source.read(b)[:, [at]]) for b in batches])


def _table(sums: CommunitySums) -> dict[str, np.ndarray]:
    """Make the table of communities from the sums of the one neuron."""
    (of_layer,), sizes, values = sums.layers.values(), sums.sizes, sums.labels.values
    effects = np.full(len(values), np.nan)
    for c, (effect, *_) in _contrasts(of_layer, sizes, "others", "row"):
        effects[c] = effect[0]
    is_text = any(isinstance(value, str) for value in values)
    order = np.argsort(-effects, kind="stable")
    sizes = sizes[order]
    return {
        "community": np.array(values, dtype=object if is_text else np.int64)[order],
        "size": sizes,
        "mean": of_layer.values[order, 0] / sizes,
        "share": of_layer.counts[order, 0] / sizes,
        "effect_size": effects[order],
    }


def _finite(value: Any) -> Any:
    """Give a number in the form that JSON has, in which nan is null."""
    return None if isinstance(value, float) and not np.isfinite(value) else value
