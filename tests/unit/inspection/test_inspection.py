"""Members, prototypes and top features of communities."""

import tracemalloc

import numpy as np
import pandas as pd
import pytest
import scipy.sparse as sp
from numpy.testing import assert_allclose, assert_array_equal
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from skleiden import LayerStack, MultiLayerTfidfSketcher, MutualKNNLeiden
from skleiden._blocks import sources
from skleiden._text import encodable
from skleiden.inspection import (
    Communities,
    TopFeature,
    describe_communities,
    members,
    prototypes,
    summarize,
    top_features,
)
from skleiden.inspection._firing import firing_in, firing_of
from skleiden.io import load_communities, save_communities
from skleiden.plotting import (
    CommunityMapDisplay,
    CommunitySizesDisplay,
    LayerAgreementDisplay,
    PrototypeHeatmapDisplay,
    png,
)
from skleiden.report import write_report

# Multiples of 1/8: sums are exact in any order, and float16 holds them.
rng = np.random.default_rng(0)
WIDE = rng.integers(0, 40, size=(30, 9)) / 8 * (rng.random((30, 9)) < 0.6)
LAYERS = {"early": 4, "late": 5}
EARLY, LATE = WIDE[:, :4], WIDE[:, 4:]
# Community 1 has no member, and every fifth row is noise.
LABELS = np.tile([0, 2, 3, 2, -1], 6)


@pytest.fixture
def mapped(tmp_path):
    np.save(tmp_path / "late.npy", LATE)
    return np.load(tmp_path / "late.npy", mmap_mode="r")


def in_halves(matrix):
    """The same matrix with every value stored in two halves."""
    data, indices = np.repeat(matrix.data / 2, 2), np.repeat(matrix.indices, 2)
    return sp.csr_array((data, indices, 2 * matrix.indptr), shape=matrix.shape)


FORMS = {
    "stack": lambda _: (LayerStack({"early": EARLY, "late": LATE}), None),
    "memory map": lambda late: (LayerStack({"early": EARLY, "late": late}), None),
    "mapping": lambda _: ({"early": EARLY, "late": LATE}, None),
    "float16": lambda _: (
        {"early": EARLY.astype(np.float16), "late": LATE.astype(np.float16)},
        None,
    ),
    "sparse": lambda _: (
        {"early": sp.csr_array(EARLY), "late": sp.csr_matrix(LATE)},
        None,
    ),
    "mixed": lambda late: ({"early": sp.csc_array(EARLY), "late": late}, None),
    "wide": lambda _: (WIDE, LAYERS),
    "wide CSR": lambda _: (sp.csr_matrix(WIDE), LAYERS),
    "wide CSC": lambda _: (sp.csc_array(WIDE, dtype=np.float32), LAYERS),
    "wide DataFrame": lambda _: (pd.DataFrame(WIDE), LAYERS),
    "not canonical": lambda _: (in_halves(sp.csr_array(WIDE)), LAYERS),
}


@pytest.fixture(params=FORMS.values(), ids=FORMS)
def form(request, mapped):
    return request.param(mapped)


@pytest.fixture(params=[None, 1, 50], ids="block size {}".format)
def row_batches(request, monkeypatch):
    """Rows read all at once, one by one, and a few at a time."""
    if request.param is not None:
        monkeypatch.setattr(sources, "_BLOCK_SIZE", request.param)


def buffers(X):
    """The arrays that hold X."""
    if isinstance(X, LayerStack):
        X = dict(zip(X.names, X.layers, strict=True))
    if isinstance(X, dict):
        return [array for block in X.values() for array in buffers(block)]
    return [X.data, X.indices, X.indptr] if sp.issparse(X) else [np.asarray(X)]


