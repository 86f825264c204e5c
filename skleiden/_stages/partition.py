"""Communities of a graph: Leiden, and the treatment of small ones."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from functools import partial
from typing import Any, NamedTuple

import numpy as np
import scipy.sparse as sp
from sklearn.utils import check_random_state

from skleiden._blocks.runner import Runner
from skleiden._kernels import knn, labels, leiden


class KNNGraph:
    """The graph of all rows, and what the treatment of small communities needs.

    Attributes
    ----------
    affinity : CSR array
        Joins all rows.

    union : UnionRows or None
        Joins the distinct rows; None where small communities are not attached.

    distinct : UniqueRows
        Maps the distinct rows to all rows.

    there : tuple of (Runner, handle) or None
        The affinity where Leiden is to run, if it is not this process. A pickle, for
        processes that may have no part in a cluster, leaves it out.
    """

    def __init__(
        self,
        affinity: sp.csr_array,
        union: Any,
        distinct: knn.UniqueRows,
        there: tuple[Runner, Any] | None = None,
    ) -> None:
        self.affinity, self.union, self.distinct = affinity, union, distinct
        self.there = there
        self._network: leiden.Network | None = None

    def run(self, function: Callable[[leiden.Network], Any]) -> Any:
        """Give what a function makes of the graph as igraph has it.

        In this process it is handed over once, however many partitions are asked for.
        """
        if self.there is not None:
            runner, affinity = self.there
            (found,) = runner.fetch(
                [runner.call(_run_there, function, affinity)], "Leiden"
            )
            return found
        if self._network is None:
            self._network = leiden.network(self.affinity)
        return function(self._network)

    def __reduce__(self) -> tuple[Any, ...]:
        distinct = self.distinct._replace(vectors=None)
        return KNNGraph, (self.affinity, self.union, distinct)


def _run_there(
    function: Callable[[leiden.Network], Any], affinity: sp.csr_array
) -> Any:
    return function(leiden.network(affinity))


class Partition(NamedTuple):
    """What one run of Leiden found: see the attributes of `MutualKNNLeiden`.

    `membership` is the partition before small communities were treated, of which
    `quality` and `modularity` tell.
    """

    membership: np.ndarray
    labels: np.ndarray
    attached: np.ndarray
    quality: float
    modularity: float


class Partitioning(NamedTuple):
    """How communities are found; see the parameters of `MutualKNNLeiden`."""

    objective: str
    resolution: float
    n_iterations: int
    backend: str
    min_cluster_size: int
    small_clusters: str

    @classmethod
    def of(cls, estimator: Any) -> Partitioning:
        """Take the parameters of an estimator; refuses those that make no sense."""
        given = cls(*(getattr(estimator, name) for name in cls._fields))
        return given._replace(backend=given._choose_backend())

    def _choose_backend(self) -> str:
        if self.objective in leiden.WITHOUT_RESOLUTION and self.resolution != 1.0:
            raise ValueError(
                f"objective={self.objective!r} has no resolution; got resolution="
                f"{self.resolution!r}. Leave it at 1.0, or use objective='modularity'."
            )
        if self.backend == "auto":
            known = self.objective in leiden.IGRAPH_OBJECTIVES
            return "igraph" if known else "leidenalg"
        if self.backend == "igraph" and self.objective not in leiden.IGRAPH_OBJECTIVES:
            raise ValueError(
                f"backend='igraph' does not have objective={self.objective!r}; use "
                f"backend='leidenalg', or one of {sorted(leiden.IGRAPH_OBJECTIVES)}."
            )
        return self.backend

    def run(self, graph: KNNGraph, random_states: Iterable[Any]) -> Iterator[Partition]:
        """Give one partition of the graph for each random state."""
        for state in random_states:
            find = partial(
                leiden.leiden,
                objective=self.objective,
                resolution=self.resolution,
                n_iterations=self.n_iterations,
                backend=self.backend,
                seed=check_random_state(state).randint(2**31 - 1),
            )
            membership, quality = graph.run(find)
            # A row equal to an earlier one hangs on it by one edge, and stays with it
            # even where the resolution is high enough to cut that.
            membership = graph.distinct.spread(membership[graph.distinct.first], -1)
            # Zero rows have no edges, so that their number does not matter here.
            modularity = leiden.modularity(graph.affinity, np.maximum(membership, 0))
            treated, attached = self._treat_small(membership, graph)
            yield Partition(membership, treated, attached, quality, modularity)

    def _treat_small(
        self, membership: np.ndarray, graph: KNNGraph
    ) -> tuple[np.ndarray, np.ndarray]:
        """Labels by size with small communities treated, and the rows attached."""
        attached = np.zeros(membership.size, dtype=bool)
        by_size = labels.label_by_size(membership)
        if self.small_clusters == "keep":
            return by_size, attached
        kept = labels.drop_small(by_size, self.min_cluster_size)
        if graph.union is not None and kept.max() >= 0:
            placed = labels.attach(kept[graph.distinct.first], graph.union)
            placed = graph.distinct.spread(placed, -1)
            attached = (kept < 0) & (placed >= 0)
            kept = placed
        return labels.label_by_size(kept), attached
