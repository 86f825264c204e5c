"""Data without structure, to see what stability comes from chance."""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np
from sklearn.utils import check_random_state

from skleiden._blocks.sources import check_only, open_matrix, source_of
from skleiden._blocks.transposed import transposed
from skleiden._input import with_rows
from skleiden._kernels import shuffle
from skleiden._layers import LayerStack


def permute_columns(
    X: Any, *, random_state: int | np.random.RandomState | None = None
) -> Any:
    """Shuffle the values of each column over the rows, each column by itself.

    Every neuron keeps its values and its number of active rows. Only what neurons do
    together is lost, and every community with it. So what a method still finds, it
    finds by chance. In a stack from `LayerStack.neurons`, whose rows are the neurons,
    each row is shuffled over the columns.

    Parameters
    ----------
    X : LayerStack, mapping of {name: matrix}, or {array-like, sparse matrix} of shape \
            (n_samples, n_features)
        Samples as rows.

    random_state : int, RandomState instance or None, default=None
        Pass an int for the same shuffling at every call.

    Returns
    -------
    X_permuted : LayerStack, ndarray or CSR array of the same shape and dtype
        A copy, in memory. Dask arrays give lazy ones, for which the workers bring all
        rows of some columns together. Sparse and dense storage of the same numbers are
        shuffled differently. A LayerStack keeps names and ids, though a row is no
        longer the sample of its id.

    Examples
    --------
    >>> import numpy as np
    >>> from skleiden.model_selection import permute_columns
    >>> permute_columns(np.array([[1, 5], [2, 6], [3, 7]]), random_state=1)
    array([[2, 5],
           [3, 7],
           [1, 6]])
    """
    seed = int(check_random_state(random_state).randint(2**31 - 1))
    X = with_rows(X)
    if isinstance(X, LayerStack) and X.row_layers is not None:
        turned = _shuffled(transposed(X.layers), seed, 0)
        return X._with_layers([transposed([turned])])
    if isinstance(X, LayerStack):
        starts = np.cumsum([0, *X.widths]).tolist()
        layers = [_shuffled(X.layers[i], seed, starts[i]) for i in range(len(X.layers))]
        return X._with_layers(layers)
    return _shuffled(open_matrix(X, check_only, accept_sparse="csr"), seed, 0)


def _shuffled(matrix: Any, seed: int, start: int) -> Any:
    return source_of(matrix).map_columns(partial(_shuffled_from, start, seed))


def _shuffled_from(start: int, seed: int, first: int, block: Any) -> Any:
    return shuffle.shuffle_columns(start + first, block, seed)
