"""Write a run of a command as one folder, which is there whole or not at all.

A run has a manifest, which names its files. It is written into a folder beside its
place, ``<name>.partial``, and moved to its place in one step. Until then, its manifest
says where it is to go. Only folders whose manifests say so are ever moved or removed,
whatever their names, and in them only the files that the manifests name.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import warnings
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from skleiden.io._files import (
    NEW_FILE,
    as_given,
    clear_leftovers,
    is_leftover,
    write_whole,
)

from ._exchange import EARLIER, exchange, flush, replace, same, why_fixed, why_not_moved
from ._lock import lock_within, locked
from ._manifest import MANIFEST, Manifest, facts_of, read_manifest
from ._signals import SIGNALS


class Run:
    """A run that is being written.

    Attributes
    ----------
    folder : Path
        Where its files are written.

    names : list of str
        The files that are whole.

    finished : bool
        Whether it is moved to its place in the end; otherwise it stays in `folder`.
    """

    def __init__(self, out: Path, place: Path, folder: Path) -> None:
        self.folder = folder
        self.finished = True
        self._out, self._place = out, place
        self.names: list[str] = []

    def write(self, name: str, content: str | bytes) -> None:
        """Write a file of the run."""
        write_whole(self.folder / name, content)
        self.add(name)

    def add(self, name: str) -> None:
        """Add a file that is written to the run."""
        self.names.append(name)

    @property
    def saved(self) -> list[str]:
        """Give the paths at which the files are in the end."""
        if self.finished:
            folder = as_given(self._out, self._place)
            return [str(folder / name) for name in (*self.names, MANIFEST)]
        return [str(self.folder / name) for name in self.names]


@contextmanager
def new_run(
    out: Path,
    command: str,
    names: Iterable[str],
    *,
    overwrite: bool = False,
    inputs: Iterable[Path] = (),
) -> Iterator[Run]:
    """Write a new run, and move it to its place if all goes well.

    If something goes wrong, files that are complete by then stay where they were
    written until the next run to the same place, and an earlier run stays as it was.

    Parameters
    ----------
    out : Path
        Where the run goes: a folder that is new or empty, or an earlier run.

    command : str
        The command that makes it; a run of another command is not replaced.

    names : iterable of str
        Files that the command may write.

    overwrite : bool, default=False
        Whether an earlier run may be replaced.

    inputs : iterable of Path
        Files and folders that are read: they must not lie in `out`, nor `out` in them.

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
    with _parents(out, place), locked(out, place):
        _go_on(out, place)
        earlier = _check_place(out, place, command, overwrite)
        unfinished = Manifest(
            command,
            files={},
            names=list(names),
            on_its_way_to=place.name,
            replaces=earlier and facts_of(place / MANIFEST)["sha256"],
        )
        folder = _new_folder(out, place, unfinished)
        run = Run(out, place, folder)
        in_place = False
        try:
            yield run
            if run.finished:
                with SIGNALS.held():
                    facts = {name: facts_of(folder / name) for name in run.names}
                    whole = unfinished._replace(files=facts, names=run.names)
                    whole.write(folder)
                    flush(folder)
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
    """Lock the folder of a run, to read it and to change it.

    Parameters
    ----------
    out : Path
        The folder.

    Yields
    ------
    Manifest or None
        The manifest of the run; None if there is none, as in runs of older versions.
    """
    place = Path(os.path.realpath(out))
    absent = NotADirectoryError(
        f"{str(out)!r} is not a folder. Give the one that was the --out of skleiden "
        "cluster."
    )
    if not place.parent.is_dir():
        raise absent
    with locked(out, place):
        _go_on(out, place)
        if not place.is_dir():
            raise absent
        yield read_manifest(place)


def rewrite(folder: Path, manifest: Manifest | None, name: str, content: bytes) -> None:
    """Replace a file of a run, so that the manifest agrees with it at any time."""
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
    """Give the folder in which a run is written."""
    return place.with_name(f"{place.name}.partial")


def _within(place: Path) -> Path:
    """Give the folder in which a run is written whose place cannot be exchanged."""
    return place / f"{place.name}.partial"


# --- What may be there, and what may not ----------------------------------------------


def _refuse_inputs(out: Path, place: Path, inputs: Iterable[Path]) -> None:
    folders = [place, _beside(place)]
    for path in inputs:
        real = Path(os.path.realpath(path))
        # Where a symbolic link lies, too, which the run would replace.
        link = Path(os.path.realpath(path.parent)) / path.name
        around = (real, *real.parents, *link.parents)
        if any(same(folder, one) for folder in folders for one in around):
            raise ValueError(
                f"The input {str(path)!r} lies in the folder of --out, {str(out)!r}, "
                "which belongs to the run alone. Give another --out, or move the input."
            )
        if any(same(real, one) for one in place.parents):
            raise ValueError(
                f"--out {str(out)!r} lies in the input {str(path)!r}. Give a folder "
                "outside of it."
            )


