#!/usr/bin/env python3
"""Build a real summarisation corpus from what every installation has: documentation -> one line.

The docstrings of the standard library and of the packages this project depends on are read from
their source files (parsed, never imported). The first paragraph is the summary, the rest up to the
examples is the document. Modules, not docstrings, are divided into train, valid and test, so that no
module is seen on both sides; duplicates are removed over the whole corpus.

    python scripts/docstring_corpus.py data-bin/docstrings/raw
    python scripts/docstring_corpus.py data-bin/docstrings/raw --text train.txt   # for pretraining
"""

import argparse
import ast
import hashlib
import inspect
import json
import os
import re
import sys
import sysconfig
import tempfile
import warnings
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import NamedTuple

from tqdm import tqdm

# The dependency closure of this project: every installation has these, whatever else it has.
PACKAGES = (
    "absl", "fairseq", "fsspec", "hydra", "jinja2", "joblib", "mpmath", "networkx", "nltk", "numpy",
    "omegaconf", "packaging", "pip", "sacrebleu", "scipy", "sentencepiece", "setuptools", "sklearn",
    "sympy", "torch", "torchaudio", "torchgen", "tqdm", "yaml",
)  # fmt: skip
SKIPPED_FOLDERS = {"test", "tests", "testing", "idlelib", "site-packages", "__pycache__", "_vendor"}
DOCUMENT_WORDS = (20, 400)
SUMMARY_WORDS = (4, 30)
SPLITS = {"test": range(0, 5), "valid": range(5, 8), "train": range(8, 100)}  # percent of modules


class Docstring(NamedTuple):
    module: str
    name: str
    text: str


class Pair(NamedTuple):
    id: str
    document: str
    summary: str


def source_files(packages: Iterable[str]) -> list[tuple[str, Path]]:
    """``(module name, path)`` of each Python file of the standard library and of ``packages``."""
    purelib = Path(sysconfig.get_path("purelib"))
    stdlib = Path(sysconfig.get_path("stdlib"))
    folders = [(stdlib, stdlib)] + [(purelib / name, purelib) for name in packages]
    files = []
    for folder, root in folders:
        if not folder.is_dir():
            print(f"docstring_corpus: {folder.name} is not installed, left out", file=sys.stderr)
        for path in folder.rglob("*.py"):
            parts = path.relative_to(root).with_suffix("").parts
            if SKIPPED_FOLDERS.isdisjoint(parts) and not parts[-1].startswith("test_"):
                files.append((".".join(parts).removesuffix(".__init__"), path))
    return sorted(files)


def docstrings(module: str, source: str) -> Iterator[Docstring]:
    """Each docstring of one source text, cleaned of its indentation."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # invalid escapes in other people's code
        try:
            tree = ast.parse(source)
        except SyntaxError:
            return
    for node in ast.walk(tree):
        if isinstance(node, (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)):
            text = ast.get_docstring(node, clean=False)
            if text:
                yield Docstring(module, getattr(node, "name", ""), inspect.cleandoc(text))


def without_examples(text: str) -> str:
    """The prose of a docstring: up to the first example, without section underlines."""
    lines = []
    for line in text.splitlines():
        stripped = line.strip()
        if stripped.startswith((">>>", "In [1]")) or re.fullmatch(r"Examples?:{0,2}", stripped):
            break
        if not re.fullmatch(r"[-=~*^+_#]{3,}", stripped):
            lines.append(line)
    return "\n".join(lines)


def one_line(text: str) -> str:
    return " ".join(text.split())


def to_pair(docstring: Docstring) -> Pair | None:
    """Document and summary of a docstring, or None where it has none of a usable length."""
    summary, _, document = without_examples(docstring.text).partition("\n\n")
    summary, document = one_line(summary), one_line(document)
    if not DOCUMENT_WORDS[0] <= len(document.split()) <= DOCUMENT_WORDS[1]:
        return None
    if not SUMMARY_WORDS[0] <= len(summary.split()) <= SUMMARY_WORDS[1]:
        return None
    if not summary[0].isalpha() or "::" in summary or summary.count("(") > 2:
        return None  # a signature or a directive, not a sentence
    return Pair(f"{docstring.module}:{docstring.name}", document, summary)


def split_of(module: str) -> str:
    """The split a module belongs to, by the hash of its name."""
    percent = int(hashlib.md5(module.encode()).hexdigest(), 16) % 100
    return next(split for split, percents in SPLITS.items() if percent in percents)


def read_docstrings(packages: Iterable[str]) -> list[Docstring]:
    found = []
    for module, path in tqdm(source_files(packages), desc="reading docstrings", unit="file", mininterval=1):
        found.extend(docstrings(module, path.read_text(encoding="utf-8", errors="ignore")))
    return found


def build_pairs(found: Iterable[Docstring]) -> dict[str, list[Pair]]:
    """Pairs by split. A document or a summary that came before, in any split, is left out."""
    splits: dict[str, list[Pair]] = {split: [] for split in SPLITS}
    seen: set[str] = set()
    # Train last: where train and test share a docstring, test keeps it and train never sees it.
    order = {split: i for i, split in enumerate(SPLITS)}
    for docstring in sorted(found, key=lambda d: order[split_of(d.module)]):
        pair = to_pair(docstring)
        if pair and seen.isdisjoint({pair.document.lower(), pair.summary.lower()}):
            seen |= {pair.document.lower(), pair.summary.lower()}
            splits[split_of(docstring.module)].append(pair)
    for pairs in splits.values():  # a prefix of a split is then a fair sample of it
        pairs.sort(key=lambda pair: hashlib.md5(pair.id.encode()).hexdigest())
    return splits


def training_texts(found: Iterable[Docstring], held_out: Iterable[Pair]) -> list[str]:
    """One line per distinct docstring of the training modules; held-out documents never occur."""
    banned = {text.lower() for pair in held_out for text in (pair.document, pair.summary)}
    texts = {}
    for docstring in found:
        if split_of(docstring.module) == "train":
            summary, _, rest = without_examples(docstring.text).partition("\n\n")
            if banned.isdisjoint({one_line(summary).lower(), one_line(rest).lower()}):
                texts[one_line(f"{summary} {rest}")] = None
    return list(texts)


def write_lines(path: Path, lines: Iterable[str]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.NamedTemporaryFile("w", encoding="utf-8", dir=path.parent, delete=False) as file:
        file.writelines(line + "\n" for line in lines)
    os.chmod(file.name, 0o644)
    os.replace(file.name, path)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path, help="folder for train.jsonl, valid.jsonl and test.jsonl, which are replaced")
    parser.add_argument("--packages", nargs="+", default=PACKAGES, help="to read (default: what this project needs)")
    parser.add_argument("--text", type=Path, help="also write all docstrings of the training modules to this file")
    args = parser.parse_args()
    if args.out.is_file():
        parser.error(f"{args.out} is a file, and a folder is needed")

    found = read_docstrings(args.packages)
    splits = build_pairs(found)
    for split, pairs in splits.items():
        write_lines(args.out / f"{split}.jsonl", (json.dumps(pair._asdict()) for pair in pairs))
        print(f"{split}: {len(pairs)} pairs")
    if args.text:
        texts = training_texts(found, splits["valid"] + splits["test"])
        write_lines(args.text, texts)
        print(f"text: {len(texts)} docstrings of training modules")


if __name__ == "__main__":
    main()
