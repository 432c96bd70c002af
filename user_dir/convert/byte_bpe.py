"""The byte-level BPE of RoBERTa and BART (``vocab.json``, ``merges.txt``) as fairseq's dictionary.

fairseq's ``--bpe gpt2`` gives numbers, which encoder.json has for the tokens, and dict.txt lists those numbers. Here
the number of a token is its row; in the published files it is its id in GPT-2. The rows are the same.
"""

import json
from pathlib import Path

from ..errors import UsageError
from ..files import read_object
from .tokenizer_files import TOKENIZER, by_row, model_type, read_lines, steps
from .vocabulary import DICTIONARY, MASK, SPECIAL, Vocabulary, append_added

ENCODER, MERGES = "encoder.json", "vocab.bpe"  # fairseq's names
THEIR_ENCODER, THEIR_MERGES = "vocab.json", "merges.txt"
BYTE_BPE = f"{THEIR_ENCODER} and {THEIR_MERGES} or tokenizer.json of byte-level BPE"
HEADER = "#version: 0.2"  # the first line of the merges, which fairseq skips


def read_byte_bpe(folder: Path, rows: int) -> Vocabulary | None:
    read = _vocabulary_and_merges(folder)
    if read is None:
        return None
    tokens, merges = read
    notes = append_added(tokens, folder, rows)
    if tuple(tokens[: len(SPECIAL)]) != SPECIAL:
        raise UsageError(
            f"{folder}: the first tokens are {' '.join(tokens[:4])}, and fairseq's are {' '.join(SPECIAL)}"
        )
    if read_object(folder / TOKENIZER).get("add_prefix_space"):
        notes.append("--bpe gpt2 puts no blank before a text, unlike the tokenizer (add_prefix_space): begin with one")
    tokens += [f"unused{i}" for i in range(len(tokens), rows)]
    symbols = [*SPECIAL, *(MASK if token == MASK else str(i) for i, token in enumerate(tokens) if i >= len(SPECIAL))]
    encoder = {token: i for i, token in enumerate(tokens)}
    files = {ENCODER: json.dumps(encoder), MERGES: "\n".join([HEADER, *merges, ""])}
    bpe = f"--bpe gpt2 --gpt2-encoder-json {{out}}/{ENCODER} --gpt2-vocab-bpe {{out}}/{MERGES}"
    return Vocabulary(symbols, files, bpe, "its numbers are rows, which encoder.json gives to the tokens", notes=notes)


def _vocabulary_and_merges(folder: Path) -> tuple[list[str], list[str]] | None:
    tokenizer = read_object(folder / "tokenizer.json")
    is_bpe = model_type(tokenizer) == "BPE"
    if is_bpe and not _of_bytes(tokenizer):
        return None
    if (folder / THEIR_ENCODER).is_file() and (folder / THEIR_MERGES).is_file():
        merges = read_lines(folder / THEIR_MERGES)
        merges = [merge for i, merge in enumerate(merges) if merge and (i or not merge.startswith("#version"))]
        return by_row(read_object(folder / THEIR_ENCODER), folder / THEIR_ENCODER), merges
    if not is_bpe:
        return None
    model = tokenizer["model"]
    merges = [merge if isinstance(merge, str) else " ".join(merge) for merge in model.get("merges") or []]
    return by_row(model.get("vocab"), folder / "tokenizer.json"), merges


def _of_bytes(tokenizer: dict) -> bool:
    """Whether it takes text as it is and cuts it as GPT-2's does: others, as BERTweet's, are of characters."""
    cuts = [step.get("type") for step in steps(tokenizer, "pre_tokenizer")]
    return cuts == ["ByteLevel"] and not steps(tokenizer, "normalizer")


def write_byte_bpe(source: Path, folder: Path, rows: int) -> bool:
    """Write vocab.json and merges.txt for the dictionary and the BPE that lie beside a fairseq checkpoint.

    Returns:
        Whether they are there.
    """
    files = [source / name for name in (DICTIONARY, ENCODER, MERGES)]
    if not all(file.is_file() for file in files):
        return False
    numbers = {str(number): token for token, number in read_object(source / ENCODER).items()}
    with files[0].open(encoding="utf-8") as lines:
        symbols = [*SPECIAL, *(line.split(" ")[0] for line in lines if line.strip())]
    if MASK not in symbols and len(symbols) < rows:
        symbols.append(MASK)
    if len(symbols) != rows:
        raise UsageError(f"{files[0]} has {len(symbols):,} entries and the model {rows:,} rows")
    encoder = {numbers.get(symbol, symbol): i for i, symbol in enumerate(symbols)}
    (folder / THEIR_ENCODER).write_text(json.dumps(encoder), encoding="utf-8")
    (folder / THEIR_MERGES).write_bytes(files[2].read_bytes())
    return True
