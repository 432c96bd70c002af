"""ROUGE of generated summaries in every validation, as fairseq's ``--eval-bleu`` has it for BLEU."""

import difflib
import json
from argparse import Namespace
from dataclasses import dataclass
from functools import partial
from typing import Optional

from fairseq import utils
from fairseq.dataclass import FairseqDataclass
from fairseq.dataclass.configs import GenerationConfig
from fairseq.logging import metrics
from fairseq.models import BaseFairseqModel
from fairseq.sequence_generator import SequenceGenerator
from omegaconf import DictConfig, OmegaConf
from torch import Tensor

from ..errors import UsageError, one_line_errors
from ..rouge import METRICS, WORDS, Rouge
from ..text import KINDS, Codec
from .options import flag
from .prune_at_init import PruneAtInitMixin, end_beam_search


@dataclass
class EvalRougeConfig(FairseqDataclass):
    eval_rouge: bool = flag(
        False,
        "generate in every validation, and report rouge1, rouge2, rougeL and rougeLsum (F1 x 100) against the "
        "references as they were binarised; --bpe, --tokenizer and their options say how symbols become text",
    )
    eval_rouge_args: Optional[str] = flag(
        "{}", 'options of this generation, such as {"beam": 4, "max_len_b": 60}, as JSON'
    )
    eval_rouge_words: str = flag(
        "english", "what a word is made of: english (a to z and digits, stemmed) or unicode (any script, not stemmed)"
    )


class EvalRougeMixin(PruneAtInitMixin):
    """Goes before a fairseq task for translation whose configuration extends ``EvalRougeConfig``."""

    @classmethod
    def check_options(cls, cfg: DictConfig) -> None:
        super().check_options(cfg)
        if cfg.eval_rouge:
            _generation_options(cfg.eval_rouge_args)
            if cfg.eval_rouge_words not in WORDS:
                raise UsageError(f"unknown --eval-rouge-words {cfg.eval_rouge_words!r}; choose {' or '.join(WORDS)}")

    def build_model(self, cfg: DictConfig, from_checkpoint: bool = False) -> BaseFairseqModel:
        model = super().build_model(cfg, from_checkpoint)
        if self.cfg.eval_rouge:
            self._rouge_generator = self.build_generator([model], _generation_options(self.cfg.eval_rouge_args))
            end_beam_search(model)
        return model

    def build_criterion(self, cfg: DictConfig, from_checkpoint: bool = False):
        if self.cfg.eval_rouge:
            with one_line_errors():
                if not isinstance(cfg, DictConfig):
                    raise UsageError(f"--eval-rouge does not go with fairseq's old --criterion {cfg.criterion}")
                self._codec = _codec(cfg._get_root())
            self._rouge = Rouge(self.cfg.eval_rouge_words)
        return super().build_criterion(cfg, from_checkpoint)

    def valid_step(self, sample: dict, model: BaseFairseqModel, criterion):
        loss, sample_size, log = super().valid_step(sample, model, criterion)
        if self.cfg.eval_rouge and sample:
            scores = self._score(self._rouge_generator, sample, model)
            log["_rouge_examples"] = len(scores)
            for metric in METRICS:
                log[f"_{metric}"] = sum(score[metric] for score in scores)
        return loss, sample_size, log

    def _score(self, generator: SequenceGenerator, sample: dict, model: BaseFairseqModel) -> list[dict[str, float]]:
        def text(tokens: Tensor) -> str:
            known = tokens[tokens.ne(self.target_dictionary.unk())]  # no match, which "<unk>" would be to ROUGE
            ignored = generator.symbols_to_strip_from_output
            symbols = self.target_dictionary.string(known.int().cpu(), extra_symbols_to_ignore=ignored)
            return self._codec.decode(symbols)

        scores = []
        generated = self.inference_step(generator, [model], sample, prefix_tokens=None)
        for hypotheses, target in zip(generated, sample["target"], strict=True):
            reference = utils.strip_pad(target, self.target_dictionary.pad())
            scores.append(self._rouge.score(text(hypotheses[0]["tokens"]), text(reference)))
        return scores

    def reduce_metrics(self, logging_outputs: list[dict], criterion) -> None:
        super().reduce_metrics(logging_outputs, criterion)
        if any("_rouge_examples" in log for log in logging_outputs):
            for name in ("rouge_examples", *METRICS):
                metrics.log_scalar_sum(f"_{name}", float(sum(log.get(f"_{name}", 0) for log in logging_outputs)))
            for metric in METRICS:
                metrics.log_derived(metric, partial(_mean, metric=metric))


def _mean(meters, metric: str) -> float:
    return round(meters[f"_{metric}"].sum / max(meters["_rouge_examples"].sum, 1), 4)


def _generation_options(text: str) -> Namespace:
    try:
        options = json.loads(text)
    except json.JSONDecodeError as error:
        raise UsageError(f"--eval-rouge-args {text} is not JSON ({error})") from error
    if not isinstance(options, dict):
        raise UsageError(f'--eval-rouge-args {text} is not an object: {{"beam": 4}}')
    for name in options:
        if name not in (known := GenerationConfig.__dataclass_fields__):
            near = difflib.get_close_matches(name, known, 1)
            raise UsageError(f"--eval-rouge-args: fairseq generates with no {name}" + f"; {near[0]}?" * bool(near))
    return Namespace(**options)


def _codec(cfg: DictConfig) -> Codec:
    """What ``--bpe`` and ``--tokenizer`` of a command say."""
    names, options = {}, {}
    for kind in KINDS:
        if chosen := cfg.get(kind):
            names[kind] = chosen._name
            given = [name for name in chosen if name != "_name" and not OmegaConf.is_missing(chosen, name)]
            options |= {name: chosen[name] for name in given}
    return Codec.build(**names, **options)
