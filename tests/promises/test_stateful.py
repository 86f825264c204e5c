"""Any sequence of calls: estimators stay what the calls that went well made them."""

import pickle

import numpy as np
import pytest
import scipy.sparse as sp
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule
from numpy.testing import assert_allclose, assert_array_equal
from sklearn.base import clone
from sklearn.exceptions import NotFittedError

from skleiden import MultiLayerTfidfSketcher, MutualKNNLeiden

rng = np.random.RandomState(0)
X = sp.csr_array(
    rng.randint(1, 40, (200, 30)) / 8 * (rng.rand(200, 30) < 0.3), dtype=np.float32
)
VECTORS = rng.standard_normal((120, 6)) + 5 * np.eye(6)[rng.randint(6, size=120)]
NAN = np.full((3, 30), np.nan)
BLOCKS = st.tuples(st.integers(0, 150), st.integers(1, 50))


class Sketcher(RuleBasedStateMachine):
    """Rows come in any blocks, with failures and copies in between."""

    def __init__(self):
        super().__init__()
        self.sketcher = MultiLayerTfidfSketcher(8, random_state=0)
        self.seen = []

    @rule(block=BLOCKS)
    def learn_more(self, block):
        start, size = block
        self.sketcher.partial_fit(X[start : start + size])
        self.seen.append(X[start : start + size])

    @rule(block=BLOCKS)
    def start_again(self, block):
        start, size = block
        self.sketcher.fit(X[start : start + size])
        self.seen = [X[start : start + size]]

    @rule(bad=st.sampled_from([NAN, np.ones((3, 30)) * np.inf, "text", [[1, 2], [3]]]))
    def fail(self, bad):
        for method in (self.sketcher.partial_fit, self.sketcher.fit):
            with pytest.raises((ValueError, TypeError)):
                method(bad)

    @rule()
    def copy(self):
        self.sketcher = pickle.loads(pickle.dumps(self.sketcher))

    @precondition(lambda self: self.seen)
    @rule()
    def change_columns(self):
        with pytest.raises(ValueError, match="expecting 30 features"):
            self.sketcher.partial_fit(X[:, :7])

    @invariant()
    def as_if_all_at_once(self):
        if not self.seen:
            with pytest.raises(NotFittedError):
                self.sketcher.transform(X)
            return
        whole = clone(self.sketcher).fit(sp.vstack(self.seen))
        assert_array_equal(self.sketcher.df_, whole.df_)
        assert_array_equal(self.sketcher.idf_, whole.idf_)
        assert self.sketcher.n_samples_seen_ == whole.n_samples_seen_
        assert_allclose(self.sketcher.transform(X[:20]), whole.transform(X[:20]))


class Clusterer(RuleBasedStateMachine):
    """Fits, parameters and failures in any order."""

    def __init__(self):
        super().__init__()
        self.clusterer = MutualKNNLeiden(8, random_state=0)
        self.fitted = (
            None  # the rows, and the parameters, of the last fit that went well
        )

    @rule(n=st.integers(30, 120))
    def fit(self, n):
        self.clusterer.fit(VECTORS[:n])
        self.fitted = n, self.clusterer.get_params()

    @rule(
        resolution=st.sampled_from([0.5, 1.0, 3.0]),
        graph=st.sampled_from(["mutual", "union"]),
        n_neighbors=st.integers(3, 20),
    )
    def set_parameters(self, **parameters):
        self.clusterer.set_params(**parameters)

    @rule(bad=st.sampled_from([VECTORS[:1], VECTORS * np.nan, sp.csr_array(VECTORS)]))
    def fail(self, bad):
        with pytest.raises((ValueError, TypeError)):
            self.clusterer.fit(bad)

    @rule()
    def fail_by_parameter(self):
        resolution = self.clusterer.resolution
        with pytest.raises(ValueError, match="resolution"):
            self.clusterer.set_params(resolution=-1).fit(VECTORS)
        self.clusterer.set_params(resolution=resolution)

    @rule()
    def copy(self):
        self.clusterer = pickle.loads(pickle.dumps(self.clusterer))

    @invariant()
    def as_the_last_fit_made_it(self):
        if self.fitted is None:
            with pytest.raises(NotFittedError):
                self.clusterer.predict(VECTORS)
            return
        n, parameters = self.fitted
        again = MutualKNNLeiden(**parameters).fit(VECTORS[:n])
        assert_array_equal(self.clusterer.labels_, again.labels_)
        assert_array_equal(self.clusterer.predict(VECTORS), again.predict(VECTORS))


SETTINGS = settings(
    max_examples=25,
    stateful_step_count=12,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow],
)
TestSketcher = Sketcher.TestCase
TestSketcher.settings = SETTINGS
TestClusterer = Clusterer.TestCase
TestClusterer.settings = SETTINGS
