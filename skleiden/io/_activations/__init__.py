"""Read activations, ids and texts from the kinds of files in use."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from skleiden._layers import LayerStack
from skleiden._text import as_text, is_missing

from . import _names as names
from ._arrays import check_reading
from ._arrow import read_table
from ._csv_table import lines_of_texts, load_csv
from ._doubts import by_prompt, refuse_doubts
from ._find import OF_TABLES, find_files, form_of
from ._formats import read_layers
from ._id_files import ids_beside, read_ids
from ._ids import align
from ._layer import Layer, Reading, shape_of
from ._numpy import read_texts
from ._parts import joined
from ._table import Table, by_id, columns_of, is_records, texts_of_table
from ._text import load_json
from ._torch import load_torch


def load_activations(
    paths: str | os.PathLike[str] | Sequence[Any] | Mapping[str, Any],
    *,
    key: str | None = None,
    axis: int | None = None,
    pool: str | None = None,
    layers: Sequence[str] | None = None,
    ids: Sequence[Any] | str | os.PathLike[str] | None = None,
    mmap: bool = True,
) -> LayerStack:
    """Load the activations of layers, from files in most of the forms in use.

    The form is recognised by a file's content, not by its name:

    - ``torch.save`` files and JSON, in which lists of numbers stand for tensors: a
      matrix; ``{layer: matrix}``; a tuple or list of matrices, each a layer; ``{id:
      vector}``; ``{layer: {id: vector}}`` and ``{id: {layer: vector}}``; ``{id: {"pre":
      vector, "post": vector, ...}}``, of which `key` chooses one; or any of these
      inside ``{"activations": ..., "ids": [...], "texts": [...]}``. Only tensors and
      plain containers are unpickled. Torch files need torch;
    - ``.safetensors``: 2-D tensors, each a layer, or 1-D tensors, each a prompt of one
      layer. ``ids`` in the metadata may hold a JSON list of ids. Needs safetensors;
    - ``.npy``: a matrix;
    - ``.npz``: a sparse matrix of :func:`scipy.sparse.save_npz`, or 2-D arrays, each a
      layer;
    - Zarr folders and HDF5 files, which hold large arrays in chunks: a 2-D array, a
      sparse matrix (a group, as AnnData stores it), or a group of them, each a layer.
      From AnnData (``.h5ad``), ``X`` and ``layers`` are taken, or what `layers` names,
      such as ``obsm/X_pca``; the index of ``obs`` names the rows. Arrays are read block
      by block where they are used, unless `mmap` is False. These need zarr or h5py;
    - tables in Parquet, Arrow or lines of JSON: each column of lists of numbers is a
      layer; with a column ``layer``, each row belongs to the layer that it names.
      Columns whose names differ by their numbers, such as ``n0``, ``n1``, ..., are the
      neurons of one layer. Parquet and Arrow need pyarrow;
    - CSV with a column for each neuron, with such names or with none;
    - sparse layers as the tools of sparse autoencoders write them: three columns or
      arrays named ``row``, ``latent`` and ``value`` (or alike), in any of the forms
      above; or two of the shape (n, k), such as ``top_indices`` and ``top_acts``.

    An array or a column named ``ids``, ``prompt_id`` or the like names the rows; in
    Zarr and HDF5, it names those of the group that it is in.

    An array of three dimensions may be rows x layers x neurons, where `axis` tells
    which axis counts the layers (an array ``layer_names`` or ``layers`` beside it names
    them), or rows x tokens x neurons, from which `pool` makes vectors. Without either
    argument it is refused, or left out if there are matrices beside it. Layers whose
    names say that they may be prompts, batches or splits of the rows are refused, too.

    Parameters
    ----------
    paths : str, path, sequence of paths, or mapping of {layer: path or paths}
        A file, a pattern such as ``"activations/layer_*.npy"``, or several files (or
        folders, of Zarr). Layers have the names of their files without the suffix, and
        come in natural order (``layer_9`` before ``layer_10``); a mapping gives its own
        names and order. Layers of a file that holds several have their own names,
        preceded by that of the file if there are several files.

        Several files of one layer in a mapping, ``{layer: [part, part]}``, are joined
        row by row, in memory, and so are those whose names say that they are parts:
        ``acts-00001-of-00002``, ``layer_9_part_0``, ``batch_0_layer_9``, or
        ``layer_9_0`` and ``layer_9_25`` where the first holds 25 rows. Names that only
        may say so are refused.

    key : str, default=None
        Which entry of a mapping to take; if None, "post" of ``{"pre", "post", "out"}``.

    axis : int, default=None
        The axis that counts the layers, in arrays of more than two dimensions. For
        mappings in mappings, and for files of vectors by name: 0 if the outer names
        (those of the files) name the layers, 1 if the inner ones do. For matrices by
        name: 0 if each is a layer, 1 if each is a prompt, with a row for each layer.

    pool : {"mean", "max", "last"}, default=None
        How to make one vector from those of a prompt's tokens, which are along axis 1
        of arrays of three dimensions, or along axis 0 of ``{id: matrix}`` and ``{id:
        {layer: matrix}}``. An array ``attention_mask`` beside them tells which tokens
        count; without it, all do.

    layers : sequence of str, default=None
        Names of the layers to keep, in this order; all if None. Of AnnData, matrices of
        ``obsm`` are only read if they are named here.

    ids : sequence, or path, default=None
        Ids of the rows of matrices: one list for all layers, or a file with it (a JSON
        list, ``.npy``, a table with a column ``id``, or a text file with an id on each
        line). If None, they are those that the files hold, or else those in a file
        beside each: ``layer_17.ids.json``, ``.ids.txt``, ``.ids.csv``, ``.ids.jsonl``
        or ``.ids.npy`` for ``layer_17.npy``.

    mmap : bool, default=True
        Whether to leave matrices in their files, mapped or open, instead of reading
        them into memory, and to map tensors while they are read. Values that stay in a
        file are checked when they are used. Such a file must not become shorter. A fit
        checks this at the start of each of its stages, and refuses such a file; but if
        a stage reads what is no longer there, the system ends the process (by the
        signal SIGBUS, which Python cannot catch).

    Returns
    -------
    stack : LayerStack
        The layers, with the ids of their rows, if there are any. Matrices keep their
        dtype (float types that NumPy lacks, such as bfloat16, become float32); sparse
        matrices become CSR, and mappings float32 CSR arrays. Rows are in the order of
        the first layer.

    Warns
    -----
    UserWarning
        If prompts are left out because they are not in every layer; if chunks of a Zarr
        array or HDF5 dataset are missing, and are read as its fill value; if a layer of
        an HDF5 file has several names; if a file holds something that the stack does
        not; if a list of matrices of one shape, which may be batches, is taken for
        layers; if tokens that may be padding are pooled; if the first line of a CSV
        file, or of a file of ids, is taken for names and may be values.

    Raises
    ------
    FileNotFoundError
        If there is no such file, or no file matches the pattern.

    ImportError
        If torch, safetensors, zarr, h5py or pyarrow is needed, but not installed.

    TypeError
        If `axis` is not an integer.

    IsADirectoryError
        If a path is a folder, but not a Zarr folder.

    ValueError
        If a file is broken, contradicts itself, holds objects other than dense tensors
        of real numbers, or has none of the forms above; if it can mean two things: the
        message names both, and the argument that decides; if `key`, `axis` or `pool`
        decides nothing of what a file holds, or `layers` names something that is not
        there; if it claims to hold far more than it does; if it is a named pipe, a
        socket or a device, reading which may wait forever; if two layers have one name;
        if ids repeat, are missing from some of the layers, or have nothing in common;
        if values are not finite; if it leads to another file (external and virtual
        datasets of HDF5, links), or is stored by a codec or a filter whose output
        cannot be checked. The message names the file, or the layer that was made from
        it.

    MemoryError
        If there is too little memory for what a file holds.

    Notes
    -----
    Nothing in a file is run, and nothing in it is trusted: the sizes that it states are
    compared with its real size before memory is taken, and the indices of sparse
    matrices are checked against their shapes before SciPy uses them. Missing files and
    chunks of Zarr arrays and HDF5 datasets, and chunks of a wrong size, are found here;
    other damage raises an error when the chunk is read.

    HDF5 files may use the filters gzip, lzf, shuffle and fletcher32; Zarr arrays may
    use the compressions blosc, gzip, lz4, zlib and zstd. Matrices of MATLAB (-v7.3),
    which are stored by columns, and sparse matrices are read into memory, whatever
    `mmap` says.

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
    how = Reading(key, axis, pool, mmap, layers)
    check_reading(how)
    files = find_files(paths)
    read = {
        name: joined([_read(part, how) for part in parts.paths], parts)
        for name, parts in files.items()
    }
    found = _by_full_name(by_prompt(read, how), layers or ())
    if layers is not None:
        missing = [name for name in layers if name not in found]
        if missing:
            raise ValueError(
                f"layers must name layers of the files; got {missing}. The files hold "
                f"{list(found)}."
            )
        found = {name: found[name] for name in layers}
    if ids is not None:
        given = read_ids(Path(ids)) if isinstance(ids, (str, os.PathLike)) else ids
        if all(isinstance(layer.content, Mapping) for layer in found.values()):
            raise ValueError(
                f"ids= names the rows of matrices, but {list(found)} hold vectors by "
                "id, with ids of their own. Leave out ids=."
            )
        found = {
            name: layer
            if isinstance(layer.content, Mapping)
            else layer._replace(ids=given)
            for name, layer in found.items()
        }
    if len(files) == 1 or not isinstance(paths, Mapping):
        refuse_doubts(found, files, how)
    return align({name: _grown(layer) for name, layer in found.items()})


