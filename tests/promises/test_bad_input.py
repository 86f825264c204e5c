"""Every kind of input at every door: the promised result, or the promised error."""

import warnings

import numpy as np
import pandas as pd
import pytest
import scipy.sparse as sp
from numpy.testing import assert_allclose
from sklearn.pipeline import make_pipeline
from sklearn.utils._param_validation import (
    InvalidParameterError,
    generate_invalid_param_val,
    make_constraint,
)

from skleiden import (
    FaissKNeighborsTransformer,
    LayerStack,
    MultiLayerTfidfSketcher,
    MutualKNNLeiden,
)
from skleiden.inspection import layer_agreement, prototypes, top_features
from skleiden.model_selection import StableLeiden

rng = np.random.RandomState(0)
# Multiples of 1/8, which every floating dtype holds; rows with some and all zeros.
BASE = (rng.randint(1, 40, (60, 12)) / 8 * (rng.rand(60, 12) < 0.6)).astype("f4")
LABELS = np.arange(60) % 3


def sketch(X):
    return MultiLayerTfidfSketcher(8, random_state=0).fit_transform(X)


def cluster(X):
    return MutualKNNLeiden(5, random_state=0).fit(X).labels_


def graph(X):
    return FaissKNeighborsTransformer(5).fit_transform(X).toarray()


def precomputed(X):
    return MutualKNNLeiden(5, metric="precomputed").fit(X).labels_


def predict(X):
    return PIPELINE.predict(X)


def stack(X):
    (layer,) = LayerStack([X]).layers
    return layer.toarray() if sp.issparse(layer) else np.asarray(layer)


def means(X):
    return prototypes(X, LABELS)["layer_0"]


def neurons(X):
    return [f for found in top_features(X, LABELS).values() for f in found]


def agreement(X):
    return layer_agreement(X, LABELS, [12])["layer_0"]


PIPELINE = make_pipeline(
    MultiLayerTfidfSketcher(8, random_state=0), MutualKNNLeiden(5, random_state=0)
).fit(BASE)
VECTORS = [cluster, graph, agreement]  # take dense vectors
LAYERS = [sketch, predict, stack, means, neurons]  # take sparse ones, too
DOORS = [*VECTORS, *LAYERS, precomputed]
VECTORS_ONLY = "Sparse data was passed"
NOT_SQUARE = "takes a square matrix of distances"

# --- what is refused ------------------------------------------------------------------


def with_value(value, dtype="f8"):
    X = BASE.astype(dtype)
    X[3, 2] = value
    return X


def broken_csr(**parts):
    whole = sp.csr_array(BASE)
    for name, change in parts.items():
        setattr(whole, name, change(getattr(whole, name)))
    return whole


NAN, INFINITE = "NaN", "infinity|too large"
TWO_D = "2D (array|input)|2-D matrix|dim(ension)? ?<?=? ?|1 dimension"
NO_NUMBERS = (
    "numeric|could not convert|must hold real numbers|must be a string or a real"
)
EMPTY = (
    "0 (sample|feature)|at least 1 row|fewer|minimum of|a square|0 columns|per label"
)
ROW_COUNT = "minimum of 2|a square|per row|30 rows|fewer|1 rows|1 sample"
NOT_ARRAY = f"{TWO_D}|{NO_NUMBERS}|cannot be made|takes one matrix|at least one layer"

