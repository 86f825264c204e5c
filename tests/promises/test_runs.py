"""Runs as folders: whole or not at all, whatever ends the command that writes one.

Commands are killed in processes of their own, at every operation on files there is.
"""

import errno
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

import skleiden
import skleiden.inspection
import skleiden.io
from skleiden.cli import _lock, _run_folder, main
from skleiden.cli._manifest import read_manifest
from skleiden.io import load_communities, save_communities, save_estimator, save_labels
from skleiden.io._files import write_whole
from skleiden.report import write_report
from tests.children import environment, run_script, start_script

pytestmark = pytest.mark.slow

posix = pytest.mark.skipif(os.name == "nt", reason="needs POSIX")


@pytest.fixture
def place(tmp_path, monkeypatch):
    """Where files of activations lie, and runs beside them; without figures."""
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    monkeypatch.setitem(sys.modules, "matplotlib.pyplot", None)
    (tmp_path / "in").mkdir()
    save_rows(tmp_path / "in" / "mlp.npy")
    return tmp_path


def save_rows(path):
    rng = np.random.default_rng(0)
    centers = 3 * rng.random((3, 12))
    np.save(path, np.repeat(centers, 20, axis=0) + rng.random((60, 12)))


def run(*arguments):
    return main([str(argument) for argument in arguments])


def cluster(place, *options, out="out"):
    given = [place / "in" / "mlp.npy", "--out", place / out, "-q", "--n-neighbors", 10]
    return run("cluster", *given, *options)


def contents(folder):
    """Every file below a folder, with its bytes."""
    return {
        str(path.relative_to(folder)): path.read_bytes() if path.is_file() else None
        for path in sorted(folder.rglob("*"))
    }


def names_in(folder):
    return {path.name for path in folder.iterdir()}


def is_whole(folder):
    """Whether a run is there with all of its files, and nothing else."""
    manifest = read_manifest(folder)
    names = {*manifest.files, "manifest.json"}
    return names_in(folder) == names and all(
        (folder / name).stat().st_size == facts["bytes"]
        for name, facts in manifest.files.items()
    )


# --- What --out may be ----------------------------------------------------------------


def test_a_run_is_a_folder_with_a_manifest(place):
    assert cluster(place) == 0
    document = json.loads((place / "out" / "manifest.json").read_text())
    assert document["format"] == "skleiden-run"
    assert document["schema_version"] == 1
    assert document["skleiden_version"] == skleiden.__version__
    assert document["command"] == "cluster"
    assert {"labels.csv", "communities.json"} <= document["files"].keys()
    assert is_whole(place / "out")
    assert names_in(place) == {"in", "out"}


def test_an_empty_folder_is_taken(place):
    (place / "out").mkdir(mode=0o750)
    assert cluster(place) == 0
    assert is_whole(place / "out")
    if os.name == "posix":
        assert (place / "out").stat().st_mode & 0o777 == 0o750


def test_an_earlier_run_is_replaced_if_asked_for(place, capsys):
    assert cluster(place) == 0
    before = contents(place / "out")
    assert cluster(place, "--resolution", 2) == 1
    assert (
        "holds an earlier run. Give --overwrite to replace" in capsys.readouterr().err
    )
    assert contents(place / "out") == before
    assert cluster(place, "--resolution", 2, "--overwrite") == 0
    assert is_whole(place / "out")
    assert contents(place / "out") != before
    assert names_in(place) == {"in", "out"}


def test_no_file_of_an_earlier_run_stays(place, monkeypatch):
    assert cluster(place) == 0
    monkeypatch.setitem(sys.modules, "jinja2", None)
    assert cluster(place, "--overwrite") == 0
    assert not (place / "out" / "report.html").exists()
    assert is_whole(place / "out")


def test_a_run_of_another_command_is_not_replaced(place, capsys):
    assert cluster(place) == 0
    before = contents(place / "out")
    given = [place / "in" / "mlp.npy", "--out", place / "out", "-q", "--overwrite"]
    assert run("profile", *given) == 1
    error = capsys.readouterr().err
    assert "holds a run of skleiden cluster, which skleiden profile does not" in error
    assert contents(place / "out") == before


@pytest.mark.parametrize("options", [[], ["--overwrite"]])
@pytest.mark.parametrize("name", ["notes.txt", "labels.csv", "map.png", ".hidden"])
@pytest.mark.parametrize("form", ["file", "folder", "link"])
def test_a_folder_of_somebody_elses_is_refused(place, capsys, name, form, options):
    theirs = place / "out" / name
    theirs.parent.mkdir()
    if form == "file":
        theirs.write_text("mine")
    elif form == "folder":
        theirs.mkdir()
    else:
        theirs.symlink_to(place / "absent")
    assert cluster(place, *options) == 1
    error = capsys.readouterr().err
    assert f"{str(place / 'out')!r} holds {name!r}, and is not the folder of" in error
    assert os.path.lexists(theirs)
    assert len(list((place / "out").iterdir())) == 1


@pytest.mark.parametrize("change", ["added", "edited", "folder", "linked", "manifest"])
def test_what_a_run_did_not_save_is_never_touched(place, capsys, monkeypatch, change):
    """In the folder of a run that is to be replaced."""
    assert cluster(place) == 0
    out = place / "out"
    if change == "added":
        (out / "thesis.txt").write_text("mine")
    elif change == "edited":
        (out / "labels.csv").write_text("mine")
    elif change == "manifest":  # of a program that is not this one
        (out / "manifest.json").write_text('{"files": {}}')
    else:
        (out / "report.html").unlink()
        if change == "folder":
            (out / "report.html").mkdir()
        else:
            (out / "report.html").symlink_to(place / "in" / "mlp.npy")
    before = contents(place)
    monkeypatch.setattr(skleiden.MultiLayerTfidfSketcher, "fit", pytest.fail)
    assert cluster(place, "--overwrite") == 1
    error = capsys.readouterr().err
    assert "which the run there did not save" in error or "is not the folder" in error
    assert contents(place) == before


def test_what_comes_while_the_command_works_is_not_touched(place, capsys, monkeypatch):
    assert cluster(place) == 0
    before = contents(place / "out")
    describe = skleiden.inspection._communities.describe

    def describe_late(*arguments, **options):
        (place / "out" / "late.txt").write_text("mine")
        return describe(*arguments, **options)

    monkeypatch.setattr(skleiden.inspection._communities, "describe", describe_late)
    assert cluster(place, "--overwrite") == 1
    error = capsys.readouterr().err
    assert "'late.txt', which the run there did not save" in error
    assert str(place / "out.partial" / "labels.csv") in error
    assert contents(place / "out") == before | {"late.txt": b"mine"}


