"""Which groups of neurons drive which communities: a table, in words and drawn."""

import sys
import tracemalloc
from itertools import pairwise

import h5py
import numpy as np
import pandas as pd
import pytest
import scipy.sparse as sp
import zarr
from numpy.testing import assert_allclose, assert_array_equal
from sklearn.cluster import KMeans
from sklearn.metrics.cluster import contingency_matrix
from sklearn.preprocessing import StandardScaler, normalize

from skleiden import LayerStack
from skleiden._blocks import sources
from skleiden.datasets import make_layered_activations
from skleiden.inspection import CrossTable, DrivingPair, cross_table
from skleiden.plotting import CrossTableDisplay, png

rng = np.random.default_rng(0)
EARLY = (rng.integers(1, 40, (60, 7)) / 8 * (rng.random((60, 7)) < 0.6)).round(3)
LATE = rng.integers(-40, 40, (60, 6)) / 8
EARLY[:, 2], EARLY[:, 5], LATE[:, 1] = 0, 3, -2  # silent and constant neurons
WIDE = np.hstack([EARLY, LATE])
LAYERS = {"early": 7, "late": 6}
# Community 1 has no prompt, group 2 no neuron; some of both are in none.
PROMPTS = np.tile([0, 2, 3, 3, -1, 4], 10)
NEURONS = np.array([0, 1, 0, 3, -1, 4, 1, 0, 4, 1, 3, 0, -1])


def cohens_d(inside, outside):
    n, m = inside.size, outside.size
    pooled = (n * inside.var() + m * outside.var()) / (n + m - 2)
    return (inside.mean() - outside.mean()) / np.sqrt(pooled)


def rests_in(scores, labels):
    """The communities of the lower part of the division with the least squares.

    Rows in no community are of the lower part.
    """
    order = sorted(set(labels[labels >= 0]), key=lambda c: -scores[labels == c].mean())
    divisions = [(scores.size * scores.var(), order)]
    for k in range(1, len(order) + 1):
        above = np.isin(labels, order[:k])
        if not above.all() and scores[above].mean() > scores[~above].mean():
            squares = sum(of.size * of.var() for of in (scores[above], scores[~above]))
            divisions.append((squares, order[k:]))
    return min(divisions, key=lambda pair: pair[0])[1]


def expected(X, labels, neurons):
    """Means and effects as `cross_table` defines them, from the values themselves."""
    shape = neurons.max() + 1, labels.max() + 1
    means, effects = np.full(shape, np.nan), np.full(shape, np.nan)
    for g in set(neurons[neurons >= 0]):
        of = X[:, neurons == g]
        of = of[:, of.std(axis=0) > 0]
        scores = np.zeros(len(X))
        if of.shape[1]:
            scores = ((of - of.mean(axis=0)) / of.std(axis=0)).mean(axis=1)
        rest_of_all = [*rests_in(scores, labels), -1]
        for c in set(labels[labels >= 0]):
            inside = labels == c
            rest = np.isin(labels, rest_of_all) & ~inside
            means[g, c] = scores[inside].mean()
            effects[g, c] = 0
            if of.shape[1]:
                effects[g, c] = cohens_d(scores[inside], scores[rest])
    return means, effects


@pytest.fixture(scope="module")
def table():
    return cross_table(PROMPTS, NEURONS, {"early": EARLY, "late": LATE})


@pytest.fixture(scope="module")
def planted():
    """Rows, and planted communities, groups of neurons and drives."""
    return make_layered_activations(
        600,
        n_neurons=400,
        n_neuron_groups=6,
        n_communities=8,
        nnz_per_row=40,
        return_neuron_groups=True,
        random_state=0,
    )


