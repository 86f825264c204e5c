"""Data that several tests share, each made once."""

import numpy as np
import pytest

from skleiden import MultiLayerTfidfSketcher
from skleiden.datasets import make_layered_activations


@pytest.fixture(scope="session")
def layered():
    """400 rows of 3 sparse layers with 4 planted communities, and the communities."""
    return make_layered_activations(
        400,
        n_layers=3,
        n_neurons=300,
        n_communities=4,
        nnz_per_row=30,
        signal=0.75,
        random_state=0,
    )


@pytest.fixture(scope="session")
def stack(layered):
    return layered[0]


@pytest.fixture(scope="session")
def planted(layered):
    return layered[1]


@pytest.fixture(scope="session")
def embedding(stack):
    """The stack's embedding: unit rows, float32, not to be written to."""
    vectors = MultiLayerTfidfSketcher(n_components=32, random_state=0).fit_transform(
        stack
    )
    vectors.flags.writeable = False
    return vectors


@pytest.fixture
def blobs():
    """Directions of 90 rows around three axes of five dimensions; their axes."""
    rng = np.random.RandomState(0)
    target = np.arange(90) % 3
    return 5 * np.eye(5)[target] + rng.standard_normal((90, 5)), target
