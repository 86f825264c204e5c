"""Running tasks: what is kept where, what is told of it, and what goes wrong."""

from __future__ import annotations

import sys
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any
from uuid import uuid4

import dask
from dask.delayed import Delayed, delayed
from dask.highlevelgraph import HighLevelGraph
from tqdm import tqdm

# The stages whose tasks come from the caller's arrays.
_READING = {"Count", "Largest value", "Vectors"}


def persist(tasks: Sequence[Delayed], description: str, verbose: int) -> list[Delayed]:
    """Run tasks and keep their results where they were made."""
    with (
        _named_failure(description),
        _out_of_the_way(),
        tqdm(desc=description, total=len(tasks), disable=not verbose) as bar,
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
                bar.update()
        else:
            bar.update(len(tasks))
    return list(kept)


class Graph:
    """Tasks in one dictionary, for as many as the square of the number of shards.

    Delayed calls would each copy the names of all that come before them.
    """

    def __init__(self) -> None:
        self.name = f"skleiden-{uuid4().hex}"
        self.tasks: dict[str, Any] = {}
        self.inputs: list[Delayed] = []

    def add(self, function: Callable[..., Any], *arguments: Any) -> str:
        """The key of a call, whose arguments may be keys, lists of them or values."""
        key = f"{self.name}-{len(self.tasks)}"
        self.tasks[key] = (function, *arguments)
        return key

    def take(self, values: Sequence[Any]) -> list[str]:
        """The keys of tasks, and of values that go with the graph once."""
        given = [
            v if isinstance(v, Delayed) else delayed(v, traverse=False) for v in values
        ]
        self.inputs += given
        return [value.key for value in given]

    def delayed(self, keys: Sequence[str]) -> list[Delayed]:
        """Some of the tasks."""
        graph = HighLevelGraph.from_collections(
            self.name, self.tasks, dependencies=self.inputs
        )
        return [Delayed(key, graph, layer=self.name) for key in keys]


def futures_of(kept: Sequence[Delayed]) -> list[Any]:
    """Those of a cluster; none of a scheduler that has done the work by now."""
    values = [value for task in kept for value in dict(task.dask).values()]
    return [value for value in values if type(value).__name__ == "Future"]


def compute(
    tasks: Sequence[Delayed], description: str = "Gather", verbose: int = 0
) -> tuple[Any, ...]:
    """Results of tasks, in this process."""
    kept = persist(tasks, description, verbose)
    with _named_failure(description), _out_of_the_way():
        return dask.compute(*kept)


def fetch(task: Delayed) -> Any:
    """A result, in this process."""
    return compute([task])[0]


def call(function: Callable[..., Any], *arguments: Any, description: str) -> Any:
    """What a function gives of persisted results, on a worker."""
    task = delayed(function, pure=False)(*arguments)
    return compute([task], description)[0]


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
            raise RuntimeError(
                f"Stage {description!r} needs results that lie on the workers of a "
                "Dask cluster, such as chunks of a persisted X, and the current client "
                "does not have them: they were made by a client that is closed now, or "
                "that is of another cluster. Fit while their client is open and the "
                f"current one, or persist X anew. Dask says: {error}"
            ) from error
        if type(error).__name__ != "KilledWorker":
            raise
        raise MemoryError(
            f"Workers died again and again in stage {description!r}, most likely for "
            f"want of memory. {remedy} Dask says: {error}"
        ) from error
