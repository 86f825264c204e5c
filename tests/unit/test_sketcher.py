import tracemalloc

import numpy as np
import pandas as pd
import pytest
import scipy.sparse as sp
from numpy.testing import assert_array_equal
from sklearn.compose import ColumnTransformer
from sklearn.exceptions import NotFittedError
from sklearn.feature_extraction.text import TfidfTransformer
from sklearn.kernel_approximation import PolynomialCountSketch
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer, Normalizer, StandardScaler
from sklearn.utils import get_tags

import skleiden._blocks.sources
from skleiden import LayerStack, MultiLayerTfidfSketcher, MutualKNNLeiden

WEIGHTINGS = ("idf", "zscore", "none")


def sketcher(**parameters):
    """A sketcher with equal weights; `test_layer_weights.py` has those that are found.

    To find them takes a hundred times as long as the rest.
    """
    usual = {"n_components": 16, "layer_weights": None, "random_state": 0}
    return MultiLayerTfidfSketcher(**usual | parameters)


def as_dense(stack, dtype=np.float32):
    return LayerStack([layer.toarray().astype(dtype) for layer in stack.layers])


def as_wide(stack):
    return sp.hstack(stack.layers).tocsr()


def oracle(fitted, stack, *, smooth_idf=True):
    """The same embedding from scikit-learn's own parts, with the hashes copied in."""
    starts = np.cumsum([0, *fitted.layer_widths_])
    weigh = {
        "idf": TfidfTransformer(norm="l2", smooth_idf=smooth_idf),
        "zscore": StandardScaler(),
        "none": Normalizer(),
    }[fitted.weighting_[0]]
    outputs = np.cumsum([0, *fitted.n_components_])

    def sketch(layer):
        counts = PolynomialCountSketch(
            degree=1, gamma=1, coef0=0, n_components=fitted.n_components_[layer]
        ).fit(np.zeros((1, fitted.layer_widths_[layer])))
        columns = slice(starts[layer], starts[layer + 1])
        counts.indexHash_ = fitted.buckets_[None, columns] - outputs[layer]
        counts.bitHash_ = fitted.signs_[None, columns].astype(np.float64)
        return FunctionTransformer(counts.transform)

    layers = [
        (str(layer), make_pipeline(weigh, sketch(layer), Normalizer()), columns)
        for layer, columns in enumerate(map(slice, starts, starts[1:]))
    ]
    weights = {
        str(layer): np.sqrt(weight)
        for layer, weight in enumerate(fitted.layer_weights_)
    }
    X = as_wide(stack).astype(np.float64)
    if fitted.weighting_[0] == "zscore":
        X = X.toarray()
    joined = ColumnTransformer(layers, transformer_weights=weights, sparse_threshold=0)
    return Normalizer().fit_transform(joined.fit_transform(X))


@pytest.mark.parametrize("weighting", WEIGHTINGS)
@pytest.mark.parametrize("layer_weights", [None, [1.0, 4.0, 0.25]])
def test_equals_scikit_learns_parts(stack, place, weighting, layer_weights):
    fitted = sketcher(weighting=weighting, layer_weights=layer_weights)
    embedding = fitted.fit_transform(place(stack))
    assert embedding.dtype == np.float32
    np.testing.assert_allclose(embedding, oracle(fitted, stack), rtol=0, atol=1e-6)


def test_idf_without_smoothing_equals_scikit_learns(stack, place):
    # Without it scikit-learn divides by zero for a column that is never active.
    stack = LayerStack([x[:, x.astype(bool).sum(axis=0) > 0] for x in stack.layers])
    fitted = sketcher(smooth_idf=False)
    np.testing.assert_allclose(
        fitted.fit_transform(place(stack)),
        oracle(fitted, stack, smooth_idf=False),
        atol=1e-6,
    )


@pytest.mark.parametrize("weighting", WEIGHTINGS)
@pytest.mark.parametrize("n_components", [16, [8, 16, 24]])
def test_every_storage_gives_the_same(stack, place, weighting, n_components, tmp_path):
    make = sketcher(weighting=weighting, n_components=n_components)
    expected = make.fit_transform(place(stack))
    dense = as_dense(stack)
    path = tmp_path / "wide.npy"
    np.save(path, np.hstack(dense.layers))
    mapped = np.load(path, mmap_mode="r")
    widths = list(stack.widths)
    same = {
        "dense": dense,
        "Fortran order": LayerStack([np.asfortranarray(x) for x in dense.layers]),
        "mapping": dict(zip(stack.names, stack.layers, strict=True)),
        "CSR matrix": LayerStack([sp.csr_matrix(x) for x in stack.layers]),
        "COO": LayerStack([x.tocoo() for x in stack.layers]),
        "int64 indices": LayerStack([with_int64_indices(x) for x in stack.layers]),
    }
    for what, X in same.items():
        found = make.fit_transform(place(X))
        np.testing.assert_array_equal(found, expected, err_msg=what)
    wide = sketcher(weighting=weighting, n_components=n_components, layers=widths)
    for what, X in {
        "wide CSR": as_wide(stack),
        "wide CSC": as_wide(stack).tocsc(),
        "wide dense": np.hstack(dense.layers),
        "read-only memmap": mapped,
    }.items():
        found = wide.fit_transform(place(X))
        np.testing.assert_array_equal(found, expected, err_msg=what)


def test_a_frame_gives_the_same(stack):
    frame = pd.DataFrame(as_wide(stack).toarray())
    found = sketcher(layers=list(stack.widths)).fit_transform(frame)
    np.testing.assert_array_equal(found, sketcher().fit_transform(stack))


def with_int64_indices(matrix):
    matrix = matrix.copy()
    matrix.indices = matrix.indices.astype(np.int64)
    matrix.indptr = matrix.indptr.astype(np.int64)
    return matrix


@pytest.mark.parametrize("weighting", WEIGHTINGS)
@pytest.mark.parametrize(
    ("dtype", "out"),
    [
        (np.float16, np.float32),
        (np.uint8, np.float32),
        (bool, np.float32),
        (np.float64, np.float32),
        (np.int64, np.float32),
    ],
)
def test_dtypes(stack, place, weighting, dtype, out):
    X = as_dense(stack, dtype)
    embedding = sketcher(weighting=weighting).fit_transform(place(X))
    exact = sketcher(weighting=weighting, dtype=np.float64).fit_transform(
        as_dense(X_float64(X), np.float64)
    )
    assert embedding.dtype == out
    assert exact.dtype == np.float64
    np.testing.assert_allclose(embedding, exact, rtol=0, atol=1e-6)


