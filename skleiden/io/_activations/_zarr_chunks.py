"""Find out how Zarr arrays are stored, and how much of each is there."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from ._group import Storage
from ._layer import first_line
from ._zarr_claims import Claim, is_bounded

# Codecs that are read, by their names without the prefix "numcodecs.". Others that are
# installed may run what is in a chunk ("pickle"), or trust it with memory.
_STRINGS = {"vlen-bytes", "vlen-utf8"}
# Of these, the size of what they unpack to is found beforehand, in the files.
_COMPRESSIONS = {"blosc", "gzip", "lz4", "zlib", "zstd"}
_CODECS = {
    # changes of arrays
    *("bytes", "transpose", "astype", "bitround", "delta", "fixedscaleoffset"),
    *("packbits", "quantize", "shuffle"),
    *_STRINGS,
    *_COMPRESSIONS,
    # sums by which damage is told
    *("adler32", "crc32", "crc32c", "fletcher32", "jenkins_lookup3"),
}
# Settings of codecs that name the type of what they make, and types of numbers.
_DTYPES = ("dtype", "astype", "encode_dtype", "decode_dtype")
_NUMBERS = re.compile(r"[<>|=]?[buif]\d{1,2}|bool|u?int\d{1,2}|float\d{2}")
_ABSENT = 2**64 - 1  # offset and length of a chunk that is not in its shard


class Node(NamedTuple):
    """An array in the folder: its metadata, and the sizes of its other files."""

    folder: Path
    metadata: dict[str, Any]
    sizes: dict[str, int]


class Layout(NamedTuple):
    """How the chunks of an array are stored."""

    file_shape: list[int]  # of the part of the array that one file holds
    chunk_shape: list[int]  # the same, or that of the chunks in a shard
    prefix: str
    separator: str
    codecs: list[str]  # in the order in which they encoded
    dtypes: list[Any]  # to which they convert
    index_codecs: list[str] | None  # of the index of shards
    index_at_start: bool
    fill_is_defined: bool
    transformers: list[Any]


def check_layout(node: Node, where: str) -> Layout:
    """Give the layout of an array, if nothing in it is unknown."""
    try:
        layout = _layout_of(node.metadata)
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise ValueError(
            f"{where} has metadata that are broken or of an unknown kind: "
            f"{first_line(error)}."
        ) from error
    if layout.transformers:
        raise ValueError(
            f"{where} is stored by storage transformers, {layout.transformers}, which "
            "are not read. Store it without them."
        )
    unknown = [name for name in layout.codecs if name not in _CODECS]
    if unknown:
        raise ValueError(
            f"{where} is stored by {unknown[0]!r}, a codec that is not read, because "
            "some codecs run what is in a chunk, or take any memory that it asks for. "
            "Store it with another, such as zstd."
        )
    *before, last = layout.codecs or [""]
    early = [name for name in before if name in _COMPRESSIONS]
    if early:
        raise ValueError(
            f"{where} is stored by {layout.codecs}; {early[0]} is read only as the "
            "last of several codecs. Store it that way."
        )
    # The number of strings is checked where it is the first that a compression gives.
    strings = [name for name in layout.codecs if name in _STRINGS]
    others = before if last in _COMPRESSIONS else layout.codecs
    if strings and len(others) > 1:
        raise ValueError(
            f"{where} is stored by {layout.codecs}; {strings[0]} is read alone or with "
            "one compression. Store it that way."
        )
    foreign = [
        dtype
        for dtype in layout.dtypes
        if not isinstance(dtype, str) or not _NUMBERS.fullmatch(dtype)
    ]
    if foreign:
        raise ValueError(
            f"{where} is stored by a codec that converts to {foreign[0]!r}, which is "
            "not a type of numbers. Store it without this codec."
        )
    if layout.index_codecs not in (None, ["bytes"], ["bytes", "crc32c"]):
        raise ValueError(
            f"{where} has shards with an index stored by {layout.index_codecs}; bytes "
            "and crc32c are read. Store it that way."
        )
    return layout


def _layout_of(metadata: dict[str, Any]) -> Layout:
    if metadata["zarr_format"] == 2:
        chunks = _lengths(metadata["chunks"])
        stages = [*(metadata.get("filters") or []), metadata.get("compressor")]
        return Layout(
            file_shape=chunks,
            chunk_shape=chunks,
            prefix="",
            separator=_separator(metadata.get("dimension_separator", ".")),
            codecs=[_plain(stage["id"]) for stage in stages if stage is not None],
            dtypes=_dtypes_of(stages),
            index_codecs=None,
            index_at_start=False,
            fill_is_defined=metadata.get("fill_value") is not None,
            transformers=[],
        )
    grid, encoding = metadata["chunk_grid"], metadata["chunk_key_encoding"]
    if grid["name"] != "regular" or encoding["name"] not in ("default", "v2"):
        raise ValueError(f"chunk grid {grid['name']!r}, keys {encoding['name']!r}")
    is_default = encoding["name"] == "default"
    separator = _separator(
        encoding.get("configuration", {}).get("separator", "/" if is_default else ".")
    )
    file_shape = chunk_shape = _lengths(grid["configuration"]["chunk_shape"])
    codecs = metadata["codecs"]
    stages = [*codecs]
    names = _names_of(codecs)
    index_codecs, index_at_start = None, False
    if names[-1:] == ["sharding_indexed"]:
        options = codecs[-1]["configuration"]
        chunk_shape = _lengths(options["chunk_shape"])
        names = names[:-1] + _names_of(options["codecs"])
        stages += options["codecs"]
        index_codecs = [_name_of(codec) for codec in options["index_codecs"]]
        for codec in options["index_codecs"]:
            if isinstance(codec, dict):
                endian = codec.get("configuration", {}).get("endian", "little")
                if endian != "little":
                    raise ValueError(f"an index of shards in {endian} endian")
        index_at_start = options.get("index_location", "end") == "start"
    return Layout(
        file_shape=file_shape,
        chunk_shape=chunk_shape,
        prefix=f"c{separator}" if is_default else "",
        separator=separator,
        codecs=names,
        dtypes=_dtypes_of(
            [s.get("configuration") for s in stages if isinstance(s, dict)]
        ),
        index_codecs=index_codecs,
        index_at_start=index_at_start,
        fill_is_defined=metadata.get("fill_value") is not None,
        transformers=list(metadata.get("storage_transformers", [])),
    )


def _dtypes_of(settings: list[Any]) -> list[Any]:
    """List the types to which codecs convert."""
    return [
        setting[name]
        for setting in settings
        if setting
        for name in _DTYPES
        if setting.get(name) is not None
    ]


def _lengths(shape: Any) -> list[int]:
    if not isinstance(shape, list) or not all(
        type(length) is int and length > 0 for length in shape
    ):
        raise ValueError(f"chunks of shape {shape}")
    return shape


def _separator(separator: Any) -> str:
    if separator not in (".", "/"):
        raise ValueError(f"keys separated by {separator!r}")
    return str(separator)


def _names_of(codecs: list[Any]) -> list[str]:
    """Name codecs, leaving out a checksum at the end, which does not change the rest.

    Only that of version 3 is left out, because others of that name may come first.
    """
    names = [_name_of(codec) for codec in codecs]
    last = codecs[-1] if codecs else None
    if (last if isinstance(last, str) else (last or {}).get("name")) == "crc32c":
        names.pop()
    return names


def _name_of(codec: Any) -> str:
    return _plain(codec if isinstance(codec, str) else codec["name"])


def _plain(name: Any) -> str:
    return str(name).removeprefix("numcodecs.")


def storage_of(array: Any, node: Node, layout: Layout, where: str) -> Storage:
    """Tell how much of an array is there, or refuse files that are cut off.

    An empty file would read as fill values, and a truncated Blosc file as whatever lies
    in memory, without an error.
    """
    shape = array.shape
    if len(layout.file_shape) != len(shape) or len(layout.chunk_shape) != len(shape):
        raise ValueError(
            f"{where} has the shape {shape} and chunks of {layout.chunk_shape}, which "
            "do not fit. It is broken: copy or write it again."
        )
    n_bytes = n_present = 0
    for key, size in node.sizes.items():
        if not _is_key_of(key, layout, shape):
            continue
        if size == 0:
            raise ValueError(
                f"Chunk {key!r} is empty. {where} is broken or truncated: copy or "
                "write it again."
            )
        n_bytes += size
        file = node.folder / key
        n_present += _chunks_in(file, size, layout, array.dtype.itemsize, where)
    n_chunks = _n_parts(shape, layout.chunk_shape)
    return Storage(
        n_bytes,
        n_chunks,
        min(n_present, n_chunks),  # shards may hold more than the array after a resize
        array.fill_value if layout.fill_is_defined else None,
    )


def _n_parts(shape: Sequence[int], part: Sequence[int]) -> int:
    return math.prod(
        -(-length // size) for length, size in zip(shape, part, strict=True)
    )


def _is_key_of(key: str, layout: Layout, shape: Sequence[int]) -> bool:
    """Tell whether a file holds a part of an array, by its name."""
    if not key.startswith(layout.prefix):
        return False
    places = key.removeprefix(layout.prefix).split(layout.separator)
    return len(places) == len(shape) and all(
        place.isascii()
        and place.isdigit()
        and str(int(place)) == place
        and int(place) * size < length
        for place, size, length in zip(places, layout.file_shape, shape, strict=True)
    )


def _chunks_in(file: Path, size: int, layout: Layout, itemsize: int, where: str) -> int:
    """Count the chunks in a file, and refuse one that reaches beyond its end.

    A chunk that unpacks to far more than it may hold is refused, too.
    """
    codecs = layout.codecs
    strings = next((name for name in codecs if name in _STRINGS), None)
    compression = next((name for name in codecs if name in _COMPRESSIONS), None)
    if layout.index_codecs is None and strings is compression is None:
        return 1
    claim = Claim(math.prod(layout.chunk_shape), itemsize, strings, compression)
    with file.open("rb") as raw:
        if layout.index_codecs is None:
            spans: np.ndarray | None = np.array([[0, size]], dtype=np.uint64)
        else:
            spans = _spans_in_shard(raw, size, layout)
        if spans is not None and all(
            offset + length <= size and is_bounded(raw, offset, length, claim)
            for offset, length in spans.tolist()
        ):
            return len(spans)
    raise ValueError(
        f"Chunk {file.name!r} in {str(file.parent)!r} holds less than it claims, or "
        f"claims far more than a chunk of the shape {tuple(layout.chunk_shape)} has. "
        f"{where} is broken or truncated: copy or write it again."
    )


def _spans_in_shard(raw: Any, size: int, layout: Layout) -> np.ndarray | None:
    """Read where the chunks are in a shard: (offset, length) of each that is there."""
    length = 16 * _n_parts(layout.file_shape, layout.chunk_shape)
    checksum = 4 * (layout.index_codecs == ["bytes", "crc32c"])
    if length + checksum > size:
        return None
    raw.seek(0 if layout.index_at_start else size - length - checksum)
    spans = np.frombuffer(raw.read(length), dtype="<u8").reshape(-1, 2)
    return spans[(spans != _ABSENT).all(axis=1)]
