#!/usr/bin/env python3
"""Turn raw summarisation data into fairseq's binary form: read, check, encode, cut, binarise.

All three splits are read and checked before anything is written, and the output folder appears, or
replaces the former one, only when it is complete. ``prepare.sh`` documents the settings.
"""

import argparse
import json
import logging
import shutil
import signal
import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from multiprocessing import Pool
from pathlib import Path
from typing import NoReturn

from raw_pairs import DataError, Pair, read_lines, read_split
from tqdm import tqdm

SPLITS = ("train", "valid", "test")
BPE_FILES = {"sentencepiece": ("sentencepiece.bpe.model",), "gpt2": ("encoder.json", "vocab.bpe")}
# Words of a foreign dictionary are mostly unknown; the right one leaves some, of a rare script.
MAX_UNKNOWN = 0.2

Encoder = Callable[[str], list[str]]


class Parser(argparse.ArgumentParser):
    """Errors on one line, without the usage."""

    def error(self, message: str) -> NoReturn:
        sys.exit(f"error: {message}")


def read_symbols(dictionary: Path) -> set[str]:
    """The symbols of a fairseq dictionary: lines of ``symbol count``."""
    symbols = set()
    for number, line in enumerate(read_lines(dictionary), start=1):
        symbol, _, count = line.rstrip("\r").removesuffix(" #fairseq:overwrite").rpartition(" ")
        if not symbol or not count.isdigit():
            raise DataError(f"{dictionary}, line {number}: not 'symbol count'; use the backbone's own dict.txt")
        symbols.add(symbol)
    return symbols


@contextmanager
def quiet() -> Iterator[None]:
    """Without fairseq's informative messages: every option, absent extras, counts that we report ourselves."""
    former = logging.root.manager.disable
    logging.disable(logging.INFO)
    try:
        yield
    finally:
        logging.disable(former)


def load_encoder(bpe: str, folder: Path) -> Encoder:
    """Text to BPE symbols, by the model in ``folder``."""
    try:
        if bpe == "gpt2":
            with quiet():
                from fairseq.data.encoders.gpt2_bpe_utils import get_encoder

            encoder = get_encoder(*(str(folder / name) for name in BPE_FILES[bpe]))
            return lambda text: [str(index) for index in encoder.encode(text)]
        from sentencepiece import SentencePieceProcessor

        processor = SentencePieceProcessor(model_file=str(folder / BPE_FILES[bpe][0]))
        return lambda text: processor.encode(text, out_type=str)
    except (ValueError, RuntimeError, OSError) as error:
        raise DataError(f"{folder}: the BPE model cannot be read ({error}); copy or download it again") from error


_encoder: Encoder  # of a worker process


def _start_worker(bpe: str, folder: Path) -> None:
    global _encoder
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent's business
    _encoder = load_encoder(bpe, folder)


def _encode(text: str) -> list[str]:
    try:
        return _encoder(text)
    except KeyError as error:
        raise DataError(f"encoder.json lacks {error}; encoder.json and vocab.bpe must be of one model") from error


def encode_split(pairs: list[Pair], pool, symbols: set[str], args: argparse.Namespace, prefix: Path) -> dict:
    """Write ``prefix.source`` and ``prefix.target``, and return the counts."""
    counts = {"examples": len(pairs)}
    tokens = unknown = 0
    limits = {"source": ("document", args.max_source), "target": ("summary", args.max_target)}
    for side, (what, limit) in limits.items():
        texts = [getattr(pair, what) for pair in pairs]
        progress = tqdm(pool.imap(_encode, texts, chunksize=32), f"{prefix.name}.{side}", len(texts), mininterval=2)
        truncated = 0
        with open(f"{prefix}.{side}", "w", encoding="utf-8") as file:
            for encoded, pair in zip(progress, pairs):
                if not encoded:
                    raise DataError(f"{pair.where}: nothing of the {what} is left after BPE; remove the example")
                kept = encoded[: limit - 1]  # the end symbol is the last one
                truncated += len(kept) < len(encoded)
                tokens += len(kept)
                unknown += sum(symbol not in symbols for symbol in kept)
                file.write(" ".join(kept) + "\n")
        counts[f"{side}_truncated"] = truncated
    counts["unknown_share"] = round(unknown / tokens, 6)
    if unknown > MAX_UNKNOWN * tokens:
        raise DataError(
            f"{args.backbone_dir}/dict.txt knows {1 - unknown / tokens:.0%} of the symbols of the {prefix.name} split; "
            "dict.txt and the BPE model must be the backbone's, and the language one that it knows"
        )
    return counts


def binarise(text: Path, output: Path, dictionary: Path, workers: int) -> None:
    """Run fairseq-preprocess over the encoded splits."""
    with quiet():
        from fairseq import options
        from fairseq_cli import preprocess

        flags = ["--source-lang", "source", "--target-lang", "target", "--joined-dictionary"]
        flags += ["--srcdict", str(dictionary), "--destdir", str(output), "--workers", str(workers)]
        for split in SPLITS:
            flags += [f"--{split}pref", str(text / split)]
        preprocess.main(options.get_preprocessing_parser().parse_args(flags))
    (output / "preprocess.log").unlink(missing_ok=True)


