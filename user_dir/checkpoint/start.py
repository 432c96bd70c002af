"""The checkpoint that fairseq is going to start from, read and checked before the trainer exists."""

import os
from argparse import Namespace

import torch
from omegaconf import DictConfig
from torch import nn

from ..errors import UsageError, flag_of
from ..modules import holds_backbone, is_backbone_key

_RESETS = ("reset_optimizer", "reset_lr_scheduler", "reset_meters", "reset_dataloader")


def checkpoint_to_load(cfg: DictConfig) -> str | None:
    """The file that ``checkpoint_utils.load_checkpoint`` of fairseq 0.12.3 chooses; None if there is none.

    Raises:
        UsageError: a file that the user named does not exist, or fairseq would refuse the flags.
    """
    if cfg.finetune_from_model is not None:
        resets = [name for name in _RESETS if getattr(cfg, name)]
        if resets:
            raise UsageError(
                f"{flag_of(resets[0])} goes with --restore-file: --finetune-from-model does that by itself"
            )
        if cfg.restore_file != "checkpoint_last.pt":
            raise UsageError("--restore-file and --finetune-from-model are two starts: leave out one of them")
    if cfg.restore_file != "checkpoint_last.pt":
        path, flag = cfg.restore_file.replace(".pt", f"{cfg.checkpoint_suffix or ''}.pt"), "--restore-file"
    else:
        last = _last(cfg)
        if os.path.exists(last):
            return last
        path, flag = cfg.continue_once, "--continue-once"
        if path is None:
            path, flag = cfg.finetune_from_model, "--finetune-from-model"
        if path is None:
            return None
    if not os.path.isfile(path):
        raise UsageError(f"{flag} {path}: there is no such file")
    return path


def is_relaunch(cfg: DictConfig, path: str) -> bool:
    """Whether training goes on with the run of ``--save-dir``; ``path`` is that of :func:`checkpoint_to_load`."""
    return path == _last(cfg) and path != cfg.finetune_from_model


def _last(cfg: DictConfig) -> str:
    return os.path.join(cfg.save_dir, f"checkpoint_last{cfg.checkpoint_suffix or ''}.pt")


# What two trainings can hardly be the same with: a relaunch that says otherwise is told so.
_TRAINING = {
    "optimization": ("lr", "update_freq", "clip_norm"),
    "dataset": ("max_tokens", "batch_size"),
    "common": ("seed",),
    "task": (
        *("pruner", "prune_scope", "prune_shuffle", "prune_seed", "prune_batches", "prune_max_tokens"),
        *("eval_rouge_args", "eval_rouge_words"),
    ),
    "checkpoint": ("finetune_from_model",),
}


def changed_settings(before: DictConfig, now: DictConfig) -> list[str]:
    """What a relaunch asks for and the run was not begun with: ``--lr was [0.001] and is [0.002]``."""
    changes = []
    for section, names in _TRAINING.items():
        for name in names if isinstance(before.get(section), DictConfig) else ():
            if name not in before[section]:  # an older version's
                continue
            then, asked = before[section].get(name), now[section].get(name)
            are_files = name == "finetune_from_model" and then and asked
            if then != asked and not (are_files and os.path.realpath(then) == os.path.realpath(asked)):
                changes.append(f"{flag_of(name)} was {then} and is {asked}")
    return changes


# What gives the same weights another function, and no tensor tells.
_FUNCTION = ("encoder_attention_heads", "decoder_attention_heads", "activation_fn", "no_scale_embedding")


def check_function(before: Namespace | DictConfig | None, now: Namespace | DictConfig, path: str) -> None:
    """Compare what changes a model's function and no shape of its weights.

    Args:
        before, now: the model's arguments of the file at ``path`` and of this command.

    Raises:
        UsageError: frozen weights would not do what they were trained for.
    """
    for name in _FUNCTION:
        then, asked = (getattr(args, name, None) for args in (before, now))
        if {then, asked} == {"gelu_fast", "gelu_accurate"}:  # the old and the new name
            continue
        if then is not None and asked is not None and then != asked:
            flag = flag_of(name)
            raise UsageError(
                f"{path} is of a model with {flag} {then}, and this one has {asked}: its frozen weights would be of no "
                f"use; choose its architecture{'' if then is False else ', or give the flag'}"
            )