def X_float64(stack):
    return LayerStack(
        [sp.csr_array(layer.astype(np.float64)) for layer in stack.layers]
    )


@pytest.mark.parametrize("weighting", WEIGHTINGS)
@pytest.mark.parametrize("sizes", [[400], [1, 399], [150, 200, 50]])
def test_partial_fit_equals_fit(stack, place, weighting, sizes):
    whole, parts = sketcher(weighting=weighting), sketcher(weighting=weighting)
    whole.fit(stack)
    for start, size in zip(np.cumsum([0, *sizes]), sizes, strict=False):
        parts.partial_fit(place(stack[start : start + size]))
    assert parts.n_samples_seen_ == whole.n_samples_seen_ == 400
    np.testing.assert_array_equal(parts.df_, whole.df_)
    np.testing.assert_array_equal(parts.buckets_, whole.buckets_)
    if weighting == "idf":
        np.testing.assert_array_equal(parts.idf_, whole.idf_)
    if weighting == "zscore":
        np.testing.assert_allclose(parts.mean_, whole.mean_, rtol=1e-12)
        np.testing.assert_allclose(parts.scale_, whole.scale_, rtol=1e-12)
    np.testing.assert_allclose(
        parts.transform(place(stack)), whole.transform(stack), atol=1e-6
    )


def test_fit_starts_again_and_partial_fit_does_not(stack):
    fitted = sketcher().fit(stack).fit(stack[:100])
    assert fitted.n_samples_seen_ == 100
    assert fitted.partial_fit(stack[100:]).n_samples_seen_ == 400
    fitted.set_params(weighting="zscore")
    with pytest.raises(
        ValueError, match=r"changed from 'auto' to 'zscore' between cal"
    ):
        fitted.partial_fit(stack)
    # Nothing of the former fit is left.
    assert not hasattr(fitted.fit(stack), "idf_")
    assert hasattr(fitted, "scale_")


def with_nan(stack):
    first, *others = stack.layers
    first = first.copy()
    (first.data if sp.issparse(first) else first).flat[0] = np.nan
    return LayerStack([first, *others])


@pytest.mark.parametrize("method", ["fit", "fit_transform", "partial_fit"])
def test_a_failed_first_fit_leaves_nothing(stack, place, method):
    failed = sketcher()
    with pytest.raises(ValueError, match="contains NaN"):
        getattr(failed, method)(place(with_nan(stack)))
    with pytest.raises(NotFittedError):
        failed.transform(place(stack))
    assert vars(failed) == vars(sketcher())


@pytest.mark.parametrize("weighting", WEIGHTINGS)
@pytest.mark.parametrize("method", ["fit", "fit_transform"])
def test_a_failed_refit_changes_nothing(stack, place, weighting, method):
    fitted, X = sketcher(weighting=weighting, n_components=4), place(stack)
    expected = np.asarray(fitted.fit_transform(X))
    another, no_rows = place(with_nan(as_dense(stack))), place(stack[:0])
    for changes, wrong in (
        ({"n_components": 8}, place(with_nan(stack))),
        ({"layer_weights": [1, 2], "weighting": "zscore"}, another),
        ({"n_components": 2}, pd.DataFrame({"a": [1.0, np.inf], "b": [1.0, 2.0]})),
        ({"dtype": np.float64, "zero_tol": 1.0, "power": 0.5}, no_rows),
    ):
        with pytest.raises(ValueError, match=r"."):
            getattr(fitted.set_params(**changes), method)(wrong)
    assert not hasattr(fitted, "feature_names_in_")
    np.testing.assert_array_equal(fitted.transform(X), expected)


@pytest.mark.parametrize("weighting", WEIGHTINGS)
def test_a_failed_partial_fit_changes_nothing(stack, place, weighting):
    rows = as_dense(stack)
    for layer in rows.layers:
        layer[:50:10] = 0
    X = place(rows)
    whole = sketcher(weighting=weighting).partial_fit(X[:200])
    parts = sketcher(weighting=weighting).partial_fit(X[:200])
    for wrong in (place(with_nan(rows[:100])), X[:0], LayerStack(X.layers[:2])):
        with pytest.raises(ValueError, match=r"."):
            parts.partial_fit(wrong)
    assert parts.n_zero_rows_ == 5
    assert parts.n_samples_seen_ == 200
    np.testing.assert_array_equal(parts.transform(X), whole.transform(X))
    np.testing.assert_array_equal(
        parts.partial_fit(X[200:]).transform(X), whole.partial_fit(X[200:]).transform(X)
    )


@pytest.mark.parametrize("weighting", WEIGHTINGS)
def test_a_fitted_sketcher_goes_on_with_what_it_was_fitted_with(stack, weighting):
    fitted = sketcher(weighting=weighting)
    expected = fitted.fit_transform(stack)
    fitted.set_params(
        n_components=3,
        layers=[1, 2],
        layer_weights=[1.0],
        weighting="idf" if weighting == "zscore" else "zscore",
        smooth_idf=False,
        power=0.5,
        zero_tol=1.0,
        dtype=np.float64,
        random_state=1,
    )
    found = fitted.transform(stack)
    assert found.dtype == np.float32
    np.testing.assert_array_equal(found, expected)
    assert len(fitted.get_feature_names_out()) == 48


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"weighting": "none"}, "weighting was changed from 'auto' to 'none'"),
        ({"smooth_idf": False}, "smooth_idf was changed from True to False"),
        ({"power": 0.5}, "power was changed from None to 0.5"),
        ({"zero_tol": 0.5}, "zero_tol was changed from 0.0 to 0.5 between calls"),
        ({"dtype": "float64"}, r"dtype was changed from dtype\('float32'\) to"),
    ],
)
def test_partial_fit_refuses_changed_parameters(stack, changed, message):
    fitted = sketcher().partial_fit(stack)
    with pytest.raises(ValueError, match=message):
        fitted.set_params(**changed).partial_fit(stack)


