#!/usr/bin/env python3
"""Cut SQuAD v1.1 into windows for the task ``sparse_adapter_squad``: read, check, tokenise, cut, binarise.

Both files are read and checked before anything is written, and the output folder appears, or replaces the
former one, only when it is complete. ``prepare.sh`` documents the settings.
"""

import argparse
import functools
import itertools
import json
import logging
import shutil
import sys
from pathlib import Path

import torch
from tqdm import tqdm

sys.path.append(str(Path(__file__).parents[1]))  # examples, for preparation
logging.disable(logging.INFO)  # fairseq's messages about absent extras

from fairseq.data import Dictionary, indexed_dataset  # noqa: E402
from preparation import (  # noqa: E402
    DataError,
    Parser,
    at_least,
    check_backbone,
    check_output,
    exit_when_terminated,
    load_dictionary,
    one_line_errors,
    settings,
    unknown_share,
)
from sparse_adapter.files import folder_at_once, write_json  # noqa: E402
from windows import Encoder, Example, cut, load_encoder, read_squad  # noqa: E402

NAMED = 10  # ids that are printed; prepare.json has them all


class Split:
    """Writes the windows of a split, and counts."""

    def __init__(self, name: str, folder: Path, encoder: Encoder, symbols: Dictionary, args: argparse.Namespace):
        self.name, self.folder, self.symbols, self.args = name, folder, symbols, args
        self.separators = encoder.separators
        self.encode = functools.lru_cache(maxsize=2)(encoder.encode)  # a context has several questions
        self.evaluated = name != "train"
        sizes = {"tokens": len(symbols), "targets": args.max_length}
        if self.evaluated:
            sizes["chars"] = None
        self.builders = {
            part: indexed_dataset.make_builder(f"{folder / name}.{part}.bin", impl="mmap", vocab_size=size)
            for part, size in sizes.items()
        }
        self.windows = self.tokens = self.unknown = 0
        self.not_in_context: list[str] = []
        self.without_tokens: list[str] = []
        self.inside_tokens: list[str] = []
        self.records: list[dict] = []

    def write(self, examples: list[Example]) -> dict:
        """All of the split; returns the counts."""
        for example in tqdm(examples, self.name, mininterval=2):
            self.add(example)
        if not self.windows:
            raise DataError(f"the {self.name} file has no answer that is in its context")
        for part, builder in self.builders.items():
            builder.finalize(f"{self.folder / self.name}.{part}.idx")
        if self.evaluated:
            lines = (json.dumps(record, ensure_ascii=False) + "\n" for record in self.records)
            with open(self.folder / f"{self.name}.questions.jsonl", "w", encoding="utf-8", newline="\n") as file:
                file.writelines(lines)
        return {
            "questions": len(self.records),
            "windows": self.windows,
            "answers_not_in_context": self.not_in_context,
            "answers_without_tokens": self.without_tokens,
            "answers_inside_tokens": self.inside_tokens,
        }

    def unknown_share(self) -> float:
        """Of its tokens.

        Raises:
            DataError: there are too many for the dictionary to be the right one.
        """
        return unknown_share(self.unknown, self.tokens, self.name, self.args.backbone_dir / "dict.txt")

    def add(self, example: Example) -> None:
        found = example.found()
        if len(found) < len(example.answers):
            self.not_in_context.append(example.id)
        context, question = self.encode(example.context), self.encode(example.question.strip())
        if not (context.symbols and question.symbols):
            raise DataError(
                f"question {example.id}: nothing of it, or of its context, is left after tokenisation; remove it"
            )
        span = None
        for start, end in found:
            try:
                span = context.span(start, end)
            except LookupError:  # of white space or control characters alone
                continue
            text = example.context[start:end]
            start, end = start + len(text) - len(text.lstrip()), end - len(text) + len(text.rstrip())
            if (context.chars[span[0]][0], context.chars[span[1]][1]) != (start, end):
                self.inside_tokens.append(example.id)
            break
        if span is None and not self.evaluated:  # there is nothing to learn
            if found:
                self.without_tokens.append(example.id)
            return
        asked = question.symbols[: self.args.max_question]
        special = self.symbols.bos(), self.symbols.eos()
        head = [special[0], *map(self.symbols.index, asked), *[special[1]] * self.separators]
        body = [self.symbols.index(symbol) for symbol in context.symbols]
        self.tokens += len(asked) + len(body)
        self.unknown += head.count(self.symbols.unk()) + body.count(self.symbols.unk())
        count = 0
        for window in cut(len(body), len(asked), self.separators, self.args.max_length, self.args.doc_stride):
            entry = {
                "tokens": [*head, *body[window.first : window.last], special[1]],
                "targets": window.target(span),
                "chars": list(itertools.chain(*context.chars[window.first : window.last])),
            }
            for part, builder in self.builders.items():
                builder.add_item(torch.tensor(entry[part], dtype=torch.long))
            count += 1
        self.windows += count
        answers = [text for text, _ in example.answers]
        self.records.append({"id": example.id, "context": example.context, "answers": answers, "windows": count})


