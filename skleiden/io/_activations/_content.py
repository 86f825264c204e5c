"""Interpret the containers of torch files and JSON: mappings, lists and tensors."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from skleiden._blocks.tensors import from_torch, refuse_tensor

from . import _names as names
from ._arrays import (
    VECTORS,
    as_array,
    kind_of,
    layers_of_arrays,
    layers_of_vectors,
    pooled,
    rank_of,
)
from ._ids import ids_of_file
from ._layer import (
    Layer,
    Reading,
    natural_order,
    refuse_idle,
    shape_of,
    tell,
    tell_left_out,
)
from ._table import columns_of, is_records, layers_of_table
from ._triplets import find_triplets

_HINT = "Layers are tensors of rows x neurons, or vectors by id."


def layers_of_content(
    content: Any, path: Path, how: Reading, ids: Any = None
) -> dict[str, Layer]:
    """Find the layers in a tensor, a list or a mapping, however they are nested."""
    if isinstance(content, Mapping) and content:
        return _of_mapping(content, path, how, ids)
    refuse_idle(path, how, shape_of(content), "key")
    if is_records(content):
        return layers_of_table(columns_of(content), path, how, ids)
    rank = rank_of(content)
    if rank is None or rank < 2:
        raise ValueError(
            f"{str(path)!r} must hold a mapping of prompt ids to vectors; got "
            f"{shape_of(content)}."
        )
    if isinstance(content, (list, tuple)) and rank == 3 and _is_of_layers(content, how):
        return _of_sequence(content, path, how, ids)
    if _is_of_hidden_states(content, how):
        how = how._replace(axis=0)
    array = as_array(content, f"The matrix in {str(path)!r}", how)
    return layers_of_arrays({"": array}, path, how, ids)


def _is_of_layers(content: Any, how: Reading) -> bool:
    """Tell whether listed matrices are layers, rather than rows of layers or tokens.

    Lists of lists of lists are treated as an array, unless their widths decide.
    """
    if how.axis is not None or how.pool is not None:
        return how.axis == 0
    if not isinstance(content[0], (list, tuple)):
        return True
    return len({len(matrix[0]) for matrix in content if matrix}) > 1


def _is_of_hidden_states(content: Any, how: Reading) -> bool:
    """Tell whether a tuple to be pooled has an entry for each layer, as from models."""
    is_asked = how.axis is None and how.pool is not None
    return is_asked and isinstance(content, tuple) and rank_of(content) == 4


def _of_sequence(content: Any, path: Path, how: Reading, ids: Any) -> dict[str, Layer]:
    """Make each matrix of a tuple or list a layer."""
    what = f"A matrix in {str(path)!r}"
    arrays = [as_array(matrix, what, how) for matrix in content]
    if any(array.ndim != 2 for array in arrays):
        raise ValueError(
            f"{what} does not have 2 dimensions, as others do; got shapes "
            f"{[array.shape for array in arrays[:5]]}. Give rows x neurons for each."
        )
    shapes = {array.shape for array in arrays}
    is_unsaid = isinstance(content, list) and how.axis is None and len(shapes) == 1
    if is_unsaid and len(arrays) > 1:
        tell(
            f"{str(path)!r} holds a list of {len(arrays)} matrices of the shape "
            f"{arrays[0].shape}, each of which is taken for a layer. Pass axis=0 to "
            "say so; if they are batches of the rows of one layer, join them first "
            "(torch.cat)."
        )
    layers = {f"layer_{i}": array for i, array in enumerate(arrays)}
    return layers_of_arrays(layers, path, how, ids)


def _of_mapping(
    content: Mapping[Any, Any], path: Path, how: Reading, ids: Any
) -> dict[str, Layer]:
    if (columns := _triplets_in(content, path)) is not None:
        refuse_idle(path, how, "triplets", "key")
        return layers_of_arrays(columns, path, how, ids)
    if not any(map(_is_deep, content.values())):
        refuse_idle(path, how, VECTORS, "key", "pool")
        return layers_of_vectors(_vectors(content, path))
    listing = [name for name, value in content.items() if _is_listing(value)]
    of_ids, of_texts = (names.find(listing, n) for n in (names.IDS, names.TEXTS))
    if of_ids is not None:
        listed = from_torch(content[of_ids], f"The ids in {str(path)!r}")
        ids = ids_of_file(listed, path)
    rest = {n: v for n, v in content.items() if n not in (of_ids, of_texts)}
    if how.axis is not None:
        of_layers = names.find([n for n in listing if n in rest], names.LAYER_NAMES)
        if of_layers is not None:
            listed = from_torch(rest.pop(of_layers), f"The layers in {str(path)!r}")
            how = how._replace(named=(str(of_layers), np.array(listed, dtype=object)))
    _refuse_repeats(rest, path)
    deep = {name: value for name, value in rest.items() if _is_deep(value)}
    chosen: Any = _wrapper(deep)
    if how.key is not None and how.key in deep:
        chosen, how = how.key, how._replace(key=None)
    if chosen is not None:
        others = {str(n): _kind(v) for n, v in rest.items() if n != chosen}
        mask = names.find(rest, names.OF_TOKENS[:1])
        if mask is not None and how.pool is not None:
            del others[str(mask)]
            how = how._replace(mask=rest[mask])
        tell_left_out(others, path, _HINT)
        return layers_of_content(rest[chosen], path, how, ids)
    if all(isinstance(value, Mapping) for value in rest.values()):
        return _of_nested(rest, path, how, ids)
    ranks = {name: rank_of(value) or 0 for name, value in rest.items()}
    if all(isinstance(value, Mapping) or ranks[n] == 1 for n, value in rest.items()):
        return {"": Layer(_vectors(_picked(rest, path, how), path))}
    if how.key is not None:
        raise ValueError(
            f"{str(path)!r} has no {how.key!r}; it has {list(rest)[:5]}. Choose one of "
            "these with key=, or leave it out."
        )
    if max(ranks.values()) < 2:
        raise ValueError(
            f"{str(path)!r} must hold matrices, rows x neurons; got {list(rest)[:5]}, "
            "none of which is one. Store layers by name, {layer: matrix}."
        )
    if any(_is_of_hidden_states(value, how) for value in rest.values()):
        how = how._replace(axis=0)
    others = {str(n): _kind(v) for n, v in rest.items() if ranks[n] < 2}
    arrays = {
        str(name): as_array(value, f"Tensor {name!r} in {str(path)!r}", how)
        for name, value in rest.items()
        if ranks[name] >= 2
    }
    return layers_of_arrays(arrays, path, how, ids, others)


def _triplets_in(content: Mapping[Any, Any], path: Path) -> dict[Any, Any] | None:
    """Give the columns of triplets as arrays; None if there are none."""
    if (triplets := find_triplets(content)) is None:
        return None
    columns = {
        name: from_torch(value, f"Tensor {name!r} in {str(path)!r}")
        for name, value in content.items()
    }
    are_flat = all(np.ndim(columns[name]) == 1 for name in triplets if name is not None)
    return columns if are_flat else None


def _refuse_repeats(content: Mapping[Any, Any], path: Path) -> None:
    texts = Counter(map(str, content))
    if len(texts) < len(content):
        (repeated, _), *_ = texts.most_common(1)
        raise ValueError(
            f"{str(path)!r} has two names that are both {repeated!r} as text. Give the "
            "layers different names."
        )


def _is_deep(value: Any) -> bool:
    """Tell whether something may hold layers, being more than a vector or a fact."""
    return isinstance(value, Mapping) or is_records(value) or (rank_of(value) or 0) >= 2


def _wrapper(deep: Mapping[Any, Any]) -> Any:
    """Name the one entry that holds the activations, if the others describe them."""
    if len(deep) == 1 and is_records(next(iter(deep.values()))):
        return next(iter(deep))
    named = [name for name in deep if names.find([name], names.WRAPPERS)]
    if len(named) != 1:
        return None
    holds_others = isinstance(deep[named[0]], (Mapping, list, tuple))
    rivals = [
        name
        for name, value in deep.items()
        if name != named[0]
        and not isinstance(value, Mapping)
        and not names.find([name], names.OF_TOKENS)
    ]
    return named[0] if holds_others or not rivals else None


def _is_listing(value: Any) -> bool:
    """Tell whether something lists a scalar for each row."""
    if isinstance(value, (list, tuple)):
        return not any(
            isinstance(i, (list, tuple, Mapping)) or np.ndim(i) for i in value
        )
    return getattr(value, "ndim", None) == 1


def _kind(value: Any) -> str:
    return kind_of(value) if hasattr(value, "shape") else shape_of(value)


def _vectors(content: Mapping[Any, Any], path: Path) -> dict[Any, Any]:
    for i, vector in content.items():
        refuse_tensor(vector, f"The vector of prompt {i!r} in {str(path)!r}")
    return dict(content)


def _of_nested(
    content: Mapping[Any, Any], path: Path, how: Reading, ids: Any
) -> dict[str, Layer]:
    """Find layers in mappings in a mapping."""
    first = next(iter(content.values()))
    if how.key is not None or any(name in names.RECORDS for name in first):
        picked = _picked(content, path, how)
        return layers_of_content(picked, path, how._replace(key=None), ids)
    content = _as_vectors(content, path, how)
    ranks = {rank_of(v) for inner in content.values() for v in inner.values()}
    if ranks != {1}:
        found: dict[str, Layer] = {}
        for name, inner in content.items():
            for own, layer in layers_of_content(inner, path, how, ids).items():
                found[f"{name}.{own}" if own else str(name)] = layer
        if not found:
            raise ValueError(
                f"{str(path)!r} holds empty mappings only. Store layers in them."
            )
        return {name: found[name] for name in sorted(found, key=natural_order)}
    if _axis_of_layers(content, path, how) == 1:
        turned: dict[Any, dict[Any, Any]] = {}
        for i, inner in content.items():
            for layer, vector in inner.items():
                turned.setdefault(layer, {})[i] = vector
        content = turned
    return {
        str(name): Layer(_vectors(content[name], path))
        for name in sorted(content, key=lambda name: natural_order(str(name)))
    }


def _as_vectors(
    content: Mapping[Any, Mapping[Any, Any]], path: Path, how: Reading
) -> Mapping[Any, Mapping[Any, Any]]:
    """Make vectors of nested matrices that have one row each, or are to be pooled."""
    ranks = {rank_of(v) for inner in content.values() for v in inner.values()}
    if ranks == {1}:
        refuse_idle(path, how, VECTORS, "pool")
    if ranks != {2}:
        return content
    arrays = {
        name: {
            own: as_array(v, f"Tensor {own!r} of {name!r} in {str(path)!r}", how)
            for own, v in inner.items()
        }
        for name, inner in content.items()
    }
    sizes = {len(array) for inner in arrays.values() for array in inner.values()}
    if how.pool is None and sizes != {1}:
        return content
    pool = how.pool or "last"
    return {
        name: {
            own: pooled(array[None], pool, None, repr(str(path)))[0]
            for own, array in inner.items()
        }
        for name, inner in arrays.items()
    }


def _picked(content: Mapping[Any, Any], path: Path, how: Reading) -> dict[Any, Any]:
    """Make {id: vector} of {id: {"pre", "post", "out"}}, some being vectors already."""
    key = "post" if how.key is None else how.key
    found = {}
    for i, record in content.items():
        if isinstance(record, Mapping):
            if key not in record:
                raise ValueError(
                    f"Prompt {i!r} in {str(path)!r} has no {key!r}; it has "
                    f"{list(record)}. Choose one of these with key=."
                )
            record = record[key]
        found[i] = record
    return found


def _axis_of_layers(content: Mapping[Any, Any], path: Path, how: Reading) -> int:
    """Tell {layer: {id: vector}} (0) from {id: {layer: vector}} (1).

    Widths decide first, because vectors of one layer have one width; then names do.
    """
    if how.axis is not None:
        if how.axis not in (0, 1, -1, -2):
            raise ValueError(
                f"axis must be 0 or 1 for the mappings in {str(path)!r}; got "
                f"{how.axis}."
            )
        return how.axis % 2
    widths: dict[Any, set[int]] = {}
    within = False
    for inner in content.values():
        own = {name: len(vector) for name, vector in inner.items()}
        within |= len(set(own.values())) > 1
        for name, width in own.items():
            widths.setdefault(name, set()).add(width)
    across = any(len(found) > 1 for found in widths.values())
    if within != across:
        return int(within)
    outer, inner_names = names.are_layers(content), names.are_layers(widths)
    if outer != inner_names:
        return int(inner_names)
    raise ValueError(
        f"{str(path)!r} holds vectors by two names, such as {next(iter(content))!r} "
        f"and then {next(iter(widths))!r}: which one is the layer's, and which is the "
        "prompt's id? Pass axis=0 if the first one is the layer's, axis=1 if the "
        "second one is."
    )
