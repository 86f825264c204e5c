"""Layers weighed by whether halves of their columns find the same communities."""

import functools
import pickle

import numpy as np
import pytest
import scipy.sparse as sp
from numpy.testing import assert_allclose, assert_array_equal
from sklearn.base import clone
from sklearn.metrics import adjusted_rand_score
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline

from skleiden import LayerStack, MultiLayerTfidfSketcher, MutualKNNLeiden
from skleiden._sketcher import _divided
from skleiden._stages import replicate
from skleiden.datasets import make_layered_activations
from skleiden.io import load_estimator, save_estimator
from skleiden.model_selection import (
    FullDataSplit,
    make_stability_scorer,
    permute_columns,
)
from tests.checks import check_fitted


def sketcher(**parameters):
    given = {"n_components": 16, "layer_weights": "auto", "random_state": 0}
    return MultiLayerTfidfSketcher(**given | parameters)


@pytest.fixture(scope="module")
def mixed():
    """Two layers of four communities, and one of noise."""
    stack, _ = make_layered_activations(
        300, n_layers=3, n_neurons=400, n_communities=4, signal=0.8, random_state=0
    )
    noise = permute_columns(stack, random_state=0)
    return LayerStack(
        {"a": stack.layers[0], "noise": noise.layers[1], "b": stack.layers[2]}
    )


@pytest.fixture
def few_rows(monkeypatch):
    """A sample of fewer rows than there are."""
    monkeypatch.setattr(replicate, "N_ROWS", 200)


def assert_same(found, expected):
    assert_array_equal(found.layer_replicability_, expected.layer_replicability_)
    assert_array_equal(found.layer_weights_, expected.layer_weights_)
    assert found.n_components_ == expected.n_components_


def test_layers_of_noise_weigh_little(mixed, place):
    fitted = sketcher().fit(place(mixed))
    check_fitted(fitted)
    a, noise, b = fitted.layer_weights_
    assert a == b == 1
    assert 0.001 <= noise < 0.1
    assert fitted.layer_replicability_[[0, 2]].min() > 0
    assert fitted.layer_replicability_[1] < 0


def test_columns_are_a_budget(mixed, place):
    X = place(mixed)
    fitted = sketcher(n_components=16)
    assert fitted.fit_transform(X).shape == (300, 48)
    assert sum(fitted.n_components_) == 48
    assert fitted.n_components_[1] < 4
    assert abs(fitted.n_components_[0] - fitted.n_components_[2]) <= 1
    stated = sketcher(n_components=[8, 16, 24]).fit(X)
    assert stated.n_components_ == (8, 16, 24)
    assert_array_equal(stated.layer_weights_, fitted.layer_weights_)


@pytest.mark.parametrize(
    ("total", "weights", "expected"),
    [
        (48, [1, 1, 1], [16, 16, 16]),
        (192, [3, 0, 1], [143, 1, 48]),
        (3, [1e308, 1e308, 1e-320], [1, 1, 1]),
        (7, [1, 1, 1], [3, 2, 2]),
        (100, [0.001, 1, 0.001], [1, 98, 1]),
    ],
)
def test_division_of_columns(total, weights, expected):
    found = _divided(total, np.array(weights, dtype=np.float64))
    assert sum(found) == total
    assert found == expected


def test_stated_weights_divide_columns_too(stack):
    fitted = sketcher(layer_weights=[1, 2, 1]).fit(stack)
    assert fitted.n_components_ == (12, 24, 12)


def test_layers_that_are_alike_are_taken_as_without_weights(stack, place):
    X = place(stack)
    found, expected = sketcher(), sketcher(layer_weights=None)
    assert_array_equal(
        np.asarray(found.fit_transform(X)), np.asarray(expected.fit_transform(X))
    )
    assert_array_equal(found.layer_weights_, np.ones(3))
    assert found.layer_replicability_.shape == (3,)
    assert not hasattr(expected, "layer_replicability_")


def test_one_layer_costs_nothing(mixed, monkeypatch):
    def fail(*_):
        raise AssertionError

    monkeypatch.setattr(replicate, "compare_halves", fail)
    fitted = sketcher().fit(mixed.layers[0])
    assert_array_equal(fitted.layer_weights_, [1.0])
    assert not hasattr(fitted, "layer_replicability_")
    check_fitted(fitted)


