"""BART with adapters. Published fairseq files (bart.base, bart.large) load as they are."""

from argparse import Namespace

from fairseq.models import register_model, register_model_architecture
from fairseq.models.bart.model import BARTModel, bart_base_architecture

from ..adapters import set_adapter_defaults
from .adapter_model import AdapterModelMixin
from .architectures import register_sizes


@register_model("sparse_adapter_bart")
class SparseAdapterBARTModel(AdapterModelMixin, BARTModel):
    """BART (Lewis et al. 2020) with a frozen backbone and adapters."""

    trained_with_adapters = ("classification_heads",)

    def __init__(self, args, encoder, decoder):
        super().__init__(args, encoder, decoder)
        # fairseq 0.12.3 asks for the task's name when it loads a BART; hydra's model options do not have it.
        if not hasattr(args, "task"):
            args.task = None


register_sizes("bart")  # bart.base, bart.large, and mBART's


@register_model_architecture("sparse_adapter_bart", "sparse_adapter_bart_mini")
def sparse_adapter_bart_mini(args: Namespace) -> None:
    """4+4 pre-LN layers, 256-dim, 512 positions: the backbone in examples/pretraining/bart_mini."""
    for stack in ("encoder", "decoder"):
        setattr(args, f"{stack}_embed_dim", getattr(args, f"{stack}_embed_dim", 256))
        setattr(args, f"{stack}_ffn_embed_dim", getattr(args, f"{stack}_ffn_embed_dim", 1024))
        setattr(args, f"{stack}_layers", getattr(args, f"{stack}_layers", 4))
        setattr(args, f"{stack}_attention_heads", getattr(args, f"{stack}_attention_heads", 4))
        setattr(args, f"{stack}_normalize_before", getattr(args, f"{stack}_normalize_before", True))
    # The task shares these flags and has already written its own default, 1024, into them.
    args.max_source_positions = min(getattr(args, "max_source_positions", 512), 512)
    args.max_target_positions = min(getattr(args, "max_target_positions", 512), 512)
    set_adapter_defaults(args)
    bart_base_architecture(args)
