"""Reading activations, ids and texts from the files that the field has."""

from __future__ import annotations

import csv
import glob
import json
import os
import pickle
import re
import warnings
import zipfile
from collections.abc import Hashable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import scipy.sparse as sp

from skleiden.layers import (
    LayerStack,
    align_layers,
    as_id_array,
    is_stored,
    read_rows,
)

# Files by which a folder is known to be one of Zarr, version 3 or 2.
_ZARR_FILES = ("zarr.json", ".zgroup", ".zarray")

# What may stand beside an array to name its rows: layer_17.npy, layer_17.ids.json.
_SIDE_FILES = (".ids.json", ".ids.txt", ".ids.npy")

_SAFETENSORS_DTYPES = {
    "F64": "<f8",
    "F32": "<f4",
    "F16": "<f2",
    "BF16": "<u2",
    "I64": "<i8",
    "I32": "<i4",
    "I16": "<i2",
    "I8": "i1",
    "U8": "u1",
    "BOOL": "?",
}


class _Layer(NamedTuple):
    """One layer of a file: a mapping {id: vector}, or a matrix and perhaps ids."""

    content: Any
    ids: Any = None


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
    files = _find(paths)
    found: dict[str, _Layer] = {}
    for name, path in files.items():
        inside = _read_file(path, key, mmap)
        for own, layer in inside.items():
            if len(inside) == 1:
                full = name
            elif len(files) == 1:
                full = own
            else:
                full = f"{name}.{own}"
            if layer.ids is None and not isinstance(layer.content, Mapping):
                layer = layer._replace(ids=_side_ids(path))
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
        given = _read_ids(Path(ids)) if isinstance(ids, (str, os.PathLike)) else ids
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
    return _align(found)


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
    form = _form(path)
    texts: Any
    if form == "torch":
        texts = _load_torch(path, mmap=False)
    elif form == "json":
        texts = _load_json(path)
    else:
        texts = _read_csv(path)
    if not isinstance(texts, Mapping) or not all(
        isinstance(text, str) for text in texts.values()
    ):
        raise ValueError(
            f"{str(path)!r} must hold a text for each prompt id, {{id: text}}; got "
            f"{_shape_of(texts)}."
        )
    return dict(texts)


def _find(paths: Any) -> dict[str, Path]:
    """The files, by the names of their layers."""
    if isinstance(paths, Mapping):
        files = {str(name): Path(path) for name, path in paths.items()}
    else:
        if isinstance(paths, (str, os.PathLike)):
            text = os.fspath(paths)
            listed = [text] if Path(text).exists() else glob.glob(text)  # noqa: PTH207
            if not listed:
                raise FileNotFoundError(
                    f"No file matches {text!r} (in {str(Path.cwd())!r})."
                )
        else:
            listed = list(paths)
        ordered = sorted((Path(path) for path in listed), key=_natural)
        if not ordered:
            raise ValueError("paths must name at least one file; got none.")
        names = [path.stem for path in ordered]
        repeated = sorted({name for name in names if names.count(name) > 1})
        if repeated:
            raise ValueError(
                f"Files must have different names, which become the layers'; got "
                f"{repeated} more than once. Pass {{layer: path}}."
            )
        files = dict(zip(names, ordered, strict=True))
    for path in files.values():
        if path.is_dir() and not _is_zarr(path):
            raise IsADirectoryError(
                f"{str(path)!r} is a folder. Give its files, such as "
                f"{str(path / 'layer_*')!r}."
            )
        if not path.exists():
            raise FileNotFoundError(f"There is no file {str(path)!r}.")
    return files


def _natural(path: Path) -> list[Any]:
    """Sort key under which layer_9 comes before layer_10."""
    parts = re.split(r"(\d+)", path.stem)
    return [[int(part) if part.isdigit() else part for part in parts], str(path)]


def _is_zarr(path: Path) -> bool:
    return any((path / name).is_file() for name in _ZARR_FILES)


