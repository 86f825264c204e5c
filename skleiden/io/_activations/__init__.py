"""Reading activations, ids and texts from the files that the field has."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from skleiden._layers import LayerStack

from ._find import find_files, form_of
from ._formats import read_layers
from ._ids import align, ids_beside, read_ids
from ._layer import Layer, shape_of
from ._text import load_csv, load_json
from ._torch import load_torch


def load_activations(
    paths: str | os.PathLike[str] | Sequence[Any] | Mapping[str, Any],
    *,
    key: str = "post",
    layers: Sequence[str] | None = None,
    ids: Sequence[Any] | str | os.PathLike[str] | None = None,
    mmap: bool = True,
) -> LayerStack:
    """Load activations, one file for each layer, in any form that the field has.

    The form is told by a file's content, not by its name:

    - from ``torch.save``: ``{prompt id: vector}`` or ``{prompt id: {"pre": vector,
      "post": vector, ...}}``, of which `key` chooses one; or a 2-D tensor. Nothing but
      tensors and plain containers is unpickled. Needs torch;
    - ``.safetensors``: 2-D tensors, each a layer, or 1-D tensors, each a prompt of one
      layer. ``ids`` in the metadata may hold a JSON list of ids. Needs safetensors;
    - ``.npy``: a matrix;
    - ``.npz``: a sparse matrix of :func:`scipy.sparse.save_npz`, or 2-D arrays, each a
      layer; an array ``ids`` beside them names the rows;
    - Zarr folders (chunked, compressed, for object stores and Dask) and HDF5 files
      (the same in one file, as most labs have): a 2-D array, a sparse matrix (a group,
      as AnnData stores it), or a group of them, each a layer; an array ``ids`` at the
      top names the rows. Arrays are read block by block where they are used, unless
      `mmap` is False. Need zarr or h5py;
    - JSON: ``{prompt id: [number, ...]}``.

    Parameters
    ----------
    paths : str, path, sequence of paths, or mapping of {layer: path}
        A file, a pattern such as ``"activations/layer_*.npy"``, or several files (or
        folders, of Zarr).
        Layers have the names of their files without the suffix and come in natural
        order (``layer_9`` before ``layer_10``); with a mapping, its names and order. Of
        a file with several layers, these have their own names, after that of the file
        if there are several files.

    key : str, default="post"
        What to take of ``{"pre", "post", "out"}`` records.

    layers : sequence of str, default=None
        Names of the layers to keep, in this order; all if None.

    ids : sequence, or path, default=None
        Ids of the rows of matrices: one list for all layers, or a file of it (a JSON
        list, ``.npy``, or a text file with an id on each line). If None, what the files
        hold, else a file beside each: ``layer_17.ids.json``, ``.ids.txt`` or
        ``.ids.npy`` for ``layer_17.npy``.

    mmap : bool, default=True
        Whether to leave matrices in their files, mapped or open, rather than read them,
        and to map tensors while they are read. Values left there are checked when they
        are used. A file that is left there must not become shorter: the start of each
        stage of a fit refuses it, but the system ends the process (by the signal
        SIGBUS, which Python cannot catch) where a stage reads what is gone.

    Returns
    -------
    stack : LayerStack
        With the ids, if there are any. Matrices are as stored (float types that NumPy
        lacks, such as bfloat16, become float32); sparse matrices become CSR, and
        mappings float32 CSR arrays. Rows are in the order of the first layer.

    Warns
    -----
    UserWarning
        If prompts are left out because they are not in every layer; if chunks of a Zarr
        array or HDF5 dataset are missing, which read as its fill value; if a layer of
        an HDF5 file has several names; if a file holds what may be a matrix and is not
        read.

    Raises
    ------
    FileNotFoundError
        If there is no such file.

    ImportError
        If torch, safetensors, zarr or h5py is needed and not installed.

    IsADirectoryError
        If a path is that of a folder, and not one of Zarr.

    ValueError
        If a file is broken, contradicts itself, holds other objects than dense tensors
        of real numbers, or none of the forms above; if it claims to hold far more than
        it does; if it is a named pipe, a socket or a device, which are not waited for;
        if two layers have one name; if ids repeat, are missing from some of the layers,
        or have nothing in common; if values are not finite. The message names the file,
        or the layer that was made of it. Refused, too, is what leads to another file
        (external and virtual datasets of HDF5, links), or is stored by a codec or a
        filter whose output cannot be checked.

    MemoryError
        If there is too little memory for what a file holds.

    Notes
    -----
    Nothing in a file is run, and nothing is believed: the sizes that it states are
    compared with its own before memory is taken, and the indices of sparse matrices
    with their shapes before SciPy sees them. Of Zarr arrays and HDF5 datasets, missing
    files and chunks, and chunks of a wrong size, are found here; other damage is an
    error where a chunk is read.

    Of HDF5's filters, gzip, lzf, shuffle and fletcher32 are read; of Zarr's
    compressions, blosc, gzip, lz4, zlib and zstd. Matrices of MATLAB (-v7.3), which are
    stored by columns, and sparse matrices are read into memory, whatever `mmap` says.

    Examples
    --------
    >>> import tempfile, pathlib
    >>> import numpy as np
    >>> from skleiden.io import load_activations
    >>> folder = pathlib.Path(tempfile.mkdtemp())
    >>> for number in (9, 10):
    ...     np.save(folder / f"layer_{number}.npy", np.eye(3, 4))
    >>> load_activations(folder / "layer_*.npy")
    LayerStack(3 rows; layer_9: 4, layer_10: 4)
    """
    files = find_files(paths)
    found: dict[str, Layer] = {}
    for name, path in files.items():
        inside = read_layers(path, key, mmap)
        for own, layer in inside.items():
            if len(inside) == 1:
                full = name
            elif len(files) == 1:
                full = own
            else:
                full = f"{name}.{own}"
            if full in found:
                raise ValueError(
                    f"Layers must have different names; got {full!r} more than once, "
                    f"the last time in {str(path)!r}. Pass {{layer: path}}, with other "
                    "names."
                )
            if layer.ids is None and not isinstance(layer.content, Mapping):
                layer = layer._replace(ids=ids_beside(path))
            found[full] = layer
    if layers is not None:
        missing = [name for name in layers if name not in found]
        if missing:
            raise ValueError(
                f"layers must name layers of the files; got {missing}, there are "
                f"{list(found)}."
            )
        found = {name: found[name] for name in layers}
    if ids is not None:
        given = read_ids(Path(ids)) if isinstance(ids, (str, os.PathLike)) else ids
        if all(isinstance(layer.content, Mapping) for layer in found.values()):
            raise ValueError(
                f"ids name the rows of matrices, but {list(found)} hold vectors by id, "
                "with ids of their own. Leave out ids."
            )
        found = {
            name: layer
            if isinstance(layer.content, Mapping)
            else layer._replace(ids=given)
            for name, layer in found.items()
        }
    return align(found)


def load_texts(path: str | os.PathLike[str]) -> dict[Any, str]:
    r"""Load the texts of prompts.

    Parameters
    ----------
    path : path-like
        ``{prompt id: text}`` as JSON or from ``torch.save``, or a CSV file with an id
        and a text in each line: in the columns named so in a first line, else in the
        first two.

    Returns
    -------
    dict of {id: str}
        For :func:`skleiden.inspection.describe_communities`. JSON and CSV know no ids
        but strings.

    Raises
    ------
    IsADirectoryError
        If the path is that of a folder.

    ValueError
        If the file holds no texts, or an id twice; if it is broken, is not UTF-8 (with
        or without a byte-order mark), or is a named pipe, a socket or a device; if a
        quotation mark in a CSV file is never closed. The message names the file.

    ImportError
        If the file is from ``torch.save``, and torch is not installed.

    Examples
    --------
    >>> import tempfile, pathlib
    >>> from skleiden.io import load_texts
    >>> path = pathlib.Path(tempfile.mkdtemp()) / "texts.csv"
    >>> _ = path.write_text("id,text\nq1,Why is the sky blue?\n")
    >>> load_texts(path)
    {'q1': 'Why is the sky blue?'}
    """
    path = Path(path)
    form = form_of(path)
    texts: Any
    if form == "torch":
        texts = load_torch(path, mmap=False)
    elif form == "json":
        texts = load_json(path)
    else:
        texts = load_csv(path)
    if not isinstance(texts, Mapping) or not all(
        isinstance(text, str) for text in texts.values()
    ):
        raise ValueError(
            f"{str(path)!r} must hold a text for each prompt id, {{id: text}}; got "
            f"{shape_of(texts)}."
        )
    return dict(texts)
