"""The benchmark of many cores: the same labels, and what Python's lock holds back."""

import json
import shutil
import sysconfig
from types import SimpleNamespace

import pytest

import skleiden

pytestmark = pytest.mark.slow

needs_shared_python = pytest.mark.skipif(
    not sysconfig.get_config_var("Py_ENABLE_SHARED")
    or sysconfig.get_platform().split("-")[0] != "linux"
    or shutil.which("cc") is None,
    reason="needs Linux, a C compiler, and a Python with a shared library",
)


@pytest.fixture(scope="module")
def bench_cores(benchmark_scripts):
    return benchmark_scripts("bench_cores")


@needs_shared_python
def test_labels_are_equal_and_the_lock_is_measured(
    bench_cores, equal_weights, tmp_path, capsys
):
    equal_weights(skleiden)
    output = tmp_path / "results.json"
    options = ["--rows", "10500", "--threads", "1", "2", "--lock"]
    bench_cores.main([*options, "--output", str(output)])
    results = json.loads(output.read_text())
    assert results["same"]
    assert 0 < results["lock"]["search"] < 0.7
    assert results["lock"]["leiden"] == 1  # igraph never releases it
    assert "| under the lock | nan% |" in capsys.readouterr().out


@needs_shared_python
def test_too_few_rows_for_threads_are_refused(bench_cores):
    options = SimpleNamespace(rows=300, backend="igraph")
    with pytest.raises(SystemExit, match=r"No other thread .*--rows 300.* 20000"):
        bench_cores.lock_shares(options)
