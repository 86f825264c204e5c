"""Read arrays in NumPy's own form, and check them against their headers."""

from __future__ import annotations

import math
from pathlib import Path
from typing import IO, NamedTuple

import numpy as np
from numpy.lib import format as npy

from ._layer import PICKLED, naming

BROKEN = "is broken, truncated, or holds objects instead of numbers"


def load_npy(path: Path, claim: str = BROKEN, *, mmap: bool = False) -> np.ndarray:
    """Load the array of a file that holds exactly what its header says.

    `claim` is what an error says of any other file.
    """
    with naming(path, claim):
        with path.open("rb") as file:
            read_header(file, path.stat().st_size)
            if not mmap:
                file.seek(0)
                return npy.read_array(file, allow_pickle=False)
        array: np.ndarray = np.load(path, mmap_mode="r", allow_pickle=False)
        return array


class Header(NamedTuple):
    shape: tuple[int, ...]
    dtype: np.dtype


def read_header(file: IO[bytes], size: int, what: str = "") -> Header:
    """Read the header of an array, and refuse one that does not fit `size` bytes.

    NumPy would take memory for what the header says before it finds that this is
    missing, and would silently ignore what follows the array.
    """
    try:
        version = npy.read_magic(file)
        if version not in _HEADERS:  # of fields with names beyond Latin-1
            raise ValueError("it holds records, not a matrix")
        shape, _, dtype = _HEADERS[version](file)
    except Exception as error:  # MemoryError too, of deeply nested brackets
        raise ValueError(f"{what}{error}") from error
    if dtype.hasobject:
        raise ValueError(
            f"{what}{PICKLED}. Save texts and ids by numpy.array(values, dtype=str)"
        )
    claimed = math.prod(shape) * dtype.itemsize
    left = size - file.tell()
    if min(shape, default=0) < 0 or claimed != left:
        raise ValueError(
            f"{what}it has {left} bytes of numbers, but its header says {claimed}, for "
            f"the shape {shape} and dtype {dtype}"
        )
    return Header(shape, dtype)


_HEADERS = {(1, 0): npy.read_array_header_1_0, (2, 0): npy.read_array_header_2_0}
