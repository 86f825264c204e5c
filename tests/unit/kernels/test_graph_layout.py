"""Forces of the map are what plain NumPy says, in however many steps."""

import numpy as np
import pytest

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
