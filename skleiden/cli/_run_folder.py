"""A run of a command as one folder, which is there whole or not at all.

A run has a manifest, which names its files. It is written into a folder beside its
place, ``<name>.partial``, and takes its place in one step. Only files that a manifest
names are ever replaced or removed.
"""

from __future__ import annotations

import ctypes
import errno
import hashlib
import json
import os
import shutil
import stat
import sys
import warnings
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, NamedTuple

from skleiden import __version__
from skleiden.io._files import NEW_FILE, clear_leftovers, is_leftover, lock, write_whole

from ._signals import SIGNALS

MANIFEST = "manifest.json"
FORMAT = "skleiden-run"
# Raised when a reader of the old form would misunderstand the new one.
SCHEMA_VERSION = 1

# What Linux calls relative to the current folder, and the exchange of two paths.
_AT_FDCWD, _RENAME_EXCHANGE = -100, 2


class Manifest(NamedTuple):
    """What a run consists of.

    Attributes
    ----------
    command : str
        The command that made it.

    files : dict of {str: {"bytes": int, "sha256": str}}
        Its files but the manifest.

    names : list of str
        Files that the command may write: while a run is written, these are its own.
    """

    command: str
    files: Mapping[str, Mapping[str, Any]]
    names: list[str]

    def write(self, folder: Path) -> None:
        """Write it into the folder of the run."""
        document = {
            "format": FORMAT,
            "schema_version": SCHEMA_VERSION,
            "skleiden_version": __version__,
            **self._asdict(),
        }
        write_whole(folder / MANIFEST, json.dumps(document, indent=1) + "\n")


def read_manifest(folder: Path) -> Manifest | None:
    """The manifest of a run; None where there is none that can be relied on."""
    path = folder / MANIFEST
    if path.is_symlink() or not path.is_file():
        return None
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
        known = document["format"] == FORMAT
        if not known or document["schema_version"] != SCHEMA_VERSION:
            return None
        found = Manifest(*(document[name] for name in Manifest._fields))
        for name in (*found.files, *found.names):
            # Such as "../thesis.tex", which is not of this folder.
            if not isinstance(name, str) or Path(name).name != name:
                return None
        for facts in found.files.values():
            if facts.keys() != {"bytes", "sha256"}:
                return None
    except (OSError, ValueError, TypeError, KeyError, AttributeError, RecursionError):
        return None
    return found


class Run:
    """A run that is being written.

    Attributes
    ----------
    folder : Path
        Where its files are written.

    finished : bool
        Whether it takes its place in the end, rather than stay in `folder`.
    """

    def __init__(self, out: Path, folder: Path) -> None:
        self.folder = folder
        self.finished = True
        self._out = out
        self._names: list[str] = []

    def write(self, name: str, content: str | bytes) -> None:
        """Write a file of the run."""
        write_whole(self.folder / name, content)
        self.add(name)

    def add(self, name: str) -> None:
        """Count a file that is written whole to the run."""
        self._names.append(name)

    @property
    def names(self) -> list[str]:
        """The files that are whole."""
        return list(self._names)

    @property
    def saved(self) -> list[str]:
        """Paths of the files where they are in the end."""
        if self.finished:
            return [str(self._out / name) for name in (*self._names, MANIFEST)]
        return [str(self.folder / name) for name in self._names]


