"""How fairseq calls a model of certain sizes, and what it has to be told beside the name."""

import re
from argparse import Namespace

from fairseq.models import ARCH_CONFIG_REGISTRY

from ..errors import UsageError, flag_of
from ..models.architectures import PREFIX

# Arguments that fairseq-train has to be told where they differ from the architecture's.
FLAGS = re.compile(
    r"(en|de)coder_(layers|embed_dim|ffn_embed_dim|attention_heads|normalize_before|learned_pos|output_dim)"
    r"|max_(source_|target_)?positions|activation_fn|share_(all|decoder_input_output)_embed(dings)?|layernorm_embedding"
    r"|no_token_positional_embeddings|no_scale_embedding"
)


def architecture(names: tuple[str, ...], args: dict) -> str:
    """The one of ``names`` whose defaults differ least; whether embeddings are scaled, which no option can switch on,
    counts first.
    """

    def differences(arch: str) -> tuple[bool, int]:
        usual = _usual(arch)
        return usual["no_scale_embedding"] != args.get("no_scale_embedding", True), sum(
            usual.get(name) != value for name, value in args.items() if FLAGS.fullmatch(name)
        )

    return min(names, key=differences)


def _usual(arch: str) -> dict:
    """What an architecture is without options."""
    usual = Namespace()
    ARCH_CONFIG_REGISTRY[arch](usual)
    return {"max_positions": 512} | vars(usual)  # RobertaModel's flag, which comes from its task otherwise


def train_options(args: dict) -> str:
    """The options by which fairseq-train builds this model with adapters.

    Raises:
        UsageError: it has not what its architecture has, and no option switches that off.
    """
    arch = PREFIX + args["arch"].removeprefix(PREFIX)
    usual = _usual(arch)
    options = [f"--arch {arch}"]
    for name, value in args.items():
        flag = flag_of(name)
        if not FLAGS.fullmatch(name) or usual.get(name, False if value is False else None) == value:
            continue
        if value is False:
            raise UsageError(f"the model is of --arch {arch} without {flag}, and fairseq-train cannot leave that out")
        options.append(flag if value is True else f"{flag} {value}")
    return " ".join(options)
