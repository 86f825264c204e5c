"""Write files whole or not at all."""

from __future__ import annotations

import io
import os
import re
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from importlib import import_module
from pathlib import Path
from typing import Any, BinaryIO
from uuid import uuid4

# Locks of files: POSIX's, or Windows'.
fcntl: Any = import_module("fcntl") if os.name == "posix" else None
msvcrt: Any = import_module("msvcrt") if os.name == "nt" else None

# Files that are being written; nobody else gives such names.
NEW_FILE = re.compile(r"\.skleiden-[0-9a-f]{32}\.tmp")


def check_place(path: str | os.PathLike[str]) -> Path:
    """Give the place that a path leads to; refuse it if no file can be there.

    Symbolic links are followed. Writing to the folder is tried out, because permissions
    alone do not tell whether it works.
    """
    place = Path(os.path.realpath(path))
    if place.is_dir():
        raise IsADirectoryError(
            f"{str(path)!r} is a folder; give the name of a file in it."
        )
    if os.path.lexists(place) and not place.is_file():
        raise FileExistsError(
            f"{str(path)!r} is not a regular file, and would be replaced by one; give "
            "another name."
        )
    if not place.parent.is_dir():
        raise FileNotFoundError(
            f"The folder {str(place.parent)!r} does not exist; make it before saving "
            f"{place.name!r}."
        )
    with _new_file_beside(place):
        pass
    return place


def as_given(path: Path, place: Path) -> Path:
    """Give a path as it was given if it leads to its place, else the place.

    It does not if it goes back from a folder that does not exist: ``absent/../x``.
    """
    return path if path.exists() else place


def write_whole(
    path: str | os.PathLike[str] | io.BytesIO, content: str | bytes
) -> None:
    """Write a file beside its place, then move it there in one step.

    A file object in memory is written to directly.
    """
    data = content.encode() if isinstance(content, str) else content
    if isinstance(path, io.BytesIO):
        path.write(data)
        return
    with writing(path) as file:
        file.write(data)


@contextmanager
def writing(path: str | os.PathLike[str]) -> Iterator[BinaryIO]:
    """Give a new file beside its place, and move it there if all went well."""
    place = check_place(path)
    with _new_file_beside(place) as (new, file):
        if place.exists():
            new.chmod(stat.S_IMODE(place.stat().st_mode))
        yield file
        file.flush()
        os.fsync(file.fileno())
        if fcntl is None:
            file.close()  # Windows moves no open file
        new.replace(place)


def clear_leftovers(folder: Path) -> None:
    """Remove the unfinished files of killed processes from a folder."""
    with suppress(OSError):  # a folder may be written to, and not listed
        for path in folder.iterdir():
            if is_leftover(path):
                path.unlink(missing_ok=True)


def is_leftover(path: Path) -> bool:
    """Tell whether a file was left unfinished by a killed process.

    A running process holds a lock on the file that it writes.
    """
    if fcntl is None or not NEW_FILE.fullmatch(path.name):
        return False
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
    except OSError:  # it is gone, or somebody else's
        return False
    try:
        return stat.S_ISREG(os.fstat(descriptor).st_mode) and lock(descriptor)
    except OSError:  # there are no locks in this file system
        return False
    finally:
        os.close(descriptor)


def lock(descriptor: int) -> bool:
    """Lock an open file until it is closed; False if another process holds the lock.

    A killed process holds none.
    """
    try:
        if fcntl is not None:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        else:
            msvcrt.locking(descriptor, msvcrt.LK_NBLCK, 1)
    except (BlockingIOError, PermissionError):
        return False
    return True


@contextmanager
def _new_file_beside(place: Path) -> Iterator[tuple[Path, BinaryIO]]:
    """Make an empty file in the folder of `place`; remove it in the end if still there.

    Errors name the folder rather than the file, whose name nobody knows.
    """
    new = None
    try:
        clear_leftovers(place.parent)
        new, file = _new_file(place.parent)
        with file:
            yield new, file
    except OSError as error:
        if error.errno is None:  # of another file, and told already
            raise
        raise type(error)(
            f"Cannot write {place.name!r} in the folder {str(place.parent)!r}: "
            f"{error.strerror or error}. Make the folder writable, with room for the "
            "file, or save to another one."
        ) from error
    finally:
        if new is not None:
            with suppress(OSError):  # it was moved
                new.unlink()


def _new_file(folder: Path) -> tuple[Path, BinaryIO]:
    """Give a new file, open and, where the system allows, locked."""
    while True:
        new = folder / f".skleiden-{uuid4().hex}.tmp"
        new.touch(exist_ok=False)
        # Before it was locked, another process may have taken it for a leftover.
        with suppress(FileNotFoundError):
            file = new.open("r+b")
            if fcntl is None or _is_ours(file.fileno(), new):
                return new, file
            file.close()


def _is_ours(descriptor: int, path: Path) -> bool:
    try:
        locked = lock(descriptor)
    except OSError:  # there are no locks in this file system, and no leftovers
        return True
    return locked and os.path.samestat(os.fstat(descriptor), path.stat())
