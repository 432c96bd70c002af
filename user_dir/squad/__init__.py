"""SQuAD v1.1 (Rajpurkar et al. 2016): windows over contexts, answers from spans, exact match and F1."""

from .answers import Answer, Question, best_answers, best_spans
from .dataset import SquadDataset, load_questions, load_split
from .head import SpanHead, add_span_head
from .metric import exact_match, f1, score

__all__ = [
    "Answer",
    "Question",
    "SpanHead",
    "SquadDataset",
    "add_span_head",
    "best_answers",
    "best_spans",
    "exact_match",
    "f1",
    "load_questions",
    "load_split",
    "score",
]
