"""What fairseq 0.12.3 needs to run on today's NumPy and PyTorch. The only place that touches others' modules."""

import types

import numpy as np


def apply() -> None:
    """Idempotent; runs when the plugin is imported."""
    # fairseq 0.12.3 (token_block_dataset.py, language_pair_dataset.py) uses np.compat.long, gone in NumPy 2.
    if not hasattr(np, "compat"):
        np.compat = types.SimpleNamespace(long=int)

    # fairseq 0.12.3 reads every checkpoint through this function, and a damaged or unsafe file ends in a
    # page of traceback. The safe loader is torch's own; see checkpoint/loading.py.
    from fairseq import checkpoint_utils

    from .checkpoint.loading import allow_fairseq_globals, explain_failures

    allow_fairseq_globals()
    if not hasattr(checkpoint_utils.load_checkpoint_to_cpu, "__wrapped__"):
        checkpoint_utils.load_checkpoint_to_cpu = explain_failures(checkpoint_utils.load_checkpoint_to_cpu)
