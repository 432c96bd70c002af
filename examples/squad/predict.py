#!/usr/bin/env python3
"""Answer the questions of a JSON file in SQuAD's layout, with or without answers, with a trained checkpoint.

Writes the best answer to each id and, beside it, the best answers with their scores and places in the context.
``predict.sh`` documents the settings.
"""

import argparse
import shutil
import sys
import tempfile
from pathlib import Path

sys.path.append(str(Path(__file__).parents[1]))  # examples, for preparation

from evaluate import answer, inference_arguments, load, nbest_path, write_answers  # noqa: E402
from preparation import (  # noqa: E402
    Parser,
    check_input_and_output,
    check_same_dictionary,
    exit_when_terminated,
    load_dictionary,
    one_line_errors,
    recorded,
)
from prepare import Split  # noqa: E402
from sparse_adapter import errors  # noqa: E402
from sparse_adapter.files import check_writable  # noqa: E402
from windows import load_encoder, read_squad  # noqa: E402


def predictions(args: argparse.Namespace) -> dict:
    """The best answers to each question of ``args.input``, by its id.

    Raises:
        DataError: the input cannot be used, or the tokenizer is not that of the data. UsageError: see ``load``.
    """
    settings = recorded(args.prepared)["settings"]
    for output in (args.output, nbest_path(args.output)):
        check_input_and_output(args.input, output)
    check_writable(args.output)
    examples = read_squad(args.input, answered=False)
    dictionary = args.prepared / "dict.txt"
    check_same_dictionary(args.backbone_dir, dictionary, args.prepared)
    encoder, symbols = load_encoder(args.backbone_dir), load_dictionary(dictionary)
    cut = argparse.Namespace(**{name: settings[name] for name in ("max_length", "max_question", "doc_stride")})
    with tempfile.TemporaryDirectory() as temporary:
        args.data, args.subset = Path(temporary), "valid"
        shutil.copyfile(dictionary, args.data / "dict.txt")
        Split(args.subset, args.data, encoder, symbols, cut).write(examples)
        return answer(*load(args), args)


def main(argv: list[str] | None = None) -> None:
    parser = Parser(__doc__)
    parser.add_argument("--data", dest="prepared", type=Path, required=True, help="folder written by prepare.sh")
    parser.add_argument("--input", type=Path, required=True, help="JSON file in SQuAD's layout, perhaps gzipped")
    parser.add_argument("--output", type=Path, required=True, help="JSON file to write")
    parser.add_argument("--backbone-dir", type=Path, required=True, help="folder with dict.txt and the tokenizer")
    inference_arguments(parser)
    args = parser.parse_args(argv)
    with one_line_errors(), errors.one_line_errors():
        found = predictions(args)
        write_answers(args.output, found)
    print(f"wrote {args.output}: {len(found)} answers")


if __name__ == "__main__":
    exit_when_terminated()
    main()
