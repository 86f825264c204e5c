"""``skleiden compare``, on runs and files of them."""

import json
import re
import sys

import numpy as np
import pytest

from skleiden.cli import main
from skleiden.inspection import Communities, compare
from skleiden.io import save_communities, save_labels

LABELS = np.repeat([0, 1, 2, 3], [60, 30, 20, 10])
SPLIT = np.where(np.arange(120) < 20, 4, LABELS)  # of 0
IDS = np.array([f"q{i}" for i in range(120)])


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "80")
    return tmp_path


def save(folder, name, labels, ids=IDS, **known):
    """A folder as the command makes it, in as far as it is read."""
    run = folder / name
    run.mkdir()
    found = Communities(labels, ids, **known)
    save_communities(run / "communities.json", found)
    save_labels(run / "labels.csv", found)
    return run


@pytest.fixture
def runs(folder):
    texts = [f"text of {i}" for i in IDS]
    one = save(folder, "one", LABELS, texts=texts, names={0: "cats", 1: "dogs"})
    two = save(folder, "two", SPLIT[:100], IDS[:100], names={0: "cats", 4: "lions"})
    return one, two


def run(*arguments):
    return main(["compare", *map(str, arguments)])


def test_two_runs(runs, folder, capsys):
    assert run("one", "two", "-q") == 0
    lines = capsys.readouterr().out.splitlines()
    expected = compare(*runs)
    assert lines == [
        "first: one; second: two",
        f"AMI {expected.ami:.3f}, ARI {expected.ari:.3f} on 100 rows; 20 of them "
        "(20.0%) moved",
        "20 rows are in the first alone",
        "  first  second  common  overlap  name",
        "      0       0      40     0.67  cats",
        "      1       1      30     1.00  dogs",
        "      2       2      10     1.00",
        "community 0 (cats) split into 0 (cats) and 4 (lions)",
        "Saved: comparison.html",
    ]
    page = (folder / "comparison.html").read_text(encoding="utf-8")
    assert "<title>one and two</title>" in page
    assert "text of q3" in page


@pytest.mark.parametrize("which", ["", "communities.json", "labels.csv"])
def test_folders_and_files(runs, capsys, which):
    one, two = runs
    assert run(one / which, two, "--out", "page.html", "--title", "A & B") == 0
    assert "community 0 (cats) split" in capsys.readouterr().out


def test_for_programs(runs, folder, capsys):
    assert run("one", "two", "--json") == 0
    out, err = capsys.readouterr()
    found = json.loads(out)
    expected = compare(*runs).to_dict()
    assert {name: found[name] for name in expected} == expected
    assert found["runs"] == ["one", "two"]
    assert (found["saved"], found["not_saved"]) == (["comparison.html"], [])
    assert [line.split(" ...")[0] for line in err.splitlines()] == [
        "Load", "Compare", "Page",
    ]  # fmt: skip


def test_with_itself_and_a_smaller_share(runs, capsys):
    assert run("one", "one", "-q") == 0
    out = capsys.readouterr().out
    agreement = "AMI 1.000, ARI 1.000 on 120 rows; 0 of them (0.0%) moved"
    assert out.splitlines()[1] == agreement
    assert "split" not in out
    assert run("one", "two", "--min-share", "0.4", "--overwrite", "-q") == 0
    assert "split" not in capsys.readouterr().out


def test_long_tables_are_cut(folder, capsys):
    labels = np.arange(200) % 50
    save(folder, "one", labels, ids=None)
    save(folder, "two", np.where(np.arange(200) < 100, labels, labels + 50), ids=None)
    assert run("one", "two", "-q") == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[3 + 40] == "and 10 more"
    assert lines[3 + 40 + 21] == "and 30 more"
    assert len(lines) == 3 + 40 + 1 + 20 + 1 + 1


