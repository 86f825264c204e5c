"""Represent one layer of a file, and hold what all readers share."""

from __future__ import annotations

import re
import sys
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import scipy.sparse as sp

from skleiden._blocks.sources import is_lazy


class Layer(NamedTuple):
    """One layer of a file: a mapping {id: vector}, or a matrix and perhaps ids.

    A matrix made from triplets is `open_ended`: its last rows may be missing if they
    have no values, and it grows to as many rows as there are ids.
    """

    content: Any
    ids: Any = None
    open_ended: bool = False


class Reading(NamedTuple):
    """How files are read, according to the arguments of `load_activations`.

    `mask` tells which tokens are to be pooled, if there is a mask beside them. `named`
    is an array that names the layers, with its own name, if there is one.
    """

    key: str | None = None
    axis: int | None = None
    pool: str | None = None
    mmap: bool = True
    layers: Sequence[str] | None = None
    mask: Any = None
    named: tuple[str, Any] | None = None


def refuse_idle(path: Path, how: Reading, holds: str, *names: str) -> None:
    """Refuse those arguments that are given, and decide nothing of what a file holds.

    The answer might be taken for the one that was asked for.
    """
    for name in names:
        value = getattr(how, name)
        if value is not None:
            raise ValueError(
                f"{str(path)!r} holds {holds}, of which {name}={value!r} decides "
                "nothing. Leave it out."
            )


def natural_order(name: str | Path) -> list[Any]:
    """Make a sort key under which layer_9 comes before layer_10.

    For a path, the name without the suffix counts.
    """
    text = name.stem if isinstance(name, Path) else name
    parts: list[Any] = re.split(r"(\d+)", text)
    # Digits are compared by their number first: int() takes no more than 4300 of them.
    for place in range(1, len(parts), 2):
        digits = "".join(str(int(digit)) for digit in parts[place]).lstrip("0")
        parts[place] = (len(digits), digits)
    return [parts, str(name)]


def check_matrix(matrix: Any, path: Path, *, left_there: bool = False) -> Any:
    """Refuse anything but a matrix of real numbers.

    Values that are `left_there`, in the file, are checked when they are used, as are
    those of memory maps and stored arrays.
    """
    if matrix.ndim != 2:
        raise ValueError(
            f"{str(path)!r} must hold a matrix, prompts x neurons; got "
            f"{matrix.ndim} dimension(s), shape {matrix.shape}."
        )
    if matrix.dtype.kind not in "buif":
        raise ValueError(
            f"{str(path)!r} must hold real numbers; got dtype {matrix.dtype}."
        )
    left_there = left_there or isinstance(matrix, np.memmap) or is_lazy(matrix)
    values = matrix.data if sp.issparse(matrix) else matrix
    if not left_there and not np.isfinite(values).all():
        raise ValueError(
            f"{str(path)!r} holds NaN or infinity. Remove these prompts or repair "
            "their values."
        )
    return matrix


def shape_of(content: Any) -> str:
    if isinstance(content, Mapping):
        kinds = sorted({type(value).__name__ for value in content.values()})
        return f"a mapping of {len(content)} to {' and '.join(kinds) or 'nothing'}"
    if hasattr(content, "shape"):
        return f"{type(content).__name__} of shape {tuple(content.shape)}"
    return type(content).__name__


def tell(message: str) -> None:
    """Warn at the line where the user called the package."""
    level, frame = 1, sys._getframe()
    while frame.f_back and frame.f_globals["__name__"].startswith("skleiden.io"):
        level, frame = level + 1, frame.f_back
    warnings.warn(message, UserWarning, stacklevel=level)


def tell_left_out(left_out: Mapping[str, str], path: Path, hint: str) -> None:
    """Name what a file holds and the stack does not: {name: what it is}."""
    if left_out:
        tell(f"{str(path)!r} holds more than is read: {listed(left_out)}. {hint}")


def listed(left_out: Mapping[str, str]) -> str:
    names = [f"{name!r} ({kind})" for name, kind in left_out.items()]
    return ", ".join(names[:5] + [f"and {len(names) - 5} more"] * (len(names) > 5))


@contextmanager
def naming(path: Path, problem: str = "is broken or truncated") -> Iterator[None]:
    """Turn any error that broken content leads to into one that names the file.

    Too little memory is not a fault of the file, because its claims are checked before.
    """
    try:
        yield
    except MemoryError:
        raise
    except Exception as error:
        raise ValueError(f"{str(path)!r} {problem}: {first_line(error)}") from error


PICKLED = "it holds pickled objects"


def first_line(error: BaseException) -> str:
    lines = str(error).strip().splitlines()
    if not lines:
        return type(error).__name__
    # Advice to run what is in the file is not passed on.
    is_own = PICKLED in lines[0]
    return PICKLED if "pickle" in lines[0] and not is_own else lines[0]
