"""One job of a study, as Snakemake starts it: prepare data, or train, evaluate and record one run.

python -P user_dir/study/start.py STUDY PLAN prepare|run NAME [--gpus 0,1] [--share 1] [--threads 2]

A run's folder holds ``settings.json`` (what it is), ``train.log``, ``evaluate.log``, what the example's scripts write,
``trained.json`` once training has ended and, written last and at once, ``result.json``. A folder with ``scores.json``
that was made by hand with the same scripts is taken as it is; its learning curve is that of its ``train.log``.
"""

import argparse
import math
import os
import signal
import subprocess
import sys
import time
from contextlib import ExitStack
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from ..errors import UsageError, one_line_errors
from ..files import read_object, write_json
from .catalogue import DESCENDING, SETTINGS, evaluated_checkpoint
from .curves import learning_curve
from .locks import locked, one_gpu
from .plan import (
    FUSION,
    Plan,
    Preparation,
    Run,
    check_preparation,
    check_run,
    preparation_failure,
    preparation_record,
    read_plan,
    settings_hash,
    settings_of,
)
from .processes import end_with_parent, run_logged


class JobFailed(Exception):
    """A script ended with an error; its log says why."""


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("study", type=Path)
    parser.add_argument("plan", type=Path)
    parser.add_argument("what", choices=("prepare", "run"))
    parser.add_argument("name")
    parser.add_argument("--gpus", help="devices to take one of, '' for none (default: what the job was given)")
    parser.add_argument("--share", type=int, default=1, help="jobs that may share a device")
    parser.add_argument("--threads", type=int, help="of OpenMP (default: OMP_NUM_THREADS)")
    args = parser.parse_args(argv)
    if args.threads:
        # Snakemake sets this and more; PyTorch takes the least of them.
        os.environ |= dict.fromkeys(("OMP_NUM_THREADS", "MKL_NUM_THREADS"), str(args.threads))
    end_with_parent()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    with one_line_errors():
        plan, study = read_plan(args.plan), args.study.absolute()
        parts = plan.preparations if args.what == "prepare" else plan.runs
        if args.name not in parts:
            raise UsageError(f"{args.plan} has no {args.name} any more: start the study again")
        gpus = None if args.gpus is None else [gpu for gpu in args.gpus.split(",") if gpu]
        try:
            if args.what == "prepare":
                prepare(study, parts[args.name])
            else:
                run(study, plan, parts[args.name], gpus, args.share)
        except JobFailed as error:
            sys.exit(f"error: {error}")


def prepare(study: Path, preparation: Preparation) -> None:
    """Make ``STUDY/data/NAME``; ``NAME.json`` beside it says that it is complete, and of what. Of a failure, write
    ``NAME.failure.json``.
    """
    data = study / "data" / preparation.name
    failure = preparation_failure(study, preparation.name)
    done = preparation_record(study, preparation.name)
    log, lock_file = (data.with_name(f"{data.name}.{end}") for end in ("log", "lock"))
    with locked(lock_file) as lock:
        try:
            check_preparation(study, preparation)
            if not done.exists():
                # Data are prepared on the CPU.
                env = _environment(preparation.env | {"DATA": str(data), "CUDA_VISIBLE_DEVICES": ""})
                script(preparation.scripts, "prepare.sh", (), env, log, [lock])
                write_json(done, settings_of(preparation))
        except (JobFailed, UsageError) as error:
            write_json(failure, {"preparation": preparation.name, "error": str(error)})
            raise
        failure.unlink(missing_ok=True)


