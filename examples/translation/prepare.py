#!/usr/bin/env python3
"""Turn parallel text into fairseq's binary form: read, check, encode, binarise.

Everything is read and checked before anything is written, and the output folder appears, or replaces the former one,
only when it is complete. ``prepare.sh`` documents the settings.
"""

import argparse
import shutil
import sys
from pathlib import Path

from tqdm import tqdm

sys.path.append(str(Path(__file__).parents[1]))  # examples, for preparation

from pieces import KINDS, SENTENCEPIECE, bpe_files, copy_backbone, find_kind, learn, load_encoders  # noqa: E402
from preparation import (  # noqa: E402
    SPLITS,
    DataError,
    Parser,
    at_least,
    binarise,
    check_output,
    exit_when_terminated,
    one_line_errors,
    quiet,
    read_lines,
    settings,
    unknown_share,
    write_lines,
)

REMEDY = "the BPE must be the backbone's"

Text = dict[str, list[str]]  # sentences by language


def read_split(raw: Path, split: str, languages: tuple[str, str]) -> tuple[Text, int]:
    """Sentences by language, line N of one the translation of line N of the other, and how many pairs of the training
    set were left out because a side is empty.

    Raises:
        DataError: a file is missing, a line of another split is empty, or the numbers of lines differ.
    """
    text = {}
    for language in languages:
        found = [path for path in (raw / f"{split}.{language}", raw / f"{split}.{language}.gz") if path.is_file()]
        if not found:
            raise DataError(f"{raw / f'{split}.{language}'}: there is no such file, nor {split}.{language}.gz")
        text[language] = [" ".join(line.split()) for line in read_lines(found[0])]
    counts = {language: len(lines) for language, lines in text.items()}
    if len(set(counts.values())) > 1:
        listed = " and ".join(f"{split}.{language} {count}" for language, count in counts.items())
        raise DataError(f"{raw}: unequal numbers of lines, {listed}; line N of one must translate line N of the other")
    pairs = list(zip(*text.values(), strict=True))
    full = [pair for pair in pairs if all(pair)]
    if (empty := len(pairs) - len(full)) and split != "train":
        first = next(number for number, pair in enumerate(pairs, start=1) if not all(pair))
        raise DataError(
            f"{raw}: {empty} of the {len(pairs)} pairs of {split} have an empty side, first line {first}: fill them "
            "in, or remove them from both languages"
        )
    if not full:
        raise DataError(f"{raw}: {split} has no pair with two sides")
    return dict(zip(text, map(list, zip(*full, strict=True)), strict=True)), empty


def encode(split: str, text: Text, encoders: dict, longest: int | None) -> tuple[Text, int, int]:
    """Pieces by language, a sentence's with spaces between, and how many pairs were left out because a side has more
    than ``longest``, and how many of the training set because the BPE leaves nothing of one.

    Raises:
        DataError: no pair is left, or nothing of a line of another split.
    """
    encoded = {}
    for language, lines in text.items():
        progress = tqdm(lines, f"{split}.{language}", mininterval=2)
        encoded[language] = [" ".join(encoders[language](line)) for line in progress]  # lists would take ten times more
    pairs = list(zip(*encoded.values(), strict=True))
    full = [pair for pair in pairs if all(pair)]
    if (empty := len(pairs) - len(full)) and split != "train":
        first = next(number for number, pair in enumerate(pairs, start=1) if not all(pair))
        raise DataError(f"{split}, line {first}: nothing of a side is left after BPE; remove the pair")
    kept = [pair for pair in full if longest is None or max(len(side.split()) for side in pair) <= longest]
    if not kept:
        raise DataError(f"no {split} pair has at most {longest} pieces; set a larger MAX_LENGTH")
    return dict(zip(encoded, map(list, zip(*kept, strict=True)), strict=True)), len(full) - len(kept), empty


def count_pieces(sentences: list[str], dictionary: Path) -> tuple[int, int]:
    """How many there are, and how many of them the dictionary lacks."""
    symbols = {line.rpartition(" ")[0] for line in read_lines(dictionary)}
    number = unknown = 0
    for sentence in sentences:
        pieces = sentence.split()
        number, unknown = number + len(pieces), unknown + sum(piece not in symbols for piece in pieces)
    return number, unknown


