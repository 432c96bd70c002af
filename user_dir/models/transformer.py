"""fairseq's plain Transformer (Vaswani et al. 2017) with adapters."""

from fairseq.models import register_model
from fairseq.models.transformer import TransformerModel

from .adapter_model import AdapterModelMixin
from .architectures import register_sizes


@register_model("sparse_adapter_transformer")
class SparseAdapterTransformerModel(AdapterModelMixin, TransformerModel):
    """A Transformer for translation with a frozen backbone and adapters."""


register_sizes("transformer")