def run(study: Path, plan: Plan, run: Run, gpus: list[str] | None, share: int) -> None:
    """Do what of a run is not done yet, down to its ``result.json``; of a failure, write ``failure.json``.

    Args:
        gpus: those to take one of; if empty, the run is to have none; None leaves it to who started the job, such as a
            cluster's scheduler.
    """
    folder = study / "runs" / run.name
    with locked(folder / ".lock") as lock:
        try:
            data = plan.preparations[run.data]
            check_run(study, run, data)
            adopted = _begin(folder, run, data)
            if not (folder / "scores.json").exists():
                with ExitStack() as stack:
                    env, held = _environment(run.env), [lock]
                    if gpus is not None:
                        env["CUDA_VISIBLE_DEVICES"] = ""
                    if gpus:
                        gpu, descriptor = stack.enter_context(one_gpu(gpus, share))
                        env["CUDA_VISIBLE_DEVICES"] = gpu
                        held.append(descriptor)
                        _check_gpu(gpu, env)
                    _train_and_evaluate(study, folder, run, plan.resume, env, held)
            write_json(folder / "result.json", collect(folder, run))
        except (JobFailed, UsageError) as error:
            write_json(folder / "failure.json", {"run": run.name, "error": str(error)})
            raise
        (folder / "failure.json").unlink(missing_ok=True)
        is_source = any(run.name in other.sources for other in plan.runs.values())
        if not (adopted or plan.keep_checkpoints or is_source):
            for checkpoint in (*folder.glob("checkpoint*.pt"), folder / AVERAGE):
                checkpoint.unlink(missing_ok=True)


def _check_gpu(gpu: str, env: dict[str, str]) -> None:
    """The examples' scripts would train on the CPU instead, with other numerics, and say nothing."""
    code = "import sys, torch; sys.exit(not torch.cuda.is_available())"
    if subprocess.run([sys.executable, "-c", code], env=env, stdin=subprocess.DEVNULL).returncode:
        raise JobFailed(f"GPU {gpu} cannot be used: --gpus names those of this machine, and '' is none")


def _begin(folder: Path, run: Run, data: Preparation) -> bool:
    """Write ``settings.json`` unless it is there; returns whether the run was made by hand.

    Raises:
        JobFailed: somebody has begun a run there by hand, whose checkpoints would be lost.
    """
    settings = folder / "settings.json"
    if not settings.exists():
        scored = (folder / "scores.json").exists()
        if not scored and any(folder.glob("checkpoint*.pt")):
            raise JobFailed(f"{folder} has checkpoints and no scores, and is none of the study's: finish or move it")
        write_json(settings, settings_of(run) | {"adopted": scored, "prepared": data.env})
    return read_object(settings)["adopted"]


def _train_and_evaluate(study: Path, folder: Path, run: Run, resume: bool, env: dict, held: list[int]) -> None:
    env |= {"SAVE_DIR": str(folder), "DATA": str(study / "data" / run.data)}
    trained = folder / "trained.json"
    if not trained.exists():
        if not resume:
            for file in (*folder.glob("checkpoint*.pt"), folder / "train.log", folder / "sparsity.json"):
                file.unlink(missing_ok=True)
        goes_on = (folder / "checkpoint_last.pt").exists()
        flags = run.flags
        if run.family == FUSION:
            flags = (*flags, "--fusion-adapters", ",".join(_trained(study, run, source) for source in run.sources))
        start = time.monotonic()
        script(run.scripts, "train.sh", flags, env, folder / "train.log", held)
        # Of a run that went on, nobody knows how long it had taken before.
        write_json(trained, {"seconds": None if goes_on else round(time.monotonic() - start, 1)})
    start = time.monotonic()
    script(run.scripts, "evaluate.sh", (), env, folder / "evaluate.log", held)
    write_json(folder / "evaluated.json", {"seconds": round(time.monotonic() - start, 1)})


def _trained(study: Path, run: Run, source: str) -> str:
    file = study / "runs" / source / evaluated_checkpoint(run.example)
    if not file.exists():
        raise JobFailed(f"{file} is missing, which is to be fused: delete the folder {source} to train it again")
    return str(file)


