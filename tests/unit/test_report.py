"""The page of communities: what is in the file, and what a browser makes of it."""

import json
import os
import re
import sys
from time import perf_counter

import jinja2
import numpy as np
import pytest

from skleiden.inspection import (
    Communities,
    CommunityMap,
    CrossTable,
    NeuronActivity,
    Representative,
    Representatives,
    TopFeature,
)
from skleiden.io import load_communities, save_communities
from skleiden.plotting import CommunityMapDisplay, CommunitySizesDisplay
from skleiden.report import write_report

SIZES = {0: 230, 1: 40, 2: 10, 3: 7, -1: 5}  # -1 is noise
LABELS = np.random.RandomState(0).permutation(
    np.repeat(list(SIZES), list(SIZES.values()))
)
N = LABELS.size
LAYERS = [f"layer_{i}" for i in range(12)]

HOSTILE = [
    "<script>document.title = 'run'</script>",
    "</script><img src=x onerror=\"document.title = 'run'\">",
    "<!-- <script>",
    "{{ 7*7 }} {% raw %} ${7*7}",
    "$x^2$ '\"&amp;",
    "line\u2028and\u2029paragraph",
    "right\u202eto left",
    "nul\x00nul",
    "half a pair \ud83d",
]
# As they come back: no file can hold half a pair of surrogates.
MENDED = [text.replace("\ud83d", "\N{REPLACEMENT CHARACTER}") for text in HOSTILE]


