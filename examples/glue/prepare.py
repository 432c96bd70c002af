#!/usr/bin/env python3
"""Turn GLUE's TSV files into the layout that fairseq's sentence prediction reads: read, check, tokenise, cut.

All sets are read and checked before anything is written, and the output folder appears, or replaces the
former one, only when it is complete. ``prepare.sh`` documents the settings.
"""

import argparse
import logging
import shutil
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from flags import backbone_flags
from glue_tasks import Example, Task, find_task, read_examples
from tqdm import tqdm

sys.path.append(str(Path(__file__).parents[1]))  # examples, for preparation
logging.disable(logging.INFO)  # fairseq's messages about absent extras

from fairseq.data import Dictionary, indexed_dataset  # noqa: E402
from preparation import (  # noqa: E402
    BPE_FILES,
    WORDPIECE_FILE,
    DataError,
    Parser,
    at_least,
    check_backbone,
    check_output,
    exit_when_terminated,
    load_bpe,
    load_dictionary,
    load_wordpiece,
    one_line_errors,
    settings,
    unknown_share,
    write_lines,
)
from sparse_adapter import errors  # noqa: E402
from sparse_adapter.files import folder_at_once, write_json  # noqa: E402

WORDPIECE = "wordpiece"
LONGEST = 512  # tokens of an example, as in the paper

Encoder = Callable[[str], list[str]]


def find_tokenizer(folder: Path) -> str:
    """The kind of tokenizer whose files ``folder`` holds."""
    kinds = {WORDPIECE: (WORDPIECE_FILE,)} | {kind: tuple(files.values()) for kind, files in BPE_FILES.items()}
    for kind, files in kinds.items():
        if all((folder / name).is_file() for name in files):
            return kind
    due = ", nor ".join(" and ".join(files) for files in kinds.values())
    raise DataError(f"BACKBONE_DIR {folder} has no tokenizer: neither {due}; sparse-adapter convert writes them")


def load_encoder(folder: Path) -> Encoder:
    """Text to symbols of dict.txt, by the tokenizer in ``folder``."""
    kind = find_tokenizer(folder)
    try:
        if kind != WORDPIECE:
            return load_bpe(kind, folder)
        tokenizer = load_wordpiece(folder)
        return lambda text: tokenizer.encode(text).tokens
    except Exception as error:  # tokenizers raises Exception itself
        raise DataError(f"{folder}: the tokenizer cannot be read ({error}); convert the model again") from error


def cut(parts: list[list[str]], limit: int) -> list[list[str]]:
    """At most ``limit`` symbols in all; one at a time goes from the end of the longest part, the last of equals."""
    lengths = [len(part) for part in parts]
    while sum(lengths) > limit:
        longest = max(range(len(parts)), key=lambda i: (lengths[i], i))
        lengths[longest] -= 1
    return [part[:length] for part, length in zip(parts, lengths, strict=True)]


def write_texts(
    examples: list[Example],
    name: str,
    folder: Path,
    encode: Encoder,
    symbols: Dictionary,
    limit: int,
    remedy: str = "remove the example",
) -> dict[str, int]:
    """Write ``input0/name`` and ``input1/name``, of at most ``limit`` tokens together, and return the counts.

    Raises:
        DataError: nothing of a sentence is left; the message ends with ``remedy``.
    """
    parts = len(examples[0].texts)
    with written(folder, [f"input{i}" for i in range(parts)], name, symbols) as builders:
        truncated = tokens = unknown = 0
        for example in tqdm(examples, name, mininterval=2):
            encoded = [encode(text) for text in example.texts]
            if not all(encoded):
                raise DataError(f"{example.where}: nothing of a sentence is left after tokenisation; {remedy}")
            kept = cut(encoded, limit)
            truncated += kept != encoded
            for builder, part in zip(builders, kept, strict=True):
                indices = symbols.encode_line(
                    " ".join(part), line_tokenizer=lambda line: line.split(" "), add_if_not_exist=False
                )
                tokens += len(part)
                unknown += (indices == symbols.unk()).sum().item()
                builder.add_item(indices)
    return {"examples": len(examples), "truncated": truncated, "unknown": unknown, "tokens": tokens}


def longest(backbone_dir: Path) -> int:
    """The tokens that an example may have: as many as the backbone has positions for, if it is there."""
    model = backbone_dir / "model.pt"
    return min(LONGEST, backbone_flags(model)["--max-positions"]) if model.is_file() else LONGEST


def room(task: Task, max_length: int, separator: int | None) -> int:
    """How many of ``max_length`` tokens are not special: [CLS] A [SEP], or [CLS] A [SEP] B [SEP], where RoBERTa has one
    separator more between the two.
    """
    parts = len(task.texts)
    return max_length - 1 - parts - (parts == 2 and separator is not None)


