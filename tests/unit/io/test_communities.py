"""All that is known of a clustering: gathered, saved, loaded."""

import csv
import datetime
import decimal
import io
import json
import os
import uuid
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from numpy.testing import assert_array_equal
from sklearn.pipeline import make_pipeline

from skleiden import LayerStack, MultiLayerTfidfSketcher, MutualKNNLeiden
from skleiden.inspection import (
    Communities,
    NeuronActivity,
    describe_communities,
    layer_agreement,
    representatives,
    top_features,
)
from skleiden.io import load_communities, save_communities, save_labels
from skleiden.io._csv import as_csv
from skleiden.model_selection import StableLeiden

TEXTS = [f"prompt {i}" for i in range(400)]


@pytest.fixture(scope="module")
def pipeline(stack):
    return make_pipeline(
        MultiLayerTfidfSketcher(32, layer_weights=None, random_state=0),
        MutualKNNLeiden(n_neighbors=15, random_state=0),
    ).fit(stack)


@pytest.fixture(scope="module")
def named(stack):
    ids = [f"q{i}" for i in range(400)]
    layers = dict(zip(stack.names, stack.layers, strict=True))
    return LayerStack(layers, ids=ids)


@pytest.fixture(scope="module")
def found(pipeline, named):
    stability = np.linspace(0.5, 1, pipeline[-1].n_clusters_)
    known = describe_communities(pipeline, named, texts=TEXTS, stability=stability)
    second = (known.labels + 1) % stability.size
    return replace(known, strength=np.linspace(0, 1, second.size), second=second)


def assert_same(a, b):
    for name in ("labels", "ids", "confidence", "attached", "stability"):
        assert_array_equal(getattr(a, name), getattr(b, name))
    for name in ("texts", "top_features", "representatives", "versions", "fingerprint"):
        assert getattr(a, name) == getattr(b, name)
    assert a.layer_agreement.keys() == b.layer_agreement.keys()
    for name, values in a.layer_agreement.items():
        assert_array_equal(values, b.layer_agreement[name])


# --- describe_communities -------------------------------------------------------------


def test_description_is_what_the_functions_say(pipeline, named, found):
    sketcher, leiden = pipeline
    assert_array_equal(found.labels, leiden.labels_)
    assert_array_equal(found.attached, leiden.attached_)
    assert found.ids.tolist() == named.ids.tolist()
    assert found.texts == TEXTS
    assert found.top_features == top_features(named, leiden.labels_)
    assert found.representatives == representatives(leiden)
    agreement = layer_agreement(
        sketcher.transform(named),
        leiden.labels_,
        dict(zip(named.names, [32] * 3, strict=True)),
    )
    assert found.layer_agreement.keys() == agreement.keys()
    for name, values in agreement.items():
        assert_array_equal(found.layer_agreement[name], values)
    assert found.map.rows.size == 400
    assert found.summary["modularity"] == leiden.modularity_
    assert found.summary["n_communities"] == leiden.n_clusters_
    assert found.summary["n_edges"] == leiden.affinity_matrix_.nnz // 2
    assert found.summary["layers"] == dict(zip(named.names, named.widths, strict=True))
    assert found.parameters == pipeline.get_params()
    assert {"skleiden", "numpy", "igraph", "leidenalg"} <= found.versions.keys()


def test_description_of_runs(pipeline, stack):
    runs = StableLeiden(pipeline, n_runs=3, random_state=0).fit(stack)
    found = describe_communities(runs, stack, max_map_rows=0, n_representatives=1)
    assert_array_equal(found.confidence, runs.confidence_)
    assert_array_equal(found.labels, runs.labels_)
    assert found.summary["stability"] == runs.stability_
    assert found.map is None
    assert_array_equal(found.ids, np.arange(400))
    assert all(len(both.central) == 1 for both in found.representatives.values())


def test_description_without_a_sketcher(embedding):
    leiden = MutualKNNLeiden(n_neighbors=15, random_state=0).fit(embedding)
    found = describe_communities(leiden, embedding, n_features=2)
    assert found.layer_agreement == {}
    assert found.texts is None
    assert all(len(features) <= 2 for features in found.top_features.values())


def test_description_where_all_is_noise(stack):
    pipeline = make_pipeline(
        MultiLayerTfidfSketcher(random_state=0),
        MutualKNNLeiden(n_neighbors=5, min_cluster_size=399, random_state=0),
    )
    with pytest.warns(UserWarning, match="all labels are -1"):
        pipeline.fit(stack)
    found = describe_communities(pipeline, stack)
    assert (found.top_features, found.representatives) == ({}, {})
    assert found.layer_agreement == {}


def test_texts_by_id(pipeline, named):
    texts = {f"q{i}": f"text of {i}" for i in range(500)}
    found = describe_communities(pipeline, named, texts=texts, max_map_rows=0)
    assert found.texts == [f"text of {i}" for i in range(400)]
    # JSON has no ids but strings.
    numbered = {str(i): f"text of {i}" for i in range(400)}
    again = describe_communities(
        pipeline, named, ids=range(400), texts=numbered, max_map_rows=0
    )
    assert again.texts == found.texts
    del texts["q7"]
    with pytest.raises(ValueError, match="no text for 1 of 400 ids, such as 'q7'"):
        describe_communities(pipeline, named, texts=texts)


