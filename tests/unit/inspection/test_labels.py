"""Labels of any kind: strings, whole floats, Series; and results that become JSON."""

import json
import tracemalloc

import numpy as np
import pandas as pd
import pytest
from numpy.testing import assert_array_equal
from sklearn.pipeline import make_pipeline
from sklearn.utils import Bunch

from skleiden import LayerStack, MultiLayerTfidfSketcher, MutualKNNLeiden
from skleiden.inspection import (
    Communities,
    CommunityMap,
    compare,
    cross_table,
    explain,
    graph_summary,
    layer_agreement,
    members,
    prototypes,
    representatives,
    summarize,
    top_features,
)
from skleiden.inspection._members import check_labels, member_rows, number_labels
from skleiden.io import save_labels
from skleiden.plotting import (
    CommunityMapDisplay,
    CommunitySizesDisplay,
    CrossTableDisplay,
    LayerAgreementDisplay,
    PrototypeHeatmapDisplay,
    community_colors,
)
from skleiden.report import write_report

rng = np.random.default_rng(0)
X = rng.random((60, 8)) * (rng.random((60, 8)) < 0.6)
# Community 1 has no member, and some rows are noise.
LABELS = np.tile([0, 2, 3, 2, -1, 4], 10)
NAMES = [f"c{label}" if label >= 0 else "-1" for label in LABELS.tolist()]
NEURONS = np.array([0, 1, 0, 3, -1, 3, 1, 0])
X[np.ix_(LABELS == 2, NEURONS == 0)] += 2
WIDE = np.tile(X, 13)
X[np.ix_(LABELS == 4, NEURONS == 3)] += 2
GROUPS = [f"g{label}" if label >= 0 else "-1" for label in NEURONS.tolist()]

# Each as the integers that they are equal to.
NUMBERS = {
    "whole floats": LABELS.astype(float),
    "float32": LABELS.astype(np.float32),
    "a list of floats": LABELS.astype(float).tolist(),
    "int8": LABELS.astype(np.int8),
    "objects": LABELS.astype(object),
    "objects of two kinds": np.array([*LABELS[:-1].tolist(), 4.0], dtype=object),
    "Series": pd.Series(LABELS, index=np.arange(60)[::-1]),
    "Series of Int64": pd.Series(LABELS, dtype="Int64"),
    "Categorical": pd.Categorical(LABELS),
    "tuple": tuple(LABELS.tolist()),
}
TEXTS = {
    "list": NAMES,
    "array": np.array(NAMES),
    "objects": np.array(NAMES, dtype=object),
    "Series": pd.Series(NAMES, index=np.arange(60)[::-1]),
    "Categorical": pd.Series(NAMES, dtype="category"),
    "in another order": pd.Categorical(NAMES, ["c4", "c3", "c2", "c0", "-1"]),
    "Index": pd.Index(NAMES),
}  # fmt: skip


def kinds(value):
    """The types of all that a result holds."""
    if isinstance(value, dict):
        pairs = [*value, *value.values()]
        return {type(value)}.union(*map(kinds, pairs))
    if isinstance(value, (list, tuple)):
        return {type(value)}.union(*map(kinds, value))
    return {type(value)}


def all_of(labels):
    """What can be told of labels, as native types."""
    return {
        "members": members(labels, min_size=1),
        "summary": dict(summarize(labels)),
        "top": top_features(X, labels, n_features=2),
        "prototypes": {k: v.tolist() for k, v in prototypes(X, labels).items()},
        "agreement": {
            k: v.tolist() for k, v in layer_agreement(X, labels, [5, 3]).items()
        },
        "pairs": cross_table(labels, NEURONS, X, min_effect=0.5).pairs(),
    }


@pytest.fixture(scope="module")
def expected():
    return all_of(LABELS)


@pytest.mark.parametrize("kind", NUMBERS)
def test_numbers_of_every_kind_are_integers(kind, expected):
    found = all_of(NUMBERS[kind])
    assert_array_equal(check_labels(NUMBERS[kind]), LABELS)
    assert repr(found) == repr(expected)  # nan is not equal to itself
    assert float not in {type(label) for label in found["members"]}


@pytest.mark.parametrize("kind", TEXTS)
def test_strings_are_given_back_as_they_were(kind, expected):
    found = all_of(TEXTS[kind])
    named = {f"c{label}": of for label, of in expected["members"].items()}
    assert found["members"] == named
    assert list(found["members"]) == list(named)
    assert {type(label) for label in found["members"]} == {str}
    assert found["top"] == {f"c{c}": of for c, of in expected["top"].items()}
    # No place for the community that is empty.
    present = [0, 2, 3, 4]
    assert found["summary"]["labels"] == ["c0", "c2", "c3", "c4"]
    for name in ("sizes", "shares"):
        whole = expected["summary"][name]
        assert found["summary"][name] == [whole[c] for c in present]
    for name in ("n_samples", "n_communities", "n_noise", "coverage"):
        assert found["summary"][name] == expected["summary"][name]
    for name in ("prototypes", "agreement"):
        for layer, whole in expected[name].items():
            assert found[name][layer] == [whole[c] for c in present]
    assert found["pairs"] == [
        pair._replace(community=f"c{pair.community}") for pair in expected["pairs"]
    ]


