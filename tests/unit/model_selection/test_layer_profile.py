import re
import sys

import numpy as np
import pandas as pd
import pytest
from numpy.testing import assert_array_equal
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from skleiden import LayerStack, MultiLayerTfidfSketcher, MutualKNNLeiden
from skleiden._stages import replicate
from skleiden.datasets import make_layered_activations
from skleiden.model_selection import layer_profile, permute_columns
from skleiden.plotting import LayerProfileDisplay

FEW = {"n_splits": 2, "n_permutations": 2}  # which take half as long as the defaults


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


@pytest.fixture(scope="module")
def profile(mixed):
    return layer_profile(None, mixed, **FEW)


def assert_same(found, expected):
    for name, column in expected.table.items():
        assert_array_equal(found.table[name], column, err_msg=name)
    assert_array_equal(found.agreement, expected.agreement)
    assert found.weights_ == expected.weights_


def test_layers_with_communities_are_above_their_null(profile):
    table = profile.table
    assert table["layer"].tolist() == ["a", "noise", "b"]
    assert_array_equal(table["width"], [400, 400, 400])
    assert table["above_null"].tolist() == [True, False, True]
    assert (table["worst_split"] <= table["replicability"]).all()
    assert (table["replicability"] - table["null"])[[0, 2]].min() > 0.5
    assert_array_equal(table["n_communities"][[0, 2]], [4, 4])
    assert set(table["resolution"]) <= set(replicate.RESOLUTIONS)
    assert profile.best() in ("a", "b")
    assert repr(profile) == (
        "<LayerProfile: 3 layers, 2 above their null, best "
        + repr(profile.best())
        + ">"
    )


def test_agreement_is_of_pairs_of_layers(profile):
    agreement = profile.agreement
    assert_array_equal(agreement, agreement.T)
    assert_array_equal(np.diag(agreement), np.ones(3))
    assert agreement[0, 2] > 0.9
    assert abs(agreement[1, [0, 2]]).max() < 0.1


def test_weights_are_for_the_sketcher(profile, mixed):
    assert profile.weights_["a"] == profile.weights_["b"] == 1
    assert profile.weights_["noise"] < 0.1
    fitted = MultiLayerTfidfSketcher(layer_weights=profile.weights_).fit(mixed)
    assert_array_equal(fitted.layer_weights_, profile.table["weight"])


def test_the_weights_are_those_of_the_sketcher(mixed):
    """The same seed, divisions and neighbours give what "auto" finds."""
    seed = int(np.random.RandomState(3).randint(2**31 - 1))
    found = layer_profile(None, mixed, n_splits=2, n_permutations=0, random_state=3)
    assert np.isnan(found.table["null"]).all()
    fitted = MultiLayerTfidfSketcher(layer_weights="auto", random_state=3).fit(mixed)
    assert seed == fitted._draw_seed()
    assert_array_equal(found.table["replicability"], fitted.layer_replicability_)
    assert_array_equal(found.table["weight"], fitted.layer_weights_)


def test_parameters_of_a_pipeline_count(mixed, profile):
    clusterer = MutualKNNLeiden(replicate.N_NEIGHBORS)
    plain = MultiLayerTfidfSketcher(8, layer_weights=[1, 2, 3], random_state=7)
    nested = make_pipeline(make_pipeline(plain, clusterer))
    assert_same(layer_profile(nested, mixed, **FEW), profile)
    assert not hasattr(plain, "df_")
    for other in (
        make_pipeline(plain, MutualKNNLeiden(5)),
        MultiLayerTfidfSketcher(weighting="zscore"),
        MultiLayerTfidfSketcher(power=0.0),
    ):
        found = layer_profile(other, mixed, n_splits=2, n_permutations=0)
        assert (found.table["replicability"] != profile.table["replicability"]).any()


def test_a_wide_matrix_is_divided_by_the_sketcher(mixed, profile):
    wide = np.hstack([layer.toarray() for layer in mixed.layers])
    sketcher = MultiLayerTfidfSketcher(layers={"a": 400, "noise": 400, "b": 400})
    assert_same(layer_profile(sketcher, wide, **FEW), profile)


@pytest.mark.parametrize(
    "estimator", [StandardScaler(), MutualKNNLeiden(), make_pipeline(StandardScaler())]
)
def test_other_estimators_are_refused(estimator, mixed):
    name = type(getattr(estimator, "steps", [("", estimator)])[0][1]).__name__
    with pytest.raises(TypeError, match=f"begins with one, or None; got {name}"):
        layer_profile(estimator, mixed)


def test_parameters_out_of_range_are_refused(mixed):
    for name, value in (("n_rows", 1), ("n_splits", 1), ("n_permutations", -1)):
        with pytest.raises(ValueError, match=f"'{name}' parameter of layer_profile"):
            layer_profile(None, mixed, **{name: value})
    with pytest.raises(ValueError, match="'weighting' parameter"):
        layer_profile(MultiLayerTfidfSketcher(weighting="best"), mixed)


