"""What holds of every estimator's parameters and fitted state.

One function for each class states all of it, of an estimator that was fitted a moment
ago as of one that comes from a file: loading refuses what ``fit`` cannot have made,
because compiled code trusts these arrays, and a wrong one would predict in silence.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from itertools import pairwise
from typing import Any

import numpy as np
import scipy.sparse as sp
from scipy.sparse.csgraph import connected_components
from sklearn.base import BaseEstimator
from sklearn.pipeline import FeatureUnion, Pipeline
from sklearn.preprocessing import FunctionTransformer

from ._blocks.checks import as_float_dtype
from ._blocks.sparse import check_sparse
from ._clusterer import MutualKNNLeiden
from ._fitting import final_step
from ._kernels import countsketch, knn
from ._neighbors import FaissKNeighborsTransformer
from ._requirements import (
    _array,
    _between,
    _close,
    _equal,
    _integer,
    _integers,
    _number,
    _range,
    _require,
    _same,
)
from ._sketcher import MultiLayerTfidfSketcher
from ._sklearn_steps import STEPS
from ._stages.replicate import weights_of
from ._stages.sketch import Settings
from .model_selection import StableLeiden

# How far the squared length of a unit row may be from 1: far more than rounding leaves
# in rows of any number of columns.
_UNIT_TOLERANCE = 1e-4
# Similarities of precomputed distances may be so far out of [-1, 1].
_SIMILARITY_TOLERANCE = 2e-6
_ROWS_AT_ONCE = 8192

# Attributes that scikit-learn sets where it has reason to.
_NAMES, _N_FEATURES, _OUTPUT = (
    "feature_names_in_",
    "n_features_in_",
    "_sklearn_output_config",
)
_SEARCHES = {"exact", "hnsw", "ivf"}


def check_estimator(estimator: BaseEstimator) -> bool:
    """Check an estimator that a file may hold, or a pipeline, with all inside.

    Parameters
    ----------
    estimator : estimator
        Fitted or not. What it holds may be anything.

    Returns
    -------
    fitted : bool
        Whether it is fitted; of a pipeline, whether all of its steps are.

    Raises
    ------
    ValueError
        If an attribute is missing, unknown or not what ``fit`` makes of it; the message
        names class and attribute, what it must be and what was found.
    """
    kind = type(estimator)
    name, attributes = kind.__name__, vars(estimator)
    parameters = set(kind._get_param_names())
    _check_known(name, attributes, parameters)
    _check_output_config(name, attributes)
    try:
        if hasattr(estimator, "_parameter_constraints"):  # a FeatureUnion has none
            estimator._validate_params()
    except ValueError as error:
        raise ValueError(f"{name} has a parameter that is not valid: {error}") from None
    return _CHECKS[kind](name, estimator, attributes.keys() - parameters - {_OUTPUT})


# --- estimators -----------------------------------------------------------------------


def _check_sketcher(name: str, sketcher: Any, fitted: set[str]) -> bool:
    dtype = as_float_dtype(sketcher.dtype)
    _require(
        dtype in (np.float32, np.float64),
        f"{name}.dtype",
        "be numpy.float32 or numpy.float64",
        repr(sketcher.dtype),
    )
    if not fitted:
        return False
    settings: Any = getattr(sketcher, "_settings", None)
    weighting: Any = getattr(sketcher, "weighting_", ())
    weighting = weighting if type(weighting) is tuple else ()
    centred = "zscore" in weighting or getattr(settings, "center", False) is True
    own = {
        name
        for name, is_there in (
            ("idf_", "idf" in weighting),
            ("scale_", "zscore" in weighting),
            ("mean_", centred),
            ("layer_replicability_", "layer_replicability_" in fitted),
            ("_prompts", "_prompts" in fitted),
        )
        if is_there
    }
    _check_fitted_names(
        name,
        fitted,
        {
            "_settings",
            "_statistics",
            _N_FEATURES,
            "layer_names_",
            "layer_widths_",
            "layer_weights_",
            "weighting_",
            "positive_part_",
            "n_components_",
            "n_samples_seen_",
            "df_",
            "buckets_",
            "signs_",
            "n_zero_rows_",
            *own,
        },
    )
    _check_settings(f"{name}._settings", settings)
    widths = _integers(f"{name}.layer_widths_", sketcher.layer_widths_, 0)
    n_layers, n = len(widths), _n_features(name, sketcher)
    _require(
        sum(widths) == n, f"{name}.layer_widths_", f"add up to {n} columns", widths
    )
    names = sketcher.layer_names_
    _require(
        type(names) is tuple
        and all(type(one) is str for one in names)
        and len(set(names)) == len(names) == n_layers,
        f"{name}.layer_names_",
        f"be a tuple of {n_layers} different strings",
        repr(names),
    )
    weights = _array(
        f"{name}.layer_weights_", sketcher.layer_weights_, np.float64, n_layers
    )
    _between(f"{name}.layer_weights_", weights, 0, np.finfo(np.float64).max)
    _require(weights.any(), f"{name}.layer_weights_", "not all be 0", weights)
    if "layer_replicability_" in own:
        found = _array(
            f"{name}.layer_replicability_",
            sketcher.layer_replicability_,
            np.float64,
            n_layers,
        )
        most = np.log(sketcher._statistics.n_samples)
        _between(f"{name}.layer_replicability_", found, -2 * most - 1, most)
        _same(f"{name}.layer_weights_", weights, weights_of(found))

    if "_prompts" in own:
        is_text = type(sketcher._prompts) is str
        _require(is_text, f"{name}._prompts", "be a string", repr(sketcher._prompts))
    _check_weighting(name, sketcher, settings.weighting, n_layers)
    components = _integers(f"{name}.n_components_", sketcher.n_components_, 1)
    _require(
        len(components) == n_layers and sum(components) < 2**31,
        f"{name}.n_components_",
        f"be {n_layers} integers that add up to fewer than 2**31",
        components,
    )
    # First, as all that follows is of their length: the widths may say anything.
    buckets = _array(f"{name}.buckets_", sketcher.buckets_, np.int32, n)
    ends = np.repeat(np.cumsum(components), widths)
    starts = ends - np.repeat(components, widths)
    _between(f"{name}.buckets_", buckets, starts, ends - 1)
    signs = _array(f"{name}.signs_", sketcher.signs_, np.int8, n)
    _require((np.abs(signs) == 1).all(), f"{name}.signs_", "be -1 or 1", _range(signs))

    statistics = sketcher._statistics
    _check_statistics(f"{name}._statistics", statistics, n, moments=centred)
    seen = statistics.n_samples
    _equal(f"{name}.n_samples_seen_", sketcher.n_samples_seen_, seen)
    zero = _integer(f"{name}.n_zero_rows_", sketcher.n_zero_rows_, 0, seen)
    df = _array(f"{name}.df_", sketcher.df_, np.int64, n)
    _same(f"{name}.df_", df, statistics.df)
    # Rows that are constant count as zero where correlations are compared.
    correlated = "correlation" in weighting
    _between(f"{name}.df_", df, 0, seen if correlated else seen - zero)
    _require(
        df.sum() >= seen - zero,
        f"{name}.df_",
        f"count an entry of each of the {seen - zero} rows that are not zero",
        f"a sum of {df.sum()}",
    )
    of_columns = np.repeat(weighting, widths)
    if "idf" in weighting:
        expected = countsketch.inverse_document_frequency(
            df, seen, smooth=settings.smooth_idf
        )
        idf = _array(f"{name}.idf_", sketcher.idf_, np.float64, n)
        _close(f"{name}.idf_", idf, np.where(of_columns == "idf", expected, 1.0))
    if centred:
        mean = _array(f"{name}.mean_", sketcher.mean_, np.float64, n)
        _same(f"{name}.mean_", mean, statistics.mean)
    if "zscore" in weighting:
        scale = _array(f"{name}.scale_", sketcher.scale_, np.float64, n)
        deviation = countsketch.standard_deviation(statistics)
        _close(
            f"{name}.scale_", scale, np.where(of_columns == "zscore", deviation, 1.0)
        )
    return True


def _check_weighting(name: str, sketcher: Any, stated: str, n_layers: int) -> None:
    """Check how each layer is said to be taken."""
    found, positive = sketcher.weighting_, sketcher.positive_part_
    allowed: tuple[str, ...] = (stated,)
    if stated == "auto":
        allowed = "idf", "zscore", "correlation"
    _require(
        type(found) is tuple
        and len(found) == n_layers
        and all(type(of) is str and of in allowed for of in found)
        and len({of == "correlation" for of in found}) == 1,
        f"{name}.weighting_",
        f"be a tuple of {n_layers} of {allowed}",
        repr(found),
    )
    _array(f"{name}.positive_part_", positive, np.bool_, n_layers)
    auto = stated == "auto"
    if not (auto and "correlation" in found):  # either may be of those that correlate
        expected = [auto and of == "idf" for of in found]
        _same(f"{name}.positive_part_", positive, np.array(expected, dtype=bool))


def _check_settings(name: str, settings: Any) -> None:
    """Check the parameters that a fitted sketcher keeps to."""
    _require(
        isinstance(settings, Settings), name, "be Settings", type(settings).__name__
    )
    try:
        MultiLayerTfidfSketcher(**settings._asdict())._validate_params()
    except ValueError as error:
        raise ValueError(f"{name} has a parameter that is not valid: {error}") from None
    _require(
        isinstance(settings.dtype, np.dtype)
        and settings.dtype in (np.float32, np.float64),
        f"{name}.dtype",
        "be the dtype float32 or float64",
        repr(settings.dtype),
    )


def _check_statistics(name: str, statistics: Any, n: int, *, moments: bool) -> None:
    _require(
        isinstance(statistics, countsketch.ColumnStatistics),
        name,
        "be ColumnStatistics",
        type(statistics).__name__,
    )
    n_samples = _integer(f"{name}.n_samples", statistics.n_samples, 1)
    df = _array(f"{name}.df", statistics.df, np.int64, n)
    _between(f"{name}.df", df, 0, n_samples)
    size, most = n if moments else 0, np.finfo(np.float64).max
    mean = _array(f"{name}.mean", statistics.mean, np.float64, size)
    _between(f"{name}.mean", mean, -most, most)
    spread = _array(f"{name}.spread", statistics.spread, np.float64, size)
    _between(f"{name}.spread", spread, 0, most)
    empty = df[:size] == 0
    _require(
        not mean[empty].any() and not spread[empty].any(),
        f"{name}.mean and {name}.spread",
        "be 0 in a column without entries",
        f"{_range(mean[empty])} and {_range(spread[empty])}",
    )


def _check_neighbors(name: str, transformer: Any, fitted: set[str]) -> bool:
    if not fitted:
        return False
    _check_fitted_names(
        name,
        fitted,
        {
            "_distinct",
            "_n_features_out",
            "algorithm_",
            "knn_recall_",
            _N_FEATURES,
            "n_neighbors_",
            "n_samples_fit_",
        },
    )
    n = _check_search(name, transformer, _SEARCHES)
    _equal(f"{name}.n_samples_fit_", transformer.n_samples_fit_, n)
    _equal(f"{name}._n_features_out", transformer._n_features_out, n)
    return True


def _check_clusterer(name: str, clusterer: Any, fitted: set[str]) -> bool:
    if not fitted:
        return False
    _check_fitted_names(
        name,
        fitted,
        {
            "_distinct",
            "affinity_matrix_",
            "algorithm_",
            "attached_",
            "backend_",
            "knn_recall_",
            "kth_similarity_",
            "hub_skewness_",
            "hubness_",
            "labels_",
            "local_similarity_",
            "modularity_",
            "n_clusters_",
            "n_components_graph_",
            _N_FEATURES,
            "n_isolated_",
            "n_merged_",
            "n_neighbors_",
            "quality_",
            "resolution_",
            "strength_",
        },
    )
    _require(
        clusterer.backend_ in ("igraph", "leidenalg", "libreville"),
        f"{name}.backend_",
        "be 'igraph', 'leidenalg' or 'libreville'",
        repr(clusterer.backend_),
    )
    precomputed = clusterer.metric == "precomputed"
    n = _check_search(name, clusterer, {"precomputed"} if precomputed else _SEARCHES)
    first, inverse = clusterer._distinct.first, clusterer._distinct.inverse

    check_graph(clusterer.affinity_matrix_, f"{name}.affinity_matrix_", n)
    affinity = clusterer.affinity_matrix_
    check_repeats(affinity, first, inverse, f"{name}.affinity_matrix_")
    degrees = np.diff(affinity.indptr)
    isolated = int(np.count_nonzero(degrees == 0))
    _equal(f"{name}.n_isolated_", clusterer.n_isolated_, isolated)
    parts, _ = connected_components(affinity, directed=False)
    _equal(f"{name}.n_components_graph_", clusterer.n_components_graph_, int(parts))

    labels = check_labels(clusterer.labels_, f"{name}.labels_", n)
    _equal(f"{name}.n_clusters_", clusterer.n_clusters_, int(labels.max()) + 1)
    attached = _array(f"{name}.attached_", clusterer.attached_, np.bool_, n)
    kth = _array(f"{name}.kth_similarity_", clusterer.kth_similarity_, np.float32, n)
    known, bound = kth[inverse >= 0], 1 + _SIMILARITY_TOLERANCE
    corrected = clusterer.hubness_ == "csls"
    reached = f"{name}.kth_similarity_ of a row that is not zero"
    _between(reached, known, -(1 + corrected) * bound, (1 + corrected) * bound)
    local = f"{name}.local_similarity_"
    nearby = _array(local, clusterer.local_similarity_, np.float32, n)
    _between(local, nearby, -bound, bound)
    _require(
        clusterer.hubness_ == "csls"
        or (clusterer.hubness_ is None and not nearby.any()),
        f"{name}.hubness_",
        "be 'csls', or None, with local_similarity_ 0",
        repr(clusterer.hubness_),
    )
    for what, values, of_zero_rows in (
        ("labels_", labels, -1),
        ("attached_", attached, False),
        ("kth_similarity_", kth, np.inf),
        ("local_similarity_", nearby, 0),
    ):
        expected = clusterer._distinct.spread(values[first], of_zero_rows)
        _require(
            np.array_equal(values, expected),
            f"{name}.{what}",
            f"be one for rows that are equal, and {of_zero_rows} for zero rows",
            "one that differs",
        )
    check_connected(affinity, labels, attached, f"{name}.labels_")
    if not precomputed:
        _check_similar(
            f"{name}._distinct.vectors", clusterer._distinct, affinity, kth, nearby
        )
    _number(f"{name}.modularity_", clusterer.modularity_, -0.5, 1)
    most = np.finfo(np.float64).max
    _number(f"{name}.quality_", clusterer.quality_, -most, most)
    _number(f"{name}.resolution_", clusterer.resolution_, 0, most)
    merged = _integer(f"{name}.n_merged_", clusterer.n_merged_, 0, n)
    _require(
        merged == 0 or clusterer.n_clusters is not None,
        f"{name}.n_merged_",
        "be 0 without n_clusters",
        merged,
    )
    strength = _array(f"{name}.strength_", clusterer.strength_, np.float32, n)
    if not np.isnan(strength).all():  # as of some files of version 0.1.0
        _between(f"{name}.strength_", strength, 0, labels >= 0)
        expected = clusterer._distinct.spread(strength[first], 0)
        _same(f"{name}.strength_", strength, expected)
    return True


def _check_runs(name: str, runs: Any, fitted: set[str]) -> bool:
    if runs.estimator is not None:
        _check_inside(f"{name}.estimator", runs.estimator)
    if not fitted:
        return False
    _check_fitted_names(
        name,
        fitted,
        {"confidence_", "estimator_", "labels_", "n_clusters_", "stability_"},
        {_N_FEATURES},
    )
    whole = _check_inside(f"{name}.estimator_", runs.estimator_)
    _, last = final_step(runs.estimator_)
    _require(
        whole and hasattr(last, "labels_"),
        f"{name}.estimator_",
        "be a fitted clusterer, or a pipeline that ends in one",
        f"{type(last).__name__} that is {'' if whole else 'not '}fitted",
    )
    labels = check_labels(runs.labels_, f"{name}.labels_", last.labels_.size)
    _same(f"{name}.labels_", labels, last.labels_)
    _equal(f"{name}.n_clusters_", runs.n_clusters_, int(labels.max()) + 1)
    n = labels.size
    confidence = _array(f"{name}.confidence_", runs.confidence_, np.float64, n)
    _between(f"{name}.confidence_", confidence, 0, 1)
    _number(f"{name}.stability_", runs.stability_, -1, 1)
    absent = object()
    for one in (_N_FEATURES, _NAMES):
        own: Any = getattr(runs, one, absent)
        inner: Any = getattr(runs.estimator_, one, absent)
        _require(
            np.array_equal(own, inner),
            f"{name}.{one}",
            f"be that of {name}.estimator_, or there where it is",
            "another one",
        )
    return True


def _check_step(name: str, transformer: Any, fitted: set[str]) -> bool:
    """Check a transformer of scikit-learn's."""
    step = STEPS[type(transformer)]
    if not fitted:
        if type(transformer) is FunctionTransformer:
            step.check(name, transformer, 0)
        return False
    _check_fitted_names(name, fitted, {_N_FEATURES, *step.required}, step.optional)
    step.check(name, transformer, _n_features(name, transformer))
    return True


