"""Let only one command at a time work in a folder."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from skleiden.io._files import lock

from ._signals import SIGNALS


def lock_within(place: Path) -> Path:
    """Name the lock of a folder whose parent is not writable."""
    return place / f".{place.name}.skleiden-lock"


@contextmanager
def locked(out: Path, place: Path) -> Iterator[None]:
    """Keep other commands from a folder until this one ends, even if it is killed."""
    path = place.with_name(f".{place.name}.skleiden-lock")
    if place.is_dir() and not os.access(place.parent, os.W_OK | os.X_OK):
        path = lock_within(place)
    descriptor = None
    try:
        with SIGNALS.held():
            descriptor = _open_lock(out, path)
        yield
    finally:
        if descriptor is not None:
            with SIGNALS.held():
                _close_lock(descriptor, path)


def _open_lock(out: Path, path: Path) -> int:
    while True:
        try:
            descriptor = _open_for_lock(path)
        except OSError as error:
            raise type(error)(
                f"Cannot save into {str(out)!r}: {error.strerror or error}: "
                f"{str(path)!r}. Make the folder {str(path.parent)!r} writable, or "
                "give another one as --out."
            ) from error
        try:
            free = lock(descriptor)
            if free and _still_there(descriptor, path):
                return descriptor
        except OSError as error:
            os.close(descriptor)
            raise type(error)(
                f"Cannot save into {str(out)!r}: its file system has no locks "
                f"({error.strerror or error}), so commands could disturb one another. "
                "Give a folder on another file system as --out."
            ) from error
        os.close(descriptor)
        if not free:
            raise BlockingIOError(
                f"Another command is at work in {str(out)!r}. Wait until it has ended, "
                "or give another folder."
            )


def _open_for_lock(path: Path) -> int:
    """Open a file, making it if needed; only for reading if it is another user's."""
    no_link = getattr(os, "O_NOFOLLOW", 0)
    try:
        # To write, which locks need in some file systems of networks.
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | no_link, 0o666)
    except PermissionError:
        if not path.is_file():
            raise
        return os.open(path, os.O_RDONLY | no_link)
    # If it is left by a kill, others in the same folder must be able to open it.
    with suppress(OSError, AttributeError):  # Windows, and files of others
        os.fchmod(descriptor, 0o644)
    return descriptor


def _close_lock(descriptor: int, path: Path) -> None:
    # Removed while it is locked, or else it may be another's by then; Windows removes
    # no open file, and none that another has opened.
    if os.name == "nt":
        os.close(descriptor)
    with suppress(OSError):
        path.unlink()
    if os.name != "nt":
        os.close(descriptor)


def _still_there(descriptor: int, path: Path) -> bool:
    """Tell whether a file is still there, or was removed since it was opened."""
    try:
        return os.path.samestat(os.fstat(descriptor), path.stat())
    except FileNotFoundError:
        return False
