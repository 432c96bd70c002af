"""BERT's WordPieces (``vocab.txt``) as fairseq's dictionary.

[CLS], [PAD], [SEP] and [UNK] become fairseq's ``<s>``, ``<pad>``, ``</s>`` and ``<unk>``, whose ids are fixed, so the
rows of the embedding move with them. All other pieces keep their order.
"""

import json
from pathlib import Path

import torch

from ..errors import UsageError
from ..files import read_object
from .tokenizer_files import TOKENIZER, by_row, model_type, read_lines, steps, token_name
from .vocabulary import MASK, SPECIAL, Vocabulary, append_added

FILE = "vocab.txt"
# Tokenizers of transformers that cut text as BERT's does, and general ones: of these, tokenizer.json says how they do.
CLASSES = ("BertTokenizer", "DistilBertTokenizer", "ElectraTokenizer")
GENERAL = ("PreTrainedTokenizer", "TokenizersBackend")
NAMES = {"cls_token": "[CLS]", "pad_token": "[PAD]", "sep_token": "[SEP]", "unk_token": "[UNK]"}  # as SPECIAL


def read_wordpiece(folder: Path, rows: int) -> Vocabulary:
    """The WordPieces of a folder of transformers, for the ``rows`` of the embeddings.

    Raises:
        UsageError: there are none, or none for a special symbol: the rows cannot be put in fairseq's order.
    """
    pieces = _pieces(folder)
    if pieces is None:
        raise UsageError(
            f"{folder} has no WordPieces, neither {FILE} nor in tokenizer.json, and BERT's rows have to be put in the "
            "order of fairseq's dictionary: copy the tokenizer's files there (SentencePieces do not fit BERT here)"
        )
    files = {FILE: folder / FILE if (folder / FILE).is_file() else "".join(f"{piece}\n" for piece in pieces)}
    if (folder / TOKENIZER).is_file():  # says whether the pieces are cased
        files[TOKENIZER] = folder / TOKENIZER
    config = read_object(folder / TOKENIZER)
    general = _general(folder)
    said = dict(general or {})
    if (unknown := unknown_token(folder)) != config.get("unk_token", NAMES["unk_token"]):
        said |= {"unk_token": unknown}
    if said:
        files[TOKENIZER] = json.dumps(config | said, indent=1)
    notes = append_added(pieces, folder, rows)
    first = []
    for name, default in NAMES.items():
        token = token_name(folder, name, default)
        if token not in pieces:
            raise UsageError(f"{folder}: its vocabulary has no {token}, the {name}")
        first.append(pieces.index(token))
    mask = token_name(folder, "mask_token", "[MASK]")
    moved = set(first)
    rest = [i for i in range(max(rows, len(pieces))) if i not in moved]
    symbols = [*SPECIAL, *(MASK if pieces[i] == mask else pieces[i] for i in rest if i < len(pieces))]
    ids = ", ".join(f"{pieces[i]} is {symbol}" for i, symbol in zip(first, SPECIAL, strict=True))
    if MASK in symbols:
        ids += f", {mask} is {MASK} (row {symbols.index(MASK):,})"
    how = normalization(folder)
    bpe = f"--bpe bert --bpe-vocab-file {{out}}/{FILE}{'' if how['lowercase'] else ' --bpe-cased'}"
    if how["strip_accents"] not in (None, how["lowercase"]) or not how["handle_chinese_chars"]:
        notes.append(f"--bpe bert knows neither strip_accents nor tokenize_chinese_chars, which {TOKENIZER} sets")
    own = _tokenizer_class(folder)
    if own not in CLASSES and general is None:
        files, bpe = {}, f"a {own} of transformers alone, which cuts it in words of its own first"
    return Vocabulary(symbols, files, bpe, ids, order=torch.tensor(first + rest), notes=notes)


def normalization(folder: Path) -> dict[str, bool | None]:
    """What happens to text before it is cut: arguments of BERT's normaliser in the library tokenizers.

    Where ``tokenizer_config.json`` does not say whether letters are lowered, a vocabulary with capitals says no.
    """
    config = read_object(folder / TOKENIZER) | (_general(folder) or {})
    words = (piece for piece in _pieces(folder) or [] if not piece.startswith(("[", "<")))  # [CLS], Google's <S>
    capitals = any(piece != piece.lower() for piece in words)
    return {
        "lowercase": config.get("do_lower_case", not capitals),
        "strip_accents": config.get("strip_accents"),
        "handle_chinese_chars": config.get("tokenize_chinese_chars", True),
    }


def _tokenizer_class(folder: Path) -> str:
    named = (read_object(folder / file).get("tokenizer_class") for file in (TOKENIZER, "config.json"))
    return next(filter(None, named), CLASSES[0]).removesuffix("Fast")


def _general(folder: Path) -> dict | None:
    """What tokenizer.json alone says of a general tokenizer's normaliser, under the names of tokenizer_config.json.

    None if it is no general one, or has not BERT's normaliser and words; without tokenizer.json, nothing denies these.
    """
    if _tokenizer_class(folder) not in GENERAL:
        return None
    tokenizer = read_object(folder / "tokenizer.json")
    found = [step for part in ("normalizer", "pre_tokenizer") for step in steps(tokenizer, part)]
    if tokenizer and [step.get("type") for step in found] != ["BertNormalizer", "BertPreTokenizer"]:
        return None
    names = {"lowercase": "do_lower_case", "strip_accents": "strip_accents"}
    names |= {"handle_chinese_chars": "tokenize_chinese_chars"}
    return {theirs: step[ours] for step in found for ours, theirs in names.items() if ours in step}


def unknown_token(folder: Path) -> str:
    """The piece that stands for what no piece does, which the library tokenizers wants to know."""
    return token_name(folder, "unk_token", NAMES["unk_token"])


def _pieces(folder: Path) -> list[str] | None:
    """All WordPieces by row."""
    if (folder / FILE).is_file():
        pieces = read_lines(folder / FILE)
        while pieces and not pieces[-1]:
            pieces.pop()
        return pieces
    tokenizer = read_object(folder / "tokenizer.json")
    if model_type(tokenizer) != "WordPiece":
        return None
    return by_row(tokenizer["model"].get("vocab"), folder / "tokenizer.json")
