"""Arguments that several commands share, and what they mean."""

from argparse import ArgumentParser
from pathlib import Path

from ..checkpoint.adapter_file import SUFFIX
from ..checkpoint.loading import read_state
from ..errors import UsageError
from ..files import check_writable

FILE_HELP = f"fairseq checkpoint (.pt), whole or adapter-only, or adapter file ({SUFFIX})"


def add_backbone(parser: ArgumentParser, required: bool = False) -> None:
    parser.add_argument(
        "--backbone", type=Path, required=required, metavar="B", help="the backbone's file, if not where the file says"
    )


def add_out(parser: ArgumentParser, help: str) -> None:
    parser.add_argument("out", type=Path, metavar="OUT", help=help)
    add_force(parser)


def add_force(parser: ArgumentParser) -> None:
    parser.add_argument("--force", action="store_true", help="replace OUT if it exists")


def check_out(out: Path, force: bool) -> None:
    """Refuse to overwrite, and a place where nothing can be written, before any work is done.

    Raises:
        UsageError: ``out`` exists, or its folder is not writable.
    """
    if out.exists() and not force:
        raise UsageError(f"{out} exists: choose another name, or replace it with --force")
    check_writable(out)


def check_checkpoint_name(out: Path) -> None:
    """Refuse a name that says the file is no pickle.

    Raises:
        UsageError: ``out`` ends as adapter files do.
    """
    if out.suffix == SUFFIX:
        raise UsageError(f"{out}: this command writes a fairseq checkpoint: choose a name that ends in .pt")


def read_file(path: Path, backbone: Path | None = None) -> dict:
    """The state of a checkpoint or adapter file.

    Raises:
        UsageError: a file is missing, or is no checkpoint.
    """
    if backbone is not None and not backbone.is_file():
        raise UsageError(f"{backbone}: there is no such file")
    state = read_state(str(path))
    if backbone is not None and state.get("cfg") is not None:
        state["cfg"].model.backbone = str(backbone.absolute())
    return state
