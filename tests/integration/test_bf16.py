"""Training with --bf16 without a TPU, for which alone fairseq has it."""

import json
import re

import pytest
import torch

from .conftest import succeed

SPARSE = ("--pruner", "grasp", "--sparsity", "0.4", "--prune-batches", "2", "--adapter-only-checkpoints")


def validation_loss(output: str) -> float:
    return float(re.findall(r"valid on 'valid' subset \| loss (\S+)", output)[-1])


@pytest.mark.parametrize("flag", ["--bf16", "--memory-efficient-bf16"])
def test_bf16_prunes_as_float32_trains_resumes_and_generates(project, tmp_path, flag):
    half, whole = tmp_path / "half", tmp_path / "whole"
    outputs = [succeed(project.train(whole, *SPARSE)), succeed(project.train(half, *SPARSE, flag))]
    losses = [validation_loss(output) for output in outputs]
    assert losses[1] == pytest.approx(losses[0], rel=0.02)
    masks = [json.loads((folder / "sparsity.json").read_text())["mask_sha256"] for folder in (half, whole)]
    assert masks[0] == masks[1]

    checkpoint = half / "checkpoint_last.pt"
    trained = {k: v for k, v in torch.load(checkpoint, weights_only=True)["model"].items() if k.endswith(".values")}
    # fairseq writes all files in float32.
    assert trained and all(torch.equal(value, value.bfloat16().float()) for value in trained.values())
    assert "H-0" in succeed(project.generate(checkpoint))

    assert "Loaded checkpoint" in succeed(project.train(half, *SPARSE, flag, "--max-update", "6"))
    resumed = torch.load(checkpoint, weights_only=True)["model"]
    assert any(not torch.equal(value, resumed[key]) for key, value in trained.items())
