from argparse import Namespace
from collections.abc import Callable
from types import SimpleNamespace

import pytest
import torch
from fairseq.modules import MultiheadAttention
from sparse_adapter.adapters.lora import PROJECTIONS, LoraOptions, LowRank, SiteLora
from sparse_adapter.adapters.options import read_options
from sparse_adapter.errors import UsageError
from sparse_adapter.modules import ADAPTER, materialize_
from torch import Tensor, nn

from ..conftest import INFERENCE, SIZES, explicit_attention, randomize, state_copy, strengthen

DIM, RANK, ALPHA = SIZES["embed_dim"], 4, 6.0
SITES = {"encoder": ["self_attn"], "decoder": ["self_attn", "encoder_attn"]}
LENGTH, MEMORY, BATCH = 7, 5, 3


@pytest.fixture
def stock(build_bart) -> nn.Module:
    """A backbone without LoRA."""
    return strengthen(build_bart("bart_base"))


@pytest.fixture
def build(build_bart, stock) -> Callable[..., nn.Module]:
    """Puts LoRA in all four projections of every attention of that backbone, or as the arguments say."""

    def build(**arguments) -> nn.Module:
        options = {"adapter": "lora", "lora_rank": RANK, "lora_alpha": ALPHA, "lora_sites": "q,k,v,out"}
        model = build_bart(**options | arguments)
        model.load_state_dict(state_copy(stock))
        return model

    return build


@pytest.fixture
def model(build) -> nn.Module:
    return randomize(build(), std=0.2)


def low_ranks(model: nn.Module) -> list[LowRank]:
    return [module for module in model.modules() if isinstance(module, LowRank)]


def padding(length: int) -> Tensor:
    """``(batch, length)``: the second sequence is one shorter, the third two."""
    return torch.arange(length) >= length - torch.arange(BATCH).unsqueeze(1)


def change(layer: nn.Module, site: str) -> dict[str, Tensor]:
    """(α/r) B A of every projection."""
    lora = getattr(layer, ADAPTER)["lora"].get_submodule(site)
    return {name: ALPHA / RANK * part.up.weight.values @ part.down.weight.values for name, part in lora.items()}


# What an attention of the model puts out; by W + (α/r) B A in all its projections; by W alone.
Outputs = tuple[Tensor, Tensor, Tensor]


def encoder_self_attention(model: nn.Module, stock: nn.Module) -> Outputs:
    layer, attention = model.encoder.layers[1], stock.encoder.layers[1].self_attn
    x, masked = torch.randn(LENGTH, BATCH, DIM), padding(LENGTH)
    ours = layer.self_attn(query=x, key=x, value=x, key_padding_mask=masked)[0]
    return ours, *explicit(attention, x, x, masked[:, None, None], change(layer, "self_attn"))


def cross_attention(model: nn.Module, stock: nn.Module) -> Outputs:
    layer, attention = model.decoder.layers[1], stock.decoder.layers[1].encoder_attn
    x, memory, masked = torch.randn(LENGTH, BATCH, DIM), torch.randn(MEMORY, BATCH, DIM), padding(MEMORY)
    ours = layer.encoder_attn(query=x, key=memory, value=memory, key_padding_mask=masked, static_kv=True)[0]
    return ours, *explicit(attention, x, memory, masked[:, None, None], change(layer, "encoder_attn"))


def incremental_decoding(model: nn.Module, stock: nn.Module) -> Outputs:
    layer, attention = model.decoder.layers[1], stock.decoder.layers[1].self_attn
    x, future, state = torch.randn(LENGTH, BATCH, DIM), torch.ones(LENGTH, LENGTH).triu(1).bool(), {}
    steps = [layer.self_attn(query=y, key=y, value=y, incremental_state=state)[0] for y in x.split(1)]
    return torch.cat(steps), *explicit(attention, x, x, future, change(layer, "self_attn"))


