"""Rows that are not those of the fit are refused, not described by others' labels."""

import numpy as np
import pytest
from sklearn.decomposition import PCA
from sklearn.pipeline import make_pipeline

from skleiden import (
    LayerStack,
    MultiLayerTfidfSketcher,
    MutualKNNLeiden,
)
from skleiden.datasets import make_layered_activations
from skleiden.inspection import describe_communities, explain
from skleiden.model_selection import StableLeiden


def fit(*between, stack):
    return make_pipeline(
        MultiLayerTfidfSketcher(16, layer_weights=None, random_state=0),
        *between,
        MutualKNNLeiden(10, random_state=0),
    ).fit(stack)


@pytest.fixture(scope="module")
def stack():
    return make_layered_activations(200, n_communities=4, random_state=0)[0]


@pytest.fixture(scope="module")
def pipeline(stack):
    return fit(stack=stack)


ORDERS = {
    "reversed": slice(None, None, -1),
    "moved by one": np.roll(np.arange(200), 1),
    "halves": np.r_[100:200, 0:100],
}


@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize("describe", [describe_communities, explain])
def test_another_order_is_refused(stack, pipeline, describe, order):
    more = (0,) if describe is explain else ()
    describe(pipeline, stack, *more)
    others = stack[np.arange(200)[ORDERS[order]]]
    with pytest.raises(ValueError, match=r"same order; row [0-9]+ is another one"):
        describe(pipeline, others, *more)


def test_other_steps_are_taken_into_account(stack):
    pipeline = fit(PCA(8, random_state=0), stack=stack)
    describe_communities(pipeline, stack)
    with pytest.raises(ValueError, match="is another one"):
        describe_communities(pipeline, stack[::-1])


def test_rows_that_are_zero_or_equal(stack):
    layers = [layer.toarray() for layer in stack.layers]
    for layer in layers:
        layer[:20], layer[20:60] = 0, layer[100]
    stack = LayerStack(layers)
    pipeline = fit(stack=stack)
    describe_communities(pipeline, stack)
    with pytest.raises(ValueError, match="is another one"):
        describe_communities(pipeline, stack[np.roll(np.arange(200), 10)])


def test_consensus_of_other_neurons(stack):
    stable = StableLeiden(
        make_pipeline(
            MultiLayerTfidfSketcher(16, layer_weights=None),
            MutualKNNLeiden(10),
        ),
        n_runs=2,
        vary="neurons",
        random_state=0,
    ).fit(stack)
    describe_communities(stable, stack)
    with pytest.raises(ValueError, match="is another one"):
        describe_communities(stable, stack[::-1])
