"""The sites of a fairseq transformer layer: where adapters attach (He et al. 2022, unified view)."""

from collections.abc import Iterator

from fairseq.modules.transformer_layer import TransformerDecoderLayerBase, TransformerEncoderLayerBase
from torch import Tensor, nn

ATTENTION_SITES = ("self_attn", "encoder_attn")
SITES = (*ATTENTION_SITES, "ffn")


def transformer_layers(model: nn.Module) -> Iterator[nn.Module]:
    """All encoder and decoder layers of a model, in the order of ``named_modules``."""
    for module in model.modules():
        if isinstance(module, (TransformerEncoderLayerBase, TransformerDecoderLayerBase)):
            yield module


def sites(layer: nn.Module) -> list[str]:
    """The sites that a layer has; only decoders of a sequence-to-sequence model have ``encoder_attn``."""
    return [site for site in SITES if site == "ffn" or getattr(layer, site, None) is not None]


class AfterSite:
    """Mixin for a module that maps the output of a sublayer ``(seq_len, batch, embed_dim)`` to a new one."""

    def attach_after(self, layer: nn.Module, site: str) -> None:
        """Apply this module to what the sublayer puts out, before dropout and the residual connection."""
        if site == "ffn":
            layer.fc2.register_forward_hook(self._after_linear)
        else:
            getattr(layer, site).register_forward_hook(self._after_attention)

    def _after_linear(self, module: nn.Module, args: tuple, output: Tensor) -> Tensor:
        return self(output)

    def _after_attention(self, module: nn.Module, args: tuple, output: tuple) -> tuple:
        return (self(output[0]), *output[1:])
