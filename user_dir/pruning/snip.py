"""SNIP: ``z = |w ⊙ ∂L/∂w|``, the effect on the loss of removing a weight (Lee et al. 2018, eq. 5-6).

SparseAdapter's text has ``-w ⊙ g`` and removes the highest, which contradicts its own Algorithm 1; all
public implementations, the authors' included, keep the highest ``|w ⊙ g|``, and so does this one.
"""

from .registry import Pruner, register_pruner


@register_pruner("snip")
class Snip(Pruner):
    needs_data = True

    def score(self, weights, objective, generator):
        gradients = objective.gradient(list(weights.values()))
        return {
            name: (weight.detach() * gradient).abs()
            for (name, weight), gradient in zip(weights.items(), gradients, strict=True)
        }
