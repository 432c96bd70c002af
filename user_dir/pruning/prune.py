"""Prune all sparse weights of a model at initialisation (SparseAdapter, He et al. 2022, Algorithm 1)."""

from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from ..errors import UsageError
from ..modules import SparseWeight, prunable_weights
from .objective import Objective
from .registry import build_pruner
from .scopes import SCOPES
from .selection import check_scores, kept_count, select

# Of the temporary draw: the adapters' own initialisation in the authors' code.
DRAW_STD = 0.02


def prune(
    model: nn.Module,
    pruner: str,
    sparsity: float,
    *,
    scope: str = "global",
    shuffle: bool = False,
    seed: int = 1,
    objective: Objective | None = None,
) -> dict[str, Tensor]:
    """Choose the weights that stay. The model is not changed: :func:`apply_masks_` does that.

    Args:
        model: a model with dense sparse weights.
        pruner: name of a registered pruner. Matrices that are zero throughout are scored as ``zeros_drawn``.
        sparsity: fraction of the weights to remove, ``0 <= sparsity < 1``.
        scope: which matrices are ranked together, one of ``SCOPES``; each such group has the same density.
        shuffle: keep as many weights of every matrix as were chosen, at random places: the control by which Frankle et
            al. (2021, "Pruning Neural Networks at Initialization: Why Are We Missing the Mark?") tell whether the
            scores choose weights or only densities of matrices.
        seed: seed of everything random in the scores, of chance between equal ones, and of the shuffle.
        objective: the training loss; needed by the data-driven pruners.

    Returns:
        Boolean masks by name of the sparse weight; they keep ``round((1 - sparsity) * N)`` weights.

    Raises:
        ValueError: an option is out of range, or there is nothing to prune.
        UsageError: the sparsity leaves no weight.
        DegenerateScores: the scores do not say which weights to keep.
    """
    if not 0 <= sparsity < 1:
        raise ValueError(f"sparsity is the fraction removed, 0 <= sparsity < 1, but it is {sparsity}")
    if scope not in SCOPES:
        raise ValueError(f"unknown prune scope {scope!r}; choose one of {', '.join(SCOPES)}")
    method = build_pruner(pruner)
    modules = prunable_weights(model)
    if not modules:
        raise ValueError("the model has no prunable weights; choose an adapter with --adapter")
    if method.needs_data and objective is None:
        raise ValueError(f"pruner {pruner!r} scores with the training loss and needs an objective")

    shapes = {name: module.shape for name, module in modules.items()}
    total = sum(shape.numel() for shape in shapes.values())
    kept = kept_count(total, sparsity)
    if kept == 0:
        raise UsageError(f"--sparsity {sparsity} leaves none of the adapters' {total} weights")
    generator = torch.Generator().manual_seed(seed)
    with zeros_drawn(modules.values(), seed):
        scores = method.score({name: m.values for name, m in modules.items()}, objective, generator)
    check_scores(scores, pruner)
    masks = select(scores, method.groups(shapes, kept, scope), generator)
    return {name: _shuffled(mask, generator) for name, mask in masks.items()} if shuffle else masks


def _shuffled(mask: Tensor, generator: torch.Generator) -> Tensor:
    return mask.flatten()[torch.randperm(mask.numel(), generator=generator)].view(mask.shape)


def apply_masks_(model: nn.Module, masks: Mapping[str, Tensor]) -> None:
    """Prune ``model`` to what :func:`prune` has chosen; before an optimizer or DDP holds its parameters."""
    for name, weight in prunable_weights(model).items():
        weight.prune_(masks[name])


@contextmanager
def zeros_drawn(weights: Iterable[SparseWeight], seed: int) -> Iterator[None]:
    """For as long as the context lasts, fill matrices that are zero throughout with N(0, 0.02) draws.

    LoRA's B and a parallel adapter's up-projection start at zero. Scored as they are, SNIP and GraSP give zero
    to them and to their partners, and magnitude prunes all of them, so that the adapter would be dead for ever.
    """
    generator = torch.Generator().manual_seed(seed)
    drawn = [weight.values for weight in weights if not bool(weight.values.any())]
    for values in drawn:
        values.data.copy_(torch.randn(values.shape, generator=generator) * DRAW_STD)
    try:
        yield
    finally:
        for values in drawn:
            values.data.zero_()
