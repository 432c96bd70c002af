"""Stock fairseq tasks with the prune-at-init hook; importing a module registers its tasks."""

from . import sentence_prediction, squad, translation, translation_from_pretrained_bart  # noqa: F401