def test_equals_plain_numpy(table):
    positive = np.hstack([EARLY, LATE])  # as they are, for late ones have signs
    means, effects = expected(positive, PROMPTS, NEURONS)
    assert_allclose(table.means, means, atol=1e-8)
    assert_allclose(table.effects, effects, atol=1e-7)
    assert_array_equal(table.group_sizes, [4, 3, 0, 2, 2])
    assert_array_equal(table.community_sizes, [10, 0, 10, 20, 10])
    assert table.layer_names == ("early", "late")
    shares = [[1 / 2, 1 / 2], [2 / 3, 1 / 3], [np.nan] * 2, [1 / 2] * 2, [1 / 2] * 2]
    assert_allclose(table.layers, shares)
    assert not table.drives[:, 1].any()
    assert not table.drives[2].any()
    assert table.chance.shape == table.effects.shape


def test_negative_values_of_activation_functions_count_as_zero():
    X = np.where(EARLY == 0, -0.1, EARLY)
    neurons = NEURONS[:7]
    assert_allclose(
        cross_table(PROMPTS, neurons, X).effects,
        cross_table(PROMPTS, neurons, EARLY).effects,
    )


def zarr_of(_):
    group = zarr.open_group(zarr.storage.MemoryStore(), mode="w")
    for name, matrix in (("early", EARLY), ("late", LATE)):
        stored = group.create_array(
            name, shape=matrix.shape, dtype=matrix.dtype, chunks=(7, matrix.shape[1])
        )
        stored[:] = matrix
    return LayerStack({name: group[name] for name in LAYERS})


def hdf5_of(_):
    file = h5py.File("in memory", "w", driver="core", backing_store=False)
    return LayerStack({"early": file.create_dataset("early", data=EARLY), "late": LATE})


def maps_of(folder):
    for name, matrix in (("early", EARLY), ("late", LATE)):
        np.save(folder / f"{name}.npy", matrix)
    return LayerStack(
        {name: np.load(folder / f"{name}.npy", mmap_mode="r") for name in LAYERS}
    )


def tensors_of(_):
    torch = pytest.importorskip("torch")
    half = torch.tensor(LATE, dtype=torch.bfloat16)  # exact: multiples of 1 / 8
    return LayerStack({"early": torch.tensor(EARLY), "late": half})


FORMS = {
    "stack": lambda _: LayerStack({"early": EARLY, "late": LATE}),
    "sparse": lambda _: {"early": sp.csr_array(EARLY), "late": sp.csc_matrix(LATE)},
    "maps": maps_of,
    "Zarr": zarr_of,
    "HDF5": hdf5_of,
    "tensors": tensors_of,
    "wide": lambda _: WIDE,
    "wide CSR": lambda _: sp.csr_matrix(WIDE),
    "wide frame": lambda _: pd.DataFrame(WIDE),
}


@pytest.mark.parametrize("block", [None, 50], ids=["at once", "in blocks"])
@pytest.mark.parametrize("form", FORMS)
def test_the_same_of_every_form(form, block, table, tmp_path, monkeypatch):
    if block is not None:
        monkeypatch.setattr(sources, "_BLOCK_SIZE", block)
    X = FORMS[form](tmp_path)
    layers = LAYERS if "wide" in form else None
    found = cross_table(PROMPTS, NEURONS, X, layers=layers)
    for name in ("means", "effects", "chance", "drives"):
        assert_allclose(getattr(found, name), getattr(table, name), atol=1e-12)
    assert found.layer_names == table.layer_names


def test_the_same_in_any_order_of_rows(planted):
    stack, labels, groups, _ = planted
    found = cross_table(labels, groups, stack)
    for seed in range(3):
        rows = np.random.default_rng(seed).permutation(len(stack))
        again = cross_table(labels[rows], groups, stack[rows])
        for name in ("means", "effects", "chance", "drives"):
            assert_array_equal(getattr(again, name), getattr(found, name))


def test_signed_layers_are_the_same_in_any_order_of_rows():
    found = cross_table(PROMPTS, NEURONS, LayerStack({"early": EARLY, "late": LATE}))
    rows = np.random.default_rng(0).permutation(60)
    X = {"early": sp.csr_array(EARLY[rows]), "late": LATE[rows]}
    again = cross_table(PROMPTS[rows], NEURONS, X)
    for name in ("means", "effects", "chance", "drives"):
        assert_array_equal(getattr(again, name), getattr(found, name))


