"""The prune-at-init hook: a mixin over fairseq tasks.

``build_criterion`` is where it runs, because there the model, the criterion, the data and the whole
configuration exist, and neither the optimizer nor DDP do: a parameter that shrinks later would leave
them holding the old one. It runs in ``fairseq-train`` only, and only where no adapter was trained yet.
"""

import logging
import os
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Optional

import torch
from fairseq.data import FairseqDataset
from fairseq.data.iterators import EpochBatchIterator
from fairseq.dataclass import FairseqDataclass
from fairseq.distributed import utils as distributed_utils
from fairseq.models import BaseFairseqModel
from omegaconf import DictConfig

from ..adapters.adapter_fusion import check_backbone
from ..adapters.options import record
from ..checkpoint.adapter_only import backbone_fingerprint, is_rounded
from ..checkpoint.start import check_fits, check_function, checkpoint_to_load, read_state
from ..checkpoint.upgrade import has_adapters
from ..errors import UsageError, one_line_errors
from ..files import read_json, write_json
from ..models.adapter_model import AdapterModelMixin
from ..modules import SparseWeight, prunable_weights
from ..pruning import (
    PRUNERS,
    SCOPES,
    DegenerateScores,
    apply_masks_,
    build_pruner,
    format_report,
    prune,
    sparsity_report,
)
from ..pruning.report import mask_hash
from ..pruning.selection import kept_count
from .resume import check_start, keep_backbone
from .scoring import broadcast_masks, pruning_objective, untouched

logger = logging.getLogger(__name__)


@dataclass
class PruneAtInitConfig(FairseqDataclass):
    """Flags of every task with the hook."""

    pruner: str = field(
        default="none", metadata={"help": f"prune the adapters at initialisation: {', '.join(PRUNERS)}, or none"}
    )
    sparsity: Optional[float] = field(
        default=None,
        metadata={"help": "fraction of the adapters' weights to remove, 0 <= s < 1; needs a --pruner (default: 0)"},
    )
    large_sparse: int = field(
        default=1, metadata={"help": "k: adapters that are k times larger, at sparsity 1 - 1/k; needs a --pruner"}
    )
    prune_scope: str = field(
        default="global",
        metadata={"help": "global: rank all matrices together; matrix: the same density in every matrix"},
    )
    prune_shuffle: bool = field(
        default=False,
        metadata={
            "help": "keep as many weights of each matrix as the pruner chose, at random places: the control that tells "
            "which weights matter from how many of each matrix (Frankle et al. 2021)"
        },
    )
    prune_batches: int = field(
        default=16,
        metadata={
            "help": "training batches that snip and grasp score on, over all processes; a batch costs about one "
            "training step for snip and four for grasp"
        },
    )
    prune_max_tokens: Optional[int] = field(
        default=None,
        metadata={
            "help": "tokens of such a batch, at least the longest example: scores are computed in float32, which takes "
            "more memory than training with --fp16 or --bf16 (default: --max-tokens)"
        },
    )
    prune_seed: Optional[int] = field(
        default=None,
        metadata={"help": "seed of random scores, chance between equal ones and the pruning batches (default: --seed)"},
    )
    matmul_precision: Optional[str] = field(
        default=None,
        metadata={
            "help": "of float32 matrix products: highest, high (TF32 on GPUs from Ampere on) or medium (bfloat16 on "
            "CPUs that have it), which are faster; pruning is always scored at the highest (default: torch's)"
        },
    )
    attention_kernel: Optional[str] = field(
        default=None,
        metadata={
            "help": "of torch's attention: math is matrix products, which on a CPU are several times faster for "
            "sequences of less than some hundred tokens, and slower for long ones (default: torch's choice)"
        },
    )
    random_backbone: bool = field(
        default=False, metadata={"help": "allow adapters on a randomly initialised backbone (tests, benchmarks)"}
    )


