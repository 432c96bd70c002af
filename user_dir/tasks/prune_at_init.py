"""The prune-at-init hook: a mixin over fairseq tasks.

``build_criterion`` is where it runs, because there the model, the criterion, the data and the whole
configuration exist, and neither the optimizer nor DDP do: a parameter that shrinks later would leave
them holding the old one. It runs in ``fairseq-train`` only, and only where no adapter was trained yet.
"""

import logging
import os
import time
from pathlib import Path

import torch
from fairseq.data import FairseqDataset
from fairseq.data.iterators import EpochBatchIterator
from fairseq.distributed import utils as distributed_utils
from fairseq.models import BaseFairseqModel
from omegaconf import DictConfig

from ..adapters.adapter_fusion import check_backbone
from ..adapters.options import record
from ..checkpoint.adapter_only import backbone_fingerprint, is_rounded
from ..checkpoint.loading import read_state
from ..checkpoint.start import check_fits, check_function, checkpoint_to_load
from ..errors import UsageError, one_line_errors
from ..files import write_json
from ..models.adapter_model import AdapterModelMixin
from ..modules import SparseWeight, has_adapters, prunable_weights, use_fast_dropout
from ..pruning import (
    DegenerateScores,
    apply_masks_,
    build_pruner,
    format_report,
    prune,
    sparsity_report,
)
from .options import asked_sparsity, check_options
from .resume import check_sparsity, check_start, describes, keep_backbone
from .scoring import broadcast_masks, pruning_objective, untouched

logger = logging.getLogger(__name__)


