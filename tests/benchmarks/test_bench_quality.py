"""Choices without labels, and the table of all methods, are what the labels say."""

from __future__ import annotations

import json

import numpy as np
import pytest
import scipy.sparse as sp

from skleiden.datasets import make_layered_activations

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def activations(tmp_path_factory):
    """A file of 200 rows of two layers, with four planted communities."""
    stack, labels = make_layered_activations(
        200, 2, 150, n_communities=4, nnz_per_row=30, signal=0.8, random_state=0
    )
    arrays = {"labels": labels}
    for number, layer in enumerate(map(sp.csr_array, stack.layers)):
        for part in ("data", "indices", "indptr", "shape"):
            arrays[f"layer_{number}_{part}"] = np.asarray(getattr(layer, part))
    path = tmp_path_factory.mktemp("data") / "planted.npz"
    np.savez(path, **arrays)
    return path


@pytest.fixture
def bench_choice(benchmark_scripts, equal_weights, monkeypatch):
    """The script, of few resolutions, whose runs take all its time."""
    script = benchmark_scripts("bench_choice")
    equal_weights(script)
    monkeypatch.setattr(script, "RESOLUTIONS", [1.0, 4.0])
    return script


def test_choices(bench_choice, activations, tmp_path, capsys):
    output = tmp_path / "results.json"
    bench_choice.main([str(activations), "--quick", "--output", str(output)])
    printed = capsys.readouterr().out
    (data,) = json.loads(output.read_text())["data"]
    amis = [candidate["ami"] for candidate in data["candidates"]]
    assert data["best"] == max(amis) > 0.9
    for score, found in data["chosen"].items():
        scores = [candidate[score] for candidate in data["candidates"]]
        assert found["ami"] == amis[int(np.argmax(scores))]
        assert f"| {score} | {found['ami']:.3f} (" in printed


def test_quality(
    benchmark_scripts, bench_choice, activations, equal_weights, tmp_path, capsys
):
    bench_quality = benchmark_scripts("bench_quality")
    equal_weights(bench_quality)
    output = tmp_path / "results.json"
    options = ["--quick", "--output", str(output)]
    methods = ["skleiden", "chosen", "notebook"]
    bench_quality.main([str(activations), *options, "--methods", *methods])
    printed = capsys.readouterr().out
    (data,) = json.loads(output.read_text())["data"]
    assert (data["name"], data["rows"]) == ("planted", 200)
    assert list(data["methods"]) == methods
    for found in data["methods"].values():
        assert 0.5 < found["default"]["ami"] <= found["best"]["ami"] <= 1
        assert found["seconds"] > 0
        assert f"{found['default']['ami']:.3f}" in printed


def test_texts_of_other_rows_are_refused(benchmark_scripts, activations, capsys):
    """Those of the prompts that come with skleiden, of another file."""
    texts = ["--texts", "planted=prompts:none"]
    with pytest.raises(SystemExit) as ended:
        benchmark_scripts("bench_quality").main([str(activations), *texts])
    assert ended.value.code == 2
    assert "are not those of planted" in capsys.readouterr().err
