"""The finished runs of a study as tables, figures and claims use them: selected, averaged, paired."""

from dataclasses import dataclass

import pandas as pd

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
    n: int = 0
    runs: tuple[str, ...] = ()


class Scores:
    """Finished runs, of each system, task and backbone at the learning rate that did best there.

    Attributes:
        runs: the rows of ``results.csv`` that count.
        curves: the rows of ``curves.csv`` that follow the metric of their run.
        chosen: ``{(task, backbone, system): lr}`` where the grid had several.
        pruner, sparsity: what is compared where the paper compares SNIP at 0.4: these, if the study has them,
            otherwise what it has most of.
    """

    def __init__(self, results: pd.DataFrame, curves: pd.DataFrame):
        finished = results[results["status"] == "finished"]
        self.runs, self.chosen = _at_best_rate(finished)
        metric = self.runs.set_index("run")["curve_metric"]
        curves = curves[curves["run"].isin(metric.index)]
        self.curves = curves[curves["metric"] == curves["run"].map(metric)]
        plain = self.runs[(self.runs["pruner"] != "none") & (self.runs["large_sparse"] == 1)]
        sparse = self.runs[self.runs["pruner"] != "none"]
        self.pruner = _prefer(sparse["pruner"], DEFAULT_PRUNER)
        self.sparsity = _prefer(plain["sparsity"], DEFAULT_SPARSITY)
        self.backbones = list(dict.fromkeys(results["backbone"]))
        self.tasks = dict(zip(results["task"], results["label"], strict=True))

    def select(self, **equal: object) -> pd.DataFrame:
        frame = self.runs
        for column, value in equal.items():
            frame = frame[frame[column] == value]
        return frame

    def values(self, column: str, **equal: object) -> list:
        return sorted(self.select(**equal)[column].dropna().unique().tolist())

    def pairs(self, first: dict, second: dict, tasks: list[str] | None = None) -> pd.DataFrame:
        """``score_first`` and ``score_second`` of every task, backbone, seed and, if both have one, bottleneck."""
        one, other = (self.select(**equal) for equal in (first, second))
        keys = PAIR if FULL in (first, second) else [*PAIR, "bottleneck"]
        columns = [*keys, "score", "run"]
        merged = one[columns].merge(other[columns], on=keys, suffixes=("_first", "_second"))
        return merged if tasks is None else merged[merged["task"].isin(tasks)]

    def cell(self, frame: pd.DataFrame) -> Cell:
        """Of runs of one task and backbone."""
        values = frame["score"]
        if values.empty:
            return Cell()
        sd = float(values.std(ddof=1)) if len(values) > 1 else None
        return Cell(float(values.mean()), sd, len(values), tuple(frame["run"]))

    def average(self, frame: pd.DataFrame, tasks: list[str]) -> Cell:
        """Over ``tasks``, of the seeds that have all of them; the deviation is that of these averages."""
        whole = frame[frame["task"].isin(tasks)].groupby("seed").filter(lambda group: set(group["task"]) == set(tasks))
        if whole.empty:
            return Cell()
        means = whole.groupby(["seed", "task"])["score"].mean().groupby("seed").mean()
        sd = float(means.std(ddof=1)) if len(means) > 1 else None
        return Cell(float(means.mean()), sd, len(means), tuple(whole["run"]))


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


def _at_best_rate(runs: pd.DataFrame) -> tuple[pd.DataFrame, dict[tuple, float]]:
    chosen, kept = {}, []
    for key, group in runs.groupby(["task", "backbone", "system"], sort=False, dropna=False):
        if group["lr"].nunique(dropna=False) > 1:
            means = group.groupby("lr", dropna=False)["score"].mean()
            best = means.idxmax()
            chosen[key] = best
            group = group[group["lr"].isna() if pd.isna(best) else group["lr"] == best]
        kept.append(group)
    return (pd.concat(kept) if kept else runs), chosen
