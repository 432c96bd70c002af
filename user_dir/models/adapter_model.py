"""The mixin that turns a fairseq model into one with a frozen backbone and adapters."""

import logging
from argparse import ArgumentParser, Namespace

import torch
from fairseq.tasks import FairseqTask
from omegaconf import DictConfig
from torch import nn

from ..adapters import AdapterOptions, TrainedAdapters, add_adapter_args, attach_adapters
from ..adapters.options import read_options
from ..adapters.sites import LAYERS, transformer_layers
from ..checkpoint.adapter_only import check_fingerprint, fill_in_backbone, keep_trained_only
from ..checkpoint.upgrade import drop_fused_copies, fill_in_adapters, fill_in_versions
from ..errors import UsageError, one_line_errors
from ..modules import ADAPTER, is_backbone_key, materialize_

logger = logging.getLogger(__name__)


class AdapterModelMixin:
    """Goes before a legacy (``add_args``) fairseq model in the bases of a class.

    Adapters come in after the stock model is built and initialised, so the backbone's keys and values
    are those of the stock model. Which parameters train is settled here, before any optimizer exists.
    """

    trained_with_adapters: tuple[str, ...] = ()  # top-level modules beside the adapters that train: heads
    is_frozen = False  # whether the backbone does not train
    adapter_only = False  # whether the state dict leaves out the backbone
    backbone_is_loaded = False  # whether the backbone's weights are those that the adapters belong to
    foreign_task = ""  # a task that knows nothing of adapters, until training has warned of it

    @classmethod
    def add_args(cls, parser: ArgumentParser) -> None:
        super().add_args(parser)
        add_adapter_args(parser)

    @classmethod
    def build_model(cls, args: Namespace, task):
        with one_line_errors():
            options = read_options(AdapterOptions, args)
            if options.families and (getattr(args, "quant_noise_pq", 0) or getattr(args, "quant_noise_scalar", 0)):
                raise UsageError("quantisation noise overwrites the frozen weights: use it without adapters")
            if getattr(args, "spectral_norm_classification_head", False):
                raise UsageError(
                    "--spectral-norm-classification-head: fairseq 0.12.3 does not load such heads (roberta/model.py)"
                )
            if options.adapter_only_checkpoints and not options.families:
                raise UsageError("--adapter-only-checkpoints: with --adapter none there are no adapters to save")
            kept = [getattr(args, f"{part}_layers_to_keep", None) for part in ("encoder", "decoder")]
            if options.families and any(kept):
                raise UsageError(
                    "--encoder-layers-to-keep and --decoder-layers-to-keep renumber the layers of a file while it is "
                    "loaded, which adapters do not follow: save the smaller backbone first, with --adapter none"
                )
            model = super().build_model(args, task)
            if options.families and isinstance(task, FairseqTask) and not hasattr(task, "prune_at_init"):
                model.foreign_task = type(task).__name__
            attach_adapters(model, args)
            model.adapter_args = args  # the model's own args are another object in some fairseq models
            model.adapter_only = options.adapter_only_checkpoints
            model.register_state_dict_post_hook(keep_trained_only)
            if options.families or options.freeze_backbone:
                model.freeze_backbone(getattr(args, "checkpoint_activations", False))
                if any(getattr(args, f"{part}_layerdrop", 0) for part in ("encoder", "decoder")):
                    model.register_forward_hook(_require_grad_of_output)
            return model

    def train(self, mode: bool = True) -> nn.Module:
        if mode and self.foreign_task:
            logger.warning(
                "%s neither prunes adapters nor checks that they have a backbone: train with one of the tasks "
                "sparse_adapter_*",
                self.foreign_task,
            )
            self.foreign_task = ""
        return super().train(mode)

    def freeze_backbone(self, checkpoint_activations: bool = False) -> None:
        """Train the adapters and heads only."""
        self.is_frozen = True
        for name, parameter in self.named_parameters():
            parameter.requires_grad_(not is_backbone_key(self, name))
        for module in self.modules():
            if isinstance(module, TrainedAdapters):
                module.requires_grad_(False)
            elif isinstance(module, LAYERS) or (isinstance(module, nn.Linear) and module.bias is None):
                module.register_forward_pre_hook(_contiguous)
        if checkpoint_activations:
            # A checkpointed layer gets no gradient unless one of its inputs requires one. That of the first layer with
            # an adapter does not, and with LayerDrop any may be the first.
            for layer in transformer_layers(self):
                if hasattr(layer, ADAPTER):
                    layer.register_forward_pre_hook(_require_grad)

    def complete_state_dict(self, state_dict: dict) -> None:
        """Give a backbone's dict, in place, what this model has and files of the kind may lack."""

    def upgrade_state_dict_named(self, state_dict: dict, name: str) -> None:
        with one_line_errors():
            refilled = fill_in_backbone(self, state_dict)
            drop_fused_copies(state_dict)
            self.complete_state_dict(state_dict)
            fill_in_versions(self, state_dict)
            fill_in_adapters(self, state_dict)
        try:
            super().upgrade_state_dict_named(state_dict, name)
        except KeyError as error:  # fairseq takes some for granted
            if error.args[0] in state_dict:
                raise
            with one_line_errors():
                whose = self.adapter_args.backbone if refilled else "the checkpoint"
                raise UsageError(f"{whose} is of another kind than the model: it lacks {error.args[0]}") from error
        if refilled:
            with one_line_errors():
                check_fingerprint(self, state_dict)
            self.backbone_is_loaded = True

    def prepare_for_inference_(self, cfg: DictConfig) -> None:
        super().prepare_for_inference_(cfg)
        materialize_(self)
        # No gradient is computed any more, and with what `_contiguous` says of trained matrices all products are those
        # of a model that is not frozen, to the bit.
        self.requires_grad_(True)


def _require_grad(module: nn.Module, tensors: tuple) -> None:
    if torch.is_grad_enabled() and not tensors[0].requires_grad:
        tensors[0].requires_grad_(True)


def _require_grad_of_output(module: nn.Module, args: tuple, output: tuple) -> None:
    """Let a step in which LayerDrop left out every layer with an adapter be one without gradients."""
    _require_grad(module, output)


def _contiguous(module: nn.Module, args: tuple) -> tuple:
    """Lay the input out in one piece: fairseq gives its first layers and the output projection a transposed one.

    torch 2.13 multiplies that by a trained matrix in one go, and by a frozen one batch by batch (LinearAlgebra.cpp,
    should_fold). On a CPU it even copies the matrix for every sentence of the batch, or for every position: for the
    output projection a third, for the first layer's queries, keys and values a quarter of a training step's time.
    """
    return (args[0].contiguous(), *args[1:])