def test_check_labels_refuses_strings():
    with pytest.raises(ValueError, match=r"one integer per row, .* and dtype <U2"):
        check_labels(np.array(NAMES))


def test_numbers_leave_none_out():
    found = number_labels([7, 3, -1, 7])
    assert (found.numbers.tolist(), found.values) == ([1, 0, -1, 1], [3, 7])
    assert found.place_of_rows.tolist() == [7, 3, -1, 7]
    assert number_labels(found) is found
    text = number_labels(["b", "-1", "a"])
    assert (text.numbers.tolist(), text.values) == ([1, -1, 0], ["a", "b"])
    assert text.place_of_rows.tolist() == [1, -1, 0]


def test_cross_table_of_named_groups_and_communities():
    of_numbers = cross_table(LABELS, NEURONS, X, min_effect=0.5)
    table = cross_table(NAMES, GROUPS, X, min_effect=0.5)
    assert table.groups == ["g0", "g1", "g3"]
    assert table.communities == ["c0", "c2", "c3", "c4"]
    assert of_numbers.groups == [0, 1, 2, 3]
    assert of_numbers.communities == [0, 1, 2, 3, 4]
    shown = np.ix_([0, 1, 3], [0, 2, 3, 4])
    for name in ("means", "effects", "chance", "drives"):
        assert_array_equal(getattr(table, name), getattr(of_numbers, name)[shown])
    assert_array_equal(table.layers, of_numbers.layers[[0, 1, 3]])
    assert table.pairs()
    frame, other = table.to_frame(), of_numbers.to_frame()
    assert frame["group"].tolist() == [f"g{g}" for g in other["group"]]
    assert frame["community"].tolist() == [f"c{c}" for c in other["community"]]
    lines = [
        line.replace("group ", "group g").replace("groups ", "groups g")
        for line in of_numbers.describe()
    ]
    assert [line.split(" (")[0] for line in table.describe()] == [
        line.split(" (")[0] for line in lines
    ]
    assert any("drives communit" in line and " c" in line for line in table.describe())


# --- Large labels ---------------------------------------------------------------------


@pytest.mark.parametrize(
    "inspect",
    [
        summarize,
        members,
        member_rows,
        lambda labels: top_features(WIDE, labels),
        lambda labels: layer_agreement(WIDE, labels, [60, 44]),
        lambda labels: prototypes(WIDE, [str(label) for label in labels]),
        lambda labels: cross_table(labels, [0] * 104, WIDE, n_permutations=99),
        lambda labels: PrototypeHeatmapDisplay.from_predictions(WIDE, labels),
    ],
)
def test_nothing_but_tables_grows_with_the_largest_label(inspect):
    """It took gigabytes, and minutes: of each number there was a row of sums."""
    largest = 3 * 10**5
    inspect(LABELS)  # what is imported and cached
    tracemalloc.start()
    try:
        inspect(np.where(LABELS == 4, largest, LABELS))
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < largest * WIDE.shape[1]  # bytes; a row of floats each is 8 times that


def test_large_labels_are_given_back():
    labels = np.where(LABELS == 4, 2**62, LABELS)
    assert list(members(labels)) == [2, 0, 3, 2**62]
    top = top_features(X, labels)
    small = top_features(X, LABELS)
    assert top == {2**62 if c == 4 else c: of for c, of in small.items()}


LARGE = np.where(LABELS == 4, 10**12, LABELS)


def test_communities_of_large_labels_cost_nothing(tmp_path):
    found = Communities(LARGE, names={10**12: "last"})
    assert repr(found).startswith("<Communities: 60 rows in 4 communities, 10 in none")
    assert "<td>1000000000000</td>" in found._repr_html_()
    save_labels(tmp_path / "labels.csv", found)
    assert "1000000000000,last" in (tmp_path / "labels.csv").read_text()
    write_report(tmp_path / "page.html", found)
    assert '"label":1000000000000' in (tmp_path / "page.html").read_text()
    with pytest.raises(ValueError, match=r"below 2\*\*53 on a page; got 46116860184"):
        write_report(tmp_path / "page.html", Communities([0, 2**62]))


def test_figures_of_large_labels_cost_nothing():
    sizes = CommunitySizesDisplay.from_predictions(LARGE)
    names = [tick.get_text() for tick in sizes.ax_.get_xticklabels()]
    assert names == ["2", "0", "3", "1000000000000", "noise"]
    of_2, of_0 = (bar.get_facecolor()[:3] for bar in sizes.bars_[:2])
    assert_array_equal([of_0, of_2], community_colors(3)[[0, 2]])
    layout = CommunityMap(np.arange(60), np.random.RandomState(0).rand(60, 2))
    shown = CommunityMapDisplay(layout, LARGE).plot(min_points=1)
    assert set(shown.texts_) <= {0, 2, 3, 10**12}
    small = CommunityMapDisplay(layout, LABELS).plot(min_points=1)
    colors = [
        one.points_.get_facecolors()[LABELS[LABELS >= 0] < 4] for one in (shown, small)
    ]
    assert_array_equal(*colors)


