"""``sparse-adapter flags`` lists what fairseq's --help leaves out."""

import argparse
import dataclasses

import pytest
from fairseq.tasks import TASK_DATACLASS_REGISTRY
from sparse_adapter.adapters.options import add_adapter_args
from sparse_adapter.cli import main
from sparse_adapter.cli.flags import flags_parser


def test_every_flag_of_the_plugin_is_there():
    listed = {flag for action in flags_parser()._actions for flag in action.option_strings}
    models = argparse.ArgumentParser(add_help=False)
    add_adapter_args(models)
    flags = {flag for action in models._actions for flag in action.option_strings}
    for task, config in TASK_DATACLASS_REGISTRY.items():
        if task.startswith("sparse_adapter_"):
            fairseq_s = [base for base in config.__mro__ if base.__module__.startswith("fairseq.")]
            known = {name for base in fairseq_s for name in base.__dataclass_fields__}
            known |= {"data", "classification_head_name"}  # the latter is the criterion's
            fields = {field.name for field in dataclasses.fields(config)} - known
            flags |= {f"--{name.replace('_', '-')}" for name in fields}
    assert listed == flags
    assert {"--pruner", "--eval-rouge", "--langs", "--max-answer-length"} <= listed


@pytest.mark.parametrize(
    "said",
    [
        "--adapter-bottleneck ADAPTER_BOTTLENECK bottleneck dimension r (default: 64)",
        "relu, gelu, tanh or swish (default: relu)",
        "(default: --max-tokens)",
        "longest answer in tokens (default: 30)",
    ],
)
def test_defaults_are_said(said, capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    main(["flags"])
    assert said in " ".join(capsys.readouterr().out.split())
