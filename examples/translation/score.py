#!/usr/bin/env python3
"""BLEU and chrF of translations, by sacrebleu.

    python score.py --references test.de --log generate-test.log --save-dir RUN     # what evaluate.sh calls

Writes ``hypotheses.txt``, one line for each reference, and ``scores.json``: both scores x 100 over the whole set, each
with its signature. Subsets other than test go to ``hypotheses-SUBSET.txt`` and ``scores-SUBSET.json``.
"""

import argparse
import re
import sys
from pathlib import Path

from sacrebleu.metrics import BLEU, CHRF
from tabulate import tabulate

sys.path.append(str(Path(__file__).parents[1]))  # examples, for hypotheses

from hypotheses import ScoreError, generated, read_lines, write_scores  # noqa: E402

# ISO 639-3 of what sacrebleu has tokenizers for, and codes of languages without spaces that it has none for.
TOKENIZED = {"zho": "zh", "cmn": "zh", "yue": "zh", "jpn": "ja", "kor": "ko"}
UNSPACED = {"bo", "bod", "dz", "dzo", "km", "khm", "lo", "lao", "my", "mya", "th", "tha"}


def score(hypotheses: list[str], references: list[str], language: str = "") -> dict:
    """BLEU and chrF with sacrebleu's defaults, their signatures, and the number of sentences ``n``.

    Args:
        language: of the references: ``de``, ``de_DE``, ``zh-CN`` or ``zho_Hans``. Chinese, Japanese and Korean have
            tokenizers of their own, and Burmese, Dzongkha, Khmer, Lao, Thai and Tibetan are scored by character: the
            default one would take a sentence for a word.

    Raises:
        ScoreError: the language's tokenizer is not installed.
    """
    scores: dict = {}
    try:
        code = re.split("[-_]", language.lower())[0]
        bleu = BLEU(tokenize="char") if code in UNSPACED else BLEU(trg_lang=TOKENIZED.get(code, code))
    except (ImportError, RuntimeError) as error:
        raise ScoreError(f"BLEU of {language}: {error}") from error
    for name, metric in (("bleu", bleu), ("chrf", CHRF())):
        scores[name] = round(metric.corpus_score(hypotheses, [references]).score, 4)
        scores[f"{name}_signature"] = str(metric.get_signature())
    return scores | {"n": len(references)}


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--references", type=Path, required=True, help="raw text of prepare.sh, one sentence a line")
    parser.add_argument("--log", type=Path, required=True, help="output of fairseq-generate")
    parser.add_argument("--save-dir", type=Path, required=True, help="folder for hypotheses.txt and scores.json")
    parser.add_argument("--language", default="", help="of the references, for BLEU's tokenizer")
    parser.add_argument("--subset", default="test", help="test or valid (default: test)")
    args = parser.parse_args(argv)
    try:
        references = read_lines(args.references)
        hypotheses = generated(args.log, len(references))
        scores = score(hypotheses, references, args.language)
        write_scores(args.save_dir, args.subset, hypotheses, scores)
    except (ScoreError, OSError, UnicodeDecodeError) as error:
        sys.exit(f"error: {' '.join(str(error).split())}")
    print(tabulate([[scores["bleu"], scores["chrf"], scores["n"]]], ["BLEU", "chrF", "n"], "github", floatfmt=".2f"))


if __name__ == "__main__":
    main()
