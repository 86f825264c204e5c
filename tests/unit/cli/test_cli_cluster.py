"""``skleiden cluster``, ``profile`` and ``report``, on a user's files."""

import argparse
import csv
import json
import re
import sys
from collections import Counter
from importlib import import_module
from pathlib import Path

import numpy as np
import pytest
import scipy.sparse as sp
from numpy.testing import assert_array_equal
from sklearn.pipeline import make_pipeline

import skleiden
import skleiden.inspection
import skleiden.model_selection
from skleiden import MultiLayerTfidfSketcher, MutualKNNLeiden
from skleiden._blocks.stored import read_stored
from skleiden.cli import main
from skleiden.cli._names import load_names
from skleiden.io import load_activations, load_communities
from tests.children import run_script

pytestmark = pytest.mark.slow

IDS = [f"q{i}" for i in range(400)]
RUN = ["communities.json", "labels.csv", "manifest.json", "report.html"]
FIGURES = ["layers.png", "map.png", "prototypes.png", "sizes.png"]
EQUAL = ["--layer-weights", "1,1,1"]  # else to be found, which takes most of a run


@pytest.fixture
def files(tmp_path, stack):
    """The stack as one file a layer, with ids, and a file of texts."""
    folder = tmp_path / "activations"
    folder.mkdir()
    for name, layer in zip(stack.names, stack.layers, strict=True):
        sp.save_npz(folder / f"{name}.npz", layer)
        (folder / f"{name}.ids.json").write_text(json.dumps(IDS))
    texts = folder / "texts.csv"
    lines = [f"{i},text of {i}" for i in IDS]
    texts.write_text("\n".join(["id,text", *lines]))
    return folder


@pytest.fixture
def undrawn(monkeypatch):
    """Leave the figures out, which take most of a run, as without matplotlib."""
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    monkeypatch.setitem(sys.modules, "matplotlib.pyplot", None)


def run(*arguments):
    return main([str(argument) for argument in arguments])


def paths(files):
    return sorted(files.glob("layer_*.npz"))


def table(path):
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


# --- cluster --------------------------------------------------------------------------


def test_a_number_of_communities(undrawn, files, tmp_path, capsys):
    out, options = tmp_path / "run", ["--n-components", 32, "--n-neighbors", 15]
    assert run("cluster", *paths(files), "--out", out, *options, "--n-clusters", 7) == 0
    labels = [int(row["community"]) for row in table(out / "labels.csv")]
    assert {*labels} - {-1} == {*range(7)}
    with pytest.raises(SystemExit):
        run("cluster", *paths(files), "--out", out, "--n-clusters", 0)
    assert "must be an int in the range [1, inf); got 0" in capsys.readouterr().err


def test_cluster_saves_everything(files, tmp_path, capsys):
    out = tmp_path / "a" / "b"
    options = [
        "--n-components",
        32,
        "--n-neighbors",
        15,
        "--texts",
        files / "texts.csv",
    ]
    assert run("cluster", *paths(files), "--out", out, *options) == 0
    printed, progress = capsys.readouterr()
    names = sorted(path.name for path in out.iterdir())
    assert names == sorted([*RUN, *FIGURES])
    stack = load_activations(files / "layer_*.npz")
    expected = make_pipeline(
        MultiLayerTfidfSketcher(n_components=32, random_state=0),
        MutualKNNLeiden(n_neighbors=15, random_state=0),
    ).fit_predict(stack)
    found = load_communities(out / "communities.json")
    assert_array_equal(found.labels, expected)
    assert found.texts == [f"text of {i}" for i in IDS]
    rows = table(out / "labels.csv")
    assert [row["id"] for row in rows] == IDS
    assert [int(row["community"]) for row in rows] == expected.tolist()
    assert f"400 prompts, {expected.max() + 1} communities, 0 prompts" in printed
    assert all(str(out / name) in printed for name in names)
    assert all(stage in progress for stage in ("Load", "Cluster", "Inspect", "Save"))
    assert "text of q7" in (out / "report.html").read_text(encoding="utf-8")
    for name in FIGURES:
        assert (out / name).read_bytes().startswith(b"\x89PNG")