def test_names_in_a_manifest_lead_nowhere_else(place, capsys):
    assert cluster(place) == 0
    manifest = place / "out" / "manifest.json"
    document = json.loads(manifest.read_text())
    document["files"]["../in/mlp.npy"] = document["files"]["labels.csv"]
    manifest.write_text(json.dumps(document))
    assert cluster(place, "--overwrite") == 1
    assert "is not the folder of a run" in capsys.readouterr().err
    assert (place / "in" / "mlp.npy").exists()


@pytest.mark.parametrize("suffix", [".partial", ".partial/thesis.txt"])
def test_a_folder_of_somebody_elses_beside_is_not_touched(place, capsys, suffix):
    theirs = place / f"out{suffix}"
    theirs.parent.mkdir(exist_ok=True)
    theirs.write_text("mine")
    assert cluster(place) == 1
    error = capsys.readouterr().err
    assert f"{str(place / 'out.partial')!r} is where a run is written until" in error
    assert f"holds {theirs.name!r}, which no unfinished run left there. Move" in error
    assert theirs.read_text() == "mine"


PROFILE = [
    "--n-jobs",
    1,
    "--n-runs",
    2,
    "--n-permutations",
    0,
    "--resolutions",
    "0.5,1",
]


@pytest.mark.parametrize("made_by", ["cluster", "profile"])
@pytest.mark.parametrize("name", ["out.earlier", "out.partial", "out.partial/.earlier"])
def test_finished_runs_are_never_touched_whatever_their_names(
    place, capsys, name, made_by
):
    given = [place / "in" / "mlp.npy", "-q"]
    many = PROFILE if made_by == "profile" else []
    assert run(made_by, *given, *many, "--out", place / name) == 0
    before = contents(place)
    # Neither without a run in the place, nor with one.
    assert run("report", place / "out") == 1
    assert contents(place) == before
    refused = int(name != "out.earlier")
    assert cluster(place) == refused
    if refused:
        assert "which no unfinished run left there" in capsys.readouterr().err
        assert contents(place) == before
        assert cluster(place, out="made") == 0
        (place / "made").rename(place / "out")
    before = contents(place / "out.earlier" if not refused else place / "out.partial")
    assert run("report", place / "out", "--title", "Another") == 0
    assert cluster(place, "--overwrite") == refused
    theirs = place / ("out.partial" if refused else "out.earlier")
    assert contents(theirs) == before
    assert is_whole(place / "out")


@pytest.mark.parametrize("suffix", [".earlier", ".partial"])
def test_copies_of_a_run_are_not_touched(place, suffix):
    assert cluster(place) == 0
    copy = place / f"out{suffix}"
    shutil.copytree(place / "out", copy)
    before = contents(copy)
    assert run("report", place / "out") == 0
    assert contents(copy) == before
    shutil.rmtree(place / "out")
    assert run("report", place / "out") == 1
    assert cluster(place, "--overwrite") == int(suffix == ".partial")
    assert contents(copy) == before


def test_an_unfinished_run_to_another_place_is_not_touched(place, capsys, monkeypatch):
    monkeypatch.setattr(skleiden.inspection._communities, "describe", _refuse)
    assert cluster(place, out="other") == 1
    monkeypatch.undo()
    (place / "other.partial").rename(place / "out.partial")
    before = contents(place)
    assert cluster(place) == 1
    assert "which no unfinished run left there" in capsys.readouterr().err
    assert contents(place) == before
    (place / "out.partial").rename(place / "other.partial")
    assert cluster(place, out="other") == 0
    assert names_in(place) == {"in", "other"}


def test_a_finished_run_inside_of_the_current_folder(place, monkeypatch, capsys):
    theirs = place / "out" / "out.partial"
    assert cluster(place, out=theirs) == 0
    before = contents(place)
    monkeypatch.chdir(place / "out")
    assert cluster(place, "--overwrite") == 1
    assert "'out.partial', and is not the folder of a" in capsys.readouterr().err
    assert contents(place) == before


def test_the_manifest_of_a_finished_run_tells_of_nothing_to_do(place, monkeypatch):
    for options in ([], ["--overwrite"]):
        assert cluster(place, *options) == 0
        assert run("report", place / "out") == 0
        document = json.loads((place / "out" / "manifest.json").read_text())
        assert document.keys() == {
            "format",
            "schema_version",
            "skleiden_version",
            "command",
            "files",
            "names",
        }


@pytest.mark.parametrize("made", [True, False])
def test_saved_names_paths_that_exist(place, monkeypatch, capsys, made):
    """As `out` goes back from a folder that does not exist."""
    monkeypatch.chdir(place)
    if made:
        (place / "rel").mkdir()
    out = Path("rel") / ".." / "rel2"
    assert run("cluster", "in/mlp.npy", "--out", out, "-q", "--json") == 0
    saved = json.loads(capsys.readouterr().out)["saved"]
    assert all(Path(path).is_file() for path in saved)
    assert (saved[0] == str(out / "labels.csv")) == made


def test_symbolic_links_are_followed(place):
    (place / "elsewhere").mkdir()
    (place / "out").symlink_to(place / "elsewhere" / "run")
    for options in ([], ["--overwrite"]):
        assert cluster(place, *options) == 0
        assert (place / "out").is_symlink()
        assert is_whole(place / "elsewhere" / "run")
    assert [path.name for path in (place / "elsewhere").iterdir()] == ["run"]


@pytest.mark.parametrize("save", ["communities", "labels", "page", "estimator"])
def test_symbolic_links_are_followed_by_every_output(tmp_path, save):
    blobs = np.repeat(np.eye(2), 8, axis=0)
    found = skleiden.inspection.Communities([0, 0, -1])
    (tmp_path / "data").mkdir()
    suffix = {"labels": ".csv", "estimator": ".npz"}.get(save, ".json")
    link, target = tmp_path / f"link{suffix}", tmp_path / "data" / f"target{suffix}"
    link.symlink_to(target)
    for _ in range(2):  # it leads nowhere at first
        if save == "communities":
            save_communities(link, found)
        elif save == "labels":
            save_labels(link, found)
        elif save == "page":
            write_report(link, found)
        else:
            save_estimator(link, skleiden.MutualKNNLeiden().fit(blobs))
        assert link.is_symlink()
        assert target.is_file()


def test_the_current_folder_is_written_into(place, monkeypatch, capsys):
    """Exchanged, it would be a folder that is gone to whoever is in it."""
    (place / "out").mkdir()
    monkeypatch.chdir(place / "out")
    inode = (place / "out").stat().st_ino
    assert cluster(place, out="out/.") == 0
    assert (place / "out").stat().st_ino == inode
    assert is_whole(place / "out")
    before = contents(place / "out")
    assert cluster(place, "--overwrite") == 1
    assert "cannot be replaced: the current folder is in it" in capsys.readouterr().err
    assert contents(place / "out") == before


