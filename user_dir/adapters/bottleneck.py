"""The bottleneck: down-projection, non-linearity, up-projection. Houlsby and its relatives are made of it."""

import dataclasses
from functools import partial

import torch
from torch import Tensor, nn
from torch.nn import functional

from ..errors import UsageError
from ..modules import SparseLinear
from .options import option

ACTIVATIONS = {"relu": functional.relu, "gelu": functional.gelu, "tanh": torch.tanh, "swish": functional.silu}


@dataclasses.dataclass(frozen=True)
class BottleneckOptions:
    """Defaults are those of the authors' code (Shwai-He/SparseAdapter) where the paper is silent."""

    adapter_bottleneck: int = option(64, "bottleneck dimension r")
    adapter_activation: str = option("relu", "non-linearity", choices=tuple(ACTIVATIONS))
    adapter_layer_norm: str = option(
        "in", "LayerNorm before the down-projection, after the up-projection, or none", choices=("in", "out", "none")
    )
    adapter_init: str = option(
        "normal",
        "normal: both projections N(0, --adapter-init-std); zero-up: the up-projection starts at zero",
        choices=("normal", "zero-up"),
    )
    adapter_init_std: float = option(0.02, "standard deviation of the normal initialisation")
    adapter_dropout: float = option(0.0, "dropout on the bottleneck")

    def __post_init__(self):
        if self.adapter_bottleneck < 1:
            raise UsageError(f"--adapter-bottleneck {self.adapter_bottleneck}: the dimension must be at least 1")
        if not 0 <= self.adapter_dropout < 1:
            raise UsageError(f"--adapter-dropout {self.adapter_dropout}: a dropout is at least 0 and below 1")
        if self.adapter_init_std <= 0:
            raise UsageError(f"--adapter-init-std {self.adapter_init_std}: a standard deviation is above 0")


class Bottleneck(nn.Module):
    """``up(f(down(x)))`` with a LayerNorm before or after it (Houlsby et al. 2019, §2.1). No residual.

    Args:
        dim: dimension of the input and of the output.
        options: bottleneck dimension r, initialisation, LayerNorm.
    """

    def __init__(self, dim: int, options: BottleneckOptions):
        super().__init__()
        width = options.adapter_bottleneck
        normal = partial(nn.init.normal_, std=options.adapter_init_std)
        zero_up = options.adapter_init == "zero-up"
        self.activation = ACTIVATIONS[options.adapter_activation]
        self.dropout = nn.Dropout(options.adapter_dropout)
        self.layer_norm_in = nn.LayerNorm(dim) if options.adapter_layer_norm == "in" else None
        self.layer_norm_out = nn.LayerNorm(dim) if options.adapter_layer_norm == "out" else None
        self.down = SparseLinear(dim, width, normal, unit_dim=0)
        self.up = SparseLinear(width, dim, nn.init.zeros_ if zero_up else normal, unit_dim=1)

    def forward(self, x: Tensor) -> Tensor:
        """``(seq_len, batch, dim)`` to ``(seq_len, batch, dim)``."""
        if self.layer_norm_in is not None:
            x = self.layer_norm_in(x)
        x = self.up(self.dropout(self.activation(self.down(x))))
        return x if self.layer_norm_out is None else self.layer_norm_out(x)
