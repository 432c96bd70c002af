"""ROUGE of generated summaries in every validation, as fairseq's ``--eval-bleu`` has it for BLEU."""

import json
import logging
from argparse import Namespace
from collections.abc import Iterable
from dataclasses import dataclass
from functools import partial
from typing import Optional, get_type_hints

from fairseq.data import Dictionary
from fairseq.dataclass import FairseqDataclass
from fairseq.dataclass.configs import GenerationConfig
from fairseq.logging import metrics
from fairseq.models import BaseFairseqModel
from omegaconf import DictConfig, OmegaConf
from torch import Tensor

from ..errors import UsageError, one_line_errors
from ..rouge import METRICS, WORDS, Rouge, ignored_letters
from ..text import KINDS, Codec
from .options import flag
from .prune_at_init import PruneAtInitMixin, end_beam_search

logger = logging.getLogger(__name__)

# What the generators of all translation tasks of fairseq read; others would be ignored, or be no generation.
GENERATION = (
    *("beam", "max_len_a", "max_len_b", "min_len", "match_source_len", "lenpen", "unkpen", "unnormalized"),
    *("temperature", "no_repeat_ngram_size"),
)


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
        is_trained = self._model is not None and isinstance(cfg, DictConfig)
        with one_line_errors():
            if is_trained:
                _check_best_metric(cfg._get_root().checkpoint, self.cfg.eval_rouge)
            if self.cfg.eval_rouge:
                if not isinstance(cfg, DictConfig):
                    raise UsageError(f"--eval-rouge does not go with fairseq's old --criterion {cfg.criterion}")
                self._scorer = TokenScorer(self.target_dictionary, _codec(cfg._get_root()), self.cfg.eval_rouge_words)
        return super().build_criterion(cfg, from_checkpoint)

    def valid_step(self, sample: dict, model: BaseFairseqModel, criterion):
        loss, sample_size, log = super().valid_step(sample, model, criterion)
        if self.cfg.eval_rouge and sample:
            beams = self.inference_step(self._rouge_generator, [model], sample, prefix_tokens=None)
            hypotheses = [beam[0]["tokens"] for beam in beams]
            ignored = self._rouge_generator.symbols_to_strip_from_output
            scores = self._scorer.score(hypotheses, sample["target"], ignored)
            log["_rouge_examples"] = len(scores)
            for metric in METRICS:
                log[f"_{metric}"] = sum(score[metric] for score in scores)
        return loss, sample_size, log

    def reduce_metrics(self, logging_outputs: list[dict], criterion) -> None:
        super().reduce_metrics(logging_outputs, criterion)
        if any("_rouge_examples" in log for log in logging_outputs):
            for name in ("rouge_examples", *METRICS):
                metrics.log_scalar_sum(f"_{name}", float(sum(log.get(f"_{name}", 0) for log in logging_outputs)))
            for metric in METRICS:
                metrics.log_derived(metric, partial(_mean, metric=metric))


