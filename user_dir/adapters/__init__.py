"""Adapter families and where they attach. A family is one file with one class."""

from . import adapter_fusion, houlsby, lora, mam, parallel, pfeiffer, prefix  # noqa: F401  (registration)
from .adapter_fusion import TrainedAdapters
from .attach import attach_adapters
from .options import AdapterOptions, add_adapter_args, set_adapter_defaults
from .registry import ADAPTERS, Adapter, register_adapter

__all__ = [
    "ADAPTERS", "Adapter", "AdapterOptions", "TrainedAdapters", "add_adapter_args", "attach_adapters",
    "register_adapter", "set_adapter_defaults",
]  # fmt: skip
