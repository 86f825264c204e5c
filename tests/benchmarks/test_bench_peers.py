"""The comparison with other clusterers runs, scores rightly and outlives a failure."""

from __future__ import annotations

import json

import numpy as np
import pytest
from sklearn.datasets import make_blobs
from sklearn.metrics import adjusted_mutual_info_score, adjusted_rand_score

pytestmark = pytest.mark.slow


def test_methods_are_compared_and_failures_reported(
    benchmark_scripts, monkeypatch, tmp_path, capsys
):
    vectors, labels = make_blobs(300, n_features=8, centers=4, random_state=0)
    np.savez(tmp_path / "blobs.npz", vectors=vectors, labels=labels)
    (tmp_path / "envs").write_text("no folder, so that no environment can be made")
    monkeypatch.chdir(tmp_path)
    benchmark_scripts("bench_peers").main(
        [
            *("blobs.npz", "--repeats", "1", "--envs", "envs"),
            *("--methods", "skleiden", "scanpy", "notebook", "kmeans"),
            *("--output", "results.json", "--partitions", "partitions.npz"),
        ]
    )
    assert "scanpy failed: " in capsys.readouterr().out

    (data,) = json.loads((tmp_path / "results.json").read_text())["data"]
    assert (data["rows"], data["columns"], data["classes"]) == (300, 8, 4)
    assert list(data["methods"]["scanpy"]) == ["failed"]
    partitions = np.load(tmp_path / "partitions.npz")
    for method, n_settings in (("skleiden", 6), ("notebook", 6), ("kmeans", 1)):
        found = data["methods"][method]
        assert "failed" not in found
        assert found["seconds"] == found["default"]["seconds"] > 0
        assert len(found["settings"]) == n_settings
        assert found["best"]["ami"] == max(each["ami"] for each in found["settings"])
        for each in found["settings"]:
            partition = partitions[f"blobs/{method}/{each['setting']}"]
            ami = adjusted_mutual_info_score(labels, partition)
            assert 0 <= each["ami"] <= 1
            assert each["ami"] == pytest.approx(ami)
            assert each["ari"] == pytest.approx(adjusted_rand_score(labels, partition))
            assert each["communities"] == len(set(partition.tolist()) - {-1})
            assert each["noise"] == np.mean(partition == -1)
