"""Safe loading of fairseq checkpoints on torch >= 2.6, which refuses everything but tensors by default.

The classes that fairseq's checkpoints are made of are allowed one by one; safe loading stays on, so a
file that names anything else is refused before any of it runs.
"""

import argparse
import collections
import functools
import importlib
import os
import pickle
import re
import typing
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress

import numpy as np
import torch
from fairseq import checkpoint_utils

from ..errors import UsageError, one_line_errors

# Checkpoints from before 2020 name the meters by the module they were in then.
_OLD_METERS = ("AverageMeter", "StopwatchMeter", "TimeMeter")
# A global that torch refuses is not on its list, or in a module that it blocks whatever the list says.
_REFUSED = re.compile(r"GLOBAL (\S+) (?:was not an allowed global|whose module \S+ is blocked)")
_UNREADABLE = (RuntimeError, OSError, EOFError, LookupError, AttributeError, TypeError, UnicodeDecodeError)
# What torch says of a file that is cut off or not its own; other errors of these types have other causes.
_DAMAGED = (
    *("PytorchStreamReader", "unexpected EOF", "Invalid magic number", "Invalid argument", "Tensor.__contains__"),
    *("not in a subdirectory", 'hasRecord("version")'),  # another zip file
)


def _fairseq_globals() -> Iterator[object]:
    import fairseq.distributed.utils
    import fairseq.logging.meters
    import omegaconf

    yield argparse.Namespace
    # Sub-structures of a configuration, as a resume under DDP broadcasts them.
    yield from (omegaconf.DictConfig, omegaconf.ListConfig)
    yield from (omegaconf.base.ContainerMetadata, omegaconf.base.Metadata, omegaconf.nodes.AnyNode)
    yield from (typing.Any, collections.defaultdict, collections.OrderedDict, dict, int, list)
    yield fairseq.distributed.utils._TensorPlaceholder
    for name in _OLD_METERS:
        meter = getattr(fairseq.logging.meters, name)
        yield meter
        yield (meter, f"fairseq.meters.{name}")
    # Arrays and scalars of NumPy, under the names of version 2 and of version 1: BLEU counts, best metrics.
    multiarray = importlib.import_module("numpy._core.multiarray")
    for name in ("_reconstruct", "scalar"):
        yield getattr(multiarray, name)
        yield (getattr(multiarray, name), f"numpy.core.multiarray.{name}")
    yield from (np.ndarray, np.dtype)
    yield from (type(np.dtype(kind)) for kind in ("float32", "float64", "int32", "int64", "bool"))


def read_state(path: str) -> dict:
    """The checkpoint, or adapter file, at ``path``.

    Raises:
        UsageError: there is no such file, or it is not a fairseq checkpoint. SystemExit: it is damaged or refused.
    """
    if not os.path.isfile(path):
        raise UsageError(f"{path}: there is no such file")
    state = checkpoint_utils.load_checkpoint_to_cpu(path)
    if "model" not in state:
        raise UsageError(f"{path} is not a fairseq checkpoint: it has no 'model'")
    return state


def allow_fairseq_globals() -> None:
    """Let torch's safe loader read fairseq's checkpoints, from 2019's to today's."""
    torch.serialization.add_safe_globals(list(_fairseq_globals()))


@contextmanager
def _safely() -> Iterator[None]:
    """Where this variable is set, as for stock fairseq, torch runs what a file holds (serialization.py, load)."""
    variable = "TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD"
    value = os.environ.pop(variable, None)
    try:
        yield
    finally:
        if value is not None:
            os.environ[variable] = value


def explain_failures(load: Callable[..., dict]) -> Callable[..., dict]:
    """Wrap fairseq's checkpoint reader: a file that cannot be read ends in one line that says why."""

    @functools.wraps(load)
    def wrapper(path: str, *args, **kwargs) -> dict:
        with one_line_errors():
            try:
                with _safely():
                    return load(path, *args, **kwargs)
            except pickle.UnpicklingError as error:
                raise UsageError(_refusal(path, str(error))) from error
            except KeyError as error:
                raise UsageError(_unknown_key(path, error)) from error
            except _UNREADABLE as error:
                if isinstance(error, (RuntimeError, OSError)) and not any(t in str(error) for t in _DAMAGED):
                    raise
                raise UsageError(f"{path} is not a complete fairseq checkpoint ({_first_line(error)})") from error

    return wrapper


def _unknown_key(path: str, error: KeyError) -> str:
    """fairseq looks the file's architecture, task and criterion up while it reads it."""
    key, state = error.args[0] if error.args else None, {}
    with suppress(pickle.UnpicklingError, *_UNREADABLE):
        state = torch.load(path, map_location="cpu", weights_only=True)
    named = vars(state["args"]) if isinstance(state, dict) and isinstance(state.get("args"), argparse.Namespace) else {}
    for name in ("arch", "task", "criterion"):
        if key is not None and named.get(name) == key:
            return f"{path} has the --{name} {key}, which neither fairseq nor this plugin has: is it another plugin's?"
    return f"{path} is not a complete fairseq checkpoint ({_first_line(error)})"


def _refusal(path: str, message: str) -> str:
    """What torch's several paragraphs, which advise to load unsafely, mean for the user."""
    refused = _REFUSED.search(message)
    if refused is None:
        return f"{path} is damaged or not a checkpoint"
    return (
        f"{path} was refused and nothing in it was run: it names {refused[1]}, which a fairseq checkpoint has "
        "no need for. Do not use the file unless you know where it comes from"
    )


def _first_line(error: Exception) -> str:
    return f"{type(error).__name__}: {error}".strip(": ").splitlines()[0]
