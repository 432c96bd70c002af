#!/usr/bin/env python3
"""Debian's package descriptions, and image captions, as the parallel text of the worked example.

    python debian_pairs.py --debian en-de.tsv.gz --out text/software
    python debian_pairs.py --debian en-de.tsv.gz --captions multi30k --out text/general

With ``--captions`` the training text is that of Multi30k followed by every second package of Debian's training split,
and validation and test are Multi30k's: what a general model would have seen. Without, it is Debian's alone. The
splits are those of the table's first column.
"""

import sys
from hashlib import md5
from pathlib import Path

sys.path.append(str(Path(__file__).parents[1]))  # examples, for preparation

from preparation import DataError, Parser, at_least, one_line_errors, read_lines, write_lines  # noqa: E402

LANGUAGES = ("en", "de")
CAPTIONS = {"train": "train", "valid": "val", "test": "test_2016_flickr"}

Pairs = dict[str, list[tuple[str, str]]]  # (English, German) by split


def debian(path: Path, part: int = 1) -> Pairs:
    """Pairs of the packages whose name's MD5 is divisible by ``part``; 1 takes all."""
    pairs: Pairs = {split: [] for split in CAPTIONS}
    for number, line in enumerate(read_lines(path), start=1):
        columns = line.split("\t")
        if len(columns) != 4 or columns[0] not in pairs:
            raise DataError(f"{path}, line {number}: not split, package, English and German with tabs between them")
        split, package, *pair = columns
        if int(md5(package.encode()).hexdigest(), 16) % part == 0:
            pairs[split].append((pair[0], pair[1]))
    return pairs


def captions(folder: Path) -> Pairs:
    return {
        split: list(zip(*(read_lines(folder / f"{name}.{language}.gz") for language in LANGUAGES), strict=True))
        for split, name in CAPTIONS.items()
    }


def main(argv: list[str] | None = None) -> None:
    parser = Parser(__doc__)
    parser.add_argument("--debian", type=Path, required=True, help="en-de.tsv.gz")
    parser.add_argument("--captions", type=Path, help="folder of Multi30k, task 1, raw")
    parser.add_argument("--out", type=Path, required=True, help="folder to write")
    parser.add_argument("--limit", type=at_least(1), help="keep the first N training pairs of each source")
    parser.add_argument("--limit-test", type=at_least(1), help="keep the first N pairs of validation and test")
    args = parser.parse_args(argv)
    with one_line_errors():
        limits = {"train": args.limit, "valid": args.limit_test, "test": args.limit_test}
        pairs = debian(args.debian, part=2 if args.captions else 1)
        pairs = {split: rows[: limits[split]] for split, rows in pairs.items()}
        if args.captions:
            general = {split: rows[: limits[split]] for split, rows in captions(args.captions).items()}
            pairs = general | {"train": general["train"] + pairs["train"]}
        args.out.mkdir(parents=True, exist_ok=True)
        for split, rows in pairs.items():
            for column, language in enumerate(LANGUAGES):
                write_lines(args.out / f"{split}.{language}", (row[column] for row in rows))


if __name__ == "__main__":
    main()