def test_fingerprint_tells_data_apart(pipeline, stack, named):
    def fingerprint(X):
        return describe_communities(pipeline, X, max_map_rows=0).fingerprint

    layers = dict(zip(stack.names, stack.layers, strict=True))
    first = fingerprint(stack)
    assert fingerprint(LayerStack(layers)) == first
    assert fingerprint(named) != first
    other = {name: layer.copy() for name, layer in layers.items()}
    other["layer_1"].data[-1] *= 1.01  # of the last row, too little for another one
    assert fingerprint(LayerStack(other)) != first
    wider = {name: layer.copy() for name, layer in layers.items()}
    wider["layer_1"].indices = wider["layer_1"].indices.astype(np.int64)
    assert fingerprint(LayerStack(wider)) == first
    dense = {name: layer.toarray() for name, layer in layers.items()}
    assert fingerprint(LayerStack(dense)) != first


def test_description_errors(pipeline, stack):
    with pytest.raises(TypeError, match="got MutualKNNLeiden without labels_"):
        describe_communities(MutualKNNLeiden(), stack)
    with pytest.raises(ValueError, match="got 399 rows, fitted with 400"):
        describe_communities(pipeline, stack[1:])
    for options, message in (
        ({"ids": [1, 2]}, "ids must have one entry per label; got 2 for 400"),
        ({"texts": ["a"]}, "texts must have one entry per label; got 1 for 400"),
        ({"stability": [1.0]}, r"one value for each of \d+ communities; got shape"),
    ):
        with pytest.raises(ValueError, match=message):
            describe_communities(pipeline, stack, max_map_rows=0, **options)


def test_agreement_is_of_all_communities():
    agreement = {"mlp": [0.5, 0.5], "late": [0.5]}
    message = r"layer_agreement of 'late' must have one .* of 2 .* got shape \(1,\)"
    with pytest.raises(ValueError, match=message):
        Communities([0, 1], layer_agreement=agreement)


def test_repr_is_short(found):
    n = found.summary["n_communities"]
    assert repr(found) == (
        f"<Communities: 400 rows in {n} communities, 0 in none; known: texts, "
        "stability, top_features, map>"
    )
    assert repr(Communities([0, -1])) == (
        "<Communities: 2 rows in 1 communities, 1 in none; known: labels alone>"
    )


# --- save and load --------------------------------------------------------------------


def test_round_trip(tmp_path, found):
    path = tmp_path / "communities.json"
    save_communities(path, found)
    loaded = load_communities(path)
    assert_same(loaded, found)
    assert_array_equal(loaded.map.rows, found.map.rows)
    assert np.abs(loaded.map.positions - found.map.positions).max() <= 6e-5
    kept = {
        name: value
        for name, value in found.parameters.items()
        if isinstance(value, (int, float, str, type(None)))
    }
    assert loaded.parameters.items() >= kept.items()
    assert loaded.summary == json.loads(json.dumps(found.summary))
    before = path.read_bytes()
    save_communities(path, loaded)
    assert path.read_bytes() == before


@pytest.mark.parametrize(
    "known",
    [
        {},
        {"ids": ["é", "b", 3, "日本", "e"]},
        {"texts": ["", "<script>", "\u2028", "=1+1", "e"]},
        {"confidence": [0, 0.1, 1 / 3, 1, 0.5], "attached": [True, False] * 2 + [True]},
        {"stability": [np.nan, 0.3, 1.0]},
        {"layer_agreement": {"mlp": np.array([0.1, np.nan, -0.2])}},
    ],
    ids=lambda known: next(iter(known), "labels alone"),
)
def test_round_trip_of_what_is_known(tmp_path, known):
    found = Communities([2, 0, 1, -1, 0], **known)
    save_communities(tmp_path / "c.json", found)
    assert_same(load_communities(tmp_path / "c.json"), found)


TREE = {
    "n_samples": 5,
    "n_levels": 2,
    "nodes": [
        {
            "node": number,
            "parent": parent,
            "level": 0,
            "size": 2,
            "children": children,
            "resolution": 0.5,
            "replicability": replicability,
            "keywords": ["a", "b"],
        }
        for number, parent, children, replicability in [
            *((0, None, [1, 2], 1.0), (1, 0, [], None), (2, 0, [], -0.1))
        ]
    ],
    "node_of_row": [2, 1, 1, -1, 0],
}
NEURON = NeuronActivity(
    *("mlp", 7, 0.5, 0.25, [(0, 3.5), (4, 1.25)]), [(2, 1.5, 0.5), (0, -0.25, 0.0)]
)


