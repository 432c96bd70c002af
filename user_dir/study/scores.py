"""The finished runs of a study as tables, figures and claims use them: selected, averaged, paired."""

import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import pandas as pd

from ..errors import UsageError
from .catalogue import DESCENDING

DEFAULT_PRUNER, DEFAULT_SPARSITY = "snip", 0.4  # the paper's
FULL = {"family": "none"}
PAIR = ["task", "backbone", "seed"]


def dense(family: str = "houlsby") -> dict:
    return {"family": family, "pruner": "none"}


def pruned(pruner: str, sparsity: float, family: str = "houlsby") -> dict:
    return {"family": family, "pruner": pruner, "sparsity": sparsity, "large_sparse": 1}


def large_sparse(pruner: str, k: int, family: str = "houlsby") -> dict:
    return {"family": family, "pruner": pruner, "large_sparse": k}


@dataclass(frozen=True)
class Cell:
    """Mean and standard deviation over seeds; None without runs, and without a second seed."""

    mean: float | None = None
    sd: float | None = None
    seeds: tuple[int, ...] = ()
    runs: tuple[str, ...] = ()

    @property
    def n(self) -> int:
        return len(self.seeds)


@dataclass(frozen=True)
class Choice:
    """One learning rate of several, of a system on a task; a rate is None where it was the example's default.

    Args:
        rate: the chosen one.
        seeds: those that all rates which can be chosen have; these are compared by them.
        means: of each rate over those seeds, None where it has not all of them.
        failed: of each rate, how many runs ended with an error. One with such runs cannot be chosen, whatever its
            others came to, unless all have some: a rate that diverges now and then does best where it does not.
    """

    rate: float | None
    seeds: tuple[int, ...]
    means: dict[float | None, float | None]
    failed: dict[float | None, int]


