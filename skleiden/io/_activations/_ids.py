"""Ids of rows: from files, and as what brings layers to their common prompts."""

from __future__ import annotations

import os
import re
import warnings
from collections.abc import Hashable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from skleiden._align import align_layers
from skleiden._blocks.sources import source_of
from skleiden._ids import as_id_array, check_ids
from skleiden._layers import LayerStack

from ._find import check_regular
from ._layer import Layer, shape_of
from ._npy import load_npy
from ._text import load_json, read_text

# What may stand beside an array to name its rows: layer_17.npy, layer_17.ids.json.
_SIDE_FILES = (".ids.json", ".ids.txt", ".ids.npy")


class Ids(NamedTuple):
    """Ids as a file has them, and which file, which errors name."""

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
                f"The ids in {str(path)!r} must be UTF-8: {error}. Store them so."
            ) from error
        values = as_id_array(decoded).reshape(values.shape)
    return Ids(values, path)


def ids_beside(path: Path) -> Ids | None:
    for suffix in _SIDE_FILES:
        beside = path.absolute().with_name(path.stem + suffix)
        if os.path.lexists(beside):  # a link that leads nowhere is not passed over
            return read_ids(beside)
    return None


def read_ids(path: Path) -> Ids | None:
    """Read ids from a JSON list, an array, or a text file with one on each line."""
    check_regular(path)
    with path.open("rb") as file:
        is_array = file.read(6) == b"\x93NUMPY"
    if is_array:
        return ids_of_file(load_npy(path, "must hold ids, numbers or strings"), path)
    if path.suffix == ".json":
        listed = load_json(path)
        if not isinstance(listed, list):
            raise ValueError(
                f"{str(path)!r} must hold a list of ids; got {shape_of(listed)}."
            )
        return Ids(listed, path)
    return Ids(_read_lines(path), path)


def _read_lines(path: Path) -> list[str]:
    """Read ids from a text file, one on each line; only CR and LF end a line."""
    try:
        text = read_text(path)
        if "\0" in text:
            raise ValueError("it holds NUL characters, as binary files and UTF-16 do")
        lines = re.split(r"\r\n|\n|\r", text)
        if lines[-1] == "":  # after the end of the last line
            lines.pop()
        if "" in lines:
            raise ValueError(f"line {lines.index('') + 1} is empty")
    except ValueError as error:
        raise ValueError(
            f"{str(path)!r} must have an id on each line, as UTF-8: {error}. Ids of "
            "any kind can be saved as a JSON list."
        ) from error
    return lines


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
                else source_of(layer.content).select(np.array([rows[i] for i in kept]))
            )
    return LayerStack({name: blocks[name] for name in found}, ids=as_id_array(kept))


def _has_ids(layer: Layer) -> bool:
    return layer.ids is not None or isinstance(layer.content, Mapping)


def _ids_of(name: str, layer: Layer) -> list[Any]:
    """Give the ids of a layer, if they fit. Those of every layer pass here."""
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
