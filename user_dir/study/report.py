"""A study on one page, in Markdown and as one self-contained HTML file: claims, tables, figures, what is missing."""

import base64
import csv
import json
import re
import shlex
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import pandas as pd
from tabulate import tabulate

from ..errors import UsageError
from ..files import replaced_files, written_at_once
from .catalogue import EXAMPLES, OF_SYSTEM, example_of
from .claims import LEVEL, MARGIN, Claim, Part, compare_variants, judge
from .comparison import Comparison
from .figures import draw_all
from .provenance import versions
from .results import write_csvs
from .scores import Cell, Scores
from .sources import Source, read_sources
from .tables import METRIC_LABELS, PARAMETERS, Table, all_systems, paper_tables, published_table, side_by_side

try:
    from jinja2 import Environment, FileSystemLoader
except ImportError as error:
    raise UsageError("the page of a study needs Jinja2: pip install jinja2") from error


TEMPLATES = (("report.md.jinja", "README.md", "github"), ("report.html.jinja", "report.html", "html"))


@dataclass(frozen=True)
class Grid:
    """A table ready to print: a head and rows of text."""

    title: str
    head: list[str]
    rows: list[list[str]]
    note: str = ""


def write_report(studies: Sequence[Path], out: Path, margin: float = MARGIN, level: float = LEVEL) -> list[str]:
    """Write everything into ``out``, in place of an earlier report; returns the names of the files.

    Args:
        studies: folders of studies, or of reports of them; together they make one report, which has the name of the
            first.

    Raises:
        UsageError: one is no study, they do not go together, no run of them has finished, or ``out`` has files that
            would be overwritten and are of no report.
    """
    source = read_sources(studies)
    title = f"Study {studies[0].resolve().name}"
    with replaced_files(out) as folder:
        _write_files(source, folder, margin, level, title, _command(studies, out, margin, level))
        return sorted(path.name for path in folder.iterdir())


def _command(studies: Sequence[Path], out: Path, margin: float, level: float) -> str:
    words = ["sparse-adapter", "report", *map(str, studies), str(out)]
    words += [] if margin == MARGIN else ["--margin", f"{margin:g}"]
    words += [] if level == LEVEL else ["--level", f"{level:g}"]
    return shlex.join(words)


def _write_files(source: Source, out: Path, margin: float, level: float, title: str, command: str) -> None:
    tables, results = source.tables, source.tables["results"]
    scores = Scores(results, tables["curves"])
    if scores.runs.empty:
        raise UsageError(f"none of the {len(results)} runs has finished; sparse-adapter study goes on with them")
    write_csvs(out, tables)
    claims = judge(scores, margin, level)
    _write_csv(out / "claims.csv", _claim_rows(claims))
    systems, paper = all_systems(scores), paper_tables(scores)
    for table in (systems, *paper):
        with written_at_once(out / f"{table.name}.csv") as temporary:
            side_by_side(table).to_csv(temporary, index=False, lineterminator="\n")
    for name, text in source.configs.items():
        with written_at_once(out / name) as temporary:
            temporary.write_text(text, encoding="utf-8")
    figures = draw_all(scores, out)
    page = {
        "title": title,
        "facts": [*_facts(scores, results), f"versions: {versions(tables['timings'])}"],
        "configs": list(source.configs),
        "unfinished": _unfinished(results),
        "tasks": _tasks(scores),
        "unlike": _unlike_settings(scores),
        "scores": table_grid(systems, systems.title),
        "variants": _variants(compare_variants(scores, level), level),
        "summary": _summary(claims, level),
        "claims": [_claim_grid(claim, level) for claim in claims if any(part.comparison.n for part in claim.parts)],
        "tables": [_sections(table) for table in paper],
        "rates": _rates(scores),
        "figures": [{"name": name, "caption": caption} for name, caption in figures],
        "margin": margin,
        "parameters": PARAMETERS,
        "command": command,
    }
    images = {name: base64.b64encode((out / f"{name}.svg").read_bytes()).decode() for name, _ in figures}
    templates = Environment(loader=FileSystemLoader(Path(__file__).parent), trim_blocks=True, lstrip_blocks=True)
    for template, name, markup in TEMPLATES:
        environment = templates.overlay(autoescape=markup == "html")
        environment.filters["grid"] = lambda grid, markup=markup: _markup(grid, markup)
        with written_at_once(out / name) as temporary:
            text = environment.get_template(template).render(page, images=images)
            temporary.write_text(text, encoding="utf-8")


