"""Exact cosine neighbours with the help of a GPU: the only kernel that imports torch.

The card makes a shortlist of each query by products in half precision. On the CPU,
`knn.rank` then compares what is in it, as every search does, and a bound of what the
card got wrong tells whether anything else can belong to the k best. Where it can, the
query is searched again by `knn.exact_neighbors`; so the lists are that function's, bit
for bit.

The bound, of rows x and y of unit length and d columns, which the card has as rounded
rows x' and y' of entries in half precision:

- rounding: ``|x.y - x'.y'| <= |x - x'| |y| + |x'| |y - y'|``, by Cauchy and Schwarz.
  The lengths of both differences are measured. Entries have 11 bits, so that they are
  at most ``2**-11`` (but for entries below 6e-5, of absolute error ``2**-25``); in
  practice about .4 of it.
- adding up: products of two such entries are exact in single precision, in which d of
  them are added: at most ``d * 2**-22`` (Higham, "Accuracy and Stability of Numerical
  Algorithms", 2nd edition, section 3.1, has ``d * 2**-24``. Tensor cores cut off bits
  rather than round, of several terms at once, which is at most four times as much:
  Blanchard et al., "Mixed precision block fused multiply-add", SIAM J. Sci. Comput.
  42(3), 2020; Fasi et al., "Numerical behavior of NVIDIA tensor cores", PeerJ Computer
  Science 7, 2021).
- storing the sum s in half precision: at most ``2**-11 |s|``.
- the CPU's own sum, in single precision: at most ``d * 2**-24``.

In all at most ``2**-10 + 2**-11 |s| + d * 2**-21``. Of TF32, which has the same 11 bits
and gives sums in single precision, it would be ``2**-10 + d * 2**-21``; of single
precision, as ordinary processors add up, ``d * 2**-23``. But what takes the time is
writing and reading scores, which in half precision are half as many bytes.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from types import ModuleType
from typing import Any, NamedTuple

import numpy as np

from skleiden._kernels import knn  # noqa: TID251 (what is found is ranked there)

# Vectors on a shortlist beyond k. Of a real embedding 8 leave .4 to 4% of the rows
# without a proof, 16 up to .2%, and 32 none.
_SPARE = 32
# Scores are looked through by the largest of so many at a time.
_GROUP = 32
# Queries and vectors that are compared at once: at most, and at least where they are so
# many. An H100 is as fast with twice and with half as many queries.
_MOST = 2**13, 2**17
_LEAST = 2**8, 2**12
# Queries that one thread of the CPU ranks at once.
_ROWS_RANKED = 512
_ROWS_AGAIN = 8192
# How much of what is free on the card is counted on.
_SHARE = 0.8
# Rows of unit length are no longer than this: more than what `knn.off_unit` lets pass,
# which adds up in single precision, too.
_LENGTH = 1.001
_STEP = 1 / knn.STEPS
# Settings of torch by which sums of products may be kept in half precision.
_IN_HALF = "allow_fp16_reduced_precision_reduction", "allow_fp16_accumulation"

_one_at_a_time = threading.Lock()


def _torch() -> ModuleType:
    import torch  # noqa: TID251

    return torch


def find_device(name: str) -> Any:
    """Give torch's device of a name, "cuda" or "cuda:1", or say why there is none."""
    try:
        torch = _torch()
    except ImportError as error:
        raise ImportError(
            f"device={name!r} needs torch, built for CUDA: pip install "
            '"skleiden[torch]" (https://pytorch.org says which build). Or leave '
            "device='cpu'."
        ) from error
    if not torch.cuda.is_available():
        built = torch.version.cuda
        found = f"built for CUDA {built}" if built else "built without CUDA"
        raise ValueError(
            f"device={name!r} needs a GPU that torch can use, and torch "
            f"{torch.__version__}, {found}, finds none. Check with "
            "torch.cuda.is_available() after installing a driver and a build of torch "
            "for it (https://pytorch.org), or use device='cpu'."
        )
    device = torch.device(name)
    n_devices = torch.cuda.device_count()
    if device.index is not None and device.index >= n_devices:
        raise ValueError(
            f"device={name!r} does not exist: GPUs are numbered from 0, and torch "
            f"finds {n_devices}. Use one of these, or device='cpu'."
        )
    return device