def test_pages_are_replaced_only_if_asked(runs, folder, capsys):
    assert run("one", "two", "-q") == 0
    before = (folder / "comparison.html").read_bytes()
    assert run("one", "one", "-q") == 1
    assert capsys.readouterr().err == (
        "skleiden: error: 'comparison.html' exists already. Give --overwrite to "
        "replace it, or another file as --out.\n"
    )
    assert (folder / "comparison.html").read_bytes() == before
    assert run("one", "one", "-q", "--overwrite") == 0
    assert (folder / "comparison.html").read_bytes() != before
    (folder / "thesis.html").write_text("<p>mine</p>")
    assert run("one", "two", "--out", "thesis.html", "--overwrite") == 1
    assert "is not a page of skleiden compare, and is not" in capsys.readouterr().err
    assert (folder / "thesis.html").read_text() == "<p>mine</p>"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["one", "missing"], "There is no file 'missing'."),
        (["one", "empty"], "'empty' has no communities.json and no labels.csv. Give"),
        (["one", "two", "--out", "run/x.html"], "in '{folder}/run', the folder of a "),
        (["one", "two", "--out", "one/labels.csv"], "'one/labels.csv' exists alrea"),
        (["one/labels.csv", "two", "--out", "one/labels.csv"], "is one of the runs, w"),
        (["one", "two", "--out", "no/such.html"], "does not exist; make it before sav"),
        (["one", "two", "--out", "two"], "'two' is a folder; give the name of a file"),
        (["one", "neurons"], "rows of one kind; got rows and neurons. Compare"),
        (["one", "others"], "a and b have no row in common; got ids such as ['q0', "),
        (["one", "broken.csv"], "'broken.csv' has no column 'id'; it has a, b. Give"),
    ],
)
def test_mistakes_exit_with_1(runs, folder, capsys, arguments, message):
    (folder / "empty").mkdir()
    (folder / "broken.csv").write_text("a,b\n1,2\n")
    save(folder, "others", LABELS, [f"x{i}" for i in range(120)])
    save(folder, "neurons", LABELS, summary={"rows": "neurons"})
    summary = {"modularity": 0.5}
    save_communities(
        folder / "one" / "communities.json", Communities(LABELS, IDS, summary=summary)
    )
    (folder / "run").mkdir()
    (folder / "run" / "manifest.json").write_text("{}")
    before = sorted(folder.rglob("*"))
    assert run(*arguments, "-q") == 1
    error = capsys.readouterr().err
    assert error.startswith("skleiden: error: ")
    assert error.count("\n") == 1
    assert message.format(folder=folder) in error
    assert sorted(folder.rglob("*")) == before


@pytest.mark.parametrize("share", ["0", "0.6", "x"])
def test_bad_shares_exit_with_2(runs, capsys, share):
    with pytest.raises(SystemExit) as stop:
        run("one", "two", "--min-share", share)
    assert stop.value.code == 2
    assert "argument --min-share: " in capsys.readouterr().err


def test_without_jinja2(runs, folder, monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "jinja2", None)
    assert run("one", "two", "-q") == 0
    *_, last = capsys.readouterr().out.splitlines()
    assert last.startswith("No page: write_comparison needs Jinja2: pip install")
    assert not (folder / "comparison.html").exists()


def test_help_tells_what_a_run_is(capsys):
    with pytest.raises(SystemExit):
        run("--help")
    out = re.sub(r"\s+", " ", capsys.readouterr().out)
    assert "skleiden compare [-h] [--out FILE]" in out
    assert "Rows are found by their ids" in out


@pytest.mark.slow
def test_runs_of_the_command_itself(folder, stack, capsys):
    for name, layer in zip(stack.names[:2], stack.layers[:2], strict=True):
        np.save(folder / f"{name}.npy", layer.toarray())
        assert main(["cluster", f"{name}.npy", "--out", f"run_{name}", "-q"]) == 0
    capsys.readouterr()
    assert run("run_layer_0", "run_layer_1", "-q") == 0
    found = re.search(r"AMI (0\.\d+), ARI 0.\d+ on 400 rows; ", capsys.readouterr().out)
    assert 0.3 < float(found[1]) < 1
    assert run("run_layer_0", "run_layer_1", "--out", "run_layer_0/report.html") == 1
    assert "the folder of a run, which belongs to the run" in capsys.readouterr().err
