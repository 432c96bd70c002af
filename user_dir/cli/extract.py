"""Write what was trained, and nothing else, to an adapter file.

  sparse-adapter extract checkpoints/xsum/checkpoint_best.pt xsum.safetensors
  sparse-adapter extract checkpoints/xsum/checkpoint_best.pt xsum.safetensors --fp16
  fairseq-generate DATA --user-dir user_dir --path xsum.safetensors \\
      --model-overrides "{'backbone': '/models/bart.large/model.pt'}" ...
"""

from argparse import ArgumentParser, Namespace
from pathlib import Path

from ..adapters.prefix import drop_mlps_
from ..checkpoint.adapter_file import SUFFIX, adapter_files, write_adapter_file
from ..checkpoint.adapter_only import fingerprint_of, trained_heads
from ..checkpoint.rebuild import model_arguments, own_arguments, rebuild_adapters, section, task_section
from ..errors import UsageError
from ..modules import is_adapter_key
from ..pruning import sparsity_report
from .arguments import FILE_HELP, add_out, check_out, read_file


def add_arguments(parser: ArgumentParser) -> None:
    parser.add_argument("file", type=Path, metavar="CKPT", help=FILE_HELP)
    add_out(parser, f"NAME{SUFFIX}; NAME.json, its configuration, is written beside it")
    parser.add_argument("--fp16", action="store_true", help="round the values to half precision: half the size")


def run(args: Namespace) -> None:
    if args.out.suffix != SUFFIX:
        raise UsageError(f"{args.out}: the name of an adapter file ends in {SUFFIX}")
    for file in adapter_files(args.out):
        check_out(file, args.force)
    state = read_file(args.file)
    model_args = model_arguments(state)
    model = rebuild_adapters(state)
    model_args.backbone_fingerprint = fingerprint_of(model, state)
    drop_mlps_(model, model_args)
    model_args.adapter_only_checkpoints = False
    tensors = {key: value for key, value in model.state_dict().items() if is_adapter_key(key)}
    heads = trained_heads(model, state["model"])
    tensors |= heads
    if args.fp16:
        tensors = {key: value.half() if value.is_floating_point() else value for key, value in tensors.items()}
    report = sparsity_report(model, model_args.large_sparse)
    summary = {
        "sparsity": 1 - report["matrix_total"]["density"],
        **{key: report[key] for key in ("matrix_total", "mask_sha256", "families", "sites")},
        "heads": sorted(heads),
    }
    sections = {
        "model": own_arguments(model_args),
        "task": task_section(state),
        "criterion": section(state, "criterion"),
    }
    write_adapter_file(args.out, tensors, sections, summary)
    kibibytes = args.out.stat().st_size / 1024
    print(f"{args.out}: {sum(t.numel() for t in tensors.values()):,} numbers, {kibibytes:,.1f} KiB")
    if not model_args.backbone:
        print(
            "note: the checkpoint does not say where its backbone is: whoever uses this file has to name it, with "
            "--backbone or --model-overrides, see README.md"
        )
