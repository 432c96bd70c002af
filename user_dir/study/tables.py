"""All systems of a study with their scores, and the paper's Tables 1 to 4 beside the numbers that the paper printed."""

import csv
from collections.abc import Iterable
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path

import pandas as pd

from .catalogue import KNOWN
from .scores import DEFAULT_PRUNER, DEFAULT_SPARSITY, FULL, Cell, Scores, dense, large_sparse, parameter_share, pruned

# What does not follow from the numbers beside it or from the paper's set-up, and is given here as the paper prints it.
PRINTED = {
    "table1": "The average of BERT with Mag. is printed as 73.2; that of its four scores is 73.5.",
    "table2": "XSum's 4.5 % (BART-large) is less than r = 512 has: Houlsby's 60 adapters of that size are 15.5 %.",
    "table4": "The average of S-LoRA is printed as 78.2; that of its four scores is 78.3.",
}
TITLES = {
    "table1": "Table 1: pruning methods at the same sparsity, 40 %",
    "table2": "Table 2: sparse ratios and benchmarks (SNIP)",
    "table3": "Table 3: Large-Sparse",
    "table4": "Table 4: adapter families, S- at 40 % sparsity",
}
GLUE = "GLUE"
AVERAGED = {"CoLA", "MRPC", "STS-B", "RTE"}  # by the paper
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
OF_FUSION = (
    "AF is counted without the adapters that it fuses. Its value matrix is I + V, of which S-AF prunes V; the paper "
    "does not say what it prunes of AF."
)
METRIC_LABELS = {
    **dict.fromkeys(("accuracy", "acc"), "accuracy, %"),
    **dict.fromkeys(("matthews", "mcc"), "Matthews corr. × 100"),
    "pearson": "Pearson corr. × 100",
    "spearman": "Spearman corr. × 100",
    "f1": "F1",
    "exact_match": "exact match",
    "rouge1": "ROUGE-1",
    "rouge2": "ROUGE-2",
    "rougeL": "ROUGE-L",
    "bleu": "BLEU",
    "chrf": "chrF",
}


@dataclass(frozen=True)
class Benchmark:
    """Tasks that have an average.

    Args:
        tasks: those that have scores.
        remark: what the label of their average has to say: how many of the planned tasks these are, or how many there
            are if they are not the paper's.
    """

    name: str
    tasks: list[str]
    remark: str = ""


@dataclass
class Table:
    """One of the paper's tables, of our scores or as published.

    Args:
        rows: labels, as in the paper.
        columns: (backbone, label); the label is a task's, ``Avg.`` or ``#Param.``. An average over other tasks than the
            paper's says so in its label, as in ``Avg. (2 of 4 tasks)``, so that no published one stands beside it.
        cells: by row and column; of ``#Param.`` the mean is a percentage.
        comparable: whether the pruner and the sparsity are the paper's, where its rows do not say them.
    """

    name: str
    title: str
    note: str = ""
    comparable: bool = True
    rows: list[str] = field(default_factory=list)
    columns: list[tuple[str, str]] = field(default_factory=list)
    cells: dict[tuple[str, tuple[str, str]], Cell] = field(default_factory=dict)

    def explain(self, sentence: str) -> None:
        """Add it to the note, unless it is there."""
        if sentence not in self.note:
            self.note = f"{self.note} {sentence}".strip()

    def add_column(self, column: tuple[str, str]) -> None:
        if column not in self.columns:
            self.columns.append(column)

    def put(self, row: str, column: tuple[str, str], cell: Cell) -> None:
        self.add_column(column)
        if row not in self.rows:
            self.rows.append(row)
        self.cells[row, column] = cell


def all_systems(scores: Scores) -> Table:
    """Every system that has scores, on every task, by all metrics that it was scored by; the task's own comes first."""
    places = {family: place for place, family in enumerate(["none", *FAMILY_LABELS])}
    runs = scores.runs.assign(place=scores.runs["family"].map(places))
    runs = runs.sort_values(["place", "large_sparse", "sparsity"], kind="stable")
    systems = runs[["system", "variant"]].drop_duplicates()
    rows = {row["system"]: row for row in systems.to_dict("records")}
    table = _by_task(scores, "scores", "Scores of all systems", rows, comparable=False)
    for backbone, frames in _frames(scores, rows):
        for task in scores.tasks:
            for metric in scores.other_metrics(task, backbone):
                column = (backbone, f"{scores.tasks[task]}: {METRIC_LABELS.get(metric, metric)}")
                for row, frame in frames.items():
                    table.put(row, column, scores.cell(frame[frame["task"] == task], metric))
    collapsed = runs[pd.to_numeric(runs["dead_adapters"]) > 0]
    if len(collapsed):
        table.explain(
            f"{len(collapsed)} of {len(runs)} runs have adapters of which pruning has left no unit (dead_adapters in "
            f"results.csv): {', '.join(collapsed['system'].unique())}."
        )
    return table


