"""A run of a command as one folder, which is there whole or not at all.

A run has a manifest, which names its files. It is written into a folder beside its
place, ``<name>.partial``, and takes its place in one step. Until then, its manifest
says where it is on its way to. Only folders whose manifests say so are ever moved or
removed, whatever their names are, and in them only the files that they name.
"""

from __future__ import annotations

import ctypes
import errno
import hashlib
import json
import os
import shutil
import sys
import warnings
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple

from skleiden import __version__
from skleiden.io._files import (
    NEW_FILE,
    as_given,
    clear_leftovers,
    is_leftover,
    lock,
    write_whole,
)

from ._signals import SIGNALS

MANIFEST = "manifest.json"
FORMAT = "skleiden-run"
# Raised when a reader of the old form would misunderstand the new one.
SCHEMA_VERSION = 1

# What Linux calls relative to the current folder, and the exchange of two paths.
_AT_FDCWD, _RENAME_EXCHANGE = -100, 2

# Where an earlier run is, inside of the new one, where folders cannot be exchanged.
_EARLIER = ".earlier"

# What a system says of a folder that it does not rename.
_FIXED = {
    errno.EBUSY: "it is a mount point",
    errno.EXDEV: "it is in a lower layer of its file system, as of the image of a "
    "container",
    errno.EPERM: "it belongs to another user, or is protected",
}


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

    rewritten : dict, as `files`
        Files that are about to be replaced, as they will be.

    on_its_way_to : str or None
        Name of the folder that the run is to be, until it is that and all is done.

    replaces : str or None
        SHA-256 of the manifest of the earlier run that was there.
    """

    command: str
    files: Mapping[str, Mapping[str, Any]]
    names: list[str]
    rewritten: Mapping[str, Mapping[str, Any]] = MappingProxyType({})
    on_its_way_to: str | None = None
    replaces: str | None = None

    def write(self, folder: Path) -> None:
        """Write it into the folder of the run."""
        document: dict[str, Any] = {
            "format": FORMAT,
            "schema_version": SCHEMA_VERSION,
            "skleiden_version": __version__,
            "command": self.command,
            "files": self.files,
            "names": self.names,
        }
        # What is not the case in a finished run does not stand there.
        for name in ("rewritten", "on_its_way_to", "replaces"):
            if getattr(self, name):
                document[name] = getattr(self, name)
        write_whole(folder / MANIFEST, json.dumps(document, indent=1) + "\n")

    @property
    def finished(self) -> bool:
        """Whether the run is whole and in its place."""
        return self.on_its_way_to is None and len(self.files) > 0

    def has(self, path: Path) -> bool:
        """Whether a file of its folder is of the run, and as it was saved."""
        both = (self.files, self.rewritten)
        known = [files[path.name] for files in both if path.name in files]
        is_file = len(known) > 0 and path.is_file() and not path.is_symlink()
        return is_file and _facts(path) in known


def read_manifest(folder: Path) -> Manifest | None:
    """The manifest of a run; None where there is none that can be relied on."""
    path = folder / MANIFEST
    if folder.is_symlink() or path.is_symlink() or not path.is_file():
        return None
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
        known = document["format"] == FORMAT
        if not known or document["schema_version"] != SCHEMA_VERSION:
            return None
        found = Manifest(
            **{name: document[name] for name in Manifest._fields if name in document}
        )
        for name in (*found.names, *found.files, *found.rewritten):
            # Such as "../thesis.tex", which is not of this folder.
            if not isinstance(name, str) or Path(name).name != name:
                return None
        for facts in (*found.files.values(), *found.rewritten.values()):
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

    def __init__(self, out: Path, place: Path, folder: Path) -> None:
        self.folder = folder
        self.finished = True
        self._out, self._place = out, place
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
            folder = as_given(self._out, self._place)
            return [str(folder / name) for name in (*self._names, MANIFEST)]
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
        _go_on(out, place)
        earlier = _check_place(out, place, command, overwrite)
        unfinished = Manifest(
            command,
            files={},
            names=list(names),
            on_its_way_to=place.name,
            replaces=earlier and _facts(place / MANIFEST)["sha256"],
        )
        folder = _new_folder(out, place, unfinished)
        run = Run(out, place, folder)
        in_place = False
        try:
            yield run
            if run.finished:
                with SIGNALS.held():
                    facts = {name: _facts(folder / name) for name in run.names}
                    whole = unfinished._replace(files=facts, names=run.names)
                    whole.write(folder)
                    _flush(folder)
                    _put_in_place(out, place, folder, whole, earlier)
                    in_place = True
                    _settle(place)
        except BaseException as error:
            SIGNALS.hold()  # or else a second signal would end what is done here
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
                    _remove(folder, unfinished)
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
        _go_on(out, place)
        if not place.is_dir():
            raise absent
        yield read_manifest(place)


def rewrite(folder: Path, manifest: Manifest | None, name: str, content: bytes) -> None:
    """Replace a file of a run, which its manifest agrees with at any time."""
    if manifest is None or not manifest.finished:  # it must not seem to be that
        write_whole(folder / name, content)
        return
    digest = hashlib.sha256(content).hexdigest()
    rewritten = {name: {"bytes": len(content), "sha256": digest}}
    with SIGNALS.held():
        try:
            manifest._replace(rewritten=rewritten).write(folder)
            write_whole(folder / name, content)
        except OSError:
            with suppress(OSError):  # both versions of the file are known until then
                manifest.write(folder)
            raise
        _settle(folder)


def _beside(place: Path) -> Path:
    """Where a run is written."""
    return place.with_name(f"{place.name}.partial")


def _within(place: Path) -> Path:
    """Where a run is written whose place cannot be exchanged."""
    return place / f"{place.name}.partial"


# --- What may be there, and what may not ----------------------------------------------


def _refuse_inputs(out: Path, place: Path, inputs: Iterable[Path]) -> None:
    folders = [place, _beside(place)]
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
    if manifest is None or not manifest.finished:
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
    return manifest


def _refuse_foreign(out: Path, place: Path, manifest: Manifest) -> None:
    """Refuse a run among whose files there are others, or changed ones."""
    foreign = [
        name
        for name in _entries(place)
        if name != MANIFEST and not manifest.has(place / name)
    ]
    if foreign:
        raise FileExistsError(
            f"{str(out)!r} holds {_some(foreign)}, which the run there did not save, "
            "or which changed since. Nothing is replaced; move it away, or give "
            "another folder as --out."
        )


def _on_its_way(folder: Path, place: Path) -> Manifest | None:
    """The manifest of a whole run in a folder, some of it in its place already."""
    manifest = _unfinished(folder, place)
    if manifest is None or not manifest.files:
        return None
    if _came(place, folder, manifest):
        return None
    places = (place, folder)
    whole = all(any(manifest.has(p / n) for p in places) for n in manifest.files)
    return manifest if whole else None


def _came(place: Path, folder: Path, manifest: Manifest) -> list[str]:
    """What is in a place and not of the run in a folder, which is to go there.

    Only one that is written inside of its place goes there file by file.
    """
    by_file = folder == _within(place)
    return [n for n in _entries(place) if not (by_file and manifest.has(place / n))]


def _unfinished(folder: Path, place: Path) -> Manifest | None:
    """The manifest of a run that is on its way to a place, if a folder has one."""
    manifest = read_manifest(folder)
    to = None if manifest is None else manifest.on_its_way_to
    return manifest if to == place.name else None


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
        and not (
            path == _within(place) and not _foreign_in(path, _unfinished(path, place))
        )
    )


def _some(names: list[str]) -> str:
    shown = " and ".join(repr(name) for name in names[:2])
    return f"{shown} and {len(names) - 2} more" if len(names) > 2 else shown


def _why_fixed(place: Path) -> str | None:
    """Why a folder should not be exchanged for another, if so."""
    parent = place.parent
    if not os.access(parent, os.W_OK | os.X_OK):
        return f"the folder {str(parent)!r} is not writable"
    if not os.access(place, os.W_OK | os.X_OK):
        return "it is not writable"
    current = Path(os.path.realpath(os.curdir))
    if any(_same(place, one) for one in (current, *current.parents)):
        return "the current folder is in it"
    return None


def _why_not_moved(place: Path, full: Path) -> str | None:
    """Why the system does not rename a folder, if so.

    It is asked to rename it to that of a folder which is not empty, and refuses this in
    any case, but with another error where it would rename the folder.
    """
    try:
        place.rename(full)
    except OSError as error:
        if error.errno in (errno.ENOTEMPTY, errno.EEXIST):
            return None
        return _FIXED.get(error.errno or 0, error.strerror or str(error))
    full.rename(place)
    return "its file system replaces folders that are not empty"


# --- One command at a time ------------------------------------------------------------


def _lock_within(place: Path) -> Path:
    return place / f".{place.name}.skleiden-lock"


@contextmanager
def _locked(out: Path, place: Path) -> Iterator[None]:
    """Keep other commands from a folder, until this one ends, be it killed."""
    path = place.with_name(f".{place.name}.skleiden-lock")
    if place.is_dir() and not os.access(place.parent, os.W_OK | os.X_OK):
        path = _lock_within(place)
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
                f"({error.strerror or error}), so that commands could disturb one "
                "another. Give a folder of another file system as --out."
            ) from error
        os.close(descriptor)
        if not free:
            raise BlockingIOError(
                f"Another command is at work in {str(out)!r}. Wait until it has ended, "
                "or give another folder."
            )


def _open_for_lock(path: Path) -> int:
    """Open a file, made if there is none; to read, if it is another user's."""
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


