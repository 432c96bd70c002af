"""Studies without training: tiny configs, example scripts that only pretend, and results made up by a rule."""

import json
import math
import random
import re
from pathlib import Path

from sparse_adapter.files import write_json
from sparse_adapter.study.config import read_config
from sparse_adapter.study.grid import make_plan
from sparse_adapter.study.plan import Plan, Run, settings_hash, settings_of, write_plan

CONFIGS = Path(__file__).parents[2] / "examples" / "study"
PREPARE = """
set -e
mkdir -p "$DATA"
echo '{}' > "$DATA/prepare.json"
"""
TRAIN = """
set -e
[ -f "$DATA/prepare.json" ]
echo "$SAVE_DIR" >> "$STARTED"
if [ "$PRUNER" = "${BROKEN:-}" ]; then echo "it broke"; exit 3; fi
for epoch in 1 2 3; do
    sleep "${PAUSE:-0}"
    metrics="loss 0.$((9 - epoch)) | acc $((50 + 5 * epoch + SEED)) | wps 9 | num_updates $((epoch * 10))"
    echo "x | INFO | valid | epoch 00$epoch | valid on 'valid' subset | $metrics"
done
touch "$SAVE_DIR/checkpoint_last.pt"
"""
EVALUATE = """
set -e
[ -f "$SAVE_DIR/checkpoint_last.pt" ]
touch "$SAVE_DIR/average.pt"
value=$((60 + SEED + ${#PRUNER}))
echo "{\\"metric\\": \\"accuracy\\", \\"value\\": $value, \\"n\\": 9}" > "$SAVE_DIR/scores.json.part"
mv "$SAVE_DIR/scores.json.part" "$SAVE_DIR/scores.json"
"""


def pretended(root: Path) -> Path:
    """A folder with raw data, a backbone and an example ``ex`` whose scripts take no time; returns its config."""
    for name in ("raw", "backbone", "ex"):
        (root / name).mkdir(parents=True)
    (root / "backbone" / "model.pt").touch()
    for name, text in (("prepare", PREPARE), ("train", TRAIN), ("evaluate", EVALUATE)):
        (root / "ex" / f"{name}.sh").write_text(text)
    config = {
        "data": str(root / "raw"),
        "backbone": str(root / "backbone"),
        "tasks": {"one": {"example": str(root / "ex")}},
        "seeds": [1, 2],
        "env": {"STARTED": str(root / "started")},
        "grid": [{"family": "none"}, {"family": "houlsby", "pruner": ["none", "snip"], "sparsity": 0.4}],
    }
    path = root / "tiny.yaml"
    path.write_text(json.dumps(config))  # JSON is YAML
    return path


def places(root: Path) -> list[str]:
    """Overrides of the ready configs: data and backbones that are there, if empty."""
    for name in ("glue", "xsum", "squad", "bert.base", "bart.large"):
        (root / name).mkdir(parents=True, exist_ok=True)
        (root / name / "model.pt").touch()
    for name in ("train-v1.1.json", "dev-v1.1.json"):
        (root / "squad" / name).touch()
    return [f"data={root / 'glue'}", f"backbone={root / 'bert.base'}"]


def places_of_table2(root: Path) -> list[str]:
    places(root)
    glue = ("cola", "mrpc", "sts-b", "rte")
    data = {**dict.fromkeys(glue, "glue"), "xsum": "xsum", "squad": "squad"}
    words = [f"tasks.{task}.data={root / folder}" for task, folder in data.items()]
    backbones = {**dict.fromkeys((*glue, "squad"), "bert.base"), "xsum": "bart.large"}
    return words + [f"tasks.{task}.backbone={root / folder}" for task, folder in backbones.items()]


def plan_of(config: str, root: Path) -> Plan:
    overrides = places_of_table2(root) if config == "table2" else places(root)
    if config == "minilm-squad":
        overrides.append(f"data={root / 'squad'}")
    return make_plan(read_config(CONFIGS / f"{config}.yaml", overrides))


def score(run: Run) -> float:
    """Sparse adapters are a little better, the more so the larger; half of the weights may go."""
    base = {"cola": 58, "mrpc": 83, "sts-b": 87, "rte": 66, "xsum": 20, "squad": 85}.get(run.task, 70)
    gain = {"none": 1.0, "lora": 0.4, "mam": 0.2}.get(run.family, 0.0)
    gain += {"snip": 0.5, "grasp": 0.3, "magnitude": -0.4}.get(run.pruner, 0.0)
    gain += 0.7 * (run.large_sparse - 1) - (6 * max(0.0, run.sparsity - 0.5) if run.large_sparse == 1 else 0)
    return base + gain + random.Random(run.name).gauss(0, 0.5)


def finish(folder: Path, run: Run) -> None:
    """Write a result as a job does."""
    final = score(run)
    epochs, speed = 10, 2.0 + 0.8 * run.large_sparse
    noise = random.Random(run.name)
    curve = []
    for epoch in range(1, epochs + 1):
        value = final * (1 - 0.6 * math.exp(-speed * epoch / 4)) + (noise.gauss(0, 0.4) if epoch < epochs else 0)
        names = {"cola": "mcc", "sts-b": "pearson", "squad": "f1", "xsum": "loss"}
        metric = names.get(run.task, "acc")
        curve.append({"epoch": epoch, "update": epoch * 100, metric: 8 - value / 5 if metric == "loss" else value})
    total = 1_000_000 * run.large_sparse
    kept = round(total * (1 - run.sparsity))
    counts = {"trained": kept + 2000, "adapters": kept + 1000, "backbone": 50_000_000, "kept": kept, "total": total}
    others = {"exact_match": final - 10} if run.task == "squad" else {}
    metric = run.metric or {"cola": "matthews", "sts-b": "pearson"}.get(run.task, "accuracy")
    result = {
        "run": run.name,
        "settings": settings_of(run),
        "settings_sha256": settings_hash(settings_of(run)),
        "adopted": False,
        "shown": {"label": run.label, "metric": run.metric, "curve": run.curve},
        "metric": metric,
        "score": final,
        "scores": {"metric": metric, "value": final, metric: final, "n": 277, **others},
        "curve": curve,
        "parameters": {**({} if run.family == "none" else counts), "density": 1 - run.sparsity, "mask_sha256": None},
        "seconds": {"training": 60.0, "evaluation": 5.0, "pruning": 1.0},
        "versions": {"torch": "2", "fairseq": "0", "plugin": "0"},
    }
    write_json(folder / "runs" / run.name / "result.json", result)


def finished_study(folder: Path, *configs: str, without: str = "$^") -> Path:
    """A folder as the study of these ready configs leaves it, except for runs whose name the pattern is found in."""
    for config in configs:
        finished_plan(folder, plan_of(config, folder.parent / "places"), without)
    return folder


def finished_plan(folder: Path, plan: Plan, without: str = "$^") -> Path:
    write_plan(folder, plan)
    for run in plan.runs.values():
        if not re.search(without, run.name):
            finish(folder, run)
    return folder
