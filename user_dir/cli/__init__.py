"""The command ``sparse-adapter``: look at, share, merge, average, check and serve what was trained; convert models."""

import argparse
import logging
import os
import sys
import textwrap
import warnings

from safetensors import SafetensorError

from ..errors import one_line_errors
from . import average, check, convert, extract, flags, info, merge, report, study, translate

COMMANDS = {
    "info": info,
    "extract": extract,
    "merge": merge,
    "average": average,
    "check": check,
    "convert": convert,
    "study": study,
    "report": report,
    "translate": translate,
    "flags": flags,
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
            epilog=f"examples:\n{textwrap.indent(examples.rstrip(), '' if examples.startswith(' ') else '  ')}",
            formatter_class=argparse.RawDescriptionHelpFormatter,
        )
        command.add_arguments(sub)
        sub.set_defaults(run=command.run)
    return main_parser


def parse(argv: list[str] | None = None) -> argparse.Namespace:
    """The arguments; KEY=VALUE may also follow options, where argparse leaves them over."""
    main_parser = parser()
    args, left = main_parser.parse_known_args(argv)
    if "overrides" in args and not any(word.startswith("-") for word in left):
        args.overrides += left
    elif left:
        main_parser.error(f"unrecognized arguments: {' '.join(left)}")
    return args


def main(argv: list[str] | None = None) -> None:
    args = parse(argv)
    logging.disable(logging.INFO)
    if not sys.warnoptions:  # hydra and fairseq deprecate their own calls, wherever a model is built
        warnings.simplefilter("ignore", UserWarning)
    try:
        with one_line_errors():
            args.run(args)
    except BrokenPipeError:  # the reader of a pipe, such as head, has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    except (OSError, SafetensorError) as error:  # no permission, a full disk, a folder that is a file
        raise SystemExit(f"error: {error}") from error
    except RuntimeError as error:
        if not any(said in str(error) for said in ("PytorchStreamWriter", "unexpected pos")):  # torch.save alone
            raise
        raise SystemExit(f"error: the file could not be written, is the disk full? ({str(error)[:200]})") from error
