"""Running functions of blocks on the workers of a cluster: here Dask comes in.

Handles are tasks, run by whatever scheduler is the default: a cluster's, where a
:class:`distributed.Client` is open. What is kept is persisted on the workers, which
make it again if one of them is lost.
"""

from __future__ import annotations

import sys
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import reduce
from itertools import pairwise
from typing import Any, NamedTuple
from uuid import uuid4

import dask
import dask.array as da
import numpy as np
import scipy.sparse as sp
from dask.delayed import Delayed, delayed
from dask.highlevelgraph import HighLevelGraph

from skleiden._progress import progress

from .rows import side_by_side, sparse_dtype
from .sparse import check_sparse
from .stored import ZarrPlace, place_of_zarr

# The stages whose tasks come from the caller's arrays.
_READING = {"Count", "Largest value", "Vectors"}
# Results merged by one task of a tree.
_FAN_IN = 8


class _Call(NamedTuple):
    """A call that has not been run: good until the next results are kept or fetched."""

    key: str


class OnWorkers:
    """Runs functions as tasks of Dask.

    Tasks are in one dictionary, for as many as the square of the number of blocks:
    delayed calls would each copy the names of all that come before them.
    """

    def __init__(self, verbose: int = 0) -> None:
        self.verbose = verbose
        self._start()

    def _start(self) -> None:
        self._name = f"skleiden-{uuid4().hex}"
        self._tasks: dict[str, Any] = {}
        self._inputs: dict[Any, Delayed] = {}

    def put(self, value: Any) -> Any:
        """Give a task that is the value, sent with the graph once."""
        return delayed(value, traverse=False)

    def call(self, function: Callable[..., Any], *arguments: Any) -> Any:
        """Give a handle of a call, to be run when its result is asked for."""
        key = f"{self._name}-{len(self._tasks)}"
        self._tasks[key] = (function, *map(self._taken, arguments))
        return _Call(key)

    def _taken(self, argument: Any) -> Any:
        """Give the argument with keys in place of tasks."""
        if isinstance(argument, _Call):
            return argument.key
        if isinstance(argument, Delayed):
            if argument.key not in self._inputs:
                # Chunks of persisted arrays have tuples for keys, which stand for
                # nothing where they are not in the graph: a call of their own takes in
                # what they are.
                is_name = isinstance(argument.key, str)
                task = argument if is_name else delayed(_same, pure=False)(argument)
                self._inputs[argument.key] = task
            return self._inputs[argument.key].key
        if type(argument) is list:
            return [self._taken(item) for item in argument]
        return argument

    def keep(self, handles: Sequence[Any], description: str) -> list[Any]:
        """Run tasks and keep their results where they were made."""
        # Some versions of Dask's scheduler wait for ever for what is not theirs.
        if (why := self.why_lost(list(self._inputs.values()))) is not None:
            raise _lost(description, why)
        tasks = self.delayed(handles)
        with (
            _named_failure(description),
            _out_of_the_way(),
            progress(
                description, len(tasks), shown=self.verbose > 0, unit="task"
            ) as update,
        ):
            with warnings.catch_warnings():
                if description not in _READING:  # what is sent is not the caller's
                    warnings.filterwarnings("ignore", "Sending large graph")
                kept = dask.persist(*tasks)
            futures = futures_of(kept)
            if futures:
                from distributed import as_completed

                for future in as_completed(futures):
                    if future.status != "finished":  # which raises what happened to it
                        future.result()
                    update()
            else:
                update(len(tasks))
        return list(kept)

    def delayed(self, handles: Sequence[Any]) -> list[Delayed]:
        """Give handles as delayed tasks; the next calls begin another graph."""
        graph = HighLevelGraph.from_collections(
            self._name, self._tasks, dependencies=list(self._inputs.values())
        )
        layer = self._name
        self._start()
        return [
            Delayed(handle.key, graph, layer=layer)
            if isinstance(handle, _Call)
            else handle
            for handle in handles
        ]

    def fetch(self, handles: Sequence[Any], description: str = "Gather") -> list[Any]:
        """Give results of tasks, in this process."""
        kept = self.keep(handles, description)
        with _named_failure(description), _out_of_the_way():
            return list(dask.compute(*kept))

    def fold(
        self, merge: Callable[[Any, Any], Any], handles: Sequence[Any], description: str
    ) -> Any:
        """Give values of tasks, merged in a tree, in this process."""
        tasks = list(handles)
        while len(tasks) > 1:
            tasks = [
                self.call(_reduced, merge, tasks[i : i + _FAN_IN])
                for i in range(0, len(tasks), _FAN_IN)
            ]
        (result,) = self.fetch(tasks, description)
        return result

    def rows(
        self, handles: Sequence[Any], sizes: Sequence[int], width: int, dtype: np.dtype
    ) -> Any:
        """Give a lazy array of blocks of rows."""
        return _array(
            self.delayed(handles), sizes, width, np.empty((0, 0), dtype=dtype)
        )

    def threads(self, n_jobs: int | None) -> int | None:
        """Leave it to the workers, which have threads of their own."""
        return None

    def at_hand(self, handles: Sequence[Any]) -> list[Any]:
        """Give none: they are with the workers."""
        return []

    def why_lost(self, handles: Sequence[Any]) -> str | None:
        """Say whether the client of kept results is the current one, and open."""
        futures = futures_of(handles)
        if any(f.cancelled() or f.client.status != "running" for f in futures):
            return "the client that made them is closed or was restarted"
        if any(_is_elsewhere(future) for future in futures):
            return "the current client belongs to another cluster"
        return None

    def portable(self, handles: Sequence[Any]) -> list[Any]:
        """Leave out what lies on a cluster."""
        return [] if futures_of(handles) else list(handles)

    def __reduce__(self) -> tuple[Any, ...]:
        return OnWorkers, (self.verbose,)

    @contextmanager
    def progress(self, description: str, total: int) -> Iterator[None]:
        """Leave it to the tasks that are kept."""
        yield None


