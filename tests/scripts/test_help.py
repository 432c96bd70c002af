"""What scripts and READMEs say of their settings."""

import os
import re
import shlex
import shutil
import subprocess
from dataclasses import fields
from functools import partial
from pathlib import Path

import pytest
from fairseq import options
from sparse_adapter.adapters.options import option_names
from sparse_adapter.tasks.eval_rouge import EvalRougeConfig
from sparse_adapter.tasks.options import PruneAtInitConfig

ROOT = Path(__file__).parents[2]
# In checkpoints, no flags.
RECORDED = {"backbone_fingerprint", "backbone_vocabulary", "backbone_rounded", "fusion_sources"}


@pytest.mark.parametrize("script", ["scripts/quickstart.sh", "scripts/test.sh", "examples/pretraining/pretrain.sh"])
def test_help_is_the_header_and_starts_nothing(script, tmp_path):
    done = subprocess.run(["bash", ROOT / script, "--help"], cwd=tmp_path, capture_output=True, text=True, timeout=20)
    assert done.returncode == 0 and "VENV" in done.stdout and "pipefail" not in done.stdout
    assert "installing" not in done.stdout + done.stderr


def test_the_readme_names_every_flag_of_the_plugin():
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    of_tasks = {field.name for config in (PruneAtInitConfig, EvalRougeConfig) for field in fields(config)} - {"_name"}
    names = option_names() - RECORDED | of_tasks
    missing = [name for name in sorted(names) if f"`--{name.replace('_', '-')}" not in text]
    assert names and not missing


def test_the_readme_has_a_whole_command():
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    train, generate = (
        shlex.split(
            re.search(rf"^{command} data-bin.*?[^\\]\n", text, re.MULTILINE | re.DOTALL)[0].replace("\\\n", "")
        )[1:]
        for command in ("fairseq-train", "fairseq-generate")
    )
    for words in (train, generate):
        place = words.index("--user-dir")
        assert words[place : place + 2] == ["--user-dir", "user_dir"]
        del words[place : place + 2]  # it is imported already
    args = options.parse_args_and_arch(options.get_training_parser(), train)
    assert (args.arch, args.pruner, args.sparsity) == ("sparse_adapter_bart_mini", "snip", 0.4)
    assert options.parse_args_and_arch(options.get_generation_parser(), generate).path.startswith(args.save_dir)


@pytest.mark.parametrize("example", ["glue", "squad", "summarization", "translation"])
def test_settings_of_a_readme_are_those_of_its_scripts(example):
    folder = ROOT / "examples" / example
    headers = [(folder / f"{name}.sh").read_text().split("set -euo")[0] for name in ("prepare", "train", "evaluate")]
    entries = re.split(r"^#   (?=[A-Z])", "\n".join(headers), flags=re.MULTILINE)[1:]
    compared = 0
    for first, last in re.findall(
        r"^\| (`[A-Z_`, ]+`) \|.*\| (.*) \|$", (folder / "README.md").read_text(), re.MULTILINE
    ):
        names = re.findall(r"`([A-Z_]+)`", first)
        defaults = last.replace("`", "").split(", ")
        for i, name in enumerate(names):
            found = [entry for entry in entries if name in re.match(r"[A-Z_, ]+", entry)[0].replace(",", "").split()]
            assert found, f"{name} is in no script"
            own = re.search(r"\(default: ([^\s;,)]+)", found[0])
            if own and len(names) == len(defaults) and found[0].startswith(f"{name} ") and name != "SAVE_DIR":
                assert defaults[i].split(" ")[0].rstrip(":,") == own[1], name
                compared += 1
    assert compared >= 5


def test_an_environment_of_another_tool_is_not_replaced(tmp_path):
    """uv, for one, puts no pip into its environments."""
    packages = tmp_path / ".venv" / "lib" / "python3.11" / "site-packages"
    packages.mkdir(parents=True)
    (tmp_path / ".venv" / "pyvenv.cfg").touch()
    (packages / "torch").mkdir()
    line = ["bash", "-euo", "pipefail", "-c", f"PYTHON=false; source {ROOT}/scripts/install.sh"]
    environment = {name: value for name, value in os.environ.items() if name != "VENV"}
    run = partial(subprocess.run, line, cwd=tmp_path, env=environment, capture_output=True, text=True)
    assert run().stderr.startswith("error: VENV .venv has packages and no pip") and (packages / "torch").is_dir()
    (packages / "torch").rename(packages / "pip-24.0.dist-info")  # interrupted while it was made
    assert "has packages" not in run().stderr


def test_cdpath_neither_moves_scripts_nor_speaks_among_their_lines(tmp_path):
    (tmp_path / "examples" / "glue").mkdir(parents=True)
    line = f"cd {ROOT} && CDPATH={tmp_path}:. bash -c 'PATHS=; source examples/glue/../common.sh; pwd'"
    done = subprocess.run(["bash", "-c", line], capture_output=True, text=True)
    assert done.stdout == f"{ROOT}\n" and not done.stderr


def test_another_version_of_the_plugin_is_refused(tmp_path):
    """fairseq-train would take the one, and the commands after it the other."""
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin" / "python").write_text(f"#!/bin/sh\necho {tmp_path}/installed\n")
    (tmp_path / "bin" / "python").chmod(0o755)
    line = ["bash", "-c", f"PATHS=; source {ROOT}/examples/common.sh; echo accepted"]
    run = partial(subprocess.run, line, env=os.environ | {"VENV": str(tmp_path)}, capture_output=True, text=True)
    (tmp_path / "installed").symlink_to(ROOT / "user_dir")
    assert run().stdout == "accepted\n"
    (tmp_path / "installed").unlink()
    shutil.copytree(ROOT / "user_dir", tmp_path / "installed", ignore=shutil.ignore_patterns("__pycache__"))
    assert run().stdout == "accepted\n"
    (tmp_path / "installed" / "files.py").unlink()
    assert run().stderr == (
        f"error: {tmp_path}/installed is another version of the plugin than {ROOT}/user_dir: pip install -e {ROOT}\n"
    )


def test_the_installed_environment_goes_before_an_active_one(tmp_path):
    for name in (".venv", "active"):
        (tmp_path / name / "bin").mkdir(parents=True)
        (tmp_path / name / "bin" / "python").write_text("#!/bin/sh\n")  # installs nothing
        (tmp_path / name / "bin" / "python").chmod(0o755)
    (tmp_path / "example.sh").write_text(f"source {ROOT}/examples/common.sh; command -v python")
    line = f"source {ROOT}/scripts/install.sh; bash -eu example.sh"
    environment = os.environ | {"VIRTUAL_ENV": str(tmp_path / "active"), "PATHS": ""}
    environment.pop("VENV", None)
    done = subprocess.run(["bash", "-euc", line], cwd=tmp_path, env=environment, capture_output=True, text=True)
    assert done.returncode == 0 and done.stdout.splitlines()[-1] == f"{tmp_path}/.venv/bin/python"