def _new_folder(out: Path, place: Path, manifest: Manifest) -> Path:
    """The folder in which the run is written, after what a killed run left there."""
    beside, within = _beside(place), _within(place)
    for left in (beside, within):
        if os.path.lexists(left):
            _remove(left, _unfinished(left, place))
    clear_leftovers(place)
    if not place.exists():
        return _make(beside, manifest)
    reason = _why_fixed(place)
    if reason is None:
        _make(beside, manifest)
        reason = _why_not_moved(place, beside)
        if reason is None:
            return beside
        with suppress(FileNotFoundError):
            _remove(beside, manifest)
    if manifest.replaces is not None:
        raise PermissionError(
            f"The earlier run in {str(out)!r} cannot be replaced: {reason}. Give "
            "another folder as --out."
        )
    return _make(within, manifest)


def _make(folder: Path, manifest: Manifest) -> Path:
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


def _remove(folder: Path, manifest: Manifest | None) -> None:
    """Remove the folder of a run, in which there must be nothing else.

    The manifest goes last: by it the folder is known for ours.
    """
    foreign = _foreign_in(folder, manifest)
    if foreign:
        raise FileExistsError(
            f"{str(folder)!r} is where a run is written until it is whole, and holds "
            f"{_some(foreign)}, which no unfinished run left there. Move it away, or "
            "give another --out."
        )
    for path in folder.iterdir():
        if path.name != MANIFEST:
            path.unlink()
    (folder / MANIFEST).unlink(missing_ok=True)
    folder.rmdir()


