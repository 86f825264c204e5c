"""Layers that name their rows, brought to their common rows."""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Mapping
from typing import Any

import numpy as np
import scipy.sparse as sp

from ._blocks.checks import as_float_dtype
from ._blocks.tensors import from_torch
from ._ids import as_id_array
from ._layers import LayerStack


def align_layers(
    layer_maps: Mapping[Hashable, Mapping[Hashable, Any]],
    *,
    order: str = "sorted",
    reference: Hashable | None = None,
    zero_tol: float = 0.0,
    dtype: Any = np.float32,
    sparse: bool = True,
) -> tuple[LayerStack, dict[str, Any]]:
    """Bring layers, each a mapping of prompt id to vector, to their common prompts.

    Parameters
    ----------
    layer_maps : mapping of {layer: {prompt id: vector}}
        Vectors are one-dimensional arrays, CPU tensors or sequences of numbers, of the
        same width within a layer. Layers stay in the mapping's order.

    order : {"sorted", "reference"}, default="sorted"
        Order of the rows: sorted by id, or that of the ids in the layer `reference`.

    reference : layer, default=None
        The layer whose order is kept with ``order="reference"``; the first one if None.

    zero_tol : float, default=0.0
        Entries count as zero if their absolute value is at most this; at least 0.

    dtype : dtype, default=numpy.float32
        Floating dtype of the layers of the stack.

    sparse : bool, default=True
        Whether the layers of the stack are CSR arrays or dense arrays.

    Returns
    -------
    stack : LayerStack
        The aligned layers, with the common prompts' ids.

    report : dict
        ``n_common``, the number of prompts that all layers have, and ``layers``, which
        gives for each layer ``n_prompts``, those it has, ``n_removed``, those of them
        that were left out, and its ``width``.

    Raises
    ------
    TypeError
        If the input is not a mapping of mappings, or ids cannot be sorted; if `dtype`
        is not a floating dtype, or float16 with `sparse`.

    ValueError
        If there is no layer, or no prompt is in all layers; if a vector is not
        one-dimensional, not of real numbers, not of its layer's width, or not finite
        (the message names layer and id); if `order`, `reference` or `zero_tol` is not
        one of those allowed.

    Examples
    --------
    >>> from skleiden import align_layers
    >>> stack, report = align_layers({
    ...     "layer_17": {"q1": [0.0, 1.0], "q2": [2.0, 0.0]},
    ...     "layer_18": {"q2": [1.0, 0.0, 3.0], "q3": [0.0, 0.0, 1.0]},
    ... })
    >>> stack
    LayerStack(1 rows; layer_17: 2, layer_18: 3)
    >>> report["layers"]["layer_18"]
    {'n_prompts': 2, 'n_removed': 1, 'width': 3}
    """
    if order not in ("sorted", "reference"):
        raise ValueError(f"order must be 'sorted' or 'reference'; got {order!r}.")
    real = isinstance(zero_tol, (int, float, np.integer, np.floating))
    if not real or not zero_tol >= 0:
        raise ValueError(f"zero_tol must be a number of at least 0; got {zero_tol!r}.")
    if (floating := as_float_dtype(dtype)) is None:
        raise TypeError(
            f"dtype must be a floating dtype, such as numpy.float32; got {dtype!r}."
        )
    if sparse and floating == np.float16:
        raise TypeError(
            "SciPy has no sparse float16 matrices; use dtype=numpy.float32, or "
            "sparse=False."
        )
    if not isinstance(layer_maps, Mapping) or not all(
        isinstance(vectors, Mapping) for vectors in layer_maps.values()
    ):
        raise TypeError(
            "align_layers takes a mapping {layer: {prompt id: vector}}; got "
            f"{type(layer_maps).__name__}. Matrices that share their rows already "
            "need no aligning: use LayerStack."
        )
    if not layer_maps:
        raise ValueError("align_layers needs at least one layer; got none.")
    ids = _common_ids(layer_maps, order, reference)
    blocks, layers = {}, {}
    for layer, vectors in layer_maps.items():
        rows = (_check_vector(vectors[i], layer, i, dtype) for i in ids)
        blocks[layer] = _stack_rows(rows, layer, ids, zero_tol, dtype, sparse)
        layers[str(layer)] = {
            "n_prompts": len(vectors),
            "n_removed": len(vectors) - len(ids),
            "width": blocks[layer].shape[1],
        }
    stack = LayerStack(blocks, ids=as_id_array(ids))
    return stack, {"n_common": len(ids), "layers": layers}


