"""LayerStack, align_layers and the forms of layered input."""

import copy
import operator
import pickle
import sys
import tempfile
from types import MappingProxyType

import joblib
import numpy as np
import pandas as pd
import pytest
import scipy.sparse as sp
from numpy.testing import assert_array_equal
from sklearn.model_selection import KFold, train_test_split
from sklearn.pipeline import make_pipeline
from sklearn.utils import _safe_indexing, shuffle

from skleiden import (
    LayerStack,
    MultiLayerTfidfSketcher,
    MutualKNNLeiden,
    align_layers,
)
from skleiden._blocks.checks import refuse_layer_sequence
from skleiden._blocks.layout import layer_layout
from skleiden._input import as_layer_stack

# Small integers, which float16 and uint8 hold as well.
A = np.random.default_rng(0).integers(0, 4, size=(6, 4)).astype(np.float64)
B = np.random.default_rng(1).integers(0, 4, size=(6, 3)).astype(np.float32)
IDS = list("abcdef")

KEPT = {
    "C order": A,
    "F order": np.asfortranarray(A),
    "column view": np.hstack([A, A])[:, 2:6],
    "float16": A.astype(np.float16),
    "uint8": A.astype(np.uint8),
    "bool": A > 1,
    "CSR matrix": sp.csr_matrix(A),
    "CSR array": sp.csr_array(A),
}


def dense(block):
    return block.toarray() if sp.issparse(block) else np.asarray(block)


def assert_same(stack, other):
    assert (stack.names, stack.shape) == (other.names, other.shape)
    assert_array_equal(stack.ids, other.ids)
    for block, twin in zip(stack.layers, other.layers, strict=True):
        assert block.dtype == twin.dtype
        assert sp.issparse(block) == sp.issparse(twin)
        assert_array_equal(dense(block), dense(twin))


@pytest.fixture
def mapped(tmp_path):
    np.save(tmp_path / "A.npy", A)
    return np.load(tmp_path / "A.npy", mmap_mode="r")


@pytest.fixture
def stack(mapped):
    """One layer of each storage: memory map, CSR array, CSR matrix, dense."""
    layers = {"map": mapped, "csr": sp.csr_array(B), "old": sp.csr_matrix(A), "mlp": B}
    return LayerStack(layers, ids=IDS)


@pytest.mark.parametrize("block", KEPT.values(), ids=KEPT)
def test_block_is_kept(block):
    assert LayerStack([block]).layers[0] is block


def test_memory_map_is_kept(mapped):
    stack = LayerStack([mapped])
    assert stack.layers[0] is mapped
    assert not mapped.flags.writeable
    part = stack[1:4].layers[0]
    assert isinstance(part, np.memmap)
    assert np.shares_memory(part, mapped)


@pytest.mark.parametrize("form", ["csc", "coo", "lil", "dok", "bsr"])
@pytest.mark.parametrize("kind", ["matrix", "array"])
def test_other_sparse_formats_become_csr(form, kind):
    block = getattr(sp, f"{form}_{kind}")(A)
    (kept,) = LayerStack([block]).layers
    assert kept.format == "csr"
    assert isinstance(kept, sp.sparray) == (kind == "array")
    assert_array_equal(kept.toarray(), A)


@pytest.mark.parametrize("block", [pd.DataFrame(A), A.tolist()], ids=type)
def test_other_blocks_become_arrays(block):
    (kept,) = LayerStack([block]).layers
    assert type(kept) is np.ndarray
    assert_array_equal(kept, A)


def test_attributes(stack):
    assert stack.names == ("map", "csr", "old", "mlp")
    assert stack.widths == (4, 3, 4, 3)
    assert stack.shape == (6, 14)
    assert stack.ndim == 2
    assert len(stack) == 6
    assert_array_equal(stack.ids, IDS)
    assert repr(stack) == "LayerStack(6 rows; map: 4, csr: 3, old: 4, mlp: 3)"


@pytest.mark.parametrize(
    ("dtypes", "promoted"),
    [
        (["uint8", "bool"], "uint8"),
        (["float16", "float32"], "float32"),
        (["float32", "float64"], "float64"),
    ],
)
def test_dtype_is_what_the_layers_promote_to(dtypes, promoted):
    assert LayerStack([A.astype(dtype) for dtype in dtypes]).dtype == promoted


def test_names():
    assert LayerStack([A, B]).names == ("layer_0", "layer_1")
    assert LayerStack([A, B], names=["x", 2]).names == ("x", "2")
    assert LayerStack({7: A, "out": B}).names == ("7", "out")
    assert LayerStack(MappingProxyType({"out": A})).names == ("out",)


@pytest.mark.parametrize(
    ("ids", "kind"),
    [
        (IDS, "U"),
        (tuple(range(6)), "i"),
        (pd.Index(IDS), "U"),
        (np.arange(6, dtype=np.uint16), "u"),
        ([1, "1", 2.5, (1, 2), None, "x"], "O"),
        ([(1, 2), (3, 4), (5, 6), (7, 8), (9, 0), (0, 9)], "O"),
    ],
)
def test_ids_keep_their_kind(ids, kind):
    for given in (ids, iter(ids)):
        found = LayerStack([A], ids=given).ids
        assert found.shape == (6,)
        assert found.dtype.kind == kind
        assert found.tolist() == list(ids)