# Of each: how it is made, what the error says, and which doors let it pass.
REFUSED = {
    "NaN": (lambda: with_value(np.nan), NAN, {stack}),
    "infinity": (lambda: with_value(np.inf), INFINITE, {stack}),
    "minus infinity": (lambda: with_value(-np.inf), INFINITE, {stack}),
    "NaN in float16": (lambda: with_value(np.nan, "f2"), NAN, {stack}),
    "NaN in a frame": (lambda: pd.DataFrame(with_value(np.nan)), NAN, {stack}),
    "None among numbers": (
        lambda: np.where(BASE > 4.8, None, BASE),
        f"{NAN}|{NO_NUMBERS}",
        set(),
    ),
    "NaN in sparse": (
        lambda: sp.csr_array(with_value(np.nan)),
        f"{NAN}|{VECTORS_ONLY}",
        {stack},
    ),
    "infinity in sparse": (
        lambda: sp.csr_array(with_value(np.inf)),
        f"{INFINITE}|{VECTORS_ONLY}",
        {stack},
    ),
    "a negative column": (
        lambda: broken_csr(indices=lambda columns: columns - 1),
        "not a valid sparse .* indices must be from 0 to 11; got -1 to 10",
        set(),
    ),
    "a column too many": (
        lambda: broken_csr(indices=lambda columns: columns + 1),
        "not a valid sparse .* indices must be from 0 to 11; got 1 to 12",
        set(),
    ),
    "rows that overlap": (
        lambda: broken_csr(indptr=lambda starts: starts[::-1] - starts[-1]),
        "not a valid sparse .* indptr must start at 0 and never fall",
        set(),
    ),
    "complex": (lambda: BASE + 0j, "Complex data not|must hold real", set()),
    "sparse complex": (
        lambda: sp.csr_array(BASE + 0j),
        "Complex data not|must hold real",
        set(),
    ),
    "numbers as text": (lambda: BASE.astype(str), NO_NUMBERS, set()),
    "words": (lambda: np.full((60, 12), "a"), NO_NUMBERS, set()),
    "words as objects": (lambda: np.full((60, 12), "a", object), NO_NUMBERS, set()),
    "objects": (lambda: np.full((60, 12), object()), NO_NUMBERS, set()),
    "bytes": (lambda: np.full((60, 12), b"a"), NO_NUMBERS, set()),
    "dates": (
        lambda: np.full((60, 12), np.datetime64("2020-01-01")),
        NO_NUMBERS,
        set(),
    ),
    "durations": (lambda: np.full((60, 12), np.timedelta64(3)), NO_NUMBERS, set()),
    "records": (
        lambda: np.zeros(60, [("a", "f4"), ("b", "f4")]),
        f"{TWO_D}|{NO_NUMBERS}",
        set(),
    ),
    "frame of words": (lambda: pd.DataFrame([["a"] * 12] * 60), NO_NUMBERS, set()),
    "no rows": (lambda: BASE[:0], EMPTY, {stack}),
    "no columns": (lambda: BASE[:, :0], EMPTY, {stack}),
    "no rows, sparse": (
        lambda: sp.csr_array((0, 12)),
        f"{EMPTY}|{VECTORS_ONLY}",
        {stack},
    ),
    "no columns, sparse": (
        lambda: sp.csr_array((60, 0)),
        f"{EMPTY}|{VECTORS_ONLY}",
        {stack},
    ),
    "one row": (lambda: BASE[:1], ROW_COUNT, {stack, sketch, predict}),
    "one column of a row": (lambda: BASE[:, 0], TWO_D, set()),
    "three dimensions": (
        lambda: np.stack([BASE, BASE]),
        "3 dimension|dim 3",
        set(),
    ),
    "one number": (lambda: 3.0, NOT_ARRAY, set()),
    "None": (lambda: None, NOT_ARRAY, set()),
    "text": (lambda: "abc", NOT_ARRAY, set()),
    "a set": (lambda: {1, 2}, NOT_ARRAY, set()),
    "a generator": (lambda: (row for row in BASE), NOT_ARRAY, set()),
    "empty list": (list, NOT_ARRAY, set()),
    "empty mapping": (dict, NOT_ARRAY, set()),
    "rows of differing length": (
        lambda: [[1, 2], [3]],
        "inhomogeneous",
        set(),
    ),
    "list of matrices": (
        lambda: [BASE, BASE],
        "one row per sample|2-D matrix",
        set(),
    ),
    "tuple of sparse matrices": (
        lambda: (sp.csr_array(BASE), sp.csr_array(BASE)),
        "one row per sample|2-D matrix",
        set(),
    ),
    "masked": (
        lambda: np.ma.masked_array(BASE, BASE > 4),
        r"masked array with \d+ masked entries",
        set(),
    ),
    "an estimator": (lambda: MutualKNNLeiden(), NOT_ARRAY, set()),
    "a class": (lambda: dict, NOT_ARRAY, set()),
    "a sparse vector": (
        lambda: sp.coo_array(BASE[:, 0]),
        f"{TWO_D}|{VECTORS_ONLY}",
        set(),
    ),
    "too few rows for the labels": (
        lambda: BASE[:30],
        f"got 60 labels for 30|{NOT_SQUARE}",
        {stack, sketch, predict, cluster, graph},
    ),
    "other columns than fitted": (
        lambda: BASE[:, :7],
        f"expecting 12 features|add up to the columns|{NOT_SQUARE}|for 7 columns",
        {stack, sketch, cluster, graph, means, neurons},
    ),
}
CASES = [(name, door) for name in REFUSED for door in DOORS]