def _foreign_in(folder: Path, manifest: Manifest | None) -> list[str]:
    """What is in a folder, and not of the run with a manifest."""
    if folder.is_symlink() or not folder.is_dir():
        return [folder.name]
    own = set() if manifest is None else {*manifest.names, *manifest.files, MANIFEST}
    return sorted(
        path.name
        for path in folder.iterdir()
        if not (path.name in own or NEW_FILE.fullmatch(path.name))
        or (path.is_dir() and not path.is_symlink())
    )


def _go_on(out: Path, place: Path) -> None:
    """Do what a command that was killed had still to do for a whole run."""
    for folder in (_within(place), _beside(place)):
        manifest = _on_its_way(folder, place)
        if manifest is not None:
            _move(out, folder, place, manifest)
            warnings.warn(
                f"A command was killed while its run took its place as {str(out)!r}. A "
                "whole run is there now.",
                UserWarning,
                stacklevel=2,
            )
            break
    _settle(place)


def _settle(place: Path) -> None:
    """Finish a run that is in its place: the earlier one goes, and what was to do."""
    manifest = read_manifest(place)
    if manifest is None or not manifest.files:
        return
    if manifest.finished and not manifest.rewritten:
        return
    if manifest.on_its_way_to == place.name:
        for left in (place / _EARLIER, _within(place), _beside(place)):
            if _is_replaced(left, manifest):
                try:
                    _remove(left, read_manifest(left))
                except OSError as error:
                    warnings.warn(
                        f"The earlier run is now {str(left)!r} and could not be "
                        f"removed: {error}",
                        UserWarning,
                        stacklevel=2,
                    )
        manifest = manifest._replace(on_its_way_to=None, replaces=None)
    new = {n: _facts(place / n) for n in manifest.rewritten if manifest.has(place / n)}
    manifest._replace(
        files={**manifest.files, **new},
        names=list(dict.fromkeys((*manifest.names, *new))),
        rewritten={},
    ).write(place)


def _is_replaced(left: Path, manifest: Manifest) -> bool:
    """Whether a folder is the earlier run, or empty, as it is before it goes."""
    if left.is_symlink() or not left.is_dir():
        return False
    earlier = left / MANIFEST
    if earlier.is_file():
        return _facts(earlier)["sha256"] == manifest.replaces
    return not any(left.iterdir())


def _put_in_place(
    out: Path, place: Path, folder: Path, manifest: Manifest, earlier: Manifest | None
) -> None:
    if earlier is None:
        _move(out, folder, place, manifest)
    else:
        _refuse_foreign(out, place, earlier)  # of what came while the command worked
        shutil.copymode(place, folder)
        if not _exchange(folder, place):
            _replace(folder, place)
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


def _replace(folder: Path, place: Path) -> None:
    """Replace a folder in two steps; the former one is inside of it then.

    After a kill between them `_go_on` does the second.
    """
    place.rename(folder / _EARLIER)
    try:
        folder.rename(place)
    except OSError:
        (folder / _EARLIER).rename(place)
        raise


def _move(out: Path, folder: Path, place: Path, manifest: Manifest) -> None:
    """Move a run to a place where nothing is, or an empty folder.

    Into a folder that cannot be replaced its files are moved one by one, the manifest
    last; `_go_on` goes on after a kill.
    """
    came = _came(place, folder, manifest)
    if came:
        raise FileExistsError(
            f"{str(out)!r} holds {_some(came)}, which came there since the command "
            "began. Nothing is replaced; move it away, or give another --out."
        )
    if folder == _within(place):
        for name in (*manifest.files, MANIFEST):
            if (folder / name).exists():
                (folder / name).replace(place / name)
        folder.rmdir()
        return
    if place.exists():
        shutil.copymode(place, folder)
        if os.name == "nt":  # it replaces no folder
            place.rmdir()
    folder.rename(place)


def _flush(folder: Path) -> None:
    """Have the system write what it knows of a folder to the disk, if it can."""
    with suppress(OSError):  # Windows opens no folder
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
