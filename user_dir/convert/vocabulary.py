"""A model's vocabulary as fairseq's dictionary: ids 0 to 3 are its special symbols, then dict.txt in its order."""

import dataclasses
from pathlib import Path

import torch

from ..errors import UsageError
from .tokenizer_files import added_tokens

SPECIAL = ("<s>", "<pad>", "</s>", "<unk>")
MASK = "<mask>"
DICTIONARY = "dict.txt"
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
        bare = rows - len(self.symbols)
        if bare > rows // 10:
            self.notes.append(f"{bare:,} of {rows:,} rows have no entry in the vocabulary: is its file complete?")
        self.symbols += [f"madeupword{i:04d}" for i in range(bare)]
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
