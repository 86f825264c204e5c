"""Which neurons make a community: prototypes and top neurons, of unsketched layers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import scipy.sparse as sp

from skleiden._blocks.mapped import check_size
from skleiden._blocks.sources import row_batches, source_of
from skleiden._input import as_layer_stack
from skleiden._layers import LayerStack

from ._members import check_labels, check_positive_integer

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
        Mean activation of the members and of the baseline.

    share, baseline_share : float
        Share of the members, and of the baseline, in which the neuron is not zero.
    """

    layer: str
    neuron: int
    effect_size: float
    mean: float
    baseline_mean: float
    share: float
    baseline_share: float


def prototypes(
    X: Any,
    labels: Sequence[int] | np.ndarray,
    *,
    standardize: bool = False,
    layers: Mapping[str, int] | Sequence[int] | None = None,
) -> dict[str, np.ndarray]:
    """Mean activation of every neuron in each community, per layer.

    Parameters
    ----------
    X : LayerStack, mapping of {name: matrix}, or matrix
        The unsketched layers, dense or sparse, which are not densified.

    labels : array-like of int of shape (n_samples,)
        Communities; -1 is noise, which has no prototype.

    standardize : bool, default=False
        Whether to give means of z-scores: neurons less their mean over all rows, noise
        included, over their standard deviation; 0 for a constant neuron.

    layers : sequence of int, mapping of {name: width} or None, default=None
        The layers' widths where X is one matrix with the layers side by side.

    Returns
    -------
    dict of {str: ndarray of shape (n_clusters, width of the layer)}
        Float64 means, row c for community c (nan where no row has that label).

    Raises
    ------
    ValueError
        If labels are not one-dimensional integers of at least -1, or as many as rows.

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
    stack, labels = _check_layers_and_labels(X, labels, layers)
    sizes = np.bincount(labels[labels >= 0]).astype(np.float64)
    found = {}
    for name, matrix in zip(stack.names, stack.layers, strict=True):
        sums = _community_sums(matrix, labels, sizes.size)
        with np.errstate(invalid="ignore"):
            found[name] = sums.values[:-1] / sizes[:, None]
        if standardize:
            mean = sums.values.sum(axis=0) / labels.size
            squares = sums.squares.sum(axis=0)
            variance = squares / labels.size - mean**2
            # Sums of squares cancel to rounding where a neuron is constant.
            varies = variance > _ROUNDING * squares / labels.size
            found[name] -= mean
            found[name] /= np.sqrt(variance, out=np.ones_like(mean), where=varies)
            found[name][:, ~varies] *= 0  # but nan where there is no row
    return found


def top_features(
    X: Any,
    labels: Sequence[int] | np.ndarray,
    *,
    n_features: int = 10,
    versus: str = "others",
    weighting: str = "row",
    layers: Mapping[str, int] | Sequence[int] | None = None,
) -> dict[int, list[TopFeature]]:
    """Find the neurons that set each community apart, over all layers.

    Neurons are ranked by a standardised difference of means, so that layers of
    different scale compete fairly. No p-value is given: the communities were made from
    the same activations, so that a test against "no difference" would say nothing.

    Parameters
    ----------
    X : LayerStack, mapping of {name: matrix}, or matrix
        The unsketched layers, dense or sparse, which are not densified.

    labels : array-like of int of shape (n_samples,)
        Communities; -1 is noise, which counts among the others.

    n_features : int, default=10
        Neurons listed for each community.

    versus : {"others", "global"}, default="others"
        The baseline: all rows outside the community, with Cohen's d [1]_ as effect
        size (the difference of means over the pooled standard deviation); or all
        rows, with the difference of means over their standard deviation.

    weighting : {"row", "community"}, default="row"
        What counts alike in the baseline's mean and share: each row, or each community,
        however small, without noise. Standard deviations are of rows in either case.

    layers : sequence of int, mapping of {name: width} or None, default=None
        The layers' widths where X is one matrix with the layers side by side.

    Returns
    -------
    dict of {int: list of TopFeature}
        For each community, largest effect first, ties in column order. Neurons whose
        mean does not exceed the baseline's are left out, so that lists may be shorter.

    Raises
    ------
    ValueError
        If labels are not one-dimensional integers of at least -1, or as many as rows;
        if `n_features` is below 1, or `versus` or `weighting` unknown.

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
    stack, labels = _check_layers_and_labels(X, labels, layers)
    sizes = np.bincount(labels[labels >= 0])
    best: dict[int, list[TopFeature]] = {int(c): [] for c in np.flatnonzero(sizes)}
    for name, matrix in zip(stack.names, stack.layers, strict=True):
        sums = _community_sums(matrix, labels, sizes.size)
        contrast = _Contrast(name, sums, sizes, labels.size, versus, weighting)
        for c, found in best.items():
            found += contrast.candidates(c, n_features)
            found.sort(key=lambda feature: -feature.effect_size)
            del found[n_features:]
    return best


