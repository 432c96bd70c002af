"""Stock fairseq models with adapters; importing a module registers its architectures."""

from . import bart, transformer  # noqa: F401
