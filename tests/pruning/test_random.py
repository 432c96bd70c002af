import torch
from sparse_adapter.modules import SparseWeight
from sparse_adapter.pruning import build_pruner, prune
from torch import nn


def test_scores_are_uniform():
    scores = build_pruner("random").score({"w": torch.zeros(100, 100)}, None, torch.Generator().manual_seed(0))["w"]
    histogram = torch.histc(scores, bins=10, min=0, max=1)
    assert histogram.sum() == 10_000
    assert (histogram - 1000).abs().max() < 5 * 30  # the standard deviation of a bin is 30


def test_every_weight_has_the_same_chance():
    model = nn.ModuleList([SparseWeight(4, 6, init=nn.init.zeros_), SparseWeight(30, init=nn.init.zeros_)])
    kept = sum(torch.cat([m.flatten() for m in prune(model, "random", 0.4, seed=s).values()]).int() for s in range(400))
    assert kept.sum() == 400 * round(0.6 * 54)
    assert (kept - 240).abs().max() < 5 * 9.8  # binomial(400, 0.6)


def test_global_densities_vary_and_matrix_densities_do_not():
    model = nn.ModuleList([SparseWeight(10, 10, init=nn.init.zeros_) for _ in range(8)])
    assert len({int(m.sum()) for m in prune(model, "random", 0.5).values()}) > 1
    assert {int(m.sum()) for m in prune(model, "random", 0.5, scope="matrix").values()} == {50}
