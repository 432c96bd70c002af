"""Adapter files to share: ``NAME.safetensors`` with the tensors and ``NAME.json`` with everything else. No pickle.

fairseq's commands read them wherever they take a checkpoint, through ``also_reads_adapter_files``.
"""

import functools
import json
from argparse import Namespace
from collections.abc import Callable
from pathlib import Path

from fairseq.dataclass.configs import FairseqConfig
from fairseq.dataclass.utils import overwrite_args_by_name
from omegaconf import OmegaConf
from safetensors import SafetensorError
from safetensors.torch import load_file, save
from torch import Tensor

from ..errors import UsageError, one_line_errors
from ..files import write_json, written_at_once
from .fingerprint import fingerprint

SUFFIX = ".safetensors"
FORMAT = 1


def whole_configuration(sections: dict) -> dict:
    """``sections``, and fairseq's defaults for all others: its ``from_pretrained`` reads most of them."""
    return OmegaConf.to_container(OmegaConf.structured(FairseqConfig), resolve=True, enum_to_str=True) | sections


def fresh_checkpoint(cfg: object, tensors: dict[str, Tensor]) -> dict:
    """The state of a fairseq checkpoint that starts training anew."""
    history = {"criterion_name": "", "optimizer_name": "", "lr_scheduler_state": {"best": None}, "num_updates": 0}
    iterator = {"epoch": 1, "iterations_in_epoch": 0}
    return {
        "args": None,
        "cfg": cfg,
        "model": tensors,
        "optimizer_history": [history],
        "extra_state": {"train_iterator": iterator, "val_loss": None},
    }


def adapter_files(path: Path) -> tuple[Path, Path]:
    """The two files that ``NAME.safetensors`` stands for."""
    return path, path.with_suffix(".json")


def write_adapter_file(path: Path, tensors: dict[str, Tensor], sections: dict[str, dict], summary: dict) -> None:
    """Write both files.

    Args:
        path: ``NAME.safetensors``.
        tensors: adapters and heads by their key in the model.
        sections: of fairseq's configuration: ``model``, with the backbone's path and fingerprint, ``task`` and
            ``criterion``.
        summary: what the file holds, for people and for other programs.
    """
    config = {"format": FORMAT, "tensors_sha256": fingerprint(tensors.items()), "summary": summary, **sections}
    with written_at_once(path) as temporary:
        # Not save_file, which lets nobody but the owner read the file.
        temporary.write_bytes(save({key: value.contiguous() for key, value in tensors.items()}))
        write_json(adapter_files(path)[1], config)


def read_adapter_file(path: Path, arg_overrides: dict | None = None) -> dict:
    """The adapter file at ``path`` as the state of a fairseq checkpoint.

    Raises:
        UsageError: a file of the two is missing or damaged, of another adapter, or of a format from the future.
    """
    _, sidecar = files = adapter_files(path)
    for file in files:
        if not file.is_file():
            raise UsageError(f"{file} is not there: an adapter file is NAME{SUFFIX} with NAME.json beside it")
    try:
        config = json.loads(sidecar.read_text(encoding="utf-8"))
        version, model, task = config["format"], Namespace(**config["model"]), dict(config["task"])
        tensors = load_file(path)
    except (ValueError, KeyError, TypeError, SafetensorError) as error:
        raise UsageError(f"{path} or {sidecar.name} is damaged ({type(error).__name__}: {error})") from error
    if version != FORMAT:
        raise UsageError(f"{sidecar} has format {version} and this version reads {FORMAT}: update sparse-adapter")
    wanted = config.get("tensors_sha256")  # older files do not say
    if wanted and wanted != fingerprint(tensors.items()):
        raise UsageError(f"{path} and {sidecar.name} are not of one adapter: extract it again, or copy both files")
    if task:
        task.setdefault("data", "")  # unknown to the file, and what is not there cannot be overridden
    sections = {"model": model, "task": task}
    if config.get("criterion"):  # older files have none
        sections["criterion"] = config["criterion"]
    cfg = OmegaConf.create(whole_configuration(sections), flags={"allow_objects": True})
    if arg_overrides is not None:
        overwrite_args_by_name(cfg, arg_overrides)
    return fresh_checkpoint(cfg, tensors)


def also_reads_adapter_files(load: Callable[..., dict]) -> Callable[..., dict]:
    """Wrap fairseq's checkpoint reader."""

    @functools.wraps(load)
    def wrapper(path: str, arg_overrides: dict | None = None, *args, **kwargs) -> dict:
        if not str(path).endswith(SUFFIX):
            return load(path, arg_overrides, *args, **kwargs)
        with one_line_errors():
            return read_adapter_file(Path(path), arg_overrides)

    return wrapper
