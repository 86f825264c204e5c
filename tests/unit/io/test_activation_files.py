"""Activations, ids and texts from files, good and bad."""

import importlib
import json
import pickle
import struct
import sys

import numpy as np
import pytest
import scipy.sparse as sp
from numpy.testing import assert_array_equal

from skleiden.io import load_activations, load_texts

rng = np.random.default_rng(0)
EARLY = (rng.integers(1, 40, (6, 4)) / 8 * (rng.random((6, 4)) < 0.6)).astype("f4")
LATE = (rng.integers(1, 40, (6, 5)) / 8 * (rng.random((6, 5)) < 0.6)).astype("f4")
IDS = [f"q{i}" for i in range(6)]


@pytest.fixture
def torch():
    import torch

    return torch


@pytest.fixture
def safetensors():
    import safetensors.numpy

    return safetensors.numpy


def dense(matrix):
    return matrix.toarray() if sp.issparse(matrix) else np.asarray(matrix)


def assert_is(stack, layers, ids=None):
    assert list(stack.names) == list(layers)
    for name, matrix in zip(stack.names, stack.layers, strict=True):
        assert_array_equal(dense(matrix), layers[name])
    assert (None if stack.ids is None else stack.ids.tolist()) == ids


def records(torch, matrix, dtype=None):
    """The notebook's form: {prompt_id: {"pre", "post", "out"}}."""
    return {
        i: {
            "pre": torch.tensor(row - 1, dtype=dtype),
            "post": torch.tensor(row, dtype=dtype),
            "out": torch.zeros(3),
        }
        for i, row in zip(IDS, matrix, strict=True)
    }


# --- torch ----------------------------------------------------------------------------


@pytest.mark.parametrize("mmap", [True, False])
@pytest.mark.parametrize("dtype", ["float32", "float16", "bfloat16", "float64"])
def test_files_of_the_notebook(tmp_path, torch, dtype, mmap):
    """One torch file a layer, named .json, as the notebook has them."""
    kind = getattr(torch, dtype)
    torch.save(records(torch, EARLY, kind), tmp_path / "layer_9.json")
    torch.save(records(torch, LATE, kind), tmp_path / "layer_10.json")
    stack = load_activations(tmp_path / "layer_*.json", mmap=mmap)
    assert_is(stack, {"layer_9": EARLY, "layer_10": LATE}, IDS)
    assert all(sp.issparse(layer) for layer in stack.layers)
    before = load_activations(str(tmp_path / "layer_9.json"), key="pre")
    assert_is(before, {"layer_9": EARLY - 1}, IDS)


@pytest.mark.parametrize("new_form", [True, False])
def test_vectors_by_id(tmp_path, torch, new_form):
    vectors = {i: torch.as_tensor(row) for i, row in enumerate(EARLY)}
    path = tmp_path / "layer"
    torch.save(vectors, path, _use_new_zipfile_serialization=new_form)
    assert_is(load_activations(path), {"layer": EARLY}, list(range(6)))


def test_tensor_that_is_a_layer(tmp_path, torch):
    torch.save(torch.as_tensor(EARLY).bfloat16(), tmp_path / "mlp.pt")
    (tmp_path / "mlp.ids.json").write_text(json.dumps(IDS))
    assert_is(load_activations(tmp_path / "mlp.pt"), {"mlp": EARLY}, IDS)


class Attack:
    """What its unpickling would do: leave a file behind."""

    def __init__(self, target):
        self.target = target

    def __reduce__(self):
        return open, (str(self.target), "w")


@pytest.mark.parametrize("form", ["zip", "old", "pickle"])
@pytest.mark.parametrize("load", [load_activations, load_texts])
def test_code_in_a_file_is_never_run(tmp_path, torch, form, load):
    target, path = tmp_path / "owned", tmp_path / "layer_0.json"
    content = {"q0": Attack(target)}
    if form == "pickle":
        path.write_bytes(pickle.dumps(content))
    else:
        torch.save(content, path, _use_new_zipfile_serialization=form == "zip")
    with pytest.raises(
        ValueError, match=r"layer_0\.json' holds objects that only code"
    ):
        load(path)
    assert not target.exists()