@posix
@pytest.mark.parametrize("reason", ["mount", "layer", "owner", "parent"])
def test_a_place_that_cannot_be_exchanged(place, capsys, monkeypatch, reason):
    (place / "out").mkdir()
    access, rename = os.access, Path.rename
    errors = {"mount": errno.EBUSY, "layer": errno.EXDEV, "owner": errno.EPERM}

    def refuse(path, target):
        if path == place / "out":
            raise OSError(errors[reason], os.strerror(errors[reason]))
        return rename(path, target)

    if reason in errors:
        monkeypatch.setattr(Path, "rename", refuse)
    else:
        monkeypatch.setattr(
            os, "access", lambda path, mode: path != place and access(path, mode)
        )
    assert cluster(place) == 0
    assert is_whole(place / "out")
    assert names_in(place) == {"in", "out"}
    before = contents(place)
    monkeypatch.setattr(skleiden.io, "load_activations", pytest.fail)
    assert cluster(place, "--overwrite") == 1
    message = {
        "mount": "it is a mount point",
        "layer": "it is in a lower layer of its file system",
        "owner": "it belongs to another user, or is protected",
        "parent": "is not writable",
    }[reason]
    error = capsys.readouterr().err
    assert f"The earlier run in {str(place / 'out')!r} cannot be replaced: " in error
    assert message in error
    assert contents(place) == before


# Each in a process, forked from one that has imported everything.
_IN_MOUNT = """
import os, subprocess, sys
from pathlib import Path
sys.modules["matplotlib"] = None  # figures take long
import skleiden.io
from skleiden.cli import main

data = sys.argv[1]
given = ["cluster", data, "-q", "--n-neighbors", "10", "--out"]

def try_in(root):
    for name in ("lower", "upper", "work", "merged"):
        (root / name).mkdir()
    if root.name == "empty layer":
        (root / "lower" / "out").mkdir()
    else:
        assert main([*given, str(root / "lower" / "out")]) == 0
    if root.name == "mount":
        (root / "merged" / "out").mkdir()
        mount = ["--bind", root / "lower" / "out", root / "merged" / "out"]
    else:
        folders = f"lowerdir={root}/lower,upperdir={root}/upper,workdir={root}/work"
        mount = ["-t", "overlay", "overlay", "-o", folders, root / "merged"]
    if subprocess.run(["mount", *mount], capture_output=True).returncode:
        return 77
    if root.name != "empty layer":
        skleiden.io.load_activations = None  # it does not come to that
    code = main([*given, str(root / "merged" / "out"), "--overwrite"])
    print(sorted(path.name for path in (root / "merged").iterdir()))
    print(sorted(path.name for path in (root / "merged" / "out").iterdir()))
    return code

for root in map(Path, sys.argv[2:]):
    child = os.fork()
    if child == 0:
        for number, name in ((1, "printed"), (2, "error")):
            os.dup2(os.open(root / name, os.O_WRONLY | os.O_CREAT), number)
        code = try_in(root)
        sys.stdout.flush()
        os._exit(code)
    status = os.waitpid(child, 0)[1]
    (root / "code").write_text(str(os.waitstatus_to_exitcode(status)))
"""


@pytest.fixture(scope="module")
def mounts(tmp_path_factory):
    """Folders, by kind, with what a command printed in mounts inside of them."""
    folder = tmp_path_factory.mktemp("mounts")
    save_rows(folder / "mlp.npy")
    found = {kind: folder / kind for kind in ("mount", "layer", "empty layer")}
    for root in found.values():
        root.mkdir()
    command = ["unshare", "--mount", "--map-root-user", sys.executable, "-c", _IN_MOUNT]
    done = subprocess.run(
        [*command, folder / "mlp.npy", *found.values()],
        env=environment(),
        capture_output=True,
        text=True,
    )
    if "unshare" in done.stderr:
        pytest.skip("no namespaces for tests here")
    assert (done.returncode, done.stderr) == (0, "")
    return found


@pytest.mark.skipif(not shutil.which("unshare"), reason="needs Linux's namespaces")
@pytest.mark.parametrize("kind", ["mount", "layer", "empty layer"])
def test_places_that_the_system_does_not_rename(mounts, kind):
    """By a real mount, where a test may make one."""
    code, error, printed = (
        (mounts[kind] / name).read_text() for name in ("code", "error", "printed")
    )
    if code == "77":
        pytest.skip("no mounts for tests here")
    *_, beside, names = printed.splitlines()
    assert beside == "['out']"
    assert "manifest.json" in names
    if kind == "empty layer":
        assert (code, error) == ("0", "")
    elif code != "0":  # some systems do rename folders of lower layers
        reason = {"mount": "a mount point", "layer": "in a lower layer"}[kind]
        assert f"cannot be replaced: it is {reason}" in error
    else:
        assert kind == "layer"


# --- Inputs ---------------------------------------------------------------------------


@pytest.mark.parametrize("option", ["files", "pattern", "ids", "texts", "link", "side"])
def test_inputs_inside_out_are_refused(place, capsys, monkeypatch, option):
    assert cluster(place) == 0
    out, capture = place / "out", place / "in"
    data = out / "labels.csv"
    arguments = [capture / "mlp.npy"]
    if option in ("files", "pattern"):
        (out / "own.npy").write_bytes((capture / "mlp.npy").read_bytes())
        data = out / "own.npy"
        arguments = [data if option == "files" else out / "*.npy"]
    elif option == "link":
        (capture / "texts.csv").symlink_to(data)
        arguments += ["--texts", capture / "texts.csv"]
    elif option == "side":
        (capture / "mlp.ids.json").symlink_to(out / "communities.json")
    else:
        arguments += [f"--{option}", data]
    before = contents(place)
    monkeypatch.setattr(skleiden.io, "load_activations", pytest.fail)
    assert run("cluster", *arguments, "--out", out, "--overwrite") == 1
    assert "lies in the folder of --out" in capsys.readouterr().err
    assert contents(place) == before


def test_out_inside_an_input_is_refused(place, capsys):
    pytest.importorskip("zarr")
    import zarr

    store = place / "in" / "mlp.zarr"
    zarr.save_array(store, np.eye(20))
    assert run("cluster", store, "--out", store / "out") == 1
    assert "out' lies in the input" in capsys.readouterr().err
    assert not (store / "out").exists()


# --- Ends that are bad ----------------------------------------------------------------