def explicit(attention: nn.Module, x: Tensor, memory: Tensor, masked: Tensor, parts: dict) -> list[Tensor]:
    return [explicit_attention(attention, x, memory, masked, change=c)[0] for c in (parts, {})]


CODE_PATHS = pytest.mark.parametrize("attend", [encoder_self_attention, cross_attention, incremental_decoding])


@CODE_PATHS
def test_adds_the_product_to_all_four_projections(model, stock, attend):
    ours, expected, without = attend(model, stock)
    torch.testing.assert_close(ours, expected, rtol=0, atol=1e-5)
    assert (expected - without).abs().max() > 0.1


@CODE_PATHS
@pytest.mark.parametrize("site", PROJECTIONS)
def test_one_projection_alone(build, stock, attend, site):
    ours, expected, without = attend(randomize(build(lora_sites=site), std=0.2), stock)
    torch.testing.assert_close(ours, expected, rtol=0, atol=1e-5)
    assert (expected - without).abs().max() > 0.1


@CODE_PATHS
def test_gradients_of_both_factors_are_those_of_the_product(model, stock, attend):
    ours, expected, _ = attend(model, stock)
    factor = torch.randn(ours.shape)
    trained = {name: parameter for name, parameter in model.named_parameters() if parameter.requires_grad}
    gradients = [
        torch.autograd.grad((y * factor).sum(), list(trained.values()), allow_unused=True) for y in (ours, expected)
    ]
    assert sum(gradient is not None for gradient in gradients[0]) == 8
    for gradient, reference in zip(*gradients, strict=True):
        torch.testing.assert_close(gradient, reference, rtol=0, atol=1e-3)


def test_in_training_too(model, stock):
    for attend in (encoder_self_attention, cross_attention):
        ours, expected, _ = attend(model.train(), stock)
        torch.testing.assert_close(ours, expected, rtol=0, atol=1e-5)


def test_training_starts_at_the_pretrained_function_exactly(build, stock, batch):
    model = build()
    assert torch.equal(model(**batch["net_input"])[0], stock(**batch["net_input"])[0])
    assert all(part.down.weight.values.any() and not part.up.weight.values.any() for part in low_ranks(model))


@pytest.mark.parametrize("arguments, sites", [({"lora_sites": "out, k"}, ["out", "k"]), ({}, ["q", "k", "v", "out"])])
def test_names_and_shapes_of_all_parameters(build, arguments, sites):
    model = build(**arguments)
    assert {name: tuple(p.shape) for name, p in model.named_parameters() if p.requires_grad} == {
        f"{stack}.layers.{i}.{ADAPTER}.lora.{attention}.{site}.{factor}.weight.values": shape
        for stack, attentions in SITES.items()
        for i in range(2)
        for attention in attentions
        for site in sites
        for factor, shape in (("down", (RANK, DIM)), ("up", (DIM, RANK)))
    }


def test_queries_and_values_by_default(build_bart):
    model = build_bart(adapter="lora")
    assert list(getattr(model.encoder.layers[0], ADAPTER)["lora"].self_attn) == ["q", "v"]
    assert {part.scale for part in low_ranks(model)} == {16 / 8}


def test_encoder_and_decoder_may_differ_in_dimension():
    """Keys and values of a cross-attention then come from another dimension than queries."""
    attention = MultiheadAttention(DIM, 4, kdim=48, vdim=48, encoder_decoder_attention=True)
    query, memory = torch.randn(LENGTH, BATCH, DIM), torch.randn(MEMORY, BATCH, 48)
    lora = SiteLora(attention, ["k", "v"], LoraOptions(RANK, ALPHA))
    for parameter in lora.parameters():
        nn.init.normal_(parameter, std=0.3)
    parts = {name: ALPHA / RANK * part.up.weight.values @ part.down.weight.values for name, part in lora.items()}
    expected = explicit_attention(attention, query, memory, change=parts)[0]
    lora.attach(SimpleNamespace(encoder_attn=attention), "encoder_attn")
    ours = attention(query, memory, memory, static_kv=True)[0]
    torch.testing.assert_close(ours, expected, rtol=0, atol=1e-5)


