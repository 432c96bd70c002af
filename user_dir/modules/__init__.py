"""Building blocks that need only torch: the sparse weight, the linear map and how adapters are named."""

from .naming import ADAPTER, is_adapter_key, split_adapter_key
from .sparse_linear import SparseLinear
from .sparse_weight import MASK_KEY, SparseWeight, sparse_weights

__all__ = [
    "ADAPTER", "MASK_KEY", "SparseLinear", "SparseWeight", "is_adapter_key", "sparse_weights", "split_adapter_key",
]  # fmt: skip
