"""Unpack the chunks of HDF5 datasets, none of which is trusted.

libhdf5 does not compare what a chunk unpacks to with what a chunk must hold: too little
makes it read foreign memory, and too much takes memory without a limit. So chunks that
went through filters are unpacked here, by the four filters that come with h5py and can
be checked completely.
"""

from __future__ import annotations

import math
import operator
import os
import zlib
from collections.abc import Callable, Iterable, Iterator
from itertools import product, repeat
from typing import Any, NamedTuple

import numpy as np


class Filters(NamedTuple):
    """The filters of a dataset, in the order in which chunks went through them."""

    codes: list[int]
    options: list[tuple[int, ...]]

    def of_chunk(self, mask: int) -> list[tuple[int, tuple[int, ...]]]:
        """Those that a chunk went through: bit i of its mask says not the i-th."""
        stages = zip(self.codes, self.options, strict=True)
        return [stage for i, stage in enumerate(stages) if not mask >> i & 1]


def filters_of(dataset: Any) -> Filters:
    """Tell the filters of a dataset by their codes."""
    creation = dataset.id.get_create_plist()
    found = [creation.get_filter(i) for i in range(creation.get_nfilters())]
    return Filters([code for code, *_ in found], [tuple(given[2]) for given in found])


def chunk_size(dataset: Any) -> int:
    """Bytes of a chunk before it went through filters."""
    if dataset.dtype.kind == "O":
        # Of a string of varying length there are its length and where it is: the
        # address of a heap and a number in it.
        size = dataset.file.id.get_create_plist().get_sizes()[0] + 8
    else:
        size = dataset.id.get_type().get_size()
    return math.prod(dataset.chunks) * int(size)


def size_problem(size: int, mask: int, filters: Filters, n_bytes: int) -> str | None:
    """Say what is wrong with the size of a stored chunk; None if nothing is."""
    codes = [code for code, _ in filters.of_chunk(mask)]
    unpacked = n_bytes + _CHECKSUM * codes.count(_FLETCHER32)
    if any(code in _COMPRESSIONS for code in codes):
        # What cannot be made smaller becomes a little larger.
        most = unpacked + unpacked // 8 + 1024
        return None if 0 < size <= most else f"from 1 to {most} are possible"
    return None if size == unpacked else f"{unpacked} are needed"


def unpack(raw: bytes, mask: int, filters: Filters, n_bytes: int) -> bytes:
    """Undo the filters of a chunk.

    Raises
    ------
    ValueError
        If it does not give `n_bytes`; no more memory than for these is taken.
    """
    problem = size_problem(len(raw), mask, filters, n_bytes)
    if problem is not None:
        raise ValueError(f"a chunk holds {len(raw)} bytes, but {problem}")
    stages = filters.of_chunk(mask)
    # Between two filters there may be checksums beside the content.
    most = n_bytes + _CHECKSUM * len(stages)
    for code, options in reversed(stages):
        raw = _UNDO[code](raw, options, most)
    if len(raw) != n_bytes:
        raise ValueError(f"a chunk unpacks to {len(raw)} of {n_bytes} bytes")
    return raw


def read_dataset(dataset: Any, start: int, stop: int) -> np.ndarray:
    """Read rows of a dataset, those of filtered chunks without libhdf5's filters."""
    filters = filters_of(dataset)
    if dataset.chunks is None or not filters.codes or {*filters.codes} - _UNDO.keys():
        return np.asarray(dataset[start:stop])
    start, stop, _ = slice(start, stop).indices(dataset.shape[0])
    if not _is_plain(dataset):
        # Strings of varying length are elsewhere in the file, where libhdf5 finds them.
        for _ in _chunks(dataset, start, stop, filters):
            pass
        return np.asarray(dataset[start:stop])
    shape = max(0, stop - start), *dataset.shape[1:]
    out = np.full(shape, dataset.fillvalue, dtype=dataset.dtype)
    for offset, content in _chunks(dataset, start, stop, filters):
        chunk = np.frombuffer(content, out.dtype).reshape(dataset.chunks)
        # The first of the wanted rows may be within the chunk.
        top = max(start - offset[0], 0)
        into = out[offset[0] + top - start :]
        for axis, at in enumerate(offset[1:], start=1):
            into = into[(slice(None),) * axis + (slice(at, None),)]
        chunk = chunk[top:][tuple(slice(length) for length in into.shape)]
        into[tuple(slice(length) for length in chunk.shape)] = chunk
    return out


def _is_plain(dataset: Any) -> bool:
    """Whether its numbers lie in the file as NumPy has them in memory."""
    import h5py

    dtype = dataset.dtype
    return dtype.kind in "uifS" and dataset.id.get_type() == h5py.h5t.py_create(dtype)


def _chunks(
    dataset: Any, start: int, stop: int, filters: Filters
) -> Iterator[tuple[tuple[int, ...], bytes]]:
    """Unpack the chunks that hold rows and are there, each with its place."""
    n_bytes = chunk_size(dataset)
    for offset in _places(dataset, start, stop):
        mask, raw = dataset.id.read_direct_chunk(offset)
        yield offset, unpack(raw, mask, filters, n_bytes)


