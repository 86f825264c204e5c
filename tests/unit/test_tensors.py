"""Tensors of torch as layers and as X: the numbers of `tensor.float().numpy()`."""

import copy
import pickle

import joblib
import numpy as np
import pytest
from numpy.testing import assert_array_equal
from sklearn.model_selection import KFold
from sklearn.pipeline import make_pipeline
from sklearn.utils import _safe_indexing

from skleiden import (
    FaissKNeighborsTransformer,
    LayerStack,
    MultiLayerTfidfSketcher,
    MutualKNNLeiden,
)
from skleiden._blocks import sources, tensors
from skleiden.inspection import describe_communities, explain, prototypes
from skleiden.model_selection import permute_columns, resolution_profile

torch = pytest.importorskip("torch")

# Multiples of 1/8, of which float8 holds some, on three directions with zeros between.
RNG = np.random.RandomState(0)
PLANTED = np.arange(120) % 3
X = RNG.randint(0, 8, (120, 24)) / 8 * (RNG.rand(120, 24) < 0.3)
X[np.arange(120)[:, None], 8 * PLANTED[:, None] + np.arange(8)] += 1
SHARED = ["float16", "float32", "float64", "int8", "int16", "int64", "uint8", "bool"]
CONVERTED = ["bfloat16", "float8_e4m3fn", "float8_e5m2"]


def tensor(dtype="bfloat16", values=X, **options):
    made = torch.tensor(values).to(getattr(torch, dtype))
    return made.requires_grad_() if made.is_floating_point() else made


def plain(given):
    """The same numbers, as a user would have converted them."""
    given = given.detach()
    known = str(given.dtype).removeprefix("torch.") in SHARED
    return (given if known else given.float()).numpy()


@pytest.fixture(params=["converted", "on a device"])
def kept(request, monkeypatch):
    """A tensor that stays one: of bfloat16, or of float32 as if it were on a device."""
    if request.param == "converted":
        return tensor()
    monkeypatch.setattr(tensors, "_is_here", lambda _: False)
    return tensor("float32")


@pytest.fixture(autouse=True)
def small_blocks(monkeypatch):
    monkeypatch.setattr(sources, "_BLOCK_SIZE", 7 * X.shape[1])


def pipeline(layer_weights="auto"):
    return make_pipeline(
        MultiLayerTfidfSketcher(8, layer_weights=layer_weights, random_state=0),
        MutualKNNLeiden(8, random_state=0),
    )


# --- what is kept ---------------------------------------------------------------------


@pytest.mark.parametrize("dtype", SHARED)
def test_what_numpy_knows_is_an_array_on_the_same_memory(dtype):
    given = tensor(dtype)
    (layer,) = LayerStack([given]).layers
    assert layer.__array_interface__["data"][0] == given.data_ptr()
    assert layer.dtype == dtype
    assert_array_equal(layer, plain(given))


@pytest.mark.parametrize("dtype", CONVERTED)
def test_what_numpy_lacks_stays_a_tensor(dtype):
    given = tensor(dtype)
    stack = LayerStack({"mlp": given, "other": X})
    assert stack["mlp"].data_ptr() == given.data_ptr()
    assert not stack["mlp"].requires_grad  # whose graph would stay in memory
    assert (stack.widths, stack.dtype) == ((24, 24), "float64")
    assert repr(stack) == "LayerStack(120 rows; mlp: 24, other: 24)"
    source = sources.source_of(stack["mlp"])
    assert (source.shape, source.dtype) == ((120, 24), "float32")
    assert_array_equal(source.read(slice(5, 9)), plain(given)[5:9])


def test_a_tensor_with_its_sign_to_be_turned():
    number = torch.complex(torch.zeros(4, 3), torch.ones(4, 3)).conj()
    (layer,) = LayerStack([number.imag]).layers
    assert_array_equal(layer, -np.ones((4, 3)))


def test_parameters_and_transposed_tensors():
    given = torch.nn.Parameter(tensor("float32")).T
    (layer,) = LayerStack([given]).layers
    assert_array_equal(layer, X.T.astype("f4"))
    assert_array_equal(LayerStack([tensor().T])[3:5].layers[0].float(), X.T[3:5])