def _check_union(name: str, union: Any, fitted: set[str]) -> bool:
    _check_fitted_names(name, fitted, set(), {_NAMES})
    _check_names(name, "transformer_list", union)
    inside = [
        step
        for _, step in union.transformer_list
        if step not in ("drop", "passthrough")
    ]
    for flag in ("verbose", "verbose_feature_names_out"):
        value = getattr(union, flag)
        _require(type(value) is bool, f"{name}.{flag}", "be a boolean", repr(value))
    if union.n_jobs is not None:
        _integer(f"{name}.n_jobs", union.n_jobs, -(2**31))
    weights = union.transformer_weights
    names = {step for step, _ in union.transformer_list}
    _require(
        weights is None
        or (
            type(weights) is dict
            and weights.keys() <= names
            and all(
                isinstance(weight, (int, float)) and math.isfinite(weight)
                for weight in weights.values()
            )
        ),
        f"{name}.transformer_weights",
        f"be None, or finite numbers of {sorted(names)}",
        weights,
    )
    are_fitted = [_check_inside(f"{name}.transformer_list", step) for step in inside]
    for step in inside:
        _require(
            _transforms(step),
            f"{name}.transformer_list",
            "be transformers",
            type(step).__name__,
        )
    widths = {
        step.n_features_in_ for step in inside if getattr(step, _N_FEATURES, None)
    }
    _require(
        len(widths) <= 1,
        f"{name}.transformer_list",
        "have transformers of the same columns",
        sorted(widths),
    )
    return all(are_fitted)


