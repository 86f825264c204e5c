"""Save communities as versioned JSON, and load them again."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np

from skleiden import __version__
from skleiden._text import encodable
from skleiden.inspection import (
    Communities,
    CommunityMap,
    CrossTable,
    NeuronActivity,
    Representative,
    Representatives,
    TopFeature,
)
from skleiden.inspection._members import member_rows

from ._activations._find import check_regular
from ._activations._text import parse_json, read_text
from ._files import write_whole

FORMAT = "skleiden-communities"
# Raised when a reader of the old form would misunderstand the new one.
SCHEMA_VERSION = 1

_OF_PAIRS = ("means", "effects", "chance")

_FEATURE_LIMITS = {
    name: (0, 1) if "share" in name else (-math.inf, math.inf)
    for name in TopFeature._fields[2:-3]
}


def save_communities(
    path: str | os.PathLike[str], communities: Communities, *, min_size: int = 1
) -> None:
    """Save communities, and all that is known of them, as JSON.

    The file is first written whole beside its place and then moved there, so that a
    crash or a full disk leaves an older file as it was.

    Parameters
    ----------
    path : path-like
        The file. Its folder must exist. An older file is replaced, and the new one has
        the same permissions; a symbolic link stays, and the file that it leads to is
        replaced.

    communities : Communities
        The result of :func:`skleiden.inspection.describe_communities`, or one made from
        labels and what else is known: ``Communities(labels, ids, texts=texts)``.

    min_size : int, default=1
        Size of the smallest community that is listed, at least 1. The labels of the
        rows in smaller ones are saved all the same.

    Raises
    ------
    TypeError
        If `communities` is something else, such as an array of labels.

    ValueError
        If an id has no form in the file (see Notes), or if the file could not be loaded
        again: if a label is not below the number of rows, or a value is out of its
        range. In these cases nothing is written.

    OSError
        If the file cannot be written: FileNotFoundError if its folder does not exist,
        IsADirectoryError if `path` is a folder, FileExistsError if it is something
        other than a file, such as a device, PermissionError if the folder is not
        writable.

    See Also
    --------
    load_communities : Read the file.

    Notes
    -----
    The file holds one object of native JSON types, with nan as null:

    - ``format`` ("skleiden-communities"), ``schema_version``, ``versions``,
      ``fingerprint``, ``parameters`` and ``summary``, as in `Communities`; values that
      JSON cannot hold are kept as their ``repr``;
    - ids: strings, integers of any size, finite floats and booleans of Python or NumPy,
      stored as JSON has them, and tuples of these, stored as arrays. They come back
      equal, as types of Python; 1 and "1" stay apart. Ids of other types are refused:
      turn them into strings before;
    - ``communities``, largest first, each with ``label``, ``size``, ``members`` (the
      ids of its rows), and, if known, ``name``, ``texts``, ``keywords``, ``stability``,
      ``cohesion``, ``top_features``, ``representatives``, ``layer_agreement`` and
      ``layer_share``;
    - ``noise``: ids of the rows in no community, and, if known, ``noise_texts``;
    - ``rows``: one value for each row, under ``ids``, ``labels`` and, if known,
      ``confidence``, ``attached``, ``strength`` and ``second``;
    - ``neurons``: the rows and communities in which the top neurons fire most, with
      ``strongest`` as pairs and ``communities`` as triples;
    - ``tree``: the result of `to_dict` of a `CommunityTree`;
    - ``map``: rows shown and their positions;
    - ``neuron_groups``: an object of the same form, for the neurons; and
      ``cross_table``: arrays under the names that they have in `CrossTable`, with one
      value for each group, or, for pairs, with one array for each group that has a
      number for each community.

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
    check_communities(communities, "save_communities")
    document = document_of(communities, min_size=min_size)
    try:
        _read(document)
    except ValueError as error:
        raise ValueError(
            f"{str(path)!r} was not written, because it could not be loaded again: "
            f"{error} Correct this before saving."
        ) from error
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
        The communities as they were saved: ids and numbers are equal; parameters are as
        JSON has them. If `min_size` was given, texts of rows in smaller communities are
        "".

    Raises
    ------
    ValueError
        If the file does not hold communities as JSON, has another schema, or is broken;
        if its parts (members, sizes, labels, ids, rows) contradict one another; if a
        value is out of its range. The message names the file and what is wrong.

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
    check_regular(Path(path))
    try:
        document = parse_json(read_text(Path(path)))
    except ValueError as error:
        raise ValueError(
            f"{str(path)!r} is not JSON: {error}. Load what save_communities saved."
        ) from error
    if not isinstance(document, dict) or document.get("format") != FORMAT:
        raise ValueError(
            f"{str(path)!r} does not hold communities: its format is not {FORMAT!r}. "
            "Load what save_communities saved."
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
            f"{str(path)!r} is broken: {type(error).__name__}: "
            f"{str(error).rstrip('.')}. Save the communities again."
        ) from error


