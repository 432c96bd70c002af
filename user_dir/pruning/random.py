"""Random pruning: ``z ~ Uniform(0, 1)`` (SparseAdapter, He et al. 2022, §2.2)."""

import torch

from .registry import Pruner, register_pruner


@register_pruner("random")
class Random(Pruner):
    def score(self, weights, objective, generator):
        return {name: torch.rand(weight.shape, generator=generator) for name, weight in weights.items()}
