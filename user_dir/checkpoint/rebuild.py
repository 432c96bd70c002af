"""Build the model that a checkpoint describes, without its data."""

from argparse import ArgumentParser, Namespace
from types import SimpleNamespace

from fairseq.data import Dictionary
from fairseq.models import ARCH_CONFIG_REGISTRY, ARCH_MODEL_REGISTRY
from omegaconf import OmegaConf
from torch import nn

from ..errors import UsageError
from ..modules import ADAPTER, is_adapter_key
from .adapter_only import trained_heads


class UnnamedDictionary(Dictionary):
    """A dictionary of a given size whose symbols nobody asks for."""

    def __init__(self, size: int):
        super().__init__()
        for i in range(size - len(self)):
            self.add_symbol(str(i))


def recorded_arguments(state: dict) -> Namespace:
    """Arguments of a checkpoint's model, stock or with adapters.

    Raises:
        UsageError: the checkpoint has none.
    """
    if state.get("cfg") is None:
        raise UsageError("the checkpoint says nothing about its model")
    args = state["cfg"].model
    args = args if isinstance(args, Namespace) else Namespace(**OmegaConf.to_container(args))
    args.arch = getattr(args, "_name", None) or getattr(args, "arch", None)
    return args


def model_arguments(state: dict) -> Namespace:
    """Arguments of the model in a checkpoint.

    Raises:
        UsageError: the checkpoint has none, or they are not those of a model with adapters.
    """
    args = recorded_arguments(state)
    if not hasattr(ARCH_MODEL_REGISTRY.get(args.arch), "trained_with_adapters"):
        raise UsageError(f"the checkpoint is of the architecture {args.arch}, which has no adapters")
    args._name = args.arch
    return args


def section(state: dict, name: str) -> dict:
    """A section of the checkpoint's configuration, empty if it has none."""
    found = state["cfg"].get(name)
    return OmegaConf.to_container(found, enum_to_str=True) if OmegaConf.is_config(found) else {}


def task_section(state: dict) -> dict:
    """What the checkpoint says of its task, without the folders of the machine it was trained on.

    Nor with --eval-rouge: the BPE's files are such, and without them it would score symbols in place of words.
    """
    task = {key: value for key, value in section(state, "task").items() if key != "data"}
    return task | {"eval_rouge": False} if "eval_rouge" in task else task


def own_arguments(args: Namespace) -> dict:
    """Those of ``args`` that the model reads: its flags and what its architecture function sets."""
    parser, bare = ArgumentParser(argument_default=None), Namespace(arch=args.arch)
    ARCH_MODEL_REGISTRY[args.arch].add_args(parser)
    ARCH_CONFIG_REGISTRY[args.arch](bare)
    names = {*vars(bare), *(action.dest for action in parser._actions), "arch", "_name", "task"}
    plain = {name: value for name, value in sorted(vars(args).items()) if name in names}
    return {
        name: value for name, value in plain.items() if isinstance(value, (str, int, float, bool, list, type(None)))
    }


def build_model(args: Namespace, source: int = 0, target: int = 0) -> nn.Module:
    """The model of ``args`` with dictionaries of these sizes (0: of special symbols only)."""
    dictionaries = {"source_dictionary": UnnamedDictionary(source), "target_dictionary": UnnamedDictionary(target)}
    task = SimpleNamespace(dictionary=dictionaries["source_dictionary"], **dictionaries)
    ARCH_CONFIG_REGISTRY[args.arch](args)
    return ARCH_MODEL_REGISTRY[args.arch].build_model(args, task).eval()


def rebuild(state: dict) -> nn.Module:
    """The whole model of a checkpoint, which may hold adapters only, with its weights.

    Raises:
        UsageError: the backbone is missing or another one, or the weights do not fit.
    """
    args = model_arguments(state)
    weights = dict(state["model"])
    sizes = dictionary_sizes(args, weights)
    if sizes is None:
        raise UsageError("the checkpoint holds adapters only and does not say how large its dictionaries are")
    model = build_model(args, *sizes)
    # It has no heads, which callers take from the state themselves; fairseq would warn that it deletes them.
    heads = trained_heads(model, weights)
    weights = {key: value for key, value in weights.items() if key not in heads}
    try:
        model.load_state_dict(weights, strict=True, model_cfg=args)
    except (RuntimeError, ValueError) as error:
        raise UsageError(f"the weights do not fit their own arguments: {str(error)[:300]}") from error
    return model


def rebuild_adapters(state: dict) -> nn.Module:
    """The model of a checkpoint with the weights of its adapters; those of the backbone are random."""
    args = model_arguments(state)
    model = build_model(args, *(dictionary_sizes(args, state["model"]) or ()))
    weights = {key: value for key, value in state["model"].items() if is_adapter_key(key)}
    if not weights:
        raise UsageError("the checkpoint holds no adapters")
    for name, adapters in model.named_modules():
        if name.rpartition(".")[2] != ADAPTER:
            continue
        prefix = f"{name}."
        own = {key.removeprefix(prefix): value for key, value in weights.items() if key.startswith(prefix)}
        try:
            adapters.load_state_dict(own, strict=True)
        except (RuntimeError, ValueError) as error:
            raise UsageError(f"the adapters do not fit their own arguments: {str(error)[:300]}") from error
    return model


def dictionary_sizes(args: Namespace, weights: dict) -> tuple[int, int] | None:
    """Of the source and of the target; None if neither the weights nor the arguments of a model say it."""
    if not any(key.endswith("embed_tokens.weight") for key in weights):
        source, _, target = getattr(args, "backbone_vocabulary", "").partition(" ")
        if not source:
            return None
        if not (source.isdecimal() and target.isdecimal()):
            raise UsageError(f"backbone_vocabulary {args.backbone_vocabulary!r} is no pair of sizes")
        return int(source), int(target)

    def size(*stacks: str) -> int:
        for stack in stacks:
            for key, value in weights.items():
                if key.startswith(stack) and key.endswith("embed_tokens.weight"):
                    return value.size(0)
        return 0

    return size("encoder"), size("decoder", "encoder")