def _form(path: Path) -> str:
    """Which form a file has, by its content."""
    if path.is_dir():
        return "zarr" if _is_zarr(path) else "unknown"
    with path.open("rb") as file:
        start = file.read(9)
    if start.startswith(b"\x93NUMPY"):
        return "npy"
    if start.startswith(b"\x89HDF\r\n\x1a\n"):
        return "hdf5"
    if start.startswith(b"PK"):
        try:
            with zipfile.ZipFile(path) as archive:
                names = archive.namelist()
        except Exception as error:  # as with torch
            raise ValueError(
                f"{str(path)!r} is a broken or truncated archive: {error}."
            ) from error
        torch_made = any(name.endswith("/data.pkl") for name in names)
        return "torch" if torch_made else "npz"
    if path.suffix == ".safetensors" or start[8:9] == b"{":
        return "safetensors"
    if start.startswith(b"\x80"):  # a pickle, as of older versions of torch
        return "torch"
    if start.lstrip().startswith((b"{", b"[")):
        return "json"
    return "unknown"


def _read_file(path: Path, key: str, mmap: bool) -> dict[str, _Layer]:
    form = _form(path)
    if form == "npy":
        return {"": _Layer(_load_npy(path, mmap))}
    if form == "npz":
        return _load_npz(path)
    if form == "safetensors":
        return _load_safetensors(path, mmap)
    if form in ("zarr", "hdf5"):
        arrays = _open_zarr(path) if form == "zarr" else _open_hdf5(path)
        return _layers_of_group(arrays, path, mmap)
    if form not in ("torch", "json"):
        raise ValueError(
            f"{str(path)!r} is no file of activations: it is neither of NumPy, "
            "safetensors, torch, Zarr, HDF5 nor JSON."
        )
    content = _load_torch(path, mmap) if form == "torch" else _load_json(path)
    if hasattr(content, "detach") and content.ndim == 2:
        return {"": _Layer(_to_numpy(content))}
    if not isinstance(content, Mapping) or not content:
        raise ValueError(
            f"{str(path)!r} must hold a mapping of prompt ids to vectors; got "
            f"{_shape_of(content)}."
        )
    return {"": _Layer(_vectors(content, key, path))}


def _vectors(content: Mapping[Any, Any], key: str, path: Path) -> dict[Any, Any]:
    """{id: vector} of {id: vector} or {id: {"pre", "post", "out"}}."""
    vectors = {}
    for i, record in content.items():
        if isinstance(record, Mapping):
            if key not in record:
                raise ValueError(
                    f"Prompt {i!r} in {str(path)!r} has no {key!r}; it has "
                    f"{list(record)}. Choose one of these with key=."
                )
            record = record[key]
        vectors[i] = record
    return vectors


def _to_numpy(tensor: Any) -> np.ndarray:
    import torch

    tensor = tensor.detach().cpu()
    if tensor.dtype == torch.bfloat16:  # NumPy has no such type
        tensor = tensor.float()
    array: np.ndarray = tensor.numpy()
    return array


def _load_torch(path: Path, mmap: bool) -> Any:
    try:
        import torch
    except ImportError as error:
        raise ImportError(
            f"{str(path)!r} was saved by torch, which reads it: pip install "
            '"skleiden[torch]".'
        ) from error
    # Files of older versions of torch are no archives, and cannot be mapped.
    options: dict[str, Any] = {"mmap": mmap and zipfile.is_zipfile(path)}
    try:
        with warnings.catch_warnings():
            # A plain pickle is refused below, or is read.
            warnings.filterwarnings("ignore", "Detected pickle protocol")
            return torch.load(path, map_location="cpu", weights_only=True, **options)
    except pickle.UnpicklingError as error:
        raise ValueError(
            f"{str(path)!r} holds objects that only code inside the file could make, "
            "which is not run. Where the file was made, save tensors, numbers, "
            "strings, dicts and lists alone: torch.save({id: torch.as_tensor(vector) "
            f"for id, vector in ...}}, path)."
        ) from error
    except Exception as error:  # whatever bytes that make no sense lead to
        raise ValueError(
            f"{str(path)!r} is broken or truncated: {_first_line(error)}"
        ) from error


def _load_json(path: Path) -> Any:
    try:
        return json.loads(
            path.read_text(encoding="utf-8"), object_pairs_hook=_no_repeats
        )
    except ValueError as error:
        raise ValueError(f"{str(path)!r} is no valid JSON: {error}.") from error


