"""Child processes that end with their parent, whichever way it ends."""

import ctypes
import os
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

_PR_SET_PDEATHSIG = 1
_GRACE = 10  # seconds


def end_with_parent(signal_number: int = signal.SIGTERM) -> None:
    """Ask Linux to signal this process when its parent ends, even by SIGKILL. Elsewhere locks alone must do."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal_number)


def run_logged(command: Sequence[str], env: Mapping[str, str], log: Path, held: Sequence[int]) -> int:
    """Run a command with its output appended to ``log``; it and its descendants end if this process is told to.

    Args:
        held: descriptors of locks that the command holds, too.

    Returns:
        Its exit status.
    """
    with log.open("ab") as output:
        child = subprocess.Popen(
            command, env=env, stdout=output, stderr=output, stdin=subprocess.DEVNULL, pass_fds=held,
            start_new_session=True,
        )  # fmt: skip
    try:
        return child.wait()
    except BaseException:
        _end_group(child)
        raise


def _end_group(child: subprocess.Popen) -> None:
    for number in (signal.SIGTERM, signal.SIGKILL):
        try:
            os.killpg(child.pid, number)
            child.wait(_GRACE)
        except ProcessLookupError:
            return
        except subprocess.TimeoutExpired:
            continue
