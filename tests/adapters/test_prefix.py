from argparse import Namespace
from collections.abc import Callable

import pytest
import torch
from sparse_adapter.adapters.options import read_options
from sparse_adapter.adapters.prefix import Prefix, PrefixOptions
from sparse_adapter.errors import UsageError
from sparse_adapter.modules import ADAPTER, materialize_
from torch import Tensor, nn

from ..conftest import INFERENCE, SIZES, explicit_attention, randomize, state_copy, strengthen

DIM, PREFIX, HIDDEN = SIZES["embed_dim"], 5, 12
SITES = {"encoder": ["self_attn"], "decoder": ["self_attn", "encoder_attn"]}
TABLES = {"key.values": (PREFIX, DIM), "value.values": (PREFIX, DIM)}
MLP = {
    **{"embedding.values": (PREFIX, DIM), "down.weight.values": (HIDDEN, DIM), "down.bias": (HIDDEN,)},
    **{"up.weight.values": (2 * DIM, HIDDEN), "up.bias": (2 * DIM,)},
}
LENGTH, MEMORY, BATCH = 7, 6, 3
FORMS = pytest.mark.parametrize("mlp", [0, HIDDEN], ids=["tables", "MLP"])


@pytest.fixture
def stock(build_bart) -> nn.Module:
    """A backbone without prefixes."""
    return strengthen(build_bart("bart_base"))


@pytest.fixture
def build(build_bart, stock) -> Callable[..., nn.Module]:
    """Puts prefixes that matter before every attention of that backbone."""

    def build(mlp: int = 0) -> nn.Module:
        model = build_bart(adapter="prefix", prefix_length=PREFIX, prefix_mlp=mlp)
        model.load_state_dict(state_copy(stock))
        return randomize(model, std=1.0)

    return build


def prefix_of(layer: nn.Module, site: str) -> Prefix:
    return getattr(layer, ADAPTER)["prefix"].get_submodule(site)


def explicit_prefix(layer: nn.Module, site: str) -> tuple[Tensor, Tensor]:
    """The two tables, or up(tanh(down(E))): keys, and beside them values."""
    p = dict(prefix_of(layer, site).source.named_parameters())
    if "embedding.values" not in p:
        return p["key.values"], p["value.values"]
    hidden = torch.tanh(p["embedding.values"] @ p["down.weight.values"].T + p["down.bias"])
    both = hidden @ p["up.weight.values"].T + p["up.bias"]
    return both[:, :DIM], both[:, DIM:]


def left_padding(length: int) -> Tensor:
    """``(batch, length)``: the second sequence is one shorter, the third two."""
    return torch.arange(length) < torch.arange(BATCH).unsqueeze(1)


def right_padding(length: int) -> Tensor:
    return left_padding(length).flip(1)


def future(length: int) -> Tensor:
    return torch.ones(length, length).triu(1).bool()


# What an attention of the model puts out; by explicit concatenation; without the prefix.
Outputs = tuple[Tensor, Tensor, Tensor]


def encoder_self_attention(model: nn.Module, stock: nn.Module) -> Outputs:
    layer, attention = model.encoder.layers[1], stock.encoder.layers[1].self_attn
    x, masked = torch.randn(LENGTH, BATCH, DIM), left_padding(LENGTH)
    ours = layer.self_attn(query=x, key=x, value=x, key_padding_mask=masked, need_weights=False)[0]
    return ours, *explicit(attention, x, x, masked[:, None, None], explicit_prefix(layer, "self_attn"))


def decoder_self_attention(model: nn.Module, stock: nn.Module) -> Outputs:
    """All positions at once, as in training, with targets of different lengths."""
    layer, attention = model.decoder.layers[1], stock.decoder.layers[1].self_attn
    x, masked = torch.randn(LENGTH, BATCH, DIM), right_padding(LENGTH)
    causal = torch.zeros(LENGTH, LENGTH).masked_fill(future(LENGTH), -torch.inf)
    ours = layer.self_attn(query=x, key=x, value=x, key_padding_mask=masked, attn_mask=causal, need_weights=False)[0]
    either = masked[:, None, None] | future(LENGTH)
    return ours, *explicit(attention, x, x, either, explicit_prefix(layer, "self_attn"))


def incremental_self_attention(model: nn.Module, stock: nn.Module) -> Outputs:
    layer, attention = model.decoder.layers[1], stock.decoder.layers[1].self_attn
    x, state = torch.randn(LENGTH, BATCH, DIM), {}
    steps = [layer.self_attn(query=y, key=y, value=y, incremental_state=state)[0] for y in x.split(1)]
    return torch.cat(steps), *explicit(attention, x, x, future(LENGTH), explicit_prefix(layer, "self_attn"))


