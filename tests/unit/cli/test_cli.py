"""The command line, in process and as ``python -m skleiden``."""

import contextlib
import errno
import io
import json
import os
import re
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from unittest.mock import patch

import numpy as np
import pytest
from sklearn.utils import Bunch

import skleiden
import skleiden.datasets
import skleiden.io
from skleiden import LayerStack
from skleiden.cli import main
from skleiden.datasets import load_prompt_activations
from tests.children import run_script

pytestmark = pytest.mark.slow

ROW = re.compile(r" *(\d+) +(\d+)  (\S.*)")
COLUMNS = "80"  # of the terminal, whatever the tests run in
OPTIONS = [
    "--output",
    "--resolution",
    "--n-neighbors",
    "--n-components",
    "--weighting",
    "--seed",
    "--quiet",
]


@pytest.fixture(scope="module")
def demo(tmp_path_factory):
    """One run of the demo: its exit code, what it printed, and its file."""
    path = tmp_path_factory.mktemp("demo") / "found.json"
    out, err = io.StringIO(), io.StringIO()
    with (
        patch.dict(os.environ, COLUMNS=COLUMNS),
        contextlib.redirect_stdout(out),
        contextlib.redirect_stderr(err),
    ):
        code = main(["demo", "--output", str(path)])
    return SimpleNamespace(code=code, out=out.getvalue(), err=err.getvalue(), path=path)


def few_prompts():
    """Some of the embedded prompts, and two of their layers."""
    data = load_prompt_activations()
    rows = np.arange(0, data.target.size, 8)
    layers = dict(zip(data.data.names[:2], data.data[rows].layers[:2], strict=True))
    few = {name: data[name][rows] for name in ("target", "themes", "prompts", "ids")}
    return Bunch(**data | few | {"data": LayerStack(layers, ids=few["ids"])})


@pytest.fixture(scope="module")
def prompts():
    return few_prompts()


@pytest.fixture
def few(prompts, monkeypatch):
    """Make the demo quick, where it does not matter what it finds."""
    monkeypatch.setattr(skleiden.datasets, "load_prompt_activations", lambda: prompts)


# The command, of few prompts, in a process of its own.
FEW_DEMO = (
    "import sys; from skleiden import cli, datasets; "
    "from tests.unit.cli.test_cli import few_prompts; data = few_prompts(); "
    "datasets.load_prompt_activations = lambda: data; "
    "sys.exit(cli.main())"
)


@pytest.fixture(scope="module")
def saved(demo):
    return json.loads(demo.path.read_text(encoding="utf-8"))


def without_seconds(out):
    """What must be the same in every run."""
    lines = [line for line in out.splitlines() if not line.startswith("Seconds")]
    return [line for line in lines if not line.startswith("Saved")]


def exit_code(arguments):
    with pytest.raises(SystemExit) as stop:
        main(arguments)
    return stop.value.code


def options_of(command, capsys):
    """The options in the help of a command."""
    exit_code([command, "--help"])
    return advised(capsys.readouterr().out)


def advised(text):
    return set(re.findall(r"--[a-z][a-z-]+", text))


def environment(path=()):
    """Of a process that finds this package, after what is in `path`."""
    path = [*path, str(Path(skleiden.__file__).parents[1])]
    path += filter(None, [os.environ.get("PYTHONPATH")])
    return os.environ | {
        "PYTHONPATH": os.pathsep.join(path),
        "COLUMNS": COLUMNS,
        "PYTHONUTF8": "1",
    }


def run_python(*arguments, cwd, path=()):
    return subprocess.run(
        [sys.executable, *arguments],
        cwd=cwd,
        env=environment(path),
        capture_output=True,
        text=True,
        encoding="utf-8",
    )


def test_demo_succeeds_and_shows_its_progress(demo):
    assert demo.code == 0
    for stage in ("Load", "Sketch", "Cluster", "Inspect", "Save"):
        assert re.search(rf"^{stage} \.\.\. \d+\.\d\d s$", demo.err, re.MULTILINE)


def test_saved_file_is_about_the_embedded_data(saved):
    data = load_prompt_activations()
    prompts = dict(zip(data.ids, data.prompts, strict=True))
    assert saved["format"] == "skleiden-communities"
    assert saved["n_samples"] == len(prompts)
    assert saved["parameters"]["leiden__resolution"] == 1.0
    listed = list(saved["noise"])
    for community in saved["communities"]:
        listed += community["members"]
        assert community["texts"] == [prompts[i] for i in community["members"]]
        assert len(community["top_features"]) == 10
    assert sorted(listed) == sorted(prompts)


