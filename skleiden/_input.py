"""X in any accepted form, validated: what is kept as it is, and what is converted."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import Any

import numpy as np

from ._blocks.checks import check_shape, is_mapping
from ._blocks.frames import feature_names, header
from ._blocks.layout import Layers, Layout, Stated, layer_layout
from ._blocks.mapped import check_size
from ._blocks.sources import check_here, check_only, open_matrix, source_of
from ._layers import LayerStack


def with_rows(X: Any) -> Any:
    """Give X as something with rows: layers that come as a mapping, stacked."""
    return LayerStack(X) if is_mapping(X) else X


def open_layers(X: Any, stated: Stated, validate: Callable[..., Any]) -> Layers:
    """Validate layered input, and find its layers, without a copy if that can be.

    `stated` is the layout of a single matrix, `validate` is as for `open_matrix`.
    """
    X = with_rows(X)
    of_neurons, prompts = 0, None
    if isinstance(X, LayerStack):
        check_shape(X.shape, type(X).__name__)
        validate(_with_columns(X), skip_check_array=True)
        names, widths = X.names, X.widths
        sources = [source_of(matrix) for matrix in X.layers]
        if X.row_layers is not None:
            of_neurons, prompts = np.unique(X.row_layers).size, X.prompts
        for matrix in (m for source in sources for m in source.underlying()):
            check_size(matrix, "X")
    else:
        check_size(X, "X")
        X = open_matrix(X, validate, accept_sparse="csr")
        names, widths = layer_layout(stated, X.shape[1])
        sources = [source_of(X)]
        if sources[0].cuts_columns:
            sources = [source_of(X) for X in sources[0].divided(_columns(widths))]
    spans = [range(i, i + 1) for i in range(len(widths))]
    if len(sources) < len(spans):
        # What costs a copy to cut, or another reading, is read whole.
        spans = [range(len(widths))]
    return Layers(Layout(names, widths, tuple(spans)), sources, of_neurons, prompts)


def as_layer_stack(X: Any, layers: Stated = None) -> LayerStack:
    """Any accepted form of layered input, of this process, as a `LayerStack`.

    A single dense matrix is split into views, a sparse one into copies of its columns.
    """
    X = with_rows(X)
    if isinstance(X, LayerStack):
        check_here(X.layers[0])
        Layout(X.names, X.widths, ()).check(layers)
        return X
    check_here(X)
    X = open_matrix(X, check_only, accept_sparse="csr")
    names, widths = layer_layout(layers, X.shape[1])
    blocks = [X] if len(widths) == 1 else source_of(X).divided(_columns(widths))
    return LayerStack(blocks, names=names)


def _with_columns(X: LayerStack) -> Any:
    """Give what scikit-learn takes a stack's names of columns from, if it has any."""
    if all(names is None for names in X.columns):
        return X
    return header(feature_names(X.names, X.widths, X.columns))


def _columns(widths: Sequence[int]) -> list[slice]:
    return [slice(a, b) for a, b in pairwise(np.cumsum([0, *widths]).tolist())]
