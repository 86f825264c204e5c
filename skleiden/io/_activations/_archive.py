"""Check what the zip archives of NumPy and torch claim to hold."""

from __future__ import annotations

import zipfile
from pathlib import Path

# Data that are compressed by more than this factor and are larger than this many bytes
# are hardly more than zeros.
_EXPANSION, _ANY_CASE = 500, 2**28


def members_of(path: Path) -> list[zipfile.ZipInfo]:
    """List the members of an archive, none of which has been read yet.

    Raises
    ------
    ValueError
        If it is broken, if two members have one name, or if they claim to hold far more
        than the file does.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            members = archive.infolist()
    except Exception as error:  # whatever bytes that make no sense lead to
        raise ValueError(
            f"{str(path)!r} is a broken or truncated archive: {error}. Copy or save it "
            "again."
        ) from error
    names = [member.filename.removesuffix(".npy") for member in members]
    if len(set(names)) < len(names):
        repeated = sorted({name for name in names if names.count(name) > 1})
        raise ValueError(
            f"{str(path)!r} is a broken archive: it holds {repeated} more than once. "
            "Save it again."
        )
    size = path.stat().st_size
    packed = sum(member.compress_size for member in members)
    stored = [m for m in members if m.compress_type == zipfile.ZIP_STORED]
    if packed > size or any(m.file_size != m.compress_size for m in stored):
        raise ValueError(
            f"{str(path)!r} is a broken archive: its members claim more bytes than the "
            f"file has, {size}. Save it again."
        )
    claimed = sum(member.file_size for member in members)
    if claimed > max(_ANY_CASE, _EXPANSION * size):
        raise ValueError(
            f"{str(path)!r} has {size} bytes and claims to hold {claimed} when it is "
            f"unpacked, over {_EXPANSION} times as many, which is refused. If the size "
            "is right, save the arrays as sparse matrices (scipy.sparse.save_npz) or "
            "uncompressed."
        )
    return members
