#!/usr/bin/env python3
"""Train the SentencePiece model and dictionary of ``bart_mini`` and encode its pretraining text with it.

On a FOLDER that holds train.txt and valid.txt: ``python examples/pretraining/encode_text.py FOLDER``
"""

import argparse
from pathlib import Path

import sentencepiece

VOCABULARY = 8000
POSITIONS = 508  # and begin and end symbols


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, help="folder with train.txt and valid.txt")
    folder = parser.parse_args().folder
    sentencepiece.SentencePieceTrainer.train(
        input=str(folder / "train.txt"),
        model_prefix=str(folder / "sentencepiece.bpe"),
        vocab_size=VOCABULARY,
        model_type="unigram",
        character_coverage=0.9998,
        byte_fallback=True,  # no text has an unknown symbol
        max_sentence_length=16384,
        num_threads=2,
        # The order of fairseq's dictionaries.
        bos_id=0,
        pad_id=1,
        eos_id=2,
        unk_id=3,
        minloglevel=1,
    )
    processor = sentencepiece.SentencePieceProcessor(model_file=str(folder / "sentencepiece.bpe.model"))
    pieces = [processor.id_to_piece(i) for i in range(4, processor.get_piece_size())]
    (folder / "dict.txt").write_text("".join(f"{piece} 1\n" for piece in pieces), encoding="utf-8")
    for split in ("valid", "train"):
        with (folder / f"{split}.txt").open() as lines, (folder / f"{split}.spm").open("w") as encoded:
            for line in lines:
                encoded.write(" ".join(processor.encode(line.strip(), out_type=str)[:POSITIONS]) + "\n")


if __name__ == "__main__":
    main()
