"""Read the files that a command is given."""

from __future__ import annotations

import argparse
import glob
import re
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from skleiden import LayerStack, io
from skleiden._text import texts_of
from skleiden.io._activations._arrays import POOLINGS
from skleiden.io._activations._find import find_files

from ._options import a_path

# What takes less memory where layers are read.
FEWER_LAYERS = "choose fewer layers by --layers"
LESS_TO_LOAD = (
    f"{FEWER_LAYERS}, or save them in a form that is not read as a whole: .npy, Zarr "
    "or HDF5"
)

_NAMED = re.compile(r"([^=/\\]+)=(.+)")


def add_input(parser: argparse.ArgumentParser) -> None:
    """Add the files of activations, and the options on how to read them."""
    parser.add_argument(
        "files",
        nargs="+",
        metavar="FILE",
        help="activations: torch, safetensors, .npy, .npz, JSON, CSV, Parquet, HDF5 "
        "files or Zarr folders; NAME=FILE names its layer, or that of a part",
    )
    group = parser.add_argument_group("input")
    group.add_argument(
        "--key",
        metavar="KEY",
        help="which entry to take, where a file has several for each prompt, such as "
        "{'pre', 'post', 'out'} (then the default is post)",
    )
    group.add_argument(
        "--axis",
        type=int,
        metavar="N",
        help="which axis counts the layers, numbered from 0, in arrays of more than 2 "
        "dimensions or in mappings of mappings; 1 if files are prompts",
    )
    group.add_argument(
        "--pool",
        choices=POOLINGS,
        help="how to make one vector of a prompt from those of its tokens",
    )
    group.add_argument(
        "--layers", metavar="NAME,...", help="layers to keep (default: all)"
    )
    group.add_argument(
        "--ids",
        type=a_path,
        metavar="FILE",
        help="ids of the rows, for matrices without: a JSON list, .npy, a table, or "
        "text with an id on each line",
    )


def load(options: argparse.Namespace) -> LayerStack:
    """Load the layers."""
    ids = [options.ids] if options.ids else []
    with naming(*options.files, *ids), of_options():
        stack = io.load_activations(
            _files(options),
            key=options.key,
            axis=options.axis,
            pool=options.pool,
            layers=None if options.layers is None else options.layers.split(","),
            ids=options.ids,
        )
    if not len(stack):
        raise ValueError(
            f"{_some(options.files)} must hold a row for each prompt; got no rows. "
            "Give files with rows."
        )
    return stack


def load_texts(options: argparse.Namespace, stack: LayerStack) -> list[str] | None:
    """Load the texts, one for each row, before the work rather than after it."""
    if options.texts is None:
        return None
    with naming(options.texts), of_options():
        texts = io.load_texts(options.texts)
    if isinstance(texts, list):
        if len(texts) != len(stack):
            raise ValueError(
                f"{str(options.texts)!r} must have a text for each row, in the order "
                f"of the rows, because it has no ids; got {len(texts)} texts for "
                f"{len(stack)} rows. Give one for each row, or texts by id."
            )
        return texts
    if stack.ids is None:
        raise ValueError(
            "--texts has texts by id, but the files have no ids. Name the rows with "
            "--ids, or give the texts in the order of the rows, as a JSON list."
        )
    try:
        return texts_of(texts, stack.ids)
    except ValueError as error:
        raise ValueError(
            f"{error} The texts are from {str(options.texts)!r}, the ids from "
            f"{origin_of_ids(options)}."
        ) from error


def input_paths(options: argparse.Namespace) -> Iterator[Path]:
    """List all that is read: layers, ids beside them, and what other options name."""
    for parts in find_files(_files(options)).values():
        for path in parts.paths:
            yield path
            yield from path.parent.glob(f"{glob.escape(path.stem)}.ids.*")
    yield from filter(None, (options.ids, getattr(options, "texts", None)))


def origin_of_ids(options: argparse.Namespace) -> str:
    """Name the files that the ids come from."""
    if options.ids is not None:
        return repr(str(options.ids))
    return f"{_some(options.files)}, or files of ids beside"


@contextmanager
def naming(*paths: str | Path) -> Iterator[None]:
    """Name files in the system's errors while they are read, which name none."""
    try:
        yield
    except OSError as error:
        if error.errno is None or error.filename is not None:
            raise
        one = "one of " if len(paths) > 1 else ""
        raise type(error)(
            f"Cannot read {one}{_some(paths)}: {error.strerror}. Give another file, or "
            "a copy of it."
        ) from error


def _some(paths: Sequence[str | Path]) -> str:
    return ", ".join(
        [*(repr(str(p)) for p in paths[:3]), *(["..."] * (len(paths) > 3))]
    )


def _files(options: argparse.Namespace) -> Any:
    """Give what `load_activations` takes: a path, paths, or {layer: its files}."""
    named = [_NAMED.fullmatch(str(file)) for file in options.files]
    if not any(named) or any(Path(file).exists() for file in options.files):
        return options.files if len(options.files) > 1 else options.files[0]
    if not all(named):
        raise ValueError(
            f"Either all files or none must be named, as NAME=FILE; got "
            f"{_some(options.files)}. Name the others, too."
        )
    files: dict[str, list[str]] = {}
    for name, file in (match.groups() for match in named if match is not None):
        files.setdefault(name, []).append(file)
    return {
        name: found[0] if len(found) == 1 else found for name, found in files.items()
    }


@contextmanager
def of_options() -> Iterator[None]:
    """Make errors and warnings name options instead of arguments."""
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        try:
            yield
        except ValueError as error:
            if (text := _as_options(str(error))) == str(error):
                raise
            raise ValueError(text) from error
        finally:
            told = list(told)
    for one in told:
        warnings.warn(_as_options(str(one.message)), one.category, stacklevel=2)


def _as_options(text: str) -> str:
    """Write ``--key K`` for ``key=K``, and NAME=FILE for a mapping of layers."""
    text = text.replace("{layer: [part, part]}", "LAYER=PART LAYER=PART")
    text = text.replace("{layer: path}", "LAYER=FILE")
    text = re.sub(r"\b(key|axis|pool|ids|layers)=(?=[\w\"'])", r"--\1 ", text)
    return re.sub(r"\b(key|axis|pool|ids|layers)=", r"--\1", text)
