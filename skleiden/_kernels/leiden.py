"""Leiden of a CSR graph: its backends are imported here alone."""

from __future__ import annotations

import os
import random
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from itertools import chain
from typing import Any

import numpy as np
import scipy.sparse as sp
from scipy.sparse.csgraph import breadth_first_order, connected_components

# Objectives that igraph's C core optimises; leidenalg has them and the rest.
IGRAPH_OBJECTIVES = {"modularity": "modularity", "cpm": "CPM"}
LEIDENALG_PARTITIONS = {
    "modularity": "RBConfigurationVertexPartition",
    "cpm": "CPMVertexPartition",
    "rber": "RBERVertexPartition",
    "surprise": "SurpriseVertexPartition",
    "significance": "SignificanceVertexPartition",
}
# The objectives of each backend, and the backends that run on several threads.
OBJECTIVES = {
    "igraph": tuple(IGRAPH_OBJECTIVES),
    "leidenalg": tuple(LEIDENALG_PARTITIONS),
    "libreville": ("modularity",),
}
THREADED = frozenset({"libreville"})
# What takes no resolution, and what takes no weights.
WITHOUT_RESOLUTION = frozenset({"surprise", "significance"})
WITHOUT_WEIGHTS = frozenset({"significance"})

# With n_iterations=-1: iterate until an iteration gains less than this share of the
# quality, at most this often. (igraph's own loop can run on at gains of rounding size.)
_TOLERANCE = 1e-9
_MAX_ITERATIONS = 100

_ROWS_AT_ONCE = 2**14
# Few enough for Python to take the memory of their edges' numbers from the last ones'.
_ROWS_JOINED = 2**8
# Of graphs of more vertices these are put in an order for igraph.
_VERTICES_AT_HAND = 2**15

# How often a handler is put back that others interrupt.
_TRIES = 100
_SIGNALS = signal.valid_signals()

# The most that libreville takes, in bytes: for each entry of the matrix, each vertex,
# each vertex in each thread, and each thread (its stack, and the addresses that Linux's
# malloc reserves for it).
_BYTES_OF_ENTRY = 64
_BYTES_OF_VERTEX = 256
_BYTES_OF_VERTEX_IN_THREAD = 17
_BYTES_OF_THREAD = (72 if sys.platform == "linux" else 8) * 2**20

_GENERATOR_LOCK = threading.RLock()


def _after_fork() -> None:
    # The thread that held the lock in the parent, if one did, is not in the child.
    global _GENERATOR_LOCK
    _GENERATOR_LOCK = threading.RLock()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)


