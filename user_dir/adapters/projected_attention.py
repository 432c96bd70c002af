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

    prefix: nn.Module | None = None  # keys and values before all others, each (length, embed_dim)

    def is_fused(
        self,
        *,
        key: Tensor | None,
        incremental_state: dict | None = None,
        need_weights: bool = True,
        before_softmax: bool = False,
        need_head_weights: bool = False,
        **others: object,
    ) -> bool:
        """Whether a call with these arguments is one of those."""
        asked = need_weights or before_softmax or need_head_weights or incremental_state is not None
        special = self.bias_k is not None or self.add_zero_attn or self.use_xformers or self.onnx_trace
        return key is not None and not asked and not special

    def forward(self, query: Tensor, key: Tensor | None, value: Tensor | None, **options: object):
        """As fairseq's: ``query`` is ``(tgt_len, batch, embed_dim)``, ``key`` and ``value`` have ``src_len``."""
        if not self.is_fused(key=key, **options):
            return super().forward(query, key, value, **options)
        q, k, v = (self._heads(x) for x in (self.q_proj(query), self.k_proj(key), self.v_proj(value)))
        # (batch, 1, 1, src_len) and (tgt_len, src_len), both -inf where nothing may be seen
        padding, mask = options.get("key_padding_mask"), options.get("attn_mask")
        if mask is not None:
            mask = _minus_infinity(mask, q.dtype) if mask.dtype == torch.bool else mask.to(q.dtype)
        if padding is not None:
            padding = _minus_infinity(padding.bool(), q.dtype)[:, None, None]
            mask = padding if mask is None else padding + mask
        if self.prefix is not None:
            tables = (table.to(k.dtype).unsqueeze(1).expand(-1, k.size(0), -1) for table in self.prefix())
            k, v = (torch.cat([self._heads(table), x], dim=2) for table, x in zip(tables, (k, v), strict=True))
            mask = None if mask is None else functional.pad(mask, (k.size(2) - mask.size(-1), 0))
        dropout = self.dropout_module
        rate = dropout.p if dropout.training or dropout.apply_during_inference else 0.0
        x = functional.scaled_dot_product_attention(q, k, v, attn_mask=mask, dropout_p=rate)
        return self.out_proj(x.permute(2, 0, 1, 3).flatten(2)), None

    def _heads(self, x: Tensor) -> Tensor:
        """``(len, batch, embed_dim)`` to ``(batch, heads, len, head_dim)``."""
        return x.view(*x.shape[:2], self.num_heads, self.head_dim).permute(1, 2, 0, 3)


def _minus_infinity(masked: Tensor, dtype: torch.dtype) -> Tensor:
    return masked.new_zeros(masked.shape, dtype=dtype).masked_fill_(masked, -torch.inf)
