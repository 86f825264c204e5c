"""What people save, told apart: layers, parts, tokens, tables, triplets and texts."""

import json
import sys
import warnings
import zipfile

import h5py
import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
import scipy.sparse as sp
import zarr
from numpy.testing import assert_allclose, assert_array_equal
from pyarrow import parquet

from skleiden.inspection import Communities
from skleiden.io import load_activations, load_texts, save_labels

rng = np.random.default_rng(0)
N = 6
EARLY = rng.integers(1, 40, (N, 4)).astype("f4") / 8
LATE = rng.integers(1, 40, (N, 5)).astype("f4") / 8
TALL = rng.integers(1, 40, (N, 4)).astype("f4") / 8  # as wide as EARLY
IDS = [f"q{i}" for i in range(N)]
TEXTS = [f"Text {i}, with a comma?" for i in range(N)]


@pytest.fixture
def torch():
    import torch

    return torch


def dense(matrix):
    return matrix.toarray() if sp.issparse(matrix) else np.asarray(matrix)


def assert_is(stack, layers, ids=None):
    assert list(stack.names) == list(layers)
    for name, matrix in zip(stack.names, stack.layers, strict=True):
        assert_array_equal(dense(matrix), layers[name])
    assert (None if stack.ids is None else stack.ids.tolist()) == ids


def by_id(matrix):
    return dict(zip(IDS, matrix, strict=True))


def saved_torch(path, content):
    import torch

    def tensors(value):
        if isinstance(value, np.ndarray):
            return torch.as_tensor(value.copy())
        if isinstance(value, dict):
            return {name: tensors(inner) for name, inner in value.items()}
        if isinstance(value, (list, tuple)):
            return type(value)(tensors(inner) for inner in value)
        return value

    torch.save(tensors(content), path)


def saved_json(path, content):
    path.write_text(json.dumps(content, default=lambda array: array.tolist()))


SAVERS = {"pt": saved_torch, "json": saved_json}
containers = pytest.mark.parametrize("form", SAVERS)


# --- parts of layers ------------------------------------------------------------------


def save_parts(folder, names, parts=(EARLY[:2], EARLY[2:5], EARLY[5:])):
    for name, part in zip(names, parts, strict=True):
        np.save(folder / f"{name}.npy", part)


@pytest.mark.parametrize(
    ("names", "layer"),
    [
        (["layer_9_0", "layer_9_2", "layer_9_5"], "layer_9"),
        (["layer_9_0-2", "layer_9_2-5", "layer_9_5-6"], "layer_9"),
        (["layer_9_100_102", "layer_9_102_105", "layer_9_105_106"], "layer_9"),
        (["a-00001-of-00003", "a-00002-of-00003", "a-00003-of-00003"], "a"),
        (["a_0-of-3", "a_1-of-3", "a_2-of-3"], "a"),
        (["mlp.part8", "mlp.part9", "mlp.part10"], "mlp"),
        (["layer_9_batch_0", "layer_9_batch_2", "layer_9_batch_5"], "layer_9"),
        (["batch_0", "batch_1", "batch_2"], "batch"),
    ],
)
def test_parts_are_joined_where_names_say_so(tmp_path, names, layer):
    save_parts(tmp_path, names)
    assert_is(load_activations(tmp_path / "*.npy"), {layer: EARLY})
    save_parts(tmp_path, names, (IDS[:2], IDS[2:5], IDS[5:]))
    for name in names:
        (tmp_path / f"{name}.npy").rename(tmp_path / f"{name}.ids.npy")
    save_parts(tmp_path, names)
    files = [tmp_path / f"{name}.npy" for name in names[::-1]]
    assert_is(load_activations(files), {layer: EARLY}, IDS)


def test_parts_of_several_layers(tmp_path, torch):
    for name, matrix in (("layer_9", EARLY), ("layer_10", LATE)):
        for start, stop in ((0, 4), (4, 6)):
            part = torch.as_tensor(matrix[start:stop].copy())
            torch.save(part, tmp_path / f"{name}_{start}.pt")
    assert_is(load_activations(tmp_path / "*.pt"), {"layer_9": EARLY, "layer_10": LATE})
    stack = load_activations(tmp_path / "*.pt", ids=IDS)
    assert_is(stack, {"layer_9": EARLY, "layer_10": LATE}, IDS)


def test_parts_that_are_given(tmp_path):
    save_parts(tmp_path, "abc")
    paths = [tmp_path / f"{name}.npy" for name in "abc"]
    assert_is(load_activations({"x": paths}), {"x": EARLY})
    assert_is(load_activations({"x": str(tmp_path / "?.npy")}), {"x": EARLY})
    with pytest.raises(FileNotFoundError, match="No file matches"):
        load_activations({"x": str(tmp_path / "?.pt")})


def test_parts_of_any_form(tmp_path):
    sp.save_npz(tmp_path / "a_part_1.npz", sp.csc_array(EARLY[:2]))
    np.savez(tmp_path / "a_part_2.npz", x=EARLY[2:])
    stack = load_activations(tmp_path / "a_*.npz")
    assert_is(stack, {"a": EARLY})
    for number, rows in enumerate((slice(0, 2), slice(2, 6))):
        saved_json(
            tmp_path / f"batch_{number}.json",
            {"l9": dict(list(by_id(EARLY).items())[rows])}
            | {"l10": dict(list(by_id(LATE).items())[rows])},
        )
    stack = load_activations(tmp_path / "batch_*.json")
    assert_is(stack, {"l9": EARLY, "l10": LATE}, IDS)