# Kills a command at its n-th operation on files, for each n there is. Each command is a
# process, forked from one that has imported everything and has no threads.
_KILLS = """
import json, os, signal, sys, warnings
from pathlib import Path
from skleiden.cli import _run_folder
from skleiden.cli._manifest import facts_of, read_manifest
from skleiden.cli._run_folder import existing_run, new_run, rewrite
from skleiden.io._files import NEW_FILE

warnings.simplefilter("ignore")
root, start, way = Path(sys.argv[1]), *sys.argv[2:4]
EVENTS = {"open", "os.rename", "os.remove", "os.rmdir", "os.mkdir", "ctypes.dlsym"}
n_left = None
os.fsync = lambda _: None  # nothing here outlives the system

def hook(event, arguments):
    global n_left
    if n_left is not None and event in EVENTS:
        n_left -= 1
        if n_left < 0:
            os.kill(os.getpid(), signal.SIGKILL)

sys.addaudithook(hook)
def in_process(function, *arguments):
    child = os.fork()
    if child == 0:
        code = 1
        try:
            function(*arguments)
            code = 0
        finally:
            os._exit(code)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])

def look(out):
    with existing_run(out):
        pass

"""
_KILL_EVERYWHERE = """
if way == "two steps":
    _run_folder.exchange = lambda a, b: False

def write(out, text, kill_at=None):
    global n_left
    if way == "within":
        os.chdir(out)  # each time in another process
    n_left = kill_at
    with new_run(out, "cluster", ["a.txt", "b.txt"], overwrite=True) as run:
        run.write("a.txt", text)
        run.write("b.txt", 2 * text)

def seen(out):
    names = ["a.txt", "b.txt"]
    if not out.is_dir() or not any(out.iterdir()):
        return "nothing"
    texts = [(out / name).read_text() for name in names if (out / name).exists()]
    if texts == ["old", "oldold"] or texts == ["new", "newnew"]:
        # What a killed process was writing, the next one clears.
        entries = sorted(p.name for p in out.iterdir() if not NEW_FILE.match(p.name))
        if entries == [*names, "manifest.json"]:
            return texts[0]
    return f"{sorted(path.name for path in out.iterdir())} {texts}"

def code_of(function, *arguments):
    # Only what is killed, or changes its folder, needs a process, which takes time.
    if way == "within":
        return in_process(function, *arguments)
    try:
        function(*arguments)
    except Exception:
        return 1
    return 0

found = []
for kill_at in range(10_000):
    folder = root / str(kill_at)
    folder.mkdir()
    out = folder / "out"
    if start == "empty":
        out.mkdir()
    elif start == "run":
        assert code_of(write, out, "old") == 0
    status = in_process(write, out, "new", kill_at)
    after = seen(out)
    read = code_of(look, out)
    looked = seen(out)
    # If the killed run was whole, its folder is one now.
    retried = code_of(write, out, "new")
    found.append([status, after, read, looked, retried, seen(out),
                  sorted(path.name for path in folder.iterdir()),
                  [path.name for path in out.glob(".*")]])
    if status == 0:
        break
print(json.dumps(found))
"""


@posix
@pytest.mark.parametrize(
    ("start", "way"),
    [
        ("new", "one step"),
        ("empty", "one step"),
        ("run", "one step"),
        ("run", "two steps"),
        ("empty", "within"),
    ],
)
def test_a_kill_at_any_operation_loses_nothing(tmp_path, start, way):
    code, printed, error = run_script(
        _KILLS + _KILL_EVERYWHERE, tmp_path, start, way, timeout=120
    )
    assert code == 0, error
    *killed, (status, *_) = json.loads(printed)
    assert status == 0
    assert len(killed) > 20
    before = "old" if start == "run" else "nothing"
    for status, after, read, looked, retried, then, left, hidden in killed:
        assert status == -signal.SIGKILL
        # Between two steps, and while files move, whoever looks next finishes it.
        if way == "one step":
            assert after in (before, "new")
        assert looked in (before, "new") or looked == "['out.partial'] []"
        assert read == (1 if start == "new" and looked == "nothing" else 0)
        # The next run is whole, and nothing is left beside it. One that it is in the
        # midst of it does not replace.
        refused = way == "within" and looked == "new"
        assert (retried, then, left) == (int(refused), "new", ["out"])
        assert not hidden
    assert killed[0][1] == before
    assert killed[-1][1] == "new"


_KILL_REWRITING = """
def rewrite_page(out, kill_at):
    global n_left
    with existing_run(out) as manifest:
        n_left = kill_at
        rewrite(out, manifest, "b.txt", b"rewritten")

def as_manifest_says(out):
    manifest = read_manifest(out)
    names = [path.name for path in out.iterdir() if not NEW_FILE.match(path.name)]
    return set(names) == {*manifest.files, "manifest.json"} and all(
        manifest.files[name] == facts_of(out / name)
        for name in manifest.files
    )

def again(out):
    with new_run(out, "cluster", ["a.txt"], overwrite=True) as run:
        run.write("a.txt", "new")

found = []
for kill_at in range(10_000):
    out = root / str(kill_at) / "out"
    with new_run(out, "cluster", ["a.txt", "b.txt"][: 1 + (start == "there")]) as run:
        run.write("a.txt", "old")
        if start == "there":
            run.write("b.txt", "old")
    status = in_process(rewrite_page, out, kill_at)
    text = (out / "b.txt").read_text() if (out / "b.txt").exists() else "nothing"
    if way == "look":
        look(out)
        whole = as_manifest_says(out)
    else:
        again(out)
        whole = as_manifest_says(out) and (out / "a.txt").read_text() == "new"
    found.append([status, text, whole])
    if status == 0:
        break
print(json.dumps(found))
"""


@posix
@pytest.mark.parametrize("way", ["look", "overwrite"])
@pytest.mark.parametrize("start", ["there", "nothing"])
def test_a_kill_while_a_page_is_written_again(tmp_path, start, way):
    code, printed, error = run_script(
        _KILLS + _KILL_REWRITING, tmp_path, start, way, timeout=120
    )
    assert code == 0, error
    *killed, last = json.loads(printed)
    assert last == [0, "rewritten", True]
    assert len(killed) > 8
    before = "old" if start == "there" else "nothing"
    assert {status for status, _, _ in killed} == {-signal.SIGKILL}
    assert {text for _, text, _ in killed} == {before, "rewritten"}
    assert all(whole for _, _, whole in killed)


_KILL_DEMO = """
from skleiden.cli import _demo
from skleiden.inspection import Communities

def save(folder, id, kill_at=None):
    global n_left
    names = [folder / "found.json", folder / "found.html"]
    _demo._save(Communities([0], [id]), *names)  # with all that is imported
    n_left = kill_at

def save_killed(folder, id, kill_at):
    global n_left
    import jinja2.ext
    from skleiden.report import write_report
    found = Communities([0], [id])
    write_report(folder / "found.html", Communities([0], ["prompt-1"]))
    n_left = kill_at
    _demo._save(found, folder / "found.json", folder / "found.html")

def ids(folder):
    found = []
    for path in (folder / "found.json", folder / "found.html"):
        text = path.read_text() if path.exists() else ""
        found.append([id for id in ("prompt-1", "prompt-2") if id in text])
    return found

(root / "warm").mkdir()
save(root / "warm", "prompt-1")
found = []
for kill_at in range(10_000):
    folder = root / str(kill_at)
    folder.mkdir()
    save(folder, "prompt-1")
    status = in_process(save_killed, folder, "prompt-2", kill_at)
    found.append([status, *ids(folder)])
    if status == 0:
        break
print(json.dumps(found))
"""


