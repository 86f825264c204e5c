"""Files that a command reads."""

from __future__ import annotations

import argparse
import glob
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from skleiden import LayerStack, io
from skleiden.inspection._communities import texts_of
from skleiden.io._activations._find import find_files

from ._options import a_path

# What takes less memory where layers are read.
FEWER_LAYERS = "choose fewer layers by --layers"
LESS_TO_LOAD = (
    f"{FEWER_LAYERS}, or save them in a form that is not read as a whole: .npy, Zarr "
    "or HDF5"
)


def add_input(parser: argparse.ArgumentParser) -> None:
    """Add the files of activations, and what is said of them."""
    parser.add_argument(
        "files",
        nargs="+",
        metavar="FILE",
        help="activations, one file a layer, or several layers in one: torch, "
        "safetensors, .npy, .npz, JSON, HDF5 files or Zarr folders",
    )
    group = parser.add_argument_group("input")
    group.add_argument(
        "--key",
        default="post",
        metavar="KEY",
        help="what to take of {'pre', 'post', 'out'} records",
    )
    group.add_argument(
        "--layers", metavar="NAME,...", help="layers to keep (default: all)"
    )
    group.add_argument(
        "--ids", type=a_path, metavar="FILE", help="ids of the rows of matrices"
    )


def load(options: argparse.Namespace) -> LayerStack:
    """Load the layers."""
    with naming(*options.files, *([options.ids] if options.ids else [])):
        stack = io.load_activations(
            _files(options),
            key=options.key,
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
    if stack.ids is None:
        raise ValueError(
            "--texts are found by ids, and the files have none. Name the rows by --ids."
        )
    with naming(options.texts):
        texts = io.load_texts(options.texts)
    try:
        return texts_of(texts, stack.ids)
    except ValueError as error:
        raise ValueError(
            f"{error} The texts are from {str(options.texts)!r}, the ids from "
            f"{origin_of_ids(options)}."
        ) from error


def input_paths(options: argparse.Namespace) -> Iterator[Path]:
    """All that is read: layers, ids beside them, and what other options name."""
    for path in find_files(_files(options)).values():
        yield path
        yield from path.parent.glob(f"{glob.escape(path.stem)}.ids.*")
    yield from filter(None, (options.ids, getattr(options, "texts", None)))


def origin_of_ids(options: argparse.Namespace) -> str:
    """Name the files that the ids are from."""
    if options.ids is not None:
        return repr(str(options.ids))
    return f"{_some(options.files)}, or files of ids beside"


@contextmanager
def naming(*paths: str | Path) -> Iterator[None]:
    """Name files in errors of the system while they are read, which name none."""
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
    return options.files if len(options.files) > 1 else options.files[0]