def test_shards_of_layers(tmp_path):
    """Each holds other layers, or rows of the same."""
    from safetensors.numpy import save_file

    save_file({"l9": EARLY}, tmp_path / "m-00001-of-00002.safetensors")
    save_file({"l10": LATE}, tmp_path / "m-00002-of-00002.safetensors")
    pattern = tmp_path / "m-*.safetensors"
    assert_is(load_activations(pattern), {"l9": EARLY, "l10": LATE})
    for number, rows in ((1, slice(0, 2)), (2, slice(2, 6))):
        save_file(
            {"l9": EARLY[rows], "l10": LATE[rows]},
            tmp_path / f"m-0000{number}-of-00002.safetensors",
        )
    assert_is(load_activations(pattern), {"l9": EARLY, "l10": LATE})
    save_file({"l9": EARLY}, tmp_path / "m-00002-of-00002.safetensors")
    with pytest.raises(ValueError, match="Parts of layers must hold the same layers"):
        load_activations(pattern)
    (tmp_path / "m-00002-of-00002.safetensors").unlink()
    with pytest.raises(ValueError, match=r"Parts are missing beside .*\[1\] of \[2\]"):
        load_activations(pattern)


@pytest.mark.parametrize(
    "names",
    [
        ["layer_9_0", "layer_9_1", "layer_9_2"],
        ["layer_9_0", "layer_9_25", "layer_9_50"],
        ["acts_0", "acts_2", "acts_4"],
        ["batch_0", "batch_25", "batch_50"],
    ],
)
def test_what_may_be_parts_is_asked(tmp_path, names):
    save_parts(tmp_path, names, np.split(EARLY, 3))
    with pytest.raises(ValueError, match=r"parts of one layer\? .*\{layer: \[part"):
        load_activations(tmp_path / "*.npy")
    paths = {name: tmp_path / f"{name}.npy" for name in names}
    assert load_activations(paths).shape == (2, 12)
    assert_is(load_activations({"x": list(paths.values())}), {"x": EARLY})


def test_files_of_different_rows_are_asked_about(tmp_path):
    save_parts(tmp_path, ["acts_0", "acts_1", "acts_2"])
    with pytest.raises(ValueError, match=r"of one width: are these parts of one layer"):
        load_activations(tmp_path / "*.npy")


def test_numbers_of_layers_are_no_parts(tmp_path):
    for name in ("layer_0", "layer_1", "layer_10", "gpt2_3"):
        np.save(tmp_path / f"{name}.npy", EARLY)
    names = load_activations(tmp_path / "*.npy").names
    assert names == ("gpt2_3", "layer_0", "layer_1", "layer_10")


@pytest.mark.parametrize(
    ("parts", "message"),
    [
        ((EARLY, LATE), r"are of different widths, \[4, 5\]: '.*a\.npy'"),
        ((EARLY, IDS), r"b\.npy' must hold a matrix"),
    ],
)
def test_parts_that_do_not_fit(tmp_path, parts, message):
    save_parts(tmp_path, "ab", parts)
    with pytest.raises(ValueError, match=message):
        load_activations({"x": [tmp_path / "a.npy", tmp_path / "b.npy"]})


def test_parts_whose_ids_do_not_fit(tmp_path):
    save_parts(tmp_path, "ab", (EARLY, EARLY))
    files = {"x": [tmp_path / "a.npy", tmp_path / "b.npy"]}
    np.save(tmp_path / "a.ids.npy", IDS)
    with pytest.raises(
        ValueError, match="Some of the parts have ids and others do not"
    ):
        load_activations(files)
    np.save(tmp_path / "b.ids.npy", IDS[:3])
    with pytest.raises(ValueError, match=r"have \[6, 6\] rows and \[6, 3\] ids"):
        load_activations(files)
    np.save(tmp_path / "b.ids.npy", IDS)
    with pytest.raises(ValueError, match="'q0' more than once"):
        load_activations(files)
    for name in "ab":
        saved_json(tmp_path / f"{name}.json", by_id(EARLY))
    with pytest.raises(
        ValueError, match=r"Prompt 'q0' in .* is also in another of the part"
    ):
        load_activations({"x": [tmp_path / "a.json", tmp_path / "b.json"]})


# --- AnnData --------------------------------------------------------------------------


def write_anndata(path, form, *, index="_index", nullable=False, encoded=True):
    """As anndata 0.12 writes it."""
    if form == "hdf5":
        root = h5py.File(path, "w")
    else:
        root = zarr.open_group(path, mode="w", zarr_format=2 if form == "zarr 2" else 3)

    def write(name, values, **attributes):
        values = np.asarray(values)
        if form == "hdf5":
            root[name] = values.tolist() if values.dtype.kind == "U" else values
        else:
            made = root.create_array(name, shape=values.shape, dtype=values.dtype)
            made[...] = values
        for key, value in attributes.items():
            root[name].attrs[key.replace("_type", "-type")] = value

    def group(name, kind, **attributes):
        made = root.create_group(name)
        if encoded:
            made.attrs["encoding-type"] = kind
        for key, value in attributes.items():
            made.attrs[key] = value

    def sparse(name, matrix):
        group(name, f"{matrix.format}_matrix", shape=list(matrix.shape))
        for part in ("data", "indices", "indptr"):
            write(f"{name}/{part}", getattr(matrix, part))

    if encoded:
        root.attrs["encoding-type"] = "anndata"
    for name, size in (("obs", N), ("var", 4)):
        group(name, "dataframe", _index=index)
        names = np.array(IDS if name == "obs" else [f"g{i}" for i in range(size)])
        if nullable:
            group(f"{name}/{index}", "nullable-string-array")
            write(f"{name}/{index}/values", names)
            write(f"{name}/{index}/mask", np.zeros(size, dtype=bool))
        else:
            write(f"{name}/{index}", names)
        write(f"{name}/score", np.arange(float(size)))
    sparse("X", sp.csr_matrix(EARLY))
    group("layers", "dict")
    sparse("layers/c10", sp.csc_matrix(TALL))
    write("layers/c9", LATE)
    group("obsm", "dict")
    write("obsm/X_pca", EARLY[:, :2])
    group("obsp", "dict")
    sparse("obsp/distances", sp.csr_matrix(np.eye(N, dtype="f4")))
    group("uns", "dict")
    write("uns/colors", np.ones((3, 3)))
    if form == "hdf5":
        root.close()