def paper_tables(scores: Scores) -> list[Table]:
    """Those that the study has runs for."""
    tables = [_table1(scores), _table2(scores), _table3(scores), _table4(scores)]
    return [table for table in tables if table is not None]


def _table1(scores: Scores) -> Table | None:
    s = scores.sparsity
    plain = {"family": "houlsby", "sparsity": s, "large_sparse": 1}
    found, labels = scores.values("pruner", **plain), scores.named("pruner", PRUNER_LABELS, **plain)
    rows = {f"w/ {label}": pruned(name, s) for name, label in labels.items() if name in found}
    if not rows:
        return None
    rows = {"Fine-Tune": FULL, "Adapter": dense()} | rows
    title = f"Table 1: pruning methods at the same sparsity, {100 * s:g} %"
    return _by_task(scores, "table1", title, rows, comparable=s == DEFAULT_SPARSITY)


def _table2(scores: Scores) -> Table | None:
    pruner = scores.pruner
    sparsities = scores.values("sparsity", family="houlsby", pruner=pruner, large_sparse=1)
    if len(sparsities) < 2:
        return None
    title = f"Table 2: sparse ratios and benchmarks ({PRUNER_LABELS.get(pruner, pruner)})"
    table = Table("table2", title, comparable=pruner == DEFAULT_PRUNER)
    rows = {"Fine-Tune": FULL, "Adapter": dense()} | {f"s = {s:g}": pruned(pruner, s) for s in sparsities}
    for backbone, frames in _frames(scores, rows):
        for benchmark in benchmarks(scores, backbone, frames.values()):
            label = f"{benchmark.name}{benchmark.remark}"
            for row, frame in frames.items():
                share = parameter_share(frame[frame["task"].isin(benchmark.tasks)])
                table.put(row, (backbone, f"{benchmark.name} {PARAMETERS}"), Cell(share))
                table.put(row, (backbone, label), scores.average(frame, benchmark.tasks))
            if benchmark.name == GLUE:
                table.explain(_mean_over(scores, label, benchmark, backbone))
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
    return _by_task(scores, "table3", "Table 3: Large-Sparse", rows, note, pruner == DEFAULT_PRUNER)


def _table4(scores: Scores) -> Table | None:
    rows = {}
    present = scores.values("family")
    for family, label in scores.named("family", FAMILY_LABELS).items():
        sparse = pruned(scores.pruner, scores.sparsity, family)
        if family in present and not scores.select(**sparse).empty:
            rows |= {label: dense(family), f"S-{label}": sparse}
    if not set(rows) - {"Houlsby", "S-Houlsby"}:
        return None
    title = f"Table 4: adapter families, S- at {100 * scores.sparsity:g} % sparsity"
    comparable = (scores.pruner, scores.sparsity) == (DEFAULT_PRUNER, DEFAULT_SPARSITY)
    return _by_task(scores, "table4", title, rows, OF_FUSION if "AF" in rows else "", comparable)


def _by_task(
    scores: Scores, name: str, title: str, rows: dict[str, dict], note: str = "", comparable: bool = True
) -> Table:
    table = Table(name, title, note, comparable)
    for backbone, frames in _frames(scores, rows):
        found = benchmarks(scores, backbone, frames.values())
        tasks = [task for task in scores.tasks if any(task in benchmark.tasks for benchmark in found)]
        averages = [benchmark for benchmark in found if benchmark.name == GLUE and len(benchmark.tasks) > 1]
        shares = _parameter_columns(found, list(frames.values()))
        for row, frame in frames.items():
            for label, of in shares.items():
                table.put(row, (backbone, label), Cell(parameter_share(frame[frame["task"].isin(of)])))
            for task in tasks:
                table.put(row, (backbone, scores.tasks[task]), scores.cell(frame[frame["task"] == task]))
            for average in averages:
                label = f"{AVERAGE}{average.remark}"
                table.put(row, (backbone, label), scores.average(frame, average.tasks))
                table.explain(_mean_over(scores, label, average, backbone))
    return table


