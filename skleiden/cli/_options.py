"""Derive the options of the commands from the parameters of the library."""

from __future__ import annotations

import argparse
import inspect
import os
import re
from collections.abc import Callable, Collection, Iterable, Sequence
from numbers import Integral
from pathlib import Path
from typing import Any

import numpy as np
from sklearn.pipeline import Pipeline
from sklearn.utils._param_validation import Interval, Options, StrOptions

from skleiden import MultiLayerTfidfSketcher, MutualKNNLeiden

# The steps of the pipeline that a command fits, and what the help says of them.
_STEPS = {"sketch": MultiLayerTfidfSketcher, "leiden": MutualKNNLeiden}
_DO = {
    "sketch": "from layers to a short vector for each row",
    "leiden": "from these vectors to communities",
}

# Parameters that are not derived: files tell what the layers are, and hold vectors
# rather than graphs; the seed and the threads of both steps are one option each, and
# the terminal decides on bars.
_NOT_DERIVED = {"layers", "metric", "random_state", "n_jobs", "verbose"}

# Constraints of parameters whose own say nothing of the text of an option.
_CONSTRAINTS = {"dtype": [StrOptions({"float32", "float64"})]}

# Clusterings that a command makes at most: each takes its time, and all are compared.
_MOST_RUNS = 10_000

# A sentence that is longer is cut at its first colon or semicolon in the help.
_LONG = 120


def add_estimators(
    parser: argparse.ArgumentParser,
    *,
    only: Collection[str] = (),
    leave_out: Collection[str] = (),
) -> None:
    """Add the parameters of the sketcher and the clusterer, all or some of them."""
    for title, estimator in _STEPS.items():
        group = parser.add_argument_group(title, _DO.get(title))
        for name in _derived(estimator):
            if name in (only or [name]) and name not in leave_out:
                _add(group, estimator, name)


def add_jobs(parser: argparse.ArgumentParser) -> None:
    """Add the number of threads or processes."""
    parser.add_argument(
        "--n-jobs",
        type=_n_jobs,
        default=-1,
        metavar="N",
        help="threads or processes, at most one for each processor; -1 for all",
    )


def add_rows(parser: argparse.ArgumentParser, *more: str) -> None:
    """Add what is clustered: prompts, neurons, or more."""
    parser.add_argument(
        "--rows",
        choices=("prompts", "neurons", *more),
        default="prompts",
        help="what is clustered",
    )


def add_seed(parser: argparse.ArgumentParser) -> None:
    """Add the seed."""
    parser.add_argument(
        "--random-state",
        "--seed",
        type=number([Interval(Integral, 0, 2**32 - 1, closed="both")]),
        default=0,
        metavar="N",
        help="seed of everything random",
    )


def add_parameters(
    parser: argparse.ArgumentParser, function: Any, names: Iterable[str]
) -> None:
    """Add parameters of a function that are numbers."""
    for name in names:
        bounds = function._skl_parameter_constraints[name]
        _add(parser, function, name, type=number(bounds), metavar="N")


def add_numbers_of_runs(
    parser: argparse.ArgumentParser, function: Any, names: Iterable[str]
) -> None:
    """Add parameters of a function that tell it how often to cluster."""
    for name in names:
        bounds, *_ = function._skl_parameter_constraints[name]
        _add(parser, function, name, type=number_of_runs(bounds.left), metavar="N")


def number_of_runs(least: int, *others: int) -> Callable[[str], Any]:
    """Make a reader of numbers of runs, of at least `least`, or one of `others`."""
    bounds = [Interval(Integral, least, _MOST_RUNS, closed="both")]
    bounds += [Options(Integral, {other}) for other in others]
    return number(bounds, ". Give such a number: each is a clustering of its own")


def arguments_of(options: argparse.Namespace, function: Any) -> dict[str, Any]:
    """Give the options that a function takes, by their names."""
    taken = inspect.signature(function).parameters.values()
    return {
        one.name: getattr(options, one.name)
        for one in taken
        if one.kind is one.KEYWORD_ONLY and hasattr(options, one.name)
    }


def make_pipeline(
    options: argparse.Namespace, *, n_jobs: int | None, verbose: int
) -> Pipeline:
    """Make the pipeline that the options describe."""

    def step(estimator: Any) -> Any:
        chosen = {
            name: getattr(options, name)
            for name in _derived(estimator)
            if hasattr(options, name)
        }
        if "dtype" in chosen:
            chosen["dtype"] = np.dtype(chosen["dtype"]).type
        seed = options.random_state
        return estimator(**chosen, random_state=seed, n_jobs=n_jobs, verbose=verbose)

    return Pipeline([(name, step(estimator)) for name, estimator in _STEPS.items()])


def _derived(estimator: Any) -> list[str]:
    """Name the parameters that become options."""
    names = inspect.signature(estimator).parameters
    return [name for name in names if name not in _NOT_DERIVED]


