"""scikit-learn's own checks of an estimator."""

from sklearn.utils.estimator_checks import parametrize_with_checks

from skleiden import (
    FaissKNeighborsTransformer,
    MultiLayerTfidfSketcher,
    MutualKNNLeiden,
)


class AnyDistances(MutualKNNLeiden):
    """Takes the Euclidean distances that the checks feed to a pairwise estimator.

    Everything but the range of the values is tested through it.
    """

    def _check_range(self, values, sparse):
        pass


# scikit-learn's own DBSCAN(metric="precomputed") fails it too.
VECTORS = {"check_clustering": "hands over vectors, not distances"}
# What MutualKNNLeiden refuses by name; AnyDistances passes all of these.
EUCLIDEAN = dict.fromkeys(
    [
        "check_dict_unchanged",
        "check_dont_overwrite_parameters",
        "check_dtype_object",
        "check_estimators_dtypes",
        "check_estimators_fit_returns_self",
        "check_estimators_overwrite_params",
        "check_estimators_pickle",
        "check_f_contiguous_array_estimator",
        "check_fit2d_predict1d",
        "check_fit_check_is_fitted",
        "check_fit_idempotent",
        "check_methods_sample_order_invariance",
        "check_methods_subset_invariance",
        "check_n_features_in",
        "check_n_features_in_after_fitting",
        "check_pipeline_consistency",
        "check_positive_only_tag_during_fit",
        "check_readonly_memmap_input",
    ],
    "hands over Euclidean distances above 2, or negative ones",
)


def expected_failures(estimator):
    if getattr(estimator, "metric", None) != "precomputed":
        return {}
    return VECTORS if isinstance(estimator, AnyDistances) else VECTORS | EUCLIDEAN


@parametrize_with_checks(
    [
        MultiLayerTfidfSketcher(n_components=8),
        MultiLayerTfidfSketcher(n_components=8, weighting="zscore", dtype="float64"),
        MultiLayerTfidfSketcher(n_components=8, weighting="none", sublinear_tf=True),
        FaissKNeighborsTransformer(),
        FaissKNeighborsTransformer(algorithm="hnsw", mode="connectivity"),
        MutualKNNLeiden(),
        MutualKNNLeiden(algorithm="hnsw"),
        MutualKNNLeiden(backend="leidenalg", graph="union", weights="jaccard"),
        MutualKNNLeiden(metric="precomputed"),
        AnyDistances(metric="precomputed", min_cluster_size=1),
    ],
    expected_failed_checks=expected_failures,
)
def test_sklearn_checks(estimator, check):
    check(estimator)
