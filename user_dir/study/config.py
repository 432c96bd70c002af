"""What a study is asked to do: a YAML file, read, completed and checked before anything runs."""

import difflib
import math
import shlex
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

import yaml
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from ..adapters import ADAPTERS
from ..errors import UsageError
from ..pruning import PRUNERS
from .catalogue import DECIDED, EXAMPLES, FIXED, KNOWN, PREPARED, SETTINGS, TRAINED, data_settings, described

KEYS = (
    *("data", "backbone", "backbones", "tasks", "seeds", "grid", "env", "prepare", "flags"),
    *("examples", "keep_checkpoints", "resume"),
)
TASK_KEYS = ("example", "data", "backbone", "backbones", "env", "prepare", "flags", "metric", "curve", "label")
BACKBONE_KEYS = ("folder", "env")
AXES = ("family", "pruner", "sparsity", "large_sparse", "bottleneck", "lr")
BLOCK_KEYS = (*AXES, "variant", "env", "flags")
FOLDERS = ("data", "backbone", "folder", "examples")  # whose names are no YAML
SCRIPTS = ("prepare.sh", "train.sh", "evaluate.sh")


@dataclass(frozen=True)
class Backbone:
    name: str
    folder: Path
    env: dict[str, str]


@dataclass(frozen=True)
class Task:
    """One data set, with everything its scripts need to know.

    Args:
        scripts: the folder of prepare.sh, train.sh and evaluate.sh.
        base: settings that all three get: which task it is.
        prepare: settings that only prepare.sh gets: where the raw data are, how long examples may be.
        env, flags: settings of train.sh and evaluate.sh, and arguments of fairseq-train.
        metric, curve: see ``catalogue.Known``.
    """

    name: str
    label: str
    scripts: Path
    base: dict[str, str]
    prepare: dict[str, str]
    env: dict[str, str]
    flags: tuple[str, ...]
    metric: str | None
    curve: tuple[str, ...]
    backbones: tuple[Backbone, ...]


@dataclass(frozen=True)
class Study:
    """A config, checked and complete.

    Args:
        grid: blocks, each a list of values for every axis that it names, of which all combinations are run, with its
            variant, env and flags.
        keep_checkpoints: keep what was trained after its scores are recorded.
        resume: let a run that was interrupted go on from its checkpoint instead of starting again; in half precision,
            its numbers are then not the very same, and how long it trained is not known.
        config: all of this as it was written, with the overrides.
    """

    name: str
    tasks: tuple[Task, ...]
    seeds: tuple[int, ...]
    grid: tuple[dict, ...]
    keep_checkpoints: bool = False
    resume: bool = True
    config: dict = field(default_factory=dict)


def read_config(path: Path, overrides: Iterable[str] = ()) -> Study:
    """Read a config; ``overrides`` are ``key=value``, with dots for keys of keys.

    Raises:
        UsageError: the file is missing or no YAML, a key or a value is none that there is, a folder is missing.
    """
    try:
        config = OmegaConf.load(path)
        if not isinstance(config, DictConfig):
            raise UsageError(f"{path} is no config: it has no keys")
        for override in overrides:
            _override(config, *override.split("=", maxsplit=1))
        raw = OmegaConf.to_container(config, resolve=True)
    except OSError as error:
        raise UsageError(f"{path}: {error.strerror or error}") from error
    except (yaml.YAMLError, OmegaConfBaseException, UnicodeDecodeError) as error:
        raise UsageError(f"{path}: {error}") from error
    if not _is_plain(path.stem):
        raise UsageError(f"{path}: give the config a plain name, which its plan is found by")
    try:
        return _study(path.stem, raw)
    except UsageError as error:
        raise UsageError(f"{path}: {error}") from error


def _is_plain(name: str) -> bool:
    """Whether Snakemake, which reads it as YAML, takes a name for what it is."""
    try:
        return yaml.safe_load(f"{name}/") == f"{name}/"
    except yaml.YAMLError:
        return False


