#!/usr/bin/env python3
"""ROUGE of generated summaries, or of the lead baseline.

    python score.py --data data-bin/xsum --log generate-test.log --save-dir RUN   # what evaluate.sh calls
    python score.py --data data-bin/xsum --lead 1 --save-dir LEAD                 # first sentence of each document

Writes ``hypotheses.txt``, one line for each example in the order of the test file, and ``scores.json``:
F1 x 100 of rouge-score with its stemmer, averaged over the examples. Subsets other than test go to
``hypotheses-valid.txt`` and ``scores-valid.json``. ROUGE-Lsum compares sentence by sentence, which
``sentences`` finds; for one-sentence summaries it equals ROUGE-L.

The words of rouge-score are made of a to z and digits. For languages that are written otherwise, ``--words unicode``
takes all letters, marks and digits, Chinese and Japanese ones one by one, and no stemmer.
"""

import argparse
import re
import sys
import unicodedata
from pathlib import Path

from rouge_score.rouge_scorer import RougeScorer
from rouge_score.tokenizers import Tokenizer
from tabulate import tabulate
from tqdm import tqdm

sys.path.append(str(Path(__file__).parents[1]))  # examples, for hypotheses

from hypotheses import ScoreError, generated, read_lines, write_scores  # noqa: E402

METRICS = ("rouge1", "rouge2", "rougeL", "rougeLsum")
# The end of a sentence: a mark, closing quotes or brackets, white space, and a start that is not lower case.
_SENTENCE_END = re.compile(r"[.!?…][\"'”’)\]]*\s+(?=[\"'“‘(\[]*[^\W_a-z])")
# Words that a full stop often follows inside a sentence, and initials.
_ABBREVIATION = re.compile(
    r"(?:^|[\s(\"'“‘])(?:Mr|Mrs|Ms|Dr|Prof|Sen|Rep|Gov|Gen|Lt|Col|Sgt|St|Jr|No|vs|e\.g|i\.e|[A-Z])$"
)


_UNSPACED = re.compile(r"([\u3040-\u30ff\u3400-\u9fff\uf900-\ufaff\U00020000-\U0003ffff])")
WORDS = ("english", "unicode")


class UnicodeWords(Tokenizer):
    def tokenize(self, text: str) -> list[str]:
        text = "".join(x if unicodedata.category(x)[0] in "LMN" else " " for x in text.lower())
        return _UNSPACED.sub(r" \1 ", text).split()


def sentences(text: str) -> list[str]:
    """Split at ``.``, ``!``, ``?`` before white space and a capital or digit, but not after ``Mr.`` and the like."""
    parts, start = [], 0
    for end in _SENTENCE_END.finditer(text):
        if not (text[end.start()] == "." and _ABBREVIATION.search(text, start, end.start())):
            parts.append(text[start : end.end()].strip())
            start = end.end()
    return [*parts, text[start:].strip()]


def foreign_share(texts: list[str]) -> float:
    """Of the letters, those that are none to rouge-score."""
    letters = foreign = 0
    for text in texts:
        alphabetic = [x for x in text if x.isalpha()]
        letters, foreign = letters + len(alphabetic), foreign + sum(not x.isascii() for x in alphabetic)
    return foreign / max(letters, 1)


def rouge(hypotheses: list[str], references: list[str], words: str = "english") -> dict[str, float]:
    """Mean F1 x 100 of each metric, and the number of examples ``n``; ``words`` is one of ``WORDS``."""
    scorer = RougeScorer(METRICS, use_stemmer=True, tokenizer=UnicodeWords() if words == "unicode" else None)
    totals = dict.fromkeys(METRICS, 0.0)
    pairs = zip(hypotheses, references, strict=True)
    for hypothesis, reference in tqdm(pairs, "ROUGE", len(references), mininterval=2):
        scores = scorer.score("\n".join(sentences(reference)), "\n".join(sentences(hypothesis)))
        for metric in METRICS:
            totals[metric] += scores[metric].fmeasure
    n = len(references)
    return {**{metric: round(100 * total / n, 4) for metric, total in totals.items()}, "n": n}


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="folder written by prepare.sh")
    parser.add_argument("--subset", default="test", help="test or valid (default: test)")
    parser.add_argument("--save-dir", type=Path, required=True, help="folder for hypotheses.txt and scores.json")
    parser.add_argument("--words", choices=WORDS, default="english", help="what a word is made of (default: english)")
    what = parser.add_mutually_exclusive_group(required=True)
    what.add_argument("--log", type=Path, help="output of fairseq-generate")
    what.add_argument("--lead", type=int, metavar="N", help="score the first N sentences of each document instead")
    args = parser.parse_args(argv)

    try:
        references = read_lines(args.data / f"{args.subset}.summary.txt")
        if args.log:
            hypotheses = generated(args.log, len(references))
        elif args.lead < 1:
            raise ScoreError(f"--lead {args.lead}: at least one sentence is needed")
        else:
            documents = read_lines(args.data / f"{args.subset}.document.txt")
            if len(documents) != len(references):
                raise ScoreError(
                    f"{args.data} has {len(documents)} documents and {len(references)} summaries; prepare it again"
                )
            hypotheses = [" ".join(sentences(document)[: args.lead]) for document in documents]
        if args.words == "english" and (share := foreign_share(references)) > 0.01:
            print(f"note: ROUGE ignores {share:.0%} of the letters; ROUGE_WORDS=unicode counts them", file=sys.stderr)
        scores = rouge(hypotheses, references, args.words)
        scores |= {} if args.words == "english" else {"words": args.words}
        write_scores(args.save_dir, args.subset, hypotheses, scores)
    except (ScoreError, OSError, UnicodeDecodeError) as error:
        sys.exit(f"error: {' '.join(str(error).split())}")
    print(tabulate([scores], headers="keys", floatfmt=".2f", tablefmt="github"))


if __name__ == "__main__":
    main()