def _check_names(name: str, of: str, holder: Any) -> None:
    """Check the names of what a pipeline or union holds."""
    steps = getattr(holder, of)
    _require(
        type(steps) in (tuple, list)
        and len(steps) > 0
        and all(type(step) in (tuple, list) and len(step) == 2 for step in steps),
        f"{name}.{of}",
        "be pairs of a name and an estimator",
        steps,
    )
    names = [step for step, _ in steps]
    _require(
        all(type(one) is str and "__" not in one for one in names)
        and len(set(names)) == len(names)
        and not set(names) & set(type(holder)._get_param_names()),
        f"{name}.{of}",
        "have names that differ from one another and from the parameters' and are "
        "without '__'",
        names,
    )


def _check_pipeline(name: str, pipeline: Any, fitted: set[str]) -> bool:
    _check_fitted_names(name, fitted, set())
    _check_names(name, "steps", pipeline)
    steps = pipeline.steps
    inside = [step for _, step in steps if step is not None and step != "passthrough"]
    are_fitted = [_check_inside(f"{name}.steps", step) for step in inside]
    last = len(steps) - 1
    for i, (_, step) in enumerate(steps):
        _require(
            i == last or not isinstance(step, BaseEstimator) or _transforms(step),
            f"{name}.steps",
            "be transformers but for the last",
            type(step).__name__,
        )
    for (before, before_fitted), (after, after_fitted) in pairwise(
        zip(inside, are_fitted, strict=True)
    ):
        if before_fitted and after_fitted:
            given, taken = _width(before), getattr(after, _N_FEATURES, None)
            _require(
                given is None or taken is None or given == taken,
                f"{type(after).__name__}.{_N_FEATURES}",
                f"be the {given} columns that {type(before).__name__} makes",
                taken,
            )
    return all(are_fitted)


