#!/usr/bin/env python3
"""Print the flags of fairseq-train that the data, the backbone and the machine settle, one word a line."""

import os
import sys
from pathlib import Path

sys.path.append(str(Path(__file__).parents[1] / "glue"))

from flags import SCORED, backbone_flags, check_data, count_devices, parse_arguments, print_flags  # noqa: E402
from preparation import recorded  # noqa: E402
from sparse_adapter.errors import one_line_errors  # noqa: E402

MAX_TOKENS = 4096  # of an update, over all devices; each has at least one window


def main(argv: list[str] | None = None) -> None:
    args = parse_arguments(argv, __doc__)
    with one_line_errors():
        flags = backbone_flags(args.backbone)
        check_data(args.data, args.data / "dict.txt", args.backbone, flags["--max-positions"], "windows")
    if not os.environ.get("MAX_TOKENS"):
        tokens = max(MAX_TOKENS // count_devices(), recorded(args.data)["settings"]["max_length"])
        # As many as on one device score the weights.
        flags |= {"--max-tokens": tokens, "--prune-batches": -(-SCORED * MAX_TOKENS // tokens)}
    print_flags(flags)


if __name__ == "__main__":
    main()
