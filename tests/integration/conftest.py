"""A tiny but real fairseq project: binarised data, a pretrained BART checkpoint, and its command line."""

import dataclasses
import random
import re
import subprocess
import sys
from pathlib import Path

import pytest
from fairseq.data import Dictionary, indexed_dataset

from ..commands import REPOSITORY, run

BIN = Path(sys.executable).parent
SIZES = [
    *("--encoder-layers", "2", "--decoder-layers", "2", "--encoder-embed-dim", "32", "--decoder-embed-dim", "32"),
    *("--encoder-ffn-embed-dim", "64", "--decoder-ffn-embed-dim", "64", "--encoder-attention-heads", "4"),
    *("--decoder-attention-heads", "4", "--max-source-positions", "64", "--max-target-positions", "64"),
]
LANGUAGES = ["--source-lang", "source", "--target-lang", "target"]


@dataclasses.dataclass
class Project:
    """Where the tiny project lies, and the commands a user would run on it."""

    data: Path
    backbone: Path

    def train_args(self, save_dir: Path, *extra: str) -> list[str]:
        return [
            *(str(self.data), "--user-dir", str(REPOSITORY / "user_dir"), "--task", "sparse_adapter_translation"),
            *(*LANGUAGES, "--arch", "sparse_adapter_bart_base", *SIZES, "--finetune-from-model", str(self.backbone)),
            *("--adapter-bottleneck", "8", "--criterion", "label_smoothed_cross_entropy", "--optimizer", "adam"),
            *("--lr", "0.003", "--max-tokens", "256", "--max-update", "4", "--cpu", "--num-workers", "0"),
            *("--log-format", "simple", "--log-interval", "1", "--save-dir", str(save_dir), *extra),
        ]

    def train(self, save_dir: Path, *extra: str) -> subprocess.CompletedProcess:
        return run("fairseq-train", *self.train_args(save_dir, *extra))

    def generate(self, checkpoint: Path, *extra: str, command: str = "fairseq-generate", **kwargs):
        arguments = [str(self.data), "--user-dir", str(REPOSITORY / "user_dir"), "--cpu", "--path", str(checkpoint)]
        arguments += ["--task", "sparse_adapter_translation", *LANGUAGES, "--beam", "3", "--max-len-b", "12"]
        return run(command, *arguments, *extra, **kwargs)


def succeed(result: subprocess.CompletedProcess) -> str:
    """The output of a command that has to work."""
    output = result.stdout + result.stderr
    assert result.returncode == 0, output[-4000:]
    return output


def error_line(result: subprocess.CompletedProcess) -> str:
    """The one line that a refused command ends with."""
    assert result.returncode != 0, result.stdout[-2000:]
    lines = [line for line in result.stderr.splitlines() if line.strip()]
    assert lines and re.match(r"(\S+: )?error: ", lines[-1]), result.stderr[-3000:]
    assert "Traceback" not in result.stderr, result.stderr[-3000:]
    return lines[-1]


def write_corpus(folder: Path, split: str, count: int, seed: int) -> None:
    """Sources of made-up words; a target repeats the first words of its source, so it can be learnt."""
    words = [f"{a}{b}" for a in "bdfgklm" for b in ("a", "e", "i", "o")]
    generator = random.Random(seed)
    with (folder / f"{split}.source").open("w") as source, (folder / f"{split}.target").open("w") as target:
        for _ in range(count):
            line = generator.choices(words, k=generator.randint(4, 20))
            source.write(" ".join(line) + "\n")
            target.write(" ".join(line[:4]) + "\n")


def write_pairs(data: Path) -> Dictionary:
    """Pairs of sentences as sentence prediction reads them; the label says whether they begin with the same word."""
    words = [f"{a}{b}" for a in "bdfgklm" for b in "aeio"]
    dictionary, labels = Dictionary(), Dictionary()
    for word in words:
        dictionary.add_symbol(word)
    for label in ("no", "yes"):
        labels.add_symbol(label)
    dictionaries = {"input0": dictionary, "input1": dictionary, "label": labels}
    for name, symbols in dictionaries.items():
        (data / name).mkdir(parents=True)
        symbols.save(str(data / name / "dict.txt"))
    generator = random.Random(1)
    for split, count in (("train", 96), ("valid", 31)):
        rows = []
        for _ in range(count):
            first, second = (generator.choices(words, k=generator.randint(3, 8)) for _ in range(2))
            if generator.random() < 0.5:
                second[0] = first[0]
            rows.append((" ".join(first), " ".join(second), "yes" if second[0] == first[0] else "no"))
        for i, (name, symbols) in enumerate(dictionaries.items()):
            prefix = str(data / name / split)
            builder = indexed_dataset.make_builder(f"{prefix}.bin", impl="mmap", vocab_size=len(symbols))
            for row in rows:
                builder.add_item(symbols.encode_line(row[i], add_if_not_exist=False))
            builder.finalize(f"{prefix}.idx")
        scores = [f"{5 * (row[2] == 'yes') + generator.random():.3f}" for row in rows]
        (data / "label" / f"{split}.label").write_text("\n".join(scores) + "\n")
    return dictionary


@pytest.fixture(scope="session")
def project(tmp_path_factory) -> Project:
    folder = tmp_path_factory.mktemp("project")
    for seed, (split, count) in enumerate({"train": 200, "valid": 20, "test": 20}.items()):
        write_corpus(folder, split, count, seed)
    prefixes = [x for split in ("train", "valid", "test") for x in (f"--{split}pref", str(folder / split))]
    data = folder / "data"
    arguments = ["-s", "source", "-t", "target", *prefixes, "--joined-dictionary", "--destdir", str(data)]
    succeed(run("fairseq-preprocess", *arguments, "--workers", "1"))

    # The backbone is stock: the translation task and BART of fairseq itself, without the plugin.
    stock = ["--arch", "bart_base", "--share-all-embeddings", "--layernorm-embedding", *SIZES, "--optimizer", "adam"]
    steps = ["--lr", "0.003", "--max-tokens", "512", "--max-update", "30", "--cpu", "--num-workers", "0"]
    backbone = folder / "backbone"
    saved = ["--no-epoch-checkpoints", "--disable-validation", "--save-dir", str(backbone)]
    succeed(run("fairseq-train", str(data), "--task", "translation", *LANGUAGES, *stock, *steps, *saved))
    return Project(data, backbone / "checkpoint_last.pt")
