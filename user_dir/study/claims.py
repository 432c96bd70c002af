"""The paper's claims, and what a study's runs say of each."""

import functools
import itertools
import math
from collections.abc import Callable
from dataclasses import dataclass

import pandas as pd

from .catalogue import DESCENDING
from .comparison import (
    NOT_SUPPORTED,
    NOT_SUPPORTED_SO_FAR,
    SUPPORTED,
    SUPPORTED_SO_FAR,
    UNDECIDED,
    Comparison,
    all_of,
    compare,
    exceeds,
)
from .scores import DEFAULT_PRUNER, DEFAULT_SPARSITY, FULL, Scores, dense, large_sparse, pruned

MARGIN = 0.5  # points
LEVEL = 0.95
EARLIER = 25.0  # % of the training
UP_TO = 0.8
PAPER_SPARSITIES = (0.2, 0.4, 0.6, 0.8)
PAPER_PRUNERS = ("random", "magnitude", "er", "snip", "grasp")
PAPER_FACTORS = (2, 3, 4)
PAPER_FAMILIES = ("houlsby", "pfeiffer", "lora", "mam", "adapter_fusion")


@dataclass(frozen=True)
class Part:
    """One comparison of two systems, over all tasks and backbones.

    Args:
        places: the same for each task, and of several backbones for each of them, alone: which is its label.
        pairs: runs.
    """

    label: str
    comparison: Comparison
    verdict: str
    places: tuple["Part", ...] = ()
    pairs: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True)
class Claim:
    """What the paper says, and the comparisons that decide it.

    Args:
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

    @property
    def exceptions(self) -> list[str]:
        """Where a supported claim does not hold: the mean over tasks and backbones hides it."""
        if self.verdict not in (SUPPORTED, SUPPORTED_SO_FAR):
            return []
        fails = (NOT_SUPPORTED, NOT_SUPPORTED_SO_FAR)
        return list(dict.fromkeys(one.label for part in self.parts for one in part.places if one.verdict in fails))

    @property
    def deciding(self) -> Part | None:
        """The tested part that the verdict rests on: one not supported, else one undecided; of several, the least."""
        tested = [part for part in self.parts if part.comparison.n]
        order = {NOT_SUPPORTED: 0, NOT_SUPPORTED_SO_FAR: 1, UNDECIDED: 2}
        return min(tested, key=lambda part: (order.get(part.verdict, 3), part.comparison.difference), default=None)


def judge(scores: Scores, margin: float = MARGIN, level: float = LEVEL) -> list[Claim]:
    """All claims. Those that the study has no runs for are not tested."""
    pruner, sparsity = scores.pruner, scores.sparsity
    percent = f"{100 * level:g} % interval"
    beats = f"supported if the {percent} of the difference lies above 0, not supported if it lies below 0"
    matches = f"supported if the {percent} of the difference lies above {-margin:g}, not supported if it lies below it"
    # Of what the paper has not, its claim is not what is tested.
    at = "" if sparsity == DEFAULT_SPARSITY else f", which have s = {DEFAULT_SPARSITY:g}"
    by = "" if pruner == DEFAULT_PRUNER else ", with SNIP"

    def claim(
        text: str, source: str, rule: str, compared: list[tuple], verdict=exceeds, measure=_gain, unit: str = "points"
    ) -> Claim:
        parts = (_parts(scores, *systems, level, verdict, measure) for systems in compared)
        return Claim(text, source, rule, tuple(itertools.chain(*parts)), unit)

    matching = functools.partial(exceeds, bound=-margin)
    plain = {"family": "houlsby", "large_sparse": 1}
    # What the paper has, tested or not, and what else the study has.
    sparsities = _with(scores.values("sparsity", pruner=pruner, **plain), PAPER_SPARSITIES)
    random = _with(scores.values("sparsity", pruner="random", **plain), PAPER_SPARSITIES)
    pruners = _with(scores.values("pruner", sparsity=sparsity, **plain), PAPER_PRUNERS)
    factors = _with(scores.values("large_sparse", family="houlsby", pruner=pruner), PAPER_FACTORS)
    families = _with(scores.values("family", pruner=pruner, sparsity=sparsity, large_sparse=1), PAPER_FAMILIES)
    return [
        claim(
            f"SparseAdapter matches or beats the dense adapter up to {100 * UP_TO:g} % sparsity.",
            f"abstract, Table 2{by}",
            matches,
            [(f"{pruner} s = {s:g} against dense", pruned(pruner, s), dense()) for s in sparsities if s <= UP_TO],
            matching,
        ),
        claim(
            "Even randomly pruned adapters match the dense adapter up to 80 % sparsity.",
            "§1, Figure 2",
            matches,
            [(f"random s = {s:g} against dense", pruned("random", s), dense()) for s in random if s <= UP_TO],
            matching,
        ),
        claim(
            f"SNIP is the best pruner (s = {sparsity:g}).",
            f"§3, Table 1{at}",
            f"{beats}; against each other pruner, and all have to be supported",
            [
                (f"snip against {name}", pruned("snip", sparsity), pruned(name, sparsity))
                for name in pruners
                if name != "snip"
            ],
        ),
        claim(
            f"A sparsity of {sparsity:g} beats the dense adapter.",
            f"§3, Tables 1 and 2{by}{at}",
            beats,
            [(f"{pruner} s = {sparsity:g} against dense", pruned(pruner, sparsity), dense())],
        ),
        claim(
            "Large-Sparse beats the dense adapter.",
            f"§3, Table 3{by}",
            f"{beats}; for each factor",
            [(f"Large-Sparse {k}× against dense", large_sparse(pruner, k), dense()) for k in factors],
        ),
        claim(
            "Large-Sparse beats full fine-tuning.",
            f"abstract, §3.1{by}",
            f"{beats}; at the largest factor, as in the paper",
            [(f"Large-Sparse {factors[-1]}× against full", large_sparse(pruner, factors[-1]), FULL)],
        ),
        claim(
            f"Large-Sparse converges at least {EARLIER:g} % earlier than the dense adapter.",
            f"§3, Figure 4{by}",
            f"first validation at the dense adapter's final score; the lead is in % of the training. Supported if its "
            f"{percent} lies above {EARLIER:g}, not supported if below. A run that never gets there counts as 100 %",
            [(f"Large-Sparse {k}×: lead over dense", large_sparse(pruner, k), dense()) for k in factors],
            functools.partial(exceeds, bound=EARLIER),
            _lead,
            "% of the training",
        ),
        claim(
            f"The gain of s = {sparsity:g} holds for all adapter families.",
            f"§3, Table 4{by}{at}",
            f"{beats}; for each family",
            [
                (f"{family} at s = {sparsity:g} against dense", pruned(pruner, sparsity, family), dense(family))
                for family in families
            ],
        ),
    ]


def compare_variants(scores: Scores, level: float = LEVEL) -> list[Part]:
    """Each variant of a system against the system itself, which no claim is about."""
    found = scores.planned[scores.planned["variant"] != ""][["system", "variant"]].drop_duplicates()
    parts = []
    for variant in found.to_dict("records"):
        base = variant["system"].removesuffix(f"-{variant['variant']}")
        label = f"{variant['system']} against {base}"
        parts += _parts(scores, label, variant, {"system": base}, level, exceeds, _gain)
    return [part for part in parts if part.comparison.n]


def _with(found: list, papers: tuple) -> list:
    """The paper's values and, after them, others of the study that stand for pruning."""
    return [*papers, *(value for value in found if value not in (*papers, "none", 0, 1))]


