"""A linear map whose weight can be pruned."""

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional

from .sparse_weight import SparseWeight


class SparseLinear(nn.Module):
    """``W x + b`` with a prunable weight and a zero-initialised bias, which is never pruned.

    Args:
        in_dim: input dimension.
        out_dim: output dimension.
        init: initialises the weight in place.
        unit_dim: the dimension of the weight that runs over the bottleneck's units: 0 or 1.
        bias: whether there is a bias.
    """

    def __init__(
        self,
        in_dim: int,
        out_dim: int,
        init: Callable[[Tensor], object],
        unit_dim: int | None = None,
        bias: bool = True,
    ):
        super().__init__()
        self.weight = SparseWeight(out_dim, in_dim, init=init, unit_dim=unit_dim)
        self.bias = nn.Parameter(torch.zeros(out_dim)) if bias else None

    def forward(self, x: Tensor) -> Tensor:
        """``(..., in_dim)`` to ``(..., out_dim)``."""
        return functional.linear(x, self.weight(), self.bias)