@pytest.mark.parametrize(
    "known",
    [
        {"names": {0: "é <b>", 2: "="}},
        {"strength": [0.0, 0.5, 1.0, 0.0, 0.25], "second": [1, -1, 0, -1, 2]},
        {"cohesion": [0.5, np.nan, 1.0]},
        {"neurons": [NEURON, NEURON._replace(neuron=8, strongest=[], communities=[])]},
        {"tree": TREE},
    ],
    ids=lambda known: next(iter(known)),
)
def test_round_trip_of_what_newer_files_hold(tmp_path, known):
    found = Communities([2, 0, 1, -1, 0], **known)
    save_communities(tmp_path / "c.json", found)
    loaded = load_communities(tmp_path / "c.json")
    for name, value in known.items():
        if name in ("names", "neurons", "tree"):
            assert getattr(loaded, name) == value
        else:
            assert_array_equal(getattr(loaded, name), value)
    again = tmp_path / "again.json"
    save_communities(again, loaded)
    assert again.read_bytes() == (tmp_path / "c.json").read_bytes()


def test_older_files_load(tmp_path):
    """They have nothing of what came later, and what is not known is not saved."""
    save_communities(tmp_path / "c.json", Communities([0, 0, 1], texts=list("abc")))
    document = json.loads((tmp_path / "c.json").read_text())
    assert not {"tree", "neurons"} & set(document)
    assert set(document["rows"]) == {"ids", "labels"}
    assert not {"name", "cohesion"} & set(document["communities"][0])
    loaded = load_communities(tmp_path / "c.json")
    assert (loaded.names, loaded.neurons, loaded.tree) == ({}, [], None)
    assert loaded.strength is loaded.second is loaded.cohesion is None


def test_a_tree_of_other_rows_is_refused():
    with pytest.raises(ValueError, match="tree must be of the same rows; got one of 5"):
        Communities([0, 0, 1], tree=TREE)
    for tree in (3, {}, [TREE]):
        with pytest.raises(TypeError, match=r"tree must be a CommunityTree, or .* got"):
            Communities([0, 0, 1], tree=tree)


def test_labels_of_communities_that_are_not_listed_are_kept(tmp_path):
    found = Communities([0, 0, 1, -1], texts=list("abcd"))
    save_communities(tmp_path / "c.json", found, min_size=2)
    loaded = load_communities(tmp_path / "c.json")
    assert_array_equal(loaded.labels, [0, 0, 1, -1])
    assert loaded.texts == ["a", "b", "", "d"]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda text: text[: len(text) // 2], r"c\.json' is not JSON"),
        (lambda _: "[]", "does not hold communities: its format is not"),
        (
            lambda text: text.replace("skleiden-comm", "other-comm"),
            "does not hold comm",
        ),
        (
            lambda text: text.replace('"schema_version": 1', '"schema_version": 2'),
            "has schema version 2; this version of skleiden reads 1",
        ),
        (lambda text: text.replace('"rows"', '"lines"'), r"c\.json' is broken: KeyErr"),
        (lambda text: text.replace('"label": 0', '"label": 7'), "is broken"),
    ],
)
def test_files_that_cannot_be_loaded(tmp_path, change, message):
    path = tmp_path / "c.json"
    save_communities(path, Communities([0, 0, 1, -1], texts=list("abcd")))
    path.write_text(change(path.read_text()))
    with pytest.raises(ValueError, match=message):
        load_communities(path)


def test_save_takes_communities():
    with pytest.raises(TypeError, match=r"takes Communities; got ndarray\. Make"):
        save_communities("c.json", np.zeros(3, dtype=int))


# --- ids ------------------------------------------------------------------------------

