"""Read HDF5 files."""

from __future__ import annotations

import operator
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from skleiden._blocks.hdf5_chunks import (
    KNOWN_FILTERS,
    Filters,
    chunk_infos,
    chunk_size,
    filters_of,
    n_chunks,
    size_problem,
)

from ._encoded import sparse_groups
from ._group import Content, Storage, layers_of_group
from ._hdf5_writers import RefusedError, content_of
from ._layer import Layer, Reading, first_line, tell


def read_hdf5(path: Path, how: Reading) -> dict[str, Layer]:
    """Read the 2-D datasets and sparse matrices of a file, each a layer.

    Nothing outside the file is read: links to other files, datasets that are stored in
    them, and virtual datasets are refused.
    """
    content = _open(path)

    def storage_of(name: str) -> Storage:
        with _named(path):
            return _storage_of(content.arrays[name], name, path)

    return layers_of_group(content, storage_of, path, how)


def _open(path: Path) -> Content:
    """Open the datasets of an HDF5 file, each by its first name."""
    try:
        import h5py
    except ImportError as error:
        raise ImportError(
            f'{str(path)!r} needs h5py: pip install "skleiden[hdf5]".'
        ) from error
    with _named(path):
        # The file stays open as long as its datasets are used.
        datasets, groups, other_names = _find_objects(h5py.File(path, "r"), path)
        content = content_of(datasets, groups, path)
        unused = _names_of_layers(other_names, content)
    if unused:
        listed = ", ".join(
            f"{name!r} for {first or '/'!r}" for name, first in list(unused.items())[:5]
        )
        tell(
            f"{str(path)!r} has {len(unused)} further names for its layers, or for "
            f"groups of them: {listed}{', ...' if len(unused) > 5 else ''}. Each layer "
            "is taken once, under the latter name."
        )
    return content


@contextmanager
def _named(path: Path) -> Iterator[None]:
    """Turn whatever the library finds wrong into an error that names the file."""
    try:
        yield
    except MemoryError as error:
        raise MemoryError(
            f"{str(path)!r} needs more memory than there is. Free memory, or give the "
            "file in parts."
        ) from error
    except RefusedError as error:
        raise ValueError(str(error)) from error.__cause__
    except Exception as error:
        cause = first_line(error)
        if "unable to lock" in cause or "already open" in cause:
            raise ValueError(
                f"{str(path)!r} is open for writing, here or in another process, or "
                f"was not closed when it was written: {cause}. Close it there."
            ) from error
        raise ValueError(f"{str(path)!r} is broken or truncated: {cause}") from error


def _find_objects(
    file: Any, path: Path
) -> tuple[dict[str, Any], dict[str, Any], dict[str, str]]:
    """Find the datasets and groups of an open file, and further names of them.

    Links inside the file may give an object more names than one, and may form a circle.
    Each object is taken once: under its first name by a hard link, in the order of the
    file. Symbolic ("soft") links lead to one of these, unless they lead nowhere.
    Further names are given with the first one.
    """
    import h5py

    datasets: dict[str, Any] = {}
    subgroups = {"": file["/"]}
    first_names: dict[Any, str] = {file["/"]: ""}
    other_names: dict[str, str] = {}
    soft = []
    groups = [("", file["/"])]
    while groups:
        prefix, group = groups.pop()
        inner = []
        for own in group:
            name = f"{prefix}{own}"
            link = group.get(own, getlink=True)
            if isinstance(link, h5py.SoftLink):
                soft.append(name)
                continue
            if not isinstance(link, h5py.HardLink):
                raise RefusedError(
                    f"Link {name!r} in {str(path)!r} leads to another file, "
                    f"{getattr(link, 'filename', 'of an unknown kind')!r}, which is "
                    "not read. Give that file itself, or copy the dataset into this "
                    "one."
                )
            item = group[own]
            if item in first_names:
                other_names[name] = first_names[item]
                continue
            first_names[item] = name
            if isinstance(item, h5py.Group):
                subgroups[name] = item
                inner.append((f"{name}/", item))
            elif isinstance(item, h5py.Dataset):
                datasets[name] = item
        groups.extend(reversed(inner))
    for name in soft:
        try:
            item = file[name]
        except (KeyError, RuntimeError) as error:
            raise RefusedError(
                f"Link {name!r} in {str(path)!r} leads to "
                f"{file.get(name, getlink=True).path!r}, which is not in the file. "
                "Remove the link, or copy the file with what it leads to."
            ) from error
        other_names[name] = first_names[item]
    if other_names.get("ids") in datasets:
        datasets["ids"] = datasets[other_names["ids"]]
    return datasets, subgroups, other_names


