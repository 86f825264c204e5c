"""Forces of the map are what plain NumPy says, in however many steps."""

import numpy as np
import pytest
import scipy.sparse as sp

from skleiden._kernels import graph_layout


@pytest.mark.parametrize("at_once", [1, 3, 100])
def test_vertices_are_pushed_by_all_others(at_once, monkeypatch):
    monkeypatch.setattr(graph_layout, "_OTHERS_AT_ONCE", at_once)
    places = np.random.default_rng(0).standard_normal((2, 9)).astype(np.float32)
    others = np.array([0, 2, 5, 7, 8])
    expected = np.zeros((2, 9))
    for i in range(9):
        for j in others:
            gap = (places[:, i] - places[:, j]).astype(float)
            square = gap @ gap
            expected[:, i] += gap / (graph_layout._LEAST_SQUARE + square) / (1 + square)
    expected *= max(1, 9 / graph_layout._AS_STRONG) / 5
    found = graph_layout._push(places, others)
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5)


def rings():
    """Two rings of seven and of four vertices, joined, and a vertex alone."""
    graph = np.zeros((12, 12))
    for start, size in [(0, 7), (7, 4)]:
        for i in range(size):
            a, b = start + i, start + (i + 1) % size
            graph[a, b] = graph[b, a] = 1 - 0.05 * i
    graph[2, 8] = graph[8, 2] = 0.2
    return sp.csr_array(graph)


def test_maps_are_the_same_everywhere():
    expected = [
        [0.2113, 2.4669], [-0.0102, 1.9675], [0.2479, 1.4], [0.8558, 1.3107],
        [1.303, 1.6973], [1.2939, 2.2854], [0.8346, 2.6384], [-2.529, -2.532],
        [-2.0503, -2.5179], [-2.0646, -3.0237], [-2.5376, -3.0278], [4.502, -2.4865],
    ]  # fmt: skip
    found = graph_layout.layout(rings(), seed=3)
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, expected, atol=1e-3)


def test_maps_start_in_a_disc_where_what_is_tied_is_near():
    path = sp.diags_array(np.ones(99), offsets=1).tocsr()
    ties, strength = graph_layout._normalized(sp.csr_array(path + path.T))
    x, y = graph_layout._start(ties, strength, np.random.RandomState(0))
    radius = np.sqrt(x**2 + y**2) / 0.17 / 10
    assert 0.9 < radius.max() <= 1.0001
    steps = np.hypot(np.diff(x), np.diff(y)) / 1.7
    assert steps.max() < 0.3
    assert np.hypot(x[0] - x[-1], y[0] - y[-1]) / 1.7 > 0.5
