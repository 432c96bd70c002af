"""Exact match and F1 of SQuAD v1.1, as its official evaluation script (evaluate-v1.1.py) defines them."""

import re
import string
from collections import Counter
from collections.abc import Iterable

_ARTICLES = re.compile(r"\b(a|an|the)\b")
_PUNCTUATION = str.maketrans("", "", string.punctuation)  # of ASCII only


def normalize(text: str) -> str:
    """Lower case, without punctuation and articles, white space as single spaces."""
    return " ".join(_ARTICLES.sub(" ", text.lower().translate(_PUNCTUATION)).split())


def exact_match(prediction: str, answer: str) -> float:
    return float(normalize(prediction) == normalize(answer))


def f1(prediction: str, answer: str) -> float:
    """Of the words that the two have in common, as often as they have them; 0 if there are none."""
    predicted, wanted = normalize(prediction).split(), normalize(answer).split()
    common = (Counter(predicted) & Counter(wanted)).total()
    return 2 * common / (len(predicted) + len(wanted)) if common else 0.0


def score(prediction: str, answers: Iterable[str]) -> tuple[float, float]:
    """Exact match and F1, 0 to 1, each against the answer that it is best against."""
    answers = list(answers)
    return max(exact_match(prediction, answer) for answer in answers), max(f1(prediction, a) for a in answers)