class TokenScorer:
    """ROUGE of symbols in a dictionary.

    Args:
        codec: makes text of them.
        words: what a word is made of, one of ``WORDS``.
    """

    def __init__(self, dictionary: Dictionary, codec: Codec, words: str):
        self._dictionary, self._codec, self._words, self._rouge = dictionary, codec, words, Rouge(words)
        self._said: set[str] = set()
        if codec == Codec():
            logger.warning("--eval-rouge takes the symbols of the data for words: there is no --bpe and no --tokenizer")

    def score(self, hypotheses: Iterable[Tensor], references: Iterable[Tensor], ignored: set[int]) -> list[dict]:
        """Of each pair, F1 x 100 of each of ``METRICS``; ``ignored`` are symbols that are no text."""
        texts = [self._text(reference, ignored) for reference in references]
        if letters := ignored_letters(texts, self._words):
            self._warn_once("%s; --eval-rouge-words unicode counts them", letters)
        pairs = zip(hypotheses, texts, strict=True)
        return [self._rouge.score(self._hypothesis(hypothesis, ignored), text) for hypothesis, text in pairs]

    def _hypothesis(self, tokens: Tensor, ignored: set[int]) -> str:
        try:
            return self._text(tokens, ignored)
        except (ValueError, KeyError) as error:  # a symbol that the BPE does not know, such as madeupword0000
            self._warn_once("a hypothesis is no text, and counts as empty: %s", error)
            return ""

    def _text(self, tokens: Tensor, ignored: set[int]) -> str:
        # Unknown symbols match nothing; "<unk>" would be a word to ROUGE.
        known = tokens[tokens.ne(self._dictionary.unk()) & tokens.ne(self._dictionary.pad())]
        return self._codec.decode(self._dictionary.string(known.int().cpu(), extra_symbols_to_ignore=ignored))

    def _warn_once(self, message: str, detail: object) -> None:
        if message not in self._said:
            logger.warning(message, detail)
            self._said.add(message)


def _mean(meters, metric: str) -> float:
    return round(meters[f"_{metric}"].sum / max(meters["_rouge_examples"].sum, 1), 4)


def _generation_options(text: str) -> Namespace:
    try:
        options = json.loads(text)
    except json.JSONDecodeError as error:
        raise UsageError(f"--eval-rouge-args {text} is not JSON ({error})") from error
    if not isinstance(options, dict):
        raise UsageError(f'--eval-rouge-args {text} is not an object: {{"beam": 4}}')
    kinds = get_type_hints(GenerationConfig)
    for name, value in options.items():
        if name not in GENERATION:
            raise UsageError(f"--eval-rouge-args: there is no {name} here; choose of {', '.join(GENERATION)}")
        kind = kinds[name]
        if not (type(value) is kind or (kind is float and type(value) is int)):
            raise UsageError(f"--eval-rouge-args: {name} {json.dumps(value)} is no {kind.__name__}")
    defaults = {"beam": 5, "max_len_a": 0, "max_len_b": 200, "min_len": 1}
    beam, share, longest, shortest = ((defaults | options)[name] for name in defaults)
    if beam < 1:
        raise UsageError(f"--eval-rouge-args: beam {beam} is less than 1")
    if not share and shortest > longest:
        raise UsageError(f"--eval-rouge-args: min_len {shortest} is more than max_len_b {longest}")
    return Namespace(**options)


def _check_best_metric(cfg: DictConfig, is_reported: bool) -> None:
    """Refuse to choose checkpoints by a ROUGE that is not there, which fairseq notices after an epoch, or is lowest.

    Args:
        cfg: the configuration's section ``checkpoint``.
        is_reported: whether validations report ``METRICS``.

    Raises:
        UsageError: the best checkpoint cannot be told so.
    """
    chosen = f"--best-checkpoint-metric {cfg.best_checkpoint_metric}"
    if not cfg.best_checkpoint_metric.lower().startswith("rouge"):
        return
    if not is_reported:
        raise UsageError(f"{chosen} needs --eval-rouge")
    if cfg.best_checkpoint_metric not in METRICS:
        raise UsageError(f"{chosen} is none of {', '.join(METRICS)}")
    if not cfg.maximize_best_checkpoint_metric:
        raise UsageError(f"{chosen} needs --maximize-best-checkpoint-metric, or the worst would be the best")


def _codec(cfg: DictConfig) -> Codec:
    """What ``--bpe`` and ``--tokenizer`` of a command say."""
    names, options = {}, {}
    for kind in KINDS:
        if isinstance(chosen := cfg.get(kind), str):  # of --bpe characters, in fairseq-validate
            names[kind] = chosen
        elif chosen:
            names[kind] = chosen._name
            given = [name for name in chosen if name != "_name" and not OmegaConf.is_missing(chosen, name)]
            options |= {name: chosen[name] for name in given}
    return Codec.build(**names, **options)