def _facts(scores: Scores, results: pd.DataFrame) -> list[str]:
    count = results["status"].value_counts()
    facts = [
        f"{count.get('finished', 0)} of {len(results)} runs finished"
        + "".join(f", {count[status]} {status}" for status in ("failed", "missing") if status in count),
        f"tasks: {', '.join(scores.tasks.values())}{_without_scores(scores)}",
        f"backbones: {', '.join(scores.backbones)}",
        *_seeds(scores),
    ]
    if scores.chosen:
        facts.append(
            "learning rates: where the grid has several, the best mean score chose one (see the table of learning "
            "rates), on the very set that is reported, which favours every system that has the choice"
        )
    if scores.runs["adopted"].astype(bool).any():
        facts.append("some runs were made by hand and adopted: their settings are those of the plan, unchecked")
    return facts


def _tasks(scores: Scores) -> Grid:
    """What is measured, on what, and of which checkpoint."""
    rows = []
    for task, label in scores.tasks.items():
        runs = scores.runs[scores.runs["task"] == task]
        planned = scores.planned[scores.planned["task"] == task]
        example = planned["example"].iloc[0]
        counts = sorted({f"{int(n):,}" for n in runs["n"].dropna()})
        metric = METRIC_LABELS.get(runs["metric"].iloc[0], runs["metric"].iloc[0]) if len(runs) else "-"
        scored = ", ".join(dict.fromkeys(_checkpoint(example, json.loads(own)) for own in planned["settings"]))
        rows.append([label, metric, example_of(example).scored, ", ".join(counts) or "-", scored])
        if task in scores.fractions:
            rows[-1][1] += " (at most 1, where claims are about points: no claim is judged by it)"
    return Grid("What is scored", ["task", "score", "set", "examples", "checkpoint"], rows)


def _checkpoint(example: str, settings: dict) -> str:
    """What evaluate.sh scores, of the examples that are known."""
    if example not in EXAMPLES:
        return "-"
    if example == "translation" and (count := settings.get("AVERAGE", "0")) != "0":
        return f"average of the last {count}"
    return "best on the validation set" if example_of(example).takes_best else "last"


def _unlike_settings(scores: Scores) -> Grid | None:
    """What systems that are compared do not share, besides what makes them these systems."""
    found: dict[tuple[str, str], dict[str, list[str]]] = {}
    for place, runs in scores.runs.groupby(["task", "backbone"], sort=False):
        settings = {system: json.loads(own["settings"].iloc[0]) for system, own in runs.groupby("system", sort=False)}
        for name in sorted(set().union(*settings.values()) - set(OF_SYSTEM)):
            values = {system: own.get(name, "") for system, own in settings.items()}
            if len(set(values.values())) > 1:
                for system, value in values.items():
                    found.setdefault((name, value), {}).setdefault(system, []).append(scores.place(*place))
    rows = []
    for (name, value), where in found.items():
        together: dict[tuple[str, ...], list[str]] = {}
        for system, places in where.items():
            together.setdefault(tuple(places), []).append(system)
        rows += [[name, value or "-", ", ".join(s), ", ".join(places)] for places, s in together.items()]
    if not rows:
        return None
    note = "What these systems differ by may be these settings, too. -: none was given, see the example's scripts."
    return Grid("Settings that are not the same", ["setting", "value", "of", "on"], rows, note)


def _without_scores(scores: Scores) -> str:
    planned, have = (
        frame[["task", "backbone"]].drop_duplicates().itertuples(index=False, name=None)
        for frame in (scores.planned, scores.runs)
    )
    have = set(have)
    missing = [scores.place(*place) for place in planned if place not in have]
    return f"; no scores yet: {', '.join(missing)}" if missing else ""


def _seeds(scores: Scores) -> list[str]:
    """The seeds that most systems have on most tasks, and which have others where."""
    by_system: dict[str, dict[tuple[int, ...], list[str]]] = {}
    for (system, task, backbone), seeds in scores.runs.groupby(["system", "task", "backbone"], sort=False)["seed"]:
        by_system.setdefault(system, {}).setdefault(tuple(sorted(seeds)), []).append(scores.place(task, backbone))
    count: Counter[tuple[int, ...]] = Counter()
    for own in by_system.values():
        count.update({seeds: len(where) for seeds, where in own.items()})
    usual = count.most_common(1)[0][0]
    others: dict[tuple, list[str]] = {}
    for system, own in by_system.items():
        for seeds, where in own.items():
            if seeds != usual:
                others.setdefault((seeds, tuple(where) if len(own) > 1 else ()), []).append(system)
    facts = [f"seeds: {', '.join(map(str, usual))}{' where nothing else is said' if others else ''}"]
    for (seeds, where), systems in sorted(others.items()):
        on = f" on {', '.join(where)}" if where else ""
        facts.append(f"seed{'s' * (len(seeds) > 1)} {', '.join(map(str, seeds))}: {', '.join(systems)}{on}")
    return facts


