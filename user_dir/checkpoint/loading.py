"""Safe loading of fairseq checkpoints on torch >= 2.6, which refuses everything but tensors by default.

The classes that fairseq's checkpoints are made of are allowed one by one; safe loading stays on, so a
file that names anything else is refused before any of it runs.
"""

import argparse
import collections
import functools
import importlib
import pickle
import typing
from collections.abc import Callable, Iterator

import numpy as np
import torch

from ..errors import UsageError, one_line_errors

# Checkpoints from before 2020 name the meters by the module they were in then.
_OLD_METERS = ("AverageMeter", "StopwatchMeter", "TimeMeter")


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


def allow_fairseq_globals() -> None:
    """Let torch's safe loader read fairseq's checkpoints, from 2019's to today's."""
    torch.serialization.add_safe_globals(list(_fairseq_globals()))


def explain_failures(load: Callable[..., dict]) -> Callable[..., dict]:
    """Wrap fairseq's checkpoint reader: a file that cannot be read ends in one line that says why."""

    @functools.wraps(load)
    def wrapper(path: str, *args, **kwargs) -> dict:
        with one_line_errors():
            try:
                return load(path, *args, **kwargs)
            except pickle.UnpicklingError as error:
                raise UsageError(_refusal(path, str(error))) from error
            except (RuntimeError, EOFError, KeyError, AttributeError) as error:
                if isinstance(error, RuntimeError) and "PytorchStreamReader" not in str(error):
                    raise
                raise UsageError(f"{path} is not a complete fairseq checkpoint ({_first_line(error)})") from error

    return wrapper


def _refusal(path: str, message: str) -> str:
    """What torch's several paragraphs mean for the user."""
    marker = "Unsupported global: GLOBAL "
    if marker in message:
        name = message.split(marker, 1)[1].split()[0]
        return (
            f"{path} was refused and nothing in it was run: it names {name}, which a fairseq checkpoint has "
            "no need for. Do not use the file unless you know where it comes from"
        )
    return f"{path} is damaged or not a checkpoint ({_first_line(message)})"


def _first_line(error: object) -> str:
    return str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