class _Sums(NamedTuple):
    """Of each column, in each community and, last, in the noise.

    Float64 arrays of shape (n_clusters + 1, width).
    """

    values: np.ndarray
    squares: np.ndarray
    counts: np.ndarray


class _Contrast:
    """Communities of one layer against their baselines."""

    def __init__(
        self,
        layer: str,
        sums: _Sums,
        sizes: np.ndarray,
        n_samples: int,
        versus: str,
        weighting: str,
    ) -> None:
        self.layer, self.sums, self.sizes, self.n_samples = (
            layer,
            sums,
            sizes,
            n_samples,
        )
        self.others = versus == "others"
        self.by_community = weighting == "community"
        self.totals = _Sums(*(of.sum(axis=0) for of in sums))
        if self.by_community:
            present = np.flatnonzero(sizes)
            self.n_present = present.size
            self.added = [
                (of[present] / sizes[present, None]).sum(axis=0)
                for of in (sums.values, sums.counts)
            ]

    def candidates(self, c: int, n_features: int) -> list[TopFeature]:
        """The neurons of the largest effects for one community."""
        size = int(self.sizes[c])
        inside = _Sums(*(of[c] for of in self.sums))
        outside, n_outside = self.totals, self.n_samples
        if self.others:
            outside = _Sums(*(t - i for t, i in zip(outside, inside, strict=True)))
            n_outside -= size
        if n_outside == 0:  # one community of all rows: nothing to compare with
            return []
        mean, share = inside.values / size, inside.counts / size
        row_mean = outside.values / n_outside
        spread = outside.squares - n_outside * row_mean**2
        freedom = n_outside - 1
        if self.others:
            spread = spread + inside.squares - size * mean**2
            freedom += size - 1
        baseline, baseline_share = row_mean, outside.counts / n_outside
        if self.by_community:
            n_communities = self.n_present - self.others
            if n_communities == 0:
                return []
            baseline, baseline_share = (
                (added - own * self.others) / n_communities
                for added, own in zip(self.added, (mean, share), strict=True)
            )
        difference = mean - baseline
        # Sums of squares cancel to rounding where a neuron is constant on both sides.
        rounding = _ROUNDING * (inside.squares + outside.squares)
        deviation = np.sqrt(np.maximum(spread, rounding) / max(freedom, 1))
        effect = np.divide(
            difference,
            deviation,
            out=np.zeros_like(difference),
            # Means of one constant differ by rounding.
            where=difference > _ROUNDING * (np.abs(mean) + np.abs(baseline)),
        )
        n_kept = min(n_features, int(np.count_nonzero(effect > 0)))
        return [
            TopFeature(
                layer=self.layer,
                neuron=int(j),
                effect_size=float(effect[j]),
                mean=float(mean[j]),
                baseline_mean=float(baseline[j]),
                share=float(share[j]),
                baseline_share=float(baseline_share[j]),
            )
            for j in np.argsort(-effect, kind="stable")[:n_kept]
        ]


def _community_sums(matrix: Any, labels: np.ndarray, n_clusters: int) -> _Sums:
    """Sum, sum of squares and nonzero count of each column in each community."""
    placed = np.where(labels < 0, n_clusters, labels)
    sums = np.zeros((n_clusters + 1, matrix.shape[1]))
    squares, counts = np.zeros_like(sums), np.zeros_like(sums)
    check_size(matrix, "a layer of X")
    source = source_of(matrix)
    for rows in row_batches([source]):
        n_rows = rows.stop - rows.start
        indicator = sp.csr_array(
            (np.ones(n_rows), (placed[rows], np.arange(n_rows))),
            shape=(n_clusters + 1, n_rows),
        )
        block = source.read(rows).astype(np.float64)
        sums += indicator @ block
        counts += indicator @ (block != 0).astype(np.float64)
        with np.errstate(over="ignore"):  # told below
            squares += indicator @ (block * block)
    if not np.isfinite(squares).all():
        raise ValueError(
            "X contains NaN or infinity, or values whose squares overflow. Repair "
            "these values, or leave their rows out of X and labels."
        )
    return _Sums(sums, squares, counts)


def _check_layers_and_labels(
    X: Any,
    labels: Sequence[int] | np.ndarray,
    layers: Mapping[str, int] | Sequence[int] | None,
) -> tuple[LayerStack, np.ndarray]:
    stack, labels = as_layer_stack(X, layers), check_labels(labels)
    if labels.size != len(stack):
        raise ValueError(
            f"labels must give one label per row; got {labels.size} labels for "
            f"{len(stack)} rows."
        )
    return stack, labels