@pytest.mark.parametrize(
    ("name", "door"), CASES, ids=[f"{door.__name__}-{name}" for name, door in CASES]
)
def test_refused(name, door):
    make, message, passing = REFUSED[name]
    if name == "a sparse vector" and make().ndim == 2:
        pytest.skip("SciPy has none in this version")
    if door in passing:
        door(make())
        return
    expected = f"{message}|{NOT_SQUARE}" if door is precomputed else message
    with pytest.raises((ValueError, TypeError), match=f"(?s){expected}"):
        door(make())


# --- what is taken --------------------------------------------------------------------


def mapped(X):
    copy = np.memmap.__new__(np.memmap, FILE, X.dtype, "w+", shape=X.shape)
    copy[:] = X
    copy.flush()
    return np.memmap(FILE, X.dtype, "r", shape=X.shape)


@pytest.fixture(autouse=True, scope="module")
def file(tmp_path_factory):
    global FILE
    FILE = tmp_path_factory.mktemp("mapped") / "X"


def read_only(X):
    copy = X.copy()
    copy.flags.writeable = False
    return copy


def unsorted(X):
    """The columns of each row in falling order."""
    whole = sp.csr_array(X)
    order = np.lexsort(
        (-whole.indices, np.repeat(np.arange(60), np.diff(whole.indptr)))
    )
    return sp.csr_array(
        (whole.data[order], whole.indices[order], whole.indptr), shape=X.shape
    )


def doubled(X):
    """Every entry in two halves."""
    whole = sp.csr_array(X)
    data, indices = np.repeat(whole.data / 2, 2), np.repeat(whole.indices, 2)
    return sp.csr_array((data, indices, 2 * whole.indptr), shape=X.shape)


def with_zeros(X):
    """All entries stored, zeros too."""
    indptr = np.arange(0, X.size + 1, X.shape[1])
    return sp.csr_array(
        (X.ravel(), np.tile(np.arange(X.shape[1]), len(X)), indptr), shape=X.shape
    )


def long_indices(X):
    whole = sp.csr_array(X)
    whole.indices = whole.indices.astype(np.int64)
    whole.indptr = whole.indptr.astype(np.int64)
    return whole


DENSE = {
    "float64": lambda X: X.astype("f8"),
    "float16": lambda X: X.astype("f2"),
    "other byte order": lambda X: X.astype(X.dtype.newbyteorder()),
    "long double": lambda X: X.astype(np.longdouble),
    "columns first": np.asfortranarray,
    "strided": lambda X: np.repeat(X, 2, axis=1)[:, ::2],
    "reversed": lambda X: X[::-1].copy()[::-1],
    "read-only": read_only,
    "mapped": mapped,
    "frame": pd.DataFrame,
    "lists": lambda X: X.tolist(),
    "objects": lambda X: X.astype(object),
    "unmasked": np.ma.masked_array,
}
SPARSE = {
    "CSR array": sp.csr_array,
    "CSR matrix": sp.csr_matrix,
    "CSC array": sp.csc_array,
    "CSC matrix": sp.csc_matrix,
    "COO array": sp.coo_array,
    "COO matrix": sp.coo_matrix,
    "LIL array": sp.lil_array,
    "LIL matrix": sp.lil_matrix,
    "DOK array": sp.dok_array,
    "DOK matrix": sp.dok_matrix,
    "BSR array": sp.bsr_array,
    "DIA array": sp.dia_array,
    "64-bit indices": long_indices,
    "columns in falling order": unsorted,
    "entries in halves": doubled,
    "stored zeros": with_zeros,
    "sparse float64": lambda X: sp.csr_array(X.astype("f8")),
}
TAKEN = [(name, door) for name in DENSE for door in [*VECTORS, *LAYERS]]
TAKEN += [(name, door) for name in SPARSE for door in LAYERS]


