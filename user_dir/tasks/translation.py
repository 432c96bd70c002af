"""fairseq's translation task with pruning at initialisation: machine translation and summarisation."""

from dataclasses import dataclass

from fairseq.tasks import register_task
from fairseq.tasks.translation import TranslationConfig, TranslationTask

from .options import PruneAtInitConfig
from .prune_at_init import PruneAtInitMixin


@dataclass
class SparseAdapterTranslationConfig(PruneAtInitConfig, TranslationConfig):
    pass


@register_task("sparse_adapter_translation", dataclass=SparseAdapterTranslationConfig)
class SparseAdapterTranslationTask(PruneAtInitMixin, TranslationTask):
    """``translation`` that prunes the adapters once, before training."""

    cfg: SparseAdapterTranslationConfig
