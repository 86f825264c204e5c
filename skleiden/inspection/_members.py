"""Members of communities, their sizes and coverage, and labels of any kind."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from numbers import Real
from typing import Any, NamedTuple, TypeAlias

import numpy as np
from sklearn.utils import Bunch

from skleiden._blocks.frames import refuse_other_order
from skleiden._ids import as_id_array
from skleiden._text import is_missing

# A label of a community as it is given and given back.
Label: TypeAlias = int | str
# Labels of rows as all of `inspection` takes them, Series of pandas among them.
LabelsLike: TypeAlias = Sequence[int] | Sequence[float] | Sequence[str] | np.ndarray

_NOISE = "-1"
# What str makes of floats that are noise, or missing.
_OF_FLOATS = {"-1.0", "nan"}
# Places of a table at most, of which those without members are memory for nothing.
_MOST_PLACES = 10_000_000
_WANTED = "labels must be one integer per row, such as the labels_ of a clusterer"


def summarize(labels: LabelsLike) -> Bunch:
    """Count communities, their members, and the rows that are in one.

    Parameters
    ----------
    labels : array-like of int or str of shape (n_samples,)
        Communities, as strings, integers or whole floats; -1, or "-1", is noise.

    Returns
    -------
    summary : :class:`~sklearn.utils.Bunch`
        Dictionary-like object, which :func:`json.dumps` takes, with the following
        attributes.

        n_samples, n_communities, n_noise : int
            Number of rows, of communities with a member, and of rows labelled -1.
        coverage : float
            Share of the rows that are in a community.
        largest_share : float
            Share of the rows that are in the largest community.
        labels : list of int or str of length n_clusters
            The communities: all integers from 0 to the largest label, even without a
            member; or strings, in ascending order.
        sizes : list of int of length n_clusters
            Number of members of each community.
        shares : list of float of length n_clusters
            Share of the rows in each community.

    Raises
    ------
    ValueError
        If labels are not one-dimensional, strings or integers of at least -1 and below
        10,000,000.

    Examples
    --------
    >>> from skleiden.inspection import summarize
    >>> summary = summarize([0, 0, 1, -1])
    >>> summary.n_communities, summary.sizes, summary.coverage
    (2, [2, 1], 0.75)
    """
    found = number_labels(labels)
    sizes, n = found.sizes, found.numbers.size
    return Bunch(
        **count(found),
        labels=found.places,
        sizes=found.placed(sizes, 0).tolist(),
        shares=found.placed(sizes / n, 0.0).tolist(),
    )


def count(labels: Any) -> dict[str, Any]:
    """Give what `summarize` does, but for its tables: nothing grows with the labels."""
    found = number_labels(labels)
    sizes, n = found.sizes, found.numbers.size
    n_noise = n - int(sizes.sum())
    return {
        "n_samples": n,
        "n_communities": sizes.size,
        "n_noise": n_noise,
        "coverage": 1 - n_noise / n,
        "largest_share": float(sizes.max(initial=0) / n),
    }


def members(
    labels: LabelsLike, ids: Iterable[Any] | None = None, *, min_size: int = 2
) -> dict[Label, list[Any]]:
    """List the members of each community.

    Parameters
    ----------
    labels : array-like of int or str of shape (n_samples,)
        Communities, as strings, integers or whole floats; -1, or "-1", is noise and is
        left out.

    ids : sequence of length n_samples, default=None
        Ids to list; the row numbers if None.

    min_size : int, default=2
        Smallest community listed, at least 0.

    Returns
    -------
    dict of {int or str: list}
        Members of each community in row order; the largest community first, ties by
        label. Numbers and strings of NumPy are given as those of Python, and dates as
        text, so that :func:`json.dumps` takes them.

    Raises
    ------
    ValueError
        If labels are not one-dimensional, strings or integers of at least -1, or the
        lengths differ; if `min_size` is not an integer of at least 0.

    TypeError
        If `ids` are no sequence.

    Examples
    --------
    >>> from skleiden.inspection import members
    >>> members([0, 1, 0, -1, 0], ["a", "b", "c", "d", "e"], min_size=1)
    {0: ['a', 'c', 'e'], 1: ['b']}
    >>> members(["cat", "dog", "cat"], min_size=1)
    {'cat': [0, 2], 'dog': [1]}
    """
    check_integer(min_size, "min_size", 0)
    rows_of = member_rows(labels, min_size=min_size)
    if ids is None:
        return {label: rows.tolist() for label, rows in rows_of.items()}
    listed, n = as_id_array(ids), np.shape(labels)[0]
    refuse_other_order(labels, "labels", listed)
    if listed.shape[0] != n:
        raise ValueError(
            f"ids must give one id per label; got {listed.shape[0]} ids for {n} labels."
        )
    if listed.dtype.kind in "mM":  # of which tolist may make integers
        listed = listed.astype(str)
    return {
        label: [_native(one) for one in listed[rows].tolist()]
        for label, rows in rows_of.items()
    }


def member_rows(labels: Any, *, min_size: int = 1) -> dict[Any, np.ndarray]:
    """Give the rows of each community, as `members` lists them, as arrays."""
    found = number_labels(labels)
    sizes = found.sizes
    # Rows in order of label, each community's in row order.
    order = np.argsort(found.numbers, kind="stable")
    ends = order.size - sizes.sum() + np.cumsum(sizes)
    return {
        found.values[number]: order[ends[number] - sizes[number] : ends[number]]
        for number in np.argsort(-sizes, kind="stable").tolist()
        if sizes[number] >= min_size
    }


class Labels(NamedTuple):
    """Labels of rows, of any kind, and the numbers that stand for them.

    Computations use `numbers`, of which none is left out, so that nothing grows with
    the largest label; results name communities by `values`.

    Attributes
    ----------
    numbers : ndarray of shape (n_samples,), dtype int64
        For each row the place of its label in `values`; -1 for noise.

    values : list of int, or of str
        The labels that rows have, in ascending order, without that of noise.
    """

    numbers: np.ndarray
    values: list[Any]

    @property
    def sizes(self) -> np.ndarray:
        """Members of each label, at least one."""
        placed = self.numbers[self.numbers >= 0]
        return np.bincount(placed, minlength=len(self.values))

    @property
    def n_places(self) -> int:
        """Number of places in a table.

        If labels are integers, label i is at place i of a table, and some places may be
        empty; else the labels are at the places in their order.
        """
        if not self.values or isinstance(self.values[0], str):
            return len(self.values)
        self.check_places()
        return int(self.values[-1]) + 1

    def check_places(self) -> None:
        """Refuse integers so large that a table has no room for their places."""
        largest = self.values[-1] if self.values else 0
        if not isinstance(largest, str) and largest >= _MOST_PLACES:
            raise ValueError(
                f"labels must be below {_MOST_PLACES:,}, as there is a place for each "
                f"number up to the largest; got {largest}. Give them as strings, for "
                "example by [str(label) for label in labels], of which none is left "
                "out."
            )

    @property
    def places(self) -> list[Any]:
        """The label of each place in a table."""
        n = self.n_places
        return self.values if n == len(self.values) else list(range(n))

    @property
    def place_of_rows(self) -> np.ndarray:
        """Place of each row's label in a table; -1 for noise."""
        if not self.values or isinstance(self.values[0], str):
            return self.numbers
        return np.array([*self.values, -1])[self.numbers]

    def placed(self, of_labels: np.ndarray, empty: Any) -> np.ndarray:
        """Make a table of values of the labels; `empty` at places that no row has."""
        if self.n_places == len(of_labels):
            return of_labels
        shape = self.n_places, *of_labels.shape[1:]
        table = np.full(shape, empty, of_labels.dtype)
        table[self.values] = of_labels
        return table