def test_seed(planted):
    stack, labels, groups, _ = planted
    first, again, other = (
        cross_table(labels, groups, stack, random_state=seed).chance
        for seed in (3, np.random.RandomState(3), 4)
    )
    assert_array_equal(first, again)
    assert (first != other).any()


# --- planted groups -------------------------------------------------------------------

# Rows, layers, neurons a layer, groups, communities, and how many each group drives.
SHAPES = {
    "two each": (600, 4, 500, 8, 8, (2, 2)),
    "one each": (500, 2, 400, 6, 6, (1, 1)),
    "two to eight of twenty": (1500, 4, 512, 10, 20, (2, 8)),
    "most of ten": (1000, 3, 512, 6, 10, (2, 8)),
    "one layer": (800, 1, 300, 5, 10, (2, 4)),
    "many": (2000, 4, 1024, 24, 30, (2, 8)),
}


def drives_of(n_groups, n_communities, least, most, rng):
    while True:
        drives = np.zeros((n_groups, n_communities), dtype=bool)
        for group in drives:
            n_driven = rng.integers(least, most + 1)
            group[rng.choice(n_communities, n_driven, replace=False)] = True
        if drives.any(axis=0).all():
            return drives


def with_signs(stack, rng):
    """The same with noise, offsets and scales of neurons, as after no ReLU."""
    return LayerStack(
        [
            (layer.toarray() + 0.3 * rng.standard_normal(layer.shape))
            * rng.lognormal(size=layer.shape[1])
            + rng.standard_normal(layer.shape[1])
            for layer in stack.layers
        ]
    )


@pytest.mark.parametrize("signed", [False, True], ids=["ReLU", "signed"])
@pytest.mark.parametrize("shape", SHAPES)
def test_planted_drives_are_found_and_none_besides(shape, signed):
    n, n_layers, n_neurons, n_groups, n_communities, driven = SHAPES[shape]
    for seed in range(2):
        rng = np.random.default_rng(seed)
        drives = drives_of(n_groups, n_communities, *driven, rng)
        stack, labels, groups, _ = make_layered_activations(
            n, n_layers, n_neurons, n_communities=n_communities, nnz_per_row=40,
            signal=0.5, drives=drives, return_neuron_groups=True, random_state=seed,
        )  # fmt: skip
        if signed:
            stack = with_signs(stack, rng)
        assert_array_equal(cross_table(labels, groups, stack).drives, drives)


def test_permuted_labels_give_none(planted):
    stack, labels, groups, _ = planted
    found = []
    for seed in range(30):
        labels = np.random.default_rng(seed).permutation(labels)
        table = cross_table(
            labels, groups, stack, n_permutations=99, min_effect=0, random_state=seed
        )
        found.append(table.drives.any())
    assert sum(found) <= 1  # of a hundred, one is expected
    assert not cross_table(labels, groups, stack).drives.any()


def test_groups_that_were_found_on_other_prompts():
    stack, labels, groups, drives = make_layered_activations(
        2000, n_neurons=400, n_neuron_groups=6, n_communities=8, nnz_per_row=40,
        signal=0.7, return_neuron_groups=True, random_state=0,
    )  # fmt: skip
    half = np.arange(2000) % 2 == 0
    X = np.hstack([layer.toarray() for layer in stack[half].layers])
    placed = groups >= 0
    neurons = normalize(StandardScaler().fit_transform(X).T[placed])
    found = np.full(groups.size, -1)
    found[placed] = KMeans(6, n_init=5, random_state=0).fit_predict(neurons)
    overlap = contingency_matrix(groups[placed], found[placed])
    assert overlap.max(axis=1).sum() > 0.95 * overlap.sum()
    table = cross_table(labels[~half], found, stack[~half])
    assert_array_equal(table.drives[overlap.argmax(axis=1)], drives)