ANY = settings(
    max_examples=60,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
PLAIN = st.one_of(
    st.text(st.characters(exclude_categories=["Cs"]), max_size=8),
    st.integers(),
    st.integers(10**30, 10**40),
    st.floats(allow_nan=False, allow_infinity=False),
    st.booleans(),
)
IDS = st.recursive(
    PLAIN, lambda ids: st.tuples(ids) | st.tuples(ids, ids), max_leaves=4
)


def typed(value):
    """A value with its types, as 1, 1.0 and True are equal."""
    if isinstance(value, tuple):
        return tuple(typed(part) for part in value)
    return type(value), value


def as_objects(values):
    array = np.empty(len(values), dtype=object)
    array[:] = values
    return array


@ANY
@given(ids=st.lists(IDS, min_size=1, max_size=6))
def test_ids_of_any_type_come_back(tmp_path, ids):
    """With their types, in rows, members and noise, also where str would merge them."""
    labels = np.arange(len(ids)) % 2 - 1
    found = Communities(np.sort(labels)[::-1], ids=as_objects(ids))
    save_communities(tmp_path / "c.json", found)
    loaded = load_communities(tmp_path / "c.json")
    assert [typed(name) for name in loaded.ids.tolist()] == [typed(i) for i in ids]


@pytest.mark.parametrize(
    "ids",
    [
        [1, "1", "01", 1.5, "1.5"],
        ["", " ", "\t", "'", "=1"],
        ["\ufeff", "a\0", "\0", "\u2028", "\x85"],
        ["true", True, "null", "nan", "()"],
        [("a", 1), ("a", "1"), "('a', 1)", (), ((),)],
        [2**63, -(2**70), 10**4000, 0, 2**53 + 1],
        [0.1, -0.0, 5e-324, 1.7976931348623157e308, 1e22],
    ],
    ids=lambda ids: repr(ids)[:30],
)
def test_ids_that_are_alike_stay_apart(tmp_path, ids):
    save_communities(tmp_path / "c.json", Communities([0] * 5, ids=as_objects(ids)))
    loaded = load_communities(tmp_path / "c.json").ids.tolist()
    assert [typed(name) for name in loaded] == [typed(name) for name in ids]


@pytest.mark.parametrize(
    "ids",
    [
        np.arange(3, dtype=np.uint8),
        np.array([0.1, 0.2, 0.3], dtype=np.float32),
        np.array(["a", "é", "日本"]),
        as_objects([np.int16(1), np.str_("1"), np.float64(1.5)]),
        as_objects([np.bool_(True), (np.int64(3),), "x"]),
    ],
    ids=lambda ids: str(ids.dtype),
)
def test_ids_of_numpy_come_back_as_equal_ones_of_python(tmp_path, ids):
    save_communities(tmp_path / "c.json", Communities([0] * 3, ids=ids))
    loaded = load_communities(tmp_path / "c.json").ids.tolist()
    assert loaded == ids.tolist()
    assert not any(isinstance(name, np.generic) for name in loaded)


@pytest.mark.parametrize(
    ("odd", "shown"),
    [
        (float("nan"), r"got nan \(Out of range"),
        (np.float32("inf"), r"got inf \(Out of range"),
        (None, r"got None \(its type is NoneType"),
        (b"q1", r"got b'q1' \(its type is bytes"),
        (1j, r"its type is complex"),
        (uuid.UUID(int=3), r"got UUID\(.* \(its type is UUID"),
        (datetime.date(2024, 1, 2), "its type is date"),
        (np.datetime64("2024-01-02"), "its type is datetime64"),
        (decimal.Decimal("0.1"), "its type is Decimal"),
        (frozenset({1}), "its type is frozenset"),
        (("a", ("b", None)), "got None"),
        (("a", "\ud800"), r"got '\\ud800' \('utf-8' codec"),
        (10**5000, r"got an integer with too many digits \(Exceeds the limit"),
    ],
    ids=lambda value: type(value).__name__ if not isinstance(value, str) else "",
)
def test_ids_without_a_form_are_refused_before_anything_is_written(
    tmp_path, odd, shown
):
    path = tmp_path / "c.json"
    path.write_text("old")
    found = Communities([0, 0, -1], ids=as_objects(["a", odd, "b"]))
    with pytest.raises(ValueError, match=f"ids must be strings, .*{shown}") as caught:
        save_communities(path, found)
    assert str(caught.value).endswith("into strings that can be encoded before saving.")
    assert path.read_text() == "old"


# --- content that contradicts itself --------------------------------------------------


@pytest.fixture(scope="module")
def whole(found, tmp_path_factory):
    """The document of communities of which all is known."""
    path = tmp_path_factory.mktemp("whole") / "c.json"
    n = len(found.labels)
    save_communities(
        path,
        Communities(
            **{
                **vars(found),
                "confidence": np.linspace(0, 1, n),
                "attached": found.labels == 1,
                "strength": np.linspace(0, 1, n),
                "second": np.full(n, -1),
                "names": {0: "first"},
                "tree": {**TREE, "node_of_row": [0] * n},
            }
        ),
    )
    return path.read_text()


def set_in(*keys):
    """An edit of a document: of the place that keys lead to, to the last of them."""
    *places, last, value = keys

    def edit(document):
        for key in places:
            document = document[key]
        document[last] = value(document[last]) if callable(value) else value

    return edit


ONE = ("communities", 0)


@pytest.mark.parametrize(
    ("edit", "message"),
    [
        (
            set_in("rows", "labels", lambda v: v[:-1]),
            "rows.ids must be a JSON array .* 399",
        ),
        (set_in("rows", "labels", 0, -2), "a label must be an integer of at least -1"),
        (set_in("rows", "labels", 0, 10**12), "a label must .* at most 399; got 10000"),
        (set_in("rows", "labels", 0, 10**30), "a label must .* at most 399; got 10000"),
        (set_in("rows", "labels", 0, 0.5), "a label must be an integer .* got 0.5"),
        (set_in("rows", "labels", 0, True), "a label must be an integer .* got True"),
        (set_in("rows", "labels", 0, None), "a label must be an integer .* got None"),
        (
            set_in("rows", "labels", 0, lambda v: (v + 1) % 3),
            "(size|members) of commun",
        ),
        (set_in("rows", "labels", {}), "rows.labels must be a JSON array"),
        (set_in("rows", "ids", 0, "other"), "members of community . must be the ids"),
        (set_in("rows", "ids", 0, {"a": 1}), "members of community . must be the ids"),
        (set_in("rows", "ids", lambda v: [*v, "x"]), "rows.ids must be a JSON array"),
        (
            set_in("rows", "confidence", 3, 1.5),
            "rows.confidence must be a number from 0",
        ),
        (
            set_in("rows", "confidence", 3, "1"),
            "rows.confidence must be a number .* '1'",
        ),
        (
            set_in("rows", "confidence", lambda v: v[1:]),
            "rows.confidence must be a JSON arr",
        ),
        (
            set_in("rows", "attached", 3, 1),
            "rows.attached must be true or false; got 1",
        ),
        (
            set_in("rows", "attached", lambda v: v[1:]),
            "rows.attached must be a JSON array",
        ),
        (set_in("n_samples", 399), "n_samples must agree with rows; got 399"),
        (set_in("n_communities", 1), "n_communities must agree with rows; got 1"),
        (set_in("n_noise", 1), "n_noise must agree with rows; got 1"),
        (set_in("noise", ["q0"]), r"noise must agree with rows; got \['q0'\]"),
        (
            set_in("noise_texts", ["x"]),
            "texts of community -1 must be a JSON array .* 0",
        ),
        (
            set_in("communities", lambda v: v[:1] * 2),
            "community 0 must be one of the la",
        ),
        (set_in("communities", lambda v: v[:1]), "n_communities must agree with rows"),
        (set_in("communities", {}), "communities must be a JSON array"),
        (set_in(*ONE, "label", 77), "community 77 must be one of the labels of rows"),
        (set_in(*ONE, "label", "0"), "community '0' must be one of the labels of rows"),
        (set_in(*ONE, "size", lambda n: n + 1), "size of community 0 must be"),
        (set_in(*ONE, "members", 0, "x"), "members of community 0 must be the ids"),
        (set_in(*ONE, "members", lambda v: v[::-1]), "members of community 0 must be"),
        (
            set_in(*ONE, "texts", lambda v: v[1:]),
            "texts of community 0 must be a JSON arr",
        ),
        (set_in(*ONE, "texts", 0, 3), "texts of community 0 must be strings; got 3"),
        (
            set_in(*ONE, "stability", 2),
            "stability of community 0 must be a number from",
        ),
        (set_in(*ONE, "stability", "x"), "stability of community 0 must .* got 'x'"),
        (set_in(*ONE, "layer_agreement", {}), "layer_agreement must name the same"),
        (set_in(*ONE, "layer_agreement", "layer_0", 7), "layer_agreement of community"),
        (
            set_in(*ONE, "top_features", 0, "neuron", -1),
            "neuron in top_features of com",
        ),
        (set_in(*ONE, "top_features", 0, "neuron", 300), "neuron in .* at most 299"),
        (set_in(*ONE, "top_features", 0, "layer", 3), "must name a layer; got 3"),
        (set_in(*ONE, "top_features", 0, "share", 1.1), "share in top_features of com"),
        (
            set_in(*ONE, "top_features", 0, "mean", "big"),
            "mean in top_features of comm",
        ),
        (set_in(*ONE, "top_features", 0, {"layer": "a"}), "top_features|TypeError"),
        (set_in(*ONE, "representatives", "central", 0, "row", 400), "row in represent"),
        (set_in(*ONE, "representatives", "central", 0, "row", -1), "row in represent"),
        (set_in(*ONE, "representatives", "central", 0, "share", 3), "share in represe"),
        (set_in(*ONE, "representatives", "central", 0, "inside", -1), "inside in repr"),
        (set_in(*ONE, "representatives", []), "must be a JSON object; got"),
        (set_in("map", "rows", 0, 400), "a row of the map must .* at most 399"),
        (set_in("map", "rows", 0, -1), "a row of the map must be an integer of at"),
        (set_in("map", "rows", lambda v: v[::-1]), "map.rows must be ascending"),
        (
            set_in("map", "rows", lambda v: v[:-1]),
            "map.positions must be a JSON array .* 399",
        ),
        (set_in("map", "positions", 0, [1]), "must be a JSON array of length 2"),
        (set_in("map", "positions", 0, [1, None]), "a position must be a number"),
        (set_in("map", "positions", 0, [1, 1e300]), "a position must be a number"),
        (set_in("map", []), "map must be a JSON object"),
        (set_in(*ONE, "name", 3), r"name of community 0 must be strings; got \[3\]"),
        (
            set_in(*ONE, "cohesion", 1.5),
            "cohesion of community 0 must be a number from",
        ),
        (set_in("rows", "strength", 3, 1.5), "rows.strength must be a number from 0"),
        (set_in("rows", "second", 3, 99), "rows.second must be an integer of at least"),
        (set_in("rows", "second", 3, -2), "rows.second must be an integer of at least"),
        (set_in("neurons", 0, "layer", 3), "a neuron must name a layer; got 3"),
        (set_in("neurons", 0, "neuron", 300), "neuron in a neuron must .* at most 299"),
        (
            set_in("neurons", 0, "share", 2),
            "share of neuron layer_.* from 0 to 1; got 2",
        ),
        (
            set_in("neurons", 0, "strongest", 0, 0, 400),
            "a row of neuron .* at most 399",
        ),
        (
            set_in("neurons", 0, "strongest", 0, 1, "x"),
            "activation of neuron .* got 'x'",
        ),
        (set_in("neurons", 0, "strongest", 0, [1]), "a row of neuron .* of length 2"),
        (
            set_in("neurons", 0, "communities", 0, 0, 99),
            "a community of neuron .* most",
        ),
        (set_in("neurons", 0, "communities", 0, 2, 7), "share of neuron .*; got 7"),
        (set_in("neurons", 0, {"layer": "a"}), "TypeError"),
        (set_in("tree", []), "tree must be a JSON object"),
        (
            set_in("tree", "nodes", 1, "parent", 1),
            "parent in node 1 .* at most 0; got 1",
        ),
        (
            set_in("tree", "nodes", 1, "parent", None),
            "parent in node 1 of tree must be",
        ),
        (set_in("tree", "nodes", 0, "parent", 0), "node 0 of tree must have no parent"),
        (
            set_in("tree", "nodes", 0, "children", [0]),
            "children of node 0 of tree must",
        ),
        (
            set_in("tree", "nodes", 1, "node", 7),
            "node in node 1 of tree must be an integ",
        ),
        (
            set_in("tree", "nodes", 1, "size", -1),
            "size in node 1 of tree must be an int",
        ),
        (set_in("tree", "nodes", 1, "keywords", [1]), "keywords in node 1 .* strings"),
        (set_in("tree", "nodes", 1, "replicability", 3), "replicability in node 1 of"),
        (set_in("tree", "node_of_row", 0, 3), "a number in node_of_row .* at most 2"),
        (set_in("tree", "node_of_row", [0]), "node_of_row of tree must .* length 400"),
        (set_in("summary", 3), "summary must be a JSON object; got 3"),
        (set_in("parameters", []), "parameters must be a JSON object"),
        (set_in("versions", None), "versions must be a JSON object; got None"),
        (set_in("fingerprint", 3), "fingerprint must be a string or null; got 3"),
    ],
)
def test_content_is_checked_against_itself(tmp_path, whole, edit, message):
    path = tmp_path / "c.json"
    document = json.loads(whole)
    edit(document)
    path.write_text(json.dumps(document))
    with pytest.raises(ValueError, match=message) as caught:
        load_communities(path)
    assert str(caught.value).startswith(f"{str(path)!r} is broken: ")
    assert str(caught.value).endswith(". Save the communities again.")


@pytest.mark.parametrize("key", ["stability", "layer_agreement"])
def test_what_is_told_of_some_communities(tmp_path, whole, key):
    path = tmp_path / "c.json"
    document = json.loads(whole)
    del document["communities"][1][key]
    path.write_text(json.dumps(document))
    with pytest.raises(ValueError, match=f"{key} must be given for each community"):
        load_communities(path)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[" * 10**5 + "]" * 10**5, "is not JSON: .*nested too deeply"),
        ('{"a": ' * 10**5 + "1" + "}" * 10**5, "is not JSON: .*nested too deeply"),
        ('{"format": 1, "format": 2}', "is not JSON: 'format' is there more than"),
        ('{"format": ' + "1" * 5000 + "}", "is not JSON: Exceeds the limit"),
        ('{"format": NaN}', "does not hold communities"),
        ("\x00", "is not JSON"),
        ("", "is not JSON"),
        ("3", "does not hold communities"),
        (
            '{"format": "skleiden-communities", "schema_version": 1}',
            "is broken: KeyErr",
        ),
    ],
    ids=range(9),
)
def test_json_that_is_odd(tmp_path, text, message):
    (tmp_path / "c.json").write_text(text)
    with pytest.raises(ValueError, match=message) as caught:
        load_communities(tmp_path / "c.json")
    assert repr(str(tmp_path / "c.json")) in str(caught.value)


