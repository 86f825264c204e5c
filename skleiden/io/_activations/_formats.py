"""Choose the reader of each form of file."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from ._arrow import read_table
from ._content import layers_of_content
from ._csv_table import load_csv_of_numbers
from ._find import OF_TABLES, form_of
from ._hdf5 import read_hdf5
from ._layer import Layer, Reading, refuse_idle
from ._numpy import read_npy, read_npz
from ._safetensors import read_safetensors
from ._table import layers_of_table
from ._text import load_json
from ._torch import load_torch
from ._zarr import read_zarr


def read_layers(path: Path, how: Reading) -> dict[str, Layer]:
    """Give the layers of a file or folder by their own names; "" if it has only one."""
    form = form_of(path)
    if form not in _OF_MAPPINGS:
        refuse_idle(path, how, "no mappings", "key")
    if form in _READERS:
        try:
            return _READERS[form](path, how)
        except RecursionError as error:
            raise ValueError(
                f"{str(path)!r} is nested too deeply. Store layers side by side."
            ) from error
    if form == "zarr in a zip":
        raise ValueError(
            f"{str(path)!r} is a Zarr folder in a zip archive, which is not read. "
            "Unpack it (python -m zipfile -e FILE FOLDER), and give the folder."
        )
    if path.suffix.lower() in OF_TABLES:
        table = load_csv_of_numbers(path)
        if table is not None:
            return layers_of_table(table, path, how._replace(mmap=False))
    raise ValueError(
        f"{str(path)!r} is not a file of activations in a known form: NumPy, "
        "safetensors, torch, Zarr, HDF5, JSON, a table of Parquet or Arrow, or CSV "
        "with a column of numbers for each neuron (n0, n1, ...) or with the columns "
        "row, latent and value. Read it with what wrote it, such as pandas.read_csv, "
        "and give the data frame or array to skleiden.LayerStack."
    )


# Forms that nest mappings, of which `key` takes something.
_OF_MAPPINGS = ("torch", "json")

_READERS: dict[str, Callable[[Path, Reading], dict[str, Layer]]] = {
    "npy": read_npy,
    "npz": read_npz,
    "safetensors": read_safetensors,
    "zarr": read_zarr,
    "hdf5": read_hdf5,
    "arrow": lambda path, how: layers_of_table(
        read_table(path), path, how._replace(mmap=False)
    ),
    "torch": lambda path, how: layers_of_content(load_torch(path, how.mmap), path, how),
    "json": lambda path, how: layers_of_content(
        load_json(path), path, how._replace(mmap=False)
    ),
}
