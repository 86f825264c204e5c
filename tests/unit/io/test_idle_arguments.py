"""Arguments of `load_activations` decide something, or are refused."""

import json

import numpy as np
import pytest
import scipy.sparse as sp
from numpy.testing import assert_allclose

from skleiden.io import load_activations

EARLY = np.random.RandomState(0).rand(6, 4).astype("f4")
LATE = np.random.RandomState(1).rand(6, 3).astype("f4")
LIST, VECTORS = EARLY.tolist(), {f"q{i}": row.tolist() for i, row in enumerate(EARLY)}


def saved(path, content):
    """Save arrays of NumPy by the suffix of a name, anything else as JSON."""
    if path.suffix == ".npy":
        np.save(path, content)
    elif path.suffix == ".npz":
        if sp.issparse(content):
            sp.save_npz(path, content)
        else:
            np.savez(path, **content)
    elif path.suffix == ".h5":
        h5py = pytest.importorskip("h5py")
        with h5py.File(path, "w") as file:
            for name, array in content.items():
                file[name] = array
    elif isinstance(content, str):
        path.write_text(content)
    else:
        path.write_text(json.dumps(content))
    return path


TRIPLETS = {"row": [0, 1, 2], "latent": [0, 1, 0], "value": [1.0, 2.0, 3.0]}
LARGEST = {"top_indices": np.tile([0, 1], (6, 1)), "top_acts": EARLY[:, :2]}
TABLE = "id,n0,n1\n" + "".join(f"q{i},{i}.5,1\n" for i in range(6))
BY_LAYER = {"layer_0": VECTORS, "layer_1": VECTORS}
CSR = sp.csr_matrix(EARLY)


@pytest.mark.parametrize(
    ("name", "content", "argument", "value"),
    [
        ("a.npy", EARLY, "key", "pre"),
        ("a.npz", {"a": EARLY}, "key", "pre"),
        ("a.h5", {"a": EARLY}, "key", "pre"),
        ("a.csv", TABLE, "key", "pre"),
        ("a.json", LIST, "key", "pre"),
        ("a.json", VECTORS, "key", "pre"),
        ("a.json", TRIPLETS, "key", "pre"),
        ("a.jsonl", '{"id": "q0", "layer_0": [1, 2]}\n', "key", "pre"),
        ("a.npz", {"a": EARLY}, "axis", 1),
        ("a.npz", {"layer_0": EARLY, "layer_1": LATE}, "axis", -1),
        ("a.npz", {"layer_0": EARLY, "layer_1": LATE}, "axis", 7),
        ("a.npz", CSR, "axis", 1),
        ("a.npz", TRIPLETS, "axis", 0),
        ("a.npz", LARGEST, "axis", 1),
        ("a.h5", {"layer_0": EARLY, "layer_1": LATE}, "axis", 7),
        ("a.csv", TABLE, "axis", 1),
        ("a.json", LIST, "axis", 0),
        ("a.npz", CSR, "pool", "mean"),
        ("a.npz", TRIPLETS, "pool", "mean"),
        ("a.npz", LARGEST, "pool", "mean"),
        ("a.csv", TABLE, "pool", "mean"),
        ("a.json", VECTORS, "pool", "mean"),
        ("a.json", BY_LAYER, "pool", "mean"),
    ],
)
def test_what_decides_nothing_is_refused(tmp_path, name, content, argument, value):
    path = saved(tmp_path / name, content)
    told = rf"{name}' holds .*, of which {argument}={value!r} decides nothing\. Leave"
    with pytest.raises(ValueError, match=told):
        load_activations(path, **{argument: value})
    load_activations(path)


def test_an_axis_that_vectors_by_name_do_not_have(tmp_path):
    path = saved(tmp_path / "a.json", VECTORS)
    with pytest.raises(ValueError, match=r"axis must be 0 or 1 for vectors .* got 7"):
        load_activations(path, axis=7)


@pytest.mark.parametrize("name", ["a.npz", "a.h5"])
def test_axis_0_says_that_matrices_by_name_are_layers(tmp_path, name):
    path = saved(tmp_path / name, {"layer_0": EARLY, "layer_1": LATE})
    assert load_activations(path, axis=0).names == ("layer_0", "layer_1")


def test_pooled_matrices_of_files_are_asked_about(tmp_path):
    """Each was taken for a layer of one row, without a word."""
    for i, tokens in enumerate((EARLY[:3], EARLY[3:])):
        saved(tmp_path / f"q{i}.json", tokens.tolist())
    with pytest.raises(ValueError, match=r"'q0', ..., 'q1' holds one matrix.* axis=1"):
        load_activations(tmp_path / "q*.json", pool="mean")
    stack = load_activations(tmp_path / "q*.json", pool="mean", axis=1)
    assert stack.names == ("layer_0",)
    assert stack.ids.tolist() == ["q0", "q1"]
    expected = [EARLY[:3].mean(axis=0), EARLY[3:].mean(axis=0)]
    assert_allclose(stack.layers[0].toarray(), expected, rtol=1e-6)
