"""Tensors of torch, told without importing it."""

from __future__ import annotations

import warnings
from typing import Any, NamedTuple

import numpy as np


def from_torch(value: Any, what: str) -> Any:
    """Convert a tensor of torch to an ndarray of its numbers; leave all else as it is.

    Float types that NumPy lacks, such as bfloat16, become float32, which holds all
    their numbers. The memory is shared where nothing is converted.
    """
    if not _is_of_torch(value):
        return value
    refuse_tensor(value, what)
    try:
        tensor = value.detach().cpu().resolve_neg()
        return (tensor if _numpy_knows(tensor) else tensor.float()).numpy()
    except (TypeError, RuntimeError) as error:
        raise ValueError(
            f"{what} is a tensor of {value.dtype}, which NumPy does not have. Give "
            "tensors of a common type, such as tensor.float()."
        ) from error


_FLOATS = ("torch.float16", "torch.float32", "torch.float64")


def _numpy_knows(tensor: Any) -> bool:
    return str(tensor.dtype) in _FLOATS or not tensor.is_floating_point()


def _is_here(tensor: Any) -> bool:
    return bool(tensor.device.type == "cpu")


def checked(tensor: Any, what: str) -> Any:
    """Give an ndarray of a tensor's memory, or else the tensor, without its gradients.

    It stays a tensor where the numbers must be brought from a device, or converted;
    where neither can be, it is refused.
    """
    refuse_tensor(tensor, what)
    # Hardly any tensor holds its numbers with the sign to be turned.
    tensor = tensor.detach().resolve_neg()
    if _is_here(tensor) and _numpy_knows(tensor):
        return from_torch(tensor, what)
    if tensor.ndim:
        from_torch(tensor[:1], what)
    return tensor


def select_rows(tensor: Any, numbers: np.ndarray) -> Any:
    """Give the rows of some numbers, none of them negative or too large."""
    import torch

    # As integers, because not every type of numbers is indexed on every device.
    rows = torch.as_tensor(numbers, device=tensor.device)
    return _bits(tensor)[rows].view(tensor.dtype)


def _bits(tensor: Any) -> Any:
    """Give a tensor's memory as integers of its numbers' size."""
    import torch

    sizes = {1: torch.uint8, 2: torch.int16, 4: torch.int32, 8: torch.int64}
    return tensor.view(sizes[tensor.element_size()])


class PackedTensor(NamedTuple):
    """A tensor as a pickle holds it: its own pickle has all that it is a view of.

    An array, which joblib maps into its workers' memory and whose hash is that of its
    numbers.
    """

    bits: np.ndarray
    dtype: str

    def open(self) -> Any:
        """Give the tensor, on the same memory."""
        import torch

        with warnings.catch_warnings():
            # Nothing is written to what may be a map for reading only.
            warnings.filterwarnings("ignore", "The given NumPy array is not writable")
            return torch.from_numpy(self.bits).view(getattr(torch, self.dtype))


def packed(tensor: Any) -> np.ndarray | PackedTensor:
    """Give what a pickle holds of a tensor, in the memory of this process."""
    if _numpy_knows(tensor):
        return from_torch(tensor, "A layer")
    dtype = str(tensor.dtype).removeprefix("torch.")
    return PackedTensor(_bits(tensor).cpu().numpy(), dtype)


def _is_of_torch(value: Any) -> bool:
    return any(kind.__module__.split(".")[0] == "torch" for kind in type(value).__mro__)


def refuse_tensor(value: Any, what: str) -> None:
    """Refuse a value of torch that is not a dense tensor of real numbers."""
    if not _is_of_torch(value):
        return
    if not hasattr(value, "detach"):
        found = f"a {type(value).__name__} of torch, not a tensor"
    elif value.is_nested:
        found = "a nested tensor"
    elif str(value.layout) != "torch.strided":
        found = "a sparse tensor"
    elif value.is_quantized:
        found = "a quantized tensor"
    elif value.is_meta:
        found = "a tensor without values, on the device 'meta'"
    elif value.is_complex():
        found = "a tensor of complex numbers"
    else:
        return
    raise ValueError(
        f"{what} is {found}. Give dense tensors of real numbers, such as "
        "tensor.to_dense() or tensor.dequantize()."
    )
