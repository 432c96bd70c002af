"""The training loss over the pruning batches, as the data-driven scores see it.

Everything goes through ``torch.autograd.grad``: no ``.grad`` is ever written, so nothing leaks into the
first optimizer step.
"""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel


class Objective:
    """The sum of the losses of some batches, and over all processes.

    Args:
        losses: one function for each batch of this process; each call computes the batch's summed loss.
        reduce: sums a tensor over the processes, in place; None where there is only one.
        examples: in the batches of this process.
    """

    def __init__(
        self,
        losses: Sequence[Callable[[], Tensor]],
        reduce: Callable[[Tensor], object] | None = None,
        examples: int = 0,
    ):
        self.losses = losses
        self.reduce = reduce
        self.examples = examples

    def size(self, device: torch.device) -> dict[str, int]:
        """Batches and examples, over all processes, which talk through tensors on ``device``."""
        counts = torch.tensor([len(self.losses), self.examples], device=device)
        if self.reduce is not None:
            self.reduce(counts)
        return dict(zip(("batches", "examples"), counts.tolist(), strict=True))

    def gradient(self, weights: Sequence[Tensor]) -> list[Tensor]:
        """``∂L/∂w`` of each weight; zeros where the loss does not depend on it."""
        return self._sum(lambda loss: torch.autograd.grad(loss, weights, allow_unused=True), weights)

    def hessian_vector_product(self, weights: Sequence[Tensor], vectors: Sequence[Tensor]) -> list[Tensor]:
        """``Hv`` = ``∂(v · ∂L/∂w)/∂w``, with ``v`` held constant, by a second backward pass."""

        def product(loss: Tensor) -> Sequence[Tensor | None]:
            gradients = torch.autograd.grad(loss, weights, create_graph=True, allow_unused=True)
            inner = sum((g * v).sum() for g, v in zip(gradients, vectors, strict=True) if g is not None)
            if not torch.is_tensor(inner) or not inner.requires_grad:
                return [None] * len(weights)  # the loss is linear in the weights: no curvature
            return torch.autograd.grad(inner, weights, allow_unused=True)

        with sdpa_kernel(SDPBackend.MATH):  # the fused attention kernels have no second derivative
            return self._sum(product, weights)

    def _sum(self, derivative: Callable[[Tensor], Sequence[Tensor | None]], weights: Sequence[Tensor]) -> list[Tensor]:
        totals = [torch.zeros_like(weight) for weight in weights]
        for loss in self.losses:
            with torch.enable_grad():
                parts = derivative(loss())
            for total, part in zip(totals, parts, strict=True):
                if part is not None:
                    total += part.detach()
        if self.reduce is not None:
            for total in totals:
                self.reduce(total)
        return totals