@pytest.mark.parametrize("kept", [0.3, 0.7, 0.99])
def test_truncated_torch_file(tmp_path, torch, kept):
    path = tmp_path / "layer_0.json"
    torch.save(records(torch, EARLY), path)
    whole = path.read_bytes()
    path.write_bytes(whole[: int(len(whole) * kept)])
    with pytest.raises(ValueError, match=r"layer_0\.json' is a broken or truncated"):
        load_activations(path)


def test_truncated_old_torch_file(tmp_path, torch):
    path = tmp_path / "layer_0.json"
    vectors = {i: torch.as_tensor(row) for i, row in enumerate(EARLY)}
    torch.save(vectors, path, _use_new_zipfile_serialization=False)
    path.write_bytes(path.read_bytes()[:-40])
    with pytest.raises(ValueError, match=r"is broken or truncated|only code inside"):
        load_activations(path)


def test_ids_for_vectors_that_have_their_own(tmp_path, torch):
    torch.save(records(torch, EARLY), tmp_path / "a.pt")
    with pytest.raises(ValueError, match=r"but \['a'\] hold vectors by id"):
        load_activations(tmp_path / "a.pt", ids=IDS)


def test_torch_is_not_installed(tmp_path, torch, monkeypatch):
    torch.save({"q0": torch.ones(3)}, tmp_path / "a.pt")
    monkeypatch.setitem(sys.modules, "torch", None)
    with pytest.raises(ImportError, match=r'pip install "skleiden\[torch\]"'):
        load_activations(tmp_path / "a.pt")


def test_records_without_the_key(tmp_path, torch):
    torch.save(records(torch, EARLY), tmp_path / "a.pt")
    with pytest.raises(ValueError, match=r"no 'gate'; it has \['pre', 'post', 'out'\]"):
        load_activations(tmp_path / "a.pt", key="gate")


@pytest.mark.parametrize("make", [lambda _: [1, 2], lambda _: {}, lambda t: t.ones(3)])
def test_torch_file_of_something_else(tmp_path, torch, make):
    torch.save(make(torch), tmp_path / "a.pt")
    with pytest.raises(ValueError, match="must hold a mapping of prompt ids"):
        load_activations(tmp_path / "a.pt")


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_vector_that_is_not_finite(tmp_path, torch, value):
    content = records(torch, EARLY)
    content["q3"]["post"][1] = value
    torch.save(content, tmp_path / "mlp_3.pt")
    with pytest.raises(ValueError, match="'q3' of layer 'mlp_3' holds NaN or infinity"):
        load_activations(tmp_path / "mlp_3.pt")


def test_vectors_of_differing_width(tmp_path, torch):
    torch.save({"a": torch.ones(3), "b": torch.ones(4)}, tmp_path / "m.pt")
    with pytest.raises(ValueError, match="layer 'm' differ in width"):
        load_activations(tmp_path / "m.pt")


# --- NumPy and SciPy ------------------------------------------------------------------


@pytest.mark.parametrize("mmap", [True, False])
def test_npy(tmp_path, mmap):
    np.save(tmp_path / "a_2.npy", EARLY.astype(np.float16))
    np.save(tmp_path / "a_10.npy", LATE)
    stack = load_activations(tmp_path / "*.npy", mmap=mmap)
    assert_is(stack, {"a_2": EARLY, "a_10": LATE})
    assert [isinstance(layer, np.memmap) for layer in stack.layers] == [mmap] * 2
    assert stack.layers[0].dtype == np.float16


@pytest.mark.parametrize(
    ("suffix", "write"),
    [
        (".ids.json", lambda p: p.write_text(json.dumps(IDS))),
        (".ids.txt", lambda p: p.write_text("\n".join(IDS) + "\n")),
        (".ids.npy", lambda p: np.save(p, np.array(IDS))),
    ],
)
def test_ids_beside_the_file_or_given(tmp_path, suffix, write):
    for name, matrix in (("a", EARLY), ("b", LATE)):
        np.save(tmp_path / f"{name}.npy", matrix)
        write(tmp_path / (name + suffix))
    paths = [tmp_path / "b.npy", tmp_path / "a.npy"]
    stack = load_activations(paths)
    assert_is(stack, {"a": EARLY, "b": LATE}, IDS)
    assert all(isinstance(layer, np.memmap) for layer in stack.layers)
    given = load_activations(paths, ids=tmp_path / ("b" + suffix))
    assert_is(given, {"a": EARLY, "b": LATE}, IDS)
    named = load_activations({"late": paths[0], "early": paths[1]}, ids=IDS)
    assert_is(named, {"late": LATE, "early": EARLY}, IDS)


