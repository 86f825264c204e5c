"""Files that are numbered as layers are, and as parts of the rows; names beside."""

import numpy as np
import pytest
from numpy.testing import assert_array_equal

from skleiden.io import load_activations

CUBE = np.random.RandomState(0).rand(3, 6, 4).astype("f4")


def saved(folder, *names, arrays=CUBE):
    for name, array in zip(names, arrays, strict=False):
        np.save(folder / f"{name}.npy", array)
    return folder / "*.npy"


@pytest.mark.parametrize(
    "names",
    [
        ("activations_000", "activations_001", "activations_002"),
        ("acts1", "acts2"),
        ("0", "1", "2"),
        ("run7_x0_fp16", "run7_x1_fp16"),
    ],
)
def test_numbers_that_parts_and_layers_have_are_asked_about(tmp_path, names):
    """They were taken for layers, and the rows of one for those of the others."""
    told = rf"Are '{names[0]}', '{names[1]}'.* parts of the rows, or layers\? .* \(6, 4"
    with pytest.raises(ValueError, match=told):
        load_activations(saved(tmp_path, *names))
    paths = [tmp_path / f"{name}.npy" for name in names]
    whole = load_activations({"mlp": paths})
    assert_array_equal(whole["mlp"], np.concatenate(CUBE[: len(names)]))
    layers = dict(zip(names, paths, strict=True))
    assert load_activations(layers).names == names
    assert load_activations(tmp_path / "*.npy", layers=list(names)).names == names
    ids = [*"abcdef"]
    assert load_activations(tmp_path / "*.npy", ids=ids).names == names


@pytest.mark.parametrize(
    "names",
    [
        ("layer_0", "layer_1"),
        ("L0", "L1"),
        ("0_mlp", "1_mlp"),
        ("fc1", "fc2"),
        ("model.0.down_proj", "model.1.down_proj"),
        ("acts_17", "acts_18"),
        ("acts_0", "acts_2"),
        ("early", "late"),
        ("post1", "pre0"),
    ],
)
def test_names_of_layers_are_not_asked_about(tmp_path, names):
    assert load_activations(saved(tmp_path, *names)).names == names


def test_layers_of_other_widths_are_not_asked_about(tmp_path):
    arrays = [CUBE[0], CUBE[1, :, :3]]
    stack = load_activations(saved(tmp_path, "acts_0", "acts_1", arrays=arrays))
    assert stack.widths == (4, 3)


# --- names beside an array of layers --------------------------------------------------

NAMES = ["mlp_4", "mlp_8", "mlp_12"]


def save_npz(path, content):
    np.savez(path, **content)


def save_hdf5(path, content):
    with pytest.importorskip("h5py").File(path, "w") as file:
        for name, array in content.items():
            file[name] = array.tolist() if array.dtype.kind == "U" else array


def save_zarr(path, content):
    group = pytest.importorskip("zarr").open_group(str(path), mode="w")
    for name, array in content.items():
        group.create_array(name, data=array)


def save_torch(path, content):
    torch = pytest.importorskip("torch")
    content = {
        name: array.tolist() if array.ndim == 1 else torch.tensor(array)
        for name, array in content.items()
    }
    torch.save(content, path)


@pytest.mark.parametrize("axis", [0, 1, -3])
@pytest.mark.parametrize("name", ["layer_names", "layers"])
@pytest.mark.parametrize(
    ("suffix", "save"), [("npz", save_npz), ("h5", save_hdf5), ("pt", save_torch)]
)
def test_names_beside_an_array_of_layers_are_used(tmp_path, suffix, save, name, axis):
    path = tmp_path / f"a.{suffix}"
    array = CUBE if axis != 1 else CUBE.swapaxes(0, 1)
    save(path, {"acts": array, name: np.array(NAMES)})
    stack = load_activations(path, axis=axis)
    assert stack.names == tuple(NAMES)
    for layer, expected in zip(stack.layers, CUBE, strict=True):
        assert_array_equal(layer, expected)