@contextmanager
def new_run(
    out: Path,
    command: str,
    names: Iterable[str],
    *,
    overwrite: bool = False,
    inputs: Iterable[Path] = (),
) -> Iterator[Run]:
    """Write a new run, which takes its place if all goes well.

    If something goes wrong, files that are whole by then stay where they were written,
    until the next run to the same place, and an earlier run stays as it was.

    Parameters
    ----------
    out : Path
        Where the run goes: a folder that is new or empty, or an earlier run.

    command : str
        The command that makes it; a run of another is not replaced.

    names : iterable of str
        Files that the command may write.

    overwrite : bool, default=False
        Whether an earlier run may be replaced.

    inputs : iterable of Path
        Files and folders that are read: they must not lie in `out`, nor it in them.

    Yields
    ------
    Run
    """
    place = Path(os.path.realpath(out))
    if os.path.lexists(place) and not place.is_dir():
        raise NotADirectoryError(
            f"{str(out)!r} is not a folder. Give a folder as --out."
        )
    if not place.name:
        raise ValueError(
            f"{str(out)!r} is a whole drive. Give a folder in it as --out."
        )
    _refuse_inputs(out, place, inputs)
    with _parents(out, place), _locked(out, place):
        _restore(out, place)
        earlier = _check_place(out, place, command, overwrite)
        folder = _new_folder(place, Manifest(command, {}, list(names)))
        run = Run(out, folder)
        in_place = False
        try:
            yield run
            if run.finished:
                with SIGNALS.held():
                    facts = {name: _facts(folder / name) for name in run.names}
                    Manifest(command, facts, run.names).write(folder)
                    _flush(folder)
                    _put_in_place(out, place, folder, earlier)
                    in_place = True
        except BaseException as error:
            run.finished = in_place
            if in_place:
                error.add_note(f"Saved: {', '.join(run.saved)}")
            elif run.saved:
                error.add_note(
                    f"Saved until then: {', '.join(run.saved)}; the next run to "
                    f"{str(out)!r} clears them."
                )
            else:
                with suppress(OSError):  # the error that is on its way says more
                    _remove(folder)
            raise


@contextmanager
def existing_run(out: Path) -> Iterator[Manifest | None]:
    """Have a folder for oneself that a run is in, to read it and to change it.

    Parameters
    ----------
    out : Path
        The folder.

    Yields
    ------
    Manifest or None
        That of the run; None where there is none, as in runs of older versions.
    """
    place = Path(os.path.realpath(out))
    absent = NotADirectoryError(
        f"{str(out)!r} is not a folder. Give the one that was the --out of skleiden "
        "cluster."
    )
    if not place.parent.is_dir():
        raise absent
    with _locked(out, place):
        _restore(out, place)
        if not place.is_dir():
            raise absent
        yield read_manifest(place)


def update(folder: Path, manifest: Manifest, name: str) -> None:
    """Take a file of a run that was written again into the manifest."""
    if not manifest.files:  # of a run that was not finished, and must not seem so
        return
    facts = {**manifest.files, name: _facts(folder / name)}
    names = list(dict.fromkeys((*manifest.names, name)))
    manifest._replace(files=facts, names=names).write(folder)


def _beside(place: Path, suffix: str) -> Path:
    return place.with_name(place.name + suffix)


def _within(place: Path) -> Path:
    """Where a run is written whose place cannot be exchanged."""
    return place / f"{place.name}.partial"


# --- What may be there, and what may not ----------------------------------------------


def _refuse_inputs(out: Path, place: Path, inputs: Iterable[Path]) -> None:
    folders = [place, _beside(place, ".partial"), _beside(place, ".earlier")]
    for path in inputs:
        real = Path(os.path.realpath(path))
        # Where a symbolic link lies, too, which the run would replace.
        link = Path(os.path.realpath(path.parent)) / path.name
        around = (real, *real.parents, *link.parents)
        if any(_same(folder, one) for folder in folders for one in around):
            raise ValueError(
                f"The input {str(path)!r} lies in the folder of --out, {str(out)!r}, "
                "which belongs to the run alone. Give another --out, or move the input."
            )
        if any(_same(real, one) for one in place.parents):
            raise ValueError(
                f"--out {str(out)!r} lies in the input {str(path)!r}. Give a folder "
                "outside of it."
            )


def _same(a: Path, b: Path) -> bool:
    return a == b or (a.exists() and b.exists() and a.samefile(b))


