"""The paper's Tables 1 to 4 for a study's tasks and backbones, and beside the numbers that the paper printed."""

import csv
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path

import pandas as pd

from .scores import FULL, Cell, Scores, dense, large_sparse, parameter_share, pruned

# Averages that are not those of the numbers beside them, and are given here as the paper prints them.
PRINTED = {
    "table1": "The average of BERT with Mag. is printed as 73.2; that of its four scores is 73.5.",
    "table4": "The average of S-LoRA is printed as 78.2; that of its four scores is 78.3.",
}
AVERAGE = "Avg."
PARAMETERS = "#Param."
PRUNER_LABELS = {"random": "Rand.", "magnitude": "Mag.", "er": "ER", "snip": "SNIP", "grasp": "GraSP"}
FAMILY_LABELS = {
    "houlsby": "Houlsby",
    "pfeiffer": "Pfeiffer",
    "lora": "LoRA",
    "mam": "MAM",
    "adapter_fusion": "AF",
    "prefix": "Prefix",
    "parallel": "Parallel",
}


@dataclass
class Table:
    """Args:
    rows: labels, as in the paper.
    columns: (backbone, label); the label is a task's, ``Avg.`` or ``#Param.``.
    cells: by row and column; of ``#Param.`` the mean is a percentage.
    """

    name: str
    title: str
    note: str = ""
    rows: list[str] = field(default_factory=list)
    columns: list[tuple[str, str]] = field(default_factory=list)
    cells: dict[tuple[str, tuple[str, str]], Cell] = field(default_factory=dict)

    def add_column(self, column: tuple[str, str]) -> None:
        if column not in self.columns:
            self.columns.append(column)

    def put(self, row: str, column: tuple[str, str], cell: Cell) -> None:
        self.add_column(column)
        if row not in self.rows:
            self.rows.append(row)
        self.cells[row, column] = cell


def paper_tables(scores: Scores) -> list[Table]:
    """Those that the study has runs for."""
    tables = [_table1(scores), _table2(scores), _table3(scores), _table4(scores)]
    return [table for table in tables if table is not None]


def _table1(scores: Scores) -> Table | None:
    s = scores.sparsity
    found = scores.values("pruner", family="houlsby", sparsity=s, large_sparse=1)
    rows = {f"w/ {label}": pruned(name, s) for name, label in PRUNER_LABELS.items() if name in found}
    rows |= {f"w/ {name}": pruned(name, s) for name in found if name not in (*PRUNER_LABELS, "none")}
    if not rows:
        return None
    rows = {"Fine-Tune": FULL, "Adapter": dense()} | rows
    return _by_task(scores, "table1", f"Table 1: pruning methods at the same sparsity, {100 * s:g} %", rows)


def _table2(scores: Scores) -> Table | None:
    pruner = scores.pruner
    sparsities = scores.values("sparsity", family="houlsby", pruner=pruner, large_sparse=1)
    if len(sparsities) < 2:
        return None
    title = f"Table 2: sparse ratios and benchmarks ({PRUNER_LABELS.get(pruner, pruner)})"
    table = Table("table2", title, "GLUE is the average of its tasks.")
    rows = {"Fine-Tune": FULL, "Adapter": dense()} | {f"s = {s:g}": pruned(pruner, s) for s in sparsities}
    for backbone in scores.backbones:
        for benchmark, tasks in benchmarks(scores, backbone).items():
            for row, selector in rows.items():
                frame = scores.select(backbone=backbone, **selector)
                frame = frame[frame["task"].isin(tasks)]
                share = parameter_share(frame)
                table.put(row, (backbone, f"{benchmark} {PARAMETERS}"), Cell(share))
                table.put(row, (backbone, benchmark), scores.average(frame, tasks))
    return table


def _table3(scores: Scores) -> Table | None:
    pruner = scores.pruner
    factors = [k for k in scores.values("large_sparse", family="houlsby", pruner=pruner) if k > 1]
    if not factors:
        return None
    rows = {"Adapter": dense()} | {f"LS-Adapter {k}×": large_sparse(pruner, k) for k in factors}
    if not scores.select(**FULL).empty:
        rows = {"Fine-Tune": FULL} | rows
    note = "LS-Adapter k×: k times the bottleneck at sparsity 1 - 1/k, so that as many weights are trained."
    return _by_task(scores, "table3", "Table 3: Large-Sparse", rows, note)


