"""The command ``skleiden``."""

from __future__ import annotations

import argparse
import io
import os
import sys
import warnings
from collections.abc import Sequence
from pathlib import Path

from skleiden import __version__

from . import _cluster, _demo


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; returns the exit code."""
    plain = warnings.formatwarning
    try:
        _prepare_streams()
        warnings.formatwarning = _one_line
        options = _parser().parse_args(arguments)
        code: int = options.run(options)
        sys.stdout.flush()
    except KeyboardInterrupt as interruption:
        # A command says what it has saved by then.
        print("Interrupted.", *interruption.args, file=sys.stderr)
        return 130
    except BrokenPipeError:
        # The reader of our output, such as `head`, has gone. Python would fail once
        # more when it flushes at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except MemoryError as error:
        problem = f"skleiden: error: Not enough memory; lower --n-components. {error}"
        print(problem.strip(), file=sys.stderr)
        return 1
    except (OSError, ValueError, TypeError, ImportError) as error:
        print(f"skleiden: error: {error}", file=sys.stderr)
        return 1
    finally:
        warnings.formatwarning = plain
    return code


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
