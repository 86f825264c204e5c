"""The exploratory recipe that skleiden replaces, kept only to be measured against.

One function for each stage of the notebook in which the method was first tried:

1. `sketch`: per layer, TF-IDF, row normalisation and CountSketch in batches of rows;
   the layers are normalised, concatenated and normalised again.
2. `neighbors`: approximate nearest neighbours in a FAISS HNSW index.
3. `mutual_edges`: the pairs that appear in both directions.
4. `leiden`: leidenalg's RBConfiguration objective on an igraph graph.

`run` chains them and times each. The parameters, the random draws and the results are
the notebook's, and so are its faults, because they decide what it finds and what it
costs. Do not use it for anything but comparison. Its known faults:

- `layer_weights` does nothing: each weight is divided out again by the normalisation of
  its layer. The row normalisation before the sketch is divided out in the same way.
- A row with fewer than `k` neighbours is padded with its first one, and a neighbour
  listed twice in one direction then passes for a mutual one.
- Neighbours are cut to `k` in no particular order among equals, so that identical rows
  are mostly not each other's neighbours: they end in many communities.
- An all-zero row is clustered like any other. It counts as having cosine .5 to every
  row, so that many of them crowd out the real neighbours.
- Weights are cosines that may be negative, at which leidenalg raises a bare
  `BaseException`. NaN goes through unnoticed (and can hang the search of old FAISS).
- The index is built by several threads, in no fixed order with the FAISS releases that
  lack its deterministic build: a seed then does not fix the result.
- Everything, the index included, is kept until the end.
- Rows are visited in a Python loop, and edges reach igraph as tuples of NumPy integers.
"""

from __future__ import annotations

from collections.abc import Sequence
from time import perf_counter
from typing import Any, NamedTuple

import faiss
import igraph
import leidenalg
import numpy as np
import scipy.sparse as sp

SEARCH_ROWS = 8192  # queries handed to the index at a time


class Neighbors(NamedTuple):
    """The `k` neighbours of each row, most similar first, with their cosines.

    `workspace` holds the index and its raw answers, which the notebook keeps until it
    returns: they count in its peak memory.
    """

    indices: np.ndarray
    similarities: np.ndarray
    workspace: tuple[Any, ...] = ()


class Edges(NamedTuple):
    """Undirected edges, each with `source < target`."""

    source: np.ndarray
    target: np.ndarray
    weight: np.ndarray


class Result(NamedTuple):
    """What `run` returns; `seconds` maps the name of a stage to its duration."""

    labels: np.ndarray
    edges: Edges
    quality: float
    seconds: dict[str, float]
    embedding: np.ndarray
    neighbors: Neighbors


def draw_hashes(
    rng: np.random.RandomState, n_columns: int, n_buckets: int
) -> tuple[np.ndarray, np.ndarray]:
    """Give each column a random bucket and a random sign, in this order of draws."""
    buckets = rng.randint(0, n_buckets, size=n_columns, dtype=np.int32)
    signs = rng.choice(np.array([-1, 1], dtype=np.int8), size=n_columns)
    return buckets, signs


def unit_rows(x: np.ndarray) -> np.ndarray:
    """Divide each row, in place, by its length; zero rows stay zero."""
    x /= np.maximum(np.linalg.norm(x, axis=1, keepdims=True), 1e-8)
    return x


def join_layers(blocks: Sequence[np.ndarray]) -> np.ndarray:
    """Concatenate the layers' sketches and normalise the rows of the whole."""
    return unit_rows(np.concatenate(blocks, axis=1).astype(np.float32))


def _tfidf_unit_rows(rows: sp.csr_array, idf: np.ndarray) -> sp.csr_array:
    weighted = rows @ sp.diags_array(idf, format="csr")
    squared = weighted.multiply(weighted).sum(axis=1)
    scale = np.float32(1) / np.sqrt(np.maximum(squared, np.float32(1e-12)))
    return sp.diags_array(scale, format="csr") @ weighted


def _count_sketch(
    rows: sp.csr_array, buckets: np.ndarray, signs: np.ndarray, n_buckets: int
) -> np.ndarray:
    entries = rows.tocoo()
    signed = entries.data * signs[entries.col].astype(np.float32)
    hashed = sp.coo_array(
        (signed, (entries.row, buckets[entries.col])), shape=(rows.shape[0], n_buckets)
    )
    hashed.sum_duplicates()
    return hashed.toarray()


def sketch(
    layers: Sequence[Any],
    *,
    rp_dim: int | Sequence[int] = 64,
    layer_weights: Sequence[float] | None = None,
    batch_rows: int = 2048,
    seed: int = 42,
) -> np.ndarray:
    """Embed the rows of all layers: (n_samples, total `rp_dim`), float32, unit rows."""
    dims = [rp_dim] * len(layers) if isinstance(rp_dim, int) else list(rp_dim)
    rng = np.random.RandomState(seed)
    blocks = []
    for number, (layer, dim) in enumerate(zip(layers, dims, strict=True)):
        x = sp.csr_array(layer, dtype=np.float32)
        n_rows, n_columns = x.shape
        document_frequency = np.diff(x.tocsc().indptr).astype(np.float32)
        idf = np.log(np.float32(n_rows + 1) / (document_frequency + 1)) + 1
        buckets, signs = draw_hashes(rng, n_columns, dim)

        block = np.empty((n_rows, dim), dtype=np.float32)
        for start in range(0, n_rows, batch_rows):
            batch = slice(start, start + batch_rows)
            weighted = _tfidf_unit_rows(x[batch], idf)
            block[batch] = _count_sketch(weighted, buckets, signs, dim)
            if layer_weights is not None:
                block[batch] *= np.sqrt(np.float32(layer_weights[number]))
        blocks.append(unit_rows(block))
    return join_layers(blocks)


