"""The graph, joined from what the vectors of each two blocks list of one another."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from itertools import pairwise
from operator import itemgetter
from typing import Any, NamedTuple

import numpy as np
import scipy.sparse as sp

from skleiden._blocks.runner import Local, Runner
from skleiden._kernels import graph, knn

from .partition import KNNGraph
from .search import NeighborSearch

_ROWS_AT_ONCE = 2**14


class Joining(NamedTuple):
    """How neighbour lists become edges; see the parameters of `MutualKNNLeiden`.

    `symmetric` says that both ends of an edge are known to state one similarity,
    `attaching` that small communities will need the rows of the union graph; `n_jobs`
    are threads, as of a search.
    """

    kind: str
    weights: str
    symmetric: bool
    attaching: bool
    n_jobs: int | None

    @classmethod
    def of(cls, estimator: Any) -> Joining:
        """Take it from the parameters of an estimator."""
        return cls(
            estimator.graph,
            estimator.weights,
            symmetric=estimator.metric != "precomputed",
            attaching=estimator.small_clusters == "attach",
            n_jobs=NeighborSearch.of(estimator).threads(),
        )

    def of_votes(self) -> Joining:
        """How the graph is joined in which rows vote for one another."""
        return self._replace(kind="mutual", weights="similarity", attaching=False)

    def keeps_votes(self) -> bool:
        """Whether the graph is that one anyway."""
        return self._replace(attaching=False) == self.of_votes()

    def ties(self, lists: sp.csr_array) -> sp.csr_array:
        """Tell what rows list, as strong as `weights` has it."""
        if self.weights != "umap":
            return lists
        return _by_rows(graph.local_strengths, lists, n_jobs=self.n_jobs)

    def join(
        self,
        ties: sp.csr_array,
        backward: sp.csr_array,
        lists: sp.csr_array | None,
        others: sp.csr_array | None,
    ) -> sp.csr_array:
        """Make edges between some rows and others.

        `ties` are those of the rows to the others, `backward`, of the same shape, the
        others' to them; `lists` and `others` hold what each of them lists of all rows,
        for the weights "jaccard".
        """
        join = partial(self._join, others=others)
        matrices = [ties, backward] if lists is None else [ties, backward, lists]
        return _by_rows(join, *matrices, n_jobs=self.n_jobs)

    def _join(
        self,
        ties: sp.csr_array,
        backward: sp.csr_array,
        lists: sp.csr_array | None = None,
        *,
        others: sp.csr_array | None,
    ) -> sp.csr_array:
        mutual = self.kind == "mutual"
        if self.weights == "umap":
            return (graph.fuzzy_mutual if mutual else graph.fuzzy_union)(ties, backward)
        if mutual:
            edges = graph.mutual_graph(ties, backward, symmetric=self.symmetric)
        else:
            edges = graph.union_graph(ties, backward)
        if self.weights == "uniform":
            edges.data[:] = 1
        elif self.weights == "jaccard":
            edges = graph.jaccard_weights(edges, lists, others)
        return edges


def directed(
    runner: Runner, tables: Sequence[Any], n: int, n_jobs: int | None
) -> list[Any]:
    """Give the lists of each block's vectors, of n, as directed graphs."""
    lists = [runner.call(_directed, table, n, n_jobs) for table in tables]
    return runner.keep(lists, "Lists of neighbours")


def _directed(table: knn.Neighbors, n: int, n_jobs: int | None) -> sp.csr_array:
    def of_rows(ids: np.ndarray, similarities: np.ndarray) -> sp.csr_array:
        return graph.directed_graph(ids, similarities, n_columns=n)

    return _by_rows(of_rows, *table[:2], n_jobs=n_jobs)


def _by_rows(
    function: Callable[..., sp.csr_array], *matrices: Any, n_jobs: int | None
) -> sp.csr_array:
    """Give what a function makes of matrices, some rows at a time."""

    def of_rows(rows: slice) -> sp.csr_array:
        return function(*(matrix[rows] for matrix in matrices))

    n = matrices[0].shape[0]
    if n <= _ROWS_AT_ONCE:
        return function(*matrices)
    parts = knn.in_blocks(of_rows, n, _ROWS_AT_ONCE, n_jobs)
    # As `scipy.sparse.vstack`, but in threads: new memory is slow to be written first.
    ends = np.cumsum([0, *(part.nnz for part in parts)])
    shape, of_data = (n, parts[0].shape[1]), parts[0].dtype
    small = max(*shape, ends[-1]) <= np.iinfo(np.int32).max
    dtype = np.int32 if small else np.int64
    data = np.empty(ends[-1], dtype=of_data)
    indices, indptr = np.empty(ends[-1], dtype=dtype), np.zeros(n + 1, dtype=dtype)

    def put(rows: slice) -> None:
        number = rows.start // _ROWS_AT_ONCE
        part, own = parts[number], slice(*ends[number : number + 2])
        data[own], indices[own] = part.data, part.indices
        indptr[rows.start + 1 : rows.stop + 1] = part.indptr[1:] + ends[number]
        parts[number] = None  # so that there are never two copies of all

    knn.in_blocks(put, n, _ROWS_AT_ONCE, n_jobs)
    return sp.csr_array((data, indices, indptr), shape=shape)