def test_every_storage_gives_the_same(mixed, place, few_rows, tmp_path):
    expected = sketcher().fit(place(mixed))
    dense = [layer.toarray() for layer in mixed.layers]
    names = mixed.names
    stacked = LayerStack(dict(zip(names, dense, strict=True)))
    assert_same(sketcher().fit(place(stacked)), expected)
    layers = dict(zip(names, mixed.widths, strict=True))
    for wide in (sp.csr_array(sp.hstack(mixed.layers)), np.hstack(dense)):
        assert_same(sketcher(layers=layers).fit(place(wide)), expected)


def test_files_and_tensors_give_the_same(mixed, few_rows, tmp_path):
    h5py, torch = pytest.importorskip("h5py"), pytest.importorskip("torch")
    zarr = pytest.importorskip("zarr")
    expected = sketcher().fit(mixed)
    dense = {n: of.toarray() for n, of in zip(mixed.names, mixed.layers, strict=True)}
    maps, zarrs = {}, {}
    for name, layer in dense.items():
        np.save(tmp_path / f"{name}.npy", layer)
        maps[name] = np.load(tmp_path / f"{name}.npy", mmap_mode="r")
        stored = zarr.open_group(tmp_path / "zarr", mode="a")
        zarrs[name] = stored.create_array(
            name, shape=layer.shape, dtype=layer.dtype, chunks=(70, 400)
        )
        zarrs[name][:] = layer
    tensors = {name: torch.from_numpy(layer) for name, layer in dense.items()}
    with h5py.File(tmp_path / "x.h5", "w") as file:
        sets = {name: file.create_dataset(name, data=of) for name, of in dense.items()}
        for layers in (maps, zarrs, tensors, sets):
            assert_same(sketcher().fit(LayerStack(layers)), expected)


def test_the_same_on_workers(mixed, few_rows, workers):
    from tests.conftest import on_workers

    assert_same(sketcher().fit(on_workers(mixed)), sketcher().fit(mixed))


@pytest.mark.parametrize("weighting", ["idf", "zscore"])
def test_threads_and_batches_change_nothing(mixed, few_rows, weighting):
    expected = sketcher(weighting=weighting).fit(mixed)
    for parameters in ({"n_jobs": 2}, {"batch_size": 37}):
        if weighting == "idf" or "n_jobs" in parameters:
            found = sketcher(weighting=weighting, **parameters).fit(mixed)
            assert_same(found, expected)


def test_the_order_of_the_rows_changes_nothing(mixed, few_rows):
    expected = sketcher().fit(mixed)
    for seed in range(3):
        order = np.random.RandomState(seed).permutation(300)
        assert_same(sketcher().fit(mixed[order]), expected)


UNUSUAL = {
    "tiny": ("auto", lambda X: X * 1e-46),
    "huge": ("auto", lambda X: X * 2.0**1000),
    "offset": ("zscore", lambda X: X + 1e9),
    "tiny, signed": ("zscore", lambda X: X * 1e-300),
}


@pytest.fixture(scope="module")
def fits_here(mixed):
    """Fits on dense layers, usual and unusual ones, each made once."""

    @functools.cache
    def fit(weighting, kind):
        change = UNUSUAL[kind][1] if kind else np.asarray
        layers = [change(layer.toarray().astype(np.float64)) for layer in mixed.layers]
        return sketcher(weighting=weighting).fit(LayerStack(layers, names=mixed.names))

    return fit


