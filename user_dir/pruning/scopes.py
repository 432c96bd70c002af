"""Which matrices are ranked together, by the names of ``--prune-scope``; each such group has the same density."""

from collections.abc import Callable, Iterable

from ..modules import split_adapter_key

SCOPES: dict[str, Callable[[str], str]] = {
    "global": lambda name: "",
    "family": lambda name: split_adapter_key(name)[1],
    "site": lambda name: split_adapter_key(name)[2],
    "layer": lambda name: split_adapter_key(name)[0],
    "matrix": lambda name: name,
}


def grouped(names: Iterable[str], scope: str) -> dict[str, list[str]]:
    """The matrices of each group, in order.

    Args:
        names: of sparse weights; of ``family``, ``site`` and ``layer``, keys of adapters.
        scope: one of ``SCOPES``.
    """
    groups: dict[str, list[str]] = {}
    for name in names:
        groups.setdefault(SCOPES[scope](name), []).append(name)
    return groups