def test_small_communities_do_not_hide_others(planted):
    """Of one or two prompts, which have large effects by chance."""
    stack, labels, groups, drives = planted
    labels = labels.copy()
    rows = np.random.default_rng(0).permutation(labels.size)[:40]
    labels[rows] = 8 + np.arange(40) % 30
    table = cross_table(labels, groups, stack)
    assert_array_equal(table.drives[:, :8], drives)


def test_prompts_in_no_community_are_among_the_rest(planted):
    stack, labels, groups, drives = planted
    some = np.where(labels < 3, labels, -1)
    table = cross_table(some, groups, stack)
    assert table.effects.shape == (6, 3)
    assert not (table.drives & ~drives[:, :3]).any()
    only = cross_table(np.where(labels == 0, 0, -1), groups, stack)
    assert_array_equal(only.drives[:, 0], drives[:, 0])


def test_a_group_of_prompts_in_no_community_drives_nothing():
    """It is active in these, and less so in all communities."""
    labels = np.repeat([-1, 0, 1, 2], 50)
    X = np.random.default_rng(0).standard_normal((200, 6)) + 9 * (labels[:, None] < 0)
    table = cross_table(labels, [0] * 6, X)
    assert table.effects.max() < 0
    assert not table.drives.any()


# --- edges ----------------------------------------------------------------------------


def test_all_prompts_in_one_community():
    table = cross_table(np.zeros(60, int), NEURONS, WIDE)
    assert np.isnan(table.effects).all()
    assert np.isnan(table.chance).all()
    assert_allclose(table.means[[0, 1, 3, 4]], 0, atol=1e-12)
    assert not table.drives.any()


def test_two_communities_are_each_others_rest():
    labels = np.arange(60) % 2
    effects = cross_table(labels, NEURONS, WIDE).effects[[0, 1, 3, 4]]
    assert_allclose(effects[:, 0], -effects[:, 1])


@pytest.mark.parametrize("n_permutations", [0, 200])
def test_neurons_that_do_not_vary_drive_nothing(n_permutations):
    X = np.tile([0.0, 3.0, -2.0, 0.1], (60, 1))
    table = cross_table(
        PROMPTS, [0, 0, 1, 1], X, n_permutations=n_permutations, min_effect=0
    )
    present = table.community_sizes > 0
    assert_array_equal(table.effects[:, present], 0)
    assert_array_equal(table.means[:, present], 0)
    assert not table.drives.any()


def test_opposite_neurons_leave_nothing():
    values = np.random.default_rng(0).standard_normal((60, 3))
    X = np.hstack([values, -1.1 * values])
    table = cross_table(PROMPTS, [0] * 6, X, min_effect=0)
    assert_allclose(np.nan_to_num(table.effects), 0)


def test_scales_and_offsets_of_neurons_do_not_matter():
    X = np.random.default_rng(0).standard_normal((60, 13))
    plain = cross_table(PROMPTS, NEURONS, X)
    factors = 10.0 ** np.linspace(-150, 150, 13)
    found = cross_table(PROMPTS, NEURONS, X * factors)
    assert_allclose(found.effects, plain.effects, rtol=1e-6)
    assert_array_equal(found.drives, plain.drives)


def test_effects_without_spread_are_finite_and_found():
    """Prompts of a community are all alike, and so are the others."""
    labels = np.repeat([0, 1, 2], 20)
    X = np.eye(3)[labels]
    table = cross_table(labels, [0, 1, 2], X)
    assert np.isfinite(table.effects).all()
    assert_array_equal(table.drives, np.eye(3, dtype=bool))


def test_chance_may_be_left_out(table):
    found = cross_table(PROMPTS, NEURONS, WIDE, layers=LAYERS, n_permutations=0)
    assert np.isnan(found.chance).all()
    assert_allclose(found.effects, table.effects)
    assert_array_equal(found.drives, np.nan_to_num(found.effects) >= 0.8)