def make_found(**changes):
    rng = np.random.RandomState(1)
    first = {label: np.flatnonzero(label == LABELS) for label in range(4)}
    known = {
        "labels": LABELS,
        "ids": [f"q{row:04d}" for row in range(N)],
        "texts": [f"Prompt {row} of kind {label}" for row, label in enumerate(LABELS)],
        "confidence": np.where(LABELS == 2, 1.0, 0.5),
        "attached": np.arange(N) == first[1][0],
        "stability": [0.7, 0.9, np.nan, 0.8],
        "top_features": {
            label: [
                TopFeature("layer_3", 1187 + label, 4.5, 2.0, 0.1, 0.75, 0.25),
                TopFeature("layer_10", 4 * label, 3.5, 2.0, 0.1, 1.0, 0.125),
                TopFeature("layer_3", 7000 + label, 2.5, 2.0, 0.1, 0.5, 0.25),
            ]
            for label in range(4)
        },
        "representatives": {
            label: Representatives(
                [Representative(int(row), 3.5, 1.0) for row in rows[2:4]],
                [Representative(int(row), 0.5, 0.25) for row in rows[-2:]],
            )
            for label, rows in first.items()
        },
        "layer_agreement": {name: rng.rand(4) for name in LAYERS},
        "map": CommunityMap(
            np.arange(0, N, 2), rng.uniform(-1, 1, (N // 2, 2)).astype(np.float32)
        ),
        "summary": {"modularity": 0.61234, "stability": 0.875, "n_edges": 99},
        "parameters": {
            "steps": [("leiden", object())],
            "leiden": object(),
            "leiden__resolution": 2.5,
        },
        "versions": {"skleiden": "1.2.3"},
        "fingerprint": "c0ffee",
    }
    return Communities(**(known | changes))


GROUP_SIZES = {0: 120, 1: 30, 2: 6, 3: 4, -1: 3}
GROUPS = np.repeat(list(GROUP_SIZES), list(GROUP_SIZES.values()))
NEURONS = [f"layer_{i % 3}:{i // 3}" for i in range(GROUPS.size)]
EFFECTS = np.array([[9, 0.1, 3, 2], [0.2, 4, 0.3, 0], [1, 1, 8.04, 1], [0, 0, 0, 0.5]])
DRIVES = EFFECTS > 1.5


def make_groups(**changes):
    """Groups of neurons, as describe_communities makes them."""
    rng = np.random.RandomState(2)
    first = {label: np.flatnonzero(label == GROUPS) for label in range(4)}
    known = {
        "labels": GROUPS,
        "ids": NEURONS,
        "stability": [0.75, 0.5, 0.9, 0.25],
        "top_features": {
            label: [
                TopFeature(
                    *("neurons", row, 3.5 - i, 1.5, -0.1, 0.75, 0.25, i == 0),
                    *(f"p{row:03d}", f"Question {row} of {label}"),
                )
                for i, row in enumerate((7, 20 + label))
            ]
            for label in range(4)
        },
        "representatives": {
            label: Representatives([Representative(int(rows[1]), 2.5, 1.0)], [])
            for label, rows in first.items()
        },
        "keywords": {0: ["whale", "ocean"], 1: ["prime"], 2: [], 3: ["ocean", "tide"]},
        "layer_share": {f"layer_{i}": rng.dirichlet([1, 1, 1, 1]) for i in range(3)},
        "map": CommunityMap(
            np.arange(0, GROUPS.size, 2), rng.uniform(-1, 1, (len(GROUPS) // 2 + 1, 2))
        ),
        "summary": {"rows": "neurons", "n_silent": 3, "modularity": 0.4},
        "parameters": {"leiden__resolution": 4.0},
    }
    return Communities(**(known | changes))


def make_table():
    return CrossTable(
        means=EFFECTS / 2,
        effects=EFFECTS,
        chance=np.full((4, 4), 0.5),
        drives=DRIVES,
        group_sizes=np.bincount(GROUPS[GROUPS >= 0]),
        community_sizes=np.bincount(LABELS[LABELS >= 0]),
        layers=np.full((4, 3), 1 / 3),
        layer_names=("layer_0", "layer_1", "layer_2"),
    )


def make_both(groups=None, **changes):
    keywords = {0: ["river", "delta"], 1: ["chess"], 2: ["copper"], 3: []}
    known = {
        "keywords": keywords,
        "neuron_groups": groups or make_groups(),
        "cross_table": make_table(),
    }
    return make_found(**(known | changes))


@pytest.fixture(scope="module")
def found():
    return make_found()


@pytest.fixture(scope="module")
def both():
    return make_both()


@pytest.fixture(scope="module")
def both_page(both, tmp_path_factory):
    """The page of communities and of groups of neurons that drive them."""
    path = tmp_path_factory.mktemp("both") / "report.html"
    write_report(path, both)
    return path


@pytest.fixture(scope="module")
def full_page(tmp_path_factory):
    """The page of all that may be known of communities of prompts."""
    path = tmp_path_factory.mktemp("full") / "report.html"
    write_report(path, make_named(neurons=make_active(), tree=make_tree()))
    return path


@pytest.fixture(scope="module")
def neuron_page(tmp_path_factory):
    """The page of groups of neurons alone."""
    path = tmp_path_factory.mktemp("neurons") / "report.html"
    write_report(path, make_groups())
    return path


@pytest.fixture(scope="module")
def page(found, tmp_path_factory):
    path = tmp_path_factory.mktemp("report") / "report.html"
    write_report(path, found, title="A & <b>")
    return path


def data_in(path):
    html = path.read_text(encoding="utf-8")
    pattern = r'<script type="application/json" id="data">(.*?)</script>'
    return json.loads(re.search(pattern, html, re.DOTALL)[1])


def names_in(folder):
    return [path.name for path in folder.iterdir()]


# --- The file -------------------------------------------------------------------------


@pytest.mark.parametrize("known", [{}, {"texts": None, "map": None}], ids=len)
def test_data_are_what_a_file_holds_and_colours(tmp_path, known):
    found = make_found(**known)
    write_report(tmp_path / "report.html", found)
    save_communities(tmp_path / "found.json", found)
    data = data_in(tmp_path / "report.html")
    del data["colors"], data["words"]
    document = json.loads((tmp_path / "found.json").read_text())
    assert data == document
    for one in data["communities"]:  # layers in their order
        assert list(one["layer_agreement"]) == LAYERS
    assert ("noise_texts" in data, "map" in data) == (not known, not known)


def test_data_of_groups_are_what_a_file_holds_and_links(tmp_path, both, both_page):
    save_communities(tmp_path / "found.json", both)
    data = data_in(both_page)
    document = json.loads((tmp_path / "found.json").read_text())
    del document["cross_table"]
    assert [*data["drives"][0].values()] == [0, 0, 9.0, 4.5]
    pairs = {(one["group"], one["community"]) for one in data.pop("drives")}
    assert pairs == set(zip(*np.nonzero(DRIVES), strict=True))
    groups = data["neuron_groups"]
    for one in document["neuron_groups"]["communities"]:
        del one["members"]
    assert set(groups.pop("colors")) == {"-1", "0", "1", "2", "3"}
    del data["colors"], data["words"], groups["words"]
    assert data == document


def figure_colours(found):
    """The colour of each community, and of the noise, in the figures of a run."""
    ax = pytest.importorskip("matplotlib.figure").Figure().subplots()
    to_hex = pytest.importorskip("matplotlib.colors").to_hex
    drawn = CommunityMapDisplay(found.map, found.labels).plot(ax)
    labels = found.labels[drawn.rows_]
    colours = drawn.points_.get_facecolors()
    placed = labels[labels >= 0].tolist()
    on_map = dict(zip(placed, map(to_hex, colours), strict=True))
    if (labels < 0).any():
        on_map[-1] = to_hex(drawn.noise_points_.get_facecolors()[0])
    bars = CommunitySizesDisplay.from_predictions(found.labels, ax=ax)
    sizes = np.bincount(found.labels[found.labels >= 0])
    order = np.argsort(-sizes, kind="stable")[: np.count_nonzero(sizes)]
    in_bars = {
        int(label): to_hex(bar.get_facecolor())
        for label, bar in zip(order, bars.bars_, strict=True)
    }
    if bars.noise_bar_ is not None:
        in_bars[-1] = to_hex(bars.noise_bar_[0].get_facecolor())
    assert in_bars == on_map
    return on_map


def scattered(labels):
    """Communities of these labels, with all rows on a map, apart from each other."""
    n = len(labels)
    positions = np.column_stack([np.arange(n), np.arange(n) % 7 / 7]) / n
    return Communities(labels, map=CommunityMap(np.arange(n), positions))


@pytest.mark.parametrize(
    "labels", [LABELS, [0, 2, 2, 5, -1], [0, 0], np.arange(70)], ids=len
)
def test_data_hold_the_colours_of_the_figures(tmp_path, labels):
    path = tmp_path / "report.html"
    found = scattered(labels)
    write_report(path, found)
    pairs = {int(label): pair for label, pair in data_in(path)["colors"].items()}
    for label, colour in figure_colours(found).items():
        assert pairs[label][0] == colour
    assert set(pairs) == {-1, *found.labels.tolist()}
    for scheme in zip(*pairs.values(), strict=True):
        assert len(set(scheme)) == len(pairs)


def test_integer_ids_are_exact(tmp_path):
    path = tmp_path / "report.html"
    write_report(path, Communities([0, 0], ids=[2**53 + 1, 2**62 + 1]))
    assert data_in(path)["rows"]["ids"] == ["9007199254740993", "4611686018427387905"]


def test_hostile_texts_are_escaped(tmp_path):
    path = tmp_path / "report.html"
    labels = np.zeros(len(HOSTILE), dtype=int)
    plain = Communities(labels, texts=[""] * len(HOSTILE))
    write_report(path, plain)
    n_tags = path.read_text(encoding="utf-8").count("<")
    write_report(path, Communities(labels, ids=MENDED, texts=HOSTILE))
    html = path.read_text(encoding="utf-8")
    assert html.count("<") == n_tags
    assert data_in(path)["communities"][0]["texts"] == MENDED
    assert not set("\u2028\u2029\u202e\x00") & set(html)


def test_title_and_facts_are_escaped(page, tmp_path):
    html = page.read_text(encoding="utf-8")
    assert "<title>A &amp; &lt;b&gt;</title>" in html
    path = tmp_path / "report.html"
    write_report(path, Communities([0], parameters={"<i>": "<script>"}), title="\udc80")
    html = path.read_text(encoding="utf-8")
    assert "<title>\N{REPLACEMENT CHARACTER}</title>" in html
    assert "&lt;i&gt;" in html
    assert html.count("<script>") == 1


def test_same_communities_same_file(page, found, tmp_path):
    write_report(tmp_path / "again.html", found, title="A & <b>")
    assert (tmp_path / "again.html").read_bytes() == page.read_bytes()


def test_failing_leaves_an_old_file(monkeypatch, tmp_path, found):
    path = tmp_path / "report.html"
    path.write_text("old")

    def fail(*args, **kwargs):
        raise RuntimeError("no template")

    monkeypatch.setattr(jinja2.Template, "render", fail)
    with pytest.raises(RuntimeError, match="no template"):
        write_report(path, found)
    assert path.read_text() == "old"
    assert names_in(tmp_path) == ["report.html"]


def test_full_disk_leaves_an_old_file(monkeypatch, tmp_path, found):
    path = tmp_path / "report.html"
    path.write_text("old")

    def fail(*args):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", fail)
    with pytest.raises(OSError, match=r"Cannot write 'report.html'.*No space left"):
        write_report(path, found)
    assert path.read_text() == "old"
    assert names_in(tmp_path) == ["report.html"]


def test_replaces_an_old_file(tmp_path, found):
    path = tmp_path / "report.html"
    path.write_text("old")
    write_report(str(path), found)
    assert path.read_text(encoding="utf-8").startswith("<!doctype html>")


def test_says_what_to_install(monkeypatch, tmp_path, found):
    monkeypatch.setitem(sys.modules, "jinja2", None)
    with pytest.raises(ImportError, match=r'pip install "skleiden\[report\]"'):
        write_report(tmp_path / "report.html", found)
    assert names_in(tmp_path) == []


def test_takes_communities_only(tmp_path):
    with pytest.raises(TypeError, match="takes Communities; got ndarray"):
        write_report(tmp_path / "report.html", LABELS)


def test_errors_of_the_path(tmp_path, found):
    with pytest.raises(IsADirectoryError, match="is a folder; give the name of a file"):
        write_report(tmp_path, found)
    with pytest.raises(FileNotFoundError, match="does not exist; make it before"):
        write_report(tmp_path / "missing" / "report.html", found)


# --- In a browser ---------------------------------------------------------------------


def order(tab, name="list"):
    items = tab.locator(f"#{name} > li:visible")
    return items.evaluate_all("all => all.map(li => li.id)")


def is_open(tab, anchor):
    expanded = tab.locator(f"#{anchor} h3 button").get_attribute("aria-expanded")
    return expanded == "true" and tab.locator(f"#{anchor} .panel").is_visible()


def spoken(element):
    """What a screen reader tells of an element."""
    told = element.evaluate(
        """of => {
            const copy = of.cloneNode(true);
            copy.querySelectorAll("[aria-hidden=true]").forEach(one => one.remove());
            return copy.textContent;
        }"""
    )
    return " ".join(told.split())


def test_page_at_a_glance(visit, page):
    tab = visit(page)
    assert tab.title() == "A & <b>"
    assert tab.locator("h1").inner_text() == "A & <b>"
    facts = tab.locator(".facts").inner_text()
    for fact in ("292 prompts", "4 communities", "1.7% noise", "modularity 0.612"):
        assert fact in facts
    assert tab.locator("h2").all_inner_texts() == [
        "Overview",
        "Map",
        "Communities",
        "How they were made",
    ]
    assert tab.locator("#sizes rect").count() == 4
    assert tab.locator("#layers rect").count() == len(LAYERS)
    assert "Map of 146 prompts" in tab.locator("canvas").get_attribute("aria-label")
    making = tab.locator("#making").inner_text()
    for told in ("resolution", "2.5", "skleiden", "1.2.3", "c0ffee", "n_edges"):
        assert told in making
    assert "object at" not in making
    assert (
        tab.locator("label[for=query]").inner_text() == "Search prompts, ids, neurons"
    )
    # Nothing is there before it is opened.
    assert tab.locator(".panel > *").count() == 0


def test_open_by_mouse(visit, page, found):
    tab = visit(page)
    tab.locator("#c1 h3 button").click()
    assert is_open(tab, "c1")
    panel = tab.locator("#c1 .panel")
    central, borderline = panel.locator("ul.rows").all()
    for shown, rows in zip(
        (central, borderline), found.representatives[1], strict=True
    ):
        assert shown.locator(".text").all_inner_texts() == [
            found.texts[one.row] for one in rows
        ]
    assert "25% of links inside" in borderline.inner_text()
    neurons = panel.locator("table.neurons")
    assert neurons.locator("tbody tr").all_inner_texts() == [  # largest effect first
        "layer_3:1188\t4.5\t75%\t25%\t2.00 / 0.10",
        "layer_10:4\t3.5\t100%\t13%\t2.00 / 0.10",
        "layer_3:7001\t2.5\t50%\t25%\t2.00 / 0.10",
    ]
    assert neurons.locator("button").count() == 0  # no more is known of them
    agreement = panel.locator("table.of-layers tr").all_inner_texts()
    assert agreement == [
        f"{name}\t{found.layer_agreement[name][1]:.2f}" for name in LAYERS
    ]
    rows = np.flatnonzero(LABELS == 1)
    members = panel.locator("ol.members > li")
    assert members.locator(".text").all_inner_texts() == [
        found.texts[row] for row in rows
    ]
    first = members.first.inner_text()
    for told in (found.ids[rows[0]], "confidence 50%", "from a small community"):
        assert told in first
    tab.locator("#c1 h3 button").click()
    assert not is_open(tab, "c1")
    assert panel.locator("*").count() == 0


def test_open_by_keyboard(visit, page):
    tab = visit(page)
    tab.locator("#query").focus()
    for _ in range(5):  # sort, reverse, and three communities
        tab.keyboard.press("Tab")
    focused = tab.evaluate("document.activeElement.closest('li').id")
    assert focused == "c2"
    outline = "getComputedStyle(document.activeElement).outlineStyle"
    assert tab.evaluate(outline) == "solid"
    tab.keyboard.press("Enter")
    assert is_open(tab, "c2")
    tab.keyboard.press("Space")
    assert not is_open(tab, "c2")


def test_search_of_prompts_and_ids(visit, page):
    tab = visit(page)
    status = tab.locator("#status")
    assert status.get_attribute("role") == "status"  # which is read out
    tab.locator("#query").fill("KIND 2")
    assert order(tab) == ["c2"]
    assert status.inner_text() == "10 prompts found in 1 of 4 communities"
    row = int(np.flatnonzero(LABELS == 0)[150])
    tab.locator("#query").fill(f"q{row:04d}")
    assert order(tab) == ["c0"]
    tab.locator("#c0 h3 button").click()
    assert tab.locator("#c0 .panel > *").first.inner_text() == "All 230 prompts"
    first = tab.locator("#c0 ol.members > li").first
    assert f"Prompt {row} of" in first.inner_text()
    assert first.get_attribute("class") == "found"
    assert first.locator("mark").inner_text() == f"q{row:04d}"
    assert tab.locator("#c0 ol.members > .found").count() == 1
    # Characters that mean something in a pattern are searched for as they are.
    tab.locator("#query").fill("q0.*[")
    assert order(tab) == []
    assert status.inner_text() == "0 prompts found in 0 of 4 communities"
    tab.locator("#query").fill("")
    assert order(tab) == ["c0", "c1", "c2", "c3", "noise"]
    assert status.inner_text() == "4 communities"
    tab.locator("#query").fill("kind -1")
    assert status.inner_text() == "5 prompts found in 0 of 4 communities and in none"


def test_search_of_neurons(visit, page):
    tab = visit(page)
    tab.locator("#query").fill("layer_3:1189")
    assert order(tab) == ["c2"]
    status = tab.locator("#status").inner_text()
    assert status == "0 prompts and 1 neuron found in 1 of 4 communities"
    tab.locator("#c2 h3 button").click()
    assert tab.locator("#c2 tr.found mark").all_inner_texts() == ["layer_3:1189"]


def test_sort(visit, page):
    tab = visit(page)
    sort, reverse = tab.locator("#sort"), tab.locator("#reverse")
    assert sort.locator("option").all_inner_texts() == [
        "size",
        "number",
        "stability",
        "mean confidence",
        "largest effect",
    ]
    assert order(tab) == ["c0", "c1", "c2", "c3", "noise"]
    sort.select_option("stability")
    assert order(tab) == ["c1", "c3", "c0", "c2", "noise"]
    reverse.click()
    assert reverse.get_attribute("aria-pressed") == "true"
    assert order(tab) == ["c0", "c3", "c1", "c2", "noise"]  # unknown stays last
    sort.select_option("size")
    assert order(tab) == ["c3", "c2", "c1", "c0", "noise"]
    reverse.click()
    sort.select_option("confidence")
    assert order(tab)[0] == "c2"
    sort.select_option("label")
    assert order(tab) == ["c0", "c1", "c2", "c3", "noise"]


def make_named(**changes):
    """Communities of which more is known: names, strength, cohesion, second ones."""
    second = np.full(N, -1)
    second[np.flatnonzero(LABELS == 1)[0]] = 3
    known = {
        "names": {
            0: "rivers & <b>deltas</b>",
            1: "chess",
            2: "copper, ore, mines",
            3: "no words in common",
        },
        "keywords": {
            0: ["river", "delta"],
            1: ["gambit"],
            2: ["copper", "ore", "mines", "tin"],
            3: [],
        },
        "strength": np.where(LABELS == 3, 0.25, np.where(LABELS < 0, 0.0, 0.5)),
        "second": second,
        "cohesion": [0.9, 0.8, 0.45, np.nan],
    }
    return make_found(**(known | changes))


@pytest.fixture(scope="module")
def named_page(tmp_path_factory):
    path = tmp_path_factory.mktemp("named") / "report.html"
    write_report(path, make_named())
    return path


def test_names(visit, named_page):
    tab = visit(named_page)
    leads = tab.locator("#list .lead").all_inner_texts()
    assert leads == [*make_named().names.values(), "In no community"]
    line = "loosely connected · strength 0.50 · confidence 100% · Prompt"
    assert tab.locator("#c2 .line").inner_text().startswith(line)
    # Keywords are told unless the name says the same.
    assert tab.locator("#c1 .line").inner_text().startswith("gambit · strength 0.50")
    assert tab.locator("#noise .line").inner_text() == ""
    rect = tab.locator("#sizes rect title").nth(1)
    assert rect.text_content() == "Community 1 · chess: 40 prompts"
    tab.locator("#c1 h3 button").click()
    assert tab.get_by_role("region", name="Community 1 · chess").is_visible()
    found = make_found()
    row = int(next(row for row in found.map.rows if LABELS[row] == 1))
    tab.mouse.move(*pixel_of(tab, row, found))
    assert tab.locator(".tip .of").inner_text() == "Community 1 · chess"


def test_search_of_names(visit, named_page):
    tab = visit(named_page)
    label = tab.locator("label[for=query]").inner_text()
    assert label == "Search prompts, ids, names, keywords, neurons"
    tab.locator("#query").fill("CHESS")
    assert order(tab) == ["c1"]
    told = "0 prompts and 1 name found in 1 of 4 communities"
    assert tab.locator("#status").inner_text() == told
    tab.locator("#query").fill("copper")  # which the name has from the keywords
    assert order(tab) == ["c2"]
    told = "0 prompts and 1 keyword found in 1 of 4 communities"
    assert tab.locator("#status").inner_text() == told


def test_names_on_the_map(visit, tmp_path):
    """They are written where there is room."""
    path = tmp_path / "report.html"
    shown = CommunityMap(np.arange(8), np.repeat([[0, 0], [1, 1.0]], 4, axis=0))
    labels = np.repeat([0, 1], 4)
    pictures = []
    for names in ({}, {0: "a name", 1: "b, c"}, {0: "n" * 30, 1: "no words in common"}):
        write_report(path, Communities(labels, map=shown, names=names))
        tab = visit(path)
        pictures.append(tab.evaluate("document.querySelector('canvas').toDataURL()"))
    assert pictures[1] != pictures[0]
    assert pictures[2] == pictures[0]


def test_sort_by_what_is_known(visit, named_page):
    tab = visit(named_page)
    tab.locator("#sort").select_option("strength")
    assert order(tab) == ["c0", "c1", "c2", "c3", "noise"]
    tab.locator("#sort").select_option("cohesion")
    assert order(tab) == ["c0", "c1", "c2", "c3", "noise"]
    tab.locator("#reverse").click()
    assert order(tab) == ["c2", "c1", "c0", "c3", "noise"]  # unknown stays last


def test_sort_by_effect(visit, tmp_path):
    path = tmp_path / "report.html"
    effects = {0: 1.0, 1: 3.0, 2: np.inf, 3: 2.0}
    features = {
        c: [
            TopFeature("a", 2 * c, -1.0, 1, 0, 1, 0),
            TopFeature("a", 2 * c + 1, effect, 1, 0, 1, 0),
        ]
        for c, effect in effects.items()
    }
    write_report(path, make_found(top_features=features))
    tab = visit(path)
    tab.locator("#sort").select_option("effect")
    assert order(tab) == ["c1", "c3", "c0", "c2", "noise"]


def test_numbers_are_explained(visit, named_page, both_page):
    tab = visit(named_page, "#c2")
    told = tab.locator("#c2 .told p").all_inner_texts()
    assert told == [
        "Strength 0.50 how strongly its prompts are tied to it, on average, from 0 "
        "to 1",
        "Links inside 45% loosely connected: most of the weight of its links "
        "leads outside",
        "Confidence 100% how often runs with other seeds group its prompts in the same "
        "way",
    ]
    panel = tab.locator("#c2 .panel").inner_text()
    assert "Effect: how far the mean inside lies above the mean outside" in panel
    assert "How many of a prompt\u2019s nearest neighbours, by one layer" in panel
    tab = visit(named_page, "#c0")
    told = tab.locator("#c0 .told p").all_inner_texts()
    assert told[1:3] == [
        "Links inside 90% share of the weight of its links that stays in the community",
        "Stability 0.70 how well other runs find it again, from 0 to 1",
    ]
    tab = visit(both_page, "#g1")
    panel = tab.locator("#g1 .panel").inner_text()
    assert "Effect: how far the mean of its neurons lies above that of others" in panel
    assert "How its neurons are spread over the layers." in panel


def test_rows_between_communities(visit, named_page):
    tab = visit(named_page, "#c1")
    first = tab.locator("#c1 ol.members > li").first
    assert "strength 0.50" in first.inner_text()
    assert "also near Community 3" in " ".join(first.text_content().split())
    assert links_of(tab, "#c1 ol.members") == ["#c3"]
    tab.locator("#c1 ol.members a").click()
    opens(tab, "c3")


def test_borderline_rows_are_at_a_border(visit, tmp_path):
    path = tmp_path / "report.html"
    rows = [
        Representative(row, 1.0, share) for row, share in enumerate((0.4, 0.66, 0.7))
    ]
    found = Communities(
        [0] * 4, representatives={0: Representatives(rows[2:], rows)}, ids=list("abcd")
    )
    write_report(path, found)
    panel = visit(path, "#c0").locator("#c0 .panel")
    assert panel.locator("h4").all_inner_texts() == [
        *("Most central", "Borderline", "All 4 rows")
    ]
    assert panel.locator("ul.rows").nth(1).locator("bdi").all_inner_texts() == [
        "a",
        "b",
    ]
    sure = {0: Representatives(rows[2:], rows[2:])}
    write_report(path, Communities([0] * 4, representatives=sure))
    headings = visit(path, "#c0").locator("#c0 h4").all_inner_texts()
    assert headings == ["Most central", "All 4 rows"]


@pytest.mark.parametrize(
    ("rows", "texts", "label", "fact"),
    [
        ("tokens", ["a", "b"], "Search tokens, ids", "2 tokens"),
        ("tokens", None, "Search ids", "2 tokens"),
        ("rows", ["a", "b"], "Search texts, ids", "2 rows"),
        ("prompts", None, "Search ids", "2 prompts"),
        (["?"], None, "Search ids", "2 rows"),
    ],
)
def test_rows_are_called_what_they_are(visit, tmp_path, rows, texts, label, fact):
    path = tmp_path / "report.html"
    write_report(path, Communities([0, 0], texts=texts, summary={"rows": rows}))
    tab = visit(path, "#c0")
    assert tab.locator("label[for=query]").inner_text() == label
    assert fact in tab.locator(".facts").inner_text()
    assert tab.locator("#c0 h4").inner_text() == f"All {fact}"


def make_active(n_rows=2):
    """What some of the neurons listed fire on."""
    rows = [int(row) for row in np.flatnonzero(LABELS == 1)[:n_rows]]
    noise = int(np.flatnonzero(LABELS < 0)[0])
    strongest = [(row, 3.25 - i) for i, row in enumerate(rows)] + [(noise, 0.5)]
    return [
        NeuronActivity(
            *("layer_3", 1188, 0.5, 0.125, strongest),
            [(1, 2.0, 0.75), (3, 0.0, 0.25)],
        ),
        NeuronActivity("layer_10", 0, 0.5, 0.5, strongest, [(1, 0.0, 0.0)]),
        NeuronActivity("layer_10", 4, 0.0, 0.0, [], [(1, 0.0, 0.0)]),
    ]


def test_a_click_on_a_neuron_shows_what_it_fires_on(visit, tmp_path):
    path = tmp_path / "report.html"
    found = make_named(neurons=make_active())
    write_report(path, found)
    tab = visit(path, "#c1")
    neurons = tab.locator("#c1 table.neurons")
    buttons = neurons.locator("th button")
    assert buttons.all_inner_texts() == ["layer_3:1188", "layer_10:4"]
    assert not neurons.locator(".below").first.is_visible()
    buttons.first.focus()
    tab.keyboard.press("Enter")
    assert buttons.first.get_attribute("aria-expanded") == "true"
    below = neurons.locator(".below").first
    assert below.locator("h4, caption").all_inner_texts() == [
        *("Strongest prompts", "Most active communities")
    ]
    rows = [row for row, _ in found.neurons[0].strongest]
    assert below.locator(".text").all_inner_texts() == [
        found.texts[row] for row in rows
    ]
    notes = below.locator(".notes").all_text_contents()
    assert "activation 3.25in Community 1" in notes[0]
    assert "activation 0.50In no community" in notes[2]
    lines = [
        " ".join(line.split()) for line in below.locator("table tr").all_text_contents()
    ]
    assert lines == [
        "CommunityMeanFires in",
        "Community 1 chess2.0075%",
        "Community 3 no words in common0.0025%",
        "all prompts0.5013%",
    ]
    tab.keyboard.press("Space")
    assert not below.is_visible()
    assert below.locator("*").count() == 0
    buttons.nth(1).click()
    assert "It fires in no prompt." in neurons.locator(".below").nth(1).inner_text()


def make_tree():
    """Of all rows, those of communities 0 and 1, and those of 1 and of 0 within."""
    node_of_row = np.select([LABELS == 0, LABELS == 1, LABELS >= 0], [3, 4, 2], -1)
    sizes = [287, 270, 17, 230, 40]
    told = [
        (None, [1, 2], 0.9, []),
        (0, [3, 4], 0.75, ["water", "<i>board</i>"]),
        (0, [], None, []),
        (1, [], None, ["river"]),
        (1, [], None, ["chess"]),
    ]
    nodes = [
        {
            "node": number,
            "parent": parent,
            "level": 0,
            "size": size,
            "children": children,
            "resolution": None,
            "replicability": replicability,
            "keywords": keywords,
        }
        for number, (size, (parent, children, replicability, keywords)) in enumerate(
            zip(sizes, told, strict=True)
        )
    ]
    return {
        "n_samples": N,
        "n_levels": 3,
        "nodes": nodes,
        "node_of_row": node_of_row.tolist(),
    }


def test_tree_opens(visit, tmp_path):
    path = tmp_path / "report.html"
    write_report(path, make_named(tree=make_tree()))
    tab = visit(path)
    assert tab.locator("h2").all_inner_texts()[3] == "Communities within communities"
    summaries = tab.locator("#tree summary:visible")
    assert summaries.all_inner_texts() == [
        "All 287 prompts · 2 parts · replicability 0.90",
        "water, <i>board</i> 270 prompts · 2 parts · replicability 0.75",
        "no words in common 17 prompts",
    ]
    summaries.nth(1).focus()
    tab.keyboard.press("Enter")
    tab.locator("#tree summary", has_text="river").wait_for()
    assert summaries.count() == 5
    places = tab.locator("#tree .links")
    shown = "In communities Community 0 (230), Community 1 (40)"  # each is hidden once
    assert places.text_content() == shown
    assert spoken(places) == "In Community 0 (230), Community 1 (40)"
    tab.locator("#tree summary", has_text="river").click()
    leaf = tab.locator("#tree .leaf")
    assert leaf.locator("h4").inner_text() == "All 230 prompts"
    assert leaf.locator("li").count() == 100
    leaf.locator(".more").click()
    assert leaf.locator("li").count() == 200
    tab.locator("#tree .links a").first.click()
    opens(tab, "c0")


def test_parts_of_a_tree_without_texts(visit, tmp_path):
    path = tmp_path / "report.html"
    tree = make_tree()
    nodes = [{**node, "keywords": []} for node in tree["nodes"]]
    write_report(path, Communities(LABELS, tree={**tree, "nodes": nodes}))
    leads = visit(path).locator("#tree .lead:visible").all_inner_texts()
    assert leads == ["All", "Part 1", "Part 2"]


def test_a_tree_that_is_not_divided(visit, tmp_path):
    path = tmp_path / "report.html"
    tree = make_tree()
    root = {**tree["nodes"][0], "children": [], "replicability": None}
    alone = {**tree, "nodes": [root], "node_of_row": [0] * N}
    write_report(path, make_found(tree=alone))
    told = visit(path).locator("#tree").inner_text()
    assert "These prompts are not divided: random halves of their links" in told


@pytest.mark.parametrize("width", [390, 1280])
def test_long_names_of_layers_break_where_parts_end(visit, tmp_path, width):
    path = tmp_path / "report.html"
    layer = "model.encoder.block.11.layer.1.DenseReluDense.wi.output"
    feature = TopFeature(layer, 1187, 4.5, 2.0, 0.1, 0.75, 0.25)
    active = [NeuronActivity(layer, 1187, 0.5, 0.5, [(0, 2.0)], [(0, 1.0, 1.0)])]
    found = Communities(
        [0, 0, 1],
        top_features={0: [feature]},
        layer_agreement={layer: [0.5, 0.5]},
        neurons=active,
    )
    write_report(path, found)
    tab = visit(path, "#c0", viewport={"width": width, "height": 900})
    words = tab.locator(".name").evaluate_all(
        """names => names.filter(name => name.getClientRects().length).map(name => {
          const walker = document.createTreeWalker(name, NodeFilter.SHOW_TEXT);
          const lines = [];
          while (walker.nextNode()) {
            const range = document.createRange();
            range.selectNodeContents(walker.currentNode);
            lines.push(new Set([...range.getClientRects()].map(r => r.top)).size);
          }
          return lines;
        })"""
    )
    assert len(words) >= 3
    assert all(lines == 1 for of in words for lines in of)


def test_show_more(visit, page, found):
    tab = visit(page)
    tab.locator("#c0 h3 button").click()
    members = tab.locator("#c0 ol.members > li")
    more = tab.locator("#c0 .more")
    assert members.count() == 100
    assert more.inner_text() == "Show 100 more of 130"
    more.focus()
    tab.keyboard.press("Enter")
    assert members.count() == 200
    assert more.inner_text() == "Show 30 more of 30"
    tab.keyboard.press("Enter")  # the focus is still there
    assert not more.is_visible()
    assert members.locator(".text").all_inner_texts() == [
        found.texts[row] for row in np.flatnonzero(LABELS == 0)
    ]
    focused = "e => [...e.parentNode.children].indexOf(document.activeElement)"
    assert members.first.evaluate(focused) == 200


def test_noise_is_last(visit, page, found):
    tab = visit(page, "#noise")
    assert is_open(tab, "noise")
    assert "In no community" in tab.locator("#noise h3").inner_text()
    assert tab.locator("#noise .text").all_inner_texts() == [
        found.texts[row] for row in np.flatnonzero(LABELS < 0)
    ]


def test_deep_links(visit, page):
    tab = visit(page, "#c3")
    assert is_open(tab, "c3")
    assert tab.evaluate("document.activeElement.closest('li').id") == "c3"
    tab.locator("#query").fill("kind 3")
    tab.evaluate("location.hash = '#c2'")  # which the search hides
    tab.wait_for_function("!document.getElementById('c2-panel').hidden")
    assert is_open(tab, "c2")
    tab.locator("#c1 h3 button").click()
    assert tab.url.endswith("#c1")
    tab.locator("#c1 h3 button").click()
    assert "#" not in tab.url


def pixel_of(tab, row, found):
    """Where a row is on the screen, by the map's rule: the whole layout, to scale."""
    box = tab.locator("canvas").bounding_box()
    at = found.map.positions
    low, high = at.min(axis=0), at.max(axis=0)
    size = np.array([box["width"], box["height"]]) - 2  # the border
    scale = ((size - 32) / (high - low)).min()
    point = at[np.searchsorted(found.map.rows, row)]
    x, y = (point - (low + high) / 2) * scale * [1, -1] + size / 2 + 1
    return box["x"] + x, box["y"] + y


def test_map_by_mouse(visit, page, found):
    tab = visit(page)
    row = int(next(row for row in found.map.rows if LABELS[row] == 2))
    x, y = pixel_of(tab, row, found)
    tab.mouse.move(x, y)
    tip = tab.locator(".tip")
    assert tip.inner_text().split() == f"Community 2 Prompt {row} of kind 2".split()
    tab.mouse.click(x, y)
    assert is_open(tab, "c2")
    assert not tip.is_visible()
    assert tab.evaluate("document.activeElement.closest('li').id") == "c2"


def test_map_shows_what_is_open(visit, page, found):
    tab = visit(page)
    picture = "document.querySelector('canvas').toDataURL()"
    whole = tab.evaluate(picture)
    tab.locator("#c1 h3 button").click()
    opened = tab.evaluate(picture)
    assert opened != whole
    tab.locator("#query").fill("kind 0")
    assert tab.evaluate(picture) not in (whole, opened)


def test_colours_agree_and_differ(tmp_path, visit):
    n = 60
    path = tmp_path / "report.html"
    positions = np.column_stack([np.arange(n), np.zeros(n)]) / n
    write_report(
        path,
        Communities(np.arange(n), map=CommunityMap(np.arange(n), positions)),
    )
    for scheme in ("light", "dark"):
        tab = visit(path, color_scheme=scheme)
        colours = tab.locator("#list .swatch").evaluate_all(
            "all => all.map(e => getComputedStyle(e).backgroundColor)"
        )
        bars = tab.locator("#sizes rect").evaluate_all(
            "all => all.map(e => getComputedStyle(e).fill)"
        )
        assert bars == colours
        assert len(set(colours)) == n


def links_of(tab, place):
    return tab.locator(f"{place} a:visible").evaluate_all(
        "all => all.map(a => a.getAttribute('href'))"
    )


def test_groups_at_a_glance(visit, both_page):
    tab = visit(both_page)
    assert tab.locator("h2").all_inner_texts() == [
        *("Overview", "Map", "Communities"),
        *("Overview of groups", "Map of neurons", "Groups of neurons"),
        "How they were made",
    ]
    assert "4 groups of 163 neurons" in tab.locator(".facts").inner_text()
    assert order(tab, "groups-list") == ["g0", "g1", "g2", "g3", "g-noise"]
    assert order(tab) == ["c0", "c1", "c2", "c3", "noise"]
    label = tab.locator("label[for=groups-query]").inner_text()
    assert label == "Search neurons, keywords, prompts"
    assert "Map of 82 neurons in 4 groups" in tab.locator(
        "#groups-map canvas"
    ).get_attribute("aria-label")
    assert "In no group" in tab.locator("#g-noise h3").inner_text()
    row = tab.locator("#g0 h3 button")
    shares = make_groups().layer_share
    named = sorted(shares, key=lambda name: -shares[name][0])
    spoken = ", ".join(f"{name} {shares[name][0]:.0%}" for name in named)
    bars = row.locator("svg")
    assert bars.get_attribute("aria-label") == f"layers: {spoken}"
    assert bars.locator("rect").count() == 3
    for told in ("Question 7 of 0", "whale, ocean", "stability 0.75", "120"):
        assert told in row.inner_text()
    making = tab.locator("#making caption").all_inner_texts()
    assert making[:3] == ["Graph and fit", "Parameters", "Versions and input"]
    assert making[3:] == ["Graph and fit: neurons", "Parameters: neurons"]
    tab.locator(".facts a").click()
    top = tab.locator("#groups").evaluate("e => e.getBoundingClientRect().top")
    assert 0 <= top < 100


def test_parameters_are_told_once(visit, tmp_path):
    path = tmp_path / "report.html"
    both = make_both()
    write_report(path, make_both(make_groups(parameters=both.parameters)))
    captions = visit(path).locator("#making caption").all_inner_texts()
    assert captions[3:] == ["Graph and fit: neurons"]


def test_parameters_that_are_classes_are_told_by_name(visit, tmp_path):
    path = tmp_path / "report.html"
    given = {"dtype": np.float32, "of_file": repr(np.float64), "plain": float}
    write_report(path, Communities([0, 0, 1], parameters={**given, "title": "<class>"}))
    rows = visit(path).locator("#making tr").all_inner_texts()
    assert rows == [
        *("dtype\tfloat32", "of_file\tfloat64", "plain\tfloat", "title\t<class>")
    ]


def test_names_of_figures_break_where_their_parts_end(tmp_path):
    path = tmp_path / "report.html"
    summary = {"n_connected_components": 1, "<b>_c": 2}
    write_report(path, Communities([0, 0, 1], summary=summary))
    html = path.read_text(encoding="utf-8")
    assert re.search(r">\s*n_<wbr>connected_<wbr>components\s*</th>", html)
    assert re.search(r">\s*&lt;b&gt;_<wbr>c\s*</th>", html)


def test_every_table_has_a_caption(visit, full_page, both_page):
    for path in (full_page, both_page):
        tab = visit(path)
        for item in tab.locator("ol.list > li h3 button").all():
            item.click()
        for neuron in tab.locator("table.neurons button").all():
            neuron.click()
        captions = tab.locator("table").evaluate_all(
            "all => all.map(table => table.caption?.innerText ?? '')"
        )
        assert len(captions) > 10
        assert all(captions)


def test_an_opened_group(visit, both_page):
    tab = visit(both_page, "#g1")
    assert is_open(tab, "g1")
    panel = tab.locator("#g1 .panel")
    headings = panel.locator("h4, caption").all_inner_texts()
    assert headings == [
        *("Strongest prompts", "Shares of layers", "Most central", "All 30 neurons")
    ]
    assert "Keywords prime" in panel.inner_text()
    prompts = panel.locator("ul.rows").first.locator("li")
    assert [text.split("\n") for text in prompts.all_inner_texts()] == [
        [
            "Question 7 of 1",
            "p007",
            "effect 3.5",
            "75% of its neurons fire, 25% of others",
        ],
        [
            "Question 21 of 1",
            "p021",
            "effect 2.5",
            "75% of its neurons fire, 25% of others",
            "less inhibited",
        ],
    ]
    shares = make_groups().layer_share
    assert panel.locator("table.of-layers tr").all_inner_texts() == [
        f"{name}\t{round(100 * shares[name][1])}%" for name in shares
    ]
    members = panel.locator("ol.members > li").all_inner_texts()
    assert members == [NEURONS[row] for row in np.flatnonzero(GROUPS == 1)]


def opens(tab, anchor):
    """Wait for what is seen to be opened, as an address is followed a little later."""
    tab.locator(f"#{anchor} .panel").wait_for(state="visible")
    assert is_open(tab, anchor)


def test_links_lead_there_and_back(visit, both_page):
    tab = visit(both_page)
    assert links_of(tab, "#g0") == ["#c0", "#c2", "#c3"]  # strongest first
    assert links_of(tab, "#list") == []  # before they are opened
    told = "Drives communities 0 (effect 9.0), 2 (3.0), 3 (2.0)"
    text = tab.locator("#g0 > .links").text_content()
    assert text.replace("Community ", "") == told
    told = "Drives Community 0 (effect 9.0), Community 2 (3.0), Community 3 (2.0)"
    assert spoken(tab.locator("#g0 > .links")) == told
    assert tab.locator("#g3 > .links").inner_text().strip() == "Drives no community"
    tab.locator("#g2 > .links a").click()
    opens(tab, "c2")
    assert tab.url.endswith("#c2")
    assert tab.evaluate("document.activeElement.closest('li').id") == "c2"
    driven = tab.locator("#c2 .panel .links")
    assert links_of(tab, "#c2") == ["#g2", "#g0"]
    told = "Driven by groups 2 (effect 8.0), 0 (3.0)"
    assert driven.text_content().replace("Group ", "") == told
    driven.locator("a").nth(1).press("Enter")
    opens(tab, "g0")
    assert links_of(tab, "#g0") == ["#c0", "#c2", "#c3"]  # once, in the panel
    tab.locator("#c2 h3 button").click()
    tab.locator("#c1 h3 button").click()
    assert links_of(tab, "#c1") == ["#g1"]
    tab.go_back()
    opens(tab, "c2")
    tab.locator("#query").fill("kind 3")  # which hides what the address names
    tab.locator("#g2 > .links a").click()
    opens(tab, "c2")
    assert tab.locator("#query").input_value() == ""


def test_many_links_are_shortened_in_the_list(visit, tmp_path):
    path = tmp_path / "report.html"
    n = 8
    table = CrossTable(
        means=np.ones((1, n)),
        effects=np.arange(n, 0.0, -1)[None],
        chance=np.zeros((1, n)),
        drives=np.ones((1, n), dtype=bool),
        group_sizes=np.array([2]),
        community_sizes=np.ones(n, dtype=int),
        layers=np.ones((1, 1)),
        layer_names=("a",),
    )
    groups = Communities([0, 0])
    found = Communities(np.arange(n), neuron_groups=groups, cross_table=table)
    write_report(path, found)
    tab = visit(path)
    assert links_of(tab, "#g0") == [f"#c{label}" for label in range(5)]
    assert tab.locator("#g0 > .links").inner_text().endswith(" and 3 more")
    tab.locator("#g0 h3 button").click()
    assert links_of(tab, "#g0") == [f"#c{label}" for label in range(n)]
    assert "more" not in tab.locator("#g0 .links:visible").inner_text()


def test_no_links_without_a_table(visit, tmp_path):
    path = tmp_path / "report.html"
    write_report(path, make_both(cross_table=None))
    tab = visit(path, "#c0")
    tab.locator("#g0 h3 button").click()
    assert links_of(tab, "main") == []
    assert "rive" not in tab.locator("main").inner_text().replace("river", "")


def test_search_of_keywords(visit, both_page):
    tab = visit(both_page)
    assert "river, delta · stability" in tab.locator("#c0 .line").inner_text()
    tab.locator("#query").fill("CHESS")
    assert order(tab) == ["c1"]
    assert len(order(tab, "groups-list")) == 5  # each list has its own
    told = "0 prompts and 1 keyword found"
    assert tab.locator("#c1 .line").inner_text() == told
    assert tab.locator("#status").inner_text() == f"{told} in 1 of 4 communities"
    tab.locator("#c1 h3 button").click()
    keywords = tab.locator("#c1 .panel > p").first
    assert keywords.inner_text() == "Keywords chess"
    assert keywords.locator("mark").inner_text() == "chess"


def test_search_and_sort_of_groups(visit, both_page):
    tab = visit(both_page)
    query, status = tab.locator("#groups-query"), tab.locator("#groups-status")
    query.fill("ocean")
    assert order(tab, "groups-list") == ["g0", "g3"]
    # The word is one, however many groups have it.
    assert status.inner_text() == "0 neurons and 1 keyword found in 2 of 4 groups"
    query.fill("layer_0:53")
    assert order(tab, "groups-list") == ["g3"]
    assert status.inner_text() == "1 neuron found in 1 of 4 groups"
    query.fill("layer_2:53")
    assert status.inner_text() == "1 neuron found in 0 of 4 groups and in none"
    query.fill("question 2")
    assert status.inner_text() == "0 neurons and 4 prompts found in 4 of 4 groups"
    query.fill("p007")
    assert status.inner_text() == "0 neurons and 1 prompt found in 4 of 4 groups"
    tab.locator("#g2 h3 button").click()
    assert tab.locator("#g2 li.found mark").all_inner_texts() == ["p007"]
    query.fill("")
    tab.locator("#groups-sort").select_option("stability")
    assert order(tab, "groups-list") == ["g2", "g0", "g1", "g3", "g-noise"]
    assert order(tab) == ["c0", "c1", "c2", "c3", "noise"]
    tab.locator("#groups-reverse").click()
    assert order(tab, "groups-list") == ["g3", "g1", "g0", "g2", "g-noise"]


def test_maps_show_what_is_open_on_their_side(visit, both_page):
    tab = visit(both_page)
    picture = "all => all.map(canvas => canvas.toDataURL())"
    prompts, neurons = tab.locator("canvas").evaluate_all(picture)
    tab.locator("#g1 h3 button").click()
    prompts_after, neurons_after = tab.locator("canvas").evaluate_all(picture)
    assert prompts_after == prompts
    assert neurons_after != neurons


def test_groups_alone(visit, neuron_page):
    tab = visit(neuron_page, "#g2")
    assert is_open(tab, "g2")
    assert tab.title() == "Groups of neurons"
    facts = tab.locator(".facts").inner_text()
    for fact in ("163 neurons", "4 groups", "1.8% noise"):
        assert fact in facts
    assert tab.locator("h2").all_inner_texts() == [
        *("Overview", "Map", "Groups of neurons", "How they were made")
    ]
    assert tab.locator("#status").inner_text() == "4 groups"
    tab.evaluate("document.querySelectorAll('h3 button').forEach(b => b.click())")
    tab.locator("#g2 h3 button").click()
    tab.mouse.move(*pixel_of(tab, 0, make_groups()))
    assert tab.locator(".tip").inner_text().split() == ["Group", "0", NEURONS[0]]
    html = tab.locator("header, main").evaluate_all(
        "all => all.map(e => e.outerHTML).join(' ')"
    )
    assert "communit" not in html.lower()
    for said in ("Strongest prompts", "Search neurons, keywords, prompts"):
        assert said in html
        html = html.replace(said, "")
    assert "prompt" not in html


def test_neurons_without_what_might_be_known(visit, tmp_path):
    path = tmp_path / "report.html"
    feature = TopFeature("neurons", 12, 1.0, 1.0, 0.0, 1.0, 0.5)
    found = Communities(
        [0, 0, 1],
        ids=["a:0", "a:1", "b:0"],
        top_features={0: [feature, feature._replace(name="q7")]},
        layer_share={"a": [np.nan, 0], "b": [np.nan, 1]},
        summary={"rows": "neurons"},
    )
    write_report(path, found)
    tab = visit(path, "#g0")
    texts = tab.locator("#g0 ul.rows .text").all_inner_texts()
    assert texts == ["prompt 12", "q7"]
    assert tab.locator("#g0 .lead").inner_text() == "prompt 12"
    assert tab.locator("#g1 .lead").inner_text() == "b:0"
    assert tab.locator("#g0 .line svg").count() == 0
    shares = tab.locator("#g0 table.of-layers tr").all_inner_texts()
    assert shares == ["a\t\N{EN DASH}", "b\t\N{EN DASH}"]


def test_files_of_before_give_the_page_of_before(visit, tmp_path):
    found = make_found(parameters={"leiden__resolution": 2.5})
    save_communities(tmp_path / "found.json", found)
    document = json.loads((tmp_path / "found.json").read_text())
    assert not {"neuron_groups", "cross_table"} & set(document)
    for one in document["communities"]:
        assert not {"keywords", "layer_share"} & set(one)
        assert not {"name", "text"} & set(one["top_features"][0])
    write_report(tmp_path / "now.html", found)
    write_report(tmp_path / "report.html", load_communities(tmp_path / "found.json"))
    now = (tmp_path / "now.html").read_bytes()
    assert (tmp_path / "report.html").read_bytes() == now
    tab = visit(tmp_path / "report.html", "#c0")
    assert tab.locator("a, .links, .line svg").count() == 0
    assert "Keywords" not in tab.locator("main").inner_text()
    assert tab.locator("#c0 .line").inner_text().startswith("stability 0.70 · conf")


def as_rgb(colour):
    return tuple(int(colour[i : i + 2], 16) for i in (1, 3, 5))


def colours_at(tab, places):
    """The colours of the canvas at places of the screen."""
    pixels = tab.evaluate(
        """(places) => {
          const canvas = document.querySelector("canvas");
          const box = canvas.getBoundingClientRect();
          const { width, height } = canvas;
          const { data } = canvas.getContext("2d").getImageData(0, 0, width, height);
          return places.map(([x, y]) => {
            const column = Math.floor(x - box.x - canvas.clientLeft);
            const line = Math.floor(y - box.y - canvas.clientTop);
            const start = 4 * (width * line + column);
            return [...data.slice(start, start + 4)];
          });
        }""",
        places,
    )
    return [tuple(pixel) for pixel in pixels]


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_colours_are_those_of_the_figures(tmp_path, visit, scheme):
    path = tmp_path / "report.html"
    # Row 0 is covered by the last one, which is noise.
    labels = np.array([1, 0, 2, 0, 7, -1, -1])
    positions = [[0, 0], [1, 0], [2, 0], [0, 1], [1, 1], [2, 1], [0, 0]]
    shown = CommunityMap(np.arange(7), np.array(positions, dtype=float))
    found = Communities(labels, map=shown)
    write_report(path, found)
    tab = visit(path, color_scheme=scheme)
    pairs = data_in(path)["colors"]
    wanted = {int(label): as_rgb(pairs[label][scheme == "dark"]) for label in pairs}
    if scheme == "light":
        drawn = figure_colours(found)
        assert wanted == {label: as_rgb(drawn[label]) for label in wanted}
    for label, colour in wanted.items():
        swatch = tab.locator(f"#{'noise' if label < 0 else f'c{label}'} .swatch")
        painted = swatch.evaluate("e => getComputedStyle(e).backgroundColor")
        assert painted == f"rgb{colour}"
    places = [pixel_of(tab, row, found) for row in range(6)]
    assert colours_at(tab, places) == [(*wanted[labels[row]], 255) for row in range(6)]
    # Paper is white.
    tab.emulate_media(media="print", color_scheme=scheme)
    printed = tab.locator("#c7 .swatch").evaluate(
        "e => getComputedStyle(e).backgroundColor"
    )
    assert printed == f"rgb{as_rgb(pairs['7'][0])}"


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("name", ["page", "both_page", "full_page"])
def test_contrast(visit, name, scheme, request):
    """Text of at least 4.5 to 1, by the formula of the WCAG."""
    tab = visit(request.getfixturevalue(name), "#c0", color_scheme=scheme)
    tab.locator("#query").fill("kind 0")
    for button in tab.locator("#groups-list h3 button").all()[:2]:
        button.click()
    for button in tab.locator("#c0 th button, #tree details details summary").all():
        button.click()
    assert tab.evaluate("getComputedStyle(document.body).colorScheme") == scheme
    ratios = tab.evaluate(
        """() => {
          const pen = new OffscreenCanvas(1, 1).getContext("2d", {
            willReadFrequently: true,
          });
          function luminance(colour) {
            pen.fillStyle = colour;
            pen.fillRect(0, 0, 1, 1);
            const [r, g, b] = [...pen.getImageData(0, 0, 1, 1).data].map((value) => {
              const part = value / 255;
              return part <= 0.04045 ? part / 12.92 : ((part + 0.055) / 1.055) ** 2.4;
            });
            return 0.2126 * r + 0.7152 * g + 0.0722 * b;
          }
          function behind(element) {
            for (let at = element; at; at = at.parentElement) {
              const colour = getComputedStyle(at).backgroundColor;
              if (colour !== "rgba(0, 0, 0, 0)") return colour;
            }
          }
          const texts = [...document.querySelectorAll("body *")].filter((element) =>
            [...element.childNodes].some((n) => n.nodeType === 3 && n.data.trim()) &&
            element.getClientRects().length);
          return texts.map((element) => {
            const both = [getComputedStyle(element).color, behind(element)];
            const [low, high] = both.map(luminance).sort((a, b) => a - b);
            return (high + 0.05) / (low + 0.05);
          });
        }"""
    )
    assert len(ratios) > 200
    assert min(ratios) >= 4.5


def test_hostile_texts_are_shown_and_not_run(tmp_path, visit):
    path = tmp_path / "report.html"
    n = len(HOSTILE)
    bad = HOSTILE[0]
    hostile = Communities(
        np.zeros(n, dtype=int),
        ids=MENDED,
        texts=HOSTILE,
        top_features={0: [TopFeature(bad, 1, np.inf, 1.0, 0.0, 1.0, np.nan)]},
        layer_agreement={bad: np.array([np.nan])},
        keywords={0: MENDED},
        map=CommunityMap(np.arange(n), np.zeros((n, 2))),
        parameters={bad: bad, f"{bad}__a": bad},
        versions={bad: bad},
    )
    write_report(path, hostile, title=bad)
    tab = visit(path, "#c0")
    assert tab.title() == bad
    texts = tab.locator("ol.members .text").evaluate_all(
        "all => all.map(e => e.textContent)"
    )
    assert texts == MENDED
    assert tab.locator("table.neurons tbody tr").all_inner_texts() == [
        f"{bad}:1\tinf\t100%\t\N{EN DASH}\t1.00 / 0.00"
    ]
    tab.locator("canvas").hover()  # where all points are
    assert bad in tab.locator(".tip").inner_text()
    for text in HOSTILE[:5]:
        tab.locator("#query").fill(text)
        found = tab.locator("#c0 ol.members > .found .text mark")
        assert found.all_inner_texts() == [text]
    assert tab.locator("img").count() == 0
    assert tab.locator("script").count() == 2


def test_hostile_texts_of_groups_are_shown_and_not_run(tmp_path, visit):
    path = tmp_path / "report.html"
    n, bad = len(HOSTILE), HOSTILE[1]
    numbers = (np.inf, 1.0, 0.0, 1.0, np.nan, True)
    groups = Communities(
        [0, 0],
        ids=[bad, HOSTILE[0]],
        top_features={
            0: [
                TopFeature("neurons", i, *numbers, name=text, text=text)
                for i, text in enumerate(MENDED)
            ]
        },
        keywords={0: MENDED},
        layer_share={bad: [1.0]},
        map=CommunityMap(np.arange(2), np.zeros((2, 2))),
        parameters={bad: bad},
    )
    table = CrossTable(
        means=np.array([[np.inf]]),
        effects=np.array([[np.inf]]),
        chance=np.array([[np.nan]]),
        drives=np.array([[True]]),
        group_sizes=np.array([2]),
        community_sizes=np.array([n]),
        layers=np.array([[1.0]]),
        layer_names=(bad,),
    )
    labels = np.zeros(n, dtype=int)
    found = Communities(
        labels,
        texts=HOSTILE,
        neuron_groups=groups,
        cross_table=table,
        keywords={0: [bad]},
    )
    write_report(path, found)
    tab = visit(path, "#g0")
    content = "all => all.map(e => e.textContent)"
    texts = tab.locator("#g0 ul.rows .text").evaluate_all(content)
    assert texts == MENDED
    keywords = tab.locator("#g0 .panel > p bdi").evaluate_all(content)
    assert keywords == MENDED
    assert tab.locator("#g0 .line svg").get_attribute("aria-label") == (
        f"layers: {bad} 100%"
    )
    assert "(effect inf)" in tab.locator("#g0 .panel .links").inner_text()
    for text in HOSTILE[:5]:
        tab.locator("#groups-query").fill(text)
        marks = tab.locator("#g0 .panel > p mark").all_inner_texts()
        assert marks == [text]
        marks = tab.locator("#g0 ul.rows > .found .text mark").all_inner_texts()
        assert marks == [text]
    assert tab.title() == "Communities"
    assert tab.locator("img").count() == 0
    assert tab.locator("script").count() == 2


def test_policy_forbids_other_scripts(browser, page):
    tab = browser.new_page()  # whose console may complain
    tab.goto(page.as_uri())
    policy = tab.locator("meta[http-equiv=Content-Security-Policy]")
    assert policy.get_attribute("content").startswith("default-src 'none'; style-src")
    refused = tab.evaluate(
        """() => new Promise((resolve) => {
          addEventListener("securitypolicyviolation", (e) =>
            resolve(e.effectiveDirective));
          const script = document.createElement("script");
          script.textContent = "document.title = 'run'";
          document.head.append(script);
          setTimeout(() => resolve("nothing"), 2000);
        })"""
    )
    assert refused == "script-src-elem"
    assert tab.title() == "A & <b>"
    tab.context.close()


def test_labels_alone(tmp_path, visit):
    path = tmp_path / "report.html"
    write_report(path, Communities([0, 0, 1, -1, 0]))
    tab = visit(path)
    assert tab.locator("h1").inner_text() == "Communities"
    assert tab.locator("h2").all_inner_texts() == ["Overview", "Communities"]
    assert tab.locator("canvas, #layers, table").count() == 0
    assert tab.locator("#sort option").all_inner_texts() == ["size", "number"]
    assert tab.locator("label[for=query]").inner_text() == "Search ids"
    tab.locator("#c0 h3 button").click()
    assert tab.locator("#c0 h4").all_inner_texts() == ["All 3 rows"]
    assert tab.locator("#c0 .members > li").all_inner_texts() == ["0", "1", "4"]


def test_noise_alone(tmp_path, visit):
    path = tmp_path / "report.html"
    write_report(path, Communities([-1, -1]))
    tab = visit(path)
    assert tab.locator("h2").all_inner_texts() == ["Communities"]
    tab.locator("#noise h3 button").click()
    assert tab.locator("#noise .members > li").all_inner_texts() == ["0", "1"]


@pytest.mark.parametrize(("width", "height"), [(360, 780), (1280, 900), (3840, 2160)])
def test_fits_every_screen(tmp_path, visit, width, height):
    path = tmp_path / "report.html"
    long = ["w" * 500, *make_found().texts[1:]]
    feature = TopFeature("neurons", 1, 2.5, 1.5, 0.1, 0.75, 0.25, text=long[0])
    groups = make_groups(
        ids=[long[0], *NEURONS[1:]],
        top_features={0: [feature]},
        keywords={0: long[:1]},
        layer_share={long[0]: np.ones(4)},
    )
    found = make_both(groups, texts=long, ids=long, keywords={0: long[:1]})
    write_report(path, found, title="t" * 300)
    tab = visit(path, viewport={"width": width, "height": height})
    assert tab.evaluate("document.documentElement.scrollWidth") <= width
    tab.evaluate("document.querySelectorAll('h3 button').forEach(b => b.click())")
    assert tab.evaluate("document.documentElement.scrollWidth") <= width
    assert is_open(tab, "c3")
    assert is_open(tab, "g3")


def test_moves_only_if_wanted(visit, page):
    behaviour = "getComputedStyle(document.documentElement).scrollBehavior"
    assert visit(page, reduced_motion="reduce").evaluate(behaviour) == "auto"
    assert visit(page, reduced_motion="no-preference").evaluate(behaviour) == "smooth"


def test_print_is_light(visit, page):
    tab = visit(page, "#c2", color_scheme="dark")
    screen = tab.evaluate("getComputedStyle(document.body).color")
    tab.emulate_media(media="print", color_scheme="dark")
    assert not tab.locator("#query").is_visible()
    assert tab.locator("#c2 .members").is_visible()
    assert tab.evaluate("getComputedStyle(document.body).color") != screen


def test_without_javascript(visit, page):
    tab = visit(page, java_script_enabled=False)
    assert "needs JavaScript" in tab.locator("noscript").inner_text()


def test_20_000_prompts(tmp_path, visit):
    n, n_clusters = 20_000, 150
    rng = np.random.RandomState(0)
    labels = np.concatenate([np.arange(n_clusters), rng.geometric(0.03, n) - 1])[:n]
    labels[labels >= n_clusters] = -1
    words = np.array(["why", "does", "a", "river", "think", "of", "chess", "copper"])
    texts = [" ".join(line) for line in words[rng.randint(len(words), size=(n, 15))]]
    rows = np.arange(0, n, 4)
    path = tmp_path / "report.html"
    positions = rng.uniform(-1, 1, (rows.size, 2))
    write_report(
        path, Communities(labels, texts=texts, map=CommunityMap(rows, positions))
    )
    start = perf_counter()
    tab = visit(path)
    tab.locator(f"#c{n_clusters - 1}").wait_for(state="attached")
    assert perf_counter() - start < 20  # about half a second; a busy machine takes more
    assert tab.locator("#list > li").count() == n_clusters + 1
    assert (
        tab.locator("li").count() == n_clusters + 1
    )  # no prompt before it is asked for
    tab.locator("#query").fill("chess copper")
    tab.locator("#c0 h3 button").click()
    assert tab.locator("#c0 .members > .found").count() > 0
