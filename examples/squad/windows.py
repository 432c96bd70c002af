"""SQuAD v1.1 to windows: the official JSON, checked; tokens with their characters; windows and where answers lie.

As in BERT (Devlin et al. 2019, run_squad.py): a context that is too long is cut into windows that begin ``stride``
tokens apart, each with the whole question, and a window that does not hold the whole answer points to position 0.
"""

import gzip
import json
import sys
import unicodedata
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from tokenizers import Tokenizer, models, pre_tokenizers, processors

sys.path.append(str(Path(__file__).parents[1]))  # examples, for preparation

from preparation import BPE_FILES, WORDPIECE_FILE, DataError, load_wordpiece  # noqa: E402


class Example(NamedTuple):
    """A question. An answer is its text and where the file says that it begins in the context."""

    id: str
    question: str
    context: str
    answers: tuple[tuple[str, int], ...]

    def found(self) -> list[tuple[int, int]]:
        """Start and end of the answers that are where the file says."""
        spans = [(start, start + len(text), text) for text, start in self.answers if text and start >= 0]
        return [(start, end) for start, end, text in spans if self.context[start:end] == text]


class Text(NamedTuple):
    """Symbols of the dictionary, and the start and end of each in the characters of the text."""

    symbols: list[str]
    chars: list[tuple[int, int]]

    def span(self, start: int, end: int) -> tuple[int, int]:
        """First and last token of the characters ``start`` to ``end``; a token that they cut is in it as a whole.

        Raises:
            LookupError: nothing of the characters is left in the tokens.
        """
        inside = [i for i, (first, last) in enumerate(self.chars) if last > start and first < end]
        if not inside:
            raise LookupError
        return inside[0], inside[-1]


class Window(NamedTuple):
    """Tokens ``first`` to ``last`` (exclusive) of a context, behind ``before`` other symbols."""

    first: int
    last: int
    before: int

    def target(self, span: tuple[int, int] | None) -> tuple[int, int]:
        """Positions in the window of the first and last token of the answer, or 0 and 0."""
        if span is None or span[0] < self.first or span[1] >= self.last:
            return 0, 0
        return tuple(self.before + token - self.first for token in span)


@dataclass
class Encoder:
    """Text to tokens.

    Args:
        tokenizer: without special tokens.
        by_index: whether the dictionary's symbols are the tokenizer's indices (GPT-2 BPE) or its tokens.
        separators: how many stand between question and context.
    """

    tokenizer: Tokenizer
    by_index: bool
    separators: int

    def encode(self, text: str) -> Text:
        encoding = self.tokenizer.encode(text, add_special_tokens=False)
        if not encoding.tokens:
            return Text([], [])
        chars, following = encoding.offsets, [start for start, _ in encoding.offsets[1:]] + [len(text)]
        for i, next_start in enumerate(following):
            start, end = chars[i]
            # Without accents, e and a combining accent are e, which leaves the accent to no token; so do other marks,
            # as vowels of Thai, and what is not seen.
            while end < next_start and unicodedata.category(text[end]) in ("Mn", "Cf"):
                end += 1
            # No answer ends in what is not seen, which the official normalisation does not remove.
            while end > chars[i][1] and unicodedata.category(text[end - 1]) == "Cf":
                end -= 1
            chars[i] = start, end
        return Text([str(i) for i in encoding.ids] if self.by_index else encoding.tokens, chars)


def load_encoder(folder: Path) -> Encoder:
    """The tokenizer in ``folder``: WordPiece (BERT) or GPT-2's BPE (RoBERTa).

    Raises:
        DataError: there is none, or it cannot be read.
    """
    try:
        if (folder / WORDPIECE_FILE).is_file():
            return Encoder(load_wordpiece(folder), by_index=False, separators=1)
        files = [folder / name for name in BPE_FILES["gpt2"].values()]
        if all(file.is_file() for file in files):
            tokenizer = Tokenizer(models.BPE.from_file(*map(str, files)))
            tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
            tokenizer.post_processor = processors.ByteLevel(add_prefix_space=False, trim_offsets=True)
            return Encoder(tokenizer, by_index=True, separators=2)
    except Exception as error:  # the library raises Exception itself
        raise DataError(f"{folder}: the tokenizer cannot be read ({error}); convert the model again") from error
    raise DataError(
        f"BACKBONE_DIR {folder} has no tokenizer that says where its tokens come from: neither vocab.txt nor "
        "encoder.json and vocab.bpe; sparse-adapter convert writes them"
    )


def cut(context: int, question: int, separators: int, max_length: int, stride: int) -> Iterator[Window]:
    """The windows of a context of that many tokens. Each token is in at least one; there is at least one window."""
    before = 1 + question + separators
    room = max_length - before - 1
    first = 0
    while True:
        last = min(first + room, context)
        yield Window(first, last, before)
        if last == context:
            return
        first += min(stride, room)


def read_squad(path: Path, answered: bool = True) -> list[Example]:
    """The questions of a SQuAD v1.1 file, plain or gzipped.

    Args:
        answered: whether each has to have an answer; otherwise, answers are ignored.

    Raises:
        DataError: the file cannot be read, or is something else.
    """
    try:
        data = path.read_bytes()
        root = json.loads(gzip.decompress(data) if data[:2] == b"\x1f\x8b" else data)
    except (OSError, EOFError, zlib.error) as error:
        raise DataError(f"{path} cannot be read ({error})") from error
    except (ValueError, RecursionError) as error:
        raise DataError(f"{path} is not JSON ({error})") from error
    examples, seen = [], set()
    for a, article in enumerate(_list(root, "data", f"{path}")):
        for p, paragraph in enumerate(_list(article, "paragraphs", f"{path}: data[{a}]")):
            where = f"{path}: data[{a}].paragraphs[{p}]"
            context = _get(paragraph, "context", str, where)
            for q, qa in enumerate(_list(paragraph, "qas", where)):
                example = _example(qa, context, f"{where}.qas[{q}]", answered)
                if example.id in seen:
                    raise DataError(f"{where}.qas[{q}]: the id {example.id!r} was there before; ids must be unique")
                seen.add(example.id)
                examples.append(example)
    if not examples:
        raise DataError(f"{path} has no questions")
    return examples


def _example(qa: object, context: str, where: str, answered: bool) -> Example:
    answers = _list(qa, "answers", where) if answered else []
    if answered and not answers:
        raise DataError(f"{where}: a question without answers; SQuAD v1.1 has none (v2.0 has)")
    texts = [
        (_get(answer, "text", str, f"{where}.answers[{i}]"), _get(answer, "answer_start", int, f"{where}.answers[{i}]"))
        for i, answer in enumerate(answers)
    ]
    return Example(_get(qa, "id", str, where), _get(qa, "question", str, where), context, tuple(texts))


def _list(record: object, name: str, where: str) -> list:
    return _get(record, name, list, where)


def _get(record: object, name: str, kind: type, where: str):
    value = record.get(name) if isinstance(record, dict) else None
    if not isinstance(value, kind) or isinstance(value, bool):
        what = {list: "list", str: "string", int: "whole number"}[kind]
        raise DataError(f"{where} has no {what} {name!r}: not a SQuAD v1.1 file")
    if kind is str and any("\ud800" <= character <= "\udfff" for character in value):
        raise DataError(f"{where}: {name!r} has half a surrogate pair, which is not text; correct it")
    return value