def _rates(scores: Scores) -> Grid | None:
    if not scores.chosen:
        return None
    rows = []
    for (task, backbone, system), choice in scores.chosen.items():
        means = ", ".join(
            f"{_rate(rate)}: {'-' if mean is None else f'{mean:.1f}'}{_failed(choice.failed[rate])}"
            for rate, mean in choice.means.items()
        )
        seeds = ", ".join(map(str, choice.seeds)) or "none in common: the rate with most seeds"
        rows.append([scores.tasks[task], backbone, system, _rate(choice.rate), means, seeds])
    head = ["task", "backbone", "system", "chosen", "mean score of each", "over seeds"]
    note = (
        "A rate with failed runs is not chosen where another has none, and the others are compared by the seeds that "
        "all of them have so far; scores are of all seeds of the chosen one."
    )
    return Grid("Learning rates", head, rows, note)


def _rate(rate: float | None) -> str:
    return "default" if rate is None else f"{rate:g}"


def _failed(count: int) -> str:
    return f" ({count} failed)" if count else ""


def _unfinished(results: pd.DataFrame) -> Grid | None:
    rest = results[results["status"] != "finished"]
    if rest.empty:
        return None
    rows = [[row["run"], row["status"], row["error"] or ""] for row in rest.to_dict("records")]
    return Grid("Runs that are not in here", ["run", "status", "why"], rows)


def _summary(claims: list[Claim], level: float) -> Grid:
    rows = []
    for claim in claims:
        tested = [part for part in claim.parts if part.comparison.n]
        partly = sum(part.comparison.n < part.comparison.planned for part in tested)
        part, unit = claim.deciding, "" if claim.unit == "points" else f" {claim.unit}"
        if part is None:
            shown = ["-"] * 4
        else:
            difference, interval = _interval(part.comparison)
            shown = [part.label, f"{difference}{unit}", interval, _pairs(part.comparison)]
        compared = f"{len(tested)} of {len(claim.parts)}" + (f", {partly} of them in part" if partly else "")
        but = f", but not on {', '.join(claim.exceptions)}" if claim.exceptions else ""
        rows.append([claim.text, claim.source, f"{claim.verdict}{but}", *shown, compared])
    head = ["claim", "paper", "verdict", "decided by", "difference", f"{100 * level:g} % interval", "pairs"]
    return Grid("The paper's claims", [*head, "comparisons"], rows)


def _claim_grid(claim: Claim, level: float) -> Grid:
    rows = []
    for part in claim.parts:
        # The paper's comparisons that were not made are counted above, and left out here.
        if not part.comparison.n:
            continue
        rows.append([part.label, "all", *_interval(part.comparison), _pairs(part.comparison), part.verdict])
        if len(part.places) > 1:
            for one in part.places:
                rows.append(["", one.label, *_interval(one.comparison), _pairs(one.comparison), one.verdict])
    head = ["comparison", "task", f"difference, {claim.unit}", f"{100 * level:g} % interval", "pairs", "verdict"]
    note = f"{claim.source[0].upper()}{claim.source[1:]}. {claim.rule[0].upper()}{claim.rule[1:]}."
    return Grid(f"{claim.text} {claim.verdict.capitalize()}.", head, rows, note)


def _variants(parts: list[Part], level: float) -> Grid | None:
    if not parts:
        return None
    rows = []
    for part in parts:
        rows.append([part.label, "all", *_interval(part.comparison), _pairs(part.comparison)])
        if len(part.places) > 1:
            rows += [["", one.label, *_interval(one.comparison), _pairs(one.comparison)] for one in part.places]
    head = ["comparison", "task", "difference, points", f"{100 * level:g} % interval", "pairs"]
    return Grid(
        "Variants", head, rows, "What the grid calls variants, each against the same system without its settings."
    )


def _interval(comparison: Comparison) -> list[str]:
    if comparison.n == 0:
        return ["-", "-"]
    interval = f"{comparison.low:+.2f} to {comparison.high:+.2f}"
    return [f"{comparison.difference:+.2f}", f"none: {comparison.reason}" if comparison.reason else interval]


def _pairs(comparison: Comparison) -> str:
    return f"{comparison.n} of {comparison.planned} planned"


