"""Pfeiffer adapters: one bottleneck a layer, after the FFN (Pfeiffer et al. 2021, AdapterFusion, §3.1)."""

from torch import Tensor, nn

from .houlsby import Houlsby, HoulsbyBottleneck
from .registry import register_adapter
from .sites import LAYER_NORMS


class PfeifferBottleneck(HoulsbyBottleneck):
    """``h + up(f(down(z)))`` with ``z = LN(h + x)``, as the layer without an adapter would put it out.

    ``x`` is the residual and LN the backbone's own LayerNorm, which then runs again on the sum; in pre-LN
    layers, which have none there, ``z = h + x``.
    """

    def bind(self, layer: nn.Module, site: str) -> None:
        # A bound method and no module: the LayerNorm stays the layer's alone.
        self.norm = None if layer.normalize_before else getattr(layer, LAYER_NORMS[site]).forward

    def site_input(self, x: Tensor, residual: Tensor) -> Tensor:
        out = x + residual
        return out if self.norm is None else self.norm(out)


@register_adapter("pfeiffer")
class Pfeiffer(Houlsby):
    """After the FFN of every layer: 24 sites on bart.large."""

    Site = PfeifferBottleneck

    @staticmethod
    def sites(layer: nn.Module) -> list[str]:
        return ["ffn"]
