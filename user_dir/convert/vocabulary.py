"""A model's vocabulary as fairseq's dictionary: ids 0 to 3 are its special symbols, then dict.txt in its order."""

import dataclasses
import json
from pathlib import Path

import torch

from ..errors import UsageError

SPECIAL = ("<s>", "<pad>", "</s>", "<unk>")
MASK = "<mask>"
DICTIONARY = "dict.txt"
TOKENIZER = "tokenizer_config.json"
OFFSET = 2  # fairseq's learned positions start in the row after the padding symbol's (learned_positional_embedding.py)


@dataclasses.dataclass
class Vocabulary:
    """What a folder says about the rows of an embedding.

    Args:
        symbols: of fairseq's dictionary, by row.
        files: what encodes text in fairseq, by name: a text, or a file to copy.
        bpe: fairseq's options for it, ``{out}`` being the folder of these files.
        remark: what there is to know about certain rows.
        order: transformers' row for each of fairseq's; None if it is the same.
        args: what it tells fairseq's task.
        notes: in which text is encoded otherwise than in transformers.
    """

    symbols: list[str]
    files: dict[str, str | Path]
    bpe: str
    remark: str = ""
    order: torch.Tensor | None = None
    args: dict = dataclasses.field(default_factory=dict)
    notes: list[str] = dataclasses.field(default_factory=list)

    def fit(self, rows: int) -> None:
        """Fill up with symbols that never occur, as fairseq does; the row of the mask may be missing at the end.

        Raises:
            UsageError: there are more symbols than rows.
        """
        if len(self.symbols) == rows + 1 and self.symbols[-1] == MASK:
            self.symbols.pop()
            self.order = None if self.order is None else self.order[:rows]
        if len(self.symbols) > rows:
            raise UsageError(f"the vocabulary has {len(self.symbols):,} entries and the embedding {rows:,} rows")
        self.symbols += [f"madeupword{i:04d}" for i in range(rows - len(self.symbols))]
        if MASK not in self.symbols:
            self.notes.append(f"no row is {MASK}: load the model with a task that does not add it, as translation")

    def dictionary(self) -> str:
        """dict.txt. fairseq's tasks add <mask> themselves: it is written where that would give it another row."""
        symbols = self.symbols[:-1] if self.symbols[-1] == MASK else self.symbols
        lines, seen = [], set(SPECIAL)
        for symbol in symbols[len(SPECIAL) :]:
            lines.append(f"{symbol} 1 #fairseq:overwrite\n" if symbol in seen else f"{symbol} 1\n")
            seen.add(symbol)
        return "".join(lines)


def read_json(path: Path) -> dict:
    """A JSON object; empty if there is no such file.

    Raises:
        UsageError: it is damaged or something else.
    """
    if not path.is_file():
        return {}
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise UsageError(f"{path} is no JSON ({error})") from error
    if not isinstance(data, dict):
        raise UsageError(f"{path} is no JSON object")
    return data


def read_lines(path: Path) -> list[str]:
    """The lines of a text. A line ends at a line feed only: some symbols are other white space.

    Raises:
        UsageError: it is not UTF-8.
    """
    try:
        with path.open(encoding="utf-8", newline="\n") as lines:
            return [line.rstrip("\r\n") for line in lines]
    except UnicodeDecodeError as error:
        raise UsageError(f"{path} is no text in UTF-8 ({error})") from error


def model_type(tokenizer: dict) -> str | None:
    """Of what tokenizer.json holds; the first versions do not say it."""
    model = tokenizer.get("model") or {}
    said = {"merges": "BPE", "max_input_chars_per_word": "WordPiece"}
    return model.get("type") or next((kind for key, kind in said.items() if key in model), None)


def steps(tokenizer: dict, part: str) -> list[dict]:
    """Those of a part of what tokenizer.json holds, ``normalizer`` or ``pre_tokenizer``; it may be a sequence."""
    held = tokenizer.get(part)
    if not isinstance(held, dict):
        return []
    return held.get("normalizers") or held.get("pretokenizers") or [held]


def by_row(ids: dict[str, int], path: Path) -> list[str]:
    """The tokens of a dict ``token: id`` in the order of their ids.

    Raises:
        UsageError: the ids are not 0, 1, 2 and so on.
    """
    if not isinstance(ids, dict) or not all(isinstance(number, int) for number in ids.values()):
        raise UsageError(f"{path}: its vocabulary is no list of tokens with their numbers")
    tokens = sorted(ids, key=ids.get)
    if [ids[token] for token in tokens] != list(range(len(tokens))):
        raise UsageError(f"{path}: the ids of its {len(tokens):,} tokens are not 0 to {len(tokens) - 1:,}")
    return tokens


def added_tokens(folder: Path) -> dict[int, str]:
    """Tokens that a tokenizer has beside its vocabulary, by id, from any of the files that say so."""
    added = read_json(folder / "tokenizer.json").get("added_tokens") or []
    tokens = {entry["id"]: entry["content"] for entry in added}
    decoder = read_json(folder / TOKENIZER).get("added_tokens_decoder") or {}
    tokens |= {int(i): entry["content"] for i, entry in decoder.items()}
    return tokens | {i: token for token, i in read_json(folder / "added_tokens.json").items()}


def append_added(symbols: list[str], folder: Path, rows: int) -> list[str]:
    """Append the added tokens that come after a vocabulary and have rows, with symbols that never occur in gaps.

    Returns:
        What there is to say about them.
    """
    later = {i: token for i, token in added_tokens(folder).items() if len(symbols) <= i < rows}
    for i in range(len(symbols), max(later, default=-1) + 1):
        symbols.append(later.get(i, f"unused{i}"))
    if not (tokens := [later[i] for i in sorted(later) if later[i] != MASK]):
        return []
    return [f"fairseq cuts added tokens up like other text, though they have rows: {len(tokens)}, first {tokens[0]}"]


def token_name(folder: Path, name: str, default: str) -> str:
    """What a tokenizer calls one of its special tokens, such as ``cls_token``."""
    for file in ("special_tokens_map.json", TOKENIZER):
        token = read_json(folder / file).get(name)
        if token:
            return token["content"] if isinstance(token, dict) else token
    return default
