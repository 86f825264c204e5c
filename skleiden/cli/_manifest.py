"""Read and write the manifest of a run: its files, and where it is to go."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple

from skleiden import __version__
from skleiden.io._files import write_whole

MANIFEST = "manifest.json"
FORMAT = "skleiden-run"
# Raised when a reader of the old form would misunderstand the new one.
SCHEMA_VERSION = 1


class Manifest(NamedTuple):
    """The content of a run.

    Attributes
    ----------
    command : str
        The command that made it.

    files : dict of {str: {"bytes": int, "sha256": str}}
        Its files, except for the manifest.

    names : list of str
        Files that the command may write; while a run is being written, these belong to
        it.

    rewritten : dict, as `files`
        Files that are about to be replaced, described as they will be.

    on_its_way_to : str or None
        Name of the folder that the run is to become, until all is done.

    replaces : str or None
        SHA-256 of the manifest of the earlier run that was there.
    """

    command: str
    files: Mapping[str, Mapping[str, Any]]
    names: list[str]
    rewritten: Mapping[str, Mapping[str, Any]] = MappingProxyType({})
    on_its_way_to: str | None = None
    replaces: str | None = None

    def write(self, folder: Path) -> None:
        """Write the manifest into the folder of the run."""
        # What is not the case in a finished run does not stand there.
        said = {
            name: value
            for name, value in self._asdict().items()
            if value or name not in self._field_defaults
        }
        document = {
            "format": FORMAT,
            "schema_version": SCHEMA_VERSION,
            "skleiden_version": __version__,
            **said,
        }
        write_whole(folder / MANIFEST, json.dumps(document, indent=1) + "\n")

    @property
    def finished(self) -> bool:
        """Tell whether the run is whole and in its place."""
        return self.on_its_way_to is None and len(self.files) > 0

    def has(self, path: Path) -> bool:
        """Tell whether a file in its folder belongs to the run, unchanged."""
        both = (self.files, self.rewritten)
        known = [files[path.name] for files in both if path.name in files]
        is_file = len(known) > 0 and path.is_file() and not path.is_symlink()
        return is_file and facts_of(path) in known


def read_manifest(folder: Path) -> Manifest | None:
    """Read the manifest of a run; None if there is none to rely on."""
    path = folder / MANIFEST
    if folder.is_symlink() or path.is_symlink() or not path.is_file():
        return None
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
        known = document["format"] == FORMAT
        if not known or document["schema_version"] != SCHEMA_VERSION:
            return None
        found = Manifest(
            **{name: document[name] for name in Manifest._fields if name in document}
        )
        names = (*found.names, *found.files, *found.rewritten)
        facts = (*found.files.values(), *found.rewritten.values())
        # Not of this folder is "../thesis.tex", say.
        whole = all(isinstance(n, str) and Path(n).name == n for n in names)
        whole &= all(one.keys() == {"bytes", "sha256"} for one in facts)
    except (OSError, ValueError, TypeError, KeyError, AttributeError, RecursionError):
        return None
    return found if whole else None


def facts_of(path: Path) -> dict[str, Any]:
    """Tell the size and the SHA-256 of a file."""
    with path.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
        return {"bytes": file.tell(), "sha256": digest}
