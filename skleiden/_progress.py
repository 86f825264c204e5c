"""Progress of long stages: a bar for who watches, a line or two for a log."""

from __future__ import annotations

import sys
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any


def is_watched() -> bool:
    """Whether standard error moves: it is a terminal, or the output of a notebook."""
    stream = sys.stderr
    if stream is None:  # as of a program without a console on Windows
        return False
    return _is_of_notebook(stream) or bool(getattr(stream, "isatty", bool)())


@contextmanager
def progress(
    description: str, total: int, *, shown: bool = True, unit: str = "row"
) -> Iterator[Callable[..., Any]]:
    """Show the progress of a stage on standard error.

    In a terminal or a notebook that is a bar. Elsewhere, as in a log, a line says when
    the stage begins, and another how long it took.

    Parameters
    ----------
    description : str
        What the stage does.

    total : int
        Steps of the stage.

    shown : bool, default=True
        Whether to show anything.

    unit : str, default="row"
        What a step is.

    Yields
    ------
    update : callable
        To be called with numbers of steps that are done; 1 if none is given.
    """
    if not shown or sys.stderr is None:
        yield _ignore
    elif is_watched():
        with _bar()(desc=description, total=total, unit=unit) as bar:
            yield bar.update
            bar.update(max(total - bar.n, 0))  # done, whatever was told of
    else:
        with _lines(description, total) as update:
            yield update


@contextmanager
def _lines(description: str, total: int) -> Iterator[Callable[..., Any]]:
    n_done, start, before = 0, time.perf_counter(), "stopped at "

    def count(steps: int = 1) -> None:
        nonlocal n_done
        n_done += steps

    _say(f"{description} ...")
    try:
        yield count
        n_done, before = total, ""
    finally:
        seconds = time.perf_counter() - start
        _say(f"{description}: {before}{n_done}/{total} in {seconds:.2f} s")


def _bar() -> Any:
    """Give the bar of tqdm for where this runs: a widget, if a notebook has them."""
    from tqdm import TqdmWarning

    with warnings.catch_warnings():
        # Where a notebook has no widgets, tqdm warns, and a bar of text will do.
        warnings.simplefilter("ignore", TqdmWarning)
        from tqdm.auto import tqdm
    return tqdm


def _is_of_notebook(stream: Any) -> bool:
    return type(stream).__module__.partition(".")[0] == "ipykernel"


def _say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)  # noqa: T201


def _ignore(steps: int = 1) -> None:
    """Leave steps unsaid."""