def _claim_rows(claims: list[Claim]) -> list[dict]:
    rows = []
    for claim in claims:
        for part in claim.parts:
            for task, one in [("all", part), *((one.label, one) for one in part.places)]:
                comparison = one.comparison
                rows.append(
                    {
                        "claim": claim.text,
                        "claim_verdict": claim.verdict,
                        "comparison": part.label,
                        "task": task,
                        "unit": claim.unit,
                        "n": comparison.n,
                        "planned": comparison.planned,
                        "difference": comparison.difference,
                        "low": comparison.low,
                        "high": comparison.high,
                        "df": comparison.df,
                        "p": comparison.p,
                        "without_interval": comparison.reason,
                        "verdict": one.verdict,
                        "pairs": " ".join("/".join(pair) for pair in one.pairs),
                    }
                )
    return rows


def _write_csv(path: Path, rows: list[dict]) -> None:
    with written_at_once(path) as temporary, temporary.open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, rows[0], lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)


def _sections(table: Table) -> dict:
    """A table of ours, the published one, and both side by side."""
    paper = published_table(table.name)
    return {
        "name": table.name,
        "title": table.title,
        "ours": table_grid(table, table.title),
        "published": table_grid(paper, paper.title),
        "both": both_grid(table, paper) if table.comparable else None,
    }


def table_grid(table: Table, title: str) -> Grid:
    """As in the paper: methods down, tasks across, backbones side by side.

    Where the number of seeds differs, cells with fewer than most say theirs. The best of a column is bold if all its
    cells have the same seeds.
    """
    backbones = list(dict.fromkeys(backbone for backbone, _ in table.columns))
    several = len(backbones) > 1
    head = ["method", *(f"{backbone}: {label}" if several else label for backbone, label in table.columns)]
    usual = max((cell.n for cell in table.cells.values()), default=0)
    best = {column: _best(table, column) for column in table.columns}
    rows, differ = [], False
    for row in table.rows:
        shown = []
        for column in table.columns:
            cell = table.cells.get((row, column), Cell())
            text = _cell(cell, column[1])
            if 0 < cell.n < usual:
                text, differ = f"{text} ({cell.n} seed{'s' * (cell.n > 1)})", True
            shown.append(f"**{text}**" if cell.mean is not None and cell.mean == best[column] else text)
        rows.append([row, *shown])
    where = "" if several or not backbones else f" ({backbones[0]})"
    note = f"{table.note} Cells that do not say otherwise have {usual} seeds." if differ else table.note
    return Grid(f"{title}{where}", head, rows, note.strip())


def _best(table: Table, column: tuple[str, str]) -> float | None:
    """None where nothing is to be bold."""
    cells = [table.cells.get((row, column), Cell()) for row in table.rows]
    found = [cell for cell in cells if cell.mean is not None]
    if column[1].endswith(PARAMETERS) or len(found) < 2 or len({cell.seeds for cell in found}) > 1:
        return None
    return max(cell.mean for cell in found)


def both_grid(table: Table, paper: Table) -> Grid:
    """One line for each number of the paper's table or ours: the paper's, by backbone, and ours with seeds."""
    papers = list(dict.fromkeys(backbone for backbone, _ in paper.columns))
    ours = list(dict.fromkeys(backbone for backbone, _ in table.columns))
    labels = list(dict.fromkeys(label for _, label in (*table.columns, *paper.columns)))
    rows = []
    for row in dict.fromkeys((*table.rows, *paper.rows)):
        for label in labels:
            printed = [_cell(paper.cells.get((row, (backbone, label)), Cell()), label) for backbone in papers]
            found = [table.cells.get((row, (backbone, label)), Cell()) for backbone in ours]
            if any(cell.mean is not None for cell in found):
                shown = [text for cell in found for text in (_cell(cell, label), str(cell.n or "-"))]
                rows.append([row, label, *printed, *shown])
    head = ["method", "column", *(f"published, {name}" for name in papers)]
    head += [text for name in ours for text in (f"ours, {name}", "seeds")]
    return Grid("Side by side", head, rows)


def _cell(cell: Cell, label: str) -> str:
    if cell.mean is None:
        return "-"
    if label.endswith(PARAMETERS):
        return f"{cell.mean:.3g} %"
    return f"{cell.mean:.1f}" if cell.sd is None else f"{cell.mean:.1f} ± {cell.sd:.1f}"


def _markup(grid: Grid, markup: str) -> str:
    align = ["left"] * len(grid.head)
    rows = grid.rows if markup == "html" else [[_escaped(cell) for cell in row] for row in grid.rows]
    text = tabulate(rows, grid.head, tablefmt=markup, colalign=align if rows else None, disable_numparse=True)
    if markup == "html":  # tabulate has escaped the cells; bold is Markdown's
        text = re.sub(r"\*\*(.+?)\*\*", r"<strong>\1</strong>", text)
    return text


def _escaped(cell: str) -> str:
    """What Markdown takes for columns and tags, such as the ends of logs have, as text."""
    return cell.replace("|", "\\|").replace("<", "&lt;")
