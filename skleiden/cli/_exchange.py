"""Exchange folders, and tell which cannot be exchanged."""

from __future__ import annotations

import ctypes
import errno
import os
import sys
from contextlib import suppress
from pathlib import Path

# What Linux calls relative to the current folder, and the exchange of two paths.
_AT_FDCWD, _RENAME_EXCHANGE = -100, 2

# Where an earlier run is, inside of the new one, where folders cannot be exchanged.
EARLIER = ".earlier"

# What a system says of a folder that it does not rename.
_FIXED = {
    errno.EBUSY: "it is a mount point",
    errno.EXDEV: "it is in a lower layer of its file system, as of the image of a "
    "container",
    errno.EPERM: "it belongs to another user, or is protected",
}


def same(a: Path, b: Path) -> bool:
    """Tell whether two paths are of one file or folder."""
    return a == b or (a.exists() and b.exists() and a.samefile(b))


def why_fixed(place: Path) -> str | None:
    """Say why a folder should not be exchanged for another; None if it can be."""
    parent = place.parent
    if not os.access(parent, os.W_OK | os.X_OK):
        return f"the folder {str(parent)!r} is not writable"
    if not os.access(place, os.W_OK | os.X_OK):
        return "it is not writable"
    current = Path(os.path.realpath(os.curdir))
    if any(same(place, one) for one in (current, *current.parents)):
        return "the current folder is in it"
    return None


def why_not_moved(place: Path, full: Path) -> str | None:
    """Say why the system does not rename a folder; None if it does.

    The system is asked to rename it to a folder that is not empty. It always refuses
    this, but with a different error if it would otherwise rename the folder.
    """
    try:
        place.rename(full)
    except OSError as error:
        if error.errno in (errno.ENOTEMPTY, errno.EEXIST):
            return None
        return _FIXED.get(error.errno or 0, error.strerror or str(error))
    full.rename(place)
    return "its file system replaces folders that are not empty"


def exchange(a: Path, b: Path) -> bool:
    """Exchange two folders in one step, if the system can."""
    rename = None
    if sys.platform == "linux":
        rename = getattr(ctypes.CDLL(None, use_errno=True), "renameat2", None)
    if rename is None:
        return False
    paths = os.fsencode(a), os.fsencode(b)
    if rename(_AT_FDCWD, paths[0], _AT_FDCWD, paths[1], _RENAME_EXCHANGE) == 0:
        return True
    number = ctypes.get_errno()
    if number in (errno.ENOSYS, errno.EINVAL, errno.ENOTSUP):
        return False
    raise OSError(number, os.strerror(number), str(b))


def replace(folder: Path, place: Path) -> None:
    """Replace a folder in two steps; the former one is then inside the new one.

    If the command is killed between them, the next command does the second.
    """
    place.rename(folder / EARLIER)
    try:
        folder.rename(place)
    except OSError:
        (folder / EARLIER).rename(place)
        raise


def flush(folder: Path) -> None:
    """Make the system write a folder's entries to the disk, if it can."""
    with suppress(OSError):  # Windows opens no folder
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