def check_communities(value: Any, taker: str) -> None:
    """Refuse anything but `Communities`, naming the function that takes them."""
    if not isinstance(value, Communities):
        raise TypeError(
            f"{taker} takes Communities; got {type(value).__name__}. Make them with "
            "describe_communities, or from labels: Communities(labels, ids)."
        )


def document_of(found: Communities, *, min_size: int = 1) -> dict[str, Any]:
    """Give communities as native types of JSON, as a file and the page hold them."""
    ids = [_id_to_json(i) for i in found.ids]
    listed = member_rows(found.labels, min_size=min_size)
    noise = np.flatnonzero(found.labels < 0)

    def texts_of(rows: np.ndarray) -> list[str] | None:
        return None if found.texts is None else [found.texts[row] for row in rows]

    document: dict[str, Any] = {
        "format": FORMAT,
        "schema_version": SCHEMA_VERSION,
        "skleiden_version": __version__,
        "versions": found.versions,
        "fingerprint": found.fingerprint,
        "parameters": found.parameters,
        "summary": found.summary,
        "n_samples": found.labels.size,
        "n_communities": len(listed),
        "n_noise": noise.size,
        "communities": [
            {"label": label, "size": rows.size, "members": [ids[row] for row in rows]}
            | _known(
                texts=texts_of(rows),
                name=found.names.get(label),
                stability=None if found.stability is None else found.stability[label],
                cohesion=None if found.cohesion is None else found.cohesion[label],
                keywords=found.keywords.get(label),
                top_features=_features(found.top_features.get(label)),
                representatives=found.representatives.get(label),
                layer_agreement=_of_label(found.layer_agreement, label),
                layer_share=_of_label(found.layer_share, label),
            )
            for label, rows in listed.items()
        ],
        "noise": [ids[row] for row in noise],
        **_known(noise_texts=texts_of(noise)),
        "rows": {"ids": ids, "labels": found.labels}
        | _known(
            confidence=found.confidence,
            attached=found.attached,
            strength=found.strength,
            second=found.second,
        ),
    }
    if found.neuron_groups is not None:
        document["neuron_groups"] = document_of(found.neuron_groups, min_size=min_size)
    if found.cross_table is not None:
        document["cross_table"] = vars(found.cross_table)
    if found.neurons:
        document["neurons"] = found.neurons
    if found.tree is not None:
        document["tree"] = found.tree
    if found.map is not None:
        positions = np.asarray(found.map.positions, dtype=np.float64).round(4)
        document["map"] = found.map._replace(positions=positions)
    plain: dict[str, Any] = encodable(jsonable(document))
    return plain


def _features(features: Sequence[TopFeature] | None) -> list[dict[str, Any]] | None:
    if features is None:
        return None
    return [_known(**feature._asdict()) for feature in features]


def _of_label(of_layers: Mapping[str, np.ndarray], label: int) -> Any:
    return {name: values[label] for name, values in of_layers.items()} or None


def _known(**values: Any) -> dict[str, Any]:
    return {name: value for name, value in values.items() if value is not None}