def _read(path: Path, how: Reading) -> dict[str, Layer]:
    """Read the layers of a file, with the ids that stand beside it."""
    found = read_layers(path, how)
    nameless = [
        name
        for name, layer in found.items()
        if layer.ids is None and not isinstance(layer.content, Mapping)
    ]
    beside = ids_beside(path) if nameless else None
    return found | {name: found[name]._replace(ids=beside) for name in nameless}


def _by_full_name(
    read: Mapping[str, dict[str, Layer]], asked: Sequence[str]
) -> dict[str, Layer]:
    """Name layers after their files, or themselves where a file has several."""
    found: dict[str, Layer] = {}
    for name, inside in read.items():
        for own, layer in inside.items():
            if len(read) == 1 and (len(inside) > 1 or own in asked):
                full = own
            elif len(inside) == 1:
                full = name
            else:
                full = f"{name}.{own}"
            if full in found:
                raise ValueError(
                    f"Layers must have different names; got {full!r} more than once, "
                    f"the last time in the file {name!r}. Pass {{layer: path}}, with "
                    "other names."
                )
            found[full] = layer
    return found


def _grown(layer: Layer) -> Layer:
    """Give a matrix of triplets its last rows, which have no value."""
    if layer.ids is None or not layer.open_ended:
        return layer
    n = len(getattr(layer.ids, "values", layer.ids))
    if n > layer.content.shape[0]:
        layer.content.resize((n, layer.content.shape[1]))
    return layer


