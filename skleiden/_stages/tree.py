"""Divisions of a part of the graph, and whether they are found again.

Edges are drawn into two halves at random, and each half is partitioned by itself, as in
network cross-validation by edge sampling (Li, Levina and Zhu, 2020). Where rows are
tied by what their communities have in common, both halves find the same communities;
where edges are as good as random, what one half finds says nothing of the other.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from typing import Any, NamedTuple

import numpy as np
import scipy.sparse as sp

from skleiden._kernels import labels as labelling
from skleiden._kernels import leiden, partitions

from .resolution import Sought, find_resolution

# Resolutions are tried from the lowest on, each larger by this factor, after larger
# steps while nothing is divided.
_LOWEST, _HIGHEST, _STEP, _SKIP = 2.0**-8, 2.0**12, 2.0**0.5, 4.0
# A division is a level if it, or one that is equal to it to this degree, is the best
# while the resolution grows by this factor. Of others the widest are tried, so many.
_WIDE, _EQUAL, _MOST_NARROW = 2.0, 0.95, 3
# Expected shares that differ by less are the same.
_SAME = 1e-12
# Graphs of fewer vertices are halved more often, up to so many times.
_ENOUGH_VERTICES, _MOST_HALVINGS = 8000, 4


class VertexGraph(NamedTuple):
    """A graph of distinct rows, in an order that does not depend on where rows stand.

    `counts` are the rows that each vertex stands for, `loops` the weights of edges of
    vertices to themselves, and `communities` those that the estimator has put them in.
    """

    affinity: sp.csr_array
    loops: np.ndarray
    counts: np.ndarray
    communities: np.ndarray

    @property
    def n_vertices(self) -> int:
        """Number of distinct rows."""
        return self.counts.size

    def part(self, vertices: np.ndarray) -> VertexGraph:
        """Take some vertices, given in ascending order, and the edges among them."""
        affinity = sp.csr_array(self.affinity[vertices][:, vertices])
        affinity.sort_indices()
        return VertexGraph(affinity, *(of[vertices] for of in self[1:]))

    def network(self) -> leiden.Network:
        """Give the graph as Leiden gets it."""
        return leiden.network(self.affinity, None, self.loops)

    def halves(self, rng: np.random.RandomState) -> tuple[leiden.Network, ...]:
        """Draw the edges into two halves."""
        edges = sp.triu(self.affinity, k=1, format="coo")
        drawn = rng.random_sample(edges.nnz) < 0.5
        found = []
        for kept in (drawn, ~drawn):
            ends = edges.row[kept], edges.col[kept]
            above = sp.coo_array((edges.data[kept], ends), shape=edges.shape)
            whole = sp.csr_array(above + above.T)
            found.append(leiden.network(whole, None, self.loops))
        return tuple(found)


class Division(NamedTuple):
    """A division of the vertices of a graph.

    `labels` are numbered by size, -1 for vertices that nothing ties to a community.
    `replicability` is the mean adjusted mutual information of what halves find, 1 if
    they find the same and about 0 by chance.
    """

    labels: np.ndarray
    resolution: float
    replicability: float

    @property
    def n_parts(self) -> int:
        """Number of communities."""
        return int(self.labels.max(initial=-1)) + 1


def vertex_graph(estimator: Any) -> tuple[VertexGraph, np.ndarray]:
    """Give the graph of a fitted clusterer's rows that are in a community.

    Also gives the vertex of each row, -1 for the others.
    """
    distinct, labels = estimator._distinct, estimator.labels_
    order = np.argsort(distinct.ranks)
    order = order[labels[distinct.first[order]] >= 0]
    first = distinct.first[order]
    affinity = sp.csr_array(estimator.affinity_matrix_[first][:, first])
    affinity.sort_indices()
    counts = distinct.counts()[order]
    vertices = np.full(distinct.first.size, -1, dtype=np.int64)
    vertices[order] = np.arange(order.size)
    loops = (counts > 1).astype(np.float64)
    graph = VertexGraph(affinity, loops, counts, labels[first])
    return graph, distinct.spread(vertices, -1)


class _Level(NamedTuple):
    """A partition that is the best of all for resolutions from `low` to `high`.

    One that is equal to it, or nearly, is the best from `start` to `end`.
    """

    labels: np.ndarray
    low: float
    high: float
    start: float
    end: float

    @property
    def is_wide(self) -> bool:
        """Whether it stands out as a level."""
        return self.end >= _WIDE * self.start

    @property
    def middle(self) -> float:
        """Resolution in the middle of its own range, on a logarithmic scale."""
        return float(np.sqrt(max(self.low, self.high / 4) * self.high))


class _Line(NamedTuple):
    """A partition, and its modularity as a line over the resolution.

    `inside` is the share of the weight inside communities, `expected` that which
    degrees make expected: modularity is ``inside - resolution * expected``. It was
    found at `resolution`.
    """

    labels: np.ndarray
    inside: float
    expected: float
    resolution: float


class Divider:
    """Divides one graph, and tells whether the division is found again.

    Communities of fewer rows than `min_size` are none.
    """

    def __init__(
        self, graph: VertexGraph, min_size: int, rng: np.random.RandomState
    ) -> None:
        self.graph, self.min_size = graph, min_size
        self._seed, self._halving_seed = rng.randint(2**31 - 1, size=2).tolist()
        self._whole = graph.network()
        loops = 2 * graph.loops
        self.degrees = (
            np.asarray(graph.affinity.sum(axis=1, dtype=float)).ravel() + loops
        )

    def at(self, resolution: float) -> Division:
        """Divide at a resolution; into one part, or none, if there are no two."""
        return self._divided(self._line(resolution).labels, resolution)

    def into(self, n_parts: int) -> tuple[Division, str]:
        """Divide into so many parts, and say why if it is another number."""
        find = partial(_run, self._whole, seed=self._seed)
        sought = Sought(n_parts, self.min_size, self.graph.counts)
        hit = find_resolution(self._whole, find, sought, "modularity")
        labels = self._without_small(hit.membership)
        return self._divided(labels, hit.resolution), hit.remark

    def in_part(self, resolution: float, vertices: np.ndarray) -> float:
        """Give what, over the weight of a part, is there the same resolution.

        Modularity expects edges by degrees, and those to other parts are not in its
        graph: its own degrees are smaller.
        """
        outer = self.degrees[vertices].sum()
        return float(resolution * outer**2 / (self.degrees.sum() or 1.0))

    def levels(self, least: float) -> list[Division]:
        """Divide at all levels with a replicability of at least `least`, coarse first.

        A level is a division that is the best over a wide range of resolutions. Where
        none is found again, the widest of the narrower ones that is; if any.
        """
        if self.graph.counts.sum() < 2 * self.min_size:
            return []
        best = _best(self._sweep())
        wide = (level for level in best if level.is_wide)
        found = [self._divided(level.labels, level.middle) for level in wide]
        found = [level for level in found if level.replicability >= least]
        if found:
            return found
        narrow = [level for level in best if not level.is_wide]
        narrow.sort(key=lambda level: level.start / level.end)
        for level in narrow[:_MOST_NARROW]:
            one = self._divided(level.labels, level.middle)
            if one.replicability >= least:
                return [one]
        return []

    def _sweep(self) -> list[_Line]:
        """Partition at more and more resolutions, while most rows are in a part."""
        swept = [_Line(np.zeros(self.graph.n_vertices, dtype=np.int64), 1.0, 1.0, 0.0)]
        for resolution in self._resolutions():
            line = self._line(resolution)
            if 2 * np.count_nonzero(line.labels >= 0) < line.labels.size:
                break
            swept.append(line)
        return swept

    def _resolutions(self) -> Iterator[float]:
        """Give resolutions from the highest power at which nothing is divided on."""
        resolution = _LOWEST
        while resolution < 1 and self._line(resolution * _SKIP).labels.max() < 1:
            resolution *= _SKIP
        while resolution <= _HIGHEST:
            yield resolution
            resolution *= _STEP

    def _line(self, resolution: float) -> _Line:
        graph = self.graph
        membership = _partition(self._whole, resolution, self._seed)
        rows = np.repeat(np.arange(graph.n_vertices), np.diff(graph.affinity.indptr))
        within = membership[rows] == membership[graph.affinity.indices]
        weights = graph.affinity.data.astype(np.float64)
        total = self.degrees.sum() or 1.0
        of_communities = np.bincount(membership, self.degrees) / total
        return _Line(
            self._without_small(membership),
            float((weights[within].sum() + 2 * graph.loops.sum()) / total),
            float(of_communities @ of_communities),
            resolution,
        )

    def _divided(self, labels: np.ndarray, resolution: float) -> Division:
        rng = np.random.RandomState(self._halving_seed)
        n_halvings = -(-_ENOUGH_VERTICES // self.graph.n_vertices)
        agreement = []
        for _ in range(min(n_halvings, _MOST_HALVINGS)):
            one, other = (
                self._without_small(_partition(half, resolution, self._seed))
                for half in self.graph.halves(rng)
            )
            agreement.append(_agreement(one, other))
        attached = _attached(labels, self.graph)
        return Division(attached, resolution, float(np.mean(agreement)))

    def _without_small(self, membership: np.ndarray) -> np.ndarray:
        counts = self.graph.counts
        found = labelling.label_by_size(membership, counts)
        return labelling.drop_small(found, self.min_size, counts)


def _partition(network: leiden.Network, resolution: float, seed: int) -> np.ndarray:
    return _run(network, resolution, seed)[0]


def _run(
    network: leiden.Network, resolution: float, seed: int
) -> tuple[np.ndarray, float]:
    return leiden.leiden(
        network,
        objective="modularity",
        resolution=resolution,
        n_iterations=2,
        backend="igraph",
        seed=seed,
    )


def _best(swept: list[_Line]) -> list[_Level]:
    """Give divisions that are the best somewhere, coarse to fine; of equals, one.

    Their lines are those of the upper envelope, as in CHAMP (Weir et al., 2017). Of
    partitions in a row that are nearly equal the one with the widest range is left.
    """
    ranges = list(_envelope(swept))
    levels = [_extended(ranges, i) for i in range(len(ranges))]
    levels.sort(key=lambda level: level.low / level.high)
    kept: list[_Level] = []
    for level in levels:
        if all(level.high <= one.start or level.low >= one.end for one in kept):
            kept.append(level)
    divided = [level for level in kept if level.labels.max() > 0]
    return sorted(divided, key=lambda level: level.low)


def _envelope(swept: list[_Line]) -> Iterator[tuple[np.ndarray, float, float]]:
    """Give labels and the range of resolutions of each line that is the highest."""
    inside = np.array([line.inside for line in swept])
    expected = np.array([line.expected for line in swept])
    best, low = int(np.lexsort((expected, -inside))[0]), 0.0
    while True:
        finer = np.flatnonzero(expected < expected[best] - _SAME)
        if finer.size == 0:
            break
        meet = (inside[best] - inside[finer]) / (expected[best] - expected[finer])
        after = finer[np.lexsort((expected[finer], meet))[0]]
        high = max(float(meet.min()), low)
        if high > low:
            yield swept[best].labels, low, high
        best, low = int(after), high
    # The range of the last is open, but nothing is known beyond the last resolution.
    if low < swept[-1].resolution:
        yield swept[best].labels, low, swept[-1].resolution


def _extended(ranges: list[tuple[np.ndarray, float, float]], i: int) -> _Level:
    """Extend the range of a partition by those beside it that are nearly equal."""
    labels = ranges[i][0]
    first = last = i
    while first > 0 and _agreement(labels, ranges[first - 1][0]) >= _EQUAL:
        first -= 1
    while last + 1 < len(ranges) and _agreement(labels, ranges[last + 1][0]) >= _EQUAL:
        last += 1
    return _Level(*ranges[i], ranges[first][1], ranges[last][2])


def _agreement(a: np.ndarray, b: np.ndarray) -> float:
    """Agreement on the vertices that both place; 0 where one divides nothing."""
    both = (a >= 0) & (b >= 0)
    if 2 * np.count_nonzero(both) < a.size:
        return 0.0
    one, other = (partitions.number(labels[both]) for labels in (a, b))
    if min(one.max(), other.max()) < 1:
        return 0.0
    return max(partitions.adjusted_mutual_information(one, other), 0.0)


def _attached(found: np.ndarray, graph: VertexGraph) -> np.ndarray:
    """Give vertices in no part to the part that they are tied to most.

    Those that no edge ties to one follow most of their community, if most of it is in
    one part.
    """
    if found.max(initial=-1) < 0:
        return found
    tied = labelling.attach(found, graph.affinity)
    rest = np.flatnonzero(tied < 0)
    if rest.size:
        table = partitions.contingency(graph.communities, tied).toarray()
        most = 2 * table.max(axis=1) > table.sum(axis=1)
        part = np.where(most, table.argmax(axis=1), -1)
        tied[rest] = part[graph.communities[rest]]
    return labelling.label_by_size(tied, graph.counts)
