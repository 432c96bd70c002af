"""Prefix tuning: trained keys and values before those of attention (Li and Liang 2021, §4; He et al. 2022, eq. 4)."""

import dataclasses
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

    ``up`` puts out keys and values beside each other. Only its output is needed after training.
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
        if getattr(attention, "has_prefix", False):
            raise UsageError("two families put a prefix before the same attention: mam has prefixes of its own")
        attention.has_prefix = True
        call_projections(attention)
        if attention.self_attention:
            object.__setattr__(attention, "prefix", self)  # which does not own it, or the backbone's keys would change
            attention.register_forward_pre_hook(self._before_self_attention, with_kwargs=True)
        else:
            attention.register_forward_pre_hook(self._before_cross_attention, with_kwargs=True)
            attention.k_proj.register_forward_hook(self._put_keys)
            attention.v_proj.register_forward_hook(self._put_values)
            attention.register_forward_hook(self._drop_weights)

    def _before_self_attention(self, attention: nn.Module, args: tuple, kwargs: dict) -> tuple[tuple, dict]:
        """Where attention is fairseq's own, pass the prefix off as earlier positions of incremental decoding; a padding
        mask then grows by itself.
        """
        if isinstance(attention, ProjectedAttention) and attention.is_fused(**kwargs):
            return args, kwargs
        state = kwargs.get("incremental_state")
        if state is None:
            state = {}
        if "prev_key" not in attention._get_input_buffer(state):
            batch = kwargs["query"].size(1)
            prev_key, prev_value = (
                table.view(1, self.length, attention.num_heads, attention.head_dim)
                .transpose(1, 2)
                .expand(batch, -1, -1, -1)
                .contiguous()
                for table in self()
            )
            attention._set_input_buffer(state, {"prev_key": prev_key, "prev_value": prev_value})
            mask = kwargs.get("attn_mask")
            if mask is not None:
                kwargs["attn_mask"] = torch.cat([mask.new_zeros(mask.size(0), self.length), mask], dim=1)
        kwargs["incremental_state"] = state
        return args, kwargs

    def _before_cross_attention(self, attention: nn.Module, args: tuple, kwargs: dict) -> tuple[tuple, dict]:
        """Make room for the prefix: rows before the encoder's output, whose projections it will replace."""
        state = kwargs.get("incremental_state")
        if state is None or "prev_key" not in attention._get_input_buffer(state):
            for name in ("key", "value"):
                x = kwargs[name]
                kwargs[name] = torch.cat([x.new_zeros(self.length, *x.shape[1:]), x])
            mask = kwargs.get("key_padding_mask")
            if mask is not None:
                kwargs["key_padding_mask"] = torch.cat([mask.new_zeros(mask.size(0), self.length), mask], dim=1)
        return args, kwargs

    def _put_keys(self, module: nn.Module, args: tuple, output: Tensor) -> Tensor:
        return self._put(self()[0], output)

    def _put_values(self, module: nn.Module, args: tuple, output: Tensor) -> Tensor:
        return self._put(self()[1], output)

    def _put(self, table: Tensor, output: Tensor) -> Tensor:
        return torch.cat([table.unsqueeze(1).expand(-1, output.size(1), -1).to(output.dtype), output[self.length :]])

    def _drop_weights(self, attention: nn.Module, args: tuple, output: tuple) -> tuple:
        """Attention weights are for the positions of the source, which alignments and copying count on."""
        x, weights = output
        return x, None if weights is None else weights[..., self.length :]


@register_adapter("prefix")
class PrefixTuning(Adapter):
    """In every self-attention and cross-attention."""

    Options = PrefixOptions

    def __init__(self, layer: nn.Module, options: PrefixOptions):
        super().__init__()
        for site in attention_sites(layer):
            self.add_module(site, Prefix(layer.embed_dim, options))
