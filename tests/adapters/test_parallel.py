from argparse import Namespace

import pytest
import torch
from sparse_adapter.adapters.options import read_options
from sparse_adapter.adapters.parallel import ParallelOptions
from sparse_adapter.adapters.sites import transformer_layers
from sparse_adapter.errors import UsageError
from sparse_adapter.modules import ADAPTER
from torch import Tensor, nn
from torch.nn import functional

from ..conftest import SIZES, randomize

DIM = SIZES["embed_dim"]
PARAMETERS = ["down.weight.values", "down.bias", "up.weight.values", "up.bias"]
ORDERS = pytest.mark.parametrize("normalize_before", [True, False])


def build(build_bart, normalize_before: bool, arch="sparse_adapter_bart_base", **arguments) -> nn.Module:
    order = {"encoder_normalize_before": normalize_before, "decoder_normalize_before": normalize_before}
    return build_bart(arch, **order, **arguments)


def explicit(layer: nn.Module, x: Tensor, scale: float) -> Tensor:
    """What an encoder layer puts out: its own attention, then FFN(h) + s · up(relu(down(h)))."""
    attention = layer.self_attn, layer.self_attn_layer_norm
    p = dict(getattr(layer, ADAPTER)["parallel"].ffn.named_parameters())

    def sublayer(y: Tensor) -> Tensor:
        ffn = functional.gelu(y @ layer.fc1.weight.T + layer.fc1.bias) @ layer.fc2.weight.T + layer.fc2.bias
        hidden = torch.relu(y @ p["down.weight.values"].T + p["down.bias"])
        return ffn + scale * (hidden @ p["up.weight.values"].T + p["up.bias"])

    def attend(y: Tensor) -> Tensor:
        return attention[0](query=y, key=y, value=y)[0]

    if layer.normalize_before:
        x = x + attend(attention[1](x))
        return x + sublayer(layer.final_layer_norm(x))
    x = attention[1](x + attend(x))
    return layer.final_layer_norm(x + sublayer(x))


@ORDERS
@pytest.mark.parametrize("arguments, scale", [({}, 4), ({"parallel_scale": 0.5}, 0.5)])
def test_beside_the_ffn_with_its_factor(build_bart, normalize_before, arguments, scale):
    model = randomize(build(build_bart, normalize_before, adapter="parallel", **arguments))
    x = torch.randn(7, 3, DIM)
    for layer in model.encoder.layers:
        torch.testing.assert_close(layer(x, None), explicit(layer, x, scale), rtol=1e-5, atol=1e-5)
        assert (layer(x, None) - explicit(layer, x, 0)).abs().max() > 0.1


def test_in_decoder_layers_too(build_bart):
    """What the residual connection adds to the FFN's output is what the adapter makes of fc1's input."""
    model = randomize(build_bart(adapter="parallel"))
    x, residual = torch.randn(2, 7, 3, DIM)
    for layer in model.decoder.layers:
        p = dict(getattr(layer, ADAPTER)["parallel"].ffn.named_parameters())
        hidden = torch.relu(x @ p["down.weight.values"].T + p["down.bias"])
        expected = residual + layer.fc1(x) @ layer.fc2.weight.T + layer.fc2.bias
        expected = expected + 4 * (hidden @ p["up.weight.values"].T + p["up.bias"])
        found = layer.residual_connection(layer.fc2(layer.fc1(x)), residual)
        torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-5)


def test_the_dropout_of_the_ffn_does_not_reach_it(build_bart):
    model = randomize(build_bart(adapter="parallel", encoder_normalize_before=True, encoder_layerdrop=0))
    layer = model.encoder.layers[0]
    layer.dropout_module.forward = torch.zeros_like  # all of the attention's and the FFN's outputs
    x = torch.randn(7, 3, DIM)
    change = layer(x, None) - x
    assert torch.equal(layer(x, None), x + getattr(layer, ADAPTER)["parallel"].ffn(layer.final_layer_norm(x)))
    assert change.abs().max() > 0.1


@ORDERS
def test_training_starts_at_the_pretrained_function_exactly(build_bart, batch, normalize_before):
    model, stock = (
        build(build_bart, normalize_before, adapter="parallel"),
        build(build_bart, normalize_before, "bart_base"),
    )
    assert torch.equal(model(**batch["net_input"])[0], stock(**batch["net_input"])[0])
    adapter = getattr(model.encoder.layers[0], ADAPTER)["parallel"].ffn
    assert adapter.down.weight.values.any() and not adapter.up.weight.values.any()


def test_a_normal_up_projection_can_be_asked_for(build_bart):
    model = build_bart(adapter="parallel", adapter_init="normal")
    assert all(getattr(layer, ADAPTER)["parallel"].ffn.up.weight.values.any() for layer in transformer_layers(model))


def test_names_of_all_parameters(build_bart):
    model = build_bart(adapter="parallel")
    assert {name for name, parameter in model.named_parameters() if parameter.requires_grad} == {
        f"{stack}.layers.{i}.{ADAPTER}.parallel.ffn.{parameter}"
        for stack in ("encoder", "decoder")
        for i in range(2)
        for parameter in PARAMETERS
    }


def test_a_houlsby_adapter_reads_the_ffn_with_it_whatever_the_order(build_bart, batch):
    first = randomize(build_bart(adapter="houlsby+parallel"))
    second = build_bart(adapter="parallel+houlsby")
    second.load_state_dict(first.state_dict(), strict=True)
    assert torch.equal(*(model(**batch["net_input"])[0] for model in (first, second)))


def test_no_activation_outlives_the_forward_pass(build_bart, batch):
    model = build_bart(adapter="parallel")
    model(**batch["net_input"])
    assert all(getattr(layer, ADAPTER)["parallel"].ffn.kept is None for layer in transformer_layers(model))


def test_a_factor_of_zero_is_refused():
    with pytest.raises(UsageError, match="--parallel-scale 0 switches the adapters off"):
        read_options(ParallelOptions, Namespace(parallel_scale=0.0))