def _names_of_layers(names: dict[str, str], content: Content) -> dict[str, str]:
    """Select, from further names, those of layers, or of groups with layers."""
    arrays = content.arrays
    layers = [name for name, item in arrays.items() if len(item.shape or ()) == 2]
    layers += sparse_groups(arrays, content.groups)
    # A layer is in each group above it, of which the topmost is "".
    held = {"", *layers}
    for layer in layers:
        parts = layer.split("/")
        held.update("/".join(parts[:depth]) for depth in range(1, len(parts)))
    return {name: first for name, first in names.items() if first in held}


def _storage_of(dataset: Any, name: str, path: Path) -> Storage:
    """Tell how much of a dataset is there, or refuse what this file cannot give."""
    import h5py

    where = f"Dataset {name!r} in {str(path)!r}"
    if dataset.is_virtual:
        others = sorted({source.file_name for source in dataset.virtual_sources()})
        raise RefusedError(
            f"{where} is virtual: it is put together from datasets elsewhere, in "
            f"{others}, and reads as {dataset.fillvalue} where they are missing. Copy "
            "its values into a dataset of their own."
        )
    if dataset.external:
        others = sorted({entry[0] for entry in dataset.external})
        raise RefusedError(
            f"{where} is stored in other files, {others}, which are not read. Copy its "
            "values into the file."
        )
    try:
        dtype = dataset.dtype
    except Exception as error:  # of several kinds
        raise RefusedError(
            f"{where} has a type that NumPy does not have: {first_line(error)}. Store "
            "it as numbers."
        ) from error
    if dtype.kind == "O" and h5py.check_string_dtype(dtype) is None:
        raise RefusedError(
            f"{where} holds references or sequences of varying length; got dtype "
            f"{dtype.metadata}. Store it as numbers, or ids as strings."
        )
    filters = filters_of(dataset)
    unknown = [code for code in filters.codes if code not in KNOWN_FILTERS]
    if unknown:
        raise RefusedError(
            f"{where} is stored by the HDF5 filter {unknown[0]}, which is not read, "
            "because its library takes any memory that a chunk asks for; gzip, lzf, "
            "shuffle and fletcher32 are read. Store it with one of these (h5repack -f "
            "GZIP=1), or, if you trust the file, give the open dataset to "
            "skleiden.LayerStack."
        )
    # What a broken file says of itself may be more than there is.
    n_bytes = min(dataset.id.get_storage_size(), path.stat().st_size)
    if 0 in dataset.shape:
        return Storage(n_bytes, 0, 0, None)
    if dataset.chunks is None:
        n_whole, n_present = 1, int(n_bytes > 0)
    else:
        n_whole = n_chunks(dataset)
        n_present = _count_chunks(dataset, filters, where) if n_bytes else 0
    if n_present == 0:
        raise RefusedError(
            f"{where} has the shape {dataset.shape}, but no values: none were written. "
            "Copy or write it again."
        )
    return Storage(n_bytes, n_whole, n_present, dataset.fillvalue)


def _count_chunks(dataset: Any, filters: Filters, where: str) -> int:
    """Count the chunks of a dataset, or refuse it if one cannot have its size."""
    n_bytes = chunk_size(dataset)
    places = set()
    for info in chunk_infos(dataset):
        problem = size_problem(info.size, info.filter_mask, filters, n_bytes)
        if problem is not None:
            raise RefusedError(
                f"{where} has a chunk, at {info.chunk_offset}, of {info.size} bytes, "
                f"but {problem}. The file is broken: copy or write it again."
            )
        if all(map(operator.lt, info.chunk_offset, dataset.shape)):
            places.add(info.chunk_offset)
    return len(places)
