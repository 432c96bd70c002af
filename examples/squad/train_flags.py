#!/usr/bin/env python3
"""Print the flags of fairseq-train that the prepared data and the backbone settle, one word a line."""

import argparse
import filecmp
import json
import sys
from pathlib import Path

sys.path.append(str(Path(__file__).parents[1] / "glue"))

from flags import backbone_flags  # noqa: E402
from sparse_adapter.errors import UsageError, one_line_errors  # noqa: E402


def check(data: Path, backbone: Path, positions: int) -> None:
    """Refuse data that were prepared for another backbone.

    Raises:
        UsageError: they have another dictionary, or longer windows than the backbone has positions.
    """
    dictionary = backbone.with_name("dict.txt")
    if dictionary.is_file() and not filecmp.cmp(dictionary, data / "dict.txt", shallow=False):
        raise UsageError(f"DATA {data} was prepared with another dictionary than {dictionary}: prepare it again")
    length = json.loads((data / "prepare.json").read_text(encoding="utf-8"))["settings"]["max_length"]
    if length > positions:
        raise UsageError(
            f"DATA {data} has windows of up to {length} tokens and {backbone} has {positions} positions: prepare it "
            "with a smaller MAX_LENGTH"
        )


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, required=True, help="folder written by prepare.sh")
    parser.add_argument("--backbone", type=Path, required=True, help="model.pt, with dict.txt beside it")
    args = parser.parse_args(argv)
    with one_line_errors():
        flags = backbone_flags(args.backbone)
        check(args.data, args.backbone, flags["--max-positions"])
    for flag, value in flags.items():
        print(flag, value, sep="\n")


if __name__ == "__main__":
    main()