def futures_of(kept: Sequence[Any]) -> list[Any]:
    """Those of a cluster; none of a scheduler that has done the work by now."""
    graphs = {id(task.dask): task.dask for task in kept}  # shared by an array's chunks
    values = [value for graph in graphs.values() for value in dict(graph).values()]
    return [value for value in values if type(value).__name__ == "Future"]


def _is_elsewhere(future: Any) -> bool:
    """Whether a result lies with other workers than those of the current client."""
    from distributed import get_client

    try:
        current = get_client()
    except ValueError:  # there is none, and the future's own is asked
        return False
    here, there = current.scheduler.address, future.client.scheduler.address
    return bool(here != there)


@contextmanager
def _out_of_the_way() -> Iterator[None]:
    """Free the worker's thread that waits here, if it is one, for what it waits for.

    So it is where a search of parameters runs on the workers as well.
    """
    if "distributed" not in sys.modules:
        yield
        return
    from distributed import get_worker, worker_client

    try:
        get_worker()
    except ValueError:
        yield
        return
    with worker_client():
        yield


def _is_lost(error: Exception) -> bool:
    """Whether Dask says that what a task stands on is gone."""
    kinds = {kind.__name__ for kind in type(error).__mro__}
    # Without any client it looks in the graph, in which persisted results are not.
    return "CancelledError" in kinds or str(error).startswith("Missing dependency")


def _lost(description: str, why: str) -> RuntimeError:
    return RuntimeError(
        f"Stage {description!r} needs results that lie on the workers of a Dask "
        "cluster, such as chunks of a persisted X, but the current client does not "
        "have them: they were made by a client that is closed now, or that belongs to "
        "another cluster. Fit while that client is open and the current one, or "
        f"persist X again. The reason: {why}."
    )


@contextmanager
def _named_failure(description: str) -> Iterator[None]:
    """Say what failed: a worker's memory, or a client that is no longer the one."""
    remedy = (
        "Give the workers more memory, or X in smaller chunks of rows (of the layers), "
        "or run fewer threads in each worker."
    )
    try:
        yield
    except MemoryError as error:
        raise MemoryError(
            f"A worker had too little memory in stage {description!r}: {error}. "
            f"{remedy}"
        ) from error
    except Exception as error:
        if _is_lost(error):
            raise _lost(description, f"Dask says {str(error)!r}") from error
        if type(error).__name__ != "KilledWorker":
            raise
        raise MemoryError(
            f"Workers died repeatedly in stage {description!r}, most likely because "
            f"they ran out of memory. {remedy} Dask says: {error}"
        ) from error


def row_blocks(arrays: Sequence[Any]) -> Iterator[tuple[int, int, list[list[Delayed]]]]:
    """Start, number of rows, and chunks, of each block of rows of some arrays.

    They are cut into rows as the first of them is; blocks without rows are left out.
    """
    rows = arrays[0].chunks[0]
    aligned = [a if a.chunks[0] == rows else a.rechunk({0: rows}) for a in arrays]
    # Optimised by some versions, the graph of a persisted array is without its results.
    chunks = [a.to_delayed(optimize_graph=not futures_of([a])) for a in aligned]
    starts = np.cumsum([0, *rows]).tolist()
    for i, (start, stop) in enumerate(pairwise(starts)):
        if stop > start:
            yield start, stop - start, [list(of_array[i]) for of_array in chunks]


def _same(value: Any) -> Any:
    if isinstance(value, tuple):  # the name of a chunk that is not there
        raise ValueError(f"Missing dependency {value!r}")  # noqa: TRY004
    return value


def _reduced(merge: Callable[[Any, Any], Any], values: list[Any]) -> Any:
    return reduce(merge, values)


def _array(
    tasks: Sequence[Delayed], sizes: Sequence[int], width: int, meta: Any
) -> Any:
    """Give a lazy array of blocks of rows, dense or sparse as `meta` is."""
    return _grid([[task] for task in tasks], (tuple(sizes), (width,)), meta)