def exact_neighbors(
    queries: np.ndarray,
    vectors: np.ndarray,
    k: int,
    ranks: knn.Ranks,
    *,
    device: Any,
    own: np.ndarray | None = None,
    progress: Callable[[int], object] | None = None,
) -> knn.Neighbors:
    """Give the k vectors most similar to each query, as `knn.exact_neighbors` has them.

    Parameters
    ----------
    queries, vectors, k, ranks, own, progress
        As in `knn.exact_neighbors`.

    device : torch.device
        As `find_device` gives it.

    Raises
    ------
    MemoryError
        If there is no room on the card for the smallest blocks.
    """
    n, m = queries.shape[0], vectors.shape[0]
    width = k + _SPARE + (own is not None)
    if m <= width:  # no list can be shortened
        return knn.exact_neighbors(
            queries, vectors, k, ranks, own=own, progress=progress
        )
    ids = np.empty((n, k), dtype=np.int32)
    similarities = np.empty((n, k), dtype=np.float32)
    proven = np.zeros(n, dtype=bool)

    def rank(task: tuple[slice, _Shortlists]) -> tuple[slice, Any, np.ndarray]:
        rows, lists = task
        of_rows = ranks._replace(queries=ranks.queries[rows])
        own_rows = None if own is None else own[rows]
        candidates = lists.ids.astype(np.int64)
        found = knn.rank(queries[rows], vectors, candidates, k, of_rows, own_rows)
        return rows, found, lists.prove(found[1])

    def collect(ranked: Iterator[Any]) -> None:
        for rows, found, complete in ranked:
            ids[rows], similarities[rows] = found
            proven[rows] = complete
            if progress is not None:
                progress(int(complete.sum()))

    with knn.workers(knn.n_threads()) as parallel, _Card(device) as card:
        pending: Iterator[Any] = iter(())
        for rows, lists in card.shortlists(queries, vectors, width):
            # While the CPU ranks these, the card makes the next.
            collect(pending)
            pending = parallel(rank, lists.divided(rows))
        collect(pending)
    unproven = np.flatnonzero(~proven)
    for block in knn.blocks(unproven.size, _ROWS_AGAIN):
        at = unproven[block]
        again = knn.exact_neighbors(
            queries[at],
            vectors,
            k,
            ranks._replace(queries=ranks.queries[at]),
            own=None if own is None else own[at],
            progress=progress,
        )
        ids[at], similarities[at] = again[:2]
    return knn.Neighbors(ids, similarities)


class _Shortlists(NamedTuple):
    """The vectors that score best with each query, and how similar others may be."""

    ids: np.ndarray
    others: np.ndarray

    def divided(self, rows: slice) -> list[tuple[slice, _Shortlists]]:
        """Parts of those of some queries, and whose they are."""
        return [
            (
                slice(rows.start + part.start, rows.start + part.stop),
                _Shortlists(self.ids[part], self.others[part]),
            )
            for part in knn.blocks(len(self.ids), _ROWS_RANKED)
        ]

    def prove(self, similarities: np.ndarray) -> np.ndarray:
        """Whether the k best of each list, of these similarities, are so of all.

        A similarity that is a step below another is rounded to a smaller one.
        """
        last = similarities[:, -1].astype(np.float64)
        # Similarities are clipped to -1, so that none is below it.
        return np.maximum(self.others, -1.0) < last - _STEP


def bound(d: int, error: Any, largest: Any) -> Any:
    """How far a similarity may be above the sum that the card has for it, unrounded.

    Parameters
    ----------
    d : int
        Columns.

    error : ndarray or float
        Length of what rounding took from the query.

    largest : float
        The largest such length of any of the vectors.
    """
    lengths = (_LENGTH + error) * (_LENGTH + largest)
    rounding = error * _LENGTH + (_LENGTH + error) * largest
    single = d * 2.0**-24
    return rounding + 4 * single * lengths + single / (1 - single) * _LENGTH**2


