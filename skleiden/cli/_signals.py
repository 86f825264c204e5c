"""Signals that end a command in order: as an interruption, with its workers."""

from __future__ import annotations

import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

# Those that a terminal, a scheduler or a user sends to end a command; not each system
# has all of them.
_NAMES = ("SIGINT", "SIGTERM", "SIGHUP", "SIGBREAK")


class Signals:
    """Raises KeyboardInterrupt in the main thread when a signal comes.

    Attributes
    ----------
    number : int or None
        The signal that came last, if any did.
    """

    def __init__(self) -> None:
        self.number: int | None = None
        self._holding = self._came = False

    @contextmanager
    def caught(self) -> Iterator[None]:
        """Catch signals, but not those that the caller of the command ignores."""
        self.number, self._holding = None, False
        before: dict[int, Any] = {}
        if threading.current_thread() is threading.main_thread():
            for name in _NAMES:
                number = getattr(signal, name, None)
                usual = (signal.SIG_DFL, signal.default_int_handler)
                if number is not None and signal.getsignal(number) in usual:
                    before[number] = signal.signal(number, self._receive)
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

    @contextmanager
    def held(self) -> Iterator[None]:
        """Put off the interruption, for a step that is short and must be whole."""
        self.hold()
        try:
            yield
        finally:
            self._holding = False
        if self._came:
            raise KeyboardInterrupt

    def hold(self) -> None:
        """Put off all further interruptions."""
        self._holding, self._came = True, False

    def _receive(self, number: int, _: Any) -> None:
        self.number = number
        self._came = True
        if not self._holding:
            raise KeyboardInterrupt


SIGNALS = Signals()


def end_workers() -> None:
    """End the processes that joblib keeps for the next task, if there are any."""
    workers = sys.modules.get("joblib.externals.loky.reusable_executor")
    executor = getattr(workers, "_executor", None)
    if executor is not None:
        executor.shutdown(wait=True, kill_workers=True)
