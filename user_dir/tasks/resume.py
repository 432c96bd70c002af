"""What training may start from or go on with, and where the backbone of trained adapters is by then."""

import logging
import os
from pathlib import Path

from fairseq.models import BaseFairseqModel
from omegaconf import DictConfig

from ..adapters.adapter_fusion import same_sources
from ..adapters.options import check_same_adapters, record
from ..checkpoint.adapter_only import check_is_backbone, fingerprint_of
from ..checkpoint.loading import read_state
from ..checkpoint.start import changed_settings, check_best, check_direction, is_relaunch
from ..errors import UsageError, flag_of
from ..files import read_json
from ..modules import SparseWeight, has_adapters, holds_backbone, prunable_weights
from ..pruning.report import mask_hash
from ..pruning.selection import kept_count

logger = logging.getLogger(__name__)


def check_start(model: BaseFairseqModel, cfg: DictConfig, path: str, state: dict) -> None:
    """Refuse a checkpoint that this command cannot start from, and say what a relaunch has otherwise.

    Args:
        cfg: the whole configuration of fairseq-train.
        path, state: the checkpoint and what is in it.

    Raises:
        UsageError: it has no EMA weights, is a backbone where a run is to go on, is of another kind of run, or
            --backbone names no file or another backbone.
    """
    if cfg.ema.store_ema and "ema" not in state.get("extra_state", {}):
        raise UsageError(
            f"--store-ema cannot start from {path}, which has no EMA weights: fairseq 0.12.3 deletes the "
            "model's weights before it would copy them (trainer.py); train without --store-ema"
        )
    if cfg.ema.store_ema and model.adapter_only:
        raise UsageError("--store-ema keeps a copy of the whole model: use it without --adapter-only-checkpoints")
    named = getattr(cfg.model, "backbone", "")
    if named and not os.path.isfile(named):
        raise UsageError(f"--backbone {named}: there is no such file")
    plain = not has_adapters(state["model"])
    lacks_adapters = plain and bool(prunable_weights(model))
    for flag in ("restore_file", "continue_once"):
        if lacks_adapters and path == getattr(cfg.checkpoint, flag):
            raise UsageError(
                f"{flag_of(flag)} {path} is a backbone, whose own training would be gone on with: name it "
                "with --finetune-from-model"
            )
    if not is_relaunch(cfg.checkpoint, path):
        if named and plain and not os.path.samefile(named, path):
            raise UsageError(
                f"--backbone {named} is for adapters that were trained on it, and {path} is a backbone: leave it out"
            )
        return
    if lacks_adapters:
        raise UsageError(f"{path} is of a run without adapters: choose another --save-dir")
    if state.get("cfg"):
        frozen, asked = (bool(getattr(args, "freeze_backbone", False)) for args in (state["cfg"].model, cfg.model))
        if plain and frozen != asked:  # what is trained is not the same, and so is the optimizer's state
            how = "with" if frozen else "without"
            raise UsageError(f"{path} was trained {how} --freeze-backbone: do the same, or choose another --save-dir")
        check_direction(state["cfg"], cfg, path)
        check_best(state["cfg"]["checkpoint"], cfg.checkpoint, path)
        if changes := changed_settings(state["cfg"], cfg):
            logger.warning("%s goes on where it stopped, though %s", path, ", ".join(changes))


def keep_backbone(model: BaseFairseqModel, cfg: DictConfig, path: str, state: dict) -> None:
    """Record that trained adapters stay on the backbone that they were trained on, and where it is now.

    Args: those of :func:`check_start`.

    Raises:
        UsageError: the adapters are others than this command asks for, or their backbone is another or in no file.
    """
    trained_with = state["cfg"].model
    check_same_adapters(cfg.model, trained_with, path)
    if not same_sources(cfg.model, trained_with):
        raise UsageError(
            f"{path} fuses other adapters than --fusion-adapters {cfg.model.fusion_adapters}: name the same, "
            "or start anew from the backbone in another --save-dir"
        )
    backbone, fingerprint = (getattr(trained_with, key, "") for key in ("backbone", "backbone_fingerprint"))
    backbone = cfg.model.backbone or _backbone_now(cfg.checkpoint.finetune_from_model, path, backbone)
    backbone = os.path.abspath(backbone) if backbone else ""
    record(cfg.model, backbone=backbone, backbone_fingerprint=fingerprint)
    if model.adapter_only and (not backbone or fingerprint_of(model, state) != fingerprint):
        raise UsageError(
            f"the backbone in {path} is in no other file, as after sparse-adapter merge: leave out "
            "--adapter-only-checkpoints, which would not hold it"
        )
    moved = backbone != os.path.abspath(getattr(trained_with, "backbone", ""))
    if model.adapter_only and moved and holds_backbone(model, state["model"]):
        check_is_backbone(model, backbone, fingerprint, path)  # what is loaded is the file's own


def check_sparsity(model: BaseFairseqModel, path: str, sparsity: float) -> None:
    """A relaunch never prunes: it has to ask for the sparsity of what it has loaded from ``path``.

    Raises:
        UsageError: it asks for another ``sparsity``.
    """
    weights = prunable_weights(model).values()
    kept, total = sum(w.kept for w in weights), sum(w.total for w in weights)
    # What a user knows of the sparsity may have four digits: 0.6667 of Large-Sparse k = 3.
    if kept != kept_count(total, sparsity) and abs(1 - kept / total - sparsity) > 5e-5:
        raise UsageError(
            f"{path} holds adapters of sparsity {1 - kept / total:.4g}, and this command asks for {sparsity:.4g}; "
            "adapters are pruned once, at initialisation: ask for the same --sparsity, or start anew from the backbone "
            "in another --save-dir"
        )
    logger.info("adapters of %s: %s of %s weights kept, not pruned again", path, f"{kept:,}", f"{total:,}")


def describes(file: Path, weights: dict[str, SparseWeight]) -> bool:
    """Whether the report in ``file`` is of a model that has these weights left."""
    try:
        report = read_json(file)
    except (FileNotFoundError, ValueError):  # none yet, or what a loss of power has left of it
        return False
    return report.get("mask_sha256") == mask_hash(weights)


def _backbone_now(named: str | None, start: str, recorded: str) -> str:
    """Where the backbone is: ``named`` by --finetune-from-model, unless that is ``start`` or holds adapters, too."""
    if not named or named == start or os.path.abspath(named) == recorded or not os.path.isfile(named):
        return recorded
    return recorded if has_adapters(read_state(named)["model"]) else named