def _transforms(step: Any) -> bool:
    if isinstance(step, Pipeline):
        return all(
            not isinstance(inner, BaseEstimator) or _transforms(inner)
            for _, inner in step.steps
        )
    return hasattr(step, "transform")


def _width(step: Any) -> int | None:
    """Give the columns that a fitted transformer makes; None if not known."""
    if isinstance(step, MultiLayerTfidfSketcher):
        return sum(step.n_components_)
    if isinstance(step, FaissKNeighborsTransformer):
        return step.n_samples_fit_
    if isinstance(step, Pipeline):
        *_, (_, last) = step.steps
        return _width(last)
    if isinstance(step, FeatureUnion):
        widths = [_width(one) for _, one in step.transformer_list if one != "drop"]
        known = [width for width in widths if width is not None]
        return sum(known) if len(known) == len(widths) else None
    return STEPS[type(step)].width(step) if type(step) in STEPS else None


_CHECKS: dict[type, Callable[[str, Any, set[str]], bool]] = {
    FaissKNeighborsTransformer: _check_neighbors,
    FeatureUnion: _check_union,
    MultiLayerTfidfSketcher: _check_sketcher,
    MutualKNNLeiden: _check_clusterer,
    Pipeline: _check_pipeline,
    StableLeiden: _check_runs,
    **dict.fromkeys(STEPS, _check_step),
}