def expected_top(community, n_features, versus, weighting="row"):
    """Neurons as `top_features` defines them, from the rows themselves."""
    is_in = np.isin(LABELS, community)
    inside, outside = WIDE[is_in], WIDE[~is_in]
    n, m = len(inside), len(outside)
    baseline = outside if versus == "others" else WIDE
    mean, share = baseline.mean(0), np.mean(baseline != 0, axis=0)
    if weighting == "community":
        counted = [c for c in (0, 2, 3) if versus == "global" or c != community]
        groups = [WIDE[np.isin(LABELS, c)] for c in counted]
        mean = np.mean([group.mean(0) for group in groups], axis=0)
        share = np.mean([np.mean(group != 0, axis=0) for group in groups], axis=0)
    if versus == "others":
        squares = (n - 1) * inside.var(0, ddof=1) + (m - 1) * outside.var(0, ddof=1)
        deviation = np.sqrt(squares / (n + m - 2))
    else:
        deviation = WIDE.std(0, ddof=1)
    effect = (inside.mean(0) - mean) / deviation
    places = [(name, j) for name, width in LAYERS.items() for j in range(width)]
    return [
        TopFeature(
            *places[j],
            pytest.approx(effect[j]),
            inside[:, j].mean(),
            pytest.approx(mean[j]),
            np.mean(inside[:, j] != 0),
            pytest.approx(share[j]),
        )
        for j in np.argsort(-effect, kind="stable")[:n_features]
        if effect[j] > 0
    ]


# --- members --------------------------------------------------------------------------


def test_members_are_rows_largest_first():
    found = members(LABELS)
    assert list(found) == [2, 0, 3]
    for community, rows in found.items():
        assert type(community) is int
        assert rows == np.flatnonzero(np.isin(LABELS, community)).tolist()


@pytest.mark.parametrize("ids", [list("abcde"), np.array(list("abcde")), iter("abcde")])
def test_members_lists_ids(ids):
    found = members([1, 0, 1, -1, 1], ids, min_size=1)
    assert found == {1: [*"ace"], 0: ["b"]}


@pytest.mark.parametrize(
    "ids", [["q", 1, 2.5], [("q", 1), ("q", 2), ("q", 3)]], ids=["mixed", "tuples"]
)
def test_members_keeps_ids_of_any_kind(ids):
    assert members([0, 0, 0], ids) == {0: ids}


@pytest.mark.parametrize(
    ("min_size", "listed"),
    [(0, [1, 0, 3]), (1, [1, 0, 3]), (2, [1, 0]), (3, [1]), (4, [])],
)
def test_members_of_communities_of_min_size(min_size, listed):
    assert list(members([0, 1, 1, 3, 1, 0, -1], min_size=min_size)) == listed


def test_members_of_noise():
    assert members([-1, -1]) == {}


def test_members_errors():
    with pytest.raises(ValueError, match="one id per label; got 2 ids for 3 labels"):
        members([0, 0, 1], ["a", "b"])


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        ([], r"one integer per row, .* or one string; got shape \(0,\)"),
        ([[0, 1]], r"got shape \(1, 2\) and dtype int64"),
        ([True, False], "dtype bool"),
        ([b"a", b"b"], r"or one string; got shape \(2,\) and dtype \|S1"),
        ([0, -2], "at least 0, or -1 for noise; got -2"),
        ([0.0, -2.0], "at least 0, or -1 for noise; got -2"),
        ([0.5, 1], r"one integer per row, .* or one string; got 0.5 in row 0"),
        ([0.0, np.inf], r"one integer per row, .* got inf in row 1"),
        (
            [0.0, np.nan],
            r"must not be missing; got nan in row 1. Fill them with -1, noise",
        ),
        ([0, None], r"must not be missing; got None in row 1"),
        (["a", None], r"must not be missing; got None in row 1"),
        (["a", np.nan], r"must not be missing; got nan in row 1"),
        (pd.Series(["a", None]), r"must not be missing; got .* in row 1"),
        (pd.Series([0, None], dtype="Int64"), r"missing; got (<NA>|nan) in row 1"),
        (pd.Categorical(["a", None]), r"must not be missing; got nan in row 1"),
        (["-1.0", "0.0"], r"labels must not be '-1.0', .* got it in row 0"),
        (["1.0", "nan"], r"must not be 'nan', .* got it in row 1"),
        ([0, "a"], r"all strings or all integers; got 'a' and 0. Make strings of all"),
        (np.array(["a", 1], dtype=object), r"or all integers; got 'a' and 1"),
        (np.array([True, 0], dtype=object), r"got True, of type bool"),
        ([object(), object()], r"integers or strings; got <object .* of type object"),
        ([2**64, 1], r"must be below 2\*\*63; got 18446744073709551616"),
        ([1e30, 1], r"must be below 2\*\*63; got 1000000000000000019884624838656"),
        (np.array([2**64 - 1], np.uint64), "below 2.*63; got 18446744073709551615"),
    ],
)
def test_labels_that_are_none(labels, message):
    n = max(len(labels), 1)
    for inspect in (
        members,
        summarize,
        lambda given: prototypes(WIDE[:n], given),
        lambda given: top_features(WIDE[:n], given),
    ):
        with pytest.raises(ValueError, match=message):
            inspect(labels)


