"""Dropout for CPUs, where torch's own draws 64 random bits for each value, one after the other.

That is a seventh of MiniLM's training on RTE (torch 2.13's profiler). Here, 64 bits decide on four values.
"""

import torch
from torch import Tensor

LEVELS = 2**16  # of a probability

_library: torch.library.Library | None = None  # what it holds is in force for as long as it lives


class _FastDropout(torch.autograd.Function):
    @staticmethod
    def forward(ctx, values: Tensor, dropped: int) -> Tensor:
        bits = torch.empty(-(-values.numel() // 4), dtype=torch.int64).random_(torch.iinfo(torch.int64).min, None)
        words = bits.view(torch.int16)[: values.numel()].view(values.shape)
        ctx.factors = (words >= dropped - LEVELS // 2).to(values.dtype).mul_(LEVELS / (LEVELS - dropped))
        return values * ctx.factors

    @staticmethod
    def backward(ctx, gradient: Tensor) -> tuple[Tensor, None]:
        return gradient * ctx.factors, None


def fast_dropout(values: Tensor, p: float, train: bool = True) -> Tensor:
    """``torch.nn.functional.dropout`` on a CPU with random numbers of 16 bits.

    Args:
        values: of any shape and floating type.
        p: probability of a value to become 0, of which the nearest multiple of 2^-16 is taken. The others are divided
            by what that leaves, so the expectation is the value.
        train: otherwise, values stay as they are.

    Returns:
        A tensor of the same shape and type, whose random numbers are those of torch's default generator.
    """
    dropped = round(p * LEVELS)
    if not train or dropped == 0:
        return values
    if dropped == LEVELS:
        return values * 0
    return _FastDropout.apply(values, dropped)


def use_fast_dropout(fast: bool = True) -> None:
    """Have torch's dropout on CPUs be ``fast_dropout``, that of attention too, or its own again; in place, it stays."""
    global _library
    if fast and _library is None:
        _library = torch.library.Library("aten", "IMPL")
        _library.impl("dropout", fast_dropout, "AutogradCPU")
    elif not fast:
        _library = None
