"""What a pruner is, and the table of all pruners by name."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping

import torch
from torch import Tensor

from .objective import Objective
from .scopes import grouped
from .selection import Group, proportional_quotas


class Pruner(ABC):
    """Scores every weight once; the highest scores stay.

    Attributes:
        needs_data: whether ``score`` uses the training loss (the objective).
        allocation: how the pruner by itself decides what each matrix keeps, whatever --prune-scope asks.
    """

    name: str
    needs_data = False
    allocation: str | None = None

    @abstractmethod
    def score(
        self, weights: Mapping[str, Tensor], objective: Objective | None, generator: torch.Generator
    ) -> dict[str, Tensor]:
        """Scores of all weights, each of the shape of its weight; higher means more worth keeping.

        Args:
            weights: the dense weight matrices by name, leaves that require a gradient.
            objective: the training loss over the pruning batches; None where ``needs_data`` is False.
            generator: the source of all randomness, on the CPU.
        """

    def groups(self, shapes: Mapping[str, torch.Size], kept: int, scope: str) -> list[Group]:
        """The matrices that are ranked together, and how many weights each such group keeps, ``kept`` in total."""
        names = grouped(shapes, scope)
        sizes = {group: sum(shapes[name].numel() for name in names[group]) for group in names}
        quotas = proportional_quotas(sizes, kept)
        return [Group(names[group], quotas[group]) for group in names]


PRUNERS: dict[str, type[Pruner]] = {}


def register_pruner(name: str) -> Callable[[type[Pruner]], type[Pruner]]:
    """Class decorator that makes a pruner available as ``--pruner name``."""

    def register(cls: type[Pruner]) -> type[Pruner]:
        if name in PRUNERS:
            raise ValueError(f"pruner {name!r} is registered twice")
        cls.name = name
        PRUNERS[name] = cls
        return cls

    return register


def build_pruner(name: str) -> Pruner:
    """The pruner called ``name``.

    Raises:
        ValueError: there is no such pruner.
    """
    if name not in PRUNERS:
        raise ValueError(f"unknown pruner {name!r}; choose one of {', '.join(sorted(PRUNERS))}")
    return PRUNERS[name]()