@pytest.mark.parametrize(
    ("prompts", "neurons", "shape"),
    [
        (PROMPTS, [-1] * 13, (0, 5)),
        ([-1] * 60, NEURONS, (5, 0)),
        ([-1] * 60, [-1] * 13, (0, 0)),
    ],
    ids=["no group", "no community", "neither"],
)
def test_nothing_to_tell(prompts, neurons, shape):
    table = cross_table(prompts, neurons, WIDE)
    assert table.effects.shape == table.drives.shape == table.chance.shape == shape
    assert table.pairs() == []
    assert len(table.to_frame()) == 0
    with pytest.raises(ValueError, match=r"There is no (group of neurons|community)"):
        table.plot()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"prompt_labels": PROMPTS[1:]}, "prompt_labels must give one label for each "
         "row of X; got 59 for 60. Pass labels of prompts first"),
        ({"neuron_labels": NEURONS[1:]}, "neuron_labels must give one label for each "
         "neuron of all layers; got 12 for 13. Pass labels of prompts first"),
        ({"prompt_labels": PROMPTS / 2}, "prompt_labels: labels must be one integer"),
        ({"neuron_labels": NEURONS / 2}, "neuron_labels: labels must be one integer"),
        ({"neuron_labels": NEURONS - 1}, "neuron_labels: labels must be at least 0"),
        ({"prompt_labels": PROMPTS[None]}, r"prompt_labels: .* got shape \(1, 60\)"),
        ({"layers": [7, 7]}, r"add up to the columns of X; got \(7, 7\)"),
        ({"n_permutations": 98}, r"'n_permutations' parameter .* Got 98 instead"),
        ({"n_permutations": 100.0}, r"'n_permutations' parameter .* Got 100.0 instead"),
        ({"min_effect": -0.1}, r"'min_effect' parameter .* Got -0.1 instead"),
        ({"X": np.where(WIDE == 3, np.nan, WIDE)}, "X contains NaN in layer 'layer_0'"),
        ({"X": 1.7e308 * np.sign(WIDE)}, "standard deviation overflows float64, up to "
         r"1.7e\+308. Scale X down"),
    ],
)  # fmt: skip
def test_errors(options, message):
    given = {"prompt_labels": PROMPTS, "neuron_labels": NEURONS, "X": WIDE} | options
    with pytest.raises(ValueError, match=message):
        cross_table(**given)


def test_refuses_other_kinds_of_X():
    da = pytest.importorskip("dask.array")
    for X, message in (
        (da.from_array(WIDE), "X must be layers in memory or in files here; got Dask"),
        (WIDE[None], "X must have one row per sample; got an array of 3 dimensions"),
        ([EARLY, LATE], "X must have one row per sample; got a list of 2 matrices"),
    ):
        with pytest.raises(TypeError, match=message):
            cross_table(PROMPTS, NEURONS, X)


def test_memory_is_bounded():
    """Nothing but scores of groups is held, and blocks of rows."""
    n, n_groups = 20_000, 10
    X, labels = make_layered_activations(n, 3, 2000, nnz_per_row=40, random_state=0)
    neurons = np.arange(6000) % n_groups
    cross_table(labels[:100], neurons, X[:100], n_permutations=99)  # imports
    tracemalloc.start()
    cross_table(labels, neurons, X, n_permutations=99)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    held = n * n_groups * 16
    assert peak < held + 60e6  # the layers have 18 MB, dense they would have 480


# --- frames, pairs, words -------------------------------------------------------------


def made_up(drives, effects=None, sizes=None, layers=None, names=("a", "b", "c", "d")):
    drives = np.array(drives, dtype=bool)
    effects = drives * 2.0 if effects is None else np.array(effects)
    n_groups, n_communities = drives.shape
    return CrossTable(
        means=effects / 10,
        effects=effects,
        chance=np.full(drives.shape, 0.5),
        drives=drives,
        group_sizes=np.full(n_groups, 5) if sizes is None else np.array(sizes),
        community_sizes=np.full(n_communities, 9),
        layers=np.full((n_groups, 4), 0.25) if layers is None else np.array(layers),
        layer_names=names,
    )


