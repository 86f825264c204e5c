"""Run the commands that make a profile, save it and print it."""

from __future__ import annotations

import argparse
import json
import warnings
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, NamedTuple

from skleiden.io._communities import jsonable
from skleiden.io._csv import as_csv

from ._input import LESS_TO_LOAD, load
from ._output import run_of, try_figure
from ._progress import Stages
from ._workers import workers_end_with_us


def in_columns(names: Sequence[str], rows: Iterable[Sequence[Any]]) -> list[str]:
    """Write numbers below their names, with "-" for unknown ones."""
    width = max(map(len, names))

    def cell(value: Any) -> str:
        return "-" if value != value else f"{value:.3g}"

    table = [names, *(map(cell, row) for row in rows)]
    return ["  ".join(f"{shown:>{width}}" for shown in row) for row in table]


class Shown(NamedTuple):
    """The parts of a profile that a command shows.

    `tables` are saved beside the profile's own table, under the names of their files;
    `json`, or else `lines`, is printed with it; and `tell` says what is best, as
    options.
    """

    tables: Mapping[str, Mapping[str, Sequence[Any]]]
    json: dict[str, Any]
    lines: list[str]
    tell: Callable[[Any], str]


def run_profile(
    options: argparse.Namespace,
    names: Sequence[str],
    doing: tuple[str, str],
    make: Callable[[Any, int], Any],
    show: Callable[[Any, dict[str, list[Any]]], Shown],
) -> int:
    """Make a profile of a user's files, save and print it, and return the exit code.

    `names` are those of its files, the table first and the figure last; `doing` names
    the stage that makes it, and tells what would take less memory; `make` takes the
    layers and whether to be verbose; `show` takes the profile and its columns.
    """
    stage = Stages(quiet=options.quiet, bars=True)
    with workers_end_with_us(), run_of(options, *names) as run:
        with stage("Load", LESS_TO_LOAD):
            stack = load(options)
        with stage(*doing), warnings.catch_warnings(record=True) as told:
            warnings.simplefilter("always")
            profile = make(stack, stage.verbose)
        with stage("Save"):
            columns = {name: column.tolist() for name, column in profile.table.items()}
            shown = show(profile, columns)
            for name, table in {names[0]: columns, **shown.tables}.items():
                run.write(name, as_csv(table))
            # A part of what was asked for is kept, and replaces no whole run.
            run.finished = not any(
                str(one.message).startswith("Interrupted") for one in told
            )
            missing = try_figure(run, names[-1].removesuffix(".png"), profile.plot)
    for one in told:
        warnings.warn(one.message, one.category, stacklevel=1)
    try:
        best = profile.best()
        line = shown.tell(best)
    except ValueError as error:
        best, line = None, f"Best: none. {error}"
    if options.json:
        result = {"table": columns, **shown.json, "best": best}
        result |= {"saved": run.saved, "not_saved": missing}
        print(json.dumps(jsonable(result)))
    else:
        print("\n".join([*shown.lines, line, *missing]))
        print(f"Saved: {', '.join(run.saved)}")
    # Whoever asked for the whole of it must know.
    return 0 if run.finished else 130
