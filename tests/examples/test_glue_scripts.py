"""examples/glue: what train.sh asks of fairseq, by the data and the backbone; mistakes; help."""

import os
import re
import shutil
import subprocess
import sys
from argparse import Namespace
from pathlib import Path

import numpy as np
import pytest
import sparse_adapter  # noqa: F401
import torch

from .glue import EXAMPLE, load, write_bert, write_glue, write_roberta


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """Backbones, and RTE, STS-B and MNLI prepared for each: nothing here is changed."""
    root = tmp_path_factory.mktemp("glue")
    tasks = load("glue_tasks").TASKS
    write_glue(root / "glue", {name: tasks[name] for name in ("rte", "sts-b", "mnli")})
    write_bert(root / "bert")
    write_roberta(root / "roberta")
    prepare = load("prepare")
    for backbone in ("bert", "roberta"):
        for task in ("rte", "sts-b", "mnli"):
            where = ["--glue-dir", str(root / "glue"), "--backbone-dir", str(root / backbone)]
            prepare.main(["--task", task, *where, "--data", str(root / f"{task}-{backbone}")])
    return root


def flags(folder: Path, task: str, backbone: str, capsys) -> list[str]:
    load("flags").main(
        ["--data", str(folder / f"{task}-{backbone}"), "--backbone", str(folder / backbone / "model.pt")]
    )
    return capsys.readouterr().out.splitlines()


def value(words: list[str], flag: str) -> str:
    return words[words.index(flag) + 1]


def test_flags_are_those_of_backbone_and_data(folder, capsys):
    bert, roberta = (flags(folder, "rte", name, capsys) for name in ("bert", "roberta"))
    sizes = {"--encoder-layers": "2", "--encoder-embed-dim": "32", "--encoder-ffn-embed-dim": "64"}
    sizes |= {"--encoder-attention-heads": "4", "--max-positions": "128", "--num-classes": "2", "--init-token": "0"}
    for words in (bert, roberta):
        assert {flag: value(words, flag) for flag in sizes} == sizes
        assert "--regression-target" not in words
    assert value(bert, "--arch") == "sparse_adapter_bert_base" and "--separator-token" not in bert
    assert value(roberta, "--arch") == "sparse_adapter_roberta_base" and value(roberta, "--separator-token") == "2"
    assert value(bert, "--activation-fn") == "gelu"  # as the file says, which no shape would
    scores = flags(folder, "sts-b", "bert", capsys)
    assert "--regression-target" in scores and value(scores, "--num-classes") == "1"
    mnli = flags(folder, "mnli", "bert", capsys)
    assert (value(mnli, "--num-classes"), value(mnli, "--valid-subset")) == ("3", "valid,valid1")


@pytest.mark.parametrize("devices, batch", [("1", "16"), ("4", "4"), ("5", "3"), ("32", "1")])
def test_devices_share_a_batch(folder, capsys, monkeypatch, devices, batch):
    monkeypatch.setenv("WORLD_SIZE", devices)
    words = flags(folder, "rte", "bert", capsys)
    assert value(words, "--batch-size") == batch
    # Over all of them, as many examples score the weights, or a few more.
    assert 256 <= int(value(words, "--prune-batches")) * int(batch) <= 256 + int(batch)
    monkeypatch.setenv("BATCH_SIZE", "8")
    assert not {"--batch-size", "--prune-batches"} & set(flags(folder, "rte", "bert", capsys))


def test_flags_of_data_that_do_not_belong_to_the_backbone(folder, tmp_path):
    main = load("flags").main
    with pytest.raises(SystemExit, match="was prepared with another dictionary"):
        main(["--data", str(folder / "rte-bert"), "--backbone", str(folder / "roberta" / "model.pt")])
    state = torch.load(folder / "bert" / "model.pt", weights_only=True)
    del state["args"].encoder_layers
    torch.save(state, tmp_path / "model.pt")
    with pytest.raises(SystemExit, match="is neither RoBERTa nor BERT: encoder_layers is missing"):
        main(["--data", str(folder / "rte-bert"), "--backbone", str(tmp_path / "model.pt")])