@pytest.mark.parametrize("compressed", [True, False])
def test_npz_of_scipy(tmp_path, compressed):
    sp.save_npz(tmp_path / "a.npz", sp.csc_array(EARLY), compressed=compressed)
    stack = load_activations(tmp_path / "a.npz")
    assert_is(stack, {"a": EARLY})
    assert stack.layers[0].format == "csr"


def test_npz_with_ids(tmp_path):
    sparse = sp.csr_matrix(EARLY)
    np.savez(
        tmp_path / "a.npz",
        format=b"csr",
        shape=sparse.shape,
        data=sparse.data,
        indices=sparse.indices,
        indptr=sparse.indptr,
        ids=np.array(IDS),
    )
    np.savez(tmp_path / "b.npz", mlp=LATE, ids=np.array(IDS))
    stack = load_activations([tmp_path / "a.npz", tmp_path / "b.npz"])
    assert_is(stack, {"a": EARLY, "b": LATE}, IDS)


def test_several_layers_in_one_file(tmp_path):
    np.savez(tmp_path / "all.npz", l10=LATE, l9=EARLY, ids=np.arange(6))
    stack = load_activations(tmp_path / "all.npz")
    assert_is(stack, {"l9": EARLY, "l10": LATE}, list(range(6)))
    one = load_activations(tmp_path / "all.npz", layers=["l10"])
    assert_is(one, {"l10": LATE}, list(range(6)))
    np.savez(tmp_path / "more.npz", x=LATE, ids=np.arange(6))
    names = load_activations([tmp_path / "all.npz", tmp_path / "more.npz"]).names
    assert names == ("all.l9", "all.l10", "more")
    with pytest.raises(
        ValueError, match=r"got \['l7'\]. The files hold \['l9', 'l10'\]"
    ):
        load_activations(tmp_path / "all.npz", layers=["l7"])


@pytest.mark.parametrize("kept", [0.2, 0.6, 0.97])
def test_truncated_npz(tmp_path, kept):
    path = tmp_path / "a.npz"
    np.savez_compressed(path, x=rng.random((50, 20)))
    whole = path.read_bytes()
    path.write_bytes(whole[: int(len(whole) * kept)])
    with pytest.raises(ValueError, match=r"a\.npz' is (a )?broken"):
        load_activations(path)


def test_damaged_npz(tmp_path):
    path = tmp_path / "a.npz"
    np.savez(path, x=np.ones((50, 20)))
    whole = bytearray(path.read_bytes())
    whole[1000] ^= 255
    path.write_bytes(whole)
    with pytest.raises(ValueError, match=r"a\.npz' is broken"):
        load_activations(path)


def test_sparse_matrix_whose_columns_are_out_of_range(tmp_path):
    np.savez(
        tmp_path / "a.npz",
        format=b"csr",
        shape=(2, 3),
        data=np.ones(2),
        indices=np.array([0, 99]),
        indptr=np.array([0, 1, 2]),
    )
    message = (
        r"a\.npz' is not a valid sparse matrix .* CSR: indices must be from 0 to 2"
    )
    with pytest.raises(ValueError, match=message):
        load_activations(tmp_path / "a.npz")


@pytest.mark.parametrize("name", ["a.npy", "a.npz"])
def test_arrays_of_objects_are_not_unpickled(tmp_path, name):
    array = np.array([[Attack(tmp_path / "owned")]], dtype=object)
    path = tmp_path / name
    if name == "a.npy":
        np.save(path, array, allow_pickle=True)
    else:
        np.savez(path, x=array)
    with pytest.raises(ValueError, match="holds objects instead of numbers"):
        load_activations(path)
    assert not (tmp_path / "owned").exists()


