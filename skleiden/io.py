"""Saving communities as versioned JSON."""

from __future__ import annotations

import json
import os
import stat
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any
from uuid import uuid4

import numpy as np

from .inspection import TopFeature, check_labels, members

__all__ = ["save_communities"]

# Raised when a reader of the old form would misunderstand the new one.
SCHEMA_VERSION = 1


def save_communities(
    path: str | os.PathLike[str],
    labels: Sequence[int] | np.ndarray,
    *,
    ids: Iterable[Any] | None = None,
    texts: Iterable[str] | None = None,
    top_features: Mapping[int, Sequence[TopFeature]] | None = None,
    parameters: Mapping[str, Any] | None = None,
    min_size: int = 1,
) -> None:
    """Save communities and their members as JSON.

    The file is written whole beside its place and then moved there, so that a crash or
    a full disk leaves an older file as it was.

    Parameters
    ----------
    path : path-like
        The file. Its folder must exist. An older file is replaced and lends its mode;
        through a symbolic link, the file that it leads to.

    labels : array-like of int of shape (n_samples,)
        Communities; -1 is noise, listed apart.

    ids : sequence of length n_samples, default=None
        Identifiers of the rows, integers or strings; the row numbers if None.

    texts : sequence of str of length n_samples, default=None
        The prompts, listed beside their ids.

    top_features : dict of {int: list of TopFeature}, default=None
        As from :func:`skleiden.inspection.top_features`.

    parameters : mapping, default=None
        What to keep of how the labels were made, for example
        ``pipeline.get_params()``; what JSON has no form for is kept as its ``repr``.

    min_size : int, default=1
        Smallest community saved; members of smaller ones are in no list.

    Raises
    ------
    ValueError
        If labels, ids and texts do not fit together.

    OSError
        If the file cannot be written: FileNotFoundError if its folder does not exist,
        IsADirectoryError if `path` is a folder, FileExistsError if it is something
        else than a file, such as a device, PermissionError if the folder is not
        writable.

    Notes
    -----
    The file holds one object: ``format`` ("skleiden-communities"), ``schema_version``,
    ``skleiden_version``, ``parameters``, ``n_samples``, ``n_communities``, ``n_noise``,
    ``communities``, largest first, each with ``label``, ``size``, ``members`` and,
    where given, ``texts`` and ``top_features``, and ``noise``, a list of ids.

    Examples
    --------
    >>> import json, tempfile, pathlib
    >>> from skleiden.io import save_communities
    >>> path = pathlib.Path(tempfile.mkdtemp()) / "communities.json"
    >>> save_communities(path, [0, 0, -1], ids=["q1", "q2", "q3"])
    >>> json.loads(path.read_text())["communities"]
    [{'label': 0, 'size': 2, 'members': ['q1', 'q2']}]
    """
    from . import __version__  # the face imports this module

    labels = check_labels(labels)
    rows = np.arange(labels.size)
    names = rows.tolist() if ids is None else [_native(i) for i in ids]
    lines = None if texts is None else [str(text) for text in texts]
    for what, given in (("ids", names), ("texts", lines)):
        if given is not None and len(given) != labels.size:
            raise ValueError(
                f"{what} must have one entry per label; got {len(given)} for "
                f"{labels.size} labels."
            )
    communities = []
    for label, found in members(labels, min_size=min_size).items():
        community = {
            "label": label,
            "size": found.size,
            "members": [names[row] for row in found],
        }
        if lines is not None:
            community["texts"] = [lines[row] for row in found]
        if top_features is not None:
            community["top_features"] = [
                feature._asdict() for feature in top_features.get(label, ())
            ]
        communities.append(community)
    noise = rows[labels < 0]
    document = {
        "format": "skleiden-communities",
        "schema_version": SCHEMA_VERSION,
        "skleiden_version": __version__,
        "parameters": _jsonable(parameters or {}),
        "n_samples": labels.size,
        "n_communities": len(communities),
        "n_noise": noise.size,
        "communities": communities,
        "noise": [names[row] for row in noise],
    }
    text = json.dumps(document, indent=1, ensure_ascii=False, allow_nan=False)
    _write_whole(path, text + "\n")


def _native(identifier: Any) -> Any:
    """An id as JSON can hold it: a native int or str, a str of anything else."""
    if isinstance(identifier, np.generic):
        identifier = identifier.item()
    if isinstance(identifier, (int, str)):
        return identifier
    return str(identifier)


def _jsonable(value: Any) -> Any:
    """A value with its containers as JSON can hold them, the rest as its repr."""
    if isinstance(value, Mapping):
        return {str(key): _jsonable(item) for key, item in value.items()}
    if isinstance(value, np.ndarray):
        value = value.tolist()
    if isinstance(value, (list, tuple)):
        return [_jsonable(item) for item in value]
    if isinstance(value, (np.bool_, np.integer)):
        return value.item()
    if isinstance(value, (float, np.floating)):
        return float(value) if np.isfinite(value) else repr(float(value))
    if value is None or isinstance(value, (bool, int, str)):
        return value
    return repr(value)


def check_place(path: str | os.PathLike[str]) -> Path:
    """Where a path leads to, through symbolic links; refused if no file can be there.

    Whether the folder can be written to is tried out, because permissions alone do not
    tell.
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


@contextmanager
def _new_file_beside(place: Path) -> Iterator[Path]:
    """An empty file in the folder of `place`, removed in the end if it is still there.

    Errors name the folder rather than the file, whose name nobody knows.
    """
    new = place.with_name(f".{uuid4().hex}.tmp")
    try:
        new.touch(exist_ok=False)
        yield new
    except OSError as error:
        raise type(error)(
            f"Cannot write {place.name!r} in the folder {str(place.parent)!r}: "
            f"{error.strerror or error}. Make the folder writable, with room for the "
            "file, or save to another one."
        ) from error
    finally:
        with suppress(OSError):  # it was moved, or never made
            new.unlink()


def _write_whole(path: str | os.PathLike[str], text: str) -> None:
    """Write a file beside its place, then move it there in one step."""
    place = check_place(path)
    with _new_file_beside(place) as new:
        with new.open("w", encoding="utf-8") as file:
            if place.exists():
                new.chmod(stat.S_IMODE(place.stat().st_mode))
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        new.replace(place)
