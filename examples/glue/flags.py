#!/usr/bin/env python3
"""Print the flags of fairseq-train that the data, the backbone and the machine settle, one word a line.

The architecture is that of the backbone, base with the backbone's sizes; classes and special tokens are the data's;
without a GPU there is what a CPU needs, and of several devices, each takes its share of a batch.
"""

import argparse
import filecmp
import logging
import os
import sys
from pathlib import Path

logging.disable(logging.INFO)
sys.path.append(str(Path(__file__).parents[1]))  # examples, for preparation

import sparse_adapter  # noqa: E402, F401  (safe loading)
import torch  # noqa: E402
from preparation import recorded  # noqa: E402
from sparse_adapter.checkpoint.loading import read_state  # noqa: E402
from sparse_adapter.errors import UsageError, flag_of, one_line_errors  # noqa: E402
from sparse_adapter.tasks.options import PruneAtInitConfig  # noqa: E402

SCORED = PruneAtInitConfig.prune_batches  # that snip and grasp see, of one device
BATCH = 16  # examples of an update at most, over all devices; each has at least one
# In float32, an update of MiniLM takes 1.7 times as long on a CPU that multiplies bfloat16, and 1.1 times with torch's
# dropout.
ON_CPU = {"--cpu": None, "--matmul-precision": "medium", "--attention-kernel": "math", "--dropout-kernel": "fast"}
ACTIVATIONS = ("activation_fn", "pooler_activation_fn")  # which no shape betrays
SIZES = ("encoder_layers", "encoder_embed_dim", "encoder_ffn_embed_dim", "encoder_attention_heads")


def backbone_flags(path: Path) -> dict[str, object]:
    """Architecture, sizes, activations and positions of RoBERTa or BERT.

    Raises:
        UsageError: the file is of another kind.
    """
    if not path.is_file():
        raise UsageError(f"BACKBONE {path}: there is no such file; sparse-adapter convert writes it")
    state = read_state(str(path))
    config = state["args"] if state.get("args") is not None else state["cfg"]["model"]
    values = vars(config) if hasattr(config, "__dict__") and "_metadata" not in vars(config) else config
    missing = [name for name in SIZES if values.get(name) is None]
    positions = [v for k, v in state["model"].items() if k.endswith("sentence_encoder.embed_positions.weight")]
    if missing or not positions:
        raise UsageError(
            f"BACKBONE {path} is neither RoBERTa nor BERT: {(missing or ['embed_positions'])[0]} is missing"
        )
    kind = "bert" if "encoder.segment_embeddings.weight" in state["model"] else "roberta"
    said = [*SIZES, *(name for name in ACTIVATIONS if values.get(name) is not None)]
    flags = {flag_of(name): values[name] for name in said}
    # The first two positions are padding's and none's.
    return {"--arch": f"sparse_adapter_{kind}_base", **flags, "--max-positions": positions[0].size(0) - 2}


def data_flags(data: Path) -> dict[str, object]:
    """Classes, special tokens and dev sets."""
    record = recorded(data)
    settings = record["settings"]
    flags = {"--num-classes": settings["num_classes"], "--init-token": settings["init_token"]}
    if settings["separator"] is not None:
        flags["--separator-token"] = settings["separator"]
    if not (data / "label" / "dict.txt").is_file():
        flags["--regression-target"] = None
    return flags | {"--valid-subset": ",".join(name for name in record["sets"] if name != "train")}


def check_data(data: Path, dictionary: Path, backbone: Path, positions: int, what: str = "examples") -> None:
    """Refuse data that were prepared for another backbone.

    Args:
        data: folder of prepare.json.
        dictionary: that of the data.
        positions: of the backbone.
        what: the data consist of.

    Raises:
        UsageError: the dictionary is not the backbone's, or something is longer than the backbone has positions.
    """
    own = backbone.with_name("dict.txt")
    if own.is_file() and not filecmp.cmp(own, dictionary, shallow=False):
        raise UsageError(f"DATA {data} was prepared with another dictionary than {own}: prepare it again")
    length = recorded(data)["settings"]["max_length"]
    if length > positions:
        raise UsageError(
            f"DATA {data} has {what} of up to {length} tokens and {backbone} has {positions} positions: prepare it "
            "with a smaller MAX_LENGTH"
        )


def count_devices() -> int:
    """Over which a batch is divided."""
    return int(os.environ.get("WORLD_SIZE") or torch.cuda.device_count() or 1)


def print_flags(flags: dict[str, object]) -> None:
    """One word a line, with ``--cpu`` and what makes a CPU fast where there is no GPU."""
    if not torch.cuda.is_available():
        flags = flags | ON_CPU
    for flag, value in flags.items():
        print(flag, *([] if value is None else [value]), sep="\n")


def parse_arguments(argv: list[str] | None, description: str) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--data", type=Path, required=True, help="folder written by prepare.sh")
    parser.add_argument("--backbone", type=Path, required=True, help="model.pt, with dict.txt beside it")
    return parser.parse_args(argv)


def main(argv: list[str] | None = None) -> None:
    args = parse_arguments(argv, __doc__)
    with one_line_errors():
        flags = backbone_flags(args.backbone) | data_flags(args.data)
        check_data(args.data, args.data / "input0" / "dict.txt", args.backbone, flags["--max-positions"])
    if not os.environ.get("BATCH_SIZE"):
        batch = max(1, BATCH // count_devices())
        # As many examples as on one device score the weights.
        flags |= {"--batch-size": batch, "--prune-batches": -(-SCORED * BATCH // batch)}
    print_flags(flags)


if __name__ == "__main__":
    main()
