"""Read files of ``torch.save``."""

from __future__ import annotations

import io
import mmap as mapping
import pickle
import re
import warnings
import zipfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from ._archive import members_of
from ._layer import naming
from ._pickles import check_pickle

# Before the tensors of a file of older versions: a number by which it is known, the
# version, facts on the machine, what was saved, and the names of the tensors' memory.
_OLD_PICKLES = 5


def load_torch(path: Path, mmap: bool) -> Any:
    """Load the content of a file without running anything in it."""
    try:
        import torch
    except ImportError as error:
        raise ImportError(
            f"{str(path)!r} was saved by torch, which reads it: pip install "
            '"skleiden[torch]".'
        ) from error
    # Files of older versions of torch are no archives, and cannot be mapped.
    is_archive = zipfile.is_zipfile(path)
    members = members_of(path) if is_archive else []
    _check_pickles(path, members)
    with naming(path), warnings.catch_warnings():
        # A plain pickle is refused below, or is read.
        warnings.filterwarnings("ignore", "Detected pickle protocol")
        try:
            content = torch.load(
                path,
                map_location="cpu",
                weights_only=True,
                mmap=mmap and is_archive,
            )
        except pickle.UnpicklingError as error:
            refused = error
        else:
            _check_claims(content, path, members)
            return content
    kind = re.search(r"GLOBAL ([\w.]+)", str(refused))
    named = f" ({kind[1]})" if kind else ""
    raise ValueError(
        f"{str(path)!r} holds objects that only code inside the file could "
        f"make{named}, and such code is never run. Where the file was made, save only "
        "tensors, numbers, strings, dicts and lists: torch.save({id: "
        "torch.as_tensor(vector) for id, vector in ...}, path)."
    ) from refused


def _check_pickles(path: Path, members: list[zipfile.ZipInfo]) -> None:
    """Check what the pickles of a file would make, without making it."""
    with naming(path):
        if not members:
            # A map, as a file takes memory for as much as it is told to read.
            with (
                path.open("rb") as file,
                mapping.mmap(file.fileno(), 0, access=mapping.ACCESS_READ) as content,
            ):
                for _ in range(_OLD_PICKLES):
                    if content.tell() < len(content):  # a plain pickle is but one
                        check_pickle(content)
            return
        with zipfile.ZipFile(path) as archive:
            for member in members:  # torch takes capital letters for the same name
                if member.filename.lower().endswith("/data.pkl"):
                    check_pickle(io.BytesIO(archive.read(member)))


# Tensors may share their memory; beyond this factor, and this many bytes, a file claims
# more than it holds.
_SHARED, _ANY_CASE = 10, 2**28


def _check_claims(content: Any, path: Path, members: list[zipfile.ZipInfo]) -> None:
    """Refuse tensors that reach beyond what is stored for them."""
    sizes = {member.file_size for member in members}
    claimed = 0
    for tensor in _dense_tensors(content):
        stored = tensor.untyped_storage().nbytes()
        if sizes and stored and stored not in sizes:
            raise ValueError(
                f"{str(path)!r} is broken or truncated: a tensor has {stored} bytes, "
                "which no record of the file has. Save it again."
            )
        claimed += tensor.numel() * tensor.element_size()
    size = path.stat().st_size
    if claimed > max(_ANY_CASE, _SHARED * size):
        raise ValueError(
            f"{str(path)!r} has {size} bytes, and its tensors claim {claimed}. Save "
            "tensors that are not views of smaller ones: tensor.contiguous()."
        )


def _dense_tensors(content: Any) -> Iterator[Any]:
    """List the dense tensors in a tensor, a mapping, or its records."""
    if isinstance(content, Mapping):
        for value in content.values():
            yield from _dense_tensors(value)
    elif (
        hasattr(content, "detach")
        and not content.is_nested
        and not content.is_meta
        and str(content.layout) == "torch.strided"
    ):
        yield content
