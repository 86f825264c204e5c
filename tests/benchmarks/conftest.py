"""What the tests of several scripts need."""

import importlib
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

from skleiden import MultiLayerTfidfSketcher

FOLDER = Path(__file__).parents[2] / "benchmarks"


@pytest.fixture(scope="module")
def benchmark_scripts():
    """Import a script of the benchmarks folder, which is no package, by its name."""
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(FOLDER))
        yield importlib.import_module


def run_here(script, monkeypatch):
    """Let a script do here what it does in processes of its own, which import it all.

    The command is the same, and in another test of most scripts it is run.
    """

    def run(command, check):
        assert command[:2] == [sys.executable, script.__file__]
        script.main([str(argument) for argument in command[2:]])

    monkeypatch.setattr(script, "subprocess", SimpleNamespace(run=run))


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
