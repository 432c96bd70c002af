"""What fairseq-generate wrote: the hypotheses in the order of the references. For the examples' ``score.py``."""

import json
import os
import re
from pathlib import Path

_GENERATED = re.compile(r"D-(\d+)\t[^\t]*\t(.*)", re.DOTALL)


class ScoreError(ValueError):
    """Hypotheses and references do not belong together, or one is missing."""


def generated(log: Path, count: int) -> list[str]:
    """The best hypothesis of each of ``count`` examples, in order, from the output of fairseq-generate.

    Raises:
        ScoreError: an example has no hypothesis, or the log has more examples.
    """
    try:
        text = log.read_text(encoding="utf-8")
    except FileNotFoundError as error:
        raise ScoreError(f"{log} is missing; evaluate.sh writes it") from error
    found: dict[int, str] = {}
    # fairseq prints a P- line after each hypothesis, which byte-level BPE may have given line breaks.
    for block in re.findall(r"^D-\d+\t.*?(?=^P-\d+\t)", text, re.DOTALL | re.MULTILINE):
        index, hypothesis = _GENERATED.match(block).groups()
        found.setdefault(int(index), " ".join(hypothesis.split()))
    absent = [index for index in range(count) if index not in found]
    extra = sorted(index for index in found if index >= count)
    if absent or extra:
        problem = f"no hypothesis for {_listed(absent)}" if absent else f"no reference for {_listed(extra)}"
        raise ScoreError(
            f"{log} has {len(found)} hypotheses for {count} references: {problem} (numbered from 0); "
            "generate again over the whole subset"
        )
    return [found[index] for index in range(count)]


def read_lines(path: Path) -> list[str]:
    """The references, or other text that prepare.sh kept."""
    try:
        return path.read_text(encoding="utf-8").removesuffix("\n").split("\n")
    except FileNotFoundError as error:
        raise ScoreError(f"{path} is missing; prepare.sh writes it for valid and test") from error


def write_scores(save_dir: Path, subset: str, hypotheses: list[str], scores: dict) -> None:
    """``hypotheses.txt`` and ``scores.json``; of another subset than test, its name is in theirs."""
    suffix = "" if subset == "test" else f"-{subset}"
    write(save_dir / f"hypotheses{suffix}.txt", "".join(line + "\n" for line in hypotheses))
    write(save_dir / f"scores{suffix}.json", json.dumps(scores, indent=1) + "\n")


def write(path: Path, text: str) -> None:
    """All of the file or nothing."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f"{path.name}.{os.getpid()}.tmp")
    temporary.write_text(text, encoding="utf-8", newline="\n")
    os.replace(temporary, path)


def _listed(ids: list[int], shown: int = 10) -> str:
    return ", ".join(map(str, ids[:shown])) + (f" and {len(ids) - shown} more" if len(ids) > shown else "")
