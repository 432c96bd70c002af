"""Snakemake runs the jobs: it keeps the slots busy, starts what is ready, goes on after failures, and on clusters
submits. What it does not do is done here: one study at a time in a folder, GPUs, and a line that tells the progress.
"""

import importlib.util
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from tqdm import tqdm

from ..errors import UsageError
from ..files import read_json
from .locks import try_lock
from .plan import Plan, Run, plan_path, preparation_failure, write_plan
from .processes import end_with_parent

LOG = "snakemake.log"
_HAND_OVER = 15  # seconds for the processes of a study that was killed to be gone
_CANCEL = 60  # seconds for Snakemake to cancel what it has submitted


@dataclass(frozen=True)
class Slots:
    """Where jobs run: ``jobs`` at once here, on ``gpus`` that ``share`` jobs each may use, or as a profile says."""

    jobs: int = 1
    gpus: tuple[str, ...] = ()
    share: int = 1
    profile: Path | None = None


def check_engine() -> None:
    """Tell what runs the jobs.

    Raises:
        UsageError: Snakemake is not installed.
    """
    if importlib.util.find_spec("snakemake") is None:
        raise UsageError("sparse-adapter study needs Snakemake: pip install snakemake pandas matplotlib jinja2")


def missing(folder: Path, plan: Plan) -> list[str]:
    return [name for name in plan.runs if not result_path(folder, name).exists()]


def result_path(folder: Path, run: str) -> Path:
    return folder / "runs" / run / "result.json"


def execute(folder: Path, plan: Plan, slots: Slots, lock: int) -> int:
    """Run what is missing, and show the progress. Failures are recorded in the runs' folders and end nothing.

    Args:
        lock: the descriptor of ``only_study_in``, which Snakemake holds, too.

    Returns:
        Snakemake's exit status: 0 if all that was missing is there now.
    """
    wanted = missing(folder, plan)
    if not wanted:
        return 0
    command = _command(folder, plan, slots, wanted)
    if slots.profile:  # Snakemake has to be alive to cancel what it has submitted
        attendant = [sys.executable, "-P", str(Path(__file__).with_name("attend.py")), str(_CANCEL)]
        own = {"args": [*attendant, *command], "stdin": subprocess.PIPE, "start_new_session": True}
    else:  # its jobs end with it
        own = {"args": command, "stdin": subprocess.DEVNULL, "preexec_fn": lambda: end_with_parent(signal.SIGKILL)}
    with (folder / LOG).open("ab") as log:
        engine = subprocess.Popen(stdout=log, stderr=log, pass_fds=[lock], **own)
    try:
        _follow(engine, folder, plan)
        return engine.wait()
    finally:
        if engine.poll() is None:
            if engine.stdin:
                print("waiting for Snakemake to cancel what it has submitted", file=sys.stderr)
                engine.stdin.close()
            else:
                engine.kill()
            engine.wait()


def preview(folder: Path, plan: Plan, slots: Slots) -> int:
    """Let Snakemake say what would be run. It leaves traces where it works, and the folder may be in use: it works in
    a temporary one, which has the study's runs and data.

    Returns:
        Snakemake's exit status.
    """
    wanted = missing(folder, plan)
    if not wanted:
        return 0
    with tempfile.TemporaryDirectory() as temporary:
        place = Path(temporary)
        for name in ("runs", "data"):
            if (folder / name).is_dir():
                (place / name).symlink_to(folder / name)
        write_plan(place, plan)
        return subprocess.call(_command(place, plan, slots, wanted, "--dry-run"), stdin=subprocess.DEVNULL)


def _command(folder: Path, plan: Plan, slots: Slots, wanted: list[str], *options: str) -> list[str]:
    snakefile = Path(__file__).with_name("Snakefile")
    command = [sys.executable, "-m", "snakemake", "--snakefile", str(snakefile), "--directory", str(folder)]
    # Our own lock does not outlive us, and our outputs are never incomplete, because they appear at once.
    command += ["--nolock", "--ignore-incomplete", "--keep-going", "--rerun-triggers", "mtime", "--scheduler", "greedy"]
    # Snakemake would take up a profile that $SNAKEMAKE_PROFILE names or a folder of that name holds.
    command += ["--workflow-profile", "none", "--profile", str(slots.profile or "none")]
    command += [] if slots.profile else ["--cores", str(slots.jobs)]
    command += options
    machine = [f"gpus='{','.join(slots.gpus)}'", f"share={slots.share}", f"threads={_threads(slots)}"]
    # From the folder on: Snakemake reads this as YAML, to which not every folder's name is a text.
    path = plan_path(folder, plan.name).relative_to(folder)
    command += ["--config", f"plan={path}", *([] if slots.profile else machine)]
    return [*command, "--", *(f"runs/{name}/result.json" for name in wanted)]


def _threads(slots: Slots) -> int:
    """Of each job: what the user has set, or its share of the cores."""
    given = os.environ.get("OMP_NUM_THREADS", "")
    return int(given) if given.isdecimal() and int(given) else max(1, len(os.sched_getaffinity(0)) // slots.jobs)


@contextmanager
def only_study_in(folder: Path) -> Iterator[int]:
    """Hold the folder, from before its plan is written until its results are: jobs read the plan again.

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
                elif (failure := find_failure(folder, plan.runs, name, since=begun)) and failure.part not in told:
                    told.add(failure.part)
                    bar.write(f"failed: {failure.part}: {failure.error}", file=sys.stderr)
                    bar.set_postfix(failed=len(told))
            if ended:
                return
            if sys.stderr.isatty():
                bar.refresh()
            time.sleep(0.5)


@dataclass(frozen=True)
class Failure:
    """Why a run is not finished: ``part`` is the run itself, its preparation or a run that it fuses."""

    part: str
    error: str
    path: Path

    def said_of(self, run: str) -> str:
        return self.error if run == self.part else f"{self.part} failed: {self.error}"


def find_failure(folder: Path, runs: Mapping[str, Run], name: str, since: float = 0.0) -> Failure | None:
    """Why a run, or what it needs, failed, if it did so after ``since``."""
    run = runs[name]
    own = folder / "runs" / name / "failure.json"
    for part, path in ((name, own), (run.data, preparation_failure(folder, run.data))):
        try:
            if path.stat().st_mtime >= since:
                return Failure(part, read_json(path)["error"], path)
        except FileNotFoundError:
            continue
    failures = (find_failure(folder, runs, source, since) for source in run.sources if source in runs)
    return next(filter(None, failures), None)
