"""Prefix tuning: keys and values before those of attention (Li and Liang 2021, §4; He, Zhou et al. 2022, eq. 4)."""

import dataclasses
from argparse import Namespace
from functools import partial

import torch
from torch import Tensor, nn

from ..errors import UsageError
from ..modules import Materializable, SparseLinear, SparseWeight
from .options import option
from .projected_attention import ProjectedAttention, call_projections
from .registry import Adapter, register_adapter
from .sites import attention_sites


@dataclasses.dataclass(frozen=True)
class PrefixOptions:
    prefix_length: int = option(30, "prefix positions of every attention", grows=True)
    prefix_mlp: int = option(
        0, "hidden size of the MLP that computes the prefix in training; 0 trains the tables themselves"
    )
    prefix_init_std: float = option(0.02, "standard deviation of the prefix's normal initialisation", fixed=False)

    def __post_init__(self):
        if self.prefix_length < 1:
            raise UsageError(f"--prefix-length {self.prefix_length}: there must be at least 1 position")
        if self.prefix_mlp < 0:
            raise UsageError(f"--prefix-mlp {self.prefix_mlp}: a hidden size, or 0 for no MLP")
        if self.prefix_init_std <= 0:
            raise UsageError(f"--prefix-init-std {self.prefix_init_std}: a standard deviation is above 0")


class PrefixTables(nn.Module):
    """The prefix as two tables of ``(length, dim)``."""

    def __init__(self, dim: int, options: PrefixOptions):
        super().__init__()
        normal = partial(nn.init.normal_, std=options.prefix_init_std)
        self.key = SparseWeight(options.prefix_length, dim, init=normal, unit_dim=0)
        self.value = SparseWeight(options.prefix_length, dim, init=normal, unit_dim=0)

    def forward(self) -> tuple[Tensor, Tensor]:
        return self.key(), self.value()


class PrefixMLP(nn.Module):
    """The prefix as ``up(tanh(down(E)))`` of an embedding ``E`` of ``(length, dim)`` (Li and Liang 2021, §4.3).

    ``up`` puts out keys and values beside each other. Only its output is needed after training. Every attention has an
    MLP of its own, where Li and Liang share one over the layers.
    """

    def __init__(self, dim: int, options: PrefixOptions):
        super().__init__()
        normal = partial(nn.init.normal_, std=options.prefix_init_std)
        self.embedding = SparseWeight(options.prefix_length, dim, init=normal)
        self.down = SparseLinear(dim, options.prefix_mlp, normal)
        self.up = SparseLinear(options.prefix_mlp, 2 * dim, normal)

    def forward(self) -> tuple[Tensor, Tensor]:
        return self.up(torch.tanh(self.down(self.embedding()))).chunk(2, dim=-1)


class Prefix(Materializable):
    """The prefix of one attention: ``softmax(q [P_k; K]ᵀ) [P_v; V]``."""

    def __init__(self, dim: int, options: PrefixOptions):
        super().__init__()
        self.dim, self.options, self.length = dim, options, options.prefix_length
        self.source = PrefixMLP(dim, options) if options.prefix_mlp else PrefixTables(dim, options)
        for name in ("ready_key", "ready_value"):
            self.register_buffer(name, None, persistent=False)

    def forward(self) -> tuple[Tensor, Tensor]:
        """Keys and values, each ``(length, dim)``."""
        return self.source() if self.ready_key is None else (self.ready_key, self.ready_value)

    @torch.no_grad()
    def materialize_(self) -> None:
        self.ready_key, self.ready_value = (table.clone() for table in self.source())

    def dematerialize_(self) -> None:
        self.ready_key = self.ready_value = None

    @torch.no_grad()
    def drop_mlp_(self) -> None:
        """Replace the MLP by the tables that it computes: after training, it is not needed any more."""
        if isinstance(self.source, PrefixMLP):
            tables = PrefixTables(self.dim, self.options)
            tables.key.values.data, tables.value.values.data = (table.contiguous() for table in self.source())
            self.source = tables

    def attach(self, layer: nn.Module, site: str) -> None:
        attention = getattr(layer, site)
        if not (attention.self_attention or attention.encoder_decoder_attention):
            raise UsageError("prefixes do not fit --cross-self-attention: use another adapter")
        call_projections(attention)
        if not isinstance(attention, ProjectedAttention):
            raise UsageError(f"prefixes do not fit {type(attention).__name__}: use another adapter")
        if attention.prefix is not None:
            raise UsageError("two families put a prefix before the same attention: mam has prefixes of its own")
        object.__setattr__(attention, "prefix", self)  # which does not own it, or the backbone's keys would change


def drop_mlps_(model: nn.Module, args: Namespace) -> None:
    """Replace the MLPs of prefixes by their tables, in the model and in its arguments."""
    args.prefix_mlp = 0
    for module in model.modules():
        if isinstance(module, Prefix):
            module.drop_mlp_()


@register_adapter("prefix")
class PrefixTuning(Adapter):
    """In every self-attention and cross-attention."""

    Options = PrefixOptions

    def __init__(self, layer: nn.Module, options: PrefixOptions):
        super().__init__()
        for site in attention_sites(layer):
            self.add_module(site, Prefix(layer.embed_dim, options))
