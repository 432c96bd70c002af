"""Products with frozen matrices are computed in one go."""

import torch
from torch.utils._python_dispatch import TorchDispatchMode

PRODUCTS = (torch.ops.aten.mm.default, torch.ops.aten.addmm.default, torch.ops.aten.bmm.default)


class Products(TorchDispatchMode):
    """Counts the matrix products, and those of one matrix that is repeated for every part of a batch."""

    def __init__(self):
        super().__init__()
        self.count = self.repeated = 0

    def __torch_dispatch__(self, operation, types, args=(), kwargs=None):
        if operation in PRODUCTS:
            self.count += 1
            self.repeated += any(factor.dim() == 3 and factor.stride(0) == 0 for factor in args[-2:])
        return operation(*args, **(kwargs or {}))


def test_a_frozen_model_repeats_no_matrix_forwards_or_backwards(model, batch):
    assert not model.decoder.output_projection.weight.requires_grad
    with Products() as products:
        model.train()(**batch["net_input"])[0].sum().backward()
    assert products.count > 100
    assert products.repeated == 0
