"""What the files of a tokenizer of transformers say."""

from pathlib import Path

from ..errors import UsageError
from ..files import read_object

TOKENIZER = "tokenizer_config.json"


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
    """Tokens that a tokenizer has beside its vocabulary, by id, from any of the files that say so.

    Raises:
        UsageError: they are not tokens with their numbers.
    """
    listed = read_object(folder / "tokenizer.json").get("added_tokens") or []
    decoder = read_object(folder / TOKENIZER).get("added_tokens_decoder") or {}
    added = read_object(folder / "added_tokens.json")
    try:
        tokens = {int(entry["id"]): entry["content"] for entry in listed}
        tokens |= {int(i): entry["content"] for i, entry in decoder.items()}
        return tokens | {int(i): token for token, i in added.items()}
    except (TypeError, ValueError, KeyError, AttributeError) as error:
        raise UsageError(f"{folder}: the added tokens of its tokenizer are no tokens with their numbers") from error


def token_name(folder: Path, name: str, default: str) -> str:
    """What a tokenizer calls one of its special tokens, such as ``cls_token``."""
    for file in ("special_tokens_map.json", TOKENIZER):
        token = read_object(folder / file).get(name)
        if token:
            return token["content"] if isinstance(token, dict) else token
    return default
