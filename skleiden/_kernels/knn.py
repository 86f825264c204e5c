"""Cosine nearest neighbours: the only file that imports FAISS.

All searches follow one contract. Vectors are C-ordered float32 rows of unit length, and
`ranks` their places in an order that depends on their content alone. FAISS chooses
candidates; their similarities are then computed pair by pair, which, unlike FAISS's
own, does not depend on what else is searched in the same call; they are rounded and
sorted, ties by `tie_order` of the ranks. Lists are ids, int32 of shape (n, k), -1 where
there is no neighbour, and similarities, float32 of that shape, 0 there.
"""

from __future__ import annotations

import mmap
import os
import sys
import tempfile
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from functools import lru_cache
from types import ModuleType
from typing import Any, NamedTuple, TypeAlias

import numpy as np
import scipy.sparse as sp
from scipy.sparse.csgraph import connected_components
from threadpoolctl import ThreadpoolController

from skleiden._kernels.pool import Pool  # noqa: TID251 (which needs nothing else)

# Similarities are rounded to this many steps per unit: coarser than what float32 leaves
# uncertain in a sum of some hundred products, finer than any use of a similarity.
STEPS = 10**6
# Rows are equal if all their entries are, rounded to this many steps per unit.
_EQUAL_STEPS = 10**5
# How far a row's squared length may be from 1. Rows of up to 4,000 columns that were
# scaled in single precision are off by less than half as much.
_UNIT_TOLERANCE = 2e-6
# Candidates asked for beyond k, so that rounding and ties reorder no list's end.
_SPARE = 8
# Distances that double precision cannot tell from 0.
_EQUAL_DISTANCE = 1e-12
# What products of matrices in single precision leave uncertain.
_TOLERANCE = 2e-6
# What it leaves uncertain in the product of a pair of rows, as measured on near copies
# of 16 to 4,096 columns: this, and so much times the root of their number.
_PAIR_ERROR, _PAIR_ERROR_GROWTH = 1.2e-7, 4e-9
_ROWS_AT_ONCE = 8192
_ROWS_CONVERTED = 1024
_ROWS_HASHED = 256
# Where lists end among ties: pairs that are compared at once, by themselves; queries in
# products of matrices; and of these, queries of which the lists are about as long.
_PAIRS_AT_ONCE = 2**21
_QUERIES_AT_ONCE = 512
_ROWS_ALIKE = 64
_HALF_STEP = 0.5 / STEPS
# Bits of a key that tell the column of a candidate, beside 23 of its value and 30 of
# its place among ties.
_COLUMN_BITS = 10
# Weights of edges are added up as whole numbers of this part of 1, and vertices told
# apart by those so many edges away at most.
_UNIT = 2**20
_ROUNDS = 4
# Rows are ordered by a projection of entries that are whole numbers of this part of 1.
_ENTRY = 2**30
_MAX_EF = 4096
_SAMPLE_SIZE = 400
# Standard errors between a mean and its one-sided lower 95% bound.
_BOUND = 1.645


Parallel: TypeAlias = Callable[..., Iterator[Any]]

# Whether this process is a child that was forked after FAISS was loaded. The threads of
# OpenMP are not forked with it, and it would wait for them for ever: there it has one.
_forked = False


def _after_fork() -> None:
    global _forked
    _forked = "faiss" in sys.modules


if hasattr(os, "register_at_fork"):  # not on Windows, which has no fork
    os.register_at_fork(after_in_child=_after_fork)


def _faiss() -> ModuleType:
    # Imported when first needed: FAISS brings an OpenMP runtime, and two of them in one
    # process (torch's is another) can clash on macOS.
    import faiss  # noqa: TID251

    if _forked:
        faiss.omp_set_num_threads(1)
    return faiss


@contextmanager
def limit_threads(n_threads: int | None) -> Iterator[None]:
    """Cap FAISS's OpenMP threads inside the context; None leaves them alone.

    In a process that was forked after FAISS was loaded there is one, whatever is asked.
    """
    if n_threads is None or _forked:
        yield
        return
    faiss = _faiss()
    before = faiss.omp_get_max_threads()
    faiss.omp_set_num_threads(n_threads)
    try:
        yield
    finally:
        faiss.omp_set_num_threads(before)


def use_one_thread() -> None:
    """Let FAISS run on one thread where it is called from this one."""
    _faiss().omp_set_num_threads(1)


def n_threads() -> int:
    """Threads that FAISS would use if called from this one."""
    return int(_faiss().omp_get_max_threads())


@lru_cache(maxsize=1)
def _blas(_: int) -> ThreadpoolController:
    """Find the libraries that multiply matrices, for a number of imported modules.

    To look for them takes 2 ms, as long as a stage of a search among some hundred rows:
    it is done again only once something was imported, which may have loaded others.
    """
    return ThreadpoolController().select(user_api="blas")


@contextmanager
def workers(n_threads: int) -> Iterator[Parallel]:
    """Map in parallel, with one thread for the products of matrices in each task.

    Their last bits then do not depend on the number of threads.
    """
    with (
        _blas(len(sys.modules)).limit(limits=1),
        Pool(n_threads, use_one_thread) as pool,
    ):
        yield pool.map


