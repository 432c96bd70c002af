"""Checkpoints of what is trained alone, which find their backbone by path and know it by fingerprint."""

import os
from collections.abc import Mapping

from omegaconf import DictConfig
from torch import Tensor, nn

from ..errors import UsageError
from ..modules import has_adapters, holds_backbone, is_adapter_key, is_backbone_key
from .fingerprint import fingerprint
from .loading import read_state
from .start import check_fits

NAME_IT = (
    "name it with --backbone (fairseq-train, sparse-adapter) or "
    "--model-overrides \"{'backbone': '/path/to/model.pt'}\" (fairseq's other commands)"
)


def trained_heads(model: nn.Module, state_dict: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """What was trained beside the adapters. A model that is built without its task has no place for it."""
    return {k: v for k, v in state_dict.items() if not is_adapter_key(k) and not is_backbone_key(model, k)}


def backbone_fingerprint(model: nn.Module, state_dict: Mapping[str, Tensor] | None = None) -> str:
    """SHA-256 of the frozen parameters' names, shapes and float32 values.

    Args:
        model: says which parameters those are.
        state_dict: where their values are; those of the model if None.
    """
    parameters = {key: value for key, value in model.named_parameters() if is_backbone_key(model, key)}
    values = parameters if state_dict is None else {key: state_dict[key] for key in parameters if key in state_dict}
    return fingerprint(values.items())


def fingerprint_of(model: nn.Module, state: dict) -> str:
    """The fingerprint of the backbone that the adapters of a checkpoint were trained on; empty if that is unknown.

    A whole checkpoint holds that backbone, whatever it recorded. But training with --fp16 or --bf16 rounds the frozen
    weights, too (fairseq's Trainer), after their fingerprint was recorded.
    """
    recorded = getattr(state["cfg"].model, "backbone_fingerprint", "")
    if not holds_backbone(model, state["model"]) or (recorded and is_rounded(state["cfg"])):
        return recorded
    return backbone_fingerprint(model, state["model"])


def is_rounded(cfg: DictConfig) -> bool:
    """Whether the backbone in a run's whole checkpoints has been through half precision."""
    common = cfg.get("common") or {}
    flags = ("fp16", "memory_efficient_fp16", "bf16", "memory_efficient_bf16")
    return getattr(cfg.model, "backbone_rounded", "") == "yes" or any(common.get(flag) for flag in flags)


def keep_trained_only(model: nn.Module, state_dict: dict, prefix: str, _metadata: object) -> None:
    """A state dict hook: drop the backbone where checkpoints are to hold adapters only."""
    if model.adapter_only:
        for key in [key for key in state_dict if key.startswith(prefix)]:
            if is_backbone_key(model, key.removeprefix(prefix)):
                del state_dict[key]


def fill_in_backbone(model: nn.Module, state_dict: dict) -> bool:
    """Complete the state dict of an adapter-only checkpoint, in place.

    Returns:
        Whether the backbone was read from its file, so that its fingerprint has yet to be compared.

    Raises:
        UsageError: the backbone's file is unknown, missing, or no plain backbone.
    """
    if not has_adapters(state_dict) or holds_backbone(model, state_dict):
        return False
    if model.backbone_is_loaded:
        state_dict.update({key: value for key, value in whole_state(model).items() if key not in state_dict})
        return False
    path = getattr(model.adapter_args, "backbone", "")
    if not path:
        raise UsageError(f"the checkpoint holds adapters only and does not say on which backbone: {NAME_IT}")
    if not os.path.isfile(path):
        raise UsageError(f"the adapters' backbone {path} is not there: {NAME_IT}")
    backbone = _read_backbone(path)
    state_dict.update({key: value for key, value in backbone.items() if key not in state_dict})
    return True


def _read_backbone(path: str) -> dict:
    backbone = read_state(path)["model"]
    if has_adapters(backbone):
        raise UsageError(f"{path} holds adapters and is no plain backbone: {NAME_IT}")
    return backbone


def check_fingerprint(model: nn.Module, state_dict: Mapping[str, Tensor]) -> None:
    """Compare the backbone in a completed state dict with the one that the adapters were trained on.

    Raises:
        UsageError: it is another one.
    """
    wanted = getattr(model.adapter_args, "backbone_fingerprint", "")
    found = backbone_fingerprint(model, state_dict)
    if wanted and found != wanted:
        raise UsageError(
            f"{model.adapter_args.backbone} is not the backbone that these adapters were trained on: its fingerprint "
            f"is {found[:16]} and the adapters want {wanted[:16]}; {NAME_IT}"
        )


def check_is_backbone(model: nn.Module, path: str, wanted: str, adapters: str) -> None:
    """Compare a backbone's file with the backbone that adapters were trained on.

    Raises:
        UsageError: the file ``path`` is no plain backbone, does not fit the model, or has not the fingerprint
            ``wanted`` of the backbone that the file ``adapters`` was trained on.
    """
    backbone = _read_backbone(path)
    check_fits(model, backbone, path)
    model.upgrade_state_dict_named(backbone, "")
    if backbone_fingerprint(model, backbone) != wanted:
        raise UsageError(f"{path} is not the backbone that {adapters} was trained on")


def whole_state(model: nn.Module) -> dict:
    """The model's state dict with its backbone, whatever its checkpoints hold."""
    adapter_only, model.adapter_only = model.adapter_only, False
    try:
        return model.state_dict()
    finally:
        model.adapter_only = adapter_only
