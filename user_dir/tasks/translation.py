"""fairseq's translation task with pruning at initialisation: machine translation and summarisation."""

from dataclasses import dataclass

from fairseq.tasks import register_task
from fairseq.tasks.translation import TranslationConfig, TranslationTask

from .eval_rouge import EvalRougeConfig, EvalRougeMixin
from .options import PruneAtInitConfig


@dataclass
class SparseAdapterTranslationConfig(PruneAtInitConfig, EvalRougeConfig, TranslationConfig):
    pass


@register_task("sparse_adapter_translation", dataclass=SparseAdapterTranslationConfig)
class SparseAdapterTranslationTask(EvalRougeMixin, TranslationTask):
    """``translation`` that prunes the adapters once, before training."""

    cfg: SparseAdapterTranslationConfig
