"""Communities of a graph: Leiden, and the treatment of small ones."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from typing import Any, NamedTuple

import numpy as np
import scipy.sparse as sp
from sklearn.utils import check_random_state

from skleiden._blocks.runner import Runner
from skleiden._kernels import graph, knn, labels, leiden

from .resolution import Hit, Sought, find_resolution
from .search import NeighborSearch


class KNNGraph:
    """The graph of the distinct rows, and what the treatment of small ones needs.

    Attributes
    ----------
    affinity : CSR array
        Joins the distinct rows.

    copies : ndarray
        Which of them stand for several rows: they have an edge to themselves, of weight
        1, so that rows that many others are equal to are a community if little else is
        near. More would part them from those that are all but equal.

    union : UnionRows or None
        Joins the distinct rows; None where small communities are not attached.

    distinct : UniqueRows
        Maps the distinct rows to all rows; their ranks are the numbers of the vertices
        that Leiden gets, so that nothing depends on where rows stand.

    there : tuple of (Runner, handle) or None
        The affinity where Leiden is to run, if it is not this process. A pickle, for
        processes that may have no part in a cluster, leaves it out.
    """

    def __init__(
        self,
        affinity: sp.csr_array,
        copies: np.ndarray,
        union: Any,
        distinct: knn.UniqueRows,
        there: tuple[Runner, Any] | None = None,
    ) -> None:
        self.affinity, self.copies = affinity, copies
        self.union, self.distinct = union, distinct
        self.there = there
        self._network: leiden.Network | None = None

    def run(self, function: Callable[[leiden.Network], Any]) -> Any:
        """Give what a function makes of the graph as Leiden gets it.

        In this process that is made once, however many partitions are asked for.
        """
        if self.there is not None:
            runner, affinity = self.there
            task = runner.call(
                _run_there, function, affinity, self.distinct.ranks, self.copies
            )
            (found,) = runner.fetch([task], "Leiden")
            return found
        if self._network is None:
            self._network = leiden.network(
                self.affinity, self.distinct.ranks, self.copies
            )
        return function(self._network)

    def of_all_rows(self) -> sp.csr_array:
        """Give the graph that joins all rows, see `graph.spread_rows`."""
        distinct = self.distinct
        return graph.spread_rows(
            self.affinity, distinct.first, distinct.inverse, distinct.repeats()
        )

    def __reduce__(self) -> tuple[Any, ...]:
        distinct = self.distinct._replace(vectors=None)
        own = self.affinity, self.copies, self.union, distinct
        return KNNGraph, own


def _run_there(
    function: Callable[[leiden.Network], Any],
    affinity: sp.csr_array,
    ranks: np.ndarray,
    copies: np.ndarray,
) -> Any:
    return function(leiden.network(affinity, ranks, copies))


class Partition(NamedTuple):
    """What one run of Leiden found: see the attributes of `MutualKNNLeiden`.

    `sizes` are those of the communities before small ones were treated, of which
    `quality` and `modularity` tell. `remark` says why there are not as many as were
    asked for, "" if there are.
    """

    sizes: np.ndarray
    labels: np.ndarray
    attached: np.ndarray
    quality: float
    modularity: float
    resolution: float
    n_merged: int
    remark: str


class Partitioning(NamedTuple):
    """How communities are found; see the parameters of `MutualKNNLeiden`.

    `n_threads` are those of a backend that takes several; None for OpenMP's setting.
    """

    objective: str
    resolution: float
    n_iterations: int
    backend: str
    min_cluster_size: int
    small_clusters: str
    n_clusters: int | None = None
    n_threads: int | None = None

    @classmethod
    def of(cls, estimator: Any) -> Partitioning:
        """Take the parameters of an estimator; refuses those that make no sense."""
        given = cls(*(getattr(estimator, name) for name in cls._fields[:-1]))
        return given._replace(
            backend=given._choose_backend(),
            n_threads=NeighborSearch.of(estimator).threads(),
        )

    def _choose_backend(self) -> str:
        if self.objective in leiden.WITHOUT_RESOLUTION and self.n_clusters is not None:
            raise ValueError(
                f"objective={self.objective!r} has no resolution by which to find "
                f"n_clusters={self.n_clusters!r} communities. Leave n_clusters at "
                "None, or use objective='modularity'."
            )
        if self.objective in leiden.WITHOUT_RESOLUTION and self.resolution != 1.0:
            raise ValueError(
                f"objective={self.objective!r} has no resolution; got resolution="
                f"{self.resolution!r}. Leave it at 1.0, or use objective='modularity'."
            )
        if self.backend == "auto":
            known = self.objective in leiden.IGRAPH_OBJECTIVES
            return "igraph" if known else "leidenalg"
        has = leiden.OBJECTIVES[self.backend]
        if self.objective not in has:
            raise ValueError(
                f"backend={self.backend!r} does not have objective={self.objective!r}; "
                f"use backend='leidenalg', or one of {sorted(has)}."
            )
        leiden.require(self.backend)
        return self.backend

    def run(self, graph: KNNGraph, random_states: Iterable[Any]) -> Iterator[Partition]:
        """Give one partition of the graph for each random state."""
        counts = np.empty(graph.distinct.first.size, dtype=np.int64)
        counts[graph.distinct.ranks] = graph.distinct.counts()
        sought = None
        if self.n_clusters is not None:
            least = 1 if self.small_clusters == "keep" else self.min_cluster_size
            sought = Sought(int(self.n_clusters), int(least), counts)
        for state in random_states:
            find = partial(
                _found,
                sought=sought,
                resolution=self.resolution,
                n_threads=self.n_threads,
                objective=self.objective,
                n_iterations=self.n_iterations,
                backend=self.backend,
                seed=check_random_state(state).randint(2**31 - 1),
            )
            hit, modularity = graph.run(find)
            sizes = np.bincount(hit.membership, counts).astype(np.int64)
            yield Partition(
                sizes,
                *self._treat_small(hit.membership, counts, graph),
                hit.quality,
                modularity,
                hit.resolution,
                hit.n_merged,
                hit.remark,
            )

    def _treat_small(
        self, membership: np.ndarray, counts: np.ndarray, graph: KNNGraph
    ) -> tuple[np.ndarray, np.ndarray]:
        """Labels by size with small communities treated, and the rows attached.

        Of each vertex, its community and the number of rows that it stands for are
        given; the labels are those of all rows.
        """
        ranks, spread = graph.distinct.ranks, graph.distinct.spread
        found = labels.label_by_size(membership, counts)
        attached = np.zeros(found.size, dtype=bool)
        if self.small_clusters != "keep":
            kept = labels.drop_small(found, self.min_cluster_size, counts)
            found = kept
            if graph.union is not None and kept.max(initial=-1) >= 0:
                found = np.empty_like(kept)
                found[ranks] = labels.attach(kept[ranks], graph.union)
                attached = (kept < 0) & (found >= 0)
            found = labels.label_by_size(found, counts)
        return spread(found[ranks], -1), spread(attached[ranks], False)


def _found(
    network: leiden.Network,
    *,
    sought: Sought | None,
    resolution: float,
    n_threads: int | None,
    **how: Any,
) -> tuple[Hit, float]:
    """Give a partition of the vertices, with what is told of it, and its modularity."""
    if how["backend"] in leiden.THREADED:
        with knn.limit_threads(n_threads):
            how["n_threads"] = min(knn.n_threads(), os.cpu_count() or 1)

    def run(resolution: float) -> tuple[np.ndarray, float]:
        return leiden.leiden(network, resolution=resolution, **how)

    if sought is None:
        hit = Hit(*run(resolution), float(resolution))
    else:
        hit = find_resolution(network, run, sought, how["objective"])
    return hit, leiden.modularity(network, hit.membership)
