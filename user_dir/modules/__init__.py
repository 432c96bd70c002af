"""Building blocks that need only torch: the sparse weight, the linear map and how adapters are named."""

from .fast_dropout import use_fast_dropout
from .materialize import Materializable, materialize_
from .naming import ADAPTER, has_adapters, holds_backbone, is_adapter_key, is_backbone_key, split_adapter_key
from .sparse_linear import SparseLinear
from .sparse_weight import MASK_KEY, SparseWeight, prunable_weights, sparse_weights

__all__ = [
    "ADAPTER", "MASK_KEY", "Materializable", "SparseLinear", "SparseWeight", "has_adapters", "holds_backbone",
    "is_adapter_key", "is_backbone_key", "materialize_", "prunable_weights", "sparse_weights", "split_adapter_key",
    "use_fast_dropout",
]  # fmt: skip
