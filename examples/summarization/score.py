#!/usr/bin/env python3
"""ROUGE of generated summaries, or of the lead baseline.

    python score.py --data data-bin/xsum --log generate-test.log --save-dir RUN   # what evaluate.sh calls
    python score.py --data data-bin/xsum --lead 1 --save-dir LEAD                 # first sentence of each document

Writes ``hypotheses.txt``, one line for each example in the order of the test file, and ``scores.json``:
F1 x 100 of rouge-score with its stemmer, averaged over the examples. Subsets other than test go to
``hypotheses-valid.txt`` and ``scores-valid.json``. How words and sentences are told: ``user_dir/rouge.py``.
"""

import argparse
import sys
from pathlib import Path

from sparse_adapter.rouge import METRICS, WORDS, Rouge, ignored_letters, sentences
from tabulate import tabulate
from tqdm import tqdm

sys.path.append(str(Path(__file__).parents[1]))  # examples, for hypotheses

from hypotheses import ScoreError, generated, read_lines, write_scores  # noqa: E402


def mean_rouge(hypotheses: list[str], references: list[str], words: str = "english") -> dict[str, float]:
    """Mean F1 x 100 of each metric, and the number of examples ``n``; ``words`` is one of ``WORDS``."""
    rouge = Rouge(words)
    totals = dict.fromkeys(METRICS, 0.0)
    pairs = zip(hypotheses, references, strict=True)
    for hypothesis, reference in tqdm(pairs, "ROUGE", len(references), mininterval=2):
        for metric, value in rouge.score(hypothesis, reference).items():
            totals[metric] += value
    n = len(references)
    return {**{metric: round(total / n, 4) for metric, total in totals.items()}, "n": n}


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
        if ignored := ignored_letters(references, args.words):
            print(f"note: {ignored}; ROUGE_WORDS=unicode counts them", file=sys.stderr)
        scores = mean_rouge(hypotheses, references, args.words)
        scores |= {} if args.words == "english" else {"words": args.words}
        write_scores(args.save_dir, args.subset, hypotheses, scores)
    except (ScoreError, OSError, UnicodeDecodeError) as error:
        sys.exit(f"error: {' '.join(str(error).split())}")
    print(tabulate([scores], headers="keys", floatfmt=".2f", tablefmt="github"))


if __name__ == "__main__":
    main()
