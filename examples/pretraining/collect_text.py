#!/usr/bin/env python3
"""Collect the English pretraining text of ``bart_mini``: one document per line, train and valid.

Docstrings of training modules, Debian package descriptions (split ``train``), SQuAD training contexts, XSum ``train``
and ``extra``, whose split is unknown; examples of XSum's valid and test files in --data are left out. One line in a
hundred is set apart to watch the pretraining loss. Most documents are short; a quarter of them is joined into lines of
up to MAX_WORDS words, so that all positions are trained.
"""

import argparse
import gzip
import hashlib
import json
from collections.abc import Iterable, Iterator
from pathlib import Path

MAX_WORDS = 320  # about 500 pieces, the positions bart_mini has


def json_lines(path: Path) -> Iterator[dict]:
    with gzip.open(path, "rt", encoding="utf-8") as file:
        yield from map(json.loads, file)


def debian(data: Path) -> Iterator[str]:
    for row in json_lines(data / "debian_descriptions" / "description_to_synopsis.jsonl.gz"):
        if row["split"] == "train":
            yield f"{row['summary']} {row['document']}"


def squad(data: Path) -> Iterator[str]:
    with gzip.open(data / "squad" / "train-v1.1-first44articles.json.gz", "rt", encoding="utf-8") as file:
        for article in json.load(file)["data"]:
            for paragraph in article["paragraphs"]:
                yield paragraph["context"]


def xsum(data: Path) -> Iterator[str]:
    held_out = {
        row[field].strip().lower()
        for split in ("valid", "test")
        for row in json_lines(data / "xsum" / f"{split}.jsonl.gz")
        for field in ("document", "summary")
    }
    for split in ("train", "extra"):
        for row in json_lines(data / "xsum" / f"{split}.jsonl.gz"):
            if held_out.isdisjoint({row["document"].strip().lower(), row["summary"].strip().lower()}):
                yield f"{row['summary']} {row['document']}"


def pieces(document: str) -> Iterator[str]:
    """The document in stretches of at most MAX_WORDS words, cut at the end of a sentence where one is near."""
    words = document.split()
    while words:
        cut = min(MAX_WORDS, len(words))
        if cut < len(words):
            ends = [i + 1 for i in range(cut // 2, cut) if words[i].endswith((".", "!", "?"))]
            cut = ends[-1] if ends else cut
        yield " ".join(words[:cut])
        words = words[cut:]


def bundled(documents: Iterable[str]) -> Iterator[str]:
    """Distinct pieces, one in four (by hash) joined with others of its kind."""
    seen: set[bytes] = set()
    bundle: list[str] = []
    for piece in (piece for document in documents for piece in pieces(document)):
        digest = hashlib.md5(piece.encode()).digest()
        if digest in seen or len(piece.split()) < 8:
            continue
        seen.add(digest)
        if digest[0] >= 64:
            yield piece
        elif sum(len(part.split()) for part in bundle) + len(piece.split()) > MAX_WORDS:
            yield " ".join(bundle)
            bundle = [piece]
        else:
            bundle.append(piece)
    if bundle:
        yield " ".join(bundle)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--docstrings", type=Path, required=True, help="text of scripts/docstring_corpus.py")
    parser.add_argument("--data", type=Path, required=True, help="folder with xsum, squad, debian_descriptions")
    parser.add_argument("--out", type=Path, required=True, help="folder for train.txt and valid.txt")
    args = parser.parse_args()

    sources = {
        "docstrings": args.docstrings.read_text(encoding="utf-8").splitlines(),
        "debian": debian(args.data),
        "squad": squad(args.data),
        "xsum": xsum(args.data),
    }
    args.out.mkdir(parents=True, exist_ok=True)
    with (args.out / "train.txt").open("w") as train, (args.out / "valid.txt").open("w") as valid:
        for name, documents in sources.items():
            words = 0
            for line in bundled(documents):
                words += len(line.split())
                held_out = int(hashlib.md5(line.encode()).hexdigest(), 16) % 100 == 0
                (valid if held_out else train).write(line + "\n")
            print(f"{name}: {words} words")


if __name__ == "__main__":
    main()