def test_cluster_neurons(files, tmp_path, capsys):
    out = tmp_path / "out"
    options = ["--rows", "neurons", "--texts", files / "texts.csv"]
    options += ["--n-subsamples", 2, "--n-jobs", 1]
    assert run("cluster", files / "layer_*.npz", "--out", out, *options) == 0
    printed, _ = capsys.readouterr()
    neurons = load_activations(files / "layer_*.npz").neurons()
    expected = make_pipeline(
        MultiLayerTfidfSketcher(random_state=0), MutualKNNLeiden(random_state=0)
    ).fit_predict(neurons)
    rows = table(out / "labels.csv")
    assert [row["id"] for row in rows] == neurons.ids.tolist()
    assert [int(row["community"]) for row in rows] == expected.tolist()
    assert re.search(r"\n900 neurons, \d+ groups, \d+ neurons in none; mod", printed)
    found = load_communities(out / "communities.json")
    assert found.summary["rows"] == "neurons"
    assert found.stability.shape == (expected.max() + 1,)
    assert found.top_features[0][0].text.startswith("text of q")
    # Neurons are of one layer each, with which no others agree.
    assert sorted(path.name for path in out.iterdir()) == sorted(
        [*RUN, *(name for name in FIGURES if name != "layers.png")]
    )


def test_names_and_tree(undrawn, files, tmp_path, capsys):
    out = tmp_path / "out"
    (files / "names.csv").write_text('community,name\n0,"wide, rivers"\n99,none\n')
    texts = [f"{'river delta' if i % 2 else 'chess'} {i}" for i in range(400)]
    (files / "texts.json").write_text(json.dumps(dict(zip(IDS, texts, strict=True))))
    given = ["--texts", files / "texts.json", "--names", files / "names.csv", "-q"]
    left_out = "names for communities that do not exist: 99, of 4. They are left out"
    with pytest.warns(UserWarning, match=left_out):
        assert run("cluster", *paths(files), "--out", out, "--tree", *given) == 0
    printed = capsys.readouterr().out
    assert "  wide, rivers\n" in printed
    found = load_communities(out / "communities.json")
    assert found.names[0] == "wide, rivers"
    assert found.names[1] == ", ".join(found.keywords[1][:3]) or "no words in common"
    rows = table(out / "labels.csv")
    assert [row["name"] for row in rows] == [found.names[c] for c in found.labels]
    expected = make_pipeline(
        MultiLayerTfidfSketcher(random_state=0), MutualKNNLeiden(random_state=0)
    ).fit(load_activations(files / "layer_*.npz"))
    tree = skleiden.inspection.community_tree(expected, texts=texts, random_state=0)
    assert found.tree == json.loads(json.dumps(tree.to_dict()))
    page = (out / "report.html").read_text(encoding="utf-8")
    assert "Communities within communities" in page
    assert "wide, rivers" in page


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("n.json", '{"a": "x"}', "got 'a' as a number. Correct the file"),
        ("n.json", '{"0": 3}', "got 3 as a name"),
        ("n.json", '["x"]', "got list. Correct"),
        ("n.json", "{", "n.json' must hold names of communities by their numbers"),
        ("n.csv", "0,a\n0,b\n", "got 0 twice"),
        ("n.csv", " 0,a\n00,b\n", "got 0 twice"),
        ("n.json", '{"0": "a", " 0": "b"}', "got 0 twice"),
        ("n.csv", '0,"a\n1,b\n', "n.csv' must hold names of communities by their"),
        ("n.csv", "-1,noise\n", "got '-1' as a number"),
        ("n.csv", "1.0,a\n", "got '1.0' as a number"),
        ("n.csv", b"0,\xe9\n", "n.csv' must hold names of communities by their"),
        ("n.csv", "0,a,b\n", "got a line of 3 cells, ['0', 'a', 'b']"),
        ("n.csv", "0,a\nb,c\n", "got 'b' as a number"),
        ("missing.csv", None, "Cannot read"),
    ],
)
def test_names_are_checked_before_the_work(
    files, tmp_path, monkeypatch, capsys, name, text, message
):
    monkeypatch.setattr(skleiden.MultiLayerTfidfSketcher, "fit", pytest.fail)
    if text is not None:
        (files / name).write_bytes(text if isinstance(text, bytes) else text.encode())
    given = ["cluster", *paths(files), "--out", tmp_path / "out", "-q"]
    assert run(*given, "--names", files / name) == 1
    error = capsys.readouterr().err
    if text is not None:
        assert message in error
    assert name in error