def test_frame_has_a_row_for_each_pair(table):
    frame = table.to_frame()
    assert list(frame) == [
        "group", "community", "n_neurons", "n_prompts", "mean", "effect", "chance",
        "drives",
    ]  # fmt: skip
    assert len(frame) == 4 * 4
    assert frame["group"].unique().tolist() == [0, 1, 3, 4]
    assert frame["community"].unique().tolist() == [0, 2, 3, 4]
    for row in frame.itertuples():
        assert row.effect == table.effects[row.group, row.community]
        assert row.n_prompts == table.community_sizes[row.community]
    assert not frame.isna().to_numpy().any()


def test_frame_says_how_to_install_pandas(table, monkeypatch):
    monkeypatch.setitem(sys.modules, "pandas", None)
    with pytest.raises(ImportError, match="to_frame needs pandas: pip install pandas"):
        table.to_frame()
    assert table.table["group"].size == 16


def test_pairs_are_strongest_first():
    effects = [[1.0, 3.0, 0.1], [2.0, 0.2, 0.3]]
    table = made_up([[1, 1, 0], [1, 0, 0]], effects)
    assert table.pairs() == [
        DrivingPair(0, 1, 3.0, 0.3),
        DrivingPair(1, 0, 2.0, 0.2),
        DrivingPair(0, 0, 1.0, 0.1),
    ]
    assert repr(table) == (
        "<CrossTable: 2 groups of neurons, 3 communities of prompts, 3 driving pairs>"
    )
    assert "1 group of neurons, 1 community of prompts, 1 driving pair>" in repr(
        made_up([[1]])
    )


def test_words():
    table = made_up(
        [[1, 1, 0], [0, 0, 1], [1, 1, 1], [0, 0, 0], [0, 0, 0]],
        [[1.0, 2.0, 0.0], [0, 0, 1], [3, 1, 2], [0, 0, 0], [0, 0, 0]],
        sizes=[41, 1, 20, 7, 0],
        layers=[
            [0.0, 0.5, 0.25, 0.25],
            [0.0, 0.0, 1.0, 0.0],
            [0.5, 0.05, 0.45, 0.0],
            [0.25] * 4,
            [np.nan] * 4,
        ],
        names=("mlp_2", "mlp_3", "mlp_4", "mlp_5"),
    )
    assert table.describe() == [
        "group 0 (41 neurons, layers mlp_3 to mlp_5) drives communities 1 and 0",
        "group 1 (1 neuron, layer mlp_4) drives community 2",
        "group 2 (20 neurons, mostly layers mlp_2 and mlp_4) drives communities 0, 2 "
        "and 1",
        "group 3 drives no community",
    ]


@pytest.mark.parametrize(
    ("shares", "words"),
    [
        ([1, 1, 0, 0], "layers a and b"),
        ([1, 1, 0, 1], "layers a, b and d"),
        ([1, 1, 1, 1], "layers a to d"),
        ([0, 0, 0, 1], "layer d"),
        ([1, 1, 1, 0, 1], "layers a to c and e"),
        ([20, 1, 0, 0, 1], "mostly layer a"),
    ],
)
def test_layers_in_words(shares, words):
    layers = np.array(shares) / sum(shares)
    (line,) = made_up([[1]], layers=[layers], names=tuple("abcde")).describe()
    assert line == f"group 0 (5 neurons, {words}) drives community 0"


def test_groups_that_drive_nothing_are_one_line():
    assert made_up([[0]] * 3).describe() == ["groups 0, 1 and 2 drive no community"]
    assert made_up([[0]] * 2, sizes=[3, 0]).describe() == [
        "group 0 drives no community"
    ]


# --- the picture ----------------------------------------------------------------------


@pytest.fixture
def plt():
    plt = pytest.importorskip("matplotlib.pyplot")
    plt.switch_backend("Agg")
    yield plt
    plt.close("all")


def tick_texts(axis):
    return [text.get_text() for text in axis.get_ticklabels()]


