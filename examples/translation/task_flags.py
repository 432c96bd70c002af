#!/usr/bin/env python3
"""Print the flags that the data settle for all of fairseq's commands, task and languages.

    python task_flags.py --data DATA --source en --target de

One word a line.
"""

import sys
from pathlib import Path

sys.path.append(str(Path(__file__).parents[1]))  # examples, for preparation

from preparation import DataError, Parser, one_line_errors, recorded  # noqa: E402


def task_flags(data: Path, source: str, target: str) -> list[str]:
    """Task and languages. Data with ``langs`` are for mBART, whose task adds a symbol for each to the dictionary."""
    langs = recorded(data)["settings"]["langs"]
    languages = ["--source-lang", source, "--target-lang", target]
    if not langs:
        return ["--task", "sparse_adapter_translation", *languages]
    for language in (source, target):
        if language not in langs.split(","):
            raise DataError(f"language {language} is not one of LANGS that {data} was prepared with: {langs}")
    return ["--task", "sparse_adapter_translation_from_pretrained_bart", "--langs", langs, *languages]


def main(argv: list[str] | None = None) -> None:
    parser = Parser(__doc__)
    parser.add_argument("--data", type=Path, required=True, help="folder written by prepare.sh")
    parser.add_argument("--source", required=True, help="language")
    parser.add_argument("--target", required=True, help="language")
    args = parser.parse_args(argv)
    with one_line_errors():
        print("\n".join(task_flags(args.data, args.source, args.target)))


if __name__ == "__main__":
    main()
