"""BERT (Devlin et al. 2019) as it is, with adapters: fairseq's own BERT lacks segments, pooler and its epsilon.

Keys are RoBERTa's, and ``encoder.segment_embeddings.weight`` and, in converted files, ``pooler.dense``.
The dictionary has [CLS] as ``<s>`` and [SEP] as ``</s>``.
"""

from argparse import Namespace

import torch
from fairseq.models import register_model, register_model_architecture
from fairseq.models.roberta.model import RobertaEncoder, roberta_large_architecture
from fairseq.models.roberta.model import base_architecture as roberta_base_architecture
from torch import Tensor, nn

from ..adapters import set_adapter_defaults
from .roberta import SparseAdapterRobertaModel

EPSILON = 1e-12  # of BERT's LayerNorms; fairseq's are 1e-5
POOLER = "pooler.dense."


class BertEncoder(RobertaEncoder):
    """RoBERTa's encoder with segment embeddings."""

    def __init__(self, args: Namespace, dictionary):
        super().__init__(args, dictionary)
        self.segment_embeddings = nn.Embedding(2, args.encoder_embed_dim)
        for module in self.modules():
            if isinstance(module, nn.LayerNorm):
                module.eps = EPSILON

    def segments(self, src_tokens: Tensor) -> Tensor:
        """0 up to and with the first [SEP], 1 after it and up to the padding: ``(batch, src_len)``."""
        separators = src_tokens == self.dictionary.eos()
        first_is_over = (separators.cumsum(dim=1) - separators.long()) > 0
        return (first_is_over & (src_tokens != self.dictionary.pad())).long()

    def extract_features(self, src_tokens: Tensor, return_all_hiddens: bool = False, **kwargs):
        embedded = self.sentence_encoder.embed_tokens(src_tokens)
        embedded = embedded + self.segment_embeddings(self.segments(src_tokens))
        return super().extract_features(src_tokens, return_all_hiddens, token_embeddings=embedded)


@register_model("sparse_adapter_bert")
class SparseAdapterBertModel(SparseAdapterRobertaModel):
    """BERT with a frozen backbone, adapters and trained heads, whose first layer starts as the pooler.

    A pooler whose bias is all zeros was never trained, as those of sentence-transformers that pool by the mean: heads
    then start at random.
    """

    def __init__(self, args: Namespace, encoder: RobertaEncoder):
        super().__init__(args, BertEncoder(args, encoder.dictionary))  # RobertaModel builds RoBERTa's, whatever we are

    def complete_state_dict(self, state_dict: dict) -> None:
        own = {f"classification_heads.{key}": value for key, value in self.classification_heads.state_dict().items()}
        for name in self.classification_heads:
            # fairseq drops a head of another task as a whole, with what we would take its place from.
            head = f"classification_heads.{name}."
            held = state_dict.get(f"{head}out_proj.weight")
            if held is not None and held.shape != own[f"{head}out_proj.weight"].shape:
                for key in [key for key in state_dict if key.startswith(head)]:
                    del state_dict[key]
        poolers = {key: state_dict.pop(key) for key in list(state_dict) if key.startswith(POOLER)}
        trained = bool(poolers.get(f"{POOLER}bias", torch.zeros(1)).any())
        for key, pooler in poolers.items() if trained else ():
            name = key.removeprefix("pooler.")
            for head_key, value in own.items():
                if head_key.endswith(f".{name}") and value.shape == pooler.shape:
                    state_dict.setdefault(head_key, pooler)
        # fairseq takes a head of which a part is there for a head that is there.
        for key, value in own.items():
            state_dict.setdefault(key, value)
        super().complete_state_dict(state_dict)


@register_model_architecture("sparse_adapter_bert", "sparse_adapter_bert_base")
def sparse_adapter_bert_base(args: Namespace) -> None:
    """12 layers, 768-dim."""
    set_adapter_defaults(args)
    roberta_base_architecture(args)


@register_model_architecture("sparse_adapter_bert", "sparse_adapter_bert_large")
def sparse_adapter_bert_large(args: Namespace) -> None:
    """24 layers, 1024-dim."""
    set_adapter_defaults(args)
    roberta_large_architecture(args)