@pytest.mark.parametrize(
    ("text", "names"),
    [
        ('0,"two\nlines"\n1,b\n', {0: "two\nlines", 1: "b"}),
        ("0,a\u2028b\n1,c\x0bd\n", {0: "a\u2028b", 1: "c\x0bd"}),
        ("number;name\r\n0;a, b\r\n", {0: "a, b"}),
        ("0;a\n", {0: "a"}),
    ],
)
def test_names_are_those_of_the_file(tmp_path, text, names):
    path = tmp_path / "names.csv"
    path.write_text(text, newline="", encoding="utf-8")
    assert load_names(path) == names


def test_rows_that_are_tokens(undrawn, files, tmp_path, capsys):
    out = tmp_path / "out"
    options = ["--rows", "tokens", "--texts", files / "texts.csv", "-q"]
    assert run("cluster", *paths(files), "--out", out, *options, "--center") == 0
    assert re.search(
        r"\n400 tokens, \d+ communities, 0 tokens", capsys.readouterr().out
    )
    assert load_communities(out / "communities.json").summary["rows"] == "tokens"
    assert "Search tokens, ids" in (out / "report.html").read_text(encoding="utf-8")


@pytest.mark.parametrize(
    "option", ["--n-components=16,32,16", "--layer-weights=1,2,3", "--center"]
)
def test_what_is_said_of_layers_is_refused_for_neurons(files, tmp_path, capsys, option):
    out, rows = tmp_path / "out", ["--rows", "both", option, "-q"]
    assert run("cluster", files / "layer_*.npz", "--out", out, *rows) != 0
    error = capsys.readouterr().err
    assert f"{option.split('=')[0]} applies to the layers of prompts" in error
    assert not out.exists()


def test_cluster_both(files, tmp_path, capsys):
    out = tmp_path / "out"
    options = ["--rows", "both", "--texts", files / "texts.csv", "-q"]
    assert run("cluster", files / "layer_*.npz", "--out", out, *options) == 0
    printed, _ = capsys.readouterr()
    stack = load_activations(files / "layer_*.npz")
    found = load_communities(out / "communities.json")
    groups = found.neuron_groups
    assert groups.ids.tolist() == stack.neurons().ids.tolist()
    rows = table(out / "neurons.csv")
    assert [int(row["community"]) for row in rows] == groups.labels.tolist()
    expected = skleiden.inspection.cross_table(found.labels, groups.labels, stack)
    assert_array_equal(found.cross_table.drives, expected.drives)
    assert expected.drives.any()
    assert expected.describe()[0] in printed
    assert sorted(path.name for path in out.iterdir()) == sorted(
        [*RUN, *FIGURES, "neurons.csv", "drives.png"]
    )
    json_too = ["--rows", "both", "--json", "-q", "--overwrite"]
    assert run("cluster", files / "layer_0.npz", "--out", out, *json_too) == 0
    result = json.loads(capsys.readouterr()[0])
    assert result["neuron_groups"]["rows"] == "neurons"
    assert set(result["drives"][0]) == {"group", "community", "effect", "mean"}


def test_cluster_for_programs(files, tmp_path, capsys):
    out = tmp_path / "out"
    runs = ["--n-runs", 2, "--n-subsamples", 2, "--json", "-q", "--seed", 3]
    assert run("cluster", files / "layer_*.npz", "--out", out, *runs, *EQUAL) == 0
    printed, progress = capsys.readouterr()
    assert progress == ""
    result = json.loads(printed)
    assert result["n_samples"] == 400
    stages = {"load", "cluster", "stability", "inspect", "save"}
    assert set(result["seconds"]) == stages
    assert 0 <= result["stability"] <= 1
    assert result["not_saved"] == []
    columns = {"id", "community", "confidence", "attached", "strength", "second"}
    assert set(table(out / "labels.csv")[0]) == columns
    found = load_communities(out / "communities.json")
    assert found.parameters["random_state"] == 3
    assert found.stability.shape == (result["n_communities"],)
    assert found.confidence.shape == (400,)


