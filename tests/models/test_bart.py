import copy
import unittest.mock
from argparse import Namespace

import pytest
import torch
from fairseq.data import Dictionary
from fairseq.dataclass.configs import EMAConfig
from fairseq.models import ARCH_CONFIG_REGISTRY, ARCH_MODEL_REGISTRY
from fairseq.models.bart import BARTModel
from fairseq.models.ema import EMA
from omegaconf import OmegaConf
from sparse_adapter.adapters.sites import transformer_layers
from sparse_adapter.modules import ADAPTER, SparseWeight, is_adapter_key, sparse_weights
from torch import nn

from ..conftest import make_batch, randomize, state_copy, translation_loss

SITES = {"encoder": ["self_attn", "ffn"], "decoder": ["self_attn", "encoder_attn", "ffn"]}
PARAMETERS = [
    *("layer_norm_in.weight", "layer_norm_in.bias"),
    *("down.weight.values", "down.bias", "up.weight.values", "up.bias"),
]
HOULSBY = {
    f"{stack}.layers.{layer}.sparse_adapter.houlsby.{site}.{parameter}"
    for stack, stack_sites in SITES.items()
    for layer in range(2)
    for site in stack_sites
    for parameter in PARAMETERS
}
INFERENCE = OmegaConf.create({"generation": {"beam": 4, "no_beamable_mm": False, "print_alignment": None}})


def trained(model: nn.Module) -> set[str]:
    return {name for name, parameter in model.named_parameters() if parameter.requires_grad}


def backbone(model: nn.Module) -> dict:
    return {key: value for key, value in model.state_dict().items() if not is_adapter_key(key)}


def run(model: nn.Module, batch: dict) -> torch.Tensor:
    return model(**batch["net_input"])[0]


def one_line(error: pytest.ExceptionInfo) -> str:
    text = str(error.value)
    assert text.startswith("error: ") and "\n" not in text
    return text


@pytest.mark.parametrize("size", ["mini", "base", "large"])
def test_architectures_are_registered(size):
    assert issubclass(ARCH_MODEL_REGISTRY[f"sparse_adapter_bart_{size}"], BARTModel)


@pytest.mark.parametrize("size, stock", [("base", "bart_base"), ("large", "bart_large")])
def test_backbone_keys_shapes_and_order_are_those_of_fairseq(build_bart, size, stock):
    ours, stock = backbone(build_bart(f"sparse_adapter_bart_{size}")), build_bart(stock).state_dict()
    assert list(ours) == list(stock)
    assert [value.shape for value in ours.values()] == [value.shape for value in stock.values()]


def test_the_backbone_is_initialised_as_fairseqs(model, build_bart):
    stock = build_bart("bart_base").state_dict()
    assert all(torch.equal(value, stock[key]) for key, value in backbone(model).items())


def test_zero_output_adapters_leave_the_output_to_the_backbone(build_bart, stock_model, batch):
    model = build_bart(adapter_init="zero-up")
    model.load_state_dict(stock_model.state_dict())
    torch.testing.assert_close(run(model, batch), run(stock_model, batch), rtol=0, atol=1e-6)
    source = batch["net_input"]["src_tokens"], batch["net_input"]["src_lengths"]
    ours, stock = (m.encoder(*source)["encoder_out"][0] for m in (model, stock_model))
    torch.testing.assert_close(ours, stock, rtol=0, atol=1e-6)
    randomize(model)
    assert (run(model, batch) - run(stock_model, batch)).abs().max() > 0.1


def test_the_adapters_train_and_nothing_else(model, pruned_model):
    assert trained(model) == HOULSBY
    assert trained(pruned_model) == HOULSBY


def test_classification_heads_train_too(model):
    model.register_classification_head("sentence", num_classes=3)
    heads = {f"classification_heads.sentence.{n}" for n in ("dense", "out_proj")}
    assert trained(model) == HOULSBY | {f"{n}.{p}" for n in heads for p in ("weight", "bias")}
    model.freeze_backbone()
    assert trained(model) == HOULSBY | {f"{n}.{p}" for n in heads for p in ("weight", "bias")}