@pytest.mark.parametrize("inspect", [prototypes, top_features])
class TestInput:
    """What prototypes and top_features ask of X."""

    def test_lengths_differ(self, inspect):
        with pytest.raises(ValueError, match="got 29 labels for 30 rows"):
            inspect(WIDE, LABELS[1:])

    @pytest.mark.parametrize("make", [np.array, sp.csr_array])
    @pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf, 1e200])
    def test_values_that_are_not_finite(self, inspect, make, value):
        X = WIDE.copy()
        X[3, 2] = value
        with pytest.raises(ValueError, match=r"X contains (NaN|infinity)"):
            inspect(make(X), LABELS)

    def test_list_of_matrices(self, inspect):
        with pytest.raises(TypeError, match=r"skleiden\.LayerStack"):
            inspect([EARLY, LATE], LABELS)

    def test_widths_that_do_not_fit(self, inspect):
        with pytest.raises(ValueError, match=r"\(sum 8\) for 9 columns"):
            inspect(WIDE, LABELS, layers=[4, 4])

    def test_is_not_modified(self, inspect, form):
        X, layers = form
        before = [array.copy() for array in buffers(X)]
        labels = LABELS.copy()
        inspect(X, labels, layers=layers)
        assert_array_equal(labels, LABELS)
        for array, old in zip(buffers(X), before, strict=True):
            assert_array_equal(array, old)

    def test_sparse_layers_are_not_densified(self, inspect):
        places = np.random.default_rng(0).integers(0, [[4000], [10_000]], (2, 4000))
        X = sp.csr_array((np.ones(4000), places), shape=(4000, 10_000))
        tracemalloc.start()
        try:
            inspect(X, np.arange(4000) % 2)
            _, peak = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()
        assert peak < X.shape[0] * X.shape[1] * 8 / 50


# --- prototypes -----------------------------------------------------------------------


def test_prototypes_are_means(form, row_batches):
    X, layers = form
    found = prototypes(X, LABELS, layers=layers)
    assert list(found) == ["early", "late"]
    for name, matrix in zip(found, (EARLY, LATE), strict=True):
        assert type(found[name]) is np.ndarray
        assert found[name].dtype == np.float64
        assert found[name].shape == (4, matrix.shape[1])
        assert np.isnan(found[name][1]).all()
        for community in (0, 2, 3):
            expected = matrix[np.isin(LABELS, community)].mean(axis=0)
            assert_array_equal(found[name][community], expected)


def test_row_batches_of_one_row(monkeypatch):
    monkeypatch.setattr(sources, "_BLOCK_SIZE", 1)
    for matrix in (EARLY, sp.csr_array(EARLY)):
        batches = list(sources.row_batches([sources.source_of(matrix)]))
        assert batches == [slice(i, i + 1) for i in range(30)]


def test_prototypes_of_one_matrix_and_one_community():
    found = prototypes(WIDE, np.zeros(30, dtype=int))
    assert list(found) == ["layer_0"]
    assert_allclose(found["layer_0"], WIDE.mean(axis=0, keepdims=True))


def test_prototypes_of_noise():
    assert prototypes(WIDE, np.full(30, -1))["layer_0"].shape == (0, 9)


