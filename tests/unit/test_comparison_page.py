"""The page of a comparison: what is in the file, and what a browser makes of it."""

import json
import re
import sys

import jinja2
import numpy as np
import pytest

from skleiden.inspection import Communities, compare
from skleiden.report import write_comparison

HOSTILE = [
    "<script>document.title = 'run'</script>",
    "</script><img src=x onerror=\"document.title = 'run'\">",
    "<!-- <script>",
    "{{ 7*7 }} {% raw %} ${7*7}",
    "right\u202eto left",
    "half a pair \ud83d",
]
# 0 and 1 of the first are 10 and 11 of the second; 2 split; 3 and 4 merged; 5 vanished
# among the noise; in the second, 16 is new; 3 rows are in none in both.
A = np.repeat([0, 1, 2, 3, 4, 5, -1, -1], [150, 30, 20, 12, 8, 5, 6, 3])
B = np.repeat([10, 11, 12, 13, 14, -1, 16, -1], [150, 30, 12, 8, 20, 5, 6, 3])
N = A.size
NAMES = {0: "astronomy", 2: "cats"}


def make(**changes):
    known = {
        "ids": [f"q{row:04d}" for row in range(N)],
        "texts": [f"Prompt {row} of {label}" for row, label in enumerate(A)],
    } | changes
    return compare(
        Communities(A, **known, names=NAMES),
        Communities(B, **known, names={10: "stars", 12: "cats"}),
    )


@pytest.fixture(scope="module")
def page(tmp_path_factory):
    path = tmp_path_factory.mktemp("page") / "comparison.html"
    write_comparison(path, make(), titles=("runs/one", "runs/two"))
    return path


def data_of(path):
    text = path.read_text(encoding="utf-8")
    (found,) = re.findall(
        r'<script type="application/json" id="data">(.*?)</script', text
    )
    return json.loads(found)


def listed(tab):
    return tab.locator("#list > li:visible").evaluate_all("all => all.map(li => li.id)")


def number(tab, anchor):
    return tab.locator(f"#{anchor} .number [aria-hidden]").inner_text()


def line(tab, anchor):
    return tab.locator(f"#{anchor} .line").inner_text()


# --- The file -------------------------------------------------------------------------


def test_data_are_what_was_found(page):
    data = data_of(page)
    assert data["titles"] == ["runs/one", "runs/two"]
    assert data["n"] == N
    assert [dict(zip(("a", "b"), both, strict=True)) for both in data["matched"]] == [
        {"a": 0, "b": 10}, {"a": 1, "b": 11}, {"a": 2, "b": 12}, {"a": 3, "b": 14},
    ]  # fmt: skip
    assert sum(n for *_, n in data["pairs"]) == N
    assert [-1, -1, 3] in data["pairs"]
    moved = make().moved
    assert data["moved"]["ids"] == [f"q{row:04d}" for row in np.flatnonzero(moved)]
    assert data["moved"]["a"] == A[moved].tolist()
    assert data["moved"]["b"] == B[moved].tolist()
    # Matched communities have one colour, others colours of their own.
    colors = [
        {one["label"]: tuple(one["colors"]) for one in of} for of in data["sides"]
    ]
    assert all(colors[0][a] == colors[1][b] for a, b in data["matched"])
    assert len({*colors[0].values(), *colors[1].values()}) == len(colors[0]) + 2


def test_one_file_that_loads_nothing(page):
    text = page.read_text(encoding="utf-8")
    assert not re.findall(r"(?:src|href)=|https?://(?!www\.w3\.org/2000/svg)", text)
    assert "default-src 'none'" in text


def test_same_comparison_same_file(page, tmp_path):
    again = tmp_path / "again.html"
    write_comparison(again, make(), titles=("runs/one", "runs/two"))
    assert again.read_bytes() == page.read_bytes()


def test_mistakes(tmp_path, monkeypatch):
    path = tmp_path / "comparison.html"
    with pytest.raises(TypeError, match=r"takes a Comparison; got ndarray\. Make one"):
        write_comparison(path, A)
    for titles in ("ab", ("a", "b", "c")):
        with pytest.raises(ValueError, match="titles must be two, one for each parti"):
            write_comparison(path, make(), titles=titles)
    with pytest.raises(FileNotFoundError, match="does not exist; make it before"):
        write_comparison(tmp_path / "missing" / "c.html", make())
    monkeypatch.setitem(sys.modules, "jinja2", None)
    with pytest.raises(ImportError, match="write_comparison needs Jinja2: pip install"):
        write_comparison(path, make())
    assert not path.exists()
    assert jinja2


# --- In a browser ---------------------------------------------------------------------


