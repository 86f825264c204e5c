"""Writing files whole or not at all."""

from __future__ import annotations

import csv
import io
import os
import stat
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, BinaryIO
from uuid import uuid4


def check_place(path: str | os.PathLike[str]) -> Path:
    """Where a path leads to, through symbolic links; refused if no file can be there.

    Whether the folder can be written to is tried out, because permissions alone do not
    tell.
    """
    place = Path(os.path.realpath(path))
    if place.is_dir():
        raise IsADirectoryError(
            f"{str(path)!r} is a folder; give the name of a file in it."
        )
    if os.path.lexists(place) and not place.is_file():
        raise FileExistsError(
            f"{str(path)!r} is not a regular file, and would be replaced by one; give "
            "another name."
        )
    if not place.parent.is_dir():
        raise FileNotFoundError(
            f"The folder {str(place.parent)!r} does not exist; make it before saving "
            f"{place.name!r}."
        )
    with _new_file_beside(place):
        pass
    return place


@contextmanager
def _new_file_beside(place: Path) -> Iterator[Path]:
    """An empty file in the folder of `place`, removed in the end if it is still there.

    Errors name the folder rather than the file, whose name nobody knows.
    """
    new = place.with_name(f".{uuid4().hex}.tmp")
    try:
        new.touch(exist_ok=False)
        yield new
    except OSError as error:
        raise type(error)(
            f"Cannot write {place.name!r} in the folder {str(place.parent)!r}: "
            f"{error.strerror or error}. Make the folder writable, with room for the "
            "file, or save to another one."
        ) from error
    finally:
        with suppress(OSError):  # it was moved, or never made
            new.unlink()


def write_whole(path: str | os.PathLike[str], content: str | bytes) -> None:
    """Write a file beside its place, then move it there in one step."""
    with writing(path) as file:
        file.write(content.encode() if isinstance(content, str) else content)


def as_csv(columns: Mapping[str, Sequence[Any]]) -> str:
    """Columns of one length as the text of a CSV file, below a line of their names."""
    text = io.StringIO()
    table = csv.writer(text, lineterminator="\n")
    table.writerow(columns)
    table.writerows(zip(*columns.values(), strict=True))
    return text.getvalue()


@contextmanager
def writing(path: str | os.PathLike[str]) -> Iterator[BinaryIO]:
    """A new file beside its place, moved there in the end, if all went well."""
    place = check_place(path)
    with _new_file_beside(place) as new:
        with new.open("wb") as file:
            if place.exists():
                new.chmod(stat.S_IMODE(place.stat().st_mode))
            yield file
            file.flush()
            os.fsync(file.fileno())
        new.replace(place)