def _check_place(
    out: Path, place: Path, command: str, overwrite: bool
) -> Manifest | None:
    """The earlier run, if there is one that can be replaced."""
    if not _entries(place):
        return None
    manifest = read_manifest(place)
    if manifest is None or not manifest.files:
        raise FileExistsError(
            f"{str(out)!r} holds {_some(_entries(place))}, and is not the folder of a "
            "run of skleiden. Give a new or an empty folder as --out."
        )
    _refuse_foreign(out, place, manifest)
    if manifest.command != command:
        raise FileExistsError(
            f"{str(out)!r} holds a run of skleiden {manifest.command}, which skleiden "
            f"{command} does not replace. Give another folder as --out."
        )
    if not overwrite:
        raise FileExistsError(
            f"{str(out)!r} holds an earlier run. Give --overwrite to replace it, or "
            "another folder as --out."
        )
    reason = _why_fixed(place)
    if reason is not None:
        raise PermissionError(
            f"The earlier run in {str(out)!r} cannot be replaced: {reason}. Give "
            "another folder as --out."
        )
    aside = _beside(place, ".earlier")
    if os.path.lexists(aside):
        raise FileExistsError(
            f"{str(aside)!r} is where the earlier run may have to be for a moment. "
            "Move it away, or give another folder as --out."
        )
    return manifest


def _refuse_foreign(out: Path, place: Path, manifest: Manifest) -> None:
    """Refuse a run among whose files there are others, or changed ones."""
    foreign = [
        name
        for name in _entries(place)
        if name != MANIFEST and not _is_as_saved(place / name, manifest.files)
    ]
    if foreign:
        raise FileExistsError(
            f"{str(out)!r} holds {_some(foreign)}, which the run there did not save, "
            "or which changed since. Nothing is replaced; move it away, or give "
            "another folder as --out."
        )


def _is_as_saved(path: Path, files: Mapping[str, Any]) -> bool:
    return (
        path.name in files
        and not path.is_symlink()
        and path.is_file()
        and files[path.name] == _facts(path)
    )


def _is_whole(folder: Path) -> bool:
    """Whether a folder is a run with all of its files as they were saved."""
    manifest = read_manifest(folder)
    # Of a run that is not finished no file is in the manifest.
    return (
        manifest is not None
        and len(manifest.files) > 0
        and all(_is_as_saved(folder / name, manifest.files) for name in manifest.files)
    )


def _is_on_its_way(folder: Path, place: Path) -> bool:
    """Whether a whole run is in a folder and, in part, already in its place."""
    manifest = None if folder.is_symlink() else read_manifest(folder)
    if manifest is None or not manifest.files:
        return False
    moved = _entries(place)
    return all(_is_as_saved(place / name, manifest.files) for name in moved) and all(
        name in moved or _is_as_saved(folder / name, manifest.files)
        for name in manifest.files
    )


def _facts(path: Path) -> dict[str, Any]:
    with path.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
        return {"bytes": file.tell(), "sha256": digest}


def _entries(place: Path) -> list[str]:
    """What is in a folder, but for what was left there by a command of ours."""
    if not place.exists():
        return []
    return sorted(
        path.name
        for path in place.iterdir()
        if not is_leftover(path)
        and path != _lock_within(place)
        and not (path == _within(place) and not _foreign_in(path))
    )


def _some(names: list[str]) -> str:
    shown = " and ".join(repr(name) for name in names[:2])
    return f"{shown} and {len(names) - 2} more" if len(names) > 2 else shown


def _why_fixed(place: Path) -> str | None:
    """Why a folder cannot be exchanged for another, if it cannot."""
    parent = place.parent
    if not os.access(parent, os.W_OK | os.X_OK):
        return f"the folder {str(parent)!r} is not writable"
    if not os.access(place, os.W_OK | os.X_OK):
        return "it is not writable"
    if _is_mounted(place):
        return "it is a mount point"
    current = Path(os.path.realpath(os.curdir))
    if any(_same(place, one) for one in (current, *current.parents)):
        return "the current folder is in it"
    if os.name == "posix" and parent.stat().st_mode & stat.S_ISVTX:
        owners = (place.stat().st_uid, parent.stat().st_uid, 0)
        if os.geteuid() not in owners:
            return "it belongs to another user"
    return None