def test_table_agrees_with_the_file(demo, saved):
    _, *blocks, _ = re.split(r"^-+\n", demo.out, flags=re.MULTILINE)
    assert len(blocks) == saved["n_communities"] > 5
    for block, community in zip(blocks, saved["communities"], strict=True):
        row, neurons, *prompts = block.splitlines()
        label, size, keywords = ROW.fullmatch(row).groups()
        assert (int(label), int(size)) == (community["label"], community["size"])
        assert keywords == ", ".join(community["keywords"])
        strongest = community["top_features"][:3]
        assert neurons.strip() == ", ".join(
            f"{f['layer']}:{f['neuron']}" for f in strongest
        )
        assert len(set(prompts)) == 3
        for prompt in prompts:
            shown = prompt.strip().removesuffix(" ...")
            assert any(text.startswith(shown) for text in community["texts"])


def test_summary_agrees_with_the_file(demo, saved):
    assert (
        f"{saved['n_samples']} prompts, {saved['n_communities']} communities, "
        f"{saved['n_noise']} prompts in none; modularity 0."
    ) in demo.out
    agreement = re.search(r"29 themes, .*: AMI (0\.\d{3}), ARI (0\.\d{3})", demo.out)
    assert float(agreement[1]) > 0.6
    assert re.search(r"^Seconds: load \d.*; in all \d+\.\d\d$", demo.out, re.MULTILINE)
    page = demo.path.with_suffix(".html")
    assert demo.out.endswith(f"Saved: {demo.path}, {page} (open it in a browser)\n")


def test_page_shows_the_prompts(demo, saved):
    page = demo.path.with_suffix(".html").read_text(encoding="utf-8")
    assert page.lower().startswith("<!doctype html>")
    assert saved["communities"][0]["texts"][0] in page


def test_demo_without_jinja2(few, tmp_path, monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "jinja2", None)
    path = tmp_path / "found.json"
    assert main(["demo", "-q", "-o", str(path)]) == 0
    *_, missing, last = capsys.readouterr().out.splitlines()
    assert missing.startswith("No page: ")
    assert "skleiden[report]" in missing
    assert last == f"Saved: {path}"
    assert [entry.name for entry in tmp_path.iterdir()] == ["found.json"]


def test_same_seed_same_file_in_another_process(few, tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("COLUMNS", COLUMNS)
    here = tmp_path / "here.json"
    assert main(["demo", "--quiet", "--output", str(here)]) == 0
    there = (
        f"import os; os.chdir({str(tmp_path)!r}); os.environ['COLUMNS'] = {COLUMNS!r}; "
    )
    code, printed, error = run_script(there + FEW_DEMO, "demo", "--quiet")
    assert (code, error) == (0, "")
    assert without_seconds(printed) == without_seconds(capsys.readouterr().out)
    saved = "Saved: communities.json, communities.html (open it in a browser)\n"
    assert printed.endswith(saved)
    assert (tmp_path / "communities.json").read_bytes() == here.read_bytes()


def test_options_reach_the_pipeline(few, tmp_path, capsys):
    path = tmp_path / "found.json"
    options = "--resolution 8 --n-neighbors 15 --n-components 16 --weighting zscore"
    assert main(["demo", "-q", "-o", str(path), "--seed", "3", *options.split()]) == 0
    assert capsys.readouterr().err == ""
    found = json.loads(path.read_text(encoding="utf-8"))
    expected = {
        "leiden__resolution": 8.0,
        "leiden__n_neighbors": 15,
        "leiden__random_state": 3,
        "sketch__n_components": 16,
        "sketch__weighting": "zscore",
        "sketch__random_state": 3,
    }
    assert found["parameters"].items() >= expected.items()
    assert main(["demo", "-q", "-o", str(path)]) == 0
    usual = json.loads(path.read_text(encoding="utf-8"))
    assert found["n_communities"] > usual["n_communities"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "arguments are required: COMMAND"),
        (["find"], "invalid choice: 'find'"),
        (["demo", "extra"], "unrecognized arguments: extra"),
        (
            ["demo", "--resolution", "0"],
            "--resolution: must be a float in the range (0",
        ),
        (["demo", "--resolution", "nan"], "in the range (0.0, inf); got nan"),
        (["demo", "--resolution", "inf"], "in the range (0.0, inf); got inf"),
        (["demo", "--resolution", "high"], "invalid float value: 'high'"),
        (
            ["demo", "--n-neighbors", "-1"],
            "an int in the range [1, inf); got -1",
        ),
        (["demo", "--n-neighbors", "1.5"], "invalid int value: '1.5'"),
        (
            ["demo", "--n-components", "0"],
            "an int in the range [1, inf); got 0",
        ),
        (["demo", "--weighting", "bm25"], "invalid choice: 'bm25'"),
        (["demo", "--seed", "x"], "invalid int value: 'x'"),
        (
            ["demo", "--seed", "-1"],
            "in the range [0, 4294967295]; got -1",
        ),
    ],
)
def test_bad_options_exit_with_2(arguments, message, capsys):
    assert exit_code(arguments) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith("usage: skleiden")
    assert message in err