def cross_attention(model: nn.Module, stock: nn.Module) -> Outputs:
    layer, attention = model.decoder.layers[1], stock.decoder.layers[1].encoder_attn
    x, memory, masked = torch.randn(LENGTH, BATCH, DIM), torch.randn(MEMORY, BATCH, DIM), left_padding(MEMORY)
    ours = layer.encoder_attn(query=x, key=memory, value=memory, key_padding_mask=masked, static_kv=True)[0]
    return ours, *explicit(attention, x, memory, masked[:, None, None], explicit_prefix(layer, "encoder_attn"))


def incremental_cross_attention(model: nn.Module, stock: nn.Module) -> Outputs:
    layer, attention = model.decoder.layers[1], stock.decoder.layers[1].encoder_attn
    x, memory, masked = torch.randn(LENGTH, BATCH, DIM), torch.randn(MEMORY, BATCH, DIM), left_padding(MEMORY)
    state = {}
    source = {"key": memory, "value": memory, "key_padding_mask": masked, "incremental_state": state}
    steps = [layer.encoder_attn(query=y, **source, static_kv=True)[0] for y in x.split(1)]
    plain = explicit(attention, x, memory, masked[:, None, None], explicit_prefix(layer, "encoder_attn"))
    return torch.cat(steps), *plain


def explicit(attention: nn.Module, x: Tensor, memory: Tensor, masked: Tensor, prefix: tuple) -> list[Tensor]:
    return [explicit_attention(attention, x, memory, masked, prefix=p)[0] for p in (prefix, None)]


def cross_attention_of_beams(model: nn.Module, stock: nn.Module) -> Outputs:
    """In a beam search of three hypotheses, which attend to one source."""
    layer, attention = model.decoder.layers[1], stock.decoder.layers[1].encoder_attn
    x, memory, masked = torch.randn(LENGTH, 6, DIM), torch.randn(MEMORY, 2, DIM), left_padding(MEMORY)[1:]
    memory, masked = memory.repeat_interleave(3, dim=1), masked.repeat_interleave(3, dim=0)
    layer.encoder_attn.set_beam_size(3)
    state = {}
    source = {"key": memory, "value": memory, "key_padding_mask": masked, "incremental_state": state}
    steps = [layer.encoder_attn(query=y, **source, static_kv=True)[0] for y in x.split(1)]
    assert {x.size(0) for x in layer.encoder_attn._get_input_buffer(state).values()} == {2}
    plain = explicit(attention, x, memory, masked[:, None, None], explicit_prefix(layer, "encoder_attn"))
    return torch.cat(steps), *plain


ATTENTIONS = pytest.mark.parametrize(
    "attend",
    [
        encoder_self_attention,
        decoder_self_attention,
        incremental_self_attention,
        cross_attention,
        incremental_cross_attention,
        cross_attention_of_beams,
    ],
)


@FORMS
@ATTENTIONS
def test_goes_before_keys_and_values(build, stock, attend, mlp):
    ours, expected, without = attend(build(mlp), stock)
    torch.testing.assert_close(ours, expected, rtol=0, atol=1e-5)
    assert (expected - without).abs().max() > 0.1


@ATTENTIONS
def test_in_training_and_without_padding(build, stock, attend, monkeypatch):
    monkeypatch.setattr(f"{__name__}.left_padding", lambda length: torch.zeros(BATCH, length, dtype=torch.bool))
    ours, expected, _ = attend(build().train(), stock)
    torch.testing.assert_close(ours, expected, rtol=0, atol=1e-5)


@ATTENTIONS
def test_gradients_are_those_of_concatenation(build, stock, attend):
    model = build()
    ours, expected, _ = attend(model, stock)
    factor = torch.randn(ours.shape)
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    gradients = [torch.autograd.grad((y * factor).sum(), trained, allow_unused=True) for y in (ours, expected)]
    assert sum(gradient is not None for gradient in gradients[0]) == 2
    for gradient, reference in zip(*gradients, strict=True):
        torch.testing.assert_close(gradient, reference, rtol=0, atol=1e-4)


@FORMS
def test_attention_weights_are_for_the_positions_of_the_source(build, stock, batch, mlp):
    model = build(mlp)
    layer, attention = model.decoder.layers[1], stock.decoder.layers[1].encoder_attn
    x, memory, masked = torch.randn(LENGTH, BATCH, DIM), torch.randn(MEMORY, BATCH, DIM), left_padding(MEMORY)
    prefix = explicit_prefix(layer, "encoder_attn")
    expected = explicit_attention(attention, x, memory, masked[:, None, None], prefix=prefix)[1][..., PREFIX:]
    arguments = {"key": memory, "value": memory, "key_padding_mask": masked, "static_kv": True}
    weights = layer.encoder_attn(query=x, **arguments)[1]
    torch.testing.assert_close(weights, expected.mean(1), rtol=0, atol=1e-6)
    of_heads = layer.encoder_attn(query=x, **arguments, need_head_weights=True)[1]
    torch.testing.assert_close(of_heads, expected.transpose(0, 1), rtol=0, atol=1e-6)
    assert layer.encoder_attn(query=x, **arguments, need_weights=False)[1] is None

    source, target = batch["net_input"]["src_tokens"], batch["net_input"]["prev_output_tokens"]
    assert model(**batch["net_input"])[1]["attn"][0].shape == (*target.shape, source.size(1))