@pytest.mark.parametrize(
    "inspect",
    [
        summarize,
        lambda labels: layer_agreement(WIDE, labels, [60, 44]),
        lambda labels: prototypes(WIDE, labels),
        lambda labels: cross_table(labels, [0] * 104, WIDE, n_permutations=99),
        lambda labels: compare(labels, labels),
        lambda labels: compare(labels.tolist(), Communities(labels)),
    ],
)
def test_tables_of_large_labels_are_refused(inspect):
    with pytest.raises(
        ValueError, match=r"below 10,000,000.*; got 1000000000000\. Give"
    ):
        inspect(LARGE)


# --- JSON -----------------------------------------------------------------------------


@pytest.mark.parametrize("labels", [LABELS, NAMES, LABELS.astype(np.float16)])
@pytest.mark.parametrize(
    "ids",
    [
        None,
        np.arange(60, dtype=np.int16),
        np.arange(60, dtype=np.float32),
        [np.str_(i) for i in range(60)],
        np.array([np.int64(i) for i in range(60)], dtype=object),
        np.arange("2020-01-01", "2020-03-01", dtype="datetime64[D]"),
    ],
)
def test_members_and_summary_become_json(labels, ids):
    found = members(labels, ids, min_size=1)
    assert kinds(found) <= {dict, list, str, int, float}
    assert json.loads(json.dumps(found)) == {str(c): of for c, of in found.items()}
    summary = summarize(labels)
    assert json.loads(json.dumps(summary)) == summary


def test_dates_among_members_are_text():
    ids = np.array(["2020-01-01", "2020-01-02"], dtype="datetime64[ns]")
    assert members([0, 0], ids)[0][0].startswith("2020-01-01")


def test_what_is_told_of_communities_becomes_json():
    stack = LayerStack({"a": X[:, :5].astype(np.float32), "b": X[:, 5:]})
    pipeline = make_pipeline(
        MultiLayerTfidfSketcher(8, layer_weights=None, random_state=0),
        MutualKNNLeiden(10, random_state=0, min_cluster_size=1),
    ).fit(stack)
    row = int(np.argmax(pipeline[-1].labels_ == 0))
    results = {
        "top": top_features(stack, LABELS),
        "explanation": explain(pipeline, stack, row),
        "representatives": representatives(pipeline),
        "graph": graph_summary(pipeline[-1].affinity_matrix_),
        "pairs": cross_table(LABELS, NEURONS, stack, min_effect=0.5).pairs(),
        "words": cross_table(NAMES, GROUPS, stack, min_effect=0.5).describe(),
    }
    assert results["pairs"]
    assert all(results.values())
    json.dumps(results)
    native = {bool, int, float, str, type(None), dict, list, Bunch}
    found = set().union(*map(kinds, results.values())) - native
    assert {kind.__name__ for kind in found} == {
        "TopFeature",
        "Explanation",
        "Contribution",
        "Representative",
        "Representatives",
        "DrivingPair",
    }


# --- Displays -------------------------------------------------------------------------


def ticks(axis):
    return [text.get_text() for text in axis.get_ticklabels()]


def test_displays_name_communities():
    sizes = CommunitySizesDisplay.from_predictions(NAMES)
    assert ticks(sizes.ax_.xaxis) == ["c2", "c0", "c3", "c4", "noise"]
    heat = PrototypeHeatmapDisplay.from_predictions(X, NAMES)
    assert ticks(heat.ax_.yaxis) == ["c0", "c2", "c3", "c4"]
    layers = LayerAgreementDisplay.from_predictions(X, NAMES, [5, 3])
    assert ticks(layers.ax_.yaxis) == ["c0", "c2", "c3", "c4"]
    table = cross_table(NAMES, GROUPS, X)
    drawn = CrossTableDisplay(table).plot()
    assert ticks(drawn.ax_.yaxis) == [table.groups[i] for i in drawn.groups_]
    assert ticks(drawn.ax_.xaxis) == [table.communities[i] for i in drawn.communities_]
    clusterer = MutualKNNLeiden(10, random_state=0).fit(X)
    shown = CommunityMapDisplay.from_predictions(
        clusterer.affinity_matrix_, NAMES, names={"c2": "two"}, min_points=1
    )
    assert set(shown.texts_) <= {"c0", "c2", "c3", "c4"}
    assert shown.texts_["c2"].get_text() == "two"
    assert shown.texts_["c0"].get_text() == "c0"
    of_numbers = CommunityMapDisplay.from_predictions(
        clusterer.affinity_matrix_, LABELS, min_points=1
    )
    assert of_numbers.texts_[2].get_text() == "2"


def test_displays_refuse_labels_that_do_not_fit():
    with pytest.raises(ValueError, match="one label for each size; got 1 for 2"):
        CommunitySizesDisplay([3, 2], communities=["a"]).plot()
    with pytest.raises(ValueError, match="each number of a layer; got 1 for 2"):
        LayerAgreementDisplay({"a": [0.5, 0.1]}, ["a"]).plot()
