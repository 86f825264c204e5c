"""``skleiden layers``, on a user's files."""

import csv
import inspect
import json

import numpy as np
import pytest
from numpy.testing import assert_allclose

from skleiden._stages import replicate
from skleiden.cli import main
from skleiden.datasets import make_layered_activations
from skleiden.io import load_communities
from skleiden.model_selection import layer_profile, permute_columns
from tests.unit.cli.test_options import defaults_of

pytestmark = pytest.mark.slow


@pytest.fixture
def files(tmp_path):
    """A layer of communities and one of noise, as a file each."""
    stack, _ = make_layered_activations(
        200, n_layers=2, n_neurons=300, n_communities=4, signal=0.8, random_state=0
    )
    noise = permute_columns(stack, random_state=0)
    folder = tmp_path / "activations"
    folder.mkdir()
    np.save(folder / "a.npy", stack.layers[0].toarray())
    np.save(folder / "noise.npy", noise.layers[1].toarray())
    return [folder / "a.npy", folder / "noise.npy"]


def run(*arguments):
    return main([str(argument) for argument in arguments])


def table(path):
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def test_options_are_those_of_the_function():
    found = defaults_of("layers")
    expected = inspect.signature(layer_profile).parameters
    for name in ("n_rows", "n_splits", "n_permutations", "random_state"):
        assert found[name] == expected[name].default
    assert found.keys().isdisjoint({"n_components", "layer_weights", "n_neighbors"})


def test_layers(files, tmp_path, capsys):
    pytest.importorskip("matplotlib")
    out, few = tmp_path / "out", ["--n-permutations", 1, "--n-splits", 2]
    assert run("layers", *files, "--out", out, *few) == 0
    printed, progress = capsys.readouterr()
    assert all(stage in progress for stage in ("Load", "Compare", "Save"))
    assert "Best: --layers a. Of all layers: --layer-weights 1,0." in printed
    rows = table(out / "layers.csv")
    assert [row["layer"] for row in rows] == ["a", "noise"]
    assert rows[0]["above_null"] == "True"
    agreement = table(out / "agreement.csv")
    assert [row[""] for row in agreement] == ["a", "noise"]
    assert float(agreement[0]["a"]) == 1
    assert (out / "layers.png").read_bytes().startswith(b"\x89PNG")
    again = ["--overwrite", "--json", "-q"]
    assert run("layers", *files, "--out", out, *few, *again) == 0
    printed, progress = capsys.readouterr()
    assert progress == ""
    result = json.loads(printed)
    assert result["best"] == "a"
    assert result["not_saved"] == []
    names = ["layers.csv", "agreement.csv", "layers.png", "manifest.json"]
    assert result["saved"] == [str(out / name) for name in names]
    assert_allclose(
        result["table"]["replicability"], [float(row["replicability"]) for row in rows]
    )
    assert result["agreement"]["a"][1] == float(agreement[1]["a"])


def test_no_layer_to_trust(files, tmp_path, capsys):
    assert run("layers", files[1], "--out", tmp_path / "out", "-q") == 0
    assert "Best: none. None of 1 layers is above its null" in capsys.readouterr().out


def test_an_interrupted_profile_is_saved_and_told(files, tmp_path, monkeypatch, capsys):
    compare, calls = replicate.compare_halves, []

    def stop(*arguments):
        calls.append(arguments)
        if len(calls) > 1:
            raise KeyboardInterrupt
        return compare(*arguments)

    monkeypatch.setattr(replicate, "compare_halves", stop)
    arguments = ["layers", *files, "--out", tmp_path / "out", "-q"]
    arguments += ["--n-permutations", 0]
    with pytest.warns(
        UserWarning, match="Interrupted: the profile holds 1 of 2 layers"
    ):
        assert run(*arguments) == 130
    assert not (tmp_path / "out").exists()
    assert len(table(tmp_path / "out.partial" / "layers.csv")) == 1


def test_too_little_memory_is_told_by_stage(files, tmp_path, monkeypatch, capsys):
    def fail(*_):
        raise MemoryError

    monkeypatch.setattr(replicate, "compare_halves", fail)
    assert run("layers", *files, "--out", tmp_path / "out") == 1
    assert "in the stage 'Compare'; lower --n-rows" in capsys.readouterr().err


def test_cluster_tells_weights_and_replicability(files, tmp_path, capsys):
    pytest.importorskip("jinja2")
    out = tmp_path / "out"
    options = ["--layer-weights", "auto", "--n-neighbors", 15, "--json", "-q"]
    assert run("cluster", *files, "--out", out, *options) == 0
    result = json.loads(capsys.readouterr().out)
    assert result["layer_weights"]["a"] == 1
    assert result["layer_weights"]["noise"] < 0.1
    assert set(result["layer_replicability"]) == {"a", "noise"}
    summary = load_communities(out / "communities.json").summary
    assert summary["layer_weights"] == result["layer_weights"]
    page = (out / "report.html").read_text(encoding="utf-8")
    assert "replicability" in page
    assert run("cluster", *files, "--out", out, "--overwrite", "--layer-weights=1,3",
               "--json", "-q") == 0  # fmt: skip
    result = json.loads(capsys.readouterr().out)
    assert result["layer_weights"] == {"a": 1, "noise": 3}
    assert "layer_replicability" not in result