def test_truncated_npy(tmp_path):
    np.save(tmp_path / "a.npy", EARLY)
    path = tmp_path / "a.npy"
    path.write_bytes(path.read_bytes()[:-10])
    for mmap in (True, False):
        with pytest.raises(ValueError, match=r"a\.npy' is broken"):
            load_activations(path, mmap=mmap)


@pytest.mark.parametrize(
    ("array", "message"),
    [
        (
            np.ones(3),
            r"a matrix, prompts x neurons; got 1 dimension\(s\), shape \(3,\)",
        ),
        (np.ones((2, 2, 2)), r"a\.npy' has 3 dimension.*layers or tokens\?"),
        (np.array([["a"]]), "must hold real numbers; got dtype <U1"),
        (np.ones((2, 2), complex), "must hold real numbers; got dtype complex128"),
    ],
)
def test_npy_of_something_else(tmp_path, array, message):
    np.save(tmp_path / "a.npy", array)
    with pytest.raises(ValueError, match=message):
        load_activations(tmp_path / "a.npy")


def test_npz_without_a_matrix(tmp_path):
    np.savez(tmp_path / "a.npz", x=np.ones(3))
    with pytest.raises(ValueError, match=r"2-D arrays; got arrays of shapes \{'x'"):
        load_activations(tmp_path / "a.npz")


def test_values_that_are_not_finite(tmp_path):
    bad = EARLY.copy()
    bad[2, 1] = np.nan
    np.save(tmp_path / "a.npy", bad)
    np.savez(tmp_path / "b.npz", x=bad)
    for name in ("a.npy", "b.npz"):
        with pytest.raises(ValueError, match="holds NaN or infinity"):
            load_activations(tmp_path / name, mmap=False)


# --- safetensors ----------------------------------------------------------------------


@pytest.mark.parametrize("mmap", [True, False])
def test_safetensors_matrix(tmp_path, safetensors, mmap):
    metadata = {"ids": json.dumps(IDS)}
    half = EARLY.astype(np.float16)
    safetensors.save_file({"x": half}, tmp_path / "l9.safetensors", metadata)
    safetensors.save_file({"y": LATE}, tmp_path / "l10.safetensors", metadata)
    stack = load_activations(tmp_path / "*.safetensors", mmap=mmap)
    assert_is(stack, {"l9": EARLY, "l10": LATE}, IDS)
    assert stack.layers[0].dtype == np.float16
    assert [isinstance(layer, np.memmap) for layer in stack.layers] == [mmap] * 2


def test_safetensors_with_a_tensor_of_ids(tmp_path, safetensors):
    path = tmp_path / "l.safetensors"
    safetensors.save_file({"x": EARLY, "ids": np.arange(6)}, path)
    assert_is(load_activations(path), {"l": EARLY}, list(range(6)))
    metadata = {"ids": json.dumps(IDS)}
    safetensors.save_file({"x": EARLY, "ids": np.arange(6)}, path, metadata)
    assert_is(load_activations(path), {"l": EARLY}, IDS)
    safetensors.save_file({"x": EARLY, "ids": np.arange(6.0)[:, None]}, path)
    with pytest.raises(ValueError, match=r"The ids of layer 'l' do not fit"):
        load_activations(path)


def test_safetensors_of_one_tensor_an_id(tmp_path, safetensors):
    vectors = {i: row.copy() for i, row in zip(IDS, EARLY, strict=True)}
    safetensors.save_file(vectors, tmp_path / "l.safetensors")
    stack = load_activations(tmp_path / "l.safetensors")
    assert sorted(stack.ids) == IDS
    assert_array_equal(stack.layers[0].toarray()[np.argsort(stack.ids)], EARLY)


def test_safetensors_of_bfloat16(tmp_path, torch):
    import safetensors.torch

    tensor = torch.as_tensor(LATE).bfloat16()
    safetensors.torch.save_file({"x": tensor}, tmp_path / "l.safetensors")
    assert_is(load_activations(tmp_path / "l.safetensors"), {"l": LATE})