def test_standardized_prototypes_equal_plain_numpy(form, row_batches):
    X, layers = form
    found = prototypes(X, LABELS, standardize=True, layers=layers)
    for name, matrix in zip(("early", "late"), (EARLY, LATE), strict=True):
        scores = StandardScaler().fit_transform(matrix)
        assert np.isnan(found[name][1]).all()
        for community in (0, 2, 3):
            expected = scores[np.isin(LABELS, community)].mean(axis=0)
            assert_allclose(found[name][community], expected, atol=1e-12)


@pytest.mark.parametrize("make", [np.array, sp.csr_array])
@pytest.mark.parametrize("value", [0.0, 0.1, 1e30])
def test_standardized_prototypes_of_a_constant_neuron_are_zero(make, value):
    X = np.hstack([WIDE, np.full((30, 1), value)])
    found = prototypes(make(X), LABELS, standardize=True)["layer_0"]
    assert_array_equal(found[:, -1], [0, np.nan, 0, 0])


def test_large_sparse_layer_takes_little_memory():
    """20,000 x 20,000 with 1% of the entries, of which the dense form takes 3 GB."""
    n, width, per_row = 20_000, 20_000, 200
    rng = np.random.default_rng(0)
    # Distinct columns, in order: a stride and an offset for each row.
    columns = 100 * np.arange(per_row, dtype=np.int32) + rng.integers(0, 100, (n, 1))
    X = sp.csr_array(
        (
            rng.random(n * per_row, dtype=np.float32),
            columns.astype(np.int32).ravel(),
            np.arange(0, n * per_row + 1, per_row, dtype=np.int32),
        ),
        shape=(n, width),
    )
    labels = np.arange(n) % 100
    tracemalloc.start()
    try:
        found = prototypes(X, labels, standardize=True)["layer_0"]
        top = top_features(X, labels, n_features=1)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 300e6
    column = X[:, [7]].toarray().ravel().astype(float)
    z = (column - column.mean()) / column.std()
    assert_allclose(found[3, 7], z[labels == 3].mean())
    assert len(top) == 100


# --- summarize ------------------------------------------------------------------------


def test_summary():
    found = summarize(LABELS)
    assert (found.n_samples, found.n_communities, found.n_noise) == (30, 3, 6)
    assert found.labels == [0, 1, 2, 3]
    assert found.sizes == [6, 0, 12, 6]
    assert found.shares == [0.2, 0, 0.4, 0.2]
    assert (found.coverage, found.largest_share) == (0.8, 0.4)


def test_summary_of_noise():
    found = summarize([-1, -1])
    assert (found.n_communities, found.n_noise, found.coverage) == (0, 2, 0)
    assert (found.largest_share, found.sizes, found.labels) == (0, [], [])


# --- top_features ---------------------------------------------------------------------


@pytest.mark.parametrize("weighting", ["row", "community"])
@pytest.mark.parametrize("versus", ["others", "global"])
def test_top_features_equal_plain_numpy(form, row_batches, versus, weighting):
    X, layers = form
    found = top_features(
        X, LABELS, n_features=3, versus=versus, weighting=weighting, layers=layers
    )
    assert found == {c: expected_top(c, 3, versus, weighting) for c in (0, 2, 3)}


def test_top_features_are_all_that_exceed_the_baseline():
    found = top_features(WIDE, LABELS, n_features=100, layers=LAYERS)
    assert found == {c: expected_top(c, 100, "others") for c in (0, 2, 3)}
    assert all(0 < len(neurons) < 9 for neurons in found.values())


def test_top_features_are_native_numbers():
    for feature in top_features(WIDE.astype(np.float32), LABELS)[0]:
        kinds = [type(value) for value in feature[:8]]
        assert kinds == [str, int, *[float] * 5, bool]


def test_noise_is_among_the_others():
    """Relabelling the noise as one more community changes no other's neurons."""
    found = top_features(WIDE, LABELS)
    named = top_features(WIDE, np.where(LABELS < 0, 4, LABELS))
    assert {c: named[c] for c in found} == found
    without = top_features(WIDE[LABELS >= 0], LABELS[LABELS >= 0])
    assert without[0][0].baseline_mean != found[0][0].baseline_mean