def test_at_a_glance(visit, page):
    tab = visit(page)
    assert tab.title() == "runs/one and runs/two"
    assert tab.locator(".facts span").all_inner_texts() == [
        f"{N} rows in both", f"AMI {make().ami:.3f}", f"ARI {make().ari:.3f}",
        f"27 moved ({27 / N:.1%})",
    ]  # fmt: skip
    assert listed(tab) == ["a0", "a1", "a2", "a3", "a4", "b13", "b16", "a5", "none"]
    assert number(tab, "a0") == "0 → 10"
    assert number(tab, "a4") == "4 → \N{EN DASH}"
    assert number(tab, "b16") == "\N{EN DASH} → 16"
    leads = [
        tab.locator(f"#{a} .lead").inner_text() for a in ("a0", "a2", "a4", "none")
    ]
    assert leads == [
        "astronomy → stars", "cats", "no match in runs/two", "In no community",
    ]  # fmt: skip
    assert line(tab, "a0") == "overlap 100%"
    assert line(tab, "a2") == "overlap 60% · 8 went elsewhere"
    assert line(tab, "a3") == "overlap 60% · 8 came from elsewhere"
    none = "3 rows in both · 6 went elsewhere · 5 came from elsewhere"
    assert line(tab, "none") == none
    assert tab.locator("#status").inner_text() == "4 matches, 4 communities without one"


def test_opened_by_keyboard(visit, page):
    tab = visit(page, "#a2")
    assert tab.locator("#a2 h3 button").get_attribute("aria-expanded") == "true"
    assert tab.evaluate("document.activeElement.closest('li').id") == "a2"
    captions = tab.locator("#a2 caption").all_inner_texts()
    assert captions == [
        "20 rows of runs/one, and where they went",
        "12 rows of runs/two, and where they were",
    ]
    rows = tab.locator("#a2 table").nth(0).locator("tr").all_inner_texts()
    assert [re.sub(r"\s+", " ", row) for row in rows] == ["12 cats 12 60%", "13 8 40%"]
    moved = tab.locator("#a2 .members > li")
    assert moved.count() == 8
    first = moved.nth(0).inner_text().split("\n")
    assert first[0] == f"Prompt {np.flatnonzero(B == 13)[0]} of 2"
    assert first[-1].split()[-3:] == ["went", "to", "13"]
    tab.keyboard.press("Enter")
    assert tab.locator("#a2-panel").is_hidden()
    tab.keyboard.press("Tab")
    tab.keyboard.press("Space")
    assert tab.locator("#a3-panel").is_visible()
    assert tab.locator("#a3 .members > li").nth(0).inner_text().split()[-1] == "4"


def test_flow(visit, page):
    tab = visit(page)
    figure = tab.locator("#flow")
    assert figure.locator(".ends bdi").all_inner_texts() == ["runs/one", "runs/two"]
    assert figure.locator("rect").count() == 7 + 7
    told = figure.locator("path title").evaluate_all(
        "all => all.map(t => t.textContent)"
    )
    assert len(told) == 9
    assert "2 → 13: 8 rows" in told
    assert "none → none: 3 rows" in told
    stays = figure.locator("path.stays title").evaluate_all(
        "all => all.map(t => t.textContent)"
    )
    assert len(stays) == 5
    # Bars and bands have heights that are shares of the rows.
    heights = figure.locator("rect").evaluate_all(
        "all => all.map(r => +r.getAttribute('height'))"
    )
    scale = heights[0] / 150
    np.testing.assert_allclose(
        sorted(heights[:7]), scale * np.array([5, 8, 9, 12, 20, 30, 150])
    )
    labels = figure.locator("text").all_text_contents()
    assert labels[0].startswith("0 astro")
    figure.locator("path").nth(told.index("2 → 13: 8 rows")).click()
    assert tab.locator("#a2-panel").is_visible()
    figure.locator("rect").nth(0).click()
    assert tab.locator("#a0-panel").is_visible()


def test_search(visit, page):
    tab = visit(page)
    query = tab.locator("#query")
    query.fill("CATS")
    assert listed(tab) == ["a2"]
    assert tab.locator("#a2 mark").inner_text() == "cats"
    query.fill(f"q{np.flatnonzero(B == 13)[3]:04d}")
    assert listed(tab) == ["a2", "b13"]  # which it left, and where it came
    assert line(tab, "a2") == "found in 1 row that moved"
    assert tab.locator("#status").inner_text() == "Found in 2 of 9"
    tab.locator("#a2 h3 button").click()
    assert tab.locator("#a2 .members > li").nth(0).get_attribute("class") == "found"
    query.fill("nothing like it")
    assert listed(tab) == []
    query.fill("")
    assert len(listed(tab)) == 9


def test_sort(visit, page):
    tab = visit(page)
    sort = tab.locator("#sort")
    sort.select_option("overlap")
    assert listed(tab)[:4] == ["a0", "a1", "a2", "a3"]
    sort.select_option("n_moved")
    assert listed(tab)[0] in ("a2", "a3", "a4", "b13")
    sort.select_option("order")
    assert listed(tab) == ["a0", "a1", "a2", "a3", "a4", "a5", "b13", "b16", "none"]
    tab.locator("#reverse").click()
    assert listed(tab) == ["b16", "b13", "a5", "a4", "a3", "a2", "a1", "a0", "none"]


