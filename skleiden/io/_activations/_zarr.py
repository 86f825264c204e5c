"""Read Zarr folders."""

from __future__ import annotations

import os
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from ._group import Content, layers_of_group
from ._layer import Layer, Reading, naming
from ._text import load_json
from ._zarr_chunks import Node, check_layout, storage_of

_BROKEN = "is broken or incomplete"


def read_zarr(path: Path, how: Reading) -> dict[str, Layer]:
    """Read the 2-D arrays and sparse matrices of a folder, each a layer.

    Nothing outside the folder is read. Consolidated metadata repeat those of all arrays
    in one place, and may contradict them: only the names of arrays are read from them.
    """
    try:
        import zarr
    except ImportError as error:
        raise ImportError(
            f'{str(path)!r} needs zarr: pip install "skleiden[zarr]".'
        ) from error
    nodes, groups = _find_nodes(path)
    layouts, arrays = {}, {}
    for name, node in nodes.items():
        layouts[name] = check_layout(node, f"Array {name!r} in {str(path)!r}")
        with naming(path, _BROKEN), warnings.catch_warnings():
            # That other software may not know how ids are stored, which is read here.
            for told in ("does not have a Zarr V3", "is currently not part in"):
                warnings.filterwarnings("ignore", f".*{told}")
            arrays[name] = zarr.open_array(
                str(path),
                path=name,
                mode="r",
                zarr_format=node.metadata["zarr_format"],
            )
    return layers_of_group(
        Content(arrays, groups),
        lambda name: storage_of(
            arrays[name], nodes[name], layouts[name], f"Array {name!r} in {str(path)!r}"
        ),
        path,
        how,
    )


def _find_nodes(path: Path) -> tuple[dict[str, Node], dict[str, dict[str, Any]]]:
    """Find the arrays and the attributes of groups, by names; "" is the folder."""
    nodes, groups = {}, {}
    folders = [("", path)]
    while folders:
        name, folder = folders.pop()
        entries = _entries(folder, path)
        metadata = _read_metadata(folder, entries, path)
        if metadata is None:
            raise ValueError(
                f"Folder {name!r} in {str(path)!r} has no metadata (zarr.json, .zarray "
                "or .zgroup), so that its content cannot be read. Copy it again, or "
                "move other files out of the folder."
            )
        if not name:
            claimed = _consolidated_names(path, metadata)
        if metadata.get("node_type", "array") == "array":
            nodes[name] = Node(folder, metadata, dict(_files(folder, path)))
        else:
            groups[name] = _attributes(folder, entries, metadata, path)
            folders.extend(
                (f"{name}/{own}".lstrip("/"), folder / own)
                for own in sorted(entries, reverse=True)
                if entries[own].is_dir() and _may_be_node(folder / own)
            )
    lost = [name for name in claimed if name not in nodes]
    if lost:
        raise ValueError(
            f"{str(path)!r} {_BROKEN}: its consolidated metadata list "
            f"{lost}, which {'is' if len(lost) == 1 else 'are'} not there. Copy it "
            "again, or consolidate its metadata again if they were removed."
        )
    return nodes, groups


def _attributes(
    folder: Path, entries: dict[str, Any], metadata: dict[str, Any], path: Path
) -> dict[str, Any]:
    """Read the attributes of a group, for which version 2 has a separate file."""
    attributes = metadata.get("attributes", {})
    file = ".zattrs"
    with naming(path, _BROKEN):
        if metadata["zarr_format"] == 2 and file in entries:
            attributes = load_json(folder / file)
        if not isinstance(attributes, dict):
            raise TypeError(f"the attributes of {str(folder)!r} are not a mapping")
    return attributes


def _consolidated_names(path: Path, metadata: dict[str, Any]) -> list[str]:
    """List the arrays that consolidated metadata name, if there are any."""
    file = path / ".zmetadata"
    with naming(path, "has broken consolidated metadata"):
        if metadata["zarr_format"] == 3:
            listed = (metadata.get("consolidated_metadata") or {}).get("metadata", {})
            return [name for name in listed if listed[name]["node_type"] == "array"]
        listed = load_json(file)["metadata"] if file.exists() else {}
        suffix = "/.zarray"
        return [key.removesuffix(suffix) for key in listed if key.endswith(suffix)]


def _may_be_node(folder: Path) -> bool:
    """Tell nodes from folders of other tools, whose names nodes may not have."""
    return not folder.name.startswith((".", "__")) and any(folder.iterdir())


def _entries(folder: Path, path: Path) -> dict[str, os.DirEntry[str]]:
    """List a folder; refuse what leads out of it, or must be waited for."""
    with os.scandir(folder) as found:
        entries = {entry.name: entry for entry in found}
    for entry in entries.values():
        if entry.is_symlink():
            raise ValueError(
                f"{entry.path!r} is a symbolic link in the Zarr folder {str(path)!r}, "
                "in which links are not followed. Copy the folder with what its links "
                "lead to (cp -rL)."
            )
        if not (entry.is_file() or entry.is_dir()):
            raise ValueError(
                f"{entry.path!r} in the Zarr folder {str(path)!r} is not a regular "
                "file. Remove it."
            )
    return entries


def _files(folder: Path, path: Path) -> Iterator[tuple[str, int]]:
    """List the files below a folder with their sizes."""
    folders = [("", folder)]
    while folders:
        prefix, folder = folders.pop()
        for own, entry in _entries(folder, path).items():
            if entry.is_dir():
                folders.append((f"{prefix}{own}/", folder / own))
            else:
                yield f"{prefix}{own}", entry.stat().st_size


def _read_metadata(
    folder: Path, entries: dict[str, Any], path: Path
) -> dict[str, Any] | None:
    """Read the metadata of an array or group, which tell its version and kind."""
    kinds = (
        ("zarr.json", {"zarr_format": 3}),
        (".zarray", {"zarr_format": 2, "node_type": "array"}),
        (".zgroup", {"zarr_format": 2, "node_type": "group"}),
    )
    for file, known in kinds:
        if file not in entries:
            continue
        with naming(path, _BROKEN):
            metadata = load_json(folder / file)
            if not isinstance(metadata, dict):
                raise TypeError(f"{str(folder / file)!r} holds no metadata.")
        return metadata | known
    return None
