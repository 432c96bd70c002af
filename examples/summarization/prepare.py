#!/usr/bin/env python3
"""Turn raw summarisation data into fairseq's binary form: read, check, encode, cut, binarise.

All three splits are read and checked before anything is written, and the output folder appears, or
replaces the former one, only when it is complete. ``prepare.sh`` documents the settings.
"""

import argparse
import shutil
import signal
import sys
from collections.abc import Callable
from contextlib import ExitStack
from multiprocessing import Pool
from pathlib import Path

from raw_pairs import Pair, read_split
from tqdm import tqdm

sys.path.append(str(Path(__file__).parents[1]))  # examples, for preparation

from preparation import (  # noqa: E402
    BPE_FILES,
    SPLITS,
    DataError,
    Parser,
    at_least,
    binarise,
    check_output,
    exit_when_terminated,
    load_bpe,
    one_line_errors,
    quiet,
    read_lines,
    settings,
    unknown_share,
    write_lines,
)

Encoder = Callable[[str], list[str]]


def read_symbols(dictionary: Path) -> set[str]:
    """The symbols of a fairseq dictionary: lines of ``symbol count``."""
    symbols = set()
    for number, line in enumerate(read_lines(dictionary), start=1):
        symbol, _, count = line.removesuffix(" #fairseq:overwrite").rpartition(" ")
        if not symbol or not count.isdigit():
            raise DataError(f"{dictionary}, line {number}: not 'symbol count'; use the backbone's own dict.txt")
        symbols.add(symbol)
    return symbols


def load_encoder(bpe: str, folder: Path) -> Encoder:
    """Text to BPE symbols, by the model in ``folder``."""
    try:
        return load_bpe(bpe, folder)
    except (ValueError, RuntimeError, OSError) as error:
        raise DataError(f"{folder}: the BPE model cannot be read ({error}); copy or download it again") from error


_encoder: Encoder  # of a worker process


def _start_worker(bpe: str, folder: Path) -> None:
    global _encoder
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent's business
    _encoder = load_encoder(bpe, folder)


def _encode(texts: tuple[str, str]) -> tuple[list[str], list[str]]:
    try:
        return _encoder(texts[0]), _encoder(texts[1])
    except KeyError as error:
        raise DataError(f"encoder.json lacks {error}; encoder.json and vocab.bpe must be of one model") from error


def encode_split(pairs: list[Pair], pool, symbols: set[str], args: argparse.Namespace, prefix: Path) -> dict:
    """Write ``prefix.source`` and ``prefix.target``, and return the counts. Training examples with a side of which the
    BPE leaves nothing are left out.

    Raises:
        DataError: there is such an example in another split, or nothing else in this one.
    """
    limits = (args.max_source, args.max_target)
    written = empty = tokens = unknown = 0
    truncated = [0, 0]
    texts = ((pair.document, pair.summary) for pair in pairs)
    progress = tqdm(pool.imap(_encode, texts, chunksize=32), prefix.name, len(pairs), mininterval=2)
    with ExitStack() as stack:
        files = [stack.enter_context(open(f"{prefix}.{side}", "w", encoding="utf-8")) for side in ("source", "target")]
        for sides, pair in zip(progress, pairs, strict=True):
            if not all(sides):
                if prefix.name != "train":
                    what = "summary" if sides[0] else "document"
                    raise DataError(f"{pair.where}: nothing of the {what} is left after BPE; remove the example")
                empty += 1
                continue
            written += 1
            for i, encoded in enumerate(sides):
                kept = encoded[: limits[i] - 1]  # the end symbol is the last one
                truncated[i] += len(kept) < len(encoded)
                tokens += len(kept)
                unknown += sum(symbol not in symbols for symbol in kept)
                files[i].write(" ".join(kept) + "\n")
    if not written:
        raise DataError(f"{pairs[0].where}: nothing of this and all other training examples is left after BPE")
    counts = {"examples": written, "source_truncated": truncated[0], "target_truncated": truncated[1], "empty": empty}
    remedy = "the BPE model must be the backbone's"
    dictionary = args.backbone_dir / "dict.txt"
    counts["unknown_share"] = unknown_share(unknown, tokens, f"the {prefix.name} split", dictionary, remedy)
    return counts


def check_folders(args: argparse.Namespace) -> None:
    """Refuse settings that cannot work, and an output folder that is not ours to replace."""
    if not args.raw.is_dir():
        raise DataError(f"RAW {args.raw}: there is no such folder")
    for name in ("dict.txt", *BPE_FILES[args.bpe].values()):
        if not (args.backbone_dir / name).is_file():
            raise DataError(
                f"{args.backbone_dir / name} is missing; BACKBONE_DIR needs dict.txt and the BPE model of the backbone"
            )
    check_output(args.data, args.raw, args.backbone_dir)


def prepare(args: argparse.Namespace) -> dict:
    """Read, check, encode and binarise; returns the counts of each split."""
    check_folders(args)
    symbols = read_symbols(args.backbone_dir / "dict.txt")
    load_encoder(args.bpe, args.backbone_dir)  # fails here rather than in the workers
    splits = {split: read_split(args.raw, split, getattr(args, f"limit_{split}")) for split in SPLITS}

    with quiet():
        from sparse_adapter.files import folder_at_once, write_json
    with folder_at_once(args.data) as folder:
        text = folder / "text"
        text.mkdir()
        with Pool(args.workers, _start_worker, (args.bpe, args.backbone_dir)) as pool:
            counts = {
                split: encode_split(pairs, pool, symbols, args, text / split) for split, (pairs, _) in splits.items()
            }
        for split, (_, empty) in splits.items():
            counts[split]["empty"] += empty
        dictionary = args.backbone_dir / "dict.txt"
        binarise(text, folder, ("source", "target"), (dictionary, dictionary), args.workers)
        shutil.rmtree(text)
        for split in ("valid", "test"):
            write_lines(folder / f"{split}.document.txt", (pair.document for pair in splits[split][0]))
            write_lines(folder / f"{split}.summary.txt", (pair.summary for pair in splits[split][0]))
        for name in BPE_FILES[args.bpe].values():
            shutil.copyfile(args.backbone_dir / name, folder / name)
        write_json(folder / "prepare.json", {"settings": settings(args), "splits": counts})
    return counts


def parse_arguments(argv: list[str] | None) -> argparse.Namespace:
    parser = Parser(__doc__)
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
    with one_line_errors():
        counts = prepare(args)
    for split, count in counts.items():
        print(
            f"{split}: {count['examples']} examples, {count['source_truncated']} documents cut at {args.max_source} "
            f"tokens, {count['target_truncated']} summaries at {args.max_target}, "
            f"{count['unknown_share']:.2%} of the tokens unknown"
            + (f", {count['empty']} examples with an empty side left out" if count["empty"] else "")
        )
    print(f"wrote {args.data}")


if __name__ == "__main__":
    exit_when_terminated()
    main()