def _common_ids(
    layer_maps: Mapping[Hashable, Mapping[Hashable, Any]],
    order: str,
    reference: Hashable | None,
) -> list[Hashable]:
    common = set.intersection(*(set(vectors) for vectors in layer_maps.values()))
    if not common:
        sizes = {layer: len(vectors) for layer, vectors in layer_maps.items()}
        raise ValueError(
            f"No prompt id is in all layers; got layers of {sizes} prompts. Check "
            "that every layer uses the same ids, of the same type."
        )
    if order == "reference":
        if reference is None:
            reference = next(iter(layer_maps))
        if not isinstance(reference, Hashable) or reference not in layer_maps:
            raise ValueError(
                f"reference must be one of the layers {list(layer_maps)}; got "
                f"{reference!r}."
            )
        return [i for i in layer_maps[reference] if i in common]
    try:
        return sorted(common)  # type: ignore[type-var]
    except TypeError as error:
        raise TypeError(
            f"The prompt ids cannot be sorted ({error}). Use order='reference'."
        ) from error


def _check_vector(vector: Any, layer: Hashable, i: Hashable, dtype: Any) -> np.ndarray:
    where = f"prompt {i!r} of layer {layer!r}"
    vector = from_torch(vector, f"The vector of {where}")
    try:
        given = np.asarray(vector)
    except (TypeError, ValueError, OverflowError) as error:
        raise ValueError(
            f"The vector of {where} is not an array of numbers: {error}."
        ) from error
    if given.dtype.kind not in "buif":
        raise ValueError(
            f"The vector of {where} is not an array of real numbers; got "
            f"{type(vector).__name__} of dtype {given.dtype}. For "
            "{'pre', 'post', 'out'} records, select one of them first."
        )
    if given.ndim != 1 or given.size == 0:
        raise ValueError(
            f"Each prompt needs a 1-D vector; {where} has shape {given.shape}. Pool it "
            "over tokens first."
        )
    with np.errstate(over="ignore"):  # told below
        checked = given.astype(dtype, copy=False)
    if not np.isfinite(checked).all():
        raise ValueError(
            f"The vector of {where} holds NaN or infinity (as {np.dtype(dtype)}). "
            "Remove the prompt or repair its values."
        )
    return checked


def _stack_rows(
    rows: Iterable[np.ndarray],
    layer: Hashable,
    ids: list[Hashable],
    zero_tol: float,
    dtype: Any,
    sparse: bool,
) -> np.ndarray | sp.csr_array:
    """Stack the vectors of a layer; if sparse, only one dense vector at a time."""
    width = None
    data, indices, indptr = [], [], np.zeros(len(ids) + 1, dtype=np.int64)
    dense = None
    for row, vector in enumerate(rows):
        if width is None:
            width = vector.shape[0]
            if not sparse:
                dense = np.zeros((len(ids), width), dtype=dtype)
        if vector.shape[0] != width:
            raise ValueError(
                f"The vectors of layer {layer!r} differ in width: prompt {ids[0]!r} "
                f"has {width}, prompt {ids[row]!r} has {vector.shape[0]}. Give all "
                "vectors of a layer the same width."
            )
        kept = np.flatnonzero(np.abs(vector) > zero_tol)
        if dense is not None:
            dense[row, kept] = vector[kept]
        else:
            indices.append(kept.astype(np.int32))
            data.append(vector[kept])
            indptr[row + 1] = indptr[row] + kept.size
    if dense is not None:
        return dense
    return sp.csr_array(
        (np.concatenate(data), np.concatenate(indices), indptr), shape=(len(ids), width)
    )