@pytest.mark.parametrize("save", [save_npz, save_hdf5, save_torch, save_zarr])
def test_numbers_beside_an_array_of_layers(tmp_path, save):
    path = tmp_path / ("a.pt" if save is save_torch else f"a.{save.__name__[5:]}")
    save(path, {"activations": CUBE, "layers": np.array([4, 8, 12])})
    assert load_activations(path, axis=0).names == ("layer_4", "layer_8", "layer_12")


@pytest.mark.parametrize("save", [save_npz, save_hdf5, save_torch])
def test_names_of_other_layers_are_told(tmp_path, save):
    path = tmp_path / ("a.pt" if save is save_torch else f"a.{save.__name__[5:]}")
    save(path, {"acts": CUBE, "layer_names": np.array(NAMES)})
    with pytest.warns(UserWarning, match="more than is read: 'layer_names'"):
        stack = load_activations(path, axis=1)
    assert stack.names == tuple(f"layer_{i}" for i in range(6))


def test_names_that_repeat_are_refused(tmp_path):
    save_npz(tmp_path / "a.npz", {"acts": CUBE, "layers": np.array([*"aba"])})
    with pytest.raises(ValueError, match=r"'layers' in .* each layer once; got 'a' mo"):
        load_activations(tmp_path / "a.npz", axis=0)


def test_ids_of_rows_that_are_the_second_axis(tmp_path):
    ids = np.array([f"q{i}" for i in range(6)])
    for suffix, save in (("npz", save_npz), ("h5", save_hdf5)):
        path = tmp_path / f"a.{suffix}"
        save(path, {"acts": CUBE, "prompt_ids": ids, "layers": np.array(NAMES)})
        stack = load_activations(path, axis=0)
        assert stack.ids.tolist() == ids.tolist()
        assert stack.names == tuple(NAMES)


# --- matrices of obsm -----------------------------------------------------------------


def save_anndata(path, X=True):
    h5py = pytest.importorskip("h5py")
    with h5py.File(path, "w") as file:
        file.attrs["encoding-type"] = "anndata"
        if X:
            file["X"] = np.ones((6, 2), dtype="f4")
        file.create_group("obs").attrs["_index"] = "cell"
        file["obs/cell"] = [f"q{i}" for i in range(6)]
        for name, matrix in zip(NAMES, CUBE, strict=True):
            file[f"obsm/{name}"] = matrix


@pytest.mark.parametrize("X", [True, False])
@pytest.mark.parametrize("some", [NAMES, NAMES[1:2], NAMES[::-1]])
@pytest.mark.filterwarnings("error")
def test_matrices_of_obsm_are_layers_if_they_are_named(tmp_path, some, X):
    save_anndata(tmp_path / "a.h5ad", X)
    asked = [f"obsm/{name}" for name in some]
    stack = load_activations(tmp_path / "a.h5ad", layers=asked)
    assert stack.names == tuple(asked)
    assert stack.ids.tolist() == [f"q{i}" for i in range(6)]
    for name in some:
        assert_array_equal(stack[f"obsm/{name}"], CUBE[NAMES.index(name)])


def test_x_and_obsm_together(tmp_path):
    save_anndata(tmp_path / "a.h5ad")
    stack = load_activations(tmp_path / "a.h5ad", layers=["X", "obsm/mlp_8"])
    assert stack.widths == (2, 4)
    with pytest.warns(UserWarning, match=r"'obsm/mlp_4'.*what layers= names of obsm"):
        assert load_activations(tmp_path / "a.h5ad").widths == (2,)
    message = r"layers must name layers .*'obsm/mlp_9'\]\. "
    with pytest.raises(ValueError, match=message):
        load_activations(tmp_path / "a.h5ad", layers=["obsm/mlp_9", "obsm/mlp_8"])
