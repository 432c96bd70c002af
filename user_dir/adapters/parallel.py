"""The scaled parallel adapter beside the FFN (He, Zhou et al. 2022, Towards a Unified View, table 1 and §4.6)."""

import dataclasses

from torch import Tensor, nn

from ..errors import UsageError
from .bottleneck import Bottleneck, BottleneckOptions
from .options import option
from .registry import Adapter, register_adapter
from .sites import AtResidual


@dataclasses.dataclass(frozen=True)
class ParallelOptions(BottleneckOptions):
    parallel_scale: float = option(4.0, "factor s on the output of parallel adapters; He, Zhou et al. use 4, on GLUE 2")

    def __post_init__(self):
        super().__post_init__()
        if self.parallel_scale == 0:
            raise UsageError("--parallel-scale 0 switches the adapters off")


class ParallelBottleneck(AtResidual, Bottleneck):
    """``FFN(x) + s · up(f(down(x)))`` of the FFN's input ``x``.

    In pre-LN layers, ``x`` is what ``fc1`` reads, after the LayerNorm, and the FFN's dropout does not reach the
    adapter, both as in the authors' code (jxhe/unify-parameter-efficient-tuning, mBART). AdapterHub takes ``x`` before
    the LayerNorm there.
    """

    def __init__(self, dim: int, options: ParallelOptions):
        super().__init__(dim, options, init="zero-up", scale=options.parallel_scale)

    def bind(self, layer: nn.Module, site: str) -> None:
        layer.fc1.register_forward_pre_hook(self._keep)

    def forget(self) -> None:
        super().forget()
        self.kept: Tensor | None = None

    def _keep(self, module: nn.Module, args: tuple[Tensor]) -> None:
        self.kept = args[0]

    def change(self, x: Tensor, residual: Tensor) -> Tensor:
        read, self.kept = self.kept, None
        return self(read)


@register_adapter("parallel")
class Parallel(Adapter):
    """Beside the FFN of every layer. The up-projection starts at zero, and with it the adapter."""

    Options = ParallelOptions
    is_part_of_sublayer = True

    def __init__(self, layer: nn.Module, options: ParallelOptions):
        super().__init__()
        self.ffn = ParallelBottleneck(layer.embed_dim, options)