# --- what several of them have --------------------------------------------------------


def _check_known(name: str, attributes: Any, parameters: set[str]) -> None:
    missing = sorted(parameters - attributes.keys())
    _require(
        not missing, name, f"have the parameters {sorted(parameters)}", f"no {missing}"
    )


def _check_fitted_names(
    name: str, fitted: set[str], required: set[str], optional: Iterable[str] = ()
) -> None:
    """Refuse attributes that are missing or unknown."""
    if required:
        optional = {*optional, _NAMES}
    unknown = sorted(fitted - required - set(optional))
    if unknown:
        raise ValueError(
            f"{name}.{unknown[0]} is not an attribute that fit makes with these "
            f"parameters; of such there are {len(unknown)}."
        )
    missing = sorted(required - fitted)
    if missing:
        raise ValueError(
            f"{name}.{missing[0]} is missing, though the estimator is fitted; of such "
            f"there are {len(missing)}."
        )


def _check_output_config(name: str, attributes: Any) -> None:
    config = attributes.get(_OUTPUT, {})
    _require(
        isinstance(config, dict)
        and config.keys() <= {"transform"}
        and all(
            value in (None, "default", "pandas", "polars") for value in config.values()
        ),
        f"{name}.{_OUTPUT}",
        "be what set_output makes",
        repr(config),
    )


