"""Where adapters live in a model: ``<layer>.sparse_adapter.<family>.<site>.<...>``."""

from collections.abc import Iterable

from torch import nn

ADAPTER = "sparse_adapter"


def is_adapter_key(key: str) -> bool:
    """Whether a parameter, module or state dict key belongs to an adapter."""
    return ADAPTER in key.split(".")


def is_backbone_key(model: nn.Module, key: str) -> bool:
    """Whether a key belongs to what is frozen: neither to an adapter nor to a head that trains beside them."""
    return not is_adapter_key(key) and key.split(".")[0] not in getattr(model, "trained_with_adapters", ())


def holds_backbone(model: nn.Module, state_dict: Iterable[str]) -> bool:
    """Whether a checkpoint's tensors, by their keys, are those of a whole one."""
    return any(is_backbone_key(model, key) for key in state_dict)


def has_adapters(state_dict: Iterable[str]) -> bool:
    """Whether a checkpoint's tensors, by their keys, include adapters."""
    return any(is_adapter_key(key) for key in state_dict)


def split_adapter_key(key: str) -> tuple[str, str, str, str]:
    """``(layer, family, site, rest)`` of an adapter's key.

    >>> split_adapter_key("encoder.layers.0.sparse_adapter.houlsby.ffn.down.weight")
    ('encoder.layers.0', 'houlsby', 'ffn', 'down.weight')
    """
    layer, _, inside = key.partition(f".{ADAPTER}.")
    family, site, *rest = inside.split(".")
    return layer, family, site, ".".join(rest)
