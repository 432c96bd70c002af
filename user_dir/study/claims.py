"""The paper's claims, and what a study's runs say of each."""

from dataclasses import dataclass, field

import pandas as pd

from .catalogue import DESCENDING
from .comparison import Comparison, all_of, at_least_equal, compare, exceeds
from .scores import FULL, PAIR, Scores, dense, large_sparse, pruned

MARGIN = 0.5  # points
EARLIER = 25.0  # % of the training
UP_TO = 0.8
PAPER_SPARSITIES = (0.2, 0.4, 0.6, 0.8)
PAPER_PRUNERS = ("random", "magnitude", "er", "snip", "grasp")
PAPER_FACTORS = (2, 3, 4)
PAPER_FAMILIES = ("houlsby", "pfeiffer", "lora", "mam", "adapter_fusion")


@dataclass(frozen=True)
class Part:
    """One comparison: over all pairs, and for each task alone."""

    label: str
    comparison: Comparison
    verdict: str
    tasks: dict[str, Comparison] = field(default_factory=dict)
    pairs: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True)
class Claim:
    """Args:
    rule: when it counts as supported.
    unit: of the differences.
    """

    text: str
    source: str
    rule: str
    parts: tuple[Part, ...]
    unit: str = "points"

    @property
    def verdict(self) -> str:
        return all_of([part.verdict for part in self.parts])


def judge(scores: Scores, margin: float = MARGIN, level: float = 0.95) -> list[Claim]:
    """All claims. Those that the study has no runs for are not tested."""
    pruner, sparsity = scores.pruner, scores.sparsity
    percent = f"{100 * level:g} % interval"
    beats = f"supported if the {percent} of the difference lies above 0, not supported if it lies below 0"
    matches = (
        f"supported if the {percent} of the difference lies above -{margin:g}, not supported if it lies below 0 and "
        "not within that margin"
    )

    def part(label: str, first: dict, second: dict, verdict=exceeds, *bound: float) -> Part:
        pairs = scores.pairs(first, second)
        comparison = compare(pairs["score_first"], pairs["score_second"], level)
        tasks = {
            scores.tasks[task]: compare(group["score_first"], group["score_second"], level)
            for task, group in pairs.groupby("task", sort=False)
        }
        runs = tuple(zip(pairs["run_first"], pairs["run_second"], strict=True))
        return Part(label, comparison, verdict(comparison, *bound), tasks, runs)

    plain = {"family": "houlsby", "large_sparse": 1}
    # What the paper has, tested or not, and what else the study has.
    sparsities = _with(scores.values("sparsity", pruner=pruner, **plain), PAPER_SPARSITIES)
    random = _with(scores.values("sparsity", pruner="random", **plain), PAPER_SPARSITIES)
    pruners = _with(scores.values("pruner", sparsity=sparsity, **plain), PAPER_PRUNERS)
    factors = _with(scores.values("large_sparse", family="houlsby", pruner=pruner), PAPER_FACTORS)
    families = _with(scores.values("family", pruner=pruner, sparsity=sparsity, large_sparse=1), PAPER_FAMILIES)
    return [
        Claim(
            f"SparseAdapter matches or beats the dense adapter up to {100 * UP_TO:g} % sparsity.",
            "abstract, Table 2",
            matches,
            tuple(
                part(f"{pruner} s = {s:g} against dense", pruned(pruner, s), dense(), at_least_equal, margin)
                for s in sparsities
                if s <= UP_TO
            ),
        ),
        Claim(
            "Even randomly pruned adapters match the dense adapter up to 80 % sparsity.",
            "§1, Figure 2",
            matches,
            tuple(
                part(f"random s = {s:g} against dense", pruned("random", s), dense(), at_least_equal, margin)
                for s in random
                if s <= UP_TO
            ),
        ),
        Claim(
            f"SNIP is the best pruner (s = {sparsity:g}).",
            "§3, Table 1",
            f"{beats}; against each other pruner, and all have to be supported",
            tuple(
                part(f"snip against {name}", pruned("snip", sparsity), pruned(name, sparsity))
                for name in pruners
                if name != "snip"
            ),
        ),
        Claim(
            f"A sparsity of {sparsity:g} beats the dense adapter.",
            "§3, Tables 1 and 2",
            beats,
            (part(f"{pruner} s = {sparsity:g} against dense", pruned(pruner, sparsity), dense()),),
        ),
        Claim(
            "Large-Sparse beats the dense adapter.",
            "§3, Table 3",
            f"{beats}; for each factor",
            tuple(part(f"Large-Sparse {k}× against dense", large_sparse(pruner, k), dense()) for k in factors),
        ),
        Claim(
            "Large-Sparse beats full fine-tuning.",
            "abstract, Table 3",
            f"{beats}; at the largest factor, as in the paper",
            (part(f"Large-Sparse {factors[-1]}× against full", large_sparse(pruner, factors[-1]), FULL),),
        ),
        Claim(
            f"Large-Sparse converges at least {EARLIER:g} % earlier than the dense adapter.",
            "§3, Figure 4",
            f"first validation at the dense adapter's final score; the lead is in % of the training. Supported if its "
            f"{percent} lies above {EARLIER:g}, not supported if below. A run that never gets there counts as 100 %",
            tuple(_convergence(scores, f"Large-Sparse {k}×", large_sparse(pruner, k), level) for k in factors),
            unit="% of the training",
        ),
        Claim(
            f"The gain of s = {sparsity:g} holds for all adapter families.",
            "§3, Table 4",
            f"{beats}; for each family",
            tuple(
                part(f"{family} at s = {sparsity:g} against dense", pruned(pruner, sparsity, family), dense(family))
                for family in families
            ),
        ),
    ]


def _with(found: list, papers: tuple) -> list:
    """The paper's values and, after them, others of the study that stand for pruning."""
    return [*papers, *(value for value in found if value not in (*papers, "none", 0, 1))]


def _convergence(scores: Scores, label: str, system: dict, level: float) -> Part:
    pairs = scores.pairs(dense(), system)
    curves = dict(list(scores.curves.groupby("run")))
    rows = []
    for pair in pairs.to_dict("records"):
        reference, other = (curves.get(pair[f"run_{side}"]) for side in ("first", "second"))
        if reference is not None and other is not None:
            target = reference.sort_values("update")["value"].iloc[-1]
            reached = [100 * first_reached(curve, target) for curve in (reference, other)]
            rows.append({**{key: pair[key] for key in (*PAIR, "run_first", "run_second")}, "dense": reached[0],
                         "other": reached[1]})  # fmt: skip
    frame = pd.DataFrame(rows, columns=[*PAIR, "run_first", "run_second", "dense", "other"])
    comparison = compare(frame["dense"], frame["other"], level)
    tasks = {
        scores.tasks[task]: compare(group["dense"], group["other"], level)
        for task, group in frame.groupby("task", sort=False)
    }
    runs = tuple(zip(frame["run_second"], frame["run_first"], strict=True))
    return Part(f"{label}: lead over dense", comparison, exceeds(comparison, EARLIER), tasks, runs)


def first_reached(curve: pd.DataFrame, target: float) -> float:
    """The share of the training after which a curve is first as good as ``target``; 1 if it never is."""
    curve = curve.sort_values("update")
    less_is_better = curve["metric"].iloc[0] in DESCENDING
    good = curve["value"] <= target if less_is_better else curve["value"] >= target
    return float(curve["progress"][good].min()) if good.any() else 1.0