def _check_inside(what: str, value: Any) -> bool:
    _require(
        type(value) in _CHECKS,
        what,
        f"be one of {sorted(kind.__name__ for kind in _CHECKS)}",
        type(value).__name__,
    )
    return check_estimator(value)


def _n_features(name: str, estimator: Any) -> int:
    n = _integer(f"{name}.{_N_FEATURES}", estimator.n_features_in_, 1)
    if hasattr(estimator, _NAMES):
        names = _array(f"{name}.{_NAMES}", estimator.feature_names_in_, object, n)
        _require(
            all(isinstance(one, str) for one in names),
            f"{name}.{_NAMES}",
            "be strings",
            names,
        )
    return n


def _check_search(name: str, estimator: Any, algorithms: set[str]) -> int:
    """Check what a search among fitted rows leaves; returns the number of the rows."""
    _require(
        estimator.algorithm_ in algorithms,
        f"{name}.algorithm_",
        f"be one of {sorted(algorithms)} with metric={estimator.metric!r}",
        repr(estimator.algorithm_),
    )
    precomputed = estimator.algorithm_ == "precomputed"
    n_features = _n_features(name, estimator)
    width = 0 if precomputed else n_features
    n = _check_distinct(f"{name}._distinct", estimator._distinct, width)
    if precomputed:
        _equal(f"{name}.{_N_FEATURES}", n_features, n)
        recall = estimator.knn_recall_
        _require(recall != recall, f"{name}.knn_recall_", "be nan", recall)
    elif estimator.algorithm_ == "exact":
        _equal(f"{name}.knn_recall_", estimator.knn_recall_, 1.0)
    else:
        _number(f"{name}.knn_recall_", estimator.knn_recall_, 0, 1)
    _integer(f"{name}.n_neighbors_", estimator.n_neighbors_, 1, n - 1)
    return n