def test_statistics_equal_numpys(stack, place):
    X = np.hstack(as_dense(stack, np.float64).layers)
    fitted = sketcher(weighting="zscore").fit(place(stack))
    np.testing.assert_array_equal(fitted.df_, (X != 0).sum(axis=0))
    np.testing.assert_allclose(fitted.mean_, X.mean(axis=0), rtol=1e-12)
    scale = X.std(axis=0)
    np.testing.assert_allclose(fitted.scale_, np.where(scale == 0, 1, scale), rtol=1e-9)
    idf = sketcher().fit(place(stack))
    np.testing.assert_allclose(
        idf.idf_, np.log(401 / ((X != 0).sum(axis=0) + 1)) + 1, rtol=1e-12
    )


def test_large_means_do_not_cancel(place):
    X = 1e6 + np.random.RandomState(0).standard_normal((500, 3))
    for storage in (X, sp.csr_array(X)):
        fitted = sketcher(weighting="zscore", batch_size=7).fit(place(storage))
        np.testing.assert_allclose(fitted.scale_, X.std(axis=0), rtol=1e-9)


@pytest.mark.parametrize("ratio", [0, 1, 10, 100, 1e3, 1e4])
@pytest.mark.parametrize("storage", [np.asarray, sp.csr_array])
def test_means_beyond_the_spread_do_not_cost_digits(place, ratio, storage):
    noise = np.random.RandomState(0).standard_normal((300, 400))
    X = ((noise + ratio) * np.geomspace(0.01, 100, 400)).astype(np.float32)
    fitted = sketcher(weighting="zscore")
    embedding = fitted.fit_transform(place(storage(X)))
    expected = oracle(fitted, LayerStack([sp.csr_array(X)]))
    assert embedding.dtype == np.float32
    np.testing.assert_allclose(embedding, expected, rtol=0, atol=1e-6)


@pytest.mark.parametrize(
    ("size", "dtype"),
    [
        (1e304, np.float64),
        (1e200, np.float64),
        (1e-160, np.float64),
        (1e-300, np.float64),
        (1e36, np.float32),
        (1e-39, np.float32),
    ],
)
@pytest.mark.parametrize("storage", [np.asarray, sp.csr_array])
def test_zscore_of_very_large_and_small_columns(place, size, dtype, storage):
    ordinary = np.random.RandomState(0).standard_normal((200, 30)) + 1
    ordinary[::3, ::2] = 0
    X = (ordinary * size).astype(dtype)
    X[:, :10] = ordinary[:, :10]  # beside ordinary ones
    fitted = sketcher(weighting="zscore", batch_size=50)
    embedding = fitted.fit_transform(place(storage(X)))
    expected = sketcher(weighting="zscore").fit(ordinary)
    np.testing.assert_allclose(
        fitted.scale_, np.where(np.arange(30) < 10, 1, size) * expected.scale_, 1e-5
    )
    np.testing.assert_allclose(embedding, expected.transform(ordinary), atol=1e-5)


@pytest.mark.parametrize("storage", [np.asarray, sp.csr_array])
def test_rounding_is_not_blown_up_to_unit_length(place, storage):
    """Two equal columns of opposite sign in one bucket: nothing is left of any row."""
    column = np.random.RandomState(0).standard_normal(100)
    X = np.column_stack([column, np.full((100, 3), 0.1), column])
    fitted = sketcher(n_components=1, weighting="zscore", random_state=0)
    embedding = np.asarray(fitted.fit_transform(place(storage(X))))
    assert fitted.signs_[0] == -fitted.signs_[4]
    assert not embedding.any()


def test_columns_that_vary_too_little_count_as_constant(place):
    X = place(np.array([[1.0, 1e-310], [2.0, 0.0], [4.0, 1e-310]]))
    fitted = sketcher(weighting="zscore").fit(X)
    assert fitted.scale_[1] == 1
    assert np.isfinite(np.asarray(fitted.transform(X))).all()


def test_constant_columns_have_scale_one(place):
    X = place(np.array([[0.1, 1.0], [0.1, 2.0], [0.1, 4.0]]))
    fitted = sketcher(weighting="zscore").fit(X)
    assert fitted.scale_[0] == 1
    assert np.isfinite(np.asarray(fitted.transform(X))).all()


@pytest.mark.parametrize("weighting", WEIGHTINGS)
@pytest.mark.parametrize("sparse", [True, False])
def test_rows_without_activity_stay_zero_and_are_counted(
    stack, place, weighting, sparse
):
    X = as_dense(stack)
    X.layers[0][:10] = 0
    for layer in X.layers:
        layer[[3, 277]] = 0
    if sparse:
        X = LayerStack([sp.csr_array(layer) for layer in X.layers])
    fitted = sketcher(weighting=weighting)
    embedding = np.asarray(fitted.fit_transform(place(X)))
    assert fitted.n_zero_rows_ == 2
    assert not embedding[[3, 277]].any()
    assert not embedding[:10, :16].any()
    lengths = np.linalg.norm(np.delete(embedding, [3, 277], axis=0), axis=1)
    np.testing.assert_allclose(lengths, 1, atol=1e-6)
    wide = sketcher(weighting=weighting, layers=list(stack.widths))
    matrix = np.hstack([x.toarray() if sparse else x for x in X.layers])
    matrix = sp.csr_array(matrix) if sparse else matrix
    np.testing.assert_array_equal(wide.fit_transform(place(matrix)), embedding)


def test_explicit_zeros_and_unsummed_entries_count_as_their_sum(stack, place):
    expected = sketcher().fit(stack)
    layers = []
    for layer in stack.layers:
        coo = layer.tocoo()
        # Each entry in two halves, unsorted, and a stored zero in every row.
        rows = np.concatenate([coo.row, np.arange(400), coo.row])[::-1]
        columns = np.concatenate([coo.col, np.zeros(400, int), coo.col])[::-1]
        data = np.concatenate([coo.data / 2, np.zeros(400), coo.data / 2])[::-1]
        order = np.argsort(rows, kind="stable")
        indptr = np.append(0, np.cumsum(np.bincount(rows)))
        layers.append(
            sp.csr_matrix(
                (data[order].astype(np.float32), columns[order], indptr), layer.shape
            )
        )
    split = LayerStack(layers)
    before = [layer.data.copy() for layer in layers]
    fitted = sketcher()
    embedding = fitted.fit_transform(place(split))
    np.testing.assert_array_equal(fitted.df_, expected.df_)
    np.testing.assert_allclose(embedding, expected.transform(stack), atol=1e-6)
    for layer, data in zip(layers, before, strict=True):
        np.testing.assert_array_equal(layer.data, data)