def _parameter_columns(found: list[Benchmark], frames: list[pd.DataFrame]) -> dict[str, list[str]]:
    """The columns of parameters, each with its tasks: one, unless adapters of other sizes were trained on some."""
    shares = {}
    for benchmark in found:
        own = (parameter_share(frame[frame["task"].isin(benchmark.tasks)]) for frame in frames)
        shares[benchmark.name] = [None if share is None else f"{share:.3g}" for share in own]
    if all(len({share for share in row if share}) < 2 for row in zip(*shares.values(), strict=True)):
        return {PARAMETERS: [task for benchmark in found for task in benchmark.tasks]}
    return {PARAMETERS if b.name == GLUE else f"{b.name} {PARAMETERS}": b.tasks for b in found}


def _frames(scores: Scores, rows: dict[str, dict]) -> Iterable[tuple[str, dict[str, pd.DataFrame]]]:
    """For each backbone, the runs of each row."""
    rows = scores.told_apart(rows)
    for backbone in scores.backbones:
        yield backbone, {row: scores.select(backbone=backbone, **selector) for row, selector in rows.items()}


def _mean_over(scores: Scores, label: str, benchmark: Benchmark, backbone: str) -> str:
    names = ", ".join(scores.tasks[task] for task in benchmark.tasks)
    where = f" of {backbone}" if benchmark.remark and len(scores.backbones) > 1 else ""
    return f"{label}{where} is the mean over {names}, of the seeds that have scores on all of them."


def benchmarks(scores: Scores, backbone: str, frames: Iterable[pd.DataFrame]) -> list[Benchmark]:
    """The tasks that these runs have scores on: those of GLUE together, every other alone."""
    scored = set().union(*(frame["task"] for frame in frames))
    planned = scores.planned[scores.planned["backbone"] == backbone]
    glue = {task for task in planned["task"][planned["example"] == "glue"] if task in KNOWN}  # and not a user's own
    found: dict[str, Benchmark] = {}
    for task, label in scores.tasks.items():
        if task in scored:
            name = GLUE if task in glue else label
            found.setdefault(name, Benchmark(name, [], _remark(scores, scored & glue, glue) if task in glue else ""))
            found[name].tasks.append(task)
    return list(found.values())


def _remark(scores: Scores, tasks: set[str], planned: set[str]) -> str:
    if tasks != planned:
        return f" ({len(tasks)} of {len(planned)} tasks)"
    if {scores.tasks[task] for task in tasks} != AVERAGED:
        return f" ({len(tasks)} task{'s' * (len(tasks) > 1)})"
    return ""


@cache
def published() -> list[dict]:
    """The numbers of the paper, as it prints them: table, backbone, row, column, value."""
    with Path(__file__).with_name("published.csv").open(encoding="utf-8", newline="") as file:
        return [{**row, "value": float(row["value"])} for row in csv.DictReader(file)]


def published_table(name: str) -> Table:
    table = Table(f"{name}-published", f"{TITLES[name]}, as published", PRINTED.get(name, ""))
    for row in published():
        if row["table"] == name:
            table.put(row["row"], (row["backbone"], row["column"]), Cell(row["value"]))
    return table


def side_by_side(table: Table) -> pd.DataFrame:
    """One line for each row and column of a table, ours and the paper's: what, where, how many, from which runs.

    The paper's are left out where they are of another pruner or sparsity.
    """
    printed = [line for line in published() if line["table"] == table.name and table.comparable]
    ours = {(row, label): None for row in table.rows for _, label in table.columns}
    paper = {(line["row"], line["column"]): None for line in printed}
    columns = list(dict.fromkeys(label for _, label in table.columns))
    lines = []
    for row, label in ours | paper:
        for backbone in dict.fromkeys(backbone for backbone, _ in table.columns):
            cell = table.cells.get((row, (backbone, label)), Cell())
            if cell.mean is not None:
                record = {"status": "ours", "mean": cell.mean, "sd": cell.sd, "n": cell.n or None}
                record |= {"seeds": " ".join(map(str, cell.seeds)), "runs": " ".join(cell.runs)}
                lines.append({"table": table.name, "row": row, "column": label, "backbone": backbone, **record})
        for line in printed:
            if (line["row"], line["column"]) == (row, label):
                record = {"status": "published", "mean": line["value"], "sd": None, "n": None, "seeds": "", "runs": ""}
                lines.append({"table": table.name, "row": row, "column": label, "backbone": line["backbone"], **record})
    order = {label: i for i, label in enumerate(columns)}
    rows = {label: i for i, label in enumerate(table.rows)}
    lines.sort(key=lambda line: (rows.get(line["row"], len(rows)), order.get(line["column"], len(order))))
    names = ["table", "row", "column", "backbone", "status", "mean", "sd", "n", "seeds", "runs"]
    return pd.DataFrame(lines, columns=names)
