"""RoBERTa with adapters. Published fairseq files (roberta.base, roberta.large) load as they are."""

import torch
from fairseq.models import register_model
from fairseq.models.roberta import RobertaModel

from .adapter_model import AdapterModelMixin
from .architectures import register_sizes


@register_model("sparse_adapter_roberta")
class SparseAdapterRobertaModel(AdapterModelMixin, RobertaModel):
    """RoBERTa (Liu et al. 2019) with a frozen backbone, adapters and trained classification heads."""

    trained_with_adapters = ("classification_heads",)

    def complete_state_dict(self, state_dict: dict) -> None:
        # Converted files may lack the masked language model's head, which no task here reads. Files of before 2020
        # have it, as everything else, under "decoder".
        for key, value in self.encoder.lm_head.state_dict().items():
            if f"decoder.lm_head.{key}" not in state_dict:
                tied = key == "weight" and not self.args.untie_weights_roberta
                embedding = state_dict.get("encoder.sentence_encoder.embed_tokens.weight")
                missing = embedding if tied and embedding is not None else torch.zeros_like(value)
                state_dict.setdefault(f"encoder.lm_head.{key}", missing)


register_sizes("roberta")
