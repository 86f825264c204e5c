"""Replicability: whether two halves of a layer's columns find the same communities.

A layer is judged by a sample of rows, the same for all layers. Its columns are divided
at random; each half is embedded, joined to a graph and partitioned by itself, at
several resolutions; and the net information between both halves' partitions, at the
resolution where it is highest, is the replicability of the layer (after Ben-Hur et al.,
2002, and Lange et al., 2004, who divide rows). What columns do together is lost where
each is permuted by itself: the same of such a layer is its null.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Sequence
from functools import partial
from itertools import pairwise
from typing import Any, NamedTuple

import numpy as np
import scipy.sparse as sp

from skleiden._blocks.layout import Layers, Layout
from skleiden._blocks.rows import one_below_other
from skleiden._blocks.runner import Local, Runner
from skleiden._blocks.sources import source_of
from skleiden._kernels import countsketch, partitions, shuffle

from .affinity import Joining, directed, join_graph
from .distinct import find_distinct
from .partition import Partitioning
from .search import NeighborSearch
from .sketch import Activity, Reading, Sketch, embed, run_task

# Rows of the sample, and how often the columns are divided, for the weights of layers:
# twice as many of either change no weight by much (benchmarks/README.md).
N_ROWS = 1000
N_SPLITS = 2
# Neighbours of each row of a sample, which is thinner than the data.
N_NEIGHBORS = 15
# Different rows that weights need: among fewer, each is a neighbour of all others.
_LEAST_ROWS = N_NEIGHBORS + 2
# Columns that each half is embedded to, so that the noise of the sketch is small, and
# wide layers are as quick as narrow ones.
_N_COLUMNS = 256
# A sample has few and broad communities.
RESOLUTIONS = (0.5, 1.0, 2.0)
# Rows that make a community, rather than noise.
_LEAST = 2

# Layers less replicable than the best by up to so many nats are alike: other samples
# and halves differ by as much. Others weigh less by the factor e for each 1 / _FALL
# nats more, down to a weight that still keeps rows that are active in them alone.
_ALIKE, _FALL, _LEAST_WEIGHT = 0.5, 4.0, 0.001


class Halving(NamedTuple):
    """How layers are divided and halves are compared; nothing else is random."""

    n_splits: int = N_SPLITS
    n_neighbors: int = N_NEIGHBORS
    seed: int = 0
    n_jobs: int | None = None


class LayerSample(NamedTuple):
    """Some rows of one layer, in this process, and what the sketch weighs them by.

    `start` is the number of its first column in X, from which its seeds are drawn, and
    `of_neurons` as of `Layers`.
    """

    name: str
    start: int
    matrix: Any
    activity: Activity
    weights: np.ndarray
    centres: np.ndarray
    of_neurons: int = 0


class Halves(NamedTuple):
    """Net information between both halves, of shape (n_splits, n_resolutions)."""

    information: np.ndarray

    @property
    def of_splits(self) -> np.ndarray:
        """Replicability by each division of the columns."""
        highest: np.ndarray = self.information.max(axis=1)
        return highest

    @property
    def best(self) -> int:
        """Number of the resolution at which halves agree most, on the mean."""
        return int(self.information.mean(axis=0).argmax())


def weights_of(replicability: np.ndarray) -> np.ndarray:
    """Give the weights of layers of these replicabilities, the best one's 1."""
    behind = replicability.max() - replicability - _ALIKE
    weights = np.exp(-_FALL * np.maximum(behind, 0))
    # Rounded, so that another processor's logarithms give the same.
    return np.maximum(np.round(weights, 3), _LEAST_WEIGHT)


def sampled_layers(
    layers: Layers,
    activity: Activity,
    weights: np.ndarray,
    centres: np.ndarray,
    rows: np.ndarray,
    runner: Runner,
) -> Iterator[LayerSample]:
    """Give the same rows of each layer, in their order, one layer after the other.

    `weights` and `centres` are those of all columns, as a `Sketch` has them. Warns if X
    has rows enough, but too few different ones were drawn.
    """
    # Where all rows are equal, no weights change anything.
    if 1 < rows.size < _LEAST_ROWS <= layers.n_samples:
        warnings.warn(
            f"Layers are judged by {rows.size} different rows, drawn from the "
            f"{layers.n_samples} of X; with fewer than {_LEAST_ROWS}, their "
            "replicability and the weights derived from it say little. Set "
            "layer_weights=None, which weighs all layers equally, or give weights.",
            UserWarning,
            stacklevel=6,
        )
    layout = layers.layout
    for number, matrix in enumerate(_take(layers, rows, runner)):
        columns = slice(*layout.starts[number : number + 2].tolist())
        own = slice(number, number + 1)
        yield LayerSample(
            layout.names[number],
            columns.start,
            matrix,
            activity._replace(
                weighting=activity.weighting[own],
                positive=activity.positive[own],
                centred=activity.centred[own],
            ),
            weights[columns],
            centres[columns],
            layers.of_neurons,
        )