def neighbors(
    embedding: np.ndarray,
    *,
    k: int = 40,
    hnsw_M: int = 32,
    efConstruction: int = 200,
    efSearch: int = 64,
) -> Neighbors:
    """Search an HNSW index for `k + 8` neighbours of each row and keep `k` others."""
    n_rows, n_columns = embedding.shape
    index = faiss.IndexHNSWFlat(n_columns, hnsw_M)
    index.hnsw.efConstruction = efConstruction
    index.hnsw.efSearch = efSearch
    index.add(embedding)

    searched = min(max(2, k + 8), n_rows)
    found = np.empty((n_rows, searched), dtype=np.int64)
    squared_distances = np.empty((n_rows, searched), dtype=np.float32)
    for start in range(0, n_rows, SEARCH_ROWS):
        batch = slice(start, start + SEARCH_ROWS)
        squared_distances[batch], found[batch] = index.search(
            embedding[batch], searched
        )

    indices = np.empty((n_rows, k), dtype=np.int32)
    similarities = np.empty((n_rows, k), dtype=np.float32)
    for row in range(n_rows):
        others = (found[row] >= 0) & (found[row] != row)
        candidates = found[row][others]
        cosines = 1 - squared_distances[row][others] / 2  # the rows have length 1
        best = np.argsort(-cosines)[:k]
        if best.size == 0:
            indices[row], similarities[row] = row, 0
            continue
        indices[row, : best.size] = candidates[best]
        similarities[row, : best.size] = cosines[best]
        indices[row, best.size :] = indices[row, 0]
        similarities[row, best.size :] = similarities[row, 0]
    return Neighbors(indices, similarities, (index, found, squared_distances))


def mutual_edges(nearest: Neighbors) -> Edges:
    """Keep the pairs listed twice, with the mean of both similarities as weight."""
    n_rows, k = nearest.indices.shape
    row = np.repeat(np.arange(n_rows, dtype=np.int32), k)
    neighbor = nearest.indices.ravel()
    similarity = nearest.similarities.ravel()
    valid = (neighbor >= 0) & (neighbor != row)
    row, neighbor, similarity = row[valid], neighbor[valid], similarity[valid]

    low, high = np.minimum(row, neighbor), np.maximum(row, neighbor)
    order = np.lexsort((high, low))
    low, high, similarity = low[order], high[order], similarity[order]
    repeated = (low[1:] == low[:-1]) & (high[1:] == high[:-1])
    second = np.flatnonzero(repeated) + 1
    weight = (similarity[second - 1] + similarity[second]) / 2
    return Edges(low[second], high[second], weight)


def leiden(
    edges: Edges,
    n_rows: int,
    *,
    resolution: float = 1.0,
    seed: int = 42,
    edge_chunk: int = 200_000,
) -> tuple[np.ndarray, float]:
    """Fill a graph chunk by chunk and return its Leiden labels and their quality."""
    graph = igraph.Graph()
    graph.add_vertices(n_rows)
    for start in range(0, len(edges.source), edge_chunk):
        chunk = slice(start, start + edge_chunk)
        graph.add_edges(zip(edges.source[chunk], edges.target[chunk], strict=True))
        graph.es[chunk]["weight"] = edges.weight[chunk].tolist()
    partition = leidenalg.find_partition(
        graph,
        leidenalg.RBConfigurationVertexPartition,
        weights="weight",
        resolution_parameter=resolution,
        seed=seed,
    )
    return np.asarray(partition.membership, dtype=np.int32), partition.quality()


def run(
    layers: Sequence[Any],
    *,
    rp_dim: int | Sequence[int] = 64,
    k: int = 40,
    hnsw_M: int = 32,
    efConstruction: int = 200,
    efSearch: int = 64,
    batch_rows: int = 2048,
    resolution: float = 1.0,
    seed: int = 42,
    layer_weights: Sequence[float] | None = None,
    edge_chunk: int = 200_000,
) -> Result:
    """Run all stages on a list of layer matrices that share their rows."""
    clock = [perf_counter()]
    embedding = sketch(
        layers,
        rp_dim=rp_dim,
        layer_weights=layer_weights,
        batch_rows=batch_rows,
        seed=seed,
    )
    clock.append(perf_counter())
    nearest = neighbors(
        embedding,
        k=k,
        hnsw_M=hnsw_M,
        efConstruction=efConstruction,
        efSearch=efSearch,
    )
    clock.append(perf_counter())
    edges = mutual_edges(nearest)
    clock.append(perf_counter())
    labels, quality = leiden(
        edges,
        embedding.shape[0],
        resolution=resolution,
        seed=seed,
        edge_chunk=edge_chunk,
    )
    clock.append(perf_counter())
    seconds = dict(
        zip(
            ("sketch", "neighbors", "mutual_edges", "leiden"),
            np.diff(clock).tolist(),
            strict=True,
        )
    )
    return Result(labels, edges, quality, seconds, embedding, nearest)
