"""Erdős-Rényi pruning: random inside each matrix, larger matrices sparser (Mocanu et al. 2018; Evci et al. 2020).

The density of a matrix is ``ε · (n_in + n_out) / (n_in · n_out)``, so it keeps ``ε · (n_in + n_out)``
weights. A matrix that this would fill more than completely stays dense, and ε is solved again for the
rest, until the total is exact.
"""

from collections.abc import Mapping

import torch

from .random import Random
from .registry import register_pruner
from .selection import Group, round_quotas


def erdos_renyi_quotas(shapes: Mapping[str, torch.Size], kept: int) -> dict[str, int]:
    """Number of weights that each matrix keeps, ``kept`` in total.

    Args:
        shapes: shapes by name; the dimensions beyond two, as in a kernel, count as they do in RigL.
        kept: number of weights to keep in total, at most the number of all.
    """
    dense: dict[str, int] = {}
    while True:
        open_ = {name: shape for name, shape in shapes.items() if name not in dense}
        degrees = {name: sum(shape) for name, shape in open_.items()}
        left = kept - sum(dense.values())
        if not open_:
            return dense
        epsilon = left / sum(degrees.values())
        full = {n: s.numel() for n, s in open_.items() if epsilon * degrees[n] >= s.numel()}
        if not full:
            return dense | round_quotas({name: epsilon * degrees[name] for name in open_}, left)
        dense |= full


@register_pruner("er")
class ErdosRenyi(Random):
    allocation = "erdos-renyi"

    def groups(self, shapes, kept, scope):
        quotas = erdos_renyi_quotas(shapes, kept)
        return [Group([name], quotas[name]) for name in shapes]
