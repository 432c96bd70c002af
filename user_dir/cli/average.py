"""Average checkpoints of one run: the values of their tensors, with the masks that they share.

sparse-adapter average checkpoints/xsum/checkpoint{8,9,10}.pt averaged.pt
"""

from argparse import ArgumentParser, Namespace
from pathlib import Path

import torch
from torch import Tensor
from tqdm import tqdm

from ..adapters.adapter_fusion import same_sources
from ..adapters.options import fixed_options
from ..errors import UsageError
from ..files import written_at_once
from .arguments import FILE_HELP, add_force, check_checkpoint_name, check_out, read_file


def add_arguments(parser: ArgumentParser) -> None:
    parser.add_argument("files", type=Path, nargs="+", metavar="CKPT", help=FILE_HELP)
    parser.add_argument("out", type=Path, metavar="OUT", help="fairseq checkpoint to write")
    add_force(parser)


def run(args: Namespace) -> None:
    check_checkpoint_name(args.out)
    check_out(args.out, args.force)
    first, sums = None, {}
    for path in tqdm(args.files, desc="averaging", unit="file"):
        state = read_file(path)
        if first is None:
            first = state
            sums = {k: v.to(torch.double, copy=True) if v.is_floating_point() else v for k, v in state["model"].items()}
            continue
        check_same_model(first, state, args.files[0], path)
        check_alike(first["model"], state["model"], args.files[0], path)
        for key, value in state["model"].items():
            if value.is_floating_point():
                sums[key] += value
    average = {
        key: (total / len(args.files)).to(first["model"][key].dtype) if total.is_floating_point() else total
        for key, total in sums.items()
    }
    share_tied_(average, first["model"])
    # The optimizer's state, and an average that training kept, belong to none of the averaged weights.
    kept = {key: value for key, value in first.items() if key != "last_optimizer_state"}
    if "extra_state" in kept:
        ema = ("ema", "ema_fp32_params")
        kept["extra_state"] = {key: value for key, value in kept["extra_state"].items() if key not in ema}
    with written_at_once(args.out) as temporary:
        torch.save({**kept, "model": average}, temporary)
    print(f"{args.out}: the average of {len(args.files)} files")


def share_tied_(average: dict[str, Tensor], weights: dict[str, Tensor]) -> None:
    """What is one tensor under several keys of ``weights`` is so in ``average``, and once in its file."""
    firsts = {}
    for key, value in weights.items():
        first = average[firsts.setdefault((value.data_ptr(), value.shape, value.stride()), key)]
        if torch.equal(first, average[key]):
            average[key] = first


def check_same_model(first: dict, other: dict, first_path: Path, path: Path) -> None:
    """Refuse files whose values mean different things.

    Raises:
        UsageError: adapters have other options, or another backbone.
    """
    models = [getattr(state.get("cfg"), "model", None) for state in (first, other)]
    before, now = ({} if model is None else fixed_options(model) for model in models)
    changes = [f"{flag} {value} and {now.get(flag)}" for flag, value in before.items() if now.get(flag) != value]
    if changes:
        raise UsageError(f"{first_path} and {path} are of different models: {', '.join(changes)}")
    if None not in models and not same_sources(*models):
        raise UsageError(f"{first_path} and {path} fuse different adapters")
    backbones = {getattr(model, "backbone_fingerprint", "") for model in models}
    if len(backbones - {""}) > 1:
        raise UsageError(f"{first_path} and {path} were trained on different backbones")


def check_alike(first: dict, other: dict, first_path: Path, path: Path) -> None:
    """Refuse files of different runs.

    Raises:
        UsageError: tensors are missing or left over, have other shapes, or the masks differ.
    """
    different = set(first) ^ set(other)
    if different:
        raise UsageError(f"{path} and {first_path} hold different tensors (first: {min(different)})")
    for key, value in first.items():
        if value.shape != other[key].shape:
            raise UsageError(f"{path} and {first_path} differ in the shape of {key}: they are of different runs")
        if not value.is_floating_point() and not torch.equal(value, other[key]):
            raise UsageError(f"{path} and {first_path} differ in {key}: only files with the same masks can be averaged")