def _read(document: dict[str, Any]) -> Communities:
    """Read a document, and check its parts against one another."""
    rows = document["rows"]
    labels = _labels_of(rows["labels"])
    n = labels.size
    saved = _list("rows.ids", rows["ids"], n)
    noise = np.flatnonzero(labels < 0)
    listed = _listed(document["communities"], labels, saved)
    for what, expected in (
        ("n_samples", n),
        ("n_communities", len(listed)),
        ("n_noise", noise.size),
        ("noise", [saved[row] for row in noise]),
    ):
        _require(document[what] == expected, what, "agree with rows", document[what])

    texts = None
    if "noise_texts" in document:
        texts = [""] * n
        noisy = {-1: (noise, {"texts": document["noise_texts"]})}
        for label, (members_, one) in (listed | noisy).items():
            what = f"texts of community {label}"
            for row, text in zip(
                members_, _list(what, one["texts"], members_.size), strict=True
            ):
                _require(type(text) is str, what, "be strings", text)
                texts[row] = text

    def by_label(name: str, read: Callable[..., Any]) -> dict[int, Any]:
        return {
            label: read(f"{name} of community {label}", one[name], members_)
            for label, (members_, one) in listed.items()
            if name in one
        }

    def of_all(values: Mapping[int, float]) -> np.ndarray:
        every = np.full(int(labels.max()) + 1, np.nan)
        for label, value in values.items():
            every[label] = value
        return every

    layers = _mapping("summary", document["summary"]).get("layers")

    def of_each(what: str) -> np.ndarray | None:
        known = by_label(what, lambda name, value, _: _share(name, value))
        each = len(known) in (0, len(listed))
        _require(each, what, "be given for each community", [*known])
        return of_all(known) if known else None

    def of_layers(what: str, low: float) -> dict[str, np.ndarray]:
        known = by_label(what, partial(_read_of_layers, low))
        names = [list(one) for one in known.values()]
        each = len(known) in (0, len(listed))
        _require(each, what, "be given for each community", [*known])
        same = all(one == names[0] for one in names)
        _require(same, what, "name the same layers in each community", names)
        return {
            name: of_all({label: one[name] for label, one in known.items()})
            for name in (names[0] if names else ())
        }

    shown, fingerprint = document.get("map"), document["fingerprint"]
    groups, table = document.get("neuron_groups"), document.get("cross_table")
    _require(
        isinstance(fingerprint, (str, type(None))),
        "fingerprint",
        "be a string or null",
        fingerprint,
    )
    return Communities(
        labels=labels,
        ids=[_id_from_json(value) for value in saved],
        texts=texts,
        confidence=_column(rows, "confidence", _share, n),
        attached=_column(rows, "attached", _flag, n),
        strength=_column(rows, "strength", _share, n),
        second=_column(rows, "second", partial(_label_of, int(labels.max())), n),
        stability=of_each("stability"),
        cohesion=of_each("cohesion"),
        top_features=by_label(
            "top_features", lambda what, value, _: _read_features(what, value, layers)
        ),
        representatives=by_label("representatives", _read_representatives),
        layer_agreement=of_layers("layer_agreement", -1),
        layer_share=of_layers("layer_share", 0),
        keywords=by_label("keywords", lambda what, value, _: _strings(what, value)),
        names=by_label("name", lambda what, value, _: _strings(what, [value])[0]),
        neurons=_read_neurons(document.get("neurons", []), labels, layers),
        tree=_read_tree(document.get("tree"), n),
        map=None if shown is None else _read_map(shown, n),
        neuron_groups=None
        if groups is None
        else _read(_mapping("neuron_groups", groups)),
        cross_table=None if table is None else _read_table(table),
        summary=document["summary"],
        parameters=_mapping("parameters", document["parameters"]),
        versions=_mapping("versions", document["versions"]),
        fingerprint=fingerprint,
    )


