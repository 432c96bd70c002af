"""Parity with public implementations: with copied weights, AdapterHub and peft give the same hidden states.

Needs the extra ``peers``. Their BART is Hugging Face's, with weights from ours; its modules have the same names.
"""

import dataclasses
from collections.abc import Callable, Iterator

import pytest
import torch
from fairseq.utils import convert_padding_direction
from sparse_adapter.adapters.bottleneck import Bottleneck
from sparse_adapter.adapters.lora import LINEAR_MAPS, LowRank
from sparse_adapter.adapters.prefix import Prefix
from sparse_adapter.modules import SparseLinear, is_adapter_key, sparse_weights, split_adapter_key
from torch import Tensor, nn

from ..conftest import SIZES, make_batch, randomize

DIM, WIDTH, LENGTH, HIDDEN, RANK, ALPHA = SIZES["embed_dim"], 8, 5, 12, 4, 6
PAD = 1
NAME = "peer"  # of the adapter in AdapterHub's model
BOTTLENECKS = {"self_attn": "attention_adapters", "encoder_attn": "cross_attention_adapters", "ffn": "output_adapters"}


@dataclasses.dataclass(frozen=True)
class Parity:
    """One of our families and its counterpart in AdapterHub."""

    arguments: dict  # of our model
    config: Callable  # of the module ``adapters``; AdapterHub's configuration
    copies: tuple[Callable[[nn.Module, nn.Module], None], ...]  # of our weights to AdapterHub's


def located(ours: nn.Module, peer: nn.Module, kind: type) -> Iterator[tuple[nn.Module, nn.Module, str, str]]:
    """``(module, peer's layer, site, rest of the name)`` of all modules of a class in our adapters."""
    for name, module in ours.named_modules():
        if isinstance(module, kind):
            layer, _, site, rest = split_adapter_key(name)
            yield module, peer.get_submodule(layer), site, rest


def fill(linear: nn.Linear, ours: SparseLinear) -> None:
    linear.load_state_dict({"weight": ours.weight()} | ({} if ours.bias is None else {"bias": ours.bias}))


def copy_bottlenecks(ours: nn.Module, peer: nn.Module) -> None:
    for bottleneck, layer, site, _ in located(ours, peer, Bottleneck):
        theirs = getattr(layer, BOTTLENECKS[site]).adapters[NAME]
        fill(theirs.adapter_down[-2], bottleneck.down)  # the last module is the non-linearity
        fill(theirs.adapter_up, bottleneck.up)
        if bottleneck.layer_norm_in is not None:
            theirs.adapter_norm_before.load_state_dict(bottleneck.layer_norm_in.state_dict())
        if bottleneck.layer_norm_out is not None:
            theirs.adapter_norm_after.load_state_dict(bottleneck.layer_norm_out.state_dict())


def lora_map(layer: nn.Module, site: str, name: str) -> nn.Module:
    """The peer's linear map; those of the feed-forward network are the layer's own."""
    return getattr(layer if site == "ffn" else getattr(layer, site), LINEAR_MAPS[name])


def copy_lora(ours: nn.Module, peer: nn.Module) -> None:
    for low_rank, layer, site, projection in located(ours, peer, LowRank):
        theirs = lora_map(layer, site, projection).loras[NAME]
        theirs.load_state_dict({"lora_A": low_rank.down.weight(), "lora_B": low_rank.up.weight()})


def copy_lora_to_peft(ours: nn.Module, peer: nn.Module) -> None:
    for low_rank, layer, site, projection in located(ours, peer, LowRank):
        theirs = lora_map(layer, site, projection)
        fill(theirs.lora_A["default"], low_rank.down)
        fill(theirs.lora_B["default"], low_rank.up)


def shared_prefix(peer: nn.Module, layer: nn.Module, site: str) -> tuple[nn.Module, int]:
    """AdapterHub's prefix of one attention: a module for the same attention of all layers, and the place in it."""
    shim = getattr(layer, site).prefix_tuning
    return peer.prefix_tuning.prefix_tunings[NAME][shim.location_key], shim.prefixes[NAME]


@torch.no_grad()
def copy_prefix_tables(ours: nn.Module, peer: nn.Module) -> None:
    for prefix, layer, site, _ in located(ours, peer, Prefix):
        theirs, i = shared_prefix(peer, layer, site)
        tables = torch.stack([prefix.source.key(), prefix.source.value()], dim=1)
        theirs.control_trans.view(LENGTH, -1, 2, DIM)[:, i] = tables


