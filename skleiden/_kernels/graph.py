"""Neighbour lists to symmetric weighted graphs."""

from __future__ import annotations

import numpy as np
import scipy.sparse as sp

_EDGES_AT_ONCE = 2**17

# UMAP's constants: steps of its search for a scale, and the least scale, as a share of
# the mean distance.
_HALVINGS = 40
_LEAST_SCALE = 1e-3


def directed_graph(
    ids: np.ndarray, similarities: np.ndarray, n_columns: int | None = None
) -> sp.csr_array:
    """CSR array of the lists' positive similarities, row i holding the list of i.

    A non-positive similarity makes no edge: modularity is not defined for it.
    `n_columns` is the number of rows that can be listed, that of the lists if None.
    """
    kept = (ids >= 0) & (similarities > 0)
    indptr = np.append(0, np.cumsum(kept.sum(axis=1)))
    if indptr[-1] <= np.iinfo(np.int32).max:
        # SciPy would raise the ids to 64 bits with it: twice the memory.
        indptr = indptr.astype(np.int32)
    graph = sp.csr_array(
        (similarities[kept], ids[kept], indptr),
        shape=(ids.shape[0], n_columns or ids.shape[0]),
    )
    graph.sort_indices()
    return graph


def mutual_graph(
    forward: sp.csr_array, backward: sp.csr_array, *, symmetric: bool
) -> sp.csr_array:
    """Edges listed by both ends, weighted by the mean of both similarities.

    `forward` holds what some rows list of others, `backward`, of the same shape, what
    the others list of the rows. `symmetric` says that both ends are known to state one
    similarity, as in lists of one search; of lists from elsewhere the mean is computed.
    """
    mutual = forward.minimum(backward)
    if not symmetric:
        mutual = (forward + backward).multiply(mutual.astype(bool)) * 0.5
    return sp.csr_array(mutual)


def union_graph(forward: sp.csr_array, backward: sp.csr_array) -> sp.csr_array:
    """Edges listed by either end, weighted by the larger similarity."""
    return sp.csr_array(forward.maximum(backward))


def jaccard_weights(
    graph: sp.csr_array, lists: sp.csr_array, others: sp.csr_array
) -> sp.csr_array:
    """Weight each edge by the overlap of its ends' lists, |A & B| / |A | B|.

    As PhenoGraph does (Levine et al., 2015); edges without overlap are dropped. Of a
    graph between some rows and others, `lists` are those of the rows.
    """
    listed = lists.astype(bool).astype(np.float32)
    listed_there = others.astype(bool).astype(np.float32)
    sizes, sizes_there = np.diff(listed.indptr), np.diff(listed_there.indptr)
    weighted = graph.tocoo()
    weights = np.empty(weighted.nnz, dtype=np.float32)
    for start in range(0, weighted.nnz, _EDGES_AT_ONCE):
        edges = slice(start, start + _EDGES_AT_ONCE)
        rows, columns = weighted.row[edges], weighted.col[edges]
        both = listed[rows].multiply(listed_there[columns])
        common = np.asarray(both.sum(axis=1))
        weights[edges] = common / (sizes[rows] + sizes_there[columns] - common)
    result = sp.csr_array(
        (weights, graph.indices, graph.indptr), shape=graph.shape, copy=True
    )
    result.eliminate_zeros()  # in place: of a copy, so that the graph keeps its edges
    return result


def local_strengths(directed: sp.csr_array) -> sp.csr_array:
    """Strength of each row's ties, on the scale of its own neighbourhood.

    ``exp(-(distance - least) / scale)`` of cosine distances, `least` being that to the
    nearest neighbour, and `scale` such that a row's strengths add up to the binary
    logarithm of their number and 1, as in UMAP (McInnes, Healy, Melville, 2018).
    """
    n, sizes = directed.shape[0], np.diff(directed.indptr)
    row = np.repeat(np.arange(n), sizes)
    distances = 1 - directed.data.astype(np.float64)
    least = np.full(n, np.inf)
    np.minimum.at(least, row, distances)
    beyond = np.maximum(distances - least[row], 0)
    mean = np.bincount(row, distances, minlength=n) / np.maximum(sizes, 1)
    low = np.maximum(_LEAST_SCALE * mean, np.finfo(np.float32).tiny)
    high = np.full(n, 1e3)
    for _ in range(_HALVINGS):  # on a logarithmic scale
        scale = np.sqrt(low * high)
        total = np.bincount(row, np.exp(-beyond / scale[row]), minlength=n)
        wide = total > np.log2(sizes + 1)
        high, low = np.where(wide, scale, high), np.where(wide, low, scale)
    strengths = np.exp(-beyond / low[row]).astype(np.float32)
    graph = sp.csr_array(
        (strengths, directed.indices, directed.indptr), shape=directed.shape, copy=True
    )
    # Of ties too weak for single precision; in place, of a copy: the lists stay.
    graph.eliminate_zeros()
    return graph


def fuzzy_union(forward: sp.csr_array, backward: sp.csr_array) -> sp.csr_array:
    """Edges of either direction: ``a + b - a * b``, as of chances that one holds."""
    return sp.csr_array(forward + backward - forward.multiply(backward))


def fuzzy_mutual(forward: sp.csr_array, backward: sp.csr_array) -> sp.csr_array:
    """Edges of both directions, weighted by the geometric mean of both strengths."""
    # The roots first: products may vanish.
    return sp.csr_array(forward.sqrt().multiply(backward.sqrt()))


def spread_rows(
    graph: sp.csr_array, first: np.ndarray, inverse: np.ndarray, repeats: np.ndarray
) -> sp.csr_array:
    """Graph of distinct rows as a graph of all rows.

    Each row that repeats an earlier one is joined to the first of its kind by an edge
    of weight 1, their similarity; zero rows (-1 in `inverse`) have no edge.
    """
    n = inverse.size
    if first.size == n:
        return graph
    entries = graph.tocoo()
    kind = first[inverse[repeats]]
    rows = np.concatenate([first[entries.row], repeats, kind])
    columns = np.concatenate([first[entries.col], kind, repeats])
    weights = np.append(entries.data, np.ones(2 * repeats.size, dtype=np.float32))
    # 32-bit indices: half the memory, and what other libraries expect of a graph.
    return sp.csr_array(
        (weights, (rows.astype(np.int32), columns.astype(np.int32))), shape=(n, n)
    )
