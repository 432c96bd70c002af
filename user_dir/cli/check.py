"""Check that a file is complete and fits a backbone; the exit status says so.

sparse-adapter check xsum.safetensors --backbone bart.large/model.pt
sparse-adapter check checkpoints/xsum/checkpoint_best.pt
"""

from argparse import ArgumentParser, Namespace
from pathlib import Path

import torch

from ..checkpoint.adapter_only import backbone_fingerprint, check_is_backbone, fingerprint_of
from ..checkpoint.rebuild import rebuild
from ..errors import UsageError
from ..modules import has_adapters, holds_backbone, prunable_weights
from .arguments import FILE_HELP, add_backbone, read_file


def add_arguments(parser: ArgumentParser) -> None:
    parser.add_argument("file", type=Path, metavar="FILE", help=FILE_HELP)
    add_backbone(parser)


def run(args: Namespace) -> None:
    state = read_file(args.file, args.backbone)
    if not has_adapters(state["model"]):
        raise UsageError(f"{args.file} holds no adapters")
    model = rebuild(state)
    broken = [name for name, value in state["model"].items() if not bool(torch.isfinite(value.float()).all())]
    if broken:
        raise UsageError(f"{args.file}: {len(broken)} tensors are not finite (first: {broken[0]})")
    found = backbone_fingerprint(model)
    if args.backbone:  # a whole checkpoint was loaded with its own backbone, which has to be this one
        check_is_backbone(model, str(args.backbone), fingerprint_of(model, state) or found, str(args.file))
    weights = prunable_weights(model).values()
    kept, total = sum(w.kept for w in weights), sum(w.total for w in weights)
    whole = not args.backbone and holds_backbone(
        model, state["model"]
    )  # with its own backbone, and nothing to compare that with
    print(
        f"{args.file}: complete, {kept:,} of {total:,} weights; the backbone {'is in it' if whole else 'fits'} "
        f"({found[:16]})"
    )
