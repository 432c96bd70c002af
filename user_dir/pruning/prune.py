"""Prune all sparse weights of a model at initialisation (SparseAdapter, He et al. 2022, Algorithm 1)."""

import torch
from torch import Tensor, nn

from ..modules import sparse_weights
from .objective import Objective
from .registry import SCOPES, build_pruner
from .selection import check_scores, kept_count, select


def prune(
    model: nn.Module,
    pruner: str,
    sparsity: float,
    *,
    scope: str = "global",
    seed: int = 1,
    objective: Objective | None = None,
) -> dict[str, Tensor]:
    """Choose the weights that stay. The model is not changed: apply the masks with ``SparseWeight.prune_``.

    Args:
        model: a model with dense sparse weights.
        pruner: name of a registered pruner.
        sparsity: fraction of the weights to remove, ``0 <= sparsity < 1``.
        scope: ``global`` ranks all matrices together, ``matrix`` gives every matrix the same density.
        seed: seed of everything random in the scores.
        objective: the training loss; needed by the data-driven pruners.

    Returns:
        Boolean masks by name of the sparse weight; they keep ``round((1 - sparsity) * N)`` weights.

    Raises:
        ValueError: an option is out of range, or there is nothing to prune.
        DegenerateScores: the scores do not say which weights to keep.
    """
    if not 0 <= sparsity < 1:
        raise ValueError(f"sparsity is the fraction removed, 0 <= sparsity < 1, but it is {sparsity}")
    if scope not in SCOPES:
        raise ValueError(f"unknown prune scope {scope!r}; choose one of {', '.join(SCOPES)}")
    method = build_pruner(pruner)
    modules = sparse_weights(model)
    if not modules:
        raise ValueError("the model has no prunable weights; choose an adapter with --adapter")
    if method.needs_data and objective is None:
        raise ValueError(f"pruner {pruner!r} scores with the training loss and needs an objective")

    shapes = {name: module.shape for name, module in modules.items()}
    kept = kept_count(sum(shape.numel() for shape in shapes.values()), sparsity)
    generator = torch.Generator().manual_seed(seed)
    scores = method.score({name: m.values for name, m in modules.items()}, objective, generator)
    check_scores(scores, pruner)
    return select(scores, kept, method.quotas(shapes, kept, scope))