def test_missing_folder_exits_with_1_before_the_work(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(skleiden.datasets, "load_prompt_activations", pytest.fail)
    folder = tmp_path / "absent"
    assert main(["demo", "--output", str(folder / "found.json")]) == 1
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith(f"skleiden: error: The folder {str(folder)!r} does not exist")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("owner", "step", "problem"),
    [
        (os, "fsync", OSError(28, "No space left on device")),
        (Path, "replace", PermissionError(13, "Permission denied")),
    ],
)
def test_unwritable_file_exits_with_1(
    owner, step, problem, few, tmp_path, monkeypatch, capsys
):
    def refuse(*_, **__):
        raise problem

    monkeypatch.setattr(owner, step, refuse)
    assert main(["demo", "-q", "--output", str(tmp_path / "found.json")]) == 1
    folder = repr(str(tmp_path))
    assert capsys.readouterr() == (
        "",
        f"skleiden: error: Cannot write 'found.json' in the folder {folder}: "
        f"{problem.strerror}. Make the folder writable, with room for the file, or "
        "save to another one.\n",
    )
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", ["x.html", "x.HTML", "x.y.Html", "link.json"])
def test_page_and_json_in_one_file_exit_with_1_before_the_work(
    name, tmp_path, monkeypatch, capsys
):
    monkeypatch.setattr(skleiden.datasets, "load_prompt_activations", pytest.fail)
    if name == "link.json":
        (tmp_path / name).symlink_to(tmp_path / "link.html")
    before = sorted(tmp_path.iterdir())
    path = tmp_path / name
    assert main(["demo", "-q", "--output", str(path)]) == 1
    error = capsys.readouterr().err
    assert f"{str(path)!r} is where the page goes, too, which would" in error
    assert sorted(tmp_path.iterdir()) == before


def test_demo_without_a_suffix_saves_both(few, tmp_path, capsys):
    path = tmp_path / "found"
    assert main(["demo", "-q", "--output", str(path)]) == 0
    assert json.loads(path.read_text(encoding="utf-8"))["format"]
    page = path.with_suffix(".html").read_text(encoding="utf-8")
    assert page.lower().startswith("<!doctype html>")
    assert sorted(entry.name for entry in tmp_path.iterdir()) == ["found", "found.html"]