@pytest.mark.parametrize(
    "ids", [[1, 2**63 + 1], [np.int64(1), np.uint64(2)], [-1, 2**63 + 1]], ids=str
)
def test_ids_of_integers_stay_integers(ids):
    found = LayerStack([A[:2]], ids=ids).ids.tolist()
    assert found == ids
    assert not any(isinstance(i, float) for i in found)


@pytest.mark.parametrize(
    "rows",
    [
        slice(1, 4),
        slice(None, None, -2),
        slice(9, 12),
        [4, 0, 0, 2],
        [-1, -6],
        np.array([5, 1], dtype=np.uint8),
        [True, False, True, True, False, False],
        np.zeros(6, dtype=bool),
        pd.Series([3, 1]),
        [],
    ],
    ids=repr,
)
@pytest.mark.parametrize("with_ellipsis", [False, True])
def test_rows_are_selected(stack, rows, with_ellipsis):
    part = stack[rows, ...] if with_ellipsis else stack[rows]
    # NumPy takes an empty list for floats.
    rows = rows if isinstance(rows, slice) or len(rows) else slice(0)
    assert isinstance(part, LayerStack)
    assert (part.names, part.widths) == (stack.names, stack.widths)
    assert_array_equal(part.ids, np.array(IDS)[rows])
    for block, whole in zip(part.layers, stack.layers, strict=True):
        assert (block.dtype, sp.issparse(block)) == (whole.dtype, sp.issparse(whole))
        assert_array_equal(dense(block), dense(whole)[rows])


@pytest.mark.parametrize(
    "rows", [slice(None), ..., (slice(None), ...), (..., slice(None))], ids=repr
)
def test_selecting_everything_returns_self(stack, rows):
    assert stack[rows] is stack


@pytest.mark.parametrize("rows", [np.arange(4), [0, 1, 2, 3], np.ones(4, bool)])
def test_all_rows_in_order_are_no_copy(rows):
    stack = LayerStack([np.eye(4)], ids=list("abcd"))
    assert stack[rows] is stack


def test_other_orders_and_masks_are_not_taken_for_all_rows():
    stack = LayerStack([np.eye(2)], ids=["a", "b"])
    assert stack[[1, 0]].ids.tolist() == ["b", "a"]
    assert stack[[0, 0]].ids.tolist() == ["a", "a"]
    # NumPy finds this mask equal to the numbers 0 and 1.
    assert stack[[False, True]].ids.tolist() == ["b"]


def test_rows_without_ids():
    assert LayerStack([A])[[0, 2]].ids is None


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        (
            0,
            r"index of 0 dimensions .* For the single row i use stack\[i : i \+ 1\]",
        ),
        (np.int64(-1), "index of 0 dimensions"),
        (None, "index of 0 dimensions"),
        ((2, ...), "index of 0 dimensions"),
        ([[0, 1]], "1-D integer array or a boolean mask; got an index of 2 dimensions"),
        ((slice(None), 0), "indexed by rows only; got an index on columns too"),
        (([0], [1]), "indexed by rows only"),
        ((0, 1, 2), "indexed by rows only"),
    ],
    ids=repr,
)
def test_other_indices_are_refused(stack, rows, message):
    with pytest.raises(IndexError, match=message):
        stack[rows]


@pytest.mark.parametrize("block", [A, sp.csr_array(A)], ids=["dense", "sparse"])
@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ([0, 6], "out of (bounds|range)"),
        ([-7], "out of (bounds|range)"),
        ([True, False], "bool"),
        ([0.5, 1.0], "integer"),
        (["a"], "integer"),
    ],
    ids=repr,
)
def test_wrong_rows_are_refused(block, rows, message):
    with pytest.raises(IndexError, match=message):
        LayerStack([block])[rows]


def test_it_is_no_iterable_frame_or_estimator(stack):
    with pytest.raises(TypeError, match="not iterable"):
        iter(stack)
    for name in ("fit", "iloc", "__array__"):
        assert not hasattr(stack, name)


@pytest.mark.parametrize(
    "twin_of",
    [lambda stack: pickle.loads(pickle.dumps(stack)), copy.deepcopy],
    ids=["pickle", "deepcopy"],
)
def test_copies_are_equal_and_independent(stack, twin_of):
    twin = twin_of(stack)
    assert_same(twin, stack)
    for block, original in zip(twin.layers, stack.layers, strict=True):
        assert not np.shares_memory(
            getattr(block, "data", block), getattr(original, "data", original)
        )


def test_resampled_stack_is_pickled():
    """Repeated ids are refused in a new stack but legal in a resample."""
    resample = LayerStack([A], ids=IDS)[[0, 0, 1]]
    assert_same(pickle.loads(pickle.dumps(resample)), resample)


def test_hash_ignores_what_scipy_caches(stack):
    before = joblib.hash(stack)
    for block in stack.layers[1:3]:
        assert block.has_canonical_format
    assert joblib.hash(stack) == before
    assert joblib.hash(copy.deepcopy(stack)) == before
    assert joblib.hash(stack[::-1]) != before


def test_scikit_learn_splits_rows(stack):
    rows = np.arange(6)
    shuffled, order = shuffle(stack, rows, random_state=0)
    assert_same(shuffled, stack[order])
    train, test, train_rows, test_rows = train_test_split(stack, rows, random_state=0)
    assert_same(train, stack[train_rows])
    assert_same(test, stack[test_rows])
    folds = [_safe_indexing(stack, test) for _, test in KFold(3).split(stack)]
    assert [fold.ids.tolist() for fold in folds] == [IDS[:2], IDS[2:4], IDS[4:]]


