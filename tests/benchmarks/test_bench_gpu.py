"""The benchmark of a GPU runs with torch's CPU as the card, and counts what it says."""

import json

import numpy as np
import pytest

pytest.importorskip("torch")
pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def bench_gpu(benchmark_scripts):
    return benchmark_scripts("bench_gpu")


def test_all_ways_give_the_same_labels(bench_gpu, tmp_path, capsys):
    X = np.random.default_rng(0).standard_normal((300, 8), dtype=np.float32)
    np.save(tmp_path / "own.npy", X)
    output = tmp_path / "results.json"
    options = ["--on-cpu", "--repeats", "2", "--output", str(output)]
    options += ["--sizes", "600x16", "--vectors", str(tmp_path / "own.npy")]
    bench_gpu.main(options)
    results = json.loads(output.read_text())
    names = [data["name"] for data in results["data"]]
    assert names == ["600 x 16", "own, 300 x 8"]
    for data in results["data"]:
        assert data["equal"]
        assert [row["way"] for row in data["ways"]] == ["cuda", "exact", "auto"]
        assert len(data["runs"]) == 6
        seconds = data["ways"][0]["seconds"]
        parts = sum(seconds[part] for part in bench_gpu.PARTS)
        assert parts == pytest.approx(seconds["search"], rel=0.3)
    assert "| own, 300 x 8 | cuda |" in capsys.readouterr().out


def test_it_starts_from_layers_and_leaves_out_what_takes_long(bench_gpu, capsys):
    options = ["--sizes", "400x0", "--layers", "2", "--exact-rows", "0", "--json"]
    bench_gpu.main(["--on-cpu", *options])
    (data,) = json.loads(capsys.readouterr().out)["data"]
    assert data["equal"] is None
    assert [row["way"] for row in data["ways"]] == ["cuda", "auto"]
    assert all(row["seconds"]["sketch"] > 0 for row in data["ways"])
