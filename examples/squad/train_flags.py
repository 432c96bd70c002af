#!/usr/bin/env python3
"""Print the flags of fairseq-train that the data, the backbone and the machine settle, one word a line."""

import sys
from pathlib import Path

sys.path.append(str(Path(__file__).parents[1] / "glue"))

from flags import backbone_flags, check_data, parse_arguments, print_flags  # noqa: E402
from sparse_adapter.errors import one_line_errors  # noqa: E402


def main(argv: list[str] | None = None) -> None:
    args = parse_arguments(argv, __doc__)
    with one_line_errors():
        flags = backbone_flags(args.backbone)
        check_data(args.data, args.data / "dict.txt", args.backbone, flags["--max-positions"], "windows")
    print_flags(flags)


if __name__ == "__main__":
    main()