def _no_repeats(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        names = [name for name, _ in pairs]
        repeated = next(name for name in names if names.count(name) > 1)
        raise ValueError(f"{repeated!r} stands there more than once")
    return found


def _load_npy(path: Path, mmap: bool) -> Any:
    try:
        array = np.load(path, mmap_mode="r" if mmap else None, allow_pickle=False)
    except Exception as error:  # as with torch
        raise ValueError(
            f"{str(path)!r} is broken, truncated, or holds objects instead of numbers: "
            f"{_first_line(error)}"
        ) from error
    return _check_matrix(array, path)


def _load_npz(path: Path) -> dict[str, _Layer]:
    try:
        # Opened here: NumPy leaves a file open that turns out to be no archive.
        with path.open("rb") as file, np.load(file, allow_pickle=False) as archive:
            is_sparse = {"format", "shape"} <= set(archive.files)
            wanted = {"ids"} if is_sparse else set(archive.files)
            arrays = {name: archive[name] for name in archive.files if name in wanted}
        ids = arrays.pop("ids", None)
        if is_sparse:
            with path.open("rb") as file:
                matrix = sp.load_npz(file).tocsr()  # it ignores what it does not know
            matrix.check_format(full_check=True)
            arrays = {"": matrix}
    except Exception as error:  # as with torch
        raise ValueError(
            f"{str(path)!r} is broken, truncated, or holds objects instead of numbers: "
            f"{_first_line(error)}"
        ) from error
    layers = sorted(
        (name for name in arrays if arrays[name].ndim == 2),
        key=lambda name: _natural(Path(name)),
    )
    if not layers:
        shapes = {name: array.shape for name, array in arrays.items()}
        raise ValueError(
            f"{str(path)!r} must hold a sparse matrix of scipy.sparse.save_npz or 2-D "
            f"arrays; got arrays of shapes {shapes}."
        )
    return {name: _Layer(_check_matrix(arrays[name], path), ids) for name in layers}


def _load_safetensors(path: Path, mmap: bool) -> dict[str, _Layer]:
    try:
        from safetensors import safe_open
    except ImportError as error:
        raise ImportError(
            f'{str(path)!r} needs safetensors: pip install "skleiden[safetensors]".'
        ) from error
    try:
        # It checks that header and content fit; what follows relies on that.
        with safe_open(path, framework="numpy") as file:
            metadata = file.metadata() or {}
    except Exception as error:  # as with torch
        raise ValueError(
            f"{str(path)!r} is broken or truncated: {_first_line(error)}"
        ) from error
    with path.open("rb") as raw:
        length = int.from_bytes(raw.read(8), "little")
        header = json.loads(raw.read(length))
    header.pop("__metadata__", None)
    tensors = {
        name: _map_tensor(path, name, entry, 8 + length, mmap)
        for name, entry in header.items()
    }
    ids = None
    if "ids" in metadata:
        try:
            ids = json.loads(metadata["ids"])
        except ValueError as error:
            raise ValueError(
                f"The ids in the metadata of {str(path)!r} must be a JSON list: "
                f"{error}."
            ) from error
    dimensions = {tensor.ndim for tensor in tensors.values()}
    if dimensions == {1}:
        return {"": _Layer(tensors)}
    if dimensions == {2}:
        names = sorted(tensors, key=lambda name: _natural(Path(name)))
        return {name: _Layer(_check_matrix(tensors[name], path), ids) for name in names}
    shapes = {name: tensor.shape for name, tensor in list(tensors.items())[:5]}
    raise ValueError(
        f"{str(path)!r} must hold 2-D tensors, each a layer, or 1-D tensors, each a "
        f"prompt; got shapes {shapes}."
    )


def _map_tensor(
    path: Path, name: str, entry: dict[str, Any], start: int, mmap: bool
) -> np.ndarray:
    dtype = _SAFETENSORS_DTYPES.get(entry["dtype"])
    if dtype is None:
        raise ValueError(
            f"Tensor {name!r} in {str(path)!r} has dtype {entry['dtype']}; these are "
            f"read: {', '.join(_SAFETENSORS_DTYPES)}."
        )
    shape = tuple(entry["shape"])
    if 0 in shape:
        return np.empty(shape, dtype=dtype)
    tensor: np.ndarray = np.memmap(
        path, dtype, mode="r", offset=start + entry["data_offsets"][0], shape=shape
    )
    if entry["dtype"] == "BF16":  # the upper half of a float32
        return (tensor.astype(np.uint32) << 16).view(np.float32)
    return tensor if mmap else np.array(tensor)


def _open_zarr(path: Path) -> dict[str, Any]:
    """The arrays of a folder of Zarr, by their names, "" if it is an array itself."""
    try:
        import zarr
    except ImportError as error:
        raise ImportError(
            f'{str(path)!r} needs zarr: pip install "skleiden[zarr]".'
        ) from error
    try:
        with warnings.catch_warnings():
            # That other software may not know the dtype of ids, which is read here.
            warnings.filterwarnings("ignore", ".*does not have a Zarr V3")
            opened = zarr.open(str(path), mode="r")
            arrays = {"": opened}
            if not hasattr(opened, "shape"):
                arrays = {
                    name: member
                    for name, member in opened.members(max_depth=None)
                    if hasattr(member, "shape")
                }
            codecs = {
                name: [
                    # Objects in some versions, and plain values in others.
                    repr(value)
                    for key, value in array.metadata.to_dict().items()
                    if key
                    in ("codecs", "filters", "compressor", "storage_transformers")
                ]
                for name, array in arrays.items()
            }
    except Exception as error:  # as with torch
        raise ValueError(
            f"{str(path)!r} is broken or incomplete: {_first_line(error)}"
        ) from error
    for name, described in codecs.items():
        if re.search(r"\bpickle\b", " ".join(described), re.IGNORECASE):
            raise ValueError(
                f"Array {name!r} in {str(path)!r} is stored by pickle, which only code "
                "inside the folder could read, and that is not run. Store it with "
                "another codec."
            )
    return arrays


def _open_hdf5(path: Path) -> dict[str, Any]:
    """The datasets of an HDF5 file, by their names."""
    try:
        import h5py
    except ImportError as error:
        raise ImportError(
            f'{str(path)!r} needs h5py: pip install "skleiden[hdf5]".'
        ) from error
    arrays: dict[str, Any] = {}

    def keep(name: str, item: Any) -> None:
        if isinstance(item, h5py.Dataset):
            arrays[name] = item

    try:
        h5py.File(path, "r").visititems(keep)  # open as long as its datasets are
    except Exception as error:  # as with torch
        raise ValueError(
            f"{str(path)!r} is broken or truncated: {_first_line(error)}"
        ) from error
    return arrays


def _layers_of_group(
    arrays: dict[str, Any], path: Path, mmap: bool
) -> dict[str, _Layer]:
    """Layers among the arrays of a Zarr folder or HDF5 file."""
    names = sorted(
        (name for name, array in arrays.items() if len(array.shape or ()) == 2),
        key=lambda name: _natural(Path(name)),
    )
    if not names:
        shapes = {name: array.shape for name, array in arrays.items()}
        raise ValueError(
            f"{str(path)!r} must hold 2-D arrays, each a layer; got arrays of shapes "
            f"{shapes}."
        )
    ids, found = None, {}
    try:
        if "ids" in arrays and "ids" not in names:
            ids = [
                i.decode() if isinstance(i, bytes) else i
                for i in arrays["ids"][:].tolist()
            ]
        for name in names:
            found[name] = arrays[name] if mmap else np.asarray(arrays[name][:])
    except Exception as error:  # as with torch
        raise ValueError(
            f"{str(path)!r} is broken or truncated: {_first_line(error)}"
        ) from error
    return {name: _Layer(_check_matrix(found[name], path), ids) for name in names}


def _check_matrix(matrix: Any, path: Path) -> Any:
    if matrix.ndim != 2:
        raise ValueError(
            f"{str(path)!r} must hold a matrix, prompts x neurons; got "
            f"{matrix.ndim} dimension(s), shape {matrix.shape}."
        )
    if matrix.dtype.kind not in "buif":
        raise ValueError(
            f"{str(path)!r} must hold real numbers; got dtype {matrix.dtype}."
        )
    mapped = isinstance(matrix, np.memmap) or is_stored(matrix)
    values = matrix.data if sp.issparse(matrix) else matrix
    if not mapped and not np.isfinite(values).all():
        raise ValueError(
            f"{str(path)!r} holds NaN or infinity. Remove these prompts or repair "
            "their values."
        )
    return matrix


def _side_ids(path: Path) -> Any:
    for suffix in _SIDE_FILES:
        beside = path.with_name(path.stem + suffix)
        if beside.exists():
            return _read_ids(beside)
    return None


def _read_ids(path: Path) -> Any:
    """Ids from a JSON list, an array, or a text file with one on each line."""
    form = _form(path)
    if form == "npy":
        try:
            return np.load(path, allow_pickle=False)
        except Exception as error:  # as with torch
            raise ValueError(
                f"{str(path)!r} must hold ids, numbers or strings: {_first_line(error)}"
            ) from error
    if path.suffix == ".json":
        ids = _load_json(path)
        if not isinstance(ids, list):
            raise ValueError(
                f"{str(path)!r} must hold a list of ids; got {_shape_of(ids)}."
            )
        return ids
    return path.read_text(encoding="utf-8").splitlines()


def _read_csv(path: Path) -> dict[str, str]:
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            rows = [row for row in csv.reader(file) if row]
    except (UnicodeDecodeError, csv.Error) as error:
        raise ValueError(f"{str(path)!r} is no CSV file: {error}.") from error
    places = (0, 1)
    if rows and {"id", "text"} <= set(rows[0]):
        places = (rows[0].index("id"), rows[0].index("text"))
        rows = rows[1:]
    texts: dict[str, str] = {}
    for row in rows:
        if len(row) <= max(places):
            raise ValueError(
                f"{str(path)!r} must have an id and a text in each line; got {row}."
            )
        i, text = (row[place] for place in places)
        if i in texts:
            raise ValueError(f"{str(path)!r} has the id {i!r} more than once.")
        texts[i] = text
    return texts


def _align(found: dict[str, _Layer]) -> LayerStack:
    """Bring layers to their common prompts, without a copy where they have the same."""
    without = [name for name, layer in found.items() if not _has_ids(layer)]
    if len(without) == len(found):
        return LayerStack({name: layer.content for name, layer in found.items()})
    if without:
        raise ValueError(
            f"Some layers have ids, and {without} have none, so that their rows cannot "
            "be matched. Give the ids of all with ids=, or beside each file as "
            f"{without[0]}.ids.json."
        )
    known = {name: _ids_of(name, layer) for name, layer in found.items()}
    sets = [set(ids) for ids in known.values()]
    common = set.intersection(*sets)
    first = next(iter(known.values()))
    if not common:
        examples = {name: ids[0] for name, ids in known.items() if ids}
        raise ValueError(
            "No prompt id is in all layers. Check that ids are of one type and origin; "
            f"the layers' first ids are {examples}."
        )
    kept = [i for i in first if i in common]
    left_out = len(set.union(*sets)) - len(kept)
    if left_out:
        sizes = {name: len(ids) for name, ids in known.items()}
        warnings.warn(
            f"{left_out} prompts are not in every layer and are left out; {len(kept)} "
            f"are kept. The layers have {sizes} prompts.",
            UserWarning,
            stacklevel=3,
        )
    mappings: dict[Hashable, Mapping[Hashable, Any]] = {
        name: {i: layer.content[i] for i in kept}
        for name, layer in found.items()
        if isinstance(layer.content, Mapping)
    }
    blocks = {}
    if mappings:
        stacked, _ = align_layers(mappings, order="reference")
        blocks = dict(zip(stacked.names, stacked.layers, strict=True))
    for name, layer in found.items():
        if name not in blocks:
            own = known[name]
            rows = dict(zip(own, range(len(own)), strict=True))
            same = own == kept
            blocks[name] = (
                layer.content
                if same
                else read_rows(layer.content, [rows[i] for i in kept])
            )
    return LayerStack({name: blocks[name] for name in found}, ids=as_id_array(kept))


def _has_ids(layer: _Layer) -> bool:
    return layer.ids is not None or isinstance(layer.content, Mapping)


def _ids_of(name: str, layer: _Layer) -> list[Any]:
    if isinstance(layer.content, Mapping):
        return list(layer.content)
    ids = as_id_array(layer.ids)
    try:
        LayerStack({name: layer.content}, ids=ids)  # it checks them against the rows
    except (ValueError, TypeError) as error:
        raise ValueError(f"The ids of layer {name!r} do not fit: {error}") from error
    listed: list[Any] = ids.tolist()
    return listed


def _shape_of(content: Any) -> str:
    if isinstance(content, Mapping):
        kinds = sorted({type(value).__name__ for value in content.values()})
        return f"a mapping of {len(content)} to {' and '.join(kinds) or 'nothing'}"
    if hasattr(content, "shape"):
        return f"{type(content).__name__} of shape {tuple(content.shape)}"
    return type(content).__name__


def _first_line(error: BaseException) -> str:
    lines = str(error).strip().splitlines()
    if not lines:
        return type(error).__name__
    # Advice to run what is in the file is not passed on.
    return "it holds pickled objects" if "pickle" in lines[0] else lines[0]
