"""A fairseq checkpoint of a RoBERTa, BART or mBART as a model folder of transformers, with LoRA in the weights."""

import shutil
from argparse import Namespace
from pathlib import Path

import torch
from fairseq.data import Dictionary
from fairseq.models import ARCH_CONFIG_REGISTRY, ARCH_MODEL_NAME_REGISTRY
from safetensors.torch import save_file
from torch import Tensor
from tqdm import tqdm

from ..adapters.lora import merge_lora_
from ..checkpoint.adapter_only import whole_state
from ..checkpoint.rebuild import build_model, rebuild, recorded_arguments
from ..errors import UsageError
from ..files import folder_at_once, write_json
from ..models.architectures import PREFIX
from ..modules import has_adapters, is_adapter_key
from .bart import BART, MBART
from .byte_bpe import write_byte_bpe
from .folder import CONFIG, SAFETENSORS
from .kind import TOKEN_IDS, Kind
from .roberta import ROBERTA
from .tokenizer_files import TOKENIZER
from .vocabulary import DICTIONARY, MASK, OFFSET

HEADS = "classification_heads."


def convert_to_huggingface(state: dict, places: list[Path], out: Path) -> list[str]:
    """Write the model of a checkpoint to the folder ``out``, which is replaced if it exists.

    Args:
        state: of the checkpoint.
        places: folders where the vocabulary may lie, the first one first.

    Returns:
        What there is to say about it, by the line.

    Raises:
        UsageError: transformers has no such model.
    """
    kind = _kind(recorded_arguments(state))
    heads = [key for key in state["model"] if key.startswith(HEADS)]
    for key in heads:
        del state["model"][key]
    backbone = (value for key, value in state["model"].items() if not is_adapter_key(key))
    halves = {value.dtype for value in backbone if value.is_floating_point() and value.numel() > 1}
    args, tensors = _whole_model(state)
    try:
        remarks = kind.unfinish(tensors, args)
        config = _config(kind, args, tensors)
    except KeyError as error:
        raise UsageError(f"{kind.name} in transformers is another model: this one lacks {error.args[0]}") from error
    if (language := _language(state["cfg"].task)) is not None:
        start = _row(f"[{language}]", state["cfg"].task, places, config["vocab_size"])
        if start is None:
            remarks.append(f"no dict.txt beside it says which row is [{language}]: set decoder_start_token_id")
        else:
            config["decoder_start_token_id"] = start
            remarks.append(f"decoder_start_token_id is {start:,}, the row of [{language}]")
    dtype = torch.float16 if halves == {torch.float16} else torch.float32
    config["torch_dtype"] = str(dtype).removeprefix("torch.")
    tensors = {key: value.to(dtype).contiguous() for key, value in _rename(kind, args, tensors).items()}
    with folder_at_once(out) as temporary:
        write_json(temporary / CONFIG, config)
        save_file(tensors, temporary / SAFETENSORS, metadata={"format": "pt"})
        shutil.copymode(temporary / CONFIG, temporary / SAFETENSORS)  # save_file lets nobody but the owner read it
        has_vocabulary = any(write_byte_bpe(place, temporary, config["vocab_size"]) for place in places)
        if has_vocabulary:  # mBART's own is another
            name = "RobertaTokenizer" if kind is ROBERTA else "BartTokenizer"
            unused = OFFSET if kind is ROBERTA else 0
            longest = config["max_position_embeddings"] - unused
            write_json(temporary / TOKENIZER, {"tokenizer_class": name, "model_max_length": longest})
            if kind is not ROBERTA and getattr(state["cfg"].task, "source_lang", None):
                remarks.append(
                    "it was trained on sources without <s>, which the tokenizer puts first: encode with "
                    "add_special_tokens=False, and append </s>"
                )
    count = sum(value.numel() for value in tensors.values())
    lines = [f"{out}: {config['architectures'][0]}, {count:,} numbers in {config['torch_dtype']}"]
    if not has_vocabulary:
        lines.append(f"no tokenizer: {' and '.join(map(str, places))} without dict.txt, encoder.json and vocab.bpe")
    if heads:
        lines.append(f"note: left out: {', '.join(sorted(heads))}")
    return lines + [f"note: {remark}" for remark in remarks]


def _language(task: Namespace | None) -> str | None:
    """The target language, with which the decoder begins if an mBART was trained to translate."""
    target = getattr(task, "target_lang", None)
    return target if target in _languages(task) else None


