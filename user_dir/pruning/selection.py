"""Which weights stay: exactly as many as asked for, by rank and never by threshold.

Comparing scores with a threshold removes or keeps all ties at once; ranks cannot.
"""

from collections.abc import Mapping
from fractions import Fraction

import torch
from torch import Tensor


class DegenerateScores(ValueError):
    """The scores do not say which weights to keep."""


def kept_count(total: int, sparsity: float) -> int:
    """``round((1 - sparsity) * total)``, the number of weights that stay."""
    return round((1 - sparsity) * total)


def keep_highest(scores: Tensor, count: int) -> Tensor:
    """Boolean mask of the ``count`` highest scores of a 1-D tensor; among equals the first stay."""
    mask = torch.zeros(scores.shape, dtype=torch.bool)
    mask[torch.sort(scores, descending=True, stable=True).indices[:count]] = True
    return mask


def proportional_quotas(shapes: Mapping[str, torch.Size], kept: int) -> dict[str, int]:
    """Quotas with the same density in every matrix, as near as whole numbers allow."""
    total = sum(shape.numel() for shape in shapes.values())
    return round_quotas({name: Fraction(kept * s.numel(), total) for name, s in shapes.items()}, kept)


def round_quotas(shares: Mapping[str, Fraction | float], kept: int) -> dict[str, int]:
    """Whole numbers that sum to ``kept``: shares rounded down, the largest remainders rounded up."""
    quotas = {name: int(share) for name, share in shares.items()}
    by_remainder = sorted(shares, key=lambda name: shares[name] - quotas[name], reverse=True)
    for name in by_remainder[: kept - sum(quotas.values())]:
        quotas[name] += 1
    return quotas


def check_scores(scores: Mapping[str, Tensor], pruner: str) -> None:
    """Refuse scores that carry no information.

    Raises:
        DegenerateScores: scores are not finite, or all scores of a matrix are equal.
    """
    for name, score in scores.items():
        if not bool(torch.isfinite(score).all()):
            raise DegenerateScores(
                f"{pruner}: the scores of {name} are not finite; the loss over the pruning batches overflows "
                "or is NaN: check the data and the backbone, or use --pruner random"
            )
    constant = [name for name, s in scores.items() if s.numel() > 1 and bool(s.min() == s.max())]
    if constant:
        value = scores[constant[0]].flatten()[0].item()
        raise DegenerateScores(
            f"{pruner}: all scores are {value:g} in {len(constant)} of {len(scores)} matrices (first: "
            f"{constant[0]}), so nothing says which weights to keep: the loss does not depend on them, or their "
            "initialisation is constant; use --pruner random"
        )


def select(scores: Mapping[str, Tensor], kept: int, quotas: Mapping[str, int] | None) -> dict[str, Tensor]:
    """Masks that keep the ``kept`` highest scores over all matrices, or ``quotas[name]`` in each.

    Args:
        scores: scores by name, of any shapes.
        kept: the number of weights to keep in total.
        quotas: the number of weights to keep in each matrix; None ranks all matrices together.

    Returns:
        Boolean masks on the CPU, of the shapes of ``scores``.
    """
    flat = {name: score.detach().cpu().flatten() for name, score in scores.items()}
    if quotas is None:
        sizes = [score.numel() for score in flat.values()]
        masks = keep_highest(torch.cat(list(flat.values())), kept).split(sizes)
    else:
        masks = [keep_highest(score, quotas[name]) for name, score in flat.items()]
    return {name: mask.view(scores[name].shape) for name, mask in zip(flat, masks, strict=True)}