@pytest.mark.parametrize("weighting", WEIGHTINGS)
def test_input_is_never_modified(stack, weighting):
    dense = as_dense(stack)
    wide = as_wide(stack)
    copies = [x.copy() for x in dense.layers], wide.copy()
    sketcher(weighting=weighting, power=0.5, zero_tol=0.5).fit_transform(dense)
    sketcher(
        weighting=weighting, power=0.5, zero_tol=0.5, layers=list(stack.widths)
    ).fit_transform(wide)
    for layer, copy in zip(dense.layers, copies[0], strict=True):
        np.testing.assert_array_equal(layer, copy)
    for part in ("data", "indices", "indptr"):
        np.testing.assert_array_equal(getattr(wide, part), getattr(copies[1], part))


@pytest.mark.parametrize("sparse", [True, False])
def test_zero_tol_and_power(stack, place, sparse):
    X = as_dense(stack, np.float64)
    X.layers[0][:] *= -1  # signs must survive
    prepared = LayerStack(
        [
            np.sign(x) * np.sqrt(np.abs(np.where(np.abs(x) > 0.3, x, 0)))
            for x in X.layers
        ]
    )
    if sparse:
        X = LayerStack([sp.csr_array(x) for x in X.layers])
    fitted = sketcher(weighting="idf", zero_tol=0.3, power=0.5)
    expected = sketcher(weighting="idf")
    np.testing.assert_allclose(
        fitted.fit_transform(place(X)), expected.fit_transform(prepared), atol=1e-6
    )
    np.testing.assert_array_equal(fitted.df_, expected.df_)


@pytest.mark.parametrize("weighting", WEIGHTINGS)
def test_results_do_not_depend_on_threads_blocks_or_company(
    stack, weighting, monkeypatch
):
    expected = sketcher(weighting=weighting).fit_transform(stack)
    with monkeypatch.context() as context:
        context.setattr(skleiden._blocks.sources, "_BLOCK_SIZE", 500)
        for n_jobs in (1, 2, 4):
            again = sketcher(weighting=weighting, n_jobs=n_jobs).fit_transform(stack)
            np.testing.assert_allclose(again, expected, rtol=0, atol=1e-6)
    blocks = sketcher(weighting=weighting, batch_size=7)
    np.testing.assert_allclose(blocks.fit_transform(stack), expected, atol=1e-6)
    for X in (stack, as_dense(stack)):
        one_by_one = [blocks.transform(X[i : i + 1])[0] for i in range(20)]
        np.testing.assert_array_equal(one_by_one, blocks.transform(X)[:20])


def test_threads_give_bitwise_the_same(stack):
    results = [
        sketcher(weighting="zscore", batch_size=50, n_jobs=n_jobs).fit_transform(stack)
        for n_jobs in (1, 2, 4)
    ]
    np.testing.assert_array_equal(results[0], results[1])
    np.testing.assert_array_equal(results[0], results[2])


def test_layer_weights_are_the_layers_shares_of_similarity(stack, place):
    weights = {"layer_0": 3.0, "layer_1": 0.0, "layer_2": 1.0}
    fitted, X = sketcher(layer_weights=weights), place(stack)
    embedding = np.asarray(fitted.fit_transform(X))
    blocks = np.split(embedding, np.cumsum(fitted.n_components_)[:-1], axis=1)
    shares = [np.linalg.norm(block, axis=1) ** 2 for block in blocks]
    np.testing.assert_allclose(shares[0], 0.75, atol=1e-6)
    np.testing.assert_allclose(shares[1], 0.0, atol=1e-6)
    np.testing.assert_allclose(shares[2], 0.25, atol=1e-6)
    np.testing.assert_array_equal(fitted.layer_weights_, [3, 0, 1])
    by_number = sketcher(layer_weights=[3, 0, 1]).fit_transform(X)
    np.testing.assert_array_equal(by_number, embedding)


def test_layer_weights_are_taken_by_name(stack, place):
    X = place(stack)
    expected = sketcher(layer_weights=[3, 0.5, 1]).fit_transform(X)
    names = ["layer_2", "layer_0", "layer_1"]
    for weights in (
        pd.Series([1, 3, 0.5], index=names),
        dict(zip(names, [1, 3, 0.5], strict=True)),
    ):
        found = sketcher(layer_weights=weights).fit_transform(X)
        np.testing.assert_array_equal(found, expected)
    numbered = sketcher(
        layers={17: 300, 18: 300, 19: 300}, layer_weights={19: 1, 17: 3, 18: 0.5}
    )
    found = numbered.fit_transform(place(as_wide(stack)))
    np.testing.assert_array_equal(found, expected)
    assert numbered.layer_names_ == ("17", "18", "19")


@pytest.mark.parametrize("size", [1e308, 1e-320])
def test_only_ratios_of_layer_weights_matter(stack, place, size):
    expected = sketcher(layer_weights=[1, 0, 1]).fit_transform(place(stack))
    found = sketcher(layer_weights=[size, 0, size]).fit_transform(place(stack))
    np.testing.assert_array_equal(found, expected)


def test_sketch_is_unbiased():
    """Mean and variance of inner products over seeds, as the theory has them."""
    rng = np.random.RandomState(0)
    X = rng.standard_normal((2, 50))
    X /= np.linalg.norm(X, axis=1, keepdims=True)
    d, n_seeds = 32, 2000
    dots = np.empty(n_seeds)
    for seed in range(n_seeds):
        fitted = sketcher(n_components=d, weighting="none", random_state=seed)
        signed = fitted.fit(X).signs_ * X
        sketched = np.zeros((d, 2))
        np.add.at(sketched, fitted.buckets_, signed.T)
        dots[seed] = sketched[:, 0] @ sketched[:, 1]
    exact = X[0] @ X[1]
    squares = X[0] ** 2 @ X[1] ** 2
    # Weinberger et al., 2009, for unit vectors.
    variance = (1 + exact**2 - 2 * squares) / d
    assert abs(dots.mean() - exact) < 4 * np.sqrt(variance / n_seeds)
    assert 0.85 < dots.var() / variance < 1.15


