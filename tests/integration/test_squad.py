"""SQuAD from the official JSON to scores, with the scripts of examples/squad and a tiny BERT of random weights."""

import json
import os
import re
import subprocess
from argparse import Namespace
from pathlib import Path

import pytest
import torch
from fairseq.models import ARCH_CONFIG_REGISTRY, ARCH_MODEL_REGISTRY
from sparse_adapter.modules import is_adapter_key
from sparse_adapter.squad import score
from sparse_adapter.tasks.squad import SparseAdapterSquadTask

from ..commands import REPOSITORY, run
from ..examples.squad_data import make_backbone_dir, make_squad, write_squad
from .conftest import BIN, error_line, succeed
from .test_two_processes import distributed

SIZES = {"encoder_layers": 2, "encoder_embed_dim": 32, "encoder_ffn_embed_dim": 64, "encoder_attention_heads": 4}
SETTINGS = {
    **{"SQUAD_TRAIN": "train.json", "SQUAD_DEV": "dev.json.gz", "BACKBONE_DIR": "backbone", "DATA": "data"},
    **{"SAVE_DIR": "run", "MAX_LENGTH": "48", "MAX_QUESTION": "16", "DOC_STRIDE": "8", "BOTTLENECK": "8"},
    **{"MAX_UPDATE": "2", "MAX_TOKENS": "256", "PRUNE_BATCHES": "2", "OMP_NUM_THREADS": "1"},
}


def write_backbone(folder: Path) -> None:
    """A published-looking file: a plain state dict and the arguments of its model."""
    make_backbone_dir(folder)
    dictionary = SparseAdapterSquadTask.load_dictionary(str(folder / "dict.txt"))
    args = Namespace(arch="sparse_adapter_bert_base", adapter="none", max_positions=64, **SIZES)
    ARCH_CONFIG_REGISTRY[args.arch](args)
    torch.manual_seed(0)
    task = Namespace(source_dictionary=dictionary)
    state = ARCH_MODEL_REGISTRY[args.arch].build_model(args, task).state_dict()
    assert not any(is_adapter_key(key) for key in state)
    args.task, args.criterion = "masked_lm", "masked_lm"
    history = {"optimizer_name": "adam", "lr_scheduler_state": {"best": None}, "num_updates": 0, "criterion_name": "x"}
    extra = {"train_iterator": {"epoch": 1}}
    torch.save(
        {"model": state, "args": args, "extra_state": extra, "optimizer_history": [history]}, folder / "model.pt"
    )


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("squad")
    write_backbone(folder / "backbone")
    write_squad(folder / "train.json", make_squad())
    write_squad(folder / "dev.json.gz", make_squad("dev"))
    return folder


def script(folder: Path, name: str, *arguments: str, **settings: str) -> subprocess.CompletedProcess:
    known = {k: v for k, v in os.environ.items() if k in ("PATH", "HOME", "LANG", "TMPDIR")}
    command = ["bash", str(REPOSITORY / "examples" / "squad" / f"{name}.sh"), *arguments]
    environment = {**known, "VENV": str(BIN.parent), **SETTINGS, **settings}
    return subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True)


def logged(output: str, name: str) -> float:
    return float(re.findall(rf"\| valid \|.*\b{name} ([\d.]+)", output)[-1])


def test_prepare_train_evaluate(folder):
    succeed(script(folder, "prepare"))
    output = succeed(script(folder, "train"))
    report = json.loads((folder / "run" / "sparsity.json").read_text())
    assert report["pruner"] == "snip"
    assert report["matrix_total"]["kept"] == round(0.6 * report["matrix_total"]["total"])

    succeed(script(folder, "evaluate"))
    scores = json.loads((folder / "run" / "scores.json").read_text())
    predictions = json.loads((folder / "run" / "predictions.json").read_text())
    nbest = json.loads((folder / "run" / "nbest_predictions.json").read_text())
    asked = {q["id"]: (p["context"], q) for a in make_squad("dev")["data"] for p in a["paragraphs"] for q in p["qas"]}
    assert list(predictions) == list(asked) and scores["n"] == len(asked)
    pairs = []
    for id, text in predictions.items():
        context, qa = asked[id]
        assert text and text in context and nbest[id][0]["text"] == text and len(nbest[id]) == 20
        assert all(context[answer["start"] : answer["end"]] == answer["text"] for answer in nbest[id])
        pairs.append(score(text, [answer["text"] for answer in qa["answers"]]))
    exact, f1 = (100 * sum(column) / len(pairs) for column in zip(*pairs, strict=True))
    assert (scores["exact_match"], scores["f1"]) == (pytest.approx(exact, abs=1e-3), pytest.approx(f1, abs=1e-3))
    # Validation said the same.
    assert logged(output, "exact_match") == pytest.approx(exact, abs=0.01)
    assert logged(output, "f1") == pytest.approx(f1, abs=0.01)

    # Questions without answers are answered alike.
    questions = make_squad("dev")
    for qa in (qa for article in questions["data"] for paragraph in article["paragraphs"] for qa in paragraph["qas"]):
        del qa["answers"]
    write_squad(folder / "questions.json.gz", questions)
    succeed(script(folder, "predict", INPUT="questions.json.gz"))
    assert json.loads((folder / "run" / "predictions-questions.json").read_text()) == predictions
    assert json.loads((folder / "run" / "nbest_predictions-questions.json").read_text()) == nbest

    write_squad(folder / "nbest_a.json", questions)
    done = script(folder, "predict", INPUT="nbest_a.json", OUTPUT="a.json")
    assert done.returncode == 1 and "nbest_a.json would replace what is read" in done.stderr
    assert json.loads((folder / "nbest_a.json").read_text()) == questions

    # An adapter file, which knows neither data nor the settings of fairseq-train, answers the same.
    file = folder / "squad.safetensors"
    succeed(run("sparse-adapter", "extract", folder / "run" / "checkpoint_last.pt", file))
    succeed(script(folder, "evaluate", CHECKPOINT=str(file), SAVE_DIR="again"))
    assert json.loads((folder / "again" / "predictions.json").read_text()) == predictions

    whole = torch.load(folder / "run" / "checkpoint_last.pt", weights_only=True)
    state = whole["model"]
    assert state["classification_heads.span.out_proj.weight"].shape == (2, 32)
    assert not any(key.startswith("encoder.") and not is_adapter_key(key) for key in state)  # what is trained alone

    state["classification_heads.span.out_proj.weight"][0, 0] = float("nan")
    torch.save(whole, folder / "diverged.pt")
    done = script(folder, "evaluate", CHECKPOINT="diverged.pt", SAVE_DIR="nothing")
    assert done.returncode == 1 and "diverged.pt gives NaN" in done.stderr.splitlines()[-1]
    assert not (folder / "nothing").exists()


