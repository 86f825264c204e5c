"""Find out how much Zarr chunks unpack to, before memory is taken for it.

The decoders take whatever memory a chunk asks for: by a number in its header, by the
number of its strings, or by going on forever.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable, Iterator
from typing import Any, BinaryIO, NamedTuple

# No number takes more bytes, whatever a codec converts it to; codecs add checksums.
_LARGEST_NUMBER = 16
_BESIDE = 4096
# Strings have any length, but text is not compressed further.
_MOST_OF_TEXT = 1000
_DEFLATE = 1032  # zlib's and gzip's method cannot compress further
_BLOSC_HEADER = 16  # bytes


class Claim(NamedTuple):
    """What a chunk has to hold, and the codecs by which it is stored."""

    n_items: int
    itemsize: int
    strings: str | None  # a codec of strings
    compression: str | None  # one of those of this module, the last codec


def is_bounded(raw: BinaryIO, offset: int, length: int, claim: Claim) -> bool:
    """Tell whether a chunk is whole and unpacks to no more than it may hold.

    The chunk is the part of the file `raw` that starts at `offset`. Damage that
    unpacking would find is not searched for.
    """
    most = claim.n_items * max(claim.itemsize, _LARGEST_NUMBER) + _BESIDE
    if claim.strings is not None:
        most = max(most, _MOST_OF_TEXT * length)
    if claim.compression is not None:
        raw.seek(offset)
        if not _CHECKS[claim.compression](raw, length, most):
            return False
    if claim.strings is None:
        return True
    raw.seek(offset)
    return _count_of_strings(raw.read(length), claim.compression) <= claim.n_items


def _count_of_strings(chunk: bytes, compression: str | None) -> int:
    """Read the number of strings at the start of a chunk of strings."""
    import numcodecs  # type: ignore[import-untyped]

    if compression is not None:
        try:
            chunk = bytes(numcodecs.get_codec({"id": compression}).decode(chunk))
        except Exception:
            return 0  # damaged, which is told when it is read
    return int.from_bytes(chunk[:4], "little")


def _blosc(raw: BinaryIO, length: int, most: int) -> bool:
    header = raw.read(_BLOSC_HEADER)
    unpacked, packed = (int.from_bytes(header[at : at + 4], "little") for at in (4, 12))
    # Its decoder trusts the packed length.
    return (
        len(header) == _BLOSC_HEADER
        and _BLOSC_HEADER <= packed <= length
        and unpacked <= most
    )


def _lz4(raw: BinaryIO, length: int, most: int) -> bool:
    return length > 4 and int.from_bytes(raw.read(4), "little") <= most


def _deflate(raw: BinaryIO, length: int, most: int) -> bool:
    """Tell whether it unpacks to no more than `most`, keeping nothing."""
    if length * _DEFLATE <= most:
        return True
    size, packed, stream = 0, b"", _inflater()
    try:
        while length or packed:
            if not packed:
                packed = raw.read(min(length, 2**16))
                length -= len(packed)
                if not packed:
                    break
            size += len(stream.decompress(packed, 2**20))
            if size > most:
                return False
            packed = stream.unconsumed_tail
            if stream.eof:  # gzip has several of them, one after the other
                packed, stream = stream.unused_data, _inflater()
    except zlib.error:
        pass  # damaged, which is told when it is read
    return True


def _inflater() -> Any:
    return zlib.decompressobj(wbits=zlib.MAX_WBITS | 32)  # of zlib or gzip


def _zstd(raw: BinaryIO, length: int, most: int) -> bool:
    frames = list(_frames_of_zstd(raw, raw.tell() + length))
    if len(frames) == 1 and frames[0][0] is not None:
        return frames[0][0] <= most
    # Blocks may hold less than they could, some sixteenth of it at least.
    return sum(max(stated or 0, could // 16) for stated, could in frames) <= most


def _frames_of_zstd(raw: BinaryIO, end: int) -> Iterator[tuple[int | None, int]]:
    """Give for each frame the size that it states, if any, and the most it can have.

    The format is that of RFC 8878: a frame has a header, and blocks with headers.
    """
    while raw.tell() < end:
        magic = int.from_bytes(raw.read(4), "little")
        if 0x184D2A50 <= magic <= 0x184D2A5F:  # to be skipped
            raw.seek(int.from_bytes(raw.read(4), "little"), 1)
            continue
        flags = int.from_bytes(raw.read(1), "little")
        if magic != 0xFD2FB528:
            return
        is_single = flags >> 5 & 1
        raw.seek((not is_single) + (0, 1, 2, 4)[flags & 3], 1)
        width = (is_single, 2, 4, 8)[flags >> 6]
        stated = int.from_bytes(raw.read(width), "little") + 256 * (width == 2)
        could, is_last = 0, False
        while not is_last and len(header := raw.read(3)) == 3 and raw.tell() <= end:
            block = int.from_bytes(header, "little")
            is_last, kind, size = bool(block & 1), block >> 1 & 3, block >> 3
            could += size if kind < 2 else 2**17
            raw.seek(1 if kind == 1 else size, 1)
        raw.seek(4 * (flags >> 2 & 1), 1)
        yield (stated if width else None), could


_CHECKS: dict[str, Callable[[BinaryIO, int, int], bool]] = {
    "blosc": _blosc,
    "gzip": _deflate,
    "lz4": _lz4,
    "zlib": _deflate,
    "zstd": _zstd,
}