@pytest.mark.parametrize("form", ["hdf5", "zarr", "zarr 2"])
@pytest.mark.parametrize("index", ["_index", "cell"])
@pytest.mark.parametrize("nullable", [False, True])
def test_anndata(tmp_path, form, index, nullable):
    path = tmp_path / "a.h5ad"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # strings are not yet in Zarr's standard
        write_anndata(path, form, index=index, nullable=nullable)
    with pytest.warns(UserWarning, match="holds more than is read") as told:
        stack = load_activations(path)
    assert_is(stack, {"X": EARLY, "layers/c9": LATE, "layers/c10": TALL}, IDS)
    assert [sp.issparse(layer) for layer in stack.layers] == [True, False, True]
    (message,) = {str(one.message) for one in told}
    for name in ("'obsm/X_pca' (", "'obsp/distances' (a sparse", "'uns/colors' ("):
        assert name in message
    assert "score" not in message


def test_anndata_of_older_versions(tmp_path):
    write_anndata(tmp_path / "a.h5ad", "hdf5", encoded=False)
    with pytest.warns(UserWarning, match="'obsm/X_pca'"):
        stack = load_activations(tmp_path / "a.h5ad")
    assert_is(stack, {"X": EARLY, "layers/c9": LATE, "layers/c10": TALL}, IDS)


def test_anndata_itself(tmp_path):
    warnings.simplefilter("ignore")  # of pandas, about what anndata asks of it
    anndata = pytest.importorskip("anndata")
    obs = pd.DataFrame(index=pd.Index(IDS, dtype=object))
    var = pd.DataFrame(index=pd.Index(list("abcd"), dtype=object))
    made = anndata.AnnData(sp.csr_matrix(EARLY), obs=obs, var=var)
    made.layers["raw"] = TALL
    made.write_h5ad(tmp_path / "a.h5ad")
    warnings.simplefilter("error")
    stack = load_activations(tmp_path / "a.h5ad")
    assert_is(stack, {"X": EARLY, "layers/raw": TALL}, IDS)


@pytest.mark.parametrize("form", ["hdf5", "zarr"])
def test_groups_come_in_natural_order(tmp_path, form):
    path = tmp_path / "a.store"
    root = h5py.File(path, "w") if form == "hdf5" else zarr.open_group(path, mode="w")
    for number in (0, 1, 10, 2):
        name = f"blocks/{number}/mlp"
        if form == "hdf5":
            root[name] = EARLY
        else:
            root.create_array(name, shape=EARLY.shape, dtype="f4")[...] = EARLY
    if form == "hdf5":
        root.close()
    names = load_activations(path).names
    assert names == tuple(f"blocks/{number}/mlp" for number in (0, 1, 2, 10))


# --- torch and JSON: mappings, lists --------------------------------------------------


@containers
@pytest.mark.parametrize("names", [("layer_9", "layer_10"), (9, 10), ("x", "y")])
def test_layers_by_name(tmp_path, form, names):
    SAVERS[form](tmp_path / f"a.{form}", dict(zip(names, (EARLY, LATE), strict=True)))
    expected = dict(zip(map(str, names), (EARLY, LATE), strict=True))
    assert_is(load_activations(tmp_path / f"a.{form}"), expected)
    SAVERS[form](tmp_path / f"b.{form}", {names[1]: LATE, names[0]: EARLY})
    assert_is(load_activations(tmp_path / f"b.{form}"), expected)


@pytest.mark.parametrize("dtype", ["bfloat16", "float16", "float8_e4m3fn", "int32"])
def test_tensors_of_any_type(tmp_path, torch, dtype):
    kind = getattr(torch, dtype)
    whole = np.rint(EARLY)
    tensors = {
        f"layer_{i}": torch.nn.Parameter(torch.as_tensor(whole).to(kind), False)
        for i in range(2)
    }
    torch.save(tensors, tmp_path / "a.pt")
    assert_is(load_activations(tmp_path / "a.pt"), {"layer_0": whole, "layer_1": whole})


@containers
@pytest.mark.parametrize(
    "names",
    [("layer_9", "layer_10"), ("h.0.mlp", "h.1.mlp"), ("a", "b")],
)
def test_layers_of_vectors_by_id(tmp_path, form, names):
    """{layer: {id: vector}} and {id: {layer: vector}}: widths tell, or names."""
    matrices = (EARLY, LATE if names == ("a", "b") else TALL)
    expected = dict(zip(names, matrices, strict=True))
    outer = {name: by_id(matrix) for name, matrix in expected.items()}
    inner = {i: {name: outer[name][i] for name in names} for i in IDS}
    for content in (outer, inner):
        SAVERS[form](tmp_path / f"a.{form}", content)
        assert_is(load_activations(tmp_path / f"a.{form}"), expected, IDS)


@containers
def test_names_that_do_not_tell_layers_from_ids(tmp_path, form):
    path = tmp_path / f"a.{form}"
    content = {"a": by_id(EARLY), "b": by_id(TALL)}
    SAVERS[form](path, content)
    with pytest.raises(
        ValueError, match=r"such as 'a' and then 'q0'.* axis=0 .*axis=1"
    ):
        load_activations(path)
    assert_is(load_activations(path, axis=0), {"a": EARLY, "b": TALL}, IDS)
    turned = load_activations(path, axis=1)
    assert turned.names == tuple(IDS)
    assert turned.ids.tolist() == ["a", "b"]
    with pytest.raises(ValueError, match="axis must be 0 or 1 for the mappings"):
        load_activations(path, axis=2)


