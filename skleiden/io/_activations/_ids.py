"""Ids of rows: from files, and as what brings layers to their common prompts."""

from __future__ import annotations

import warnings
from collections.abc import Hashable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from skleiden.layers import LayerStack, align_layers, as_id_array, read_rows

from ._find import form_of
from ._layer import Layer, first_line, shape_of
from ._text import load_json

# What may stand beside an array to name its rows: layer_17.npy, layer_17.ids.json.
_SIDE_FILES = (".ids.json", ".ids.txt", ".ids.npy")


def ids_beside(path: Path) -> Any:
    for suffix in _SIDE_FILES:
        beside = path.with_name(path.stem + suffix)
        if beside.exists():
            return read_ids(beside)
    return None


def read_ids(path: Path) -> Any:
    """Ids from a JSON list, an array, or a text file with one on each line."""
    form = form_of(path)
    if form == "npy":
        try:
            return np.load(path, allow_pickle=False)
        except Exception as error:  # as with torch
            raise ValueError(
                f"{str(path)!r} must hold ids, numbers or strings: {first_line(error)}"
            ) from error
    if path.suffix == ".json":
        ids = load_json(path)
        if not isinstance(ids, list):
            raise ValueError(
                f"{str(path)!r} must hold a list of ids; got {shape_of(ids)}."
            )
        return ids
    return path.read_text(encoding="utf-8").splitlines()


def align(found: dict[str, Layer]) -> LayerStack:
    """Bring layers to their common prompts, without a copy where they have the same."""
    without = [name for name, layer in found.items() if not _has_ids(layer)]
    if len(without) == len(found):
        return LayerStack({name: layer.content for name, layer in found.items()})
    if without:
        raise ValueError(
            f"Some layers have ids, and {without} have none, so that their rows cannot "
            "be matched. Give the ids of all with ids=, or beside each file as "
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
        warnings.warn(
            f"{left_out} prompts are not in every layer and are left out; {len(kept)} "
            f"are kept. The layers have {sizes} prompts.",
            UserWarning,
            stacklevel=3,
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
                else read_rows(layer.content, [rows[i] for i in kept])
            )
    return LayerStack({name: blocks[name] for name in found}, ids=as_id_array(kept))


def _has_ids(layer: Layer) -> bool:
    return layer.ids is not None or isinstance(layer.content, Mapping)


def _ids_of(name: str, layer: Layer) -> list[Any]:
    if isinstance(layer.content, Mapping):
        return list(layer.content)
    ids = as_id_array(layer.ids)
    try:
        LayerStack({name: layer.content}, ids=ids)  # it checks them against the rows
    except (ValueError, TypeError) as error:
        raise ValueError(f"The ids of layer {name!r} do not fit: {error}") from error
    listed: list[Any] = ids.tolist()
    return listed