def test_folder_as_file_exits_with_1_before_the_work(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(skleiden.datasets, "load_prompt_activations", pytest.fail)
    assert main(["demo", "-q", "--output", str(tmp_path)]) == 1
    assert repr(str(tmp_path)) in capsys.readouterr().err


@pytest.mark.skipif(os.name == "nt", reason="Windows folders are not read-only")
def test_read_only_folder_exits_with_1_before_the_work(tmp_path, monkeypatch, capsys):
    """Of a folder that refuses new files; test_io.py has a real one."""

    def refuse(*_, **__):
        raise PermissionError(errno.EACCES, "Permission denied")

    monkeypatch.setattr(skleiden.datasets, "load_prompt_activations", pytest.fail)
    monkeypatch.setattr(Path, "touch", refuse)
    monkeypatch.chdir(tmp_path)
    assert main(["demo"]) == 1
    out, err = capsys.readouterr()
    assert out == ""
    assert err == (
        "skleiden: error: Cannot write 'communities.json' in the folder "
        f"{str(tmp_path)!r}: Permission denied. Make the folder writable, with "
        "room for the file, or save to another one.\n"
    )


@pytest.mark.parametrize(
    ("where", "message"),
    [
        ("datasets.load_prompt_activations", "'Load'; close other programs, or use a"),
        ("MultiLayerTfidfSketcher.fit_transform", "'Sketch'; lower --n-components."),
        (
            "MutualKNNLeiden.fit",
            "'Cluster'; lower --n-components or --n-neighbors.",
        ),
        ("inspection.describe_communities", "'Inspect'; close other programs, or use"),
        ("report.write_report", "'Save'; close other programs, or use a computer with"),
    ],
)
def test_too_little_memory_is_told_by_stage(
    where, message, few, tmp_path, monkeypatch, capsys
):
    """As with --n-components 99999999, which some systems would try to allocate."""

    def fail(*_, **__):
        raise MemoryError("Unable to allocate 2.77 TiB")

    monkeypatch.setattr(f"skleiden.{where}", fail)
    assert main(["demo", "-q", "--output", str(tmp_path / "found.json")]) == 1
    out, error = capsys.readouterr()
    assert out == ""
    assert error.startswith("skleiden: error: Not enough memory in the stage ")
    assert message in error
    assert error.endswith(". Unable to allocate 2.77 TiB\n")
    assert advised(error) <= options_of("demo", capsys)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("stage", ["fit_transform", "save"])
def test_a_page_is_never_beside_other_communities(
    stage, demo, few, tmp_path, monkeypatch, capsys
):
    """Of a demo that fails: both files stay as they were."""
    path = tmp_path / "found.json"
    pair = [path, path.with_suffix(".html")]
    for file in pair:
        file.write_bytes(demo.path.with_suffix(file.suffix).read_bytes())
    before = [file.read_bytes() for file in pair]

    def fail(*_, **__):
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patched:
        if stage == "save":
            patched.setattr("skleiden.report.write_report", fail)
        else:
            patched.setattr(skleiden.MultiLayerTfidfSketcher, stage, fail)
        assert main(["demo", "-q", "-o", str(path), "--resolution", "3"]) == 1
    assert [file.read_bytes() for file in pair] == before
    monkeypatch.setitem(sys.modules, "jinja2", None)
    assert main(["demo", "-q", "-o", str(path), "--resolution", "3"]) == 0
    assert f"{str(pair[1])!r} is of other communities" in capsys.readouterr().out


def test_demo_names_paths_that_exist(few, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    path = Path("absent") / ".." / "found.json"
    assert main(["demo", "-q", "-o", str(path)]) == 0
    *_, last = capsys.readouterr().out.splitlines()
    saved = last.removeprefix("Saved: ").removesuffix(" (open it in a browser)")
    saved = saved.split(", ")
    assert [Path(name).name for name in saved] == ["found.json", "found.html"]
    assert all(Path(name).is_file() for name in saved)


@pytest.mark.parametrize(
    "error", [OverflowError, ZeroDivisionError, FloatingPointError]
)
def test_errors_of_arithmetic_take_one_line(error, tmp_path, monkeypatch, capsys):
    def fail(*_, **__):
        raise error("too large\nto convert")

    monkeypatch.setattr(skleiden.MultiLayerTfidfSketcher, "fit_transform", fail)
    assert main(["demo", "-q", "-o", str(tmp_path / "found.json")]) == 1
    assert capsys.readouterr() == ("", "skleiden: error: too large to convert\n")


@pytest.mark.parametrize("error", [MemoryError, ValueError])
def test_an_error_without_a_text_has_its_name(error, tmp_path, monkeypatch, capsys):
    def fail(*_, **__):
        raise error

    monkeypatch.setattr(skleiden.datasets, "load_prompt_activations", fail)
    assert main(["demo", "-q", "-o", str(tmp_path / "found.json")]) == 1
    expected = {
        MemoryError: "Not enough memory in the stage 'Load'; close other programs, or "
        "use a computer with more memory.",
        ValueError: "ValueError.",
    }
    assert capsys.readouterr().err == f"skleiden: error: {expected[error]}\n"


@pytest.mark.parametrize("error", [RuntimeError, RecursionError])
def test_a_worker_that_died_exits_with_1(error, tmp_path, monkeypatch, capsys):
    """joblib's error is a RuntimeError of several lines."""

    def fail(*_, **__):
        raise error("A worker process was killed.\nIts exit code is SIGKILL(-9)")

    monkeypatch.setattr(skleiden.MultiLayerTfidfSketcher, "fit_transform", fail)
    assert main(["demo", "-q", "--output", str(tmp_path / "found.json")]) == 1
    assert capsys.readouterr() == (
        "",
        "skleiden: error: A worker process was killed. Its exit code is SIGKILL(-9)\n",
    )
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("closed", [["stdout"], ["stderr"], ["stdout", "stderr"]])
def test_closed_streams_are_no_error(closed, few, tmp_path, monkeypatch, capfd):
    """As with ``>&-`` in a shell: Python starts with None for them."""
    for name in closed:
        monkeypatch.setattr(sys, name, None)
    path = tmp_path / "found.json"
    assert main(["demo", "-o", str(path)]) == 0
    for name in closed:  # what was opened instead
        getattr(sys, name).close()
    out, err = capfd.readouterr()
    assert bool(out) == ("stdout" not in closed)
    assert bool(err) == ("stderr" not in closed)
    assert "Load" not in out
    assert json.loads(path.read_text(encoding="utf-8"))


@pytest.mark.skipif(os.name == "nt", reason="needs a shell")
def test_stdout_closed_by_a_shell(tmp_path):
    command = f"'{sys.executable}' -c '{FEW_DEMO}' demo -q -o found.json >&-"
    run = subprocess.run(
        ["/bin/sh", "-c", command], cwd=tmp_path, env=environment(), capture_output=True
    )
    assert (run.returncode, run.stderr) == (0, b"")
    assert (tmp_path / "found.json").exists()


def test_interruption_of_the_imports_exits_with_130(tmp_path):
    """As with Ctrl-C in the first second: the first import of NumPy interrupts."""
    (tmp_path / "numpy.py").write_text(
        "import signal, time\n"
        # A process in the background may have been told to ignore it.
        "signal.signal(signal.SIGINT, signal.default_int_handler)\n"
        "signal.raise_signal(signal.SIGINT)\ntime.sleep(60)\n"
    )
    run = run_python("-m", "skleiden", "demo", cwd=tmp_path, path=[str(tmp_path)])
    assert (run.returncode, run.stdout, run.stderr) == (130, "", "Interrupted.\n")


@pytest.mark.parametrize("argument", ["--help", "--version"])
def test_help_does_not_wait_for_imports(argument, tmp_path):
    for name in ("numpy", "scipy", "sklearn"):
        (tmp_path / f"{name}.py").write_text(f"raise AssertionError({name!r})\n")
    run = run_python("-m", "skleiden", argument, cwd=tmp_path, path=[str(tmp_path)])
    assert (run.returncode, run.stderr) == (0, "")


def test_public_names_are_there_when_asked_for():
    code, printed, error = run_script(
        "import skleiden; print(dir(skleiden)); from skleiden import *; print(dir())"
    )
    assert (code, error) == (0, "")
    for names in printed.splitlines():
        assert {repr(name) for name in skleiden.__all__} <= set(
            names.strip("[]").split(", ")
        )


def test_other_names_are_not_there():
    with pytest.raises(AttributeError, match="'skleiden' has no attribute 'absent'"):
        skleiden.absent  # noqa: B018


@pytest.mark.parametrize(
    "stage", ["datasets.load_prompt_activations", "io.save_communities"]
)
def test_interruption_exits_with_130(stage, few, tmp_path, monkeypatch, capsys):
    def interrupt(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr(f"skleiden.{stage}", interrupt)
    assert main(["demo", "-q", "--output", str(tmp_path / "found.json")]) == 130
    assert capsys.readouterr() == ("", "Interrupted.\n")
    assert list(tmp_path.iterdir()) == []


def test_help(capsys):
    assert exit_code(["--help"]) == 0
    assert "demo" in capsys.readouterr().out
    assert exit_code(["demo", "--help"]) == 0
    described = capsys.readouterr().out
    assert "MLP activations" in described
    assert all(option in described for option in OPTIONS)
    assert described.count("(default:") >= 6


def test_version(capsys):
    assert exit_code(["--version"]) == 0
    assert capsys.readouterr().out == f"{skleiden.__version__}\n"
