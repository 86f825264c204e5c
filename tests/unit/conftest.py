"""Data that several unit tests share, each made once a process."""

import sys

import pytest

from skleiden import MultiLayerTfidfSketcher
from skleiden.datasets import load_prompt_activations


@pytest.fixture(scope="session")
def prompt_vectors():
    """The embedding of real prompts by the defaults, not to be written to.

    Most of its seconds go into the weights of layers.
    """
    sketcher = MultiLayerTfidfSketcher(random_state=0)
    vectors = sketcher.fit_transform(load_prompt_activations().data)
    vectors.flags.writeable = False
    return vectors


@pytest.fixture(autouse=True, scope="module")
def _no_figures_left():
    """Close all figures, of which matplotlib warns where more than 20 are open."""
    yield
    if "matplotlib.pyplot" in sys.modules:
        sys.modules["matplotlib.pyplot"].close("all")
