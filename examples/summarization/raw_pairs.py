"""Raw summarisation data: documents and their summaries, as ``.jsonl``, ``.jsonl.gz`` or line files."""

import json
import sys
from pathlib import Path
from typing import NamedTuple

sys.path.append(str(Path(__file__).parents[1]))  # examples, for preparation

from preparation import DataError, read_lines  # noqa: E402


class Pair(NamedTuple):
    document: str
    summary: str
    where: str  # file and line, for messages


def one_line(text: str, what: str, where: str) -> str:
    """``text`` with every run of white space made one space."""
    text = " ".join(text.split())
    if any("\ud800" <= character <= "\udfff" for character in text):
        raise DataError(f"{where}: the {what} has half a surrogate pair, which is not text; correct it")
    return text


def parse_json(line: str, where: str) -> Pair:
    """One line of a ``.jsonl`` file."""
    try:
        record = json.loads(line)
    except (json.JSONDecodeError, RecursionError) as error:
        raise DataError(f"{where}: not valid JSON ({error}); put one object on each line") from error
    if not isinstance(record, dict):
        raise DataError(f"{where}: not a JSON object; each line needs the fields document and summary")
    texts = []
    for field in ("document", "summary"):
        if not isinstance(record.get(field), str):
            problem = "is not a string" if field in record else "is missing"
            raise DataError(f"{where}: the field {field!r} {problem}; each line needs document and summary")
        texts.append(one_line(record[field], field, where))
    return Pair(*texts, where)


def read_split(raw: Path, split: str, limit: int | None) -> tuple[list[Pair], int]:
    """The examples of a split, the first ``limit`` of them, and how many of the training set were left out because a
    side is empty, as some of XSum's documents are.

    Raises:
        DataError: a file is missing or spoiled, or an example of another split has an empty side.
    """
    pairs = _read_pairs(raw, split, limit)
    full = [pair for pair in pairs if pair.document and pair.summary]
    if (empty := len(pairs) - len(full)) and split != "train":
        first = next(pair for pair in pairs if not (pair.document and pair.summary))
        side = "summary" if first.document else "document"
        also = f", as a side of {empty - 1} more examples" if empty > 1 else ""
        raise DataError(f"{first.where}: the {side} is empty{also}; fill it in or remove the example")
    if not full:
        raise DataError(f"{raw}: no example of {split} has both a document and a summary")
    return full, empty


def _read_pairs(raw: Path, split: str, limit: int | None) -> list[Pair]:
    """In whichever form ``raw`` holds them."""
    source, target = raw / f"{split}.source", raw / f"{split}.target"
    found = [p for p in (raw / f"{split}.jsonl", raw / f"{split}.jsonl.gz", source, target) if p.exists()]
    if not found:
        raise DataError(f"{raw}: no {split} split; it needs {split}.jsonl, {split}.jsonl.gz or {split}.source+.target")
    if found == [source, target]:
        documents, summaries = read_lines(source), read_lines(target)
        if len(documents) != len(summaries):
            raise DataError(
                f"{source} has {len(documents)} lines and {target} has {len(summaries)}; "
                "line N of one must belong to line N of the other"
            )
        lines = enumerate(zip(documents[:limit], summaries[:limit], strict=True), start=1)
        return [
            Pair(
                one_line(document, "document", f"{source}, line {number}"),
                one_line(summary, "summary", f"{target}, line {number}"),
                f"{source} and {target.name}, line {number}",
            )
            for number, (document, summary) in lines
        ]
    if len(found) > 1:
        raise DataError(f"{raw} holds {' and '.join(path.name for path in found)}; keep one form of each split")
    if found[0] in (source, target):
        absent = target if found[0] == source else source
        raise DataError(f"{absent} is missing; {found[0].name} alone is only half of each example")
    lines = read_lines(found[0])[:limit]
    return [parse_json(line, f"{found[0]}, line {number}") for number, line in enumerate(lines, start=1)]
