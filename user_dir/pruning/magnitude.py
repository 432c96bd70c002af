"""Magnitude pruning: ``z = |w|`` (Janowsky 1989; at initialisation: Frankle et al. 2020)."""

from .registry import Pruner, register_pruner


@register_pruner("magnitude")
class Magnitude(Pruner):
    def score(self, weights, objective, generator):
        return {name: weight.detach().abs() for name, weight in weights.items()}
