"""Agreement of layers: how well each of them keeps each community together."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Any

import numpy as np
from sklearn.utils import check_array, check_random_state

from skleiden._blocks.checks import check_real, refuse_layer_sequence
from skleiden._blocks.frames import common_index, refuse_other_order
from skleiden._blocks.layout import layer_layout
from skleiden._blocks.tensors import from_torch
from skleiden._fitting import fitted_sketcher
from skleiden._kernels import knn
from skleiden._layers import LayerStack

from ._members import LabelsLike, check_positive_integer, number_labels

# So many rows from the start, the middle and the end are embedded again, to tell
# whether they are those of a fit. Their unit vectors may be so far from those that
# were fitted, which is far more than rounding.
_ROWS_CHECKED = 8
_SAME_ROW = 0.05


def layer_agreement(
    X: np.ndarray,
    labels: LabelsLike,
    layers: Mapping[str, int] | Sequence[int],
    *,
    n_neighbors: int = 15,
    max_members: int = 100,
    random_state: int | np.random.RandomState | None = 0,
) -> dict[str, np.ndarray]:
    """Tell how well each layer alone keeps each community together.

    The nearest neighbours of a community's members are searched by cosine, in one layer
    alone. The share of them that are members, too, tells whether the community lives in
    this layer.

    Parameters
    ----------
    X : array-like of shape (n_samples, n_features)
        The embedding, with the layers' columns side by side.

    labels : array-like of int or str of shape (n_samples,)
        Communities, as strings, integers or whole floats; -1, or "-1", is noise, which
        has no agreement.

    layers : mapping of {name: width} or sequence of int
        Columns of each layer in the embedding, such as
        ``dict(zip(sketcher.layer_names_, sketcher.n_components_))``.

    n_neighbors : int, default=15
        Number of neighbours looked at, at least 1; at most as many as a member has
        other members.

    max_members : int, default=100
        Largest number of members of each community whose neighbours are searched, at
        least 1; they are drawn at random.

    random_state : int, RandomState instance or None, default=0
        Determines which members are drawn.

    Returns
    -------
    dict of {str: ndarray of shape (n_clusters,)}
        For each layer and community, ``(share - chance) / (1 - chance)``, where chance
        is the community's share of all other rows. It is 1 if all neighbours are
        members, and 0 if as many are as by chance. Members without activity in the
        layer are left out; nan if none is left, or no row is outside the community.
        Community c is at place c; if labels are strings, communities are in their
        ascending order.

    Raises
    ------
    ValueError
        If X is not finite, labels are not one per row, or the layers' widths do not add
        up to the columns of X; if a number is below 1.

    Examples
    --------
    >>> from skleiden import MultiLayerTfidfSketcher
    >>> from skleiden.datasets import make_layered_activations
    >>> from skleiden.inspection import layer_agreement
    >>> stack, planted = make_layered_activations(
    ...     600, n_layers=2, n_communities=4, random_state=0
    ... )
    >>> sketcher = MultiLayerTfidfSketcher(layer_weights=None, random_state=0)
    >>> embedding = sketcher.fit_transform(stack)
    >>> widths = dict(zip(sketcher.layer_names_, sketcher.n_components_))
    >>> agreement = layer_agreement(embedding, planted, widths)
    >>> {name: bool(values.min() > 0.1) for name, values in agreement.items()}
    {'layer_0': True, 'layer_1': True}
    """
    check_positive_integer(n_neighbors, "n_neighbors")
    check_positive_integer(max_members, "max_members")
    refuse_layer_sequence(X)
    refuse_other_order(labels, "labels", common_index({"X": X}))
    X = check_array(from_torch(X, "X"), dtype="numeric")
    check_real(X, "X")
    X = X.astype(np.result_type(X, np.float32), copy=False)
    n = X.shape[0]
    numbered = number_labels(labels, n)
    numbers, sizes = numbered.numbers, numbered.sizes
    names, widths = layer_layout(layers, X.shape[1])
    asked = _some_of_each(numbers, max_members, check_random_state(random_state))
    of = numbers[asked]
    # A neighbour counts only if there are members enough to be one.
    k = min(n_neighbors, n - 1)
    looked_at = np.minimum(k, sizes[of] - 1)[:, None]
    every = np.arange(n)
    agreement = {}
    for name, (start, stop) in zip(
        names, pairwise(np.cumsum([0, *widths])), strict=True
    ):
        vectors = knn.unit_rows(np.ascontiguousarray(X[:, start:stop]))
        ranks = knn.Ranks(asked, every)
        found = knn.exact_neighbors(vectors[asked], vectors, k, ranks, own=asked)
        counted = np.arange(k) < looked_at
        hits = (numbers[found.ids] == of[:, None]) & (found.ids >= 0) & counted
        active = vectors[asked].any(axis=1) & (looked_at[:, 0] > 0)
        with np.errstate(invalid="ignore", divide="ignore"):
            share = hits.sum(axis=1) / looked_at[:, 0]
            mean = np.bincount(
                of[active], share[active], minlength=sizes.size
            ) / np.bincount(of[active], minlength=sizes.size)
            chance = (sizes - 1) / (n - 1)
            share = np.where(chance < 1, (mean - chance) / (1 - chance), np.nan)
        agreement[name] = numbered.placed(share, np.nan)
    return agreement


def fitted_embedding(estimator: Any, X: Any) -> tuple[np.ndarray, dict[str, int]]:
    """Give the embedding of the X that an estimator was fitted on, and its widths.

    Widths are by layer. If the clusterer comes directly after the sketcher, the vectors
    that it holds are the embedding, except for the rounding of equal rows.
    """
    sketcher = fitted_sketcher(estimator)
    components = sketcher._by_layer(sketcher.n_components_)
    *_, before, last = _fitted_steps(estimator)
    distinct: Any = getattr(last, "_distinct", None)
    vectors = getattr(distinct, "vectors", None)  # not here if fitted on Dask's workers
    if before is not sketcher or not isinstance(vectors, np.ndarray):
        return sketcher.transform(X), components
    if distinct.first.size == distinct.inverse.size:  # each row once, none of them zero
        return vectors, components
    embedding = np.zeros((distinct.inverse.size, vectors.shape[1]), vectors.dtype)
    present = distinct.inverse >= 0
    embedding[present] = vectors[distinct.inverse[present]]
    return embedding, components


def check_fitted_rows(estimator: Any, stack: LayerStack, n_samples: int) -> None:
    """Refuse other rows than an estimator was fitted on, or these in another order.

    Some of them are embedded again, and compared with the vectors that the clusterer
    holds: labels of other rows would be described as if they were those of these.
    """
    if len(stack) != n_samples:
        raise ValueError(
            "X must be what the estimator was fitted on; got "
            f"{len(stack)} rows, fitted with {n_samples}."
        )
    steps, sketcher = _fitted_steps(estimator), fitted_sketcher(estimator)
    last = steps[-1]
    distinct: Any = getattr(last, "_distinct", None)
    vectors = getattr(distinct, "vectors", None)  # not here if fitted on Dask's workers
    if (
        sketcher is None
        or not isinstance(vectors, np.ndarray)
        or last.metric == "precomputed"
    ):
        return
    first = next(i for i, step in enumerate(steps) if step is sketcher)

    def embed(rows: slice) -> np.ndarray:
        some: Any = stack[rows]
        for step in steps[first:-1]:
            if hasattr(step, "transform"):
                some = step.transform(some)
        return np.asarray(some, dtype=np.float32)

    # Neighbouring rows, since layers may lie in chunks of a file.
    starts = sorted({0, n_samples // 2, max(0, n_samples - _ROWS_CHECKED)})
    parts = [slice(a, min(a + _ROWS_CHECKED, n_samples)) for a in starts]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # what is to be told, the fit has told
        found = knn.unit_rows(np.concatenate([embed(part) for part in parts]))
    rows = np.concatenate([np.arange(n_samples)[part] for part in parts])
    fitted = np.zeros_like(found)
    present = distinct.inverse[rows] >= 0
    fitted[present] = vectors[distinct.inverse[rows][present]]
    off = np.linalg.norm(found - fitted, axis=1)
    worst = int(off.argmax())
    if off[worst] > _SAME_ROW:
        raise ValueError(
            "X must be what the estimator was fitted on, with its rows in the same "
            f"order; row {rows[worst]} is another one: its unit vector is "
            f"{off[worst]:.2f} away from the one that was fitted. Give the rows in "
            "their order, or fit the estimator on X."
        )


def _fitted_steps(estimator: Any) -> list[Any]:
    """Give the steps of nested pipelines and of a fitted StableLeiden, in order."""
    inner = getattr(estimator, "estimator_", None)
    steps = [step for _, step in getattr(estimator, "steps", [])]
    if inner is None and not steps:
        return [estimator]
    return [one for step in steps or [inner] for one in _fitted_steps(step)]


def _some_of_each(
    labels: np.ndarray, max_members: int, rng: np.random.RandomState
) -> np.ndarray:
    """Draw at most so many rows of each community; give them in ascending order."""
    shuffled = rng.permutation(np.flatnonzero(labels >= 0))
    order = shuffled[np.argsort(labels[shuffled], kind="stable")]
    starts = np.searchsorted(labels[order], labels[order])
    return np.sort(order[np.arange(order.size) - starts < max_members])