@containers
def test_activations_beside_ids_and_texts(tmp_path, form):
    path = tmp_path / f"a.{form}"
    layers = {"layer_9": EARLY, "layer_10": LATE}
    SAVERS[form](path, {"activations": layers, "ids": IDS, "texts": TEXTS})
    assert_is(load_activations(path), layers, IDS)
    assert load_texts(path) == dict(zip(IDS, TEXTS, strict=True))
    SAVERS[form](path, {"acts": EARLY, "prompt_ids": IDS})
    assert_is(load_activations(path), {"a": EARLY}, IDS)
    SAVERS[form](path, layers | {"ids": IDS, "prompts": TEXTS})
    assert_is(load_activations(path), layers, IDS)
    SAVERS[form](path, {"activations": layers, "ids": IDS, "model": "m", "seed": [3]})
    told = r"holds more than is read: 'model' \(str\), 'seed' \(list\)"
    with pytest.warns(UserWarning, match=told):
        assert_is(load_activations(path), layers, IDS)


@containers
def test_a_key_of_any_mapping(tmp_path, form):
    path = tmp_path / f"a.{form}"
    SAVERS[form](path, {"gate": EARLY, "up": LATE})
    with pytest.warns(UserWarning, match=r"is read: 'up' \("):
        assert_is(load_activations(path, key="gate"), {"a": EARLY})
    nested = {f"layer_{i}": {"pre": TALL, "post": EARLY} for i in (2, 10)}
    SAVERS[form](path, nested)
    assert_is(load_activations(path), {"layer_2": EARLY, "layer_10": EARLY})
    assert_is(load_activations(path, key="pre"), {"layer_2": TALL, "layer_10": TALL})
    SAVERS[form](path, {f"layer_{i}": {"gate": TALL, "up": EARLY} for i in (2, 10)})
    names = [f"layer_{i}.{name}" for i in (2, 10) for name in ("gate", "up")]
    assert list(load_activations(path).names) == names


@pytest.mark.parametrize("make", [tuple, list])
@containers
def test_sequences_of_matrices(tmp_path, form, make):
    path = tmp_path / f"a.{form}"
    SAVERS[form](path, make([EARLY, LATE]))
    assert_is(load_activations(path), {"layer_0": EARLY, "layer_1": LATE})
    SAVERS[form](path, make([EARLY, TALL]))
    expected = {"layer_0": EARLY, "layer_1": TALL}
    assert_is(load_activations(path, axis=0), expected)
    if form == "json":
        with pytest.raises(ValueError, match="layers or tokens"):
            load_activations(path)
    elif make is tuple:
        assert_is(load_activations(path), expected)
    else:
        with pytest.warns(UserWarning, match="each of which is taken for a layer. Pas"):
            assert_is(load_activations(path), expected)
    SAVERS[form](path, make([EARLY[:2], EARLY[2:]]))
    with pytest.raises(ValueError, match="parts of one layer, join them"):
        load_activations(path)
    SAVERS[form](path, make([EARLY[0], EARLY]))
    with pytest.raises(ValueError, match=r"not 2 dimensions|different shapes"):
        load_activations(path)


@containers
def test_lists_of_vectors(tmp_path, form):
    path = tmp_path / f"a.{form}"
    SAVERS[form](path, list(EARLY))
    assert_is(load_activations(path), {"a": EARLY})
    SAVERS[form](path, {"layer_0": list(EARLY), "layer_1": list(LATE)})
    assert_is(load_activations(path), {"layer_0": EARLY, "layer_1": LATE})
    SAVERS[form](path, {"layer_0": [EARLY[:2], EARLY[2:]]})
    with pytest.raises(ValueError, match=r"'layer_0' in .*parts of one layer, join"):
        load_activations(path)
    records = [
        {"id": i, "text": text, "layer_9": early, "acts": {"layer_10": late}}
        for i, text, early, late in zip(IDS, TEXTS, EARLY, LATE, strict=True)
    ]
    SAVERS[form](path, records)
    assert_is(load_activations(path), {"layer_9": EARLY, "layer_10": LATE}, IDS)
    assert load_texts(path) == dict(zip(IDS, TEXTS, strict=True))


@containers
def test_many_matrices_may_be_prompts(tmp_path, form):
    path = tmp_path / f"a.{form}"
    SAVERS[form](path, {f"q{i}": EARLY[:2] + i for i in range(5)})
    with pytest.raises(
        ValueError, match=r"5 arrays of the shape \(2, 4\), under names"
    ):
        load_activations(path)
    assert load_activations(path, axis=0).names == ("q0", "q1", "q2", "q3", "q4")
    stack = load_activations(path, pool="mean")
    assert stack.ids.tolist() == [f"q{i}" for i in range(5)]
    means = [(EARLY[:2] + i).mean(axis=0) for i in range(5)]
    assert_allclose(dense(stack.layers[0]), means, rtol=1e-6)
    SAVERS[form](path, {"q0": EARLY[:2], "q1": EARLY[:3]})
    with pytest.raises(ValueError, match=r"different numbers of rows.* pool first"):
        load_activations(path)
    last = load_activations(path, pool="last")
    assert_is(last, {"a": EARLY[[1, 2]]}, ["q0", "q1"])


def test_other_tensors_name_the_file(tmp_path, torch):
    for number, make in enumerate(
        (
            lambda x: x.to_sparse(),
            lambda x: x.to_sparse_csr(),
            lambda x: {"layer_0": x.to_sparse(), "layer_1": x},
            lambda x: {"q0": x[0].to_sparse()},
            lambda x: [x.to_sparse(), x],
            lambda x: {"layer_0": {"q0": x[0].to_sparse()}},
        )
    ):
        path = tmp_path / f"a{number}.pt"
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # CSR is in beta
            torch.save(make(torch.as_tensor(EARLY)), path)
            with pytest.raises(ValueError, match=rf"a{number}\.pt' is a sparse tensor"):
                load_activations(path)


# --- three dimensions -----------------------------------------------------------------

CUBE = rng.integers(1, 40, (N, 3, 4)).astype("f4") / 8


def cube_npy(path, cube):
    np.save(path, cube)


def cube_npz(path, cube):
    np.savez(path, x=cube)


def cube_safetensors(path, cube):
    from safetensors.numpy import save_file

    save_file({"x": np.ascontiguousarray(cube)}, path)


def cube_hdf5(path, cube):
    with h5py.File(path, "w") as file:
        file["x"] = cube


