"""Merge LoRA into the backbone, which gives a plain fairseq checkpoint. Adapters of other families cannot be merged:
they are made dense, and the file still needs --user-dir. So does a BERT, a SQuAD model or an mBART, which stock fairseq
does not have, or cannot set up from a file.

  sparse-adapter merge checkpoints/xsum/checkpoint_best.pt merged.pt
  sparse-adapter merge xsum.safetensors merged.pt --backbone bart.large/model.pt
  fairseq-generate DATA --path merged.pt ...        # no plugin needed, see below

Without the plugin, set TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD=1: fairseq alone reads no checkpoint at all on torch 2.6 and
later.
"""

from argparse import ArgumentParser, Namespace
from pathlib import Path

import torch
from fairseq.models import ARCH_MODEL_INV_REGISTRY, ARCH_MODEL_NAME_REGISTRY
from fairseq.tasks import TASK_DATACLASS_REGISTRY
from tqdm import tqdm

from ..adapters import AdapterOptions
from ..adapters.lora import merge_lora_
from ..adapters.options import option_names, read_options
from ..adapters.prefix import drop_mlps_
from ..checkpoint.adapter_file import fresh_checkpoint, whole_configuration
from ..checkpoint.adapter_only import backbone_fingerprint, trained_heads, whole_state
from ..checkpoint.rebuild import model_arguments, own_arguments, rebuild, section, task_section
from ..files import written_at_once
from ..models.architectures import PREFIX
from ..modules import ADAPTER, sparse_weights
from ..tasks.options import PruneAtInitConfig
from .arguments import FILE_HELP, add_backbone, add_out, check_checkpoint_name, check_out, read_file


def add_arguments(parser: ArgumentParser) -> None:
    parser.add_argument("file", type=Path, metavar="CKPT", help=FILE_HELP)
    add_out(parser, "fairseq checkpoint to write")
    add_backbone(parser)


def run(args: Namespace) -> None:
    check_checkpoint_name(args.out)
    check_out(args.out, args.force)
    state = read_file(args.file, args.backbone)
    model_args = model_arguments(state)
    model = rebuild(state)
    drop_mlps_(model, model_args)
    merge_lora_(model)
    for weight in tqdm(sparse_weights(model).values(), desc="making dense", unit="matrix"):
        weight.become_dense_()
    before = read_options(AdapterOptions, model_args).families
    families = [family for family in before if family != "lora"]
    weights = {key: v for key, v in whole_state(model).items() if f".{ADAPTER}.lora." not in key}
    weights |= trained_heads(model, state["model"])
    if len(families) < len(before):  # what stays belongs to a backbone that is in no other file
        model_args.backbone, model_args.backbone_fingerprint = "", backbone_fingerprint(model)
    merged = own_arguments(model_args) | {"adapter": "+".join(families) or "none", "adapter_only_checkpoints": False}
    if not families:
        merged["adapter_layers"] = "all"
    task = task_section(state)
    plain = not families and stock_exists(merged, task)
    if plain:
        merged, task = stock_arguments(merged), stock_task(task)
    # What is not there cannot be overridden: fairseq-validate wants both, and the data's place of whoever uses it.
    sections = {"task": {**task, "data": ""}, "criterion": section(state, "criterion")}
    with written_at_once(args.out) as temporary:
        cfg = whole_configuration({"model": Namespace(**merged), **sections})
        torch.save(fresh_checkpoint(cfg, weights), temporary)
    kind = "a plain fairseq checkpoint" if plain else f"{described(families)}, needs --user-dir"
    print(f"{args.out}: {kind}, architecture {merged['arch']}")


def described(families: list[str]) -> str:
    return f"dense {'+'.join(families)}" if families else "no adapters"


def stock_exists(args: dict, task: dict) -> bool:
    """Whether fairseq itself has the model and the task, and can set it up from a file: mBART's, one of its old ones,
    it cannot.
    """
    model = ARCH_MODEL_NAME_REGISTRY[args["arch"]].removeprefix(PREFIX)
    return model in ARCH_MODEL_INV_REGISTRY and stock_task(task)["_name"] in TASK_DATACLASS_REGISTRY


def stock_arguments(args: dict) -> dict:
    """Arguments of the stock model: its architecture, and nothing that only the plugin knows."""
    arch = args["arch"].removeprefix(PREFIX)
    if arch not in ARCH_MODEL_NAME_REGISTRY:  # a size of the plugin: all sizes are spelt out, any name will do
        arch = ARCH_MODEL_INV_REGISTRY[ARCH_MODEL_NAME_REGISTRY[args["arch"]].removeprefix(PREFIX)][0]
    task = (args.get("task") or "translation").removeprefix(PREFIX)
    stock = {key: value for key, value in args.items() if key not in option_names()}
    return stock | {"arch": arch, "_name": arch, "task": task}


def stock_task(task: dict) -> dict:
    plugin = PruneAtInitConfig.__dataclass_fields__
    stock = {key: value for key, value in task.items() if key not in plugin}
    return stock | {"_name": (task.get("_name") or "translation").removeprefix(PREFIX)}