class Network:
    """A graph as Leiden gets it, made once for any number of runs.

    Attributes
    ----------
    graph : CSR array
        Without the edges of vertices to themselves.

    loops : ndarray of float64
        The weights of those; 0 for a vertex without one.

    place : ndarray
        The number of each row among the vertices of the backends. Those of a large
        graph are numbered along it, so that Leiden finds close together in memory what
        is joined: for a million it takes two thirds of the time.

    vertices : igraph.Graph or None
        The same for igraph, loops last, made when it is first asked for; None for a
        graph without edges.

    weights : memoryview
        Weights of the edges of `vertices`.

    matrix : CSR array of float64
        The same for libreville, made when it is first asked for. Its rows sum to
        degrees: an edge of a vertex to itself has both its ends there, and counts
        twice.
    """

    def __init__(self, graph: sp.csr_array, loops: np.ndarray) -> None:
        self.graph, self.loops = graph, loops
        # Not cached_property: before Python 3.12 it holds a lock meanwhile, for which
        # a process forked then would wait for ever.
        self._made: dict[str, Any] = {}

    def _once(self, make: Callable[[], Any]) -> Any:
        name = make.__name__
        if name not in self._made:
            self._made[name] = make()
        return self._made[name]

    @property
    def has_edges(self) -> bool:
        """Whether there is any edge, loops included."""
        return self.graph.nnz > 0 or bool(self.loops.any())

    @property
    def order(self) -> np.ndarray:
        """The row that each vertex is."""
        return self._once(self._arrange)[0]

    @property
    def place(self) -> np.ndarray:
        """The vertex that each row is."""
        return self._once(self._arrange)[1]

    @property
    def vertices(self) -> Any:
        """The graph as igraph has it."""
        return self._once(self._for_igraph)[0]

    @property
    def weights(self) -> memoryview:
        """Weights of igraph's edges."""
        return self._once(self._for_igraph)[1]

    @property
    def matrix(self) -> sp.csr_array:
        """The graph as libreville has it."""
        return self._once(self._for_libreville)

    def _arrange(self) -> tuple[np.ndarray, np.ndarray]:
        n = self.loops.size
        order = _along(self.graph) if n > _VERTICES_AT_HAND else np.arange(n)
        place = np.empty(n, dtype=np.int64)
        place[order] = np.arange(n)
        return order, place

    def _for_igraph(self) -> tuple[Any, memoryview]:
        looped = np.flatnonzero(self.loops)
        values: Any = np.empty(self.graph.nnz // 2 + looped.size)
        # A memory view hands out one float at a time, where a list would hold them all.
        weights = memoryview(values)
        if values.size == 0:
            return None, weights
        import igraph  # noqa: TID251

        # Pairs of Python's integers are what igraph reads fastest (of an array it makes
        # a list of lists first); made in blocks, they never exist all at once.
        edges = chain.from_iterable(self._edges(looped, values))
        # Vertices are counted beforehand: isolated ones must not vanish.
        try:
            return igraph.Graph(n=self.loops.size, edges=edges), weights
        except SystemError as error:
            # igraph's way to hand on what is raised where edges come from: too little
            # memory, or an interruption.
            raise (error.__cause__ or error) from None

    def _edges(
        self, looped: np.ndarray, weights: np.ndarray
    ) -> Iterator[Iterator[tuple[int, int]]]:
        """Give pairs of vertices, many at once, and write down their weights."""
        order, place, filled = self.order, self.place, 0
        for start in range(0, order.size, _ROWS_JOINED):
            rows = order[start : start + _ROWS_JOINED]
            part = self.graph[rows]
            here = np.repeat(np.arange(start, start + rows.size), np.diff(part.indptr))
            there = place.take(part.indices)
            (upper,) = (there > here).nonzero()
            weights[filled : filled + upper.size] = part.data.take(upper)
            filled += upper.size
            ends = here.take(upper).tolist(), there.take(upper).tolist()
            yield zip(*ends, strict=True)
        weights[filled : filled + looped.size] = self.loops[looped]
        ends = (place[looped].tolist(),) * 2
        yield zip(*ends, strict=True)

    def _for_libreville(self) -> sp.csr_array:
        matrix = sp.csr_array(
            (self.graph.data.astype(np.float64), self.graph.indices, self.graph.indptr),
            shape=self.graph.shape,
        )
        if self.loops.any():
            looped = np.flatnonzero(self.loops)
            twice = 2 * self.loops[looped], (looped, looped)
            matrix += sp.csr_array(twice, shape=matrix.shape)
        if self.loops.size > _VERTICES_AT_HAND:
            return _numbered(matrix, self.order, self.place)
        return matrix


def _along(graph: sp.csr_array) -> np.ndarray:
    """Give an order of the rows in which those that are joined stand close together.

    It takes one connected component after the other, and each of them breadth first.
    """
    n = graph.shape[0]
    # Of a symmetric graph these are the components; undirected ones SciPy finds by a
    # transpose, in several times the time.
    _, component = connected_components(graph, connection="strong")
    _, first = np.unique(component, return_index=True)
    # A further row, joined to one of each: the search starts there.
    ends = np.append(graph.indptr, graph.nnz + first.size)
    indices = np.append(graph.indices, first.astype(graph.indices.dtype))
    rooted = sp.csr_array((np.ones(indices.size), indices, ends), shape=(n + 1, n + 1))
    order = breadth_first_order(rooted, n, return_predecessors=False)[1:]
    return order[np.argsort(component[order], kind="stable")]


def network(
    graph: sp.csr_array,
    ranks: np.ndarray | None = None,
    loops: np.ndarray | None = None,
) -> Network:
    """Make a network of a symmetric graph with positive weights and zero diagonal.

    `ranks` are the numbers that its rows get as vertices, their own if None: results of
    Leiden depend on them. `loops` are the weights of each row's edge to itself, 0 for
    none; None if no row has one.
    """
    loops = np.zeros(graph.shape[0]) if loops is None else loops.astype(np.float64)
    if ranks is not None:
        order = np.argsort(ranks)
        graph, loops = _numbered(graph, order, ranks), loops[order]
    return Network(graph, loops)


def _numbered(
    graph: sp.csr_array, order: np.ndarray, place: np.ndarray
) -> sp.csr_array:
    """Put the rows of a symmetric graph in an order, whose inverse is `place`."""
    graph = graph[order]
    graph.indices = place.take(graph.indices).astype(graph.indices.dtype)
    graph.has_sorted_indices = False
    graph.sort_indices()
    return graph


def require(backend: str) -> None:
    """Refuse a backend that is not installed."""
    if backend == "libreville" and find_spec("cluster_libreville") is None:
        raise ImportError(
            "backend='libreville' needs sc-cluster-libreville: pip install "
            "\"skleiden[libreville]\". Or use backend='igraph'."
        )


def leiden(
    network: Network,
    *,
    objective: str,
    resolution: float,
    n_iterations: int,
    backend: str,
    seed: int,
    n_threads: int = 1,
) -> tuple[np.ndarray, float]:
    """Partition a graph by the Leiden algorithm (Traag, Waltman, van Eck, 2019).

    Parameters
    ----------
    network : Network

    objective : str
        One of those that `OBJECTIVES` has for the backend.

    resolution : float

    n_iterations : int
        Iterations, each of which starts from the last one's partition; -1 iterates
        until nothing is gained.

    backend : {"igraph", "leidenalg", "libreville"}

    seed : int
        In [0, 2**31).

    n_threads : int
        Threads of libreville, on which its result does not depend. The others have one.

    Returns
    -------
    membership : ndarray of int64 of shape (n,)

    quality : float
        Value of the objective: for "modularity" and "cpm" divided by twice the total
        weight, for the rest as leidenalg states it.
    """
    if not network.has_edges:
        # Every vertex is its own community (and some qualities are 0 / 0).
        return np.arange(network.loops.size), 0.0
    quality = 0.0
    if backend == "igraph":
        membership = _run_igraph(network, objective, resolution, n_iterations, seed)
    elif backend == "libreville":
        membership = _run_libreville(network, resolution, n_iterations, seed, n_threads)
    else:
        membership, quality = _run_leidenalg(
            network, objective, resolution, n_iterations, seed
        )
    if objective == "modularity":
        quality = modularity(network, membership, resolution)
    elif objective == "cpm":
        quality = constant_potts(network, membership, resolution)
    return membership, quality


def modularity(
    network: Network, membership: np.ndarray, resolution: float = 1.0
) -> float:
    """Modularity of a partition with a resolution (Reichardt and Bornholdt, 2006).

    ``sum over communities of [inner / 2m - resolution * (degrees / 2m) ** 2]``, with
    `inner` the weight inside, counted from both ends, `degrees` the sum of weighted
    degrees, and `m` the total weight. 0 for a graph without edges.
    """
    strength, inner = _strength_and_inner(network, membership)
    total = strength.sum()
    if total == 0:
        return 0.0
    degrees = np.bincount(membership, strength) / total
    return float(inner / total - resolution * degrees @ degrees)


def constant_potts(
    network: Network, membership: np.ndarray, resolution: float
) -> float:
    """Constant Potts quality over twice the total weight (Traag et al., 2011)."""
    strength, inner = _strength_and_inner(network, membership)
    sizes = np.bincount(membership).astype(np.float64)
    return float((inner - resolution * sizes @ sizes) / strength.sum())


def _strength_and_inner(
    network: Network, membership: np.ndarray
) -> tuple[np.ndarray, float]:
    """Degree of each vertex, and sum of those inside communities.

    An edge to itself has both its ends at the vertex.
    """
    graph, n = network.graph, network.loops.size
    strength, inner = np.empty(n), float(2 * network.loops.sum())
    for start in range(0, n, _ROWS_AT_ONCE):
        rows = slice(start, min(start + _ROWS_AT_ONCE, n))
        part = graph[rows]
        strength[rows] = np.asarray(part.sum(axis=1, dtype=np.float64)).ravel()
        ends = np.repeat(membership[rows], np.diff(part.indptr))
        inside = ends == membership.take(part.indices)
        inner += part.data[inside].sum(dtype=np.float64)
    return strength + 2 * network.loops, inner


@contextmanager
def _seeded_generator(seed: int) -> Iterator[None]:
    """Give igraph, whose generator belongs to the process, one of our own for a while.

    igraph cannot tell which generator it has; its default, Python's `random`, is put
    back.
    """
    import igraph  # noqa: TID251

    with _GENERATOR_LOCK:
        igraph.set_random_number_generator(random.Random(seed))  # noqa: S311
        try:
            yield
        finally:
            igraph.set_random_number_generator(random)


@contextmanager
def _signals_put_off() -> Iterator[None]:
    """Keep the handlers of signals from running until the end.

    igraph runs them while it works, and frees memory that is not its own if one raises,
    as that of Ctrl-C does: the process is aborted.
    """
    came: list[int] = []
    before: dict[int, Any] = {}
    try:
        # Python runs handlers in the main thread alone.
        if threading.current_thread() is threading.main_thread():
            for number in _SIGNALS:
                handler = signal.getsignal(number)
                if callable(handler):
                    before[number] = handler
                    signal.signal(number, lambda number, _: came.append(number))
        yield
    finally:
        _put_back(before, came)


def _put_back(handlers: dict[int, Any], came: list[int]) -> None:
    """Put handlers of signals back, and call those of signals that came.

    A handler that is back may raise while the next one is put back; that is raised in
    the end.
    """
    raised: BaseException | None = None
    for number, handler in handlers.items():
        for _ in range(_TRIES):
            try:
                signal.signal(number, handler)
                break
            except BaseException as error:
                raised = raised or error
    for number in came:
        try:
            signal.raise_signal(number)
        except BaseException as error:
            raised = raised or error
    if raised is not None:
        raise raised


def _run_igraph(
    network: Network,
    objective: str,
    resolution: float,
    n_iterations: int,
    seed: int,
) -> np.ndarray:
    degrees = None
    if objective == "modularity" and network.loops.any():
        # igraph's own sums leave out the edges of vertices to themselves.
        degrees = network.vertices.strength(weights=network.weights)

    def run(n: int, start: Any = None) -> Any:
        return network.vertices.community_leiden(
            objective_function=IGRAPH_OBJECTIVES[objective],
            weights=network.weights,
            node_weights=degrees,
            resolution=resolution,
            n_iterations=n,
            initial_membership=start,
        )

    with _seeded_generator(seed), _signals_put_off():
        if n_iterations > 0:
            return _of_rows(network, run(n_iterations))
        clustering = run(1)
        for _ in range(_MAX_ITERATIONS - 1):
            before = clustering.quality
            clustering = run(1, clustering.membership)
            if clustering.quality - before <= _TOLERANCE * abs(before):
                break
    return _of_rows(network, clustering)


def _of_rows(network: Network, found: Any) -> np.ndarray:
    """Give the communities of a network's rows, of those of its vertices."""
    return np.asarray(found.membership, dtype=np.int64)[network.place]


def _run_leidenalg(
    network: Network,
    objective: str,
    resolution: float,
    n_iterations: int,
    seed: int,
) -> tuple[np.ndarray, float]:
    import leidenalg  # noqa: TID251

    options: dict[str, Any] = {}
    if objective not in WITHOUT_WEIGHTS:
        options["weights"] = network.weights
    if objective not in WITHOUT_RESOLUTION:
        options["resolution_parameter"] = resolution
    kind = getattr(leidenalg, LEIDENALG_PARTITIONS[objective])
    partition = kind(network.vertices, **options)
    optimiser = leidenalg.Optimiser()
    optimiser.set_rng_seed(seed)
    if n_iterations > 0:
        optimiser.optimise_partition(partition, n_iterations=n_iterations)
    else:
        for _ in range(_MAX_ITERATIONS):
            gain = optimiser.optimise_partition(partition, n_iterations=1)
            if gain <= _TOLERANCE * abs(partition.quality()):
                break
    return _of_rows(network, partition), float(partition.quality())


def _run_libreville(
    network: Network, resolution: float, n_iterations: int, seed: int, n_threads: int
) -> np.ndarray:
    import cluster_libreville  # noqa: TID251

    _make_room(network, n_threads)
    try:
        labels = cluster_libreville.leiden(
            network.matrix,
            resolution=resolution,
            seed=seed,
            n_iterations=n_iterations,
            min_gain=_TOLERANCE,
            threads=n_threads,
        )
    except BaseException as error:
        # A panic of Rust's comes as a BaseException, which no caller catches.
        if type(error).__name__ != "PanicException":
            raise
        raise RuntimeError(
            f"sc-cluster-libreville failed on {n_threads} threads: {error}. Lower "
            "n_jobs, or use backend='igraph'."
        ) from error
    return labels.astype(np.int64)[network.place]


def _make_room(network: Network, n_threads: int) -> None:
    """Ask for as much memory as libreville may need, and give it back.

    Rust ends the process where it gets none; here it is an error.
    """
    n = network.loops.size
    needed = (
        _BYTES_OF_ENTRY * (network.graph.nnz + n)
        + (_BYTES_OF_VERTEX + _BYTES_OF_VERTEX_IN_THREAD * n_threads) * n
        + _BYTES_OF_THREAD * n_threads
    )
    try:
        np.empty(needed, dtype=np.uint8)
    except MemoryError as error:
        raise MemoryError(
            f"backend='libreville' may need {needed / 1e6:.0f} MB for "
            f"{network.graph.nnz // 2} edges on {n_threads} threads, which are not "
            "there. Free memory, or lower n_jobs."
        ) from error