def _languages(task: Namespace | None) -> list[str]:
    return (getattr(task, "langs", None) or "").split(",")


def _row(symbol: str, task: Namespace, places: list[Path], rows: int) -> int | None:
    """That of a symbol; None where no dictionary of so many rows is there, in ``places`` or with the task's data.

    Raises:
        UsageError: one that is there cannot be read.
    """
    files = [place / DICTIONARY for place in places]
    if data := (getattr(task, "data", None) or "").split(":")[0]:
        files.append(Path(data) / f"dict.{task.target_lang}.txt")
    for file in filter(Path.is_file, files):
        try:
            dictionary = Dictionary.load(str(file))
        except Exception as error:  # fairseq raises Exception itself
            raise UsageError(f"{file} is no dictionary of fairseq ({error})") from error
        # As fairseq's task does; those that the file has keep their rows (translation_from_pretrained_bart.py).
        for added in (*(f"[{language}]" for language in _languages(task)), MASK):
            dictionary.add_symbol(added)
        if len(dictionary) == rows:
            return dictionary.index(symbol)
    return None


def _kind(args: Namespace) -> Kind:
    model = ARCH_MODEL_NAME_REGISTRY.get(args.arch, "").removeprefix(PREFIX)
    if model == "roberta":
        return ROBERTA
    if model != "bart":
        raise UsageError(f"the checkpoint is of the architecture {args.arch}: --to hf writes RoBERTa, BART and mBART")
    before = {bool(getattr(args, f"{stack}_normalize_before", False)) for stack in ("encoder", "decoder")}
    if len(before) > 1:
        raise UsageError(
            "one of the stacks normalises before its sublayers and one after: transformers has no such BART"
        )
    return MBART if before.pop() else BART


def _whole_model(state: dict) -> tuple[dict, dict[str, Tensor]]:
    """Arguments and weights of the model without adapters; the one with adapters reads older and headless files too."""
    args = recorded_arguments(state)
    adapted = has_adapters(state["model"])
    others = set(args.adapter.split("+")) - {"lora"} if adapted else set()
    if others:
        raise UsageError(f"transformers has no {' and '.join(sorted(others))} adapters: only LoRA can be merged")
    try:
        if adapted:
            model = rebuild(state)
            merge_lora_(model)
            weights = whole_state(model)
        else:
            arch = PREFIX + args.arch.removeprefix(PREFIX)
            vars(args).update(arch=arch, adapter="none", adapter_only_checkpoints=False)
            size = _rows(state["model"])
            model = build_model(args, size, size)
            model.load_state_dict(state["model"], strict=True, model_cfg=args)
            weights = model.state_dict()
    except RuntimeError as error:
        raise UsageError(f"the weights do not fit the checkpoint's own arguments: {str(error)[:300]}") from error
    ARCH_CONFIG_REGISTRY[args.arch](args)
    return vars(args), {key: value for key, value in weights.items() if not is_adapter_key(key)}


def _rows(weights: dict[str, Tensor]) -> int:
    for key, value in weights.items():
        if key.endswith("embed_tokens.weight"):
            return len(value)
    raise UsageError("the checkpoint holds no model with an embedding of tokens")


def _config(kind: Kind, args: dict, tensors: dict[str, Tensor]) -> dict:
    config = kind.config(args, tensors) | TOKEN_IDS
    for ours, theirs in kind.numbers.items():
        if config.setdefault(theirs, args[ours]) != args[ours]:
            raise UsageError(f"the model has {ours} {args[ours]}, and transformers needs {config[theirs]}")
    return config | {theirs: args.get(ours) or 0.0 for ours, theirs in kind.rates.items()}


def _rename(kind: Kind, args: dict, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """The tensors under the names that transformers' model with an LM head, or without, has for them."""
    rows = [row for row in kind.rows(args) if not row.group or row.ours in tensors]
    wanted = {row.ours for row in rows}
    if wanted != set(tensors):
        key = min(wanted ^ set(tensors))
        problem = "lacks" if key in wanted else "has"
        raise UsageError(f"{kind.name} in transformers is another model: this one {problem} {key}")
    bare = not any(row.group for row in rows)
    return {
        row.theirs if bare or row.group else kind.prefix + row.theirs: tensors[row.ours]
        for row in tqdm(rows, desc="converting", unit="tensor")
    }
