"""Heads of encoders: what a classification head computes, and the head of pretraining, which computes nothing."""

from collections.abc import Iterator
from contextlib import contextmanager

from fairseq.models import BaseFairseqModel
from torch import Tensor


def freeze_lm_head(model: BaseFairseqModel) -> None:
    """The masked language model's head is in no loss here, and DDP waits for ever for gradients of what trains.

    Its matrix is that of the embeddings, unless --untie-weights-roberta, and trains on with them.
    """
    lm_head = getattr(model.encoder, "lm_head", None)
    if lm_head is None:
        return
    used = {id(parameter) for parameter in model.encoder.sentence_encoder.parameters()}
    for parameter in lm_head.parameters():
        if id(parameter) not in used:
            parameter.requires_grad_(False)


@contextmanager
def head_outputs(model: BaseFairseqModel, name: str) -> Iterator[list[Tensor]]:
    """The outputs of the head, detached, one for each of its calls inside. A criterion keeps the logits to itself."""
    seen: list[Tensor] = []
    head = model.classification_heads[name]
    handle = head.register_forward_hook(lambda module, args, output: seen.append(output.detach()))
    try:
        yield seen
    finally:
        handle.remove()
