"""SQuAD v1.1 in fairseq, with pruning at initialisation: answers are spans of sliding windows over their context.

Rajpurkar et al. (2016), SQuAD: 100,000+ Questions for Machine Comprehension of Text. fairseq's own
``sentence_prediction`` criterion trains it: see ``squad/head.py``.
"""

from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path

from fairseq.data import Dictionary
from fairseq.logging import metrics
from fairseq.models import BaseFairseqModel
from fairseq.models.roberta import RobertaModel
from fairseq.tasks import FairseqTask, register_task
from omegaconf import II, MISSING, DictConfig, OmegaConf, open_dict
from torch import Tensor

from ..errors import UsageError, flag_of, one_line_errors
from ..length_groups import rebuild_batches
from ..squad import Answer, SquadDataset, add_span_head, best_answers, load_split, score
from .heads import freeze_lm_head, head_outputs
from .keep_all import KeepAllMixin
from .options import PruneAtInitConfig, flag
from .prune_at_init import PruneAtInitMixin


@dataclass
class SquadConfig(PruneAtInitConfig):
    data: str = flag(MISSING, "folder written by examples/squad/prepare.sh")
    max_positions: int = flag(512, "positions of the backbone")
    n_best: int = flag(20, "answers of a question that are kept, over all its windows")
    max_answer_length: int = flag(30, "longest answer in tokens")
    classification_head_name: str = II("criterion.classification_head_name")


@register_task("sparse_adapter_squad", dataclass=SquadConfig)
class SparseAdapterSquadTask(KeepAllMixin, PruneAtInitMixin, FairseqTask):
    """Training on windows, validation on questions.

    Validation reports exact match and F1 of the best answer over all windows of a question, over the whole set. All
    windows of a question are in one batch, so the sums over batches and processes are exact.
    """

    cfg: SquadConfig

    def __init__(self, cfg: DictConfig, dictionary: Dictionary):
        super().__init__(cfg)
        self.dictionary = dictionary

    @classmethod
    def setup_task(cls, cfg: DictConfig, **kwargs):
        with one_line_errors():
            path = Path(cfg.data) / "dict.txt"
            if not path.is_file():
                raise UsageError(f"{path} is missing; make the data with examples/squad/prepare.sh")
        return super().setup_task(cfg, dictionary=cls.load_dictionary(str(path)))

    @classmethod
    def load_dictionary(cls, filename: str) -> Dictionary:
        """With the symbol that every backbone has and few files of dictionaries."""
        dictionary = Dictionary.load(filename)
        dictionary.add_symbol("<mask>")
        return dictionary

    @classmethod
    def check_options(cls, cfg: DictConfig) -> None:
        super().check_options(cfg)
        for name in ("n_best", "max_answer_length"):
            if cfg[name] < 1:
                raise UsageError(f"{flag_of(name)} {cfg[name]}: at least 1")

    def load_dataset(self, split: str, combine: bool = False, **kwargs) -> SquadDataset:
        rebuild_batches(self.cfg)
        with one_line_errors():
            self.datasets[split] = load_split(Path(self.cfg.data), split, self.dictionary)
        return self.datasets[split]

    def build_model(self, cfg: DictConfig, from_checkpoint: bool = False) -> BaseFairseqModel:
        with open_dict(cfg) if OmegaConf.is_config(cfg) else nullcontext():
            cfg.max_positions = self.cfg.max_positions
        model = super().build_model(cfg, from_checkpoint)
        with one_line_errors():
            if not isinstance(model, RobertaModel):
                raise UsageError("SQuAD needs an encoder: use --arch sparse_adapter_roberta_* or _bert_*")
        add_span_head(model, self.cfg.classification_head_name)
        freeze_lm_head(model)
        return model

    def valid_step(self, sample: dict, model: BaseFairseqModel, criterion):
        with head_outputs(model, self.cfg.classification_head_name) as seen:
            loss, sample_size, log = super().valid_step(sample, model, criterion)
        if "questions" in sample:
            scores = [
                score(answers[0].text, question.answers)
                for question, answers in zip(sample["questions"], self.answers(sample, seen[0]), strict=True)
            ]
            log["_questions"] = len(scores)
            log["_exact"], log["_f1"] = (sum(column) for column in zip(*scores, strict=True))
        return loss, sample_size, log

    def answers(self, sample: dict, logits: Tensor) -> list[list[Answer]]:
        """The n best answers to each question of a batch.

        Args:
            sample: a batch of a split with questions.
            logits: the head's output, ``(2 * windows, src_len)``.
        """
        logits = logits.view(-1, 2, logits.size(-1)).cpu()
        lengths, answers, start = sample["net_input"]["src_lengths"].tolist(), [], 0
        for question in sample["questions"]:
            own = slice(start, start + question.windows)
            limits = self.cfg.n_best, self.cfg.max_answer_length
            answers.append(best_answers(question, logits[own], lengths[own], sample["chars"][own], *limits))
            start = own.stop
        return answers

    def reduce_metrics(self, logging_outputs: list[dict], criterion) -> None:
        super().reduce_metrics(logging_outputs, criterion)
        if any("_questions" in log for log in logging_outputs):
            for name in ("_questions", "_exact", "_f1"):
                metrics.log_scalar_sum(name, float(sum(log.get(name, 0) for log in logging_outputs)))
            metrics.log_derived("exact_match", lambda meters: _percent(meters, "_exact"))
            metrics.log_derived("f1", lambda meters: _percent(meters, "_f1"))

    def max_positions(self) -> int:
        return self.cfg.max_positions

    @property
    def source_dictionary(self) -> Dictionary:
        return self.dictionary

    @property
    def target_dictionary(self) -> Dictionary:
        return self.dictionary

    @property
    def label_dictionary(self) -> Dictionary:
        """The classes of the criterion: the positions of a window, in order."""
        positions = Dictionary()
        for position in range(self.cfg.max_positions):
            positions.add_symbol(str(position))
        return positions


def _percent(meters, name: str) -> float:
    return 100 * meters[name].sum / max(meters["_questions"].sum, 1)
