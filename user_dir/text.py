"""Between text and the symbols of a dictionary: fairseq's tokenizers and BPEs, by the names of its own flags."""

from argparse import Namespace
from dataclasses import dataclass

from fairseq.data import encoders
from fairseq.registry import REGISTRIES
from omegaconf import MISSING

from .errors import UsageError, flag_of

KINDS = ("tokenizer", "bpe")


def text_options() -> dict[str, str]:
    """All options of all tokenizers and BPEs, ``sentencepiece_model`` and the like, with their documentation."""
    fields = {}
    for kind in KINDS:
        for config in REGISTRIES[kind]["dataclass_registry"].values():
            for name, field in config.__dataclass_fields__.items():
                if name != "_name":
                    fields.setdefault(name, field.metadata.get("help", ""))
    return fields


@dataclass
class Codec:
    """A tokenizer and a BPE, each of which may be None."""

    tokenizer: object | None = None
    bpe: object | None = None

    @classmethod
    def build(cls, tokenizer: str | None = None, bpe: str | None = None, **options: object) -> "Codec":
        """What encodes text.

        Args:
            tokenizer, bpe: fairseq's names for them.
            options: theirs, by the names that they have as fairseq's flags.

        Raises:
            UsageError: a name is unknown, or an option is missing, unknown or names no file.
        """
        options = {name: value for name, value in options.items() if value is not None}
        unknown = sorted(options.keys() - text_options().keys())
        if unknown:
            raise UsageError(f"unknown option {unknown[0]}: it is of no tokenizer and no BPE")
        chosen = {"tokenizer": tokenizer, "bpe": bpe}
        return cls(**{kind: _build(kind, name, options) for kind, name in chosen.items()})

    def encode(self, text: str) -> str:
        """Without blanks around it, as in ``fairseq-interactive``: to a BPE of bytes, they are symbols."""
        text = text.strip()
        for encoder in (self.tokenizer, self.bpe):
            text = text if encoder is None else encoder.encode(text)
        return text

    def decode(self, text: str) -> str:
        for encoder in (self.bpe, self.tokenizer):
            text = text if encoder is None else encoder.decode(text)
        return text


def _build(kind: str, name: str | None, options: dict) -> object | None:
    if name is None:
        return None
    if name not in REGISTRIES[kind]["registry"]:
        raise UsageError(f"unknown --{kind} {name}: choose one of {', '.join(sorted(REGISTRIES[kind]['registry']))}")
    config = REGISTRIES[kind]["dataclass_registry"].get(name)
    for field in config.__dataclass_fields__.values() if config else ():
        if field.default == MISSING and field.name not in options:
            raise UsageError(f"--{kind} {name} needs {flag_of(field.name)}")
    build = {"tokenizer": encoders.build_tokenizer, "bpe": encoders.build_bpe}[kind]
    try:
        return build(Namespace(**{kind: name}, **options))
    except (OSError, RuntimeError, ValueError, ImportError) as error:  # no file, one of another kind, or no package
        raise UsageError(f"--{kind} {name} cannot be used: {error}") from error
