"""What a report is made of: studies, and reports of studies whose folders are on another machine, or gone."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import pandas as pd

from ..errors import UsageError
from .plan import FOLDER, changes, read_plans
from .provenance import config_texts
from .results import CURVE_COLUMNS, TABLES, TIMING_COLUMNS, collect

# Columns that look like numbers where names do.
TEXT = dict.fromkeys(("run", "task", "label", "example", "backbone", "system", "family", "settings", "command"), "str")
NUMBERS = {
    "results": ("sparsity", "large_sparse", "seed", "score"),
    "curves": ("epoch", "update", "progress", "value"),
    "timings": ("training", "evaluation", "pruning"),
}
# What reports of before these columns have in them.
LATER = {"variant": "", **dict.fromkeys(("units", "dead_units", "dead_adapters"), float("nan"))}
STATUSES = ("finished", "failed", "missing")  # the best first


@dataclass(frozen=True)
class Source:
    """The tables of ``results.collect``, and the configs they are of by the names of their files."""

    tables: dict[str, pd.DataFrame]
    configs: dict[str, str]


def read_source(folder: Path) -> Source:
    """A study's folder, or that of a report.

    Raises:
        UsageError: it is neither.
    """
    if (folder / FOLDER).is_dir():
        return Source(collect(folder), config_texts(read_plans(folder)))
    files = {name: folder / f"{name}.csv" for name in TABLES}
    if not all(path.is_file() for path in files.values()):
        raise UsageError(f"{folder} is neither a study, as sparse-adapter study makes one, nor a report of one")
    # Nothing but an empty field is missing, and names are text: a task may be called "nan", a backbone "007".
    read = partial(pd.read_csv, keep_default_na=False, na_values=[""], dtype=TEXT | {"variant": "str"})
    tables = {name: read(path) for name, path in files.items()}
    expected = {"results": [*TEXT, "status", "seed", "score"], "curves": CURVE_COLUMNS, "timings": TIMING_COLUMNS}
    for name, columns in expected.items():
        if missing := [column for column in columns if column not in tables[name]]:
            raise UsageError(f"{files[name]} is not of a report of this version: it has no column {', '.join(missing)}")
        for column in tables[name].columns.intersection(NUMBERS[name]):
            if len(tables[name]) and not pd.api.types.is_numeric_dtype(tables[name][column]):
                raise UsageError(f"{files[name]}: the column {column} has something that is no number")
    for column, value in LATER.items():
        if column not in tables["results"]:
            tables["results"][column] = value
    for column in ("error", "variant"):
        tables["results"][column] = tables["results"][column].fillna("")
    return Source(tables, {path.name: path.read_text(encoding="utf-8") for path in sorted(folder.glob("*.yaml"))})


def read_sources(folders: Sequence[Path]) -> Source:
    """All of them as one: every run once, from the first that has finished it.

    Raises:
        UsageError: one is neither study nor report, or runs that would be averaged were made with other settings.
    """
    sources = [read_source(folder) for folder in folders]
    if len(sources) == 1:
        return sources[0]
    results = pd.concat([source.tables["results"].assign(source=i) for i, source in enumerate(sources)])
    results = results.fillna(float("nan"))  # in place of None, too: a rate that is not given is one and the same
    _check_same_settings(results, folders)
    order = list(dict.fromkeys(results["run"]))
    rank = results["status"].map(STATUSES.index)
    results = results.assign(rank=rank).sort_values("rank", kind="stable").drop_duplicates("run")
    results = results.set_index("run", drop=False).loc[order].reset_index(drop=True)
    taken = [set(results["run"][results["source"] == i]) for i in range(len(sources))]
    tables = {"results": results.drop(columns=["source", "rank"])}
    for name in TABLES[1:]:
        parts = (source.tables[name] for source in sources)
        parts = [part[part["run"].isin(runs)] for part, runs in zip(parts, taken, strict=True)]
        tables[name] = pd.concat([part for part in parts if len(part)] or parts, ignore_index=True)
    return Source(tables, _all_configs(sources))


def _check_same_settings(results: pd.DataFrame, folders: Sequence[Path]) -> None:
    made = results[results["status"] == "finished"]
    for _, group in made.groupby(["task", "backbone", "system", "lr"], dropna=False, sort=False):
        rows = group.drop_duplicates("settings").to_dict("records")
        one = rows[0]
        for other in rows[1:]:
            if changed := changes(json.loads(one["settings"]), json.loads(other["settings"])):
                raise UsageError(
                    f"{one['run']} of {folders[one['source']]} and {other['run']} of {folders[other['source']]} would "
                    f"be averaged and were made with other settings: {changed}"
                )


def _all_configs(sources: Sequence[Source]) -> dict[str, str]:
    """Different ones of the same name get a number."""
    found: dict[str, str] = {}
    for source in sources:
        for name, text in source.configs.items():
            path, number = Path(name), 2
            while found.get(name, text) != text:
                name, number = f"{path.stem}-{number}{path.suffix}", number + 1
            found[name] = text
    return found