def cube_zarr(path, cube):
    group = zarr.open_group(path, mode="w")
    group.create_array("x", shape=cube.shape, dtype="f4")[...] = cube


def cube_parquet(path, cube):
    parquet.write_table(pa.table({"x": pa.array(cube.tolist())}), path)


CUBES = {
    "npy": cube_npy,
    "npz": cube_npz,
    "safetensors": cube_safetensors,
    "hdf5": cube_hdf5,
    "zarr": cube_zarr,
    "parquet": cube_parquet,
    "pt": saved_torch,
    "json": saved_json,
}


@pytest.mark.parametrize("mmap", [True, False])
@pytest.mark.parametrize("form", CUBES)
def test_layers_or_tokens(tmp_path, form, mmap):
    path = tmp_path / f"a.{form}"
    CUBES[form](path, CUBE)
    message = rf"a\.{form}' has 3 dimension\(s\), shape \(6, 3, 4\): layers or tokens"
    with pytest.raises(ValueError, match=message) as found:
        load_activations(path, mmap=mmap)
    assert "pass axis=1" in str(found.value)
    assert 'pool="mean"' in str(found.value)
    layers = {f"layer_{i}": CUBE[:, i] for i in range(3)}
    assert_is(load_activations(path, axis=1, mmap=mmap), layers)
    assert_is(load_activations(path, pool="max", mmap=mmap), {"a": CUBE.max(axis=1)})
    assert_is(load_activations(path, pool="last", mmap=mmap), {"a": CUBE[:, -1]})
    (mean,) = load_activations(path, pool="mean", mmap=mmap).layers
    assert_allclose(dense(mean), CUBE.mean(axis=1), rtol=1e-6)
    with pytest.raises(ValueError, match="axis must be one of the 3 axes"):
        load_activations(path, axis=3)
    other = tmp_path / f"b.{form}"
    CUBES[form](other, CUBE.transpose(1, 0, 2))
    assert_is(load_activations(other, axis=0, mmap=mmap), layers)


def test_layers_and_tokens(tmp_path):
    four = np.stack([CUBE, 2 * CUBE], axis=1)
    np.save(tmp_path / "a.npy", four)
    with pytest.raises(ValueError, match=r"4 dimension.* may hold layers and tokens"):
        load_activations(tmp_path / "a.npy")
    stack = load_activations(tmp_path / "a.npy", axis=1, pool="max")
    high = CUBE.max(axis=1)
    assert_is(stack, {"layer_0": high, "layer_1": 2 * high})
    with pytest.raises(ValueError, match=r"no matrices .* with axis=1\."):
        load_activations(tmp_path / "a.npy", axis=1)


@pytest.mark.parametrize("form", ["npz", "safetensors", "hdf5", "zarr"])
def test_prompts_of_tokens(tmp_path, form):
    """A matrix a prompt, with a row a token."""
    path = tmp_path / f"a.{form}"
    content = {"q0": EARLY[:2], "q1": EARLY[:3]}
    if form == "npz":
        np.savez(path, **content)
    elif form == "safetensors":
        triplets_safetensors(path, content)
    elif form == "hdf5":
        with h5py.File(path, "w") as file:
            for name, values in content.items():
                file[name] = values
    else:
        group = zarr.open_group(path, mode="w")
        for name, values in content.items():
            group.create_array(name, shape=values.shape, dtype="f4")[...] = values
    with pytest.raises(ValueError, match=r"different numbers of rows.* pool first"):
        load_activations(path)
    assert_is(load_activations(path, pool="last"), {"a": EARLY[[1, 2]]}, ["q0", "q1"])


def test_arguments_that_a_matrix_does_not_need(tmp_path):
    np.save(tmp_path / "a.npy", EARLY)
    for arguments in ({"axis": 1}, {"pool": "mean"}):
        with pytest.raises(
            ValueError, match=r"has 2 dimension\(s\), .* Leave them out"
        ):
            load_activations(tmp_path / "a.npy", **arguments)
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file["layer_0"], file["cube"] = EARLY, CUBE
    with pytest.raises(ValueError, match=r"holds layers, \['layer_0'\], beside arrays"):
        load_activations(tmp_path / "a.h5", axis=1)


def test_padding(tmp_path):
    padded = CUBE.copy()
    mask = np.ones((N, 3), dtype=int)
    padded[:3, 2] = mask[:3, 2] = 0
    np.savez(tmp_path / "a.npz", x=padded, attention_mask=mask)
    with np.errstate(all="raise"):
        (mean,) = load_activations(tmp_path / "a.npz", pool="mean").layers
        (last,) = load_activations(tmp_path / "a.npz", pool="last").layers
    assert_allclose(mean[:3], CUBE[:3, :2].mean(axis=1), rtol=1e-6)
    assert_array_equal(last[:3], CUBE[:3, 1])
    saved_torch(tmp_path / "b.pt", {"acts": padded, "attention_mask": mask})
    (torchs,) = load_activations(tmp_path / "b.pt", pool="mean").layers
    assert_array_equal(torchs, mean)
    for number, acts in enumerate(
        ({"layer_0": padded, "layer_1": padded}, (padded, padded))
    ):
        path = tmp_path / f"c{number}.pt"
        saved_torch(path, {"activations": acts, "attention_mask": mask})
        stack = load_activations(path, pool="mean", axis=[None, 0][number])
        assert_is(stack, {"layer_0": mean, "layer_1": mean})
    np.savez(tmp_path / "c.npz", x=padded)
    with pytest.warns(UserWarning, match="no attention_mask beside them"):
        load_activations(tmp_path / "c.npz", pool="mean")
    mask[0] = 0
    np.savez(tmp_path / "d.npz", x=padded, attention_mask=mask)
    with pytest.raises(ValueError, match=r"Row 0 in .* has no token to pool"):
        load_activations(tmp_path / "d.npz", pool="mean")
    np.savez(tmp_path / "e.npz", x=padded, attention_mask=mask[:, :2])
    with pytest.raises(ValueError, match=r"must have the shape \(6, 3\), rows x"):
        load_activations(tmp_path / "e.npz", pool="mean")


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"pool": "sum"}, ValueError, "pool must be one of 'mean', 'max', 'last'; got"),
        ({"axis": "1"}, TypeError, "axis must be the number of the axis of the layers"),
        ({"axis": True}, TypeError, "axis must be the number"),
    ],
)
def test_arguments_that_are_not(tmp_path, arguments, error, message):
    np.save(tmp_path / "a.npy", CUBE)
    with pytest.raises(error, match=message):
        load_activations(tmp_path / "a.npy", **arguments)


