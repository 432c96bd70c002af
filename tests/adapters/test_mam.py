from argparse import Namespace

import pytest
import torch
from sparse_adapter.adapters.mam import MamOptions
from sparse_adapter.adapters.options import read_options
from sparse_adapter.adapters.sites import transformer_layers
from sparse_adapter.errors import UsageError
from sparse_adapter.modules import ADAPTER, is_adapter_key, sparse_weights
from torch import nn

from ..conftest import SIZES, randomize, state_copy

DIM = SIZES["embed_dim"]
FAMILY = {"self_attn": "prefix", "encoder_attn": "prefix", "ffn": "parallel"}


def union_key(key: str) -> str:
    """The name that a parameter of mam has in the union of prefix and parallel."""
    before, mam, after = key.partition(f".{ADAPTER}.mam.")
    return f"{before}.{ADAPTER}.{FAMILY[after.split('.')[0]]}.{after}" if mam else key


def weights(module: nn.Module) -> int:
    return sum(weight.total for weight in sparse_weights(module).values())


def test_equals_the_union_of_prefix_and_parallel(build_bart, batch):
    options = {"prefix_length": 5, "adapter_bottleneck": 6, "parallel_scale": 2.0, "prefix_mlp": 7}
    mam = randomize(build_bart(adapter="mam", **options))
    union = build_bart(adapter="prefix+parallel", **options)
    before = union(**batch["net_input"])[0]
    union.load_state_dict({union_key(key): value for key, value in state_copy(mam).items()}, strict=True)
    expected = union(**batch["net_input"])[0]
    torch.testing.assert_close(mam(**batch["net_input"])[0], expected, rtol=0, atol=1e-6)
    assert (expected - before).abs().max() > 0.1


def test_the_parallel_half_starts_at_zero_and_the_prefixes_do_not(build_bart):
    for name, weight in sparse_weights(build_bart(adapter="mam")).items():
        assert bool(weight.values.any()) == (not name.endswith("ffn.up.weight"))


@pytest.mark.parametrize("budget, k", [(4, 1), (12, 1), (12, 3)])
def test_a_budget_is_split_equally_to_the_last_weight(build_bart, budget, k):
    """A unit costs 2 · dim weights; encoder layers have one attention and decoder layers two."""
    model = build_bart(adapter="mam", mam_budget=budget, adapter_bottleneck=50, prefix_length=60, large_sparse=k)
    for layer in transformer_layers(model):
        parts = {name: weights(part) for name, part in getattr(layer, ADAPTER)["mam"].named_children()}
        half = 2 * DIM * k * budget // 2
        assert parts.pop("ffn") == half
        assert parts == dict.fromkeys(parts, half // len(parts)) and sum(parts.values()) == half
    assert weights(model) == sum(p.numel() for n, p in model.named_parameters() if is_adapter_key(n) and p.dim() == 2)


def test_without_a_budget_the_sizes_are_as_they_are(build_bart):
    model = build_bart(adapter="mam", adapter_bottleneck=7, prefix_length=3)
    for layer in transformer_layers(model):
        for name, part in getattr(layer, ADAPTER)["mam"].named_children():
            assert weights(part) == 2 * DIM * (7 if name == "ffn" else 3)


@pytest.mark.parametrize("budget, attentions", [(7, 1), (6, 2), (5, 2), (2, 2)])
def test_a_budget_that_does_not_split_equally_is_refused(budget, attentions):
    with pytest.raises(UsageError, match=rf"a budget of {budget} .* use a multiple of {2 * attentions}$"):
        MamOptions(mam_budget=budget).split(attentions)


def test_a_refusal_ends_in_one_line(build_bart):
    with pytest.raises(SystemExit) as error:
        build_bart(adapter="mam", mam_budget=6)
    assert str(error.value).startswith("error: ") and "2 attentions: use a multiple of 4" in str(error.value)


@pytest.mark.parametrize(
    "option, message",
    [
        ({"mam_budget": -4}, "--mam-budget -4"),
        ({"mam_budget": 8, "prefix_mlp": 4}, "without --prefix-mlp"),
        ({"prefix_length": 0}, "--prefix-length 0"),
        ({"parallel_scale": 0.0}, "--parallel-scale 0"),
        ({"adapter_bottleneck": 0}, "--adapter-bottleneck 0"),
    ],
)
def test_values_out_of_range_are_refused(option, message):
    with pytest.raises(UsageError, match=message):
        read_options(MamOptions, Namespace(**option))
