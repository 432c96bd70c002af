"""BART (Lewis et al. 2020) and mBART (Liu et al. 2020): transformers' ``modeling_bart.py`` and ``modeling_mbart.py``.

Their modules have fairseq's names. mBART normalises before the sublayers and once more after each stack, and scales
its embeddings.
"""

import dataclasses

import torch
from torch import Tensor

from ..errors import UsageError
from .byte_bpe import BYTE_BPE, read_byte_bpe
from .kind import (
    POSITIONS,
    TOKEN_IDS,
    VOCAB,
    Kind,
    Row,
    fairseq_activation,
    huggingface_activation,
    layer_norm,
    linear,
    required,
    under,
)
from .pieces import PIECES, read_mbart_pieces
from .vocabulary import OFFSET

DIM = "encoder_embed_dim"  # of both stacks
EMBED_TOKENS, LOGITS_BIAS = "encoder.embed_tokens.weight", "final_logits_bias"
COPIES = ("decoder.embed_tokens.weight", "decoder.output_projection.weight")  # of the embeddings, in fairseq
STACKS = ("encoder", "decoder")

NUMBERS = {"encoder_embed_dim": "d_model", "decoder_embed_dim": "d_model"} | {
    f"{stack}_{ours}": f"{stack}_{theirs}"
    for stack in STACKS
    for ours, theirs in {"layers": "layers", "ffn_embed_dim": "ffn_dim", "attention_heads": "attention_heads"}.items()
}
RATES = {name: name for name in ("dropout", "attention_dropout", "activation_dropout")}


def attention(name: str) -> tuple[Row, ...]:
    projections = (f"{name}.{projection}_proj" for projection in ("q", "k", "v", "out"))
    rows = (row for projection in projections for row in linear(projection, projection, DIM, DIM))
    return (*rows, *layer_norm(f"{name}_layer_norm", f"{name}_layer_norm", DIM))


def layer(stack: str) -> tuple[Row, ...]:
    ffn = f"{stack}_ffn_embed_dim"
    return (
        *attention("self_attn"),
        *(attention("encoder_attn") if stack == "decoder" else ()),
        *linear("fc1", "fc1", DIM, ffn),
        *linear("fc2", "fc2", ffn, DIM),
        *layer_norm("final_layer_norm", "final_layer_norm", DIM),
    )


def bart_rows(args: dict) -> list[Row]:
    rows = [
        Row("shared.weight", EMBED_TOKENS, (VOCAB, DIM)),
        Row(LOGITS_BIAS, LOGITS_BIAS, (1, VOCAB), "LM head"),
    ]
    for stack in STACKS:
        in_stack = [
            Row("embed_positions.weight", "embed_positions.weight", (POSITIONS, DIM)),
            *layer_norm("layernorm_embedding", "layernorm_embedding", DIM),
            *(layer_norm("layer_norm", "layer_norm", DIM) if args[f"{stack}_normalize_before"] else ()),
        ]
        for i in range(args[f"{stack}_layers"]):
            in_stack += under(f"layers.{i}.", f"layers.{i}.", layer(stack))
        rows += under(f"{stack}.", f"{stack}.", in_stack)
    return rows


def bart_arguments(config: dict) -> dict:
    positions = required(config, "max_position_embeddings")
    normalize_before = config["model_type"] == "mbart"
    return {
        "task": "denoising",  # mBART's own, multilingual_denoising, has a configuration that fairseq cannot resolve
        "criterion": "cross_entropy",
        "max_source_positions": positions,
        "max_target_positions": positions,
        "encoder_normalize_before": normalize_before,
        "decoder_normalize_before": normalize_before,
        "layernorm_embedding": True,
        "no_scale_embedding": not config.get("scale_embedding", False),
        "share_all_embeddings": True,
        "share_decoder_input_output_embed": True,
        "activation_fn": fairseq_activation(config, "activation_function"),
        POSITIONS: positions + OFFSET,
    }


def finish_bart(tensors: dict[str, Tensor], args: dict) -> list[str]:
    bias = tensors.pop(LOGITS_BIAS, None)
    if bias is not None and bias.any():
        raise UsageError(f"{LOGITS_BIAS} is not zero, and fairseq's BART has no bias there")
    for key in COPIES:
        tensors[key] = tensors[EMBED_TOKENS]
    for stack in STACKS:
        tensors[f"{stack}.version"] = torch.tensor([3.0])
    return []


def unfinish_bart(tensors: dict[str, Tensor], args: dict) -> list[str]:
    for key in COPIES:
        if not torch.equal(tensors.pop(key, tensors[EMBED_TOKENS]), tensors[EMBED_TOKENS]):
            raise UsageError(f"{key} is not the encoder's matrix, and BART in transformers has one for all")
    for stack in STACKS:
        del tensors[f"{stack}.version"]
    tensors[LOGITS_BIAS] = tensors[EMBED_TOKENS].new_zeros(1, len(tensors[EMBED_TOKENS]))
    return []


def bart_config(args: dict, tensors: dict[str, Tensor]) -> dict:
    lengths = {len(tensors[f"{stack}.embed_positions.weight"]) for stack in STACKS}
    if len(lengths) > 1:
        raise UsageError("the encoder has another number of positions than the decoder: BART in transformers has one")
    kind = "mbart" if args["encoder_normalize_before"] else "bart"
    return {
        "model_type": kind,
        "architectures": [{"bart": "Bart", "mbart": "MBart"}[kind] + "ForConditionalGeneration"],
        "activation_function": huggingface_activation(args),
        "decoder_start_token_id": 2,
        "forced_eos_token_id": 2,
        "is_encoder_decoder": True,
        "max_position_embeddings": lengths.pop() - OFFSET,
        "scale_embedding": not args["no_scale_embedding"],
        "tie_word_embeddings": True,
        "vocab_size": len(tensors[EMBED_TOKENS]),
    }


BART = Kind(
    name="BART",
    prefix="model.",
    numbers=NUMBERS,
    rates=RATES,
    rows=bart_rows,
    arguments=bart_arguments,
    architectures=("bart_base", "bart_large", "mbart_base"),
    vocabulary=read_byte_bpe,
    files=BYTE_BPE,
    finish=finish_bart,
    tied={key: "shared.weight" for key in (EMBED_TOKENS, "decoder.embed_tokens.weight", "lm_head.weight")},
    left_out=("classification_head.", "qa_outputs."),
    fixed=TOKEN_IDS | {"normalize_before": False, "static_position_embeddings": False},
    config=bart_config,
    unfinish=unfinish_bart,
)
MBART = dataclasses.replace(
    BART,
    name="mBART",
    architectures=("mbart_large", "mbart_base", "bart_base"),
    vocabulary=read_mbart_pieces,
    files=PIECES,
    fixed=BART.fixed | {"normalize_before": True},
)
