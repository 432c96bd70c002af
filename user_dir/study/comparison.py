"""Paired comparisons: the mean difference of two systems over the same tasks and seeds, its interval, a verdict."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from scipy import stats

SUPPORTED, NOT_SUPPORTED, UNDECIDED, UNTESTED = "supported", "not supported", "undecided", "not tested"
SUPPORTED_SO_FAR = "supported as far as tested"


@dataclass(frozen=True)
class Comparison:
    """Args:
    n: pairs.
    difference: mean of first - second, in points.
    low, high: its confidence interval; nan with fewer than two pairs.
    p: of the paired t-test that the mean difference is 0; nan likewise, or where all differences are the same.
    """

    n: int
    difference: float = math.nan
    low: float = math.nan
    high: float = math.nan
    p: float = math.nan


def compare(first: Sequence[float], second: Sequence[float], level: float = 0.95) -> Comparison:
    """The paired t interval, ``scipy.stats.ttest_rel``, of values in the same order of pairs.

    Raises:
        ValueError: they are not of the same length.
    """
    differences = [a - b for a, b in zip(first, second, strict=True)]
    n = len(differences)
    if n == 0:
        return Comparison(0)
    mean = math.fsum(differences) / n
    if n == 1:
        return Comparison(1, mean)
    if max(differences) - min(differences) < 1e-12 * max(1.0, abs(mean)):  # no spread: t is 0/0 or infinite
        return Comparison(n, mean, mean, mean)
    test = stats.ttest_rel(first, second)
    interval = test.confidence_interval(level)
    return Comparison(n, mean, float(interval.low), float(interval.high), float(test.pvalue))


def exceeds(comparison: Comparison, bound: float = 0.0) -> str:
    """Whether the difference is above ``bound``: its whole interval, no part of it, or the data do not say."""
    return _verdict(comparison, comparison.low > bound, comparison.high < bound)


def at_least_equal(comparison: Comparison, margin: float) -> str:
    """Whether the first matches or beats the second: its whole interval is above ``-margin`` (non-inferiority).

    Not supported where the whole interval is below 0, unless it is within the margin.
    """
    return _verdict(comparison, comparison.low > -margin, comparison.high < 0)


def all_of(verdicts: Sequence[str]) -> str:
    """Of a claim's parts: one that fails fails it, one that is undecided leaves it so, and all support it."""
    tested = [verdict for verdict in verdicts if verdict != UNTESTED]
    if not tested:
        return UNTESTED
    for verdict in (NOT_SUPPORTED, UNDECIDED):
        if verdict in tested:
            return verdict
    return SUPPORTED if len(tested) == len(verdicts) else SUPPORTED_SO_FAR


def _verdict(comparison: Comparison, holds: bool, fails: bool) -> str:
    if comparison.n == 0:
        return UNTESTED
    if comparison.n == 1:
        return UNDECIDED
    return SUPPORTED if holds else NOT_SUPPORTED if fails else UNDECIDED