class NearestLists(NamedTuple):
    """Who lists whom among the distinct rows of a matrix.

    `lists` are handles of `runner` of directed graphs, one for each block of
    `distinct.vectors`. The rest is told by the attributes of `MutualKNNLeiden`.
    """

    runner: Runner
    lists: list[Any]
    distinct: knn.UniqueRows
    kth_similarity: np.ndarray
    local_similarity: np.ndarray
    n_neighbors: int
    algorithm: str
    recall: float
    skewness: float
    corrected: bool


def join_graph(
    runner: Runner, lists: Sequence[Any], distinct: knn.UniqueRows, joining: Joining
) -> KNNGraph:
    """Join the graph of distinct rows by who lists whom, as `NearestLists` has it."""
    starts = distinct.vectors.starts
    there = _affinity(runner, lists, starts, joining)
    (whole,) = runner.fetch([there])
    union = UnionRows(runner, lists, starts) if joining.attaching else None
    elsewhere = None if runner.at_hand([there]) else (runner, there)
    copies = distinct.counts() > 1
    return KNNGraph(whole, copies, union, distinct, elsewhere)


def _affinity(
    runner: Runner,
    lists: Sequence[Any],
    starts: np.ndarray,
    joining: Joining,
) -> Any:
    """Join the graph in one piece; gives a handle of it.

    Each two blocks are joined by what each lists of the other.
    """
    how = runner.put(joining)
    pieces = [runner.call(_cut, how, of_block, starts) for of_block in lists]
    travel = lists if joining.weights == "jaccard" else [None] * len(lists)
    p = len(lists)
    rows: list[list[Any]] = [[None] * p for _ in range(p)]
    for i in range(p):
        for j in range(i, p):
            forward = runner.call(itemgetter(j), pieces[i])
            backward = None if i == j else runner.call(itemgetter(i), pieces[j])
            others = None if i == j else travel[j]
            rows[i][j] = runner.call(_join, how, forward, backward, travel[i], others)
            if i < j:
                rows[j][i] = runner.call(_transposed, rows[i][j])
    parts = [runner.call(_row_of_blocks, blocks) for blocks in rows]
    del pieces, rows
    stacked = runner.call(_stacked, parts)
    del parts
    (kept,) = runner.keep([stacked], "Graph")
    return kept


def _cut(
    joining: Joining, lists: sp.csr_array, starts: np.ndarray
) -> list[sp.csr_array]:
    """Tell what the rows of a block list of each block."""
    ties = joining.ties(lists)
    if starts.size == 2:
        return [ties]
    by_column = ties.tocsc()
    return [by_column[:, a:b].tocsr() for a, b in pairwise(starts.tolist())]


def _join(
    joining: Joining,
    forward: sp.csr_array,
    backward: sp.csr_array | None,
    lists: sp.csr_array | None,
    others: sp.csr_array | None,
) -> sp.csr_array:
    if backward is None:  # among rows of one block
        backward, others = forward, lists
    return joining.join(forward, backward.T.tocsr(), lists, others)


def _transposed(block: sp.csr_array) -> sp.csr_array:
    return block.T.tocsr()


def _row_of_blocks(blocks: Sequence[sp.csr_array]) -> sp.csr_array:
    if len(blocks) == 1:
        return blocks[0]
    return sp.csr_array(sp.hstack(blocks, format="csr"))


def _stacked(parts: Sequence[sp.csr_array]) -> sp.csr_array:
    if len(parts) == 1:
        return parts[0]
    joined = sp.csr_array(sp.vstack(parts, format="csr"))
    joined.sort_indices()
    return joined


class UnionRows:
    """Rows of the union graph of distinct vectors, made when they are asked for.

    They are asked for in ascending order.

    `lists` are handles of the blocks' lists; a pickle holds them in one piece.
    """

    def __init__(self, runner: Runner, lists: Sequence[Any], starts: np.ndarray):
        self.runner, self.lists, self.starts = runner, list(lists), starts

    def __getitem__(self, rows: np.ndarray) -> sp.csr_array:
        wanted = self.runner.put(rows)
        parts = self.runner.fetch(
            [
                self.runner.call(_touching, of_block, int(start), wanted)
                for of_block, start in zip(self.lists, self.starts, strict=False)
            ]
        )
        forward = sp.csr_array(sp.vstack([part[0] for part in parts], format="csr"))
        backward = sp.csr_array(sp.hstack([part[1] for part in parts], format="csr"))
        return graph.union_graph(forward, backward)

    def __reduce__(self) -> tuple[Any, ...]:
        parts = self.runner.fetch(self.lists)
        whole = parts[0]
        if len(parts) > 1:
            whole = sp.csr_array(sp.vstack(parts, format="csr"))
        return UnionRows, (Local(), [whole], self.starts[[0, -1]])


def _touching(
    lists: sp.csr_array, start: int, wanted: np.ndarray
) -> tuple[sp.csr_array, sp.csr_array]:
    """Give what the wanted rows of a block list, and how its rows list them."""
    n_rows, n = lists.shape
    own = (wanted >= start) & (wanted < start + n_rows)
    place = np.full(n, -1, dtype=np.int32)
    place[wanted] = np.arange(wanted.size, dtype=np.int32)
    listed = place[lists.indices]
    kept = np.flatnonzero(listed >= 0)
    rows = np.searchsorted(lists.indptr, kept, side="right") - 1
    backward = sp.csr_array(
        (lists.data[kept], (listed[kept], rows.astype(np.int32))),
        shape=(wanted.size, n_rows),
    )
    return lists[wanted[own] - start], backward