@pytest.mark.slow
def test_loky_workers_get_it_memory_mapped(stack):
    def look(part):
        arrays = [getattr(block, "indices", block) for block in part.layers]
        return part, [array.flags.writeable for array in arrays]

    # joblib maps arrays above max_nbytes into its workers, for reading only.
    parallel = joblib.Parallel(n_jobs=2, max_nbytes=1)
    for part, writeable in parallel(joblib.delayed(look)(stack) for _ in range(2)):
        assert_same(part, stack)
        assert not any(writeable)
    tail = parallel([joblib.delayed(operator.getitem)(stack, [5])])
    assert_same(tail[0], stack[5:])


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"layers": A}, TypeError, "single ndarray. Write LayerStack"),
        ({"layers": sp.dok_matrix(A)}, TypeError, "single dok_matrix"),
        ({"layers": sp.dok_array(A)}, TypeError, "single dok_array"),
        ({"layers": pd.DataFrame(A)}, TypeError, "single DataFrame"),
        ({"layers": LayerStack([A])}, TypeError, "single LayerStack"),
        ({"layers": []}, ValueError, "at least one layer; got none"),
        ({"layers": {}}, ValueError, "at least one layer; got none"),
        ({"layers": {"x": A}, "names": ["x"]}, ValueError, "leave out names="),
        ({"layers": [A, B], "names": ["x"]}, ValueError, "1 names for 2 layers"),
        (
            {"layers": [A, B], "names": ["x", "x"]},
            ValueError,
            r"must differ; got \['x'\] more than once",
        ),
        ({"layers": {1: A, "1": B}}, ValueError, r"got \['1'\] more than once"),
        ({"layers": {"x": A[0]}}, TypeError, r"'x' must be a 2-D .* 1 dimension"),
        ({"layers": [A.astype("M8[D]")]}, TypeError, "got dtype datetime64"),
        ({"layers": [[1.0, 2.0]]}, TypeError, "'layer_0' must be a 2-D"),
        ({"layers": [A, A[None]]}, TypeError, r"'layer_1' must be a 2-D .* got 3 dim"),
        ({"layers": [A * 1j]}, TypeError, "real numbers; got dtype complex128"),
        ({"layers": [A.astype(object)]}, TypeError, "real numbers; got dtype object"),
        ({"layers": [A.astype(str)]}, TypeError, "real numbers; got dtype <U"),
        (
            {"layers": {"x": A, "y": B[:4]}},
            ValueError,
            r"same rows; got \{'x': 6, 'y': 4\} rows. Use skleiden.align_layers",
        ),
        ({"layers": [A], "ids": IDS[:3]}, ValueError, r"shape \(3,\) for 6 rows"),
        ({"layers": [A], "ids": A}, ValueError, r"shape \(6, 4\) for 6 rows"),
        ({"layers": [A], "ids": list("abcdea")}, ValueError, "got 'a' more than once"),
    ],
)
def test_constructor_errors(arguments, error, message):
    with pytest.raises(error, match=message):
        LayerStack(**arguments)


@pytest.mark.parametrize("shape", [(3,), (3, 2, 2)])
def test_sparse_layers_of_other_dimensions(shape):
    try:
        block = sp.coo_array(np.ones(shape))
    except (TypeError, ValueError):
        block = np.ones(shape)
    if block.ndim == 2:
        pytest.skip("older SciPy: all sparse arrays are 2-D")
    with pytest.raises(TypeError, match=rf"2-D .* got {len(shape)} dimension\(s\)"):
        LayerStack([block])


# --- arrays of three dimensions -------------------------------------------------------

CUBE = np.random.default_rng(2).normal(size=(6, 3, 4))
BOTH = r"If an axis is tokens, pool .*; if it is layers, .*from_array\(X, axis=1\)"


def zarr_array(values):
    zarr = pytest.importorskip("zarr")
    array = zarr.create_array({}, shape=values.shape, dtype=values.dtype)
    array[:] = values
    return array


def hdf5_dataset(values):
    h5py = pytest.importorskip("h5py")
    file = h5py.File("cube", "w", driver="core", backing_store=False)
    return file.create_dataset("cube", data=values)


def mapped_array(values):
    with tempfile.TemporaryFile() as file:
        array = np.memmap(file, values.dtype, "w+", shape=values.shape)
    array[:] = values
    return array


def dask_array(values):
    return pytest.importorskip("dask.array").from_array(values, chunks=(4, -1, -1))


def torch_tensor(values, **options):
    return pytest.importorskip("torch").tensor(values, **options)


def half_tensor(values):
    return torch_tensor(values, dtype=torch_tensor(0).bfloat16().dtype)


CUBES = {
    "array": np.asarray,
    "memory map": mapped_array,
    "Dask": dask_array,
    "tensor": torch_tensor,
    "tensor of bfloat16": half_tensor,
    "Zarr": zarr_array,
    "HDF5": hdf5_dataset,
}


