"""The benchmark of the map runs, and counts what it says."""

import json

import numpy as np
import pytest
import scipy.sparse as sp

from skleiden.inspection import CommunityMap

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def bench_map(benchmark_scripts):
    return benchmark_scripts("bench_map")


def test_both_layouts_are_measured(bench_map, equal_weights, tmp_path, capsys):
    equal_weights(bench_map)
    output = tmp_path / "results.json"
    options = ["--seeds", "1", "--shown", "200", "--figures", str(tmp_path)]
    bench_map.main([*options, "--output", str(output)])
    found = json.loads(output.read_text())["results"]["prompts"]
    assert list(found) == ["igraph's UMAP", "community_map", "all 1,268"]
    assert set(found["community_map"][0]) == set(bench_map.MEASURES)
    assert found["all 1,268"][0]["seconds"] > 0
    assert (tmp_path / "prompts.png").stat().st_size > 0
    assert "| prompts | 1,268 | community_map |" in capsys.readouterr().out


def test_measures_of_a_map_that_keeps_everything_and_of_one_that_does_not(bench_map):
    centres = np.repeat(np.eye(2), 20, axis=0)
    embedding = centres + 0.1 * np.random.default_rng(0).standard_normal((40, 2))
    embedding /= np.linalg.norm(embedding, axis=1, keepdims=True)
    labels = np.arange(40) // 20
    close = bench_map.nearest(embedding, 5)
    pairs = (np.ones(200), (np.arange(40).repeat(5), close.ravel()))
    graph = sp.csr_array(pairs, shape=(40, 40))
    kept = bench_map.measure(
        CommunityMap(np.arange(40), embedding), graph, embedding, labels
    )
    assert min(kept["graph"], kept["embedding"], kept["trust"], kept["purity"]) == 1
    assert kept["apart"] > 0.7
    mixed = np.random.default_rng(1).permutation(embedding)
    lost = bench_map.measure(
        CommunityMap(np.arange(40), mixed), graph, embedding, labels
    )
    assert all(lost[name] < 0.7 for name in kept)