def test_top_features_of_noise():
    assert top_features(WIDE, np.full(30, -1)) == {}


@pytest.mark.parametrize("weighting", ["row", "community"])
@pytest.mark.parametrize("versus", ["others", "global"])
def test_one_community_has_no_top_features(versus, weighting):
    found = top_features(
        WIDE, np.zeros(30, dtype=int), versus=versus, weighting=weighting
    )
    assert found == {0: []}


def test_one_community_and_noise():
    """The noise is a baseline of rows, and no community."""
    labels = np.where(LABELS < 0, -1, 0)
    assert top_features(WIDE, labels, n_features=100)[0]
    assert top_features(WIDE, labels, weighting="community") == {0: []}


@pytest.mark.parametrize("value", [0.0, 1.0, 0.1, 1e30])
@pytest.mark.parametrize("versus", ["others", "global"])
def test_constant_neurons_are_not_listed(value, versus):
    X = np.full((10, 2), value)
    for size in range(1, 10):
        labels = (np.arange(10) >= size).astype(int)
        assert top_features(X, labels, versus=versus) == {0: [], 1: []}


def test_neuron_without_spread_on_either_side_comes_first():
    X = np.hstack([WIDE, (LABELS == 3)[:, None] * 0.1])
    found = top_features(X, LABELS)
    assert found[3][0].neuron == 9
    assert np.isfinite(found[3][0].effect_size)
    assert (found[3][0].share, found[3][0].baseline_share) == (1.0, 0.0)


def test_prevalence_shares():
    X = np.array([[1.0], [0.0], [3.0], [2.0], [0.0], [0.0], [0.0], [0.5]])
    labels = [0, 0, 0, 0, 1, 1, 1, -1]
    (others,) = top_features(X, labels)[0]
    assert (others.share, others.baseline_share) == (0.75, 0.25)
    (overall,) = top_features(X, labels, versus="global")[0]
    assert (overall.share, overall.baseline_share) == (0.75, 0.5)


@pytest.mark.parametrize("scale", [1e-3, 1.0, 1e3])
@pytest.mark.parametrize("make", [np.array, sp.csr_array])
def test_planted_neuron_is_found_at_any_scale_of_its_layer(scale, make):
    rng = np.random.default_rng(0)
    labels = np.arange(300) % 3
    quiet, loud = rng.exponential(size=(2, 300, 50))
    quiet[labels == 1, 17] += 4
    loud[labels == 2, 40] += 4
    found = top_features({"a": make(quiet * scale), "b": make(loud)}, labels)
    assert found[1][0][:2] == ("a", 17)
    assert found[2][0][:2] == ("b", 40)
    assert found[0][0].effect_size < 1 < found[1][0].effect_size


def test_ties_stay_in_column_order():
    X = np.repeat([[0.0], [1.0], [2.0], [4.0]], 4, axis=1)
    found = top_features(X, [0, 0, 1, 1], layers={"b": 2, "a": 2}, n_features=3)
    assert [feature[:2] for feature in found[1]] == [("b", 0), ("b", 1), ("a", 0)]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"n_features": 0}, "n_features must be an integer of at least 1; got 0"),
        ({"versus": "all"}, "versus must be 'others' or 'global'; got 'all'"),
        ({"weighting": "size"}, "must be 'row' or 'community'; got 'size'"),
    ],
)
def test_top_features_errors(options, message):
    with pytest.raises(ValueError, match=message):
        top_features(WIDE, LABELS, **options)


# --- Where there is little to tell ----------------------------------------------------

LITTLE = {
    "no edge": np.eye(6),
    "all zero": np.zeros((20, 4)),
    "all equal": np.ones((20, 4)),
    "two rows": np.eye(2),
    "one layer of zeros": {"a": np.eye(20, 8), "b": np.zeros((20, 3))},
}


