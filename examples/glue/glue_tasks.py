"""The nine tasks of GLUE in their original TSV layout, and tasks of one's own: columns, labels, metrics."""

import dataclasses
import difflib
import math
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

sys.path.append(str(Path(__file__).parents[1]))  # examples, for preparation

from preparation import DataError, read_lines  # noqa: E402


class Example(NamedTuple):
    texts: tuple[str, ...]  # one sentence, or two
    label: str
    where: str  # file and line, for messages


@dataclass(frozen=True)
class Task:
    """One task.

    Args:
        folder: where it lies in GLUE_DIR, which is its name if it is one of one's own.
        texts: columns of the sentences, by their name in the header or, where there is none, by number.
        label: column of the label, likewise.
        labels: what a label can be, in the order of the classes; empty where it is a score.
        metrics: what is reported, the first being the task's own.
        dev: the dev files and the names that fairseq gives the sets.
        columns: how many there are where no header says so.
        broken_rows: whether the published files have rows that lack columns or a sentence, which everyone leaves out.
        scores: the least and the highest score.
    """

    folder: str
    texts: tuple[str | int, ...]
    label: str | int
    labels: tuple[str, ...]
    metrics: tuple[str, ...] = ("accuracy",)
    dev: dict[str, str] = field(default_factory=lambda: {"valid": "dev"})
    columns: int | None = None
    broken_rows: bool = False
    scores: tuple[float, float] = (-math.inf, math.inf)

    @property
    def regression(self) -> bool:
        return not self.labels


NLI = ("entailment", "not_entailment")
PAIR = ("sentence1", "sentence2")
CORRELATIONS = ("pearson", "spearman")
TASKS = {
    "cola": Task("CoLA", (3,), 1, ("0", "1"), metrics=("matthews",), columns=4),
    "mrpc": Task("MRPC", ("#1 String", "#2 String"), "Quality", ("0", "1"), metrics=("accuracy", "f1")),
    "sts-b": Task("STS-B", PAIR, "score", (), metrics=CORRELATIONS, scores=(0, 5)),
    "rte": Task("RTE", PAIR, "label", NLI),
    "sst-2": Task("SST-2", ("sentence",), "label", ("0", "1")),
    "qnli": Task("QNLI", ("question", "sentence"), "label", NLI),
    "qqp": Task(
        "QQP",
        ("question1", "question2"),
        "is_duplicate",
        ("0", "1"),
        metrics=("accuracy", "f1"),
        broken_rows=True,
    ),
    "mnli": Task(
        "MNLI",
        PAIR,
        "gold_label",
        ("contradiction", "entailment", "neutral"),
        dev={"valid": "dev_matched", "valid1": "dev_mismatched"},
    ),
    "wnli": Task("WNLI", PAIR, "label", ("0", "1")),
}


def find_task(name: str, folder: Path) -> Task:
    """The task of that name: of GLUE, or of one's own in ``folder``.

    Raises:
        DataError: there is none; the message suggests the nearest.
    """
    if name in TASKS:
        return TASKS[name]
    if name not in {task.folder for task in TASKS.values()} and (folder / name).is_dir():
        return dataclasses.replace(read_task(folder / name), folder=name)
    near = difflib.get_close_matches(name.lower(), TASKS, n=1, cutoff=0.4)
    hint = f"did you mean {near[0]}? " if near else ""
    raise DataError(
        f"TASK {name}: there is no such task; {hint}It is one of {', '.join(TASKS)}, or a folder in GLUE_DIR with "
        "train.tsv and dev.tsv of your own"
    )