def test_a_tuple_of_tensors_is_a_sequence_of_layers():
    assert LayerStack((tensor(), tensor("float16"))).widths == (24, 24)


# --- rows, pickles, hashes ------------------------------------------------------------


@pytest.mark.parametrize(
    "rows",
    [
        slice(2, 9),
        slice(None, None, 3),
        slice(None, None, -2),
        slice(500, 600),
        [4, 0, 0, 2],
        [-1, -120],
        np.array([5, 1], dtype=np.uint8),
        RNG.rand(120) < 0.2,
        [],
    ],
    ids=repr,
)
def test_rows_are_selected(kept, rows):
    expected = plain(kept)[rows if isinstance(rows, slice) or len(rows) else slice(0)]
    stack = LayerStack({"mlp": kept}, ids=range(120))
    part = stack[rows]["mlp"]
    assert part.dtype == kept.dtype
    assert_array_equal(plain(part), expected)


def test_float8_rows_are_selected():
    given = tensor("float8_e4m3fn")
    assert_array_equal(
        plain(LayerStack([given])[[7, 3]].layers[0]), plain(given)[[7, 3]]
    )


@pytest.mark.parametrize("rows", [[0, 120], [-121]], ids=repr)
def test_rows_out_of_bounds(kept, rows):
    with pytest.raises(IndexError, match="out of bounds for 120 rows"):
        LayerStack([kept])[rows]


@pytest.mark.parametrize("dtype", ["float32", *CONVERTED])
@pytest.mark.parametrize(
    "twin_of",
    [lambda stack: pickle.loads(pickle.dumps(stack)), copy.deepcopy],
    ids=["pickle", "deepcopy"],
)
def test_copies_are_equal_and_independent(twin_of, dtype):
    stack = LayerStack({"mlp": tensor(dtype)}, ids=range(120))
    twin = twin_of(stack)
    for one in (stack, twin):
        matrix = sources.source_of(one["mlp"])
        assert_array_equal(matrix.read(slice(0, 120)), plain(tensor(dtype)))
    assert type(twin["mlp"]) is type(stack["mlp"])
    assert twin["mlp"].dtype == stack["mlp"].dtype
    twin["mlp"][:] = 0
    assert sources.source_of(stack["mlp"]).read(slice(0, 120)).any()


def test_the_pickle_of_a_device_comes_back_in_memory(kept):
    found = pickle.loads(pickle.dumps(LayerStack([kept]))).layers[0]
    assert_array_equal(plain(torch.as_tensor(found)), plain(kept))


def test_a_pickle_holds_no_more_than_the_rows():
    whole = LayerStack([tensor()])
    assert len(pickle.dumps(whole[:3])) < len(pickle.dumps(whole)) / 4


def test_hash_is_that_of_the_numbers():
    stack = LayerStack([tensor()])
    assert joblib.hash(stack) == joblib.hash(LayerStack([tensor()]))
    assert joblib.hash(stack) == joblib.hash(copy.deepcopy(stack))
    assert joblib.hash(stack) != joblib.hash(stack[::-1])


@pytest.mark.slow
def test_workers_read_a_map_of_it():
    def look(stack):
        return sources.source_of(stack.layers[0]).read(slice(0, 120))

    # One task: only the worker that does it imports torch.
    parallel = joblib.Parallel(n_jobs=2, max_nbytes=1)
    (found,) = parallel([joblib.delayed(look)(LayerStack([tensor()]))])
    assert_array_equal(found, plain(tensor()))


# --- through the estimators -----------------------------------------------------------


def as_one(given):
    return given


def as_layers(given):
    return LayerStack({"a": given[:, :10], "b": given[:, 10:]})


# Few rows of small integers differ.
@pytest.mark.filterwarnings("ignore:Layers are judged by:UserWarning")
@pytest.mark.parametrize("dtype", [*SHARED, *CONVERTED])
@pytest.mark.parametrize("form", [as_one, as_layers])
def test_pipeline(form, dtype):
    given = tensor(dtype)
    X, expected = form(given), form(plain(given))
    weights = "auto" if dtype in CONVERTED else None  # what is no tensor is an array
    found, reference = pipeline(weights).fit(X), pipeline(weights).fit(expected)
    assert_array_equal(found[0].transform(X), reference[0].transform(expected))
    assert_array_equal(found[-1].labels_, reference[-1].labels_)
    assert_array_equal(found.predict(X[:50]), reference.predict(expected[:50]))