def unrounded(scores: np.ndarray) -> np.ndarray:
    """Give the largest single numbers that may have become these, in half precision."""
    scores = scores.astype(np.float64)
    return scores + np.abs(scores) * (2.0**-11 / (1 - 2.0**-11)) + 2.0**-24


class _Blocks(NamedTuple):
    """Numbers of queries and of vectors that are compared at once."""

    queries: int
    vectors: int

    def halved(self, least: _Blocks) -> _Blocks:
        """Blocks of half as many of each, but no fewer than the least."""
        return _Blocks(*(max(a // 2, b) for a, b in zip(self, least, strict=True)))

    def n_bytes(self, d: int, width: int) -> int:
        """Memory of the card that they take."""
        rows = (
            14 * d * sum(self)
        )  # in single precision, twice in half, and what differs
        scores = 2 * self.queries * (self.vectors + 2 * self.vectors // _GROUP)
        return rows + scores + self.queries * width * (4 * _GROUP + 100)


class _Card:
    """Makes shortlists on a device, as a context in which torch computes as needed."""

    def __init__(self, device: Any) -> None:
        self.device, self.torch = device, _torch()

    def __enter__(self) -> _Card:
        with ExitStack() as stack:
            stack.enter_context(self.torch.inference_mode())
            # What is set around a fit must not lower the precision inside.
            stack.enter_context(self.torch.autocast(self.device.type, enabled=False))
            stack.enter_context(_sums_in_single(self.torch))
            self.stack = stack.pop_all()
        return self

    def __exit__(self, *error: Any) -> None:
        self.stack.close()
        self.empty()

    def empty(self) -> None:
        """Give memory that torch holds for later back to the card."""
        if self.device.type == "cuda":
            self.torch.cuda.empty_cache()

    def free(self) -> int:
        """Bytes that can be had."""
        if self.device.type != "cuda":
            return 2**30
        cuda = self.torch.cuda
        unused = cuda.memory_reserved(self.device) - cuda.memory_allocated(self.device)
        return int(cuda.mem_get_info(self.device)[0] + unused)

    def shortlists(
        self, queries: np.ndarray, vectors: np.ndarray, width: int
    ) -> Iterator[tuple[slice, _Shortlists]]:
        """Find the `width` best vectors of blocks of queries, and whose they are."""
        (n, d), m = queries.shape, vectors.shape[0]
        whole = _Blocks(n, -(-m // _GROUP) * _GROUP)
        blocks, least = (_Blocks(*map(min, sizes, whole)) for sizes in (_MOST, _LEAST))
        free = _SHARE * self.free()
        while (needed := blocks.n_bytes(d, width)) > free:
            if blocks == least:
                self._refuse(needed)
            blocks = blocks.halved(least)
        others = self._columns(vectors, blocks, stay=needed + 2 * m * d <= free)
        start = 0
        while start < n:
            rows = slice(start, min(start + blocks.queries, n))
            lists = self._unless_full(queries[rows], others, width)
            if lists is not None:
                yield rows, lists
                start = rows.stop
                continue
            if blocks == least:
                self._refuse(blocks.n_bytes(d, width))
            blocks = blocks.halved(least)
            others = self._columns(vectors, blocks, stay=False)
            self.empty()

    def _refuse(self, needed: int) -> None:
        mb = 2**20
        raise MemoryError(
            f"A search on device={str(self.device)!r} needs {-(-needed // mb)} MB of "
            f"its memory for the smallest blocks, and {self.free() // mb} MB are free. "
            "Free some (what another process holds, or tensors of this one), use "
            "another device, or device='cpu'."
        )

    def _unless_full(
        self, queries: np.ndarray, others: _Columns, width: int
    ) -> _Shortlists | None:
        """Shortlists of some queries, None if there is no room for them."""
        try:
            return self._shortlist(queries, others, width)
        except RuntimeError as error:
            if not _is_full(error):
                raise
        return None  # not within "except", which holds what lies on the card

    def _shortlist(
        self, queries: np.ndarray, others: _Columns, width: int
    ) -> _Shortlists:
        torch, m = self.torch, others.vectors.shape[0]
        rows, errors = self.upload(queries, len(queries))
        values = rows.new_empty((len(rows), 0))
        ids = values.long()
        largest = 0.0
        for start, block, error in others:
            scores = rows @ block.T
            scores[:, m - start :] = -torch.inf  # what fills the last block
            some, places = _largest(scores, width)
            del scores
            # The best so far, and of this block.
            values, ids = (
                torch.hstack([values, some]),
                torch.hstack([ids, places + start]),
            )
            values, at = values.topk(min(width, values.shape[1]), sorted=False)
            ids = ids.gather(1, at)
            largest = max(largest, error)
        last = unrounded(values.amin(dim=1).cpu().numpy())
        allowed = bound(queries.shape[1], errors.cpu().numpy(), largest)
        return _Shortlists(ids.int().cpu().numpy(), last + allowed)

    def upload(self, rows: np.ndarray, n_rows: int) -> tuple[Any, Any]:
        """Rows in half precision, with zero rows behind them, and lengths of errors."""
        torch, device = self.torch, self.device
        exact = torch.tensor(rows, device=device)
        half = torch.zeros((n_rows, rows.shape[1]), dtype=torch.float16, device=device)
        half[: len(rows)] = exact
        exact -= half[: len(rows)]
        return half, torch.linalg.vector_norm(exact, dim=1, dtype=torch.float64)

    def _columns(self, vectors: np.ndarray, blocks: _Blocks, *, stay: bool) -> _Columns:
        return _Columns(self, vectors, blocks.vectors, [] if stay else None)


class _Columns(NamedTuple):
    """Blocks of vectors on the card, which stay there if there is room for all."""

    card: _Card
    vectors: np.ndarray
    size: int
    kept: list[tuple[int, Any, float]] | None

    def __iter__(self) -> Any:
        yield from self.kept or ()
        first = len(self.kept or ())
        for rows in knn.blocks(len(self.vectors), self.size)[first:]:
            n_rows = -(-(rows.stop - rows.start) // _GROUP) * _GROUP
            block, errors = self.card.upload(self.vectors[rows], n_rows)
            entry = rows.start, block, float(errors.max())
            if self.kept is not None:
                self.kept.append(entry)
            yield entry


def _largest(scores: Any, width: int) -> tuple[Any, Any]:
    """Give the largest of each row, in any order, and where they are.

    If a score is among the so many largest, so is its group's largest among those of
    all groups. This reads the scores once, which finding the largest of all does not.
    """
    n, size = scores.shape
    n_groups = size // _GROUP
    if n_groups <= 2 * width:
        return tuple(scores.topk(min(width, size), dim=1, sorted=False))
    groups = scores.view(n, _GROUP, n_groups)
    near = groups.amax(dim=1).topk(width, dim=1, sorted=False).indices
    some = groups.gather(2, near[:, None, :].expand(-1, _GROUP, -1)).flatten(1)
    values, at = some.topk(width, dim=1, sorted=False)
    return values, at // width * n_groups + near.gather(1, at % width)


@contextmanager
def _sums_in_single(torch: ModuleType) -> Iterator[None]:
    """Have products in half precision added up in single precision throughout.

    The settings are the whole process's, so that searches in several threads, one of
    which would end while others go on, are made one after the other.
    """
    matmul = torch.backends.cuda.matmul
    with _one_at_a_time:
        before = {name: getattr(matmul, name, None) for name in _IN_HALF}
        # Older versions of torch do not have all of them.
        there = [name for name, value in before.items() if value is not None]
        try:
            for name in there:
                setattr(matmul, name, False)
            yield
        finally:
            for name in there:
                setattr(matmul, name, before[name])


def _is_full(error: RuntimeError) -> bool:
    """Whether the card has no memory left, as torch and its libraries tell it."""
    return "out of memory" in str(error) or "ALLOC_FAILED" in str(error)
