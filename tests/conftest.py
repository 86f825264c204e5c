"""Data that several tests share, each made once."""

import os
import tempfile
from pathlib import Path

import numpy as np
import pytest

from skleiden import MultiLayerTfidfSketcher
from skleiden.datasets import make_layered_activations


def pytest_collection_modifyitems(items):
    """Mark what opens a browser, by the fixture that does."""
    for item in items:
        if "browser" in getattr(item, "fixturenames", ()):
            item.add_marker(pytest.mark.browser)


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


@pytest.fixture
def read_only_folder():
    """A folder in which this process cannot make files, even if it is root's."""
    # Not in tmp_path, which nobody but its owner can enter.
    with tempfile.TemporaryDirectory() as name:
        Path(name).chmod(0o555)
        root = hasattr(os, "geteuid") and os.geteuid() == 0
        if root:
            os.seteuid(65534)
        try:
            yield Path(name).resolve()
        finally:
            if root:
                os.seteuid(0)
            Path(name).chmod(0o755)
