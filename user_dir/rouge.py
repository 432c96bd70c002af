"""ROUGE (Lin 2004) by rouge-score, with its stemmer, for any language.

The words of rouge-score are made of a to z and digits. For languages that are written otherwise there are the words
``unicode``: all letters, marks and digits, Chinese and Japanese ones one by one, and no stemmer. ROUGE-Lsum compares
sentence by sentence, which ``sentences`` finds; for one-sentence summaries it equals ROUGE-L.
"""

import re
import unicodedata

from rouge_score.rouge_scorer import RougeScorer
from rouge_score.tokenizers import Tokenizer

METRICS = ("rouge1", "rouge2", "rougeL", "rougeLsum")
WORDS = ("english", "unicode")
# The end of a sentence: a mark, closing quotes or brackets, white space, and a start that is not lower case.
_SENTENCE_END = re.compile(r"[.!?…][\"'”’)\]]*\s+(?=[\"'“‘(\[]*[^\W_a-z])")
# Words that a full stop often follows inside a sentence, and initials.
_ABBREVIATION = re.compile(
    r"(?:^|[\s(\"'“‘])(?:Mr|Mrs|Ms|Dr|Prof|Sen|Rep|Gov|Gen|Lt|Col|Sgt|St|Jr|No|vs|e\.g|i\.e|[A-Z])$"
)
_UNSPACED = re.compile(r"([\u3040-\u30ff\u3400-\u9fff\uf900-\ufaff\U00020000-\U0003ffff])")


class UnicodeWords(Tokenizer):
    def tokenize(self, text: str) -> list[str]:
        text = "".join(x if unicodedata.category(x)[0] in "LMN" else " " for x in text.lower())
        return _UNSPACED.sub(r" \1 ", text).split()


class Rouge:
    """Scores of a hypothesis; ``words`` is one of ``WORDS``."""

    def __init__(self, words: str = "english"):
        tokenizer = UnicodeWords() if words == "unicode" else None
        self._scorer = RougeScorer(METRICS, use_stemmer=True, tokenizer=tokenizer)

    def score(self, hypothesis: str, reference: str) -> dict[str, float]:
        """F1 x 100 of each of ``METRICS``."""
        scores = self._scorer.score("\n".join(sentences(reference)), "\n".join(sentences(hypothesis)))
        return {metric: 100 * scores[metric].fmeasure for metric in METRICS}


def sentences(text: str) -> list[str]:
    """Split at ``.``, ``!``, ``?`` before white space and a capital or digit, but not after ``Mr.`` and the like."""
    parts, start = [], 0
    for end in _SENTENCE_END.finditer(text):
        if not (text[end.start()] == "." and _ABBREVIATION.search(text, start, end.start())):
            parts.append(text[start : end.end()].strip())
            start = end.end()
    return [*parts, text[start:].strip()]


def ignored_letters(texts: list[str], words: str = "english") -> str | None:
    """What to say where the words, one of ``WORDS``, leave out more than 1 % of the letters."""
    if words != "english":
        return None
    letters = foreign = 0
    for text in texts:
        alphabetic = [x for x in text if x.isalpha()]
        letters, foreign = letters + len(alphabetic), foreign + sum(not x.isascii() for x in alphabetic)
    share = foreign / max(letters, 1)
    return f"ROUGE ignores {share:.0%} of the references' letters" if share > 0.01 else None
