"""Translate standard input, of which every line names its domain, with several adapters over one backbone.

  sparse-adapter translate --backbone model.pt --adapter software=software.safetensors --adapter news=news.pt \\
      --data data-bin/en-de --bpe sentencepiece --sentencepiece-model spm.model < requests.tsv > translations.txt
  printf 'software\\tOpen the file.\\nnone\\tA man sleeps.\\n' | sparse-adapter translate --backbone model.pt ...

A line is a domain, a tab, a text; the domain `none`, or an empty one, is the backbone without adapters. Lines of
--buffer-size are read together, translated in batches of one domain, and written in their order. A line that cannot
be translated ends the command with status 2, once all lines before it are translated and written.
"""

import codecs
import sys
from argparse import ArgumentParser, Namespace
from collections.abc import Iterable, Iterator
from itertools import islice
from pathlib import Path

from fairseq.dataclass.utils import gen_parser_from_dataclass
from fairseq.registry import REGISTRIES
from tqdm import tqdm

from ..errors import UsageError
from ..serving import Translator
from ..text import KINDS, text_options
from .arguments import FILE_HELP

Request = tuple[str, str]  # domain and text


def add_arguments(parser: ArgumentParser) -> None:
    parser.add_argument(
        "--backbone", type=Path, required=True, metavar="B", help="fairseq checkpoint of the plain model"
    )
    adapter_help = f"a domain and its {FILE_HELP}; as often as there are domains"
    parser.add_argument("--adapter", action="append", default=[], metavar="NAME=FILE", help=adapter_help)
    parser.add_argument("--data", type=Path, metavar="DIR", help="folder of dict.SRC.txt and dict.TGT.txt")
    parser.add_argument("-s", "--source-lang", metavar="SRC", help="source language, if not what the adapters say")
    parser.add_argument("-t", "--target-lang", metavar="TGT", help="target language, if not what the adapters say")
    for name, default, text in (
        ("beam", 5, "beam size"),
        ("max-len-b", 200, "longest translation in tokens, with --max-len-a times the source's length added"),
        ("buffer-size", 1000, "lines that are read before any is translated; 1 for a dialogue"),
    ):
        parser.add_argument(f"--{name}", type=int, default=default, metavar="N", help=f"{text} (default: {default})")
    for name, default, text in (
        ("lenpen", 1.0, "length penalty: above 1 favours longer"),
        ("max-len-a", 0.0, "see --max-len-b"),
    ):
        parser.add_argument(f"--{name}", type=float, default=default, metavar="X", help=f"{text} (default: {default})")
    parser.add_argument("--max-tokens", type=int, metavar="N", help="source tokens of a batch (default: 12000)")
    parser.add_argument("--batch-size", type=int, metavar="N", help="sentences of a batch (default: any number)")
    parser.add_argument("--device", default="cpu", help="cpu or cuda (default: cpu)")
    group = parser.add_argument_group("text", "without --bpe, a text is symbols of the dictionary with spaces between")
    for kind in KINDS:
        group.add_argument(f"--{kind}", choices=sorted(REGISTRIES[kind]["registry"]), help=f"fairseq's {kind}")
        for config in REGISTRIES[kind]["dataclass_registry"].values():
            gen_parser_from_dataclass(group, config(), delete_default=True)  # leaves out flags that are there


def run(args: Namespace) -> None:
    if sys.stdin is None or sys.stdout is None:
        raise UsageError("standard input or output is closed, and requests and translations go through them")
    if args.buffer_size < 1:
        raise UsageError(f"--buffer-size {args.buffer_size}: at least 1")
    text = {name: getattr(args, name) for name in text_options()}
    shared = ("data", "tokenizer", "bpe", "beam", "lenpen", "max_len_a", "max_len_b", "max_tokens", "batch_size")
    translator = Translator.load(
        args.backbone,
        adapter_files(args.adapter),
        device=args.device,
        progress=True,
        **{name: getattr(args, name) for name in shared},
        **text,  # with the languages, which are options of a tokenizer too
    )
    requests = Requests(sys.stdin.buffer, translator)
    waiting = iter(requests)
    with tqdm(desc="translating", unit="line", disable=None) as progress:
        while buffer := list(islice(waiting, args.buffer_size)):
            for translation in translator.translate_mixed(buffer):
                line = " ".join(translation.splitlines())  # a model of bytes may write line feeds
                sys.stdout.buffer.write(f"{line}\n".encode())
            sys.stdout.buffer.flush()
            progress.update(len(buffer))
    if requests.error is not None:
        print(f"error: {requests.error}", file=sys.stderr)
        raise SystemExit(2)


def adapter_files(named: list[str]) -> dict[str, Path]:
    """The files of ``NAME=FILE``.

    Raises:
        UsageError: one is of another form, or a name is there twice.
    """
    files: dict[str, Path] = {}
    for text in named:
        name, equals, file = text.partition("=")
        if not (equals and file):
            raise UsageError(f"--adapter {text}: write NAME=FILE")
        if name in files:
            raise UsageError(f"--adapter {name} is there twice")
        files[name] = Path(file)
    return files


class Requests:
    """What lines ask for, up to the first that cannot be translated, which ``error`` then tells of."""

    def __init__(self, lines: Iterable[bytes], translator: Translator):
        self.error: str | None = None
        self._lines, self._translator = lines, translator

    def __iter__(self) -> Iterator[Request]:
        for number, line in enumerate(self._lines, start=1):
            try:
                line = line.removeprefix(codecs.BOM_UTF8) if number == 1 else line
                yield self._parse(line)
            except UsageError as error:
                self.error = f"line {number}: {error}"
                return

    def _parse(self, line: bytes) -> Request:
        try:
            domain, tab, text = line.decode().rstrip("\r\n").partition("\t")
        except UnicodeDecodeError as error:
            raise UsageError("it is not UTF-8") from error
        if not tab:
            raise UsageError("it has no tab; a line is a domain, a tab, a text")
        self._translator.check(domain, text)
        return domain, text
