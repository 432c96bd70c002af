"""The benchmark's report on a tiny model: complete, and exact in what it counts. Times are not judged."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
from sparse_adapter.pruning import PRUNERS

REPOSITORY = Path(__file__).parents[2]
LAYERS, DIM, BOTTLENECK, VOCAB = 1, 32, 16, 60
SITES = 5 * LAYERS  # two in an encoder layer, three in a decoder layer
IN_MATRICES = SITES * 2 * DIM * BOTTLENECK
NOT_PRUNED = SITES * (DIM + BOTTLENECK + 2 * DIM)  # biases of both projections, LayerNorm
ADAM = 2 * 4  # bytes of two fp32 moments


@pytest.fixture(scope="module")
def run(tmp_path_factory) -> tuple[str, dict]:
    """Terminal output and JSON of one run at s = 0.25."""
    out = tmp_path_factory.mktemp("benchmark") / "report.json"
    sizes = {"layers": LAYERS, "dim": DIM, "heads": 2, "vocab": VOCAB, "batch": 2, "source": 8, "target": 6}
    settings = {"bottleneck": BOTTLENECK, "sparsity": 0.25, "rounds": 2, "prune-rounds": 1, "json": out}
    command = [sys.executable, REPOSITORY / "scripts/benchmark.py", "--cpu"]
    command += [str(word) for name, value in (sizes | settings).items() for word in (f"--{name}", value)]
    result = subprocess.run(command, capture_output=True, text=True)
    assert result.returncode == 0, result.stderr[-4000:]
    assert [path.name for path in out.parent.iterdir()] == [out.name]  # nothing half-written left behind
    return result.stdout, json.loads(out.read_text())


def test_trained_parameters_are_exact(run):
    systems = run[1]["systems"]
    assert systems["dense"]["trained_parameters"] == IN_MATRICES + NOT_PRUNED
    assert systems["compact"]["trained_parameters"] == 0.75 * IN_MATRICES + NOT_PRUNED
    assert systems["full"]["trained_parameters"] > VOCAB * DIM + LAYERS * 24 * DIM**2


def test_optimizer_state_shrinks_with_the_matrices(run):
    systems = run[1]["systems"]
    for system in systems.values():
        assert system["optimizer_state_bytes"] == ADAM * system["trained_parameters"]
    dense, compact = (systems[name]["optimizer_state_bytes"] - ADAM * NOT_PRUNED for name in ("dense", "compact"))
    assert compact == 0.75 * dense


def test_checkpoints_shrink(run):
    full, dense, compact = (run[1]["systems"][name] for name in ("full", "dense", "compact"))
    assert full["checkpoint_bytes"] > dense["checkpoint_bytes"] > compact["checkpoint_bytes"]
    assert full["adapter_checkpoint_bytes"] == 0
    # Values and masks, and no other tensor of that size, are what the adapters' part consists of.
    overhead = [
        system["adapter_checkpoint_bytes"] - 4 * system["trained_parameters"] - mask
        for system, mask in ((dense, 0), (compact, IN_MATRICES // 8))
    ]
    assert all(0 < size < 1000 * SITES * 8 for size in overhead)


def test_all_is_measured(run):
    report = run[1]
    assert {"cpu_count", "threads", "torch", "fairseq", "device"} <= report["machine"].keys()
    assert list(report["systems"]) == ["full", "dense", "compact"]
    for system in report["systems"].values():
        assert 0 < system["step_seconds_min"] <= system["step_seconds_median"]
        assert 0 < system["cpu_seconds_min"] <= system["cpu_seconds_median"]
        assert len(system["step_seconds"]) == 2
        assert system["peak_memory_bytes"] > system["memory_before_bytes"] > 0
    assert sorted(report["pruners"]) == sorted(PRUNERS)
    assert all(pruner["training_steps"] > 0 for pruner in report["pruners"].values())


def test_verdicts_follow_from_what_was_measured(run):
    output, report = run
    step = {name: system["step_seconds_min"] for name, system in report["systems"].items()}
    targets = {target["target"]: target for target in report["targets"]}
    assert len(targets) == 6
    assert targets["step time: compact / dense adapter"]["measured"] == pytest.approx(
        step["compact"] / step["dense"], abs=1e-4
    )
    assert targets["optimizer state: compact / dense adapter"]["limit"] == pytest.approx(0.8)
    assert targets["snip, one batch, in training steps"]["limit"] == 2
    for target in targets.values():
        row = next(line for line in output.splitlines() if line.startswith(f"| {target['target']} "))
        assert row.rstrip(" |").endswith("met" if target["measured"] <= target["limit"] else "MISSED")
