"""Data that several unit tests share, each made once a process."""

import sys

import pytest

from skleiden import MultiLayerTfidfSketcher
from skleiden.datasets import load_prompt_activations


@pytest.fixture(scope="session")
def prompt_vectors():
    """The embedding of real prompts, not to be written to.

    Its weights of layers are those that the defaults find, which takes seconds.
    """
    weights = [0.102, 0.002, 0.003, 0.002, 0.014, 1.0]
    sketcher = MultiLayerTfidfSketcher(layer_weights=weights, random_state=0)
    vectors = sketcher.fit_transform(load_prompt_activations().data)
    vectors.flags.writeable = False
    return vectors


@pytest.fixture(autouse=True, scope="module")
def _no_figures_left():
    """Close all figures, of which matplotlib warns where more than 20 are open."""
    yield
    if "matplotlib.pyplot" in sys.modules:
        sys.modules["matplotlib.pyplot"].close("all")
