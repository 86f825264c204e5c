"""Words that tell the texts of one group from those of the others."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from functools import lru_cache
from itertools import pairwise
from typing import TypeVar
from unicodedata import category, normalize

import numpy as np
import scipy.sparse as sp
from sklearn.feature_extraction.text import CountVectorizer

from skleiden._blocks.frames import common_index
from skleiden._text import as_text, is_listing

from ._members import (
    Label,
    LabelsLike,
    check_positive_integer,
    member_rows,
    number_labels,
)

# What groups of texts go by.
_Group = TypeVar("_Group")

# Scripts that are written without spaces are taken by pairs of letters. Words are of at
# most so many letters.
_LONGEST = 50
_UNSPACED = "\u3005\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uff66-\uff9f\u0e00-\u0e7f"


@lru_cache(maxsize=1)
def _words() -> re.Pattern[str]:
    """Make a pattern of words; marks that combine with letters count as letters."""
    every = map(chr, range(0x300, 0x10000))
    marks = "".join(one for one in every if category(one)[0] == "M")
    letter = rf"[^\W\d_{_UNSPACED}]"
    return re.compile(rf"[{_UNSPACED}]+|{letter}(?:[\w'\u2019{marks}-]*[\w{marks}])")


# A word says something of a group if so many of its texts have it, or this share.
_FEWEST_TEXTS, _LEAST_SHARE = 2, 0.05
# Words in more than half of so many groups, or of more, tell none of them.
_FEWEST_GROUPS = 4


def keywords(
    texts: Sequence[str],
    labels: LabelsLike,
    *,
    n_keywords: int = 5,
) -> dict[Label, list[str]]:
    """Find the words that tell the texts of each community from those of the others.

    Words and pairs of words are scored by class-based TF-IDF [1]_: their frequency in
    the community, times ``log(1 + a / f)``, where ``f`` is how often they occur in all
    communities, and ``a`` the mean number of words of a community. If there are four
    communities or more, words that occur in more than half of them are left out, which
    removes stop words in any language. Chinese, Japanese and Thai are written without
    spaces: their words are pairs of letters, of which those that overlap with a better
    one are left out.

    Parameters
    ----------
    texts : sequence of str of length n_samples
        Text of each row.

    labels : array-like of int or str of shape (n_samples,)
        Communities, as strings, integers or whole floats; -1, or "-1", is noise, which
        has no keywords.

    n_keywords : int, default=5
        Largest number of keywords of a community, at least 1.

    Returns
    -------
    dict of {int or str: list of str}
        For each community, best first, in lower case. A keyword is in at least two of
        its texts, and in a twentieth of them, or in its only text; empty if there is
        none.

    Raises
    ------
    TypeError
        If `texts` is a single string.

    ValueError
        If labels are not one-dimensional, strings or integers of at least -1, or as
        many as texts; if `n_keywords` is below 1.

    References
    ----------
    .. [1] M. Grootendorst, "BERTopic: Neural topic modeling with a class-based TF-IDF
       procedure", arXiv:2203.05794, 2022.

    Examples
    --------
    >>> from skleiden.inspection import keywords
    >>> texts = ["bake bread", "the bread is hot", "a fast train", "by train"]
    >>> keywords(texts, [0, 0, 1, 1], n_keywords=1)
    {0: ['bread'], 1: ['train']}
    """
    check_positive_integer(n_keywords, "n_keywords")
    if not is_listing(texts):
        raise TypeError(
            f"texts must be a sequence of strings, one for each label; got {texts!r}. "
            "Give a list of them."
        )
    index = common_index({"texts": texts})
    texts = [as_text(text) for text in texts]  # by their places, not by an index
    found = number_labels(labels, len(texts), index)
    return keywords_of(texts, member_rows(found), n_keywords)


def keywords_of(
    texts: Sequence[str], rows: Mapping[_Group, np.ndarray], n_keywords: int
) -> dict[_Group, list[str]]:
    """Find the words of groups of texts, which may overlap; `rows` are theirs."""
    groups = list(rows)
    used, numbers = np.unique(
        np.concatenate([np.empty(0, np.int64), *rows.values()]), return_inverse=True
    )
    counting = CountVectorizer(analyzer=_terms, dtype=np.float64)
    try:
        counts = counting.fit_transform([texts[row] for row in used])
    except ValueError:  # there is no word in any of them
        return {group: [] for group in groups}
    sizes = np.array([len(rows[group]) for group in groups])
    group_of = np.repeat(np.arange(len(groups)), sizes)
    shape = len(groups), used.size
    indicator = sp.csr_array((np.ones(numbers.size), (group_of, numbers)), shape=shape)
    of_groups, with_term = indicator @ counts, indicator @ (counts > 0).astype(float)
    total = of_groups.sum(axis=1)
    idf = np.log1p(total.mean() / of_groups.sum(axis=0))
    terms = counting.get_feature_names_out()
    common: set[str] = set()
    if len(groups) >= _FEWEST_GROUPS:
        common = {*terms[(of_groups > 0).sum(axis=0) > len(groups) / 2]}
    telling = np.array([common.isdisjoint(term.split()) for term in terms])
    found = {}
    for number, group in enumerate(groups):
        least = max(_FEWEST_TEXTS, _LEAST_SHARE * sizes[number])
        n_texts = with_term[[number]].toarray()[0]
        known = np.flatnonzero(telling & (n_texts >= min(least, sizes[number])))
        score = of_groups[[number]].toarray()[0][known] * idf[known]
        order = known[np.lexsort((terms[known], -score))]
        found[group] = _apart(terms[order], n_keywords)
    return found


def _terms(text: str) -> list[str]:
    """Give the words of a text, and pairs of them, in lower case."""
    words: list[str] = []
    for word in _words().findall(normalize("NFC", text).lower()):
        if _is_pair(word):
            words += map("".join, pairwise(word))
        elif len(word) <= _LONGEST:
            words.append(word)
    spaced = [word for word in words if not _is_pair(word)]
    return words + list(map(" ".join, pairwise(spaced)))


def _apart(terms: Sequence[str], n_keywords: int) -> list[str]:
    """Take the first terms, without those that say the same as one before.

    A term does so if it has all words of the other, or the other all of its own; or if
    both are pairs of letters, one of which goes on where the other ends, so that both
    come from one word, or from its border.
    """
    taken: list[str] = []
    for term in terms:
        words = {*term.split()}
        others = [{*of.split()} for of in taken]
        same = any(words <= other or words >= other for other in others)
        if not same and not (
            _is_pair(term) and any(_goes_on(term, of) for of in taken)
        ):
            taken.append(str(term))
        if len(taken) == n_keywords:
            break
    return taken


def _is_pair(term: str) -> bool:
    """Whether a term is two letters of a script without spaces."""
    return re.match(f"[{_UNSPACED}]", term) is not None


def _goes_on(term: str, other: str) -> bool:
    return term[0] == other[-1] or term[-1] == other[0]
