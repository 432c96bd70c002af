"""What the examples' scripts that read text share: arguments, checks of files, tokenizers, one-line errors.

Only the standard library is imported at first, so that a mistake in the settings shows at once.
"""

import argparse
import filecmp
import gzip
import json
import logging
import signal
import sys
import zlib
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

if TYPE_CHECKING:
    from fairseq.data import Dictionary
    from tokenizers import Tokenizer

# The files of a tokenizer: by fairseq's name of the BPE and the options that take them; and BERT's, which it lacks.
BPE_FILES = {
    "gpt2": {"gpt2_encoder_json": "encoder.json", "gpt2_vocab_bpe": "vocab.bpe"},
    "sentencepiece": {"sentencepiece_model": "sentencepiece.bpe.model"},
}
WORDPIECE_FILE = "vocab.txt"

SPLITS = ("train", "valid", "test")

# Words of a foreign dictionary are mostly unknown; the right one leaves some, of a rare script.
MAX_UNKNOWN = 0.2


class DataError(ValueError):
    """The input cannot be used. The message names the file and the line, and says what to do."""


class Parser(argparse.ArgumentParser):
    """Errors on one line, without the usage, and the description as it is written."""

    def __init__(self, description: str):
        super().__init__(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)

    def error(self, message: str) -> NoReturn:
        sys.exit(f"error: {message}")


def at_least(minimum: int) -> Callable[[str], int]:
    """The type of an argument that is a whole number, ``minimum`` or more."""

    def parse(text: str) -> int:
        if not text.isdecimal() or int(text) < minimum:
            raise argparse.ArgumentTypeError(f"{text!r} is not a whole number of at least {minimum}")
        return int(text)

    return parse


def recorded(data: Path) -> dict:
    """What ``prepare.json`` says of ``data``: the settings that they were prepared with, and counts."""
    return json.loads((data / "prepare.json").read_text(encoding="utf-8"))


def settings(args: argparse.Namespace) -> dict:
    """The arguments as ``prepare.json`` keeps them: but for the number of processes, which changes nothing."""
    kept = {name: value for name, value in vars(args).items() if name != "workers"}
    return {name: str(value) if isinstance(value, Path) else value for name, value in kept.items()}


@contextmanager
def one_line_errors() -> Iterator[None]:
    """Turn bad input, trouble with a file and an interruption into an exit with one line."""
    try:
        yield
    except (DataError, OSError) as error:
        sys.exit(f"error: {' '.join(str(error).split())}")
    except KeyboardInterrupt:
        sys.exit("error: interrupted, nothing was written")


def exit_when_terminated() -> None:
    """Make SIGTERM an exit like any other, so that the unfinished folder is removed."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit("error: terminated, nothing was written"))


@contextmanager
def quiet() -> Iterator[None]:
    """Without fairseq's informative messages: every option, absent extras, counts that we report ourselves."""
    former = logging.root.manager.disable
    logging.disable(logging.INFO)
    try:
        yield
    finally:
        logging.disable(former)


def binarise(
    text: Path, output: Path, languages: tuple[str, str], dictionaries: tuple[Path, Path], workers: int
) -> None:
    """Run fairseq-preprocess over the encoded splits in ``text``, ``train.LANGUAGE`` and so on."""
    with quiet():
        from fairseq import options
        from fairseq_cli import preprocess

        (source, target), (srcdict, tgtdict) = languages, dictionaries
        flags = ["--source-lang", source, "--target-lang", target, "--destdir", str(output), "--workers", str(workers)]
        flags += ["--srcdict", str(srcdict), "--tgtdict", str(tgtdict)]
        for split in SPLITS:
            flags += [f"--{split}pref", str(text / split)]
        preprocess.main(options.get_preprocessing_parser().parse_args(flags))
    (output / "preprocess.log").unlink(missing_ok=True)


def check_backbone(folder: Path) -> None:
    """Refuse a BACKBONE_DIR without dict.txt."""
    if not folder.is_dir():
        raise DataError(f"BACKBONE_DIR {folder}: there is no such folder; sparse-adapter convert writes it")
    if not (folder / "dict.txt").is_file():
        raise DataError(f"{folder / 'dict.txt'} is missing; sparse-adapter convert writes it")


def check_output(data: Path, *inputs: Path) -> None:
    """Refuse an output folder that is not ours to replace.

    Args:
        data: the folder, resolved.
        inputs: files and folders that are read, which it must not contain.
    """
    for path in inputs:
        if path.resolve().is_relative_to(data):
            raise DataError(f"DATA {data} would replace {path}; choose another DATA")
    if data.exists() and not data.is_dir():
        raise DataError(f"DATA {data} is a file; choose another DATA")
    if data.is_dir() and any(data.iterdir()) and not (data / "prepare.json").is_file():
        raise DataError(f"DATA {data} holds other files; choose another DATA or remove it")
    if found := next(data.rglob("checkpoint*.pt"), None):  # each run has a copy of prepare.json
        raise DataError(f"DATA {data} would replace {found}; choose another DATA")