def _override(config: DictConfig, key: str, text: str) -> None:
    """Put a value in place of what the config says; tasks, by their names alone, are those of the config."""
    parent, _, last = key.rpartition(".")
    if text and not text.startswith("{") and (last in FOLDERS or parent == "backbones"):
        value = text
    else:
        value = OmegaConf.to_container(OmegaConf.from_dotlist([f"value={text}"]), resolve=False)["value"]
    if key == "tasks" and isinstance(config.get(key), DictConfig) and not isinstance(value, dict):
        entries = OmegaConf.to_container(config.tasks, resolve=False)
        value = {name: entries.get(name) for name in _names(value)}
    if key in ("backbone", "backbones"):
        config.pop("backbones" if key == "backbone" else "backbone", None)
    try:
        OmegaConf.update(config, key, value, merge=False, force_add=True)
    except (TypeError, ValueError) as error:  # a name where a list wants a number
        raise UsageError(f"{key}={text}: {key.partition('.')[0]} has no such names in the config") from error


def _study(name: str, raw: dict) -> Study:
    _check_keys(raw, KEYS, "")
    for key in ("tasks", "grid"):
        if not raw.get(key):
            raise UsageError(f"{key} is missing or empty: there is nothing to run")
    seeds = [raw["seeds"]] if isinstance(raw.get("seeds"), int) else raw.get("seeds", [1, 2, 3])
    if not isinstance(seeds, list) or not seeds or not all(type(seed) is int for seed in seeds):
        raise UsageError(f"seeds {seeds}: give at least one whole number")
    named = raw["tasks"]
    entries = named if isinstance(named, dict) else dict.fromkeys(_names(named))
    examples = _examples_folder(raw.get("examples"))
    blocks = raw["grid"] if isinstance(raw["grid"], list) else [raw["grid"]]
    for task in entries:
        _check_name(str(task), "tasks")
    tasks = tuple(_task(str(task), entry or {}, raw, examples) for task, entry in entries.items())
    blocks = tuple(_block(block) for block in blocks)
    labels = [task.label for task in tasks]
    if twice := {label for label in labels if labels.count(label) > 1}:
        raise UsageError(f"two tasks have the label {twice.pop()!r}: in tables they would be one")
    for task in tasks:
        _check_settings(task, blocks, examples)
    return Study(
        name=name,
        tasks=tasks,
        seeds=tuple(dict.fromkeys(seeds)),
        grid=blocks,
        keep_checkpoints=_switch(raw, "keep_checkpoints"),
        resume=_switch(raw, "resume", True),
        config=raw,
    )


def _task(name: str, entry: dict, raw: dict, examples: Path) -> Task:
    where = f"tasks.{name}"
    _check_keys(entry, TASK_KEYS, where)
    for key in ("example", "metric", "label"):
        if not isinstance(entry.get(key), str | None):
            raise UsageError(f"{where}: {key} {entry[key]!r} is no text; put it in quotes")
    curve = [entry["curve"]] if isinstance(entry.get("curve"), str) else entry.get("curve") or []
    if not (isinstance(curve, list) and all(isinstance(metric, str) for metric in curve)):
        raise UsageError(f"{where}: curve {curve!r} is no metric and no list of metrics")
    if name not in KNOWN and "example" not in entry:
        near = _nearest(name, KNOWN)
        raise UsageError(f"unknown task {name!r}{near}; say its example, or take one of {_list(KNOWN)}")
    example = entry.get("example") or KNOWN[name].example
    scripts = Path(example).absolute() if (Path(example) / "train.sh").is_file() else examples / example
    for script in SCRIPTS:
        if not (scripts / script).is_file():
            raise UsageError(
                f"{where}: example {example!r} has no {scripts / script}; examples= names the folder of the scripts, "
                "which come with the repository"
            )
    if scripts.resolve().parent == examples.resolve():  # named by its path
        example = scripts.resolve().name
        scripts = examples / example
    known = described(name, example)
    base = known.env if known.example == example else {}
    data = entry.get("data", raw.get("data"))
    if data is None:
        raise UsageError(f"{where}: data is missing: the folder of the raw data")
    if not isinstance(data, str):
        raise UsageError(f"{where}: data {data!r} is no folder")
    prepare = _settings(raw.get("prepare"), "prepare") | _settings(entry.get("prepare"), f"{where}.prepare")
    return Task(
        name=name,
        label=entry.get("label") or known.label,
        scripts=scripts,
        base=dict(base),
        prepare=data_settings(example, Path(data).absolute()) | prepare,
        env=_settings(raw.get("env"), "env") | _settings(entry.get("env"), f"{where}.env"),
        flags=(*_words(raw.get("flags")), *_words(entry.get("flags"))),
        metric=entry.get("metric") or known.metric,
        curve=tuple(curve) or known.curve,
        backbones=_backbones(entry if {"backbone", "backbones"} & set(entry) else raw, where),
    )