def test_draws_the_effects_in_the_order_shown(plt, planted):
    stack, labels, groups, drives = planted
    table = cross_table(labels, groups, stack)
    display = table.plot()
    shown = table.effects[display.groups_][:, display.communities_]
    assert_array_equal(display.image_.get_array(), shown)
    assert tick_texts(display.ax_.yaxis) == [str(g) for g in display.groups_]
    assert tick_texts(display.ax_.xaxis) == [str(c) for c in display.communities_]
    dots = {tuple(place) for place in display.dots_.get_offsets().astype(int).tolist()}
    at_row, at_column = np.nonzero(drives[display.groups_][:, display.communities_])
    assert dots == set(zip(at_column.tolist(), at_row.tolist(), strict=True))
    low, high = display.image_.get_clim()
    assert low == -high < 0
    assert display.ax_.get_xlabel() == "Community of prompts"
    assert display.ax_.get_ylabel() == "Group of neurons"


def test_blocks_lie_along_the_diagonal(plt):
    n = 12
    drives = np.eye(n, dtype=bool) | np.roll(np.eye(n, dtype=bool), 1, axis=1)
    rng = np.random.default_rng(0)
    drives = drives[rng.permutation(n)][:, rng.permutation(n)]
    display = made_up(drives, 3.0 * drives + 0.1 * rng.random((n, n))).plot()
    at_row, at_column = np.nonzero(drives[display.groups_][:, display.communities_])
    apart = np.abs(at_row - at_column)
    assert np.median(apart) <= 1  # but where the circle is cut
    assert sorted(display.groups_) == sorted(display.communities_) == list(range(n))


def test_empty_ones_are_left_out_and_nan_is_hatched(plt, table):
    display = CrossTableDisplay(table).plot()
    assert sorted(display.groups_) == [0, 1, 3, 4]
    assert sorted(display.communities_) == [0, 2, 3, 4]
    alone = cross_table(np.zeros(60, int), NEURONS, WIDE).plot()
    assert alone.image_.get_array().mask.all()
    assert alone.ax_.patch.get_hatch()
    alone.figure_.canvas.draw()


@pytest.mark.parametrize("n", [60, 200])
def test_labels_do_not_overlap(plt, n):
    rng = np.random.default_rng(0)
    display = made_up(rng.random((n, n)) < 0.05, rng.random((n, n))).plot()
    display.figure_.canvas.draw()
    for axis in (display.ax_.xaxis, display.ax_.yaxis):
        boxes = [text.get_window_extent() for text in axis.get_ticklabels()]
        assert len(boxes) == (n if n <= 64 else n // 5)
        side = "x" if axis is display.ax_.xaxis else "y"
        ends = sorted((getattr(b, f"{side}0"), getattr(b, f"{side}1")) for b in boxes)
        overlaps = [stop - start for (_, stop), (start, _) in pairwise(ends)]
        assert max(overlaps) < 1


def test_draws_on_the_axes_given(plt, planted):
    stack, labels, groups, _ = planted
    ax = plt.figure(layout="constrained").subplots()
    display = CrossTableDisplay.from_predictions(
        labels, groups, stack, ax=ax, n_permutations=0
    )
    assert (display.ax_, display.figure_) == (ax, ax.figure)
    assert png(display)[1:4] == b"PNG"


def test_limit(plt, table):
    assert CrossTableDisplay(table).plot(limit=2.5).image_.get_clim() == (-2.5, 2.5)
    with pytest.raises(ValueError, match="limit must be above 0; got 0"):
        CrossTableDisplay(table).plot(limit=0)


def test_says_how_to_install_matplotlib(table, monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    monkeypatch.setitem(sys.modules, "matplotlib.pyplot", None)
    with pytest.raises(ImportError, match=r'pip install "skleiden\[plot\]"'):
        table.plot()
    with pytest.raises(ImportError, match=r'pip install "skleiden\[plot\]"'):
        CrossTableDisplay.from_predictions(PROMPTS, NEURONS, WIDE)