class PruneAtInitMixin:
    """Goes before a fairseq task whose configuration extends ``PruneAtInitConfig``."""

    _model: BaseFairseqModel | None = None  # the model that is going to be trained

    @classmethod
    def setup_task(cls, cfg: DictConfig, **kwargs):
        with one_line_errors():
            cfg.sparsity = asked_sparsity(cfg)
            cls.check_options(cfg)
        if cfg.matmul_precision is not None:
            torch.set_float32_matmul_precision(cfg.matmul_precision)
        if cfg.attention_kernel == "math":
            torch.backends.cuda.enable_flash_sdp(False)  # of the CPU, too, in spite of its name
            torch.backends.cuda.enable_mem_efficient_sdp(False)
            torch.backends.cuda.enable_cudnn_sdp(False)
        if cfg.dropout_kernel is not None and not kwargs.get("from_checkpoint"):
            use_fast_dropout(cfg.dropout_kernel == "fast")
        return super().setup_task(cfg, **kwargs)

    @classmethod
    def check_options(cls, cfg: DictConfig) -> None:
        """Refuse what cannot work before anything is read.

        Raises:
            UsageError: an option is out of range, or two contradict each other.
        """
        check_options(cfg)

    def build_model(self, cfg: DictConfig, from_checkpoint: bool = False) -> BaseFairseqModel:
        model = super().build_model(cfg, from_checkpoint)
        end_beam_search(model)  # for --eval-bleu
        self._model = None if from_checkpoint else model
        return model

    def get_batch_iterator(self, dataset: FairseqDataset, *args, epoch: int = 1, **kwargs) -> EpochBatchIterator:
        """Give a relaunch the batches of the run that it goes on with.

        fairseq 0.12.3 (fairseq_task.py) cuts the batches of all epochs in the first one, whose number then decides,
        through the seed, which of many sentences of one length share a batch: for a relaunch, that is the epoch it
        starts in. What is left of that epoch would be of other batches, and not be what the first run has left.
        """
        kept = not kwargs.get("disable_iterator_cache") and not kwargs.get("update_epoch_batch_itr")
        kept = kept and self.can_reuse_epoch_itr(dataset) and not getattr(self.cfg, "rebuild_batches", False)
        if not kept or dataset in self.dataset_to_epoch_iter:
            return super().get_batch_iterator(dataset, *args, epoch=epoch, **kwargs)
        iterator = super().get_batch_iterator(dataset, *args, epoch=1, **kwargs)
        iterator.epoch = max(epoch, 1)
        return iterator

    def valid_step(self, sample: dict, model: BaseFairseqModel, criterion):
        # Of several processes of fairseq-validate, some have no batch in the last round (fairseq 0.12.3 crashes).
        if not sample:
            return 0.0, 0, {}
        return super().valid_step(sample, model, criterion)

    def build_criterion(self, cfg: DictConfig, from_checkpoint: bool = False):
        if self._model is not None and not isinstance(cfg, DictConfig) and prunable_weights(self._model):
            with one_line_errors():
                raise UsageError(
                    f"--criterion {cfg.criterion} is one of fairseq's old ones, with which adapters cannot be pruned: "
                    "choose one whose options are a dataclass, such as label_smoothed_cross_entropy"
                )
        criterion = super().build_criterion(cfg, from_checkpoint)
        if self._model is not None and isinstance(cfg, DictConfig):
            with one_line_errors():
                self.prune_at_init(self._model, criterion, cfg._get_root())
        return criterion

    def prune_at_init(self, model: BaseFairseqModel, criterion, cfg: DictConfig) -> None:
        """Bring the adapters into the form that they are trained in.

        Where training starts from a plain backbone, load it, score, prune and report. Where it resumes
        from a checkpoint with adapters, take over its masks; the values are loaded by fairseq later.

        Raises:
            UsageError: there is no backbone, it does not fit, or the checkpoint was pruned otherwise.
        """
        if not any(parameter.requires_grad for parameter in model.parameters()):
            raise UsageError(
                "--adapter none --freeze-backbone leaves nothing to train: the frozen model can be evaluated as "
                "it is, with fairseq-generate --path and the backbone's file"
            )
        weights = prunable_weights(model)
        if self.cfg.sparsity > 0 and not weights:
            raise UsageError(f"--sparsity {self.cfg.sparsity} has nothing to prune: choose an adapter with --adapter")
        self._check_large_sparse(weights, cfg)
        if weights and cfg.distributed_training.ddp_backend == "fully_sharded":
            raise UsageError("fully_sharded shards the weights before they are pruned: use --ddp-backend pytorch_ddp")
        path, resumed = checkpoint_to_load(cfg.checkpoint), False
        if path is None:
            if getattr(model, "is_frozen", False) and not self.cfg.random_backbone:
                raise UsageError(
                    "the backbone is frozen and would stay random: name a pretrained model with "
                    "--finetune-from-model, or pass --random-backbone if this is meant"
                )
            if getattr(cfg.model, "adapter_only_checkpoints", False):
                raise UsageError("--adapter-only-checkpoints need a backbone to refer to: use --finetune-from-model")
        elif isinstance(model, AdapterModelMixin):  # others are fairseq's own, which loads them
            resumed = self._load(model, cfg, path)
        file = Path(cfg.checkpoint.save_dir) / "sparsity.json"
        if resumed and path != cfg.checkpoint.finetune_from_model and describes(file, weights):
            return
        report = {"pruner": None, "sparsity": 0.0, "seconds": 0.0}
        if resumed:
            report |= {"sparsity": self.cfg.sparsity, "adapters_of": path}
        elif self.cfg.sparsity > 0:
            report |= self._prune(model, criterion, cfg)
        if getattr(cfg.optimizer, "_name", None) == "adafactor" and any(w.is_compact for w in weights.values()):
            logger.warning(
                "adafactor keeps a sum for each row and column of a matrix, and for each weight of a pruned one, which "
                "is a vector of what is left: its state is larger than that of dense adapters"
            )
        report |= sparsity_report(model, self.cfg.large_sparse)
        logger.info("sparsity report\n%s", format_report(report))
        if distributed_utils.is_master(cfg.distributed_training):
            write_json(file, report)

    def _load(self, model: BaseFairseqModel, cfg: DictConfig, path: str) -> bool:
        """Load the checkpoint, and record which backbone it has. Returns whether it has adapters."""
        state = read_state(path)
        resumed = has_adapters(state["model"])
        check_start(model, cfg, path, state)
        # A backbone may have a row for <mask> that the data's dictionary has not, so the file does not say it.
        record(cfg.model, backbone_vocabulary=f"{len(self.source_dictionary)} {len(self.target_dictionary)}")
        if is_rounded(cfg) or (resumed and state.get("cfg") and is_rounded(state["cfg"])):
            record(cfg.model, backbone_rounded="yes")
        if resumed and state.get("cfg"):
            keep_backbone(model, cfg, path, state)
        check_fits(model, state["model"], path)
        if model.is_frozen and state.get("cfg"):
            check_function(state["cfg"].model, cfg.model, path)
        try:
            model.load_state_dict(state["model"], strict=True, model_cfg=cfg.model)
        except RuntimeError as error:  # torch's list of missing and unexpected keys
            raise UsageError(f"{path} does not fit --arch: {str(error)[:400]}") from error
        if resumed:
            check_sparsity(model, path, self.cfg.sparsity)
        else:
            fingerprint = backbone_fingerprint(model)
            check_backbone(cfg.model, fingerprint)
            record(cfg.model, backbone=os.path.abspath(path), backbone_fingerprint=fingerprint)
        return resumed

    def _check_large_sparse(self, weights: dict[str, SparseWeight], cfg: DictConfig) -> None:
        if weights and getattr(cfg.model, "large_sparse", 1) != self.cfg.large_sparse:
            raise UsageError("--large-sparse is a flag of the task and of the model: with hydra, set both alike")
        fixed = [name for name, weight in weights.items() if weight.unit_dim is None]
        if fixed and self.cfg.large_sparse > 1:
            raise UsageError(
                f"--large-sparse {self.cfg.large_sparse} keeps the budget only where every matrix grows, and "
                f"{fixed[0]} does not: use --sparsity"
            )

    def _prune(self, model: BaseFairseqModel, criterion, cfg: DictConfig) -> dict:
        """Prune, and say how."""
        start = time.perf_counter()
        options = self.cfg
        seed = cfg.common.seed if options.prune_seed is None else options.prune_seed
        method = build_pruner(options.pruner)
        with untouched(model):
            objective = pruning_objective(self, model, criterion, cfg, seed) if method.needs_data else None
            try:
                masks = prune(
                    model,
                    options.pruner,
                    options.sparsity,
                    scope=options.prune_scope,
                    shuffle=options.prune_shuffle,
                    seed=seed,
                    objective=objective,
                )
            except DegenerateScores as error:
                raise UsageError(str(error)) from error
            except torch.OutOfMemoryError as error:
                raise UsageError(
                    f"scoring weights for --pruner {options.pruner} ran out of memory ({str(error).splitlines()[0]}): "
                    "give a --prune-max-tokens below --max-tokens, at least the longest example, and as many more "
                    "--prune-batches; examples can be cut shorter in preparation"
                ) from error
            masks = broadcast_masks(masks)
        apply_masks_(model, masks)
        return {
            "pruner": options.pruner,
            "sparsity": options.sparsity,
            "scope": method.allocation or options.prune_scope,
            "shuffled": options.prune_shuffle,
            "seed": seed,
            **(objective.size(next(model.parameters()).device) if objective else {"batches": 0, "examples": 0}),
            "seconds": round(time.perf_counter() - start, 3),
        }


def end_beam_search(model: BaseFairseqModel) -> None:
    """Let a model that a generator was made with be trained.

    The generator of fairseq 0.12.3 tells BART's cross-attention for good that its batches are beams: in training, every
    sentence of a beam's size would attend to the first one's source, or the shapes would not fit. Without it, that
    generator is as right, and slower.
    """
    if hasattr(model, "set_beam_size"):
        model.set_beam_size(1)
        vars(model.encoder).pop("reorder_encoder_out", None)