def _labels_of(values: Any) -> np.ndarray:
    _list("rows.labels", values)
    # A larger label would need memory for all the communities before it.
    for value in values:
        _integer("a label", value, -1, len(values) - 1)
    return np.asarray(values, dtype=np.int64)


def _listed(
    communities: Any, labels: np.ndarray, ids: list[Any]
) -> dict[int, tuple[np.ndarray, dict[str, Any]]]:
    """Give the rows of each community that is listed, and its entry."""
    rows_of = member_rows(labels, min_size=1)
    listed = {}
    for one in _list("communities", communities):
        label = _mapping("a community", one)["label"]
        what = f"community {label!r}"
        _require(
            type(label) is int and label in rows_of and label not in listed,
            what,
            "be one of the labels of rows, and listed once",
            label,
        )
        rows = rows_of[label]
        _require(one["size"] == rows.size, f"size of {what}", f"be {rows.size}", one)
        _require(
            one["members"] == [ids[row] for row in rows],
            f"members of {what}",
            "be the ids of the rows with that label",
            one["members"],
        )
        listed[label] = (rows, one)
    return listed


def _read_features(what: str, features: Any, layers: Any) -> list[TopFeature]:
    found = []
    for one in _list(what, features):
        feature = TopFeature(**_mapping(what, one))
        _check_place(what, feature.layer, feature.neuron, layers)
        numbers: dict[str, Any] = {
            name: _number(f"{name} in {what}", one[name], *limits)
            for name, limits in _FEATURE_LIMITS.items()
        }
        fires = _flag(f"fires in {what}", feature.fires)
        for told in ("name", "text"):
            if one.get(told) is not None:
                _strings(f"{told} in {what}", [one[told]])
        found.append(feature._replace(**numbers, fires=fires))
    return found


def _read_representatives(what: str, both: Any, rows: np.ndarray) -> Representatives:
    members_ = set(rows.tolist())

    def read(one: Any) -> Representative:
        row = Representative(**_mapping(what, one))
        _require(
            type(row.row) is int and row.row in members_,
            f"row in {what}",
            "be one of its rows",
            row.row,
        )
        return Representative(
            row.row,
            _number(f"inside in {what}", row.inside, 0, math.inf),
            _number(f"share in {what}", row.share, 0, 1),
        )

    kinds = _mapping(what, both)
    return Representatives(
        **{kind: [read(one) for one in _list(what, kinds[kind])] for kind in kinds}
    )


def _read_of_layers(low: float, what: str, values: Any, _: Any) -> dict[str, float]:
    return {
        name: _number(what, value, low, 1)
        for name, value in _mapping(what, values).items()
    }


def _read_neurons(
    neurons: Any, labels: np.ndarray, layers: Any
) -> list[NeuronActivity]:
    last = int(labels.max())
    every, share = (-math.inf, math.inf), (0, 1)
    found = []
    for one in _list("neurons", neurons):
        read = NeuronActivity(**_mapping("a neuron", one))
        _check_place("a neuron", read.layer, read.neuron, layers)
        what = f"neuron {read.layer}:{read.neuron}"
        strongest = []
        for pair in _list(f"strongest of {what}", read.strongest):
            row, value = _list(f"a row of {what}", pair, 2)
            _integer(f"a row of {what}", row, 0, labels.size - 1)
            strongest.append((row, _number(f"activation of {what}", value, *every)))
        communities = []
        for triple in _list(f"communities of {what}", read.communities):
            label, mean, part = _list(f"a community of {what}", triple, 3)
            _integer(f"a community of {what}", label, 0, last)
            communities.append(
                (
                    label,
                    _number(f"mean of {what}", mean, *every),
                    _number(f"share of {what}", part, *share),
                )
            )
        found.append(
            read._replace(
                mean=_number(f"mean of {what}", read.mean, *every),
                share=_number(f"share of {what}", read.share, *share),
                strongest=strongest,
                communities=communities,
            )
        )
    return found


