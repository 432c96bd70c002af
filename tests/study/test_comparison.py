"""Paired intervals against a case computed by hand, and what is made of them."""

import math

import pytest
from scipy import stats
from sparse_adapter.study.comparison import (
    NOT_SUPPORTED,
    NOT_SUPPORTED_SO_FAR,
    SUPPORTED,
    SUPPORTED_SO_FAR,
    UNDECIDED,
    UNTESTED,
    Comparison,
    all_of,
    compare,
    exceeds,
)


def test_a_case_by_hand():
    # Differences 1, 2, 3: mean 2, sd 1, standard error 1/sqrt 3, t(0.975, 2) = 4.302653, so ± 2.484138.
    found = compare({"RTE": [1, 2, 3]})
    assert found.n == 3 and found.difference == 2 and found.df == pytest.approx(2)
    assert (found.low, found.high) == (pytest.approx(2 - 2.484138, abs=1e-5), pytest.approx(2 + 2.484138, abs=1e-5))
    # t = 2 sqrt 3 = 3.4641 on 2 degrees of freedom: p = 1 - t / sqrt(t^2 + 2) = 1 - sqrt(12 / 14).
    assert found.p == pytest.approx(1 - math.sqrt(12 / 14))


def test_two_strata_by_hand():
    # 1, 2, 3: s^2 / n = 1 / 3. 0, 8: mean 4, s^2 / n = 32 / 2 = 16.
    found = compare({"CoLA": [1, 2, 3], "RTE": [0, 8]})
    assert found.n == 5 and found.difference == 3
    # (49/3)^2 / ((1/3)^2 / 2 + 16^2 / 1) = (2401 / 9) / (4609 / 18)
    assert found.df == pytest.approx(4802 / 4609)
    half = stats.t.ppf(0.975, 4802 / 4609) * math.sqrt(49 / 3) / 2
    assert (found.low, found.high) == (pytest.approx(3 - half), pytest.approx(3 + half))


def test_one_stratum_is_the_paired_t_test():
    first, second = [70.4, 69.3, 71.8, 70.0], [69.3, 69.0, 70.8, 70.4]
    test = stats.ttest_rel(first, second)
    found = compare({"RTE": [a - b for a, b in zip(first, second, strict=True)]}, 0.9)
    interval = test.confidence_interval(0.9)
    assert (found.low, found.high) == (pytest.approx(interval.low), pytest.approx(interval.high))
    assert (found.p, found.df) == (pytest.approx(test.pvalue), pytest.approx(test.df))


def test_two_strata_are_welch_s_test():
    # Welch's test of two samples is about mean(a) - mean(b), which is twice the mean of the strata a and -b.
    a, b = [1.3, 0.2, 0.9, 2.0, 1.1], [0.4, -1.9, 0.6]
    test = stats.ttest_ind(a, b, equal_var=False)
    found = compare({"CoLA": a, "RTE": [-value for value in b]})
    assert (found.p, found.df) == (pytest.approx(test.pvalue), pytest.approx(test.df))
    assert 2 * found.low == pytest.approx(test.confidence_interval().low)


def test_every_stratum_counts_the_same_whatever_its_seeds():
    found = compare({"CoLA": [0.9, 1.0, 1.1, 1.0, 1.0], "MRPC": [-1.5], "STS-B": [-1.2], "RTE": [-1.3]})
    assert found.n == 8 and found.difference == pytest.approx(-0.75)
    assert math.isnan(found.low) and found.reason == "one seed of MRPC, STS-B, RTE"
    assert exceeds(found) == exceeds(found, -0.5) == UNDECIDED


def test_one_seed_on_every_task_decides_nothing():
    found = compare({"CoLA": [1.0], "MRPC": [1.1], "STS-B": [0.9], "RTE": [1.0]})
    assert found.difference == pytest.approx(1) and found.reason == "one seed" and exceeds(found) == UNDECIDED


def test_differences_that_are_all_the_same_decide_nothing():
    one_example = [72.202166 - 71.841155, 70.758123 - 70.397112]  # of RTE's 277; the same but for rounding
    for strata in ({"RTE": one_example}, {"RTE": one_example, "CoLA": [1, 1, 1]}):
        found = compare(strata)
        assert found.difference > 0 and math.isnan(found.low) and math.isnan(found.p)
        assert found.reason == "no spread over seeds" and exceeds(found) == exceeds(found, -0.5) == UNDECIDED


def test_the_same_difference_in_scores_of_four_decimals():
    """As the examples write them: 150 to 151, 150 to 151 and 152 to 153 of 277."""
    scores = {n: round(100 * n / 277, 4) for n in range(277)}
    found = compare({"RTE": [scores[n + 1] - scores[n] for n in (150, 150, 152)]})
    assert found.reason == "no spread over seeds" and exceeds(found) == UNDECIDED


def test_a_task_on_which_nothing_varies_decides_nothing():
    found = compare({"RTE": [0.361, 0.361], "STS-B": [0.10, 0.12]})
    assert found.reason == "no spread over seeds of RTE" and exceeds(found) == UNDECIDED


def test_nothing_to_compare():
    assert compare({}).n == compare({"RTE": []}).n == 0
    assert compare({"RTE": [1, 2, 3], "CoLA": []}) == compare({"RTE": [1, 2, 3]})


@pytest.mark.parametrize(
    "low, high, beats, matches",
    [
        (0.1, 0.9, SUPPORTED, SUPPORTED),
        (-0.1, 0.9, UNDECIDED, SUPPORTED),
        (-0.4, -0.1, NOT_SUPPORTED, SUPPORTED),
        (-0.9, 0.9, UNDECIDED, UNDECIDED),
        (-0.9, -0.1, NOT_SUPPORTED, UNDECIDED),
        (-0.9, -0.6, NOT_SUPPORTED, NOT_SUPPORTED),
    ],
)
def test_verdicts(low, high, beats, matches):
    comparison = Comparison(5, (low + high) / 2, low, high)
    assert exceeds(comparison) == beats and exceeds(comparison, -0.5) == matches


def test_verdicts_without_an_interval():
    assert exceeds(Comparison(0)) == UNTESTED and exceeds(Comparison(1, 5.0, reason="one seed")) == UNDECIDED
    assert exceeds(Comparison(9, 30, 26, 34), 25) == SUPPORTED
    assert exceeds(Comparison(9, 20, 16, 24), 25) == NOT_SUPPORTED


def test_pairs_that_are_still_to_come():
    assert exceeds(Comparison(9, 0.5, 0.1, 0.9, planned=10)) == SUPPORTED_SO_FAR
    assert exceeds(Comparison(9, -0.5, -0.9, -0.1, planned=10)) == NOT_SUPPORTED_SO_FAR


@pytest.mark.parametrize(
    "parts, whole",
    [
        ([SUPPORTED, SUPPORTED], SUPPORTED),
        ([SUPPORTED, UNTESTED], SUPPORTED_SO_FAR),
        ([SUPPORTED, SUPPORTED_SO_FAR], SUPPORTED_SO_FAR),
        ([SUPPORTED, UNDECIDED], UNDECIDED),
        ([NOT_SUPPORTED, UNDECIDED, SUPPORTED], NOT_SUPPORTED),
        ([NOT_SUPPORTED_SO_FAR, UNDECIDED, SUPPORTED], NOT_SUPPORTED_SO_FAR),
        ([UNTESTED], UNTESTED),
        ([], UNTESTED),
    ],
)
def test_a_claim_of_several_parts(parts, whole):
    assert all_of(parts) == whole