def test_hashes_are_uniform():
    fitted = sketcher(n_components=8).fit(np.ones((2, 80_000)))
    counts = np.bincount(fitted.buckets_, minlength=8)
    assert counts.size == 8
    assert np.abs(counts - 10_000).max() < 500
    assert set(np.unique(fitted.signs_)) == {-1, 1}
    assert abs(fitted.signs_.mean()) < 0.02


def test_feature_names_and_set_output(stack):
    fitted = sketcher(n_components=[2, 1, 1]).fit(stack)
    names = ["layer_0_0", "layer_0_1", "layer_1_0", "layer_2_0"]
    assert fitted.get_feature_names_out().tolist() == names
    frame = fitted.set_output(transform="pandas").transform(stack)
    assert frame.columns.tolist() == names
    wide = pd.DataFrame(
        np.eye(4), index=list("abcd"), columns=["a_0", "a_1", "b_0", "b_1"]
    )
    made = sketcher(n_components=1, layers={"a": 2, "b": 2}).set_output(
        transform="pandas"
    )
    frame = made.fit_transform(wide)
    assert frame.index.tolist() == ["a", "b", "c", "d"]
    assert frame.columns.tolist() == ["a_0", "b_0"]
    assert made.feature_names_in_.tolist() == wide.columns.tolist()
    with pytest.raises(ValueError, match="feature names should match"):
        made.transform(wide.rename(columns={"a_0": "z"}))


def test_working_memory_is_bounded_by_batch_size(tmp_path):
    path = tmp_path / "layer.npy"
    np.save(path, np.ones((20_000, 500), dtype=np.float16))
    X = np.load(path, mmap_mode="r")
    make = sketcher(n_components=4, batch_size=100, weighting="zscore")
    make.fit(X[:200])  # imports and caches are not the point
    tracemalloc.start()
    try:
        make.fit_transform(X)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    # The input would take 20 MB in float16; its embedding takes 0.3 MB.
    assert peak < 4e6


def test_progress_is_shown_only_if_asked(stack, capfd):
    sketcher().fit_transform(stack)
    assert capfd.readouterr().err == ""
    sketcher(verbose=1).fit_transform(stack)
    assert "Sketch" in capfd.readouterr().err


def bad(stack):
    nan, inf = as_dense(stack), as_dense(stack)
    nan.layers[1][7, 3] = np.nan
    inf.layers[2][:] = np.inf
    wide = as_wide(stack)
    return {
        "no rows": (stack[:0], {}, ValueError, r"LayerStack with shape \(0, 900\)"),
        "no rows dense": (np.ones((0, 3)), {}, ValueError, "0 sample"),
        "NaN": (
            nan,
            {},
            ValueError,
            r"contains NaN in layer 'layer_1', first in row 7, column 3\. . of rows",
        ),
        "infinity": (inf, {}, ValueError, "contains infinity in layer 'layer_2'"),
        "sparse NaN": (
            sp.csr_array([[np.nan, 1]]),
            {},
            ValueError,
            "contains NaN in layer 'layer_0'",
        ),
        "wide NaN": (
            sp.csr_array([[np.nan, 1]]),
            {"layers": [1, 1]},
            ValueError,
            "contains NaN in layers 'layer_0', 'layer_1'",
        ),
        "list of matrices": (
            list(stack.layers),
            {},
            TypeError,
            r"a list of 3 matrices.*skleiden.LayerStack\(layers\)",
        ),
        "list of arrays": (
            [np.ones((2, 2)), np.ones((2, 2))],
            {},
            TypeError,
            "LayerStack",
        ),
        "tuple of matrices": (stack.layers, {}, TypeError, "a tuple of 3 matrices"),
        "3-D": (np.ones((2, 3, 4)), {}, TypeError, "3 dimensions, shape"),
        "object array of matrices": (
            object_array(stack.layers),
            {},
            TypeError,
            "LayerStack",
        ),
        "dates": (
            np.zeros((2, 2), dtype="M8[D]"),
            {},
            TypeError,
            r"X must hold real numbers; got dtype datetime64\[D\]. Convert it",
        ),
        "strings": (np.array([["a", "b"]]), {}, ValueError, "strings"),
        "1-D": (np.ones(3), {}, ValueError, "Expected 2D array, got 1D array"),
        "widths": (wide, {"layers": [300, 300]}, ValueError, r"add up .*\(sum 600\)"),
        "width of 0": (wide, {"layers": [900, 0]}, ValueError, "at least 1"),
        "widths of floats": (wide, {"layers": [300.0] * 3}, TypeError, "an integer"),
        "no widths": (wide, {"layers": []}, ValueError, "add up"),
        "components": (stack, {"n_components": [4, 4]}, ValueError, "each of the 3"),
        "components 0": (stack, {"n_components": [4, 0, 4]}, ValueError, "at least 1"),
        "n_components": (
            stack,
            {"n_components": 0},
            ValueError,
            "'n_components' param",
        ),
        "0-D components": (
            stack,
            {"n_components": np.array(5)},
            ValueError,
            r"an integer of at least 1, or one for each .*; got array\(5\)",
        ),
        "many components": (
            stack,
            {"n_components": 2**30},
            ValueError,
            r"fewer than 2\*\*31 columns of the embedding; got 1073741824 for 3 layers",
        ),
        "no number": (
            stack,
            {"layer_weights": ["a", "b", "c"]},
            ValueError,
            r"layer_weights must be real numbers; got \['a', 'b', 'c'\]",
        ),
        "huge weight": (
            stack,
            {"layer_weights": [10**400, 1, 1]},
            ValueError,
            "layer_weights must be real numbers; got .*too large",
        ),
        "unnamed Series": (
            stack,
            {"layer_weights": pd.Series([1, 1, 1])},
            ValueError,
            r"must name each layer once; got \['0', '1', '2'\] for the layers",
        ),
        "one name twice": (
            LayerStack({1: np.eye(2), "b": np.eye(2)}),
            {"layer_weights": {1: 1, "1": 1, "b": 1}},
            ValueError,
            r"must name each layer once; got \['1', '1', 'b'\] for the layers",
        ),
        "negative weight": (
            stack,
            {"layer_weights": [1, -1, 1]},
            ValueError,
            r"at least 0 and not all 0; got \[1.0, -1.0, 1.0\]",
        ),
        "zero weights": (stack, {"layer_weights": [0, 0, 0]}, ValueError, "not all 0"),
        "NaN weight": (stack, {"layer_weights": [1, np.nan, 1]}, ValueError, "finite"),
        "too few weights": (stack, {"layer_weights": [1, 1]}, ValueError, "3 layers"),
        "wrong names": (
            stack,
            {"layer_weights": {"layer_0": 1, "mlp": 1, "layer_2": 1}},
            ValueError,
            r"must name each layer once; got \['layer_0', 'layer_2', 'mlp'\]",
        ),
        "weighting": (stack, {"weighting": "tfidf"}, ValueError, "'weighting' param"),
        "zero_tol": (stack, {"zero_tol": -1.0}, ValueError, "'zero_tol' param"),
        "batch_size": (stack, {"batch_size": 0}, ValueError, "'batch_size' param"),
        "dtype": (stack, {"dtype": np.int32}, ValueError, "must be numpy.float32 or"),
        "no dtype": (
            stack,
            {"dtype": "junk"},
            ValueError,
            "dtype must be numpy.float32 or numpy.float64; got 'junk'",
        ),
        "dtype None": (stack, {"dtype": None}, ValueError, "numpy.float64; got None"),
        "overflow": (
            np.where(np.eye(2, 64), 0, 3e38).astype(np.float32),
            {"n_components": 1},
            ValueError,
            r"up to 3e\+38 overflow float32 in layer 'layer_0'. Scale X down, or pass",
        ),
        "overflow of float64": (
            np.where(np.eye(2, 64), 0, 1e308),
            {"n_components": 1},
            ValueError,
            r"up to 1e\+308 overflow float64 in layer 'layer_0'. Scale X down\.$",
        ),
        "overflow of a deviation": (
            LayerStack(
                [np.eye(3), sp.csr_array([[1, 1.7e308], [0, -1.7e308], [0, 0]])]
            ),
            {"weighting": "zscore"},
            ValueError,
            r"column 4 of X, with values up to 1.7e\+308, overflows float64. Scale X d",
        ),
    }