@pytest.mark.parametrize("mlp, parameters", [(0, TABLES), (HIDDEN, MLP)], ids=["tables", "MLP"])
def test_names_and_shapes_of_all_parameters(build, mlp, parameters):
    assert {name: tuple(p.shape) for name, p in build(mlp).named_parameters() if p.requires_grad} == {
        f"{stack}.layers.{i}.{ADAPTER}.prefix.{site}.source.{parameter}": shape
        for stack, sites in SITES.items()
        for i in range(2)
        for site in sites
        for parameter, shape in parameters.items()
    }


@FORMS
def test_normal_initialisation(mlp):
    prefix = Prefix(400, PrefixOptions(prefix_length=100, prefix_mlp=mlp and 100, prefix_init_std=0.05))
    for name, parameter in prefix.named_parameters():
        expected = 0 if name.endswith("bias") else 0.05
        assert parameter.std().item() == pytest.approx(expected, rel=0.03)


@FORMS
def test_computed_once_for_inference_is_the_same(build, batch, mlp):
    model = build(mlp)
    expected, before = model(**batch["net_input"])[0], state_copy(model)
    model.prepare_for_inference_(INFERENCE)
    for layer in (*model.encoder.layers, *model.decoder.layers):
        for prefix in getattr(layer, ADAPTER)["prefix"].children():
            prefix.source.forward = None  # nothing is left to compute
    torch.testing.assert_close(model(**batch["net_input"])[0], expected, rtol=0, atol=1e-5)
    state = model.state_dict()
    assert list(state) == list(before) and all(torch.equal(state[key], before[key]) for key in before)


@FORMS
@pytest.mark.parametrize(
    "undo", [lambda m: m.train().eval(), lambda m: m.load_state_dict(state_copy(m))], ids=["training", "loading"]
)
def test_training_and_loading_undo_it(build, stock, undo, mlp):
    model = build(mlp)
    materialize_(model)
    undo(model)
    for name, parameter in model.named_parameters():
        if parameter.requires_grad and name.endswith(("value.values", "up.bias")):
            parameter.data += 1
    for attend in (encoder_self_attention, cross_attention):
        ours, expected, _ = attend(model, stock)
        torch.testing.assert_close(ours, expected, rtol=0, atol=1e-5)


def test_changing_the_weights_does_not_reach_what_was_computed_for_inference(build):
    prefix = prefix_of(build().encoder.layers[0], "self_attn")
    before = [table.clone() for table in prefix()]
    prefix.materialize_()
    prefix.source.key.values.data += 1
    prefix.source.value.values.data += 1
    assert all(torch.equal(table, old) for table, old in zip(prefix(), before, strict=True))


@pytest.mark.parametrize(
    "option, message",
    [
        ({"prefix_length": 0}, "--prefix-length 0: there must be at least 1 position"),
        ({"prefix_mlp": -1}, "--prefix-mlp -1: a hidden size, or 0 for no MLP"),
        ({"prefix_init_std": 0.0}, "--prefix-init-std 0.0: .* above 0"),
    ],
)
def test_values_out_of_range_are_refused(option, message):
    with pytest.raises(UsageError, match=message):
        read_options(PrefixOptions, Namespace(**option))


@pytest.mark.parametrize("families", ["prefix+mam", "mam+prefix"])
def test_two_prefixes_of_one_attention_are_refused(build_bart, families):
    with pytest.raises(SystemExit, match="two families put a prefix before the same attention"):
        build_bart(adapter=families)


def test_a_mask_of_booleans(build, stock):
    layer, x = build().decoder.layers[1], torch.randn(LENGTH, BATCH, DIM)
    causal = torch.zeros(LENGTH, LENGTH).masked_fill(future(LENGTH), -torch.inf)
    ours, expected = (
        layer.self_attn(query=x, key=x, value=x, attn_mask=mask, need_weights=False)[0]
        for mask in (future(LENGTH), causal)
    )
    assert torch.equal(ours, expected)


def test_attention_over_source_and_target_at_once_is_refused(build_bart):
    joint = {"cross_self_attention": True, "no_cross_attention": True}
    with pytest.raises(SystemExit, match="prefixes do not fit --cross-self-attention"):
        build_bart(adapter="prefix", prefix_length=3, **joint)