@posix
def test_a_killed_demo_leaves_no_page_of_other_communities(tmp_path):
    code, printed, error = run_script(
        _KILLS + _KILL_DEMO, tmp_path, "", "", timeout=120
    )
    assert code == 0, error
    *killed, last = json.loads(printed)
    assert last == [0, ["prompt-2"], ["prompt-2"]]
    assert {status for status, _, _ in killed} == {-signal.SIGKILL}
    pairs = {(*found, *page) for _, found, page in killed}
    assert ("prompt-1", "prompt-1") in pairs
    assert pairs <= {
        ("prompt-1", "prompt-1"),
        ("prompt-1",),
        ("prompt-2",),
        ("prompt-2", "prompt-2"),
    }


_KILLED_COMMAND = """
import os, signal, sys
import skleiden.inspection
from skleiden.cli import main

def kill(*_, **__):
    os.kill(os.getpid(), signal.SIGKILL)

skleiden.inspection._communities.describe = kill
main(sys.argv[1:])
"""


@posix
def test_a_killed_command_leaves_nothing_that_the_next_does_not_clear(place):
    assert cluster(place) == 0
    before = contents(place / "out")
    arguments = ["cluster", place / "in" / "mlp.npy", "--out", place / "out", "-q"]
    process = start_script(_KILLED_COMMAND, *arguments, "--overwrite")
    assert process.wait(60) == -signal.SIGKILL
    assert contents(place / "out") == before
    assert (place / "out.partial" / "labels.csv").exists()
    process.communicate()
    assert cluster(place, "--overwrite") == 0
    assert names_in(place) == {"in", "out"}


def test_an_error_keeps_what_is_saved_and_the_earlier_run(place, monkeypatch, capsys):
    assert cluster(place) == 0
    before = contents(place / "out")

    def fail(*_, **__):
        raise ValueError("not today")

    monkeypatch.setattr(skleiden.inspection._communities, "describe", fail)
    assert cluster(place, "--overwrite") == 1
    labels, out = str(place / "out.partial" / "labels.csv"), str(place / "out")
    assert capsys.readouterr().err == (
        f"skleiden: error: not today Saved until then: {labels}; the next run to "
        f"{out!r} clears them.\n"
    )
    assert contents(place / "out") == before
    assert Path(labels).exists()
    monkeypatch.undo()
    assert cluster(place, "--overwrite") == 0
    assert not (place / "out.partial").exists()


@pytest.mark.parametrize("overwrite", [False, True])
def test_an_error_before_the_labels_leaves_nothing(place, monkeypatch, overwrite):
    def fail(*_, **__):
        raise ValueError("not today")

    if overwrite:
        assert cluster(place) == 0
    before = contents(place)
    monkeypatch.setattr(skleiden.MutualKNNLeiden, "fit", fail)
    assert cluster(place, "--overwrite") == 1
    assert cluster(place, "--overwrite", out="a/b/c") == 1
    assert contents(place) == before


@posix
def test_a_full_disk_leaves_the_earlier_run(place, capsys):
    """Of which the labels still fit, and what is found of the communities does not."""
    import resource

    assert cluster(place) == 0
    before = contents(place / "out")
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (8000, limits[1]))
    try:
        code = cluster(place, "--overwrite")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert code == 1
    error = capsys.readouterr().err
    assert f"Cannot write 'communities.json' in the folder {str(place)!r}"[:-1] in error
    assert os.strerror(errno.EFBIG) in error
    assert f"Saved until then: {place / 'out.partial' / 'labels.csv'};" in error
    assert contents(place / "out") == before


@posix
@pytest.mark.parametrize("room", [0, 100, 8000])
def test_a_full_disk_leaves_the_page_of_a_run(place, capsys, room):
    """Of which nothing fits, or the manifest and not the page."""
    import resource

    assert cluster(place) == 0
    before = contents(place)
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (room, limits[1]))
    try:
        code = run("report", place / "out", "--title", "Another")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert code == 1
    assert os.strerror(errno.EFBIG) in capsys.readouterr().err
    assert contents(place).keys() == before.keys()
    manifest = read_manifest(place / "out")
    assert all(manifest.has(place / "out" / name) for name in manifest.files)
    assert manifest.finished
    assert contents(place) == before
    assert cluster(place, "--overwrite") == 0


def test_a_run_that_cannot_take_its_place_is_kept(place, monkeypatch, capsys):
    assert cluster(place) == 0
    before = contents(place / "out")
    monkeypatch.setattr(_run_folder, "exchange", _refuse)
    assert cluster(place, "--overwrite") == 1
    assert "Device or resource busy" in capsys.readouterr().err
    assert contents(place / "out") == before
    kept = names_in(place / "out.partial")
    assert {"labels.csv", "communities.json", "report.html"} <= kept


def test_two_steps_of_which_the_second_fails(place, monkeypatch, capsys):
    """As of a system that exchanges no folders."""
    assert cluster(place) == 0
    before = contents(place / "out")
    rename = Path.rename

    def refuse(path, target):
        if path.name == "out.partial":
            raise PermissionError(errno.EACCES, "Permission denied")
        return rename(path, target)

    with monkeypatch.context() as patched:
        patched.setattr(_run_folder, "exchange", lambda *_: False)
        patched.setattr(Path, "rename", refuse)
        assert cluster(place, "--overwrite") == 1
        assert "Permission denied" in capsys.readouterr().err
    assert contents(place / "out") == before
    assert cluster(place, "--overwrite") == 0
    assert names_in(place) == {"in", "out"}


_HOLDS = """
import sys
from pathlib import Path
from skleiden.cli._run_folder import new_run

with new_run(Path(sys.argv[1]), "cluster", ["a.txt"]) as run:
    print("ready", flush=True)
    sys.stdin.read()
    run.write("a.txt", "a")
"""


@pytest.mark.parametrize("end", ["normal", "killed"])
def test_two_commands_at_once(place, capsys, monkeypatch, end):
    first = start_script(_HOLDS, place / "out")
    assert first.stdout.readline() == "ready\n"
    names = names_in(place)
    with monkeypatch.context() as patched:
        patched.setattr(skleiden.MultiLayerTfidfSketcher, "fit", pytest.fail)
        assert cluster(place, "--overwrite") == 1
        error = capsys.readouterr().err
        assert f"Another command is at work in {str(place / 'out')!r}. Wait" in error
        assert run("report", place / "out") == 1
        assert "Another command is at work in" in capsys.readouterr().err
    assert names_in(place) == names
    # Of another folder it is none of its business.
    assert cluster(place, out="other") == 0
    if end == "killed":
        first.kill()
    first.communicate()
    assert cluster(place, "--overwrite") == 0
    assert names_in(place) == {"in", "other", "out"}


