"""Command-line options of adapters, declared once as dataclasses.

A field ``adapter_bottleneck: int = option(64, "...")`` is the flag ``--adapter-bottleneck``, its default
for hydra and for checkpoints that lack it, and its documentation.
"""

import dataclasses
from argparse import ArgumentParser, Namespace
from contextlib import nullcontext
from typing import Any, TypeVar

from omegaconf import DictConfig, open_dict

from ..errors import UsageError, flag_of
from .registry import ADAPTERS

T = TypeVar("T")


def option(
    default: Any,
    help: str,
    choices: tuple | None = None,
    grows: bool = False,
    flag: bool = True,
    fixed: bool = True,
) -> Any:
    """A dataclass field that is also a command-line flag.

    Args:
        default: the value where nobody gives one.
        help: the documentation.
        choices: the values that are allowed.
        grows: --large-sparse multiplies it.
        flag: False where training finds the value and checkpoints record it.
        fixed: trained adapters are others with another value; False for what concerns their training alone.
    """
    metadata = {"help": help, "choices": choices, "grows": grows, "flag": flag, "fixed": fixed}
    return dataclasses.field(default=default, metadata=metadata)


@dataclasses.dataclass(frozen=True)
class AdapterOptions:
    """Options of every model that takes adapters."""

    adapter: str = option("houlsby", "adapter family, families joined by '+', or none for full fine-tuning")
    freeze_backbone: bool = option(False, "with --adapter none: train no weight of the backbone", fixed=False)
    large_sparse: int = option(
        1, "k: a k times larger bottleneck, rank or prefix at sparsity 1 - 1/k, which costs what k = 1 costs"
    )
    adapter_layers: str = option(
        "all", "layers with adapters: all, encoder, decoder, or some of these, as in encoder.6-11,decoder.0"
    )
    adapter_only_checkpoints: bool = option(
        False, "checkpoints hold only what is trained, and the path and fingerprint of the backbone", fixed=False
    )
    backbone: str = option(
        "", "the backbone's file, if it is no longer where the checkpoint of the adapters says", fixed=False
    )
    backbone_fingerprint: str = option("", "SHA-256 of the backbone's weights", flag=False)
    backbone_vocabulary: str = option("", "sizes of the source and target dictionaries in training", flag=False)
    backbone_rounded: str = option("", "yes where half precision, now or before, rounded it", flag=False)

    def __post_init__(self):
        if self.large_sparse < 1:
            raise UsageError(f"--large-sparse {self.large_sparse}: a whole factor of at least 1")

    @property
    def families(self) -> list[str]:
        return [] if self.adapter == "none" else self.adapter.split("+")


def add_adapter_args(parser: ArgumentParser) -> None:
    """Add the flags of all models and of all families."""
    for field in _all_fields():
        if not field.metadata["flag"]:
            continue
        flag = flag_of(field.name)
        text = f"{field.metadata['help']} (default: {'none' if field.default == '' else field.default})"
        if field.type is bool:
            parser.add_argument(flag, action="store_true", help=text)
        else:
            parser.add_argument(flag, type=field.type, default=field.default, help=text)


def set_adapter_defaults(args: Namespace) -> None:
    """Write the default of every option that ``args`` lacks, so that checkpoints record all of them."""
    for field in _all_fields():
        setattr(args, field.name, getattr(args, field.name, field.default))


def read_options(options: type[T], args: Namespace) -> T:
    """The options ``options`` of a model's arguments.

    Raises:
        UsageError: a value is not one of the option's choices.
    """
    values = {f.name: getattr(args, f.name, f.default) for f in dataclasses.fields(options)}
    for field in dataclasses.fields(options):
        choices = field.metadata["choices"]
        if choices and values[field.name] not in choices:
            raise UsageError(f"{flag_of(field.name)} {values[field.name]}: choose one of {', '.join(choices)}")
    return options(**values)


def record(args: Namespace | DictConfig, **values: str) -> None:
    """Write into a model's arguments, which every checkpoint holds, what was found out in training."""
    with open_dict(args) if isinstance(args, DictConfig) else nullcontext():
        for name, value in values.items():
            setattr(args, name, value)


def enlarged(options: T, factor: int) -> T:
    """``options`` with everything that --large-sparse multiplies multiplied by ``factor``."""
    grown = {f.name: factor * getattr(options, f.name) for f in dataclasses.fields(options) if f.metadata["grows"]}
    return dataclasses.replace(options, **grown)


def check_same_adapters(asked: Namespace | DictConfig, trained: Namespace | DictConfig, path: str) -> None:
    """Refuse to go on with trained adapters as if they were others: shapes do not tell an activation or a scale.

    Args:
        asked, trained: the model's arguments of this command, and of the checkpoint at ``path``.

    Raises:
        UsageError: an option of a family in use differs.
    """
    now, then = fixed_options(asked), fixed_options(trained)
    for flag, value in now.items():
        if then.get(flag, value) != value:
            raise UsageError(
                f"{path} holds adapters of {flag} {then[flag]}, and this command asks for {value}: give the same, or "
                "start anew from the backbone in another --save-dir"
            )


def fixed_options(args: Namespace | DictConfig) -> dict[str, Any]:
    """Flags and values that make a model's adapters what they are: those of the families in use."""
    families = [ADAPTERS[name] for name in getattr(args, "adapter", "none").split("+") if name in ADAPTERS]
    fields = [field for cls in (AdapterOptions, *(f.Options for f in families)) for field in dataclasses.fields(cls)]
    return {
        flag_of(field.name): getattr(args, field.name, field.default)
        for field in fields
        if field.metadata["flag"] and field.metadata["fixed"]
    }


def option_names() -> set[str]:
    """Names of all options, which only models with adapters have."""
    return {field.name for field in _all_fields()}


def _all_fields() -> list[dataclasses.Field]:
    """Fields of all option classes; families may share a class or a field."""
    classes = [AdapterOptions, *(family.Options for family in ADAPTERS.values())]
    return list({field.name: field for cls in classes for field in dataclasses.fields(cls)}.values())
