"""A study's plan: its preparations and runs, in memory and on disk, as the jobs, the engine and the results read them.

Jobs import this without torch and fairseq, see ``start``.
"""

import dataclasses
import hashlib
import json
import shlex
from dataclasses import dataclass, field
from pathlib import Path

from ..errors import UsageError
from ..files import read_json, write_json

FOLDER = "plans"
FUSION = "adapter_fusion"


@dataclass(frozen=True)
class Preparation:
    """One task's data for one backbone: what ``prepare.sh`` is called with."""

    name: str
    scripts: str
    env: dict[str, str]


@dataclass(frozen=True)
class Run:
    """One training with its evaluation.

    Args:
        system: what the run is besides its task, backbone, learning rate and seed: runs of one system are compared.
        variant: what the grid calls other settings of the system that it would be without them.
        bottleneck: dimension r where the grid or the settings say it, otherwise the example's default; of LoRA its
            rank, of a prefix its length.
        lr: peak learning rate where the grid says it, otherwise the example's default.
        data: the name of its ``Preparation``.
        env, flags: settings of train.sh and evaluate.sh, and arguments of fairseq-train.
        sources: runs whose adapters this one fuses.
    """

    name: str
    task: str
    label: str
    example: str
    backbone: str
    system: str
    family: str
    pruner: str
    sparsity: float
    large_sparse: int
    bottleneck: int | None
    lr: float | None
    seed: int
    metric: str | None
    curve: tuple[str, ...]
    data: str
    scripts: str
    env: dict[str, str]
    flags: tuple[str, ...]
    sources: tuple[str, ...] = ()
    variant: str = ""


def settings_of(part: Run | Preparation) -> dict:
    """All that a run or preparation is determined by, as JSON would give it back."""
    kept = {k: v for k, v in dataclasses.asdict(part).items() if k not in ("scripts", "label", "curve", "metric")}
    if not kept.get("variant"):  # as those that were made before there were any
        kept.pop("variant", None)
    return json.loads(json.dumps(kept))


def settings_hash(settings: dict) -> str:
    return hashlib.sha256(json.dumps(settings, sort_keys=True).encode()).hexdigest()


def portable(settings: dict[str, str]) -> dict[str, str]:
    """Those that are the same on every machine: no folders."""
    return {name: value for name, value in settings.items() if not Path(value).is_absolute()}


def shared_settings(run: Run, prepare: dict[str, str]) -> dict[str, str]:
    """What all runs that are averaged have alike, on whatever machine they were made: no seed, and no folders.

    Args:
        prepare: what the run's data were prepared with.
    """
    prepared = {f"prepare.{name}": value for name, value in prepare.items()}
    settings = {name: value for name, value in portable(prepared | run.env).items() if name != "SEED"}
    flags = (Path(flag).name if Path(flag).is_absolute() else flag for flag in run.flags)
    return dict(sorted(settings.items())) | {"flags": shlex.join(flags)}


@dataclass(frozen=True)
class Plan:
    name: str
    keep_checkpoints: bool
    resume: bool
    preparations: dict[str, Preparation]
    runs: dict[str, Run]
    config: dict = field(default_factory=dict)  # what it was made of; before it was recorded, nothing


def plan_path(folder: Path, name: str) -> Path:
    return folder / FOLDER / f"{name}.json"


def preparation_record(folder: Path, preparation: str) -> Path:
    """Says that the data beside it are complete, and of what."""
    return folder / "data" / f"{preparation}.json"


def preparation_failure(folder: Path, preparation: str) -> Path:
    return folder / "data" / f"{preparation}.failure.json"


def write_plan(folder: Path, plan: Plan) -> Path:
    path = plan_path(folder, plan.name)
    write_json(path, dataclasses.asdict(plan))
    return path


def read_plan(path: Path) -> Plan:
    raw = read_json(path)
    raw["preparations"] = {name: Preparation(**value) for name, value in raw["preparations"].items()}
    raw["runs"] = {name: Run(**_tuples(value)) for name, value in raw["runs"].items()}
    return Plan(**raw)