def _read_tree(tree: Any, n: int) -> Any:
    """Check a tree, in which each node must come after its parent."""
    if tree is None:
        return None
    nodes = _list("nodes of tree", _mapping("tree", tree)["nodes"])
    last = len(nodes) - 1
    children: dict[int, list[int]] = {}
    for number, node in enumerate(nodes):
        what = f"node {number} of tree"
        _integer(f"node in {what}", _mapping(what, node)["node"], number, number)
        if number == 0:
            _require(node["parent"] is None, what, "have no parent", node["parent"])
        else:
            _integer(f"parent in {what}", node["parent"], 0, number - 1)
            children.setdefault(node["parent"], []).append(number)
        _integer(f"size in {what}", node["size"], 0, n)
        # An adjusted score, which rounding may take above 1.
        _number(f"replicability in {what}", node["replicability"], -1, 1)
        _strings(f"keywords in {what}", node["keywords"])
    for number, node in enumerate(nodes):
        what, found = f"children of node {number} of tree", node["children"]
        _require(
            found == children.get(number, []),
            what,
            "be the nodes that have it as their parent",
            found,
        )
    for value in _list("node_of_row of tree", tree["node_of_row"], n):
        _integer("a number in node_of_row of tree", value, -1, last)
    return tree


def _check_place(what: str, layer: Any, neuron: Any, layers: Any) -> None:
    """Refuse a neuron that no layer has, if the layers' widths are known."""
    _require(type(layer) is str, what, "name a layer", layer)
    width = layers.get(layer) if isinstance(layers, dict) else None
    _integer(f"neuron in {what}", neuron, 0, width - 1 if type(width) is int else None)


def _read_map(shown: Any, n: int) -> CommunityMap:
    rows = _list("map.rows", _mapping("map", shown)["rows"])
    for row in rows:
        _integer("a row of the map", row, 0, n - 1)
    _require(
        all(a < b for a, b in pairwise(rows)),
        "map.rows",
        "be ascending",
        rows,
    )
    positions = _list("map.positions", shown["positions"], len(rows))
    most = float(np.finfo(np.float32).max)
    plain = [
        [_number("a position", v, -most, most, null=False) for v in _list("", p, 2)]
        for p in positions
    ]
    return CommunityMap(
        np.asarray(rows, dtype=np.int64),
        np.asarray(plain, dtype=np.float32).reshape(-1, 2),
    )


def _read_table(table: Any) -> CrossTable:
    what, read = "cross_table", _mapping("cross_table", table)
    names = _strings(f"layer_names of {what}", read["layer_names"])
    n_groups, n_clusters = (
        len(_list(f"{name} of {what}", read[name]))
        for name in ("group_sizes", "community_sizes")
    )

    def numbers(name: str, width: int, low: float, high: float) -> np.ndarray:
        of = f"{name} of {what}"
        return np.array(
            [
                [_number(of, value, low, high) for value in _list(of, row, width)]
                for row in _list(of, read[name], n_groups)
            ]
        ).reshape(n_groups, width)

    def sizes(name: str) -> np.ndarray:
        for size in read[name]:
            _integer(f"{name} of {what}", size, 0, None)
        return np.asarray(read[name], dtype=np.int64)

    for row in _list(f"drives of {what}", read["drives"], n_groups):
        for value in _list(f"drives of {what}", row, n_clusters):
            _flag(f"drives of {what}", value)
    every = -math.inf, math.inf
    return CrossTable(
        **{name: numbers(name, n_clusters, *every) for name in _OF_PAIRS},
        drives=np.asarray(read["drives"], dtype=bool).reshape(n_groups, n_clusters),
        group_sizes=sizes("group_sizes"),
        community_sizes=sizes("community_sizes"),
        layers=numbers("layers", len(names), 0, 1),
        layer_names=tuple(names),
    )


def _require(holds: bool, what: str, wanted: str, found: Any) -> None:
    if not holds:
        raise ValueError(f"{what} must {wanted}; got {repr(found)[:200]}.")


def _mapping(what: str, value: Any) -> dict[str, Any]:
    _require(isinstance(value, Mapping), what, "be a JSON object", value)
    return value