def in_blocks(
    function: Callable[[slice], Any], n: int, size: int, n_jobs: int | None
) -> list[Any]:
    """Results of a function of slices of n rows, on as many threads as a search has."""
    tasks = blocks(n, size)
    if len(tasks) <= 1:  # threads take some milliseconds to start
        return [function(task) for task in tasks]
    with limit_threads(n_jobs), workers(n_threads()) as parallel:
        return list(parallel(function, tasks))


class UniqueRows(NamedTuple):
    """Distinct nonzero rows among unit or zero vectors, and where they stand.

    `vectors` of shape (m, d) holds them; `first`, ascending, the number of the row that
    each was taken from; `inverse`, for every row, its number among the vectors, -1 for
    a zero row; `ranks` the place of each vector in an order that depends on what rows
    are, and not on where they stand. The vectors may be elsewhere, and something that
    stands for them here.
    """

    vectors: Any
    first: np.ndarray
    inverse: np.ndarray
    ranks: np.ndarray

    def counts(self) -> np.ndarray:
        """Rows equal to each vector, itself included."""
        return np.bincount(self.inverse[self.inverse >= 0], minlength=self.first.size)

    def repeats(self) -> np.ndarray:
        """Rows that are equal to one that the vectors were taken from."""
        rows = np.flatnonzero(self.inverse >= 0)
        return rows[self.first[self.inverse[rows]] != rows]

    def spread(self, values: np.ndarray, fill: float) -> np.ndarray:
        """Values of the distinct rows as values of all rows; `fill` for zero rows."""
        known = self.inverse >= 0
        spread = np.full(self.inverse.size, fill, dtype=values.dtype)
        spread[known] = values[self.inverse[known]]
        return spread


class Neighbors(NamedTuple):
    """Neighbour lists and, for an approximate search, its measured recall.

    `recall` is the mean over sampled rows and `recall_bound` its lower 95% bound.
    """

    ids: np.ndarray
    similarities: np.ndarray
    recall: float = 1.0
    recall_bound: float = 1.0


class Ranks(NamedTuple):
    """Ranks of some queries, those of the vectors they are equal to or 0, and of these.

    `vectors` has an entry for each id that lists may hold.
    """

    queries: np.ndarray
    vectors: np.ndarray


def is_mapped(array: Any) -> bool:
    """Whether an array's memory is a file, however many views lie between them."""
    return map_of(array) is not None


@contextmanager
def read_at_random(array: np.ndarray) -> Iterator[None]:
    """Have the system read of a mapped array, inside the context, what is asked for.

    By default it reads some 100 kB around each row, which is many times the work where
    the file is larger than the memory that is free.
    """
    mapped, advice = map_of(array), getattr(mmap, "MADV_RANDOM", None)
    if mapped is None or advice is None:
        yield
        return
    mapped.madvise(advice)
    try:
        yield
    finally:
        mapped.madvise(mmap.MADV_NORMAL)


def map_of(array: Any) -> Any:
    """Give the memory map that holds an array's numbers, None if it is in memory."""
    owner = array
    while owner is not None and not isinstance(owner, mmap.mmap):
        # numpy.asarray makes an ndarray of a memmap, whose base still is the map.
        name = "obj" if isinstance(owner, memoryview) else "base"
        owner = getattr(owner, name, None)
    return owner


def _joined(
    blocks: Iterable[np.ndarray], shape: tuple[int, int], like: np.ndarray
) -> np.ndarray:
    """Blocks of float32 rows as one array, in memory or, as `like` is, in a file.

    The file is a temporary one without a name, which goes when the array does.
    """
    if not is_mapped(like) or 0 in shape:
        out, start = np.empty(shape, dtype=np.float32), 0
        for block in blocks:
            out[start : start + len(block)] = block
            start += len(block)
        return out
    try:
        with tempfile.TemporaryFile() as file:
            # Written, not mapped, while it grows: on a full disk this is an error, and
            # a write to mapped memory the end of the process.
            for block in blocks:
                file.write(np.ascontiguousarray(block, dtype=np.float32).data)
            file.flush()
            mapped = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
    except OSError as error:
        size = 4 * shape[0] * shape[1]
        raise OSError(
            error.errno,
            f"A temporary file of {size} bytes, for the rows of a memory-mapped X, "
            f"cannot be written in {tempfile.gettempdir()!r} ({error.strerror}). Set "
            "the environment variable TMPDIR to a folder with room for it",
        ) from error
    # No numpy.memmap: joblib would send its file's name to workers, and it has none.
    return np.frombuffer(mapped, dtype=np.float32).reshape(shape)


def unit_rows(X: np.ndarray) -> np.ndarray:
    """Rows scaled to unit length as C-ordered float32; X itself if it is that already.

    A row is scaled only if its length is off by more than rounding, so that a row's
    result depends on nothing but the row. Zero rows stay zero. Of a memory-mapped X the
    result is mapped, too.
    """
    starts = range(0, X.shape[0], _ROWS_CONVERTED)
    # One conversion on purpose: FAISS silently copies anything else at each call.
    ready = X.dtype == np.float32 and X.flags.c_contiguous
    if ready and not any(
        off_unit(X[start : start + _ROWS_CONVERTED]).any() for start in starts
    ):
        return X
    dtype = np.result_type(X, np.float32)

    def scaled(start: int) -> np.ndarray:
        # In one order, whatever that of X, so that sums have the same last bits.
        block = np.ascontiguousarray(X[start : start + _ROWS_CONVERTED], dtype=dtype)
        off = off_unit(block)
        if not off.any():
            return block
        # Divided by the largest entry first: squares may overflow or vanish.
        exact = block.astype(np.float64)
        exact /= np.where(off, np.abs(exact).max(axis=1), 1.0)[:, None]
        exact /= np.where(off, np.linalg.norm(exact, axis=1), 1.0)[:, None]
        return exact

    return _joined(map(scaled, starts), X.shape, X)


