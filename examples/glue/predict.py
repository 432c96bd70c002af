#!/usr/bin/env python3
"""Predict examples without labels, such as GLUE's test sets, with a trained model.

Writes a TSV file with an index and a prediction for each, in their order. ``predict.sh`` documents the settings.
"""

import argparse
import shutil
import sys
import tempfile
from pathlib import Path

import numpy as np

sys.path.append(str(Path(__file__).parents[1]))  # examples, for preparation

from evaluate import as_text, decide, inference_arguments, load, predict, write_table  # noqa: E402
from glue_tasks import read_unlabelled, recorded_task  # noqa: E402
from preparation import (  # noqa: E402
    Parser,
    check_input_and_output,
    check_same_dictionary,
    exit_when_terminated,
    load_dictionary,
    one_line_errors,
    recorded,
)
from prepare import load_encoder, room, write_texts  # noqa: E402
from sparse_adapter import errors  # noqa: E402
from sparse_adapter.files import check_writable  # noqa: E402

SUBSET = "test"


def predictions(args: argparse.Namespace) -> list[str]:
    """The class or the score of each example of ``args.input``.

    Raises:
        DataError: the input cannot be used, or the tokenizer is not that of the data. UsageError: see ``load``.
    """
    settings = recorded(args.data)["settings"]
    task = recorded_task(settings)
    check_input_and_output(args.input, args.output)
    check_writable(args.output)
    examples = read_unlabelled(task, args.input)
    dictionary = args.data / "input0" / "dict.txt"
    check_same_dictionary(args.backbone_dir, dictionary, args.data)
    encode, symbols = load_encoder(args.backbone_dir), load_dictionary(dictionary)
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        for part in (*(f"input{i}" for i in range(len(task.texts))), "label"):
            (folder / part).mkdir()
            if (args.data / part / "dict.txt").is_file():
                shutil.copyfile(args.data / part / "dict.txt", folder / part / "dict.txt")
        limit = room(task, settings["max_length"], settings["separator"])
        write_texts(examples, SUBSET, folder, encode, symbols, limit, remedy="fill it in")
        model, fairseq_task = load(args.checkpoint, folder, settings, args.backbone, args.cpu)
        outputs, _ = predict(model, fairseq_task, SUBSET, args.batch_size)
    found = decide(task, outputs)
    # Of STS-B, gluebenchmark.com takes scores from 0 to 5 only.
    return as_text(task, np.clip(found, *task.scores) if task.regression else found)


def main(argv: list[str] | None = None) -> None:
    parser = Parser(__doc__)
    parser.add_argument("--data", type=Path, required=True, help="folder written by prepare.sh")
    parser.add_argument("--input", type=Path, required=True, help="TSV file with a header, perhaps gzipped")
    parser.add_argument("--output", type=Path, required=True, help="TSV file to write")
    parser.add_argument("--backbone-dir", type=Path, required=True, help="folder with dict.txt and the tokenizer")
    inference_arguments(parser)
    args = parser.parse_args(argv)
    with one_line_errors(), errors.one_line_errors():
        found = predictions(args)
        write_table(args.output, {"prediction": found})
    print(f"wrote {args.output}: {len(found)} predictions")


if __name__ == "__main__":
    exit_when_terminated()
    main()