def test_options_choose_what_is_read(undrawn, files, tmp_path, capsys):
    for beside in files.glob("*.ids.json"):
        beside.unlink()
    np.save(files / "ids.npy", np.arange(400))
    options = ["--layers", "layer_2,layer_0", "--ids", files / "ids.npy", "-q"]
    out = tmp_path / "out"
    assert run("cluster", *paths(files), "--out", out, *options) == 0
    found = load_communities(out / "communities.json")
    assert list(found.summary["layers"]) == ["layer_2", "layer_0"]
    assert found.ids.tolist() == list(range(400))


def test_options_reach_the_estimators(undrawn, files, tmp_path, capsys):
    options = (
        "--n-components 16,32,8 --layer-weights 1,2,0.5 --weighting zscore "
        "--no-smooth-idf --power 0.5 --dtype float64 --graph union --weights umap "
        "--resolution 0.5 --n-iterations -1 --small-clusters noise --n-jobs 1"
    )
    out = tmp_path / "out"
    given = ["cluster", *paths(files), "--out", out, "-q", *options.split()]
    assert run(*given) == 0
    found = load_communities(out / "communities.json").parameters
    expected = {
        "sketch__n_components": [16, 32, 8],
        "sketch__layer_weights": [1, 2, 0.5],
        "sketch__weighting": "zscore",
        "sketch__smooth_idf": False,
        "sketch__power": 0.5,
        "sketch__dtype": "<class 'numpy.float64'>",
        "leiden__graph": "union",
        "leiden__weights": "umap",
        "leiden__resolution": 0.5,
        "leiden__n_iterations": -1,
        "leiden__small_clusters": "noise",
        "leiden__n_jobs": 1,
    }
    assert found.items() >= expected.items()


@pytest.mark.parametrize("form", ["zarr", "h5py"])
def test_layers_of_a_store(stack, tmp_path, monkeypatch, form):
    library = pytest.importorskip(form)
    store = tmp_path / f"layers.{form}"
    is_zarr = form == "zarr"
    opened = (
        library.open_group(store, mode="w") if is_zarr else library.File(store, "w")
    )
    for name, layer in zip(stack.names, stack.layers, strict=True):
        opened[name] = layer.toarray()
    if not is_zarr:
        opened.close()
    reads = Counter()

    def note(array, start, stop):
        reads[array.name] += stop - start
        return read_stored(array, start, stop)

    monkeypatch.setattr("skleiden._blocks.sources.read_stored", note)
    assert run("cluster", store, "--out", tmp_path / "out", "-q") == 0
    found = load_communities(tmp_path / "out" / "communities.json")
    assert list(found.summary["layers"]) == list(stack.names)
    # To count, to sample (of so few rows, all), to embed, and to describe: the page and
    # all figures included; and 24 rows, to tell that they are those that were fitted.
    assert set(reads.values()) == {4 * len(stack) + 24}


@pytest.mark.parametrize("module", ["jinja2", "matplotlib"])
def test_what_is_not_installed_is_left_out(
    files, tmp_path, monkeypatch, capsys, module
):
    out = tmp_path / "out"
    monkeypatch.setitem(sys.modules, module, None)
    if module == "matplotlib":
        monkeypatch.setitem(sys.modules, "matplotlib.pyplot", None)
    assert run("cluster", *paths(files), "--out", out, "-q", *EQUAL) == 0
    printed = capsys.readouterr().out
    names = {path.name for path in out.iterdir()}
    assert {"labels.csv", "communities.json"} <= names
    if module == "jinja2":
        assert "No page: " in printed
        assert "skleiden[report]" in printed
        assert "report.html" not in names
    else:
        assert "No figures: " in printed
        assert "skleiden[plot]" in printed
        assert names.isdisjoint(FIGURES)