@pytest.mark.parametrize("make", CUBES.values(), ids=CUBES)
def test_arrays_of_three_dimensions_have_two_meanings(make):
    X = make(CUBE)
    with pytest.raises(TypeError, match=f"single {type(X).__name__} of 3 dim.*{BOTH}"):
        LayerStack(X)
    for layers in ([X, X], (X,), {"mlp": X}):
        with pytest.raises(TypeError, match=f"2-D matrix .* got 3 dimension.*{BOTH}"):
            LayerStack(layers)
    for estimator in (MultiLayerTfidfSketcher(), MutualKNNLeiden()):
        with pytest.raises(TypeError, match=f"array of 3 dimensions, shape.*{BOTH}"):
            estimator.fit(X)


def test_four_dimensions():
    with pytest.raises(TypeError, match=f"single ndarray of 4 dimensions. {BOTH}"):
        LayerStack(CUBE[None])
    with pytest.raises(TypeError, match=f"got 3 dimension.*{BOTH}"):
        LayerStack(list(CUBE[None]))


@pytest.mark.parametrize("make", list(CUBES.values())[:5], ids=list(CUBES)[:5])
@pytest.mark.parametrize("axis", [0, 1, np.int64(2), -2])
def test_from_array(make, axis):
    X = make(CUBE)
    stack = LayerStack.from_array(X, axis=axis)
    layers = np.moveaxis(np.asarray(half_tensor(CUBE).float()), axis, 0)
    exact = np.moveaxis(CUBE, axis, 0)
    if make is not half_tensor:
        layers = exact
    assert stack.names == tuple(f"layer_{i}" for i in range(CUBE.shape[axis]))
    for layer, expected in zip(stack.layers, layers, strict=True):
        found = layer.float() if make is half_tensor else layer
        assert_array_equal(np.asarray(found), expected)


def test_from_array_makes_views_with_names_and_ids():
    stack = LayerStack.from_array(CUBE, axis=1, names=["a", 2, "c"], ids=IDS)
    assert (stack.names, stack.shape) == (("a", "2", "c"), (6, 12))
    assert stack.ids.tolist() == IDS
    assert all(np.shares_memory(layer, CUBE) for layer in stack.layers)
    assert LayerStack.from_array(CUBE.tolist(), axis=0).shape == (3, 24)


@pytest.mark.parametrize(
    ("X", "options", "error", "message"),
    [
        (
            CUBE,
            {"axis": 3},
            ValueError,
            r"number of .* 0, 1 or 2; got 3, for shape \(6",
        ),
        (CUBE, {"axis": -4}, ValueError, "got -4"),
        (CUBE, {"axis": True}, ValueError, "got True"),
        (CUBE, {"axis": None}, ValueError, "got None"),
        (CUBE, {"axis": 1.0}, ValueError, "got 1.0"),
        (A, {"axis": 1}, TypeError, r"of 3 dimensions.* got 2. Write LayerStack\(\[X"),
        (CUBE[None], {"axis": 1}, TypeError, "rows, layers and neurons; got 4"),
        (5, {"axis": 1}, TypeError, "got 0"),
        (LayerStack([A]), {"axis": 1}, TypeError, "got 2"),
        (pd.DataFrame(A), {"axis": 1}, TypeError, "got 2"),
        (
            sp.csr_array(A),
            {"axis": 1},
            TypeError,
            "got a csr_array. Store one matrix for",
        ),
        (CUBE, {"axis": 1, "names": ["x"]}, ValueError, "1 names for 3 layers"),
        (CUBE, {"axis": 1, "ids": "abc"}, TypeError, "ids must be a sequence"),
        (CUBE, {"axis": 0, "ids": IDS}, ValueError, r"shape \(6,\) for 3 rows"),
        (CUBE[:, :0], {"axis": 1}, ValueError, "at least one layer"),
        (np.ma.masked_greater(CUBE, 0), {"axis": 1}, ValueError, "masked array"),
        (CUBE * 1j, {"axis": 1}, TypeError, "real numbers; got dtype complex"),
    ],
)
def test_from_array_errors(X, options, error, message):
    with pytest.raises(error, match=message):
        LayerStack.from_array(X, **options)


@pytest.mark.parametrize("make", [zarr_array, hdf5_dataset])
def test_from_array_has_no_views_of_files(make):
    with pytest.raises(TypeError, match=r"each layer is a view; got .*pass X\[:\]"):
        LayerStack.from_array(make(CUBE), axis=1)
    assert LayerStack.from_array(make(CUBE)[:], axis=1).widths == (4, 4, 4)


# --- data frames ----------------------------------------------------------------------


def frame(values=A, columns="xyzw", index=None):
    return pd.DataFrame(values, columns=list(columns), index=index)


def frames(index=None):
    """Two layers of the same rows."""
    return {"a": frame(index=index), "b": frame(B, "uvw", index)}


def test_columns_and_index_are_kept():
    stack = LayerStack({**frames(IDS), "c": A})
    assert [None if names is None else list(names) for names in stack.columns] == [
        list("xyzw"),
        list("uvw"),
        None,
    ]
    assert stack.ids.tolist() == IDS
    for twin in (stack[::-1][::-1], pickle.loads(pickle.dumps(stack))):
        assert_same(twin, stack)
        for names, expected in zip(twin.columns, stack.columns, strict=True):
            assert_array_equal(names, expected)
    assert joblib.hash(copy.deepcopy(stack)) == joblib.hash(stack)


