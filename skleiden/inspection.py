"""From labels to meaning: members, prototypes and top neurons of communities."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import scipy.sparse as sp
from sklearn.utils import gen_batches

from .layers import LayerStack, as_id_array, as_layer_stack

__all__ = ["TopFeature", "members", "prototypes", "top_features"]

# Stored numbers read at once, so that nothing of the size of X is made.
_BLOCK_SIZE = 2**20


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


def members(
    labels: Sequence[int] | np.ndarray,
    ids: Iterable[Any] | None = None,
    *,
    min_size: int = 2,
) -> dict[int, np.ndarray]:
    """List the members of each community.

    Parameters
    ----------
    labels : array-like of int of shape (n_samples,)
        Communities; -1 is noise and is left out.

    ids : sequence of length n_samples, default=None
        What to list; the row numbers if None.

    min_size : int, default=2
        Smallest community listed.

    Returns
    -------
    dict of {int: ndarray}
        Members of each community in row order; largest community first, ties by label.

    Raises
    ------
    ValueError
        If labels are not one-dimensional integers of at least -1, or the lengths
        differ.

    Examples
    --------
    >>> from skleiden.inspection import members
    >>> members([0, 1, 0, -1, 0], ["a", "b", "c", "d", "e"], min_size=1)
    {0: array(['a', 'c', 'e'], dtype='<U1'), 1: array(['b'], dtype='<U1')}
    """
    labels = check_labels(labels)
    rows = np.arange(labels.size) if ids is None else as_id_array(ids)
    if rows.shape[0] != labels.size:
        raise ValueError(
            f"ids must give one id per label; got {rows.shape[0]} ids for "
            f"{labels.size} labels."
        )
    sizes = np.bincount(labels[labels >= 0])
    by_size = np.argsort(-sizes, kind="stable")
    # Rows in order of label, each community's in row order.
    order = np.argsort(labels, kind="stable")
    ends = np.searchsorted(labels[order], np.arange(sizes.size), side="right")
    return {
        int(label): rows[order[ends[label] - sizes[label] : ends[label]]]
        for label in by_size
        if sizes[label] >= max(min_size, 1)
    }


def prototypes(
    X: Any,
    labels: Sequence[int] | np.ndarray,
    *,
    layers: Mapping[str, int] | Sequence[int] | None = None,
) -> dict[str, np.ndarray]:
    """Mean activation of every neuron in each community, per layer.

    Parameters
    ----------
    X : LayerStack, mapping of {name: matrix}, or matrix
        The unsketched layers, dense or sparse, which are not densified.

    labels : array-like of int of shape (n_samples,)
        Communities; -1 is noise and is left out.

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
    with np.errstate(invalid="ignore"):
        return {
            name: _community_sums(matrix, labels, sizes.size)[0] / sizes[:, None]
            for name, matrix in zip(stack.names, stack.layers, strict=True)
        }


