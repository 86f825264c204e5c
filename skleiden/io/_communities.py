"""Saving communities as versioned JSON, and loading them again."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from skleiden import __version__
from skleiden.inspection import (
    Communities,
    CommunityMap,
    Representative,
    Representatives,
    TopFeature,
    members,
)

from ._files import write_whole

FORMAT = "skleiden-communities"
# Raised when a reader of the old form would misunderstand the new one.
SCHEMA_VERSION = 1


def save_communities(
    path: str | os.PathLike[str], communities: Communities, *, min_size: int = 1
) -> None:
    """Save communities, and all that is known of them, as JSON.

    The file is written whole beside its place and then moved there, so that a crash or
    a full disk leaves an older file as it was.

    Parameters
    ----------
    path : path-like
        The file. Its folder must exist. An older file is replaced and lends its mode;
        through a symbolic link, the file that it leads to.

    communities : Communities
        From :func:`skleiden.inspection.describe_communities`, or made of labels and
        what is at hand: ``Communities(labels, ids, texts=texts)``.

    min_size : int, default=1
        Smallest community that is listed; labels of smaller ones are saved all the
        same.

    Raises
    ------
    TypeError
        If `communities` is something else, such as an array of labels.

    OSError
        If the file cannot be written: FileNotFoundError if its folder does not exist,
        IsADirectoryError if `path` is a folder, FileExistsError if it is something
        else than a file, such as a device, PermissionError if the folder is not
        writable.

    See Also
    --------
    load_communities : Read the file.

    Notes
    -----
    The file holds one object of native JSON types, with nan as null:

    - ``format`` ("skleiden-communities"), ``schema_version``, ``versions``,
      ``fingerprint``, ``parameters`` and ``summary``, as in `Communities`; what JSON
      has no form for is kept as its ``repr``;
    - ``communities``, largest first, each with ``label``, ``size``, ``members`` (their
      ids), and, where known, ``texts``, ``stability``, ``top_features``,
      ``representatives`` and ``layer_agreement``;
    - ``noise``: ids of the rows in no community, and ``noise_texts``;
    - ``rows``: for every row its ``ids`` and ``labels``, and, where known,
      ``confidence`` and ``attached``;
    - ``map``: rows shown and their positions.

    Examples
    --------
    >>> import json, tempfile, pathlib
    >>> from skleiden.inspection import Communities
    >>> from skleiden.io import save_communities
    >>> path = pathlib.Path(tempfile.mkdtemp()) / "communities.json"
    >>> save_communities(path, Communities([0, 0, -1], ids=["q1", "q2", "q3"]))
    >>> json.loads(path.read_text())["communities"]
    [{'label': 0, 'size': 2, 'members': ['q1', 'q2']}]
    """
    if not isinstance(communities, Communities):
        raise TypeError(
            "save_communities takes Communities; got "
            f"{type(communities).__name__}. Make them with describe_communities, or of "
            "labels: Communities(labels, ids)."
        )
    document = _document(communities, min_size)
    text = json.dumps(document, indent=1, ensure_ascii=False, allow_nan=False)
    write_whole(path, text + "\n")


def load_communities(path: str | os.PathLike[str]) -> Communities:
    """Load what `save_communities` saved.

    Parameters
    ----------
    path : path-like

    Returns
    -------
    communities : Communities
        As saved: ids and numbers are equal, parameters as JSON has them. Texts of rows
        in communities below `min_size`, if that was given, are "".

    Raises
    ------
    ValueError
        If the file is no such JSON, of a newer schema, or broken; the message names
        what is wrong.

    OSError
        If the file cannot be read.

    Examples
    --------
    >>> import tempfile, pathlib
    >>> from skleiden.inspection import Communities
    >>> from skleiden.io import load_communities, save_communities
    >>> path = pathlib.Path(tempfile.mkdtemp()) / "communities.json"
    >>> save_communities(path, Communities([0, 0, -1], ids=["q1", "q2", "q3"]))
    >>> load_communities(path).labels
    array([ 0,  0, -1])
    """
    try:
        document = json.loads(Path(path).read_text(encoding="utf-8"))
    except ValueError as error:
        raise ValueError(f"{str(path)!r} is not JSON: {error}.") from error
    if not isinstance(document, dict) or document.get("format") != FORMAT:
        raise ValueError(
            f"{str(path)!r} holds no communities: its format is not {FORMAT!r}. Load "
            "what save_communities saved."
        )
    schema = document.get("schema_version")
    if schema != SCHEMA_VERSION:
        raise ValueError(
            f"{str(path)!r} has schema version {schema!r}; this version of skleiden "
            f"reads {SCHEMA_VERSION}. Install the version that saved it: "
            f"{document.get('skleiden_version')}."
        )
    try:
        return _read(document)
    except Exception as error:  # whatever is not where it should be
        raise ValueError(
            f"{str(path)!r} is broken: {type(error).__name__}: {error}. Save the "
            "communities again."
        ) from error


def _document(found: Communities, min_size: int) -> dict[str, Any]:
    ids = [_native(i) for i in found.ids]
    texts = None if found.texts is None else np.array(found.texts, dtype=object)
    communities = []
    listed = members(found.labels, min_size=min_size)
    for label, rows in listed.items():
        one: dict[str, Any] = {
            "label": label,
            "size": rows.size,
            "members": [ids[row] for row in rows],
        }
        if texts is not None:
            one["texts"] = texts[rows]
        if found.stability is not None:
            one["stability"] = found.stability[label]
        if label in found.top_features:
            one["top_features"] = [f._asdict() for f in found.top_features[label]]
        if label in found.representatives:
            both = found.representatives[label]
            one["representatives"] = {
                kind: [row._asdict() for row in rows]
                for kind, rows in both._asdict().items()
            }
        if found.layer_agreement:
            one["layer_agreement"] = {
                name: values[label] for name, values in found.layer_agreement.items()
            }
        communities.append(one)
    noise = np.flatnonzero(found.labels < 0)
    document: dict[str, Any] = {
        "format": FORMAT,
        "schema_version": SCHEMA_VERSION,
        "skleiden_version": __version__,
        "versions": found.versions,
        "fingerprint": found.fingerprint,
        "parameters": found.parameters,
        "summary": found.summary,
        "n_samples": found.labels.size,
        "n_communities": len(communities),
        "n_noise": noise.size,
        "communities": communities,
        "noise": [ids[row] for row in noise],
    }
    if texts is not None:
        document["noise_texts"] = texts[noise]
    document["rows"] = {"ids": ids, "labels": found.labels}
    for name in ("confidence", "attached"):
        if getattr(found, name) is not None:
            document["rows"][name] = getattr(found, name)
    if found.map is not None:
        document["map"] = {
            "rows": found.map.rows,
            "positions": [[round(float(v), 4) for v in p] for p in found.map.positions],
        }
    plain: dict[str, Any] = jsonable(document)
    return plain


def _read(document: dict[str, Any]) -> Communities:
    rows = document["rows"]
    labels = np.asarray(rows["labels"], dtype=np.int64)
    of = {label: np.flatnonzero(labels == label) for label in set(labels.tolist())}
    listed = {one["label"]: one for one in document["communities"]}
    n_clusters = int(labels.max(initial=-1)) + 1

    texts = None
    if "noise_texts" in document:
        texts = [""] * labels.size
        lists = {label: one["texts"] for label, one in listed.items()}
        for label, lines in {**lists, -1: document["noise_texts"]}.items():
            for row, text in zip(of.get(label, ()), lines, strict=True):
                texts[row] = text

    def by_label(name: str) -> dict[int, Any]:
        return {label: one[name] for label, one in listed.items() if name in one}

    def of_all(values: Mapping[int, Any]) -> np.ndarray:
        every = np.full(n_clusters, np.nan)
        for label, value in values.items():
            every[label] = np.nan if value is None else value
        return every

    stability = by_label("stability")
    agreement = by_label("layer_agreement")
    names: dict[str, Any] = next(iter(agreement.values()), {})
    shown = document.get("map")
    return Communities(
        labels=labels,
        ids=rows["ids"],
        texts=texts,
        confidence=rows.get("confidence"),
        attached=rows.get("attached"),
        stability=of_all(stability) if stability else None,
        top_features={
            label: [TopFeature(**feature) for feature in features]
            for label, features in by_label("top_features").items()
        },
        representatives={
            label: Representatives(
                *([Representative(**row) for row in both[kind]] for kind in both)
            )
            for label, both in by_label("representatives").items()
        },
        layer_agreement={
            name: of_all({label: one[name] for label, one in agreement.items()})
            for name in names
        },
        map=None
        if shown is None
        else CommunityMap(
            np.asarray(shown["rows"], dtype=np.int64),
            np.asarray(shown["positions"], dtype=np.float32).reshape(-1, 2),
        ),
        summary=document["summary"],
        parameters=document["parameters"],
        versions=document["versions"],
        fingerprint=document["fingerprint"],
    )


def _native(identifier: Any) -> Any:
    """An id as JSON can hold it: a native int or str, a str of anything else."""
    if isinstance(identifier, np.generic):
        identifier = identifier.item()
    if isinstance(identifier, (int, str)):
        return identifier
    return str(identifier)


def jsonable(value: Any) -> Any:
    """A value with its containers as JSON can hold them, the rest as its repr."""
    if isinstance(value, Mapping):
        return {str(key): jsonable(item) for key, item in value.items()}
    if isinstance(value, np.ndarray):
        value = value.tolist()
    if isinstance(value, (list, tuple)):
        return [jsonable(item) for item in value]
    if isinstance(value, (np.bool_, np.integer)):
        return value.item()
    if isinstance(value, (float, np.floating)):
        value = float(value)
        if value != value:  # nan
            return None
        return value if abs(value) < float("inf") else repr(value)
    if value is None or isinstance(value, (bool, int, str)):
        return value
    return repr(value)
