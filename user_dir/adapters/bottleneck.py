"""The bottleneck: down-projection, non-linearity, up-projection. Houlsby and its relatives are made of it."""

import dataclasses
from functools import partial

import torch
from torch import Tensor, nn
from torch.nn import functional

from ..errors import UsageError
from ..modules import Materializable, SparseLinear
from .options import option

ACTIVATIONS = {"relu": functional.relu, "gelu": functional.gelu, "tanh": torch.tanh, "swish": functional.silu}
# Tensors of the form for inference: those of the units that are left.
_SLIM = ("slim_down", "slim_down_bias", "slim_up", "slim_up_bias")


@dataclasses.dataclass(frozen=True)
class BottleneckOptions:
    """Options of all families that are made of bottlenecks."""

    adapter_bottleneck: int = option(64, "bottleneck dimension r", grows=True)
    adapter_activation: str = option("relu", "non-linearity: relu, gelu, tanh or swish", choices=tuple(ACTIVATIONS))
    adapter_layer_norm: str = option(
        "auto",
        "LayerNorm before the down-projection, after the up-projection, or none; auto: in for houlsby, none for others",
        choices=("auto", "in", "out", "none"),
    )
    adapter_init: str = option(
        "auto",
        "normal: both projections N(0, --adapter-init-std); zero-up: the up-projection starts at zero; "
        "auto: zero-up for parallel and mam, normal for others",
        choices=("auto", "normal", "zero-up"),
        fixed=False,
    )
    adapter_init_std: float = option(0.02, "standard deviation of the normal initialisation", fixed=False)
    adapter_dropout: float = option(0.0, "dropout on the bottleneck", fixed=False)

    def __post_init__(self):
        if self.adapter_bottleneck < 1:
            raise UsageError(f"--adapter-bottleneck {self.adapter_bottleneck}: the dimension must be at least 1")
        if not 0 <= self.adapter_dropout < 1:
            raise UsageError(f"--adapter-dropout {self.adapter_dropout}: a dropout is at least 0 and below 1")
        if not self.adapter_init_std > 0:  # nan is none, either
            raise UsageError(f"--adapter-init-std {self.adapter_init_std}: a standard deviation is above 0")


class Bottleneck(Materializable):
    """``scale · up(f(down(x)))`` with a LayerNorm before or after it (Houlsby et al. 2019, §2.1). No residual.

    Args:
        dim: dimension of the input and of the output.
        options: bottleneck dimension r, initialisation, LayerNorm.
        layer_norm: the family's own choice, which ``options`` can override: in, out or none.
        init: likewise, normal or zero-up.
        scale: factor on the output.
    """

    def __init__(
        self,
        dim: int,
        options: BottleneckOptions,
        layer_norm: str = "none",
        init: str = "normal",
        scale: float = 1.0,
    ):
        super().__init__()
        if options.adapter_layer_norm != "auto":
            layer_norm = options.adapter_layer_norm
        if options.adapter_init != "auto":
            init = options.adapter_init
        width = options.adapter_bottleneck
        normal = partial(nn.init.normal_, std=options.adapter_init_std)
        self.scale = scale
        self.activation = ACTIVATIONS[options.adapter_activation]
        self.dropout = nn.Dropout(options.adapter_dropout)
        self.layer_norm_in = nn.LayerNorm(dim) if layer_norm == "in" else None
        self.layer_norm_out = nn.LayerNorm(dim) if layer_norm == "out" else None
        self.down = SparseLinear(dim, width, normal, unit_dim=0)
        self.up = SparseLinear(width, dim, nn.init.zeros_ if init == "zero-up" else normal, unit_dim=1)
        for name in _SLIM:
            self.register_buffer(name, None, persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        """``(seq_len, batch, dim)`` to ``(seq_len, batch, dim)``."""
        if self.layer_norm_in is not None:
            x = self.layer_norm_in(x)
        if self.slim_down is None:
            x = self.up(self.dropout(self.activation(self.down(x))))
        else:
            x = self.activation(functional.linear(x, self.slim_down, self.slim_down_bias))
            x = functional.linear(x, self.slim_up, self.slim_up_bias)
        if self.layer_norm_out is not None:
            x = self.layer_norm_out(x)
        return x if self.scale == 1 else x * self.scale

    @torch.no_grad()
    def materialize_(self) -> None:
        """Leave out the units that lost all weights of their row or of their column.

        A unit without a column adds nothing. One without a row adds a constant, which goes into the bias.
        """
        down, up = self.down.weight(), self.up.weight()
        reads, writes = down.any(dim=1), up.any(dim=0)
        constant = up @ (self.activation(self.down.bias) * ~reads)
        alive = reads & writes
        self.slim_down, self.slim_down_bias = down[alive], self.down.bias[alive]
        self.slim_up, self.slim_up_bias = up[:, alive].contiguous(), self.up.bias + constant

    def dematerialize_(self) -> None:
        for name in _SLIM:
            setattr(self, name, None)
