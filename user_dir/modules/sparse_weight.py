"""The sparse weight primitive: dense until it is pruned, compact storage of the survivors afterwards.

After pruning, the trainable parameter is a 1-D tensor of the surviving values, so that the number of
trained parameters, the optimizer state, the gradient traffic and the checkpoint shrink with the sparsity:
``w = m ⊙ w`` of He et al. (2022), SparseAdapter, §2.1, stored without the zeros.
"""

from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor, nn

from .materialize import Materializable

# The key names the format, and it contains "version" because fairseq's EMA averages every other tensor of a
# state dict as floats.
MASK_KEY = "mask_version_1"
# fairseq averages checkpoints by summing them and dividing; 58 of 64 bits leave room for a sum of 32.
WORD_BITS = 58


def pack_mask(mask: Tensor) -> Tensor:
    """Bits of a boolean tensor of any shape, row-major, ``WORD_BITS`` in each element of a 1-D int64 tensor."""
    bits = np.zeros((-(-mask.numel() // WORD_BITS), 64), dtype=bool)
    bits[:, -WORD_BITS:].flat[: mask.numel()] = mask.cpu().numpy().ravel()
    return torch.from_numpy(np.packbits(bits, axis=1).view(">i8").astype(np.int64).ravel())


def unpack_mask(packed: Tensor, shape: torch.Size) -> Tensor:
    """The boolean tensor of ``shape`` that ``packed`` came from.

    Raises:
        ValueError: ``packed`` has not the length that ``shape`` needs.
    """
    if packed.numel() != -(-shape.numel() // WORD_BITS):
        raise ValueError(f"a mask of {packed.numel()} words does not fit a weight of shape {tuple(shape)}")
    words = packed.cpu().numpy().astype(">i8").view(np.uint8).reshape(-1, 8)
    bits = np.unpackbits(words, axis=1)[:, -WORD_BITS:].ravel()
    return torch.from_numpy(bits[: shape.numel()].astype(bool)).view(shape)


class SparseWeight(Materializable):
    """A prunable weight matrix. Calling it gives the weight as a dense tensor of ``shape``.

    Args:
        shape: shape of the dense weight, ``(out_dim, in_dim)`` for a linear map.
        init: initialises the dense weight in place.
        unit_dim: the dimension of ``shape`` that runs over the bottleneck's units (or the rank, or the
            prefix positions); None where there is no such dimension.

    State dict: ``values`` (dense ``shape``, or 1-D survivors in row-major order) and, once pruned,
    the bit-packed mask. A module in either form loads a state dict in either form: a compact state
    makes it compact, and a dense state fills in the survivors of a compact module.
    """

    def __init__(self, *shape: int, init: Callable[[Tensor], object], unit_dim: int | None = None):
        super().__init__()
        self.shape = torch.Size(shape)
        self.unit_dim = unit_dim
        self.values = nn.Parameter(torch.empty(self.shape))
        init(self.values.data)
        self.register_buffer(MASK_KEY, None)
        self.register_buffer("indices", None, persistent=False)  # flat positions of the survivors
        self.register_buffer("materialized", None, persistent=False)

    @property
    def is_compact(self) -> bool:
        return self.indices is not None

    @property
    def total(self) -> int:
        """Number of elements of the dense weight."""
        return self.shape.numel()

    @property
    def kept(self) -> int:
        """Number of elements that are left, which is the number of trained parameters."""
        return self.values.numel()

    def mask(self) -> Tensor:
        """Boolean tensor of ``shape``, on the CPU: True where a weight is left."""
        if not self.is_compact:
            return torch.ones(self.shape, dtype=torch.bool)
        return unpack_mask(getattr(self, MASK_KEY), self.shape)

    def prune_(self, mask: Tensor) -> None:
        """Keep the weights where ``mask`` (boolean, of ``shape``) is True and forget the others.

        This replaces the parameter ``values``: call it before an optimizer or DDP holds the parameter.

        Raises:
            ValueError: ``mask`` has another shape, or keeps a weight that was pruned before.
        """
        if mask.shape != self.shape:
            raise ValueError(f"mask of shape {tuple(mask.shape)} for a weight of shape {tuple(self.shape)}")
        mask = mask.to("cpu", torch.bool)
        if bool((mask & ~self.mask()).any()):
            raise ValueError("the mask keeps weights that were pruned before; pruning only removes")
        survivors = self().detach().flatten()[mask.flatten().to(self.values.device)]
        self._become_compact(mask)
        self.values.data = survivors

    @torch.no_grad()
    def become_dense_(self) -> None:
        """Put zeros where weights were pruned and forget the mask. Replaces the parameter ``values``."""
        if self.is_compact:
            self.values = nn.Parameter(self._scatter(), requires_grad=self.values.requires_grad)
            setattr(self, MASK_KEY, None)
            self.indices = self.materialized = None

    def materialize_(self) -> None:
        """Make the weight dense once, for inference."""
        if self.is_compact:
            self.materialized = self._scatter().detach()

    def dematerialize_(self) -> None:
        self.materialized = None

    def forward(self) -> Tensor:
        if not self.is_compact:
            return self.values
        return self.materialized if self.materialized is not None else self._scatter()

    def extra_repr(self) -> str:
        return f"{tuple(self.shape)}, kept={self.kept} of {self.total}"

    def _scatter(self) -> Tensor:
        # index_add_ is the scatter that takes 32-bit indices; its backward is one gather, no sync. Out of place, it
        # would copy the zeros first.
        return self.values.new_zeros(self.total).index_add_(0, self.indices, self.values).view(self.shape)

    def _become_compact(self, mask: Tensor) -> None:
        device = self.values.device
        indices = mask.flatten().nonzero().flatten()
        requires_grad = self.values.requires_grad
        setattr(self, MASK_KEY, pack_mask(mask).to(device))
        self.indices = indices.to(device, torch.int32 if self.total < 2**31 else torch.int64)
        self.values = nn.Parameter(self.values.new_empty(indices.numel()), requires_grad=requires_grad)
        self.materialized = None

    def _load_from_state_dict(self, state_dict, prefix, *args):
        values = state_dict.get(prefix + "values")
        packed = state_dict.get(prefix + MASK_KEY)
        if packed is not None:
            try:
                mask = unpack_mask(packed, self.shape)
            except ValueError as error:
                error_msgs = args[-1]  # which load_state_dict raises together
                error_msgs.append(f"{prefix}{MASK_KEY}: {error}")
                return
            if not self.is_compact or not torch.equal(mask, self.mask()):
                self._become_compact(mask)
        elif self.is_compact and values is not None and values.shape == self.shape:
            survivors = values.flatten()[self.indices.to(values.device)]
            state_dict = {prefix + "values": survivors, prefix + MASK_KEY: getattr(self, MASK_KEY)}
        super()._load_from_state_dict(state_dict, prefix, *args)


def sparse_weights(module: nn.Module) -> dict[str, SparseWeight]:
    """All sparse weights below ``module`` by name, in the order of ``named_modules``."""
    return {name: child for name, child in module.named_modules() if isinstance(child, SparseWeight)}


def prunable_weights(module: nn.Module) -> dict[str, SparseWeight]:
    """The sparse weights that are trained: those of frozen adapters, as in AdapterFusion, were pruned before."""
    return {name: weight for name, weight in sparse_weights(module).items() if weight.values.requires_grad}