def top_features(
    X: Any,
    labels: Sequence[int] | np.ndarray,
    *,
    n_features: int = 10,
    versus: str = "others",
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
        if `n_features` is below 1 or `versus` unknown.

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
    if not isinstance(n_features, (int, np.integer)) or n_features < 1:
        raise ValueError(
            f"n_features must be an integer of at least 1; got {n_features!r}."
        )
    if versus not in ("others", "global"):
        raise ValueError(f"versus must be 'others' or 'global'; got {versus!r}.")
    stack, labels = _check_layers_and_labels(X, labels, layers)
    sizes = np.bincount(labels[labels >= 0])
    best: dict[int, list[TopFeature]] = {int(c): [] for c in np.flatnonzero(sizes)}
    for name, matrix in zip(stack.names, stack.layers, strict=True):
        # One more community, the last, holds the noise: the total is over all rows.
        placed = np.where(labels < 0, sizes.size, labels)
        sums = _community_sums(matrix, placed, sizes.size + 1)
        totals = [values.sum(axis=0) for values in sums]
        for c, found in best.items():
            found += _layer_candidates(
                name,
                [values[c] for values in sums],
                totals,
                int(sizes[c]),
                labels.size,
                n_features,
                versus,
            )
            found.sort(key=lambda feature: -feature.effect_size)
            del found[n_features:]
    return best


def _layer_candidates(
    name: str,
    inside: list[np.ndarray],
    totals: list[np.ndarray],
    size: int,
    n_samples: int,
    n_features: int,
    versus: str,
) -> list[TopFeature]:
    """A layer's best neurons for one community, from sums, squares and counts."""
    if versus == "others":
        outside = [total - values for total, values in zip(totals, inside, strict=True)]
        baseline_size = n_samples - size
    else:
        outside, baseline_size = totals, n_samples
    if baseline_size == 0:  # one community of all rows: nothing to compare with
        return []
    mean, baseline = inside[0] / size, outside[0] / baseline_size
    spread = outside[1] - baseline_size * baseline**2
    freedom = baseline_size - 1
    if versus == "others":
        spread = spread + inside[1] - size * mean**2
        freedom += size - 1
    difference = mean - baseline
    # Sums of squares cancel to rounding where a neuron is constant on both sides.
    rounding = 1e-12 * (inside[1] + outside[1])
    deviation = np.sqrt(np.maximum(spread, rounding) / max(freedom, 1))
    effect = np.divide(
        difference,
        deviation,
        out=np.zeros_like(difference),
        # Means of one constant differ by rounding.
        where=difference > 1e-12 * (np.abs(mean) + np.abs(baseline)),
    )
    n_kept = min(n_features, int(np.count_nonzero(effect > 0)))
    return [
        TopFeature(
            layer=name,
            neuron=int(j),
            effect_size=float(effect[j]),
            mean=float(mean[j]),
            baseline_mean=float(baseline[j]),
            share=float(inside[2][j] / size),
            baseline_share=float(outside[2][j] / baseline_size),
        )
        for j in np.argsort(-effect, kind="stable")[:n_kept]
    ]


def _community_sums(
    matrix: Any, labels: np.ndarray, n_clusters: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Sum, sum of squares and nonzero count of each column in each community.

    Three float64 arrays of shape (n_clusters, width); rows labelled -1 count nowhere.
    """
    sums = np.zeros((n_clusters, matrix.shape[1]))
    squares, counts = np.zeros_like(sums), np.zeros_like(sums)
    for rows in _row_batches(matrix):
        kept = np.flatnonzero(labels[rows] >= 0)
        indicator = sp.csr_array(
            (np.ones(kept.size), (labels[rows][kept], kept)),
            shape=(n_clusters, rows.stop - rows.start),
        )
        block = matrix[rows].astype(np.float64)
        sums += indicator @ block
        counts += indicator @ (block != 0).astype(np.float64)
        with np.errstate(over="ignore"):  # told below
            squares += indicator @ (block.power(2) if sp.issparse(block) else block**2)
    if not np.isfinite(squares).all():
        raise ValueError(
            "X contains NaN or infinity, or values whose squares overflow. Repair "
            "these values, or leave their rows out of X and labels."
        )
    return sums, squares, counts


def _row_batches(matrix: Any) -> Iterator[slice]:
    n = matrix.shape[0]
    stored = matrix.nnz if sp.issparse(matrix) else matrix.size
    return gen_batches(n, max(1, min(n, _BLOCK_SIZE * n // max(stored, 1))))


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


def check_labels(labels: Any) -> np.ndarray:
    """Labels as an int64 array, refused if they are not one-dimensional integers."""
    labels = np.asarray(labels)
    if labels.ndim != 1 or labels.size == 0 or labels.dtype.kind not in "iu":
        raise ValueError(
            "labels must be one integer per row, such as the labels_ of a clusterer; "
            f"got shape {labels.shape} and dtype {labels.dtype}."
        )
    if labels.min() < -1:
        raise ValueError(
            f"labels must be at least 0, or -1 for noise; got {labels.min()}."
        )
    return labels.astype(np.int64)