def object_array(items):
    array = np.empty(len(items), dtype=object)
    array[:] = items
    return array


BAD = [
    "no rows",
    "no rows dense",
    "list of matrices",
    "list of arrays",
    "tuple of matrices",
    "3-D",
    "object array of matrices",
    "strings",
    "1-D",
    "widths",
    "width of 0",
    "widths of floats",
    "no widths",
    "components",
    "components 0",
    "n_components",
    "negative weight",
    "zero weights",
    "NaN weight",
    "too few weights",
    "wrong names",
    "weighting",
    "zero_tol",
    "batch_size",
    "dtype",
    "dates",
    "0-D components",
    "many components",
    "no number",
    "huge weight",
    "unnamed Series",
    "one name twice",
    "no dtype",
    "dtype None",
]
# Told by whoever reads the values.
BAD_VALUES = [
    "NaN",
    "infinity",
    "sparse NaN",
    "wide NaN",
    "overflow",
    "overflow of float64",
    "overflow of a deviation",
]


def test_all_bad_input_is_tried(stack):
    assert sorted(bad(stack)) == sorted(BAD + BAD_VALUES)


@pytest.mark.parametrize("case", BAD)
def test_bad_input(stack, case):
    X, parameters, error, message = bad(stack)[case]
    with pytest.raises(error, match=message):
        sketcher(**parameters).fit_transform(X)


@pytest.mark.parametrize("case", BAD_VALUES)
def test_bad_values(stack, place, case):
    X, parameters, error, message = bad(stack)[case]
    with pytest.raises(error, match=message):
        np.asarray(sketcher(**parameters).fit_transform(place(X)))


def test_rows_that_are_not_finite_are_told(stack, place):
    X = as_dense(stack)
    X.layers[2][[271, 270, 399], [1, 3, 0]] = np.nan
    message = r"NaN in layer 'layer_2', first in row 270, column 3\. . of rows"
    with pytest.raises(ValueError, match=message):
        sketcher().fit(place(X))


def test_rows_far_from_those_of_fit(place):
    X = np.random.RandomState(0).standard_normal((50, 4))
    fitted = sketcher(weighting="zscore").fit(place(1e-300 * X))
    with pytest.raises(
        ValueError, match=r"overflow float64 .* divided by standard deviations down to"
    ):
        np.asarray(fitted.transform(place(1e100 * X)))


@pytest.mark.parametrize(
    ("dtype", "names"),
    [
        (np.float32, ["float32"]),
        ("float64", ["float64"]),
        (np.dtype(float), ["float64"]),
        ("junk", []),
        (None, []),
        (int, []),
    ],
)
def test_tags_of_any_dtype(dtype, names):
    tags = get_tags(sketcher(dtype=dtype))
    assert tags.transformer_tags.preserves_dtype == names


def test_other_layers_than_fitted(stack, place):
    X = place(stack)
    fitted = sketcher().fit(X)
    swapped = LayerStack(X.layers, names=["layer_1", "layer_0", "layer_2"])
    with pytest.raises(ValueError, match=r"in their order; got \{'layer_1': 300"):
        fitted.transform(swapped)
    with pytest.raises(ValueError, match="X has 600 features, but"):
        fitted.transform(LayerStack(X.layers[:2]))
    # One matrix of the same width is split by the fitted layers.
    np.testing.assert_array_equal(
        fitted.transform(place(as_wide(stack))), fitted.transform(X)
    )


def test_extreme_values_keep_their_direction(place):
    X = place(np.array([[3.0, 4.0], [3e-300, 4e-300], [3e200, 4e200]]))
    made = sketcher(weighting="none", dtype=np.float64)
    embedding = np.asarray(made.fit_transform(X))
    np.testing.assert_allclose(np.linalg.norm(embedding, axis=1), 1)
    np.testing.assert_allclose(embedding[1:], embedding[[0, 0]])


# --- out ------------------------------------------------------------------------------


@pytest.fixture
def room(stack, tmp_path):
    """A file for the embedding of `sketcher()`."""
    shape = (len(stack), sketcher().fit_transform(stack).shape[1])
    return np.lib.format.open_memmap(
        tmp_path / "embedding.npy", mode="w+", dtype=np.float32, shape=shape
    )