@pytest.mark.filterwarnings("ignore:No community has min_cluster_size")
@pytest.mark.filterwarnings("ignore:Layers are judged by 9 different rows")
@pytest.mark.parametrize("small_clusters", ["attach", "noise", "keep"])
@pytest.mark.parametrize("name", LITTLE)
def test_all_is_told_of_which_there_is_little(tmp_path, name, small_clusters):
    X = LITTLE[name]
    pipeline = make_pipeline(
        MultiLayerTfidfSketcher(random_state=0),
        MutualKNNLeiden(random_state=0, small_clusters=small_clusters),
    ).fit(X)
    found = describe_communities(pipeline, X)
    n_clusters = int(found.labels.max()) + 1
    assert sorted(found.representatives) == list(range(n_clusters))
    assert sorted(found.top_features) == list(range(n_clusters))
    assert found.map.positions.shape == (found.labels.size, 2)
    assert np.isfinite(found.map.positions).all()
    assert bool(found.layer_agreement) == (n_clusters > 0)
    save_communities(tmp_path / "found.json", found)
    assert_array_equal(load_communities(tmp_path / "found.json").labels, found.labels)
    write_report(tmp_path / "found.html", found)
    for display in (
        CommunitySizesDisplay.from_estimator(pipeline),
        CommunityMapDisplay.from_estimator(pipeline),
    ):
        assert png(display)[1:4] == b"PNG"
    for kind, is_there, message in (
        (
            PrototypeHeatmapDisplay,
            any(found.top_features.values()),
            "There is no community|No neuron sets any of the communities apart",
        ),
        (LayerAgreementDisplay, n_clusters > 0, "There is no community"),
    ):
        if is_there:
            assert png(kind.from_estimator(pipeline, X))[1:4] == b"PNG"
        else:
            with pytest.raises(ValueError, match=message):
                kind.from_estimator(pipeline, X)


# --- What no file can hold ------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "mended"),
    [
        ("plain \u00e4 \U0001f600", "plain \u00e4 \U0001f600"),
        ("\ud800", "\ufffd"),
        ("a\udfffb", "a\ufffdb"),
        ("\ud83d\ude00", "\U0001f600"),
        ("\ude00\ud83d", "\ufffd\ufffd"),
        (
            {"\udcff": ["a\ud800", ("\udc00", 1)]},
            {"\ufffd": ["a\ufffd", ("\ufffd", 1)]},
        ),
        (None, None),
    ],
)
def test_text_becomes_encodable(text, mended):
    assert encodable(text) == mended


def test_communities_hold_what_files_can_hold():
    half = "half \ud800"
    found = Communities(
        [0, 0],
        texts=[half, "whole"],
        summary={"title": half},
        parameters={"layers": [half], "weights": {half: 1}},
        versions={"skleiden": half},
        fingerprint=half,
    )
    mended = "half \N{REPLACEMENT CHARACTER}"
    assert found.texts == [mended, "whole"]
    assert found.summary == {"title": mended}
    assert found.parameters == {"layers": [mended], "weights": {mended: 1}}
    assert (found.versions, found.fingerprint) == ({"skleiden": mended}, mended)


@pytest.mark.parametrize(
    "names",
    [
        {"layer_agreement": {"a\ud800": np.array([0.5])}},
        {"summary": {"layers": {"a\ud800": 3}}},
        {"top_features": {0: [TopFeature("a\ud800", 1, 1.0, 1.0, 0.0, 1.0, 0.0)]}},
    ],
)
def test_names_of_layers_that_no_file_can_hold(names):
    with pytest.raises(ValueError, match=r"Names of layers must be .* got 'a\\ud800'"):
        Communities([0, 0], **names)


@pytest.mark.parametrize("ids", [["q1", "q\udcff"], [1, "\ud800"]])
def test_ids_that_no_file_can_hold(ids):
    with pytest.raises(ValueError, match=r"ids must be text that UTF-8 can hold; got"):
        Communities([0, 0], ids=ids)


def test_what_no_file_can_hold_is_refused_before_the_inspection(monkeypatch):
    X = {"a\ud800": np.repeat(np.eye(2), 8, axis=0)}
    pipeline = make_pipeline(MultiLayerTfidfSketcher(), MutualKNNLeiden()).fit(X)
    monkeypatch.setattr("skleiden.inspection._communities.community_sums", pytest.fail)
    with pytest.raises(ValueError, match="Names of layers must be text"):
        describe_communities(pipeline, X)


