"""Saving communities as versioned JSON."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Mapping, Sequence
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
        The file, replaced if it exists. Its folder must exist.

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

    FileNotFoundError, IsADirectoryError
        If the folder does not exist, or `path` is one.

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
    _write_whole(Path(path), text + "\n")


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


def _write_whole(path: Path, text: str) -> None:
    """Write a file beside its place, then move it there in one step."""
    if path.is_dir():
        raise IsADirectoryError(
            f"{str(path)!r} is a folder; give the name of a file in it."
        )
    if not path.parent.is_dir():
        raise FileNotFoundError(
            f"The folder {str(path.parent)!r} does not exist; make it before saving "
            f"{path.name!r}."
        )
    temporary = path.with_name(f".{path.name}.{uuid4().hex}.tmp")
    try:
        with temporary.open("x", encoding="utf-8") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
