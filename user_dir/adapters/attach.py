"""Put the adapter families that the arguments ask for into every layer of a model."""

from argparse import Namespace

from torch import nn

from ..errors import UsageError
from ..modules import ADAPTER
from .options import AdapterOptions, enlarged, read_options
from .registry import ADAPTERS
from .sites import AtResidual, chosen_layers


def attach_adapters(model: nn.Module, args: Namespace) -> None:
    """Add ``<layer>.sparse_adapter.<family>`` to the transformer layers. Backbone keys do not change.

    Raises:
        UsageError: an unknown family or layer, a family named twice, or an option out of range.
    """
    common = read_options(AdapterOptions, args)
    families = common.families
    for name in families:
        if name not in ADAPTERS:
            known = ", ".join([*sorted(ADAPTERS), "none"])
            raise UsageError(f"unknown adapter {name!r}; choose one of {known}, or several joined by '+'")
    if len(set(families)) < len(families):
        raise UsageError(f"--adapter {'+'.join(families)} names a family twice")
    if not families:
        if common.adapter_layers != "all":
            raise UsageError(f"--adapter-layers {common.adapter_layers}: with --adapter none there are no adapters")
        return
    prepared = [ADAPTERS[name].prepare(args) for name in families]
    options = {name: enlarged(read_options(ADAPTERS[name].Options, args), common.large_sparse) for name in families}
    for layer in chosen_layers(model, common.adapter_layers):
        adapters = nn.ModuleDict({name: ADAPTERS[name](layer, options[name]) for name in families})
        layer.add_module(ADAPTER, adapters)
        # At a residual connection, what is attached last acts first.
        for name in sorted(reversed(families), key=lambda name: ADAPTERS[name].is_part_of_sublayer):
            adapters[name].attach(layer)
    model.register_forward_pre_hook(forget_interrupted_pass)
    for finish in prepared:
        if finish is not None:
            finish(model)


def forget_interrupted_pass(model: nn.Module, args: tuple = ()) -> None:
    """Fairseq's trainer goes on after a pass that ran out of memory, whose leftovers must be neither used nor kept.
    Generation calls the encoder and the decoder and not the model, whose hook this is: it has to be called there.
    """
    for module in model.modules():
        if isinstance(module, AtResidual):
            module.forget()
