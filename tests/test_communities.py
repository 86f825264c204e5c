"""All that is known of a clustering: gathered, saved, loaded."""

import json

import numpy as np
import pandas as pd
import pytest
from numpy.testing import assert_array_equal
from sklearn.pipeline import make_pipeline

from skleiden import LayerStack, MultiLayerTfidfSketcher, MutualKNNLeiden
from skleiden.inspection import (
    Communities,
    describe_communities,
    layer_agreement,
    representatives,
    top_features,
)
from skleiden.io import load_communities, save_communities, save_labels
from skleiden.model_selection import StableLeiden

TEXTS = [f"prompt {i}" for i in range(400)]


@pytest.fixture(scope="module")
def pipeline(stack):
    return make_pipeline(
        MultiLayerTfidfSketcher(n_components=32, random_state=0),
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
    return describe_communities(pipeline, named, texts=TEXTS, stability=stability)


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
    other["layer_1"].data[17] *= 2
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
        (lambda _: "[]", "holds no communities: its format is not"),
        (lambda text: text.replace("skleiden-comm", "other-comm"), "holds no comm"),
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


# --- save_labels ----------------------------------------------------------------------


def test_labels_as_a_table(tmp_path, found):
    save_labels(tmp_path / "labels.csv", found)
    save_labels(tmp_path / "labels.parquet", found)
    table = pd.read_csv(tmp_path / "labels.csv")
    assert list(table) == ["id", "community"]
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
