"""Communities as a JSON file."""

import json
import os
from pathlib import Path

import numpy as np
import pytest

import skleiden
from skleiden import MutualKNNLeiden
from skleiden.inspection import Communities, TopFeature
from skleiden.io import save_communities

LABELS = np.array([1, 0, 0, -1, 0, 1, 2])
IDS = list("abcdefg")


@pytest.fixture
def path(tmp_path):
    return tmp_path / "communities.json"


def refuse_constant(name):
    raise AssertionError(f"{name} is not JSON")


def load(path):
    with path.open(encoding="utf-8") as file:
        return json.load(file, parse_constant=refuse_constant)


def save(path, labels, *, min_size=1, **known):
    save_communities(path, Communities(labels, **known), min_size=min_size)


def test_whole_document(path):
    features = {
        0: [TopFeature("mlp", 3, 2.5, 1.0, 0.5, 0.75, 0.25)],
        1: [],
    }
    save(
        path,
        LABELS,
        ids=IDS,
        texts=[f"text {i}" for i in IDS],
        top_features=features,
        parameters={"resolution": 1.0, "layers": {"mlp": 4}},
    )
    assert load(path) == {
        "format": "skleiden-communities",
        "schema_version": 1,
        "skleiden_version": skleiden.__version__,
        "versions": {},
        "fingerprint": None,
        "parameters": {"resolution": 1.0, "layers": {"mlp": 4}},
        "summary": {},
        "n_samples": 7,
        "n_communities": 3,
        "n_noise": 1,
        "communities": [
            {
                "label": 0,
                "size": 3,
                "members": ["b", "c", "e"],
                "texts": ["text b", "text c", "text e"],
                "top_features": [
                    {
                        "layer": "mlp",
                        "neuron": 3,
                        "effect_size": 2.5,
                        "mean": 1.0,
                        "baseline_mean": 0.5,
                        "share": 0.75,
                        "baseline_share": 0.25,
                        "fires": True,
                    }
                ],
            },
            {
                "label": 1,
                "size": 2,
                "members": ["a", "f"],
                "texts": ["text a", "text f"],
                "top_features": [],
            },
            {
                "label": 2,
                "size": 1,
                "members": ["g"],
                "texts": ["text g"],
            },
        ],
        "noise": ["d"],
        "noise_texts": ["text d"],
        "rows": {"ids": IDS, "labels": LABELS.tolist()},
    }


def test_labels_alone(path):
    save(path, LABELS.tolist())
    saved = load(path)
    assert saved["parameters"] == {}
    assert saved["noise"] == [3]
    assert saved["communities"][0] == {"label": 0, "size": 3, "members": [1, 2, 4]}


def test_min_size(path):
    save(path, LABELS, min_size=2)
    saved = load(path)
    assert [community["size"] for community in saved["communities"]] == [3, 2]
    assert (saved["n_samples"], saved["n_communities"], saved["n_noise"]) == (7, 2, 1)


def test_noise_alone(path):
    save(path, [-1, -1], ids=["a", "b"])
    saved = load(path)
    assert (saved["communities"], saved["noise"]) == ([], ["a", "b"])


@pytest.mark.parametrize(
    ("ids", "saved"),
    [
        (np.arange(10, 17), [10, 14]),
        (list(np.arange(10, 17, dtype=np.uint64)), [10, 14]),
        (np.array(IDS), ["a", "e"]),
        (np.array([0, "1", 2, 3, 4, 5, 6], dtype=object), [0, 4]),
        ([("q", i) for i in range(7)], [["q", 0], ["q", 4]]),
        ([i / 2 for i in range(7)], [0.0, 2.0]),
        (iter(IDS), ["a", "e"]),
        (["é", *IDS[1:4], "日本\n", "f", "g"], ["é", "日本\n"]),
    ],
    ids=["int", "numpy int", "str", "object", "tuple", "float", "iterator", "unicode"],
)
def test_ids_are_saved_as_values_of_json(path, ids, saved):
    save(path, [0, 1, 1, 1, 0, 1, 1], ids=ids)
    members = load(path)["communities"][1]["members"]
    assert members == saved
    assert [type(member) for member in members] == [type(one) for one in saved]


