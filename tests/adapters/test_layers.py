"""Adapters in some layers only."""

import pytest
import torch
from sparse_adapter.checkpoint.rebuild import build_model, own_arguments
from sparse_adapter.modules import is_adapter_key, sparse_weights, split_adapter_key

from ..conftest import randomize

ALL = ["encoder.layers.0", "encoder.layers.1", "decoder.layers.0", "decoder.layers.1"]


def layers_with_adapters(model) -> list[str]:
    return list(dict.fromkeys(split_adapter_key(key)[0] for key in model.state_dict() if is_adapter_key(key)))


@pytest.mark.parametrize(
    "wanted, layers",
    [
        ("all", ALL),
        ("encoder", ALL[:2]),
        ("decoder.1", ALL[3:]),
        ("decoder.0-1", ALL[2:]),
        ("decoder.1, encoder.0", [ALL[0], ALL[3]]),
        ("decoder,decoder.1", ALL[2:]),
    ],
)
@pytest.mark.parametrize("family", ["houlsby", "lora", "prefix+parallel"])
def test_only_these_layers_have_them(build_bart, wanted, layers, family):
    model = build_bart(adapter=family, adapter_layers=wanted, lora_rank=2, prefix_length=2)
    assert layers_with_adapters(model) == layers
    assert {split_adapter_key(name)[0] for name in sparse_weights(model)} == set(layers)


def test_the_others_compute_what_the_backbone_does(build_bart, stock_model, batch):
    model = build_bart(adapter_layers="decoder")
    model.load_state_dict(stock_model.state_dict() | {k: v for k, v in model.state_dict().items() if is_adapter_key(k)})
    randomize(model)
    ours, stock = (m.encoder(batch["net_input"]["src_tokens"])["encoder_out"][0] for m in (model, stock_model))
    assert torch.equal(ours, stock)
    assert (model(**batch["net_input"])[0] - stock_model(**batch["net_input"])[0]).abs().max() > 1e-3


@pytest.mark.parametrize(
    "wanted, message",
    [
        ("decoder.2", "the decoder has the layers 0 to 1"),
        ("encoder.1-0", "the encoder has the layers 0 to 1"),
        ("encoders", "'encoders' is no group of layers; use all, encoder, decoder, or some layers such as encoder.0-1"),
        ("", "'' is no group"),
        ("encoder.x", "'encoder.x' is no group"),
    ],
)
def test_layers_that_are_not_there_are_refused(build_bart, wanted, message):
    with pytest.raises(SystemExit, match=f"--adapter-layers {wanted}: .*{message}"):
        build_bart(adapter_layers=wanted)


def test_layers_of_no_adapters_are_refused(build_bart):
    with pytest.raises(SystemExit, match="with --adapter none there are no adapters"):
        build_bart(adapter="none", adapter_layers="encoder")


def test_a_checkpoint_says_which(build_bart):
    model = build_bart(adapter_layers="decoder.1")
    args = own_arguments(model.adapter_args)
    assert args["adapter_layers"] == "decoder.1"
    again = build_model(type(model.adapter_args)(**args), 60, 60)
    assert again.state_dict().keys() == model.state_dict().keys()