@CODE_PATHS
def test_dropout_does_nothing_in_evaluation(build, stock, attend):
    ours, expected, _ = attend(randomize(build(lora_dropout=0.5), std=0.2), stock)
    torch.testing.assert_close(ours, expected, rtol=0, atol=1e-5)


@CODE_PATHS
def test_dropout_in_training_is_on_the_input_of_a(build, stock, attend, monkeypatch):
    """With a factor for every input dimension in its place, it is A whose columns are multiplied."""
    model = randomize(build(lora_dropout=0.5, dropout=0.0, attention_dropout=0.0), std=0.2).train()
    factor = 2 * (torch.rand(DIM) < 0.5)
    with monkeypatch.context() as patched:
        patched.setattr(nn.Dropout, "forward", lambda self, x: x * factor)
        torch.manual_seed(3)
        ours, undropped, _ = attend(model, stock)
    assert (ours - undropped).abs().max() > 0.1
    for part in low_ranks(model):
        part.down.weight.values.data *= factor
    torch.manual_seed(3)
    _, expected, _ = attend(model, stock)
    torch.testing.assert_close(ours, expected, rtol=0, atol=1e-5)


@CODE_PATHS
def test_dropout_in_training_is_random(build, stock, attend):
    model = randomize(build(lora_dropout=0.5, dropout=0.0, attention_dropout=0.0), std=0.2).train()
    ours, expected, _ = attend(model, stock)
    assert (ours - expected).abs().max() > 0.1


def test_merged_for_inference_is_the_same(model, batch):
    expected = model(**batch["net_input"])[0]
    before = state_copy(model)
    model.prepare_for_inference_(INFERENCE)
    torch.testing.assert_close(model(**batch["net_input"])[0], expected, rtol=0, atol=1e-5)
    state = model.state_dict()
    assert list(state) == list(before) and all(torch.equal(state[key], before[key]) for key in before)


@CODE_PATHS
def test_merged_weights_serve_every_path(model, stock, attend):
    materialize_(model)
    for part in low_ranks(model):
        assert part.merged is not None
        part.forward = None  # nothing is left to compute
    ours, expected, _ = attend(model, stock)
    torch.testing.assert_close(ours, expected, rtol=0, atol=1e-5)


@CODE_PATHS
@pytest.mark.parametrize(
    "undo", [lambda m: m.train().eval(), lambda m: m.load_state_dict(state_copy(m))], ids=["training", "loading"]
)
def test_training_and_loading_undo_the_merge(model, stock, attend, undo):
    materialize_(model)
    undo(model)
    for part in low_ranks(model):
        part.up.weight.values.data *= -2
    ours, expected, _ = attend(model, stock)
    torch.testing.assert_close(ours, expected, rtol=0, atol=1e-4)


@pytest.mark.parametrize(
    "option, message",
    [
        ({"lora_rank": 0}, "--lora-rank 0: the rank must be at least 1"),
        ({"lora_alpha": 0.0}, "--lora-alpha 0 switches LoRA off"),
        ({"lora_dropout": 1.0}, "--lora-dropout 1.0: .* below 1"),
        ({"lora_dropout": -0.1}, "--lora-dropout -0.1: .* at least 0"),
        ({"lora_sites": "q,fc3"}, "--lora-sites q,fc3: name some of q,k,v,out,fc1,fc2"),
        ({"lora_sites": "q,q"}, "--lora-sites q,q: .* each once"),
        ({"lora_sites": ""}, "--lora-sites : name some of"),
    ],
)
def test_values_out_of_range_are_refused(option, message):
    with pytest.raises(UsageError, match=message):
        read_options(LoraOptions, Namespace(**option))


def test_a_rank_above_the_dimension_is_refused():
    LowRank(nn.Linear(48, DIM), LoraOptions(lora_rank=DIM))
    with pytest.raises(UsageError, match="LoRA rank of 33 .* larger than the projection's dimension 32"):
        LowRank(nn.Linear(48, DIM), LoraOptions(lora_rank=DIM + 1))


