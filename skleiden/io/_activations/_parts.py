"""Join layers whose rows are spread over several files."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import scipy.sparse as sp

from skleiden._blocks.sources import source_of

from ._layer import Layer, check_matrix

_PART = r"(?:part|batch|shard|chunk|split|rank|worker|rows?)"
# acts-00001-of-00002, as safetensors and Parquet are cut up; layer_9_part1of2. But
# layer_3_of_12 is a layer.
_OF_MANY: Any = re.compile(
    r"(?!.*(?:layer|block)s?_?\d+_?of_?\d)"
    rf"(.*?)(?:[-_.]?{_PART})?[-_.]?(\d+)[-_]?of[-_]?(\d+)$",
    re.IGNORECASE,
)
# layer_9_part_2, layer_9_batch2: named so.
_NAMED: Any = re.compile(rf"(.*?)(?:^|[-_.]){_PART}[-_.]?(\d+)$", re.IGNORECASE)
# batch_2_layer_9: the same before the name of the layer.
_BEFORE: Any = re.compile(
    rf"(?:(.+)[-_.])?{_PART}[-_.]?(\d+)[-_.]([a-z].*)", re.IGNORECASE
)
# layer_9_0-25: from a row up to another.
_STRETCH: Any = re.compile(r"(.*?)[-_.](\d+)[-_](\d+)$")
# layer_9_0, layer_9_25: perhaps from a row on.
_START: Any = re.compile(r"(.*\d)[-_.](\d+)$")


class Parts(NamedTuple):
    """The files of one or several layers, in the order of their rows.

    If their names tell the first row of each, it is in `starts`.
    """

    paths: list[Path]
    starts: list[int] | None = None


def join_parts(files: Mapping[str, Path]) -> dict[str, Parts]:
    """Group the files whose names say that they are parts of one layer."""
    found: dict[str, Parts] = {}
    left = {_with_part_last(name): path for name, path in files.items()}
    if len(left) < len(files):  # the same part, written in two ways
        left = dict(files)
    for names, stem in _groups(left, _OF_MANY):
        numbers = [int(_OF_MANY.match(name)[2]) for name in names]
        of = {int(_OF_MANY.match(name)[3]) for name in names}
        whole = [*range(numbers[0], numbers[0] + len(names))]
        if len(of) > 1 or numbers != whole or numbers[0] > 1 or of != {len(names)}:
            raise ValueError(
                f"Parts are missing beside {str(left[names[0]])!r}: got the parts "
                f"{numbers} of {sorted(of)}. Give all of them, or pass {{layer: [part, "
                "part]}."
            )
        found[stem] = Parts([left.pop(name) for name in names])
    for names, stem in _groups(left, _NAMED):
        numbers = [int(_NAMED.match(name)[2]) for name in names]
        follow = numbers == [*range(numbers[0], numbers[0] + len(names))]
        # Else they may be the first row of each.
        starts = None if follow else numbers
        found[stem] = Parts([left.pop(name) for name in names], starts)
    for names, stem in _groups(left, _STRETCH):
        bounds = [tuple(map(int, _STRETCH.match(name).groups()[1:])) for name in names]
        # Up to the first row of the next, or to the row before that.
        steps = {after[0] - before[1] for before, after in pairwise(bounds)}
        if steps == {0} or (steps == {1} and all(i < j for i, j in bounds)):
            starts = [start - bounds[0][0] for start, _ in bounds]
            found[stem] = Parts([left.pop(name) for name in names], starts)
    for names, stem in _groups(left, _START):
        if len(names) > 1:
            starts = [int(_START.match(name)[2]) for name in names]
            found[stem] = Parts([left.pop(name) for name in names], starts)
    found |= {name: Parts([path]) for name, path in left.items()}
    # In the order of the files, which natural order of layers' names is.
    place = {path: i for i, path in enumerate(files.values())}
    return dict(sorted(found.items(), key=lambda item: place[item[1].paths[0]]))


def _with_part_last(name: str) -> str:
    match = _BEFORE.fullmatch(name)
    if match is None:
        return name
    before, number, after = match.groups()
    return "_".join([*filter(None, (before, after)), "part", number])


def _groups(files: Mapping[str, Path], form: Any) -> list[tuple[list[str], str]]:
    """Group the names that match by what precedes their numbers."""
    groups: dict[str, list[str]] = {}
    for name in files:
        if (match := form.match(name)) is not None:
            groups.setdefault(match[1], []).append(name)
    return [
        (names, stem or re.split(r"[-_.]?\d", names[0])[0] or names[0])
        for stem, names in groups.items()
    ]


def joined(layers: Sequence[Mapping[str, Layer]], parts: Parts) -> dict[str, Layer]:
    """Join the layers of files row by row, or side by side if all have other names."""
    paths = parts.paths
    if len(paths) == 1:
        return dict(layers[0])
    if all(len(found) == 1 for found in layers) and any(
        "" in found for found in layers
    ):
        layers = [{"": next(iter(found.values()))} for found in layers]
    own = [set(found) for found in layers]
    if all(names == own[0] for names in own):
        _check_starts(layers, parts)
        return {
            name: _of_rows([found[name] for found in layers], name, paths)
            for name in layers[0]
        }
    if sum(map(len, own)) == len(set().union(*own)):
        return {name: layer for found in layers for name, layer in found.items()}
    first = next(i for i, names in enumerate(own) if names != own[0])
    raise ValueError(
        f"Parts of layers must hold the same layers; got {sorted(own[0])[:5]} in "
        f"{str(paths[0])!r}, and {sorted(own[first])[:5]} in {str(paths[first])!r}. "
        "Pass {layer: [part, part]}."
    )


def _check_starts(layers: Sequence[Mapping[str, Layer]], parts: Parts) -> None:
    """Ask, unless the first rows in the names are those of the parts."""
    if parts.starts is None:
        return
    sizes = [n_rows(next(iter(found.values()))) for found in layers]
    first = [0, *np.cumsum(sizes[:-1]).tolist()]
    if parts.starts != first or max(sizes) == 1:
        listed = ", ".join(repr(path.name) for path in parts.paths[:4])
        raise ValueError(
            f"Are {listed} parts of one layer? They have {sizes[:4]} rows, and the "
            f"numbers in their names, {parts.starts[:4]}, are not the first row of "
            "each. If they are, pass {layer: [part, part]}; if each is a layer, pass "
            "{layer: path}."
        )


def n_rows(layer: Layer) -> int:
    content = layer.content
    return len(content) if isinstance(content, Mapping) else int(content.shape[0])


def _of_rows(layers: Sequence[Layer], name: str, paths: Sequence[Path]) -> Layer:
    """Join the rows of a layer."""
    contents = [layer.content for layer in layers]
    by_id = [isinstance(content, Mapping) for content in contents]
    with_ids = [layer.ids is not None for layer in layers]
    where = f"the parts of layer {name!r}" if name else "the parts"
    listed = f"{str(paths[0])!r}, ..., {str(paths[-1])!r}"
    if len(set(by_id)) > 1 or len(set(with_ids)) > 1:
        raise ValueError(
            f"Some of {where} have ids and others do not: {listed}. Give the ids of "
            "all, or of none."
        )
    if all(by_id):
        merged: dict[Any, Any] = {}
        for content, path in zip(contents, paths, strict=True):
            repeated = next((i for i in content if i in merged), None)
            if repeated is not None:
                raise ValueError(
                    f"Prompt {repeated!r} in {str(path)!r} is also in another of "
                    f"{where}. Remove it from one of them."
                )
            merged |= content
        return Layer(merged)
    widths = sorted({content.shape[1] for content in contents})
    told = None
    if any(layer.open_ended for layer in layers):
        told = "do not say how many rows each of them has"
    elif len(widths) > 1:
        told = f"are of different widths, {widths}"
    if told is not None:
        raise ValueError(
            f"{where[0].upper()}{where[1:]} {told}: {listed}. Join them into one file."
        )
    ids = None
    if all(with_ids):
        values = [getattr(layer.ids, "values", layer.ids) for layer in layers]
        sizes = [len(own) for own in values]
        rows = [n_rows(layer) for layer in layers]
        if sizes != rows:
            raise ValueError(
                f"{where[0].upper()}{where[1:]} have {rows} rows and {sizes} ids: "
                f"{listed}. Give one id for each row."
            )
        ids = [i for own in values for i in (getattr(own, "tolist", lambda o=own: o)())]
    if any(sp.issparse(content) for content in contents):
        matrix: Any = sp.vstack([sp.csr_matrix(content) for content in contents], "csr")
    else:
        matrix = np.concatenate([source_of(content).whole() for content in contents])
    return Layer(check_matrix(matrix, paths[0]), ids)
