"""A tiny GLUE of made-up sentences, tiny random backbones, and the example's modules."""

import importlib.util
import json
import sys
from argparse import Namespace
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from fairseq.data import Dictionary
from fairseq.models import ARCH_CONFIG_REGISTRY, ARCH_MODEL_REGISTRY

EXAMPLE = Path(__file__).parents[2] / "examples" / "glue"
WORDS = "balo rin tesk omu dary fenn golti hapu virr quon sed lami purth zeni wok".split()
SIZES = {"encoder_layers": 2, "encoder_embed_dim": 32, "encoder_ffn_embed_dim": 64, "encoder_attention_heads": 4}

HEADERS = {
    "cola": None,
    "mrpc": "Quality\t#1 ID\t#2 ID\t#1 String\t#2 String",
    "sts-b": "index\tgenre\tfilename\tyear\told_index\tsource1\tsource2\tsentence1\tsentence2\tscore",
    "rte": "index\tsentence1\tsentence2\tlabel",
    "sst-2": "sentence\tlabel",
    "qnli": "index\tquestion\tsentence\tlabel",
    "qqp": "id\tqid1\tqid2\tquestion1\tquestion2\tis_duplicate",
    "mnli": "index\tpromptID\tpairID\tgenre\tsentence1\tsentence2\tlabel1\tgold_label",
    "wnli": "index\tsentence1\tsentence2\tlabel",
}


def load(name: str):
    """The module ``examples/glue/name.py``, without what it does to the process as a command."""
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(EXAMPLE))
        patch.setattr("logging.disable", lambda level: None)
        spec = importlib.util.spec_from_file_location(f"glue_{name}", EXAMPLE / f"{name}.py")
        module = sys.modules[spec.name] = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
    return module


def sentence(start: int, words: int) -> str:
    return " ".join(WORDS[(start * 7 + i * i + i // 3) % len(WORDS)] for i in range(words))


def row(task: str, i: int, label: str) -> str:
    """Line ``i`` of a file, with a quotation mark that means nothing."""
    first, second = sentence(i, 3 + i % 5) + ' "', sentence(i + 1, 2 + i % 4)
    cells = {
        "cola": ["gj04", label, "", first],
        "mrpc": [label, "7", "8", first, second],
        "sts-b": [str(i), "news", "headlines", "2015", "0001", "none", "none", first, second, label],
        "sst-2": [first, label],
        "qqp": [str(i), "1", "2", first, second, label],
        "mnli": [str(i), "1", "1c", "fiction", first, second, "neutral", label],
    }
    return "\t".join(cells.get(task, [str(i), first, second, label]))


def write_glue(root: Path, tasks: dict, train: int = 8, dev: int = 5) -> Path:
    """``tasks``: those of glue_tasks.py to write."""
    for name, task in tasks.items():
        (root / task.folder).mkdir(parents=True)
        labels = task.labels or ("0.5", "2.25", "5.000")
        for stem, count in {"train": train, **dict.fromkeys(task.dev.values(), dev)}.items():
            lines = [row(name, i, labels[i % len(labels)]) for i in range(count)]
            text = "\n".join([HEADERS[name], *lines] if HEADERS[name] else lines) + "\n"
            encoding = "utf-8-sig" if name == "mrpc" else "utf-8"
            (root / task.folder / f"{stem}.tsv").write_text(text, encoding=encoding)
    return root


def write_bert(folder: Path) -> Path:
    """A tiny random BERT in the layout of sparse-adapter convert."""
    folder.mkdir(parents=True)
    words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *WORDS, '"', "##s"]
    (folder / "vocab.txt").write_text("\n".join(words) + "\n")
    (folder / "tokenizer_config.json").write_text(json.dumps({"do_lower_case": True}))
    write_model(folder, [word for word in words if not word.startswith("[")], "sparse_adapter_bert_base")
    return folder


def write_roberta(folder: Path) -> Path:
    """A tiny random RoBERTa whose byte-level BPE has merged nothing."""
    from fairseq.data.encoders.gpt2_bpe_utils import bytes_to_unicode

    folder.mkdir(parents=True)
    characters = list(bytes_to_unicode().values())
    (folder / "encoder.json").write_text(json.dumps({c: i for i, c in enumerate(characters)}))
    (folder / "vocab.bpe").write_text("#version: 0.2\n", encoding="utf-8")
    write_model(folder, [str(i) for i in range(len(characters))], "roberta_base")
    return folder


def write_model(folder: Path, words: list[str], arch: str) -> None:
    dictionary = Dictionary()
    for word in words:
        dictionary.add_symbol(word)
    dictionary.save(str(folder / "dict.txt"))
    dictionary.add_symbol("<mask>")
    args = Namespace(arch=arch, task="masked_lm", criterion="masked_lm", max_positions=128, adapter="none", **SIZES)
    ARCH_CONFIG_REGISTRY[arch](args)
    torch.manual_seed(1)
    model = ARCH_MODEL_REGISTRY[arch].build_model(args, SimpleNamespace(source_dictionary=dictionary)).state_dict()
    if "bert_base" in arch and "roberta" not in arch:
        model |= {"pooler.dense.weight": torch.randn(32, 32) / 6, "pooler.dense.bias": torch.zeros(32)}
    history = [{"criterion_name": "", "optimizer_name": "", "lr_scheduler_state": {"best": None}, "num_updates": 9}]
    extra = {"train_iterator": {"epoch": 1, "iterations_in_epoch": 0}}
    state = {"args": args, "model": model, "optimizer_history": history, "extra_state": extra}
    torch.save(state, folder / "model.pt")
