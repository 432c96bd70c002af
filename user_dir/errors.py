"""Mistakes of the user, and how they reach the user: one line, no traceback, a non-zero exit."""

from collections.abc import Iterator
from contextlib import contextmanager


class UsageError(ValueError):
    """Something the user asked for cannot work. The message says what, and what to do."""


def flag_of(name: str) -> str:
    """How the command line calls an option: ``--prune-scope`` of ``prune_scope``."""
    return f"--{name.replace('_', '-')}"


@contextmanager
def one_line_errors() -> Iterator[None]:
    """Turn a ``UsageError`` into an exit with its message on one line."""
    try:
        yield
    except UsageError as error:
        raise SystemExit(f"error: {' '.join(str(error).split())}") from error
