"""End joblib's processes with the command, however it ends."""

from __future__ import annotations

import ctypes
import os
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

# By which a process of Linux asks for a signal when the thread that made it ends.
_PR_SET_PDEATHSIG = 1


@contextmanager
def workers_end_with_us() -> Iterator[None]:
    """Make workers that joblib starts inside end when this process is killed.

    Only Linux can do this; elsewhere they end after being idle for some time. Started
    from another thread than the main one, they might end too early.
    """
    is_main = threading.current_thread() is threading.main_thread()
    if sys.platform != "linux" or not is_main:
        yield
        return
    from joblib import register_parallel_backend
    from joblib.parallel import BACKENDS

    plain = BACKENDS["loky"]

    class Workers(plain):  # type: ignore[misc, valid-type]
        def configure(self, *args: Any, **options: Any) -> Any:
            ours = {"initializer": end_with, "initargs": (os.getpid(),)}
            return super().configure(*args, **options | ours)

    register_parallel_backend("loky", Workers)
    try:
        yield
    finally:
        register_parallel_backend("loky", plain)


def end_with(parent: int) -> None:
    """Make this process end when its parent does."""
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    if os.getppid() != parent:  # it has ended already
        os._exit(1)


def end_workers() -> None:
    """End the processes that joblib keeps for the next task, if there are any."""
    workers = sys.modules.get("joblib.externals.loky.reusable_executor")
    executor = getattr(workers, "_executor", None)
    if executor is not None:
        executor.shutdown(wait=True, kill_workers=True)
