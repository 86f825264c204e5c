"""The neurons that make a community: prototypes and top neurons, unsketched."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import scipy.sparse as sp

from skleiden._blocks.frames import common_index
from skleiden._blocks.mapped import check_size
from skleiden._blocks.rows import column_squares, densified, entries_above, scale_rows
from skleiden._blocks.sources import Source, row_batches, source_of
from skleiden._input import as_layer_stack
from skleiden._kernels import countsketch
from skleiden._layers import LayerStack

from ._firing import Firing, firing_in
from ._members import (
    Label,
    Labels,
    LabelsLike,
    check_positive_integer,
    number_labels,
)
from ._strongest import Strongest

# Share of a sum that cancellation may leave of nothing.
_ROUNDING = 1e-12


class TopFeature(NamedTuple):
    """A neuron that sets a community apart.

    Attributes
    ----------
    layer : str
        Name of the layer.

    neuron : int
        Column in the layer.

    effect_size : float
        Difference of means over the standard deviation, see `top_features`.

    mean, baseline_mean : float
        Mean activation in the members and in the baseline.

    share, baseline_share : float
        Share of the members, and of the baseline, in which the neuron fires.

    fires : bool
        Whether the neuron fires at the members' mean. One that does not is merely less
        inhibited in the community than outside.

    name : str or None
        Name of the column, if it has one.

    text : str or None
        The prompt that the column stands for, if the rows are neurons and it is known.

    Notes
    -----
    In a stack of neurons (`LayerStack.neurons`) columns are prompts: "neuron" is the
    number of a prompt, and activations are standardised over all prompts, neuron by
    neuron.
    """

    layer: str
    neuron: int
    effect_size: float
    mean: float
    baseline_mean: float
    share: float
    baseline_share: float
    fires: bool = True
    name: str | None = None
    text: str | None = None


def prototypes(
    X: Any,
    labels: LabelsLike,
    *,
    standardize: bool = False,
    layers: Mapping[str, int] | Sequence[int] | None = None,
) -> dict[str, np.ndarray]:
    """Compute the mean activation of every neuron in each community, for each layer.

    Parameters
    ----------
    X : LayerStack, mapping of {name: matrix}, or matrix
        The unsketched layers, dense or sparse. Sparse ones are not densified.

    labels : array-like of int or str of shape (n_samples,)
        Communities, as strings, integers or whole floats; -1, or "-1", is noise, which
        has no prototype.

    standardize : bool, default=False
        Whether to give means of z-scores: ``(activation - mean) / standard deviation``,
        both over all rows, noise included; 0 for a constant neuron.

    layers : sequence of int, mapping of {name: width} or None, default=None
        Widths of the layers, if X is one matrix with the layers side by side.

    Returns
    -------
    dict of {str: ndarray of shape (n_clusters, width of the layer)}
        Means in float64, with row c for community c (nan if no row of X has that
        label). If labels are strings, rows are in their ascending order. Give large
        numbers as strings, as there is a row for each number up to the largest label.

    Raises
    ------
    ValueError
        If labels are not one-dimensional, strings or integers of at least -1, or as
        many as rows; if X is not finite, or so large that squares overflow.

    TypeError
        If `standardize` is neither True nor False.

    Examples
    --------
    >>> import numpy as np
    >>> from skleiden import LayerStack
    >>> from skleiden.inspection import prototypes
    >>> stack = LayerStack({"mlp": np.array([[1.0, 0.0], [3.0, 0.0], [0.0, 5.0]])})
    >>> prototypes(stack, [0, 0, 1])["mlp"]
    array([[2., 0.],
           [0., 5.]])
    """
    if not isinstance(standardize, (bool, np.bool_)):
        raise TypeError(f"standardize must be True or False; got {standardize!r}.")
    sums = community_sums(*layers_and_labels(X, labels, layers))
    return {
        name: sums.labels.placed(sums.prototypes(name, standardize=standardize), np.nan)
        for name in sums.layers
    }


def top_features(
    X: Any,
    labels: LabelsLike,
    *,
    n_features: int = 10,
    versus: str = "others",
    weighting: str = "row",
    layers: Mapping[str, int] | Sequence[int] | None = None,
) -> dict[Label, list[TopFeature]]:
    """Find the neurons that set each community apart, over all layers.

    Neurons are ranked by a standardised difference of means, so that layers of
    different scales compete fairly. No p-value is given: the communities were made from
    the same activations, so a test against "no difference" would say nothing.

    Parameters
    ----------
    X : LayerStack, mapping of {name: matrix}, or matrix
        The unsketched layers, dense or sparse. Sparse ones are not densified.

    labels : array-like of int or str of shape (n_samples,)
        Communities, as strings, integers or whole floats; -1, or "-1", is noise, which
        counts among the others.

    n_features : int, default=10
        Largest number of neurons listed for each community, at least 1.

    versus : {"others", "global"}, default="others"
        The baseline that a community is compared with. "others" is all rows outside it,
        and the effect size is Cohen's d [1]_, the difference of means over the pooled
        standard deviation. "global" is all rows, and the effect size is the difference
        of means over their standard deviation.

    weighting : {"row", "community"}, default="row"
        Whether each row counts alike in the baseline's mean and share, or each
        community, however small, without noise. Standard deviations are over rows in
        either case.

    layers : sequence of int, mapping of {name: width} or None, default=None
        Widths of the layers, if X is one matrix with the layers side by side.

    Returns
    -------
    dict of {int or str: list of TopFeature}
        For each community, its neurons with the largest effect first, ties in column
        order; those that do not fire at the members' mean come after all that do.
        Neurons whose mean does not exceed the baseline's are left out, so lists may be
        shorter.

    Raises
    ------
    ValueError
        If labels are not one-dimensional, strings or integers of at least -1, or as
        many as rows; if X is not finite, or so large that squares overflow; if
        `n_features` is below 1, or `versus` or `weighting` unknown.

    Notes
    -----
    A neuron *fires* in a row if its activation there is above a threshold. In layers
    after ReLU, GELU and their like, the activation is the positive part of the value,
    and the threshold is 0. In layers with large values of both signs, the activation is
    the value, and the threshold is one standard deviation above the neuron's mean.

    References
    ----------
    .. [1] J. Cohen, "Statistical power analysis for the behavioral sciences", 2nd
       edition, 1988.

    Examples
    --------
    >>> import numpy as np
    >>> from skleiden import LayerStack
    >>> from skleiden.inspection import top_features
    >>> mlp = np.array([[1.0, 0.0], [3.0, 0.0], [0.0, 5.0], [0.0, 4.0]])
    >>> top = top_features(LayerStack({"mlp": mlp}), [0, 0, 1, 1], n_features=1)
    >>> top[1][0].neuron, round(top[1][0].effect_size, 2), top[1][0].share
    (1, 9.0, 1.0)
    """
    check_positive_integer(n_features, "n_features")
    if versus not in ("others", "global"):
        raise ValueError(f"versus must be 'others' or 'global'; got {versus!r}.")
    if weighting not in ("row", "community"):
        raise ValueError(f"weighting must be 'row' or 'community'; got {weighting!r}.")
    stack, numbered = layers_and_labels(X, labels, layers)
    sums = community_sums(stack, numbered, firing_in(stack))
    return named(sums.top_features(n_features, versus, weighting), stack)


def named(
    features: Mapping[Any, Sequence[TopFeature]],
    stack: LayerStack,
    texts: Sequence[str] | None = None,
) -> dict[Any, list[TopFeature]]:
    """Give features with the names and texts of their columns."""
    columns = stack.columns if stack.prompts is None else (stack.prompts,)
    names = dict(zip(stack.names, columns, strict=True))

    def of_column(feature: TopFeature) -> TopFeature:
        of_layer, column = names[feature.layer], feature.neuron
        return feature._replace(
            name=None if of_layer is None else str(of_layer[column]),
            text=None if texts is None else texts[column],
        )

    return {c: [*map(of_column, of_c)] for c, of_c in features.items()}


class _Sums(NamedTuple):
    """Sums over the rows of one layer.

    `values`, and `counts` of the rows in which a neuron fires, have the shape
    (n_clusters + 1, width), with a row for each community and a last one for the noise.
    `squares`, of shape (width,), are sums over all rows. `thresholds` are those of
    `Firing`, `strongest` the rows in which the neurons fire most, if they are asked
    for.
    """

    values: np.ndarray
    counts: np.ndarray
    squares: np.ndarray
    thresholds: np.ndarray
    strongest: Strongest = Strongest.nothing()


class CommunitySums(NamedTuple):
    """Sums that one pass over X gives for the neurons of each community.

    Communities are in the order of `labels`, and none is empty. `sizes` are the numbers
    of rows of each community and, last, of the noise; `layers` has the sums of each
    layer, by name.
    """

    labels: Labels
    sizes: np.ndarray
    layers: dict[str, _Sums]

    def prototypes(self, name: str, *, standardize: bool) -> np.ndarray:
        """Give the mean activations in one layer, one row for each community."""
        sums, n_samples = self.layers[name], self.sizes.sum()
        found = sums.values[:-1] / self.sizes[:-1, None]
        if standardize:
            mean = sums.values.sum(axis=0) / n_samples
            variance = sums.squares / n_samples - mean**2
            # Sums of squares cancel to rounding where a neuron is constant.
            varies = variance > _ROUNDING * sums.squares / n_samples
            found -= mean
            found /= np.sqrt(variance, out=np.ones_like(mean), where=varies)
            found[:, ~varies] = 0
        return found

    def top_features(
        self, n_features: int, versus: str = "others", weighting: str = "row"
    ) -> dict[Any, list[TopFeature]]:
        """Give the neurons that set each community apart, see `top_features`."""
        best: list[list[TopFeature]] = [[] for _ in self.labels.values]
        for name, sums in self.layers.items():
            contrasts = _contrasts(sums, self.sizes, versus, weighting)
            for c, (effect, mean, *figures) in contrasts:
                fires = mean > sums.thresholds
                first = np.lexsort((-effect, ~fires))
                best[c] += [
                    TopFeature._make(
                        (
                            name,
                            int(j),
                            *(float(of[j]) for of in (effect, mean, *figures)),
                            bool(fires[j]),
                            None,
                            None,
                        )
                    )
                    for j in first[effect[first] > 0][:n_features]
                ]
                best[c].sort(key=lambda one: (not one.fires, -one.effect_size))
                del best[c][n_features:]
        return dict(zip(self.labels.values, best, strict=True))


def _contrasts(
    sums: _Sums, sizes: np.ndarray, versus: str, weighting: str
) -> Iterator[tuple[int, tuple[np.ndarray, ...]]]:
    """Compare each community with its baseline, neuron by neuron, in one layer.

    Yields the number of a community, and effect sizes, means and shares as in a
    `TopFeature`. A community that cannot be compared with anything is left out.
    """
    others, by_row = versus == "others", weighting == "row"
    n_communities, n_samples = sizes.size - 1, int(sizes.sum())
    both, squares = (sums.values, sums.counts), sums.squares
    totals = [of.sum(axis=0) for of in both]
    if not by_row:
        added = [(of[:-1] / sizes[:-1, None]).sum(axis=0) for of in both]
    for c in range(n_communities):
        size = int(sizes[c])
        n_outside, n_compared = n_samples - size * others, n_communities - others
        if n_outside == 0 or not (by_row or n_compared):
            continue
        inside = [of[c] for of in both]
        mean, share = (of / size for of in inside)
        row_mean, row_share = (
            (total - own * others) / n_outside
            for total, own in zip(totals, inside, strict=True)
        )
        spread, freedom = squares - n_outside * row_mean**2, n_outside - 1
        if others:
            spread, freedom = spread - size * mean**2, freedom + size - 1
        baseline, baseline_share = row_mean, row_share
        if not by_row:
            baseline, baseline_share = (
                (total - own * others) / n_compared
                for total, own in zip(added, (mean, share), strict=True)
            )
        difference = mean - baseline
        # Sums of squares cancel to rounding where a neuron is constant on both sides.
        deviation = np.sqrt(np.maximum(spread, _ROUNDING * squares) / max(freedom, 1))
        effect = np.divide(
            difference,
            deviation,
            out=np.zeros_like(difference),
            # Means of one constant differ by rounding.
            where=np.abs(difference) > _ROUNDING * (np.abs(mean) + np.abs(baseline)),
        )
        yield c, (effect, mean, baseline, share, baseline_share)


def community_sums(
    stack: LayerStack,
    labels: LabelsLike | Labels,
    firing: Sequence[Firing] | None = None,
    digest: Any = None,
    n_strongest: int = 0,
) -> CommunitySums:
    """Sum up the rows of each community, in one pass over the layers.

    Without `firing`, values are taken as they are, and neurons fire where they are not
    zero. A `digest` of hashlib, if given, takes in all that is read. For each neuron,
    the `n_strongest` rows in which it fires most are kept.
    """
    numbered = number_labels(labels)
    n_clusters = len(numbered.values)
    placed = np.where(numbered.numbers < 0, n_clusters, numbered.numbers)
    sizes = np.bincount(placed, minlength=n_clusters + 1)
    layers = {}
    for i, (name, matrix) in enumerate(zip(stack.names, stack.layers, strict=True)):
        source = source_of(matrix)
        for read in source.underlying():
            check_size(read, "a layer of X")
        if digest is not None:
            digest.update(f"{name} {source.shape} {source.dtype} ".encode())
        of_layer = None if firing is None else firing[i]
        layers[name] = _layer_sums(source, placed, sizes, of_layer, digest, n_strongest)
    return CommunitySums(numbered, sizes, layers)


def _layer_sums(
    source: Source,
    placed: np.ndarray,
    sizes: np.ndarray,
    firing: Firing | None,
    digest: Any,
    n_strongest: int,
) -> _Sums:
    """Sum up the rows of each group, of which `placed` gives the numbers."""
    by_rows = digest is not None
    if digest is not None and (parts := source.parts()):
        by_rows = False
        for part in parts:
            digest.update(np.ascontiguousarray(part).data)
    width = source.shape[1]
    values = np.zeros((sizes.size, width))
    counts, squares = np.zeros(values.shape, np.int32), np.zeros(width)
    thresholds = np.zeros(width) if firing is None else firing.thresholds
    strongest = Strongest.nothing()
    for rows in row_batches([source]):
        members = placed[rows], np.arange(rows.stop - rows.start)
        indicator = sp.csr_array(
            (np.ones(members[1].size), members), shape=(sizes.size, members[1].size)
        )
        stored = source.read(rows)
        if by_rows:
            digest.update(np.ascontiguousarray(densified(stored)).data)
        block = stored.astype(np.float64)
        fires = block != 0
        if firing is not None:
            block = firing.activation(block)
            fires = firing.fires(block)
        if firing is not None and firing.by_rows:
            block, offset = _standardised(block)
            values -= (indicator @ offset)[:, None]
            squares += offset @ offset - 2 * (offset @ block)
        values += indicator @ block
        counts += (indicator @ fires).astype(np.int32)
        if n_strongest:
            least = np.maximum(strongest.least(width, n_strongest), thresholds)
            of, columns, above = entries_above(block, least)
            found = Strongest(columns, above, of + rows.start)
            strongest = strongest.joined(found, n_strongest)
        with np.errstate(over="ignore"):  # told below
            squares += column_squares(block)
    if not np.isfinite(squares).all():
        raise ValueError(
            "X contains NaN or infinity, or values whose squares overflow. Repair "
            "these values, or leave their rows out of X and labels."
        )
    return _Sums(values, counts, squares, thresholds, strongest)


def _standardised(block: Any) -> tuple[Any, np.ndarray]:
    """Divide rows by their standard deviation; also give what to subtract from each."""
    every = np.ones(block.shape[1], dtype=bool)
    one_layer = np.zeros(block.shape[1], dtype=np.int32)
    centred, means, deviation = countsketch.centre_rows(block, every, one_layer, 1)
    deviation = deviation[:, 0]
    scale = np.divide(1, deviation, out=np.zeros_like(deviation), where=deviation > 0)
    offset = means[:, 0] * scale
    return scale_rows(centred, scale), offset


def layers_and_labels(
    X: Any,
    labels: LabelsLike,
    layers: Mapping[str, int] | Sequence[int] | None,
) -> tuple[LayerStack, Labels]:
    """Read layers, and labels of their rows, refused if they do not fit."""
    stack = as_layer_stack(X, layers)
    return stack, number_labels(labels, len(stack), ids_of(X, stack))


def ids_of(X: Any, stack: Any) -> Any:
    """Give the ids that `stack`, which X became, has of rows, or else their index."""
    known = getattr(stack, "ids", None)
    return common_index({"X": X}) if known is None else known
