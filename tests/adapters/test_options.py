from argparse import ArgumentParser, Namespace

import pytest
from sparse_adapter.adapters import ADAPTERS, AdapterOptions, add_adapter_args, register_adapter, set_adapter_defaults
from sparse_adapter.adapters.bottleneck import BottleneckOptions
from sparse_adapter.adapters.options import read_options
from sparse_adapter.errors import UsageError

DEFAULTS = {
    "adapter": "houlsby",
    "freeze_backbone": False,
    "large_sparse": 1,
    "adapter_bottleneck": 64,
    "adapter_activation": "relu",
    "adapter_layer_norm": "auto",
    "adapter_init": "auto",
    "adapter_init_std": 0.02,
    "adapter_dropout": 0.0,
}


def parse(*flags: str) -> Namespace:
    parser = ArgumentParser()
    add_adapter_args(parser)
    return parser.parse_args(flags)


def test_defaults_on_the_command_line():
    assert vars(parse()).items() >= DEFAULTS.items()


def test_defaults_for_checkpoints_and_hydra_that_lack_the_options():
    args = Namespace(adapter_bottleneck=16)
    set_adapter_defaults(args)
    assert vars(args).items() >= (DEFAULTS | {"adapter_bottleneck": 16}).items()
    assert read_options(BottleneckOptions, Namespace()) == BottleneckOptions()
    assert read_options(AdapterOptions, Namespace()) == AdapterOptions("houlsby", False)


def test_flags():
    args = parse(
        *("--adapter", "none", "--freeze-backbone", "--adapter-bottleneck", "8", "--adapter-activation", "gelu"),
        *("--adapter-layer-norm", "out", "--adapter-init", "zero-up", "--adapter-init-std", "0.1"),
        *("--adapter-dropout", "0.2"),
    )
    assert read_options(AdapterOptions, args) == AdapterOptions(adapter="none", freeze_backbone=True)
    assert read_options(BottleneckOptions, args) == BottleneckOptions(8, "gelu", "out", "zero-up", 0.1, 0.2)


def test_every_flag_says_its_default():
    parser = ArgumentParser()
    add_adapter_args(parser)
    text = " ".join(parser.format_help().split())
    for name, default in DEFAULTS.items():
        assert f"--{name.replace('_', '-')}" in text
        assert f"(default: {default})" in text


@pytest.mark.parametrize("adapter, families", [("none", []), ("houlsby", ["houlsby"]), ("a+b", ["a", "b"])])
def test_families(adapter, families):
    assert AdapterOptions(adapter=adapter).families == families


@pytest.mark.parametrize(
    "option, message",
    [
        ({"adapter_activation": "softmax"}, "--adapter-activation softmax: choose one of relu, gelu, tanh, swish"),
        ({"adapter_layer_norm": "both"}, "--adapter-layer-norm both: choose one of auto, in, out, none"),
        ({"adapter_init": "ones"}, "--adapter-init ones: choose one of auto, normal, zero-up"),
        ({"adapter_bottleneck": 0}, "--adapter-bottleneck 0: .* at least 1"),
        ({"adapter_dropout": 1.0}, "--adapter-dropout 1.0: .* below 1"),
        ({"adapter_dropout": -0.1}, "--adapter-dropout -0.1: .* at least 0"),
        ({"adapter_init_std": 0.0}, "--adapter-init-std 0.0: .* above 0"),
        ({"adapter_init_std": float("nan")}, "--adapter-init-std nan: .* above 0"),
    ],
)
def test_values_out_of_range_are_refused(option, message):
    with pytest.raises(UsageError, match=message):
        read_options(BottleneckOptions, Namespace(**option))


def test_a_family_cannot_be_registered_twice():
    with pytest.raises(ValueError, match="'houlsby' is registered twice"):
        register_adapter("houlsby")(ADAPTERS["houlsby"])