@posix
@pytest.mark.parametrize("options", [[], ["--overwrite"]])
def test_a_lock_that_another_user_left(place, monkeypatch, options):
    """It can be read, and neither written to nor removed."""
    if options:
        assert cluster(place) == 0
    left = place / ".out.skleiden-lock"
    left.touch()
    os_open, unlink = os.open, Path.unlink

    def refuse_to_write(path, flags, *mode, **more):
        if Path(path) == left and flags & (os.O_RDWR | os.O_WRONLY | os.O_CREAT):
            raise PermissionError(errno.EACCES, "Permission denied")
        return os_open(path, flags, *mode, **more)

    def refuse_to_remove(path, **more):
        if path == left:
            raise PermissionError(errno.EPERM, "Operation not permitted")
        unlink(path, **more)

    monkeypatch.setattr(os, "open", refuse_to_write)
    monkeypatch.setattr(Path, "unlink", refuse_to_remove)
    assert cluster(place, *options) == 0
    assert is_whole(place / "out")


@posix
def test_a_lock_can_be_read_by_others_whatever_the_umask(place):
    holds = start_script("import os; os.umask(0o077)" + _HOLDS, place / "out")
    assert holds.stdout.readline() == "ready\n"
    assert (place / ".out.skleiden-lock").stat().st_mode & 0o777 == 0o644
    holds.communicate()


def test_no_lock_where_nothing_can_be_made(place, monkeypatch, capsys):
    def refuse(*_, **__):
        raise PermissionError(errno.EACCES, "Permission denied")

    monkeypatch.setattr(_lock, "_open_for_lock", refuse)
    assert cluster(place) == 1
    assert "Cannot save into" in capsys.readouterr().err


def test_a_file_system_without_locks(place, capsys, monkeypatch):
    """Nothing could be promised there, and nothing is done."""

    def refuse(*_):
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(_lock, "lock", refuse)
    assert cluster(place) == 1
    error = capsys.readouterr().err
    assert "its file system has no locks (No locks available)" in error
    assert not (place / "out").exists()


# --- Files that were being written ----------------------------------------------------

_KILLED_WRITER = """
import os, signal, sys
from skleiden.io._files import writing

with writing(sys.argv[1]) as file:
    file.write(b"half")
    file.flush()
    if sys.argv[2] == "killed":
        os.kill(os.getpid(), signal.SIGKILL)
    print("ready", flush=True)
    sys.stdin.read()
"""


@posix
def test_files_of_killed_processes_are_cleared(tmp_path):
    path = tmp_path / "saved.json"
    killed = start_script(_KILLED_WRITER, path, "killed")
    at_work = start_script(_KILLED_WRITER, path, "at work")
    killed.communicate()
    assert at_work.stdout.readline() == "ready\n"
    theirs = [
        ".0123456789abcdef0123456789abcdef.tmp",
        ".skleiden-mine.tmp",
        "notes.tmp",
        f".skleiden-{'1' * 32}.tmp",
    ]
    for name in theirs[:-1]:
        (tmp_path / name).write_text("mine")
    (tmp_path / theirs[-1]).mkdir()
    assert len(list(tmp_path.glob(".skleiden-*"))) in (3, 4)
    write_whole(path, "whole")
    (unfinished,) = names_in(tmp_path) - {*theirs, "saved.json"}
    assert path.read_text() == "whole"
    assert (tmp_path / unfinished).read_text() == "half"
    at_work.communicate()
    assert names_in(tmp_path) == {*theirs, "saved.json"}
    assert path.read_text() == "half"


@posix
def test_many_writers_do_not_clear_one_another(tmp_path):
    """Each takes files that are not locked for those of the killed."""
    script = """
    import sys
    from skleiden.io._files import write_whole

    for i in range(150):
        write_whole(f"{sys.argv[1]}/{sys.argv[2]}-{i % 3}.txt", "whole")
    """
    writers = [start_script(script, tmp_path, number) for number in range(3)]
    for writer in writers:
        _, error = writer.communicate(timeout=60)
        assert (writer.returncode, error) == (0, "")
    assert sorted(names_in(tmp_path)) == sorted(
        f"{number}-{i}.txt" for number in range(3) for i in range(3)
    )


# --- Signals --------------------------------------------------------------------------

_COMMAND = "import sys; from skleiden.cli import main; sys.exit(main(sys.argv[1:]))"