@pytest.mark.parametrize("value", ["NaN", "Infinity", "-Infinity", "1e999"])
@pytest.mark.parametrize(
    "edit",
    [
        set_in("n_samples", "?"),
        set_in(*ONE, "size", "?"),
        set_in(*ONE, "label", "?"),
        set_in(*ONE, "stability", "?"),
        set_in(*ONE, "layer_agreement", "layer_0", "?"),
        set_in("rows", "labels", 0, "?"),
        set_in("rows", "confidence", 0, "?"),
        set_in("map", "rows", 0, "?"),
        set_in("map", "positions", 0, ["?", 0]),
    ],
)
def test_numbers_that_json_has_not(tmp_path, whole, value, edit):
    document = json.loads(whole)
    edit(document)
    (tmp_path / "c.json").write_text(json.dumps(document).replace('"?"', value))
    with pytest.raises(ValueError, match=r"c\.json' is broken"):
        load_communities(tmp_path / "c.json")


@pytest.mark.parametrize("value", ["NaN", "1e999", "null", '{"a": 1}', "[null]"])
def test_ids_that_json_has_not(tmp_path, value):
    save_communities(tmp_path / "c.json", Communities([0, 0], ids=["?", "a"]))
    text = (tmp_path / "c.json").read_text()
    (tmp_path / "c.json").write_text(text.replace('"?"', value))
    with pytest.raises(ValueError, match=r"c\.json' is broken"):
        load_communities(tmp_path / "c.json")