@torch.no_grad()
def copy_prefix_mlps(ours: nn.Module, peer: nn.Module) -> None:
    """AdapterHub's layers share the embedding and the hidden layer, so ours all get those of the first layer."""
    first = {}
    for prefix, layer, site, _ in located(ours, peer, Prefix):
        theirs, i = shared_prefix(peer, layer, site)
        mlp, shared = prefix.source, first.setdefault(theirs, prefix.source)
        mlp.embedding.load_state_dict(shared.embedding.state_dict())
        mlp.down.load_state_dict(shared.down.state_dict())
        theirs.wte.load_state_dict({"weight": mlp.embedding()})
        fill(theirs.control_trans[0], mlp.down)
        theirs.control_trans[2].weight.view(-1, 2 * DIM, HIDDEN)[i] = mlp.up.weight()
        theirs.control_trans[2].bias.view(-1, 2 * DIM)[i] = mlp.up.bias


def bottleneck(name: str, **options) -> Callable:
    return lambda hub: getattr(hub, name)(reduction_factor=DIM / WIDTH, **options)


def lora(sites: str, **options) -> Callable:
    return lambda hub: hub.LoRAConfig(r=RANK, alpha=ALPHA, attn_matrices=sites.split(","), **options)


def prefix(**options) -> Callable:
    return lambda hub: hub.PrefixTuningConfig(prefix_length=LENGTH, **options)


def union(name: str, *configs: Callable) -> Callable:
    return lambda hub: getattr(hub, name)(*(config(hub) for config in configs))


def houlsby(layer_norm: str, **options: bool) -> Parity:
    """AdapterHub's own Houlsby leaves out cross-attention and has no LayerNorm, but both are options there."""
    arguments = {"adapter": "houlsby", "adapter_activation": "swish", "adapter_layer_norm": layer_norm}
    return Parity(arguments, bottleneck("DoubleSeqBnConfig", cross_adapter=True, **options), (copy_bottlenecks,))


PARITIES = {
    "houlsby": houlsby("none"),
    "houlsby, LayerNorm in": houlsby("in", ln_before=True),
    "houlsby, LayerNorm out": houlsby("out", ln_after=True),
    "pfeiffer": Parity({"adapter": "pfeiffer"}, bottleneck("SeqBnConfig"), (copy_bottlenecks,)),
    "parallel": Parity({"adapter": "parallel"}, bottleneck("ParBnConfig", scaling=4.0), (copy_bottlenecks,)),
    "lora": Parity({"adapter": "lora", "lora_sites": "q,k,v"}, lora("q,k,v"), (copy_lora,)),
    "lora, feed-forward": Parity(
        {"adapter": "lora", "lora_sites": "v,fc1,fc2"},
        lora("v", intermediate_lora=True, output_lora=True),
        (copy_lora,),
    ),
    "prefix": Parity({"adapter": "prefix"}, prefix(flat=True), (copy_prefix_tables,)),
    "prefix, MLP": Parity(
        {"adapter": "prefix", "prefix_mlp": HIDDEN}, prefix(bottleneck_size=HIDDEN), (copy_prefix_mlps,)
    ),
    "mam": Parity(
        {"adapter": "mam"},
        union("MAMConfig", prefix(flat=True), bottleneck("ParBnConfig")),
        (copy_prefix_tables, copy_bottlenecks),
    ),
    "pfeiffer and lora": Parity(
        {"adapter": "pfeiffer+lora"},
        union("ConfigUnion", bottleneck("SeqBnConfig"), lora("q,v")),
        (copy_bottlenecks, copy_lora),
    ),
}


def library(name: str):
    return pytest.fixture(
        lambda: pytest.importorskip(name, reason="the extra 'peers' is not installed"), scope="module", name=name
    )


adapters, peft, transformers = library("adapters"), library("peft"), library("transformers")


@pytest.fixture
def build_ours(build_bart):
    """``build(pruned, **arguments)``: every parameter is random, those of LayerNorms and biases too."""

    def build(pruned: bool = False, **arguments) -> nn.Module:
        sizes = {"adapter_bottleneck": WIDTH, "prefix_length": LENGTH, "lora_rank": RANK, "lora_alpha": ALPHA}
        model = randomize(build_bart(**sizes | arguments))
        for name, parameter in model.named_parameters():
            if not is_adapter_key(name):
                parameter.data += 0.1 * torch.randn(parameter.shape)
        for weight in sparse_weights(model).values() if pruned else ():
            weight.prune_(torch.rand(weight.shape) < 0.5)
        return model

    return build