def test_no_adapter_is_full_fine_tuning(build_bart):
    model, stock = build_bart(adapter="none"), build_bart("bart_base")
    assert list(model.state_dict()) == list(stock.state_dict())
    assert trained(model) == {name for name, _ in stock.named_parameters()}


def test_no_adapter_and_a_frozen_backbone_train_nothing(build_bart):
    assert trained(build_bart(adapter="none", freeze_backbone=True)) == set()


def test_sixty_sites_on_twelve_and_twelve_layers(build_bart):
    model = build_bart("sparse_adapter_bart_large", encoder_layers=12, decoder_layers=12)
    modules = [child for layer in transformer_layers(model) for child in getattr(layer, ADAPTER)["houlsby"].children()]
    assert len(modules) == 60
    assert len(sparse_weights(model)) == 120
    per_site = 2 * 32 + (8 * 32 + 8) + (32 * 8 + 32)
    assert sum(p.numel() for p in model.parameters() if p.requires_grad) == 60 * per_site


def test_bart_mini_sizes():
    args = Namespace(max_source_positions=1024, max_target_positions=1024)  # what the task writes into them
    ARCH_CONFIG_REGISTRY["sparse_adapter_bart_mini"](args)
    for stack in SITES:
        sizes = {"layers": 4, "embed_dim": 256, "ffn_embed_dim": 1024, "attention_heads": 4}
        assert vars(args).items() >= {f"{stack}_{name}": size for name, size in sizes.items()}.items()
    assert (args.max_source_positions, args.max_target_positions) == (512, 512)
    assert args.share_all_embeddings and args.layernorm_embedding


@pytest.mark.parametrize("compact", [False, True])
def test_a_stock_state_dict_loads_and_the_adapters_stay(model, pruned_model, stock_model, compact, batch):
    model = pruned_model if compact else model
    before = {key: value.clone() for key, value in model.state_dict().items() if is_adapter_key(key)}
    model.load_state_dict(stock_model.state_dict())
    stock = stock_model.state_dict()
    assert all(torch.equal(value, stock[key]) for key, value in backbone(model).items())
    assert all(torch.equal(model.state_dict()[key], value) for key, value in before.items())


def test_own_state_dict_round_trip(pruned_model, build_bart, batch):
    fresh = build_bart()
    fresh.load_state_dict(state_copy(pruned_model))
    assert torch.equal(run(fresh, batch), run(pruned_model, batch))
    assert trained(fresh) == HOULSBY


def test_a_state_dict_with_a_mask_row_more_loads(model, build_bart, dictionary):
    """As the published files, whose denoising task added <mask> at the end of the dictionary."""
    larger = Dictionary()
    for symbol in [*dictionary.symbols[larger.nspecial :], "<mask>"]:
        larger.add_symbol(symbol)
    state = build_bart("bart_base", dictionary=larger).state_dict()
    model.load_state_dict(copy.copy(state))
    assert torch.equal(model.encoder.embed_tokens.weight, state["encoder.embed_tokens.weight"][:-1])
    assert torch.equal(model.decoder.output_projection.weight, state["decoder.output_projection.weight"][:-1])


def test_a_state_dict_with_fused_copies_loads(model, stock_model):
    """fairseq 0.12.2 saved the weights of its fused encoder layer as well."""
    expected = state_copy(stock_model)
    state = state_copy(stock_model)
    for i in range(2):
        for name in ("in_proj", "out_proj", "fc1", "fc2"):
            state[f"encoder.layers.{i}.{name}_weight"] = torch.zeros(32, 32)
            state[f"encoder.layers.{i}.{name}_bias"] = torch.zeros(32)
    model.load_state_dict(state, strict=True)
    assert all(torch.equal(value, expected[key]) for key, value in backbone(model).items())


def test_a_state_dict_loads_where_the_options_lack_the_task(model, stock_model):
    """As hydra's model options do; fairseq's BART asks for it."""
    del model.args.task
    with pytest.raises(AttributeError):
        stock_model.__class__(model.args, model.encoder, model.decoder).load_state_dict(stock_model.state_dict())
    model = model.__class__(model.args, model.encoder, model.decoder)
    model.load_state_dict(stock_model.state_dict())
    assert torch.equal(model.encoder.embed_tokens.weight, stock_model.encoder.embed_tokens.weight)


