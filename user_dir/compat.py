"""What fairseq 0.12.3 needs to run right on today's NumPy and PyTorch. Only this file touches others' modules."""

import functools
import types
from collections.abc import Callable

import numpy as np


def apply() -> None:
    """Idempotent; runs when the plugin is imported."""
    from fairseq import checkpoint_utils
    from fairseq.data import data_utils

    from .checkpoint.loading import allow_fairseq_globals, explain_failures

    # fairseq 0.12.3 (token_block_dataset.py, language_pair_dataset.py) uses np.compat.long, gone in NumPy 2.
    if not hasattr(np, "compat"):
        np.compat = types.SimpleNamespace(long=int)

    # torch >= 2.6 refuses fairseq's checkpoints; and every checkpoint is read through this one function,
    # where a damaged or unsafe file ends in a page of traceback.
    allow_fairseq_globals()
    if not hasattr(checkpoint_utils.load_checkpoint_to_cpu, "__wrapped__"):
        checkpoint_utils.load_checkpoint_to_cpu = explain_failures(checkpoint_utils.load_checkpoint_to_cpu)

    # fairseq 0.12.3 drops the last batch if its size is not a multiple of --required-batch-size-multiple
    # (8 by default): of 787 test examples, fairseq-generate translates 784 and says nothing.
    if not hasattr(data_utils.batch_by_size, "__wrapped__"):
        data_utils.batch_by_size = keep_last_batch(data_utils.batch_by_size)


def keep_last_batch(batch_by_size: Callable[..., list]) -> Callable[..., list]:
    """Give back the examples that ``batch_by_size`` leaves out at the end."""

    @functools.wraps(batch_by_size)
    def wrapper(indices, *args, **kwargs) -> list:
        batches = list(batch_by_size(indices, *args, **kwargs))
        fixed_shapes = kwargs.get("fixed_shapes")
        batched = sum(len(batch) for batch in batches)
        if fixed_shapes is None and batched < len(indices):
            batches.append(np.asarray(indices)[batched:])
        return batches

    return wrapper