@pytest.mark.parametrize(
    "header",
    [
        b'{"x": {"dtype": "F32", "shape": [9, 9], "data_offsets": [0, 96]}}',
        b'{"x": {"dtype": "F32", "shape": [6, 4], "data_offsets": [0, 9999]}}',
        b'{"x": {"dtype": "F32", "shape": [6, 4], "data_offsets": [-8, 88]}}',
        b'{"x": "nothing"}',
        b"{not json",
    ],
)
def test_safetensors_with_a_false_header(tmp_path, header):
    path = tmp_path / "l.safetensors"
    path.write_bytes(struct.pack("<Q", len(header)) + header + EARLY.tobytes())
    with pytest.raises(ValueError, match=r"l\.safetensors' is broken or truncated"):
        load_activations(path)


def test_safetensors_errors(tmp_path, safetensors, monkeypatch):
    path = tmp_path / "l.safetensors"
    safetensors.save_file({"x": np.ones((2, 2, 2))}, path)
    with pytest.raises(ValueError, match=r"'x' in '.*l\.safetensors' has 3 dimension"):
        load_activations(path)
    safetensors.save_file({"x": np.array(2.0)}, path)
    with pytest.raises(ValueError, match=r"each a prompt; got shapes \{'x': \(\)"):
        load_activations(path)
    safetensors.save_file({"x": EARLY}, path, {"ids": "q1 q2"})
    with pytest.raises(ValueError, match="must be a JSON list"):
        load_activations(path)
    safetensors.save_file({"x": EARLY.astype(np.uint32)}, path)
    with pytest.raises(ValueError, match="has dtype U32, which is not read"):
        load_activations(path)
    monkeypatch.setitem(sys.modules, "safetensors", None)
    with pytest.raises(ImportError, match=r'pip install "skleiden\[safetensors\]"'):
        load_activations(path)


# --- JSON and anything else -----------------------------------------------------------


def test_json(tmp_path):
    content = {i: row.tolist() for i, row in zip(IDS, EARLY, strict=True)}
    (tmp_path / "a.json").write_text(json.dumps(content))
    assert_is(load_activations(tmp_path / "a.json"), {"a": EARLY}, IDS)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('{"a": [1, 2]', r"a\.json' is not valid JSON"),
        ('{"a": [1], "a": [2]}', "'a' is there more than once"),
        ("[1, 2]", "must hold a mapping of prompt ids to vectors; got list"),
        ("hello", "in a known form: NumPy, safetensors, torch, Zarr, HDF5, JSON"),
        ("", "in a known form: NumPy, safetensors, torch, Zarr, HDF5, JSON"),
    ],
)
def test_text_files(tmp_path, text, message):
    (tmp_path / "a.json").write_text(text)
    with pytest.raises(ValueError, match=message):
        load_activations(tmp_path / "a.json")


# --- which files, which prompts -------------------------------------------------------


def test_paths(tmp_path, monkeypatch):
    with pytest.raises(FileNotFoundError, match=r"No file matches '.*\*\.npy'"):
        load_activations(tmp_path / "*.npy")
    with pytest.raises(FileNotFoundError, match="There is no file"):
        load_activations([tmp_path / "none.npy"])
    with pytest.raises(IsADirectoryError, match=r"is a folder\. Give a file in it"):
        load_activations([tmp_path])
    with pytest.raises(ValueError, match="at least one file; got none"):
        load_activations([])
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        np.save(tmp_path / name / "x.npy", EARLY)
    paths = [tmp_path / "a" / "x.npy", tmp_path / "b" / "x.npy"]
    with pytest.raises(ValueError, match=r"different names.*got \['x'\]"):
        load_activations(paths)
    assert load_activations(dict(zip("ab", paths, strict=True))).names == ("a", "b")
    np.save(tmp_path / "odd[1].npy", EARLY)
    assert load_activations(tmp_path / "odd[1].npy").names == ("odd[1]",)


def test_prompts_that_are_not_in_every_layer(tmp_path, torch):
    torch.save(records(torch, EARLY), tmp_path / "a.pt")
    np.savez(tmp_path / "b.npz", x=LATE[::-1][:5], ids=np.array(IDS[::-1][:5]))
    with pytest.warns(UserWarning, match="1 prompts are not in every layer .* 5"):
        stack = load_activations([tmp_path / "a.pt", tmp_path / "b.npz"])
    assert_is(stack, {"a": EARLY[1:], "b": LATE[1:]}, IDS[1:])


