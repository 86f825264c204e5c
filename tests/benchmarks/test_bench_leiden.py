"""The benchmark of Leiden's backends."""

import importlib
import json
from multiprocessing import get_context
from pathlib import Path

import pytest

from tests.children import server

pytest.importorskip("cluster_libreville")
pytestmark = pytest.mark.slow

FOLDER = Path(__file__).parents[2] / "benchmarks"


def test_backends_are_compared_on_one_graph(
    monkeypatch, equal_weights, tmp_path, capsys
):
    monkeypatch.syspath_prepend(str(FOLDER))
    bench = importlib.import_module("bench_leiden")
    equal_weights(bench)
    # Its processes are started as those of tests are.
    monkeypatch.setattr(bench, "get_context", lambda _: get_context(server()))
    output = tmp_path / "leiden.json"
    options = ["--quick", "--rows", "400", "--resolutions", "1", "4"]
    bench.main([*options, "--threads", "1", "3", "--output", str(output)])
    data = json.loads(output.read_text())["data"]["prompts"]
    assert data["same_labels"]
    assert set(data["seconds_of_threads"]) == {"1", "3"}
    for row in data["compared"]:
        best = [max(one["quality"] for one in row[name]) for name in bench.BACKENDS]
        assert best[1] == pytest.approx(best[0], rel=0.01)
    assert set(data["bytes_of_an_edge"]) == set(bench.BACKENDS)
    assert "| prompts |" in capsys.readouterr().out
