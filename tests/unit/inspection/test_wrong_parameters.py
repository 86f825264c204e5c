"""Parameters of wrong types and out of range: each error says which it is."""

import numpy as np
import pytest
from sklearn.pipeline import make_pipeline

from skleiden import MultiLayerTfidfSketcher, MutualKNNLeiden
from skleiden.inspection import (
    Communities,
    community_map,
    community_tree,
    compare,
    cross_table,
    describe_communities,
    explain,
    keywords,
    layer_agreement,
    members,
    neuron,
    prototypes,
    representatives,
    split,
    top_features,
)

LABELS = np.tile([0, 1], 50)


@pytest.fixture(scope="module")
def fitted():
    rng = np.random.RandomState(0)
    X = rng.random_sample((100, 30)) * (LABELS[:, None] == np.arange(30) % 2)
    return make_pipeline(
        MultiLayerTfidfSketcher(16, random_state=0),
        MutualKNNLeiden(10, random_state=0),
    ).fit(X), X


def of_fitted(function, **given):
    return lambda fitted, wrong: function(*fitted, **given, **wrong)


def of_estimator(function, *given):
    return lambda fitted, wrong: function(fitted[0], *given, **wrong)


def of_labels(function, *more):
    return lambda fitted, wrong: function(fitted[1], LABELS, *more, **wrong)


def without(function, *given, **named):
    return lambda _, wrong: function(*given, **named, **wrong)


@pytest.mark.parametrize(
    ("call", "name", "values"),
    [
        (without(compare, LABELS, LABELS), "min_share", ["a", None, 0, 0.6, [0.1]]),
        (without(members, LABELS), "min_size", ["a", None, -1, 1.5, np.nan]),
        (without(members, LABELS), "ids", [5, True, object()]),
        (without(keywords, labels=LABELS), "texts", [5, None, "a", object()]),
        (without(keywords, ["a"] * 100, LABELS), "n_keywords", ["a", None, 0, 1.5]),
        (of_fitted(explain), "row", [1.5, None, True, [1], object()]),
        (of_fitted(explain, row=0), "n_features", ["a", None, 0, 1.5]),
        (of_fitted(describe_communities), "ids", [5, object()]),
        (of_fitted(describe_communities), "texts", [5, object()]),
        (of_fitted(describe_communities), "max_map_rows", ["a", None, -1, 1.5]),
        (of_fitted(describe_communities), "n_representatives", ["a", None, 0, 1.5]),
        (of_fitted(describe_communities), "stability", [object(), "a"]),
        (of_estimator(community_tree), "texts", [5, "a", object()]),
        (of_estimator(community_tree), "min_replicability", ["a", None, 1.5]),
        (of_estimator(community_tree), "max_depth", ["a", 0, 1.5]),
        (of_estimator(split, 0), "resolution", ["a", 0, [1]]),
        (of_estimator(split, 0), "n_clusters", ["a", 1, 2.5]),
        (of_estimator(representatives), "n", ["a", None, 0, 1.5]),
        (of_labels(prototypes), "standardize", ["a", None, 1, [True]]),
        (of_labels(top_features), "n_features", ["a", None, 0, 1.5]),
        (of_labels(layer_agreement, [15, 15]), "n_neighbors", ["a", None, 0, 1.5]),
        (of_labels(layer_agreement, [15, 15]), "max_members", ["a", None, 0, 1.5]),
        (
            lambda fitted, wrong: neuron(fitted[1], number=0, **wrong),
            "layer",
            [5, None, [1, 2], "layer_9"],
        ),
        (
            lambda fitted, wrong: neuron(fitted[1], "layer_0", 0, **wrong),
            "texts",
            [5, object()],
        ),
        (
            lambda fitted, wrong: cross_table(
                LABELS, np.zeros(30, int), fitted[1], **wrong
            ),
            "min_effect",
            ["a", None, -1],
        ),
        (
            lambda fitted, wrong: community_map(
                fitted[0][-1].affinity_matrix_, **wrong
            ),
            "max_rows",
            ["a", None, 0, 1.5],
        ),
        (without(Communities, LABELS), "confidence", [["a"] * 100, [object()] * 100]),
    ],
)
def test_errors_name_the_parameter(fitted, call, name, values):
    for value in values:
        with pytest.raises((ValueError, TypeError)) as raised:
            call(fitted, {name: value})
        text = str(raised.value)
        assert text.startswith((name, f"The '{name}' parameter of "))
        assert " must be " in text


def test_more_neighbours_than_there_could_be_are_all(fitted):
    every = layer_agreement(fitted[1], LABELS, [15, 15], n_neighbors=99)
    most = layer_agreement(fitted[1], LABELS, [15, 15], n_neighbors=2**70)
    np.testing.assert_equal(most, every)
