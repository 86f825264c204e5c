"""What communities are called, and how well they and their rows hang together."""

import numpy as np
import pytest
import scipy.sparse as sp
from numpy.testing import assert_allclose, assert_array_equal
from sklearn.pipeline import make_pipeline

from skleiden import LayerStack, MultiLayerTfidfSketcher, MutualKNNLeiden
from skleiden.inspection import (
    Communities,
    describe_communities,
    members,
    neuron,
    representatives,
)
from skleiden.inspection._belonging import cohesion, second_communities
from skleiden.io import load_communities, save_communities

WORDS = [
    "river delta",
    "chess gambit",
    "copper mine",
    "violin bow",
    "tomato soup",
    "train",
]


@pytest.fixture(scope="module")
def pipeline(stack):
    return make_pipeline(
        MultiLayerTfidfSketcher(32, layer_weights=None, random_state=0),
        MutualKNNLeiden(n_neighbors=15, random_state=0),
    ).fit(stack)


@pytest.fixture(scope="module")
def texts(pipeline):
    """Two words for each community; the last has none in common."""
    labels = pipeline[-1].labels_
    return [
        f"{WORDS[label]} {row}" if label < labels.max() else f"w{row}"
        for row, label in enumerate(labels)
    ]


def describe(pipeline, stack, **options):
    return describe_communities(
        pipeline, stack, max_map_rows=0, n_strongest=0, **options
    )


def test_names_are_made_of_keywords(pipeline, stack, texts):
    found = describe(pipeline, stack, texts=texts)
    last = found.labels.max()
    assert list(found.names) == list(members(found.labels, min_size=1))
    assert found.names[0] == ", ".join(found.keywords[0][:3])
    assert set(found.names[0].replace(",", "").split()) == {"river", "delta"}
    assert (found.keywords[last], found.names[last]) == ([], "no words in common")
    assert describe(pipeline, stack).names == {}


def test_names_that_are_given(pipeline, stack, texts):
    found = describe(pipeline, stack, texts=texts, names={1: "games \ud800"})
    assert found.names[1] == "games \N{REPLACEMENT CHARACTER}"
    assert found.names[0] == ", ".join(found.keywords[0])
    assert describe(pipeline, stack, names={np.int64(1): "games"}).names == {1: "games"}


def test_namer_has_central_texts_and_keywords(pipeline, stack, texts):
    calls = []

    def namer(texts, keywords):
        calls.append((texts, keywords))
        return f"name {len(calls)}"

    found = describe(pipeline, stack, texts=texts, names={1: "games"}, namer=namer)
    central = representatives(pipeline)
    asked = [label for label in members(found.labels, min_size=1) if label != 1]
    expected = [
        ([texts[one.row] for one in central[c].central], found.keywords[c])
        for c in asked
    ]
    assert calls == expected
    assert found.names == {1: "games"} | {
        label: f"name {i + 1}" for i, label in enumerate(asked)
    }


def test_errors_of_a_namer_name_the_community(pipeline, stack, texts):
    def namer(texts, keywords):
        raise ConnectionError("no model there")

    with pytest.raises(ConnectionError, match="no model there") as caught:
        describe(pipeline, stack, texts=texts, names={0: "rivers"}, namer=namer)
    (note,) = caught.value.__notes__
    assert note.startswith("namer failed for community 1, with keywords ['chess")


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        (
            {"names": {77: "x"}},
            ValueError,
            r"got 'x' for community 77, of \d+ from 0 to",
        ),
        (
            {"names": {-1: "x"}},
            ValueError,
            "names must be of communities of the labels",
        ),
        ({"names": {0: 3}}, TypeError, "names must be strings; got 3 for community 0"),
        ({"names": {"0": "x"}}, TypeError, "by the number of a community; got '0'"),
        ({"names": {True: "x"}}, TypeError, "by the number of a community; got True"),
        (
            {"names": ["x"]},
            TypeError,
            "names must be a mapping .*; got list. Give a dict",
        ),
        ({"namer": str}, ValueError, "namer names .* by their texts; got texts=None"),
        ({"rows": "cells"}, ValueError, r"one of 'prompts', 'tokens'.*; got 'cells'"),
        (
            {"n_strongest": -1},
            ValueError,
            "n_strongest must be an integer of at least 1",
        ),
    ],
)
def test_bad_names(pipeline, stack, monkeypatch, options, error, message):
    """They are told before the work."""
    monkeypatch.setattr("skleiden.inspection._communities.community_sums", pytest.fail)
    with pytest.raises(error, match=message):
        describe_communities(pipeline, stack, **options)


def test_namer_must_give_a_string(pipeline, stack, texts):
    message = "namer must return a string; got None for community 0. Return the name"
    with pytest.raises(TypeError, match=message):
        describe(pipeline, stack, texts=texts, namer=lambda *_: None)


def test_names_of_communities_without_an_estimator():
    assert Communities([0, 0, -1], names={0: "a"}).names == {0: "a"}
    with pytest.raises(ValueError, match=r"for community 1, of 1 from 0 to 0\. Leave"):
        Communities([0, 0, -1], names={1: "a"})
    with pytest.raises(ValueError, match="got 'a' for community 0, of none"):
        Communities([-1], names={0: "a"})