class Scores:
    """Finished runs, of each system, task and backbone at the learning rate that did best there.

    Attributes:
        runs: the rows of ``results.csv`` that count.
        planned: all rows of ``results.csv``, of runs that have finished or not.
        fractions: tasks with scores of at most 1, which seem not to be x 100, as differences and margins are.
        curves: the rows of ``curves.csv`` that follow the metric of their run.
        tasks: the label of each task, one of its own.
        chosen: ``{(task, backbone, system): choice}`` where the grid had several learning rates.
        pruner, sparsity: what is compared where the paper compares SNIP at 0.4: these, if the study has them,
            otherwise what it has most of.

    Raises:
        UsageError: runs of one task were scored by different metrics.
    """

    def __init__(self, results: pd.DataFrame, curves: pd.DataFrame):
        self.planned = results
        for task, metrics in results.groupby("task")["metric"]:
            if len(names := sorted(metrics.dropna().unique())) > 1:
                raise UsageError(f"task {task} was scored by {' and by '.join(names)}: its runs cannot be averaged")
        self.runs, self.chosen = _at_best_rate(results)
        largest = self.runs["score"].abs().groupby(self.runs["task"]).max()
        self.fractions = set(largest.index[(largest > 0) & (largest <= 1)])
        metric = self.runs.set_index("run")["curve_metric"]
        curves = curves[curves["run"].isin(metric.index)]
        self.curves = curves[curves["metric"] == curves["run"].map(metric)]
        # Of all that is planned: with half of the runs finished, a study is about the same as in the end.
        sparse = results[results["pruner"] != "none"]
        plain = sparse[sparse["large_sparse"] == 1]
        self.pruner = _prefer(sparse["pruner"], DEFAULT_PRUNER)
        self.sparsity = _prefer(plain["sparsity"], DEFAULT_SPARSITY)
        self.backbones = list(dict.fromkeys(results["backbone"]))
        self.tasks = _labels(results)

    def select(self, **equal: object) -> pd.DataFrame:
        """Runs of these values; of no variant, unless one is named."""
        return _where(self.runs, {"variant": "", **equal})

    def values(self, column: str, **equal: object) -> list:
        return sorted(self.select(**equal)[column].dropna().unique().tolist())

    def named(self, column: str, labels: dict[str, str], **equal: object) -> dict[str, str]:
        """The labels of values and, after them, what else the study has in this column, under its own name."""
        others = (value for value in self.values(column, **equal) if value not in (*labels, "none"))
        return labels | {value: value for value in others}

    def told_apart(self, systems: dict[str, dict]) -> dict[str, dict]:
        """Selections by label; one that the grid has several bottlenecks of becomes one for each."""
        found = {}
        for label, selector in systems.items():
            names = self.select(**selector)["system"].unique()
            if len(names) < 2:
                found[label] = selector
            else:
                sizes = zip(names, self.sizes(names), strict=True)
                found |= {f"{label} ({size})": {**selector, "system": name} for name, size in sizes}
        return found

    def sizes(self, systems: Sequence[str]) -> list[str]:
        """What tells systems apart that differ in their bottleneck only: that, or else their names."""
        sizes = []
        for system in systems:
            found = self.planned["bottleneck"][self.planned["system"] == system].dropna().unique()
            sizes.append(f"r = {found[0]:g}" if len(found) == 1 else system)
        return sizes if len(set(sizes)) == len(sizes) else list(systems)

    def place(self, task: str, backbone: str) -> str:
        """As it is printed: the backbone where the task has several."""
        several = self.planned["backbone"][self.planned["task"] == task].nunique() > 1
        return f"{self.tasks[task]} ({backbone})" if several else self.tasks[task]

    def pairs(self, first: dict, second: dict) -> pd.DataFrame:
        """Every planned pair of the same task, backbone, seed and, unless one is full fine-tuning, bottleneck. One
        that no config names, so that the example's default holds, is the same as none but another such one.

        ``run_first``, ``score_first`` and the same of ``_second`` are nan where the run has not finished.
        """
        keys = PAIR if FULL in (first, second) else [*PAIR, "bottleneck"]
        # One of each, whatever the number of learning rates.
        planned = (_where(self.planned, {"variant": "", **equal}) for equal in (first, second))
        one, other = (runs[[*keys, "system"]].drop_duplicates() for runs in planned)
        pairs = one.merge(other, on=keys, suffixes=("_first", "_second"))
        for side in ("_first", "_second"):
            runs = self.runs[[*PAIR, "system", "run", "score"]]
            runs = runs.rename(columns={name: f"{name}{side}" for name in ("system", "run", "score")})
            pairs = pairs.merge(runs, on=[*PAIR, f"system{side}"], how="left")
        return pairs

    def other_metrics(self, task: str, backbone: str) -> list[str]:
        """Those of which more is better that runs were scored by besides the one that counts, as ``value`` is, too."""
        runs = self.select(task=task, backbone=backbone)
        found = dict.fromkeys(name for scores in runs["all_scores"].map(json.loads) for name in scores)
        known = {"value", *runs["metric"], *DESCENDING}
        return [name for name in found if name not in known and _metric(runs, name).notna().all()]

    def cell(self, frame: pd.DataFrame, metric: str | None = None) -> Cell:
        """Of runs of one system on one task and backbone, by the metric that counts or another.

        Raises:
            ValueError: they are of several.
        """
        _check_one(frame, ["system", "backbone", "task"])
        values = frame["score"] if metric is None else _metric(frame, metric)
        return _cell(pd.Series(values.to_numpy(), frame["seed"]), frame["run"])

    def average(self, frame: pd.DataFrame, tasks: list[str]) -> Cell:
        """Over ``tasks``, of the seeds that have all of them; the deviation is that of these averages.

        Raises:
            ValueError: the runs are of several systems or backbones.
        """
        _check_one(frame, ["system", "backbone"])
        whole = frame[frame["task"].isin(tasks)].groupby("seed").filter(lambda group: set(group["task"]) == set(tasks))
        return _cell(whole.groupby("seed")["score"].mean(), whole["run"])


