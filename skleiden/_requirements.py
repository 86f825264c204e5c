"""Requirements of what a file holds, by which the invariants are stated.

Each refuses with a ValueError that says what must hold, and what was found.
"""

from __future__ import annotations

from typing import Any

import numpy as np

# Longest account of what was found.
_SHOWN = 200
# What logarithms of other processors may differ by.
ROUNDING = 1e-12


def _require(holds: Any, what: str, wanted: str, found: Any) -> None:
    """Refuse what does not hold."""
    if not holds:
        shown = f"{found}"
        if len(shown) > _SHOWN:
            shown = f"{shown[:_SHOWN]} ..."
        raise ValueError(f"{what} must {wanted}; got {shown}.")


def _array(
    what: str, value: Any, dtype: Any, shape: int | tuple[int, ...] | None
) -> np.ndarray:
    """Give an array, refused if not of a dtype and shape; None is any length."""
    if shape is None:
        wanted, fits = "one-dimensional", getattr(value, "ndim", None) == 1
    else:
        shape = shape if isinstance(shape, tuple) else (int(shape),)
        wanted, fits = f"of shape {shape}", getattr(value, "shape", None) == shape
    _require(
        isinstance(value, np.ndarray) and fits and value.dtype == dtype,
        what,
        f"be an array {wanted} and dtype {np.dtype(dtype)}",
        _kind(value),
    )
    array: np.ndarray = value
    return array


def _kind(value: Any) -> str:
    """Say what kind of value was found."""
    if isinstance(value, np.ndarray):
        return f"an array of shape {value.shape} and dtype {value.dtype}"
    return f"{type(value).__name__} {value!r:.60}"


def _range(values: np.ndarray) -> str:
    """Say between which values an array lies."""
    if values.size == 0:
        return "nothing"
    return f"values from {values.min()} to {values.max()}"


def _between(what: str, values: np.ndarray, low: Any, high: Any) -> None:
    """Refuse arrays with a value out of a range, or nan."""
    outside = ~((values >= low) & (values <= high))
    if outside.any():
        place = int(np.argmax(outside))
        low, high = (np.broadcast_to(end, values.shape)[place] for end in (low, high))
        raise ValueError(
            f"{what} must be between {low} and {high}; got {values[place]} at "
            f"[{place}]."
        )


def _integer(what: str, value: Any, low: int, high: int | None = None) -> int:
    """Give an integer, refused if out of a range."""
    most = "" if high is None else f" and at most {high}"
    _require(
        isinstance(value, (int, np.integer))
        and not isinstance(value, bool)
        and low <= value
        and (high is None or value <= high),
        what,
        f"be an integer of at least {low}{most}",
        repr(value),
    )
    return int(value)


def _integers(what: str, values: Any, low: int) -> tuple[int, ...]:
    """Give a tuple of integers, refused if one is below a number."""
    _require(
        type(values) is tuple and len(values) > 0,
        what,
        "be a tuple of integers",
        repr(values),
    )
    return tuple(_integer(what, value, low, 2**63 - 1) for value in values)


def _number(what: str, value: Any, low: float, high: float) -> None:
    """Refuse what is no number, or out of a range."""
    _require(
        isinstance(value, (int, float, np.number))
        and not isinstance(value, bool)
        and low <= value <= high,
        what,
        f"be a number between {low} and {high}",
        repr(value),
    )


def _equal(what: str, value: Any, expected: Any) -> None:
    """Refuse a number that is not the expected one."""
    _require(
        isinstance(value, (int, float, np.number))
        and not isinstance(value, bool)
        and value == expected,
        what,
        f"be {expected}, as the rest of the state has it",
        repr(value),
    )


def _same(what: str, values: np.ndarray, expected: np.ndarray) -> None:
    """Refuse arrays that differ."""
    _require(
        np.array_equal(values, expected),
        what,
        "be what the rest of the state has",
        _range(values),
    )


def _close(
    what: str, values: np.ndarray, expected: np.ndarray, rtol: float = ROUNDING
) -> None:
    """Refuse what rounding does not explain."""
    _require(
        np.allclose(values, expected, rtol=rtol, atol=0),
        what,
        "be what the counts of columns give",
        _range(values),
    )