@pytest.mark.parametrize("dtype", ["float16", *CONVERTED])
def test_one_matrix_with_the_layers_side_by_side(dtype):
    given = tensor(dtype)
    sketcher = MultiLayerTfidfSketcher(8, layers=[10, 14], random_state=0)
    assert_array_equal(
        sketcher.fit_transform(given), sketcher.fit_transform(plain(given))
    )


@pytest.mark.parametrize("kind", [MutualKNNLeiden, FaissKNeighborsTransformer])
def test_the_clusterer_and_neighbours_of_vectors(kept, kind):
    expected = plain(kept)
    found = kind(8, random_state=0).fit(kept)
    reference = kind(8, random_state=0).fit(expected)
    assert_array_equal(found._distinct.vectors, reference._distinct.vectors)
    assert_array_equal(found._distinct.inverse, reference._distinct.inverse)
    if kind is MutualKNNLeiden:
        assert_array_equal(found.labels_, reference.labels_)
        assert_array_equal(found.predict(kept), reference.predict(expected))
    else:
        a, b = found.transform(kept), reference.transform(expected)
        assert_array_equal(a.toarray(), b.toarray())


def test_zero_equal_and_unit_rows_of_vectors():
    values = X.copy()
    values[3] = 0
    values[[5, 9]] = values[1]
    values[7] = np.eye(24)[0]
    given = tensor(values=values)
    found = MutualKNNLeiden(8, random_state=0).fit(given)
    expected = MutualKNNLeiden(8, random_state=0).fit(plain(given))
    assert_array_equal(found.labels_, expected.labels_)
    assert_array_equal(found._distinct.vectors, expected._distinct.vectors)


@pytest.mark.parametrize("value", [np.nan, np.inf])
@pytest.mark.parametrize(
    "estimator", [MutualKNNLeiden(8), MultiLayerTfidfSketcher(8)], ids=repr
)
def test_values_are_checked(kept, estimator, value):
    with torch.no_grad():
        kept[3, 2] = value
    what = "NaN" if np.isnan(value) else "infinity"
    message = rf"{what}.* first in row 3, column 2\. 1 of rows 0 to 6 hold"
    with pytest.raises(ValueError, match=message):
        estimator.fit(kept)


def test_no_second_copy_of_all(kept, monkeypatch):
    """What stays a tensor is converted in blocks, by what needs all of it, too."""
    read = []
    convert = tensors.from_torch

    def converted(value, what):
        read.append(value.numel())
        return convert(value, what)

    monkeypatch.setattr(tensors, "from_torch", converted)
    fitted = pipeline().fit(kept)
    fitted.predict(kept)
    vectors = MutualKNNLeiden(8, random_state=0).fit(kept)
    vectors.predict(kept)
    permute_columns(LayerStack([tensor(values=np.ones((120, 640)))]))
    assert max(read) < 120 * 640 / 4


@pytest.mark.parametrize("form", [as_one, as_layers])
def test_permuted_columns(form, kept):
    found = permute_columns(form(kept), random_state=0)
    expected = permute_columns(form(plain(kept)), random_state=0)
    if form is as_one:
        found, expected = LayerStack([found]), LayerStack([expected])
    for layer, wanted in zip(found.layers, expected.layers, strict=True):
        assert layer.dtype == wanted.dtype
        assert_array_equal(layer, wanted)


def test_permuted_columns_of_many(kept):
    wide = np.arange(20 * 200).reshape(20, 200) % 251
    found = permute_columns(tensor(values=wide), random_state=0)
    assert_array_equal(found, permute_columns(wide.astype("f4"), random_state=0))


@pytest.mark.parametrize("form", [as_one, as_layers])
def test_inspection(form, kept):
    X, expected = form(kept), form(plain(kept))
    fitted = pipeline().fit(X)
    found, wanted = (describe_communities(fitted, of) for of in (X, expected))
    assert found.top_features == wanted.top_features
    assert found.summary == wanted.summary
    for name, agreement in wanted.layer_agreement.items():
        assert_array_equal(found.layer_agreement[name], agreement)
    assert explain(fitted, X, 3) == explain(fitted, expected, 3)
    for name, means in prototypes(expected, PLANTED).items():
        assert_array_equal(prototypes(X, PLANTED)[name], means)


