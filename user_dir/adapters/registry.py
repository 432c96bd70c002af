"""What an adapter family is, and the table of all families by name."""

from argparse import Namespace
from collections.abc import Callable

from torch import nn


class Adapter(nn.Module):
    """One family's modules in one transformer layer.

    The constructor takes ``(layer, options)``: a fairseq encoder or decoder layer and an instance of
    ``Options``. Children are named after the site they serve, so that a parameter is called
    ``<layer>.sparse_adapter.<family>.<site>...``, and each has a method ``attach(layer, site)`` that hooks
    it into the layer: with bound methods, so that a deep copy is hooked to itself.
    """

    name: str
    Options: type  # a dataclass of command-line options, see options.py
    is_part_of_sublayer = False  # whether other families at a site read the sublayer's output with this one's in it

    @classmethod
    def prepare(cls, args: Namespace) -> Callable[[nn.Module], None] | None:
        """Complete the arguments before any layer is built, and return what the model needs afterwards, if anything."""

    def attach(self, layer: nn.Module) -> None:
        for site, module in self.named_children():
            module.attach(layer, site)


ADAPTERS: dict[str, type[Adapter]] = {}


def register_adapter(name: str) -> Callable[[type[Adapter]], type[Adapter]]:
    """Class decorator that makes a family available as ``--adapter name``."""

    def register(cls: type[Adapter]) -> type[Adapter]:
        if name in ADAPTERS:
            raise ValueError(f"adapter {name!r} is registered twice")
        cls.name = name
        ADAPTERS[name] = cls
        return cls

    return register
