import pytest
import torch
from sparse_adapter.adapters.bottleneck import Bottleneck, BottleneckOptions
from sparse_adapter.adapters.houlsby import HoulsbyBottleneck
from sparse_adapter.adapters.sites import sites, transformer_layers
from sparse_adapter.modules import ADAPTER
from torch.nn import functional

ACTIVATIONS = {"relu": torch.relu, "gelu": functional.gelu, "tanh": torch.tanh, "swish": lambda x: x * x.sigmoid()}


@pytest.mark.parametrize("layer_norm", ["in", "out", "none"])
@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_against_the_equation(activation, layer_norm):
    """x + up(f(down(LN(x)))), or with the LayerNorm on the output, or without."""
    options = BottleneckOptions(adapter_bottleneck=6, adapter_activation=activation, adapter_layer_norm=layer_norm)
    adapter = HoulsbyBottleneck(10, options)
    for parameter in adapter.parameters():
        torch.nn.init.normal_(parameter)
    p = dict(adapter.named_parameters())
    x = torch.randn(7, 3, 10)

    def norm(y, place):
        if place != layer_norm:
            return y
        standardised = (y - y.mean(-1, keepdim=True)) / (y.var(-1, correction=0, keepdim=True) + 1e-5).sqrt()
        return standardised * p[f"layer_norm_{place}.weight"] + p[f"layer_norm_{place}.bias"]

    hidden = ACTIVATIONS[activation](norm(x, "in") @ p["down.weight.values"].T + p["down.bias"])
    expected = x + norm(hidden @ p["up.weight.values"].T + p["up.bias"], "out")
    torch.testing.assert_close(x + adapter.change(x, torch.randn(7, 3, 10)), expected, rtol=1e-5, atol=1e-5)
    assert len(p) == 4 + 2 * (layer_norm != "none")


def test_normal_initialisation():
    adapter = Bottleneck(400, BottleneckOptions(adapter_bottleneck=100, adapter_init_std=0.05))
    for linear in (adapter.down, adapter.up):
        assert linear.weight.values.std().item() == pytest.approx(0.05, rel=0.02)
        assert abs(linear.weight.values.mean().item()) < 5 * 0.05 / 200
        assert not linear.bias.any()


@pytest.mark.parametrize("layer_norm", ["in", "out", "none"])
def test_zero_up_is_the_identity(layer_norm):
    adapter = HoulsbyBottleneck(10, BottleneckOptions(adapter_init="zero-up", adapter_layer_norm=layer_norm))
    x = torch.randn(7, 3, 10)
    assert not adapter.change(x, x).any()
    assert adapter.down.weight.values.any()


def test_dropout_is_on_the_bottleneck_in_training_only():
    """Every unit is 1 whatever the input, and up sums them: with dropout 1/2, twice the units that are left."""
    adapter = Bottleneck(10, BottleneckOptions(adapter_bottleneck=6, adapter_dropout=0.5, adapter_layer_norm="none"))
    torch.nn.init.zeros_(adapter.down.weight.values)
    torch.nn.init.ones_(adapter.down.bias)
    torch.nn.init.ones_(adapter.up.weight.values)
    x = torch.randn(1000, 3, 10)
    assert (adapter.eval()(x) == 6).all()
    assert set(adapter.train()(x).unique().tolist()) == {0, 2, 4, 6, 8, 10, 12}


def test_unit_dimensions():
    adapter = Bottleneck(10, BottleneckOptions(adapter_bottleneck=6))
    for linear in (adapter.down, adapter.up):
        assert linear.weight.shape[linear.weight.unit_dim] == 6


def test_sites_of_encoder_and_decoder(model):
    assert [sites(layer) for layer in transformer_layers(model)] == [
        *2 * [["self_attn", "ffn"]],
        *2 * [["self_attn", "encoder_attn", "ffn"]],
    ]


@pytest.mark.parametrize("normalize_before", [True, False])
def test_placed_after_each_sublayer_and_before_the_residual(build_bart, batch, normalize_before):
    """An adapter that only adds a constant to a sublayer's output equals stock BART with that constant in its bias."""
    order = {"encoder_normalize_before": normalize_before, "decoder_normalize_before": normalize_before}
    model = build_bart(adapter_init="zero-up", **order)
    stock = build_bart("bart_base", **order)
    stock.load_state_dict({k: v for k, v in model.state_dict().items() if ADAPTER not in k.split(".")})
    layers = zip(transformer_layers(model), transformer_layers(stock), strict=True)
    for layer, stock_layer in layers:
        for site, adapter in getattr(layer, ADAPTER)["houlsby"].named_children():
            constant = torch.randn(32)
            adapter.up.bias.data += constant
            last = stock_layer.fc2 if site == "ffn" else getattr(stock_layer, site).out_proj
            last.bias.data += constant
    expected = stock(**batch["net_input"])[0]
    torch.testing.assert_close(model(**batch["net_input"])[0], expected, rtol=1e-5, atol=1e-5)
    assert (expected - build_bart("bart_base", **order)(**batch["net_input"])[0]).abs().max() > 0.1
