"""Which weights stay: exactly as many as asked for.

Comparing scores with a threshold removes or keeps all ties at once; here, chance decides between them.
"""

import logging
from collections.abc import Iterable, Mapping
from fractions import Fraction
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

logger = logging.getLogger(__name__)


class Group(NamedTuple):
    """Matrices that are ranked together, and how many of their weights stay."""

    names: list[str]
    quota: int


class DegenerateScores(ValueError):
    """The scores do not say which weights to keep."""


def kept_count(total: int, sparsity: float) -> int:
    """``round((1 - sparsity) * total)``, the number of weights that stay."""
    return round((1 - sparsity) * total)


def keep_highest(scores: Tensor, count: int, generator: torch.Generator) -> Tensor:
    """Boolean mask of the ``count`` highest scores of a 1-D tensor; of equals at the threshold, random ones stay."""
    if count == 0:
        return torch.zeros(scores.shape, dtype=torch.bool)
    # numpy's takes time in proportion to their number, in whatever order they are.
    threshold = float(np.partition(scores.numpy(), len(scores) - count)[len(scores) - count])
    mask = scores > threshold
    equals = (scores == threshold).nonzero().flatten()
    stay = torch.randperm(len(equals), generator=generator)[: count - int(mask.sum())]
    mask[equals[stay]] = True
    return mask


def proportional_quotas(sizes: Mapping[str, int], kept: int) -> dict[str, int]:
    """Quotas with the same density everywhere, as near as whole numbers allow."""
    total = sum(sizes.values())
    return round_quotas({name: Fraction(kept * size, total) for name, size in sizes.items()}, kept)


def round_quotas(shares: Mapping[str, Fraction | float], kept: int) -> dict[str, int]:
    """Whole numbers that sum to ``kept``: shares rounded down, the largest remainders rounded up."""
    quotas = {name: int(share) for name, share in shares.items()}
    by_remainder = sorted(shares, key=lambda name: shares[name] - quotas[name], reverse=True)
    for name in by_remainder[: kept - sum(quotas.values())]:
        quotas[name] += 1
    return quotas


def check_scores(scores: Mapping[str, Tensor], pruner: str) -> None:
    """Refuse scores that carry no information, and tell of matrices whose scores carry none.

    Such a matrix is between units that are off for every example, as ReLU's may be where they are few.

    Raises:
        DegenerateScores: scores are not finite, or every matrix has equal scores throughout.
    """
    for name, score in scores.items():
        if not bool(torch.isfinite(score).all()):
            raise DegenerateScores(
                f"{pruner}: the scores of {name} are not finite; the loss over the pruning batches overflows "
                "or is NaN: check the data and the backbone, or use --pruner random"
            )
    several = {name: score for name, score in scores.items() if score.numel() > 1}
    constant = {name: float(score.flatten()[0]) for name, score in several.items() if bool(score.min() == score.max())}
    if not constant:
        return
    first, value = next(iter(constant.items()))
    found = f"{pruner}: the scores of {len(constant)} of {len(scores)} matrices are equal throughout (first: {first}, "
    found += f"{value:g}): the loss does not depend on these, or their initialisation is constant"
    if len(constant) == len(several):
        raise DegenerateScores(f"{found}, and nothing says which weights to keep; use --pruner random")
    logger.warning("%s; between their weights, chance decides", found)


def select(scores: Mapping[str, Tensor], groups: Iterable[Group], generator: torch.Generator) -> dict[str, Tensor]:
    """Masks that keep the highest scores of each group.

    Args:
        scores: scores by name, of any shapes.
        groups: each name is in one of them.
        generator: decides between equal scores.

    Returns:
        Boolean masks on the CPU, of the shapes of ``scores``.
    """
    masks = {}
    for names, quota in groups:
        flat = [scores[name].detach().cpu().flatten() for name in names]
        parts = keep_highest(torch.cat(flat), quota, generator).split([score.numel() for score in flat])
        masks |= {name: part.view(scores[name].shape) for name, part in zip(names, parts, strict=True)}
    return {name: masks[name] for name in scores}
