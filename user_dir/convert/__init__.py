"""Models between Hugging Face's transformers and fairseq: their tensors, sizes and vocabularies.

``transformers`` is not needed: its files are JSON, safetensors and text.
"""

from .to_fairseq import convert_to_fairseq
from .to_huggingface import convert_to_huggingface

__all__ = ["convert_to_fairseq", "convert_to_huggingface"]
