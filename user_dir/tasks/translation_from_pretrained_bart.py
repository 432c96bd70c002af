"""Translation with mBART (Liu et al. 2020), with pruning at initialisation.

fairseq's ``translation_from_pretrained_bart`` with a configuration in place of its legacy arguments, without which
fairseq 0.12.3 cannot set it up. A sentence is ``tokens </s> [en_XX]``, and decoding starts with the target language's
symbol. The files of dictionaries have neither these symbols nor ``<mask>``: the task adds them in the order of
``--langs``, which therefore is that of pretraining.
"""

from dataclasses import dataclass
from functools import partial
from typing import Optional

import torch
from fairseq.data import Dictionary, FairseqDataset
from fairseq.tasks import register_task
from fairseq.tasks.translation import TranslationConfig
from fairseq.tasks.translation_from_pretrained_bart import TranslationFromPretrainedBARTTask
from omegaconf import DictConfig
from torch import Tensor

from ..errors import UsageError, one_line_errors
from .eval_rouge import EvalRougeConfig, EvalRougeMixin
from .options import PruneAtInitConfig, flag


@dataclass
class SparseAdapterTranslationFromPretrainedBARTConfig(PruneAtInitConfig, EvalRougeConfig, TranslationConfig):
    langs: Optional[str] = flag(None, "all languages of pretraining in its order, with commas between: ar_AR,cs_CZ,...")
    prepend_bos: bool = flag(False, "begin every sentence with <s>")


@register_task(
    "sparse_adapter_translation_from_pretrained_bart", dataclass=SparseAdapterTranslationFromPretrainedBARTConfig
)
class SparseAdapterTranslationFromPretrainedBARTTask(EvalRougeMixin, TranslationFromPretrainedBARTTask):
    """``translation_from_pretrained_bart`` that prunes the adapters once, before training."""

    cfg: SparseAdapterTranslationFromPretrainedBARTConfig

    def __init__(self, cfg: DictConfig, src_dict: Dictionary, tgt_dict: Dictionary):
        with one_line_errors():
            for language in (cfg.source_lang, cfg.target_lang):  # setup_task may have found them in the data
                _check_language(cfg, language)
        super().__init__(cfg, src_dict, tgt_dict)

    @classmethod
    def add_args(cls, parser) -> None:
        super(TranslationFromPretrainedBARTTask, cls).add_args(parser)  # the stock task's own are legacy

    @classmethod
    def check_options(cls, cfg: DictConfig) -> None:
        super().check_options(cfg)
        if not cfg.langs:
            raise UsageError("--langs is missing: all languages of pretraining in its order, with commas between")
        languages = cfg.langs.split(",")
        if len(set(languages)) < len(languages) or not all(languages):
            raise UsageError(f"--langs {cfg.langs} names a language twice or an empty one")
        for language in (cfg.source_lang, cfg.target_lang):
            if language is not None:
                _check_language(cfg, language)

    @property
    def args(self) -> DictConfig:
        """The name by which the stock task asks for its configuration."""
        return self.cfg

    def _inference_with_bleu(self, generator, sample: dict, model):
        """As the stock task, which counts the language's symbol, at the end of every line, as a word that is right."""
        own, symbol = self.tgt_dict.string, self.tgt_dict.index(f"[{self.cfg.target_lang}]")
        self.tgt_dict.string = partial(own, extra_symbols_to_ignore={symbol})
        try:
            return super()._inference_with_bleu(generator, sample, model)
        finally:
            del self.tgt_dict.string

    def build_dataset_for_inference(
        self, src_tokens: list[Tensor], src_lengths: list[int], constraints: Tensor | None = None
    ) -> FairseqDataset:
        """As the stock task, which forgets ``--prepend-bos`` here, and that its language symbol makes lines longer."""
        if self.cfg.prepend_bos:
            bos = torch.tensor([self.source_dictionary.bos()])
            src_tokens = [torch.cat([bos.to(tokens), tokens]) for tokens in src_tokens]
        lengths = [tokens.numel() + 1 for tokens in src_tokens]
        return super().build_dataset_for_inference(src_tokens, lengths, constraints)


def _check_language(cfg: DictConfig, language: str) -> None:
    if language not in cfg.langs.split(","):
        raise UsageError(f"the language {language} is not among --langs {cfg.langs}: name all those of pretraining")
