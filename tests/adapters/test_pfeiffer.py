import copy

import pytest
import torch
from sparse_adapter.adapters.sites import transformer_layers
from sparse_adapter.modules import ADAPTER
from torch import Tensor, nn
from torch.nn import functional

from ..conftest import SIZES, randomize

DIM = SIZES["embed_dim"]
PARAMETERS = ["down.weight.values", "down.bias", "up.weight.values", "up.bias"]


@pytest.fixture(params=["post-LN", "pre-LN"])
def layers(request, build_bart) -> list[nn.Module]:
    """The first encoder and decoder layers, whose LayerNorms do something."""
    before = request.param == "pre-LN"
    model = build_bart(adapter="pfeiffer", encoder_normalize_before=before, decoder_normalize_before=before)
    randomize(model)
    for module in model.modules():
        if isinstance(module, nn.LayerNorm):
            nn.init.normal_(module.weight, mean=1, std=0.3)
            nn.init.normal_(module.bias, std=0.3)
    return [model.encoder.layers[0], model.decoder.layers[0]]


def run(layer: nn.Module, x: Tensor, memory: Tensor) -> Tensor:
    return layer(x, None) if not hasattr(layer, "encoder_attn") else layer(x, memory)[0]


def explicit(layer: nn.Module, x: Tensor, memory: Tensor) -> Tensor:
    """The layer's own attention; FFN, LayerNorm and adapter by their formulas."""

    def norm(y: Tensor, own: nn.LayerNorm) -> Tensor:
        standardised = (y - y.mean(-1, keepdim=True)) / (y.var(-1, correction=0, keepdim=True) + 1e-5).sqrt()
        return standardised * own.weight + own.bias

    def ffn(y: Tensor) -> Tensor:
        return functional.gelu(y @ layer.fc1.weight.T + layer.fc1.bias) @ layer.fc2.weight.T + layer.fc2.bias

    def adapter(y: Tensor) -> Tensor:
        p = dict(getattr(layer, ADAPTER)["pfeiffer"].ffn.named_parameters())
        hidden = torch.relu(y @ p["down.weight.values"].T + p["down.bias"])
        return hidden @ p["up.weight.values"].T + p["up.bias"]

    pre = layer.normalize_before
    for site in ("self_attn", "encoder_attn"):
        if hasattr(layer, site):
            own = getattr(layer, f"{site}_layer_norm")
            query = norm(x, own) if pre else x
            key = query if site == "self_attn" else memory
            x = x + getattr(layer, site)(query=query, key=key, value=key)[0]
            x = x if pre else norm(x, own)
    if pre:
        out = x + ffn(norm(x, layer.final_layer_norm))
        return out + adapter(out)
    h = ffn(x)
    return norm(h + adapter(norm(h + x, layer.final_layer_norm)) + x, layer.final_layer_norm)


def test_placed_after_the_ffn_of_encoder_and_decoder_layers(layers):
    x, memory = torch.randn(7, 3, DIM), torch.randn(5, 3, DIM)
    for layer in layers:
        torch.testing.assert_close(run(layer, x, memory), explicit(layer, x, memory), rtol=1e-5, atol=1e-5)
        without = copy.deepcopy(layer)
        without.residual_connection = lambda y, residual: y + residual
        assert (run(without, x, memory) - run(layer, x, memory)).abs().max() > 0.1


def test_names_of_all_parameters(build_bart):
    model = build_bart(adapter="pfeiffer")
    assert {name for name, parameter in model.named_parameters() if parameter.requires_grad} == {
        f"{stack}.layers.{i}.{ADAPTER}.pfeiffer.ffn.{parameter}"
        for stack in ("encoder", "decoder")
        for i in range(2)
        for parameter in PARAMETERS
    }


def test_a_deep_copy_uses_its_own_layer_norm(layers):
    x, memory = torch.randn(7, 3, DIM), torch.randn(5, 3, DIM)
    for layer in layers:
        before, other = run(layer, x, memory), copy.deepcopy(layer)
        nn.init.normal_(other.final_layer_norm.weight)
        assert torch.equal(run(layer, x, memory), before)
        torch.testing.assert_close(run(other, x, memory), explicit(other, x, memory), rtol=1e-5, atol=1e-5)


def test_the_bottleneck_starts_normal_and_without_layer_norm(build_bart):
    model = build_bart(adapter="pfeiffer", adapter_init_std=0.05)
    for layer in transformer_layers(model):
        adapter = getattr(layer, ADAPTER)["pfeiffer"].ffn
        assert adapter.layer_norm_in is None and adapter.layer_norm_out is None
        for linear in (adapter.down, adapter.up):
            assert 0.03 < linear.weight.values.std() < 0.07
