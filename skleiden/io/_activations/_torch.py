"""Files of ``torch.save``."""

from __future__ import annotations

import pickle
import warnings
import zipfile
from pathlib import Path
from typing import Any

import numpy as np

from ._layer import first_line


def load_torch(path: Path, mmap: bool) -> Any:
    try:
        import torch
    except ImportError as error:
        raise ImportError(
            f"{str(path)!r} was saved by torch, which reads it: pip install "
            '"skleiden[torch]".'
        ) from error
    # Files of older versions of torch are no archives, and cannot be mapped.
    options: dict[str, Any] = {"mmap": mmap and zipfile.is_zipfile(path)}
    try:
        with warnings.catch_warnings():
            # A plain pickle is refused below, or is read.
            warnings.filterwarnings("ignore", "Detected pickle protocol")
            return torch.load(path, map_location="cpu", weights_only=True, **options)
    except pickle.UnpicklingError as error:
        raise ValueError(
            f"{str(path)!r} holds objects that only code inside the file could make, "
            "which is not run. Where the file was made, save tensors, numbers, "
            "strings, dicts and lists alone: torch.save({id: torch.as_tensor(vector) "
            f"for id, vector in ...}}, path)."
        ) from error
    except Exception as error:  # whatever bytes that make no sense lead to
        raise ValueError(
            f"{str(path)!r} is broken or truncated: {first_line(error)}"
        ) from error


def to_numpy(tensor: Any) -> np.ndarray:
    import torch

    tensor = tensor.detach().cpu()
    if tensor.dtype == torch.bfloat16:  # NumPy has no such type
        tensor = tensor.float()
    array: np.ndarray = tensor.numpy()
    return array