def check_folders(args: argparse.Namespace) -> None:
    """Refuse settings that cannot work, and an output folder that is not ours to replace."""
    if not args.raw.is_dir():
        raise DataError(f"RAW {args.raw}: there is no such folder")
    for name in ("dict.txt", *BPE_FILES[args.bpe]):
        if not (args.backbone_dir / name).is_file():
            raise DataError(
                f"{args.backbone_dir / name} is missing; BACKBONE_DIR needs dict.txt and the BPE model of the backbone"
            )
    for folder in (args.raw, args.backbone_dir):
        if folder.resolve().is_relative_to(args.data):
            raise DataError(f"DATA {args.data} would replace {folder}; choose another DATA")
    if args.data.exists() and not args.data.is_dir():
        raise DataError(f"DATA {args.data} is a file; choose another DATA")
    if args.data.is_dir() and any(args.data.iterdir()) and not (args.data / "prepare.json").is_file():
        raise DataError(f"DATA {args.data} holds other files; choose another DATA or remove it")


def prepare(args: argparse.Namespace) -> dict:
    """Read, check, encode and binarise; returns the counts of each split."""
    check_folders(args)
    symbols = read_symbols(args.backbone_dir / "dict.txt")
    load_encoder(args.bpe, args.backbone_dir)  # fails here rather than in the workers
    splits = {split: read_split(args.raw, split, getattr(args, f"limit_{split}")) for split in SPLITS}

    with quiet():
        from sparse_adapter.files import folder_at_once
    with folder_at_once(args.data) as folder:
        text = folder / "text"
        text.mkdir()
        with Pool(args.workers, _start_worker, (args.bpe, args.backbone_dir)) as pool:
            counts = {s: encode_split(pairs, pool, symbols, args, text / s) for s, pairs in splits.items()}
        binarise(text, folder, args.backbone_dir / "dict.txt", args.workers)
        shutil.rmtree(text)
        for split in ("valid", "test"):
            write_lines(folder / f"{split}.document.txt", (pair.document for pair in splits[split]))
            write_lines(folder / f"{split}.summary.txt", (pair.summary for pair in splits[split]))
        for name in BPE_FILES[args.bpe]:
            shutil.copyfile(args.backbone_dir / name, folder / name)
        settings = {name: str(v) if isinstance(v, Path) else v for name, v in vars(args).items() if name != "workers"}
        record = json.dumps({"settings": settings, "splits": counts}, indent=1)
        write_lines(folder / "prepare.json", [record])
    return counts


def write_lines(path: Path, lines: Iterable[str]) -> None:
    with open(path, "w", encoding="utf-8", newline="\n") as file:
        file.writelines(line + "\n" for line in lines)


def at_least(minimum: int) -> Callable[[str], int]:
    def parse(text: str) -> int:
        if not text.isdecimal() or int(text) < minimum:
            raise argparse.ArgumentTypeError(f"{text!r} is not a whole number of at least {minimum}")
        return int(text)

    return parse


def parse_arguments(argv: list[str] | None) -> argparse.Namespace:
    parser = Parser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--raw", type=Path, required=True, help="folder with train, valid and test")
    parser.add_argument("--data", type=Path, required=True, help="folder to write")
    parser.add_argument("--bpe", choices=list(BPE_FILES), default="sentencepiece")
    parser.add_argument("--backbone-dir", type=Path, required=True, help="folder with dict.txt and the BPE model")
    parser.add_argument("--max-source", type=at_least(2), default=512, help="tokens, with the end symbol")
    parser.add_argument("--max-target", type=at_least(2), default=128, help="tokens, with the end symbol")
    parser.add_argument("--workers", type=at_least(1), default=2, help="processes")
    for split in SPLITS:
        parser.add_argument(f"--limit-{split}", type=at_least(1), help="keep the first N examples")
    args = parser.parse_args(argv)
    args.data = args.data.resolve()
    return args


def main(argv: list[str] | None = None) -> None:
    args = parse_arguments(argv)
    try:
        counts = prepare(args)
    except (DataError, OSError) as error:
        sys.exit(f"error: {' '.join(str(error).split())}")
    except KeyboardInterrupt:
        sys.exit("error: interrupted, nothing was written")
    for split, count in counts.items():
        print(
            f"{split}: {count['examples']} examples, {count['source_truncated']} documents cut at {args.max_source} "
            f"tokens, {count['target_truncated']} summaries at {args.max_target}, "
            f"{count['unknown_share']:.2%} of the tokens unknown"
        )
    print(f"wrote {args.data}")


if __name__ == "__main__":
    # An exit like any other, so that the unfinished folder is removed.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit("error: terminated, nothing was written"))
    main()
