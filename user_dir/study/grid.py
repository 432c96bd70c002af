"""The runs of a study: every combination of task, backbone, settings and seed, each with a name that says which."""

import dataclasses
import itertools

from ..errors import UsageError
from .catalogue import SHARED
from .config import AXES, Backbone, Study, Task
from .plan import FUSION, Plan, Preparation, Run

FUSED = "pfeiffer"
# The setting that is a family's size, the grid's ``bottleneck``.
SIZES = {"lora": "LORA_RANK", "prefix": "PREFIX_LENGTH"}


def make_plan(study: Study) -> Plan:
    """What a config comes to; see ``expand``."""
    return Plan(study.name, study.keep_checkpoints, study.resume, *expand(study), study.config)


def expand(study: Study) -> tuple[dict[str, Preparation], dict[str, Run]]:
    """All preparations and all runs, by name, in the order of the config; those that a fusion needs are added.

    Raises:
        UsageError: two blocks ask for the same run with different settings, or a fusion could fuse several runs on
            one task.
    """
    preparations, runs, fusions = {}, {}, []
    for task in study.tasks:
        for backbone in task.backbones:
            preparation = _preparation(task, backbone)
            preparations[preparation.name] = preparation
            for block, seed in itertools.product(study.grid, study.seeds):
                for values in _combinations(block):
                    run = _run(task, backbone, seed, block, values)
                    if run.family == FUSION:
                        fusions.append((run, backbone, values))
                    else:
                        _add(runs, run)
    given = dict(runs)  # what fusions add is no choice of the config's
    for fusion, backbone, values in fusions:
        sources = [_source(fusion, task, backbone, values, given) for task in study.tasks if backbone in task.backbones]
        sources = [source for source in sources if source.scripts == fusion.scripts]
        for source in sources:
            _add(runs, source)
        _add(runs, dataclasses.replace(fusion, sources=tuple(source.name for source in sources)))
    return preparations, runs


def _add(runs: dict[str, Run], run: Run) -> None:
    if runs.setdefault(run.name, run) != run:
        raise UsageError(f"grid: two blocks ask for {run.name} with different settings")


def _combinations(block: dict) -> list[dict]:
    axes = {axis: block[axis] for axis in AXES if axis in block}
    return [dict(zip(axes, values, strict=True)) for values in itertools.product(*axes.values())]


def _preparation(task: Task, backbone: Backbone) -> Preparation:
    both = {name: value for name, value in (task.env | backbone.env).items() if name in SHARED}
    env = task.prepare | task.base | both | {"BACKBONE_DIR": str(backbone.folder)}
    return Preparation(f"{task.name}-{backbone.name}", str(task.scripts), env)


def _run(task: Task, backbone: Backbone, seed: int, block: dict, values: dict) -> Run:
    family, pruner = values["family"], values.get("pruner", "none")
    sparsity, large = values.get("sparsity", 0.0), int(values.get("large_sparse", 1))
    bottleneck, lr = values.get("bottleneck"), values.get("lr")
    if large > 1:
        sparsity = round(1 - 1 / large, 4)
    if family == "none" or pruner == "none" or sparsity == 0:
        pruner, sparsity, large = "none", 0.0, 1
    if family == "none":
        bottleneck = None
    env = task.base | task.env | backbone.env | block["env"]
    env |= {"BACKBONE_DIR": str(backbone.folder), "BACKBONE": str(backbone.folder / "model.pt"), "SEED": str(seed)}
    env |= {"ADAPTER": family, "PRUNER": pruner, "SPARSITY": f"{sparsity:g}", "LARGE_SPARSE": str(large)}
    size = _size(family)
    if bottleneck is not None and size is None:
        both = " and ".join(SIZES[part] for part in family.split("+"))
        raise UsageError(f"grid: bottleneck is no size of {family}: set {both} with env")
    if large > 1 and family == FUSION:
        raise UsageError(
            f"grid: large_sparse is not for {FUSION}, whose matrices have the backbone's sizes: take sparsity"
        )
    if family == FUSION and "BOTTLENECK" in block["env"]:
        raise UsageError(f"grid: BOTTLENECK in the env of {FUSION} does nothing: give bottleneck, of what it fuses")
    if bottleneck is not None:
        env[size] = str(int(bottleneck))
    if lr is not None:
        env["LR"] = f"{lr:g}"
    system = _system(family, pruner, sparsity, large, bottleneck)
    if block["variant"]:
        system += f"-{block['variant']}"
    rate = "" if lr is None else f"-lr{lr:g}"
    recorded = None if family == "none" or size not in env else int(env[size])
    return Run(
        name=f"{task.name}-{backbone.name}-{system}{rate}-seed{seed}",
        task=task.name,
        label=task.label,
        example=task.scripts.name,
        backbone=backbone.name,
        system=system,
        family=family,
        pruner=pruner,
        sparsity=sparsity,
        large_sparse=large,
        bottleneck=recorded,
        lr=lr,
        seed=seed,
        metric=task.metric,
        curve=task.curve,
        data=f"{task.name}-{backbone.name}",
        scripts=str(task.scripts),
        env=env,
        flags=(*task.flags, *block["flags"]),
        variant=block["variant"],
    )


def _size(family: str) -> str | None:
    """The setting that a family's ``bottleneck`` is; of several families, that of those which have one."""
    sizes = dict.fromkeys(SIZES.get(part, "BOTTLENECK") for part in family.split("+"))
    return "BOTTLENECK" if "BOTTLENECK" in sizes else next(iter(sizes)) if len(sizes) == 1 else None


def _system(family: str, pruner: str, sparsity: float, large: int, bottleneck: float | None) -> str:
    if family == "none":
        return "full"
    size = "" if bottleneck is None else f"{int(bottleneck)}"
    kind = "dense" if pruner == "none" else f"{pruner}-x{large}" if large > 1 else f"{pruner}{sparsity:g}"
    return f"{family}{size}-{kind}"


def _source(fusion: Run, task: Task, backbone: Backbone, values: dict, runs: dict[str, Run]) -> Run:
    """The run on ``task`` that a fusion of this backbone and seed uses: of its size if it has one, pruned as it is, of
    the grid if it has one.
    """
    same = {"task": task.name, "family": FUSED, "backbone": fusion.backbone, "variant": ""}
    same |= {name: getattr(fusion, name) for name in ("pruner", "sparsity", "large_sparse", "seed")}
    if "bottleneck" in values:
        same["bottleneck"] = int(values["bottleneck"])
    found = [run for run in runs.values() if all(getattr(run, name) == value for name, value in same.items())]
    if len(found) > 1:
        raise UsageError(
            f"grid: {fusion.name} could fuse {' or '.join(run.name for run in found)}: which is best is not known "
            f"before they are trained, so give {FUSED} one lr and one bottleneck"
        )
    if found:
        return found[0]
    plain = {"variant": "", "env": {}, "flags": ()}
    return _run(task, backbone, fusion.seed, plain, {**values, "family": FUSED, "lr": None})
