"""Make layers, which have two dimensions, from arrays with any number of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence, Set
from numbers import Number
from pathlib import Path
from typing import Any

import numpy as np

from skleiden._blocks.tensors import from_torch

from . import _names as names
from ._ids import ids_of_file
from ._layer import (
    Layer,
    Reading,
    check_matrix,
    natural_order,
    refuse_idle,
    tell,
    tell_left_out,
)
from ._triplets import find_top, find_triplets, layer_of_top, layers_of_triplets

_DEEPEST = 8  # lists in lists that may be an array
# What has one vector of each prompt already.
VECTORS = "a vector of each prompt"
POOLINGS = ("mean", "max", "last")
HINT = (
    "Layers are arrays of rows x neurons; axis= or pool= makes them from arrays of "
    "more dimensions. Store layers in one of these forms."
)


def check_reading(how: Reading) -> None:
    """Refuse arguments with which no file could be read."""
    if how.axis is not None and (
        not isinstance(how.axis, (int, np.integer)) or isinstance(how.axis, bool)
    ):
        raise TypeError(
            f"axis must be the number of the axis of the layers; got {how.axis!r}."
        )
    if how.pool is not None and how.pool not in POOLINGS:
        raise ValueError(
            f"pool must be one of {', '.join(map(repr, POOLINGS))}; got {how.pool!r}."
        )


def rank_of(value: Any) -> int | None:
    """Count the dimensions of an array, or of lists in lists; None if not numbers."""
    rank = 0
    while isinstance(value, (list, tuple)):
        rank += 1
        if not value:
            return rank
        if rank > _DEEPEST:
            return None
        value = value[0]
    if hasattr(value, "detach") or isinstance(value, np.ndarray):
        return rank + int(value.ndim)
    return rank if isinstance(value, Number) else None


def as_array(value: Any, what: str, how: Reading) -> Any:
    """Make an array of a tensor, or of a list of tensors or numbers."""
    if not isinstance(value, (list, tuple)):
        return from_torch(value, what)
    parts = [
        as_array(part, what, how) if isinstance(part, (list, tuple)) else part
        for part in value
    ]
    arrays = [from_torch(part, what) for part in parts]
    shapes = {np.shape(array) for array in arrays}
    if len(shapes) > 1:
        widths = {shape[1:] for shape in shapes}
        if how.pool is not None and len(widths) == 1 and len(min(widths)) == 1:
            # A row a token, of each prompt, of which one remains to be pooled.
            return np.stack([pooled(a[None], how.pool, None, what) for a in arrays])
        raise ValueError(
            f"{what} is a list of arrays of different shapes, such as "
            f"{sorted(shapes)[:3]}. If these are parts of one layer, join them first "
            "(torch.cat); if each is a prompt, with a row for each token, pool first, "
            'or pass pool="mean", "max" or "last".'
        )
    array = np.asarray(arrays)
    if array.dtype.kind not in "buif":
        raise ValueError(f"{what} must hold real numbers; got dtype {array.dtype}.")
    return array


def layers_of_arrays(
    arrays: Mapping[Any, Any],
    path: Path,
    how: Reading,
    ids: Any = None,
    left_out: Mapping[str, str] | None = None,
) -> dict[str, Layer]:
    """Find the layers among arrays by name, and warn of arrays that are not read.

    An array of two dimensions is a layer; one of more becomes layers by `how`. The
    result is empty if there are no such arrays.
    """
    others = dict(left_out or {})
    top, triplets = find_top(arrays, path), find_triplets(arrays)
    if triplets is not None:
        refuse_idle(path, how, "triplets", "axis", "pool")
        others |= {
            str(name): kind_of(array)
            for name, array in arrays.items()
            if name not in (*triplets, "shape")
        }
        tell_left_out(others, path, HINT)
        found = layers_of_triplets(arrays, triplets, path)
        return found if ids is None else _with_ids(found, ids)
    if top is not None:
        refuse_idle(path, how, "the largest latents", "axis", "pool")
        matrix = layer_of_top(arrays[top[0]], arrays[top[1]], path)
        arrays = {name: array for name, array in arrays.items() if name not in top}
        arrays[top[1]] = matrix
    of_mask = names.find(arrays, names.OF_TOKENS[:1])
    mask = how.mask if of_mask is None else arrays[of_mask]
    taken = {}
    for name, array in arrays.items():
        if array.ndim < 2 or (names.find([name], names.OF_TOKENS) and len(arrays) > 1):
            others[str(name)] = kind_of(array)
        else:
            taken[name] = array
    named = how.named
    if how.axis is not None and (name := _find_names(arrays)) is not None:
        named = str(name), arrays[name]
    if named is not None:
        others[named[0]] = kind_of(named[1])
    # Of a cache of all that a model did, patterns of attention have other dimensions.
    used = (how.axis is not None) + (how.pool is not None)
    if any(array.ndim in (2, 2 + used) for array in taken.values()):
        for name in [n for n, a in taken.items() if a.ndim not in (2, 2 + used)]:
            others[str(name)] = kind_of(taken.pop(name))
    own_names = None if named is None else _names_of_layers(*named, taken, path, how)
    if named is not None and own_names is not None:
        del others[named[0]]
    if ids is None and (of_rows := _find_ids(arrays, taken, how)) is not None:
        others.pop(str(of_rows), None)
        ids = ids_of_file(np.asarray(arrays[of_rows]), path)
    is_flat = bool(taken) and all(array.ndim == 2 for array in taken.values())
    if how.axis in (1, -2) and how.pool is None and is_flat and len(taken) > 1:
        tell_left_out(others, path, HINT)  # {id: layers x neurons}
        return _of_prompts(taken, path, how)
    if is_flat and how.pool is None and not (how.axis in (0, -3) and "" not in taken):
        refuse_idle(path, how, "matrices, rows x neurons", "axis")
    if how.pool is not None and is_flat:
        if ids is not None:
            refuse_idle(path, how, "a matrix whose rows have ids", "pool")
        tell_left_out(others, path, HINT)  # {id: tokens x neurons}
        where = repr(str(path))
        return layers_of_vectors(
            {
                name: pooled(array[None], how.pool, None, where)[0]
                for name, array in taken.items()
            }
        )
    if of_mask is not None and how.pool is not None:
        others.pop(str(of_mask), None)
    tell_left_out(others if taken else {}, path, HINT)
    found = {}
    for name in sorted(taken, key=lambda name: natural_order(str(name))):
        given = taken[name]
        matrices = _matrices(given, name, mask, path, how, own_names)
        for own, matrix in matrices.items():
            full = f"{name}.{own}" if len(taken) > 1 and own else own or str(name)
            # A tensor of torch that was mapped is no memory map any more.
            found[full] = Layer(check_matrix(matrix, path, left_there=how.mmap), ids)
    refuse_different_rows(found, path)
    return found


def layers_of_vectors(vectors: Mapping[Any, Any]) -> dict[str, Layer]:
    """Make layers of vectors named by id, or by id and layer, such as q0/layer_9."""
    layers: dict[str, dict[Any, Any]] = {}
    for name, vector in vectors.items():
        group, layer = names.parted(name)
        layers.setdefault(layer, {})[group] = vector
    first, *others = layers.values()
    if all(first) and all(other.keys() == first.keys() for other in others):
        return {
            layer: Layer(layers[layer]) for layer in sorted(layers, key=natural_order)
        }
    return {"": Layer(dict(vectors))}


def rows_of(array: Any, how: Reading) -> int:
    """Count the rows of an array, of which another axis may be that of the layers."""
    is_cube = array.ndim > 2 and how.axis in (0, -array.ndim)
    return int(array.shape[is_cube])


def _find_names(arrays: Mapping[Any, Any]) -> Any:
    """Name the array that may name the layers of others."""
    kinds = {n: a.dtype.kind for n, a in arrays.items() if a.ndim == 1}
    return names.find([n for n, k in kinds.items() if k in "iuUSOT"], names.LAYER_NAMES)


def _names_of_layers(
    name: str, array: Any, taken: Mapping[Any, Any], path: Path, how: Reading
) -> list[str] | None:
    """Give the names of layers that are taken apart, if there is one for each."""
    axis = how.axis
    if axis is None:
        return None
    cubes = [a for a in taken.values() if a.ndim > 2 and -a.ndim <= axis < a.ndim]
    if {a.shape[axis] for a in cubes} != {len(array)}:
        return None
    found = [
        one.decode() if isinstance(one, bytes) else one
        for one in np.asarray(array).tolist()
    ]
    listed = [one if isinstance(one, str) else f"layer_{one}" for one in found]
    repeated = next((one for one in listed if listed.count(one) > 1), None)
    if repeated is not None:
        raise ValueError(
            f"{name!r} in {str(path)!r} must name each layer once; got {repeated!r} "
            "more than once. Give layers names that differ."
        )
    return listed


def _find_ids(
    arrays: Mapping[Any, Any], layers: Mapping[Any, Any], how: Reading
) -> Any:
    """Name the array that holds an id for each row of the layers."""
    sizes = {rows_of(array, how) for array in layers.values()}
    fitting = [name for name, array in arrays.items() if has_one_a_row(array, sizes)]
    return names.find(fitting, names.IDS)


def has_one_a_row(array: Any, sizes: Set[int]) -> bool:
    """Tell whether an array has an id for each row, if layers have so many rows."""
    shape = array.shape or ()
    if len(shape) != 1 or sizes != set(shape):
        return False
    try:
        kind: str = array.dtype.kind
    except Exception:  # of several kinds, of a dataset that NumPy has no type for
        return False
    return kind in "iuUSOT"


def _of_prompts(
    arrays: Mapping[Any, Any], path: Path, how: Reading
) -> dict[str, Layer]:
    """Take apart the matrices of prompts, in which each row is a layer."""
    shapes = {tuple(array.shape) for array in arrays.values()}
    if len(shapes) > 1:
        raise ValueError(
            f"{str(path)!r} holds matrices of different shapes, such as "
            f"{sorted(shapes)[:3]}, which cannot be prompts with the same layers, as "
            f"axis={how.axis} says. Leave out axis= if each is a layer."
        )
    ((n_layers, _),) = shapes
    return {
        f"layer_{i}": Layer(
            check_matrix(np.stack([array[i] for array in arrays.values()]), path),
            list(arrays),
        )
        for i in range(n_layers)
    }


def _with_ids(found: dict[str, Layer], ids: Any) -> dict[str, Layer]:
    return {name: layer._replace(ids=ids) for name, layer in found.items()}


def kind_of(array: Any) -> str:
    shape = getattr(array, "shape", None)
    if shape is not None:
        return f"an array of shape {tuple(shape)}"
    return f"of type {type(array).__name__}"


def _matrices(
    array: Any,
    name: Any,
    mask: Any,
    path: Path,
    how: Reading,
    own_names: Sequence[str] | None,
) -> dict[str, Any]:
    """Give the matrices of an array, each with its own name if there are several."""
    if array.ndim == 2:
        return {"": array}
    used = (how.axis is not None) + (how.pool is not None)
    if array.ndim != 2 + used:
        raise ValueError(_ask(tuple(array.shape), name, path, how))
    found = {"": array}
    if how.axis is not None:
        if not -array.ndim <= how.axis < array.ndim:
            raise ValueError(
                f"axis must be one of the {array.ndim} axes of {_named(name, path)}, "
                f"of shape {tuple(array.shape)}; got {how.axis}."
            )
        apart = np.moveaxis(array, how.axis, 0)
        own = own_names or [f"layer_{i}" for i in range(len(apart))]
        found = dict(zip(own, apart, strict=True))
    if how.pool is not None:
        return {
            of: pooled(some, how.pool, mask, repr(str(path)))
            for of, some in found.items()
        }
    return found


def _named(name: Any, path: Path) -> str:
    return f"{name!r} in {str(path)!r}" if name != "" else f"the array in {str(path)!r}"


def _ask(shape: Sequence[int], name: Any, path: Path, how: Reading) -> str:
    """Say what an array of more than 2 dimensions can mean, and what decides."""
    where = _named(name, path)
    given = f" with {_given(how)}" if _given(how) else ""
    if len(shape) > 4 or how.pool is not None or how.axis is not None:
        return (
            f"{where[0].upper()}{where[1:]} has {len(shape)} dimension(s), shape "
            f"{shape}, from which no matrices of rows x neurons can be made{given}. "
            "axis= takes layers apart, and pool= makes one vector from those of all "
            "tokens: each removes one dimension."
        )
    if len(shape) == 4:
        return (
            f"{where[0].upper()}{where[1:]} has 4 dimension(s), shape {shape}, and may "
            "hold layers and tokens. Pass axis=1 if axis 1 counts the layers (or "
            'axis=0), and pool="mean", "max" or "last" for the other; or pool first.'
        )
    return (
        f"{where[0].upper()}{where[1:]} has 3 dimension(s), shape {shape}: layers or "
        f"tokens? If axis 1, of length {shape[1]}, counts the layers, pass axis=1 (or "
        'axis=0); if it counts tokens, pool first, or pass pool="mean", "max" or '
        '"last"; if axis 0 counts batches, join them first.'
    )


def _given(how: Reading) -> str:
    given = {"axis": how.axis, "pool": how.pool}
    return " and ".join(f"{n}={v!r}" for n, v in given.items() if v is not None)


def pooled(array: Any, pool: str, mask: Any, where: str) -> np.ndarray:
    """Make one vector for each row from those of its tokens, (n, tokens, neurons).

    Only tokens of the mask count, if there is one.
    """
    values = np.asarray(array)
    kept: np.ndarray
    kind = values.dtype if values.dtype.kind == "f" else np.dtype("f4")
    if mask is None:
        if values.shape[1] > 1 and (values == 0).all(axis=2).any():
            tell(
                f"{where} has tokens whose values are all zero, as in padding, and no "
                "attention_mask beside them: all tokens were pooled. If these are "
                "padding, pool first, over the tokens that are not."
            )
        kept = np.ones(values.shape[:2], dtype=bool)
    else:
        kept = np.asarray(mask) != 0
        if kept.shape != values.shape[:2]:
            raise ValueError(
                f"The attention_mask in {where} must have the shape "
                f"{values.shape[:2]}, rows x tokens; got {kept.shape}."
            )
    if not kept.any(axis=1).all():
        raise ValueError(
            f"Row {int(np.argmin(kept.any(axis=1)))} in {where} has no token to "
            "pool. Remove it."
        )
    if pool == "last":
        last = kept.shape[1] - 1 - np.argmax(kept[:, ::-1], axis=1)
        return values[np.arange(len(values)), last]
    if pool == "max":
        lowest = np.array(-np.inf, dtype=kind)
        return np.where(kept[..., None], values, lowest).max(axis=1).astype(kind)
    total = np.where(kept[..., None], values, 0).sum(axis=1, dtype=np.float64)
    return (total / kept.sum(axis=1)[:, None]).astype(kind)


def refuse_different_rows(found: Mapping[str, Layer], path: Path) -> None:
    """Refuse layers of one file whose rows cannot be the same."""
    rows = {
        name: layer.content.shape[0]
        for name, layer in found.items()
        if not isinstance(layer.content, Mapping) and layer.ids is None
    }
    if len(set(rows.values())) > 1:
        listed = dict(list(rows.items())[:5])
        raise ValueError(
            f"{str(path)!r} holds arrays with different numbers of rows, such as "
            f"{listed}. All layers must have the same rows. If these are parts of one "
            "layer, join them first; if each is a prompt, with a row for each token, "
            'pool first, or pass pool="mean", "max" or "last".'
        )
