"""The graph, joined from what each two shards list of one another."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import pairwise
from operator import getitem
from typing import Any

import numpy as np
import scipy.sparse as sp
from dask.delayed import Delayed, delayed

from skleiden._kernels import graph, knn

from ._tasks import Graph, compute, persist


def affinity(
    tables: list[Delayed],
    distinct: knn.UniqueRows,
    join: Callable[..., sp.csr_array],
    weights: str,
    verbose: int,
) -> Delayed:
    """The graph of all rows, on one worker.

    `join` makes its edges between two shards of what each lists of the other, and of
    their whole lists, for weights "jaccard".
    """
    starts = distinct.vectors.starts
    tasks = Graph()
    repeats = None
    if distinct.first.size < distinct.inverse.size:
        repeats = distinct.first, distinct.inverse, distinct.repeats()
    how, repeated = tasks.take([join, repeats])
    lists = [tasks.add(_directed, key, int(starts[-1])) for key in tasks.take(tables)]
    pieces = [tasks.add(_cut, of_block, starts, weights) for of_block in lists]
    travel = lists if weights == "jaccard" else [None] * len(lists)
    p = len(lists)
    rows: list[list[Any]] = [[None] * p for _ in range(p)]
    for i in range(p):
        for j in range(i, p):
            forward = tasks.add(getitem, pieces[i], j)
            backward = tasks.add(getitem, pieces[j], i)
            rows[i][j] = tasks.add(_join, how, forward, backward, travel[i], travel[j])
            if i < j:
                rows[j][i] = tasks.add(_transposed, rows[i][j])
    parts = [tasks.add(_row_of_blocks, blocks) for blocks in rows]
    stacked = tasks.delayed([tasks.add(_stacked, parts, repeated)])
    (kept,) = persist(stacked, "Graph", verbose)
    return kept


def _directed(table: knn.Neighbors, n_columns: int) -> sp.csr_array:
    return graph.directed_graph(table.ids, table.similarities, n_columns=n_columns)


def _cut(lists: sp.csr_array, starts: np.ndarray, weights: str) -> list[sp.csr_array]:
    """What the rows of a shard list of each shard."""
    ties = graph.local_strengths(lists) if weights == "umap" else lists
    by_column = ties.tocsc()
    return [by_column[:, a:b].tocsr() for a, b in pairwise(starts.tolist())]


def _join(
    join: Callable[..., sp.csr_array],
    forward: sp.csr_array,
    backward: sp.csr_array,
    lists: sp.csr_array | None,
    others: sp.csr_array | None,
) -> sp.csr_array:
    return join(forward, backward.T.tocsr(), lists, others)


def _transposed(block: sp.csr_array) -> sp.csr_array:
    return block.T.tocsr()


def _row_of_blocks(blocks: Sequence[sp.csr_array]) -> sp.csr_array:
    return sp.csr_array(sp.hstack(blocks, format="csr"))


def _stacked(
    parts: Sequence[sp.csr_array],
    repeats: tuple[np.ndarray, np.ndarray, np.ndarray] | None,
) -> sp.csr_array:
    joined = sp.csr_array(sp.vstack(parts, format="csr"))
    joined.sort_indices()
    return joined if repeats is None else graph.spread_rows(joined, *repeats)


class UnionRows:
    """Rows of the union graph of distinct rows, made when they are asked for.

    A pickle holds all of them.
    """

    def __init__(self, tables: list[Delayed], starts: np.ndarray) -> None:
        self.tables, self.starts = tables, starts

    def __getitem__(self, rows: np.ndarray) -> sp.csr_array:
        wanted = delayed(rows)
        parts = compute(
            [
                delayed(_touching)(table, start, self.starts[-1], wanted)
                for table, start in zip(self.tables, self.starts, strict=False)
            ]
        )
        forward = sp.csr_array(sp.vstack([part[0] for part in parts], format="csr"))
        backward = sp.csr_array(sp.hstack([part[1] for part in parts], format="csr"))
        return graph.union_graph(forward, backward)

    def __reduce__(self) -> tuple[Any, ...]:
        return sp.csr_array, (self[np.arange(self.starts[-1])],)


def _touching(
    table: knn.Neighbors, start: int, n: int, wanted: np.ndarray
) -> tuple[sp.csr_array, sp.csr_array]:
    """What the wanted rows of a shard list, and how its rows list the wanted ones."""
    lists = _directed(table, int(n))
    own = (wanted >= start) & (wanted < start + lists.shape[0])
    return lists[wanted[own] - start], lists.tocsc()[:, wanted].T.tocsr()