# --- tables ---------------------------------------------------------------------------


def table(**more):
    return pa.table(
        {"id": IDS, "text": TEXTS, "layer_10": LATE.tolist()}
        | {"layer_9": pa.array(EARLY.tolist(), pa.list_(pa.float32(), 4))}
        | more
    )


def write_feather(made, path):
    with pa.OSFile(str(path), "wb") as sink, pa.ipc.new_file(sink, made.schema) as file:
        file.write_table(made, max_chunksize=2)


def write_stream(made, path):
    with pa.OSFile(str(path), "wb") as s, pa.ipc.new_stream(s, made.schema) as file:
        file.write_table(made, max_chunksize=4)


TABLES = {
    "parquet": lambda made, path: parquet.write_table(made, path, row_group_size=2),
    "pandas": lambda made, path: made.to_pandas().to_parquet(path),
    "named index": lambda made, path: made.to_pandas().set_index("id").to_parquet(path),
    "index": lambda made, path: (
        made.to_pandas().set_index("id").rename_axis(None).to_parquet(path)
    ),
    "feather": write_feather,
    "stream": write_stream,
    "jsonl": lambda made, path: path.write_text(
        "".join(f"{json.dumps(row)}\n" for row in made.to_pylist())
    ),
}


@pytest.mark.parametrize("form", TABLES)
def test_tables(tmp_path, form):
    path = tmp_path / "a.table"
    TABLES[form](table(), path)
    layers = {"layer_9": EARLY, "layer_10": LATE}
    assert_is(load_activations(path), layers, IDS)
    assert load_texts(path) == dict(zip(IDS, TEXTS, strict=True))
    TABLES[form](table(score=list(range(N)), kind=["a"] * N), path)
    with pytest.warns(UserWarning, match="holds more than is read: 'score' .*'kind'"):
        assert_is(load_activations(path), layers, IDS)


@pytest.mark.parametrize("form", ["parquet", "feather", "jsonl"])
@pytest.mark.parametrize(
    ("columns", "message"),
    [
        ({"id": IDS, "text": TEXTS}, "must hold a column of lists of numbers for each"),
        ({"x": [[1.0, 2.0], [1.0]]}, "different (lengths|shapes)"),
        (
            {"x": [[1.0, 2.0], None]},
            r"'x' in .* has no vector in 1 rows, such as row 1",
        ),
        ({"x": [[1.0, 2.0], [1.0, None]]}, "not.* numbers|real numbers"),
        ({"x": [["a"], ["b"]]}, "must hold a column of lists of numbers|real numbers"),
    ],
)
def test_tables_that_do_not_fit(tmp_path, form, columns, message):
    TABLES[form](pa.table(columns), tmp_path / "a.table")
    with pytest.raises(ValueError, match=message) as found:
        load_activations(tmp_path / "a.table")
    assert "a.table" in str(found.value)


@pytest.mark.parametrize("form", ["parquet", "feather", "stream"])
@pytest.mark.parametrize("kept", [0.1, 0.5, 0.95])
def test_truncated_tables(tmp_path, form, kept):
    path = tmp_path / "a.table"
    TABLES[form](table(), path)
    content = path.read_bytes()
    path.write_bytes(content[: int(len(content) * kept)])
    with pytest.raises(ValueError, match=r"a\.table' (is|must)"):
        load_activations(path)


@pytest.mark.parametrize("start", [b"PAR1", b"ARROW1", b"\xff\xff\xff\xff"])
def test_tables_of_a_few_bytes(tmp_path, start):
    (tmp_path / "a.table").write_bytes(start)
    with pytest.raises(ValueError, match=r"a\.table' is broken or truncated"):
        load_activations(tmp_path / "a.table")


@pytest.mark.parametrize("form", ["parquet", "feather", "jsonl"])
def test_tables_without_rows(tmp_path, form):
    TABLES[form](table().slice(0, 0), tmp_path / "a.jsonl")
    with pytest.raises(ValueError, match=r"a\.jsonl' must hold"):
        load_activations(tmp_path / "a.jsonl")


def test_a_stream_that_was_cut_off_is_not_shorter(tmp_path):
    """Its batches are whole, but there were more."""
    path = tmp_path / "a.arrow"
    write_stream(table(), path)
    path.write_bytes(path.read_bytes()[:-8])
    with pytest.raises(ValueError, match="does not end as a stream of Arrow does"):
        load_activations(path)


def test_tables_of_nothing_but_zeros(tmp_path, monkeypatch):
    monkeypatch.setattr("skleiden.io._activations._arrow._ANY_CASE", 2**22)
    rows = pa.FixedSizeListArray.from_arrays(np.zeros(2**21, "i1"), 2**16)
    parquet.write_table(pa.table({"x": rows}), tmp_path / "a.parquet")
    with pytest.raises(ValueError, match=r"a\.parquet' .*over 500 times as many"):
        load_activations(tmp_path / "a.parquet")


def test_pyarrow_is_not_installed(tmp_path, monkeypatch):
    parquet.write_table(table(), tmp_path / "a.parquet")
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(ImportError, match="needs pyarrow: pip install"):
        load_activations(tmp_path / "a.parquet")


def test_lines_of_json_that_are_broken(tmp_path):
    path = tmp_path / "a.jsonl"
    path.write_text('{"id": "q0", "x": [1]}\n{"id": \n')
    with pytest.raises(ValueError, match=r"a\.jsonl' is not valid JSON: line 2: "):
        load_activations(path)