def write_labels(task: Task, examples: list[Example], name: str, folder: Path) -> None:
    if task.regression:
        write_lines(folder / "label" / f"{name}.label", (example.label for example in examples))
        return
    labels = Dictionary()
    for label in task.labels:
        labels.add_symbol(label)
    labels.save(str(folder / "label" / "dict.txt"))
    with written(folder, ["label"], name, labels) as (builder,):
        for example in examples:
            builder.add_item(labels.encode_line(example.label, lambda line: [line], add_if_not_exist=False))


@contextmanager
def written(folder: Path, inputs: list[str], name: str, dictionary: Dictionary) -> Iterator[list]:
    """Builders of fairseq's binary files ``folder/input/name``."""
    prefixes = [str(folder / part / name) for part in inputs]
    builders = [indexed_dataset.make_builder(f"{p}.bin", impl="mmap", vocab_size=len(dictionary)) for p in prefixes]
    yield builders
    for prefix, builder in zip(prefixes, builders, strict=True):
        builder.finalize(f"{prefix}.idx")


def check_folders(args: argparse.Namespace) -> None:
    """Refuse settings that cannot work, and an output folder that is not ours to replace."""
    if not args.glue_dir.is_dir():
        raise DataError(f"GLUE_DIR {args.glue_dir}: there is no such folder")
    check_backbone(args.backbone_dir)
    check_output(args.data, args.glue_dir, args.backbone_dir)


def prepare(args: argparse.Namespace) -> dict:
    """Read, check, tokenise and binarise; returns the counts of each set."""
    check_folders(args)
    task = find_task(args.task, args.glue_dir)
    symbols = load_dictionary(args.backbone_dir / "dict.txt")
    encode = load_encoder(args.backbone_dir)
    args.max_length = args.max_length or longest(args.backbone_dir)
    args.separator = None if find_tokenizer(args.backbone_dir) == WORDPIECE else symbols.eos()
    read = {"train": read_examples(task, args.glue_dir, "train", args.limit_train)}
    read |= {name: read_examples(task, args.glue_dir, stem, args.limit_valid) for name, stem in task.dev.items()}

    counts = {}
    with folder_at_once(args.data) as folder:
        for part in (*(f"input{i}" for i in range(len(task.texts))), "label"):
            (folder / part).mkdir()
            if part != "label":
                shutil.copyfile(args.backbone_dir / "dict.txt", folder / part / "dict.txt")
        for name, (examples, broken) in read.items():
            limit = room(task, args.max_length, args.separator)
            counts[name] = write_texts(examples, name, folder, encode, symbols, limit)
            unknown, tokens = counts[name].pop("unknown"), counts[name].pop("tokens")
            counts[name]["unknown_share"] = unknown_share(unknown, tokens, name, args.backbone_dir / "dict.txt")
            if broken:
                counts[name]["broken_rows"] = broken
            write_labels(task, examples, name, folder)
        classes = {"num_classes": len(task.labels) or 1, "labels": task.labels, "texts": task.texts}
        record = settings(args) | classes | {"init_token": symbols.bos()}
        write_json(folder / "prepare.json", {"settings": record, "sets": counts})
    return counts


def parse_arguments(argv: list[str] | None) -> argparse.Namespace:
    parser = Parser(__doc__)
    parser.add_argument("--task", required=True, help="of GLUE, or a folder of your own")
    parser.add_argument("--glue-dir", type=Path, required=True, help="folder with CoLA, MRPC, ...")
    parser.add_argument("--backbone-dir", type=Path, required=True, help="folder with dict.txt and the tokenizer")
    parser.add_argument("--data", type=Path, required=True, help="folder to write")
    parser.add_argument("--max-length", type=at_least(8), help="tokens of an example")
    for split in ("train", "valid"):
        parser.add_argument(f"--limit-{split}", type=at_least(1), help="keep the first N examples")
    args = parser.parse_args(argv)
    args.data = args.data.resolve()
    return args


def main(argv: list[str] | None = None) -> None:
    args = parse_arguments(argv)
    with one_line_errors(), errors.one_line_errors():
        counts = prepare(args)
    for name, count in counts.items():
        broken = f", {count['broken_rows']} incomplete rows left out" if "broken_rows" in count else ""
        print(
            f"{name}: {count['examples']} examples, {count['truncated']} cut at {args.max_length} tokens, "
            f"{count['unknown_share']:.2%} of the tokens unknown{broken}"
        )
    print(f"wrote {args.data}")


if __name__ == "__main__":
    exit_when_terminated()
    main()
