"""RoBERTa (Liu et al. 2019) and XLM-R (Conneau et al. 2020): transformers' ``modeling_roberta.py``.

It has one segment, whose embedding is added to every token; fairseq's RoBERTa has none, so it goes into the positions.
"""

import dataclasses
from pathlib import Path

import torch
from torch import Tensor

from ..errors import UsageError
from . import bert
from .bert import DIM, EMBED_POSITIONS, EMBED_SEGMENTS, EMBED_TOKENS, LM_HEAD, LM_WEIGHT, VERSION
from .byte_bpe import BYTE_BPE, read_byte_bpe
from .kind import POSITIONS, TOKEN_IDS, VOCAB, Kind, Row, huggingface_activation, layer_norm, linear
from .pieces import PIECES, read_xlmr_pieces
from .vocabulary import OFFSET, Vocabulary

EPSILON = 1e-5
HEAD = (
    *linear("lm_head.dense", f"{LM_HEAD}dense", DIM, DIM, "lm_head"),
    *layer_norm("lm_head.layer_norm", f"{LM_HEAD}layer_norm", DIM, "lm_head"),
    Row("lm_head.bias", f"{LM_HEAD}bias", (VOCAB,), "lm_head"),
)


def roberta_rows(args: dict) -> list[Row]:
    return [*bert.encoder_rows(args), *HEAD]


def roberta_arguments(config: dict) -> dict:
    args = bert.encoder_arguments(config, unused_positions=OFFSET)
    if args["max_positions"] < 1:
        raise UsageError(f"config.json has max_position_embeddings {args[POSITIONS]}, of which {OFFSET} are not used")
    return args


def drop_lm_head(tensors: dict[str, Tensor]) -> None:
    for key in [key for key in tensors if key.startswith(LM_HEAD)]:
        del tensors[key]


def drop_other_lm_head(tensors: dict[str, Tensor], args: dict) -> list[str]:
    """Drop an LM head that means something else in the other implementation."""
    if f"{LM_HEAD}bias" not in tensors or args["activation_fn"] == "gelu":
        return []
    drop_lm_head(tensors)
    return ["the LM head is left out: fairseq's has the activation of the layers, and transformers' has gelu"]


def finish_roberta(tensors: dict[str, Tensor], args: dict) -> list[str]:
    remarks = []
    segments, positions = tensors.pop(EMBED_SEGMENTS), tensors[EMBED_POSITIONS]
    if segments[0].any():
        # In single precision: half would round the sum, and transformers adds one after the other.
        summed = positions[OFFSET:].float() + segments[0].float()
        tensors[EMBED_POSITIONS] = torch.cat([positions[:OFFSET].float(), summed])
    if len(segments) > 1:
        remarks.append(f"the embeddings of {len(segments) - 1} more segments are left out")
    remarks += drop_other_lm_head(tensors, args)
    bert.tie(tensors)
    if LM_WEIGHT not in tensors:
        remarks.append("there is no LM head: RoBERTa with adapters does without, fairseq's own does not load")
    return remarks


def read_roberta_vocabulary(folder: Path, rows: int) -> Vocabulary | None:
    """Byte-level BPE, or the SentencePieces of XLM-R: there are models of both that call themselves RoBERTa."""
    return read_byte_bpe(folder, rows) or read_xlmr_pieces(folder, rows)


def unfinish_roberta(tensors: dict[str, Tensor], args: dict) -> list[str]:
    positions = tensors[EMBED_POSITIONS]
    tensors[EMBED_SEGMENTS] = positions.new_zeros(1, positions.size(1))
    del tensors[VERSION]
    weight = tensors.pop(LM_WEIGHT)
    if not tensors[f"{LM_HEAD}dense.weight"].any():  # the plugin's stand-in for a head that the backbone lacks
        drop_lm_head(tensors)
    elif not torch.equal(weight, tensors[EMBED_TOKENS]):
        raise UsageError("the LM head has another matrix than the embeddings, and RoBERTa in transformers has one")
    return drop_other_lm_head(tensors, args)


def roberta_config(args: dict, tensors: dict[str, Tensor]) -> dict:
    fixed = {"encoder_normalize_before": False, "layernorm_embedding": True, "no_scale_embedding": True}
    for name, value in fixed.items():
        if bool(args.get(name, value)) != value:
            raise UsageError(f"the model has {name} {args[name]}, and RoBERTa in transformers has {value}")
    return {
        "model_type": "roberta",
        "architectures": ["RobertaForMaskedLM" if f"{LM_HEAD}bias" in tensors else "RobertaModel"],
        "hidden_act": huggingface_activation(args),
        "layer_norm_eps": EPSILON,
        "max_position_embeddings": len(tensors[EMBED_POSITIONS]),
        "position_embedding_type": "absolute",
        "type_vocab_size": 1,
        "vocab_size": len(tensors[EMBED_TOKENS]),
    }


ROBERTA = Kind(
    name="RoBERTa",
    prefix="roberta.",
    numbers=bert.NUMBERS,
    rates=bert.RATES,
    rows=roberta_rows,
    arguments=roberta_arguments,
    architectures=("roberta_base", "roberta_large"),
    vocabulary=read_roberta_vocabulary,
    files=f"{BYTE_BPE}, and no {PIECES}",
    finish=finish_roberta,
    tied={"lm_head.decoder.weight": "embeddings.word_embeddings.weight", "lm_head.decoder.bias": "lm_head.bias"},
    left_out=("pooler.", "classifier.", "qa_outputs."),
    fixed=bert.FIXED | TOKEN_IDS,
    epsilon=(EPSILON, 1e-12),
    config=roberta_config,
    unfinish=unfinish_roberta,
)
XLMR = dataclasses.replace(ROBERTA, name="XLM-R", vocabulary=read_xlmr_pieces, files=PIECES)
