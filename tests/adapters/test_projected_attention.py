"""What attention hands to its output projection, also where a GPU's kernel computes it."""

import torch
from sparse_adapter.adapters import projected_attention


def test_the_output_projection_reads_one_piece_whatever_the_kernel(build_bart, batch, monkeypatch):
    """CUDA's memory-efficient kernel leaves (batch, tgt_len, heads, head_dim), of which torch would multiply every
    position by itself."""
    model = build_bart(adapter="lora").eval()
    attention = model.encoder.layers[0].self_attn
    expected = model.encoder(batch["net_input"]["src_tokens"])["encoder_out"][0]
    of_cpu = projected_attention.functional.scaled_dot_product_attention

    def of_cuda(*args, **kwargs):
        return of_cpu(*args, **kwargs).transpose(1, 2).contiguous().transpose(1, 2)

    class Functional:
        def __getattr__(self, name):
            return of_cuda if name == "scaled_dot_product_attention" else getattr(torch.nn.functional, name)

    monkeypatch.setattr(projected_attention, "functional", Functional())
    pieces = []
    attention.out_proj.register_forward_pre_hook(lambda module, args: pieces.append(args[0].is_contiguous()))
    assert torch.equal(model.encoder(batch["net_input"]["src_tokens"])["encoder_out"][0], expected)
    assert pieces == [True]
