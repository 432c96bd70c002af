"""Houlsby adapters: a bottleneck with its own residual after every sublayer (Houlsby et al. 2019, fig. 2)."""

from torch import Tensor, nn

from .bottleneck import Bottleneck, BottleneckOptions
from .registry import Adapter, register_adapter
from .sites import AfterSite, sites


class ResidualBottleneck(AfterSite, Bottleneck):
    """``x + up(f(down(LN(x))))``, applied to a sublayer's output."""

    def forward(self, x: Tensor) -> Tensor:
        return x + super().forward(x)


@register_adapter("houlsby")
class Houlsby(Adapter):
    """After self-attention, cross-attention and FFN: 60 sites on bart.large."""

    Options = BottleneckOptions

    def __init__(self, layer: nn.Module, options: BottleneckOptions):
        super().__init__()
        for site in sites(layer):
            self.add_module(site, ResidualBottleneck(layer.embed_dim, options))

    def attach(self, layer: nn.Module) -> None:
        for site, bottleneck in self.named_children():
            bottleneck.attach_after(layer, site)
