"""Threads that share tasks, for which Python's lock is taken as rarely as can be.

A future for each task, as `concurrent.futures` has it, wakes the main thread for each,
with the lock, for which all others wait. Here threads take the next task by themselves,
and the main thread sleeps until they are through.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from queue import SimpleQueue
from threading import Lock, Thread
from typing import Any

# How often, in seconds, the main thread looks for results while others work.
_SECONDS = 0.2


class Pool:
    """Some threads, as a context, on leaving which they have ended.

    Where it is left by an error, no further task is begun.

    Parameters
    ----------
    n_threads : int
        As many at most; each is started when there are tasks for it.

    prepare : callable
        Called in each thread before its tasks.
    """

    def __init__(self, n_threads: int, prepare: Callable[[], object]) -> None:
        self.n_threads, self.prepare = n_threads, prepare
        self.threads: list[Thread] = []
        self.batches: SimpleQueue[_Batch | None] = SimpleQueue()
        self.tasks: list[deque[Any]] = []

    def __enter__(self) -> Pool:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        # First of all, since an interruption may come at any time, and threads that
        # nobody ends would keep the process alive.
        self.batches.put(None)
        if kind is not None:
            for tasks in self.tasks:
                tasks.clear()
        for thread in self.threads:
            thread.join()

    def map(
        self, function: Callable[[Any], Any], tasks: Iterable[Any]
    ) -> Iterator[Any]:
        """Give what a function returns for each task, in their order.

        The threads begin at once. The first error ends them; where several tasks fail,
        that of the first one is raised.
        """
        batch = _Batch(function, tasks, self.prepare, self.n_threads)
        n_working = batch.n_working
        self.tasks.append(batch.tasks)
        while len(self.threads) < n_working:
            self._start()
        for _ in range(n_working):
            self.batches.put(batch)
        return batch.results()

    def _start(self) -> None:
        thread = Thread(target=_serve, args=(self.batches,))
        try:
            thread.start()
        except RuntimeError as error:
            if str(error) != "can't start new thread":
                raise
            raise MemoryError(
                f"No room for the {self.n_threads} threads of a search. Lower n_jobs."
            ) from error
        self.threads.append(thread)


def _serve(batches: SimpleQueue[_Batch | None]) -> None:
    """Work on what comes, until None does, which is left to the next thread."""
    while (batch := batches.get()) is not None:
        batch.work()
        del batch  # which holds results
    batches.put(None)


class _Batch:
    """Tasks of one function, and what has been found for them."""

    def __init__(
        self,
        function: Callable[[Any], Any],
        tasks: Iterable[Any],
        prepare: Callable[[], object],
        n_threads: int,
    ) -> None:
        self.function, self.prepare = function, prepare
        self.tasks = deque(enumerate(tasks))
        self.n = len(self.tasks)
        self.n_working = min(n_threads, self.n)
        self.found: dict[int, Any] = {}
        self.errors: dict[int, BaseException] = {}
        self.lock, self.working = Lock(), Lock()
        if self.n:
            self.working.acquire()

    def work(self) -> None:
        """Do tasks, as long as there are any."""
        number = -1
        try:
            self.prepare()
            while (task := self._take()) is not None:
                number = task[0]
                self.found[number] = self.function(task[1])
        except BaseException as error:
            self.errors[number] = error
            self.tasks.clear()
        finally:
            with self.lock:
                self.n_working -= 1
                if self.n_working == 0:
                    self.working.release()

    def _take(self) -> tuple[int, Any] | None:
        try:
            return self.tasks.popleft()
        except IndexError:
            return None

    def results(self) -> Iterator[Any]:
        """Give the results, in order, when the main thread looks for them."""
        given, ended = 0, False
        while not ended:
            ended = self.working.acquire(timeout=_SECONDS)
            while given in self.found:
                yield self.found.pop(given)
                given += 1
        if given < self.n:
            # Tasks are begun in their order: whatever fails elsewhere, the first one
            # that does has been tried.
            error = self.errors[min(self.errors)]
            self.errors.clear()
            try:
                raise error
            finally:
                del error  # its traceback holds this frame, and others with arrays
