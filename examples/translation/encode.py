#!/usr/bin/env python3
"""Encode standard input with the SentencePiece model of DATA, line by line."""

import argparse
import sys
from pathlib import Path

from pieces import load_models


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, required=True, help="folder written by prepare.sh")
    parser.add_argument("--language", required=True)
    args = parser.parse_args()
    model = load_models(args.data, [args.language])[args.language]
    for line in sys.stdin:
        print(" ".join(model.encode(line.strip(), out_type=str)), flush=True)


if __name__ == "__main__":
    main()