def check_settings(args: argparse.Namespace) -> None:
    """Refuse what cannot work before anything is read, and find out the kind of BPE."""
    if args.source == args.target:
        raise DataError(f"SRC and TGT are both {args.source}")
    for name, folder in (("RAW", args.raw), ("BACKBONE_DIR", args.backbone_dir)):
        if folder is not None and not folder.is_dir():
            raise DataError(f"{name} {folder}: there is no such folder")
    for language in (args.source, args.target):
        if args.langs and language not in args.langs.split(","):
            raise DataError(f"language {language} is not one of LANGS: {args.langs}")
    if args.backbone_dir is None and args.bpe not in (None, SENTENCEPIECE):
        raise DataError(f"BPE={args.bpe} is a backbone's own: set BACKBONE_DIR. Without it, SentencePiece is learned")
    if args.bpe is None:
        languages = (args.source, args.target)
        args.bpe = find_kind(args.backbone_dir, languages) if args.backbone_dir else SENTENCEPIECE
    if args.tokenizer and args.bpe == SENTENCEPIECE:
        raise DataError(f"TOKENIZER={args.tokenizer} is for BPEs that want tokenised text, and SentencePiece does not")
    check_output(args.data, args.raw, *([args.backbone_dir] if args.backbone_dir else []))


def prepare(args: argparse.Namespace) -> dict:
    """Read, check, encode and binarise; returns the counts of each split."""
    check_settings(args)
    languages = (args.source, args.target)
    splits = {split: read_split(args.raw, split, languages) for split in SPLITS}
    with quiet():
        from sparse_adapter.files import folder_at_once, write_json
    counts = {}
    with folder_at_once(args.data) as folder:
        text = folder / "text"
        text.mkdir()
        if args.backbone_dir:
            copy_backbone(args.backbone_dir, text, languages, args.bpe)
        else:
            learn(splits["train"][0], args.vocabulary, args.separate, text)
        encoders = load_encoders(text, languages, args.bpe, args.tokenizer)
        for split, (sentences, empty) in splits.items():
            longest = args.max_length if split == "train" else None
            pieces, left_out, vanished = encode(split, sentences, encoders, longest)
            counts[split] = {"pairs": len(pieces[args.source]), "left_out": left_out, "empty": empty + vanished}
            for language in languages:
                dictionary = text / f"dict.{language}.txt"
                number, unknown = count_pieces(pieces[language], dictionary)
                share = unknown_share(unknown, number, f"{split}.{language}", dictionary, REMEDY)
                counts[split] |= {f"{language}_pieces": number, f"{language}_unknown_share": share}
                write_lines(text / f"{split}.{language}", pieces[language])
                if split != "train":
                    write_lines(folder / f"{split}.{language}", sentences[language])
        dictionaries = tuple(text / f"dict.{language}.txt" for language in languages)
        binarise(text, folder, languages, dictionaries, args.workers)
        for file in bpe_files(text, args.bpe):
            shutil.move(file, folder / file.name)
        shutil.rmtree(text)
        write_json(folder / "prepare.json", {"settings": settings(args), "splits": counts})
    return counts


def parse_arguments(argv: list[str] | None) -> argparse.Namespace:
    parser = Parser(__doc__)
    parser.add_argument("--source", required=True, help="language")
    parser.add_argument("--target", required=True, help="language")
    parser.add_argument("--raw", type=Path, required=True, help="folder with train, valid and test")
    parser.add_argument("--data", type=Path, required=True, help="folder to write")
    parser.add_argument("--backbone-dir", type=Path, help="folder with dictionary and BPE")
    parser.add_argument("--bpe", choices=KINDS, help="of the backbone (default: by its files)")
    parser.add_argument("--tokenizer", choices=("moses",), help="of the backbone, before its BPE (default: none)")
    parser.add_argument("--langs", default="", help="languages of mBART, whose symbols follow its dictionary")
    parser.add_argument("--vocabulary", type=at_least(32), default=8000, help="pieces to learn")
    parser.add_argument("--separate", action="store_true", help="learn one vocabulary for each language")
    parser.add_argument("--max-length", type=at_least(1), default=250, help="pieces of a training sentence")
    parser.add_argument("--workers", type=at_least(1), default=2, help="processes")
    args = parser.parse_args(argv)
    args.data = args.data.resolve()
    return args


def main(argv: list[str] | None = None) -> None:
    args = parse_arguments(argv)
    with one_line_errors():
        counts = prepare(args)
    for split, count in counts.items():
        source, target = count[f"{args.source}_pieces"], count[f"{args.target}_pieces"]
        left_out = f", {count['left_out']} longer ones left out" if count["left_out"] else ""
        left_out += f", {count['empty']} with an empty side left out" if count["empty"] else ""
        print(f"{split}: {count['pairs']} pairs, {source} and {target} pieces{left_out}")
    print(f"wrote {args.data}")


if __name__ == "__main__":
    exit_when_terminated()
    main()