def read_plans(folder: Path) -> list[Plan]:
    """All plans that share the folder of a study.

    Raises:
        UsageError: it is no such folder.
    """
    paths = sorted((folder / FOLDER).glob("*.json"))
    if not paths:
        raise UsageError(f"{folder} is no study: sparse-adapter study makes one")
    return [read_plan(path) for path in paths]


def check_same_settings(folder: Path, plan: Plan) -> None:
    """Refuse to go on with runs, or data, that were begun with other settings under the same name, and to add runs that
    would be averaged with finished ones of other settings.

    Raises:
        UsageError: there is one; the message says what differs.
    """
    for preparation in plan.preparations.values():
        check_preparation(folder, preparation)
    for run in plan.runs.values():
        check_run(folder, run, plan.preparations[run.data])
    _check_other_seeds(folder, plan)


def check_preparation(folder: Path, preparation: Preparation) -> None:
    """See ``check_same_settings``."""
    made = folder / "data" / preparation.name
    _check(made, preparation_record(folder, preparation.name), preparation)


def check_run(folder: Path, run: Run, data: Preparation) -> None:
    """See ``check_same_settings``; ``data`` are those of the run."""
    made = folder / "runs" / run.name
    _check(made, made / "settings.json", run, data)


def _check(made: Path, record: Path, part: Run | Preparation, data: Preparation | None = None) -> None:
    if not record.exists():
        return
    before, now = read_json(record), settings_of(part)
    before.pop("adopted", None)
    other_data = _other_data(before.pop("prepared", None), data)
    if before != now or other_data:
        also = "" if made in record.parents else f" and {record}"
        raise UsageError(
            f"{made} was made with other settings: {changes(before, now) or other_data}. Take another folder with "
            f"--out, or delete it{also}"
        )


def _other_data(prepared: dict[str, str] | None, data: Preparation | None) -> str:
    """What the data of a run were prepared with that they are not now; older runs say no folders, or nothing."""
    if prepared is None or data is None:
        return ""
    return changes(prepared, data.env if "BACKBONE_DIR" in prepared else portable(data.env))


def _check_other_seeds(folder: Path, plan: Plan) -> None:
    """The results show every finished run of the folder: what differs by its seed alone has to be comparable."""
    alike = {(run.task, run.backbone, run.system, run.lr): run for run in plan.runs.values()}
    for result in sorted((folder / "runs").glob("*/result.json")):
        made = result.parent
        if made.name in plan.runs:
            continue
        recorded = read_json(result)
        before = recorded["settings"]
        run = alike.get((before["task"], before["backbone"], before["system"], before["lr"]))
        if run is None:
            continue
        changed = changes(*map(_without_seed, (before, settings_of(run))))
        if changed := changed or _other_data(recorded.get("prepared"), plan.preparations[run.data]):
            raise UsageError(
                f"{made} would be averaged with {run.name} and was made with other settings: {changed}. Take "
                "another folder with --out, or delete it"
            )


def _without_seed(settings: dict) -> dict:
    env = {name: value for name, value in settings["env"].items() if name != "SEED"}
    return {name: value for name, value in settings.items() if name not in ("name", "seed", "sources")} | {"env": env}


def changes(before: dict, now: dict) -> str:
    """Which settings are others, in words; empty where none is."""
    flat_before, flat_now = ({**settings, **settings.get("env", {})} for settings in (before, now))
    names = [name for name in {**flat_before, **flat_now} if name != "env"]
    changed = [name for name in names if flat_before.get(name) != flat_now.get(name)]
    return ", ".join(f"{name} was {flat_before.get(name)} and is {flat_now.get(name)}" for name in changed)


def _tuples(value: dict) -> dict:
    return {name: tuple(item) if isinstance(item, list) else item for name, item in value.items()}