class PruneAtInitMixin:
    """Goes before a fairseq task whose configuration extends ``PruneAtInitConfig``."""

    _model: BaseFairseqModel | None = None  # the model that is going to be trained

    @classmethod
    def setup_task(cls, cfg: DictConfig, **kwargs):
        with one_line_errors():
            cfg.sparsity = _sparsity(cfg)
            cls.check_options(cfg)
        if cfg.matmul_precision is not None:
            torch.set_float32_matmul_precision(cfg.matmul_precision)
        if cfg.attention_kernel == "math":
            torch.backends.cuda.enable_flash_sdp(False)  # of the CPU, too, in spite of its name
            torch.backends.cuda.enable_mem_efficient_sdp(False)
            torch.backends.cuda.enable_cudnn_sdp(False)
        return super().setup_task(cfg, **kwargs)

    @classmethod
    def check_options(cls, cfg: DictConfig) -> None:
        """Refuse what cannot work before anything is read.

        Raises:
            UsageError: an option is out of range, or two contradict each other.
        """
        if cfg.pruner not in (*PRUNERS, "none"):
            raise UsageError(f"unknown pruner {cfg.pruner!r}; choose one of {', '.join([*PRUNERS, 'none'])}")
        if not 0 <= cfg.sparsity < 1:
            raise UsageError(f"--sparsity {cfg.sparsity}: sparsity is the fraction removed, at least 0 and below 1")
        if cfg.sparsity > 0 and cfg.pruner == "none":
            raise UsageError(f"--sparsity {cfg.sparsity} needs a --pruner: {', '.join(PRUNERS)}")
        if cfg.prune_shuffle and cfg.pruner == "none":
            raise UsageError(f"--prune-shuffle needs a --pruner: {', '.join(PRUNERS)}")
        if cfg.prune_scope not in SCOPES:
            raise UsageError(f"unknown --prune-scope {cfg.prune_scope!r}; choose one of {', '.join(SCOPES)}")
        if cfg.matmul_precision not in (None, "highest", "high", "medium"):
            raise UsageError(f"unknown --matmul-precision {cfg.matmul_precision!r}; choose highest, high or medium")
        if cfg.attention_kernel not in (None, "math"):
            raise UsageError(f"unknown --attention-kernel {cfg.attention_kernel!r}; choose math, or leave it out")
        if cfg.prune_batches < 1:
            raise UsageError(f"--prune-batches {cfg.prune_batches}: at least one batch is needed")
        if cfg.prune_max_tokens is not None and cfg.prune_max_tokens < 1:
            raise UsageError(f"--prune-max-tokens {cfg.prune_max_tokens}: a batch has at least one token")

    def build_model(self, cfg: DictConfig, from_checkpoint: bool = False) -> BaseFairseqModel:
        model = super().build_model(cfg, from_checkpoint)
        # For --eval-bleu, fairseq 0.12.3 has just made a generator with this model, which tells BART's cross-attention
        # for good that its batches are beams: in training, every sentence of a beam's size would attend to the first
        # one's source, or the shapes would not fit. Without it, that generator is as right, and slower.
        if hasattr(model, "set_beam_size"):
            model.set_beam_size(1)
            vars(model.encoder).pop("reorder_encoder_out", None)
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
        if resumed and path != cfg.checkpoint.finetune_from_model and _describes(file, weights):
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
            self._check_resumed(model, path)
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
            "scope": method.scope or options.prune_scope,
            "shuffled": options.prune_shuffle,
            "seed": seed,
            **(objective.size(next(model.parameters()).device) if objective else {"batches": 0, "examples": 0}),
            "seconds": round(time.perf_counter() - start, 3),
        }

    def _check_resumed(self, model: BaseFairseqModel, path: str) -> None:
        """A relaunch never prunes; it has to ask for what the checkpoint holds."""
        weights = prunable_weights(model).values()
        kept, total = sum(w.kept for w in weights), sum(w.total for w in weights)
        # What a user knows of the sparsity may have four digits: 0.6667 of Large-Sparse k = 3.
        if kept != kept_count(total, self.cfg.sparsity) and abs(1 - kept / total - self.cfg.sparsity) > 5e-5:
            raise UsageError(
                f"{path} holds adapters of sparsity {1 - kept / total:.4g}, and this command asks for "
                f"{self.cfg.sparsity:.4g}; adapters are pruned once, at initialisation: ask for the same "
                "--sparsity, or start anew from the backbone in another --save-dir"
            )
        logger.info("adapters of %s: %s of %s weights kept, not pruned again", path, f"{kept:,}", f"{total:,}")


def _describes(file: Path, weights: dict[str, SparseWeight]) -> bool:
    """Whether the report in ``file`` is of a model that has these weights left."""
    try:
        report = read_json(file)
    except (FileNotFoundError, ValueError):  # none yet, or what a loss of power has left of it
        return False
    return report.get("mask_sha256") == mask_hash(weights)


def _sparsity(cfg: DictConfig) -> float:
    """What is asked for: ``1 - 1/k`` of Large-Sparse (He et al. 2022, SparseAdapter, §2.3), otherwise --sparsity."""
    k = cfg.large_sparse
    if k == 1:
        if cfg.sparsity is None and cfg.pruner != "none":
            raise UsageError(f"--pruner {cfg.pruner} needs a --sparsity, the fraction removed (0 for none)")
        return cfg.sparsity or 0.0
    if k < 1:
        raise UsageError(f"--large-sparse {k}: a whole factor of at least 1")
    if cfg.pruner == "none":
        raise UsageError(f"--large-sparse {k} needs a --pruner: {', '.join(PRUNERS)}")
    sparsity = 1 - 1 / k
    if cfg.sparsity not in (None, sparsity):
        raise UsageError(f"--large-sparse {k} is sparsity {sparsity:.4g}: leave out --sparsity {cfg.sparsity:g}")
    return sparsity
