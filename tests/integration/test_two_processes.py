"""Two processes (gloo, on the CPU): the same masks on both ranks, and those of one process."""

import json
import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from ..commands import REPOSITORY
from .conftest import BIN, succeed

HOOK = Path(__file__).with_name("prune_on_rank.py")
OPTIONS = ("--sparsity", "0.5", "--prune-batches", "5")


def distributed(*command: str) -> subprocess.CompletedProcess:
    with socket.socket() as free:
        free.bind(("localhost", 0))
        port = free.getsockname()[1]
    launcher = [BIN / "torchrun", "--nproc_per_node=2", f"--master_port={port}", "--no-python", "bash", "-c"]
    fairseq = (
        " ".join(command) + " --distributed-backend gloo --distributed-world-size 2 "
        "--distributed-init-method env:// --distributed-no-spawn --distributed-rank $RANK"
    )
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "OMP_WAIT_POLICY": "PASSIVE"}
    return subprocess.run([*launcher, fairseq], capture_output=True, text=True, cwd=REPOSITORY, env=environment)


@pytest.mark.parametrize("pruner", ["random", "snip", "grasp"])
def test_masks_are_the_same_on_all_ranks_and_as_in_one_process(project, tmp_path, pruner):
    arguments = project.train_args(tmp_path / "run", "--pruner", pruner, *OPTIONS)
    succeed(distributed(sys.executable, str(HOOK), str(tmp_path / "two"), *arguments))
    first, second = (torch.load(f"{tmp_path}/two.rank{rank}.pt", weights_only=True) for rank in (0, 1))
    assert first.keys() == second.keys()
    assert all(torch.equal(first[name], second[name]) for name in first)

    succeed(subprocess.run([sys.executable, HOOK, tmp_path / "one", *arguments], capture_output=True, text=True))
    alone = torch.load(f"{tmp_path}/one.rank0.pt", weights_only=True)
    equal = torch.cat([(alone[name] == first[name]).flatten() for name in alone]).float().mean()
    assert equal >= 0.999


@pytest.mark.parametrize("backend", ["legacy_ddp"])
def test_training_on_two_processes(project, tmp_path, backend):
    arguments = project.train_args(tmp_path / "run", "--pruner", "snip", *OPTIONS, "--ddp-backend", backend)
    succeed(distributed(str(BIN / "fairseq-train"), *arguments))
    report = json.loads((tmp_path / "run" / "sparsity.json").read_text())
    assert report["batches"] == 5 and report["examples"] > 5
    state = torch.load(tmp_path / "run" / "checkpoint_last.pt", weights_only=True)["model"]
    values = sum(value.numel() for key, value in state.items() if ".sparse_adapter." in key and "values" in key)
    assert values == report["matrix_total"]["kept"] == round(0.5 * report["matrix_total"]["total"])
    # A relaunch resumes under DDP, where the checkpoint is broadcast from the first process.
    output = succeed(distributed(str(BIN / "fairseq-train"), *arguments, "--max-update", "8"))
    assert "not pruned again" in output
