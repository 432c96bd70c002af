"""examples/glue/evaluate.py and table.py: metrics by hand, and from raw text to scores with a tiny BERT."""

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import sparse_adapter  # noqa: F401
import torch
from sklearn.metrics import matthews_corrcoef

from .glue import EXAMPLE, WORDS, load, write_bert, write_glue


@pytest.fixture(scope="module")
def evaluate():
    return load("evaluate")


def test_metrics_by_hand(evaluate):
    labels, predictions = np.array([1, 1, 1, 0, 0]), np.array([1, 1, 0, 1, 0])
    # tp 2, fn 1, fp 1, tn 1
    expected = {"accuracy": 60.0, "f1": 66.6667, "matthews": round(100 * (2 - 1) / (3 * 3 * 2 * 2) ** 0.5, 4)}
    assert evaluate.score(("accuracy", "f1", "matthews"), predictions, labels) == expected
    scores, found = np.array([0.0, 1, 2, 5]), np.array([0.0, 1, 4, 3])
    x, y = scores - 2, found - 2
    pearson = 100 * (x @ y) / np.sqrt((x @ x) * (y @ y))
    assert evaluate.score(("pearson", "spearman"), found, scores) == {"pearson": round(pearson, 4), "spearman": 80.0}


def test_metrics_of_constant_predictions_are_zero(evaluate):
    names = ("f1", "matthews", "pearson", "spearman")
    assert evaluate.score(names, np.zeros(4), np.array([0, 1, 0, 1])) == dict.fromkeys(names, 0.0)


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    root = tmp_path_factory.mktemp("glue")
    tasks = load("glue_tasks").TASKS
    write_glue(root / "glue", {name: tasks[name] for name in ("mrpc", "mnli", "sts-b")}, train=24, dev=19)
    make_learnable(root / "glue" / "MRPC")
    write_bert(root / "bert")
    state = torch.load(root / "bert" / "model.pt", weights_only=True)
    for key, value in state["model"].items():
        if value.dim() == 2 and ("proj" in key or "fc" in key):
            value *= 8  # or what it puts out would hardly depend on the text
    torch.save(state, root / "bert" / "model.pt")
    return root


def make_learnable(mrpc: Path) -> None:
    """Let the words tell the label of four examples in five."""
    for path in mrpc.glob("*.tsv"):
        head, *lines = path.read_text(encoding="utf-8-sig").splitlines()
        rows = [line.split("\t") for line in lines]
        for i, cells in enumerate(rows):
            cells[3] = cells[4] = " ".join([WORDS[(int(cells[0]) + (i % 5 == 0)) % 2]] * 4)
        path.write_text("\n".join([head, *map("\t".join, rows)]) + "\n", encoding="utf-8-sig")


def run(folder: Path, script: str, *arguments: str, **settings: str) -> subprocess.CompletedProcess:
    paths = {"GLUE_DIR": "glue", "BACKBONE_DIR": "bert", "DATA": f"data-{settings['TASK']}"}
    environment = {**os.environ, **paths, "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": "", **settings}
    command = ["bash", str(EXAMPLE / script), *arguments]
    return subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, timeout=180)


def succeed(done: subprocess.CompletedProcess) -> str:
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]
    return done.stdout + done.stderr


def trained(folder: Path, **settings: str) -> tuple[str, dict, list[list[str]]]:
    """Prepare, train two updates and evaluate: the last validation, the scores and the predictions."""
    settings = {"SAVE_DIR": f"run-{settings['TASK']}", "MAX_UPDATE": "2", "BATCH_SIZE": "8", **settings}
    succeed(run(folder, "prepare.sh", **settings))
    out = succeed(run(folder, "train.sh", "--num-workers", "0", "--log-interval", "1", **settings))
    succeed(run(folder, "evaluate.sh", **settings))
    valid = re.findall(r"valid on 'valid' subset.*", out)[-1]
    save_dir = folder / settings["SAVE_DIR"]
    rows = [line.split("\t") for line in (save_dir / "predictions.tsv").read_text().splitlines()]
    return valid, json.loads((save_dir / "scores.json").read_text()), rows


