"""Ask about layers whose names may be those of prompts, batches or splits."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import numpy as np

from . import _names as names
from ._layer import Layer, Reading
from ._parts import Parts, n_rows

# Names of modules with their numbers, beside those that `are_layers` knows.
_MODULE: Any = re.compile(
    r"(?:^|[-_.])(?:[lh]|ffn|fc|conv|conv[12]d|dense|linear|relu|gelu|norm|ln|sae|"
    r"module)[-_.]?\d+(?:$|[-_.])|[a-z]_proj(?:$|[-_.\d])",
    re.IGNORECASE,
)
# layer_9, activations9: perhaps from a row on.
_START: Any = re.compile(r"(.*?)[-_.]?(\d+)$")
_SPLIT: Any = re.compile(
    r"(?:^|[-._/])(?:train(?:ing)?|test|val(?:id(?:ation)?)?|dev|eval|holdout)"
    r"(?=$|[-._/])",
    re.IGNORECASE,
)


def by_prompt(
    read: Mapping[str, dict[str, Layer]], how: Reading
) -> Mapping[str, dict[str, Layer]]:
    """Turn files of {layer: vector}, each a prompt, into layers, if `axis` says so.

    If it does not, and the vectors' names look like those of layers, raise an error
    that asks.
    """
    vectors = {
        name: inside[""].content for name, inside in read.items() if "" in inside
    }
    if len(vectors) < len(read) or not all(
        isinstance(content, Mapping) for content in vectors.values()
    ):
        return read
    if how.axis in (1, -1):
        turned: dict[Any, dict[str, Any]] = {}
        for prompt, content in vectors.items():
            for layer, vector in content.items():
                name = str(layer) or "layer_0"  # of files of one matrix each
                turned.setdefault(name, {})[prompt] = vector
        return {layer: {"": Layer(content)} for layer, content in turned.items()}
    inner = [name for content in vectors.values() for name in content]
    if how.axis is None and {*inner} == {""}:
        raise ValueError(
            f"{_listed(list(read))} holds one matrix, of which pool= makes one vector. "
            "If each file is a prompt, with a row for each token, pass axis=1; if its "
            "rows are prompts, leave out pool=."
        )
    if how.axis not in (None, 0, -2):
        raise ValueError(
            f"axis must be 0 or 1 for vectors by name, as in {_listed(list(read))}; "
            f"got {how.axis}."
        )
    numbered = all(re.search(r"\d", str(name)) for name in inner)
    if how.axis is None and inner and numbered and names.are_layers(inner):
        raise ValueError(
            f"{_listed(list(read))} holds vectors under names such as {inner[0]!r}, "
            "which look like those of layers, not of prompts. If each file is a "
            "prompt, pass axis=1; if each file is a layer, and these are ids of "
            "prompts, pass axis=0."
        )
    return read


def refuse_doubts(
    found: Mapping[str, Layer], files: Mapping[str, Parts], how: Reading
) -> None:
    """Ask about layers whose names or numbers of rows may have another meaning."""
    _refuse_starts(found, files)
    if how.axis is not None:
        return
    matrices = {
        name: layer
        for name, layer in found.items()
        if layer.ids is None and not isinstance(layer.content, Mapping)
    }
    if len(matrices) < 2:
        return
    where = _listed([str(parts.paths[0]) for parts in files.values()])
    if len(files) > 1:
        joined, apart = "pass {layer: [part, part]}", "pass {layer: path}"
    else:
        joined, apart = "join them first, row by row", "pass axis=0"
    _refuse_splits(matrices, where, joined, apart)
    _refuse_groups(matrices, where, joined, apart)
    if how.pool is None:
        _refuse_prompts(matrices, where, apart)
    if len(files) == len(matrices) and how.layers is None:
        _refuse_numbered(matrices)


def _refuse_starts(found: Mapping[str, Layer], files: Mapping[str, Parts]) -> None:
    """Ask about layers whose numbers would be their first rows if they were parts."""
    groups: dict[str, list[tuple[int, str]]] = {}
    for name, parts in files.items():
        match = _START.match(name)
        if match is not None and name in found and len(parts.paths) == 1:
            groups.setdefault(match[1], []).append((int(match[2]), name))
    for numbered in groups.values():
        sizes = [n_rows(found[name]) for _, name in numbered]
        starts = [number for number, _ in numbered]
        first = [0, *np.cumsum(sizes[:-1]).tolist()]
        if len(numbered) > 1 and max(sizes) > 1 and starts == first:
            listed = ", ".join(repr(name) for _, name in numbered[:4])
            raise ValueError(
                f"Are {listed} parts of one layer? The numbers in their names are the "
                "first row of each, as if the rows went on from one to the next. If "
                "they are, pass {layer: [part, part]}; if each is a layer, pass "
                "{layer: path}."
            )


def _refuse_numbered(matrices: Mapping[str, Layer]) -> None:
    """Ask about files that are numbered as layers are, and as parts of the rows."""
    shapes = {tuple(layer.content.shape) for layer in matrices.values()}
    known = names.are_layers(matrices) or all(map(_MODULE.search, matrices))
    if known or len(shapes) > 1 or min(shapes)[0] < 2:
        return
    pieces = [re.split(r"(\d+)", name) for name in matrices]
    if len({len(of) for of in pieces}) > 1:
        return
    varying = [of for of in zip(*pieces, strict=True) if len({*of}) > 1]
    if len(varying) > 1 or not all(number.isdecimal() for number in varying[0]):
        return
    first, *others = map(int, varying[0])
    if first in (0, 1) and others == [*range(first + 1, first + len(pieces))]:
        listed = ", ".join(map(repr, list(matrices)[:4]))
        raise ValueError(
            f"Are {listed} parts of the rows, or layers? All have the shape "
            f"{min(shapes)}, and numbers that either may have. If they are parts, pass "
            "{layer: [part, part]}; if each is a layer, pass {layer: path}, or name "
            "the files so, such as layer_0."
        )


def _refuse_splits(
    matrices: Mapping[str, Layer], where: str, joined: str, apart: str
) -> None:
    splits: dict[str, list[str]] = {}
    for name in matrices:
        if _SPLIT.search(name):
            splits.setdefault(_SPLIT.sub("", name, count=1), []).append(name)
    several = next((own for own in splits.values() if len(own) > 1), None)
    if several is not None:
        raise ValueError(
            f"{where} holds {several[0]!r} and {several[1]!r}, which are named like "
            f"splits of the rows, not like layers. To take all rows, {joined}; to take "
            f"those of one split, pass layers=; if each is a layer, {apart}."
        )


def _refuse_groups(
    matrices: Mapping[str, Layer], where: str, joined: str, apart: str
) -> None:
    """Ask about groups that hold the same layers, as prompts and batches do.

    Groups named after models or sides of modules do, too, but have no number.
    """
    holders: dict[str, list[str]] = {}
    for name in matrices:
        group, layer = names.parted(name)
        holders.setdefault(layer, []).append(group)
    layer, groups = max(holders.items(), key=lambda item: len(item[1]))
    if len(groups) < 2 or names.are_layers(groups):
        return
    rows = n_rows(next(iter(matrices.values())))
    numbered = any(re.search(r"\d", group) for group in groups)
    if numbered or len(groups) > rows or rows == 1:
        raise ValueError(
            f"{where} holds the layer {layer!r} under {len(groups)} names, such as "
            f"{groups[0]!r} and {groups[1]!r}. If each of these has other rows, as "
            f"batches and prompts have, {joined}, or pass pool= if a row is a token; "
            f"if each is a layer, {apart}."
        )


def _refuse_prompts(matrices: Mapping[str, Layer], where: str, apart: str) -> None:
    """Ask whether matrices are layers, where they may be prompts."""
    shapes = {tuple(layer.content.shape) for layer in matrices.values()}
    if len(shapes) > 1 or names.are_layers(matrices):
        return
    (shape,) = shapes
    if len(matrices) > max(shape[0], 1):
        raise ValueError(
            f"{where} holds {len(matrices)} arrays of the shape {shape}, under names "
            f"that may not be those of layers. If each is a layer, {apart}; if each is "
            'a prompt, with a row for each token, pool first, or pass pool="mean", '
            '"max" or "last"; with a row for each layer, stack them (numpy.stack) and '
            "pass axis=1."
        )


def _listed(files: list[str]) -> str:
    first = repr(files[0])
    return first if len(files) == 1 else f"{first}, ..., {files[-1]!r}"