def check_folders(args: argparse.Namespace) -> None:
    """Refuse settings that cannot work, and an output folder that is not ours to replace."""
    for name in ("train", "dev"):
        if not getattr(args, name).is_file():
            raise DataError(f"SQUAD_{name.upper()} {getattr(args, name)}: there is no such file")
    check_backbone(args.backbone_dir)
    if args.max_length < args.max_question + 16:
        raise DataError(
            f"--max-length {args.max_length} leaves no room beside a question of {args.max_question} tokens"
        )
    check_output(args.data, args.train, args.dev, args.backbone_dir)


def prepare(args: argparse.Namespace) -> dict:
    """Read, check, tokenise, cut and binarise; returns the counts of each split."""
    check_folders(args)
    symbols = load_dictionary(args.backbone_dir / "dict.txt")
    encoder = load_encoder(args.backbone_dir)
    splits = {"train": read_squad(args.train)[: args.limit_train], "valid": read_squad(args.dev)[: args.limit_dev]}
    with folder_at_once(args.data) as folder:
        shutil.copyfile(args.backbone_dir / "dict.txt", folder / "dict.txt")
        counts = {}
        for name, examples in splits.items():
            split = Split(name, folder, encoder, symbols, args)
            counts[name] = split.write(examples) | {"unknown_share": split.unknown_share()}
        write_json(folder / "prepare.json", {"settings": settings(args), "splits": counts})
    return counts


def parse_arguments(argv: list[str] | None) -> argparse.Namespace:
    parser = Parser(__doc__)
    parser.add_argument("--train", type=Path, required=True, help="train-v1.1.json, which may be gzipped")
    parser.add_argument("--dev", type=Path, required=True, help="dev-v1.1.json, likewise")
    parser.add_argument("--backbone-dir", type=Path, required=True, help="folder with dict.txt and the tokenizer")
    parser.add_argument("--data", type=Path, required=True, help="folder to write")
    parser.add_argument(
        "--max-length", type=at_least(32), default=384, help="tokens of a window, special ones included"
    )
    parser.add_argument("--max-question", type=at_least(1), default=64, help="questions are cut at this many tokens")
    parser.add_argument("--doc-stride", type=at_least(1), default=128, help="tokens from one window to the next")
    for split in ("train", "dev"):
        parser.add_argument(f"--limit-{split}", type=at_least(1), help="keep the first N questions")
    args = parser.parse_args(argv)
    args.data = args.data.resolve()
    return args


def named(ids: list[str]) -> str:
    rest = f" and {len(ids) - NAMED} more" if len(ids) > NAMED else ""
    return f" ({', '.join(ids[:NAMED])}{rest})" if ids else ""


def main(argv: list[str] | None = None) -> None:
    args = parse_arguments(argv)
    with one_line_errors():
        counts = prepare(args)
    for name, count in counts.items():
        absent, inside = count["answers_not_in_context"], count["answers_inside_tokens"]
        empty = count["answers_without_tokens"]
        left_out = f", of {len(empty)} left out, white space alone{named(empty)}" if empty else ""
        print(
            f"{name}: {count['questions']} questions in {count['windows']} windows, {count['unknown_share']:.2%} of "
            f"the tokens unknown; answers: of {len(absent)} questions not in their context{named(absent)}"
            f"{left_out}, {len(inside)} begin or end inside a token"
        )
    print(f"wrote {args.data}")


if __name__ == "__main__":
    exit_when_terminated()
    main()
