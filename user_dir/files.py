"""Files appear as a whole or not at all: they are written under a temporary name and renamed."""

import json
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def written_at_once(path: Path) -> Iterator[Path]:
    """Give a temporary path to write to; it becomes ``path`` if all goes well and vanishes if not."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f"{path.name}.tmp")
    try:
        yield temporary
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def write_json(path: Path, data: object) -> None:
    with written_at_once(path) as temporary:
        temporary.write_text(json.dumps(data, indent=1) + "\n", encoding="utf-8")


@contextmanager
def folder_at_once(path: Path) -> Iterator[Path]:
    """Give a temporary folder to write to; it takes the place of ``path`` if all goes well and vanishes if not."""
    path.parent.mkdir(parents=True, exist_ok=True)
    folder, former = (path.parent / f".{path.name}.{os.getpid()}.{end}" for end in ("new", "old"))
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
