"""Lists of fewer neighbours than asked for, as those of small blocks are."""

import numpy as np
from numpy.testing import assert_array_equal

from skleiden._kernels import knn
from skleiden._stages import search


def test_a_list_that_is_not_full_takes_whatever_is_elsewhere():
    similarities = np.array([[0.9, 0.5], [0.8, 0.0]], dtype=np.float32)
    found = knn.Neighbors(np.array([[1, 2], [0, -1]], dtype=np.int32), similarities)
    assert_array_equal(search._last(found, 2), np.float32([0.5, -1]))
    assert_array_equal(search._last(found, 3), np.float32([-1, -1]))