def test_models_with_a_decoder_are_refused(folder, tmp_path):
    if not (folder / "data").exists():
        succeed(script(folder, "prepare"))
    arguments = [
        *(str(folder / "data"), "--user-dir", "user_dir", "--task", "sparse_adapter_squad", "--criterion"),
        *("sentence_prediction", "--arch", "sparse_adapter_bart_mini", "--optimizer", "adam", "--cpu"),
        *("--max-tokens", "128", "--random-backbone", "--save-dir", str(tmp_path)),
    ]
    assert "SQuAD needs an encoder" in error_line(run("fairseq-train", *arguments))


def test_two_processes_report_what_one_does(folder):
    if not (folder / "data").exists():
        succeed(script(folder, "prepare"))
    sizes = [x for name, size in SIZES.items() for x in (f"--{name.replace('_', '-')}", str(size))]
    arguments = [
        *(str(folder / "data"), "--user-dir", "user_dir", "--task", "sparse_adapter_squad", "--max-positions", "64"),
        *("--arch", "sparse_adapter_bert_base", *sizes, "--finetune-from-model", str(folder / "backbone" / "model.pt")),
        *("--adapter-bottleneck", "8", "--criterion", "sentence_prediction", "--classification-head-name", "span"),
        # Nothing changes in training, so that all are asked the same.
        *("--optimizer", "sgd", "--lr", "0", "--max-update", "1", "--cpu", "--num-workers", "0", "--no-save"),
        *("--max-tokens", "128", "--log-format", "simple", "--ddp-backend", "legacy_ddp"),
    ]
    two = succeed(distributed(str(BIN / "fairseq-train"), *arguments, "--save-dir", str(folder / "run2")))
    one = succeed(run("fairseq-train", *arguments, "--save-dir", str(folder / "run1")))
    values = [[logged(output, name) for name in ("exact_match", "f1", "loss")] for output in (two, one)]
    assert values[0] == pytest.approx(values[1], abs=0.01)
    assert values[0][1] > 0


@pytest.mark.parametrize(
    "name, settings, expected",
    [
        ("prepare", {"SQUAD_DEV": ""}, "set SQUAD_DEV to the file of SQuAD v1.1"),
        ("train", {"DATA": "absent"}, "holds no prepared data; make it with SQUAD_TRAIN="),
        ("evaluate", {"CHECKPOINT": "absent.pt", "DATA": "data"}, "absent.pt: there is no such file"),
        ("predict", {"CHECKPOINT": "train.json", "DATA": "data"}, "set INPUT to a JSON file"),
    ],
)
def test_mistakes_end_in_one_line(folder, name, settings, expected):
    (folder / "data").mkdir(exist_ok=True)
    record = folder / "data" / "prepare.json"
    absent = not record.exists()
    record.touch()
    try:
        assert expected in error_line(script(folder, name, **settings))
    finally:
        if absent:
            record.unlink()
            record.parent.rmdir()


@pytest.mark.parametrize("name", ["prepare", "train", "evaluate", "predict"])
def test_help_lists_the_settings(folder, name):
    done = script(folder, name, "--help")
    text = (REPOSITORY / "examples" / "squad" / f"{name}.sh").read_text()
    names = set(re.findall(r"\$\{([A-Z][A-Z_]+)", text)) - {"BASH_SOURCE", "BASH_REMATCH"}
    assert done.returncode == 0 and names and all(setting in done.stdout for setting in names)
    assert "set -euo" not in done.stdout
