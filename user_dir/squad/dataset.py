"""Windows of questions and contexts, as ``examples/squad/prepare.py`` writes them, in batches.

``SPLIT.tokens`` and ``SPLIT.targets`` are fairseq's indexed datasets, one entry a window. A split that is evaluated
has ``SPLIT.chars`` (start and end in the context of every token of context) and ``SPLIT.questions.jsonl`` too.
"""

import json
from pathlib import Path

import numpy as np
import torch
from fairseq.data import Dictionary, FairseqDataset, data_utils

from ..errors import UsageError
from ..length_groups import grouped_by_length, in_fixed_random_order
from .answers import Question


class SquadDataset(FairseqDataset):
    """Items are windows, or, with ``questions``, all windows of a question.

    Windows of a question are never torn apart, neither by batches nor by processes, so that what is counted of
    whole answers in a batch can be summed up.

    Args:
        tokens: windows, each the symbol ``<s>``, a question, ``</s>``, a part of a context and ``</s>``.
        targets: first and last position of the answer in each window, 0 and 0 if it does not hold it.
        pad: index of the padding symbol.
        questions: to which the windows belong, in their order.
        chars: of each window, start and end of its tokens of context, one after the other.
    """

    def __init__(self, tokens, targets, pad: int, questions: list[Question] | None = None, chars=None):
        self.tokens, self.targets, self.pad = tokens, targets, pad
        self.questions, self.chars = questions, chars
        counts = np.ones(len(tokens), int) if questions is None else np.array([q.windows for q in questions])
        self.bounds = np.concatenate([[0], counts.cumsum()])
        # The longest window of an item, which models' positions limit, and the tokens that an item takes in a batch.
        self.sizes = np.maximum.reduceat(np.asarray(tokens.sizes), self.bounds[:-1])
        self.padded = self.sizes * counts

    def __len__(self) -> int:
        return len(self.bounds) - 1

    def __getitem__(self, index: int) -> dict:
        windows = range(self.bounds[index], self.bounds[index + 1])
        item = {
            "id": index,
            "tokens": [torch.as_tensor(self.tokens[i]).long() for i in windows],
            "targets": [torch.as_tensor(self.targets[i]).long() for i in windows],
        }
        if self.questions is not None:
            item["question"] = self.questions[index]
            item["chars"] = [np.asarray(self.chars[i]).reshape(-1, 2) for i in windows]
        return item

    def collater(self, samples: list[dict]) -> dict:
        """Lay the windows of all items one after the other: ``src_tokens`` is ``(windows, src_len)``."""
        if not samples:
            return {}
        tokens = [window for sample in samples for window in sample["tokens"]]
        lengths = torch.tensor([len(window) for window in tokens])
        batch = {
            "id": torch.tensor([sample["id"] for sample in samples]),
            "net_input": {"src_tokens": data_utils.collate_tokens(tokens, self.pad), "src_lengths": lengths},
            "target": torch.stack([target for sample in samples for target in sample["targets"]]),
            "nsentences": len(tokens),
            "ntokens": int(lengths.sum()),
        }
        if self.questions is not None:
            batch["questions"] = [sample["question"] for sample in samples]
            batch["chars"] = [chars for sample in samples for chars in sample["chars"]]
        return batch

    def num_tokens(self, index: int) -> int:
        return int(self.padded[index])

    def num_tokens_vec(self, indices: np.ndarray) -> np.ndarray:
        return self.padded[indices]

    def size(self, index: int) -> int:
        return int(self.sizes[index])

    def ordered_indices(self) -> np.ndarray:
        return grouped_by_length(self.sizes, evaluated=self.questions is not None)

    def batch_by_size(self, indices, max_tokens=None, max_sentences=None, required_batch_size_multiple=1):
        # A question of many windows is a batch of its own, even if that takes more than --max-tokens.
        padded = self.padded if max_tokens is None else np.minimum(self.padded, max_tokens)
        batches = data_utils.batch_by_size(
            indices,
            num_tokens_fn=lambda index: int(padded[index]),
            num_tokens_vec=padded[indices].astype("int64"),
            max_tokens=max_tokens,
            max_sentences=max_sentences,
            required_batch_size_multiple=required_batch_size_multiple,
        )
        return batches if self.questions is None else in_fixed_random_order(batches)


def load_split(data: Path, split: str, dictionary: Dictionary) -> SquadDataset:
    """A split of a folder that ``prepare.py`` wrote.

    Raises:
        UsageError: it is not there.
    """
    parts = {}
    for name in ("tokens", "targets", "chars"):
        if (data / f"{split}.{name}.idx").is_file():
            parts[name] = data_utils.load_indexed_dataset(str(data / f"{split}.{name}"), dictionary)
    if not parts.keys() >= {"tokens", "targets"}:
        raise UsageError(f"{data} holds no split {split!r}; examples/squad/prepare.sh writes train and valid")
    path = data / f"{split}.questions.jsonl"
    if path.is_file():
        return SquadDataset(**parts, pad=dictionary.pad(), questions=load_questions(path))
    return SquadDataset(parts["tokens"], parts["targets"], dictionary.pad())


def load_questions(path: Path) -> list[Question]:
    with open(path, encoding="utf-8") as file:
        records = [json.loads(line) for line in file]
    return [Question(r["id"], r["context"], tuple(r["answers"]), r["windows"]) for r in records]
