"""AdapterFusion: attention over trained adapters, which stay as they are (Pfeiffer et al. 2021, §3.2)."""

import dataclasses
import json
from argparse import Namespace
from collections.abc import Callable
from functools import partial
from pathlib import Path

import torch
from torch import Tensor, nn

from ..checkpoint.fingerprint import fingerprint
from ..checkpoint.loading import read_state
from ..errors import UsageError
from ..modules import ADAPTER, SparseLinear, is_adapter_key, split_adapter_key
from .bottleneck import BottleneckOptions
from .houlsby import Houlsby
from .options import enlarged, option, read_options, record
from .pfeiffer import Pfeiffer
from .registry import Adapter, register_adapter
from .sites import AtResidual

FUSABLE = {family.name: family for family in (Pfeiffer, Houlsby)}


@dataclasses.dataclass(frozen=True)
class FusionOptions:
    fusion_adapters: str = option(
        "", "files with one trained adapter each, with commas between, for adapter_fusion", fixed=False
    )
    fusion_sources: str = option("", "family and options of those adapters, as JSON", flag=False)


@dataclasses.dataclass(frozen=True)
class Source:
    """One trained adapter: what has to be known to build it again, and to know it again.

    Args:
        fingerprint: of its backbone.
        weights: the fingerprint of its own tensors; older checkpoints do not say it.
    """

    family: str
    options: BottleneckOptions
    fingerprint: str
    weights: str = ""

    @classmethod
    def of(cls, path: str, state: dict) -> "Source":
        """Of a checkpoint.

        Raises:
            UsageError: its model has another family, several, or none.
        """
        args = state["cfg"].model
        family = getattr(args, "adapter", "none")
        if family not in FUSABLE:
            raise UsageError(f"{path} holds the adapter {family!r}: fusion takes files of {' or '.join(FUSABLE)}")
        options = enlarged(read_options(BottleneckOptions, args), getattr(args, "large_sparse", 1))
        own = [(key, value) for key, value in state["model"].items() if is_adapter_key(key)]
        return cls(family, options, getattr(args, "backbone_fingerprint", ""), fingerprint(own))

    @classmethod
    def all_of(cls, args: Namespace) -> list["Source"]:
        """Those that a model's arguments have recorded."""
        recorded = json.loads(getattr(args, "fusion_sources", "") or "[]")
        return [cls(**{**source, "options": BottleneckOptions(**source["options"])}) for source in recorded]

    def may_be(self, other: "Source") -> bool:
        """Whether nothing speaks against the two being the same."""
        known = self.weights in ("", other.weights) or not other.weights
        return known and (self.family, self.options) == (other.family, other.options)


class TrainedAdapters(nn.ModuleList):
    """Adapters from files: never trained again, never pruned again."""


class Fusion(AtResidual, nn.Module):
    """``(I + V) Σ_n softmax_n(Q z · K a_n) a_n`` of the adapters' changes ``a_n`` at one site.

    ``z`` is the adapters' input. The paper's value matrix is ``I + V`` with ``V`` starting at zero: what is
    pruned is how it departs from the identity, where the paper initialises it and regularises it towards. A
    fusion of one adapter therefore starts as that adapter.
    """

    def __init__(self, dim: int, sources: list[Source]):
        super().__init__()
        site = FUSABLE[sources[0].family].Site
        normal = partial(nn.init.normal_, std=0.02)
        self.adapters = TrainedAdapters(site(dim, source.options) for source in sources)
        self.query = SparseLinear(dim, dim, normal)
        self.key = SparseLinear(dim, dim, normal)
        self.value = SparseLinear(dim, dim, nn.init.zeros_, bias=False)

    def bind(self, layer: nn.Module, site: str) -> None:
        for adapter in self.adapters:
            adapter.bind(layer, site)

    def change(self, x: Tensor, residual: Tensor) -> Tensor:
        changes = torch.stack([adapter.change(x, residual) for adapter in self.adapters])
        query = self.query(self.adapters[0].site_input(x, residual))
        weights = (query * self.key(changes)).sum(dim=-1, keepdim=True).softmax(dim=0)
        mixed = (weights * changes).sum(dim=0)
        return mixed + self.value(mixed)


