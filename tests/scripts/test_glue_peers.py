"""Scripts that train AdapterHub's adapters on GLUE, on a tiny BERT. Times are not judged."""

import importlib
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from ..examples.glue import SIZES, load, write_bert, write_glue

REPOSITORY = Path(__file__).parents[2]
pytest.importorskip("adapters", reason="needs AdapterHub's adapters, see setup.py")


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """With prepared ``data``, the backbone in ``bert``, and one of its sizes of Hugging Face in ``huggingface``."""
    from transformers import BertConfig, BertModel

    folder = tmp_path_factory.mktemp("glue")
    data, theirs = folder / "data", folder / "huggingface"
    write_glue(folder / "glue", {"rte": load("glue_tasks").TASKS["rte"]}, train=20, dev=2)
    write_bert(folder / "bert")
    settings = {"GLUE_DIR": folder / "glue", "BACKBONE_DIR": folder / "bert", "DATA": data, "TASK": "rte"}
    environment = os.environ | {"VENV": sys.prefix} | {name: str(value) for name, value in settings.items()}
    subprocess.run(["bash", REPOSITORY / "examples/glue/prepare.sh"], env=environment, check=True, capture_output=True)
    vocabulary = (folder / "bert" / "vocab.txt").read_text()
    sizes = {"hidden_size": SIZES["encoder_embed_dim"], "num_hidden_layers": 2, "num_attention_heads": 4}
    BertModel(BertConfig(vocab_size=vocabulary.count("\n"), intermediate_size=64, **sizes)).save_pretrained(theirs)
    (theirs / "vocab.txt").write_text(vocabulary)
    return folder


def run(script: str, *arguments: object) -> str:
    command = [sys.executable, f"scripts/{script}.py", *map(str, arguments)]
    done = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-3000:]
    return done.stdout


def test_both_train_on_the_same_examples(folder, tmp_path):
    theirs = ("--data", folder / "data", "--huggingface", folder / "huggingface", "--bottleneck", 4, "--batch", 4)
    report = tmp_path / "report.json"
    out = run("benchmark_glue", *theirs, "--backbone", folder / "bert/model.pt", "--json", report)
    figures = json.loads(report.read_text())["figures"]
    assert figures["ours"]["batches"] == figures["adapters"]["batches"] == 5
    assert 0 < figures["ours"]["tokens"] <= figures["adapters"]["tokens"]
    assert all(values["seconds"] > 0 for values in figures.values()) and "ours / adapters" in out


def test_adapterhub_is_scored_on_the_whole_dev_set(folder, tmp_path):
    theirs = ("--data", folder / "data", "--huggingface", folder / "huggingface", "--bottleneck", 4, "--batch", 4)
    out = run("adapterhub_glue", *theirs, "--epochs", 2, "--save-dir", tmp_path / "run")
    scores = json.loads((tmp_path / "run" / "scores.json").read_text())
    assert (scores["task"], scores["metric"], scores["n"]) == ("rte", "accuracy", 2)
    assert scores["value"] == scores["accuracy"] in (0, 50, 100) and "accuracy" in out


def test_adapterhub_reads_what_transformers_would(folder, monkeypatch):
    """Tokens and kinds of sentences are those of its own tokenizer on the raw text."""
    from transformers import BertTokenizer

    monkeypatch.syspath_prepend(str(REPOSITORY / "scripts"))
    monkeypatch.syspath_prepend(str(REPOSITORY / "examples" / "glue"))
    monkeypatch.setattr("logging.disable", lambda level: None)
    script = importlib.import_module("adapterhub_glue")
    settings = json.loads((folder / "data" / "prepare.json").read_text())["settings"]
    vocabulary = script.Vocabulary(folder / "huggingface")
    examples = vocabulary.examples(script.prepared_task(folder / "data", settings), "train")
    rows = [line.split("\t") for line in (folder / "glue" / "RTE" / "train.tsv").read_text().splitlines()[1:]]
    tokenizer = BertTokenizer(str(folder / "huggingface" / "vocab.txt"))
    expected = tokenizer([row[1] for row in rows], [row[2] for row in rows], padding=True, return_tensors="pt")
    batch = vocabulary.batch(examples)
    for name in ("input_ids", "token_type_ids", "attention_mask"):
        assert torch.equal(batch[name], expected[name]), name
    labels = ["entailment", "not_entailment"]
    assert [example.target for example in examples] == [labels.index(row[3]) for row in rows]