def test_ids_that_do_not_fit(tmp_path):
    np.save(tmp_path / "a.npy", EARLY)
    np.save(tmp_path / "b.npy", LATE)
    paths = [tmp_path / "a.npy", tmp_path / "b.npy"]
    side = tmp_path / "a.ids.json"
    for ids, message in (
        (IDS[:5], "ids of layer 'a' do not fit: .* one id per row"),
        (["q1"] * 6, "ids of layer 'a' do not fit: .*'q1' more than once"),
    ):
        side.write_text(json.dumps(ids))
        with pytest.raises(ValueError, match=message):
            load_activations(paths[0])
    side.write_text(json.dumps(IDS))
    with pytest.raises(
        ValueError, match=r"Some layers have ids, and \['b'\] have none"
    ):
        load_activations(paths)
    (tmp_path / "b.ids.json").write_text(json.dumps(list(range(6))))
    with pytest.raises(ValueError, match="No prompt id is in all layers"):
        load_activations(paths)
    side.write_text('{"a": 1}')
    with pytest.raises(ValueError, match="must hold a list of ids; got a mapping of 1"):
        load_activations(paths[0])
    side.unlink()
    np.save(tmp_path / "a.ids.npy", np.array([Attack(side)]), allow_pickle=True)
    with pytest.raises(ValueError, match="must hold ids, numbers or strings"):
        load_activations(paths[0])
    assert not side.exists()


def test_nothing_optional_is_imported_for_other_files(tmp_path, monkeypatch):
    class NotInstalled:
        def find_spec(self, name, path=None, target=None):
            if name in optional:
                raise ModuleNotFoundError(name)

    optional = ("torch", "safetensors", "pandas")
    for name in optional:
        monkeypatch.delitem(sys.modules, name, raising=False)
    monkeypatch.setattr(sys, "meta_path", [NotInstalled(), *sys.meta_path])
    with pytest.raises(ModuleNotFoundError):
        importlib.import_module("pandas")
    np.save(tmp_path / "a.npy", EARLY)
    assert_is(load_activations(tmp_path / "a.npy"), {"a": EARLY})


# --- texts ----------------------------------------------------------------------------


def test_texts(tmp_path, torch):
    texts = {"q0": "Why?", "q1": 'A "quoted", long\ntext — naïve'}
    torch.save(texts, tmp_path / "a.json")
    torch.save({0: "Why?"}, tmp_path / "c.json")
    (tmp_path / "b.json").write_text(json.dumps(texts), encoding="utf-8")
    assert load_texts(tmp_path / "a.json") == load_texts(tmp_path / "b.json") == texts
    assert load_texts(tmp_path / "c.json") == {0: "Why?"}
    quoted = '"A ""quoted"", long\ntext — naïve"'
    for name, lines in {
        "d.csv": f"id,text\nq0,Why?\nq1,{quoted}\n",
        "e.csv": f"text,more,id\nWhy?,1,q0\n{quoted},2,q1\n",
        "f.csv": f"q0,Why?\nq1,{quoted}\n",
        "g.csv": f"\ufeffid,text\r\nq0,Why?\r\n\r\nq1,{quoted}\r\n",
    }.items():
        (tmp_path / name).write_text(lines, encoding="utf-8", newline="")
        assert load_texts(tmp_path / name) == texts, name


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("q0\n", r"an id and a text in each line; got \['q0'\]"),
        ("q0,a\nq0,b\n", "has the id 'q0' more than once"),
        (b"\xff\xfe\x00", "is not a CSV file: its text is UTF-16"),
        ('{"q0": 1}', r"\{id: text\}; got a mapping of 1 to int"),
        ('["a", 3]', r"must hold a text for each row, in a list.*got list"),
        ("q0,Why, oh why?\nq1,What?\n", "more than 2 cells in the line .*quotation"),
        ("id,a,b\nq0,x,y\n", "names no column of texts"),
    ],
)
def test_texts_errors(tmp_path, content, message):
    path = tmp_path / "texts.csv"
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(ValueError, match=message):
        load_texts(path)