@pytest.mark.parametrize("versions", [True, False])
def test_a_pre_norm_model_keeps_its_final_layer_norms(build_bart, batch, versions):
    order = {"encoder_normalize_before": True, "decoder_normalize_before": True}
    stock, model = build_bart("bart_base", **order), build_bart(adapter_init="zero-up", **order)
    for stack in (stock.encoder, stock.decoder):
        nn.init.normal_(stack.layer_norm.weight)
    state = {key: value for key, value in stock.state_dict().items() if versions or not key.endswith(".version")}
    model.load_state_dict(state)
    assert model.encoder.layer_norm is not None and model.decoder.layer_norm is not None
    torch.testing.assert_close(run(model, batch), run(stock, batch), rtol=0, atol=1e-6)


def test_the_moving_average_of_a_pre_norm_model(build_bart, batch):
    """fairseq's EMA restores from a dict without versions and masks."""
    model = randomize(build_bart(encoder_normalize_before=True, decoder_normalize_before=True))
    for weight in sparse_weights(model).values():
        weight.prune_(torch.rand(weight.shape) < 0.5)
    ema = EMA(model, EMAConfig(store_ema=True, ema_decay=0.75))
    before = run(model, batch)
    ema.step(model)
    torch.testing.assert_close(run(ema.get_model(), batch), before)


@pytest.mark.parametrize("materialized", [False, True])
def test_incremental_decoding_equals_the_full_forward(pruned_model, batch, materialized):
    expected = run(pruned_model, batch)
    if materialized:
        pruned_model.prepare_for_inference_(INFERENCE)
    inputs = batch["net_input"]
    encoder_out = pruned_model.encoder(inputs["src_tokens"], inputs["src_lengths"])
    state, steps = {}, []
    for length in range(1, expected.size(1) + 1):
        tokens = inputs["prev_output_tokens"][:, :length]
        steps.append(pruned_model.decoder(tokens, encoder_out=encoder_out, incremental_state=state)[0])
    real = batch["target"] != 1
    torch.testing.assert_close(torch.cat(steps, dim=1)[real], expected[real], rtol=0, atol=1e-5)


def test_inference_makes_the_weights_dense_once(pruned_model, batch):
    expected = run(pruned_model, batch)
    pruned_model.prepare_for_inference_(INFERENCE)
    with unittest.mock.patch.object(SparseWeight, "forward", side_effect=AssertionError("made dense again")):
        torch.testing.assert_close(run(pruned_model, batch), expected, rtol=0, atol=1e-6)


@pytest.mark.parametrize("stack, site", [(stack, site) for stack in SITES for site in SITES[stack]])
def test_a_deep_copy_uses_its_own_adapters(pruned_model, batch, stack, site):
    before = run(pruned_model, batch)
    other = copy.deepcopy(pruned_model)
    assert torch.equal(run(other, batch), before)
    for name, weight in sparse_weights(other).items():
        if name.startswith(stack) and f".{site}." in name:
            weight.values.data += 0.3
    assert torch.equal(run(pruned_model, batch), before)
    assert (run(other, batch) - before).abs().max() > 0.01


def test_training_pruned_adapters_equals_masked_dense_training(model, dictionary):
    """The whole model, clipped Adam with decay: compact weights against dense ones whose gradients are masked."""
    reference = copy.deepcopy(model)
    masks = {name: torch.rand(weight.shape) < 0.5 for name, weight in sparse_weights(model).items()}
    dense = sparse_weights(reference)
    for name, weight in sparse_weights(model).items():
        weight.prune_(masks[name])
        dense[name].values.data *= masks[name]
    optimizers = [
        torch.optim.Adam([p for p in m.parameters() if p.requires_grad], lr=1e-3, weight_decay=0.1)
        for m in (model, reference)
    ]
    for step in range(4):
        batch = make_batch(dictionary, step)
        for m, optimizer in zip((model, reference), optimizers, strict=True):
            optimizer.zero_grad()
            translation_loss(m, batch).backward()
            if m is reference:
                for name, mask in masks.items():
                    dense[name].values.grad *= mask
            nn.utils.clip_grad_norm_(m.parameters(), 0.1)
            optimizer.step()
    for name, weight in sparse_weights(model).items():
        torch.testing.assert_close(weight(), dense[name]() * masks[name], rtol=0, atol=1e-6)


