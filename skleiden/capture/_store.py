"""Store captured rows in memory, or in a Zarr folder where a capture can go on."""

from __future__ import annotations

import json
import operator
import os
import warnings
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from skleiden import LayerStack
from skleiden._text import encodable
from skleiden.io import load_activations
from skleiden.io._activations._text import load_json
from skleiden.io._files import NEW_FILE, clear_leftovers, write_whole, writing

STATE, TEXTS = "capture.json", "texts.json"

_CHUNK_BYTES = 2**22  # of the widest layer
_BLOCK_BYTES = 2**26  # of all layers


class Shape(NamedTuple):
    """The number of captured rows, and the width and dtype of each layer."""

    n_rows: int
    layers: dict[str, tuple[int, np.dtype]]

    @property
    def chunk_rows(self) -> int:
        """Count the rows of a chunk of each layer."""
        widest = max(width * dtype.itemsize for width, dtype in self.layers.values())
        return max(1, _CHUNK_BYTES // widest)

    def block_rows(self, least: int) -> int:
        """Count the rows that are captured and written at a time, in whole chunks."""
        row = sum(width * dtype.itemsize for width, dtype in self.layers.values())
        wanted = max(_BLOCK_BYTES // row, least)
        return max(1, wanted // self.chunk_rows) * self.chunk_rows


class Memory:
    """Captured rows in memory."""

    n_done = 0

    def __init__(self, shape: Shape, ids: np.ndarray) -> None:
        self._ids = ids
        self._layers = {
            name: np.empty((shape.n_rows, width), dtype)
            for name, (width, dtype) in shape.layers.items()
        }

    def write(self, start: int, values: dict[str, np.ndarray]) -> None:
        """Store rows of all layers, beginning with `start`."""
        for name, rows in values.items():
            self._layers[name][start : start + len(rows)] = rows

    def stack(self) -> LayerStack:
        """Give all rows."""
        return LayerStack(self._layers, ids=self._ids)


class Folder:
    """Captured rows in a Zarr folder, which may hold some of them already.

    The folder is a Zarr group with an array for each layer and for the ids. It also
    holds the texts as JSON, {id: text}, and, as JSON, what is captured, in how many
    blocks, and how many of these are done. Blocks consist of whole chunks, so that a
    block that was being written when its process was killed can be written again,
    whatever is there.

    What is missing reads as NaN, which everything that reads the folder refuses.

    Attributes
    ----------
    n_done : int
        Number of blocks that are done.
    """

    def __init__(self, out: str | os.PathLike[str], facts: dict[str, Any]) -> None:
        try:
            import zarr  # noqa: F401
        except ImportError as error:
            raise ImportError(
                'out needs zarr: pip install "skleiden[zarr]".'
            ) from error
        self._path, self._facts = Path(out), facts
        self.n_done = 0
        if self._path.exists() and not self._path.is_dir():
            raise NotADirectoryError(
                f"{str(out)!r} is a file, but out must be a folder. Give a new folder."
            )
        if self._path.is_dir():
            clear_leftovers(self._path)
            if (self._path / STATE).exists():
                self._go_on()
            elif any(not NEW_FILE.fullmatch(p.name) for p in self._path.iterdir()):
                raise FileExistsError(
                    f"{str(out)!r} is not empty, and is not the folder of a capture. "
                    "Give a new or an empty folder as out."
                )

    def _go_on(self) -> None:
        """Read how far the same capture has come; refuse any other."""
        state = load_json(self._path / STATE)
        try:
            facts, self.n_done = state["facts"], operator.index(state["n_done"])
            if self.n_done < 0:
                raise ValueError("n_done must not be negative")
            different = [key for key in self._facts if facts[key] != self._facts[key]]
        except (KeyError, TypeError, ValueError) as error:
            raise ValueError(
                f"{str(self._path / STATE)!r} does not describe a capture: it is "
                "broken, or belongs to another program. Remove the folder, or give "
                "another one as out."
            ) from error
        if different:
            raise FileExistsError(
                f"{str(self._path)!r} holds another capture, which differs in: "
                f"{', '.join(different)}. Give another folder as out, or remove this "
                "one. (A capture goes on where it stopped if nothing differs.)"
            )

    def create(self, shape: Shape, ids: np.ndarray, texts: Iterable[str]) -> None:
        """Make the arrays without rows, unless some are done, and write the texts."""
        if self.n_done:
            self._check(shape, ids)
        else:
            self._make(shape, ids)
        with writing(self._path / TEXTS) as file:
            before = "{"
            for name, text in zip(ids.tolist(), texts, strict=True):
                pair = f"{json.dumps(str(name))}: {json.dumps(encodable(text))}"
                file.write(f"{before}\n{pair}".encode())
                before = ","
            file.write(b"\n}\n")

    def _check(self, shape: Shape, ids: np.ndarray) -> None:
        """Refuse a folder in which arrays were removed or replaced."""
        import zarr

        changed = ValueError(
            f"{str(self._path)!r} is a capture whose layers or ids are missing, or "
            "were changed since. Remove the folder, or give another one as out."
        )
        try:
            with _quiet():
                arrays = {
                    name: zarr.open_array(str(self._path), path=name, mode="r")
                    for name in (*shape.layers, "ids")
                }
        except Exception as error:
            raise changed from error
        there = {name: (own.shape, own.dtype) for name, own in arrays.items()}
        wanted = {
            name: ((shape.n_rows, width), dtype)
            for name, (width, dtype) in shape.layers.items()
        }
        if there != {**wanted, "ids": (ids.shape, ids.dtype)} or (
            np.asarray(arrays["ids"][:]).tolist() != ids.tolist()
        ):
            raise changed

    def _make(self, shape: Shape, ids: np.ndarray) -> None:
        import zarr
        from zarr.codecs import BloscCodec

        if ids.dtype.kind not in "Uiu":
            raise TypeError(
                f"ids must be strings or integers to be saved in out; got dtype "
                f"{ids.dtype}. Convert them, for example with .astype(str)."
            )
        self._path.mkdir(parents=True, exist_ok=True)
        self._save_state()
        with _quiet():
            group = zarr.open_group(str(self._path), mode="a")
            for name, (width, dtype) in shape.layers.items():
                group.create_array(
                    name,
                    shape=(shape.n_rows, width),
                    dtype=dtype,
                    chunks=(min(shape.chunk_rows, shape.n_rows), width),
                    compressors=BloscCodec(cname="lz4", shuffle="shuffle"),
                    fill_value=float("nan"),
                    overwrite=True,
                )
            group.create_array("ids", shape=ids.shape, dtype=ids.dtype, overwrite=True)[
                :
            ] = ids

    def write(self, start: int, values: dict[str, np.ndarray]) -> None:
        """Write the rows of a block, beginning with `start`, and count it as done."""
        import zarr

        for name, rows in values.items():
            array = zarr.open_array(str(self._path), path=name, mode="r+")
            array[start : start + len(rows)] = rows
        self.n_done += 1
        self._save_state()

    def stack(self) -> LayerStack:
        """Give all rows, which stay in the folder."""
        return load_activations(self._path)

    def _save_state(self) -> None:
        state = {"facts": self._facts, "n_done": self.n_done}
        write_whole(self._path / STATE, json.dumps(state, indent=1))


@contextmanager
def _quiet() -> Iterator[None]:
    """Suppress warnings that other software may not know how ids are stored."""
    with warnings.catch_warnings():
        for told in ("does not have a Zarr V3", "is currently not part in"):
            warnings.filterwarnings("ignore", f".*{told}")
        yield