def _add(parser: Any, of: Any, name: str, **settings: Any) -> None:
    """Add a parameter, read according to its constraints unless told otherwise."""
    default = inspect.signature(of).parameters[name].default
    if not settings:
        settings = _settings(_CONSTRAINTS.get(name) or of._parameter_constraints[name])
    parser.add_argument(
        f"--{name.replace('_', '-')}",
        default=default.__name__ if isinstance(default, type) else default,
        help=_help(of, name),
        **settings,
    )


def _settings(constraints: Sequence[Any]) -> dict[str, Any]:
    """Translate scikit-learn's constraints of a parameter for argparse."""
    if "boolean" in constraints:
        return {"action": argparse.BooleanOptionalAction}
    texts = [one for one in constraints if isinstance(one, StrOptions)]
    words = [word for one in texts for word in one.options]
    if any(type(one) is not StrOptions for one in texts):  # and takes other words, too
        return {"type": _text(texts), "metavar": f"{{{','.join(sorted(words))},...}}"}
    if words and "array-like" not in constraints:
        if None not in constraints:
            return {"choices": sorted(words)}
        return {
            "choices": [*sorted(words), None],
            "type": lambda word: None if word == "none" else word,
            "metavar": f"{{{','.join([*sorted(words), 'none'])}}}",
        }
    numbers = (Interval, Options)
    read = number(
        [c for c in constraints if isinstance(c, numbers) and c.type is not str]
    )
    if "array-like" not in constraints:
        return {"type": read, "metavar": "N"}
    # One number is for all layers only where a parameter takes one.
    takes_one = any(isinstance(one, Interval) for one in constraints)
    several = one_or_several(read, takes_one=takes_one)
    metavar = " or ".join([*words, "N,..."])
    return {"type": word_or(words, several), "metavar": metavar}


def number(bounds: Sequence[Any], remedy: str = "") -> Callable[[str], Any]:
    """Make a reader of numbers that lie in one of the bounds, if there are any."""
    kind = int if bounds and bounds[0].type is Integral else float

    def read(text: str) -> Any:
        value = kind(text)
        if bounds and not any(one.is_satisfied_by(value) for one in bounds):
            allowed = " or ".join(map(_in_words, bounds))
            raise argparse.ArgumentTypeError(f"must be {allowed}; got {text}{remedy}")
        return value

    read.__name__ = kind.__name__  # argparse's "invalid float value"
    return read


def _text(bounds: Sequence[StrOptions]) -> Callable[[str], str]:
    """Make a reader of texts of certain kinds."""

    def read(text: str) -> str:
        if not any(one.is_satisfied_by(text) for one in bounds):
            allowed = " or ".join(map(str, bounds))
            raise argparse.ArgumentTypeError(f"must be {allowed}; got {text!r}")
        return text

    return read


def a_path(text: str) -> Path:
    """Read the name of a file or folder."""
    if not text:
        raise argparse.ArgumentTypeError("must name a file or folder; got ''")
    return Path(text)


def _in_words(bound: Interval | Options) -> str:
    if isinstance(bound, Interval):
        return str(bound)
    return ", ".join(map(str, sorted(bound.options)))


def one_or_several(
    one: Callable[[str], Any], *, takes_one: bool = True
) -> Callable[[str], Any]:
    """Make a reader of one number, or of several separated by commas."""

    def read(text: str) -> Any:
        values = [one(part) for part in text.split(",")]
        return values[0] if takes_one and len(values) == 1 else values

    read.__name__ = f"{one.__name__} or list of {one.__name__}"
    return read


def word_or(words: Collection[str], read: Callable[[str], Any]) -> Callable[[str], Any]:
    """Make a reader of some words, or else of what another reader reads."""

    def read_any(text: str) -> Any:
        return text if text in words else read(text)

    read_any.__name__ = " or ".join([*words, read.__name__])
    return read_any


def _n_jobs(text: str) -> int:
    # More than there are processors make nothing faster, and may be more than the
    # system has room for.
    n_jobs = int(text)
    if n_jobs == 0:
        raise argparse.ArgumentTypeError(
            "must be a number of threads or processes, or -1 for all; got 0"
        )
    return min(n_jobs, os.cpu_count() or 1)


_n_jobs.__name__ = "int"


def _help(of: Any, name: str) -> str:
    """Take the first sentence on a parameter from a numpydoc docstring."""
    paragraph = re.search(
        rf"^{name} : .*\n((?: +.*\n)+)", inspect.getdoc(of) or "", flags=re.MULTILINE
    )
    if paragraph is None:  # Python was told to leave out docstrings
        return ""
    text = " ".join(re.sub(r"`+| \[\d+\]_", "", paragraph[1]).split())
    # None is what an option is that is not given.
    sentence = re.sub(r"[;,:] None .*", "", re.split(r"\.(?: |$)", text)[0])
    clause = re.split("[:;]", sentence)[0] if len(sentence) > _LONG else sentence
    return clause[:1].lower() + clause[1:].rstrip(":").replace("%", "%%")
