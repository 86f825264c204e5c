"""What is refused of a matrix, whatever it is stored as, and in which words."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
import scipy.sparse as sp

from .rows import stored_values, with_values
from .sparse import check_sparse
from .tensors import refuse_tensor


def check_real(matrix: Any, what: str) -> None:
    """Refuse what holds no real numbers, such as dates, which NumPy would convert."""
    if matrix.dtype.kind not in "buif":
        raise TypeError(
            f"{what} must hold real numbers; got dtype {matrix.dtype}. Convert it, for "
            "example with .astype(numpy.float32)."
        )


def check_finite(
    block: Any, where: str, start: int, values: np.ndarray | None = None
) -> None:
    """Refuse a block of rows, the first of number `start`, with NaN or infinity.

    `values` are the numbers that it stores, where they were converted.
    """
    values = stored_values(block) if values is None else values
    if np.isfinite(values).all():
        return
    what, bad = "NaN", np.isnan(values)
    if not bad.any():
        what, bad = "infinity", np.isinf(values)
    rows, columns = sp.coo_array(with_values(block, bad)).coords
    first, rows = np.lexsort((columns, rows))[0], rows + start
    raise ValueError(
        f"Input X contains {what}{where}, first in row {rows[first]}, column "
        f"{columns[first]}. {np.unique(rows).size} of rows {start} to "
        f"{start + block.shape[0] - 1} hold it. Remove these rows or repair their "
        "values."
    )


def check_shape(shape: tuple[int, ...], name: str, least_rows: int = 1) -> None:
    """Refuse shapes, of what is not read yet, that are not matrices or too small.

    scikit-learn says the same of what it converts.
    """
    if len(shape) != 2:
        raise ValueError(
            f"Expected 2D array, got {len(shape)}D {name} instead. Reshape it to "
            "(n_samples, n_features)."
        )
    if shape[0] < least_rows or shape[1] < 1:
        rows = "1 row" if least_rows == 1 else f"{least_rows} rows"
        raise ValueError(
            f"Found a {name} with shape {shape} while at least {rows} and 1 column are "
            "required."
        )


def refuse_masked(matrix: Any, what: str) -> None:
    """Refuse a masked array, whose mask would be dropped."""
    if np.ma.is_masked(matrix):
        raise ValueError(
            f"{what} is a masked array with {np.ma.getmaskarray(matrix).sum()} masked "
            "entries, which would be taken as they are. Fill them first, for example "
            "with .filled(0)."
        )


def refuse_dask_frame(X: Any, what: str) -> None:
    """Refuse a Dask DataFrame, which NumPy would read into this process's memory."""
    if type(X).__module__.split(".")[0] in ("dask", "dask_expr") and hasattr(
        X, "to_dask_array"
    ):
        raise TypeError(
            f"{what} must be a Dask array; got a Dask {type(X).__name__}. Convert it "
            "with its to_dask_array(lengths=True)."
        )


def refuse_layer_sequence(X: Any) -> None:
    """Refuse a sequence of matrices, or an array of them, which is no row-indexable X.

    scikit-learn would take each matrix of the sequence for one sample, and a
    cross-validation would silently drop layers. So would it drop the mask of a masked
    array, which is refused as well, and it does not check the parts of a sparse matrix,
    which must be valid.
    """
    refuse_masked(X, "X")
    refuse_dask_frame(X, "X")
    refuse_tensor(X, "X")
    if sp.issparse(X):
        check_sparse(X, "X")
        return
    if hasattr(X, "shape") and _ndim(X) > 2:
        raise TypeError(
            f"X must have one row per sample; got an array of {X.ndim} dimensions, "
            f"shape {tuple(X.shape)}. {TOKENS_OR_LAYERS}"
        )
    if isinstance(X, (list, tuple)) or getattr(X, "dtype", None) == np.dtype(object):
        items = list(X) if getattr(X, "ndim", 1) == 1 else []
        if not any(_ndim(item) >= 2 for item in items):
            return
        found = f"a {type(X).__name__} of {len(items)} matrices"
    else:
        return
    raise TypeError(
        f"X must have one row per sample; got {found}, which scikit-learn would "
        "slice by layer instead of by row. Wrap the layers: "
        "skleiden.LayerStack(layers)."
    )


# What to do with an array of more than two dimensions: two meanings, and no guess.
TOKENS_OR_LAYERS = (
    "If an axis is tokens, pool over it first, such as by X.mean(axis=1); if it is "
    "layers, name it: skleiden.LayerStack.from_array(X, axis=1)."
)


def _ndim(item: Any) -> int:
    """Count the dimensions of an array-like without converting it."""
    if hasattr(item, "ndim"):
        return int(item.ndim)
    if isinstance(item, (list, tuple)):
        return 1 + (_ndim(item[0]) if len(item) else 0)
    return 0


def is_mapping(X: Any) -> bool:
    """Whether X is a mapping; a DOK matrix, which is a dict, is none."""
    return isinstance(X, Mapping) and not sp.issparse(X)


def check_names(names: Iterable[Any], n_layers: int) -> tuple[str, ...]:
    """Names of so many layers, refused if they do not tell them apart."""
    if isinstance(names, str) or not isinstance(names, Iterable):
        raise TypeError(f"names must be a sequence of str; got {names!r}.")
    checked = tuple(str(name) for name in names)
    if len(checked) != n_layers:
        raise ValueError(
            f"names must give one name per layer; got {len(checked)} names for "
            f"{n_layers} layers."
        )
    repeated = sorted({name for name in checked if checked.count(name) > 1})
    if repeated:
        raise ValueError(f"Layer names must differ; got {repeated} more than once.")
    return checked


def as_float_dtype(dtype: Any) -> np.dtype | None:
    """Give the floating dtype that is meant; None if there is none."""
    try:
        found = np.dtype(dtype)
    except (TypeError, ValueError):
        return None
    # NumPy takes None for float64.
    return found if dtype is not None and found.kind == "f" else None
