"""Files of NumPy and SciPy."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import scipy.sparse as sp

from ._layer import Layer, check_matrix, first_line, natural_order


def read_npy(path: Path, mmap: bool) -> dict[str, Layer]:
    try:
        array = np.load(path, mmap_mode="r" if mmap else None, allow_pickle=False)
    except Exception as error:  # as with torch
        raise ValueError(
            f"{str(path)!r} is broken, truncated, or holds objects instead of numbers: "
            f"{first_line(error)}"
        ) from error
    return {"": Layer(check_matrix(array, path))}


def read_npz(path: Path) -> dict[str, Layer]:
    try:
        # Opened here: NumPy leaves a file open that turns out to be no archive.
        with path.open("rb") as file, np.load(file, allow_pickle=False) as archive:
            is_sparse = {"format", "shape"} <= set(archive.files)
            wanted = {"ids"} if is_sparse else set(archive.files)
            arrays = {name: archive[name] for name in archive.files if name in wanted}
        ids = arrays.pop("ids", None)
        if is_sparse:
            with path.open("rb") as file:
                matrix = sp.load_npz(file).tocsr()  # it ignores what it does not know
            matrix.check_format(full_check=True)
            arrays = {"": matrix}
    except Exception as error:  # as with torch
        raise ValueError(
            f"{str(path)!r} is broken, truncated, or holds objects instead of numbers: "
            f"{first_line(error)}"
        ) from error
    layers = sorted(
        (name for name in arrays if arrays[name].ndim == 2),
        key=lambda name: natural_order(Path(name)),
    )
    if not layers:
        shapes = {name: array.shape for name, array in arrays.items()}
        raise ValueError(
            f"{str(path)!r} must hold a sparse matrix of scipy.sparse.save_npz or 2-D "
            f"arrays; got arrays of shapes {shapes}."
        )
    return {name: Layer(check_matrix(arrays[name], path), ids) for name in layers}
