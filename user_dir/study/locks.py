"""Locks that the kernel drops when the last process that holds them ends, however it ends; and GPUs by such locks."""

import fcntl
import os
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

PAUSE = 1.0  # seconds between two looks at a lock that others hold


def try_lock(path: Path) -> int | None:
    """The descriptor of the file, locked, or None if another process has the lock.

    Children that are given the descriptor share the lock, so that it is held until they, too, have ended.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(descriptor)
        return None
    return descriptor


@contextmanager
def locked(path: Path) -> Iterator[int]:
    """Wait for the lock and hold it."""
    while (descriptor := try_lock(path)) is None:
        time.sleep(PAUSE)
    try:
        yield descriptor
    finally:
        os.close(descriptor)


@contextmanager
def one_gpu(gpus: list[str], share: int, folder: Path | None = None) -> Iterator[tuple[str, int]]:
    """Wait for one of ``gpus`` that fewer than ``share`` jobs of this user on this machine have, and hold it.

    Returns:
        Its name, as in ``CUDA_VISIBLE_DEVICES``, and the descriptor of its lock.
    """
    # Slurm counts the GPUs that it gives to a job from 0 on, whichever they are.
    whose = "-".join(filter(None, (str(os.getuid()), os.environ.get("SLURM_JOB_ID"))))
    folder = folder or Path(tempfile.gettempdir()) / f"sparse-adapter-gpus-{whose}"
    while True:
        for slot in range(share):
            for gpu in gpus:
                descriptor = try_lock(folder / f"{gpu.replace('/', '-')}.{slot}")
                if descriptor is not None:
                    try:
                        yield gpu, descriptor
                    finally:
                        os.close(descriptor)
                    return
        time.sleep(PAUSE)