def check_direction(before: DictConfig, now: DictConfig, path: str) -> None:
    """Compare the languages of a run with those of the command that goes on with it.

    Raises:
        UsageError: the run translates between others.
    """
    tasks = (before["task"], now["task"])  # of fairseq's legacy ones, the first is a Namespace
    then, asked = ([getattr(task, f"{side}_lang", None) for side in ("source", "target")] for task in tasks)
    if then != asked and all(then) and all(asked):
        raise UsageError(
            f"{path} is of a run from {then[0]} to {then[1]}, and this one is from {asked[0]} to {asked[1]}: choose "
            "another --save-dir"
        )


def check_best(before: DictConfig, now: DictConfig, path: str) -> None:
    """Compare what tells a run's best checkpoint with what the command that goes on with it would tell it by.

    fairseq 0.12.3 keeps the best value and not of what: a ROUGE of 2 would never be better than a loss of 5.

    Args:
        before, now: both configurations' sections ``checkpoint``.

    Raises:
        UsageError: they are two metrics or directions, and the best value is not to be forgotten.
    """
    names = ("best_checkpoint_metric", "maximize_best_checkpoint_metric")
    then, asked = ([section.get(name) for name in names] for section in (before, now))
    if then != asked and not now.reset_meters and not now.no_save:
        best = [f"the {'highest' if highest else 'lowest'} {metric}" for metric, highest in (then, asked)]
        raise UsageError(
            f"{path} is of a run whose best checkpoint has {best[0]}, and this command asks for {best[1]} "
            "(--best-checkpoint-metric): choose another --save-dir, or forget the best with --reset-meters"
        )


def check_fits(model: nn.Module, state_dict: dict, path: str) -> None:
    """Compare the backbone's tensors with those of the model, of which a file may have a row more for <mask>.

    Raises:
        UsageError: a tensor has another shape, the model shares tensors that differ in the file, or layers are missing
            or left over.
    """
    _check_shared(model, state_dict, path)
    # fairseq keeps the model's own head where the file's is of another task.
    own = {key: value for key, value in model.named_parameters() if is_backbone_key(model, key)}
    mask_is_known = "<mask>" in model.encoder.dictionary
    for key, value in own.items():
        held = state_dict.get(key)
        if held is None or held.shape == value.shape:
            continue
        if key.endswith(("embed_tokens.weight", "output_projection.weight")) and held.shape[1:] == value.shape[1:]:
            if held.shape[0] == value.shape[0] + 1 and not mask_is_known:
                continue
            raise UsageError(
                f"{path} has a dictionary of {held.shape[0]} entries, and the data's has {value.shape[0]} ({key}): "
                "binarise the data with the backbone's dict.txt, and name all --langs if it is an mBART"
            )
        raise UsageError(
            f"{path} does not fit --arch: {key} has shape {tuple(held.shape)} in the file and {tuple(value.shape)} "
            "in the model; choose the architecture of the backbone's size"
        )
    layers, held_layers = _layers(own), _layers(state_dict)
    # Adapters by themselves may be in some layers only.
    if held_layers - layers or (holds_backbone(model, state_dict) and layers - held_layers):
        raise UsageError(
            f"{path} does not fit --arch: the file has {len(held_layers)} transformer layers and the model "
            f"{len(layers)}; choose the architecture of the backbone's size"
        )


def _check_shared(model: nn.Module, state_dict: dict, path: str) -> None:
    """Of several tensors for one parameter, loading keeps the last and says nothing."""
    first: dict[int, str] = {}
    for key, parameter in model.named_parameters(remove_duplicate=False):
        other = first.setdefault(id(parameter), key)
        held, shared = state_dict.get(key), state_dict.get(other)
        if held is not None and shared is not None and not torch.equal(held, shared):
            remedy = (
                "add --untie-weights-roberta"
                if ".lm_head." in key
                else "leave out the flags that share embeddings (--share-all-embeddings, "
                "--share-decoder-input-output-embed)"
            )
            raise UsageError(
                f"{path} does not fit --arch: {other} and {key} differ in the file and are one in the model; {remedy}"
            )


def _layers(keys) -> set[str]:
    """``encoder.layers.3`` and the like."""
    return {".".join(key.split(".")[:3]) for key in keys if key.split(".")[1:2] == ["layers"]}