def compare_halves(layer: LayerSample, halving: Halving) -> Halves:
    """Divide a layer's columns at random, and tell what halves say alike."""
    width = layer.weights.size
    information = np.zeros((halving.n_splits, len(RESOLUTIONS)))
    for split in range(halving.n_splits):
        rng = np.random.RandomState([halving.seed, layer.start, split])
        in_half = np.zeros(width, dtype=bool)
        in_half[rng.permutation(width)[: width // 2]] = True
        one, other = (
            partitions_of(layer, half, rng, halving) for half in (in_half, ~in_half)
        )
        information[split] = [
            _net_information(a, b) for a, b in zip(one, other, strict=True)
        ]
    return Halves(information)


def _net_information(a: np.ndarray, b: np.ndarray) -> float:
    """Net information; the least there can be where a half says nothing.

    Else one community would be better than two halves that say different things, and
    noise, at a low resolution, better than weak communities.
    """
    if min(a.max(initial=0), b.max(initial=0)) < 1:
        return -float(np.log(max(a.size, 1)))
    return partitions.net_information(a, b)


def partitions_of(
    layer: LayerSample,
    columns: np.ndarray,
    rng: np.random.RandomState,
    halving: Halving,
) -> list[np.ndarray]:
    """Find the communities that some columns of a layer make, at each resolution.

    Rows without a neighbour, or without activity, are in none, -1.
    """
    width = layer.weights.size
    buckets, signs = countsketch.draw_hashes(width, _N_COLUMNS, rng)
    sketch = Sketch(
        layer.activity,
        (_N_COLUMNS,),
        np.ones(1),
        np.where(columns, layer.weights, 0.0),
        np.where(columns, layer.centres, 0.0),
        buckets,
        signs,
    )
    layout = Layout((layer.name,), (width,), (range(1),))
    runner, reading = Local(), Reading(None, halving.n_jobs)
    vectors = embed(Layers(layout, [source_of(layer.matrix)]), sketch, reading, runner)
    return _communities(vectors, halving)


def _communities(vectors: np.ndarray, halving: Halving) -> list[np.ndarray]:
    """Partition the graph of some vectors at each resolution."""
    n, d = vectors.shape
    search = NeighborSearch(
        halving.n_neighbors, "exact", 1.0, 32, 200, 64, 0, halving.n_jobs, verbose=0
    )
    runner = Local()
    n_jobs = search.threads()
    distinct = find_distinct(runner, [(0, n, [vectors])], d, n_jobs)
    tables = search.run(distinct.vectors, n).tables
    lists = directed(runner, tables, distinct.first.size, n_jobs)
    joining = Joining(
        "mutual", "similarity", symmetric=True, attaching=False, n_jobs=n_jobs
    )
    graph = join_graph(runner, lists, distinct, joining)
    how = Partitioning("modularity", 1.0, 2, "igraph", _LEAST, "noise")
    return [
        next(how._replace(resolution=resolution).run(graph, [0])).labels
        for resolution in RESOLUTIONS
    ]


def permuted(layer: LayerSample, seed: int) -> LayerSample:
    """Permute each neuron of a layer by itself, whatever it is stored as."""
    rows = sp.csr_array(source_of(layer.matrix).whole())
    if not layer.of_neurons:
        return layer._replace(matrix=shuffle.shuffle_columns(layer.start, rows, seed))
    turned = shuffle.shuffle_columns(0, sp.csr_array(rows.T), seed)
    return layer._replace(matrix=sp.csr_array(turned.T))


def _take(layers: Layers, rows: np.ndarray, runner: Runner) -> Iterator[Any]:
    """Bring some rows of each layer here, in their order."""
    layout, blocks = layers.layout, layers.row_blocks()
    order = np.argsort(rows)
    ascending, back = rows[order], np.argsort(order)
    for i, span in enumerate(layout.spans):
        pick = runner.put(partial(_picked, layout._replace(spans=(span,)), ascending))
        picked = [
            runner.call(run_task, pick, start, [of[i]])
            for start, n, of in blocks
            if np.searchsorted(ascending, start) < np.searchsorted(ascending, start + n)
        ]
        some = source_of(one_below_other(runner.fetch(picked, "Sample"))).select(back)
        if len(span) == 1:
            yield some
            continue
        starts = layout.starts[span.start : span.stop + 1] - layout.starts[span.start]
        columns = [slice(a, b) for a, b in pairwise(starts.tolist())]
        yield from source_of(some).divided(columns)


def _picked(
    layout: Layout, rows: np.ndarray, start: int, matrices: Sequence[Any]
) -> Any:
    (part,) = layout.parts(matrices, start)
    own = slice(*np.searchsorted(rows, [start, start + part.source.shape[0]]))
    return part.source.select(rows[own] - start)