def _places(dataset: Any, start: int, stop: int) -> Iterable[tuple[int, ...]]:
    """Tell where the chunks start that hold rows and are there."""
    lengths = dataset.chunks
    if 0 in dataset.shape or start >= stop:
        return []
    first = start // lengths[0] * lengths[0]
    if dataset.id.get_num_chunks() == n_chunks(dataset):
        rows = range(first, stop, lengths[0])
        return product(rows, *map(range, repeat(0), dataset.shape[1:], lengths[1:]))
    # To ask for one that is not there takes memory of any size in some versions.
    return [
        info.chunk_offset
        for info in chunk_infos(dataset)
        if first <= info.chunk_offset[0] < stop
        and all(map(operator.lt, info.chunk_offset, dataset.shape))
    ]


def n_chunks(dataset: Any) -> int:
    """Count the chunks of a dataset that is whole."""
    lengths = zip(dataset.shape, dataset.chunks, strict=True)
    return math.prod(-(-length // chunk) for length, chunk in lengths)


def chunk_infos(dataset: Any) -> list[Any]:
    """List the chunks that are there: chunk_offset, filter_mask, size."""
    infos: list[Any] = []
    dataset.id.chunk_iter(infos.append)
    return infos


def _inflate(raw: bytes, _: tuple[int, ...], most: int) -> bytes:
    stream = zlib.decompressobj()
    content = stream.decompress(raw, most + 1)
    if len(content) > most or not stream.eof:
        raise ValueError(f"a chunk unpacks to more than {most} bytes, or is cut off")
    return content


def _unpack_lzf(raw: bytes, _: tuple[int, ...], most: int) -> bytes:
    """Undo LZF by the filter of h5py, to which the right size is given here."""
    import h5py

    size = _size_of_lzf(raw)
    if not 0 < size <= most:
        raise ValueError(
            f"a chunk unpacks to {size} bytes, but at most {most} are possible"
        )
    # A file in memory, by a name that nothing else has.
    name = os.urandom(16).hex()
    with h5py.File(name, "w", driver="core", backing_store=False) as file:
        chunk = file.create_dataset("x", size, "u1", chunks=(size,), compression="lzf")
        chunk.id.write_direct_chunk((0,), raw)
        return bytes(chunk[:])


def _size_of_lzf(raw: bytes) -> int:
    """Sum the lengths of its parts: new bytes, and copies of those before them."""
    at = size = 0
    try:
        while at < len(raw):
            control = raw[at]
            if control < 32:
                size += control + 1
                at += control + 2
            elif control < 224:
                size += (control >> 5) + 2
                at += 2
            else:
                size += raw[at + 1] + 9
                at += 3
    except IndexError:
        at = -1
    if at != len(raw):
        raise ValueError("a chunk of LZF is cut off")
    return size


def _unshuffle(raw: bytes, options: tuple[int, ...], _: int) -> bytes:
    """Undo the order of bytes: all first ones of the numbers, all second ones, ..."""
    size = options[0] if options else 0
    if size < 1:
        raise ValueError("its filter 'shuffle' does not tell the size of the numbers")
    whole = len(raw) // size * size
    columns = np.frombuffer(raw[:whole], np.uint8).reshape(size, -1)
    return columns.T.tobytes() + raw[whole:]


def _check_fletcher32(raw: bytes, _: tuple[int, ...], __: int) -> bytes:
    """Compare a chunk with the sum at its end, which is taken off."""
    if len(raw) < _CHECKSUM:
        raise ValueError("a chunk has no checksum")
    content, stated = raw[:-_CHECKSUM], int.from_bytes(raw[-_CHECKSUM:], "little")
    words = np.frombuffer(content + b"\0" * (len(content) % 2), ">u2")
    low = high = 0
    for at in range(0, words.size, 2**16):
        block = words[at : at + 2**16].astype(np.uint64)
        weights = np.arange(block.size, 0, -1, dtype=np.uint64)
        # The second sum is that of the first one after each word.
        high = (high + low * block.size + int(block @ weights)) % 65535
        low = (low + int(block.sum())) % 65535
    if (stated & 65535) % 65535 != low or (stated >> 16) % 65535 != high:
        raise ValueError("a chunk differs from its checksum")
    return content


_DEFLATE, _SHUFFLE, _FLETCHER32, _LZF = 1, 2, 3, 32000
_COMPRESSIONS = {_DEFLATE, _LZF}
_CHECKSUM = 4  # bytes
_UNDO: dict[int, Callable[[bytes, tuple[int, ...], int], bytes]] = {
    _DEFLATE: _inflate,
    _SHUFFLE: _unshuffle,
    _FLETCHER32: _check_fletcher32,
    _LZF: _unpack_lzf,
}
KNOWN_FILTERS = frozenset(_UNDO)