@pytest.mark.parametrize(
    ("place", "storage"),
    [  # fits on dense layers here are what the others are compared with
        ("here", sp.csr_array),
        ("on workers", np.asarray),
        ("on workers", sp.csr_array),
    ],
    indirect=["place"],
)
@pytest.mark.parametrize("kind", UNUSUAL)
def test_rows_that_differ_beyond_single_precision(
    mixed, fits_here, place, few_rows, kind, storage
):
    """Which rows are drawn depends on X; the weights that are found hardly do."""
    weighting, change = UNUSUAL[kind]
    layers = [
        storage(change(layer.toarray().astype(np.float64))) for layer in mixed.layers
    ]
    fitted = sketcher(weighting=weighting).fit(
        place(LayerStack(layers, names=mixed.names))
    )
    assert_same(fitted, fits_here(weighting, kind))
    expected = fits_here(weighting, None)
    a, noise, b = fitted.layer_weights_
    assert min(a, b) > 0.5
    assert noise < 0.3
    assert_allclose(
        fitted.layer_replicability_, expected.layer_replicability_, atol=0.5
    )


def test_too_few_different_rows_are_told(mixed, place):
    few = mixed[np.arange(300) % 16]
    message = (
        r"judged by 16 different rows, drawn from the 300 of X; with fewer than 17,.*"
        r"Set layer_weights=None"
    )
    fitted = sketcher()
    with pytest.warns(UserWarning, match=message) as told:
        fitted.fit(place(few))
    assert [one.filename for one in told] == [__file__]
    sketcher(layer_weights=None).fit(few)  # and here nothing is said, nor
    sketcher().fit(mixed[np.arange(16)])  # where there are few rows at all
    sketcher().fit(mixed[np.arange(300) % 17])


def test_repeated_rows_are_sampled_once(mixed, few_rows):
    expected = sketcher(weighting="none").fit(mixed)
    order = np.append(np.arange(300), np.repeat(7, 2000))
    assert_same(sketcher(weighting="none").fit(mixed[order]), expected)


def test_seeds(mixed):
    again, other = sketcher().fit(mixed), sketcher(random_state=1).fit(mixed)
    assert_same(again, sketcher().fit(mixed))
    assert (again.layer_replicability_ != other.layer_replicability_).any()
    generator = sketcher(random_state=np.random.RandomState(0)).fit(mixed)
    assert_array_equal(generator.layer_replicability_, again.layer_replicability_)


def test_partial_fit_decides_by_its_first_call(mixed):
    fitted = sketcher().partial_fit(mixed[np.arange(250)])
    expected = sketcher().fit(mixed[np.arange(250)])
    assert_same(fitted, expected)
    assert_same(fitted.partial_fit(mixed[np.arange(250, 300)]), expected)
    assert fitted.n_samples_seen_ == 300
    check_fitted(fitted)


def test_a_refit_without_weights_forgets_them(mixed):
    fitted = sketcher().fit(mixed).set_params(layer_weights=None).fit(mixed)
    assert not hasattr(fitted, "layer_replicability_")
    assert_array_equal(fitted.layer_weights_, np.ones(3))
    check_fitted(fitted)


def test_copies_and_files(mixed, tmp_path):
    fitted = sketcher().fit(mixed)
    embedding = fitted.transform(mixed)
    save_estimator(tmp_path / "x.skleiden", fitted)
    loaded = load_estimator(tmp_path / "x.skleiden")
    for copy in (pickle.loads(pickle.dumps(fitted)), loaded):
        assert_same(copy, fitted)
        assert copy.layer_weights == "auto"
        assert_array_equal(copy.transform(mixed), embedding)
    assert clone(fitted).layer_weights == "auto"
    fitted.layer_weights_ = np.ones(3)
    with pytest.raises(ValueError, match=r"layer_weights_ must be"):
        check_fitted(fitted)


def test_progress_is_shown(mixed, capsys):
    sketcher(verbose=1).fit(mixed)
    assert "Replicability: 3/3 in" in capsys.readouterr().err


def test_an_unknown_word_is_refused(mixed):
    with pytest.raises(ValueError, match=r"'layer_weights' param.*'auto'.*Got 'best'"):
        sketcher(layer_weights="best").fit(mixed)


DEGENERATE = {
    "one column": lambda X: X[:, :1],
    "two columns": lambda X: X[:, :2],
    "zeros": np.zeros_like,
    "constant": np.ones_like,
    "equal rows": lambda X: np.repeat(X[:1], len(X), axis=0),
    "rare": lambda X: X * (np.arange(len(X)) < 3)[:, None],
    "one active column": lambda X: X * (np.arange(X.shape[1]) < 1),
}


