"""What becomes of small communities where only one is large enough."""

from types import SimpleNamespace

import numpy as np
import scipy.sparse as sp
from numpy.testing import assert_array_equal

from skleiden._kernels import knn
from skleiden._stages.partition import Partitioning


def test_small_ones_join_the_only_one_that_is_large_enough():
    numbers = np.arange(6)
    union = np.zeros((6, 6), dtype="f4")
    union[0, 4] = union[4, 0] = 0.5  # vertex 5 is tied to none
    graph = SimpleNamespace(
        distinct=knn.UniqueRows(None, numbers, numbers, numbers),
        union=sp.csr_array(union),
    )
    settings = SimpleNamespace(small_clusters="attach", min_cluster_size=3)
    membership = np.array([0, 0, 0, 0, 1, 2])
    labels, attached = Partitioning._treat_small(
        settings, membership, np.ones(6, dtype=int), graph
    )
    assert_array_equal(labels, [0, 0, 0, 0, 0, -1])
    assert_array_equal(attached, numbers == 4)
