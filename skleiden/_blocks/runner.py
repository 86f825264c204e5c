"""Where functions of blocks run: in this process, or on the workers of a cluster.

Stages are written once, for blocks of rows and a runner. What a function gives is held
by a *handle*; in this process a handle is the value itself, so that a debugger steps
through a stage as through any other function.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from functools import reduce
from typing import Any, Protocol

import numpy as np

from skleiden._progress import progress


class Runner(Protocol):
    """Runs functions of blocks and of one another's results."""

    def put(self, value: Any) -> Any:
        """Give a handle of a value, which is sent once, however often it is used."""

    def call(self, function: Callable[..., Any], *arguments: Any) -> Any:
        """Give a handle of what a function returns.

        Arguments may be handles, or lists of handles, for which their values stand.
        """

    def keep(self, handles: Sequence[Any], description: str) -> list[Any]:
        """Have results made and kept where they are; gives handles of them."""

    def fetch(self, handles: Sequence[Any], description: str = "Gather") -> list[Any]:
        """Give the values of handles, in this process."""

    def fold(
        self, merge: Callable[[Any, Any], Any], handles: Sequence[Any], description: str
    ) -> Any:
        """Give the values of handles, merged in their order, in this process."""

    def rows(
        self, handles: Sequence[Any], sizes: Sequence[int], width: int, dtype: np.dtype
    ) -> Any:
        """Give one matrix of dense blocks of rows, of which these are handles.

        Elsewhere than in this process it is lazy.
        """

    def threads(self, n_jobs: int | None) -> int | None:
        """Give the number of threads that a function may use."""

    def at_hand(self, handles: Sequence[Any]) -> list[Any]:
        """Give those values that are in this process without being fetched."""

    def why_lost(self, handles: Sequence[Any]) -> str | None:
        """Say why kept results cannot be had any more; None if they can."""

    def portable(self, handles: Sequence[Any]) -> list[Any]:
        """Give those kept results that a pickle can hold."""

    def progress(
        self, description: str, total: int
    ) -> AbstractContextManager[Callable[[int], object] | None]:
        """Show the progress of a stage, by what is called with numbers of rows done.

        None where each handle that is done counts instead.
        """


class Local:
    """Runs everything at once, in this process."""

    def __init__(self, verbose: int = 0) -> None:
        self.verbose = verbose

    def put(self, value: Any) -> Any:
        """Give the value itself."""
        return value

    def call(self, function: Callable[..., Any], *arguments: Any) -> Any:
        """Give what the function returns."""
        return function(*arguments)

    def keep(self, handles: Sequence[Any], description: str) -> list[Any]:
        """Give the values, which have been made by now."""
        return list(handles)

    def fetch(self, handles: Sequence[Any], description: str = "Gather") -> list[Any]:
        """Give the values, which are here."""
        return list(handles)

    def fold(
        self, merge: Callable[[Any, Any], Any], handles: Sequence[Any], description: str
    ) -> Any:
        """Give the values, merged."""
        return reduce(merge, handles)

    def rows(
        self, handles: Sequence[Any], sizes: Sequence[int], width: int, dtype: np.dtype
    ) -> Any:
        """Give the one block that there is."""
        (block,) = handles
        return block

    def threads(self, n_jobs: int | None) -> int | None:
        """Give what was asked for."""
        return n_jobs

    def at_hand(self, handles: Sequence[Any]) -> list[Any]:
        """Give the values, all of which are here."""
        return list(handles)

    def why_lost(self, handles: Sequence[Any]) -> str | None:
        """Nothing is lost here."""
        return None

    def portable(self, handles: Sequence[Any]) -> list[Any]:
        """Give all of them."""
        return list(handles)

    def progress(
        self, description: str, total: int
    ) -> AbstractContextManager[Callable[..., Any]]:
        """Show the rows that are done."""
        return progress(description, total, shown=self.verbose > 0)
