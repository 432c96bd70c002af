"""The other commands of fairseq with the plugin: generate, interactive, validate, hydra-train."""

import json
import re
import subprocess

import pytest
import torch

from ..commands import REPOSITORY, run
from .conftest import BIN, LANGUAGES, succeed

USER_DIR = str(REPOSITORY / "user_dir")


@pytest.fixture(scope="module")
def trained(project, tmp_path_factory):
    save_dir = tmp_path_factory.mktemp("trained")
    succeed(project.train(save_dir, "--pruner", "snip", "--sparsity", "0.5", "--max-update", "20"))
    return save_dir / "checkpoint_last.pt"


def hypotheses(output: str) -> dict[str, str]:
    return dict(re.findall(r"^H-(\d+)\t\S+\t(.*)$", output, re.MULTILINE))


def test_generate_decodes_every_test_example(project, trained):
    output = succeed(project.generate(trained))
    assert sorted(map(int, hypotheses(output))) == list(range(20))


def test_generate_with_a_plain_backbone_equals_stock_fairseq(project):
    with_plugin = succeed(project.generate(project.backbone))
    stock = ["--task", "translation", *LANGUAGES, "--beam", "3", "--max-len-b", "12", "--cpu"]
    stock += ["--required-batch-size-multiple", "1"]  # stock fairseq drops what a multiple of 8 leaves over
    # Stock fairseq cannot read the file on torch >= 2.6, so its globals are allowed here, as the plugin does.
    code = (
        "import argparse, sys, torch; torch.serialization.add_safe_globals([argparse.Namespace]); "
        "from fairseq_cli.generate import cli_main; cli_main()"
    )
    command = [BIN / "python", "-c", code, str(project.data), "--path", str(project.backbone), *stock]
    without = succeed(subprocess.run(command, capture_output=True, text=True))
    assert hypotheses(with_plugin) == hypotheses(without)


def test_interactive_translates_standard_input_as_generate_does(project, trained):
    generated = succeed(project.generate(trained))
    sources = dict(re.findall(r"^S-(\d+)\t(.*)$", generated, re.MULTILINE))
    lines = "\n".join(sources[str(i)] for i in range(3)) + "\n"
    output = succeed(project.generate(trained, command="fairseq-interactive", input=lines))
    assert hypotheses(output) == {str(i): hypotheses(generated)[str(i)] for i in range(3)}


def test_validate_agrees_with_the_validation_in_training(project, trained):
    in_training = torch.load(trained, weights_only=True)["extra_state"]["val_loss"]
    file = trained.with_name("adapter.safetensors")
    succeed(run("sparse-adapter", "extract", trained, file))
    arguments = [str(project.data), "--user-dir", USER_DIR, "--valid-subset", "valid", "--cpu"]
    task = ["--task", "sparse_adapter_translation", *LANGUAGES, "--max-tokens", "256"]
    criterion = ["--criterion", "label_smoothed_cross_entropy"]
    for path in (trained, file):
        output = succeed(run("fairseq-validate", *arguments, *task, *criterion, "--path", str(path)))
        loss = float(re.search(r"valid on 'valid' subset \| loss (\d+\.\d+)", output)[1])
        assert loss == pytest.approx(in_training, abs=0.01)


def test_hydra_train_prunes_and_resumes(project, tmp_path):
    sizes = {"layers": 2, "embed_dim": 32, "ffn_embed_dim": 64, "attention_heads": 4}
    model = [f"+model.{stack}_{key}={value}" for stack in ("encoder", "decoder") for key, value in sizes.items()]
    overrides = [
        # The plugin is imported after hydra has composed the configuration: what it adds needs a "+".
        *(f"common.user_dir={USER_DIR}", "common.cpu=true", "+task._name=sparse_adapter_translation"),
        *(f"+task.data={project.data}", "+task.source_lang=source", "+task.target_lang=target"),
        *("+task.pruner=snip", "+task.sparsity=0.5", "+task.prune_batches=2"),
        *("+model._name=sparse_adapter_bart_base", *model, "+model.adapter_bottleneck=8"),
        *("+model.max_source_positions=64", "+model.max_target_positions=64"),
        *("criterion=label_smoothed_cross_entropy", "optimizer=adam", "optimization.lr=[0.003]"),
        *("lr_scheduler=fixed", "dataset.max_tokens=256", "dataset.num_workers=0", "common.log_format=simple"),
        *(f"checkpoint.save_dir={tmp_path}/run", f"checkpoint.finetune_from_model={project.backbone}"),
        f"hydra.run.dir={tmp_path}/hydra",
    ]
    succeed(run("fairseq-hydra-train", *overrides, "optimization.max_update=4"))
    report = json.loads((tmp_path / "run" / "sparsity.json").read_text())
    assert report["matrix_total"]["density"] == 0.5
    output = succeed(run("fairseq-hydra-train", *overrides, "optimization.max_update=8"))
    log = output + "".join(path.read_text() for path in (tmp_path / "hydra").glob("*.log"))
    assert "not pruned again" in log
    succeed(project.generate(tmp_path / "run" / "checkpoint_last.pt"))
