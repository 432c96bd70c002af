"""fairseq's sentence prediction (GLUE) with pruning at initialisation and metrics of the whole set."""

from dataclasses import dataclass

import torch
from fairseq.data import RawLabelDataset
from fairseq.logging import metrics
from fairseq.models import ARCH_MODEL_REGISTRY, BaseFairseqModel, FairseqEncoderDecoderModel
from fairseq.tasks import register_task
from fairseq.tasks.sentence_prediction import SentencePredictionConfig, SentencePredictionTask
from omegaconf import DictConfig
from torch import Tensor

from ..errors import UsageError, one_line_errors
from ..length_groups import LengthGroupedDataset, rebuild_batches
from .heads import freeze_lm_head, head_outputs
from .keep_all import KeepAllMixin
from .options import PruneAtInitConfig
from .prune_at_init import PruneAtInitMixin


@dataclass
class SparseAdapterSentencePredictionConfig(PruneAtInitConfig, SentencePredictionConfig):
    pass


@register_task("sparse_adapter_sentence_prediction", dataclass=SparseAdapterSentencePredictionConfig)
class SparseAdapterSentencePredictionTask(KeepAllMixin, PruneAtInitMixin, SentencePredictionTask):
    """``sentence_prediction`` that prunes the adapters once, before training.

    Validation reports accuracy, F1 of class 1 and Matthews correlation, or Pearson correlation of a regression.
    They are computed from counts, which sum over batches and processes: fairseq's own flags for them
    (``--report-mcc`` and so on) gather predictions, and crash where there are several processes.
    """

    cfg: SparseAdapterSentencePredictionConfig

    @classmethod
    def check_options(cls, cfg: DictConfig) -> None:
        super().check_options(cfg)
        if cfg.num_classes < 1:
            raise UsageError("--num-classes is missing: the number of labels, or 1 with --regression-target")

    def build_model(self, cfg: DictConfig, from_checkpoint: bool = False) -> BaseFairseqModel:
        with one_line_errors():
            arch = getattr(cfg, "arch", None) or cfg._name
            model_class = ARCH_MODEL_REGISTRY.get(arch)
            if not hasattr(model_class, "register_classification_head"):
                raise UsageError(f"--arch {arch} has no classification heads: use RoBERTa, BERT or BART")
            if issubclass(model_class, FairseqEncoderDecoderModel) and not self.cfg.add_prev_output_tokens:
                raise UsageError(f"--arch {arch} has a decoder: add --add-prev-output-tokens")
        model = super().build_model(cfg, from_checkpoint)
        freeze_lm_head(model)
        return model

    def load_dataset(self, split: str, combine: bool = False, **kwargs):
        """Batched by length, in other batches in every epoch."""
        dataset = super().load_dataset(split, combine, **kwargs)
        unshuffled = dataset if self.cfg.no_shuffle else dataset.dataset
        if self.cfg.regression_target and "target" in unshuffled.defn:
            unshuffled.defn["target"] = DoubleLabelDataset(unshuffled.defn["target"].labels)
        if not self.cfg.no_shuffle:
            rebuild_batches(self.cfg)
            # fairseq asks for the parts of a split in one for training alone.
            self.datasets[split] = LengthGroupedDataset(unshuffled, unshuffled.sizes[0], evaluated=not combine)
        return self.datasets[split]

    def valid_step(self, sample: dict, model: BaseFairseqModel, criterion):
        with head_outputs(model, self.cfg.classification_head_name) as seen:
            loss, sample_size, log = super().valid_step(sample, model, criterion)
        if seen and "target" in sample:
            if self.cfg.regression_target:
                count = regression_sums
            elif self.cfg.num_classes == 2:
                count = confusion
            else:
                count = hits
            log.update(count(seen[0], sample["target"]))
        return loss, sample_size, log

    def reduce_metrics(self, logging_outputs: list[dict], criterion) -> None:
        super().reduce_metrics(logging_outputs, criterion)
        names = {name for log in logging_outputs for name in log if name.startswith("_count_")}
        for name in names:
            metrics.log_scalar_sum(name, float(sum(log.get(name, 0) for log in logging_outputs)))
        if not names:
            return
        if self.cfg.regression_target:
            metrics.log_derived("pearson", lambda meters: 100 * pearson(_counts(meters)))
        else:
            metrics.log_derived("acc", lambda meters: 100 * accuracy(_counts(meters)))
            if self.cfg.num_classes == 2:
                metrics.log_derived("f1", lambda meters: 100 * f1(_counts(meters)))
                metrics.log_derived("mcc", lambda meters: 100 * matthews(_counts(meters)))


class DoubleLabelDataset(RawLabelDataset):
    """Scores in double precision: with --fp16 and --bf16, fairseq's trainer rounds all of a batch that is float32."""

    def collater(self, samples: list[float]) -> Tensor:
        return torch.tensor(samples, dtype=torch.float64)


def confusion(logits: Tensor, target: Tensor) -> dict[str, float]:
    """Counts of (target, prediction) of two classes: ``_count_0_1`` examples of class 0 were taken for class 1."""
    counts = torch.bincount(2 * target.view(-1) + logits.argmax(dim=-1).view(-1), minlength=4).tolist()
    return {f"_count_{i // 2}_{i % 2}": float(count) for i, count in enumerate(counts)}


def hits(logits: Tensor, target: Tensor) -> dict[str, float]:
    """What accuracy is made of. Counts of every two of many classes would keep fairseq's meters busy for minutes."""
    right = int((logits.argmax(dim=-1).view(-1) == target.view(-1)).sum())
    return {"_count_right": float(right), "_count_wrong": float(target.numel() - right)}


def regression_sums(logits: Tensor, target: Tensor) -> dict[str, float]:
    """The sums that Pearson correlation is made of, in double precision."""
    x, y = logits.view(-1).double(), target.view(-1).double()
    sums = {"n": x.numel(), "x": x.sum(), "y": y.sum(), "xx": (x * x).sum(), "yy": (y * y).sum(), "xy": (x * y).sum()}
    return {f"_count_{name}": float(value) for name, value in sums.items()}


def _counts(meters) -> dict[str, float]:
    return {name.removeprefix("_count_"): meter.sum for name, meter in meters.items() if name.startswith("_count_")}


def accuracy(counts: dict[str, float]) -> float:
    right = counts["right"] if "right" in counts else counts["0_0"] + counts["1_1"]
    return right / max(sum(counts.values()), 1)


def f1(counts: dict[str, float]) -> float:
    """Of class 1."""
    wrong = counts["0_1"] + counts["1_0"]
    return 2 * counts["1_1"] / (2 * counts["1_1"] + wrong) if counts["1_1"] else 0.0


def matthews(counts: dict[str, float]) -> float:
    """0 where a class is never met or never predicted."""
    tn, fp, fn, tp = (counts[name] for name in ("0_0", "0_1", "1_0", "1_1"))
    scale = (tp + fp) * (tp + fn) * (tn + fp) * (tn + fn)
    return (tp * tn - fp * fn) / scale**0.5 if scale else 0.0


def pearson(counts: dict[str, float]) -> float:
    """0 where one of the two is constant."""
    n, x, y = counts["n"], counts["x"], counts["y"]
    variances = (n * counts["xx"] - x * x) * (n * counts["yy"] - y * y)
    return (n * counts["xy"] - x * y) / variances**0.5 if variances > 0 else 0.0
