"""One layer of a file, and what all readers share."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import scipy.sparse as sp

from skleiden.layers import is_stored


class Layer(NamedTuple):
    """One layer of a file: a mapping {id: vector}, or a matrix and perhaps ids."""

    content: Any
    ids: Any = None


def natural_order(path: Path) -> list[Any]:
    """Sort key under which layer_9 comes before layer_10."""
    parts = re.split(r"(\d+)", path.stem)
    return [[int(part) if part.isdigit() else part for part in parts], str(path)]


def check_matrix(matrix: Any, path: Path) -> Any:
    if matrix.ndim != 2:
        raise ValueError(
            f"{str(path)!r} must hold a matrix, prompts x neurons; got "
            f"{matrix.ndim} dimension(s), shape {matrix.shape}."
        )
    if matrix.dtype.kind not in "buif":
        raise ValueError(
            f"{str(path)!r} must hold real numbers; got dtype {matrix.dtype}."
        )
    mapped = isinstance(matrix, np.memmap) or is_stored(matrix)
    values = matrix.data if sp.issparse(matrix) else matrix
    if not mapped and not np.isfinite(values).all():
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


def first_line(error: BaseException) -> str:
    lines = str(error).strip().splitlines()
    if not lines:
        return type(error).__name__
    # Advice to run what is in the file is not passed on.
    return "it holds pickled objects" if "pickle" in lines[0] else lines[0]