def _check_settings(task: Task, blocks: Iterable[dict], examples: Path) -> None:
    """Refuse settings that would do nothing: other scripts' than they are given to, and misspelt ones."""
    known = task.scripts.parent == examples and task.scripts.name in EXAMPLES
    others = [backbone.env for backbone in task.backbones] + [block["env"] for block in blocks]
    for where, settings, elsewhere in (
        ("prepare", task.prepare, TRAINED),
        *(("env", env, PREPARED) for env in (task.env, *others)),
    ):
        for name in settings:
            if name in DECIDED or (known and name in FIXED):
                raise UsageError(f"{where}: {name} is not for a config to set: the study does, by grid and seeds")
            if known and name in elsewhere:
                other = "env" if where == "prepare" else "prepare"
                raise UsageError(f"{where}: {name} does nothing there: it is a setting of {other}")
            if known and name not in SETTINGS:
                raise UsageError(
                    f"{where}: unknown setting {name}{_nearest(name, SETTINGS)}; variables of other programs are "
                    "exported in the shell that starts the study"
                )


def _backbones(entry: dict, where: str) -> tuple[Backbone, ...]:
    if ("backbone" in entry) == ("backbones" in entry):
        raise UsageError(f"{where}: give a backbone, or backbones by their names, and not both")
    if "backbone" in entry:
        folder = entry["backbone"]
        folder = folder if isinstance(folder, dict) else {"folder": folder}
        named = {Path(str(folder.get("folder"))).absolute().name: folder}
    else:
        named = entry["backbones"]
    if not isinstance(named, dict) or not named:
        raise UsageError(f"{where}: backbones are folders by their names, as in {{bert: models/bert.base}}")
    found = []
    for name, value in named.items():
        value = value if isinstance(value, dict) else {"folder": value}
        _check_name(str(name), "backbones")
        _check_keys(value, BACKBONE_KEYS, f"backbones.{name}")
        folder = Path(str(value.get("folder"))).absolute()
        if not (folder / "model.pt").is_file():
            raise UsageError(
                f"backbone {folder} has no model.pt; sparse-adapter convert makes such folders, and prepare.sh in "
                "examples/glue and examples/squad the one of MiniLM"
            )
        found.append(Backbone(str(name), folder, _settings(value.get("env"), f"backbones.{name}.env")))
    return tuple(found)


def _block(block: object) -> dict:
    if not isinstance(block, dict):
        raise UsageError(f"grid: {block!r} is no block; a block is one like {{family: houlsby, pruner: snip}}")
    _check_keys(block, BLOCK_KEYS, "grid")
    axes = {axis: block[axis] if isinstance(block.get(axis), list) else [block[axis]] for axis in AXES if axis in block}
    for axis, values in axes.items():
        if not values:
            raise UsageError(f"grid: {axis} has no values, so that there is nothing to run")
    axes.setdefault("family", ["houlsby"])
    for axis, names in (("family", ADAPTERS), ("pruner", PRUNERS)):
        for value in axes.get(axis, ()):
            for part in str(value).split("+") if axis == "family" else [str(value)]:
                if part not in (*names, "none"):
                    near = _nearest(part, names)
                    raise UsageError(f"unknown {axis} {part!r}{near}; choose one of {_list(names)}, none")
    _check_numbers(axes)
    variant = block.get("variant", "")
    if not isinstance(variant, str) or "variant" in block and not variant:
        raise UsageError(f"grid: variant {variant!r} is no name for what the block's env and flags make different")
    if variant:
        _check_name(variant, "grid.variant")
    return axes | {
        "variant": variant,
        "env": _settings(block.get("env"), "grid.env"),
        "flags": _words(block.get("flags")),
    }