def load_texts(path: str | os.PathLike[str]) -> dict[Any, str] | list[str]:
    r"""Load the texts of prompts.

    Parameters
    ----------
    path : path-like
        ``{prompt id: text}``, a list of texts or ``{"ids": [...], "texts": [...]}``, as
        JSON or from ``torch.save``; a table with the columns ``id`` and ``text`` (or
        similar names, such as ``prompt``), as CSV with commas, semicolons or tabs,
        lines of JSON, Parquet, Arrow or arrays in ``.npz``; CSV without such names, of
        which the first two columns are taken; ``.npy``; or a ``.txt`` file with a text
        on each line.

    Returns
    -------
    dict of {id: str}, or list of str
        The texts, for :func:`skleiden.inspection.describe_communities`: a list, in the
        order of the rows, if there are no ids. Ids from CSV, and those that are the
        names in a JSON object, are strings. A missing text (None, NaN, NA) becomes
        empty; a lone half of a surrogate pair becomes U+FFFD.

    Warns
    -----
    UserWarning
        If the first line of a CSV or text file looks like names, but is taken for a
        text; if a table has no column of ids.

    Raises
    ------
    IsADirectoryError
        If the path is a folder.

    ValueError
        If the file holds no texts, or one id twice; if it is broken, is not UTF-8 (with
        or without a byte-order mark), or is a named pipe, a socket or a device; if a
        quotation mark in a CSV file is never closed, or a line has more cells than the
        first. The message names the file.

    ImportError
        If the file is from ``torch.save``, or a table in Parquet or Arrow, but torch or
        pyarrow is not installed.

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
    texts = _texts_in(path)
    values = texts.values() if isinstance(texts, Mapping) else texts
    if not isinstance(texts, (Mapping, list, tuple)) or not all(
        isinstance(text, str) or is_missing(text) for text in values
    ):
        raise ValueError(
            f"{str(path)!r} must hold a text for each row, in a list, or {{id: text}}; "
            f"got {shape_of(texts)}."
        )
    if isinstance(texts, Mapping):
        return {i: as_text(text) for i, text in texts.items()}
    return [as_text(text) for text in texts]


def _texts_in(path: Path) -> Any:
    """Read texts by id, or in the order of rows, as a file has them."""
    form = form_of(path)
    if form == "arrow":
        return _texts_of(read_table(path), path)
    if form in ("torch", "json"):
        content = load_torch(path, mmap=False) if form == "torch" else load_json(path)
        if is_records(content):
            return _texts_of(columns_of(content), path)
        if isinstance(content, Mapping):
            listed = {
                name: value if isinstance(value, (list, tuple)) else value.tolist()
                for name, value in content.items()
                if isinstance(value, (list, tuple)) or getattr(value, "ndim", 0) == 1
            }
            named = names.find(listed, names.IDS), names.find(listed, names.TEXTS)
            if named[1] is not None:  # beside activations, perhaps
                texts = list(listed[named[1]])
                if named[0] is None:
                    return texts
                return by_id(list(listed[named[0]]), texts, path)
        return content
    if form in ("npy", "npz") and path.suffix.lower() not in OF_TABLES:
        return _texts_of(read_texts(path), path)
    if form in ("hdf5", "safetensors", "zarr in a zip"):
        raise ValueError(
            f"{str(path)!r} is a file of activations ({form}), from which no texts are "
            "read. Save them as JSON, {id: text}."
        )
    if path.suffix.lower() == ".txt" and (lines := lines_of_texts(path)) is not None:
        return lines
    return _texts_of(load_csv(path), path)


def _texts_of(table: Table, path: Path) -> dict[Any, Any] | list[Any]:
    found = texts_of_table(table, path)
    if found is None:
        raise ValueError(
            f"{str(path)!r} names no column of texts; got columns {list(table)[:10]}. "
            "Name it 'text'."
        )
    return found
