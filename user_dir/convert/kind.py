"""What the two converters know of one kind of model, as data that reads in both directions."""

import dataclasses
from collections.abc import Callable, Iterable
from pathlib import Path

from torch import Tensor

from ..errors import UsageError
from .vocabulary import Vocabulary

# Hugging Face's name of an activation (transformers/activations.py) and fairseq's (utils.py, get_activation_fn).
# fairseq's swish is a class and not a function there, so no layer can call it.
ACTIVATIONS = {
    "gelu": "gelu",
    "gelu_python": "gelu",
    "gelu_new": "gelu_accurate",
    "gelu_fast": "gelu_accurate",
    "gelu_pytorch_tanh": "gelu_accurate",
    "relu": "relu",
    "tanh": "tanh",
    "linear": "linear",
}
# Lengths of axes that are no arguments of fairseq: of the dictionary, and of the tables of positions and segments.
VOCAB, POSITIONS, SEGMENTS = AXES = ("vocab", "positions", "segments")

# Of fairseq's special symbols, in config.json.
TOKEN_IDS = {"bos_token_id": 0, "pad_token_id": 1, "eos_token_id": 2}


@dataclasses.dataclass(frozen=True)
class Row:
    """One tensor under both names.

    Args:
        theirs: the key in a bare model of transformers.
        ours: the key in fairseq's model.
        shape: the arguments of fairseq's model that say how long the axes are, or the lengths.
        group: if not empty, a file may lack this tensor, together with all others of the group.
    """

    theirs: str
    ours: str
    shape: tuple[str | int, ...]
    group: str = ""


@dataclasses.dataclass(frozen=True)
class Kind:
    """One kind of model.

    Args:
        name: what people call it.
        prefix: what transformers' models for a task put before the names of the bare model.
        numbers: fairseq's arguments and the same ones in config.json, which has to have them.
        rates: the same for dropout probabilities, which config.json may lack.
        rows: the tensors of a model with certain arguments.
        arguments: what else fairseq has to be told about the model of a configuration, and how long the axes are.
        architectures: fairseq's names for certain sizes, the usual one first.
        vocabulary: reads that of a folder for a number of rows; None if its files are not there.
        finish: makes fairseq's tensors of those that were renamed, in place, given its arguments; gives remarks.
        tied: keys of tensors that have to equal others, which alone are converted.
        left_out: beginnings of keys that fairseq's model has no place for: the heads of tasks.
        fixed: settings in config.json of which fairseq's model has one value only; the default is that value.
        files: those of the vocabulary, to say what is not there; empty where reading it without them is an error.
        epsilon: of the LayerNorms, and what config.json means if it says nothing. None: no such setting.
        config: what else transformers has to be told about a model of these arguments and tensors of ours.
        unfinish: undoes ``finish``, in place; gives remarks. None: there is no way back.
    """

    name: str
    prefix: str
    numbers: dict[str, str]
    rates: dict[str, str]
    rows: Callable[[dict], list[Row]]
    arguments: Callable[[dict], dict]
    architectures: tuple[str, ...]
    vocabulary: Callable[[Path, int], Vocabulary | None]
    finish: Callable[[dict[str, Tensor], dict], list[str]]
    tied: dict[str, str]
    left_out: tuple[str, ...]
    fixed: dict[str, object]
    files: str = ""
    epsilon: tuple[float, float] | None = None
    config: Callable[[dict, dict[str, Tensor]], dict] | None = None
    unfinish: Callable[[dict[str, Tensor], dict], list[str]] | None = None


def required(config: dict, key: str) -> int:
    """A size in config.json.

    Raises:
        UsageError: it is not there or no positive whole number.
    """
    value = config.get(key)
    if not isinstance(value, int) or isinstance(value, bool) or value < 1:
        raise UsageError(f"config.json has {key} {value}: a positive whole number is needed")
    return value


def number(config: dict, key: str) -> float:
    """A number that config.json has.

    Raises:
        UsageError: it is something else.
    """
    if not isinstance(config[key], int | float):
        raise UsageError(f"config.json has {key} {config[key]!r}, which is no number")
    return config[key]


def fairseq_activation(config: dict, key: str) -> str:
    """fairseq's name of the activation in config.json.

    Raises:
        UsageError: fairseq has no such activation.
    """
    name = config.get(key, "gelu")
    if not isinstance(name, str) or name not in ACTIVATIONS:
        raise UsageError(f"config.json has {key} {name}, and fairseq has {', '.join(ACTIVATIONS)}")
    return ACTIVATIONS[name]


def huggingface_activation(args: dict) -> str:
    """transformers' name of the activation in fairseq's arguments.

    Raises:
        UsageError: transformers has no such activation.
    """
    for theirs, ours in ACTIVATIONS.items():
        if ours == args["activation_fn"].replace("gelu_fast", "gelu_accurate"):  # its old name in fairseq
            return theirs
    raise UsageError(f"the model has the activation {args['activation_fn']}, which transformers has not")


def linear(theirs: str, ours: str, inputs: str, outputs: str, group: str = "") -> tuple[Row, Row]:
    weight = Row(f"{theirs}.weight", f"{ours}.weight", (outputs, inputs), group)
    return weight, Row(f"{theirs}.bias", f"{ours}.bias", (outputs,), group)


def layer_norm(theirs: str, ours: str, dim: str, group: str = "") -> tuple[Row, Row]:
    return tuple(Row(f"{theirs}.{name}", f"{ours}.{name}", (dim,), group) for name in ("weight", "bias"))


def under(theirs: str, ours: str, rows: Iterable[Row]) -> list[Row]:
    """The rows of a module that has these names."""
    return [dataclasses.replace(row, theirs=theirs + row.theirs, ours=ours + row.ours) for row in rows]