@pytest.mark.parametrize("method", ["fit_transform", "transform"])
@pytest.mark.parametrize("weighting", ["idf", "zscore"])
def test_out_is_filled_and_returned(stack, room, weighting, method, tmp_path):
    with_gaps = LayerStack([*stack.layers[:2], sp.csr_array(stack.layers[2].shape)])
    made = sketcher(weighting=weighting).fit(with_gaps)
    expected = made.transform(with_gaps)
    assert getattr(made, method)(with_gaps, out=room) is room
    np.testing.assert_array_equal(np.load(tmp_path / "embedding.npy"), expected)
    # What was there before does not matter.
    room[:] = np.nan
    getattr(made.set_params(n_jobs=2), method)(with_gaps, out=room)
    np.testing.assert_array_equal(room, expected)


def test_out_of_the_sketch_in_a_pipeline(stack, room):
    pipeline = make_pipeline(sketcher(), MutualKNNLeiden(5, random_state=0))
    labels = pipeline.fit(stack).named_steps["mutualknnleiden"].labels_
    room[:] = np.nan
    pipeline.fit(stack, multilayertfidfsketcher__out=room)
    np.testing.assert_array_equal(room, pipeline[0].transform(stack))
    np.testing.assert_array_equal(pipeline[-1].labels_, labels)


def test_out_with_another_container(stack, room):
    expected = sketcher().fit_transform(stack)
    made = sketcher().set_output(transform="pandas")
    frame = made.fit_transform(stack, out=room)
    assert isinstance(frame, pd.DataFrame)
    assert list(frame.columns) == list(made.get_feature_names_out())
    np.testing.assert_array_equal(frame, expected)
    np.testing.assert_array_equal(room, expected)


def test_out_is_no_metadata_to_route():
    assert not hasattr(sketcher(), "set_transform_request")


def masked(out):
    return np.ma.masked_array(out)


def read_only(out):
    out.flags.writeable = False
    return out


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        (lambda out: out.tolist(), TypeError, "array or memory map; got list. Pass"),
        (masked, TypeError, "got MaskedArray. Pass"),
        (
            lambda out: out[1:],
            ValueError,
            r"shape \(\d+, \d+\); got shape \(\d+, \d+\)\. Pass numpy\.empty\(\(\d+, ",
        ),
        (
            lambda out: out.astype(np.float64),
            ValueError,
            "the sketcher's dtype, float32; got float64. Pass",
        ),
        (lambda out: out.astype(">f4"), ValueError, "dtype, float32; got >f4"),
        (
            lambda out: np.asfortranarray(out),
            ValueError,
            r"C-ordered and contiguous; got an array with strides \(4, \d+\)\. Pass",
        ),
        (read_only, ValueError, r"writable; got a read-only array\. Open a memory map"),
    ],
    ids=["list", "masked", "shape", "dtype", "byte order", "order", "read-only"],
)
@pytest.mark.parametrize("method", ["fit_transform", "transform"])
def test_out_that_does_not_fit(stack, change, error, message, method):
    made = sketcher().fit(stack)
    out = change(np.zeros_like(made.transform(stack)))
    before = vars(made).copy()
    with pytest.raises(error, match=message):
        getattr(made, method)(stack, out=out)
    assert vars(made) == before
    if error is ValueError:
        assert not out.any()


@pytest.mark.parametrize("method", ["fit_transform", "transform"])
def test_out_that_is_the_input(method):
    X = np.random.default_rng(0).random((20, 8), dtype=np.float32)
    made = MultiLayerTfidfSketcher(8, random_state=0).fit(X)
    with pytest.raises(ValueError, match=r"not share memory, .* with X; got layer"):
        getattr(made, method)(X, out=X)


def test_a_failed_fit_transform_into_out_changes_nothing(stack, room):
    made = sketcher().fit(stack)
    before = vars(made).copy()
    huge = LayerStack(as_dense(stack).layers)  # of which sums overflow in the sketch
    huge.layers[2][-1] = 3e38
    with pytest.raises(ValueError, match=r"overflow float32 in layer 'layer_2'"):
        made.fit_transform(huge, out=room)
    assert vars(made) == before


def test_a_single_large_entry_has_a_standard_deviation(place):
    """Its square overflows, as one of several would."""
    X = np.zeros((4, 2))
    X[0, 0], X[:, 1] = 1e200, np.arange(4)
    for stored in (X, sp.csr_array(X)):
        made = sketcher(n_components=2, weighting="zscore").fit(place(stored))
        np.testing.assert_allclose(
            made.scale_, [1e200 * np.sqrt(3) / 4, np.std(X[:, 1])]
        )


@pytest.mark.parametrize("weighting", WEIGHTINGS)
@pytest.mark.parametrize("weights", [None, [1.0, 3.0, 0.5]])
def test_similarity_of_rows_that_are_active_in_different_layers(
    place, weighting, weights
):
    """It is the sum over common layers, divided by the lengths over each row's own."""
    rng = np.random.default_rng(0)
    layers = [rng.random((6, 400)) + 0.1 for _ in range(3)]
    active = np.array(
        [[1, 0, 0], [1, 1, 0], [1, 1, 1], [0, 1, 1], [0, 0, 1], [1, 0, 1]]
    )
    layers = [layer * active[:, [i]] for i, layer in enumerate(layers)]
    made = sketcher(n_components=4096, layer_weights=weights, weighting=weighting)
    X = place(LayerStack(layers))
    embedding = np.asarray(made.set_params(dtype=np.float64).fit(X).transform(X))
    shares = np.ones(3) if weights is None else np.array(weights)
    lengths = np.sqrt(active @ shares)
    expected = np.zeros((6, 6))
    starts = np.cumsum([0, *made.n_components_])
    for i, share in enumerate(shares):
        part = embedding[:, starts[i] : starts[i + 1]]
        length = np.linalg.norm(part, axis=1)
        part = part / np.where(length > 0, length, 1)[:, None]
        expected += share * part @ part.T
    expected /= np.outer(lengths, lengths)
    np.testing.assert_allclose(embedding @ embedding.T, expected, atol=1e-12)


def test_smallest_example_of_a_layer_that_one_row_lacks(place):
    rng = np.random.default_rng(0)
    a, b = rng.random((2, 900)), rng.random((2, 900))
    b[0] = 0
    made = sketcher(n_components=4096, weighting="none")
    embedding = np.asarray(made.fit_transform(place(LayerStack([a, b]))))
    cosine = a[0] @ a[1] / np.linalg.norm(a[0]) / np.linalg.norm(a[1])
    assert abs(embedding[0] @ embedding[1] - cosine / np.sqrt(2)) < 0.03
    assert abs(embedding[0] @ embedding[1] - cosine) > 0.15