# --- triplets -------------------------------------------------------------------------

SPARSE = sp.coo_array(np.array([[0, 2, 0], [0, 0, 0], [1.5, 0, 3]], dtype="f4"))
ROW, LATENT = SPARSE.coords if hasattr(SPARSE, "coords") else (SPARSE.row, SPARSE.col)
TRIPLETS = {"row": ROW, "latent": LATENT, "value": SPARSE.data}


def named(row="row", latent="latent", value="value"):
    return dict(zip((row, latent, value), TRIPLETS.values(), strict=True))


def triplets_safetensors(path, columns):
    from safetensors.numpy import save_file

    save_file(columns, path)


TRIPLET_FILES = {
    "csv": lambda path, columns: pd.DataFrame(columns).to_csv(path, index=False),
    "tsv": lambda path, c: pd.DataFrame(c).to_csv(path, index=False, sep="\t"),
    "parquet": lambda path, columns: parquet.write_table(pa.table(columns), path),
    "npz": lambda path, columns: np.savez(path, **columns),
    "jsonl": lambda path, columns: pd.DataFrame(columns).to_json(
        path, orient="records", lines=True
    ),
    "json": saved_json,
    "pt": saved_torch,
    "safetensors": triplets_safetensors,
}


@pytest.mark.parametrize("form", TRIPLET_FILES)
@pytest.mark.parametrize(
    "names",
    [
        ("row", "latent", "value"),
        ("sample_idx", "feature_id", "activation"),
        ("Row", "Latent Index", "Value"),
    ],
)
def test_triplets(tmp_path, form, names):
    path = tmp_path / f"a.{form}"
    TRIPLET_FILES[form](path, named(*names))
    stack = load_activations(path)
    assert_is(stack, {"a": SPARSE.toarray()})
    assert stack.layers[0].format == "csr"
    grown = load_activations(path, ids=["a", "b", "c", "d"])
    assert_is(grown, {"a": np.vstack([SPARSE.toarray(), np.zeros(3)])}, list("abcd"))


def test_triplets_by_id_and_by_layer(tmp_path):
    rows = pd.DataFrame(
        {
            "prompt_id": ["b", "a", "b", "a"],
            "latent": [0, 1, 2, 0],
            "value": [1.0, 2, 3, 4],
            "layer": [10, 10, 9, 9],
        }
    )
    rows.to_csv(tmp_path / "a.csv", index=False)
    stack = load_activations(tmp_path / "a.csv")
    assert_is(stack, {"9": [[0, 0, 3], [4, 0, 0]], "10": [[1, 0], [0, 2]]}, ["b", "a"])


def test_triplets_that_do_not_fit(tmp_path):
    path = tmp_path / "a.csv"
    path.write_text("row,latent,value,token\n0,1,2.0,0\n0,1,3.0,1\n")
    with (
        pytest.warns(UserWarning, match="more than is read: 'token'"),
        pytest.raises(ValueError, match=r"a\.csv' have row 0 and latent 1 more than o"),
    ):
        load_activations(path)
    for line, message in {
        "0,1.5,2": "'latent' in .* must hold whole numbers",
        "0,1,x": "'value' in .* must hold numbers",
        "0,1,nan": "holds NaN or infinity",
        "-1,1,2": "row must be from 0",
        "0,-1,2": "col must be from 0|two numbers from 0",
        "0,99999999999,2": "claims 100000000000 columns, far beyond",
    }.items():
        path.write_text(f"row,latent,value\n0,0,1.0\n{line}\n")
        with pytest.raises(ValueError, match=message):
            load_activations(path)


def test_the_largest_latents_of_each_row(tmp_path):
    indices = np.array([[1, 3], [0, 9], [2, 0]])
    values = np.array([[2, 1], [5, 0], [0.5, 3]], dtype="f4")
    expected = np.zeros((3, 4), dtype="f4")
    expected[[0, 0, 1, 2, 2], [1, 3, 0, 2, 0]] = [2, 1, 5, 0.5, 3]
    np.savez(tmp_path / "a.npz", top_indices=indices, top_acts=values)
    assert_is(load_activations(tmp_path / "a.npz"), {"a": expected})
    saved_torch(tmp_path / "b.pt", {"indices": indices, "values": values})
    assert_is(load_activations(tmp_path / "b.pt"), {"b": expected})


# --- the rest -------------------------------------------------------------------------


def test_zarr_in_a_zip_is_refused_by_name(tmp_path):
    group = zarr.open_group(tmp_path / "a.zarr", mode="w")
    group.create_array("x", shape=EARLY.shape, dtype="f4")[...] = EARLY
    for prefix in ("", "a.zarr/"):
        with zipfile.ZipFile(tmp_path / "b.zarr.zip", "w") as archive:
            for file in (tmp_path / "a.zarr").rglob("*"):
                if file.is_file():
                    inside = file.relative_to(tmp_path / "a.zarr").as_posix()
                    archive.write(file, prefix + inside)
        with pytest.raises(
            ValueError, match=r"b\.zarr\.zip' is a Zarr folder in a zip"
        ):
            load_activations(tmp_path / "b.zarr.zip")


@pytest.mark.parametrize("form", ["npz", "safetensors", "pt", "hdf5"])
def test_arrays_of_other_ranks_are_told(tmp_path, form):
    path = tmp_path / f"a.{form}"
    content = {"x": EARLY, "y": LATE, "bias": EARLY[0], "tokens": CUBE}
    if form == "npz":
        np.savez(path, **content)
    elif form == "safetensors":
        triplets_safetensors(path, content)
    elif form == "hdf5":
        with h5py.File(path, "w") as file:
            for name, values in content.items():
                file[name] = values
    else:
        saved_torch(path, content)
    told = "'bias' .*'tokens'"
    if form == "hdf5":
        told = r"'bias' \(an array of shape \(4,\)\), 'tokens'"
    with pytest.warns(UserWarning, match=f"holds more than is read: {told}"):
        stack = load_activations(path)
    assert_is(stack, {"x": EARLY, "y": LATE})


