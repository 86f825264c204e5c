"""What is given beside X fits it, or is refused."""

import numpy as np
import pytest
from sklearn.pipeline import make_pipeline

from skleiden import LayerStack, MultiLayerTfidfSketcher, MutualKNNLeiden
from skleiden.inspection import (
    Communities,
    compare,
    cross_table,
    describe_communities,
    keywords,
    layer_agreement,
    members,
    neuron,
    prototypes,
    top_features,
)

X = np.random.RandomState(0).rand(6, 5)
STACK = LayerStack({"a": X[:, :2], "b": X[:, 2:]})
LABELS = [0, 0, 1, 1, 2, -1]


@pytest.mark.parametrize(
    "of",
    [
        lambda X, layers: neuron(X, "a", 0, layers=layers),
        lambda X, layers: prototypes(X, LABELS, layers=layers),
        lambda X, layers: top_features(X, LABELS, layers=layers),
    ],
)
@pytest.mark.parametrize("X", [STACK, dict(zip("ab", STACK.layers, strict=True))])
@pytest.mark.parametrize("layers", [[3, 2], {"a": 2, "c": 3}])
def test_layers_beside_layers_are_refused(of, X, layers):
    with pytest.raises(ValueError, match=r"contradicts the layers of X, .*'a': 2, 'b'"):
        of(X, layers)
    of(X, {"a": 2, "b": 3})


# --- Series, whose index may be another order -----------------------------------------

IDS = [f"q{i}" for i in range(6)]
NAMED = LayerStack(dict(zip(STACK.names, STACK.layers, strict=True)), ids=IDS)


def series(values, index=IDS):
    return pytest.importorskip("pandas").Series(list(values), index=index)


def frame():
    return pytest.importorskip("pandas").DataFrame(X, index=IDS)


FIRST = [0, 0, 0, 1, 1, 1]
OF_SERIES = {
    "prototypes": lambda of: prototypes(NAMED, of(FIRST)),
    "of a data frame": lambda of: prototypes(frame(), of(FIRST)),
    "of data frames": lambda of: prototypes({"a": frame()}, of(FIRST)),
    "top_features": lambda of: top_features(NAMED, of(FIRST)),
    "neuron": lambda of: neuron(NAMED, "a", 0, of(FIRST)),
    "of neuron": lambda of: neuron(frame(), "layer_0", 0, of(FIRST)),
    "texts": lambda of: neuron(NAMED, "a", 0, texts=of("uvwxyz")),
    "members": lambda of: members(of(FIRST), IDS),
    "keywords": lambda of: keywords(series(["a b"] * 6), of(FIRST)),
    "layer_agreement": lambda of: layer_agreement(frame(), of(FIRST), [2, 3]),
    "cross_table": lambda of: cross_table(of(FIRST), [0] * 5, NAMED, n_permutations=0),
    "Communities": lambda of: Communities(of(FIRST), IDS),
    "confidence": lambda of: Communities(FIRST, IDS, confidence=of([0.5] * 6)),
    "of texts": lambda of: Communities(FIRST, IDS, texts=of("uvwxyz")),
    "compare": lambda of: compare(series(FIRST), of(FIRST)),
    "and": lambda of: compare(of(FIRST), Communities(FIRST, IDS)),
}


@pytest.mark.parametrize("take", OF_SERIES.values(), ids=OF_SERIES)
def test_a_series_in_another_order_than_the_rows_is_refused(take):
    """By place, its values would be those of other rows."""
    told = r" must be in the order of the rows; got an index of 6 rows, 'q5', 'q4', 'q3"
    with pytest.raises(ValueError, match=told):
        take(lambda values: series(values)[::-1])
    take(series)
    take(lambda values: series(values).reset_index(drop=True)[::-1].to_numpy())
    take(lambda values: series(values, index=range(10, 16)))


def test_texts_of_a_described_clustering_in_another_order(stack):
    ids = [f"q{i}" for i in range(len(stack))]
    layers = dict(zip(stack.names, stack.layers, strict=True))
    named = LayerStack(layers, ids=ids)[:100]
    fitted = make_pipeline(
        MultiLayerTfidfSketcher(8, layer_weights=None, random_state=0),
        MutualKNNLeiden(n_neighbors=8, random_state=0),
    ).fit(named)
    texts = series([f"text {i}" for i in range(100)], ids[:100])
    with pytest.raises(ValueError, match=r"texts must be in the order of the rows"):
        describe_communities(fitted, named, texts=texts[::-1], max_map_rows=0)
    found = describe_communities(fitted, named, texts=texts, max_map_rows=0)
    assert found.texts == texts.tolist()


# --- listings that are none -----------------------------------------------------------


@pytest.mark.parametrize("texts", ["uvwxyz", {*"uvwxyz"}, b"uvwxyz", frame])
@pytest.mark.parametrize(
    "take",
    [
        lambda texts: neuron(STACK, "a", 0, texts=texts),
        lambda texts: keywords(texts, FIRST),
        lambda texts: Communities(FIRST, texts=texts),
    ],
)
def test_what_lists_no_texts_in_order_is_refused(texts, take):
    texts = texts() if callable(texts) else texts
    with pytest.raises(TypeError, match="texts must be a sequence of strings, one for"):
        take(texts)


def test_texts_by_id_are_not_taken_for_a_list():
    with pytest.raises(TypeError, match="texts must be a sequence of strings, one for"):
        keywords(dict.fromkeys(IDS, "bread"), FIRST)
    texts = {"b": "B", "a": "A"}
    assert Communities([0, 1], ["a", "b"], texts=texts).texts == ["A", "B"]


@pytest.mark.parametrize("ids", ["abcdef", {*"abcdef"}, dict.fromkeys("abcdef")])
@pytest.mark.parametrize(
    "take",
    [lambda ids: members(FIRST, ids), lambda ids: Communities(FIRST, ids)],
)
def test_what_lists_no_ids_in_order_is_refused(ids, take):
    with pytest.raises(TypeError, match="ids must be a sequence of one id per row; go"):
        take(ids)
    take(dict.fromkeys("abcdef").keys())


# --- values of rows -------------------------------------------------------------------


@pytest.mark.parametrize(
    ("known", "told"),
    [
        (
            {"second": [0, 0.7]},
            r"second must be an array of int64; got 0\.7 in row 1",
        ),
        ({"attached": [2, 0]}, r"attached must be an array of bool; got 2 in row 0\."),
    ],
)
def test_values_that_a_cast_would_change_are_refused(known, told):
    with pytest.raises(ValueError, match=told):
        Communities([0, 1], **known)
    Communities([0, 1], second=[1.0, -1.0], attached=[1.0, 0])
