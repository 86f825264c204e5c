"""The benchmarks of neighbours and of growth run, and count what they say."""

import json

import faiss
import numpy as np
import pytest

import skleiden
from tests.benchmarks.conftest import run_here

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def bench_neighbors(benchmark_scripts):
    return benchmark_scripts("bench_neighbors")


@pytest.fixture(scope="module")
def bench_scaling(benchmark_scripts):
    return benchmark_scripts("bench_scaling")


def test_searches_are_compared_with_the_notebooks(bench_neighbors, tmp_path, capsys):
    rng = np.random.RandomState(0)
    np.savez(tmp_path / "own.npz", ids=np.arange(300), v=rng.standard_normal((300, 8)))
    output = tmp_path / "results.json"
    options = ["--methods", "notebook", "auto", "--output", str(output)]
    bench_neighbors.main([str(tmp_path / "own.npz"), *options])
    results = json.loads(output.read_text())
    notebook, auto = results["summary"]
    assert results["shapes"] == {"own": [300, 8]}
    assert notebook["ratio"] == 1
    assert auto["ratio"] == notebook["seconds"] / auto["seconds"]
    assert auto["recall"] == 1
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


@pytest.mark.parametrize("method", ["ivfflat", "panorama"])
def test_faiss_lists_reach_the_recall(
    bench_neighbors, monkeypatch, tmp_path, capsys, method
):
    run_here(bench_neighbors, monkeypatch)
    if method == "panorama" and not hasattr(faiss, "IndexIVFFlatPanorama"):
        pytest.skip("this FAISS does not have it yet")
    rng = np.random.RandomState(0)
    np.save(tmp_path / "own.npy", rng.standard_normal((3000, 16)))
    output = tmp_path / "results.json"
    options = ["--methods", "exact", method, "--output", str(output)]
    bench_neighbors.main([str(tmp_path / "own.npy"), *options])
    exact, lists = json.loads(output.read_text())["summary"]
    chosen = lists["chosen"]
    assert 1 < chosen["n_probes"] < chosen["lists"] == 3000 // 39
    assert 0.92 < lists["recall"] < 1 == exact["recall"]
    assert lists["cpu_seconds"] > 0
    title = f"| {method} ({chosen['n_probes']} of {chosen['lists']} lists) "
    assert title in capsys.readouterr().out

    vectors = bench_neighbors.load(str(tmp_path / "own.npy"), None, 0)
    index = bench_neighbors.FaissLists(vectors, method)
    rows = np.arange(5, 25)
    every = index.neighbors(rows, chosen["lists"])
    similarities = vectors[rows] @ vectors.T
    similarities[np.arange(20), rows] = -1
    np.testing.assert_allclose(
        np.take_along_axis(similarities, every, axis=1),
        -np.sort(-similarities)[:, : bench_neighbors.N_NEIGHBORS],
        atol=1e-5,
    )
    few = index.neighbors(rows, 1)
    assert (few == rows[:, None]).any()  # fewer rows in a list than neighbours
    assert bench_neighbors.FaissLists(vectors[:100], method).fewest_probes(0.5) == 1


def test_stages_and_growth_are_measured(
    bench_scaling, monkeypatch, equal_weights, tmp_path, capsys
):
    run_here(bench_scaling, monkeypatch)
    equal_weights(skleiden)
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
        cores = [row["cpu_seconds"][stage] for stage in bench_scaling.STAGES[:-1]]
        assert row["cpu_seconds"]["whole"] == pytest.approx(sum(cores))
    assert set(results["exponents"]) == {
        f"skleiden {stage}{clock}"
        for stage in bench_scaling.STAGES
        for clock in ("", ", all cores")
    }
    printed = capsys.readouterr()
    assert "| 1,200 | skleiden |" in printed.out
    assert "600 rows, notebook: sketch " in printed.err


def unit_rows(n, d):
    rng = np.random.RandomState(0)
    vectors = rng.standard_normal((n, d)).astype(np.float32)
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


def test_vectors_are_enlarged(bench_scaling, tmp_path, capsys):
    np.save(tmp_path / "own.npy", unit_rows(500, 16))
    output = tmp_path / "results.json"
    options = ["--quick", "--rows", "400", "900", "--output", str(output)]
    bench_scaling.main(["--vectors", str(tmp_path / "own.npy"), *options])
    results = json.loads(output.read_text())
    assert [row["rows"] for row in results["summary"]] == [400, 900]
    assert {row["ari"] for row in results["summary"]} == {None}
    assert not any("sketch" in name for name in results["exponents"])
    assert "own, enlarged" in capsys.readouterr().out

    with pytest.raises(SystemExit):
        bench_scaling.main(["--vectors", "own.npy", "--notebook-rows", "900"])
    assert "--notebook-rows needs layers" in capsys.readouterr().err


def test_enlarging_adds_noise_as_a_sketch_does(bench_scaling):
    n_columns = 64
    base = np.repeat(unit_rows(2, n_columns), 1000, axis=0)
    rows = bench_scaling.enlarge(base, 5000, seed=0)
    assert rows.shape == (5000, n_columns)
    np.testing.assert_allclose(np.linalg.norm(rows, axis=1), 1, rtol=1e-5)
    nearest = rows @ base[[0, 1000]].T
    # Either half is drawn equally often, give or take what a last round leaves.
    assert np.bincount(nearest.argmax(axis=1)) == pytest.approx(2500, abs=100)

    first = rows[nearest.argmax(axis=1) == 0].astype(np.float64)
    x, y = first[:1200], first[1200:2400]
    shrunk = 1 + bench_scaling.NOISE
    assert (x * y).sum(axis=1).mean() == pytest.approx(1 / shrunk, abs=0.02)
    # Of rows whose lengths were not made one again, for which the formula is.
    rng = np.random.default_rng(0)
    scale = (bench_scaling.NOISE / n_columns) ** 0.5
    noise = scale * rng.standard_normal((2, 20_000, n_columns))
    products = ((base[0] + noise[0]) * (base[1000] + noise[1])).sum(axis=1)
    assert products.var() == pytest.approx(1 / n_columns, rel=0.05)
    # The same, as far as that goes, of the rows themselves.
    other = rows[nearest.argmax(axis=1) == 1][:2400].astype(np.float64)
    products = (first[:2400] * other).sum(axis=1)
    assert products.var() * shrunk**2 == pytest.approx(1 / n_columns, rel=0.15)


def test_sizes_within_the_vectors_repeat_none(bench_scaling):
    base = unit_rows(1000, 400)
    rows = bench_scaling.enlarge(base, 1000, seed=0)
    assert sorted((rows @ base.T).argmax(axis=1)) == list(range(1000))


def test_growth_is_the_exponent(bench_scaling):
    rows = [1000, 3000, 10_000]
    seconds = [2e-6 * n**1.5 for n in rows]
    assert bench_scaling.growth(rows, seconds) == pytest.approx(1.5)