@pytest.mark.parametrize(
    ("index", "ids"),
    [
        (None, None),
        (range(6), None),
        (range(10, 16), None),
        (pd.Index([3, 1, 4, 0, 5, 9]), [3, 1, 4, 0, 5, 9]),
        (
            pd.MultiIndex.from_product([["p", "q"], [1, 2, 3]]),
            [(group, i) for group in "pq" for i in (1, 2, 3)],
        ),
        (pd.CategoricalIndex(IDS), IDS),
    ],
    ids=repr,
)
def test_ids_of_an_index(index, ids):
    found = LayerStack(frames(index)).ids
    assert found is None if ids is None else found.tolist() == ids
    assert LayerStack(frames(index), ids=IDS).ids.tolist() == IDS


def test_columns_that_are_no_names():
    assert LayerStack([pd.DataFrame(A)]).columns == (None,)
    assert LayerStack([A, sp.csr_array(B)]).columns == (None, None)
    with pytest.raises(TypeError, match="only supported if all input features have"):
        LayerStack([frame(columns=["x", 1, 2, 3])])


@pytest.mark.parametrize(
    ("others", "message"),
    [
        (IDS[::-1], "'a', 6 rows, 'a', 'b', 'c', .*'b', 6 rows, 'f', 'e', 'd', .*loc"),
        (None, r"in layer 'b', 6 rows, 0, 1, 2, .*reset_index\(drop=True\)"),
        ([*IDS[:5], "x"], "same index"),
    ],
)
def test_frames_of_other_rows_are_refused(others, message):
    with pytest.raises(ValueError, match=message):
        LayerStack({"a": frame(index=IDS), "b": frame(index=others)})
    with pytest.raises(ValueError, match="same index"):
        LayerStack({"a": frame(index=IDS), "b": frame(index=others)}, ids=range(6))


@pytest.mark.parametrize(
    ("index", "message"),
    [
        (list("abcdea"), "'a' more than once"),
        ([*"abcde", np.nan], "Replace missing ids"),
        ([True, False] * 3, "must not be booleans|more than once|dtype bool"),
    ],
)
def test_an_index_that_names_no_rows(index, message):
    with pytest.raises(
        (ValueError, TypeError),
        match=rf"The index of data frames gives the ids .*({message}).*reset_index",
    ):
        LayerStack({"a": frame(index=index), "b": A})
    assert LayerStack({"a": frame(index=index)}, ids=IDS).ids.tolist() == IDS


def fitted(X):
    return MultiLayerTfidfSketcher(4, random_state=0).fit(X)


def test_other_columns_are_refused():
    sketcher = fitted(frames())
    assert sketcher.feature_names_in_.tolist() == [
        *("a__x", "a__y", "a__z", "a__w"),
        *("b__u", "b__v", "b__w"),
    ]
    given = frames()
    assert_array_equal(sketcher.transform(given), sketcher.transform(frames(IDS)))
    with pytest.raises(ValueError, match="must be in the same order as they were in"):
        sketcher.transform({"a": given["a"], "b": given["b"][["w", "u", "v"]]})
    renamed = given["b"].rename(columns={"v": "q"})
    with pytest.raises(ValueError, match=r"unseen at fit time:\n- b__q\n.*\n- b__v"):
        sketcher.transform({"a": given["a"], "b": renamed})
    with pytest.raises(ValueError, match="must be in the same order"):
        sketcher.partial_fit({"a": given["a"][list("yxzw")], "b": given["b"]})
    with pytest.warns(UserWarning, match="X does not have valid feature names"):
        sketcher.transform({"a": A, "b": B})
    with pytest.warns(UserWarning, match="X has feature names, but"):
        fitted({"a": A, "b": B}).transform(given)
    assert not hasattr(sketcher.fit({"a": A, "b": B}), "feature_names_in_")


def test_the_columns_of_a_stack_are_refused_by_a_pipeline():
    pipeline = make_pipeline(
        MultiLayerTfidfSketcher(4, random_state=0),
        MutualKNNLeiden(2, min_cluster_size=2, random_state=0),
    ).fit(frames(IDS))
    stack = LayerStack(frames(IDS))
    assert_array_equal(pipeline.predict(stack[[4, 1]]), pipeline.predict(stack)[[4, 1]])
    with pytest.raises(ValueError, match="must be in the same order"):
        pipeline.predict({"a": frame()[list("wzyx")], "b": frame(B, "uvw")})


def test_columns_beside_layers_without():
    sketcher = fitted({"a": frame(), "b": sp.csr_array(B)})
    assert sketcher.feature_names_in_.tolist()[3:] == [
        "a__w",
        "b__x0",
        "b__x1",
        "b__x2",
    ]
    sketcher.transform({"a": frame(), "b": B})
    with pytest.raises(ValueError, match="must be in the same order"):
        sketcher.transform({"a": frame(columns="wzyx"), "b": B})
    with pytest.raises(ValueError, match="yet now missing:\n- a__w"):
        sketcher.transform({"a": A, "b": frame(B, "uvw")})


def test_frames_without_pandas(monkeypatch):
    stack = LayerStack(frames())
    monkeypatch.setitem(sys.modules, "pandas", None)
    with pytest.raises(ImportError, match=r"pip install pandas. Or .* frame.to_numpy"):
        fitted(stack)


@pytest.mark.parametrize("library", ["polars", "pyarrow"])
def test_other_frames(library):
    made = pytest.importorskip(library)
    given = made.DataFrame if library == "polars" else made.Table.from_pydict
    columns = {name: A[:, i] for i, name in enumerate("xyzw")}
    stack = LayerStack({"a": given(columns)})
    assert_array_equal(stack["a"], A)
    assert stack.ids is None


