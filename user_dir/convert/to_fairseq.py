"""A model folder of transformers as one of fairseq: model.pt, dict.txt and what encodes text."""

import re
import shlex
import shutil
from argparse import Namespace
from pathlib import Path

import torch
from torch import Tensor
from tqdm import tqdm

from ..checkpoint.adapter_file import fresh_checkpoint
from ..errors import UsageError
from ..files import folder_at_once
from .architecture import architecture, train_options
from .bart import BART, MBART
from .bert import BERT
from .folder import Load, open_tensors, read_config
from .kind import AXES, VOCAB, Kind, Row, number, required
from .roberta import ROBERTA, XLMR
from .vocabulary import DICTIONARY, Vocabulary

MODEL = "model.pt"
# By transformers' model_type.
KINDS = {"bert": BERT, "roberta": ROBERTA, "xlm-roberta": XLMR, "bart": BART, "mbart": MBART}
# Buffers that some versions of transformers save, and their oldest names of a LayerNorm's parameters.
BUFFERS = re.compile(r"(^|\.)(position_ids|token_type_ids|version)$")
OLD_NAMES = {".gamma": ".weight", ".beta": ".bias"}


def convert_to_fairseq(folder: Path, out: Path) -> list[str]:
    """Write the folder's model to the folder ``out``, which is replaced if it exists.

    Returns:
        What there is to say about it, by the line.

    Raises:
        UsageError: the model is none that can be converted, or not complete.
    """
    config = read_config(folder)
    kind = _kind(config)
    remarks = _check_settings(kind, config)
    args = {ours: required(config, theirs) for ours, theirs in kind.numbers.items()}
    args |= {
        ours: float(number(config, theirs)) for ours, theirs in kind.rates.items() if config.get(theirs) is not None
    }
    args |= kind.arguments(config) | {VOCAB: required(config, "vocab_size")}
    vocabulary = kind.vocabulary(folder, args[VOCAB])
    if vocabulary is not None:
        vocabulary.fit(args[VOCAB])
        args |= vocabulary.args
        remarks += vocabulary.notes
    rows, found, left_out, ties = _choose(kind, kind.rows(args), open_tensors(folder), folder, config)
    remarks += ties
    if left_out:
        remarks.append(f"left out, as fairseq has no place for them: {', '.join(left_out)}")
    tensors, dtypes = _read(rows, found, args, None if vocabulary is None else vocabulary.order)
    del found
    remarks += kind.finish(tensors, args)
    args = {name: value for name, value in args.items() if name not in AXES}
    args["arch"] = architecture(kind.architectures, args)
    with folder_at_once(out) as temporary:
        _write(temporary, args, tensors, vocabulary)
    count = sum(value.numel() for value in {id(value): value for value in tensors.values()}.values())
    dtype = next(iter(tensors.values())).dtype
    was = "" if dtypes == {dtype} else f" (of {', '.join(sorted(map(_name, dtypes)))})"
    first = f"{out / MODEL}: {kind.name}, {count:,} numbers in {_name(dtype)}{was}, architecture {args['arch']}"
    if vocabulary is None:
        second = [f"no {DICTIONARY}: {folder} has no {kind.files}; rows keep their order"]
    else:
        second = [f"{out / DICTIONARY}: {vocabulary.remark}", f"encode text with {_quoted(vocabulary.bpe, out)}"]
    options = f"train with {train_options(args)} --finetune-from-model {shlex.quote(str(out / MODEL))}"
    return [first, *second, options, *(f"note: {remark}" for remark in remarks)]


def _quoted(options: str, out: Path) -> str:
    """Options as a shell wants them, ``{out}`` being the folder ``out``."""
    return " ".join(shlex.quote(word.format(out=out)) if "{out}" in word else word for word in options.split(" "))


def _kind(config: dict) -> Kind:
    model_type = config.get("model_type")
    if model_type is None:
        raise UsageError(f"config.json has no model_type: add one of {', '.join(KINDS)}")
    if not isinstance(model_type, str) or model_type not in KINDS:
        raise UsageError(f"model_type {model_type} is not supported: {', '.join(KINDS)} are")
    return KINDS[model_type]