def test_rows_are_sampled_in_whatever_order(mixed):
    options = {"n_rows": 200, "n_splits": 2, "n_permutations": 1}
    expected = layer_profile(None, mixed, **options)
    order = np.random.RandomState(0).permutation(300)
    assert_same(layer_profile(None, mixed[order], **options), expected)
    assert_same(layer_profile(None, mixed, n_jobs=2, **options), expected)


def test_too_few_different_rows_are_told(mixed):
    with pytest.warns(UserWarning, match=r"judged by 4 different rows, drawn from the"):
        layer_profile(None, mixed[np.arange(300) % 4], n_permutations=0)


def test_the_same_on_workers(mixed, workers):
    from tests.conftest import on_workers

    options = {"n_rows": 200, "n_splits": 2, "n_permutations": 1}
    expected = layer_profile(None, mixed, **options)
    assert_same(layer_profile(None, on_workers(mixed), **options), expected)


def test_best_refuses_where_there_is_nothing(mixed):
    noise = permute_columns(mixed, random_state=1)
    profile = layer_profile(None, noise, **FEW)
    assert not profile.table["above_null"].any()
    assert "none to trust" in repr(profile)
    with pytest.raises(ValueError, match=r"None of 3 layers is above its null: .*-\d"):
        profile.best()
    with pytest.raises(ValueError, match="look at the table, or try another weighting"):
        profile.best()


@pytest.mark.slow
def test_permuted_columns_are_not_above_their_null(mixed):
    """Runs of the claim that benchmarks/bench_layers.py makes more of."""
    for seed in range(2):
        noise = permute_columns(mixed, random_state=seed)
        profile = layer_profile(None, noise, random_state=seed)
        assert not profile.table["above_null"].any()


def test_one_layer_of_one_column(mixed):
    X = LayerStack([mixed.layers[0].toarray()[:, :1]])
    profile = layer_profile(None, X, n_permutations=1)
    assert profile.table["replicability"] <= 0
    assert not profile.table["above_null"].any()
    assert profile.weights_ == {"layer_0": 1.0}


@pytest.mark.parametrize(
    ("error", "text"),
    [(KeyboardInterrupt, "Interrupted"), (MemoryError, "Out of memory")],
)
def test_a_profile_that_is_cut_short_holds_what_was_done(
    error, text, mixed, profile, monkeypatch
):
    compare, calls = replicate.compare_halves, []

    def stop(*arguments):
        calls.append(arguments)
        if len(calls) > 4:  # in the second layer, whose null is not done
            raise error
        return compare(*arguments)

    monkeypatch.setattr(replicate, "compare_halves", stop)
    with pytest.warns(UserWarning, match=f"{text}: the profile holds 1 of 3 layers"):
        found = layer_profile(None, mixed, **FEW)
    assert found.table["layer"].tolist() == ["a"]
    assert found.table["replicability"][0] == profile.table["replicability"][0]
    assert found.agreement.shape == (1, 1)
    monkeypatch.setattr(
        replicate, "compare_halves", lambda *_: (_ for _ in ()).throw(error)
    )
    with pytest.raises(error):
        layer_profile(None, mixed)


def test_progress_is_shown(mixed, capsys):
    layer_profile(None, mixed, n_splits=2, n_permutations=1, verbose=1)
    assert "Layers: 6/6 in" in capsys.readouterr().err


def test_frame(profile, monkeypatch):
    frame = profile.to_frame()
    assert list(frame) == list(profile.table)
    pd.testing.assert_series_equal(
        frame["weight"], pd.Series(profile.table["weight"], name="weight")
    )
    monkeypatch.setitem(sys.modules, "pandas", None)
    with pytest.raises(ImportError, match="to_frame needs pandas: pip install pandas"):
        profile.to_frame()


def test_display(profile):
    plt = pytest.importorskip("matplotlib.pyplot")
    display = profile.plot()
    first, second, third = display.axes_
    assert_array_equal(first.lines[0].get_ydata(), profile.table["replicability"])
    assert_array_equal(first.lines[1].get_ydata(), profile.table["null"])
    assert_array_equal(second.lines[0].get_ydata(), profile.table["n_communities"])
    assert_array_equal(display.image_.get_array(), profile.agreement)
    assert [tick.get_text() for tick in third.get_yticklabels()] == ["a", "noise", "b"]
    figure, axes = plt.subplots(1, 3)
    again = LayerProfileDisplay.from_profile(profile, axes=axes)
    assert again.figure_ is figure
    plt.close("all")


def test_display_refuses_other_things(profile):
    pytest.importorskip("matplotlib")
    with pytest.raises(TypeError, match=r"must be a LayerProfile.*got dict"):
        LayerProfileDisplay.from_profile({})
    with pytest.raises(ValueError, match="axes must be 3 Axes; got 1"):
        profile.plot([None])
    table = {name: of for name, of in profile.table.items() if name != "null"}
    with pytest.raises(ValueError, match=re.escape("it lacks ['null']")):
        LayerProfileDisplay(table, profile.agreement).plot()
