"""What tells whether tensors are the same as others, in other files and at other times."""

import hashlib
from collections.abc import Iterable

import torch
from torch import Tensor


def fingerprint(tensors: Iterable[tuple[str, Tensor]]) -> str:
    """SHA-256 of the names, shapes and float32 values of ``tensors``, whatever their order."""
    digest = hashlib.sha256()
    for name, value in sorted(tensors, key=lambda item: item[0]):
        digest.update(f"{name} {tuple(value.shape)}\n".encode())
        digest.update(value.detach().cpu().to(torch.float32).contiguous().numpy())
    return digest.hexdigest()
