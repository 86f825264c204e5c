"""What the tests of several scripts need."""

import importlib
from pathlib import Path

import pytest

from skleiden import MultiLayerTfidfSketcher

FOLDER = Path(__file__).parents[2] / "benchmarks"


@pytest.fixture(scope="module")
def benchmark_scripts():
    """Import a script of the benchmarks folder, which is no package, by its name."""
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(FOLDER))
        yield importlib.import_module


@pytest.fixture
def equal_weights(monkeypatch):
    """Let a script's sketches find no weights of layers, which takes most of the time.

    What is tested is what the script makes of its runs.
    """

    def sketcher(*arguments, **parameters):
        if parameters.get("layer_weights", "auto") == "auto":
            parameters["layer_weights"] = None
        return MultiLayerTfidfSketcher(*arguments, **parameters)

    return lambda script: monkeypatch.setattr(
        script, "MultiLayerTfidfSketcher", sketcher
    )