def _list(what: str, value: Any, length: int | None = None) -> list[Any]:
    of = "" if length is None else f" of length {length}"
    fits = type(value) is list and length in (None, len(value))
    _require(fits, what, f"be a JSON array{of}", value)
    return value


def _strings(what: str, value: Any) -> list[str]:
    of = _list(what, value)
    _require(all(type(one) is str for one in of), what, "be strings", value)
    return of


def _integer(what: str, value: Any, low: int, high: int | None) -> None:
    most = "" if high is None else f" and at most {high}"
    fits = type(value) is int and low <= value and (high is None or value <= high)
    _require(fits, what, f"be an integer of at least {low}{most}", value)


def _number(
    what: str, value: Any, low: float, high: float, *, null: bool = True
) -> float:
    """Give a number, or nan for JSON's null; refuse one that is out of its range."""
    if value is None and null:
        return math.nan
    if value in ("inf", "-inf"):
        value = float(value)
    fits = type(value) in (int, float) and low <= value <= high
    _require(fits, what, f"be a number from {low} to {high}", value)
    return float(value)


def _label_of(last: int, what: str, value: Any) -> int:
    _integer(what, value, -1, last)
    return int(value)


def _flag(what: str, value: Any) -> bool:
    _require(type(value) is bool, what, "be true or false", value)
    return bool(value)


def _share(what: str, value: Any) -> float:
    return _number(what, value, 0, 1)


def _column(rows: dict[str, Any], name: str, read: Callable[..., Any], n: int) -> Any:
    """Give one value for each of n rows, if the document has them."""
    what = f"rows.{name}"
    values = None if rows.get(name) is None else _list(what, rows[name], n)
    return values and [read(what, value) for value in values]


def _id_to_json(identifier: Any) -> Any:
    """Give an id in a form that JSON gives back equal; refuse one that has none."""
    if isinstance(identifier, (np.str_, np.bool_, np.integer, np.floating)):
        identifier = identifier.item()
    if isinstance(identifier, tuple):
        return [_id_to_json(part) for part in identifier]
    try:
        if isinstance(identifier, str):
            identifier.encode()
        elif isinstance(identifier, float):
            json.dumps(identifier, allow_nan=False)
        elif isinstance(identifier, int):
            str(identifier)  # which has a limit of digits
        else:
            raise ValueError(  # noqa: TRY004 - caught below, with its remedy
                f"its type is {type(identifier).__name__}"
            )
    except ValueError as error:
        raise ValueError(
            "ids must be strings, integers, finite floats, booleans or tuples of these "
            f"to be saved as JSON; got {_shown(identifier)} ({error}). Turn them into "
            "strings that can be encoded before saving."
        ) from error
    return identifier


def _shown(identifier: Any) -> str:
    try:
        return repr(identifier)[:200]
    except ValueError:
        return "an integer with too many digits"


def _id_from_json(value: Any) -> Any:
    if isinstance(value, list):
        return tuple(_id_from_json(part) for part in value)
    _require(
        type(value) in (str, int, float, bool),
        "an id",
        "be a string, a number, a boolean or an array of these",
        value,
    )
    finite = isinstance(value, (str, int)) or math.isfinite(value)
    _require(finite, "an id", "be finite", value)
    return value


def jsonable(value: Any) -> Any:
    """Give a value with its containers as JSON can hold them, other values as repr."""
    if hasattr(value, "_asdict"):  # a named tuple
        value = value._asdict()
    if isinstance(value, Mapping):
        return {
            key: jsonable(item)
            for key, item in zip(_keys(value), value.values(), strict=True)
        }
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


def _keys(mapping: Iterable[Any]) -> list[str]:
    """Give keys as strings, as JSON has no others; repr keeps equal ones apart."""
    for form in (str, repr):
        keys = [form(key) for key in mapping]
        if len(set(keys)) == len(keys):
            return keys
    return [f"{i}: {key}" for i, key in enumerate(keys)]