@pytest.mark.parametrize(
    ("name", "door"), TAKEN, ids=[f"{door.__name__}-{name}" for name, door in TAKEN]
)
def test_taken(name, door):
    """The same numbers give the same result, and are left as they are."""
    if name == "objects" and door is stack:
        pytest.skip("a LayerStack keeps layers as they are, and objects are none")
    X = {**DENSE, **SPARSE}[name](BASE)
    before = X.copy() if hasattr(X, "copy") else None
    expected, found = door(BASE), door(X)
    if door is neurons:
        assert [f[:2] for f in found] == [f[:2] for f in expected]
        found, expected = ([f[2:8] for f in fs] for fs in (found, expected))
    assert_allclose(found, expected, rtol=1e-5, atol=1e-6)
    if sp.issparse(X):
        assert (before != X).nnz == 0
    elif before is not None:
        assert np.array_equal(np.asarray(X), np.asarray(before))


@pytest.mark.parametrize("door", [*VECTORS, *LAYERS])
def test_frame_whose_columns_have_one_name(door):
    """scikit-learn decides: some of its versions take it, some refuse it."""
    frame = pd.DataFrame(BASE)
    frame.columns = ["neuron"] * 12
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", "X has feature names")
            found = door(frame)
    except ValueError as error:
        if "unique column names" not in str(error):
            raise
    else:
        expected = door(BASE)
        if door is neurons:
            found, expected = ([f[2:8] for f in fs] for fs in (found, expected))
        assert_allclose(found, expected)


@pytest.mark.parametrize("name", SPARSE)
@pytest.mark.parametrize("door", VECTORS)
def test_vectors_are_dense(name, door):
    with pytest.raises(TypeError, match=VECTORS_ONLY):
        door(SPARSE[name](BASE))


@pytest.mark.parametrize("dtype", ["i1", "u1", "i2", "i4", "u4", "i8", "u8", "?"])
@pytest.mark.parametrize("door", [*VECTORS, *LAYERS])
def test_integers_and_booleans_are_numbers(dtype, door):
    whole = np.rint(BASE).astype(dtype)
    expected, found = door(whole.astype("f8")), door(whole)
    if door is neurons:
        found, expected = ([f[2:8] for f in fs] for fs in (found, expected))
    assert_allclose(found, expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("scale", [1e-300, 1e-44, 1e-20, 1e20, 1e37, 1e150])
@pytest.mark.parametrize("door", [sketch, cluster, graph, agreement])
def test_any_scale(scale, door):
    """Cosines do not depend on it, as long as the numbers can be told apart."""
    found = door(BASE.astype("f8") * scale)
    if scale != 1e-44:  # a denormal in single precision
        assert_allclose(found, door(BASE), atol=1e-5)
    assert np.isfinite(found).all()


@pytest.mark.parametrize("exponent", [-100, -80, -60, 60, 80, 100])
@pytest.mark.parametrize("door", [sketch, cluster, graph, agreement])
def test_any_scale_in_single_precision(exponent, door):
    """Squares of such numbers overflow or vanish; powers of 2 change no digit."""
    scaled = BASE * np.float32(2.0**exponent)
    assert scaled.dtype == np.float32
    assert_allclose(door(scaled), door(BASE), atol=1e-6)


# --- parameters -----------------------------------------------------------------------

ESTIMATORS = [
    MultiLayerTfidfSketcher,
    FaissKNeighborsTransformer,
    MutualKNNLeiden,
    StableLeiden,
]
PARAMETERS = [
    (estimator, name)
    for estimator in ESTIMATORS
    for name in estimator._parameter_constraints
]


class Nothing:
    """A value of no type that any parameter takes."""


@pytest.mark.parametrize(
    ("estimator", "name"), PARAMETERS, ids=[f"{e.__name__}-{n}" for e, n in PARAMETERS]
)
def test_parameters_out_of_range(estimator, name):
    values = [Nothing()]
    constraints = estimator._parameter_constraints[name]
    for constraint in constraints if isinstance(constraints, list) else []:
        try:
            values.append(generate_invalid_param_val(make_constraint(constraint)))
        except NotImplementedError:  # of this kind nothing is out of range
            continue
    for value in values:
        with pytest.raises((InvalidParameterError, ValueError, TypeError), match=name):
            estimator(**{name: value}).fit(BASE)
