"""Synthetic layered activations with planted communities."""

from __future__ import annotations

import numpy as np
import scipy.sparse as sp
from sklearn.utils import check_random_state

from skleiden._layers import LayerStack


def make_layered_activations(
    n_samples: int = 1000,
    n_layers: int = 4,
    n_neurons: int = 2048,
    *,
    n_communities: int = 10,
    nnz_per_row: int = 70,
    signal: float = 0.4,
    random_state: int | np.random.RandomState | None = None,
) -> tuple[LayerStack, np.ndarray]:
    """Make sparse activations of several layers with planted communities.

    In each layer every community prefers `nnz_per_row` neurons of its own choice. A
    sample activates `nnz_per_row` neurons a layer: a share `signal` of them is drawn
    from its community's preferred ones, the rest from a long-tailed popularity over
    all neurons (the numbers are spread like ``u ** 2``, u uniform), so that some
    neurons are active nearly everywhere, as in real networks. Values follow a unit
    exponential distribution.

    Parameters
    ----------
    n_samples : int, default=1000
        Number of rows.

    n_layers : int, default=4
        Number of layers.

    n_neurons : int, default=2048
        Columns of each layer.

    n_communities : int, default=10
        Number of planted communities, of equal size within one row.

    nnz_per_row : int, default=70
        Activations drawn for each row and layer; a neuron drawn twice adds up,
        so that the stored number is slightly smaller.

    signal : float, default=0.4
        Share of a row's activations that comes from its community, in [0, 1].

    random_state : int, RandomState instance or None, default=None
        Pass an int for the same data at every call.

    Returns
    -------
    stack : LayerStack
        `n_layers` CSR arrays of float32, each of shape (n_samples, n_neurons).

    labels : ndarray of shape (n_samples,), dtype int64
        The planted communities, 0 to ``n_communities - 1``, in random order.

    Raises
    ------
    ValueError
        If a size is not an integer of at least 1, `n_communities` exceeds `n_samples`,
        or `signal` is not a number in [0, 1].

    Examples
    --------
    >>> from skleiden.datasets import make_layered_activations
    >>> stack, labels = make_layered_activations(200, n_layers=2, random_state=0)
    >>> stack
    LayerStack(200 rows; layer_0: 2048, layer_1: 2048)
    >>> labels[:5]
    array([8, 0, 7, 8, 7])
    """
    sizes = {
        "n_samples": n_samples,
        "n_layers": n_layers,
        "n_neurons": n_neurons,
        "n_communities": n_communities,
        "nnz_per_row": nnz_per_row,
    }
    for name, size in sizes.items():
        if not isinstance(size, (int, np.integer)) or size < 1:
            raise ValueError(f"{name} must be an integer of at least 1; got {size!r}.")
    if n_communities > n_samples:
        raise ValueError(
            f"n_communities must be at most n_samples={n_samples}; got {n_communities}."
        )
    real = isinstance(signal, (int, float, np.integer, np.floating))
    if not real or not 0 <= signal <= 1:
        raise ValueError(f"signal must be a number in [0, 1]; got {signal!r}.")
    rng = check_random_state(random_state)
    labels = rng.permutation(n_samples) % n_communities
    layers = [
        _activate(labels, n_neurons, n_communities, nnz_per_row, signal, rng)
        for _ in range(n_layers)
    ]
    return LayerStack(layers), labels.astype(np.int64)


def _activate(
    labels: np.ndarray,
    n_neurons: int,
    n_communities: int,
    nnz_per_row: int,
    signal: float,
    rng: np.random.RandomState,
) -> sp.csr_array:
    preferred = rng.randint(0, n_neurons, size=(n_communities, nnz_per_row))
    shape = (labels.shape[0], nnz_per_row)
    popular = (n_neurons * rng.random_sample(shape) ** 2).astype(np.int32)
    choice = rng.randint(0, preferred.shape[1], size=shape)
    own = preferred[labels[:, None], choice]
    indices = np.where(rng.random_sample(shape) < signal, own, popular)
    values = rng.standard_exponential(shape).astype(np.float32)
    indptr = np.arange(0, indices.size + 1, nnz_per_row)
    layer = sp.csr_array(
        (values.ravel(), indices.astype(np.int32).ravel(), indptr),
        shape=(labels.shape[0], n_neurons),
    )
    layer.sum_duplicates()
    return layer
