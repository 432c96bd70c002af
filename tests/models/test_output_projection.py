"""The frozen output projection multiplies in one go."""

import torch
from torch.utils._python_dispatch import TorchDispatchMode


class Products(TorchDispatchMode):
    """Keeps the number of dimensions of every matrix product's first factor."""

    def __init__(self):
        super().__init__()
        self.dims = []

    def __torch_dispatch__(self, operation, types, args=(), kwargs=None):
        if operation in (torch.ops.aten.mm.default, torch.ops.aten.bmm.default):
            self.dims.append(args[0].dim())
        return operation(*args, **(kwargs or {}))


def test_a_frozen_projection_is_one_product_forwards_and_backwards(model):
    features = torch.randn(6, 3, 32, requires_grad=True).transpose(0, 1)  # as the decoder gives it: (batch, len, dim)
    assert not model.decoder.output_projection.weight.requires_grad and not features.is_contiguous()
    with Products() as products:
        model.decoder.output_layer(features).sum().backward()
    assert products.dims == [2, 2]