def test_where_all_is_noise(files, tmp_path, capsys):
    options = ["--min-cluster-size", 399, "-q", *EQUAL]
    with pytest.warns(UserWarning, match="all labels are -1"):
        code = run("cluster", *paths(files), "--out", tmp_path / "out", *options)
    assert code == 0
    printed = capsys.readouterr().out
    assert "0 communities, 400 prompts in none" in printed
    assert "No prototypes.png: There is no community, and its prototypes" in printed
    assert "No layers.png: There is no community, and its layers cannot" in printed
    assert (tmp_path / "out" / "report.html").exists()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["nothing*.npz"], "No file matches"),
        (["texts.csv"], "is not a file of activations"),
        (["layer_0.npz", "--layers", "mlp"], r"layers must name layers of the files"),
        (["layer_0.npz", "--texts", "texts.csv"], "texts has no text for"),
        (["layer_0.npz", "--n-components", "1,2"], "n_components must be an integer"),
        (
            ["layer_0.npz", "--objective", "surprise", "--resolution", "2"],
            "has no reso",
        ),
    ],
)
def test_mistakes_exit_with_1(files, tmp_path, monkeypatch, capsys, arguments, message):
    monkeypatch.chdir(files)
    (files / "texts.csv").write_text("id,text\nother,text\n")
    assert run("cluster", *arguments, "--out", tmp_path / "out", "-q") == 1
    printed, error = capsys.readouterr()
    assert printed == ""
    assert error.startswith("skleiden: error: ")
    assert message in error


@pytest.mark.parametrize("command", ["cluster", "profile"])
def test_out_that_is_a_file(files, capsys, command):
    assert run(command, *paths(files), "--out", files / "texts.csv") == 1
    assert (
        "texts.csv' is not a folder. Give a folder as --out" in capsys.readouterr().err
    )


@pytest.mark.parametrize("command", ["cluster", "profile"])
def test_failure_leaves_no_empty_folder(files, tmp_path, capsys, command):
    assert run(command, files / "none*", "--out", tmp_path / "out") == 1
    assert not (tmp_path / "out").exists()