def script(scripts: str, name: str, flags: tuple[str, ...], env: dict, log: Path, held: list[int]) -> None:
    """Run one of an example's scripts.

    Raises:
        JobFailed: it ended with an error. The message has its last line.
    """
    status = run_logged(["bash", f"{scripts}/{name}", *flags], env, log, held)
    if status != 0:
        lines = log.read_text(encoding="utf-8", errors="replace").split("\n")
        last = next((line.strip() for line in reversed(lines) if line.strip()), "no output")
        raise JobFailed(f"{name} ended with status {status}: {last[-300:]} (log: {log.name})")


def collect(folder: Path, run: Run) -> dict:
    """What ``result.json`` holds: settings, scores, counts, learning curve, seconds, versions.

    Raises:
        JobFailed: there are no scores.
        UsageError: see ``score_of``.
    """
    if not (folder / "scores.json").exists():
        raise JobFailed("evaluate.sh ended well and wrote no scores.json (log: evaluate.log)")
    scores = read_object(folder / "scores.json")
    metric, value = score_of(scores, run.metric)
    log = folder / "train.log"
    settings = read_object(folder / "settings.json")
    report = read_object(folder / "sparsity.json")
    trained = report.get("trained", {})
    return {
        "run": run.name,
        "settings": settings_of(run),
        "settings_sha256": settings_hash(settings_of(run)),
        "prepared": settings.get("prepared"),
        "shown": {"label": run.label, "metric": run.metric, "curve": run.curve},
        "adopted": settings.get("adopted", False),
        "metric": metric,
        "score": value,
        "scores": {name: score for name, score in scores.items() if name != "checkpoint"},
        "curve": learning_curve(log.read_text(encoding="utf-8", errors="replace")) if log.exists() else [],
        "parameters": {
            "trained": trained.get("total"),
            "adapters": sum(trained[part] for part in ADAPTER_PARTS) if set(ADAPTER_PARTS) <= set(trained) else None,
            "backbone": report.get("backbone_parameters"),
            **{name: report.get("matrix_total", {}).get(name) for name in ("kept", "total", "density")},
            **{name: report.get(name) for name in ("units", "dead_units")},
            "dead_adapters": len(report["dead_adapters"]) if "dead_adapters" in report else None,
            "mask_sha256": report.get("mask_sha256"),
        },
        "seconds": {
            "training": read_object(folder / "trained.json").get("seconds"),
            "evaluation": read_object(folder / "evaluated.json").get("seconds"),
            "pruning": report.get("seconds"),
        },
        "versions": {name: _version(package) for name, package in VERSIONS.items()},
    }


def score_of(scores: dict, metric: str | None) -> tuple[str, float]:
    """The score that counts: ``metric`` and its value, or what the example's scores themselves call their value.

    Raises:
        UsageError: it is missing, or not finite, so that it compares with nothing, or less of it is better.
    """
    name, value = metric or scores.get("metric"), scores.get(metric or "value")
    if str(name).lower() in DESCENDING:
        raise UsageError(f"less {name} is better, and a study takes more for better; name another score with metric:")
    if name is None or not isinstance(value, int | float):
        raise UsageError(f"scores.json has no {name or 'metric'}; say with metric: which one counts")
    if not math.isfinite(value):
        raise UsageError(
            f"{name} is {value} in scores.json, which is no score; train.log and evaluate.log may say why. To train "
            "the run again, delete its folder"
        )
    return name, value


AVERAGE = "average.pt"  # of checkpoints, which translation's evaluate.sh makes
ADAPTER_PARTS = ("matrices", "biases", "layer_norms")  # and not the heads
VERSIONS = {"torch": "torch", "fairseq": "ve-fairseq", "plugin": "sparse-adapter-fairseq"}


def _environment(settings: dict[str, str]) -> dict[str, str]:
    # A study decides alone, whatever the user's shell has exported.
    env = {name: value for name, value in os.environ.items() if name not in SETTINGS}
    # The scripts take the environment that the study runs in.
    return env | {"VENV": sys.prefix, "OMP_NUM_THREADS": env.get("OMP_NUM_THREADS", "1")} | settings


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return "not installed"
