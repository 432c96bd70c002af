"""Translation with several adapters over one backbone that is in memory once."""

from .domains import PLAIN
from .translator import Translator

__all__ = ["PLAIN", "Translator"]
