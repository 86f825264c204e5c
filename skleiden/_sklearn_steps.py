"""What holds of those steps of scikit-learn's that a file may have before ours.

A few transformers that read rows by plain NumPy: no array of theirs makes compiled code
read elsewhere, so that what is left to check is that nothing predicts in silence what
no ``fit`` has made. A version of scikit-learn may have more or fewer parameters than
the one that saved a file; the fitted attributes below are those of 1.6 and later.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Set
from inspect import signature
from numbers import Real
from typing import Any, NamedTuple

import numpy as np
from sklearn.base import BaseEstimator
from sklearn.decomposition import PCA, TruncatedSVD
from sklearn.feature_extraction.text import TfidfTransformer
from sklearn.feature_selection import VarianceThreshold
from sklearn.impute import SimpleImputer
from sklearn.preprocessing import (
    Binarizer,
    FunctionTransformer,
    MaxAbsScaler,
    MinMaxScaler,
    Normalizer,
    RobustScaler,
    StandardScaler,
)

from ._requirements import _array, _between, _integer, _kind, _number, _require

# How far an entry of the product of unit vectors may be from 1 or 0, and a number that
# follows from others from these: float32 is among what is fitted.
_TOLERANCE = 1e-3

# What a FunctionTransformer may call: functions of one number that run nothing else.
UFUNCS: dict[str, Any] = {
    name: getattr(np, name)
    for name in (
        "absolute", "cbrt", "exp", "expm1", "log", "log10", "log1p", "log2",
        "negative", "rint", "sign", "sqrt", "square", "tanh",
    )
}  # fmt: skip


def completed(kind: type[BaseEstimator], state: dict[str, Any]) -> dict[str, Any]:
    """Add to a saved state what later versions of scikit-learn have in it."""
    defaults = {
        name: parameter.default
        for name, parameter in signature(kind).parameters.items()
        if parameter.default is not parameter.empty
    }
    if "_fit_dtype" in state:  # of a SimpleImputer, which once had but this one
        state = {"_fill_dtype": state["_fit_dtype"], **state}
    return defaults | state


# --- checks ---------------------------------------------------------------------------


def _check_nothing(name: str, step: Any, n: int) -> None:
    """There is nothing but parameters, which are checked by scikit-learn."""


def _check_standard(name: str, scaler: Any, n: int) -> None:
    _check_seen(name, scaler, n)
    for wanted, attributes in (
        (scaler.with_mean or scaler.mean_ is not None, ("mean_",)),
        (scaler.with_std, ("var_", "scale_")),
    ):
        for attribute in attributes:
            _optional(name, scaler, attribute, n, wanted)
    if scaler.with_std:
        _between(f"{name}.var_", scaler.var_, 0, np.inf)
        _check_scale(name, scaler, np.sqrt(scaler.var_))


def _check_min_max(name: str, scaler: Any, n: int) -> None:
    _check_seen(name, scaler, n)
    low, high = _pair(f"{name}.feature_range", scaler.feature_range)
    lowest, highest, span, scale, least = (
        _floats(name, scaler, attribute, n)
        for attribute in ("data_min_", "data_max_", "data_range_", "scale_", "min_")
    )
    _near(f"{name}.data_range_", span, highest - lowest)
    _between(f"{name}.data_range_", span, 0, np.inf)
    _between(f"{name}.scale_", scale, np.finfo(np.float64).tiny, np.inf)
    varies = scale != high - low  # of constant columns
    _near(f"{name}.scale_", (scale * span)[varies], np.full(varies.sum(), high - low))
    _near(f"{name}.min_", least, low - lowest * scale)


def _check_max_abs(name: str, scaler: Any, n: int) -> None:
    _check_seen(name, scaler, n)
    largest = _floats(name, scaler, "max_abs_", n)
    _between(f"{name}.max_abs_", largest, 0, np.inf)
    _floats(name, scaler, "scale_", n)
    _check_scale(name, scaler, largest)


def _check_robust(name: str, scaler: Any, n: int) -> None:
    _pair(f"{name}.quantile_range", scaler.quantile_range)
    _optional(name, scaler, "center_", n, scaler.with_centering)
    _optional(name, scaler, "scale_", n, scaler.with_scaling)
    if scaler.with_scaling:
        tiny = np.finfo(np.float64).tiny
        _between(f"{name}.scale_", scaler.scale_, tiny, np.inf)


def _check_function(name: str, transformer: Any, _: int) -> None:
    for attribute in ("func", "inverse_func"):
        function = getattr(transformer, attribute)
        _require(
            function is None or any(function is one for one in UFUNCS.values()),
            f"{name}.{attribute}",
            f"be None or one of NumPy's {sorted(UFUNCS)}",
            repr(function),
        )
    for attribute in ("kw_args", "inv_kw_args"):
        arguments = getattr(transformer, attribute)
        _require(
            arguments is None or arguments == {},
            f"{name}.{attribute}",
            "be None: arguments may have a function write elsewhere",
            repr(arguments),
        )


def _check_pca(name: str, pca: Any, n: int) -> None:
    seen = _integer(f"{name}.n_samples_", pca.n_samples_, 1)
    k = _integer(f"{name}.n_components_", pca.n_components_, 0, min(n, seen))
    _floats(name, pca, "mean_", n)
    _check_components(name, pca, k, n)
    _require(
        type(pca._fit_svd_solver) is str,
        f"{name}._fit_svd_solver",
        "be a string",
        repr(pca._fit_svd_solver),
    )
    _number(f"{name}.noise_variance_", pca.noise_variance_, -np.inf, np.inf)


def _check_truncated(name: str, svd: Any, n: int) -> None:
    _check_components(name, svd, len(np.atleast_1d(svd.components_)), n)


def _check_components(name: str, step: Any, k: int, n: int) -> None:
    """Check unit vectors at right angles, and what they explain."""
    components = _floats(name, step, "components_", (k, n))
    product = components.astype(np.float64) @ components.T.astype(np.float64)
    lengths = np.diag(product)
    # Where the data have fewer dimensions, there may be vectors of nothing.
    held = np.where(lengths < 0.5, 0.0, 1.0)
    _require(
        np.allclose(product, np.diag(held), atol=_TOLERANCE),
        f"{name}.components_",
        "be unit vectors at right angles",
        f"products from {product.min(initial=0):.3g} to {product.max(initial=0):.3g}",
    )
    for attribute in ("explained_variance_", "singular_values_"):
        values = _floats(name, step, attribute, k)
        _between(f"{name}.{attribute}", values, 0, np.inf)
    # Not a number where nothing varies.
    _floats(name, step, "explained_variance_ratio_", k, finite=False)


def _check_imputer(name: str, imputer: Any, n: int) -> None:
    what, statistics = f"{name}.statistics_", imputer.statistics_
    if getattr(getattr(statistics, "dtype", None), "kind", "") == "O":  # of a constant
        every = all(isinstance(one, Real) for one in statistics.flat)
        _require(every, what, "be numbers", statistics)
    else:
        _floats(name, imputer, "statistics_", n, finite=False)
    # Not a number for a column without any, which is left out.
    statistics = _array(what, statistics.astype(np.float64), np.float64, n)
    _require(not np.isinf(statistics).any(), what, "be finite", "infinity")
    _require(
        imputer.indicator_ is None, f"{name}.indicator_", "be None", imputer.indicator_
    )
    for attribute in ("_fit_dtype", "_fill_dtype"):
        dtype = getattr(imputer, attribute)
        _require(
            isinstance(dtype, np.dtype) and dtype.kind in "biuf",
            f"{name}.{attribute}",
            "be a dtype of numbers",
            repr(dtype),
        )


def _check_tfidf(name: str, transformer: Any, n: int) -> None:
    _require(
        hasattr(transformer, "idf_") or not transformer.use_idf,
        f"{name}.idf_",
        "be there with use_idf=True",
        "nothing",
    )
    if hasattr(transformer, "idf_"):
        idf = _floats(name, transformer, "idf_", n, finite=False)
        # At least 1, up to rounding; without end for a term that no text has.
        _between(f"{name}.idf_", idf, 1 - _TOLERANCE, np.inf)


def _check_variances(name: str, threshold: Any, n: int) -> None:
    _between(f"{name}.variances_", _floats(name, threshold, "variances_", n), 0, np.inf)


# --- what several of them have --------------------------------------------------------


def _floats(
    name: str,
    step: Any,
    attribute: str,
    shape: int | tuple[int, ...],
    *,
    finite: bool = True,
) -> np.ndarray:
    """Give an array of floats of a shape; refuse another, and one not finite."""
    what, value = f"{name}.{attribute}", getattr(step, attribute)
    dtype = getattr(value, "dtype", None)
    _require(
        dtype in (np.float32, np.float64), what, "be an array of floats", _kind(value)
    )
    array = _array(what, value, dtype, shape)
    if finite:
        _require(np.isfinite(array).all(), what, "be finite", "nan or infinity")
    return array


def _optional(name: str, step: Any, attribute: str, n: int, wanted: Any) -> None:
    """Check an array that is there if it is wanted."""
    if wanted:
        _floats(name, step, attribute, n)
        return
    value = getattr(step, attribute)
    _require(value is None, f"{name}.{attribute}", "be None", _kind(value))


def _check_seen(name: str, scaler: Any, n: int) -> None:
    """Check how many rows a scaler has seen, or how many in each column."""
    seen, what = scaler.n_samples_seen_, f"{name}.n_samples_seen_"
    if isinstance(seen, np.ndarray):
        _require(seen.dtype.kind in "iuf", what, "be numbers", seen.dtype)
        _between(what, _array(what, seen, seen.dtype, n), 0, np.inf)
    else:
        _number(what, seen, 1e-300, np.inf)


def _check_scale(name: str, scaler: Any, expected: np.ndarray) -> None:
    """Check divisors: 1 where a column is constant, else as expected."""
    scale = scaler.scale_
    _near(f"{name}.scale_", scale[scale != 1], expected[scale != 1])
    _between(f"{name}.scale_", scale, np.finfo(np.float64).tiny, np.inf)


def _near(what: str, values: np.ndarray, expected: np.ndarray) -> None:
    size = np.abs(expected).max(initial=0)
    _require(
        np.allclose(values, expected, rtol=_TOLERANCE, atol=_TOLERANCE**2 * size),
        what,
        "be what the rest of the state gives",
        values,
    )


def _pair(what: str, pair: Any) -> tuple[float, float]:
    """Give two ascending numbers, refused if they are none."""
    _require(
        type(pair) in (tuple, list)
        and len(pair) == 2
        and all(isinstance(end, Real) and math.isfinite(end) for end in pair)
        and pair[0] < pair[1],
        what,
        "be two ascending numbers",
        repr(pair),
    )
    return float(pair[0]), float(pair[1])


def _same_width(step: Any) -> int | None:
    width: int | None = getattr(step, "n_features_in_", None)
    return width


def _n_components(step: Any) -> int:
    return len(step.components_)


def _n_imputed(imputer: Any) -> int:
    if imputer.keep_empty_features:
        return int(imputer.n_features_in_)
    return int(np.count_nonzero(~np.isnan(imputer.statistics_.astype(np.float64))))


def _n_selected(selector: Any) -> int:
    return int(np.count_nonzero(selector.variances_ > selector.threshold))


# --- the transformers ----------------------------------------------------------------


class Step(NamedTuple):
    """A transformer of scikit-learn's.

    `required` are the attributes that ``fit`` sets, beside `n_features_in_`, and
    `optional` those that some versions or parameters set. `check` refuses their values,
    given the name of the class, the transformer and its columns; `width` gives the
    columns that it makes.
    """

    required: Set[str]
    check: Callable[[str, Any, int], None] = _check_nothing
    width: Callable[[Any], int | None] = _same_width
    optional: Set[str] = frozenset()


_SCALED = {"n_samples_seen_", "scale_"}
_EXPLAINED = {
    "components_",
    "explained_variance_",
    "explained_variance_ratio_",
    "singular_values_",
}
_OF_PCA = {"mean_", "n_components_", "n_samples_", "noise_variance_", "_fit_svd_solver"}
_OF_RANGE = {"min_", "data_min_", "data_max_", "data_range_"}
_OF_IMPUTER = {"statistics_", "indicator_", "_fit_dtype", "_fill_dtype"}

STEPS: dict[type[BaseEstimator], Step] = {
    Binarizer: Step(set()),
    FunctionTransformer: Step(set(), _check_function),
    MaxAbsScaler: Step(_SCALED | {"max_abs_"}, _check_max_abs),
    MinMaxScaler: Step(_SCALED | _OF_RANGE, _check_min_max),
    Normalizer: Step(set()),
    PCA: Step(_EXPLAINED | _OF_PCA, _check_pca, _n_components),
    RobustScaler: Step({"center_", "scale_"}, _check_robust),
    SimpleImputer: Step(_OF_IMPUTER, _check_imputer, _n_imputed),
    StandardScaler: Step(_SCALED | {"mean_", "var_"}, _check_standard),
    TfidfTransformer: Step(set(), _check_tfidf, optional={"idf_"}),
    TruncatedSVD: Step(_EXPLAINED, _check_truncated, _n_components),
    VarianceThreshold: Step({"variances_"}, _check_variances, _n_selected),
}
