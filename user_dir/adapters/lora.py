"""LoRA: ``W + (α/r) B A`` in the linear maps of attention and of the feed-forward network (Hu et al. 2022, eq. 3)."""

import dataclasses
import math
from functools import partial

import torch
from torch import Tensor, nn
from torch.nn import functional
from tqdm import tqdm

from ..errors import UsageError
from ..modules import Materializable, SparseLinear
from .options import option
from .projected_attention import call_projections
from .registry import Adapter, register_adapter
from .sites import sites

PROJECTIONS = {"q": "q_proj", "k": "k_proj", "v": "v_proj", "out": "out_proj"}  # of an attention
FEED_FORWARD = {"fc1": "fc1", "fc2": "fc2"}  # of a layer
LINEAR_MAPS = PROJECTIONS | FEED_FORWARD
KNOWN = ",".join(LINEAR_MAPS)


@dataclasses.dataclass(frozen=True)
class LoraOptions:
    lora_rank: int = option(8, "rank r of LoRA", grows=True)
    lora_alpha: float = option(16.0, "LoRA adds (alpha / rank) BA; the rank is that after --large-sparse")
    lora_dropout: float = option(0.0, "dropout on the input of LoRA's A", fixed=False)
    lora_sites: str = option(
        "q,v", f"linear maps of every attention and feed-forward network that get LoRA: any of {KNOWN}"
    )

    def __post_init__(self):
        if self.lora_rank < 1:
            raise UsageError(f"--lora-rank {self.lora_rank}: the rank must be at least 1")
        if not 0 <= self.lora_dropout < 1:
            raise UsageError(f"--lora-dropout {self.lora_dropout}: a dropout is at least 0 and below 1")
        if self.lora_alpha == 0:
            raise UsageError("--lora-alpha 0 switches LoRA off")
        wanted = self.names
        if not set(wanted) <= set(LINEAR_MAPS) or len(set(wanted)) < len(wanted):
            raise UsageError(f"--lora-sites {self.lora_sites}: name some of {KNOWN}, each once, with commas between")

    @property
    def names(self) -> list[str]:
        return [name.strip() for name in self.lora_sites.split(",")]

    def names_at(self, site: str) -> list[str]:
        """Those of a layer's site, an attention or ``ffn``."""
        return [name for name in self.names if (name in FEED_FORWARD) == (site == "ffn")]


class LowRank(Materializable):
    """``(α/r) B A`` beside one linear map. A is ``down`` ``(rank, in_dim)``, B is ``up`` ``(out_dim, rank)``.

    Raises:
        UsageError: the rank is larger than a dimension of the map.
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
        self.merged = self.linear.weight + self.delta()

    def dematerialize_(self) -> None:
        self.merged = None


@torch.no_grad()
def merge_lora_(model: nn.Module) -> None:
    """Add ``(α/r) B A`` to the projections, in place, and leave LoRA without effect."""
    low_ranks = [module for module in model.modules() if isinstance(module, LowRank)]
    for module in tqdm(low_ranks, desc="merging LoRA", unit="matrix", disable=not low_ranks):
        module.linear.weight += module.delta()
        module.up.weight.values.zero_()


class LowRankLinear(nn.Linear):
    """What a projection with LoRA becomes. Its parameters, keys and hooks stay what they were."""

    low_rank: LowRank

    def forward(self, x: Tensor) -> Tensor:
        if self.low_rank.merged is not None:
            return functional.linear(x, self.low_rank.merged, self.bias)
        # Not one product with W + (α/r) BA: its gradient would be that of the whole weight, and in half precision the
        # sum rounds most of the second away, for all inputs alike: of a weight of 0.03 and in bfloat16, what is less
        # than 1e-4.
        return super().forward(x) + self.low_rank(x)


class SiteLora(nn.ModuleDict):
    """LoRA at one site of a layer, by the names of its linear maps.

    Args:
        owner: the module that has them: the attention, or for the feed-forward network the layer.
    """

    def __init__(self, owner: nn.Module, names: list[str], options: LoraOptions):
        super().__init__({name: LowRank(_linear(owner, name), options) for name in names})

    def attach(self, layer: nn.Module, site: str) -> None:
        owner = _owner(layer, site)
        for name, low_rank in self.items():
            low_rank.attach_to(_linear(owner, name))
        if site != "ffn":
            call_projections(owner)


def _owner(layer: nn.Module, site: str) -> nn.Module:
    return layer if site == "ffn" else getattr(layer, site)


def _linear(owner: nn.Module, name: str) -> nn.Linear:
    attribute = LINEAR_MAPS[name]
    linear = getattr(owner, attribute, None)
    if not isinstance(linear, nn.Linear):
        raise UsageError(f"--lora-sites: {type(owner).__name__} has no linear map {attribute}")
    return linear


@register_adapter("lora")
class Lora(Adapter):
    """In every self-attention and cross-attention, and in every feed-forward network if asked for."""

    Options = LoraOptions

    def __init__(self, layer: nn.Module, options: LoraOptions):
        super().__init__()
        for site in sites(layer):
            if names := options.names_at(site):
                self.add_module(site, SiteLora(_owner(layer, site), names, options))
