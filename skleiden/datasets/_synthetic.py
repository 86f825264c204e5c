"""Synthetic layered activations with planted communities."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import pairwise
from typing import Any, Literal, overload

import numpy as np
import scipy.sparse as sp
from sklearn.utils import check_random_state

from skleiden._layers import LayerStack

# Where drives are drawn: fewest groups that drive a community, and fewest communities
# that a group drives. With one, groups would merely be parts of a community's neurons.
_FEWEST = 2
# Changes of drives that are tried until no two groups or communities have the same.
_MOST_CHANGES = 2000


@overload
def make_layered_activations(
    n_samples: int = ...,
    n_layers: int = ...,
    n_neurons: int = ...,
    *,
    n_communities: int | Sequence[int] = ...,
    nnz_per_row: int = ...,
    signal: float = ...,
    random_state: int | np.random.RandomState | None = ...,
    n_neuron_groups: int | None = ...,
    drives: Any = ...,
    return_neuron_groups: Literal[False] = ...,
) -> tuple[LayerStack, np.ndarray]: ...


@overload
def make_layered_activations(
    n_samples: int = ...,
    n_layers: int = ...,
    n_neurons: int = ...,
    *,
    n_communities: int | Sequence[int] = ...,
    nnz_per_row: int = ...,
    signal: float = ...,
    random_state: int | np.random.RandomState | None = ...,
    n_neuron_groups: int | None = ...,
    drives: Any = ...,
    return_neuron_groups: Literal[True],
) -> tuple[LayerStack, np.ndarray, np.ndarray, np.ndarray]: ...


def make_layered_activations(
    n_samples: int = 1000,
    n_layers: int = 4,
    n_neurons: int = 2048,
    *,
    n_communities: int | Sequence[int] = 10,
    nnz_per_row: int = 70,
    signal: float = 0.4,
    random_state: int | np.random.RandomState | None = None,
    n_neuron_groups: int | None = None,
    drives: Any = None,
    return_neuron_groups: bool = False,
) -> (
    tuple[LayerStack, np.ndarray]
    | tuple[LayerStack, np.ndarray, np.ndarray, np.ndarray]
):
    """Make sparse activations of several layers with planted communities.

    In each layer, every community prefers `nnz_per_row` neurons of its own choice. A
    sample activates `nnz_per_row` neurons in each layer. A share `signal` of them is
    drawn from those that its community prefers. The rest is drawn from all neurons with
    a long-tailed popularity (neuron numbers are spread like ``u ** 2``, u uniform), so
    that some neurons are active nearly everywhere, as in real networks. Values follow a
    unit exponential distribution.

    With `n_neuron_groups` or `drives`, groups of neurons are planted, too. Each group
    drives some communities, and drives them all alike. The community that most groups
    drive gets an even part of `signal` from each of its groups, and in no other
    community does a group have a larger part. So fewer neurons are active where fewer
    groups drive, and in layers with fewer groups. A group is in more than half of the
    layers, in a row, with `nnz_per_row` neurons in each, or as many as there are for
    each group. No neuron is in two groups.

    Parameters
    ----------
    n_samples : int, default=1000
        Number of rows.

    n_layers : int, default=4
        Number of layers.

    n_neurons : int, default=2048
        Columns of each layer.

    n_communities : int or sequence of int, default=10
        Number of planted communities, whose sizes differ by at most one row. Several
        numbers, each larger than the last, plant communities within communities: with
        ``(6, 20, 60)``, each of the 6 holds three or four of the 20, and each of these
        three of the 60. The preferred neurons of a sample are then divided evenly among
        its communities of all levels, each of which prefers neurons of its own.

    nnz_per_row : int, default=70
        Activations drawn for each row and layer. The values of a neuron that is drawn
        twice are added, so that slightly fewer are stored.

    signal : float, default=0.4
        Share of a row's activations that comes from its community, in [0, 1].

    random_state : int, RandomState instance or None, default=None
        Pass an int for the same data at every call.

    n_neuron_groups : int or None, default=None
        Number of groups of neurons. The communities that they drive are drawn at
        random: every group drives about as many as any other, and every community is
        driven by equally many groups, at least two. No two groups drive the same
        communities, and no two communities are driven by the same groups. If None, only
        the groups of `drives`, if any, are planted.

    drives : array-like of bool of shape (n_neuron_groups, n_communities), default=None
        Which group drives which community; at least one for each group and each
        community. Drawn if None.

    return_neuron_groups : bool, default=False
        Whether to return the groups of neurons, and what they drive, too.

    Returns
    -------
    stack : LayerStack
        `n_layers` CSR arrays of float32, each of shape (n_samples, n_neurons).

    labels : ndarray of shape (n_samples,) or (n_samples, n_levels), dtype int64
        The planted communities, 0 to ``n_communities - 1``, in random order; with a
        column for each level if there are several.

    neuron_groups : ndarray of shape (n_layers * n_neurons,), dtype int64
        The group of each neuron, the layers side by side; -1 for a neuron in no group.
        Only if `return_neuron_groups` is true.

    drives : ndarray of shape (n_neuron_groups, n_communities), dtype bool
        Which group drives which community. Only if `return_neuron_groups` is true.

    Raises
    ------
    ValueError
        If a size is not an integer of at least 1, `n_communities` exceeds `n_samples`
        or is a sequence that does not grow, or `signal` is not a number in [0, 1]; if
        `drives` is not as stated, or so many groups cannot be planted; if groups are to
        be returned and there are none; if groups of neurons are asked for with several
        levels of communities.

    See Also
    --------
    skleiden.inspection.cross_table : Find which group drives which community.

    Examples
    --------
    >>> from skleiden.datasets import make_layered_activations
    >>> stack, labels = make_layered_activations(200, n_layers=2, random_state=0)
    >>> stack
    LayerStack(200 rows; layer_0: 2048, layer_1: 2048)
    >>> labels[:5]
    array([8, 0, 7, 8, 7])

    With communities within communities:

    >>> stack, labels = make_layered_activations(200, n_communities=(2, 6))
    >>> labels.shape
    (200, 2)

    With groups of neurons:

    >>> import numpy as np
    >>> stack, labels, neuron_groups, drives = make_layered_activations(
    ...     200, n_neuron_groups=5, return_neuron_groups=True, random_state=0
    ... )
    >>> np.bincount(neuron_groups[neuron_groups >= 0])
    array([210, 210, 210, 210, 210])
    >>> drives.sum(axis=1)
    array([4, 4, 4, 4, 4])
    """
    sizes = {
        "n_samples": n_samples,
        "n_layers": n_layers,
        "n_neurons": n_neurons,
        "nnz_per_row": nnz_per_row,
    }
    if not isinstance(n_communities, Iterable):
        sizes["n_communities"] = n_communities
    if n_neuron_groups is not None:
        sizes["n_neuron_groups"] = n_neuron_groups
    for name, size in sizes.items():
        if not isinstance(size, (int, np.integer)) or size < 1:
            raise ValueError(f"{name} must be an integer of at least 1; got {size!r}.")
    levels = _checked_levels(n_communities)
    n_leaves = levels[-1]
    if n_leaves > n_samples:
        raise ValueError(
            f"n_communities must be at most n_samples={n_samples}; got {n_leaves}."
        )
    real = isinstance(signal, (int, float, np.integer, np.floating))
    if not real or not 0 <= signal <= 1:
        raise ValueError(f"signal must be a number in [0, 1]; got {signal!r}.")
    planted = _checked_drives(n_neuron_groups, drives, n_leaves, n_neurons)
    if return_neuron_groups and planted is None and n_neuron_groups is None:
        raise ValueError(
            "return_neuron_groups=True needs groups of neurons; got none, with "
            "n_neuron_groups=None and drives=None. Give one of these."
        )
    if len(levels) > 1 and (n_neuron_groups is not None or planted is not None):
        raise ValueError(
            "Communities within communities are not driven by groups of neurons; got "
            f"n_communities={levels} with n_neuron_groups or drives. Leave these out, "
            "or give one number of communities."
        )
    rng = check_random_state(random_state)
    labels = rng.permutation(n_samples) % n_leaves
    if planted is None and n_neuron_groups is not None:
        planted = _draw_drives(n_neuron_groups, n_leaves, rng)
    preferred: Iterable[Sequence[np.ndarray]]
    if planted is None:
        of_each = max(nnz_per_row // len(levels), 1)
        most = of_each * len(levels)
        preferred = (_prefer(levels, n_neurons, of_each, rng) for _ in range(n_layers))
    else:
        size = min(nnz_per_row, n_neurons // planted.shape[0])
        most = size * int(planted.sum(axis=0).max())
        groups = _draw_groups(planted.shape[0], size, n_layers, n_neurons, rng)
        preferred = (_driven(of_layer, planted) for of_layer in groups)
    layers = [
        _activate(labels, n_neurons, neurons, most, nnz_per_row, signal, rng)
        for neurons in preferred
    ]
    labels = labels.astype(np.int64)
    if isinstance(n_communities, Iterable):
        labels = _ancestors(levels)[labels]
    found = LayerStack(layers), labels
    if not return_neuron_groups or planted is None:
        return found
    return *found, groups.ravel(), planted


def _checked_levels(n_communities: int | Sequence[int]) -> list[int]:
    """Give the numbers of communities of all levels, coarse to fine."""
    if not isinstance(n_communities, Iterable):
        return [n_communities]
    levels = [*n_communities]
    whole = all(isinstance(n, (int, np.integer)) and n >= 1 for n in levels)
    if not levels or not whole or any(a >= b for a, b in pairwise(levels)):
        raise ValueError(
            "n_communities must be an integer of at least 1, or several, each larger "
            f"than the last, for communities within communities; got {n_communities!r}."
        )
    return levels


def _ancestors(levels: Sequence[int]) -> np.ndarray:
    """Give, for each community of the last level, those of all levels that hold it."""
    of_levels = [np.arange(levels[-1])]
    for coarse, fine in reversed([*pairwise(levels)]):
        of_levels.insert(0, of_levels[0] * coarse // fine)
    return np.stack(of_levels, axis=1)


def _prefer(
    levels: Sequence[int], n_neurons: int, of_each: int, rng: np.random.RandomState
) -> Sequence[np.ndarray]:
    """Draw the neurons that each community, and each that holds it, prefers."""
    drawn: Any = np.concatenate(
        [
            rng.randint(0, n_neurons, size=(n, of_each))[of_level]
            for n, of_level in zip(levels, _ancestors(levels).T, strict=True)
        ],
        axis=1,
    )
    return [*drawn]


def _checked_drives(
    n_groups: int | None, drives: Any, n_communities: int, n_neurons: int
) -> np.ndarray | None:
    """Give the drives that are stated, if any, and refuse what cannot be planted."""
    if drives is not None:
        drives = np.array(drives)
        wanted = f"({'n_groups' if n_groups is None else n_groups}, {n_communities})"
        fits = drives.ndim == 2 and drives.shape[1] == n_communities
        if drives.dtype.kind != "b" or not fits or n_groups not in (None, len(drives)):
            raise ValueError(
                "drives must be a bool for each group of neurons and community, of "
                f"shape {wanted}; got shape {drives.shape} and dtype {drives.dtype}."
            )
        if drives.size == 0 or not (drives.any(0).all() and drives.any(1).all()):
            raise ValueError(
                "drives must have each group drive a community, and each community "
                f"driven by a group; got groups {_none_in(drives.T)} without a "
                f"community and communities {_none_in(drives)} without a group. Leave "
                "these out."
            )
        n_groups = drives.shape[0]
    if n_groups is None:
        return None
    if n_groups > n_neurons:
        raise ValueError(
            f"A layer must have a neuron for each group; got n_neurons={n_neurons} for "
            f"{n_groups} groups of neurons. Give more neurons or fewer groups."
        )
    return drives


def _none_in(columns: np.ndarray) -> list[int]:
    """Give the numbers of the columns in which nothing is true."""
    numbers: list[int] = np.flatnonzero(~columns.any(axis=0)).tolist()
    return numbers


def _draw_drives(
    n_groups: int, n_communities: int, rng: np.random.RandomState
) -> np.ndarray:
    """Draw which group drives which community, evenly, and no two groups the same."""
    least = max(_FEWEST, -(-_FEWEST * n_groups // n_communities))
    for n_driving in range(least, n_groups + 1):
        drives = np.zeros((n_groups, n_communities), dtype=bool)
        for community in range(n_communities):
            order = np.lexsort((rng.random_sample(n_groups), drives.sum(axis=1)))
            drives[order[:n_driving], community] = True
        for _ in range(_MOST_CHANGES):
            if _all_differ(drives) and _all_differ(drives.T):
                return drives
            # Two communities exchange a group: the numbers of drives stay (Ryser 1957).
            some, other = rng.randint(0, n_communities, size=2)
            given = np.flatnonzero(drives[:, some] & ~drives[:, other])
            taken = np.flatnonzero(drives[:, other] & ~drives[:, some])
            if min(given.size, taken.size) > 0:
                both = rng.choice(given), rng.choice(taken)
                drives[np.ix_(both, (some, other))] ^= True
    raise ValueError(
        f"n_neuron_groups={n_groups} groups cannot each drive other communities than "
        f"the others, nor n_communities={n_communities} communities be driven by other "
        f"groups each, at least {_FEWEST}, or no such drives were found. Give more of "
        "those that are fewer, or drives."
    )


def _all_differ(rows: np.ndarray) -> bool:
    return len({row.tobytes() for row in rows}) == len(rows)


def _draw_groups(
    n_groups: int,
    size: int,
    n_layers: int,
    n_neurons: int,
    rng: np.random.RandomState,
) -> np.ndarray:
    """Draw the group of each neuron, of shape (n_layers, n_neurons); -1 is none."""
    n_spanned = n_layers // 2 + 1
    first = rng.randint(0, n_layers - n_spanned + 1, size=n_groups)
    groups = np.full((n_layers, n_neurons), -1, dtype=np.int64)
    for layer, of_layer in enumerate(groups):
        members = rng.permutation(n_neurons)[: n_groups * size]
        here = (first <= layer) & (layer < first + n_spanned)
        of_layer[members] = np.repeat(np.where(here, np.arange(n_groups), -1), size)
    return groups


def _driven(groups: np.ndarray, drives: np.ndarray) -> list[np.ndarray]:
    """Give the neurons of one layer that drive each community."""
    neurons = np.flatnonzero(groups >= 0)
    return [neurons[of[groups[neurons]]] for of in drives.T]


def _activate(
    labels: np.ndarray,
    n_neurons: int,
    preferred: Sequence[np.ndarray],
    most: int,
    nnz_per_row: int,
    signal: float,
    rng: np.random.RandomState,
) -> sp.csr_array:
    """Draw one layer; where a community prefers fewer than `most`, fewer are active."""
    counts = np.array([neurons.size for neurons in preferred])
    shape = (labels.shape[0], nnz_per_row)
    popular = (n_neurons * rng.random_sample(shape) ** 2).astype(np.int32)
    alike = counts.min() == counts.max() > 0
    choice = rng.randint(0, counts[0] if alike else 2**30, size=shape)
    if not alike:
        choice %= np.maximum(counts, 1)[labels, None]
    choice += (np.cumsum(counts) - counts)[labels, None]
    own = np.append(np.concatenate(preferred), 0)[choice]
    share = (signal * (counts / most))[labels, None]
    drawn = rng.random_sample(shape)
    indices = np.where(drawn < share, own, popular)
    values = rng.standard_exponential(shape).astype(np.float32)
    values[(drawn >= share) & (drawn < signal)] = 0
    indptr = np.arange(0, indices.size + 1, nnz_per_row)
    layer = sp.csr_array(
        (values.ravel(), indices.astype(np.int32).ravel(), indptr),
        shape=(labels.shape[0], n_neurons),
    )
    layer.sum_duplicates()
    layer.eliminate_zeros()
    return layer
