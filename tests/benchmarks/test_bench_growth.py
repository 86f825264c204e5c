"""The benchmarks of neighbours and of growth run, and count what they say."""

import json

import numpy as np
import pytest

from .test_benchmarks import benchmark_scripts  # noqa: F401

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def bench_neighbors(benchmark_scripts):  # noqa: F811
    return benchmark_scripts("bench_neighbors")


@pytest.fixture(scope="module")
def bench_scaling(benchmark_scripts):  # noqa: F811
    return benchmark_scripts("bench_scaling")


def test_searches_are_compared_with_the_notebooks(bench_neighbors, tmp_path, capsys):
    rng = np.random.RandomState(0)
    np.savez(tmp_path / "own.npz", ids=np.arange(300), v=rng.standard_normal((300, 8)))
    output = tmp_path / "results.json"
    options = ["--methods", "notebook", "exact", "auto", "--output", str(output)]
    bench_neighbors.main([str(tmp_path / "own.npz"), *options])
    results = json.loads(output.read_text())
    notebook, exact, auto = results["summary"]
    assert results["shapes"] == {"own": [300, 8]}
    assert notebook["ratio"] == 1
    assert exact["ratio"] == notebook["seconds"] / exact["seconds"]
    assert exact["recall"] == auto["recall"] == 1
    assert auto["algorithm"] == "exact"
    assert "| auto (exact) |" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("method", "setting"),
    [("ivf", {"target_recall": 0.8}), ("hnsw", {"hnsw_m": 8})],
)
def test_recall_is_that_of_the_ids(bench_neighbors, method, setting):
    rng = np.random.RandomState(0)
    vectors = rng.standard_normal((1500, 16)).astype(np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    vectors[7] = vectors[3]
    ids, said = bench_neighbors.searcher(method, setting)(vectors)
    assert ids.shape == (1500, 40)
    assert said["algorithm"] == method
    # Equal rows list one another first, and the rest is alike.
    assert ids[7][0] == 3
    similarities = np.take_along_axis(vectors @ vectors.T, ids, axis=1)
    assert (np.diff(similarities[:, :30], axis=1) <= 1e-5).all()


def test_stages_and_growth_are_measured(bench_scaling, tmp_path, capsys):
    output = tmp_path / "results.json"
    options = "--quick --rows 600 1200 --layers 2 --communities 6 --notebook-rows 600"
    bench_scaling.main([*options.split(), "--output", str(output)])
    results = json.loads(output.read_text())
    assert [(row["method"], row["rows"]) for row in results["summary"]] == [
        ("notebook", 600),
        ("skleiden", 600),
        ("skleiden", 1200),
    ]
    for row in results["summary"][1:]:
        seconds = row["seconds"]
        stages = [seconds[stage] for stage in bench_scaling.STAGES[:-1]]
        assert seconds["whole"] == pytest.approx(sum(stages))
        assert row["ari"] > 0.4
    assert set(results["exponents"]) == {
        f"skleiden {stage}" for stage in bench_scaling.STAGES
    }
    assert "| 1,200 | skleiden |" in capsys.readouterr().out


def test_growth_is_the_exponent(bench_scaling):
    rows = [1000, 3000, 10_000]
    seconds = [2e-6 * n**1.5 for n in rows]
    assert bench_scaling.growth(rows, seconds) == pytest.approx(1.5)