def test_feed_forward_maps_are_w_plus_ba(build, stock):
    """As they are trained, and merged for inference."""
    model = randomize(build(lora_sites="fc1,fc2"), std=0.2)
    for layer, plain in zip(model.decoder.layers, stock.decoder.layers, strict=True):
        lora = getattr(layer, ADAPTER)["lora"]
        assert list(dict(lora.named_children())) == ["ffn"]
        for name, part in lora.ffn.items():
            inner, outer = getattr(plain, name), getattr(layer, name)
            x = torch.randn(BATCH, inner.in_features)
            delta = ALPHA / RANK * part.up.weight.values @ part.down.weight.values
            expected = nn.functional.linear(x, inner.weight + delta, inner.bias)
            torch.testing.assert_close(outer(x), expected, rtol=0, atol=1e-5)
            materialize_(part)
            torch.testing.assert_close(outer(x), expected, rtol=0, atol=1e-5)
            torch.testing.assert_close(part.merged, inner.weight + delta)


def test_a_small_change_survives_half_precision():
    """Added to the weight it would not: 1 + 1e-3 is 1 in bfloat16."""
    linear = nn.Linear(8, 8, bias=False).bfloat16()
    nn.init.ones_(linear.weight)
    x = torch.tensor([1.0, -1, 1, -1, 1, -1, 1, -1]).bfloat16()
    assert not linear(x).any()
    low_rank = LowRank(linear, LoraOptions(lora_rank=1, lora_alpha=1.0)).bfloat16()
    low_rank.down.weight.values.data[:] = torch.eye(8)[:1]
    nn.init.constant_(low_rank.up.weight.values, 1e-3)
    low_rank.attach_to(linear)
    torch.testing.assert_close(linear(x), torch.full((8,), 1e-3).bfloat16())


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("autocast", [False, True])
@pytest.mark.parametrize("need_weights", [False, True])
def test_adds_outputs_and_not_weights(build, dtype, autocast, need_weights):
    """In half precision, W + (α/r) B A would round most of a small B A away, for all inputs alike."""
    model = build() if autocast else build().to(dtype)
    layer, x, calls = model.encoder.layers[0], torch.randn(LENGTH, BATCH, DIM), []
    mask = torch.zeros(LENGTH, LENGTH).masked_fill(torch.ones(LENGTH, LENGTH).triu(1).bool(), -torch.inf)
    x, mask = (y if autocast else y.to(dtype) for y in (x, mask))
    layer.self_attn.v_proj.register_forward_hook(lambda *_: calls.append(1))
    with torch.autocast("cpu", dtype, enabled=autocast and dtype != torch.float32):
        output, _ = layer.self_attn(query=x, key=x, value=x, attn_mask=mask, need_weights=need_weights)
    assert calls == [1] and output.dtype == dtype and output.isfinite().all()


def test_training_stores_no_attention_weights(model, stock):
    """Those of fairseq's own attention take batch * heads * target * source numbers, several times."""
    layer, attention = model.train().decoder.layers[1], stock.decoder.layers[1].encoder_attn
    x, memory, masked = torch.randn(LENGTH, BATCH, DIM), torch.randn(MEMORY, BATCH, DIM), padding(MEMORY)
    expected, _ = explicit(attention, x, memory, masked[:, None, None], change(layer, "encoder_attn"))
    for need_weights in (False, True):
        arguments = {"key_padding_mask": masked, "static_kv": True, "need_weights": need_weights}
        sizes = []
        with torch.autograd.graph.saved_tensors_hooks(lambda y, sizes=sizes: sizes.append(y.numel()) or y, lambda y: y):
            ours = layer.encoder_attn(query=x, key=memory, value=memory, **arguments)[0]
        torch.testing.assert_close(ours, expected, rtol=0, atol=1e-5)
        assert (BATCH * attention.num_heads * LENGTH * MEMORY in sizes) is need_weights
