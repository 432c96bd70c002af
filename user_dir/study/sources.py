"""What a report is made of: studies, and reports of studies whose folders are on another machine, or gone."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from ..errors import UsageError
from .plan import FOLDER, read_plans
from .provenance import config_texts
from .results import CURVE_COLUMNS, TABLES, TIMING_COLUMNS, collect

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
    # Nothing but an empty field is missing: a pruner or a task may well be called "none" or "nan".
    tables = {name: pd.read_csv(path, keep_default_na=False, na_values=[""]) for name, path in files.items()}
    expected = {"results": ["run", "status", "command"], "curves": CURVE_COLUMNS, "timings": TIMING_COLUMNS}
    for name, columns in expected.items():
        if missing := [column for column in columns if column not in tables[name]]:
            raise UsageError(f"{files[name]} is not of a report: it has no column {', '.join(missing)}")
    tables["results"]["error"] = tables["results"]["error"].fillna("")
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
    """The command is all that a run is determined by, except for folders; seeds are averaged."""
    results = results.assign(plain=results["command"].map(lambda command: re.sub(r"\bSEED=\S+ ", "", command)))
    for _, group in results.groupby(["task", "backbone", "system", "lr"], dropna=False, sort=False):
        one, others = group.iloc[0], group[group["plain"] != group["plain"].iloc[0]]
        if len(others):
            other = others.iloc[0]
            words, other_words = one["plain"].split(), other["plain"].split()
            raise UsageError(
                f"{one['run']} of {folders[one['source']]} and {other['run']} of {folders[other['source']]} would be "
                f"averaged and were made with other settings: {_less(words, other_words)} in the first, "
                f"{_less(other_words, words)} in the other"
            )


def _less(words: list[str], others: list[str]) -> str:
    return " ".join(word for word in words if word not in others) or "no such thing"


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