def test_mark_of_the_byte_order(tmp_path, whole):
    (tmp_path / "c.json").write_text(whole, encoding="utf-8-sig")
    assert len(load_communities(tmp_path / "c.json").labels) == 400
    (tmp_path / "c.json").write_text(whole, encoding="utf-16")
    with pytest.raises(ValueError, match=r"c\.json' is not JSON"):
        load_communities(tmp_path / "c.json")


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="needs named pipes")
def test_pipes_are_not_waited_for(tmp_path):
    os.mkfifo(tmp_path / "c.json")
    with pytest.raises(ValueError, match="is a named pipe, not a regular file"):
        load_communities(tmp_path / "c.json")


@pytest.mark.parametrize(
    ("known", "message"),
    [
        ({"labels": [0, 5, 5]}, "a label must be .* at most 2; got 5"),
        ({"confidence": [0, 1, 1.5]}, "rows.confidence must be a number from 0 to 1"),
        ({"stability": [-0.5]}, "stability of community 0 must be a number from 0"),
        ({"layer_agreement": {"a": [np.inf]}}, "layer_agreement of community 0 must"),
    ],
    ids=str,
)
def test_what_could_not_be_loaded_is_not_saved(tmp_path, known, message):
    found = Communities(**{"labels": [0, 0, -1], **known})
    with pytest.raises(ValueError, match=f"was not written, .* again: .*{message}"):
        save_communities(tmp_path / "c.json", found)
    assert list(tmp_path.iterdir()) == []


