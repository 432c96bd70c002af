#!/usr/bin/env python3
"""Make a published-style ``model.pt`` of a training checkpoint: fp16 weights, no optimizer state.

``python examples/pretraining/export_backbone.py checkpoints/bart_mini/checkpoint_last.pt model.pt``
"""

import argparse
from pathlib import Path

import sparse_adapter  # noqa: F401  (safe loading)
import torch
from fairseq.checkpoint_utils import load_checkpoint_to_cpu
from omegaconf import OmegaConf
from sparse_adapter.files import written_at_once

# What only the machine that trained it needs to know; fairseq fills in defaults.
MODEL_ARGUMENTS = (
    "encoder_layers", "encoder_embed_dim", "encoder_ffn_embed_dim", "encoder_attention_heads",
    "decoder_layers", "decoder_embed_dim", "decoder_ffn_embed_dim", "decoder_attention_heads",
    "encoder_normalize_before", "decoder_normalize_before", "max_source_positions", "max_target_positions",
    "dropout", "attention_dropout", "activation_dropout",
)  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("checkpoint", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--arch", default="bart_base", help="fairseq architecture to record (default: bart_base)")
    args = parser.parse_args()

    state = load_checkpoint_to_cpu(str(args.checkpoint))
    trained = OmegaConf.to_container(state["cfg"], resolve=False, enum_to_str=True)["model"]
    trained = vars(trained) if isinstance(trained, argparse.Namespace) else trained
    # The legacy form, as bart.base and bart.large have it: an argparse.Namespace and the weights.
    namespace = argparse.Namespace(
        arch=args.arch, task="denoising", criterion="cross_entropy", **{name: trained[name] for name in MODEL_ARGUMENTS}
    )
    model = {key: value.half() if value.is_floating_point() else value for key, value in state["model"].items()}
    for duplicate in ("decoder.embed_tokens.weight", "decoder.output_projection.weight"):
        # Tied to the encoder's; sharing the tensor keeps the file from holding it three times.
        if torch.equal(model[duplicate], model["encoder.embed_tokens.weight"]):
            model[duplicate] = model["encoder.embed_tokens.weight"]
    last = state["optimizer_history"][-1]
    history = {key: last[key] for key in ("criterion_name", "optimizer_name", "num_updates")}
    published = {
        "args": namespace,
        "model": model,
        "optimizer_history": [{**history, "lr_scheduler_state": {"best": None}}],
        "extra_state": {"train_iterator": {"epoch": 1, "iterations_in_epoch": 0}, "val_loss": None},
    }
    with written_at_once(args.out) as temporary:
        torch.save(published, temporary)
    print(f"{args.out}: {sum(v.numel() for v in set(model.values()))} weights, {args.out.stat().st_size} bytes")


if __name__ == "__main__":
    main()
