"""AdapterFusion from the command line: two stages, adapter-only files, pruning in both."""

import json
from pathlib import Path

import pytest
import torch
from fairseq.checkpoint_utils import load_checkpoint_to_cpu

from .conftest import error_line, succeed

SPARSE = ["--pruner", "snip", "--sparsity", "0.5", "--dropout", "0", "--adapter-only-checkpoints"]


@pytest.fixture(scope="module")
def stage_1(project, tmp_path_factory) -> str:
    folder = tmp_path_factory.mktemp("stage1")
    for seed in ("1", "2"):
        succeed(project.train(folder / seed, *SPARSE, "--adapter", "pfeiffer", "--seed", seed))
    return ",".join(str(folder / seed / "checkpoint_last.pt") for seed in ("1", "2"))


def test_both_stages(project, stage_1, tmp_path):
    fusion = [*SPARSE, "--adapter", "adapter_fusion", "--fusion-adapters", stage_1]
    succeed(project.train(tmp_path / "straight", *fusion))
    report = json.loads((tmp_path / "straight" / "sparsity.json").read_text())
    assert report["matrix_total"] == {"kept": 4 * 3 * 512, "total": 4 * 3 * 1024, "density": 0.5}
    stages = [json.loads(Path(path).with_name("sparsity.json").read_text()) for path in stage_1.split(",")]
    fused = sum(stage["trained"]["total"] for stage in stages)
    assert report["fused_parameters"] == fused > 0 and stages[0]["fused_parameters"] == 0

    state = load_checkpoint_to_cpu(str(tmp_path / "straight" / "checkpoint_last.pt"))["model"]
    for i, path in enumerate(stage_1.split(",")):
        single = load_checkpoint_to_cpu(path)["model"]
        inside = {key.replace(".pfeiffer.ffn.", f".adapter_fusion.ffn.adapters.{i}."): v for key, v in single.items()}
        assert all(torch.equal(state[key], value) for key, value in inside.items())

    succeed(project.train(tmp_path / "resumed", *fusion, "--max-update", "2"))
    succeed(project.train(tmp_path / "resumed", *fusion))
    resumed = load_checkpoint_to_cpu(str(tmp_path / "resumed" / "checkpoint_last.pt"))["model"]
    assert all(torch.equal(value, state[key]) for key, value in resumed.items())

    swapped = ",".join(reversed(stage_1.split(",")))
    again = project.train(tmp_path / "resumed", *fusion[:-1], swapped, "--max-update", "99")
    assert "fuses other adapters than --fusion-adapters" in error_line(again)

    out = succeed(project.generate(tmp_path / "straight" / "checkpoint_last.pt"))
    assert sum(line.startswith("H-") for line in out.splitlines()) == 20


def test_adapters_of_another_backbone_are_refused(project, stage_1, tmp_path):
    other = torch.load(project.backbone, weights_only=False)
    other["model"]["encoder.layers.0.fc1.weight"][0, 0] += 1e-3
    torch.save(other, tmp_path / "other.pt")
    arguments = ["--adapter", "adapter_fusion", "--fusion-adapters", stage_1]
    arguments += ["--finetune-from-model", str(tmp_path / "other.pt")]
    assert "were trained on the backbone" in error_line(project.train(tmp_path / "run", *arguments))
