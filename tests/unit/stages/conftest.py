"""Vectors in blocks that are in this process, as those on workers are elsewhere."""

from itertools import pairwise

import numpy as np
import pytest

from skleiden._blocks.runner import Local
from skleiden._stages.distinct import find_distinct


class Noting(Local):
    """Runs everything here, notes what it keeps, and has nothing at hand."""

    def __init__(self):
        super().__init__()
        self.kept = []

    def keep(self, handles, description):
        self.kept.append(description)
        return super().keep(handles, description)

    def at_hand(self, handles):
        return []


def in_blocks(X, sizes, runner=None):
    """Distinct rows of X, whose blocks of rows have these sizes."""
    ends = np.cumsum([0, *sizes]).tolist()
    assert ends[-1] == len(X)
    blocks = [
        (a, b - a, [np.ascontiguousarray(X[a:b], dtype=np.float32)])
        for a, b in pairwise(ends)
    ]
    return find_distinct(runner or Local(), blocks, X.shape[1])


@pytest.fixture
def blocked():
    """The function that gives distinct rows in blocks."""
    return in_blocks


@pytest.fixture
def noting():
    """A runner that notes."""
    return Noting


@pytest.fixture(scope="session")
def directions():
    """60 rows around 5 axes, of which some repeat others, and one is zero."""
    rng = np.random.default_rng(0)
    X = rng.standard_normal((60, 8)) + 4 * np.eye(8)[np.arange(60) % 5]
    X[[7, 33, 59]] = X[[12, 12, 40]]
    X[21] = 0
    X.flags.writeable = False
    return X
