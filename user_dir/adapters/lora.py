"""LoRA: ``W + (α/r) B A`` in the projections of attention (Hu et al. 2022, eq. 3)."""

import dataclasses
import math
from functools import partial

import torch
from torch import Tensor, nn
from torch.nn import functional

from ..errors import UsageError
from ..modules import Materializable, SparseLinear
from .options import option
from .registry import Adapter, register_adapter
from .sites import attention_sites

PROJECTIONS = {"q": "q_proj", "k": "k_proj", "v": "v_proj", "out": "out_proj"}


@dataclasses.dataclass(frozen=True)
class LoraOptions:
    lora_rank: int = option(8, "rank r of LoRA", grows=True)
    lora_alpha: float = option(16.0, "LoRA adds (alpha / rank) BA; the rank is that after --large-sparse")
    lora_dropout: float = option(0.0, "dropout on the input of LoRA's A")
    lora_sites: str = option("q,v", "projections of every attention that get LoRA: any of q,k,v,out")

    def __post_init__(self):
        if self.lora_rank < 1:
            raise UsageError(f"--lora-rank {self.lora_rank}: the rank must be at least 1")
        if not 0 <= self.lora_dropout < 1:
            raise UsageError(f"--lora-dropout {self.lora_dropout}: a dropout is at least 0 and below 1")
        if self.lora_alpha == 0:
            raise UsageError("--lora-alpha 0 switches LoRA off")
        wanted = self.projections
        if not set(wanted) <= set(PROJECTIONS) or len(set(wanted)) < len(wanted):
            raise UsageError(f"--lora-sites {self.lora_sites}: name some of q,k,v,out, each once, with commas between")

    @property
    def projections(self) -> list[str]:
        return [name.strip() for name in self.lora_sites.split(",")]


class LowRank(Materializable):
    """``(α/r) B A`` beside one projection. A is ``down`` ``(rank, in_dim)``, B is ``up`` ``(out_dim, rank)``.

    Raises:
        UsageError: the rank is larger than a dimension of the projection.
    """

    def __init__(self, linear: nn.Linear, options: LoraOptions):
        super().__init__()
        rank, smallest = options.lora_rank, min(linear.in_features, linear.out_features)
        if rank > smallest:
            raise UsageError(
                f"a LoRA rank of {rank} (--lora-rank times --large-sparse) is larger than the projection's "
                f"dimension {smallest}"
            )
        kaiming = partial(nn.init.kaiming_uniform_, a=math.sqrt(5))
        self.down = SparseLinear(linear.in_features, rank, kaiming, unit_dim=0, bias=False)
        self.up = SparseLinear(rank, linear.out_features, nn.init.zeros_, unit_dim=1, bias=False)
        self.dropout = nn.Dropout(options.lora_dropout)
        self.scale = options.lora_alpha / rank
        self.register_buffer("merged", None, persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        """``(..., in_dim)`` to ``(..., out_dim)``."""
        return self.up(self.down(self.dropout(x))) * self.scale

    def attach_to(self, linear: nn.Linear) -> None:
        # Neither owns the other, or the backbone's keys would change.
        object.__setattr__(self, "linear", linear)
        object.__setattr__(linear, "low_rank", self)
        linear.__class__ = LowRankLinear

    def delta(self) -> Tensor:
        """``(α/r) B A``, ``(out_dim, in_dim)``."""
        return self.up.weight() @ self.down.weight() * self.scale

    @torch.no_grad()
    def materialize_(self) -> None:
        self.merged = self.linear.weight

    def dematerialize_(self) -> None:
        self.merged = None


class LowRankLinear(nn.Linear):
    """What a projection with LoRA becomes. Its parameters, keys and hooks stay what they were.

    fairseq's attention reads ``weight`` and passes by ``forward`` where torch's own attention serves
    (multihead_attention.py, no incremental state), so both have to know of LoRA.
    """

    low_rank: LowRank

    @property
    def weight(self) -> Tensor:
        merged = self.low_rank.merged
        return self._parameters["weight"] + self.low_rank.delta() if merged is None else merged

    def forward(self, x: Tensor) -> Tensor:
        if self.low_rank.merged is not None:
            return functional.linear(x, self.low_rank.merged, self.bias)
        # Cheaper than one product with the sum, whose gradient would be that of the whole weight.
        return functional.linear(x, self._parameters["weight"], self.bias) + self.low_rank(x)


class AttentionLora(nn.ModuleDict):
    """LoRA in one attention, by projection."""

    def __init__(self, attention: nn.Module, options: LoraOptions):
        super().__init__({name: LowRank(_projection(attention, name), options) for name in options.projections})

    def attach(self, layer: nn.Module, site: str) -> None:
        attention = getattr(layer, site)
        for name, low_rank in self.items():
            low_rank.attach_to(_projection(attention, name))
            if low_rank.dropout.p > 0:
                # Dropout acts on the input, so the projections have to be called.
                attention.skip_embed_dim_check = True


def _projection(attention: nn.Module, name: str) -> nn.Linear:
    linear = getattr(attention, PROJECTIONS[name], None)
    if not isinstance(linear, nn.Linear):
        raise UsageError(f"--lora-sites: {type(attention).__name__} has no linear projection {PROJECTIONS[name]}")
    return linear


@register_adapter("lora")
class Lora(Adapter):
    """In every self-attention and cross-attention."""

    Options = LoraOptions

    def __init__(self, layer: nn.Module, options: LoraOptions):
        super().__init__()
        for site in attention_sites(layer):
            self.add_module(site, AttentionLora(getattr(layer, site), options))
