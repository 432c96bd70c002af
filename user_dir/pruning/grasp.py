"""GraSP: ``z = w ⊙ Hg`` keeps the weights whose removal would reduce the gradient flow (Wang et al. 2020, eq. 8).

The paper removes the highest ``-w ⊙ Hg``, which is the same. Its authors' program divides the logits by 200 before, the
paper's equation and SparseAdapter's program do not, nor does this one. Costs three backward passes a batch.
"""

from .registry import Pruner, register_pruner


@register_pruner("grasp")
class Grasp(Pruner):
    needs_data = True

    def score(self, weights, objective, generator):
        tensors = list(weights.values())
        products = objective.hessian_vector_product(tensors, objective.gradient(tensors))
        return {
            name: weight.detach() * product for (name, weight), product in zip(weights.items(), products, strict=True)
        }
