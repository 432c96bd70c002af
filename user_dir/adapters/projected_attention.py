"""Attention that calls its linear maps, whatever has become of them, and still uses torch's kernels."""

import torch
from fairseq.modules import MultiheadAttention
from torch import Tensor, nn
from torch.nn import functional


def call_projections(attention: MultiheadAttention) -> None:
    """Let an attention call its projections in every case.

    fairseq's reads their weights and passes by their ``forward`` where it hands over to torch's attention
    (multihead_attention.py 0.12.3, ``skip_embed_dim_check``); told not to, it stores weights of ``(batch * heads,
    tgt_len, src_len)`` for the backward pass, some of them in float32.
    """
    attention.skip_embed_dim_check = True
    if type(attention) is MultiheadAttention:
        attention.__class__ = ProjectedAttention


class ProjectedAttention(MultiheadAttention):
    """Where neither weights nor a state are asked for, ``softmax(q kᵀ / √head_dim) v`` by torch's
    ``scaled_dot_product_attention``; otherwise what fairseq does. In training, fairseq asks for the weights of the last
    decoder layer's cross-attention alone.
    """

    prefix: nn.Module | None = None  # gives keys and values to go before all others, each (length, embed_dim)

    def forward(self, query: Tensor, key: Tensor | None, value: Tensor | None, **options: object):
        """As fairseq's: ``query`` is ``(tgt_len, batch, embed_dim)``, ``key`` and ``value`` have ``src_len``. Weights
        are those of ``src_len`` positions, with a prefix too: alignments and copying count on it.
        """
        if key is not None and self._is_fused(**options):
            return self._fused(query, key, value, options), None
        if self.prefix is None:
            return super().forward(query, key, value, **options)
        x, weights = super().forward(query, key, value, **self._after_prefix(query, key, options))
        return x, None if weights is None else weights[..., self.prefix.length :]

    def _is_fused(
        self,
        *,
        incremental_state: dict | None = None,
        need_weights: bool = True,
        before_softmax: bool = False,
        need_head_weights: bool = False,
        **others: object,
    ) -> bool:
        asked = need_weights or before_softmax or need_head_weights or incremental_state is not None
        special = self.bias_k is not None or self.add_zero_attn or self.use_xformers or self.onnx_trace
        return not asked and not special

    def _fused(self, query: Tensor, key: Tensor, value: Tensor, options: dict) -> Tensor:
        q, k, v = (self._heads(x) for x in (self.q_proj(query), self.k_proj(key), self.v_proj(value)))
        # (batch, 1, 1, src_len) and (tgt_len, src_len), both -inf where nothing may be seen
        padding, mask = options.get("key_padding_mask"), options.get("attn_mask")
        if mask is not None:
            mask = _minus_infinity(mask, q.dtype) if mask.dtype == torch.bool else mask.to(q.dtype)
        if padding is not None:
            padding = _minus_infinity(padding.bool(), q.dtype)[:, None, None]
            mask = padding if mask is None else padding + mask
        if self.prefix is not None:
            k, v = self._with_prefix(k, v)
            mask = None if mask is None else functional.pad(mask, (self.prefix.length, 0))
        dropout = self.dropout_module
        rate = dropout.p if dropout.training or dropout.apply_during_inference else 0.0
        x = functional.scaled_dot_product_attention(q, k, v, attn_mask=mask, dropout_p=rate)
        # In one piece, which GPUs' kernels do not leave it in: torch multiplies others by a frozen matrix one by one.
        return self.out_proj(x.permute(2, 0, 1, 3).flatten(2).contiguous())

    def _after_prefix(self, query: Tensor, key: Tensor | None, options: dict) -> dict:
        """``options`` for fairseq's own attention, which takes the prefix for earlier positions of incremental
        decoding. Of cross-attention, whose positions do not become more, these are all.
        """
        state = options.get("incremental_state")
        state = {} if state is None else state
        options = options | {"incremental_state": state}
        if "prev_key" in self._get_input_buffer(state):
            return options
        padding, mask = options.get("key_padding_mask"), options.get("attn_mask")
        if self.self_attention:  # a padding mask grows by itself
            k, v = self._prefix_heads(self._heads(query))
            if mask is not None:
                options["attn_mask"] = functional.pad(mask, (self.prefix.length, 0))
        else:
            if self.beam_size > 1 and key.size(1) == query.size(1):  # the same source in every beam: one is enough
                key = key[:, :: self.beam_size]
                padding = None if padding is None else padding[:: self.beam_size]
            k, v = self._with_prefix(self._heads(self.k_proj(key)), self._heads(self.v_proj(key)))
            padding = None if padding is None else functional.pad(padding, (self.prefix.length, 0))
            options |= {"key_padding_mask": padding, "static_kv": True}
        buffer = {"prev_key": k.contiguous(), "prev_value": v.contiguous()}
        self._set_input_buffer(state, buffer)
        return options

    def _with_prefix(self, k: Tensor, v: Tensor) -> tuple[Tensor, Tensor]:
        """Keys and values, both ``(batch, heads, src_len, head_dim)``, after those of the prefix."""
        prefix_k, prefix_v = self._prefix_heads(k)
        return torch.cat([prefix_k, k], dim=2), torch.cat([prefix_v, v], dim=2)

    def _prefix_heads(self, like: Tensor) -> list[Tensor]:
        """The prefix for the batch and in the type of ``like``, ``(batch, heads, src_len, head_dim)``."""
        tables = (self._heads(table.unsqueeze(1).to(like.dtype)) for table in self.prefix())
        return [table.expand(like.size(0), -1, -1, -1) for table in tables]

    def _heads(self, x: Tensor) -> Tensor:
        """``(len, batch, embed_dim)`` to ``(batch, heads, len, head_dim)``."""
        return x.view(*x.shape[:2], self.num_heads, self.head_dim).permute(1, 2, 0, 3)


def _minus_infinity(masked: Tensor, dtype: torch.dtype) -> Tensor:
    return masked.new_zeros(masked.shape, dtype=dtype).masked_fill_(masked, -torch.inf)