def test_texts_are_checked_before_the_work(files, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(skleiden.MultiLayerTfidfSketcher, "fit", pytest.fail)
    arguments = ["cluster", *paths(files), "--out", tmp_path / "out", "-q", "--texts"]
    (files / "few.csv").write_text("q1,text\n")
    assert run(*arguments, files / "few.csv") == 1
    error = capsys.readouterr().err
    assert "no text for 399 of 400 ids" in error
    assert f"The texts are from {str(files / 'few.csv')!r}, the ids from" in error
    assert f"{str(files / 'layer_0.npz')!r}" in error
    for beside in files.glob("*.ids.json"):
        beside.unlink()
    assert run(*arguments, files / "texts.csv") == 1
    assert "the files have no ids. Name the rows with --ids" in capsys.readouterr().err


def unfit_ids(folder, form):
    """Ids that come through reading, and that communities.json cannot hold."""
    path = folder / "odd.json"
    last = {"infinity": "Infinity", "null": "null", "surrogate": '"\\ud800"'}
    if form in last:
        path.write_text(f'["a", "b", {last[form]}]')
    elif form == "longdouble":
        path = folder / "odd.npy"
        np.save(path, np.arange(3, dtype=np.longdouble))
    return path


@pytest.mark.parametrize("form", ["infinity", "null", "surrogate", "longdouble"])
@pytest.mark.parametrize("way", ["option", "beside"])
def test_errors_of_ids_name_the_file(tmp_path, monkeypatch, capsys, form, way):
    monkeypatch.setattr(skleiden.MultiLayerTfidfSketcher, "fit", pytest.fail)
    layer = tmp_path / "layer.npy"
    np.save(layer, np.eye(3))
    path = unfit_ids(tmp_path, form)
    arguments = ["cluster", layer, "--out", tmp_path / "out", "-q"]
    if way == "option":
        arguments += ["--ids", path]
        origin = f"The ids are from {str(path)!r}."
    else:
        path.rename(tmp_path / f"layer.ids{path.suffix}")
        origin = f"The ids are from {str(layer)!r}, or files of ids beside."
    assert run(*arguments) == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("skleiden: error: ids must be ")
    assert line.endswith(origin)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("name", [None, b"a"])
def test_errors_of_ids_inside_of_files_name_the_files(tmp_path, capsys, name):
    torch = pytest.importorskip("torch")
    path = tmp_path / "layer.pt"
    torch.save({name: torch.ones(3), "b": torch.ones(3)}, path)
    arguments = ["cluster", path, "--out", tmp_path / "out", "-q"]
    if name is None:
        assert run(*arguments) == 1
        assert f"The ids are from {str(path)!r}, or" in capsys.readouterr().err
    else:
        assert run(*arguments) == 1
        assert repr(str(path)) in capsys.readouterr().err


@pytest.mark.skipif(not Path("/proc/self/mem").exists(), reason="needs /proc")
@pytest.mark.parametrize("option", ["file", "files", "ids", "texts", "report"])
def test_errors_of_the_system_name_files(tmp_path, capsys, option):
    """Of a file that can be opened and not be read, as on a broken disk."""
    layer, bad = tmp_path / "layer.npy", "/proc/self/mem"
    np.save(layer, np.eye(3))
    (tmp_path / "layer.ids.json").write_text('["a", "b", "c"]')
    (tmp_path / "communities.json").symlink_to(bad)
    files = {"file": [bad], "files": [layer, bad]}.get(option, [layer])
    more = [f"--{option}", bad] if option in ("ids", "texts") else []
    if option == "report":
        assert run("report", tmp_path) == 1
        bad = str(tmp_path / "communities.json")
    else:
        assert run("cluster", *files, *more, "--out", tmp_path / "out", "-q") == 1
    error = capsys.readouterr().err
    assert error.startswith("skleiden: error: Cannot read ")
    assert f"{bad!r}: Input/output error. Give another file, or a copy" in error


@pytest.mark.parametrize("command", ["cluster", "profile"])
@pytest.mark.parametrize("n_files", [1, 4])
def test_files_without_rows(tmp_path, capsys, command, n_files):
    for number in range(n_files):
        np.save(tmp_path / f"layer_{number}.npy", np.zeros((0, 5)))
    paths = sorted(tmp_path.glob("*.npy"))
    assert run(command, *paths, "--out", tmp_path / "out", "-q") == 1
    more = ", ..." if n_files > 3 else ""
    shown = ", ".join(repr(str(path)) for path in paths[:3])
    assert capsys.readouterr().err == (
        f"skleiden: error: {shown}{more} must hold a row for each prompt; got no rows. "
        "Give files with rows.\n"
    )


def parser_of(command):
    """A parser with the options of one command."""
    parser = argparse.ArgumentParser()
    import_module(f"skleiden.cli._{command}").add_options(parser)
    return parser


LESS = "; close other programs, or use a computer with more memory. Unable"


@pytest.mark.parametrize(
    ("command", "where", "message"),
    [
        ("cluster", "io.load_activations", "'Load'; choose fewer layers by --layers"),
        ("cluster", "io.load_texts", "'Load'; choose fewer layers by --layers, or"),
        ("cluster", "MutualKNNLeiden.fit", "'Cluster'; lower --n-components"),
        (
            "cluster",
            "model_selection.community_stability",
            "'Stability'; lower --n-jobs.",
        ),
        (
            "cluster",
            "inspection._communities.describe",
            "'Inspect'; choose fewer layers by --layers.",
        ),
        ("cluster", "report.write_report", "'Save'; choose fewer layers by --layers."),
        ("profile", "io.load_activations", "'Load'; choose fewer layers by --layers"),
        ("profile", "model_selection._profile._Sweep.add", "'Sweep'; lower --n-comp"),
        ("profile", "model_selection.ResolutionProfile.plot", f"'Save'{LESS}"),
        ("report", "io.load_communities", f"'Load'{LESS}"),
        ("report", "report.write_report", f"'Page'{LESS}"),
    ],
)
def test_too_little_memory_is_told_by_stage(
    request, files, tmp_path, monkeypatch, capsys, command, where, message
):
    out = tmp_path / "out"
    given = [*paths(files), "--out", out, "-q", "--n-neighbors", 15, "--n-jobs", 1]
    if not where.endswith(".plot"):
        request.getfixturevalue("undrawn")
    if command == "report":
        assert run("cluster", *given, *EQUAL) == 0
        given = [out]
    elif command == "profile":
        given += ["--n-runs", 2, "--n-permutations", 0, "--resolutions", "1,2", *EQUAL]
    else:
        given += ["--n-subsamples", 2, "--texts", files / "texts.csv", *EQUAL]

    def fail(*_, **__):
        raise MemoryError("Unable to allocate 2.77 TiB")

    monkeypatch.setattr(f"skleiden.{where}", fail)
    assert run(command, *given) == 1
    error = capsys.readouterr().err
    assert f"Not enough memory in the stage {message}" in error
    assert "Unable to allocate 2.77 TiB" in error
    # It names nothing that the command does not have.
    options = {
        text for one in parser_of(command)._actions for text in one.option_strings
    }
    assert set(re.findall(r"--[a-z][a-z-]+", error)) <= {"--out", *options}


@pytest.mark.parametrize("n_jobs", [2**31, 10**30, -(2**31) - 1])
@pytest.mark.parametrize("command", ["cluster", "profile"])
def test_absurd_numbers_of_jobs(
    undrawn, files, tmp_path, monkeypatch, capsys, command, n_jobs
):
    """As many as there are processors, here one."""
    monkeypatch.setattr("os.cpu_count", lambda: 1)
    out = tmp_path / "out"
    few = ["--n-runs", 2, "--n-neighbors", 15, "--n-jobs", n_jobs, "-q"]
    if command == "profile":
        few += ["--resolutions", "1,2", "--n-permutations", 0]
    assert run(command, files / "layer_0.npz", "--out", out, *few) == 0


def test_warnings_take_one_line(files, tmp_path):
    program = "import sys; from skleiden.cli import main; sys.exit(main())"
    arguments = ["cluster", *paths(files), "--out", tmp_path / "out", "-q", *EQUAL]
    code, _, error = run_script(program, *arguments, "--min-cluster-size", 399)
    assert code == 0
    (line,) = error.splitlines()
    assert line.startswith("skleiden: warning: No community has min_cluster_size=399")


def test_labels_are_kept_if_what_follows_is_interrupted(
    files, tmp_path, monkeypatch, capsys
):
    def interrupt(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr(skleiden.inspection._communities, "describe", interrupt)
    given = ["--out", tmp_path / "out", "-q", *EQUAL]
    assert run("cluster", *paths(files), *given) == 130
    labels = tmp_path / "out.partial" / "labels.csv"
    printed, error = capsys.readouterr()
    assert printed == ""
    assert error == (
        f"Interrupted. Saved until then: {labels}; the next run to "
        f"{str(tmp_path / 'out')!r} clears them.\n"
    )
    assert len(table(labels)) == 400
    assert not (tmp_path / "out").exists()


# --- profile --------------------------------------------------------------------------


def test_profile(files, tmp_path, capsys):
    out = tmp_path / "out"
    runs = "--resolutions 0.2,0.5,1 --n-runs 3 --n-permutations 1 --n-neighbors 15"
    runs = [*runs.split(), "--n-jobs", 1, *EQUAL]
    assert run("profile", *paths(files), "--out", out, *runs) == 0
    printed, progress = capsys.readouterr()
    assert [float(row["resolution"]) for row in table(out / "profile.csv")] == [
        0.2,
        0.5,
        1,
    ]
    assert (out / "profile.png").read_bytes().startswith(b"\x89PNG")
    assert "Best, by net information: --resolution 0." in printed
    assert "Load" in progress
    again = ["--overwrite", "--json", "-q"]
    assert run("profile", *paths(files), "--out", out, *runs, *again) == 0
    result = json.loads(capsys.readouterr().out)
    assert result["best"] in (0.2, 0.5)
    assert result["table"]["n_runs"] == [3, 3, 3]
    names = ["profile.csv", "profile.png", "manifest.json"]
    assert result["saved"] == [str(out / name) for name in names]
    assert sorted(path.name for path in out.iterdir()) == sorted(names)


def test_profile_of_neurons(undrawn, files, tmp_path, capsys):
    """Halves are seen: runs agree less than those of seeds on the same graph."""
    tables = []
    for vary in ("all", "neurons"):
        arguments = ["profile", *paths(files), "--out", tmp_path / vary, "-q", "--json"]
        arguments += ["--resolutions", "0.5,1", "--n-runs", 2, "--n-permutations", 0]
        arguments += ["--n-jobs", 1, *EQUAL]
        assert run(*arguments, "--vary", vary) == 0
        tables.append(json.loads(capsys.readouterr().out)["table"])
    of_seeds, of_neurons = (np.array(one["stability"]) for one in tables)
    assert (of_neurons < of_seeds).all()
    assert (of_neurons > 0).all()


def test_profile_without_a_best(undrawn, files, tmp_path, capsys):
    """Of resolutions so low that all is one community."""
    arguments = ["profile", *paths(files), "--out", tmp_path / "out", "-q"]
    arguments += ["--resolutions", "0.001,0.002", "--n-runs", 2, "--n-permutations", 0]
    arguments += ["--n-jobs", 1, *EQUAL]
    assert run(*arguments) == 0
    assert "Best: none. None of 2 resolutions is" in capsys.readouterr().out
    assert run(*arguments, "--overwrite", "--json") == 0
    result = json.loads(capsys.readouterr().out)
    assert (result["best"], result["levels"]) == (None, [])
    assert result["table"]["null"] == [None, None]


def test_interrupted_profile_is_saved_and_told(files, tmp_path, monkeypatch, capsys):
    from skleiden.model_selection import _profile

    add, done = _profile._Sweep.add, []

    def add_and_interrupt(self, *arguments):
        add(self, *arguments)
        done.append(1)
        if len(done) == 2:
            raise KeyboardInterrupt

    monkeypatch.setattr(_profile._Sweep, "add", add_and_interrupt)
    out = tmp_path / "out"
    arguments = ["profile", *paths(files), "--out", out, "-q", "--n-runs", 2, *EQUAL]
    with pytest.warns(UserWarning, match="Interrupted: the profile holds 2 of 3"):
        code = run(*arguments, "--resolutions", "0.2,0.5,1", "--n-jobs", 1)
    assert code == 130
    assert len(table(tmp_path / "out.partial" / "profile.csv")) == 2
    assert str(tmp_path / "out.partial" / "profile.csv") in capsys.readouterr().out
    assert not out.exists()


# --- report ---------------------------------------------------------------------------


def test_report(undrawn, files, tmp_path, capsys):
    out = tmp_path / "out"
    assert run("cluster", *paths(files), "--out", out, "-q", *EQUAL) == 0
    page = out / "report.html"
    first = page.read_bytes()
    page.unlink()
    capsys.readouterr()
    assert run("report", out) == 0
    assert capsys.readouterr() == (f"Saved: {page}\n", "")
    # Positions are saved with four digits.
    assert abs(len(page.read_bytes()) - len(first)) < 0.2 * len(first)
    options = ["--title", "My <b>run</b>", "-q", *EQUAL]
    assert run("cluster", *paths(files), "--out", out, "--overwrite", *options) == 0
    assert run("report", out) == 0
    assert "My &lt;b&gt;run&lt;/b&gt;" in page.read_text(encoding="utf-8")
    capsys.readouterr()
    assert run("report", out, "--json", "--title", "A <title>") == 0
    assert json.loads(capsys.readouterr().out) == {"saved": [str(page)]}
    assert "A &lt;title&gt;" in page.read_text(encoding="utf-8")


def test_report_with_names(undrawn, files, tmp_path, capsys):
    out, names = tmp_path / "out", files / "names.json"
    assert run("cluster", *paths(files), "--out", out, "-q", *EQUAL) == 0
    saved = (out / "communities.json").read_bytes()
    names.write_text('{"1": "Law & order", "99": "none"}')
    left_out = "names for communities that do not exist: 99, of 4. They are left out"
    with pytest.warns(UserWarning, match=left_out):
        assert run("report", out, "--names", names) == 0
    page = (out / "report.html").read_text(encoding="utf-8")
    assert '"name":"Law \\u0026 order"' in page
    assert (out / "communities.json").read_bytes() == saved
    assert run("report", out) == 0
    assert "Law" not in (out / "report.html").read_text(encoding="utf-8")
    names.write_text('{"one": "Law"}')
    capsys.readouterr()
    assert run("report", out, "--names", names) == 1
    assert "names.json' must hold names of communities by" in capsys.readouterr().err


def test_report_of_nothing(tmp_path, capsys):
    assert run("report", tmp_path / "absent") == 1
    assert "absent' is not a folder. Give the one that" in capsys.readouterr().err
    assert run("report", tmp_path) == 1
    assert "communities.json" in capsys.readouterr().err
    (tmp_path / "communities.json").write_text("{}")
    assert run("report", tmp_path) == 1
    assert "does not hold communities" in capsys.readouterr().err
