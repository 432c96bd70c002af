"""Made-up SQuAD: contexts with accents, other scripts, several spaces; a vocabulary of characters and a few words."""

import gzip
import json
from pathlib import Path

CONTEXTS = [
    "Balo went to  Rin.\nThere (in 1998) the Hapu-tesk cost $3,000.50!",
    "Émile Zoë naïvely ate crème brûlée at 10° C; «l’été» — été.",
    "東京 tokyo とは 日本 ½ ﬁne  \u00a0 and \u200bzero, cafe\u0301 done.",
    "the omu " * 20 + "end",
]
# Answers by their text, of which the first occurrence is meant.
ANSWERS = [
    ["Rin", "1998", "$3,000.50", "Balo went"],
    ["Émile Zoë", "brûlée", "été»"],
    ["tokyo", "日本", "cafe\u0301"],
    ["end", "the omu"],
]
WORDS = ["the", "went", "to", "balo", "rin", "##alo", "##in", "omu", "end", "tokyo"]


def make_squad(name: str = "train") -> dict:
    paragraphs = []
    for c, (context, answers) in enumerate(zip(CONTEXTS, ANSWERS, strict=True)):
        qas = [
            {
                "id": f"{name}-{c}-{i}",
                "question": f"What is  the {answer[0]} of {c} ?",
                "answers": [{"text": answer, "answer_start": context.index(answer)}],
            }
            for i, answer in enumerate(answers)
        ]
        paragraphs.append({"context": context, "qas": qas})
    return {"version": "1.1", "data": [{"title": "made up", "paragraphs": paragraphs}]}


def write_squad(path: Path, data: dict) -> None:
    content = json.dumps(data).encode()
    path.write_bytes(gzip.compress(content) if path.suffix == ".gz" else content)


def make_backbone_dir(folder: Path) -> None:
    """dict.txt and vocab.txt: every character of the data and of ASCII, alone and inside a word."""
    folder.mkdir(exist_ok=True)
    characters = sorted({*"".join(CONTEXTS).lower(), *map(chr, range(33, 127)), *"eécuùoôaàâiïn"} - {*" \n"})
    characters = [c for c in characters if c == c.lower() and c.strip()]
    symbols = [*characters, *(f"##{c}" for c in characters), *WORDS]
    special = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    (folder / "vocab.txt").write_text("".join(f"{s}\n" for s in [*special, *symbols]), encoding="utf-8")
    (folder / "dict.txt").write_text("".join(f"{s} 1\n" for s in symbols), encoding="utf-8")