@pytest.mark.parametrize("weighting", ["auto", "zscore"])
@pytest.mark.parametrize("kind", DEGENERATE)
def test_layers_that_say_nothing(kind, weighting, place):
    rng = np.random.default_rng(0)
    good = 3 * np.eye(3)[np.arange(90) % 3].repeat(20, axis=1)
    good = np.abs(good + rng.standard_normal((90, 60)))
    X = place(LayerStack({"good": good, "other": DEGENERATE[kind](good)}))
    fitted = sketcher(weighting=weighting)
    embedding = np.asarray(fitted.fit_transform(X))
    check_fitted(fitted)
    assert np.isfinite(fitted.layer_replicability_).all()
    assert np.isfinite(embedding).all()
    assert fitted.layer_weights_[0] == 1


@pytest.mark.parametrize("n", [1, 2, 3, 10])
def test_few_rows_have_an_answer(mixed, n):
    fitted = sketcher().fit(mixed[np.arange(n)])
    check_fitted(fitted)
    assert np.isfinite(fitted.layer_replicability_).all()
    assert fitted.transform(mixed).shape == (300, 48)


def test_a_rows_only_layer_is_not_lost(mixed):
    """A row that is active in a layer of noise alone has an embedding still."""
    layers = [layer.toarray() for layer in mixed.layers]
    layers[0][5] = layers[2][5] = 0
    fitted = sketcher()
    embedding = fitted.fit_transform(LayerStack(layers))
    assert fitted.layer_weights_[1] < 0.1
    assert_allclose(np.linalg.norm(embedding[5]), 1, atol=1e-6)


def test_in_a_pipeline_with_a_larger_part_of_noise(mixed):
    _, planted = make_layered_activations(
        300, n_layers=3, n_neurons=400, n_communities=4, signal=0.8, random_state=0
    )
    noise = [permute_columns(mixed, random_state=s).layers[0] for s in range(6)]
    X = LayerStack([mixed.layers[0], *noise])
    pipeline = make_pipeline(sketcher(), MutualKNNLeiden(15, random_state=0))
    auto = adjusted_rand_score(planted, pipeline.fit_predict(X))
    pipeline[0].set_params(layer_weights=None)
    equal = adjusted_rand_score(planted, pipeline.fit_predict(X))
    assert auto > max(0.9, equal)


@pytest.mark.slow
def test_in_a_search_of_parameters(mixed):
    pipeline = make_pipeline(sketcher(), MutualKNNLeiden(10, random_state=0))
    name = "multilayertfidfsketcher__layer_weights"
    search = GridSearchCV(
        pipeline,
        {name: [None, "auto", [1, 2, 1]]},
        scoring=make_stability_scorer(n_runs=2),
        cv=FullDataSplit(),
        refit=False,
    ).fit(mixed)
    assert np.isfinite(search.cv_results_["mean_test_score"]).all()


# --- the stage ------------------------------------------------------------------------


def test_weights_fall_with_replicability():
    r = np.array([2.0, 1.6, 1.5, 1.25, 1.0, -3.0])
    found = replicate.weights_of(r)
    assert_allclose(found, [1, 1, 1, 0.368, 0.135, 0.001])
    assert_array_equal(replicate.weights_of(r - 7), found)


def test_halves_are_disjoint_and_all(mixed, monkeypatch):
    seen = []

    def record(layer, columns, *_):
        seen.append(columns)
        return [np.arange(300) % 2, np.arange(300) // 150, np.zeros(300, dtype=int)]

    monkeypatch.setattr(replicate, "partitions_of", record)
    (layer, *_) = sketcher()._profiled_layers(mixed, 300, 0)
    found = replicate.compare_halves(layer, replicate.Halving(3))
    assert len(seen) == 6
    for one, other in zip(seen[::2], seen[1::2], strict=True):
        assert_array_equal(one, ~other)
        assert one.sum() == 200
    assert (seen[0] != seen[2]).any()
    assert_allclose(found.information[:, 0], np.log(2), atol=0.01)
    assert_allclose(found.information[:, 2], -np.log(300))  # which says nothing
