"""From logits of start and end to answers: the best spans of all windows of a question, as text of its context."""

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional


@dataclass(frozen=True)
class Question:
    """A question of the set, its context, and the answers to compare with."""

    id: str
    context: str
    answers: tuple[str, ...]
    windows: int  # how many the context was cut into


@dataclass(frozen=True)
class Answer:
    """``context[start:end]``, and log p(start) + log p(end) in its window."""

    text: str
    score: float
    start: int = 0
    end: int = 0


def best_spans(logits: Tensor, n_best: int, max_length: int) -> tuple[Tensor, Tensor, Tensor]:
    """The most probable spans of each window, of all that are at most ``max_length`` tokens long.

    Position 0, no answer in this window, takes part in the distributions and is no span. Windows thus compare: one
    that points to 0 leaves little to its spans.

    Args:
        logits: of start and end, ``(windows, 2, src_len)``.
        n_best: spans of each window; fewer if there are not that many.
        max_length: in tokens.

    Returns:
        Log-probabilities, first and last positions, each ``(windows, n_best)``. A log-probability of -inf is no span.
    """
    starts, ends = functional.log_softmax(logits.float(), dim=-1).unbind(1)
    starts[:, 0] = -torch.inf
    ends = functional.pad(ends, (0, max_length - 1), value=-torch.inf).unfold(1, max_length, 1)
    scores = (starts.unsqueeze(2) + ends).flatten(1)  # (windows, src_len, max_length)
    scores, spans = scores.topk(min(n_best, scores.size(1)), dim=1)
    first = spans // max_length
    return scores, first, first + spans % max_length


def best_answers(
    question: Question, logits: Tensor, lengths: list[int], chars: list[np.ndarray], n_best: int, max_length: int
) -> list[Answer]:
    """The best answers over all windows of a question, the best one first.

    Args:
        question: says what its context is.
        logits: of its windows, ``(windows, 2, src_len)``.
        lengths: tokens of each window; the last one is its end symbol.
        chars: for each window, start and end in the context's characters of its tokens of context, ``(tokens, 2)``.
        n_best: number of answers; fewer if there are not that many, and at least one, which may be empty.
        max_length: of an answer, in tokens.
    """
    found: dict[tuple[int, int], float] = {}
    columns = (column.tolist() for column in best_spans(logits, n_best, max_length))
    for *spans, length, offsets in zip(*columns, lengths, chars, strict=True):
        before = length - 1 - len(offsets)  # tokens before the context
        for score, first, last in zip(*spans, strict=True):
            if score > -float("inf"):
                start, end = int(offsets[first - before, 0]), int(offsets[last - before, 1])
                text = question.context[start:end]
                if bare := text.strip():  # byte-level BPE has tokens of white space
                    start += text.index(bare)
                    place = (start, start + len(bare))
                    found[place] = max(score, found.get(place, score))
    best = sorted(found.items(), key=lambda item: (-item[1], item[0]))[:n_best]
    answers = [Answer(question.context[start:end], score, start, end) for (start, end), score in best]
    return answers or [Answer("", -float("inf"))]