def _check_distinct(name: str, distinct: Any, width: int) -> int:
    """Check distinct rows of a width; returns the number of all rows."""
    _require(
        isinstance(distinct, knn.UniqueRows),
        name,
        "be UniqueRows",
        type(distinct).__name__,
    )
    inverse = _array(f"{name}.inverse", distinct.inverse, np.int64, None)
    n = inverse.size
    _require(n >= 2, f"{name}.inverse", "have at least 2 rows", n)
    first = _array(f"{name}.first", distinct.first, np.int64, None)
    m = first.size
    _between(f"{name}.first", first, 0, n - 1)
    _between(f"{name}.inverse", inverse, -1, m - 1)
    _require(
        (np.diff(first) > 0).all() and np.array_equal(inverse[first], np.arange(m)),
        f"{name}.first",
        f"be ascending, a row of each number in {name}.inverse",
        _range(first),
    )
    ranks = _array(f"{name}.ranks", distinct.ranks, np.int32, m)
    _require(
        np.array_equal(np.sort(ranks), np.arange(m)),
        f"{name}.ranks",
        f"be the numbers up to {m}, each once",
        _range(ranks),
    )
    vectors = _array(f"{name}.vectors", distinct.vectors, np.float32, (m, width))
    _require(
        vectors.flags.c_contiguous and vectors.flags.aligned,
        f"{name}.vectors",
        "be C-ordered",
        f"strides {vectors.strides}",
    )
    if width == 0:
        return n
    for start in range(0, m, _ROWS_AT_ONCE):
        block = vectors[start : start + _ROWS_AT_ONCE]
        lengths = np.einsum("ij,ij->i", block, block, dtype=np.float64)
        _between(
            f"{name}.vectors, the squared length of a row,",
            lengths,
            1 - _UNIT_TOLERANCE,
            1 + _UNIT_TOLERANCE,
        )
    equal, in_order = knn.representatives(*knn.row_hashes(vectors))
    _require(
        np.array_equal(equal, np.arange(m)),
        f"{name}.vectors",
        "be distinct",
        "rows that are equal",
    )
    _require(
        np.array_equal(ranks[in_order], np.arange(m)),
        f"{name}.ranks",
        "be the order of what is in the vectors",
        "another order",
    )
    return n


def check_graph(graph: Any, name: str = "graph", n: int | None = None) -> None:
    """Check an affinity matrix, of `n` rows if given.

    It is a CSR array of float32 in canonical format (sorted, nothing twice), symmetric,
    with positive, finite weights and nothing on the diagonal.
    """
    _require(
        getattr(graph, "format", None) == "csr",
        name,
        "be a CSR array",
        type(graph).__name__,
    )
    n = graph.shape[0] if n is None else n
    _require(graph.shape == (n, n), name, f"be of shape {(n, n)}", graph.shape)
    check_sparse(graph, name)
    _array(f"{name}.data", graph.data, np.float32, graph.indptr[-1])
    # As igraph and SciPy's graph routines expect it.
    _array(f"{name}.indices", graph.indices, np.int32, graph.indptr[-1])
    _require(
        bool((graph.data > 0).all() and np.isfinite(graph.data).all()),
        name,
        "have positive, finite weights",
        _range(graph.data),
    )
    rows = np.repeat(np.arange(n), np.diff(graph.indptr))
    ascending = (np.diff(graph.indices) > 0) | (np.diff(rows) > 0)
    _require(
        ascending.all(), name, "be sorted, with nothing twice", "a row that is not"
    )
    _require(
        not (rows == graph.indices).any(), name, "have no diagonal", "a row's own edge"
    )
    # A new one on the same memory: SciPy keeps what it finds out of a matrix.
    plain = sp.csr_array((graph.data, graph.indices, graph.indptr), shape=graph.shape)
    back = plain.T.tocsr()
    _require(
        np.array_equal(back.indptr, plain.indptr)
        and np.array_equal(back.indices, plain.indices)
        and np.array_equal(back.data, plain.data),
        name,
        "be symmetric",
        "one that differs from its transpose",
    )


