"""Houlsby adapters: a bottleneck with its own residual after every sublayer (Houlsby et al. 2019, fig. 2).

The LayerNorm before the down-projection is that of the authors' code (Shwai-He/SparseAdapter).
"""

from functools import partial

from torch import Tensor, nn

from .bottleneck import Bottleneck, BottleneckOptions
from .registry import Adapter, register_adapter
from .sites import AtResidual, sites


class HoulsbyBottleneck(AtResidual, Bottleneck):
    """``h + up(f(down(LN(h))))`` of a sublayer's output ``h``."""

    def site_input(self, x: Tensor, residual: Tensor) -> Tensor:
        return x

    def change(self, x: Tensor, residual: Tensor) -> Tensor:
        return self(self.site_input(x, residual))


@register_adapter("houlsby")
class Houlsby(Adapter):
    """After self-attention, cross-attention and FFN: 60 sites on bart.large."""

    Options = BottleneckOptions
    Site = staticmethod(partial(HoulsbyBottleneck, layer_norm="in"))
    sites = staticmethod(sites)

    def __init__(self, layer: nn.Module, options: BottleneckOptions):
        super().__init__()
        for site in self.sites(layer):
            self.add_module(site, self.Site(layer.embed_dim, options))