@pytest.mark.parametrize(
    "layers, required",
    [
        ("all", [True, True, True, True]),
        ("encoder", [True, True, False, True]),  # what the decoder is given first is its embeddings
        ("encoder.1", [False, True, False, True]),
        ("encoder.1,decoder.1", [False, True, False, True]),
        ("decoder", [False, False, True, True]),
        ("decoder.1", [False, False, False, True]),
    ],
)
def test_activation_checkpointing_gives_all_adapters_the_same_gradients(build_bart, batch, layers, required):
    """The embeddings are frozen, so that nothing would tell a checkpointed layer to keep gradients."""
    gradients = []
    for checkpointed in (False, True):
        options = {"checkpoint_activations": checkpointed, "adapter_layers": layers, "dropout": 0.0}
        model = randomize(build_bart(**options)).train()
        seen = []
        for layer in transformer_layers(model):
            layer.register_forward_pre_hook(lambda layer, args, seen=seen: seen.append(args[0].requires_grad))
        translation_loss(model, batch).backward()
        gradients.append({name: p.grad for name, p in model.named_parameters() if p.requires_grad})
    assert seen == required  # no gradient goes further back than to the first layer with an adapter
    assert layers != "all" or set(gradients[0]) == HOULSBY
    for name, gradient in gradients[0].items():
        assert gradient.abs().sum() > 0
        torch.testing.assert_close(gradients[1][name], gradient)


def test_activation_checkpointing_with_layers_dropped(build_bart, batch):
    """Any layer may be the first that is not."""
    model = randomize(build_bart(checkpoint_activations=True, encoder_layerdrop=0.5, dropout=0.0)).train()
    layers, alone = list(model.encoder.layers._modules.values()), 0
    for seed in range(12):
        model.zero_grad(set_to_none=True)
        torch.manual_seed(seed)
        translation_loss(model, batch).backward()
        trained = [getattr(layer, ADAPTER)["houlsby"].ffn.up.bias.grad is not None for layer in layers]
        torch.manual_seed(seed)
        kept = (torch.empty(len(layers)).uniform_() > 0.5).tolist()
        assert trained == kept
        alone += kept == [False, True]
    assert alone


def test_a_step_that_drops_every_layer_with_an_adapter_has_no_gradient(build_bart, batch):
    model = build_bart(adapter_layers="decoder.1", decoder_layerdrop=0.5, dropout=0.0).train()
    trained = []
    for seed in range(8):
        model.zero_grad(set_to_none=True)
        torch.manual_seed(seed)
        translation_loss(model, batch).backward()
        trained.append(any(parameter.grad is not None for parameter in model.parameters()))
    assert set(trained) == {True, False}


@pytest.mark.parametrize("noise", [{"quant_noise_pq": 0.1}, {"quant_noise_scalar": 0.5}])
def test_quantisation_noise_is_refused(build_bart, noise):
    with pytest.raises(SystemExit) as error:
        build_bart(**noise)
    assert "quantisation noise" in one_line(error)
    build_bart(adapter="none", **noise)


def test_heads_that_cannot_be_loaded_back_are_refused(build_bart):
    with pytest.raises(SystemExit) as error:
        build_bart(spectral_norm_classification_head=True)
    assert "--spectral-norm-classification-head" in one_line(error)


@pytest.mark.parametrize(
    "arguments, message",
    [
        ({"adapter": "hulsby"}, "unknown adapter 'hulsby'; choose one of adapter_fusion, houlsby, "),
        ({"adapter": "houlsby+none"}, "unknown adapter 'none'"),
        ({"adapter": ""}, "unknown adapter ''"),
        ({"adapter": "houlsby+houlsby"}, "names a family twice"),
        ({"adapter_bottleneck": 0}, "--adapter-bottleneck 0"),
        ({"adapter_init": "xavier"}, "--adapter-init xavier"),
    ],
)
def test_mistakes_end_in_one_line(build_bart, arguments, message):
    with pytest.raises(SystemExit) as error:
        build_bart(**arguments)
    assert message in one_line(error)
