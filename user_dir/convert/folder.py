"""Reading a model folder of transformers: config.json and the tensors, one at a time."""

import functools
import pickle
from collections.abc import Callable
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from ..errors import UsageError
from ..files import read_object

CONFIG = "config.json"
SAFETENSORS, PICKLE = "model.safetensors", "pytorch_model.bin"
POINTER = b"version https://git-lfs"  # what a clone without Git LFS has in place of a file
INDEX = ".index.json"  # after one of these names: which tensor is in which of several files

Load = Callable[[], Tensor]


def read_config(folder: Path) -> dict:
    """config.json.

    Raises:
        UsageError: there is none.
    """
    if not (folder / CONFIG).is_file():
        raise UsageError(
            f"{folder} is not a model folder of transformers, with a {CONFIG}; a fairseq checkpoint goes with --to hf"
        )
    return read_object(folder / CONFIG)


def open_tensors(folder: Path) -> dict[str, Load]:
    """What reads each tensor of the model, by name.

    Raises:
        UsageError: there are no weights, or they are damaged or not of tensors alone.
    """
    for name in (SAFETENSORS, PICKLE):
        if (folder / name).is_file():
            return _open(folder / name)
        if (folder / (name + INDEX)).is_file():
            where = read_object(folder / (name + INDEX)).get("weight_map")
            if not isinstance(where, dict) or not all(isinstance(file, str) for file in where.values()):
                raise UsageError(f"{folder / (name + INDEX)} has no weight_map of tensors and files")
            files = sorted(set(where.values()))
            tensors = {}
            for file in files:
                if not (folder / Path(file).name).is_file():
                    raise UsageError(f"{folder / file} is not there, and {name + INDEX} names it")
                tensors |= _open(folder / Path(file).name)
            return tensors
    raise UsageError(f"{folder} has no weights: neither {SAFETENSORS} nor {PICKLE}")


def _open(file: Path) -> dict[str, Load]:
    try:
        with file.open("rb") as opened:
            if opened.read(len(POINTER)) == POINTER:
                raise UsageError(f"{file} holds no weights but Git LFS's pointer to them: fetch them with git lfs pull")
        if file.suffix == ".safetensors":
            reader = safe_open(file, "pt")
            return {name: functools.partial(reader.get_tensor, name) for name in reader.keys()}  # noqa: SIM118
        state = torch.load(file, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        raise UsageError(f"{file} was refused and nothing in it was run: it does not hold tensors alone") from error
    except (SafetensorError, RuntimeError, EOFError, OSError, LookupError) as error:
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise UsageError(f"{file} is damaged ({reason})") from error
    if not isinstance(state, dict) or not all(isinstance(value, Tensor) for value in state.values()):
        raise UsageError(f"{file} holds something else than a model's tensors by name")
    return {name: functools.partial(state.get, name) for name in state}
