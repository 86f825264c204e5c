"""Tensors of torch, told without importing it."""

from __future__ import annotations

from typing import Any


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
        known = str(tensor.dtype) in _FLOATS or not tensor.is_floating_point()
        return (tensor if known else tensor.float()).numpy()
    except (TypeError, RuntimeError) as error:
        raise ValueError(
            f"{what} is a tensor of {value.dtype}, which NumPy does not know. Give "
            "tensors of a usual type, such as tensor.float()."
        ) from error


_FLOATS = ("torch.float16", "torch.float32", "torch.float64")


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