@pytest.fixture
def run(folder, tmp_path):
    """Run a script with stubs for what it calls; ``FLAGS`` stands for what flags.py says."""
    bin = tmp_path / "venv" / "bin"
    bin.mkdir(parents=True)
    stubs = {
        "python": 'case "$*" in *flags.py*) printf "%s\\n" $FLAGS;; *count_updates*) echo 100;; '
        f'*evaluate.py*) printf "%s\\n" "$@" > "$CALL";; *) exec "{sys.executable}" "$@";; esac',
        "fairseq-train": 'printf "%s\\n" "$@" > "$CALL"',
    }
    for name, line in stubs.items():
        (bin / name).write_text(f"#!/bin/sh\n{line}\n")
        (bin / name).chmod(0o755)
    shutil.copytree(folder / "rte-bert", tmp_path / "rte-bert")
    (tmp_path / "model.pt").touch()

    def run(script: str, *arguments: str, **settings: str) -> subprocess.CompletedProcess:
        known = {k: v for k, v in os.environ.items() if k in ("PATH", "HOME", "LANG")}
        paths = {"VENV": str(tmp_path / "venv"), "DATA": "rte-bert", "CALL": str(tmp_path / "call")}
        defaults = {"BACKBONE": "model.pt", "FLAGS": "--arch small --encoder-embed-dim 384 --cpu"}
        command = ["bash", str(EXAMPLE / script), *arguments]
        environment = {**known, **paths, **defaults, **settings}
        return subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=60)

    return run


def call(tmp_path: Path) -> dict[str, str]:
    """The flags of the last fairseq command; of a repeated one the last, as argparse has it."""
    words = (tmp_path / "call").read_text().splitlines()
    following = [*words[1:], "--"]
    pairs = zip(words, following, strict=True)
    return {word: "" if value.startswith("--") else value for word, value in pairs if word[:2] == "--"}


def test_defaults(run, tmp_path):
    done = run("train.sh")
    assert done.returncode == 0, done.stderr
    expected = {
        "--task": "sparse_adapter_sentence_prediction",
        "--criterion": "sentence_prediction",
        "--arch": "small",
        "--cpu": "",
        "--adapter": "houlsby",
        "--adapter-bottleneck": "64",
        "--adapter-only-checkpoints": "",
        "--pruner": "snip",
        "--sparsity": "0.4",
        "--finetune-from-model": str(tmp_path / "model.pt"),
        "--adam-betas": "(0.9, 0.98)",
        "--weight-decay": "0.1",
        "--max-epoch": "10",
        "--total-num-update": "100",
        "--warmup-updates": "6",
        "--lr": "5e-4",
        "--adapter-activation": "swish",
        "--adapter-layer-norm": "none",
        "--save-dir": "checkpoints/glue/rte-bert/houlsby64-snip0.4-seed1",
    }
    found = call(tmp_path)
    assert {flag: found.get(flag) for flag in expected} == expected


@pytest.mark.parametrize(
    "settings, name, lr, absent",
    [
        ({"PRUNER": ""}, "houlsby64-dense-seed1", "5e-4", {"--pruner", "--sparsity"}),
        ({"ADAPTER": "none"}, "full-seed1", "1e-4", {"--pruner", "--adapter-bottleneck", "--adapter-only-checkpoints"}),
        ({"LARGE_SPARSE": "4", "SEED": "3"}, "houlsby64-snipx4-seed3", "5e-4", {"--sparsity"}),
        ({"ADAPTER": "lora", "WHOLE": "1"}, "lora8-snip0.4-seed1", "5e-4", {"--adapter-only-checkpoints"}),
        ({"FLAGS": "--encoder-embed-dim 768"}, "houlsby64-snip0.4-seed1", "1e-4", {"--cpu"}),
        ({"FLAGS": "--encoder-embed-dim 768", "ADAPTER": "none"}, "full-seed1", "2e-5", {"--sparsity"}),
        ({"MAX_UPDATE": "7", "LR": "3"}, "houlsby64-snip0.4-seed1", "3", {"--max-epoch"}),
    ],
)
def test_settings_choose_flags_and_folder(run, tmp_path, settings, name, lr, absent):
    done = run("train.sh", "--label-smoothing", "0", **settings)
    assert done.returncode == 0, done.stderr
    found = call(tmp_path)
    assert found["--save-dir"] == f"checkpoints/glue/rte-bert/{name}"
    assert found["--lr"] == lr and absent.isdisjoint(found) and found["--label-smoothing"] == "0"


