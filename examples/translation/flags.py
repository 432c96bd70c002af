#!/usr/bin/env python3
"""Print the flags of fairseq-train that the backbone and the machine settle.

    python flags.py --data DATA --backbone model.pt     # architecture, sizes, and --cpu without a GPU

One word a line.
"""

import argparse
import logging
import shlex
import sys
from pathlib import Path

logging.disable(logging.INFO)

import sparse_adapter  # noqa: E402, F401  (safe loading)
import torch  # noqa: E402
from sparse_adapter.checkpoint.loading import read_state  # noqa: E402
from sparse_adapter.convert.architecture import train_options  # noqa: E402
from sparse_adapter.errors import UsageError, one_line_errors  # noqa: E402


def backbone_flags(path: Path) -> list[str]:
    """Architecture and sizes, ``--encoder-embed-dim`` always among them."""
    if not path.is_file():
        raise UsageError(f"BACKBONE {path}: there is no such file")
    state = read_state(str(path))
    if not any(key.startswith("decoder.") for key in state["model"]):
        raise UsageError(f"BACKBONE {path} has no decoder; translation needs a Transformer, BART or mBART")
    config = state["cfg"]["model"]
    flags = shlex.split(train_options(vars(config) if isinstance(config, argparse.Namespace) else dict(config)))
    if "--encoder-embed-dim" not in flags:
        flags += ["--encoder-embed-dim", str(state["model"]["encoder.layers.0.fc1.weight"].size(1))]
    return flags


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="folder written by prepare.sh")
    parser.add_argument("--backbone", type=Path, required=True, help="model.pt")
    args = parser.parse_args(argv)
    with one_line_errors():
        flags = backbone_flags(args.backbone) + ([] if torch.cuda.is_available() else ["--cpu"])
    print("\n".join(flags))


if __name__ == "__main__":
    sys.exit(main())
