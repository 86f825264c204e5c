"""Reading activations, ids and texts from the files that the field has."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from skleiden.layers import LayerStack

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
      (the same in one file, as most labs have): a 2-D array, or a group of them, each a
      layer; an array ``ids`` at the top names the rows. They are read block by block
      where they are used, unless `mmap` is False. Need zarr or h5py;
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
        are used.

    Returns
    -------
    stack : LayerStack
        With the ids, if there are any. Matrices are as stored (bfloat16 becomes
        float32); mappings become float32 CSR arrays. Rows are in the order of the first
        layer.

    Warns
    -----
    UserWarning
        If prompts are left out because they are not in every layer.

    Raises
    ------
    FileNotFoundError
        If there is no such file.

    ImportError
        If torch, safetensors, zarr or h5py is needed and not installed.

    ValueError
        If a file is broken, holds other objects than tensors, or none of the forms
        above; if ids repeat, are missing from some of the layers, or have nothing in
        common; if values are not finite. The message names the file.

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
    ValueError
        If the file holds no texts, or an id twice; the message names the file.

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
