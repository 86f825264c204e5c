"""The command ``skleiden``."""

from __future__ import annotations

import argparse
import io
import os
import signal
import sys
import warnings
from collections.abc import Sequence
from pathlib import Path

from skleiden import __version__

from . import _cluster, _demo
from ._signals import SIGNALS
from ._workers import end_workers

# What data, options and the system can lead to; anything else is a fault of our own.
_EXPECTED = (
    OSError,
    ValueError,
    TypeError,
    ImportError,
    RuntimeError,
    ArithmeticError,
    MemoryError,
)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; returns the exit code."""
    plain = warnings.formatwarning
    with SIGNALS.caught():
        try:
            _prepare_streams()
            warnings.formatwarning = _one_line
            options = _parser().parse_args(arguments)
            code: int = options.run(options)
            sys.stdout.flush()
        except BrokenPipeError:
            # The reader of our output, such as `head`, has gone. Python would fail once
            # more when it flushes at exit.
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            return 1
        except (KeyboardInterrupt, Exception) as error:
            SIGNALS.hold()
            ended = _ended_by(error)
            if ended is None:
                raise
            line, code = ended
            # What a command saved by then it says in notes.
            print(line, *getattr(error, "__notes__", ()), file=sys.stderr)
            end_workers()
            return code
        finally:
            warnings.formatwarning = plain
        return code if SIGNALS.number is None else 128 + SIGNALS.number


def _ended_by(error: BaseException) -> tuple[str, int] | None:
    """What to say of an error, and the exit code; None for a fault of our own."""
    number = SIGNALS.number
    if isinstance(error, KeyboardInterrupt) or number is not None:
        # Compiled code may have made something else of the interruption.
        number = signal.SIGINT if number is None else number
        name = signal.Signals(number).name
        return "Interrupted." if name == "SIGINT" else f"Ended by {name}.", 128 + number
    if not isinstance(error, _EXPECTED):
        return None
    text = " ".join(str(error).splitlines()) or f"{type(error).__name__}."
    return f"skleiden: error: {text}", 1


def _one_line(message: Warning | str, *_: object, **__: object) -> str:
    """A warning without the place in our code from which it came."""
    return f"skleiden: warning: {message}\n"


def _prepare_streams() -> None:
    for name in ("stdout", "stderr"):
        stream = getattr(sys, name)
        if stream is None:  # closed by the caller, as with >&-: nobody listens
            nowhere = Path(os.devnull).open("w", encoding="utf-8")  # noqa: SIM115
            setattr(sys, name, nowhere)
        # A prompt may have letters that the terminal's encoding lacks.
        elif isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="skleiden",
        description="Find communities in high-dimensional, multi-layer data.",
    )
    parser.add_argument("--version", action="version", version=__version__)
    commands = parser.add_subparsers(title="commands", required=True, metavar="COMMAND")
    for add in (
        _cluster.add_cluster,
        _cluster.add_profile,
        _cluster.add_report,
        _demo.add_demo,
    ):
        add(commands)
    return parser