# --- layers by name -------------------------------------------------------------------


def test_a_layer_by_its_name(stack):
    assert stack["mlp"] is stack.layers[3]
    assert stack[1:3]["csr"].shape == (2, 3)
    assert LayerStack({7: A})["7"] is A
    with pytest.raises(KeyError, match=r"no layer 'x'; the layers are .*'map', 'csr'"):
        stack["x"]


# --- align_layers ---------------------------------------------------------------------


def tensor_with_gradients(values):
    import torch

    # NumPy has neither this type nor gradients.
    return torch.tensor(values, dtype=torch.bfloat16, requires_grad=True)


def activations(ids, width, seed):
    rng = np.random.default_rng(seed)
    return {i: rng.normal(size=width) * (rng.random(width) < 0.5) for i in ids}


MAPS = {
    "late": activations(["q3", "q1", "q10", "q2"], 5, seed=0),
    "early": activations(["q2", "q0", "q3", "q10"], 3, seed=1),
}


@pytest.mark.parametrize(
    ("sparse", "dtype"),
    [
        (True, np.float32),
        (True, np.float64),
        (False, np.float16),
        (False, np.float32),
        (False, np.float64),
    ],
)
@pytest.mark.parametrize("zero_tol", [0.0, 0.5])
@pytest.mark.parametrize(
    ("options", "ids"),
    [
        ({}, ["q10", "q2", "q3"]),
        ({"order": "reference"}, ["q3", "q10", "q2"]),
        ({"order": "reference", "reference": "early"}, ["q2", "q3", "q10"]),
    ],
)
def test_align_equals_plain_numpy(options, ids, zero_tol, dtype, sparse):
    stack, _ = align_layers(
        MAPS, zero_tol=zero_tol, dtype=dtype, sparse=sparse, **options
    )
    assert stack.names == ("late", "early")
    assert stack.ids.tolist() == ids
    for name, block in zip(stack.names, stack.layers, strict=True):
        expected = np.array([MAPS[name][i] for i in ids], dtype=dtype)
        expected[np.abs(expected) <= zero_tol] = 0
        assert (sp.issparse(block), block.dtype) == (sparse, dtype)
        assert_array_equal(dense(block), expected)
        if sparse:
            assert block.format == "csr"
            assert block.nnz == np.count_nonzero(expected)
            assert block.has_canonical_format


def test_align_reports():
    _, report = align_layers(MAPS)
    assert report == {
        "n_common": 3,
        "layers": {
            "late": {"n_prompts": 4, "n_removed": 1, "width": 5},
            "early": {"n_prompts": 4, "n_removed": 1, "width": 3},
        },
    }


@pytest.mark.parametrize("form", [list, tuple, np.float16, tensor_with_gradients])
def test_align_takes_vectors_of_any_form(form):
    values = [0.0, 1.5, -2.0]
    vector = np.array(values, dtype=form) if form is np.float16 else form(values)
    stack, _ = align_layers({"mlp": {"q": vector}}, sparse=False)
    assert_array_equal(stack.layers[0], [values])


def test_align_does_not_modify_its_input():
    before = copy.deepcopy(MAPS)
    align_layers(MAPS, zero_tol=0.5, dtype=np.float64, sparse=False)
    for layer, vectors in before.items():
        assert list(MAPS[layer]) == list(vectors)
        for i, vector in vectors.items():
            assert_array_equal(MAPS[layer][i], vector)


@pytest.mark.parametrize(
    ("ids", "kind"),
    [
        (["b", "a"], "U"),
        ([10, 9], "i"),
        ([np.int32(10), np.int32(9)], "i"),
        ([("b", 1), ("a", 2)], "O"),
    ],
    ids=repr,
)
def test_align_keeps_the_kind_of_ids(ids, kind):
    stack, _ = align_layers({3: {i: [1.0] for i in ids}})
    assert stack.names == ("3",)
    assert stack.ids.dtype.kind == kind
    assert stack.ids.tolist() == sorted(ids)


def test_align_keeps_mixed_ids_in_reference_order():
    maps = {"mlp": {"q": [1.0], 7: [2.0], None: [0.0]}}
    stack, _ = align_layers(maps, order="reference")
    assert stack.ids.tolist() == ["q", 7, None]
    with pytest.raises(TypeError, match=r"cannot be sorted .* Use order='ref"):
        align_layers(maps)


def vectors(q1, q2=(1.0, 2.0)):
    return {"ok": {"q1": [1.0], "q2": [2.0]}, "mlp": {"q1": q1, "q2": q2}}


