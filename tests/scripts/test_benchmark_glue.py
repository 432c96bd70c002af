"""The GLUE benchmark beside AdapterHub's adapters, on a tiny BERT. Times are not judged."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from ..examples.glue import SIZES, load, write_bert, write_glue

REPOSITORY = Path(__file__).parents[2]
pytest.importorskip("adapters", reason="needs AdapterHub's adapters, see setup.py")


def test_both_train_on_the_same_examples(tmp_path):
    from transformers import BertConfig, BertModel

    write_glue(tmp_path / "glue", {"rte": load("glue_tasks").TASKS["rte"]}, train=20, dev=2)
    write_bert(tmp_path / "bert")
    data, theirs = tmp_path / "data", tmp_path / "huggingface"
    settings = {"GLUE_DIR": tmp_path / "glue", "BACKBONE_DIR": tmp_path / "bert", "DATA": data, "TASK": "rte"}
    environment = os.environ | {"VENV": sys.prefix} | {name: str(value) for name, value in settings.items()}
    subprocess.run(["bash", REPOSITORY / "examples/glue/prepare.sh"], env=environment, check=True, capture_output=True)
    vocabulary = (tmp_path / "bert" / "vocab.txt").read_text()
    sizes = {"hidden_size": SIZES["encoder_embed_dim"], "num_hidden_layers": 2, "num_attention_heads": 4}
    BertModel(BertConfig(vocab_size=vocabulary.count("\n"), intermediate_size=64, **sizes)).save_pretrained(theirs)
    (theirs / "vocab.txt").write_text(vocabulary)

    command = [sys.executable, "scripts/benchmark_glue.py", "--data", data, "--backbone", tmp_path / "bert/model.pt"]
    command += ["--huggingface", theirs, "--bottleneck", "4", "--batch", "4", "--json", tmp_path / "report.json"]
    done = subprocess.run([*map(str, command)], cwd=REPOSITORY, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-3000:]
    figures = json.loads((tmp_path / "report.json").read_text())["figures"]
    assert figures["ours"]["batches"] == figures["adapters"]["batches"] == 5
    assert 0 < figures["ours"]["tokens"] <= figures["adapters"]["tokens"]
    assert all(values["seconds"] > 0 for values in figures.values()) and "ours / adapters" in done.stdout
