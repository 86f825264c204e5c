"""Words that tell the texts of one group from those of the others."""

import numpy as np
import pytest

from skleiden.datasets import load_prompt_activations
from skleiden.inspection import keywords

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


def test_bad_input():
    with pytest.raises(ValueError, match="labels must"):
        keywords(["one", "two"], [0])
    with pytest.raises(ValueError, match="n_keywords must be an integer of at least 1"):
        keywords(["one"], [0], n_keywords=0)
