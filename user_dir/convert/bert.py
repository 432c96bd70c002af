"""BERT (Devlin et al. 2019): transformers' ``modeling_bert.py`` and ``user_dir/models/bert.py``."""

import torch
from torch import Tensor

from ..errors import UsageError
from .kind import POSITIONS, SEGMENTS, VOCAB, Kind, Row, fairseq_activation, layer_norm, linear, required, under
from .vocabulary import OFFSET
from .wordpiece import read_wordpiece

DIM, FFN = "encoder_embed_dim", "encoder_ffn_embed_dim"
STACK = "encoder.sentence_encoder"
EMBED_TOKENS, EMBED_POSITIONS = f"{STACK}.embed_tokens.weight", f"{STACK}.embed_positions.weight"
EMBED_SEGMENTS = "encoder.segment_embeddings.weight"
LM_HEAD = "encoder.lm_head."
LM_WEIGHT, VERSION = f"{LM_HEAD}weight", f"{STACK}.version"  # what a state dict has beyond the rows below

NUMBERS = {
    "encoder_layers": "num_hidden_layers",
    "encoder_embed_dim": "hidden_size",
    "encoder_ffn_embed_dim": "intermediate_size",
    "encoder_attention_heads": "num_attention_heads",
}
RATES = {"dropout": "hidden_dropout_prob", "attention_dropout": "attention_probs_dropout_prob"}
FIXED = {"position_embedding_type": "absolute", "is_decoder": False, "add_cross_attention": False}

EMBEDDINGS = (
    Row("embeddings.word_embeddings.weight", EMBED_TOKENS, (VOCAB, DIM)),
    Row("embeddings.position_embeddings.weight", EMBED_POSITIONS, (POSITIONS, DIM)),
    Row("embeddings.token_type_embeddings.weight", EMBED_SEGMENTS, (SEGMENTS, DIM)),
    *layer_norm("embeddings.LayerNorm", f"{STACK}.layernorm_embedding", DIM),
)
LAYER = (
    *linear("attention.self.query", "self_attn.q_proj", DIM, DIM),
    *linear("attention.self.key", "self_attn.k_proj", DIM, DIM),
    *linear("attention.self.value", "self_attn.v_proj", DIM, DIM),
    *linear("attention.output.dense", "self_attn.out_proj", DIM, DIM),
    *layer_norm("attention.output.LayerNorm", "self_attn_layer_norm", DIM),
    *linear("intermediate.dense", "fc1", DIM, FFN),
    *linear("output.dense", "fc2", FFN, DIM),
    *layer_norm("output.LayerNorm", "final_layer_norm", DIM),
)
HEADS = (
    *linear("pooler.dense", "pooler.dense", DIM, DIM, "pooler"),
    *linear("cls.predictions.transform.dense", "encoder.lm_head.dense", DIM, DIM, "lm_head"),
    *layer_norm("cls.predictions.transform.LayerNorm", "encoder.lm_head.layer_norm", DIM, "lm_head"),
    Row("cls.predictions.bias", "encoder.lm_head.bias", (VOCAB,), "lm_head"),
)


def encoder_rows(args: dict) -> list[Row]:
    """The tensors that BERT and RoBERTa have."""
    layers = range(args["encoder_layers"])
    return [
        *EMBEDDINGS,
        *(row for i in layers for row in under(f"encoder.layer.{i}.", f"{STACK}.layers.{i}.", LAYER)),
    ]


def bert_rows(args: dict) -> list[Row]:
    return [*encoder_rows(args), *HEADS]


def encoder_arguments(config: dict, unused_positions: int) -> dict:
    """What fairseq has to be told about BERT and RoBERTa.

    Args:
        config: config.json.
        unused_positions: rows of the table of positions at which no token can be.
    """
    positions = required(config, "max_position_embeddings")
    return {
        "task": "masked_lm",
        "criterion": "masked_lm",
        "max_positions": positions - unused_positions,
        "tokens_per_sample": positions - unused_positions,
        "activation_fn": fairseq_activation(config, "hidden_act"),
        "pooler_activation_fn": "tanh",
        POSITIONS: positions,
        SEGMENTS: config.get("type_vocab_size", 2),
    }


def bert_arguments(config: dict) -> dict:
    args = encoder_arguments(config, unused_positions=0)
    if args[SEGMENTS] != 2:
        raise UsageError(f"config.json has type_vocab_size {args['segments']}, and BERT here has 2 segments")
    return args | {"adapter": "none"}  # the architecture is one with adapters, and the file has none


def tie(tensors: dict[str, Tensor]) -> None:
    """Complete a state dict: one with an LM head has the matrix of the embeddings a second time."""
    tensors[VERSION] = torch.tensor([3.0])
    if f"{LM_HEAD}bias" in tensors:
        tensors[LM_WEIGHT] = tensors[EMBED_TOKENS]


def finish_bert(tensors: dict[str, Tensor], args: dict) -> list[str]:
    positions = tensors[EMBED_POSITIONS]
    tensors[EMBED_POSITIONS] = torch.cat([positions.new_zeros(OFFSET, positions.size(1)), positions])
    tie(tensors)
    return []


BERT = Kind(
    name="BERT",
    prefix="bert.",
    numbers=NUMBERS,
    rates=RATES,
    rows=bert_rows,
    arguments=bert_arguments,
    architectures=("sparse_adapter_bert_base", "sparse_adapter_bert_large"),
    vocabulary=read_wordpiece,
    finish=finish_bert,
    tied={
        "cls.predictions.decoder.weight": "embeddings.word_embeddings.weight",
        "cls.predictions.decoder.bias": "cls.predictions.bias",
    },
    left_out=("cls.seq_relationship.", "classifier.", "qa_outputs."),
    fixed=FIXED,
    epsilon=(1e-12, 1e-12),
)