def number_labels(
    labels: Any, n_rows: int | None = None, ids: Any = None, name: str = "labels"
) -> Labels:
    """Enumerate labels, which may be strings, integers, whole floats, or `Labels`.

    If the rows have `ids`, a Series under these in another order is refused.
    """
    if isinstance(labels, Labels):
        return labels
    refuse_other_order(labels, name, ids)
    given = _read(labels, f"{_WANTED}, or one string", n_rows)
    if given.dtype.kind == "O":
        return _number_texts(given.tolist())
    largest = int(given.max())
    if largest < given.size:  # else there are numbers that no row has
        sizes = np.bincount(given[given >= 0], minlength=largest + 1)
        if sizes.all():
            return Labels(given, list(range(sizes.size)))
    values, numbers = np.unique(given, return_inverse=True)
    n_noise = int(values[0] < 0)
    return Labels(numbers.reshape(-1) - n_noise, values[n_noise:].tolist())


def _number_texts(texts: list[str]) -> Labels:
    values = sorted(str(text) for text in {*texts} - {_NOISE})
    if made := sorted(_OF_FLOATS & {*values}):
        raise ValueError(
            f"labels must not be {made[0]!r}, the string of a float that is noise or "
            f"missing; got it in row {texts.index(made[0])}. Give the floats "
            'themselves, or "-1" for noise.'
        )
    number_of = {value: number for number, value in enumerate(values)}
    number_of[_NOISE] = -1
    return Labels(np.array([number_of[text] for text in texts], np.int64), values)


