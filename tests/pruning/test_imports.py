"""Imports run one way, from the commands down to the modules; modules and pruning need only torch."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest
import sparse_adapter

ROOT = Path(sparse_adapter.__file__).parent
ALLOWED = {
    "errors": set(),
    "files": {"errors"},
    "length_groups": set(),
    "rouge": set(),
    "text": {"errors"},
    "modules": set(),
    "pruning": {"modules", "errors"},
    "checkpoint": {"modules", "files", "errors"},
    "adapters": {"checkpoint", "modules", "errors"},
    "models": {"adapters", "checkpoint", "modules", "errors"},
    "squad": {"length_groups", "errors"},
    "tasks": {
        *("squad", "models", "adapters", "pruning", "checkpoint", "modules"),
        *("length_groups", "rouge", "text", "files", "errors"),
    },
    "convert": {"models", "adapters", "checkpoint", "modules", "files", "errors"},
    "study": {"adapters", "pruning", "files", "errors"},
    "serving": {"text", "models", "adapters", "checkpoint", "modules", "errors"},
    "cli": {
        *("serving", "study", "convert", "tasks", "models", "adapters", "pruning", "checkpoint", "modules"),
        *("text", "files", "errors"),
    },
}
SINGLE_FILES = {"errors", "files", "length_groups", "rouge", "text"}


def imports(file: Path) -> set[str]:
    """Absolute names of all modules that a file imports, wherever in it."""
    found = set()
    package = ["sparse_adapter", *file.relative_to(ROOT).parent.parts]
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            base = package[: len(package) - node.level + 1] if node.level else []
            module = [*base, *([node.module] if node.module else [])]
            found |= {".".join([*module, alias.name]) for alias in node.names}
    return found


def files(package: str) -> list[Path]:
    found = [ROOT / f"{package}.py"] if package in SINGLE_FILES else sorted((ROOT / package).glob("**/*.py"))
    assert found
    return found


def test_every_package_is_covered():
    assert {path.parent.name for path in ROOT.glob("*/__init__.py")} == set(ALLOWED) - SINGLE_FILES
    assert {path.stem for path in ROOT.glob("*.py")} == SINGLE_FILES | {"__init__", "compat"}


@pytest.mark.parametrize("package", ALLOWED)
def test_packages_import_in_one_direction_only(package):
    for file in files(package):
        own = {name.split(".")[1] for name in imports(file) if name.startswith("sparse_adapter.")}
        assert own - {package} <= ALLOWED[package], file


@pytest.mark.parametrize("package", ["modules", "pruning"])
def test_no_file_names_fairseq_or_the_plugin_by_an_absolute_name(package):
    for file in files(package):
        outside = {name.split(".")[0] for name in imports(file)} - {"sparse_adapter"}
        assert outside <= {*sys.stdlib_module_names, "torch", "numpy"}, file


def test_modules_and_pruning_work_where_there_is_no_fairseq():
    program = f"""
import sys, types
for blocked in ("fairseq", "omegaconf", "hydra"):
    sys.modules[blocked] = None  # importing it raises ImportError
package = types.ModuleType("bare")  # the package without its __init__, which registers models and tasks
package.__path__ = [{str(ROOT)!r}]
sys.modules["bare"] = package
import torch
from bare.modules import SparseLinear
from bare.pruning import Objective, prune, sparsity_report
net = SparseLinear(6, 5, torch.nn.init.normal_)
for pruner in ("random", "er", "magnitude", "snip", "grasp"):
    masks = prune(net, pruner, 0.5, objective=Objective([lambda: net(torch.ones(2, 6)).tanh().sum()]))
    assert int(masks["weight"].sum()) == 15
"""
    result = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert result.returncode == 0, result.stderr
