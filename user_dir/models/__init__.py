"""Stock fairseq models with adapters; importing a module registers its architectures."""

from . import bart, bert, roberta, transformer  # noqa: F401
