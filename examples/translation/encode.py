#!/usr/bin/env python3
"""Encode standard input as DATA is, line by line, where fairseq cannot do it itself: its --bpe knows one SentencePiece
model for both languages. Other lines are passed on as they are.

    python encode.py --data DATA --language en < text
    python encode.py --data DATA --flags            # of fairseq's commands that turn symbols into text, one word a line
"""

import argparse
import sys
from pathlib import Path

from pieces import SENTENCEPIECE, load_encoders, text_flags


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="folder written by prepare.sh")
    parser.add_argument("--language", help="of the lines")
    parser.add_argument("--flags", action="store_true", help="print the flags and read nothing")
    args = parser.parse_args()
    flags = text_flags(args.data)
    if args.flags:
        print("\n".join(flags))
        return
    encoders = load_encoders(args.data, [args.language], SENTENCEPIECE, None) if SENTENCEPIECE in flags else {}
    for line in sys.stdin:
        line = line.strip()
        print(" ".join(encoders[args.language](line)) if encoders else line, flush=True)


if __name__ == "__main__":
    main()