def _table4(scores: Scores) -> Table | None:
    rows = {}
    present = scores.values("family")
    for family in [*FAMILY_LABELS, *(name for name in present if name not in (*FAMILY_LABELS, "none"))]:
        label, sparse = FAMILY_LABELS.get(family, family), pruned(scores.pruner, scores.sparsity, family)
        if family in present and not scores.select(**sparse).empty:
            rows |= {label: dense(family), f"S-{label}": sparse}
    if not set(rows) - {"Houlsby", "S-Houlsby"}:
        return None
    title = f"Table 4: adapter families, S- at {100 * scores.sparsity:g} % sparsity"
    return _by_task(scores, "table4", title, rows)


def _by_task(scores: Scores, name: str, title: str, rows: dict[str, dict], note: str = "") -> Table:
    table = Table(name, title, note)
    for backbone in scores.backbones:
        tasks = [task for task in scores.tasks if not scores.select(backbone=backbone, task=task).empty]
        for row, selector in rows.items():
            for label, frame in _by_bottleneck(row, scores.select(backbone=backbone, **selector)):
                table.put(label, (backbone, PARAMETERS), Cell(parameter_share(frame)))
                for task in tasks:
                    cell = scores.cell(frame[frame["task"] == task])
                    table.put(label, (backbone, scores.tasks[task]), cell)
                if len(tasks) > 1:
                    table.put(label, (backbone, AVERAGE), scores.average(frame, tasks))
    return table


def _by_bottleneck(row: str, frame: pd.DataFrame) -> list[tuple[str, pd.DataFrame]]:
    """A row for each system of a selection: where the grid has several bottlenecks, one for each."""
    if frame["system"].nunique() < 2:
        return [(row, frame)]
    return [(f"{row} (r = {group['bottleneck'].iloc[0]:g})", group) for _, group in frame.groupby("system")]


def benchmarks(scores: Scores, backbone: str) -> dict[str, list[str]]:
    """Tasks by benchmark: those of GLUE together, every other alone."""
    found: dict[str, list[str]] = {}
    for task, label in scores.tasks.items():
        frame = scores.select(backbone=backbone, task=task)
        if not frame.empty:
            found.setdefault("GLUE" if frame["example"].iloc[0] == "glue" else label, []).append(task)
    return found


@cache
def published() -> list[dict]:
    """The numbers of the paper, as it prints them: table, backbone, row, column, value."""
    with Path(__file__).with_name("published.csv").open(encoding="utf-8", newline="") as file:
        return [{**row, "value": float(row["value"])} for row in csv.DictReader(file)]


def published_table(name: str, title: str) -> Table:
    table = Table(f"{name}-published", f"{title}, as published", PRINTED.get(name, ""))
    for row in published():
        if row["table"] == name:
            table.put(row["row"], (row["backbone"], row["column"]), Cell(row["value"]))
    return table


def side_by_side(table: Table) -> pd.DataFrame:
    """One line for each row and column of a table, ours and the paper's: what, where, how many, from which runs."""
    ours = {(row, label): None for row in table.rows for _, label in table.columns}
    paper = {(line["row"], line["column"]): None for line in published() if line["table"] == table.name}
    columns = list(dict.fromkeys(label for _, label in table.columns))
    lines = []
    for row, label in ours | paper:
        for backbone in dict.fromkeys(backbone for backbone, _ in table.columns):
            cell = table.cells.get((row, (backbone, label)), Cell())
            if cell.mean is not None:
                record = {"status": "ours", "mean": cell.mean, "sd": cell.sd, "n": cell.n, "runs": " ".join(cell.runs)}
                lines.append({"table": table.name, "row": row, "column": label, "backbone": backbone, **record})
        for line in published():
            if (line["table"], line["row"], line["column"]) == (table.name, row, label):
                record = {"status": "published", "mean": line["value"], "sd": None, "n": None, "runs": ""}
                lines.append({"table": table.name, "row": row, "column": label, "backbone": line["backbone"], **record})
    order = {label: i for i, label in enumerate(columns)}
    rows = {label: i for i, label in enumerate(table.rows)}
    lines.sort(key=lambda line: (rows.get(line["row"], len(rows)), order.get(line["column"], len(order))))
    return pd.DataFrame(lines, columns=["table", "row", "column", "backbone", "status", "mean", "sd", "n", "runs"])