def check_repeats(
    graph: sp.csr_array,
    first: np.ndarray,
    inverse: np.ndarray,
    name: str = "graph",
) -> None:
    """Check that repeats hang on one of their kind, and zero rows on nothing."""
    degrees = np.diff(graph.indptr)
    _require(
        not degrees[inverse < 0].any(),
        name,
        "have no edge at a zero row",
        "one",
    )
    later = np.flatnonzero(inverse >= 0)
    later = later[first[inverse[later]] != later]
    _require(
        (degrees[later] == 1).all()
        and np.array_equal(graph.indices[graph.indptr[later]], first[inverse[later]])
        and (graph.data[graph.indptr[later]] == 1).all(),
        name,
        "join a row that repeats another to the one of its kind that was searched "
        "alone, by a weight of 1",
        "another edge",
    )


def check_labels(labels: Any, name: str = "labels", n: int | None = None) -> np.ndarray:
    """Check labels, of `n` rows if given: int64, -1 or numbered by size.

    0 is the largest community, and no number is left out.
    """
    labels = _array(name, labels, np.int64, n)
    _between(name, labels, -1, labels.size - 1)
    placed = np.flatnonzero(labels >= 0)
    numbers, sizes = np.unique(labels[placed], return_counts=True)
    _require(
        np.array_equal(numbers, np.arange(numbers.size)),
        name,
        "leave no number out",
        f"{numbers.size} numbers up to {labels.max(initial=-1)}",
    )
    _require(
        (np.diff(sizes) <= 0).all(),
        name,
        "number communities by size, the largest first",
        f"sizes {sizes}",
    )
    return labels


def check_connected(
    graph: sp.csr_array,
    labels: np.ndarray,
    attached: np.ndarray,
    name: str = "labels",
) -> None:
    """Check that communities are connected, but for rows attached to them afterwards.

    Each has a row that was there before.
    """
    _require(
        not (attached & (labels < 0)).any(),
        name,
        "give each row that was attached a community",
        "-1 for one",
    )
    core = np.where(attached, -1, labels)
    rows = np.repeat(np.arange(labels.size), np.diff(graph.indptr))
    inside = (core[rows] >= 0) & (core[rows] == core[graph.indices])
    edges = sp.coo_array(
        (graph.data[inside], (rows[inside], graph.indices[inside])), shape=graph.shape
    )
    _, part = connected_components(edges, directed=False)
    n_parts = np.unique(part[core >= 0]).size
    n_communities = int(labels.max()) + 1
    _require(
        n_parts == n_communities == np.unique(core[core >= 0]).size,
        name,
        "make communities that are connected by the graph",
        f"{n_communities} communities in {n_parts} parts",
    )


def _check_similar(
    name: str,
    distinct: knn.UniqueRows,
    graph: sp.csr_array,
    kth: np.ndarray,
    local: np.ndarray,
) -> None:
    """Check that the first edge of each row joins rows of which one lists the other."""
    rows = np.flatnonzero(np.diff(graph.indptr))
    for start in range(0, rows.size, _ROWS_AT_ONCE):
        a = rows[start : start + _ROWS_AT_ONCE]
        b = graph.indices[graph.indptr[a]]
        similarities = np.einsum(
            "ij,ij->i",
            distinct.vectors[distinct.inverse[a]],
            distinct.vectors[distinct.inverse[b]],
            dtype=np.float64,
        )
        reached = similarities - (local[a] + local[b]) / 2
        repeat = distinct.inverse[a] == distinct.inverse[b]
        least = np.minimum(kth[a], kth[b]) - _UNIT_TOLERANCE
        _require(
            (repeat | (reached >= least)).all(),
            name,
            "be the rows whose neighbours affinity_matrix_ joins",
            f"similarities down to {similarities.min(initial=1)} of rows that it joins",
        )


def check_generator(name: str, state: Any) -> None:
    """Check the state of a RandomState: NumPy reads memory where it says."""
    _require(type(state) in (tuple, list) and len(state) == 5, name, "be five", state)
    kind, keys, position, has_gauss, gauss = state
    _require(kind == "MT19937", name, "be an MT19937", repr(kind))
    keys = _array(f"{name}, its keys,", keys, np.uint32, 624)
    _require(keys[1:].any(), f"{name}, its keys,", "not all be 0", "zeros")
    _integer(f"{name}, its position,", position, 0, 624)
    _integer(f"{name}, its flag,", has_gauss, 0, 1)
    most = np.finfo(np.float64).max
    _number(f"{name}, its number,", gauss, -most, most)
