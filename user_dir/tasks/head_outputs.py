"""What a classification head computes while a criterion runs, which returns a loss and keeps the logits to itself."""

from collections.abc import Iterator
from contextlib import contextmanager

from fairseq.models import BaseFairseqModel
from torch import Tensor


@contextmanager
def head_outputs(model: BaseFairseqModel, name: str) -> Iterator[list[Tensor]]:
    """The outputs of the head, detached, one for each of its calls inside."""
    seen: list[Tensor] = []
    head = model.classification_heads[name]
    handle = head.register_forward_hook(lambda module, args, output: seen.append(output.detach()))
    try:
        yield seen
    finally:
        handle.remove()