def test_arrays_of_tokens_are_no_layers(tmp_path):
    np.savez(tmp_path / "a.npz", x=EARLY, input_ids=np.ones((N, 3), int))
    with pytest.warns(UserWarning, match="more than is read: 'input_ids'"):
        assert_is(load_activations(tmp_path / "a.npz"), {"a": EARLY})


# --- texts ----------------------------------------------------------------------------

WHY = {"q0": "Why?", "q1": "What, then; really?"}


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("a.csv", '\ufeffid;text\r\nq0;Why?\r\nq1;"What, then; really?"\r\n\r\n'),
        ("a.csv", 'q0;Why?\nq1;"What, then; really?"\n'),
        ("a.tsv", "id\ttext\r\nq0\tWhy?\r\nq1\tWhat, then; really?\r\n"),
        ("a.csv", "q0\tWhy?\nq1\tWhat, then; really?\n"),
        ("a.txt", "q0\tWhy?\nq1\tWhat, then; really?\n\n"),
        ("a.txt", 'id,text\nq0,Why?\nq1,"What, then; really?"\n'),
        ("a.csv", 'Prompt ID,Question\nq0,Why?\nq1,"What, then; really?"\n'),
        ("a.csv", 'uid,utterance\nq0,Why?\nq1,"What, then; really?"\n'),
        ("a.csv", 'id,text,\nq0,Why?,\nq1,"What, then; really?",\n'),
        ("a.jsonl", "".join(json.dumps({"id": i, "text": WHY[i]}) + "\n" for i in WHY)),
        (
            "a.json",
            "".join(
                json.dumps({"i": 1, "key": i, "prompt": WHY[i]}) + "\r\n" for i in WHY
            ),
        ),
        ("a.json", json.dumps([{"id": i, "text": WHY[i]} for i in WHY])),
        ("a.json", json.dumps({"ids": list(WHY), "texts": list(WHY.values())})),
        ("a.json", "\ufeff" + json.dumps(WHY)),
    ],
    ids=range(14),
)
def test_texts_by_id(tmp_path, name, content):
    (tmp_path / name).write_bytes(content.encode())
    assert load_texts(tmp_path / name) == WHY


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("a.json", json.dumps(list(WHY.values()))),
        ("a.json", json.dumps({"prompts": list(WHY.values())})),
        ("a.jsonl", "".join(f"{json.dumps(text)}\n" for text in WHY.values())),
        ("a.jsonl", "".join(json.dumps({"text": t}) + "\n" for t in WHY.values())),
        ("a.txt", "Why?\r\nWhat, then; really?\r\n\r\n"),
        ("a.csv", 'text\nWhy?\n"What, then; really?"\n'),
        ("a.pt", None),
    ],
    ids=range(7),
)
def test_texts_in_the_order_of_rows(tmp_path, name, content):
    path = tmp_path / name
    if content is None:
        saved_torch(path, list(WHY.values()))
    else:
        path.write_bytes(content.encode())
    assert load_texts(path) == list(WHY.values())


def test_columns_that_are_no_ids(tmp_path):
    (tmp_path / "a.csv").write_text("label,text\nx,Why?\nx,What?\n")
    with pytest.warns(UserWarning, match="names no column of ids among .*order of the"):
        assert load_texts(tmp_path / "a.csv") == ["Why?", "What?"]


@pytest.mark.parametrize(
    "content",
    ["code,utterance\nq0,Why?\nq1,Who?\n", "who,says\nann,Oh no.\nbob,I see\n"],
)
def test_a_first_line_that_looks_like_names_is_said(tmp_path, content):
    (tmp_path / "a.csv").write_text(content)
    with pytest.warns(UserWarning, match="looks like names of columns, but is taken"):
        assert len(load_texts(tmp_path / "a.csv")) == 3


def test_missing_texts_are_empty(tmp_path, torch):
    (tmp_path / "a.json").write_text('{"q0": null, "q1": NaN, "q2": "nan"}')
    assert load_texts(tmp_path / "a.json") == {"q0": "", "q1": "", "q2": "nan"}
    torch.save({"q0": None, "q1": float("nan"), "q2": "a"}, tmp_path / "a.pt")
    assert load_texts(tmp_path / "a.pt") == {"q0": "", "q1": "", "q2": "a"}
    pd.DataFrame({"id": ["q0", "q1"], "text": ["a", None]}).to_parquet(tmp_path / "a.p")
    assert load_texts(tmp_path / "a.p") == {"q0": "a", "q1": ""}
    (tmp_path / "a.csv").write_text("id,text\nq0,\nq1,b\n")
    assert load_texts(tmp_path / "a.csv") == {"q0": "", "q1": "b"}


def test_half_of_a_pair_is_replaced(tmp_path):
    (tmp_path / "a.json").write_text('["a \\ud800 b"]')
    texts = load_texts(tmp_path / "a.json")
    assert texts == ["a \N{REPLACEMENT CHARACTER} b"]
    save_labels(tmp_path / "a.csv", Communities([0], ids=["a"], texts=texts))


@pytest.mark.parametrize("suffix", ["csv", "parquet"])
def test_labels_have_texts_and_whether_rows_were_attached(tmp_path, suffix):
    path = tmp_path / f"labels.{suffix}"
    known = {"confidence": [1.0, 0.5], "attached": [False, True]}
    texts = ['=1+1, "a"\nb', ""]
    save_labels(path, Communities([0, -1], ids=["a", "b"], texts=texts, **known))
    if suffix == "csv":
        read = pd.read_csv(path, dtype={"text": str}, keep_default_na=False)
        read["text"] = read["text"].str.removeprefix("'")
    else:
        read = pd.read_parquet(path)
    assert list(read) == ["id", "community", "confidence", "attached", "text"]
    assert read["text"].tolist() == texts
    assert read["attached"].tolist() == [False, True]