def group_of(pid):
    """Processes of a group that have not ended, by /proc."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                fields = (entry / "stat").read_text().rsplit(")", 1)[1].split()
            except OSError:  # it has ended
                continue
            if int(fields[2]) == pid and fields[0] != "Z":
                found.append(int(entry.name))
    return found


def wait_until(condition):
    for _ in range(1200):
        if condition():
            return
        time.sleep(0.05)
    pytest.fail("It did not come to that.")


@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="needs /proc")
@pytest.mark.parametrize(
    ("name", "to_all"),
    [("SIGTERM", False), ("SIGHUP", False), ("SIGINT", True), ("SIGKILL", False)],
)
def test_a_signal_ends_a_command_with_its_workers(place, name, to_all):
    """Ctrl-C in a terminal goes to all processes of the command."""
    number = getattr(signal, name)
    rows = np.random.default_rng(0).random((600, 40))
    np.save(place / "in" / "mlp.npy", rows)
    arguments = [place / "in" / "mlp.npy", "--out", place / "out", "-q"]
    many = ["--n-runs", 500, "--n-jobs", 2, "--resolutions", 4]
    process = subprocess.Popen(
        [sys.executable, "-c", _COMMAND, "profile", *map(str, [*arguments, *many])],
        env=environment(),
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    wait_until(lambda: len(group_of(process.pid)) > 2 or process.poll() is not None)
    (os.killpg if to_all else os.kill)(process.pid, number)
    _, error = process.communicate(timeout=30)
    if name == "SIGKILL":
        assert process.returncode == -number
        wait_until(lambda: not group_of(process.pid))
        return
    assert process.returncode == 128 + number
    wait_until(lambda: not group_of(process.pid))
    says = "Interrupted." if name == "SIGINT" else f"Ended by {name}."
    # Of the workers that a signal reached while they began, some say so themselves.
    lines = error.splitlines() if not to_all else [error.splitlines()[-1]]
    assert [line.startswith(says) for line in lines] == [True], error
    assert "Traceback" not in error or to_all
    left = names_in(place) - {"in"}
    assert left <= {"out.partial"}
    if left:
        assert (place / "out.partial" / "profile.csv").exists()


@posix
def test_only_the_first_signal_interrupts(place, monkeypatch, capsys):
    """Another would end what is done in order because of the first."""
    done = []

    def fail(*_, **__):
        try:
            signal.raise_signal(signal.SIGTERM)
        finally:
            signal.raise_signal(signal.SIGTERM)
            signal.raise_signal(signal.SIGINT)
            done.append("in order")

    remove = _run_folder._remove

    def remove_and_signal(*arguments):
        signal.raise_signal(signal.SIGTERM)
        remove(*arguments)
        signal.raise_signal(signal.SIGTERM)

    monkeypatch.setattr(skleiden.MutualKNNLeiden, "fit", fail)
    monkeypatch.setattr(_run_folder, "_remove", remove_and_signal)
    assert cluster(place) == 128 + signal.SIGTERM
    assert capsys.readouterr() == ("", "Ended by SIGTERM.\n")
    assert done == ["in order"]
    assert names_in(place) == {"in"}


@posix
@pytest.mark.parametrize("where", ["_open_lock", "_close_lock"])
def test_a_signal_at_a_lock_leaves_none(place, monkeypatch, capsys, where):
    plain = getattr(_lock, where)

    def signalled(*arguments):
        signal.raise_signal(signal.SIGINT)
        result = plain(*arguments)
        signal.raise_signal(signal.SIGINT)
        return result

    monkeypatch.setattr(_lock, where, signalled)
    assert cluster(place) == 130
    assert capsys.readouterr().err.startswith("Interrupted.")
    assert ".out.skleiden-lock" not in names_in(place)


@posix
def test_an_interruption_that_was_lost_does_not_keep_out_the_next(
    place, monkeypatch, capsys
):
    """Python drops what is raised while it frees an object."""
    seen = []

    class Freed:
        def __del__(self):
            try:
                signal.raise_signal(signal.SIGINT)
            except KeyboardInterrupt:
                seen.append("lost")

    def fail(*_, **__):
        Freed()
        assert seen == ["lost"]
        signal.raise_signal(signal.SIGINT)
        pytest.fail("The second had to interrupt.")

    monkeypatch.setattr(skleiden.MutualKNNLeiden, "fit", fail)
    assert cluster(place) == 130
    assert capsys.readouterr() == ("", "Interrupted.\n")


@posix
def test_a_signal_while_a_run_takes_its_place_waits(place, monkeypatch, capsys):
    put_in_place = _run_folder._put_in_place

    def and_signal(*arguments):
        signal.raise_signal(signal.SIGTERM)
        put_in_place(*arguments)

    monkeypatch.setattr(_run_folder, "_put_in_place", and_signal)
    assert cluster(place) == 128 + signal.SIGTERM
    printed, error = capsys.readouterr()
    assert printed == ""
    assert error.startswith(f"Ended by SIGTERM. Saved: {place / 'out' / 'labels.csv'}")
    assert is_whole(place / "out")
    assert names_in(place) == {"in", "out"}


@posix
def test_handlers_of_signals_are_put_back_and_those_of_others_left(place, monkeypatch):
    seen = []

    def load(*_, **__):
        seen.append([signal.getsignal(n) for n in (signal.SIGTERM, signal.SIGHUP)])
        raise ValueError("not today")

    monkeypatch.setattr(skleiden.io, "load_activations", load)
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)  # as nohup does
    try:
        assert cluster(place) == 1
        assert signal.getsignal(signal.SIGHUP) == signal.SIG_IGN
    finally:
        signal.signal(signal.SIGHUP, before)
    assert signal.getsignal(signal.SIGTERM) == signal.SIG_DFL
    ((term, hup),) = seen
    assert callable(term)
    assert hup == signal.SIG_IGN


@posix
@pytest.mark.parametrize("error", [SystemError, RuntimeError, ImportError])
def test_what_compiled_code_makes_of_an_interruption(place, monkeypatch, capsys, error):
    """Some turn what a handler raises into another error."""

    def fail(*_, **__):
        try:
            signal.raise_signal(signal.SIGTERM)
        except KeyboardInterrupt as interruption:
            raise error("error return without exception set") from interruption

    monkeypatch.setattr(skleiden.MutualKNNLeiden, "fit", fail)
    assert cluster(place) == 128 + signal.SIGTERM
    assert capsys.readouterr() == ("", "Ended by SIGTERM.\n")
    assert names_in(place) == {"in"}


# --- What no file can hold ------------------------------------------------------------


def save_ids(place, ids):
    (place / "in" / "mlp.ids.json").write_text(json.dumps(ids))


@pytest.mark.parametrize("half", ["\ud800", "q\udfff1", "x\udcff"])
def test_ids_that_cannot_be_encoded_are_refused_before_the_work(
    place, monkeypatch, capsys, half
):
    save_ids(place, [*map(str, range(59)), half])
    monkeypatch.setattr(skleiden.MultiLayerTfidfSketcher, "fit", pytest.fail)
    assert cluster(place) == 1
    error = capsys.readouterr().err
    assert len(error.splitlines()) == 1
    assert ascii(half)[1:-1] in error
    assert names_in(place) == {"in"}


def test_ids_that_cannot_be_saved_are_refused_before_the_work(
    place, monkeypatch, capsys
):
    ids = np.array([b"q%d" % i for i in range(60)])
    np.save(place / "in" / "mlp.ids.npy", ids)
    load = skleiden.io.load_activations

    def load_bytes(*arguments, **options):
        stack = load(*arguments, **{**options, "ids": None})
        layers = dict(zip(stack.names, stack.layers, strict=True))
        return skleiden.LayerStack(layers, ids=[(i, b"x") for i in range(60)])

    monkeypatch.setattr(skleiden.io, "load_activations", load_bytes)
    monkeypatch.setattr(skleiden.MultiLayerTfidfSketcher, "fit", pytest.fail)
    assert cluster(place) == 1
    assert "skleiden: error: " in capsys.readouterr().err
    assert names_in(place) == {"in"}


@posix
def test_layers_whose_names_cannot_be_encoded_are_refused_before_the_work(
    place, monkeypatch, capsys
):
    path = os.fsencode(place / "in") + b"/mlp_\xff.npy"
    try:
        Path(os.fsdecode(path)).write_bytes((place / "in" / "mlp.npy").read_bytes())
    except OSError:
        pytest.skip("file systems of macOS have no such names")
    monkeypatch.setattr(skleiden.MultiLayerTfidfSketcher, "fit", pytest.fail)
    assert run("cluster", os.fsdecode(path), "--out", place / "out") == 1
    error = capsys.readouterr().err
    assert (
        "Names of layers must be text that UTF-8 can hold; got 'mlp_\\udcff'" in error
    )


def test_texts_and_titles_that_cannot_be_encoded_are_mended(place):
    save_ids(place, list(map(str, range(60))))
    texts = {str(i): f"text \ud800 of {i}" for i in range(60)}
    (place / "in" / "texts.json").write_text(json.dumps(texts))
    title = "a title of \udcff"
    given = ["--texts", place / "in" / "texts.json", "--title", title]
    assert cluster(place, *given) == 0
    found = load_communities(place / "out" / "communities.json")
    assert found.texts[7] == "text \N{REPLACEMENT CHARACTER} of 7"
    assert found.summary["title"] == "a title of \N{REPLACEMENT CHARACTER}"
    page = (place / "out" / "report.html").read_text(encoding="utf-8")
    assert "a title of \N{REPLACEMENT CHARACTER}" in page


@posix
def test_an_out_whose_name_cannot_be_encoded(place, capsys):
    out = os.fsdecode(os.fsencode(place) + b"/\xff")
    try:
        Path(out).mkdir()
    except OSError:
        pytest.skip("file systems of macOS have no such names")
    assert cluster(place, out=out) == 0
    assert cluster(place, "--overwrite", "--json", out=out) == 0
    assert json.loads(capsys.readouterr().out.splitlines()[-1])["saved"][0] == str(
        Path(out) / "labels.csv"
    )


# --- Results with little in them ------------------------------------------------------

LITTLE = {
    "no edge": np.eye(6),
    "all zero": np.zeros((20, 4)),
    "all equal": np.ones((20, 4)),
    "one column": np.arange(1.0, 21)[:, None],
    "two rows": np.eye(2),
    "two equal rows": np.ones((2, 3)),
}


@pytest.mark.filterwarnings("ignore:No community has min_cluster_size")
@pytest.mark.parametrize("runs", [[], ["--n-runs", 2], ["--n-subsamples", 2]])
@pytest.mark.parametrize("name", LITTLE)
def test_a_command_ends_whatever_there_is_not(place, capsys, name, runs):
    np.save(place / "in" / "mlp.npy", LITTLE[name])
    given = [place / "in" / "mlp.npy", "--out", place / "out", "-q", *runs]
    given += ["--n-jobs", 1]  # workers would be started for each command
    assert run("cluster", *given) == 0
    printed, error = capsys.readouterr()
    assert error == ""
    found = load_communities(place / "out" / "communities.json")
    assert is_whole(place / "out")
    assert ("the graph has no edges" in printed) == (found.summary["n_edges"] == 0)
    # JSON has no NaN.
    assert run("cluster", *given, "--overwrite", "--json") == 0
    json.loads(capsys.readouterr().out, parse_constant=pytest.fail)


@pytest.mark.filterwarnings("ignore:No community has min_cluster_size")
@pytest.mark.parametrize(
    ("name", "missing"),
    [
        ("no edge", {"prototypes": "There is no community", "layers": "There is no"}),
        ("all equal", {"prototypes": "No neuron sets any of the communities apart"}),
        ("two rows", {"prototypes": "There is no community", "layers": "There is no"}),
    ],
)
def test_figures_of_nothing_are_left_out_and_told(
    place, capsys, monkeypatch, name, missing
):
    monkeypatch.undo()  # with matplotlib
    np.save(place / "in" / "mlp.npy", LITTLE[name])
    given = [place / "in" / "mlp.npy", "--out", place / "out", "-q"]
    assert run("cluster", *given) == 0
    printed = capsys.readouterr().out
    for figure in ("sizes", "map", "prototypes", "layers"):
        there = (place / "out" / f"{figure}.png").exists()
        assert there == (figure not in missing)
        if not there:
            assert f"No {figure}.png: {missing[figure]}" in printed


@pytest.mark.parametrize("name", LITTLE)
def test_a_profile_ends_whatever_there_is_not(place, name):
    np.save(place / "in" / "mlp.npy", LITTLE[name])
    given = [place / "in" / "mlp.npy", "--out", place / "out", "-q"]
    assert run("profile", *given, *PROFILE, "--n-permutations", 1) == 0
    assert is_whole(place / "out")


# --- The page of a run ----------------------------------------------------------------


def test_a_page_written_again_is_of_the_run(place):
    assert cluster(place) == 0
    assert run("report", place / "out", "--title", "Another") == 0
    assert "Another" in (place / "out" / "report.html").read_text(encoding="utf-8")
    assert is_whole(place / "out")
    assert cluster(place, "--overwrite") == 0  # nothing there is foreign


def test_a_page_of_somebody_elses_is_not_replaced(place, monkeypatch, capsys):
    with monkeypatch.context() as patched:
        patched.setitem(sys.modules, "jinja2", None)
        assert cluster(place) == 0
    page = place / "out" / "report.html"
    page.write_text("mine")
    assert run("report", place / "out") == 1
    message = (
        "does not belong to the run there, or has changed since, and would be replaced"
    )
    assert message in capsys.readouterr().err
    assert page.read_text() == "mine"
    page.unlink()
    assert run("report", place / "out") == 0
    assert is_whole(place / "out")


@pytest.mark.parametrize("change", ["edited", "folder", "linked", "truncated"])
def test_a_page_that_was_changed_is_not_replaced(place, capsys, change):
    assert cluster(place) == 0
    page = place / "out" / "report.html"
    content = page.read_bytes()
    page.unlink()
    if change == "folder":
        page.mkdir()
    elif change == "linked":
        (place / "page.html").write_bytes(content)
        page.symlink_to(place / "page.html")
    else:
        page.write_bytes(b"mine" if change == "edited" else content[:-1])
    before = contents(place)
    assert run("report", place / "out", "--title", "Another") == 1
    assert "has changed since, and would be replaced" in capsys.readouterr().err
    assert contents(place) == before


def test_a_profile_has_no_page(place, capsys):
    given = [place / "in" / "mlp.npy", "--out", place / "out", "-q"]
    assert run("profile", *given, *PROFILE) == 0
    assert run("report", place / "out") == 1
    assert "holds a run of skleiden profile, which finds no" in capsys.readouterr().err


def test_a_page_of_a_folder_without_a_manifest(place):
    """As of older versions."""
    assert cluster(place) == 0
    for name in ("manifest.json", "report.html"):
        (place / "out" / name).unlink()
    assert run("report", place / "out") == 0
    assert names_in(place / "out") == {
        "communities.json",
        "labels.csv",
        "report.html",
    }


def test_a_page_of_a_run_that_was_not_finished(place, monkeypatch):
    """It does not make a whole run of it."""
    monkeypatch.setattr(_run_folder, "_put_in_place", _refuse)
    assert cluster(place) == 1
    monkeypatch.undo()
    partial = place / "out.partial"
    manifest = json.loads((partial / "manifest.json").read_text())
    manifest["files"] = {}  # as while it is written
    (partial / "manifest.json").write_text(json.dumps(manifest))
    assert run("report", partial) == 0
    assert read_manifest(partial).files == {}
    assert cluster(place) == 0
    assert names_in(place) == {"in", "out"}


def _refuse(*_):
    raise OSError(errno.EBUSY, "Device or resource busy")
