"""Checkpoints that hold what is trained and find their backbone again."""

import shutil

import pytest
import torch
from fairseq.checkpoint_utils import load_checkpoint_to_cpu
from sparse_adapter.modules import is_adapter_key

from .conftest import error_line, succeed

OPTIONS = ["--adapter-only-checkpoints", "--pruner", "snip", "--sparsity", "0.4", "--dropout", "0"]


def tensors(path) -> dict:
    return load_checkpoint_to_cpu(str(path))["model"]


def hypotheses(output: str) -> list[str]:
    return [line for line in output.splitlines() if line.startswith("H-")]


@pytest.fixture(scope="module")
def runs(project, tmp_path_factory):
    """The same training with whole checkpoints and with adapter-only ones; the backbone of the latter can be moved."""
    folder = tmp_path_factory.mktemp("runs")
    backbone = shutil.copy(project.backbone, folder / "backbone.pt")
    for name, options in {"whole": OPTIONS[1:], "only": OPTIONS}.items():
        succeed(project.train(folder / name, *options, "--finetune-from-model", str(backbone)))
    return folder


def test_the_file_holds_what_is_trained(runs):
    whole, only = (tensors(runs / name / "checkpoint_last.pt") for name in ("whole", "only"))
    assert set(only) == {key for key in whole if is_adapter_key(key)}
    assert all(torch.equal(only[key], whole[key]) for key in only)
    args = load_checkpoint_to_cpu(str(runs / "only" / "checkpoint_last.pt"))["cfg"].model
    assert args.backbone == str(runs / "backbone.pt")
    assert len(args.backbone_fingerprint) == 64


def test_generation_is_that_of_the_whole_checkpoint(project, runs):
    whole, only = (
        hypotheses(succeed(project.generate(runs / name / "checkpoint_last.pt"))) for name in ("whole", "only")
    )
    assert len(only) == 20
    assert only == whole


def test_the_backbone_can_lie_elsewhere_and_must_be_the_same(project, runs, tmp_path):
    checkpoint = runs / "only" / "checkpoint_last.pt"
    expected = hypotheses(succeed(project.generate(checkpoint)))
    moved = shutil.move(runs / "backbone.pt", tmp_path / "moved.pt")
    try:
        missing = error_line(project.generate(checkpoint))
        assert str(runs / "backbone.pt") in missing and "--model-overrides" in missing
        overrides = ["--model-overrides", str({"backbone": str(moved)})]
        assert hypotheses(succeed(project.generate(checkpoint, *overrides))) == expected

        other = torch.load(moved, weights_only=False)
        other["model"]["encoder.layers.0.fc1.weight"][0, 0] += 1e-3
        torch.save(other, tmp_path / "other.pt")
        overrides = ["--model-overrides", str({"backbone": str(tmp_path / "other.pt")})]
        refused = error_line(project.generate(checkpoint, *overrides))
        assert "is not the backbone that these adapters were trained on" in refused
        assert "fingerprint" in refused

        whole = runs / "whole" / "checkpoint_last.pt"
        arguments = [*OPTIONS, "--finetune-from-model", str(whole), "--backbone", str(tmp_path / "other.pt")]
        refused = error_line(project.train(tmp_path / "run", *arguments))
        assert f"other.pt is not the backbone that {whole} was trained on" in refused
    finally:
        shutil.move(moved, runs / "backbone.pt")


def test_a_relaunch_resumes_bitwise(project, runs, tmp_path):
    arguments = [*OPTIONS, "--finetune-from-model", str(runs / "backbone.pt")]
    succeed(project.train(tmp_path / "run", *arguments, "--max-update", "2"))
    assert "not pruned again" in succeed(project.train(tmp_path / "run", *arguments))
    resumed, straight = (tensors(folder / "checkpoint_last.pt") for folder in (tmp_path / "run", runs / "only"))
    assert all(torch.equal(value, straight[key]) for key, value in resumed.items())


@pytest.mark.parametrize(
    "options, message",
    [
        (["--adapter", "none"], "no adapters to save"),
        (["--store-ema"], "--store-ema"),
    ],
)
def test_what_cannot_work_is_refused(project, tmp_path, options, message):
    assert message in error_line(project.train(tmp_path / "run", "--adapter-only-checkpoints", *options))
    assert not list((tmp_path / "run").glob("*"))
