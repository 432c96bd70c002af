"""Run a grid of trainings: does pruning at initialisation pay on your model and data?

  sparse-adapter study examples/study/table1.yaml data=/data/glue backbone=models/bert.base
  sparse-adapter study examples/study/table1.yaml data=/data/glue --jobs 8 --gpus 0,1,2,3 --share 2
  sparse-adapter study examples/study/table1.yaml data=/data/glue --profile examples/study/slurm

A study that was killed goes on where it stopped when it is started again; finished runs are never repeated.
Configs that are given the same --out share their runs. sparse-adapter report makes tables and figures of it.
"""

import os
from argparse import ArgumentParser, Namespace
from pathlib import Path

from ..errors import UsageError
from ..study.config import read_config
from ..study.engine import (
    LOG,
    Slots,
    check_engine,
    execute,
    find_failure,
    missing,
    only_study_in,
    preview,
    result_path,
)
from ..study.grid import make_plan
from ..study.plan import Plan, check_same_settings, write_plan


def add_arguments(parser: ArgumentParser) -> None:
    parser.add_argument("config", type=Path, metavar="CONFIG.yaml", help="the grid, see examples/study/README.md")
    parser.add_argument("overrides", nargs="*", metavar="KEY=VALUE", help="in place of what the config says")
    parser.add_argument("--out", type=Path, metavar="STUDY", help="folder of the study (default: studies/CONFIG)")
    parser.add_argument("--jobs", type=int, metavar="N", help="runs at once (default: --share for each GPU, or one)")
    parser.add_argument("--gpus", metavar="0,1", help="GPUs to use (default: all that are visible)")
    parser.add_argument("--share", type=int, default=1, metavar="N", help="runs that may share a GPU (default: 1)")
    parser.add_argument("--profile", type=Path, metavar="DIR", help="a profile of Snakemake, such as one for Slurm")
    parser.add_argument("--dry-run", action="store_true", help="say what would be run")


def run(args: Namespace) -> None:
    check_engine()
    from ..study.results import collect, write_results  # needs pandas

    wrong = [word for word in args.overrides if "=" not in word]
    if wrong:
        raise UsageError(f"{wrong[0]} is no KEY=VALUE")
    study = read_config(args.config, args.overrides)
    plan = make_plan(study)
    folder = (args.out or Path("studies") / study.name).absolute()
    if "," in str(folder) and any(run.sources for run in plan.runs.values()):
        raise UsageError(f"{folder}: commas part the adapters of a fusion: choose a study's folder without")
    slots = find_slots(args)
    if args.dry_run:
        check_same_settings(folder, plan)
        _say_what_is_there(folder, plan)
        if status := preview(folder, plan, slots):
            raise UsageError(f"Snakemake ended with status {status}")
        return
    with only_study_in(folder) as lock:
        check_same_settings(folder, plan)
        write_plan(folder, plan)
        _say_what_is_there(folder, plan)
        try:
            status = execute(folder, plan, slots, lock)
        except KeyboardInterrupt:
            raise SystemExit("stopped: the same command goes on from here") from None
        finally:
            tables = collect(folder)
            write_results(folder, tables)
    errors = {row["run"]: row["error"] for row in tables["results"].to_dict("records") if row["status"] != "finished"}
    left = [name for name in plan.runs if name in errors]
    if left:
        raise UsageError(
            f"{len(left)} of {len(plan.runs)} runs are not finished (first: {left[0]}: "
            f"{errors[left[0]] or 'it did not run'}); see {_where_it_says_why(folder, plan, left[0])}. Start the study "
            "again to try them again"
        )
    if status:
        raise UsageError(f"Snakemake ended with status {status}; see {folder / LOG}")
    print(f"all runs are finished: {folder / 'results.csv'}")


def _where_it_says_why(folder: Path, plan: Plan, run: str) -> Path:
    result, failure = result_path(folder, run), find_failure(folder, plan.runs, run)
    return result if result.exists() else failure.path if failure else folder / LOG


def _say_what_is_there(folder: Path, plan: Plan) -> None:
    todo = len(missing(folder, plan))
    print(f"{folder}: {len(plan.runs)} runs, {len(plan.runs) - todo} of them finished", flush=True)


def find_slots(args: Namespace) -> Slots:
    """Where the jobs are to run.

    Raises:
        UsageError: a number is below 1, or GPUs are given together with a profile.
    """
    if args.profile:
        if args.gpus or args.jobs:
            raise UsageError("--profile says where jobs run: --jobs and --gpus are for this machine")
        if not args.profile.is_dir():
            raise UsageError(f"--profile {args.profile}: there is no such folder")
        return Slots(profile=args.profile.absolute())
    named = visible_gpus() if args.gpus is None else args.gpus.split(",")
    gpus = tuple(gpu.strip() for gpu in named if gpu.strip())
    jobs = args.jobs if args.jobs is not None else max(1, len(gpus) * args.share)
    if jobs < 1 or args.share < 1:
        raise UsageError("--jobs and --share are at least 1")
    return Slots(jobs=jobs, gpus=gpus, share=args.share)


def visible_gpus() -> list[str]:
    import torch

    if not torch.cuda.is_available():
        return []
    named = os.environ.get("CUDA_VISIBLE_DEVICES")
    return named.split(",") if named else [str(i) for i in range(torch.cuda.device_count())]
