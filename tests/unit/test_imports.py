"""What importing the package costs, and what it leaves unimported."""

import subprocess
import sys
from pathlib import Path

import pytest

import skleiden

LAZY = [
    "faiss",
    "igraph",
    "leidenalg",
    "matplotlib",
    "torch",
    "safetensors",
    "zarr",
    "h5py",
    "jinja2",
    "markupsafe",
]
MODULES = [
    "cli",
    "datasets",
    "inspection",
    "io",
    "model_selection",
    "plotting",
    "report",
]


def imported(code):
    """Modules that are there after running some code in a new process."""
    program = f"{code}\nimport sys; print(*sys.modules)"
    run = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    return set(run.stdout.split())


@pytest.fixture(scope="module")
def scikit_learns():
    """What scikit-learn imports itself, pandas in some of its versions."""
    return imported("import sklearn.pipeline, sklearn.metrics, sklearn.model_selection")


def test_backends_and_extras_are_imported_when_needed(scikit_learns):
    everything = "; ".join(f"import skleiden.{name}" for name in MODULES)
    found = imported(f"from skleiden import *; {everything}") - scikit_learns
    assert found.isdisjoint([*LAZY, "pandas", "pyarrow"])
    assert {f"skleiden.{name}" for name in MODULES} <= found


@pytest.mark.slow
def test_fit_imports_no_extras():
    found = imported(
        "import numpy as np; from skleiden import MutualKNNLeiden; "
        "MutualKNNLeiden(5).fit(np.random.RandomState(0).standard_normal((50, 4)))"
    )
    assert {"faiss", "igraph"} <= found
    # (igraph itself imports matplotlib, where that is installed.)
    assert found.isdisjoint({"leidenalg", "torch", "safetensors", "jinja2"})


def test_types_are_there_for_those_who_import():
    marker = Path(skleiden.__file__).with_name("py.typed")
    assert marker.is_file()


def test_the_package_alone_imports_nothing():
    found = imported("import skleiden")
    assert found.isdisjoint(["numpy", "scipy", "sklearn", *LAZY])
