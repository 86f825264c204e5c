"""Which of the nearest rows become neighbours: a correction for hubs.

In many dimensions some rows, hubs, are among the nearest of very many others
(Radovanovic, Nanopoulos and Ivanovic, 2010). The correction takes from the similarity
of two rows what either has with its own surroundings, as CSLS does (Conneau et al.,
2018).
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import reduce
from operator import itemgetter
from typing import Any, NamedTuple

import numpy as np

from skleiden._kernels import knn

from .distinct import Shards

# Nearest rows whose mean similarity tells how dense a row's surroundings are.
_NEAREST = 10
# Corrected similarities are rounded to so many steps: of rows that are as good as equal
# all similarities are, and what is taken from them would tell them apart.
_COARSE = 10
_ROWS_AT_ONCE = 4096
# Counts that are made at a time and added up: each is of all vectors.
_COUNTS = 16


class Neighborhood(NamedTuple):
    """Neighbour lists of all vectors, and what decided who is in them.

    `tables` are handles of the lists of each block's vectors. Of each vector, `local`
    is the mean similarity of its nearest, 0 without correction, and `reach` what the
    corrected similarity of another must be to enter its list, -1 where it is not full.
    `skewness` is that of the number of lists that vectors are in without correction.
    """

    tables: list[Any]
    local: np.ndarray
    reach: np.ndarray
    skewness: float


def choose_neighbors(
    shards: Shards,
    tables: Sequence[Any],
    k: int,
    *,
    correct: bool,
    n_jobs: int | None,
) -> Neighborhood:
    """Choose k neighbours of each vector among its nearest, of which lists are given.

    Parameters
    ----------
    shards : Shards

    tables : sequence of handles of Neighbors
        The nearest of each block's vectors; more than k of them for a correction.

    k : int

    correct : bool

    n_jobs : int or None
        Threads, as of the search.
    """
    runner, m = shards.runner, shards.shape[0]
    counted = [runner.call(_counted, table, k, m, n_jobs) for table in tables]
    skewness = _skewness(runner.fold(np.add, counted, "Hubs"))
    local = None
    if correct:
        of_blocks = [runner.call(_surroundings, table, n_jobs) for table in tables]
        local = np.concatenate(runner.fetch(of_blocks, "Hubs"))
    there = runner.put(local)
    chosen = [
        runner.call(_chosen, table, int(start), k, there, shards.everywhere, n_jobs)
        for table, start in zip(tables, shards.starts, strict=False)
    ]
    lists = [runner.call(itemgetter(0), found) for found in chosen]
    reaches = [runner.call(itemgetter(1), found) for found in chosen]
    del chosen
    kept = runner.keep([*lists, *reaches], "Neighbours")
    n_blocks = len(tables)
    reach = np.concatenate(runner.fetch(kept[n_blocks:], "Reach"))
    taken = knn.from_steps(np.zeros(m) if local is None else local)
    return Neighborhood(kept[:n_blocks], taken, reach, skewness)


def _skewness(counts: np.ndarray) -> float:
    """Third central moment over the standard deviation to the power of 3."""
    deviations = counts - counts.mean() if counts.size else np.zeros(1)
    deviation = np.sqrt((deviations**2).mean())
    return float((deviations**3).mean() / deviation**3) if deviation > 0 else 0.0


def _counted(table: knn.Neighbors, k: int, m: int, n_jobs: int | None) -> np.ndarray:
    """In how many lists of a block each vector is."""

    def count(rows: slice) -> np.ndarray:
        listed = table.ids[rows, :k]
        return np.bincount(listed[listed >= 0], minlength=m)

    size = max(_ROWS_AT_ONCE, len(table.ids) // _COUNTS + 1)
    counts = knn.in_blocks(count, len(table.ids), size, n_jobs)
    return reduce(np.add, counts, np.zeros(m, dtype=np.int64))


def surroundings(ids: np.ndarray, similarities: np.ndarray) -> np.ndarray:
    """Mean similarity of each row's nearest, in steps; 0 of a row without any."""
    there = ids >= 0
    there &= np.cumsum(there, axis=1) <= _NEAREST
    total = np.where(there, knn.to_steps(similarities), 0).sum(axis=1)
    return np.rint(total / np.maximum(there.sum(axis=1), 1)).astype(np.int64)


def _surroundings(table: knn.Neighbors, n_jobs: int | None) -> np.ndarray:
    local = np.empty(len(table.ids), dtype=np.int64)

    def measure(rows: slice) -> None:
        local[rows] = surroundings(table.ids[rows], table.similarities[rows])

    knn.in_blocks(measure, local.size, _ROWS_AT_ONCE, n_jobs)
    return local


def choose(
    found: knn.Neighbors,
    k: int,
    local: np.ndarray | None,
    of_rows: Any,
    ranks: knn.Ranks,
) -> tuple[np.ndarray, np.ndarray]:
    """Columns of the k nearest by corrected similarity, and that in steps.

    `local` are the surroundings of all that can be listed, `of_rows` those of the rows;
    None without correction.
    """
    steps = knn.to_steps(found.similarities)
    if local is not None:
        taken = of_rows[:, None] + local[found.ids]
        steps = _COARSE * np.rint((2 * steps - taken) / (2 * _COARSE)).astype(np.int64)
    columns = knn.best_columns(found.ids, steps, k, ranks)
    return columns, np.take_along_axis(steps, columns, axis=1)


def _chosen(
    table: knn.Neighbors,
    start: int,
    k: int,
    local: np.ndarray | None,
    ranks: np.ndarray,
    n_jobs: int | None,
) -> tuple[knn.Neighbors, np.ndarray]:
    """Give lists of k nearest, and what the corrected similarity of another must be."""
    n, width = table.ids.shape
    reach = np.full(n, -1, dtype=np.float32)
    # In order they are without correction.
    ids, similarities = table.ids[:, :k], table.similarities[:, :k]
    if local is None:
        if width >= k:
            reach = np.where(ids[:, -1] >= 0, similarities[:, -1], reach)
        return knn.Neighbors(ids, similarities), reach
    ids, similarities = np.empty_like(ids), np.empty_like(similarities)

    def choose_block(rows: slice) -> None:
        own = slice(start + rows.start, start + rows.stop)
        found = knn.Neighbors(table.ids[rows], table.similarities[rows])
        columns, steps = choose(
            found, k, local, local[own], knn.Ranks(ranks[own], ranks)
        )
        ids[rows] = np.take_along_axis(found.ids, columns, axis=1)
        similarities[rows] = np.take_along_axis(found.similarities, columns, axis=1)
        if width >= k:
            last = knn.from_steps(steps[:, -1])
            reach[rows] = np.where(ids[rows, -1] >= 0, last, reach[rows])

    if width:
        knn.in_blocks(choose_block, n, _ROWS_AT_ONCE, n_jobs)
    return knn.Neighbors(ids, similarities), reach
