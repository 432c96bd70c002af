"""Paired intervals against a case computed by hand, and what is made of them."""

import math

import pytest
from sparse_adapter.study.comparison import (
    NOT_SUPPORTED,
    SUPPORTED,
    SUPPORTED_SO_FAR,
    UNDECIDED,
    UNTESTED,
    Comparison,
    all_of,
    at_least_equal,
    compare,
    exceeds,
)


def test_a_case_by_hand():
    # Differences 1, 2, 3: mean 2, sd 1, standard error 1/sqrt 3, t(0.975, 2) = 4.302653, so ± 2.484138.
    found = compare([11, 22, 33], [10, 20, 30])
    assert found.n == 3 and found.difference == 2
    assert (found.low, found.high) == (pytest.approx(2 - 2.484138, abs=1e-5), pytest.approx(2 + 2.484138, abs=1e-5))
    # t = 2 sqrt 3 = 3.4641 on 2 degrees of freedom: p = 1 - t / sqrt(t^2 + 2) = 1 - sqrt(12 / 14).
    assert found.p == pytest.approx(1 - math.sqrt(12 / 14))


def test_too_few_or_equal_pairs():
    assert compare([], []).n == 0
    one = compare([3], [1])
    assert one.difference == 2 and math.isnan(one.low)
    same = compare([2, 3, 4], [1, 2, 3])
    assert (same.low, same.difference, same.high) == (1, 1, 1)
    with pytest.raises(ValueError):
        compare([1, 2], [1])


@pytest.mark.parametrize(
    "low, high, beats, matches",
    [
        (0.1, 0.9, SUPPORTED, SUPPORTED),
        (-0.1, 0.9, UNDECIDED, SUPPORTED),
        (-0.4, -0.1, NOT_SUPPORTED, SUPPORTED),
        (-0.9, 0.9, UNDECIDED, UNDECIDED),
        (-0.9, -0.1, NOT_SUPPORTED, NOT_SUPPORTED),
    ],
)
def test_verdicts(low, high, beats, matches):
    comparison = Comparison(5, (low + high) / 2, low, high)
    assert exceeds(comparison) == beats and at_least_equal(comparison, 0.5) == matches


def test_verdicts_without_an_interval():
    assert exceeds(Comparison(0)) == UNTESTED and exceeds(Comparison(1, 5.0)) == UNDECIDED
    assert exceeds(Comparison(9, 30, 26, 34), 25) == SUPPORTED
    assert exceeds(Comparison(9, 20, 16, 24), 25) == NOT_SUPPORTED


@pytest.mark.parametrize(
    "parts, whole",
    [
        ([SUPPORTED, SUPPORTED], SUPPORTED),
        ([SUPPORTED, UNTESTED], SUPPORTED_SO_FAR),
        ([SUPPORTED, UNDECIDED], UNDECIDED),
        ([NOT_SUPPORTED, UNDECIDED, SUPPORTED], NOT_SUPPORTED),
        ([UNTESTED], UNTESTED),
        ([], UNTESTED),
    ],
)
def test_a_claim_of_several_parts(parts, whole):
    assert all_of(parts) == whole
