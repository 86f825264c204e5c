"""Show the progress of a command, stage by stage."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager

from skleiden._progress import is_watched

# What takes less memory: in any command, and where rows are clustered.
_LESS = "close other programs, or use a computer with more memory"
LESS_TO_CLUSTER = "lower --n-components, --n-neighbors or --n-jobs"


class Stages:
    """Announce stages on standard error and measure their time.

    With `bars`, stages show their own progress, and each is announced on a line.
    """

    def __init__(self, *, quiet: bool, bars: bool = False) -> None:
        self.quiet, self.bars = quiet, bars
        self.seconds: dict[str, float] = {}

    @property
    def verbose(self) -> int:
        """Tell whether stages show bars; in a log, this class writes lines instead."""
        return int(self.bars and not self.quiet and is_watched())

    @contextmanager
    def __call__(self, name: str, less_memory: str = _LESS) -> Iterator[None]:
        """Run one stage; if memory runs out, say what would take less."""
        self._say(f"{name} ...", end="\n" if self.bars else " ")
        start = time.perf_counter()
        outcome = "stopped"
        try:
            yield
            self.seconds[name] = time.perf_counter() - start
            outcome = f"{self.seconds[name]:.2f} s"
        except MemoryError as error:
            text = f"Not enough memory in the stage {name!r}; {less_memory}. {error}"
            raise MemoryError(text.strip()) from error
        finally:
            if not self.bars:
                self._say(outcome, end="\n")

    def _say(self, text: str, end: str) -> None:
        if not self.quiet:
            print(text, end=end, file=sys.stderr, flush=True)

    def summary(self) -> str:
        """List all stages and their seconds on one line."""
        each = ", ".join(f"{name.lower()} {s:.2f}" for name, s in self.seconds.items())
        return f"Seconds: {each}; in all {sum(self.seconds.values()):.2f}"