def test_small_models_have_another_form_of_bottleneck(run, tmp_path):
    form = {"--adapter-activation", "--adapter-layer-norm"}
    assert run("train.sh", "--adapter-activation", "relu").returncode == 0
    assert call(tmp_path)["--adapter-activation"] == "relu"
    others = [{"ADAPTER": family} for family in ("none", "pfeiffer", "mam", "lora")]  # AdapterHub's Pfeiffer has ReLU
    for other in ({"FLAGS": "--encoder-embed-dim 768"}, *others):
        assert run("train.sh", **other).returncode == 0
        assert form.isdisjoint(call(tmp_path))


def test_the_task_is_that_of_the_data(run, tmp_path):
    """It settles the learning rate."""
    done = run("train.sh", TASK="cola")
    assert done.returncode == 1 and not (tmp_path / "call").exists()
    data = tmp_path / "rte-bert"
    assert f"TASK cola is not the task of DATA {data}, which is rte: leave one of them out" in done.stderr
    record = data / "prepare.json"
    record.write_text(record.read_text().replace('"task": "rte"', '"task": "cola"'))
    for settings in ({"TASK": "cola"}, {}):
        assert run("train.sh", **settings).returncode == 0
        assert call(tmp_path)["--lr"] == "1e-3" and "--adapter-activation" in call(tmp_path)
        assert run("train.sh", ADAPTER="none", **settings).returncode == 0 and call(tmp_path)["--lr"] == "1e-4"


def test_evaluate_takes_the_last_checkpoint(run, tmp_path):
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "checkpoint_last.pt").touch()
    done = run("evaluate.sh", SAVE_DIR="run", BACKBONE="elsewhere.pt")
    assert done.returncode == 0, done.stderr
    found = call(tmp_path)
    assert found["--checkpoint"] == str(tmp_path / "run" / "checkpoint_last.pt")
    assert found["--backbone"] == str(tmp_path / "elsewhere.pt")


@pytest.mark.parametrize(
    "script, settings, expected",
    [
        ("train.sh", {"DATA": "absent"}, "holds no prepared data"),
        ("evaluate.sh", {"SAVE_DIR": "absent"}, "absent/checkpoint_last.pt: there is no such file"),
        ("prepare.sh", {}, "set GLUE_DIR"),
        ("train.sh", {"PRUNER": "none", "LARGE_SPARSE": "4"}, "LARGE_SPARSE=4 needs an ADAPTER and a PRUNER"),
        ("train.sh", {"ADAPTER": "none", "LARGE_SPARSE": "4"}, "LARGE_SPARSE=4 needs an ADAPTER and a PRUNER"),
    ],
)
def test_mistakes_are_one_line(run, tmp_path, script, settings, expected):
    done = run(script, **settings)
    assert done.returncode == 1 and expected in done.stderr
    assert done.stderr.startswith("error: ") and done.stderr.count("\n") == 1
    assert not (tmp_path / "call").exists() and not (tmp_path / "absent").exists()


def test_data_of_another_example(run, tmp_path):
    (tmp_path / "rte-bert" / "prepare.json").write_text('{"settings": {"doc_stride": 128}}')
    for script in ("train.sh", "evaluate.sh", "predict.sh"):
        done = run(script)
        assert done.returncode == 1 and "rte-bert is not of examples/glue" in done.stderr, script


@pytest.mark.parametrize("script", ["prepare.sh", "train.sh", "evaluate.sh", "predict.sh"])
def test_help_names_every_setting(run, script):
    shown = run(script, "--help").stdout
    text = (EXAMPLE / script).read_text()
    names = set(re.findall(r"\$\{([A-Z_]+)[:}#-]", text)) - {"BASH_SOURCE"}
    assert names and all(name in shown for name in names), names
    assert "set -euo" not in shown


def test_scores_that_are_submitted_are_in_their_range(folder, tmp_path, monkeypatch):
    predict = load("predict")
    monkeypatch.setattr(predict, "load", lambda *args: (None, None))
    monkeypatch.setattr(predict, "predict", lambda *args: (np.array([[5.21], [-0.13], [3.0]]), None))
    (tmp_path / "test.tsv").write_text("index\tsentence1\tsentence2\n" + "".join(f"{i}\tbalo\trin\n" for i in range(3)))
    args = Namespace(data=folder / "sts-b-bert", input=tmp_path / "test.tsv", output=tmp_path / "STS-B.tsv")
    vars(args).update(backbone_dir=folder / "bert", checkpoint=None, backbone=None, cpu=True, batch_size=8)
    assert predict.predictions(args) == ["5", "0", "3"]
