"""Words that tell the texts of one group from those of the others."""

import importlib.util
import re
from pathlib import Path

import numpy as np
import pytest

from skleiden import MutualKNNLeiden
from skleiden.datasets import load_prompt_activations
from skleiden.inspection import keywords

PROMPT_THEMES = Path(__file__).parents[3] / "benchmarks" / "prompt_themes.py"

TOPICS = {
    "German": (
        ["Das Brot ist im Ofen", "Wir backen ein Brot", "Brot und Salz"],
        ["Der Zug fährt spät", "Ein Zug nach Köln", "Im Zug ist es laut"],
        ["brot", "zug"],
    ),
    "Chinese": (
        ["我喜欢吃面包", "面包很好吃", "妈妈买面包"],
        ["火车很快", "坐火车去北京", "火车站在哪里"],
        ["面包", "火车"],
    ),
    "Hindi": (
        ["रोटी गरम है", "हम रोटी बनाते हैं"],
        ["रेलगाड़ी तेज है", "रेलगाड़ी दिल्ली जाती"],
        ["रोटी", "रेलगाड़ी"],
    ),
    "Arabic with vowels": (
        ["خُبْزٌ سَاخِن", "نَأكُلُ خُبْزٌ"],
        ["قِطَارٌ سَرِيع", "قِطَارٌ طَوِيل"],
        ["خُبْزٌ", "قِطَارٌ"],
    ),
    "French, letters and marks apart": (
        ["un e\u0301te\u0301 chaud", "cet \u00e9t\u00e9"],
        ["le train", "un train"],
        ["\u00e9t\u00e9", "train"],
    ),
    "Russian": (
        ["Хлеб в печи", "Мы печём хлеб"],
        ["Поезд идёт быстро", "Поезд в Москву"],
        ["хлеб", "поезд"],
    ),
}


@pytest.mark.parametrize("language", TOPICS)
def test_in_any_language(language):
    bread, train, words = TOPICS[language]
    labels = [0] * len(bread) + [1] * len(train)
    found = keywords([*bread, *train], labels, n_keywords=1)
    assert [found[0][0], found[1][0]] == words


def test_pairs_of_letters_do_not_overlap():
    bread = ["我喜欢吃面包", "面包很好吃", "妈妈买面包", "面包很好吃吗"]
    train = ["坐火车去北京", "火车去北京很快", "火车站在北京", "火车来了"]
    found = keywords([*bread, *train], [0] * 4 + [1] * 4)
    assert found == {0: ["面包", "好吃"], 1: ["火车", "北京"]}


@pytest.fixture(scope="module")
def own_words():
    """The words of the things of each theme that are of no other one."""
    if not PROMPT_THEMES.exists():  # in an installed package
        pytest.skip("benchmarks are not there")
    spec = importlib.util.spec_from_file_location("prompt_themes", PROMPT_THEMES)
    prompt_themes = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(prompt_themes)
    words = {
        name: {*re.findall(r"[\w']+", theme.things.lower())}
        for name, theme in prompt_themes.THEMES.items()
    }
    return {
        name: own.difference(*(words[other] for other in words if other != name))
        for name, own in words.items()
    }


def test_keywords_are_of_the_themes_own_words(own_words, prompt_vectors):
    """One of the first five, for each theme but four at most, in their communities."""
    data = load_prompt_activations()
    labels = MutualKNNLeiden(n_clusters=29, random_state=0).fit_predict(prompt_vectors)
    found, hits = keywords(data.prompts, labels), set()
    for community, words in found.items():
        target = np.bincount(data.target[labels == community]).argmax()
        own = own_words[str(data.target_names[target])]
        if own & {part for word in words for part in word.split()}:
            hits.add(target)
    assert len(hits) >= 25


def test_themes_of_the_prompts_that_come_with_the_package():
    data = load_prompt_activations()
    found = keywords(data.prompts, data.target)
    hits = 0
    for theme, words in found.items():
        said = " ".join(
            data.prompts[i].lower() for i in np.flatnonzero(data.target == theme)
        )
        assert all(word.split()[0] in said for word in words)
        hits += 1 <= len(words) <= 5
    assert hits == 29
    common = {"the", "of", "and", "in", "how", "what"}
    assert not common & {word for words in found.values() for word in words}


def test_words_of_one_text_are_not_those_of_a_group():
    assert keywords(["cat dog", "sun moon", "x y"], [0, 0, -1]) == {0: []}
    assert keywords(["cat dog", "a cat", "sun"], [0, 0, 1], n_keywords=3) == {
        0: ["cat"],
        1: ["sun"],
    }
    assert keywords(["", "?!"], [0, 0]) == {0: []}
    assert keywords(["a text"], [-1]) == {}


def test_words_of_a_pair_are_not_listed_again():
    texts = ["blood pressure is high", "blood pressure falls", "a fast train", "train"]
    assert keywords(texts, [0, 0, 1, 1])[0] in (
        ["blood pressure"],
        ["blood", "pressure"],
    )


def test_do_not_depend_on_the_order_of_texts():
    data = load_prompt_activations()
    order = np.random.RandomState(0).permutation(data.target.size)
    again = keywords([data.prompts[i] for i in order], data.target[order])
    assert again == keywords(data.prompts, data.target)


def test_texts_go_by_their_places():
    pandas = pytest.importorskip("pandas")
    texts = ["bread here", "a train", "bread now", "the train"]
    series = pandas.Series(texts, index=[3, 0, 1, 9])
    assert keywords(series, [0, 1, 0, 1]) == {0: ["bread"], 1: ["train"]}
    assert keywords([*texts, None], [0, 1, 0, 1, -1])[0] == ["bread"]


@pytest.mark.parametrize("kind", ["list", "array", "series", "floats"])
def test_labels_of_any_kind(kind):
    texts = ["bread here", "a train", "bread now", "the train", "bread"]
    labels = ["c1", "c0", "c1", "c0", "-1"]
    if kind == "floats":
        assert keywords(texts, [1.0, 0.0, 1.0, 0.0, -1.0]) == {
            0: ["train"],
            1: ["bread"],
        }
        return
    if kind == "array":
        labels = np.array(labels)
    elif kind == "series":
        labels = pytest.importorskip("pandas").Series(labels, index=[9, 3, 1, 0, 4])
    assert keywords(texts, labels) == {"c0": ["train"], "c1": ["bread"]}


def test_bad_input():
    with pytest.raises(TypeError, match=r"sequence of strings.*got 'a text'"):
        keywords("a text", [0] * 6)
    with pytest.raises(ValueError, match="labels must"):
        keywords(["one", "two"], [0])
    with pytest.raises(ValueError, match="n_keywords must be an integer of at least 1"):
        keywords(["one"], [0], n_keywords=0)