def _check_numbers(axes: dict) -> None:
    rules = {
        "sparsity": (lambda x: 0 <= x < 1, "the fraction removed, from 0 to below 1"),
        "large_sparse": (lambda x: x >= 1 and x == int(x), "a whole number from 1"),
        "bottleneck": (lambda x: x >= 1 and x == int(x), "a whole number from 1"),
        "lr": (lambda x: x > 0, "above 0"),
    }
    for axis, (holds, what) in rules.items():
        for i, value in enumerate(axes.get(axis, ())):
            try:  # YAML 1.1 takes 1e-3 for a word
                number = float(value)
            except (TypeError, ValueError) as error:
                raise UsageError(f"grid: {axis} {value!r} is no number") from error
            if not (math.isfinite(number) and holds(number)):
                raise UsageError(f"grid: {axis} {value} is not {what}")
            axes[axis][i] = number
    if any(s > 0 for s in axes.get("sparsity", ())) and set(axes.get("pruner", ["none"])) == {"none"}:
        raise UsageError(f"grid: sparsity {axes['sparsity']} needs a pruner: {_list(PRUNERS)}")
    if any(k > 1 for k in axes.get("large_sparse", ())):
        if "sparsity" in axes:
            raise UsageError("grid: large_sparse k sets the sparsity, 1 - 1/k: give one of the two in a block")
        if set(axes.get("pruner", ["none"])) == {"none"}:
            raise UsageError(f"grid: large_sparse needs a pruner: {_list(PRUNERS)}")
    elif set(axes.get("pruner", ["none"])) != {"none"} and "sparsity" not in axes:
        raise UsageError("grid: a pruner needs a sparsity, or large_sparse")


def _examples_folder(given: object) -> Path:
    if given is not None:
        return Path(str(given)).absolute()
    beside = Path(__file__).resolve().parents[2] / "examples"
    # Installed, that is a folder that any package may have left.
    return beside if (beside / "common.sh").is_file() else Path("examples").absolute()


def _check_name(name: str, where: str) -> None:
    # Snakemake would take braces for its own, and commas part its jobs and the adapters of a fusion.
    if set(name) & set("/{},") or name in ("", ".", ".."):
        raise UsageError(
            f"{where}: {name!r} cannot be a name, which runs are found by: choose one without /, {{}} and commas"
        )


def _check_keys(entry: object, keys: tuple[str, ...], where: str) -> None:
    if not isinstance(entry, dict):
        raise UsageError(f"{where}: {entry!r} is no list of keys; the keys are {_list(keys)}")
    for key in entry:
        if key not in keys:
            near = _nearest(str(key), keys)
            raise UsageError(f"{where and where + ': '}unknown key {key!r}{near}; keys are {_list(keys)}")


def _settings(entry: object, where: str) -> dict[str, str]:
    if entry is None:
        return {}
    if not isinstance(entry, dict):
        raise UsageError(f"{where}: settings are names with values, as in {{MAX_EPOCH: 10}}")
    for name, value in entry.items():
        if isinstance(value, bool):  # YAML takes yes, no, on and off for these, too
            raise UsageError(f"{where}: {name} is {value}: write 1 or 0, or what is meant in quotes")
        if not isinstance(value, str | int | float):
            raise UsageError(f"{where}: {name} is {value!r}, which is no text or number")
    return {str(name): str(value) for name, value in entry.items()}


def _words(entry: object) -> tuple[str, ...]:
    if isinstance(entry, list):
        return tuple(map(str, entry))
    try:
        return tuple(shlex.split(str(entry))) if entry else ()
    except ValueError as error:
        raise UsageError(f"flags {entry!r}: {error}") from error


def _names(entry: object) -> list[str]:
    names = entry if isinstance(entry, list) else [entry]
    if not all(isinstance(name, str | int | float) for name in names):
        raise UsageError(f"tasks: {entry!r} is no list of names; tasks with keys are {{mine: {{example: glue}}}}")
    return [str(name) for name in names]


def _switch(raw: dict, key: str, default: bool = False) -> bool:
    value = raw.get(key, default)
    if not isinstance(value, bool):
        raise UsageError(f"{key} {value!r} is neither true nor false")
    return value


def _nearest(name: str, names: Iterable[str]) -> str:
    by_lower = {known.lower(): known for known in names}
    near = difflib.get_close_matches(name.lower(), by_lower, n=1, cutoff=0.5)
    return f" (did you mean {by_lower[near[0]]}?)" if near else ""


def _list(names: Iterable[str]) -> str:
    return ", ".join(names)
