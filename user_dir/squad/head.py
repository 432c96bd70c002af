"""The head of extractive question answering: where in its window an answer starts and where it ends.

It is a classification head to fairseq, so that its ``sentence_prediction`` criterion trains it as it is: the
positions of a window are the classes, and every window is classified twice.
"""

import torch
from fairseq.models.roberta import RobertaModel
from fairseq.models.roberta.model import RobertaClassificationHead
from torch import Tensor, nn


class SpanHead(RobertaClassificationHead):
    """RobertaClassificationHead at every position instead of the first, with the classes start and end.

    ``dense`` and ``out_proj`` are named as fairseq expects them of a head in a checkpoint
    (``RobertaModel.upgrade_state_dict_named``).

    Args:
        embed_dim: of the encoder.
        activation_fn: between the two layers, by fairseq's name.
        dropout: before each of them.
        eos: index of the symbol that separates question and context and ends the window.
    """

    def __init__(self, embed_dim: int, activation_fn: str, dropout: float, eos: int):
        super().__init__(embed_dim, embed_dim, 2, activation_fn, dropout)
        self.eos = eos
        self._tokens: Tensor | None = None

    def read_tokens(self, encoder: nn.Module, args: tuple) -> None:
        """A forward pre-hook of the encoder: the tokens say where an answer can be."""
        self._tokens = args[0]

    def forward(self, features: Tensor, **kwargs) -> Tensor:
        """Logits of the start and the end of the answer, -inf where no answer can be.

        Args:
            features: ``(batch, src_len, embed_dim)``.

        Returns:
            ``(2 * batch, src_len)``: the start of the first window, its end, the start of the second, ...
        """
        tokens, self._tokens = self._tokens, None
        x = self.dropout(self.activation_fn(self.dense(self.dropout(features))))
        logits = self.out_proj(x).transpose(1, 2)
        return logits.masked_fill(~answerable(tokens, self.eos).unsqueeze(1), -torch.inf).flatten(0, 1)


def answerable(tokens: Tensor, eos: int) -> Tensor:
    """Where an answer can start or end: in the context, and at 0, which means that it is not in this window.

    Args:
        tokens: ``(batch, src_len)``, each row the question, one or two ``eos``, the context, ``eos`` and padding.
    """
    separators = tokens == eos
    still_to_come = separators.flip(1).cumsum(1).flip(1)
    mask = (still_to_come == 1) & ~separators
    mask[:, 0] = True
    return mask


def add_span_head(model: RobertaModel, name: str) -> None:
    """Register a span head as ``model.classification_heads[name]``."""
    args, dictionary = model.args, model.encoder.dictionary
    head = SpanHead(args.encoder_embed_dim, args.pooler_activation_fn, args.pooler_dropout, dictionary.eos())
    model.classification_heads[name] = head
    model.encoder.register_forward_pre_hook(head.read_tokens)  # a bound method: copies of the model have their own