def test_texts_are_saved_as_they_are(path):
    texts = ["Où est-ce ?", "日本", 'a "quoted"\tline\n', "\u2028", "🙂", "", "\\"]
    save(path, np.zeros(7, dtype=int), texts=np.array(texts, dtype=object))
    assert load(path)["communities"][0]["texts"] == texts
    assert "Où est-ce ?" in path.read_text(encoding="utf-8")


@pytest.mark.parametrize(
    ("value", "saved"),
    [
        (np.int8(3), 3),
        (np.float32(0.5), 0.5),
        (np.bool_(True), True),
        (np.str_("idf"), "idf"),
        (np.array([[1, 2]]), [[1, 2]]),
        ((1, np.float64(2.0)), [1, 2.0]),
        ({"mlp": np.int64(4)}, {"mlp": 4}),
        (None, None),
        (MutualKNNLeiden, "<class 'skleiden._clusterer.MutualKNNLeiden'>"),
        (MutualKNNLeiden(resolution=2.0), "MutualKNNLeiden(resolution=2.0)"),
        (1j, "1j"),
        ({np.int64(0): 1.0}, {"0": 1.0}),
        ({("a", 1): 1.0}, {"('a', 1)": 1.0}),
        ({1: "a", "1": "b"}, {"1": "a", "'1'": "b"}),
        ({None: {True: 1, "True": 2}}, {"None": {"True": 1, "'True'": 2}}),
        (float("nan"), None),
        (np.array([np.inf]), ["inf"]),
    ],
    ids=repr,
)
def test_parameters_of_any_kind(path, value, saved):
    save(path, [0, 0], parameters={"value": value})
    assert load(path)["parameters"]["value"] == saved


def test_parameters_of_an_estimator(path):
    leiden = MutualKNNLeiden(n_neighbors=7)
    save(path, [0, 0], parameters=leiden.get_params())
    assert load(path)["parameters"] == leiden.get_params()


@pytest.mark.parametrize("kind", [str, Path])
def test_file_is_replaced(path, kind):
    path.write_text("old, and longer than what comes" * 100)
    save(kind(path), [0, 0])
    assert load(path)["n_samples"] == 2
    assert [entry.name for entry in path.parent.iterdir()] == [path.name]


def test_relative_path(path, monkeypatch):
    monkeypatch.chdir(path.parent)
    save(path.name, [0, 0])
    assert load(path)["n_samples"] == 2


@pytest.mark.parametrize("error", [OSError, KeyboardInterrupt])
@pytest.mark.parametrize(
    ("owner", "step"), [(json, "dumps"), (os, "fsync"), (Path, "replace")]
)
@pytest.mark.parametrize("old", ["old", None])
def test_failure_leaves_the_folder_as_it_was(
    path, monkeypatch, owner, step, error, old
):
    def fail(*_, **__):
        raise error("no space left")

    if old is not None:
        path.write_text(old)
    monkeypatch.setattr(owner, step, fail)
    with pytest.raises(error, match="no space left"):
        save(path, [0, 0])
    if old is None:
        assert list(path.parent.iterdir()) == []
    else:
        assert list(path.parent.iterdir()) == [path]
        assert path.read_text() == old