def _grid(
    tasks: Sequence[Sequence[Delayed]], chunks: tuple[tuple[int, ...], ...], meta: Any
) -> Any:
    """Give a lazy array of chunks, one task each, in rows and columns."""
    name = f"skleiden-{uuid4().hex}"
    blocks = {
        (name, i, j): (_same, task.key)
        for i, row in enumerate(tasks)
        for j, task in enumerate(row)
    }
    needed = [task for row in tasks for task in row]
    graph = HighLevelGraph.from_collections(name, blocks, dependencies=needed)
    return da.Array(graph, name, chunks, meta=meta)


# Columns are brought together in blocks of about this many bytes.
_COLUMN_BYTES = 2**27


def map_columns(function: Callable[[int, Any], Any], X: Any) -> Any:
    """Apply a function to blocks of whole columns, lazily; chunks are those of X."""
    n, width = X.shape
    if sp.issparse(X._meta):  # of which Dask cannot join or cut chunks
        runner = OnWorkers()
        blocks = [chunks for _, _, (chunks,) in row_blocks([X])]
        rows = [runner.call(side_by_side, chunks) for chunks in blocks]
        whole = runner.call(_of_rows, function, rows)
        bounds = np.cumsum([0, *(size for size in X.chunks[0] if size)]).tolist()
        parts = runner.delayed(
            [runner.call(_rows, whole, a, b) for a, b in pairwise(bounds)]
        )
        return _array(parts, np.diff(bounds).tolist(), width, X._meta)
    wide = max(1, _COLUMN_BYTES // max(1, n * X.dtype.itemsize))
    columns = X.rechunk((n, min(wide, width) or 1))
    starts = np.cumsum([0, *columns.chunks[1]]).tolist()
    found = columns.map_blocks(
        _of_columns, function, starts, dtype=X.dtype, meta=np.empty((0, 0), X.dtype)
    )
    return found.rechunk(X.chunks)


def transposed(layers: Sequence[Any]) -> Any:
    """Give the columns of some arrays, one array below the other, as rows, lazily."""
    if not any(sp.issparse(layer._meta) for layer in layers):
        n = layers[0].shape[0]
        size = max(layer.dtype.itemsize for layer in layers)
        wide = max(1, _COLUMN_BYTES // max(1, n * size))
        return da.concatenate(
            [layer.rechunk({1: min(wide, layer.shape[1])}).T for layer in layers]
        )
    # Of sparse arrays Dask cannot join chunks: one block of rows is one layer.
    runner = OnWorkers()
    dtype = sparse_dtype(np.result_type(*(layer.dtype for layer in layers)))
    blocks = list(row_blocks(layers))
    calls = [
        runner.call(_turned, chunks, dtype)
        for i in range(len(layers))
        for _, _, of_layers in blocks
        for chunks in [of_layers[i]]
    ]
    tasks, step = runner.delayed(calls), len(blocks)
    grid = [tasks[i : i + step] for i in range(0, len(tasks), step)]
    widths = tuple(layer.shape[1] for layer in layers)
    sizes = tuple(n_rows for _, n_rows, _ in blocks)
    return _grid(grid, (widths, sizes), sp.csr_array((0, 0), dtype=dtype))


def _turned(chunks: list[Any], dtype: np.dtype) -> Any:
    block = side_by_side(chunks)
    if sp.issparse(block):
        check_sparse(block, "X")
    return sp.csr_array(block.T.astype(dtype, copy=False))


def _of_columns(
    block: Any,
    function: Callable[[int, Any], Any],
    starts: list[int],
    block_info: Any = None,
) -> Any:
    place = block_info[0]["chunk-location"][1]
    return function(starts[place], block)


def _of_rows(function: Callable[[int, Any], Any], rows: list[Any]) -> Any:
    for block in rows:
        check_sparse(block, "X")
    return function(0, sp.csr_array(sp.vstack(rows, format="csr")))


def _rows(matrix: Any, start: int, stop: int) -> Any:
    return matrix[start:stop]


def each_block(array: Any) -> Iterator[np.ndarray]:
    """Blocks of the rows of an array, one after the other, in this process."""
    runner = OnWorkers()
    for _, _, (chunks,) in row_blocks([array]):
        yield from runner.fetch([runner.call(side_by_side, chunks)])


class Parts(NamedTuple):
    """A Dask array of Zarr arrays on this disk, of which the places are known.

    Stands for the array in a pickle, as `ZarrPlace` does for a Zarr array.
    """

    graph: dict[Any, Any]
    name: str
    chunks: tuple[tuple[int, ...], ...]
    meta: Any

    def open(self) -> Any:
        """Give the array, of what the Zarr arrays hold now."""
        graph = {
            key: value.open() if isinstance(value, ZarrPlace) else value
            for key, value in self.graph.items()
        }
        return da.Array(graph, self.name, self.chunks, meta=self.meta)


def packed(array: Any) -> Any:
    """Give what a pickle holds of a Dask array, equal before and after it was used."""
    graph = dict(array.dask)
    places = {key: place_of_zarr(value) for key, value in graph.items()}
    known = {key: place for key, place in places.items() if place is not None}
    if not known:
        return array
    return Parts(graph | known, array.name, array.chunks, array._meta)
