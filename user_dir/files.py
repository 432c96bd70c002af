"""Files appear as a whole or not at all: they are written under a temporary name and renamed."""

import json
import os
import secrets
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from .errors import UsageError


@contextmanager
def written_at_once(path: Path) -> Iterator[Path]:
    """Give a temporary path to write to; it becomes ``path`` if all goes well and vanishes if not."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.tmp")  # hidden, so that it is nobody's file
    try:
        yield temporary
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def check_writable(path: Path) -> None:
    """Refuse, before any work is done, a file in a folder where nothing can be written.

    Raises:
        UsageError: the folder, or the nearest one that is there, is not writable.
    """
    place = next((folder for folder in path.absolute().parents if folder.exists()), path.parent)
    if place.is_dir() and not os.access(place, os.W_OK | os.X_OK):
        raise UsageError(f"{path}: the folder {place} is not writable")


def read_json(path: Path) -> Any:
    return json.loads(path.read_text(encoding="utf-8"))


def read_object(path: Path) -> dict:
    """A JSON object; empty if there is no such file.

    Raises:
        UsageError: it is damaged or something else.
    """
    try:
        found = read_json(path) if path.is_file() else {}
    except ValueError as error:
        raise UsageError(f"{path} is no JSON ({error})") from error
    if not isinstance(found, dict):
        raise UsageError(f"{path} holds no names with values")
    return found


def write_json(path: Path, data: object) -> None:
    with written_at_once(path) as temporary:
        temporary.write_text(json.dumps(data, indent=1) + "\n", encoding="utf-8")


@contextmanager
def folder_at_once(path: Path) -> Iterator[Path]:
    """Give a temporary folder to write to; it takes the place of ``path`` if all goes well and vanishes if not."""
    path = path.resolve()  # of a link, what it leads to
    path.parent.mkdir(parents=True, exist_ok=True)
    chance = secrets.token_hex(4)  # what a killed process has left is in nobody's way
    folder, former = (path.parent / f".{path.name}.{chance}.{end}" for end in ("new", "old"))
    folder.mkdir()
    try:
        yield folder
        if path.exists():
            path.rename(former)
        try:
            folder.rename(path)
        except OSError:
            if former.exists():
                former.rename(path)
            raise
        shutil.rmtree(former, ignore_errors=True)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


@contextmanager
def replaced_files(folder: Path) -> Iterator[Path]:
    """Give a temporary folder; if all goes well, its files take the place of those that came to ``folder`` likewise
    before, which a hidden list there tells from others. Others stay as they are.

    Raises:
        UsageError: one of the others has the name of a file that would come, or ``folder`` is itself a file.
    """
    if folder.exists() and not folder.is_dir():
        raise UsageError(f"{folder} is a file, and a folder is needed: choose another name")
    record = folder / ".files.json"
    former = set(read_json(record)) if record.exists() else set()
    place = next(path for path in (folder.absolute(), *folder.absolute().parents) if path.is_dir())
    with tempfile.TemporaryDirectory(dir=place, prefix=".files.") as temporary:
        yield Path(temporary)
        new = {path.name for path in Path(temporary).iterdir()}
        for name in sorted(new - former):
            path = folder / name
            if path.exists():
                raise UsageError(f"{path} was not written by an earlier report: choose another folder")
        write_json(record, sorted(former | new))  # whatever happens next, they are known
        for name in new:
            os.replace(Path(temporary) / name, folder / name)
        for name in former - new:
            (folder / name).unlink(missing_ok=True)
        write_json(record, sorted(new))
