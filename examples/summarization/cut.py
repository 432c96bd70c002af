#!/usr/bin/env python3
"""Cut each line of standard input at the tokens that DATA was cut at: fairseq-interactive refuses longer ones."""

import argparse
import logging
import sys
from pathlib import Path

sys.path.append(str(Path(__file__).parents[1]))  # examples, for preparation
logging.disable(logging.INFO)  # fairseq's messages about absent extras

from preparation import BPE_FILES, recorded  # noqa: E402
from sparse_adapter.text import Codec  # noqa: E402


def cut(line: str, codec: Codec, limit: int) -> str:
    """The beginning of ``line`` that has at most ``limit`` tokens, after another encoding, too."""
    line = " ".join(line.split())
    while len(tokens := codec.encode(line).split()) > limit:
        # Of a character that the limit has cut through, byte fallback leaves U+FFFD.
        line = codec.decode(" ".join(tokens[:limit])).rstrip("\ufffd").strip()
    return line


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, required=True, help="folder written by prepare.sh")
    args = parser.parse_args()
    settings = recorded(args.data)["settings"]
    files = {option: str(args.data / name) for option, name in BPE_FILES[settings["bpe"]].items()}
    codec = Codec.build(bpe=settings["bpe"], **files)
    for line in sys.stdin:
        print(cut(line, codec, settings["max_source"] - 1), flush=True)  # the end symbol is the last one


if __name__ == "__main__":
    main()
