"""Which divisions a tree chooses among, by their lines over the resolution."""

from types import SimpleNamespace

import numpy as np
import pytest
from numpy.testing import assert_array_equal

from skleiden._stages import tree


def line(labels, inside, expected, resolution):
    return tree._Line(np.array(labels), inside, expected, resolution)


# Twelve vertices: in one part, in two, in three, and in six.
ONE, TWO = np.zeros(12, int), np.repeat([0, 1], 6)
THREE, SIX = np.repeat([0, 1, 2], 4), np.repeat(np.arange(6), 2)
SWEPT = [
    line(ONE, 1.0, 1.0, 0.25),
    line(TWO, 0.9, 0.5, 0.5),
    line(THREE, 0.6, 0.375, 1.0),  # below the others everywhere
    line(SIX, 0.6, 0.125, 8.0),
]


def test_envelope_is_of_the_lines_that_are_highest_somewhere():
    found = list(tree._envelope(SWEPT))
    assert [tuple(ends) for _, *ends in found] == [
        (0.0, pytest.approx(0.2)),
        (pytest.approx(0.2), pytest.approx(0.8)),
        (pytest.approx(0.8), 8.0),
    ]
    for (labels, *_), expected in zip(found, [ONE, TWO, SIX], strict=True):
        assert_array_equal(labels, expected)
    resolutions = np.geomspace(0.01, 8, 50)
    values = [[one.inside - r * one.expected for one in SWEPT] for r in resolutions]
    for r, best in zip(resolutions, np.argmax(values, axis=1), strict=True):
        (labels,) = [labels for labels, low, high in found if low < r <= high]
        assert_array_equal(labels, SWEPT[best].labels)


def test_of_lines_that_are_the_same_there_is_one():
    twice = [SWEPT[0], SWEPT[1], SWEPT[1]._replace(labels=1 - TWO), SWEPT[3]]
    assert len(list(tree._envelope(twice))) == 3


def test_levels_are_those_that_divide_coarse_to_fine():
    found = tree._best(SWEPT)
    assert [level.labels.max() for level in found] == [1, 5]
    assert found[0].low == found[0].start == pytest.approx(0.2)
    assert found[0].high == found[0].end == found[1].low == pytest.approx(0.8)
    assert found[1].high == 8


def test_of_levels_that_are_nearly_equal_the_widest_is_left():
    moved = np.r_[TWO[:-1], 0]  # nearly, of twelve: not equal enough
    swept = [SWEPT[0], SWEPT[1], line(moved, 0.84, 0.4, 1.0), SWEPT[3]]
    levels = tree._best(swept)
    assert len(levels) == 3
    relabelled = [SWEPT[0], SWEPT[1], line(1 - TWO, 0.84, 0.4, 1.0), SWEPT[3]]
    levels = tree._best(relabelled)
    assert len(levels) == 2
    assert_array_equal(levels[0].labels, TWO)
    assert levels[0].high == pytest.approx(0.6)
    assert levels[0].end == pytest.approx(0.24 / 0.275)  # the other's


def test_levels_that_are_wide_and_their_middles():
    level = tree._Level(TWO, 0.5, 2.0, 0.25, 0.25 * tree._WIDE)
    assert level.is_wide
    assert not level._replace(end=0.249 * tree._WIDE).is_wide
    assert level.middle == 1
    assert level._replace(low=0.0).middle == 1


def test_agreement_is_of_vertices_that_both_place():
    absent = np.where(np.arange(12) % 6 < 3, TWO, -1)
    assert tree._agreement(TWO, absent) == pytest.approx(1)
    assert tree._agreement(TWO, np.where(np.arange(12) == 0, -1, absent)) == 0
    assert tree._agreement(TWO, ONE) == 0
    assert tree._agreement(ONE, TWO) == 0
    assert tree._agreement(TWO, np.arange(12) % 2) == 0


def test_levels_are_those_of_at_least_the_replicability_asked_for(monkeypatch):
    monkeypatch.setattr(tree, "_best", lambda swept: swept)
    wide = [SimpleNamespace(is_wide=True, labels=r, middle=1.0) for r in (0.5, 0.4)]
    divider = SimpleNamespace(
        graph=SimpleNamespace(counts=np.ones(12)),
        min_size=6,
        _sweep=lambda: wide,
        _divided=lambda labels, _: SimpleNamespace(replicability=labels),
    )
    found = tree.Divider.levels(divider, 0.5)
    assert [level.replicability for level in found] == [0.5]