@pytest.mark.parametrize(
    ("layer_maps", "options", "error", "message"),
    [
        ([A], {}, TypeError, r"mapping \{layer: \{prompt id: vector\}\}; got list"),
        ({"mlp": A}, {}, TypeError, "align_layers takes a mapping .* use LayerStack"),
        ({}, {}, ValueError, "at least one layer; got none"),
        (
            {"x": {1: [1.0]}, "y": {"1": [1.0], "2": [1.0]}},
            {},
            ValueError,
            r"No prompt id is in all layers; got layers of \{'x': 1, 'y': 2\} prompts",
        ),
        ({"x": {}}, {}, ValueError, "No prompt id is in all layers"),
        (
            vectors([1.0, 2.0, 3.0]),
            {},
            ValueError,
            "layer 'mlp' differ in width: prompt 'q1' has 3, prompt 'q2' has 2",
        ),
        (
            vectors([[1.0, 2.0]]),
            {},
            ValueError,
            r"1-D vector; prompt 'q1' of layer 'mlp' has shape \(1, 2\). Pool it",
        ),
        (vectors(3.0), {}, ValueError, r"'q1' of layer 'mlp' has shape \(\)"),
        (
            vectors([1.0, 2.0], [np.nan, 1.0]),
            {},
            ValueError,
            "prompt 'q2' of layer 'mlp' holds NaN or infinity",
        ),
        (
            vectors([np.inf, 1.0]),
            {},
            ValueError,
            "'q1' of layer 'mlp' holds NaN",
        ),
        (
            vectors(np.array([1e300, 1.0])),
            {},
            ValueError,
            r"'q1' of layer 'mlp' holds NaN or infinity \(as float32\)",
        ),
        (
            vectors({"pre": [1.0], "post": [1.0]}),
            {},
            ValueError,
            "'q1' .* is not an array of real numbers; .* select one of them",
        ),
        (vectors([1.0, "x"]), {}, ValueError, "'q1' of layer 'mlp' is not an array"),
        (vectors([[1.0], [1.0, 2.0]]), {}, ValueError, "'q1' of layer 'mlp' is not"),
        (
            MAPS,
            {"order": "random"},
            ValueError,
            "order must be .*; got 'random'",
        ),
        (
            MAPS,
            {"order": "reference", "reference": "x"},
            ValueError,
            r"one of the layers \['late', 'early'\]; got 'x'",
        ),
        (
            MAPS,
            {"order": "reference", "reference": [1]},
            ValueError,
            r"one of the layers \['late', 'early'\]; got \[1\]",
        ),
        (MAPS, {"zero_tol": -1.0}, ValueError, "a number of at least 0; got -1.0"),
        (MAPS, {"zero_tol": "a"}, ValueError, "zero_tol must be a number .*; got 'a'"),
        (
            MAPS,
            {"zero_tol": np.nan},
            ValueError,
            "must be a number of at least 0; got nan",
        ),
        (MAPS, {"dtype": int}, TypeError, "floating dtype, .*; got <class 'int'>"),
        (MAPS, {"dtype": "junk"}, TypeError, "floating dtype, .*; got 'junk'"),
        (MAPS, {"dtype": None}, TypeError, "such as numpy.float32; got None"),
        # SciPy would make such a matrix, and then fail at its every use.
        (MAPS, {"dtype": np.float16}, (TypeError, ValueError), "float16"),
    ],
)
def test_align_errors(layer_maps, options, error, message):
    with pytest.raises(error, match=message):
        align_layers(layer_maps, **options)


# --- forms of input -------------------------------------------------------------------


def objects(*items):
    array = np.empty(len(items), dtype=object)
    array[:] = items
    return array


@pytest.mark.parametrize(
    ("X", "found"),
    [
        ([A, B], "a list of 2 matrices"),
        ((A, B), "a tuple of 2 matrices"),
        ([sp.csr_array(A)], "a list of 1 matrices"),
        ([pd.DataFrame(A), pd.DataFrame(B)], "a list of 2 matrices"),
        ([LayerStack([A])], "a list of 1 matrices"),
        ([A.tolist(), A.tolist()], "a list of 2 matrices"),
        (objects(A, B), "a ndarray of 2 matrices"),
        (np.stack([A, A]), r"an array of 3 dimensions, shape \(2, 6, 4\)\."),
        (np.ones((2, 6, 4, 5)), r"an array of 4 dimensions, shape \(2, 6, 4, 5\)\."),
    ],
)
@pytest.mark.parametrize("refuse", [refuse_layer_sequence, as_layer_stack])
def test_sequences_of_matrices_are_refused(X, found, refuse):
    with pytest.raises(TypeError, match=f"{found},? .*skleiden.LayerStack"):
        refuse(X)


@pytest.mark.parametrize(
    "X", [A, A.tolist(), list(A), A.astype(object), sp.dok_matrix(A), [], {"x": A}, 3]
)
def test_other_input_is_not_refused_as_a_sequence(X):
    assert refuse_layer_sequence(X) is None


@pytest.mark.parametrize(
    ("layers", "names", "widths"),
    [
        (None, ("layer_0",), (7,)),
        ([4, 3], ("layer_0", "layer_1"), (4, 3)),
        (np.array([4, 3]), ("layer_0", "layer_1"), (4, 3)),
        ({"x": 3, 9: np.uint8(4)}, ("x", "9"), (3, 4)),
    ],
)
def test_layer_layout(layers, names, widths):
    assert layer_layout(layers, 7) == (names, widths)
    assert all(type(width) is int for width in layer_layout(layers, 7)[1])


@pytest.mark.parametrize(
    ("layers", "error", "message"),
    [
        ([4, 2], ValueError, r"got \(4, 2\) \(sum 6\) for 7 columns"),
        ([7, 0], ValueError, "widths of at least 1"),
        ([8, -1], ValueError, "widths of at least 1"),
        ([], ValueError, r"got \(\) \(sum 0\)"),
        ([3.5, 3.5], TypeError, "as an integer; got 3.5"),
        ([6, True], TypeError, "as an integer; got True"),
        ({"x": "7"}, TypeError, "as an integer; got '7'"),
        ({1: 3, "1": 4}, ValueError, r"must differ; got \['1'\]"),
    ],
    ids=repr,
)
def test_layer_layout_errors(layers, error, message):
    with pytest.raises(error, match=message):
        layer_layout(layers, 7)


