"""Mix-and-match: a prefix in attention and a scaled parallel adapter beside the FFN (He, Zhou et al. 2022, §4.6)."""

import dataclasses

from torch import nn

from ..errors import UsageError
from .options import option
from .parallel import ParallelBottleneck, ParallelOptions
from .prefix import Prefix, PrefixOptions
from .registry import Adapter, register_adapter
from .sites import attention_sites


@dataclasses.dataclass(frozen=True)
class MamOptions(PrefixOptions, ParallelOptions):
    mam_budget: int = option(
        0,
        "budget of a layer in bottleneck units, half for the parallel adapter and half for the layer's prefixes; "
        "0: --adapter-bottleneck and --prefix-length as they are",
        grows=True,
    )

    def __post_init__(self):
        PrefixOptions.__post_init__(self)
        ParallelOptions.__post_init__(self)
        if self.mam_budget < 0:
            raise UsageError(f"--mam-budget {self.mam_budget}: a number of units, or 0 for none")
        if self.mam_budget and self.prefix_mlp:
            raise UsageError("--mam-budget counts the weights of prefix tables: use it without --prefix-mlp")

    def split(self, attentions: int) -> "MamOptions":
        """The options of a layer with that many attentions. A unit and a prefix position cost 2 · dim weights each.

        Raises:
            UsageError: the budget cannot be split equally.
        """
        if not self.mam_budget:
            return self
        if self.mam_budget % (2 * attentions):
            raise UsageError(
                f"a budget of {self.mam_budget} (--mam-budget times --large-sparse) does not split equally between "
                f"the FFN and {attentions} attentions: use a multiple of {2 * attentions}"
            )
        half = self.mam_budget // 2
        return dataclasses.replace(self, adapter_bottleneck=half, prefix_length=half // attentions)


@register_adapter("mam")
class Mam(Adapter):
    """The families ``prefix`` and ``parallel`` in one, with a budget to share."""

    Options = MamOptions
    is_part_of_sublayer = True

    def __init__(self, layer: nn.Module, options: MamOptions):
        super().__init__()
        attentions = attention_sites(layer)
        options = options.split(len(attentions))
        for site in attentions:
            self.add_module(site, Prefix(layer.embed_dim, options))
        self.ffn = ParallelBottleneck(layer.embed_dim, options)
