"""The tidy table: one row for each run, finished or not, and one for each point of its learning curve.

Runs are those of the plans and all others that have finished in the folder, as after a config has been narrowed.
``results.csv`` and ``curves.csv`` hold what came out, ``timings.csv`` what depends on the machine and the moment, and
``results.sqlite`` all three as tables. They are made anew from the runs' folders each time.
"""

import json
import shlex
import sqlite3
from pathlib import Path

from ..errors import UsageError
from ..files import read_json, written_at_once
from .catalogue import described, evaluated_checkpoint
from .engine import find_failure
from .job import VERSIONS, score_of
from .plan import Run, preparation_record, read_plans, settings_hash, settings_of, shared_settings

try:
    import pandas as pd
except ImportError as error:
    raise UsageError("the tables of a study need pandas: pip install pandas") from error

TABLES = ("results", "curves", "timings")
CURVE_COLUMNS = ["run", "epoch", "update", "progress", "metric", "value"]
TIMING_COLUMNS = ["run", "training", "evaluation", "pruning", *VERSIONS]


def collect(folder: Path) -> dict[str, pd.DataFrame]:
    """The three tables of a study, read from its plans and runs.

    Raises:
        UsageError: there is no study in the folder.
    """
    plans = read_plans(folder)
    planned = {name: run for plan in plans for name, run in plan.runs.items()}
    prepared = {name: part.env for plan in plans for name, part in plan.preparations.items()}
    results = {path.parent.name: read_json(path) for path in sorted(folder.glob("runs/*/result.json"))}
    # What has finished is what it was when it was made, whatever the plans have come to be.
    made = {name: _as_planned(result, planned) for name, result in results.items()}
    rows, points, timings = [], [], []
    for name, run in (planned | made).items():
        result, score, error = results.get(name), None, ""
        if result:
            # By the metric of now, for all runs alike: the result may have been recorded by another.
            try:
                score = score_of(result["scores"], run.metric)
            except UsageError as refusal:
                result, error = None, str(refusal)
        elif failure := find_failure(folder, planned, name):
            error = failure.said_of(name)
        if run.data not in prepared:
            record = preparation_record(folder, run.data)
            prepared[run.data] = read_json(record)["env"] if record.exists() else {}
        prepare = (results.get(name) or {}).get("prepared") or prepared[run.data]
        rows.append(_row(run, prepare, result or {}, score or (None, None), error))
        if result:
            points += _points(name, result["curve"])
            timings.append({"run": name, **result["seconds"], **result["versions"]})
    return {
        "results": pd.DataFrame(rows),
        "curves": pd.DataFrame(points, columns=CURVE_COLUMNS),
        "timings": pd.DataFrame(timings, columns=TIMING_COLUMNS),
    }


def write_csvs(folder: Path, tables: dict[str, pd.DataFrame]) -> None:
    for name, table in tables.items():
        with written_at_once(folder / f"{name}.csv") as temporary:
            # Whole numbers as such, also where some are missing.
            table.convert_dtypes().to_csv(temporary, index=False, lineterminator="\n")


def write_results(folder: Path, tables: dict[str, pd.DataFrame]) -> None:
    write_csvs(folder, tables)
    with written_at_once(folder / "results.sqlite") as temporary:
        temporary.unlink(missing_ok=True)
        connection = sqlite3.connect(temporary)
        try:
            for name, table in tables.items():
                table.to_sql(name, connection, index=False)
        finally:
            connection.close()


def _as_planned(result: dict, planned: dict[str, Run]) -> Run:
    """A finished run as it was made; it is measured and printed as those of its task that a plan has."""
    settings = result["settings"]
    task, example = settings["task"], settings["example"]
    alike = planned.get(result["run"]) or next((run for run in planned.values() if run.task == task), None)
    if alike:
        shown = {name: getattr(alike, name) for name in ("label", "metric", "curve")}
    else:
        known = described(task, example)
        shown = {name: getattr(known, name) for name in ("label", "metric", "curve")} | result.get("shown", {})
    lists = {name: tuple(settings[name]) for name in ("flags", "sources")}
    return Run(**settings | shown | lists, scripts="")


def _row(run: Run, prepare: dict[str, str], found: dict, score: tuple[str | None, float | None], error: str) -> dict:
    parameters = found.get("parameters", {})
    return {
        "run": run.name,
        "status": "finished" if found else "failed" if error else "missing",
        "task": run.task,
        "label": run.label,
        "example": run.example,
        "backbone": run.backbone,
        "system": run.system,
        "variant": run.variant,
        "family": run.family,
        "pruner": run.pruner,
        "sparsity": run.sparsity,
        "large_sparse": run.large_sparse,
        "bottleneck": run.bottleneck,
        "lr": run.lr,
        "seed": run.seed,
        "metric": score[0],
        "score": score[1],
        "n": found.get("scores", {}).get("n"),
        "adapter_parameters": parameters.get("adapters"),
        "trained_parameters": parameters.get("trained"),
        "backbone_parameters": parameters.get("backbone"),
        "kept_weights": parameters.get("kept"),
        "all_weights": parameters.get("total"),
        **{name: parameters.get(name) for name in ("units", "dead_units", "dead_adapters")},
        "mask_sha256": parameters.get("mask_sha256"),
        "adopted": found.get("adopted"),
        "settings_sha256": settings_hash(settings_of(run)),
        "curve_metric": _curve_metric(run, found.get("curve", [])),
        "all_scores": json.dumps(found.get("scores", {}), sort_keys=True),
        "error": error,
        "command": _command(run),
        "settings": json.dumps(shared_settings(run, prepare)),
    }


def _command(run: Run) -> str:
    """How the run is trained by hand, with the backbone by its name: folders differ from machine to machine."""
    env = run.env | {"BACKBONE_DIR": run.backbone, "BACKBONE": f"{run.backbone}/model.pt"}
    words = [f"{name}={shlex.quote(value)}" for name, value in env.items()]
    flags = list(run.flags)
    if run.sources:
        checkpoint = evaluated_checkpoint(run.example)
        flags += ["--fusion-adapters", ",".join(f"runs/{source}/{checkpoint}" for source in run.sources)]
    return " ".join([*words, "bash", f"examples/{run.example}/train.sh", shlex.join(flags)]).strip()


def _curve_metric(run: Run, curve: list[dict]) -> str | None:
    return next((metric for metric in (*run.curve, "loss") if curve and metric in curve[-1]), None)


def _points(run: str, curve: list[dict]) -> list[dict]:
    last = max((point["update"] for point in curve), default=0) or 1
    return [
        {
            "run": run,
            "epoch": point["epoch"],
            "update": point["update"],
            "progress": point["update"] / last,
            "metric": metric,
            "value": value,
        }
        for point in curve
        for metric, value in point.items()
        if metric not in ("epoch", "update")
    ]
