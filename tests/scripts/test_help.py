"""What scripts and READMEs say of their settings."""

import subprocess
from dataclasses import fields
from pathlib import Path

import pytest
from sparse_adapter.adapters.options import option_names
from sparse_adapter.tasks.prune_at_init import PruneAtInitConfig

ROOT = Path(__file__).parents[2]
RECORDED = {"backbone_fingerprint", "backbone_vocabulary", "fusion_sources"}  # in checkpoints, no flags


@pytest.mark.parametrize("script", ["scripts/quickstart.sh", "scripts/test.sh", "examples/pretraining/pretrain.sh"])
def test_help_is_the_header_and_starts_nothing(script, tmp_path):
    done = subprocess.run(["bash", ROOT / script, "--help"], cwd=tmp_path, capture_output=True, text=True, timeout=20)
    assert done.returncode == 0 and "VENV" in done.stdout and "pipefail" not in done.stdout
    assert "installing" not in done.stdout + done.stderr


def test_the_readme_names_every_flag_of_the_plugin():
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    names = option_names() - RECORDED | {field.name for field in fields(PruneAtInitConfig)} - {"_name"}
    missing = [name for name in sorted(names) if f"`--{name.replace('_', '-')}" not in text]
    assert names and not missing
