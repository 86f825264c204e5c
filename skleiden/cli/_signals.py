"""Turn signals into interruptions, so that they end a command in order."""

from __future__ import annotations

import signal
import threading
import weakref
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

# Those that a terminal, a scheduler or a user sends to end a command; not each system
# has all of them.
_NAMES = ("SIGINT", "SIGTERM", "SIGHUP", "SIGBREAK")


class Interruption(KeyboardInterrupt):
    """A KeyboardInterrupt that tells whether it is still being raised."""


class Signals:
    """Raise KeyboardInterrupt in the main thread when a signal comes.

    While one is being raised, further signals do not raise another, which would cut
    short the orderly end that the first one began.

    Attributes
    ----------
    number : int or None
        The last signal, if any came.
    """

    def __init__(self) -> None:
        self.number: int | None = None
        self._holding = self._came = False
        self._raised: Any = None

    @contextmanager
    def caught(self) -> Iterator[None]:
        """Catch signals, but not those that the caller of the command ignores."""
        self.number, self._raised = None, None
        self._holding = self._came = False
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
        """Put off the interruption during a short step that must be completed."""
        before = self._holding
        self._holding = True
        try:
            yield
        finally:
            self._holding = before
        if self._came:
            self._raise()

    def hold(self) -> None:
        """Put off all further interruptions."""
        self._holding = True

    def _receive(self, number: int, _: Any) -> None:
        self.number = number
        self._came = True
        self._raise()

    def _raise(self) -> None:
        on_its_way = self._raised is not None and self._raised() is not None
        if self._holding or on_its_way:
            return
        self._came = False
        error = Interruption()
        self._raised = weakref.ref(error)
        try:
            raise error
        finally:
            del error  # or else it would keep itself alive


SIGNALS = Signals()