@pytest.fixture
def build_peer(transformers, dictionary):
    """``build(ours)``: Hugging Face's BART with our backbone."""

    def build(ours: nn.Module) -> nn.Module:
        names = {"layers": "layers", "ffn_embed_dim": "ffn_dim", "attention_heads": "attention_heads"}
        sizes = {f"{stack}_{names[k]}": SIZES[k] for stack in ("encoder", "decoder") for k in names}
        config = transformers.BartConfig(
            vocab_size=len(dictionary), d_model=DIM, max_position_embeddings=64, attn_implementation="eager", **sizes
        )
        peer = transformers.BartModel(config)
        state = {key: value for key, value in ours.state_dict().items() if key in peer.state_dict()}
        peer.load_state_dict(state | {"shared.weight": state["encoder.embed_tokens.weight"]})
        return peer.eval()

    return build


@pytest.fixture
def inputs(dictionary) -> dict:
    """A batch with padding, all of it on the right: Hugging Face counts positions from the left end."""
    inputs = make_batch(dictionary, seed=0)["net_input"]
    source = convert_padding_direction(inputs["src_tokens"], dictionary.pad(), left_to_right=True)
    return inputs | {"src_tokens": source}


@torch.no_grad()
def our_states(model: nn.Module, inputs: dict) -> dict[str, Tensor]:
    """Hidden states of both stacks, ``(positions, dim)``, without padding."""
    source, target = inputs["src_tokens"], inputs["prev_output_tokens"]
    encoded = model.encoder(source, inputs["src_lengths"])["encoder_out"][0].transpose(0, 1)
    decoded, _ = model(**inputs, features_only=True)
    return {"encoder": encoded[source != PAD], "decoder": decoded[target != PAD]}


@torch.no_grad()
def peer_states(model: nn.Module, inputs: dict) -> dict[str, Tensor]:
    source, target = inputs["src_tokens"], inputs["prev_output_tokens"]
    output = model(source, (source != PAD).long(), target, (target != PAD).long(), use_cache=False)
    encoded, decoded = output.encoder_last_hidden_state, output.last_hidden_state
    return {"encoder": encoded[source != PAD], "decoder": decoded[target != PAD]}


def assert_same(states: dict[str, Tensor], expected: dict[str, Tensor]) -> None:
    torch.testing.assert_close(states, expected, rtol=0, atol=1e-5)


def assert_changed(states: dict[str, Tensor], plain: dict[str, Tensor]) -> None:
    for stack in states:
        assert (states[stack] - plain[stack]).abs().mean() > 0.05  # of states with a standard deviation of 1


def test_backbone_is_that_of_hugging_face(build_ours, build_peer, inputs):
    ours = build_ours(adapter="none")
    assert_same(our_states(ours, inputs), peer_states(build_peer(ours), inputs))


@pytest.mark.parametrize("pruned", [False, True], ids=["dense", "pruned"])
@pytest.mark.parametrize("family", PARITIES)
def test_family_is_that_of_adapterhub(family, pruned, build_ours, build_peer, adapters, inputs):
    parity = PARITIES[family]
    ours = build_ours(pruned, **parity.arguments)
    peer = build_peer(ours)
    plain = peer_states(peer, inputs)
    adapters.init(peer)
    peer.add_adapter(NAME, config=parity.config(adapters), set_active=True)
    for copy in parity.copies:
        copy(ours, peer)
    states = our_states(ours, inputs)
    assert_same(states, peer_states(peer.eval(), inputs))
    assert_changed(states, plain)


@pytest.mark.parametrize("pruned", [False, True], ids=["dense", "pruned"])
@pytest.mark.parametrize("sites", ["q,v", "q,k,v,out", "q,fc1,fc2"])
def test_lora_is_that_of_peft(sites, pruned, build_ours, build_peer, peft, inputs):
    ours = build_ours(pruned, adapter="lora", lora_sites=sites)
    peer = build_peer(ours)
    plain = peer_states(peer, inputs)
    modules = [LINEAR_MAPS[site] for site in sites.split(",")]
    peft.inject_adapter_in_model(peft.LoraConfig(r=RANK, lora_alpha=ALPHA, target_modules=modules), peer)
    copy_lora_to_peft(ours, peer)
    states = our_states(ours, inputs)
    assert_same(states, peer_states(peer.eval(), inputs))
    assert_changed(states, plain)