def test_scikit_learn_splits_one(kept):
    for train, test in KFold(3).split(kept):
        fitted = MutualKNNLeiden(8, random_state=0).fit(kept[train])
        assert fitted.predict(kept[test]).shape == (40,)
        assert_array_equal(plain(_safe_indexing(kept, test)), plain(kept)[test])


@pytest.mark.parametrize("form", [as_one, as_layers])
def test_runs_on_some_of_the_rows(form, kept):
    found, expected = (
        resolution_profile(pipeline(None), X, resolutions=[0.5, 1.0], n_runs=2).table
        for X in (form(kept), form(plain(kept)))
    )
    for name in ("n_clusters", "stability", "null"):
        assert_array_equal(found[name], expected[name])


def test_out_is_not_the_tensors_memory():
    given = torch.zeros(120, 24) + torch.tensor(X)
    sketcher = MultiLayerTfidfSketcher(24, dtype=np.float64, random_state=0)
    with pytest.raises(ValueError, match="out must not share memory"):
        sketcher.fit_transform(given, out=given.numpy())


# --- what is refused ------------------------------------------------------------------


def quantized():
    return torch.quantize_per_tensor(torch.ones(4, 3), 0.1, 0, torch.quint8)


REFUSED = {
    "sparse": (lambda: torch.ones(4, 3).to_sparse(), "a sparse tensor"),
    "sparse CSR": (lambda: sp_csr(), "a sparse tensor"),
    "quantized": (quantized, "a quantized tensor"),
    "meta": (lambda: torch.ones(4, 3, device="meta"), "without values"),
    "complex": (lambda: torch.ones(4, 3) * 1j, "complex numbers"),
    "half complex": (
        lambda: torch.ones(4, 6, dtype=torch.float16).view(torch.complex32),
        "complex numbers",
    ),
    "nested": (
        lambda: torch.nested.nested_tensor([torch.ones(4, 3), torch.ones(3, 3)]),
        "a nested tensor",
    ),
    "bits": (
        lambda: torch.zeros(4, 3, dtype=torch.uint8).view(torch.bits8),
        "torch.bits8, which NumPy does not have",
    ),
}


def sp_csr():
    return torch.sparse_csr_tensor([0, 1], [0], [1.0], size=(1, 2))


@pytest.mark.filterwarnings("ignore:Sparse (CSR|invariant)|torch.*quant|.*nested")
@pytest.mark.parametrize("name", REFUSED)
@pytest.mark.parametrize(
    "door",
    [
        lambda X: LayerStack({"mlp": X}),
        lambda X: LayerStack.from_array(X, axis=1),
        lambda X: MultiLayerTfidfSketcher(2).fit(X),
        lambda X: MutualKNNLeiden(2).fit(X),
        lambda X: prototypes(X, [0, 0, 1, 1]),
    ],
    ids=["layer", "from_array", "sketcher", "clusterer", "prototypes"],
)
def test_refused(name, door):
    make, message = REFUSED[name]
    with pytest.raises(ValueError, match=message):
        door(make())


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize(
    ("values", "message"),
    [
        (X[0], "got 1D tensor"),
        (X[:0], r"shape \(0, 24\) while at least"),
        (X[:, :0], r"shape \(120, 0\) while at least"),
        (X[:1], r"shape \(1, 24\) while at least 2 rows"),
        (X[0, 0], "got 0D tensor"),
    ],
)
def test_shapes_of_x(values, message, dtype):
    with pytest.raises(ValueError, match=message):
        MutualKNNLeiden(2).fit(tensor(dtype, values))


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_shapes_of_layers(dtype):
    with pytest.raises(TypeError, match="a single Tensor"):
        LayerStack(tensor(dtype))
    for values in (X[0], X[0, 0]):
        with pytest.raises(TypeError, match="'mlp' must be a 2-D matrix"):
            LayerStack({"mlp": tensor(dtype, values)})
