"""Layers that stay in Zarr arrays and HDF5 datasets."""

import builtins
import json
import pickle
import sys
from contextlib import contextmanager

import h5py
import numcodecs
import numpy as np
import pytest
import scipy.sparse as sp
import zarr
from numpy.testing import assert_array_equal
from sklearn.pipeline import make_pipeline

import skleiden._blocks.sources as sources
from skleiden import LayerStack, MultiLayerTfidfSketcher, MutualKNNLeiden
from skleiden._blocks.sources import StoredSource, rows_at_once, source_of
from skleiden._input import as_layer_stack
from skleiden.inspection import describe_communities, explain, prototypes, top_features
from skleiden.io import load_activations
from skleiden.model_selection import permute_columns

rng = np.random.default_rng(0)
GROUP = rng.integers(0, 3, 90)
EARLY = rng.random((90, 30), dtype=np.float32)
EARLY *= np.where(np.arange(30) // 10 == GROUP[:, None], EARLY > 0.2, EARLY > 0.9)
LATE = EARLY[:, ::-1].astype(np.float16)
IDS = [f"q{i}" for i in range(90)]


def as_zarr(path, layers, chunks=(16, 30), ids=None, **options):
    group = zarr.open_group(path, mode="w", **options)
    for name, matrix in layers.items():
        group.create_array(name, shape=matrix.shape, dtype=matrix.dtype, chunks=chunks)[
            :
        ] = matrix
    if ids is not None:
        values = np.array(ids)
        group.create_array("ids", shape=values.shape, dtype=values.dtype)[:] = values
    return zarr.open_group(path, mode="r")


def as_hdf5(path, layers, chunks=(16, 30), ids=None):
    with h5py.File(path, "w") as file:
        for name, matrix in layers.items():
            file.create_dataset(name, data=matrix, chunks=chunks)
        if ids is not None:
            file["ids"] = ids
    return h5py.File(path, "r")


LAYERS = {"l9": EARLY, "l10": LATE}
IN_MEMORY = LayerStack(LAYERS)


@pytest.fixture(params=["zarr", "zarr 2", "hdf5", "hdf5 without chunks"])
def stored(request, tmp_path):
    if request.param == "zarr":
        source = as_zarr(tmp_path / "a.zarr", LAYERS)
    elif request.param == "zarr 2":
        source = as_zarr(tmp_path / "a.zarr", LAYERS, zarr_format=2)
    else:
        chunks = (16, 30) if request.param == "hdf5" else None
        source = as_hdf5(tmp_path / "a.h5", LAYERS, chunks)
    return LayerStack({name: source[name] for name in LAYERS})


# --- LayerStack -----------------------------------------------------------------------


def test_layers_are_kept_as_they_are(tmp_path):
    array = as_zarr(tmp_path / "a.zarr", LAYERS)["l9"]
    dataset = as_hdf5(tmp_path / "a.h5", LAYERS)["l10"]
    stack = LayerStack([array, dataset])
    assert stack.layers[0] is array
    assert stack.layers[1] is dataset
    assert (stack.shape, stack.dtype) == ((90, 60), np.float32)


def test_layers_that_are_no_matrix_of_numbers(tmp_path):
    source = as_zarr(tmp_path / "a.zarr", LAYERS, ids=np.arange(90))
    with pytest.raises(TypeError, match=r"must be a 2-D matrix .* got 1 dimension"):
        LayerStack([source["ids"]])
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file["dates"] = np.array([[b"a"]])
        with pytest.raises(TypeError, match="must hold real numbers; got dtype"):
            LayerStack([file["dates"]])


@pytest.mark.parametrize(
    "rows",
    [
        slice(20, 50),
        slice(50, 20),
        slice(None, None, 7),
        slice(80, 10, -3),
        [],
        [3],
        [89, 0, 33, 0, -1, 34, 35, -90],
        np.arange(90)[::-1],
        GROUP == 1,
    ],
)
def test_rows_are_those_of_numpy(stored, rows):
    found = stored[rows]
    for layer, expected in zip(found.layers, IN_MEMORY[rows].layers, strict=True):
        assert type(layer) is np.ndarray
        assert layer.dtype == expected.dtype
        assert_array_equal(layer, expected)


def test_rows_out_of_bounds(stored):
    for row in (90, -91):
        with pytest.raises(IndexError, match=f"Row {row} is out of bounds for 90 rows"):
            stored[[0, row]]


def test_zarr_is_pickled_and_hdf5_is_not(tmp_path):
    stack = LayerStack([as_zarr(tmp_path / "a.zarr", LAYERS)["l9"]])
    again = pickle.loads(pickle.dumps(stack))
    assert isinstance(again.layers[0], zarr.Array)
    assert_array_equal(again.layers[0][:], EARLY)
    stack = LayerStack({"mlp": as_hdf5(tmp_path / "a.h5", LAYERS)["l9"]})
    message = (
        r"'mlp' is a dataset of the open HDF5 file '.*a\.h5', which cannot be pick"
    )
    with pytest.raises(TypeError, match=message):
        pickle.dumps(stack)
    assert_array_equal(pickle.loads(pickle.dumps(stack[::2])).layers[0], EARLY[::2])


class Counting:
    """A Zarr array, as which it passes, that notes what is read of it."""

    def __init__(self, array, monkeypatch):
        self.array, self.read = array, []
        kind_of = sources._kind_of
        monkeypatch.setattr(
            sources, "_kind_of", lambda m: StoredSource if m is self else kind_of(m)
        )

    def __getattr__(self, name):
        return getattr(self.array, name)

    def __getitem__(self, rows):
        self.read.append((rows.start, rows.stop))
        return self.array[rows]


def test_each_chunk_is_read_once(tmp_path, monkeypatch):
    array = Counting(as_zarr(tmp_path / "a.zarr", LAYERS)["l9"], monkeypatch)
    rows = [40, 0, 33, 5, 40, 47, 89]
    assert_array_equal(source_of(array).select(np.array(rows)), EARLY[rows])
    assert array.read == [(0, 90)]  # small, so at once
    array.read.clear()
    monkeypatch.setattr(sources, "_BLOCK_SIZE", 20 * 30)
    MultiLayerTfidfSketcher(8, random_state=0).fit(LayerStack([array]))
    assert array.read == [(i, min(i + 16, 90)) for i in range(0, 90, 16)]


def test_blocks_of_whole_chunks(tmp_path, monkeypatch):
    def of_chunks(*rows):
        return [
            as_zarr(tmp_path / f"{i}.zarr", {"x": EARLY}, (r, 30))["x"]
            for i, r in enumerate(rows)
        ]

    def at_once(*matrices_and_wanted):
        *matrices, wanted = matrices_and_wanted
        return rows_at_once(list(map(source_of, matrices)), wanted)

    assert at_once(EARLY, 50) == 50
    assert at_once(EARLY, 0) == 1
    assert at_once(*of_chunks(16), 50) == 48
    assert at_once(*of_chunks(16), 5) == 16
    assert at_once(EARLY, *of_chunks(4, 6), 50) == 48
    # Bounded memory goes before reading each chunk once.
    monkeypatch.setattr(sources, "_MOST_AT_ONCE", 20 * 30)
    assert at_once(*of_chunks(7, 8), 5) == 8
    assert at_once(*of_chunks(64), 5) == 5
    assert at_once(*of_chunks(64), 64) == 20


# --- what reads layers ----------------------------------------------------------------


@pytest.mark.parametrize("weighting", ["idf", "zscore"])
def test_embedding_equals_that_of_arrays(stored, weighting):
    sketcher = MultiLayerTfidfSketcher(8, weighting=weighting, random_state=0)
    expected = sketcher.fit_transform(IN_MEMORY)
    sketcher.set_params(batch_size=16, n_jobs=2)
    np.testing.assert_allclose(sketcher.fit_transform(stored), expected, atol=1e-6)
    np.testing.assert_allclose(
        sketcher.transform(stored[::-1]), expected[::-1], atol=1e-6
    )


def test_one_array_is_split_by_widths(tmp_path):
    wide = np.hstack([EARLY, LATE])
    array = as_zarr(tmp_path / "a.zarr", {"wide": wide}, (16, 60))["wide"]
    sketcher = MultiLayerTfidfSketcher(8, layers=[30, 30], random_state=0)
    assert_array_equal(sketcher.fit_transform(array), sketcher.fit_transform(wide))
    assert_array_equal(sketcher.transform(array), sketcher.transform(wide))
    with pytest.raises(TypeError, match=r"single Array with 2 layers side by"):
        as_layer_stack(array, [30, 30])
    assert as_layer_stack(array).layers == (array,)
    empty = as_zarr(tmp_path / "b.zarr", {"x": wide[:0]}, (16, 60))["x"]
    with pytest.raises(ValueError, match=r"Zarr array or .* with shape \(0, 60\)"):
        sketcher.fit(empty)


def test_values_that_are_not_finite_or_too_large(tmp_path):
    bad = EARLY.astype(np.float64)
    bad[40, 3] = np.nan
    sketcher = MultiLayerTfidfSketcher(8, weighting="zscore")
    with pytest.raises(ValueError, match="NaN in layer 'layer_0', first in row "):
        sketcher.fit(LayerStack([as_zarr(tmp_path / "a.zarr", {"x": bad})["x"]]))
    bad[40, 3], bad[41, 3] = 1.7e308, -1.7e308
    for source in (
        as_zarr(tmp_path / "b.zarr", {"x": bad}),
        as_hdf5(tmp_path / "b.h5", {"x": bad}),
    ):
        with pytest.raises(ValueError, match=r"deviation of column 3 .* 1\.7e\+308"):
            sketcher.fit(LayerStack([source["x"]]))


def test_inspection_equals_that_of_arrays(stored):
    pipeline = make_pipeline(
        MultiLayerTfidfSketcher(16, random_state=0), MutualKNNLeiden(8, random_state=0)
    )
    labels = pipeline.fit(stored)[-1].labels_
    for name, means in prototypes(stored, labels).items():
        np.testing.assert_allclose(means, prototypes(IN_MEMORY, labels)[name])
    assert top_features(stored, labels) == top_features(IN_MEMORY, labels)
    assert explain(pipeline, stored, 0) == explain(pipeline, IN_MEMORY, 0)
    found = describe_communities(pipeline, stored)
    expected = describe_communities(pipeline, IN_MEMORY)
    assert found.top_features == expected.top_features
    shuffled = permute_columns(stored, random_state=0)
    for layer, other in zip(
        shuffled.layers, permute_columns(IN_MEMORY, random_state=0).layers, strict=True
    ):
        assert_array_equal(layer, other)


# --- load_activations -----------------------------------------------------------------


@pytest.mark.parametrize("mmap", [True, False])
@pytest.mark.parametrize("form", ["zarr", "zarr 2", "hdf5"])
def test_layers_in_a_group(tmp_path, form, mmap):
    if form == "hdf5":
        path = tmp_path / "all.h5"
        as_hdf5(path, LAYERS, ids=IDS).close()
    else:
        path = tmp_path / "all.zarr"
        as_zarr(path, LAYERS, ids=range(90), zarr_format=2 if form == "zarr 2" else 3)
    stack = load_activations(path, mmap=mmap)
    assert stack.names == ("l9", "l10")
    assert stack.ids.tolist() == (IDS if form == "hdf5" else list(range(90)))
    for layer, matrix in zip(stack.layers, LAYERS.values(), strict=True):
        kind = h5py.Dataset if form == "hdf5" else zarr.Array
        assert isinstance(layer, kind if mmap else np.ndarray)
        assert_array_equal(layer[:], matrix)
    one = load_activations(path, layers=["l10"], ids=IDS)
    assert one.names == ("l10",)
    assert one.ids.tolist() == IDS


def test_a_file_for_each_layer(tmp_path):
    kept = [i for i in range(90) if i != 5]
    for number, matrix in ((9, EARLY), (10, LATE[kept])):
        path = tmp_path / f"layer_{number}.zarr"
        zarr.create_array(
            path, shape=matrix.shape, dtype=matrix.dtype, chunks=(16, 30)
        )[:] = matrix
        ids = IDS if number == 9 else [IDS[i] for i in kept]
        (tmp_path / f"layer_{number}.ids.json").write_text(json.dumps(ids))
    with pytest.warns(UserWarning, match="1 prompts are not in every layer"):
        stack = load_activations(tmp_path / "layer_*.zarr")
    assert stack.names == ("layer_9", "layer_10")
    assert_array_equal(stack.layers[0], EARLY[kept])
    assert_array_equal(stack.layers[1][:], LATE[kept])
    assert stack.ids.tolist() == [IDS[i] for i in kept]


@pytest.mark.parametrize("size", [512, 2048])
def test_hdf5_after_a_block_of_something_else(tmp_path, size):
    """As MATLAB saves it."""
    path = tmp_path / "a.mat"
    with h5py.File(path, "w", userblock_size=size) as file:
        file["x"] = EARLY
    with path.open("r+b") as raw:
        raw.write(b"MATLAB 7.3 MAT-file")
    stack = load_activations(path)
    assert_array_equal(stack.layers[0][:], EARLY)


def test_datasets_in_subgroups(tmp_path):
    layers = {"mlp/l9": EARLY, "mlp/l10": LATE}
    as_hdf5(tmp_path / "a.h5", layers).close()
    with h5py.File(tmp_path / "a.h5", "a") as file:
        file["empty"] = h5py.Empty("f4")
        file["number"] = 3
        file["mean"] = np.ones(30)
    as_zarr(tmp_path / "a.zarr", layers)
    assert load_activations(tmp_path / "a.zarr").names == ("mlp/l9", "mlp/l10")
    with pytest.warns(UserWarning, match=r"is read: 'mean' \(an array of shape \(30,"):
        assert load_activations(tmp_path / "a.h5").names == ("mlp/l9", "mlp/l10")


def test_group_without_a_matrix(tmp_path):
    as_hdf5(tmp_path / "a.h5", {}, ids=IDS).close()
    as_zarr(tmp_path / "a.zarr", {}, ids=range(90))
    for name in ("a.h5", "a.zarr"):
        message = rf"{name}' must hold 2-D arrays, each a layer; got .*'ids': \(90,\)"
        with pytest.raises(ValueError, match=message):
            load_activations(tmp_path / name)


def test_values_in_files_that_are_not_finite(tmp_path):
    bad = EARLY.copy()
    bad[3, 3] = np.inf
    as_hdf5(tmp_path / "a.h5", {"x": bad}).close()
    assert load_activations(tmp_path / "a.h5").layers[0][3, 3] == np.inf
    with pytest.raises(ValueError, match="holds NaN or infinity"):
        load_activations(tmp_path / "a.h5", mmap=False)


# --- sparse matrices in groups --------------------------------------------------------

SPARSE = sp.csr_matrix(np.where(EARLY < 0.3, 0, EARLY))
OTHER_FORM = sp.csc_matrix(SPARSE)


def write_sparse(root, name, matrix, attributes, *, as_array=None, leave_out=()):
    """As AnnData does it, in a group of an open HDF5 file or Zarr folder."""
    group = root.create_group(name) if name else root
    for part in ("data", "indices", "indptr"):
        if part not in leave_out:
            write(group, part, getattr(matrix, part))
    if as_array is not None:
        write(group, as_array, np.array(matrix.shape))
    for key, value in attributes.items():
        group.attrs[key] = value


def write(group, name, values):
    if isinstance(group, h5py.Group):
        group[name] = values
    else:
        made = group.create_array(name, shape=values.shape, dtype=values.dtype)
        made[...] = values


@contextmanager
def new_store(path, form):
    if form == "hdf5":
        with h5py.File(path, "w") as file:
            yield file
    else:
        yield zarr.open_group(path, mode="w", zarr_format=2 if form == "zarr 2" else 3)


ANNDATA = {"encoding-version": "0.1.0", "shape": [90, 30]}
forms = pytest.mark.parametrize("form", ["hdf5", "zarr", "zarr 2"])


@forms
@pytest.mark.parametrize("mmap", [True, False])
def test_sparse_matrices_of_anndata(tmp_path, form, mmap):
    path = tmp_path / "a.h5ad"
    with new_store(path, form) as root:
        root.attrs["encoding-type"] = "anndata"
        of_rows = {"encoding-type": "csr_matrix"} | ANNDATA
        write_sparse(root, "X", SPARSE, of_rows)
        write_sparse(
            *(root.create_group("layers"), "raw", OTHER_FORM),
            {"encoding-type": "csc_matrix"} | ANNDATA,
        )
        write(root.create_group("obsm"), "X_umap", EARLY[:, :2])
        root["layers"].attrs["encoding-type"] = "dict"
        root.create_group("uns").attrs["encoding-type"] = "dict"
        for name in ("obs", "var"):
            columns = root.create_group(name)
            columns.attrs["encoding-type"] = "dataframe"
            write(columns, "score", np.arange(90.0))
            column = columns.create_group("kind")
            column.attrs["encoding-type"] = "categorical"
            write(column, "codes", np.zeros(90, dtype=np.int8))
    left_out = r"holds more than is read: 'obsm/X_umap' \(an array of shape \(90, 2\)\)"
    with pytest.warns(UserWarning, match=left_out):
        stack = load_activations(path, mmap=mmap)
    assert stack.names == ("X", "layers/raw")
    for layer in stack.layers:
        assert layer.format == "csr"
        assert_array_equal(layer.toarray(), SPARSE.toarray())
    with pytest.warns(UserWarning, match=left_out):
        assert load_activations(path, layers=["X"]).shape == (90, 30)


def test_sparse_matrix_of_several_names(tmp_path):
    with new_store(tmp_path / "a.h5", "hdf5") as root:
        write_sparse(root, "X", SPARSE, {"shape": [90, 30]})
        root["again"] = h5py.SoftLink("/X")
    with pytest.warns(UserWarning, match="1 further names .* 'again' for 'X'"):
        load_activations(tmp_path / "a.h5")


@forms
@pytest.mark.parametrize("matrix", [SPARSE, OTHER_FORM], ids=["csr", "csc"])
@pytest.mark.parametrize(
    ("name", "attributes", "as_array"),
    [
        ("X", {"h5sparse_shape": [90, 30]}, None),
        ("matrix", {}, "shape"),
        ("mlp/l9", {"shape": [90, 30]}, None),
        ("", {"shape": [90, 30]}, None),
    ],
    ids=["h5sparse", "10x", "subgroup", "the file itself"],
)
def test_other_sparse_matrices(tmp_path, form, matrix, name, attributes, as_array):
    path = tmp_path / "a.store"
    with new_store(path, form) as root:
        if "h5sparse_shape" in attributes:
            attributes = {**attributes, "h5sparse_format": matrix.format}
        write_sparse(root, name, matrix, attributes, as_array=as_array)
        if name:
            write(root, "ids", np.arange(90))
    stack = load_activations(path)
    assert stack.names == ("a",)
    assert_array_equal(stack.layers[0].toarray(), SPARSE.toarray())
    assert stack.ids is None or stack.ids.tolist() == list(range(90))


@pytest.mark.parametrize("form_told", [True, False])
def test_square_sparse_matrix(tmp_path, form_told):
    matrix = sp.csc_matrix(EARLY[:30])
    attributes = {"shape": [30, 30]} | ({"format": "csc"} if form_told else {})
    with new_store(tmp_path / "a.h5", "hdf5") as root:
        write_sparse(root, "x", matrix, attributes)
    if form_told:
        layer = load_activations(tmp_path / "a.h5").layers[0]
        assert_array_equal(layer.toarray(), EARLY[:30])
    else:
        message = r"group 'x' in '.*a\.h5' holds a square .* attribute 'format'"
        with pytest.raises(ValueError, match=message):
            load_activations(tmp_path / "a.h5")


def hdf5_and_zarr(cases):
    return pytest.mark.parametrize(
        ("form", *cases[0]),
        [(form, *case) for case in cases[1:] for form in ("hdf5", "zarr")],
    )


@hdf5_and_zarr(
    [
        ("entries", "change", "message"),
        ({}, {"indices": [30]}, "'X' in '.*unlikely' is not a valid .*from 0 to 29"),
        ({}, {"indptr": [7]}, "'X' in .*unlikely' .* start at 0 and never fall"),
        ({}, {"data": [np.nan]}, "unlikely' holds NaN"),
        ({"shape": [90, -3]}, {}, r"'X' in .*unlikely' .* shape .*got \(90, -3\)"),
        ({"shape": [90]}, {}, "'X' in .*unlikely' .* two whole numbers"),
        ({"shape": [90, 2.5]}, {}, "'X' in .*unlikely' .* two whole numbers"),
        ({"shape": [90, 2**62]}, {}, "'X' in .*unlikely' .* claims .* columns"),
        ({"shape": "ab"}, {}, "'X' in .*unlikely' .* two whole numbers"),
    ]
)
def test_sparse_matrices_that_lie(tmp_path, form, entries, change, message):
    matrix = SPARSE.copy()
    for part, values in change.items():
        getattr(matrix, part)[: len(values)] = values
    with new_store(tmp_path / "unlikely", form) as root:
        attributes = {"encoding-type": "csr_matrix"} | ANNDATA | entries
        write_sparse(root, "X", matrix, attributes)
    with pytest.raises(ValueError, match=message):
        load_activations(tmp_path / "unlikely")


@hdf5_and_zarr(
    [
        ("leave_out", "attributes", "message"),
        (("indices",), ANNDATA, "'X' in .*unlikely' .* it lacks indices"),
        (("data", "indptr"), ANNDATA, "'X' in .*unlikely' .*lacks data and indptr"),
        ((), {}, "'X' in .*unlikely' holds a sparse matrix without its shape"),
    ]
)
def test_sparse_matrices_that_are_not_whole(
    tmp_path, form, leave_out, attributes, message
):
    with new_store(tmp_path / "unlikely", form) as root:
        attributes = {"encoding-type": "csr_matrix"} | attributes
        write_sparse(root, "X", SPARSE, attributes, leave_out=leave_out)
    with pytest.raises(ValueError, match=message):
        load_activations(tmp_path / "unlikely")


@pytest.mark.parametrize("part", [np.ones((2, 2)), np.array([b"a", b"b"])])
def test_part_of_a_sparse_matrix_that_is_something_else(tmp_path, part):
    with new_store(tmp_path / "unlikely.h5", "hdf5") as root:
        write_sparse(root, "X", SPARSE, {"shape": [90, 30]}, leave_out=("data",))
        root["X/data"] = part
    message = r"Array 'X/data' in '.*unlikely\.h5' must hold real numbers in one dim"
    with pytest.raises(ValueError, match=message):
        load_activations(tmp_path / "unlikely.h5")


def test_claims_and_missing_chunks_of_sparse_matrices(tmp_path):
    for claimed in (10**12, SPARSE.nnz):
        with new_store(tmp_path / "unlikely.h5", "hdf5") as root:
            write_sparse(root, "X", SPARSE, {"shape": [90, 30]}, leave_out=("data",))
            data = root.create_dataset("X/data", (claimed,), "f4", chunks=(100,))
            data[:100] = 1
        if claimed > SPARSE.nnz:
            message = r"Array 'X/data' in '.*unlikely\.h5' claims 10+ rows"
            with pytest.raises(ValueError, match=message):
                load_activations(tmp_path / "unlikely.h5")
        else:
            with pytest.warns(UserWarning, match="'X/data' in .* lacks") as found:
                load_activations(tmp_path / "unlikely.h5")
            assert found[0].filename == __file__


def test_attributes_of_a_zarr_group_that_are_broken(tmp_path):
    for form, file in (("zarr", "zarr.json"), ("zarr 2", ".zattrs")):
        path = tmp_path / f"unlikely {form}"
        with new_store(path, form) as root:
            write(root, "l9", EARLY)
        content = json.loads((path / file).read_text()) if form == "zarr" else []
        if form == "zarr":
            content["attributes"] = []
        (path / file).write_text(json.dumps(content))
        with pytest.raises(ValueError, match=rf"unlikely {form}' is broken or incompl"):
            load_activations(path)


# --- what is left out -----------------------------------------------------------------


@forms
def test_what_is_left_out_is_said(tmp_path, form):
    path = tmp_path / "unlikely"
    with new_store(path, form) as root:
        write(root, "l9", EARLY)
        write(root, "mean", EARLY[0])
        write(root, "tokens/l9", np.zeros((90, 4, 30)))
        root.create_group("ragged").attrs["encoding-type"] = "awkward-array"
        write(root["ragged"], "node0", np.arange(5))
        write_sparse(root, "lost", SPARSE, {})
        known = root.create_group("known")
        known.attrs["encoding-type"] = "my own"
        write(known, "l10", LATE)
    with pytest.warns(UserWarning, match="unlikely' holds more than is read") as found:
        stack = load_activations(path)
    assert stack.names == ("known/l10", "l9")
    assert len(found) == 1
    assert found[0].filename == __file__
    message = str(found[0].message)
    for told in (
        r"'tokens/l9' (an array of shape (90, 4, 30))",
        "'mean' (an array of shape (30,))",
        "'ragged' (a group of the encoding 'awkward-array')",
        "'lost' (a sparse matrix without its shape)",
    ):
        assert told in message
    for other in ("known", "node0", "lost/"):
        assert other not in message


def test_many_things_that_are_left_out(tmp_path):
    with new_store(tmp_path / "a.h5", "hdf5") as root:
        root["x"] = EARLY
        for i in range(7):
            root[f"t{i}"] = np.zeros((2, 2, 2))
    with pytest.warns(UserWarning, match=r"'t4' \(an .*\), and 2 more\. Layers"):
        load_activations(tmp_path / "a.h5")


# --- pandas and PyTables --------------------------------------------------------------


def write_table(file, name="df"):
    """As DataFrame.to_hdf(format="table") does it, with an index of the table."""
    group = file.create_group(name)
    group.attrs["CLASS"] = np.bytes_("GROUP")
    group.attrs["TITLE"] = h5py.Empty("S1")
    rows = np.zeros(90, dtype=[("index", "<i8"), ("values_block_0", "<f8", (30,))])
    group.create_dataset("table", data=rows, chunks=(40,))
    group["table"].attrs["CLASS"] = np.bytes_("TABLE")
    indexes = group.create_group("_i_table")
    indexes.attrs["CLASS"] = np.bytes_("TINDEX")
    index = indexes.create_group("index")
    index.attrs["CLASS"] = np.bytes_("INDEX")
    for own, width in (("bounds", 127), ("sorted", 131072), ("ranges", 2)):
        index.create_dataset(
            own, (0, width), "S3", chunks=(1, width), maxshape=(None, width)
        )


def test_table_of_pandas(tmp_path):
    path = tmp_path / "unlikely.h5"
    with h5py.File(path, "w") as file:
        write_table(file)
    message = (
        r"unlikely\.h5' holds tables, .* no 2-D array: 'df/table' \(a table\)\. .*"
        r"to_hdf\(\.\.\., format='fixed'\), or by numpy\.save as \.npy"
    )
    with pytest.raises(ValueError, match=message):
        load_activations(path)
    with h5py.File(path, "a") as file:
        file["l9"] = EARLY
        file["_i_own"] = LATE  # PyTables tells its own by attributes
    with pytest.warns(
        UserWarning, match=r"more than is read: 'df/table' \(a table\)\."
    ):
        stack = load_activations(path)
    assert stack.names == ("_i_own", "l9")


def test_link_into_an_index_of_pytables(tmp_path):
    with h5py.File(tmp_path / "a.h5", "w") as file:
        write_table(file, "obs")
        file["l9"] = EARLY
        file["soft"] = h5py.SoftLink("/obs/_i_table/index/bounds")
    assert load_activations(tmp_path / "a.h5").layers[0].shape == EARLY.shape


def test_fixed_frame_of_pandas(tmp_path):
    path = tmp_path / "a.h5"
    with h5py.File(path, "w") as file:
        file["df/axis0"] = np.arange(30)
        file["df/axis1"] = np.arange(90)
        file["df/block0_items"] = np.arange(30)
        file["df/block0_values"] = EARLY
        file["df"].attrs["CLASS"] = np.bytes_("GROUP")
    assert_array_equal(load_activations(path).layers[0][:], EARLY)


# --- MATLAB ---------------------------------------------------------------------------


def write_matlab(file, name, values, kind=None):
    file[name] = values.T
    kind = kind or {"float32": "single", "float16": "single"}.get(
        values.dtype.name, "double"
    )
    file[name].attrs["MATLAB_class"] = np.bytes_(kind)


def matlab_file(path, make):
    with h5py.File(path, "w", userblock_size=512) as file:
        make(file)
    with path.open("r+b") as raw:
        raw.write(b"MATLAB 7.3 MAT-file")
    return path


def text_of_matlab(file, name, text):
    codes = np.array([[ord(letter) for letter in text]], dtype=np.uint16)
    write_matlab(file, name, codes, "char")


def cell_of_matlab(file, name):
    write_matlab(file, "#refs#/a", EARLY)
    file[name] = np.array([[file["#refs#/a"].ref]] * 2, dtype=h5py.ref_dtype)
    file[name].attrs["MATLAB_class"] = np.bytes_("cell")


@pytest.mark.parametrize("mmap", [True, False])
def test_matrices_of_matlab(tmp_path, mmap):
    def make(file):
        write_matlab(file, "l9", EARLY)
        write_matlab(file, "acts/l10", LATE)
        file["acts"].attrs["MATLAB_class"] = np.bytes_("struct")
        write_matlab(file, "mask", EARLY > 0.5, "logical")
        write_matlab(file, "seed", np.array([[7.0]]))
        write_matlab(file, "nothing", np.array([0, 0], dtype=np.uint64))
        file["nothing"].attrs["MATLAB_empty"] = 1
        text_of_matlab(file, "model", "gemma")
        text_of_matlab(file, "acts/hook", "a" * 90)
        write_matlab(file, "ids", np.arange(90.0)[:, None])
        of_columns = sp.csc_matrix(SPARSE.astype("f8"))
        group = file.create_group("sparse")
        group["data"], group["ir"] = of_columns.data, of_columns.indices.astype("u8")
        group["jc"] = of_columns.indptr.astype("u8")
        group.attrs["MATLAB_class"] = np.bytes_("double")
        group.attrs["MATLAB_sparse"] = np.uint64(90)
        file.create_group("zero")["jc"] = np.zeros(31, dtype="u8")
        file["zero"].attrs["MATLAB_sparse"] = np.uint64(90)

    path = matlab_file(tmp_path / "a.mat", make)
    stack = load_activations(path, mmap=mmap)
    assert stack.names == ("acts/l10", "l9", "mask", "sparse", "zero")
    for layer, matrix in zip(
        stack.layers, (LATE, EARLY, EARLY > 0.5, None, None), strict=True
    ):
        if matrix is not None:
            assert_array_equal(layer, matrix)
            assert layer.flags.c_contiguous
            assert layer.dtype == matrix.dtype
    assert_array_equal(stack.layers[3].toarray(), SPARSE.toarray())
    assert stack.layers[4].nnz == 0
    assert stack.ids.tolist() == list(range(90))


def test_cells_of_matlab_are_left_out(tmp_path):
    def make(file):
        write_matlab(file, "l9", EARLY)
        write_matlab(file, "tokens", np.zeros((90, 4, 30)))
        cell_of_matlab(file, "names")
        # Fields of an array of structs, which have no class of their own.
        file["structs/x"] = file["names"][:]
        file["structs"].attrs["MATLAB_class"] = np.bytes_("struct")

    path = matlab_file(tmp_path / "a.mat", make)
    with pytest.warns(UserWarning, match=r"a\.mat' holds more than is read") as found:
        stack = load_activations(path)
    assert stack.names == ("a",)
    assert_array_equal(stack.layers[0], EARLY)
    message = str(found[0].message)
    assert "'names' (of the MATLAB class 'cell')" in message
    assert "'structs/x' (of the MATLAB class 'struct')" in message
    assert "'tokens' (an array of shape (90, 4, 30))" in message
    assert "refs" not in message


@pytest.mark.parametrize(
    ("make", "kind"),
    [
        (
            lambda file: cell_of_matlab(file, "ids"),
            r"class 'cell' and the shape \(1, 2",
        ),
        (lambda file: text_of_matlab(file, "ids", "abc"), r"class 'char' .* \(1, 3\)"),
        (lambda file: write_matlab(file, "ids", EARLY), r"'single' .* \(90, 30\)"),
    ],
    ids=["cell", "char", "matrix"],
)
def test_ids_of_matlab_that_are_not_numbers(tmp_path, make, kind):
    def whole(file):
        write_matlab(file, "l9", EARLY)
        make(file)

    path = matlab_file(tmp_path / "unlikely.mat", whole)
    message = rf"'ids' in '.*unlikely\.mat' must be a vector of numbers; got .*{kind}"
    with pytest.raises(ValueError, match=message):
        load_activations(path)


def test_file_of_matlab_without_a_matrix(tmp_path):
    def make(file):
        cell_of_matlab(file, "cell")
        write_matlab(file, "seed", np.array([[7.0]]))

    path = matlab_file(tmp_path / "unlikely.mat", make)
    message = r"unlikely\.mat' must hold 2-D arrays.* 'cell' \(of the MATLAB class 'ce"
    with pytest.raises(ValueError, match=message):
        load_activations(path)


def test_values_of_matlab_are_checked_when_they_are_read(tmp_path):
    bad = EARLY.copy()
    bad[3, 3] = np.nan
    path = matlab_file(tmp_path / "a.mat", lambda file: write_matlab(file, "l9", bad))
    with pytest.raises(ValueError, match=r"a\.mat' holds NaN or infinity"):
        load_activations(path)


@pytest.mark.parametrize("kept", [0.02, 0.5, 0.97])
def test_truncated_hdf5(tmp_path, kept):
    path = tmp_path / "a.h5"
    as_hdf5(path, LAYERS).close()
    whole = path.read_bytes()
    path.write_bytes(whole[: int(len(whole) * kept)])
    with pytest.raises(ValueError, match=r"a\.h5' is broken or truncated"):
        load_activations(path)


def test_damaged_zarr(tmp_path):
    as_zarr(tmp_path / "a.zarr", LAYERS)
    (tmp_path / "a.zarr" / "zarr.json").write_text("{")
    with pytest.raises(ValueError, match=r"a\.zarr' is broken or incomplete"):
        load_activations(tmp_path / "a.zarr")
    as_zarr(tmp_path / "b.zarr", LAYERS)
    for chunk in (tmp_path / "b.zarr" / "l9" / "c").rglob("0"):
        if chunk.is_file():
            chunk.write_bytes(b"junk")
    with pytest.raises(ValueError, match=r"b\.zarr/l9' cannot be read: .* The file is"):
        load_activations(tmp_path / "b.zarr", mmap=False)


def test_folder_of_something_else(tmp_path):
    (tmp_path / "layers").mkdir()
    with pytest.raises(IsADirectoryError, match=r"is a folder\. Give a file in it"):
        load_activations(tmp_path / "layers")


@pytest.mark.parametrize(("name", "extra"), [("zarr", "zarr"), ("h5py", "hdf5")])
def test_reader_is_not_installed(tmp_path, monkeypatch, name, extra):
    as_zarr(tmp_path / "a.zarr", LAYERS)
    as_hdf5(tmp_path / "a.h5py", LAYERS).close()
    monkeypatch.setitem(sys.modules, name, None)
    message = rf'needs {name}: pip install "skleiden\[{extra}\]"'
    with pytest.raises(ImportError, match=message):
        load_activations(tmp_path / f"a.{name}")


class Attack:
    """What its unpickling would do: leave a file behind."""

    def __init__(self, target):
        self.target = target

    def __reduce__(self):
        return builtins.open, (str(self.target), "w")


@pytest.mark.parametrize(
    "codecs",
    [
        {"filters": [{"id": "pickle", "protocol": 5}]},
        {"compressor": {"id": "pickle", "protocol": 5}},
        {
            "filters": [
                {"id": "pickle", "protocol": 5},
                {"id": "delta", "dtype": "<f4", "astype": "<f4"},
            ]
        },
        {
            "dtype": "|O",
            "filters": [{"id": "vlen-utf8"}],
            "compressor": {"id": "pickle", "protocol": 5},
        },
    ],
)
@pytest.mark.parametrize("mmap", [True, False])
def test_code_in_a_chunk_is_never_run(tmp_path, monkeypatch, codecs, mmap):
    path, target = tmp_path / "a.zarr", tmp_path / "owned"
    path.mkdir()
    meta = {
        "zarr_format": 2,
        "shape": [1, 1],
        "chunks": [1, 1],
        "dtype": "<f4",
        "fill_value": 0,
        "order": "C",
        "filters": None,
        "compressor": None,
    }
    (path / ".zarray").write_text(json.dumps(meta | codecs))
    (path / "0.0").write_bytes(pickle.dumps(Attack(target)))
    # Newer versions of numcodecs refuse, too, unless told otherwise.
    monkeypatch.setattr(
        numcodecs.pickles, "ALLOW_UNSAFE_PICKLE_DECODE", True, raising=False
    )
    with pytest.raises(
        ValueError, match=r"a\.zarr' is stored by 'pickle', a codec that"
    ):
        load_activations(path, mmap=mmap)
    assert not target.exists()
