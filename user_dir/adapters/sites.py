"""The sites of a fairseq transformer layer: where adapters attach (He, Zhou et al. 2022, unified view)."""

import re
from collections.abc import Iterator

from fairseq.modules.transformer_layer import TransformerDecoderLayerBase, TransformerEncoderLayerBase
from torch import Tensor, nn

from ..errors import UsageError

LAYERS = (TransformerEncoderLayerBase, TransformerDecoderLayerBase)
ATTENTION_SITES = ("self_attn", "encoder_attn")
SITES = (*ATTENTION_SITES, "ffn")
LAYER_NORMS = {
    "self_attn": "self_attn_layer_norm",
    "encoder_attn": "encoder_attn_layer_norm",
    "ffn": "final_layer_norm",
}


def transformer_layers(model: nn.Module) -> Iterator[nn.Module]:
    """All encoder and decoder layers of a model, in the order of ``named_modules``."""
    for module in model.modules():
        if isinstance(module, LAYERS):
            yield module


def chosen_layers(model: nn.Module, wanted: str) -> list[nn.Module]:
    """The layers that ``wanted`` names: ``all``, or ``encoder``, ``decoder.3``, ``decoder.6-11`` and the like, counted
    from 0, with commas between.

    Raises:
        UsageError: there is no such layer.
    """
    layers, stacks = list(transformer_layers(model)), {}
    if wanted == "all":
        return layers
    for name, module in model.named_modules():
        if isinstance(module, LAYERS):
            stacks.setdefault(name.split(".")[0], []).append(module)
    chosen = []
    for part in wanted.split(","):
        found = re.fullmatch(r"(\w+)(?:\.(\d+)(?:-(\d+))?)?", part.strip())
        stack = stacks.get(found[1]) if found else None
        if stack is None:
            raise UsageError(
                f"--adapter-layers {wanted}: {part.strip()!r} is no group of layers; use all, {', '.join(stacks)}, or "
                f"some layers such as {next(iter(stacks))}.0-1"
            )
        first = int(found[2] or 0)
        last = int(found[3] or first) if found[2] else len(stack) - 1
        if not first <= last < len(stack):
            raise UsageError(f"--adapter-layers {wanted}: the {found[1]} has the layers 0 to {len(stack) - 1}")
        chosen += stack[first : last + 1]
    return [layer for layer in layers if layer in chosen]


def sites(layer: nn.Module) -> list[str]:
    """The sites that a layer has; only decoders of a sequence-to-sequence model have ``encoder_attn``."""
    return [*attention_sites(layer), "ffn"]


def attention_sites(layer: nn.Module) -> list[str]:
    return [site for site in ATTENTION_SITES if getattr(layer, site, None) is not None]


class AtResidual:
    """Mixin for a module that changes what a sublayer puts out, just before the residual connection.

    The module defines ``change(x, residual)``; the layer goes on with ``x + change`` and ``residual``.
    """

    def bind(self, layer: nn.Module, site: str) -> None:
        """Take from the layer what ``change`` needs; called once, before training."""

    def change(self, x: Tensor, residual: Tensor) -> Tensor:
        """What to add to the sublayer's output ``x``; all tensors are ``(seq_len, batch, embed_dim)``."""
        raise NotImplementedError

    def attach(self, layer: nn.Module, site: str) -> None:
        self.bind(layer, site)
        # One residual_connection serves all sublayers of a layer, so the sublayer says when it has run.
        self.forget()
        self.inner = layer.residual_connection
        layer.residual_connection = self._connect
        sublayer = layer.fc2 if site == "ffn" else getattr(layer, site)
        sublayer.register_forward_hook(self._sublayer_ran)

    def forget(self) -> None:
        """Drop what a pass that was broken off, by a lack of memory for one, has left."""
        self.due = False

    def _sublayer_ran(self, module: nn.Module, args: tuple, output: object) -> None:
        self.due = True

    def _connect(self, x: Tensor, residual: Tensor) -> Tensor:
        if self.due:
            self.due = False
            x = x + self.change(x, residual)
        return self.inner(x, residual)