def _check_place(
    out: Path, place: Path, command: str, overwrite: bool
) -> Manifest | None:
    """Get the earlier run, if there is one, and refuse one that cannot be replaced."""
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
    """Refuse a run whose folder has other files, or changed ones."""
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
    """Read the manifest of a whole run, part of which is in its place already."""
    manifest = _unfinished(folder, place)
    if manifest is None or not manifest.files or _came(place, folder, manifest):
        return None
    places = (place, folder)
    whole = all(any(manifest.has(p / n) for p in places) for n in manifest.files)
    return manifest if whole else None


def _came(place: Path, folder: Path, manifest: Manifest) -> list[str]:
    """List what is in a place and does not belong to the run that is to go there.

    Only a run that is written inside its place is moved there file by file.
    """
    by_file = folder == _within(place)
    return [n for n in _entries(place) if not (by_file and manifest.has(place / n))]


def _unfinished(folder: Path, place: Path) -> Manifest | None:
    """Read the manifest of an unfinished run to a place, if a folder has one."""
    manifest = read_manifest(folder)
    to = None if manifest is None else manifest.on_its_way_to
    return manifest if to == place.name else None


def _entries(place: Path) -> list[str]:
    """List what is in a folder, except for what our commands left there."""
    if not place.exists():
        return []
    return sorted(
        path.name
        for path in place.iterdir()
        if not is_leftover(path)
        and path != lock_within(place)
        and not (
            path == _within(place) and not _foreign_in(path, _unfinished(path, place))
        )
    )


def _some(names: list[str]) -> str:
    shown = " and ".join(repr(name) for name in names[:2])
    return f"{shown} and {len(names) - 2} more" if len(names) > 2 else shown


# --- Folders, made and moved ----------------------------------------------------------


@contextmanager
def _parents(out: Path, place: Path) -> Iterator[None]:
    """Make the folders that `place` lies in, and remove them if nothing is saved."""
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
    """Make the folder of the run, and clear what a killed run left there."""
    beside, within = _beside(place), _within(place)
    for left in (beside, within):
        if os.path.lexists(left):
            _remove(left, _unfinished(left, place))
    clear_leftovers(place)
    if not place.exists():
        return _make(beside, manifest)
    reason = why_fixed(place)
    if reason is None:
        _make(beside, manifest)
        reason = why_not_moved(place, beside)
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
    """Remove the folder of a run, which must hold nothing else.

    The manifest goes last, because it shows that the folder is ours.
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
    """List what is in a folder and does not belong to the run with a manifest."""
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
    """Finish what a killed command had still to do for a whole run."""
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
    """Finish a run in its place: remove the earlier one, and do what is left."""
    manifest = read_manifest(place)
    if manifest is None or not manifest.files:
        return
    if manifest.finished and not manifest.rewritten:
        return
    if manifest.on_its_way_to == place.name:
        for left in (place / EARLIER, _within(place), _beside(place)):
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
    new = {
        n: facts_of(place / n) for n in manifest.rewritten if manifest.has(place / n)
    }
    manifest._replace(
        files={**manifest.files, **new},
        names=list(dict.fromkeys((*manifest.names, *new))),
        rewritten={},
    ).write(place)


def _is_replaced(left: Path, manifest: Manifest) -> bool:
    """Tell whether a folder is the earlier run, or empty, as it is before it goes."""
    if left.is_symlink() or not left.is_dir():
        return False
    earlier = left / MANIFEST
    if earlier.is_file():
        return facts_of(earlier)["sha256"] == manifest.replaces
    return not any(left.iterdir())


def _put_in_place(
    out: Path, place: Path, folder: Path, manifest: Manifest, earlier: Manifest | None
) -> None:
    if earlier is None:
        _move(out, folder, place, manifest)
    else:
        _refuse_foreign(out, place, earlier)  # of what came while the command worked
        shutil.copymode(place, folder)
        if not exchange(folder, place):
            replace(folder, place)
    flush(place.parent)


def _move(out: Path, folder: Path, place: Path, manifest: Manifest) -> None:
    """Move a run to a place where there is nothing, or an empty folder.

    If the folder cannot be replaced, its files are moved into it one by one, the
    manifest last; after a kill, `_go_on` finishes this.
    """
    came = _came(place, folder, manifest)
    if came:
        raise FileExistsError(
            f"{str(out)!r} holds {_some(came)}, which appeared there since the command "
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