def two_themes(first, second):
    """Activations of two kinds of rows, and their texts."""
    rng = np.random.default_rng(0)
    kinds = np.arange(60) % 2
    patterns = rng.random((2, 50)) < 0.3
    X = patterns[kinds] * rng.uniform(0.5, 1, (60, 50))
    some = [first, second]
    texts = [some[kind][row // 2 % len(some[kind])] for row, kind in enumerate(kinds)]
    return LayerStack({"mlp": X}), texts


@pytest.mark.parametrize(
    ("first", "second", "words"),
    [
        (
            ["Das Brot ist im Ofen", "Wir backen ein Brot", "Brot und Salz"],
            ["Der Zug fährt spät", "Ein Zug nach Köln", "Im Zug ist es laut"],
            {"brot", "zug"},
        ),
        (
            ["我喜欢吃面包", "面包很好吃", "妈妈买面包"],
            ["火车很快", "坐火车去北京", "火车站在哪里"],
            {"面包", "火车"},
        ),
    ],
    ids=["German", "Chinese"],
)
def test_names_in_other_languages(first, second, words, tmp_path):
    stack, texts = two_themes(first, second)
    pipeline = make_pipeline(
        MultiLayerTfidfSketcher(16, layer_weights=None, random_state=0),
        MutualKNNLeiden(n_neighbors=10, resolution=0.1, random_state=0),
    ).fit(stack)
    found = describe(pipeline, stack, texts=texts)
    assert len(found.names) == 2
    assert {name.split(", ")[0] for name in found.names.values()} == words
    save_communities(tmp_path / "c.json", found)
    assert load_communities(tmp_path / "c.json").names == found.names


def test_names_of_groups_of_neurons(stack):
    neurons = stack.neurons()
    pipeline = make_pipeline(
        MultiLayerTfidfSketcher(random_state=0), MutualKNNLeiden(random_state=0)
    ).fit(neurons)
    calls = []

    def namer(texts, keywords):
        calls.append(texts)
        return " and ".join(keywords)

    prompts = [f"prompt {row % 4}" for row in range(len(stack))]
    found = describe(pipeline, neurons, texts=prompts, namer=namer)
    strongest = found.top_features[next(iter(found.representatives))]
    assert calls[0] == [of.text for of in strongest]
    assert found.names == {c: " and ".join(found.keywords[c]) for c in found.names}


# --- How well they hang together ------------------------------------------------------


def test_cohesion_is_what_plain_numpy_says(pipeline, stack):
    leiden = pipeline[-1]
    labels, weights = leiden.labels_, leiden.affinity_matrix_.toarray().astype(float)
    expected = [
        weights[np.ix_(labels == c, labels == c)].sum() / weights[labels == c].sum()
        for c in range(labels.max() + 1)
    ]
    assert_allclose(cohesion(leiden.affinity_matrix_, labels), expected)
    assert_allclose(describe(pipeline, stack).cohesion, expected)


def test_strength_and_second_communities_are_those_of_the_estimator(pipeline, stack):
    found, leiden = describe(pipeline, stack), pipeline[-1]
    assert_allclose(found.strength, leiden.strength_, atol=1e-6)
    shares = leiden.membership_.toarray()
    own = np.take_along_axis(shares, leiden.labels_[:, None], axis=1)[:, 0]
    np.put_along_axis(shares, leiden.labels_[:, None], 0, axis=1)
    expected = np.where(shares.max(axis=1) >= own / 2, shares.argmax(axis=1), -1)
    assert (expected >= 0).any()
    assert_array_equal(found.second, expected)


def test_cohesion_without_edges_is_unknown():
    graph = sp.csr_array([[0, 1.0, 0], [1, 0, 0], [0, 0, 0]])
    assert_array_equal(cohesion(graph, np.array([0, 0, 1])), [1, np.nan])
    assert_array_equal(cohesion(graph, np.array([0, -1, 2])), [0, np.nan, np.nan])
    assert cohesion(graph, np.array([-1, -1, -1])).size == 0


def test_rows_between_two_communities():
    membership = sp.csr_array(
        [
            [0.7, 0.3, 0],  # the other has less than half of it
            [0.6, 0.3, 0.1],  # half of it
            [0.5, 0.25, 0.25],  # the first of equal ones
            [0.2, 0.1, 0.7],  # it is nearer to another
            [0, 0, 0],
            [0.5, 0.5, 0],  # noise lies between none
            [0, 0.4, 0.6],  # none of it is its own
        ]
    )
    labels = np.array([0, 0, 0, 0, 0, -1, 0])
    second = second_communities(membership, labels)
    assert second.dtype == np.int64
    assert_array_equal(second, [-1, 1, 1, 2, -1, -1, 2])


# --- What neurons fire on -------------------------------------------------------------


def test_activity_is_that_of_inspection_neuron(pipeline, stack):
    found = describe_communities(
        pipeline, stack, n_features=3, n_strongest=4, max_map_rows=0
    )
    listed = {(of.layer, of.neuron) for c in found.top_features.values() for of in c}
    assert {(one.layer, one.neuron) for one in found.neurons} == listed
    assert len(found.neurons) == len(listed)
    for one in found.neurons:
        expected = neuron(stack, one.layer, one.neuron, found.labels, n_rows=4)
        assert [row for row, _ in one.strongest] == [
            of.row for of in expected.strongest
        ]
        assert_allclose(
            [value for _, value in one.strongest],
            [of.activation for of in expected.strongest],
            rtol=1e-3,
        )
        assert_allclose(
            [one.mean, one.share], [expected.mean, expected.share], rtol=1e-3
        )
        figures = {
            c: (mean, share)
            for c, mean, share in zip(
                *(expected.table[name] for name in ("community", "mean", "share")),
                strict=True,
            )
        }
        means = [mean for _, mean, _ in one.communities]
        assert means == sorted(means, reverse=True)
        assert len(means) == min(8, len(figures))
        for c, *told in one.communities:
            assert_allclose(told, figures[c], rtol=1e-3)
