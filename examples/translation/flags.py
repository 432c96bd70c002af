#!/usr/bin/env python3
"""Print the flags that the data settle for fairseq's commands, or those that the backbone and the machine settle.

    python flags.py --data DATA --source en --target de     # task and languages
    python flags.py --data DATA --backbone model.pt         # architecture, sizes, and --cpu without a GPU

One word a line.
"""

import argparse
import json
import logging
import shlex
import sys
from pathlib import Path

logging.disable(logging.INFO)

import sparse_adapter  # noqa: E402, F401  (safe loading)
import torch  # noqa: E402
from sparse_adapter.checkpoint.start import read_state  # noqa: E402
from sparse_adapter.convert.architecture import train_options  # noqa: E402
from sparse_adapter.errors import UsageError, one_line_errors  # noqa: E402


def task_flags(data: Path, source: str, target: str) -> list[str]:
    """Task and languages. Data with ``langs`` are for mBART, whose task adds a symbol for each to the dictionary."""
    langs = json.loads((data / "prepare.json").read_text(encoding="utf-8"))["settings"]["langs"]
    languages = ["--source-lang", source, "--target-lang", target]
    if not langs:
        return ["--task", "sparse_adapter_translation", *languages]
    for language in (source, target):
        if language not in langs.split(","):
            raise UsageError(f"language {language} is not one of LANGS that {data} was prepared with: {langs}")
    return ["--task", "sparse_adapter_translation_from_pretrained_bart", "--langs", langs, *languages]


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
    parser.add_argument("--source", help="language")
    parser.add_argument("--target", help="language")
    parser.add_argument("--backbone", type=Path, help="model.pt")
    args = parser.parse_args(argv)
    with one_line_errors():
        if args.backbone is None:
            flags = task_flags(args.data, args.source, args.target)
        else:
            flags = backbone_flags(args.backbone) + ([] if torch.cuda.is_available() else ["--cpu"])
    print("\n".join(flags))


if __name__ == "__main__":
    sys.exit(main())
