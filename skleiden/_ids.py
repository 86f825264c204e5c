"""Ids of rows."""

from __future__ import annotations

from collections.abc import Iterable, KeysView, Mapping, Set
from typing import Any

import numpy as np

# Strings of three kinds, integers, floats and objects.
_KINDS = "UTSiufO"


def check_ids(ids: Iterable[Any], n_samples: int) -> np.ndarray:
    """Give ids as an array, after checking that they tell the rows apart.

    Raises
    ------
    TypeError
        If they are no sequence, or of a type that does not name a row: booleans, dates,
        records, or what cannot be hashed.

    ValueError
        If they are not one for each row, repeat, or are not equal to themselves, as
        NaN.
    """
    if np.ma.is_masked(ids):
        raise ValueError("ids must not be masked; got a masked array. Fill them first.")
    ids = as_id_array(ids)
    if ids.ndim != 1 or ids.shape[0] != n_samples:
        raise ValueError(
            f"ids must be one-dimensional with one id per row; got shape {ids.shape} "
            f"for {n_samples} rows."
        )
    if ids.dtype.kind not in _KINDS:
        raise TypeError(
            f"ids must be strings or numbers; got dtype {ids.dtype}. Convert them, for "
            "example with .astype(str)."
        )
    try:
        listed = ids.tolist()
    except (SystemError, ValueError) as error:  # as NumPy does not look when it reads
        raise ValueError(
            f"ids must be strings of Unicode; got some that are not: {error}."
        ) from error
    seen: set[Any] = set()
    for identifier in listed:
        try:
            hash(identifier)
        except TypeError as error:
            raise TypeError(
                f"ids must be hashable, such as str or int; got {identifier!r}."
            ) from error
        if isinstance(identifier, (bool, np.bool_)):
            raise TypeError(
                f"ids must not be booleans, which are equal to 0 and 1; got "
                f"{identifier!r}. Convert them, for example with str."
            )
        if not _equals_itself(identifier):
            raise ValueError(
                f"ids must be equal to themselves, so that rows are found by them; got "
                f"{identifier!r}. Replace missing ids."
            )
        if identifier in seen:
            raise ValueError(f"ids must not repeat; got {identifier!r} more than once.")
        seen.add(identifier)
    return ids


def _equals_itself(identifier: Any) -> bool:
    try:
        return bool(identifier == identifier)
    except Exception:  # as of a missing value of pandas, neither equal nor not
        return False


def as_id_array(ids: Iterable[Any]) -> np.ndarray:
    """Make an array of ids, of objects where NumPy would change one or split a tuple.

    It would turn 1 into '1' beside strings and True into 1 beside integers, take NUL
    characters off the end of a string, and turn integers of 64 bits into floats.
    """
    if isinstance(ids, np.ndarray):
        return ids
    # Some have elements that are no ids, or no order, as sets but the keys of a dict.
    not_ids = (str, bytes, bytearray, Mapping, Set)
    is_none = isinstance(ids, not_ids) and not isinstance(ids, KeysView)
    if not isinstance(ids, Iterable) or is_none:
        raise TypeError(f"ids must be a sequence of one id per row; got {ids!r}.")
    ids = list(ids)
    for kind, dtypes in ((str, "U"), (int, "iu"), (np.integer, "iu")):
        if all(isinstance(i, kind) and not isinstance(i, bool) for i in ids):
            array = np.asarray(ids)
            if array.dtype.kind in dtypes and array.tolist() == ids:
                return array
    array = np.empty(len(ids), dtype=object)
    array[:] = ids
    return array
