"""What the displays draw: bars, points, cells, lines and texts."""

import sys
from itertools import pairwise

import numpy as np
import pytest
import scipy.sparse as sp
from sklearn.cluster import KMeans
from sklearn.pipeline import make_pipeline

from skleiden import MultiLayerTfidfSketcher, MutualKNNLeiden
from skleiden._palette import DARK, LIGHT, colors_of, css_colors
from skleiden.inspection import (
    CommunityMap,
    community_map,
    cross_table,
    layer_agreement,
    prototypes,
    top_features,
)
from skleiden.model_selection import StableLeiden, resolution_profile
from skleiden.plotting import (
    CommunityMapDisplay,
    CommunitySizesDisplay,
    CrossTableDisplay,
    LayerAgreementDisplay,
    PrototypeHeatmapDisplay,
    ResolutionProfileDisplay,
    community_colors,
    png,
)

mpl = pytest.importorskip("matplotlib")
plt = pytest.importorskip("matplotlib.pyplot")
to_rgba = mpl.colors.to_rgba


@pytest.fixture(autouse=True)
def _drawn_without_a_screen():
    plt.switch_backend("Agg")
    yield
    plt.close("all")


@pytest.fixture
def ax():
    return plt.figure(layout="constrained").subplots()


@pytest.fixture(scope="module")
def pipeline(stack):
    return make_pipeline(
        MultiLayerTfidfSketcher(32, layer_weights=None, random_state=0),
        MutualKNNLeiden(random_state=0),
    ).fit(stack)


@pytest.fixture(scope="module")
def stable(pipeline, stack):
    return StableLeiden(pipeline, n_runs=2, random_state=0).fit(stack)


@pytest.fixture(scope="module")
def profile(embedding):
    return resolution_profile(
        MutualKNNLeiden(random_state=0),
        embedding,
        resolutions=[0.05, 0.5, 1.0, 2.0, 30.0],
        n_runs=3,
        n_permutations=1,
    )


TABLE = {
    "resolution": np.array([0.1, 1.0, 10.0]),
    "stability": np.array([0.0, 0.9, 0.6]),
    "worst_pair": np.array([-0.1, 0.8, 0.5]),
    "null": np.array([np.nan, 0.2, 0.3]),
    "above_null": np.array([False, True, True]),
    "net_information": np.array([-0.2, 1.5, 0.7]),
    "n_clusters": np.array([2.0, 7.5, 30.0]),
    "largest_fraction": np.array([0.9, 0.3, 0.1]),
}


def two_clumps(n=40, centers=((-0.5, 0.0), (0.5, 0.0)), spread=0.05):
    """A map of as many rows around each centre, in turn, and their labels."""
    rng = np.random.RandomState(0)
    labels = np.arange(n * len(centers)) % len(centers)
    positions = np.array(centers)[labels] + spread * rng.standard_normal(
        (labels.size, 2)
    )
    return CommunityMap(np.arange(labels.size), positions), labels


def tick_texts(axis):
    return [text.get_text() for text in axis.get_ticklabels()]


# Every display, drawn from data that all of them take.
DISPLAYS = {
    "sizes": lambda ax: CommunitySizesDisplay([3, 2], 1).plot(ax),
    "map": lambda ax: CommunityMapDisplay(*two_clumps()).plot(ax),
    "heat map": lambda ax: PrototypeHeatmapDisplay(
        [[1.0, -1.0]], [0], [("mlp", 0), ("mlp", 1)]
    ).plot(ax),
    "layers": lambda ax: LayerAgreementDisplay({"mlp": [0.5, 0.7]}).plot(ax),
    "drives": lambda ax: CrossTableDisplay(
        cross_table([0, 0, 1], [0, 1], np.eye(3, 2), n_permutations=0)
    ).plot(ax),
}


@pytest.mark.parametrize("draw", DISPLAYS.values(), ids=DISPLAYS)
def test_draws_on_the_axes_given_and_makes_no_figure(draw, ax):
    before = plt.get_fignums()
    display = draw(ax)
    assert display.ax_ is ax
    assert display.figure_ is ax.figure
    assert plt.get_fignums() == before


@pytest.mark.parametrize("draw", DISPLAYS.values(), ids=DISPLAYS)
def test_makes_a_figure_of_its_own_that_can_be_drawn(draw):
    display = draw(None)
    assert plt.get_fignums() == [display.figure_.number]
    assert display.ax_ in display.figure_.axes
    display.figure_.canvas.draw()