# --- what fires -----------------------------------------------------------------------


@pytest.fixture
def signed():
    """A layer with signs, of 3 communities, each with neurons that fire in it."""
    rng = np.random.default_rng(0)
    labels = np.repeat(np.arange(3), 40)
    X = rng.standard_normal((120, 12)) - 1
    for c in range(3):
        X[labels == c, 2 * c : 2 * c + 2] += 4
    X[labels == 0, 6] += 0.5  # less inhibited there
    return X, labels


@pytest.mark.parametrize("form", [np.asarray, sp.csr_array])
def test_neurons_with_signs_fire_above_their_mean(signed, form):
    X, labels = signed
    limits = X.mean(axis=0) + X.std(axis=0)
    found = top_features(form(X), labels, n_features=12)
    for c, features in found.items():
        inside = labels == c
        assert [f.neuron for f in features if f.fires][:2] in (
            [2 * c, 2 * c + 1],
            [2 * c + 1, 2 * c],
        )
        for feature in features:
            x = X[:, feature.neuron]
            fires = x > limits[feature.neuron]
            assert feature.share == fires[inside].mean()
            assert feature.baseline_share == pytest.approx(fires[~inside].mean())
            assert feature.mean == pytest.approx(x[inside].mean())
            assert feature.fires == (x[inside].mean() > limits[feature.neuron])
    assert 6 in [f.neuron for f in found[0] if not f.fires]
    # Those that fire come first, however large the effects of others are.
    assert [f.fires for f in found[0]] == sorted(f.fires for f in found[0])[::-1]


def test_small_negative_values_count_as_zero():
    """As after GELU: what is less inhibited is no top neuron, and shares tell."""
    X = np.full((40, 3), -0.1)
    labels = np.repeat([0, 1], 20)
    X[:20, 0], X[:20, 1], X[20:, 2] = 2.0, -0.01, 3.0
    X[0, 0] = -0.1
    ((feature,), (other,)) = top_features(X, labels).values()
    assert (feature.neuron, feature.share, feature.baseline_share) == (0, 0.95, 0.0)
    assert feature.mean == pytest.approx(0.95 * 2)
    assert (other.neuron, other.share, other.fires) == (2, 1.0, True)


@pytest.mark.parametrize("power", [0.0, 0.5, 1.0])
def test_a_sketcher_tells_what_fires(signed, power):
    """The same neurons fire for the sketcher, whatever power it takes."""
    X, _ = signed
    made = MultiLayerTfidfSketcher(8, power=power, random_state=0).fit(X)
    assert made.weighting_ == ("zscore",)
    (firing,) = firing_of(made, LayerStack([X]))
    powered = np.sign(X) * np.abs(X) ** power
    expected = powered > powered.mean(axis=0) + powered.std(axis=0)
    assert_array_equal(firing.thresholds < X, expected)
    if power == 1:
        (found,) = firing_in(LayerStack([X]))
        np.testing.assert_allclose(found.thresholds, firing.thresholds)


@pytest.mark.parametrize("shift", [0.0, 1.5])
def test_neurons_are_not_read_again_where_a_sketcher_knows_them(
    signed, shift, monkeypatch
):
    """Only a weighting that was stated leaves open what negative values are."""
    X, _ = signed
    stack = LayerStack([np.abs(X) - shift]).neurons()
    expected = firing_in(stack)
    auto = MultiLayerTfidfSketcher(8, random_state=0).fit(stack)
    stated = MultiLayerTfidfSketcher(8, weighting="correlation", random_state=0)
    (again,) = firing_of(stated.fit(stack), stack)
    monkeypatch.setattr("skleiden.inspection._firing.learn", pytest.fail)
    for found, other in zip(firing_of(auto, stack), expected, strict=True):
        assert (found.positive, found.by_rows) == (other.positive, True)
        assert found.positive == again.positive == (shift == 0)
        assert_array_equal(found.thresholds, other.thresholds)
