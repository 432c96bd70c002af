"""Dropout with random numbers of 16 bits: the definition, and where torch uses it."""

import pytest
import torch
from sparse_adapter.modules.fast_dropout import LEVELS, fast_dropout, use_fast_dropout
from torch import nn
from torch.nn import functional
from torch.utils.checkpoint import checkpoint as checkpointed

COUNT = 400_001  # no multiple of the four values of a random number


@pytest.fixture(autouse=True)
def _seed():
    torch.manual_seed(1)


@pytest.fixture
def fast():
    use_fast_dropout()
    yield
    use_fast_dropout(False)


@pytest.mark.parametrize("p", [0.1, 0.5, 0.9])
def test_as_many_values_as_asked_for_become_zero_and_the_others_make_up_for_it(p):
    dropped = fast_dropout(torch.ones(COUNT), p)
    share = (dropped == 0).double().mean().item()
    assert share == pytest.approx(p, abs=4 * (p * (1 - p) / COUNT) ** 0.5)
    assert dropped.unique().tolist() == [0, pytest.approx(LEVELS / (LEVELS - round(p * LEVELS)))]
    assert dropped.unique()[1].item() == pytest.approx(1 / (1 - p), rel=1e-4)


def test_values_are_dropped_independently():
    """Those of one random number, and those of the next."""
    centred = (fast_dropout(torch.ones(4, COUNT // 4).t(), 0.3) == 0).double() - 0.3
    for distance in range(1, 9):
        flat = centred.flatten()
        correlation = (flat[:-distance] * flat[distance:]).mean().item() / (0.3 * 0.7)
        assert abs(correlation) < 4 / COUNT**0.5


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16, torch.float64])
@pytest.mark.parametrize("shape", [(), (0, 3), (1,), (5, 3)])
def test_shapes_and_types_stay(shape, dtype):
    values = torch.ones(shape, dtype=dtype)
    dropped = fast_dropout(values, 0.5)
    assert dropped.shape == shape and dropped.dtype == dtype and ((dropped == 0) | (dropped == 2)).all()


def test_nothing_is_dropped_in_evaluation_or_at_zero_and_all_at_one():
    values = torch.randn(100, requires_grad=True)
    assert torch.equal(fast_dropout(values, 0.5, False), values)
    assert torch.equal(fast_dropout(values, 0.0), values)
    nothing = fast_dropout(values, 1.0)
    nothing.sum().backward()
    assert not nothing.any() and not values.grad.any()


def test_gradients_are_of_the_values_that_were_kept():
    """The second ones, too, for GraSP."""

    def dropped(values):
        torch.manual_seed(2)
        return fast_dropout(values, 0.4) ** 3

    values = torch.randn(4, 5, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(dropped, values) and torch.autograd.gradgradcheck(dropped, values)


@pytest.mark.usefixtures("fast")
def test_the_seed_decides():
    values = torch.ones(1000)
    first, second = functional.dropout(values, 0.5), functional.dropout(values, 0.5)
    torch.manual_seed(1)
    assert torch.equal(functional.dropout(values, 0.5), first) and not torch.equal(first, second)


@pytest.mark.usefixtures("fast")
def test_what_is_computed_again_drops_the_same_values():
    """As with --checkpoint-activations."""
    gradients = []
    for layer in (
        lambda x: functional.dropout(x, 0.5),
        lambda x: checkpointed(functional.dropout, x, 0.5, use_reentrant=False),
    ):
        values = torch.ones(1000, requires_grad=True)
        torch.manual_seed(1)
        dropped = layer(values)
        dropped.sum().backward()
        assert torch.equal(values.grad, dropped)
        gradients.append(values.grad)
    assert torch.equal(*gradients)


def attention(query):
    return functional.scaled_dot_product_attention(query, query, query, dropout_p=0.5)


def multihead(query):
    torch.manual_seed(3)
    module = nn.MultiheadAttention(8, 2, dropout=0.5)
    torch.manual_seed(1)
    return module(query[0], query[0], query[0], need_weights=False)[0]


@pytest.mark.parametrize(
    "layer", [lambda x: functional.dropout(x, 0.5), lambda x: nn.Dropout(0.5)(x), attention, multihead]
)
@pytest.mark.parametrize("gradient", [True, False])
def test_all_dropout_of_torch_is_the_fast_one_until_it_is_no_longer(layer, gradient):
    query = torch.randn(2, 3, 4, 8, requires_grad=gradient)
    torch.manual_seed(1)
    own = layer(query)

    use_fast_dropout()
    use_fast_dropout()
    torch.manual_seed(1)
    other = layer(query)
    use_fast_dropout(False)
    assert not torch.equal(own, other) and other.requires_grad == (gradient or layer is multihead)

    torch.manual_seed(1)
    assert torch.equal(layer(query), own)