def test_labels_alone_and_equal_ones(tmp_path, visit):
    path = tmp_path / "comparison.html"
    write_comparison(path, compare([0, 0, 1, 1], [1, 1, 0, 0]))
    tab = visit(path)
    assert tab.title() == "first and second"
    assert "0 moved (0.0%)" in tab.locator(".facts").inner_text()
    assert tab.locator("#a0 .lead").inner_text() == "2 rows in both"
    assert listed(tab) == ["a0", "a1"]
    tab.locator("#a0 h3 button").click()
    assert tab.locator("#a0 .members").count() == 0
    write_comparison(path, compare([-1, -1], [-1, -1]), title="None at all")
    tab = visit(path)
    assert (tab.title(), listed(tab)) == ("None at all", ["none"])


def test_rows_are_called_what_they_are(tmp_path, visit):
    path = tmp_path / "comparison.html"
    a, b = (
        Communities(labels, summary={"rows": "neurons"})
        for labels in ([0, 0, 1], [0, 1, 1])
    )
    write_comparison(path, compare(a, b))
    tab = visit(path)
    assert tab.locator(".facts span").first.inner_text() == "3 neurons in both"
    tab.locator("#a0 h3 button").click()
    assert tab.locator("#a0 h4").inner_text() == "The neuron that moved"
    assert "rows" not in tab.locator("body").inner_text()


def test_rows_in_one_alone_are_counted(tmp_path, visit):
    path = tmp_path / "comparison.html"
    one, two = Communities([0, 0, 1], ids=list("abc")), Communities([0, 0], list("bd"))
    write_comparison(path, compare(one, two))
    facts = visit(path).locator(".facts span").all_inner_texts()
    assert facts[-2:] == ["2 rows in first alone", "1 row in second alone"]


def test_hostile_texts_are_shown_and_not_run(tmp_path, visit):
    path = tmp_path / "comparison.html"
    n = len(HOSTILE)
    mended = [text.replace("\ud83d", "\N{REPLACEMENT CHARACTER}") for text in HOSTILE]
    names = dict(enumerate(mended))
    one = Communities(np.arange(n), mended, texts=HOSTILE, names=names)
    two = Communities(np.zeros(n, int), mended, texts=HOSTILE)
    found = compare(one, two)
    write_comparison(path, found, titles=HOSTILE[:2], title=HOSTILE[0])
    tab = visit(path)
    assert tab.title() == HOSTILE[0]
    assert tab.locator(".ends bdi").all_inner_texts() == HOSTILE[:2]
    for button in tab.locator("h3 button").all():
        button.click()
    texts = tab.locator("#list .members .text").all_inner_texts()
    assert set(texts) == {mended[row] for row in np.flatnonzero(found.moved)}
    assert len(set(texts)) == n - 1
    leads = tab.locator("#list .lead").all_inner_texts()
    assert sorted(leads) == sorted(mended)
    assert tab.locator("img, #list script").count() == 0


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_colours_follow_the_screen(visit, page, scheme):
    tab = visit(page, "#a0", color_scheme=scheme)
    pair = data_of(page)["sides"][0][1]["colors"]
    wanted = pair[scheme == "dark"]
    shown = tab.locator("#a0 .swatch").first.evaluate(
        "e => getComputedStyle(e).backgroundColor"
    )
    assert shown == f"rgb{tuple(int(wanted[i : i + 2], 16) for i in (1, 3, 5))}"


@pytest.mark.parametrize(("width", "height"), [(360, 780), (1280, 900), (3840, 2160)])
def test_fits_every_screen(tmp_path, visit, width, height):
    path = tmp_path / "comparison.html"
    long = "w" * 500
    known = {"ids": [f"{long}{i}" for i in range(N)], "texts": [long] * N}
    found = compare(
        Communities(A, names={0: long, 2: long}, **known), Communities(B, **known)
    )
    write_comparison(path, found, titles=(long, long))
    tab = visit(path, viewport={"width": width, "height": height})
    assert tab.evaluate("document.documentElement.scrollWidth") <= width
    tab.evaluate("document.querySelectorAll('h3 button').forEach(b => b.click())")
    assert tab.evaluate("document.documentElement.scrollWidth") <= width
    assert tab.locator("#b16-panel").is_visible()


def test_many_rows_that_moved(tmp_path, visit):
    """A page of 20,000 rows that moved lists 100 at a time."""
    path = tmp_path / "comparison.html"
    rng = np.random.RandomState(0)
    a, b = rng.randint(0, 150, (2, 20_000))
    write_comparison(path, compare(a, b))
    tab = visit(path)
    tab.locator("#a0 h3 button").click()
    members = tab.locator("#a0 .members > li")
    assert members.count() == 100
    tab.locator("#a0 .more").click()
    assert members.count() > 100
    assert tab.locator("#a0 table").nth(0).locator("tr").count() == 21
    assert "and " in tab.locator("#a0 table").nth(0).inner_text()
