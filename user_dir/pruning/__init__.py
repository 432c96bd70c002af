"""Pruning at initialisation: scores, exact selection and the report. Needs no fairseq.

A pruner is one file with one class; importing this package registers all of them.
"""

from . import erdos_renyi, grasp, magnitude, random, snip  # noqa: F401  (registration)
from .objective import Objective
from .prune import apply_masks_, prune
from .registry import PRUNERS, Pruner, build_pruner, register_pruner
from .report import format_report, sparsity_report
from .scopes import SCOPES
from .selection import DegenerateScores

__all__ = [
    "PRUNERS", "SCOPES", "DegenerateScores", "Objective", "Pruner", "apply_masks_", "build_pruner", "format_report",
    "prune", "register_pruner", "sparsity_report",
]  # fmt: skip
