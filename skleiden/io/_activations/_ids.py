"""Read ids of rows, and match layers by them."""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from skleiden._align import align_layers
from skleiden._blocks.sources import source_of
from skleiden._ids import as_id_array, check_ids
from skleiden._layers import LayerStack

from ._layer import Layer, tell


class Ids(NamedTuple):
    """Ids as a file has them, and the file, for errors to name."""

    values: Any
    path: Path


def ids_of_file(values: Any, path: Path) -> Ids | None:
    """Take ids from a file, decoding strings that are stored as bytes; None if None."""
    if values is None:
        return None
    if isinstance(values, np.ndarray) and values.dtype.kind in "SO":
        try:
            decoded = [
                value.decode() if isinstance(value, bytes) else value
                for value in values.ravel().tolist()
            ]
        except UnicodeDecodeError as error:
            raise ValueError(
                f"The ids in {str(path)!r} must be UTF-8: {error}. Store them as UTF-8."
            ) from error
        values = as_id_array(decoded).reshape(values.shape)
    return Ids(values, path)


def align(found: dict[str, Layer]) -> LayerStack:
    """Reduce layers to their common prompts, without a copy if they have the same."""
    without = [name for name, layer in found.items() if not _has_ids(layer)]
    if len(without) == len(found):
        _refuse_different_rows(found)
        return LayerStack({name: layer.content for name, layer in found.items()})
    if without:
        raise ValueError(
            f"Some layers have ids, and {without} have none, so their rows cannot be "
            "matched. Give the ids of all layers with ids=, or beside each file, as in "
            f"{without[0]}.ids.json."
        )
    known = {name: _ids_of(name, layer) for name, layer in found.items()}
    sets = [set(ids) for ids in known.values()]
    common = set.intersection(*sets)
    first = next(iter(known.values()))
    if not common:
        examples = {name: ids[0] for name, ids in known.items() if ids}
        raise ValueError(
            "No prompt id is in all layers. Check that ids are of one type and origin; "
            f"the layers' first ids are {examples}."
        )
    kept = [i for i in first if i in common]
    left_out = len(set.union(*sets)) - len(kept)
    if left_out:
        sizes = {name: len(ids) for name, ids in known.items()}
        tell(
            f"{left_out} prompts are not in every layer and are left out; {len(kept)} "
            f"are kept. The layers have {sizes} prompts."
        )
    mappings: dict[Hashable, Mapping[Hashable, Any]] = {
        name: {i: layer.content[i] for i in kept}
        for name, layer in found.items()
        if isinstance(layer.content, Mapping)
    }
    blocks = {}
    if mappings:
        stacked, _ = align_layers(mappings, order="reference")
        blocks = dict(zip(stacked.names, stacked.layers, strict=True))
    for name, layer in found.items():
        if name not in blocks:
            own = known[name]
            rows = dict(zip(own, range(len(own)), strict=True))
            same = own == kept
            blocks[name] = (
                layer.content
                if same
                else source_of(layer.content).select(np.array([rows[i] for i in kept]))
            )
    return LayerStack({name: blocks[name] for name in found}, ids=as_id_array(kept))


def _refuse_different_rows(found: dict[str, Layer]) -> None:
    """Ask whether files of different numbers of rows are parts of one layer."""
    rows = {name: layer.content.shape[0] for name, layer in found.items()}
    widths = {layer.content.shape[1] for layer in found.values()}
    if len(set(rows.values())) > 1 and len(widths) == 1:
        raise ValueError(
            f"All layers must have the same rows; got {dict(list(rows.items())[:6])} "
            "rows, of one width: are these parts of one layer? If so, pass {layer: "
            "[part, part]}. If not, give the ids of the rows, so that the prompts that "
            "all layers have can be found."
        )


def _has_ids(layer: Layer) -> bool:
    return layer.ids is not None or isinstance(layer.content, Mapping)


def _ids_of(name: str, layer: Layer) -> list[Any]:
    """Give the ids of a layer, and refuse ids that do not fit."""
    values, path = layer.ids if isinstance(layer.ids, Ids) else (layer.ids, None)
    if isinstance(layer.content, Mapping):
        values, n_rows = list(layer.content), len(layer.content)
    else:
        n_rows = layer.content.shape[0]
    try:
        ids: list[Any] = check_ids(values, n_rows).tolist()
    except (ValueError, TypeError) as error:
        origin = f" The ids are from {str(path)!r}." if path else ""
        raise ValueError(
            f"The ids of layer {name!r} do not fit: {error}{origin}"
        ) from error
    return ids
