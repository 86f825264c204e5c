"""X in any accepted form, validated: what is kept as it is, and what is converted."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from itertools import pairwise
from typing import Any

import numpy as np
from sklearn.utils import check_array

from ._blocks.checks import check_real, check_shape, is_mapping, refuse_layer_sequence
from ._blocks.layout import Layers, Layout, Stated, layer_layout
from ._blocks.mapped import check_size
from ._blocks.sources import as_matrix, is_lazy, is_on_workers, source_of
from ._layers import LayerStack


def with_rows(X: Any) -> Any:
    """Give X as something with rows: layers that come as a mapping, stacked."""
    return LayerStack(X) if is_mapping(X) else X


def open_layers(X: Any, stated: Stated, validate: Callable[..., Any]) -> Layers:
    """Validate layered input, and find its layers, without a copy if that can be.

    `stated` is the layout of a single matrix, `validate` is as for `open_matrix`.
    """
    for given in X.layers if isinstance(X, LayerStack) else [X]:
        check_size(given, "X")
    X = with_rows(X)
    if isinstance(X, LayerStack):
        check_shape(X.shape, type(X).__name__)
        validate(X, skip_check_array=True)
        names, widths = X.names, X.widths
        sources = [source_of(matrix) for matrix in X.layers]
    else:
        X = open_matrix(X, validate, accept_sparse="csr")
        names, widths = layer_layout(stated, X.shape[1])
        sources = [source_of(X)]
        if sources[0].cuts_columns:
            sources = [source_of(X[:, columns]) for columns in _columns(widths)]
    # What costs a copy to cut, or another reading, is read whole.
    each = len(sources) == len(widths)
    spans = (
        [range(i, i + 1) for i in range(len(widths))] if each else [range(len(widths))]
    )
    return Layers(Layout(names, widths, tuple(spans)), sources)


def open_matrix(
    X: Any, validate: Callable[..., Any], *, least_rows: int = 1, **checks: Any
) -> Any:
    """Validate one matrix, but for its values, which are checked where they are read.

    What NumPy would load as a whole stays as it is. All else is converted by
    `validate`: scikit-learn's `validate_data` of an estimator, or `check_only`.
    """
    refuse_layer_sequence(X)
    if is_lazy(X):
        check_shape(X.shape, source_of(X).kind, least_rows)
        validate(X, skip_check_array=True)
        return as_matrix(X, "X")
    X = validate(
        X,
        **{"dtype": "numeric", "ensure_all_finite": False} | checks,
        ensure_min_samples=least_rows,
    )
    check_real(X, "X")
    return X


def check_only(X: Any, *, skip_check_array: bool = False, **checks: Any) -> Any:
    """Validate X outside of an estimator."""
    return X if skip_check_array else check_array(X, **checks)


def _columns(widths: Sequence[int]) -> Iterator[slice]:
    return (slice(a, b) for a, b in pairwise(np.cumsum([0, *widths]).tolist()))


def as_layer_stack(X: Any, layers: Stated = None) -> LayerStack:
    """Any accepted form of layered input, of this process, as a `LayerStack`.

    A single dense matrix is split into views, a sparse one into copies of its columns.
    """
    X = with_rows(X)
    if is_on_workers(X.layers[0] if isinstance(X, LayerStack) else X):
        raise TypeError(
            "X must be layers in memory or in files here; got Dask arrays. Give them "
            "as Zarr arrays, which are read block by block "
            "(skleiden.io.load_activations), or compute the rows in question."
        )
    if isinstance(X, LayerStack):
        Layout(X.names, X.widths, ()).check(layers)
        return X
    X = open_matrix(X, check_only, accept_sparse="csr")
    names, widths = layer_layout(layers, X.shape[1])
    if len(widths) > 1 and is_lazy(X):
        raise TypeError(
            "Takes one Zarr array or HDF5 dataset for each layer, as a LayerStack; "
            f"got a single {type(X).__name__} of the layers {list(names)} side by "
            "side. Store them as one each, or pass X[:], which is in memory."
        )
    blocks = (
        [X] if len(widths) == 1 else [X[:, columns] for columns in _columns(widths)]
    )
    return LayerStack(blocks, names=names)