def _is_mounted(place: Path) -> bool:
    if os.path.ismount(place):
        return True
    # A folder of the same file system may be mounted, too.
    with suppress(OSError):
        escaped = str(place).replace("\\", "\\134").replace(" ", "\\040")
        mounts = Path("/proc/self/mountinfo").read_text(errors="surrogateescape")
        return any(line.split(" ")[4] == escaped for line in mounts.splitlines())
    return False


# --- One command at a time ------------------------------------------------------------


def _lock_within(place: Path) -> Path:
    return place / f".{place.name}.skleiden-lock"


@contextmanager
def _locked(out: Path, place: Path) -> Iterator[None]:
    """Keep other commands from a folder, until this one ends, be it killed."""
    path = _beside(place, ".skleiden-lock")
    path = path.with_name(f".{path.name}")
    if place.is_dir() and not os.access(place.parent, os.W_OK | os.X_OK):
        path = _lock_within(place)
    descriptor = _open_lock(out, path)
    try:
        yield
    finally:
        # Removed while it is locked, or else it may be another's by then; Windows
        # removes no open file, and none that another has opened.
        if os.name == "nt":
            os.close(descriptor)
        with suppress(OSError):
            path.unlink()
        if os.name != "nt":
            os.close(descriptor)


def _open_lock(out: Path, path: Path) -> int:
    while True:
        try:
            flags = os.O_RDWR | os.O_CREAT | getattr(os, "O_NOFOLLOW", 0)
            descriptor = os.open(path, flags, 0o666)
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
                f"({error.strerror or error}), so that commands could disturb one "
                "another. Give a folder of another file system as --out."
            ) from error
        os.close(descriptor)
        if not free:
            raise BlockingIOError(
                f"Another command is at work in {str(out)!r}. Wait until it has ended, "
                "or give another folder."
            )


def _still_there(descriptor: int, path: Path) -> bool:
    """Whether a file was not removed, by the command before, since it was opened."""
    try:
        return os.path.samestat(os.fstat(descriptor), path.stat())
    except FileNotFoundError:
        return False


# --- Folders, made and moved ----------------------------------------------------------


@contextmanager
def _parents(out: Path, place: Path) -> Iterator[None]:
    """Make the folders that `place` lies in; they go if nothing comes of it."""
    made = [parent for parent in place.parents if not parent.exists()]
    try:
        try:
            place.parent.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise type(error)(
                f"Cannot make the folder {str(place.parent)!r} for {str(out)!r}: "
                f"{error.strerror or error}. Give another --out."
            ) from error
        yield
    finally:
        for parent in made:
            with suppress(OSError):  # something is in it
                parent.rmdir()


def _new_folder(place: Path, manifest: Manifest) -> Path:
    """The folder in which the run is written, after what a killed run left there."""
    folders = _beside(place, ".partial"), _within(place)
    for left in folders:
        if os.path.lexists(left):
            _remove(left)
    clear_leftovers(place)
    within = place.exists() and _why_fixed(place) is not None
    folder = folders[within]
    try:
        folder.mkdir()
        manifest.write(folder)
    except OSError as error:
        with suppress(OSError):
            folder.rmdir()
        raise type(error)(
            f"Cannot make the folder {str(folder)!r}, in which the run is written "
            f"until it is whole: {error.strerror or error}. Give another --out."
        ) from error
    return folder