@register_adapter("adapter_fusion")
class AdapterFusion(Adapter):
    """At the sites of the adapters that are fused."""

    Options = FusionOptions

    def __init__(self, layer: nn.Module, options: FusionOptions):
        super().__init__()
        sources = Source.all_of(options)
        for site in FUSABLE[sources[0].family].sites(layer):
            self.add_module(site, Fusion(layer.embed_dim, sources))

    @classmethod
    def prepare(cls, args: Namespace) -> Callable[[nn.Module], None] | None:
        """Read the files, unless the arguments are those of a checkpoint, which has the adapters itself.

        Raises:
            UsageError: no files are named, or they do not go together.
        """
        options = read_options(FusionOptions, args)
        if options.fusion_sources:
            return None
        paths = [path.strip() for path in options.fusion_adapters.split(",") if path.strip()]
        if not paths:
            raise UsageError("--adapter adapter_fusion needs --fusion-adapters: the files of trained adapters")
        if len(set(paths)) < len(paths):
            raise UsageError(f"--fusion-adapters {options.fusion_adapters} names a file twice")
        states = {path: _read(path) for path in paths}
        sources = [Source.of(path, state) for path, state in states.items()]
        for path, source in zip(states, sources, strict=True):
            if source.family != sources[0].family:
                raise UsageError(f"{path} holds {source.family} and {paths[0]} {sources[0].family}: fuse one family")
            if source.fingerprint != sources[0].fingerprint and source.fingerprint and sources[0].fingerprint:
                raise UsageError(f"{path} and {paths[0]} were trained on different backbones: fuse adapters of one")
        record(args, fusion_sources=json.dumps([dataclasses.asdict(source) for source in sources]))
        return lambda model: _load(model, [state["model"] for state in states.values()], paths)


def check_backbone(args: Namespace, backbone: str) -> None:
    """Compare the backbone, by its fingerprint, with the one that the fused adapters were trained on.

    Raises:
        UsageError: it is another one.
    """
    for source in Source.all_of(args):
        if source.fingerprint not in ("", backbone):
            raise UsageError(
                f"the adapters to fuse were trained on the backbone {source.fingerprint[:16]}, and this one is "
                f"{backbone[:16]}: name theirs with --finetune-from-model"
            )


def same_sources(first: Namespace, other: Namespace) -> bool:
    """Whether the models of these arguments fuse the same adapters, or none, as far as is known."""
    sources = Source.all_of(first), Source.all_of(other)
    return len(sources[0]) == len(sources[1]) and all(a.may_be(b) for a, b in zip(*sources, strict=True))


def _read(path: str) -> dict:
    if not Path(path).is_file():
        raise UsageError(f"--fusion-adapters {path}: there is no such file")
    state = read_state(path)
    if state.get("cfg") is None:
        raise UsageError(f"--fusion-adapters {path}: the file says nothing about its model")
    return state


def _load(model: nn.Module, states: list[dict], paths: list[str]) -> None:
    """Give every fusion of ``model`` the weights of its adapters.

    Raises:
        UsageError: a file's adapters are of another size, or of a model with other layers.
    """
    for i, (state, path) in enumerate(zip(states, paths, strict=True)):
        left = {key for key in state if is_adapter_key(key)}
        family = split_adapter_key(min(left))[1]
        for name, module in model.named_modules():
            if isinstance(module, Fusion):
                prefix = name.replace(f".{ADAPTER}.{AdapterFusion.name}.", f".{ADAPTER}.{family}.") + "."
                own = {key.removeprefix(prefix): state[key] for key in left if key.startswith(prefix)}
                if not own:
                    raise UsageError(
                        f"--fusion-adapters {path} has no adapter at {name}: give the --adapter-layers that it was "
                        "trained with"
                    )
                try:
                    module.adapters[i].load_state_dict(own)
                except RuntimeError as error:
                    raise UsageError(f"--fusion-adapters {path} does not fit {name}: {str(error)[:300]}") from error
                left -= {prefix + key for key in own}
        if left:
            raise UsageError(
                f"--fusion-adapters {path} has {min(left)}, where this model fuses nothing: give the layers and the "
                "--adapter-layers that it was trained with"
            )
