"""Snakemake runs the jobs: it keeps the slots busy, starts what is ready, goes on after failures, and on clusters
submits. What it does not do is done here: one study at a time in a folder, GPUs, and a line that tells the progress.
"""

import importlib.util
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from tqdm import tqdm

from ..errors import UsageError
from .locks import try_lock
from .plan import Plan, plan_path
from .processes import end_with_parent

LOG = "snakemake.log"
_HAND_OVER = 15  # seconds for the processes of a study that was killed to be gone


@dataclass(frozen=True)
class Slots:
    """Where jobs run: ``jobs`` at once here, on ``gpus`` that ``share`` jobs each may use, or as a profile says."""

    jobs: int = 1
    gpus: tuple[str, ...] = ()
    share: int = 1
    profile: Path | None = None


def check_engine() -> None:
    """Raises:
    UsageError: Snakemake is not installed.
    """
    if importlib.util.find_spec("snakemake") is None:
        raise UsageError("sparse-adapter study needs Snakemake: pip install snakemake pandas")


def missing(folder: Path, plan: Plan) -> list[str]:
    return [name for name in plan.runs if not result_path(folder, name).exists()]


def result_path(folder: Path, run: str) -> Path:
    return folder / "runs" / run / "result.json"


def execute(folder: Path, plan: Plan, slots: Slots, dry: bool = False) -> int:
    """Run what is missing, and show the progress. Failures are recorded in the runs' folders and end nothing.

    Returns:
        Snakemake's exit status: 0 if all that was missing is there now.
    """
    wanted = missing(folder, plan)
    if not wanted:
        return 0
    command = _command(folder, plan, slots, wanted, dry)
    with only_study_in(folder) as lock:
        with (folder / LOG).open("ab") as log:
            output = None if dry else log
            engine = subprocess.Popen(
                command,
                stdout=output,
                stderr=output,
                stdin=subprocess.DEVNULL,
                env=os.environ | {"OMP_NUM_THREADS": os.environ.get("OMP_NUM_THREADS") or _threads(slots)},
                pass_fds=[lock],
                preexec_fn=lambda: end_with_parent(signal.SIGKILL),
            )
        try:
            if not dry:
                _follow(engine, folder, plan)
            return engine.wait()
        finally:
            if engine.poll() is None:  # the jobs end with it
                engine.kill()
                engine.wait()


def _command(folder: Path, plan: Plan, slots: Slots, wanted: list[str], dry: bool) -> list[str]:
    snakefile = Path(__file__).with_name("Snakefile")
    command = [sys.executable, "-m", "snakemake", "--snakefile", str(snakefile), "--directory", str(folder)]
    # Our own lock does not outlive us, and our outputs are never incomplete, because they appear at once.
    command += ["--nolock", "--ignore-incomplete", "--keep-going", "--rerun-triggers", "mtime", "--scheduler", "greedy"]
    command += ["--profile", str(slots.profile)] if slots.profile else ["--cores", str(slots.jobs)]
    command += ["--dry-run"] if dry else []
    gpus = [] if slots.profile else [f"gpus='{','.join(slots.gpus)}'", f"share={slots.share}"]
    command += ["--config", f"plan={plan_path(folder, plan.name)}", *gpus]
    return [*command, "--", *(f"runs/{name}/result.json" for name in wanted)]


def _threads(slots: Slots) -> str:
    return "1" if slots.profile else str(max(1, (os.cpu_count() or 1) // slots.jobs))


@contextmanager
def only_study_in(folder: Path) -> Iterator[int]:
    """Hold the folder.

    Raises:
        UsageError: a study runs in it already.
    """
    deadline = time.monotonic() + _HAND_OVER
    while (lock := try_lock(folder / ".lock")) is None:
        if time.monotonic() > deadline:
            raise UsageError(f"{folder}: a study is running in it already")
        time.sleep(0.2)
    try:
        yield lock
    finally:
        os.close(lock)


def _follow(engine: subprocess.Popen, folder: Path, plan: Plan) -> None:
    """A bar of the finished runs, with the time left at the pace so far, and a line for each failure."""
    begun = time.time()
    waiting = set(missing(folder, plan))
    told: set[str] = set()
    done = len(plan.runs) - len(waiting)
    with tqdm(total=len(plan.runs), initial=done, unit="run", desc=plan.name, smoothing=0, mininterval=0) as bar:
        while True:
            ended = engine.poll() is not None
            for name in sorted(waiting):
                if result_path(folder, name).exists():
                    waiting.discard(name)
                    bar.update()
                elif name not in told and (failure := read_failure(folder, name, since=begun)):
                    told.add(name)
                    bar.write(f"failed: {name}: {failure}", file=sys.stderr)
                    bar.set_postfix(failed=len(told))
            if ended:
                return
            if sys.stderr.isatty():
                bar.refresh()
            time.sleep(0.5)


def read_failure(folder: Path, run: str, since: float = 0.0) -> str | None:
    """Why a run failed, if it did so after ``since``."""
    path = folder / "runs" / run / "failure.json"
    try:
        return json.loads(path.read_text(encoding="utf-8"))["error"] if path.stat().st_mtime >= since else None
    except FileNotFoundError:
        return None