def _remove(folder: Path) -> None:
    """Remove the folder of a run, in which there must be nothing else.

    The manifest goes last: by it the folder is known for ours.
    """
    foreign = _foreign_in(folder)
    if foreign:
        raise FileExistsError(
            f"{str(folder)!r}, where a run is written until it is whole, holds "
            f"{_some(foreign)}, which no run of skleiden made. Move that away, or give "
            "another --out."
        )
    for path in folder.iterdir():
        if path.name != MANIFEST:
            path.unlink()
    (folder / MANIFEST).unlink(missing_ok=True)
    folder.rmdir()


def _foreign_in(folder: Path) -> list[str]:
    """What is in the folder of a run that was not finished, and not of that run."""
    if folder.is_symlink() or not folder.is_dir():
        return [folder.name]
    manifest = read_manifest(folder)
    own = set() if manifest is None else {*manifest.names, *manifest.files, MANIFEST}
    return sorted(
        path.name
        for path in folder.iterdir()
        if not (path.name in own or NEW_FILE.fullmatch(path.name))
        or (path.is_dir() and not path.is_symlink())
    )


def _restore(out: Path, place: Path) -> None:
    """Finish the last step of a run that was killed while it took its place."""
    earlier = _beside(place, ".earlier")
    folders = [_within(place), _beside(place, ".partial")]
    found = [folder for folder in folders if _is_on_its_way(folder, place)]
    if not found and not place.exists() and _is_whole(earlier):
        found = [earlier]
    if found:
        _move(out, found[0], place)
        warnings.warn(
            f"A command was killed while its run took its place as {str(out)!r}. A "
            "whole run is there now.",
            UserWarning,
            stacklevel=2,
        )
    if _is_whole(place):
        for left in (earlier, _within(place)):
            if os.path.lexists(left):
                with suppress(FileExistsError):  # it is somebody else's
                    _remove(left)


def _put_in_place(
    out: Path, place: Path, folder: Path, earlier: Manifest | None
) -> None:
    if earlier is None:
        _move(out, folder, place)
    else:
        _refuse_foreign(out, place, earlier)  # of what came while the command worked
        shutil.copymode(place, folder)
        old = folder if _exchange(folder, place) else _replace(folder, place)
        _flush(place.parent)
        try:
            _remove(old)
        except OSError as error:
            warnings.warn(
                f"The earlier run is now {str(old)!r} and could not be removed: "
                f"{error}",
                UserWarning,
                stacklevel=2,
            )
    _flush(place.parent)


def _exchange(a: Path, b: Path) -> bool:
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


def _replace(folder: Path, place: Path) -> Path:
    """Replace a folder in two steps; gives where the former one is now.

    After a kill between them `_restore` finds both.
    """
    old = _beside(place, ".earlier")
    place.rename(old)
    try:
        folder.rename(place)
    except OSError:
        old.rename(place)
        raise
    return old


def _move(out: Path, folder: Path, place: Path) -> None:
    """Move a run to a place where nothing is, or an empty folder.

    Into a folder that cannot be replaced its files are moved one by one, the manifest
    last; `_restore` goes on after a kill.
    """
    if place.exists() and folder != _within(place):
        shutil.copymode(place, folder)
    if folder != _within(place) and not _entries(place):
        with suppress(OSError):
            if os.name == "nt" and place.exists():  # it replaces no folder
                place.rmdir()
            folder.rename(place)
            return
    manifest = read_manifest(folder)
    files = {} if manifest is None else manifest.files
    came = [n for n in _entries(place) if not _is_as_saved(place / n, files)]
    if came:
        raise FileExistsError(
            f"{str(out)!r} holds {_some(came)}, which came there since the command "
            "began. Nothing is replaced; move it away, or give another --out."
        )
    place.mkdir(exist_ok=True)
    for name in (*files, MANIFEST):
        if (folder / name).exists():
            (folder / name).replace(place / name)
    folder.rmdir()


def _flush(folder: Path) -> None:
    """Have the system write what it knows of a folder to the disk, if it can."""
    with suppress(OSError):  # Windows opens no folder
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