def _check_settings(kind: Kind, config: dict) -> list[str]:
    """Refuse what fairseq cannot compute."""
    for key, value in kind.fixed.items():
        if config.get(key, value) not in (value, None):
            raise UsageError(f"config.json has {key} {config[key]}, and fairseq's {kind.name} has {value}")
    if config.get("quantization_config"):
        raise UsageError("config.json has a quantization_config: only models that are not quantised can be converted")
    for theirs in (theirs for ours, theirs in kind.numbers.items() if ours.endswith("_attention_heads")):
        dim = required(config, kind.numbers["encoder_embed_dim"])
        if dim % required(config, theirs):
            raise UsageError(f"config.json has {theirs} {config[theirs]}, which do not divide the dimension {dim}")
    if kind.epsilon is not None:
        epsilon, default = kind.epsilon
        found = number(config, "layer_norm_eps") if config.get("layer_norm_eps") else default
        if max(epsilon, found) > 1e-5:
            raise UsageError(f"config.json has layer_norm_eps {found}, and fairseq's {kind.name} has {epsilon}")
        if found != epsilon:
            return [f"layer_norm_eps is {found} and in fairseq's {kind.name} {epsilon}: outputs differ by some 1e-4"]
    return []


def _choose(
    kind: Kind, rows: list[Row], tensors: dict[str, Load], folder: Path, config: dict
) -> tuple[list[Row], dict, list[str], list[str]]:
    """Find the rows' tensors under the names that a task's model has for them.

    Returns:
        The rows that are there, what reads them by row, what is left over and belongs to a task, and remarks.
    """
    found, remarks = {}, []
    for name, load in tensors.items():
        bare = name.removeprefix(kind.prefix)
        for old, new in OLD_NAMES.items():
            bare = bare.removesuffix(old) + new if bare.endswith(f"LayerNorm{old}") else bare
        if not BUFFERS.search(bare):
            found[bare] = load
    for copy, original in kind.tied.items():
        load = found.pop(copy, None)
        if load is not None and not torch.equal(load().float(), found.setdefault(original, load)().float()):
            if not config.get("tie_word_embeddings", True):
                raise UsageError(
                    f"{folder}: {copy} is not {original} (tie_word_embeddings false), and fairseq's {kind.name} has one"
                )
            remarks.append(f"{copy} differs from {original}, and is left out: they are tied")
    groups = {row.group for row in rows if row.theirs in found}
    rows = [row for row in rows if not row.group or row.group in groups]
    missing = sorted({row.theirs for row in rows} - set(found))
    extra = sorted(set(found) - {row.theirs for row in rows})
    if missing:
        raise UsageError(f"{folder} lacks {len(missing)} tensors of {kind.name} (first: {missing[0]})")
    unknown = [name for name in extra if not name.startswith(kind.left_out)]
    if unknown:
        raise UsageError(f"{folder} has {len(unknown)} tensors that {kind.name} has not (first: {unknown[0]})")
    return rows, found, extra, remarks


def _read(rows: list[Row], found: dict[str, Load], args: dict, order: Tensor | None) -> tuple[dict, set[torch.dtype]]:
    """The tensors under fairseq's names: in half precision if all of them are, else in single precision."""
    tensors, dtypes = {}, set()
    for row in tqdm(rows, desc="converting", unit="tensor"):
        value = found.pop(row.theirs)()
        shape = tuple(args.get(axis, axis) for axis in row.shape)
        if value.shape != shape:
            raise UsageError(f"{row.theirs} has shape {tuple(value.shape)}, and by config.json it has {shape}")
        if not value.is_floating_point():
            raise UsageError(f"{row.theirs} is of {value.dtype}: only models that are not quantised can be converted")
        dtypes.add(value.dtype)
        value = value if value.dtype == torch.float16 else value.float()
        moved = order is not None and row.shape[0] == VOCAB
        tensors[row.ours] = value[order] if moved else value.clone(memory_format=torch.contiguous_format)
    if dtypes != {torch.float16}:
        tensors = {key: value.float() for key, value in tensors.items()}
    return tensors, dtypes


def _write(out: Path, args: dict, tensors: dict[str, Tensor], vocabulary: Vocabulary | None) -> None:
    state = fresh_checkpoint(None, tensors)
    del state["cfg"]
    torch.save(state | {"args": Namespace(**args)}, out / MODEL)
    if vocabulary is None:
        return
    (out / DICTIONARY).write_text(vocabulary.dictionary(), encoding="utf-8")
    for name, content in vocabulary.files.items():
        if isinstance(content, Path):
            shutil.copyfile(content, out / name)
        else:
            (out / name).write_text(content, encoding="utf-8")


def _name(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")
