"""The benchmark of Dask's workers, and what is predicted from it."""

import json

import dask
import numpy as np
import pytest

from tests.benchmarks.conftest import run_here
from tests.children import server

pytestmark = pytest.mark.cluster

OPTIONS = (
    "--rows 1500 --layers 2 --neurons 2000 --communities 5 --block-rows 400 "
    "--n-neighbors 10 --components 64"
)


@pytest.fixture(scope="module")
def bench_dask(benchmark_scripts):
    return benchmark_scripts("bench_dask")


@pytest.fixture(scope="module")
def scale_model(benchmark_scripts):
    return benchmark_scripts("scale_model")


@pytest.fixture(scope="module")
def results(bench_dask, tmp_path_factory):
    output = tmp_path_factory.mktemp("results") / "results.json"
    method = {"distributed.worker.multiprocessing-method": server("dask.array")}
    with pytest.MonkeyPatch.context() as patch, dask.config.set(method):
        run_here(bench_dask, patch)
        bench_dask.main([*OPTIONS.split(), "--output", str(output)])
    return json.loads(output.read_text())


def test_workers_and_one_process_are_compared(results):
    assert results["same_labels"]
    assert results["ari_between"] == 1
    for name in ("cluster", "process"):
        run = results[name]
        assert run["algorithm"] == "exact"
        assert run["ari_planted"] > 0.7
        seconds = run["seconds"]
        assert seconds["whole"] == pytest.approx(seconds["sketch"] + seconds["cluster"])
    assert results["cluster"]["edges"] == results["process"]["edges"]
    assert len(results["cluster"]["memory_mb"]) == 2
    assert {"Count", "Neighbors", "Graph", "Leiden"} <= set(
        results["cluster"]["stages"]
    )


def test_blocks_are_the_same_everywhere(bench_dask):
    settings = {"rows": 50, "block_rows": 20, "neurons": 60, "communities": 3}
    assert [len(bench_dask.planted(settings, i)) for i in range(3)] == [20, 20, 10]
    block = bench_dask.make_block(settings, 1, 2)
    assert block.shape == (10, 60)
    assert (block != bench_dask.make_block(settings, 1, 2)).nnz == 0
    assert (block != bench_dask.make_block(settings, 0, 2)).nnz > 0


def made_up(rows):
    """A run whose neighbours take n ** 1.5, its sketch n and its Leiden n ** 1.2."""
    size = rows / 1e5
    stages = {"sketch": 2 * size, "Neighbors": 10 * size**1.5, "Leiden": size**1.2}
    return {
        "rows": rows,
        "columns": 256,
        "workers": 2,
        "edges": 10 * rows,
        "stages": stages,
    }


def test_powers_are_found_and_followed(scale_model):
    runs = [made_up(rows) for rows in (10**5, 3 * 10**5, 10**6)]
    powers = scale_model.exponents(runs)
    assert powers == pytest.approx({"sketch": 1, "Neighbors": 1.5, "Leiden": 1.2})
    seconds = scale_model.predict(runs, 1e7, 4, 1e12)
    assert seconds["sketch"] == pytest.approx(100)
    assert seconds["Neighbors"] == pytest.approx(5_000)
    assert seconds["Leiden"] == pytest.approx(100**1.2)  # one worker's, however many
    check = scale_model.model(runs, [1e7], [4], 1e12)["check"]
    assert check["predicted"] == pytest.approx(check["measured"])


def test_slow_networks_and_one_process_set_limits(scale_model, capsys):
    runs = [made_up(rows) for rows in (10**5, 10**6)]
    quick = scale_model.predict(runs, 1e8, 1000, 1e9)["Neighbors"]
    slow = scale_model.predict(runs, 1e8, 1000, 1e6)["Neighbors"]
    assert slow > 10 * quick
    table = scale_model.model(runs, [1e6, 1e8], [2, 10**5], 1e12)["table"]
    assert [row["one_process"] > row["shared"] for row in table] == [
        False,
        True,
        False,
        True,
    ]
    assert table[0]["memory"]["leiden"] == 150 * 10 * 1e6


def test_shards_are_counted_as_they_are_made(scale_model):
    from skleiden._stages import distinct

    for rows in (10**4, 10**6, 10**8, 10**9):
        shards = np.ceil(rows / distinct.rows_of_blocks(rows, 256))
        assert scale_model.n_shards(rows, 256) == pytest.approx(shards, abs=1)


def test_runs_are_read_from_files(scale_model, results, tmp_path, capsys):
    paths = []
    for rows in (1500, 15_000, 150_000):
        results["settings"]["rows"] = rows
        paths.append(str(tmp_path / f"{rows}.json"))
        (tmp_path / f"{rows}.json").write_text(json.dumps(results))
    scale_model.main([*paths, "--rows", "1e6", "--workers", "2", "8"])
    told = capsys.readouterr().out
    assert "| 1e+06 | 8 |" in told
    assert "150000 rows from the smaller runs" in told


def test_the_runs_that_come_with_it_are_enough(scale_model, capsys):
    scale_model.main([])
    assert "| 1e+09 | 1024 |" in capsys.readouterr().out


def test_one_size_is_too_few(scale_model, results, tmp_path, capsys):
    (tmp_path / "run.json").write_text(json.dumps(results))
    with pytest.raises(SystemExit):
        scale_model.main([str(tmp_path / "run.json")])
    assert "at least two numbers of rows" in capsys.readouterr().err