def off_unit(block: np.ndarray) -> np.ndarray:
    """Mask of the rows that are neither zero nor of unit length."""
    with np.errstate(over="ignore"):
        squares = np.einsum("ij,ij->i", block, block)
    return (np.abs(squares - 1) > _UNIT_TOLERANCE) & block.any(axis=1)


def row_hashes(vectors: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Hashes of each row, int64 of shape (n, 4), and the mask of the zero rows.

    The first two are of the rounded entries of unit or zero vectors: among a thousand
    million rows, two that differ share these 128 bits with a probability below 1e-20.
    The third is of the entries as they are. The last is a random projection, by which
    rows are ordered: where entries differ by rounding, few rows change places.
    """
    n, d = vectors.shape
    multipliers, direction = _hash_numbers(d)
    hashes = np.empty((n, 6), dtype=np.int32)
    projections = np.empty((n, 1), dtype=np.int64)
    zero = np.empty(n, dtype=bool)
    for rows in blocks(n, _ROWS_HASHED):
        block = np.ascontiguousarray(vectors[rows], dtype=np.float32)
        entries = np.multiply(block, _ENTRY, dtype=np.float64)
        projections[rows, 0] = np.rint(entries, out=entries) @ direction
        bits = block.view(np.int32)
        hashes[rows, :4] = np.einsum("ij,kj->ik", _rounded(block), multipliers[:4])
        hashes[rows, 4:] = np.einsum("ij,kj->ik", bits, multipliers[4:])
        zero[rows] = ~block.any(axis=1)
    return np.hstack([hashes.view(np.int64), projections]), zero


def equality_hashes(vectors: np.ndarray) -> np.ndarray:
    """Give the first two hashes of each row, int64 of shape (n, 2)."""
    hashes = np.empty((len(vectors), 4), dtype=np.int32)
    multipliers = _hash_numbers(vectors.shape[1])[0][:4]
    for rows in blocks(len(vectors), _ROWS_HASHED):
        hashes[rows] = np.einsum("ij,kj->ik", _rounded(vectors[rows]), multipliers)
    return hashes.view(np.int64)


@lru_cache(8)  # for every block of rows the same
def _hash_numbers(d: int) -> tuple[np.ndarray, np.ndarray]:
    """Multipliers of the hashes of rows of d columns, and the direction projected to.

    Products and sums of 32-bit integers wrap around, which is what a hash may do. Those
    of the direction are exact in double precision, in any order: of entries of unit
    vectors sums are below 2**53, up to 60,000 columns.
    """
    multipliers = np.random.RandomState(0).randint(
        -(2**31), 2**31 - 1, size=(6, d), dtype=np.int32
    )
    direction = np.random.RandomState(1).randint(-(2**15), 2**15, size=d)
    return multipliers, direction.astype(np.float64)


def representatives(
    keys: np.ndarray, zero: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Rows that stand for those equal to each row, -1 for a zero row, and in order.

    Of equal rows, whose first two hashes are the same, it is that of the least third
    one, whose numbers may differ from those of others by rounding; and the first of
    such rows.
    """
    nonzero = np.flatnonzero(~zero)
    order = nonzero[_ordered(*keys[nonzero, :3].T)]  # which brings equal rows together
    new = np.ones(order.size, dtype=bool)
    new[1:] = (keys[order[1:], :2] != keys[order[:-1], :2]).any(axis=1)
    representative, first = np.full(zero.size, -1), order[new]
    representative[order] = first[np.cumsum(new) - 1]
    return representative, first[_ordered(keys[first, 3])]


def _ordered(*keys: np.ndarray) -> np.ndarray:
    """Order by some keys, the first one first, and then by place.

    As of a stable sort, which takes many times as long where few are equal.
    """
    order = np.argsort(keys[0])
    same = keys[0][order[1:]] == keys[0][order[:-1]]
    tied = np.flatnonzero(np.append(False, same) | np.append(same, False))
    again = np.sort(order[tied])
    order[tied] = again[np.lexsort([key[again] for key in reversed(keys)])]
    return order


def number_groups(representative: np.ndarray, in_order: np.ndarray) -> UniqueRows:
    """Enumerate groups of equal rows by the row that stands for each row's, or -1.

    `in_order` are these, in an order that depends on what they are.
    """
    first, number = np.sort(in_order), np.empty(representative.size, dtype=np.int64)
    number[first] = np.arange(first.size)
    inverse = np.full(representative.size, -1)
    there = representative >= 0
    inverse[there] = number[representative[there]]
    return UniqueRows(None, first, inverse, _places(number[in_order]))


def _places(order: np.ndarray) -> np.ndarray:
    """Give the place of each number in an order of them."""
    places = np.empty(order.size, dtype=np.int32)
    places[order] = np.arange(order.size, dtype=np.int32)
    return places


def tie_order(a: Any, b: np.ndarray) -> np.ndarray:
    """Order of pairs of ranks among equally similar ones, in [0, 2**32), as int64.

    It is symmetric, so that of many rows that are as similar to one another, those that
    list each other are many; each row has another order of the rest, so that none is
    listed by all. Bits are mixed as in MurmurHash3 (Appleby, 2011).
    """
    mixed = np.bitwise_xor(a, b).astype(np.uint32)
    mixed ^= mixed >> np.uint32(16)
    mixed *= np.uint32(0x85EBCA6B)
    mixed ^= mixed >> np.uint32(13)
    mixed *= np.uint32(0xC2B2AE35)
    mixed ^= mixed >> np.uint32(16)
    return mixed.astype(np.int64)


def take_rows(vectors: np.ndarray, rows: np.ndarray) -> np.ndarray:
    """Copy some rows: to memory, or, of memory-mapped vectors, to a temporary file."""
    if not is_mapped(vectors):
        return vectors[rows]
    starts = range(0, rows.size, _ROWS_CONVERTED)
    blocks = (vectors[rows[start : start + _ROWS_CONVERTED]] for start in starts)
    return _joined(blocks, (rows.size, vectors.shape[1]), vectors)


def equal_rows(
    queries: np.ndarray, vectors: np.ndarray, found: Neighbors
) -> np.ndarray:
    """Mask, of the shape of the lists, of vectors that are equal to their query."""
    equal = found.similarities == 1
    rows, columns = np.nonzero(equal)
    others = vectors[found.ids[rows, columns]]
    equal[rows, columns] = (_rounded(queries[rows]) == _rounded(others)).all(axis=1)
    return equal


def ranks_of_equals(ids: np.ndarray, equal: np.ndarray, ranks: Any) -> np.ndarray:
    """Ranks of the vectors equal to queries, 0 where none is, by a mask of lists."""
    of_equals = np.where(equal, ranks[ids], 0)
    return of_equals.max(axis=1, initial=0)  # at most one is


def _rounded(vectors: np.ndarray) -> np.ndarray:
    entries = vectors * np.float32(_EQUAL_STEPS)
    return np.rint(entries, out=entries).astype(np.int32)


def exact_neighbors(
    queries: np.ndarray,
    vectors: np.ndarray,
    k: int,
    ranks: Ranks,
    *,
    own: np.ndarray | None = None,
    progress: Callable[[int], object] | None = None,
) -> Neighbors:
    """Give the k vectors most similar to each query, by comparing with all.

    Parameters
    ----------
    queries : ndarray of shape (n, d)

    vectors : ndarray of shape (m, d)

    k : int
        At most m, or m - 1 with `own`.

    ranks : Ranks

    own : ndarray of shape (n,) or None
        The number of each query among the vectors, which is left out of its list.

    progress : callable or None
        Called with the number of queries done since the last call.
    """
    faiss = _faiss()
    n_candidates = min(k + _SPARE + (own is not None), vectors.shape[0])
    if n_candidates == 0:
        return Neighbors(
            np.empty((queries.shape[0], 0), np.int32),
            np.empty((queries.shape[0], 0), np.float32),
        )

    def candidates(rows: slice) -> np.ndarray:
        return faiss.knn(
            queries[rows], vectors, n_candidates, faiss.METRIC_INNER_PRODUCT
        )[1]

    return Neighbors(*_in_blocks(candidates, queries, vectors, k, ranks, own, progress))


def hnsw_neighbors(
    vectors: np.ndarray,
    k: int,
    ranks: np.ndarray,
    *,
    m: int,
    ef_construction: int,
    ef_search: int,
    target_recall: float,
    rng: np.random.RandomState,
    reproducible: bool,
    progress: Callable[[int], object] | None = None,
) -> Neighbors:
    """Approximate neighbours of all vectors by a hierarchical small-world graph.

    Malkov and Yashunin (2018). `ef_search` is doubled until the lower 95% bound of
    the recall reaches `target_recall`, on sampled rows and then on others. With
    several threads the order in which FAISS inserts vectors varies: `reproducible`
    builds on one.
    """
    faiss = _faiss()
    n, d = vectors.shape
    order, both = np.argsort(ranks), Ranks(ranks, ranks)
    # FAISS makes room for all the candidates, of which there are at most n.
    ef_construction, ef_search = min(ef_construction, n), min(ef_search, n)
    index = faiss.IndexHNSWFlat(d, m)
    index.hnsw.efConstruction = ef_construction
    with limit_threads(1 if reproducible else None):
        for start in range(0, n, _ROWS_AT_ONCE):
            index.add(vectors[order[start : start + _ROWS_AT_ONCE]])
            if progress is not None:
                progress(0)

    def search(
        queries: np.ndarray,
        own: np.ndarray,
        ef: int,
        progress: Callable[[int], object] | None = None,
    ) -> tuple[np.ndarray, np.ndarray]:
        parameters = faiss.SearchParametersHNSW(efSearch=ef)
        n_candidates = min(k + 1 + _SPARE, n)

        def candidates(rows: slice) -> np.ndarray:
            found = index.search(queries[rows], n_candidates, params=parameters)[1]
            return np.where(found >= 0, order[found], -1)

        return _in_blocks(
            candidates,
            queries,
            vectors,
            k,
            both._replace(queries=ranks[own]),
            own,
            progress,
        )

    def recall(own: np.ndarray, ef: int) -> tuple[float, float]:
        queries = vectors[own]
        truth = exact_neighbors(queries, vectors, k, Ranks(ranks[own], ranks), own=own)
        ids, similarities = search(queries, own, ef)
        # By similarity: another neighbour at the same distance is no error.
        hits = (ids >= 0) & (similarities >= truth.similarities[:, -1:])
        # Of all rows the recall is known, not estimated.
        bound = recall_bound(hits, 0.0 if own.size == n else _BOUND)
        return float(hits.mean()), bound

    size = _SAMPLE_SIZE if n > 2 * _SAMPLE_SIZE else n
    shuffled = order[rng.permutation(n)]
    tuning = shuffled[:size]
    others = shuffled[size:] if size < n else shuffled
    while True:
        last = ef_search >= _MAX_EF
        if last or recall(tuning, ef_search)[1] >= target_recall:
            measured, bound = recall(rng.permutation(others)[:size], ef_search)
            if last or bound >= target_recall:
                break
        ef_search = min(2 * ef_search, _MAX_EF)
    lists = search(vectors, np.arange(n), ef_search, progress)
    return Neighbors(*lists, float(measured), float(bound))


def merge(a: Neighbors, b: Neighbors, k: int, ranks: Ranks) -> Neighbors:
    """Give the k best of two lists of other neighbours of the same rows."""
    ids, similarities = np.hstack([a.ids, b.ids]), np.hstack(a[1:2] + b[1:2])
    return Neighbors(*_best(ids, similarities, k, ranks))


def recall_bound(hits: np.ndarray, errors: float = _BOUND) -> float:
    """Mean recall of sampled rows less so many standard errors: the lower 95% bound.

    `hits`, of shape (n_rows, k), tells which true neighbours were found.
    """
    shares = hits.mean(axis=1)
    return float(shares.mean() - errors * shares.std() / np.sqrt(shares.size))


def neighbors_from_distances(
    distances: Any, k: int, row_ranks: np.ndarray | None = None
) -> tuple[Neighbors, UniqueRows]:
    """Neighbour lists, among distinct rows, of a cosine distance graph.

    Rows at distance 0 from each other are equal; a row that stores nothing but itself
    is a zero row. Similarities are rounded and sorted as in a search.

    Parameters
    ----------
    distances : ndarray or CSR array of shape (n, n)
        Distances in [0, 2]; explicit zeros are distances, others are absent.

    k : int
        Longest list.

    row_ranks : ndarray of shape (n,) or None
        Places of the rows in an order that depends on what they are; as the graph has
        it if None.
    """
    n = distances.shape[0]
    rows, ids, values = _entries(distances)
    other = rows != ids
    rows, ids, values = rows[other], ids[other], values[other]
    equal = values <= _EQUAL_DISTANCE
    _, component = connected_components(
        sp.coo_array((np.ones(equal.sum()), (rows[equal], ids[equal])), shape=(n, n)),
        directed=False,
    )
    _, first_of = np.unique(component, return_index=True)
    representative = first_of[component]
    # A row that lists nothing is a zero row, unless others list it as their equal.
    alone = np.bincount(component, minlength=n)[component] == 1
    representative[alone & (np.bincount(rows, minlength=n) == 0)] = -1
    first = np.flatnonzero(representative == np.arange(n))
    distinct = number_groups(representative, first)
    # Lists of equal rows are one, in numbers of distinct rows.
    listing, listed = distinct.inverse[rows], distinct.inverse[ids]
    kept = (listed >= 0) & (listed != listing)
    listing, listed, steps = listing[kept], listed[kept], _steps(values[kept])
    m = first.size
    if row_ranks is None:
        # A distance of 0 counts, too.
        edges = (steps + 1) / STEPS, (listing, listed)
        graph = sp.csr_array(edges, shape=(m, m))
        ranks = rank_vertices(sp.csr_array(graph + graph.T))
    else:
        ranks = _places(np.argsort(row_ranks[first], kind="stable"))
    table = _tabulate(listing, listed, steps, m, k, Ranks(ranks, ranks))
    return table, distinct._replace(ranks=ranks)


def longest_list(distances: Any) -> int:
    """Most other rows that a row of a distance graph stores its distance to."""
    if not sp.issparse(distances):
        return int(distances.shape[0]) - 1
    rows, ids, _ = _entries(distances)
    return int(np.bincount(rows[rows != ids]).max(initial=0))


def rank_vertices(graph: sp.csr_array) -> np.ndarray:
    """Places of a graph's vertices in an order that depends on the graph.

    They are sorted by the sum of their weights, then by that of their neighbours', and
    so on, as long as some are told apart by it, and at last by their numbers. Where
    weights differ by rounding, few change places.
    """
    # Sums of whole numbers do not depend on the order of what is added.
    weights = np.rint(graph.data * _UNIT).astype(np.int64)
    n = graph.shape[0]
    keys, values = [np.arange(n)], np.full(n, _UNIT)
    while True:
        values //= _UNIT
        added = np.append(0, np.cumsum(weights * values[graph.indices]))
        values = np.diff(added[graph.indptr])
        keys.insert(1, values.copy())
        order = np.lexsort(keys)
        same = np.diff(np.stack(keys[1:])[:, order], axis=1) == 0
        if len(keys) > _ROUNDS or not same.all(axis=0).any():
            return _places(order)


def neighbors_of_queries(
    distances: Any, distinct: UniqueRows, k: int
) -> tuple[Neighbors, np.ndarray]:
    """Neighbour lists of queries, and a mask of those that are at distance 0.

    Parameters
    ----------
    distances : ndarray or CSR array of shape (n_queries, n)
        Cosine distances to the n fitted rows.

    distinct : UniqueRows
        Of the fitted rows.

    k : int
        Longest list.
    """
    rows, ids, values = _entries(distances)
    ids = distinct.inverse[ids]
    rows, ids, values = rows[ids >= 0], ids[ids >= 0], values[ids >= 0]
    n = distances.shape[0]
    same = np.full(n, -2)  # at most one of the distinct rows
    near = values <= _EQUAL_DISTANCE
    same[rows[near]] = ids[near]
    ranks = Ranks(np.where(same >= 0, distinct.ranks[same], 0), distinct.ranks)
    found = _tabulate(rows, ids, _steps(values), n, k, ranks)
    return found, found.ids == same[:, None]


def _entries(
    distances: Any,
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    n_rows, n_columns = distances.shape
    if sp.issparse(distances):
        rows = np.repeat(np.arange(n_rows), np.diff(distances.indptr))
        return rows, distances.indices, distances.data
    return *np.divmod(np.arange(distances.size), n_columns), distances.ravel()


def _steps(distances: np.ndarray) -> np.ndarray:
    return np.rint(distances * STEPS).astype(np.int64)


def _tabulate(
    rows: np.ndarray,
    ids: np.ndarray,
    steps: np.ndarray,
    n_rows: int,
    k: int,
    ranks: Ranks,
) -> Neighbors:
    """Give lists of the k nearest of each row's entries."""
    ties = tie_order(ranks.queries[rows], ranks.vectors[ids])
    order = np.lexsort((ties, steps, rows))
    rows, ids, steps = rows[order], ids[order], steps[order]
    # Equal rows make for several entries of one pair: keep the nearest.
    _, nearest = np.unique(
        rows.astype(np.int64) * (ids.max(initial=0) + 1) + ids, return_index=True
    )
    kept = np.sort(nearest)
    rows, ids, steps = rows[kept], ids[kept], steps[kept]
    rank = np.arange(rows.size) - np.searchsorted(rows, rows)
    shape = (n_rows, min(k, int(rank.max(initial=-1)) + 1))
    found = np.full(shape, -1, dtype=np.int32)
    similarities = np.zeros(shape, dtype=np.float32)
    near = rank < k
    found[rows[near], rank[near]] = ids[near]
    similarities[rows[near], rank[near]] = (STEPS - steps[near]) / STEPS
    return Neighbors(found, similarities)


def _in_blocks(
    candidates: Callable[[slice], np.ndarray],
    queries: np.ndarray,
    vectors: np.ndarray,
    k: int,
    ranks: Ranks,
    own: np.ndarray | None,
    progress: Callable[[int], object] | None,
) -> tuple[np.ndarray, np.ndarray]:
    """Rank the candidates of all queries, a block of rows at a time."""
    n = queries.shape[0]
    ids = np.empty((n, k), dtype=np.int32)
    similarities = np.empty((n, k), dtype=np.float32)
    for start in range(0, n, _ROWS_AT_ONCE):
        rows = slice(start, min(start + _ROWS_AT_ONCE, n))
        some = candidates(rows)
        of_rows = None if own is None else own[rows]
        of_block = _of_rows(ranks, rows)
        found = rank(queries[rows], vectors, some, some.shape[1], of_block, of_rows)
        ids[rows], similarities[rows] = (table[:, :k] for table in found)
        if some.shape[1] < vectors.shape[0]:
            at = rows.start + _ending_in_ties(*found, k, (some < 0).any(axis=1))
            if at.size:
                ids[at], similarities[at] = _among_ties(
                    queries[at],
                    vectors,
                    similarities[at, -1],
                    k,
                    _of_rows(ranks, at),
                    None if own is None else own[at],
                )
        if progress is not None:
            progress(rows.stop - rows.start)
    return ids, similarities


def _of_rows(ranks: Ranks, rows: Any) -> Ranks:
    return ranks._replace(queries=ranks.queries[rows])


def _ending_in_ties(
    ids: np.ndarray, similarities: np.ndarray, k: int, exhausted: Any
) -> np.ndarray:
    """Rows whose k nearest may be others than those among the ranked candidates."""
    last = np.take_along_axis(
        similarities, (ids >= 0).sum(axis=1, keepdims=True) - 1, axis=1
    )[:, 0]
    open_ended = ~exhausted & (ids[:, k - 1] >= 0)
    return np.flatnonzero(open_ended & (last >= similarities[:, k - 1] - _TOLERANCE))


def _among_ties(
    queries: np.ndarray,
    vectors: np.ndarray,
    least: np.ndarray,
    k: int,
    ranks: Ranks,
    own: np.ndarray | None,
) -> tuple[np.ndarray, np.ndarray]:
    """Find the k best of all vectors; k are at least as similar to each query."""
    n, n_tasks = queries.shape[0], 4 * n_threads()

    def search(rows: slice) -> tuple[np.ndarray, np.ndarray]:
        some, of_rows = (queries[rows], vectors, least[rows]), _of_rows(ranks, rows)
        own_rows = None if own is None else own[rows]
        found = first_of_ties(*some, k, of_rows, own_rows, enough=least[rows])
        complete(*found, *some, of_rows, own_rows)
        return found

    with workers(n_threads()) as parallel:
        tasks = blocks(n, max(_QUERIES_AT_ONCE, n // n_tasks + 1))
        ids, similarities = zip(*parallel(search, tasks), strict=True)
    return np.concatenate(ids), np.concatenate(similarities)


def complete(
    ids: np.ndarray,
    similarities: np.ndarray,
    queries: np.ndarray,
    vectors: np.ndarray,
    least: np.ndarray,
    ranks: Ranks,
    own: np.ndarray | None,
) -> None:
    """Put what is better of all vectors into lists that `first_of_ties` gave."""
    k = ids.shape[1]
    last = np.where(ids[:, -1] >= 0, similarities[:, -1].astype(np.float64), -np.inf)
    # Other vectors are better if they are nearer than the last of k.
    edges = np.maximum(least.astype(np.float64) - _HALF_STEP, last + _HALF_STEP)
    left = np.flatnonzero(last < 1)
    for block in blocks(left.size, _QUERIES_AT_ONCE):
        rows = left[block]
        of_rows = _of_rows(ranks, rows)
        near = _at_least(queries[rows], vectors, edges[rows])
        candidates = once(np.hstack([ids[rows], near]))
        of_block = None if own is None else own[rows]
        ids[rows], similarities[rows] = rank(
            queries[rows], vectors, candidates, k, of_rows, of_block
        )


def first_of_ties(
    queries: np.ndarray,
    vectors: np.ndarray,
    least: np.ndarray,
    k: int,
    ranks: Ranks,
    own: np.ndarray | None,
    *,
    enough: Any,
) -> tuple[np.ndarray, np.ndarray]:
    """Give the k best of the vectors that come first in each query's order of ties.

    All that are more similar than the last of them may be better, but no others. Of a
    query to which few vectors are as similar as `least`, there are none.

    The order of ties is that of a one-to-one function of the exclusive or of two ranks.
    So one order of these numbers gives those of all queries, without a comparison.

    Parameters
    ----------
    queries, vectors, k, ranks, own
        As in `exact_neighbors`.

    least : ndarray of shape (n,)
        A similarity that more than k vectors are likely to reach.

    enough : ndarray of shape (n,) or float
        More vectors are tried as long as the last of the k is less similar.
    """
    n, m = queries.shape[0], vectors.shape[0]
    ids = np.full((n, k), -1, dtype=np.int32)
    similarities = np.zeros((n, k), dtype=np.float32)
    left, enough = np.arange(n), np.broadcast_to(enough, n)
    largest = max(ranks.vectors.max(), ranks.queries.max(initial=0))
    n_numbers = 1 << int(largest).bit_length()
    place = np.full(n_numbers, -1, dtype=np.int64)
    place[ranks.vectors] = np.arange(m)
    width, widest = 2 * k, max(8 * k, m // 16)
    ties = tie_order(0, np.arange(n_numbers))
    last = min(widest * n_numbers // m, n_numbers - 1)
    order = np.argpartition(ties, last)[: last + 1]
    order = order[np.argsort(ties[order])].astype(np.int32)
    while left.size and width <= widest:
        first = order[: width * n_numbers // m]
        likely = np.empty(left.size, dtype=bool)
        for block in blocks(left.size, max(1, _PAIRS_AT_ONCE // first.size)):
            rows = left[block]
            candidates = place[ranks.queries[rows, None] ^ first]
            if 2 * m < n_numbers:
                candidates = _padded(*_present(candidates), rows.size)
            if own is not None:
                candidates[candidates == own[rows, None]] = -1
            found = _products(queries[rows], vectors, candidates)
            falling = np.where(candidates >= 0, STEPS - to_steps(found), 2 * STEPS + 1)
            # Candidates are in the order of ties.
            keys = falling << 32 | np.arange(candidates.shape[1])
            if keys.shape[1] > k:
                keys.partition(k - 1, axis=1)
            keys = np.sort(keys[:, :k], axis=1)
            columns = keys & (2**32 - 1)
            found = from_steps(STEPS - (keys >> 32))
            ids[rows, : columns.shape[1]] = np.take_along_axis(candidates, columns, 1)
            similarities[rows, : columns.shape[1]] = found
            hits = (found >= least[rows, None]).sum(axis=1)
            likely[block] = hits * (widest // width) >= k
        ids[left[~likely]] = -1
        similarities[left[~likely]] = 0
        left = left[likely & (similarities[left, -1] < enough[left])]
        width *= 2
    return ids, similarities


def _at_least(
    queries: np.ndarray, vectors: np.ndarray, edges: np.ndarray
) -> np.ndarray:
    """Ids of the vectors that are so similar to each query, and -1 behind them."""
    n, d = queries.shape
    exact, steps = queries.astype(np.float64), np.ceil(edges * STEPS)[:, None]
    bounds = edges[:, None] - (_PAIR_ERROR + _PAIR_ERROR_GROWTH * d**0.5)
    parts = []
    for columns in blocks(vectors.shape[0], _ROWS_AT_ONCE):
        products = exact @ vectors[columns].astype(np.float64).T
        rows, ids = np.nonzero(products >= bounds)
        near = _padded(rows, ids + columns.start, n)
        sizes = (near >= 0).sum(axis=1)
        # Rows to which about as many are near go together, which takes fewer products.
        order = np.argsort(sizes)
        for block in blocks(n, _ROWS_ALIKE):
            own = order[block]
            some = near[own, : sizes[own[-1]]]
            found = np.rint(_products(queries[own], vectors, some) * np.float32(STEPS))
            rows, places = np.nonzero((found >= steps[own]) & (some >= 0))
            parts.append((own[rows], some[rows, places]))
    rows, ids = (np.concatenate(part) for part in zip(*parts, strict=True))
    order = np.argsort(rows, kind="stable")
    return _padded(rows[order], ids[order], n)


def _present(candidates: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    rows, columns = np.nonzero(candidates >= 0)
    return rows, candidates[rows, columns]


def _padded(rows: np.ndarray, ids: np.ndarray, n: int) -> np.ndarray:
    """Give the ids of each of n rows, of which these ascend, and -1 behind them."""
    sizes = np.bincount(rows, minlength=n)
    place = np.arange(rows.size) - np.repeat(np.cumsum(sizes) - sizes, sizes)
    table = np.full((n, int(sizes.max(initial=0))), -1, dtype=np.int64)
    table[rows, place] = ids
    return table


def once(candidates: np.ndarray) -> np.ndarray:
    """Candidates of which each row has none twice, in another order."""
    candidates = np.sort(candidates.astype(np.int64, copy=False), axis=1)
    candidates[:, 1:][candidates[:, 1:] == candidates[:, :-1]] = -1
    return candidates


def blocks(n: int, size: int) -> list[slice]:
    """Slices of so many of n rows."""
    return [slice(i, min(i + size, n)) for i in range(0, n, size)]


def rank(
    queries: np.ndarray,
    vectors: np.ndarray,
    candidates: np.ndarray,
    k: int,
    ranks: Ranks,
    own: np.ndarray | None,
) -> tuple[np.ndarray, np.ndarray]:
    """Give the k best candidates by rounded similarity."""
    absent = candidates < 0  # FAISS's mark for "no more neighbours"
    absent |= ~queries.any(axis=1, keepdims=True)  # a zero row has no direction
    if own is not None:
        absent |= candidates == own[:, None]
    similarities = _products(queries, vectors, candidates)
    return _best(np.where(absent, -1, candidates), similarities, k, ranks)


def _products(
    queries: np.ndarray, vectors: np.ndarray, candidates: np.ndarray
) -> np.ndarray:
    """Similarities, of the candidates' shape, each by itself; -1 stands for any."""
    faiss = _faiss()
    ids = np.maximum(candidates, 0)
    similarities = np.empty(ids.shape, dtype=np.float32)
    faiss.fvec_inner_products_by_idx(
        faiss.swig_ptr(similarities),
        faiss.swig_ptr(queries),
        faiss.swig_ptr(vectors),
        faiss.swig_ptr(ids),
        queries.shape[1],
        *ids.shape,
    )
    return np.clip(similarities, -1.0, 1.0, out=similarities)


def _best(
    ids: np.ndarray, similarities: np.ndarray, k: int, ranks: Ranks
) -> tuple[np.ndarray, np.ndarray]:
    """Give the k best of each list by rounded similarity."""
    steps = to_steps(similarities)
    columns = best_columns(ids, steps, k, ranks)
    ids = np.take_along_axis(ids, columns, axis=1).astype(np.int32)
    steps = np.take_along_axis(steps, columns, axis=1)
    return ids, from_steps(np.where(ids >= 0, steps, 0))


def to_steps(similarities: np.ndarray) -> np.ndarray:
    """Similarities as whole numbers, of which sums and comparisons are exact."""
    return np.rint(similarities * np.float32(STEPS)).astype(np.int64)


def from_steps(steps: np.ndarray) -> np.ndarray:
    """Undo `to_steps`, in float32."""
    return (steps / STEPS).astype(np.float32)


def best_columns(
    ids: np.ndarray, values: np.ndarray, k: int, ranks: Ranks
) -> np.ndarray:
    """Columns of the k entries of each row that have the largest values, best first.

    Entries with the id -1 come last. `values` are at most 4 times `STEPS` from 0.
    """
    width = ids.shape[1]
    ties = tie_order(ranks.queries[:, None], ranks.vectors[ids])
    falling = np.where(ids >= 0, 4 * STEPS - values, 2**23 - 1)
    # One sort of integers, which hold all that counts, is faster than one by two keys.
    bits = max(width - 1, 1).bit_length()
    if bits > _COLUMN_BITS:
        return np.argsort(falling << 32 | ties, axis=1, kind="stable")[:, :k]
    keys = (falling << 30 | ties >> 2) << bits | np.arange(width)
    keys.sort(axis=1)
    return keys[:, :k] & (2**bits - 1)