def read_task(folder: Path) -> Task:
    """What ``train.tsv`` of one's own says: its header has ``sentence``, or ``sentence1`` and ``sentence2``, and
    ``label``, or ``score`` for a number.

    Raises:
        DataError: there is no file, or its labels are no classes.
    """
    path = folder / "train.tsv"
    header, *rows = (line.split("\t") for line in read_lines(find_file(path)))
    texts = PAIR if "sentence2" in header else ("sentence",)
    if not {"label", "score"} & set(header):
        raise DataError(f"{path}, line 1: the header has neither a column 'label' nor 'score'")
    if "label" not in header:
        return own_task(folder.name, texts, ())
    column = header.index("label")
    # Those of rows that are not as they should be are told with their line later on.
    labels = sorted({_one_line(row[column]) for row in rows if len(row) == len(header)} - {""})
    if not 2 <= len(labels) <= max(2, len(rows) // 2):
        raise DataError(
            f"{path} has {len(labels)} different labels in {len(rows)} rows; call the column score if they are numbers"
        )
    from sparse_adapter.convert.vocabulary import SPECIAL  # imports torch

    if found := sorted(set(labels).intersection(SPECIAL)):
        raise DataError(
            f"{path} has the label {found[0]}, which is a special symbol of fairseq; call it something else"
        )
    return own_task(folder.name, texts, labels)


def own_task(name: str, texts: Sequence[str], labels: Sequence[str]) -> Task:
    metrics = CORRELATIONS if not labels else ("accuracy", "f1", "matthews") if len(labels) == 2 else ("accuracy",)
    return Task(name, tuple(texts), "label" if labels else "score", tuple(labels), metrics)


def recorded_task(settings: dict) -> Task:
    """The task of prepared data, by the settings in their ``prepare.json``."""
    return TASKS.get(settings["task"]) or own_task(settings["task"], settings["texts"], settings["labels"])


def find_file(path: Path) -> Path:
    """``path``, or ``path.gz`` where only that is there.

    Raises:
        DataError: neither is there.
    """
    packed = path.with_name(f"{path.name}.gz")
    for file in (path, packed):
        if file.exists():
            return file
    raise DataError(f"{path} is missing; GLUE_DIR holds the folders of the tasks")


def read_examples(task: Task, folder: Path, stem: str, limit: int | None = None) -> tuple[list[Example], int]:
    """The examples of ``stem.tsv``, in its order, and how many broken rows were left out.

    Quotes mean nothing: only tabs separate.

    Raises:
        DataError: a column is missing, a row has too many or too few, a label is none of the task's.
    """
    path = folder / task.folder / f"{stem}.tsv"
    rows, broken = _read_rows(path, (*task.texts, task.label), task.columns, task.broken_rows, limit)
    return [Example(_texts(texts, where), _label(task, label, where), where) for (*texts, label), where in rows], broken


def read_unlabelled(task: Task, path: Path) -> list[Example]:
    """The examples of a file in the layout of GLUE's test.tsv, in its order: a header, and perhaps no labels.

    Raises:
        DataError: a column is missing, a row has too many or too few.
    """
    names = tuple("sentence" if isinstance(name, int) else name for name in task.texts)
    # Without one of them, the numbers of all that follow would be others.
    return [Example(_texts(cells, where, "fill it in"), "", where) for cells, where in _read_rows(path, names)[0]]


def _read_rows(
    path: Path, names: tuple[str | int, ...], columns: int | None = None, skip: bool = False, limit: int | None = None
) -> tuple[list[tuple[list[str], str]], int]:
    """The cells of the columns ``names`` in each row, and its file and line; how many rows were skipped.

    Args:
        columns: of a row, where no header tells them and ``names`` are numbers.
        skip: whether rows of too few or too many columns, or with empty cells, are skipped.
    """
    lines = read_lines(find_file(path))
    first = 1
    if columns is None:
        header = lines[0].split("\t")
        absent = [name for name in names if name not in header]
        if absent:
            raise DataError(f"{path}, line 1: the header has no column {absent[0]!r}; columns are separated by tabs")
        names, first, columns = tuple(header.index(name) for name in names), 2, len(header)
    rows, skipped = [], 0
    for number, line in enumerate(lines[first - 1 :], start=first):
        where = f"{path}, line {number}"
        cells = line.split("\t")
        chosen = [_one_line(cells[column]) for column in names] if len(cells) == columns else []
        if skip and not (chosen and all(chosen)):
            skipped += 1
            continue
        if not chosen:
            raise DataError(f"{where}: {len(cells)} columns where {columns} are due; columns are separated by tabs")
        rows.append((chosen, where))
        if len(rows) == limit:
            break
    if not rows:
        raise DataError(f"{path} has no examples")
    return rows, skipped


def _one_line(cell: str) -> str:
    return " ".join(cell.split())


def _texts(cells: list[str], where: str, remedy: str = "fill it in or remove the example") -> tuple[str, ...]:
    if not all(cells):
        raise DataError(f"{where}: a sentence is empty; {remedy}")
    return tuple(cells)


def _label(task: Task, text: str, where: str) -> str:
    if not task.regression:
        if text not in task.labels:
            raise DataError(f"{where}: the label {text!r} is not one of {', '.join(task.labels)}")
        return text
    try:
        score = float(text)
    except ValueError:
        score = math.nan
    low, high = task.scores
    if not (low <= score <= high and math.isfinite(score)):
        between = f" from {low:g} to {high:g}" if math.isfinite(low) else ""
        raise DataError(f"{where}: the score {text!r} is not a number{between}")
    return text