def _gain(scores: Scores, pairs: pd.DataFrame) -> pd.Series:
    """In points; nan of a task whose scores are none."""
    return (pairs["score_first"] - pairs["score_second"]).mask(pairs["task"].isin(scores.fractions))


def _lead(scores: Scores, pairs: pd.DataFrame) -> list[float]:
    """How much earlier the first reaches the second's final score, in % of the training; nan without both curves."""
    curves = dict(list(scores.curves.groupby("run")))
    leads = []
    for pair in pairs.to_dict("records"):
        first, second = (curves.get(pair[f"run_{side}"]) for side in ("first", "second"))
        if first is None or second is None:
            leads.append(math.nan)
        else:
            target = second.sort_values("update")["value"].iloc[-1]
            leads.append(100 * (first_reached(second, target) - first_reached(first, target)))
    return leads


def _parts(
    scores: Scores, label: str, first: dict, second: dict, level: float, verdict: Callable, measure: Callable
) -> list[Part]:
    """The comparison of two systems; where they have several bottlenecks, one for each."""
    pairs = scores.pairs(first, second)
    pairs = pairs.assign(difference=measure(scores, pairs))
    systems = dict(list(pairs.groupby(["system_first", "system_second"], sort=False)))
    if len(systems) < 2:
        return [_part(scores, label, pairs, level, verdict)]
    names = scores.sizes([first for first, _ in systems])
    if len(set(names)) < len(names):  # one against several of the same bottleneck
        names = [", ".join(pair) for pair in systems]
    return [
        _part(scores, f"{label} ({name})", own, level, verdict)
        for name, own in zip(names, systems.values(), strict=True)
    ]


def _part(scores: Scores, label: str, pairs: pd.DataFrame, level: float, verdict: Callable) -> Part:
    made = pairs.dropna(subset=["difference"])

    def judged(name: str, planned: pd.DataFrame, **whole) -> Part:
        own = planned.dropna(subset=["difference"])
        strata = {
            scores.place(*place): group["difference"].tolist()
            for place, group in own.groupby(["task", "backbone"], sort=False)
        }
        comparison = compare(strata, level, len(planned))
        return Part(name, comparison, verdict(comparison), **whole)

    groups = pairs.groupby(["task", "backbone"], sort=False)
    places = tuple(judged(scores.place(*place), group) for place, group in groups)
    return judged(label, pairs, places=places, pairs=tuple(zip(made["run_first"], made["run_second"], strict=True)))


def first_reached(curve: pd.DataFrame, target: float) -> float:
    """The share of the training after which a curve is first as good as ``target``; 1 if it never is."""
    curve = curve.sort_values("update")
    less_is_better = curve["metric"].iloc[0] in DESCENDING
    good = curve["value"] <= target if less_is_better else curve["value"] >= target
    return float(curve["progress"][good].min()) if good.any() else 1.0
