"""scikit-learn's own checks of an estimator."""

from unittest.mock import patch

import pytest
from sklearn.utils.estimator_checks import parametrize_with_checks

from skleiden import (
    FaissKNeighborsTransformer,
    MultiLayerTfidfSketcher,
    MutualKNNLeiden,
)
from skleiden.model_selection import StableLeiden


class AnyDistances(MutualKNNLeiden):
    """Takes the Euclidean distances that the checks hand to a pairwise estimator.

    `MutualKNNLeiden` refuses distances above 2, so that with metric="precomputed" most
    checks could only show the refusal. Everything but it is tested through this.
    """

    def fit(self, X, y=None):
        with patch("skleiden._blocks.graphs._check_range"):
            return super().fit(X)

    def predict(self, X):
        with patch("skleiden._blocks.graphs._check_range"):
            return super().predict(X)


def expected_failures(estimator):
    if isinstance(estimator, AnyDistances):
        # scikit-learn's own DBSCAN(metric="precomputed") fails it too.
        return {"check_clustering": "hands over vectors, not distances"}
    return {}


# The checks ask for one or two communities where their rows are in more components, or
# too few for one.
@pytest.mark.filterwarnings("ignore:n_clusters=. is fewer", "ignore:No resolution giv")
@parametrize_with_checks(
    [
        MultiLayerTfidfSketcher(n_components=8),
        MultiLayerTfidfSketcher(n_components=8, weighting="zscore", dtype="float64"),
        MultiLayerTfidfSketcher(n_components=8, weighting="none", power=0.5),
        FaissKNeighborsTransformer(),
        FaissKNeighborsTransformer(algorithm="hnsw", mode="connectivity"),
        MutualKNNLeiden(),
        MutualKNNLeiden(algorithm="hnsw"),
        MutualKNNLeiden(backend="leidenalg", graph="union", weights="jaccard"),
        AnyDistances(metric="precomputed", min_cluster_size=1),
        StableLeiden(n_runs=2),
    ],
    expected_failed_checks=expected_failures,
)
def test_sklearn_checks(estimator, check):
    check(estimator)
