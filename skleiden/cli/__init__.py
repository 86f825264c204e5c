"""Run skleiden from a shell: the command ``skleiden``.

These commands lead from a model to the page of its communities, ``run/report.html``,
and from two such runs to their differences::

    skleiden capture model texts.txt --out acts.zarr
    skleiden layers acts.zarr --out layers
    skleiden profile acts.zarr --out profile
    skleiden cluster acts.zarr --texts acts.zarr/texts.json --tree --out run
    skleiden cluster acts.zarr --texts acts.zarr/texts.json --n-clusters 12 --out run12
    skleiden compare run run12

- ``capture`` runs a language model of Hugging Face, given as a folder or a name, on the
  lines of a file. If you have activations already, begin with the next command, and
  give it any files that :mod:`skleiden.io` reads, such as ``acts.pt``.
- ``layers`` shows which layers to use, and ``profile`` shows which resolution.
- ``cluster`` writes a folder with the page, ``labels.csv``, ``communities.json`` and
  figures. ``--tree`` adds communities within communities, ``--n-clusters`` asks for a
  number of communities, and ``--rows neurons`` or ``--rows both`` groups neurons.
  ``--names names.json``, with a file such as ``{"0": "Law"}``, gives communities your
  own names; the numbers are those of an earlier run with the same options.
- ``report`` writes the page of a folder again, with ``--names`` or another ``--title``.
- ``compare`` prints how far two runs agree and which communities split or merged, and
  writes a page that shows it, ``comparison.html``.
- ``demo`` finds communities in activations that come with the package.

Every parameter of the estimators is an option (``--n-neighbors 15``), and ``skleiden
COMMAND --help`` lists them. A folder is written whole or not at all, and
``--overwrite`` replaces only an earlier run. After an error or Ctrl-C, the files saved
so far are in a folder whose name ends in ``.partial``.
"""

from __future__ import annotations

import argparse
import io
import os
import signal
import sys
import warnings
from collections.abc import Sequence
from importlib import import_module
from pathlib import Path

from skleiden import __version__

from ._signals import SIGNALS
from ._workers import end_workers

__all__ = ["main"]

# What each does. The module of the same name is imported when the command is given, so
# that the help of all does not wait for scikit-learn; this takes about a second, in
# which a user may press Ctrl-C, and is therefore inside the `try` of main.
_COMMANDS = {
    "capture": "capture a language model's activations on texts",
    "cluster": "find communities in activations",
    "profile": "find out which resolution to use",
    "layers": "find out which layers to use",
    "report": "write the page of saved communities",
    "compare": "compare the communities of two runs",
    "demo": "find communities in the embedded activations of a language model",
}

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
    """Run the command line and return its exit code."""
    plain = warnings.formatwarning
    with SIGNALS.caught():
        try:
            _prepare_streams()
            warnings.formatwarning = _one_line
            given = sys.argv[1:] if arguments is None else arguments
            options = _parser(given).parse_args(given)
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
    """Give the message for an error and the exit code; None for a fault of our own."""
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
    """Format a warning without the place in our code from which it came."""
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


class _Formatter(argparse.ArgumentDefaultsHelpFormatter):
    """Show the defaults of options that have one."""

    def _get_help_string(self, action: argparse.Action) -> str | None:
        if action.default is None:
            return action.help
        return super()._get_help_string(action)


def _parser(arguments: Sequence[str]) -> argparse.ArgumentParser:
    """Make a parser of all commands, with options only for the one that is given."""
    parser = argparse.ArgumentParser(
        prog="skleiden",
        description="Find communities in high-dimensional, multi-layer data.",
        epilog="skleiden COMMAND --help describes each command. To see what it does, "
        "try skleiden demo. With your own activations, run skleiden cluster "
        "acts.pt --texts texts.txt --out run, and open run/report.html in a "
        "browser.",
    )
    parser.add_argument("--version", action="version", version=__version__)
    commands = parser.add_subparsers(
        title="commands", dest="command", required=True, metavar="COMMAND"
    )
    given = next((text for text in arguments if not text.startswith("-")), None)
    for name, summary in _COMMANDS.items():
        command = commands.add_parser(
            name,
            help=summary,
            formatter_class=_Formatter,
            allow_abbrev=False,  # --resolution is not the beginning of --resolutions
        )
        if name == given:
            module = import_module(f"{__name__}._{name}")
            command.description = module.DESCRIPTION
            command.set_defaults(run=module.main)
            module.add_options(command)
    return parser