def check_labels(labels: Any, n_rows: int | None = None) -> np.ndarray:
    """Read labels as int64, refused if they are not one integer for each row."""
    given = _read(labels, _WANTED, n_rows)
    if given.dtype.kind == "O":
        dtype = np.asarray(labels).dtype
        raise ValueError(f"{_WANTED}; got shape {given.shape} and dtype {dtype}.")
    return given


def _read(labels: Any, wanted: str, n_rows: int | None) -> np.ndarray:
    """Read labels as an array of int64, or of objects that are all strings."""
    if np.ma.is_masked(labels):
        raise ValueError(
            "labels must not be masked; got a masked array. Fill them with -1, noise."
        )
    array = np.asarray(labels)
    kind = array.dtype.kind
    if array.ndim != 1 or array.size == 0 or kind not in "iufUTO":
        raise ValueError(f"{wanted}; got shape {array.shape} and dtype {array.dtype}.")
    if kind in "UTO":
        # Of a list, NumPy would make strings of all that stands beside a string.
        listed = array.tolist() if hasattr(labels, "dtype") else [*labels]
        array = _of_one_kind(listed)
        kind = array.dtype.kind
    if kind == "f":
        array = array.astype(np.float64)
        _refuse_fractions(array, wanted)
    if kind != "O":
        if array.min() < -1:
            raise ValueError(
                f"labels must be at least 0, or -1 for noise; got {int(array.min())}."
            )
        if array.max() >= 2**63:
            raise ValueError(f"labels must be below 2**63; got {int(array.max())}.")
        array = array.astype(np.int64)
    if n_rows is not None and array.size != n_rows:
        raise ValueError(
            f"labels must give one label per row; got {array.size} labels for "
            f"{n_rows} rows."
        )
    return array


def _of_one_kind(labels: list[Any]) -> np.ndarray:
    """Give strings as objects, or numbers as an array of numbers."""
    is_text = [isinstance(label, str) for label in labels]
    if all(is_text):
        array = np.empty(len(labels), dtype=object)
        array[:] = labels
        return array
    missing = next((i for i, label in enumerate(labels) if is_missing(label)), None)
    if missing is not None:
        _refuse_missing(labels[missing], missing)
    other = labels[is_text.index(False)]
    if any(is_text):
        raise ValueError(
            "labels must be all strings or all integers; got "
            f"{labels[is_text.index(True)]!r} and {other!r}. Make strings of all, for "
            "example by [str(label) for label in labels]."
        )
    for label in labels:
        if isinstance(label, (bool, np.bool_)) or not isinstance(label, Real):
            raise ValueError(  # noqa: TRY004 - all that labels are not is a ValueError
                f"labels must be integers or strings; got {label!r}, of type "
                f"{type(label).__name__}."
            )
    array = np.asarray(labels)
    if array.dtype.kind == "O":
        raise ValueError(f"labels must be below 2**63; got {max(labels)}.")
    return array


def _refuse_fractions(labels: np.ndarray, wanted: str) -> None:
    """Refuse floats that are not whole numbers."""
    missing = np.flatnonzero(np.isnan(labels))
    if missing.size:
        _refuse_missing(labels[missing[0]], int(missing[0]))
    others = np.flatnonzero((labels != np.rint(labels)) | np.isinf(labels))
    if others.size:
        raise ValueError(f"{wanted}; got {labels[others[0]]} in row {others[0]}.")


def _refuse_missing(label: Any, row: int) -> None:
    raise ValueError(
        f"labels must not be missing; got {label} in row {row}. Fill them with -1, "
        'noise, or "-1" among strings.'
    )


def _native(value: Any) -> Any:
    """Give a scalar of NumPy as one of Python."""
    return value.item() if isinstance(value, np.generic) else value


def check_positive_integer(value: Any, name: str) -> None:
    """Refuse what is not an integer of at least 1."""
    check_integer(value, name, 1)


def check_integer(value: Any, name: str, least: int) -> None:
    """Refuse what is not an integer, or a smaller one."""
    whole = isinstance(value, (int, np.integer)) and not isinstance(value, bool)
    if not whole or value < least:
        raise ValueError(
            f"{name} must be an integer of at least {least}; got {value!r}."
        )