def check_input_and_output(input: Path, output: Path) -> None:
    """Refuse an INPUT that is not there, and an OUTPUT that is a folder or the same file."""
    if not input.is_file():
        raise DataError(f"INPUT {input}: there is no such file")
    if output.is_dir():
        raise DataError(f"OUTPUT {output} is a folder; name a file")
    if output.resolve() == input.resolve():
        raise DataError(f"OUTPUT {output} would replace what is read; choose another OUTPUT")


def load_dictionary(path: Path) -> "Dictionary":
    with quiet():
        from fairseq.data import Dictionary
    try:
        return Dictionary.load(str(path))
    except (OSError, ValueError, RuntimeError) as error:
        raise DataError(f"{path} is no dictionary of fairseq ({error}); convert the model again") from error


def unknown_share(
    unknown: int, tokens: int, name: str, dictionary: Path, remedy: str = "the tokenizer must be of one model"
) -> float:
    """The share of the symbols of ``name`` that the dictionary lacks.

    Raises:
        DataError: the dictionary is of something else. The message ends with ``remedy``.
    """
    if unknown > MAX_UNKNOWN * tokens:
        raise DataError(
            f"{dictionary} knows {1 - unknown / tokens:.0%} of the symbols of {name}; "
            f"dict.txt and {remedy}, and the language one that it knows"
        )
    return round(unknown / tokens, 6)


def load_bpe(kind: str, folder: Path) -> Callable[[str], list[str]]:
    """Text to the symbols of dict.txt, by the files of ``BPE_FILES[kind]`` in ``folder``.

    Raises:
        ValueError, RuntimeError, OSError: they cannot be read.
    """
    files = [str(folder / name) for name in BPE_FILES[kind].values()]
    if kind == "gpt2":
        with quiet():
            from fairseq.data.encoders.gpt2_bpe_utils import get_encoder

        encoder = get_encoder(*files)
        return lambda text: [str(index) for index in encoder.encode(text)]
    from sentencepiece import SentencePieceProcessor

    processor = SentencePieceProcessor(model_file=files[0])
    return lambda text: processor.encode(text, out_type=str)


def load_wordpiece(folder: Path) -> "Tokenizer":
    """BERT's tokenizer without its special tokens, so that a text that spells [SEP] has none.

    Raises:
        Exception: it cannot be read; the library raises that itself.
    """
    from sparse_adapter.convert.wordpiece import normalization, unknown_token  # imports torch
    from tokenizers import Tokenizer, models, normalizers, pre_tokenizers

    tokenizer = Tokenizer(models.WordPiece.from_file(str(folder / WORDPIECE_FILE), unk_token=unknown_token(folder)))
    tokenizer.normalizer = normalizers.BertNormalizer(**normalization(folder))
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    return tokenizer


def check_same_dictionary(folder: Path, dictionary: Path, data: Path) -> None:
    """Refuse a BACKBONE_DIR whose dict.txt is not ``dictionary``, which ``data`` was prepared with."""
    own = folder / "dict.txt"
    if not (own.is_file() and filecmp.cmp(own, dictionary, shallow=False)):
        raise DataError(f"BACKBONE_DIR {folder} has not the dict.txt that {data} was prepared with")


def read_lines(path: Path) -> list[str]:
    """The lines of a UTF-8 file, compressed if it is named ``.gz``, with or without byte order mark.

    Raises:
        DataError: the file is absent, empty, damaged or not UTF-8.
    """
    try:
        data = path.read_bytes()
        if path.suffix == ".gz":
            data = gzip.decompress(data)
    except (OSError, EOFError, zlib.error) as error:
        raise DataError(f"{path} cannot be read ({error}); copy or download it again") from error
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = error.object.count(b"\n", 0, error.start) + 1
        raise DataError(
            f"{path}, line {line}: byte 0x{error.object[error.start]:02x} is not UTF-8; convert the file, "
            "for example with iconv"
        ) from error
    if not text.strip():
        raise DataError(f"{path} is empty; give it at least one example")
    # Not splitlines(), which also splits at U+2028 and the like.
    return [line.removesuffix("\r") for line in text.removesuffix("\n").split("\n")]


def write_lines(path: Path, lines: Iterable[str]) -> None:
    with open(path, "w", encoding="utf-8", newline="\n") as file:
        file.writelines(line + "\n" for line in lines)