@pytest.mark.parametrize(
    "draw",
    [
        *DISPLAYS.values(),
        lambda _: ResolutionProfileDisplay(TABLE).plot(),
        lambda _: CommunitySizesDisplay.from_predictions([0, 0, 1]),
        lambda _: CommunityMapDisplay.from_predictions(sp.eye_array(3), [0, 0, 1]),
        lambda _: PrototypeHeatmapDisplay.from_predictions(np.eye(3), [0, 0, 1]),
        lambda _: LayerAgreementDisplay.from_predictions(np.eye(3), [0, 0, 1], [3]),
    ],
)
def test_says_how_to_install_matplotlib(draw, monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    monkeypatch.setitem(sys.modules, "matplotlib.pyplot", None)
    with pytest.raises(ImportError, match=r'pip install "skleiden\[plot\]"'):
        draw(None)


def test_importing_the_modules_does_not_import_matplotlib(monkeypatch):
    for name in ("matplotlib", "matplotlib.pyplot"):
        monkeypatch.setitem(sys.modules, name, None)
    displays = [
        of for of in sys.modules if "._plot" in of and of.startswith("skleiden")
    ]
    assert len(displays) == 8
    for name in ("skleiden.plotting", "skleiden._figures", *displays):
        monkeypatch.delitem(sys.modules, name)
    __import__("skleiden.plotting")


# Images


def test_an_image_is_a_png_and_its_figure_is_closed(tmp_path):
    display = CommunitySizesDisplay([3, 2]).plot()
    (tmp_path / "small.png").write_bytes(png(display, dpi=50))
    small = plt.imread(tmp_path / "small.png")
    assert plt.get_fignums() == []
    (tmp_path / "large.png").write_bytes(png(display))
    ratio = plt.imread(tmp_path / "large.png").shape[1] / small.shape[1]
    assert 2.8 < ratio < 3.2
    assert small.min() < 0.5  # there is something to see


@pytest.mark.parametrize("name", ["mlp_\udcff", "\ud800"])
def test_names_that_no_font_can_draw(name):
    """Such as of a file whose name is not UTF-8."""
    agreement = LayerAgreementDisplay({name: [0.5, 0.2]}).plot()
    neurons = PrototypeHeatmapDisplay([[1.0, 2.0]], [0], [(name, 0), (name, 1)]).plot()
    shown = CommunityMap(np.arange(8), np.random.RandomState(0).rand(8, 2))
    labels = np.zeros(8, dtype=int)
    named = CommunityMapDisplay(shown, labels).plot(names={0: name})
    for display in (agreement, neurons, named):
        assert png(display)[1:4] == b"PNG"
    assert named.texts_[0].get_text().endswith("\N{REPLACEMENT CHARACTER}")


def test_an_image_needs_a_display_that_is_drawn():
    with pytest.raises(TypeError, match=r"got CommunitySizesDisplay without figure_"):
        png(CommunitySizesDisplay([3, 2]))


# Colours


def linear(colors):
    return np.where(
        colors <= 0.04045, colors / 12.92, ((colors + 0.055) / 1.055) ** 2.4
    )


def oklab(colors):
    """sRGB to OKLab by way of CIE XYZ: Ottosson's first definition."""
    to_xyz = [
        [0.4124564, 0.3575761, 0.1804375],
        [0.2126729, 0.7151522, 0.0721750],
        [0.0193339, 0.1191920, 0.9503041],
    ]
    to_cones = [
        [0.8189330101, 0.3618667424, -0.1288597137],
        [0.0329845436, 0.9293118715, 0.0361456387],
        [0.0482003018, 0.2643662691, 0.6338517070],
    ]
    to_lab = [
        [0.2104542553, 0.7936177850, -0.0040720468],
        [1.9779984951, -2.4285922050, 0.4505937099],
        [0.0259040371, 0.7827717662, -0.8086757660],
    ]
    cones = np.array(to_cones) @ np.array(to_xyz) @ linear(colors).T
    return (np.array(to_lab) @ np.cbrt(cones)).T


def least_distance(points):
    distances = np.linalg.norm(points[:, None] - points, axis=2)
    return distances[~np.eye(len(points), dtype=bool)].min()


def luminance(colors):
    return linear(np.asarray(colors)) @ [0.2126, 0.7152, 0.0722]


# The dark one is the page's `--surface`, which its `--paper` is darker than.
BACKGROUNDS = [(LIGHT, "#ffffff"), (DARK, "#1b1f23")]


@pytest.mark.parametrize(("scheme", "background"), BACKGROUNDS, ids=["light", "dark"])
def test_colors_can_be_told_apart_from_each_other_and_from_what_is_behind(
    scheme, background
):
    colors = colors_of(np.arange(500), scheme)
    assert colors.shape == (500, 3)
    assert colors.min() >= 0
    assert colors.max() <= 1
    assert least_distance(oklab(colors[:30])) > 0.06
    assert least_distance(oklab(colors[:60])) > 0.035
    behind = luminance(mpl.colors.to_rgb(background)) + 0.05
    ratios = (luminance(colors) + 0.05) / behind
    assert np.maximum(ratios, 1 / ratios).min() >= 3


@pytest.mark.parametrize(("scheme", "background"), BACKGROUNDS, ids=["light", "dark"])
def test_colors_can_be_told_from_the_noise_which_recedes(scheme, background):
    noise = np.array([mpl.colors.to_rgb(scheme.noise)])
    both = np.vstack([oklab(colors_of(np.arange(100), scheme)), oklab(noise)])
    assert np.linalg.norm(both[:-1] - both[-1], axis=1).min() > 0.15
    behind = luminance([mpl.colors.to_rgb(background)])
    nearest = np.abs(np.cbrt(luminance(noise)) - np.cbrt(behind))
    others = np.abs(np.cbrt(luminance(colors_of(np.arange(100), scheme))) - behind)
    assert nearest < others.min()


def test_figures_have_the_colors_for_white():
    np.testing.assert_array_equal(community_colors(50), colors_of(np.arange(50), LIGHT))


def test_a_color_depends_on_the_label_alone():
    labels = np.array([7, 3, 7, 41, 0])
    np.testing.assert_array_equal(colors_of(labels), community_colors(42)[labels])


def hue_of(color):
    _, a, b = oklab(np.array([mpl.colors.to_rgb(color)]))[0]
    return np.degrees(np.arctan2(b, a)) % 360


@pytest.mark.parametrize("labels", [[0, 1, 2], [5, -1, 0, 5, 300], [-1, -1]])
def test_colors_as_css_are_those_of_figures_and_lighter_ones_of_the_same_hue(labels):
    pairs = css_colors(np.array(labels))
    assert pairs.keys() == {-1, *labels}
    assert pairs.pop(-1) == (LIGHT.noise, DARK.noise)
    for label, (light, dark) in pairs.items():
        assert light == mpl.colors.to_hex(community_colors(label + 1)[label])
        apart = abs(hue_of(light) - hue_of(dark))
        assert min(apart, 360 - apart) < 3
        assert luminance([mpl.colors.to_rgb(dark)]) > luminance(
            [mpl.colors.to_rgb(light)]
        )


def test_a_color_does_not_depend_on_how_many_there_are():
    many = community_colors(50)
    for n in (0, 1, 7, 30):
        np.testing.assert_array_equal(community_colors(n), many[:n])


@pytest.mark.parametrize("n", [-1, 2.5, "3"])
def test_refuses_a_number_of_colors_that_is_none(n):
    expected = f"n must be an integer of at least 0; got {n!r}. Give the number of comm"
    with pytest.raises(ValueError, match=expected):
        community_colors(n)


# Sizes


def test_bars_are_the_sizes_largest_first_and_noise_is_grey():
    display = CommunitySizesDisplay.from_predictions([2, 0, 2, 2, 4, 4, -1, -1, -1, 0])
    assert [bar.get_height() for bar in display.bars_] == [3, 2, 2]
    (noise,) = display.noise_bar_
    assert noise.get_height() == 3
    assert noise.get_facecolor() == to_rgba("#c4c4c4")
    assert noise.get_x() > max(bar.get_x() + bar.get_width() for bar in display.bars_)
    assert tick_texts(display.ax_.xaxis) == ["2", "0", "4", "noise"]
    assert sorted(text.get_text() for text in display.ax_.texts) == ["2", "2", "3", "3"]


@pytest.mark.parametrize("labels", [[2, 0, 2, 2, 4, 4, -1], np.arange(90) % 80])
def test_a_bar_has_the_color_of_its_community_on_the_map(labels):
    labels = np.array(labels)
    display = CommunitySizesDisplay.from_predictions(labels)
    everywhere = CommunityMap(np.arange(labels.size), np.zeros((labels.size, 2)))
    points = CommunityMapDisplay(everywhere, labels).plot().points_
    of_label = dict(
        zip(labels[labels >= 0], map(tuple, points.get_facecolors()), strict=True)
    )
    sizes = np.bincount(labels[labels >= 0])
    order = [label for label in np.argsort(-sizes, kind="stable") if sizes[label]]
    assert [bar.get_facecolor() for bar in display.bars_] == [
        of_label[label] for label in order
    ]


def test_without_noise_there_is_no_bar_of_it():
    display = CommunitySizesDisplay.from_predictions([0, 0, 1])
    assert display.noise_bar_ is None
    assert tick_texts(display.ax_.xaxis) == ["0", "1"]


def test_noise_alone_is_a_bar():
    display = CommunitySizesDisplay.from_predictions([-1, -1])
    assert len(display.bars_) == 0
    assert display.noise_bar_[0].get_height() == 2


@pytest.mark.parametrize("n", [5, 40, 500])
def test_numbers_of_communities_do_not_overlap(n):
    labels = np.append(np.repeat(np.arange(n), np.arange(n) + 1), [-1])
    display = CommunitySizesDisplay.from_predictions(labels)
    display.figure_.canvas.draw()
    boxes = [text.get_window_extent() for text in display.ax_.get_xticklabels()]
    assert len(boxes) > min(n, 10)
    assert all(a.x1 < b.x0 for a, b in pairwise(boxes))
    # A tick stands under the bar of its community, whatever is left out.
    tick, name = display.ax_.get_xticks()[-2], tick_texts(display.ax_.xaxis)[-2]
    bar = display.bars_[int(tick)]
    assert bar.get_height() == int(name) + 1
    assert abs(bar.get_x() + bar.get_width() / 2 - tick) < 1e-9


def test_much_noise_does_not_flatten_the_communities():
    display = CommunitySizesDisplay([10, 5], 1000).plot()
    assert display.ax_.get_ylim()[1] == 15
    (noise,) = [t for t in display.ax_.texts if t.get_text() == "1000"]
    assert noise.xy[1] == 15


def test_sizes_from_pipeline_and_stable_leiden(pipeline, stable):
    for estimator in (pipeline, pipeline[-1], stable):
        labels = getattr(estimator, "labels_", pipeline[-1].labels_)
        display = CommunitySizesDisplay.from_estimator(estimator)
        heights = [bar.get_height() for bar in display.bars_]
        assert heights == sorted(np.bincount(labels), reverse=True)


def test_sizes_from_another_clusterer():
    kmeans = KMeans(2, n_init=1, random_state=0).fit([[0.0], [0.1], [9.0]])
    display = CommunitySizesDisplay.from_estimator(kmeans)
    assert [bar.get_height() for bar in display.bars_] == [2, 1]


def test_refuses_an_estimator_without_labels():
    with pytest.raises(
        TypeError, match=r"after fit; MutualKNNLeiden has none\. Fit it"
    ):
        CommunitySizesDisplay.from_estimator(MutualKNNLeiden())


@pytest.mark.parametrize(
    ("sizes", "n_noise"), [([[1, 2]], 0), ([1, -2], 0), ([1, 2], -1)]
)
def test_refuses_sizes_that_are_none(sizes, n_noise):
    with pytest.raises(ValueError, match=r"sizes must be one number.*got sizes \["):
        CommunitySizesDisplay(sizes, n_noise).plot()


# Map


def test_points_are_the_rows_in_the_colors_of_their_communities():
    layout, labels = two_clumps()
    display = CommunityMapDisplay(layout, labels).plot()
    np.testing.assert_array_equal(display.rows_, layout.rows)
    np.testing.assert_allclose(display.points_.get_offsets(), layout.positions)
    np.testing.assert_allclose(
        display.points_.get_facecolors()[:, :3], community_colors(2)[labels]
    )
    assert display.ax_.get_aspect() == 1
    assert display.ax_.get_xticks().size == display.ax_.get_yticks().size == 0


def test_noise_is_grey_and_below_the_rest():
    layout, labels = two_clumps()
    labels[:10] = -1
    display = CommunityMapDisplay(layout, labels).plot()
    np.testing.assert_allclose(
        display.noise_points_.get_offsets(), layout.positions[:10]
    )
    np.testing.assert_allclose(
        display.noise_points_.get_facecolors(), [to_rgba("#c4c4c4")]
    )
    np.testing.assert_allclose(display.points_.get_offsets(), layout.positions[10:])
    assert display.noise_points_.get_zorder() < display.points_.get_zorder()
    assert display.points_.get_zorder() < display.texts_[0].get_zorder()


def test_labels_are_of_all_rows_and_the_map_shows_some():
    layout, labels = two_clumps(n=20)
    some = CommunityMap(np.arange(0, 40, 4), layout.positions[::4])
    labels = np.where(np.arange(40) < 20, 0, 1)
    display = CommunityMapDisplay(some, labels).plot()
    np.testing.assert_array_equal(display.rows_, np.arange(0, 40, 4))
    np.testing.assert_allclose(
        display.points_.get_facecolors()[:, :3], community_colors(2)[labels[::4]]
    )


def test_a_number_stands_where_its_community_is_densest():
    layout, labels = two_clumps(n=60)
    # A fifth of each community lies far away, all in one direction.
    away = np.arange(labels.size) % 5 == 0
    positions = layout.positions + np.outer(away, [0.0, 0.8])
    display = CommunityMapDisplay(CommunityMap(layout.rows, positions), labels).plot()
    for label, text in display.texts_.items():
        center = positions[(labels == label) & ~away].mean(axis=0)
        assert np.linalg.norm(text.get_position() - center) < 0.05
        assert text.get_text() == str(label)
        (outline,) = text.get_path_effects()
        assert outline._gc["foreground"] == "white"


def test_a_number_does_not_stand_between_the_parts_of_its_community():
    rng = np.random.RandomState(0)
    # The middle of all is among the fewest.
    spread = np.repeat([0.02, 0.1, 0.05], [45, 20, 35])
    positions = np.repeat([[-0.8, 0.0], [0.0, 0.0], [0.8, 0.0]], [45, 20, 35], axis=0)
    positions += spread[:, None] * rng.standard_normal(positions.shape)
    layout = CommunityMap(np.arange(100), positions)
    display = CommunityMapDisplay(layout, np.zeros(100, dtype=int)).plot()
    assert np.hypot(*np.subtract(display.texts_[0].get_position(), (-0.8, 0))) < 0.05


def test_a_number_gives_way_to_that_of_a_larger_community():
    # Two rows of points that cross in the middle of both; noise in the map's corners.
    step, zero = 0.02 * np.arange(-4, 5), np.zeros(9)
    positions = np.vstack(
        [
            np.column_stack([step, zero])[1:-1],
            np.column_stack([zero, step]),
            [[-1, -1], [1, 1]],
        ]
    )
    labels = np.repeat([0, 1, -1], [7, 9, 2])
    layout = CommunityMap(np.arange(labels.size), positions)
    texts = CommunityMapDisplay(layout, labels).plot().texts_
    assert texts[1].get_position() == (0, 0)
    x, y = texts[0].get_position()
    assert y == 0
    assert abs(x) > 0.03


def test_names_without_room_give_way_to_numbers():
    places = [[-1, 0], [-0.8, 0], [-0.79, 0], [1, 0.0]]
    labels = np.repeat([0, 1, 2, 3], 5)
    names = {0: "a name", 1: "another name that is long", 2: "short", 3: "alone"}
    shown = CommunityMap(np.arange(20), np.repeat(places, 5, axis=0))
    drawn = CommunityMapDisplay(shown, labels).plot(names=names)
    texts = {label: text.get_text() for label, text in drawn.texts_.items()}
    assert texts == {0: "a name", 1: "1", 3: "alone"}


def test_names_replace_numbers():
    display = CommunityMapDisplay(*two_clumps()).plot(names={1: "sleep"})
    assert {k: v.get_text() for k, v in display.texts_.items()} == {0: "0", 1: "sleep"}


def test_small_communities_have_no_number():
    layout, labels = two_clumps()
    labels = np.where(np.arange(labels.size) < 3, 2, labels)
    assert sorted(CommunityMapDisplay(layout, labels).plot().texts_) == [0, 1]
    display = CommunityMapDisplay(layout, labels).plot(min_points=1)
    assert 2 in display.texts_


def test_numbers_do_not_overlap_and_the_largest_communities_have_theirs():
    rng = np.random.RandomState(0)
    # 150 communities, the larger the lower their number, in too little room for all.
    labels = np.repeat(np.arange(150), np.arange(160, 10, -1) // 4)
    positions = rng.uniform(-0.7, 0.7, (150, 2))[labels]
    positions += 0.03 * rng.standard_normal(positions.shape)
    layout = CommunityMap(np.arange(labels.size), positions)
    display = CommunityMapDisplay(layout, labels).plot()
    display.figure_.canvas.draw()
    assert 0 in display.texts_
    assert 60 < len(display.texts_) < 150
    boxes = [text.get_window_extent() for text in display.texts_.values()]
    overlaps = [
        a.x1 > b.x0 and b.x1 > a.x0 and a.y1 > b.y0 and b.y1 > a.y0
        for i, a in enumerate(boxes)
        for b in boxes[:i]
    ]
    assert not any(overlaps)


def test_many_points_are_small():
    areas = []
    for n in (5, 500, 20_000):
        display = CommunityMapDisplay(*two_clumps(n=n)).plot()
        areas.append(display.points_.get_sizes()[0])
    assert areas[0] > areas[1] > areas[2] >= 2


def test_a_map_of_noise_or_of_one_point_is_drawn():
    display = CommunityMapDisplay(two_clumps()[0], np.full(80, -1)).plot()
    assert len(display.noise_points_.get_offsets()) == 80
    assert len(display.points_.get_offsets()) == 0
    assert display.texts_ == {}
    one = CommunityMap(np.array([0]), np.zeros((1, 2)))
    CommunityMapDisplay(one, [0]).plot().figure_.canvas.draw()


def test_map_from_pipeline_and_stable_leiden(pipeline, stable):
    for estimator in (pipeline, stable):
        clusterer = pipeline[-1] if estimator is pipeline else stable.estimator_[-1]
        display = CommunityMapDisplay.from_estimator(estimator, max_rows=90)
        layout = community_map(clusterer.affinity_matrix_, max_rows=90)
        np.testing.assert_array_equal(display.rows_, layout.rows)
        np.testing.assert_allclose(display.points_.get_offsets(), layout.positions)
        labels = clusterer.labels_[layout.rows]
        np.testing.assert_allclose(
            display.points_.get_facecolors()[:, :3], community_colors(9)[labels]
        )


def test_map_from_estimator_hands_everything_on(pipeline, ax):
    display = CommunityMapDisplay.from_estimator(
        pipeline, max_rows=50, random_state=3, names={0: "most"}, min_points=2, ax=ax
    )
    layout = community_map(pipeline[-1].affinity_matrix_, max_rows=50, random_state=3)
    np.testing.assert_array_equal(display.rows_, layout.rows)
    assert display.texts_[0].get_text() == "most"
    assert display.ax_ is ax
    display = CommunityMapDisplay.from_estimator(pipeline, min_points=401)
    assert display.texts_ == {}


def test_map_from_predictions_hands_everything_on(pipeline, ax):
    affinity = pipeline[-1].affinity_matrix_
    labels = np.zeros(affinity.shape[0], dtype=int)
    display = CommunityMapDisplay.from_predictions(
        affinity, labels, max_rows=50, random_state=3, names={0: "all"}, ax=ax
    )
    layout = community_map(affinity, max_rows=50, random_state=3)
    np.testing.assert_allclose(display.points_.get_offsets(), layout.positions)
    assert display.texts_[0].get_text() == "all"
    assert display.ax_ is ax
    display = CommunityMapDisplay.from_predictions(
        affinity, labels, max_rows=50, min_points=51
    )
    assert display.texts_ == {}


def test_refuses_what_is_no_map():
    with pytest.raises(TypeError, match=r"map must be a CommunityMap.*got NoneType"):
        CommunityMapDisplay(None, [0, 1]).plot()


def test_refuses_a_map_without_positions_of_its_rows():
    layout = CommunityMap(np.arange(3), np.zeros((2, 2)))
    with pytest.raises(ValueError, match=r"got 3 rows and positions of shape \(2, 2\)"):
        CommunityMapDisplay(layout, [0, 0, 1]).plot()


def test_refuses_a_map_of_other_rows_than_the_labels():
    with pytest.raises(ValueError, match="got 10 labels for a map that shows row 79"):
        CommunityMapDisplay(two_clumps()[0], np.zeros(10, dtype=int)).plot()
    with pytest.raises(ValueError, match="got 2 labels for a graph of 3 rows"):
        CommunityMapDisplay.from_predictions(sp.eye_array(3), [0, 1])


def test_refuses_min_points_below_one():
    with pytest.raises(ValueError, match=r"min_points must be an integer.*got 0"):
        CommunityMapDisplay(*two_clumps()).plot(min_points=0)


def test_map_refuses_an_estimator_without_a_graph():
    kmeans = KMeans(2, n_init=1).fit([[0.0], [0.1], [9.0]])
    with pytest.raises(TypeError, match="got KMeans without labels_ and affinity"):
        CommunityMapDisplay.from_estimator(kmeans)


# Prototypes


def test_cells_are_the_z_scores_of_the_top_neurons_by_layer(stack, planted):
    display = PrototypeHeatmapDisplay.from_predictions(stack, planted, n_features=2)
    top = top_features(stack, planted, n_features=2)
    expected = {(f.layer, f.neuron) for found in top.values() for f in found}
    assert display.neurons == sorted(expected)  # the layers' names sort like them
    means = prototypes(stack, planted, standardize=True)
    for j, (layer, neuron) in enumerate(display.neurons):
        np.testing.assert_allclose(
            display.image_.get_array()[:, j], means[layer][:, neuron]
        )
    assert tick_texts(display.ax_.xaxis) == [str(j) for _, j in display.neurons]
    assert tick_texts(display.ax_.yaxis) == ["0", "1", "2", "3"]
    low, high = display.image_.get_clim()
    assert low == -high
    assert display.colorbar_.mappable is display.image_


def test_layers_are_named_above_their_columns():
    neurons = [("b", 3), ("b", 9), ("b", 11), ("a", 0)]
    display = PrototypeHeatmapDisplay(np.zeros((2, 4)), [0, 7], neurons).plot()
    (top,) = display.ax_.child_axes
    assert tick_texts(top.xaxis) == ["b", "a"]
    np.testing.assert_allclose(top.get_xticks(), [1, 3])
    (line,) = display.ax_.lines
    assert list(line.get_xdata()) == [2.5, 2.5]
    assert tick_texts(display.ax_.yaxis) == ["0", "7"]
    assert top.get_xticklabels()[0].get_rotation() == 0


def test_long_names_of_narrow_layers_stand_upright():
    neurons = [(f"model.layers.{i}.mlp", 0) for i in range(20)]
    display = PrototypeHeatmapDisplay(np.ones((1, 20)), [0], neurons).plot()
    (top,) = display.ax_.child_axes
    assert top.get_xticklabels()[0].get_rotation() == 90


def test_the_largest_communities_are_shown(stack, planted):
    labels = np.where(planted == 1, 6, planted)
    labels[np.flatnonzero(planted == 0)[5:]] = 6
    display = PrototypeHeatmapDisplay.from_predictions(
        stack, labels, max_communities=3, n_features=1
    )
    assert display.communities == [2, 3, 6]
    display = PrototypeHeatmapDisplay.from_predictions(stack, labels, n_features=1)
    assert display.communities == [0, 2, 3, 6]  # none without members


def test_noise_counts_among_the_rows_but_is_not_shown(stack, planted):
    labels = np.where(planted == 3, -1, planted)
    display = PrototypeHeatmapDisplay.from_predictions(stack, labels)
    assert display.communities == [0, 1, 2]
    means = prototypes(stack, labels, standardize=True)
    layer, neuron = display.neurons[0]
    np.testing.assert_allclose(display.values[:, 0], means[layer][:, neuron])


def test_a_few_strong_values_do_not_make_the_others_pale():
    values = np.ones((10, 30))
    values[0, 0] = 100
    neurons = [("mlp", j) for j in range(30)]
    display = PrototypeHeatmapDisplay(values, range(10), neurons).plot()
    assert display.image_.get_clim() == (-1, 1)
    assert display.colorbar_.extend == "max"
    display = PrototypeHeatmapDisplay(values, range(10), neurons).plot(limit=200)
    assert display.image_.get_clim() == (-200, 200)
    assert display.colorbar_.extend == "neither"


def test_a_wide_matrix_needs_the_widths_of_its_layers(stack, planted, pipeline):
    wide = sp.hstack(list(stack.layers), format="csr")
    layers = dict(zip(stack.names, stack.widths, strict=True))
    expected = PrototypeHeatmapDisplay.from_predictions(stack, pipeline[-1].labels_)
    display = PrototypeHeatmapDisplay.from_predictions(
        wide, pipeline[-1].labels_, layers=layers
    )
    assert display.neurons == expected.neurons
    # The sketcher knows them.
    display = PrototypeHeatmapDisplay.from_estimator(pipeline, wide)
    assert display.neurons == expected.neurons
    np.testing.assert_allclose(display.values, expected.values)


def test_prototypes_from_pipeline_and_stable_leiden(pipeline, stable, stack, ax):
    for estimator, labels in (
        (pipeline, pipeline[-1].labels_),
        (stable, stable.labels_),
    ):
        display = PrototypeHeatmapDisplay.from_estimator(
            estimator, stack, n_features=1, max_communities=2, ax=ax
        )
        expected = PrototypeHeatmapDisplay.from_predictions(
            stack, labels, n_features=1, max_communities=2
        )
        np.testing.assert_allclose(display.values, expected.values)
        assert display.ax_ is ax


def test_prototypes_refuse_labels_without_a_community():
    with pytest.raises(ValueError, match=r"There is no community.*all labels are -1"):
        PrototypeHeatmapDisplay.from_predictions(np.eye(3), [-1, -1, -1])


def test_prototypes_refuse_communities_that_no_neuron_sets_apart():
    with pytest.raises(ValueError, match=r"No neuron sets any.*Got 1 of 1 communities"):
        PrototypeHeatmapDisplay.from_predictions(np.eye(3), [0, 0, 0])


@pytest.mark.parametrize("name", ["n_features", "max_communities"])
def test_prototypes_refuse_numbers_below_one(name):
    with pytest.raises(ValueError, match=f"{name} must be an integer.*got 0"):
        PrototypeHeatmapDisplay.from_predictions(np.eye(3), [0, 0, 1], **{name: 0})


def test_prototypes_refuse_values_of_another_shape():
    with pytest.raises(ValueError, match=r"shape \(1, 2\) for 2 communities and 2 neu"):
        PrototypeHeatmapDisplay([[1, 2]], [0, 1], [("a", 0), ("a", 1)]).plot()


@pytest.mark.parametrize("limit", [0, -1.0])
def test_prototypes_refuse_a_limit_that_is_not_positive(limit):
    display = PrototypeHeatmapDisplay([[1.0]], [0], [("a", 0)])
    with pytest.raises(ValueError, match=f"limit must be above 0; got {limit!r}"):
        display.plot(limit=limit)


# Layer agreement


def test_cells_are_the_agreement_in_layer_order_and_gaps_are_hatched():
    agreement = {"late": [0.5, np.nan, -0.1], "early": [0.9, 0.3, 0.2]}
    display = LayerAgreementDisplay(agreement).plot()
    shown = display.image_.get_array()
    np.testing.assert_array_equal(shown.mask, [[0, 0], [1, 0], [0, 0]])
    np.testing.assert_allclose(shown.filled(7), [[0.5, 0.9], [7, 0.3], [-0.1, 0.2]])
    assert tick_texts(display.ax_.xaxis) == ["late", "early"]
    assert tick_texts(display.ax_.yaxis) == ["0", "1", "2"]
    assert display.ax_.patch.get_hatch() == "////"
    np.testing.assert_allclose(display.image_.get_clim(), (-0.1, 0.9))
    # A masked cell is transparent: the hatched patch is seen.
    assert display.image_.to_rgba(shown)[1, 0, 3] == 0


@pytest.mark.parametrize("values", [[np.nan, np.nan], [0.0, 0.0]])
def test_agreement_that_nowhere_exists_or_is_zero_is_drawn(values):
    display = LayerAgreementDisplay({"mlp": values}).plot()
    display.figure_.canvas.draw()
    assert display.image_.get_clim() == (0, 1)


def test_numbers_of_five_hundred_communities_are_thinned():
    display = LayerAgreementDisplay({"mlp": np.linspace(0, 1, 500)}).plot()
    display.figure_.canvas.draw()
    names = tick_texts(display.ax_.yaxis)
    assert names[:3] == ["0", "20", "40"]
    np.testing.assert_array_equal(display.ax_.get_yticks(), np.array(names, dtype=int))
    boxes = [text.get_window_extent() for text in display.ax_.get_yticklabels()]
    assert all(a.y0 > b.y1 for a, b in pairwise(boxes))


def test_agreement_from_pipeline_and_stable_leiden(pipeline, stable, stack):
    for estimator in (pipeline, stable):
        fitted = pipeline if estimator is pipeline else stable.estimator_
        widths = dict(zip(fitted[0].layer_names_, fitted[0].n_components_, strict=True))
        expected = layer_agreement(
            fitted[:-1].transform(stack),
            fitted[-1].labels_,
            widths,
            n_neighbors=5,
            random_state=1,
        )
        display = LayerAgreementDisplay.from_estimator(
            estimator, stack, n_neighbors=5, random_state=1
        )
        np.testing.assert_allclose(
            display.image_.get_array(), np.column_stack(list(expected.values()))
        )
        assert tick_texts(display.ax_.xaxis) == list(stack.names)


def test_agreement_refuses_an_estimator_without_a_sketcher(pipeline, embedding):
    with pytest.raises(
        TypeError, match=r"MultiLayerTfidfSketcher.*got MutualKNNLeiden"
    ):
        LayerAgreementDisplay.from_estimator(pipeline[-1], embedding)


def test_agreement_refuses_labels_without_a_community():
    with pytest.raises(ValueError, match="There is no community, and its layers"):
        LayerAgreementDisplay.from_predictions(np.eye(3), [-1, -1, -1], [3])


@pytest.mark.parametrize("agreement", [{}, {"mlp": []}])
def test_agreement_refuses_nothing(agreement):
    with pytest.raises(ValueError, match=r"There is no community.*nothing was given"):
        LayerAgreementDisplay(agreement).plot()


def test_agreement_refuses_layers_of_other_communities():
    with pytest.raises(ValueError, match=r"got shapes \[\(2,\), \(3,\)\]"):
        LayerAgreementDisplay({"a": [0.1, 0.2], "b": [0.1, 0.2, 0.3]}).plot()


# Resolution profile


def lines_of(ax):
    return {line.get_label(): line for line in ax.get_lines()}


def test_panels_show_the_table_over_a_logarithmic_resolution():
    display = ResolutionProfileDisplay(TABLE, [1.0]).plot()
    stability, information, communities, largest = display.axes_
    drawn = lines_of(stability)
    for label, column in (
        ("mean of pairs", "stability"),
        ("worst pair", "worst_pair"),
        ("null: permuted data", "null"),
    ):
        np.testing.assert_array_equal(drawn[label].get_xdata(), TABLE["resolution"])
        np.testing.assert_array_equal(drawn[label].get_ydata(), TABLE[column])
    for ax, column in (
        (information, "net_information"),
        (communities, "n_clusters"),
        (largest, "largest_fraction"),
    ):
        np.testing.assert_array_equal(ax.get_lines()[0].get_ydata(), TABLE[column])
    assert all(ax.get_xscale() == "log" for ax in display.axes_)
    assert stability.get_ylim()[0] <= -0.1
    before = largest.get_xlim()
    stability.set_xlim(0.5, 2)
    assert largest.get_xlim() != before  # they share the axis


def test_resolutions_above_the_null_are_filled():
    display = ResolutionProfileDisplay(TABLE).plot()
    points = {
        of.get_label(): of
        for of in display.axes_[0].collections
        if isinstance(of, mpl.collections.PathCollection)
    }
    np.testing.assert_allclose(
        points["above the null"].get_offsets(), [[1.0, 0.9], [10.0, 0.6]]
    )
    np.testing.assert_allclose(points["not above it"].get_offsets(), [[0.1, 0.0]])
    np.testing.assert_allclose(
        points["not above it"].get_facecolors(), [to_rgba("white")]
    )


def test_levels_are_marked_in_every_panel():
    display = ResolutionProfileDisplay(TABLE, [1.0, 10.0]).plot()
    for ax in display.axes_:
        places = [line.get_xdata() for line in ax.get_lines()]
        marked = [x[0] for x in places if len(x) == 2 and x[0] == x[1]]
        assert marked == [1.0, 10.0]
    assert [text.get_text() for text in display.axes_[0].texts] == ["1", "10"]
    names = [text.get_text() for text in display.axes_[0].get_legend().get_texts()]
    assert names.count("level") == 1


def test_without_a_null_none_is_drawn():
    table = TABLE | {"null": np.full(3, np.nan)}
    display = ResolutionProfileDisplay(table).plot()
    assert "null: permuted data" not in lines_of(display.axes_[0])


def test_ticks_are_plain_numbers():
    display = ResolutionProfileDisplay(TABLE).plot()
    display.figure_.canvas.draw()
    assert {"0.1", "1", "10"} <= set(tick_texts(display.axes_[3].xaxis))


def test_profile_is_drawn_on_the_axes_given(profile):
    axes = plt.figure().subplots(4, 1)
    before = plt.get_fignums()
    display = ResolutionProfileDisplay.from_profile(profile, axes=axes)
    assert plt.get_fignums() == before
    assert list(display.axes_) == list(axes)
    assert display.figure_ is axes[0].figure
    drawn = lines_of(axes[0])["mean of pairs"]
    np.testing.assert_array_equal(drawn.get_xdata(), profile.table["resolution"])
    np.testing.assert_array_equal(drawn.get_ydata(), profile.table["stability"])
    assert [float(text.get_text()) for text in axes[0].texts] == profile.levels != []


def test_profile_makes_one_figure(profile):
    display = ResolutionProfileDisplay.from_profile(profile)
    assert plt.get_fignums() == [display.figure_.number]
    display.figure_.canvas.draw()


def test_refuses_what_is_no_profile():
    with pytest.raises(TypeError, match=r"must be a ResolutionProfile.*got dict"):
        ResolutionProfileDisplay.from_profile(TABLE)


def test_refuses_a_table_without_its_columns():
    table = {name: of for name, of in TABLE.items() if name != "null"}
    with pytest.raises(ValueError, match=r"it lacks \['null'\]"):
        ResolutionProfileDisplay(table).plot()


def test_refuses_another_number_of_axes(ax):
    with pytest.raises(ValueError, match="axes must be 4 Axes; got 1"):
        ResolutionProfileDisplay(TABLE).plot(ax)
