"""Paired comparisons: the mean difference of two systems over the same tasks and seeds, its interval, a verdict."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean, variance

from scipy import stats

SUPPORTED, NOT_SUPPORTED, UNDECIDED, UNTESTED = "supported", "not supported", "undecided", "not tested"
SUPPORTED_SO_FAR, NOT_SUPPORTED_SO_FAR = (f"{verdict} as far as tested" for verdict in (SUPPORTED, NOT_SUPPORTED))
# Points: differences nearer than this differ by rounding only. Examples write scores with four decimals, so that two
# differences of two scores each may be 2e-4 apart.
SAME = 2.5e-4


@dataclass(frozen=True)
class Comparison:
    """Two systems, paired over seeds.

    Args:
        n: pairs.
        difference: mean of first - second, in points.
        low, high: its confidence interval; nan where there is none.
        p: of the t-test that the difference is 0; nan likewise.
        df: degrees of freedom; nan likewise.
        planned: pairs that there will be when all planned runs have finished.
        reason: why there is no interval.
    """

    n: int
    difference: float = math.nan
    low: float = math.nan
    high: float = math.nan
    p: float = math.nan
    df: float = math.nan
    planned: int = 0
    reason: str = ""


def compare(strata: Mapping[str, Sequence[float]], level: float = 0.95, planned: int = 0) -> Comparison:
    """The stratified paired t interval of differences over seeds, given for each stratum: a task with a backbone.

    With T strata of n differences each with mean m and variance s^2, all of which depend on the stratum, the difference
    is sum(m) / T and its squared standard error sum(v) / T^2 with v = s^2 / n: strata count the same, whatever their
    n. The degrees of freedom are sum(v)^2 / sum(v^2 / (n - 1)): B. L. Welch, The generalization of "Student's" problem
    when several different population variances are involved, Biometrika 34 (1947), and F. E. Satterthwaite, An
    approximate distribution of estimates of variance components, Biometrics Bulletin 2 (1946). Of one stratum, all this
    is ``scipy.stats.ttest_rel``.

    Strata are taken as independent of each other, and as all that there are: the interval is for these tasks.

    A stratum with one difference says nothing of its spread, and differences that are all the same say that scores are
    coarse and not that they are certain: in both cases there is no interval.
    """
    found = {name: list(differences) for name, differences in strata.items() if len(differences)}
    n = sum(map(len, found.values()))
    if n == 0:
        return Comparison(0, planned=planned)
    difference = fmean(map(fmean, found.values()))
    single = [name for name, differences in found.items() if len(differences) == 1]
    constant = [name for name, differences in found.items() if max(differences) - min(differences) <= SAME]
    for lacking, reason in ((single, "one seed"), (constant, "no spread over seeds")):
        if lacking:
            where = "" if len(lacking) == len(found) else f" of {', '.join(lacking)}"
            return Comparison(n, difference, planned=planned, reason=f"{reason}{where}")
    terms = [(variance(differences) / len(differences), len(differences) - 1) for differences in found.values()]
    total = math.fsum(v for v, _ in terms)
    df = total**2 / math.fsum(v**2 / free for v, free in terms)
    error = math.sqrt(total) / len(found)
    half = float(stats.t.ppf((1 + level) / 2, df)) * error
    p = 2 * float(stats.t.sf(abs(difference) / error, df))
    return Comparison(n, difference, difference - half, difference + half, p, df, planned)


def exceeds(comparison: Comparison, bound: float = 0.0) -> str:
    """Whether the difference is above ``bound``: its whole interval, no part of it, or the data do not say.

    With ``bound = -margin``, this is whether the first matches or beats the second (non-inferiority).
    """
    if comparison.n == 0:
        return UNTESTED
    if comparison.reason:
        return UNDECIDED
    whole = comparison.n >= comparison.planned
    if comparison.low > bound:
        return SUPPORTED if whole else SUPPORTED_SO_FAR
    if comparison.high < bound:
        return NOT_SUPPORTED if whole else NOT_SUPPORTED_SO_FAR
    return UNDECIDED


def all_of(verdicts: Sequence[str]) -> str:
    """Of a claim's parts: one that fails fails it, one that is undecided leaves it so, and all support it.

    It is supported, or not, only as far as tested where planned pairs are missing, and supported so where whole
    comparisons are.
    """
    tested = [verdict for verdict in verdicts if verdict != UNTESTED]
    if not tested:
        return UNTESTED
    for verdict in (NOT_SUPPORTED, NOT_SUPPORTED_SO_FAR, UNDECIDED):
        if verdict in tested:
            return verdict
    return SUPPORTED if set(verdicts) == {SUPPORTED} else SUPPORTED_SO_FAR
