"""Who is in a community: members, sizes and coverage."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
from sklearn.utils import Bunch

from skleiden._ids import as_id_array


def summarize(labels: Sequence[int] | np.ndarray) -> Bunch:
    """Count communities, their sizes, and how many rows are in one.

    Parameters
    ----------
    labels : array-like of int of shape (n_samples,)
        Communities; -1 is noise.

    Returns
    -------
    summary : :class:`~sklearn.utils.Bunch`
        Dictionary-like object, with the following attributes.

        n_samples, n_communities, n_noise : int
            Rows, communities with a member, and rows labelled -1.
        coverage : float
            Share of the rows that are in a community.
        largest_share : float
            Share of the rows that are in the largest community.
        sizes : ndarray of shape (n_clusters,), dtype int64
            Members of each community.
        shares : ndarray of shape (n_clusters,)
            Their share of the rows.

    Raises
    ------
    ValueError
        If labels are not one-dimensional integers of at least -1.

    Examples
    --------
    >>> from skleiden.inspection import summarize
    >>> summary = summarize([0, 0, 1, -1])
    >>> summary.n_communities, summary.sizes.tolist(), summary.coverage
    (2, [2, 1], 0.75)
    """
    labels = check_labels(labels)
    sizes = np.bincount(labels[labels >= 0])
    n_noise = int(np.count_nonzero(labels < 0))
    return Bunch(
        n_samples=labels.size,
        n_communities=int(np.count_nonzero(sizes)),
        n_noise=n_noise,
        coverage=1 - n_noise / labels.size,
        largest_share=float(sizes.max(initial=0) / labels.size),
        sizes=sizes,
        shares=sizes / labels.size,
    )


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


def check_labels(labels: Any, n_rows: int | None = None) -> np.ndarray:
    """Labels as an int64 array, refused if they are not one integer for each row."""
    if np.ma.is_masked(labels):
        raise ValueError(
            "labels must not be masked; got a masked array. Fill them with -1, noise."
        )
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
    if labels.max() > np.iinfo(np.int64).max:
        raise ValueError(f"labels must be below 2**63; got {labels.max()}.")
    if n_rows is not None and labels.size != n_rows:
        raise ValueError(
            f"labels must give one label per row; got {labels.size} labels for "
            f"{n_rows} rows."
        )
    return labels.astype(np.int64)


def check_positive_integer(value: Any, name: str) -> None:
    """Refuse what is not an integer of at least 1."""
    whole = isinstance(value, (int, np.integer)) and not isinstance(value, bool)
    if not whole or value < 1:
        raise ValueError(f"{name} must be an integer of at least 1; got {value!r}.")