def _labels(results: pd.DataFrame) -> dict[str, str]:
    """What each task is called; two of one label, as of several configs in a folder, are told apart by their names."""
    labels = dict(zip(results["task"], results["label"], strict=True))
    count = Counter(labels.values())
    return {task: label if count[label] == 1 else f"{label} ({task})" for task, label in labels.items()}


def _metric(frame: pd.DataFrame, name: str) -> pd.Series:
    """What ``scores.json`` says by this name; nan where that is nothing or no score."""
    values = (json.loads(scores).get(name) for scores in frame["all_scores"])
    known = [value if isinstance(value, float) else float("nan") for value in values]
    return pd.Series(known, frame.index, dtype=float)


def _where(frame: pd.DataFrame, equal: dict) -> pd.DataFrame:
    for column, value in equal.items():
        frame = frame[frame[column] == value]
    return frame


def _check_one(frame: pd.DataFrame, columns: list[str]) -> None:
    if len(found := frame[columns].drop_duplicates()) > 1:
        raise ValueError(f"runs of several {', '.join(columns)} have no mean: {found.to_numpy().tolist()}")


def _cell(by_seed: pd.Series, runs: pd.Series) -> Cell:
    if by_seed.empty:
        return Cell()
    sd = float(by_seed.std(ddof=1)) if len(by_seed) > 1 else None
    return Cell(float(by_seed.mean()), sd, tuple(sorted(by_seed.index.tolist())), tuple(runs))


def parameter_share(frame: pd.DataFrame) -> float | None:
    """Adapter parameters as a percentage of the backbone's; 100 of full fine-tuning."""
    if frame.empty:
        return None
    if (frame["family"] == "none").all():
        return 100.0
    share = (frame["adapter_parameters"].astype(float) / frame["backbone_parameters"].astype(float)).dropna()
    return None if share.empty else float(100 * share.mean())


def _prefer(column: pd.Series, wanted):
    if column.empty or (column == wanted).any():
        return wanted
    return column.mode().iloc[0]


def _at_best_rate(results: pd.DataFrame) -> tuple[pd.DataFrame, dict[tuple, Choice]]:
    """The finished runs at the chosen rates, and the choices."""
    chosen, kept = {}, []
    for key, group in results.groupby(["task", "backbone", "system"], sort=False):
        finished = _finished(group)
        if group["lr"].nunique(dropna=False) > 1 and len(finished):
            by_rate = {None if pd.isna(lr) else lr: runs for lr, runs in group.groupby("lr", dropna=False)}
            chosen[key] = choice = _choose(by_rate)
            finished = _finished(by_rate[choice.rate])
        if len(finished):
            kept.append(finished)
    return (pd.concat(kept) if kept else results.iloc[:0]), chosen


def _finished(runs: pd.DataFrame) -> pd.DataFrame:
    return runs[runs["status"] == "finished"]


def _choose(runs: dict[float | None, pd.DataFrame]) -> Choice:
    """The rate with the best mean over the seeds that all candidates have; without such a seed, the one with most."""
    scores = {rate: _finished(own).set_index("seed")["score"] for rate, own in runs.items()}
    failed = {rate: int((own["status"] == "failed").sum()) for rate, own in runs.items()}
    found = [rate for rate, by_seed in scores.items() if len(by_seed)]
    candidates = [rate for rate in found if not failed[rate]] or found
    seeds = sorted(set.intersection(*(set(scores[rate].index) for rate in candidates)))
    means = {
        rate: float(by_seed.loc[seeds].mean()) if seeds and set(seeds) <= set(by_seed.index) else None
        for rate, by_seed in scores.items()
    }
    best = max(candidates, key=lambda rate: means[rate] if seeds else len(scores[rate]))
    return Choice(best, tuple(seeds), means, failed)
