"""For every architecture of a stock model, one of the same size with adapters: ``sparse_adapter_<name>``."""

from argparse import Namespace
from collections.abc import Callable

from fairseq.models import (
    ARCH_CONFIG_REGISTRY,
    ARCH_MODEL_INV_REGISTRY,
    ARCH_MODEL_REGISTRY,
    register_model_architecture,
)

from ..adapters import set_adapter_defaults

PREFIX = "sparse_adapter_"


def register_sizes(model: str) -> None:
    """Register the sizes of the stock model ``model`` for the model ``sparse_adapter_<model>``."""
    for name in ARCH_MODEL_INV_REGISTRY[model]:
        if PREFIX + name not in ARCH_MODEL_REGISTRY:
            register_model_architecture(PREFIX + model, PREFIX + name)(_with_adapters(ARCH_CONFIG_REGISTRY[name]))


def _with_adapters(stock: Callable[[Namespace], object]) -> Callable[[Namespace], None]:
    def architecture(args: Namespace) -> None:
        set_adapter_defaults(args)
        stock(args)

    return architecture
