"""The command ``sparse-adapter``: look at, share, merge, average and check what was trained; convert models."""

import argparse
import logging
import os
import sys

from ..errors import one_line_errors
from . import average, check, convert, extract, info, merge

COMMANDS = {
    "info": info,
    "extract": extract,
    "merge": merge,
    "average": average,
    "check": check,
    "convert": convert,
}


def parser() -> argparse.ArgumentParser:
    main_parser = argparse.ArgumentParser(prog="sparse-adapter", description=__doc__)
    subparsers = main_parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    for name, command in COMMANDS.items():
        description, _, examples = command.__doc__.partition("\n\n")
        sub = subparsers.add_parser(
            name,
            help=description,
            description=description,
            epilog=f"examples:\n{examples.rstrip()}",
            formatter_class=argparse.RawDescriptionHelpFormatter,
        )
        command.add_arguments(sub)
        sub.set_defaults(run=command.run)
    return main_parser


def main(argv: list[str] | None = None) -> None:
    args = parser().parse_args(argv)
    logging.disable(logging.INFO)
    try:
        with one_line_errors():
            args.run(args)
    except BrokenPipeError:  # the reader of a pipe, such as head, has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