WIDE = np.hstack([A, B])
MATRICES = {
    "ndarray": WIDE,
    "list": WIDE.tolist(),
    "list of rows": list(WIDE),
    "object array of numbers": WIDE.astype(object),
    "DataFrame": pd.DataFrame(WIDE),
    "DOK matrix": sp.dok_matrix(WIDE),
    "DOK array": sp.dok_array(WIDE),
    "CSC": sp.csc_array(WIDE),
    "CSR": sp.csr_matrix(WIDE),
}


@pytest.mark.parametrize("X", MATRICES.values(), ids=MATRICES)
def test_one_matrix_is_split_by_widths(X):
    stack = as_layer_stack(X, {"x": 4, "y": 3})
    assert (stack.names, stack.widths, stack.ids) == (("x", "y"), (4, 3), None)
    assert_array_equal(dense(stack.layers[0]), A)
    assert_array_equal(dense(stack.layers[1]), B)
    assert as_layer_stack(X).names == ("layer_0",)
    assert as_layer_stack(X).widths == (7,)


def test_dense_matrix_is_split_without_copy(mapped):
    for X in (WIDE, np.asfortranarray(WIDE), WIDE.astype(np.float16), mapped):
        for block in as_layer_stack(X, [2, X.shape[1] - 2]).layers:
            assert np.shares_memory(block, X)
            assert block.dtype == X.dtype


def test_stacks_and_mappings(stack):
    assert as_layer_stack(stack) is stack
    found = as_layer_stack({"x": A, "y": sp.dok_matrix(B)})
    assert (found.names, found.widths) == (("x", "y"), (4, 3))
    assert found.layers[0] is A


@pytest.mark.parametrize(
    ("X", "layers", "error", "message"),
    [
        (WIDE, [4, 4], ValueError, r"\(sum 8\) for 7 columns"),
        (A[0], None, ValueError, "Expected 2D array, got 1D array"),
        (A[:0], None, ValueError, "0 sample"),
        ([["a", "b"]], None, ValueError, "dtype='numeric'|could not convert string"),
        ({"x": A, "y": B[1:]}, None, ValueError, "must have the same rows"),
    ],
)
def test_as_layer_stack_errors(X, layers, error, message):
    with pytest.raises(error, match=message):
        as_layer_stack(X, layers)


@pytest.mark.parametrize(
    ("make", "error", "message"),
    [
        (lambda: LayerStack(5), TypeError, "one matrix per layer.*; got int"),
        (lambda: LayerStack("ab"), TypeError, "one matrix per layer.*; got str"),
        (lambda: LayerStack([[[1], [1, 2]]]), TypeError, "'layer_0' cannot be made a"),
        (lambda: LayerStack([A], names="a"), TypeError, "names must be a sequence"),
        (lambda: LayerStack([A], ids="abcdef"), TypeError, "ids must be a sequence"),
        (lambda: LayerStack([A], ids=5), TypeError, "ids must be a sequence"),
        (lambda: LayerStack([A[:1]], ids=[[1]]), TypeError, "ids must be hashable"),
        (lambda: layer_layout(3, 3), TypeError, "layers must be a sequence of widths"),
        (
            lambda: as_layer_stack(LayerStack([A]), layers=[1, 2]),
            ValueError,
            r"add up to the columns of X; got \(1, 2\)",
        ),
        (
            lambda: as_layer_stack(
                {"a": A, "b": A}, {"b": A.shape[1], "a": A.shape[1]}
            ),
            ValueError,
            r"layers=\{'b': .* contradicts the layers of X, \{'a'",
        ),
        (
            lambda: align_layers({"a": {1: np.array([1j])}}),
            ValueError,
            "prompt 1 of layer 'a' is not an array of real numbers; got ndarray of",
        ),
        (
            lambda: align_layers({"a": {1: ["1.5"]}}),
            ValueError,
            "not an array of real numbers; got list of dtype <U3",
        ),
        (lambda: align_layers({"a": {1: []}}), ValueError, r"has shape \(0,\)"),
    ],
)
def test_what_is_no_input(make, error, message):
    with pytest.raises(error, match=message):
        make()


def test_a_layout_that_agrees_is_accepted():
    stack = LayerStack({"a": A, "b": A})
    widths = [A.shape[1]] * 2
    assert as_layer_stack(stack, widths) is stack
    assert as_layer_stack(stack, dict(zip("ab", widths, strict=True))) is stack


@pytest.mark.filterwarnings("ignore:the matrix subclass:PendingDeprecationWarning")
def test_matrix_subclasses_become_arrays():
    (block,) = LayerStack([np.matrix([[1.0, 2.0]])]).layers
    assert type(block) is np.ndarray


def test_sparse_matrices_of_another_order_of_bytes():
    """SciPy makes them, and cannot slice them."""
    X = sp.random(20, 6, density=0.5, format="csr", random_state=0)
    other = sp.csr_matrix((X.data.astype(">f8"), X.indices, X.indptr), shape=X.shape)
    stack = LayerStack([other])
    assert (stack[:10].layers[0] != X[:10]).nnz == 0
    assert len(as_layer_stack(other, [2, 4]).layers) == 2