# --- save_labels ----------------------------------------------------------------------


def test_labels_as_a_table(tmp_path, found):
    save_labels(tmp_path / "labels.csv", found)
    save_labels(tmp_path / "labels.parquet", found)
    table = pd.read_csv(tmp_path / "labels.csv")
    names = ["id", "community", "name", "attached", "strength", "second", "text"]
    assert list(table) == names
    assert table["name"].tolist() == [found.names[c] for c in found.labels.tolist()]
    assert table["second"].tolist() == found.second.tolist()
    assert table["id"].tolist() == found.ids.tolist()
    assert table["community"].tolist() == found.labels.tolist()
    pd.testing.assert_frame_equal(
        pd.read_parquet(tmp_path / "labels.parquet"), table, check_dtype=False
    )


def test_labels_with_confidence_and_odd_ids(tmp_path):
    found = Communities([0, -1], ids=['a "b", c', "d\ne"], confidence=[1 / 3, 1])
    save_labels(tmp_path / "labels.csv", found)
    table = pd.read_csv(tmp_path / "labels.csv")
    assert table["id"].tolist() == found.ids.tolist()
    assert table["community"].tolist() == [0, -1]
    assert table["confidence"].tolist() == pytest.approx([1 / 3, 1])


def test_labels_errors(tmp_path, found, monkeypatch):
    with pytest.raises(ValueError, match=r"end in \.csv or \.parquet; got .*x\.txt'"):
        save_labels(tmp_path / "x.txt", found)
    monkeypatch.setitem(__import__("sys").modules, "pandas", None)
    with pytest.raises(ImportError, match="pip install pandas pyarrow"):
        save_labels(tmp_path / "x.parquet", found)
    assert list(tmp_path.iterdir()) == []


ODD = [
    "=1+1",
    "+1",
    "-1",
    "@SUM(1)",
    "\t=1",
    "\r=1",
    "\n=1",
    " =1",
    "\u00a0=1",
    "\0=1",
    "\uff1d1",
    "'",
    "''",
    "'=1",
    "=cmd|' /C calc'!A0",
    '=HYPERLINK("http://example.org","x")',
    "a\rb",
    "a\r\nb",
    "\r",
    "a;=1",
    "a,=1",
    'a"=1',
    '"=1"',
    "a\t=1",
    "-",
    "NA",
    "",
    "nan",
    "007",
    " a ",
    "\ufeffa",
    "a\u2028b",
    "a\0",
    "it's",
]


def read_with_csv(path):
    with path.open(newline="", encoding="utf-8") as file:
        return [row["id"].removeprefix("'") for row in csv.DictReader(file)]


def read_with_pandas(path):
    table = pd.read_csv(path, dtype={"id": str}, keep_default_na=False)
    return table["id"].str.removeprefix("'").tolist()


def as_read(ids, read):
    """Ids as they come back: before version 3 pandas drops what follows a NUL."""
    if read is read_with_csv or int(pd.__version__.split(".")[0]) >= 3:
        return ids
    return [text.split("\0")[0] for text in ids]


@pytest.mark.parametrize("read", [read_with_csv, read_with_pandas])
def test_odd_ids_come_back_from_csv(tmp_path, read):
    path = tmp_path / "labels.csv"
    labels = np.arange(len(ODD)) % 3
    save_labels(path, Communities(labels, ids=as_objects(ODD)))
    assert read(path) == as_read(ODD, read)
    with path.open(newline="", encoding="utf-8") as file:
        assert [int(r["community"]) for r in csv.DictReader(file)] == labels.tolist()