def test_from_text_to_scores(folder):
    """What evaluation says is what validation said, and the predictions are in the order of the dev file."""
    valid, scores, rows = trained(folder, TASK="mrpc", BOTTLENECK="8", LR="1e-2", MAX_UPDATE="40")
    predictions = [prediction for _, prediction, _ in rows[1:]]
    assert predictions != predictions[::-1] and 0 < scores["f1"] < 100  # or what follows would say nothing
    assert (scores["task"], scores["metric"], scores["n"]) == ("mrpc", "accuracy", 19)
    assert scores["value"] == scores["accuracy"]
    found, labels = ([int(row[column]) for row in rows[1:]] for column in (1, 2))
    for name, value in (
        ("acc", scores["accuracy"]),
        ("f1", scores["f1"]),
        ("mcc", 100 * matthews_corrcoef(labels, found)),
    ):
        assert float(re.search(rf"\| {name} (\S+)", valid)[1]) == pytest.approx(value, abs=0.01)
    assert rows[0] == ["index", "prediction", "label"]
    assert [(index, label) for index, _, label in rows[1:]] == [(str(i), str(i % 2)) for i in range(19)]
    assert scores["accuracy"] == round(100 * sum(p == t for _, p, t in rows[1:]) / 19, 4)

    # Without labels, in the layout of GLUE's test.tsv, they are predicted alike.
    lines = (folder / "glue" / "MRPC" / "dev.tsv").read_text(encoding="utf-8-sig").splitlines()
    cells = [line.split("\t")[1:] for line in lines]
    table = [["index", *cells[0]], *([str(i), *row] for i, row in enumerate(cells[1:]))]
    (folder / "test.tsv").write_text("\n".join(map("\t".join, table)) + "\n")
    succeed(run(folder, "predict.sh", TASK="mrpc", SAVE_DIR="run-mrpc", INPUT="test.tsv"))
    predicted = (folder / "run-mrpc" / "predictions-test.tsv").read_text().splitlines()
    assert [line.split("\t") for line in predicted] == [row[:2] for row in rows]

    mistaken = run(folder, "predict.sh", TASK="mrpc", SAVE_DIR="run-mrpc", INPUT="absent.tsv", OUTPUT="other.tsv")
    assert mistaken.returncode == 1 and not (folder / "other.tsv").exists()
    assert mistaken.stderr.splitlines()[-1] == f"error: INPUT {folder}/absent.tsv: there is no such file"
    shutil.copytree(folder / "data-mrpc", folder / "data-other")
    for dictionary in (folder / "data-other").glob("input?/dict.txt"):
        dictionary.write_text(dictionary.read_text() + "another 1\n")
    checkpoint = {"CHECKPOINT": "run-mrpc/checkpoint_last.pt", "SAVE_DIR": "other"}
    mistaken = run(folder, "evaluate.sh", TASK="mrpc", DATA="data-other", **checkpoint)
    assert "does not fit DATA" in mistaken.stderr.splitlines()[-1] and not (folder / "other").exists()
    state = torch.load(folder / "run-mrpc" / "checkpoint_last.pt", weights_only=True)
    next(value for name, value in state["model"].items() if "out_proj.weight" in name)[0, 0] = float("nan")
    torch.save(state, folder / "diverged.pt")
    mistaken = run(folder, "evaluate.sh", TASK="mrpc", CHECKPOINT="diverged.pt", SAVE_DIR="other")
    assert "gives NaN" in mistaken.stderr.splitlines()[-1] and not (folder / "other").exists()
    mistaken = run(folder, "evaluate.sh", TASK="mrpc", CHECKPOINT="bert/model.pt", SAVE_DIR="other")
    assert mistaken.returncode == 1 and not (folder / "other").exists()
    assert mistaken.stderr.splitlines()[-1].startswith("error: ")


@pytest.mark.slow
def test_adapter_files_predict_the_same(folder):
    _, scores, rows = trained(folder, TASK="mrpc", BOTTLENECK="8", SAVE_DIR="extracted")
    command = Path(sys.executable).with_name("sparse-adapter")
    checkpoint, file = folder / "extracted" / "checkpoint_last.pt", folder / "mrpc.safetensors"
    subprocess.run([command, "extract", checkpoint, file], check=True, capture_output=True)
    succeed(run(folder, "evaluate.sh", TASK="mrpc", CHECKPOINT="mrpc.safetensors", SAVE_DIR="from-file"))
    assert json.loads((folder / "from-file" / "scores.json").read_text()) == scores


def test_cola_without_labels_has_a_header(tmp_path):
    glue_tasks = load("glue_tasks")
    (tmp_path / "test.tsv").write_text('index\tsentence\n0\tbalo "rin\n1\ttesk\n')
    examples = glue_tasks.read_unlabelled(glue_tasks.TASKS["cola"], tmp_path / "test.tsv")
    assert [example.texts for example in examples] == [('balo "rin',), ("tesk",)]


@pytest.mark.slow
def test_regression_and_two_dev_sets(folder):
    valid, scores, rows = trained(folder, TASK="sts-b", ADAPTER="none")
    assert float(re.search(r"\| pearson (\S+)", valid)[1]) == pytest.approx(scores["pearson"], abs=0.05)
    assert scores["metric"] == "pearson" and [row[2] for row in rows[1:4]] == ["0.5", "2.25", "5"]
    valid, scores, rows = trained(folder, TASK="mnli", BOTTLENECK="8", PRUNER="none")
    assert {"accuracy", "accuracy_mismatched", "n_mismatched"} <= scores.keys()
    assert (folder / "run-mnli" / "predictions-mismatched.tsv").exists()
