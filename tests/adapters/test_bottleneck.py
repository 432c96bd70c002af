"""The form for inference; the equation itself is tested in test_houlsby.py."""

import math

import pytest
import torch
from sparse_adapter.adapters.bottleneck import Bottleneck, BottleneckOptions
from torch import Tensor, nn
from torch.nn import functional

DIM, WIDTH = 10, 6
ACTIVATIONS = {"relu": torch.relu, "gelu": functional.gelu, "tanh": torch.tanh, "swish": functional.silu}


def build(rows: list[int], columns: list[int], activation="gelu", layer_norm="none", scale=1.0) -> Bottleneck:
    """A bottleneck of random values with units that lost their row of ``down`` or their column of ``up``.

    Of the other rows and columns every second weight is left.
    """
    options = BottleneckOptions(
        adapter_bottleneck=WIDTH, adapter_activation=activation, adapter_layer_norm=layer_norm, adapter_dropout=0.5
    )
    adapter = Bottleneck(DIM, options, scale=scale).double().eval()
    for parameter in adapter.parameters():
        nn.init.normal_(parameter)
    masks = [torch.arange(n * m).view(n, m) % 2 == 0 for n, m in ((WIDTH, DIM), (DIM, WIDTH + 1))]
    down, up = masks[0], masks[1][:, :WIDTH]
    down[rows] = False
    up[:, columns] = False
    adapter.down.weight.prune_(down)
    adapter.up.weight.prune_(up)
    return adapter


def explicit(adapter: Bottleneck, x: Tensor, activation: str) -> Tensor:
    def norm(y: Tensor, layer: nn.LayerNorm | None) -> Tensor:
        if layer is None:
            return y
        standardised = (y - y.mean(-1, keepdim=True)) / (y.var(-1, correction=0, keepdim=True) + 1e-5).sqrt()
        return standardised * layer.weight + layer.bias

    hidden = ACTIVATIONS[activation](norm(x, adapter.layer_norm_in) @ adapter.down.weight().T + adapter.down.bias)
    return adapter.scale * norm(hidden @ adapter.up.weight().T + adapter.up.bias, adapter.layer_norm_out)


@pytest.mark.parametrize("scale", [1.0, 4.0])
@pytest.mark.parametrize("layer_norm", ["in", "out", "none"])
@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_units_without_a_row_or_a_column_go_and_the_function_stays(activation, layer_norm, scale):
    adapter = build(rows=[0, 2], columns=[1, 2], activation=activation, layer_norm=layer_norm, scale=scale)
    x = torch.randn(7, 3, DIM).double()
    expected = explicit(adapter, x, activation)
    adapter.materialize_()
    left = [3, 4, 5]
    assert torch.equal(adapter.slim_down, adapter.down.weight()[left])
    assert torch.equal(adapter.slim_down_bias, adapter.down.bias[left])
    assert torch.equal(adapter.slim_up, adapter.up.weight()[:, left])
    torch.testing.assert_close(adapter(x), expected, rtol=0, atol=1e-9)


@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_a_unit_without_a_row_leaves_its_constant_in_the_bias(activation):
    """up[:, 0] · f(b[0]), of unit 0 only: unit 2 has no column either."""
    adapter = build(rows=[0, 2], columns=[2], activation=activation)
    adapter.down.bias.data[0] = 1.5
    f = {
        "relu": 1.5,
        "gelu": 1.5 * (1 + math.erf(1.5 / math.sqrt(2))) / 2,
        "tanh": math.tanh(1.5),
        "swish": 1.5 / (1 + math.exp(-1.5)),
    }
    adapter.materialize_()
    constant = adapter.up.weight()[:, 0] * f[activation]
    assert constant.abs().max() > 0.1
    torch.testing.assert_close(adapter.slim_up_bias, adapter.up.bias + constant)


@pytest.mark.parametrize("rows, columns", [(range(6), []), ([], range(6)), (range(3), range(3, 6))])
@pytest.mark.parametrize("layer_norm", ["in", "out", "none"])
def test_all_units_can_go(layer_norm, rows, columns):
    adapter = build(list(rows), list(columns), layer_norm=layer_norm, scale=4.0)
    x = torch.randn(7, 3, DIM).double()
    expected = explicit(adapter, x, "gelu")
    adapter.materialize_()
    assert adapter.slim_down.shape == (0, DIM) and adapter.slim_up.shape == (DIM, 0)
    torch.testing.assert_close(adapter(x), expected, rtol=0, atol=1e-9)


def test_no_unit_goes_where_each_has_weights_on_both_sides():
    adapter = build(rows=[], columns=[])
    adapter.materialize_()
    assert torch.equal(adapter.slim_down, adapter.down.weight())
    assert torch.equal(adapter.slim_up, adapter.up.weight())
    assert torch.equal(adapter.slim_up_bias, adapter.up.bias)


def test_the_form_is_not_saved_and_does_not_outlive_training_or_loading():
    adapter = build(rows=[0], columns=[1])
    state, x = dict(adapter.state_dict()), torch.randn(7, 3, DIM).double()
    adapter.materialize_()
    assert adapter.state_dict().keys() == state.keys()
    adapter.train().eval()
    adapter.up.bias.data += 1
    torch.testing.assert_close(adapter(x), explicit(adapter, x, "gelu"))

    adapter.materialize_()
    other = build(rows=[5], columns=[4])
    adapter.load_state_dict(other.state_dict())
    torch.testing.assert_close(adapter(x), explicit(other, x, "gelu"))