def test_errors_of_the_system_name_the_folder_and_a_remedy(path, monkeypatch):
    def fail(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", fail)
    with pytest.raises(OSError, match="Make the folder writable, with room") as caught:
        save(path, [0, 0])
    assert str(caught.value).startswith(
        f"Cannot write 'communities.json' in the folder {str(path.parent)!r}: No space"
    )
    assert "tmp'" not in str(caught.value).replace(str(path.parent), "")


@pytest.mark.skipif(os.name == "nt", reason="Windows folders are not read-only")
def test_read_only_folder(read_only_folder):
    with pytest.raises(PermissionError, match="Make the folder writable") as caught:
        save(read_only_folder / "communities.json", [0, 0])
    assert f"in the folder {str(read_only_folder)!r}: Permission" in str(caught.value)
    assert list(read_only_folder.iterdir()) == []


def link(source, target):
    try:
        source.symlink_to(target)
    except OSError:
        pytest.skip("symbolic links are not allowed here")


@pytest.mark.parametrize("old", ["old", None])
def test_symbolic_link_is_followed(tmp_path, old):
    """The link stays, and the file that it leads to is written, whether it exists."""
    (tmp_path / "elsewhere").mkdir()
    target = tmp_path / "elsewhere" / "target.json"
    if old is not None:
        target.write_text(old)
    link(tmp_path / "first.json", tmp_path / "second.json")
    link(tmp_path / "second.json", Path("elsewhere") / "target.json")
    save(tmp_path / "first.json", [0, 0])
    assert (tmp_path / "first.json").is_symlink()
    assert (tmp_path / "second.json").is_symlink()
    assert not target.is_symlink()
    assert load(target)["n_samples"] == 2
    assert list(target.parent.iterdir()) == [target]


def test_symbolic_link_to_itself(path):
    link(path, path)
    with pytest.raises(FileExistsError, match="not a regular file"):
        save(path, [0, 0])
    assert path.is_symlink()


@pytest.mark.skipif(os.name == "nt", reason="Windows has no such modes")
@pytest.mark.parametrize("mode", [0o640, 0o600, 0o666, 0o444])
def test_mode_of_an_older_file_is_kept(path, mode):
    path.write_text("old")
    path.chmod(mode)
    save(path, [0, 0])
    assert path.stat().st_mode & 0o777 == mode
    assert load(path)["n_samples"] == 2


@pytest.mark.skipif(os.name == "nt", reason="Windows has no such modes")
def test_mode_of_a_new_file_is_the_users_default(path):
    save(path, [0, 0])
    (path.parent / "other").touch()
    assert path.stat().st_mode == (path.parent / "other").stat().st_mode


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="needs named pipes")
@pytest.mark.parametrize("linked", [False, True])
def test_what_is_no_regular_file_is_refused(tmp_path, linked):
    pipe = path = tmp_path / "pipe"
    os.mkfifo(pipe)
    if linked:
        path = tmp_path / "link"
        path.symlink_to(pipe)
    before = sorted(tmp_path.iterdir())
    with pytest.raises(FileExistsError, match="is not a regular file") as caught:
        save(path, [0, 0])
    assert str(caught.value) == (
        f"{str(path)!r} is not a regular file, and would be replaced by one; give "
        "another name."
    )
    assert pipe.is_fifo()
    assert sorted(tmp_path.iterdir()) == before


def test_missing_folder(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"absent' does not exist; make it"):
        save(tmp_path / "absent" / "communities.json", [0, 0])
    assert list(tmp_path.iterdir()) == []


def test_folder_in_place_of_the_file(tmp_path):
    (tmp_path / "saved").mkdir()
    with pytest.raises(OSError, match="saved"):
        save(tmp_path / "saved", [0, 0])
    assert [entry.name for entry in tmp_path.iterdir()] == ["saved"]


@pytest.mark.parametrize(
    ("labels", "options", "message"),
    [
        ([0, 0], {"ids": ["a"]}, "ids must have one entry per label; got 1 for 2"),
        ([0, 0], {"texts": ["a"] * 3}, "texts must have one entry .* got 3 for 2"),
        ([0.5, 1.0], {}, "labels must be one integer per row"),
        ([], {}, "labels must be one integer per row"),
        ([0, -3], {}, "-1 for noise; got -3"),
    ],
)
def test_errors_leave_no_file(path, labels, options, message):
    with pytest.raises(ValueError, match=message):
        save(path, labels, **options)
    assert not path.exists()