def test_a_tolerance_beyond_all_numbers(stack):
    """Nothing is active then; no number overflows."""
    assert not sketcher(zero_tol=1e300).fit_transform(stack).any()


# --- how layers are taken -------------------------------------------------------------


def gelu(x):
    """The tanh form of GELU, whose negative values are small (Hendrycks, 2016)."""
    return 0.5 * x * (1 + np.tanh(np.sqrt(2 / np.pi) * (x + 0.044715 * x**3)))


@pytest.fixture(scope="module")
def of_kinds():
    """Layers after ReLU, after GELU, and with signs, of the same rows."""
    x = np.random.default_rng(0).standard_normal((120, 40)) - 0.3
    kinds = {"relu": np.maximum(x, 0), "gelu": gelu(2 * x), "signed": x * (x + 2)}
    return LayerStack({name: of.astype(np.float32) for name, of in kinds.items()})


@pytest.mark.parametrize("form", ["dense", "sparse", "wide", "wide sparse"])
def test_auto_takes_each_layer_as_its_signs_tell(of_kinds, place, form):
    widths = dict(zip(of_kinds.names, of_kinds.widths, strict=True))
    wide = np.hstack(of_kinds.layers)
    X, layers = {
        "dense": (of_kinds, None),
        "sparse": (
            LayerStack([*map(sp.csr_array, of_kinds.layers)], names=widths),
            None,
        ),
        "wide": (wide, widths),
        "wide sparse": (sp.csr_array(wide), widths),
    }[form]
    made = sketcher(layers=layers)
    found = np.asarray(made.fit_transform(place(X)))
    assert made.weighting_ == ("idf", "idf", "zscore")
    assert made.positive_part_.tolist() == [True, True, False]
    parts = np.split(found, 3, axis=1)
    for i, (weighting, layer) in enumerate(
        zip(made.weighting_, of_kinds.layers, strict=True)
    ):
        taken = np.maximum(layer, 0) if weighting == "idf" else layer
        # The hashes of one layer alone are others: they are copied in.
        alone = sketcher(weighting=weighting).fit(taken)
        columns = slice(40 * i, 40 * i + 40)
        alone.buckets_ = made.buckets_[columns] - 16 * i
        alone.signs_ = made.signs_[columns]
        expected = alone.transform(taken) / np.sqrt(3)
        np.testing.assert_allclose(parts[i], expected, atol=1e-6)
        assert_array_equal(made.df_[columns], alone.df_)
    assert_array_equal(made.idf_[80:], 1)
    assert_array_equal(made.scale_[:80], 1)


def test_auto_is_idf_bit_for_bit_without_negative_values(stack, place):
    auto, idf = sketcher(), sketcher(weighting="idf")
    assert_array_equal(
        np.asarray(auto.fit_transform(place(stack))),
        np.asarray(idf.fit_transform(place(stack))),
    )
    assert auto.weighting_ == ("idf",) * 3
    # What is negative in later rows is not active either.
    flipped = LayerStack([-layer for layer in stack.layers], names=stack.names)
    assert not np.asarray(auto.transform(place(flipped))).any()
    assert np.asarray(idf.transform(place(flipped))).any()


def test_auto_decides_at_the_first_rows(of_kinds):
    made = sketcher().partial_fit(of_kinds[:60])
    assert made.weighting_ == ("idf", "idf", "zscore")
    other = LayerStack(of_kinds.layers[::-1], names=of_kinds.names)
    assert made.partial_fit(other).weighting_ == ("idf", "idf", "zscore")
    assert made.n_samples_seen_ == 180


@pytest.mark.parametrize(
    ("lowest", "highest", "weighting"),
    [
        (-0.17, 3, "idf"),
        (-0.3, 1.2, "idf"),
        (-0.3, 1.1, "zscore"),
        (-0.32, 9, "zscore"),
        (-0.1, 0, "zscore"),
        (0, 0, "idf"),
    ],
)
@pytest.mark.parametrize("form", [np.asarray, sp.csr_array])
def test_what_counts_as_the_tail_of_an_activation_function(
    place, form, lowest, highest, weighting
):
    X = np.array([[highest, 0.0, lowest / 2], [0.0, 0.0, lowest], [0.0, 0.0, 0.0]])
    wide = form(np.hstack([X, np.abs(X)]))
    assert sketcher().fit(place(form(X))).weighting_ == (weighting,)
    made = sketcher(layers=[3, 3]).fit(place(wide))
    assert made.weighting_ == (weighting, "idf")


def test_constant_idf_is_told(of_kinds):
    message = r"idf' weights nothing in the layers \['signed'\], where every column is"
    with pytest.warns(UserWarning, match=message):
        sketcher(weighting="idf").fit(of_kinds)


@pytest.mark.parametrize("weighting", ["idf", "none"])
@pytest.mark.parametrize("form", [np.asarray, sp.csr_array])
def test_centred_rows_are_those_less_their_mean(place, weighting, form):
    X = np.maximum(np.random.default_rng(0).standard_normal((80, 30)), 0)
    X[7] = 0
    made = sketcher(weighting=weighting, center=True, dtype=np.float64)
    found = np.asarray(made.fit_transform(place(form(X))))
    weighted = X * getattr(made, "idf_", 1)
    centred = np.where(X.any(axis=1)[:, None], weighted - weighted.mean(axis=0), 0)
    plain = sketcher(weighting="none", dtype=np.float64).fit(X)
    assert_array_equal(plain.buckets_, made.buckets_)
    np.testing.assert_allclose(found, plain.transform(centred), atol=1e-9)
    assert not found[7].any()


@pytest.mark.parametrize("power", [0.0, 0.3, 1.0])
@pytest.mark.parametrize("form", [np.asarray, sp.csr_array])
def test_powers_keep_signs(of_kinds, place, power, form):
    X = of_kinds.layers[2].astype(np.float64)
    made = sketcher(weighting="none", power=power, dtype=np.float64)
    expected = sketcher(weighting="none", dtype=np.float64).fit_transform(
        np.sign(X) * np.abs(X) ** power
    )
    found = np.asarray(made.fit_transform(place(form(X))))
    np.testing.assert_allclose(found, expected, atol=1e-9)