@pytest.mark.parametrize("read", [read_with_csv, read_with_pandas])
@ANY
@given(
    ids=st.lists(
        st.text(st.sampled_from("=+-@'\"\t\r\n ,;|ab\u2028\0é1"), max_size=5)
        | st.text(st.characters(exclude_categories=["Cs"]), max_size=5),
        min_size=1,
        max_size=8,
    )
)
def test_any_ids_come_back_from_csv(tmp_path, read, ids):
    save_labels(tmp_path / "x.csv", Communities([0] * len(ids), ids=as_objects(ids)))
    assert read(tmp_path / "x.csv") == as_read(ids, read)


@ANY
@given(
    text=st.text(st.sampled_from("=+-@'\"\t\r\n ,;|a\0"), max_size=5),
    delimiter=st.sampled_from(",;\t|"),
)
def test_no_cell_begins_as_a_formula(text, delimiter):
    """Whatever takes the file apart at whichever delimiter."""
    table = as_csv({"id": [text], "community": [0]})
    for row in csv.reader(io.StringIO(table, newline=""), delimiter=delimiter):
        for cell in row:
            assert cell[:1] not in {*"=+-@\t\r\n"}
            assert cell.lstrip(" \0\t\r\n")[:1] not in {*"=+-@"}


def test_numbers_stay_numbers():
    columns = {"=n": [-1, np.int64(-2)], "x": [-0.5, float("nan")], "b": [True, None]}
    assert as_csv(columns) == "'=n,x,b\n-1,-0.5,True\n-2,nan,None\n"


def test_dates_are_written_as_dates(tmp_path):
    ids = np.array(["2024-01-02", "2024-01-03"], dtype="datetime64[ns]")
    save_labels(tmp_path / "x.csv", Communities([0, 0], ids=ids))
    assert read_with_csv(tmp_path / "x.csv")[0].startswith("2024-01-02T00:00")


@pytest.mark.parametrize(
    "ids", [ODD, [1, -(2**63)], [0, 2**64 - 1], [0.5, -1.0], [True, False]], ids=repr
)
def test_ids_come_back_from_parquet(tmp_path, ids):
    path = tmp_path / "x.parquet"
    save_labels(path, Communities([0] * len(ids), ids=as_objects(ids)))
    assert pd.read_parquet(path)["id"].tolist() == ids


@pytest.mark.parametrize(
    ("ids", "kinds"),
    [
        ([1, "1"], "int, str"),
        ([1, 0.5], "float, int"),
        ([("a", 1), ("a", 2)], "tuple"),
        ([None, "a"], "NoneType, str"),
        ([2**64, 1], "int"),
        ([2**63, -1], "int"),
        ([b"a", b"b"], "bytes"),
    ],
    ids=repr,
)
def test_ids_that_parquet_cannot_hold(tmp_path, ids, kinds):
    found = Communities([0, 0], ids=as_objects(ids))
    with pytest.raises(ValueError, match=rf"x\.parquet' cannot hold .* got {kinds}\."):
        save_labels(tmp_path / "x.parquet", found)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("ids", "found"),
    [
        (np.arange(3).reshape(3, 1), r"an? array of shape \(3, 1\)"),
        (np.arange(3).reshape(1, 3), r"an? array of shape \(1, 3\)"),
        (np.array(7), r"an? array of shape \(\)"),
        (np.ma.masked_array([1, 2, 3], [0, 1, 0]), r"a masked array of shape \(3,\)"),
    ],
    ids=["column", "row", "number", "masked"],
)
def test_ids_that_are_not_a_list(ids, found):
    with pytest.raises(ValueError, match=rf"ids must be one-dimensional.* got {found}"):
        Communities([0, 0, -1], ids)


def test_table_of_communities(found):
    table = found.table
    sizes = np.bincount(found.labels)
    assert_array_equal(table["size"], np.sort(sizes)[::-1])
    assert_array_equal(table["size"], sizes[table["community"]])
    assert table["name"].tolist() == [found.names[c] for c in table["community"]]
    assert_array_equal(table["cohesion"], found.cohesion[table["community"]])
    strength = [found.strength[found.labels == c].mean() for c in table["community"]]
    assert table["strength"].tolist() == pytest.approx(strength)
    assert table["share"].sum() == pytest.approx((found.labels >= 0).mean())
    assert_array_equal(table["stability"], found.stability[table["community"]])
    first = table["community"][0]
    feature = found.top_features[first][0]
    assert table["strongest"][0].startswith(f"{feature.layer}:{feature.neuron}, ")
    row = found.representatives[first].central[0].row
    assert table["central"][0] == found.texts[row]
    pandas = pytest.importorskip("pandas")
    pandas.testing.assert_frame_equal(found.to_frame(), pandas.DataFrame(table))


def test_notebooks_show_a_table_and_run_nothing():
    hostile = "<script>alert(1)</script>"
    keywords = {c: [hostile] for c in range(40)}
    shown = Communities(np.repeat(range(40), 2), keywords=keywords)._repr_html_()
    assert "<script>" not in shown
    assert "&lt;script&gt;" in shown
    assert shown.count("<tr>") == 31
    assert shown.endswith("<p>and 10 more</p>")
    assert "<td>" not in Communities([-1, -1])._repr_html_()
