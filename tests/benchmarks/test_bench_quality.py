"""Choices without labels, and the table of all methods, are what the labels say."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import scipy.sparse as sp

import skleiden
from skleiden.datasets import make_layered_activations

pytestmark = pytest.mark.slow

FOLDER = Path(__file__).parents[2] / "benchmarks"


@pytest.fixture(scope="module")
def activations(tmp_path_factory):
    """A file of 200 rows of two layers, with four planted communities."""
    stack, labels = make_layered_activations(
        200, n_layers=2, n_communities=4, signal=0.8, random_state=0
    )
    arrays = {"labels": labels}
    for number, layer in enumerate(map(sp.csr_array, stack.layers)):
        for part in ("data", "indices", "indptr", "shape"):
            arrays[f"layer_{number}_{part}"] = np.asarray(getattr(layer, part))
    path = tmp_path_factory.mktemp("data") / "planted.npz"
    np.savez(path, **arrays)
    return path


def run(script, *arguments, cwd):
    root = str(Path(skleiden.__file__).parents[1])
    path = os.pathsep.join(filter(None, [root, os.environ.get("PYTHONPATH")]))
    return subprocess.run(
        [sys.executable, str(FOLDER / script), *map(str, arguments)],
        cwd=cwd,
        env=os.environ | {"PYTHONPATH": path},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )


def test_choices(activations, tmp_path):
    finished = run(
        *("bench_choice.py", activations, "--quick", "--output", "results.json"),
        cwd=tmp_path,
    )
    assert finished.returncode == 0, finished.stderr
    (data,) = json.loads((tmp_path / "results.json").read_text())["data"]
    amis = [candidate["ami"] for candidate in data["candidates"]]
    assert data["best"] == max(amis) > 0.9
    for score, found in data["chosen"].items():
        scores = [candidate[score] for candidate in data["candidates"]]
        assert found["ami"] == amis[int(np.argmax(scores))]
        assert f"| {score} | {found['ami']:.3f} (" in finished.stdout


def test_quality(activations, tmp_path):
    finished = run(
        *("bench_quality.py", activations, "--quick", "--output", "results.json"),
        *("--methods", "skleiden", "chosen", "notebook"),
        cwd=tmp_path,
    )
    assert finished.returncode == 0, finished.stderr
    (data,) = json.loads((tmp_path / "results.json").read_text())["data"]
    assert (data["name"], data["rows"]) == ("planted", 200)
    assert list(data["methods"]) == ["skleiden", "chosen", "notebook"]
    for found in data["methods"].values():
        assert 0.5 < found["default"]["ami"] <= found["best"]["ami"] <= 1
        assert found["seconds"] > 0
        assert f"{found['default']['ami']:.3f}" in finished.stdout


def test_texts_of_other_rows_are_refused(activations, tmp_path):
    """Those of the prompts that come with skleiden, of another file."""
    prompts = "planted=prompts:none"
    finished = run("bench_quality.py", activations, "--texts", prompts, cwd=tmp_path)
    assert finished.returncode == 2
    assert "are not those of planted" in finished.stderr
