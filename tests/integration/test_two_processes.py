"""Two processes (gloo, on the CPU): the same masks on both ranks, and those of one process."""

import json
import os
import shlex
import socket
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from ..commands import REPOSITORY
from .conftest import BIN, succeed

FOLDER = Path(__file__).parent
PRUNERS = ("random", "snip", "grasp")
OPTIONS = ("--sparsity", "0.5", "--prune-batches", "5")


def distributed(*command: str) -> subprocess.CompletedProcess:
    with socket.socket() as free:
        free.bind(("localhost", 0))
        port = free.getsockname()[1]
    launcher = [BIN / "torchrun", "--nproc_per_node=2", f"--master_port={port}", "--no-python", "bash", "-c"]
    fairseq = (
        shlex.join(command) + " --distributed-backend gloo --distributed-world-size 2 "
        "--distributed-init-method env:// --distributed-no-spawn --distributed-rank $RANK"
    )
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "OMP_WAIT_POLICY": "PASSIVE"}
    return subprocess.run([*launcher, fairseq], capture_output=True, text=True, cwd=REPOSITORY, env=environment)


@pytest.fixture(scope="module")
def masks(project, tmp_path_factory) -> Path:
    """A folder with the masks that each pruner gives two processes and one."""
    folder = tmp_path_factory.mktemp("masks")
    arguments = project.train_args(folder / "run", "--pruner", PRUNERS[0], *OPTIONS)
    hook = (sys.executable, str(FOLDER / "prune_on_rank.py"))
    succeed(distributed(*hook, str(folder / "two"), ",".join(PRUNERS), *arguments))
    alone = [*hook, folder / "one", ",".join(PRUNERS), *arguments]
    succeed(subprocess.run(alone, capture_output=True, text=True))
    return folder


@pytest.mark.parametrize("pruner", PRUNERS)
def test_masks_are_the_same_on_all_ranks_and_as_in_one_process(masks, pruner):
    first, second, alone = (
        torch.load(masks / f"{name}.pt", weights_only=True)
        for name in (f"two.{pruner}.rank0", f"two.{pruner}.rank1", f"one.{pruner}.rank0")
    )
    assert first.keys() == second.keys() == alone.keys()
    assert all(torch.equal(first[name], second[name]) for name in first)
    equal = torch.cat([(alone[name] == first[name]).flatten() for name in alone]).float().mean()
    assert equal >= 0.999


def test_training_on_two_processes(project, tmp_path):
    options = (
        "--adapter",
        "houlsby+lora+prefix",
        "--adapter-layers",
        "encoder.1,decoder",
        "--pruner",
        "snip",
        *OPTIONS,
    )
    arguments = project.train_args(tmp_path / "run", *options, "--ddp-backend", "legacy_ddp")
    succeed(distributed(str(BIN / "fairseq-train"), *arguments))
    report = json.loads((tmp_path / "run" / "sparsity.json").read_text())
    assert report["batches"] == 5 and report["examples"] > 5
    state = torch.load(tmp_path / "run" / "checkpoint_last.pt", weights_only=True)["model"]
    values = sum(value.numel() for key, value in state.items() if ".sparse_adapter." in key and "values" in key)
    assert values == report["matrix_total"]["kept"] == round(0.5 * report["matrix_total"]["total"])
    # PyTorch's own DDP, which waits for a gradient of each parameter, and without one ends the run.
    other = project.train_args(tmp_path / "other", *options, "--ddp-backend", "pytorch_ddp")
    succeed(distributed(sys.executable, str(FOLDER / "ddp_on_cpu.py"), *other))
    same = torch.load(tmp_path / "other" / "checkpoint_last.pt", weights_only=True)["model"]
    assert all(torch.allclose(value, same[key], atol=1e-6) for key, value in state.items())
    # A relaunch resumes under DDP, where the checkpoint is broadcast from the first process.
    output = succeed(distributed(str(BIN / "fairseq-train"), *arguments, "--max-update", "8"))
    assert "not pruned again" in output
