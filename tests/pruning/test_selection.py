from fractions import Fraction

import numpy as np
import pytest
import torch
from sparse_adapter.pruning.selection import (
    DegenerateScores,
    Group,
    check_scores,
    keep_highest,
    kept_count,
    proportional_quotas,
    round_quotas,
    select,
)

SHAPES = {"a": torch.Size([3, 7]), "b": torch.Size([11]), "c": torch.Size([8, 5]), "d": torch.Size([1, 1])}


def generator(seed: int = 1) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


@pytest.mark.parametrize(
    "total, sparsity, kept", [(10, 0.0, 10), (10, 0.4, 6), (1000, 0.8, 200), (7, 0.5, 4), (3, 0.9, 0), (121, 0.2, 97)]
)
def test_kept_count(total, sparsity, kept):
    assert kept_count(total, sparsity) == kept


@pytest.mark.parametrize("count", [0, 1, 37, 99, 100])
def test_ties_never_change_the_count(count):
    for scores in (torch.zeros(100), torch.arange(100) // 30, -torch.ones(100)):
        assert keep_highest(scores, count, generator()).sum() == count


def test_chance_decides_between_ties():
    scores = torch.tensor([1.0, 2, 1, 1, 2, 0])
    found = [tuple(keep_highest(scores, 4, generator(seed)).tolist()) for seed in range(30)]
    assert all(mask[1] and mask[4] and not mask[5] and sum(mask) == 4 for mask in found)
    assert len(set(found)) == 3 and found[7] == tuple(keep_highest(scores, 4, generator(7)).tolist())


@pytest.mark.parametrize("count", [1, 250, 999])
def test_the_highest_stay(count):
    scores = torch.randn(1000)
    expected = np.sort(np.argsort(-scores.numpy(), kind="stable")[:count])
    assert np.array_equal(keep_highest(scores, count, generator()).nonzero().flatten().numpy(), expected)


@pytest.mark.parametrize("kept", range(0, 74, 7))
def test_proportional_quotas_are_exact_in_total_and_within_one_of_the_share(kept):
    quotas = proportional_quotas({name: shape.numel() for name, shape in SHAPES.items()}, kept)
    assert sum(quotas.values()) == kept
    for name, shape in SHAPES.items():
        assert abs(quotas[name] - shape.numel() * kept / 73) < 1
        assert 0 <= quotas[name] <= shape.numel()


def test_the_largest_remainders_are_rounded_up():
    assert round_quotas({"a": Fraction(5, 4), "b": Fraction(7, 4), "c": Fraction(3, 2), "d": 2}, 7) == {
        "a": 1, "b": 2, "c": 2, "d": 2,
    }  # fmt: skip
    assert round_quotas({"a": 1.5, "b": 1.5}, 3) == {"a": 2, "b": 1}


def test_global_selection_ranks_all_matrices_together():
    scores = {"low": torch.tensor([[1.0, 2], [3, 4]]), "high": torch.tensor([10.0, 0, 20])}
    masks = select(scores, [Group(["high", "low"], 4)], generator())
    assert list(masks) == ["low", "high"]
    assert masks["low"].tolist() == [[False, False], [True, True]]
    assert masks["high"].tolist() == [True, False, True]


def test_selection_by_quota_ranks_inside_each_matrix():
    scores = {"low": torch.tensor([[1.0, 2], [3, 4]]), "high": torch.tensor([10.0, 0, 20])}
    masks = select(scores, [Group(["low"], 3), Group(["high"], 1)], generator())
    assert masks["low"].tolist() == [[False, True], [True, True]]
    assert masks["high"].tolist() == [False, False, True]


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
def test_scores_that_are_not_finite_are_refused(value):
    scores = {"fine": torch.rand(4), "broken": torch.tensor([1.0, value])}
    with pytest.raises(DegenerateScores, match=r"snip.*broken.*not finite.*--pruner random"):
        check_scores(scores, "snip")


@pytest.mark.parametrize("value", [0.0, 0.5])
def test_equal_scores_in_all_matrices_are_refused(value):
    scores = {"flat": torch.full((2, 3), value), "even": torch.full((2,), value + 1), "single": torch.rand(1, 1)}
    with pytest.raises(DegenerateScores, match=rf"2 of 3 matrices.*\(first: flat, {value:g}\).*--pruner random"):
        check_scores(scores, "magnitude")


def test_equal_scores_in_some_matrices_are_told(caplog):
    check_scores({"fine": torch.rand(4), "off": torch.zeros(2, 3)}, "snip")
    assert "snip: the scores of 1 of 2 matrices are equal throughout (first: off, 0)" in caplog.text


def test_scores_with_some_ties_and_single_weights_are_fine(caplog):
    check_scores({"ties": torch.tensor([0.0, 0, 0, 1]), "single": torch.zeros(1, 1)}, "snip")
    assert not caplog.records
